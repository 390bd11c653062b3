//! What goes along with a state: little changes of contents, made once for all clusters that have them.

use std::io::Read as _;

use flotilla_core::digest::Digest;
use flotilla_hub::grpc::fetch::Fetcher;
use flotilla_proto::agent::v1::{Chunk, Desired, Encoding};
use uuid::Uuid;

use crate::{
    agent_stream::{Stream, config, hello, holding, lines},
    hub::{Agent, Hub},
    statements::Statements,
    world::{Object, Rendered, World},
};

/// The item of this digest, by what it replaces where it is a patch of that.
fn read(desired: &Desired, digest: Digest, old: &[u8], base: Digest) -> Option<Vec<u8>> {
    let named = |chunk: &&Chunk| chunk.digest[..] == digest.as_bytes()[..];
    let chunk = desired.contents.iter().find(named)?;
    assert!(chunk.last && !chunk.missing && chunk.checksum == 0);
    let mut read = Vec::new();
    match chunk.encoding() {
        Encoding::ZstdDelta => {
            assert_eq!(chunk.base[..], base.as_bytes()[..]);
            let mut decoder =
                zstd::stream::read::Decoder::with_ref_prefix(&chunk.data[..], old).expect("a frame");
            decoder.window_log_max(27).expect("as wide as the hub makes them");
            decoder.read_to_end(&mut read).expect("read");
        }
        Encoding::Zstd => read = zstd::decode_all(&chunk.data[..]).expect("a frame"),
        other => panic!("{other:?}"),
    }
    Some(read)
}

async fn rendered(hub: &Hub, app: Uuid, revision: &str, objects: &[Object], agent: &Agent) -> Rendered {
    let content = hub.world.render(app, revision, objects).await;
    hub.world.roll_out(app, &[agent.cluster], &content).await;
    content
}

#[tokio::test]
async fn what_a_small_change_needs_goes_along_and_nothing_of_a_secret() {
    let hub = Hub::start().await;
    let agent = hub.enrol("c1").await;
    let app = hub.world.app("a").await;
    let secret = |word: &str| Object::new("Secret", "s", &format!("stringData: {{password: {word}}}"));
    let (old, new) = (config("x", &lines("old")), config("x", &lines("new")));
    let (added, same) = (config("added", "a: 1"), config("same", "a: 1"));
    let first = [old.clone(), same.clone(), secret("hunter2")];
    let before = rendered(&hub, app, "r1", &first, &agent).await;
    let mut stream = Stream::open(&hub, &agent, hello(&agent)).await.expect("open");
    let whole = stream.desired().await;
    assert!(
        whole.contents.is_empty(),
        "what it holds is not known: it fetches"
    );
    let second = [new.clone(), same.clone(), secret("hunter3"), added.clone()];
    let after = rendered(&hub, app, "r2", &second, &agent).await;
    let change = stream.desired().await;
    let content = after.admitted.content;
    let manifest = read(&change, content, &before.manifest, before.admitted.content);
    assert_eq!(manifest.as_ref(), Some(&after.manifest));
    assert_eq!(
        read(&change, new.digest(), &old.bytes, old.digest()),
        Some(new.bytes.clone())
    );
    assert_eq!(
        read(&change, added.digest(), &[], old.digest()),
        Some(added.bytes.clone())
    );
    // What it holds, and what is secret, is not among it.
    assert_eq!(change.contents.len(), 3, "{change:?}");
    let text = format!("{change:?}");
    assert!(!text.contains("hunter") && !text.contains(&hex::encode(secret("hunter3").digest().as_bytes())));
    // The same content with other settings needs nothing.
    hub.world
        .execute(
            "UPDATE unit SET version = version + 1; INSERT INTO unpublished SELECT cluster_id, id FROM unit",
        )
        .await;
    hub.world.publish(agent.cluster).await;
    let settings = stream.desired().await;
    assert_eq!((settings.units.len(), settings.contents.len()), (1, 0));
    // A change of much is fetched.
    let noise: String = (0..2000_u64)
        .map(|n| Digest::of("noise", &n.to_be_bytes()).to_string())
        .collect();
    let large = config("x", &noise);
    rendered(&hub, app, "r3", &[large.clone(), same.clone()], &agent).await;
    let much = stream.desired().await;
    assert_eq!((much.units.len(), much.contents.len()), (1, 0));
    // Who comes back with an earlier state is offered what changed since; what it cannot use it fetches.
    drop(stream);
    rendered(&hub, app, "r4", &[large, same, added.clone()], &agent).await;
    let mut stream = Stream::open(&hub, &agent, holding(&agent, &settings))
        .await
        .expect("open");
    let later = stream.desired().await;
    assert_eq!(later.base_generation, Some(settings.generation));
    assert!(read(&later, added.digest(), &[], old.digest()).is_some());
    hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_change_that_a_thousand_agents_need_is_read_once() {
    let world = World::new().await;
    let app = world.app("a").await;
    let before = world.render(app, "r1", &[config("x", &lines("old"))]).await;
    let after = world.render(app, "r2", &[config("x", &lines("new"))]).await;
    let (old, new) = (before.admitted.content, after.admitted.content);
    let fetcher = Fetcher::new(world.store.clone(), world.seal.clone());
    let statements = Statements::listen();
    let all = futures::future::join_all((0..1000).map(|_| fetcher.change(old, new))).await;
    assert!(
        all.iter()
            .all(|one| one.as_ref().is_some_and(|chunks| chunks.len() == 2))
    );
    let asked = statements.take();
    // Both contents to compare them, and to make the patch of the one; both objects.
    assert_eq!(asked.len(), 3, "{asked:#?}");
    assert!(fetcher.change(new, old).await.is_some(), "and back");
    let nowhere = Digest::of("content", b"never here");
    assert!(fetcher.change(nowhere, new).await.is_none());
}
