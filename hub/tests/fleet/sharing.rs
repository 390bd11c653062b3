//! Two hubs on one database: what one has fetched the other reads, and what is lost is fetched again.

use std::{path::Path, time::Duration};

use flotilla_hub::store::Topic;
use flotilla_proto::fleet::v1::Condition;
use flotilla_testkit::{GitAccess, GitRepo, GitServer, wait_until};

use crate::{
    deploys::{Fleet, PLACEMENT, app, config_map},
    hub::{Hub, PATIENCE, Setting},
    s3::{Fault, S3},
};

/// Artifacts below a directory.
fn artifacts(dir: &Path) -> Vec<std::path::PathBuf> {
    let shards = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let files = shards.flat_map(|shard| std::fs::read_dir(shard.path()).into_iter().flatten().flatten());
    let files = files.map(|file| file.path());
    files
        .filter(|path| path.to_str().is_some_and(|path| path.ends_with(".tar.gz")))
        .collect()
}

async fn fleet(setting: &Setting) -> Fleet {
    let hub = Hub::start_as(setting).await;
    let git = GitServer::start(GitAccess::Public).await.expect("a Git server");
    hub.world.cluster("c1").await;
    Fleet { hub, git }
}

/// Two hubs that share `dir`, of which only the second decides; then the artifact is lost; then only the first is left.
async fn shared_through(setting: &Setting, dir: &Path) {
    let fleet = fleet(setting).await;
    let one = config_map("x", "1");
    let other = config_map("y", "1");
    let third = config_map("z", "1");
    let files = [
        ("app/x.yaml", one.as_str()),
        ("other/y.yaml", other.as_str()),
        ("third/z.yaml", third.as_str()),
    ];
    let _repository = fleet.repository("a", &files).await;
    let mut newer = setting.clone();
    newer
        .options
        .extend(["--writer-version".into(), i64::MAX.to_string()]);
    let second = fleet.hub.another_as(&newer).await;
    fleet
        .apply(&[&fleet.source("a"), &app("a", "./app", ""), PLACEMENT])
        .await;
    fleet.deployed("ConfigMap/apps/x").await;
    assert!(second.log().contains("planned"), "{}", second.log());
    let kept = artifacts(dir);
    assert_eq!(kept.len(), 1, "one artifact for both: {kept:?}");
    std::fs::remove_file(&kept[0]).expect("removed");
    fleet.apply(&[&app("a", "./other", "")]).await;
    fleet.deployed("ConfigMap/apps/y").await;
    assert_eq!(artifacts(dir), kept, "it is fetched again, and the same");
    second.stop().await;
    // The first hub reads what the second has fetched.
    let fetched = std::fs::metadata(&kept[0])
        .and_then(|file| file.modified())
        .expect("there");
    fleet.apply(&[&app("a", "./third", "")]).await;
    fleet.deployed("ConfigMap/apps/z").await;
    let now = std::fs::metadata(&kept[0])
        .and_then(|file| file.modified())
        .expect("there");
    assert_eq!(fetched, now, "nothing was fetched for the first hub");
    assert_eq!(fleet.hub.world.count("SELECT count(*) FROM revision").await, 1);
}

fn in_bucket(s3: &S3) -> Setting {
    let (url, _) = s3.place("fleet");
    Setting {
        environment: s3.environment(),
        ..Setting::of(&["--artifact-store", &url])
    }
}

/// Deploys one object of two.
async fn deploy(fleet: &Fleet) -> GitRepo {
    let (one, other) = (config_map("x", "1"), config_map("y", "1"));
    let files = [("app/x.yaml", one.as_str()), ("other/y.yaml", other.as_str())];
    let repository = fleet.repository("a", &files).await;
    fleet
        .apply(&[&fleet.source("a"), &app("a", "./app", ""), PLACEMENT])
        .await;
    fleet.deployed("ConfigMap/apps/x").await;
    repository
}

#[tokio::test]
async fn two_hubs_share_artifacts_in_a_directory_and_a_lost_one_is_fetched_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let setting = Setting::of(&["--artifact-store", dir.path().to_str().expect("text")]);
    shared_through(&setting, dir.path()).await;
}

#[tokio::test]
async fn two_hubs_share_artifacts_over_s3_and_a_lost_one_is_fetched_again() {
    let s3 = S3::start().await;
    let (url, path) = s3.place("fleet/one");
    let setting = Setting {
        environment: s3.environment(),
        ..Setting::of(&["--artifact-store", &url])
    };
    shared_through(&setting, &path).await;
}

