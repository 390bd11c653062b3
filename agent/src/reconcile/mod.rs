//! Keeps the cluster as the ledger says. One task: what happened is fed to the unit's state machine
//! (`flotilla_core::unit::state`), and what that asks for is done, units side by side. Whatever woke the loop carries
//! no data: the ledger and the cluster are read again.

mod acting;
mod apply;
mod bodies;
mod check;
pub mod circuit_breaker;
mod claims;
pub mod context;
mod correct;
mod definitions;
pub mod evaluate;
mod gauges;
mod holders;
mod inputs;
mod jobs;
mod judges;
pub mod keyrings;
mod lately;
mod left;
mod looks;
pub mod message;
mod naming;
mod nudge;
pub mod observe;
mod pace;
pub mod preflight;
mod presence;
mod problem;
mod queue;
mod records;
mod remove;
mod replace;
mod save;
mod sightings;
mod status;
mod units;
mod verify;
mod waiting;
mod watches;
mod window;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use claims::Claiming;
use context::Context;
use flotilla_core::{
    id::UnitId,
    unit::{
        event::{Action, Event},
        now::Mono,
        state::State,
    },
    units::{Edges, Standing},
};
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use gauges::{Gauged, Gauges};
use holders::Holders;
use inputs::Inputs;
use jobs::Finished;
use looks::Looked;
use naming::Naming;
pub use nudge::Nudge;
use pace::Pace;
use queue::Queue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use verify::{Listed, Verification};
use watches::{Watches, unseen::Unseen};

use crate::{ledger::LedgerError, report::Hold};

/// Told to stop, the loop waits so long for requests that are under way.
const LAST_ANSWERS: Duration = Duration::from_millis(900);
/// Watch events taken in before due work is started again.
const EVENTS: usize = 256;
/// After a start, rows are told the hub once all objects were seen, or those that were, after this: what a row says
/// before is what the hub has.
const RESTORED: Duration = Duration::from_secs(10);

/// A unit, and what of its work is under way.
struct Unit {
    state: State,
    /// The job that was asked for, until its outcome is there.
    job: Option<(u64, CancellationToken)>,
    /// Where it stands for those that wait for it.
    standing: Standing,
    /// What of it is in the metrics.
    gauged: Gauged,
    /// What was said last of its objects that no watch shows.
    unseen: Unseen,
}

impl Unit {
    fn new(state: State) -> Self {
        Self {
            job: None,
            standing: state.standing(),
            gauged: Gauged::before(&state),
            unseen: Unseen::default(),
            state,
        }
    }
}

/// The reconciler's own state.
pub struct Reconciler {
    context: Arc<Context>,
    nudge: Arc<Nudge>,
    units: BTreeMap<UnitId, Unit>,
    /// Jobs that wait for a slot, and those that have one.
    queue: Queue<(Action, CancellationToken)>,
    jobs: FuturesUnordered<BoxFuture<'static, Finished>>,
    lists: FuturesUnordered<BoxFuture<'static, Listed>>,
    looks: FuturesUnordered<BoxFuture<'static, Looked>>,
    watches: Watches,
    inputs: Inputs,
    verification: Verification,
    /// When each unit wants to be woken.
    deadlines: BTreeSet<(Mono, UnitId)>,
    deadline_of: BTreeMap<UnitId, Mono>,
    /// Units whose rows may have changed.
    changed: BTreeSet<UnitId>,
    /// Units whose status is to be judged, as objects were told of.
    unsettled: BTreeSet<UnitId>,
    /// Who waits for whom.
    edges: Edges,
    /// Units that may wait for others no more, or wait now.
    unjudged: BTreeSet<UnitId>,
    judging: waiting::Turn,
    gauges: Gauges,
    /// Who may have an object whose mark does not say it.
    holders: Holders,
    /// What units want of each other's objects.
    claiming: Claiming,
    /// Which units the hub names, as far as rows were told.
    naming: Naming,
    /// Units of which not all is seen since the start.
    restoring: BTreeSet<UnitId>,
    /// Until when all rows are held back; `None`: they are not.
    held_until: Option<Instant>,
    /// The first lists have shown what there is.
    is_shown: bool,
    /// Another agent writes the ledger: this one must exit.
    lost: bool,
}

