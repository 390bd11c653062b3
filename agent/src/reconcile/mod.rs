//! Keeps the cluster as the ledger says. One task: watches and acceptances mark units, units that are due get a
//! job, jobs run side by side and none holds another up. Whatever woke the loop carries no data: the ledger and
//! the cluster are read again.

pub mod contact;
pub mod context;
pub mod drift;
pub mod evaluate;
pub mod live;
mod nudge;
pub mod obstacle;
pub mod pass;
pub mod touch;
pub mod unit;
mod watching;

use std::{
    any::Any,
    collections::{BTreeMap, HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use context::{Context, with_causes};
use drift::Checked;
use flotilla_core::{
    apply::drift::{Judgement, judge},
    digest::Digest,
    id::UnitId,
    object::ObjectKey,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
pub use nudge::Nudge;
use pass::{Outcome, PassError};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use unit::{Run, VERIFY};
use watching::{Scope, Seen, Watched};

use crate::ledger::LedgerError;

/// Units with a job at once. Jobs may wait for definitions, so this is more than there are processors.
const JOBS: usize = 16;
/// Watch events taken in before due work is started again.
const EVENTS: usize = 256;

enum Done {
    Pass {
        target: Digest,
        revision: String,
        result: Result<Outcome, PassError>,
    },
    Check(Result<Checked, PassError>),
    Panicked(String),
}

type Job = BoxFuture<'static, (UnitId, Done)>;

/// The reconciler's own state.
pub struct Reconciler {
    context: Arc<Context>,
    nudge: Arc<Nudge>,
    runs: BTreeMap<UnitId, Run>,
    jobs: FuturesUnordered<Job>,
    watches: HashMap<Scope, Watched>,
    /// Inventories or what is served may have changed: there may be more to watch.
    unwatched: bool,
    /// What a running list has not shown yet.
    listing: HashMap<Scope, HashSet<(UnitId, ObjectKey)>>,
    seen_tx: mpsc::Sender<Seen>,
    seen_rx: mpsc::Receiver<Seen>,
    crd_watch: Option<CancellationToken>,
}

impl Reconciler {
    /// Makes a reconciler.
    pub fn new(context: Arc<Context>, nudge: Arc<Nudge>) -> Self {
        let (seen_tx, seen_rx) = mpsc::channel(EVENTS);
        Self {
            context,
            nudge,
            runs: BTreeMap::new(),
            jobs: FuturesUnordered::new(),
            watches: HashMap::new(),
            unwatched: true,
            listing: HashMap::new(),
            seen_tx,
            seen_rx,
            crd_watch: None,
        }
    }

    /// Runs until told to stop. Fails only when this agent must exit: it is not the only one.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), LedgerError> {
        let _guard = stop.clone().drop_guard();
        self.sync();
        loop {
            self.start();
            self.watch_kinds(&stop);
            self.flush();
            let now = Instant::now();
            let wake = self
                .runs
                .values()
                .filter_map(|run| run.wakes(&self.context, now))
                .min();
            let wake = wake.map_or(now + VERIFY, |wake| wake.max(now + Duration::from_millis(10)));
            // Every arm is cancel-safe: a notification stays set, a channel keeps what was not received, and jobs
            // live in the set.
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.nudge.accepted.notified() => self.sync(),
                () = self.context.intended.notified() => self.unwatched = true,
                Some((unit, done)) = self.jobs.next() => self.done(unit, done)?,
                Some(first) = self.seen_rx.recv() => {
                    self.seen(first);
                    for _ in 1..EVENTS {
                        let Ok(next) = self.seen_rx.try_recv() else { break };
                        self.seen(next);
                    }
                }
                () = tokio::time::sleep_until(wake) => self.woken(),
            }
        }
    }

    /// Takes in what the ledger says about units.
    fn sync(&mut self) {
        let now = Instant::now();
        let asked = self.nudge.take_asked();
        let held: BTreeMap<UnitId, _> = self.context.ledger.read(|state| {
            state
                .units
                .iter()
                .filter_map(|(id, unit)| {
                    let offered = unit.offered.as_ref()?;
                    // An entry that this version cannot read leaves what was enforced before in force.
                    let entry = offered
                        .entry
                        .clone()
                        .or_else(|| unit.enforced.as_ref()?.entry.clone())?;
                    Some((*id, (entry, offered.digest, offered.at)))
                })
                .collect()
        });
        let gone: Vec<UnitId> = self
            .runs
            .keys()
            .filter(|id| !held.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            self.runs.remove(&id);
            self.context.live.forget_unit(id);
            self.context.reports.forget(id);
        }
        for (id, (entry, digest, at)) in held {
            match self.runs.get_mut(&id) {
                None => {
                    let mut run = Run::new(id, entry, digest, at, now);
                    run.dirty.extend(self.items(id));
                    self.runs.insert(id, run);
                }
                Some(run) => {
                    let requested = run.digest != digest && run.replace(entry, digest, at, now);
                    // Content may have come for an entry that is the same.
                    if run.lacks_content() || asked.contains(&id) {
                        run.due = Some(now);
                    }
                    if requested || asked.contains(&id) {
                        run.verify_at = now;
                    }
                }
            }
        }
    }

    fn items(&self, unit: UnitId) -> Vec<ObjectKey> {
        self.context.ledger.read(|state| {
            state
                .units
                .get(&unit)
                .map(|unit| unit.items.keys().cloned().collect())
                .unwrap_or_default()
        })
    }

    fn woken(&mut self) {
        let now = Instant::now();
        for run in self.runs.values_mut() {
            // A health check's time may be over.
            run.dirty_unit = true;
            let due: Vec<ObjectKey> = run
                .contested
                .iter()
                .filter(|(_, at)| **at <= now)
                .map(|(key, _)| key.clone())
                .collect();
            for key in due {
                run.contested.remove(&key);
                run.suspects.insert(key);
            }
        }
        let verify: Vec<UnitId> = self
            .runs
            .values()
            .filter(|run| run.verify_at <= now)
            .map(|run| run.id)
            .collect();
        for id in verify {
            let items = self.items(id);
            if let Some(run) = self.runs.get_mut(&id) {
                run.suspects.extend(items);
                run.verify_at = now + VERIFY;
            }
        }
    }

    /// Starts jobs for units that are due, those due longest first.
    fn start(&mut self) {
        let now = Instant::now();
        let mut due: Vec<(Instant, UnitId)> = self
            .runs
            .values()
            .filter(|run| !run.busy && run.is_active())
            .filter_map(|run| match run.due {
                Some(at) if at <= now => Some((at, run.id)),
                _ if !run.suspects.is_empty() => Some((now, run.id)),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        for (_, id) in due.into_iter().take(JOBS.saturating_sub(self.jobs.len())) {
            self.start_unit(id, now);
        }
    }

    fn start_unit(&mut self, id: UnitId, now: Instant) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.busy = true;
        let (context, entry) = (self.context.clone(), run.entry.clone());
        let job: BoxFuture<'static, Done> = if run.due.is_some_and(|at| at <= now) {
            run.due = None;
            let (target, revision) = (entry.target, entry.revision.clone());
            async move {
                Done::Pass {
                    target,
                    revision,
                    result: pass::run(&context, id, &entry).await,
                }
            }
            .boxed()
        } else {
            let keys = std::mem::take(&mut run.suspects).into_iter().collect();
            let corrections = std::mem::take(&mut run.corrections);
            async move { Done::Check(drift::check(&context, id, keys, corrections).await) }.boxed()
        };
        self.jobs.push(
            async move {
                let done = AssertUnwindSafe(job).catch_unwind().await;
                (
                    id,
                    done.unwrap_or_else(|panic| Done::Panicked(panic_text(panic.as_ref()))),
                )
            }
            .boxed(),
        );
    }

    fn done(&mut self, id: UnitId, done: Done) -> Result<(), LedgerError> {
        let now = Instant::now();
        self.unwatched = true;
        let Some(run) = self.runs.get_mut(&id) else {
            return Ok(());
        };
        run.busy = false;
        match done {
            Done::Pass {
                target,
                revision,
                result: Ok(outcome),
            } => {
                // An entry that came meanwhile has made the unit due again.
                let due = run.due;
                run.passed(&self.context, target, revision, outcome, now);
                run.due = due.or(run.due);
            }
            Done::Check(Ok(checked)) => run.checked(checked, self.context.now(), now),
            Done::Pass {
                result: Err(error), ..
            }
            | Done::Check(Err(error)) => {
                if let PassError::Ledger(error @ LedgerError::Lost) = error {
                    return Err(error);
                }
                let message = with_causes(&error);
                tracing::warn!(unit = %id, "{message}");
                run.stopped(message, self.context.now(), now);
            }
            Done::Panicked(message) => {
                tracing::error!(unit = %id, "reconciling panicked: {message}");
                run.panicked(format!("reconciling failed unexpectedly: {message}"), now);
            }
        }
        // Events that came while the job ran were judged by what was known before it.
        self.judge_again(id);
        Ok(())
    }

    fn judge_again(&mut self, id: UnitId) {
        let suspicious = self.context.ledger.read(|state| {
            let Some(unit) = state.units.get(&id) else {
                return Vec::new();
            };
            unit.items
                .iter()
                .filter_map(|(key, record)| {
                    let seen = self.context.live.get(id, key)?;
                    let judged = judge(record, seen.observation.as_ref());
                    matches!(judged, Judgement::Suspicious(_)).then(|| key.clone())
                })
                .collect()
        });
        if let Some(run) = self.runs.get_mut(&id) {
            run.suspects = suspicious
                .into_iter()
                .filter(|key| !run.contested.contains_key(key))
                .collect();
        }
    }

    /// Writes the rows that may have changed.
    fn flush(&mut self) {
        for run in self.runs.values_mut() {
            for key in std::mem::take(&mut run.dirty) {
                run.report_object(&self.context, &key);
            }
            if std::mem::take(&mut run.dirty_unit) {
                run.report(&self.context);
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned())
}
