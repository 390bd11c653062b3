//! Checks of what looks drifted: each ends, and none is begun again without cause.

use std::{sync::Arc, time::Duration};

use super::{
    sim::{Sim, content},
    world::{Fault, Key, config, key, merged, paused},
};
use crate::{
    apply::policy::{Policy, Write},
    unit::{
        UnitState,
        event::{Action, CheckOutcome, Checked, Event, JobFailure, Outcome},
        object::Check,
        problem::Problem,
        record::Ready,
    },
};

const MINUTE: Duration = Duration::from_secs(60);

/// AG-B1.
#[test]
fn object_paused_in_place_is_not_checked_again_and_again() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| {
        live.policy = paused();
        "theirs".clone_into(&mut live.value);
        live.folded = vec!["kubectl-annotate".into()];
    });
    sim.run();
    sim.assert_quiet();
    assert!(sim.log.checked(&a) <= 1, "{:?}", sim.log.checks);
    assert_eq!(sim.ready_word(), Ready::True);
    assert_eq!(sim.world.live[&a].value, "theirs");
    sim.world.edit(&a, |live| live.policy = Policy::default());
    sim.run();
    assert_eq!(
        sim.world.live[&a].value, "1",
        "it is corrected once it is no longer paused"
    );
    sim.assert_quiet();
}

/// AG-B1.
#[test]
fn object_that_the_manifest_leaves_alone_is_not_checked_again_and_again() {
    let (a, b, c) = (config("a"), config("b"), config("c"));
    let mut objects = content(&[(&a, "1"), (&b, "1"), (&c, "1")]);
    let mut sim = Sim::ready(&objects);
    objects.get_mut(&a).expect("a").1 = paused();
    objects.get_mut(&b).expect("b").1.write = Write::Ignore;
    objects.get_mut(&c).expect("c").1.write = Write::IfNotPresent;
    sim.offer(&objects);
    sim.run();
    for key in [&a, &b, &c] {
        sim.world.edit(key, |live| "theirs".clone_into(&mut live.value));
    }
    sim.run();
    for key in [&a, &b, &c] {
        assert!(sim.log.checked(key) <= 1);
        assert_eq!(sim.world.live[key].value, "theirs");
    }
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

#[test]
fn object_that_vanished_while_it_was_to_be_left_alone_is_created_once_it_is_not() {
    let a = config("a");
    let plain = content(&[(&a, "1")]);
    let mut sim = Sim::ready(&plain);
    let mut left = plain.clone();
    left.get_mut(&a).expect("a").1 = paused();
    sim.offer(&left);
    sim.run();
    sim.world.delete(&a);
    sim.run();
    assert!(!sim.world.live.contains_key(&a));
    sim.offer(&plain);
    sim.run();
    assert!(sim.world.live.contains_key(&a));
    sim.assert_quiet();
}

/// AG-B1.
#[test]
fn object_that_an_incomplete_evaluation_does_not_have_is_left_and_checked_once() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.incomplete = true;
    sim.offer(&content(&[(&a, "2")]));
    sim.run();
    sim.world.edit(&b, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.log.checked(&b), 1);
    assert_eq!(sim.state.counts().pending_removal, 0);
    sim.assert_quiet();
}

/// AG-B1.
#[test]
fn check_that_panics_is_tried_again_after_a_while() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.panics = true;
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.log.checks.len(), 1);
    assert_eq!(sim.ready_word(), Ready::False);
    sim.sleep(MINUTE);
    assert_eq!(sim.log.checks.len(), 1);
    sim.panics = false;
    sim.sleep(2 * MINUTE);
    assert_eq!(sim.log.checks.len(), 2);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

