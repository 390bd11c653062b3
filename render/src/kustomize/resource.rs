//! An object on its way through a build, with the names it had before.

use std::collections::BTreeMap;
use std::rc::Rc;

use smol_str::SmolStr;

use crate::yaml::node::{Content, Kind, Node};

use super::error::Result;
use super::fieldspec::NAMES_PER_STEP;
use super::id::{self, Gvk, Id};
use super::steps::Steps;
use super::transform::Overwritten;

/// Marks objects for which kustomize would keep notes in annotations, so that a patch that wipes the annotations
/// wipes the notes here too.
const MARK: &str = "internal.config.kubernetes.io/previousNames";

/// The annotation that asks for the hash of the content at the end of the name.
const NEEDS_HASH: &str = "internal.config.kubernetes.io/needsHashSuffix";

/// Annotations that never reach the output.
pub(crate) const BUILD_ANNOTATIONS: &[&str] = &[
    "internal.config.kubernetes.io/previousKinds",
    MARK,
    "internal.config.kubernetes.io/prefixes",
    "internal.config.kubernetes.io/suffixes",
    "internal.config.kubernetes.io/previousNamespaces",
    "internal.config.kubernetes.io/allowNameChange",
    "internal.config.kubernetes.io/allowKindChange",
    "internal.config.kubernetes.io/refBy",
    "internal.config.kubernetes.io/generatorBehavior",
    NEEDS_HASH,
    "internal.config.kubernetes.io/path",
    "internal.config.kubernetes.io/index",
    "internal.config.kubernetes.io/seqindent",
    "internal.config.kubernetes.io/id",
    "internal.config.kubernetes.io/annotations-migration-resource-id",
    "config.kubernetes.io/path",
    "config.kubernetes.io/index",
    "config.k8s.io/id",
    "internal.config.kubernetes.io/helm-generated",
];

/// The annotation that says where an object came from.
pub(crate) const ORIGIN: &str = "config.kubernetes.io/origin";
/// The annotation that says what changed an object.
pub(crate) const TRANSFORMATIONS: &str = "alpha.config.kubernetes.io/transformations";

/// A name an object had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) kind: String,
}

impl Previous {
    fn length(&self) -> usize {
        self.name.len() + self.namespace.len() + self.kind.len()
    }
}

/// What is remembered is held here, and in the indexes of names and of identities.
const COPIES_OF_PREVIOUS: usize = 3;

/// What a generated object does to one of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Behavior {
    #[default]
    Create,
    Replace,
    Merge,
}

/// An object with what kustomize remembers of it.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) node: Node,
    /// The file that it was read from.
    pub(crate) file: Option<Rc<str>>,
    pub(crate) previous: Vec<Previous>,
    pub(crate) prefixes: Vec<String>,
    pub(crate) suffixes: Vec<String>,
    pub(crate) behavior: Behavior,
    pub(crate) needs_hash: bool,
    pub(crate) allow_name_change: bool,
    pub(crate) allow_kind_change: bool,
    pub(crate) variables: Vec<String>,
    pub(crate) marked: bool,
    /// The highest number of an alias group in it: those of labels and annotations that transformers wrote.
    pub(crate) alias_groups: u32,
    /// Whether an aliased scalar was changed since the groups were last brought together.
    pub(crate) dirty: bool,
    /// Which replacements wrote something of another type over a field.
    pub(crate) overwritten: Vec<Overwritten>,
}

impl Resource {
    pub(crate) fn new(node: Node) -> Resource {
        Resource {
            node,
            file: None,
            previous: Vec::new(),
            prefixes: Vec::new(),
            suffixes: Vec::new(),
            behavior: Behavior::Create,
            needs_hash: false,
            allow_name_change: false,
            allow_kind_change: false,
            variables: Vec::new(),
            marked: false,
            alias_groups: 0,
            dirty: false,
            overwritten: Vec::new(),
        }
    }

