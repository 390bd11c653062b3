//! What statements read once tables have been analysed, as the hub's planners ask them: what a change concerns, and nothing of
//! what else there is.

use flotilla_hub::store::rendering::Changes;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{statements::Statements, world::World};

/// Scopes of clusters, and apps of the same names in each.
const CLUSTERS: i64 = 20;
const APPS: i64 = 250;

/// A cluster of this number.
fn cluster(number: u128) -> Uuid {
    Uuid::from_u128(0x0000_0000_0000_4000_8000_0000_0000_0000 | number)
}

/// Its scope, as SQL has it.
fn scope(number: u128) -> String {
    format!("'{}'::uuid", cluster(number))
}

/// A fleet in which each cluster has apps of the same names, all of which name `repo` and need `app-1`, and all but the first
/// have their own `repo`, beside the fleet's. All wait for something else.
async fn fill(world: &World) {
    let one = "INSERT INTO resource (uid, scope, api_group, kind, namespace, name, api_version, origin)
               SELECT gen_random_uuid(), ('00000000-0000-4000-8000-' || lpad(to_hex(c), 12, '0'))::uuid, 'test.example.org'";
    world
        .execute(&format!(
            "{one}, 'Kustomization', 'apps', 'app-' || n, 'v1', 'test'
             FROM generate_series(1, {CLUSTERS}) AS c, generate_series(1, {APPS}) AS n;
             {one}, 'GitRepository', 'apps', 'repo', 'v1', 'test' FROM generate_series(2, {CLUSTERS}) AS c;
             INSERT INTO resource (uid, api_group, kind, namespace, name, api_version, origin)
             VALUES (gen_random_uuid(), 'test.example.org', 'GitRepository', 'apps', 'repo', 'v1', 'test');
             INSERT INTO reference (referrer, kind, scope, namespace, name, of_scope)
             SELECT r.uid, v.kind, s.scope, 'apps', v.name, r.scope FROM resource r,
               LATERAL (VALUES (r.scope), (fleet())) AS s(scope),
               (VALUES ('GitRepository', 'repo'), ('Kustomization', 'app-1')) AS v(kind, name)
             WHERE r.kind = 'Kustomization' AND r.name <> v.name;
             INSERT INTO app_plan (app_uid, version, observed_generation, waiting)
             SELECT uid, 1, 1, '[{{\"reason\": \"Restored\"}}]' FROM resource WHERE kind = 'Kustomization';
             ANALYZE"
        ))
        .await;
}

/// A connection as planners have it.
async fn planner(world: &World) -> PgConnection {
    let mut connection = PgConnection::connect_with(&world.options())
        .await
        .expect("connected");
    sqlx::raw_sql("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off")
        .execute(&mut connection)
        .await
        .expect("set");
    connection
}

/// A name for a prepared statement.
fn name() -> String {
    format!("asked_{}", Uuid::now_v7().simple())
}

/// Pages that a statement reads, whose parameters are given with their types.
async fn pages(connection: &mut PgConnection, statement: &str, parameters: &[(&str, String)]) -> u64 {
    let (types, values): (Vec<&str>, Vec<&str>) =
        parameters.iter().map(|(of, is)| (*of, is.as_str())).unzip();
    let name = name();
    let prepared = format!("PREPARE {name} ({}) AS {statement}", types.join(", "));
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepared.as_str()))
        .execute(&mut *connection)
        .await
        .expect(statement);
    let explained = format!(
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name} ({})",
        values.join(", ")
    );
    // Planning reads pages of the catalogue, which are counted beside.
    let plan: Value = sqlx::query_scalar(sqlx::AssertSqlSafe(explained.as_str()))
        .fetch_one(connection)
        .await
        .expect(statement);
    let root = &plan[0]["Plan"];
    let read = ["Shared Hit Blocks", "Shared Read Blocks"].map(|of| root[of].as_u64().expect("counted"));
    read.iter().sum()
}

/// Tables that grow with the fleet.
const LARGE: [&str; 7] = [
    "resource",
    "reference",
    "app_plan",
    "revision",
    "unit",
    "unit_status",
    "unit_object",
];

