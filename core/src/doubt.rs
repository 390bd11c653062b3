//! What becomes of a cluster whose identity somebody else shows. Where it is known which of two is the rightful one, that one
//! goes on and the other is kept out. Where nothing tells them apart both get nothing until people have decided; whatever runs
//! in the cluster stays as it is.

use std::time::Duration;

use crate::clock::Timestamp;

/// So long an agent that shows a replaced certificate may do so: it may be the former pod of one that has renewed it, which
/// reads its identity again.
pub const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What speaks of a second holder of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It is shown in a cluster with another UID of kube-system than the one that it was given to.
    AnotherCluster,
    /// Two instances in its own cluster take the stream from each other.
    Duel,
    /// A certificate, or a generation, is shown that another has come after.
    Replaced,
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// People are told; the agent in the identity's own cluster, with its newest certificate, goes on.
    Tell,
    /// The cluster's agent, whichever it is, gets nothing until people have decided.
    Quarantine,
}

/// Judges a sign. `told`: since when people are told of the same one.
pub fn judge(sign: Sign, told: Option<Timestamp>, now: Timestamp) -> Verdict {
    match sign {
        // The copy says itself that it is one, gets nothing, and its ledger is bound to where it comes from.
        Sign::AnotherCluster => Verdict::Tell,
        // Both are where they belong, with the same certificate.
        Sign::Duel => Verdict::Quarantine,
        // Whoever renewed first has the newer one: that may be the thief.
        Sign::Replaced => match told {
            Some(since) if now.since(since) >= PATIENCE => Verdict::Quarantine,
            _ => Verdict::Tell,
        },
    }
}

/// What people are told, of what was seen in this cluster, and what they can do.
pub fn message(cluster: &str, sign: Sign, seen: &str, verdict: Verdict) -> String {
    match (sign, verdict) {
        (Sign::AnotherCluster, _) => format!(
            "{seen}; it gets nothing, and enforces nothing of this cluster's there: uninstall it there, or have it join under a \
             name of its own; if {cluster} itself was built anew there, `flotilla cluster token {cluster} --replace` makes the \
             token that it joins with"
        ),
        (_, Verdict::Tell) => format!(
            "{seen}; the agent with the newest certificate goes on: if the other one is the right one, `flotilla cluster token \
             {cluster} --replace` ends both identities and makes the token that it joins with"
        ),
        (_, Verdict::Quarantine) => format!(
            "{seen}; no agent of {cluster} gets anything until you have decided, and what runs there stays as it is: end the \
             agent that is one too many and run `flotilla cluster admit {cluster}`, or end both identities with `flotilla \
             cluster token {cluster} --replace` and give its token to the one that is to stay"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    #[test]
    fn the_one_in_its_own_cluster_goes_on_and_of_two_there_none_does() {
        for told in [None, Some(NOW - PATIENCE), Some(NOW - Duration::from_secs(86400))] {
            assert_eq!(judge(Sign::AnotherCluster, told, NOW), Verdict::Tell);
            assert_eq!(judge(Sign::Duel, told, NOW), Verdict::Quarantine);
        }
    }

    #[test]
    fn a_replaced_certificate_is_told_at_once_and_doubts_the_cluster_when_it_is_shown_still() {
        assert_eq!(judge(Sign::Replaced, None, NOW), Verdict::Tell);
        let lately = NOW - PATIENCE + Duration::from_secs(1);
        assert_eq!(judge(Sign::Replaced, Some(lately), NOW), Verdict::Tell);
        assert_eq!(
            judge(Sign::Replaced, Some(NOW - PATIENCE), NOW),
            Verdict::Quarantine
        );
        // A clock that went back proves nothing.
        assert_eq!(judge(Sign::Replaced, Some(NOW + PATIENCE), NOW), Verdict::Tell);
    }

    #[test]
    fn each_message_names_what_was_seen_and_a_command_that_helps() {
        for sign in [Sign::AnotherCluster, Sign::Duel, Sign::Replaced] {
            for verdict in [Verdict::Tell, Verdict::Quarantine] {
                let message = message("c1", sign, "something was seen", verdict);
                assert!(message.starts_with("something was seen; "), "{message}");
                assert!(
                    message.contains("`flotilla cluster token c1 --replace`"),
                    "{message}"
                );
            }
        }
    }
}
