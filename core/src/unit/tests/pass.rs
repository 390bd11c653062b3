//! Passes: what is written when, what pre-empts what, and what becomes of failures.

use std::time::Duration;

use super::{
    sim::{Sim, content},
    world::{Fault, config, key, paused},
};
use crate::{
    apply::policy::{Policy, Write},
    health::State as HealthState,
    unit::{
        UnitState,
        condition::Tally,
        event::{Action, Applied, Event, Outcome},
        problem::Problem,
        record::Ready,
    },
};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// AG-B3.
#[test]
fn suspended_unit_wants_no_wake_and_does_nothing() {
    for state in [UnitState::Suspended, UnitState::Detached] {
        let (a, b) = (config("a"), config("b"));
        let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
        sim.world.faults.insert(b.clone(), Fault::Refused);
        sim.world.edit(&b, |live| "theirs".clone_into(&mut live.value));
        sim.run();
        assert!(sim.wake().is_some());
        sim.set_state(state);
        let before = sim.log.actions;
        sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
        sim.run();
        sim.send(Event::Requested);
        assert_eq!(sim.wake(), None);
        assert_eq!(sim.ready_word(), Ready::Unknown);
        sim.sleep(60 * MINUTE);
        assert_eq!(sim.log.actions, before);
    }
}

/// AG-B3.
#[test]
fn busy_unit_wants_no_wake_for_what_its_job_delays() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.world.faults.insert(b.clone(), Fault::Refused);
    sim.world.edit(&b, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    let retry = sim.wake().expect("a retry");
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.deliver();
    assert!(sim.work.is_some());
    sim.millis = retry + 1;
    sim.send(Event::Tick);
    assert_eq!(sim.wake(), None);
    let checks = sim.log.checks.len();
    sim.run();
    assert_eq!(sim.log.checks.len(), checks + 1, "what was delayed follows");
}

