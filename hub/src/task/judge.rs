//! Judges clusters that changed by the placements there are: which apps are to be planned for it.

use super::{Context, gather::apps_choosing};

/// Judges the clusters that are to be, all together. Nothing is asked where none is. `true`: another hub is at some.
pub async fn reconcile(context: &Context) -> anyhow::Result<bool> {
    loop {
        let (changed, others) = context.store.take_clusters(&context.replica).await?;
        if changed.is_empty() {
            return Ok(others);
        }
        let clusters: Vec<_> = changed.iter().map(|(cluster, _)| *cluster).collect();
        let apps = apps_choosing(context, &clusters).await?;
        context.store.judged_clusters(&changed, &apps).await?;
    }
}