/// AG-B1.
#[test]
fn check_without_a_ledger_is_tried_again_with_backoff_and_leaves_no_failure_behind() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.ledger_down = true;
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.sleep(10 * MINUTE);
    assert!(
        (4..=20).contains(&sim.log.checks.len()),
        "{}",
        sim.log.checks.len()
    );
    assert_eq!(
        sim.ready_word(),
        Ready::False,
        "it has lasted longer than the timeout"
    );
    sim.ledger_down = false;
    sim.sleep(3 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn failure_of_a_job_is_over_when_nothing_is_left_to_do() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.ledger_down = true;
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    sim.world.edit(&a, |live| "1".clone_into(&mut live.value));
    sim.run();
    sim.sleep(10 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

/// AG-B2.
#[test]
fn merged_object_with_a_field_of_kubectl_is_not_written_again() {
    let a = config("a");
    let mut objects = content(&[(&a, "1")]);
    objects.get_mut(&a).expect("a").1 = merged();
    let mut sim = Sim::ready(&objects);
    let version = sim.world.live[&a].version;
    sim.world
        .edit(&a, |live| live.folded = vec!["kubectl-edit".into()]);
    sim.run();
    assert_eq!(sim.log.checked(&a), 0);
    assert_eq!(
        sim.world.live[&a].version,
        version + 1,
        "written by kubectl alone"
    );
    sim.assert_quiet();
}

/// AG-B5.
#[test]
fn job_that_finished_and_vanished_is_done_until_its_content_changes() {
    let job = key("Job", "migrate");
    let mut sim = Sim::ready(&content(&[(&job, "1")]));
    sim.world.edit(&job, |live| live.finished = true);
    sim.run();
    sim.world.delete(&job);
    sim.run();
    assert_eq!(sim.world.live.len(), 0, "it does not run again");
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.restart();
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
    sim.offer(&content(&[(&job, "2")]));
    sim.run();
    assert_eq!(sim.world.live[&job].value, "2");
}

#[test]
fn late_event_of_an_older_job_says_nothing_about_its_successor() {
    let job = key("Job", "migrate");
    let mut sim = Sim::ready(&content(&[(&job, "1")]));
    sim.world.edit(&job, |live| live.finished = true);
    let late = sim.world.seen.pop_back().expect("an event");
    sim.offer(&content(&[(&job, "2")]));
    sim.run();
    sim.send(Event::Observed {
        key: late.0,
        observed: late.1,
    });
    let record = sim.state.objects()[&job].record.clone().expect("a record");
    assert!(!record.finished);
}

/// AG-B5.
#[test]
fn object_that_others_delete_each_time_is_created_three_times_and_then_once_per_interval() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    for _ in 0..10 {
        sim.world.delete(&a);
        sim.run();
        sim.sleep(Duration::from_secs(1));
    }
    let contested = sim.log.told.iter().filter(|told| told.reason == "DriftContested");
    assert_eq!(contested.count(), 1);
    let corrected = sim.log.told.iter().filter(|told| told.reason == "DriftCorrected");
    assert_eq!(corrected.count(), 3);
    let checks = sim.log.checks.len();
    assert!(checks <= 4);
    sim.sleep(12 * MINUTE);
    assert!(sim.world.live.contains_key(&a), "tried again after the interval");
    assert_eq!(sim.log.checks.len(), checks + 1);
}

/// AG-B15.
#[test]
fn contested_object_is_still_created_again_at_once_when_it_is_deleted() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.fought.insert(a.clone());
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.sleep(MINUTE);
    assert_eq!(sim.world.live[&a].value, "theirs");
    let checks = sim.log.checks.len();
    assert!(checks <= 4, "{checks}");
    sim.sleep(MINUTE);
    assert_eq!(sim.log.checks.len(), checks);
    sim.world.delete(&a);
    sim.run();
    assert!(sim.world.live.contains_key(&a));
}

