//! Two hubs on one database that are killed, stopped and frozen at random while commits go on: what agents are told is one
//! history, whoever tells it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use flotilla_core::{
    digest::Digest,
    id::UnitId,
    unit::{Entry, root},
};
use flotilla_proto::agent::v1::{Desired, hub_message};
use flotilla_testkit::{GitAccess, GitRepo, GitServer, wait_until};
use rustix::process::Signal;
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use uuid::Uuid;

use crate::{
    agent_stream::{Stream, hello, holding},
    deploys::{Fleet, app, config_map},
    hub::{Agent, Hub, Other, PATIENCE, Setting},
};

const CLUSTERS: [&str; 2] = ["c1", "c2"];
const PLACEMENT: &str = "apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {name: everywhere}
spec:
  apps: [{kind: Kustomization, name: app, namespace: apps}]
  clusters: {names: [c1, c2]}
";
/// What a replica that stands still may delay the others.
const STANDSTILL: Duration = Duration::from_secs(5);

/// What an agent was told, in order.
#[derive(Default)]
struct Told {
    /// Revisions of the app's unit, each time that another came.
    revisions: Vec<String>,
    /// Targets, likewise.
    targets: Vec<String>,
    /// Roots by generation.
    roots: BTreeMap<u64, Vec<u8>>,
}

/// An agent that connects to whichever hub there is, and keeps what it holds.
struct Follower {
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    fn start(hub: &Arc<Hub>, agent: Agent, endpoints: watch::Receiver<Vec<String>>) -> Self {
        let told = Arc::<Mutex<Told>>::default();
        let task = tokio::spawn(follow(hub.clone(), agent, endpoints, told.clone()));
        Self { told, task }
    }

    fn holds(&self, revision: &str) -> bool {
        assert!(
            !self.task.is_finished(),
            "an agent was told what it cannot be told"
        );
        let told = self.told.lock().expect("not poisoned");
        told.revisions.last().is_some_and(|last| last.ends_with(revision))
    }
}

