//! A hub of a test's own and an agent of it in the calm cluster, with a proxy on each of the agent's ways: the test may
//! break all of that.

use std::net::SocketAddr;

use e2e::{HubProcess, hub::Join};
use flotilla_testkit::{CommitProxy, FaultProxy, TestDb, TestPostgres};

use crate::{
    agent::{Agent, Ways},
    rig::{Place, Rig, rig},
};

/// A hub with one agent.
pub(crate) struct Own {
    pub(crate) agent: Agent,
    pub(crate) hub: HubProcess,
    /// Between the agent and its API server.
    pub(crate) to_api_server: FaultProxy,
    /// Between the agent and the hub.
    pub(crate) to_hub: FaultProxy,
    /// What the agent joined with.
    pub(crate) join: Join,
    rig: &'static Rig,
    /// Between the hub and its database, where it was asked for.
    pub(crate) commits: Option<CommitProxy>,
    // After the hub, which has connections to it.
    _db: Option<TestDb>,
}

impl Own {
    /// Starts a hub over a database in the Postgres of all tests, and an agent that keeps its state in namespace
    /// `flotilla-NAME`.
    pub(crate) async fn start(name: &str) -> Self {
        let db = database().await;
        let url = db.url().to_owned();
        Self::over(name, &["--database-url", &url], Some(db)).await
    }

    /// Likewise, with a proxy that can lose answers to what the hub commits.
    pub(crate) async fn lossy(name: &str) -> Self {
        let db = database().await;
        let commits = CommitProxy::start(TestPostgres::shared().await.unwrap()).unwrap();
        let url = commits.url(&db);
        let own = Self::over(name, &["--database-url", &url], Some(db)).await;
        Self {
            commits: Some(commits),
            ..own
        }
    }

    /// Likewise, with a Postgres that belongs to the hub.
    pub(crate) async fn private(name: &str) -> Self {
        Self::over(name, &[], None).await
    }

    async fn over(name: &str, options: &[&str], db: Option<TestDb>) -> Self {
        let rig = rig().await;
        let plane = &rig.calm;
        let dir = plane.folder().join(format!("hub-{name}"));
        let hub = HubProcess::start_with(&dir, options).await.unwrap();
        let to_api_server = FaultProxy::start(address(&plane.server())).unwrap();
        let to_hub = FaultProxy::start(hub.grpc_address().parse().unwrap()).unwrap();
        let ways = Ways {
            api_server: format!("https://{}", to_api_server.address()),
            hub: format!("https://{}", to_hub.address()),
        };
        let join = hub.token(name).unwrap();
        let agent = Agent::start_over(plane, &join, &format!("flotilla-{name}"), &ways).await;
        Self {
            agent,
            hub,
            to_api_server,
            to_hub,
            join,
            rig,
            commits: None,
            _db: db,
        }
    }

    /// Where apps of it go.
    pub(crate) fn place(&self) -> Place {
        Place {
            git: &self.rig.git,
            plane: &self.rig.calm,
            cli: self.hub.command_line(),
            cluster: self.agent.name().trim_start_matches("flotilla-").to_owned(),
            user: self.agent.user.clone(),
            logs: [self.hub.log(), self.agent.log.clone()],
            pid: self.agent.pid(),
        }
    }
}

async fn database() -> TestDb {
    TestPostgres::shared().await.unwrap().database().await.unwrap()
}

fn address(server: &str) -> SocketAddr {
    server.trim_start_matches("https://").parse().unwrap()
}
