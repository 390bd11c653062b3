use super::*;
use crate::{
    fleet::{departure::Departure, placement::Match},
    object::ObjectKey,
    rollout::waiting::Waiting,
};

fn name(kind: &str, name: &str) -> Name {
    Name {
        kind: kind.into(),
        namespace: "apps".into(),
        name: name.into(),
    }
}

const REVISION: &str = "main@sha1:0123456789012345678901234567890123456789";

/// An app whose commit is applied.
fn well() -> Facts {
    Facts {
        app: name("Kustomization", "web"),
        cluster: "c1".into(),
        observed: true,
        source: Some(Source {
            name: name("GitRepository", "fleet"),
            known: Some(SourceState {
                said: Some(Stated {
                    status: "True".into(),
                    reason: "Succeeded".into(),
                    message: "stored artifact".into(),
                    since: Timestamp(1),
                }),
                revision: Some(REVISION.into()),
                subject: "more replicas".into(),
                looked: Some(Timestamp(5)),
                ..SourceState::default()
            }),
        }),
        rendering: Some(Rendering {
            revision: REVISION.into(),
            state: RenderState::Done,
            reason: String::new(),
            message: String::new(),
            attempts: 1,
            running: false,
            again: None,
            ended: Some(Timestamp(6)),
        }),
        placing: Placing {
            unknown: None,
            matches: vec![("Placement/all".into(), Match::Labels("env=prod".into()))],
        },
        agent: Some(Agent {
            state: "Active".into(),
            connected: true,
            desired: 7,
            accepted: 7,
            ..Agent::default()
        }),
        unit: Some(Unit {
            state: "Active".into(),
            version: 3,
            target_revision: REVISION.into(),
            applied_revision: REVISION.into(),
            has_rendered: Some(true),
            cause: "content".into(),
            published: true,
            accepted: true,
            said_version: Some(3),
            applied_version: Some(3),
            current: true,
            applied: true,
            word: UnitWord {
                is_ready: true,
                reason: "ReconciliationSucceeded".into(),
                ..UnitWord::default()
            },
            objects: 2,
            ..Unit::default()
        }),
        ..Facts::default()
    }
}

/// What explains these facts, changed: verdict, and the step and reason of the cause.
fn cause(change: impl FnOnce(&mut Facts)) -> (Verdict, &'static str, String) {
    let mut facts = well();
    change(&mut facts);
    let explained = explain(&facts);
    let cause = &explained.steps[explained.cause.expect("a cause")];
    assert!(!cause.message.is_empty(), "{cause:?}");
    (explained.verdict, cause.name, cause.reason.clone())
}

fn unit(facts: &mut Facts) -> &mut Unit {
    facts.unit.as_mut().expect("a unit")
}

fn source(facts: &mut Facts) -> &mut SourceState {
    facts
        .source
        .as_mut()
        .and_then(|one| one.known.as_mut())
        .expect("a source")
}

fn agent(facts: &mut Facts) -> &mut Agent {
    facts.agent.as_mut().expect("an agent")
}

/// A newer commit that is not applied yet.
fn newer(facts: &mut Facts) {
    let unit = unit(facts);
    (unit.current, unit.applied, unit.version) = (false, false, 4);
}

#[test]
fn what_is_applied_needs_no_cause_and_each_step_says_ok() {
    let explained = explain(&well());
    assert_eq!((explained.verdict, explained.cause), (Verdict::Applied, None));
    assert_eq!(explained.answer, "main@sha1:01234567 is applied and ready");
    let names: Vec<&str> = explained.steps.iter().map(|step| step.name).collect();
    assert_eq!(
        names,
        [
            "source",
            "rendering",
            "placement",
            "plan",
            "rollout",
            "publishing",
            "acceptance",
            "apply",
            "health",
            "removal"
        ]
    );
    for step in &explained.steps {
        assert!(matches!(step.state, State::Ok | State::Skipped), "{step:?}");
        assert_eq!((step.reason.as_str(), step.next.as_str()), ("", ""), "{step:?}");
    }
    assert_eq!(
        explained.steps[0].message,
        "GitRepository/apps/fleet has main@sha1:01234567: more replicas"
    );
    assert_eq!(explained.steps[2].message, "Placement/all chooses it by env=prod");
}

