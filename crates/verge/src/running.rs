//! Finding the `verge dev` that runs and asking it something: the side of `verge link`,
//! `verge pop` and `verge db url`. (The other side is `dev::control`.)
//!
//! It listens on a socket in its data folder, for whoever may use that folder: one JSON order a
//! line, one JSON answer a line.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use verge_fabric::Conditions;
use verge_node::DatasetStatus;

use crate::failure::Failure;
use crate::private_file::{put, state_dir};

/// Longest path of a unix socket that every system takes, bytes.
const MAX_SOCKET_PATH: usize = 100;
/// A place may take a while to start; nothing takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where data lies beside an app.
pub const DATA: &str = ".verge/data";

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Order {
    /// The databases, and where they answer.
    Databases,
    Pops,
    Kill {
        pop: String,
    },
    Start {
        pop: String,
    },
    Links,
    Cut {
        a: String,
        b: String,
        one_way: bool,
    },
    Slow {
        a: String,
        b: String,
        condition: Condition,
    },
    Heal {
        pair: Option<(String, String)>,
    },
}

/// Changes of a link; what is not named stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    pub rtt_us: Option<u64>,
    pub jitter_us: Option<u64>,
    /// Chance of a packet to be lost, `0.0..=1.0`.
    pub loss: Option<f64>,
    /// Bytes a second.
    pub bandwidth: Option<u64>,
}

impl Condition {
    /// Of one direction; half of the round trip is its.
    pub fn change(&self, now: &mut Conditions) {
        if let Some(rtt) = self.rtt_us {
            now.delay = Duration::from_micros(rtt / 2);
        }
        if let Some(jitter) = self.jitter_us {
            now.jitter = Duration::from_micros(jitter);
        }
        if let Some(loss) = self.loss {
            now.loss = loss.clamp(0.0, 1.0);
        }
        if let Some(bandwidth) = self.bandwidth {
            now.bandwidth = Some(bandwidth.max(1));
        }
    }
}

/// One link, both directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    pub a: String,
    pub b: String,
    pub rtt_ms: f64,
    /// What it is when nobody has touched it.
    pub normal_rtt_ms: f64,
    pub jitter_ms: f64,
    pub loss: f64,
    /// Bytes a second; unlimited without.
    pub bandwidth: Option<u64>,
    pub cut: bool,
    /// Cut in one direction only: from here.
    pub cut_from: Option<String>,
    /// The two have a connection. After a cut they find out within seconds; after healing they
    /// dial again.
    pub connected: bool,
}

impl LinkState {
    pub fn is_normal(&self) -> bool {
        !self.cut
            && self.cut_from.is_none()
            && self.rtt_ms == self.normal_rtt_ms
            && self.jitter_ms == 0.0
            && self.loss == 0.0
            && self.bandwidth.is_none()
    }

    /// `cut`, or `800ms ±50ms loss 5% 56kB/s`.
    pub fn describe(&self) -> String {
        if self.cut {
            return "cut".to_owned();
        }
        let mut text = format!("{}ms", self.rtt_ms.round());
        if self.jitter_ms > 0.0 {
            text.push_str(&format!(" jitter {}ms", self.jitter_ms.round()));
        }
        if self.loss > 0.0 {
            text.push_str(&format!(" loss {}%", (self.loss * 1000.0).round() / 10.0));
        }
        if let Some(bandwidth) = self.bandwidth {
            text.push_str(&format!(" {}kB/s", bandwidth.div_ceil(1000)));
        }
        if let Some(from) = &self.cut_from {
            text.push_str(&format!(", nothing passes from {from}"));
        }
        text
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PopState {
    pub pop: String,
    pub url: String,
    pub up: bool,
    pub databases: Vec<DatasetStatus>,
}

/// A database's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseAddresses {
    pub name: String,
    pub at: Vec<DatabaseAddress>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseAddress {
    pub pop: String,
    /// For HTTP; the same with `ws` in the place of `http` is for WebSocket.
    pub url: String,
}

/// A failure as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code.to_owned(), message: failure.message, hint: failure.hint }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        const CODES: &[&str] = &["unknown_pop", "unknown_link", "no_pops", "data", "port_in_use"];
        let code = CODES.iter().find(|code| **code == refusal.code).copied();
        Self { hint: refusal.hint, ..Self::new(code.unwrap_or("refused"), refusal.message) }
    }
}

/// Where the socket of a data folder is: inside, or, where its path is too long for one, in the
/// temporary folder.
pub fn socket(data: &Path) -> PathBuf {
    let data = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    let inside = data.join("dev.sock");
    if inside.as_os_str().len() <= MAX_SOCKET_PATH {
        return inside;
    }
    let hash =
        inside.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
        });
    std::env::temp_dir().join(format!("verge-dev-{hash:016x}.sock"))
}

