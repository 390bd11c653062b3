//! Who may enrol: decided of what is recorded of the join token that an agent shows, and of the cluster that it is for. A
//! token yields at most one key, and the identity of a cluster is never given to another.

/// What is recorded of a token whose public half was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The secret half that was shown is the token's.
    pub is_right: bool,
    /// Two keys have shown it.
    pub is_burnt: bool,
    /// Its time has passed.
    pub is_expired: bool,
    /// The key that used it; `None`: none has.
    pub used_by: Option<Key>,
    /// Its cluster has no identity and never had an agent.
    pub awaits_agent: bool,
    /// Another cluster that has an identity has the kube-system UID that was shown.
    pub is_uid_taken: bool,
    /// The identity of its cluster; `None`: it has none.
    pub identity: Option<Identity>,
}

/// A key that used a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The one that is shown.
    Same,
    /// Another.
    Other,
}

/// The identity of a token's cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its agent is served: it was neither revoked nor is it doubted.
    pub is_active: bool,
    /// It was given to a cluster of the kube-system UID that was shown.
    pub is_same_cluster: bool,
    /// It is as it was given first: it was not renewed, and its certificate is in force.
    pub is_first: bool,
}

/// What becomes of an enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrol {
    /// The cluster gets its identity.
    Bind,
    /// The identity that was given is given again: the reply was lost.
    Repeat,
    /// Refused; and since nothing tells which of two keys was meant, the token is burnt, and its cluster's agent gets nothing
    /// until people have decided.
    Burn,
    /// Refused.
    Refuse(Refusal),
}

/// Why an enrolment is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No such token, or its secret differs.
    UnknownToken,
    /// Its time has passed.
    Expired,
    /// Used by another key: the token is burnt.
    UsedByAnotherKey,
    /// The cluster of this token has an identity already.
    AlreadyBound,
    /// Another active cluster has this kube-system UID.
    ClusterUidTaken,
}

impl Refusal {
    /// A word for the audit and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownToken => "UnknownToken",
            Self::Expired => "Expired",
            Self::UsedByAnotherKey => "UsedByAnotherKey",
            Self::AlreadyBound => "AlreadyBound",
            Self::ClusterUidTaken => "ClusterUidTaken",
        }
    }
}

/// Decides an enrolment. `None`: no such token is recorded.
pub fn enrol(token: Option<&Token>) -> Enrol {
    let Some(token) = token.filter(|token| token.is_right) else {
        return Enrol::Refuse(Refusal::UnknownToken);
    };
    if token.is_burnt {
        return Enrol::Refuse(Refusal::UsedByAnotherKey);
    }
    match token.used_by {
        // What is repeated is the enrolment whose reply was lost, and nothing later: an identity that was renewed since, or
        // whose cluster was let go, is not given out again for its token.
        Some(Key::Same) => match token.identity {
            Some(Identity {
                is_active: true,
                is_same_cluster: true,
                is_first: true,
            }) => Enrol::Repeat,
            _ => Enrol::Refuse(Refusal::AlreadyBound),
        },
        // The end of its time ends what it can begin, not what it has begun. A new token would not help where the cluster has
        // an identity, so that is what is said.
        _ if token.is_expired => Enrol::Refuse(match token.identity {
            Some(_) => Refusal::AlreadyBound,
            None => Refusal::Expired,
        }),
        Some(Key::Other) => Enrol::Burn,
        None if !token.awaits_agent => Enrol::Refuse(Refusal::AlreadyBound),
        None if token.is_uid_taken => Enrol::Refuse(Refusal::ClusterUidTaken),
        None => Enrol::Bind,
    }
}

/// What is recorded of an identity that is to be recovered, and what its agent has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// The recovery key of the identity has signed.
    pub is_signed: bool,
    /// Its agent is served: it was neither revoked nor is it doubted.
    pub is_active: bool,
    /// It is shown in the cluster that it was given to.
    pub is_same_cluster: bool,
    /// It was seen within [`APART_DAYS`].
    pub is_seen_lately: bool,
}

/// Days after which an agent that was apart comes back by a person's decision alone.
pub const APART_DAYS: u32 = 30;

/// What becomes of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recover {
    /// It is renewed, if its generation is the stored one.
    Renew,
    /// Refused without a word: whoever asks is a stranger, or no longer served.
    NotAdmitted,
    /// Refused: the identity is shown in another cluster than its own.
    AnotherCluster,
    /// Refused: it was away for too long.
    TooLong,
}

/// Decides a recovery. `None`: no such identity.
pub fn recover(apart: Option<&Apart>) -> Recover {
    match apart {
        Some(apart) if apart.is_signed && apart.is_active => match apart {
            Apart {
                is_same_cluster: false,
                ..
            } => Recover::AnotherCluster,
            Apart {
                is_seen_lately: false,
                ..
            } => Recover::TooLong,
            _ => Recover::Renew,
        },
        _ => Recover::NotAdmitted,
    }
}

