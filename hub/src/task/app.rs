//! Reconciles one app: renders what is due, gathers, decides in `core`, commits. What is rendered is shared by all
//! clusters; a decision that changes nothing writes nothing.

use flotilla_api::kinds::kustomization::KustomizationSpec;
use flotilla_core::{
    app::{admission, decide},
    claim::Claims,
    rollout::{
        plan::{Input, Planned},
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
    queue::Outcome,
    removal,
    render::{self, RenderStatus},
    rollouts,
};
use crate::{
    store::{
        StoreError,
        content::Blob,
        plan::{AppPlan, Commit, OUTDATED, Unchanged},
        resource::ResourceRow,
        work::{HELD, Lease},
    },
    trace::{self, Past},
};

/// So often a plan is made anew because something has changed meanwhile, whatever that was. One that changes all the time
/// is then planned as long as its spec and what it renders to have not.
const STRICT: usize = 3;

/// Reconciles one app. What goes wrong is shown on the app, unless trying again is all that it needs.
pub async fn reconcile(context: &Context, uid: Uuid) -> anyhow::Result<Outcome> {
    for _ in 0..STRICT {
        let made = reconcile_once(context, uid, true).await;
        let conflict = made.as_ref().err().and_then(|error| error.downcast_ref());
        if !matches!(conflict, Some(StoreError::Conflict(OUTDATED))) {
            return made;
        }
    }
    reconcile_once(context, uid, false).await
}

/// Plans an app once; `strict`: it is not committed where anything has changed since it was begun.
async fn reconcile_once(context: &Context, uid: Uuid, strict: bool) -> anyhow::Result<Outcome> {
    // The plan first: a plan made from an older spec than another replica's fails its compare-and-set, and what changes
    // from here on has the app planned again.
    let recorded = match context.store.take_plan(uid, &context.replica).await? {
        Lease::Held(recorded) => recorded,
        Lease::Others => return Ok(Outcome::After(HELD)),
        Lease::Settled => return Ok(Outcome::Done),
    };
    let app = context.store.resource(uid).await?;
    let Some(app) = app.filter(ResourceRow::is_app) else {
        if let Some(change) = recorded.due {
            context.store.planned(uid, change, "").await?;
        }
        return Ok(Outcome::Done);
    };
    let mark = strict.then_some(recorded.due);
    if let Some(policy) = &app.deletion {
        return removal::plan(context, &app, &recorded, mark, policy).await;
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
        made = reconcile_app(context, &app, &recorded, mark) => made,
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
                ..recorded
            };
            match hold(context, &app, &recorded, vec![why]).await {
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
    app: &ResourceRow,
    recorded: &AppPlan,
    mark: Option<Option<i64>>,
) -> anyhow::Result<Outcome> {
    let spec: KustomizationSpec = serde_json::from_value(app.spec.clone())
        .map_err(|e| StoreError::corrupt(format!("spec of {}", app.display()), e))?;
    let placed = match gather::placements(context, app).await? {
        Ok(placed) => placed,
        // Where it belongs is not known: nothing is planned.
        Err(problem) => return hold(context, app, recorded, vec![problem]).await,
    };
    // What is recorded of its source is of a backup: planned from that, it would go back in time, also where the app is new
    // to this hub and not to its clusters.
    if recorded.is_any_unconfirmed && context.store.awaits_source(app.uid).await? {
        return hold(context, app, recorded, vec![Waiting::Restored]).await;
    }
    let unsupported = app.not_supported.iter().map(|what| Waiting::NotSupported {
        object: None,
        what: what.clone(),
    });
    let mut problems: Vec<Waiting> = unsupported.collect();
    let rendered = if problems.is_empty() {
        let substitutes = spec.post_build.is_some() || placed.overrides_variables;
        render::reconcile(context, app, &spec, substitutes).await?
    } else {
        RenderStatus::held(Vec::new())
    };
    let Some(admitted) = rendered.admission else {
        // It is said of the app alone: nothing is written for each of its units because of what passes.
        if let Some(why) = rendered.waiting {
            // It stays marked: it is not planned yet.
            let recorded = AppPlan {
                due: None,
                ..recorded.clone()
            };
            hold(context, app, &recorded, vec![why]).await?;
            context.store.give_back_plan(app.uid, &context.replica).await?;
        }
        return Ok(rendered.outcome);
    };
    let layers = match gather::layers(context, app, &spec).await? {
        Ok(layers) => layers,
        Err(problem) => {
            problems.push(problem);
            Layers::default()
        }
    };
    let admission = admission(admitted, problems);
    let settings = gather::settings(&spec);
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
            };
            gather::ownership(context, &owned).await?
        }
    };
    let began = OffsetDateTime::now_utc();
    let input = Input {
        admission,
        settings,
        layers: layers.layers,
        suspended: app.is_suspended(),
        requested: app.requested_at.clone(),
        chosen: placed.chosen,
        unreadable: placed.unreadable,
        draining: placed.draining,
        deletion_policy: gather::deletion_policy(&spec),
        units: recorded.units.clone(),
        withheld: ownership.withheld,
    };
    let decision = decide(&input, placed.named)
        .map_err(|problem| anyhow::anyhow!("the plan of {} is refused: {problem}", app.display()))?;
    let mut claims = ownership.claims;
    removal::claim_nothing(context, &decision.planned, &mut claims).await?;
    let admitted = input.admission.admitted();
    let commit = Commit {
        app_uid: app.uid,
        app: app.as_app(),
        recorded,
        generation: app.generation,
        planned: &decision.planned,
        claims: &claims,
        configs: configs(&layers.configs, &decision.planned),
        revision_id: admitted.map(|admitted| admitted.revision),
        content: admitted.map(|admitted| admitted.content),
        waiting: &decision.waiting,
        // One that is held keeps what the backup says, which is not what its units have.
        confirms: recorded.is_unconfirmed && admitted.is_some(),
        handled: &app.requested_at,
        unchanged: Some(Unchanged {
            mark,
            content: admitted.map(|admitted| admitted.content),
        }),
    };
    self::commit(context, app, &commit).await?;
    if !decision.planned.units.is_empty() {
        let name = app.display();
        let (units, rollout) = (decision.planned.units.len(), decision.planned.is_rollout());
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
    Ok(rendered.outcome)
}

