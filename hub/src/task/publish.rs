//! Publishes a cluster's units: generation and root move only when something differs.

use uuid::Uuid;

use super::{Context, queue::Outcome};

/// Reconciles one cluster's desired state.
pub async fn reconcile(context: &Context, cluster: Uuid) -> anyhow::Result<Outcome> {
    if let Some(generation) = context.store.publish(cluster, context.incarnation).await? {
        tracing::info!(cluster.id = %cluster, generation, "desired state published");
    }
    Ok(Outcome::Done)
}
