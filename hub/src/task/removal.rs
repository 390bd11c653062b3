//! Plans an app that is to be deleted: its units are removed, or let go of, as its deletion policy says. What it is rendered
//! from is not looked at any more.

use std::sync::Arc;

use flotilla_core::{
    claim::{Claims, Keyset},
    id::ClusterId,
    removal::DeletionPolicy,
    rollout::{
        plan::Planned,
        removal::{deletes, nothing, plan_removal},
        waiting::Waiting,
    },
    unit::UnitState,
};
use serde_json::Value;

use super::{
    Context,
    app::{commit, hold},
    planner::{Plan, Planner},
    queue::Outcome,
};
use crate::store::{
    Topic,
    plan::{AppPlan, Unchanged},
    resource::ResourceRow,
};

pub(super) async fn plan(
    context: &Context,
    planner: &Planner,
    app: &Arc<ResourceRow>,
    recorded: &Arc<AppPlan>,
    mark: Option<Option<i64>>,
    policy: &str,
) -> anyhow::Result<Outcome> {
    let Some(policy) = DeletionPolicy::parse(policy) else {
        // One of a newer hub: nothing is done before that one does it.
        let what = Waiting::NotSupported {
            object: None,
            what: format!("the deletion policy {policy}"),
        };
        return hold(context, planner, app, recorded, vec![what]).await;
    };
    if recorded.awaits {
        context.store.await_nothing(app.uid, None).await?;
    }
    let mut raised = recorded.clone();
    if recorded.keeps {
        Arc::make_mut(&mut raised).version += 1;
        // Children before what their parent has applied itself.
        if deletes(policy, app.is_suspended(), prunes(&app.spec)) {
            let left = context.store.delete_kept(app, recorded.version).await?;
            if let Some(first) = left.first() {
                let remains = Waiting::KeptRemains {
                    first: first.clone(),
                    count: left.len(),
                };
                return hold(context, planner, app, &raised, vec![remains]).await;
            }
        } else {
            context.store.release_kept(app, recorded.version).await?;
        }
    }
    let recorded = &raised;
    let planned = plan_removal(&recorded.units, policy, app.is_suspended(), prunes(&app.spec));
    let mut claims = Claims::default();
    claim_nothing(context, &planned, &mut claims).await?;
    let plan = Plan {
        app: app.clone(),
        recorded: recorded.clone(),
        claims,
        configs: Vec::new(),
        revision_id: None,
        content: Some(nothing().digest()).filter(|_| planned.is_rollout()),
        planned,
        waiting: Vec::new(),
        // A person has said so since: a restore goes on with no deletion of its backup.
        confirms: recorded.is_unconfirmed,
        unchanged: Unchanged { mark, content: None },
    };
    commit(context, planner, plan).await?;
    context.store.wake(Topic::Leaving, &[app.uid]).await?;
    Ok(Outcome::Done)
}

/// Whether an app prunes, by what it says now.
fn prunes(spec: &Value) -> bool {
    spec.get("prune") == Some(&Value::Bool(true))
}

/// Has units that are to be removed claim nothing; the content that they get is stored before them.
pub(super) async fn claim_nothing(
    context: &Context,
    planned: &Planned,
    claims: &mut Claims,
) -> anyhow::Result<()> {
    let removed = planned
        .units
        .iter()
        .filter(|unit| matches!(unit.state, UnitState::Removing(_)));
    let clusters: Vec<ClusterId> = removed.map(|unit| unit.cluster).collect();
    if !clusters.is_empty() {
        context.store.put_nothing(&nothing(), &context.seal).await?;
        claims.add(Keyset::of(Vec::new()), clusters);
    }
    Ok(())
}
