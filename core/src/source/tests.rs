//! Scenarios of sources, and random stories of looks.

use std::time::Duration;

use super::{
    Due, Failure, Found, Look, Next, Present, Remedy, Spec, State, due, is_present, next, rewritten,
};
use crate::{
    backoff::{Backoff, INTERVAL_JITTER_PERCENT},
    clock::Timestamp,
    digest::Digest,
    status::Readiness,
};

const INTERVAL: Duration = Duration::from_secs(600);

fn config(text: &str) -> Digest {
    Digest::of("source-config", text.as_bytes())
}

fn spec() -> Spec {
    Spec {
        generation: 1,
        interval: INTERVAL,
        suspended: false,
        requested: false,
        unusable: None,
    }
}

fn fetched(revision: &str) -> Look {
    fetched_with("", revision)
}

fn fetched_with(settings: &str, revision: &str) -> Look {
    Look::Fetched(Found {
        config: config(settings),
        revision: revision.into(),
        subject: format!("about {revision}"),
        artifact: format!("sha256:{revision}"),
        verified: String::new(),
    })
}

fn failed(message: &str, remedy: Remedy) -> Look {
    Look::Failed(Failure::new("GitOperationFailed", message, remedy))
}

fn look(state: &State, look: Look, now: i64) -> Next {
    next(&spec(), state, look, Timestamp(now), 1 << 63)
}

/// A source that has revision `a` since 1,000 ms.
fn settled() -> State {
    look(&State::default(), fetched("a"), 1000).state
}

#[test]
fn a_source_that_was_never_looked_at_is_due_at_once() {
    assert_eq!(due(&spec(), &State::default(), Timestamp(1)), Due::Now);
}

#[test]
fn a_new_revision_is_told_with_its_subject_and_the_same_one_again_is_not() {
    let first = look(&State::default(), fetched("a"), 1000);
    assert!(first.is_new && !first.is_restored);
    let event = first.event.expect("told");
    assert_eq!(event.message, "stored artifact for commit 'about a'");
    let again = look(&first.state, Look::Same, 2000);
    assert!(!again.is_new && again.event.is_none());
    let (shown, since) = again.state.shown.expect("shown");
    assert_eq!(
        (shown.message.as_str(), since),
        ("stored artifact for revision 'a'", Timestamp(1000))
    );
}

#[test]
fn an_artifact_that_was_lost_is_due_at_once_and_told_as_restored_and_not_as_new() {
    let mut state = settled();
    state.present.as_mut().expect("present").at_hand = false;
    assert_eq!(due(&spec(), &state, Timestamp(1001)), Due::Now);
    assert!(!is_present(&state, "a", config("")));
    let restored = look(&state, fetched("a"), 2000);
    assert!(restored.is_restored && !restored.is_new && restored.event.is_none());
    assert!(is_present(&restored.state, "a", config("")));
    // Where it cannot be fetched, it is not asked for again and again.
    let gone = look(&state, failed("away", Remedy::Retry), 2000).state;
    assert!(matches!(due(&spec(), &gone, Timestamp(2000)), Due::After(_)));
}

#[test]
fn a_source_that_waits_for_the_hub_itself_stays_as_it_was_and_says_once_what_it_waits_for() {
    let settled = settled();
    let first = look(&settled, Look::Waits("the store is away".into()), 2000);
    assert_eq!(first.state.shown, settled.shown);
    assert_eq!(first.state.present, settled.present);
    let why = Some(("the store is away".to_owned(), Timestamp(2000)));
    assert_eq!(first.state.waiting, why);
    assert!(
        first
            .event
            .is_some_and(|event| event.warning && event.message == "the store is away")
    );
    assert!(first.wait <= Duration::from_secs(15) && first.state.failures == 0);
    let again = look(&first.state, Look::Waits("the store is away".into()), 3000);
    assert!(again.event.is_none() && again.state.is_shown_as(&first.state));
    assert_eq!(again.state.waiting, why);
    let over = look(&again.state, Look::Same, 4000);
    assert!(over.state.waiting.is_none() && over.event.is_some_and(|event| !event.warning));
    // One of which nothing is known says so.
    let new = look(&State::default(), Look::Waits("the store is away".into()), 1).state;
    let (shown, _) = new.shown.expect("shown");
    assert_eq!(
        (shown.status, shown.message.as_str()),
        (Readiness::Unknown, "the store is away")
    );
    let changed = next(
        &Spec {
            generation: 2,
            ..spec()
        },
        &settled,
        Look::Waits("away".into()),
        Timestamp(5),
        0,
    );
    assert!(
        changed
            .state
            .shown
            .is_some_and(|(shown, _)| shown.status == Readiness::Unknown)
    );
}

