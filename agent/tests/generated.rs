//! The plain manifests are what the chart gives. `FLOTILLA_GEN=1 cargo test -p flotilla-agent --test generated`
//! (`make gen`) writes them; without it a difference fails. No `helm` is needed: the engine is our own.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use flotilla_render::{
    helm::{
        archive::{File, Limits},
        capabilities::{Capabilities, KubeVersion},
        chart::Chart,
        context::Context,
        driver::{self, Output, RenderInput},
        ignore::{FILE_NAME, Rules},
        scope::Release,
        values::Sources,
    },
    yaml,
};
use serde_json::Value;

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

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/agent")
}

fn chart() -> Chart {
    let rules = Rules::parse(&fs::read_to_string(folder().join(FILE_NAME)).unwrap()).unwrap();
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder().join(&below)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = if below.is_empty() {
                name
            } else {
                format!("{below}/{name}")
            };
            let is_folder = entry.file_type().unwrap().is_dir();
            if rules.ignores(&path, is_folder) {
                continue;
            }
            if is_folder {
                folders.push(path);
            } else {
                files.push(File::new(path, &fs::read(entry.path()).unwrap()));
            }
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Chart::from_directory(files, Limits::default()).unwrap()
}

/// Renders the chart with the values of the plain manifests, and these on top.
fn render(values: &str) -> String {
    let base = fs::read_to_string(folder().join("manifests/values.yaml")).unwrap();
    let sources = Sources {
        files: vec![
            ("manifests".to_owned(), base),
            ("test".to_owned(), values.to_owned()),
        ],
        ..Sources::default()
    };
    let input = RenderInput {
        chart: &chart(),
        values: sources.merge(&mut |name| panic!("{name} is read")).unwrap(),
        release: Release {
            name: "flotilla-agent".to_owned(),
            namespace: "flotilla-system".to_owned(),
            revision: 1,
            is_upgrade: false,
        },
        capabilities: Capabilities {
            kube_version: KubeVersion::parse("v1.36.0").unwrap(),
            ..Capabilities::default()
        },
        skip_schema_validation: false,
        subchart_notes: false,
        context: Context::default(),
    };
    driver::template(&input)
        .unwrap()
        .text(&Output::default())
        .unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    let documents = yaml::read_all(text, &yaml::Limits::default()).unwrap();
    let documents = documents.into_iter().map(Value::from);
    documents.filter(|document| !document.is_null()).collect()
}

fn of_kind(documents: &[Value], kind: &str) -> Vec<Value> {
    let found = documents.iter().filter(|document| document["kind"] == kind);
    found.cloned().collect()
}

#[test]
fn the_plain_manifests_are_what_the_chart_gives() {
    let path = folder().join("manifests/agent.yaml");
    let fresh = format!("{HEAD}{}", render("{}"));
    if std::env::var_os("FLOTILLA_GEN").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == fresh,
        "manifests/agent.yaml is out of date: run `make gen`"
    );
}

#[test]
fn the_agent_may_reach_the_ports_of_its_hub() {
    for (endpoints, ports) in [
        ("[https://hub.example:7443]", vec![443, 6443, 7443]),
        (
            "[https://a.example:9000, https://b.example]",
            vec![443, 6443, 9000],
        ),
        ("['https://[fd00::1]:7000']", vec![443, 6443, 7000]),
    ] {
        let rendered = documents(&render(&format!("hub: {{endpoints: {endpoints}}}")));
        let policy = &of_kind(&rendered, "NetworkPolicy")[0];
        let open = policy["spec"]["egress"][1]["ports"].as_array().unwrap();
        let mut open: Vec<u64> = open.iter().map(|port| port["port"].as_u64().unwrap()).collect();
        open.sort_unstable();
        assert_eq!(open, ports, "{endpoints}");
    }
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
