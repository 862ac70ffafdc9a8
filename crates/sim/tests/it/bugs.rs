//! Each error that is put in must be caught, by a checker that fits it, within few seeds.

use verge_sim::{Bug, Plan, run};

/// Runs seeds until one of the promises is found broken.
fn caught(bug: Bug, seeds: u64, promises: &[&str]) {
    for seed in 0..seeds {
        let report = run(Plan::new(seed, Some(bug)), false);
        if report.violations.iter().any(|violation| promises.contains(&violation.promise)) {
            return;
        }
    }
    panic!("{bug:?} was not caught by {promises:?} in {seeds} seeds");
}

#[test]
fn a_skipped_fsync() {
    caught(Bug::SkipFsync, 300, &["durability", "prefix"]);
}

#[test]
fn a_segment_beyond_the_commit() {
    caught(Bug::ShipPastCommit, 50, &["prefix", "bank total"]);
}

#[test]
fn an_acknowledgement_before_the_log() {
    caught(Bug::AckBeforeLog, 400, &["durability", "strong reads", "read your writes"]);
}

#[test]
fn a_primary_that_ignores_its_epoch() {
    caught(Bug::IgnoreEpoch, 400, &["fencing", "one primary per epoch", "durability"]);
}

#[test]
fn a_replica_that_ignores_its_promise() {
    caught(Bug::IgnoreFence, 1000, &["durability", "one primary per epoch", "prefix"]);
}

#[test]
fn a_read_before_the_log() {
    caught(Bug::ReadBeforeLog, 200, &["monotonic reads"]);
}

#[test]
fn a_read_without_its_bookmark() {
    caught(Bug::IgnoreBookmark, 50, &["monotonic reads", "read your writes"]);
}

#[test]
fn a_recovery_without_redo() {
    caught(Bug::SkipRedo, 50, &["prefix"]);
}

#[test]
fn a_dropped_tail() {
    caught(Bug::DropTail, 400, &["durability"]);
}

/// What is acknowledged only by whom the relay sends back is rare: the seeds begin near one that
/// has it.
#[test]
fn a_relay_that_judges_as_a_primary() {
    let found = (730..760).any(|seed| {
        let report = run(Plan::new(seed, Some(Bug::RelayAsPrimary)), false);
        report.violations.iter().any(|violation| violation.promise == "strong reads")
    });
    assert!(found);
}
