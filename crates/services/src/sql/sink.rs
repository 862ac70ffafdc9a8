//! Where rows go: straight from SQLite's memory into an engine's values, or into owned rows.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::prepared::Columns;
use super::value::{Value, ValueRef};

/// Takes a result as it comes. Values borrow SQLite's memory until the next call.
pub trait RowSink {
    /// Called once, before the first row, also where no row follows.
    fn columns(&mut self, columns: &Arc<Columns>);
    /// A row of as many values as there are columns follows.
    fn begin_row(&mut self) {}
    fn null(&mut self);
    fn integer(&mut self, value: i64);
    fn real(&mut self, value: f64);
    fn text(&mut self, value: &str);
    fn blob(&mut self, value: &[u8]);
    /// The row is complete; `Break` ends the statement without an error.
    fn end_row(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Forgets everything: for statements run for their effect.
#[derive(Debug, Default)]
pub struct Discard;

impl RowSink for Discard {
    fn columns(&mut self, _: &Arc<Columns>) {}
    fn null(&mut self) {}
    fn integer(&mut self, _: i64) {}
    fn real(&mut self, _: f64) {}
    fn text(&mut self, _: &str) {}
    fn blob(&mut self, _: &[u8]) {}
}

/// A result that owns its values, all rows in one list: row by row, column by column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    pub columns: Vec<Box<str>>,
    pub values: Vec<Value>,
}

impl Rows {
    /// The rows, each as long as `columns`.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[Value]> {
        self.values.chunks_exact(self.columns.len().max(1))
    }

    pub fn len(&self) -> usize {
        self.values.len() / self.columns.len().max(1)
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of a column of the first row, `None` without a row.
    pub fn first(&self, column: &str) -> Option<Result<&Value, super::SqlError>> {
        let row = self.iter().next()?;
        let at = self.columns.iter().rposition(|name| **name == *column);
        Some(at.and_then(|at| row.get(at)).ok_or_else(|| super::SqlError::column_not_found(column)))
    }

    /// Hands the result on, as if it came from SQLite.
    pub fn replay(&self, sink: &mut dyn RowSink) {
        let columns = Columns::new(self.columns.clone());
        sink.columns(&columns);
        for row in self.iter() {
            sink.begin_row();
            row.iter().for_each(|value| put(sink, value.as_ref()));
            if sink.end_row().is_break() {
                break;
            }
        }
    }
}

impl RowSink for Rows {
    fn columns(&mut self, columns: &Arc<Columns>) {
        self.columns.clone_from(&columns.names);
    }

    fn null(&mut self) {
        self.values.push(Value::Null);
    }

    fn integer(&mut self, value: i64) {
        self.values.push(Value::Integer(value));
    }

    fn real(&mut self, value: f64) {
        self.values.push(Value::Real(value));
    }

    fn text(&mut self, value: &str) {
        self.values.push(Value::Text(value.to_owned()));
    }

    fn blob(&mut self, value: &[u8]) {
        self.values.push(Value::Blob(value.to_vec()));
    }
}

/// Calls the sink's method for a value.
pub(crate) fn put(sink: &mut (impl RowSink + ?Sized), value: ValueRef<'_>) {
    match value {
        ValueRef::Null => sink.null(),
        ValueRef::Integer(value) => sink.integer(value),
        ValueRef::Real(value) => sink.real(value),
        ValueRef::Text(value) => sink.text(value),
        ValueRef::Blob(value) => sink.blob(value),
    }
}
