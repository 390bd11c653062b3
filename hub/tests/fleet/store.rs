//! What the store promises: one transaction per decision, wake-ups that are not lost, claims that exclude each
//! other.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flotilla_api::Kind;
use flotilla_core::{
    claim::Claims,
    digest::Digest,
    id::ClusterId,
    rollout::{plan::Planned, waiting::Waiting},
    unit::{Entry, UnitState},
};
use flotilla_hub::store::{
    StoreError, Topic,
    apply::{Action, NewResource},
    content::Blob,
    outbox::Nudge,
    plan::Commit,
    query::{ResourceFilter, UnitFilter, UnitView},
    resource::FLEET,
    retention::{KEPT, Removed},
    session::Opening,
};
use flotilla_testkit::wait_until;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::reports::{open_as, opening};
use crate::world::{INCARNATION, Object, World, named, resource, secret};

const PATIENCE: Duration = Duration::from_secs(20);
const CANARY: &str = "cAnArY-7f3a9c1e5b2d8046-zq";

pub(crate) fn config(name: &str, text: &str) -> Object {
    Object::new("ConfigMap", name, text)
}

/// Makes the next insert or update of `table` fail.
pub(crate) async fn break_table(world: &World, table: &str) {
    world
        .execute(&format!(
            "CREATE OR REPLACE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'crash'; END $$;
             CREATE TRIGGER crash BEFORE INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION crash()"
        ))
        .await;
}

pub(crate) async fn mend_table(world: &World, table: &str) {
    world.execute(&format!("DROP TRIGGER crash ON {table}")).await;
}

#[tokio::test]
async fn apply_stores_all_or_nothing_and_a_dry_run_tells_without_storing() {
    let world = World::new().await;
    let both = [
        resource("Placement", "a", json!({"n": 1})),
        resource("Placement", "b", json!({})),
    ];
    let told = world
        .store
        .apply(&both, &world.seal, "test", true)
        .await
        .expect("told");
    assert_eq!(told, [Action::Created, Action::Created]);
    assert_eq!(world.count("SELECT count(*) FROM resource").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 0);
    for table in ["resource", "outbox"] {
        break_table(&world, table).await;
        assert!(
            world
                .store
                .apply(&both, &world.seal, "test", false)
                .await
                .is_err(),
            "{table}"
        );
        mend_table(&world, table).await;
        assert_eq!(world.count("SELECT count(*) FROM resource").await, 0, "{table}");
    }
    assert_eq!(world.apply(&both).await, told);
    assert_eq!(world.apply(&both).await, [Action::Unchanged, Action::Unchanged]);
}

#[tokio::test]
async fn the_generation_rises_with_the_spec_and_with_nothing_else() {
    let world = World::new().await;
    let mut one = resource("Placement", "a", json!({"n": 1}));
    let generation = async |one: &_, expected: i64| {
        world.apply(std::slice::from_ref(one)).await;
        let row = world
            .store
            .resource(world.uid("Placement", "a").await)
            .await
            .expect("read")
            .expect("there");
        assert_eq!(row.generation, expected, "{one:?}");
    };
    generation(&one, 1).await;
    one.labels = json!({"team": "a"});
    one.annotations = json!({"note": "b"});
    generation(&one, 1).await;
    one.spec = json!({"n": 2});
    generation(&one, 2).await;
    generation(&one, 2).await;
    let uid = world.uid("Placement", "a").await;
    world.store.request(&[uid], "now", None).await.expect("requested");
    generation(&one, 2).await;
}

#[tokio::test]
async fn suspend_by_command_survives_an_apply_and_yields_to_one_that_changes_the_field() {
    let world = World::new().await;
    world
        .apply(&[resource("HelmRelease", "a", json!({"n": 1}))])
        .await;
    let uid = world.uid("HelmRelease", "a").await;
    assert!(world.store.set_suspended(uid, true, "admin").await.expect("set"));
    assert!(
        !world
            .store
            .set_suspended(uid, true, "admin")
            .await
            .expect("set already")
    );
    for (spec, suspended) in [
        (json!({"n": 2}), true),
        (json!({"n": 2, "suspend": false}), false),
        (json!({"n": 3, "suspend": true}), true),
        (json!({"n": 3}), false),
    ] {
        world.apply(&[resource("HelmRelease", "a", spec.clone())]).await;
        let row = world.store.resource(uid).await.expect("read").expect("there");
        assert_eq!(row.is_suspended(), suspended, "{spec}");
    }
}

