//! What a commit costs the database, from the probe to the published states: the hub's own reconcilers over a Git server
//! and a fleet of 1,000 clusters, 200 apps of 5 objects on 20 clusters each, and one app on all.

use std::{sync::Arc, time::Duration};

use flotilla_hub::{
    artifact::ArtifactStore,
    grpc::streams::Streams,
    index::Index,
    renderer::{NativeRenderer, Renderer},
    source::{
        git::{FetchLimits, Fetcher, GitProgram, ProbeShare, Prober},
        token::Tokens,
        transport::Clients,
    },
    store::{Topic, apply::NewResource},
    task::{
        Context, driver::Driver, lanes::Lanes, poll::Sources, queue::Queue, receivers::Registered,
        render::Engine, watchers::Watchers,
    },
};
use flotilla_testkit::{GitAccess, GitRepo, GitServer, wait_until};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    statements::{OWN, Statement, Statements},
    world::{INCARNATION, World, resource},
};

const CLUSTERS: usize = 1000;
const APPS: usize = 200;
const EACH: usize = 20;
const KEY: [u8; 32] = [7; 32];
const PATIENCE: Duration = Duration::from_secs(300);

/// The reconcilers at work, on this thread.
struct Fleet {
    world: World,
    queues: [Queue; 5],
    topics: broadcast::Sender<Topic>,
    repository: GitRepo,
    source: Uuid,
    statements: Statements,
    stop: CancellationToken,
    _git: GitServer,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn app(name: &str) -> NewResource {
    let spec = json!({
        "interval": "10m", "prune": true, "path": name, "sourceRef": { "kind": "GitRepository", "name": "repo" },
    });
    resource("Kustomization", name, spec)
}

/// Places an app on clusters of these numbers.
pub(crate) fn placement(name: &str, clusters: impl Iterator<Item = usize>) -> NewResource {
    let names: Vec<String> = clusters.map(cluster).collect();
    let spec = json!({
        "apps": [{ "kind": "Kustomization", "name": name, "namespace": "apps" }], "clusters": { "names": names },
    });
    resource("Placement", name, spec)
}

fn cluster(number: usize) -> String {
    format!("c{number:04}")
}

pub(crate) fn manifests(name: &str, value: &str) -> String {
    let one = |n: usize| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}-{n}, namespace: apps}}\ndata: {{v: {value}}}\n"
        )
    };
    (0..5).map(one).collect::<Vec<_>>().join("---\n")
}

fn name(number: usize) -> String {
    format!("app{number:03}")
}

impl Fleet {
    async fn start() -> Self {
        let world = World::new().await;
        let git = GitServer::start(GitAccess::Public).await.expect("a Git server");
        let repository = git.create("repo.git").await.expect("made");
        let apps: Vec<String> = (0..APPS).map(name).chain(["everywhere".to_owned()]).collect();
        let files: Vec<(String, String)> = apps
            .iter()
            .map(|name| (format!("{name}/all.yaml"), manifests(name, "first")))
            .collect();
        repository
            .commit("main", &files, "first")
            .await
            .expect("committed");
        let mut resources: Vec<NewResource> = (0..CLUSTERS)
            .map(|n| resource("Cluster", &cluster(n), json!({})))
            .collect();
        resources.extend(apps.iter().map(|name| app(name)));
        resources
            .extend((0..APPS).map(|n| placement(&name(n), (0..EACH).map(|c| (n * EACH + c) % CLUSTERS))));
        resources.push(placement("everywhere", 0..CLUSTERS));
        let spec: Value = json!({
            "interval": "24h", "url": git.http_url("repo.git"), "ref": { "branch": "main" },
        });
        resources.push(resource("GitRepository", "repo", spec));
        let statements = Statements::listen();
        world.apply(&resources).await;
        let source = world.uid("GitRepository", "repo").await;
        let (queues, topics, stop) = reconcilers(&world, "replica").await;
        let this = Self {
            world,
            queues,
            topics,
            repository,
            source,
            statements,
            stop,
            _git: git,
        };
        let units = APPS * EACH + CLUSTERS;
        this.statements.take();
        this.settled(&format!("SELECT count(*) = {units} FROM unit"))
            .await;
        this.statements.take();
        this
    }

