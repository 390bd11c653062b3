//! Conditions, what was attained, clocks and events.

use std::time::Duration;

use super::{
    sim::{Log, Sim, content, not_ready},
    world::{Fault, Key, config, desired, key, paused},
};
use crate::{
    apply::policy::Policy,
    health::{Health, State as HealthState},
    unit::{
        UnitState,
        event::Event,
        object::{Object, Observed},
        problem::Problem,
        record::Ready,
    },
};

const MINUTE: Duration = Duration::from_secs(60);
/// After it a workload that is scaled is not told of.
const PROVEN: Duration = Duration::from_secs(601);
/// The unit's timeout.
const TIMEOUT: Duration = Duration::from_secs(300);

/// AG-B7.
#[test]
fn version_is_applied_and_healthy_only_after_it_was() {
    let (a, b) = (config("a"), config("b"));
    let good = content(&[(&a, "1"), (&b, "1")]);
    let mut sim = Sim::ready(&good);
    let first = sim.state.record().applied.expect("applied");
    assert_eq!(first.version, 1);
    sim.world.faults.insert(b.clone(), Fault::Refused);
    sim.offer(&content(&[(&a, "2"), (&b, "2")]));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
    assert_eq!(sim.state.record().applied, Some(first));
    assert_eq!(sim.state.record().attempted.expect("attempted").version, 2);
    sim.offer(&good);
    assert_eq!(sim.state.record().applied, Some(first), "of version 1, not of 3");
    assert_eq!(sim.state.record().healthy, Some(first));
    assert_eq!(sim.state.record().attempted.expect("attempted").version, 2);
    assert_eq!(sim.ready_word(), Ready::Unknown);
    sim.world.faults.clear();
    sim.world.slow.insert(a.clone());
    sim.run();
    let record = sim.state.record();
    assert_eq!(record.applied.expect("applied").version, 3);
    assert_eq!(record.applied.expect("applied").target, first.target);
    assert_eq!(record.healthy, Some(first));
    sim.world.edit(&a, |live| live.health = HealthState::Current);
    sim.run();
    assert_eq!(sim.state.record().healthy, sim.state.record().applied);
    sim.assert_quiet();
}

/// AG-B8.
#[test]
fn wait_ends_when_it_was_ready_once_and_a_hiccup_opens_a_new_window() {
    let a = key("Deployment", "a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    let since = sim.state.record().healthy_since;
    sim.sleep(60 * MINUTE);
    assert_eq!(sim.state.record().healthy_since, since);
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.sleep(2 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::Unknown, "{}", sim.message());
    sim.world.edit(&a, |live| live.health = HealthState::Current);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True);
    assert!(sim.state.record().healthy_since > since);
    assert_eq!(sim.log.unit_events(), [""; 0], "a hiccup is no news");
    // The window of the hiccup is over with it.
    sim.sleep(10 * MINUTE);
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.sleep(TIMEOUT - MINUTE);
    assert_eq!(sim.ready_word(), Ready::Unknown);
    sim.sleep(3 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::False);
    sim.world.edit(&a, |live| live.health = HealthState::Current);
    sim.run();
    assert_eq!(
        sim.log.unit_events(),
        ["HealthCheckFailed", "ReconciliationSucceeded"]
    );
    sim.assert_quiet();
}

