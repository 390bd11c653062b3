//! Publishes a cluster's units: generation and root move only when something differs.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Context, queue::Outcome};
use crate::trace::{self, Past};

/// Reconciles one cluster's desired state.
pub async fn reconcile(context: &Context, cluster: Uuid) -> anyhow::Result<Outcome> {
    let began = OffsetDateTime::now_utc();
    let Some(published) = context.store.publish(cluster, context.incarnation).await? else {
        return Ok(Outcome::Done);
    };
    tracing::info!(cluster.id = %cluster, generation = published.generation, "desired state published");
    if trace::is_exported() {
        let ended = OffsetDateTime::now_utc();
        for unit in context.store.traced(&published.changed).await? {
            trace::past(&Past {
                name: "publish",
                revision: &unit.revision,
                app: &unit.app,
                cluster: &unit.cluster,
                began,
                ended,
            });
        }
    }
    Ok(Outcome::Done)
}
