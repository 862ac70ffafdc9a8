//! The same fleets on real SQLite files: seeds that must hold, and errors that must be seen.
//! `make sim` runs more.

use std::ops::Range;

use verge_sim::{Bug, Plan, Report, run};

/// Seeds of each of these tests.
const SEEDS: u64 = 8;

fn on_files(seed: u64, bug: Option<Bug>) -> Report {
    run(Plan::new(seed, bug).on_files(), false)
}

fn hold(seeds: impl Iterator<Item = u64>) {
    let reports: Vec<Report> = seeds.map(|seed| on_files(seed, None)).collect();
    for report in &reports {
        let violations = &report.violations;
        assert!(violations.is_empty(), "FILE_SEED={}: {violations:?}", report.seed);
    }
    // What faults are there for must happen, or the checkers have nothing to check.
    assert!(reports.iter().map(|report| report.acknowledged).sum::<usize>() > 800);
    assert!(reports.iter().map(|report| report.promotions).sum::<u64>() > SEEDS);
    assert!(reports.iter().map(|report| report.snapshots).sum::<u64>() > 0);
}

#[test]
fn seeds_hold() {
    hold(0..SEEDS);
}

#[test]
fn more_seeds_hold() {
    hold(SEEDS..2 * SEEDS);
}

#[test]
fn still_more_seeds_hold() {
    hold(2 * SEEDS..3 * SEEDS);
}

/// A disk that does not sync makes promotions fail; then another is primary. Who never led has
/// followed all the while, and must not go back to an old lineage.
#[test]
fn a_failed_promotion_leaves_the_history_alone() {
    let report = on_files(1233, None);
    assert!(report.violations.is_empty(), "{:?}", report.violations);
}

/// All that happened, and every page of every state, is the same: the engine's threads and the
/// machine's clock leave no trace.
#[test]
fn a_seed_replays() {
    for seed in [3, 4] {
        let (one, two) = (on_files(seed, None), on_files(seed, None));
        assert_eq!(one, two);
        assert!(one.events > 1000 && one.history != 0, "{one:?}");
    }
}

/// Runs seeds until one of the promises is found broken. Those before the first are left out where
/// it takes several, for time.
fn caught(bug: Bug, seeds: Range<u64>, promises: &[&str]) {
    for seed in seeds.clone() {
        let report = on_files(seed, Some(bug));
        if report.violations.iter().any(|violation| promises.contains(&violation.promise)) {
            return;
        }
    }
    panic!("{bug:?} was not caught by {promises:?} in seeds {seeds:?}");
}

#[test]
fn a_disk_that_lies_about_syncs_is_caught() {
    caught(Bug::SkipFsync, 0..30, &["durability", "prefix", "recovery"]);
}

#[test]
fn a_segment_beyond_the_commit_is_caught_by_its_pages() {
    caught(Bug::ShipPastCommit, 0..10, &["prefix"]);
}

#[test]
fn an_acknowledgement_before_the_log_is_caught() {
    caught(Bug::AckBeforeLog, 0..20, &["durability", "strong reads", "read your writes"]);
}

#[test]
fn a_primary_that_ignores_its_epoch_is_caught() {
    // Two histories: one of them calls a bookmark of the other forged.
    let promises = ["fencing", "one primary per epoch", "durability", "bookmarks"];
    caught(Bug::IgnoreEpoch, 4..30, &promises);
}

#[test]
fn a_replica_that_ignores_its_promise_is_caught() {
    caught(Bug::IgnoreFence, 1..30, &["durability", "one primary per epoch", "prefix"]);
}

#[test]
fn a_read_before_the_log_is_caught() {
    caught(Bug::ReadBeforeLog, 0..20, &["reads of what is durable"]);
}

#[test]
fn a_read_without_its_bookmark_is_caught() {
    caught(Bug::IgnoreBookmark, 0..20, &["monotonic reads", "read your writes"]);
}

#[test]
fn a_recovery_without_redo_is_caught() {
    caught(Bug::SkipRedo, 0..20, &["prefix", "recovery"]);
}

#[test]
fn a_dropped_tail_is_caught() {
    caught(Bug::DropTail, 3..30, &["durability"]);
}
