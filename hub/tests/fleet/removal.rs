//! What is kept of deletions and removals: it reads back as it was written, and nothing is removed by it.

use flotilla_core::{
    digest::Digest,
    removal::{DeletionPolicy, Removal},
    unit::{Entry, UnitState},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    store::{config, one_unit},
    world::{World, resource},
};

#[tokio::test]
async fn a_units_removal_reads_back_with_its_policy_and_approval_and_is_published_as_held() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let recorded = async || world.store.app_plan(app).await.expect("read").units[0].clone();
    let removal = Removal {
        policy: DeletionPolicy::WaitForTermination,
        approval: Some(target),
    };
    let text = serde_json::to_string(&removal).expect("JSON");
    world
        .execute(&format!(
            "UPDATE unit SET state = 'Removing', removal = '{text}' WHERE id = '{unit}';
             INSERT INTO unpublished VALUES ('{cluster}', '{unit}')"
        ))
        .await;
    assert_eq!(recorded().await.state, UnitState::Removing(removal));
    world.publish(cluster).await.expect("published");
    let desired = world
        .store
        .desired(cluster)
        .await
        .expect("read")
        .expect("published");
    let entry = Entry::from_bytes(&desired.entries[0].bytes).expect("an entry");
    assert_eq!(entry.state, UnitState::Detached, "nothing removes anything yet");
    // A plan that does not choose its cluster leaves it; one that does takes it back.
    let content = world.render(app, "c1", &[config("x", "a: 1")]).await;
    assert!(world.gather(app, &[], &content).await.planned.units.is_empty());
    world.roll_out(app, &[cluster], &content).await;
    assert_eq!(recorded().await.state, UnitState::Active);
    let left = "SELECT count(*) FROM unit WHERE removal IS NOT NULL";
    assert_eq!(world.count(left).await, 0);
    // What this release does not know is held.
    world
        .execute(&format!(
            "UPDATE unit SET state = 'Removing', removal = '{{\"policy\": \"Shred\"}}' WHERE id = '{unit}'"
        ))
        .await;
    assert_eq!(recorded().await.state, UnitState::Detached);
}

#[tokio::test]
async fn a_removal_is_allowed_for_the_target_that_it_names_and_for_no_other() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, first) = one_unit(&world, "c1", app).await;
    let approve = async |target: Digest| {
        world
            .store
            .approve_removal(unit, target, "admin")
            .await
            .expect("asked")
    };
    let approved = async || world.store.removal_approval(unit).await.expect("read");
    assert_eq!(approved().await, None);
    assert!(!approve(Digest::of("target", b"other")).await);
    assert!(approve(first).await && approve(first).await);
    assert_eq!(approved().await, Some(first));
    let next = world.render(app, "r2", &[config("x", "a: 2")]).await;
    world.roll_out(app, &[cluster], &next).await;
    assert_eq!(approved().await, None, "it was for what the unit was");
    assert!(!approve(first).await);
    let audited = "SELECT count(*) FROM audit WHERE verb = 'removal.approve' AND principal = 'admin'";
    assert_eq!(world.count(audited).await, 2);
}

#[tokio::test]
async fn a_request_to_delete_is_kept_with_its_time_and_policy_and_deletes_nothing() {
    let world = World::new().await;
    let app = world.app("a").await;
    assert_eq!(world.store.deletion(app).await.expect("read"), None);
    let request = async |uid, policy| {
        world
            .store
            .request_deletion(uid, policy, "admin")
            .await
            .expect("asked")
    };
    assert!(!request(Uuid::nil(), DeletionPolicy::Delete).await);
    assert!(request(app, DeletionPolicy::Delete).await);
    let first = world.store.deletion(app).await.expect("read").expect("asked for");
    assert!(request(app, DeletionPolicy::Orphan).await);
    let last = world.store.deletion(app).await.expect("read").expect("asked for");
    assert_eq!((last.at, last.policy), (first.at, Some(DeletionPolicy::Orphan)));
    assert!(world.store.resource(app).await.expect("read").is_some());
    world
        .execute("UPDATE resource SET deletion_policy = 'Shred'")
        .await;
    let newer = world.store.deletion(app).await.expect("read").expect("asked for");
    assert_eq!(newer.policy, None);
}

#[tokio::test]
async fn an_annotation_set_by_a_command_stays_until_an_apply_changes_that_one() {
    let world = World::new().await;
    let object = |owners: &str, both: &str| {
        let mut one = resource("Placement", "a", json!({}));
        one.annotations = json!({ "owners": owners, "both": both });
        one
    };
    world.apply(&[object("1", "1")]).await;
    let uid = world.uid("Placement", "a").await;
    let read = async || {
        let row = world.store.resource(uid).await.expect("read").expect("there");
        row.annotations
    };
    for (name, value) in [("both", "mine"), ("more", "mine")] {
        world
            .store
            .annotate(uid, name, value, "admin")
            .await
            .expect("set");
    }
    world.apply(&[object("2", "1")]).await;
    assert_eq!(
        read().await,
        json!({ "owners": "2", "both": "mine", "more": "mine" })
    );
    let unchanged = world.apply(&[object("2", "1")]).await;
    assert_eq!(unchanged, [flotilla_hub::store::apply::Action::Unchanged]);
    world.apply(&[object("2", "3")]).await;
    assert_eq!(
        read().await,
        json!({ "owners": "2", "both": "3", "more": "mine" })
    );
}