/// Columns of all tables in which `needle` is found: plain, hexadecimal, base64, or in a zstd frame.
async fn columns_holding(world: &World, needle: &str) -> Vec<String> {
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = 'public'",
    )
    .fetch_all(&world.pool)
    .await
    .expect("columns");
    assert!(columns.len() > 100, "{columns:?}");
    let needles = [needle.to_owned(), hex::encode(needle), BASE64.encode(needle)];
    let mut holding = Vec::new();
    for (table, column) in columns {
        let query = format!("SELECT \"{column}\"::text FROM \"{table}\" WHERE \"{column}\" IS NOT NULL");
        let values: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_all(&world.pool)
            .await
            .expect("values");
        let unpacked = values.iter().filter_map(|value| {
            let bytes = hex::decode(value.strip_prefix("\\x")?).ok()?;
            String::from_utf8(zstd::decode_all(&bytes[..]).ok()?).ok()
        });
        let unpacked: Vec<String> = unpacked.collect();
        if values
            .iter()
            .chain(&unpacked)
            .any(|value| needles.iter().any(|needle| value.contains(needle)))
        {
            holding.push(format!("{table}.{column}"));
        }
    }
    holding
}

#[tokio::test]
async fn a_secrets_value_is_in_no_column_and_in_no_debug_output() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let one = secret("credentials", CANARY);
    world.apply(std::slice::from_ref(&one)).await;
    let manifest = Object::new("Secret", "db", &format!("stringData: {{password: {CANARY}}}"));
    let content = world.render(app, "r1", std::slice::from_ref(&manifest)).await;
    let values = Blob {
        digest: [4; 32],
        bytes: Zeroizing::new(CANARY.as_bytes().to_vec()),
        secret: true,
    };
    let gathered = world
        .gather_with(app, &[cluster], &content, vec![values], BTreeMap::new())
        .await;
    world.commit(&gathered).await.expect("committed");
    world.publish(cluster).await.expect("published");
    assert_eq!(columns_holding(&world, CANARY).await, Vec::<String>::new());
    // The hub itself reads all three.
    let uid = world.uid("Secret", "credentials").await;
    let payload = world
        .store
        .payload(uid, &world.seal)
        .await
        .expect("opened")
        .expect("there");
    assert!(String::from_utf8_lossy(&payload).contains(CANARY));
    let object = world
        .store
        .objects(&[manifest.digest().as_bytes()], &world.seal)
        .await
        .expect("read")
        .remove(manifest.digest().as_bytes())
        .expect("there");
    assert_eq!(&object.into_plain().expect("plain")[..], manifest.bytes);
    let value = world
        .store
        .config_values(&[&[4; 32]], &world.seal)
        .await
        .expect("read")
        .remove(&[4; 32])
        .expect("there");
    assert_eq!(&value.into_plain().expect("plain")[..], CANARY.as_bytes());
    let row = world.store.resource(uid).await.expect("read").expect("there");
    let shown = format!("{one:?} {row:?} {:?} {:?}", world.seal, world.store);
    assert!(
        !shown.contains(CANARY) && !shown.contains(&BASE64.encode(CANARY)),
        "{shown}"
    );
    // What is no secret is found, compressed or not: the search can find.
    world
        .render(app, "r2", &[config("open", &format!("data: {CANARY}"))])
        .await;
    world
        .apply(&[resource("Placement", "open", json!({"note": CANARY}))])
        .await;
    assert_eq!(columns_holding(&world, CANARY).await.len(), 3);
}

