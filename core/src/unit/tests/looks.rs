//! Objects that `healthChecks` names, and kinds that are judged by expressions.

use std::{collections::BTreeMap, time::Duration};

use super::{
    sim::{Sim, content},
    world::config,
};
use crate::{
    health::{Health, State as HealthState},
    object::ObjectKey,
    unit::{
        event::Event,
        health::{HealthCheck, HealthChecks},
        record::Ready,
    },
};

/// The unit's timeout and interval.
const TIMEOUT: Duration = Duration::from_secs(300);
const INTERVAL: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_secs(5);

fn other() -> ObjectKey {
    ObjectKey::new("apps", "Deployment", "infra", "gateway")
}

/// A unit that waits for an object of its own, or for another.
fn waiting_for(key: &ObjectKey) -> Sim {
    let mut sim = Sim::new(&content(&[(&config("a"), "1")]));
    sim.accept(|entry| {
        entry.settings.wait = false;
        entry.settings.health = HealthChecks {
            objects: vec![HealthCheck {
                api_version: "apps/v1".into(),
                key: key.clone(),
            }],
            exprs: Vec::new(),
        };
    });
    sim.run();
    sim
}

fn shows(sim: &mut Sim, state: HealthState, message: &str) {
    let (version, _) = sim.log.looks.pop().expect("a look was asked for");
    let health = Health {
        state,
        reason: "".into(),
        message: message.into(),
    };
    let seen = BTreeMap::from([(other(), health)]);
    sim.send(Event::Looked { version, seen });
}

fn said(sim: &Sim) -> (Ready, String) {
    let condition = sim.state.condition();
    (condition.ready, condition.message)
}

#[test]
fn object_of_somebody_else_is_looked_at_until_it_is_healthy_and_once_an_interval_from_then_on() {
    let mut sim = waiting_for(&other());
    assert_eq!(sim.world.live[&config("a")].value, "1", "it is applied meanwhile");
    let (ready, message) = said(&sim);
    assert_eq!(ready, Ready::Unknown);
    assert_eq!(
        message,
        "Running health checks with a timeout of 5m0s: waiting for Deployment/infra/gateway"
    );
    assert_eq!(sim.log.looks.len(), 1);
    shows(&mut sim, HealthState::InProgress, "");
    assert!(sim.log.looks.is_empty(), "not at once");
    sim.sleep(POLL);
    shows(&mut sim, HealthState::Current, "");
    assert_eq!(sim.ready_word(), Ready::True);
    sim.sleep(INTERVAL - Duration::from_secs(1));
    assert!(sim.log.looks.is_empty());
    sim.sleep(Duration::from_secs(1));
    assert_eq!(sim.log.looks.len(), 1);
}

#[test]
fn one_that_fails_ends_the_wait_and_one_that_recovers_ends_the_failure() {
    let mut sim = waiting_for(&other());
    shows(&mut sim, HealthState::Failed, "exceeded quota");
    assert_eq!(
        said(&sim),
        (
            Ready::False,
            "health check failed: failed early due to stalled resources: [Deployment/infra/gateway status: \
             'Failed': exceeded quota]"
                .to_owned()
        )
    );
    sim.sleep(POLL);
    shows(&mut sim, HealthState::Current, "");
    assert_eq!(sim.ready_word(), Ready::True);
}

#[test]
fn wait_ends_with_the_timeout_and_is_looked_at_less_often_from_then_on() {
    let mut sim = waiting_for(&other());
    while sim.ready_word() != Ready::False {
        if sim.log.looks.is_empty() {
            sim.sleep(POLL);
        } else {
            shows(&mut sim, HealthState::NotFound, "Resource not found");
        }
        assert!(
            u128::from(sim.millis) <= TIMEOUT.as_millis() + POLL.as_millis(),
            "{:?}",
            said(&sim)
        );
    }
    assert_eq!(
        said(&sim).1,
        "health check failed after 5m0s: timeout waiting for: [Deployment/infra/gateway status: 'NotFound']"
    );
    if !sim.log.looks.is_empty() {
        shows(&mut sim, HealthState::NotFound, "Resource not found");
    }
    sim.sleep(Duration::from_secs(100));
    assert!(sim.log.looks.is_empty(), "the retry interval is 2m");
    sim.sleep(Duration::from_secs(20));
    shows(&mut sim, HealthState::Current, "");
    assert_eq!(sim.ready_word(), Ready::True);
}

#[test]
fn object_of_its_own_is_not_looked_at() {
    let own = config("a");
    let sim = waiting_for(&own);
    assert!(sim.log.looks.is_empty());
    assert_eq!(sim.ready_word(), Ready::True);
}

#[test]
fn look_for_another_version_says_nothing_of_this_one() {
    let mut sim = waiting_for(&other());
    let (version, _) = sim.log.looks.pop().expect("a look");
    sim.offer(&content(&[(&config("a"), "2")]));
    sim.run();
    let seen = BTreeMap::from([(other(), Health::not_found())]);
    sim.send(Event::Looked { version, seen });
    assert_eq!(sim.log.looks.len(), 1, "looked at for the new one");
    shows(&mut sim, HealthState::Current, "");
    assert_eq!(sim.ready_word(), Ready::True);
    assert_eq!(sim.world.live[&config("a")].value, "2");
}

#[test]
fn unit_that_is_to_be_removed_waits_for_nobody() {
    let mut sim = waiting_for(&config("a"));
    sim.accept(|entry| {
        let removal = crate::removal::Removal {
            policy: crate::removal::DeletionPolicy::Delete,
            approval: None,
        };
        entry.state = crate::unit::UnitState::Removing(removal);
    });
    sim.run();
    let (_, message) = said(&sim);
    assert!(!message.contains("health checks"), "{message}");
}
