//! Starts `verge`, talks HTTP to it, and ends what it started.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

pub fn example(name: &str) -> PathBuf {
    repository().join("examples").join(name)
}

/// A copy of an example that a test may change; its packages are linked, not copied.
pub fn copy_of_example(name: &str) -> tempfile::TempDir {
    let from = example(name);
    let to = tempfile::Builder::new().prefix("verge-test-").tempdir().expect("a folder");
    copy(&from, to.path());
    let packages = from.join("node_modules");
    if from.join("package.json").is_file() {
        assert!(packages.is_dir(), "{name} has no packages: run `make examples` first");
        std::os::unix::fs::symlink(packages, to.path().join("node_modules")).expect("a link");
    }
    to
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("read") {
        let entry = entry.expect("an entry");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_name().to_str() {
            Some("node_modules" | ".verge") => {}
            _ if source.is_dir() => {
                std::fs::create_dir(&target).expect("made");
                copy(&source, &target);
            }
            _ => drop(std::fs::copy(&source, &target).expect("copied")),
        }
    }
}

/// A folder with these files.
pub fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::Builder::new().prefix("verge-test-").tempdir().expect("a folder");
    for (path, content) in files {
        write(&dir.path().join(path), content);
    }
    dir
}

pub fn write(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, content).expect("written");
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verge"));
    command.env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Runs a command that ends by itself.
pub fn verge(arguments: &[&str]) -> Output {
    command().args(arguments).output().expect("verge runs")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// A running `verge dev --json`.
pub struct Dev {
    child: Child,
    events: Arc<Events>,
    pub port: u16,
}

#[derive(Default)]
struct Events {
    seen: Mutex<Vec<Value>>,
    more: Condvar,
    /// Nobody reads what is printed.
    unread: AtomicBool,
}

impl Dev {
    pub fn start(dirs: &[&Path]) -> Self {
        Self::with(dirs, &["--port", "0"])
    }

    pub fn with(dirs: &[&Path], flags: &[&str]) -> Self {
        let mut child = command()
            .arg("dev")
            .args(dirs)
            .arg("--json")
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("verge runs");
        let events = Arc::new(Events::default());
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let told = events.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                while told.unread.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let value = serde_json::from_str(&line)
                    .unwrap_or_else(|_| Value::from(format!("not JSON: {line}")));
                told.seen.lock().expect("not poisoned").push(value);
                told.more.notify_all();
            }
            told.seen.lock().expect("not poisoned").push(serde_json::json!({ "event": "end" }));
            told.more.notify_all();
        });
        std::thread::spawn(move || {
            let mut text = String::new();
            // What is said there shows when a test fails.
            let _ = BufReader::new(err).read_to_string(&mut text);
            eprint!("{text}");
        });
        let mut dev = Self { child, events, port: 0 };
        let ready = dev.event("ready", 0);
        dev.port = u16::try_from(ready["port"].as_u64().expect("a port")).expect("a port");
        dev
    }

    /// The `nth` event of a name, from 0; waits for it.
    pub fn event(&self, name: &str, nth: usize) -> Value {
        self.wait_for(|seen| seen.iter().filter(|e| e["event"] == name).nth(nth).cloned())
            .unwrap_or_else(|| panic!("no event {name} {nth} in {:#?}", self.all()))
    }

    pub fn count(&self, name: &str) -> usize {
        self.all().iter().filter(|e| e["event"] == name).count()
    }

    pub fn all(&self) -> Vec<Value> {
        self.events.seen.lock().expect("not poisoned").clone()
    }

    fn wait_for<T>(&self, find: impl Fn(&[Value]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.events.seen.lock().expect("not poisoned");
        loop {
            if let Some(found) = find(&seen) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            if seen.iter().any(|event| event["event"] == "end") {
                return None;
            }
            seen = self.events.more.wait_timeout(seen, left).expect("not poisoned").0;
        }
    }

    /// Whether somebody reads what is printed; at first somebody does.
    pub fn read(&self, on: bool) {
        self.events.unread.store(!on, Ordering::Relaxed);
    }

    /// Ctrl-C, or another signal.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: only sends a signal to a child of ours that was not waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status;
            }
            assert!(Instant::now() < deadline, "verge does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, "localhost", path, &[], "").await
    }

    pub async fn get_as(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask(Method::GET, "localhost", path, headers, "").await
    }

    /// As a browser that shows a page.
    pub async fn visit(&self, path: &str) -> Answer {
        let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        self.get_as(path, &[("accept", accept), ("sec-fetch-mode", "navigate")]).await
    }

    pub async fn ask(
        &self,
        method: Method,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let response = self.open(method, host, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// The response whose body is still to come. Each has a connection of its own.
    pub async fn open(
        &self,
        method: Method,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("connected");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("{host}:{}", self.port));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        sender.send_request(request).await.expect("an answer")
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "still {answer:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}
