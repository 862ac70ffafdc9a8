//! What a node promised and knows about a dataset's history, on disk beside it: the fence, the
//! lineage, whether its data may be read.
//!
//! A small text ended by a hash, replaced crash-safely. Missing means a dataset that never took
//! part; unreadable is an error and never 'start at 0'.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use verge_replicate::follow::Health;
use verge_replicate::{Lineage, Term};
use verge_types::{DatasetId, Position};

const FIRST_LINE: &str = "verge-replica 1";

/// One dataset's replication state on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    /// Epochs below it are refused.
    pub(crate) fence: u64,
    pub(crate) lineage: Lineage,
    pub(crate) health: Health,
    /// A snapshot is about to take the data's place, or has: where it ends, its checksum and its
    /// lineage. Data and lineage change in one step by this: see [`Meta::settle`].
    pub(crate) seeding: Option<Seeding>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seeding {
    pub(crate) position: Position,
    pub(crate) checksum: u64,
    pub(crate) lineage: Lineage,
}

impl Meta {
    /// After a start: if the process ended between installing a snapshot and writing its lineage
    /// down, the data tells which of the two it is.
    pub(crate) fn settle(&mut self, position: Position, checksum: u64) -> bool {
        let Some(seeding) = self.seeding.take() else { return false };
        if seeding.position == position && seeding.checksum == checksum {
            self.lineage = seeding.lineage;
            self.health = Health::Sound;
        }
        true
    }

    fn to_text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nfence {}\n", self.fence);
        // Writing to a String cannot fail.
        let health = match self.health {
            Health::Sound => "sound",
            Health::Diverged => "diverged",
            Health::Quarantined => "quarantined",
        };
        let _ = writeln!(text, "health {health}");
        let _ = writeln!(text, "lineage{}", terms(&self.lineage));
        if let Some(Seeding { position, checksum, lineage }) = &self.seeding {
            let (epoch, txid) = (position.epoch, position.txid);
            let _ = writeln!(text, "seeding {epoch} {txid} {checksum}{}", terms(lineage));
        }
        let hash = hash(text.as_bytes());
        let _ = writeln!(text, "hash {hash:016x}");
        text
    }

    fn from_text(text: &str) -> Option<Self> {
        let (body, own) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let own = u64::from_str_radix(own.strip_prefix("hash ")?, 16).ok()?;
        if hash(format!("{body}\n").as_bytes()) != own {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let fence = lines.next()?.strip_prefix("fence ")?.parse().ok()?;
        let health = match lines.next()?.strip_prefix("health ")? {
            "sound" => Health::Sound,
            "diverged" => Health::Diverged,
            "quarantined" => Health::Quarantined,
            _ => return None,
        };
        let lineage = parse_terms(lines.next()?.strip_prefix("lineage")?)?;
        let seeding = match lines.next() {
            None => None,
            Some(line) => {
                let mut parts = line.strip_prefix("seeding ")?.splitn(4, ' ');
                let mut number = || parts.next()?.parse::<u64>().ok();
                let position = Position::new(number()?, number()?);
                let checksum = number()?;
                let lineage = parse_terms(parts.next().unwrap_or(""))?;
                Some(Seeding { position, checksum, lineage })
            }
        };
        Some(Self { fence, lineage, health, seeding })
    }
}

fn terms(lineage: &Lineage) -> String {
    lineage.terms().iter().fold(String::new(), |mut text, term| {
        let _ = write!(text, " {}:{}", term.epoch, term.base);
        text
    })
}

fn parse_terms(text: &str) -> Option<Lineage> {
    let term = |part: &str| {
        let (epoch, base) = part.split_once(':')?;
        Some(Term { epoch: epoch.parse().ok()?, base: base.parse().ok()? })
    };
    let terms = text.split_whitespace().map(term).collect::<Option<Vec<_>>>()?;
    Lineage::from_terms(terms).ok()
}

/// FNV-1a: against torn and mistaken bytes, not against enemies.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The folder of all metas of a node. Its calls touch the disk.
#[derive(Clone, Debug)]
pub(crate) struct MetaFolder {
    dir: PathBuf,
}

impl MetaFolder {
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// `None` if there is none.
    pub(crate) fn load(&self, id: &DatasetId) -> io::Result<Option<Meta>> {
        let bytes = match fs::read(self.path(id)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = std::str::from_utf8(&bytes).ok().and_then(Meta::from_text);
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a replica's state is damaged");
        meta.ok_or_else(damaged).map(Some)
    }

    /// Durable when it returns.
    pub(crate) fn save(&self, id: &DatasetId, meta: &Meta) -> io::Result<()> {
        replace_file(&self.path(id), meta.to_text().as_bytes())
    }

    pub(crate) fn remove(&self, id: &DatasetId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, id: &DatasetId) -> PathBuf {
        self.dir.join(file_name(id))
    }
}

/// A dataset's id as one file's name; ids have no `+`.
pub(crate) fn file_name(id: &DatasetId) -> String {
    id.as_str().replace('/', "+")
}

/// Writes beside, syncs, moves over, syncs the folder.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push("~");
    let beside = PathBuf::from(beside);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(terms: &[(u64, u64)]) -> Lineage {
        let terms = terms.iter().map(|&(epoch, base)| Term { epoch, base }).collect();
        Lineage::from_terms(terms).unwrap()
    }

    fn samples() -> [Meta; 4] {
        let seeding = Seeding {
            position: Position::new(2, 9),
            checksum: u64::MAX,
            lineage: lineage(&[(1, 0), (2, 7)]),
        };
        [
            Meta::default(),
            Meta { fence: 4, lineage: lineage(&[(1, 0)]), ..Meta::default() },
            Meta { health: Health::Diverged, ..Meta::default() },
            Meta { health: Health::Quarantined, seeding: Some(seeding), ..Meta::default() },
        ]
    }

    #[test]
    fn a_meta_survives_the_disk_and_a_changed_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let metas = MetaFolder::open(folder.path().join("replicas")).unwrap();
        let id: DatasetId = "app/main".parse().unwrap();
        assert_eq!(metas.load(&id).unwrap(), None);
        for meta in samples() {
            metas.save(&id, &meta).unwrap();
            assert_eq!(metas.load(&id).unwrap(), Some(meta.clone()));
            let text = meta.to_text();
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(Meta::from_text(&changed), None, "{changed}");
            }
        }
        metas.remove(&id).unwrap();
        assert_eq!(metas.load(&id).unwrap(), None);
    }

    #[test]
    fn the_data_tells_whether_a_seed_was_installed() {
        let [.., meta] = samples();
        let mut installed = meta.clone();
        assert!(installed.settle(Position::new(2, 9), u64::MAX));
        assert_eq!(installed.lineage, lineage(&[(1, 0), (2, 7)]));
        assert_eq!(installed.health, Health::Sound);
        let mut not = meta;
        assert!(not.settle(Position::new(1, 3), 5));
        assert_eq!(not, Meta { health: Health::Quarantined, ..Meta::default() });
    }
}
