//! What an evaluation may take over from the one before it: objects whose bytes are the same, where nothing else has
//! changed that makes objects of bytes. A commit then costs as much as it changes.

use std::collections::HashSet;

use flotilla_core::{content::Table, digest::Digest, object::ObjectKey, unit::Entry};

use super::kinds::Kinds;

/// Digest of all that makes objects of a content's bytes: the entry's settings, variables and owner, what it withholds,
/// and where the content's kinds live. `None`: that is not known of one of them. What the agent itself brings is the
/// same for its whole life.
pub(super) fn basis(table: &Table, entry: &Entry, kinds: &Kinds) -> Option<Digest> {
    let scope = |(group, kind)| Some((group, kind, kinds.discovery().preferred(group, kind)?.namespaced));
    let scopes = table.kinds().map(scope).collect::<Option<Vec<_>>>()?;
    let Entry {
        unit,
        app,
        settings,
        variables,
        withheld,
        ..
    } = entry;
    let all = (scopes, unit, app, settings, variables, withheld);
    Some(Digest::of_json("evaluation", &all))
}

/// Returns the rows of a content that have other bytes than before, and the keys of all others.
pub(super) fn changed(
    table: &Table,
    before: &Table,
    kinds: &Kinds,
    default_namespace: &str,
) -> (Vec<u32>, Vec<ObjectKey>) {
    let open: HashSet<u32> = table.open().iter().copied().collect();
    let (mut rows, mut same) = (Vec::new(), Vec::new());
    for row in table.rows() {
        match same_key(table, before, row, &open, kinds, default_namespace) {
            Some(key) => same.push(key),
            None => rows.push(row),
        }
    }
    (rows, same)
}

/// The key that the object has whose bytes are the same as before; `None`: they are not, or it takes a look at them to
/// know the key.
fn same_key(
    table: &Table,
    before: &Table,
    row: u32,
    open: &HashSet<u32>,
    kinds: &Kinds,
    default_namespace: &str,
) -> Option<ObjectKey> {
    let mut key = table.key(row);
    if open.contains(&row) || key.namespace.contains('$') {
        return None;
    }
    let was = before.find(&key)?;
    if (before.digest(was), before.form(was)) != (table.digest(row), table.form(row)) {
        return None;
    }
    let is_namespaced = kinds.discovery().preferred(&key.group, &key.kind)?.namespaced;
    match is_namespaced {
        false => key.namespace.clear(),
        true if key.namespace.is_empty() => {
            Kinds::default_namespace(default_namespace).clone_into(&mut key.namespace)
        }
        true => {}
    }
    Some(key)
}
