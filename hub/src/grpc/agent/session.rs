//! An open stream: the state goes out, reports and acknowledgements come in, until it ends or is replaced.

use std::{collections::BTreeMap, time::Duration};

use flotilla_core::{
    desired::{Head, Held, Offer},
    digest::Digest,
    unit::Entry,
};
use flotilla_proto::agent::v1::{
    Ack, AgentMessage, Chunk, Desired, Hello, Refused, RefusedReason, Report, ReportAck, UnitAcceptance,
    UnitEntry, agent_message, hub_message,
};
use flotilla_proto::limits::{DESIRED_BYTES, MESSAGE_BYTES, WORD_BYTES};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use prost::Message as _;
use time::OffsetDateTime;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::warn;
use uuid::Uuid;

use super::{Agents, Outbound, message};
use crate::{
    grpc::status::from_store,
    index::{State, Watched},
    store::{
        StoreError,
        publish::EntryRow,
        report::{Attained, ConditionRow},
        session::{Answer, Refusal, Told},
        together::Together,
    },
    task::ingest::{Outcome, rows, text},
};

/// A stream ends after so many milliseconds: what its agent may and where it goes is judged anew.
const AGES: std::ops::Range<u64> = 45 * 60 * 1000..75 * 60 * 1000;
/// Between attempts to mark a stream closed.
const RETRY: Duration = Duration::from_secs(1);
/// Units that are named in what is said of the stream.
const NAMED: usize = 5;
/// Units of which it is remembered, whatever an agent says.
const PROBLEMS: usize = 1000;
/// What is said of an agent that is ahead of the store: without numbers, which change with each publication.
const NOT_OF_THIS_STORE: &str = "the store is older than the agent's state, or has another under its number: it was restored from a backup";
/// What is to be done about it.
const RESTORE: &str = "stop the hub and give it a new incarnation with `flotilla-hub restore --in-place`";
/// Changed entries of a state that what they need goes along with; of more it is fetched, in batches.
const ALONG: usize = 8;
/// The longest that a state waits for what goes along with it.
const PROMPT: Duration = Duration::from_millis(500);
/// Apps that are named where a state is too large.
const LARGEST: usize = 3;
/// Bytes around a desired state in the message that carries it, at most.
const WRAPPING: usize = 64;
/// Reports of one stream that may wait for their commit.
const REPORTS_IN_FLIGHT: usize = 4;

/// How long a stream may last: another time for each stream. All agents come back within seconds of a hub that was away,
/// and without that their streams would end within the same seconds, for ever.
pub(super) fn age(cluster: Uuid, epoch: u64) -> Duration {
    let text = format!("{cluster} {epoch}");
    let [a, b, c, d, ..] = *Digest::of("age of a stream", text.as_bytes()).as_bytes();
    let drawn = u64::from(u32::from_le_bytes([a, b, c, d]));
    Duration::from_millis(AGES.start + drawn % (AGES.end - AGES.start))
}

/// What an agent says that it holds.
pub(super) fn held(hello: &Hello) -> Held {
    Held {
        incarnation: hello.incarnation,
        generation: hello.generation,
        root: Digest::try_from_slice(&hello.root).ok(),
    }
}

pub(super) struct Session<'a> {
    pub(super) service: &'a Agents,
    pub(super) cluster: Uuid,
    pub(super) cluster_name: &'a str,
    /// The instance of the agent.
    pub(super) boot_id: String,
    pub(super) epoch: u64,
    /// What the agent held at Hello.
    pub(super) at_hello: Held,
    /// What was last sent, or held at Hello: the base of the next change.
    pub(super) sent: Held,
    /// That was all of it, and not changes.
    pub(super) sent_whole: bool,
    /// The agent has accepted a later state than it held at Hello.
    pub(super) was_put_back: bool,
    /// What the agent has said of entries that it does not hold, by unit: an acknowledgement names what changed.
    pub(super) problems: BTreeMap<Uuid, String>,
    /// Why the agent takes nothing that it does not hold, and the generation that it refused: said until it takes one.
    pub(super) refusal: Option<(u64, String)>,
    /// The agent was found ahead of the store.
    pub(super) ahead: bool,
    /// The state that the agent holds and what is said of it, as they were last told: an acknowledgement that says the
    /// same, as of each offer of which something is to be fetched first, is no news.
    pub(super) last_told: (u64, u64, String),
    pub(super) ends_at: Instant,
    pub(super) watched: watch::Receiver<Watched>,
    pub(super) close: CancellationToken,
}

