//! What agents may have of what they ask for, whatever else there is that has it.

use flotilla_core::digest::Digest;
use flotilla_hub::store::publish::{Question, Reachable};
use uuid::Uuid;

use crate::{
    store::config,
    world::{Object, World},
};

async fn objects(world: &World) -> Vec<Digest> {
    let digests: Vec<Vec<u8>> = sqlx::query_scalar("SELECT DISTINCT object FROM content_object")
        .fetch_all(&world.pool)
        .await
        .expect("read");
    let digests = digests.iter().map(|digest| Digest::try_from_slice(digest));
    digests.collect::<Result<_, _>>().expect("digests")
}

/// What may be had of these, and what of them is a base.
async fn asked(world: &World, cluster: Uuid, objects: &[Digest]) -> (usize, usize) {
    let question = Question {
        cluster,
        objects: objects.iter().copied().collect(),
        base_objects: objects.iter().copied().collect(),
        ..Question::default()
    };
    let answers = world.store.reachable(&[question]).await.expect("answered");
    let [Reachable { wanted, bases }] = &answers[..] else {
        panic!("one answer: {answers:?}")
    };
    (wanted.len(), bases.len())
}

#[tokio::test]
async fn an_agent_may_have_what_its_units_hold_however_many_others_have_it_and_however_much_it_asks_for() {
    let world = World::new().await;
    let (app, other) = (world.app("a").await, world.app("b").await);
    let (cluster, elsewhere) = (world.cluster("c1").await, world.cluster("c2").await);
    let held: Vec<Object> = (0..150)
        .map(|n| config(&format!("x{n}"), &format!("a: {n}")))
        .collect();
    let content = world.render(app, "r1", &held).await;
    world.roll_out(app, &[cluster], &content).await;
    let held = objects(&world).await;
    assert_eq!(held.len(), 150);
    // One that has units, and none of these objects.
    let content = world.render(other, "r2", &[config("y", "b: 1")]).await;
    world.roll_out(other, &[elsewhere], &content).await;
    assert_eq!(asked(&world, cluster, &held).await.0, 150);
    assert_eq!(asked(&world, cluster, &held[..90]).await, (90, 90));
    assert_eq!(asked(&world, elsewhere, &held).await, (0, 0));
    let unknown = |count: usize| (0..count).map(|n| Digest::of("object", &n.to_be_bytes()));
    let many: Vec<Digest> = held.iter().copied().chain(unknown(500)).collect();
    assert_eq!(
        asked(&world, cluster, &many).await.0,
        150,
        "more than are looked up"
    );
    assert_eq!(asked(&world, elsewhere, &many).await, (0, 0));
    // Parts that no content has any more.
    world
        .execute(
            "INSERT INTO part (digest) SELECT sha256(n::text::bytea) FROM generate_series(1, 50) n;
             INSERT INTO part_object SELECT sha256(n::text::bytea), digest FROM object, generate_series(1, 50) n",
        )
        .await;
    assert_eq!(asked(&world, cluster, &held[..90]).await, (90, 90));
    // And more contents than are looked at, of nobody.
    world
        .execute(
            "INSERT INTO content (digest, bytes, decoded_size, objects)
               SELECT sha256(('c' || n)::bytea), '', 0, 0 FROM generate_series(1, 50) n;
             INSERT INTO content_part (content, part)
               SELECT sha256(('c' || n)::bytea), part FROM (SELECT DISTINCT part FROM content_part) AS p,
                 generate_series(1, 50) n",
        )
        .await;
    assert_eq!(
        asked(&world, cluster, &held).await.0,
        150,
        "it is gone through for"
    );
    assert_eq!(asked(&world, elsewhere, &held).await.0, 0);
    assert_eq!(asked(&world, cluster, &held[..1]).await.0, 1);
}