/// Values are stored with the units that name them.
fn configs<'a>(configs: &'a [Blob], planned: &Planned) -> &'a [Blob] {
    if planned.is_rollout() { configs } else { &[] }
}

/// Commits what changes anything; what changes nothing has been decided all the same.
pub(super) async fn commit(context: &Context, app: &ResourceRow, commit: &Commit<'_>) -> anyhow::Result<()> {
    let store = &context.store;
    if commit.changes_anything() {
        let turned = store.commit_plan(commit, &context.seal).await?;
        match store.end_rollouts(&turned).await {
            Ok(ended) => rollouts::ended(ended),
            // What is planned is planned: they are ended at the next look.
            Err(error) => tracing::warn!("rollouts are not ended yet: {error}"),
        }
    } else if let Some(change) = commit.recorded.due {
        store.planned(app.uid, change, commit.handled).await?;
    } else if app.handled_at != app.requested_at {
        store.handled(app.uid, &app.requested_at).await?;
    }
    Ok(())
}

/// Records why nothing of this version is published; units keep what they have.
pub(super) async fn hold(
    context: &Context,
    app: &ResourceRow,
    recorded: &AppPlan,
    waiting: Vec<Waiting>,
) -> anyhow::Result<Outcome> {
    let held = Commit {
        app_uid: app.uid,
        app: app.as_app(),
        recorded,
        generation: app.generation,
        planned: &Planned::default(),
        claims: &Claims::default(),
        configs: &[],
        revision_id: None,
        content: None,
        waiting: &waiting,
        confirms: false,
        handled: &app.requested_at,
        unchanged: Some(Unchanged {
            mark: None,
            content: None,
        }),
    };
    commit(context, app, &held).await?;
    Ok(Outcome::Done)
}
