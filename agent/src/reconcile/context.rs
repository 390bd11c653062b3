//! What every job of the reconciler shares, and the small steps they have in common.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use flotilla_core::{
    apply::{drift::observe, protected::Protected},
    clock::{Clock, Timestamp},
    health,
    id::UnitId,
    object::ObjectKey,
};
use flotilla_proto::agent::v1::Event;
use serde_json::Value;
use tokio::sync::Notify;

use super::{
    evaluate::Environment,
    live::{Live, Seen},
};
use crate::{
    cluster::{Cluster, ClusterError, Discovery},
    ledger::{Ledger, LedgerError, record::Record},
    report::Reports,
};

/// How everything is called that the agent is installed as.
const RELEASE: &str = "flotilla-agent";
/// Where it is installed unless something else is said.
const NAMESPACE: &str = "flotilla-system";
/// Longest text of a server that is repeated.
const MESSAGE_MAX: usize = 1024;

/// What jobs share.
pub struct Context {
    /// Durable memory.
    pub ledger: Arc<Ledger>,
    /// The cluster, with limits.
    pub cluster: Arc<dyn Cluster>,
    /// Rows for the hub.
    pub reports: Arc<Reports>,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// What is known of live objects.
    pub live: Live,
    /// The namespaces that this agent may read; empty: the whole cluster.
    pub namespaces: BTreeSet<String>,
    /// What no unit may write.
    pub protected: Protected,
    /// An inventory has new objects: the loop is to watch their kinds while the job goes on.
    pub intended: Notify,
    discovery: RwLock<Arc<Discovery>>,
}

impl Context {
    /// Makes a context that has discovered nothing yet.
    pub fn new(
        ledger: Arc<Ledger>,
        cluster: Arc<dyn Cluster>,
        reports: Arc<Reports>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            ledger,
            cluster,
            reports,
            clock,
            live: Live::default(),
            namespaces: BTreeSet::new(),
            protected: Protected::new(NAMESPACE, RELEASE),
            intended: Notify::new(),
            discovery: RwLock::default(),
        }
    }

    /// Keeps to these namespaces; none: the whole cluster.
    #[must_use]
    pub fn within(mut self, namespaces: impl IntoIterator<Item = String>) -> Self {
        self.namespaces = namespaces.into_iter().collect();
        self
    }

    /// Protects the agent's own objects in the namespace where it is installed.
    #[must_use]
    pub fn installed_in(mut self, namespace: &str) -> Self {
        self.protected = Protected::new(namespace, RELEASE);
        self
    }

    /// What an evaluation needs besides the ledger's state.
    pub fn environment(&self) -> Environment {
        Environment {
            discovery: self.discovery(),
            known: Arc::default(),
            protected: self.protected.clone(),
            key: *self.ledger.key(),
        }
    }

    /// Returns the present time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns what the cluster served when last asked.
    pub fn discovery(&self) -> Arc<Discovery> {
        self.discovery
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the cluster what it serves.
    pub async fn rediscover(&self) -> Result<Arc<Discovery>, ClusterError> {
        let found = Arc::new(self.cluster.discover().await?);
        *self.discovery.write().unwrap_or_else(PoisonError::into_inner) = found.clone();
        Ok(found)
    }

    /// Forgets what the cluster serves: something of it was found to be wrong. The next job asks again.
    pub fn forget_discovery(&self) {
        *self.discovery.write().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }

    /// Makes records durable.
    pub async fn persist(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        self.ledger.append(records).await
    }

    /// Notes what a live object looks like; `None`: it does not exist.
    pub fn note(&self, unit: UnitId, key: &ObjectKey, live: Option<&Value>) -> Seen {
        let seen = match live {
            None => Seen {
                observation: None,
                health: health::Health::not_found(),
            },
            Some(live) => {
                let mut health = health::assess(live, self.now());
                truncate(&mut health.message, 256);
                Seen {
                    observation: Some(observe(live, self.ledger.key())),
                    health,
                }
            }
        };
        self.live.note(unit, key.clone(), seen.clone());
        seen
    }

    /// Tells the hub of something that happened.
    pub fn event(&self, unit: UnitId, key: Option<&ObjectKey>, warning: bool, reason: &str, message: String) {
        tracing::info!(unit = %unit, object = key.map(ToString::to_string), reason, "{message}");
        self.reports.event(Event {
            unit_id: unit.to_vec().into(),
            key: key.map(wire_key),
            warning,
            reason: reason.to_owned(),
            message,
            at_ms: self.now().0,
        });
    }
}

/// A key on the wire.
pub fn wire_key(key: &ObjectKey) -> flotilla_proto::agent::v1::ObjectKey {
    flotilla_proto::agent::v1::ObjectKey {
        group: key.group.clone(),
        kind: key.kind.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

/// What may be shown of an error about an object: an API server that refuses a Secret may quote its values.
pub fn shown(key: &ObjectKey, error: &ClusterError) -> String {
    match error {
        ClusterError::Rejected { code, reason, .. } if key.is_secret() => {
            format!(
                "{key}: the API server refuses it: {code} {reason} (its words are withheld, they may quote values)"
            )
        }
        ClusterError::Unavailable(_) if key.is_secret() => format!("{key}: the API server does not answer"),
        other => {
            let mut text = format!("{key}: {other}");
            truncate(&mut text, MESSAGE_MAX);
            text
        }
    }
}

/// Writes an error with its causes.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let causes = std::iter::successors(error.source(), |error| error.source());
    for cause in causes {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    truncate(&mut text, MESSAGE_MAX);
    text
}

/// Cuts a text at a character boundary.
pub fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}
