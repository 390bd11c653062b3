//! What the store gives for an explanation, and where an app belongs: of one moment, and of every cluster that is to have it.

use flotilla_hub::store::{reference::Reference, resource::FLEET};

use crate::{store::one_unit, world::World};

fn source() -> Reference {
    Reference {
        kind: "OCIRepository".into(),
        scope: FLEET,
        namespace: "apps".into(),
        name: "source".into(),
    }
}

#[tokio::test]
async fn what_is_explained_is_of_one_moment_and_of_the_spec_that_is_asked_about() {
    let world = World::new().await;
    let app = world.app("a").await;
    one_unit(&world, "c1", app).await;
    let mut moment = world.store.moment().await.expect("begun");
    let known = moment.app(app, 1).await.expect("read").expect("there");
    let rendered = known.rendering.expect("rendered");
    assert_eq!((known.observed, rendered.revision.as_str()), (true, "c1"));
    // A commit comes meanwhile: what the app is compared with is not that.
    world.revision("r2").await;
    let seen = moment.source(&source()).await.expect("read").expect("there");
    assert_eq!(seen.revision.as_deref(), Some("c1"));
    let content = known.content.as_deref();
    let units = moment.units(app, content, "", "", 20).await.expect("read");
    assert_eq!(units[0].unit.target_revision, "c1");
    moment.end().await.expect("ended");

    let mut moment = world.store.moment().await.expect("begun");
    let seen = moment.source(&source()).await.expect("read").expect("there");
    assert_eq!(seen.revision.as_deref(), Some("r2"));
    // Whoever asks has read a spec that has changed since.
    let known = moment.app(app, 0).await.expect("read").expect("there");
    assert!(!known.observed);
    moment.end().await.expect("ended");
}
