//! Thousands of random stories: what must hold after each step does, and once faults end the unit settles.

use std::time::Duration;

use super::{
    sim::{Log, Sim, not_ready},
    world::{Content, Fault, Key, config, key, paused},
};
use crate::{
    apply::policy::{Decision, Policy, Write},
    health::State as HealthState,
    unit::{UnitState, event::Event, record::Ready},
};

const CASES: u64 = 2000;
const STEPS: usize = 60;
const MINUTE: Duration = Duration::from_secs(60);

fn keys() -> [Key; 6] {
    [
        key("CustomResourceDefinition", "widgets"),
        key("Namespace", "a"),
        config("a"),
        config("b"),
        key("Job", "j"),
        key("Widget", "w"),
    ]
}

fn pick(sim: &mut Sim) -> Key {
    let keys = keys();
    keys[index(sim.random(keys.len() as u64))].clone()
}

fn index(n: u64) -> usize {
    usize::try_from(n).expect("small")
}

fn value(sim: &mut Sim) -> String {
    sim.random(3).to_string()
}

fn policy(sim: &mut Sim) -> Policy {
    let write = match sim.random(12) {
        0 => Write::Merge,
        1 => Write::IfNotPresent,
        2 => Write::Ignore,
        _ => Write::Override,
    };
    Policy {
        write,
        paused: sim.random(12) == 0,
        ..Policy::default()
    }
}

fn random_content(sim: &mut Sim) -> Content {
    let mut content = Content::new();
    for key in keys() {
        if sim.random(4) > 0 {
            let row = (value(sim), policy(sim));
            content.insert(key, row);
        }
    }
    content
}

/// One thing that happens.
fn happen(sim: &mut Sim) {
    match sim.random(40) {
        0..8 => {
            sim.deliver();
        }
        8..14 => {
            let reach = index(sim.random(4));
            sim.finish(reach);
        }
        14..18 => {
            let wake = sim.wake();
            let some = sim.millis + sim.random(90_000) + 1;
            sim.millis = match sim.random(2) {
                0 => wake.unwrap_or(some),
                _ => some,
            };
            sim.send(Event::Tick);
        }
        18 => {
            let content = random_content(sim);
            sim.offer(&content);
        }
        19 => {
            let content = random_content(sim);
            sim.offer_lacking(&content);
        }
        20 => sim.content_comes(),
        21 | 22 => {
            let (key, value) = (pick(sim), value(sim));
            sim.world.edit(&key, |live| live.value = value);
        }
        23 | 24 => {
            let key = pick(sim);
            sim.world.delete(&key);
        }
        25 | 26 => {
            let key = pick(sim);
            let fault =
                [Fault::Refused, Fault::Silent, Fault::Unserved, Fault::Terminating][index(sim.random(4))];
            sim.world.faults.insert(key, fault);
        }
        27 => sim.world.faults.clear(),
        28 => {
            let key = pick(sim);
            let health = [
                HealthState::Current,
                HealthState::InProgress,
                HealthState::Failed,
                HealthState::Terminating,
            ][index(sim.random(4))];
            sim.world.edit(&key, |live| live.health = health);
        }
        29 => sim.send(Event::Requested),
        30 => {
            let states = [UnitState::Suspended, UnitState::Detached];
            let state = match sim.is_active() {
                true => states[index(sim.random(2))].clone(),
                false => UnitState::Active,
            };
            sim.set_state(state);
        }
        31 => {
            let before = sim.state.condition();
            sim.crash();
            if sim.is_active() {
                let after = sim.state.condition();
                assert_eq!(
                    (after.ready, &after.reason),
                    (before.ready, &before.reason),
                    "a restart is no news"
                );
                // How far something had come that is under way is found out anew.
                if before.ready != Ready::Unknown {
                    assert_eq!(after.message, before.message);
                }
            }
        }
        32 => sim.list(),
        33 => sim.send(Event::KindServed),
        34 => {
            sim.edge = !sim.edge;
            sim.send(match sim.edge {
                true => not_ready(),
                false => Event::Edge(None),
            });
        }
        35 => match sim.random(3) {
            0 => sim.ledger_down = true,
            1 => sim.panics = true,
            _ => (sim.ledger_down, sim.panics) = (false, false),
        },
        36 => {
            let key = pick(sim);
            let policy = [Policy::default(), paused()][index(sim.random(2))];
            sim.world.edit(&key, |live| live.policy = policy);
        }
        37 => match sim.random(3) {
            0 => {
                let key = pick(sim);
                sim.world.slow.insert(key);
            }
            1 => {
                let key = pick(sim);
                sim.world.fought.insert(key);
            }
            _ => {
                let key = pick(sim);
                sim.withhold(&[&key]);
            }
        },
        38 => {
            let requested = sim.millis.to_string();
            sim.accept(|entry| entry.requested = requested);
        }
        _ => {
            let key = pick(sim);
            let finished = key.kind == "Job";
            sim.world.edit(&key, |live| {
                live.finished |= finished;
                live.again = Some(Duration::from_secs(15));
            });
        }
    }
}

