//! The rolling checksum of a database: XOR over its pages of a 64-bit hash of (number, bytes).
//!
//! XOR makes it cheap to keep up to date: a changed page leaves with its old hash and enters with
//! its new one. Left out: the lock page at 1 GiB, which never holds data, and the fields of
//! page 1 that SQLite writes by itself at each commit (change counter, version-valid-for and
//! version number), since a replica's commits are fewer than its primary's.

use std::io;

use rustc_hash::FxHashMap;
use twox_hash::XxHash3_64;

use crate::disk::DiskFile;

/// Fields of page 1 that belong to the node, not to the data: `(offset, length)`.
const OWN_FIELDS: [(usize, usize); 2] = [(24, 4), (92, 8)];

/// The page that SQLite keeps free for file locks.
pub fn lock_page(page_size: u32) -> u32 {
    0x4000_0000 / page_size + 1
}

/// Hash of one page; `page` is at least 512 bytes.
pub fn page_hash(number: u32, page: &[u8]) -> u64 {
    if number != 1 {
        return XxHash3_64::oneshot_with_seed(u64::from(number), page);
    }
    let mut masked = page.to_vec();
    for (offset, len) in OWN_FIELDS {
        masked[offset..offset + len].fill(0);
    }
    XxHash3_64::oneshot_with_seed(1, &masked)
}

/// Hash of any bytes (headers, bodies, sidecars).
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}

/// Hashes of the pages that were written since the dataset was opened.
///
/// A page that is not in the table has not been written since, so the database file still holds
/// the image that the checksum counts: it is read from there, once, when it first changes.
#[derive(Default)]
pub(crate) struct PageHashes {
    known: FxHashMap<u32, u64>,
}

/// What a segment changes: the checksum after it, and the new hashes to remember.
pub(crate) struct Change {
    pub(crate) checksum: u64,
    old_pages: u32,
    new_pages: u32,
    hashes: Vec<(u32, u64)>,
}

impl PageHashes {
    /// Works out the checksum after pages with the hashes `pages` replace what was there and the
    /// size becomes `new_pages`. Changes nothing; see [`Self::commit`].
    pub(crate) fn change(
        &self,
        file: &dyn DiskFile,
        page_size: u32,
        before: u64,
        (old_pages, new_pages): (u32, u32),
        pages: impl Iterator<Item = (u32, u64)>,
    ) -> io::Result<Change> {
        let lock = lock_page(page_size);
        let mut buffer = vec![0; page_size as usize];
        let mut checksum = before;
        let mut hashes = Vec::with_capacity(pages.size_hint().0);
        for (number, new) in pages {
            if number == lock {
                continue;
            }
            if number <= old_pages {
                checksum ^= self.old(file, number, &mut buffer)?;
            }
            checksum ^= new;
            hashes.push((number, new));
        }
        for number in new_pages.saturating_add(1)..=old_pages {
            if number != lock {
                checksum ^= self.old(file, number, &mut buffer)?;
            }
        }
        Ok(Change { checksum, old_pages, new_pages, hashes })
    }

    /// Remembers a change, once it is certain.
    pub(crate) fn commit(&mut self, change: Change) {
        self.known.extend(change.hashes);
        for number in change.new_pages.saturating_add(1)..=change.old_pages {
            self.known.remove(&number);
        }
    }

    fn old(&self, file: &dyn DiskFile, number: u32, buffer: &mut [u8]) -> io::Result<u64> {
        if let Some(hash) = self.known.get(&number) {
            return Ok(*hash);
        }
        file.read_exact_at(buffer, u64::from(number - 1) * buffer.len() as u64)?;
        Ok(page_hash(number, buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_page_lies_at_one_gibibyte() {
        assert_eq!(lock_page(4096), 262_145);
        assert_eq!(lock_page(65_536), 16_385);
    }

    #[test]
    fn a_commit_counter_does_not_change_the_hash_and_data_does() {
        let mut page = vec![7; 4096];
        let before = page_hash(1, &page);
        page[24] = 9;
        page[95] = 9;
        assert_eq!(page_hash(1, &page), before);
        assert_ne!(page_hash(2, &page), before);
        page[28] = 9;
        assert_ne!(page_hash(1, &page), before);
    }
}
