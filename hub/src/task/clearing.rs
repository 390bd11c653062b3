//! Decides what of the objects that have left units may be deleted: those of many apps together, since what has to be known
//! of a source is the same for all that are rendered from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use flotilla_core::removal::clearing::{Sibling, Standing};
use uuid::Uuid;

use super::{Context, gather, queue::Outcome};
use crate::store::{
    closure::Closure,
    leaving::{Held, LeavingUnit, TakenOver},
    sibling::SiblingRow,
};

/// Reports of one change come within this time, and are decided about together.
const REST: Duration = Duration::from_millis(200);
/// What is being rendered or planned is looked at again after this.
const SOON: Duration = Duration::from_secs(2);
const AGAIN: Outcome = Outcome::RestAfter(REST, SOON);
/// Held apps of one source whose placements are looked at; of more nothing is cleared anywhere.
const HELD: usize = 50;

/// Suspended apps of one source of which is found out what they would take over; of more nothing is cleared anywhere.
const SUSPENDED: usize = 200;

/// What of a source is not settled.
#[derive(Default)]
struct Unsettled {
    /// Why nothing is cleared in any cluster.
    everywhere: Option<String>,
    /// Why nothing is cleared in these.
    clusters: BTreeMap<Uuid, String>,
    /// What suspended apps take over when they are resumed.
    pending: TakenOver,
    /// Apps that are held and to be planned, with the change that they are marked for.
    held: BTreeMap<Uuid, i64>,
    /// It settles by itself.
    soon: bool,
}

/// Decides about all that has left these apps and is open, and ends the deletion of those of which nothing is left.
pub async fn reconcile(context: &Context, apps: &[Uuid]) -> anyhow::Result<Outcome> {
    let outcome = clear(context, apps).await?;
    let deleting = context.store.deleting_apps(apps).await?;
    if deleting.is_empty() {
        return Ok(outcome);
    }
    let named: Vec<Uuid> = deleting.keys().copied().collect();
    let moves = context.store.end_deletions(&named).await?;
    // What agents take of it comes in a moment, where they are there; the others' is found by the look behind all wake-ups.
    Ok(match moves || deleting.values().any(|is_fresh| *is_fresh) {
        true => AGAIN,
        false => outcome,
    })
}

async fn clear(context: &Context, apps: &[Uuid]) -> anyhow::Result<Outcome> {
    let store = &context.store;
    let open = store.leaving_apps(apps).await?;
    if open.is_empty() {
        return Ok(Outcome::Rest(REST));
    }
    let sources = store.sources_of_apps(&open).await?;
    // What its parent gives up may be on its way to another app of the parent's source.
    let parents = store.sources_of_parents(&open).await?;
    let asked = sources.values().chain(parents.values()).copied().collect();
    let unsettled = ask(context, asked).await?;
    let beside = store.unsettled_beside(&open).await?;
    let deleting = store.deleting_apps(&open).await?;
    let drains = store.drains().await?;
    let mut outcome = Outcome::Rest(REST);
    for app in open {
        let source = sources.get(&app).copied();
        let of = |source: Uuid| Some((source, unsettled.get(&source)?));
        let parent = parents
            .get(&app)
            .copied()
            .filter(|parent| Some(*parent) != source);
        let states = States {
            own: source.and_then(of),
            parent: parent.and_then(of),
        };
        let others = beside.get(&app).into_iter().flatten().map(Sibling::standing);
        let others: Vec<Standing> = others.collect();
        if states.each().any(|(_, state)| state.soon)
            || others.iter().any(|one| matches!(one, Standing::Soon(_)))
        {
            outcome = AGAIN;
        }
        let others = others.iter().find_map(|one| match one {
            Standing::Settled => None,
            // In which clusters it may claim more is not asked here: what waits longer than it has to loses nothing.
            Standing::Soon(why) | Standing::Held(why) | Standing::HeldIn(_, why) => Some(why),
        });
        let everywhere = states.each().find_map(|(_, state)| state.everywhere.as_ref());
        if let Some(why) = everywhere.or(others) {
            // No unit is read for what is known of all, but where nothing comes any more.
            if drains {
                decide_all(context, app, States::default(), true).await?;
            }
            store.hold_app(app, why).await?;
        } else if states.own.is_some() || deleting.contains_key(&app) {
            decide_all(context, app, states, false).await?;
        } else if drains {
            // It is not rendered from anything: it waits for that itself, and is looked at once it is.
            decide_all(context, app, States::default(), true).await?;
        }
    }
    Ok(outcome)
}

