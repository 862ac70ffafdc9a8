use proptest::prelude::*;

use super::*;

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn record(name: &str, incarnation: u64) -> Record {
    let address = format!("{name}:1");
    Record { node: id(name), pop: "iad".parse().unwrap(), address, incarnation }
}

fn seeded(me: &str, other: &str) -> Membership {
    let mut core = Membership::new(id(me), Timing::default(), 8, 1);
    let Record { node, pop, address, .. } = record(other, 0);
    core.add_seed(ms(0), address, Some(Peer { node, pop }));
    core
}

fn dials(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Dial(_))).count()
}

fn state(core: &Membership, name: &str) -> State {
    core.table().get(&id(name)).unwrap().state
}

#[test]
fn silence_makes_suspect_then_down_then_unlinks() {
    let mut core = seeded("a", "b");
    core.linked(ms(0), record("b", 5), 1, None);
    assert_eq!(state(&core, "b"), State::Up);
    core.tick(ms(2999));
    assert_eq!(state(&core, "b"), State::Up);
    assert_eq!(core.tick(ms(3000)), [Effect::Publish]);
    assert_eq!(state(&core, "b"), State::Suspect);
    core.heard(ms(4000), &id("b"), 1);
    assert_eq!(state(&core, "b"), State::Up, "a word in time");
    let effects = core.tick(ms(14_000));
    assert_eq!(state(&core, "b"), State::Down);
    assert!(effects.contains(&Effect::Unlink { node: id("b"), link: 1 }));
}

#[test]
fn the_lesser_name_dials_at_once_and_the_greater_one_waits() {
    assert_eq!(dials(&seeded("a", "b").tick(ms(0))), 1);
    let mut greater = seeded("b", "a");
    assert_eq!(dials(&greater.tick(ms(999))), 0);
    assert_eq!(dials(&greater.tick(ms(1000))), 1);
    assert_eq!(dials(&greater.tick(ms(9000))), 0, "one attempt at a time");
}

#[test]
fn dialing_backs_off_and_never_stops() {
    let mut core = seeded("a", "b");
    let target = Target { address: "b:1".into(), node: Some(id("b")) };
    let (mut now, mut last, mut count) = (ms(0), ms(0), 0);
    while now < ms(120_000) {
        if dials(&core.tick(now)) == 1 {
            assert!(now - last <= ms(5100), "never longer than the longest wait");
            last = now;
            count += 1;
            core.dial_failed(now, &target, "refused", false);
        }
        now += ms(50);
    }
    assert!((24..60).contains(&count), "{count}");
    assert_eq!(core.table().get(&id("b")).unwrap().last_error.as_deref(), Some("refused"));
}

#[test]
fn an_old_connections_end_does_not_touch_the_new_one() {
    let mut core = seeded("a", "b");
    core.linked(ms(0), record("b", 5), 1, None);
    core.linked(ms(10), record("b", 6), 2, None);
    assert!(core.unlinked(ms(20), &id("b"), 1, "replaced").is_empty());
    assert!(core.table().get(&id("b")).unwrap().linked);
    assert!(core.heard(ms(30), &id("b"), 1).is_empty());
}

#[test]
fn nodes_are_learned_once_judged_by_oneself_and_forgotten() {
    let mut core = seeded("b", "a");
    let told = |incarnation, age| Hearsay { record: record("c", incarnation), heard_ms_ago: age };
    assert_eq!(core.learned(ms(0), told(1, 0)), [Effect::Publish]);
    assert!(core.learned(ms(0), told(1, 0)).is_empty());
    assert_eq!(state(&core, "c"), State::Suspect, "told is not heard");
    core.tick(ms(11_000));
    assert_eq!(state(&core, "c"), State::Down);
    let day = Timing::default().forget_after;
    core.tick(day + ms(1));
    assert!(core.table().get(&id("c")).is_none());
    assert!(core.table().get(&id("a")).is_some(), "seeds stay");
    let age = day.as_millis() as u64;
    assert!(core.learned(day, told(1, age)).is_empty(), "old news does not raise the dead");
}

