//! Which objects of a content give some keys. What substitution makes of a name is told from the name alone, without
//! the object's body: a job asks for some keys of a set of which any name may hold a variable.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use flotilla_core::{content::Table, object::ObjectKey};

/// Which objects an evaluation gives.
#[derive(Debug, Clone, Copy)]
pub enum Only<'a> {
    /// Those whose names, substituted by themselves, are those of the keys. A value that is more than a text to YAML
    /// may make another name of the whole object: a key that these did not give may be among [`Only::Possible`].
    Likely(&'a [ObjectKey]),
    /// Those that may give one of the keys, whatever substitution makes of them.
    Possible(&'a [ObjectKey]),
}

impl Only<'_> {
    /// The rows of a table, in the renderer's order. `substituted` is what substitution makes of a text; `None`:
    /// nothing.
    pub(super) fn rows(self, table: &Table, substituted: impl Fn(&str) -> Option<String>) -> Vec<u32> {
        let (Self::Likely(keys) | Self::Possible(keys)) = self;
        let named = keys.iter().flat_map(|key| {
            let named = table.named(&key.group, &key.kind, &key.name);
            named
                .iter()
                .filter(|row| may_live_in(table.namespace(**row), key))
        });
        let mut rows: BTreeSet<u32> = named.copied().collect();
        match self {
            Self::Possible(_) => rows.extend(table.open()),
            Self::Likely(_) => {
                let mut by_name: HashMap<_, Vec<&ObjectKey>> = HashMap::new();
                for key in keys {
                    let name = (&*key.group, &*key.kind, &*key.name);
                    by_name.entry(name).or_default().push(key);
                }
                let is_likely = |row: &u32| {
                    let (group, kind, name) = table.name(*row);
                    let part = |text| made(text, &substituted);
                    let (Some(group), Some(kind), Some(name)) = (part(group), part(kind), part(name)) else {
                        return false;
                    };
                    let keys = by_name.get(&(&*group, &*kind, &*name));
                    keys.is_some_and(|keys| keys.iter().any(|key| may_live_in(table.namespace(*row), key)))
                };
                rows.extend(table.open().iter().copied().filter(is_likely));
            }
        }
        rows.into_iter().collect()
    }
}

fn made<'a>(text: &'a str, substituted: impl Fn(&str) -> Option<String>) -> Option<Cow<'a, str>> {
    match text.contains('$') {
        true => substituted(text).map(Cow::Owned),
        false => Some(Cow::Borrowed(text)),
    }
}

/// Evaluation gives a namespace where none is written, and takes it away where the kind has none.
fn may_live_in(written: &str, key: &ObjectKey) -> bool {
    written == key.namespace || written.is_empty() || key.namespace.is_empty() || written.contains('$')
}
