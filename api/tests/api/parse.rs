//! Good documents become resources, whatever stands beside them.

use flotilla_api::kinds::config::ConfigMapData;
use flotilla_api::kinds::git_repository::GitRepositorySpec;
use flotilla_api::kinds::kustomization::KustomizationSpec;
use flotilla_api::kinds::placement::{CountOrPercent, PlacementSpec};
use flotilla_api::{Kind, Mode, Options, Parsed, Resource, Scope, parse, parse_value};
use serde_json::json;

const FLEET: &str = r"
# The fleet's configuration.
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata:
  name: fleet
  namespace: flux-system
  labels: {team: platform}
  annotations:
    reconcile.fluxcd.io/requestedAt: '2026-01-01'
spec:
  url: https://git.example.com/fleet.git
  interval: 1m
  timeout: ~
  ref: {branch: main}
---
---
# nothing here
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: apps}
spec:
  interval: 10m
  prune: yes
  path: ./apps
  sourceRef: {kind: GitRepository, name: fleet}
  postBuild:
    substitute: {region: eu}
status: {observedGeneration: -1}
...
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: vars, namespace: flux-system}
  data: {region: eu}
- apiVersion: v1
  kind: Secret
  metadata: {name: login, namespace: flux-system}
  data: {username: Ym90, password: b2xk}
  stringData: {password: hunter2}
";

fn options(file: &str) -> Options<'_> {
    Options {
        file,
        namespace: Some("flux-system"),
        ..Options::default()
    }
}

fn resources(text: &str) -> Vec<Resource> {
    parse(text.as_bytes(), &options("fleet.yaml"))
        .into_iter()
        .map(|parsed| parsed.outcome.expect("the document is good"))
        .collect()
}

