//! What the agent's chart gives: the plain manifests, the rights of each profile, the network policy.
//! `FLOTILLA_GEN=1 cargo test -p flotilla-agent --test generated` (`make gen`) writes the plain manifests; without it
//! a difference fails.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "chart/mod.rs"]
mod chart;

use std::{collections::BTreeSet, fs};

use chart::{documents, folder};
use flotilla_core::rights::{self, PLATFORM, READ, TENANT, VERBS};
use flotilla_render::{helm::context::Lookup, yaml};
use serde_json::{Value, json};

/// What a user's `helm install --create-namespace` makes and a plain `kubectl apply` has to bring.
const HEAD: &str = "\
# Generated from the chart in the folder above by `make gen`; edit the chart, not this file.
apiVersion: v1
kind: Namespace
metadata:
  name: flotilla-system
  labels:
    pod-security.kubernetes.io/enforce: restricted
";

const TENANT_OF_SHOP: &str = "rbac: {profile: tenant, tenant: {namespaces: [shop]}}";

fn render(values: &str) -> String {
    chart::render("flotilla-system", values, None).unwrap()
}

fn of_kind(documents: &[Value], kind: &str) -> Vec<Value> {
    let found = documents.iter().filter(|document| document["kind"] == kind);
    found.cloned().collect()
}

#[test]
fn the_plain_manifests_are_what_the_chart_gives() {
    for (profile, values) in [
        (
            "tenant",
            "rbac: {profile: tenant, tenant: {namespaces: [my-namespace]}}",
        ),
        ("platform", "rbac: {profile: platform}"),
        ("admin", "rbac: {profile: admin}"),
    ] {
        let path = folder().join(format!("manifests/{profile}.yaml"));
        let fresh = format!("{HEAD}{}", render(values));
        if std::env::var_os("FLOTILLA_GEN").is_some() {
            fs::write(&path, &fresh).unwrap();
        }
        assert!(
            fs::read_to_string(&path).unwrap() == fresh,
            "manifests/{profile}.yaml is out of date: run `make gen`"
        );
    }
}

#[test]
fn the_volume_of_state_outlives_the_release() {
    let values = format!("{TENANT_OF_SHOP}\nstate: {{volume: {{enabled: true}}}}");
    let claims = of_kind(&documents(&render(&values)), "PersistentVolumeClaim");
    assert_eq!(claims.len(), 1);
    assert_eq!(
        claims[0]["metadata"]["annotations"]["helm.sh/resource-policy"],
        "keep"
    );
}

#[test]
fn an_agent_with_a_volume_has_its_state_moved_there_before_it_starts() {
    let deployment = |values: &str| {
        let values = format!("{TENANT_OF_SHOP}\n{values}");
        of_kind(&documents(&render(&values)), "Deployment").remove(0)["spec"]["template"]["spec"].clone()
    };
    let without = deployment("");
    assert!(without.get("initContainers").is_none());
    let with = deployment("state: {volume: {enabled: true}}");
    let (first, agent) = (&with["initContainers"][0], &with["containers"][0]);
    let state_dir = "/var/lib/flotilla-agent/state";
    assert_eq!(first["args"], json!(["ledger", "move", "--to", state_dir]));
    assert!(
        words(agent, "args").contains(&format!("--state-dir={state_dir}").as_str()),
        "{agent}"
    );
    for field in ["image", "imagePullPolicy", "securityContext", "resources"] {
        assert_eq!(first[field], agent[field], "{field}");
    }
    let mounts = agent["volumeMounts"].as_array().unwrap();
    assert!(mounts.contains(&first["volumeMounts"][0]));
    assert_eq!(first["env"][0]["name"], "POD_NAMESPACE");
}

