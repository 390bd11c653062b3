//! What apps need before them, by a running hub: which unit a name leads to, what is waited for and who is woken.

use flotilla_core::{rollout::waiting::Waiting, unit::Entry};
use flotilla_proto::fleet::v1::{ApplyRequest, Document};
use flotilla_testkit::wait_until;
use sqlx::{Row as _, types::Json};

use crate::{
    deploys::{Fleet, app, config_map},
    hub::PATIENCE,
};

const PLACEMENT: &str = "apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {name: both}
spec:
  apps:
    - {kind: Kustomization, name: app, namespace: apps}
    - {kind: Kustomization, name: base, namespace: apps}
  clusters: {names: [c1]}
";

/// `app` of the source `a`, which needs `base`.
fn needing(more: &str) -> String {
    app("a", "./app", &format!("  dependsOn: [{{name: base}}]\n{more}"))
}

fn base(source: &str, more: &str) -> String {
    app(source, "./base", more).replacen("name: app,", "name: base,", 1)
}

async fn fleet() -> (Fleet, flotilla_testkit::GitRepo) {
    let fleet = Fleet::empty().await;
    fleet.hub.world.cluster("c1").await;
    let files = [
        ("app/x.yaml", config_map("x", "1")),
        ("base/y.yaml", config_map("y", "1")),
    ];
    let repository = fleet
        .repository("a", &files.each_ref().map(|(path, text)| (*path, text.as_str())))
        .await;
    (fleet, repository)
}

/// What of an app's plan stands in the store.
#[derive(Debug, Clone, PartialEq)]
struct Planned {
    plan: i64,
    waiting: Vec<Waiting>,
    unit: Option<i64>,
}

async fn planned(fleet: &Fleet, name: &str) -> Option<Planned> {
    let row = sqlx::query(
        "SELECT p.version, p.waiting, u.version AS unit FROM resource r JOIN app_plan p ON p.app_uid = r.uid
         LEFT JOIN unit u ON u.app_uid = r.uid WHERE r.kind = 'Kustomization' AND r.name = $1",
    )
    .bind(name)
    .fetch_optional(&fleet.hub.world.pool)
    .await
    .expect("read")?;
    Some(Planned {
        plan: row.get("version"),
        waiting: row.get::<Json<_>, _>("waiting").0,
        unit: row.get("unit"),
    })
}

/// Waits until the plan of an app is such.
async fn until(fleet: &Fleet, name: &str, what: &str, is_so: impl Fn(&Planned) -> bool) -> Planned {
    let look = async || match planned(fleet, name).await {
        Some(planned) if is_so(&planned) => Ok(Some(planned)),
        other => Err(format!("{other:?}")),
    };
    wait_until(what, PATIENCE, look).await.expect(what)
}

/// The entry of an app as it is published.
async fn entry(fleet: &Fleet, name: &str) -> Entry {
    let look = async || {
        let store = &fleet.hub.world.store;
        let cluster = store.cluster_by_name("c1").await.expect("read").expect("there");
        let desired = store.desired(cluster.id).await.expect("read");
        let entries = desired.into_iter().flat_map(|desired| desired.entries);
        let entries = entries.map(|row| Entry::from_bytes(&row.bytes).expect("an entry"));
        let found = entries.into_iter().find(|entry| entry.app.name == name);
        Ok::<_, String>(found)
    };
    wait_until("it is published", PATIENCE, look)
        .await
        .expect("published")
}

fn messages(planned: &Planned) -> Vec<String> {
    planned.waiting.iter().map(Waiting::message).collect()
}

/// R43: a cycle is refused with its way; what is not there is waited for by name, and frees its dependent by coming.
#[tokio::test]
async fn r43_cycle_is_named_and_missing_dependency_waits_by_name() {
    let (fleet, _repository) = fleet().await;
    fleet.apply(&[&fleet.source("a"), &needing(""), PLACEMENT]).await;
    let waiting = entry(&fleet, "app").await;
    let [need] = &waiting.depends_on[..] else {
        panic!("one name: {waiting:?}");
    };
    assert_eq!(need.name, "apps/base");
    assert_eq!(need.units.len(), 2, "of the cluster, and of the fleet");
    assert!(need.units.iter().all(|needed| needed.version == 0));
    let before = until(&fleet, "app", "planned", |planned| planned.unit.is_some()).await;
    fleet.apply(&[&base("a", "")]).await;
    let of_base = entry(&fleet, "base").await;
    assert!(
        need.units.iter().any(|needed| needed.unit == of_base.unit),
        "the edge names the unit before it is there: {need:?} {of_base:?}"
    );
    fleet.hub.world.is_quiet().await;
    let after = planned(&fleet, "app").await.expect("planned");
    assert_eq!(
        after.unit, before.unit,
        "the app that waits is given nothing new for it"
    );
    let cycle = ApplyRequest {
        documents: vec![Document {
            file: "base.yaml".into(),
            text: base("a", "  dependsOn: [{name: app, namespace: apps}]\n"),
        }],
        ..ApplyRequest::default()
    };
    let refused = fleet.hub.fleet().await.apply(fleet.hub.authorized(cycle)).await;
    let refused = refused.expect_err("a cycle");
    assert_eq!(
        refused.message(),
        "Kustomization apps/base: spec.dependsOn: dependency cycle: apps/base -> apps/app -> apps/base"
    );
    assert_eq!(entry(&fleet, "base").await.depends_on, []);
}

