//! Objects made of flags.

use flotilla_proto::fleet::v1::{Applied, ApplyResponse};
use insta::assert_snapshot;

use crate::fleet::reference;
use crate::hub::{Answers, Hub};

#[tokio::test]
async fn create_source_git_exports_what_flux_exports() {
    let hub = Hub::start(Answers::default()).await;
    let arguments = [
        "create",
        "source",
        "git",
        "podinfo",
        "--url=https://github.com/stefanprodan/podinfo",
        "--tag-semver=>=3.0.1-rc.1 <3.2.0",
        "--interval=30s",
        "--secret-ref=podinfo",
        "--ignore-paths=cue/,charts/",
        "--recurse-submodules",
        "--label=team=a",
        "--export",
    ];
    assert_snapshot!(hub.run_with(&arguments, "").await.out, @r#"
    ---
    apiVersion: source.toolkit.fluxcd.io/v1
    kind: GitRepository
    metadata:
      labels:
        team: a
      name: podinfo
      namespace: flux-system
    spec:
      ignore: |-
        cue/
        charts/
      interval: 30s
      recurseSubmodules: true
      ref:
        semver: '>=3.0.1-rc.1 <3.2.0'
      secretRef:
        name: podinfo
      url: https://github.com/stefanprodan/podinfo
    "#);
}

#[tokio::test]
async fn create_hands_the_object_to_the_hub_and_says_what_became_of_it() {
    let hub = Hub::start(Answers {
        apply: ApplyResponse {
            applied: vec![Applied {
                resource: Some(reference("GitRepository", "flux-system", "app")),
                action: "created".to_owned(),
                ..Applied::default()
            }],
            ..ApplyResponse::default()
        },
        ..Answers::default()
    })
    .await;
    let arguments = [
        "create",
        "source",
        "git",
        "app",
        "--url=ssh://git@example.org/app",
        "--branch=main",
    ];
    assert_snapshot!(hub.run_with(&arguments, "").await, @"
    exit 0
    -- out
    GitRepository flux-system/app created
    -- err
    ");
}

#[tokio::test]
async fn create_secret_git_takes_the_keys_that_the_url_needs_and_says_what_is_missing() {
    let hub = Hub::start(Answers::default()).await;
    let basic = [
        "create",
        "secret",
        "git",
        "app",
        "--url=https://example.org/app",
        "-u=me",
        "-p=secret",
        "--export",
    ];
    assert_snapshot!(hub.run_with(&basic, "").await.out, @"
    ---
    apiVersion: v1
    kind: Secret
    metadata:
      name: app
      namespace: flux-system
    stringData:
      password: secret
      username: me
    type: Opaque
    ");
    let ssh = [
        "create",
        "secret",
        "git",
        "app",
        "--url=ssh://git@example.org/app",
        "--export",
    ];
    let refused = hub.run_with(&ssh, "").await;
    assert!(
        refused.err.contains("--private-key-file and --known-hosts-file"),
        "{}",
        refused.err
    );
    let half = [
        "create",
        "secret",
        "git",
        "app",
        "--url=https://example.org/app",
        "-u=me",
        "--export",
    ];
    let refused = hub.run_with(&half, "").await;
    assert!(
        refused
            .err
            .contains("--username and --password are needed together"),
        "{}",
        refused.err
    );
}
