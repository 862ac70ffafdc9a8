//! V8's compiled code of a deployment's modules, made by its first isolate and given to the
//! others, so that they skip the parser.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

/// Code cache of one deployment, by module URL.
#[derive(Default)]
pub(crate) struct CodeCache(RwLock<HashMap<String, Arc<[u8]>>>);

impl CodeCache {
    pub fn get(&self, url: &str) -> Option<Arc<[u8]>> {
        self.0.read().get(url).cloned()
    }

    pub fn put(&self, url: &str, data: &[u8]) {
        self.0.write().insert(url.to_owned(), data.into());
    }

    pub fn remove(&self, url: &str) {
        self.0.write().remove(url);
    }
}
