//! Counts of units for those who look. A list of all apps counts every unit of the fleet: with many units, counts are
//! shared by all who ask within a moment, and made anew while the former ones are shown, never more than once at a
//! time. Few units are counted for each request.
//!
//! What was counted before a plan of its app is never shown after it: a new target would seem to be applied where the
//! former one is. So shared counts may be late only in what clusters told within [`LATEST`]; who watches is woken once
//! more after that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use flotilla_core::status::{Alike, AppFacts};
use tokio::{sync::OwnedMutexGuard, time::Instant};
use uuid::Uuid;

use crate::store::{Result, Store, status::PlanShown};

/// Counts of so many units together are shared.
const MANY: u64 = 1000;
/// Counts older than this are made anew.
const FRESH: Duration = Duration::from_secs(1);
/// Counts older than this are not shown any more.
pub const LATEST: Duration = Duration::from_secs(2);
/// Counts that nobody asked for within this time are let go of.
const KEPT: Duration = Duration::from_secs(60);

/// The counts. Cheap to clone.
#[derive(Clone)]
pub struct Counts {
    store: Store,
    fresh: Duration,
    latest: Duration,
    by_app: Arc<Mutex<HashMap<Uuid, Counted>>>,
    /// Held by the one who counts many.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// The units of an app.
struct Counted {
    /// The version of the app's plan before they were counted.
    plan: i64,
    at: Instant,
    asked: Instant,
    alike: Vec<Alike>,
}

impl Counted {
    fn units(&self) -> u64 {
        self.alike.iter().map(|alike| alike.units).sum()
    }
}

/// What is to be counted for a request.
struct Missing {
    /// Those of which nothing can be shown.
    now: Vec<Uuid>,
    /// Those of which something can, that is to be made anew.
    soon: Vec<Uuid>,
    /// Others may ask for the same: many units are concerned, or it is not known how many.
    is_shared: bool,
}

impl Counts {
    /// Nothing is counted yet.
    pub fn new(store: Store) -> Self {
        Self::lasting(store, FRESH, LATEST)
    }

    /// Counts of other ages: made anew after `fresh`, and not shown after `latest`.
    pub fn lasting(store: Store, fresh: Duration, latest: Duration) -> Self {
        Self {
            store,
            fresh,
            latest,
            by_app: Arc::default(),
            turn: Arc::default(),
        }
    }

    /// What is known of these apps, by uid. One that is gone is not among them.
    pub async fn facts(&self, apps: &[Uuid]) -> Result<HashMap<Uuid, AppFacts>> {
        let asked = Instant::now();
        let mut plans = self.store.app_plans_shown(apps).await?;
        let mut missing = self.missing(&plans, asked);
        if missing.is_shared && !missing.now.is_empty() {
            let turn = self.turn.clone().lock_owned().await;
            // Whoever had the turn may have counted these, of the plans there are by now.
            plans = self.store.app_plans_shown(apps).await?;
            missing = self.missing(&plans, asked);
            self.count(&plans, &missing.now).await?;
            drop(turn);
        } else if !missing.now.is_empty() {
            self.count(&plans, &missing.now).await?;
        } else if !missing.soon.is_empty()
            && let Ok(turn) = self.turn.clone().try_lock_owned()
        {
            self.count_beside(plans.clone(), missing.soon, turn);
        }
        Ok(self.counted(plans))
    }

    /// The same, with all units counted now, which whoever asks next is shown too.
    pub async fn facts_now(&self, apps: &[Uuid]) -> Result<HashMap<Uuid, AppFacts>> {
        let plans = self.store.app_plans_shown(apps).await?;
        self.count(&plans, apps).await?;
        Ok(self.counted(plans))
    }

    /// Tells whether what is shown may be late.
    pub fn may_be_late(&self) -> bool {
        self.lock().values().map(Counted::units).sum::<u64>() >= MANY
    }

    fn counted(&self, plans: HashMap<Uuid, PlanShown>) -> HashMap<Uuid, AppFacts> {
        let by_app = self.lock();
        let facts = plans.into_iter().map(|(app, plan)| {
            let units = by_app.get(&app).map(|counted| counted.alike.clone());
            let units = units.unwrap_or_default();
            (app, AppFacts { units, ..plan.facts })
        });
        facts.collect()
    }

    fn missing(&self, plans: &HashMap<Uuid, PlanShown>, asked: Instant) -> Missing {
        let mut by_app = self.lock();
        for app in plans.keys() {
            if let Some(counted) = by_app.get_mut(app) {
                counted.asked = asked;
            }
        }
        let known: Vec<Option<&Counted>> = plans.keys().map(|app| by_app.get(app)).collect();
        let units: u64 = known.iter().flatten().map(|counted| counted.units()).sum();
        let are_many = units >= MANY;
        let is_shared = are_many || known.iter().any(Option::is_none);
        let (mut now, mut soon) = (Vec::new(), Vec::new());
        for ((app, plan), counted) in plans.iter().zip(known) {
            match counted.filter(|counted| counted.plan == plan.version) {
                // Since this was asked, however long it took.
                Some(counted) if counted.at >= asked => {}
                Some(counted) if are_many && counted.at.elapsed() <= self.latest => {
                    if counted.at.elapsed() > self.fresh {
                        soon.push(*app);
                    }
                }
                _ => now.push(*app),
            }
        }
        Missing { now, soon, is_shared }
    }

    /// Counts after the plans were read: what a later plan changes is counted again.
    async fn count(&self, plans: &HashMap<Uuid, PlanShown>, apps: &[Uuid]) -> Result<()> {
        if apps.is_empty() {
            return Ok(());
        }
        let at = Instant::now();
        let mut units = self.store.units_alike(apps).await?;
        let mut by_app = self.lock();
        by_app.retain(|_, counted| counted.asked.elapsed() < KEPT);
        for app in apps {
            let Some(plan) = plans.get(app) else { continue };
            let alike = units.remove(app).unwrap_or_default();
            // Two who count few at once end in any order.
            if by_app.get(app).is_none_or(|former| former.at <= at) {
                let (plan, asked) = (plan.version, at);
                by_app.insert(
                    *app,
                    Counted {
                        plan,
                        at,
                        asked,
                        alike,
                    },
                );
            }
        }
        Ok(())
    }

    fn count_beside(&self, plans: HashMap<Uuid, PlanShown>, apps: Vec<Uuid>, turn: OwnedMutexGuard<()>) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(e) = this.count(&plans, &apps).await {
                // Whoever asks once the counts are too old is told.
                tracing::debug!("units were not counted anew: {e}");
            }
            drop(turn);
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Counted>> {
        self.by_app.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