#[test]
fn the_limit_of_memory_follows_the_form_of_state_unless_it_is_given() {
    for (values, limits) in [
        ("", json!({"memory": "128Mi"})),
        ("state: {volume: {enabled: true}}", json!({"memory": "512Mi"})),
        (
            "state: {volume: {enabled: true}}\nresources: {limits: {memory: 1Gi, cpu: 1}}",
            json!({"memory": "1Gi", "cpu": 1}),
        ),
    ] {
        let rendered = documents(&render(&format!("{TENANT_OF_SHOP}\n{values}")));
        let resources =
            &of_kind(&rendered, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["resources"];
        assert_eq!(resources["limits"], limits);
        assert_eq!(resources["requests"], json!({"cpu": "20m", "memory": "32Mi"}));
    }
}

/// All rules that a rendering gives the agent.
fn rules(rendered: &[Value]) -> Vec<Value> {
    let roles = rendered
        .iter()
        .filter(|one| one["kind"] == "Role" || one["kind"] == "ClusterRole");
    roles
        .flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default())
        .collect()
}

fn words<'a>(rule: &'a Value, field: &str) -> Vec<&'a str> {
    let words = rule[field].as_array().into_iter().flatten();
    words.map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn no_rule_of_tenant_or_platform_has_a_wildcard_or_reaches_into_pods_or_nodes() {
    for values in [
        TENANT_OF_SHOP,
        "rbac: {profile: platform}",
        "rbac: {profile: platform, platform: {secretNamespaces: [shop]}}",
        "rbac: {profile: platform, extraRules: [{apiGroups: [g.io], resources: [things]}]}",
    ] {
        let rendered = documents(&render(values));
        let rules = rules(&rendered);
        assert!(!rules.is_empty());
        for rule in &rules {
            for field in ["apiGroups", "resources", "verbs"] {
                assert!(!words(rule, field).is_empty(), "{rule}");
                for word in words(rule, field) {
                    assert!(!word.contains('*'), "{rule}");
                }
            }
            assert!(rule.get("nonResourceURLs").is_none(), "{rule}");
            for resource in words(rule, "resources") {
                assert!(!resource.contains('/') && resource != "nodes", "{rule}");
            }
            for verb in words(rule, "verbs") {
                assert!(!["deletecollection", "impersonate"].contains(&verb), "{rule}");
            }
        }
        let bindings = rendered.iter().filter(|one| {
            let kind = one["kind"].as_str().unwrap();
            kind.ends_with("RoleBinding")
        });
        for binding in bindings {
            let role = binding["roleRef"]["name"].as_str().unwrap();
            assert!(
                role.starts_with("flotilla-agent-"),
                "a role that is not the chart's: {binding}"
            );
        }
    }
}

/// Whoever may act as an account has its rights: only those that are named, and where they are.
#[test]
fn the_agent_may_act_as_the_accounts_that_the_values_name_and_as_no_other() {
    let of = |values: &str| {
        let rendered = documents(&render(values));
        let roles = rendered.iter().filter(|one| one["rules"].is_array());
        let acting = roles.filter(|role| {
            let rules = role["rules"].as_array().unwrap();
            rules
                .iter()
                .any(|rule| words(rule, "verbs").contains(&"impersonate"))
        });
        let described = acting.map(|role| {
            let (kind, namespace) = (role["kind"].as_str().unwrap(), &role["metadata"]["namespace"]);
            let rule = &role["rules"][0];
            assert_eq!(words(rule, "resources"), ["serviceaccounts"]);
            assert_eq!(words(rule, "verbs"), ["get", "impersonate"]);
            let bindings = rendered.iter().filter(|one| {
                // A Role is bound in its own namespace alone.
                let is_there = kind == "ClusterRole" || one["metadata"]["namespace"] == *namespace;
                one["roleRef"]["name"] == role["metadata"]["name"] && is_there
            });
            let places = bindings.map(|one| one["metadata"]["namespace"].as_str().unwrap_or("everywhere"));
            let places: Vec<&str> = places.collect();
            format!(
                "{kind} {} {} in {}",
                namespace.as_str().unwrap_or("-"),
                words(rule, "resourceNames").join("+"),
                places.join("+")
            )
        });
        described.collect::<Vec<_>>()
    };
    assert_eq!(of(TENANT_OF_SHOP), [""; 0]);
    assert_eq!(of("rbac: {profile: platform}"), [""; 0]);
    let tenant = "rbac: {profile: tenant, tenant: {namespaces: [shop, web]}, \
                  impersonate: [{namespace: shop, names: [a, b]}, {namespace: web}]}";
    assert_eq!(of(tenant), ["Role shop a+b in shop", "Role web  in web"]);
    let default = "{profile: tenant, tenant: {namespaces: [shop, web]}}\ndefaultServiceAccount: team";
    assert_eq!(
        of(&format!("rbac: {default}")),
        ["ClusterRole - team in shop+web"]
    );
    assert_eq!(
        of("rbac: {profile: platform}\ndefaultServiceAccount: team"),
        ["ClusterRole - team in everywhere"]
    );
}