#[tokio::test]
async fn a_sealed_value_moved_to_another_row_does_not_open() {
    let world = World::new().await;
    world
        .apply(&[secret("a", "value-a"), secret("b", "value-b")])
        .await;
    let (a, b) = (world.uid("Secret", "a").await, world.uid("Secret", "b").await);
    world
        .execute(&format!(
            "UPDATE resource SET sealed_payload = (SELECT sealed_payload FROM resource WHERE uid = '{a}')
             WHERE uid = '{b}'"
        ))
        .await;
    assert!(world.store.payload(a, &world.seal).await.is_ok());
    let error = world.store.payload(b, &world.seal).await.expect_err("moved");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_transaction_that_is_open_holds_back_no_other_wakeup_and_its_own_is_not_passed_over() {
    let world = World::new().await;
    let mut reader = world.store.outbox_end().await.expect("a reader");
    let (early, late) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut open = world.pool.begin().await.expect("begun");
    let insert = "INSERT INTO outbox (topic, keys) VALUES ('app', ARRAY[$1::uuid])";
    sqlx::query(insert)
        .bind(early)
        .execute(&mut *open)
        .await
        .expect("inserted");
    sqlx::query(insert)
        .bind(late)
        .execute(&world.pool)
        .await
        .expect("inserted");
    let nudge = |key| Nudge {
        topic: Topic::App,
        key,
    };
    let mut read = async || world.store.outbox_after(&mut reader).await.expect("read");
    assert_eq!(read().await, [nudge(late)]);
    assert_eq!(read().await, [], "once");
    open.commit().await.expect("committed");
    assert_eq!(read().await, [nudge(early)]);
    assert_eq!(read().await, []);
}

#[tokio::test]
async fn every_wakeup_of_many_writers_is_read_once_and_in_each_writers_order() {
    const WRITERS: u128 = 6;
    const EACH: u128 = 25;
    let world = World::new().await;
    let mut reader = world.store.outbox_end().await.expect("a reader");
    let writers = (0..WRITERS).map(|writer| {
        let pool = world.pool.clone();
        tokio::spawn(async move {
            for number in 0..EACH {
                let mut tx = pool.begin().await.expect("begun");
                let insert = sqlx::query("INSERT INTO outbox (topic, keys) VALUES ('app', ARRAY[$1::uuid])");
                insert
                    .bind(Uuid::from_u128(writer << 64 | number))
                    .execute(&mut *tx)
                    .await
                    .expect("inserted");
                tokio::task::yield_now().await;
                tx.commit().await.expect("committed");
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut read: Vec<Uuid> = Vec::new();
    wait_until("all wake-ups", PATIENCE, async || {
        let nudges = world.store.outbox_after(&mut reader).await?;
        read.extend(nudges.iter().map(|nudge| nudge.key));
        Ok::<_, StoreError>((read.len() as u128 >= WRITERS * EACH).then_some(()))
    })
    .await
    .expect("read");
    for writer in writers {
        writer.await.expect("written");
    }
    for writer in 0..WRITERS {
        let of_one: Vec<u128> = read
            .iter()
            .map(|key| key.as_u128())
            .filter(|key| key >> 64 == writer)
            .collect();
        assert_eq!(
            of_one,
            (0..EACH).map(|number| writer << 64 | number).collect::<Vec<_>>()
        );
    }
}

#[tokio::test]
async fn renderings_that_share_objects_in_another_order_do_not_deadlock() {
    let world = World::new().await;
    let apps = [world.app("a").await, world.app("b").await];
    let objects: Vec<Object> = (0..400)
        .map(|n| config(&format!("x{n}"), &format!("a: {n}")))
        .collect();
    let reversed: Vec<Object> = objects.iter().rev().cloned().collect();
    let (first, second) = (
        world.render(apps[0], "r1", &objects).await,
        world.render(apps[1], "r1", &reversed).await,
    );
    // All rows are there and due to be touched: each writer locks every one of them. One in the middle is held until
    // both wait, the first with what comes before it in its order, the second with what comes after.
    world
        .execute("UPDATE object SET referenced_at = now() - interval '2 hours'")
        .await;
    let mut middle = world.pool.begin().await.expect("begun");
    sqlx::query("SELECT 1 FROM object WHERE digest = $1 FOR UPDATE")
        .bind(&objects[200].digest().as_bytes()[..])
        .execute(&mut *middle)
        .await
        .expect("held");
    let revision = world.revision("r2").await;
    let release = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("both to wait", PATIENCE, async || {
            Ok::<_, StoreError>((world.count(waiting).await == 2).then_some(()))
        })
        .await
        .expect("both wait");
        middle.rollback().await.expect("released");
    };
    tokio::join!(
        world.render_at(apps[0], revision, &objects),
        world.render_at(apps[1], revision, &reversed),
        release
    );
    assert_ne!(first.manifest, second.manifest);
    assert_eq!(world.count("SELECT count(*) FROM object").await, 400);
}

#[tokio::test]
async fn of_two_planners_of_one_app_one_wins_and_the_other_plans_again() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    let first = world.gather(app, &[cluster], &content).await;
    let second = world.gather(app, &[cluster], &content).await;
    let results = tokio::join!(world.commit(&first), world.commit(&second));
    let won = [&results.0, &results.1]
        .into_iter()
        .filter(|result| result.is_ok())
        .count();
    assert_eq!(won, 1, "{results:?}");
    let lost = results.0.err().or(results.1.err()).expect("one lost");
    assert!(matches!(lost, StoreError::Conflict(_)), "{lost}");
    assert_eq!(world.count("SELECT count(*) FROM unit").await, 1);
    assert!(
        world
            .gather(app, &[cluster], &content)
            .await
            .planned
            .units
            .is_empty()
    );
}

#[tokio::test]
async fn an_object_of_two_apps_stays_with_the_first_and_is_withheld_from_the_second() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    let shared = config("shared", "a: 1");
    let of_a = world.render(a, "r1", std::slice::from_ref(&shared)).await;
    let of_b = world
        .render(b, "r1", &[shared.clone(), config("own", "b: 1")])
        .await;
    world.roll_out(a, &[cluster], &of_a).await;
    world.roll_out(b, &[cluster], &of_b).await;
    let desired = world
        .store
        .desired(cluster)
        .await
        .expect("read")
        .expect("published");
    let entries: Vec<Entry> = desired
        .entries
        .iter()
        .map(|row| Entry::from_bytes(&row.bytes).expect("an entry"))
        .collect();
    let entry = |name: &str| {
        entries
            .iter()
            .find(|entry| entry.app.name == name)
            .expect("there")
    };
    assert_eq!(entry("a").withheld, []);
    let [withheld] = &entry("b").withheld[..] else {
        panic!("{:?}", entry("b").withheld)
    };
    assert_eq!(
        (&withheld.key, withheld.owner.as_str()),
        (&shared.key, "HelmRelease/apps/a")
    );
    let views = units(&world, "c1").await;
    let waiting = &views.iter().find(|unit| unit.name == "b").expect("there").waiting;
    let claimed = Waiting::Claimed {
        object: shared.key.clone(),
        owner: "HelmRelease/apps/a".into(),
    };
    assert_eq!(waiting.0, [claimed]);
}

#[tokio::test]
async fn a_reason_of_a_newer_hub_stays_in_the_store_and_is_shown_by_its_name() {
    let world = World::new().await;
    let app = world.app("a").await;
    one_unit(&world, "c1", app).await;
    let newer = json!([{ "reason": "CanarySoaks", "params": { "left": "12m" } }]);
    for table in ["unit", "app_plan"] {
        world
            .execute(&format!("UPDATE {table} SET waiting = '{newer}'"))
            .await;
    }
    let recorded = world.store.app_plan(app).await.expect("read");
    let stored = |waiting: &[Waiting]| serde_json::to_value(waiting).expect("JSON");
    assert_eq!(
        (stored(&recorded.waiting), stored(&recorded.units[0].waiting)),
        (newer.clone(), newer)
    );
    let facts = world.store.app_facts(&[app]).await.expect("read");
    let said = flotilla_core::status::app(&facts[&app]);
    assert_eq!(
        (said.reason.as_str(), said.message.as_str()),
        ("CanarySoaks", "CanarySoaks")
    );
    let mut first = facts[&app].units[0].first.clone();
    first.silent = false;
    let of_unit = flotilla_core::status::unit(&first);
    assert_eq!(of_unit.message, "CanarySoaks");
    assert_eq!(units(&world, "c1").await[0].waiting[0].to_string(), "CanarySoaks");
    // What is no reason at all is an unreadable row, and no outage.
    world.execute("UPDATE app_plan SET waiting = '[1]'").await;
    let refused = world.store.app_plan(app).await.expect_err("unreadable");
    assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_cluster_made_again_under_a_former_name_inherits_nothing() {
    let world = World::new().await;
    let former = world.cluster("c1").await;
    let of = |scope, mut one: NewResource| {
        one.scope = scope;
        one
    };
    let source = || {
        resource(
            "GitRepository",
            "source",
            json!({ "secretRef": { "name": "key" } }),
        )
    };
    let both = |scope| [of(scope, secret("key", CANARY)), of(scope, source())];
    world.apply(&both(former)).await;
    world
        .execute("DELETE FROM due; DELETE FROM cluster WHERE name = 'c1'")
        .await;
    let again = world.cluster("c1").await;
    assert_ne!(again, former);
    for (kind, name) in [("Secret", "key"), ("GitRepository", "source")] {
        let found = world.store.resource_by_name(again, kind, "apps", name).await;
        assert!(found.expect("read").is_none(), "{kind}");
    }
    let listed = async |scope| {
        let filter = ResourceFilter {
            scope,
            kinds: vec!["Secret".into(), "GitRepository".into()],
            limit: 10,
            ..ResourceFilter::default()
        };
        let rows = world.store.list_resources(&filter).await.expect("listed");
        rows.into_iter().map(|row| row.cluster).collect::<Vec<_>>()
    };
    assert!(listed(Some(again)).await.is_empty());
    // What was the former cluster's is its own, and is taken for nobody else's.
    assert_eq!(listed(None).await, [former.to_string(), former.to_string()]);
    assert_eq!(
        world.apply(&both(again)).await,
        [Action::Created, Action::Created]
    );
    assert_eq!(listed(Some(again)).await, ["c1", "c1"]);
    // A reference resolves in its own scope alone.
    let users = "SELECT count(*) FROM reference f JOIN resource r ON r.uid = f.referrer AND r.scope = f.scope
                 WHERE f.kind = 'Secret'";
    assert_eq!(world.count(users).await, 2);
}

#[tokio::test]
async fn racing_apps_never_both_hold_an_object() {
    let world = World::new().await;
    let clusters = [world.cluster("c1").await, world.cluster("c2").await];
    let (a, b) = (world.app("a").await, world.app("b").await);
    let shared = [config("x", "a: 1"), config("y", "a: 1"), config("z", "a: 1")];
    let of_a = world.render(a, "r1", &shared).await;
    let of_b = world.render(b, "r1", &shared).await;
    // Both gathered before either committed: neither sees the other's claims.
    let (first, second) = (
        world.gather(a, &clusters, &of_a).await,
        world.gather(b, &clusters, &of_b).await,
    );
    let results = tokio::join!(world.commit(&first), world.commit(&second));
    let won = [&results.0, &results.1]
        .into_iter()
        .filter(|result| result.is_ok())
        .count();
    assert_eq!(won, 1, "{results:?}");
    let lost = results.0.err().or(results.1.err()).expect("one lost");
    assert!(matches!(lost, StoreError::Conflict(_)), "{lost:?}");
    assert_eq!(world.count("SELECT count(DISTINCT unit_id) FROM claim").await, 2);
    let keys = "SELECT (SELECT count(*) FROM keyset) * 100 + (SELECT count(*) FROM keyset_key)";
    assert_eq!(
        world.count(keys).await,
        103,
        "one set of three, however many have it"
    );
    for (app, content) in [(a, &of_a), (b, &of_b)] {
        world
            .commit(&world.gather(app, &clusters, content).await)
            .await
            .expect("planned again");
    }
    assert_eq!(
        world
            .count("SELECT count(*) FROM unit WHERE jsonb_array_length(withheld) = 3")
            .await,
        2
    );
}

#[tokio::test]
async fn publishing_raises_the_generation_only_when_the_root_differs() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    assert_eq!(world.publish(cluster).await, None);
    let of_a = world.render(a, "r1", &[config("x", "a: 1")]).await;
    let of_b = world.render(b, "r1", &[config("y", "a: 1")]).await;
    assert_eq!(world.roll_out(a, &[cluster], &of_a).await, [Some(1)]);
    assert_eq!(world.publish(cluster).await, None);
    assert_eq!(world.roll_out(b, &[cluster], &of_b).await, [Some(2)]);
    let again = world.render(a, "r2", &[config("x", "a: 2")]).await;
    assert_eq!(world.roll_out(a, &[cluster], &again).await, [Some(3)]);
    let desired = world
        .store
        .desired(cluster)
        .await
        .expect("read")
        .expect("published");
    assert_eq!(
        (desired.head.incarnation, desired.head.generation),
        (INCARNATION, 3)
    );
    let since: BTreeMap<String, u64> = desired
        .entries
        .iter()
        .map(|row| {
            (
                Entry::from_bytes(&row.bytes).expect("an entry").app.name,
                row.since,
            )
        })
        .collect();
    assert_eq!(since, BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 2)]));
    let root = flotilla_core::unit::root(
        desired
            .entries
            .iter()
            .map(|row| (flotilla_core::id::UnitId(row.unit), Entry::digest_of(&row.bytes))),
    );
    assert_eq!(desired.head.root, root);
}

