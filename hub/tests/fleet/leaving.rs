//! What may be deleted of what has left units: decided by the running hub, once nobody else may want it still.

use std::time::Duration;

use flotilla_core::{
    digest::Digest,
    fleet::departure::{Departure, Request},
    object::ObjectKey,
    removal::{Clearing, DeletionPolicy, closure::Limits},
    unit::Entry,
};
use flotilla_hub::store::{
    closure::Closure,
    leaving::TakenOver,
    report::{ObjectRow, Report, StatusRow},
};
use flotilla_testkit::wait_until;
use sqlx::Connection as _;
use uuid::Uuid;

use crate::{
    hub::Hub,
    releases::hold as tell,
    reports::{object, open, report},
    store::config,
    world::{Rendered, World, applied, resource},
};

const PATIENCE: Duration = Duration::from_secs(30);

fn key(name: &str) -> ObjectKey {
    config(name, "").key
}

/// Stores a content of an app, of objects of these names.
pub(crate) async fn render(world: &World, app: Uuid, revision: i64, names: &[&str]) -> Rendered {
    let objects: Vec<_> = names
        .iter()
        .map(|name| config(name, &revision.to_string()))
        .collect();
    world.render_at(app, revision, &objects).await
}

/// The unit of an app in a cluster: its id, its version and its target.
pub(crate) async fn unit(world: &World, app: Uuid, cluster: Uuid) -> (Uuid, u64, Digest) {
    let (id, version, target): (Uuid, i64, Vec<u8>) =
        sqlx::query_as("SELECT id, version, target FROM unit WHERE app_uid = $1 AND cluster_id = $2")
            .bind(app)
            .bind(cluster)
            .fetch_one(&world.pool)
            .await
            .expect("a unit");
    (
        id,
        version.unsigned_abs(),
        Digest::try_from_slice(&target).expect("32 bytes"),
    )
}

/// What an agent reports of a unit that is applied, and that these objects have left.
async fn left(world: &World, app: Uuid, cluster: Uuid, epoch: u64, names: &[&str]) -> Report {
    let (id, version, target) = unit(world, app, cluster).await;
    let status = StatusRow {
        objects_pending_removal: i32::try_from(names.len()).expect("few"),
        ..applied(id, version, target)
    };
    let objects = names.iter().map(|name| ObjectRow {
        state: Some("PendingRemoval"),
        ..object(id, name)
    });
    Report {
        objects: objects.collect(),
        ..report(cluster, epoch, vec![status])
    }
}

async fn ingest(world: &World, report: Report) {
    world.store.ingest(&[report]).await.expect("ingested");
}

/// What the published entry of a unit permits.
async fn cleared(world: &World, app: Uuid, cluster: Uuid) -> Option<Clearing> {
    let (id, ..) = unit(world, app, cluster).await;
    let desired = world
        .store
        .desired(cluster)
        .await
        .expect("read")
        .expect("published");
    let entry = desired
        .entries
        .iter()
        .find(|entry| entry.unit == id)
        .expect("an entry");
    Entry::from_bytes(&entry.bytes).expect("readable").prune_cleared
}

async fn is_cleared(world: &World, app: Uuid, cluster: Uuid, except: &[&str]) {
    let (_, version, _) = unit(world, app, cluster).await;
    let wanted = Clearing {
        version,
        except: except.iter().map(|name| key(name)).collect(),
    };
    wait_until("the clearing", PATIENCE, async || {
        Ok::<_, String>((cleared(world, app, cluster).await == Some(wanted.clone())).then_some(()))
    })
    .await
    .expect("cleared");
}

/// Waits until the hub says why what has left a unit stays.
async fn waits(world: &World, app: Uuid, why: &str) {
    wait_until("the reason", PATIENCE, async || {
        let said: Option<String> = sqlx::query_scalar("SELECT waits FROM leaving WHERE app_uid = $1")
            .bind(app)
            .fetch_optional(&world.pool)
            .await?;
        Ok::<_, sqlx::Error>(said.filter(|said| said.contains(why)))
    })
    .await
    .expect(why);
}

/// Two apps of one source on one cluster: `a` has x and y, `b` has z. At the next revision y has left `a`, which is applied and
/// reported. Of that revision nothing else is rendered.
pub(crate) struct Two {
    pub(crate) hub: Hub,
    pub(crate) cluster: Uuid,
    pub(crate) epoch: u64,
    pub(crate) a: Uuid,
    pub(crate) b: Uuid,
    next: i64,
}

