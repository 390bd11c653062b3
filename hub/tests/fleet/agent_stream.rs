//! The agent's stream and what it fetches, with a client that is no agent: whole states, changes, fences.

use std::{collections::BTreeMap, io::Read as _};

use flotilla_core::{
    content::Content,
    digest::Digest,
    id::UnitId,
    unit::{Entry, root},
};
use flotilla_hub::store::Topic;
use flotilla_proto::agent::v1::{
    Ack, AgentMessage, Chunk, ContentKind, Desired, Encoding, FetchRequest, Hello, HubMessage, Readiness,
    Refused, RefusedReason, Report, UnitStatus, Want, Welcome, agent_message,
    agent_service_client::AgentServiceClient, hub_message,
};
use flotilla_proto::fleet::v1::{ClusterDecision, DecideClusterRequest};
use flotilla_testkit::wait_until;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use uuid::Uuid;

use crate::{
    hub::{Agent, Hub, PATIENCE},
    world::{INCARNATION, Object, Rendered},
};

/// Well before the next round in which all streams are judged.
const SOON: std::time::Duration = std::time::Duration::from_secs(10);

pub(crate) struct Stream {
    pub(crate) to_hub: mpsc::Sender<AgentMessage>,
    from_hub: Streaming<HubMessage>,
    pub(crate) welcome: Welcome,
}

impl Stream {
    pub(crate) async fn open(hub: &Hub, agent: &Agent, hello: Hello) -> Result<Self, Status> {
        Self::over(agent.channel(hub).await, hello).await
    }

    pub(crate) async fn over(channel: Channel, hello: Hello) -> Result<Self, Status> {
        let mut client = AgentServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let (to_hub, messages) = mpsc::channel(8);
        let hello = AgentMessage {
            kind: Some(agent_message::Kind::Hello(hello)),
        };
        to_hub.send(hello).await.expect("open");
        let from_hub = client.connect(ReceiverStream::new(messages)).await?.into_inner();
        let mut this = Self {
            to_hub,
            from_hub,
            welcome: Welcome::default(),
        };
        match this.next().await? {
            hub_message::Kind::Welcome(welcome) => this.welcome = welcome,
            other => panic!("a welcome comes first: {other:?}"),
        }
        Ok(this)
    }

    pub(crate) async fn next(&mut self) -> Result<hub_message::Kind, Status> {
        let message = timeout(PATIENCE, self.from_hub.message())
            .await
            .expect("an answer in time")?;
        message
            .and_then(|message| message.kind)
            .ok_or_else(|| Status::cancelled("ended"))
    }

    /// The next message, however long it takes.
    pub(crate) async fn message(&mut self) -> Result<hub_message::Kind, Status> {
        let message = self.from_hub.message().await?;
        message
            .and_then(|message| message.kind)
            .ok_or_else(|| Status::cancelled("ended"))
    }

    pub(crate) async fn desired(&mut self) -> Desired {
        match self.next().await.expect("a message") {
            hub_message::Kind::Desired(desired) => desired,
            other => panic!("a desired state: {other:?}"),
        }
    }

    pub(crate) async fn report(&self, seq: u64, units: Vec<UnitStatus>) {
        let report = Report {
            seq,
            epoch: self.welcome.epoch,
            units,
            ..Report::default()
        };
        let message = AgentMessage {
            kind: Some(agent_message::Kind::Report(report)),
        };
        // A closed stream shows at the next read.
        let _ = self.to_hub.send(message).await;
    }
}

pub(crate) fn hello(agent: &Agent) -> Hello {
    Hello {
        cluster_uid: agent.uid.clone(),
        boot_id: "boot".into(),
        agent_version: "0".into(),
        ..Hello::default()
    }
}

pub(crate) fn holding(agent: &Agent, desired: &Desired) -> Hello {
    Hello {
        incarnation: desired.incarnation,
        generation: desired.generation,
        root: desired.root.clone(),
        ..hello(agent)
    }
}

/// Takes a desired state as an agent does; panics when its root does not verify.
pub(crate) fn accept(held: &mut BTreeMap<Uuid, Entry>, desired: &Desired) {
    if desired.base_generation.is_none() {
        held.clear();
    }
    for unit in &desired.units {
        if unit.released {
            held.remove(&Uuid::from_slice(&unit.unit_id).expect("a unit"));
            continue;
        }
        let entry = Entry::from_bytes(&unit.canonical).expect("an entry");
        assert_eq!(Entry::digest_of(&unit.canonical).as_bytes()[..], unit.digest[..]);
        assert_eq!(entry.unit.to_vec(), unit.unit_id);
        held.insert(entry.unit.0, entry);
    }
    let digests = held
        .iter()
        .map(|(id, entry)| (UnitId(*id), Entry::digest_of(&entry.to_bytes())));
    assert_eq!(
        root(digests).as_bytes()[..],
        desired.root[..],
        "generation {}",
        desired.generation
    );
}