#[tokio::test]
async fn a_unit_that_is_no_longer_chosen_is_detached_and_stays_in_the_desired_state() {
    let world = World::new().await;
    let (c1, c2) = (world.cluster("c1").await, world.cluster("c2").await);
    let app = world.app("a").await;
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[c1, c2], &content).await;
    world
        .commit(&world.gather(app, &[c1], &content).await)
        .await
        .expect("committed");
    world.publish(c2).await.expect("published");
    let desired = world.store.desired(c2).await.expect("read").expect("published");
    let [row] = &desired.entries[..] else {
        panic!("{:?}", desired.entries)
    };
    let entry = Entry::from_bytes(&row.bytes).expect("an entry");
    assert_eq!(
        (entry.state, entry.content),
        (UnitState::Detached, Some(content.admitted.content))
    );
}

#[tokio::test]
async fn a_revision_that_renders_to_the_same_content_writes_no_unit() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[cluster], &content).await;
    let same = world.render(app, "r2", &[config("x", "a: 1")]).await;
    assert_ne!(same.admitted.revision, content.admitted.revision);
    let before: String = sqlx::query_scalar("SELECT xmin::text FROM unit")
        .fetch_one(&world.pool)
        .await
        .expect("row");
    assert_eq!(world.roll_out(app, &[cluster], &same).await, [None]);
    let after: String = sqlx::query_scalar("SELECT xmin::text FROM unit")
        .fetch_one(&world.pool)
        .await
        .expect("row");
    assert_eq!(before, after);
    assert_eq!(units(&world, "c1").await[0].target_revision, "r2");
}

