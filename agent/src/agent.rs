//! Puts the parts together and runs them until told to stop.

use std::{borrow::Cow, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;

use crate::{
    causes::with_causes,
    cluster::{Cluster, ClusterError, limit::Limited},
    health_port,
    ledger::{Ledger, LedgerError, key_value::KeyValue, transfer::moved},
    ledger_watch::LedgerWatch,
    link::{
        Link, LinkError, LinkState, MINUTE,
        accept::Acceptance,
        boot_id,
        channel::HubAddress,
        identity::IdentityCell,
        session::Session,
        system_clock,
        token::JoinToken,
        watchdog::{self, KubeVersion},
    },
    metrics::Metrics,
    reconcile::{Nudge, Reconciler, context::Context},
    report::Reports,
};

/// Key of the ledger's head; segments are numbered after it.
pub const LEDGER: &str = "flotilla-agent-ledger";
/// Key of the identity.
pub const IDENTITY: &str = "flotilla-agent-identity";

/// Longest wait for the last write. With the reconciler's last answers an agent stops within two seconds, whatever does
/// not answer.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// How long an API server that did not answer is left before it is asked again which cluster this is.
const HOME_AGAIN: Duration = Duration::from_secs(1);

/// How often an agent whose state is another cluster's looks whether it has joined as this one.
const JOINED_AGAIN: Duration = Duration::from_secs(5);

/// What an agent runs on.
pub struct Parts {
    /// Durable storage.
    pub key_value: Arc<dyn KeyValue>,
    /// The cluster.
    pub cluster: Arc<dyn Cluster>,
    /// The namespace where the agent is installed.
    pub namespace: String,
    /// The namespaces that the agent may read; empty: the whole cluster.
    pub namespaces: Vec<String>,
    /// The ServiceAccount as which apps act that name none, in their namespaces; empty: they act as the agent.
    pub default_service_account: String,
    /// Where the hub is; without, the ledger is enforced and nothing new comes.
    pub hub: Option<HubAddress>,
    /// Where the join token is; it is read when the agent joins.
    pub token: JoinToken,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub health: Option<SocketAddr>,
}

/// Why an agent could not start or had to exit.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Another agent is at work in this cluster: exit and leave it to that one.
    #[error("another agent writes this agent's state")]
    Duel,
    /// The ledger cannot be read or written.
    #[error("{0}")]
    Ledger(#[source] LedgerError),
    /// The API server does not tell what cluster this is.
    #[error("cluster: {0}")]
    Cluster(#[source] ClusterError),
    /// The health port cannot be opened.
    #[error("health port {0} cannot be opened: {1}")]
    Health(SocketAddr, #[source] std::io::Error),
    /// A part ended without having been told to.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

impl From<LedgerError> for AgentError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Lost => Self::Duel,
            other => Self::Ledger(other),
        }
    }
}

/// Runs an agent until `stop`.
pub async fn run(parts: Parts, stop: CancellationToken) -> Result<(), AgentError> {
    let _guard = stop.clone().drop_guard();
    let (state_tx, state_rx) = crate::link::link_state();
    let (ready_tx, ready_rx) = watch::channel(false);
    let (api_server_tx, api_server_rx) = watchdog::api_server_state();
    let metrics = Arc::new(Metrics::new());
    if let Some(address) = parts.health {
        let listener = health_port::bind(address)
            .await
            .map_err(|e| AgentError::Health(address, e))?;
        let told = health_port::Told {
            ready: ready_rx,
            link: state_rx,
            api_server: api_server_rx,
            metrics: metrics.clone(),
        };
        tokio::spawn(health_port::serve(listener, told, stop.clone()));
    }
    let opened = tokio::select! {
        // Storage may be silent for as long as an API server is.
        () = stop.cancelled() => return Ok(()),
        opened = Ledger::open(parts.key_value.clone(), LEDGER) => opened,
    };
    let ledger = Arc::new(opened?);
    let storage = parts.key_value.clone();
    // Past the limits: what waits in a queue of ours says nothing about the server.
    let kube_version = KubeVersion::default();
    let probe = watchdog::probe(parts.cluster.clone(), kube_version.clone());
    let cluster: Arc<dyn Cluster> = Arc::new(Limited::new(parts.cluster));
    let (reports, nudge) = (Arc::new(Reports::default()), Arc::new(Nudge::default()));
    // The state that was accepted is enforced before anybody is asked for news.
    let context = Context::new(ledger.clone(), cluster.clone(), reports.clone(), system_clock())
        .within(parts.namespaces)
        .acting_by_default_as(parts.default_service_account)
        .measured_by(metrics.clone())
        .installed_in(&parts.namespace);
    let reconciler = Reconciler::new(Arc::new(context), nudge.clone());
    let mut reconciling = tokio::spawn(enforce(reconciler, ledger.clone(), cluster.clone(), stop.clone()));
    ready_tx.send_replace(true);
    tokio::spawn(watchdog::run(
        probe,
        reports.clone(),
        api_server_tx,
        system_clock(),
        stop.clone(),
    ));
    let watch = Arc::new(LedgerWatch::new(reports.clone(), system_clock()));
    let mut lost = pin!(watch.follow(ledger.subscribe(), &metrics));
    let last = ledger.clone();
    let boot_id = boot_id();
    let mut linking: JoinHandle<Result<(), AgentError>> = match parts.hub {
        None => tokio::spawn(idle(stop.clone())),
        Some(hub) => {
            let (key_value, token, stop) = (parts.key_value, parts.token, stop.clone());
            let ledger_watch = watch.clone();
            tokio::spawn(async move {
                let Some((cluster_uid, version)) = who(cluster.as_ref(), &stop).await else {
                    return Ok(());
                };
                kube_version.set(&version);
                // Known before the first stream, unless storage is silent: whoever enforces asks as well.
                let _ = tokio::time::timeout(HOME_AGAIN, ledger.is_of(&cluster_uid)).await;
                let session = || Session {
                    acceptance: Acceptance::resume(&ledger),
                    ledger_watch: ledger_watch.clone(),
                    ledger: ledger.clone(),
                    reports: reports.clone(),
                    nudge: nudge.clone(),
                    clock: system_clock(),
                    cluster_uid: cluster_uid.clone(),
                    kube_version: kube_version.clone(),
                    boot_id: boot_id.clone(),
                };
                Box::pin(keep_link(&hub, &token, &key_value, session, &state_tx, &stop)).await
            })
        }
    };
    let ended = tokio::select! {
        ended = &mut reconciling => {
            stop.cancel();
            reconciled(ended).and(linked(linking.await))
        }
        ended = &mut linking => {
            stop.cancel();
            // Whatever ended the link, that another agent is at work is said first.
            reconciled(reconciling.await).and(linked(ended))
        }
        // Found by a write that nobody waits for.
        () = &mut lost => {
            stop.cancel();
            let _ = tokio::join!(reconciling, linking);
            Err(AgentError::Duel)
        }
    };
    let flushed = flush(&last).await;
    match ended.and(flushed) {
        Err(AgentError::Duel) => Err(taken(storage).await),
        ended => ended,
    }
}

/// Says who took the ledger: another agent, or somebody who moved it.
async fn taken(storage: Arc<dyn KeyValue>) -> AgentError {
    match tokio::time::timeout(LAST_WRITE, moved(storage, LEDGER)).await {
        Ok(Some(moved)) => AgentError::Ledger(moved),
        Ok(None) | Err(_) => AgentError::Duel,
    }
}

fn reconciled(ended: Result<Result<(), LedgerError>, JoinError>) -> Result<(), AgentError> {
    match ended {
        Ok(ended) => ended.map_err(AgentError::from),
        Err(_) => Err(AgentError::Ended("reconciler")),
    }
}

fn linked(ended: Result<Result<(), AgentError>, JoinError>) -> Result<(), AgentError> {
    ended.unwrap_or(Err(AgentError::Ended("link")))
}

/// Makes durable what was found out last, so that the next start need not find it out again. Fails when that finds
/// another agent at work: all else is found out again.
async fn flush(ledger: &Ledger) -> Result<(), AgentError> {
    match tokio::time::timeout(LAST_WRITE, ledger.flush()).await {
        Ok(Ok(())) => {}
        Ok(Err(LedgerError::Lost)) => return Err(AgentError::Duel),
        Ok(Err(e)) => tracing::warn!("ledger: {}", with_causes(&e)),
        Err(_) => tracing::warn!("ledger: storage does not answer; the last outcomes are found out again"),
    }
    Ok(())
}

async fn idle(stop: CancellationToken) -> Result<(), AgentError> {
    stop.cancelled().await;
    Ok(())
}

/// Keeps a link to the hub. One whose identity cannot be read or written ends alone and is tried again: what is
/// held is enforced whatever becomes of it.
async fn keep_link(
    hub: &HubAddress,
    token: &JoinToken,
    key_value: &Arc<dyn KeyValue>,
    session: impl Fn() -> Session,
    state: &watch::Sender<LinkState>,
    stop: &CancellationToken,
) -> Result<(), AgentError> {
    loop {
        let opened = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = IdentityCell::open(key_value.clone(), IDENTITY) => opened,
        };
        let ended = match opened {
            Ok(identity) => {
                let mut link = Link {
                    hub: hub.clone(),
                    token: token.clone(),
                    identity,
                    session: session(),
                    state: state.clone(),
                };
                link.run(stop).await
            }
            Err(e) => Err(LinkError::Identity(e)),
        };
        let why = match ended {
            Ok(()) => return Ok(()),
            Err(LinkError::Ledger(e)) => return Err(e.into()),
            Err(LinkError::Identity(e)) => with_causes(&e),
        };
        tracing::error!(
            "no link to the hub: {why}; workloads are kept as they are, trying again in a minute"
        );
        state.send_replace(LinkState::Broken(why));
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(MINUTE) => {}
        }
    }
}