#[tokio::test]
async fn app_of_the_same_source_moves_once_its_dependency_is_at_that_revision() {
    let (fleet, repository) = fleet().await;
    fleet
        .apply(&[&fleet.source("a"), &base("a", ""), &needing(""), PLACEMENT])
        .await;
    let first = until(&fleet, "app", "placed", |planned| planned.unit.is_some()).await;
    fleet.hub.world.is_quiet().await;
    // Both change; what comes first cannot be built.
    let files = [
        ("app/x.yaml", config_map("x", "2")),
        ("base/y.yaml", "a: [\n".to_owned()),
    ];
    repository
        .commit("main", &files, "broken")
        .await
        .expect("committed");
    fleet.end("GitRepository", "a", false).await;
    let held = until(&fleet, "app", "held", |planned| !planned.waiting.is_empty()).await;
    assert_eq!(held.unit, first.unit);
    assert!(
        held.waiting.iter().all(Waiting::is_of_dependency),
        "{:?}",
        messages(&held)
    );
    until(&fleet, "base", "it fails", |planned| {
        planned
            .waiting
            .iter()
            .any(|why| matches!(why, Waiting::BuildFailed { .. }))
    })
    .await;
    until(&fleet, "app", "held for what failed", |planned| {
        messages(planned) == ["dependency 'apps/base' is not ready"]
    })
    .await;
    let files = [("base/y.yaml", config_map("y", "2"))];
    repository
        .commit("main", &files, "mended")
        .await
        .expect("committed");
    fleet.end("GitRepository", "a", false).await;
    let moved = until(&fleet, "app", "it moves", |planned| planned.unit > first.unit).await;
    assert!(moved.waiting.is_empty(), "{:?}", messages(&moved));
    let of_base = planned(&fleet, "base").await.and_then(|base| base.unit);
    // It is published a moment after it is planned.
    let look = async || {
        let entry = entry(&fleet, "app").await;
        let needed = entry.depends_on[0].units.iter().map(|needed| needed.version);
        let newest = needed.max();
        match newest == of_base.map(i64::unsigned_abs) {
            true => Ok(Some(())),
            false => Err(format!("{newest:?} of {of_base:?}")),
        }
    };
    wait_until("it needs what is new", PATIENCE, look)
        .await
        .expect("so");
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn change_of_a_dependency_plans_nobody_who_needs_it() {
    let (fleet, repository) = fleet().await;
    fleet
        .apply(&[&fleet.source("a"), &base("a", ""), &needing(""), PLACEMENT])
        .await;
    until(&fleet, "app", "placed", |planned| planned.unit.is_some()).await;
    fleet.hub.world.is_quiet().await;
    let (app, of_base) = (planned(&fleet, "app").await, planned(&fleet, "base").await);
    let published = entry(&fleet, "app").await;
    let files = [("base/y.yaml", config_map("y", "2"))];
    repository
        .commit("main", &files, "base alone")
        .await
        .expect("committed");
    fleet.end("GitRepository", "a", false).await;
    let before = of_base.and_then(|base| base.unit);
    until(&fleet, "base", "it moves", |planned| planned.unit > before).await;
    fleet.hub.world.is_quiet().await;
    assert_eq!(planned(&fleet, "app").await, app);
    assert_eq!(entry(&fleet, "app").await, published);
}

#[tokio::test]
async fn cycle_that_comes_from_two_requests_of_one_is_refused_whole_and_ends_with_the_edge() {
    let (fleet, _repository) = fleet().await;
    fleet.apply(&[&fleet.source("a"), PLACEMENT]).await;
    let text = [needing(""), base("a", "  dependsOn: [{name: app}]\n")].join("---\n");
    let request = ApplyRequest {
        documents: vec![Document {
            file: "both.yaml".into(),
            text,
        }],
        ..ApplyRequest::default()
    };
    let refused = fleet.hub.fleet().await.apply(fleet.hub.authorized(request)).await;
    let refused = refused.expect_err("a cycle");
    assert!(refused.message().contains("dependency cycle: "), "{refused:?}");
    assert!(
        fleet.resources("Kustomization").await.is_empty(),
        "nothing of it is stored"
    );
    fleet.apply(&[&needing(""), &base("a", "")]).await;
    until(&fleet, "app", "it goes on", |planned| {
        planned.unit.is_some() && planned.waiting.is_empty()
    })
    .await;
    fleet.hub.world.is_quiet().await;
}