impl Session<'_> {
    pub(super) async fn run(
        mut self: Box<Self>,
        inbound: &mut Streaming<AgentMessage>,
        outbound: &Outbound,
    ) -> Result<(), Status> {
        let mut committing: FuturesUnordered<BoxFuture<'static, Option<ReportAck>>> = FuturesUnordered::new();
        self.watched.mark_changed();
        let mut pending = false;
        let mut is_crowded = false;
        loop {
            // Every arm is cancel-safe: `changed`, `reserve`, `next`, `room` and `message` lose nothing when dropped.
            tokio::select! {
                // What is asked of the store meanwhile is large, and most of the time there is none of it.
                () = self.close.cancelled() => return Err(Box::pin(self.closed()).await),
                () = tokio::time::sleep_until(self.ends_at) => return Ok(()),
                changed = self.watched.changed() => match changed {
                    Ok(()) => pending = true,
                    Err(_) => return Err(Status::unavailable("the hub is shutting down")),
                },
                permit = outbound.reserve(), if pending => {
                    let Ok(permit) = permit else { return Ok(()) };
                    pending = false;
                    let state = self.watched.borrow_and_update().clone();
                    let head = state.as_ref().map(|state| state.head);
                    if self.is_ahead(head) {
                        self.ahead(head);
                    } else if let Some(state) = state
                        && let Some(desired) = Box::pin(self.desired(&state)).await?
                    {
                        permit.send(Ok(message(hub_message::Kind::Desired(desired))));
                        self.service.index.sent(self.cluster, state.head);
                    }
                }
                Some(committed) = committing.next(), if !committing.is_empty() => {
                    // A report that did not count is not acknowledged: the agent keeps its rows.
                    if let Some(ack) = committed {
                        let ack = message(hub_message::Kind::ReportAck(ack));
                        if outbound.send(Ok(ack)).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                () = self.service.ingest.room(self.cluster), if is_crowded => is_crowded = false,
                inbound = inbound.message(), if committing.len() < REPORTS_IN_FLIGHT && !is_crowded => {
                    let Some(inbound) = inbound? else { return Ok(()) };
                    self.service.streams.seen(self.cluster, self.epoch, OffsetDateTime::now_utc());
                    match inbound.kind {
                        Some(agent_message::Kind::Ack(ack)) => is_crowded = self.accepted(&ack),
                        Some(agent_message::Kind::Refused(refused)) => pending |= self.refused(refused),
                        Some(agent_message::Kind::Report(report)) => {
                            committing.push(self.commit(report));
                        }
                        Some(agent_message::Kind::Hello(_)) => {
                            return Err(Status::failed_precondition("a second hello on one stream"));
                        }
                        // Replies to requests, and what newer agents may say.
                        Some(agent_message::Kind::Reply(_)) | None => {}
                    }
                }
            }
        }
    }

    /// Why the stream is closed: another agent's took its place, or another of the same one, or its right has ended.
    async fn closed(&self) -> Status {
        let holder = self.service.store.holder(self.cluster).await;
        match holder {
            Ok(Some(holder)) if holder.epoch > self.epoch && holder.boot_id != self.boot_id => {
                warn!(
                    agent.instance = %self.boot_id,
                    by = holder.boot_id,
                    "another agent with the identity of this cluster took its stream"
                );
                // The agent tells this code from all others: it leaves the stream alone for a while.
                Status::already_exists(format!(
                    "another agent with the identity of cluster {}, instance {}, has opened a stream",
                    self.cluster_name, holder.boot_id
                ))
            }
            _ => Status::aborted("another stream of this cluster was opened, or its right has ended"),
        }
    }

    /// Tells whether the agent was found ahead of the store. It stays so while the stream lasts, also when new generations
    /// overtake the agent's: theirs are others than the ones it has seen.
    fn is_ahead(&mut self, published: Option<Head>) -> bool {
        self.ahead |= self.at_hello.is_ahead(published, self.service.incarnation);
        self.ahead
    }

    /// Nothing is sent, and it is said where people look. Only an operator resolves it.
    fn ahead(&mut self, state: Option<Head>) {
        let (agent, hub) = (
            self.at_hello.generation,
            state.map_or(0, |state| state.generation),
        );
        warn!(
            agent.generation = agent,
            hub.generation = hub,
            "the agent is ahead of this hub's store; nothing is sent"
        );
        let text = format!(
            "the agent holds generation {agent}, this hub's store {hub}: {NOT_OF_THIS_STORE}, nothing is sent; {RESTORE}"
        );
        let why = format!("{NOT_OF_THIS_STORE}; {RESTORE}");
        self.tell_refusal("AgentAhead", why, (agent, text));
    }

    /// The next message: changes since what the agent holds, or the whole state.
    async fn desired(&mut self, state: &State) -> Result<Option<Desired>, Status> {
        let base = match self.sent.offer(state.head) {
            Offer::Nothing => return Ok(None),
            Offer::Since(generation) => Some(generation),
            Offer::Whole => None,
        };
        let read;
        let (head, entries) = match (&state.changes, base) {
            (Some((since, changes)), Some(base)) if *since <= base => (state.head, changes),
            _ => {
                let since = [(self.cluster, base.unwrap_or(0))];
                let rows = self.service.store.desired_since(&since).await;
                let Some((_, row)) = rows.map_err(from_store)?.into_iter().next() else {
                    return Ok(None);
                };
                read = row.entries;
                (row.head, &read)
            }
        };
        let unit = |entry: &EntryRow| UnitEntry {
            unit_id: entry.unit.as_bytes().to_vec().into(),
            digest: entry.digest.as_bytes().to_vec().into(),
            canonical: entry.bytes.clone().into(),
            released: entry.released,
        };
        let offered = || {
            entries
                .iter()
                .filter(|entry| base.is_none_or(|base| entry.since > base))
        };
        let units: Vec<UnitEntry> = offered().map(unit).collect();
        let contents = match base {
            Some(_) if units.len() <= ALONG => self.along(offered()).await,
            _ => Vec::new(),
        };
        let desired = Desired {
            incarnation: head.incarnation,
            generation: head.generation,
            epoch: self.epoch,
            root: head.root.as_bytes().to_vec().into(),
            base_generation: base,
            units,
            contents,
            was_put_back: self.was_put_back,
        };
        let bytes = desired.encoded_len();
        if bytes > DESIRED_BYTES - WRAPPING {
            self.too_large(head, bytes, entries);
            return Ok(None);
        }
        self.sent = head.into();
        self.sent_whole = base.is_none();
        Ok(Some(desired))
    }

    /// What goes along of what changed entries need. A state does not wait for it: it is sent without what is not there
    /// soon, as while the store is away.
    async fn along(&self, entries: impl Iterator<Item = &EntryRow>) -> Vec<Chunk> {
        let mut contents: Vec<Chunk> = Vec::new();
        let by = Instant::now() + PROMPT;
        for (old, new) in entries.filter_map(|entry| entry.change) {
            let change = self.service.fetcher.change(old, new);
            let Ok(Some(chunks)) = tokio::time::timeout_at(by, change).await else {
                continue;
            };
            let is_new = |chunk: &&Chunk| contents.iter().all(|one| one.digest != chunk.digest);
            let fresh: Vec<Chunk> = chunks.iter().filter(is_new).cloned().collect();
            contents.extend(fresh);
        }
        contents
    }

    /// An agent would end the stream over it, and come back for the same. It is tried again with the next publication.
    fn too_large(&mut self, head: Head, bytes: usize, entries: &[EntryRow]) {
        let mut largest: Vec<&EntryRow> = entries.iter().collect();
        largest.sort_by_key(|entry| std::cmp::Reverse(entry.bytes.len()));
        let name = |entry: &&EntryRow| match Entry::from_bytes(&entry.bytes) {
            Ok(read) => read.app.to_string(),
            Err(_) => entry.unit.to_string(),
        };
        let names: Vec<String> = largest.iter().take(LARGEST).map(name).collect();
        let (limit, names) = (DESIRED_BYTES >> 20, names.join(", "));
        warn!(
            bytes,
            largest = names,
            "what this cluster is to be offered is more than {limit} MiB; nothing is sent"
        );
        // What is kept of each unit is the same with each publication, whichever entries were read for it.
        let why = format!(
            "what this cluster is to be offered at once is more than {limit} MiB, which its agent does not take: give \
             it less by inline variables, or fewer apps"
        );
        let text = format!(
            "generation {}, {} MiB, the largest are {names}: {why}",
            head.generation,
            bytes >> 20
        );
        self.tell_refusal("StateTooLarge", why, (head.generation, text));
    }

    /// Hands on what the agent accepted, and what of it not. Returns whether that is so much that the store is to take it
    /// before more is heard.
    fn accepted(&mut self, ack: &Ack) -> bool {
        for unit in &ack.units {
            let Ok(id) = Uuid::from_slice(&unit.unit_id) else {
                continue;
            };
            if unit.accepted {
                self.problems.remove(&id);
            } else if self.problems.len() < PROBLEMS || self.problems.contains_key(&id) {
                let problem = format!("{}: {}", text(unit.reason.clone(), WORD_BYTES), unit.message);
                self.problems.insert(id, text(problem, MESSAGE_BYTES / NAMED));
            }
        }
        // What it takes ends a refusal of that, or of what was sent before.
        if !self.ahead && ack.incarnation == self.sent.incarnation {
            let takes_later =
                |refused: u64| refused < self.sent.generation && ack.units.iter().any(|unit| unit.accepted);
            self.refusal
                .take_if(|(refused, _)| *refused <= ack.generation || takes_later(*refused));
        }
        let whole = self.refusal.iter().map(|(_, text)| text.as_str());
        let problems = self.problems.values().take(NAMED).map(String::as_str);
        let named: Vec<&str> = whole.chain(problems).collect();
        let told = (ack.incarnation, ack.generation, named.join("; "));
        if ack.units.is_empty() && self.last_told == told {
            return false;
        }
        self.last_told.clone_from(&told);
        self.service.ingest.tell(Told {
            // Its generation is not one of this store's.
            accepted: (!self.ahead).then_some((ack.incarnation, ack.generation)),
            units: ack.units.iter().filter_map(answer).collect(),
            ..self.told(told.2)
        })
    }

    /// Hands on why the agent takes nothing that it does not hold: what is said of each of its units, and what of the
    /// generation that it refused.
    fn tell_refusal(&mut self, reason: &str, why: String, whole: (u64, String)) {
        let message = whole.1.clone();
        self.last_told.2.clone_from(&message);
        self.refusal = Some(whole);
        let refusal = Some(Refusal {
            reason: reason.to_owned(),
            message: why,
        });
        self.service.ingest.tell(Told {
            refusal,
            ..self.told(message)
        });
    }

    /// What is to be kept of what the agent says of its desired state. The stream does not wait for the store.
    fn told(&self, message: String) -> Told {
        Told {
            cluster: self.cluster,
            epoch: self.epoch,
            accepted: None,
            units: BTreeMap::new(),
            refusal: None,
            message,
        }
    }

    /// Records why; tells whether the whole state is to be sent.
    fn refused(&mut self, refused: Refused) -> bool {
        let reason = refused.reason();
        let said = text(refused.message, MESSAGE_BYTES);
        warn!(
            reason = reason.as_str_name(),
            message = said,
            "the agent refused a generation"
        );
        let lacks_base = matches!(reason, RefusedReason::BaseUnknown | RefusedReason::RootMismatch);
        if lacks_base && self.sent.is_sent_again(self.sent_whole) {
            self.sent = Held::NOTHING;
            return true;
        }
        let text = format!("refused generation {}: {said}", refused.generation);
        let why = of_units(reason).map_or(said, ToOwned::to_owned);
        self.tell_refusal(reason_of(reason), why, (refused.generation, text));
        false
    }

    fn commit(&self, report: Report) -> BoxFuture<'static, Option<ReportAck>> {
        let seq = report.seq;
        let read = rows(self.cluster, self.epoch, report, OffsetDateTime::now_utc());
        let left_out = read.left_out;
        if !left_out.is_empty() {
            warn!(report = seq, left_out, "some of an agent's report is left out");
        }
        let committed = self.service.ingest.submit(read.report);
        let (store, cluster) = (self.service.store.clone(), self.cluster);
        async move {
            let left_out = match committed.await {
                Outcome::Committed => left_out,
                Outcome::Refused(why) => why,
                Outcome::Replaced | Outcome::Unavailable => return None,
            };
            if !left_out.is_empty() {
                let condition = ConditionRow {
                    kind: "Reports",
                    ok: false,
                    message: format!("the hub left out some of what the agent reported: {left_out}"),
                    since: OffsetDateTime::now_utc(),
                };
                if let Err(error) = store.judge_cluster(cluster, &[condition]).await {
                    warn!(%error, "that some of a report is left out is not recorded");
                }
            }
            Some(ReportAck { seq, left_out })
        }
        .boxed()
    }
}

