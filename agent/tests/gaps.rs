//! How long the agent's other tasks wait while a large unit is fetched, evaluated, applied, changed and taken up after a
//! restart. All of them share one thread. What is between two turns of a task is counted in calls of the allocator, which
//! depend neither on the machine nor on what else it does. A program of its own, since the allocator is the whole
//! program's.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    alloc::System,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use flotilla_agent::{
    cluster::fake::Fake,
    health_port::{self, Told},
    ledger::{key_value::Limits, memory::Memory},
    link::{link_state, watchdog::api_server_state},
    metrics::Metrics,
    sim::{self, Contents, Options, SimAgent},
};
use flotilla_core::{id::UnitId, object::ObjectKey, unit::Entry};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const OBJECTS: usize = 4000;
/// Calls of the allocator between two turns, those of the cluster in memory included, which lists all objects at once.
/// Contents are read whole as well, so that it grows with the unit; that it grows by more than this for each object is
/// what this guards against.
const MOST: usize = OBJECTS * 80;
/// The same while a commit of one object is taken in: pieces, however many objects there are.
const MOST_OF_A_COMMIT: usize = 4000;

fn calls() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

fn object(n: usize, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{n:05}"), "namespace": "default"},
        "data": {"a": value, "n": n.to_string()}})
}

fn entry(version: u64, objects: &[Value], contents: &mut Contents) -> Entry {
    sim::entry(UnitId(Uuid::from_u128(1)), contents.add(objects), |entry| {
        entry.version = version;
    })
}

async fn start(cluster: &Fake, cells: &Memory) -> SimAgent {
    SimAgent::start_as(
        Arc::new(cluster.clone()),
        Arc::new(cells.clone()),
        Options::default(),
    )
    .await
    .unwrap()
}

/// Offers a state in a task of its own, as the link does.
fn offer(agent: &Arc<SimAgent>, entry: Entry, mut contents: Contents) -> JoinHandle<Contents> {
    let agent = agent.clone();
    tokio::spawn(async move {
        agent.offer(&[entry], &mut contents).await.unwrap();
        contents
    })
}

/// The most calls of the allocator between two turns of this task, until `done`.
async fn longest_gap(what: &str, mut done: impl FnMut() -> bool) -> usize {
    let begun = std::time::Instant::now();
    let mut longest = 0;
    for turn in 1_usize.. {
        let before = calls();
        tokio::task::yield_now().await;
        longest = longest.max(calls() - before);
        if turn.is_multiple_of(500) && done() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(300), "{what} never ends");
    }
    println!("{what}: {longest} calls of the allocator between two turns");
    longest
}

/// Asks the health port again and again from a thread of its own.
fn ask_for_health(address: SocketAddr, stop: Arc<AtomicBool>, answers: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        answers.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn other_tasks_wait_for_a_piece_of_a_large_unit_and_healthz_answers_meanwhile() {
    let stop = CancellationToken::new();
    let listener = health_port::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let (_state, link) = link_state();
    let (_ready, ready) = tokio::sync::watch::channel(true);
    let (_answers, api_server) = api_server_state();
    let told = Told {
        ready,
        link,
        api_server,
        metrics: Arc::new(Metrics::new()),
    };
    tokio::spawn(health_port::serve(listener, told, stop.clone()));
    let (over, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = {
        let (over, answers) = (over.clone(), answers.clone());
        std::thread::spawn(move || ask_for_health(address, over, answers))
    };

    let cluster = Fake::new();
    cluster.set_latency(Some(Box::new(|_, _| Duration::from_millis(1))));
    let cells = Memory::default().with_limits(Limits {
        segment: 512 << 10,
        total: 64 << 20,
    });
    let mut contents = Contents::default();
    let mut objects: Vec<Value> = (0..OBJECTS).map(|n| object(n, "1")).collect();
    let first = entry(1, &objects, &mut contents);
    objects[7] = object(7, "2");
    let second = entry(2, &objects, &mut contents);
    let kind = |n: usize| ObjectKey::new("", "ConfigMap", "default", &format!("c{n:05}"));

    let agent = Arc::new(start(&cluster, &cells).await);
    let last = kind(OBJECTS - 1);
    let (offered, is_applied) = (offer(&agent, first, contents), || cluster.object(&last).is_some());
    let mut gaps = vec![longest_gap("fetched and applied", is_applied).await];
    let contents = offered.await.unwrap();
    let changed = kind(7);
    let is_changed = || {
        cluster
            .object(&changed)
            .is_some_and(|object| object["data"]["a"] == "2")
    };
    let offered = offer(&agent, second, contents);
    let of_a_commit = longest_gap("one object of many changed", is_changed).await;
    offered.await.unwrap();
    drop(agent);
    tokio::task::yield_now().await;
    let agent = start(&cluster, &cells).await;
    let mut rows = 0;
    let reported = || {
        while let Some(report) = agent.reports.next(1) {
            rows += report.objects.len();
            agent.reports.ack(report.seq);
        }
        rows >= OBJECTS
    };
    gaps.push(longest_gap("taken up after a restart", reported).await);

    over.store(true, Ordering::Relaxed);
    // The thread waits for its last answer, which this one gives.
    while !asking.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    asking.join().unwrap();
    stop.cancel();
    let answers = answers.load(Ordering::Relaxed);
    assert!(answers >= 5, "{answers} answers of healthz");
    assert!(
        of_a_commit <= MOST_OF_A_COMMIT,
        "{of_a_commit} calls of the allocator between two turns of a commit"
    );
    let longest = gaps.into_iter().max().unwrap_or_default();
    assert!(
        longest <= MOST,
        "{longest} calls of the allocator between two turns"
    );
}