#[tokio::test]
async fn a_crash_between_any_two_steps_leaves_nothing_half_done_and_the_next_try_the_same() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    let values = || Blob {
        digest: [5; 32],
        bytes: Zeroizing::new(b"{}".to_vec()),
        secret: false,
    };
    let gather = async || {
        world
            .gather_with(app, &[cluster], &content, vec![values()], BTreeMap::new())
            .await
    };
    let rows =
        "SELECT (SELECT count(*) FROM unit) + (SELECT count(*) FROM keyset) + (SELECT count(*) FROM rollout)
                  + (SELECT count(*) FROM config_value) + (SELECT count(*) FROM app_plan)";
    for table in [
        "app_plan",
        "config_value",
        "rollout",
        "admission",
        "unit",
        "keyset",
        "keyset_key",
        "outbox",
    ] {
        break_table(&world, table).await;
        assert!(world.commit(&gather().await).await.is_err(), "{table}");
        mend_table(&world, table).await;
        assert_eq!(world.count(rows).await, 0, "{table}");
    }
    let gathered = gather().await;
    world.commit(&gathered).await.expect("committed");
    // The reply was lost: the same plan again is a conflict, planning again finds nothing to do.
    assert!(matches!(
        world.commit(&gathered).await,
        Err(StoreError::Conflict(_))
    ));
    assert!(gather().await.planned.units.is_empty());
    for table in ["desired_entry", "desired", "outbox"] {
        break_table(&world, table).await;
        assert!(
            world.store.publish(&[cluster], INCARNATION).await.is_err(),
            "{table}"
        );
        mend_table(&world, table).await;
        assert!(
            world.store.desired(cluster).await.expect("read").is_none(),
            "{table}"
        );
    }
    assert_eq!(
        world
            .publish(cluster)
            .await
            .map(|published| (published.generation, published.entries.len())),
        Some((1, 1))
    );
    assert_eq!(world.publish(cluster).await, None);
}