/// The condition reason of units that an offer which is refused whole leaves as they were.
fn reason_of(reason: RefusedReason) -> &'static str {
    match reason {
        RefusedReason::Stale => "Stale",
        RefusedReason::Conflict => "Conflict",
        RefusedReason::UnitMissing => "UnitMissing",
        RefusedReason::RootMismatch => "RootMismatch",
        RefusedReason::BaseUnknown => "BaseUnknown",
        RefusedReason::LedgerFull => "LedgerFull",
        RefusedReason::LedgerUnwritable => "LedgerUnwritable",
        RefusedReason::Unspecified => "OfferRefused",
    }
}

/// What is said of units instead of the agent's own words, where these hold numbers that each publication changes: all of
/// a cluster's units would be written again with each.
fn of_units(reason: RefusedReason) -> Option<&'static str> {
    match reason {
        RefusedReason::Stale => Some("the agent holds a later state than it was offered"),
        RefusedReason::Conflict => Some("the agent has accepted another state under the same number"),
        RefusedReason::BaseUnknown => {
            Some("the agent does not hold the state that it was offered changes of")
        }
        _ => None,
    }
}

/// What an agent says of a unit's entry. One of an older release does not say of which: what it refuses stands in its
/// session alone.
fn answer(unit: &UnitAcceptance) -> Option<(Uuid, Answer)> {
    let entry = Digest::try_from_slice(&unit.entry).ok();
    let answer = if unit.accepted {
        let held = unit.held.as_ref()?;
        let held = Attained {
            version: held.version,
            target: Digest::try_from_slice(&held.target).ok()?,
        };
        Answer::Accepted { entry, held }
    } else {
        Answer::Refused {
            entry: entry?,
            reason: text(unit.reason.clone(), WORD_BYTES),
            message: text(unit.message.clone(), MESSAGE_BYTES),
        }
    };
    Some((Uuid::from_slice(&unit.unit_id).ok()?, answer))
}

