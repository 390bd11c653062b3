//! Which revision an app had from when to when.

use flotilla_proto::fleet::v1::HeldTarget;
use insta::assert_snapshot;

use crate::fleet::REVISION;
use crate::hub::{Answers, Hub, NOW_MS};

const HOUR: i64 = 3_600_000;

fn held(version: u64, result: &str, from_ms: i64, until_ms: i64) -> HeldTarget {
    HeldTarget {
        cluster: "c1".to_owned(),
        unit_id: "a unit".to_owned(),
        version,
        target: vec![u8::try_from(version).expect("small"); 2].into(),
        revision: REVISION.to_owned(),
        cause: "content".to_owned(),
        result: result.to_owned(),
        from_ms: NOW_MS - from_ms,
        until_ms: if until_ms == 0 { 0 } else { NOW_MS - until_ms },
        ready_ms: if result == "healthy" {
            NOW_MS - from_ms + 4000
        } else {
            0
        },
    }
}

fn answers() -> Answers {
    Answers {
        held: vec![
            held(4, "healthy", HOUR, 0),
            held(3, "superseded", 2 * HOUR, HOUR),
            held(2, "failed", 5 * HOUR, 2 * HOUR),
            held(1, "applied", 50 * HOUR, 5 * HOUR),
        ],
        ..Answers::default()
    }
}

#[tokio::test]
async fn history_lists_what_an_app_had_the_newest_first_through_all_pages() {
    let hub = Hub::start(answers()).await;
    assert_snapshot!(hub.run(&["history", "ks/apps", "--cluster", "c1"]).await, @"
    exit 0
    -- out
    CLUSTER	REVISION          	RESULT    	AGE	LASTED 	CAUSE
    c1     	main@sha1:696f056d	healthy   	60m	present	content
    c1     	main@sha1:696f056d	superseded	2h 	60m    	content
    c1     	main@sha1:696f056d	failed    	5h 	3h     	content
    c1     	main@sha1:696f056d	applied   	2d 	45h    	content
    -- err
    ");
    assert_eq!(hub.seen().len(), 2, "{:?}", hub.seen());
    let wide = hub
        .run(&["history", "ks/apps", "-o", "wide", "--limit", "3"])
        .await;
    assert_eq!(wide.out.lines().count(), 4, "{wide}");
    assert!(
        wide.out.contains("READY AFTER") && wide.out.contains("4s") && wide.out.contains("0404"),
        "{wide}"
    );
    let one = hub
        .run(&["history", "ks/apps", "--limit", "1", "-o", "json"])
        .await;
    let read: serde_json::Value = serde_json::from_str(&one.out).expect("JSON");
    let items = read["items"].as_array().expect("a list");
    assert_eq!(
        (items.len(), &items[0]["result"], &items[0]["version"]),
        (1, &"healthy".into(), &4.into())
    );
    assert_eq!(
        hub.run(&["history", "ks/apps", "-o", "name", "--limit", "2"])
            .await
            .out,
        "c1/4\nc1/3\n"
    );
    assert_eq!(hub.run(&["history", "ks/apps", "--limit", "0"]).await.code, 2);
}

#[tokio::test]
async fn history_of_an_app_that_is_gone_has_nothing_that_is_present() {
    let hub = Hub::start(Answers {
        held: vec![held(2, "removed", HOUR, 0), held(1, "applied", 50 * HOUR, HOUR)],
        ..Answers::default()
    })
    .await;
    assert_snapshot!(hub.run(&["history", "ks/apps", "--cluster", "c1"]).await, @"
    exit 0
    -- out
    CLUSTER	REVISION          	RESULT 	AGE	LASTED	CAUSE
    c1     	main@sha1:696f056d	removed	60m	      	content
    c1     	main@sha1:696f056d	applied	2d 	2d    	content
    -- err
    ");
}

#[tokio::test]
async fn history_of_nothing_says_so() {
    let hub = Hub::start(Answers::default()).await;
    assert_snapshot!(hub.run(&["history", "ks/apps", "--no-header"]).await, @"
    exit 0
    -- out
    -- err
    ⚠️ nothing of Kustomization/flux-system/apps is on record
    ");
}