/// AG-B6.
#[test]
fn problems_of_checks_are_over_once_a_deleted_namespace_is_repaired() {
    let (namespace, a) = (key("Namespace", "a"), config("a"));
    let mut sim = Sim::ready(&content(&[(&namespace, "1"), (&a, "1")]));
    sim.world.faults.insert(a.clone(), Fault::Terminating);
    sim.world.faults.insert(namespace.clone(), Fault::Terminating);
    sim.world.delete(&a);
    sim.run();
    assert!(matches!(sim.problem(&a), Some(Problem::Waiting(_))));
    sim.world.faults.clear();
    sim.world.delete(&namespace);
    sim.run();
    assert!(sim.world.live.contains_key(&namespace));
    assert!(
        sim.world.live.contains_key(&a),
        "not only after the retry interval"
    );
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn problem_of_a_check_is_over_when_somebody_else_mends_the_object() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.faults.insert(a.clone(), Fault::Refused);
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.ready_word(), Ready::False);
    sim.world.faults.clear();
    sim.world.edit(&a, |live| "1".clone_into(&mut live.value));
    // The check is due, and the event comes before it begins.
    sim.millis = sim.wake().expect("a retry");
    sim.run();
    sim.sleep(3 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

/// AG-B9.
#[test]
fn objects_of_a_definition_that_is_restored_come_back_at_once() {
    let a = key("Widget", "a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.faults.insert(a.clone(), Fault::Unserved);
    sim.world.delete(&a);
    sim.run();
    assert!(sim.state.waits_for_definition());
    assert_eq!(sim.ready_word(), Ready::Unknown);
    sim.world.faults.clear();
    sim.send(Event::KindServed);
    sim.run();
    assert!(sim.world.live.contains_key(&a));
    assert!(!sim.state.waits_for_definition());
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn a_kind_that_is_not_served_is_waited_for_as_long_as_the_unit_may_take_and_then_a_failure_told_once() {
    let a = key("Widget", "a");
    let mut sim = Sim::new(&content(&[(&a, "1")]));
    sim.world.faults.insert(a.clone(), Fault::Unserved);
    sim.send(Event::Tick);
    sim.sleep(4 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::Unknown);
    assert_eq!(sim.log.unit_events(), [""; 0]);
    // Tries in between begin no new wait.
    sim.sleep(2 * MINUTE);
    let condition = sim.state.condition();
    assert_eq!(
        (condition.ready, condition.reason.as_str()),
        (Ready::False, "ReconciliationFailed")
    );
    assert!(condition.message.contains("not served"), "{}", condition.message);
    sim.sleep(60 * MINUTE);
    assert_eq!(sim.ready_word(), Ready::False);
    assert_eq!(sim.log.unit_events(), ["ReconciliationFailed"]);
    // Another commit is given its own time.
    sim.offer(&content(&[(&a, "2")]));
    sim.sleep(MINUTE);
    assert_eq!(sim.ready_word(), Ready::Unknown);
    sim.world.faults.clear();
    sim.send(Event::KindServed);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

/// AG-B9.
#[test]
fn definition_that_comes_while_its_object_is_tried_is_not_missed() {
    for is_pass in [true, false] {
        let a = key("Widget", "a");
        let objects = content(&[(&a, "1")]);
        let mut sim = if is_pass {
            Sim::new(&objects)
        } else {
            Sim::ready(&objects)
        };
        sim.world.faults.insert(a.clone(), Fault::Unserved);
        if is_pass {
            sim.send(Event::Tick);
            sim.finish(0);
        } else {
            sim.world.delete(&a);
            sim.deliver();
        }
        assert!(sim.work.is_some());
        sim.send(Event::KindServed);
        sim.finish(0);
        sim.world.faults.clear();
        sim.run();
        assert!(sim.world.live.contains_key(&a), "pass: {is_pass}");
        assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    }
}

/// AG-B14.
#[test]
fn request_is_not_lost_while_a_job_runs() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.faults.insert(a.clone(), Fault::Refused);
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.deliver();
    assert!(sim.work.is_some());
    sim.send(Event::Requested);
    assert_eq!(sim.log.verifies, 1);
    sim.finish(0);
    sim.world.faults.clear();
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1", "tried again for the request");
    sim.assert_quiet();
}

/// AG-B14.
#[test]
fn what_a_list_tells_while_an_object_is_checked_is_looked_at_afterwards() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.deliver();
    let Check::Running = sim.state.objects()[&a].check else {
        panic!("not running");
    };
    sim.send(Event::Listed {
        key: a.clone(),
        version: Some(999),
    });
    sim.run();
    assert_eq!(sim.log.checked(&a), 2);
    sim.assert_quiet();
}

/// AG-B14.
#[test]
fn lists_find_what_watches_have_missed() {
    let (a, b, c) = (config("a"), config("b"), config("c"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1"), (&c, "1")]));
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.world.delete(&b);
    sim.world.seen.clear();
    sim.list();
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1");
    assert!(sim.world.live.contains_key(&b));
    assert_eq!(sim.log.checked(&c), 0);
    sim.list();
    sim.run();
    sim.assert_quiet();
}

/// AG-B14.
#[test]
fn object_pending_removal_that_vanishes_while_a_job_runs_leaves_the_inventory() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.offer(&content(&[(&a, "2")]));
    sim.finish(0);
    assert_eq!(sim.state.counts().pending_removal, 1);
    sim.world.delete(&b);
    while sim.deliver() {}
    assert!(sim.work.is_some(), "the pass runs");
    sim.run();
    assert_eq!(sim.state.counts().pending_removal, 0);
    assert!(!sim.world.records.contains_key(&b));
    sim.assert_quiet();
}

/// AG-B31.
#[test]
fn check_without_an_answer_is_tried_again_soon_and_a_refused_one_after_the_retry_interval() {
    for (fault, at_most) in [(Fault::Silent, 3), (Fault::Refused, 121)] {
        let a = config("a");
        let mut sim = Sim::ready(&content(&[(&a, "1")]));
        sim.world.faults.insert(a.clone(), fault);
        sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
        sim.run();
        sim.world.faults.clear();
        sim.sleep(Duration::from_secs(at_most - 2));
        let is_mended = sim.world.live[&a].value == "1";
        assert!(!is_mended || fault == Fault::Silent);
        sim.sleep(Duration::from_secs(2));
        assert_eq!(sim.world.live[&a].value, "1", "{fault:?}");
        assert_eq!(sim.ready_word(), Ready::True);
        sim.assert_quiet();
    }
}

#[test]
fn resumed_unit_judges_what_was_seen_meanwhile() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.set_state(UnitState::Suspended);
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.world.live[&a].value, "theirs");
    sim.set_state(UnitState::Active);
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1");
    sim.assert_quiet();
}

#[test]
fn health_that_depends_on_the_time_is_looked_at_again_whatever_else_happens() {
    let a = key("Pod", "a");
    let b = config("b");
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    sim.world
        .edit(&a, |live| live.again = Some(Duration::from_secs(15)));
    sim.run();
    // The evaluation of another entry judges all objects anew.
    sim.offer(&content(&[(&a, "1"), (&b, "2")]));
    sim.run();
    sim.world.live.get_mut(&a).expect("a").again = None;
    sim.sleep(Duration::from_secs(16));
    assert_eq!(sim.log.checked(&a), 1);
    sim.assert_quiet();
}

#[test]
fn job_of_another_time_ends_nothing() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.deliver();
    let failure = Some(JobFailure::Panicked("stale".into()));
    sim.send(Event::Checked {
        job: 0,
        outcomes: Vec::new(),
        failure,
    });
    assert!(sim.work.is_some());
    assert_eq!(sim.state.objects()[&Arc::clone(&a)].check, Check::Running);
    sim.run();
    assert_eq!(sim.ready_word(), Ready::True);
}

