//! Reads and writes: what is applied is owned and found, and what cannot be is refused in the right words.

use super::*;

pub(crate) async fn an_applied_object_is_found_with_uid_version_and_our_fields(world: World) {
    let resource = world.config_maps().await;
    let applied = world
        .cluster
        .apply(&resource, &world.object("x", json!({"a": "1"})), false)
        .await
        .unwrap();
    let found = world.get(&resource, "x").await.unwrap();
    assert_eq!(found["metadata"]["uid"], applied["metadata"]["uid"]);
    assert!(found["metadata"]["uid"].is_string() && found["metadata"]["resourceVersion"].is_string());
    let (first, second) = (observe(&applied, KEY), observe(&found, KEY));
    assert!(first.projection.is_some());
    assert_eq!(
        first, second,
        "the answer to a write and a later look are judged alike"
    );
}

pub(crate) async fn a_missing_object_is_none_and_a_missing_kind_an_error(world: World) {
    let resource = world.config_maps().await;
    assert_eq!(world.get(&resource, "nowhere").await, None);
    let unserved = Resource {
        group: "nowhere.example.com".into(),
        version: "v1".into(),
        kind: "Nothing".into(),
        plural: "nothings".into(),
        namespaced: true,
        watchable: true,
    };
    let nothing = json!({"apiVersion": "nowhere.example.com/v1", "kind": "Nothing",
        "metadata": {"name": "x", "namespace": world.namespace}});
    let refused = world.cluster.apply(&unserved, &nothing, false).await;
    assert!(
        matches!(refused, Err(ClusterError::NotServed { .. })),
        "{refused:?}"
    );
    let discovery = world.cluster.discover().await.unwrap();
    assert_eq!(discovery.find("nowhere.example.com/v1", "Nothing"), Served::No);
}

pub(crate) async fn a_dry_run_answers_and_stores_nothing(world: World) {
    let resource = world.config_maps().await;
    let answer = world
        .cluster
        .apply(&resource, &world.object("x", json!({"a": "1"})), true)
        .await
        .unwrap();
    assert_eq!(answer["data"]["a"], "1");
    assert_eq!(world.get(&resource, "x").await, None);
}

pub(crate) async fn applying_the_same_again_changes_nothing(world: World) {
    let resource = world.config_maps().await;
    let object = world.object("x", json!({"a": "1"}));
    let first = world.cluster.apply(&resource, &object, false).await.unwrap();
    let second = world.cluster.apply(&resource, &object, false).await.unwrap();
    assert_eq!(
        first["metadata"]["resourceVersion"],
        second["metadata"]["resourceVersion"]
    );
}

pub(crate) async fn a_field_no_longer_applied_is_removed(world: World) {
    let resource = world.config_maps().await;
    world
        .cluster
        .apply(&resource, &world.object("x", json!({"a": "1", "b": "1"})), false)
        .await
        .unwrap();
    let after = world
        .cluster
        .apply(&resource, &world.object("x", json!({"a": "1"})), false)
        .await
        .unwrap();
    assert_eq!(after["data"], json!({"a": "1"}));
}

pub(crate) async fn an_apply_that_names_a_version_is_for_that_one_alone(world: World) {
    let resource = world.config_maps().await;
    let wanted = world.object("x", json!({"a": "1"}));
    let first = world.cluster.apply(&resource, &wanted, false).await.unwrap();
    (world.edit)("editor", "x", "2").await;
    let seen = world.get(&resource, "x").await.unwrap();
    let naming = |of: &Value| {
        let mut wanted = wanted.clone();
        for field in ["uid", "resourceVersion"] {
            wanted["metadata"][field] = of["metadata"][field].clone();
        }
        wanted
    };
    let conflicts = async |object: Value, what: &str| {
        let answer = world.cluster.apply(&resource, &object, false).await;
        let is_conflict = matches!(answer, Err(ClusterError::Rejected { code: 409, .. }));
        assert!(is_conflict, "{what}: {answer:?}");
    };
    conflicts(naming(&first), "an older version").await;
    let back = world
        .cluster
        .apply(&resource, &naming(&seen), false)
        .await
        .unwrap();
    assert_eq!(back["data"]["a"], "1");
    assert_eq!(observe(&back, KEY).digest(), observe(&first, KEY).digest());
    world.delete(&resource, &back).await.unwrap();
    conflicts(naming(&back), "an object that is gone").await;
    assert!(
        world.get(&resource, "x").await.is_none(),
        "it is not created again"
    );
    world.cluster.apply(&resource, &wanted, false).await.unwrap();
    conflicts(naming(&back), "another object of that name").await;
}

