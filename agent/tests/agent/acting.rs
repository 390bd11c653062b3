//! Apps that act as a ServiceAccount: what is asked as whom, and what becomes of an app whose account may not, or is not there.

use std::collections::BTreeSet;

use flotilla_agent::cluster::Account;
use flotilla_core::{
    object::ObjectKey,
    removal::{DeletionPolicy, Removal},
    unit::{Entry, Settings, UnitState, target_digest},
};
use flotilla_proto::agent::v1::Readiness;
use serde_json::{Value, json};

use crate::{
    scenes::{cleared, until_gone, version},
    world::{World, config_map, entry_with, key, settings, settle},
};

fn deployer() -> Account {
    Account::ServiceAccount {
        namespace: "flux-system".to_owned(),
        name: "deployer".to_owned(),
    }
}

fn as_deployer() -> Settings {
    Settings {
        service_account: "deployer".to_owned(),
        ..settings()
    }
}

fn acting(world: &mut World, objects: &[Value]) -> Entry {
    entry_with(1, world.contents.add(objects), as_deployer(), Vec::new())
}

fn create_account(world: &World) {
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "deployer", "namespace": "flux-system"}}),
    ] {
        world.cluster.write("admin", object);
    }
}

/// The account may do nothing.
fn take_rights(world: &World) {
    world
        .cluster
        .set_rights(Some(Box::new(|account, _, _| *account == Account::Agent)));
}

fn message(world: &World) -> String {
    world.unit(1).map(|unit| unit.message.clone()).unwrap_or_default()
}

/// What was asked of ConfigMaps, and by whom.
fn who_asked(world: &World) -> BTreeSet<(Account, &'static str)> {
    let calls = world.cluster.take_calls().into_keys();
    calls
        .filter(|call| call.kind == "ConfigMap")
        .map(|call| (call.account, call.verb))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn whatever_is_done_for_an_app_is_asked_as_its_account() {
    let mut world = World::new().await;
    create_account(&world);
    let first = acting(&mut world, &[config_map("x", "1"), config_map("y", "1")]);
    world.offer(std::slice::from_ref(&first)).await;
    world.until_ready(&first).await;
    let of_deployer = |verbs: &[&'static str]| -> BTreeSet<(Account, &'static str)> {
        verbs.iter().map(|verb| (deployer(), *verb)).collect()
    };
    settle().await;
    let mut asked = who_asked(&world);
    assert!(
        asked.remove(&(Account::Agent, "watch")) | asked.remove(&(Account::Agent, "list")),
        "what is there is watched once for all: {asked:?}"
    );
    assert_eq!(asked, of_deployer(&["apply", "get"]));

    world.set_value("kubectl-edit", "x", "hacked");
    world
        .until("drift is corrected", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    settle().await;
    let asked = who_asked(&world);
    assert!(
        asked.is_subset(&of_deployer(&["apply", "dry-run", "get", "patch"])),
        "{asked:?}"
    );

    let second = version(2, acting(&mut world, &[config_map("x", "1")]));
    world.offer(&[cleared(&second)]).await;
    until_gone(&mut world, "y").await;
    assert_eq!(who_asked(&world), of_deployer(&["delete", "get"]));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_may_not_is_named_and_nothing_is_done_in_its_place() {
    let mut world = World::new().await;
    create_account(&world);
    take_rights(&world);
    let wanted = acting(&mut world, &[config_map("x", "1")]);
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is refused", |world| {
            world.unit(1).is_some_and(|unit| unit.ready() == Readiness::False)
        })
        .await;
    let said = message(&world);
    assert!(
        said.contains(
            "User \"system:serviceaccount:flux-system:deployer\" cannot get resource \"configmaps\""
        ) && said.contains("give ServiceAccount flux-system/deployer, as which this app acts, the right"),
        "{said}"
    );
    assert_eq!(world.value("x"), None);
    world.cluster.set_rights(None);
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_missing_is_said_once_for_all_objects() {
    let mut world = World::new().await;
    take_rights(&world);
    let objects: Vec<Value> = (0..30).map(|n| config_map(&format!("c{n}"), "1")).collect();
    let wanted = acting(&mut world, &objects);
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is refused", |world| {
            world.unit(1).is_some_and(|unit| unit.ready() == Readiness::False)
        })
        .await;
    let said = message(&world);
    let missing =
        "ServiceAccount flux-system/deployer, as which this app acts, does not exist in this cluster";
    assert_eq!(said.matches(missing).count(), 1, "{said}");
    create_account(&world);
    world.cluster.set_rights(None);
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_account_as_which_the_agent_may_not_act_is_said_with_the_value_that_allows_it() {
    let mut world = World::new().await;
    create_account(&world);
    world
        .cluster
        .set_rights(Some(Box::new(|_, verb, _| verb != "impersonate")));
    let wanted = acting(&mut world, &[config_map("x", "1")]);
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is refused", |world| {
            world.unit(1).is_some_and(|unit| unit.ready() == Readiness::False)
        })
        .await;
    let said = message(&world);
    assert!(
        said.contains("add {namespace: flux-system, names: [deployer]} to `rbac.impersonate`"),
        "{said}"
    );
    assert_eq!(world.value("x"), None);
}

