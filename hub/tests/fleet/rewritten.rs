//! A source whose history was rewritten says so, by a running hub.

use flotilla_proto::fleet::v1::{FleetEvent, ListEventsRequest};
use flotilla_testkit::wait_until;

use crate::{
    deploys::{Fleet, config_map},
    hub::PATIENCE,
};

/// What was told of rewritten histories.
async fn told(fleet: &Fleet) -> Vec<FleetEvent> {
    let request = ListEventsRequest {
        kind: "GitRepository".into(),
        name: "a".into(),
        ..ListEventsRequest::default()
    };
    let answer = fleet
        .hub
        .fleet()
        .await
        .list_events(fleet.hub.authorized(request))
        .await;
    let mut events = answer.expect("listed").into_inner().events;
    events.retain(|event| event.reason == "HistoryRewritten");
    events
}

#[tokio::test]
async fn a_rewritten_history_is_told_once_with_both_commits_and_one_that_goes_on_is_not() {
    let fleet = Fleet::empty().await;
    let first = config_map("x", "0");
    let repository = fleet.repository("a", &[("app/x.yaml", &first)]).await;
    fleet.apply(&[&fleet.source("a")]).await;
    for number in 1..3 {
        fleet.end("GitRepository", "a", false).await;
        fleet
            .commit(&repository, &config_map("x", &number.to_string()))
            .await;
    }
    fleet.end("GitRepository", "a", false).await;
    let before = repository.resolve("main").await.expect("read").expect("there");
    let other = repository
        .rewrite("main")
        .write("app/x.yaml", config_map("x", "9"));
    let after = other.commit("another past").await.expect("committed");
    fleet.end("GitRepository", "a", false).await;
    let events = wait_until("it is told", PATIENCE, async || {
        let events = told(&fleet).await;
        Ok::<_, String>((!events.is_empty()).then_some(events))
    });
    let events = events.await.expect("told");
    let message = &events[0].message;
    assert!(message.contains(&before) && message.contains(&after), "{message}");
    assert!(
        events[0].warning && events[0].revision.ends_with(&after),
        "{events:?}"
    );
    // Looked at again, and one more commit.
    fleet.end("GitRepository", "a", false).await;
    fleet.commit(&repository, &config_map("x", "10")).await;
    fleet.end("GitRepository", "a", false).await;
    fleet.hub.world.is_quiet().await;
    assert_eq!(told(&fleet).await.len(), 1);
    // A hub that ended between recording the commit and looking at its history: the next one looks.
    let open = format!(
        "WITH told AS (DELETE FROM event WHERE reason = 'HistoryRewritten')
         UPDATE source_state SET former_revision = 'main@sha1:{before}', former_commit = '{before}'"
    );
    fleet.hub.world.execute(&open).await;
    fleet.end("GitRepository", "a", false).await;
    let again = wait_until("it is told", PATIENCE, async || {
        let events = told(&fleet).await;
        Ok::<_, String>((!events.is_empty()).then_some(events))
    });
    let again = again.await.expect("told");
    assert!(again[0].message.contains(&before), "{again:?}");
    let left = "SELECT count(*) FROM source_state WHERE former_commit <> ''";
    assert_eq!(fleet.hub.world.count(left).await, 0);
}