#[test]
fn the_first_step_that_somebody_has_to_mend_is_the_cause_and_what_merely_waits_is_not() {
    use Verdict::{NotApplied, NotReady, Unknown};
    let failed = |facts: &mut Facts| {
        let word = &mut unit(facts).word;
        (word.is_ready, word.is_failed) = (false, true);
        word.reason = "HealthCheckFailed".into();
        word.message = "health check failed".into();
    };
    let offline = |facts: &mut Facts| {
        (agent(facts).connected, agent(facts).silent) = (false, true);
        agent(facts).seen = Some(Timestamp(9));
    };
    type Change<'a> = Box<dyn FnOnce(&mut Facts) + 'a>;
    let cases: Vec<(&str, Change<'_>, (Verdict, &str, &str))> = vec![
        (
            "a source that is not there",
            Box::new(|facts| facts.source.as_mut().expect("one").known = None),
            (Unknown, "source", "SourceNotFound"),
        ),
        (
            "a source that fails",
            Box::new(|facts| {
                let said = source(facts).said.as_mut().expect("said");
                said.status = "False".into();
                said.reason = "GitOperationFailed".into();
            }),
            (Unknown, "source", "GitOperationFailed"),
        ),
        (
            "a suspended source",
            Box::new(|facts| source(facts).suspended = true),
            (Unknown, "source", "Suspended"),
        ),
        (
            "a source of a backup",
            Box::new(|facts| {
                source(facts).unconfirmed = true;
                facts.waiting = vec![Waiting::Restored];
            }),
            (Unknown, "source", "Restored"),
        ),
        (
            "a rendering that fails",
            Box::new(|facts| {
                let rendering = facts.rendering.as_mut().expect("one");
                rendering.state = RenderState::Failed;
                rendering.reason = "BuildFailed".into();
                rendering.message = "no such file".into();
                unit(facts).has_rendered = None;
            }),
            (NotApplied, "rendering", "BuildFailed"),
        ),
        (
            "a held unit",
            Box::new(|facts| unit(facts).waiting = vec![Waiting::NoArtifact]),
            (NotApplied, "plan", "ArtifactFailed"),
        ),
        (
            "an app that is held before it is rendered: its units have what its former spec said",
            Box::new(|facts| {
                let why = Waiting::NotSupported {
                    object: Some("Placement/all".into()),
                    what: "spec.rollout".into(),
                };
                facts.placing.unknown = Some(why.clone());
                facts.waiting = vec![why];
            }),
            (NotApplied, "placement", "NotSupported"),
        ),
        (
            "an app that the hub could not work out",
            Box::new(|facts| {
                facts.waiting = vec![Waiting::Failed {
                    message: "the store holds an unreadable unit".into(),
                }];
            }),
            (NotApplied, "plan", "ReconciliationFailed"),
        ),
        (
            "an app that is not planned",
            Box::new(|facts| facts.due = true),
            (NotApplied, "plan", "Progressing"),
        ),
        (
            "no placement",
            Box::new(|facts| {
                facts.placing.matches.clear();
                facts.unit = None;
            }),
            (NotApplied, "placement", "NoTarget"),
        ),
        (
            "a cluster that is excluded",
            Box::new(|facts| {
                facts.placing.matches = vec![("Placement/all".into(), Match::Excluded)];
                facts.unit = None;
            }),
            (NotApplied, "placement", "NotPlaced"),
        ),
        (
            "a cluster that is emptied",
            Box::new(|facts| {
                facts.placing.matches = vec![("Placement/all".into(), Match::Departs(Departure::Drain))];
                facts.unit = None;
            }),
            (NotApplied, "placement", "Draining"),
        ),
        (
            "a cluster that is let go of",
            Box::new(|facts| {
                facts.placing.matches = vec![("Placement/all".into(), Match::None)];
                unit(facts).state = "Detached".into();
            }),
            (NotReady, "placement", "Detached"),
        ),
        (
            "an agent that never joined",
            Box::new(|facts| {
                newer(facts);
                agent(facts).state = "Pending".into();
            }),
            (NotApplied, "publishing", "NotJoined"),
        ),
        (
            "a cluster that is away",
            Box::new(offline),
            (Unknown, "publishing", "ClusterOffline"),
        ),
        (
            "a ledger that is full",
            Box::new(|facts| {
                newer(facts);
                unit(facts).accepted = false;
                unit(facts).refused = Some(Refused {
                    reason: "LedgerFull".into(),
                    message: "900 bytes".into(),
                    at: Timestamp(1),
                });
            }),
            (NotApplied, "acceptance", "LedgerFull"),
        ),
        (
            "an agent that refuses a generation",
            Box::new(|facts| {
                newer(facts);
                unit(facts).accepted = false;
                agent(facts).accepted = 6;
                agent(facts).refusal = "refused generation 7: its root differs".into();
            }),
            (NotApplied, "acceptance", "Refused"),
        ),
        (
            "what is on its way",
            Box::new(newer),
            (NotApplied, "apply", "Progressing"),
        ),
        (
            "what is not healthy",
            Box::new(failed),
            (NotReady, "health", "HealthCheckFailed"),
        ),
        (
            "a guard",
            Box::new(|facts| {
                let word = &mut unit(facts).word;
                (word.is_ready, word.is_failed) = (false, true);
                word.reason = "PruneBlocked".into();
                word.message = "not deleted: 40 objects would go".into();
            }),
            (NotReady, "removal", "PruneBlocked"),
        ),
    ];
    for (case, change, (verdict, step, reason)) in cases {
        assert_eq!(cause(change), (verdict, step, reason.to_owned()), "{case}");
    }
}

