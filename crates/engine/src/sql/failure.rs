//! Failures as JavaScript takes them: as an `Error` that the op gives back and JavaScript throws,
//! so that its stack is the app's.

use std::convert::Infallible;

use deno_core::{ToV8, v8};
use verge_services::sql::SqlError;

/// Either what was asked for, or why not.
pub enum Reply<T> {
    Done(T),
    Failed(SqlError),
}

impl<T> From<Result<T, SqlError>> for Reply<T> {
    fn from(result: Result<T, SqlError>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(error) => Self::Failed(error),
        }
    }
}

impl<'a, T: ToV8<'a, Error = Infallible>> ToV8<'a> for Reply<T> {
    type Error = Infallible;

    fn to_v8(
        self,
        scope: &mut v8::PinScope<'a, '_>,
    ) -> Result<v8::Local<'a, v8::Value>, Infallible> {
        match self {
            Self::Done(value) => value.to_v8(scope),
            Self::Failed(error) => Ok(failed(scope, &error)),
        }
    }
}

/// An `Error` with D1's text, and `retryable` where the same call may succeed later.
pub fn failed<'s>(scope: &mut v8::PinScope<'s, '_>, error: &SqlError) -> v8::Local<'s, v8::Value> {
    let text = error.to_string();
    let text = v8::String::new(scope, &text).unwrap_or_else(|| v8::String::empty(scope));
    let exception = v8::Exception::error(scope, text);
    if error.retryable()
        && let (Some(object), Some(key)) =
            (exception.to_object(scope), v8::String::new(scope, "retryable"))
    {
        let yes = v8::Boolean::new(scope, true);
        // On a fresh object there is nothing that could refuse it.
        object.set(scope, key.into(), yes.into());
    }
    if let Some(name) = error.name()
        && let (Some(object), Some(key), Some(name)) = (
            exception.to_object(scope),
            v8::String::new(scope, "code"),
            v8::String::new(scope, name),
        )
    {
        object.set(scope, key.into(), name.into());
    }
    exception
}
