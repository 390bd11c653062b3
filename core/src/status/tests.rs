use std::time::Duration;

use super::*;
use crate::{clock::Timestamp, object::ObjectKey};

fn revision(id: i64) -> Option<Revision> {
    Some(Revision {
        id,
        name: format!("main@sha1:{id}"),
    })
}

/// A unit that is connected and has applied its target.
fn ready(cluster: &str) -> UnitFacts {
    UnitFacts {
        cluster: cluster.to_owned(),
        connected: true,
        silent: false,
        current: true,
        applied: true,
        refused: false,
        ready: Readiness::True,
        reason: "ReconciliationSucceeded".to_owned(),
        message: "applied".to_owned(),
        notes: String::new(),
        waiting: Vec::new(),
        revision: revision(2),
    }
}

fn failed(cluster: &str) -> UnitFacts {
    UnitFacts {
        applied: false,
        ready: Readiness::False,
        reason: "ReconciliationFailed".to_owned(),
        message: "field is immutable".to_owned(),
        revision: revision(1),
        ..ready(cluster)
    }
}

fn behind(cluster: &str) -> UnitFacts {
    UnitFacts {
        current: false,
        applied: false,
        revision: revision(1),
        ..ready(cluster)
    }
}

fn away(facts: UnitFacts) -> UnitFacts {
    UnitFacts {
        connected: false,
        silent: true,
        ..facts
    }
}

fn facts(units: Vec<(u64, UnitFacts)>) -> AppFacts {
    AppFacts {
        observed: true,
        units: units
            .into_iter()
            .map(|(units, first)| Alike {
                units,
                first,
                first_turned: Timestamp(0),
                last_turned: Timestamp(0),
            })
            .collect(),
        ..AppFacts::default()
    }
}

fn said(ready: &Ready) -> (Readiness, &str, &str) {
    (ready.status, &ready.reason, &ready.message)
}

const ANSWERED: Followed = Followed {
    handled: true,
    unanswered: 0,
    failing_for: None,
};

const FAILING: Followed = Followed {
    failing_for: Some(SETTLED),
    ..ANSWERED
};

#[test]
fn an_app_is_ready_only_when_every_unit_is() {
    let all = facts(vec![(2999, ready("c1"))]);
    assert_eq!(
        said(&app(&all)),
        (
            Readiness::True,
            "ReconciliationSucceeded",
            "Applied revision: main@sha1:2 on 2999 clusters"
        )
    );
    // The one that failed may be the last of thousands.
    let one = facts(vec![
        (2998, ready("c1")),
        (3, behind("c2000")),
        (1, failed("c3000")),
    ]);
    assert_eq!(
        said(&app(&one)),
        (
            Readiness::False,
            "ReconciliationFailed",
            "2998/3002 ready; c3000: field is immutable"
        )
    );
    let slow = facts(vec![(1, ready("c1")), (1, behind("c2"))]);
    assert_eq!(
        said(&app(&slow)),
        (
            Readiness::Unknown,
            PROGRESSING,
            "1/2 ready; c2: waiting for the agent"
        )
    );
}

#[test]
fn a_unit_that_is_kept_as_it_is_names_the_newest_revision_of_what_is_applied() {
    for (reason, message) in [
        ("Suspended", "suspended: kept as it is, not enforced"),
        ("Detached", "let go: kept as it is, not enforced"),
    ] {
        let kept = UnitFacts {
            ready: Readiness::Unknown,
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..ready("c1")
        };
        let applied = format!("{message}; last applied revision: main@sha1:2");
        assert_eq!(unit(&kept).message, applied);
        let away = UnitFacts {
            connected: false,
            silent: true,
            ..kept.clone()
        };
        let said = unit(&away).message;
        assert_eq!(
            said,
            format!("cluster c1 is not connected; it said last: {applied}")
        );
        let never = UnitFacts {
            revision: None,
            ..kept
        };
        assert_eq!(unit(&never).message, message);
    }
}