#[test]
fn an_app_whose_clusters_all_depart_names_them_and_the_command_that_has_them_stay() {
    let mut facts = well();
    (facts.unit, facts.agent, facts.cluster) = (None, None, String::new());
    facts.placing.matches = vec![("Placement/all".into(), Match::None)];
    facts.waiting = vec![Waiting::departing(&["c1".into(), "c2".into()])];
    let explained = explain(&facts);
    let cause = &explained.steps[explained.cause.expect("a cause")];
    assert_eq!(
        (cause.name, cause.reason.as_str()),
        ("placement", "ClustersDeparting")
    );
    assert!(cause.message.contains("(c1, c2)"), "{cause:?}");
    assert_eq!(cause.next, "flotilla cluster resume c1");
}

#[test]
fn an_app_that_is_being_deleted_says_how_and_who_has_asked_for_it() {
    let plan = |by: &str| {
        let mut facts = well();
        facts.deleting = Some(Deleting {
            at: Timestamp(8),
            policy: "MirrorPrune".into(),
            by: by.into(),
        });
        let step = explain(&facts).steps.into_iter().find(|step| step.name == "plan");
        step.expect("a step").message
    };
    assert_eq!(
        plan("ann"),
        "the app is being deleted (MirrorPrune), as ann has asked"
    );
    assert_eq!(plan(""), "the app is being deleted (MirrorPrune)");
}

#[test]
fn a_suspended_app_that_has_everything_says_that_it_has_and_that_it_is_suspended() {
    let mut facts = well();
    facts.suspended = true;
    unit(&mut facts).state = "Suspended".into();
    let explained = explain(&facts);
    let cause = &explained.steps[explained.cause.expect("a cause")];
    assert_eq!((explained.verdict, cause.name), (Verdict::NotReady, "plan"));
    assert_eq!(cause.next, "flotilla resume kustomization web -n apps");
}

