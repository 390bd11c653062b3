//! Data kustomize's behaviour rests on, and look-ups in it. The data is printed by `render/oracle/kustomize/tables`.

#[rustfmt::skip]
mod generated;

/// A field a transformer writes or follows: the types that have it and the path to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) path: &'static str,
    pub(crate) create: bool,
}

/// A type that others refer to by name, with the fields that do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameReference {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) referrers: &'static [Spec],
}

/// How a value of a built-in type merges: its fields, or its items and the keys they merge by.
#[derive(Debug)]
pub(crate) struct Type {
    /// The rows of the fields that matter to merging, by name.
    pub(crate) fields: &'static [(&'static str, u16)],
    /// The row of any other field, or [`NONE`].
    pub(crate) rest: u16,
    /// The row of an item, or [`NONE`].
    pub(crate) items: u16,
    /// Whether a patch merges into the list instead of replacing it.
    pub(crate) merge: bool,
    /// The fields that tell items apart; none for lists of scalars.
    pub(crate) keys: &'static [&'static str],
}

/// The row that stands for no type.
pub(crate) const NONE: u16 = u16::MAX;

pub(crate) use generated::{
    COMMON_ANNOTATIONS, COMMON_LABELS, IMAGES, LABELS, NAME_PREFIX, NAME_REFERENCE, NAME_SUFFIX, NAMESPACE,
    ORDER_FIRST, ORDER_LAST, REPLICAS, TEMPLATE_LABELS, VAR_REFERENCE,
};

/// Tells whether a type is known not to be namespaced.
pub(crate) fn is_cluster_scoped(api_version: &str, kind: &str) -> bool {
    generated::CLUSTER_SCOPED
        .binary_search(&(api_version, kind))
        .is_ok()
}

/// Tells whether a type is built in.
pub(crate) fn is_builtin(api_version: &str, kind: &str) -> bool {
    resource_type(api_version, kind).is_some() || is_cluster_scoped(api_version, kind)
}

/// Returns the row of a built-in type.
pub(crate) fn resource_type(api_version: &str, kind: &str) -> Option<u16> {
    let found = generated::RESOURCES.binary_search_by(|(v, k, _)| (*v, *k).cmp(&(api_version, kind)));
    found.ok().map(|index| generated::RESOURCES[index].2)
}

/// Returns a row of the table of types.
pub(crate) fn type_at(row: u16) -> Option<&'static Type> {
    generated::TYPES.get(usize::from(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_find_their_rows_because_the_tables_are_sorted() {
        assert!(generated::CLUSTER_SCOPED.is_sorted());
        assert!(generated::RESOURCES.is_sorted());
        assert!(generated::TYPES.iter().all(|t| t.fields.is_sorted()));
        assert!(is_cluster_scoped("rbac.authorization.k8s.io/v1", "ClusterRole"));
        assert!(!is_cluster_scoped("apps/v1", "Deployment"));
        assert!(resource_type("apps/v1", "Deployment").is_some());
    }
}