/// AG-B5.
#[test]
fn job_that_finished_and_vanished_during_the_job_that_wrote_it_is_not_run_again() {
    let (job, a) = (key("Job", "migrate"), config("a"));
    let mut sim = Sim::new(&content(&[(&job, "1"), (&a, "1")]));
    sim.send(Event::Tick);
    sim.finish(0);
    // It is written, finishes and goes before the rest of the objects is written.
    let outcome = sim.world.apply(&job, &sim.content_now());
    sim.world.edit(&job, |live| live.finished = true);
    sim.world.delete(&job);
    while sim.deliver() {}
    sim.end_apply(vec![outcome]);
    sim.run();
    assert!(!sim.world.live.contains_key(&job), "it ran again");
    assert!(sim.world.records[&job].finished);
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

/// AG-B5.
#[test]
fn what_is_seen_finished_while_a_job_runs_writes_no_older_record_over_that_of_the_job() {
    let (job, a) = (key("Job", "migrate"), config("a"));
    let mut sim = Sim::ready(&content(&[(&job, "1"), (&a, "1")]));
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.deliver();
    assert!(sim.work.is_some());
    // The job under way has made this durable.
    sim.world.records.get_mut(&job).expect("a record").api_version = "newer".into();
    sim.world.edit(&job, |live| live.finished = true);
    sim.world.delete(&job);
    while sim.deliver() {}
    assert_eq!(sim.world.records[&job].api_version, "newer");
    assert!(sim.world.records[&job].finished);
    sim.run();
    assert!(!sim.world.live.contains_key(&job), "it ran again");
    sim.assert_quiet();
}

/// Lets somebody change objects once more, and the agent correct them.
fn edit_again(sim: &mut Sim, keys: &[Key]) {
    for key in keys {
        sim.world.edit(key, |live| "theirs".clone_into(&mut live.value));
    }
    sim.run();
}

#[test]
fn contested_unit_names_the_other_field_manager_and_the_field_also_after_a_restart() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    for _ in 0..3 {
        edit_again(&mut sim, std::slice::from_ref(&a));
    }
    let named = format!("corrected once per interval: {a} (them at /data)");
    assert_eq!(sim.ready_word(), Ready::True);
    assert!(sim.message().ends_with(&named), "{}", sim.message());
    sim.restart();
    sim.run();
    assert!(sim.message().ends_with(&named), "{}", sim.message());
}