/// AG-B13.
#[test]
fn newer_entry_cancels_a_check_and_goes_first() {
    let (a, b, c) = (config("a"), config("b"), config("c"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1"), (&c, "1")]));
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.deliver();
    sim.world.edit(&b, |live| "theirs".clone_into(&mut live.value));
    sim.deliver();
    assert_eq!(sim.log.checks.len(), 1);
    sim.offer(&content(&[(&a, "2"), (&b, "1"), (&c, "1")]));
    assert_eq!(sim.log.cancels, 1);
    sim.finish(0);
    assert_eq!(sim.log.evaluations, 1);
    sim.run();
    assert_eq!(sim.log.applies, [(2, vec![a.clone()])]);
    assert_eq!(
        sim.log.checks[1..],
        [(2, vec![b.clone()])],
        "what was not reached is checked after"
    );
    assert_eq!(sim.world.live[&a].value, "2");
    assert_eq!(sim.world.live[&b].value, "1");
    sim.assert_quiet();
}

#[test]
fn newer_entry_cancels_a_pass_and_is_applied_whole() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::new(&content(&[(&a, "1"), (&b, "1")]));
    sim.send(Event::Tick);
    sim.finish(0);
    assert_eq!(sim.log.applies.len(), 1);
    sim.offer(&content(&[(&a, "2"), (&b, "1")]));
    assert_eq!(sim.log.cancels, 1);
    sim.finish(1);
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
    assert_eq!(sim.world.live[&b].value, "1");
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

/// AG-B31.
#[test]
fn pass_without_an_answer_is_tried_again_soon_and_a_refused_one_after_the_retry_interval() {
    for (fault, before, after) in [(Fault::Silent, 0, 3), (Fault::Refused, 119, 2)] {
        let a = config("a");
        let mut sim = Sim::new(&content(&[(&a, "1")]));
        sim.world.faults.insert(a.clone(), fault);
        sim.send(Event::Tick);
        sim.run();
        sim.world.faults.clear();
        sim.sleep(Duration::from_secs(before));
        assert!(!sim.world.live.contains_key(&a));
        sim.sleep(Duration::from_secs(after));
        assert!(sim.world.live.contains_key(&a), "{fault:?}");
        assert_eq!(sim.ready_word(), Ready::True);
        sim.assert_quiet();
    }
}

#[test]
fn pass_that_panics_is_tried_again_after_a_minute_at_least() {
    let a = config("a");
    let mut sim = Sim::new(&content(&[(&a, "1")]));
    sim.send(Event::Tick);
    sim.finish(0);
    sim.panics = true;
    sim.sleep(10 * MINUTE);
    assert!(
        (2..=11).contains(&sim.log.applies.len()),
        "{}",
        sim.log.applies.len()
    );
    assert_eq!(sim.ready_word(), Ready::False);
    sim.panics = false;
    sim.sleep(3 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn pass_without_a_ledger_is_unknown_first_and_failed_after_the_timeout() {
    let a = config("a");
    let mut sim = Sim::new(&content(&[(&a, "1")]));
    sim.ledger_down = true;
    sim.send(Event::Tick);
    sim.sleep(MINUTE);
    assert_eq!(sim.ready_word(), Ready::Unknown);
    sim.sleep(5 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::False);
    assert_eq!(sim.log.unit_events(), ["ReconciliationFailed"]);
    sim.ledger_down = false;
    sim.sleep(3 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn evaluation_that_cannot_be_tried_is_tried_again_and_gives_way_to_a_newer_entry() {
    let a = config("a");
    let mut sim = Sim::new(&content(&[(&a, "1")]));
    sim.panics = true;
    sim.send(Event::Tick);
    sim.sleep(5 * MINUTE);
    assert!((2..=6).contains(&sim.log.evaluations), "{}", sim.log.evaluations);
    assert_eq!(sim.ready_word(), Ready::False);
    assert_eq!(sim.log.unit_events(), ["ReconciliationFailed"]);
    sim.panics = false;
    sim.offer(&content(&[(&a, "2")]));
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn hold_after_a_failure_outlasts_the_wait_for_a_stage() {
    let (namespace, a) = (key("Namespace", "a"), config("a"));
    let objects = content(&[(&namespace, "1"), (&a, "1")]);
    let mut sim = Sim::new(&objects);
    sim.world.slow.insert(namespace.clone());
    sim.send(Event::Tick);
    sim.run();
    sim.sleep(MINUTE / 2);
    sim.panics = true;
    sim.world
        .edit(&namespace, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    sim.panics = false;
    // The stage's time is over while nothing may begin: the invariants of each step tell.
    sim.sleep(MINUTE);
    sim.world.slow.clear();
    sim.world
        .edit(&namespace, |live| live.health = HealthState::Current);
    sim.sleep(5 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn object_that_leaves_is_kept_and_marked_comes_back_unwritten_and_is_forgotten_when_gone() {
    let (a, b) = (config("a"), config("b"));
    let both = content(&[(&a, "1"), (&b, "1")]);
    let mut sim = Sim::ready(&both);
    sim.offer(&content(&[(&a, "1")]));
    sim.run();
    assert!(sim.world.live.contains_key(&b));
    assert_eq!(sim.state.counts().pending_removal, 1);
    assert_eq!(sim.ready_word(), Ready::True);
    let left = sim.world.records[&b].left.clone().expect("when it left");
    assert_eq!(left.version, 2);
    sim.offer(&both);
    sim.run();
    assert_eq!(sim.state.counts().pending_removal, 0);
    assert_eq!(sim.world.records[&b].left, None);
    assert_eq!(sim.log.applies, [], "it is there as it was sent");
    sim.offer(&content(&[(&a, "1")]));
    sim.run();
    sim.world.delete(&b);
    sim.run();
    assert!(!sim.state.objects().contains_key(&b));
    assert!(!sim.world.records.contains_key(&b));
    sim.assert_quiet();
}

#[test]
fn evaluation_failure_keeps_the_last_good_state_enforced() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.offer_lacking(&content(&[(&a, "2")]));
    sim.run();
    assert_eq!(sim.ready_word(), Ready::False);
    assert!(
        sim.message().ends_with("the last good state is enforced"),
        "{}",
        sim.message()
    );
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1");
    sim.assert_quiet();
    sim.content_comes();
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

#[test]
fn evaluation_that_asks_others_is_tried_again_later_and_later_and_keeps_correcting_drift_meanwhile() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.asks_others = true;
    sim.offer_lacking(&content(&[(&a, "2")]));
    sim.run();
    let mut waited = Vec::new();
    for _ in 0..12 {
        let evaluations = sim.log.evaluations;
        // A part of a millisecond is left off.
        let wake = sim.wake().expect("it is tried again") + 1;
        waited.push(wake - sim.millis);
        sim.millis = wake;
        sim.send(Event::Tick);
        sim.run();
        assert_eq!(sim.log.evaluations, evaluations + 1);
        assert_eq!(sim.ready_word(), Ready::False);
    }
    assert!(waited[0] < 5_000, "{waited:?}");
    let longest = waited.iter().max().copied().unwrap_or_default();
    assert!((60_000..=120_000).contains(&longest), "{waited:?}");
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1");
    sim.lacking.clear();
    sim.millis = sim.wake().expect("it is tried again") + 1;
    sim.send(Event::Tick);
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

#[test]
fn content_that_comes_while_its_entry_is_evaluated_is_not_missed() {
    let a = config("a");
    let mut sim = Sim::new(&content(&[(&a, "1")]));
    sim.offer_lacking(&content(&[(&a, "2")]));
    assert!(sim.work.is_some());
    let lacking = std::mem::take(&mut sim.lacking);
    sim.content_comes();
    // The evaluation under way began without it.
    sim.lacking = lacking;
    sim.finish(0);
    sim.lacking.clear();
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
}

#[test]
fn unit_suspended_during_a_pass_goes_on_with_it_when_resumed() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::new(&content(&[(&a, "1"), (&b, "1")]));
    sim.send(Event::Tick);
    sim.finish(0);
    assert!(sim.work.is_some());
    sim.set_state(UnitState::Suspended);
    assert_eq!(sim.log.cancels, 1);
    sim.finish(1);
    sim.sleep(10 * MINUTE);
    assert_eq!(sim.world.live.len(), 1);
    sim.set_state(UnitState::Active);
    sim.run();
    assert_eq!(sim.world.live.len(), 2);
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

#[test]
fn object_paused_in_place_during_a_change_gets_it_once_it_is_paused_no_more() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| live.policy = paused());
    sim.run();
    sim.offer(&content(&[(&a, "2")]));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1");
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
    sim.world.edit(&a, |live| live.policy = Policy::default());
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
    sim.assert_quiet();
}

#[test]
fn object_that_is_paused_no_more_while_a_check_runs_gets_its_change_all_the_same() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.world.edit(&a, |live| live.policy = paused());
    sim.run();
    sim.offer(&content(&[(&a, "2"), (&b, "1")]));
    sim.run();
    sim.world.edit(&b, |live| "theirs".clone_into(&mut live.value));
    sim.world.edit(&a, |live| live.policy = Policy::default());
    while sim.deliver() {}
    assert!(sim.work.is_some(), "the check runs");
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
    sim.assert_quiet();
}

#[test]
fn objects_are_counted_once_by_how_they_stand() {
    let (a, b, c, d) = (config("a"), config("b"), config("c"), config("d"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1"), (&c, "1"), (&d, "1")]));
    let all = Tally {
        applied: 4,
        ..Tally::default()
    };
    assert_eq!(sim.state.tally(), all);
    sim.world.faults.insert(b.clone(), Fault::Refused);
    sim.offer(&content(&[(&a, "1"), (&b, "2"), (&c, "1")]));
    sim.withhold(&[&c]);
    sim.run();
    let some = Tally {
        applied: 1,
        failed: 1,
        waiting: 0,
        conflict: 1,
        pending_removal: 1,
    };
    assert_eq!(sim.state.tally(), some);
    assert_eq!(sim.state.counts().objects, 3);
}

#[test]
fn withheld_object_stays_desired_and_is_not_written() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.withhold(&[&b]);
    sim.run();
    assert_eq!(sim.state.condition().reason, "Conflict");
    assert_eq!(sim.state.counts().pending_removal, 0);
    sim.assert_quiet();
    sim.withhold(&[]);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn object_that_is_left_alone_and_that_no_watch_shows_holds_up_nothing() {
    let (ns, a) = (key("Namespace", "team"), config("a"));
    let mut objects = content(&[(&ns, "1"), (&a, "1")]);
    objects.get_mut(&ns).expect("ns").1.write = Write::IfNotPresent;
    let mut sim = Sim::new(&objects);
    sim.world.put(&ns, "theirs", Policy::default());
    sim.send(Event::Tick);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    assert_eq!(sim.world.live[&ns].value, "theirs");
    assert!(sim.world.live.contains_key(&a));
    assert_eq!(sim.state.record().healthy, sim.state.record().applied);
    assert_eq!(sim.state.tally().waiting, 0);
    sim.assert_quiet();
}

#[test]
fn object_that_was_left_alone_is_waited_for_once_it_is_not() {
    let (ns, a) = (key("Namespace", "team"), config("a"));
    let mut objects = content(&[(&ns, "1"), (&a, "1")]);
    objects.get_mut(&ns).expect("ns").1.write = Write::IfNotPresent;
    let mut sim = Sim::new(&objects);
    sim.world.put(&ns, "theirs", Policy::default());
    sim.send(Event::Tick);
    sim.run();
    sim.world.slow.insert(ns.clone());
    sim.offer(&content(&[(&ns, "2"), (&a, "2")]));
    sim.run();
    assert_eq!(sim.world.live[&ns].value, "2");
    assert_eq!(sim.world.live[&a].value, "1", "the namespace is in progress");
    assert_eq!(sim.ready_word(), Ready::Unknown, "{}", sim.message());
}

#[test]
fn object_that_is_still_managed_by_another_withholds_itself_alone() {
    let (ns, a) = (key("Namespace", "team"), config("a"));
    let mut sim = Sim::new(&content(&[(&ns, "1"), (&a, "1")]));
    sim.world.put(&ns, "theirs", Policy::default());
    sim.world.faults.insert(ns.clone(), Fault::StillManaged);
    sim.send(Event::Tick);
    sim.run();
    assert!(sim.world.live.contains_key(&a));
    assert_eq!(sim.problem(&a), None);
    assert_eq!(sim.state.condition().reason, "StillManagedByFlux");
}

#[test]
fn entry_that_gives_other_keys_than_before_is_evaluated_again_and_not_without_end() {
    let a = config("a");
    let mut sim = Sim::new(&content(&[(&a, "1")]));
    let unknown = || Outcome {
        key: config("a"),
        record: None,
        observed: None,
        adopted: None,
        result: Applied::Unknown,
    };
    sim.send(Event::Tick);
    sim.finish(0);
    sim.end_apply(vec![unknown()]);
    assert!(matches!(sim.problem(&a), Some(Problem::Unserved(_))));
    sim.sleep(5 * SECOND);
    assert_eq!(sim.log.evaluations, 2);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
    // Were it so for ever, it would be tried with a growing wait.
    let mut sim = Sim::new(&content(&[(&a, "1")]));
    sim.send(Event::Tick);
    for _ in 0..1000 {
        match sim.log.applies.len() > sim.log.evaluations - 1 && sim.work.is_some() {
            true => sim.end_apply(vec![unknown()]),
            false if sim.work.is_some() => sim.finish(0),
            false => {
                sim.millis += 1000;
                sim.send(Event::Tick);
            }
        }
    }
    assert!(sim.log.evaluations < 30, "{}", sim.log.evaluations);
}

#[test]
fn intent_of_what_a_cancelled_job_has_not_begun_is_known_and_forgotten_with_its_object() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::new(&content(&[(&a, "1"), (&b, "1")]));
    sim.send(Event::Tick);
    sim.finish(0);
    sim.world.intend(&b);
    sim.offer(&content(&[(&a, "2")]));
    let not_begun = Outcome {
        key: b.clone(),
        record: Some(sim.world.records[&b].clone().into()),
        observed: None,
        adopted: None,
        result: Applied::NotBegun,
    };
    sim.end_apply(vec![not_begun]);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    assert_eq!(
        sim.world.records.keys().collect::<Vec<_>>(),
        [&a],
        "the intent stays"
    );
    sim.assert_quiet();
}

#[test]
fn entry_that_a_newer_one_overtakes_is_enforced_in_its_own_bytes_and_evaluated_in_place_of_that() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.offer(&content(&[(&a, "2")]));
    // Its evaluation ends in the turn in which a newer entry is accepted that lacks its content.
    sim.finish(0);
    sim.offer_lacking(&content(&[(&b, "3")]));
    sim.run();
    assert_eq!(
        sim.world.live[&a].value, "2",
        "what was evaluated last is enforced"
    );
    sim.restart();
    sim.run();
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "2");
}

/// BR-6.
#[test]
fn what_a_batch_had_no_time_for_is_handed_out_again_once_drift_is_checked() {
    let (a, b, c, d) = (config("a"), config("b"), config("c"), config("d"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1"), (&c, "1"), (&d, "1")]));
    sim.offer(&content(&[(&a, "2"), (&b, "2"), (&c, "2"), (&d, "1")]));
    sim.finish(0);
    sim.world.edit(&d, |live| "theirs".clone_into(&mut live.value));
    sim.deliver();
    sim.slow_jobs = true;
    sim.finish(1);
    assert_eq!(sim.log.checks, [(2, vec![d.clone()])], "before the next batch");
    sim.slow_jobs = false;
    sim.run();
    assert_eq!(
        sim.log.applies,
        [
            (2, vec![a.clone(), b.clone(), c.clone()]),
            (2, vec![b.clone(), c.clone()])
        ]
    );
    for (key, value) in [(&a, "2"), (&b, "2"), (&c, "2"), (&d, "1")] {
        assert_eq!(sim.world.live[key].value, value);
    }
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

/// BR-6.
#[test]
fn a_batch_that_reached_nothing_is_tried_again_later() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.offer(&content(&[(&a, "2"), (&b, "2")]));
    sim.finish(0);
    sim.slow_jobs = true;
    sim.finish(0);
    assert!(sim.work.is_none() && sim.log.applies.len() == 1, "not at once");
    sim.slow_jobs = false;
    sim.sleep(MINUTE);
    assert_eq!(sim.world.live[&a].value, "2");
    assert_eq!(sim.ready_word(), Ready::True);
}

/// Counts rows that are put into the sets of the index: a commit, a retry and a restart touch what they concern.
#[test]
fn commit_of_one_object_among_many_touches_its_row_alone() {
    let many: Vec<_> = (0..200).map(|n| config(&format!("c{n:03}"))).collect();
    let mut objects: Vec<_> = many.iter().map(|key| (key, "1")).collect();
    let mut sim = Sim::ready(&content(&objects));
    sim.state.take_dirty();
    let touched = |sim: &mut Sim| {
        sim.run();
        (
            std::mem::take(&mut sim.state.index.touched),
            sim.state.take_dirty().0.len(),
        )
    };
    touched(&mut sim);
    objects[7].1 = "2";
    sim.offer(&content(&objects));
    let (rows, reported) = touched(&mut sim);
    assert!(rows <= 20, "{rows} rows for one object");
    assert_eq!(reported, 1);
    // Nothing differs.
    sim.offer(&content(&objects));
    assert_eq!(touched(&mut sim), (0, 0));
    // One fails again and again.
    sim.world.faults.insert(many[7].clone(), Fault::Refused);
    objects[7].1 = "3";
    sim.offer(&content(&objects));
    touched(&mut sim);
    sim.sleep(Duration::from_secs(600));
    let (rows, _) = touched(&mut sim);
    assert!(rows <= 100, "{rows} rows for five tries of one object");
}

#[test]
fn evaluation_takes_over_what_is_the_same_and_one_that_takes_over_what_no_row_has_is_made_again_whole() {
    let (a, b, c) = (config("a"), config("b"), config("c"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    assert_eq!(sim.evaluated.take(), 2);
    sim.offer(&content(&[(&a, "1"), (&b, "2")]));
    sim.run();
    assert_eq!(sim.evaluated.take(), 1);
    assert_eq!(sim.world.live[&b].value, "2");
    sim.taken_over = Some(c);
    sim.offer(&content(&[(&a, "1"), (&b, "3")]));
    sim.run();
    assert_eq!(sim.evaluated.take(), 1 + 2, "once for nothing, then all");
    assert_eq!(sim.world.live[&b].value, "3");
    assert_eq!(sim.ready_word(), Ready::True);
}

/// AG-B21.
#[test]
fn what_is_evaluated_of_many_objects_is_taken_in_in_pieces_and_in_the_order_of_one() {
    let many: Vec<_> = (0..600).map(|n| config(&format!("c{n:04}"))).collect();
    let mut objects: Vec<_> = many.iter().map(|key| (key, "1")).collect();
    let mut state = Sim::new(&content(&objects));
    state.send(Event::Tick);
    // All are new, then another content is desired of each, then one has gone.
    for round in 0..3 {
        match round {
            0 => {}
            1 => objects.iter_mut().for_each(|object| object.1 = "2"),
            _ => drop(objects.remove(7)),
        }
        if round > 0 {
            state.offer(&content(&objects));
        }
        let event = state.ended(0).expect("an evaluation");
        state.state.index.touched = 0;
        let mut actions = state.state.step(event, state.now());
        let mut pieces = 0;
        while state.state.is_taking_in() {
            let touched = std::mem::take(&mut state.state.index.touched);
            assert!(touched <= 2 * 256, "{touched} rows in a piece");
            assert!(
                !actions
                    .iter()
                    .any(|action| matches!(action, Action::Apply { .. })),
                "nothing begins before all is taken in"
            );
            pieces += 1;
            actions.extend(state.state.step(Event::Tick, state.now()));
        }
        let pass = actions.iter().find_map(|action| match action {
            Action::Apply { keys, .. } => Some(keys.len()),
            _ => None,
        });
        match round {
            2 => assert_eq!((pieces, pass), (0, None), "a few rows are one piece"),
            _ => {
                assert_eq!((pieces, pass), (2, Some(600)));
            }
        }
        state.carry_out(actions);
        state.run();
        assert_eq!(state.ready_word(), Ready::True, "{}", state.message());
    }
}

/// What comes between two pieces finds all of them taken in.
#[test]
fn an_event_between_two_pieces_of_an_evaluation_comes_after_the_last() {
    let many: Vec<_> = (0..1000).map(|n| config(&format!("c{n:04}"))).collect();
    let objects: Vec<_> = many.iter().map(|key| (key, "1")).collect();
    let mut sim = Sim::new(&content(&objects));
    sim.send(Event::Tick);
    let event = sim.ended(0).expect("an evaluation");
    let actions = sim.state.step(event, sim.now());
    sim.carry_out(actions);
    assert!(sim.state.is_taking_in() && sim.work.is_none());
    sim.offer(&content(&[(&many[0], "2")]));
    sim.run();
    assert_eq!(sim.world.live.len(), 1, "nothing of the first was begun");
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}
