//! Plans and renderings of many apps that are written together: each stands or falls by itself, and all cost what one costs.

use std::time::Duration;

use flotilla_core::{
    content::{Content, Form, ObjectEntry, Objects},
    digest::Digest,
};
use flotilla_hub::store::{
    StoreError,
    content::Blob,
    plan::{Commit, OUTDATED, Unchanged},
    rendering::{Ended, Outcome},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    statements::Statements,
    store::config,
    world::{Gathered, Object, World, ended},
};

/// Apps of one cluster that have a content each and are not planned yet.
async fn apps(world: &World, count: usize) -> Vec<Gathered> {
    let cluster = world.cluster("c").await;
    let mut gathered = Vec::new();
    for n in 0..count {
        let app = world.app(&format!("a{n}")).await;
        let objects = [config(&format!("x{n}"), "a: 1"), config(&format!("y{n}"), "b: 1")];
        let content = world.render(app, "r1", &objects).await;
        gathered.push(world.gather(app, &[cluster], &content).await);
    }
    gathered
}

async fn commit(world: &World, gathered: &[Gathered]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let commits: Vec<Commit<'_>> = gathered.iter().map(|one| one.commit(1)).collect();
    let commits: Vec<&Commit<'_>> = commits.iter().collect();
    let committed = world.planning.commit_plans(&commits, &world.seal).await?;
    world.planning.end_rollouts(&committed.turned).await?;
    Ok(committed.each)
}

/// What a unit is, but for what differs from run to run.
const UNITS: &str =
    "SELECT string_agg(concat_ws(' ', r.name, u.version, o.app_uid = u.app_uid, o.clusters, a.state,
                        p.version, (SELECT count(*) FROM history h WHERE h.unit_id = u.id),
                        (SELECT count(*) FROM keyset_key k WHERE k.keyset = t.keyset)), ', ' ORDER BY r.name)
                     FROM unit u JOIN resource r ON r.uid = u.app_uid JOIN target t ON t.digest = u.target
                       JOIN app_plan p ON p.app_uid = u.app_uid JOIN rollout o ON o.id = u.rollout_id
                       JOIN admission a ON a.rollout_id = o.id AND a.cluster_id = u.cluster_id";

async fn text(world: &World, query: &'static str) -> String {
    sqlx::query_scalar::<_, Option<String>>(query)
        .fetch_one(&world.pool)
        .await
        .expect("read")
        .unwrap_or_default()
}

#[tokio::test]
async fn plans_of_thirty_apps_are_as_many_statements_as_one_and_come_to_the_same() {
    let world = World::new().await;
    let gathered = apps(&world, 31).await;
    let (first, others) = gathered.split_at(1);
    let statements = Statements::listen();
    world.store.ping().await.expect("it answers");
    assert!(!statements.take().is_empty(), "what is asked is heard");
    let mut counted = Vec::new();
    for some in [first, others] {
        let each = commit(&world, some).await.expect("committed");
        assert!(each.iter().all(Result::is_ok), "{each:?}");
        counted.push(statements.take().len());
    }
    // The locks of the claims, plans, rollouts, keys, units, proof of the claims, clearings of what is claimed, wake-ups,
    // commit, and telling others.
    assert_eq!(counted, [10, 10]);
    let units = text(&world, UNITS).await;
    let (alone, together) = units.split_once(", ").expect("many");
    let alone = alone.split_once(' ').expect("a name").1;
    assert_eq!(together.matches(alone).count(), 30, "{units}");
    // Another content of each: their former rollouts are turned.
    let cluster = world
        .store
        .cluster_by_name("c")
        .await
        .expect("read")
        .expect("there")
        .id;
    let mut again = Vec::new();
    for (n, one) in gathered.iter().enumerate() {
        let content = world
            .render(one.app, "r2", &[config(&format!("x{n}"), "a: 2")])
            .await;
        again.push(world.gather(one.app, &[cluster], &content).await);
    }
    let each = commit(&world, &again).await.expect("committed");
    assert!(each.iter().all(Result::is_ok), "{each:?}");
    let states = "SELECT string_agg(DISTINCT concat_ws(' ', n, state, count), ', ') FROM (
                    SELECT rank() OVER (PARTITION BY app_uid ORDER BY id) AS n, state, count(*) OVER (PARTITION BY state)
                    FROM rollout) AS r";
    assert_eq!(text(&world, states).await, "1 Superseded 31, 2 Progressing 31");
}

#[tokio::test]
async fn of_plans_written_together_those_that_are_outdated_are_left_out_and_no_other() {
    let world = World::new().await;
    let mut gathered = apps(&world, 4).await;
    // One is planned meanwhile, and one is marked anew.
    world.commit(&gathered[1]).await.expect("committed");
    gathered[2].unchanged = Some(Unchanged {
        mark: Some(Some(7)),
        content: None,
    });
    let each = commit(&world, &gathered).await.expect("the others are committed");
    let outdated = |one: &Result<(), StoreError>| matches!(one, Err(StoreError::Conflict(OUTDATED)));
    let outdated: Vec<bool> = each.iter().map(outdated).collect();
    assert_eq!(outdated, [false, true, true, false], "{each:?}");
    let planned = "SELECT string_agg(concat_ws(' ', r.name, p.version), ', ' ORDER BY r.name)
                   FROM app_plan p JOIN resource r ON r.uid = p.app_uid";
    assert_eq!(text(&world, planned).await, "a0 1, a1 1, a3 1");
    assert_eq!(world.count("SELECT count(*) FROM unit").await, 3);
    // Of these nothing is left: they are rolled back together.
    let each = commit(&world, &gathered[1..3]).await.expect("answered");
    assert!(each.iter().all(Result::is_err), "{each:?}");
}

