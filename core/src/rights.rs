//! What to do when the API server refuses the agent for want of rights: which profile of its chart covers the
//! request, or which rule to add. The lists here are the chart's, and a test of the agent holds the two together.

use std::collections::BTreeSet;

/// What both profiles allow on the kinds they cover: reading, watching, applying, and deleting one by one.
pub const VERBS: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// Kinds that the profile `tenant` covers in its namespaces, by API group. The profile `platform` covers them in
/// all, Secrets apart.
pub const TENANT: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "persistentvolumeclaims",
            "pods",
            "secrets",
            "serviceaccounts",
            "services",
        ],
    ),
    ("apps", &["daemonsets", "deployments", "statefulsets"]),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("networking.k8s.io", &["ingresses", "networkpolicies"]),
    ("policy", &["poddisruptionbudgets"]),
];

/// Kinds that only the profile `platform` covers.
pub const PLATFORM: &[(&str, &[&str])] = &[
    (
        "",
        &["limitranges", "namespaces", "persistentvolumes", "resourcequotas"],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ],
    ),
    ("apiextensions.k8s.io", &["customresourcedefinitions"]),
    ("apiregistration.k8s.io", &["apiservices"]),
    ("networking.k8s.io", &["ingressclasses"]),
    ("node.k8s.io", &["runtimeclasses"]),
    (
        "rbac.authorization.k8s.io",
        &["clusterrolebindings", "clusterroles", "rolebindings", "roles"],
    ),
    ("scheduling.k8s.io", &["priorityclasses"]),
    ("storage.k8s.io", &["csidrivers", "storageclasses"]),
];

/// Kinds of which both profiles allow `get` alone: whether Flux still reconciles an object.
pub const READ: &[(&str, &[&str])] = &[
    ("helm.toolkit.fluxcd.io", &["helmreleases"]),
    ("kustomize.toolkit.fluxcd.io", &["kustomizations"]),
];

/// Returns what to do about a refusal, from the server's words. `None`: it is not for want of rights; an admission
/// plugin has refused, say. `listed`: the namespaces that the agent works in; empty: all.
pub fn advice(message: &str, listed: &BTreeSet<String>) -> Option<String> {
    if message.contains(" is attempting to grant RBAC permissions not currently held") {
        return Some(
            "Kubernetes lets nobody grant more than they hold: use the profile `platform` of the agent's chart \
             with `rbac.platform.escalate: true`, or give the agent what is granted, in `rbac.extraRules`"
                .to_owned(),
        );
    }
    let (_, rest) = message.split_once(" is forbidden: User ")?;
    let (_, rest) = rest.split_once(" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (resource, rest) = rest.split_once("\" in API group \"")?;
    let (group, rest) = rest.split_once("\" ")?;
    let namespace = match rest.strip_prefix("in the namespace \"") {
        Some(rest) => rest.split_once('"')?.0,
        None => rest.strip_prefix("at the cluster scope").map(|_| "")?,
    };
    Some(hint(verb, group, resource, namespace, listed))
}

/// Returns what to do about a refusal of an app that acts as a ServiceAccount, `namespace/name`. `None`: it is not for want
/// of rights.
pub fn account_advice(message: &str, account: &str) -> Option<String> {
    if message.contains(" is attempting to grant RBAC permissions not currently held") {
        return Some(format!(
            "Kubernetes lets nobody grant more than they hold: give ServiceAccount {account}, as which this app acts, what is \
             granted"
        ));
    }
    if may_not_impersonate(message) {
        return Some(impersonation_hint(account));
    }
    let (_, rest) = message.split_once(" is forbidden: User ")?;
    let (_, rest) = rest.split_once(" cannot ")?;
    let (verb, rest) = rest.split_once(" resource \"")?;
    let (resource, rest) = rest.split_once("\" in API group \"")?;
    let (group, rest) = rest.split_once("\" ")?;
    let kind = match rest.starts_with("at the cluster scope") {
        true => "ClusterRole and a ClusterRoleBinding",
        false => "Role and a RoleBinding there",
    };
    Some(format!(
        "give ServiceAccount {account}, as which this app acts, the right to do so, by a {kind}: {}",
        rule_of(verb, group, resource)
    ))
}

