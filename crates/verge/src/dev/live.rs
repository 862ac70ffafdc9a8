//! Where databases stand at each place, while `verge dev --pops` runs: a table below everything
//! else on a terminal, a line for each change of state where somebody else reads along.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch as signal};
use verge_node::{DatasetStatus, Health, RoleName};

use super::keys::Keys;
use super::table;
use super::world::World;
use crate::running::LinkState;
use crate::terminal::{Style, Terminal};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A copy whose data may be older than this is called behind. It hears from its primary eight
/// times a second.
const BEHIND_MS: u64 = 2_000;
/// It is called current again below this, so that one at the edge is not called both in turn.
const CURRENT_MS: u64 = 1_200;

/// What was seen at one moment.
#[derive(Default)]
pub struct Seen {
    pub pops: Vec<PopSeen>,
    pub links: Vec<LinkState>,
}

pub struct PopSeen {
    pub pop: String,
    /// `None` if it is down.
    pub databases: Option<Vec<DatasetStatus>>,
}

enum Next {
    Stop,
    Key(Option<u8>),
    Look,
}

/// Shows until the process is to end.
pub async fn run(
    world: Arc<World>,
    terminal: Terminal,
    mut bytes: Option<mpsc::UnboundedReceiver<u8>>,
    mut stopped: signal::Receiver<bool>,
) {
    let mut changes = Changes::default();
    let mut keys = Keys::new(world.clone(), terminal);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    loop {
        let key = async {
            match &mut bytes {
                Some(bytes) => bytes.recv().await,
                None => std::future::pending().await,
            }
        };
        let next = tokio::select! {
            biased;
            _ = stopped.changed() => Next::Stop,
            key = key => Next::Key(key),
            _ = look.tick() => Next::Look,
        };
        match next {
            Next::Stop => break,
            Next::Key(Some(key)) => keys.press(key),
            Next::Key(None) => bytes = None,
            Next::Look => {
                seen = observe(&world).await;
                for change in changes.between(&seen) {
                    change.tell(terminal);
                }
            }
        }
        if terminal.has_footer() {
            let prompt = if bytes.is_some() { keys.prompt() } else { Vec::new() };
            terminal.footer(table::lines(&seen, prompt, terminal));
        }
    }
    terminal.footer(Vec::new());
}

async fn observe(world: &World) -> Seen {
    let mut pops = Vec::new();
    for (at, place) in world.places.iter().enumerate() {
        let databases = world.statuses(at).await;
        pops.push(PopSeen { pop: place.pop.to_string(), databases });
    }
    Seen { pops, links: world.links().unwrap_or_default() }
}

/// A database's plain name.
pub fn name(status: &DatasetStatus) -> &str {
    status.dataset.trim_start_matches("sql/")
}

/// What counts as a state, of one database at one place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    role: RoleName,
    health: Health,
    behind: bool,
}

#[derive(Default)]
struct Changes {
    up: BTreeMap<String, bool>,
    links: BTreeMap<(String, String), String>,
    /// By database and place.
    states: BTreeMap<(String, String), State>,
}

enum Change {
    Pop { pop: String, up: bool },
    Link(LinkState),
    State { database: String, pop: String, state: State, only_fresh: bool },
}

impl Changes {
    /// What is other than it was when this was last asked.
    fn between(&mut self, seen: &Seen) -> Vec<Change> {
        let mut changes = Vec::new();
        for PopSeen { pop, databases } in &seen.pops {
            let up = databases.is_some();
            if self.up.insert(pop.clone(), up).is_some_and(|was| was != up) {
                changes.push(Change::Pop { pop: pop.clone(), up });
            }
            if !up {
                self.states.retain(|(_, at), _| at != pop);
            }
            for status in databases.iter().flatten() {
                changes.extend(self.state(pop, status));
            }
        }
        for link in &seen.links {
            let pair = (link.a.clone(), link.b.clone());
            let text = link.describe();
            if self.links.insert(pair, text.clone()).is_some_and(|was| was != text) {
                changes.push(Change::Link(link.clone()));
            }
        }
        changes
    }