#[test]
fn the_table_is_bounded() {
    let mut core = seeded("a", "b");
    for index in 0..50 {
        let hearsay = Hearsay { record: record(&format!("n{index}"), 1), heard_ms_ago: 0 };
        core.learned(ms(0), hearsay);
    }
    assert_eq!((core.table().members.len(), core.refused()), (8, 43));
}

#[test]
fn an_address_without_a_name_is_dialed_until_somebody_is_found() {
    let mut core = Membership::new(id("b"), Timing::default(), 8, 1);
    core.add_seed(ms(0), "a:1".into(), None);
    let target = Target { address: "a:1".into(), node: None };
    assert_eq!(core.tick(ms(0)), [Effect::Dial(target.clone())]);
    core.dial_failed(ms(1), &target, "refused", false);
    assert_eq!(dials(&core.tick(ms(200))), 1);
    core.linked(ms(300), record("a", 1), 1, Some("a:1"));
    assert_eq!(dials(&core.tick(ms(400))), 0);
    core.unlinked(ms(500), &id("a"), 1, "lost");
    let effects = core.tick(ms(2000));
    assert_eq!(dials(&effects), 1, "now by its name: {effects:?}");
}

#[test]
fn a_goodbye_is_believed_at_once_and_a_return_too() {
    let mut core = seeded("a", "b");
    core.linked(ms(0), record("b", 5), 1, None);
    core.left(ms(100), &id("b"));
    assert_eq!(state(&core, "b"), State::Down);
    core.unlinked(ms(200), &id("b"), 1, "goodbye");
    core.tick(ms(300));
    assert_eq!(state(&core, "b"), State::Down);
    core.linked(ms(400), record("b", 6), 2, None);
    assert_eq!(state(&core, "b"), State::Up);
}

#[test]
fn of_two_connections_both_ends_keep_the_lessers() {
    let facts = |by_lesser| LinkFacts { by_lesser, incarnation: 1, silent: false };
    assert!(replaces(facts(true), facts(false)));
    assert!(!replaces(facts(false), facts(true)));
    assert!(replaces(facts(true), facts(true)), "a new one of the same dialer");
    let silent = LinkFacts { silent: true, ..facts(true) };
    assert!(replaces(facts(false), silent));
    let restarted = LinkFacts { incarnation: 2, ..facts(false) };
    assert!(replaces(restarted, facts(true)));
}

proptest! {
    /// Whatever happens in whatever order: a linked node is never dialed, a node is dialed once
    /// at a time, Up means linked, and only the current link is dropped.
    #[test]
    fn any_history_keeps_the_invariants(steps in prop::collection::vec((0u8..8, 0u64..4000, 0u64..3), 1..200)) {
        let mut core = seeded("b", "a");
        let target = Target { address: "a:1".into(), node: Some(id("a")) };
        let (mut now, mut link, mut running) = (ms(0), 0u64, false);
        for (step, pause, old) in steps {
            now += ms(pause);
            let stale = link.saturating_sub(old);
            let effects = match step {
                0 if running => { running = false; core.dial_failed(now, &target, "no", false) }
                1 => { link += 1; running = false; core.linked(now, record("a", link), link, None) }
                2 => core.unlinked(now, &id("a"), stale, "lost"),
                3 => core.heard(now, &id("a"), stale),
                4 => core.left(now, &id("a")),
                5 if running => { running = false; core.dial_needless(now, &target); Vec::new() }
                6 => core.learned(now, Hearsay { record: record("a", link + old), heard_ms_ago: pause }),
                _ => core.tick(now),
            };
            let table = core.table();
            let member = table.get(&id("a")).unwrap();
            for effect in &effects {
                match effect {
                    Effect::Dial(_) => {
                        prop_assert!(!member.linked && !running);
                        running = true;
                    }
                    Effect::Unlink { link: dropped, .. } => prop_assert_eq!(*dropped, link),
                    Effect::Publish => {}
                }
            }
            prop_assert!(member.state != State::Up || member.linked);
        }
    }
}
