//! The shell, piped and at a terminal; and what is only shown at a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::super::harness::{PATIENCE, command, stderr, stdout, write};
use super::{db_with_input, ok, rows, shop};

#[test]
fn what_is_piped_in_runs_statement_by_statement() {
    let dir = shop();
    let dir = dir.path();
    let input = "CREATE TABLE t (a INTEGER,\n  b TEXT);\nINSERT INTO t VALUES (1, 'x;y'), (2, NULL);\n\
        .mode csv\nSELECT * FROM t;\n.mode json\nSELECT * FROM t WHERE a = 1;\n.mode line\n\
        SELECT a, b AS text FROM t;\n.tables\n.schema t\n.mode table\nSELECT a FROM t\n";
    let output = db_with_input(dir, &["shell", "--quiet"], input);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(
        stdout(&output),
        "a,b\n1,x;y\n2,\n[{\"a\":1,\"b\":\"x;y\"}]\n   a = 1\ntext = x;y\n\n   a = 2\ntext = NULL\n\
         t\nCREATE TABLE t (a INTEGER,\n  b TEXT);\na\n-\n1\n2\n"
    );
    let input =
        "INSERT INTO t VALUES (3, '');\nSELECT nope\nFROM t;\nINSERT INTO t VALUES (4, '');\n";
    let output = db_with_input(dir, &["shell", "DB"], input);
    assert_eq!(output.status.code(), Some(1));
    let error = stderr(&output);
    assert!(error.contains("no such column: nope") && error.contains("line 2"), "{error}");
    assert_eq!(rows(dir, "SELECT max(a) AS a FROM t")[0]["a"], 3, "the error ended it");
    let output = db_with_input(dir, &["shell"], ".nothing\n");
    assert!(stderr(&output).contains(".help lists the commands"), "{}", stderr(&output));
}

/// A command at a terminal of its own.
struct Terminal {
    child: Child,
    hand: File,
    seen: String,
    more: mpsc::Receiver<Vec<u8>>,
}

impl Terminal {
    fn run(dir: &Path, arguments: &[&str]) -> Self {
        let (mut ours, mut theirs) = (0, 0);
        let size = libc::winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the out-pointers live through the call; both descriptors are owned below.
        let (ours, theirs) = unsafe {
            let null = std::ptr::null_mut();
            let made = libc::openpty(
                &raw mut ours,
                &raw mut theirs,
                null,
                std::ptr::null_mut(),
                &raw const size as *mut _,
            );
            assert_eq!(made, 0);
            (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
        };
        let end = || Stdio::from(theirs.try_clone().expect("cloned"));
        let child = command()
            .current_dir(dir)
            .env("TERM", "xterm")
            .env("XDG_STATE_HOME", dir.join("state"))
            .arg("db")
            .args(arguments)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("verge runs");
        let hand = File::from(ours);
        let mut eyes = hand.try_clone().expect("cloned");
        let (tell, more) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with the child's side of the terminal.
            while let Ok(count @ 1..) = eyes.read(&mut bytes) {
                if tell.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, hand, seen: String::new(), more }
    }

    fn types(&mut self, text: &str) {
        self.hand.write_all(text.as_bytes()).expect("typed");
    }

    #[track_caller]
    fn until(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.more.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {text:?} in {:?}", self.seen),
            }
        }
        let end = self.seen.find(text).expect("found") + text.len();
        self.seen.drain(..end);
    }

    fn ends(mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn at_a_terminal_statements_span_lines_and_errors_end_nothing() {
    let dir = shop();
    let mut terminal = Terminal::run(dir.path(), &["shell"]);
    terminal.until("shop> ");
    terminal.types("CREATE TABLE people\r");
    terminal.types("  (name TEXT);\r");
    terminal.until("done");
    terminal.types("SELECT nope FROM people;\r");
    terminal.until("no such column: nope");
    terminal.types("INSERT INTO peo\t VALUES ('Ada');\r");
    terminal.until("1 row changed");
    terminal.types("SELECT name FROM people;\r");
    terminal.until("Ada");
    terminal.until("1 row");
    terminal.types(".quit\r");
    assert_eq!(terminal.ends(), Some(0));
    let history = std::fs::read_to_string(dir.path().join("state/verge/sql_history"));
    assert!(history.expect("a history").contains("SELECT name FROM people;"));
}

#[test]
fn what_cannot_be_undone_is_asked_at_a_terminal() {
    let dir = shop();
    ok(dir.path(), &["execute", "-c", "CREATE TABLE t (a)"]);
    for (answer, code) in [("\r", 1), ("n\r", 1), ("yes\r", 0)] {
        let mut terminal = Terminal::run(dir.path(), &["delete", "DB"]);
        terminal.until("delete the database shop");
        terminal.until("? [y/N] ");
        terminal.types(answer);
        assert_eq!(terminal.ends(), Some(code), "{answer:?}");
    }
}

#[test]
fn progress_is_shown_at_a_terminal_only() {
    let dir = shop();
    let root = dir.path();
    let mut text = String::from("CREATE TABLE t (a, b);\n");
    for n in 0..200_000 {
        text.push_str(&format!("INSERT INTO t VALUES ({n}, 'some text');\n"));
    }
    write(&root.join("large.sql"), &text);
    let mut terminal = Terminal::run(root, &["import", "DB", "large.sql"]);
    terminal.until("importing [");
    terminal.until("%");
    terminal.until("imported 200000 rows into shop");
    assert_eq!(terminal.ends(), Some(0));
    let output = command().current_dir(root).args(["db", "export", "DB", "x.sql"]).output();
    let output = output.expect("verge runs");
    assert_eq!(stderr(&output), "", "a pipe shows no bar");
}