    fn state(&mut self, pop: &str, status: &DatasetStatus) -> Option<Change> {
        let key = (name(status).to_owned(), pop.to_owned());
        let was = self.states.get(&key).copied();
        let limit = if was.is_some_and(|was| was.behind) { CURRENT_MS } else { BEHIND_MS };
        let behind =
            status.role == RoleName::Replica && status.lag_ms.is_none_or(|lag| lag > limit);
        let state = State { role: status.role, health: status.health, behind };
        if was == Some(state) {
            return None;
        }
        self.states.insert(key.clone(), state);
        let only_fresh = was.is_some_and(|was| State { behind, ..was } == state);
        // A copy that has just been made and has not heard its primary yet is no news.
        let news = was.is_some() || !behind;
        news.then_some(Change::State { database: key.0, pop: key.1, state, only_fresh })
    }
}

impl Change {
    fn tell(&self, terminal: Terminal) {
        match self {
            Self::Pop { pop, up } => {
                terminal.event("pop", json!({ "pop": pop, "up": up }));
                let (style, text) = if *up { (Style::Good, "up") } else { (Style::Bad, "down") };
                terminal.note(&format!("{pop} is {}", terminal.paint(style, text)));
            }
            Self::Link(link) => {
                terminal.event("link", json!(link));
                let style = if link.is_normal() { Style::Good } else { Style::Warn };
                let text = terminal.paint(style, &link.describe());
                terminal.note(&format!("link {} - {}: {text}", link.a, link.b));
            }
            Self::State { database, pop, state, only_fresh } => {
                terminal.event(
                    "state",
                    json!({
                        "database": database,
                        "pop": pop,
                        "role": state.role,
                        "health": state.health,
                        "behind": state.behind,
                    }),
                );
                // The table shows how old each copy is.
                if !(*only_fresh && terminal.has_footer()) {
                    terminal.note(&format!("{database} at {pop}: {}", state.describe()));
                }
            }
        }
    }
}

impl State {
    fn describe(self) -> &'static str {
        match (self.health, self.role) {
            (Health::Failed, _) => "failed; it recovers by itself if it can",
            (Health::Quarantined, _) => "set aside: a copy of the primary's data takes its place",
            (_, RoleName::Primary) => "primary",
            (_, RoleName::Asleep) => "asleep",
            (_, RoleName::Replica) if self.behind => "replica, behind",
            (_, RoleName::Replica) => "replica, current",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(role: RoleName, lag_ms: Option<u64>) -> DatasetStatus {
        DatasetStatus {
            dataset: "sql/book".into(),
            node: "fra-1".into(),
            pop: "fra".into(),
            role,
            health: Health::Sound,
            primary: None,
            primary_pop: None,
            relay: None,
            epoch: 1,
            txid: 2,
            bookmark: String::new(),
            checksum: String::new(),
            lag_ms,
            behind: None,
            bytes: 0,
            committed_ms: 0,
            set_aside: 0,
            waiting: 0,
            followers: Vec::new(),
        }
    }

    fn seen(status: Option<DatasetStatus>) -> Seen {
        let databases = status.map(|status| vec![status]);
        Seen { pops: vec![PopSeen { pop: "fra".into(), databases }], links: Vec::new() }
    }

    #[test]
    fn changes_of_state_are_told_and_nothing_else() {
        let mut changes = Changes::default();
        let mut told = |seen: Seen| -> Vec<String> {
            let line = |change: Change| match change {
                Change::Pop { up, .. } => format!("up {up}"),
                Change::Link(_) => "link".to_owned(),
                Change::State { state, .. } => state.describe().to_owned(),
            };
            changes.between(&seen).into_iter().map(line).collect()
        };
        let replica = |lag| seen(Some(status(RoleName::Replica, Some(lag))));
        assert!(told(seen(Some(status(RoleName::Replica, None)))).is_empty(), "no news yet");
        assert_eq!(told(replica(100)), ["replica, current"]);
        assert!(told(replica(1_900)).is_empty());
        assert_eq!(told(replica(2_100)), ["replica, behind"]);
        assert!(told(replica(1_500)).is_empty(), "at the edge it stays what it was");
        assert_eq!(told(replica(100)), ["replica, current"]);
        assert_eq!(told(seen(Some(status(RoleName::Primary, Some(0))))), ["primary"]);
        assert_eq!(told(seen(None)), ["up false"]);
        assert_eq!(told(replica(100)), ["up true", "replica, current"]);
    }
}
