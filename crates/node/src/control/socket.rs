//! The control endpoint: a unix socket in the node's folder, for whoever may use that folder. One
//! JSON command a line, one JSON answer a line: `{"Ok": …}` or `{"Err": "…"}`. Before it a
//! `{"Progress": …}` when the command is begun, and more of them if it takes time. Who hangs up
//! meanwhile has it end without a change.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::{Command, Progress, Report};
use crate::error::{Code, Error, Told};
use crate::lock::NodeLock;
use crate::node::Node;

/// Longest line, bytes.
const MAX_LINE: u64 = 64 << 20;
/// How often a command that takes time tells how far it is.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Longest path of a unix socket that every system takes, bytes.
const MAX_PATH: usize = 100;

/// Listens; the socket's path and the task that serves it.
pub(crate) fn serve(node: &Node) -> Result<(PathBuf, JoinHandle<()>), Error> {
    let path = path(&node.inner.config.data);
    // Left over from a crash: the folder's lock says that nobody else listens.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).map_err(Error::io("opening the control socket"))?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, private).map_err(Error::io("guarding the control socket"))?;
    let (inner, held) = node.downgrade();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Some(node) = Node::upgrade(&inner, &held) else { return };
            tokio::spawn(async move {
                if let Err(error) = converse(&node, stream).await {
                    tracing::debug!(%error, "a control connection ended");
                }
            });
        }
    });
    Ok((path, task))
}

/// In the data folder, or, where its path is too long for a socket, in the temporary folder.
fn path(data: &Path) -> PathBuf {
    let data = std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    let inside = data.join("control.sock");
    if inside.as_os_str().len() <= MAX_PATH {
        return inside;
    }
    let hash =
        inside.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
        });
    std::env::temp_dir().join(format!("verge-{hash:016x}.sock"))
}

async fn converse(node: &Node, stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read.take(MAX_LINE));
    let mut line = String::new();
    loop {
        line.clear();
        read.get_mut().set_limit(MAX_LINE);
        if read.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let result = match serde_json::from_str::<Command>(&line) {
            Ok(command) => {
                // Whoever hears nothing before the end knows that it was not begun.
                send(&mut write, &serde_json::json!({ "Progress": Progress::default() })).await?;
                attended(node, command, &mut read, &mut write).await
            }
            Err(error) => {
                Err(Told { code: Code::Other, message: format!("not a command: {error}") })
            }
        };
        send(&mut write, &result).await?;
    }
}

async fn send(write: &mut OwnedWriteHalf, line: &impl serde::Serialize) -> std::io::Result<()> {
    let mut answer = serde_json::to_vec(line)?;
    answer.push(b'\n');
    write.write_all(&answer).await
}

/// Runs a command, tells how far it is, and has it end if nobody waits any more.
async fn attended(
    node: &Node,
    command: Command,
    read: &mut BufReader<tokio::io::Take<OwnedReadHalf>>,
    write: &mut OwnedWriteHalf,
) -> Result<serde_json::Value, Told> {
    let report = Report::default();
    let mut running = std::pin::pin!(node.run_reporting(command, &report));
    let mut tick = tokio::time::interval(TELL_EVERY);
    let (mut told, mut there) = (Progress::default(), true);
    loop {
        tokio::select! {
            biased;
            result = &mut running => return result.map_err(|error| Told::from(&error)),
            _ = tick.tick() => {
                let now = report.progress();
                if now != told {
                    told = now;
                    if send(write, &serde_json::json!({ "Progress": now })).await.is_err() {
                        report.give_up();
                    }
                }
            }
            next = read.fill_buf(), if there => {
                there = false;
                if next.map_or(true, <[u8]>::is_empty) {
                    report.give_up();
                }
            }
        }
    }
}

/// Asks the process that owns a node's folder.
pub struct ControlClient {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl ControlClient {
    /// Connects to the owner of a folder; `None` if nobody owns it, or it is about to end: open a
    /// [`Node`] on it then.
    ///
    /// # Errors
    /// [`Error::InUse`] if the owner serves no socket.
    pub async fn connect(data: &Path) -> Result<Option<Self>, Error> {
        let Some(owner) = NodeLock::owner(data)? else { return Ok(None) };
        let Some(path) = owner.control else {
            return Err(Error::InUse { dir: data.to_owned(), pid: owner.pid });
        };
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(Error::io("asking the running node")(error)),
        };
        let (read, write) = stream.into_split();
        Ok(Some(Self { read: BufReader::new(read), write }))
    }

    /// Sends one command and waits for its answer.
    ///
    /// # Errors
    /// [`Error::ShuttingDown`] where it was not begun; after that, the node's own.
    pub async fn run(&mut self, command: &Command) -> Result<serde_json::Value, Error> {
        self.run_reporting(command, |_| ()).await
    }

    /// The same; `progress` hears how far it is meanwhile.
    pub async fn run_reporting(
        &mut self,
        command: &Command,
        mut progress: impl FnMut(Progress),
    ) -> Result<serde_json::Value, Error> {
        let io = "asking the running node";
        let mut line = serde_json::to_vec(command).map_err(|e| Error::Command(e.to_string()))?;
        line.push(b'\n');
        // A line that did not arrive whole is not run.
        self.write.write_all(&line).await.map_err(|_| Error::ShuttingDown)?;
        let mut begun = false;
        loop {
            let mut answer = String::new();
            match self.read.read_line(&mut answer).await {
                Ok(1..) => begun = true,
                Ok(0) | Err(_) if !begun => return Err(Error::ShuttingDown),
                Ok(0) => return Err(Error::Command("the running node hung up".to_owned())),
                Err(error) => return Err(Error::io(io)(error)),
            }
            let answer = serde_json::from_str(&answer);
            match answer.map_err(|error| Error::Command(error.to_string()))? {
                Answer::Progress(now) => progress(now),
                Answer::Ok(value) => return Ok(value),
                Answer::Err(told) => return Err(Error::Told(told)),
            }
        }
    }
}

/// A line of the node's.
#[derive(Deserialize)]
enum Answer {
    Progress(Progress),
    Ok(serde_json::Value),
    Err(Told),
}
