//! Lines on their way to the terminal, or to whoever reads the pipe.
//!
//! A command that answers requests meanwhile must not wait for its reader: a terminal that was
//! stopped (Ctrl-S), or a pipe that nobody empties, would stop all that it serves. It prints from a
//! thread of its own then, and leaves lines out, counted, where too many wait.

use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;

/// Lines that may wait for their reader.
const MAX_WAITING: usize = 4096;

/// What is printed.
#[derive(Debug)]
pub enum Item {
    /// On standard output.
    Line(String),
    /// On standard error.
    Complaint(String),
    /// Lines that stay below everything else from now on, in the place of others.
    Footer(Vec<String>),
    /// Answered once all before it is printed.
    Done(SyncSender<()>),
}

/// What says how many lines were left out.
type LeftOut = fn(u64) -> String;

struct Printer {
    queue: SyncSender<Item>,
    /// Left out and not told of yet.
    left_out: AtomicU64,
}

static PRINTER: OnceLock<Printer> = OnceLock::new();

/// Lines that stay below everything else that is printed.
static FOOTER: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Prints without waiting for the reader from now on.
pub fn detach(left_out: LeftOut) {
    let (queue, items) = sync_channel(MAX_WAITING);
    let print = move || print_all(&items, left_out);
    // Without a thread it is printed as before.
    if std::thread::Builder::new().name("printer".to_owned()).spawn(print).is_ok() {
        let _ = PRINTER.set(Printer { queue, left_out: AtomicU64::new(0) });
    }
}

/// Waits, a while, until everything is printed.
pub fn settle(patience: Duration) {
    let Some(printer) = PRINTER.get() else { return };
    let (done, all) = sync_channel(1);
    if printer.queue.try_send(Item::Done(done)).is_ok() {
        let _ = all.recv_timeout(patience);
    }
}

pub fn print(item: Item) {
    let Some(printer) = PRINTER.get() else { return put(item) };
    match printer.queue.try_send(item) {
        Ok(()) => {}
        // The next one says the same, or more.
        Err(TrySendError::Full(Item::Footer(_) | Item::Done(_))) => {}
        Err(TrySendError::Full(Item::Line(_) | Item::Complaint(_))) => {
            printer.left_out.fetch_add(1, Ordering::Relaxed);
        }
        Err(TrySendError::Disconnected(item)) => put(item),
    }
}

fn print_all(items: &Receiver<Item>, left_out: LeftOut) {
    for item in items {
        put(item);
        let count = PRINTER.get().map_or(0, |p| p.left_out.swap(0, Ordering::Relaxed));
        if count > 0 {
            put(Item::Line(left_out(count)));
        }
    }
}

/// Above the footer, if there is one. A reader that went away has read enough.
fn put(item: Item) {
    let mut footer = FOOTER.lock();
    let _ = match item {
        Item::Line(text) => line(&mut std::io::stdout().lock(), &text, &footer),
        Item::Complaint(text) => line(&mut std::io::stderr().lock(), &text, &footer),
        Item::Footer(lines) if lines == *footer => Ok(()),
        Item::Footer(lines) => {
            let mut out = std::io::stdout().lock();
            let drawn =
                write!(out, "{}{}", erase(&footer), draw(&lines)).and_then(|()| out.flush());
            *footer = lines;
            drawn
        }
        Item::Done(told) => {
            let _ = told.send(());
            Ok(())
        }
    };
}

fn line(stream: &mut dyn Write, text: &str, footer: &[String]) -> std::io::Result<()> {
    write!(stream, "{}{text}\n{}", erase(footer), draw(footer))?;
    stream.flush()
}

/// Takes the footer's lines away: the cursor stands below them.
fn erase(lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("\u{1b}[{}A\u{1b}[J", lines.len()) }
}

/// Lines that the terminal cuts at its edge, so that each stays one.
fn draw(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("\u{1b}[?7l{}\n\u{1b}[?7h", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_is_erased_by_as_many_lines_as_it_has() {
        let lines = ["one".to_owned(), "two".to_owned()];
        assert_eq!(draw(&lines), "\u{1b}[?7lone\ntwo\n\u{1b}[?7h");
        assert_eq!(erase(&lines), "\u{1b}[2A\u{1b}[J");
        assert_eq!((draw(&[]), erase(&[])), (String::new(), String::new()));
    }
}
