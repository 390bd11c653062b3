//! Control planes: what runs in them, who may ask, what is counted, and what a fault looks like from outside.

use std::time::{Duration, Instant};

use flotilla_testkit::{
    AuditFilter, Component, ControlPlane, ControlPlaneOptions, kubernetes_version, shared_clusters,
    wait_until,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::PATIENCE;

type Failure = Box<dyn std::error::Error>;

#[tokio::test]
async fn a_deployment_becomes_ready() -> Result<(), Failure> {
    let [cluster] = shared_clusters(1).await?[..] else {
        panic!("one was asked for")
    };
    let namespace = cluster.namespace().await?;
    let deployments: Api<Deployment> = Api::namespaced(cluster.client().await?, &namespace);
    let labels = json!({ "app": "web" });
    let deployment = serde_json::from_value(json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "web", "image": "registry.invalid/web:1" }] },
            },
        },
    }))?;
    deployments.create(&PostParams::default(), &deployment).await?;
    wait_until("both pods to be ready", PATIENCE, async || {
        let status = deployments.get("web").await?.status.unwrap_or_default();
        Ok::<_, kube::Error>((status.ready_replicas == Some(2)).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn it_is_the_release_that_the_manifest_names() -> Result<(), Failure> {
    let cluster = shared_clusters(1).await?[0];
    assert_eq!(
        cluster.get_json("/version").await?["gitVersion"],
        kubernetes_version()
    );
    Ok(())
}

#[tokio::test]
async fn requests_are_counted_by_user_verb_and_resource() -> Result<(), Failure> {
    let cluster = shared_clusters(1).await?[0];
    let namespace = cluster.namespace().await?;
    let user = format!("counted-{namespace}");
    let kubeconfig = cluster.kubeconfig_for_user(&user, Some("system:masters"))?;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client_for(&kubeconfig).await?, &namespace);
    let mark = cluster.audit().mark();
    for name in ["a", "b", "c"] {
        let map = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
        maps.create(&PostParams::default(), &map).await?;
    }
    maps.list(&ListParams::default()).await?;
    maps.delete("a", &DeleteParams::default()).await?;

    let by_user = AuditFilter::all().after(mark).user(&user);
    wait_until("the last request to be written", PATIENCE, async || {
        let deletes = cluster.audit().count(&by_user.clone().verb("delete"))?;
        Ok::<_, flotilla_testkit::RigError>((deletes == 1).then_some(()))
    })
    .await?;
    let maps_of_user = by_user.clone().resource("configmaps").namespace(&namespace);
    assert_eq!(cluster.audit().count(&maps_of_user.clone().verb("create"))?, 3);
    assert_eq!(
        cluster
            .audit()
            .count(&maps_of_user.clone().verb("list").verb("delete"))?,
        2
    );
    assert_eq!(
        cluster.audit().count(&by_user)?,
        5,
        "{:?}",
        cluster.audit().summary(&by_user)?
    );
    assert_eq!(cluster.audit().count(&by_user.clone().resource("secrets"))?, 0);
    let first = cluster.audit().requests(&by_user)?[0].received;
    assert_eq!(cluster.audit().count(&by_user.clone().until(first))?, 0);
    assert_eq!(cluster.audit().count(&by_user.since(first))?, 5);
    Ok(())
}

#[tokio::test]
async fn access_is_by_role() -> Result<(), Failure> {
    let cluster = shared_clusters(1).await?[0];
    let namespace = cluster.namespace().await?;
    let path = format!("/api/v1/namespaces/{namespace}/secrets");
    for kubeconfig in [
        cluster
            .kubeconfig_for_service_account(&namespace, "default")
            .await?,
        cluster.kubeconfig_for_user("somebody", Some("some-group"))?,
    ] {
        let client = cluster.client_for(&kubeconfig).await?;
        let answer = client
            .request_text(http::Request::get(&path).body(Vec::new())?)
            .await;
        let Err(kube::Error::Api(status)) = answer else {
            panic!("{kubeconfig:?} may read: {answer:?}")
        };
        assert_eq!(status.code, 403, "{}", status.message);
    }
    cluster.get_json(&path).await?;
    Ok(())
}

#[tokio::test]
async fn faults_are_seen_and_data_survives_them() -> Result<(), Failure> {
    let start = Instant::now();
    let plane = ControlPlane::start(ControlPlaneOptions::api_only("faults")).await?;
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "took {:?} to start",
        start.elapsed()
    );
    let maps: Api<ConfigMap> = Api::namespaced(plane.client().await?, "default");
    let map = serde_json::from_value(json!({ "metadata": { "name": "kept" } }))?;
    maps.create(&PostParams::default(), &map).await?;

    let api_server = plane.process(Component::ApiServer)?;
    api_server.freeze()?;
    let short = Duration::from_millis(500);
    assert!(
        tokio::time::timeout(short, maps.get("kept")).await.is_err(),
        "a frozen API server answered"
    );
    api_server.resume()?;
    tokio::time::timeout(PATIENCE, maps.get("kept")).await??;

    for component in [Component::ApiServer, Component::Etcd] {
        let before = plane.process(component)?.pid();
        plane.process(component)?.kill();
        assert!(plane.check().is_err(), "{component:?} was killed");
        plane.restart(component).await?;
        assert_ne!(plane.process(component)?.pid(), before);
        plane
            .get_json("/api/v1/namespaces/default/configmaps/kept")
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_start_that_fails_tells_the_last_words() {
    let options = ControlPlaneOptions::api_only("broken").api_server_arg("--no-such-flag");
    let error = ControlPlane::start(options)
        .await
        .expect_err("the flag is unknown");
    let text = error.to_string();
    assert!(
        text.starts_with("kube-apiserver exited") && text.contains("no-such-flag"),
        "{text}"
    );
}
