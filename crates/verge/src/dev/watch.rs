//! Sees that a file of the project changed.
//!
//! Folders are watched, not files, because editors replace files. The project's own folders
//! are watched wherever they are (a file that is missing may be made anywhere), foreign ones
//! (a package, a linked workspace) only where the last build read something. `node_modules`
//! and folders that begin with a dot are not walked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, timeout_at};

/// Saving is often several steps; so long nothing more may come before the build starts.
const QUIET: Duration = Duration::from_millis(8);
/// The build starts so long after the first change, whatever still comes.
const LONGEST: Duration = Duration::from_millis(30);
/// Most folders of one project that are watched.
const MAX_FOLDERS: usize = 4_096;
/// Files that are read if they are there, so that their coming counts.
const READ_IF_THERE: &[&str] = &[
    "verge.jsonc",
    "verge.json",
    "wrangler.jsonc",
    "wrangler.json",
    "wrangler.toml",
    "package.json",
    "tsconfig.json",
    "jsconfig.json",
    "deno.json",
    "deno.jsonc",
];

pub struct Watch {
    watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<Event>,
    root: PathBuf,
    folders: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
    /// Everything below them counts.
    wholes: BTreeSet<PathBuf>,
    /// The last build failed: any file of the project may be what was missing.
    anything: bool,
}

impl Watch {
    pub fn new(root: &Path) -> notify::Result<Self> {
        let (sender, events) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            match event {
                // Nobody listening: the process is about to end.
                Ok(event) => drop(sender.send(event)),
                Err(error) => tracing::warn!(%error, "a change may have been missed"),
            }
        })?;
        let mut watch = Self {
            watcher,
            events,
            root: root.to_owned(),
            folders: BTreeSet::new(),
            files: BTreeSet::new(),
            wholes: BTreeSet::new(),
            anything: true,
        };
        watch.follow(&[], true)?;
        Ok(watch)
    }

    /// Watches what a build read. `failed`: its list is not complete, or empty.
    pub fn follow(&mut self, watched: &[PathBuf], failed: bool) -> notify::Result<()> {
        self.anything = failed;
        if !watched.is_empty() {
            let (wholes, files) = watched.iter().cloned().partition(|path| path.is_dir());
            self.wholes = wholes;
            self.files = files;
        }
        let mut wanted = BTreeSet::new();
        walk(&self.root, &mut wanted);
        for whole in &self.wholes {
            walk(whole, &mut wanted);
        }
        wanted.extend(self.files.iter().filter_map(|f| f.parent()).map(Path::to_owned));
        for gone in self.folders.difference(&wanted) {
            // A folder that was deleted is not watched any more by itself.
            let _ = self.watcher.unwatch(gone);
        }
        let new: Vec<_> = wanted.difference(&self.folders).cloned().collect();
        let mut refused = None;
        for folder in &new {
            if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                wanted.remove(folder);
                // Deleted between the walk and now is no failure.
                if folder.is_dir() {
                    refused = Some(error);
                }
            }
        }
        self.folders = wanted;
        refused.map_or(Ok(()), Err)
    }

    /// Returns when something changed that a build would read; `None` at the end of the watch.
    pub async fn changed(&mut self) -> Option<PathBuf> {
        loop {
            let event = self.events.recv().await?;
            if let Some(path) = self.relevant(&event) {
                return Some(path);
            }
        }
    }

    /// Waits until a save has come to its end.
    pub async fn settle(&mut self) {
        let deadline = Instant::now() + LONGEST;
        loop {
            let until = (Instant::now() + QUIET).min(deadline);
            match timeout_at(until, self.events.recv()).await {
                Ok(Some(_)) if Instant::now() < deadline => {}
                _ => return,
            }
        }
    }

    fn relevant(&self, event: &Event) -> Option<PathBuf> {
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => return None,
            _ => {}
        }
        if event.need_rescan() {
            return Some(self.root.clone());
        }
        event.paths.iter().find(|path| self.counts(path)).cloned()
    }

    fn counts(&self, path: &Path) -> bool {
        if self.files.contains(path) {
            return true;
        }
        let visible = |below: &Path| !below.iter().any(|part| is_ignored(&part.to_string_lossy()));
        if self.wholes.iter().any(|whole| path.strip_prefix(whole).is_ok_and(visible)) {
            return true;
        }
        let Ok(below) = path.strip_prefix(&self.root) else { return false };
        let name = below.to_string_lossy();
        if READ_IF_THERE.contains(&&*name)
            || name.starts_with(".env")
            || name.starts_with(".dev.vars")
        {
            return !name.contains('/');
        }
        self.anything && visible(below)
    }
}

/// What neither is source nor an asset. `_headers` and `_redirects` are.
fn is_ignored(name: &str) -> bool {
    (name.starts_with('.') && name != ".well-known")
        || name == "node_modules"
        || name.ends_with('~')
        || name.ends_with(".swp")
}

fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    if found.len() >= MAX_FOLDERS || !found.insert(folder.to_owned()) {
        return;
    }
    // A folder that cannot be read holds nothing that a build reads.
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && !is_ignored(&entry.file_name().to_string_lossy()) {
            walk(&entry.path(), found);
        }
    }
}
