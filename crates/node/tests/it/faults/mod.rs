//! Real faults: three processes, real HTTP, real signals, a real small disk. After them every
//! acknowledged write is there, all copies are equal, and the bank's total is what it was.
//!
//! The number of kills is `VERGE_KILLS`; `make faults KILLS=200` is the long run.

mod clients;
mod fleet;
mod log;
mod process;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clients::{Book, Client, Told};
use fleet::{Asked, Fleet, Place, ask, until};

const CLIENTS: u64 = 6;
const KILLS: u32 = 5;
/// More than the lease's time to live, so that another takes over meanwhile.
const PAUSE: Duration = Duration::from_millis(3500);

fn is_child() -> bool {
    std::env::var(process::CHILD).is_ok()
}

/// Runs `faults` while clients work, then compares what they were told with what is there.
fn under_load(fleet: &Fleet, faults: impl FnOnce(&Book)) -> Told {
    let book = Book::default();
    let told = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|seed| {
                let client = Client::new(fleet, &book, seed + 1);
                scope.spawn(move || client.run())
            })
            .collect();
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| faults(&book)));
        book.stop.store(true, Ordering::SeqCst);
        let mut all = Told::default();
        for client in clients {
            let told = client.join().unwrap();
            all.acknowledged.extend(told.acknowledged);
            all.unknown.extend(told.unknown);
            all.refused.extend(told.refused);
            all.broken.extend(told.broken);
            all.reads += told.reads;
            all.begun_anew += told.begun_anew;
        }
        if let Err(panic) = done {
            eprintln!("{:#?}", all.broken);
            std::panic::resume_unwind(panic);
        }
        all
    });
    compare(fleet, &told);
    told
}

fn compare(fleet: &Fleet, told: &Told) {
    assert!(told.broken.is_empty(), "{:#?}", told.broken);
    let standing = fleet.converged();
    for place in &fleet.places {
        let found = rows(place);
        let lost: Vec<_> = told.acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "{} lost {lost:?} at {standing}", place.name());
        let undead: Vec<_> = told.refused.intersection(&found).collect();
        assert!(undead.is_empty(), "{}: refused and there: {undead:?}", place.name());
    }
    println!(
        "{} acknowledged, {} refused, {} of unknown outcome, {} reads, {} sessions begun anew; \
         now {standing}",
        told.acknowledged.len(),
        told.refused.len(),
        told.unknown.len(),
        told.reads,
        told.begun_anew
    );
}

fn rows(place: &Place) -> BTreeSet<u64> {
    let command = serde_json::json!({
        "command": "execute", "dataset": process::APP, "sql": "SELECT n FROM done"
    });
    let answer = place.post("/control", &command.to_string()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    value["rows"].as_array().unwrap().iter().map(|row| row[0].as_u64().unwrap()).collect()
}

/// Some more writes are acknowledged.
fn writes_flow(book: &Book) {
    let goal = book.kept.load(Ordering::SeqCst) + 8;
    until("writes flow", || book.kept.load(Ordering::SeqCst) >= goal);
}

#[test]
fn three_processes_bear_kills_pauses_and_cuts() {
    if is_child() {
        return;
    }
    let kills = std::env::var("VERGE_KILLS").ok().and_then(|kills| kills.parse().ok());
    let kills: u32 = kills.unwrap_or(KILLS);
    let fleet = Fleet::start(&[("iad-1", None), ("fra-1", None), ("nrt-1", None)], true);
    fleet.make_bank();
    let began = Instant::now();
    let (mut primaries, mut pauses, mut cuts) = (0, 0, 0);
    // So that the long run is not mostly waiting.
    let (every, down) = if kills > 50 { (10, 500) } else { (5, 900) };
    under_load(&fleet, |book| {
        writes_flow(book);
        for round in 0..kills {
            // Every other time the primary, else one after the other.
            let victim = match fleet.primary() {
                Some(primary) if round % 2 == 0 => primary,
                _ => &fleet.places[(round / 2) as usize % 3],
            };
            primaries += u32::from(victim.is_primary());
            victim.kill();
            // Back at once, or after another has taken over.
            std::thread::sleep(Duration::from_millis(u64::from(round % 3) * down));
            if round % 3 == 2 {
                writes_flow(book);
            }
            victim.start();
            writes_flow(book);
            if round % every == 1 {
                pauses += 1;
                let paused = fleet.primary().unwrap_or(&fleet.places[0]);
                paused.signal("STOP");
                std::thread::sleep(PAUSE);
                writes_flow(book);
                paused.signal("CONT");
                writes_flow(book);
            }
            if round % every == 3 {
                cuts += 1;
                let [one, other] = [round as usize % 3, (round as usize + 1) % 3];
                let (one, other) = (&fleet.places[one], &fleet.places[other]);
                let both = |what: &str| {
                    one.post(&format!("/{what}?peer={}", other.name()), "").unwrap();
                    other.post(&format!("/{what}?peer={}", one.name()), "").unwrap();
                };
                both("cut");
                std::thread::sleep(Duration::from_secs(2));
                writes_flow(book);
                both("heal");
                writes_flow(book);
            }
        }
    });
    println!(
        "{kills} kills ({primaries} of a primary), {pauses} pauses, {cuts} cuts in {:?}",
        began.elapsed()
    );
}

/// A disk of a few MiB, mounted for one process only.
fn can_mount(folder: &std::path::Path) -> bool {
    let script = "mount -t tmpfs -o size=1m small \"$0\"";
    let tried = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(folder)
        .stderr(std::process::Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

#[test]
fn a_full_disk_at_the_primary_and_at_a_replica_loses_nothing() {
    if is_child() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    if !can_mount(folder.path()) {
        eprintln!("SKIPPED: this machine does not let the test mount a small file system");
        return;
    }
    let names = [("iad-1", Some(24)), ("fra-1", Some(24)), ("nrt-1", None)];
    let fleet = Fleet::start(&names, false);
    fleet.make_bank();
    under_load(&fleet, |book| {
        writes_flow(book);
        // A replica's disk is full: the others go on, and it follows again once there is room.
        let replica = fleet.places[..2].iter().find(|place| !place.is_primary()).unwrap();
        let full = replica.post("/fill", "").unwrap();
        assert!(full.body.contains("No space left"), "{full:?}");
        writes_flow(book);
        replica.post("/unfill", "").unwrap();
        until("the replica follows again", || {
            let at = |place: &Place| place.info().and_then(|info| info["txid"].as_u64());
            let tip = fleet.primary().and_then(at).unwrap_or(u64::MAX);
            writes_flow(book);
            at(replica).is_some_and(|txid| txid >= tip)
        });

        // The primary's disk is full: nothing is acknowledged that it could not keep.
        let primary = fleet.primary().unwrap();
        let full = primary.post("/fill", "").unwrap();
        assert!(full.body.contains("No space left"), "{full:?}");
        let http = primary.http().unwrap();
        until("a write is refused for want of room", || {
            let n = u64::from(u32::MAX) + book.kept.load(Ordering::SeqCst);
            let path = format!("/write?n={n}&from=1&to=2&amount=0");
            !matches!(ask(http, "POST", &path, "", ""), Asked::Answered(a) if a.status == 200)
        });
        std::thread::sleep(Duration::from_millis(500));
        primary.post("/unfill", "").unwrap();
        writes_flow(book);
    });
}
