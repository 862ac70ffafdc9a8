use std::sync::atomic::{AtomicU64, Ordering};

use verge_sim::{Plan, run};

/// Seeds of this test; `make sim` runs more.
const SEEDS: u64 = 160;

#[test]
fn seeds_hold() {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let seed @ 0..SEEDS = next.fetch_add(1, Ordering::Relaxed) {
                    let report = run(Plan::new(seed, None), false);
                    assert!(report.violations.is_empty(), "SEED={seed}: {:?}", report.violations);
                }
            });
        }
    });
}

#[test]
fn a_seed_replays() {
    for seed in [3, 11] {
        let (one, two) = (run(Plan::new(seed, None), false), run(Plan::new(seed, None), false));
        assert_eq!(one, two);
        assert!(one.events > 1000, "{one:?}");
    }
}

/// What faults are there for must happen, or the checkers have nothing to check.
#[test]
fn a_few_seeds_see_everything() {
    let reports: Vec<_> = (0..40).map(|seed| run(Plan::new(seed, None), false)).collect();
    assert!(reports.iter().map(|r| r.acknowledged).sum::<usize>() > 2000);
    assert!(reports.iter().map(|r| r.promotions).sum::<u64>() > 40);
    for (name, count) in [
        ("hand-overs", reports.iter().map(|r| r.hand_overs).sum::<u64>()),
        ("snapshots", reports.iter().map(|r| r.snapshots).sum()),
        ("quarantines", reports.iter().map(|r| r.quarantines).sum()),
        ("lost bookmarks", reports.iter().map(|r| r.lost_bookmarks as u64).sum()),
    ] {
        assert!(count > 0, "no {name}");
    }
}

/// Seeds that once broke a promise; each names the error that it found.
#[test]
fn old_finds_hold() {
    let finds = [
        (2, "messages overtook each other, and a seed that lost its beginning waited for ever"),
        (3905, "a lost answer to the last chunk left a follower without segments"),
        (2745, "a duplicated Hello mixed two snapshots of one session"),
        (1200, "a relay shipped a snapshot of a lineage that it had not told"),
        (2048, "a tail was set aside without what the log had already dropped"),
        (3834, "half of two voters was not enough, though it held everything"),
        (2545, "a primary ruled on while its release of the lease was on the way"),
        (107_473, "a quick candidate outbid the better but slower one for ever"),
        (635, "a diverged replica had no vote when the primary's disk was lost"),
    ];
    for (seed, find) in finds {
        let report = run(Plan::new(seed, None), false);
        assert!(report.violations.is_empty(), "SEED={seed} ({find}): {:?}", report.violations);
    }
}
