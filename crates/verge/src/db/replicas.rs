//! `verge db lag`, `move-primary`, `verify`: a database at all of its points of presence.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::timeout;
use verge_node::{Command, DatasetStatus, Health, RoleName, Verified};
use verge_types::PopName;

use super::access::{Access, Make};
use super::args::{Lag, MovePrimary, One};
use super::progress::Bar;
use super::project::{Context, Named};
use super::table;
use super::time::took;
use crate::failure::Failure;
use crate::terminal::Style;

/// How often `lag --watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long a place that the others cannot reach has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// The same where it has to read its copy through.
const VERIFIED_WITHIN: Duration = Duration::from_secs(600);
/// How often copies are compared until they stand at one position.
const COMPARISONS: usize = 10;
const COMPARE_EVERY: Duration = Duration::from_millis(300);

/// A database that must be there, and the nodes that may have it.
async fn find(context: &Context, name: Option<&str>) -> Result<(Named, Access), Failure> {
    let named = context.database(name)?;
    let access = Access::open(context, Make::No).await.map_err(|failure| {
        if failure.code == "no_data" { context.missing(&named) } else { failure }
    })?;
    Ok((Named { config: None, ..named }, access))
}

pub async fn lag(args: &Lag, context: &Context) -> Result<(), Failure> {
    let (named, access) = find(context, args.which.database.as_deref()).await?;
    let done = async {
        let pop = access.reader(context, &named).await?;
        let mut drawn = 0;
        loop {
            let copies = Copies::find(&access, &named, &pop).await?;
            drawn = show(context, &named, &copies, args.watch, drawn);
            if !args.watch {
                return Ok(());
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    };
    let done = done.await;
    access.close().await;
    done
}

/// A database's copies, and the points of presence without one.
#[derive(Default)]
struct Copies {
    all: Vec<DatasetStatus>,
    missing: Vec<PopName>,
    unreached: Vec<PopName>,
    down: Vec<PopName>,
}

impl Copies {
    /// Asks one place for all. Those that it cannot reach, as over a link that is cut, are asked
    /// from here.
    async fn find(access: &Access, named: &Named, pop: &PopName) -> Result<Self, Failure> {
        let dataset = named.dataset.to_string();
        let all = access.ask(pop, Command::Lag { dataset: dataset.clone() }).await?;
        let mut copies = Self { all, ..Self::default() };
        for pop in access.pops() {
            if copies.has(&pop) {
                continue;
            }
            let command = Command::Info { dataset: dataset.clone() };
            match timeout(ANSWER_WITHIN, access.ask::<DatasetStatus>(&pop, command)).await {
                Ok(Ok(status)) => copies.all.push(status),
                Ok(Err(failure)) if failure.code == "no_database" => copies.missing.push(pop),
                Ok(Err(_)) | Err(_) => copies.unreached.push(pop),
            }
        }
        let down = access.down().into_iter();
        copies.down = down.filter(|pop| !copies.has(pop)).collect();
        DatasetStatus::compare(&mut copies.all);
        copies.all.sort_by(|a, b| a.pop.cmp(&b.pop));
        Ok(copies)
    }

    fn has(&self, pop: &PopName) -> bool {
        self.all.iter().any(|status| status.pop == pop.as_str())
    }
}

/// How many lines were drawn, for the next drawing to go over.
fn show(context: &Context, named: &Named, copies: &Copies, again: bool, drawn: usize) -> usize {
    let terminal = &context.terminal;
    if terminal.is_json() {
        let found: Vec<_> = copies
            .all
            .iter()
            .map(|status| {
                json!({
                    "pop": status.pop,
                    "node": status.node,
                    "role": status.role,
                    "health": status.health,
                    "bookmark": status.bookmark,
                    "txid": status.txid,
                    "behind": status.behind,
                    "lag_ms": status.lag_ms,
                    "relay": status.relay,
                })
            })
            .collect();
        let names = |pops: &[PopName]| pops.iter().map(PopName::to_string).collect::<Vec<_>>();
        terminal.result(&json!({
            "database": named.name,
            "copies": found,
            "no_copy": names(&copies.missing),
            "not_reached": names(&copies.unreached),
            "not_running": names(&copies.down),
        }));
        return 0;
    }
    let mut rows: Vec<Vec<String>> = copies
        .all
        .iter()
        .map(|status| {
            let (role, lag) = match status.role {
                RoleName::Primary => ("primary".to_owned(), "-".to_owned()),
                RoleName::Replica => (replica(status), lag_of(status)),
                RoleName::Asleep => ("asleep".to_owned(), "-".to_owned()),
            };
            let health = match status.health {
                Health::Sound => "sound",
                Health::Quarantined => "replaced by a snapshot soon",
                Health::Failed => "failed",
            };
            let behind = status.behind.map_or_else(|| "?".to_owned(), |behind| behind.to_string());
            let position = format!("{}/{}", status.epoch, status.txid);
            vec![status.pop.clone(), role, position, behind, lag, health.to_owned()]
        })
        .collect();
    let without = |(pop, what): (&PopName, &str)| {
        let dash = || "-".to_owned();
        vec![pop.to_string(), what.to_owned(), dash(), dash(), dash(), dash()]
    };
    rows.extend(copies.missing.iter().map(|pop| (pop, "no copy")).map(without));
    rows.extend(copies.unreached.iter().map(|pop| (pop, "not reached")).map(without));
    rows.extend(copies.down.iter().map(|pop| (pop, "not running")).map(without));
    let columns = ["POP", "ROLE", "POSITION", "BEHIND", "LAG", "HEALTH"];
    let lines = table::list(&columns, &rows, terminal);
    let over = again && std::io::stdout().is_terminal();
    if over && drawn > 0 {
        // Up, over what was drawn before.
        print!("\u{1b}[{drawn}A\u{1b}[J");
        let _ = std::io::stdout().flush();
    } else if again && !over {
        terminal.print("");
    }
    for line in &lines {
        terminal.print(line);
    }
    lines.len()
}

/// By way of whom it follows, where that is not the primary.
fn replica(status: &DatasetStatus) -> String {
    match &status.relay {
        Some(relay) => format!("replica via {relay}"),
        None => "replica".to_owned(),
    }
}

fn lag_of(status: &DatasetStatus) -> String {
    status.lag_ms.map_or_else(|| "unknown".to_owned(), |ms| took(Duration::from_millis(ms)))
}

pub async fn move_primary(args: &MovePrimary, context: &Context) -> Result<(), Failure> {
    let (named, access) = find(context, Some(&args.database)).await?;
    let done = async {
        if !access.is_fleet() {
            let message = format!("{} is at a single place", named.name);
            return Err(Failure::new("no_pop", message)
                .hint("`verge dev --pops iad,fra,nrt` serves several points of presence"));
        }
        let pops = access.pops();
        if !pops.contains(&args.to) {
            let mut known: Vec<_> = pops.iter().map(PopName::as_str).collect();
            known.sort_unstable();
            return Err(Failure::new(
                "no_pop",
                format!("there is no point of presence `{}`", args.to),
            )
            .hint(format!("there are: {}", known.join(", "))));
        }
        let from = access.primary(context, &named).await?;
        let dataset = named.dataset.to_string();
        let command = Command::MovePrimary { dataset, to: args.to.to_string() };
        let mut bar = Bar::new(&context.terminal, "moving");
        let answer: Json = access.ask_watched(&from, command, |now| bar.show(now)).await?;
        let paused = answer["writes_paused_ms"].as_f64().ok_or_else(|| {
            Failure::new("internal", format!("the primary has moved; the node answered {answer}"))
        })?;
        Ok((from, paused))
    };
    let done = done.await;
    access.close().await;
    let (from, paused) = done?;
    let terminal = &context.terminal;
    if terminal.is_json() {
        terminal.result(&json!({
            "database": named.name,
            "from": from.as_str(),
            "primary": args.to.as_str(),
            "writes_paused_ms": paused,
        }));
    } else if from == args.to {
        terminal.note(&format!("nothing to do: {} is the primary of {}", args.to, named.name));
    } else {
        let word = terminal.paint(Style::Good, "moved");
        let paused = took(Duration::from_secs_f64(paused.max(0.0) / 1e3));
        terminal.note(&format!(
            "{word} the primary of {} from {from} to {}; writes waited for {paused} at most",
            named.name, args.to
        ));
    }
    Ok(())
}

pub async fn verify(args: &One, context: &Context) -> Result<(), Failure> {
    let (named, access) = find(context, args.which.database.as_deref()).await?;
    let done = compare(&named, &access, context).await;
    access.close().await;
    let copies = done?;
    let wrong = copies.iter().filter(|copy| copy.reached && !holds(copy)).count();
    let unreached: Vec<_> = copies.iter().filter(|copy| !copy.reached).collect();
    let terminal = &context.terminal;
    if terminal.is_json() {
        terminal.result(&json!({
            "database": named.name,
            "ok": wrong == 0 && unreached.is_empty(),
            "copies": copies,
        }));
    } else {
        let rows: Vec<Vec<String>> = copies.iter().map(row_of).collect();
        let columns = ["POP", "POSITION", "CHECKSUM", "PAGES", "TABLES", "LOG", "COPIES"];
        for line in table::list(&columns, &rows, terminal) {
            terminal.print(&line);
        }
    }
    if wrong > 0 {
        let mut text =
            format!("{} of {} do not hold", wrong, table::count(copies.len() as u64, "copy"));
        for copy in copies.iter().filter(|copy| copy.reached && !holds(copy)) {
            let why = copy.error.as_deref().unwrap_or("its checksum is not that of the others");
            text.push_str(&format!("\n  {}: {why}", copy.pop));
        }
        let failure = Failure::new("damaged", text.replace("copys", "copies"))
            .hint("delete a damaged replica's folder while nothing runs: it is made again from the primary. A damaged primary: `verge db restore`, or import the last export");
        return Err(Failure { told: terminal.is_json(), ..failure });
    }
    if !unreached.is_empty() {
        let count = table::count(copies.len() as u64, "copy").replace("copys", "copies");
        let mut text = format!("{} of {count} could not be reached", unreached.len());
        for copy in unreached {
            text.push_str(&format!("\n  {}: {}", copy.pop, copy.error.as_deref().unwrap_or("-")));
        }
        let failure = Failure::new("not_reached", text)
            .hint("what was reached holds; verify again when the links are there again");
        return Err(Failure { told: terminal.is_json(), ..failure });
    }
    Ok(())
}

fn holds(copy: &Verified) -> bool {
    copy.error.is_none()
        && copy.pages_agree
        && copy.file_is_sound
        && copy.copies_agree != Some(false)
}

fn row_of(copy: &Verified) -> Vec<String> {
    if !copy.reached {
        let dashes = std::iter::repeat_n("-".to_owned(), 5);
        return [copy.pop.clone(), "not reached".to_owned()].into_iter().chain(dashes).collect();
    }
    let word = |good: bool| if good { "hold" } else { "DAMAGED" }.to_owned();
    vec![
        copy.pop.clone(),
        format!("{}/{}", copy.epoch, copy.txid),
        copy.checksum.clone(),
        word(copy.pages_agree),
        word(copy.file_is_sound),
        table::count(copy.log_segments, "segment"),
        match copy.copies_agree {
            Some(true) => "agree".to_owned(),
            Some(false) => "DIFFER".to_owned(),
            None => "-".to_owned(),
        },
    ]
}

/// Copies can be compared where they stand at one position: waited for, a while.
async fn compare(
    named: &Named,
    access: &Access,
    context: &Context,
) -> Result<Vec<Verified>, Failure> {
    let pop = access.primary(context, named).await?;
    let mut last: Vec<Verified> = Vec::new();
    let mut bar = Bar::new(&context.terminal, "verifying");
    for _ in 0..COMPARISONS {
        let command = Command::Verify { dataset: named.dataset.to_string() };
        last = access.ask_watched(&pop, command, |now| bar.show(now)).await?;
        let mut without: Vec<PopName> = Vec::new();
        for copy in last.iter_mut().filter(|copy| !copy.reached) {
            // The primary cannot reach it, as over a link that is cut; maybe we can.
            let command = Command::VerifyHere { dataset: named.dataset.to_string() };
            let Ok(pop) = copy.pop.parse() else { continue };
            match timeout(VERIFIED_WITHIN, access.ask::<Verified>(&pop, command)).await {
                Ok(Ok(verified)) => *copy = verified,
                Ok(Err(failure)) if failure.code == "no_database" => without.push(pop),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        // A point of presence that nobody used yet has no copy to compare.
        last.retain(|copy| !without.iter().any(|pop| *copy.pop == *pop.as_str()));
        Verified::compare(&mut last);
        let moving = last.len() > 1 && last.iter().any(|copy| copy.copies_agree.is_none());
        if !moving || last.iter().any(|copy| copy.error.is_some()) {
            break;
        }
        tokio::time::sleep(COMPARE_EVERY).await;
    }
    last.sort_by(|a, b| a.pop.cmp(&b.pop));
    Ok(last)
}
