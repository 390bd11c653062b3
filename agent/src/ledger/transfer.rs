//! Moves an agent's state from one form of storage to another, both ways: from Secrets to a volume when it grows, and
//! back. The new form is complete before the old one is marked as moved, and is not used before that: whenever the
//! move is broken off, exactly one of the two is in use, and moving again ends it.
//!
//! The old form keeps what it had. An agent that is started on it says where its ledger went.

use std::{collections::HashMap, sync::Arc};

use super::{
    error::LedgerError,
    head::Standing,
    key_value::{KeyValue, KeyValueError},
    record,
    state::State,
    writer::Writer,
};

/// A form of storage, as people call it.
pub struct Place {
    /// Where the values are.
    pub key_value: Arc<dyn KeyValue>,
    /// What an agent that is started on the old form says, e.g. `directory /state`.
    pub name: String,
}

/// What moving did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The ledger is in its new place.
    Now,
    /// It was there already.
    Before,
    /// It was moved there before, and what was there is lost.
    Lost,
    /// There is nothing to move: no agent was ever here.
    Nothing,
}

/// Why a ledger was not moved. It is where it was.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The old form cannot be read or marked.
    #[error("ledger in {place}: {source}")]
    Ledger {
        /// Where.
        place: String,
        /// What is wrong.
        #[source]
        source: LedgerError,
    },
    /// Something was written while it was moved.
    #[error("an agent runs on the ledger in {0}; stop it first")]
    InUse(String),
    /// Old and new are one.
    #[error(
        "the state is to be moved from {0} to itself; where it is now is what --state-dir says, or Secrets without"
    )]
    Same(String),
    /// Moving would overwrite another ledger.
    #[error("{0} holds another ledger; it is not overwritten")]
    Occupied(String),
    /// The identity cannot be copied.
    #[error("identity: {0}")]
    Identity(#[source] KeyValueError),
}

impl TransferError {
    /// Tells whether the storage refuses, and repeating does not help.
    pub fn is_refused(&self) -> bool {
        matches!(
            self,
            Self::Identity(KeyValueError::Refused { .. })
                | Self::Ledger {
                    source: LedgerError::Storage(KeyValueError::Refused { .. }),
                    ..
                }
        )
    }
}

/// Moves the ledger called `ledger`, and the value of the identity. No agent may run on either form.
pub async fn transfer(
    from: &Place,
    to: &Place,
    ledger: &str,
    identity: &str,
) -> Result<Moved, TransferError> {
    if from.name == to.name {
        return Err(TransferError::Same(to.name.clone()));
    }
    let (mut source, bytes) = load(from, ledger).await?;
    let (mut target, _) = load(to, ledger).await?;
    match &source.head().standing {
        Standing::MovedTo(place) if *place == to.name => return finish(&mut target, to).await,
        Standing::Here => {}
        Standing::MovedTo(_) | Standing::ArrivingFrom(_) => {
            let refused = source.head().check_standing();
            return refused.map(|()| Moved::Nothing).map_err(|e| at(from, e));
        }
    }
    if source.is_new() {
        // An agent that has joined and was given nothing yet has an identity alone.
        return Ok(match target.is_new() && is_alone(from, to, identity).await? {
            true => {
                copy_identity(from, to, identity).await?;
                Moved::Now
            }
            false => Moved::Nothing,
        });
    }
    // A place that the ledger has left, or has not yet reached, may be written again.
    if !target.is_new() && target.head().standing == Standing::Here {
        return Err(TransferError::Occupied(to.name.clone()));
    }
    let whole = needed(&bytes).map_err(|e| at(from, e))?;
    let limit = to.key_value.limits().total;
    if whole.len() > limit {
        return Err(at(to, LedgerError::full(whole.len(), limit)));
    }
    copy_identity(from, to, identity).await?;
    let arriving = Standing::ArrivingFrom(from.name.clone());
    target.take_nature(source.head());
    let accepted = source.head().accepted;
    target
        .replace(&whole, accepted, arriving)
        .await
        .map_err(|e| at(to, e))?;
    match source.set_standing(Standing::MovedTo(to.name.clone())).await {
        Ok(()) => finish(&mut target, to).await,
        Err(LedgerError::Lost) => Err(TransferError::InUse(from.name.clone())),
        Err(e) => Err(at(from, e)),
    }
}

