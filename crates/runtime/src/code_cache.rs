//! V8's compiled code of a deployment's modules, given to its isolates so that they skip the
//! parser. Somebody waits for the first isolate's first byte, so the second one makes it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use verge_engine::Surface;

/// The code caches of one deployment: V8 refuses code from an isolate of another snapshot.
#[derive(Default)]
pub(crate) struct CodeCaches {
    web: Arc<CodeCache>,
    node: Arc<CodeCache>,
}

impl CodeCaches {
    /// The one for isolates that start from the snapshot of `surface`.
    pub fn of(&self, surface: Surface) -> &Arc<CodeCache> {
        match surface {
            Surface::Web => &self.web,
            Surface::Node => &self.node,
        }
    }
}

/// Compiled code by module URL.
#[derive(Default)]
pub(crate) struct CodeCache {
    code: RwLock<HashMap<String, Arc<[u8]>>>,
    used: AtomicBool,
}

impl CodeCache {
    /// For an isolate that starts: none for the first one.
    pub fn for_isolate(this: &Arc<Self>) -> Option<Arc<Self>> {
        this.used.swap(true, Ordering::Relaxed).then(|| this.clone())
    }

    pub fn get(&self, url: &str) -> Option<Arc<[u8]>> {
        self.code.read().get(url).cloned()
    }

    pub fn put(&self, url: &str, data: &[u8]) {
        self.code.write().insert(url.to_owned(), data.into());
    }

    pub fn remove(&self, url: &str) {
        self.code.write().remove(url);
    }
}