#[tokio::test]
async fn of_two_plans_written_together_that_claim_one_object_neither_is_committed() {
    let world = World::new().await;
    let cluster = world.cluster("c").await;
    let mut gathered = Vec::new();
    for name in ["a", "b", "c"] {
        let app = world.app(name).await;
        let object = if name == "c" { "other" } else { "same" };
        let content = world.render(app, "r1", &[config(object, name)]).await;
        gathered.push(world.gather(app, &[cluster], &content).await);
    }
    let refused = commit(&world, &gathered).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict("an object's claim"))),
        "{refused:?}"
    );
    assert_eq!(world.count("SELECT count(*) FROM unit").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM app_plan").await, 0);
    // By themselves the first has it.
    let mut alone = Vec::new();
    for one in &gathered {
        alone.push(commit(&world, std::slice::from_ref(one)).await.is_ok());
    }
    assert_eq!(alone, [true, false, true]);
}

/// What came out of a rendering.
fn rendered(objects: &[Object]) -> Outcome {
    let entries = objects.iter().map(|one| ObjectEntry {
        key: one.key.clone(),
        form: Form::Yaml,
        digest: one.digest(),
    });
    let content = Content::Objects(Objects {
        entries: entries.collect(),
        count: u32::try_from(objects.len()).expect("few"),
        complete: true,
    });
    let blobs = objects.iter().map(|one| Blob {
        digest: *one.digest().as_bytes(),
        bytes: Zeroizing::new(one.bytes.clone()),
        secret: false,
    });
    Outcome::Done {
        content: *content.digest().as_bytes(),
        manifest: content.to_bytes().into(),
        objects: blobs.collect(),
        kept: None,
        notice: None,
        paths: Some(["base/all.yaml".to_owned()].into()),
    }
}

#[tokio::test]
async fn renderings_of_thirty_apps_are_as_many_statements_as_one_and_each_is_whole() {
    let world = World::new().await;
    let revision = world.revision("r1").await;
    let mut all: Vec<Ended> = Vec::new();
    let mut inputs = Vec::new();
    for n in 0..31 {
        let app = world.app(&format!("a{n}")).await;
        inputs.push(world.input(app, revision).await);
    }
    let statements = Statements::listen();
    world.store.ping().await.expect("it answers");
    assert!(!statements.take().is_empty(), "what is asked is heard");
    let taken = world.planning.take_inputs(&inputs).await.expect("taken");
    assert!(taken.iter().all(|one| matches!(one, Ok(None))), "{taken:?}");
    let known = world.planning.inputs(&inputs).await.expect("read");
    assert!(
        known
            .iter()
            .all(|one| matches!(one, Ok(Some(row)) if row.is_named)),
        "{known:?}"
    );
    let digests: Vec<Digest> = inputs.iter().map(|input| input.rendering).collect();
    let lease = Duration::from_secs(60);
    let begun = world
        .planning
        .begin_renderings(&digests, "replica", lease)
        .await
        .expect("begun");
    assert_eq!(begun, vec![Some(1); 31]);
    assert_eq!(statements.take().len(), 3);
    for (n, input) in inputs.iter().enumerate() {
        // Half of them have an object in common, and two have all: parts and objects are shared.
        let common = config("common", "a: common");
        let own = config(&format!("x{n}"), &format!("a: {}", n.max(1)));
        let outcome = match n {
            30 => Outcome::Failed {
                reason: "BuildFailed".into(),
                message: "no such file".into(),
            },
            n if n % 2 == 0 => rendered(&[common, own]),
            _ => rendered(&[own]),
        };
        all.push(ended(input.app, input.rendering, outcome));
    }
    let mut counted = Vec::new();
    for some in [&all[..1], &all[1..]] {
        world
            .planning
            .record_rendered(some, &world.seal)
            .await
            .expect("recorded");
        counted.push(statements.take().len());
    }
    // What is there, objects, contents, renderings, commit.
    assert_eq!(counted, [5, 5]);
    assert_eq!(
        world
            .count("SELECT count(*) FROM rendering WHERE state = 'Done' AND paths <> '{}'")
            .await,
        30
    );
    assert_eq!(
        world
            .count("SELECT count(*) FROM rendering WHERE state = 'Failed'")
            .await,
        1
    );
    let wrong = "SELECT count(*) FROM content c WHERE c.objects <> (SELECT count(*) FROM content_object o
                   WHERE o.content = c.digest)";
    assert_eq!(world.count(wrong).await, 0, "each has its objects");
    assert_eq!(world.count("SELECT count(*) FROM content").await, 30);
}

#[tokio::test]
async fn of_inputs_taken_together_those_whose_source_has_moved_on_are_refused() {
    let world = World::new().await;
    let first = world.revision("r1").await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    let old = world.input(a, first).await;
    let second = world.revision("r2").await;
    let new = world.input(b, second).await;
    let taken = world.planning.take_inputs(&[old, new]).await.expect("asked");
    assert!(
        matches!(taken[..], [Err(StoreError::Conflict(_)), Ok(None)]),
        "{taken:?}"
    );
    let named: Vec<Uuid> = sqlx::query_scalar("SELECT app_uid FROM app_input")
        .fetch_all(&world.pool)
        .await
        .expect("read");
    assert_eq!(named, [b]);
}
