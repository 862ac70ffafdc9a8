//! The empty database every dataset begins with: position txid 0, the same bytes on every node.

/// Written into page 1 as the version of the library that wrote it last. A constant, so that all
/// nodes agree on the bytes whatever they are built with.
const WRITTEN_BY: u32 = 3_051_003;

/// Page sizes SQLite knows: powers of two from 512 to 65,536.
pub(crate) fn is_page_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (512..=65_536).contains(&bytes)
}

/// Page 1 of a database without tables, in WAL mode.
pub(crate) fn page(page_size: u32) -> Vec<u8> {
    let mut page = vec![0; page_size as usize];
    let mut put = |offset: usize, bytes: &[u8]| {
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    let be = u32::to_be_bytes;
    put(0, b"SQLite format 3\0");
    // 65,536 does not fit in two bytes and is written as 1, here and for the content's start as 0.
    let short = u16::try_from(page_size).unwrap_or(1);
    put(16, &short.to_be_bytes());
    put(18, &[2, 2, 0, 64, 32, 32]);
    put(24, &be(1));
    put(28, &be(1));
    put(44, &be(4));
    put(56, &be(1));
    put(92, &be(1));
    put(96, &be(WRITTEN_BY));
    put(100, &[13]);
    put(105, &u16::try_from(page_size).unwrap_or(0).to_be_bytes());
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlite_takes_it_as_an_empty_database_in_wal_mode() {
        for size in [512, 4096, 65_536] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("db");
            std::fs::write(&path, page(size)).unwrap();
            let db = rusqlite::Connection::open(&path).unwrap();
            let text = |sql| db.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
            assert_eq!(text("PRAGMA integrity_check"), "ok");
            assert_eq!(text("PRAGMA journal_mode"), "wal");
            let number = |sql| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(number("PRAGMA page_size"), i64::from(size));
            db.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES (1)").unwrap();
            assert_eq!(text("PRAGMA integrity_check"), "ok");
        }
    }
}