    /// Notes a replacement that wrote something of another type over a field.
    pub(crate) fn note_overwritten(&mut self, note: Overwritten, steps: &Steps<'_>) -> Result<()> {
        steps.spend_bytes(note.length())?;
        self.overwritten.push(note);
        Ok(())
    }

    /// Returns whether the hash of its content ends its name: a generator, or an annotation of its own, says so.
    pub(crate) fn wants_hash(&self) -> bool {
        let annotation = self.node.at(&["metadata", "annotations", NEEDS_HASH]);
        self.needs_hash || annotation.is_some_and(|value| value.text() == "enabled")
    }

    pub(crate) fn gvk(&self) -> Gvk<'_> {
        Gvk::of(&self.node)
    }

    pub(crate) fn name(&self) -> &str {
        id::name(&self.node)
    }

    pub(crate) fn namespace(&self) -> &str {
        id::effective_namespace(&self.node)
    }

    pub(crate) fn id(&self) -> Id {
        id::current(&self.node)
    }

    /// The type the object had first; its version and group as they are now.
    pub(crate) fn original_gvk(&self) -> Gvk<'_> {
        match self.previous.first() {
            Some(first) => Gvk {
                kind: &first.kind,
                ..self.gvk()
            },
            None => self.gvk(),
        }
    }

    pub(crate) fn original_name(&self) -> &str {
        self.previous.first().map_or_else(|| self.name(), |p| &p.name)
    }

    pub(crate) fn original_namespace(&self) -> &str {
        self.previous
            .first()
            .map_or_else(|| self.namespace(), |p| &p.namespace)
    }

    /// Returns every identity the object has or had.
    pub(crate) fn ids(&self) -> Vec<Id> {
        let gvk = self.gvk();
        let current = self.id();
        // Those it had are all different.
        let had = self.previous.iter();
        let had = had.map(|p| Id::new(Gvk { kind: &p.kind, ..gvk }, &p.name, &p.namespace));
        let mut ids: Vec<Id> = had.filter(|id| *id != current).collect();
        ids.push(current);
        ids
    }

    /// Returns how many bytes of names are remembered.
    pub(crate) fn length_of_previous(&self) -> usize {
        self.previous.iter().map(Previous::length).sum()
    }

    /// Makes aliased scalars one again after a change of some, for which the whole object is looked through.
    pub(crate) fn sync(&mut self, steps: &Steps<'_>) -> Result<()> {
        if std::mem::take(&mut self.dirty) {
            steps.spend(self.node.sync() / NAMES_PER_STEP)?;
        }
        debug_assert!(
            !self.node.is_dirty(),
            "a change of an aliased scalar went unnoticed"
        );
        Ok(())
    }

    /// Remembers the present name, namespace and kind, each once.
    pub(crate) fn store_previous(&mut self, steps: &Steps<'_>) -> Result<()> {
        steps.spend(self.previous.len())?;
        let (name, namespace, kind) = (self.name(), self.namespace(), id::kind(&self.node));
        let is_known = |p: &Previous| p.name == name && p.namespace == namespace && p.kind == kind;
        if !self.previous.iter().any(is_known) {
            let length = name.len() + namespace.len() + kind.len() + size_of::<Previous>();
            steps.spend_bytes(length.saturating_mul(COPIES_OF_PREVIOUS))?;
            let previous = Previous {
                name: name.to_owned(),
                namespace: namespace.to_owned(),
                kind: kind.to_owned(),
            };
            self.previous.push(previous);
        }
        self.mark();
        Ok(())
    }

    /// Notes in the annotations that something is remembered of this object.
    pub(crate) fn mark(&mut self) {
        self.marked = true;
        let Some(metadata) = self.node.get_or_insert("metadata", Kind::Map) else {
            return;
        };
        if metadata
            .get("annotations")
            .is_some_and(|a| a.fields().is_empty() && a.items().is_empty())
        {
            metadata.remove("annotations");
        }
        if let Some(annotations) = metadata.get_or_insert("annotations", Kind::Map) {
            self.dirty |= annotations.set(MARK, Node::string(SmolStr::new_static("kept")));
        }
    }

    /// Forgets what was remembered when a patch removed the annotations that kustomize keeps it in.
    ///
    /// Returns whether anything was forgotten.
    pub(crate) fn forget_if_wiped(&mut self) -> bool {
        if !self.marked || self.node.at(&["metadata", "annotations", MARK]).is_some() {
            return false;
        }
        self.marked = false;
        self.previous.clear();
        self.prefixes.clear();
        self.suffixes.clear();
        self.needs_hash = false;
        self.behavior = Behavior::Create;
        true
    }

    /// Puts the note back after a JSON patch, which kustomize protects its annotations from.
    pub(crate) fn restore_mark(&mut self) {
        if self.marked {
            self.mark();
        }
    }

    /// Reads labels or annotations as text.
    pub(crate) fn texts(&self, field: &str) -> BTreeMap<String, String> {
        let map = self.node.at(&["metadata", field]);
        map.map_or(&[][..], Node::fields)
            .iter()
            .map(|(key, value)| (key.text().to_string(), value.text().to_string()))
            .collect()
    }

    /// Writes labels or annotations as text, and leaves the field out when there are none.
    pub(crate) fn set_texts(&mut self, field: &str, texts: &BTreeMap<String, String>) {
        self.put_texts(
            field,
            texts.iter().map(|(key, value)| (key.as_str(), value.as_str())),
        );
    }

    /// As [`Resource::set_texts`], with texts that stand anywhere, each once.
    pub(crate) fn put_texts<T: Into<SmolStr>>(
        &mut self,
        field: &str,
        texts: impl IntoIterator<Item = (T, T)>,
    ) {
        let Some(metadata) = self.node.get_or_insert("metadata", Kind::Map) else {
            return;
        };
        metadata.remove(field);
        let mut pairs = texts
            .into_iter()
            .map(|(key, value)| (Node::plain(key), Node::string(value)))
            .peekable();
        if pairs.peek().is_none() {
            return;
        }
        let mut map = Node::map();
        map.content = Content::Map(pairs.collect());
        metadata.push_field(field, map);
    }

    /// Sets `metadata.name`.
    pub(crate) fn set_name(&mut self, name: &str) {
        if let Some(metadata) = self.node.get_or_insert("metadata", Kind::Map) {
            self.dirty |= metadata.set("name", Node::plain(name));
        }
    }

    /// Sets `metadata.namespace`, or removes it.
    pub(crate) fn set_namespace(&mut self, namespace: &str) {
        if namespace.is_empty() {
            if let Some(metadata) = self.node.get_mut("metadata") {
                metadata.remove("namespace");
            }
        } else if let Some(metadata) = self.node.get_or_insert("metadata", Kind::Map) {
            self.dirty |= metadata.set("namespace", Node::plain(namespace));
        }
    }

    /// Removes what never reaches the output; annotations become text on the way, as in kustomize.
    pub(crate) fn finish(&mut self, keep_origin: bool, keep_transformations: bool) {
        let mut annotations = self.texts("annotations");
        for name in BUILD_ANNOTATIONS {
            annotations.remove(*name);
        }
        if !keep_origin {
            annotations.remove(ORIGIN);
        }
        if !keep_transformations {
            annotations.remove(TRANSFORMATIONS);
        }
        self.set_texts("annotations", &annotations);
    }

    /// Takes name and memory from the object that this one takes the place of.
    pub(crate) fn succeed(&mut self, other: Resource) {
        self.set_name(other.name());
        self.set_namespace(id::namespace(&other.node));
        self.needs_hash &= other.needs_hash;
        self.previous = other.previous;
        self.prefixes = other.prefixes;
        self.suffixes = other.suffixes;
        self.behavior = other.behavior;
        self.variables = other.variables;
        self.marked = other.marked;
        self.alias_groups = self.alias_groups.max(other.alias_groups);
    }
}
