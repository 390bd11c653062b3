//! What the server refuses again and again: it costs a few tries at each retry, and is made up for at once when what was
//! in the way is over.

use std::time::Duration;

use super::{
    sim::{Sim, content},
    world::{Fault, Key, config, key},
};
use crate::unit::{event::Event, record::Ready, refusal::SAMPLE};

const MINUTE: Duration = Duration::from_secs(60);
/// Of the units in these tests.
const INTERVAL: Duration = Duration::from_secs(120);

fn many(count: usize) -> Vec<Key> {
    (0..count).map(|n| config(&format!("c{n:03}"))).collect()
}

fn all<'a>(keys: &'a [Key], value: &'a str) -> Vec<(&'a Key, &'a str)> {
    keys.iter().map(|key| (key, value)).collect()
}

fn refuse(sim: &mut Sim, keys: &[Key]) {
    let faults = keys.iter().map(|key| (key.clone(), Fault::Refused));
    sim.world.faults.extend(faults);
}

/// Objects handed out to be written since this was last asked.
fn written(sim: &mut Sim) -> usize {
    std::mem::take(&mut sim.log.applies)
        .iter()
        .map(|(_, keys)| keys.len())
        .sum()
}

/// A unit of sixty objects of which forty were refused twice.
fn refused() -> (Sim, Vec<Key>) {
    let keys = many(60);
    let mut sim = Sim::new(&content(&all(&keys, "1")));
    refuse(&mut sim, &keys[..40]);
    sim.send(Event::Tick);
    sim.run();
    assert_eq!(written(&mut sim), 60);
    sim.sleep(INTERVAL + MINUTE / 2);
    assert_eq!(written(&mut sim), 40, "once may be a mistake");
    (sim, keys)
}

#[test]
fn objects_refused_again_and_again_cost_a_few_tries_at_each_retry_and_all_are_tried_in_time() {
    let (mut sim, keys) = refused();
    let mut tries = 0;
    for _ in 0..60 {
        sim.sleep(INTERVAL);
        let some = written(&mut sim);
        assert!(some >= SAMPLE, "{some} at a retry");
        tries += some;
    }
    // The sample of sixty retries, and in two hours eight tries of each at most by its own time.
    assert!(tries <= 60 * SAMPLE + 40 * 8, "{tries} in two hours");
    assert_eq!(sim.ready_word(), Ready::False);
    assert!(
        keys[..40].iter().all(|key| sim.problem(key).is_some()),
        "each says what is the matter with it"
    );
    // One that alone is taken is found by itself.
    sim.world.faults.remove(&keys[17]);
    sim.sleep(62 * MINUTE);
    assert!(sim.world.live.contains_key(&keys[17]));
}

#[test]
fn refusals_that_end_together_are_made_up_for_by_the_next_retry() {
    let (mut sim, keys) = refused();
    sim.sleep(20 * MINUTE);
    sim.world.faults.clear();
    sim.sleep(INTERVAL);
    assert!(keys.iter().all(|key| sim.world.live.contains_key(key)));
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

#[test]
fn refused_objects_are_all_tried_for_new_content_and_for_a_person_and_for_a_definition() {
    let (mut sim, keys) = refused();
    sim.sleep(20 * MINUTE);
    written(&mut sim);
    sim.send(Event::Requested);
    sim.run();
    assert_eq!(written(&mut sim), 40, "a person asks");
    sim.send(Event::KindServed);
    sim.run();
    assert_eq!(written(&mut sim), 40, "the kind's definition has changed");
    let mut next = all(&keys, "1");
    next[59].1 = "2";
    sim.offer(&content(&next));
    sim.run();
    assert_eq!(written(&mut sim), 41, "another target");
    sim.sleep(INTERVAL);
    assert!(written(&mut sim) < 20, "they are known to be refused");
}

#[test]
fn refused_object_whose_live_object_changes_is_tried_at_the_next_retry() {
    let keys = many(40);
    let mut sim = Sim::ready(&content(&all(&keys, "1")));
    sim.offer(&content(&all(&keys, "2")));
    refuse(&mut sim, &keys);
    sim.run();
    sim.sleep(30 * MINUTE);
    written(&mut sim);
    for key in &keys[..30] {
        sim.world.edit(key, |live| live.folded = vec!["kubectl".into()]);
    }
    sim.run();
    written(&mut sim);
    sim.sleep(INTERVAL);
    let tried = written(&mut sim);
    assert!((30..=40).contains(&tried), "{tried}");
}

#[test]
fn stage_behind_refused_objects_stays_closed_while_they_wait() {
    let namespaces: Vec<Key> = (0..20).map(|n| key("Namespace", &format!("n{n:02}"))).collect();
    let a = config("a");
    let mut objects = all(&namespaces, "1");
    objects.push((&a, "1"));
    let mut sim = Sim::new(&content(&objects));
    refuse(&mut sim, &namespaces);
    sim.send(Event::Tick);
    sim.sleep(30 * MINUTE);
    assert!(!sim.world.live.contains_key(&a));
    sim.world.faults.clear();
    sim.sleep(INTERVAL);
    assert!(sim.world.live.contains_key(&a), "{}", sim.message());
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

#[test]
fn corrections_refused_again_and_again_cost_a_few_checks_at_each_retry_and_are_made_up_for() {
    let keys = many(60);
    let mut sim = Sim::ready(&content(&all(&keys, "1")));
    refuse(&mut sim, &keys[..40]);
    for key in &keys[..40] {
        sim.world.edit(key, |live| "theirs".clone_into(&mut live.value));
    }
    sim.sleep(20 * MINUTE);
    let checked = |sim: &mut Sim| -> usize {
        let checks = std::mem::take(&mut sim.log.checks);
        checks.iter().map(|(_, keys)| keys.len()).sum()
    };
    checked(&mut sim);
    sim.sleep(2 * 60 * MINUTE);
    let checks = checked(&mut sim);
    assert!(checks <= 61 * SAMPLE + 40 * 4, "{checks} in two hours");
    // One that somebody else has put right is looked at after no longer than any that fails.
    sim.world.faults.remove(&keys[3]);
    sim.world.edit(&keys[3], |live| "1".clone_into(&mut live.value));
    sim.sleep(INTERVAL);
    assert!(sim.problem(&keys[3]).is_none());
    assert!(sim.problem(&keys[4]).is_some());
    sim.world.faults.clear();
    sim.sleep(INTERVAL);
    assert!(keys.iter().all(|key| sim.world.live[key].value == "1"));
    assert!(sim.problem(&keys[4]).is_none());
    sim.assert_quiet();
}
