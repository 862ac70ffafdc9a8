//! Values that go into statements and come out of them, and D1's rules for JavaScript's.

/// Integers up to here are exact in JavaScript: 2^53 − 1.
pub const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

/// A value that owns its bytes: for wire protocols and for writes that travel.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

/// A value that borrows its bytes from the caller, or from SQLite's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl Value {
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(value) => ValueRef::Text(value),
            Self::Blob(value) => ValueRef::Blob(value),
        }
    }

    /// Memory a result's cap counts for it, in bytes.
    pub fn size(&self) -> usize {
        self.as_ref().size()
    }
}

impl ValueRef<'_> {
    /// What a JavaScript number becomes: an integer where it is one and is exact, else a real.
    /// What JSON cannot say (`NaN`, infinities) is null, as on D1, whose wire is JSON.
    pub fn from_js_number(number: f64) -> Self {
        const LIMIT: f64 = MAX_SAFE_INTEGER as f64;
        if !number.is_finite() {
            Self::Null
        } else if number.trunc() == number && (-LIMIT..=LIMIT).contains(&number) {
            Self::Integer(number as i64)
        } else {
            Self::Real(number)
        }
    }

    /// What a JavaScript boolean becomes.
    pub fn from_js_boolean(boolean: bool) -> Self {
        Self::Integer(i64::from(boolean))
    }

    pub fn to_owned(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Integer(value) => Value::Integer(value),
            Self::Real(value) => Value::Real(value),
            Self::Text(value) => Value::Text(value.to_owned()),
            Self::Blob(value) => Value::Blob(value.to_vec()),
        }
    }

    /// Memory a result's cap counts for it, in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Null | Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(value) => value.len() + 8,
            Self::Blob(value) => value.len() + 8,
        }
    }
}

/// How JavaScript sees an integer column: D1 hands out numbers, so beyond 2^53 it is rounded.
pub fn integer_to_js(integer: i64) -> f64 {
    integer as f64
}

/// The parameters of one statement, by position.
pub trait Params {
    /// How many there are.
    fn count(&self) -> usize;
    /// The one at `index`, from 0; below [`Params::count`].
    fn get(&self, index: usize) -> ValueRef<'_>;
}

impl Params for [Value] {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> ValueRef<'_> {
        self[index].as_ref()
    }
}

impl Params for Vec<Value> {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> ValueRef<'_> {
        self[index].as_ref()
    }
}

impl Params for [ValueRef<'_>] {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, index: usize) -> ValueRef<'_> {
        self[index]
    }
}

impl<const N: usize> Params for [ValueRef<'_>; N] {
    fn count(&self) -> usize {
        N
    }

    fn get(&self, index: usize) -> ValueRef<'_> {
        self[index]
    }
}

impl Params for () {
    fn count(&self) -> usize {
        0
    }

    fn get(&self, _: usize) -> ValueRef<'_> {
        ValueRef::Null
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javascript_numbers_follow_d1() {
        let cases = [
            (1.0, ValueRef::Integer(1)),
            (-0.0, ValueRef::Integer(0)),
            (1.5, ValueRef::Real(1.5)),
            (9_007_199_254_740_991.0, ValueRef::Integer(MAX_SAFE_INTEGER)),
            (9_007_199_254_740_992.0, ValueRef::Real(9_007_199_254_740_992.0)),
            (1e300, ValueRef::Real(1e300)),
            (f64::NAN, ValueRef::Null),
            (f64::NEG_INFINITY, ValueRef::Null),
        ];
        for (number, expected) in cases {
            assert_eq!(ValueRef::from_js_number(number), expected, "{number}");
        }
        assert_eq!(ValueRef::from_js_boolean(true), ValueRef::Integer(1));
        assert_eq!(integer_to_js(i64::MAX), 9_223_372_036_854_775_807.0);
    }
}
