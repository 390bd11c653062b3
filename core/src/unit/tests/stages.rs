//! Stages: what closes the next, what it waits for, and for how long.

use std::time::Duration;

use super::{
    sim::{Sim, content},
    world::{Fault, config, key},
};
use crate::{
    health::State as HealthState,
    unit::{event::Event, problem::Problem, record::Ready},
};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn newer_entry_ends_a_stage_wait() {
    let (namespace, a) = (key("Namespace", "a"), config("a"));
    let mut sim = Sim::new(&content(&[(&namespace, "1"), (&a, "1")]));
    sim.world.slow.insert(namespace.clone());
    sim.send(Event::Tick);
    sim.run();
    assert_eq!(sim.log.applies, [(1, vec![namespace.clone()])]);
    assert_eq!(sim.ready_word(), Ready::Unknown);
    assert!(sim.message().contains("Namespace/a"), "{}", sim.message());
    sim.world.slow.clear();
    sim.offer(&content(&[(&namespace, "2"), (&a, "2")]));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

#[test]
fn stage_goes_on_when_what_it_waits_for_is_ready() {
    let (namespace, a) = (key("Namespace", "a"), config("a"));
    let mut sim = Sim::new(&content(&[(&namespace, "1"), (&a, "1")]));
    sim.world.slow.insert(namespace.clone());
    sim.send(Event::Tick);
    sim.run();
    sim.world
        .edit(&namespace, |live| live.health = HealthState::Current);
    sim.run();
    assert!(sim.world.live.contains_key(&a));
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

#[test]
fn stage_that_waits_in_vain_is_given_up_and_tried_again() {
    let (namespace, a) = (key("Namespace", "a"), config("a"));
    let mut sim = Sim::new(&content(&[(&namespace, "1"), (&a, "1")]));
    sim.world.slow.insert(namespace.clone());
    sim.send(Event::Tick);
    sim.sleep(Duration::from_secs(61));
    assert!(
        matches!(sim.problem(&a), Some(Problem::Waiting(_))),
        "{:?}",
        sim.problem(&a)
    );
    sim.world
        .edit(&namespace, |live| live.health = HealthState::Current);
    sim.sleep(2 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn failed_object_closes_the_next_stage_and_no_other_object_of_its_own() {
    let (namespace, other) = (key("Namespace", "a"), key("Namespace", "b"));
    let a = config("a");
    let mut sim = Sim::new(&content(&[(&namespace, "1"), (&other, "1"), (&a, "1")]));
    sim.world.faults.insert(namespace.clone(), Fault::Refused);
    sim.send(Event::Tick);
    sim.run();
    assert!(sim.world.live.contains_key(&other));
    assert!(!sim.world.live.contains_key(&a));
    assert!(matches!(sim.problem(&a), Some(Problem::Waiting(_))));
    assert_eq!(sim.ready_word(), Ready::False);
    assert!(
        sim.message().starts_with("Namespace/a: forbidden"),
        "{}",
        sim.message()
    );
    sim.world.faults.clear();
    sim.sleep(2 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}
