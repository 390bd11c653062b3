//! Agents that were away, and agents that are one too many.

use e2e::{Objects, agent::apply, hub::Join};
use flotilla_testkit::{AuditFilter, ControlPlane, wait_until};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use crate::{
    agent::{Agent, namespace},
    app::{App, WITHIN, maps, maps_of},
    own::Own,
    rig::rough,
};

/// B.4 R6: while the hub is out of reach the agent enforces what it has; then it takes the newest commit and none of
/// those between. That its certificate may run out meanwhile is a story of its own.
#[tokio::test]
async fn r06_an_agent_that_was_away_takes_the_newest_commit_and_none_between() {
    let own = Own::start("r06").await;
    let app = App::new(own.place(), "r06", &maps(&["a", "b"])).await;
    app.until_applied().await;
    let mark = app.mark();
    own.to_hub.refuse(true);
    own.to_hub.cut();
    for number in 0..20 {
        app.commit(&maps_of(&["a"], &format!("v{number}"))).await;
    }
    app.objects.edit("b", "of", "by hand").await.unwrap();
    app.until_holds("b", "one").await;
    assert_eq!(
        app.objects.value("a", "of").await.unwrap().as_deref(),
        Some("one")
    );
    own.to_hub.refuse(false);
    app.until_holds("a", "v19").await;
    app.until_applied().await;
    app.until_gone("b").await;
    assert_eq!(app.asked_of("patch a", mark), 1);
    let corrections = app.asked_of("patch b", mark);
    assert!((1..=2).contains(&corrections), "{corrections}");
    app.rests().await;
}

async fn secrets(plane: &ControlPlane, namespace: &str) -> Api<Secret> {
    Api::namespaced(plane.client().await.unwrap(), namespace)
}

/// B.4 R9: all that an agent keeps is copied to another cluster, as with a backup of its namespace. It enforces nothing
/// there, the hub names it, and the one in its own cluster goes on.
#[tokio::test]
async fn r09_a_copied_identity_and_ledger_enforce_nothing_in_another_cluster() {
    let own = Own::start("r09").await;
    let app = App::new(own.place(), "r09", &maps(&["a", "b"])).await;
    app.until_applied().await;
    let before = app.uids().await;
    let (elsewhere, _rough) = rough().await;
    namespace(elsewhere.plane, own.agent.name()).await;
    namespace(elsewhere.plane, "r09").await;
    let theirs = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "of": "theirs" },
        "metadata": { "name": "a", "namespace": "r09" } });
    apply(elsewhere.plane, &theirs).await.unwrap();
    let copies = secrets(elsewhere.plane, own.agent.name()).await;
    let kept = secrets(app.place.plane, own.agent.name()).await;
    for mut secret in kept.list(&ListParams::default()).await.unwrap() {
        (secret.metadata.uid, secret.metadata.resource_version) = (None, None);
        copies.create(&PostParams::default(), &secret).await.unwrap();
    }
    let mark = elsewhere.plane.audit().mark();
    let copy = Agent::start(elsewhere.plane, &own.join, own.agent.name()).await;
    app.until("the copy is named", async || {
        let clusters = app.cli.run(&["get", "clusters"]).map_err(|e| format!("{e:#}"))?;
        Ok(clusters.contains("another cluster shows this cluster's identity"))
    })
    .await;
    app.commit(&maps_of(&["a"], "two")).await;
    app.until_holds("a", "two").await;
    app.until_gone("b").await;
    app.objects.edit("a", "of", "by hand").await.unwrap();
    app.until_holds("a", "two").await;
    assert_eq!(app.uids().await["a"], before["a"]);
    let there = Objects::of(elsewhere.plane, "r09").await.unwrap();
    assert_eq!(there.value("a", "of").await.unwrap().as_deref(), Some("theirs"));
    assert!(there.config_map("b").await.unwrap().is_none());
    let of_copy = AuditFilter::all().after(mark).user(&copy.user);
    let asked = elsewhere.plane.audit().requests(&of_copy).unwrap();
    assert!(!asked.is_empty(), "the copy ran");
    let writes = |verb: &str| ["create", "update", "patch", "delete", "deletecollection"].contains(&verb);
    let written: Vec<_> = asked.iter().filter(|one| writes(&one.verb)).collect();
    assert!(written.is_empty(), "{written:#?}");
    app.rests().await;
}

