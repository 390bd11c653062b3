//! The sources: folders of objects, commit after commit, and what a renderer makes of a folder.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{
    apply::policy::Policy,
    content::{Content, Form, ObjectEntry, Objects, Table, object_digest},
    digest::Digest,
    object::ObjectKey,
};

pub(crate) type Key = Arc<ObjectKey>;

/// An object of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) value: u32,
    pub(crate) policy: Policy,
}

impl Body {
    pub(crate) fn plain(value: u32) -> Self {
        Self {
            value,
            policy: Policy::default(),
        }
    }

    /// Digest of the object as an agent sends it.
    pub(crate) fn sent(&self) -> Digest {
        Digest::of_json("sent", &(self.value, self.policy))
    }
}

/// What an app is rendered from.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Folder {
    pub(crate) objects: BTreeMap<Key, Body>,
    /// It cannot be rendered.
    pub(crate) broken: bool,
}

/// A revision.
pub(crate) type Tree = BTreeMap<u8, Folder>;

/// A source's history; its last commit is its head.
#[derive(Debug, Default)]
pub(crate) struct Repository {
    pub(crate) commits: Vec<Tree>,
}

impl Repository {
    /// Number of the head, from 1.
    pub(crate) fn head(&self) -> i64 {
        i64::try_from(self.commits.len()).expect("few")
    }

    pub(crate) fn tree(&self, revision: i64) -> Option<&Tree> {
        let index = usize::try_from(revision - 1).ok()?;
        self.commits.get(index)
    }

    /// Commits a change of the last tree.
    pub(crate) fn commit(&mut self, change: impl FnOnce(&mut Tree)) {
        let mut tree = self.commits.last().cloned().unwrap_or_default();
        change(&mut tree);
        self.commits.push(tree);
    }
}

/// A content with its bodies.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) objects: BTreeMap<Key, Body>,
    pub(crate) content: Content,
    pub(crate) table: Table,
}

/// All contents that were ever rendered, by digest: what has a digest never changes.
#[derive(Debug, Default)]
pub(crate) struct Contents(BTreeMap<Digest, Rendered>);

impl Contents {
    /// Renders a folder.
    pub(crate) fn render(&mut self, folder: &Folder) -> Digest {
        let entries: Vec<ObjectEntry> = folder
            .objects
            .iter()
            .map(|(key, body)| ObjectEntry {
                key: key.as_ref().clone(),
                form: Form::Json,
                digest: object_digest(Form::Json, body.sent().as_bytes(), None),
            })
            .collect();
        let content = Content::Objects(Objects {
            count: u32::try_from(entries.len()).expect("few"),
            entries,
            complete: true,
        });
        self.put(content, folder.objects.clone())
    }

    pub(crate) fn put(&mut self, content: Content, objects: BTreeMap<Key, Body>) -> Digest {
        let digest = content.digest();
        self.0.entry(digest).or_insert_with(|| Rendered {
            objects,
            table: Table::from_bytes(&content.to_bytes()).expect("a content"),
            content,
        });
        digest
    }

    pub(crate) fn get(&self, digest: &Digest) -> &Rendered {
        &self.0[digest]
    }
}

/// The object of this name: of several kinds, in two namespaces, one of which is an object itself, and so is a definition.
pub(crate) fn key(name: &str) -> Key {
    Arc::new(match name {
        "c" => ObjectKey::new("apps", "Deployment", "a", name),
        "d" => ObjectKey::new("", "Secret", "b", name),
        "e" => ObjectKey::new("", "ConfigMap", "b", name),
        "f" => ObjectKey::new("example.com", "Widget", "a", name),
        "g" => ObjectKey::new("", "Namespace", "", "b"),
        "h" => ObjectKey::new(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            "",
            "widgets.example.com",
        ),
        name => ObjectKey::new("", "ConfigMap", "a", name),
    })
}