/// All that stands in the way ends.
fn heal(sim: &mut Sim) {
    sim.world.faults.clear();
    sim.world.fought.clear();
    sim.world.slow.clear();
    (sim.ledger_down, sim.panics, sim.edge) = (false, false, false);
    for key in sim.world.live.keys().cloned().collect::<Vec<_>>() {
        sim.world.edit(&key, |live| {
            live.policy.paused = false;
            live.health = HealthState::Current;
            live.again = None;
        });
    }
    sim.send(Event::Edge(None));
    sim.withhold(&[]);
    sim.set_state(UnitState::Active);
    sim.content_comes();
    sim.send(Event::KindServed);
    sim.sleep(30 * MINUTE);
    sim.list();
    sim.sleep(30 * MINUTE);
}

fn assert_settled(sim: &mut Sim, seed: u64) {
    assert_eq!(
        sim.ready_word(),
        Ready::True,
        "seed {seed}: {} {:#?}",
        sim.message(),
        sim.state
    );
    for (key, (value, policy)) in sim.content_now() {
        let live = sim.world.live.get(&key);
        let is_finished = sim.world.records.get(&key).is_some_and(|record| record.finished);
        if let Decision::Apply { .. } = policy.decide(live.map(|live| live.policy))
            && (live.is_some() || !is_finished)
        {
            assert_eq!(live.map(|live| &live.value), Some(&value), "seed {seed}: {key}");
        }
    }
    let record = sim.state.record();
    assert_eq!(record.healthy, record.applied, "seed {seed}");
    assert_eq!(record.healthy, record.attempted, "seed {seed}");
    // An observation that looks drifted and is not is looked at once an hour, and nothing else is.
    for _ in 0..3 {
        if sim.wake().is_some_and(|wake| wake <= sim.millis + 600_000) {
            let waiting = sim.state.index.later.iter();
            let is_look = waiting
                .clone()
                .all(|(_, key)| sim.state.objects[key].is_suspicious());
            assert!(is_look && waiting.count() > 0, "seed {seed}: {:#?}", sim.state);
            sim.sleep(11 * MINUTE);
        }
    }
    sim.assert_quiet();
}

fn versions(sim: &Sim) -> Vec<u64> {
    sim.world.live.values().map(|live| live.version).collect()
}

#[test]
fn unit_settles_whatever_happened() {
    for seed in 1..=CASES {
        let mut sim = Sim::new(&Content::new());
        sim.seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let content = random_content(&mut sim);
        sim.offer(&content);
        let story = std::panic::AssertUnwindSafe(&mut sim);
        let result = std::panic::catch_unwind(move || {
            let std::panic::AssertUnwindSafe(sim) = { story };
            for _ in 0..STEPS {
                happen(sim);
            }
            heal(sim);
            assert_settled(sim, seed);
            sim.log = Log::default();
            let before = versions(sim);
            sim.restart();
            sim.run();
            sim.sleep(5 * MINUTE);
            assert_eq!(sim.log.ready, [Ready::True], "seed {seed}: flaps after a restart");
            assert_eq!(sim.log.unit_events(), [""; 0], "seed {seed}");
            assert_eq!(
                versions(sim),
                before,
                "seed {seed}: written again after a restart"
            );
            assert_settled(sim, seed);
        });
        if let Err(panic) = result {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
