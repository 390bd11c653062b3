//! Apps that act as a ServiceAccount, judged by a real API server's RBAC.

use flotilla_core::unit::{Entry, target_digest};
use flotilla_proto::agent::v1::Readiness;
use flotilla_testkit::{AuditFilter, ControlPlane, ControlPlaneOptions};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::{
    rights::{apply, install},
    world::{World, config_map},
};

/// A control plane in which RBAC judges.
async fn plane() -> &'static ControlPlane {
    static PLANE: OnceCell<&'static ControlPlane> = OnceCell::const_new();
    let plane = PLANE.get_or_init(|| async {
        flotilla_testkit::install_tls_provider();
        let plane = ControlPlane::start(ControlPlaneOptions::named("acting"))
            .await
            .unwrap();
        let plane: &'static ControlPlane = Box::leak(Box::new(plane));
        plane
    });
    plane.await
}

async fn create_account(world: &World) {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "deployer", "namespace": world.namespace}});
    apply(world, &account).await;
}

/// Lets the account do this with ConfigMaps.
async fn allow(world: &World, verbs: &[&str]) {
    let named = json!({"name": "deployer", "namespace": world.namespace});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": named,
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": named,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deployer"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": world.namespace}]});
    apply(world, &role).await;
    apply(world, &binding).await;
}

/// An entry whose app lives in the world's namespace and acts as its account.
fn acting(world: &mut World, objects: &[Value]) -> Entry {
    let mut entry = world.prepare(objects, false);
    entry.app.namespace = world.namespace.clone();
    entry.settings.service_account = "deployer".to_owned();
    entry.target = target_digest(entry.content, &entry.settings, &entry.variables);
    entry
}

fn message(world: &World, entry: &Entry) -> String {
    let unit = world.units.get(&entry.unit.to_vec());
    unit.map(|unit| unit.message.clone()).unwrap_or_default()
}

async fn until_refused(world: &mut World, entry: &Entry, said: &str) {
    let unit = entry.unit.to_vec();
    let done = |world: &World| {
        world
            .units
            .get(&unit)
            .is_some_and(|unit| unit.ready() == Readiness::False && unit.message.contains(said))
    };
    world.until(said, done).await;
}

#[tokio::test]
async fn an_app_may_do_what_its_account_may_and_nothing_that_only_the_agent_may() {
    let mut world = World::over(plane().await).await;
    create_account(&world).await;
    // The agent is the cluster's administrator.
    let entry = acting(&mut world, &[config_map("x", "1")]);
    world.try_offer(&entry).await.unwrap();
    let user = format!("system:serviceaccount:{}:deployer", world.namespace);
    until_refused(&mut world, &entry, &format!("User \"{user}\" cannot get")).await;
    assert_eq!(world.value("x").await, None);

    allow(&world, &["get", "list", "create", "patch"]).await;
    world.until_ready(&entry).await;
    assert_eq!(world.value("x").await.as_deref(), Some("1"));
    world.edit("x", "hacked").await;
    world.until_value("x", "1").await;

    let filter = AuditFilter::all().user(&world.user).resource("configmaps");
    let requests = world
        .plane
        .audit()
        .requests(&filter.namespace(&world.namespace))
        .unwrap();
    let as_itself = requests
        .iter()
        .filter(|request| ["create", "patch", "update", "delete"].contains(&request.verb.as_str()))
        .filter(|request| request.impersonated_user.is_none());
    assert_eq!(as_itself.count(), 0, "each write is made as the account");
}

#[tokio::test]
async fn an_account_that_is_missing_is_named() {
    let mut world = World::over(plane().await).await;
    let entry = acting(&mut world, &[config_map("x", "1")]);
    world.try_offer(&entry).await.unwrap();
    let missing = format!(
        "ServiceAccount {}/deployer, as which this app acts, does not exist",
        world.namespace
    );
    until_refused(&mut world, &entry, &missing).await;
    create_account(&world).await;
    allow(&world, &["get", "list", "create", "patch"]).await;
    world.until_ready(&entry).await;
}

/// The least that an agent can have: it may do nothing itself but act as one account.
#[tokio::test]
async fn an_agent_acts_as_the_accounts_that_its_chart_names_and_as_no_other() {
    let mut world = World::over(plane().await).await;
    let namespace = world.namespace.clone();
    create_account(&world).await;
    allow(&world, &["get", "list", "watch", "create", "patch"]).await;
    let other = world.own.clone();
    let without = format!("{{profile: platform, impersonate: [{{namespace: {namespace}, names: [other]}}]}}");
    install(&mut world, &without, Vec::new()).await;
    let entry = acting(&mut world, &[config_map("x", "1")]);
    world.try_offer(&entry).await.unwrap();
    until_refused(&mut world, &entry, "cannot impersonate").await;
    let said = message(&world, &entry);
    let hint = format!("add {{namespace: {namespace}, names: [deployer]}} to `rbac.impersonate`");
    assert!(said.contains(&hint), "{said}");
    assert_eq!(world.value("x").await, None);
    assert_ne!(other, namespace);

    let with = format!("{{profile: platform, impersonate: [{{namespace: {namespace}, names: [deployer]}}]}}");
    install(&mut world, &with, Vec::new()).await;
    world.try_offer(&entry).await.unwrap();
    world.until_ready(&entry).await;
    world.edit("x", "hacked").await;
    world.until_value("x", "1").await;
}
