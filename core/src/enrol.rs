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
}