async fn follow(
    hub: Arc<Hub>,
    agent: Agent,
    mut endpoints: watch::Receiver<Vec<String>>,
    told: Arc<Mutex<Told>>,
) {
    let mut held = Held::new();
    let mut last: Option<Desired> = None;
    loop {
        let tried = endpoints.borrow_and_update().clone();
        for endpoint in &tried {
            let Ok(channel) = hub.dial_at(endpoint, Some(agent.identity()), hub.pin).await else {
                continue;
            };
            let hello = last
                .as_ref()
                .map_or_else(|| hello(&agent), |last| holding(&agent, last));
            let Ok(Ok(mut stream)) = timeout(STANDSTILL, Stream::over(channel, hello)).await else {
                continue;
            };
            loop {
                tokio::select! {
                    // As an agent whose keepalive is not answered.
                    _ = endpoints.wait_for(|now| !now.contains(endpoint)) => break,
                    message = stream.message() => match message {
                        Ok(hub_message::Kind::Desired(desired)) => {
                            hear(&mut held, last.as_ref(), &desired, &told);
                            last = Some(desired);
                        }
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Entries with the digests of the bytes they came in: a hub of another release writes what this one does not read.
type Held = BTreeMap<Uuid, (Entry, Digest)>;

/// Takes a desired state as an agent does.
fn take(held: &mut Held, desired: &Desired) {
    if desired.base_generation.is_none() {
        held.clear();
    }
    for unit in &desired.units {
        let entry = Entry::from_bytes(&unit.canonical).expect("an entry");
        let digest = Entry::digest_of(&unit.canonical);
        assert_eq!(digest.as_bytes()[..], unit.digest[..]);
        held.insert(entry.unit.0, (entry, digest));
    }
    let digests = held.iter().map(|(id, (_, digest))| (UnitId(*id), *digest));
    assert_eq!(
        root(digests).as_bytes()[..],
        desired.root[..],
        "generation {}",
        desired.generation
    );
}

fn hear(held: &mut Held, last: Option<&Desired>, desired: &Desired, told: &Mutex<Told>) {
    if let Some(last) = last {
        assert_eq!(last.incarnation, desired.incarnation);
        assert!(
            desired.generation > last.generation || desired.root == last.root,
            "from {} back to {}",
            last.generation,
            desired.generation
        );
    }
    let before = held.clone();
    take(held, desired);
    let mut told = told.lock().expect("not poisoned");
    let root = told
        .roots
        .entry(desired.generation)
        .or_insert_with(|| desired.root.to_vec());
    assert_eq!(
        *root, desired.root,
        "two states of generation {}",
        desired.generation
    );
    for (unit, (entry, _)) in held.iter() {
        if let Some((before, _)) = before.get(unit) {
            assert!(
                before.version <= entry.version,
                "version {} after {}",
                entry.version,
                before.version
            );
        }
        let target = entry.target.to_string();
        if told.targets.last() != Some(&target) {
            told.targets.push(target);
        }
        if told.revisions.last() != Some(&entry.revision) {
            told.revisions.push(entry.revision.clone());
        }
    }
}

/// The same sequence each run of the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Two hubs that come and go, and the agents of two clusters.
struct World {
    hub: Arc<Hub>,
    _git: GitServer,
    repository: GitRepo,
    settings: [Setting; 2],
    /// `None` while it is down.
    replicas: [Option<Other>; 2],
    /// Data directories of those that are down.
    down: [Option<Other>; 2],
    endpoints: watch::Sender<Vec<String>>,
    followers: Vec<Follower>,
    source: Uuid,
    commits: Vec<String>,
}

impl World {
    async fn start(options: [&[&str]; 2]) -> Self {
        let hub = Hub::start().await;
        let git = GitServer::start(GitAccess::Public).await.expect("a Git server");
        let fleet = Fleet { hub, git };
        let first = config_map("x", "0");
        let repository = fleet.repository("a", &[("app/x.yaml", first.as_str())]).await;
        let mut agents = Vec::new();
        for name in CLUSTERS {
            agents.push(fleet.hub.enrol(name).await);
        }
        fleet
            .apply(&[&fleet.source("a"), &app("a", "./app", ""), PLACEMENT])
            .await;
        let source = fleet.hub.world.uid("GitRepository", "a").await;
        let shared = fleet.hub.world.dir.path().join("artifacts");
        let settings = options.map(|options| {
            let mut setting = Setting::of(options);
            setting.options.push("--artifact-store".into());
            setting.options.push(shared.to_str().expect("text").into());
            setting
        });
        let one = fleet.hub.another_as(&settings[0]).await;
        let two = fleet.hub.another_as(&settings[1]).await;
        let Fleet { mut hub, git } = fleet;
        hub.kill();
        let name = std::fs::read_to_string(hub.world.dir.path().join("replica")).expect("a name");
        gone(&hub, name.trim()).await;
        let hub = Arc::new(hub);
        let (endpoints, told) = watch::channel(vec![one.endpoint(), two.endpoint()]);
        let followers = agents
            .into_iter()
            .map(|agent| Follower::start(&hub, agent, told.clone()))
            .collect();
        Self {
            hub,
            _git: git,
            repository,
            settings,
            replicas: [Some(one), Some(two)],
            down: [None, None],
            endpoints,
            followers,
            source,
            commits: Vec::new(),
        }
    }

    /// Commits, and has the hubs look.
    async fn commit(&mut self) {
        let number = self.commits.len() + 1;
        let text = config_map("x", &number.to_string());
        let committed = self
            .repository
            .commit("main", &[("app/x.yaml", text.as_str())], "next")
            .await;
        self.commits.push(committed.expect("committed"));
        let request = format!("request {number}");
        let requested = self.hub.world.store.request(&[self.source], &request, None).await;
        requested.expect("requested");
    }

    /// Waits until every agent holds the newest commit; returns how long that took.
    async fn deployed(&self) -> Duration {
        let began = Instant::now();
        let newest = self.commits.last().expect("a commit");
        let all = async || {
            let all = self.followers.iter().all(|follower| follower.holds(newest));
            match all {
                true => Ok(Some(())),
                false => Err(format!("commit {} of {newest}", self.commits.len())),
            }
        };
        wait_until("the newest commit", 2 * PATIENCE, all)
            .await
            .expect("deployed");
        began.elapsed()
    }

    /// Tells agents where hubs answer.
    fn tell(&self, but: Option<usize>) {
        let up = (0..2).filter(|index| Some(*index) != but);
        let up = up
            .filter_map(|index| self.replicas[index].as_ref())
            .map(Other::endpoint);
        self.endpoints.send_replace(up.collect());
    }

    /// Ends one, in order or not.
    async fn end(&mut self, index: usize, in_order: bool) {
        let Some(mut replica) = self.replicas[index].take() else {
            return;
        };
        self.tell(None);
        match in_order {
            true => replica.end().await,
            false => {
                replica.signal(Signal::KILL);
                // What the others notice after a while.
                gone(&self.hub, &replica.name()).await;
            }
        }
        self.down[index] = Some(replica);
    }

    async fn begin(&mut self, index: usize) {
        if let Some(replica) = self.down[index].take() {
            self.replicas[index] = Some(self.hub.again(replica, &self.settings[index]).await);
            self.tell(None);
        }
    }

    /// So many commits, with a replica that ends, comes or stands still at each.
    async fn shaken(&mut self, rounds: usize, seed: u64, freeze: bool) {
        let mut random = Random(seed);
        self.commit().await;
        self.deployed().await;
        for round in 0..rounds {
            let index = usize::try_from(random.below(2)).expect("small");
            let what = random.below(if freeze { 3 } else { 2 });
            let wait = Duration::from_millis(random.below(300));
            self.commit().await;
            tokio::time::sleep(wait).await;
            // One is always up.
            self.begin(1 - index).await;
            match what {
                2 if self.replicas[index].is_some() => self.stands_still(index).await,
                what => {
                    self.end(index, what == 0).await;
                    self.deployed().await;
                    if random.below(2) == 0 {
                        self.begin(index).await;
                    }
                }
            }
            println!("seed {seed}, round {round}: replica {index}, event {what} after {wait:?}");
        }
        self.begin(0).await;
        self.begin(1).await;
        self.commit().await;
        self.deployed().await;
    }

    /// One stands still for as long as the other needs.
    async fn stands_still(&self, index: usize) {
        let replica = self.replicas[index].as_ref().expect("up");
        replica.signal(Signal::STOP);
        self.tell(Some(index));
        let took = self.deployed().await;
        replica.signal(Signal::CONT);
        self.tell(None);
        println!("one stood still: deployed after {took:?}");
        assert!(took < STANDSTILL + USUAL, "{took:?}");
    }

    /// What the agents were told is one history.
    async fn judge(&self) {
        let order: HashMap<&str, usize> = self
            .commits
            .iter()
            .enumerate()
            .map(|(index, commit)| (commit.as_str(), index))
            .collect();
        for follower in &self.followers {
            assert!(
                !follower.task.is_finished(),
                "an agent was told what it cannot be told"
            );
            let told = follower.told.lock().expect("not poisoned");
            let numbers: Vec<Option<usize>> = told
                .revisions
                .iter()
                .map(|revision| {
                    order
                        .get(revision.rsplit(':').next().unwrap_or_default())
                        .copied()
                })
                .collect();
            // The first may be the commit before them all.
            assert!(numbers.iter().skip(1).all(Option::is_some), "{numbers:?}");
            assert!(
                numbers.is_sorted(),
                "an older commit came over a newer one: {numbers:?}"
            );
            let mut once = told.targets.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(
                once.len(),
                told.targets.len(),
                "a target came back: {:?}",
                told.targets
            );
            // Each commit is one state, whoever publishes it, and however often hubs come and go.
            let states = told.roots.len();
            assert!(
                states <= self.commits.len() + 1,
                "{states} states of {} commits",
                self.commits.len()
            );
        }
        // After the end nothing turns.
        let generations = "SELECT coalesce(sum(generation), 0)::bigint FROM desired";
        let versions = "SELECT coalesce(sum(version), 0)::bigint FROM unit";
        let attempts = "SELECT coalesce(sum(attempts), 0)::bigint FROM rendering";
        let figures = async || {
            let world = &self.hub.world;
            [
                world.count(generations).await,
                world.count(versions).await,
                world.count(attempts).await,
            ]
        };
        let before = figures().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(figures().await, before, "generations, versions, renderings");
    }
}

/// What a commit takes from request to agents where nothing stands still, in builds for tests on a busy machine.
const USUAL: Duration = Duration::from_secs(3);

/// As if nothing had been heard of it for longer than a hub counts as alive.
async fn gone(hub: &Hub, name: &str) {
    let statement =
        format!("UPDATE replica SET heartbeat = now() - interval '2 minutes' WHERE name = '{name}'");
    hub.world.execute(&statement).await;
}

#[tokio::test]
async fn r08_two_hubs_of_one_release_that_come_go_and_stand_still_tell_one_history() {
    let mut world = World::start([&[], &[]]).await;
    world.shaken(8, 0x5eed_0001, true).await;
    world.judge().await;
}

#[tokio::test]
async fn two_hubs_of_two_releases_that_come_and_go_tell_one_history() {
    let mut world = World::start([&[], &["--writer-version", "9000000"]]).await;
    world.shaken(8, 0x5eed_0002, false).await;
    world.judge().await;
    let engines = world.hub.world.count("SELECT count(*) FROM rendering").await;
    let commits = i64::try_from(world.commits.len()).expect("few");
    assert!(
        engines > commits,
        "both engines rendered: {engines} renderings of {commits} commits"
    );
}
