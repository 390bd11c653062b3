//! Publishes clusters' units, many clusters together: generation and root move only where something differs.

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Context, queue::Outcome};
use crate::trace::{self, Past};

/// Reconciles the desired states of clusters.
pub async fn reconcile(context: &Context, clusters: &[Uuid]) -> anyhow::Result<Outcome> {
    let began = OffsetDateTime::now_utc();
    for published in context.store.publish(clusters, context.incarnation).await? {
        tracing::debug!(cluster.id = %published.cluster, generation = published.generation, "desired state published");
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
    }
    Ok(Outcome::Done)
}
