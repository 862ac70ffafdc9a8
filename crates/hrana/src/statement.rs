//! Values, statements and what executing or describing one tells, as the protocol has them.

use std::sync::Arc;

use crate::{Error, codes};

/// An SQLite value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Integer(i64),
    Float(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Value {
    /// About what the value takes in a response, in bytes.
    pub(crate) fn weight(&self) -> usize {
        16 + match self {
            Self::Null | Self::Integer(_) | Self::Float(_) => 0,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) => bytes.len(),
        }
    }
}

/// SQL by text or by the id of a stored text; a valid request has exactly one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SqlRef {
    pub sql: Option<String>,
    pub sql_id: Option<i32>,
}

/// A statement as a client sends it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    pub sql: SqlRef,
    pub args: Vec<Value>,
    pub named_args: Vec<NamedArg>,
    pub want_rows: bool,
}

/// An argument with its parameter's name, with or without `:`, `@` or `$`.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedArg {
    pub name: String,
    pub value: Value,
}

/// A statement as a [`crate::Connection`] executes it: the text is at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub sql: Arc<str>,
    pub args: Vec<Value>,
    pub named_args: Vec<NamedArg>,
}

impl Statement {
    /// Orders the arguments for parameters 1, 2, … whose names (with their sign) are given.
    ///
    /// A named argument wins over a positional one. An argument without a parameter and a
    /// parameter without an argument are errors; a number that no parameter has (`?1, ?3`)
    /// needs none.
    pub fn arrange(self, parameters: &[Option<String>]) -> Result<Vec<Value>, Error> {
        let wrong = |message: String| Error::caller(codes::ARGS_INVALID, message);
        if self.args.len() > parameters.len() {
            return Err(wrong(format!(
                "the statement has {} parameters but {} positional arguments were given",
                parameters.len(),
                self.args.len()
            )));
        }
        let mut values: Vec<Option<Value>> = self.args.into_iter().map(Some).collect();
        values.resize(parameters.len(), None);
        for NamedArg { name, value } in self.named_args {
            let fits = |parameter: &&Option<String>| {
                parameter.as_deref().is_some_and(|parameter| {
                    parameter == name
                        || (parameter.starts_with([':', '@', '$']) && parameter[1..] == *name)
                })
            };
            match parameters.iter().position(|parameter| fits(&parameter)) {
                Some(at) => values[at] = Some(value),
                None => return Err(wrong(format!("the statement has no parameter `{name}`"))),
            }
        }
        let missing = values.iter().position(Option::is_none);
        if let Some(at) = missing {
            let name = parameters[at].as_deref().unwrap_or("without a name");
            return Err(wrong(format!("no value was given for parameter {} ({name})", at + 1)));
        }
        Ok(values.into_iter().flatten().collect())
    }
}

/// A column of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Col {
    pub name: Option<String>,
    /// The declared type of the table's column it comes from.
    pub decltype: Option<String>,
}

/// What a statement did, beside its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Done {
    pub affected_row_count: u64,
    pub last_insert_rowid: Option<i64>,
    pub rows_read: u64,
    pub rows_written: u64,
    pub duration_ms: f64,
}

/// The whole result of a statement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StmtResult {
    pub cols: Vec<Col>,
    pub rows: Vec<Vec<Value>>,
    pub done: Done,
}

/// What a statement is, without executing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeResult {
    /// Parameters 1, 2, …: the name with its sign, if it has one.
    pub params: Vec<Option<String>>,
    pub cols: Vec<DescribeCol>,
    pub is_explain: bool,
    pub is_readonly: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeCol {
    pub name: String,
    pub decltype: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrange(
        parameters: &[Option<&str>],
        args: &[i64],
        named: &[(&str, i64)],
    ) -> Result<Vec<Value>, Error> {
        let parameters: Vec<_> = parameters.iter().map(|name| name.map(str::to_owned)).collect();
        Statement {
            sql: "".into(),
            args: args.iter().map(|n| Value::Integer(*n)).collect(),
            named_args: named
                .iter()
                .map(|(name, n)| NamedArg { name: (*name).into(), value: Value::Integer(*n) })
                .collect(),
        }
        .arrange(&parameters)
    }

    #[test]
    fn arguments_find_their_parameters() {
        let ints = |ns: &[i64]| Ok(ns.iter().map(|n| Value::Integer(*n)).collect::<Vec<_>>());
        assert_eq!(arrange(&[None, None], &[1, 2], &[]), ints(&[1, 2]));
        assert_eq!(arrange(&[Some(":a"), Some("@b")], &[], &[("b", 2), (":a", 1)]), ints(&[1, 2]));
        assert_eq!(arrange(&[Some("$a")], &[1], &[("a", 7)]), ints(&[7]), "names win");
        assert_eq!(arrange(&[], &[], &[]), ints(&[]));
    }

    #[test]
    fn an_argument_too_many_or_too_few_is_an_error() {
        for (parameters, args, named) in [
            (vec![None], vec![1, 2], vec![]),
            (vec![None], vec![], vec![]),
            (vec![Some(":a")], vec![1], vec![("b", 1)]),
            (vec![Some(":a"), Some(":é")], vec![1], vec![]),
            (vec![None], vec![], vec![("", 1)]),
        ] {
            let error = arrange(&parameters, &args, &named).unwrap_err();
            assert_eq!(error.code, codes::ARGS_INVALID);
        }
    }
}
