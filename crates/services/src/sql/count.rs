//! How `rows_read` and `rows_written` are counted on stock SQLite.
//!
//! D1 runs a SQLite with two more counters. Here, SQLite's own counters of cursor steps
//! (`sqlite3_stmt_status`: full-scan steps, and number 0, which takes all other steps) are
//! completed by what the statement's program shows: a scan's first row is found by a seek, not
//! by a step, so each seek outside of a loop is one row more; an inserted or updated row writes
//! one more for each index entry the program inserts beside it.
//!
//! Exact for look-ups, scans of one table and plain writes. For joins it is a lower bound: the
//! first row of each inner scan is not counted. `count(*)` without a condition counts one.

use rusqlite::Connection;

use super::raw::Statement;
use super::value::ValueRef;

/// Longest program looked at, in instructions.
const MAX_PROGRAM: usize = 25_000;
/// SQLite's flag of an instruction that counts as a change.
const NCHANGE: i64 = 1;

/// What a statement's program says about its counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Seeks that run once: each finds one row.
    starts: u64,
    /// Instructions that write a row that is counted as a change.
    rows: u64,
    /// Instructions that write an index entry.
    entries: u64,
    /// Instructions that write a row of the schema.
    schema_rows: u64,
}

struct Instruction {
    opcode: String,
    p1: i64,
    p2: i64,
    p5: i64,
}

impl Shape {
    /// Reads the program that SQLite makes of `sql`.
    pub(crate) fn of(conn: &Connection, sql: &str) -> Self {
        let explain = format!("EXPLAIN {sql}");
        match Statement::prepare(conn, &explain, false) {
            Ok(Some((statement, _))) => Self::from_program(&program(statement)),
            _ => Self::default(),
        }
    }

    fn from_program(program: &[Instruction]) -> Self {
        let mut shape = Self::default();
        let mut stored = rustc_hash::FxHashSet::default();
        let loops: Vec<_> = program
            .iter()
            .enumerate()
            .filter(|(_, i)| matches!(&*i.opcode, "Next" | "Prev" | "VNext"))
            .map(|(at, i)| (i.p2.max(0) as usize, at))
            .collect();
        for (at, instruction) in program.iter().enumerate() {
            let once = !loops.iter().any(|(from, to)| (*from..*to).contains(&at));
            match &*instruction.opcode {
                "OpenRead" | "OpenWrite" | "ReopenIdx" | "VOpen" => {
                    stored.insert(instruction.p1);
                }
                "Rewind" | "Last" | "SeekGE" | "SeekGT" | "SeekLE" | "SeekLT" | "SeekRowid"
                | "NotExists" | "Count" | "VFilter"
                    if once && stored.contains(&instruction.p1) =>
                {
                    shape.starts += 1;
                }
                "Insert" if stored.contains(&instruction.p1) => {
                    if instruction.p5 & NCHANGE != 0 {
                        shape.rows += 1;
                    } else {
                        shape.schema_rows += 1;
                    }
                }
                "IdxInsert" if stored.contains(&instruction.p1) => shape.entries += 1,
                _ => {}
            }
        }
        shape
    }

    /// Rows read, of a run whose cursors made so many steps.
    pub(crate) fn rows_read(&self, steps: u64) -> u64 {
        steps + self.starts
    }

    /// Rows written, of a run that changed so many rows itself and so many with its triggers.
    pub(crate) fn rows_written(&self, direct: u64, total: u64) -> u64 {
        if total == 0 {
            return self.schema_rows;
        }
        let entries = if self.rows == 0 {
            // A table without rowid is written through its index alone.
            0
        } else {
            direct * self.entries / self.rows
        };
        total + entries
    }
}

fn program(mut statement: Statement) -> Vec<Instruction> {
    let mut program: Vec<Instruction> = Vec::new();
    while statement.step() == rusqlite::ffi::SQLITE_ROW && program.len() < MAX_PROGRAM {
        let number = |index| match statement.value(index) {
            Ok(ValueRef::Integer(number)) => number,
            _ => 0,
        };
        // Programs of triggers follow the statement's own, counted from 0 again.
        if number(0) as usize != program.len() {
            break;
        }
        let opcode = match statement.value(1) {
            Ok(ValueRef::Text(opcode)) => opcode.to_owned(),
            _ => String::new(),
        };
        program.push(Instruction { opcode, p1: number(2), p2: number(3), p5: number(6) });
    }
    program
}
