//! The tokens of databases: who may speak to one over the wire (`docs/hrana.md`).
//!
//! Two for each database, one that may write and one that only reads, in a file of mode 0600 in
//! the data folder. Whoever can read that folder can read the databases as well.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use verge_hrana::{Access, TokenList};

use crate::failure::Failure;
use crate::private_file::{kept, put, random};

/// One database's tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseTokens {
    pub full: String,
    pub read_only: String,
}

impl DatabaseTokens {
    fn new() -> Result<Self, Failure> {
        Ok(Self { full: token("rw")?, read_only: token("ro")? })
    }

    pub fn of(&self, access: Access) -> &str {
        match access {
            Access::Full => &self.full,
            Access::ReadOnly => &self.read_only,
        }
    }
}

/// `verge_rw_…`: a word that search engines for leaked secrets can know, and 256 random bits.
fn token(kind: &str) -> Result<String, Failure> {
    let bytes = random::<32>()?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("verge_{kind}_{hex}"))
}

/// Where a database's tokens lie. `name` is a database's plain name.
fn path(data: &Path, name: &str) -> PathBuf {
    data.join("tokens").join(format!("{name}.json"))
}

/// Whether somebody asked for a database's tokens before.
pub fn exist(data: &Path, name: &str) -> bool {
    path(data, name).is_file()
}

/// A database's tokens; made the first time.
pub fn get(data: &Path, name: &str) -> Result<DatabaseTokens, Failure> {
    let path = path(data, name);
    let content = kept(&path, || Ok(text(&DatabaseTokens::new()?)))?;
    parse(&path, &content)
}

/// A new token in the place of one, or of both.
pub fn rotate(data: &Path, name: &str, only: Option<Access>) -> Result<DatabaseTokens, Failure> {
    let mut tokens = get(data, name)?;
    let fresh = DatabaseTokens::new()?;
    if only != Some(Access::ReadOnly) {
        tokens.full = fresh.full;
    }
    if only != Some(Access::Full) {
        tokens.read_only = fresh.read_only;
    }
    put(&path(data, name), text(&tokens))?;
    Ok(tokens)
}

fn text(tokens: &DatabaseTokens) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(tokens).unwrap_or_default();
    text.push(b'\n');
    text
}

fn parse(path: &Path, content: &[u8]) -> Result<DatabaseTokens, Failure> {
    serde_json::from_slice(content).map_err(|error| {
        let message = format!("{} holds no tokens: {error}", path.display());
        Failure::new("tokens", message).hint("remove the file, and new ones are made")
    })
}

/// A database's tokens as a server looks at them: a rotated one is refused from the next
/// request on, and ends a WebSocket within half a minute.
pub struct Watched {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Which file it was: a rotated one is another.
    stamp: Option<Stamp>,
    list: Option<TokenList>,
}

type Stamp = (u64, i64, i64);

impl Watched {
    pub fn new(data: &Path, name: &str) -> Self {
        Self { path: path(data, name), known: Mutex::default() }
    }

    fn stamp(&self) -> Option<Stamp> {
        let about = fs::metadata(&self.path).ok()?;
        Some((about.ino(), about.mtime(), about.mtime_nsec()))
    }

    fn read(&self) -> Option<TokenList> {
        let tokens = parse(&self.path, &fs::read(&self.path).ok()?).ok()?;
        let list = [(tokens.full, Access::Full), (tokens.read_only, Access::ReadOnly)];
        TokenList::new(list).ok()
    }
}

impl verge_hrana::Tokens for Watched {
    fn verify(&self, bearer: Option<&str>) -> Result<Access, verge_hrana::Error> {
        let mut known = self.known.lock();
        let stamp = self.stamp();
        if known.list.is_none() || known.stamp != stamp {
            *known = Known { stamp, list: self.read() };
        }
        match &known.list {
            Some(list) => list.verify(bearer),
            // No file, no token: nobody may.
            None => TokenList::new::<String>([])?.verify(bearer),
        }
    }
}

#[cfg(test)]
mod tests {
    use verge_hrana::Tokens as _;

    use super::*;

    #[test]
    fn a_rotated_token_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let watched = Watched::new(dir.path(), "book");
        assert!(watched.verify(Some("x")).is_err(), "there is none yet");
        let old = get(dir.path(), "book").unwrap();
        assert_eq!(get(dir.path(), "book").unwrap(), old, "made once");
        assert_ne!(old.full, get(dir.path(), "other").unwrap().full);
        assert_eq!(watched.verify(Some(&old.full)).unwrap(), Access::Full);
        assert_eq!(watched.verify(Some(&old.read_only)).unwrap(), Access::ReadOnly);
        assert!(watched.verify(None).is_err());
        let new = rotate(dir.path(), "book", Some(Access::Full)).unwrap();
        assert_eq!(new.read_only, old.read_only);
        assert!(watched.verify(Some(&old.full)).is_err());
        assert_eq!(watched.verify(Some(&new.full)).unwrap(), Access::Full);
        assert_eq!(watched.verify(Some(&old.read_only)).unwrap(), Access::ReadOnly);
    }
}
