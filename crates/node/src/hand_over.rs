//! A planned hand-over, as somebody asks for it.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use verge_types::{DatasetId, PopName};

use crate::control::Command;
use crate::driver::Input;
use crate::error::Error;
use crate::inner::LOOK_EVERY;
use crate::node::Node;

/// How often a hand-over is looked at, to tell how long writes wait.
const PAUSE_LOOK: Duration = Duration::from_millis(1);

impl Node {
    /// Makes a PoP's first voter the primary, without losing anything: writes wait meanwhile.
    /// Returns once the successor is primary: for how long writes waited at most.
    pub async fn move_primary(&self, id: &DatasetId, to: &PopName) -> Result<Duration, Error> {
        let target = self.inner.roster.first_of(to).ok_or_else(|| Error::NoPop(to.clone()))?;
        let entry = self.inner.open(id, false).await?;
        entry.desk.touch();
        let limit = self.inner.config.timing.hand_over_limit * 2;
        let deadline = Instant::now() + self.inner.config.timing.open_patience + limit;
        let primary = loop {
            let primary = entry.desk.standing().primary;
            if primary == Some(target) {
                return Ok(Duration::ZERO);
            }
            match primary {
                // It may be about to take its lease up again after a rest.
                Some(me) if me == self.inner.roster.me && !entry.desk.is_primary() => {}
                Some(primary) => break primary,
                None => {}
            }
            if Instant::now() >= deadline {
                return Err(Error::HandOver("nobody is primary".to_owned()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let mut paused = 0.0;
        if primary != self.inner.roster.me {
            let peer = self.inner.roster.peer(primary).ok_or(Error::ShuttingDown)?;
            let command =
                Command::MovePrimary { dataset: id.to_string(), to: to.as_str().to_owned() };
            let answer = self.ask(&peer, &command).await?;
            let told = answer["writes_paused_ms"].as_f64();
            paused = told.ok_or_else(|| no_pause(&answer))? / 1e3;
        } else {
            let desk = entry.desk.clone();
            let pausing = tokio::spawn(async move {
                let since = loop {
                    if !desk.is_primary() {
                        break Instant::now();
                    }
                    tokio::time::sleep(PAUSE_LOOK).await;
                };
                let mut standing = desk.watch();
                // The sender lives in the desk.
                let _ = standing.wait_for(|standing| standing.primary == Some(target)).await;
                since.elapsed()
            });
            let pausing = AbortOnDrop(pausing);
            let (done, ended) = oneshot::channel();
            if !self.inner.tell(id, Input::HandOver { to: target, done }) {
                return Err(Error::HandOver("the dataset's driver is busy".to_owned()));
            }
            match timeout(limit * 2, ended).await {
                Ok(Ok(result)) => result.map_err(Error::HandOver)?,
                _ => return Err(Error::HandOver("its outcome is not known".to_owned())),
            }
            let mut pausing = pausing;
            if let Ok(Ok(took)) = timeout(limit * 2, &mut pausing.0).await {
                paused = took.as_secs_f64();
            }
        }
        let mut standing = entry.desk.watch();
        let moved = standing.wait_for(|standing| standing.primary == Some(target));
        let left = deadline.saturating_duration_since(Instant::now()).max(limit);
        match timeout(left, moved).await {
            Ok(Ok(_)) => Ok(Duration::from_secs_f64(paused.max(0.0))),
            _ => Err(Error::HandOver("the successor did not take over in time".to_owned())),
        }
    }
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// It has moved, but how long that took is not known: another version's answer.
fn no_pause(answer: &serde_json::Value) -> Error {
    Error::Command(format!("the primary has moved; its node answered {answer}"))
}
