//! What the API server refuses, and refuses again for the same content and the same live object. Such an object waits by
//! itself, longer each time. At each retry of the unit a few of those that wait are tried all the same: once one of them
//! is taken, what was in the way may be over, and the others follow.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    now::{Mono, Now},
    object::Object,
    problem::{Problem, Retry},
    state::RACES,
};
use crate::{backoff::Backoff, digest::Digest, object::ObjectKey};

/// How many of the objects that wait are tried at each retry: as many at once cost the server little, and causes differ.
pub(super) const SAMPLE: usize = 8;
/// No object waits longer by itself, unless retries are further apart.
const LONGEST: Duration = Duration::from_secs(3600);

/// The last refusal of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    /// Names what was refused: the content, and the live object that it was for.
    subject: Digest,
    /// Names the answer, but for what differs from object to object and from try to try.
    cause: u64,
    /// How often in a row the same was refused with the same answer.
    times: u32,
    at: Mono,
    /// Until when the object waits by itself.
    until: Mono,
    retry: Retry,
}

impl Refusal {
    /// Tells whether the server has said the same often enough to be believed.
    fn is_believed(&self) -> bool {
        match self.retry {
            Retry::Race => self.times > RACES,
            Retry::Soon | Retry::Interval => self.times > 1,
        }
    }

    fn is_of(&self, object: &Object) -> bool {
        self.subject == subject(object)
    }
}

/// The refusals of a unit's objects.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<Arc<ObjectKey>, Refusal>);

impl Refusals {
    /// Notes that an object was refused. Returns how long it waits by itself; `None`: no longer than any that fails.
    pub(super) fn note(
        &mut self,
        key: &Arc<ObjectKey>,
        object: &Object,
        (message, retry): (&str, Retry),
        interval: Duration,
        now: Now,
    ) -> Option<Duration> {
        let (subject, cause) = (subject(object), cause(key, message));
        let before = self.0.get(key);
        let is_same = before.is_some_and(|before| (before.subject, before.cause) == (subject, cause));
        let times = before
            .filter(|_| is_same)
            .map_or(1, |before| before.times.saturating_add(1));
        let mut refusal = Refusal {
            subject,
            cause,
            times,
            at: now.mono,
            until: now.mono,
            retry,
        };
        let wait = refusal
            .is_believed()
            .then(|| wait(times, interval, now.random ^ number(key.to_string().as_bytes())));
        refusal.until = now.mono + wait.unwrap_or_default();
        self.0.insert(key.clone(), refusal);
        wait
    }

    /// Forgets the refusal of an object. Returns whether there was one.
    pub(super) fn forget(&mut self, key: &ObjectKey) -> bool {
        self.0.remove(key).is_some()
    }

    /// Forgets the refusal of an object that is another by now, or of which something else is desired. Returns whether
    /// there was one.
    pub(super) fn forget_outdated(&mut self, key: &ObjectKey, object: &Object) -> bool {
        let is_outdated = self.0.get(key).is_some_and(|refusal| !refusal.is_of(object));
        is_outdated && self.forget(key)
    }

    /// Forgets the refusals of objects with which nothing is the matter any more.
    pub(super) fn keep_only(&mut self, problems: &BTreeSet<Arc<ObjectKey>>) {
        self.0.retain(|key, _| problems.contains(key));
    }

    /// Ends all waits: what was in the way may be over, or a person asks.
    pub(super) fn release(&mut self) {
        for refusal in self.0.values_mut() {
            refusal.until = Mono::default();
        }
    }

    /// The objects that the server refuses again and again.
    pub(super) fn believed(&self) -> impl Iterator<Item = &Arc<ObjectKey>> {
        let believed = self.0.iter().filter(|(_, refusal)| refusal.is_believed());
        believed.map(|(key, _)| key)
    }

    /// When trying an object again may help.
    pub(super) fn retry(&self, key: &ObjectKey) -> Option<Retry> {
        self.0.get(key).map(|refusal| refusal.retry)
    }

    /// Parts what a stage writes into what is tried now, and what waits for one of these to be taken.
    pub(super) fn part(
        &self,
        keys: &[Arc<ObjectKey>],
        objects: &BTreeMap<Arc<ObjectKey>, Box<Object>>,
        now: Mono,
    ) -> (VecDeque<Arc<ObjectKey>>, Vec<Arc<ObjectKey>>) {
        let waits = |key: &Arc<ObjectKey>| {
            let (Some(refusal), Some(object)) = (self.0.get(key), objects.get(key)) else {
                return false;
            };
            // Of what is not known to be refused for this target, or waits for something else now, this is found out first.
            refusal.is_believed()
                && now < refusal.until
                && matches!(object.pass_problem.as_deref(), Some(Problem::Failed(_)))
                && refusal.is_of(object)
        };
        let (waiting, mut tried): (Vec<_>, VecDeque<_>) = {
            let (waiting, tried): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(waits);
            (waiting, tried.into())
        };
        let sample = self.sample(&waiting);
        let (sampled, waiting) = waiting.into_iter().partition(|key| sample.contains(key));
        tried.extend::<Vec<_>>(sampled);
        (tried, waiting)
    }