/// Marks a stream closed, for as long as the database takes to come back.
pub(super) async fn close(closings: Together<(Uuid, u64), ()>, cluster: Uuid, epoch: u64) {
    while let Err(error) = closings.ask((cluster, epoch)).await {
        if !matches!(error, StoreError::Unavailable(_)) {
            warn!(%error, "closing the session failed; it shows as connected until the agent returns");
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The clusters that a hub has when it comes back: all with the same number of their stream.
    #[test]
    fn streams_that_begin_together_end_spread_over_half_an_hour() {
        let of = |epoch| (0..10_000).map(move |n| age(Uuid::from_u128(n), epoch).as_millis());
        let minute = 60 * 1000;
        let mut within_ten_seconds: BTreeMap<u128, u32> = BTreeMap::new();
        for ends in of(2) {
            assert!((45 * minute..75 * minute).contains(&ends), "{ends}");
            *within_ten_seconds.entry(ends / 10_000).or_default() += 1;
        }
        // 56 on average.
        assert!(
            within_ten_seconds.values().all(|count| *count < 112),
            "{within_ten_seconds:?}"
        );
        // Who ended together once does not do so each time.
        let near = |(one, other): (u128, u128)| one.abs_diff(other) < 10_000;
        assert!(of(2).zip(of(3)).filter(|pair| near(*pair)).count() < 300);
    }
}
