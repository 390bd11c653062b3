//! Kinds that the agent itself may not watch in a namespace: they are watched as an account of an app that has objects there.
//! One such watch serves all apps, as the agent's own does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_core::id::UnitId;

use super::{Scope, Stream};
use crate::{
    cluster::{Account, Cluster},
    reconcile::Reconciler,
};

/// The accounts that were tried for each scope; the last one watches it.
#[derive(Debug, Default)]
pub(super) struct Lent(BTreeMap<Scope, Vec<Account>>);

impl Lent {
    fn account(&self, scope: &Scope) -> Option<&Account> {
        // As a rule the agent may watch by itself.
        match self.0.is_empty() {
            true => None,
            false => self.0.get(scope)?.last(),
        }
    }

    /// Tries another account for a scope; `None`: all were.
    fn next(&mut self, scope: &Scope, candidates: BTreeSet<Account>) -> Option<()> {
        let tried = self.0.get(scope).map(Vec::as_slice).unwrap_or_default();
        let next = candidates.into_iter().find(|account| !tried.contains(account))?;
        self.0.entry(scope.clone()).or_default().push(next);
        Some(())
    }

    /// Forgets scopes that are not watched.
    pub(super) fn keep_only(&mut self, is_watched: impl Fn(&Scope) -> bool) {
        self.0.retain(|scope, _| is_watched(scope));
    }
}

impl Reconciler {
    /// The cluster as whoever watches a scope, and lists it.
    pub(in crate::reconcile) fn watcher_of(&self, scope: &Scope) -> Arc<dyn Cluster> {
        match self.watches.lent.account(scope) {
            Some(account) => self.context.cluster_of(account),
            None => self.context.agents_cluster().clone(),
        }
    }

    /// Takes in that whoever watches a scope may not: another account is tried in its place. Returns whether there is one.
    pub(super) fn lend(&mut self, stream: &Stream) -> bool {
        let scope = &stream.scope;
        let units: BTreeSet<UnitId> = self.rows(scope).into_iter().map(|(id, _)| id).collect();
        let accounts = units
            .iter()
            .filter_map(|id| self.units.get(id))
            .map(|unit| self.context.acting(unit.state.entry()).account().clone())
            .filter(|account| *account != Account::Agent);
        let candidates: BTreeSet<Account> = accounts.collect();
        if self.watches.lent.next(scope, candidates).is_none() {
            return false;
        }
        let ended: Vec<Stream> = self
            .watches
            .open
            .keys()
            .filter(|open| open.scope == *scope)
            .cloned()
            .collect();
        for stream in ended {
            self.watches.open.remove(&stream);
            self.watches.listing.remove(&stream);
        }
        self.watches.revision = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_account_is_tried_once_for_a_scope() {
        let account = |name: &str| Account::ServiceAccount {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        };
        let scope = Scope {
            group: String::new(),
            kind: "Secret".to_owned(),
            namespace: "shop".to_owned(),
        };
        let all = || BTreeSet::from([account("a"), account("b")]);
        let mut lent = Lent::default();
        assert_eq!(lent.account(&scope), None);
        for name in ["a", "b"] {
            assert!(lent.next(&scope, all()).is_some());
            assert_eq!(lent.account(&scope), Some(&account(name)));
        }
        assert!(lent.next(&scope, all()).is_none());
        lent.keep_only(|_| false);
        assert_eq!(lent.account(&scope), None);
    }
}