#[tokio::test]
async fn what_no_root_reaches_goes_after_a_day_and_nothing_else() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    // More than are kept, and the last of them is what the unit has.
    let made = KEPT + 3;
    for n in 0..made {
        let content = world
            .render(app, &format!("r{n}"), &[config("x", &format!("a: {n}"))])
            .await;
        world.roll_out(app, &[cluster], &content).await;
    }
    let removed = || async { world.remove_unused().await };
    assert_eq!(removed().await, Removed::default(), "nothing is old");
    world
        .execute(
            "UPDATE content SET referenced_at = now() - interval '2 days';
             UPDATE part SET referenced_at = now() - interval '2 days';
             UPDATE object SET referenced_at = now() - interval '2 days';
             UPDATE artifact SET referenced_at = now() - interval '2 days';
             UPDATE rollout SET finished_at = now() - interval '2 days' WHERE finished_at IS NOT NULL;
             UPDATE rendering SET finished_at = now() - interval '2 days';
             UPDATE target SET referenced_at = now() - interval '2 days';
             UPDATE revision SET created_at = now() - interval '2 days'",
        )
        .await;
    let first = removed().await;
    // Of renderings one more stays: the present one beside the last that were.
    assert_eq!((first.rollouts, first.renderings), (3, 2), "{first:?}");
    assert_eq!((first.revisions, first.artifacts), (2, 2), "{first:?}");
    assert_eq!(
        (first.targets, first.contents, first.objects),
        (0, 0, 0),
        "the history names them"
    );
    world
        .execute("UPDATE history SET at = at - interval '91 days'")
        .await;
    let keep = Duration::from_secs(90 * 24 * 3600);
    let forgotten = world
        .store
        .history_trim(time::OffsetDateTime::now_utc(), keep)
        .await
        .expect("trimmed");
    assert_eq!(i64::try_from(forgotten), Ok(made - 1));
    let second = removed().await;
    assert_eq!(i64::try_from(second.targets), Ok(made - 1), "{second:?}");
    assert_eq!((second.contents, second.objects), (2, 2), "{second:?}");
    assert_eq!(removed().await, Removed::default(), "what is left is used");
    assert_eq!(
        units(&world, "c1").await[0].target_revision,
        format!("r{}", made - 1)
    );
    assert_eq!(world.count("SELECT count(*) FROM rollout").await, KEPT);
}

