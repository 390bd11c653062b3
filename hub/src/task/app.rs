//! Reconciles one app: renders what is due, gathers, decides in `core`, commits. What is rendered is shared by all
//! clusters; a decision that changes nothing writes nothing.

use std::{sync::Arc, time::Duration};

use flotilla_api::kinds::kustomization::KustomizationSpec;
use flotilla_core::{
    app::{admission, decide},
    claim::Claims,
    rollout::{
        dependencies::Dependencies,
        plan::{Admission, Input, Planned},
        waiting::Waiting,
    },
    unit::Substitution,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Context,
    gather::{self, Layers, Owned, Ownership},
    is_passing,
    lease::kept,
    nest,
    planner::{Plan, Planner},
    queue::Outcome,
    removal,
    render::{self, RenderStatus},
};
use crate::{
    store::{
        StoreError,
        plan::{AppPlan, OUTDATED, Unchanged},
        resource::ResourceRow,
        work::{HELD, Lease},
    },
    trace::{self, Past},
};

/// So often a plan is made anew because something has changed meanwhile, whatever that was. One that changes all the time
/// is then planned as long as its spec and what it renders to have not.
const STRICT: usize = 3;
/// What an app needs has changed while its plan was recorded: it is planned again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Units of an app of which what clusters report is taken together.
const MANY: usize = 100;
/// What comes within this time is.
const TOGETHER: Duration = Duration::from_millis(500);

/// Reconciles one app. What goes wrong is shown on the app, unless trying again is all that it needs.
pub async fn reconcile(context: &Context, planner: &Planner, uid: Uuid) -> anyhow::Result<Outcome> {
    for _ in 0..STRICT {
        let made = reconcile_once(context, planner, uid, true).await;
        let conflict = made.as_ref().err().and_then(|error| error.downcast_ref());
        if !matches!(conflict, Some(StoreError::Conflict(OUTDATED))) {
            return made;
        }
    }
    reconcile_once(context, planner, uid, false).await
}

/// Plans an app once; `strict`: it is not committed where anything has changed since it was begun.
async fn reconcile_once(
    context: &Context,
    planner: &Planner,
    uid: Uuid,
    strict: bool,
) -> anyhow::Result<Outcome> {
    // The plan first: a plan made from an older spec than another replica's fails its compare-and-set, and what changes
    // from here on has the app planned again.
    let (lease, _turn) = planner.take_plan(uid).await?;
    let recorded = match lease {
        Lease::Held(recorded) => Arc::new(recorded),
        Lease::Others | Lease::Large(_) => return Ok(Outcome::After(HELD)),
        Lease::Settled => return Ok(Outcome::Done),
    };
    let app = planner.app(uid).await?;
    let Some(app) = app.filter(|app| app.is_app()) else {
        if let Some(change) = recorded.due {
            context.store.planned(uid, change, "").await?;
        }
        return Ok(Outcome::Done);
    };
    let mark = strict.then_some(recorded.due);
    if let Some(policy) = &app.deletion {
        return removal::plan(context, planner, &app, &recorded, mark, policy).await;
    }
    let held = async {
        // Without a mark there is nothing that another could take.
        match recorded.due {
            Some(_) => {
                let keep = || context.store.keep_plan(uid, &context.replica);
                kept(
                    HELD / 3,
                    keep,
                    "another hub may plan this app too; one of them commits",
                )
                .await;
            }
            None => std::future::pending().await,
        }
    };
    let made = tokio::select! {
        made = reconcile_app(context, planner, &app, &recorded, mark) => made,
        () = held => return Ok(Outcome::After(HELD)),
    };
    match made {
        Err(error) if !is_passing(&error) => {
            // Its outermost text alone: what is below may quote what was read.
            let why = Waiting::Failed {
                message: error.to_string(),
            };
            // It stays marked: whoever comes after this hub tries again.
            let recorded = AppPlan {
                due: None,
                ..(*recorded).clone()
            };
            match hold(context, planner, &app, &Arc::new(recorded), vec![why]).await {
                Ok(_) => Err(error),
                Err(other) => Err(other),
            }
        }
        ended => ended,
    }
}

