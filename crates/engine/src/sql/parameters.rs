//! Parameters as `js/runtime/sql_database.js` hands them over: null, numbers, strings, booleans
//! and `Uint8Array`s.

use std::convert::Infallible;

use deno_core::{FromV8, v8};
use verge_services::sql::{Value, ValueRef};

/// The parameters of one statement.
pub struct Parameters(pub Vec<Value>);

impl<'a> FromV8<'a> for Parameters {
    type Error = Infallible;

    fn from_v8<'i>(
        scope: &mut v8::PinScope<'a, 'i>,
        value: v8::Local<'a, v8::Value>,
    ) -> Result<Self, Infallible> {
        Ok(Self(list(scope, value, value_of)))
    }
}

/// Each element of an array; our own JavaScript hands over nothing else.
fn list<'a, 'i, T>(
    scope: &mut v8::PinScope<'a, 'i>,
    value: v8::Local<'a, v8::Value>,
    each: impl Fn(&mut v8::PinScope<'a, 'i>, v8::Local<'a, v8::Value>) -> T,
) -> Vec<T> {
    let Ok(array) = v8::Local::<v8::Array>::try_from(value) else { return Vec::new() };
    let mut all = Vec::with_capacity(usize::try_from(array.length()).unwrap_or_default());
    for at in 0..array.length() {
        if let Some(element) = array.get_index(scope, at) {
            all.push(each(scope, element));
        }
    }
    all
}

/// What is none of the kinds above was refused in JavaScript already.
fn value_of<'a>(scope: &mut v8::PinScope<'a, '_>, value: v8::Local<'a, v8::Value>) -> Value {
    if let Ok(text) = v8::Local::<v8::String>::try_from(value) {
        return Value::Text(text.to_rust_string_lossy(scope));
    }
    if let Ok(number) = v8::Local::<v8::Number>::try_from(value) {
        return ValueRef::from_js_number(number.value()).to_owned();
    }
    if value.is_boolean() {
        return ValueRef::from_js_boolean(value.is_true()).to_owned();
    }
    match v8::Local::<v8::ArrayBufferView>::try_from(value) {
        Ok(view) => {
            let mut bytes = vec![0; view.byte_length()];
            let copied = view.copy_contents(&mut bytes);
            bytes.truncate(copied);
            Value::Blob(bytes)
        }
        Err(_) => Value::Null,
    }
}

/// Several statements' parameters, for batches.
pub struct ManyParameters(pub Vec<Vec<Value>>);

impl<'a> FromV8<'a> for ManyParameters {
    type Error = Infallible;

    fn from_v8<'i>(
        scope: &mut v8::PinScope<'a, 'i>,
        value: v8::Local<'a, v8::Value>,
    ) -> Result<Self, Infallible> {
        Ok(Self(list(scope, value, |scope, one| list(scope, one, value_of))))
    }
}