#[tokio::test]
async fn pages_of_units_lose_none_of_apps_that_share_a_name() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, ..) = one_unit(&world, "c1", app).await;
    world.apply(&[resource("Kustomization", "a", json!({}))]).await;
    let twin = world.uid("Kustomization", "a").await;
    let content = world.render(twin, "r1", &[config("y", "a: 1")]).await;
    world.roll_out(twin, &[cluster], &content).await;
    let mut filter = UnitFilter {
        limit: 1,
        ..UnitFilter::default()
    };
    let mut kinds = BTreeSet::new();
    while let Some(row) = world.store.list_units(&filter).await.expect("listed").pop() {
        filter.after = (row.namespace, row.name, row.cluster, row.id);
        kinds.insert(row.kind);
    }
    assert_eq!(kinds, ["HelmRelease", "Kustomization"].map(str::to_owned).into());
}

#[tokio::test]
async fn a_hub_whose_epoch_an_agent_calls_highest_opens_streams_all_the_same() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let open = async |epoch_seen: u64| {
        let opening = Opening {
            epoch_seen,
            ..opening(cluster, &[])
        };
        open_as(&world, opening).await.epoch
    };
    let mut last = 0;
    for seen in [7, (1 << 63) - 3, u64::MAX, 0, u64::MAX] {
        let epoch = open(seen).await;
        assert!(epoch > last, "{epoch} after {last}");
        last = epoch;
    }
}

#[tokio::test]
async fn a_reason_to_wait_of_an_app_without_units_wakes_who_watches() {
    let world = World::new().await;
    let app = world.app("a").await;
    let recorded = world.store.app_plan(app).await.expect("read");
    world.execute("DELETE FROM outbox").await;
    let waiting = [Waiting::NoClusterMatches];
    let commit = Commit {
        app_uid: app,
        app: named(app),
        recorded: &recorded,
        generation: 1,
        planned: &Planned::default(),
        claims: &Claims::default(),
        configs: &[],
        revision_id: None,
        content: None,
        waiting: &waiting,
        confirms: false,
        handled: "",
        unchanged: None,
    };
    world
        .store
        .commit_plan(&commit, &world.seal)
        .await
        .expect("committed");
    let told = format!("SELECT count(*) FROM outbox WHERE topic = 'report' AND '{app}' = ANY (keys)");
    assert_eq!(world.count(&told).await, 1);
}

#[tokio::test]
async fn a_rollout_that_was_superseded_keeps_the_clusters_that_it_had() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (one, two) = (world.cluster("c1").await, world.cluster("c2").await);
    for (revision, text) in [("r1", "a: 1"), ("r2", "a: 2")] {
        let content = world.render(app, revision, &[config("x", text)]).await;
        world.roll_out(app, &[one, two], &content).await;
    }
    let rollouts = world.store.list_rollouts("HelmRelease", "", "a", 10).await;
    let counts: Vec<(String, i64)> = rollouts
        .expect("listed")
        .into_iter()
        .map(|one| (one.state, one.clusters))
        .collect();
    assert_eq!(
        counts,
        [("Progressing".to_owned(), 2), ("Superseded".to_owned(), 2)]
    );
}

#[tokio::test]
async fn the_database_and_the_api_agree_on_what_is_an_app_and_what_is_fetched() {
    let world = World::new().await;
    let names: Vec<&str> = Kind::all().map(Kind::name).collect();
    let asked: Vec<(String, bool, bool)> = sqlx::query_as(
        "SELECT kind, is_app(kind), is_source(kind) FROM unnest($1::text[]) AS kind ORDER BY kind",
    )
    .bind(&names)
    .fetch_all(&world.pool)
    .await
    .expect("asked");
    assert_eq!(asked.len(), names.len());
    for (name, app, source) in asked {
        let kind = Kind::named(&name).expect("a kind");
        assert_eq!((app, source), (kind.is_planned(), kind.is_fetched()), "{name}");
    }
}