impl Two {
    pub(crate) async fn new() -> Self {
        let hub = Hub::start().await;
        let world = &hub.world;
        let cluster = world.cluster("c1").await;
        let (a, b) = (world.app("a").await, world.app("b").await);
        let first = world.revision("r1").await;
        for (app, names) in [(a, &["x", "y"][..]), (b, &["z"])] {
            let content = render(world, app, first, names).await;
            world.roll_out(app, &[cluster], &content).await;
        }
        let epoch = open(world, cluster).await;
        let next = world.revision("r2").await;
        let content = render(world, a, next, &["x"]).await;
        world.roll_out(a, &[cluster], &content).await;
        let this = Self {
            cluster,
            epoch,
            a,
            b,
            next,
            hub,
        };
        ingest(this.world(), left(this.world(), a, cluster, epoch, &["y"]).await).await;
        this
    }

    pub(crate) fn world(&self) -> &World {
        &self.hub.world
    }

    /// The other app at the next revision.
    pub(crate) async fn other(&self, names: &[&str]) {
        let content = render(self.world(), self.b, self.next, names).await;
        self.world().roll_out(self.b, &[self.cluster], &content).await;
    }
}

#[tokio::test]
async fn what_has_left_stays_until_each_app_of_its_source_is_planned_and_may_go_then() {
    let two = Two::new().await;
    let world = two.world();
    waits(
        world,
        two.a,
        "HelmRelease/apps/b, of the same source, is being rendered",
    )
    .await;
    assert_eq!(cleared(world, two.a, two.cluster).await, None);
    two.other(&["z"]).await;
    is_cleared(world, two.a, two.cluster, &[]).await;
    // Gone: nothing of it is left here, and nothing is published for that.
    let generation = "SELECT generation FROM desired";
    let before = world.count(generation).await;
    ingest(world, left(world, two.a, two.cluster, two.epoch, &[]).await).await;
    assert_eq!(world.count("SELECT count(*) FROM leaving").await, 0);
    world.is_quiet().await;
    assert_eq!(world.count(generation).await, before);
}

/// A drain removes what is planned to be removed, and no more: what moves to another app may be on its way there.
#[tokio::test]
async fn what_leaves_an_app_of_a_cluster_that_is_drained_waits_for_its_source_as_long_as_the_app_stays() {
    let two = Two::new().await;
    let world = two.world();
    let drain = Some(Departure::Drain);
    let asked = world.store.request_departure("c1", drain, "admin").await;
    assert_eq!(asked.expect("asked"), Some(Request::Taken));
    waits(world, two.a, "is being rendered").await;
    let drained = world.store.leaving(two.a, Uuid::nil(), true).await.expect("read");
    assert!(drained.is_empty(), "{drained:?}");
    let all = world
        .store
        .leaving(two.a, Uuid::nil(), false)
        .await
        .expect("read");
    assert_eq!(
        all.iter().map(|unit| unit.is_drained).collect::<Vec<_>>(),
        [false]
    );
    assert_eq!(cleared(world, two.a, two.cluster).await, None);
}

/// One that waits for another app on one cluster, for months perhaps, keeps nothing on others.
#[tokio::test]
async fn an_app_that_was_known_to_be_held_stops_no_clearing_until_it_is_marked_again_and_one_that_moves_says_so()
 {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    let first = world.revision("r1").await;
    for (app, names) in [(a, &["x", "y"][..]), (b, &["z"])] {
        let content = render(&world, app, first, names).await;
        world.roll_out(app, &[cluster], &content).await;
    }
    let epoch = open(&world, cluster).await;
    let content = render(&world, a, first, &["x"]).await;
    world.roll_out(a, &[cluster], &content).await;
    let reported = left(&world, a, cluster, epoch, &["y"]).await;
    ingest(&world, reported).await;
    let source = world.store.sources_of_apps(&[a, b]).await.expect("read")[&b];
    world.execute("DELETE FROM due WHERE topic = 'app'").await;
    let mark = format!(
        "INSERT INTO due (topic, key) VALUES ('app', '{b}')
         ON CONFLICT (topic, key) DO UPDATE SET change = excluded.change"
    );
    world.execute(&mark).await;
    let change = async || world.count("SELECT change FROM due WHERE topic = 'app'").await;
    let clear = async |held: &[(Uuid, i64)]| {
        let units = world.store.leaving(a, Uuid::nil(), false).await.expect("read");
        assert_eq!(units.len(), 1);
        let closure = Closure {
            source,
            limits: Limits::DEFAULT,
            held: held.iter().copied().collect(),
        };
        let none = TakenOver::new();
        let cleared = world.store.clear(a, &units, &none, Some(&closure), None);
        cleared.await.expect("decided")
    };
    assert_eq!(clear(&[]).await, 0);
    waits(&world, a, "an app of the same source is being planned").await;
    let known = change().await;
    world.execute(&mark).await;
    assert_ne!(change().await, known);
    assert_eq!(clear(&[(b, known)]).await, 0, "it was marked again since");
    assert_eq!(clear(&[(b, change().await)]).await, 1);
    let free = "SELECT count(*) FROM leaving WHERE state = 'Cleared' AND waits = ''";
    assert_eq!(world.count(free).await, 1);
}