/// Asks the API server which cluster this is, for as long as it takes: it may be down when the agent starts.
async fn who(cluster: &dyn Cluster, stop: &CancellationToken) -> Option<(String, String)> {
    let mut logged = None;
    loop {
        let asked = tokio::select! {
            () = stop.cancelled() => return None,
            asked = async { Ok::<_, ClusterError>((cluster.uid().await?, cluster.version().await?)) } => asked,
        };
        match asked {
            Ok(who) => return Some(who),
            Err(e) if logged.as_ref() != Some(&e) => {
                tracing::warn!("cannot tell which cluster this is, and so not join the hub: {e}");
                logged = Some(e);
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
    }
}

/// Enforces what the ledger says, unless it is that of another cluster. Where this agent joins here as what it is, its ledger
/// begins anew, and is enforced from then on.
async fn enforce(
    reconciler: Reconciler,
    ledger: Arc<Ledger>,
    cluster: Arc<dyn Cluster>,
    stop: CancellationToken,
) -> Result<(), LedgerError> {
    let elsewhere = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        elsewhere = elsewhere(&ledger, cluster.as_ref()) => elsewhere,
    };
    if let Some(uid) = elsewhere {
        tracing::error!(
            "this agent's state is a copy of another cluster's; nothing of it is enforced here. Let this agent join with a token \
             of its own, or with one of `flotilla cluster token NAME --replace` where the cluster was built anew"
        );
        while !ledger.is_of(&uid).await {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(JOINED_AGAIN) => {}
            }
        }
    }
    reconciler.run(stop).await
}

