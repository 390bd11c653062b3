mod told;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use flotilla_core::unit::{Entry, root};
use flotilla_proto::agent::v1::{
    AgentMessage, Chunk, ClusterCondition, ClusterConditionKind, ContentKind, Desired, Encoding,
    FetchRequest, RefusedReason, ReportAck, UnitEntry,
    agent_service_server::{AgentService, AgentServiceServer},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, transport::Endpoint};
use uuid::Uuid;

use super::*;
use crate::{
    ledger::{
        key_value::{KeyValue, KeyValueError, Limits, Version, Versioned},
        memory::Memory,
        state::BlobKind,
    },
    link::{
        accept::Source as _,
        fetch::{Fetched, Item},
    },
    sim::{Contents, SimClock},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a hub has to say.
type FromHub = mpsc::Receiver<Result<HubMessage, Status>>;

/// A hub without a store: the test says what it sends, and reads what it gets.
#[derive(Clone)]
struct FakeHub {
    to_agent: Arc<Mutex<Option<FromHub>>>,
    from_agent: mpsc::Sender<AgentMessage>,
    contents: Arc<tokio::sync::Mutex<Contents>>,
    /// Items that are never sent: their fetch hangs.
    withheld: Arc<Mutex<HashSet<Digest>>>,
    /// What is not here is left out, and not said to be missing.
    leaves_out: Arc<AtomicBool>,
    /// Fetches so far.
    fetches: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl AgentService for FakeHub {
    type ConnectStream = ReceiverStream<Result<HubMessage, Status>>;
    type FetchStream = ReceiverStream<Result<Chunk, Status>>;

    async fn connect(
        &self,
        request: tonic::Request<tonic::Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (from_agent, mut inbound) = (self.from_agent.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let _ = from_agent.send(message).await;
            }
        });
        let to_agent = self
            .to_agent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let to_agent = to_agent.ok_or_else(|| Status::unavailable("one stream"))?;
        Ok(Response::new(ReceiverStream::new(to_agent)))
    }

    async fn fetch(
        &self,
        request: tonic::Request<FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let (chunks_tx, chunks) = mpsc::channel(4);
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let this = self.clone();
        tokio::spawn(async move {
            for want in request.into_inner().want {
                let digest = Digest::try_from_slice(&want.digest).expect("a digest");
                let withheld = this
                    .withheld
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .contains(&digest);
                if withheld {
                    std::future::pending::<()>().await;
                }
                let chunk = this.chunk(digest, want.kind()).await;
                if !(chunk.missing && this.leaves_out.load(Ordering::Relaxed)) {
                    let _ = chunks_tx.send(Ok(chunk)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(chunks)))
    }
}

impl FakeHub {
    async fn chunk(&self, digest: Digest, kind: ContentKind) -> Chunk {
        let item = Item {
            digest,
            kind: BlobKind::Object,
            form: flotilla_core::content::Form::Json,
            secret: false,
            base: None,
        };
        let mut found = Vec::new();
        let mut contents = self.contents.lock().await;
        contents
            .fetch(&[item], &|_: &Digest| None, &mut found)
            .await
            .expect("looked up");
        let Some(Fetched::Blob(_, blob)) = found.pop() else {
            return Chunk {
                digest: digest.as_bytes().to_vec().into(),
                missing: true,
                ..Chunk::default()
            };
        };
        Chunk {
            digest: digest.as_bytes().to_vec().into(),
            kind: kind.into(),
            encoding: Encoding::Zstd.into(),
            decoded_size: blob.size.into(),
            data: blob.zstd().to_vec().into(),
            last: true,
            ..Chunk::default()
        }
    }
}

/// Storage that may stand still: nothing fails, nothing is answered.
#[derive(Clone)]
struct Still(Memory, tokio::sync::watch::Sender<bool>);

#[tonic::async_trait]
impl KeyValue for Still {
    async fn get(&self, name: &str) -> Result<Option<Versioned>, KeyValueError> {
        self.0.get(name).await
    }

    async fn put(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, KeyValueError> {
        let moves = self.1.subscribe().wait_for(|is_still| !is_still).await.is_ok();
        assert!(moves, "the test holds the sender");
        self.0.put(name, bytes, expected).await
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }
}

struct World {
    hub: FakeHub,
    to_agent: mpsc::Sender<Result<HubMessage, Status>>,
    from_agent: mpsc::Receiver<AgentMessage>,
    reports: Arc<Reports>,
    cells: Memory,
    is_still: tokio::sync::watch::Sender<bool>,
    ended: tokio::task::JoinHandle<Result<(), SessionError>>,
    /// What the last condition said.
    /// Of what it is offered.
    incarnation: u64,
    last_condition_ok: bool,
    /// Whether each event that was told warns, its reason and its unit.
    events: Vec<(bool, String, Vec<u8>)>,
    /// What goes along with offers.
    along: Vec<Chunk>,
}

impl World {
    /// A session that the hub has welcomed.
    async fn new() -> Self {
        Self::over(false).await
    }

    /// The same; the storage stands still from the welcome on.
    async fn over(is_still: bool) -> Self {
        let (to_agent, receiver) = mpsc::channel(8);
        let (from_agent_tx, from_agent) = mpsc::channel(64);
        let hub = FakeHub {
            to_agent: Arc::new(Mutex::new(Some(receiver))),
            from_agent: from_agent_tx,
            contents: Arc::default(),
            withheld: Arc::default(),
            leaves_out: Arc::default(),
            fetches: Arc::default(),
        };
        let (client, server) = tokio::io::duplex(1 << 20);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(AgentServiceServer::new(hub.clone()))
                .serve_with_incoming(tokio_stream::once(Ok::<_, std::io::Error>(server))),
        );
        let client = Mutex::new(Some(hyper_util::rt::TokioIo::new(client)));
        let connector = tower::service_fn(move |_: http::Uri| {
            let client = client.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(client.ok_or_else(|| std::io::Error::other("one connection")))
        });
        let endpoint = Endpoint::from_static("http://hub");
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .expect("connected");
        let (cells, is_still) = (Memory::default(), tokio::sync::watch::Sender::new(is_still));
        let still = Still(cells.clone(), is_still.clone());
        let ledger = Ledger::open(Arc::new(still), "ledger").await.expect("a ledger");
        let reports = Arc::new(Reports::default());
        let mut session = Session {
            ledger: Arc::new(ledger),
            reports: reports.clone(),
            nudge: Arc::new(Nudge::default()),
            clock: Arc::new(SimClock::default()),
            cluster_uid: "uid".to_owned(),
            kube_version: KubeVersion::default(),
            boot_id: "boot".to_owned(),
            acceptance: Acceptance::default(),
            ledger_watch: Arc::new(LedgerWatch::new(reports.clone(), Arc::new(SimClock::default()))),
        };
        let ended =
            tokio::spawn(async move { session.run(channel, std::future::pending::<()>(), |_| {}).await });
        let mut this = Self {
            hub,
            to_agent,
            from_agent,
            reports,
            cells,
            is_still,
            ended,
            incarnation: 1,
            last_condition_ok: true,
            events: Vec::new(),
            along: Vec::new(),
        };
        let hello = this.next().await;
        assert!(matches!(hello, agent_message::Kind::Hello(hello) if hello.clock_ms > 0));
        let welcome = Welcome {
            epoch: 1,
            ..Welcome::default()
        };
        this.send(hub_message::Kind::Welcome(welcome)).await;
        this
    }

    async fn send(&self, kind: hub_message::Kind) {
        self.to_agent
            .send(Ok(HubMessage { kind: Some(kind) }))
            .await
            .expect("open");
    }

    async fn desire(&self, generation: u64, base: Option<u64>, all: &[Entry], sent: &[Entry]) {
        let bytes = |entries: &[Entry]| -> Vec<(UnitId, Vec<u8>)> {
            let entries = entries.iter();
            entries.map(|entry| (entry.unit, entry.to_bytes())).collect()
        };
        self.desire_bytes(generation, base, &bytes(all), &bytes(sent))
            .await;
    }

    async fn desire_bytes(
        &self,
        generation: u64,
        base: Option<u64>,
        all: &[(UnitId, Vec<u8>)],
        sent: &[(UnitId, Vec<u8>)],
    ) {
        let digests = all.iter().map(|(unit, bytes)| (*unit, Entry::digest_of(bytes)));
        let desired = Desired {
            incarnation: self.incarnation,
            generation,
            epoch: 1,
            root: root(digests).as_bytes().to_vec().into(),
            base_generation: base,
            units: sent
                .iter()
                .map(|(unit, bytes)| UnitEntry {
                    unit_id: unit.to_vec().into(),
                    canonical: bytes.clone().into(),
                    ..UnitEntry::default()
                })
                .collect(),
            contents: self.along.clone(),
            was_put_back: false,
        };
        self.send(hub_message::Kind::Desired(desired)).await;
    }

    /// The next message; a report is acknowledged.
    async fn next(&mut self) -> agent_message::Kind {
        let message = timeout(PATIENCE, self.from_agent.recv())
            .await
            .expect("in time")
            .expect("a message");
        let kind = message.kind.expect("a kind");
        self.acknowledge(&kind).await;
        kind
    }

    async fn acknowledge(&mut self, kind: &agent_message::Kind) {
        if let agent_message::Kind::Report(report) = kind {
            if let Some(condition) = report.conditions.last() {
                self.last_condition_ok = condition.ok;
            }
            let events = report.events.iter();
            self.events
                .extend(events.map(|event| (event.warning, event.reason.clone(), event.unit_id.to_vec())));
            let ack = ReportAck {
                seq: report.seq,
                ..ReportAck::default()
            };
            self.send(hub_message::Kind::ReportAck(ack)).await;
        }
    }

    /// Why the stream has ended; `None`: it has not within this.
    async fn ends_within(&mut self, wait: Duration) -> Option<String> {
        let end = Instant::now() + wait;
        loop {
            tokio::select! {
                ended = &mut self.ended => {
                    let error = ended.expect("no panic").expect_err("nothing was renewed");
                    return Some(error.to_string());
                }
                Some(message) = self.from_agent.recv() => {
                    self.acknowledge(&message.kind.expect("a kind")).await;
                }
                () = tokio::time::sleep_until(end) => return None,
            }
        }
    }

    /// Waits until a condition is told, and takes its report.
    async fn condition(&mut self) -> ClusterCondition {
        loop {
            if let agent_message::Kind::Report(report) = self.next().await
                && let Some(condition) = report.conditions.into_iter().next()
            {
                return condition;
            }
        }
    }

    /// Waits until the agent has fetched something.
    async fn hub_was_asked(&self) {
        let before = self.hub.fetches.load(Ordering::Relaxed);
        let asked = async {
            while self.hub.fetches.load(Ordering::Relaxed) == before {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, asked).await.expect("in time");
    }

    /// Waits until something is acknowledged.
    async fn next_ack(&mut self) {
        while !matches!(self.next().await, agent_message::Kind::Ack(_)) {}
    }

    /// Waits until a unit is accepted, and returns the generation accepted by then.
    async fn accepted(&mut self, unit: u128) -> u64 {
        loop {
            if let agent_message::Kind::Ack(ack) = self.next().await
                && ack
                    .units
                    .iter()
                    .any(|one| one.accepted && one.unit_id == Uuid::from_u128(unit).as_bytes()[..])
            {
                return ack.generation;
            }
        }
    }

    async fn entry(&self, unit: u128, version: u64, objects: &[Value]) -> Entry {
        let content = self.hub.contents.lock().await.add(objects);
        let id = UnitId(Uuid::from_u128(unit));
        let entry = json!({
            "unit": id, "version": version, "content": content, "target": content, "state": {"type": "active"},
            "app": {"uid": id, "kind": "Kustomization", "namespace": "apps", "name": format!("app-{unit}")},
            "settings": {"interval": 60000, "retryInterval": 60000, "timeout": 60000},
        });
        serde_json::from_value(entry).expect("an entry")
    }
}

fn config(name: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}, "data": {"text": text}})
}

/// Of an item: whole as it comes, a piece of it, another's bytes.
type Along = fn(Chunk) -> Chunk;

#[tokio::test]
async fn what_comes_along_with_an_offer_is_not_fetched_and_what_of_it_is_of_no_use_is() {
    let spoilt: Along = |chunk| Chunk {
        data: zstd::bulk::compress(b"{}", 3).expect("compresses").into(),
        ..chunk
    };
    let elsewhere: Along = |chunk| Chunk {
        encoding: Encoding::ZstdDelta.into(),
        base: Digest::of("object", b"never here").as_bytes().to_vec().into(),
        ..chunk
    };
    for (alter, fetches) in [((|chunk| chunk) as Along, 0), (spoilt, 2), (elsewhere, 2)] {
        let mut world = World::new().await;
        let object = config("one", "1");
        let entry = world.entry(1, 1, std::slice::from_ref(&object)).await;
        let content = entry.content.expect("it has one");
        let bytes = flotilla_core::content::object_bytes(&object);
        let named = flotilla_core::content::object_digest(flotilla_core::content::Form::Json, &bytes, None);
        for (digest, kind) in [(content, ContentKind::Content), (named, ContentKind::Object)] {
            world.along.push(alter(world.hub.chunk(digest, kind).await));
        }
        world
            .desire(
                1,
                None,
                std::slice::from_ref(&entry),
                std::slice::from_ref(&entry),
            )
            .await;
        // The one acknowledgement is that of all; with something to fetch there is one before it.
        assert_eq!(world.accepted(1).await, 1);
        assert_eq!(world.hub.fetches.load(Ordering::Relaxed), fetches);
        // It is forgotten once it has been of use: what comes next without it is fetched.
        world.along.clear();
        let next = world.entry(1, 2, &[config("one", "2")]).await;
        world
            .desire(
                2,
                Some(1),
                std::slice::from_ref(&next),
                std::slice::from_ref(&next),
            )
            .await;
        assert_eq!(world.accepted(1).await, 2);
        assert_eq!(world.hub.fetches.load(Ordering::Relaxed), fetches + 2);
    }
}

#[tokio::test]
async fn while_a_large_unit_hangs_the_stream_is_read_and_other_units_are_accepted() {
    let mut world = World::new().await;
    let objects: Vec<Value> = (0..600).map(|n| config(&format!("large-{n}"), "x")).collect();
    let large = world.entry(1, 1, &objects).await;
    let last = flotilla_core::content::object_digest(
        flotilla_core::content::Form::Json,
        &flotilla_core::content::object_bytes(&objects[0]),
        None,
    );
    world.hub.withheld.lock().expect("not poisoned").insert(last);
    let small = world.entry(2, 1, &[config("small", "1")]).await;
    let both = [large.clone(), small.clone()];
    world.desire(1, None, &both, &both).await;
    assert_eq!(world.accepted(2).await, 0);
    let news = world.entry(2, 2, &[config("small", "2")]).await;
    let now = [large.clone(), news.clone()];
    world.desire(2, Some(1), &now, std::slice::from_ref(&news)).await;
    assert_eq!(
        world.accepted(2).await,
        0,
        "the generation waits for the large one"
    );
    // Reports go on as well.
    world.reports.event(flotilla_proto::agent::v1::Event::default());
    loop {
        if let agent_message::Kind::Report(report) = world.next().await {
            assert!(report.sent_at_ms > 0);
            break;
        }
    }
    assert!(!world.ended.is_finished());
}

#[tokio::test]
async fn units_that_a_restored_hub_does_not_name_are_told_by_name_until_it_does() {
    let mut world = World::new().await;
    let entry = world.entry(1, 1, &[config("one", "1")]).await;
    let all = std::slice::from_ref(&entry);
    world.desire(9, None, all, all).await;
    assert_eq!(world.accepted(1).await, 9);
    world.incarnation = 2;
    world.desire(4, None, &[], &[]).await;
    let told = world.condition().await;
    assert_eq!((told.kind(), told.ok), (ClusterConditionKind::Units, false));
    assert!(
        told.message.starts_with("UnknownToHub: ") && told.message.contains("Kustomization/apps/app-1"),
        "{}",
        told.message
    );
    world.desire(5, Some(4), all, all).await;
    let told = world.condition().await;
    assert_eq!((told.kind(), told.ok), (ClusterConditionKind::Units, true));
}

#[tokio::test]
async fn an_offer_that_cannot_be_judged_is_refused_and_the_stream_goes_on() {
    let mut world = World::new().await;
    let one = world.entry(1, 1, &[config("x", "1")]).await;
    // Changes against something that is not held.
    world
        .desire(5, Some(4), std::slice::from_ref(&one), std::slice::from_ref(&one))
        .await;
    let refused = world.next().await;
    let agent_message::Kind::Refused(refused) = refused else {
        panic!("a refusal: {refused:?}")
    };
    assert_eq!(refused.reason(), RefusedReason::BaseUnknown);
    world
        .desire(5, None, std::slice::from_ref(&one), std::slice::from_ref(&one))
        .await;
    assert_eq!(world.accepted(1).await, 5);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_is_told_and_when_it_can_again() {
    let mut world = World::new().await;
    // Perhaps before the epoch is stored: that ends no stream.
    world.cells.fail_after(0);
    let one = world.entry(1, 1, &[config("x", "1")]).await;
    world
        .desire(1, None, std::slice::from_ref(&one), std::slice::from_ref(&one))
        .await;
    let told = world.condition().await;
    assert!(
        !told.ok && told.message.contains("what is held stays enforced"),
        "{told:?}"
    );
    world.cells.heal();
    while !world.condition().await.ok {}
    assert!(!world.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn unit_that_the_ledger_has_no_room_for_is_answered_by_its_entry_and_taken_once_there_is() {
    let mut world = World::new().await;
    let limits = |total| Limits {
        segment: 8 << 10,
        total,
    };
    drop(world.cells.clone().with_limits(limits(32 << 10)));
    // Texts that do not compress.
    let noise = |n: usize| Digest::of("noise", &n.to_be_bytes()).to_string();
    let objects: Vec<Value> = (0..400)
        .map(|n| config(&format!("large-{n}"), &noise(n)))
        .collect();
    let large = world.entry(1, 1, &objects).await;
    let small = world.entry(2, 1, &[config("small", "1")]).await;
    let both = [large.clone(), small.clone()];
    world.desire(1, None, &both, &both).await;
    let mut answers = HashMap::new();
    while answers.len() < 2 {
        if let agent_message::Kind::Ack(ack) = world.next().await {
            assert_eq!(ack.generation, 0, "it is accepted once all of it is");
            let each = ack.units.into_iter();
            answers.extend(each.map(|one| (one.entry.to_vec(), (one.accepted, one.reason))));
        }
    }
    let digest = |entry: &Entry| Entry::digest_of(&entry.to_bytes()).as_bytes().to_vec();
    assert_eq!(
        answers,
        HashMap::from([
            (digest(&large), (false, "LedgerFull".to_owned())),
            (digest(&small), (true, String::new()))
        ])
    );
    let told = world.condition().await;
    assert!(!told.ok && told.message.contains("apps/app-1"), "{told:?}");
    assert_eq!(
        world.events,
        [(true, "LedgerFull".to_owned(), large.unit.to_vec())]
    );
    drop(world.cells.clone().with_limits(limits(1 << 20)));
    assert_eq!(world.accepted(1).await, 1);
    while !world.condition().await.ok {}
    assert_eq!(world.ends_within(Duration::from_secs(600)).await, None);
    let taken = (false, "OfferTaken".to_owned(), large.unit.to_vec());
    assert_eq!(world.events.split_off(1), [taken], "each turn once");
}

/// Another offer lacks content, so that something is tried again and again meanwhile.
#[tokio::test(start_paused = true)]
async fn offer_that_the_ledger_did_not_take_is_asked_for_again_after_minutes_unless_another_is_taken() {
    for another_is_taken in [false, true] {
        let mut world = World::new().await;
        let mut lacking = world.entry(1, 1, &[config("x", "1")]).await;
        lacking.content = Some(Digest::of("object/json", b"nowhere"));
        world
            .desire(
                1,
                None,
                std::slice::from_ref(&lacking),
                std::slice::from_ref(&lacking),
            )
            .await;
        world.next_ack().await;
        // One that this version cannot read is written at once.
        let unit = UnitId(Uuid::from_u128(2));
        let both = |second: &str| {
            [
                (lacking.unit, lacking.to_bytes()),
                (unit, second.as_bytes().to_vec()),
            ]
        };
        world.cells.fail_after(0);
        world.desire_bytes(2, None, &both("?"), &both("?")).await;
        let reason = loop {
            if let agent_message::Kind::Refused(refused) = world.next().await {
                break refused.reason();
            }
        };
        assert_eq!(reason, RefusedReason::LedgerUnwritable);
        world.cells.heal();
        if another_is_taken {
            world.desire_bytes(3, None, &both("??"), &both("??")).await;
            world.next_ack().await;
        }
        let early = world.ends_within(RETRY.1 - Duration::from_secs(10)).await;
        // What was fetched, or not, meanwhile says nothing of the offer.
        assert_eq!(world.last_condition_ok, another_is_taken);
        assert_eq!(early, None, "another is taken: {another_is_taken}");
        let ended = world.ends_within(Duration::from_secs(60)).await;
        let is_asked = ended
            .as_ref()
            .is_some_and(|why| why.contains("asking for it again"));
        assert_eq!(
            (ended.is_some(), is_asked),
            (!another_is_taken, !another_is_taken),
            "{ended:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn item_that_an_answer_leaves_out_is_asked_for_again_with_growing_waits() {
    let mut world = World::new().await;
    world.hub.leaves_out.store(true, Ordering::Relaxed);
    let mut lacking = world.entry(1, 1, &[config("x", "1")]).await;
    lacking.content = Some(Digest::of("object/json", b"nowhere"));
    world
        .desire(
            1,
            None,
            std::slice::from_ref(&lacking),
            std::slice::from_ref(&lacking),
        )
        .await;
    world.next_ack().await;
    assert_eq!(world.ends_within(Duration::from_secs(600)).await, None);
    let fetches = world.hub.fetches.load(Ordering::Relaxed);
    assert!((5..=12).contains(&fetches), "{fetches} fetches in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn agent_that_found_its_ledger_damaged_asks_for_the_whole_state() {
    let cells = Memory::default();
    cells.set("ledger", Some(b"damaged".to_vec()));
    let ledger = Ledger::open(Arc::new(cells), "ledger").await.expect("opened");
    assert!(matches!(ledger.opened(), crate::ledger::Opened::Damaged(_)));
    let (reports, clock) = (Arc::new(Reports::default()), Arc::new(SimClock::default()));
    let session = Session {
        ledger: Arc::new(ledger),
        ledger_watch: Arc::new(LedgerWatch::new(reports.clone(), clock.clone())),
        reports,
        nudge: Arc::default(),
        clock,
        cluster_uid: "uid".to_owned(),
        kube_version: KubeVersion::default(),
        boot_id: "boot".to_owned(),
        acceptance: Acceptance::default(),
    };
    let hello = session.hello();
    assert_eq!((hello.incarnation, hello.generation, hello.root.len()), (0, 0, 0));
}

#[test]
fn what_ends_a_stream_is_told_by_its_cause_and_without_words_of_the_transport() {
    let broken = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "h2 protocol error");
    let cases = [
        (Status::permission_denied("not admitted"), "copied"),
        (Status::unauthenticated("not admitted"), "revoked, or replaced"),
        (
            Status::already_exists("another agent, instance b, has opened a stream"),
            "instance b, has opened a stream; this agent is instance a:",
        ),
        (
            Status::aborted("another stream of this cluster was opened"),
            "stream ended: another stream of this cluster was opened",
        ),
        (
            Status::from_error(Box::new(broken)),
            "the connection to the hub: it closed the connection",
        ),
    ];
    for (status, words) in cases {
        let text = SessionError::from(status).of_instance("a").to_string();
        assert!(text.contains(words) && !text.contains("h2"), "{text}");
    }
}

/// What the watch over a silent API server says.
fn silence(world: &World) {
    let kind = flotilla_proto::agent::v1::ClusterConditionKind::ApiServer;
    world.reports.condition(
        kind,
        false,
        "the API server does not answer".to_owned(),
        Timestamp(1),
    );
}

#[tokio::test]
async fn storage_that_stands_still_as_a_stream_begins_holds_back_no_report() {
    let mut world = World::over(true).await;
    silence(&world);
    assert!(!world.condition().await.ok);
    world.is_still.send_replace(false);
    let entry = world.entry(1, 1, &[]).await;
    let all = [entry];
    world.desire(1, None, &all, &all).await;
    assert_eq!(world.accepted(1).await, 1);
}

#[tokio::test]
async fn storage_that_stands_still_under_an_offer_holds_back_no_report() {
    let mut world = World::new().await;
    let all = [world.entry(1, 1, &[]).await];
    world.desire(1, None, &all, &all).await;
    assert_eq!(world.accepted(1).await, 1);
    world.is_still.send_replace(true);
    let more = [all[0].clone(), world.entry(2, 1, &[json!({"kind": "x"})]).await];
    world.desire(2, Some(1), &more, &more[1..]).await;
    // A moment for the offer to be on its way into the ledger.
    world.hub_was_asked().await;
    // Also what comes after another report, which is acknowledged meanwhile.
    let clock = flotilla_proto::agent::v1::ClusterConditionKind::Clock;
    world
        .reports
        .condition(clock, false, "it is behind".to_owned(), Timestamp(1));
    assert_eq!(world.condition().await.kind(), clock);
    silence(&world);
    let condition = world.condition().await;
    assert!(!condition.ok && condition.kind() != clock, "{condition:?}");
    // What the hub says else is heeded afterwards.
    world.desire(3, Some(2), &more, &[]).await;
    world.is_still.send_replace(false);
    assert_eq!(world.accepted(2).await, 2);
    loop {
        if let agent_message::Kind::Ack(ack) = world.next().await
            && ack.generation == 3
        {
            break;
        }
    }
}