/// A clock that is apart, or a namespace that cannot be watched, may be so for weeks.
#[test]
fn what_is_wrong_with_a_cluster_is_noted_and_refuses_nothing() {
    let mut facts = well();
    newer(&mut facts);
    unit(&mut facts).accepted = false;
    agent(&mut facts).accepted = 6;
    agent(&mut facts).conditions = "the clock is 3 minutes behind".into();
    let explained = explain(&facts);
    let step = &explained.steps[explained.cause.expect("a cause")];
    assert_eq!(
        (step.name, step.state, step.reason.as_str()),
        ("acceptance", State::Waiting, "NotAccepted")
    );
    assert_eq!(
        step.message,
        "the agent has acknowledged generation 6 of 7; of the cluster: the clock is 3 minutes behind"
    );
    // Of a cluster that was suspended they say why.
    agent(&mut facts).state = "Suspended".into();
    let explained = explain(&facts);
    let step = &explained.steps[explained.cause.expect("a cause")];
    assert_eq!(step.message, "c1 is suspended: the clock is 3 minutes behind");
}

#[test]
fn a_suspended_app_that_was_changed_is_not_compared_with_what_it_was_rendered_from_before() {
    let mut facts = well();
    facts.suspended = true;
    unit(&mut facts).state = "Suspended".into();
    let explained = |facts: &Facts| {
        let explained = explain(facts);
        let cause = &explained.steps[explained.cause.expect("a cause")];
        assert_eq!((cause.name, cause.reason.as_str()), ("plan", "Suspended"));
        (explained.verdict, explained.answer, explained.steps[1].state)
    };
    // It names a source whose revision was never rendered for it.
    facts.input = Input::OtherSource;
    source(&mut facts).revision = Some("main@sha1:fedcba9876543210fedcba9876543210fedcba98".into());
    let answer = "main@sha1:fedcba98 is not applied; main@sha1:01234567 is".to_owned();
    assert_eq!(explained(&facts), (Verdict::NotApplied, answer, State::Skipped));
    source(&mut facts).revision = Some(REVISION.into());
    facts.input = Input::Changed;
    let answer = "main@sha1:01234567 was applied as the app said when it was rendered last".to_owned();
    assert_eq!(explained(&facts), (Verdict::Unknown, answer, State::Unknown));
    facts.input = Input::Present;
    assert_eq!(explained(&facts).0, Verdict::NotReady);
    // Any other is rendered from what it says, or says itself that it is not.
    facts = well();
    facts.input = Input::Changed;
    assert_eq!(explain(&facts).verdict, Verdict::Applied);
}

#[test]
fn what_placements_disagree_on_is_a_reason_in_that_cluster_alone() {
    let mut facts = well();
    facts.waiting = vec![Waiting::OverridesDiffer {
        cluster: "c4".into(),
        first: "Placement/all".into(),
        second: "Placement/other".into(),
    }];
    let explained = explain(&facts);
    assert_eq!((explained.verdict, explained.cause), (Verdict::Applied, None));
    let plan = |facts: &Facts| explain(facts).steps.swap_remove(3);
    assert_eq!(plan(&facts).state, State::Ok);
    (facts.cluster, facts.unit) = ("c4".into(), None);
    let step = plan(&facts);
    assert_eq!(
        (step.state, step.reason.as_str(), step.next.as_str()),
        (
            State::Blocked,
            "Conflict",
            "make Placement/all and Placement/other agree"
        )
    );
    assert_eq!(explain(&facts).cause, Some(3));
}

#[test]
fn what_comes_later_is_told_beside_the_cause() {
    let mut facts = well();
    source(&mut facts).suspended = true;
    let word = &mut unit(&mut facts).word;
    (word.is_ready, word.is_failed, word.reason) = (false, true, "HealthCheckFailed".into());
    let blocked: Vec<&str> = explain(&facts)
        .steps
        .into_iter()
        .filter(|step| step.state == State::Blocked)
        .map(|step| step.name)
        .collect();
    assert_eq!(blocked, ["source", "health"]);
}

#[test]
fn a_guard_names_the_command_that_allows_it_and_an_approval_ends_that() {
    let mut facts = well();
    let word = &mut unit(&mut facts).word;
    (word.is_ready, word.is_failed) = (false, true);
    (word.reason, word.message) = ("PruneBlocked".into(), "not deleted: 40 objects would go".into());
    let removal = |facts: &Facts| explain(facts).steps.pop().expect("a step");
    let step = removal(&facts);
    assert_eq!(step.next, "flotilla approve Kustomization/apps/web --cluster c1");
    assert!(step.message.contains("40 objects"), "{step:?}");
    unit(&mut facts).approved = Some("ann".into());
    let step = removal(&facts);
    assert_eq!((step.state, step.reason.as_str()), (State::Waiting, "Approved"));
}

