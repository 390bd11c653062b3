//! How kustomize tells objects apart: group, version, kind, name and effective namespace.

use std::fmt;

use crate::yaml::node::Node;

use super::tables;

/// The namespace of objects that have none, as kustomize records it.
pub(crate) const CLUSTER: &str = "_non_namespaceable_";

/// Splits an `apiVersion` into group and version.
pub(crate) fn group_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// A group, version and kind, borrowed from where they stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gvk<'a> {
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) kind: &'a str,
}

/// A pattern for types: an empty part fits every type.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct GvkPattern {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
}

impl GvkPattern {
    /// Tells whether a type fits.
    pub(crate) fn selects(&self, gvk: Gvk<'_>) -> bool {
        (self.kind.is_empty() || self.kind == gvk.kind)
            && (self.group.is_empty() || self.group == gvk.group)
            && (self.version.is_empty() || self.version == gvk.version)
    }

    /// Borrows the pattern as a type.
    pub(crate) fn as_gvk(&self) -> Gvk<'_> {
        Gvk {
            group: &self.group,
            version: &self.version,
            kind: &self.kind,
        }
    }
}

impl<'a> Gvk<'a> {
    /// Reads the type of an object.
    pub(crate) fn of(node: &'a Node) -> Gvk<'a> {
        Gvk::new(api_version(node), kind(node))
    }

    pub(crate) fn new(api_version: &'a str, kind: &'a str) -> Gvk<'a> {
        let (group, version) = group_version(api_version);
        Gvk { group, version, kind }
    }

    fn parts(self, none: [&'static str; 3]) -> [&'a str; 3] {
        let or = |text: &'a str, none: &'static str| if text.is_empty() { none } else { text };
        [
            or(self.group, none[0]),
            or(self.version, none[1]),
            or(self.kind, none[2]),
        ]
    }

    /// The bytes of [`Gvk::sort_text`].
    pub(crate) fn sort_bytes(self) -> impl Iterator<Item = u8> + 'a {
        let [group, version, kind] = self.parts(["~G", "~V", "~K"]);
        [group, "_", version, "_", kind].into_iter().flat_map(str::bytes)
    }

    /// The text by which kustomize sorts types.
    pub(crate) fn sort_text(self) -> String {
        self.parts(["~G", "~V", "~K"]).join("_")
    }
}

impl fmt::Display for Gvk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [group, version, kind] = self.parts(["[noGrp]", "[noVer]", "[noKind]"]);
        write!(f, "{kind}.{version}.{group}")
    }
}

/// The identity of an object, owned, for sets and maps.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Id(String);

impl Id {
    /// Builds the identity of a type, a name and an effective namespace.
    pub(crate) fn new(gvk: Gvk<'_>, name: &str, namespace: &str) -> Id {
        let Gvk { group, version, kind } = gvk;
        let mut text = String::with_capacity(
            group.len() + version.len() + kind.len() + name.len() + namespace.len() + 4,
        );
        for part in [group, version, kind, name, namespace] {
            text.push_str(part);
            text.push('\0');
        }
        Id(text)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.0.splitn(6, '\0').collect();
        let [group, version, kind, name, namespace, ..] = parts.as_slice() else {
            return Ok(());
        };
        write!(f, "{}/{name}.{namespace}", Gvk { group, version, kind })
    }
}

/// Reads `apiVersion`.
pub(crate) fn api_version(node: &Node) -> &str {
    node.get("apiVersion").map_or("", Node::text)
}

/// Reads `kind`.
pub(crate) fn kind(node: &Node) -> &str {
    node.get("kind").map_or("", Node::text)
}

/// Reads `metadata.name`.
pub(crate) fn name(node: &Node) -> &str {
    metadata(node, "name")
}

/// Reads `metadata.namespace` as written.
pub(crate) fn namespace(node: &Node) -> &str {
    metadata(node, "namespace")
}

fn metadata<'a>(node: &'a Node, field: &str) -> &'a str {
    let value = node.get("metadata").and_then(|m| m.get(field));
    value.filter(|v| !v.is_empty()).map_or("", Node::text)
}

/// Tells whether an object is known not to be namespaced.
pub(crate) fn is_cluster_scoped(node: &Node) -> bool {
    tables::is_cluster_scoped(api_version(node), kind(node))
}

/// Reads the namespace an object lives in: `default` when it names none, [`CLUSTER`] when it has none.
pub(crate) fn effective_namespace(node: &Node) -> &str {
    if is_cluster_scoped(node) {
        return CLUSTER;
    }
    match namespace(node) {
        "" => "default",
        namespace => namespace,
    }
}

/// Returns the current identity of an object.
pub(crate) fn current(node: &Node) -> Id {
    Id::new(Gvk::of(node), name(node), effective_namespace(node))
}
