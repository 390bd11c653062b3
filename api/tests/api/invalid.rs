//! Bad documents: the whole text of each error, because the text is what a person works from.

use flotilla_api::{Options, parse};

/// Returns all errors of a text, a line each.
fn errors(text: &str) -> String {
    let options = Options {
        file: "f",
        namespace: Some("ns"),
        ..Options::default()
    };
    parse(text.as_bytes(), &options)
        .into_iter()
        .filter_map(|parsed| parsed.outcome.err())
        .map(|invalid| invalid.to_string())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns the errors of several specs of one kind: each a flow map, shown with what is wrong with it.
fn of_specs(api_version: &str, kind: &str, base: &str, changes: &[&str]) -> String {
    let said: Vec<_> = changes
        .iter()
        .map(|change| {
            // A later field of the same name replaces the base's: bases leave out what the case sets.
            let fields: Vec<_> = base.lines().filter(|line| !overridden(line, change)).collect();
            let text = format!(
                "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n  {}\n  {change}\n",
                fields.join("\n  ")
            );
            let errors = errors(&text);
            assert!(!errors.is_empty(), "{kind} with {change} is taken");
            let prefix = format!("document 1: {kind} a: ");
            let short: Vec<_> = errors
                .lines()
                .map(|line| line.split_once(&prefix).map_or(line, |(_, rest)| rest))
                .collect();
            format!("{change}\n  {}", short.join("\n  "))
        })
        .collect();
    said.join("\n")
}

fn overridden(line: &str, change: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    change.starts_with(&format!("{name}:"))
}

const APP: &str = "interval: 1m\nprune: true\nsourceRef: {kind: GitRepository, name: s}";

#[test]
fn what_is_no_document_of_ours() {
    let texts = [
        "a: [1",
        "a: 1\na: 2\n",
        "key: 'open",
        "\tkey: 1",
        "a: *nobody",
        "a: 1\r---\rb: 1\r",
        "[a]\nb",
        "- 1",
        "just words",
        "42",
        "kind: Kustomization\nmetadata: {name: a}",
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nmetadata: {name: a}",
        "apiVersion: 1\nkind: Kustomization",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}",
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomisation\nmetadata: {name: a}",
        "apiVersion: kustomize.toolkit.fluxcd.io/v9\nkind: Kustomization\nmetadata: {name: a}",
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]",
        "apiVersion: v1\nkind: Secrets\nmetadata: {name: a}",
    ];
    let said: Vec<_> = texts.iter().map(|text| errors(text)).collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    f:1: document 1: not valid YAML: did not find expected ',' or ']'
    f:2: document 1: key "a" is given twice
    f:1: document 1: not valid YAML: found unexpected end of stream
    f:1: document 1: not valid YAML: found character that cannot start any token
    f:1: document 1: an alias names no anchor before it
    f:1: document 1: another document begins behind a line break that is no line feed
    f:2: document 1: not valid YAML: did not find expected <document start>
    f:1: document 1: expected an object, got a list
    f:1: document 1: expected an object, got a string
    f:1: document 1: expected an object, got a number
    f:1: document 1: Kustomization a: apiVersion: is required
    f:1: document 1: kind: is required
    f:1: document 1: Kustomization: apiVersion: expected a string, got a number
    f:2: document 1: Deployment a: kind: Deployment is not a kind Flotilla keeps; put it in Git and let a Kustomization apply it
    f:2: document 1: Kustomisation a: kind: kustomize.toolkit.fluxcd.io has no kind "Kustomisation" that Flotilla keeps; it has Kustomization (did you mean "Kustomization"?)
    f:1: document 1: Kustomization a: apiVersion: Kustomization has no version "v9"; it has v1, v1beta2, v1beta1
    f:1: document 1: Kustomization: apiVersion: Kustomization of "kustomize.config.k8s.io/v1beta1" is not a kind Flotilla keeps (did you mean apiVersion "kustomize.toolkit.fluxcd.io/v1"?)
    f:2: document 1: Secrets a: kind: v1 has no kind "Secrets" that Flotilla keeps; it has ConfigMap, Secret (did you mean "Secret"?)
    "#);
}

