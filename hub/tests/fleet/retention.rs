//! Removing what no root reaches: a part at a time, beside whoever begins to use it again, each step by itself.

use std::{collections::BTreeMap, time::Duration};

use flotilla_hub::store::{StoreError, content::Blob, retention::Removed};
use flotilla_testkit::wait_until;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    statements::OWN,
    store::config,
    world::{Object, World},
};

/// Makes what is stored of contents older than it is kept without a use.
const AGED: &str = "UPDATE content SET referenced_at = now() - interval '2 days';
    UPDATE part SET referenced_at = now() - interval '2 days';
    UPDATE object SET referenced_at = now() - interval '2 days';";

/// Writes down how many rows each statement deletes of these tables.
async fn count_deletions(world: &World, tables: &[&str]) {
    world
        .execute(
            "CREATE TABLE deleted (of_table text, rows bigint);
             CREATE FUNCTION count_deleted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               INSERT INTO deleted SELECT TG_TABLE_NAME, count(*) FROM gone; RETURN NULL;
             END $$",
        )
        .await;
    for table in tables {
        world
            .execute(&format!(
                "CREATE TRIGGER deleted AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone
                 FOR EACH STATEMENT EXECUTE FUNCTION count_deleted()"
            ))
            .await;
    }
}

/// By table, the rows of each statement, most first.
async fn deletions(world: &World) -> BTreeMap<String, Vec<i64>> {
    let rows = "SELECT of_table, array_agg(rows ORDER BY rows DESC) FROM deleted GROUP BY 1";
    let rows: Vec<(String, Vec<i64>)> = sqlx::query_as(rows)
        .fetch_all(&world.pool)
        .await
        .expect("counted");
    rows.into_iter().collect()
}

/// Contents of a part of ten objects each, and renderings, that nothing names and that were not used for long.
async fn unused(world: &World, contents: usize, renderings: usize) {
    world
        .execute(&format!(
            "INSERT INTO content (digest, bytes, decoded_size, objects)
               SELECT sha256(('c' || n)::bytea), '', 0, 10 FROM generate_series(1, {contents}) n;
             INSERT INTO part (digest) SELECT sha256(('p' || n)::bytea) FROM generate_series(1, {contents}) n;
             INSERT INTO object (digest, bytes, decoded_size)
               SELECT sha256((n || '/' || m)::bytea), '', 0
               FROM generate_series(1, {contents}) n, generate_series(1, 10) m;
             INSERT INTO content_part (content, part)
               SELECT sha256(('c' || n)::bytea), sha256(('p' || n)::bytea) FROM generate_series(1, {contents}) n;
             INSERT INTO part_object (part, object)
               SELECT sha256(('p' || n)::bytea), sha256((n || '/' || m)::bytea)
               FROM generate_series(1, {contents}) n, generate_series(1, 10) m;
             INSERT INTO rendering (digest, state, finished_at)
               SELECT sha256(n::text::bytea), 'Failed', now() - interval '2 days'
               FROM generate_series(1, {renderings}) n;
             {AGED}"
        ))
        .await;
}

#[tokio::test]
async fn renderings_contents_parts_and_objects_are_removed_by_statements_of_bounded_rows() {
    let world = World::new().await;
    unused(&world, 1200, 12_000).await;
    let tables = ["rendering", "content", "part", "object"];
    count_deletions(&world, &tables).await;
    let expected = Removed {
        renderings: 12_000,
        contents: 1200,
        objects: 12_000,
        ..Removed::default()
    };
    assert_eq!(world.remove_unused().await, expected);
    let (many, few) = (vec![5000, 5000, 2000], vec![500, 500, 200]);
    let statements = tables.map(str::to_owned).into_iter();
    let statements = statements.zip([many.clone(), few.clone(), few, many]);
    assert_eq!(deletions(&world).await, statements.collect());
    for held in ["part_object", "content_part"] {
        assert_eq!(
            world.count(&format!("SELECT count(*) FROM {held}")).await,
            0,
            "{held}"
        );
    }
    assert_eq!(world.remove_unused().await, Removed::default());
}

