//! A configuration file as a tree whose every key and value knows its place.
//!
//! JSONC and TOML are read into the same tree, so that all that follows exists once.

use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    pub span: Range<usize>,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    String(String),
    Array(Vec<Node>),
    Object(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub node: Node,
}

impl Value {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl Node {
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Object(entries) => entries,
            _ => &[],
        }
    }

    /// Nothing in it: `[]`, `{}` or `null`.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.iter().all(|e| e.node.is_empty()),
            _ => false,
        }
    }

    /// As plain JSON; a number that JSON cannot hold becomes its text.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Number(n) => n
                .parse::<serde_json::Number>()
                .map_or_else(|_| n.clone().into(), serde_json::Value::Number),
            Value::String(s) => s.clone().into(),
            Value::Array(items) => items.iter().map(Self::to_json).collect(),
            Value::Object(entries) => serde_json::Value::Object(
                entries.iter().map(|e| (e.key.clone(), e.node.to_json())).collect(),
            ),
        }
    }
}

/// Where and why a file is not JSONC or TOML.
pub struct SyntaxError {
    pub span: Range<usize>,
    pub message: String,
}

pub fn parse_jsonc(text: &str) -> Result<Node, SyntaxError> {
    let options = jsonc_parser::ParseOptions {
        allow_comments: true,
        allow_trailing_commas: true,
        allow_loose_object_property_names: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
    };
    let parsed = jsonc_parser::parse_to_ast(text, &Default::default(), &options).map_err(|e| {
        SyntaxError { span: e.range().start..e.range().end, message: e.kind().to_string() }
    })?;
    match parsed.value {
        Some(value) => Ok(from_jsonc(value)),
        None => Err(SyntaxError { span: 0..0, message: "The file is empty".into() }),
    }
}

fn from_jsonc(value: ast::Value<'_>) -> Node {
    let range = value.range();
    let value = match value {
        ast::Value::StringLit(s) => Value::String(s.value.into_owned()),
        ast::Value::NumberLit(n) => Value::Number(n.value.to_owned()),
        ast::Value::BooleanLit(b) => Value::Bool(b.value),
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::Array(a) => Value::Array(a.elements.into_iter().map(from_jsonc).collect()),
        ast::Value::Object(o) => Value::Object(
            o.properties
                .into_iter()
                .map(|property| {
                    let span = property.name.range();
                    Entry {
                        key: property.name.into_string(),
                        key_span: span.start..span.end,
                        node: from_jsonc(property.value),
                    }
                })
                .collect(),
        ),
    };
    Node { span: range.start..range.end, value }
}

pub fn parse_toml(text: &str) -> Result<Node, SyntaxError> {
    let document = toml_edit::Document::parse(text).map_err(|e| SyntaxError {
        span: e.span().unwrap_or(0..0),
        message: e.message().trim().replace('\n', ", "),
    })?;
    Ok(Node { span: 0..text.len(), value: Value::Object(table_entries(document.as_table())) })
}

fn table_entries(table: &dyn toml_edit::TableLike) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (name, item) in table.iter() {
        let key_span = table.key(name).and_then(toml_edit::Key::span);
        let Some(node) = from_item(item) else { continue };
        // A dotted or header key has its span where it is first written.
        let key_span = key_span.unwrap_or_else(|| node.span.clone());
        entries.push(Entry { key: name.to_owned(), key_span, node });
    }
    entries
}

fn from_item(item: &toml_edit::Item) -> Option<Node> {
    let span = item.span().unwrap_or(0..0);
    let value = match item {
        toml_edit::Item::None => return None,
        toml_edit::Item::Value(value) => return Some(from_toml_value(value)),
        toml_edit::Item::Table(table) => Value::Object(table_entries(table)),
        toml_edit::Item::ArrayOfTables(tables) => Value::Array(
            tables
                .iter()
                .map(|t| Node {
                    span: t.span().unwrap_or_else(|| span.clone()),
                    value: Value::Object(table_entries(t)),
                })
                .collect(),
        ),
    };
    Some(Node { span, value })
}

fn from_toml_value(value: &toml_edit::Value) -> Node {
    use toml_edit::Value as T;
    let span = value.span().unwrap_or(0..0);
    let value = match value {
        T::String(s) => Value::String(s.value().clone()),
        T::Integer(i) => Value::Number(i.value().to_string()),
        T::Float(f) => Value::Number(f.value().to_string()),
        T::Boolean(b) => Value::Bool(*b.value()),
        // `compatibility_date = 2026-01-01` without quotes is a TOML date.
        T::Datetime(d) => Value::String(d.value().to_string()),
        T::Array(a) => Value::Array(a.iter().map(from_toml_value).collect()),
        T::InlineTable(t) => Value::Object(table_entries(t)),
    };
    Node { span, value }
}
