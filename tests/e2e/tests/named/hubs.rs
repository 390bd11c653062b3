//! A hub that is killed, loses its database, hears no answer to a commit, or is restored from yesterday: the clusters see
//! each commit once and none of yesterday's.

use std::time::Duration;

use e2e::hub::http_client;
use flotilla_testkit::wait_until;
use rustix::process::{Signal, kill_process};

use crate::{
    app::{App, WITHIN, maps, maps_of},
    denial::Denied,
    own::Own,
};

/// From before the fetch to after the publication, on a slow machine and on a fast one.
const KILLED_AFTER_MS: [u64; 6] = [0, 30, 80, 160, 300, 600];

fn receiver(app: &App) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: hook, namespace: flux-system}}
stringData: {{token: shared}}
---
apiVersion: notification.toolkit.fluxcd.io/v1
kind: Receiver
metadata: {{name: push, namespace: flux-system}}
spec:
  type: generic-hmac
  secretRef: {{name: hook}}
  resources: [{{kind: GitRepository, name: {}}}]
",
        app.name
    )
}

/// B.4 R1: the next start goes on from what the store holds, and the cluster is told each commit once.
#[tokio::test]
async fn r01_a_hub_killed_anywhere_on_a_commits_way_goes_on_where_it_was() {
    let mut own = Own::start("r01").await;
    let app = App::new(own.place(), "r01", &maps(&["a"])).await;
    app.cli.apply(&receiver(&app)).unwrap();
    app.until_applied().await;
    let mark = app.mark();
    for after in KILLED_AFTER_MS {
        let value = format!("after-{after}");
        app.repo
            .commit("main", &maps_of(&["a"], &value), &value)
            .await
            .unwrap();
        own.hub.push(&http_client().unwrap()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(after)).await;
        own.hub.kill().unwrap();
        own.hub.resume().await.unwrap();
        // Nobody asks again: what the webhook asked for was stored, and what was begun is ended.
        app.until_holds("a", &value).await;
        app.until_applied().await;
    }
    assert_eq!(app.asked_of("patch a", mark), KILLED_AFTER_MS.len());
    app.rests().await;
}

/// B.4 R2: what was acknowledged is there after any crash of the database, agents keep their streams, and commits go on.
#[tokio::test]
async fn r02_a_postgres_that_is_killed_in_a_storm_loses_nothing_that_was_acknowledged() {
    let own = Own::private("r02").await;
    let app = App::new(own.place(), "r02", &maps(&["a"])).await;
    app.until_applied().await;
    let streams = own.hub.logged("agent connected").unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let storm = {
            let cli = app.cli.clone();
            std::thread::spawn(move || {
                let name = |number: usize| format!("storm-{round}-{number}");
                let applied = |name: &String| cli.apply(&suspended(name)).is_ok();
                (0..10).map(name).filter(applied).collect::<Vec<_>>()
            })
        };
        let postgres = own.hub.postgres().unwrap();
        kill_process(postgres, Signal::KILL).unwrap();
        wait_until("another Postgres", WITHIN, async || {
            Ok::<_, String>(own.hub.postgres().filter(|pid| *pid != postgres))
        })
        .await
        .unwrap();
        acknowledged.extend(storm.join().unwrap());
        app.until("the storm is weathered", async || {
            app.cli
                .apply(&suspended("after"))
                .map(|_| true)
                .map_err(|e| format!("{e:#}"))
        })
        .await;
    }
    assert!(!acknowledged.is_empty());
    let there = app.cli.run(&["get", "sources", "git"]).unwrap();
    let lost = |name: &&String| {
        !there
            .lines()
            .any(|line| line.split_whitespace().next() == Some(name))
    };
    assert_eq!(
        acknowledged.iter().filter(lost).count(),
        0,
        "{acknowledged:?}\n{there}"
    );
    app.commit(&maps_of(&["a"], "two")).await;
    app.until_holds("a", "two").await;
    app.until_applied().await;
    assert_eq!(
        own.hub.logged("agent connected").unwrap(),
        streams,
        "no stream was opened anew"
    );
    app.rests().await;
}