impl Reconciler {
    /// Makes a reconciler.
    pub fn new(context: Arc<Context>, nudge: Arc<Nudge>) -> Self {
        context.reports.hold(Hold::Rows);
        Self {
            context,
            nudge,
            units: BTreeMap::new(),
            queue: Queue::default(),
            jobs: FuturesUnordered::new(),
            lists: FuturesUnordered::new(),
            looks: FuturesUnordered::new(),
            watches: Watches::default(),
            inputs: Inputs::default(),
            verification: Verification::default(),
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
            changed: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            edges: Edges::default(),
            unjudged: BTreeSet::new(),
            judging: waiting::Turn::default(),
            gauges: Gauges::default(),
            holders: Holders::default(),
            claiming: Claiming::default(),
            naming: Naming::default(),
            restoring: BTreeSet::new(),
            held_until: Some(Instant::now() + RESTORED),
            is_shown: false,
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
        self.sync().await;
        loop {
            if self.lost {
                return Err(LedgerError::Lost);
            }
            self.serve_definitions();
            self.settle();
            self.judge_waiting();
            self.judge_claims();
            // Watches that end or begin give units something to do and to say, which nothing else would wake.
            self.watch_kinds().await;
            self.watch_inputs();
            self.start();
            self.flush().await;
            self.release_rows().await;
            // Who waits for a definition is known only now.
            self.watch_definitions();
            self.verify();
            let wake = self.wakes();
            // Every arm is cancel-safe: a notification stays set, a channel keeps what was not received, and jobs
            // live in their set.
            tokio::select! {
                () = stop.cancelled() => return self.end().await,
                () = self.nudge.accepted.notified() => self.sync().await,
                recovered = self.context.ledger.recovered() => self.recovered(recovered).await,
                () = self.context.intended.notified() => {}
                Some(finished) = self.jobs.next() => self.finished(finished).await?,
                Some(listed) = self.lists.next() => self.listed(listed).await,
                Some(Looked { unit, version, seen }) = self.looks.next() => {
                    self.feed(unit, Event::Looked { version, seen });
                }
                Some(first) = self.watches.next() => {
                    self.observed(first).await;
                    for _ in 1..EVENTS {
                        let Some(next) = self.watches.ready() else { break };
                        self.observed(next).await;
                    }
                }
                Some(news) = self.inputs.next() => self.input_shown(news),
                () = sleep_until(wake) => {}
            }
            self.context.count_wake();
            self.wake_units();
        }
    }

    /// Judges the status of units of whose objects something was told, once for all of them.
    fn settle(&mut self) {
        for id in std::mem::take(&mut self.unsettled) {
            if self.units.get(&id).is_some_and(|unit| unit.state.is_unsettled()) {
                self.feed(id, Event::Tick);
            }
        }
    }

    /// Lets the requests that are under way end, for a moment, begins no other, and takes in what they and the watches
    /// have shown: the next start need not find it out again.
    async fn end(mut self) -> Result<(), LedgerError> {
        self.lists.clear();
        self.looks.clear();
        for id in self.units.keys().copied().collect::<Vec<_>>() {
            self.feed(id, Event::Stopping);
        }
        let deadline = Instant::now() + LAST_ANSWERS;
        while let Ok(Some(finished)) = tokio::time::timeout_at(deadline, self.jobs.next()).await {
            self.finished(finished).await?;
        }
        while let Some(news) = self.watches.ready() {
            self.observed(news).await;
        }
        self.settle();
        match self.lost {
            true => Err(LedgerError::Lost),
            false => Ok(()),
        }
    }

    /// When something is to be done by time alone.
    fn wakes(&self) -> Option<Instant> {
        let units = self.deadlines.first().map(|(at, _)| self.context.instant(*at));
        let queue = self.queue.wakes(Instant::now());
        // Those whose expressions are more than one turn may take.
        let unjudged = (!self.unjudged.is_empty()).then(Instant::now);
        [
            units,
            unjudged,
            self.watches.wakes(),
            self.verification.wakes(),
            queue,
            self.held_until,
        ]
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
        let mut next = Some(event);
        while let Some(event) = next.take() {
            if let Event::Accepted(accepted) = &event {
                self.context
                    .judges
                    .note(id, &accepted.entry.settings.health.exprs);
            }
            let now = self.context.now();
            let Some(unit) = self.units.get_mut(&id) else {
                return;
            };
            self.context.counters.steps.fetch_add(1, Ordering::Relaxed);
            let actions = unit.state.step(event, now);
            let wake = unit.state.wake_at(now.mono);
            let standing = unit.state.standing();
            let before = std::mem::replace(&mut unit.standing, standing);
            if before != standing {
                self.unjudged.extend(self.edges.moved(id, before, standing));
            }
            if unit.state.is_unsettled() {
                self.unsettled.insert(id);
            }
            self.note_claims(id);
            self.changed.insert(id);
            self.set_deadline(id, wake);
            for action in actions {
                match action {
                    Action::Cancel(job) => next = self.cancel(id, job),
                    action => self.act(id, action),
                }
            }
        }
    }

    /// Cancels a job. One that waits for a slot is over at once, and what came of it is given: what pre-empts it does not
    /// wait for that slot.
    fn cancel(&mut self, id: UnitId, job: u64) -> Option<Event> {
        let unit = self.units.get_mut(&id)?;
        let (_, cancel) = unit.job.as_ref().filter(|(running, _)| *running == job)?;
        cancel.cancel();
        let (action, _) = self.queue.withdraw(id, job)?;
        unit.job = None;
        self.pass_ended(id);
        jobs::not_begun(&action)
    }

    fn act(&mut self, id: UnitId, action: Action) {
        if let Some((kind, job)) = jobs::kind(&action) {
            let cancel = CancellationToken::new();
            if let Some(unit) = self.units.get_mut(&id) {
                unit.job = Some((job, cancel.clone()));
            }
            self.queue.push(kind, id, job, (action, cancel));
            return;
        }
        match action {
            // Jobs, which are queued, and their end.
            Action::Evaluate { .. }
            | Action::Apply { .. }
            | Action::Check { .. }
            | Action::Remove { .. }
            | Action::Cancel(_) => {}
            Action::Verify => self.verify_unit(id),
            Action::Look { entry, checks } => self.looks.push(looks::look(&self.context, id, entry, checks)),
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
        let now = Instant::now();
        while let Some((id, (action, cancel))) = self.queue.take(now) {
            self.context.counters.jobs.fetch_add(1, Ordering::Relaxed);
            self.jobs.push(jobs::job(&self.context, id, action, cancel));
        }
        let is_used = !self.queue.is_idle();
        self.context.presences.is_used(is_used);
        self.context.lately.is_used(is_used);
    }

    async fn finished(&mut self, finished: Finished) -> Result<(), LedgerError> {
        let Finished {
            unit: id,
            job,
            event,
            lost,
        } = finished;
        self.queue.ended(id, job);
        if lost {
            return Err(LedgerError::Lost);
        }
        match self.units.get_mut(&id) {
            Some(unit) if unit.job.as_ref().is_some_and(|(running, _)| *running == job) => unit.job = None,
            // The unit was released, or is another one by now.
            _ => {
                self.pass_ended(id);
                return Ok(());
            }
        }
        self.feed(id, event);
        while self.units.get(&id).is_some_and(|unit| unit.state.is_taking_in()) {
            tokio::task::yield_now().await;
            self.feed(id, Event::Tick);
        }
        // What a job has written looked drifted until the job said so.
        self.drop_sightings(id);
        // What an evaluation lacked may have come while its outcome was on its way: whoever said so spoke too early.
        let lacking = self.units.get(&id).filter(|unit| unit.state.lacks_inputs());
        if lacking.is_some_and(|unit| self.has_inputs(unit.state.entry())) {
            self.nudge.accepted();
        }
        // No batch follows at once: by the next one much may have come.
        if self.units.get(&id).is_none_or(|unit| unit.job.is_none()) {
            self.pass_ended(id);
        }
        Ok(())
    }

    /// Drops what watches have shown of a unit's objects that no check waits for.
    fn drop_sightings(&self, id: UnitId) {
        let unit = self.units.get(&id);
        let is_to_check = |key: &_| unit.is_some_and(|unit| watches::news::is_to_check(unit, key));
        self.context.sightings.retain(id, is_to_check);
    }

    /// Forgets what the jobs of a unit have found out for those that follow.
    fn pass_ended(&self, id: UnitId) {
        self.drop_sightings(id);
        self.context.windows.forget(id);
    }

    /// Writes the rows that may have changed, and remembers which units wait for a definition.
    async fn flush(&mut self) {
        let mut pace = Pace::default();
        let mut untold = BTreeSet::new();
        self.mark_unseen(&mut pace).await;
        for id in std::mem::take(&mut self.changed) {
            // The hub lets go of what is gone: another life of this agent must not have it again, and refuse that.
            let is_gone = self.units.get(&id).is_some_and(|unit| unit.state.is_gone());
            if is_gone && self.context.ledger.flush().await.is_err() {
                untold.insert(id);
                continue;
            }
            let unseen = self.unseen(id);
            if let Some(unit) = self.units.get_mut(&id) {
                let is_news = unseen.as_ref().is_some_and(|now| now.note != unit.unseen.note);
                unit.unseen = unseen.unwrap_or_else(|| std::mem::take(&mut unit.unseen));
                let unseen = (&*unit.unseen.note, is_news);
                let reported = status::report(&self.context, &mut unit.state, unseen, &mut pace).await;
                self.holders.note(id, &reported);
                self.gauges
                    .unit(&self.context.metrics, &mut unit.gauged, &unit.state);
                match unit.state.waits_for_definition() {
                    true => self.watches.waiting.insert(id),
                    false => self.watches.waiting.remove(&id),
                };
                match unit.state.is_restoring() || unit.state.awaits_lists() {
                    true => self.restoring.insert(id),
                    false => self.restoring.remove(&id),
                };
            }
        }
        self.changed.append(&mut untold);
    }

    /// Lets rows be told after a start: all of them once each was seen, however long the lists take that show them; those
    /// that were seen, once that takes long.
    async fn release_rows(&mut self) {
        if self.is_shown {
            return;
        }
        let is_late = self.held_until.is_none_or(|until| until <= Instant::now());
        // While nothing was asked of the cluster, as where no unit is enforced, no list is to come.
        let is_listed = self.watches.has_lists() || !self.context.has_discovered();
        let is_restored = self.restoring.is_empty();
        if is_restored && is_listed || is_late && self.watches.has_lists() {
            (self.held_until, self.is_shown) = (None, true);
            for id in self.units.keys().copied().collect::<Vec<_>>() {
                self.feed(id, Event::Shown);
            }
            self.start();
            self.flush().await;
            self.context.reports.hold(Hold::Nothing);
        } else if is_late && self.held_until.take().is_some() {
            self.context.reports.hold(Hold::Full);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