#[tokio::test]
async fn what_another_app_takes_over_in_the_same_commit_is_excepted() {
    let two = Two::new().await;
    two.other(&["z", "y"]).await;
    is_cleared(two.world(), two.a, two.cluster, &["y"]).await;
}

#[tokio::test]
async fn a_clearing_is_taken_away_by_who_claims_what_it_is_of_and_is_void_with_the_next_target() {
    let two = Two::new().await;
    let world = two.world();
    two.other(&["z"]).await;
    is_cleared(world, two.a, two.cluster, &[]).await;
    // Of the same revision, so that all of the source is settled.
    let late = world.app("late").await;
    let content = render(world, late, two.next, &["y"]).await;
    world.roll_out(late, &[two.cluster], &content).await;
    assert_eq!(
        cleared(world, two.a, two.cluster).await,
        None,
        "published with what claims it"
    );
    is_cleared(world, two.a, two.cluster, &["y"]).await;
    // It lets go of it again.
    let content = render(world, late, two.next, &["own"]).await;
    world.roll_out(late, &[two.cluster], &content).await;
    is_cleared(world, two.a, two.cluster, &[]).await;
    let content = render(world, two.a, two.next, &["x", "w"]).await;
    world.roll_out(two.a, &[two.cluster], &content).await;
    assert_eq!(cleared(world, two.a, two.cluster).await, None);
}

#[tokio::test]
async fn an_app_that_is_suspended_or_fails_holds_what_leaves_others_of_its_source_where_it_is_placed() {
    let two = Two::new().await;
    let world = two.world();
    let elsewhere = world.cluster("c2").await;
    let content = render(world, two.a, two.next, &["x"]).await;
    world.roll_out(two.a, &[two.cluster, elsewhere], &content).await;
    let epoch = open(world, elsewhere).await;
    world
        .execute(&format!(
            "UPDATE resource SET suspended = true WHERE uid = '{}'",
            two.b
        ))
        .await;
    ingest(world, left(world, two.a, elsewhere, epoch, &["y"]).await).await;
    is_cleared(world, two.a, elsewhere, &[]).await;
    waits(
        world,
        two.a,
        "HelmRelease/apps/b, of the same source, is suspended",
    )
    .await;
    assert_eq!(cleared(world, two.a, two.cluster).await, None);
    world.is_quiet().await;
    // What it would be is known, and is what it is.
    let content = render(world, two.b, two.next, &["z"]).await;
    world.roll_out(two.b, &[two.cluster], &content).await;
    ingest(world, left(world, two.a, two.cluster, two.epoch, &["y"]).await).await;
    world
        .store
        .wake(flotilla_hub::store::Topic::Leaving, &[two.a])
        .await
        .expect("woken");
    is_cleared(world, two.a, two.cluster, &[]).await;
}