#[test]
fn the_accounts_of_the_system_and_of_the_agent_are_not_to_be_acted_as() {
    for namespace in ["kube-system", "flotilla-system"] {
        let values = format!("rbac: {{profile: platform, impersonate: [{{namespace: {namespace}}}]}}");
        let refused = chart::render("flotilla-system", &values, None).unwrap_err();
        assert!(
            refused.contains(&format!("rbac.impersonate names {namespace}")),
            "{refused}"
        );
    }
}

#[test]
fn the_default_account_is_told_the_agent() {
    let values = format!("{TENANT_OF_SHOP}\ndefaultServiceAccount: team");
    let deployment = of_kind(&documents(&render(&values)), "Deployment").remove(0);
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"].clone();
    let expected = json!({"name": "FLOTILLA_DEFAULT_SERVICE_ACCOUNT", "value": "team"});
    assert!(env.as_array().unwrap().contains(&expected), "{env}");
}

/// An app with `prune: true` asks for the deletion of what it has written.
#[test]
fn each_kind_that_a_profile_writes_it_may_delete_and_of_the_agents_own_state_nothing() {
    for values in [
        TENANT_OF_SHOP,
        "rbac: {profile: platform, platform: {secretNamespaces: [shop]}}",
        "rbac: {profile: platform, extraRules: [{apiGroups: [g.io], resources: [things]}]}",
    ] {
        let rendered = documents(&render(values));
        let roles = of_kind(&rendered, "ClusterRole");
        let mut written = 0;
        for rule in roles.iter().flat_map(|role| role["rules"].as_array().unwrap()) {
            let verbs = words(rule, "verbs");
            assert_eq!(verbs.contains(&"create"), verbs.contains(&"delete"), "{rule}");
            written += usize::from(verbs.contains(&"create"));
        }
        assert!(written > 0);
        let own = of_kind(&rendered, "Role");
        assert_eq!(own.len(), 1);
        for rule in own[0]["rules"].as_array().unwrap() {
            assert!(!words(rule, "verbs").contains(&"delete"), "{rule}");
        }
    }
}

#[test]
fn secrets_are_in_no_rule_that_holds_in_the_whole_cluster() {
    for values in [
        TENANT_OF_SHOP,
        "rbac: {profile: platform, platform: {secretNamespaces: [shop]}}",
    ] {
        let rendered = documents(&render(values));
        let wide: Vec<Value> = of_kind(&rendered, "ClusterRoleBinding");
        for role in of_kind(&rendered, "ClusterRole") {
            if wide
                .iter()
                .any(|binding| binding["roleRef"]["name"] == role["metadata"]["name"])
            {
                for rule in role["rules"].as_array().unwrap() {
                    assert!(!words(rule, "resources").contains(&"secrets"), "{rule}");
                }
            }
        }
        let places: Vec<Value> = of_kind(&rendered, "RoleBinding")
            .iter()
            .map(|binding| binding["metadata"]["namespace"].clone())
            .collect();
        assert_eq!(places, ["flotilla-system", "shop"]);
    }
}

/// Kinds by group with verbs, of a ClusterRole.
fn granted(rendered: &[Value], role: &str) -> BTreeSet<(String, String, Vec<String>)> {
    let role = of_kind(rendered, "ClusterRole")
        .into_iter()
        .find(|found| found["metadata"]["name"] == role)
        .unwrap();
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                let verbs = words(rule, "verbs").into_iter().map(str::to_owned).collect();
                granted.insert((group.to_owned(), resource.to_owned(), verbs));
            }
        }
    }
    granted
}

fn expected(kinds: &[&[(&str, &[&str])]], verbs: &[&str]) -> BTreeSet<(String, String, Vec<String>)> {
    let kinds = kinds.iter().copied().flatten();
    kinds
        .flat_map(|(group, resources)| resources.iter().map(move |resource| (group, resource)))
        .map(|(group, resource)| {
            let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
            ((*group).to_owned(), (*resource).to_owned(), verbs)
        })
        .collect()
}