#[tokio::test]
async fn inputs_revisions_artifacts_and_values_are_removed_by_statements_of_bounded_rows() {
    let world = World::new().await;
    let app = world.app("a").await;
    let revision = world.revision("kept").await;
    let kept = world.render_at(app, revision, &[config("x", "a: 1")]).await;
    let cluster = world.cluster("c1").await;
    let value = Blob {
        digest: [1; 32],
        bytes: Zeroizing::new(b"{}".to_vec()),
        secret: false,
    };
    let gathered = world
        .gather_with(app, &[cluster], &kept, vec![value], BTreeMap::new())
        .await;
    world.commit(&gathered).await.expect("committed");
    world
        .execute(
            "INSERT INTO artifact (digest, size) SELECT 'sha256:' || n, 1 FROM generate_series(1, 6000) n;
             INSERT INTO revision (source_uid, revision, commit_id, config_digest, artifact_digest)
               SELECT v.source_uid, n, n, '', 'sha256:' || n FROM revision v, generate_series(1, 6000) n;
             INSERT INTO input_at (input_key, revision_id, until_id, source_uid, fields, rendering, newest)
               SELECT sha256((v.id / 2)::text::bytea), v.id, v.id, v.source_uid, '', '', false
               FROM revision v WHERE v.revision <> 'kept';
             INSERT INTO config_value (digest, bytes, decoded_size, secret)
               SELECT sha256(n::text::bytea), '', 0, false FROM generate_series(1, 6000) n;
             UPDATE revision SET created_at = now() - interval '2 days';
             UPDATE artifact SET referenced_at = now() - interval '2 days';
             UPDATE config_value SET referenced_at = now() - interval '2 days'",
        )
        .await;
    let tables = ["artifact", "config_value", "input_at", "revision"];
    count_deletions(&world, &tables).await;
    let expected = Removed {
        revisions: 6000,
        configs: 6000,
        artifacts: 6000,
        ..Removed::default()
    };
    assert_eq!(world.remove_unused().await, expected);
    let statements = deletions(&world).await;
    for table in tables {
        // Where what is kept stands in its page is by chance; and what takes others with it is a statement of theirs.
        let rows = &statements[table];
        assert!(rows.iter().all(|rows| *rows <= 5000), "{table}: {rows:?}");
        assert_eq!(rows.iter().sum::<i64>(), 6000, "{table}: {rows:?}");
        assert_eq!(
            world.count(&format!("SELECT count(*) FROM {table}")).await,
            1,
            "{table}"
        );
    }
    assert_eq!(world.remove_unused().await, Removed::default());
}

/// Of an input that an app has, the last twenty are kept.
#[tokio::test]
async fn of_an_input_what_it_was_in_the_last_twenty_changes_is_kept() {
    let world = World::new().await;
    let app = world.app("a").await;
    for n in 1..=25 {
        let revision = world.revision(&format!("r{n}")).await;
        let text = format!("n: {n}");
        world.render_at(app, revision, &[config("x", &text)]).await;
    }
    let inputs = async || world.count("SELECT count(*) FROM input_at").await;
    assert_eq!(inputs().await, 25);
    world.remove_unused().await;
    assert_eq!(inputs().await, 21, "the newest, and twenty before it");
    let oldest = "SELECT min(substr(v.revision, 2)::int)::bigint FROM input_at t JOIN revision v ON v.id = t.revision_id";
    assert_eq!(world.count(oldest).await, 5);
    world.remove_unused().await;
    assert_eq!(inputs().await, 21);
}

/// An app whose spec changes with each build leaves an input behind each time, of which no commit may tell.
#[tokio::test]
async fn the_newest_of_an_input_that_no_app_has_any_more_goes_once_its_rendering_is_old() {
    let world = World::new().await;
    let app = world.app("a").await;
    let revision = world.revision("r1").await;
    world.render_at(app, revision, &[config("x", "a: 1")]).await;
    let inputs = async || world.count("SELECT count(*) FROM input_at WHERE newest").await;
    let left = "INSERT INTO input_at (input_key, revision_id, source_uid, fields, rendering, newest)
                SELECT sha256(n::text::bytea), revision_id, source_uid, '', rendering, true
                FROM input_at t, generate_series(1, 50) n";
    world.execute(left).await;
    world.remove_unused().await;
    assert_eq!(inputs().await, 51, "an app may just be at it");
    world
        .execute("UPDATE rendering SET created_at = now() - interval '2 days', finished_at = now() - interval '2 days'")
        .await;
    world.remove_unused().await;
    assert_eq!(inputs().await, 1, "that of the app is kept");
    let kept = "SELECT count(*) FROM input_at t JOIN app_input a ON a.input_key = t.input_key";
    assert_eq!(world.count(kept).await, 1);
}

