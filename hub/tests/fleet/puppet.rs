//! An agent that does at once what it is told, or fails as a test says: its stream is real, its cluster is not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use flotilla_core::unit::Entry;
use flotilla_proto::agent::v1::{
    Ack, AgentMessage, Attained, Readiness, Refused, RefusedReason, UnitAcceptance, UnitStatus,
    agent_message, hub_message,
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    agent_stream::{Stream, accept, hello},
    hub::{Agent, Hub},
};

/// What it says of what it is given; `None`: that it is applied.
pub(crate) type Failing = Arc<Mutex<Option<&'static str>>>;

/// A connected agent; its stream ends with its drop.
pub(crate) struct Puppet {
    pub(crate) failing: Failing,
    /// Name of the app whose entries it has no room for.
    pub(crate) refusing: Failing,
    /// Why it takes no offer at all.
    pub(crate) rejecting: Failing,
    task: JoinHandle<()>,
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Puppet {
    /// Enrols a cluster of this name and connects its agent.
    pub(crate) async fn join(hub: &Hub, name: &str) -> Self {
        Self::connect(hub, &hub.enrol(name).await).await
    }

    pub(crate) async fn connect(hub: &Hub, agent: &Agent) -> Self {
        let stream = Stream::open(hub, agent, hello(agent)).await.expect("open");
        let [failing, refusing, rejecting] = std::array::from_fn(|_| Failing::default());
        let says = [failing.clone(), refusing.clone(), rejecting.clone()];
        Self {
            failing,
            refusing,
            rejecting,
            task: tokio::spawn(obey(stream, says)),
        }
    }
}

async fn obey(mut stream: Stream, [failing, refusing, rejecting]: [Failing; 3]) {
    let mut taken = None;
    let (mut held, mut applied, mut seq, mut whole) = (BTreeMap::new(), BTreeMap::new(), 0, 0);
    while let Ok(message) = stream.next().await {
        let hub_message::Kind::Desired(desired) = message else {
            continue;
        };
        let rejected = *rejecting.lock().expect("not poisoned");
        let rejected = rejected.map(|why| (RefusedReason::UnitMissing, why));
        let is_base = desired.base_generation.is_none() || desired.base_generation == taken;
        if let Some((reason, why)) = rejected.or((!is_base).then_some((RefusedReason::BaseUnknown, ""))) {
            let refused = Refused {
                incarnation: desired.incarnation,
                generation: desired.generation,
                reason: reason.into(),
                message: why.into(),
            };
            let refused = AgentMessage {
                kind: Some(agent_message::Kind::Refused(refused)),
            };
            if stream.to_hub.send(refused).await.is_err() {
                return;
            }
            continue;
        }
        taken = Some(desired.generation);
        accept(&mut held, &desired);
        let refused = *refusing.lock().expect("not poisoned");
        let is_refused = |entry: &Entry| refused == Some(entry.app.name.as_str());
        if !held.values().any(is_refused) {
            whole = desired.generation;
        }
        let answer = |entry: &Entry| match is_refused(entry) {
            true => UnitAcceptance {
                accepted: false,
                reason: "LedgerFull".into(),
                message: "ledger of 900 bytes exceeds the 800 that its storage takes; give it a volume"
                    .into(),
                held: None,
                ..accepted(entry)
            },
            false => accepted(entry),
        };
        let ack = Ack {
            incarnation: desired.incarnation,
            generation: whole,
            units: held.values().map(answer).collect(),
        };
        let ack = AgentMessage {
            kind: Some(agent_message::Kind::Ack(ack)),
        };
        if stream.to_hub.send(ack).await.is_err() {
            return;
        }
        let fails = *failing.lock().expect("not poisoned");
        seq += 1;
        let taken = held.values().filter(|entry| !is_refused(entry));
        let units = taken.map(|entry| status(entry, fails, &mut applied));
        let units = units.collect();
        stream.report(seq, units).await;
    }
}

fn accepted(entry: &Entry) -> UnitAcceptance {
    UnitAcceptance {
        unit_id: entry.unit.0.as_bytes().to_vec().into(),
        entry: Entry::digest_of(&entry.to_bytes()).as_bytes().to_vec().into(),
        accepted: true,
        held: Some(attained(entry)),
        ..UnitAcceptance::default()
    }
}

fn attained(entry: &Entry) -> Attained {
    Attained {
        version: entry.version,
        target: entry.target.as_bytes().to_vec().into(),
    }
}

fn status(entry: &Entry, fails: Option<&str>, applied: &mut BTreeMap<Uuid, Attained>) -> UnitStatus {
    let target = attained(entry);
    if fails.is_none() {
        applied.insert(entry.unit.0, target.clone());
    }
    let (ready, reason) = match fails {
        None => (Readiness::True, "ReconciliationSucceeded"),
        Some(_) => (Readiness::False, "ReconciliationFailed"),
    };
    UnitStatus {
        unit_id: entry.unit.0.as_bytes().to_vec().into(),
        held_version: entry.version,
        attempted: Some(target),
        applied: applied.get(&entry.unit.0).cloned(),
        ready: ready.into(),
        reason: reason.into(),
        message: fails.unwrap_or("applied").into(),
        observed_at_ms: 1,
        ..UnitStatus::default()
    }
}