pub(crate) fn config(name: &str, text: &str) -> Object {
    Object::new("ConfigMap", name, text)
}

pub(crate) fn lines(first: &str) -> String {
    let rest: String = (0..2000)
        .map(|n: u64| format!("key{n}: {}\n", n * 7919 % 104_729))
        .collect();
    format!("first: {first}\n{rest}")
}

#[tokio::test]
async fn an_agent_gets_the_whole_state_once_and_then_changes_on_what_it_holds() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let (a, b) = (hub.world.app("a").await, hub.world.app("b").await);
    let of_a = hub.world.render(a, "r1", &[config("x", "a: 1")]).await;
    let of_b = hub.world.render(b, "r1", &[config("y", "a: 1")]).await;
    hub.world.roll_out(a, &[agent.cluster], &of_a).await;
    hub.world.roll_out(b, &[agent.cluster], &of_b).await;
    let mut stream = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    assert_eq!(
        (stream.welcome.incarnation, stream.welcome.cluster_name.as_str()),
        (INCARNATION, "c1")
    );
    let mut held = BTreeMap::new();
    let whole = stream.desired().await;
    assert_eq!(
        (whole.base_generation, whole.units.len(), whole.epoch),
        (None, 2, stream.welcome.epoch)
    );
    accept(&mut held, &whole);
    let again = hub.world.render(a, "r2", &[config("x", "a: 2")]).await;
    hub.world.roll_out(a, &[agent.cluster], &again).await;
    let change = stream.desired().await;
    assert_eq!(
        (change.base_generation, change.units.len()),
        (Some(whole.generation), 1)
    );
    accept(&mut held, &change);
    drop(stream);
    // What it holds is the newest: nothing is sent, a change is.
    let mut stream = Stream::open(&hub, &agent, holding(&agent, &change))
        .await
        .expect("open");
    hub.world
        .roll_out(
            b,
            &[agent.cluster],
            &hub.world.render(b, "r2", &[config("y", "a: 2")]).await,
        )
        .await;
    let change = stream.desired().await;
    assert_eq!(
        (change.base_generation, change.units.len()),
        (Some(change.generation - 1), 1)
    );
    accept(&mut held, &change);
    drop(stream);
    // What it holds is of another history: all of it is sent.
    let other = Hello {
        incarnation: INCARNATION - 1,
        ..holding(&agent, &change)
    };
    let whole = Stream::open(&hub, &agent, other)
        .await
        .expect("open")
        .desired()
        .await;
    assert_eq!((whole.base_generation, whole.units.len()), (None, 2));
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn r05_a_second_stream_closes_the_first_whose_reports_no_longer_count() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let app = hub.world.app("a").await;
    let content = hub.world.render(app, "r1", &[config("x", "a: 1")]).await;
    hub.world.roll_out(app, &[agent.cluster], &content).await;
    let mut first = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    let desired = first.desired().await;
    let status = |message: &str| UnitStatus {
        unit_id: desired.units[0].unit_id.clone(),
        held_version: 1,
        ready: Readiness::False.into(),
        message: message.into(),
        ..UnitStatus::default()
    };
    first.report(1, vec![status("of the first")]).await;
    assert!(matches!(first.next().await, Ok(hub_message::Kind::ReportAck(ack)) if ack.seq == 1));
    let mut second = Stream::open(&hub, &agent, holding(&agent, &desired))
        .await
        .expect("open");
    assert!(second.welcome.epoch > first.welcome.epoch);
    first.report(2, vec![status("of the first, late")]).await;
    let closed = first.next().await.expect_err("closed, not acknowledged");
    assert_eq!(closed.code(), Code::Aborted, "{closed}");
    second.report(3, vec![status("of the second")]).await;
    assert!(matches!(second.next().await, Ok(hub_message::Kind::ReportAck(ack)) if ack.seq == 3));
    assert_eq!(
        hub.world
            .count("SELECT count(*) FROM unit_status WHERE message = 'of the second'")
            .await,
        1
    );
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn r09_two_agents_with_one_identity_are_told_who_took_the_stream_and_both_are_quarantined_once_it_changes_hands_again_and_again()
 {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let as_instance = |boot: &str| Hello {
        boot_id: boot.into(),
        ..hello(&agent)
    };
    let mut former: Option<Stream> = None;
    for boot in ["one", "two", "one", "two"] {
        let stream = Stream::open(&hub, &agent, as_instance(boot)).await.expect("open");
        if let Some(mut former) = former.replace(stream) {
            let closed = former.next().await.expect_err("it was taken");
            assert_eq!(closed.code(), Code::AlreadyExists, "{closed}");
            assert!(
                closed
                    .message()
                    .contains(&format!("cluster c1, instance {boot},")),
                "{closed}"
            );
        }
        assert_eq!(
            shown(&hub).await,
            ("Active".into(), String::new()),
            "an update does as much"
        );
    }
    // Nothing tells which of them was meant: neither has a stream any more, nor opens another.
    let ended = match Stream::open(&hub, &agent, as_instance("one")).await {
        Ok(mut stream) => stream.next().await.map(drop),
        Err(refused) => Err(refused),
    };
    ended.expect_err("quarantined");
    for boot in ["one", "two"] {
        let refused = Stream::open(&hub, &agent, as_instance(boot)).await.err();
        assert_eq!(refused.expect("refused").code(), Code::Unauthenticated);
    }
    let (state, said) = shown(&hub).await;
    assert_eq!(state, "Suspended");
    for part in [
        "two agents with the identity of cluster c1",
        "instance one has it now, instance two had it before",
        "`flotilla cluster admit c1`",
        "`flotilla cluster token c1 --replace`",
    ] {
        assert!(said.contains(part), "{said}");
    }
    for reason in ["Identity", "Quarantined"] {
        let events = format!("SELECT count(*) FROM event WHERE warning AND reason = '{reason}'");
        assert_eq!(hub.world.count(&events).await, 1, "{reason}");
    }
    // Once people have decided it is well, and what was is not counted again.
    decide(&hub, ClusterDecision::Admit).await;
    let _later = Stream::open(&hub, &agent, as_instance("two"))
        .await
        .expect("open");
    assert_eq!(shown(&hub).await, ("Active".into(), String::new()));
    hub.world.is_quiet().await;
}

