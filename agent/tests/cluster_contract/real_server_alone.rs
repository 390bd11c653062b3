//! What has no meaning for the cluster in memory: connections, forms of discovery, the words of admission plugins.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Passes connections on, and counts them.
async fn counting(target: String) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let target = target.clone();
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(target).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn forty_watches_share_a_connection_apart_from_calls_and_again_after_it_broke() {
    flotilla_testkit::install_tls_provider();
    let plane = shared_clusters(1).await.unwrap()[0];
    let namespace = plane.namespace().await.unwrap();
    let server = plane.server();
    let target = server.strip_prefix("https://").unwrap();
    let proxy = FaultProxy::start(target.parse().unwrap()).unwrap();
    let (address, count) = counting(proxy.address().to_string()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let kubeconfig = std::fs::read_to_string(plane.kubeconfig()).unwrap();
    assert!(kubeconfig.contains(target));
    std::fs::write(&path, kubeconfig.replace(target, &address)).unwrap();

    let cluster = KubeCluster::connect(Some(&path)).await.unwrap();
    let discovery = cluster.discover().await.unwrap();
    let resource = discovery.preferred("", "ConfigMap").unwrap();
    let selector = Selector {
        namespace,
        ..Selector::default()
    };
    let mut watches: Vec<_> = (0..40).map(|_| cluster.watch(resource, &selector)).collect();
    let listing = watches
        .iter_mut()
        .map(|watch| async move { while !matches!(watch.next().await, Some(Ok(WatchEvent::Listed(_)))) {} });
    tokio::time::timeout(Duration::from_secs(60), futures::future::join_all(listing))
        .await
        .unwrap();
    let calls = (0..20).map(|_| cluster.version());
    for version in futures::future::join_all(calls).await {
        version.unwrap();
    }
    assert_eq!(
        count.load(Ordering::Relaxed),
        2,
        "one for calls and one for watches"
    );
}

/// The words of admission plugins, which nothing but its text tells apart.
#[tokio::test]
async fn admission_refuses_what_comes_too_early_in_words_that_say_race() {
    let world = real().await;
    let resource = async |api_version: &str, kind: &str| world.resource(api_version, kind).await;
    let (pods, accounts) = (
        resource("v1", "Pod").await,
        resource("v1", "ServiceAccount").await,
    );
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "v1", "kind": kind, "spec": spec,
            "metadata": {"name": name, "namespace": world.namespace}})
    };
    let pod = |name: &str| {
        let containers = json!([{"name": "c", "image": "example.com/c"}]);
        object(
            "Pod",
            name,
            json!({"serviceAccountName": "own", "containers": containers}),
        )
    };
    let refused = world.cluster.apply(&pods, &pod("a"), false).await;
    let named = matches!(&refused, Err(e) if e.is_race() && e.to_string().contains("service account"));
    assert!(named, "{refused:?}");

    let mut account = object("ServiceAccount", "own", Value::Null);
    account.as_object_mut().unwrap().remove("spec");
    world.apply(&accounts, &account).await;
    let quotas = resource("v1", "ResourceQuota").await;
    let quota = object("ResourceQuota", "q", json!({"hard": {"limits.cpu": "1"}}));
    world.apply(&quotas, &quota).await;
    // Until the plugin knows of the quota, it lets pods pass.
    let count = AtomicUsize::new(0);
    let refused = eventually("the quota asks for limits", || async {
        let name = format!("p{}", count.fetch_add(1, Ordering::Relaxed));
        let refused = world.cluster.apply(&pods, &pod(&name), false).await.err()?;
        refused.to_string().contains("quota").then_some(refused)
    })
    .await;
    assert!(refused.is_race(), "{refused:?}");
}

/// Asks as a client that knows no aggregated discovery.
#[tokio::test]
async fn discovery_one_by_one_finds_what_aggregated_discovery_finds() {
    flotilla_testkit::install_tls_provider();
    let plane = shared_clusters(1).await.unwrap()[0];
    let client = plane.client().await.unwrap();
    let aggregated = KubeCluster::new(client.clone()).discover().await.unwrap();
    let plain = tower::service_fn(move |mut request: http::Request<kube::client::Body>| {
        let json = http::HeaderValue::from_static("application/json");
        request.headers_mut().insert(http::header::ACCEPT, json);
        let client = client.clone();
        async move { client.send(request).await }
    });
    let plain = KubeCluster::new(kube::Client::new(plain, "default"))
        .discover()
        .await
        .unwrap();
    // Other tests define kinds meanwhile.
    let own = |discovery: &Discovery| {
        let mut kinds: Vec<Resource> = discovery.iter().cloned().collect();
        kinds.retain(|kind| !kind.group.ends_with(".example.com"));
        kinds
    };
    assert!(own(&aggregated).len() > 50, "{}", own(&aggregated).len());
    assert_eq!(own(&plain), own(&aggregated));
}
