//! What a rendering sends to the database, in bytes: that of which it differs from what is there, and its manifest.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flotilla_core::digest::Digest;
use flotilla_hub::store::Store;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use crate::{
    store::config,
    world::{Object, World},
};

const SOCKET: &str = ".s.PGSQL.5432";
/// Questions, digests and rows of what is new, beside manifests.
const SMALL: u64 = 32 << 10;

/// A store whose way to the database is counted.
struct Metered {
    world: World,
    sent: Arc<AtomicU64>,
}

impl Metered {
    async fn new() -> Self {
        let mut world = World::new().await;
        let sent = Arc::<AtomicU64>::default();
        let real = world.options().get_socket().expect("a socket").join(SOCKET);
        let listener = UnixListener::bind(world.dir.path().join(SOCKET)).expect("bound");
        let counted = sent.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, real.clone(), counted.clone()));
            }
        });
        let options = world.options().socket(world.dir.path());
        world.store = Store::open(options, 4).await.expect("the store opens");
        world.planning = world.store.for_planning();
        Self { world, sent }
    }

    fn take(&self) -> u64 {
        self.sent.swap(0, Ordering::SeqCst)
    }
}

/// Carries a connection on, and counts what its client sends.
async fn relay(client: UnixStream, real: impl AsRef<Path>, sent: Arc<AtomicU64>) {
    let Ok(server) = UnixStream::connect(real).await else {
        return;
    };
    let (mut from, mut back) = client.into_split();
    let (mut answers, mut to) = server.into_split();
    let there = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(read) = from.read(&mut piece).await
            && read > 0
            && to.write_all(&piece[..read]).await.is_ok()
        {
            sent.fetch_add(u64::try_from(read).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    };
    let (_, _) = tokio::join!(there, tokio::io::copy(&mut answers, &mut back));
}

/// An object of about 4 KiB that no compression makes much smaller.
fn large(kind: &str, number: usize, version: &str) -> Object {
    let part = |n: usize| Digest::of("part", format!("{number} {version} {n}").as_bytes()).to_string();
    let text: Vec<String> = (0..64).map(part).collect();
    Object::new(kind, &format!("x{number}"), &text.join(" "))
}

fn all(objects: usize) -> Vec<Object> {
    (0..objects)
        .map(|n| large(if n % 10 == 0 { "Secret" } else { "ConfigMap" }, n, "first"))
        .collect()
}

#[tokio::test]
async fn a_change_of_one_of_many_objects_sends_that_one_and_the_manifest() {
    let metered = Metered::new().await;
    let world = &metered.world;
    let app = world.app("a").await;
    let cluster = world.cluster("c1").await;
    let mut objects = all(1500);
    metered.take();
    let first = world.render(app, "r1", &objects).await;
    let whole = metered.take();
    world.roll_out(app, &[cluster], &first).await;
    let manifest = |bytes: &[u8]| u64::try_from(bytes.len()).expect("it fits");
    // One of each kind changes, one goes, one comes.
    for (place, kind) in [(10, "Secret"), (11, "ConfigMap")] {
        objects[place] = large(kind, place, "second");
    }
    objects.swap_remove(20);
    objects.push(large("ConfigMap", 5000, "first"));
    metered.take();
    let second = world.render(app, "r2", &objects).await;
    let changed = metered.take();
    assert!(
        changed < manifest(&second.manifest) + SMALL && changed < whole / 10,
        "{changed} bytes, {whole} for all"
    );
    let held =
        |content: Digest| format!("SELECT count(*) FROM content_object WHERE content = '\\x{content}'");
    for content in [first.admitted.content, second.admitted.content] {
        assert_eq!(world.count(&held(content)).await, 1500);
    }
    let gone = objects_of(world, first.admitted.content, second.admitted.content).await;
    let come = objects_of(world, second.admitted.content, first.admitted.content).await;
    assert_eq!((gone, come), (3, 3));
}

/// How many objects one content has and another has not.
async fn objects_of(world: &World, one: Digest, other: Digest) -> i64 {
    let of = |content: Digest| format!("SELECT object FROM content_object WHERE content = '\\x{content}'");
    let query = format!("SELECT count(*) FROM ({} EXCEPT {}) AS x", of(one), of(other));
    world.count(&query).await
}

#[tokio::test]
async fn a_change_of_one_of_20_000_objects_writes_the_rows_of_what_it_is_part_of() {
    let world = World::new().await;
    let app = world.app("a").await;
    let cluster = world.cluster("c1").await;
    let mut objects: Vec<Object> = (0..20_000)
        .map(|n| config(&format!("x{n}"), &format!("a: {n}")))
        .collect();
    let first = world.render(app, "r1", &objects).await;
    world.roll_out(app, &[cluster], &first).await;
    let rows = async |table: &str| world.count(&format!("SELECT count(*) FROM {table}")).await;
    assert_eq!(
        (rows("part_object").await, rows("content_object").await),
        (20_000, 20_000)
    );
    let parts = rows("content_part").await;
    objects[7] = config("x7", "b: 7");
    let second = world.render(app, "r2", &objects).await;
    let (held, more) = (
        rows("part_object").await - 20_000,
        rows("content_part").await - parts,
    );
    assert!(
        (1..=400).contains(&held) && (1..=256).contains(&more),
        "{held} {more}"
    );
    assert_eq!(rows("content_object").await, 40_000);
    let (first, second) = (first.admitted.content, second.admitted.content);
    assert_eq!(
        (
            objects_of(&world, first, second).await,
            objects_of(&world, second, first).await
        ),
        (1, 1)
    );
    // What no content has any more goes, and nothing else.
    let roots = "DELETE FROM input_at; UPDATE app_input SET input_key = ''; DELETE FROM rendering";
    world.execute(roots).await;
    for table in ["content", "part", "object"] {
        let aged = format!("UPDATE {table} SET referenced_at = now() - interval '2 days'");
        world.execute(&aged).await;
    }
    world.remove_unused().await;
    assert_eq!(
        (rows("part_object").await, rows("object").await),
        (20_000, 20_000)
    );
    assert_eq!(rows("content_object").await, 20_000);
}

#[tokio::test]
async fn what_renders_to_the_same_sends_nothing_of_it() {
    let metered = Metered::new().await;
    let world = &metered.world;
    let app = world.app("a").await;
    let cluster = world.cluster("c1").await;
    let objects = all(500);
    let first = world.render(app, "r1", &objects).await;
    world.roll_out(app, &[cluster], &first).await;
    world
        .execute("UPDATE content SET referenced_at = now() - interval '2 days'")
        .await;
    metered.take();
    let same = world.render(app, "r2", &objects).await;
    let sent = metered.take();
    assert_eq!(same.admitted.content, first.admitted.content);
    assert!(sent < SMALL, "{sent} bytes");
    let touched = "SELECT count(*) FROM content WHERE referenced_at > now() - interval '1 hour'";
    assert_eq!(world.count(touched).await, 1);
}

#[tokio::test]
async fn what_another_app_has_brought_is_asked_for_and_not_sent_again() {
    let metered = Metered::new().await;
    let world = &metered.world;
    let (one, other) = (world.app("a").await, world.app("b").await);
    let objects = all(300);
    metered.take();
    world.render(one, "r1", &objects).await;
    let whole = metered.take();
    world
        .execute("UPDATE object SET referenced_at = now() - interval '2 days'")
        .await;
    let mut more = objects.clone();
    more.push(config("y", "a: 1"));
    metered.take();
    let content = world.render(other, "r2", &more).await;
    let sent = metered.take();
    // The digests go twice: asked for, and written beside the content.
    assert!(sent < whole / 10 + SMALL, "{sent} bytes, {whole} for all");
    let held = format!(
        "SELECT count(*) FROM content_object c JOIN object o ON o.digest = c.object
         WHERE c.content = '\\x{}' AND o.referenced_at > now() - interval '1 hour'",
        content.admitted.content
    );
    assert_eq!(world.count(&held).await, 301, "each is there and touched");
}
