//! A fleet of simulated agents in one process: each is the shipped agent, with its own link, ledger and reconciler, over
//! a cluster and a storage in memory. The hub cannot tell them from others.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use flotilla_agent::{
    agent::{Parts, run},
    cluster::fake::Fake,
    ledger::memory::Memory,
    link::{channel::HubAddress, token::JoinToken},
};
use flotilla_api::access::Context as Access;
use flotilla_proto::{
    fleet::v1::{CreateTokenRequest, fleet_service_client::FleetServiceClient},
    tls::{HubVerifier, Pin},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    transport::{Channel, ClientTlsConfig, Endpoint},
};

/// Joins under way at once: each is a handshake, a certificate and a stream.
const JOINING: usize = 64;

/// Running simulated agents; they end with its drop.
pub struct Sim {
    agents: JoinSet<()>,
    clusters: Vec<Fake>,
    stop: CancellationToken,
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Sim {
    /// Makes a token for each of `count` clusters, `PREFIX-00001` and so on, and starts their agents.
    pub async fn start(access: &Access, prefix: &str, count: u32) -> anyhow::Result<Self> {
        let pins = pins(access)?;
        let hub = HubAddress {
            endpoints: vec![access.endpoint.clone()],
            pins,
            trust_domain: access.trust_domain.clone(),
        };
        let channel = dial(access).await?;
        let tokens: Vec<String> = stream::iter(1..=count)
            .map(|number| token(channel.clone(), access, format!("{prefix}-{number:05}")))
            .buffered(JOINING)
            .try_collect()
            .await?;
        let stop = CancellationToken::new();
        let mut agents = JoinSet::new();
        let mut clusters = Vec::new();
        for token in tokens {
            let cluster = Fake::new();
            clusters.push(cluster.clone());
            let parts = Parts {
                key_value: Arc::new(Memory::default()),
                cluster: Arc::new(cluster),
                namespace: "flotilla-system".to_owned(),
                namespaces: Vec::new(),
                default_service_account: String::new(),
                hub: Some(hub.clone()),
                token: JoinToken::Value(token),
                health: None,
            };
            let stop = stop.clone();
            agents.spawn(async move {
                if let Err(error) = run(parts, stop).await {
                    tracing::error!(%error, "a simulated agent ended");
                }
            });
        }
        Ok(Self {
            agents,
            clusters,
            stop,
        })
    }

    /// The clusters of the agents.
    pub fn clusters(&self) -> &[Fake] {
        &self.clusters
    }

    /// Agents that have not ended.
    pub fn running(&mut self) -> usize {
        while self.agents.try_join_next().is_some() {}
        self.agents.len()
    }
}

fn pins(access: &Access) -> anyhow::Result<Vec<Pin>> {
    Ok(access
        .pins
        .iter()
        .map(|pin| pin.parse())
        .collect::<Result<_, _>>()?)
}

/// Connects as the command line does.
pub async fn dial(access: &Access) -> anyhow::Result<Channel> {
    let verifier = Arc::new(HubVerifier::new(pins(access)?, &access.trust_domain));
    Endpoint::from_shared(access.endpoint.clone())?
        .tls_config_with_verifier(ClientTlsConfig::new(), verifier)?
        .connect_timeout(Duration::from_secs(15))
        .connect()
        .await
        .with_context(|| format!("the hub at {} cannot be reached", access.endpoint))
}

async fn token(channel: Channel, access: &Access, cluster: String) -> anyhow::Result<String> {
    let labels = [("simulated".to_owned(), "true".to_owned())].into();
    let mut request = Request::new(CreateTokenRequest {
        cluster: cluster.clone(),
        ttl_seconds: 3600,
        labels,
    });
    let bearer = format!("Bearer {}", access.token).parse()?;
    request.metadata_mut().insert("authorization", bearer);
    let made = FleetServiceClient::new(channel).create_token(request).await;
    Ok(made
        .with_context(|| format!("a token for {cluster}"))?
        .into_inner()
        .token)
}
