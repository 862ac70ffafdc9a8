//! One isolate on its own thread: boot, claim, then slices until it is dropped.

mod boot;
mod claim;
mod dispatch;
mod inbox;
mod meter;
mod post;
mod run;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use verge_engine::Surface;

pub(crate) use boot::Boot;
use post::Post;

/// Stack of an isolate's thread. V8 takes about 1 MiB of it; the rest is for native calls.
const STACK: usize = 4 * 1024 * 1024;

/// The way to an isolate.
#[derive(Clone)]
pub(crate) struct IsolateRef {
    pub id: u64,
    pub post: Arc<Post>,
    /// Requests given to it that have no response head yet.
    pub load: Arc<AtomicUsize>,
}

/// Starts a thread that boots an isolate, after `delay`, and waits to be claimed.
pub(crate) fn spawn(boot: Arc<Boot>, surface: Surface, delay: Duration) -> io::Result<IsolateRef> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let (commands, receiver) = mpsc::unbounded_channel();
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    std::thread::Builder::new().name(format!("isolate-{id}")).stack_size(STACK).spawn(
        move || {
            std::thread::sleep(delay);
            run::thread_main(id, || boot.boot(surface), receiver, !delay.is_zero());
        },
    )?;
    Ok(IsolateRef { id, post: Post::new(commands), load: Arc::default() })
}
