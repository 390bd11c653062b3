//! The hub killed at many points of a commit's way: the next start goes on from what the store holds.

use std::time::Duration;

use super::main_job::{World, configuration, settings};

/// From before the fetch to after the publication, on a slow machine and on a fast one.
const KILLED_AFTER_MS: [u64; 6] = [0, 30, 80, 160, 300, 600];

#[tokio::test]
async fn a_hub_killed_anywhere_on_a_commits_way_goes_on_where_it_was() {
    flotilla_testkit::install_tls_provider();
    let dir = tempfile::tempdir().unwrap();
    // The private Postgres of a hub that runs as root is another user's.
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let mut world = World::new(dir.path()).await;
    world.hub.apply(&configuration(&world.url)).unwrap();
    world.holds("color", "one").await;
    for after in KILLED_AFTER_MS {
        let color = format!("after-{after}");
        world.commit("app/settings.yaml", &settings(&color), &color).await;
        world.push().await;
        tokio::time::sleep(Duration::from_millis(after)).await;
        world.hub.kill().unwrap();
        world.hub.resume().await.unwrap();
        // Nobody asks again: what the webhook asked for was stored, and what was begun is ended.
        world.holds("color", &color).await;
        world.until_app("True", "Applied revision: main@sha1:").await;
    }
}
