//! What may be deleted: an empty, broken or partly known set is no order to delete anything.

use e2e::agent::apply;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    app::{App, map, maps, maps_of},
    rig::{calm, rough},
};

const TWELVE: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// B.4 R26: all files deleted, an empty list of resources, a path that was mistyped, to nothing and to something else.
#[tokio::test]
async fn r26_empty_render_deletes_nothing() {
    let app = App::new(calm().await, "r26", &maps(&TWELVE)).await;
    app.until_there(&TWELVE).await;
    app.until_applied().await;
    let before = app.uids().await;

    let files = app
        .repo
        .change("main")
        .delete("app")
        .write("other/t.yaml", map("t", "one"));
    files.commit("no files").await.unwrap();
    app.fetch().unwrap();
    let told = app.failure();
    assert!(told.contains("app"), "{told}");
    assert_eq!(app.uids().await, before);

    app.commit(&[("app/kustomization.yaml".to_owned(), "resources: []\n".to_owned())])
        .await;
    app.until_unit(&["PruneBlocked", "12 objects"]).await;
    assert_eq!(app.uids().await, before);

    app.cli.apply(&app.kustomization("nowhere", "")).unwrap();
    let told = app.failure();
    assert!(told.contains("nowhere"), "{told}");
    assert_eq!(app.uids().await, before);

    app.cli.apply(&app.kustomization("other", "")).unwrap();
    app.until_unit(&["PruneBlocked", "12 objects"]).await;
    app.until_there(&["t"]).await;
    let mut after = app.uids().await;
    after.remove("t");
    assert_eq!(after, before);
    app.rests().await;

    // A mended repository goes on with the very same objects.
    let mended = app
        .repo
        .change("main")
        .delete("app")
        .write("app/objects.yaml", &maps_of(&TWELVE, "two")[0].1);
    mended.commit("mended").await.unwrap();
    app.cli.apply(&app.kustomization("app", "")).unwrap();
    app.fetch().unwrap();
    app.until_holds("l", "two").await;
    app.until_gone("t").await;
    assert_eq!(app.uids().await, before);
    assert_eq!(app.deleted(), ["t"]);
    app.rests().await;
}

/// B.4 R27.
#[tokio::test]
async fn r27_one_bad_file_of_a_thousand_holds_the_whole_app() {
    let app = App::new(calm().await, "r27", &maps(&["a", "b"])).await;
    app.until_there(&["a", "b"]).await;
    app.until_applied().await;
    let before = app.uids().await;
    let file = |number: usize, text: String| (format!("app/f{number:03}.yaml"), text);
    let thousand = |bad: &str| -> Vec<(String, String)> {
        let good = |number| file(number, map(&format!("m{number}"), "one"));
        let mut all: Vec<_> = (0..1000).map(good).collect();
        all[700] = file(700, bad.to_owned());
        // `b` leaves and `a` changes in the same commit.
        all.push(maps_of(&["a"], "two").remove(0));
        all
    };
    let again = map("m1", "two");
    for (bad, told) in [
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: [\n",
            &["f700.yaml", "line"][..],
        ),
        (&again, &["m1"]),
        (
            "kind: ConfigMap\nmetadata: {name: x}\n",
            &["f700.yaml", "ConfigMap/", "x has no apiVersion"],
        ),
    ] {
        app.commit(&thousand(bad)).await;
        let failure = app.failure();
        assert!(
            told.iter().all(|part| failure.contains(part)),
            "{told:?}: {failure}"
        );
        assert_eq!(app.uids().await, before);
        assert_eq!(
            app.objects.value("a", "of").await.unwrap().as_deref(),
            Some("one")
        );
    }
    let mut mended = app.repo.change("main").delete("app");
    mended = mended.write("app/objects.yaml", &maps_of(&["a"], "two")[0].1);
    mended.commit("mended").await.unwrap();
    app.fetch().unwrap();
    app.until_holds("a", "two").await;
    app.until_gone("b").await;
    assert_eq!(app.deleted(), ["b"]);
    app.rests().await;
}

fn definition(group: &str, number: usize, versions: &[&str]) -> String {
    let version = |name: &&str| {
        json!({ "name": name, "served": true, "storage": *name == versions[versions.len() - 1], "schema": {
            "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } })
    };
    let versions: Vec<Value> = versions.iter().map(version).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("things{number}.{group}") },
        "spec": { "group": group, "scope": "Namespaced", "versions": versions, "names": {
            "kind": format!("Thing{number}"), "plural": format!("things{number}"), "singular": format!("thing{number}")
        } },
    })
    .to_string()
}

