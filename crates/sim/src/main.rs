//! Runs seeds: `SEEDS=10000 verge-sim`, or one with its trace: `SEED=42 TRACE=1 verge-sim`.
//! `FIRST` is the first seed; `BUG=SkipFsync` puts an error in; `THREADS` defaults to the cores.

use std::env;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use verge_sim::{Bug, Plan, Report, run};

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

fn main() -> ExitCode {
    let bug = env::var("BUG").ok().map(|name| {
        Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name).unwrap_or_else(|| {
            eprintln!("verge-sim: BUG={name} is none of {:?}", Bug::ALL);
            std::process::exit(2);
        })
    });
    if let Some(seed) = number("SEED") {
        let plan = Plan::new(seed, bug);
        println!("{plan:?}");
        let report = run(plan, env::var_os("TRACE").is_some());
        println!("{report:#?}");
        return if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let (first, count) = (number("FIRST").unwrap_or(0), number("SEEDS").unwrap_or(1000));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let threads = number("THREADS").unwrap_or(cores).max(1);
    let started = Instant::now();
    let next = AtomicU64::new(first);
    let reports: Mutex<Vec<Report>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let report = run(Plan::new(seed, bug), false);
                    for violation in &report.violations {
                        println!("SEED={seed} {violation:?}");
                    }
                    if let Ok(mut reports) = reports.lock() {
                        reports.push(report);
                    }
                }
            });
        }
    });
    summary(&reports.into_inner().unwrap_or_default(), started)
}

fn summary(reports: &[Report], started: Instant) -> ExitCode {
    let total = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let broken = reports.iter().filter(|report| !report.violations.is_empty()).count();
    println!(
        "{} seeds in {:.1} s: {broken} with violations; {} events, {} answers, {} writes \
         acknowledged, {} promotions, {} hand-overs, {} snapshots, {} quarantines, {} lost bookmarks",
        reports.len(),
        started.elapsed().as_secs_f64(),
        total(|r| r.events),
        total(|r| r.served),
        total(|r| r.acknowledged as u64),
        total(|r| r.promotions),
        total(|r| r.hand_overs),
        total(|r| r.snapshots),
        total(|r| r.quarantines),
        total(|r| r.lost_bookmarks as u64),
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
