//! Old versions of Flux's kinds are taken and become current ones.

use flotilla_api::{Options, parse};
use serde_json::{Value, json};

/// Parses one object of an old version; returns its spec now and what was said.
fn converted(api_version: &str, kind: &str, spec: Value) -> (Value, Vec<String>) {
    let object = json!({
        "apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "b"}, "spec": spec,
    });
    let parsed = parse(object.to_string().as_bytes(), &Options::default()).remove(0);
    let said = parsed.warnings.iter().map(ToString::to_string).collect();
    let resource = parsed
        .outcome
        .unwrap_or_else(|error| panic!("{kind} {api_version}: {error}"));
    (resource.value().expect("open").clone(), said)
}

#[test]
fn removed_fields_are_dropped_and_renamed_ones_moved() {
    let git = json!({"url": "https://x/y", "interval": "1m"});
    let chart = json!({"chart": "a", "sourceRef": {"kind": "Bucket", "name": "s"}, "interval": "1m"});
    let app = json!({"interval": "1m", "prune": true, "sourceRef": {"kind": "Bucket", "name": "s"}});
    let release = json!({"interval": "1m", "chart": {"spec": {"chart": "a", "sourceRef": {"kind": "Bucket", "name": "s"}}}});
    let with = |base: &Value, more: Value| {
        let mut all = base.clone();
        let fields = all.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        all
    };
    let patch = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    let target = json!({"kind": "Pod", "name": "p.q"});
    let operations = json!([{"op": "remove", "path": "/x"}]);
    let moved = json!([
        {"patch": patch.to_string()},
        {"patch": "mine"},
        {"patch": operations.to_string(), "target": {"kind": "Pod", "name": "p\\.q"}},
    ]);
    let old_patches = json!({
        "patchesStrategicMerge": [patch],
        "patches": [{"patch": "mine"}],
        "patchesJson6902": [{"target": target, "patch": operations}],
    });
    let source = "source.toolkit.fluxcd.io";
    let cases = [
        (
            format!("{source}/v1beta1"),
            "GitRepository",
            with(&git, json!({"gitImplementation": "go-git", "accessFrom": {}})),
            git.clone(),
            3,
        ),
        (
            format!("{source}/v1beta2"),
            "GitRepository",
            git.clone(),
            git.clone(),
            1,
        ),
        (
            format!("{source}/v1"),
            "GitRepository",
            with(
                &git,
                json!({"verify": {"mode": "head", "secretRef": {"name": "k"}}}),
            ),
            with(
                &git,
                json!({"verify": {"mode": "HEAD", "secretRef": {"name": "k"}}}),
            ),
            0,
        ),
        (
            format!("{source}/v1beta2"),
            "HelmChart",
            with(&chart, json!({"valuesFile": "a.yaml", "valuesFiles": ["b.yaml"]})),
            with(&chart, json!({"valuesFiles": ["a.yaml", "b.yaml"]})),
            2,
        ),
        (
            format!("{source}/v1beta1"),
            "Bucket",
            json!({"bucketName": "b", "endpoint": "e", "interval": "1m", "accessFrom": {}}),
            json!({"bucketName": "b", "endpoint": "e", "interval": "1m"}),
            2,
        ),
        (
            format!("{source}/v1beta2"),
            "OCIRepository",
            json!({"url": "oci://r/a", "interval": "1m"}),
            json!({"url": "oci://r/a", "interval": "1m"}),
            1,
        ),
        (
            "kustomize.toolkit.fluxcd.io/v1beta1".to_owned(),
            "Kustomization",
            with(&app, with(&old_patches, json!({"validation": "client"}))),
            with(&app, json!({"patches": moved})),
            4,
        ),
        (
            "kustomize.toolkit.fluxcd.io/v1beta2".to_owned(),
            "Kustomization",
            app.clone(),
            app.clone(),
            1,
        ),
        (
            "helm.toolkit.fluxcd.io/v2beta1".to_owned(),
            "HelmRelease",
            with(&release, json!({"postRenderers": [{"kustomize": old_patches}]})),
            with(
                &release,
                json!({"postRenderers": [{"kustomize": {"patches": moved}}]}),
            ),
            3,
        ),
        (
            "helm.toolkit.fluxcd.io/v2beta2".to_owned(),
            "HelmRelease",
            json!({"interval": "1m", "chart": {"spec": {"chart": "a", "valuesFile": "v.yaml", "sourceRef": {"kind": "Bucket", "name": "s"}}}}),
            json!({"interval": "1m", "chart": {"spec": {"chart": "a", "valuesFiles": ["v.yaml"], "sourceRef": {"kind": "Bucket", "name": "s"}}}}),
            2,
        ),
        (
            "notification.toolkit.fluxcd.io/v1beta1".to_owned(),
            "Alert",
            json!({"providerRef": {"name": "p"}, "eventSources": [{"kind": "Bucket", "name": "*"}], "summary": "prod"}),
            json!({"providerRef": {"name": "p"}, "eventSources": [{"kind": "Bucket", "name": "*"}], "eventMetadata": {"summary": "prod"}}),
            2,
        ),
        (
            "notification.toolkit.fluxcd.io/v1beta2".to_owned(),
            "Receiver",
            json!({"type": "github", "secretRef": {"name": "s"}, "resources": [{"kind": "GitRepository", "name": "a"}]}),
            json!({"type": "github", "secretRef": {"name": "s"}, "resources": [{"kind": "GitRepository", "name": "a"}]}),
            1,
        ),
        (
            "image.toolkit.fluxcd.io/v1beta1".to_owned(),
            "ImageUpdateAutomation",
            json!({"interval": "1m", "sourceRef": {"name": "a"}, "git": {"commit": {"messageTemplate": "{{ .Updated }}"}}}),
            json!({"interval": "1m", "sourceRef": {"name": "a"}, "git": {"commit": {"messageTemplate": "{{ .Updated }}"}}}),
            2,
        ),
    ];
    for (api_version, kind, old, current, warnings) in cases {
        let (spec, said) = converted(&api_version, kind, old);
        assert_eq!(spec, current, "{kind} {api_version}");
        assert_eq!(said.len(), warnings, "{kind} {api_version}: {said:?}");
    }
}

#[test]
fn a_person_is_told_what_was_converted() {
    let spec = json!({
        "interval": "1m", "prune": true, "sourceRef": {"kind": "Bucket", "name": "s"},
        "validation": "client", "patchesStrategicMerge": [],
    });
    let (_, said) = converted("kustomize.toolkit.fluxcd.io/v1beta1", "Kustomization", spec);
    insta::assert_snapshot!(said.join("\n"), @"
    apiVersion: kustomize.toolkit.fluxcd.io/v1beta1 is deprecated (use kustomize.toolkit.fluxcd.io/v1)
    spec.validation: was removed from the API and is ignored
    spec.patchesStrategicMerge: was replaced by patches and is converted
    ");
}