/// The UID of this cluster where the ledger is that of another. A server that does not say which it is takes no writes either;
/// one that refuses to say has not said that it is another.
async fn elsewhere(ledger: &Ledger, cluster: &dyn Cluster) -> Option<String> {
    let mut is_told = false;
    loop {
        match cluster.uid().await {
            Ok(uid) => return (!ledger.is_of(&uid).await).then_some(uid),
            Err(ClusterError::Rejected { code: 403, .. }) => return None,
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(
                        "which cluster this is is not known yet, and nothing is enforced until it is: {error}"
                    );
                }
                tokio::time::sleep(HOME_AGAIN).await;
            }
        }
    }
}

/// Tells how a link stands, for people.
pub fn link_words(state: &LinkState) -> Cow<'static, str> {
    match state {
        LinkState::Unenrolled => "not enrolled".into(),
        LinkState::Away => "hub is away".into(),
        LinkState::Broken(why) => format!("no link to the hub: {why}").into(),
        LinkState::Connected { .. } => "connected".into(),
    }
}

#[cfg(test)]
mod tests {
    use flotilla_core::{id::UnitId, object::ObjectKey, unit::Entry};
    use serde_json::json;
    use uuid::Uuid;

    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::{
        cluster::fake::{Fake, faults::slow},
        ledger::{
            key_value::{KeyValueError, Limits, Version, Versioned},
            memory::Memory,
            transfer::{Place, transfer},
        },
        sim::{Contents, SimAgent},
    };

