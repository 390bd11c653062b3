//! What every job of the reconciler shares, and [`UnitContext`], the only way to the cluster for the jobs of a unit.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use flotilla_core::{
    apply::{ignore::Rules, ownership::holds_on, protected::Protected},
    clock::{Clock, Timestamp},
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
    unit::{
        Entry,
        event::Notice,
        now::{Mono, Now},
        object::Observed,
    },
};
use flotilla_proto::agent::v1::Event;
use flotilla_sops::Transport;
use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

use super::{
    acting::Acting,
    evaluate::Environment,
    judges::Judges,
    keyrings::{Keyring, Keyrings},
    lately::Lately,
    left::LeftFields,
    message::wire_key,
    observe::observe,
    presence::{Presence, Presences},
    sightings::Sightings,
    window::Windows,
};
use crate::{
    causes::with_causes,
    cluster::{Account, Cluster, ClusterError, Discovery},
    key_services::KeyServices,
    ledger::{
        self, Ledger, LedgerError,
        record::{Accepted, Record},
        state::Unit,
    },
    metrics::Metrics,
    random::random,
    report::Reports,
};

/// What the cluster serves is asked again before a job uses an answer older than this.
const DISCOVERY_AGE: Duration = Duration::from_secs(600);
/// A kind that is not served is a reason to ask again, at most this often.
const DISCOVERY_PAUSE: Duration = Duration::from_secs(10);

/// A ledger that was this agent's alone so long ago is looked at again before a write.
const SOLE_WRITER_AGE: Duration = Duration::from_secs(30);

/// Objects that are named of those that nobody will remove.
const UNPROVEN_NAMED: usize = 5;

/// How everything is called that the agent is installed as.
const RELEASE: &str = "flotilla-agent";
/// Where it is installed unless something else is said.
const NAMESPACE: &str = "flotilla-system";

/// How often things happened, for tests of what happens when nothing should.
#[derive(Debug, Default)]
pub struct Counters {
    /// Turns of the reconciler's loop.
    pub wakes: AtomicU64,
    /// Jobs begun.
    pub jobs: AtomicU64,
    /// Steps of units' state machines.
    pub steps: AtomicU64,
    /// Objects evaluated to know what is desired of them.
    pub evaluated: AtomicU64,
    /// Jobs that had to make the bodies of their objects, which no evaluation had made lately.
    pub remade: AtomicU64,
    /// How often it was found out what of a unit's objects no watch shows.
    pub notes: AtomicU64,
}

/// Names a desired state: incarnation, generation and root.
pub(super) type DesiredState = (u64, u64, Option<Digest>);

/// The name of the desired state that is accepted.
pub(super) fn desired_state(accepted: &Accepted) -> DesiredState {
    (accepted.incarnation, accepted.generation, accepted.root)
}

/// Tells whether the entries that are here are those of the desired state that is accepted: it is taken in unit by unit,
/// and one whose content cannot be had keeps the entry before. What that unit is to desire is not known then.
pub(super) fn is_whole(state: &ledger::state::State) -> bool {
    state.accepted.root == Some(state.root())
}

#[derive(Default)]
struct Discovered {
    found: Arc<Discovery>,
    /// When that was asked.
    at: Option<Instant>,
    /// How often answers have become old at once.
    expiries: u64,
}

