//! Judges an offered desired state against what is held. Pure. Whatever is refused here leaves the ledger as it
//! was: absence is never deletion, and nothing goes back in time unless the hub's history itself is a new one. What a new
//! history does not name is kept as it is, and so is what was let go of after the state that an agent was put back to.

use std::collections::{BTreeMap, BTreeSet};

use super::Held;
use crate::{
    digest::Digest,
    id::UnitId,
    unit::{Entry, UnitState, root},
};

/// A desired state as it came.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The hub's history.
    pub incarnation: u64,
    /// Number in that history.
    pub generation: u64,
    /// What the entries must give.
    pub root: Digest,
    /// `entries` holds only what changed since this generation.
    pub base: Option<u64>,
    /// The entries.
    pub entries: Vec<OfferedEntry>,
    /// The hub knows that this agent had accepted a later state than it holds: its cluster was put back. What was let go of
    /// since is named no more, or is named as let go of while it is enforced here: it stays as it is, unknown to the hub.
    pub was_put_back: bool,
}

/// One entry of an offer.
#[derive(Debug, Clone)]
pub struct OfferedEntry {
    /// The unit.
    pub unit: UnitId,
    /// Canonical bytes.
    pub bytes: Vec<u8>,
    /// The hub lets go of the unit.
    pub released: bool,
}

/// A unit that is held, as an offer is judged against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Digest of its offered entry.
    pub digest: Digest,
    /// The hub may let go of it: nothing of it is enforced, or nothing is left in the cluster.
    pub releasable: bool,
    /// The accepted state does not name it.
    pub is_unknown: bool,
}

/// Tells whether the hub may let go of a unit: it is detached, or to be removed and nothing is left. `None`: its entry
/// cannot be read, and says neither.
pub fn is_releasable(state: Option<&UnitState>, has_objects: bool) -> bool {
    match state {
        Some(UnitState::Detached) => true,
        Some(UnitState::Removing(_)) => !has_objects,
        Some(UnitState::Active | UnitState::Suspended) | None => false,
    }
}

/// What an acceptable offer means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It is what is held; acknowledge again.
    Accepted,
    /// New entries, by position in the offer, and units let go.
    New {
        /// Positions of entries that differ from what is held.
        changed: Vec<usize>,
        /// Units let go.
        released: Vec<UnitId>,
        /// Units that this history does not name, as the one before did, or that were let go of after what is held.
        unknown: Vec<UnitId>,
    },
}

/// Why an offer is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Behind what is held.
    #[error("generation {offered} of incarnation {incarnation} is behind generation {accepted}")]
    Stale {
        /// Offered incarnation.
        incarnation: u64,
        /// Offered generation.
        offered: u64,
        /// Held generation.
        accepted: u64,
    },
    /// The same number with other entries.
    #[error("generation {0} was accepted with another root")]
    Conflict(u64),
    /// A held unit is neither named nor let go.
    #[error("unit {0} is held here and missing from the offer")]
    UnitMissing(UnitId),
    /// A unit is let go that is neither detached nor gone here.
    #[error("unit {0} is let go and still has objects that are enforced or to be removed here")]
    NotReleasable(UnitId),
    /// The entries do not give the root.
    #[error("the entries give another root than the offer claims")]
    RootMismatch,
    /// The changes are against something that is not held.
    #[error("the changes are against generation {offered}; {accepted} is held")]
    BaseUnknown {
        /// The base of the offer.
        offered: u64,
        /// What is held.
        accepted: u64,
    },
}

/// Judges `offer` against what is held.
pub fn judge(accepted: &Held, known: &BTreeMap<UnitId, Known>, offer: &Offer) -> Result<Judged, Refusal> {
    fence(accepted, offer)?;
    if same(accepted, offer) {
        return match accepted.root == Some(offer.root) {
            true => Ok(Judged::Accepted),
            false => Err(Refusal::Conflict(offer.generation)),
        };
    }
    let mut next = if offer.base.is_some() {
        let named = known.iter().filter(|(_, known)| !known.is_unknown);
        named.map(|(unit, known)| (*unit, known.digest)).collect()
    } else {
        BTreeMap::new()
    };
    let mut changed = Vec::new();
    let mut released = Vec::new();
    let mut revived = BTreeSet::new();
    let mut named = BTreeSet::new();
    for (position, entry) in offer.entries.iter().enumerate() {
        if !named.insert(entry.unit) {
            return Err(Refusal::RootMismatch);
        }
        if entry.released {
            next.remove(&entry.unit);
            if known.get(&entry.unit).is_some_and(|known| !known.releasable) {
                if !offer.was_put_back {
                    return Err(Refusal::NotReleasable(entry.unit));
                }
                revived.insert(entry.unit);
                continue;
            }
            released.push(entry.unit);
            continue;
        }
        let digest = Entry::digest_of(&entry.bytes);
        next.insert(entry.unit, digest);
        let is_held = |known: &Known| known.digest == digest && !known.is_unknown;
        if !known.get(&entry.unit).is_some_and(is_held) {
            changed.push(position);
        }
    }
    let missing = known
        .iter()
        .filter(|(unit, known)| !known.is_unknown && !next.contains_key(*unit) && !released.contains(unit));
    let unknown: Vec<UnitId> = missing.map(|(unit, _)| *unit).collect();
    // A hub that was restored from a backup may know less than the one before it.
    let is_new_history = offer.incarnation > accepted.incarnation && accepted.incarnation > 0;
    let is_revived = |unit: &UnitId| is_new_history || offer.was_put_back || revived.contains(unit);
    if let Some(missing) = unknown.iter().find(|unit| !is_revived(unit)) {
        return Err(Refusal::UnitMissing(*missing));
    }
    if root(next) != offer.root {
        return Err(Refusal::RootMismatch);
    }
    released.retain(|unit| known.contains_key(unit));
    Ok(Judged::New {
        changed,
        released,
        unknown,
    })
}