/// A line in this user's list of what runs, for commands that are given elsewhere. Gone when
/// dropped.
pub struct Listed(PathBuf);

impl Listed {
    /// `None` where there is no place for such a list.
    pub fn new(data: &Path) -> Option<Self> {
        let path = listed()?.join(format!("{}.json", std::process::id()));
        let data = fs::canonicalize(data).ok()?;
        put(&path, serde_json::to_vec(&data).ok()?).ok()?;
        Some(Self(path))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        // Whoever finds a line of a process that is gone removes it too.
        let _ = fs::remove_file(&self.0);
    }
}

fn listed() -> Option<PathBuf> {
    Some(state_dir()?.join("running"))
}

/// A `verge dev` that answers.
pub struct Running {
    pub data: PathBuf,
    stream: UnixStream,
}

impl Running {
    /// The one of a data folder; without one, of the app here or above, or the only one there is.
    pub fn find(data: Option<&Path>) -> Result<Self, Failure> {
        if let Some(data) = data {
            return Self::at(data).ok_or_else(|| {
                Failure::new("not_running", format!("no verge dev uses {}", data.display()))
                    .hint("start one: verge dev --pops iad,fra,nrt --data DIR")
            });
        }
        if let Ok(here) = std::env::current_dir()
            && let Some(found) = here.ancestors().find_map(|dir| Self::at(&dir.join(DATA)))
        {
            return Ok(found);
        }
        let mut all = everywhere();
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => Err(Failure::new("not_running", "no verge dev runs here")
                .hint("start one: verge dev --pops iad,fra,nrt")),
            (Some(last), false) => {
                let folders: Vec<_> =
                    all.iter().chain([&last]).map(|one| one.data.display().to_string()).collect();
                Err(Failure::new("several_running", "several verge dev run")
                    .hint(format!("say which by --data: {}", folders.join(", "))))
            }
        }
    }

    fn at(data: &Path) -> Option<Self> {
        let stream = UnixStream::connect(socket(data)).ok()?;
        Some(Self { data: data.to_owned(), stream })
    }

    /// Gives an order and waits for its answer.
    pub fn ask<T: DeserializeOwned>(&mut self, order: &Order) -> Result<T, Failure> {
        let failed = |e: &dyn std::fmt::Display| {
            Failure::new("not_running", format!("the verge dev that runs did not answer: {e}"))
        };
        self.stream.set_read_timeout(Some(PATIENCE)).map_err(|e| failed(&e))?;
        let mut line = serde_json::to_vec(order).map_err(|e| failed(&e))?;
        line.push(b'\n');
        self.stream.write_all(&line).map_err(|e| failed(&e))?;
        let mut answer = String::new();
        BufReader::new(&self.stream).read_line(&mut answer).map_err(|e| failed(&e))?;
        let answer: Result<T, Refusal> = serde_json::from_str(&answer).map_err(|e| failed(&e))?;
        Ok(answer?)
    }
}

/// All that this user's list names and that answer.
fn everywhere() -> Vec<Running> {
    let Some(entries) = listed().and_then(|dir| fs::read_dir(dir).ok()) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let data = fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
        match data.and_then(|data: PathBuf| Running::at(&data)) {
            Some(running) => found.push(running),
            // Its process was killed.
            None => drop(fs::remove_file(entry.path())),
        }
    }
    found.sort_by(|a, b| a.data.cmp(&b.data));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_lines_of_json() {
        let order = Order::Cut { a: "fra".into(), b: "nrt".into(), one_way: false };
        let text = r#"{"command":"cut","a":"fra","b":"nrt","one_way":false}"#;
        assert_eq!(serde_json::to_string(&order).unwrap(), text);
        assert_eq!(serde_json::from_str::<Order>(text).unwrap(), order);
    }

    #[test]
    fn a_link_is_described_in_one_line() {
        let mut link = LinkState {
            a: "fra".into(),
            b: "nrt".into(),
            rtt_ms: 230.4,
            normal_rtt_ms: 230.4,
            jitter_ms: 0.0,
            loss: 0.0,
            bandwidth: None,
            cut: false,
            cut_from: None,
            connected: true,
        };
        assert!(link.is_normal());
        assert_eq!(link.describe(), "230ms");
        (link.jitter_ms, link.loss, link.bandwidth) = (20.0, 0.015, Some(56_000));
        assert!(!link.is_normal());
        assert_eq!(link.describe(), "230ms jitter 20ms loss 1.5% 56kB/s");
        link.cut = true;
        assert_eq!(link.describe(), "cut");
    }
}
