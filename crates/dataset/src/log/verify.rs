//! Reads a log through.

use std::sync::Arc;

use verge_types::Position;

use super::{LogIndex, LogReader};
use crate::error::Error;

impl LogIndex {
    /// How many segments after `after` and until `end` hold, each going on where the one before it
    /// ends. What retention removes meanwhile is no damage: reading goes on behind it.
    ///
    /// # Errors
    /// `Corrupt` at the first that does not hold, or where a file is missing.
    pub(crate) fn verify(
        self: &Arc<Self>,
        mut after: Position,
        end: Position,
    ) -> Result<u64, Error> {
        let mut count = 0;
        while let Err(error) = self.verify_kept(&mut after, end, &mut count) {
            if !matches!(error, Error::NeedSnapshot { .. }) {
                return Err(error);
            }
            // Retention moves the base before it removes files.
            let base = self.base();
            if base.txid <= after.txid {
                let why = format!("the file with the segment after {after} is missing");
                return Err(Error::corrupt("the log", why));
            }
            after = base;
        }
        Ok(count)
    }

    /// The same until retention passes it by, with what was read until then.
    fn verify_kept(
        self: &Arc<Self>,
        after: &mut Position,
        end: Position,
        count: &mut u64,
    ) -> Result<(), Error> {
        if after.txid >= end.txid {
            return Ok(());
        }
        let mut reader = LogReader::new(self.clone(), *after)?;
        let mut before = None;
        while after.txid < end.txid
            && let Some((header, bytes)) = reader.next_segment()?
        {
            if header.is_large() {
                // Only its record's hash was checked.
                reader.stored(&header, &bytes)?.each_page(|_, _| Ok(()))?;
            }
            if before.is_some_and(|before| before != header.checksum_before) {
                let why = format!("the checksums before and after {} differ", header.position);
                return Err(Error::corrupt("the log", why));
            }
            before = Some(header.checksum_after);
            *after = header.position;
            *count += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::{CreateOptions, Dataset, Settings, Store, StoreConfig};

    async fn insert(dataset: &Dataset, rows: u64) {
        for _ in 0..rows {
            let insert =
                |db: &Connection| db.execute_batch("INSERT INTO t VALUES (zeroblob(2000))");
            dataset.write(insert).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_retention_removes_meanwhile_is_no_damage_and_a_missing_file_is() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            log_file_bytes: 16 << 10,
            max_log_bytes: 64 << 10,
            checkpoint_bytes: 16 << 10,
            compression: crate::Compression::None,
            ..Settings::default()
        };
        let config = StoreConfig { settings, ..StoreConfig::new(folder.path()) };
        let store = Store::open(config).unwrap();
        let dataset = store.create(&"d".parse().unwrap(), CreateOptions::default()).unwrap();
        dataset.write(|db: &Connection| db.execute_batch("CREATE TABLE t(x)")).await.unwrap();
        insert(&dataset, 10).await;
        let log = dataset.shared.log_index.lock().clone();
        let old = log.base();
        insert(&dataset, 60).await;
        assert!(log.base().txid > old.txid + 10, "nothing was removed");
        let (base, end) = (log.base(), dataset.position());
        assert_eq!(log.verify(old, end).unwrap(), end.txid - base.txid);
        assert_eq!(log.verify(old, base).unwrap(), 0, "all of it was removed");

        let first = log.files.lock().list[0].first;
        std::fs::remove_file(log.path(first)).unwrap();
        let missing = log.verify(old, end).unwrap_err();
        assert!(matches!(missing, Error::Corrupt { .. }), "{missing}");
    }
}
