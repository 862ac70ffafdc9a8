//! Databases from files and into files, streamed: nothing is held in memory as a whole. An import
//! is one transaction; an export is written beside its place and moved there when it is whole.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use verge_dataset::rusqlite::{Connection, OpenFlags};
use verge_services::sql::{ErrorKind, Home, SqlError, export, import};
use verge_types::{Bookmark, DatasetId};

use super::run::command_error;
use super::{Form, Report};
use crate::error::Error;
use crate::node::Node;

/// Longest import or migration; others wait for the writer meanwhile.
pub(super) const LONGEST: Duration = Duration::from_secs(3600);
/// Rows or bytes between two reports.
const REPORT_EVERY: u64 = 128;

/// What is to be imported.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) form: Form,
    pub(super) table: Option<String>,
    pub(super) replace: bool,
}

/// What `Import` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Imported {
    rows: u64,
    statements: u64,
    bookmark: String,
}

fn io(what: &str, path: &Path, error: &std::io::Error) -> SqlError {
    SqlError::new(ErrorKind::Migration, format!("cannot {what} {}: {error}", path.display()))
}

impl Node {
    pub(super) async fn import(
        &self,
        id: &DatasetId,
        source: Source,
        report: &Report,
    ) -> Result<impl Serialize + use<>, Error> {
        let database = self.existing(id).await?;
        let report = report.clone();
        let taking = move |conn: &Connection| {
            let mixes = source.form == Form::Sqlite && !source.replace;
            if mixes && !import::is_empty(conn)? {
                return Ok(None);
            }
            take(conn, &source, &report).map(Some)
        };
        let done = database.home().write_long(LONGEST, taking).await;
        let (done, position) = done.map_err(command_error)?;
        let done = done.ok_or(Error::NotEmpty)?;
        let bookmark = Bookmark::new(id, position).to_string();
        Ok(Imported { rows: done.rows, statements: done.statements, bookmark })
    }

    /// Writes a copy's content to a file; its length in bytes.
    pub(super) async fn export(
        &self,
        id: &DatasetId,
        path: &Path,
        form: Form,
        table: Option<String>,
        report: &Report,
    ) -> Result<u64, Error> {
        let database = self.existing(id).await?;
        let (path, report) = (path.to_owned(), report.clone());
        let writing = spawn_blocking(move || {
            let reader = database.home().reader()?;
            let mut unfinished = path.clone().into_os_string();
            unfinished.push(".unfinished");
            let unfinished = Unfinished(PathBuf::from(unfinished));
            let file = File::create(&unfinished.0);
            let file = file.map_err(|error| io("write", &path, &error))?;
            let mut out = Out { file: BufWriter::new(file), bytes: 0 };
            // One state, whatever is written meanwhile.
            reader.execute_batch("BEGIN")?;
            let given = give(&reader, form, table.as_deref(), &mut out, &report);
            reader.execute_batch("COMMIT")?;
            given?;
            let bytes = out.bytes;
            let ended = out.file.into_inner().map_err(std::io::IntoInnerError::into_error);
            ended
                .and_then(|file| file.sync_all())
                .and_then(|()| std::fs::rename(&unfinished.0, &path))
                .map_err(|error| io("write", &path, &error))?;
            Ok(bytes)
        });
        writing
            .await
            .map_err(|_| Error::ShuttingDown)?
            .map_err(|error: SqlError| Error::Command(error.message))
    }
}

/// A file that is removed unless it was moved to its place.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Not there if all went well.
        let _ = std::fs::remove_file(&self.0);
    }
}

struct Out {
    file: BufWriter<File>,
    bytes: u64,
}

impl Out {
    fn put(&mut self, bytes: &[u8]) -> Result<(), SqlError> {
        self.bytes += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(|error| {
            SqlError::new(ErrorKind::Dump, format!("the export cannot be written: {error}"))
        })
    }
}

fn give(
    conn: &Connection,
    form: Form,
    table: Option<&str>,
    out: &mut Out,
    report: &Report,
) -> Result<(), SqlError> {
    let mut done = 0;
    let mut step = |report: &Report| {
        done += 1;
        if done % REPORT_EVERY == 0 { report.step(done) } else { Ok(()) }
    };
    match (form, table) {
        (Form::Sqlite, _) => {
            let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            report.total(u64::try_from(pages).unwrap_or(0));
            export::pages(conn, |page| {
                step(report)?;
                out.put(page)
            })
        }
        (Form::Sql, _) => {
            report.total(export::count_rows(conn, None)?);
            export::statements(conn, |statement| {
                step(report)?;
                out.put(statement.as_bytes())?;
                out.put(b";\n")
            })
        }
        (Form::Csv, Some(table)) => {
            report.total(export::count_rows(conn, Some(table))?);
            export::to_csv(conn, table, |line| {
                step(report)?;
                out.put(line.as_bytes())
            })
        }
        (Form::Csv, None) => {
            Err(SqlError::new(ErrorKind::Dump, "a CSV file is of one table: which?"))
        }
    }
}

fn take(conn: &Connection, source: &Source, report: &Report) -> Result<import::Imported, SqlError> {
    if source.form == Form::Sqlite {
        return take_sqlite(conn, source, report);
    }
    let open = || File::open(&source.path).map_err(|error| io("read", &source.path, &error));
    let length = open()?.metadata().map_or(0, |metadata| metadata.len());
    let mut last = 0;
    let mut step = |before: u64, at: u64| {
        last += 1;
        if last % REPORT_EVERY == 0 { report.step(before + at) } else { Ok(()) }
    };
    let text = || Ok::<_, SqlError>(BufReader::with_capacity(1 << 16, open()?));
    match (source.form, &source.table) {
        (Form::Csv, Some(table)) => {
            // Read twice: for the types of the columns, then for the rows.
            report.total(length * 2);
            let columns = import::infer(text()?, &mut |at| step(0, at))?;
            let kept = format!("\"{}\"", table.replace('"', "\"\""));
            let known = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
            let there: i64 = conn.query_row(known, [table], |row| row.get(0))?;
            if source.replace && there > 0 {
                conn.execute_batch(&format!("DELETE FROM {kept}"))?;
            }
            import::csv(conn, table, &columns, text()?, &mut |at| step(length, at))
        }
        (Form::Csv, None) => {
            Err(SqlError::new(ErrorKind::Migration, "into which table should the rows go?"))
        }
        _ => {
            report.total(length);
            if source.replace {
                import::clear(conn)?;
            }
            import::sql(conn, text()?, &mut |at| step(0, at))
        }
    }
}

fn take_sqlite(
    conn: &Connection,
    source: &Source,
    report: &Report,
) -> Result<import::Imported, SqlError> {
    let refused = |why: String| SqlError::new(ErrorKind::Migration, why);
    let path = &source.path;
    let mut magic = [0; 16];
    let file = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    if file.is_err() || &magic != b"SQLite format 3\0" {
        return Err(refused(format!("{} is no SQLite file", path.display())));
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let from = Connection::open_with_flags(path, flags)?;
    // Whoever made the file may have put anything into its schema.
    from.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; BEGIN")?;
    if source.replace {
        import::clear(conn)?;
    }
    report.total(export::count_rows(&from, None)?);
    import::sqlite(conn, &from, &mut |rows| report.step(rows))
}
