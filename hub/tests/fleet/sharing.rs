//! Two hubs on one database: what one has fetched the other reads, and what is lost is fetched again.

use std::path::Path;

use flotilla_testkit::{GitAccess, GitServer};

use crate::{
    deploys::{Fleet, PLACEMENT, app, config_map},
    hub::{Hub, Setting},
    s3::S3,
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
        said.contains("s3://bucket/fleet") && said.contains("failed"),
        "{said}"
    );
    assert!(!said.contains(s3.secret()), "{said}");
}