    /// Chooses some of these to be tried: of each cause one, then of each another, and those first whose last try is longest
    /// ago.
    pub(super) fn sample(&self, keys: &[Arc<ObjectKey>]) -> BTreeSet<Arc<ObjectKey>> {
        let mut causes: BTreeMap<u64, Vec<(Mono, &Arc<ObjectKey>)>> = BTreeMap::new();
        for key in keys {
            if let Some(refusal) = self.0.get(key) {
                let of_cause = causes.entry(refusal.cause).or_default();
                of_cause.push((refusal.at, key));
            }
        }
        let mut turns = Vec::new();
        for mut of_cause in causes.into_values() {
            of_cause.sort_unstable();
            let first = of_cause.into_iter().take(SAMPLE).enumerate();
            turns.extend(first.map(|(turn, (at, key))| (turn, at, key)));
        }
        turns.sort_unstable();
        turns
            .into_iter()
            .take(SAMPLE)
            .map(|(_, _, key)| key.clone())
            .collect()
    }
}

/// How long an object waits by itself once it was refused so often: about twice as long each time.
fn wait(times: u32, interval: Duration, random: u64) -> Duration {
    let backoff = Backoff {
        base: interval.saturating_mul(2),
        cap: LONGEST.max(interval),
    };
    let failures = times.saturating_sub(1).max(1);
    backoff.bound(failures) / 2 + backoff.delay(failures, random) / 2
}

fn subject(object: &Object) -> Digest {
    let desired = object.desired.as_ref().map(|desired| desired.digest);
    Digest::of_json("refused", &(desired, object.seen()))
}

/// Names an answer by its words: those with digits count things, or name objects and requests.
fn cause(key: &ObjectKey, message: &str) -> u64 {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let words = message.split(|c| !is_of_word(c));
    let words = words.filter(|word| *word != key.name && !word.bytes().any(|byte| byte.is_ascii_digit()));
    let mut cause = format!("{}/{}", key.group, key.kind);
    for word in words.filter(|word| !word.is_empty()) {
        cause.push(' ');
        cause.push_str(word);
    }
    number(cause.as_bytes())
}

fn number(bytes: &[u8]) -> u64 {
    let digest = Digest::of("number", bytes);
    let first = digest.as_bytes().first_chunk::<8>();
    first.map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    const INTERVAL: Duration = Duration::from_secs(60);

    fn key(name: &str) -> Arc<ObjectKey> {
        Arc::new(ObjectKey::new("", "ConfigMap", "a", name))
    }

    fn at(seconds: u64) -> Now {
        Now {
            mono: Mono(Duration::from_secs(seconds)),
            wall: Timestamp(0),
            random: 1 << 40,
        }
    }

    fn names(keys: &BTreeSet<Arc<ObjectKey>>) -> Vec<&str> {
        keys.iter().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn the_same_answer_about_the_same_waits_longer_each_time_up_to_an_hour_and_another_begins_anew() {
        let (key, object) = (key("x"), Object::default());
        let mut refusals = Refusals::default();
        let mut note =
            |message: &str| refusals.note(&key, &object, (message, Retry::Interval), INTERVAL, at(0));
        assert_eq!(note("ConfigMap/a/x: quota, used: 7"), None);
        for doubled in [2, 4, 8, 16, 32, 60, 60, 60] {
            // What is counted in the answer makes no other of it.
            let wait = note(&format!("ConfigMap/a/x: quota, used: {doubled}")).expect("it waits");
            let bound = INTERVAL * doubled;
            assert!(wait >= bound / 2 && wait <= bound, "{doubled}: {wait:?}");
        }
        assert_eq!(note("ConfigMap/a/x: no team label"), None);
    }

    #[test]
    fn waits_of_objects_that_are_refused_together_end_apart() {
        let mut refusals = Refusals::default();
        let mut ends = BTreeSet::new();
        for name in 0..100 {
            let (key, object) = (key(&name.to_string()), Object::default());
            let mut note = || refusals.note(&key, &object, ("no", Retry::Interval), INTERVAL, at(0));
            note();
            ends.insert(note().expect("it waits"));
        }
        assert!(ends.len() > 90, "{}", ends.len());
    }

    #[test]
    fn what_may_be_a_race_is_believed_later() {
        let (key, object) = (key("x"), Object::default());
        let mut refusals = Refusals::default();
        let mut note = || refusals.note(&key, &object, ("no", Retry::Race), INTERVAL, at(0));
        assert_eq!([note(), note()], [None, None]);
        assert!(note().is_some());
    }

    #[test]
    fn sample_has_each_cause_and_comes_to_all_in_turn() {
        let mut refusals = Refusals::default();
        let mut keys = Vec::new();
        for n in 0..100 {
            let key = key(&format!("n{n:02}"));
            let why = if n == 99 { "alone" } else { "together" };
            refusals.note(&key, &Object::default(), (why, Retry::Interval), INTERVAL, at(0));
            keys.push(key);
        }
        let mut seen = BTreeSet::new();
        for round in 1..=14 {
            let sample = refusals.sample(&keys);
            assert_eq!(sample.len(), SAMPLE);
            assert!(names(&sample).contains(&"n99"), "{sample:?}");
            for key in sample {
                let why = if key.name == "n99" { "alone" } else { "together" };
                refusals.note(
                    &key,
                    &Object::default(),
                    (why, Retry::Interval),
                    INTERVAL,
                    at(round),
                );
                seen.insert(key);
            }
        }
        assert_eq!(seen.len(), 99);
        // Each by itself, as where a webhook words each answer anew.
        for (key, word) in keys.iter().zip(('a'..='z').cycle()) {
            let why = format!("no{}", word.to_string().repeat(key.name.len() + keys.len()));
            refusals.note(key, &Object::default(), (&why, Retry::Interval), INTERVAL, at(20));
        }
        assert_eq!(refusals.sample(&keys).len(), SAMPLE);
    }
}