async fn load(place: &Place, ledger: &str) -> Result<(Writer, Vec<u8>), TransferError> {
    let loaded = Writer::load(place.key_value.clone(), ledger).await;
    let (writer, bytes) = loaded.map_err(|e| at(place, e))?;
    match writer.damage() {
        Some(why) => Err(at(place, LedgerError::Damaged(why.to_owned()))),
        None => Ok((writer, bytes)),
    }
}

/// Lets a complete ledger be used where it has arrived.
async fn finish(target: &mut Writer, to: &Place) -> Result<Moved, TransferError> {
    if target.is_new() {
        return Ok(Moved::Lost);
    }
    match target.head().standing {
        Standing::ArrivingFrom(_) => {
            target.set_standing(Standing::Here).await.map_err(|e| at(to, e))?;
            Ok(Moved::Now)
        }
        Standing::Here | Standing::MovedTo(_) => Ok(Moved::Before),
    }
}

/// Returns the records without garbage.
fn needed(bytes: &[u8]) -> Result<Vec<u8>, LedgerError> {
    let mut state = State::default();
    record::decode_each(bytes, |record| state.apply(record))?;
    Ok(state.encode(&state.garbage(), &HashMap::new()))
}

/// Tells whether the old form has an identity, and the new one none.
async fn is_alone(from: &Place, to: &Place, identity: &str) -> Result<bool, TransferError> {
    let has = async |place: &Place| {
        let value = place.key_value.get(identity).await;
        value
            .map(|value| value.is_some())
            .map_err(TransferError::Identity)
    };
    Ok(has(from).await? && !has(to).await?)
}

/// Where an agent that is to start on nothing has left its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftBehind {
    /// In the other form of storage.
    There,
    /// In a third place, to which it was moved from the other form.
    MovedTo(String),
}

/// Tells whether an agent that is to start `here` has left its state `there`: it has nothing here and something there. A
/// place that says it was moved here has none: what was here is lost, and what is there is old.
pub async fn left_behind(
    here: &Place,
    there: &Place,
    ledger: &str,
    identity: &str,
) -> Result<Option<LeftBehind>, TransferError> {
    let storage = |source| at(here, LedgerError::Storage(source));
    if here.key_value.get(ledger).await.map_err(storage)?.is_some() {
        return Ok(None);
    }
    let (old, _) = load(there, ledger).await?;
    if old.is_new() {
        let alone = is_alone(there, here, identity).await?;
        return Ok(alone.then_some(LeftBehind::There));
    }
    Ok(match &old.head().standing {
        Standing::MovedTo(place) if *place == here.name => None,
        Standing::MovedTo(place) => Some(LeftBehind::MovedTo(place.clone())),
        Standing::Here | Standing::ArrivingFrom(_) => Some(LeftBehind::There),
    })
}

/// Returns where a ledger went, when it was moved: what an agent under which that happens says as it ends.
pub async fn moved(key_value: Arc<dyn KeyValue>, ledger: &str) -> Option<LedgerError> {
    let (writer, _) = Writer::load(key_value, ledger).await.ok()?;
    let refused = writer.head().check_standing().err()?;
    matches!(refused, LedgerError::Moved { .. }).then_some(refused)
}

async fn copy_identity(from: &Place, to: &Place, identity: &str) -> Result<(), TransferError> {
    let value = from
        .key_value
        .get(identity)
        .await
        .map_err(TransferError::Identity)?;
    let there = to
        .key_value
        .get(identity)
        .await
        .map_err(TransferError::Identity)?;
    match value {
        Some(value) if there.as_ref().is_none_or(|there| there.bytes != value.bytes) => {
            let version = there.map(|there| there.version);
            let put = to.key_value.put(identity, &value.bytes, version.as_ref()).await;
            put.map(drop).map_err(TransferError::Identity)
        }
        _ => Ok(()),
    }
}