/// `mark`: the app's mark as it was read, where that must still be it.
async fn reconcile_app(
    context: &Context,
    planner: &Planner,
    app: &Arc<ResourceRow>,
    recorded: &Arc<AppPlan>,
    mark: Option<Option<i64>>,
) -> anyhow::Result<Outcome> {
    let spec: KustomizationSpec = serde_json::from_value(app.spec.clone())
        .map_err(|e| StoreError::corrupt(format!("spec of {}", app.display()), e))?;
    let placed = match gather::placements(context, planner, app).await? {
        Ok(placed) => placed,
        // Where it belongs is not known: nothing is planned.
        Err(problem) => {
            // Nothing of it waits for its units either: it is looked at again once it has a place.
            if recorded.awaits {
                context.store.await_nothing(app.uid, None).await?;
            }
            return hold(context, planner, app, recorded, vec![problem]).await;
        }
    };
    // What is recorded of its source is of a backup: planned from that, it would go back in time, also where the app is new
    // to this hub and not to its clusters.
    if recorded.is_any_unconfirmed && context.store.awaits_source(app.uid).await? {
        return hold(context, planner, app, recorded, vec![Waiting::Restored]).await;
    }
    let unsupported = app.not_supported.iter().map(|what| Waiting::NotSupported {
        object: None,
        what: what.clone(),
    });
    let mut problems: Vec<Waiting> = unsupported.collect();
    let rendered = if problems.is_empty() {
        let substitutes = spec.post_build.is_some() || placed.overrides_variables;
        render::reconcile(context, planner, app, &spec, substitutes).await?
    } else {
        RenderStatus::held(Vec::new())
    };
    // A suspended app follows nothing, and says nothing of what it would follow: what it has stays, at once.
    let is_rendered = rendered.admission.is_some();
    let admitted = match app.is_suspended() {
        true => Some(Admission::Held(Vec::new())),
        false => rendered.admission,
    };
    let Some(admitted) = admitted else {
        // It is said of the app alone: nothing is written for each of its units because of what passes.
        if let Some(why) = rendered.waiting {
            // It stays marked: it is not planned yet.
            let recorded = AppPlan {
                due: None,
                ..(**recorded).clone()
            };
            hold(context, planner, app, &Arc::new(recorded), vec![why]).await?;
            context.store.give_back_plan(app.uid, &context.replica).await?;
        } else if rendered.is_left {
            context.store.give_back_plan(app.uid, &context.replica).await?;
        }
        return Ok(rendered.outcome);
    };
    let layers = match gather::layers(context, app, &spec, &placed.below).await? {
        Ok(layers) => layers,
        Err(problem) => {
            problems.push(problem);
            Layers::default()
        }
    };
    let admission = admission(admitted, problems);
    let mut settings = gather::settings(&spec);
    // A change of it alone is one that waits for what the app needs, too.
    settings.kept = rendered.kept;
    let ownership = match admission.admitted() {
        None => Ownership::default(),
        Some(admitted) => {
            let owned = Owned {
                app: app.uid,
                always: settings.substitution == Substitution::Always,
                content: admitted.content,
                layers: &layers,
                chosen: &placed.chosen,
                units: &recorded.units,
                manifest: rendered.manifest.as_deref(),
            };
            gather::ownership(context, planner, &owned).await?
        }
    };
    let dependencies = gather::dependencies(context, app, &spec, &placed.chosen).await?;
    let began = OffsetDateTime::now_utc();
    let input = Input {
        admission,
        settings,
        layers: layers.layers.clone(),
        suspended: app.is_suspended(),
        requested: app.requested_at.clone(),
        chosen: placed.chosen,
        unreadable: placed.unreadable,
        draining: placed.draining,
        retiring: placed.retiring,
        deletion_policy: gather::deletion_policy(&spec),
        units: recorded.units.clone(),
        withheld: ownership.withheld,
        dependencies,
    };
    let decision = decide(&input, placed.named, &placed.departing)
        .map_err(|problem| anyhow::anyhow!("the plan of {} is refused: {problem}", app.display()))?;
    // Before the plan: what waits for a unit is recorded before that has anything to apply.
    let rendering = nest::Rendering {
        app,
        recorded,
        spec: &spec,
        kept: rendered.kept,
        layers: &layers,
        input: &input,
        below: &placed.below,
        planned: &decision.planned,
        is_held: decision.is_held,
    };
    let nested = nest::reconcile(context, &rendering).await?;
    let recorded = &nested.recorded;
    let mut waiting = decision.waiting;
    waiting.extend(nested.problems);
    let mut claims = ownership.claims;
    removal::claim_nothing(context, &decision.planned, &mut claims).await?;
    let admitted = input.admission.admitted();
    let mut needing = waiting.iter().filter(|why| why.is_of_dependency());
    // In some clusters alone, or everywhere.
    let (is_waiting, waits_somewhere) = match needing.all(Waiting::is_of_one_cluster) {
        true => (false, waiting.iter().any(Waiting::is_of_dependency)),
        false => (true, false),
    };
    let (units, rollout) = (decision.planned.units.len(), decision.planned.is_rollout());
    let plan = Plan {
        app: app.clone(),
        // It stays marked until it is rendered, and who waits for others too: that they have moved on may be told before this is
        // recorded.
        recorded: match is_waiting || waits_somewhere || !is_rendered {
            true => Arc::new(AppPlan {
                due: None,
                ..(**recorded).clone()
            }),
            false => recorded.clone(),
        },
        planned: decision.planned,
        claims,
        // Values are stored with the units that name them.
        configs: if rollout { layers.configs } else { Vec::new() },
        revision_id: admitted.map(|admitted| admitted.revision),
        content: admitted.map(|admitted| admitted.content),
        waiting,
        // One that is held keeps what the backup says, which is not what its units have.
        confirms: recorded.is_unconfirmed && admitted.is_some() && !is_waiting && !waits_somewhere,
        unchanged: Unchanged {
            mark,
            content: admitted.map(|admitted| admitted.content),
        },
    };
    commit(context, planner, plan).await?;
    // What it waits for may have been planned after it was read and before this was recorded, and had nobody to tell then.
    if is_waiting
        && gather::dependencies(context, app, &spec, &input.chosen)
            .await?
            .unready
            != input.dependencies.unready
    {
        return Ok(Outcome::Again);
    }
    if waits_somewhere && is_rendered {
        // Whatever moves on from here on wakes it: its mark may go where nothing has before. Those that need it in turn would
        // wait everywhere for as long as it has one.
        let now = gather::dependencies(context, app, &spec, &input.chosen).await?;
        let stands = |one: &Dependencies| (one.unready.clone(), one.unready_in.clone());
        match recorded.due {
            Some(change) if stands(&now) == stands(&input.dependencies) => {
                context.store.planned(app.uid, change, &app.requested_at).await?;
            }
            _ => {
                context.store.give_back_plan(app.uid, &context.replica).await?;
                return Ok(Outcome::After(AGAIN));
            }
        }
    }
    if is_waiting || !is_rendered && (rendered.is_left || rendered.waiting.is_some()) {
        context.store.give_back_plan(app.uid, &context.replica).await?;
    }
    if units > 0 {
        let name = app.display();
        tracing::info!(app = %name, units, rollout, "planned");
        trace::past(&Past {
            name: "plan",
            revision: &rendered.revision,
            app: &name,
            cluster: "",
            began,
            ended: OffsetDateTime::now_utc(),
        });
    }
    Ok(together(rendered.outcome, recorded.awaits, input.units.len()))
}