#[test]
fn contest_is_durable_from_its_start_to_its_end_and_corrections_before_it_are_not() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    let saves = sim.saves;
    for _ in 0..2 {
        edit_again(&mut sim, std::slice::from_ref(&a));
    }
    assert_eq!((sim.saves, sim.rows_saved), (saves, 0), "no contest so far");
    edit_again(&mut sim, std::slice::from_ref(&a));
    assert_eq!(
        (sim.saves, sim.rows_saved),
        (saves + 1, 1),
        "the contest, and that the unit names it"
    );
    sim.restart();
    sim.run();
    edit_again(&mut sim, std::slice::from_ref(&a));
    assert_eq!(
        sim.world.live[&a].value, "theirs",
        "the restart forgot the contest"
    );
    sim.sleep(11 * MINUTE);
    assert_eq!(sim.world.live[&a].value, "1");
    sim.sleep(40 * MINUTE);
    sim.send(Event::Tick);
    assert!(sim.world.records[&a].contested.is_none(), "the contest is over");
    assert!(sim.state.index.contested.is_empty());
}

#[test]
fn contest_of_one_object_writes_its_row_and_no_other_however_many_are_contested() {
    let keys: Vec<Key> = (0..300).map(|n| config(&format!("c{n:03}"))).collect();
    let a = config("a");
    let mut all: Vec<(&Key, &str)> = keys.iter().map(|key| (key, "1")).collect();
    all.push((&a, "1"));
    let mut sim = Sim::ready(&content(&all));
    for _ in 0..3 {
        edit_again(&mut sim, &keys);
    }
    assert_eq!(sim.state.index.contested.len(), 300);
    let saved = sim.rows_saved;
    for _ in 0..3 {
        edit_again(&mut sim, std::slice::from_ref(&a));
    }
    assert_eq!(sim.state.index.contested.len(), 301);
    assert_eq!(sim.rows_saved - saved, 1);
    let bytes = serde_json::to_vec(&sim.unit).expect("JSON").len();
    assert!(bytes < 2048, "the unit's record takes {bytes} bytes");
}

