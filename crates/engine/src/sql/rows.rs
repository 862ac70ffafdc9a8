//! Rows as `js/runtime/sql_database.js` takes them: `[columns, values, count, meta]`, the values
//! of all rows in one array. V8's values are made straight from SQLite's memory.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use deno_core::{ToV8, v8};
use rustc_hash::FxHashMap;
use verge_services::sql::{Columns, Outcome, RowSink, Stats, integer_to_js};

/// Column lists whose JavaScript arrays an isolate keeps.
const KEPT: usize = 256;

/// The arrays of column names, by the list they were made of. A list is kept alive with its
/// array, so that its address is not another list's meanwhile.
#[derive(Default)]
pub struct ColumnNames(FxHashMap<usize, (Arc<Columns>, v8::Global<v8::Array>)>);

impl ColumnNames {
    fn array<'s>(
        &mut self,
        scope: &mut v8::PinScope<'s, '_>,
        columns: &Arc<Columns>,
    ) -> v8::Local<'s, v8::Array> {
        let key = Arc::as_ptr(columns) as usize;
        if let Some((_, array)) = self.0.get(&key) {
            return v8::Local::new(scope, array);
        }
        let array = names(scope, columns.names.iter().map(|name| &**name));
        if self.0.len() >= KEPT {
            self.0.clear();
        }
        self.0.insert(key, (columns.clone(), v8::Global::new(scope, array)));
        array
    }
}

/// Property names: one string each in the isolate, so that setting them is quick.
fn names<'s, 'n>(
    scope: &mut v8::PinScope<'s, '_>,
    names: impl Iterator<Item = &'n str>,
) -> v8::Local<'s, v8::Array> {
    let names: Vec<v8::Local<v8::Value>> = names
        .map(|name| {
            v8::String::new_from_utf8(scope, name.as_bytes(), v8::NewStringType::Internalized)
                .map_or_else(|| v8::undefined(scope).into(), Into::into)
        })
        .collect();
    v8::Array::new_with_elements(scope, &names)
}

/// Takes rows from SQLite and makes JavaScript's values of them.
pub struct JsRows<'a, 's, 'i> {
    scope: &'a mut v8::PinScope<'s, 'i>,
    known: &'a mut ColumnNames,
    columns: Option<v8::Local<'s, v8::Array>>,
    values: Vec<v8::Local<'s, v8::Value>>,
    count: u32,
    /// Rows after which the statement is ended.
    most: u32,
}

impl<'a, 's, 'i> JsRows<'a, 's, 'i> {
    pub fn new(scope: &'a mut v8::PinScope<'s, 'i>, known: &'a mut ColumnNames, most: u32) -> Self {
        Self { scope, known, columns: None, values: Vec::with_capacity(8), count: 0, most }
    }

    /// The reply with its fourth part, which `last` makes.
    pub fn finish(
        self,
        last: impl FnOnce(&mut v8::PinScope<'s, 'i>) -> v8::Local<'s, v8::Value>,
    ) -> v8::Local<'s, v8::Value> {
        let scope = self.scope;
        let columns = self.columns.unwrap_or_else(|| v8::Array::new(scope, 0));
        let values = v8::Array::new_with_elements(scope, &self.values);
        let count = v8::Integer::new_from_unsigned(scope, self.count);
        let last = last(scope);
        let parts = [columns.into(), values.into(), count.into(), last];
        v8::Array::new_with_elements(scope, &parts).into()
    }
}

impl RowSink for JsRows<'_, '_, '_> {
    fn columns(&mut self, columns: &Arc<Columns>) {
        self.columns = Some(self.known.array(self.scope, columns));
    }

    fn null(&mut self) {
        self.values.push(v8::null(self.scope).into());
    }

    fn integer(&mut self, value: i64) {
        self.values.push(match i32::try_from(value) {
            Ok(small) => v8::Integer::new(self.scope, small).into(),
            Err(_) => v8::Number::new(self.scope, integer_to_js(value)).into(),
        });
    }

    fn real(&mut self, value: f64) {
        self.values.push(v8::Number::new(self.scope, value).into());
    }

    fn text(&mut self, value: &str) {
        let text =
            v8::String::new_from_utf8(self.scope, value.as_bytes(), v8::NewStringType::Normal);
        // Never null: results are capped far below V8's longest string.
        self.values.push(text.map_or_else(|| v8::null(self.scope).into(), Into::into));
    }

    /// An array of numbers, as D1's wire makes of it.
    fn blob(&mut self, value: &[u8]) {
        let bytes: Vec<v8::Local<v8::Value>> = value
            .iter()
            .map(|byte| v8::Integer::new(self.scope, i32::from(*byte)).into())
            .collect();
        self.values.push(v8::Array::new_with_elements(self.scope, &bytes).into());
    }

    fn end_row(&mut self) -> ControlFlow<()> {
        self.count += 1;
        if self.count == self.most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Where a statement was served, beside what it did.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    pub stats: Stats,
    pub served_by: Arc<str>,
    pub region: Arc<str>,
    pub by_primary: bool,
}

impl Meta {
    /// The array that `metaOf` reads.
    pub fn array<'s>(&self, scope: &mut v8::PinScope<'s, '_>) -> v8::Local<'s, v8::Value> {
        let stats = &self.stats;
        let number = |value: f64| v8::Number::new(scope, value).into();
        let text = |text: &str| {
            v8::String::new_from_utf8(scope, text.as_bytes(), v8::NewStringType::Normal)
                .map_or_else(|| v8::null(scope).into(), Into::into)
        };
        let parts: [v8::Local<v8::Value>; 10] = [
            number(stats.duration.as_secs_f64() * 1e3),
            number(stats.changes as f64),
            number(integer_to_js(stats.last_row_id)),
            v8::Boolean::new(scope, stats.changed_db).into(),
            number(stats.size_after as f64),
            number(stats.rows_read as f64),
            number(stats.rows_written as f64),
            text(&self.served_by),
            text(&self.region),
            v8::Boolean::new(scope, self.by_primary).into(),
        ];
        v8::Array::new_with_elements(scope, &parts).into()
    }
}

/// A reply that was made elsewhere and crosses into V8 when its op is done.
pub struct OwnedReply {
    pub outcome: Outcome,
    pub meta: Meta,
}

impl<'a> ToV8<'a> for OwnedReply {
    type Error = Infallible;

    fn to_v8(
        self,
        scope: &mut v8::PinScope<'a, '_>,
    ) -> Result<v8::Local<'a, v8::Value>, Infallible> {
        Ok(reply(scope, &self.outcome, &self.meta))
    }
}

/// One statement's outcome as a reply.
pub fn reply<'s>(
    scope: &mut v8::PinScope<'s, '_>,
    outcome: &Outcome,
    meta: &Meta,
) -> v8::Local<'s, v8::Value> {
    // Used once: nothing is gained by keeping its names.
    let mut known = ColumnNames::default();
    let mut rows = JsRows::new(scope, &mut known, u32::MAX);
    outcome.rows.replay(&mut rows);
    rows.finish(|scope| meta.array(scope))
}