#[tokio::test]
async fn what_has_no_namespace_is_named_without_one() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let (owner, other) = (world.app("a").await, world.app("b").await);
    world
        .execute("UPDATE resource SET namespace = '' WHERE name = 'a'")
        .await;
    let content = world.render(owner, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(owner, &[cluster], &content).await;
    let keys: Vec<_> = content.keys.iter().collect();
    let claims = world
        .store
        .other_claims(other, &[ClusterId(cluster)], &keys)
        .await;
    let claims = claims.expect("read");
    let owners: Vec<&str> = claims.iter().map(|one| one.owner.as_str()).collect();
    assert_eq!(owners, ["HelmRelease/a"]);
}

#[tokio::test]
async fn applies_of_the_same_objects_in_any_order_wait_for_each_other_and_never_fail() {
    let world = World::new().await;
    let documents = |round: usize| -> Vec<NewResource> {
        (0..20)
            .map(|n| resource("HelmRelease", &format!("a{n}"), json!({ "round": round })))
            .collect()
    };
    for round in 0..10 {
        let forth = documents(2 * round);
        let mut back = documents(2 * round + 1);
        back.reverse();
        let (forth, back) = tokio::join!(
            world.store.apply(&forth, &world.seal, "one", false),
            world.store.apply(&back, &world.seal, "two", false)
        );
        forth.expect("applied");
        back.expect("applied");
    }
    assert_eq!(
        world
            .count("SELECT count(DISTINCT spec) FROM resource WHERE kind = 'HelmRelease'")
            .await,
        1,
        "one of them whole"
    );
}

#[tokio::test]
async fn an_apply_that_loses_a_deadlock_is_done_after_who_has_won_it() {
    let world = World::new().await;
    let documents =
        |round: usize| ["a", "b"].map(|name| resource("HelmRelease", name, json!({ "round": round })));
    let first = world.store.apply(&documents(1), &world.seal, "one", false).await;
    first.expect("applied");
    // Another writer takes the second of them, and then the first: as a plan does that takes what it removes.
    let mut other = world.pool.begin().await.expect("begun");
    let take = async |tx: &mut sqlx::PgConnection, name: &str| {
        let taken = sqlx::query("SELECT FROM resource WHERE name = $1 FOR UPDATE")
            .bind(name)
            .execute(tx);
        taken.await.expect("taken");
    };
    take(&mut other, "b").await;
    let (store, seal) = (world.store.clone(), world.seal.clone());
    let second = documents(2);
    let applied = tokio::spawn(async move { store.apply(&second, &seal, "two", false).await });
    wait_until("it waits", Duration::from_secs(10), async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        Ok::<_, std::convert::Infallible>((world.count(waits).await > 0).then_some(()))
    })
    .await
    .expect("it waits");
    // Whoever has waited longer looks first, finds that both wait for each other, and gives way.
    take(&mut other, "a").await;
    other.commit().await.expect("committed");
    applied.await.expect("ended").expect("applied");
    let second = "SELECT count(*) FROM resource WHERE spec = '{\"round\": 2}'";
    assert_eq!(world.count(second).await, 2);
}

#[tokio::test]
async fn a_webhook_finds_what_it_names_and_nothing_else() {
    let world = World::new().await;
    let mut labelled = resource("GitRepository", "b", json!({}));
    labelled.labels = json!({ "team": "web" });
    world
        .apply(&[resource("GitRepository", "a", json!({})), labelled])
        .await;
    let namespace = resource("GitRepository", "a", json!({})).namespace;
    let named = async |name: &str, labels| {
        let found = world
            .store
            .uids_named(FLEET, "GitRepository", &namespace, name, &labels)
            .await;
        found.expect("read").len()
    };
    assert_eq!(named("a", json!({})).await, 1);
    assert_eq!(named("c", json!({})).await, 0);
    assert_eq!(named("*", json!({})).await, 2);
    assert_eq!(named("*", json!({ "team": "web" })).await, 1);
    assert_eq!(named("*", json!({ "team": "other" })).await, 0);
}

pub(crate) async fn units(world: &World, cluster: &str) -> Vec<UnitView> {
    let filter = UnitFilter {
        cluster: cluster.into(),
        limit: 100,
        ..UnitFilter::default()
    };
    world.store.list_units(&filter).await.expect("listed")
}

/// A cluster with one unit: (cluster, unit, target).
pub(crate) async fn one_unit(world: &World, name: &str, app: Uuid) -> (Uuid, Uuid, Digest) {
    let cluster = world.cluster(name).await;
    let content = world.render(app, name, &[config("x", "a: 1")]).await;
    world.roll_out(app, &[cluster], &content).await;
    let recorded = world.store.app_plan(app).await.expect("read");
    let unit = recorded
        .units
        .iter()
        .find(|unit| unit.cluster.0 == cluster)
        .expect("there");
    (cluster, unit.id.0, unit.target)
}