/// Which large tables, or indexes of them, these statements read from one end to the other.
async fn whole_reads(connection: &mut PgConnection, statements: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for statement in statements {
        let last = (1..100)
            .take_while(|number| statement.contains(&format!("${number}")))
            .last();
        let name = name();
        let nulls = vec!["NULL"; last.unwrap_or_default()].join(", ");
        let explained = match last {
            Some(_) => format!("EXPLAIN (FORMAT JSON) EXECUTE {name} ({nulls})"),
            None => format!("EXPLAIN (FORMAT JSON) EXECUTE {name}"),
        };
        let prepared = format!("PREPARE {name} AS {statement}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(prepared.as_str()))
            .execute(&mut *connection)
            .await
            .expect(statement);
        let plan: Value = sqlx::query_scalar(sqlx::AssertSqlSafe(explained.as_str()))
            .fetch_one(&mut *connection)
            .await
            .expect(statement);
        let mut nodes = vec![plan[0]["Plan"].clone()];
        while let Some(node) = nodes.pop() {
            let table = node["Relation Name"].as_str().unwrap_or_default();
            let reads = node["Node Type"].as_str().unwrap_or_default();
            let is_whole = reads == "Seq Scan" || reads.starts_with("Index") && node["Index Cond"].is_null();
            if is_whole && LARGE.contains(&table) {
                found.push(format!("{reads} of {table} by {statement}"));
            }
            nodes.extend(node["Plans"].as_array().into_iter().flatten().cloned());
        }
    }
    found
}

async fn named(world: &World, kind: &str, scope: &str, name: &str) -> Uuid {
    let found =
        format!("SELECT uid FROM resource WHERE kind = '{kind}' AND scope = {scope} AND name = '{name}'");
    sqlx::query_scalar(sqlx::AssertSqlSafe(found.as_str()))
        .fetch_one(&world.pool)
        .await
        .expect("there")
}

#[tokio::test]
async fn whom_a_plan_wakes_is_looked_up_by_its_name_and_not_among_all_that_wait() {
    let world = World::new().await;
    fill(&world).await;
    let held = "UPDATE app_plan SET waiting = '[{\"reason\": \"DependencyNotReady\"}]' WHERE app_uid IN (
                SELECT uid FROM resource WHERE name IN ('app-2', 'app-3'))";
    world.execute(held).await;
    let mut connection = planner(&world).await;
    let statement = "SELECT app FROM dependents_waiting($1) AS app";
    let of = |app: Uuid| [("uuid[]", format!("ARRAY['{app}']::uuid[]"))];
    let leaf = named(&world, "Kustomization", &scope(3), "app-9").await;
    let read = pages(&mut connection, statement, &of(leaf)).await;
    assert!(read <= 30, "nobody needs it: {read} pages");
    // Those of its own cluster, of all that have the name.
    let needed = named(&world, "Kustomization", &scope(3), "app-1").await;
    let read = pages(&mut connection, statement, &of(needed)).await;
    let bound = u64::try_from(APPS * 6).expect("few");
    assert!(read <= bound, "one cluster's need it: {read} pages");
    let woken: Vec<Uuid> = sqlx::query_scalar(statement)
        .bind(vec![needed])
        .fetch_all(&mut connection)
        .await
        .expect("asked");
    assert_eq!(woken.len(), 2, "{woken:?}");
    for app in ["app-2", "app-3"] {
        assert!(woken.contains(&named(&world, "Kustomization", &scope(3), app).await));
    }
}

#[tokio::test]
async fn a_source_of_the_fleet_is_used_by_those_who_have_none_of_its_name_and_the_others_are_not_read() {
    let world = World::new().await;
    fill(&world).await;
    let mut connection = planner(&world).await;
    let statement = "SELECT app FROM users_of($1) AS app";
    let source = named(&world, "GitRepository", "fleet()", "repo").await;
    let of = [("uuid", format!("'{source}'"))];
    let users: Vec<Uuid> = sqlx::query_scalar(statement)
        .bind(source)
        .fetch_all(&mut connection)
        .await
        .expect("asked");
    assert_eq!(
        i64::try_from(users.len()),
        Ok(APPS),
        "one cluster has none of its own"
    );
    let unsettled = async || {
        world
            .planning
            .unsettled_apps(&[source])
            .await
            .expect("read")
            .len()
    };
    assert_eq!(unsettled().await, users.len());
    let own = format!(
        "INSERT INTO resource (uid, scope, api_group, kind, namespace, name, api_version, origin)
         VALUES (gen_random_uuid(), {}, 'test.example.org', 'GitRepository', 'apps', 'repo', 'v1', 'test')",
        scope(1)
    );
    world.execute(&own).await;
    assert_eq!(unsettled().await, 0, "all have their own");
    let read = pages(&mut connection, statement, &of).await;
    let bound = u64::try_from(CLUSTERS * 10).expect("few");
    assert!(read <= bound, "two look-ups for each cluster: {read} pages");
    // Whom a change of it concerns is the same.
    let concerned = "SELECT app FROM apps_of($1) AS app";
    let of = [("uuid[]", format!("ARRAY['{source}']::uuid[]"))];
    let read = pages(&mut connection, concerned, &of).await;
    assert!(read <= bound + 20, "{read} pages");
}

