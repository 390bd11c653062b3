//! The disasters of other fleet tools, by the numbers of their trackers: nothing is deleted by an error, a silence, a
//! restart or a list that came out empty.

use std::collections::BTreeMap;

use flotilla_testkit::{GitAccess, GitFault, GitServer};

use crate::{
    app::{App, maps, maps_of},
    own::Own,
    rig::calm,
};

const TWELVE: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

async fn applied(app: &App) -> BTreeMap<String, String> {
    app.until_applied().await;
    let uids = app.uids().await;
    assert_eq!(uids.len(), TWELVE.len());
    uids
}

/// rancher/fleet 5406, its backport 5664, and B.4 R14: the API server says nothing, while an agent runs and while one
/// starts. That is no answer, and no sign that anything is gone.
#[tokio::test]
async fn r14_fleet_5406_5664_a_silent_api_server_is_no_empty_cluster() {
    let mut own = Own::start("r14").await;
    let app = App::new(own.place(), "r14", &maps(&TWELVE)).await;
    let before = applied(&app).await;
    own.to_api_server.stall();
    let less: Vec<&str> = TWELVE[1..].to_vec();
    app.commit(&maps_of(&less, "two")).await;
    app.until("the silence is told", async || {
        let clusters = app.cli.run(&["get", "clusters"]).map_err(|e| format!("{e:#}"))?;
        Ok(clusters.contains("the API server does not answer"))
    })
    .await;
    own.agent.kill();
    own.agent.resume();
    assert_eq!(app.uids().await, before);
    own.to_api_server.reset();
    own.to_api_server.resume();
    app.until_applied().await;
    app.until_gone("a").await;
    let mut after = app.uids().await;
    after.insert("a".to_owned(), before["a"].clone());
    assert_eq!(after, before);
    app.until_holds("l", "two").await;
    assert_eq!(app.deleted(), ["a"]);
    app.rests().await;
}

/// argo-cd 18480, 18780, 9227, 20440 and applicationset 560: what chooses clusters finds none any more, or cannot tell.
#[tokio::test]
async fn argocd_18480_18780_9227_20440_a_placement_that_finds_no_cluster_deletes_nothing() {
    let app = App::new(calm().await, "argocd", &maps(&TWELVE)).await;
    let before = applied(&app).await;
    app.cli.apply(&app.placement("nobody")).unwrap();
    app.until_unit(&["Detached"]).await;
    // It is not enforced any more; a commit that drops objects changes nothing either.
    app.commit(&maps_of(&["a"], "two")).await;
    app.until("the agent leaves it alone", async || {
        app.objects
            .edit("b", "of", "by hand")
            .await
            .map_err(|e| e.to_string())?;
        if app.turns().await.is_some() {
            return Ok(false);
        }
        let value = app.objects.value("b", "of").await.map_err(|e| e.to_string())?;
        Ok(value.as_deref() == Some("by hand"))
    })
    .await;
    assert_eq!(app.uids().await, before);
    app.repo
        .commit("main", &maps(&TWELVE), "all again")
        .await
        .unwrap();
    app.fetch().unwrap();
    app.cli.apply(&app.placement(&app.place.cluster)).unwrap();
    app.until_holds("b", "one").await;
    app.until_applied().await;
    assert_eq!(app.uids().await, before);
    assert_eq!(app.deleted(), Vec::<String>::new());
    app.rests().await;
}

/// argo-cd 18480 and its kin, applicationset 560, and B.4 R23: the source does not answer, answers nonsense, or is not
/// there. The last good commit stays, and nobody else notices.
#[tokio::test]
async fn r23_applicationset_560_a_source_that_cannot_be_read_deletes_nothing() {
    let mut place = calm().await;
    place.git = Box::leak(Box::new(GitServer::start(GitAccess::Public).await.unwrap()));
    let app = App::new(place, "r23", &maps(&TWELVE)).await;
    let before = applied(&app).await;
    let other = App::new(calm().await, "r23-other", &maps(&["a"])).await;
    app.repo
        .commit("main", &maps_of(&["a"], "two"), "unread")
        .await
        .unwrap();
    let faults = [
        GitFault::Refuse,
        GitFault::Status(500),
        GitFault::Status(404),
        GitFault::CutAfter(40),
    ];
    // Another object each time: one that is changed again and again is contested.
    for (fault, name) in faults.into_iter().zip(TWELVE) {
        app.place.git.set_fault(Some(fault.clone()));
        assert!(app.fetch().is_err(), "{fault:?}");
        app.until_said("source", "False", &[]).await;
        app.objects.edit(name, "of", "by hand").await.unwrap();
        app.until_holds(name, "one").await;
        assert_eq!(app.uids().await, before, "{fault:?}");
    }
    other.until_applied().await;
    app.place.git.set_fault(None);
    app.repo
        .commit("main", &maps_of(&TWELVE, "three"), "all again")
        .await
        .unwrap();
    app.fetch().unwrap();
    app.until_holds("l", "three").await;
    app.until_applied().await;
    assert_eq!(app.uids().await, before);
    assert_eq!(app.deleted(), Vec::<String>::new());
    app.rests().await;
}

/// argocd-agent 813, 660 and 783, karmada 5406 and 5404: hub and agent go down and come up, each while the other is
/// away, and while commits go on. A restart is no change.
#[tokio::test]
async fn karmada_5406_5404_argocd_agent_813_660_783_restarts_delete_nothing() {
    let mut own = Own::start("karmada").await;
    let app = App::new(own.place(), "karmada", &maps(&TWELVE)).await;
    let before = applied(&app).await;
    for round in 0..3 {
        let value = format!("v{round}");
        own.agent.kill();
        app.repo
            .commit("main", &maps_of(&TWELVE, &value), &value)
            .await
            .unwrap();
        if round != 1 {
            app.fetch().unwrap();
        }
        own.hub.kill().unwrap();
        // The agent starts without a hub, or the hub without an agent.
        if round == 0 {
            own.agent.resume();
            own.hub.resume().await.unwrap();
        } else {
            own.hub.resume().await.unwrap();
            own.agent.resume();
        }
        app.fetch().unwrap();
        app.until_holds("l", &value).await;
        app.until_applied().await;
        assert_eq!(app.uids().await, before);
    }
    assert_eq!(app.deleted(), Vec::<String>::new());
    app.rests().await;
}

/// addon-controller 1218 of Sveltos: a commit that cannot be applied deletes nothing, not even what it drops.
#[tokio::test]
async fn sveltos_1218_a_commit_that_cannot_be_applied_deletes_nothing() {
    let app = App::new(calm().await, "sveltos", &maps(&TWELVE)).await;
    let before = applied(&app).await;
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 99999}]}\n";
    let mut bad = maps_of(&TWELVE[1..], "two");
    bad.push(("app/bad.yaml".to_owned(), service.to_owned()));
    app.commit(&bad).await;
    app.until_unit(&["\"ready\":\"False\"", "65535"]).await;
    app.until_holds("b", "two").await;
    assert_eq!(app.uids().await, before);
    app.rests().await;
    app.repo
        .change("main")
        .delete("app/bad.yaml")
        .commit("without it")
        .await
        .unwrap();
    app.fetch().unwrap();
    app.until_gone("a").await;
    app.until_applied().await;
    assert_eq!(app.deleted(), ["a"]);
    assert_eq!(app.uids().await.len(), TWELVE.len() - 1);
    app.rests().await;
}