#[test]
fn the_profiles_cover_what_advice_about_refusals_says() {
    let mut tenant = expected(&[TENANT], VERBS);
    tenant.extend(expected(&[READ], &["get"]));
    assert_eq!(
        granted(&documents(&render(TENANT_OF_SHOP)), "flotilla-agent-tenant"),
        tenant
    );

    let mut platform = expected(&[TENANT, PLATFORM], VERBS);
    platform.retain(|(_, resource, _)| resource != "secrets");
    platform.extend(expected(&[READ], &["get"]));
    let no_escalation = "rbac: {profile: platform, platform: {escalate: false}}";
    let granted_by = |values: &str| granted(&documents(&render(values)), "flotilla-agent-platform");
    assert_eq!(granted_by(no_escalation), platform);

    let roles: &[(&str, &[&str])] = &[("rbac.authorization.k8s.io", &["clusterroles", "roles"])];
    platform.extend(expected(&[roles], &["bind", "escalate"]));
    assert_eq!(granted_by("rbac: {profile: platform}"), platform);
}

#[test]
fn a_rule_that_advice_names_is_taken_by_the_chart_and_grants_the_request() {
    let refusal = "certificates.cert-manager.io \"x\" is forbidden: User \"u\" cannot patch resource \"certificates\" in \
                   API group \"cert-manager.io\" in the namespace \"shop\"";
    let advice = rights::advice(refusal, &BTreeSet::new()).unwrap();
    let (_, rule) = advice.split_once("of the agent's chart: ").unwrap();
    let values = format!("rbac: {{profile: tenant, tenant: {{namespaces: [shop]}}, extraRules: [{rule}]}}");
    let granted = granted(&documents(&render(&values)), "flotilla-agent-tenant");
    let verbs = VERBS.iter().map(|verb| (*verb).to_owned()).collect();
    assert!(
        granted.contains(&("cert-manager.io".to_owned(), "certificates".to_owned(), verbs)),
        "{granted:?}"
    );
}

#[test]
fn values_that_would_make_a_profile_untrue_are_refused() {
    for (values, expected) in [
        ("{}", "rbac.profile=platform"),
        (
            "rbac: {tenant: {namespaces: [shop, flotilla-system]}}",
            "its identity and its state",
        ),
        ("rbac: {tenant: {namespaces: [kube-system]}}", "may do everything"),
        (
            "rbac: {profile: platform, platform: {secretNamespaces: [flotilla-system]}}",
            "its identity and its state",
        ),
        ("rbac: {tenant: {namespaces: ['*']}}", "namespaces"),
        (
            "rbac: {profile: platform, extraRules: [{apiGroups: ['*'], resources: [things]}]}",
            "apiGroups",
        ),
        (
            "rbac: {profile: platform, extraRules: [{apiGroups: [g.io], resources: ['*']}]}",
            "resources",
        ),
        (
            "rbac: {profile: platform, extraRules: [{apiGroups: [''], resources: [pods/exec]}]}",
            "resources",
        ),
        (
            "rbac: {profile: platform, extraRules: [{apiGroups: [g.io], resources: [things], verbs: ['*']}]}",
            "verbs",
        ),
    ] {
        let refused = chart::render("flotilla-system", values, None).unwrap_err();
        assert!(refused.contains(expected), "{values}: {refused}");
    }
}

#[test]
fn a_tenant_without_namespaces_is_told_its_choices() {
    let refused = chart::render("flotilla-system", "{}", None).unwrap_err();
    for choice in [
        "rbac.tenant.namespaces={shop,web}",
        "rbac.profile=platform",
        "rbac.profile=admin",
    ] {
        assert!(refused.contains(choice), "{choice}: {refused}");
    }
}

/// A cluster whose API server listens at this port.
#[derive(Debug)]
struct ApiServerAt(u16);