/// State and message of the cluster.
async fn shown(hub: &Hub) -> (String, String) {
    let clusters = hub.world.store.list_clusters("c1", "", 1).await;
    let cluster = clusters.expect("read").remove(0);
    (cluster.state, cluster.message)
}

async fn decide(hub: &Hub, decision: ClusterDecision) {
    let request = DecideClusterRequest {
        cluster: "c1".into(),
        decision: decision.into(),
    };
    let decided = hub.fleet().await.decide_cluster(hub.authorized(request)).await;
    assert!(decided.expect("decided").into_inner().changed);
}

#[tokio::test]
async fn r09_a_certificate_that_another_has_come_after_is_told_and_quarantines_the_cluster_when_it_is_shown_still()
 {
    let hub = Hub::start().await;
    let copy = hub.enrol("c1").await;
    let newest = copy.renew(&hub).await.expect("renewed");
    let mut stream = Stream::open(&hub, &newest, hello(&newest)).await.expect("open");
    let refused = async || {
        let refused = Stream::open(&hub, &copy, hello(&copy)).await.err();
        assert_eq!(refused.expect("refused").code(), Code::Unauthenticated);
    };
    refused().await;
    refused().await;
    let (state, said) = shown(&hub).await;
    assert_eq!(state, "Active");
    assert!(
        said.contains("a certificate that another has come after"),
        "{said}"
    );
    assert!(said.contains("`flotilla cluster token c1 --replace`"), "{said}");
    let events = "SELECT count(*) FROM event WHERE warning AND reason = 'Identity'";
    assert_eq!(hub.world.count(events).await, 1, "once");
    stream.report(1, vec![]).await;
    let next = stream.next().await.expect("the newest goes on");
    assert!(matches!(next, hub_message::Kind::ReportAck(_)), "{next:?}");
    hub.world
        .execute("UPDATE cluster_condition SET since = since - interval '6 minutes' WHERE kind = 'Identity'")
        .await;
    refused().await;
    let (state, said) = shown(&hub).await;
    assert_eq!(state, "Suspended");
    assert!(said.contains("until you have decided"), "{said}");
    stream
        .next()
        .await
        .expect_err("whoever renewed first may be the thief");
    // With new identities for both nobody is doubted because of the former one.
    decide(&hub, ClusterDecision::Revoke).await;
    let rightful = hub.enrol("c1").await;
    let _stream = Stream::open(&hub, &rightful, hello(&rightful))
        .await
        .expect("open");
    refused().await;
    assert_eq!(shown(&hub).await, ("Active".into(), String::new()));
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn r09_an_identity_copied_to_another_cluster_opens_no_stream_and_its_own_agent_goes_on() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let mut own = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    for _ in 0..5 {
        let copied = Hello {
            cluster_uid: "another".into(),
            boot_id: "copy".into(),
            ..hello(&agent)
        };
        let refused = Stream::open(&hub, &agent, copied).await.err().expect("refused");
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let (state, said) = shown(&hub).await;
    assert_eq!(state, "Active");
    for part in [
        "which was copied",
        "\"another\"",
        "`flotilla cluster token c1 --replace`",
    ] {
        assert!(said.contains(part), "{said}");
    }
    own.report(1, vec![]).await;
    let next = own.next().await.expect("it goes on");
    assert!(matches!(next, hub_message::Kind::ReportAck(_)), "{next:?}");
    let _again = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    assert_eq!(shown(&hub).await, ("Active".into(), String::new()));
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn an_agent_ahead_of_a_restored_store_gets_nothing_and_it_is_said() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let app = hub.world.app("a").await;
    let content = hub.world.render(app, "r1", &[config("x", "a: 1")]).await;
    let ahead = Hello {
        incarnation: INCARNATION,
        generation: 2,
        ..hello(&agent)
    };
    let mut stream = Stream::open(&hub, &agent, ahead).await.expect("open");
    hub.world.roll_out(app, &[agent.cluster], &content).await;
    let said = "SELECT count(*) FROM session WHERE message LIKE '%generation 2%store 1%'";
    let said = wait_until("the message", PATIENCE, async || {
        Ok::<_, String>((hub.world.count(said).await == 1).then_some(()))
    });
    said.await.expect("said");
    // The store overtakes the agent's number with other states: still nothing.
    for text in ["a: 2", "a: 3"] {
        let next = hub.world.render(app, text, &[config("x", text)]).await;
        hub.world.roll_out(app, &[agent.cluster], &next).await;
    }
    let said = "SELECT count(*) FROM session WHERE message LIKE '%generation 2%store 3%'";
    let said = wait_until("the message", PATIENCE, async || {
        Ok::<_, String>((hub.world.count(said).await == 1).then_some(()))
    });
    said.await.expect("said");
    // Had a state been sent, it would stand before this answer.
    stream.report(1, vec![]).await;
    let next = stream.next().await.expect("an answer");
    assert!(matches!(next, hub_message::Kind::ReportAck(_)), "{next:?}");
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn r35_a_slow_reader_gets_the_latest_state_and_no_queue() {
    const GENERATIONS: u64 = 12;
    let hub = Hub::start().await;
    let (slow, quick) = (hub.enrol("c1").await, hub.enrol("c2").await);
    let app = hub.world.app("a").await;
    let content = hub.world.render(app, "r1", &[config("x", "a: 1")]).await;
    let mut unread = Stream::open(&hub, &slow, hello(&slow)).await.expect("open");
    let mut read = Stream::open(&hub, &quick, hello(&quick)).await.expect("open");
    for generation in 1..=GENERATIONS {
        // Each is larger than what the connection takes without being read.
        let note = BTreeMap::from([("note".to_owned(), format!("{generation} {}", "n".repeat(1 << 20)))]);
        let clusters = [slow.cluster, quick.cluster];
        let gathered = hub
            .world
            .gather_with(app, &clusters, &content, vec![], note)
            .await;
        hub.world.commit(&gathered).await.expect("committed");
        for cluster in clusters {
            hub.world.publish(cluster).await;
        }
        // Who reads gets each of them: it is the reader that is slow, not the hub.
        assert_eq!(read.desired().await.generation, generation);
    }
    let mut held = BTreeMap::new();
    let mut received = 0;
    loop {
        let desired = unread.desired().await;
        accept(&mut held, &desired);
        received += 1;
        if desired.generation == GENERATIONS {
            break;
        }
    }
    assert!(received < GENERATIONS / 2, "{received} of {GENERATIONS}");
    hub.world.is_quiet().await;
}

async fn fetch(hub: &Hub, agent: &Agent, want: Vec<Want>) -> Vec<Chunk> {
    // Content goes only to the agent whose stream is open.
    let stream = Stream::open(hub, agent, hello(agent)).await.expect("open");
    let epoch = stream.welcome.epoch;
    let mut client = AgentServiceClient::new(agent.channel(hub).await);
    let mut chunks = client
        .fetch(FetchRequest { want, epoch })
        .await
        .expect("answered")
        .into_inner();
    let mut all = Vec::new();
    while let Some(chunk) = timeout(PATIENCE, chunks.message())
        .await
        .expect("in time")
        .expect("a chunk")
    {
        all.push(chunk);
    }
    all
}

fn want(kind: ContentKind, digest: Digest, base: Option<Digest>) -> Want {
    Want {
        kind: kind.into(),
        digest: digest.as_bytes().to_vec().into(),
        base: base
            .map(|base| base.as_bytes().to_vec())
            .unwrap_or_default()
            .into(),
    }
}

#[tokio::test]
async fn only_what_the_clusters_own_entries_reach_is_served() {
    let hub = Hub::start().await;
    let (one, two) = (hub.enrol("c1").await, hub.enrol("c2").await);
    let (a, b) = (hub.world.app("a").await, hub.world.app("b").await);
    let (own, foreign) = (config("x", "a: 1"), config("y", "b: 1"));
    let of_a = hub.world.render(a, "r1", std::slice::from_ref(&own)).await;
    let of_b = hub.world.render(b, "r1", std::slice::from_ref(&foreign)).await;
    hub.world.roll_out(a, &[one.cluster], &of_a).await;
    hub.world.roll_out(b, &[two.cluster], &of_b).await;
    let wants = |content: &Rendered, object: &Object| {
        vec![
            want(ContentKind::Content, content.admitted.content, None),
            want(ContentKind::Object, object.digest(), None),
            want(ContentKind::Config, object.digest(), None),
        ]
    };
    let missing = |chunks: &[Chunk]| chunks.iter().map(|chunk| chunk.missing).collect::<Vec<_>>();
    assert_eq!(
        missing(&fetch(&hub, &one, wants(&of_a, &own)).await),
        [false, false, true]
    );
    assert_eq!(
        missing(&fetch(&hub, &one, wants(&of_b, &foreign)).await),
        [true, true, true]
    );
    assert_eq!(
        missing(&fetch(&hub, &two, wants(&of_b, &foreign)).await),
        [false, false, true]
    );
    // What was never stored looks the same as what is another's.
    let nowhere = fetch(
        &hub,
        &one,
        vec![want(ContentKind::Object, Digest::of("x", b"x"), None)],
    )
    .await;
    assert_eq!((missing(&nowhere), nowhere[0].data.len()), (vec![true], 0));
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn whole_items_and_patches_decode_to_bytes_with_the_wanted_digest() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let app = hub.world.app("a").await;
    let (old, new) = (config("x", &lines("old")), config("x", &lines("new")));
    let secret = Object::new("Secret", "s", "stringData: {password: hunter2}");
    let before = hub.world.render(app, "r1", &[old.clone(), secret.clone()]).await;
    hub.world.roll_out(app, &[agent.cluster], &before).await;
    let after = hub.world.render(app, "r2", &[new.clone(), secret.clone()]).await;
    hub.world.roll_out(app, &[agent.cluster], &after).await;
    // An item is sent once for a request, however often that names it.
    let whole = want(ContentKind::Object, new.digest(), None);
    let mut chunks = fetch(
        &hub,
        &agent,
        vec![
            want(ContentKind::Content, after.admitted.content, None),
            whole.clone(),
            whole,
        ],
    )
    .await;
    for wanted in [
        want(ContentKind::Object, new.digest(), Some(old.digest())),
        want(ContentKind::Object, secret.digest(), None),
        // A base that is not here, and a secret as base: the whole item.
        want(ContentKind::Object, new.digest(), Some(Digest::of("x", b"x"))),
        want(ContentKind::Object, new.digest(), Some(secret.digest())),
    ] {
        chunks.extend(fetch(&hub, &agent, vec![wanted]).await);
    }
    let encodings: Vec<Encoding> = chunks.iter().map(Chunk::encoding).collect();
    use Encoding::{Identity, Zstd, ZstdDelta};
    assert_eq!(encodings, [Zstd, Zstd, ZstdDelta, Identity, Zstd, Zstd]);
    assert!(chunks.iter().all(|chunk| chunk.last && !chunk.missing));
    let decode = |chunk: &Chunk| zstd::decode_all(&chunk.data[..]).expect("a frame");
    let content = decode(&chunks[0]);
    assert_eq!(
        (&content, Content::digest_of(&content)),
        (&after.manifest, after.admitted.content)
    );
    for chunk in [&chunks[1], &chunks[4], &chunks[5]] {
        assert_eq!(decode(chunk), new.bytes);
        assert_eq!(chunk.decoded_size, new.bytes.len() as u64);
    }
    assert_eq!(unpatched(&old.bytes, &chunks[2].data), new.bytes);
    assert!(chunks[2].data.len() < 200, "{} bytes", chunks[2].data.len());
    assert_eq!(chunks[3].data, secret.bytes);
    assert_ne!(chunks[3].checksum, 0);
    hub.world.is_quiet().await;
}

/// What a patch of `old` makes of it, as an agent reads it.
fn unpatched(old: &[u8], patch: &[u8]) -> Vec<u8> {
    let mut decoder = zstd::stream::read::Decoder::with_ref_prefix(patch, old).expect("a frame");
    decoder.window_log_max(27).expect("as wide as the hub makes them");
    let mut read = Vec::new();
    decoder.read_to_end(&mut read).expect("read");
    read
}

#[tokio::test]
async fn a_secret_comes_whole_where_its_base_is_unreadable_and_others_as_a_patch() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let app = hub.world.app("a").await;
    let objects = |word: &str| {
        let secret = format!("stringData: {{password: {word}}}");
        [
            config("x", &lines(word)),
            config("y", &lines(word)),
            Object::new("Secret", "s", &secret),
        ]
    };
    let (old, new) = (objects("old"), objects("new"));
    for (revision, objects) in [("r1", &old), ("r2", &new)] {
        let content = hub.world.render(app, revision, objects).await;
        hub.world.roll_out(app, &[agent.cluster], &content).await;
    }
    let patched = |kind, n: usize| want(kind, new[n].digest(), Some(old[n].digest()));
    // Under another kind there is no such item.
    let wants = vec![
        patched(ContentKind::Unspecified, 0),
        patched(ContentKind::Object, 0),
    ];
    let chunks = fetch(&hub, &agent, wants).await;
    assert!(chunks[0].missing);
    assert_eq!(chunks[1].encoding(), Encoding::ZstdDelta);
    let damage = format!(
        "UPDATE object SET bytes = '\\x00' WHERE digest = '\\x{}'",
        old[2].digest()
    );
    hub.world.execute(&damage).await;
    let wants = vec![patched(ContentKind::Object, 1), patched(ContentKind::Object, 2)];
    let chunks = fetch(&hub, &agent, wants).await;
    let encodings: Vec<Encoding> = chunks.iter().map(Chunk::encoding).collect();
    assert_eq!(encodings, [Encoding::ZstdDelta, Encoding::Identity]);
    assert_eq!(chunks[1].data, new[2].bytes);
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn of_a_base_that_was_another_clusters_a_patch_tells_nothing() {
    let hub = Hub::start().await;
    let (one, two) = (hub.enrol("c1").await, hub.enrol("c2").await);
    let app = hub.world.app("a").await;
    let (old, new) = (config("x", &lines("old")), config("x", &lines("new")));
    let before = hub.world.render(app, "r1", std::slice::from_ref(&old)).await;
    hub.world.roll_out(app, &[one.cluster], &before).await;
    let after = hub.world.render(app, "r2", std::slice::from_ref(&new)).await;
    let both = [one.cluster, two.cluster];
    hub.world.roll_out(app, &both, &after).await;
    let wants = || {
        vec![
            want(ContentKind::Object, new.digest(), Some(old.digest())),
            want(
                ContentKind::Content,
                after.admitted.content,
                Some(before.admitted.content),
            ),
        ]
    };
    let encodings = |chunks: Vec<Chunk>| chunks.iter().map(Chunk::encoding).collect::<Vec<_>>();
    let own = encodings(fetch(&hub, &one, wants()).await);
    assert_eq!(own[0], Encoding::ZstdDelta, "it had the base");
    let foreign = encodings(fetch(&hub, &two, wants()).await);
    assert_eq!(foreign, [Encoding::Zstd; 2], "it never had the base");
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn an_item_larger_than_a_chunk_comes_in_order_and_ends_once() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let app = hub.world.app("a").await;
    // Digits of digests: nothing that compresses below two chunks.
    let text: String = (0..80_000_u64)
        .map(|n| Digest::of("noise", &n.to_be_bytes()).to_string())
        .collect();
    let large = config("x", &text);
    let content = hub.world.render(app, "r1", std::slice::from_ref(&large)).await;
    hub.world.roll_out(app, &[agent.cluster], &content).await;
    let chunks = fetch(
        &hub,
        &agent,
        vec![want(ContentKind::Object, large.digest(), None)],
    )
    .await;
    assert!(chunks.len() > 2 && chunks.iter().all(|chunk| chunk.data.len() <= 1 << 20));
    let (last, before) = chunks.split_last().expect("chunks");
    assert!(last.last && before.iter().all(|chunk| !chunk.last));
    let frame: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.data.to_vec()).collect();
    assert_eq!(zstd::decode_all(&frame[..]).expect("a frame"), large.bytes);
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn content_goes_only_to_the_agent_whose_stream_holds_the_cluster() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let first = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    let _second = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    let mut client = AgentServiceClient::new(agent.channel(&hub).await);
    for epoch in [0, first.welcome.epoch] {
        let request = FetchRequest { want: vec![], epoch };
        let refused = client.fetch(request).await.map(drop).expect_err("refused");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    }
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_bad_report_is_answered_as_a_report_and_the_stream_goes_on() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let mut off = hello(&agent);
    off.clock_ms = 1;
    off.agent_version = format!("\u{1b}[2J{}", "v".repeat(100_000));
    let mut stream = Stream::open(&hub, &agent, off).await.expect("open");
    let message = async || {
        hub.world
            .store
            .list_clusters("c1", "", 1)
            .await
            .expect("read")
            .remove(0)
    };
    let cluster = message().await;
    assert!(
        cluster.message.contains("clock is") && cluster.message.contains("days behind"),
        "{}",
        cluster.message
    );
    assert!(cluster.agent_version.len() <= 128 && !cluster.agent_version.contains('\u{1b}'));
    stream.report(1, vec![UnitStatus::default(); 3]).await;
    let answer = stream.next().await.expect("an answer");
    let hub_message::Kind::ReportAck(ack) = answer else {
        panic!("an acknowledgement: {answer:?}")
    };
    assert_eq!((ack.seq, ack.left_out.as_str()), (1, "3 × row without a unit id"));
    assert!(
        message()
            .await
            .message
            .contains("left out some of what the agent reported")
    );
    // Larger than a report may be, and no reason to end the stream.
    let large = UnitStatus {
        message: "m".repeat(2 << 20),
        ..UnitStatus::default()
    };
    stream.report(2, vec![large]).await;
    let answer = stream.next().await.expect("an answer");
    assert!(matches!(&answer, hub_message::Kind::ReportAck(ack) if ack.seq == 2 && !ack.left_out.is_empty()));
    stream.report(3, vec![]).await;
    let answer = stream.next().await.expect("an answer");
    assert!(matches!(&answer, hub_message::Kind::ReportAck(ack) if ack.seq == 3 && ack.left_out.is_empty()));
    drop(stream);
    let _next = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    let said = message().await.message;
    assert!(said.contains("left out some"), "until all is reported: {said}");
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_whole_state_that_is_refused_is_not_sent_again_and_again() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let app = hub.world.app("a").await;
    let content = hub.world.render(app, "r1", &[config("x", "a: 1")]).await;
    hub.world.roll_out(app, &[agent.cluster], &content).await;
    let mut stream = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    let whole = stream.desired().await;
    assert_eq!(whole.base_generation, None);
    // Whatever it says that it refuses.
    for generation in [0, whole.generation + 1, whole.generation] {
        let refused = Refused {
            incarnation: whole.incarnation,
            generation,
            reason: RefusedReason::RootMismatch.into(),
            message: "the entries give another root".into(),
        };
        let message = AgentMessage {
            kind: Some(agent_message::Kind::Refused(refused)),
        };
        stream.to_hub.send(message).await.expect("open");
    }
    // Had it been sent again, it would stand before this answer.
    stream.report(1, vec![]).await;
    let next = stream.next().await.expect("an answer");
    assert!(matches!(next, hub_message::Kind::ReportAck(_)), "{next:?}");
    let said = "SELECT count(*) FROM session WHERE message LIKE 'refused generation 1%another root'";
    assert_eq!(hub.world.count(said).await, 1);
    // It stays said whatever else the agent says, until it takes that state.
    for (seq, generation, is_said) in [(2, 0, 1), (3, whole.generation, 0)] {
        let ack = Ack {
            incarnation: whole.incarnation,
            generation,
            units: Vec::new(),
        };
        let message = AgentMessage {
            kind: Some(agent_message::Kind::Ack(ack)),
        };
        stream.to_hub.send(message).await.expect("open");
        let taken = format!("SELECT count(*) FROM session WHERE accepted_generation = {generation}");
        let heard = wait_until("the acknowledgement", SOON, async || {
            Ok::<_, String>((hub.world.count(&taken).await == 1).then_some(()))
        });
        heard.await.expect("heard");
        stream.report(seq, vec![]).await;
        stream.next().await.expect("an answer");
        assert_eq!(
            hub.world.count(said).await,
            is_said,
            "generation {generation} is held"
        );
    }
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_stream_ends_soon_after_its_cluster_is_revoked_or_taken_over_elsewhere() {
    let hub = Hub::start().await;
    let (revoked, taken) = (hub.enrol("c1").await, hub.enrol("c2").await);
    let mut of_revoked = Stream::open(&hub, &revoked, hello(&revoked)).await.expect("open");
    let mut of_taken = Stream::open(&hub, &taken, hello(&taken)).await.expect("open");
    hub.world
        .execute(&format!(
            "UPDATE cluster SET state = 'Suspended' WHERE id = '{}'",
            revoked.cluster
        ))
        .await;
    hub.world
        .store
        .wake(Topic::Identity, &[revoked.cluster])
        .await
        .expect("told");
    let ended = timeout(SOON, of_revoked.next()).await.expect("soon");
    assert_eq!(ended.expect_err("ended").code(), Code::Aborted);
    // Another hub has opened a stream of the cluster.
    crate::reports::open(&hub.world, taken.cluster).await;
    let ended = timeout(SOON, of_taken.next()).await.expect("soon");
    assert_eq!(ended.expect_err("ended").code(), Code::Aborted);
    hub.world.is_quiet().await;
}

/// An agent takes no message that large: it would end its stream over it, and come back for the same each minute.
#[tokio::test]
async fn a_state_that_no_agent_takes_is_not_sent_and_named_and_the_next_that_fits_is() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let (a, b) = (hub.world.app("a").await, hub.world.app("b").await);
    for (app, name) in [(a, "x"), (b, "y")] {
        let content = hub.world.render(app, "r1", &[config(name, "a: 1")]).await;
        hub.world.roll_out(app, &[agent.cluster], &content).await;
    }
    let entries =
        "UPDATE desired_entry SET bytes = CASE WHEN unit_id IN (SELECT id FROM unit WHERE app_uid = ";
    let kept = "CREATE TABLE kept AS SELECT unit_id, bytes FROM desired_entry;";
    let grown = format!(
        "{kept} {entries}'{a}') THEN bytes || convert_to(repeat(' ', 34 * 1024 * 1024), 'UTF8') ELSE bytes END"
    );
    hub.world.execute(&grown).await;
    let mut stream = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    let said = "SELECT count(*) FROM session WHERE message LIKE '%more than 32 MiB%'";
    let said = wait_until("the message", PATIENCE, async || {
        Ok::<_, String>((hub.world.count(said).await == 1).then_some(()))
    });
    said.await.expect("said");
    let said = hub.world.store.list_clusters("c1", "", 1).await.expect("listed");
    let message = &said[0].message;
    let largest = message.split("the largest are ").nth(1).expect("they are named");
    let names: Vec<&str> = largest
        .split([',', ':'])
        .map(|name| name.rsplit('/').next().unwrap_or(name))
        .collect();
    assert_eq!(names[..2], ["a", "b"], "{message}");
    let refused = "SELECT count(*) FROM unit_refused WHERE reason = 'StateTooLarge'";
    assert_eq!(hub.world.count(refused).await, 2, "its apps say so");
    // The largest may be others with the next publication, and what is said of each app is then written again.
    let names = "SELECT count(*) FROM unit_refused WHERE message LIKE '%largest%'";
    assert_eq!(hub.world.count(names).await, 0, "they name no other app");
    // What fits is sent with the next publication, whole.
    hub.world
        .execute("UPDATE desired_entry e SET bytes = k.bytes FROM kept k WHERE k.unit_id = e.unit_id; DROP TABLE kept")
        .await;
    let again = hub.world.render(b, "r2", &[config("y", "a: 2")]).await;
    hub.world.roll_out(b, &[agent.cluster], &again).await;
    let whole = stream.desired().await;
    assert_eq!((whole.base_generation, whole.units.len()), (None, 2));
    accept(&mut BTreeMap::new(), &whole);
    hub.world.is_quiet().await;
}
