//! Reconciles one app: renders what is due, then plans its units. What is rendered is shared by all clusters.

use flotilla_api::kinds::kustomization::KustomizationSpec;
use flotilla_core::{
    rollout::{
        plan::{Admitted, Input, Planned, check, plan},
        waiting::Waiting,
    },
    unit::Substitution,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Context,
    plan::{self, Gathered},
    queue::Outcome,
    render,
};
use crate::{
    store::{StoreError, plan::Commit, resource::ResourceRow},
    trace::{self, Past},
};

/// Reconciles one app.
pub async fn reconcile(context: &Context, uid: Uuid) -> anyhow::Result<Outcome> {
    let Some(app) = context.store.resource(uid).await? else {
        return Ok(Outcome::Done);
    };
    if app.kind != "Kustomization" {
        return Ok(Outcome::Done);
    }
    let recorded = context.store.app_plan(uid).await?;
    let spec: KustomizationSpec = serde_json::from_value(app.spec.clone())
        .map_err(|e| StoreError::corrupt(format!("spec of {}", app.display()), e))?;
    let mut waiting = not_supported(&app);
    if !waiting.is_empty() {
        return hold(context, &app, recorded.version, waiting).await;
    }
    let placed = plan::placements(context, &app).await?;
    if let Some(problem) = placed.not_supported {
        return hold(context, &app, recorded.version, vec![problem]).await;
    }
    let substitutes = spec.post_build.is_some() || placed.overrides_variables;
    let rendered = render::ensure(context, &app, &spec, substitutes).await?;
    waiting.extend(rendered.waiting);
    let layers = match plan::layers(context, &app, &spec).await? {
        Ok(layers) => layers,
        Err(problem) => return hold(context, &app, recorded.version, vec![problem]).await,
    };
    if placed.chosen.is_empty() {
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
        admitted: rendered.admitted,
    };
    let content = gathered.admitted.map(|admitted: Admitted| admitted.content);
    let ownership = plan::ownership(context, &app, &spec, &gathered).await?;
    let input = Input {
        content: gathered.admitted,
        settings: plan::settings(&spec),
        layers: gathered.layers.layers.clone(),
        suspended: app.is_suspended(),
        requested: app.requested_at.clone(),
        chosen: gathered.chosen.clone(),
        units: recorded.units,
        withheld: ownership.withheld,
    };
    debug_assert!(substitutes || input.settings.substitution == Substitution::Off);
    let planned = plan(&input);
    check(&input, &planned)
        .map_err(|problem| anyhow::anyhow!("the plan of {} is refused: {problem}", app.display()))?;
    context
        .store
        .commit_plan(
            &Commit {
                app_uid: uid,
                version: recorded.version,
                generation: app.generation,
                planned: &planned,
                claims: &ownership.claims,
                configs: &gathered.layers.configs,
                revision_id: gathered.admitted.map(|admitted| admitted.revision),
                content,
                waiting: &waiting,
            },
            &context.seal,
        )
        .await?;
    context.store.handled(uid, &app.requested_at).await?;
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
