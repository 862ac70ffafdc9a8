//! The keys of `verge dev --pops`: one letter says what, digits say where.

use std::io::Read;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::world::World;
use crate::failure::Failure;
use crate::running::Condition;
use crate::terminal::{Style, Terminal};

const ESCAPE: u8 = 0x1b;
/// Names for places to press; more than these have no key.
const DIGITS: &[u8] = b"123456789abcdefg";

/// What a link can be made to.
const CONDITIONS: &[(&str, Condition)] = &[
    ("100ms", rtt(100)),
    ("300ms", rtt(300)),
    ("800ms", rtt(800)),
    ("3s", rtt(3_000)),
    ("10% lost", Condition { loss: Some(0.1), ..NOTHING }),
    ("56 kB/s", Condition { bandwidth: Some(56_000), ..NOTHING }),
];
const NOTHING: Condition = Condition { rtt_us: None, jitter_us: None, loss: None, bandwidth: None };

const fn rtt(millis: u64) -> Condition {
    Condition { rtt_us: Some(millis * 1000), ..NOTHING }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Cut,
    Slow,
    Heal,
    Kill,
    Start,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    Nothing,
    Help,
    First(Act),
    Second(Act, usize),
    How(usize, usize),
}

pub struct Keys {
    world: Arc<World>,
    terminal: Terminal,
    asking: Asking,
}

impl Keys {
    pub fn new(world: Arc<World>, terminal: Terminal) -> Self {
        Self { world, terminal, asking: Asking::Nothing }
    }

    pub fn press(&mut self, key: u8) {
        self.asking = match (self.asking, key) {
            (Asking::Nothing | Asking::Help, b'c') => self.first(Act::Cut),
            (Asking::Nothing | Asking::Help, b's') => self.first(Act::Slow),
            (Asking::Nothing | Asking::Help, b'e') => self.first(Act::Heal),
            (Asking::Nothing | Asking::Help, b'k') => Asking::First(Act::Kill),
            (Asking::Nothing | Asking::Help, b'r') => Asking::First(Act::Start),
            (Asking::Nothing, b'h' | b'?') => Asking::Help,
            (Asking::Nothing | Asking::Help, _) | (_, ESCAPE | b'q') => Asking::Nothing,
            (Asking::First(Act::Heal), b'0') => {
                self.told(self.world.heal(None).map(drop));
                Asking::Nothing
            }
            (Asking::First(act), key) => match self.place(key) {
                Some(place) if matches!(act, Act::Kill | Act::Start) => {
                    self.pop(act, place);
                    Asking::Nothing
                }
                Some(place) => Asking::Second(act, place),
                None => self.asking,
            },
            (Asking::Second(act, first), key) => match self.place(key) {
                Some(second) if second != first => self.link(act, first, second),
                _ => self.asking,
            },
            (Asking::How(first, second), key) => match digit(key, CONDITIONS.len()) {
                Some(how) => {
                    let (a, b) = (self.name(first), self.name(second));
                    self.told(self.world.slow(&a, &b, CONDITIONS[how].1).map(drop));
                    Asking::Nothing
                }
                None => self.asking,
            },
        };
    }

    /// With two places there is one link, which need not be asked for.
    fn first(&mut self, act: Act) -> Asking {
        if self.world.places.len() == 2 { self.link(act, 0, 1) } else { Asking::First(act) }
    }

    fn link(&mut self, act: Act, first: usize, second: usize) -> Asking {
        let (a, b) = (self.name(first), self.name(second));
        match act {
            Act::Slow => return Asking::How(first, second),
            Act::Cut => self.told(self.world.cut(&a, &b, false).map(drop)),
            _ => self.told(self.world.heal(Some((&a, &b))).map(drop)),
        }
        Asking::Nothing
    }

    /// Takes a moment; meanwhile the keys go on.
    fn pop(&self, act: Act, place: usize) {
        let (world, terminal, name) = (self.world.clone(), self.terminal, self.name(place));
        tokio::spawn(async move {
            let done = match act {
                Act::Kill => world.kill(&name).await,
                _ => world.start(&name).await,
            };
            if let Err(failure) = done {
                terminal.failure(&failure);
            }
        });
    }

    fn told(&self, done: Result<(), Failure>) {
        if let Err(failure) = done {
            self.terminal.failure(&failure);
        }
    }

    fn place(&self, key: u8) -> Option<usize> {
        digit(key, self.world.places.len())
    }

    fn name(&self, place: usize) -> String {
        self.world.places[place].pop.to_string()
    }