#[tokio::test]
async fn a_revision_of_a_source_of_the_fleet_wakes_of_clusters_apps_those_that_wait_for_it() {
    let world = World::new().await;
    fill(&world).await;
    let source = named(&world, "GitRepository", "fleet()", "repo").await;
    let woken = async || {
        let woken: Vec<Uuid> = sqlx::query_scalar(
            "WITH woken AS (DELETE FROM due WHERE topic = 'app' RETURNING key)
             SELECT r.scope FROM woken w JOIN resource r ON r.uid = w.key",
        )
        .fetch_all(&world.pool)
        .await
        .expect("read");
        woken
    };
    let record = async |revision: &str| {
        let recorded = world.try_revision_of(source, revision, Changes::Anything).await;
        recorded.expect("recorded");
    };
    let statements = Statements::listen();
    record("r1").await;
    let mut asked: Vec<String> = statements.take().into_iter().map(|one| one.text).collect();
    asked.retain(|text| text.starts_with("WITH artifact AS"));
    assert_eq!(asked.len(), 1, "{asked:#?}");
    assert!(woken().await.is_empty(), "they wait for something else");
    // Which sources include it is not looked for among all that use it.
    let text = |word: &str| ("text", format!("'{word}'"));
    let revision = [
        ("uuid", format!("'{source}'")),
        text("r0"),
        text("r0"),
        text(""),
        ("bytea", "'config'".to_owned()),
        text("sha256:r0"),
        ("bigint", "1".to_owned()),
        text(""),
        text("Included"),
    ];
    let read = pages(&mut planner(&world).await, &asked[0], &revision).await;
    assert!(read <= 100, "{read} pages");
    // All wait for a revision: those that have a source of their own, for one of that.
    world
        .execute("UPDATE app_plan SET waiting = '[{\"reason\": \"NoArtifact\"}]'")
        .await;
    record("r2").await;
    let scopes = woken().await;
    assert_eq!(i64::try_from(scopes.len()), Ok(APPS));
    assert!(scopes.iter().all(|scope| *scope == cluster(1)));
    // What is suspended waits for nothing, and is rendered all the same; what is to be planned may have looked before.
    let one = named(&world, "Kustomization", &scope(1), "app-2").await;
    let other = named(&world, "Kustomization", &scope(1), "app-3").await;
    world
        .execute(&format!(
            "UPDATE app_plan SET waiting = '[]'; UPDATE resource SET suspended = true WHERE uid = '{one}';
             INSERT INTO due (topic, key) VALUES ('app', '{other}')"
        ))
        .await;
    record("r3").await;
    let changes =
        "SELECT count(*) FROM due WHERE key IN (SELECT uid FROM resource WHERE name IN ('app-2', 'app-3'))";
    assert_eq!(world.count(changes).await, 2);
    assert_eq!(woken().await.len(), 2);
}

#[tokio::test]
async fn what_ends_a_deletion_is_looked_up_and_not_among_all_units_and_all_that_is_kept() {
    let world = World::new().await;
    fill(&world).await;
    let owner = named(&world, "Kustomization", &scope(2), "app-1").await;
    let clusters = "INSERT INTO cluster (id, name, state)
                    SELECT DISTINCT scope, 'c' || scope, 'Active' FROM resource WHERE scope <> fleet()";
    let kept = format!("UPDATE resource SET owner = '{owner}' WHERE name <> 'app-1' AND scope <> fleet()");
    let units = "INSERT INTO target (digest, settings, variables) VALUES ('\\x01', '{}', '[]');
                 INSERT INTO unit (id, app_uid, cluster_id, target, state, cause)
                 SELECT gen_random_uuid(), uid, scope, '\\x01', 'Active', 'Commit' FROM resource WHERE kind = 'Kustomization';
                 INSERT INTO unit_status (unit_id, version, ready, reason, message, observed_at)
                 SELECT id, 1, 'True', 'Ready', '', now() FROM unit";
    for statement in [clusters, &kept, units, "ANALYZE"] {
        world.execute(statement).await;
    }
    let statements = Statements::listen();
    let weights = world.planning.weights(owner, cluster(2)).await.expect("read");
    assert_eq!(i64::try_from(weights.len()), Ok(APPS - 1));
    let source = named(&world, "GitRepository", "fleet()", "repo").await;
    let deleted = world.planning.delete_object(source, "admin").await;
    assert!(!deleted.expect("asked"), "apps are of it");
    world.planning.end_deletions(&[owner]).await.expect("asked");
    let left = world.planning.never_unasked(&[owner]).await.expect("read");
    assert!(left.is_empty(), "{left:?}");
    let deleting = world.planning.deleting_apps(&[owner]).await.expect("read");
    assert!(deleting.is_empty(), "{deleting:?}");
    let ours = [
        "WITH RECURSIVE below",
        "WITH RECURSIVE below",
        "WITH rolled AS",
        "WITH ended AS",
        "SELECT uid, deleting_at",
    ];
    let mut asked: Vec<String> = statements.take().into_iter().map(|one| one.text).collect();
    asked.retain(|text| ours.iter().any(|words| text.starts_with(words)));
    assert_eq!(asked.len(), ours.len(), "{asked:#?}");
    let read = whole_reads(&mut planner(&world).await, &asked).await;
    assert!(read.is_empty(), "{read:#?}");
}
