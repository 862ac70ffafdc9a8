//! `verge db restore` and `branch`: states of before.

use chrono::Utc;
use serde_json::{Value as Json, json};
use verge_node::{Command, DatasetStatus, Located};
use verge_types::PopName;

use super::access::{Access, Make};
use super::args::{Branch, Moment, Restore};
use super::confirm::confirm;
use super::progress::Bar;
use super::project::{Context, Named, dataset_of};
use super::table;
use super::time;
use crate::failure::Failure;
use crate::terminal::Style;

/// A bookmark, a time in ms, or neither.
fn target(moment: &Moment) -> Result<(Option<String>, Option<u64>), Failure> {
    let at = moment.at.as_ref().map(|at| {
        time::parse(at, Utc::now())
            .map_err(|(message, hint)| Failure::new("usage", format!("--at: {message}")).hint(hint))
    });
    Ok((moment.bookmark.clone(), at.transpose()?))
}

/// Finds the state that is meant; where it is gone, says what is left.
async fn locate(
    access: &Access,
    pop: &PopName,
    named: &Named,
    (bookmark, time_ms): (Option<String>, Option<u64>),
) -> Result<Located, Failure> {
    let dataset = named.dataset.to_string();
    let command = Command::Locate { dataset: dataset.clone(), bookmark, time_ms };
    let failure = match access.ask(pop, command).await {
        Ok(found) => return Ok(found),
        Err(failure) => failure,
    };
    if failure.code != "not_retained" {
        return Err(failure);
    }
    let any = Command::Locate { dataset, bookmark: None, time_ms: None };
    let kept: Result<Located, _> = access.ask(pop, any).await;
    let failure =
        Failure::new("not_retained", format!("{} does not remember that state", named.name));
    Err(match kept {
        Ok(Located { oldest, now, .. }) if oldest.time_ms > 0 => failure.hint(format!(
            "it can go back to {}: --bookmark {}; it is at {} now",
            time::shown(oldest.time_ms),
            oldest.bookmark,
            now.bookmark
        )),
        Ok(Located { now, .. }) => failure.hint(format!("it is at {} now", now.bookmark)),
        Err(_) => failure,
    })
}

fn state_of(time_ms: u64) -> String {
    match time_ms {
        0 => "its empty beginning".to_owned(),
        ms => format!("its state of {}", time::shown(ms)),
    }
}

pub async fn restore(args: &Restore, context: &Context) -> Result<(), Failure> {
    let target = target(&args.moment)?;
    if target == (None, None) {
        return Err(Failure::new("usage", "to which state? --at or --bookmark is needed")
            .hint("verge db restore DB --at '10m ago'"));
    }
    let named = context.database(Some(&args.database))?;
    let known = Named { config: None, ..named.clone() };
    let access = Access::open(context, Make::No).await.map_err(|failure| {
        if failure.code == "no_data" { context.missing(&named) } else { failure }
    })?;
    let done = restore_at(args, &known, target, &access, context).await;
    access.close().await;
    let Some((located, after, before)) = done? else { return Ok(()) };
    let terminal = &context.terminal;
    if terminal.is_json() {
        terminal.result(&json!({
            "database": named.name,
            "restored": {
                "bookmark": located.target.bookmark,
                "time": (located.target.time_ms > 0).then(|| time::rfc3339(located.target.time_ms)),
            },
            "bookmark": after,
            "before": before,
        }));
        return Ok(());
    }
    let word = terminal.paint(Style::Good, "restored");
    terminal.note(&format!("{word} {} to {}", named.name, state_of(located.target.time_ms)));
    terminal.note("to undo this:");
    terminal.print(&format!("verge db restore {} --bookmark {before}", named.name));
    Ok(())
}

/// The states meant, after, and before; `None` if there is nothing to do.
async fn restore_at(
    args: &Restore,
    named: &Named,
    target: (Option<String>, Option<u64>),
    access: &Access,
    context: &Context,
) -> Result<Option<(Located, String, String)>, Failure> {
    let pop = access.primary(context, named).await?;
    let located = locate(access, &pop, named, target).await?;
    let undone = located.now.txid.saturating_sub(located.target.txid);
    let terminal = &context.terminal;
    if undone == 0 {
        if terminal.is_json() {
            let now = &located.now.bookmark;
            terminal.result(&json!({
                "database": named.name, "restored": null, "bookmark": now, "before": now,
            }));
        } else {
            terminal.note(&format!("nothing to do: {} has not changed since then", named.name));
        }
        return Ok(None);
    }
    let question = format!(
        "restore {} to {} and undo {}",
        named.name,
        state_of(located.target.time_ms),
        table::count(undone, "later commit"),
    );
    confirm(terminal, &question, args.yes)?;
    // Exactly the state that was shown.
    let command = Command::Restore {
        dataset: named.dataset.to_string(),
        bookmark: Some(located.target.bookmark.clone()),
        time_ms: None,
    };
    let mut bar = Bar::new(terminal, "restoring");
    let answer: Json = access.ask_watched(&pop, command, |now| bar.show(now)).await?;
    let bookmark = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    Ok(Some((located, bookmark("bookmark"), bookmark("before"))))
}

pub async fn branch(args: &Branch, context: &Context) -> Result<(), Failure> {
    let (bookmark, time_ms) = target(&args.moment)?;
    let named = context.database(Some(&args.database))?;
    let known = Named { config: None, ..named.clone() };
    let to = match context.database(Some(&args.new))? {
        Named { config: Some(config), .. } => config.dataset,
        _ => dataset_of(&args.new)?,
    };
    let access = Access::open(context, Make::No).await.map_err(|failure| {
        if failure.code == "no_data" { context.missing(&named) } else { failure }
    })?;
    let done = async {
        let pop = access.primary(context, &known).await?;
        let located = locate(&access, &pop, &named, (bookmark.clone(), time_ms)).await?;
        let command = Command::Branch {
            from: named.dataset.to_string(),
            to: to.to_string(),
            bookmark,
            time_ms,
        };
        let mut bar = Bar::new(&context.terminal, "branching");
        let made: Result<DatasetStatus, _> =
            access.ask_watched(&pop, command, |now| bar.show(now)).await;
        let made = made.map_err(|failure| match failure.code {
            "exists" => Failure::new("exists", format!("there is a database `{}`", args.new))
                .hint("take another name, or `verge db delete` it first"),
            _ => failure,
        })?;
        // In a fleet the branch must find its primary before this node may go.
        let new = Named { dataset: to.clone(), name: args.new.clone(), config: None };
        access.primary(context, &new).await?;
        Ok::<_, Failure>((located, made))
    };
    let done = done.await;
    access.close().await;
    let (located, made) = done?;
    let terminal = &context.terminal;
    if terminal.is_json() {
        terminal.result(&json!({
            "database": args.new,
            "from": named.name,
            "of": located.target.bookmark,
            "bookmark": made.bookmark,
            "bytes": made.bytes,
        }));
        return Ok(());
    }
    let word = terminal.paint(Style::Good, "branched");
    let state = match (&args.moment.at, &args.moment.bookmark) {
        (None, None) => "its state of now".to_owned(),
        _ => state_of(located.target.time_ms),
    };
    terminal.note(&format!("{word} {} from {}, {state}", args.new, named.name));
    Ok(())
}