/// Within the guards of each app it may be much of the fleet.
#[tokio::test]
async fn what_one_source_takes_of_the_fleet_stays_until_a_person_allows_it_and_what_is_little_goes() {
    let two = Two::new().await;
    let world = two.world();
    two.other(&["z"]).await;
    is_cleared(world, two.a, two.cluster, &[]).await;
    let content = render(world, two.a, two.next, &["w"]).await;
    world.roll_out(two.a, &[two.cluster], &content).await;
    let many: Vec<String> = (0..120).map(|n| format!("m{n}")).collect();
    let mut many: Vec<&str> = many.iter().skip(1).map(String::as_str).collect();
    many.push("y");
    ingest(world, left(world, two.a, two.cluster, two.epoch, &many).await).await;
    waits(world, two.a, "RemovalBlocked: 121 objects of 1 app").await;
    world.is_quiet().await;
    assert_eq!(cleared(world, two.a, two.cluster).await, None);
    let told =
        "SELECT count(*) FROM event WHERE reason = 'RemovalBlocked' AND message LIKE '%flotilla approve%'";
    assert_eq!(world.count(told).await, 1);
    let blocked = world.store.blocked_removals(two.a, "").await.expect("read");
    let [set] = &blocked[..] else {
        panic!("{blocked:?}");
    };
    assert!(set.message.starts_with("RemovalBlocked"), "{}", set.message);
    assert_eq!((set.units.len(), set.total), (1, 120));
    let allowed = world
        .store
        .approve_removals(&set.units, "admin")
        .await
        .expect("allowed");
    assert_eq!(allowed.len(), 1);
    is_cleared(world, two.a, two.cluster, &[]).await;
    assert_eq!(
        world.store.blocked_removals(two.a, "").await.expect("read").len(),
        0
    );
}

#[tokio::test]
async fn nothing_is_cleared_of_what_is_not_all_known_or_not_applied_or_of_an_app_that_does_not_prune() {
    let two = Two::new().await;
    let world = two.world();
    two.other(&["z"]).await;
    is_cleared(world, two.a, two.cluster, &[]).await;
    let content = render(world, two.a, two.next, &["w"]).await;
    world.roll_out(two.a, &[two.cluster], &content).await;
    let mut reported = left(world, two.a, two.cluster, two.epoch, &["x", "y"]).await;
    // Not all are told.
    reported.objects.retain(|row| row.name == "y");
    ingest(world, reported).await;
    waits(world, two.a, "the hub knows 1 of the 2 objects").await;
    // Nor is it applied.
    let mut reported = left(world, two.a, two.cluster, two.epoch, &["x", "y"]).await;
    let applied = reported.units[0].applied.clone();
    reported.units[0].applied = None;
    ingest(world, reported.clone()).await;
    world.is_quiet().await;
    assert_eq!(cleared(world, two.a, two.cluster).await, None);
    reported.units[0].applied = applied;
    ingest(world, reported).await;
    is_cleared(world, two.a, two.cluster, &[]).await;
    // What an app keeps is no reason to look at it.
    world
        .execute(
            "UPDATE target SET settings = settings - 'prune'; DELETE FROM leaving; DELETE FROM unit_status",
        )
        .await;
    ingest(
        world,
        left(world, two.a, two.cluster, two.epoch, &["x", "y"]).await,
    )
    .await;
    assert_eq!(
        world
            .count("SELECT count(*) FROM leaving WHERE state = 'Off'")
            .await,
        1
    );
    assert!(
        world
            .stale(crate::world::INCARNATION, Duration::ZERO)
            .await
            .leaving
            .is_empty()
    );
}

