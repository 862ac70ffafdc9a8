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
        ("relays", reports.iter().map(|r| r.relays).sum()),
        ("quarantines", reports.iter().map(|r| r.quarantines).sum()),
        ("lost bookmarks", reports.iter().map(|r| r.lost_bookmarks as u64).sum()),
    ] {
        assert!(count > 0, "no {name}");
    }
}

/// Seeds that once broke a promise; each names the error that it found. A change of the plan or of
/// the faults gives every seed another run: then this list begins anew.
#[test]
fn old_finds_hold() {
    let finds = [
        (1_010_121, "a late copy of an older Hello, then of the current one, began it again"),
        (2545, "a primary ruled on while its release of the lease was on the way"),
        (201_733, "a write ran on a history that a restore had changed while it waited"),
        (201_893, "a primary that was replaced while it rose above a promise was not told"),
        (107_473, "a quick candidate outbid the better but slower one for ever"),
    ];
    for (seed, find) in finds {
        let report = run(Plan::new(seed, None), false);
        assert!(report.violations.is_empty(), "SEED={seed} ({find}): {:?}", report.violations);
    }
}