impl Lookup for ApiServerAt {
    fn lookup(&self, _: &str, kind: &str, namespace: &str, name: &str) -> Result<yaml::Value, String> {
        assert_eq!(
            (kind, namespace, name),
            ("EndpointSlice", "default", "kubernetes")
        );
        let slice = format!("ports: [{{name: https, port: {}, protocol: TCP}}]", self.0);
        yaml::read(&slice, &yaml::Limits::default()).map_err(|e| e.to_string())
    }
}

/// The ports to which a rendering lets the agent connect, DNS apart.
fn open_ports(rendered: &str) -> Vec<u64> {
    let policy = &of_kind(&documents(rendered), "NetworkPolicy")[0];
    let open = policy["spec"]["egress"][1]["ports"].as_array().unwrap();
    let mut open: Vec<u64> = open.iter().map(|port| port["port"].as_u64().unwrap()).collect();
    open.sort_unstable();
    open
}

#[test]
fn the_network_policy_opens_the_ports_of_the_hub_and_of_the_api_server() {
    for (endpoints, ports) in [
        ("[https://hub.example:7443]", vec![443, 6443, 7443]),
        (
            "[https://a.example:9000, https://b.example]",
            vec![443, 6443, 9000],
        ),
        ("['https://[fd00::1]:7000']", vec![443, 6443, 7000]),
    ] {
        let values = format!("{{hub: {{endpoints: {endpoints}}}, {TENANT_OF_SHOP}}}");
        assert_eq!(open_ports(&render(&values)), ports, "{endpoints}");
    }
}

#[test]
fn the_network_policy_takes_the_port_at_which_the_api_server_really_is() {
    let values = format!("{{hub: {{endpoints: ['https://hub.example:7443']}}, {TENANT_OF_SHOP}}}");
    let installed = chart::render("flotilla-system", &values, Some(Box::new(ApiServerAt(16443)))).unwrap();
    assert_eq!(open_ports(&installed), [443, 7443, 16443]);
    let values = format!("{{networkPolicy: {{apiServerPorts: [8443]}}, {TENANT_OF_SHOP}}}");
    assert_eq!(
        open_ports(&render(&values)),
        [7443, 8443],
        "what is given is not looked up"
    );
}

#[test]
fn the_network_policy_lets_in_who_may_read_metrics_and_nobody_else() {
    let ingress =
        |values: &str| of_kind(&documents(&render(values)), "NetworkPolicy")[0]["spec"]["ingress"].clone();
    assert_eq!(ingress(TENANT_OF_SHOP), json!([]));
    let peers = "networkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]}";
    assert_eq!(
        ingress(&format!("{{{peers}, {TENANT_OF_SHOP}}}")),
        json!([{
            "from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            "ports": [{"protocol": "TCP", "port": 8081}],
        }])
    );
}

#[test]
fn an_agent_of_a_tenant_has_rights_in_its_namespaces_alone_and_watches_no_others() {
    let tenant = "rbac: {profile: tenant, tenant: {namespaces: [a, b]}}";
    let rendered = documents(&render(tenant));
    let bound: Vec<Value> = of_kind(&rendered, "ClusterRoleBinding")
        .iter()
        .map(|binding| binding["roleRef"]["name"].clone())
        .collect();
    assert_eq!(bound, ["flotilla-agent-identity"]);
    let deployment = &of_kind(&rendered, "Deployment")[0];
    let env = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap();
    let namespaces = env
        .iter()
        .find(|one| one["name"] == "FLOTILLA_NAMESPACES")
        .unwrap();
    assert_eq!(namespaces["value"], "a,b");
}

#[test]
fn every_value_of_the_chart_is_explained() {
    let values = fs::read_to_string(folder().join("values.yaml")).unwrap();
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let values = Value::from(yaml::read(&values, &yaml::Limits::default()).unwrap());
    let mut paths = Vec::new();
    leaves(&values, "", &mut paths);
    let missing: Vec<_> = paths
        .into_iter()
        .filter(|path| !readme.contains(&format!("`{path}`")))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

fn leaves(value: &Value, path: &str, out: &mut Vec<String>) {
    match value
        .as_object()
        .filter(|fields| !fields.is_empty() && path != "resources")
    {
        Some(fields) => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(value, &format!("{path}{dot}{name}"), out);
            }
        }
        None => out.push(path.to_owned()),
    }
}