fn same(accepted: &Held, offer: &Offer) -> bool {
    (accepted.incarnation, accepted.generation) == (offer.incarnation, offer.generation)
}

fn fence(accepted: &Held, offer: &Offer) -> Result<(), Refusal> {
    if (offer.incarnation, offer.generation) < (accepted.incarnation, accepted.generation) {
        return Err(Refusal::Stale {
            incarnation: offer.incarnation,
            offered: offer.generation,
            accepted: accepted.generation,
        });
    }
    match offer.base {
        Some(base)
            if !same(accepted, offer)
                && (offer.incarnation, base) != (accepted.incarnation, accepted.generation) =>
        {
            Err(Refusal::BaseUnknown {
                offered: base,
                accepted: accepted.generation,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn unit(n: u128) -> UnitId {
        UnitId(Uuid::from_u128(n))
    }

    fn digests(units: &[(u128, &str)]) -> BTreeMap<UnitId, Digest> {
        units
            .iter()
            .map(|(n, text)| (unit(*n), Entry::digest_of(text.as_bytes())))
            .collect()
    }

    fn known(units: &[(u128, &str)], releasable: bool) -> BTreeMap<UnitId, Known> {
        digests(units)
            .into_iter()
            .map(|(unit, digest)| {
                let is_unknown = false;
                (
                    unit,
                    Known {
                        digest,
                        releasable,
                        is_unknown,
                    },
                )
            })
            .collect()
    }

    fn accepted(generation: u64, units: &[(u128, &str)]) -> Held {
        Held {
            incarnation: 1,
            generation,
            root: Some(root(digests(units))),
        }
    }

    fn offer(generation: u64, base: Option<u64>, entries: &[(u128, &str)], whole: &[(u128, &str)]) -> Offer {
        Offer {
            incarnation: 1,
            generation,
            root: root(digests(whole)),
            base,
            entries: entries
                .iter()
                .map(|(n, text)| OfferedEntry {
                    unit: unit(*n),
                    bytes: text.as_bytes().to_vec(),
                    released: text.is_empty(),
                })
                .collect(),
            was_put_back: false,
        }
    }

    const AB: &[(u128, &str)] = &[(1, "a"), (2, "b")];

    fn judged(offer: &Offer) -> Result<Judged, Refusal> {
        judge(&accepted(5, AB), &known(AB, true), offer)
    }

    #[test]
    fn a_newer_whole_state_is_taken_with_what_differs() {
        let whole = &[(1, "a"), (2, "c"), (3, "d")];
        assert_eq!(
            judged(&offer(9, None, whole, whole)),
            Ok(Judged::New {
                changed: vec![1, 2],
                released: vec![],
                unknown: vec![]
            })
        );
    }

    #[test]
    fn changes_are_taken_only_against_what_is_held() {
        let whole = &[(1, "a"), (2, "c")];
        assert!(judged(&offer(6, Some(5), &[(2, "c")], whole)).is_ok());
        assert_eq!(
            judged(&offer(6, Some(4), &[(2, "c")], whole)),
            Err(Refusal::BaseUnknown {
                offered: 4,
                accepted: 5
            })
        );
    }

    #[test]
    fn a_lower_generation_is_stale_unless_the_history_is_new() {
        let mut old = offer(4, None, AB, AB);
        assert!(matches!(judged(&old), Err(Refusal::Stale { .. })));
        old.incarnation = 2;
        assert!(judged(&old).is_ok());
        old.incarnation = 0;
        old.generation = 99;
        assert!(matches!(judged(&old), Err(Refusal::Stale { .. })));
    }

    #[test]
    fn the_same_generation_is_acknowledged_again_or_a_conflict() {
        assert_eq!(judged(&offer(5, None, AB, AB)), Ok(Judged::Accepted));
        let other = &[(1, "a"), (2, "other")];
        assert_eq!(judged(&offer(5, None, other, other)), Err(Refusal::Conflict(5)));
    }

    #[test]
    fn a_unit_that_is_merely_absent_refuses_the_offer() {
        let without = &[(1, "a")];
        assert_eq!(
            judged(&offer(6, None, without, without)),
            Err(Refusal::UnitMissing(unit(2)))
        );
        assert_eq!(
            judged(&offer(6, None, &[], &[])),
            Err(Refusal::UnitMissing(unit(1)))
        );
    }

    /// An offer of the history that comes after.
    fn of_next(
        generation: u64,
        base: Option<u64>,
        entries: &[(u128, &str)],
        whole: &[(u128, &str)],
    ) -> Offer {
        Offer {
            incarnation: 2,
            ..offer(generation, base, entries, whole)
        }
    }

    #[test]
    fn what_a_new_history_does_not_name_is_kept_until_it_is_named_again() {
        let without = &[(1, "a")];
        let whole = of_next(3, None, without, without);
        let judged = judge(&accepted(5, AB), &known(AB, false), &whole);
        let unknown = vec![unit(2)];
        assert_eq!(
            judged,
            Ok(Judged::New {
                changed: vec![],
                released: vec![],
                unknown
            })
        );
        // From then on the state is one without it.
        let held = Held {
            incarnation: 2,
            ..accepted(3, without)
        };
        let mut units = known(AB, false);
        units.get_mut(&unit(2)).expect("held").is_unknown = true;
        let changed = of_next(4, Some(3), &[(1, "c")], &[(1, "c")]);
        let taken = |changed| {
            Ok(Judged::New {
                changed,
                released: vec![],
                unknown: vec![],
            })
        };
        assert_eq!(judge(&held, &units, &changed), taken(vec![0]));
        assert_eq!(
            judge(&held, &units, &of_next(4, None, &[(1, "c")], &[(1, "c")])),
            taken(vec![0])
        );
        // It is back, as it is held or as another.
        for text in ["b", "d"] {
            let back = of_next(4, Some(3), &[(2, text)], &[(1, "a"), (2, text)]);
            assert_eq!(judge(&held, &units, &back), taken(vec![0]), "{text}");
        }
        // What this history has named is missing from it as from any other.
        assert_eq!(
            judge(&held, &units, &of_next(4, None, &[], &[])),
            Err(Refusal::UnitMissing(unit(1)))
        );
        // Nor is it let go of while it is enforced.
        let let_go = of_next(4, Some(3), &[(2, "")], &[(1, "a")]);
        assert_eq!(
            judge(&held, &units, &let_go),
            Err(Refusal::NotReleasable(unit(2)))
        );
    }

    /// A cluster, and with it the agent's ledger, is put back to before two units were let go of: of one the hub still says
    /// so, of the other it says nothing any more.
    #[test]
    fn what_was_let_go_of_after_the_state_that_an_agent_was_put_back_to_stays_unknown_to_the_hub() {
        let enforced = known(&[(1, "a"), (2, "b"), (3, "c")], false);
        let held = accepted(5, &[(1, "a"), (2, "b"), (3, "c")]);
        let whole = offer(9, None, &[(1, "a"), (2, "")], &[(1, "a")]);
        assert_eq!(
            judge(&held, &enforced, &whole),
            Err(Refusal::NotReleasable(unit(2))),
            "what was not put back has more to do with it"
        );
        let put_back = Offer {
            was_put_back: true,
            ..whole
        };
        assert_eq!(
            judge(&held, &enforced, &put_back),
            Ok(Judged::New {
                changed: vec![],
                released: vec![],
                unknown: vec![unit(2), unit(3)]
            })
        );
        // What may be let go of is.
        let detached = known(&[(1, "a"), (2, "b"), (3, "c")], true);
        assert_eq!(
            judge(&held, &detached, &put_back),
            Ok(Judged::New {
                changed: vec![],
                released: vec![unit(2)],
                unknown: vec![unit(3)]
            })
        );
    }

    #[test]
    fn a_unit_let_go_is_the_only_removal() {
        for base in [None, Some(5)] {
            let entries: &[(u128, &str)] = if base.is_some() {
                &[(2, "")]
            } else {
                &[(1, "a"), (2, "")]
            };
            assert_eq!(
                judged(&offer(6, base, entries, &[(1, "a")])),
                Ok(Judged::New {
                    changed: vec![],
                    released: vec![unit(2)],
                    unknown: vec![]
                })
            );
        }
    }

    #[test]
    fn a_unit_that_is_enforced_here_is_not_let_go() {
        let offer = offer(6, Some(5), &[(2, "")], &[(1, "a")]);
        assert_eq!(
            judge(&accepted(5, AB), &known(AB, false), &offer),
            Err(Refusal::NotReleasable(unit(2)))
        );
    }

    #[test]
    fn entries_that_do_not_give_the_root_are_refused() {
        assert_eq!(
            judged(&offer(6, None, AB, &[(1, "a"), (2, "x")])),
            Err(Refusal::RootMismatch)
        );
        assert_eq!(
            judged(&offer(6, None, &[(1, "a"), (2, "b"), (2, "b")], AB)),
            Err(Refusal::RootMismatch)
        );
    }
}