#[test]
fn a_rewritten_branch_is_told_with_both_commits_and_what_is_not_known_is_not() {
    let told = |former: &str, present: &str, follows| {
        rewritten(former, present, follows).map(|event| (event.warning, event.reason, event.message))
    };
    let message =
        "the history of a@b was rewritten: sha1:1, which it had before, is not an ancestor of sha1:2";
    assert_eq!(
        told("a@b@sha1:1", "a@b@sha1:2", Some(false)),
        Some((true, "HistoryRewritten".into(), message.into()))
    );
    for (former, present, follows) in [
        ("main@sha1:1", "main@sha1:2", Some(true)),
        ("main@sha1:1", "main@sha1:2", None),
        ("main@sha1:1", "main@sha1:1", Some(false)),
        ("main@sha1:1", "next@sha1:2", Some(false)),
        ("sha1:1", "sha1:2", Some(false)),
    ] {
        assert_eq!(told(former, present, follows), None, "{former} {present}");
    }
}

#[test]
fn other_settings_make_another_artifact_of_the_same_revision() {
    let state = settled();
    assert!(is_present(&state, "a", config("")));
    assert!(!is_present(&state, "a", config("other")) && !is_present(&state, "b", config("")));
    let made = next(&spec(), &state, fetched_with("other", "a"), Timestamp(2), 0);
    assert!(made.is_new);
}

#[test]
fn a_request_a_new_spec_and_the_time_make_it_due_and_suspension_does_not() {
    let state = settled();
    let at = |spec: &Spec, ms: i64| due(spec, &state, Timestamp(ms));
    assert_eq!(at(&spec(), 1001), Due::After(INTERVAL - Duration::from_millis(1)));
    assert_eq!(at(&spec(), 601_000), Due::Now);
    let requested = Spec {
        requested: true,
        ..spec()
    };
    assert_eq!(at(&requested, 1001), Due::Now);
    let newer = Spec {
        generation: 2,
        ..spec()
    };
    assert_eq!(at(&newer, 1001), Due::Now);
    let suspended = Spec {
        suspended: true,
        ..newer
    };
    assert_eq!(at(&suspended, 601_000), Due::Never);
}

#[test]
fn a_spec_that_cannot_be_used_is_told_once_and_judged_again_after_an_hour() {
    let failure = Failure::new("NotSupported", "semver is not supported", Remedy::Respecify);
    let unusable = Spec {
        generation: 2,
        unusable: Some(failure.clone()),
        ..spec()
    };
    let state = settled();
    assert_eq!(
        due(&unusable, &state, Timestamp(2)),
        Due::Unusable(failure.clone())
    );
    let said = next(&unusable, &state, Look::Failed(failure), Timestamp(2), 0);
    assert!(said.event.as_ref().is_some_and(|event| event.warning));
    assert_eq!(said.state.present, state.present, "the last artifact stays");
    let hour = Duration::from_secs(3600);
    assert_eq!(due(&unusable, &said.state, Timestamp(2)), Due::After(hour));
    let again = match due(&unusable, &said.state, said.state.due_at) {
        Due::Unusable(failure) => Look::Failed(failure),
        other => panic!("{other:?}"),
    };
    let later = next(&unusable, &said.state, again, said.state.due_at, 0);
    assert!(later.event.is_none() && later.state.shown == said.state.shown);
    let requested = Spec {
        requested: true,
        ..unusable
    };
    assert!(
        matches!(due(&requested, &said.state, Timestamp(3)), Due::Unusable(_)),
        "whoever asks is answered"
    );
}

