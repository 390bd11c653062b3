//! `flotilla.fleet.v1`: what CLI and page use. Every call shows a bearer token; every page is bounded.

mod apply;
pub mod counts;
mod delete;
mod departure;
mod explain;
mod history;
mod reconcile;
mod removals;
mod status;
pub(super) mod views;

use std::{pin::Pin, sync::Arc, time::Duration};

use flotilla_core::fleet::selector::Selector;
use flotilla_proto::fleet::v1::{self as wire, fleet_service_server::FleetService};
use futures::Stream;
use tokio::{sync::broadcast, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use self::counts::Counts;
use super::status::from_store;
use crate::{
    auth::{
        ca::Authority,
        gate::{Principal, still_valid},
        seal::Seal,
        token,
    },
    store::{
        Store, Topic,
        cluster::Decision,
        enrol::NewToken,
        event::EventFilter,
        query::{ResourceFilter, UnitFilter},
        resource::{FLEET, ResourceRow},
    },
    task::{receivers::Registered, render::Engine, watchers::Watchers},
};

const DEFAULT_PAGE: u32 = 500;
const MAX_PAGE: u32 = 1000;
const DEFAULT_TTL: u32 = 15 * 60;
const MAX_TTL: u32 = 24 * 3600;

/// The service.
#[derive(Clone)]
pub struct Fleet {
    /// Store.
    pub store: Store,
    /// Seals what is applied.
    pub seal: Arc<Seal>,
    /// Permanent key of the digests of Secrets.
    pub digest_key: [u8; 32],
    /// For pins and the trust domain.
    pub authority: Arc<Authority>,
    /// Where agents reach this hub, `https://host:port`.
    pub endpoint: String,
    /// Wake-ups, for Watch.
    pub topics: broadcast::Sender<Topic>,
    /// For whoever waits for one thing.
    pub watchers: Watchers,
    /// Where receivers are called.
    pub receivers: Registered,
    /// Counts of units.
    pub counts: Counts,
    /// The rendering engines: what apps ask for is named by them.
    pub renderer: Arc<Engine>,
}

/// Where a watch stands.
struct Watched {
    fleet: Fleet,
    topics: broadcast::Receiver<Topic>,
    principal: Principal,
    seq: i64,
    /// What was told last, and when it is told once more: a list fetched before may have shown late counts.
    late: Option<(Topic, Instant)>,
}

impl Watched {
    async fn next(mut self) -> Result<Option<(wire::WatchEvent, Self)>, Status> {
        let told = match self.late {
            None => self.topics.recv().await,
            Some((topic, at)) => match tokio::time::timeout_at(at, self.topics.recv()).await {
                Ok(told) => told,
                Err(_) => {
                    self.late = None;
                    return Ok(Some(self.event(topic)));
                }
            },
        };
        let topic = match told {
            Ok(topic) => topic,
            // A slow watcher that lost some is told once: it lists again either way.
            Err(broadcast::error::RecvError::Lagged(_)) => Topic::Resource,
            Err(broadcast::error::RecvError::Closed) => return Ok(None),
        };
        if topic == Topic::Credential {
            still_valid(&self.fleet.store, &self.principal).await?;
        }
        let is_late = self.fleet.counts.may_be_late();
        self.late = is_late.then(|| (topic, Instant::now() + counts::LATEST));
        Ok(Some(self.event(topic)))
    }

    fn event(mut self, topic: Topic) -> (wire::WatchEvent, Self) {
        let event = wire::WatchEvent {
            topic: topic.as_str().to_owned(),
            seq: self.seq,
        };
        self.seq += 1;
        (event, self)
    }
}

/// Who calls, as the gate before this service found.
fn principal<T>(request: &Request<T>) -> Result<Principal, Status> {
    let found = request.extensions().get::<Principal>();
    found
        .cloned()
        .ok_or_else(|| Status::unauthenticated("a bearer token is needed"))
}

impl Fleet {
    /// The scope that people name by a cluster, or by nothing.
    async fn scope(&self, name: &str) -> Result<Uuid, Status> {
        if name.is_empty() {
            return Ok(FLEET);
        }
        match self.store.cluster_by_name(name).await.map_err(from_store)? {
            Some(cluster) => Ok(cluster.id),
            None => Err(unregistered(name)),
        }
    }

    /// An app of the fleet, else one in the scope of the cluster that is asked about.
    async fn find_app(
        &self,
        reference: Option<&wire::ResourceRef>,
        cluster: &str,
    ) -> Result<ResourceRow, Status> {
        let found = self.find(reference).await;
        match (reference, &found) {
            (Some(reference), Err(status))
                if status.code() == Code::NotFound && reference.scope.is_empty() && !cluster.is_empty() =>
            {
                let scoped = wire::ResourceRef {
                    scope: cluster.to_owned(),
                    ..reference.clone()
                };
                self.find(Some(&scoped)).await
            }
            _ => found,
        }
    }

    async fn find(&self, reference: Option<&wire::ResourceRef>) -> Result<ResourceRow, Status> {
        let reference = reference.ok_or_else(|| Status::invalid_argument("resource is missing"))?;
        let scope = self.scope(&reference.scope).await?;
        let found = self
            .store
            .resource_by_name(scope, &reference.kind, &reference.namespace, &reference.name)
            .await
            .map_err(from_store)?;
        found.ok_or_else(|| {
            let place = match reference.namespace.is_empty() {
                true => String::new(),
                false => format!("{}/", reference.namespace),
            };
            Status::not_found(format!("{} {place}{} not found", reference.kind, reference.name))
        })
    }
}

#[tonic::async_trait]
impl FleetService for Fleet {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<wire::WatchEvent, Status>> + Send>>;
    type ReconcileStream = ReceiverStream<Result<wire::ReconcileProgress, Status>>;

    async fn apply(
        &self,
        request: Request<wire::ApplyRequest>,
    ) -> Result<Response<wire::ApplyResponse>, Status> {
        let principal = principal(&request)?;
        apply::apply(self, &principal.name, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_resources(
        &self,
        request: Request<wire::ListResourcesRequest>,
    ) -> Result<Response<wire::ListResourcesResponse>, Status> {
        principal(&request)?;
        let request = request.into_inner();
        let selector = parse_selector(&request.label_selector)?;
        let limit = page(request.page_size);
        let scope = match request.scope.as_str() {
            "*" => None,
            name => Some(self.scope(name).await?),
        };
        let rows = self
            .store
            .list_resources(&ResourceFilter {
                kinds: request.kinds,
                namespace: request.namespace,
                name: request.name,
                scope,
                limit: i64::from(limit),
                after: read_token(&request.page_token)?,
            })
            .await
            .map_err(from_store)?;
        let next_page_token = match rows.last() {
            Some(row) if rows.len() == limit as usize => {
                write_token(&(&row.scope, &row.kind, &row.namespace, &row.name))
            }
            _ => String::new(),
        };
        let rows = rows
            .into_iter()
            .filter(|row| selector.matches(&views::labels(&row.labels)))
            .collect();
        let resources = status::resources(self, rows).await.map_err(from_store)?;
        Ok(Response::new(wire::ListResourcesResponse {
            resources,
            next_page_token,
        }))
    }

    async fn list_clusters(
        &self,
        request: Request<wire::ListClustersRequest>,
    ) -> Result<Response<wire::ListClustersResponse>, Status> {
        principal(&request)?;
        let request = request.into_inner();
        let selector = parse_selector(&request.label_selector)?;
        let limit = page(request.page_size);
        let after: String = read_token(&request.page_token)?;
        let rows = self
            .store
            .list_clusters(&request.name, &after, i64::from(limit))
            .await
            .map_err(from_store)?;
        let next_page_token = match rows.last() {
            Some(row) if rows.len() == limit as usize => write_token(&row.name),
            _ => String::new(),
        };
        let clusters = rows
            .into_iter()
            .filter(|row| selector.matches(&views::labels(&row.labels)))
            .map(views::cluster)
            .collect();
        Ok(Response::new(wire::ListClustersResponse {
            clusters,
            next_page_token,
        }))
    }

    async fn list_units(
        &self,
        request: Request<wire::ListUnitsRequest>,
    ) -> Result<Response<wire::ListUnitsResponse>, Status> {
        principal(&request)?;
        let request = request.into_inner();
        let limit = page(request.page_size);
        let rows = self
            .store
            .list_units(&UnitFilter {
                cluster: request.cluster,
                kind: request.app_kind,
                namespace: request.app_namespace,
                name: request.app_name,
                id: None,
                limit: i64::from(limit),
                after: read_token(&request.page_token)?,
            })
            .await
            .map_err(from_store)?;
        let next_page_token = match rows.last() {
            Some(row) if rows.len() == limit as usize => {
                write_token(&(&row.namespace, &row.name, &row.cluster, row.id))
            }
            _ => String::new(),
        };
        let units = rows.into_iter().map(views::unit).collect();
        Ok(Response::new(wire::ListUnitsResponse {
            units,
            next_page_token,
        }))
    }

    async fn list_unit_objects(
        &self,
        request: Request<wire::ListUnitObjectsRequest>,
    ) -> Result<Response<wire::ListUnitObjectsResponse>, Status> {
        principal(&request)?;
        let id = Uuid::parse_str(&request.into_inner().unit_id)
            .map_err(|_| Status::invalid_argument("unit_id is not a UUID"))?;
        let objects = self.store.list_unit_objects(id).await.map_err(from_store)?;
        let objects = objects.into_iter().map(views::object).collect();
        Ok(Response::new(wire::ListUnitObjectsResponse { objects }))
    }

    async fn explain(
        &self,
        request: Request<wire::ExplainRequest>,
    ) -> Result<Response<wire::ExplainResponse>, Status> {
        principal(&request)?;
        explain::answer(self, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_history(
        &self,
        request: Request<wire::ListHistoryRequest>,
    ) -> Result<Response<wire::ListHistoryResponse>, Status> {
        principal(&request)?;
        history::list(self, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_events(
        &self,
        request: Request<wire::ListEventsRequest>,
    ) -> Result<Response<wire::ListEventsResponse>, Status> {
        principal(&request)?;
        let request = request.into_inner();
        let events = self
            .store
            .list_events(&EventFilter {
                kind: request.kind,
                namespace: request.namespace,
                name: request.name,
                cluster: request.cluster,
                warnings_only: request.warnings_only,
                limit: i64::from(page(request.limit)),
                after_id: request.after_id,
            })
            .await
            .map_err(from_store)?;
        Ok(Response::new(wire::ListEventsResponse {
            events: events.into_iter().map(views::event).collect(),
        }))
    }

    async fn list_rollouts(
        &self,
        request: Request<wire::ListRolloutsRequest>,
    ) -> Result<Response<wire::ListRolloutsResponse>, Status> {
        principal(&request)?;
        let request = request.into_inner();
        let rollouts = self
            .store
            .list_rollouts(
                &request.app_kind,
                &request.app_namespace,
                &request.app_name,
                i64::from(page(request.limit)),
            )
            .await
            .map_err(from_store)?;
        let rollouts = rollouts.into_iter().map(views::rollout).collect();
        Ok(Response::new(wire::ListRolloutsResponse { rollouts }))
    }

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let principal = principal(&request)?;
        let watched = Watched {
            fleet: self.clone(),
            topics: self.topics.subscribe(),
            principal,
            seq: 0,
            late: None,
        };
        let stream = futures::stream::try_unfold(watched, Watched::next);
        Ok(Response::new(Box::pin(stream)))
    }

    async fn reconcile(
        &self,
        request: Request<wire::ReconcileRequest>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        let principal = principal(&request)?;
        let request = request.into_inner();
        let row = self.find(request.resource.as_ref()).await?;
        let progress = reconcile::start(self.clone(), principal, row, request.with_source);
        Ok(Response::new(progress))
    }

    async fn suspend(
        &self,
        request: Request<wire::SuspendRequest>,
    ) -> Result<Response<wire::SuspendResponse>, Status> {
        let principal = principal(&request)?;
        let request = request.into_inner();
        let row = self.find(request.resource.as_ref()).await?;
        let changed = self
            .store
            .set_suspended(row.uid, request.suspend, &principal.name)
            .await
            .map_err(from_store)?;
        Ok(Response::new(wire::SuspendResponse { changed }))
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenResponse>, Status> {
        let principal = principal(&request)?;
        let request = request.into_inner();
        let ttl = if request.ttl_seconds == 0 {
            DEFAULT_TTL
        } else {
            request.ttl_seconds
        };
        if ttl > MAX_TTL {
            return Err(Status::invalid_argument(
                "ttl_seconds: a join token lives at most 24 h",
            ));
        }
        let name = apply::cluster_name(&request.cluster)?;
        // Before anything is stored.
        let labelled = match request.labels.is_empty() {
            true => None,
            false => Some(apply::labelled_cluster(self, &name, request.labels)?),
        };
        let made = token::make_join_token().map_err(|e| Status::internal(e.to_string()))?;
        let (expires_at, created) = self
            .store
            .create_token(&NewToken {
                id: &made.id,
                secret_hash: &made.secret_hash,
                cluster: &name,
                principal: &principal.name,
                ttl_seconds: i64::from(ttl),
                labelled: labelled.as_ref().map(|cluster| (cluster, &*self.seal)),
            })
            .await
            .map_err(from_store)?;
        Ok(Response::new(wire::CreateTokenResponse {
            token: made.text,
            expires_at_ms: views::ms(expires_at),
            pins: vec![self.authority.pin().to_owned()],
            endpoint: self.endpoint.clone(),
            trust_domain: self.authority.trust_domain().to_owned(),
            cluster_created: created,
        }))
    }

    async fn decide_cluster(
        &self,
        request: Request<wire::DecideClusterRequest>,
    ) -> Result<Response<wire::DecideClusterResponse>, Status> {
        let principal = principal(&request)?;
        let request = request.into_inner();
        let decision = match request.decision() {
            wire::ClusterDecision::Admit => Decision::Admit,
            wire::ClusterDecision::Revoke => Decision::Revoke,
            wire::ClusterDecision::Unspecified => {
                return Err(Status::invalid_argument("decision: ADMIT or REVOKE is needed"));
            }
        };
        let decided = self
            .store
            .decide_cluster(&request.cluster, decision, &principal.name)
            .await
            .map_err(from_store)?;
        match decided {
            Some(changed) => Ok(Response::new(wire::DecideClusterResponse { changed })),
            None => Err(unregistered(&request.cluster)),
        }
    }

    async fn depart_cluster(
        &self,
        request: Request<wire::DepartClusterRequest>,
    ) -> Result<Response<wire::DepartClusterResponse>, Status> {
        let principal = principal(&request)?;
        departure::depart(self, &principal.name, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn delete(
        &self,
        request: Request<wire::DeleteRequest>,
    ) -> Result<Response<wire::DeleteResponse>, Status> {
        let principal = principal(&request)?;
        delete::delete(self, &principal.name, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn list_blocked_removals(
        &self,
        request: Request<wire::ListBlockedRemovalsRequest>,
    ) -> Result<Response<wire::ListBlockedRemovalsResponse>, Status> {
        principal(&request)?;
        removals::list(self, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn approve_removals(
        &self,
        request: Request<wire::ApproveRemovalsRequest>,
    ) -> Result<Response<wire::ApproveRemovalsResponse>, Status> {
        let principal = principal(&request)?;
        removals::approve(self, &principal.name, &request.into_inner())
            .await
            .map(Response::new)
    }

    async fn get_version(
        &self,
        request: Request<wire::GetVersionRequest>,
    ) -> Result<Response<wire::GetVersionResponse>, Status> {
        principal(&request)?;
        let answer = tokio::time::timeout(Duration::from_secs(5), self.store.server_version()).await;
        let postgres = answer.map_err(|_| Status::unavailable("the hub's database does not answer"))?;
        Ok(Response::new(wire::GetVersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engine: self.renderer.native.version(),
            postgres: postgres.map_err(from_store)?,
        }))
    }
}

fn unregistered(cluster: &str) -> Status {
    Status::not_found(format!(
        "cluster {cluster} is not registered; see `flotilla cluster list`"
    ))
}

fn page(asked: u32) -> u32 {
    if asked == 0 {
        DEFAULT_PAGE
    } else {
        asked.min(MAX_PAGE)
    }
}

fn parse_selector(text: &str) -> Result<Selector, Status> {
    Selector::parse(text).map_err(|e| Status::invalid_argument(format!("label_selector: {e}")))
}

/// Page tokens are keys, readable by us only by custom; they hold nothing secret.
fn read_token<T: Default + serde::de::DeserializeOwned>(token: &str) -> Result<T, Status> {
    if token.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_str(token).map_err(|_| Status::invalid_argument("page_token is not one of ours"))
}

fn write_token(key: &impl serde::Serialize) -> String {
    serde_json::to_string(key).unwrap_or_default()
}