/// B.4 R9: two agents over one state, as when a pod is not known to have ended. One of them ends, and the cluster sees
/// one writer.
#[tokio::test]
async fn r09_of_two_agents_over_one_state_one_ends() {
    let mut own = Own::start("r09-pods").await;
    let app = App::new(own.place(), "r09-pods", &maps(&["a", "b"])).await;
    app.until_applied().await;
    let before = app.uids().await;
    let mut second = Agent::start(app.place.plane, &own.join, own.agent.name()).await;
    for round in 0..3 {
        app.commit(&maps_of(&["a", "b"], &format!("v{round}"))).await;
        app.until_holds("b", &format!("v{round}")).await;
    }
    app.until_applied().await;
    wait_until("one of two ends", WITHIN, async || {
        Ok::<_, String>((own.agent.runs() != second.runs()).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(app.uids().await, before);
    assert_eq!(app.deleted(), Vec::<String>::new());
    app.rests().await;
}

/// B.4 R9 and R11: an agent whose state is lost is replaced by an administrator. The new one adopts what it finds by its
/// marks; what left Git meanwhile stays, since nobody can prove what it was.
#[tokio::test]
async fn r09_r11_an_agent_that_is_replaced_adopts_what_it_finds_and_prunes_nothing_unproven() {
    let mut own = Own::start("replaced").await;
    let app = App::new(own.place(), "replaced", &maps(&["a", "b", "c"])).await;
    app.until_applied().await;
    let before = app.uids().await;
    own.agent.kill();
    let kept = secrets(app.place.plane, own.agent.name()).await;
    for secret in kept.list(&ListParams::default()).await.unwrap() {
        kept.delete(&secret.metadata.name.unwrap(), &DeleteParams::default())
            .await
            .unwrap();
    }
    app.commit(&maps_of(&["a", "b"], "two")).await;
    let token = app
        .cli
        .run(&["cluster", "token", "replaced", "--replace"])
        .unwrap();
    let join = Join {
        token: token.trim().to_owned(),
        ..own.join.clone()
    };
    let _second = Agent::start(app.place.plane, &join, own.agent.name()).await;
    app.until_holds("a", "two").await;
    app.until_applied().await;
    assert_eq!(app.uids().await, before);
    assert_eq!(app.deleted(), Vec::<String>::new());
    app.rests().await;
    // What it has adopted is its own from then on.
    app.commit(&maps_of(&["a"], "two")).await;
    app.until_gone("b").await;
    assert_eq!(app.deleted(), ["b"]);
    assert!(app.uids().await.contains_key("c"));
    app.rests().await;
}

/// B.4 R9 and R11: a cluster is built anew, and all that its agent kept is restored there, as from a backup of its namespace. With a
/// token that replaces the identity it takes the former one's place: what it was given is applied there, and the former agent
/// is cut off.
#[tokio::test]
async fn r09_r11_a_cluster_that_was_built_anew_with_restored_state_takes_the_place_of_the_former_one() {
    let own = Own::start("rebuilt").await;
    let app = App::new(own.place(), "rebuilt", &maps(&["a", "b"])).await;
    app.until_applied().await;
    let before = app.uids().await;
    let (elsewhere, _rough) = rough().await;
    namespace(elsewhere.plane, own.agent.name()).await;
    namespace(elsewhere.plane, "rebuilt").await;
    let restored = secrets(elsewhere.plane, own.agent.name()).await;
    let kept = secrets(app.place.plane, own.agent.name()).await;
    for mut secret in kept.list(&ListParams::default()).await.unwrap() {
        (secret.metadata.uid, secret.metadata.resource_version) = (None, None);
        restored.create(&PostParams::default(), &secret).await.unwrap();
    }
    let token = app
        .cli
        .run(&["cluster", "token", "rebuilt", "--replace"])
        .unwrap();
    let join = Join {
        token: token.trim().to_owned(),
        ..own.join.clone()
    };
    let _new = Agent::start(elsewhere.plane, &join, own.agent.name()).await;
    app.commit(&maps_of(&["a", "b"], "two")).await;
    let there = Objects::of(elsewhere.plane, "rebuilt").await.unwrap();
    app.until("the new cluster holds the commit", async || {
        let value = there.value("b", "of").await.map_err(|e| format!("{e:#}"))?;
        Ok(value.as_deref() == Some("two"))
    })
    .await;
    // The former one keeps what it has, and hears of nothing.
    assert_eq!(app.uids().await, before);
    assert_eq!(
        app.objects.value("b", "of").await.unwrap().as_deref(),
        Some("one")
    );
}