#[test]
fn failures_are_told_once_each_and_so_is_that_they_are_over() {
    let mut state = settled();
    let mut told = Vec::new();
    for (now, outcome) in [
        failed("away", Remedy::Retry),
        failed("away", Remedy::Retry),
        failed("no such branch", Remedy::Ask),
        failed("no such branch", Remedy::Ask),
        Look::Same,
        Look::Same,
    ]
    .into_iter()
    .enumerate()
    {
        let next = look(&state, outcome, 2000 + i64::try_from(now).expect("small"));
        told.extend(next.event.map(|event| event.message));
        state = next.state;
    }
    assert_eq!(told, ["away", "no such branch", "the source is reachable again"]);
}

#[test]
fn control_characters_of_a_remote_reach_neither_condition_nor_event() {
    let next = look(&State::default(), failed("\u{1b}[2Jaway", Remedy::Retry), 1);
    let texts = [
        next.event.expect("told").message,
        next.state.shown.expect("shown").0.message,
    ];
    assert!(texts.iter().all(|text| !text.contains('\u{1b}')), "{texts:?}");
}

/// Random numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What a look finds, with how the remote and the machine are.
fn random_look(numbers: &mut Numbers, state: &State) -> Look {
    match numbers.below(6) {
        0 | 1 if state.present.as_ref().is_some_and(|present| present.at_hand) => Look::Same,
        0..=2 => fetched(["a", "b", "c"][usize::try_from(numbers.below(3)).expect("small")]),
        kind => failed(
            ["away", "slow"][usize::try_from(numbers.below(2)).expect("small")],
            [Remedy::Retry, Remedy::Ask, Remedy::Respecify][usize::try_from(kind - 3).expect("small")],
        ),
    }
}

#[test]
fn whatever_happens_what_is_recorded_follows_from_it() {
    for seed in 0..300 {
        let mut numbers = Numbers(seed);
        let mut state = State::default();
        let mut now = Timestamp(1_800_000_000_000);
        for _ in 0..60 {
            now = now + Duration::from_millis(numbers.below(900_000));
            if let Some(present) = state.present.as_mut() {
                present.at_hand = numbers.below(8) > 0;
            }
            let outcome = random_look(&mut numbers, &state);
            let is_failure = matches!(outcome, Look::Failed(_));
            let remedy = match &outcome {
                Look::Failed(failure) => Some(failure.remedy),
                _ => None,
            };
            let next = next(&spec(), &state, outcome, now, numbers.next());
            holds(&state, &next, is_failure, remedy, now);
            state = next.state;
        }
        settles(state, now);
    }
}

fn holds(state: &State, next: &Next, is_failure: bool, remedy: Option<Remedy>, now: Timestamp) {
    let (shown, since) = next.state.shown.as_ref().expect("something is always shown");
    assert_eq!(shown.status == Readiness::False, is_failure);
    assert!(*since <= now);
    if let Some((was, before)) = &state.shown {
        let expected = if was.status == shown.status { *before } else { now };
        assert_eq!(*since, expected);
    }
    // The last good artifact stays, and is another only where that is said.
    let of = |present: &Option<Present>| {
        present
            .as_ref()
            .map(|one| (one.revision.clone(), one.artifact.clone()))
    };
    assert_eq!(of(&state.present) != of(&next.state.present), next.is_new);
    assert!(!(next.is_new && next.is_restored));
    assert!(!(is_failure && (next.is_new || next.is_restored)));
    // Failures are counted, and waited for longer and longer up to the interval.
    let failures = if is_failure { state.failures + 1 } else { 0 };
    assert_eq!(next.state.failures, failures);
    let reach = INTERVAL / 100 * INTERVAL_JITTER_PERCENT;
    let spread = INTERVAL - reach..=INTERVAL + reach;
    match remedy {
        Some(Remedy::Retry) => {
            assert!(next.wait <= INTERVAL && next.wait <= Backoff::RECONCILE.bound(failures));
            assert!(next.wait >= Duration::from_millis(200));
        }
        Some(Remedy::Respecify) => assert!(next.wait > INTERVAL),
        Some(Remedy::Ask) | None => assert!(spread.contains(&next.wait)),
    }
    assert_eq!(next.state.due_at, now + next.wait);
    // It is told where what is shown says something else, and not otherwise.
    let is_told = state.shown.as_ref().is_none_or(|(was, _)| was != shown) || next.is_new;
    assert_eq!(next.event.is_some(), is_told, "{state:?} {next:?}");
}

