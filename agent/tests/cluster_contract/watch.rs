//! Watches and lists.

use super::*;

pub(crate) async fn next(events: &mut BoxStream<'static, Result<WatchEvent, ClusterError>>) -> WatchEvent {
    tokio::time::timeout(Duration::from_secs(20), events.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

/// The next event about an object of this namespace: clusters are shared.
pub(crate) async fn next_of(
    world: &World,
    events: &mut BoxStream<'static, Result<WatchEvent, ClusterError>>,
) -> (&'static str, String) {
    loop {
        let (what, object) = match next(events).await {
            WatchEvent::Listing => return ("listing", String::new()),
            WatchEvent::Listed(_) => return ("listed", String::new()),
            WatchEvent::WentBack => return ("went back", String::new()),
            WatchEvent::Present(object) => ("present", object),
            WatchEvent::Gone(object) => ("gone", object),
        };
        assert_eq!(object["kind"], "ConfigMap");
        if object["metadata"]["namespace"] == world.namespace.as_str() {
            return (what, object["metadata"]["name"].as_str().unwrap().to_owned());
        }
    }
}

pub(crate) async fn a_watch_lists_then_follows_and_leaves_out_what_is_not_selected(world: World) {
    let resource = world.config_maps().await;
    let mut unmarked = world.object("unmarked", json!({"a": "1"}));
    unmarked["metadata"].as_object_mut().unwrap().remove("labels");
    world.cluster.apply(&resource, &unmarked, false).await.unwrap();
    world
        .cluster
        .apply(&resource, &world.object("before", json!({"a": "1"})), false)
        .await
        .unwrap();
    let selector = Selector {
        namespace: String::new(),
        labels: "contract".to_owned(),
        ..Selector::default()
    };
    let mut events = world.cluster.watch(&resource, &selector);
    let expected = |what: &'static str, name: &str| (what, name.to_owned());
    assert_eq!(next_of(&world, &mut events).await, expected("listing", ""));
    assert_eq!(next_of(&world, &mut events).await, expected("present", "before"));
    assert_eq!(next_of(&world, &mut events).await, expected("listed", ""));
    world
        .cluster
        .apply(&resource, &world.object("after", json!({"a": "1"})), false)
        .await
        .unwrap();
    assert_eq!(next_of(&world, &mut events).await, expected("present", "after"));
    (world.edit)("editor", "before", "2").await;
    assert_eq!(next_of(&world, &mut events).await, expected("present", "before"));
    (world.delete)("before").await;
    assert_eq!(next_of(&world, &mut events).await, expected("gone", "before"));
}

pub(crate) async fn a_watch_of_metadata_has_types_and_no_bodies(world: World) {
    let resource = world.config_maps().await;
    world
        .apply(&resource, &world.object("x", json!({"a": "1"})))
        .await;
    let selector = Selector {
        namespace: world.namespace.clone(),
        labels: "contract".to_owned(),
        metadata_only: true,
        ..Selector::default()
    };
    let mut events = world.cluster.watch(&resource, &selector);
    assert!(matches!(next(&mut events).await, WatchEvent::Listing));
    let WatchEvent::Present(listed) = next(&mut events).await else {
        panic!("it is there")
    };
    assert!(matches!(next(&mut events).await, WatchEvent::Listed(_)));
    (world.edit)("editor", "x", "2").await;
    let WatchEvent::Present(changed) = next(&mut events).await else {
        panic!("it has changed")
    };
    for object in [listed, changed] {
        assert_eq!(
            (&object["apiVersion"], &object["kind"]),
            (&json!("v1"), &json!("ConfigMap"))
        );
        assert_eq!(object["metadata"]["name"], "x");
        assert_eq!(object.get("data"), None);
    }
}

pub(crate) async fn a_list_by_label_has_bodies_and_one_of_metadata_has_none(world: World) {
    let resource = world.config_maps().await;
    for number in 0..12 {
        let mut object = world.object(&format!("x{number:02}"), json!({"a": "1"}));
        object["metadata"]["labels"]["number"] = (number % 2).to_string().into();
        world.apply(&resource, &object).await;
    }
    let selector = Selector {
        namespace: world.namespace.clone(),
        labels: "contract=yes,number=1".to_owned(),
        ..Selector::default()
    };
    let page = world
        .cluster
        .list_selected(&resource, &selector, "")
        .await
        .unwrap();
    let names: Vec<&str> = page
        .items
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    assert_eq!(names, ["x01", "x03", "x05", "x07", "x09", "x11"]);
    assert_eq!(
        (
            page.items[0]["kind"].as_str(),
            page.items[0]["data"]["a"].as_str()
        ),
        (Some("ConfigMap"), Some("1"))
    );
    let (mut token, mut listed) = (String::new(), Vec::new());
    loop {
        let page = world
            .cluster
            .list(&resource, &world.namespace, &token)
            .await
            .unwrap();
        listed.extend(page.items);
        token = page.next;
        if token.is_empty() {
            break;
        }
    }
    listed.retain(|item| item["metadata"]["labels"]["contract"] == "yes");
    assert_eq!(listed.len(), 12);
    assert!(
        listed
            .iter()
            .all(|item| item.get("data").is_none() && item["kind"] == "ConfigMap")
    );
}
