//! Keeps the cluster as the ledger says. One task: what happened is fed to the unit's state machine
//! (`flotilla_core::unit::state`), and what that asks for is done, units side by side. Whatever woke the loop carries
//! no data: the ledger and the cluster are read again.

pub mod apply;
pub mod check;
pub mod circuit_breaker;
pub mod context;
mod definitions;
pub mod evaluate;
mod gauges;
pub mod message;
mod nudge;
pub mod observe;
pub mod preflight;
mod save;
mod status;
mod units;
mod verify;
mod waiting;
mod watches;
mod window;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use apply::Done;
use context::{Context, UnitContext};
use flotilla_core::{
    id::UnitId,
    unit::{
        event::{Action, Event, JobFailure},
        now::Mono,
        state::State,
    },
    units::{Edges, Standing},
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use gauges::{Gauged, Gauges};
pub use nudge::Nudge;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use verify::{Listed, Verification};
use watches::Watches;

use crate::ledger::LedgerError;

/// Units with a job at once.
const JOBS: usize = 16;
/// Told to stop, the loop waits so long for requests that are under way.
const LAST_ANSWERS: Duration = Duration::from_millis(900);
/// Watch events taken in before due work is started again.
const EVENTS: usize = 256;

/// The outcome of a job; `lost`: this agent is not the only one.
struct Finished {
    unit: UnitId,
    job: u64,
    event: Event,
    lost: bool,
}

/// A unit, and what of its work is under way.
struct Unit {
    state: State,
    /// The job that was asked for, until its outcome is there.
    job: Option<(u64, CancellationToken)>,
    /// Where it stands for those that wait for it.
    standing: Standing,
    /// What of it is in the metrics.
    gauged: Gauged,
}

impl Unit {
    fn new(state: State) -> Self {
        Self {
            job: None,
            standing: state.standing(),
            gauged: Gauged::before(&state),
            state,
        }
    }
}

/// The reconciler's own state.
pub struct Reconciler {
    context: Arc<Context>,
    nudge: Arc<Nudge>,
    units: BTreeMap<UnitId, Unit>,
    /// Jobs that wait for a slot.
    queue: VecDeque<(UnitId, Action, CancellationToken)>,
    jobs: FuturesUnordered<BoxFuture<'static, Finished>>,
    lists: FuturesUnordered<BoxFuture<'static, Listed>>,
    watches: Watches,
    verification: Verification,
    /// When each unit wants to be woken.
    deadlines: BTreeSet<(Mono, UnitId)>,
    deadline_of: BTreeMap<UnitId, Mono>,
    /// Units whose rows may have changed.
    changed: BTreeSet<UnitId>,
    /// Who waits for whom.
    edges: Edges,
    /// Units that may wait for others no more, or wait now.
    unjudged: BTreeSet<UnitId>,
    gauges: Gauges,
    /// Another agent writes the ledger: this one must exit.
    lost: bool,
}

impl Reconciler {
    /// Makes a reconciler.
    pub fn new(context: Arc<Context>, nudge: Arc<Nudge>) -> Self {
        Self {
            context,
            nudge,
            units: BTreeMap::new(),
            queue: VecDeque::new(),
            jobs: FuturesUnordered::new(),
            lists: FuturesUnordered::new(),
            watches: Watches::default(),
            verification: Verification::default(),
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
            changed: BTreeSet::new(),
            edges: Edges::default(),
            unjudged: BTreeSet::new(),
            gauges: Gauges::default(),
            lost: false,
        }
    }

    /// Verifies each kind about this often instead of once an hour.
    #[must_use]
    pub fn verifying_every(mut self, period: Duration) -> Self {
        self.verification = Verification::every(period);
        self
    }

    /// Runs until told to stop. Fails only when this agent must exit: it is not the only one.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), LedgerError> {
        self.sync();
        loop {
            if self.lost {
                return Err(LedgerError::Lost);
            }
            self.serve_definitions();
            self.judge_waiting();
            self.start();
            self.flush();
            self.watch_kinds();
            self.verify();
            let wake = self.wakes();
            // Every arm is cancel-safe: a notification stays set, a channel keeps what was not received, and jobs
            // live in their set.
            tokio::select! {
                () = stop.cancelled() => return self.end().await,
                () = self.nudge.accepted.notified() => self.sync(),
                () = self.context.intended.notified() => {}
                Some(finished) = self.jobs.next() => self.finished(finished)?,
                Some(listed) = self.lists.next() => self.listed(listed),
                Some(first) = self.watches.next() => {
                    self.observed(first);
                    for _ in 1..EVENTS {
                        let Some(next) = self.watches.ready() else { break };
                        self.observed(next);
                    }
                }
                () = sleep_until(wake) => {}
            }
            self.context.count_wake();
            self.wake_units();
        }
    }

    /// Lets the requests that are under way end, for a moment, begins no other, and takes in what they and the watches
    /// have shown: the next start need not find it out again.
    async fn end(mut self) -> Result<(), LedgerError> {
        self.lists.clear();
        for unit in self.units.values() {
            if let Some((_, cancel)) = &unit.job {
                cancel.cancel();
            }
        }
        let deadline = Instant::now() + LAST_ANSWERS;
        while let Ok(Some(finished)) = tokio::time::timeout_at(deadline, self.jobs.next()).await {
            self.finished(finished)?;
        }
        while let Some(news) = self.watches.ready() {
            self.observed(news);
        }
        Ok(())
    }

    /// When something is to be done by time alone.
    fn wakes(&self) -> Option<Instant> {
        let units = self.deadlines.first().map(|(at, _)| self.context.instant(*at));
        [units, self.watches.wakes(), self.verification.wakes()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Wakes the units whose time has come, and no others.
    fn wake_units(&mut self) {
        let now = self.context.now().mono;
        while let Some((at, id)) = self.deadlines.first().copied()
            && at <= now
        {
            self.set_deadline(id, None);
            self.feed(id, Event::Tick);
        }
    }

    fn set_deadline(&mut self, id: UnitId, at: Option<Mono>) {
        let known = match at {
            Some(at) => self.deadline_of.insert(id, at),
            None => self.deadline_of.remove(&id),
        };
        if let Some(known) = known {
            self.deadlines.remove(&(known, id));
        }
        if let Some(at) = at {
            self.deadlines.insert((at, id));
        }
    }

    /// Gives a unit's state machine an event, and does what it asks for.
    pub(super) fn feed(&mut self, id: UnitId, event: Event) {
        let now = self.context.now();
        let Some(unit) = self.units.get_mut(&id) else {
            return;
        };
        let actions = unit.state.step(event, now);
        let wake = unit.state.wake_at(now.mono);
        let standing = unit.state.standing();
        if std::mem::replace(&mut unit.standing, standing) != standing {
            self.unjudged.extend(self.edges.changed(id));
        }
        self.changed.insert(id);
        self.set_deadline(id, wake);
        for action in actions {
            self.act(id, action);
        }
    }

    fn act(&mut self, id: UnitId, action: Action) {
        match action {
            Action::Evaluate { job, .. } | Action::Apply { job, .. } | Action::Check { job, .. } => {
                let cancel = CancellationToken::new();
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.job = Some((job, cancel.clone()));
                }
                self.queue.push_back((id, action, cancel));
            }
            Action::Cancel(job) => {
                let running = self.units.get(&id).and_then(|unit| unit.job.as_ref());
                if let Some((_, cancel)) = running.filter(|(running, _)| *running == job) {
                    cancel.cancel();
                }
            }
            Action::Verify => self.verify_unit(id),
            Action::Enforce(bytes) => self.note(save::enforce(&self.context, id, &bytes)),
            Action::SaveObjects(records) => self.note(save::objects(&self.context, id, records)),
            Action::Finish { key, uid } => self.note(save::finish(&self.context, id, key, &uid)),
            Action::SaveUnit(record) => self.note(save::unit(&self.context, id, &record)),
            Action::Tell(notice) => {
                gauges::told(&self.context.metrics, &notice);
                self.context.tell(id, notice);
            }
        }
    }

    /// Remembers that the ledger is another agent's.
    fn note(&mut self, saved: Result<(), LedgerError>) {
        self.lost |= saved.is_err();
    }

    /// Starts jobs that wait, as far as there are slots.
    fn start(&mut self) {
        while self.jobs.len() < JOBS
            && let Some((id, action, cancel)) = self.queue.pop_front()
        {
            self.context.counters.jobs.fetch_add(1, Ordering::Relaxed);
            self.jobs.push(job(&self.context, id, action, cancel));
        }
    }

    fn finished(&mut self, finished: Finished) -> Result<(), LedgerError> {
        let Finished {
            unit: id,
            job,
            event,
            lost,
        } = finished;
        if lost {
            return Err(LedgerError::Lost);
        }
        match self.units.get_mut(&id) {
            Some(unit) if unit.job.as_ref().is_some_and(|(running, _)| *running == job) => unit.job = None,
            // The unit was released, or is another one by now.
            _ => return Ok(()),
        }
        self.feed(id, event);
        Ok(())
    }

    /// Writes the rows that may have changed, and remembers which units wait for a definition.
    fn flush(&mut self) {
        for id in std::mem::take(&mut self.changed) {
            if let Some(unit) = self.units.get_mut(&id) {
                status::report(&self.context, &mut unit.state);
                self.gauges
                    .unit(&self.context.metrics, &mut unit.gauged, &unit.state);
                match unit.state.waits_for_definition() {
                    true => self.watches.waiting.insert(id),
                    false => self.watches.waiting.remove(&id),
                };
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Makes a job of an action. A panic is the failure of this one job.
fn job(
    context: &Arc<Context>,
    id: UnitId,
    action: Action,
    cancel: CancellationToken,
) -> BoxFuture<'static, Finished> {
    let context = context.clone();
    async move {
        match action {
            Action::Evaluate { job, entry, enforced } => {
                let work = async {
                    let (failure, evaluation, unavailable) =
                        units::evaluate_unit(&context, &entry, enforced).await;
                    match unavailable {
                        Some(message) => Event::Failed {
                            job,
                            failure: JobFailure::Unavailable(message),
                        },
                        None => Event::Evaluated {
                            job,
                            failure,
                            evaluation,
                        },
                    }
                };
                let event = caught(work).await.unwrap_or_else(|message| Event::Failed {
                    job,
                    failure: JobFailure::Panicked(message),
                });
                Finished {
                    unit: id,
                    job,
                    event,
                    lost: false,
                }
            }
            Action::Apply { job, entry, keys } => {
                let unit = UnitContext::new(&context, id, entry);
                let done = caught(apply::apply(&unit, keys, &cancel)).await;
                let Done {
                    outcomes,
                    failure,
                    lost,
                } = done.unwrap_or_else(panicked);
                let event = Event::Applied {
                    job,
                    outcomes,
                    failure,
                };
                Finished {
                    unit: id,
                    job,
                    event,
                    lost,
                }
            }
            Action::Check { job, entry, keys } => {
                let unit = UnitContext::new(&context, id, entry);
                let done = caught(check::check(&unit, keys, &cancel)).await;
                let Done {
                    outcomes,
                    failure,
                    lost,
                } = done.unwrap_or_else(panicked);
                let event = Event::Checked {
                    job,
                    outcomes,
                    failure,
                };
                Finished {
                    unit: id,
                    job,
                    event,
                    lost,
                }
            }
            // The others are done where they are asked for.
            _ => Finished {
                unit: id,
                job: 0,
                event: Event::Tick,
                lost: false,
            },
        }
    }
    .boxed()
}

async fn caught<T>(work: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|panic| panic_text(panic.as_ref()))
}

fn panicked<T>(message: String) -> Done<T> {
    tracing::error!("reconciling panicked: {message}");
    Done {
        outcomes: Vec::new(),
        failure: Some(JobFailure::Panicked(format!(
            "reconciling failed unexpectedly: {message}"
        ))),
        lost: false,
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}