/// Once the remote is well, two looks later nothing changes any more but the time of the next.
fn settles(mut state: State, mut now: Timestamp) {
    state = look(&state, fetched("z"), now.0).state;
    for _ in 0..3 {
        now = state.due_at;
        assert_eq!(due(&spec(), &state, now), Due::Now);
        assert!(is_present(&state, "z", config("")));
        let next = look(&state, Look::Same, now.0);
        assert!(next.event.is_none() && !next.is_new && !next.is_restored);
        assert_eq!(
            State {
                due_at: state.due_at,
                ..next.state.clone()
            },
            state
        );
        assert!(matches!(due(&spec(), &next.state, now), Due::After(_)));
        state = next.state;
    }
}

#[test]
fn what_a_clock_that_was_ahead_has_put_off_is_due_once_the_clock_is_right() {
    let state = State {
        generation: spec().generation,
        due_at: Timestamp(0) + Duration::from_secs(24 * 3600),
        ..State::default()
    };
    assert_eq!(due(&spec(), &state, Timestamp(1)), Due::Now);
    let soon = State {
        due_at: Timestamp(0) + Duration::from_secs(3600),
        ..state
    };
    assert!(matches!(due(&spec(), &soon, Timestamp(1)), Due::After(_)));
}

/// R-kin of C.1.5: what is not signed by a key that counts is never used, and says so.
#[test]
fn a_revision_that_fails_verification_is_not_taken_and_the_last_verified_one_stays() {
    let signed = |revision: &str| match fetched(revision) {
        Look::Fetched(found) => Look::Fetched(Found {
            verified: format!("verified {revision}"),
            ..found
        }),
        look => look,
    };
    let shown = |next: &Next| {
        let (ready, since) = next.state.verified.clone().expect("shown");
        (ready.status, ready.reason, ready.message, since)
    };
    let first = look(&State::default(), signed("a"), 1000);
    let verified = |since| {
        (
            Readiness::True,
            "Succeeded".to_owned(),
            "verified a".to_owned(),
            Timestamp(since),
        )
    };
    assert_eq!(shown(&first), verified(1000));
    let bad =
        Look::Failed(Failure::new("InvalidCommitSignature", "none of the keys", Remedy::Ask).of_signature());
    let second = look(&first.state, bad, 2000);
    assert_eq!(second.state.present, first.state.present);
    let (status, reason, ..) = shown(&second);
    assert_eq!(
        (status, reason.as_str()),
        (Readiness::False, "InvalidCommitSignature")
    );
    assert_eq!(
        second.state.shown.as_ref().map(|(ready, _)| ready.status),
        Some(Readiness::False)
    );
    // The network says nothing of signatures; the branch that was put back does.
    let third = look(&second.state, failed("unreachable", Remedy::Retry), 3000);
    assert_eq!(shown(&third).0, Readiness::False);
    let fourth = look(&third.state, Look::Same, 4000);
    assert_eq!(shown(&fourth), verified(4000));
    // No signature is asked for any more.
    assert_eq!(look(&fourth.state, fetched("a"), 5000).state.verified, None);
}
