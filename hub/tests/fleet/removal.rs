//! What is kept of deletions and removals: it reads back as it was written, and nothing is removed by it.

use flotilla_core::{
    digest::Digest,
    removal::{DeletionPolicy, Removal},
    rollout::removal::plan_removal,
    unit::{Entry, UnitState},
};
use flotilla_hub::store::{
    approval::BlockedUnit,
    report::{ObjectRow, Report, StatusRow},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    reports::{object, open, report},
    store::{config, one_unit},
    world::{World, applied, resource},
};

#[tokio::test]
async fn a_units_removal_reads_back_with_its_policy_and_approval_and_is_published_so() {
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
    assert_eq!(
        (entry.state, entry.prune_approved),
        (UnitState::Removing(removal), Some(target))
    );
    // A plan of an app that is not to be deleted keeps what is left, and takes it back where it is chosen.
    let content = world.render(app, "c1", &[config("x", "a: 1")]).await;
    let planned = world.gather(app, &[], &content).await.planned;
    assert_eq!(planned.units[0].state, UnitState::Detached);
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
async fn what_guards_stop_is_listed_and_allowed_for_the_target_and_version_that_was_shown_alone() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, first) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let stopped = async |version: u64, target: Digest| {
        let status = StatusRow {
            ready: "False",
            reason: "PruneBlocked".into(),
            message: "a guard stopped it".into(),
            objects_pending_removal: 1,
            ..applied(unit, version, target)
        };
        let left = ObjectRow {
            state: Some("PendingRemoval"),
            ..object(unit, "y")
        };
        let report = Report {
            objects: vec![left],
            ..report(cluster, epoch, vec![status])
        };
        world.store.ingest(&[report]).await.expect("ingested");
    };
    let blocked = async |cluster: &str| world.store.blocked_removals(app, cluster).await.expect("listed");
    let approve = async |units: &[BlockedUnit]| {
        let approved = world.store.approve_removals(units, "admin").await;
        approved.expect("asked")
    };
    let allowed = async || {
        world.publish(cluster).await;
        let desired = world
            .store
            .desired(cluster)
            .await
            .expect("read")
            .expect("published");
        Entry::from_bytes(&desired.entries[0].bytes)
            .expect("an entry")
            .prune_approved
    };
    let waits = async |cluster: &str| {
        let waits = world.store.allowed_removals(app, cluster).await.expect("listed");
        let waits = waits
            .into_iter()
            .map(|one| (one.cluster, one.principal, one.total));
        waits.collect::<Vec<_>>()
    };
    let by_admin = [("c1".to_owned(), "admin".to_owned(), 1)];
    assert!(blocked("").await.is_empty());
    stopped(1, first).await;
    assert!(waits("").await.is_empty());
    let shown = blocked("").await;
    assert_eq!(shown[0].objects[0].name, "y");
    assert_eq!(shown[0].message, "a guard stopped it");
    let units = shown[0].units.clone();
    assert!(blocked("elsewhere").await.is_empty());
    let other = BlockedUnit {
        target: Digest::of("target", b"other"),
        ..units[0].clone()
    };
    assert!(approve(&[other]).await.is_empty());
    assert_eq!(allowed().await, None);
    assert_eq!(approve(&units).await, [unit]);
    assert_eq!(allowed().await, Some(first));
    assert!(blocked("").await.is_empty(), "it is decided");
    assert_eq!(waits("").await, by_admin);
    assert_eq!(
        (waits("c1").await, waits("elsewhere").await),
        (by_admin.to_vec(), vec![])
    );
    // The same target once more is another decision.
    let next = world.render(app, "r2", &[config("x", "a: 2")]).await;
    world.roll_out(app, &[cluster], &next).await;
    assert_eq!(allowed().await, None, "it was for what the unit was");
    assert!(waits("").await.is_empty(), "nothing of that is allowed");
    let again = world.render(app, "c1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[cluster], &again).await;
    assert_eq!(allowed().await, None);
    assert!(approve(&units).await.is_empty());
    stopped(3, first).await;
    let units = blocked("c1").await[0].units.clone();
    assert_eq!(approve(&units).await, [unit]);
    assert_eq!(allowed().await, Some(first));
    let audited = "SELECT count(*) FROM audit WHERE verb = 'removal.approve' AND principal = 'admin'";
    assert_eq!(world.count(audited).await, 2);
    let told = "SELECT count(*) FROM event WHERE reason = 'RemovalApproved'";
    assert_eq!(world.count(told).await, 2);
    // Its agent is at it.
    assert_eq!(waits("").await, by_admin);
    let done = report(cluster, epoch, vec![applied(unit, 3, first)]);
    world.store.ingest(&[done]).await.expect("ingested");
    assert!(waits("").await.is_empty());
}

/// Whatever it is to become is planned later, and may have to be rendered first.
#[tokio::test]
async fn an_app_that_is_applied_again_is_not_deleted_any_more_at_once() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let recorded = world.planning.app_plan(app).await.expect("read");
    assert!(
        world
            .store
            .request_deletion(app, DeletionPolicy::Delete, "admin")
            .await
            .expect("asked")
    );
    let removal = serde_json::to_string(&Removal {
        policy: DeletionPolicy::Delete,
        approval: Some(target),
    });
    let removal = removal.expect("JSON");
    world
        .execute(&format!(
            "UPDATE unit SET state = 'Removing', removal = '{removal}' WHERE id = '{unit}'"
        ))
        .await;
    world.app("a").await;
    assert_eq!(world.store.deletion(app).await.expect("read"), None);
    world.publish(cluster).await.expect("published");
    let desired = world
        .store
        .desired(cluster)
        .await
        .expect("read")
        .expect("published");
    let entry = Entry::from_bytes(&desired.entries[0].bytes).expect("an entry");
    assert_eq!((entry.state, entry.prune_approved), (UnitState::Detached, None));
    // A plan that was made to go on with it comes too late.
    let planned = plan_removal(&recorded.units, DeletionPolicy::Delete, false, true);
    assert!(world.try_planned(app, &recorded, &planned).await.is_err());
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