/// What the recovery key signs: each part behind its length, so that none can be taken for a piece of another.
pub fn recovery_message(
    cluster_id: &str,
    csr: &[u8],
    generation: u64,
    cluster_uid: &str,
    challenge: &[u8],
) -> Vec<u8> {
    let mut message = b"flotilla/recover/v1\0".to_vec();
    for part in [
        cluster_id.as_bytes(),
        csr,
        &generation.to_be_bytes(),
        cluster_uid.as_bytes(),
        challenge,
    ] {
        message.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        message.extend_from_slice(part);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Token = Token {
        is_right: true,
        is_burnt: false,
        is_expired: false,
        used_by: None,
        awaits_agent: true,
        is_uid_taken: false,
        identity: None,
    };
    const IDENTITY: Identity = Identity {
        is_active: true,
        is_same_cluster: true,
        is_first: true,
    };

    /// Every token that there may be.
    fn all() -> impl Iterator<Item = Token> {
        let flag = |bits: u32, place: u32| bits >> place & 1 == 1;
        (0..1 << 9).flat_map(move |bits| {
            let identity = Identity {
                is_active: flag(bits, 5),
                is_same_cluster: flag(bits, 6),
                is_first: flag(bits, 7),
            };
            [None, Some(Key::Same), Some(Key::Other)].map(|used_by| Token {
                is_right: flag(bits, 0),
                is_burnt: flag(bits, 1),
                is_expired: flag(bits, 2),
                used_by,
                awaits_agent: flag(bits, 3),
                is_uid_taken: flag(bits, 4),
                identity: flag(bits, 8).then_some(identity),
            })
        })
    }

    #[test]
    fn a_fresh_token_binds_a_cluster_that_awaits_its_agent_and_nothing_else_does() {
        assert_eq!(enrol(Some(&FRESH)), Enrol::Bind);
        for token in all().filter(|token| enrol(Some(token)) == Enrol::Bind) {
            let identity = token.identity;
            assert_eq!(token, Token { identity, ..FRESH });
        }
    }

    #[test]
    fn an_identity_is_given_again_to_the_key_that_has_it_while_nothing_has_changed_since() {
        let used = Token {
            used_by: Some(Key::Same),
            awaits_agent: false,
            is_uid_taken: true,
            identity: Some(IDENTITY),
            ..FRESH
        };
        assert_eq!(enrol(Some(&used)), Enrol::Repeat);
        // The reply was lost in the token's last second: a new token would be refused, and the identity is this key's.
        let late = Token {
            is_expired: true,
            ..used
        };
        assert_eq!(enrol(Some(&late)), Enrol::Repeat);
        for token in all().filter(|token| enrol(Some(token)) == Enrol::Repeat) {
            assert!(token.is_right && !token.is_burnt, "{token:?}");
            assert_eq!((token.used_by, token.identity), (Some(Key::Same), Some(IDENTITY)));
        }
    }

    #[test]
    fn an_expired_token_binds_and_burns_nothing_and_its_refusal_says_what_helps() {
        for token in all().filter(|token| token.is_right && !token.is_burnt && token.is_expired) {
            let helps = match token.identity {
                Some(_) => Refusal::AlreadyBound,
                None => Refusal::Expired,
            };
            match enrol(Some(&token)) {
                Enrol::Repeat => assert_eq!(token.used_by, Some(Key::Same)),
                // Its cluster was let go since: another one may be made.
                Enrol::Refuse(Refusal::AlreadyBound) if token.used_by == Some(Key::Same) => {}
                decided => assert_eq!(decided, Enrol::Refuse(helps), "{token:?}"),
            }
        }
    }

    #[test]
    fn a_token_that_two_keys_show_is_burnt_and_who_does_not_know_its_secret_burns_none() {
        for token in all() {
            let decided = enrol(Some(&token));
            let shown = token.is_right && !token.is_burnt && !token.is_expired;
            let burns = shown && token.used_by == Some(Key::Other);
            assert_eq!(decided == Enrol::Burn, burns, "{token:?}");
            let unknown = decided == Enrol::Refuse(Refusal::UnknownToken);
            assert_eq!(unknown, !token.is_right, "{token:?}");
        }
        assert_eq!(enrol(None), Enrol::Refuse(Refusal::UnknownToken));
    }

    #[test]
    fn an_identity_is_renewed_for_its_recovery_key_alone_where_it_belongs_and_not_for_ever() {
        let apart = Apart {
            is_signed: true,
            is_active: true,
            is_same_cluster: true,
            is_seen_lately: true,
        };
        assert_eq!(recover(Some(&apart)), Recover::Renew);
        for bits in 0..16_u32 {
            let flag = |place: u32| bits >> place & 1 == 1;
            let apart = Apart {
                is_signed: flag(0),
                is_active: flag(1),
                is_same_cluster: flag(2),
                is_seen_lately: flag(3),
            };
            assert_eq!(recover(Some(&apart)) == Recover::Renew, bits == 15, "{apart:?}");
            // A stranger is told nothing.
            let is_known = apart.is_signed && apart.is_active;
            assert_eq!(
                recover(Some(&apart)) == Recover::NotAdmitted,
                !is_known,
                "{apart:?}"
            );
        }
        assert_eq!(recover(None), Recover::NotAdmitted);
    }

    #[test]
    fn no_part_of_what_is_signed_can_be_moved_into_another() {
        let message = |id: &str, csr: &[u8], uid: &str| recovery_message(id, csr, 1, uid, b"c");
        assert_ne!(message("ab", b"c", "d"), message("a", b"bc", "d"));
        assert_ne!(message("a", b"b", "cd"), message("a", b"bc", "d"));
        assert_eq!(
            recovery_message("", b"", 1, "", b"")[..20],
            *b"flotilla/recover/v1\0"
        );
    }
}
