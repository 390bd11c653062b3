//! Whole lists from the hub, which gives them in pages.

use flotilla_proto::fleet::v1::{
    Cluster, HeldTarget, ListClustersRequest, ListHistoryRequest, ListResourcesRequest, ListUnitsRequest,
    Resource, Unit,
};

use crate::client::Fleet;
use crate::error::CommandError;

/// How many objects to ask for at once.
pub(crate) const PAGE: u32 = 500;

/// Fetches all pages of resources.
pub(crate) async fn resources(
    fleet: &mut Fleet,
    mut request: ListResourcesRequest,
) -> Result<Vec<Resource>, CommandError> {
    let mut all = Vec::new();
    loop {
        let page = fleet.list_resources(request.clone()).await?.into_inner();
        all.extend(page.resources);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// Fetches all pages of clusters.
pub(crate) async fn clusters(
    fleet: &mut Fleet,
    name: &str,
    selector: &str,
) -> Result<Vec<Cluster>, CommandError> {
    let mut request = ListClustersRequest {
        name: name.to_owned(),
        label_selector: selector.to_owned(),
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut all = Vec::new();
    loop {
        let page = fleet.list_clusters(request.clone()).await?.into_inner();
        all.extend(page.clusters);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// Fetches all pages of units.
pub(crate) async fn units(
    fleet: &mut Fleet,
    mut request: ListUnitsRequest,
) -> Result<Vec<Unit>, CommandError> {
    let mut all = Vec::new();
    loop {
        let page = fleet.list_units(request.clone()).await?.into_inner();
        all.extend(page.units);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// Fetches as many targets that were held as are asked for, the newest first.
pub(crate) async fn history(
    fleet: &mut Fleet,
    mut request: ListHistoryRequest,
    limit: u32,
) -> Result<Vec<HeldTarget>, CommandError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    loop {
        let left = limit.saturating_sub(all.len());
        request.page_size = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = fleet.list_history(request.clone()).await?.into_inner();
        all.extend(page.held);
        if page.next_page_token.is_empty() || all.len() >= limit {
            all.truncate(limit);
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}
