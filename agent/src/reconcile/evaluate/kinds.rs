//! Where objects of a kind live, and so their keys. A key never depends on partial discovery: a kind that is not
//! served now is where the set's own definition puts it, where it was last known to be, or where the inventory
//! has the object; else it is not known, and the object keeps the key of its manifest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_core::{
    content::Table,
    object::{ObjectKey, group_of},
};
use serde_json::Value;

use crate::{cluster::Discovery, ledger::state::Unit};

const DEFINITION: (&str, &str) = ("apiextensions.k8s.io", "CustomResourceDefinition");

/// What is known of the kinds of a set.
#[derive(Debug)]
pub(super) struct Kinds {
    discovery: Arc<Discovery>,
    defined: BTreeMap<(String, String), bool>,
    known: Arc<BTreeMap<(String, String), bool>>,
    /// Keys of the inventory whose kinds are neither served nor known.
    recorded: BTreeSet<ObjectKey>,
}

impl Kinds {
    /// `inventory` is the unit's; of it only objects are looked at whose kinds are neither served nor known.
    pub(super) fn new(
        discovery: Arc<Discovery>,
        known: Arc<BTreeMap<(String, String), bool>>,
        inventory: Option<&Unit>,
    ) -> Self {
        let mut kinds = Self {
            discovery,
            defined: BTreeMap::new(),
            known,
            recorded: BTreeSet::new(),
        };
        if let Some(unit) = inventory {
            let unknown = unit
                .kinds()
                .filter(|key| kinds.namespaced(&key.group, &key.kind).is_none());
            kinds.recorded = unknown
                .flat_map(|first| {
                    let of_kind = |key: &ObjectKey| (&key.group, &key.kind) == (&first.group, &first.kind);
                    unit.items
                        .range::<ObjectKey, _>(&**first..)
                        .map(|(key, _)| &**key)
                        .take_while(move |key| of_kind(key))
                })
                .cloned()
                .collect();
        }
        kinds
    }

    pub(super) fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    pub(super) fn rediscovered(&mut self, discovery: Arc<Discovery>) {
        self.discovery = discovery;
    }

    /// Takes in what a definition of the set says.
    pub(super) fn define(&mut self, definition: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let spec = &definition["spec"];
        let kind = (text(&spec["group"]), text(&spec["names"]["kind"]));
        self.defined.insert(kind, spec["scope"] == "Namespaced");
    }

    /// The groups of which a kind is not served.
    pub(super) fn unserved_groups<'a>(
        &self,
        kinds: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> BTreeSet<String> {
        kinds
            .filter(|(group, kind)| self.discovery.preferred(group, kind).is_none())
            .map(|(group, _)| group.to_owned())
            .collect()
    }

    pub(super) fn namespaced(&self, group: &str, kind: &str) -> Option<bool> {
        if let Some(served) = self.discovery.preferred(group, kind) {
            return Some(served.namespaced);
        }
        let kind = (group.to_owned(), kind.to_owned());
        self.defined.get(&kind).or_else(|| self.known.get(&kind)).copied()
    }

    /// Gives an object the namespace of its key, or takes it away. Returns whether its kind is not known.
    pub(super) fn settle(&self, object: &mut Value, default_namespace: &str) -> bool {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let (group, kind) = (group_of(&text("apiVersion")).to_owned(), text("kind"));
        let written = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let written = Some(written.to_owned()).filter(|namespace| !namespace.is_empty());
        let namespaced = self.namespaced(&group, &kind);
        let namespace = match namespaced {
            Some(true) => written
                .or_else(|| Some(default_namespace.to_owned()))
                .filter(|namespace| !namespace.is_empty()),
            Some(false) => None,
            None => {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                self.recorded_namespace(&group, &kind, name, written.as_deref())
                    .or(written)
                    .filter(|namespace| !namespace.is_empty())
            }
        };
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            match namespace {
                Some(namespace) => metadata.insert("namespace".to_owned(), namespace.into()),
                None => metadata.remove("namespace"),
            };
        }
        namespaced.is_none()
    }

    /// The namespace under which the inventory has an object, empty for none; `None` when it has no such object,
    /// or several.
    fn recorded_namespace(
        &self,
        group: &str,
        kind: &str,
        name: &str,
        written: Option<&str>,
    ) -> Option<String> {
        let mut found = self
            .recorded
            .range(ObjectKey::new(group, kind, "", "")..)
            .take_while(|key| key.group == group && key.kind == kind)
            .filter(|key| key.name == name)
            .map(|key| &key.namespace)
            .filter(|found| found.is_empty() || written.is_none_or(|written| written == found.as_str()));
        match (found.next(), found.next()) {
            (Some(only), None) => Some(only.clone()),
            _ => None,
        }
    }
}

/// The objects of a content that may define a kind of one of these groups. A definition is called by its kind's plural
/// name and its group.
pub(super) fn definitions(table: &Table, groups: &BTreeSet<String>) -> Vec<u32> {
    if groups.is_empty() {
        return Vec::new();
    }
    let may_define = |row: &&u32| {
        let (.., name) = table.name(**row);
        let group = name.split_once('.').map_or("", |(_, group)| group);
        groups.contains(group) || name.contains('$')
    };
    let mut rows: Vec<u32> = table
        .of_kind(DEFINITION.0, DEFINITION.1)
        .iter()
        .filter(may_define)
        .copied()
        .collect();
    rows.sort_unstable();
    rows
}