#[test]
fn request_forgets_contests_durably_though_a_job_runs() {
    let (a, b) = (config("a"), config("b"));
    let mut sim = Sim::ready(&content(&[(&a, "1"), (&b, "1")]));
    for _ in 0..3 {
        edit_again(&mut sim, std::slice::from_ref(&a));
    }
    assert!(sim.world.records[&a].contested.is_some());
    sim.world.edit(&b, |live| "theirs".clone_into(&mut live.value));
    sim.deliver();
    assert!(sim.work.is_some());
    sim.send(Event::Requested);
    assert!(
        sim.world.records[&a].contested.is_some(),
        "a job may have newer ones"
    );
    sim.run();
    assert!(sim.world.records[&a].contested.is_none());
    sim.assert_quiet();
}

#[test]
fn corrections_are_forgotten_by_the_next_event_and_no_wake() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    assert_eq!(sim.state.corrections.len(), 1);
    assert_eq!(sim.wake(), None);
    sim.sleep(11 * MINUTE);
    assert_eq!(sim.state.corrections.len(), 0);
}

#[test]
fn withheld_object_is_not_checked_and_is_corrected_at_once_when_it_comes_back() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.withhold(&[&a]);
    sim.run();
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    sim.run();
    sim.sleep(60 * MINUTE);
    assert_eq!(sim.log.checked(&a), 0);
    assert_eq!(sim.state.condition().reason, "Conflict");
    sim.withhold(&[]);
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1");
    assert_eq!(sim.ready_word(), Ready::True, "{}", sim.message());
    sim.assert_quiet();
}

#[test]
fn edit_during_the_check_of_its_object_is_corrected_after_it() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    assert!(sim.deliver(), "the check begins");
    let checked = sim.ended(usize::MAX).expect("a check");
    sim.world
        .edit(&a, |live| "theirs again".clone_into(&mut live.value));
    while sim.deliver() {}
    sim.send(checked);
    sim.run();
    assert_eq!(sim.world.live[&a].value, "1");
    sim.assert_quiet();
}

/// Whatever shows it anew each time.
#[test]
fn a_check_that_is_overtaken_twice_in_a_row_waits() {
    let a = config("a");
    let mut sim = Sim::ready(&content(&[(&a, "1")]));
    let (read, now) = (sim.world.observed(&a), sim.now());
    sim.world.edit(&a, |live| "theirs".clone_into(&mut live.value));
    let mut observed = sim.world.observed(&a);
    let shown = |observed| Event::Observed {
        key: a.clone(),
        observed,
    };
    let mut checks = 0;
    let mut actions = sim.state.step(shown(observed.clone()), now);
    while let Some(job) = actions.iter().find_map(|action| match action {
        Action::Check { job, .. } => Some(*job),
        _ => None,
    }) {
        checks += 1;
        assert!(checks <= 2, "it is checked without end");
        observed.version = observed.version.map(|version| version + 1);
        sim.state.step(shown(observed.clone()), now);
        let outcome = Outcome {
            key: a.clone(),
            record: None,
            observed: Some(read.clone()),
            adopted: None,
            result: Checked::InSync,
        };
        let outcomes = vec![CheckOutcome {
            outcome,
            corrections: None,
        }];
        let failure = None;
        actions = sim.state.step(
            Event::Checked {
                job,
                outcomes,
                failure,
            },
            now,
        );
    }
    assert_eq!(checks, 2);
    assert!(matches!(sim.state.objects[&a].check, Check::NotBefore { .. }));
}
