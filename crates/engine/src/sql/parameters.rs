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
        let Ok(array) = v8::Local::<v8::Array>::try_from(value) else {
            return Ok(Self(Vec::new()));
        };
        let one = |at| {
            let value = array.get_index(scope, at);
            value.map_or(Value::Null, |value| value_of(scope, value))
        };
        Ok(Self((0..array.length()).map(one).collect()))
    }
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
        let Ok(array) = v8::Local::<v8::Array>::try_from(value) else {
            return Ok(Self(Vec::new()));
        };
        let mut all = Vec::new();
        for at in 0..array.length() {
            if let Some(list) = array.get_index(scope, at) {
                let Ok(Parameters(list)) = Parameters::from_v8(scope, list);
                all.push(list);
            }
        }
        Ok(Self(all))
    }
}
