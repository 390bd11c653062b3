//! What an evaluation may take over from the one before it: objects whose bytes are the same, where nothing else has
//! changed that makes objects of bytes. A commit then costs as much as it changes, and a walk over the names of all in
//! pieces, between which other tasks run.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use flotilla_core::{
    content::Table,
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{Entry, event::EvaluatedFrom},
};

use super::{Environment, EvaluateError, Evaluation, Ground, digest, kinds::Kinds};
use crate::{
    ledger::{Ledger, state::State},
    reconcile::pace::Pace,
};

/// An evaluation that is to be compared with the one before it.
#[derive(Debug)]
pub struct Since {
    ground: Ground,
    /// What it may take over from; `None`: nothing is.
    before: Option<Arc<Table>>,
    from: Option<EvaluatedFrom>,
}

impl Since {
    /// Takes from the ledger what an entry is evaluated from, and what was evaluated before.
    pub fn of(
        state: &State,
        entry: &Arc<Entry>,
        environment: Environment,
        before: Option<EvaluatedFrom>,
    ) -> Result<Self, EvaluateError> {
        let ground = Ground::of(state, entry, environment)?;
        let keys = ground.keyring.as_ref().map(|keyring| keyring.digest);
        let basis = |table: &Table| basis(table, entry, &ground.kinds, keys);
        let from = entry.content.map(|content| EvaluatedFrom {
            content,
            basis: basis(&ground.table),
        });
        let before = before.and_then(|before| {
            let table = state.table(&before.content)?;
            (basis(table) == before.basis).then(|| table.clone())
        });
        Ok(Self { ground, before, from })
    }

    /// Compares, and begins with the objects that are others than before.
    pub async fn compared(self, ledger: &Ledger) -> Evaluation {
        let Self { ground, before, from } = self;
        let (mut rows, mut unchanged, mut seen) = (Vec::new(), BTreeSet::new(), HashSet::new());
        match &before {
            Some(before) => {
                let (unit, mut pace) = (ground.entry.unit, Pace::default());
                for (row, was) in ground.table.beside(before) {
                    match was.and_then(|was| same_key(&ground, before, row, was)) {
                        Some(key) => {
                            seen.insert(digest(&key));
                            unchanged.insert(shared_key(ledger, unit, key));
                        }
                        None => rows.push(row),
                    }
                    pace.handled(1).await;
                }
                // As the renderer has them.
                rows.sort_unstable();
            }
            None => rows.extend(ground.table.rows()),
        }
        let unserved = ground.kinds.unserved_groups(ground.table.kinds());
        let begun = ledger.read(|state| ground.begin(state, &rows, &unserved));
        Evaluation {
            seen,
            unchanged,
            from,
            ..begun
        }
    }
}

/// Digest of all that makes objects of a content's bytes: the entry's settings, variables and owner, what it withholds,
/// where the content's kinds live, as far as they are served, and the keys that decrypt: objects of others are never
/// taken over. What the agent itself brings is the same for its whole life.
fn basis(table: &Table, entry: &Entry, kinds: &Kinds, keys: Option<Digest>) -> Digest {
    let discovery = kinds.discovery();
    let served = |(group, kind)| Some((group, kind, discovery.preferred(group, kind)?.namespaced));
    let scopes: BTreeSet<(&str, &str, bool)> = table.kinds().filter_map(served).collect();
    let Entry {
        unit,
        app,
        settings,
        variables,
        withheld,
        ..
    } = entry;
    let all = (scopes, unit, app, settings, variables, withheld, keys);
    Digest::of_json("evaluation", &all)
}

/// The key of an object whose bytes are the same as before; `None`: they are not, or it takes a look at them to know the
/// key.
fn same_key(ground: &Ground, before: &Table, row: u32, was: u32) -> Option<ObjectKey> {
    let table = &ground.table;
    if (before.digest(was), before.form(was)) != (table.digest(row), table.form(row)) {
        return None;
    }
    if table.open().binary_search(&row).is_ok() || table.namespace(row).contains('$') {
        return None;
    }
    let (group, kind, _) = table.name(row);
    let is_namespaced = ground.kinds.discovery().preferred(group, kind)?.namespaced;
    let mut key = table.key(row);
    match is_namespaced {
        false => key.namespace.clear(),
        true if key.namespace.is_empty() => {
            key.namespace.clone_from(&ground.entry.settings.default_namespace);
        }
        true => {}
    }
    Some(key)
}

/// The key as the inventory has it, if it does: a copy for each object of a large unit would be held until the rows are
/// compared.
pub(in crate::reconcile) fn shared_key(ledger: &Ledger, unit: UnitId, key: ObjectKey) -> Arc<ObjectKey> {
    let known = ledger.read(|state| {
        let (known, _) = state.units.get(&unit)?.items.get_key_value(&key)?;
        Some(known.clone())
    });
    known.unwrap_or_else(|| Arc::new(key))
}
