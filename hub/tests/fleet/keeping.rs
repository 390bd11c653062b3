//! What is kept for apps is decided by what was read, and written where that still holds: of two that decide at once the second
//! decides again.

use flotilla_core::{digest::Digest, object::ObjectKey, removal::DeletionPolicy};
use flotilla_hub::store::{StoreError, apply::NewResource, nest::Keep, resource::ResourceRow};
use serde_json::json;
use uuid::Uuid;

use crate::{
    reports::{open, report},
    store::config,
    world::{World, applied, resource},
};

/// Two apps in the scope of a cluster, which has applied them.
struct Two {
    world: World,
    cluster: Uuid,
    apps: [Uuid; 2],
}

fn key(of: &NewResource) -> ObjectKey {
    ObjectKey::new(&of.group, &of.kind, &of.namespace, &of.name)
}

impl Two {
    async fn new() -> Self {
        let world = World::new().await;
        let cluster = world.cluster("c1").await;
        let epoch = open(&world, cluster).await;
        let revision = world.revision("1").await;
        let mut apps = [Uuid::nil(); 2];
        for (app, name) in apps.iter_mut().zip(["a", "b"]) {
            world.apply(&[of_cluster(cluster, "HelmRelease", name)]).await;
            *app = sqlx::query_scalar("SELECT uid FROM resource WHERE kind = 'HelmRelease' AND name = $1")
                .bind(name)
                .fetch_one(&world.pool)
                .await
                .expect("there");
            let content = world.render_at(*app, revision, &[config(name, "1")]).await;
            world.roll_out(*app, &[cluster], &content).await;
            let (unit, version, target): (Uuid, i64, Vec<u8>) =
                sqlx::query_as("SELECT id, version, target FROM unit WHERE app_uid = $1")
                    .bind(*app)
                    .fetch_one(&world.pool)
                    .await
                    .expect("a unit");
            let target = Digest::try_from_slice(&target).expect("a digest");
            let status = applied(unit, version.unsigned_abs(), target);
            let said = report(cluster, epoch, vec![status]);
            world.store.ingest(&[said]).await.expect("ingested");
        }
        Self { world, cluster, apps }
    }

    async fn app(&self, place: usize) -> (ResourceRow, u64) {
        let uid = self.apps[place];
        let row = self
            .world
            .store
            .resource(uid)
            .await
            .expect("read")
            .expect("there");
        let plan = self.world.planning.app_plan(uid).await.expect("a plan");
        (row, plan.version)
    }

    /// Keeps one object for an app, as it was read.
    async fn keep(&self, (app, version): &(ResourceRow, u64), one: &NewResource) -> Result<(), StoreError> {
        let keep = Keep {
            app,
            version: *version,
            kept: None,
            cluster: self.cluster,
            resources: std::slice::from_ref(one),
            own: &[key(one)],
            take: &[],
            hand_over: &[],
            wants: &[],
            release: &[],
            delete: &[],
            made_from: Some(Digest::of("test", b"x")),
        };
        self.world.planning.keep(&keep, &self.world.seal).await
    }

    async fn owner(&self, name: &str) -> Option<Uuid> {
        sqlx::query_scalar("SELECT owner FROM resource WHERE name = $1 AND scope = $2")
            .bind(name)
            .bind(self.cluster)
            .fetch_one(&self.world.pool)
            .await
            .expect("there")
    }
}

fn of_cluster(cluster: Uuid, kind: &str, name: &str) -> NewResource {
    NewResource {
        scope: cluster,
        ..resource(kind, name, json!({}))
    }
}

#[tokio::test]
async fn of_two_apps_that_keep_one_object_at_once_the_second_decides_again_and_has_nothing_of_it() {
    let two = Two::new().await;
    let (a, b) = (two.app(0).await, two.app(1).await);
    let shared = of_cluster(two.cluster, "Alert", "shared");
    two.keep(&a, &shared).await.expect("kept");
    // It has found nothing, and would change nothing of it.
    let late = two.keep(&b, &shared).await.expect_err("it is another app's");
    assert!(matches!(late, StoreError::Conflict(_)), "{late:?}");
    assert_eq!(two.owner("shared").await, Some(two.apps[0]));
    let done = format!(
        "SELECT count(*) FROM nesting WHERE app_uid = '{}' AND made_from IS NOT NULL",
        two.apps[1]
    );
    assert_eq!(two.world.count(&done).await, 0);
}