#[test]
fn every_document_and_element_of_a_list_becomes_a_resource() {
    let named: Vec<_> = resources(FLEET)
        .iter()
        .map(|resource| resource.id.to_string())
        .collect();
    insta::assert_snapshot!(named.join("\n"), @"
    GitRepository flux-system/fleet
    Kustomization flux-system/apps
    ConfigMap flux-system/vars
    Secret flux-system/login
    ");
}

#[test]
fn a_spec_reads_as_its_type() {
    let resources = resources(FLEET);
    let source = resources[0].spec::<GitRepositorySpec>().expect("a GitRepository");
    assert_eq!(source.url.as_str(), "https://git.example.com/fleet.git");
    assert_eq!(source.interval.get().as_secs(), 60);
    assert_eq!(source.timeout, None);
    let app = resources[1].spec::<KustomizationSpec>().expect("a Kustomization");
    assert!(app.prune, "yes means true, as in Kubernetes");
    assert_eq!(app.post_build.expect("set").substitute["region"], "eu");
    assert_eq!(
        resources[2].spec::<ConfigMapData>().expect("a ConfigMap").data["region"],
        "eu"
    );
    assert_eq!(resources[0].labels["team"], "platform");
    assert!(
        resources[0].spec::<KustomizationSpec>().is_err(),
        "another kind's type is refused"
    );
}

#[test]
fn a_secret_is_decoded_folded_and_never_printed() {
    let resources = resources(FLEET);
    let secret = resources[3].secret().expect("a Secret");
    assert_eq!(secret.get("username"), Some(&b"bot"[..]));
    assert_eq!(secret.get("password"), Some(&b"hunter2"[..]), "stringData wins");
    let shown = format!("{:?}", resources[3]);
    assert!(
        !shown.contains("hunter2") && !shown.contains("Ym90") && !shown.contains("bot"),
        "{shown}"
    );
    assert_eq!(resources[3].value(), None);
    assert_eq!(resources[3].to_object(), None);
}

#[test]
fn a_document_knows_its_number_and_line() {
    let places: Vec<_> = parse(FLEET.as_bytes(), &options("f"))
        .iter()
        .map(|p| (p.document, p.line))
        .collect();
    assert_eq!(places, [(1, 3), (2, 20), (3, 32), (3, 32)]);
}

#[test]
fn a_bad_document_leaves_the_others_alone() {
    let text = "a: [\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n- 1\n";
    let outcomes: Vec<_> = parse(text.as_bytes(), &options("f.yaml"))
        .into_iter()
        .map(|parsed| match parsed.outcome {
            Ok(resource) => resource.id.to_string(),
            Err(invalid) => invalid.to_string(),
        })
        .collect();
    insta::assert_snapshot!(outcomes.join("\n"), @"
    f.yaml:1: document 1: not valid YAML: did not find expected node content
    ConfigMap flux-system/a
    f.yaml:7: document 3: expected an object, got a list
    ");
}

#[test]
fn all_that_is_wrong_with_a_document_is_said_at_once_with_lines() {
    let text = "\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata:
  name: apps
spec:
  interval: 10 minutes
  pathh: ./apps
  sourceRef:
    kind: GitRepo
    name: Fleet
  dependsOn:
  - name: infra
  - nam: crds
";
    let parsed = parse(text.as_bytes(), &options("apps.yaml"));
    let invalid = parsed[0].outcome.as_ref().expect_err("it is bad");
    insta::assert_snapshot!(invalid.to_string(), @r#"
    apps.yaml:5: document 1: Kustomization apps: spec.prune: is required
    apps.yaml:6: document 1: Kustomization apps: spec.interval: "10 minutes" is not a duration; durations are numbers with ms, s, m and h, such as "10m" or "1h30m"
    apps.yaml:7: document 1: Kustomization apps: spec.pathh: unknown field (did you mean "path"?)
    apps.yaml:9: document 1: Kustomization apps: spec.sourceRef.kind: "GitRepo" is not one of OCIRepository, GitRepository, Bucket, ExternalArtifact (did you mean "GitRepository"?)
    apps.yaml:10: document 1: Kustomization apps: spec.sourceRef.name: "Fleet" is not a DNS-1123 name: a-z, 0-9, "-" and ".", starting and ending with a letter or digit (did you mean "fleet"?)
    apps.yaml:13: document 1: Kustomization apps: spec.dependsOn[1].nam: unknown field (did you mean "name"?)
    apps.yaml:13: document 1: Kustomization apps: spec.dependsOn[1].name: is required
    "#);
}

#[test]
fn whole_floats_octals_and_merge_keys_mean_what_kubernetes_means() {
    let text = "\
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: a}
spec:
  interval: 5m
  chartRef: {kind: OCIRepository, name: a}
  values:
    base: &base {mode: 0644, big: 1e3, half: 0.5, word: 'yes', flag: off, none: ~}
    merged: {<<: *base, mode: 1}
";
    let resources = resources(text);
    let values = &resources[0].value().expect("open")["values"];
    assert_eq!(
        *values,
        json!({
            "base": {"mode": 420, "big": 1000, "half": 0.5, "word": "yes", "flag": false, "none": null},
            "merged": {"mode": 1, "big": 1000, "half": 0.5, "word": "yes", "flag": false, "none": null},
        })
    );
    assert!(values["base"]["big"].is_i64());
}

#[test]
fn a_key_that_comes_before_its_merge_is_given_twice() {
    let said = |merged: &str| -> String {
        let text = format!(
            "x: &x {{a: b}}\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  {merged}\n"
        );
        parse(text.as_bytes(), &options("f"))
            .into_iter()
            .filter_map(|parsed| parsed.outcome.err())
            .map(|invalid| invalid.to_string())
            .collect()
    };
    // Kubernetes lets the merge win here, whatever its author meant.
    insta::assert_snapshot!(said("{a: c, <<: *x}"), @r#"f:6: document 1: key "a" is given twice"#);
    assert!(!said("{<<: *x, a: c}").contains("twice"));
}

#[test]
fn lines_end_and_quotes_go_on_as_kubernetes_has_them() {
    let text = "apiVersion: v1\u{85}kind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: 'one\ntwo'\n  b: \"it\\'s\"\n  c: x#y\u{2028}  d: 'z'# c\n  y: '1'\n";
    let resources = resources(text);
    assert_eq!(
        resources[0].value().expect("open")["data"],
        json!({"a": "one two", "b": "it's", "c": "x#y", "d": "z", "true": "1"})
    );
}

#[test]
fn an_unknown_field_of_a_rendered_flux_object_is_dropped_with_a_warning() {
    let object = json!({
        "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "a", "namespace": "b", "odd": 1},
        "spec": {"url": "https://x/y", "interval": "1m", "intervall": "2m"},
    });
    let nested = Options {
        mode: Mode::Nested,
        scope: Scope::Cluster("c1".to_owned()),
        ..Options::default()
    };
    let Parsed {
        outcome, warnings, ..
    } = parse_value(object.clone(), &nested);
    let resource = outcome.expect("it is taken");
    assert_eq!(resource.id.to_string(), "GitRepository b/a (cluster c1)");
    assert_eq!(
        resource.value(),
        Some(&json!({"url": "https://x/y", "interval": "1m"}))
    );
    let said: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["spec.intervall: unknown field, ignored (did you mean \"interval\"?)"]
    );
    assert!(
        parse_value(object, &Options::default()).outcome.is_err(),
        "applied by a person it is an error"
    );
}

#[test]
fn an_unknown_field_of_our_own_kinds_is_an_error_even_when_rendered() {
    let object = json!({
        "apiVersion": "fleet.flotilla.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "a"}, "spec": {"variable": {}},
    });
    let nested = Options {
        mode: Mode::Nested,
        ..Options::default()
    };
    assert!(parse_value(object, &nested).outcome.is_err());
}

#[test]
fn a_placement_reads_whole() {
    let text = "\
apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {name: apps}
spec:
  apps: [{kind: Kustomization, name: apps}]
  clusters:
    selector:
      matchLabels: {env: prod}
      matchExpressions: [{key: region, operator: In, values: [eu, us]}]
    groups: [edge]
    names: [c1]
    exclude: [c9]
  overrides:
  - selector: {matchLabels: {region: eu}}
    variables: {replicas: '3'}
    values: {a: {b: 1}}
  rollout:
    waves:
    - {name: canary, selector: {matchLabels: {canary: 'true'}}, soak: 30m, approval: Required}
    - {name: rest, maxUnavailable: 25%, health: {minHealthy: 95%}}
    onFailure: Rollback
    progressDeadline: 1h
    windows: [{cron: '0 9 * * 1-5', duration: 8h, timeZone: Europe/Berlin}]
    dependsOn: [{kind: Kustomization, name: infra, namespace: infra}]
";
    let resource = &resources(text)[0];
    let placement = resource.spec::<PlacementSpec>().expect("a Placement");
    assert_eq!(placement.apps[0].namespace(), "flux-system");
    let rollout = placement.rollout.expect("set");
    assert_eq!(
        rollout.waves[1].max_unavailable,
        Some(CountOrPercent::Percent(25))
    );
    assert_eq!(resource.id.kind, Kind::Placement);
    assert_eq!(resource.id.namespace, "");
}

#[test]
fn an_object_is_written_back_in_its_current_version() {
    let text = FLEET.replace("source.toolkit.fluxcd.io/v1", "source.toolkit.fluxcd.io/v1beta2");
    let resource = &resources(&text)[0];
    assert_eq!(resource.written_as, "source.toolkit.fluxcd.io/v1beta2");
    let again = parse_value(resource.to_object().expect("open"), &Options::default());
    let again = again.outcome.expect("what is written reads back");
    assert_eq!(
        (again.id, again.body, again.written_as.as_str()),
        (
            resource.id.clone(),
            resource.body.clone(),
            "source.toolkit.fluxcd.io/v1",
        )
    );
}