/// Renders until it is recorded, as the hub does.
async fn render(world: &World, app: Uuid, revision: i64, objects: &[Object]) {
    loop {
        match world.try_render(app, revision, objects, None).await {
            Ok(_) => return,
            Err(StoreError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn r42_a_content_that_is_used_again_just_when_it_is_removed_is_whole() {
    let world = World::new().await;
    let app = world.app("a").await;
    let revision = world.revision("r1").await;
    // So many bytes that what is there is asked for.
    let text = |n: usize| format!("a: {n}{}", "x".repeat(400));
    let objects: Vec<Object> = (0..300).map(|n| config(&format!("x{n}"), &text(n))).collect();
    render(&world, app, revision, &objects).await;
    let let_go = format!("DELETE FROM rendering WHERE state = 'Done'; {AGED}");
    for _ in 0..3 {
        unused(&world, 600, 0).await;
        world.execute(&let_go).await;
        let again = async {
            for round in 0..5 {
                if round > 0 {
                    world.execute(&let_go).await;
                }
                render(&world, app, revision, &objects).await;
            }
        };
        let (_, ()) = tokio::join!(world.remove_unused(), again);
        let whole = "SELECT count(*) FROM rendering r JOIN content_object c ON c.content = r.content
                     JOIN object o ON o.digest = c.object";
        assert_eq!(world.count(whole).await, 300);
        world.remove_unused().await;
        assert_eq!(world.count(whole).await, 300, "what is used stays");
    }
}

#[tokio::test]
async fn a_step_of_retention_that_fails_is_named_and_the_others_are_done() {
    let world = World::new().await;
    unused(&world, 3, 3).await;
    world
        .execute(
            "CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'crash'; END $$;
             CREATE TRIGGER crash BEFORE DELETE ON rendering FOR EACH STATEMENT EXECUTE FUNCTION crash()",
        )
        .await;
    let (removed, failed) = world.store.remove_unused().await;
    assert_eq!(
        (removed.renderings, removed.contents, removed.objects),
        (0, 3, 30)
    );
    let failed: Vec<String> = failed.iter().map(ToString::to_string).collect();
    assert_eq!(failed, ["removing unused renderings failed"]);
    world.execute("DROP TRIGGER crash ON rendering").await;
    assert_eq!(world.remove_unused().await.renderings, 3);
}

#[tokio::test]
async fn a_target_that_is_planned_again_just_when_it_is_removed_is_there() {
    let world = World::new().await;
    let (app, cluster) = (world.app("a").await, world.cluster("c").await);
    let one = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[cluster], &one).await;
    let other = world.render(app, "r2", &[config("x", "a: 2")]).await;
    world.roll_out(app, &[cluster], &other).await;
    let back = world.gather(app, &[cluster], &one).await;
    // Nothing names the first any more, and its removal waits for what the test holds.
    world
        .execute(
            "DELETE FROM history; UPDATE target SET referenced_at = now() - interval '2 days';
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               PERFORM pg_advisory_xact_lock(4711); RETURN OLD; END $$;
             CREATE TRIGGER wait BEFORE DELETE ON target FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .await;
    let mut held = world.pool.begin().await.expect("begun");
    sqlx::query("SELECT pg_advisory_xact_lock(4711)")
        .execute(&mut *held)
        .await
        .expect("held");
    let waiting = async |count: i64| {
        let query = format!(
            "{OWN} SELECT count(*) = {count} FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        );
        wait_until("they wait", Duration::from_secs(30), async || {
            let wait: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(query.as_str()))
                .fetch_one(&world.pool)
                .await?;
            Ok::<_, sqlx::Error>(wait.then_some(()))
        })
        .await
        .expect("they wait");
    };
    let removed = world.remove_unused();
    let planned = async {
        waiting(1).await;
        let (committed, ()) = tokio::join!(world.commit(&back), async {
            waiting(2).await;
            held.rollback().await.expect("let go");
        });
        committed.expect("committed");
    };
    let (removed, ()) = tokio::join!(removed, planned);
    assert_eq!(removed.targets, 1, "it was removed");
    let named = "SELECT count(*) FROM unit u JOIN target t ON t.digest = u.target AND t.content IS NOT NULL";
    assert_eq!(world.count(named).await, 1, "and written again");
}

#[tokio::test]
async fn admissions_go_with_their_rollout() {
    let world = World::new().await;
    let (app, cluster) = (world.app("a").await, world.cluster("c").await);
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[cluster], &content).await;
    assert_eq!(world.count("SELECT count(*) FROM admission").await, 1);
    world.execute("DELETE FROM rollout").await;
    assert_eq!(world.count("SELECT count(*) FROM admission").await, 0);
}

#[tokio::test]
async fn the_keys_of_a_set_go_with_it_and_those_of_others_stay() {
    let world = World::new().await;
    let (app, cluster) = (world.app("a").await, world.cluster("c").await);
    let content = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[cluster], &content).await;
    world
        .execute(
            "INSERT INTO keyset SELECT sha256(n::text::bytea), now() - interval '2 days' FROM generate_series(1, 700) n;
             INSERT INTO keyset_key SELECT digest, '', 'ConfigMap', 'apps', 'x' FROM keyset
               WHERE referenced_at < now() - interval '1 day'",
        )
        .await;
    assert_eq!(world.count("SELECT count(*) FROM keyset_key").await, 701);
    world.remove_unused().await;
    assert_eq!(world.count("SELECT count(*) FROM keyset").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM keyset_key").await, 1);
}

/// No key holds them: they are asked for.
#[tokio::test]
async fn the_revision_and_the_rollout_that_a_unit_names_stay_for_as_long_as_it_does() {
    let world = World::new().await;
    let (app, cluster) = (world.app("a").await, world.cluster("c").await);
    let first = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[cluster], &first).await;
    // Twenty-five more rollouts of nothing, and revisions that are the source's present ones in their turn.
    world
        .execute(
            "INSERT INTO rollout (app_uid, state, cause, clusters, clusters_applied, finished_at)
               SELECT app_uid, 'Complete', 'Revision', 0, 0, now() FROM rollout, generate_series(1, 25);
             UPDATE rollout SET state = 'Complete', finished_at = now() - interval '2 days'",
        )
        .await;
    world.revision("r2").await;
    let age = "UPDATE revision SET created_at = now() - interval '2 days';
               DELETE FROM input_at; UPDATE rollout SET revision_id = NULL";
    world.execute(age).await;
    world.remove_unused().await;
    let named = "SELECT count(*) FROM unit u JOIN revision v ON v.id = u.revision_id JOIN rollout r ON r.id = u.rollout_id";
    assert_eq!(world.count(named).await, 1);
    assert_eq!(world.count("SELECT count(*) FROM rollout").await, 21);
    world
        .execute("UPDATE unit SET revision_id = NULL, rollout_id = NULL")
        .await;
    let removed = world.remove_unused().await;
    assert_eq!(
        removed.rollouts, 1,
        "the unit's alone was kept beside the last twenty"
    );
    assert_eq!(removed.revisions, 1);
}

/// What is written for each cluster of a commit asks for nothing that all of them name.
#[tokio::test]
async fn rows_of_a_commit_name_by_foreign_keys_their_own_cluster_app_and_unit_alone() {
    let world = World::new().await;
    let keys: Vec<String> = sqlx::query_scalar(
        "SELECT conrelid::regclass || ' ' || confrelid::regclass FROM pg_constraint
         WHERE contype = 'f' AND conrelid = ANY (ARRAY['unit', 'unpublished', 'admission', 'desired_entry', 'unit_accepted',
           'unit_status', 'history']::regclass[])
         ORDER BY 1",
    )
    .fetch_all(&world.pool)
    .await
    .expect("read");
    let expected = [
        "desired_entry cluster",
        "desired_entry unit",
        "unit cluster",
        "unit resource",
        "unit_accepted cluster",
        "unit_accepted unit",
    ];
    assert_eq!(keys, expected);
}
