//! What clients do, as SQL on real tables.

use verge_dataset::rusqlite::{Connection, Error, OptionalExtension};
use verge_dataset::{lock_page, page_hash};

use crate::content::{ACCOUNTS, Content, EACH, LISTS, Write};

const SCHEMA: &str = "
    CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0));
    CREATE TABLE entry(list INTEGER, number INTEGER, op INTEGER NOT NULL UNIQUE,
        PRIMARY KEY(list, number)) WITHOUT ROWID;
    CREATE TABLE last(list INTEGER PRIMARY KEY, op INTEGER NOT NULL);
    CREATE TABLE pad(op INTEGER PRIMARY KEY, bytes BLOB);
    CREATE INDEX entry_op ON entry(op);";

/// Why a client's transaction was rolled back.
#[derive(Debug)]
pub enum Rolled {
    TooLittle,
    Sql(Error),
}

impl From<Error> for Rolled {
    fn from(error: Error) -> Self {
        Self::Sql(error)
    }
}

fn has_schema(db: &Connection) -> Result<bool, Error> {
    let mut look = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'account'")?;
    look.exists([])
}

/// One client's transaction.
pub fn run(db: &Connection, write: &Write) -> Result<(), Rolled> {
    if !has_schema(db)? {
        db.execute_batch(SCHEMA)?;
        for id in 0..ACCOUNTS {
            db.execute("INSERT INTO account VALUES (?1, ?2)", (id, EACH))?;
        }
    }
    let taken = db
        .prepare_cached(
            "UPDATE account SET balance = balance - ?2 WHERE id = ?1 AND balance >= ?2",
        )?
        .execute((write.from, write.amount))?;
    if taken == 0 || write.from == write.to {
        return Err(Rolled::TooLittle);
    }
    db.prepare_cached("UPDATE account SET balance = balance + ?2 WHERE id = ?1")?
        .execute((write.to, write.amount))?;
    db.prepare_cached(
        "INSERT INTO entry SELECT ?1, coalesce(max(number), 0) + 1, ?2 FROM entry WHERE list = ?1",
    )?
    .execute((write.list, write.op))?;
    db.prepare_cached("INSERT OR REPLACE INTO last VALUES (?1, ?2)")?
        .execute((write.list, write.op))?;
    // Some weight, so that pages are taken and freed.
    let weight = u64::from(write.op).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = weight.to_le_bytes().repeat((weight >> 57) as usize);
    db.prepare_cached("INSERT OR REPLACE INTO pad(op, bytes) VALUES (?1, ?2)")?
        .execute((write.op, bytes))?;
    db.prepare_cached("DELETE FROM pad WHERE op < ?1 - 12")?.execute([write.op])?;
    Ok(())
}

/// Things that owners do to their databases; clients' content stays.
pub fn upkeep(db: &Connection, kind: u64) -> Result<(), Rolled> {
    if !has_schema(db)? {
        return Err(Rolled::TooLittle);
    }
    let columns: u32 =
        db.query_row("SELECT count(*) FROM pragma_table_info('pad')", [], |row| row.get(0))?;
    match kind {
        0 => db.execute_batch("DELETE FROM pad")?,
        1 if columns < 8 => {
            let text = format!("ALTER TABLE pad ADD COLUMN c{columns} DEFAULT 'none'");
            db.execute_batch(&text)?;
        }
        1 => return Err(Rolled::TooLittle),
        2 => {
            db.execute_batch("DROP INDEX IF EXISTS entry_op; CREATE INDEX entry_op ON entry(op)")?
        }
        _ => {
            db.execute_batch("INSERT OR REPLACE INTO pad(op, bytes) VALUES (0, zeroblob(20000))")?
        }
    }
    Ok(())
}

/// All that clients see, in one read transaction; what contradicts itself is an error.
pub fn content(db: &Connection) -> Result<Result<Content, String>, Error> {
    // A steady reader may be in one already.
    if !db.is_autocommit() {
        return look(db);
    }
    db.execute_batch("BEGIN")?;
    let content = look(db);
    db.execute_batch("COMMIT")?;
    content
}

fn look(db: &Connection) -> Result<Result<Content, String>, Error> {
    if !has_schema(db)? {
        return Ok(Ok(Content::default()));
    }
    let mut content = Content::default();
    let mut balances = db.prepare_cached("SELECT balance FROM account ORDER BY id")?;
    content.balances = balances.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut entries = db.prepare_cached("SELECT op FROM entry WHERE list = ?1 ORDER BY number")?;
    let mut last = db.prepare_cached("SELECT op FROM last WHERE list = ?1")?;
    for list in 0..LISTS {
        let ops: Vec<u32> =
            entries.query_map([list], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let key: Option<u32> = last.query_row([list], |row| row.get(0)).optional()?;
        if key.as_ref() != ops.last() {
            return Ok(Err(format!("the last of list {list} is {key:?}, and it is {ops:?}")));
        }
        content.lists[list as usize] = ops;
    }
    Ok(Ok(content))
}

/// The checksum of all pages, from the pages.
pub fn page_checksum(db: &Connection, page_size: u32) -> Result<u64, Error> {
    let mut all = db.prepare_cached("SELECT pgno, data FROM sqlite_dbpage WHERE pgno <> ?1")?;
    let rows = all.query_map([lock_page(page_size)], |row| {
        Ok(page_hash(row.get(0)?, row.get_ref(1)?.as_blob()?))
    })?;
    rows.into_iter().try_fold(0, |sum, hash| Ok(sum ^ hash?))
}

/// SQLite's own opinion of the file.
pub fn integrity(db: &Connection) -> Result<String, Error> {
    db.query_row("PRAGMA integrity_check", [], |row| row.get(0))
}
