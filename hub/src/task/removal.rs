//! Plans an app that is to be deleted: its units are removed, or let go of, as its deletion policy says. What it is rendered
//! from is not looked at any more.

use flotilla_core::{
    claim::{Claims, Keyset},
    id::ClusterId,
    removal::DeletionPolicy,
    rollout::{
        removal::{nothing, plan_removal},
        waiting::Waiting,
    },
    unit::UnitState,
};

use super::{
    Context,
    app::{commit, hold},
    queue::Outcome,
};
use crate::store::{
    Topic,
    plan::{AppPlan, Commit, Unchanged},
    resource::ResourceRow,
};

pub(super) async fn plan(
    context: &Context,
    app: &ResourceRow,
    recorded: &AppPlan,
    mark: Option<Option<i64>>,
    policy: &str,
) -> anyhow::Result<Outcome> {
    let Some(policy) = DeletionPolicy::parse(policy) else {
        // One of a newer hub: nothing is done before that one does it.
        let what = Waiting::NotSupported {
            object: None,
            what: format!("the deletion policy {policy}"),
        };
        return hold(context, app, recorded, vec![what]).await;
    };
    let planned = plan_removal(&recorded.units, policy, app.is_suspended());
    let removed = planned
        .units
        .iter()
        .filter(|unit| matches!(unit.state, UnitState::Removing(_)));
    let clusters: Vec<ClusterId> = removed.map(|unit| unit.cluster).collect();
    let content = nothing();
    if !clusters.is_empty() {
        context.store.put_nothing(&content, &context.seal).await?;
    }
    let plan = Commit {
        app_uid: app.uid,
        app: app.as_app(),
        recorded,
        generation: app.generation,
        planned: &planned,
        claims: &Claims::of(vec![(Keyset::of(Vec::new()), clusters)]),
        configs: &[],
        revision_id: None,
        content: Some(content.digest()).filter(|_| planned.is_rollout()),
        waiting: &[],
        // A person has said so since: a restore goes on with no deletion of its backup.
        confirms: recorded.is_unconfirmed,
        handled: &app.requested_at,
        unchanged: Some(Unchanged { mark, content: None }),
    };
    commit(context, app, &plan).await?;
    context.store.wake(Topic::Leaving, &[app.uid]).await?;
    Ok(Outcome::Done)
}
