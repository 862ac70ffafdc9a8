//! Reads typed values out of a tree and gathers every error on the way.
//!
//! Reading goes on after an error, so that one run shows all that is wrong with a file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::keys::nearest;
use super::tree::{Entry, Node, Value};
use crate::diagnostic::Diagnostic;

pub struct Reader<'a> {
    pub file: &'a Path,
    pub text: &'a str,
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<String>,
    /// Keys without effect, told in one warning.
    pub ignored: Vec<String>,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a Path, text: &'a str) -> Self {
        Self { file, text, errors: Vec::new(), warnings: Vec::new(), ignored: Vec::new() }
    }

    pub fn error(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let found = Diagnostic::error(message).at(self.file, self.text, span);
        // An inherited key is read once for each environment.
        if !self.errors.contains(&found) {
            self.errors.push(found);
        }
    }

    pub fn warn(&mut self, message: impl Into<String>) {
        let message = message.into();
        if !self.warnings.contains(&message) {
            self.warnings.push(message);
        }
    }

    /// All warnings, after the file was read.
    pub fn take_warnings(&mut self) -> Vec<String> {
        let mut warnings = std::mem::take(&mut self.warnings);
        if !self.ignored.is_empty() {
            warnings.insert(0, format!("without effect here: {}", self.ignored.join(", ")));
        }
        warnings
    }

    fn wrong(&mut self, path: &str, node: &Node, wanted: &str) {
        let what = if path.is_empty() { "the file".into() } else { format!("`{path}`") };
        self.error(&node.span, format!("{what} takes {wanted}, not {}", node.value.kind()));
    }

    pub fn string(&mut self, path: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(s) => Some(s.clone()),
            _ => {
                self.wrong(path, node, "a string");
                None
            }
        }
    }

    pub fn non_empty(&mut self, path: &str, node: &Node) -> Option<String> {
        let text = self.string(path, node)?;
        if text.is_empty() {
            self.error(&node.span, format!("`{path}` must not be empty"));
            return None;
        }
        Some(text)
    }

    pub fn boolean(&mut self, path: &str, node: &Node) -> Option<bool> {
        match node.value {
            Value::Bool(b) => Some(b),
            _ => {
                self.wrong(path, node, "true or false");
                None
            }
        }
    }

    /// A number or a string as text, for quantities with units.
    pub fn quantity(&mut self, path: &str, node: &Node) -> Option<String> {
        match &node.value {
            Value::String(s) => Some(s.clone()),
            Value::Number(n) => Some(n.clone()),
            _ => {
                self.wrong(path, node, "a number or a quantity with a unit");
                None
            }
        }
    }

    pub fn list<'n>(&mut self, path: &str, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::Array(items) => items,
            _ => {
                self.wrong(path, node, "a list");
                &[]
            }
        }
    }

    pub fn strings(&mut self, path: &str, node: &Node) -> Vec<String> {
        let items = self.list(path, node);
        let mut strings = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            strings.extend(self.non_empty(&format!("{path}[{index}]"), item));
        }
        strings
    }

    pub fn object<'n>(&mut self, path: &str, node: &'n Node) -> &'n [Entry] {
        match &node.value {
            Value::Object(entries) => {
                self.no_key_twice(path, entries);
                entries
            }
            _ => {
                self.wrong(path, node, "an object");
                &[]
            }
        }
    }

    /// An object with only these keys.
    pub fn record<'n>(&mut self, path: &str, node: &'n Node, known: &[&str]) -> &'n [Entry] {
        let entries = self.object(path, node);
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                self.unknown(path, entry, known.iter().copied());
            }
        }
        entries
    }

    pub fn string_map(&mut self, path: &str, node: &Node) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        for entry in self.object(path, node) {
            if let Some(value) = self.string(&format!("{path}.{}", entry.key), &entry.node) {
                map.insert(entry.key.clone(), value);
            }
        }
        map
    }

    pub fn unknown<'k>(
        &mut self,
        path: &str,
        entry: &Entry,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
        let mut message = format!("unknown key `{prefix}{}`", entry.key);
        if let Some(near) = nearest(&entry.key, known) {
            message.push_str(&format!("; did you mean `{prefix}{near}`?"));
        }
        self.error(&entry.key_span, message);
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&mut self, path: &str, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let given = self.string(path, node)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == given) {
            return Some(*value);
        }
        let list: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let mut message = format!("`{path}` takes {}, not \"{given}\"", list.join(", "));
        if let Some(near) = nearest(&given, words.iter().map(|(word, _)| *word)) {
            message.push_str(&format!("; did you mean \"{near}\"?"));
        }
        self.error(&node.span, message);
        None
    }

    fn no_key_twice(&mut self, path: &str, entries: &[Entry]) {
        let mut seen = std::collections::HashSet::new();
        for entry in entries {
            if !seen.insert(entry.key.as_str()) {
                let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
                self.error(&entry.key_span, format!("`{prefix}{}` stands here twice", entry.key));
            }
        }
    }
}

pub fn entry<'n>(entries: &'n [Entry], key: &str) -> Option<&'n Entry> {
    entries.iter().find(|e| e.key == key)
}