fn thing(group: &str, number: usize, version: &str) -> String {
    json!({ "apiVersion": format!("{group}/{version}"), "kind": format!("Thing{number}"),
        "metadata": { "name": "one" }, "spec": { "size": number } })
    .to_string()
}

fn things(group: &str, count: usize, versions: &[&str], version: &str) -> Vec<(String, String)> {
    // Objects first: the order in the files is not the order of applying.
    let objects = (0..count).map(|number| thing(group, number, version));
    let all: Vec<String> = objects
        .chain((0..count).map(|number| definition(group, number, versions)))
        .collect();
    vec![("app/things.yaml".to_owned(), all.join("\n---\n"))]
}

/// B.4 R16: nothing is told as failed meanwhile; then each definition is replaced by one with another version, and the
/// objects in that.
#[tokio::test]
async fn r16_definitions_and_their_objects_come_in_one_commit() {
    const COUNT: usize = 20;
    let group = "r16.example.com";
    let app = App::new(calm().await, "r16", &things(group, COUNT, &["v1"], "v1")).await;
    let sizes = async |version: &str| -> Vec<u64> {
        let mut sizes = Vec::new();
        for number in 0..COUNT {
            let path = format!("/apis/{group}/{version}/namespaces/r16/things{number}/one");
            let found = app.place.plane.get_json(&path).await;
            sizes.extend(found.ok().and_then(|one| one["spec"]["size"].as_u64()));
        }
        sizes
    };
    let all: Vec<u64> = (0..COUNT as u64).collect();
    app.until_applied().await;
    assert_eq!(sizes("v1").await, all);
    app.commit(&things(group, COUNT, &["v1", "v2"], "v2")).await;
    app.until_applied().await;
    assert_eq!(sizes("v2").await, all);
    let events = app.cli.run(&["events", "-A"]).unwrap();
    let told: Vec<&str> = events.lines().filter(|line| line.contains("r16")).collect();
    assert!(!told.is_empty(), "{events}");
    let failed = |line: &&&str| line.contains("Failed") || line.contains("no matches");
    assert_eq!(told.iter().filter(failed).count(), 0, "{told:#?}");
    assert_eq!(app.deleted(), Vec::<String>::new());
    app.rests().await;
}

/// B.4 R49: what answers for a group is gone. Other groups go on; what is of that group is not deleted before it is known
/// again.
#[tokio::test]
async fn r49_kind_whose_discovery_fails_is_not_deleted_and_others_go_on() {
    let (place, _rough) = rough().await;
    let group = "r49.example.com";
    let crd = || vec![("app/things.yaml".to_owned(), definition(group, 0, &["v1"]))];
    let object = |text: String| vec![("app/thing.yaml".to_owned(), text)];
    let first = [crd(), object(thing(group, 0, "v1")), maps(&["a", "b"])].concat();
    let app = App::new(place, "r49", &first).await;
    app.until_applied().await;
    let path = format!("/apis/{group}/v1/namespaces/r49/things0/one");
    let uid = async || {
        app.place
            .plane
            .get_json(&path)
            .await
            .ok()
            .map(|one| one["metadata"]["uid"].clone())
    };
    let before = uid().await;
    assert!(before.is_some());

    let service: Api<APIService> = Api::all(app.place.plane.client().await.unwrap());
    let nowhere = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": format!("v1.{group}"),
            "labels": { "kube-aggregator.kubernetes.io/automanaged": "no" } },
        "spec": { "group": group, "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 100,
            "insecureSkipTLSVerify": true, "service": { "namespace": "default", "name": "nowhere", "port": 443 } },
    });
    apply(app.place.plane, &nowhere).await.unwrap();
    app.until("nobody answers for the group", async || Ok(uid().await.is_none()))
        .await;
    let less = app.repo.change("main").delete("app/thing.yaml");
    less.write("app/objects.yaml", &maps_of(&["a"], "two")[0].1)
        .commit("less")
        .await
        .unwrap();
    app.fetch().unwrap();
    app.until_holds("a", "two").await;
    app.until_gone("b").await;
    app.until_unit(&["\"pendingRemoval\":1"]).await;
    assert_eq!(app.deleted(), ["b"]);

    service
        .delete(&format!("v1.{group}"), &DeleteParams::default())
        .await
        .unwrap();
    app.until("somebody answers again", async || {
        let answered = app.place.plane.get_json(&format!("/apis/{group}/v1")).await;
        Ok(answered.is_ok())
    })
    .await;
    app.until_unit(&["\"pendingRemoval\":0"]).await;
    assert_eq!(uid().await, None);
    assert_eq!(app.deleted(), ["b", "one"]);
    app.rests().await;
}
