//! An API server that is put back to a backup, forgets what watches need, has no room, sheds load, refuses or is fought over.

use std::time::Duration;

use e2e::agent::apply;
use flotilla_testkit::{Component, wait_until};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    app::{App, WITHIN, map, maps, maps_of},
    denial::Denied,
    own::Own,
    rig::{calm, rough},
};

/// B.4 R11: etcd is put back to a snapshot under a running agent. What the snapshot lacks is made again, what it brings
/// back and had been deleted goes again, what it has of others stays.
#[tokio::test]
async fn r11_a_cluster_put_back_to_a_snapshot_is_brought_to_the_newest_commit() {
    let (place, _rough) = rough().await;
    let app = App::new(place, "r11", &maps(&["stays", "goes"])).await;
    app.until_applied().await;
    let theirs = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "theirs", "namespace": "r11" } });
    apply(app.place.plane, &theirs).await.unwrap();
    let before = app.uids().await;
    // Its agent stores which objects it has written a moment after it has told of them; of one that its ledger knows as an
    // intent alone it is not proven that it is the app's, and it would stay.
    app.rests().await;
    let snapshot = app.place.plane.snapshot().await.unwrap();
    app.commit(&maps_of(&["stays", "comes"], "two")).await;
    app.until_gone("goes").await;
    app.until_applied().await;
    app.place.plane.restore(&snapshot).await.unwrap();
    app.until_holds("stays", "two").await;
    app.until_holds("comes", "two").await;
    app.until_gone("goes").await;
    app.until_applied().await;
    let after = app.uids().await;
    assert_eq!(after.keys().collect::<Vec<_>>(), ["comes", "stays", "theirs"]);
    assert_eq!(
        (&after["stays"], &after["theirs"]),
        (&before["stays"], &before["theirs"])
    );
    assert_eq!(app.deleted(), ["goes"]);
    app.rests().await;
}

/// B.4 R48: while the agent's watch was broken, objects changed and went, and the API server no longer has that history.
#[tokio::test]
async fn r48_a_watch_whose_history_is_gone_misses_nothing() {
    let (place, _rough) = rough().await;
    let app = App::new(place, "r48", &maps(&["a", "b", "c"])).await;
    app.until_applied().await;
    let before = app.uids().await;
    let plane = app.place.plane;
    // The agent's first look after the break finds a server that knows nothing of before.
    let agent = app.place.pid.unwrap();
    rustix::process::kill_process(agent, rustix::process::Signal::STOP).unwrap();
    app.objects.edit("a", "of", "by hand").await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await.unwrap(), "r48");
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    plane.compact().await.unwrap();
    plane.restart(Component::ApiServer).await.unwrap();
    rustix::process::kill_process(agent, rustix::process::Signal::CONT).unwrap();
    app.until_holds("a", "one").await;
    app.until_there(&["b"]).await;
    app.until_applied().await;
    let after = app.uids().await;
    assert_eq!((&after["a"], &after["c"]), (&before["a"], &before["c"]));
    assert_ne!(after["b"], before["b"]);
    assert_eq!(app.deleted(), Vec::<String>::new());
    app.rests().await;
}

/// B.4 R15.
#[tokio::test]
async fn r15_a_store_without_room_is_named_waited_for_and_not_stormed() {
    let (place, _rough) = rough().await;
    let app = App::new(place, "r15", &maps(&["a", "b"])).await;
    app.until_applied().await;
    let before = app.uids().await;
    app.place.plane.set_etcd_full(true).await.unwrap();
    app.commit(&maps_of(&["a"], "two")).await;
    app.until_unit(&["database space exceeded"]).await;
    let mark = app.place.plane.audit().mark();
    let turned = wait_until("time", Duration::from_secs(5), async || {
        Ok::<Option<()>, String>(None)
    });
    assert!(turned.await.is_err());
    let asked = app.place.asked(mark);
    assert!(asked.len() <= 10, "{asked:?}");
    assert_eq!(app.uids().await, before);
    app.place.plane.set_etcd_full(false).await.unwrap();
    app.until_holds("a", "two").await;
    app.until_gone("b").await;
    app.until_applied().await;
    assert_eq!(app.deleted(), ["b"]);
    app.rests().await;
}

/// B.4 R13: the API server's fairness gives the agent one seat and refuses the rest. All is applied, and no object is
/// asked for again and again; others notice nothing.
#[tokio::test]
async fn r13_an_api_server_that_sheds_load_is_not_stormed() {
    const COUNT: usize = 150;
    let own = Own::start("r13").await;
    let level = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration", "metadata": { "name": "r13" },
        "spec": { "type": "Limited", "limited": { "nominalConcurrencyShares": 1, "borrowingLimitPercent": 0,
            "limitResponse": { "type": "Reject" } } },
    });
    let flow = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": { "name": "r13" },
        "spec": { "priorityLevelConfiguration": { "name": "r13" }, "matchingPrecedence": 10, "rules": [{
            "subjects": [{ "kind": "User", "user": { "name": own.agent.user } }],
            "resourceRules": [{ "verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"], "namespaces": ["r13"] }] }] },
    });
    for object in [&level, &flow] {
        apply(own.place().plane, object).await.unwrap();
    }
    let names: Vec<String> = (0..COUNT).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let app = App::with(own.place(), "r13", &maps(&names), "retryInterval: 2s").await;
    let mark = app.mark();
    app.until_applied().await;
    assert_eq!(app.uids().await.len(), COUNT);
    let refused = app.refused(mark, 429);
    assert!(refused > 0, "the level was never full");
    let asked = app.asked(mark).len();
    assert!(
        asked <= 3 * COUNT + refused && refused <= 3 * COUNT,
        "{asked} requests, {refused} refused"
    );
    app.rests().await;
}