#[tokio::test]
async fn a_second_hub_without_a_shared_store_is_refused_with_the_remedy_and_the_first_goes_on() {
    let hub = Hub::start().await;
    let kek = hub.world.dir.path().join("kek");
    let kek = kek.to_str().expect("text");
    let dir = tempfile::tempdir().expect("a directory");
    let own = tempfile::tempdir().expect("a directory");
    let own = own.path().to_str().expect("text");
    for options in [
        &["--kek-file", kek][..],
        // Shared it may be, but not with the first.
        &["--kek-file", kek, "--artifact-store", own],
    ] {
        let said = hub.refused(dir.path(), options).await;
        assert!(
            said.contains("another hub") && said.contains("--artifact-store"),
            "{said}"
        );
    }
    assert_eq!(hub.world.count("SELECT count(*) FROM replica").await, 1);
    assert_eq!(hub.health("/readyz").await.0, 200);
    // One that is not heard of any more is no other.
    hub.world
        .execute("UPDATE replica SET heartbeat = now() - interval '2 minutes'")
        .await;
    let second = hub.another_as(&Setting::default()).await;
    second.stop().await;
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_told_by_name_and_without_its_credential() {
    let s3 = S3::start().await;
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let (url, _) = s3.place("fleet");
    let mut setting = Setting {
        environment: s3.environment(),
        ..Setting::of(&["--artifact-store", &url])
    }
    .with_key(&hub);
    // As somebody whom the server does not know.
    setting
        .environment
        .push(("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN".into()));
    let said = hub.refused_as(dir.path(), &setting).await;
    assert!(
        said.contains("s3://bucket/fleet failed: access is denied (403") && said.contains("s3:ListBucket"),
        "{said}"
    );
    assert!(!said.contains(s3.secret()) && !said.contains("<Error>"), "{said}");
}

#[tokio::test]
async fn a_server_that_writes_nothing_under_a_condition_keeps_artifacts_all_the_same() {
    let s3 = S3::start().await;
    s3.has(Fault::TakesNoConditions);
    let fleet = fleet(&in_bucket(&s3)).await;
    deploy(&fleet).await;
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn what_is_applied_is_deployed_while_the_artifact_store_hangs_on_its_list() {
    let s3 = S3::start().await;
    s3.has(Fault::HangsOnLists);
    let fleet = fleet(&in_bucket(&s3)).await;
    let deployed = tokio::time::timeout(PATIENCE / 2, deploy(&fleet)).await;
    assert!(deployed.is_ok(), "wake-ups wait for nothing");
}

#[tokio::test]
async fn while_the_artifact_store_is_away_a_source_stays_as_it_was_and_it_and_its_apps_say_what_they_wait_for()
 {
    let s3 = S3::start().await;
    let fleet = fleet(&in_bucket(&s3)).await;
    let _repository = deploy(&fleet).await;
    let conditions = async || -> Vec<Condition> {
        let source = fleet.resource("GitRepository").await.expect("there");
        source.conditions
    };
    let of = |all: &[Condition], kind: &str| all.iter().find(|one| one.r#type == kind).cloned();
    let ready = of(&conditions().await, "Ready").expect("ready");
    assert_eq!(ready.status, "True");
    s3.has(Fault::Denies);
    let world = &fleet.hub.world;
    let asked = "UPDATE resource SET requested_at = 'now' WHERE kind = 'GitRepository'";
    world.execute(asked).await;
    let source = world.uid("GitRepository", "a").await;
    world.store.wake(Topic::Resource, &[source]).await.expect("woken");
    let waiting = wait_until("the reason", PATIENCE, async || {
        Ok::<_, String>(of(&conditions().await, "Reconciling"))
    });
    let waiting = waiting.await.expect("it says why");
    assert!(waiting.message.contains("access is denied (403"), "{waiting:?}");
    assert_eq!(of(&conditions().await, "Ready"), Some(ready.clone()));
    // An app that is to be rendered says so as well.
    fleet.apply(&[&app("a", "./other", "")]).await;
    let held = wait_until("the reason", PATIENCE, async || {
        let app = fleet.resource("Kustomization").await.expect("there");
        let said = of(&app.conditions, "Ready").filter(|one| one.message.contains("access is denied (403"));
        said.map(Some).ok_or(format!("{:?}", app.conditions))
    });
    held.await.expect("it says why");
    assert!(!fleet.hub.log().contains("canary"), "{}", fleet.hub.log());
    // What was asked for is done once the store is there again.
    assert_eq!(
        world
            .count("SELECT count(*) FROM resource WHERE handled_at = 'now'")
            .await,
        0
    );
    s3.has(Fault::None);
    world.store.wake(Topic::Resource, &[source]).await.expect("woken");
    let over = wait_until("the end of it", PATIENCE, async || {
        Ok::<_, String>(of(&conditions().await, "Reconciling").is_none().then_some(()))
    });
    over.await.expect("it waits no more");
    assert_eq!(of(&conditions().await, "Ready"), Some(ready));
    fleet.deployed("ConfigMap/apps/y").await;
    let told = "SELECT count(*) FROM event WHERE reason = 'StorageOperationFailed'";
    assert_eq!(world.count(told).await, 1);
    world.is_quiet().await;
}

#[tokio::test]
async fn a_hub_whose_other_was_killed_starts_at_once_with_a_store_of_its_own() {
    let mut hub = Hub::start().await;
    hub.kill();
    let began = std::time::Instant::now();
    let other = hub.another_as(&Setting::default()).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    other.stop().await;
}

#[tokio::test]
async fn a_hub_with_a_copy_of_anothers_data_directory_is_refused_by_name_and_that_one_goes_on() {
    let hub = Hub::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    let name = std::fs::read_to_string(hub.world.dir.path().join("replica")).expect("a name");
    std::fs::write(dir.path().join("replica"), &name).expect("copied");
    let artifacts = hub.world.dir.path().join("artifacts");
    let setting = Setting::of(&["--artifact-store", artifacts.to_str().expect("text")]).with_key(&hub);
    let said = hub.refused_as(dir.path(), &setting).await;
    assert!(said.contains(&name) && said.contains("remove the file"), "{said}");
    assert_eq!(hub.world.count("SELECT count(*) FROM replica").await, 1);
    assert_eq!(hub.health("/readyz").await.0, 200);
}