    /// What the lines below the table say.
    pub fn prompt(&self) -> Vec<String> {
        let faint = |text: &str| self.terminal.paint(Style::Faint, text);
        let asked = |text: &str, choices: String| {
            vec![format!(
                "{} {choices}  {}",
                self.terminal.paint(Style::Accent, text),
                faint("Esc")
            )]
        };
        let places = |but: Option<usize>| {
            let places = self.world.places.iter().zip(DIGITS).enumerate();
            let one = |(at, (place, digit)): (usize, (&super::places::Place, &u8))| {
                (Some(at) != but).then(|| format!(" {} {}", char::from(*digit), place.pop))
            };
            places.filter_map(one).collect::<String>()
        };
        match self.asking {
            Asking::Nothing => vec![faint(
                "h help  c cut a link  s slow  e heal  k kill a place  r restart it  Ctrl-C stop",
            )],
            Asking::Help => vec![
                faint("epoch/transaction: where each copy stands. lag: how old it is at most."),
                faint("wait: writes that are held until the primary can be reached."),
                faint("c cut   nothing passes between two places; each goes on with what it has"),
                faint("s slow  a longer round trip, lost packets, a narrow line"),
                faint("e heal  a link, or all, as at the start; copies catch up"),
                faint("k kill  a place crashes; if it was primary, another takes over"),
                faint("r restart  a place that was killed, on the data it had"),
                faint("the same from another terminal: verge link --help, verge pop --help"),
            ],
            Asking::First(Act::Cut) => asked("cut the link from", places(None)),
            Asking::First(Act::Slow) => asked("slow the link from", places(None)),
            Asking::First(Act::Heal) => {
                asked("heal the link from", format!("{}  0 all", places(None)))
            }
            Asking::First(Act::Kill) => asked("kill", places(None)),
            Asking::First(Act::Start) => asked("restart", places(None)),
            Asking::Second(_, first) => {
                asked(&format!("{} to", self.name(first)), places(Some(first)))
            }
            Asking::How(first, second) => {
                let how = CONDITIONS.iter().zip(DIGITS);
                let how = how.map(|((text, _), digit)| format!(" {} {text} ", char::from(*digit)));
                let text = format!("{} - {}:", self.name(first), self.name(second));
                asked(&text, how.collect())
            }
        }
    }
}

fn digit(key: u8, most: usize) -> Option<usize> {
    let key = key.to_ascii_lowercase();
    DIGITS.iter().position(|digit| *digit == key).filter(|at| *at < most)
}

/// The terminal's own settings, while keys come one by one.
static SETTINGS: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Keys come one by one while this is kept.
pub struct Unbuffered;

impl Unbuffered {
    /// Lets keys come one by one, unseen. `None` where nobody sits at a terminal.
    pub fn begin() -> Option<(Self, mpsc::UnboundedReceiver<u8>)> {
        // SAFETY: a termios is plain numbers, and all zeroes are numbers.
        let mut settings: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the calls look at and set attributes of this process's own standard input; the
        // pointers are to a live value.
        let known = unsafe {
            // A process in the background would be stopped for touching the terminal.
            libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp()
                && libc::tcgetattr(libc::STDIN_FILENO, &raw mut settings) == 0
        };
        if !known {
            return None;
        }
        let own = settings;
        settings.c_lflag &= !(libc::ICANON | libc::ECHO);
        settings.c_cc[libc::VMIN] = 1;
        settings.c_cc[libc::VTIME] = 0;
        // SAFETY: as above.
        if unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const settings) } != 0 {
            return None;
        }
        *SETTINGS.lock() = Some(own);
        let (sender, keys) = mpsc::unbounded_channel();
        // Reads until the terminal is gone; ends with the process.
        std::thread::spawn(move || {
            let mut byte = [0];
            while let Ok(1) = std::io::stdin().lock().read(&mut byte) {
                if sender.send(byte[0]).is_err() {
                    return;
                }
            }
        });
        Some((Self, keys))
    }
}

impl Drop for Unbuffered {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal's own settings back; for whoever ends the process at once.
pub fn restore() {
    if let Some(own) = SETTINGS.lock().take() {
        // SAFETY: sets attributes of this process's own standard input from a live value.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const own) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_name_what_is_there() {
        assert_eq!(digit(b'1', 3), Some(0));
        assert_eq!(digit(b'3', 3), Some(2));
        assert_eq!(digit(b'4', 3), None);
        assert_eq!(digit(b'A', 16), Some(9));
        assert_eq!(digit(b'0', 16), None);
    }
}
