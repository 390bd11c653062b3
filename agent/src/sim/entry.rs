//! Entries as a hub would publish them.

use std::{collections::BTreeMap, time::Duration};

use flotilla_core::{
    digest::Digest,
    id::{ResourceUid, UnitId},
    unit::{AppRef, Entry, Settings, Substitution, UnitState, target_digest},
};
use uuid::Uuid;

/// An entry of a content, of an app of its own. Whatever `change` makes of it, its target is that of what it holds then.
pub fn entry(unit: UnitId, content: Digest, change: impl FnOnce(&mut Entry)) -> Entry {
    let number = unit.0.as_u128();
    let mut entry = Entry {
        unit,
        version: 1,
        app: AppRef {
            uid: ResourceUid(Uuid::from_u128(number.wrapping_add(1000))),
            kind: "Kustomization".into(),
            namespace: "flux-system".into(),
            name: format!("app{number}"),
        },
        content: Some(content),
        target: content,
        revision: "main@sha1:abc".into(),
        state: UnitState::Active,
        prune_cleared: None,
        prune_approved: None,
        settings: settings(),
        variables: Vec::new(),
        depends_on: Vec::new(),
        withheld: Vec::new(),
        requested: String::new(),
    };
    change(&mut entry);
    entry.target = target_digest(entry.content, &entry.settings, &entry.variables);
    entry
}

/// What an app that says nothing gets, without waiting and without substitution.
pub fn settings() -> Settings {
    Settings {
        interval: Duration::from_secs(600),
        retry_interval: Duration::from_secs(60),
        timeout: Duration::from_secs(120),
        wait: false,
        prune: true,
        common_labels: BTreeMap::new(),
        common_annotations: BTreeMap::new(),
        substitution: Substitution::Off,
        default_namespace: String::new(),
        ..Settings::default()
    }
}
