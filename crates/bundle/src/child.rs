//! One child process that never outlives its build: bounded in time and output, ended when the
//! build is cancelled or dropped.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::diagnostic::BuildError;

/// Most bytes of a child's output that are kept.
const MAX_OUTPUT: usize = 4 * 1024 * 1024;

/// How often a running child is checked against its deadline and the canceller.
const TICK: Duration = Duration::from_millis(10);

pub struct Finished {
    pub status: ExitStatus,
    /// Standard error (and standard output, where both were asked for).
    pub output: String,
}

/// Ends the whole process group when dropped before it was waited for.
struct Guard(Option<Child>);

impl Guard {
    fn end(&mut self) {
        if let Some(mut child) = self.0.take() {
            let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(group) = group {
                // It may have ended by itself; then there is nothing to end.
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = child.wait();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs `command` to its end. Its standard output is read along only with `with_stdout`.
pub fn run(
    mut command: Command,
    what: &str,
    program: &Path,
    limit: Duration,
    cancelled: &Arc<AtomicBool>,
    with_stdout: bool,
) -> Result<Finished, BuildError> {
    command
        .stdin(Stdio::null())
        .stdout(if with_stdout { Stdio::piped() } else { Stdio::null() })
        .stderr(Stdio::piped())
        // Its own group: Ctrl-C reaches us alone, and we end all of it.
        .process_group(0);
    let deadline = Instant::now() + limit;
    let child = command.spawn().map_err(|source| BuildError::Io {
        doing: "run",
        path: program.to_owned(),
        source,
    })?;
    let mut guard = Guard(Some(child));
    let (send, receive) = mpsc::channel();
    let mut readers = 0;
    if let Some(child) = guard.0.as_mut() {
        let pipes: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
            child.stderr.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
        ];
        for pipe in pipes.into_iter().flatten() {
            let send = send.clone();
            readers += 1;
            std::thread::spawn(move || {
                let _ = send.send(read_bounded(pipe));
            });
        }
    }
    drop(send);
    let mut output = Vec::new();
    while readers > 0 {
        if cancelled.load(Ordering::Acquire) {
            guard.end();
            return Err(BuildError::Cancelled);
        }
        if Instant::now() >= deadline {
            guard.end();
            return Err(BuildError::TimedOut { what: what.into(), seconds: limit.as_secs() });
        }
        match receive.recv_timeout(TICK) {
            Ok(bytes) => {
                output.extend(bytes);
                readers -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    loop {
        let Some(child) = guard.0.as_mut() else { return Err(BuildError::Cancelled) };
        let status = child.try_wait().map_err(|source| BuildError::Io {
            doing: "wait for",
            path: program.to_owned(),
            source,
        })?;
        if let Some(status) = status {
            guard.0 = None;
            let output = String::from_utf8_lossy(&output).into_owned();
            return Ok(Finished { status, output });
        }
        if cancelled.load(Ordering::Acquire) {
            guard.end();
            return Err(BuildError::Cancelled);
        }
        if Instant::now() >= deadline {
            guard.end();
            return Err(BuildError::TimedOut { what: what.into(), seconds: limit.as_secs() });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Keeps the first `MAX_OUTPUT` bytes and reads the rest away, so that the child never blocks.
fn read_bounded(mut pipe: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0u8; 8192];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return kept,
            Ok(n) => {
                let room = MAX_OUTPUT - kept.len();
                kept.extend_from_slice(&buffer[..n.min(room)]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}