    fn hub(endpoint: &str) -> HubAddress {
        HubAddress {
            endpoints: vec![endpoint.to_owned()],
            pins: vec![format!("sha256:{}", "0".repeat(64)).parse().expect("a pin")],
            trust_domain: "fleet.test".to_owned(),
        }
    }

    fn entry(contents: &mut Contents) -> Entry {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}});
        let content = contents.add(&[object]);
        let id = UnitId(Uuid::from_u128(1));
        let entry = json!({
            "unit": id, "version": 1, "content": content, "target": content, "state": {"type": "active"},
            "app": {"uid": id, "kind": "Kustomization", "namespace": "apps", "name": "app"},
            "settings": {"interval": 60000, "retryInterval": 60000, "timeout": 60000},
        });
        serde_json::from_value(entry).expect("an entry")
    }

    fn parts(key_value: Arc<dyn KeyValue>, cluster: Arc<Fake>) -> Parts {
        Parts {
            key_value,
            cluster,
            namespace: "flotilla-system".to_owned(),
            namespaces: Vec::new(),
            default_service_account: String::new(),
            hub: None,
            token: JoinToken::None,
            health: None,
        }
    }

    /// Waits for a state of the cluster, by the paused clock.
    async fn until(what: &str, reached: impl Fn() -> bool) {
        for _ in 0..600 {
            if reached() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("never happened: {what}");
    }

    /// A cluster in which an agent that has ended had applied an object, and its storage.
    async fn applied() -> (Arc<Fake>, Arc<Memory>, ObjectKey) {
        let (cluster, key_value) = (Arc::new(Fake::new()), Arc::new(Memory::default()));
        let mut contents = Contents::default();
        let agent = SimAgent::start(cluster.clone(), key_value.clone())
            .await
            .expect("starts");
        let wanted = entry(&mut contents);
        agent.offer(&[wanted], &mut contents).await.expect("accepted");
        let key = ObjectKey::new("", "ConfigMap", "default", "x");
        until("it is applied", || cluster.object(&key).is_some()).await;
        drop(agent);
        (cluster, key_value, key)
    }

    #[tokio::test(start_paused = true)]
    async fn an_identity_that_is_not_readable_ends_the_link_and_not_the_enforcement() {
        let (cluster, key_value, key) = applied().await;
        key_value
            .put(IDENTITY, b"no identity", None)
            .await
            .expect("stored");
        let stop = CancellationToken::new();
        let parts = Parts {
            hub: Some(hub("https://127.0.0.1:1")),
            ..parts(key_value.clone(), cluster.clone())
        };
        let running = tokio::spawn(run(parts, stop.clone()));
        tokio::time::sleep(Duration::from_secs(300)).await;
        cluster.delete(&key);
        until("it is put back", || cluster.object(&key).is_some()).await;
        assert!(!running.is_finished());
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(2), running).await;
        assert!(matches!(ended, Ok(Ok(Ok(())))), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn agent_whose_ledger_another_writes_exits_and_writes_nothing_more() {
        let (cluster, key_value, key) = applied().await;
        let parts = parts(key_value.clone(), cluster.clone());
        let running = tokio::spawn(run(parts, CancellationToken::new()));
        tokio::time::sleep(Duration::from_secs(300)).await;
        let other = Ledger::open(key_value, LEDGER).await.expect("opens");
        let held = other.read(|state| state.accepted);
        other
            .append(vec![crate::ledger::record::Record::Accepted(held)])
            .await
            .expect("stored");
        cluster.delete(&key);
        until("it exits", || running.is_finished()).await;
        let ended = running.await.expect("no panic");
        assert!(matches!(ended, Err(AgentError::Duel)), "{ended:?}");
        assert!(cluster.object(&key).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn agent_whose_ledger_is_moved_under_it_ends_and_says_where_it_went() {
        let (cluster, key_value, key) = applied().await;
        let running = tokio::spawn(run(
            parts(key_value.clone(), cluster.clone()),
            CancellationToken::new(),
        ));
        tokio::time::sleep(Duration::from_secs(300)).await;
        let place = |name: &str, key_value: Arc<dyn KeyValue>| Place {
            key_value,
            name: name.to_owned(),
        };
        let from = place("Secrets", key_value);
        let to = place("directory /state", Arc::new(Memory::default()));
        transfer(&from, &to, LEDGER, IDENTITY).await.expect("moves");
        cluster.delete(&key);
        until("it ends", || running.is_finished()).await;
        let ended = running.await.expect("no panic");
        assert!(
            matches!(&ended, Err(AgentError::Ledger(LedgerError::Moved { to })) if to == "directory /state"),
            "{ended:?}"
        );
        assert!(cluster.object(&key).is_none());
    }

    /// Storage that stops answering.
    #[derive(Clone)]
    struct Freezing {
        key_value: Memory,
        frozen: Arc<AtomicBool>,
    }

    impl Freezing {
        async fn answers(&self) {
            if self.frozen.load(Ordering::Relaxed) {
                std::future::pending().await
            }
        }
    }

    #[async_trait]
    impl KeyValue for Freezing {
        async fn get(&self, name: &str) -> Result<Option<Versioned>, KeyValueError> {
            self.answers().await;
            self.key_value.get(name).await
        }

        async fn put(
            &self,
            name: &str,
            bytes: &[u8],
            expected: Option<&Version>,
        ) -> Result<Version, KeyValueError> {
            self.answers().await;
            self.key_value.put(name, bytes, expected).await
        }

        fn limits(&self) -> Limits {
            self.key_value.limits()
        }
    }

    /// An agent that waits for the API server's answer to its first write, and its key.
    async fn writing(key_value: Arc<dyn KeyValue>) -> (Arc<Fake>, ObjectKey, CancellationToken, Running) {
        let cluster = Arc::new(Fake::new());
        let mut contents = Contents::default();
        let wait = Duration::from_millis(500);
        cluster.set_latency(Some(slow("ConfigMap", wait)));
        let agent = SimAgent::start(cluster.clone(), key_value.clone())
            .await
            .expect("starts");
        let wanted = entry(&mut contents);
        agent.offer(&[wanted], &mut contents).await.expect("accepted");
        drop(agent);
        cluster.take_requests();
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(parts(key_value, cluster.clone()), stop.clone()));
        while !cluster.take_requests().contains_key("apply") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (
            cluster,
            ObjectKey::new("", "ConfigMap", "default", "x"),
            stop,
            running,
        )
    }

    type Running = JoinHandle<Result<(), AgentError>>;

    async fn ends_within_two_seconds(running: Running) {
        let ended = tokio::time::timeout(Duration::from_secs(2), running).await;
        assert!(matches!(ended, Ok(Ok(Ok(())))), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn told_to_stop_what_is_under_way_ends_and_is_durable() {
        let key_value: Arc<dyn KeyValue> = Arc::new(Memory::default());
        let (cluster, key, stop, running) = writing(key_value.clone()).await;
        stop.cancel();
        ends_within_two_seconds(running).await;
        let uid = cluster.object(&key).expect("it was written")["metadata"]["uid"].clone();
        let ledger = Ledger::open(key_value, LEDGER).await.expect("opens");
        let record = ledger.read(|state| {
            state
                .units
                .values()
                .find_map(|unit| unit.items.get(&key).cloned())
        });
        let record = record.expect("it is known");
        assert_eq!(record.state, flotilla_core::apply::inventory::State::Applied);
        assert_eq!(
            record
                .uid
                .as_ref()
                .map(|known| known.is(uid.as_str().unwrap_or_default())),
            Some(true)
        );
    }

    /// B.4 R9, of the ledger; with a real one also in the named tests.
    #[tokio::test(start_paused = true)]
    async fn r09_state_that_was_copied_to_another_cluster_is_not_enforced_there() {
        let key_value: Arc<dyn KeyValue> = Arc::new(Memory::default());
        let (cluster, key, stop, running) = writing(key_value.clone()).await;
        until("it is written", || cluster.object(&key).is_some()).await;
        stop.cancel();
        ends_within_two_seconds(running).await;
        for (elsewhere, is_enforced) in [(Arc::new(Fake::new()), false), (cluster, true)] {
            elsewhere.delete(&key);
            let stop = CancellationToken::new();
            let running = tokio::spawn(run(parts(key_value.clone(), elsewhere.clone()), stop.clone()));
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert_eq!(elsewhere.object(&key).is_some(), is_enforced);
            assert_eq!(elsewhere.take_requests().contains_key("apply"), is_enforced);
            stop.cancel();
            ends_within_two_seconds(running).await;
        }
    }

    /// As after an upgrade from a release whose ledgers name no cluster.
    #[tokio::test(start_paused = true)]
    async fn r09_state_of_a_settled_agent_is_bound_to_its_cluster_before_anything_is_written() {
        let (cluster, key_value, key) = applied().await;
        let lives = async |cluster: &Arc<Fake>| {
            let before = key_value.writes();
            let stop = CancellationToken::new();
            let running = tokio::spawn(run(parts(key_value.clone(), cluster.clone()), stop.clone()));
            tokio::time::sleep(Duration::from_secs(600)).await;
            stop.cancel();
            ends_within_two_seconds(running).await;
            key_value.writes() - before
        };
        cluster.set_fault(Some(Box::new(|verb, _| {
            (verb == "uid").then(|| ClusterError::Rejected {
                code: 403,
                reason: "Forbidden".to_owned(),
                message: String::new(),
            })
        })));
        lives(&cluster).await;
        assert_eq!(lives(&cluster).await, 0, "it is settled");
        cluster.set_fault(None);
        assert_eq!(lives(&cluster).await, 1, "it learns which cluster this is");
        let elsewhere = Arc::new(Fake::new());
        lives(&elsewhere).await;
        assert!(elsewhere.object(&key).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn told_to_stop_and_finding_another_at_work_it_says_so() {
        let key_value: Arc<dyn KeyValue> = Arc::new(Memory::default());
        let (_, _, stop, running) = writing(key_value.clone()).await;
        let other = Ledger::open(key_value, LEDGER).await.expect("opens");
        let held = other.read(|state| state.accepted);
        other
            .append(vec![crate::ledger::record::Record::Accepted(held)])
            .await
            .expect("stored");
        // The last answer comes after that, and with it the write that finds out.
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(2), running).await;
        assert!(matches!(ended, Ok(Ok(Err(AgentError::Duel)))), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn told_to_stop_before_a_silent_api_server_the_agent_ends_all_the_same() {
        let key_value = Freezing {
            key_value: Memory::default(),
            frozen: Arc::default(),
        };
        let (cluster, _, stop, running) = writing(Arc::new(key_value.clone())).await;
        cluster.set_latency(Some(slow("ConfigMap", Duration::from_secs(3600))));
        key_value.frozen.store(true, Ordering::Relaxed);
        stop.cancel();
        ends_within_two_seconds(running).await;
        // Also while it starts.
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(parts(Arc::new(key_value), cluster), stop.clone()));
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(!running.is_finished());
        stop.cancel();
        ends_within_two_seconds(running).await;
    }

    #[tokio::test]
    async fn told_to_stop_the_link_stops_though_the_hub_never_answers() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let endpoint = format!("https://{}", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let parts = Parts {
            hub: Some(hub(&endpoint)),
            token: JoinToken::Value("token".to_owned()),
            ..parts(Arc::new(Memory::default()), Arc::new(Fake::new()))
        };
        let running = tokio::spawn(run(parts, stop.clone()));
        // The agent has dialled, and waits for a handshake that does not come.
        let _connection = listener.accept().await.expect("a connection");
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(2), running).await;
        assert!(matches!(ended, Ok(Ok(Ok(())))), "{ended:?}");
    }
}