#[tokio::test]
async fn an_app_without_a_source_that_is_deleted_needs_none_and_is_gone_with_its_last_unit() {
    let hub = Hub::start().await;
    let world = &hub.world;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let first = world.revision("r1").await;
    let content = render(world, app, first, &["x"]).await;
    world.roll_out(app, &[cluster], &content).await;
    let epoch = open(world, cluster).await;
    // Planned as the planner would, which leaves apps of this kind alone.
    let nothing = flotilla_core::rollout::removal::nothing();
    world
        .store
        .put_nothing(&nothing, &world.seal)
        .await
        .expect("stored");
    let recorded = world.planning.app_plan(app).await.expect("read");
    let planned = flotilla_core::rollout::removal::plan_removal(
        &recorded.units,
        DeletionPolicy::MirrorPrune,
        false,
        true,
    );
    let next = planned.units[0].clone();
    world.planned(app, &recorded, &planned).await;
    world.publish(cluster).await;
    assert!(
        world
            .store
            .request_deletion(app, DeletionPolicy::MirrorPrune, "admin")
            .await
            .expect("asked")
    );
    world.execute("DELETE FROM due; DELETE FROM app_input").await;
    let mut reported = left(world, app, cluster, epoch, &["x"]).await;
    reported.units[0].objects = 0;
    ingest(world, reported.clone()).await;
    is_cleared(world, app, cluster, &[]).await;
    let entry = |desired: flotilla_hub::store::publish::DesiredRow| desired.entries[0].clone();
    let published = entry(
        world
            .store
            .desired(cluster)
            .await
            .expect("read")
            .expect("published"),
    );
    let read = Entry::from_bytes(&published.bytes).expect("readable");
    assert_eq!(
        (read.prune_approved, read.target),
        (Some(next.target), next.target)
    );
    // All of it is gone, and the agent holds the entry that says so.
    reported.units[0].objects_pending_removal = 0;
    reported.objects.clear();
    let generation = world.count("SELECT generation FROM desired").await.unsigned_abs();
    tell(world, cluster, epoch, generation, Some(&published)).await;
    ingest(world, reported).await;
    wait_until("the entry is let go of", PATIENCE, async || {
        let now = entry(
            world
                .store
                .desired(cluster)
                .await
                .expect("read")
                .expect("published"),
        );
        Ok::<_, String>(now.released.then_some(()))
    })
    .await
    .expect("released");
    let generation = world.count("SELECT generation FROM desired").await.unsigned_abs();
    tell(world, cluster, epoch, generation, None).await;
    wait_until("the app is gone", PATIENCE, async || {
        Ok::<_, String>(
            (world
                .count("SELECT count(*) FROM resource WHERE kind = 'HelmRelease'")
                .await
                == 0)
                .then_some(()),
        )
    })
    .await
    .expect("gone");
    assert_eq!(
        world
            .count("SELECT (SELECT count(*) FROM unit) + (SELECT count(*) FROM desired_entry)")
            .await,
        0
    );
    world.is_quiet().await;
}

#[tokio::test]
async fn apps_that_name_a_source_count_whatever_they_were_rendered_from_last() {
    let world = World::new().await;
    let app = world.app("a").await;
    let first = world.revision("r1").await;
    render(&world, app, first, &["x"]).await;
    let source = world.uid("OCIRepository", "source").await;
    let spec = serde_json::json!({ "sourceRef": { "kind": "OCIRepository", "name": "source" } });
    world
        .apply(&[
            resource("OCIRepository", "other", serde_json::json!({})),
            resource("Kustomization", "moves", spec),
        ])
        .await;
    let (moves, other) = (
        world.uid("Kustomization", "moves").await,
        world.uid("OCIRepository", "other").await,
    );
    let unsettled = async || {
        let rows = world.store.unsettled_apps(&[source]).await.expect("read");
        let names = rows.into_iter().map(|row| (row.app, row.sibling.rendered));
        names.collect::<Vec<_>>()
    };
    world
        .execute(&format!(
            "DELETE FROM due; INSERT INTO app_plan (app_uid) VALUES ('{app}')"
        ))
        .await;
    assert_eq!(unsettled().await, [(moves, false)], "it was never rendered");
    world
        .execute(&format!(
            "INSERT INTO app_input VALUES ('{moves}', '\\x01');
             INSERT INTO input_at (input_key, revision_id, source_uid, fields, rendering, newest)
             SELECT '\\x01', {first}, '{other}', '\\x02', rendering, true FROM input_at LIMIT 1"
        ))
        .await;
    assert_eq!(
        unsettled().await,
        [(moves, false)],
        "it was rendered from another one"
    );
    world
        .execute(&format!(
            "UPDATE input_at SET source_uid = '{source}' WHERE input_key = '\\x01'"
        ))
        .await;
    world
        .execute(&format!("INSERT INTO app_plan (app_uid) VALUES ('{moves}')"))
        .await;
    assert_eq!(unsettled().await, []);
    // A suspended one is rendered as well, and looked at for what it would take over.
    world
        .execute(&format!(
            "UPDATE resource SET suspended = true WHERE uid = '{moves}'"
        ))
        .await;
    assert_eq!(unsettled().await, [(moves, true)]);
}

