//! Where an app belongs, for whoever asks why it is there, or is not: what the placements that name it say of the clusters that
//! have it, and of those that are to.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_core::{
    fleet::placement::{Candidate, Match, Placement, Search},
    id::ClusterId,
    rollout::waiting::Waiting,
};
use uuid::Uuid;

use crate::{
    store::{Store, StoreError, resource::ResourceRow},
    task::gather::{by_kube_config, candidates, of_scope, overrides_variables, resolved},
};

/// What the placements that name an app say of clusters.
pub(super) struct Judged {
    /// The first of them that leaves it open, and how.
    pub(super) unknown: Option<Waiting>,
    /// Of each cluster that can be read: each placement, and why it chooses the cluster or does not.
    pub(super) clusters: BTreeMap<ClusterId, Vec<(String, Match)>>,
    /// Why it is not known of the others.
    pub(super) unreadable: BTreeMap<ClusterId, Waiting>,
    /// The placements.
    pub(super) placements: Vec<String>,
    /// Some of them gives variables of its own.
    pub(super) overrides_variables: bool,
    /// The clusters of the part asked for that they choose, but for those that were named.
    pub(super) chosen: Vec<(Uuid, String)>,
}

/// A part of all clusters by name.
pub(super) struct Part<'a> {
    /// After this one.
    pub(super) after: &'a str,
    /// Before this one; '': to the last.
    pub(super) before: &'a str,
    /// So many of them, at most.
    pub(super) limit: usize,
}

/// Asks the placements that name `app` why they choose these clusters, or do not, and which of a part of all clusters they
/// choose beside them.
pub(super) async fn judge(
    store: &Store,
    app: &ResourceRow,
    named: &[Uuid],
    part: Option<Part<'_>>,
) -> Result<Judged, StoreError> {
    let each = match by_kube_config(store, app).await? {
        Some(own) => vec![own],
        None => {
            let rows = store.placements_of(&[Arc::new(app.clone())]).await?.concat();
            let of_scope = of_scope(app).filter(|_| rows.is_empty());
            let mut each = resolved(store, &rows).await?;
            each.extend(of_scope.map(Ok));
            each
        }
    };
    let (read, open): (Vec<_>, Vec<_>) = each.into_iter().partition(Result::is_ok);
    let read: Vec<Placement> = read.into_iter().flatten().collect();
    let mut judged = Judged {
        unknown: open.into_iter().find_map(Result::err),
        clusters: BTreeMap::new(),
        unreadable: BTreeMap::new(),
        placements: read.iter().map(|one| one.name.clone()).collect(),
        overrides_variables: overrides_variables(&read),
        chosen: Vec::new(),
    };
    if read.is_empty() {
        return Ok(judged);
    }
    if !named.is_empty() {
        let (known, unreadable) = candidates(&store.cluster_candidates(named).await?);
        let said = known.iter().map(|one| (one.id, said(&read, one)));
        judged.clusters = said.collect();
        judged.unreadable = unreadable;
    }
    if let Some(part) = part {
        let search = Search::of(&read);
        let mut found = store.clusters_between(&search, part.after, part.before).await?;
        found.retain(|row| !named.contains(&row.id));
        let (others, unreadable) = candidates(&found);
        judged.unreadable.extend(unreadable);
        let chosen = others
            .iter()
            .filter(|one| read.iter().any(|placement| placement.judge(one).chooses()));
        for one in chosen.take(part.limit) {
            judged.clusters.insert(one.id, said(&read, one));
            judged.chosen.push((one.id.0, one.name.clone()));
        }
    }
    Ok(judged)
}

/// What placements say of a cluster.
fn said(placements: &[Placement], cluster: &Candidate) -> Vec<(String, Match)> {
    let said = placements.iter();
    said.map(|one| (one.name.clone(), one.judge(cluster).in_words()))
        .collect()
}