#[test]
fn what_an_agent_notes_of_a_ready_unit_stands_beside_the_newest_revision() {
    let noted = |cluster: &str| {
        UnitFacts {
            // It knows an older revision that gave the same.
            message: "Applied revision: main@sha1:1".to_owned(),
            notes: "no longer desired and not removed: ConfigMap/a/b; others change it".to_owned(),
            ..ready(cluster)
        }
    };
    let notes = "; no longer desired and not removed: ConfigMap/a/b; others change it";
    let one = format!("Applied revision: main@sha1:2{notes}");
    assert_eq!(unit(&noted("c1")).message, one);
    assert_eq!(app(&facts(vec![(1, noted("c1"))])).message, one);
    let many = facts(vec![(5, ready("c0")), (3, noted("c1"))]);
    assert_eq!(
        said(&app(&many)),
        (
            Readiness::True,
            "ReconciliationSucceeded",
            format!("Applied revision: main@sha1:2 on 8 clusters; on c1 and 2 more{notes}").as_str()
        )
    );
}

#[test]
fn a_removal_that_is_through_says_so_and_names_no_revision() {
    let gone = |cluster: &str| UnitFacts {
        reason: GONE.to_owned(),
        message: "all of it is removed".to_owned(),
        revision: None,
        ..ready(cluster)
    };
    let removed = (Readiness::True, GONE, "all of it is removed");
    assert_eq!(said(&unit(&gone("c1"))), removed);
    assert_eq!(said(&app(&facts(vec![(3, gone("c1"))]))), removed);
    let some = app(&facts(vec![(1, gone("c1")), (2, behind("c2"))]));
    assert_eq!(
        said(&some),
        (
            Readiness::Unknown,
            PROGRESSING,
            "1/3 ready; c2: waiting for the agent"
        )
    );
}

#[test]
fn a_suspended_unit_that_is_applied_is_not_said_to_be_unapplied() {
    let suspended = UnitFacts {
        ready: Readiness::Unknown,
        reason: "Suspended".to_owned(),
        message: "suspended: kept as it is".to_owned(),
        ..ready("c1")
    };
    assert_eq!(
        app(&facts(vec![(1, suspended)])).message,
        "0/1 ready; c1: suspended: kept as it is; last applied revision: main@sha1:2"
    );
}

#[test]
fn an_app_without_units_is_never_ready() {
    let nothing = facts(Vec::new());
    assert_ne!(app(&nothing).status, Readiness::True);
    assert_eq!(nothing.revision(), None);
    let nowhere = AppFacts {
        waiting: vec![Waiting::NoClusterMatches],
        ..nothing
    };
    assert_eq!(
        said(&app(&nowhere)),
        (
            Readiness::False,
            "NoClusterMatches",
            "no cluster matches the placements"
        )
    );
}

#[test]
fn an_app_that_waits_for_a_place_to_render_is_on_its_way_and_ends_no_request() {
    let waits = AppFacts {
        waiting: vec![Waiting::RendererBusy],
        ..facts(vec![(1, ready("c1"))])
    };
    assert_eq!(
        said(&app(&waits)),
        (
            Readiness::Unknown,
            PROGRESSING,
            "waiting for a place to render: all are taken"
        )
    );
    let followed = Followed {
        handled: true,
        unanswered: 0,
        failing_for: Some(SETTLED),
    };
    let progress = app_progress(&waits, &[], followed);
    assert_eq!(
        (progress.phase, progress.outcome, progress.failing),
        (Phase::Rendering, None, false)
    );
}

#[test]
fn the_revision_is_the_newest_that_all_have_and_stays_when_a_new_one_fails() {
    assert_eq!(
        facts(vec![(1, ready("c1")), (1, failed("c2"))]).revision(),
        revision(1).as_ref()
    );
    assert_eq!(facts(vec![(1, failed("c1"))]).revision(), revision(1).as_ref());
    let fresh = UnitFacts {
        revision: None,
        ..behind("c2")
    };
    assert_eq!(facts(vec![(1, ready("c1")), (1, fresh)]).revision(), None);
}

#[test]
fn a_cluster_that_is_away_is_not_said_to_be_ready() {
    let gone = away(ready("c1"));
    assert_eq!(
        said(&unit(&gone)),
        (
            Readiness::Unknown,
            CLUSTER_OFFLINE,
            "cluster c1 is not connected; it said last: applied"
        )
    );
    assert_eq!(app(&facts(vec![(1, gone)])).status, Readiness::Unknown);
    // A stream that is opened anew in a moment changes nothing.
    let moment = UnitFacts {
        connected: false,
        ..ready("c1")
    };
    assert_eq!(unit(&moment).status, Readiness::True);
}

