//! The parent's side: processes that it starts, kills, pauses, cuts from each other, and asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::process::{APP, CHILD, Orders, SEEN};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// A client's own patience: a paused process does not answer.
const CLIENT_PATIENCE: Duration = Duration::from_secs(8);

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub seen: Option<String>,
    pub body: String,
}

/// One request on a connection of its own. `None`: it may have arrived, and nobody answered.
pub fn ask(to: SocketAddr, method: &str, path: &str, seen: &str, body: &str) -> Asked {
    let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) else {
        return Asked::NotSent;
    };
    let _ = stream.set_read_timeout(Some(CLIENT_PATIENCE));
    let seen = if seen.is_empty() { String::new() } else { format!("{SEEN}: {seen}\r\n") };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: bank\r\nconnection: close\r\n{seen}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut text = String::new();
    if stream.write_all(request.as_bytes()).is_err() || stream.read_to_string(&mut text).is_err() {
        return Asked::NoAnswer;
    }
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Asked::NoAnswer };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let seen = head.lines().find_map(|line| line.strip_prefix(&format!("{SEEN}: ")));
    match status {
        Some(status) => {
            Asked::Answered(Answer { status, seen: seen.map(str::to_owned), body: body.to_owned() })
        }
        None => Asked::NoAnswer,
    }
}

#[derive(Clone, Debug)]
pub enum Asked {
    Answered(Answer),
    /// Certainly not begun.
    NotSent,
    /// May have been carried out.
    NoAnswer,
}

struct Running {
    child: Child,
    http: SocketAddr,
}

/// One node's place; its process comes and goes.
pub struct Place {
    orders: Orders,
    /// Its folder is a file system of this size, MiB, that lives as long as the process.
    small: Option<u32>,
    running: Mutex<Option<Running>>,
    log: PathBuf,
}

impl Place {
    pub fn name(&self) -> &str {
        &self.orders.name
    }

    pub fn http(&self) -> Option<SocketAddr> {
        self.running.lock().unwrap().as_ref().map(|running| running.http)
    }

    /// Starts the process and waits until it serves.
    pub fn start(&self) {
        let exe = std::env::current_exe().unwrap();
        let test = ["faults::process::child_is_a_node", "--exact", "--nocapture"];
        let mut command = match self.small {
            None => Process::new(exe),
            Some(mib) => {
                let mut command = Process::new("unshare");
                let script = format!(
                    "mount -t tmpfs -o size={mib}m small \"$FOLDER\" && exec \"$0\" \"$@\""
                );
                command.args(["--mount", "sh", "-c", &script]).arg(exe);
                command.env("FOLDER", &self.orders.folder);
                command
            }
        };
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut child = command
            .args(test)
            .env(CHILD, serde_json::to_string(&self.orders).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.ok()?.strip_prefix("ready ")?.parse().ok());
        // The test harness in the process says more later, and dies if nobody takes it.
        std::thread::spawn(move || lines.for_each(drop));
        let Some(http) = ready else {
            let _ = child.wait();
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            panic!("{} did not start:\n{log}", self.name());
        };
        *self.running.lock().unwrap() = Some(Running { child, http });
    }

    pub fn kill(&self) {
        if let Some(mut running) = self.running.lock().unwrap().take() {
            running.child.kill().unwrap();
            running.child.wait().unwrap();
        }
    }