/// Tells whether the agent may not act as the ServiceAccount at all.
pub fn may_not_impersonate(message: &str) -> bool {
    // Newer servers know rights to do single things as somebody (`impersonate-on:…`), and name what is lacking of these.
    message.contains(" cannot impersonate")
}

/// What gives the agent the right to act as a ServiceAccount, `namespace/name`.
pub fn impersonation_hint(account: &str) -> String {
    let (namespace, name) = account.split_once('/').unwrap_or_default();
    format!(
        "let the agent act as ServiceAccount {account}: add {{namespace: {namespace}, names: [{name}]}} to `rbac.impersonate` \
         of its chart"
    )
}

/// Returns what gives the agent the right to `verb` a `resource`, e.g. `patch` and `deployments`. The core group is
/// empty, and so is the namespace of a request at the cluster scope. `listed`: the namespaces that the agent works in;
/// empty: all.
pub fn hint(verb: &str, group: &str, resource: &str, namespace: &str, listed: &BTreeSet<String>) -> String {
    let given = given_by(verb, group, resource, namespace, listed);
    match verb {
        // Whatever the profile: what it gives is that of the chart which was installed.
        "delete" => format!(
            "{given}; charts of earlier builds let no profile but `admin` delete: run helm upgrade where the agent \
             may write this already"
        ),
        _ => given,
    }
}

fn given_by(verb: &str, group: &str, resource: &str, namespace: &str, listed: &BTreeSet<String>) -> String {
    let covered = VERBS.contains(&verb);
    let of_tenant =
        covered && is_in(TENANT, group, resource) || verb == "get" && is_in(READ, group, resource);
    if of_tenant && listed.contains(namespace) {
        return format!(
            "{namespace} is among this agent's namespaces, but the RoleBinding flotilla-agent-tenant is missing there: \
             create the namespace if it was deleted, and run helm upgrade"
        );
    }
    if covered && !namespace.is_empty() && (group, resource) == ("", "secrets") {
        return format!(
            "add the namespace {namespace} to `rbac.tenant.namespaces` (profile `tenant`) or to \
             `rbac.platform.secretNamespaces` (profile `platform`) of the agent's chart"
        );
    }
    if covered && !namespace.is_empty() && is_in(TENANT, group, resource) {
        return format!(
            "add the namespace {namespace} to `rbac.tenant.namespaces` of the agent's chart, or use its profile \
             `platform`"
        );
    }
    let of_platform = covered && is_in(PLATFORM, group, resource);
    // A Namespace is its own namespace to the server; who reads it in none of theirs needs the whole cluster.
    if of_platform && !namespace.is_empty() && (group, resource) != ("", "namespaces") {
        return format!(
            "add to `rbac.extraRules` of the agent's chart: {}; or use its profile `platform`",
            rule(verb, group, resource)
        );
    }
    if of_platform || verb == "get" && is_in(READ, group, resource) {
        return "use the profile `platform` of the agent's chart: the profile `tenant` does not cover this"
            .to_owned();
    }
    let place = if namespace.is_empty() {
        "with the profile `platform`, ".to_owned()
    } else {
        format!("with the profile `platform`, or with `tenant` and {namespace} among its namespaces, ")
    };
    format!(
        "{place}add to `rbac.extraRules` of the agent's chart: {}",
        rule(verb, group, resource)
    )
}

/// A rule of the chart that allows a request.
fn rule(verb: &str, group: &str, resource: &str) -> String {
    let group = if group.is_empty() { "\"\"" } else { group };
    let verbs = if VERBS.contains(&verb) {
        String::new()
    } else {
        format!(", verbs: [{verb}]")
    };
    format!("{{apiGroups: [{group}], resources: [{resource}]{verbs}}}")
}