#[test]
fn a_held_unit_says_why() {
    let held = UnitFacts {
        waiting: vec![Waiting::Claimed {
            object: ObjectKey::new("", "ConfigMap", "a", "b"),
            owner: "c".to_owned(),
        }],
        ..ready("c1")
    };
    assert_eq!(
        said(&unit(&held)),
        (
            Readiness::False,
            "Conflict",
            "Conflict: ConfigMap/a/b belongs to c"
        )
    );
}

#[test]
fn a_request_goes_from_rendering_to_clusters_to_success() {
    let done = facts(vec![(40, ready("c1"))]);
    let unhandled = Followed {
        handled: false,
        ..ANSWERED
    };
    let progress = app_progress(&done, &[], unhandled);
    assert_eq!((progress.phase, progress.outcome), (Phase::Rendering, None));
    let some = facts(vec![(12, ready("c1")), (28, behind("c2"))]);
    let progress = app_progress(&some, &[], ANSWERED);
    assert_eq!((progress.phase, progress.outcome), (Phase::Clusters, None));
    assert_eq!((progress.clusters_ready, progress.clusters), (12, 40));
    // Ready, but of before: its agent was not asked yet.
    let unanswered = Followed {
        unanswered: 1,
        ..ANSWERED
    };
    assert_eq!(app_progress(&done, &[], unanswered).outcome, None);
    assert_eq!(
        app_progress(&done, &[], ANSWERED).outcome,
        Some(Outcome::Succeeded)
    );
}

#[test]
fn a_failure_counts_once_it_has_lasted() {
    let bad = facts(vec![(1, ready("c1")), (1, failed("c2"))]);
    let progress = app_progress(&bad, &[], ANSWERED);
    assert_eq!((progress.failing, progress.outcome), (true, None));
    let short = Followed {
        failing_for: Some(Duration::from_secs(1)),
        ..ANSWERED
    };
    assert_eq!(app_progress(&bad, &[], short).outcome, None);
    assert_eq!(app_progress(&bad, &[], FAILING).outcome, Some(Outcome::Failed));
    // Its agent does not hold the request: what it says is of before.
    let unanswered = Followed {
        unanswered: 1,
        ..FAILING
    };
    assert_eq!(app_progress(&bad, &[], unanswered).outcome, None);
}

#[test]
fn offline_clusters_and_nothing_applied_are_no_success() {
    let offline = facts(vec![(1, ready("c1")), (1, away(behind("c3")))]);
    assert_eq!(
        app_progress(&offline, &[], ANSWERED).outcome,
        Some(Outcome::ClustersOffline)
    );
    // Also when it was ready before it went: it was not asked.
    let only = facts(vec![(1, away(ready("c1")))]);
    assert_eq!(
        app_progress(&only, &[], ANSWERED).outcome,
        Some(Outcome::ClustersOffline)
    );
    let nothing = facts(Vec::new());
    assert_eq!(
        app_progress(&nothing, &[], FAILING).outcome,
        Some(Outcome::NothingToApply)
    );
    // While others are on their way, nothing is over.
    let some = facts(vec![(1, behind("c1")), (1, away(behind("c3")))]);
    assert_eq!(app_progress(&some, &[], ANSWERED).outcome, None);
}

#[test]
fn what_is_not_supported_or_suspended_ends_at_once() {
    let unhandled = Followed {
        handled: false,
        ..ANSWERED
    };
    let chart = vec!["HelmRelease".to_owned()];
    assert_eq!(
        app_progress(&AppFacts::default(), &chart, unhandled).outcome,
        Some(Outcome::NotSupported)
    );
    let engine = AppFacts {
        waiting: vec![Waiting::NoReferenceRenderer {
            message: "not found".to_owned(),
        }],
        ..facts(Vec::new())
    };
    assert_eq!(
        app_progress(&engine, &[], ANSWERED).outcome,
        Some(Outcome::NotSupported)
    );
    let suspended = AppFacts {
        suspended: true,
        ..AppFacts::default()
    };
    assert_eq!(
        app_progress(&suspended, &[], unhandled).outcome,
        Some(Outcome::Suspended)
    );
}

