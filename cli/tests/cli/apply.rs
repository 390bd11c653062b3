//! Apply: what is sent, what is said, and what happens when something is bad.

use std::fs;

use flotilla_proto::fleet::v1::{Applied, ApplyResponse, Problem};
use insta::assert_snapshot;

use crate::fleet::reference;
use crate::hub::{Answers, Hub};

fn good() -> ApplyResponse {
    let applied = |kind, name, action: &str, not_supported: &[&str]| Applied {
        resource: Some(reference(kind, "flux-system", name)),
        action: action.to_owned(),
        not_supported: not_supported.iter().map(|field| (*field).to_owned()).collect(),
    };
    ApplyResponse {
        applied: vec![
            applied("GitRepository", "fleet", "created", &[]),
            applied(
                "Kustomization",
                "apps",
                "configured",
                &["spec.decryption", "spec.dependsOn"],
            ),
        ],
        problems: vec![Problem {
            warning: true,
            file: "old.yaml".to_owned(),
            document: 1,
            line: 1,
            field: "apiVersion".to_owned(),
            message: "kustomize.toolkit.fluxcd.io/v1beta2 is deprecated".to_owned(),
            resource: None,
        }],
    }
}

#[tokio::test]
async fn each_object_is_a_line_and_what_is_not_reconciled_is_said() {
    let hub = Hub::start(Answers {
        apply: good(),
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run_with(&["apply", "-f", "-"], "a: b").await, @"
    exit 0
    -- out
    GitRepository flux-system/fleet created
    Kustomization flux-system/apps configured
    -- err
    ⚠️ old.yaml:1: document 1: apiVersion: kustomize.toolkit.fluxcd.io/v1beta2 is deprecated
    ⚠️ Kustomization flux-system/apps is kept but not reconciled: spec.decryption, spec.dependsOn is not supported
    ");
    assert_snapshot!(hub.run_with(&["apply", "-f", "-", "--dry-run", "-o", "name"], "a: b").await.out, @"
    gitrepository/fleet
    kustomization/apps
    ");
    assert_snapshot!(hub.run_with(&["apply", "-f", "-", "-o", "json"], "a: b").await.out, @r#"
    {
      "applied": [
        {
          "action": "created",
          "kind": "GitRepository",
          "name": "fleet",
          "namespace": "flux-system",
          "notSupported": [],
          "scope": ""
        },
        {
          "action": "configured",
          "kind": "Kustomization",
          "name": "apps",
          "namespace": "flux-system",
          "notSupported": [
            "spec.decryption",
            "spec.dependsOn"
          ],
          "scope": ""
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn a_bad_document_stores_nothing_and_is_named() {
    let problem = |line, field: &str, message: &str| Problem {
        warning: false,
        file: "apps.yaml".to_owned(),
        document: 2,
        line,
        field: field.to_owned(),
        message: message.to_owned(),
        resource: Some(reference("Kustomization", "flux-system", "apps")),
    };
    let problems = vec![
        problem(7, "spec.pathh", "unknown field (did you mean \"path\"?)"),
        problem(9, "spec.prune", "is required"),
    ];
    let hub = Hub::start(Answers {
        apply: ApplyResponse {
            applied: Vec::new(),
            problems,
        },
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run_with(&["apply", "-f", "-"], "a: b").await, @r#"
    exit 1
    -- out
    -- err
    ✗ apps.yaml:7: document 2: Kustomization flux-system/apps: spec.pathh: unknown field (did you mean "path"?)
    ✗ apps.yaml:9: document 2: Kustomization flux-system/apps: spec.prune: is required
      hint: nothing was stored
    "#);
}

#[tokio::test]
async fn folders_are_read_in_order_and_other_files_left_out() {
    let hub = Hub::start(Answers::default()).await;
    let folder = hub.folder.path().join("fleet");
    fs::create_dir_all(folder.join("b")).expect("a folder");
    for (name, text) in [
        ("z.yaml", "z"),
        ("a.yml", "a"),
        ("b/c.json", "{}"),
        ("README.md", "no"),
    ] {
        fs::write(folder.join(name), text).expect("a file");
    }
    let folder = folder.display().to_string();
    let ran = hub
        .run_with(
            &["apply", "-f", &folder, "-", "--cluster", "c1", "--dry-run"],
            "stdin",
        )
        .await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let asked = hub
        .seen()
        .pop()
        .expect("it asked")
        .replace(&hub.folder.path().display().to_string(), "FOLDER");
    assert_snapshot!(asked, @r#"ApplyRequest { documents: [Document { file: "FOLDER/fleet/a.yml", text: "a" }, Document { file: "FOLDER/fleet/b/c.json", text: "{}" }, Document { file: "FOLDER/fleet/z.yaml", text: "z" }, Document { file: "-", text: "stdin" }], dry_run: true, scope: "c1" }"#);
}

#[tokio::test]
async fn what_cannot_be_read_is_named_before_the_hub_is_asked() {
    let hub = Hub::start(Answers::default()).await;
    let empty = hub.folder.path().join("empty");
    fs::create_dir_all(&empty).expect("a folder");
    let binary = hub.folder.path().join("binary.yaml");
    fs::write(&binary, [0xff, 0xfe]).expect("a file");
    let path = |name: &std::path::Path| name.display().to_string();
    assert_snapshot!(hub.run(&["apply", "-f", &path(&hub.folder.path().join("none.yaml"))]).await, @"
    exit 1
    -- out
    -- err
    ✗ cannot read FOLDER/none.yaml: No such file or directory (os error 2)
    ");
    assert_snapshot!(hub.run(&["apply", "-f", &path(&empty)]).await, @"
    exit 1
    -- out
    -- err
    ✗ FOLDER/empty holds no .yaml, .yml or .json file
    ");
    assert_snapshot!(hub.run(&["apply", "-f", &path(&binary)]).await, @"
    exit 1
    -- out
    -- err
    ✗ FOLDER/binary.yaml is not UTF-8 text
    ");
    assert_eq!(hub.seen(), [""; 0]);
}