#[test]
fn what_has_left_says_why_it_is_still_there_and_where_it_went() {
    let mut facts = well();
    let key = |name: &str| ObjectKey::new("", "ConfigMap", "apps", name);
    let object = |name: &str, message: &str| Object {
        key: key(name),
        state: "PendingRemoval".into(),
        health: String::new(),
        message: message.into(),
        other: None,
    };
    let finalizer = "being deleted, held by finalizers example.org/wait";
    let left = unit(&mut facts);
    left.leaving = vec![object("x", finalizer)];
    left.leaving_total = 1;
    left.cleared = Some(Leaving {
        state: "Cleared".into(),
        waits: String::new(),
        excepted: 1,
        at: Timestamp(4),
    });
    left.moved_to = vec![Moved {
        key: key("y"),
        to: "Kustomization/apps/other".into(),
        done: true,
    }];
    left.moved_total = 3;
    let step = explain(&facts).steps.pop().expect("a step");
    assert_eq!(
        step.message,
        "1 object left, cleared by the hub, but for 1 that other apps claim; ConfigMap/apps/x: being deleted, held by \
         finalizers example.org/wait; ConfigMap/apps/y moved to Kustomization/apps/other; and 2 more"
    );
    let left = unit(&mut facts);
    left.cleared = Some(Leaving {
        state: "Open".into(),
        waits: "Kustomization/apps/b, of the same source, is suspended".into(),
        excepted: 0,
        at: Timestamp(4),
    });
    let step = explain(&facts).steps.pop().expect("a step");
    assert!(
        step.message.contains("Kustomization/apps/b, of the same source"),
        "{step:?}"
    );
    // What is pending is no reason to call what is applied not applied.
    assert_eq!(explain(&facts).verdict, Verdict::Applied);
}

#[test]
fn what_was_said_of_an_earlier_version_counts_for_nothing() {
    let mut facts = well();
    newer(&mut facts);
    let explained = explain(&facts);
    let step = &explained.steps[explained.cause.expect("a cause")];
    assert_eq!(
        step.message,
        "the agent has reported version 3, not version 4 yet"
    );
}

#[test]
fn revisions_are_shortened_only_where_there_is_a_digest() {
    for (long, short) in [
        (REVISION, "main@sha1:01234567"),
        ("6.0.3", "6.0.3"),
        ("v1:2", "v1:2"),
        ("", ""),
    ] {
        assert_eq!(short_revision(long), short);
    }
}

#[test]
fn whoever_waits_for_another_app_is_sent_there() {
    let next = |facts: &Facts| {
        let explained = explain(facts);
        let step = &explained.steps[explained.cause.expect("a cause")];
        (step.name, step.reason.clone(), step.next.clone())
    };
    let mut held = well();
    held.waiting = vec![Waiting::DependencyNotReady {
        cluster: String::new(),
        name: "infra/db".into(),
        why: "is not ready".into(),
    }];
    let sent = "flotilla explain kustomization db -n infra".to_owned();
    assert_eq!(
        next(&held),
        ("plan", "DependencyNotReady".to_owned(), sent.clone())
    );
    let mut waits = well();
    newer(&mut waits);
    let unit = unit(&mut waits);
    (unit.current, unit.said_version) = (true, Some(4));
    unit.word = UnitWord {
        is_failed: true,
        reason: "DependencyNotReady".into(),
        message: "dependency 'infra/db' revision is not up to date".into(),
        ..UnitWord::default()
    };
    assert_eq!(next(&waits), ("apply", "DependencyNotReady".to_owned(), sent));
    held.waiting = vec![Waiting::DependencyCycle {
        members: vec!["apps/web".into(), "infra/db".into()],
    }];
    let (_, reason, next) = next(&held);
    assert_eq!(reason, "DependencyNotReady");
    assert!(next.contains("spec.dependsOn"), "{next}");
}