#[test]
fn a_source_ends_with_what_its_fetch_said() {
    let source = |ready: Option<Readiness>| SourceFacts {
        suspended: false,
        not_supported: Vec::new(),
        ready: ready.map(|status| Ready::new(status, "x", "y")),
        revision: revision(4),
    };
    // What it said before it was asked does not count.
    assert_eq!(
        source_progress(&source(Some(Readiness::True)), false).outcome,
        None
    );
    assert_eq!(
        source_progress(&source(Some(Readiness::True)), true).outcome,
        Some(Outcome::Succeeded)
    );
    assert_eq!(
        source_progress(&source(Some(Readiness::False)), true).outcome,
        Some(Outcome::Failed)
    );
    assert_eq!(source_progress(&source(None), true).outcome, None);
}

#[test]
fn what_an_agent_does_not_take_is_not_ready_says_why_and_ends_a_request_at_once() {
    let refused = UnitFacts {
        refused: true,
        ready: Readiness::False,
        reason: "LedgerFull".to_owned(),
        message: "ledger of 9 bytes exceeds the 8 that its storage takes".to_owned(),
        ..ready("c2")
    };
    let some = facts(vec![(1, ready("c1")), (1, refused.clone())]);
    assert_eq!(
        said(&app(&some)),
        (
            Readiness::False,
            "LedgerFull",
            "1/2 ready; c2: ledger of 9 bytes exceeds the 8 that its storage takes"
        )
    );
    // Also with nothing reported of it so far, and while others are on their way.
    let new = UnitFacts {
        current: false,
        applied: false,
        ..refused.clone()
    };
    let some = facts(vec![(1, behind("c1")), (1, new)]);
    assert_eq!(app_progress(&some, &[], ANSWERED).outcome, Some(Outcome::Failed));
    let gone = facts(vec![(1, ready("c1")), (1, away(refused))]);
    assert_eq!(
        app_progress(&gone, &[], ANSWERED).outcome,
        Some(Outcome::ClustersOffline)
    );
}

#[test]
fn ready_turned_with_the_last_unit_and_not_ready_with_the_first_that_is_not() {
    let since = |units: Vec<(UnitFacts, i64, i64)>| AppFacts {
        observed: true,
        asked: Some(Timestamp(1)),
        held: Some(Timestamp(5)),
        units: units
            .into_iter()
            .map(|(first, from, until)| Alike {
                units: 2,
                first,
                first_turned: Timestamp(from),
                last_turned: Timestamp(until),
            })
            .collect(),
        ..AppFacts::default()
    };
    let turned = |facts: &AppFacts| super::turned(facts).map(|at| at.0);
    let all = since(vec![(ready("a"), 10, 20), (ready("b"), 11, 30)]);
    assert_eq!(turned(&all), Some(30));
    // What a unit that is ready does later does not move when the app was not.
    let one = since(vec![
        (ready("a"), 10, 90),
        (failed("b"), 40, 50),
        (failed("c"), 45, 60),
    ]);
    assert_eq!(turned(&one), Some(40));
    // What is on its way is not as bad as what failed.
    let both = since(vec![(behind("a"), 10, 10), (failed("b"), 40, 50)]);
    assert_eq!(turned(&both), Some(40));
    assert_eq!(
        turned(&since(vec![(behind("a"), 10, 15), (ready("b"), 40, 50)])),
        Some(10)
    );
    // Its own reasons come before its units, and what was not looked at before both.
    let held = AppFacts {
        waiting: vec![Waiting::NoArtifact],
        ..one.clone()
    };
    assert_eq!(turned(&held), Some(5));
    let new = AppFacts {
        observed: false,
        ..held
    };
    assert_eq!(turned(&new), Some(1));
    assert_eq!(turned(&since(vec![])), Some(5));
    let released = AppFacts {
        held: Some(Timestamp(70)),
        ..all
    };
    assert_eq!(turned(&released), Some(70), "until then it was held");
}