/// An app that waits for what its clusters report is planned again with each of them that has applied what it is to have, and
/// reads all: of many clusters what comes within a moment is taken together.
fn together(outcome: Outcome, awaits: bool, units: usize) -> Outcome {
    match outcome {
        Outcome::Done if awaits && units > MANY => Outcome::Rest(TOGETHER),
        outcome => outcome,
    }
}

/// Commits what changes anything; what changes nothing has been decided all the same.
pub(super) async fn commit(context: &Context, planner: &Planner, plan: Plan) -> anyhow::Result<()> {
    let (store, app) = (&context.store, plan.app.clone());
    if plan.commit().changes_anything() {
        planner.commit(plan).await?;
    } else if let Some(change) = plan.recorded.due {
        store.planned(app.uid, change, &app.requested_at).await?;
    } else if app.handled_at != app.requested_at {
        store.handled(app.uid, &app.requested_at).await?;
    }
    Ok(())
}

/// Records why nothing of this version is published; units keep what they have.
pub(super) async fn hold(
    context: &Context,
    planner: &Planner,
    app: &Arc<ResourceRow>,
    recorded: &Arc<AppPlan>,
    waiting: Vec<Waiting>,
) -> anyhow::Result<Outcome> {
    let held = Plan {
        app: app.clone(),
        recorded: recorded.clone(),
        planned: Planned::default(),
        claims: Claims::default(),
        configs: Vec::new(),
        revision_id: None,
        content: None,
        waiting,
        confirms: false,
        unchanged: Unchanged {
            mark: None,
            content: None,
        },
    };
    commit(context, planner, held).await?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_waits_for_many_clusters_takes_together_what_they_report() {
        assert_eq!(together(Outcome::Done, true, MANY + 1), Outcome::Rest(TOGETHER));
        for (awaits, units) in [(true, MANY), (false, MANY + 1)] {
            assert_eq!(together(Outcome::Done, awaits, units), Outcome::Done);
        }
        let later = Outcome::After(TOGETHER);
        assert_eq!(together(later, true, MANY + 1), later);
        assert_eq!(together(Outcome::Again, true, MANY + 1), Outcome::Again);
    }
}