/// What jobs share.
pub struct Context {
    /// Durable memory.
    pub ledger: Arc<Ledger>,
    /// The cluster, with limits.
    cluster: Arc<dyn Cluster>,
    /// Rows for the hub.
    pub reports: Arc<Reports>,
    /// Wall time.
    clock: Arc<dyn Clock>,
    begun: Instant,
    /// The namespaces that this agent may read; empty: the whole cluster.
    pub namespaces: Arc<BTreeSet<String>>,
    /// The ServiceAccount as which a unit acts that names none, in the namespace of its app; empty: the agent itself.
    default_account: String,
    /// An inventory has new objects: the loop is to watch their kinds while the job goes on.
    pub intended: Notify,
    /// What happened how often.
    pub counters: Arc<Counters>,
    /// The agent's figures.
    pub metrics: Arc<Metrics>,
    /// What lists have shown each account, as long as jobs go on.
    pub(super) presences: Presences,
    /// Which fields units leave to others.
    pub(super) left: LeftFields,
    /// What evaluations have made, as long as jobs go on.
    pub(super) lately: Lately,
    /// Keys that were read from Secrets of the cluster.
    pub(super) keyrings: Keyrings,
    /// What carries questions to services that have keys.
    pub(super) transport: Arc<dyn Transport>,
    /// What watches have shown of drifted objects, until they are checked.
    pub(super) sightings: Sightings,
    /// How many writes units whose passes go on have at once.
    pub(super) windows: Windows,
    /// How units judge kinds that say their health in their own way.
    pub(super) judges: Judges,
    /// What no unit may write.
    pub(super) protected: Protected,
    /// The desired state that all units have been told of: nothing is deleted while a newer one is accepted.
    told: RwLock<DesiredState>,
    discovery: RwLock<Discovered>,
    /// Held by whoever asks what is served: those who want to know meanwhile wait for the same answer. The last try that
    /// failed, when it began and why.
    discovering: tokio::sync::Mutex<Option<(Instant, ClusterError)>>,
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
            begun: Instant::now(),
            namespaces: Arc::default(),
            default_account: String::new(),
            intended: Notify::new(),
            counters: Arc::default(),
            metrics: Arc::default(),
            discovering: tokio::sync::Mutex::default(),
            presences: Presences::default(),
            left: LeftFields::default(),
            lately: Lately::default(),
            keyrings: Keyrings::default(),
            transport: Arc::new(KeyServices::default()),
            sightings: Sightings::default(),
            windows: Windows::default(),
            judges: Judges::default(),
            protected: Protected::new(NAMESPACE, RELEASE),
            discovery: RwLock::default(),
            told: RwLock::default(),
        }
    }

    /// Bytes of objects that watches have shown and no check has taken.
    #[cfg(any(test, feature = "testing"))]
    pub fn bytes_sighted(&self) -> usize {
        self.sightings.bytes()
    }

    /// Keeps to these namespaces; none: the whole cluster.
    #[must_use]
    pub fn within(mut self, namespaces: impl IntoIterator<Item = String>) -> Self {
        self.namespaces = Arc::new(namespaces.into_iter().collect());
        self
    }

    /// Lets units that name no ServiceAccount act as the one of this name in the namespace of their app; empty: as the agent
    /// itself.
    #[must_use]
    pub fn acting_by_default_as(mut self, account: String) -> Self {
        self.default_account = account;
        self
    }

    /// Asks services that have keys by this.
    #[must_use]
    pub fn asking_by(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = transport;
        self
    }

    /// Counts in these figures.
    #[must_use]
    pub fn measured_by(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Protects the agent's own objects in the namespace where it is installed.
    #[must_use]
    pub fn installed_in(mut self, namespace: &str) -> Self {
        self.protected = Protected::new(namespace, RELEASE);
        self
    }

    /// What an evaluation needs besides the ledger's state.
    pub fn environment(&self, discovery: Arc<Discovery>, keyring: Option<Keyring>) -> Environment {
        Environment {
            discovery,
            keyring,
            known: self.ledger.read(|state| state.kinds.clone()),
            protected: self.protected.clone(),
            namespaces: self.namespaces.clone(),
            key: *self.ledger.key(),
        }
    }

    /// Who acts for an entry.
    pub(super) fn acting(&self, entry: &Entry) -> Acting {
        Acting::of(entry, &self.default_account, &self.namespaces)
    }

    /// The cluster as an account.
    pub(super) fn cluster_of(&self, account: &Account) -> Arc<dyn Cluster> {
        self.cluster.acting_as(account)
    }

    /// The cluster as the agent itself: for watches, lists and discovery, never for what a unit's job does to objects.
    pub fn agents_cluster(&self) -> &Arc<dyn Cluster> {
        &self.cluster
    }

    /// The present time, by the wall.
    pub fn wall(&self) -> Timestamp {
        self.clock.now()
    }

    /// The present, and random bits.
    pub fn now(&self) -> Now {
        Now {
            mono: Mono(self.begun.elapsed()),
            wall: self.clock.now(),
            random: random(),
        }
    }

    /// The instant of a time of the state machine.
    pub fn instant(&self, at: Mono) -> Instant {
        self.begun + at.0
    }

    /// What the cluster served when last asked.
    pub fn discovery(&self) -> Arc<Discovery> {
        self.read().0
    }

    /// Notes that all units have been told of a desired state, and what each wants of others' objects is known or in doubt.
    pub(super) fn set_told(&self, state: DesiredState) {
        *self.told.write().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Tells whether all of the desired state that is accepted is here, and nothing was accepted since what units have been
    /// told of.
    pub(super) fn is_told_of_all(&self) -> bool {
        let told = *self.told.read().unwrap_or_else(PoisonError::into_inner);
        self.ledger
            .read(|state| told == desired_state(&state.accepted) && is_whole(state))
    }

    /// Tells whether the hub, whose history is accepted, does not name a unit.
    pub(super) fn is_unknown(&self, unit: UnitId) -> bool {
        self.ledger
            .read(|state| state.units.get(&unit).is_some_and(|unit| unit.is_unknown))
    }

    /// Tells whether the cluster was ever asked what it serves.
    pub fn has_discovered(&self) -> bool {
        self.discovery().iter().next().is_some()
    }

    fn read(&self) -> (Arc<Discovery>, Option<Instant>) {
        let discovered = self.discovery.read().unwrap_or_else(PoisonError::into_inner);
        (discovered.found.clone(), discovered.at)
    }

    /// What the cluster serves, asked again when the last answer is old.
    pub async fn discovered(&self) -> Result<Arc<Discovery>, ClusterError> {
        self.discovered_within(DISCOVERY_AGE).await
    }

    /// Asks again what the cluster serves, because something was not in the last answer.
    pub async fn rediscovered(&self) -> Result<Arc<Discovery>, ClusterError> {
        self.discovered_within(DISCOVERY_PAUSE).await
    }

    /// What the cluster serves, for work on objects of these kinds: asked again only when the last answer lacks one of
    /// them, or definitions have changed since.
    pub async fn discovered_for<'a>(
        &self,
        mut keys: impl Iterator<Item = &'a ObjectKey>,
    ) -> Result<Arc<Discovery>, ClusterError> {
        let (found, at) = self.read();
        let is_served = |key: &ObjectKey| found.preferred(&key.group, &key.kind).is_some();
        if at.is_some() && keys.all(is_served) {
            return Ok(found);
        }
        self.discovered().await
    }

    /// Forgets the age of the last answer: definitions have changed. The next job asks again.
    pub fn expire_discovery(&self) {
        let mut discovered = self.discovery.write().unwrap_or_else(PoisonError::into_inner);
        discovered.at = None;
        discovered.expiries += 1;
    }

    fn expiries(&self) -> u64 {
        let discovered = self.discovery.read().unwrap_or_else(PoisonError::into_inner);
        discovered.expiries
    }

    /// Asks what the cluster serves unless the last answer is at most this old. Those who ask at the same time get one
    /// answer, and one failure.
    pub async fn discovered_within(&self, age: Duration) -> Result<Arc<Discovery>, ClusterError> {
        let wanted = Instant::now();
        let (found, at) = self.read();
        if at.is_some_and(|at| at.elapsed() <= age) {
            return Ok(found);
        }
        let mut failed = self.discovering.lock().await;
        let (found, at) = self.read();
        if at.is_some_and(|at| at >= wanted || at.elapsed() <= age) {
            return Ok(found);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at >= wanted) {
            return Err(error.clone());
        }
        let (begun, expiries) = (Instant::now(), self.expiries());
        let found = match self.cluster.discover().await {
            Ok(answer) => Arc::new(answer.after(&found)),
            Err(error) => {
                *failed = Some((begun, error.clone()));
                return Err(error);
            }
        };
        self.remember_kinds(&found);
        let mut discovered = self.discovery.write().unwrap_or_else(PoisonError::into_inner);
        discovered.found = found.clone();
        // Definitions that have changed meanwhile may be lacking.
        discovered.at = (discovered.expiries == expiries).then_some(begun);
        Ok(found)
    }

    /// Keeps which kinds of the inventories live in namespaces: keys must not change while a kind is not served, and
    /// not by a restart then.
    fn remember_kinds(&self, found: &Discovery) {
        let news: Vec<Record> = self.ledger.read(|state| {
            let kinds: BTreeSet<(&str, &str)> = state
                .usage()
                .places()
                .map(|(place, _)| (place.group.as_str(), place.kind.as_str()))
                .collect();
            kinds
                .into_iter()
                .filter_map(|(group, kind)| {
                    let namespaced = found.namespaced(group, kind)?;
                    let known = state.kinds.get(&(group.to_owned(), kind.to_owned()));
                    (known != Some(&namespaced)).then(|| Record::Kind {
                        group: group.to_owned(),
                        kind: kind.to_owned(),
                        namespaced,
                    })
                })
                .collect()
        });
        if let Err(error) = self.ledger.append_later(news) {
            tracing::warn!("ledger: {}", with_causes(&error));
        }
    }

    /// Makes records durable.
    pub async fn persist(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        if records.is_empty() {
            return Ok(());
        }
        self.ledger.append(records).await
    }

    /// Makes outcomes durable in a while. They are known from now on in any case; fails only when another agent writes
    /// the ledger.
    pub fn persist_later(&self, records: Vec<Record>) -> Result<(), LedgerError> {
        match self.ledger.append_later(records) {
            Err(LedgerError::Lost) => Err(LedgerError::Lost),
            Err(error) => {
                tracing::warn!("ledger: {}", with_causes(&error));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Fails when another agent writes the ledger. For before a write in the cluster that no record precedes; asks
    /// storage only when nothing was durable for a while. A storage that does not answer says nothing of others, and
    /// what is known goes on being enforced.
    pub async fn check_sole_writer(&self) -> Result<(), LedgerError> {
        if self.ledger.confirmed().elapsed() < SOLE_WRITER_AGE {
            return Ok(());
        }
        match self.ledger.check_writer().await {
            Err(LedgerError::Lost) => return Err(LedgerError::Lost),
            Err(error) => tracing::warn!("ledger: {}", with_causes(&error)),
            Ok(()) => {}
        }
        Ok(())
    }

    /// Tells the hub of something that happened.
    pub fn tell(&self, unit: UnitId, notice: Notice) {
        let object = notice.key.as_ref().map(ToString::to_string);
        let (app, reason, message) = (self.app(unit), &notice.reason, &notice.message);
        if notice.warning {
            tracing::warn!(app, object, reason, "{message}");
        } else {
            tracing::info!(app, object, reason, "{message}");
        }
        self.reports.event(Event {
            unit_id: unit.to_vec().into(),
            key: notice.key.as_deref().map(wire_key),
            warning: notice.warning,
            reason: notice.reason,
            message: notice.message,
            at_ms: self.wall().0,
        });
    }

    /// Tells the hub of objects that may be there again and that nobody will remove: their units are not held any more.
    pub(super) fn tell_unproven(&self, keys: &[Arc<ObjectKey>]) {
        let mut names: Vec<String> = keys
            .iter()
            .take(UNPROVEN_NAMED)
            .map(ToString::to_string)
            .collect();
        if keys.len() > names.len() {
            names.push(format!("and {} more", keys.len() - names.len()));
        }
        let message = format!(
            "storage was put back to a state in which apps that are here no more had these objects; where they are in the \
             cluster again, nothing removes them: {}",
            names.join(", ")
        );
        tracing::warn!("{message}");
        self.reports.event(Event {
            warning: true,
            reason: "RemovalUnproven".to_owned(),
            message,
            at_ms: self.wall().0,
            ..Event::default()
        });
    }

    /// What people call a unit in this cluster: kind, namespace and name of its app, or the id of one that is gone.
    pub(super) fn app(&self, unit: UnitId) -> String {
        self.ledger.read(|state| {
            let entry = state.units.get(&unit).and_then(Unit::entry);
            entry.map_or_else(|| unit.to_string(), |entry| entry.app.to_string())
        })
    }

    /// Counts a turn of the loop.
    pub(super) fn count_wake(&self) {
        self.counters.wakes.fetch_add(1, Ordering::Relaxed);
    }
}

/// A unit, the entry that a job works on, and the cluster as the identity under which that acts.
#[derive(Clone)]
pub struct UnitContext {
    /// What all jobs share.
    pub context: Arc<Context>,
    /// The unit.
    pub unit: UnitId,
    /// The entry.
    pub entry: Arc<Entry>,
    /// As whom the unit acts.
    pub acting: Acting,
    /// The cluster, asked as that account.
    pub cluster: Arc<dyn Cluster>,
    /// What lists have shown this account.
    pub(super) presence: Arc<Presence>,
    /// Fields that are left to others.
    pub(super) left: Arc<Rules>,
}

impl UnitContext {
    /// The context of a unit's job, all of whose requests are made as the unit's account.
    pub fn new(context: &Arc<Context>, unit: UnitId, entry: Arc<Entry>) -> Self {
        let acting = context.acting(&entry);
        Self {
            context: context.clone(),
            unit,
            cluster: context.cluster_of(acting.account()),
            presence: context.presences.of(acting.account()),
            left: context.left.of(&entry),
            acting,
            entry,
        }
    }

    /// What is kept of a live object: all but what is left to others.
    pub(super) fn observe(&self, live: &Value) -> Observed {
        let judge = self.context.judges.of(self.unit);
        observe(
            live,
            self.context.ledger.key(),
            &self.left.of(live),
            self.context.wall(),
            judge.as_deref(),
        )
    }

    /// Tells whether another unit, by the text of its mark, has an object in its inventory. A mark alone proves
    /// nothing: whoever may label an object could switch its enforcement off. An object that has left that unit's
    /// content goes to the unit that wants it, and so does one that the hub says is another's.
    pub fn is_held_by(&self, mark: &str, key: &ObjectKey) -> bool {
        let Ok(id) = mark.parse() else { return false };
        self.context.ledger.read(|state| {
            let unit = state.units.get(&UnitId(id));
            unit.is_some_and(|unit| {
                let entry = unit.offered.as_ref().and_then(|offered| offered.entry.as_deref());
                let record = unit.items.get(key);
                record.is_some_and(|record| holds_on(record, key, entry))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;

    use super::*;
    use crate::{cluster::fake::Fake, ledger::memory::Memory, link::system_clock};

    async fn context(cluster: &Fake) -> Context {
        let ledger = Ledger::open(Arc::new(Memory::default()), "ledger").await;
        let ledger = Arc::new(ledger.expect("opens"));
        Context::new(ledger, Arc::new(cluster.clone()), Arc::default(), system_clock())
    }

    /// Ten seconds a call.
    fn slow() -> Fake {
        let fake = Fake::new();
        fake.set_latency(Some(Box::new(|_, _: &ObjectKey| Duration::from_secs(10))));
        fake
    }

    fn discoveries(cluster: &Fake) -> u64 {
        cluster
            .take_requests()
            .get("discover")
            .copied()
            .unwrap_or_default()
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_want_to_know_at_once_what_is_served_get_one_answer() {
        let cluster = slow();
        let context = context(&cluster).await;
        let begun = Instant::now();
        let answers = join_all((0..40).map(|_| context.discovered())).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!((discoveries(&cluster), begun.elapsed().as_secs()), (1, 10));
        tokio::time::sleep(DISCOVERY_PAUSE * 2).await;
        join_all((0..40).map(|_| context.rediscovered())).await;
        assert_eq!(discoveries(&cluster), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_want_to_know_at_once_what_is_served_get_one_failure() {
        let cluster = slow();
        let context = context(&cluster).await;
        cluster.set_fault(Some(Box::new(|_, _| {
            Some(ClusterError::Unavailable("away".to_owned()))
        })));
        let begun = Instant::now();
        let answers = join_all((0..40).map(|_| context.discovered())).await;
        assert!(answers.iter().all(Result::is_err));
        assert!(begun.elapsed().as_secs() <= 10, "{:?}", begun.elapsed());
        cluster.set_fault(None);
        assert!(context.discovered().await.is_ok(), "the next one asks again");
    }

    #[tokio::test(start_paused = true)]
    async fn answer_to_a_question_from_before_definitions_changed_is_old_at_once() {
        let cluster = slow();
        let context = context(&cluster).await;
        let asked = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            context.expire_discovery();
        };
        let (answer, ()) = futures::join!(context.discovered(), asked);
        assert!(answer.is_ok());
        assert!(context.discovered().await.is_ok());
        assert_eq!(discoveries(&cluster), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn kinds_that_are_known_need_no_discovery_however_old_the_last_one_is() {
        let cluster = Fake::new();
        let context = context(&cluster).await;
        let known = ObjectKey::new("", "ConfigMap", "default", "x");
        let unknown = ObjectKey::new("example.com", "Widget", "default", "x");
        for _ in 0..2 {
            assert!(context.discovered_for([&known].into_iter()).await.is_ok());
            tokio::time::sleep(DISCOVERY_AGE * 2).await;
        }
        assert_eq!(discoveries(&cluster), 1);
        for keys in [[&unknown, &known], [&known, &unknown]] {
            assert!(context.discovered_for(keys.into_iter()).await.is_ok());
            tokio::time::sleep(DISCOVERY_AGE * 2).await;
        }
        assert_eq!(discoveries(&cluster), 2);
        context.expire_discovery();
        assert!(context.discovered_for([&known].into_iter()).await.is_ok());
        assert_eq!(discoveries(&cluster), 1, "definitions have changed");
    }
}