    /// Waits until this holds and nothing is left to do.
    async fn settled(&self, query: &str) {
        let query = format!("{OWN} {query}");
        let idle =
            format!("{OWN} SELECT (SELECT count(*) FROM due) + (SELECT count(*) FROM unpublished) = 0");
        wait_until(&query, PATIENCE, async || {
            let mut holds = self.queues.iter().all(|queue| queue.depth() == 0);
            for query in [&query, &idle] {
                let found: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(query.as_str()))
                    .fetch_one(&self.world.pool)
                    .await?;
                holds &= found;
            }
            Ok::<_, sqlx::Error>(holds.then_some(()))
        })
        .await
        .expect("settled");
    }

    /// Waits until the hub has read all that it was told: what is counted from here on is of what comes.
    async fn has_read(&self) {
        let mut topics = self.topics.subscribe();
        let told = self.world.store.wake(Topic::Credential, &[Uuid::nil()]).await;
        told.expect("told");
        while topics.recv().await.expect("it runs") != Topic::Credential {}
    }

    /// Makes a commit and has the source looked at; returns the statements of it, until nothing is left to do.
    async fn commit(&self, files: &[(String, String)]) -> Vec<Statement> {
        let commit = self
            .repository
            .commit("main", files, "next")
            .await
            .expect("committed");
        self.world
            .execute(&format!("{OWN} UPDATE source_state SET next_probe = now()"))
            .await;
        self.has_read().await;
        self.statements.take();
        self.queues[0].push(self.source);
        self.settled(&format!(
            "SELECT r.commit_id = '{commit}' FROM source_state s JOIN revision r ON r.id = s.revision_id"
        ))
        .await;
        let mut asked = self.statements.take();
        asked.retain(|one| !one.is_of_the_clock());
        // A notification that comes late, of what was read with an earlier one, is a look that finds nothing.
        asked.dedup_by(|one, before| one.reads_wakeups() && before.reads_wakeups());
        asked
    }
}

impl Fleet {
    /// Has the source looked at, which has nothing new; returns the statements of it.
    async fn look(&self) -> Vec<Statement> {
        self.world
            .execute(&format!("{OWN} UPDATE source_state SET next_probe = now()"))
            .await;
        self.has_read().await;
        self.statements.take();
        self.queues[0].push(self.source);
        self.settled("SELECT bool_and(next_probe > now()) FROM source_state")
            .await;
        let mut asked = self.statements.take();
        asked.retain(|one| !one.is_of_the_clock());
        asked.dedup_by(|one, before| one.reads_wakeups() && before.reads_wakeups());
        asked
    }
}

/// A hub's reconcilers at work, on this thread.
pub(crate) async fn reconcilers(
    world: &World,
    replica: &str,
) -> ([Queue; 5], broadcast::Sender<Topic>, CancellationToken) {
    let dir = world.dir.path().join(replica);
    let clients = Clients::new().expect("TLS");
    let tokens = Tokens::new(clients.clone());
    let prober = Prober::new(clients, KEY);
    let program = GitProgram::find(None).await.expect("git is installed");
    let context = Context {
        store: world.store.clone(),
        seal: world.seal.clone(),
        digest_key: KEY,
        incarnation: INCARNATION,
        sources: Arc::new(Sources {
            probes: ProbeShare::new(prober, KEY),
            fetcher: Fetcher::new(program, dir.join("repositories"), KEY, FetchLimits::default()),
            // Hubs share it.
            artifacts: ArtifactStore::open(world.dir.path().join("artifacts"), dir.join("incoming"))
                .await
                .expect("a store"),
            lanes: Lanes::default(),
            tokens,
        }),
        renderer: Arc::new(Engine::new(
            Renderer::Native(NativeRenderer::new(2)),
            Err("not here".into()),
        )),
        replica: replica.into(),
        history: None,
        nested: flotilla_core::nest::Limits::default(),
        trust: Arc::default(),
        removals: flotilla_core::removal::closure::Limits::DEFAULT,
    };
    world.store.beat(replica, "").await.expect("it lives");
    let (topics, _) = broadcast::channel(1024);
    let index = Arc::new(Index::new(world.store.clone()));
    let receivers = Registered::new(context.clone());
    let driver = Driver::start(
        context,
        index,
        Arc::new(Streams::default()),
        topics.clone(),
        Watchers::default(),
        receivers,
        4,
    );
    let (queues, stop) = (driver.queues(), CancellationToken::new());
    let listener = world.store.listen(replica).await.expect("it listens");
    let other = world.store.join(replica, "artifacts").await.expect("asked");
    assert!(other.is_none(), "{other:?}");
    tokio::spawn(driver.run(listener, stop.clone()));
    (queues, topics, stop)
}

