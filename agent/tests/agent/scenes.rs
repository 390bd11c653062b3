//! Steps that many scenarios begin with.

use std::time::Duration;

use flotilla_core::{
    digest::Digest,
    object::ObjectKey,
    removal::Clearing,
    unit::{Entry, Settings},
};
use flotilla_proto::agent::v1::ObjectState;
use serde_json::{Value, json};

use crate::world::{World, config_map, entry, entry_with, key, settings, settle};

/// An entry under a version.
pub(crate) fn version(version: u64, entry: Entry) -> Entry {
    Entry { version, ..entry }
}

/// Objects without a namespace are in `default`.
pub(crate) fn in_default(content: Digest) -> Entry {
    let settings = Settings {
        default_namespace: "default".to_owned(),
        ..settings()
    };
    entry_with(1, content, settings, Vec::new())
}

/// The switch of an object, as an annotation.
pub(crate) fn switch(name: &str) -> String {
    format!("kustomize.toolkit.fluxcd.io/{name}")
}

pub(crate) fn with_switch(mut object: Value, name: &str, value: &str) -> Value {
    object["metadata"]["annotations"][switch(name)] = value.into();
    object
}

pub(crate) fn x() -> ObjectKey {
    key("ConfigMap", "x")
}

pub(crate) fn y() -> ObjectKey {
    key("ConfigMap", "y")
}

/// What left until this version may go.
pub(crate) fn cleared(entry: &Entry) -> Entry {
    cleared_at(entry.version, entry)
}

pub(crate) fn cleared_at(version: u64, entry: &Entry) -> Entry {
    Entry {
        prune_cleared: Some(Clearing {
            version,
            except: Vec::new(),
        }),
        ..entry.clone()
    }
}

/// The definition of a namespaced kind.
pub(crate) fn widget_definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1"}]}})
}

pub(crate) fn widget() -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w", "namespace": "default"},
        "spec": {"size": 1}})
}

pub(crate) fn widget_key() -> ObjectKey {
    ObjectKey::new("example.com", "Widget", "default", "w")
}

/// A unit that had `x` and `y`, and of which `y` has left.
pub(crate) async fn without_y(world: &mut World) -> Entry {
    world
        .ready(1, &[config_map("x", "1"), config_map("y", "1")])
        .await;
    let second = version(2, entry(1, world.contents.add(&[config_map("x", "1")])));
    world.ready_as(second).await
}

pub(crate) async fn until_gone(world: &mut World, name: &str) {
    let key = key("ConfigMap", name);
    world
        .until("it is deleted", |world| world.cluster.object(&key).is_none())
        .await;
    world
        .until("its row goes", |world| {
            // One of the same name elsewhere may be told of in the same report.
            let row = &world.objects[name];
            row.state() == ObjectState::Gone
                || row.key.as_ref().is_some_and(|of| of.namespace != key.namespace)
        })
        .await;
}

/// What a unit has in its inventory, by name.
pub(crate) fn items(world: &World, entry: &Entry) -> Vec<String> {
    world.agent().ledger.read(|state| {
        let items = state.units[&entry.unit].items.keys();
        items.map(|key| key.name.clone()).collect()
    })
}

/// The UID of an object that is there.
pub(crate) fn uid(world: &World, key: &ObjectKey) -> Value {
    world.cluster.object(key).unwrap()["metadata"]["uid"].clone()
}

impl World {
    /// A unit of these objects that has become ready and rests.
    pub(crate) async fn ready(&mut self, n: u128, objects: &[Value]) -> Entry {
        let wanted = entry(n, self.contents.add(objects));
        self.ready_as(wanted).await
    }

    /// This unit, which has become ready and rests.
    pub(crate) async fn ready_as(&mut self, wanted: Entry) -> Entry {
        self.offer(std::slice::from_ref(&wanted)).await;
        self.until_ready(&wanted).await;
        self.quiet().await;
        wanted
    }

    /// Lets everything come to rest, and forgets what was told and asked so far.
    pub(crate) async fn quiet(&mut self) {
        settle().await;
        while self.take_report(Duration::from_secs(1)).await.is_some() {}
        self.cluster.take_requests();
        self.history.clear();
        self.told.clear();
        self.events.clear();
    }

    /// Somebody changes the value of a ConfigMap.
    pub(crate) fn set_value(&self, manager: &str, name: &str, value: &str) {
        self.cluster.edit(manager, &key("ConfigMap", name), |live| {
            live["data"]["a"] = value.into();
        });
    }

    /// Somebody changes a field again and again, until the agent has stopped to put it back.
    pub(crate) async fn contest(&self, name: &str) {
        for _ in 0..6 {
            self.set_value("stubborn", name, "theirs");
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(self.value(name).as_deref(), Some("theirs"), "it is contested");
    }
}