/// Preflight's own, and the greatest that is a version.
const NEVER: &str = "9223372036854775807";

pub(crate) async fn an_apply_of_a_version_that_never_was_creates_and_overwrites_nothing(world: World) {
    for (api_version, kind, body) in [
        ("v1", "ConfigMap", json!({"data": {"a": "1"}})),
        ("v1", "Service", json!({"spec": {"ports": [{"port": 80}]}})),
        ("v1", "ServiceAccount", json!({})),
    ] {
        let resource = world.resource(api_version, kind).await;
        let mut wanted = world.object("created", json!({}));
        let fields = wanted.as_object_mut().unwrap();
        fields.remove("data");
        fields.extend(body.as_object().unwrap().clone());
        fields["apiVersion"] = api_version.into();
        fields["kind"] = kind.into();
        wanted["metadata"]["resourceVersion"] = NEVER.into();
        let created = world.apply(&resource, &wanted).await;
        assert_ne!(created["metadata"]["resourceVersion"], NEVER, "{kind}");
        wanted["metadata"]["labels"]["contract"] = "other".into();
        let refused = world.cluster.apply(&resource, &wanted, false).await;
        let is_conflict = matches!(refused, Err(ClusterError::Rejected { code: 409, .. }));
        assert!(is_conflict, "{kind}: {refused:?}");
        let now = world.get(&resource, "created").await;
        let labels = now.map(|now| now["metadata"]["labels"].clone());
        assert_eq!(labels, Some(json!({"contract": "yes"})), "{kind}");
    }
}

pub(crate) async fn anothers_change_of_our_field_takes_it_and_applying_takes_it_back(world: World) {
    let resource = world.config_maps().await;
    let object = world.object("x", json!({"a": "1", "b": "1"}));
    let ours = world.cluster.apply(&resource, &object, false).await.unwrap();
    (world.edit)("editor", "x", "2").await;
    let theirs = world.get(&resource, "x").await.unwrap();
    assert_eq!(theirs["data"]["a"], "2");
    assert_ne!(observe(&theirs, KEY).projection, observe(&ours, KEY).projection);
    let back = world.cluster.apply(&resource, &object, false).await.unwrap();
    assert_eq!(back["data"]["a"], "1");
    assert_eq!(observe(&back, KEY).digest(), observe(&ours, KEY).digest());
}

pub(crate) async fn folded_fields_are_ours_and_a_stale_fold_is_a_conflict(world: World) {
    let resource = world.config_maps().await;
    world
        .cluster
        .apply(&resource, &world.object("x", json!({"b": "1"})), false)
        .await
        .unwrap();
    (world.edit)("kubectl-edit", "x", "2").await;
    let live = world.get(&resource, "x").await.unwrap();
    let fold = Value::Array(managers::fold(&live["metadata"]));
    let patch = |fold: Value| {
        let (cluster, resource, namespace) =
            (world.cluster.clone(), resource.clone(), world.namespace.clone());
        async move { cluster.patch_metadata(&resource, &namespace, "x", &fold).await }
    };
    patch(fold.clone()).await.unwrap();
    let after = world
        .cluster
        .apply(&resource, &world.object("x", json!({"b": "1"})), false)
        .await
        .unwrap();
    assert_eq!(
        after["data"],
        json!({"b": "1"}),
        "what was theirs is ours, and no longer wanted"
    );
    let stale = patch(fold).await;
    assert!(
        matches!(stale, Err(ClusterError::Rejected { code: 409, .. })),
        "{stale:?}"
    );
}

pub(crate) async fn a_namespace_that_is_not_there_is_refused_and_not_unserved(world: World) {
    let resource = world.config_maps().await;
    let mut object = world.object("x", json!({"a": "1"}));
    object["metadata"]["namespace"] = "nowhere-to-be-found".into();
    let refused = world.cluster.apply(&resource, &object, false).await;
    let Err(ClusterError::Rejected {
        code: 404, message, ..
    }) = refused
    else {
        panic!("{refused:?}")
    };
    assert!(message.contains("nowhere-to-be-found"), "{message}");
}

pub(crate) async fn creating_what_exists_is_a_conflict(world: World) {
    let resource = world.config_maps().await;
    let object = world.object("x", json!({"a": "1"}));
    let created = world.cluster.create(&resource, &object).await.unwrap();
    assert!(created["metadata"]["uid"].is_string());
    let again = world.cluster.create(&resource, &object).await;
    assert!(
        matches!(&again, Err(ClusterError::Rejected { code: 409, reason, .. }) if reason == "AlreadyExists"),
        "{again:?}"
    );
}
