//! The steps of a long action, one by one.

use std::time::Duration;

use crate::{
    clock::Timestamp,
    digest::Digest,
    unit::{
        attempt::{Attempt, Event, Kind, Next, Step, StepKind},
        now::{Mono, Now},
        record::Attained,
    },
};

pub(super) fn at(seconds: u64) -> Now {
    Now {
        mono: Mono(Duration::from_secs(seconds)),
        wall: Timestamp(1_000_000) + Duration::from_secs(seconds),
        random: 0,
    }
}

/// An upgrade with a hook of ten minutes, storage, objects, a wait and another hook.
fn upgrade() -> Attempt {
    let step = |kind, name: &str, minutes: u64| Step {
        kind,
        name: name.to_owned(),
        timeout: Duration::from_secs(minutes * 60),
    };
    let steps = vec![
        step(StepKind::Hook, "pre-upgrade", 10),
        step(StepKind::Storage, "storage", 1),
        step(StepKind::Objects, "objects", 1),
        step(StepKind::Wait, "wait", 5),
        step(StepKind::Hook, "post-upgrade", 10),
    ];
    let target = Attained {
        version: 2,
        target: Digest::of("target", b"2"),
    };
    Attempt::begin(7, Kind::Upgrade, target, steps, at(0)).expect("it has steps")
}

fn done(attempt: &Attempt) -> Event {
    Event::Done {
        id: attempt.id,
        at: attempt.at,
    }
}

fn up_to(step: &str) -> Attempt {
    let mut attempt = upgrade();
    while attempt.step().expect("such a step").name != step {
        let event = done(&attempt);
        attempt.next(event, at(1));
    }
    attempt
}

#[test]
fn attempt_of_ten_minutes_takes_each_step_once_and_finishes() {
    let mut attempt = upgrade();
    let mut taken = vec![attempt.step().expect("a step").name.clone()];
    loop {
        let event = done(&attempt);
        match attempt.next(event, at(60)) {
            Next::Take(next) => taken.push(next.step().expect("a step").name.clone()),
            Next::Finished => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        taken,
        ["pre-upgrade", "storage", "objects", "wait", "post-upgrade"]
    );
}

#[test]
fn newer_entry_ends_a_wait_at_once_and_never_a_hook_or_a_write_announced_in_storage() {
    assert_eq!(up_to("wait").next(Event::Superseded, at(2)), Next::Superseded);
    let mut hook = upgrade();
    assert_eq!(hook.next(Event::Superseded, at(2)), Next::Stay);
    let event = done(&hook);
    assert_eq!(hook.next(event, at(3)), Next::Superseded);
    let mut storage = up_to("storage");
    assert_eq!(storage.next(Event::Superseded, at(2)), Next::Stay);
    let event = done(&storage);
    assert!(
        matches!(storage.next(event, at(3)), Next::Take(next) if next.step().expect("a step").name == "objects"),
        "what storage announced is written"
    );
    let event = done(&storage);
    assert_eq!(storage.next(event, at(4)), Next::Superseded);
}

#[test]
fn crash_at_each_step_resumes_at_that_step_with_its_deadline_or_a_minute() {
    for name in ["pre-upgrade", "storage", "objects", "wait", "post-upgrade"] {
        let stored = serde_json::to_vec(&up_to(name)).expect("JSON");
        let mut resumed: Attempt = serde_json::from_slice(&stored).expect("readable");
        // What ended while nobody looked gets the time to be seen.
        let mut expected = resumed.clone();
        expected.deadline = expected.deadline.max(at(160).wall);
        assert_eq!(resumed.next(Event::Resumed, at(100)), Next::Take(expected));
    }
    let mut superseded = up_to("storage");
    superseded.next(Event::Superseded, at(1));
    let stored = serde_json::to_vec(&superseded).expect("JSON");
    let mut resumed: Attempt = serde_json::from_slice(&stored).expect("readable");
    assert!(matches!(resumed.next(Event::Resumed, at(2)), Next::Take(_)));
}

#[test]
fn outcome_of_another_attempt_or_step_changes_nothing() {
    let mut attempt = up_to("objects");
    let before = attempt.clone();
    for (id, step) in [
        (6, attempt.at),
        (attempt.id, attempt.at - 1),
        (attempt.id, attempt.at + 1),
    ] {
        assert_eq!(attempt.next(Event::Done { id, at: step }, at(2)), Next::Stay);
    }
    assert_eq!(attempt, before);
}

#[test]
fn step_that_outlasts_its_time_fails_by_name() {
    let mut attempt = up_to("wait");
    assert_eq!(attempt.next(Event::Tick, at(300)), Next::Stay);
    let next = attempt.next(Event::Tick, at(302));
    assert!(matches!(next, Next::Failed { step, .. } if step == "wait"));
}
