//! Names of resources: where a name resolves, and what it names.

use std::fmt;

use crate::kind::Kind;

/// Where a resource's name resolves: in the fleet, or in one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The resource belongs to the fleet.
    #[default]
    Fleet,
    /// The resource belongs to the cluster of this name.
    Cluster(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Fleet => f.write_str("fleet"),
            Scope::Cluster(name) => write!(f, "cluster {name}"),
        }
    }
}

/// The identity of a resource: (scope, group, kind, namespace, name). The version is no part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// Where the name resolves.
    pub scope: Scope,
    /// The kind, which fixes the group.
    pub kind: Kind,
    /// The namespace; empty for kinds that have none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ResourceId {
    /// Returns the API group; empty for core kinds.
    pub fn group(&self) -> &'static str {
        self.kind.group()
    }
}

impl fmt::Display for ResourceId {
    /// Prints `Kind namespace/name`, with `(cluster c1)` behind it unless the scope is the fleet.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)?;
        match &self.scope {
            Scope::Fleet => Ok(()),
            scope => write!(f, " ({scope})"),
        }
    }
}