fn at(place: &Place, source: LedgerError) -> TransferError {
    TransferError::Ledger {
        place: place.name.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::{clock::Timestamp, id::UnitId};
    use uuid::Uuid;

    use super::*;
    use crate::ledger::{Ledger, directory::Directory, key_value::Limits, memory::Memory, record::Record};

    const LEDGER: &str = "ledger";
    const IDENTITY: &str = "identity";

    fn place(name: &str, key_value: Arc<dyn KeyValue>) -> Place {
        let name = name.to_owned();
        Place { key_value, name }
    }

    fn secrets(key_value: &Memory) -> Place {
        place("Secrets", Arc::new(key_value.clone()))
    }

    fn offered(n: u128, bytes: usize) -> Record {
        Record::Offered {
            unit: UnitId(Uuid::from_u128(n)),
            entry: vec![b' '; bytes].into(),
            at: Timestamp(1),
        }
    }

    async fn open(place: &Place) -> Result<Ledger, LedgerError> {
        Ledger::open(place.key_value.clone(), LEDGER).await
    }

    async fn units(place: &Place) -> usize {
        let ledger = open(place).await.expect("opens");
        ledger.read(|state| state.units.len())
    }

    /// A ledger with one unit and an identity.
    async fn filled() -> Memory {
        let key_value = Memory::default();
        let ledger = open(&secrets(&key_value)).await.expect("opens");
        ledger.append(vec![offered(1, 100_000)]).await.expect("appends");
        key_value.set(IDENTITY, Some(b"keys".to_vec()));
        key_value
    }

    async fn run(from: &Place, to: &Place) -> Result<Moved, TransferError> {
        transfer(from, to, LEDGER, IDENTITY).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_ledger_goes_to_a_directory_and_back_with_its_identity() {
        let dir = tempfile::tempdir().expect("a directory");
        let key_value = filled().await;
        let old = secrets(&key_value);
        let key = *open(&old).await.expect("opens").key();
        let new = place(
            "directory /state",
            Arc::new(Directory::open(dir.path()).expect("opens")),
        );
        assert_eq!(run(&old, &new).await.expect("moves"), Moved::Now);
        assert_eq!(run(&old, &new).await.expect("is there"), Moved::Before);
        assert!(matches!(open(&old).await, Err(LedgerError::Moved { to }) if to == "directory /state"));
        let ledger = open(&new).await.expect("opens");
        assert_eq!(ledger.key(), &key);
        ledger.append(vec![offered(2, 10)]).await.expect("appends");
        drop(ledger);
        let identity = new.key_value.get(IDENTITY).await.expect("reads").expect("exists");
        assert_eq!(identity.bytes, b"keys");
        assert_eq!(run(&new, &old).await.expect("moves back"), Moved::Now);
        assert!(matches!(open(&new).await, Err(LedgerError::Moved { .. })));
        assert_eq!(units(&old).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ledger_that_moves_is_of_the_same_cluster_also_where_another_was_before() {
        let (old, new) = (
            secrets(&filled().await),
            place("new", Arc::new(Memory::default())),
        );
        let ledger = open(&old).await.expect("opens");
        assert!(ledger.is_of("here").await);
        ledger.flush().await.expect("stored");
        drop(ledger);
        for (from, to) in [(&old, &new), (&new, &old)] {
            assert_eq!(run(from, to).await.expect("moves"), Moved::Now);
            let ledger = open(to).await.expect("opens");
            assert!(!ledger.is_of("elsewhere").await);
            assert!(ledger.is_of("here").await);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_identity_of_an_agent_that_was_given_nothing_yet_is_moved_once() {
        let (old, new) = (
            secrets(&Memory::default()),
            place("new", Arc::new(Memory::default())),
        );
        let put = old.key_value.put(IDENTITY, b"keys", None).await.expect("stored");
        assert_eq!(run(&old, &new).await.expect("moves"), Moved::Now);
        let read = async || {
            new.key_value
                .get(IDENTITY)
                .await
                .expect("reads")
                .expect("exists")
                .bytes
        };
        assert_eq!(read().await, b"keys");
        // The new one goes its own way.
        old.key_value
            .put(IDENTITY, b"old", Some(&put))
            .await
            .expect("stored");
        assert_eq!(run(&old, &new).await.expect("is there"), Moved::Nothing);
        assert_eq!(read().await, b"keys");
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_finds_nothing_where_it_starts_has_left_its_state_where_there_is_some() {
        let left = async |here: &Place, there: &Place| {
            left_behind(here, there, LEDGER, IDENTITY).await.expect("reads")
        };
        let at_secrets = Some(LeftBehind::There);
        let nowhere = || place("here", Arc::new(Memory::default()));
        assert_eq!(left(&nowhere(), &secrets(&Memory::default())).await, None);
        let key_value = filled().await;
        let old = secrets(&key_value);
        assert_eq!(left(&nowhere(), &old).await, at_secrets);
        let joined = secrets(&Memory::default());
        joined
            .key_value
            .put(IDENTITY, b"keys", None)
            .await
            .expect("stored");
        assert_eq!(left(&nowhere(), &joined).await, at_secrets, "an identity alone");
        let here = nowhere();
        assert_eq!(run(&old, &here).await.expect("moves"), Moved::Now);
        assert_eq!(left(&here, &old).await, None);
        assert_eq!(left(&nowhere(), &old).await, None, "what was moved here is lost");
        let elsewhere = place("elsewhere", Arc::new(Memory::default()));
        let moved = Some(LeftBehind::MovedTo("here".to_owned()));
        assert_eq!(left(&elsewhere, &old).await, moved);
        let lost = run(&old, &nowhere()).await.expect("it begins anew there");
        assert_eq!(lost, Moved::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_move_broken_off_at_any_write_leaves_one_form_in_use_and_is_ended_by_another() {
        for writes in 0..12 {
            for target_fails in [false, true] {
                let (key_value, other) = (filled().await, Memory::default());
                let (old, new) = (secrets(&key_value), place("elsewhere", Arc::new(other.clone())));
                let failing = if target_fails { &other } else { &key_value };
                failing.fail_after(writes);
                let _ = run(&old, &new).await;
                failing.heal();
                let usable = [
                    open(&old).await.is_ok(),
                    open(&new).await.is_ok_and(|l| !l.read(|s| s.units.is_empty())),
                ];
                assert!(usable != [true, true], "after {writes} writes both are in use");
                run(&old, &new).await.expect("moving again ends it");
                assert_eq!(units(&new).await, 1);
                assert!(matches!(open(&old).await, Err(LedgerError::Moved { .. })));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_running_agent_another_ledger_and_a_small_place_are_refused() {
        let key_value = filled().await;
        let old = secrets(&key_value);
        let small = Memory::default().with_limits(Limits {
            segment: 1_000,
            total: 10_000,
        });
        let refused = run(&old, &place("small", Arc::new(small))).await;
        assert!(matches!(
            refused,
            Err(TransferError::Ledger {
                source: LedgerError::Full { .. },
                ..
            })
        ));
        let used = filled().await;
        let refused = run(&old, &place("used", Arc::new(used))).await;
        assert!(matches!(refused, Err(TransferError::Occupied(_))));
        assert_eq!(units(&old).await, 1);
        // The agent that runs on it learns of the move with its next record, and exits.
        let running = open(&old).await.expect("opens");
        let new = place("new", Arc::new(Memory::default()));
        assert_eq!(run(&old, &new).await.expect("moves"), Moved::Now);
        assert!(matches!(
            running.append(vec![offered(3, 1)]).await,
            Err(LedgerError::Lost)
        ));
        assert_eq!(units(&new).await, 1);
        let nothing = place("nothing", Arc::new(Memory::default()));
        assert_eq!(run(&nothing, &old).await.expect("nothing to do"), Moved::Nothing);
    }
}