/// What scales a workload of a ready unit does so for as long as it runs.
#[test]
fn workload_that_is_scaled_while_it_is_ready_changes_no_row_and_writes_nothing() {
    let (a, b) = (key("Deployment", "a"), key("Deployment", "b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.sleep(PROVEN);
    let scale = |sim: &mut Sim| {
        sim.world.edit(&a, |live| live.health = HealthState::InProgress);
        sim.sleep(Duration::from_secs(50));
        sim.world.edit(&a, |live| live.health = HealthState::Current);
        sim.sleep(Duration::from_secs(20));
    };
    sim.state.take_dirty();
    let (saves, record) = (sim.saves, sim.state.record().clone());
    sim.log = Log::default();
    for _ in 0..20 {
        scale(&mut sim);
        assert_eq!(sim.state.take_dirty().0.len(), 0);
    }
    assert_eq!((sim.saves, sim.state.record()), (saves, &record));
    assert_eq!(sim.log.ready.len(), 1, "{:?}", sim.log.ready);
    assert_eq!(sim.log.told, []);
    sim.assert_quiet();
    // Where it is on its way for longer, that counts, and so does each failure.
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.sleep(MINUTE - Duration::from_secs(1));
    assert_eq!(sim.ready_word(), Ready::True);
    sim.sleep(Duration::from_secs(1));
    assert_eq!(sim.ready_word(), Ready::Unknown);
    sim.world.edit(&b, |live| live.health = HealthState::Failed);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::False);
    sim.sleep(TIMEOUT);
    sim.assert_quiet();
}

#[test]
fn another_target_is_not_healthy_by_what_was_not_told_of_the_one_before() {
    let (a, b) = (key("Deployment", "a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.sleep(PROVEN);
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True);
    sim.offer(&content(&[(&a, "1"), (&b, "2")]));
    sim.run();
    let record = sim.state.record();
    assert_eq!(record.applied.map(|applied| applied.version), Some(2));
    assert_eq!(record.healthy.map(|healthy| healthy.version), Some(1));
    sim.world.edit(&a, |live| live.health = HealthState::Current);
    sim.run();
    let healthy = sim.state.record().healthy;
    assert_eq!(healthy.map(|healthy| healthy.version), Some(2));
    // From now on it has to stay so.
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::Unknown);
    sim.world.edit(&a, |live| live.health = HealthState::Current);
    sim.run();
    sim.assert_quiet();
}

/// It runs on as it is, and somebody goes on scaling it.
#[test]
fn workload_that_is_scaled_is_not_told_of_either_while_what_is_offered_is_not_enforced() {
    let (a, b) = (key("Deployment", "a"), config("b"));
    let (one, two) = (content(&[(&a, "1"), (&b, "1")]), content(&[(&a, "1"), (&b, "2")]));
    for case in ["lacks content", "waits", "fails", "is suspended"] {
        let mut sim = Sim::ready(&one);
        match case {
            "lacks content" => sim.offer_lacking(&two),
            "waits" => {
                sim.edge = true;
                sim.send(not_ready());
                sim.offer(&two);
            }
            "fails" => {
                sim.world.faults.insert(b.clone(), Fault::Refused);
                sim.offer(&two);
            }
            _ => {
                sim.set_state(UnitState::Suspended);
                sim.offer(&two);
            }
        }
        sim.run();
        let record = sim.state.record();
        assert_ne!(record.applied, Some(sim.state.offered()), "{case}");
        sim.sleep(PROVEN);
        sim.state.take_dirty();
        for health in [HealthState::InProgress, HealthState::Current] {
            sim.world.edit(&a, |live| live.health = health);
            sim.run();
            assert!(!sim.state.take_dirty().0.contains(&a), "{case}: {health:?}");
        }
    }
}

#[test]
fn target_that_came_while_the_unit_was_suspended_is_not_healthy_by_what_was_not_told() {
    let (a, b) = (key("Deployment", "a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.sleep(PROVEN);
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True);
    sim.set_state(UnitState::Suspended);
    sim.offer(&content(&[(&a, "1"), (&b, "2")]));
    sim.set_state(UnitState::Active);
    sim.run();
    let record = sim.state.record();
    assert_eq!(record.applied.map(|applied| applied.version), Some(2));
    assert_eq!(record.healthy.map(|healthy| healthy.version), Some(1));
    assert_eq!(sim.ready_word(), Ready::Unknown);
}

/// AG-B8.
#[test]
fn failure_of_health_is_told_once_per_set_of_objects_and_has_no_running_clock() {
    let (a, b) = (key("Deployment", "a"), key("Deployment", "b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.sleep(TIMEOUT + MINUTE);
    let message = sim.message();
    assert!(message.contains("5m0s"), "{message}");
    for _ in 0..20 {
        sim.world.edit(&a, |live| live.health = HealthState::InProgress);
        sim.sleep(Duration::from_millis(3_217));
    }
    assert_eq!(sim.message(), message);
    assert_eq!(sim.log.unit_events(), ["HealthCheckFailed"]);
    sim.world.edit(&b, |live| live.health = HealthState::InProgress);
    sim.run();
    assert_eq!(sim.log.unit_events().len(), 2);
    sim.assert_quiet();
}

#[test]
fn failed_object_ends_the_wait_early() {
    let a = key("Deployment", "a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| live.health = HealthState::Failed);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::False);
    assert!(sim.message().contains("failed early"), "{}", sim.message());
}

/// AG-B16.
#[test]
fn restart_keeps_condition_clocks_and_timings_and_tells_nothing_again() {
    let (a, b) = (key("Deployment", "a"), config("b"));
    let mut sim = Sim::new(&content(&[(&a, "1"), (&b, "1")]));
    sim.send(Event::Tick);
    sim.sleep(Duration::from_secs(2));
    sim.sleep(60 * MINUTE);
    let record = sim.state.record().clone();
    sim.log = Log::default();
    sim.restart();
    assert_eq!(*sim.state.record(), record);
    sim.run();
    assert_eq!(*sim.state.record(), record);
    assert_eq!(sim.log.ready, [Ready::True]);
    assert_eq!(sim.log.told, []);
    assert_eq!(sim.log.applies, []);
    sim.assert_quiet();
}

/// AG-B16.
#[test]
fn restart_does_not_begin_the_wait_for_health_again() {
    let a = key("Deployment", "a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.sleep(TIMEOUT - MINUTE);
    sim.restart();
    sim.run();
    assert_eq!(sim.log.ready, [Ready::Unknown]);
    sim.sleep(2 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::False);
    assert_eq!(sim.log.unit_events(), ["HealthCheckFailed"]);
    sim.sleep(60 * MINUTE);
    sim.restart();
    sim.run();
    assert_eq!(sim.log.ready, [Ready::Unknown, Ready::False]);
    assert_eq!(sim.log.unit_events(), ["HealthCheckFailed"]);
}

/// AG-B16.
#[test]
fn restart_keeps_a_failure_as_it_was_told() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::new(&content(&[(&a, "1"), (&b, "1")]));
    sim.world.faults.insert(a.clone(), Fault::Refused);
    sim.world.faults.insert(b.clone(), Fault::Refused);
    sim.send(Event::Tick);
    sim.run();
    assert_eq!(sim.log.unit_events(), ["ReconciliationFailed"]);
    sim.log.ready.clear();
    sim.restart();
    sim.run();
    assert_eq!(sim.log.ready, [Ready::False]);
    assert_eq!(sim.log.unit_events(), ["ReconciliationFailed"]);
}

/// AG-B16.
#[test]
fn object_paused_in_place_stays_out_of_health_after_a_restart() {
    let a = key("Deployment", "a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| {
        live.policy = paused();
        live.health = HealthState::Failed;
    });
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.log.ready.clear();
    sim.restart();
    sim.run();
    assert_eq!(sim.log.ready, [Ready::True]);
    sim.assert_quiet();
}

#[test]
fn unit_suspended_while_the_agent_was_down_says_so() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.restart();
    sim.set_state(UnitState::Suspended);
    assert_eq!(sim.state.condition().reason, "Suspended");
}

#[test]
fn resumed_unit_gives_its_objects_their_time_again() {
    let a = key("Deployment", "a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.run();
    sim.set_state(UnitState::Suspended);
    sim.sleep(60 * MINUTE);
    sim.set_state(UnitState::Active);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::Unknown, "{}", sim.message());
    sim.sleep(TIMEOUT + MINUTE);
    assert_eq!(sim.ready_word(), Ready::False);
}

#[test]
fn retry_that_fails_as_before_is_told_once() {
    let (a, b) = (config("a"), config("b"));
    let objects = content(&[(&a, "1"), (&b, "1")]);
    let mut sim = Sim::ready(&objects);
    // An entry of the same version and target, of which an object has to be written once more.
    sim.world.records.remove(&a);
    sim.world.faults.insert(a.clone(), Fault::Refused);
    sim.restart();
    sim.sleep(20 * MINUTE);
    assert_eq!(sim.log.unit_events(), ["ReconciliationFailed"]);
    assert!(!sim.log.ready[1..].contains(&Ready::True), "{:?}", sim.log.ready);
}

/// A unit of version 2 that is applied and not healthy.
fn failing() -> Sim {
    let a = key("Deployment", "a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.slow.insert(a.clone());
    sim.offer(&content(&[(&a, "2")]));
    sim.run();
    let record = sim.state.record();
    assert_eq!(record.applied.map(|applied| applied.version), Some(2));
    assert_eq!(record.healthy.map(|healthy| healthy.version), Some(1));
    sim
}

#[test]
fn restart_before_a_silent_server_makes_nothing_healthy_that_was_not() {
    for first in [Event::Tick, not_ready()] {
        let mut sim = failing();
        sim.ledger_down = true;
        sim.restart_with(first);
        sim.sleep(10 * MINUTE);
        let record = sim.state.record();
        assert_eq!(record.healthy.map(|healthy| healthy.version), Some(1));
        assert_eq!(record.healthy_since, None);
    }
}

#[test]
fn unit_resumed_after_a_restart_is_not_healthy_before_it_is_evaluated() {
    let mut sim = failing();
    sim.set_state(UnitState::Suspended);
    sim.restart();
    sim.run();
    sim.set_state(UnitState::Active);
    let healthy = |sim: &Sim| sim.state.record().healthy.map(|healthy| healthy.version);
    assert_eq!(healthy(&sim), Some(1));
    sim.run();
    assert_eq!(healthy(&sim), Some(1));
    sim.world
        .edit(&key("Deployment", "a"), |live| live.health = HealthState::Current);
    sim.run();
    assert_eq!(healthy(&sim), Some(2));
}

#[test]
fn status_of_an_object_that_may_hold_a_secret_is_told_by_its_reason_alone() {
    let mut object = Object {
        desired: Some(desired("1", Policy::default())),
        observed: Some(Observed {
            observation: None,
            health: Health {
                state: HealthState::Failed,
                reason: "ConnectFailed".into(),
                message: "postgres://u:hunter2@db".into(),
            },
            version: None,
            again: None,
        }),
        ..Object::default()
    };
    assert_eq!(object.said(), "postgres://u:hunter2@db");
    object.desired.as_mut().expect("desired").secret = true;
    assert_eq!(object.said(), "ConnectFailed");
    object.desired = None;
    assert_eq!(object.said(), "ConnectFailed", "nothing is known of it");
}

#[test]
fn ready_unit_names_the_first_objects_that_are_no_longer_desired_and_counts_the_rest() {
    let keys = ["a", "b", "c", "d", "e", "f"].map(config);
    let all: Vec<_> = keys.iter().map(|key| (key, "1")).collect();
    let mut sim = Sim::ready(&content(&all));
    sim.offer(&content(&all[..1]));
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True);
    assert_eq!(
        sim.message(),
        "Applied revision: main@sha1:2; no longer desired and not removed: ConfigMap/a/b, ConfigMap/a/c, \
         ConfigMap/a/d, and 2 more"
    );
    for key in &keys[1..] {
        sim.world.delete(key);
    }
    sim.run();
    assert_eq!(sim.message(), "Applied revision: main@sha1:2");
    sim.assert_quiet();
}

#[test]
fn unit_that_desires_no_object_says_so() {
    let mut sim = Sim::ready(&content(&[]));
    assert_eq!(sim.ready_word(), Ready::True);
    assert!(
        sim.message()
            .starts_with("Applied revision: main@sha1:1; nothing in it is for this cluster"),
        "{}",
        sim.message()
    );
    sim.assert_quiet();
    sim.offer(&content(&[(&config("a"), "1")]));
    sim.run();
    assert_eq!(sim.message(), "Applied revision: main@sha1:2");
}

#[test]
fn object_paused_in_place_is_named_by_its_row_and_by_the_unit() {
    let (a, b) = (config("a"), config("b"));
    let mut objects = content(&[(&a, "1"), (&b, "1")]);
    // What the manifest says is no news.
    objects.get_mut(&b).expect("b").1 = paused();
    let mut sim = Sim::ready(&objects);
    sim.state.take_dirty();
    sim.world.edit(&a, |live| live.policy = paused());
    sim.run();
    assert!(sim.state.take_dirty().0.contains(&a), "its row has changed");
    assert!(sim.state.objects[&a].said().contains("left alone"));
    assert!(
        sim.message()
            .ends_with("; left alone as the live object asks: ConfigMap/a/a"),
        "{}",
        sim.message()
    );
    assert_eq!(sim.ready_word(), Ready::True);
    sim.world.edit(&a, |live| live.policy = Policy::default());
    sim.run();
    assert!(sim.state.take_dirty().0.contains(&a));
    assert_eq!(
        (sim.state.objects[&a].said(), sim.message()),
        ("", "Applied revision: main@sha1:1".to_owned())
    );
    sim.assert_quiet();
}

/// The newest revision with what is applied is the hub's to name: the agent is not told one that changes nothing.
#[test]
fn suspended_unit_names_no_revision() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.set_state(UnitState::Suspended);
    let says = "suspended: kept as it is, not enforced";
    assert_eq!(sim.message(), says);
    // An entry that comes meanwhile is not applied.
    sim.offer(&content(&[(&a, "2")]));
    assert_eq!(sim.message(), says);
    let mut fresh = Sim::new(&content(&[(&a, "1")]));
    fresh.set_state(UnitState::Suspended);
    assert_eq!(fresh.message(), says);
}

#[test]
fn what_many_objects_wait_for_is_named_once_and_held_once() {
    let crd = key("CustomResourceDefinition", "d");
    let many: Vec<_> = (0..300).map(|n| config(&format!("c{n:03}"))).collect();
    let objects: Vec<_> = many.iter().chain([&crd]).map(|key| (key, "1")).collect();
    let mut sim = Sim::new(&content(&objects));
    sim.world.faults.insert(crd.clone(), Fault::Refused);
    sim.send(Event::Tick);
    sim.run();
    let message = sim.message();
    assert!(message.ends_with("; and 101 more"), "{message}");
    assert_eq!(message.matches("which failed").count(), 1, "{message}");
    let texts = many.iter().map(|key| match sim.problem(key) {
        Some(Problem::Waiting(text)) => text,
        other => panic!("{other:?}"),
    });
    let texts: Vec<_> = texts.collect();
    assert!(texts.iter().all(|text| std::sync::Arc::ptr_eq(text, &texts[0])));
}

#[test]
fn progress_of_health_is_told_and_costs_no_write_of_the_record() {
    let many: Vec<_> = (0..30).map(|n| key("Deployment", &format!("d{n:02}"))).collect();
    let objects: Vec<_> = many.iter().map(|key| (key, "1")).collect();
    let mut sim = Sim::new(&content(&objects));
    sim.world.slow.extend(many.iter().cloned());
    sim.send(Event::Tick);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::Unknown);
    let saves = sim.saves;
    for key in &many {
        let before = sim.message();
        sim.world.edit(key, |live| live.health = HealthState::Current);
        sim.run();
        assert_ne!(sim.message(), before, "it is told");
    }
    assert_eq!(sim.ready_word(), Ready::True);
    assert!(sim.saves - saves <= 2, "{} writes", sim.saves - saves);
    sim.assert_quiet();
}

/// A ready unit of many Deployments, each of which fails its health check then.
fn unhealthy(many: &[Key]) -> Sim {
    let objects: Vec<_> = many.iter().map(|key| (key, "1")).collect();
    let mut sim = Sim::ready(&content(&objects));
    for key in many {
        sim.world.edit(key, |live| live.health = HealthState::InProgress);
    }
    sim.run();
    sim.sleep(TIMEOUT + MINUTE);
    assert_eq!(sim.log.unit_events(), ["HealthCheckFailed"]);
    sim
}

#[test]
fn recovery_of_many_objects_is_one_event_and_few_writes() {
    let many: Vec<_> = (0..100).map(|n| key("Deployment", &format!("d{n:03}"))).collect();
    let mut sim = unhealthy(&many);
    let saves = sim.saves;
    for key in &many {
        let before = sim.message();
        sim.world.edit(key, |live| live.health = HealthState::Current);
        sim.run();
        assert_ne!(sim.message(), before, "the status says it");
    }
    assert_eq!(sim.ready_word(), Ready::True);
    assert_eq!(
        sim.log.unit_events(),
        ["HealthCheckFailed", "ReconciliationSucceeded"]
    );
    assert!(sim.saves - saves <= 4, "{} writes", sim.saves - saves);
    sim.assert_quiet();
}

#[test]
fn what_more_objects_fail_is_told_once_a_minute_and_saved_in_the_end() {
    let (a, many): (_, Vec<_>) = (
        key("Deployment", "a"),
        (0..50).map(|n| key("Deployment", &format!("d{n:03}"))).collect(),
    );
    let mut objects: Vec<_> = many.iter().map(|key| (key, "1")).collect();
    objects.push((&a, "1"));
    let mut sim = Sim::ready(&content(&objects));
    sim.world.edit(&a, |live| live.health = HealthState::InProgress);
    sim.run();
    sim.sleep(TIMEOUT + MINUTE);
    let saves = sim.saves;
    for key in &many {
        sim.world.edit(key, |live| live.health = HealthState::InProgress);
        sim.run();
        sim.sleep(Duration::from_secs(2));
    }
    sim.sleep(2 * MINUTE);
    let events = sim.log.unit_events().len();
    assert!((2..=4).contains(&events), "{events} events");
    assert!(sim.saves - saves <= 4, "{} writes", sim.saves - saves);
    let said = sim.unit.condition.as_ref().map(|condition| &condition.message);
    assert_eq!(said, Some(&sim.message()), "what is durable is what is told");
    let told = sim.log.told.last().map(|notice| &notice.message);
    assert_eq!(told, Some(&sim.message()));
    assert_eq!(sim.wake(), None, "nothing turns");
}