/// B.4 R18: one of twenty is refused by admission. It says so in the server's words, the others are applied, what is
/// unchanged is not touched, and it is not asked for again before its time.
#[tokio::test]
async fn r18_an_object_that_admission_refuses_is_named_and_tried_at_the_interval() {
    let names: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let app = App::new(calm().await, "r18", &maps(&names)).await;
    app.until_applied().await;
    let mark = app.mark();
    app.deny(Denied::Writes, "m7", "not in this house").await;
    let changed = [
        maps_of(&names[..10], "two"),
        vec![("app/same.yaml".to_owned(), joined(&names[10..]))],
    ]
    .concat();
    app.commit(&changed).await;
    app.until_unit(&["\"ready\":\"False\"", "not in this house", "m7"])
        .await;
    app.until_holds("m9", "two").await;
    assert_eq!(
        app.objects.value("m7", "of").await.unwrap().as_deref(),
        Some("one")
    );
    app.rests().await;
    for name in &names[10..] {
        assert_eq!(app.asked_of(&format!("patch {name}"), mark), 0);
    }
    let tries = app.asked_of("patch m7", mark);
    assert!((1..=3).contains(&tries), "{tries}");
    app.deny_no_more().await;
    app.until("nothing is denied any more", async || {
        app.cli
            .run(&["reconcile", "ks", "r18"])
            .map(|_| true)
            .map_err(|e| format!("{e:#}"))
    })
    .await;
    app.until_holds("m7", "two").await;
    app.until_applied().await;
    assert_eq!(app.deleted(), Vec::<String>::new());
}

fn joined(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| map(name, "one"))
        .collect::<Vec<_>>()
        .join("---\n")
}

/// B.4 R19: somebody else writes our field each time that we correct it. After three corrections it is contested, with
/// the other's name, and the fight is over.
#[tokio::test]
async fn r19_a_field_that_another_writes_again_and_again_is_contested() {
    let app = App::new(calm().await, "r19", &maps(&["a", "b"])).await;
    app.until_applied().await;
    let mark = app.mark();
    let client = app.place.plane.client().await.unwrap();
    let rival = tokio::spawn(async move {
        let maps: Api<ConfigMap> = Api::namespaced(client, "r19");
        let params = PatchParams {
            field_manager: Some("rival".to_owned()),
            ..PatchParams::default()
        };
        loop {
            let ours = maps.get("a").await.unwrap().data.unwrap()["of"] == "one";
            if ours {
                let theirs = Patch::Merge(json!({ "data": { "of": "theirs" } }));
                maps.patch("a", &params, &theirs).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    app.until_unit(&["corrected once per interval: ConfigMap/r19/a (rival at /data/of)"])
        .await;
    app.until_listed(&["events", "-A"], "rival").await;
    app.until("the fight is over", async || Ok(app.turns().await.is_none()))
        .await;
    let corrections = app.asked_of("patch a", mark);
    rival.abort();
    assert!((3..=6).contains(&corrections), "{corrections}");
    assert_eq!(app.asked_of("patch b", mark), 0);
    assert_eq!(
        app.objects.value("a", "of").await.unwrap().as_deref(),
        Some("theirs")
    );
    // A commit is not part of the fight.
    app.commit(&maps_of(&["a", "b"], "two")).await;
    app.until_holds("b", "two").await;
    app.until_holds("a", "two").await;
}

/// B.4 R21: the change of a field that cannot change says so and what to do; the object stays, and is made anew once a
/// person has deleted it.
#[tokio::test]
async fn r21_a_change_of_a_fixed_field_is_named_and_the_object_stays() {
    let job = |image: &str| {
        let job = json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate" },
            "spec": { "suspend": true, "template": { "spec": { "restartPolicy": "Never",
                "containers": [{ "name": "app", "image": image }] } } } });
        vec![("app/job.yaml".to_owned(), job.to_string())]
    };
    let app = App::new(
        calm().await,
        "r21",
        &[job("example.com/app:1"), maps(&["a"])].concat(),
    )
    .await;
    app.until_applied().await;
    let jobs: Api<Job> = Api::namespaced(app.place.plane.client().await.unwrap(), "r21");
    let uid = jobs.get("migrate").await.unwrap().metadata.uid;
    app.commit(&[job("example.com/app:2"), maps_of(&["a"], "two")].concat())
        .await;
    app.until_unit(&["\"ready\":\"False\"", "field is immutable"])
        .await;
    assert_eq!(jobs.get("migrate").await.unwrap().metadata.uid, uid);
    app.rests().await;
    assert_eq!(app.deleted(), Vec::<String>::new());
    jobs.delete("migrate", &DeleteParams::background()).await.unwrap();
    wait_until("it is made anew", WITHIN, async || {
        let image = jobs.get("migrate").await.map_err(|e| e.to_string())?.spec;
        let image = image.and_then(|spec| spec.template.spec?.containers[0].image.clone());
        Ok::<_, String>((image.as_deref() == Some("example.com/app:2")).then_some(()))
    })
    .await
    .unwrap();
    app.until_applied().await;
    app.until_holds("a", "two").await;
    app.rests().await;
}
