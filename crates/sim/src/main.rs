//! Runs seeds: `SEEDS=10000 FILES=200 verge-sim` on the model and on real files; or one of them
//! with its trace: `SEED=42 TRACE=1 verge-sim`, `FILE_SEED=42 TRACE=1 verge-sim`. `FIRST` is the
//! first seed; `BUG=SkipFsync` puts an error in; `THREADS` defaults to the cores. With `MOST=300` no
//! seed begins after so many seconds, half of them for each kind.

use std::env;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use verge_sim::{Bug, Plan, Report, run};

/// Seeds between two lines of progress.
const LINE_EVERY: [u64; 2] = [10_000, 100];

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => {
            eprintln!("verge-sim: {name}={text} is no number");
            std::process::exit(2);
        }
    }
}

/// What runs of seeds have in common.
#[derive(Clone, Copy)]
struct Kind {
    files: bool,
    bug: Option<Bug>,
}

impl Kind {
    fn plan(self, seed: u64) -> Plan {
        let plan = Plan::new(seed, self.bug);
        if self.files { plan.on_files() } else { plan }
    }

    /// Names a seed so that it can be replayed.
    fn variable(self) -> &'static str {
        if self.files { "FILE_SEED" } else { "SEED" }
    }
}

fn main() -> ExitCode {
    let bug = env::var("BUG").ok().map(|name| {
        Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name).unwrap_or_else(|| {
            eprintln!("verge-sim: BUG={name} is none of {:?}", Bug::ALL);
            std::process::exit(2);
        })
    });
    let kinds = [Kind { files: false, bug }, Kind { files: true, bug }];
    for kind in kinds {
        if let Some(seed) = number(kind.variable()) {
            let plan = kind.plan(seed);
            println!("{plan:?}");
            let report = run(plan, env::var_os("TRACE").is_some());
            println!("{report:#?}");
            return code(report.violations.is_empty());
        }
    }
    let counts = [number("SEEDS").unwrap_or(1000), number("FILES").unwrap_or(0)];
    let mut sound = true;
    for (kind, count) in kinds.into_iter().zip(counts) {
        sound &= count == 0 || all(kind, count);
    }
    code(sound)
}

fn code(sound: bool) -> ExitCode {
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs `count` seeds; whether all of them held.
fn all(kind: Kind, count: u64) -> bool {
    let first = number("FIRST").unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let threads = number("THREADS").unwrap_or(cores).max(1);
    let line_every = LINE_EVERY[usize::from(kind.files)];
    let started = Instant::now();
    let longest = number("MOST").map_or(Duration::MAX, |seconds| Duration::from_secs(seconds) / 2);
    let next = AtomicU64::new(first);
    let reports: Mutex<Vec<Report>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || started.elapsed() > longest {
                        return;
                    }
                    let report = run(kind.plan(seed), false);
                    for violation in &report.violations {
                        println!("{}={seed} {violation:?}", kind.variable());
                    }
                    let Ok(mut reports) = reports.lock() else { return };
                    reports.push(report);
                    if (reports.len() as u64).is_multiple_of(line_every) {
                        let seconds = started.elapsed().as_secs_f64();
                        println!("{} of {count} seeds, {seconds:.0} s", reports.len());
                    }
                }
            });
        }
    });
    summary(kind, &reports.into_inner().unwrap_or_default(), started)
}

fn summary(kind: Kind, reports: &[Report], started: Instant) -> bool {
    let total = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let broken = reports.iter().filter(|report| !report.violations.is_empty()).count();
    println!(
        "{} seeds {} in {:.1} s: {broken} with violations; {} events, {} answers, {} writes \
         acknowledged, {} promotions, {} hand-overs, {} snapshots, {} relays, {} quarantines, {} lost bookmarks",
        reports.len(),
        if kind.files { "on real files" } else { "of the model" },
        started.elapsed().as_secs_f64(),
        total(|r| r.events),
        total(|r| r.served),
        total(|r| r.acknowledged as u64),
        total(|r| r.promotions),
        total(|r| r.hand_overs),
        total(|r| r.snapshots),
        total(|r| r.relays),
        total(|r| r.quarantines),
        total(|r| r.lost_bookmarks as u64),
    );
    // That no seed broke a promise says nothing if none was run.
    broken == 0 && !reports.is_empty()
}
