//! What the store gives for an explanation, and where an app belongs: of one moment, and of every cluster that is to have it.

use std::collections::BTreeMap;

use flotilla_hub::store::{reference::Reference, report::ConditionRow, resource::FLEET, session::Told};
use flotilla_hub::task::explain::{Asked, facts};
use flotilla_proto::fleet::v1::{ExplainRequest, Explanation};
use flotilla_testkit::wait_until;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    deploys::{Fleet, PLACEMENT, app, config_map},
    explain::{cause, engine, named, step},
    hub::PATIENCE,
    puppet::Puppet,
    reports::open_judged,
    store::one_unit,
    world::World,
};

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
    assert_eq!(seen.1.revision.as_deref(), Some("c1"));
    let content = known.content.as_deref();
    let units = moment.units(app, content, "", "", 20).await.expect("read");
    assert_eq!(units[0].unit.target_revision, "c1");
    moment.end().await.expect("ended");

    let mut moment = world.store.moment().await.expect("begun");
    let seen = moment.source(&source()).await.expect("read").expect("there");
    assert_eq!(seen.1.revision.as_deref(), Some("r2"));
    // Whoever asks has read a spec that has changed since.
    let known = moment.app(app, 0).await.expect("read").expect("there");
    assert!(!known.observed);
    moment.end().await.expect("ended");
}

#[tokio::test]
async fn an_app_that_has_no_unit_yet_is_explained_where_it_is_to_have_one() {
    let fleet = Fleet::empty().await;
    fleet.hub.world.cluster("c1").await;
    fleet.hub.world.cluster("c2").await;
    let _repository = fleet
        .repository("a", &[("app/x.yaml", &config_map("x", "1"))])
        .await;
    let wants = "  postBuild: {substituteFrom: [{kind: ConfigMap, name: sizes}]}\n";
    let elsewhere = PLACEMENT.replace("[c1]", "[c9]");
    fleet
        .apply(&[&fleet.source("a"), &app("a", "./app", wants), &elsewhere])
        .await;
    let nowhere = fleet.hub.blames("", "placement", "NoClusterMatches").await;
    assert_eq!((nowhere.cluster.as_str(), nowhere.unit_id.as_str()), ("", ""));
    // Chosen, and held before it has anything: its placement is not to blame.
    fleet.apply(&[PLACEMENT]).await;
    let held = fleet.hub.blames("", "plan", "NotSupported").await;
    assert_eq!((held.cluster.as_str(), held.unit_id.as_str()), ("c1", ""));
    assert!(
        cause(&held)
            .message
            .contains("ConfigMap apps/sizes is not on the hub"),
        "{held:?}"
    );
    assert_eq!(
        (
            step(&held, "placement").state.as_str(),
            step(&held, "placement").message.as_str()
        ),
        ("Ok", "Placement/everywhere names the cluster")
    );
    fleet.suspend("Kustomization", "app", true).await;
    let suspended = fleet.hub.blames("", "plan", "Suspended").await;
    assert_eq!(suspended.cluster, "c1");
    fleet.hub.world.is_quiet().await;
}

const OTHER: &str = "apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {name: other}
spec:
  apps: [{kind: Kustomization, name: app, namespace: apps}]
  clusters: {names: [c2]}
  overrides: [{variables: {SIZE: two}}]
";

#[tokio::test]
async fn a_cluster_that_lacks_the_app_stands_among_those_that_have_it_and_is_a_reason_in_no_other() {
    let fleet = Fleet::empty().await;
    for name in ["c1", "c2", "c3", "c4"] {
        fleet.hub.world.cluster(name).await;
    }
    let _repository = fleet
        .repository("a", &[("app/x.yaml", &config_map("x", "1"))])
        .await;
    let three = PLACEMENT.replace("[c1]", "[c1, c2, c3]");
    // Both placements first: with one of them it would have a unit in each.
    fleet.apply(&[OTHER, &three]).await;
    fleet.apply(&[&fleet.source("a"), &app("a", "./app", "")]).await;
    let look = async || {
        let all = fleet.hub.explain("Kustomization", "app", "").await;
        let seen: Vec<_> = all
            .iter()
            .map(|one| {
                let plan = step(one, "plan");
                let has_unit = !one.unit_id.is_empty();
                (
                    one.cluster.as_str(),
                    has_unit,
                    plan.state.as_str(),
                    plan.reason.as_str(),
                )
            })
            .collect();
        let expected = [
            ("c1", true, "Ok", ""),
            ("c2", false, "Blocked", "Conflict"),
            ("c3", true, "Ok", ""),
        ];
        match seen == expected {
            true => Ok(Some(all)),
            false => Err(format!("{all:?}")),
        }
    };
    let all = wait_until("it is planned", PATIENCE, look).await.expect("said");
    assert_eq!(
        cause(&all[1]).next,
        "make Placement/everywhere and Placement/other agree"
    );
    // Pages go through both.
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let request = ExplainRequest {
            app: Some(named("Kustomization", "app")),
            page_size: 1,
            page_token: after,
            ..ExplainRequest::default()
        };
        let page = fleet.hub.explain_page(request).await;
        seen.extend(page.explanations.into_iter().map(|one| one.cluster));
        after = page.next_page_token;
        if after.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["c1", "c2", "c3"]);
    fleet.hub.world.is_quiet().await;
}