/// B.4 R3: of what the hub commits, the answer is lost again and again. Each thing is done, and once.
#[tokio::test]
async fn r03_a_commit_whose_answer_is_lost_is_done_once() {
    const ROUNDS: usize = 8;
    let own = Own::lossy("r03").await;
    let commits = own.commits.as_ref().unwrap();
    let app = App::new(own.place(), "r03", &maps(&["a"])).await;
    app.until_applied().await;
    let mark = app.mark();
    commits.lose_one_of(3);
    for round in 0..ROUNDS {
        let value = format!("v{round}");
        app.repo
            .commit("main", &maps_of(&["a"], &value), &value)
            .await
            .unwrap();
        app.until("the hub has looked", async || {
            app.fetch().map(|_| true).map_err(|e| format!("{e:#}"))
        })
        .await;
        app.until_holds("a", &value).await;
        app.until("a source is stored", async || {
            let applied = app.cli.apply(&suspended(&format!("lossy-{round}")));
            applied.map(|_| true).map_err(|e| format!("{e:#}"))
        })
        .await;
    }
    commits.lose_one_of(0);
    assert!(commits.lost() >= 2 * ROUNDS, "{}", commits.lost());
    app.until_applied().await;
    assert_eq!(app.asked_of("patch a", mark), ROUNDS);
    let there = app.cli.run(&["get", "sources", "git", "--no-header"]).unwrap();
    assert_eq!(there.lines().count(), 1 + ROUNDS, "{there}");
    app.rests().await;
}

/// A source that nobody looks at.
fn suspended(name: &str) -> String {
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: {name}, namespace: flux-system}}
spec: {{url: https://git.invalid/a.git, interval: 1h, suspend: true}}
"
    )
}

/// B.4 R10, as the design has it: a hub of yesterday's backup. The agent comes back by itself, nothing goes back to
/// yesterday, nothing that is equal is applied, and what the backup did not know stays and is enforced.
#[tokio::test]
async fn r10_a_hub_restored_from_a_backup_rolls_nothing_back() {
    let mut own = Own::private("r10").await;
    let app = App::new(own.place(), "r10", &maps(&["a", "b"])).await;
    app.until_applied().await;
    let backup = app.place.plane.folder().join("backup-r10");
    own.hub.administer(&["backup", backup.to_str().unwrap()]).unwrap();
    app.commit(&maps_of(&["a", "b"], "two")).await;
    app.until_applied().await;
    let late = App::new(own.place(), "r10-late", &maps(&["late"])).await;
    late.until_applied().await;
    let (before, mark) = (app.uids().await, app.mark());
    let kept = late.uids().await;

    own.hub.stop().unwrap();
    own.hub
        .administer(&["restore", backup.to_str().unwrap(), "--replace"])
        .unwrap();
    own.hub.resume().await.unwrap();
    app.until("the agent is back", async || {
        let clusters = app
            .cli
            .run(&["get", "clusters", "--no-header"])
            .map_err(|e| format!("{e:#}"))?;
        Ok(clusters.contains("True"))
    })
    .await;
    app.until_applied().await;
    let value = app.objects.value("a", "of").await.unwrap();
    assert_eq!(value.as_deref(), Some("two"));
    let written = |app: &App| -> Vec<String> {
        app.asked(mark)
            .into_iter()
            .filter(|one| !one.starts_with("list") && !one.starts_with("get"))
            .collect()
    };
    assert_eq!(written(&app), Vec::<String>::new());
    assert_eq!(app.uids().await, before);

    late.objects.edit("late", "of", "by hand").await.unwrap();
    late.until_holds("late", "one").await;
    assert_eq!(late.uids().await, kept);
    app.commit(&maps_of(&["a", "b"], "three")).await;
    app.until_holds("b", "three").await;
    app.until_applied().await;
    assert_eq!([app.deleted(), late.deleted()].concat(), Vec::<String>::new());
    app.rests().await;
}

/// B.4 R7: the hub is away, also when the agent starts again: drift is corrected, and what was permitted to go goes.
#[tokio::test]
async fn r07_without_a_hub_drift_is_corrected_and_what_was_to_go_goes() {
    let mut own = Own::start("r07").await;
    let app = App::with(own.place(), "r07", &maps(&["a", "b"]), "retryInterval: 3s").await;
    app.until_applied().await;
    app.deny(Denied::Deletes, "b", "not now").await;
    app.repo
        .commit("main", &maps_of(&["a"], "two"), "without b")
        .await
        .unwrap();
    app.fetch().unwrap();
    app.until_unit(&["not now"]).await;
    own.hub.kill().unwrap();
    own.agent.kill();
    app.objects.edit("a", "of", "while nobody watched").await.unwrap();
    own.agent.resume();
    app.until_holds("a", "two").await;
    app.objects.edit("a", "of", "by hand").await.unwrap();
    app.until_holds("a", "two").await;
    assert!(app.uids().await.contains_key("b"));
    app.deny_no_more().await;
    app.until_gone("b").await;
    assert_eq!(app.deleted(), ["b"]);
    app.rests().await;
    own.hub.resume().await.unwrap();
    app.until_unit(&["\"pendingRemoval\":0", "\"ready\":\"True\""])
        .await;
}
