//! A history that is rewritten, objects that are too large, an artifact store that is full, pods that never get ready.

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    app::{App, maps, maps_of},
    own::Own,
    rig::calm,
};

/// B.4 R22: the branch moves to a commit that has another past, goes away, and comes back.
#[tokio::test]
async fn r22_a_rewritten_branch_is_followed_and_a_deleted_one_deletes_nothing() {
    let app = App::new(calm().await, "r22", &maps(&["a", "b"])).await;
    app.until_applied().await;
    let before = app.uids().await;
    let past = app.repo.resolve("main").await.unwrap().unwrap();
    let sibling = app
        .repo
        .rewrite("main")
        .write("app/objects.yaml", &maps_of(&["a", "c"], "two")[0].1);
    let present = sibling.commit("another past").await.unwrap();
    app.fetch().unwrap();
    app.until_holds("c", "two").await;
    app.until_gone("b").await;
    app.until_applied().await;
    assert_eq!(app.uids().await["a"], before["a"]);
    let told = format!("sha1:{past}, which it had before, is not an ancestor of sha1:{present}");
    app.until_listed(&["events", "--for", "GitRepository/r22", "-A"], &told)
        .await;
    let kept = app.uids().await;

    let head = app.repo.resolve("main").await.unwrap().unwrap();
    app.repo.delete_branch("main").await.unwrap();
    assert!(app.fetch().is_err());
    app.until_said("source", "False", &["git repository is empty"])
        .await;
    app.objects.edit("a", "of", "by hand").await.unwrap();
    app.until_holds("a", "two").await;
    assert_eq!(app.uids().await, kept);
    app.repo.set_branch("main", &head).await.unwrap();
    app.fetch().unwrap();
    app.until_said("source", "True", &[]).await;
    app.until_applied().await;
    assert_eq!(app.uids().await, kept);
    assert_eq!(app.deleted(), ["b"]);
    app.rests().await;
}

/// B.4 R28: an object may be as large as the API server takes; a larger one is refused when it is rendered, with its size
/// and the limit, and the app stays as it was.
#[tokio::test]
async fn r28_an_object_that_no_cluster_takes_is_refused_at_rendering() {
    let sized = |kib: usize| {
        let text = format!(
            "{}\n",
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "large" },
            "data": { "of": format!("{kib}"), "x": "x".repeat(kib << 10) } })
        );
        vec![("app/large.yaml".to_owned(), text)]
    };
    let app = App::new(calm().await, "r28", &[maps(&["a"]), sized(900)].concat()).await;
    app.until_applied().await;
    app.until_holds("large", "900").await;
    let before = app.uids().await;
    for kib in [1600, 3100] {
        app.commit(&[maps_of(&["b"], "two"), sized(kib)].concat()).await;
        let told = app.failure();
        assert!(
            told.contains("ConfigMap/r28/large") && told.contains("1.5 MiB"),
            "{told}"
        );
        assert_eq!(app.uids().await, before);
    }
    // Other objects go on once it is gone or fits.
    app.commit(&sized(800)).await;
    app.until_holds("large", "800").await;
    app.until_gone("a").await;
    app.until_applied().await;
    assert_eq!(app.deleted(), ["a"]);
    app.rests().await;
}

/// B.4 R41: there is no room for another artifact. The source says so, what is applied stays and is enforced, and a
/// commit that fits goes on.
#[tokio::test]
async fn r41_a_full_disk_is_told_keeps_what_is_applied_and_is_recovered_from() {
    let mut own = Own::start("r41").await;
    own.hub.stop().unwrap();
    own.hub.resume_with_room("512k").await.unwrap();
    let app = App::new(own.place(), "r41", &maps(&["a", "b"])).await;
    app.until_applied().await;
    let before = app.uids().await;
    // What nothing can make smaller.
    let noise: Vec<u8> = (0_u64..32_768).flat_map(hashed).collect();
    let large = app.repo.change("main").write("noise.bin", &noise);
    large
        .write("app/objects.yaml", &maps_of(&["a"], "two")[0].1)
        .commit("too large")
        .await
        .unwrap();
    // The source waits for room, and says so beside its last artifact.
    let asked = app
        .cli
        .run(&["reconcile", "source", "git", "r41", "--timeout", "2s"]);
    assert!(asked.is_err(), "{asked:?}");
    for args in [&["get", "sources", "git", "-o", "json"][..], &["events", "-A"]] {
        app.until_listed(args, "No space left on device").await;
    }
    app.objects.edit("b", "of", "by hand").await.unwrap();
    app.until_holds("b", "one").await;
    assert_eq!(app.uids().await, before);
    app.repo
        .change("main")
        .delete("noise.bin")
        .commit("it fits")
        .await
        .unwrap();
    app.fetch().unwrap();
    app.until_holds("a", "two").await;
    app.until_gone("b").await;
    app.until_applied().await;
    assert_eq!(app.deleted(), ["b"]);
    app.rests().await;
}

fn hashed(number: u64) -> Vec<u8> {
    ring::digest::digest(&ring::digest::SHA256, &number.to_le_bytes())
        .as_ref()
        .to_vec()
}

/// B.4 R44: a Deployment whose controller never says that it is available. The unit fails at its time-out and says what it
/// waits for; that it becomes available later is noticed without a commit.
#[tokio::test]
async fn r44_what_never_gets_ready_fails_at_its_time_and_recovers_by_itself() {
    let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web", "image": "example.com/none" }] } } } });
    let files = [
        maps(&["a"]),
        vec![("app/web.yaml".to_owned(), deployment.to_string())],
    ]
    .concat();
    let app = App::with(calm().await, "r44", &files, "wait: true, timeout: 3s").await;
    app.until_unit(&["\"ready\":\"False\"", "Deployment/r44/web"])
        .await;
    app.rests().await;
    let ready = json!({ "status": { "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
        "availableReplicas": 1, "conditions": [{ "type": "Available", "status": "True" },
            { "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }] } });
    let client = app.place.plane.client().await.unwrap();
    let deployments: Api<Deployment> = Api::namespaced(client, "r44");
    deployments
        .patch_status("web", &PatchParams::default(), &Patch::Merge(ready))
        .await
        .unwrap();
    app.until_applied().await;
    assert_eq!(app.deleted(), Vec::<String>::new());
    app.rests().await;
}
