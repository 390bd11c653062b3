//! Objects that no unit may write or remove: the agent's own, without which it loses its memory, its identity or
//! its rights; and Kubernetes' own, which are not removed.

use crate::object::ObjectKey;

const RBAC: &str = "rbac.authorization.k8s.io";
/// Namespaces that every cluster has from its beginning. The first holds what the cluster runs on.
const SYSTEM: &[&str] = &["kube-system", "kube-public", "kube-node-lease", "default"];

/// The protected objects of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protected {
    namespace: String,
    release: String,
}

impl Protected {
    /// What the agent installed as `release` in `namespace` must not lose. All that the chart and the agent
    /// make there is called like the release, or begins so with a dash after it.
    pub fn new(namespace: &str, release: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            release: release.to_owned(),
        }
    }

    /// Tells whether no unit may write the object: it is the agent's own.
    pub fn covers_write(&self, key: &ObjectKey) -> bool {
        if is_namespace(key) {
            return key.name == self.namespace;
        }
        // Its rights in other namespaces are its own, too.
        self.is_named(&key.name) && (key.namespace == self.namespace || key.group == RBAC)
    }

    /// Tells whether no unit may remove the object: it is the agent's own, or the cluster's.
    pub fn covers_removal(&self, key: &ObjectKey) -> bool {
        let is_system = match is_namespace(key) {
            true => SYSTEM.contains(&key.name.as_str()),
            false => key.namespace == SYSTEM[0],
        };
        is_system || self.covers_write(key)
    }

    fn is_named(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&self.release);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

fn is_namespace(key: &ObjectKey) -> bool {
    key.group.is_empty() && key.kind == "Namespace"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protected() -> Protected {
        Protected::new("fleet", "flotilla-agent")
    }

    fn key(text: &str) -> ObjectKey {
        let parts: Vec<&str> = text.split('/').collect();
        ObjectKey::new(parts[0], parts[1], parts[2], parts[3])
    }

    #[test]
    fn what_the_agent_lives_on_is_neither_written_nor_removed() {
        for text in [
            "/Namespace//fleet",
            "/Secret/fleet/flotilla-agent-ledger",
            "/Secret/fleet/flotilla-agent-ledger-7",
            "/Secret/fleet/flotilla-agent-identity",
            "/Secret/fleet/flotilla-agent-join",
            "/ConfigMap/fleet/flotilla-agent-status",
            "/PersistentVolumeClaim/fleet/flotilla-agent-state",
            "/ServiceAccount/fleet/flotilla-agent",
            "apps/Deployment/fleet/flotilla-agent",
            "networking.k8s.io/NetworkPolicy/fleet/flotilla-agent",
            "rbac.authorization.k8s.io/Role/fleet/flotilla-agent-state",
            "rbac.authorization.k8s.io/RoleBinding/fleet/flotilla-agent-state",
            "rbac.authorization.k8s.io/RoleBinding/team-a/flotilla-agent-tenant",
            "rbac.authorization.k8s.io/ClusterRole//flotilla-agent-platform",
            "rbac.authorization.k8s.io/ClusterRoleBinding//flotilla-agent-admin",
        ] {
            assert!(protected().covers_write(&key(text)), "{text}");
            assert!(protected().covers_removal(&key(text)), "{text}");
        }
    }

    #[test]
    fn what_the_cluster_lives_on_is_written_and_not_removed() {
        for text in [
            "/Namespace//kube-system",
            "/Namespace//default",
            "/ConfigMap/kube-system/coredns",
            "apps/DaemonSet/kube-system/kube-proxy",
        ] {
            assert!(!protected().covers_write(&key(text)), "{text}");
            assert!(protected().covers_removal(&key(text)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_the_units() {
        for text in [
            "/Namespace//team-a",
            "/Secret/team-a/flotilla-agent-ledger",
            "/Secret/fleet/flotilla-agents",
            "/Secret/fleet/other",
            "/ConfigMap/default/web",
            "apps/Deployment/kube-system-tools/web",
            "rbac.authorization.k8s.io/ClusterRole//flotilla-agentic",
        ] {
            assert!(!protected().covers_write(&key(text)), "{text}");
            assert!(!protected().covers_removal(&key(text)), "{text}");
        }
    }
}
