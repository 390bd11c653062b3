//! Requests made as another account.

use super::*;

pub(crate) async fn an_account_without_rights_is_refused_and_never_served_as_the_agent(world: World) {
    let resource = world.config_maps().await;
    let object = world.object("x", json!({"a": "1"}));
    world.apply(&resource, &object).await;
    let account = Account::ServiceAccount {
        namespace: world.namespace.clone(),
        name: "nobody".to_owned(),
    };
    let cluster = world.cluster.acting_as(&account);
    assert!(
        !cluster.discover().await.unwrap().is_empty(),
        "everybody may see what is served"
    );
    let selector = Selector {
        namespace: world.namespace.clone(),
        ..Selector::default()
    };
    let preconditions = Preconditions {
        uid: "x".to_owned(),
        resource_version: "1".to_owned(),
    };
    let namespace = &world.namespace;
    let refusals = [
        cluster.get(&resource, namespace, "x").await.err(),
        cluster.list(&resource, namespace, "").await.err(),
        cluster.list_selected(&resource, &selector, "").await.err(),
        cluster.apply(&resource, &object, false).await.err(),
        cluster.apply(&resource, &object, true).await.err(),
        cluster.create(&resource, &object).await.err(),
        cluster
            .patch_metadata(&resource, namespace, "x", &json!([]))
            .await
            .err(),
        cluster
            .delete(&resource, namespace, "x", &preconditions, Propagation::Background)
            .await
            .err(),
        cluster.uid().await.err(),
        tokio::time::timeout(
            Duration::from_secs(30),
            // A list is announced before it is asked for, and again when it is tried again.
            cluster
                .watch(&resource, &selector)
                .filter(|event| std::future::ready(event.is_err()))
                .next(),
        )
        .await
        .unwrap()
        .unwrap()
        .err(),
    ];
    for (position, refusal) in refusals.into_iter().enumerate() {
        assert!(
            matches!(refusal, Some(ClusterError::Rejected { code: 403, .. })),
            "{position}: {refusal:?}"
        );
    }
    assert!(
        world.get(&resource, "x").await.is_some(),
        "the agent itself still may"
    );
}