#[tokio::test]
async fn of_two_apps_that_render_each_other_at_once_only_one_keeps_the_other() {
    let two = Two::new().await;
    let (a, b) = (two.app(0).await, two.app(1).await);
    let [of_a, of_b] = ["a", "b"].map(|name| of_cluster(two.cluster, "HelmRelease", name));
    two.keep(&a, &of_b).await.expect("kept");
    let ring = two.keep(&b, &of_a).await.expect_err("it closes the ring");
    assert!(matches!(ring, StoreError::Conflict(_)), "{ring:?}");
    assert_eq!(
        (two.owner("a").await, two.owner("b").await),
        (None, Some(two.apps[0]))
    );
}

/// A hub that has stood still since it has read that an app is to be deleted.
#[tokio::test]
async fn nothing_that_is_kept_goes_with_an_app_that_was_applied_again_or_is_to_be_let_go_of() {
    let two = Two::new().await;
    two.keep(&two.app(0).await, &of_cluster(two.cluster, "Alert", "kept"))
        .await
        .expect("kept");
    let (app, store) = (two.apps[0], &two.world.planning);
    let asked = store
        .request_deletion(app, DeletionPolicy::Delete, "somebody")
        .await;
    assert!(asked.expect("asked"));
    let (deleting, version) = two.app(0).await;
    let asked = store
        .request_deletion(app, DeletionPolicy::Orphan, "somebody")
        .await;
    assert!(asked.expect("asked"));
    let late = store
        .delete_kept(&deleting, version)
        .await
        .expect_err("another policy");
    assert!(matches!(late, StoreError::Conflict(_)), "{late:?}");
    two.world
        .apply(&[of_cluster(two.cluster, "HelmRelease", "a")])
        .await;
    let (_, version) = two.app(0).await;
    let late = store
        .delete_kept(&deleting, version)
        .await
        .expect_err("it is wanted");
    assert!(matches!(late, StoreError::Conflict(_)), "{late:?}");
    let late = store
        .release_kept(&deleting, version)
        .await
        .expect_err("it is wanted");
    assert!(matches!(late, StoreError::Conflict(_)), "{late:?}");
    assert_eq!(two.owner("kept").await, Some(app));
}

/// What is renamed is dropped under one name and kept under another one, which may not be there yet.
#[tokio::test]
async fn of_what_a_parent_drops_it_is_known_what_else_it_keeps_and_whether_a_person_has_asked() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let mut uids = Vec::new();
    for name in ["parent", "old", "new"] {
        world.apply(&[of_cluster(cluster, "Kustomization", name)]).await;
        let uid: Uuid =
            sqlx::query_scalar("SELECT uid FROM resource WHERE kind = 'Kustomization' AND name = $1")
                .bind(name)
                .fetch_one(&world.pool)
                .await
                .expect("there");
        uids.push(uid);
    }
    let (parent, old) = (uids[0], uids[1]);
    let owned = format!("UPDATE resource SET owner = '{parent}' WHERE name IN ('old', 'new')");
    world.execute(&owned).await;
    let beside = async || {
        let beside = world.store.unsettled_beside(&[old]).await.expect("read");
        let each = beside
            .into_values()
            .flatten()
            .map(|one| (one.app, one.due, one.rendered));
        each.collect::<Vec<_>>()
    };
    let dropped = format!("SELECT count(*) FROM resource WHERE uid = '{old}' AND is_dropped(uid)");
    assert_eq!((beside().await, world.count(&dropped).await), (vec![], 0));
    world
        .execute(
            "UPDATE resource SET deleting_at = now(), deletion_policy = 'MirrorPrune',
             deletion_by = 'Kustomization/apps/parent' WHERE name = 'old'",
        )
        .await;
    let waits = ("Kustomization/apps/new".to_owned(), true, false);
    assert_eq!((beside().await, world.count(&dropped).await), (vec![waits], 1));
    // Somebody deletes the parent, and so all of it.
    world
        .execute(
            "UPDATE resource SET deleting_at = now(), deletion_policy = 'MirrorPrune', deletion_by = 'somebody'
             WHERE name = 'parent'",
        )
        .await;
    assert_eq!(world.count(&dropped).await, 0);
    world
        .execute("UPDATE resource SET owner = NULL WHERE name = 'new'")
        .await;
    assert!(beside().await.is_empty());
}