/// Waits until `app` is suspended on c1 with this verdict.
async fn left(fleet: &Fleet, verdict: &str) -> Explanation {
    let look = async || {
        let first = fleet.hub.explain("Kustomization", "app", "c1").await.remove(0);
        let blamed = first.cause.clone().unwrap_or_default();
        let is_left = (blamed.name.as_str(), blamed.reason.as_str()) == ("plan", "Suspended");
        match is_left && first.verdict == verdict && step(&first, "apply").reason == "Suspended" {
            true => Ok(Some(first)),
            false => Err(format!("{first:?}")),
        }
    };
    wait_until(verdict, PATIENCE, look).await.expect("said")
}

#[tokio::test]
async fn a_suspended_app_that_was_changed_is_not_said_to_have_what_it_was_never_rendered_from() {
    let fleet = Fleet::empty().await;
    let agent = fleet.hub.enrol("c1").await;
    let _puppet = Puppet::connect(&fleet.hub, &agent).await;
    let _repository = fleet.deploy(PLACEMENT).await;
    let _other = fleet
        .repository("b", &[("app/y.yaml", &config_map("y", "1"))])
        .await;
    fleet.apply(&[&fleet.source("b")]).await;
    let before = fleet.is_explained_as_applied().await;
    let suspended = |source: &str, path: &str| app(source, path, "  suspend: true\n");
    fleet.apply(&[&suspended("a", "./app")]).await;
    let same = left(&fleet, "NotReady").await;
    assert_eq!(same.source_revision, before.source_revision);
    // Another path, which is not there: that is said first, since to resume it would not help.
    fleet.apply(&[&suspended("a", "./other")]).await;
    let look = async || {
        let first = fleet.hub.explain("Kustomization", "app", "c1").await.remove(0);
        let blamed = first.cause.clone().unwrap_or_default();
        let is_so = (first.verdict.as_str(), blamed.name.as_str()) == ("NotApplied", "rendering")
            && step(&first, "plan").reason == "Suspended";
        match is_so {
            true => Ok(Some(())),
            false => Err(format!("{first:?}")),
        }
    };
    wait_until("what does not render", PATIENCE, look)
        .await
        .expect("said");
    fleet.apply(&[&suspended("b", "./app")]).await;
    // Nor is that only so until it is planned.
    fleet.hub.world.is_quiet().await;
    let other = left(&fleet, "NotApplied").await;
    assert_ne!(other.source_revision, before.source_revision);
    assert_eq!(other.applied_revision, before.source_revision);
    fleet.apply(&[&suspended("a", "./app")]).await;
    left(&fleet, "NotReady").await;
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn what_an_agent_refuses_is_known_apart_from_what_is_wrong_with_its_cluster() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, ..) = one_unit(&world, "c1", app).await;
    let other = world.cluster("c2").await;
    let wrong = ConditionRow {
        kind: "Clock",
        ok: false,
        message: "behind".into(),
        since: OffsetDateTime::now_utc(),
    };
    let row = world.store.resource(app).await.expect("read").expect("there");
    let said = async |id: Uuid, name: &str| {
        let asked = Asked {
            cluster: Some((id, name.into())),
            limit: 20,
            ..Asked::default()
        };
        let found = facts(&world.store, &engine(), &row, &asked).await;
        let mut found = found.expect("read").expect("there");
        let agent = found.remove(0).1.agent.expect("an agent");
        (agent.refusal, agent.conditions)
    };
    // Also where the app is not.
    for (id, name) in [(cluster, "c1"), (other, "c2")] {
        let epoch = open_judged(&world, id, std::slice::from_ref(&wrong)).await;
        assert_eq!(said(id, name).await, (String::new(), "behind".to_owned()));
        let refused = Told {
            cluster: id,
            epoch,
            accepted: None,
            units: BTreeMap::new(),
            refusal: None,
            message: "refused generation 7".into(),
        };
        world.store.told(&[refused]).await.expect("told");
        let both = ("refused generation 7".to_owned(), "behind".to_owned());
        assert_eq!(said(id, name).await, both);
    }
}