#[tokio::test(start_paused = true)]
async fn apps_that_name_no_account_act_as_the_default_one_of_their_namespace() {
    let mut world = World::new().await;
    world.default_account = "deployer".to_owned();
    world.restart().await;
    create_account(&world);
    world.cluster.take_calls();
    let wanted = world.ready(1, &[config_map("x", "1")]).await;
    world.set_value("kubectl-edit", "x", "hacked");
    world
        .until("drift is corrected", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    let writers: Vec<Account> = who_asked(&world)
        .into_iter()
        .filter(|(_, verb)| *verb == "apply")
        .map(|(account, _)| account)
        .collect();
    assert_eq!(writers, [deployer()]);
    assert!(world.is_ready(&wanted));
    world.rests().await;
}

/// The entry by which the hub removes an app.
fn removing(world: &mut World, policy: DeletionPolicy) -> Entry {
    let content = world.contents.add(&[]);
    let mut entry = version(2, entry_with(1, content, as_deployer(), Vec::new()));
    let target = target_digest(entry.content, &entry.settings, &entry.variables);
    entry.state = UnitState::Removing(Removal {
        policy,
        approval: Some(target),
    });
    entry.prune_approved = Some(target);
    cleared(&entry)
}

/// Flux skips what it cannot delete without the account, and lets the Kustomization go.
#[tokio::test(start_paused = true)]
async fn what_an_app_has_stays_when_it_is_deleted_after_its_account() {
    let mut world = World::new().await;
    create_account(&world);
    let first = acting(&mut world, &[config_map("x", "1")]);
    world.ready_as(first).await;
    let account = ObjectKey::new("", "ServiceAccount", "flux-system", "deployer");
    world.cluster.delete(&account);
    take_rights(&world);
    let removed = removing(&mut world, DeletionPolicy::MirrorPrune);
    world.offer(std::slice::from_ref(&removed)).await;
    world
        .until("it is told", |world| !world.events("Pruned").is_empty())
        .await;
    let told = &world.events("Pruned")[0].message;
    assert!(
        told.contains(
            "let go of ConfigMap/default/x (ServiceAccount flux-system/deployer is not there any more"
        ),
        "{told}"
    );
    settle().await;
    assert!(world.value("x").is_some());
    assert!(crate::scenes::items(&world, &removed).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_an_account_may_not_delete_is_waited_for_as_long_as_the_account_is_there() {
    let mut world = World::new().await;
    create_account(&world);
    let first = acting(&mut world, &[config_map("x", "1")]);
    world.ready_as(first).await;
    take_rights(&world);
    let removed = removing(&mut world, DeletionPolicy::Delete);
    world.offer(std::slice::from_ref(&removed)).await;
    world
        .until("it is said", |world| message(world).contains("not deleted"))
        .await;
    assert!(
        message(&world).contains("flux-system/deployer"),
        "{}",
        message(&world)
    );
    assert!(world.value("x").is_some());
    world.cluster.set_rights(None);
    world
        .until("it is deleted", |world| {
            world.cluster.object(&key("ConfigMap", "x")).is_none()
        })
        .await;
}

/// An agent that may do nothing itself but act as others sees drift as they do, by one watch for all of them.
#[tokio::test(start_paused = true)]
async fn what_the_agent_may_not_watch_is_watched_as_one_account_that_may() {
    let mut world = World::new().await;
    create_account(&world);
    world
        .cluster
        .set_rights(Some(Box::new(|account, verb, _| match account {
            Account::Agent => matches!(verb, "discover" | "uid" | "version" | "impersonate"),
            Account::ServiceAccount { name, .. } => name != "blind" || !matches!(verb, "watch" | "list"),
        })));
    let mut blind = acting(&mut world, &[config_map("x", "1")]);
    blind.settings.service_account = "blind".to_owned();
    blind.target = target_digest(blind.content, &blind.settings, &blind.variables);
    let content = world.contents.add(&[config_map("y", "1")]);
    let seeing = entry_with(2, content, as_deployer(), Vec::new());
    world.offer(&[blind.clone(), seeing.clone()]).await;
    world.until_ready(&blind).await;
    world.until_ready(&seeing).await;
    settle().await;
    for name in ["x", "y"] {
        world.set_value("kubectl-edit", name, "hacked");
        world
            .until("drift is corrected", |world| {
                world.value(name).as_deref() == Some("1")
            })
            .await;
    }
    let watchers: BTreeSet<Account> = who_asked(&world)
        .into_iter()
        .filter(|(_, verb)| *verb == "watch")
        .map(|(account, _)| account)
        .collect();
    assert!(watchers.contains(&deployer()), "{watchers:?}");
    // All namespaces are tried again by the agent itself now and then.
    world.cluster.take_calls();
    settle().await;
    let asked = who_asked(&world);
    assert!(
        asked.iter().all(|(account, _)| *account == Account::Agent),
        "{asked:?}"
    );
}