/// What is not settled of the source that an app is rendered from, where it is, and of that of the app that keeps it, where it
/// goes with that one or leaves it.
#[derive(Clone, Copy, Default)]
struct States<'a> {
    own: Option<(Uuid, &'a Unsettled)>,
    parent: Option<(Uuid, &'a Unsettled)>,
}

impl<'a> States<'a> {
    fn each(self) -> impl Iterator<Item = (Uuid, &'a Unsettled)> {
        self.own.into_iter().chain(self.parent)
    }
}

/// Decides about all units of an app, or about those that are removed from clusters that are being drained.
async fn decide_all(context: &Context, app: Uuid, states: States<'_>, drained: bool) -> anyhow::Result<()> {
    let mut after = Uuid::nil();
    loop {
        let units = context.store.leaving(app, after, drained).await?;
        let Some(last) = units.last() else {
            return Ok(());
        };
        after = last.unit;
        decide(context, app, states, units).await?;
    }
}

async fn decide(
    context: &Context,
    app: Uuid,
    states: States<'_>,
    units: Vec<LeavingUnit>,
) -> anyhow::Result<()> {
    let store = &context.store;
    let mut free = units;
    for (source, state) in states.each() {
        let clusters: Vec<Uuid> = free.iter().map(|unit| unit.cluster).collect();
        let waiting = store.waiting_units(&clusters, source).await?;
        let why = |unit: &LeavingUnit| {
            if unit.is_drained {
                return None;
            }
            let held = state.clusters.get(&unit.cluster).cloned();
            held.or_else(|| {
                let other = waiting.get(&unit.cluster)?;
                Some(format!("{other}, of the same source, waits in this cluster"))
            })
        };
        let (held, rest): (Vec<_>, Vec<_>) = free
            .into_iter()
            .map(|unit| (why(&unit), unit))
            .partition(|(why, _)| why.is_some());
        free = rest.into_iter().map(|(_, unit)| unit).collect();
        let held: Vec<Held> = held
            .into_iter()
            .filter_map(|(why, unit)| {
                Some(Held {
                    unit: unit.unit,
                    version: unit.left.version,
                    why: why?,
                })
            })
            .collect();
        if !held.is_empty() {
            store.hold_leaving(&held).await?;
        }
    }
    if !free.is_empty() {
        let none = TakenOver::new();
        let pending = states.own.map_or(&none, |(_, state)| &state.pending);
        let closure = |state: Option<(Uuid, &Unsettled)>| {
            let (source, state) = state?;
            Some(Closure {
                source,
                limits: context.removals,
                held: state.held.clone(),
            })
        };
        let (own, parent) = (closure(states.own), closure(states.parent));
        let cleared = store.clear(app, &free, pending, own.as_ref(), parent.as_ref());
        let cleared = cleared.await?;
        tracing::debug!(app.uid = %app, units = cleared, "what has left may be deleted");
    }
    Ok(())
}

/// Asks what of these sources is not settled, and where that matters.
async fn ask(context: &Context, sources: BTreeSet<Uuid>) -> anyhow::Result<BTreeMap<Uuid, Unsettled>> {
    let asked: Vec<Uuid> = sources.iter().copied().collect();
    let mut found: BTreeMap<Uuid, Unsettled> = sources
        .into_iter()
        .map(|one| (one, Unsettled::default()))
        .collect();
    let mut held: BTreeMap<Uuid, Vec<HeldApp>> = BTreeMap::new();
    let mut suspended: BTreeMap<Uuid, Vec<SiblingRow>> = BTreeMap::new();
    for row in context.store.unsettled_apps(&asked).await? {
        match row.sibling.standing() {
            Standing::Settled if row.sibling.takes_over() => {
                suspended.entry(row.source).or_default().push(row);
            }
            Standing::Settled => {}
            Standing::Soon(why) => {
                let state = found.entry(row.source).or_default();
                state.soon = true;
                state.everywhere.get_or_insert(why);
            }
            standing @ (Standing::Held(_) | Standing::HeldIn(..)) => {
                let state = found.entry(row.source).or_default();
                state.held.extend(row.change.map(|change| (row.app, change)));
                let rows = held.entry(row.source).or_default();
                rows.extend(HeldApp::of(row, standing));
            }
        }
    }
    for (source, rows) in held {
        let state = found.entry(source).or_default();
        match rows.first() {
            _ if state.everywhere.is_some() => {}
            Some(first) if rows.len() > HELD => {
                state.everywhere = Some(format!("{}, and {} more", first.why, rows.len() - 1));
            }
            _ => place(context, state, rows).await?,
        }
    }
    for (source, rows) in suspended {
        let state = found.entry(source).or_default();
        match rows.first() {
            _ if state.everywhere.is_some() => {}
            Some(first) if rows.len() > SUSPENDED => {
                let (app, more) = (&first.sibling.app, rows.len() - 1);
                let why = format!(
                    "{app}, of the same source, and {more} more are suspended: resume or delete some of them"
                );
                state.everywhere = Some(why);
            }
            _ => take_over(context, state, rows).await?,
        }
    }
    Ok(found)
}

/// Finds what suspended apps take over when they are resumed, in which clusters. Where that is not known, nothing is cleared.
async fn take_over(context: &Context, state: &mut Unsettled, rows: Vec<SiblingRow>) -> anyhow::Result<()> {
    for row in rows {
        let name: Arc<str> = row.sibling.app.as_str().into();
        let why =
            || format!("{name}, of the same source, is suspended, and what it would take over is not known");
        let (Some(app), Some(content)) = (context.store.resource(row.app).await?, row.content) else {
            continue;
        };
        match gather::claims_to_come(context, &Arc::new(app), content).await? {
            Some(to_come) => {
                for cluster in to_come.unreadable {
                    state.clusters.entry(cluster.0).or_insert_with(why);
                }
                for (set, clusters) in to_come.sets {
                    for cluster in clusters {
                        let pending = state.pending.entry(cluster.0).or_default();
                        pending.extend(set.keys.iter().map(|key| (key.clone(), name.clone())));
                    }
                }
            }
            None => state.everywhere = Some(why()),
        }
    }
    Ok(())
}

/// An app that is held.
struct HeldApp {
    app: Uuid,
    /// Names of the clusters where that matters; `None`: wherever it is, or is to be.
    clusters: Option<BTreeSet<String>>,
    why: String,
}

impl HeldApp {
    fn of(row: SiblingRow, standing: Standing) -> Option<Self> {
        let (clusters, why) = match standing {
            Standing::Held(why) => (None, why),
            Standing::HeldIn(clusters, why) => (Some(clusters), why),
            Standing::Settled | Standing::Soon(_) => return None,
        };
        Some(Self {
            app: row.app,
            clusters,
            why,
        })
    }

    fn is_in(&self, cluster: &str) -> bool {
        self.clusters
            .as_ref()
            .is_none_or(|clusters| clusters.contains(cluster))
    }
}

/// Finds the clusters in which apps that are held have a unit, or are to have one.
async fn place(context: &Context, state: &mut Unsettled, rows: Vec<HeldApp>) -> anyhow::Result<()> {
    let everywhere = rows.iter().filter(|row| row.clusters.is_none());
    let whys: BTreeMap<Uuid, &String> = everywhere.map(|row| (row.app, &row.why)).collect();
    let apps: Vec<Uuid> = whys.keys().copied().collect();
    for (app, cluster) in context.store.clusters_of_apps(&apps).await? {
        if let Some(why) = whys.get(&app) {
            state.clusters.entry(cluster).or_insert_with(|| (*why).clone());
        }
    }
    for row in &rows {
        let Some(app) = context.store.resource(row.app).await? else {
            continue;
        };
        match gather::placements_now(context, &Arc::new(app)).await? {
            Ok(placed) => {
                let chosen = placed.chosen.iter().filter(|chosen| row.is_in(&chosen.name));
                let chosen = chosen.map(|chosen| chosen.id);
                for cluster in chosen.chain(placed.unreadable.keys().copied()) {
                    state.clusters.entry(cluster.0).or_insert_with(|| row.why.clone());
                }
            }
            // Where it belongs is not known.
            Err(_) => state.everywhere = Some(row.why.clone()),
        }
    }
    Ok(())
}