/// What an agent enforces it refuses to see go: it would take no state any more, once it is back with a new token.
#[tokio::test]
async fn an_app_that_is_deleted_waits_for_a_cluster_whose_agent_was_revoked_and_for_none_that_never_had_one()
{
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let world = &hub.world;
    let never = world.cluster("c2").await;
    let apps = [
        (world.app("a").await, agent.cluster),
        (world.app("b").await, never),
    ];
    for (app, cluster) in apps {
        let content = world.render(app, "r1", &[config(&app.to_string(), "a: 1")]).await;
        world.roll_out(app, &[cluster], &content).await;
    }
    open(world, agent.cluster).await;
    let revoked = flotilla_hub::store::cluster::Decision::Revoke;
    world
        .store
        .decide_cluster("c1", revoked, "admin")
        .await
        .expect("asked");
    let nothing = flotilla_core::rollout::removal::nothing();
    world
        .store
        .put_nothing(&nothing, &world.seal)
        .await
        .expect("stored");
    for (app, cluster) in apps {
        let recorded = world.planning.app_plan(app).await.expect("read");
        let planned = flotilla_core::rollout::removal::plan_removal(
            &recorded.units,
            DeletionPolicy::Orphan,
            false,
            true,
        );
        world.planned(app, &recorded, &planned).await;
        world.publish(cluster).await;
        assert!(
            world
                .store
                .request_deletion(app, DeletionPolicy::Orphan, "admin")
                .await
                .expect("asked")
        );
    }
    world.execute("DELETE FROM due").await;
    let left = || world.count("SELECT count(*) FROM resource WHERE kind = 'HelmRelease'");
    let both = apps.map(|(app, _)| app);
    let wake = || world.store.wake(flotilla_hub::store::Topic::Leaving, &both);
    wait_until("one is gone", PATIENCE, async || {
        wake().await.map_err(|e| e.to_string())?;
        Ok::<_, String>((left().await == 1).then_some(()))
    })
    .await
    .expect("gone");
    wake().await.expect("woken");
    world.is_quiet().await;
    assert_eq!(world.uid("HelmRelease", "a").await, apps[0].0);
    assert_eq!(left().await, 1);
}

#[tokio::test]
async fn a_hub_that_is_restored_goes_on_with_no_deletion_of_its_backup() {
    let world = World::new().await;
    world
        .store
        .hub("fleet.test", crate::world::INCARNATION)
        .await
        .expect("a row");
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let first = world.revision("r1").await;
    let content = render(&world, app, first, &["x"]).await;
    world.roll_out(app, &[cluster], &content).await;
    let nothing = flotilla_core::rollout::removal::nothing();
    world
        .store
        .put_nothing(&nothing, &world.seal)
        .await
        .expect("stored");
    let recorded = world.planning.app_plan(app).await.expect("read");
    let planned =
        flotilla_core::rollout::removal::plan_removal(&recorded.units, DeletionPolicy::Delete, false, true);
    world.planned(app, &recorded, &planned).await;
    assert!(
        world
            .store
            .request_deletion(app, DeletionPolicy::Delete, "admin")
            .await
            .expect("asked")
    );
    let drain = Some(Departure::Drain);
    let asked = world.store.request_departure("c1", drain, "admin").await;
    assert_eq!(asked.expect("asked"), Some(Request::Taken));
    let mut connection = sqlx::PgConnection::connect_with(&world.options())
        .await
        .expect("connected");
    let now = time::OffsetDateTime::now_utc();
    flotilla_hub::store::restore::finish(&mut connection, now)
        .await
        .expect("restored");
    assert_eq!(world.store.deletion(app).await.expect("read"), None);
    assert_eq!(world.store.departing(cluster).await.expect("read"), None);
    assert_eq!(
        world
            .count("SELECT count(*) FROM unit WHERE state = 'Detached' AND removal IS NULL")
            .await,
        1
    );
    assert_eq!(world.count("SELECT count(*) FROM unit").await, 1);
}

#[tokio::test]
async fn what_follows_from_a_deletion_is_told_by_name() {
    let world = World::new().await;
    let spec = serde_json::json!({ "sourceRef": { "kind": "OCIRepository", "name": "source" } });
    let placement = serde_json::json!({
        "apps": [{ "kind": "Kustomization", "name": "a", "namespace": "apps" }],
        "clusters": { "names": ["c1"] },
    });
    world
        .apply(&[
            resource("Kustomization", "a", spec),
            resource("OCIRepository", "source", serde_json::json!({})),
            resource("Placement", "all", placement),
        ])
        .await;
    let preview = async |kind: &str, name: &str| {
        let told = world
            .store
            .deletion_preview(world.uid(kind, name).await)
            .await
            .expect("told");
        (told.used_by, told.places)
    };
    let none = Vec::<String>::new;
    let app = || vec!["Kustomization/apps/a".to_owned()];
    assert_eq!(preview("OCIRepository", "source").await, (app(), none()));
    assert_eq!(preview("Placement", "all").await, (none(), app()));
}