#[test]
fn bad_metadata() {
    let long = "x".repeat(64);
    let changes = [
        "{}".to_owned(),
        "[]".to_owned(),
        "{name: 12}".to_owned(),
        "{name: My_App}".to_owned(),
        "{name: -a}".to_owned(),
        "{name: a, namespace: Team A}".to_owned(),
        format!("{{name: a, namespace: {long}}}"),
        "{name: a, nmaespace: b}".to_owned(),
        "{name: a, labels: {a b: c}}".to_owned(),
        format!("{{name: a, labels: {{a: {long}}}}}"),
        "{name: a, labels: {a: 1}}".to_owned(),
        "{name: a, labels: [a]}".to_owned(),
        "{name: a, annotations: {'-/x': y}}".to_owned(),
        "{name: a, interval: 5m}".to_owned(),
    ];
    let said: Vec<_> = changes
        .iter()
        .map(|metadata| {
            let spec = APP.replace('\n', ", ");
            errors(&format!(
                "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {metadata}\nspec: {{{spec}}}\n"
            ))
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    f:3: document 1: Kustomization: metadata.name: is required
    f:3: document 1: Kustomization: metadata: expected a map, got a list
    f:3: document 1: Kustomization: metadata.name: expected a string, got a number (put the value in quotes)
    f:3: document 1: Kustomization: metadata.name: is required
    f:3: document 1: Kustomization My_App: metadata.name: "My_App" is not a DNS-1123 name: a-z, 0-9, "-" and ".", starting and ending with a letter or digit (did you mean "my-app"?)
    f:3: document 1: Kustomization -a: metadata.name: "-a" is not a DNS-1123 name: a-z, 0-9, "-" and ".", starting and ending with a letter or digit
    f:3: document 1: Kustomization Team A/a: metadata.namespace: "Team A" is not a DNS-1123 label: a-z, 0-9 and "-", starting and ending with a letter or digit (did you mean "team-a"?)
    f:3: document 1: Kustomization xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx/a: metadata.namespace: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" is longer than 63 characters
    f:3: document 1: Kustomization a: metadata.nmaespace: unknown field (did you mean "namespace"?)
    f:3: document 1: Kustomization a: metadata.labels["a b"]: "a b" is not a valid key: at most 63 letters, digits, "-", "_" or "."
    f:3: document 1: Kustomization a: metadata.labels.a: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" is not a valid label value: at most 63 letters, digits, "-", "_" or "."
    f:3: document 1: Kustomization a: metadata.labels.a: expected a string, got a number (put the value in quotes)
    f:3: document 1: Kustomization a: metadata.labels: expected a map, got a list
    f:3: document 1: Kustomization a: metadata.annotations["-/x"]: expected a string, got a boolean (put the value in quotes)
    f:3: document 1: Kustomization a: metadata.interval: unknown field (did you mean "spec.interval"?)
    "#);
}

#[test]
fn misplaced_fields_say_where_they_belong() {
    let text = "\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: a}
interval: 5m
specc: {}
spec:
  interval: 1m
  prune: true
  sourceRef: {kind: GitRepository, name: s, path: ./x}
  substitute: {a: b}
";
    insta::assert_snapshot!(errors(text), @r#"
    f:4: document 1: Kustomization a: interval: unknown field (did you mean "spec.interval"?)
    f:5: document 1: Kustomization a: specc: unknown field (did you mean "spec"?)
    f:9: document 1: Kustomization a: spec.sourceRef.path: unknown field (did you mean "spec.path"?)
    f:10: document 1: Kustomization a: spec.substitute: unknown field (did you mean "spec.postBuild.substitute"?)
    "#);
}

#[test]
fn bad_kustomizations() {
    let said = of_specs(
        "kustomize.toolkit.fluxcd.io/v1",
        "Kustomization",
        APP,
        &[
            "interval:",
            "interval: 60",
            "interval: 1d",
            "interval: '60'",
            "interval: 0s",
            "interval: 10000000h",
            "timeout: soon",
            "prune: 'true'",
            "prune: 1",
            "path: ../../etc",
            "path: [a]",
            "sourceRef: fleet",
            "sourceRef: {kind: gitrepository, name: s}",
            "sourceRef: {kind: HelmRepository, name: s}",
            "sourceRef: {kind: GitRepository}",
            "dependsOn: infra",
            "dependsOn: {name: infra}",
            "dependsOn: [infra]",
            "deletionPolicy: Orphaned",
            "targetNamespace: a.b",
            "namePrefix: ''",
            "patches: [{target: {kind: Pod}}]",
            "patches: [{patch: x, target: {name: '('}}]",
            "images: [{newTag: 1.20}]",
            "images: [{name: a, newTag: 1.20}]",
            "components: ['https://x/y']",
            "buildMetadata: [origin]",
            "postBuild: {substitute: {replicas: 3}}",
            "postBuild: {substitute: {my-var: x}}",
            "postBuild: {substituteFrom: [{kind: Configmap, name: v}]}",
            "decryption: {provider: age}",
            "kubeConfig: {}",
            "kubeConfig: {secretRef: {name: a}, configMapRef: {name: b}}",
            "healthChecks: [{kind: Deployment}]",
            "ignore: [{paths: [spec.replicas]}]",
            "commonMetadata: {labels: {a: 'b c'}}",
            "suspended: true",
            "serviceAccount: x",
        ],
    );
    insta::assert_snapshot!(said, @r#"
    interval:
      spec.interval: is required
    interval: 60
      spec.interval: expected a string, got a number (put the value in quotes)
    interval: 1d
      spec.interval: "1d" is not a duration; durations are numbers with ms, s, m and h, such as "10m" or "1h30m"
    interval: '60'
      spec.interval: "60" is not a duration; durations are numbers with ms, s, m and h, such as "10m" or "1h30m" (did you mean "60s"?)
    interval: 0s
      spec.interval: must be longer than nothing
    interval: 10000000h
      spec.interval: "10000000h" is not a duration; durations are numbers with ms, s, m and h, such as "10m" or "1h30m"
    timeout: soon
      spec.timeout: "soon" is not a duration; durations are numbers with ms, s, m and h, such as "10m" or "1h30m"
    prune: 'true'
      spec.prune: expected true or false, got a string (without quotes: true)
    prune: 1
      spec.prune: expected true or false, got a number
    path: ../../etc
      spec.path: "../../etc" leads out of the source
    path: [a]
      spec.path: expected a string, got a list
    sourceRef: fleet
      spec.sourceRef: expected a map, got a string
    sourceRef: {kind: gitrepository, name: s}
      spec.sourceRef.kind: "gitrepository" is not one of OCIRepository, GitRepository, Bucket, ExternalArtifact (did you mean "GitRepository"?)
    sourceRef: {kind: HelmRepository, name: s}
      spec.sourceRef.kind: "HelmRepository" is not one of OCIRepository, GitRepository, Bucket, ExternalArtifact
    sourceRef: {kind: GitRepository}
      spec.sourceRef.name: is required
    dependsOn: infra
      spec.dependsOn: expected a list, got a string
    dependsOn: {name: infra}
      spec.dependsOn: expected a list, got a map (start each element with "- ")
    dependsOn: [infra]
      spec.dependsOn[0]: expected a map, got a string
    deletionPolicy: Orphaned
      spec.deletionPolicy: "Orphaned" is not one of MirrorPrune, Delete, WaitForTermination, Orphan (did you mean "Orphan"?)
    targetNamespace: a.b
      spec.targetNamespace: "a.b" is not a DNS-1123 label: a-z, 0-9 and "-", starting and ending with a letter or digit
    namePrefix: ''
      spec.namePrefix: must have 1 to 200 characters
    patches: [{target: {kind: Pod}}]
      spec.patches[0].patch: is required
    patches: [{patch: x, target: {name: '('}}]
      spec.patches[0].target.name: "(" is not a regular expression: missing closing )
    images: [{newTag: 1.20}]
      spec.images[0].name: is required
      spec.images[0].newTag: expected a string, got a number (put the value in quotes)
    images: [{name: a, newTag: 1.20}]
      spec.images[0].newTag: expected a string, got a number (put the value in quotes)
    components: ['https://x/y']
      spec.components[0]: only paths in the source are taken
    buildMetadata: [origin]
      spec.buildMetadata[0]: "origin" is not one of originAnnotations, transformerAnnotations (did you mean "originAnnotations"?)
    postBuild: {substitute: {replicas: 3}}
      spec.postBuild.substitute.replicas: expected a string, got a number (put the value in quotes)
    postBuild: {substitute: {my-var: x}}
      spec.postBuild.substitute.my-var: is not a variable's name: a letter or "_", then letters, digits or "_"
    postBuild: {substituteFrom: [{kind: Configmap, name: v}]}
      spec.postBuild.substituteFrom[0].kind: "Configmap" is not one of ConfigMap, Secret (did you mean "ConfigMap"?)
    decryption: {provider: age}
      spec.decryption.provider: "age" is not one of sops
    kubeConfig: {}
      spec.kubeConfig: exactly one of secretRef, configMapRef must be set
    kubeConfig: {secretRef: {name: a}, configMapRef: {name: b}}
      spec.kubeConfig: exactly one of secretRef, configMapRef must be set
    healthChecks: [{kind: Deployment}]
      spec.healthChecks[0].name: is required
    ignore: [{paths: [spec.replicas]}]
      spec.ignore[0].paths[0]: "spec.replicas" is not a JSON pointer, such as "/spec/replicas"
    commonMetadata: {labels: {a: 'b c'}}
      spec.commonMetadata.labels.a: "b c" is not a valid label value: at most 63 letters, digits, "-", "_" or "."
    suspended: true
      spec.suspended: unknown field (did you mean "suspend"?)
    serviceAccount: x
      spec.serviceAccount: unknown field (did you mean "serviceAccountName"?)
    "#);
}

#[test]
fn bad_sources() {
    let git = of_specs(
        "source.toolkit.fluxcd.io/v1",
        "GitRepository",
        "interval: 1m\nurl: https://x/y",
        &[
            "url: git@github.com:org/repo.git",
            "url: https://user:hunter2@x/y",
            "url: https://token@x/y",
            "url: ssh://git:hunter2@x/y",
            "url: https://x/y?sig=hunter2",
            "url: ftp://x/y",
            "url: /srv/git",
            "url: 'https://x/y z'",
            "url: 'https:///y'",
            "url: https://x:99999/y",
            "timeout: 1h",
            "ref: main",
            "ref: {branch: ''}",
            "ref: {branch: --upload-pack=x}",
            "ref: {branch: a..b}",
            "ref: {commit: abc123}",
            "ref: {name: main}",
            "ref: {semver: 1.0}",
            "provider: gitlab",
            "provider: github",
            "serviceAccountName: sa",
            "verify: {mode: Tag, secretRef: {name: k}}",
            "secretRef: creds",
            "include: [{fromPath: a}]",
        ],
    );
    let others = [
        of_specs(
            "source.toolkit.fluxcd.io/v1",
            "OCIRepository",
            "interval: 1m\nurl: oci://x/y",
            &[
                "url: https://x/y",
                "url: oci://x/y:v1",
                "url: oci://x",
                "ref: {digest: latest}",
                "layerSelector: {operation: unpack}",
                "verify: {provider: gpg}",
            ],
        ),
        of_specs(
            "source.toolkit.fluxcd.io/v1",
            "HelmRepository",
            "url: https://x/y",
            &["url: oci://x/y", "type: oci"],
        ),
        of_specs(
            "source.toolkit.fluxcd.io/v1",
            "HelmChart",
            "interval: 1m\nchart: a\nsourceRef: {kind: Bucket, name: s}",
            &["chart: ''", "verify: {provider: cosign}", "valuesFile: a.yaml"],
        ),
        of_specs(
            "source.toolkit.fluxcd.io/v1",
            "Bucket",
            "interval: 1m\nbucketName: b\nendpoint: e",
            &[
                "endpoint: https://e",
                "bucketName: ''",
                "sts: {provider: aws, endpoint: https://e}",
            ],
        ),
    ];
    insta::assert_snapshot!(git, @r#"
    url: git@github.com:org/repo.git
      spec.url: scp-style addresses are not URLs (write "ssh://git@github.com/org/repo.git")
    url: https://user:hunter2@x/y
      spec.url: the URL holds credentials (put them in a Secret and name it in secretRef)
    url: https://token@x/y
      spec.url: the URL holds credentials (put them in a Secret and name it in secretRef)
    url: ssh://git:hunter2@x/y
      spec.url: the URL holds a password (put it in a Secret and name it in secretRef)
    url: https://x/y?sig=hunter2
      spec.url: the URL holds a query, which may be a credential (put credentials in a Secret and name it in secretRef)
    url: ftp://x/y
      spec.url: the URL's scheme is not one of http://, https://, ssh://
    url: /srv/git
      spec.url: is not a URL of the form http://, https://, ssh://host/path
    url: 'https://x/y z'
      spec.url: a URL holds no spaces or control characters
    url: 'https:///y'
      spec.url: the URL has no valid host
    url: https://x:99999/y
      spec.url: is not a URL of the form http://, https://, ssh://host/path
    timeout: 1h
      spec.timeout: "1h" is not a duration; durations are numbers with ms, s and m, such as "60s" or "2m"
    ref: main
      spec.ref: expected a map, got a string
    ref: {branch: ''}
      spec.ref.branch: "" is not a name Git allows
    ref: {branch: --upload-pack=x}
      spec.ref.branch: "--upload-pack=x" is not a name Git allows
    ref: {branch: a..b}
      spec.ref.branch: "a..b" is not a name Git allows
    ref: {commit: abc123}
      spec.ref.commit: "abc123" is not a full commit hash of 40 or 64 lower-case hex digits
    ref: {name: main}
      spec.ref.name: "main" is not a full name of Git (a branch is "refs/heads/main", a tag "refs/tags/main")
    ref: {semver: 1.0}
      spec.ref.semver: expected a string, got a number (put the value in quotes)
    provider: gitlab
      spec.provider: "gitlab" is not one of generic, aws, azure, github (did you mean "github"?)
    provider: github
      spec.secretRef: is required for provider "github"
    serviceAccountName: sa
      spec.serviceAccountName: is only taken for provider "aws" or "azure"
    verify: {mode: Tag, secretRef: {name: k}}
      spec.verify.mode: a signed tag is asked for, but ref names neither tag nor semver
    secretRef: creds
      spec.secretRef: expected a map, got a string
    include: [{fromPath: a}]
      spec.include[0].repository: is required
    "#);
    insta::assert_snapshot!(others.join("\n"), @r#"
    url: https://x/y
      spec.url: the URL's scheme is not one of oci://
    url: oci://x/y:v1
      spec.url: the URL holds a tag or digest (put it in ref.tag or ref.digest)
    url: oci://x
      spec.url: the URL names no repository
    ref: {digest: latest}
      spec.ref.digest: "latest" is not a digest of the form "sha256:<64 hex digits>"
    layerSelector: {operation: unpack}
      spec.layerSelector.operation: "unpack" is not one of extract, copy
    verify: {provider: gpg}
      spec.verify.provider: "gpg" is not one of cosign, notation
    url: oci://x/y
      spec.type: must be "oci" for an oci:// URL
    type: oci
      spec.url: must be an oci:// URL for type "oci"
    chart: ''
      spec.chart: is empty
    verify: {provider: cosign}
      spec.verify: is only taken for a HelmRepository
    valuesFile: a.yaml
      spec.valuesFile: unknown field (did you mean "valuesFiles"?)
    endpoint: https://e
      spec.endpoint: must be a host without scheme and credentials (such as "minio.example.com:9000")
    bucketName: ''
      spec.bucketName: is empty
    sts: {provider: aws, endpoint: https://e}
      spec.sts.provider: "aws" needs provider "aws", "ldap" provider "generic"
    "#);
}

#[test]
fn no_error_repeats_a_password() {
    for url in [
        "https://user:hunter2@x/y",
        "ssh://git:hunter2@x/y",
        "https://hunter2@x:99999/y",
        "ftp://a:hunter2@x",
    ] {
        let said = of_specs(
            "source.toolkit.fluxcd.io/v1",
            "GitRepository",
            "interval: 1m",
            &[&format!("url: {url}")],
        );
        assert!(
            !said.lines().skip(1).any(|line| line.contains("hunter2")),
            "{said}"
        );
    }
    let secrets = [
        "data: {password: hunter2!}",
        "data: {password: 1234567}",
        "stringData: {password: 1234567}",
        "stringData: {password: [hunter2]}",
        "stringData: hunter2",
        "type: [hunter2]",
        "stringData: {password: 'hunter2",
        "stringData: {password: hunter2: x}",
        "stringData: {password: !!binary hunter2!}",
        "stringData: {password: *hunter2}",
        "stringData: {password: .inf}",
    ];
    let mut all = String::new();
    for secret in secrets {
        let said = errors(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{secret}\n"
        ));
        assert!(!said.is_empty(), "{secret}");
        assert!(!said.contains("hunter2") && !said.contains("1234567"), "{said}");
        all.push_str(&said);
        all.push('\n');
    }
    insta::assert_snapshot!(all, @"
    f:4: document 1: Secret a: data.password: the value is not base64 (plain text goes to data of a ConfigMap, or stringData of a Secret)
    f:4: document 1: Secret a: data.password: expected a string, got a number (put the value in quotes)
    f:4: document 1: Secret a: stringData.password: expected a string, got a number (put the value in quotes)
    f:4: document 1: Secret a: stringData.password: expected a string, got a list
    f:4: document 1: Secret a: stringData: expected a map, got a string
    f:4: document 1: Secret a: type: expected a string, got a list
    f:4: document 1: not valid YAML: found unexpected end of stream
    f:4: document 1: not valid YAML: did not find expected ',' or '}'
    f:4: document 1: a !!binary value is not base64
    f:4: document 1: an alias names no anchor before it
    f:4: document 1: a number is infinite or not a number
    ");
}

#[test]
fn bad_helm_releases() {
    let base = "interval: 1m\nchartRef: {kind: OCIRepository, name: c}";
    let said = of_specs(
        "helm.toolkit.fluxcd.io/v2",
        "HelmRelease",
        base,
        &[
            "chartRef:",
            "chart: {spec: {chart: a, sourceRef: {kind: HelmRepository, name: s}}}",
            "chartRef: {kind: HelmRepository, name: s}",
            "releaseName: Big_Name",
            "maxHistory: -1",
            "install: {remediation: {retries: three}}",
            "upgrade: {remediation: {strategy: undo}}",
            "upgrade: {crds: Replace}",
            "values: [a]",
            "valuesFrom: [{kind: Secret, name: s, literal: true}]",
            "driftDetection: {mode: on}",
            "test: {enabled: true}",
        ],
    );
    insta::assert_snapshot!(said, @r#"
    chartRef:
      spec: exactly one of chart, chartRef must be set
    chart: {spec: {chart: a, sourceRef: {kind: HelmRepository, name: s}}}
      spec: exactly one of chart, chartRef must be set
    chartRef: {kind: HelmRepository, name: s}
      spec.chartRef.kind: "HelmRepository" is not one of OCIRepository, HelmChart, ExternalArtifact
    releaseName: Big_Name
      spec.releaseName: must be a DNS-1123 name of at most 53 characters
    maxHistory: -1
      spec.maxHistory: must be at least 0
    install: {remediation: {retries: three}}
      spec.install.remediation.retries: expected a whole number, got a string
    upgrade: {remediation: {strategy: undo}}
      spec.upgrade.remediation.strategy: "undo" is not one of rollback, uninstall
    upgrade: {crds: Replace}
      spec.upgrade.crds: "Replace" is not one of Skip, Create, CreateReplace
    values: [a]
      spec.values: expected a map, got a list
    valuesFrom: [{kind: Secret, name: s, literal: true}]
      spec.valuesFrom[0].literal: is only taken with targetPath
    driftDetection: {mode: on}
      spec.driftDetection.mode: expected a string, got a boolean (put the value in quotes)
    test: {enabled: true}
      spec.test.enabled: unknown field (did you mean "enable"?)
    "#);
}

#[test]
fn bad_notifications() {
    let receiver = "type: generic-hmac\nsecretRef: {name: s}\nresources: [{kind: GitRepository, name: a}]";
    let alert = "providerRef: {name: p}\neventSources: [{kind: Kustomization, name: '*'}]";
    let said = [
        of_specs(
            "notification.toolkit.fluxcd.io/v1",
            "Receiver",
            receiver,
            &[
                "type: hmac",
                "type: generic-oidc",
                "secretRef:",
                "resources: []",
                "resources: [{kind: Gitrepository, name: a}]",
                "resources: [{kind: GitRepository, name: a, matchLabels: {a: b}}]",
            ],
        ),
        of_specs(
            "notification.toolkit.fluxcd.io/v1beta3",
            "Provider",
            "type: slack",
            &["type: slak", "address: https://user:pw@hooks.example.com"],
        ),
        of_specs(
            "notification.toolkit.fluxcd.io/v1beta3",
            "Alert",
            alert,
            &[
                "eventSeverity: warning",
                "eventSources: []",
                "exclusionList: ['*']",
            ],
        ),
        of_specs(
            "image.toolkit.fluxcd.io/v1",
            "ImagePolicy",
            "imageRepositoryRef: {name: a}\npolicy: {semver: {range: '1'}}",
            &["policy: {}", "digestReflectionPolicy: Always"],
        ),
    ];
    insta::assert_snapshot!(said.join("\n"), @r#"
    type: hmac
      spec.type: "hmac" is not one of generic, generic-hmac, generic-oidc, github, gitlab, bitbucket, harbor, dockerhub, quay, gcr, nexus, acr, cdevents
    type: generic-oidc
      spec.oidcProviders: is required for type "generic-oidc"
    secretRef:
      spec.secretRef: is required
    resources: []
      spec.resources: needs at least one resource
    resources: [{kind: Gitrepository, name: a}]
      spec.resources[0].kind: "Gitrepository" is not a kind Flotilla keeps
    resources: [{kind: GitRepository, name: a, matchLabels: {a: b}}]
      spec.resources[0].matchLabels: is only taken with name "*"
    type: slak
      spec.type: "slak" is not a service Flux knows (did you mean "slack"?)
    address: https://user:pw@hooks.example.com
      spec.address: the address holds credentials (put the address in the Secret of secretRef)
    eventSeverity: warning
      spec.eventSeverity: "warning" is not one of info, error
    eventSources: []
      spec.eventSources: needs at least one source
    exclusionList: ['*']
      spec.exclusionList[0]: "*" is not a regular expression: missing argument to repetition operator
    policy: {}
      spec.policy: exactly one of semver, alphabetical, numerical must be set
    digestReflectionPolicy: Always
      spec.interval: is required for digestReflectionPolicy "Always"
    "#);
}

#[test]
fn bad_fleet_kinds() {
    let placement = "apps: [{kind: Kustomization, name: a}]\nclusters: {names: [c1]}";
    let fleet = "fleet.flotilla.dev/v1alpha1";
    let said = [
        of_specs(
            fleet,
            "Cluster",
            "variables: {a: b}",
            &[
                "variables: {a: 1}",
                "variables: {a-b: c}",
                "labels: {a: b}",
                "kubeConfigRefs: [prod]",
            ],
        ),
        of_specs(
            fleet,
            "ClusterGroup",
            "",
            &["names: []", "selector: {matchLabel: {a: b}}"],
        ),
        of_specs(
            fleet,
            "Placement",
            placement,
            &[
                "apps: []",
                "apps: [{kind: GitRepository, name: a}]",
                "clusters: {}",
                "clusters: {selector: {matchExpressions: [{key: a, operator: In}]}}",
                "clusters: {selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
                "clusters: {selector: {matchExpressions: [{key: a, operator: is, values: [b]}]}}",
                "overrides: [{variables: {a: true}}]",
                "rollout: {waves: [{name: a}, {name: a}]}",
                "rollout: {waves: [{name: a, maxUnavailable: 0}]}",
                "rollout: {waves: [{name: a, maxUnavailable: 120%}]}",
                "rollout: {windows: [{cron: daily, duration: 1h}]}",
                "rollout: {onFailure: Stop}",
            ],
        ),
        of_specs(fleet, "Tenant", "namespaces: [a]", &["namespaces: []"]),
        errors(&format!(
            "apiVersion: {fleet}\nkind: Cluster\nmetadata: {{name: a, namespace: b}}"
        )),
        errors(&format!(
            "apiVersion: {fleet}\nkind: Rollout\nmetadata: {{name: a}}"
        )),
    ];
    insta::assert_snapshot!(said.join("\n"), @r#"
    variables: {a: 1}
      spec.variables.a: expected a string, got a number (put the value in quotes)
    variables: {a-b: c}
      spec.variables.a-b: is not a variable's name: a letter or "_", then letters, digits or "_"
    labels: {a: b}
      spec.labels: unknown field
    kubeConfigRefs: [prod]
      spec.kubeConfigRefs[0]: "prod" is not of the form [cluster:]namespace/name
    names: []
      spec: needs a selector or names
    selector: {matchLabel: {a: b}}
      spec.selector.matchLabel: unknown field (did you mean "matchLabels"?)
    apps: []
      spec.apps: needs at least one app
    apps: [{kind: GitRepository, name: a}]
      spec.apps[0].kind: "GitRepository" is not one of Kustomization, HelmRelease
    clusters: {}
      spec.clusters: needs a selector, groups or names ("selector: {}" chooses every cluster)
    clusters: {selector: {matchExpressions: [{key: a, operator: In}]}}
      spec.clusters.selector.matchExpressions[0].values: In needs at least one value
    clusters: {selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}
      spec.clusters.selector.matchExpressions[0].values: Exists takes no values
    clusters: {selector: {matchExpressions: [{key: a, operator: is, values: [b]}]}}
      spec.clusters.selector.matchExpressions[0].operator: "is" is not one of In, NotIn, Exists, DoesNotExist
    overrides: [{variables: {a: true}}]
      spec.overrides[0].variables.a: expected a string, got a boolean (put the value in quotes)
    rollout: {waves: [{name: a}, {name: a}]}
      spec.rollout.waves: wave 1 has the name "a" of an earlier one
    rollout: {waves: [{name: a, maxUnavailable: 0}]}
      spec.rollout.waves[0].maxUnavailable: must let at least one cluster move
    rollout: {waves: [{name: a, maxUnavailable: 120%}]}
      spec.rollout.waves[0].maxUnavailable: expected a count or a percentage such as "25%", got a string
    rollout: {windows: [{cron: daily, duration: 1h}]}
      spec.rollout.windows[0].cron: needs five fields: minute, hour, day, month, weekday
    rollout: {onFailure: Stop}
      spec.rollout.onFailure: "Stop" is not one of Halt, Rollback, Continue
    namespaces: []
      spec.namespaces: needs at least one namespace
    f:3: document 1: Cluster b/a: metadata.namespace: a Cluster has no namespace
    f:2: document 1: Rollout a: kind: Rollout objects are made by the hub and cannot be applied
    "#);
}

#[test]
fn bad_config() {
    let texts = [
        "kind: ConfigMap\ndata: {a: 1}",
        "kind: ConfigMap\ndata: {a: {b: c}}",
        "kind: ConfigMap\ndata: {'a/b': c}",
        "kind: ConfigMap\ndata: {a: b}\nbinaryData: {a: eA==}",
        "kind: ConfigMap\nbinaryData: {a: '%'}",
        "kind: ConfigMap\nspec: {a: b}",
        "kind: Secret\nsops: {version: 3.9.0}\ndata: {a: b}",
        "kind: Secret\nstringdata: {a: b}",
    ];
    let said: Vec<_> = texts
        .iter()
        .map(|text| errors(&format!("apiVersion: v1\nmetadata: {{name: a}}\n{text}")))
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    f:4: document 1: ConfigMap a: data.a: expected a string, got a number (put the value in quotes)
    f:4: document 1: ConfigMap a: data.a: expected a string, got a map
    f:4: document 1: ConfigMap a: data["a/b"]: is not a valid key: at most 253 letters, digits, "-", "_" or "."
    f:5: document 1: ConfigMap a: binaryData.a: the key is in data too
    f:4: document 1: ConfigMap a: binaryData.a: the value is not base64 (plain text goes to data of a ConfigMap, or stringData of a Secret)
    f:4: document 1: ConfigMap a: spec: unknown field
    f:4: document 1: Secret a: sops: the Secret is encrypted with SOPS (decrypt it first: sops decrypt FILE | flotilla apply -f -)
    f:4: document 1: Secret a: stringdata: unknown field (did you mean "stringData"?)
    "#);
    let big = format!(
        "apiVersion: v1\nmetadata: {{name: a}}\nkind: ConfigMap\ndata: {{a: {}}}",
        "x".repeat(1 << 20)
    );
    assert_eq!(errors(&big), "");
    insta::assert_snapshot!(errors(&big.replace("{a: x", "{a: xx")), @"f:1: document 1: ConfigMap a: the values have more than 1048576 bytes together");
}

#[test]
fn every_limit_is_named() {
    let bomb: String = (1..40)
        .map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", ")))
        .collect();
    let texts = [
        "x".repeat((16 << 20) + 1),
        format!("a: {}", "x".repeat(4 << 20)),
        "a: b\n---\n".repeat(10_002),
        format!("{}{}", "[".repeat(100), "]".repeat(100)),
        format!("a0: &a0 x\n{bomb}"),
        format!("[{}]", "1,".repeat(500_001)),
    ];
    let said: Vec<_> = texts
        .iter()
        .map(|text| {
            let all = errors(text);
            all.lines().next().unwrap_or_default().to_owned()
        })
        .collect();
    insta::assert_snapshot!(said.join("\n"), @"
    f:1: document 1: the text has more than 16777216 bytes
    f:1: document 1: the document has more than 4194304 bytes
    f:20002: document 1: the text has more than 10000 documents
    f:1: document 1: the depth exceeds the limit of 64
    f:7: document 1: the number of nodes, aliases expanded, exceeds the limit of 500000
    f:1: document 1: the number of nodes, aliases expanded, exceeds the limit of 500000
    ");
    let options = Options {
        file: "f",
        ..Options::default()
    };
    let parsed = parse(b"a: b\n---\nc: \xff", &options);
    assert_eq!(
        parsed[0].outcome.as_ref().expect_err("bad").to_string(),
        "f:3: document 1: the text is not UTF-8"
    );
}

#[test]
fn expressions_that_nobody_can_evaluate_are_named_with_their_field() {
    let said = of_specs(
        "kustomize.toolkit.fluxcd.io/v1",
        "Kustomization",
        APP,
        &[
            "dependsOn: [{name: x}, {name: z, readyExpr: \"deb.status.phase == 'x'\"}]",
            "dependsOn: [{name: z, readyExpr: 'dep.status =='}]",
            "healthCheckExprs: [{apiVersion: v1, current: 'true', failed: \"sizes(status) > 1\"}]",
            "healthCheckExprs: [{apiVersion: v1, current: ''}]",
            "healthChecks: [{apiVersion: v1, kind: Pod, name: ''}]",
        ],
    );
    for part in [
        "spec.dependsOn[1].readyExpr: is no CEL expression: there is no variable deb: dep, self are",
        "spec.dependsOn[0].readyExpr: is no CEL expression: line 1, column ",
        "spec.healthCheckExprs[0].failed: is no CEL expression: there is no function sizes",
        "spec.healthCheckExprs[0].current: is required",
        "spec.healthChecks[0].name: must have 1 to 253 characters",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let long = format!(
        "healthCheckExprs: [{{apiVersion: v1, current: \"{}\"}}]",
        "x".repeat(5000)
    );
    let said = of_specs("kustomize.toolkit.fluxcd.io/v1", "Kustomization", APP, &[&long]);
    assert!(said.contains("is over 4096"), "{said}");
}

/// All of them are unpacked together.
#[test]
fn a_repository_is_made_of_so_many_artifacts_and_of_no_more() {
    let with = |count: usize| {
        let included: Vec<_> = (0..count)
            .map(|n| format!("{{repository: {{name: r{n}}}}}"))
            .collect();
        errors(&format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: a}}\n\
             spec: {{interval: 1m, url: 'https://x/y', include: [{}]}}\n",
            included.join(", ")
        ))
    };
    assert_eq!(with(32), "");
    let refused = with(33);
    assert!(
        refused.ends_with("spec.include: names 33 repositories; at most 32 are taken"),
        "{refused}"
    );
}
