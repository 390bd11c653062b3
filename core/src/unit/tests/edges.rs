//! Units that wait for others.

use super::{
    sim::{Sim, content, not_ready},
    world::{config, paused},
};
use crate::{
    apply::policy::Policy,
    unit::{event::Event, record::Ready},
    units::Wait,
};

#[test]
fn entry_that_waits_for_its_edge_is_not_overtaken_by_a_pass_of_the_one_before() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| live.policy = paused());
    sim.run();
    sim.offer(&content(&[(&a, "2")]));
    sim.run();
    sim.edge = true;
    sim.send(not_ready());
    sim.offer(&content(&[(&a, "3")]));
    sim.log.applies.clear();
    sim.world.edit(&a, |live| live.policy = Policy::default());
    sim.run();
    assert_eq!(sim.log.applies, []);
    sim.edge = false;
    sim.send(Event::Edge(None));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "3");
    sim.assert_quiet();
}

#[test]
fn unit_waits_for_its_edge_and_goes_on_when_that_holds() {
    let a = config("a");
    let mut sim = Sim::new(&content(&[(&a, "1")]));
    sim.edge = true;
    sim.send(not_ready());
    sim.run();
    assert_eq!(sim.log.evaluations, 0);
    assert_eq!(sim.state.condition().reason, "DependencyNotReady");
    assert_eq!(sim.wake(), None);
    sim.edge = false;
    sim.send(Event::Edge(None));
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True);
}

#[test]
fn entry_that_waits_leaves_the_one_before_enforced_over_a_restart() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    let waits = not_ready();
    sim.edge = true;
    sim.send(waits.clone());
    sim.offer(&content(&[(&a, "2")]));
    sim.run();
    sim.restart_with(waits);
    sim.run();
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1");
    assert_eq!(sim.state.condition().reason, "DependencyNotReady");
    sim.edge = false;
    sim.send(Event::Edge(None));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

/// BR-18.
#[test]
fn unit_that_has_applied_its_version_stays_ready_while_one_that_it_needs_is_not_for_a_while() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.edge = true;
    sim.send(not_ready());
    assert_eq!(
        (sim.ready_word(), sim.log.unit_events()),
        (Ready::True, Vec::new())
    );
    assert!(sim.state.standing().ready, "nor do those wait that need this one");
    // What it has is enforced, and a newer version waits.
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1");
    sim.restart_with(not_ready());
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
    sim.offer(&content(&[(&a, "2")]));
    sim.run();
    assert_eq!(sim.state.condition().reason, "DependencyNotReady");
    assert_eq!(sim.world.live[&a].value, "1");
}

#[test]
fn cycle_of_dependencies_is_told_of_a_unit_that_has_applied_its_version() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.edge = true;
    sim.send(Event::Edge(Some(Wait::lasting(
        "dependencies form a cycle: apps/a, apps/b",
    ))));
    assert_eq!(sim.state.condition().reason, "DependencyNotReady");
}
