//! What is not reconciled yet is named field by field.

use flotilla_api::support::unsupported;
use flotilla_api::{Options, parse_value};
use serde_json::{Value, json};

fn named(api_version: &str, kind: &str, spec: Value) -> Vec<String> {
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
    let options = Options {
        namespace: Some("b"),
        ..Options::default()
    };
    let resource = parse_value(object, &options)
        .outcome
        .unwrap_or_else(|error| panic!("{error}"));
    unsupported(&resource).iter().map(ToString::to_string).collect()
}

#[test]
fn an_app_names_each_field_that_is_not_reconciled() {
    let spec = json!({
        "interval": "1m", "prune": true, "sourceRef": {"kind": "Bucket", "name": "s"},
        "serviceAccountName": "sa", "kubeConfig": {"secretRef": {"name": "k"}},
        "decryption": {"provider": "sops", "secretRef": {"name": "keys"}, "serviceAccountName": "sa"},
        "dependsOn": [{"name": "x"}], "healthChecks": [{"kind": "Pod", "name": "p"}],
        "healthCheckExprs": [{"apiVersion": "v1", "current": "true"}], "ignore": [{"paths": ["/spec"]}], "force": true,
    });
    let found = named("kustomize.toolkit.fluxcd.io/v1", "Kustomization", spec);
    insta::assert_snapshot!(found.join("\n"), @"
    spec.decryption.serviceAccountName
    spec.sourceRef.kind
    ");
}

#[test]
fn an_app_that_writes_out_the_defaults_is_supported() {
    let spec = json!({
        "interval": "1m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "s"}, "wait": true,
        "timeout": "2m", "dependsOn": [], "decryption": {"provider": "sops", "secretRef": {"name": "keys"}},
        "force": false, "healthChecks": null,
    });
    assert_eq!(
        named("kustomize.toolkit.fluxcd.io/v1", "Kustomization", spec),
        [""; 0]
    );
}

#[test]
fn a_source_names_each_field_that_is_not_reconciled() {
    let spec = json!({
        "interval": "1m", "url": "ssh://git@x/y", "verify": {"secretRef": {"name": "k"}},
        "include": [{"repository": {"name": "o"}}], "recurseSubmodules": true, "sparseCheckout": ["a"],
        "proxySecretRef": {"name": "p"}, "provider": "azure", "serviceAccountName": "sa",
        "ref": {"semver": ">1", "name": "refs/heads/a"},
    });
    let found = named("source.toolkit.fluxcd.io/v1", "GitRepository", spec);
    assert_eq!(found, ["spec.serviceAccountName"]);
    let plain = json!({"interval": "1m", "url": "https://x/y", "provider": "generic", "ref": {"commit": "a".repeat(40)}});
    assert_eq!(
        named("source.toolkit.fluxcd.io/v1", "GitRepository", plain),
        [""; 0]
    );
}

#[test]
fn other_kinds_name_themselves_or_their_fields() {
    let receiver = json!({
        "type": "github", "secretRef": {"name": "s"},
        "resources": [{"kind": "GitRepository", "name": "a"}, {"kind": "GitRepository", "name": "b", "filter": "true"}],
    });
    assert_eq!(
        named("notification.toolkit.fluxcd.io/v1", "Receiver", receiver),
        ["spec.type", "spec.resources[1].filter"]
    );
    let placement = json!({
        "apps": [{"kind": "HelmRelease", "name": "a"}], "clusters": {"names": ["c"]}, "rollout": {"onFailure": "Halt"},
    });
    assert_eq!(
        named("fleet.flotilla.dev/v1alpha1", "Placement", placement),
        ["spec.apps[0].kind", "spec.rollout"]
    );
    let release = json!({"interval": "1m", "chartRef": {"kind": "HelmChart", "name": "a"}});
    assert_eq!(
        named("helm.toolkit.fluxcd.io/v2", "HelmRelease", release),
        ["HelmRelease"]
    );
}
