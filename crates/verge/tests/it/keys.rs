//! `verge dev --pops` on a terminal: keys act, the table stays below the lines, and the terminal
//! is as before when it ends.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::harness::{PATIENCE, command, copy_of_example};

/// Both ends of a new terminal: the user's, and the program's.
fn terminal() -> (File, OwnedFd) {
    let (mut user, mut program) = (-1, -1);
    // SAFETY: fills in two descriptors, which nobody else owns; null asks for the defaults.
    let opened = unsafe {
        libc::openpty(
            &raw mut user,
            &raw mut program,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    assert_eq!(opened, 0, "no terminal can be made");
    // SAFETY: both were just opened and belong to nobody else.
    unsafe { (File::from_raw_fd(user), OwnedFd::from_raw_fd(program)) }
}

/// Whether the terminal shows what is typed and hands it over by lines.
fn is_as_usual(terminal: &File) -> bool {
    // SAFETY: a termios is plain numbers, and all zeroes are numbers.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: looks at a descriptor that is open; the pointer is to a live value.
    assert_eq!(unsafe { libc::tcgetattr(terminal.as_raw_fd(), &raw mut settings) }, 0);
    settings.c_lflag & (libc::ICANON | libc::ECHO) == libc::ICANON | libc::ECHO
}

/// What was read so far, and what comes.
struct Screen {
    text: String,
    more: mpsc::Receiver<Vec<u8>>,
}

impl Screen {
    fn shows(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.text.contains(wanted) {
            assert!(Instant::now() < deadline, "never `{wanted}` in {:?}", self.text);
            if let Ok(bytes) = self.more.recv_timeout(Duration::from_millis(100)) {
                self.text.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
    }
}

#[test]
fn keys_act_and_the_terminal_is_as_before() {
    let book = copy_of_example("guestbook");
    let (mut user, program) = terminal();
    assert!(is_as_usual(&user));
    let end = || Stdio::from(program.try_clone().expect("a descriptor"));
    let mut verge = command();
    verge
        .args(["dev", "--port", "0", "--pops", "iad,fra", "--rtt", "iad-fra=10ms"])
        .current_dir(book.path())
        .env("TERM", "xterm")
        .stdin(end())
        .stdout(end())
        .stderr(end());
    // SAFETY: between fork and exec only two system calls are made, on the child's own standard
    // input, which becomes the terminal that it is controlled by.
    unsafe {
        verge.pre_exec(|| {
            if libc::setsid() < 0 || libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = verge.spawn().expect("verge runs");
    drop((verge, program));
    let (sender, more) = mpsc::channel();
    let mut reading = user.try_clone().expect("a descriptor");
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = reading.read(&mut bytes) {
            if sender.send(bytes[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut screen = Screen { text: String::new(), more };
    screen.shows("h help  c cut a link");
    assert!(!is_as_usual(&user), "keys come one by one");
    // With two places there is one link.
    user.write_all(b"c").expect("typed");
    screen.shows("link iad - fra: cut");
    screen.shows("links         iad-fra cut");
    user.write_all(b"e").expect("typed");
    screen.shows("link iad - fra: 10ms");
    user.write_all(b"k").expect("typed");
    screen.shows("kill  1 iad 2 fra");
    user.write_all(b"2").expect("typed");
    screen.shows("fra is down");
    user.write_all(b"r2").expect("typed");
    screen.shows("fra is up");
    user.write_all(&[0x03]).expect("typed");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("waited") {
            break status;
        }
        assert!(Instant::now() < deadline, "verge does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{status}");
    assert!(is_as_usual(&user), "the terminal is as before");
    // Each table was taken away before anything else was printed.
    let lines = screen.text.matches("link iad - fra:").count();
    assert_eq!(lines, 2, "{:?}", screen.text);
}
