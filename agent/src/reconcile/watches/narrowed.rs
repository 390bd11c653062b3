//! Kinds that may not be watched in all namespaces at once: each namespace of the inventories is watched in its place,
//! and now and then all of them are tried again. A server that has only just started refuses for moments what it allows
//! afterwards, and rights are given.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{Scope, Stream, Watched, news::is_answered};
use crate::{cluster::ClusterError, reconcile::Reconciler};

/// For so long a watch that was open once may be refused before narrower ones take its place.
const DOUBT: Duration = Duration::from_secs(60);
/// When all namespaces are tried again: at first, doubled each time, and at most.
const WIDER: Duration = Duration::from_secs(60);
const WIDER_MAX: Duration = Duration::from_secs(3600);

/// A kind whose namespaces are watched one by one.
#[derive(Debug, Clone, Copy)]
struct Narrow {
    /// When all of them are tried again; `None`: they are being tried.
    until: Option<Instant>,
    wait: Duration,
}

/// The kinds whose namespaces are watched one by one, by group and name.
#[derive(Debug, Default)]
pub(super) struct Narrowed(BTreeMap<(String, String), Narrow>);

impl Narrowed {
    /// Tells whether the namespaces of a kind are watched one by one.
    pub(super) fn has(&self, group: &str, kind: &str) -> bool {
        self.of(group, kind).is_some()
    }

    /// Tells whether every kind is watched as a whole.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, group: &str, kind: &str) -> Option<&Narrow> {
        // As a rule nothing is refused.
        match self.0.is_empty() {
            true => None,
            false => self.0.get(&(group.to_owned(), kind.to_owned())),
        }
    }

    /// Tells whether all namespaces of a kind are being tried beside single ones.
    pub(super) fn tries(&self, group: &str, kind: &str) -> bool {
        self.of(group, kind).is_some_and(|narrow| narrow.until.is_none())
    }

    /// All namespaces of a kind are refused: they are tried again after a while, the longer the more often they were.
    fn refused(&mut self, group: &str, kind: &str, now: Instant) {
        let key = (group.to_owned(), kind.to_owned());
        let before = self.0.get(&key);
        // It waits already: another version of the kind was refused with this one.
        if before.is_some_and(|narrow| narrow.until.is_some()) {
            return;
        }
        let wait = before.map_or(WIDER, |narrow| (narrow.wait * 2).min(WIDER_MAX));
        let until = Some(now + wait);
        self.0.insert(key, Narrow { until, wait });
    }

    /// All namespaces of a kind are shown. Returns whether they were not before.
    fn allowed(&mut self, group: &str, kind: &str) -> bool {
        self.has(group, kind) && self.0.remove(&(group.to_owned(), kind.to_owned())).is_some()
    }

    /// Forgets kinds that the inventories do not have.
    pub(super) fn keep_only(&mut self, kinds: &HashSet<(&str, &str)>) {
        self.0
            .retain(|(group, kind), _| kinds.contains(&(group.as_str(), kind.as_str())));
    }

    fn wakes(&self) -> Option<Instant> {
        self.0.values().filter_map(|narrow| narrow.until).min()
    }

    /// Lets those be tried whose time has come. Returns whether there are any.
    fn take_due(&mut self, now: Instant) -> bool {
        let mut any = false;
        for narrow in self.0.values_mut() {
            if narrow.until.is_some_and(|until| until <= now) {
                (narrow.until, any) = (None, true);
            }
        }
        any
    }
}

impl super::Watches {
    /// When a watch is to become narrower or wider.
    pub(super) fn widens(&self) -> Option<Instant> {
        let doubted = self.open.values().filter_map(Watched::doubted_until);
        doubted.chain(self.narrowed.wakes()).min()
    }
}

impl Watched {
    fn doubted_until(&self) -> Option<Instant> {
        match self {
            Self::Open { refused_since, .. } => refused_since.map(|since| since + DOUBT),
            Self::Unserved { .. } => None,
        }
    }
}

impl Reconciler {
    /// Watches narrower what has been refused for long, and tries wider what is watched narrower.
    pub(super) fn renew_widths(&mut self) {
        let now = Instant::now();
        if self.watches.widens().is_none_or(|at| at > now) {
            return;
        }
        let refused = self.watches.open.iter().filter(|(_, watched)| {
            let until = watched.doubted_until();
            until.is_some_and(|until| until <= now)
        });
        for stream in refused.map(|(stream, _)| stream.clone()).collect::<Vec<_>>() {
            self.narrow(&stream, now);
        }
        if self.watches.narrowed.take_due(now) {
            self.watches.revision = None;
        }
    }

    /// Takes in what a server says to a watch of a namespaced kind in all namespaces: it shows it, refuses it, or has
    /// failed otherwise.
    pub(super) fn note_width(&mut self, stream: &Stream, answer: Result<(), &ClusterError>) {
        let tries_wider = self.tries_wider(&stream.scope);
        let Some(Watched::Open {
            is_shown,
            refused_since,
            ..
        }) = self.watches.open.get_mut(stream)
        else {
            return;
        };
        let now = Instant::now();
        match answer {
            Ok(()) => {
                (*is_shown, *refused_since) = (true, None);
                let Scope { group, kind, .. } = &stream.scope;
                if stream.scope.namespace.is_empty() && self.watches.narrowed.allowed(group, kind) {
                    self.watches.revision = None;
                }
            }
            // It was allowed: that it is refused may pass, and nothing is missed that the next list does not show.
            Err(error) if is_forbidden(error) && *is_shown => {
                refused_since.get_or_insert(now);
            }
            Err(error) if is_forbidden(error) => self.narrow(stream, now),
            // Single namespaces show what it does not, and it is tried again when it is their turn.
            Err(error) if is_answered(error) && tries_wider => self.narrow(stream, now),
            Err(_) => *refused_since = None,
        }
    }

    fn narrow(&mut self, stream: &Stream, now: Instant) {
        self.watches.open.remove(stream);
        self.watches.listing.remove(stream);
        let Scope { group, kind, .. } = &stream.scope;
        self.watches.narrowed.refused(group, kind, now);
        self.watches.revision = None;
    }

    /// Tells whether a refused watch has narrower ones in its place: that of a namespaced kind in the whole cluster.
    pub(super) fn narrows(&self, stream: &Stream) -> bool {
        let open = self.watches.open.get(stream);
        stream.scope.namespace.is_empty() && matches!(open, Some(Watched::Open { namespaced: true, .. }))
    }
}

/// RBAC refuses it.
pub(super) fn is_forbidden(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Rejected { code: 403, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_namespaces_are_tried_again_ever_more_rarely_and_within_an_hour() {
        let (mut narrowed, mut now) = (Narrowed::default(), Instant::now());
        let mut minutes = Vec::new();
        for _ in 0..8 {
            // In two versions of the kind.
            narrowed.refused("", "Secret", now);
            narrowed.refused("", "Secret", now);
            let next = narrowed.wakes().expect("they are tried again");
            minutes.push((next - now).as_secs() / 60);
            assert!(!narrowed.take_due(next - Duration::from_secs(1)) && narrowed.take_due(next));
            assert!(narrowed.tries("", "Secret") && narrowed.wakes().is_none());
            now = next;
        }
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(narrowed.allowed("", "Secret") && !narrowed.has("", "Secret"));
    }
}