/// A rule of a Role that allows a request.
fn rule_of(verb: &str, group: &str, resource: &str) -> String {
    let group = if group.is_empty() { "\"\"" } else { group };
    format!("{{apiGroups: [{group}], resources: [{resource}], verbs: [{verb}]}}")
}

fn is_in(kinds: &[(&str, &[&str])], group: &str, resource: &str) -> bool {
    kinds
        .iter()
        .any(|(of, resources)| *of == group && resources.contains(&resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RBAC's words about a request of the agent.
    fn refusal(verb: &str, resource: &str, group: &str, place: &str) -> String {
        format!(
            "{resource}.{group} \"x\" is forbidden: User \"system:serviceaccount:flotilla-system:flotilla-agent\" \
             cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}"
        )
    }

    #[test]
    fn advice_names_the_profile_or_the_namespace_or_the_rule_to_add() {
        let cluster = "at the cluster scope";
        let namespace = "in the namespace \"shop\"";
        for (verb, resource, group, place, expected) in [
            (
                "patch",
                "customresourcedefinitions",
                "apiextensions.k8s.io",
                cluster,
                "use the profile `platform`",
            ),
            ("create", "namespaces", "", cluster, "use the profile `platform`"),
            (
                "get",
                "namespaces",
                "",
                namespace,
                "use the profile `platform` of the agent's chart: the profile `tenant`",
            ),
            (
                "patch",
                "roles",
                "rbac.authorization.k8s.io",
                namespace,
                "add to `rbac.extraRules` of the agent's chart: {apiGroups: [rbac.authorization.k8s.io], resources: \
                 [roles]}; or use its profile `platform`",
            ),
            (
                "patch",
                "deployments",
                "apps",
                namespace,
                "add the namespace shop to `rbac.tenant.namespaces`",
            ),
            (
                "patch",
                "secrets",
                "",
                namespace,
                "add the namespace shop to `rbac.tenant.namespaces` (profile `tenant`) or to \
                 `rbac.platform.secretNamespaces`",
            ),
            (
                "patch",
                "certificates",
                "cert-manager.io",
                namespace,
                "`tenant` and shop among its namespaces, add to `rbac.extraRules` of the agent's chart: \
                 {apiGroups: [cert-manager.io], resources: [certificates]}",
            ),
            (
                "patch",
                "clusterissuers",
                "cert-manager.io",
                cluster,
                "with the profile `platform`, add to `rbac.extraRules`",
            ),
            (
                "patch",
                "nodes",
                "",
                cluster,
                "{apiGroups: [\"\"], resources: [nodes]}",
            ),
            (
                "delete",
                "deployments",
                "apps",
                namespace,
                "add the namespace shop to `rbac.tenant.namespaces`",
            ),
            (
                "delete",
                "certificates",
                "cert-manager.io",
                namespace,
                "{apiGroups: [cert-manager.io], resources: [certificates]}",
            ),
            (
                "update",
                "deployments",
                "apps",
                namespace,
                "{apiGroups: [apps], resources: [deployments], verbs: [update]}",
            ),
            (
                "get",
                "kustomizations",
                "kustomize.toolkit.fluxcd.io",
                namespace,
                "use the profile `platform`",
            ),
        ] {
            let advice = advice(&refusal(verb, resource, group, place), &BTreeSet::new()).unwrap_or_default();
            assert!(advice.contains(expected), "{verb} {resource}: {advice}");
        }
    }

    #[test]
    fn advice_on_a_listed_namespace_names_the_binding_that_is_missing_there() {
        let listed = BTreeSet::from(["shop".to_owned(), "web".to_owned()]);
        for (verb, resource, group) in [
            ("patch", "deployments", "apps"),
            ("patch", "secrets", ""),
            ("list", "configmaps", ""),
            ("get", "kustomizations", "kustomize.toolkit.fluxcd.io"),
        ] {
            let of =
                |place: &str| advice(&refusal(verb, resource, group, place), &listed).unwrap_or_default();
            let listed = of("in the namespace \"web\"");
            assert!(
                listed.contains(
                    "web is among this agent's namespaces, but the RoleBinding flotilla-agent-tenant"
                ),
                "{resource}: {listed}"
            );
            let other = of("in the namespace \"other\"");
            assert!(!other.contains("RoleBinding"), "{resource}: {other}");
        }
        let rule = advice(
            &refusal(
                "patch",
                "certificates",
                "cert-manager.io",
                "in the namespace \"web\"",
            ),
            &listed,
        );
        assert!(rule.is_some_and(|rule| rule.contains("rbac.extraRules")));
    }

    #[test]
    fn advice_on_a_deletion_names_the_chart_of_a_build_that_gave_no_right_to_it() {
        for listed in [BTreeSet::new(), BTreeSet::from(["shop".to_owned()])] {
            let of = |verb| {
                let refusal = refusal(verb, "deployments", "apps", "in the namespace \"shop\"");
                advice(&refusal, &listed).unwrap_or_default()
            };
            assert!(
                of("delete").contains("charts of earlier builds"),
                "{}",
                of("delete")
            );
            assert!(!of("patch").contains("charts of earlier builds"));
        }
    }

    #[test]
    fn advice_on_a_role_that_grants_more_than_the_agent_holds_names_escalate() {
        let message = "clusterroles.rbac.authorization.k8s.io \"x\" is forbidden: user \"system:serviceaccount:a:b\" \
                       (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently \
                       held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\"]}";
        assert!(
            advice(message, &BTreeSet::new())
                .is_some_and(|advice| advice.contains("rbac.platform.escalate: true"))
        );
    }

    #[test]
    fn advice_on_an_account_names_it_and_what_it_lacks() {
        let of = |message: &str| account_advice(message, "shop/deployer").unwrap_or_default();
        let namespaced = of(
            "deployments.apps \"x\" is forbidden: User \"system:serviceaccount:shop:deployer\" cannot \
             patch resource \"deployments\" in API group \"apps\" in the namespace \"shop\"",
        );
        assert!(
            namespaced.contains("ServiceAccount shop/deployer")
                && namespaced.contains("a Role and a RoleBinding there")
                && namespaced.contains("{apiGroups: [apps], resources: [deployments], verbs: [patch]}"),
            "{namespaced}"
        );
        let wide = of(
            "namespaces \"x\" is forbidden: User \"system:serviceaccount:shop:deployer\" cannot create \
             resource \"namespaces\" in API group \"\" at the cluster scope",
        );
        assert!(wide.contains("a ClusterRole and a ClusterRoleBinding"), "{wide}");
        let not_the_agent = of("serviceaccounts \"deployer\" is forbidden: User \
             \"system:serviceaccount:flotilla-system:flotilla-agent\" cannot impersonate resource \"serviceaccounts\" in \
             API group \"\" in the namespace \"shop\"");
        assert!(
            not_the_agent.contains("add {namespace: shop, names: [deployer]} to `rbac.impersonate`"),
            "{not_the_agent}"
        );
        let newer = of(
            "configmaps \"x\" is forbidden: User \"system:serviceaccount:flotilla-system:flotilla-agent\" cannot \
             impersonate-on:serviceaccount:get resource \"configmaps\" in API group \"\" in the namespace \"shop\"",
        );
        assert_eq!(newer, not_the_agent);
        assert_eq!(
            account_advice("pods \"x\" is forbidden: violates PodSecurity", "shop/deployer"),
            None
        );
    }

    #[test]
    fn a_refusal_by_admission_is_not_answered_with_rights() {
        for message in [
            "pods \"x\" is forbidden: violates PodSecurity \"restricted:latest\": privileged",
            "services \"x\" is forbidden: exceeded quota: q, requested: services=1, used: services=1",
            "configmaps \"x\" is forbidden: unable to create new content in namespace a because it is being terminated",
            "admission webhook \"v.example.org\" denied the request: no",
            "",
        ] {
            assert_eq!(advice(message, &BTreeSet::new()), None, "{message}");
        }
    }
}
