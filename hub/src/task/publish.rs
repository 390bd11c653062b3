//! Publishes clusters' units, many clusters together: generation and root move only where something differs.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Context, queue::Outcome};
use crate::{
    index::Index,
    trace::{self, Past},
};

/// Before a cluster's next state is published: what changes meanwhile goes with it. A state by itself is one turn of the
/// database, the stream, the agent and its ledger, whatever it holds.
const REST: Duration = Duration::from_millis(200);

/// Reconciles the desired states of clusters. Whoever watches them here hears of it at once.
pub async fn reconcile(context: &Context, index: &Index, clusters: &[Uuid]) -> anyhow::Result<Outcome> {
    let began = OffsetDateTime::now_utc();
    index.publishes(clusters);
    let all = context.store.publish(clusters, context.incarnation).await?;
    let outcome = match all.is_empty() {
        true => Outcome::Done,
        false => Outcome::Rest(REST),
    };
    let mut changed = Vec::new();
    for published in all {
        tracing::debug!(cluster.id = %published.cluster, generation = published.generation, "desired state published");
        if trace::is_exported() {
            changed.extend(published.entries.iter().map(|entry| entry.unit));
        }
        index.published(published);
    }
    if !changed.is_empty() {
        let ended = OffsetDateTime::now_utc();
        for unit in context.store.traced(&changed).await? {
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
    Ok(outcome)
}