#[tokio::test]
async fn r30_the_cost_of_a_commit_follows_what_it_changes_and_not_the_fleet() {
    let fleet = Fleet::start().await;
    let renderings = format!("{OWN} SELECT count(*) FROM rendering");
    let rendered = fleet.world.count(&renderings).await;
    let readme = fleet
        .commit(&[("README.md".to_owned(), "second".to_owned())])
        .await;
    assert!(readme.len() <= 12, "nothing changed: {readme:#?}");
    assert_eq!(fleet.world.count(&renderings).await, rendered);
    let same = fleet.look().await;
    // Its state, itself, that it is looked at, and when it was; and a look for wake-ups that finds none.
    assert!(same.len() <= 5, "nothing new: {same:#?}");
    assert!(same.iter().all(|one| one.words != "COMMIT"), "{same:#?}");
    let one = fleet
        .commit(&[("app007/all.yaml".to_owned(), manifests("app007", "second"))])
        .await;
    assert!(one.len() <= 40 + 10, "one app on {EACH} clusters: {one:#?}");
    assert_eq!(
        fleet.world.count(&renderings).await,
        rendered + 1,
        "one of {APPS} apps"
    );
    let all = fleet
        .commit(&[(
            "everywhere/all.yaml".to_owned(),
            manifests("everywhere", "second"),
        )])
        .await;
    assert!(all.len() <= 40 + 18, "one app on {CLUSTERS} clusters: {all:#?}");
    let published = fleet
        .world
        .count(&format!(
            "{OWN} SELECT count(*) FROM desired WHERE generation > 1"
        ))
        .await;
    assert_eq!(usize::try_from(published), Ok(CLUSTERS));
    // What units claim is stored once for all clusters: five keys of each app.
    let claims =
        format!("{OWN} SELECT (SELECT count(*) FROM keyset) * 10000 + (SELECT count(*) FROM keyset_key)");
    let sets = i64::try_from(APPS + 1).expect("few");
    assert_eq!(fleet.world.count(&claims).await, sets * 10000 + sets * 5);
    let more = manifests("everywhere", "third") + "---\n" + &manifests("more", "third");
    let keys = fleet.commit(&[("everywhere/all.yaml".to_owned(), more)]).await;
    // Locks, sets, the proof of who claims them, the marks of who is woken by that and that the history follows are within
    // it.
    assert!(
        keys.len() <= 40 + 20,
        "five more objects of one app on {CLUSTERS} clusters: {keys:#?}"
    );
    assert_eq!(
        fleet.world.count(&claims).await,
        (sets + 1) * 10000 + sets * 5 + 10
    );
    // A change of one placement is one app's.
    fleet.statements.take();
    fleet
        .world
        .apply(&[placement(
            "app007",
            (0..EACH - 1).map(|c| (7 * EACH + c) % CLUSTERS),
        )])
        .await;
    fleet
        .settled("SELECT count(*) = 1 FROM unit WHERE state = 'Detached'")
        .await;
    let placed = fleet.statements.take();
    assert!(placed.len() <= 47, "one placement: {placed:#?}");
    // And that of a cluster is that of the apps on it.
    let labelled = resource("Cluster", &cluster(0), json!({ "variables": { "a": "b" } }));
    fleet.world.apply(&[labelled]).await;
    fleet.settled("SELECT count(*) = 0 FROM due").await;
    let clusters = fleet.statements.take();
    assert!(clusters.len() <= 126, "one cluster: {clusters:#?}");
}
