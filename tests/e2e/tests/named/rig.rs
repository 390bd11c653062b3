//! What all named tests share, and what a test has of its own where it breaks that.

use std::path::PathBuf;

use e2e::{CommandLine, HubProcess};
use flotilla_testkit::{
    AuditFilter, AuditMark, ControlPlane, ControlPlaneOptions, GitAccess, GitServer, TestDb, TestPostgres,
    install_tls_provider,
};
use rustix::process::Pid;
use tokio::sync::{Mutex, MutexGuard, OnceCell, oneshot};

use crate::agent::Agent;

/// Two clusters of one hub.
pub(crate) struct Rig {
    /// Nobody breaks this one.
    pub(crate) calm: ControlPlane,
    /// Whoever holds [`rough`] may break this one, and mends it.
    pub(crate) rough: ControlPlane,
    pub(crate) git: GitServer,
    pub(crate) hub: HubProcess,
    agents: [Agent; 2],
    _db: TestDb,
}

/// Where an app goes: a hub, a cluster of it, and the agent there.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) git: &'static GitServer,
    pub(crate) plane: &'static ControlPlane,
    pub(crate) cli: CommandLine,
    pub(crate) cluster: String,
    pub(crate) user: String,
    pub(crate) logs: [PathBuf; 2],
    /// The agent's process, when it was asked.
    pub(crate) pid: Option<Pid>,
}

impl Place {
    /// What the agent asked its cluster for since a mark, watches aside: `verb resource/name`.
    pub(crate) fn asked(&self, since: AuditMark) -> Vec<String> {
        let filter = AuditFilter::all().after(since).user(&self.user);
        let requests = self.plane.audit().requests(&filter).unwrap();
        let asked = requests.into_iter().filter(|one| one.verb != "watch").map(|one| {
            let of = one.object_ref.unwrap_or_default();
            format!("{} {}/{}", one.verb, of.resource, of.name)
        });
        asked.collect()
    }
}

static RIG: OnceCell<Rig> = OnceCell::const_new();
static ROUGH: Mutex<()> = Mutex::const_new(());

/// The rig, started by whoever asks first. It ends with this process.
pub(crate) async fn rig() -> &'static Rig {
    RIG.get_or_init(async || {
        let (started, rig) = oneshot::channel();
        // Programs end with the thread that starts them: this one lives as long as the process.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let _ = started.send(runtime.block_on(Rig::start()));
            loop {
                std::thread::park();
            }
        });
        rig.await.expect("the rig starts")
    })
    .await
}

/// The right to break the rough cluster.
pub(crate) async fn rough() -> (Place, MutexGuard<'static, ()>) {
    let held = ROUGH.lock().await;
    let rig = rig().await;
    (rig.place(&rig.rough, &rig.agents[1], "rough"), held)
}

/// Where nothing is broken.
pub(crate) async fn calm() -> Place {
    let rig = rig().await;
    rig.place(&rig.calm, &rig.agents[0], "calm")
}

impl Rig {
    async fn start() -> Self {
        install_tls_provider();
        // Objects are all that is looked at here: nobody needs to act on them.
        let named = |name| ControlPlane::start(ControlPlaneOptions::api_only(name));
        let (calm, rough, git, postgres) = tokio::join!(
            named("calm"),
            named("rough"),
            GitServer::start(GitAccess::Public),
            TestPostgres::shared()
        );
        let (calm, rough, git) = (calm.unwrap(), rough.unwrap(), git.unwrap());
        let db = postgres.unwrap().database().await.unwrap();
        let dir = calm.folder().join("hub-shared");
        let hub = HubProcess::start_with(&dir, &["--database-url", db.url()])
            .await
            .unwrap();
        let agents = [
            Agent::start(&calm, &hub.token("calm").unwrap(), "flotilla-shared").await,
            Agent::start(&rough, &hub.token("rough").unwrap(), "flotilla-shared").await,
        ];
        Self {
            calm,
            rough,
            git,
            hub,
            agents,
            _db: db,
        }
    }

    fn place(&'static self, plane: &'static ControlPlane, agent: &Agent, cluster: &str) -> Place {
        Place {
            git: &self.git,
            plane,
            cli: self.hub.command_line(),
            cluster: cluster.to_owned(),
            user: agent.user.clone(),
            logs: [self.hub.log(), agent.log.clone()],
            pid: agent.pid(),
        }
    }
}
