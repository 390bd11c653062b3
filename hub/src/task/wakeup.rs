//! Wake-ups read from the outbox, folded: of many about one key, one is left, and what all of a kind is looked at for
//! is looked at once.

use std::collections::{BTreeSet, HashMap};

use flotilla_api::Kind;
use uuid::Uuid;

use crate::store::{Topic, outbox::Nudge};

/// What there is to act on.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wakeups {
    keys: HashMap<Topic, BTreeSet<Uuid>>,
    /// Sources that changed themselves.
    pub(super) sources: BTreeSet<Uuid>,
    /// A Receiver or a Secret changed.
    pub(super) receivers: bool,
}

impl Wakeups {
    /// Adds those of which something is to be done: what is for who watches and for streams is told to these, and a commit on
    /// a fleet tells it of each cluster.
    pub(super) fn add(&mut self, nudges: &[Nudge]) {
        for nudge in nudges.iter().filter(|nudge| is_acted_on(nudge.topic)) {
            self.keep(nudge.topic, [nudge.key]);
        }
    }

    pub(super) fn keep(&mut self, topic: Topic, keys: impl IntoIterator<Item = Uuid>) {
        self.keys.entry(topic).or_default().extend(keys);
    }

    pub(super) fn append(&mut self, other: Self) {
        for (topic, keys) in other.keys {
            self.keep(topic, keys);
        }
        self.sources.extend(other.sources);
        self.receivers |= other.receivers;
    }

    /// Takes the keys of a topic.
    pub(super) fn take(&mut self, topic: Topic) -> Vec<Uuid> {
        self.keys.remove(&topic).into_iter().flatten().collect()
    }

    /// Adds what the change of a resource of this kind concerns, beside the apps: these are named where it changed.
    pub(super) fn resource(&mut self, uid: Uuid, kind: &str) {
        match Kind::named(kind) {
            Some(Kind::Secret | Kind::Receiver) => self.receivers = true,
            Some(kind) if kind.is_fetched() => drop(self.sources.insert(uid)),
            _ => {}
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn is_acted_on(topic: Topic) -> bool {
    match topic {
        Topic::Resource
        | Topic::App
        | Topic::Cluster
        | Topic::Desired
        | Topic::Identity
        | Topic::Leaving
        | Topic::Departure => true,
        Topic::Source | Topic::Shown | Topic::Session | Topic::Takeover | Topic::Credential => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn many_wakeups_of_one_key_are_one_and_topics_are_apart() {
        let mut wakeups = Wakeups::default();
        assert!(wakeups.is_empty());
        let nudge = |topic, number| Nudge {
            topic,
            key: uid(number),
        };
        wakeups.add(&[
            nudge(Topic::App, 2),
            nudge(Topic::Cluster, 1),
            nudge(Topic::Shown, 1),
            nudge(Topic::Session, 3),
            nudge(Topic::App, 1),
            nudge(Topic::App, 2),
        ]);
        assert_eq!(wakeups.take(Topic::App), [uid(1), uid(2)]);
        assert!(wakeups.take(Topic::App).is_empty());
        assert_eq!(wakeups.take(Topic::Cluster), [uid(1)]);
        assert!(wakeups.is_empty(), "what nothing is done about is not kept");
    }

    #[test]
    fn a_resources_kind_tells_whom_it_concerns() {
        let concerned = |kind| {
            let mut wakeups = Wakeups::default();
            wakeups.resource(uid(1), kind);
            wakeups
        };
        assert!(concerned("Secret").receivers && concerned("Receiver").receivers);
        assert_eq!(concerned("GitRepository").sources, BTreeSet::from([uid(1)]));
        for kind in [
            "ConfigMap",
            "Placement",
            "Cluster",
            "ClusterGroup",
            "Kustomization",
            "Tenant",
        ] {
            assert!(concerned(kind).is_empty(), "{kind}");
        }
    }
}
