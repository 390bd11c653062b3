//! Definitions of kinds that come or change: units that wait for a kind are told, once for many that come together.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use flotilla_core::{digest::Digest, object::ObjectKey};
use serde_json::{Value, json};
use tokio::time::Instant;

/// How long the API server takes to show a new definition in its discovery.
const PUBLISHED: Duration = Duration::from_secs(1);
/// While definitions go on coming, each round comes later than the one before, and at most so much.
const PUBLISHED_MAX: Duration = Duration::from_secs(10);
/// Rounds that are further apart have nothing to do with each other.
const CALM: Duration = Duration::from_secs(60);

/// Tells whether an object is a definition.
pub(super) fn is_definition(key: &ObjectKey) -> bool {
    key.group == "apiextensions.k8s.io" && key.kind == "CustomResourceDefinition"
}

/// Names what of a definition decides which kinds are served: its specification, and that it is established. Where only
/// metadata is there, that its status was written stands for the latter.
pub(super) fn state(definition: &Value) -> Digest {
    let metadata = &definition["metadata"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let established: Vec<Value> = match definition.get("status") {
        Some(status) => list(&status["conditions"])
            .into_iter()
            .filter(|condition| condition["type"] == "Established")
            .map(|condition| condition["status"].clone())
            .collect(),
        None => list(&metadata["managedFields"])
            .into_iter()
            .filter(|entry| entry["subresource"] == "status")
            .collect(),
    };
    let state = json!([metadata["uid"], metadata["generation"], established]);
    Digest::of("definition", state.to_string().as_bytes())
}

/// Which definitions there are, and which groups wait to be looked at.
#[derive(Default)]
pub(super) struct Definitions {
    /// The watch of all of them; dropping the guard ends it.
    watch: Option<tokio_util::sync::DropGuard>,
    /// The state of each that was seen, by the watch of all of them (`true`) or as a unit's object.
    known: HashMap<(bool, String), Digest>,
    /// Groups with a definition that has changed.
    changed: BTreeSet<String>,
    /// When they are looked at.
    at: Option<Instant>,
    /// When groups were looked at last, and how often in a row.
    last: Option<Instant>,
    rounds: u32,
}

impl Definitions {
    /// Tells whether all definitions are watched.
    pub(super) fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Keeps the watch of all definitions, or ends it.
    pub(super) fn watch(&mut self, watch: Option<tokio_util::sync::DropGuard>) {
        if watch.is_none() {
            self.known.retain(|(of_all, _), _| !of_all);
        }
        self.watch = watch;
    }

    /// When there is something to do by time alone.
    pub(super) fn wakes(&self) -> Option<Instant> {
        self.at
    }

    /// A definition was seen, or is gone. `of_all`: the watch of all definitions tells it.
    pub(super) fn seen(&mut self, of_all: bool, name: &str, state: Option<Digest>, now: Instant) {
        let known = (of_all, name.to_owned());
        let Some(state) = state else {
            self.known.remove(&known);
            return;
        };
        // A definition is called by the plural and the group.
        let Some((_, group)) = name.split_once('.') else {
            return;
        };
        if self.known.insert(known, state) == Some(state) {
            return;
        }
        self.changed.insert(group.to_owned());
        if self.last.is_none_or(|last| now.duration_since(last) >= CALM) {
            self.rounds = 0;
        }
        let pause = PUBLISHED.saturating_mul(1 << self.rounds.min(8));
        self.at.get_or_insert(now + pause.min(PUBLISHED_MAX));
    }

    /// Takes the groups that are to be looked at now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<BTreeSet<String>> {
        self.at.take_if(|at| *at <= now)?;
        self.last = Some(now);
        self.rounds = self.rounds.saturating_add(1);
        Some(std::mem::take(&mut self.changed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(generation: u64, established: &str, note: &str) -> Value {
        json!({"metadata": {"uid": "u", "generation": generation, "annotations": {"note": note}},
            "status": {"conditions": [{"type": "Established", "status": established}, {"type": "Other", "status": note}]}})
    }

    #[test]
    fn state_is_the_specification_and_whether_it_is_established() {
        let first = state(&definition(1, "False", "a"));
        assert_eq!(first, state(&definition(1, "False", "b")));
        assert_ne!(first, state(&definition(1, "True", "a")));
        assert_ne!(first, state(&definition(2, "False", "a")));
        let metadata = |time: &str, labels: &str| {
            json!({"metadata": {"uid": "u", "generation": 1, "labels": {"l": labels}, "managedFields": [
                {"manager": "kubectl", "time": labels}, {"subresource": "status", "time": time}]}})
        };
        assert_eq!(state(&metadata("1", "a")), state(&metadata("1", "b")));
        assert_ne!(state(&metadata("1", "a")), state(&metadata("2", "a")));
    }

    #[test]
    fn many_definitions_that_come_one_after_another_are_few_rounds() {
        let (begin, mut definitions) = (Instant::now(), Definitions::default());
        let mut rounds = Vec::new();
        for second in 0..120 {
            let now = begin + Duration::from_secs(second);
            if let Some(groups) = definitions.take_due(now) {
                rounds.push((second, groups.len()));
            }
            let state = Digest::of("state", &second.to_be_bytes());
            definitions.seen(true, &format!("kinds.g{second}.io"), Some(state), now);
        }
        let (times, groups): (Vec<u64>, Vec<usize>) = rounds.into_iter().unzip();
        assert_eq!(times[..5], [1, 3, 7, 15, 25]);
        assert!(times.len() <= 15, "{times:?}");
        assert!(groups.iter().sum::<usize>() >= 110, "{groups:?}");
    }

    #[test]
    fn definition_that_is_seen_again_as_it_was_asks_for_nothing() {
        let (now, mut definitions) = (Instant::now(), Definitions::default());
        let state = Some(Digest::of("state", b"1"));
        definitions.seen(true, "kinds.g.io", state, now);
        let later = now + PUBLISHED;
        assert_eq!(definitions.take_due(now), None);
        assert_eq!(
            definitions.take_due(later),
            Some(BTreeSet::from(["g.io".to_owned()]))
        );
        definitions.seen(true, "kinds.g.io", state, later);
        assert_eq!(definitions.wakes(), None);
        // Deleted and written anew, it is another.
        definitions.seen(true, "kinds.g.io", None, later);
        definitions.seen(true, "kinds.g.io", state, later);
        assert!(definitions.wakes().is_some());
    }
}