    /// `STOP` or `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = self.running.lock().unwrap().as_ref().map(|running| running.child.id());
        let Some(pid) = pid else { return };
        let sent = Process::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        assert!(sent.unwrap().success());
    }

    pub fn post(&self, path: &str, body: &str) -> Option<Answer> {
        match ask(self.http()?, "POST", path, "", body) {
            Asked::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    fn control(&self, command: &str) -> Option<serde_json::Value> {
        let answer = self.post("/control", &command.replace("APP", APP))?;
        if answer.status != 200 {
            return None;
        }
        serde_json::from_str(&answer.body).ok()
    }

    pub fn info(&self) -> Option<serde_json::Value> {
        self.control(r#"{"command": "info", "dataset": "APP"}"#)
    }

    pub fn verify(&self) -> serde_json::Value {
        self.control(r#"{"command": "verify-here", "dataset": "APP"}"#).unwrap()
    }

    pub fn is_primary(&self) -> bool {
        self.info().is_some_and(|info| info["role"] == "primary")
    }
}

/// Three processes, and a folder that outlives them.
pub struct Fleet {
    pub places: Vec<Place>,
    folder: Option<tempfile::TempDir>,
}

impl Fleet {
    /// Of nodes by name; those with a number have a small disk of their own.
    pub fn start(names: &[(&str, Option<u32>)], quorum: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Fixed, since the others must find a process that comes back.
        let ports: Vec<_> =
            names.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let nodes: Vec<_> = names
            .iter()
            .zip(&ports)
            .map(|((name, _), port)| ((*name).to_owned(), port.local_addr().unwrap().to_string()))
            .collect();
        drop(ports);
        let place = |(name, small): &(&str, Option<u32>)| {
            let data = folder.path().join(name);
            std::fs::create_dir_all(&data).unwrap();
            let orders = Orders {
                name: (*name).to_owned(),
                folder: data,
                leases: folder.path().join("leases"),
                nodes: nodes.clone(),
                quorum,
            };
            let log = folder.path().join(format!("{name}.log"));
            Place { orders, small: *small, running: Mutex::new(None), log }
        };
        let places: Vec<_> = names.iter().map(place).collect();
        for place in &places {
            place.start();
        }
        Self { places, folder: Some(folder) }
    }

    /// Makes the bank, once the fleet is up: ten accounts with 100 each.
    pub fn make_bank(&self) {
        let script = "CREATE TABLE bank (who INTEGER PRIMARY KEY, has INTEGER); \
            CREATE TABLE done (n INTEGER PRIMARY KEY, pad BLOB); \
            INSERT INTO bank VALUES (0,100),(1,100),(2,100),(3,100),(4,100),(5,100),(6,100),\
            (7,100),(8,100),(9,100)";
        let command = serde_json::json!({
            "command": "execute", "dataset": APP, "sql": script, "create": true
        });
        let made = || self.places[0].control(&command.to_string()).is_some();
        until("the bank is made", made);
        for place in &self.places {
            let read = || ask(place.http().unwrap(), "GET", "/read", "", "");
            until(
                "every node has the bank",
                || matches!(read(), Asked::Answered(a) if a.status == 200),
            );
        }
    }

    pub fn primary(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.is_primary())
    }

    /// All stand at one position with one checksum, read from their pages, and nothing moves.
    pub fn converged(&self) -> serde_json::Value {
        let standing = |place: &Place| {
            let info = place.info()?;
            (info["health"] == "sound")
                .then(|| format!("{} {} {}", info["epoch"], info["txid"], info["checksum"]))
        };
        let end = Instant::now() + PATIENCE;
        loop {
            let all: Vec<_> = self.places.iter().map(standing).collect();
            if all[0].is_some() && all.iter().all(|one| *one == all[0]) {
                break;
            }
            let infos = || self.places.iter().map(Place::info).collect::<Vec<_>>();
            assert!(Instant::now() < end, "the copies do not become equal: {:#?}", infos());
            std::thread::sleep(Duration::from_millis(50));
        }
        for place in &self.places {
            let verified = place.verify();
            assert_eq!(verified["pages_agree"], true, "{verified}");
        }
        self.places[0].info().unwrap()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for place in &self.places {
            place.signal("CONT");
            place.kill();
        }
        if std::thread::panicking()
            && let Some(folder) = self.folder.take()
        {
            eprintln!("logs and data are kept in {}", folder.keep().display());
        }
    }
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}
