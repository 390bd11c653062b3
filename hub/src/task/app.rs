//! Reconciles one app: renders what is due, then plans its units. What is rendered is shared by all clusters.

use flotilla_api::kinds::kustomization::KustomizationSpec;
use flotilla_core::{
    rollout::{
        plan::{Admission, Admitted, Input, Planned, check, plan, unplaced},
        waiting::Waiting,
    },
    unit::Substitution,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Context, is_passing,
    plan::{self, Gathered, Layers},
    queue::Outcome,
    render::{self, Ensured},
};
use crate::{
    store::{
        StoreError,
        plan::{AppPlan, Commit},
        resource::ResourceRow,
    },
    trace::{self, Past},
};

/// Reconciles one app. What goes wrong is shown on the app, unless trying again is all that it needs.
pub async fn reconcile(context: &Context, uid: Uuid) -> anyhow::Result<Outcome> {
    // The plan first: a plan made from an older spec than another replica's fails its compare-and-set.
    let recorded = context.store.app_plan(uid).await?;
    let Some(app) = context.store.resource(uid).await? else {
        return Ok(Outcome::Done);
    };
    if app.kind != "Kustomization" {
        return Ok(Outcome::Done);
    }
    let version = recorded.version;
    match reconcile_app(context, &app, recorded).await {
        Err(error) if !is_passing(&error) => {
            // Its outermost text alone: what is below may quote what was read.
            let why = Waiting::Failed(error.to_string());
            match hold(context, &app, version, vec![why]).await {
                Ok(_) => Err(error),
                Err(other) => Err(other),
            }
        }
        ended => ended,
    }
}

async fn reconcile_app(context: &Context, app: &ResourceRow, recorded: AppPlan) -> anyhow::Result<Outcome> {
    let spec: KustomizationSpec = serde_json::from_value(app.spec.clone())
        .map_err(|e| StoreError::corrupt(format!("spec of {}", app.display()), e))?;
    let placed = match plan::placements(context, app).await? {
        Ok(placed) => placed,
        // Where it belongs is not known: nothing is planned.
        Err(problem) => return hold(context, app, recorded.version, vec![problem]).await,
    };
    let substitutes = spec.post_build.is_some() || placed.overrides_variables;
    let unsupported = not_supported(app);
    let rendered = if unsupported.is_empty() {
        render::ensure(context, app, &spec, substitutes).await?
    } else {
        Ensured {
            admission: Some(Admission::Held(unsupported)),
            revision: String::new(),
            outcome: Outcome::Done,
        }
    };
    let Some(mut admission) = rendered.admission else {
        return Ok(rendered.outcome);
    };
    let layers = match plan::layers(context, app, &spec).await? {
        Ok(layers) => layers,
        Err(problem) => {
            admission = held_also(admission, problem);
            Layers::default()
        }
    };
    let mut waiting = match &admission {
        Admission::Held(reasons) => reasons.clone(),
        Admission::Admitted(_) => Vec::new(),
    };
    if placed.chosen.is_empty() && placed.unreadable.is_empty() {
        waiting.push(if placed.named {
            Waiting::NoClusterMatches
        } else {
            Waiting::NoTarget
        });
    }
    let began = OffsetDateTime::now_utc();
    let gathered = Gathered {
        layers,
        chosen: placed.chosen,
        admitted: admission.admitted(),
    };
    let ownership = plan::ownership(context, app, &spec, &gathered).await?;
    let input = Input {
        admission,
        settings: plan::settings(&spec),
        layers: gathered.layers.layers.clone(),
        suspended: app.is_suspended(),
        requested: app.requested_at.clone(),
        chosen: gathered.chosen.clone(),
        unreadable: placed.unreadable,
        units: recorded.units,
        withheld: ownership.withheld,
    };
    debug_assert!(substitutes || input.settings.substitution == Substitution::Off);
    waiting.extend(unplaced(&input));
    let planned = plan(&input);
    check(&input, &planned)
        .map_err(|problem| anyhow::anyhow!("the plan of {} is refused: {problem}", app.display()))?;
    context
        .store
        .commit_plan(
            &Commit {
                app_uid: app.uid,
                version: recorded.version,
                generation: app.generation,
                planned: &planned,
                claims: &ownership.claims,
                configs: &gathered.layers.configs,
                revision_id: gathered.admitted.map(|admitted| admitted.revision),
                content: gathered.admitted.map(|admitted: Admitted| admitted.content),
                waiting: &waiting,
            },
            &context.seal,
        )
        .await?;
    context.store.handled(app.uid, &app.requested_at).await?;
    if !planned.units.is_empty() {
        let name = app.display();
        tracing::info!(app = %name, units = planned.units.len(), rollout = planned.is_rollout(), "planned");
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

/// One more reason to hold; a suspended app is held without any.
fn held_also(admission: Admission, problem: Waiting) -> Admission {
    match admission {
        Admission::Admitted(_) => Admission::Held(vec![problem]),
        Admission::Held(mut reasons) => {
            reasons.push(problem);
            Admission::Held(reasons)
        }
    }
}

fn not_supported(app: &ResourceRow) -> Vec<Waiting> {
    app.not_supported
        .iter()
        .map(|what| Waiting::NotSupported(what.clone()))
        .collect()
}

/// Records why nothing of this version is published; units keep what they have.
async fn hold(
    context: &Context,
    app: &ResourceRow,
    version: u64,
    waiting: Vec<Waiting>,
) -> anyhow::Result<Outcome> {
    let commit = Commit {
        app_uid: app.uid,
        version,
        generation: app.generation,
        planned: &Planned::default(),
        claims: &std::collections::BTreeMap::new(),
        configs: &[],
        revision_id: None,
        content: None,
        waiting: &waiting,
    };
    context.store.commit_plan(&commit, &context.seal).await?;
    context.store.handled(app.uid, &app.requested_at).await?;
    Ok(Outcome::Done)
}
