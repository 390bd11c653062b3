//! Why an app is in a cluster as it is: each reason, told by a running hub of what it has stored.

use flotilla_core::removal::DeletionPolicy;
use flotilla_hub::renderer::{NativeRenderer, Renderer};
use flotilla_hub::store::departure::Deleted;
use flotilla_hub::store::event::EventFilter;
use flotilla_hub::store::report::{ObjectRow, StatusRow};
use flotilla_hub::task::{
    explain::{Asked, facts},
    render::Engine,
};
use flotilla_proto::fleet::v1::{
    ExplainRequest, ExplainResponse, ExplainedStep, Explanation, Resource, ResourceRef, SuspendRequest,
};
use flotilla_testkit::{GitFault, wait_until};
use serde_json::json;
use tonic::Code;
use uuid::Uuid;

use crate::{
    deploys::{Fleet, PLACEMENT, app, config_map},
    hub::{Hub, PATIENCE},
    leaving::{Two, render, unit},
    puppet::Puppet,
    reports::{object, open, report},
    statements::Statements,
    store::{config, one_unit},
    world::{World, applied, resource},
};

impl Hub {
    /// Explains an app in one cluster, or in all.
    pub(crate) async fn explain(&self, kind: &str, name: &str, cluster: &str) -> Vec<Explanation> {
        let request = ExplainRequest {
            app: Some(named(kind, name)),
            cluster: cluster.into(),
            ..ExplainRequest::default()
        };
        self.explain_page(request).await.explanations
    }

    pub(crate) async fn explain_page(&self, request: ExplainRequest) -> ExplainResponse {
        let answer = self.fleet().await.explain(self.authorized(request)).await;
        answer.expect("explained").into_inner()
    }

    /// Waits until this step stands in the way of `app` first, for this reason.
    pub(crate) async fn blames(&self, cluster: &str, step: &str, reason: &str) -> Explanation {
        let look = async || {
            let explained = self.explain("Kustomization", "app", cluster).await;
            let first = explained.into_iter().next().expect("one");
            let cause = first.cause.clone().unwrap_or_default();
            match (cause.name.as_str(), cause.reason.as_str()) == (step, reason) {
                true => Ok(Some(first)),
                false => Err(format!("{cause:?} of {first:?}")),
            }
        };
        wait_until(step, PATIENCE, look).await.expect(reason)
    }
}

pub(crate) fn named(kind: &str, name: &str) -> ResourceRef {
    ResourceRef {
        kind: kind.into(),
        namespace: "apps".into(),
        name: name.into(),
        ..ResourceRef::default()
    }
}

pub(crate) fn step<'a>(explained: &'a Explanation, name: &str) -> &'a ExplainedStep {
    let found = explained.steps.iter().find(|step| step.name == name);
    found.expect(name)
}

pub(crate) fn cause(explained: &Explanation) -> &ExplainedStep {
    explained.cause.as_ref().expect("a cause")
}

impl Fleet {
    pub(crate) async fn is_explained_as_applied(&self) -> Explanation {
        let look = async || {
            let first = self.hub.explain("Kustomization", "app", "c1").await.remove(0);
            match first.verdict == "Applied" {
                true => Ok(Some(first)),
                false => Err(format!("{first:?}")),
            }
        };
        wait_until("it is applied", PATIENCE, look)
            .await
            .expect("applied")
    }

    pub(crate) async fn suspend(&self, kind: &str, name: &str, suspend: bool) {
        let request = SuspendRequest {
            resource: Some(named(kind, name)),
            suspend,
        };
        let answer = self.hub.fleet().await.suspend(self.hub.authorized(request)).await;
        answer.expect("answered");
    }
}

#[tokio::test]
async fn explain_names_what_stands_in_the_way_from_source_to_agent_and_nothing_once_it_is_applied() {
    let fleet = Fleet::empty().await;
    let agent = fleet.hub.enrol("c1").await;
    let puppet = Puppet::connect(&fleet.hub, &agent).await;
    let repository = fleet.deploy(PLACEMENT).await;
    let first = fleet.is_explained_as_applied().await;
    assert_eq!(first.cause, None, "{first:?}");
    assert_eq!((first.version, first.applied_version), (1, 1));
    assert_eq!(first.source_revision, first.applied_revision);
    assert_eq!(
        step(&first, "placement").message,
        "Placement/everywhere names the cluster"
    );
    let commit = async |text: &str| {
        let committed = repository.commit("main", &[("app/x.yaml", text)], "next").await;
        committed.expect("committed");
        fleet.end("GitRepository", "a", false).await;
    };

    // The agent fails at the next commit, and does not take the one after it.
    *puppet.failing.lock().expect("not poisoned") = Some("ConfigMap/apps/x: quota exceeded");
    commit(&config_map("x", "2")).await;
    let failed = fleet.hub.blames("c1", "apply", "ReconciliationFailed").await;
    assert_eq!(failed.verdict, "NotApplied");
    assert!(cause(&failed).message.contains("quota exceeded"), "{failed:?}");
    assert!(
        cause(&failed)
            .next
            .starts_with("flotilla events --for Kustomization/app"),
        "{failed:?}"
    );
    assert_ne!(failed.source_revision, failed.applied_revision);
    *puppet.failing.lock().expect("not poisoned") = None;
    *puppet.refusing.lock().expect("not poisoned") = Some("app");
    commit(&config_map("x", "3")).await;
    let refused = fleet.hub.blames("c1", "acceptance", "LedgerFull").await;
    assert!(
        cause(&refused).message.contains("give it a volume"),
        "{refused:?}"
    );
    *puppet.refusing.lock().expect("not poisoned") = None;

    // What does not render holds it at what it has.
    commit("kind: [").await;
    let broken = fleet.hub.blames("c1", "rendering", "BuildFailed").await;
    assert_eq!(
        (
            step(&broken, "plan").reason.as_str(),
            step(&broken, "plan").state.as_str()
        ),
        ("BuildFailed", "Blocked")
    );
    assert!(
        step(&broken, "plan").message.contains("it is held at version 3"),
        "{broken:?}"
    );
    commit(&config_map("x", "4")).await;
    fleet.is_explained_as_applied().await;

    // What is suspended, or cannot be looked at, is the first thing to know.
    fleet.suspend("GitRepository", "a", true).await;
    let suspended = fleet.hub.blames("c1", "source", "Suspended").await;
    assert_eq!(cause(&suspended).next, "flotilla resume source git a -n apps");
    assert_eq!(suspended.verdict, "Unknown");
    fleet.suspend("GitRepository", "a", false).await;
    fleet.is_explained_as_applied().await;
    fleet.suspend("Kustomization", "app", true).await;
    let suspended = fleet.hub.blames("c1", "plan", "Suspended").await;
    assert_eq!(
        cause(&suspended).next,
        "flotilla resume kustomization app -n apps"
    );
    fleet.suspend("Kustomization", "app", false).await;
    fleet.is_explained_as_applied().await;
    fleet.git.set_fault(Some(GitFault::Refuse));
    wait_until("it is seen", PATIENCE, async || {
        // A look of a moment ago answers this one as well: servers are not asked without end.
        fleet.end("GitRepository", "a", false).await;
        let shown = fleet.resources("GitRepository").await;
        let is_seen = |one: &Resource| one.conditions.iter().any(|it| it.reason == "GitOperationFailed");
        match shown.iter().any(is_seen) {
            true => Ok(Some(())),
            false => Err(format!("{shown:?}")),
        }
    })
    .await
    .expect("seen");
    let unreachable = fleet.hub.blames("c1", "source", "GitOperationFailed").await;
    assert!(
        cause(&unreachable).again_ms > 0 && cause(&unreachable).since_ms > 0,
        "{unreachable:?}"
    );
    fleet.git.set_fault(None);
    fleet.end("GitRepository", "a", false).await;
    fleet.is_explained_as_applied().await;

    // A cluster that is away for long keeps what it has, and what it said last may be wrong.
    drop(puppet);
    wait_until("it is away", PATIENCE, async || {
        let connected = fleet
            .hub
            .world
            .count("SELECT count(*) FROM session WHERE connected")
            .await;
        Ok::<_, String>((connected == 0).then_some(()))
    })
    .await
    .expect("away");
    fleet
        .hub
        .world
        .execute("UPDATE session SET last_seen = now() - interval '1 hour'")
        .await;
    let away = fleet.hub.blames("c1", "publishing", "ClusterOffline").await;
    assert_eq!(
        (away.verdict.as_str(), step(&away, "apply").state.as_str()),
        ("Unknown", "Unknown")
    );
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn explain_says_of_a_cluster_without_the_app_why_it_has_none() {
    let fleet = Fleet::empty().await;
    fleet.hub.world.cluster("c1").await;
    fleet.hub.world.cluster("c2").await;
    let _repository = fleet.deploy(PLACEMENT).await;
    // One that is chosen and never joined, one that is not chosen.
    let pending = fleet.hub.blames("c1", "publishing", "NotJoined").await;
    assert_eq!(cause(&pending).next, "flotilla cluster join c1");
    let elsewhere = fleet.hub.blames("c2", "placement", "NotPlaced").await;
    assert_eq!(
        cause(&elsewhere).message,
        "Placement/everywhere chooses other clusters"
    );
    assert_eq!(
        (elsewhere.unit_id.as_str(), elsewhere.verdict.as_str()),
        ("", "NotApplied")
    );
    let on = async || {
        let all = fleet.hub.explain("Kustomization", "app", "").await;
        match &all[..] {
            [one] if one.cluster == "c1" && !one.unit_id.is_empty() => Ok(Some(())),
            _ => Err(format!("{all:?}")),
        }
    };
    wait_until("it is planned", PATIENCE, on).await.expect("on c1");
    // Nowhere at all: what the app itself waits for.
    fleet
        .apply(&[&app("a", "./app", "").replace("name: app,", "name: other,")])
        .await;
    let look = async || {
        let first = fleet.hub.explain("Kustomization", "other", "").await.remove(0);
        let cause = first.cause.clone().unwrap_or_default();
        Ok::<_, String>((cause.reason == "NoTarget").then_some(first))
    };
    let nowhere = wait_until("no placement", PATIENCE, look).await.expect("said");
    assert_eq!(
        (nowhere.cluster.as_str(), cause(&nowhere).name.as_str()),
        ("", "placement")
    );
    // What is not there is said to be that, and so is what is no app.
    let asked = async |app: ResourceRef, cluster: &str| {
        let request = ExplainRequest {
            app: Some(app),
            cluster: cluster.into(),
            ..ExplainRequest::default()
        };
        let answer = fleet
            .hub
            .fleet()
            .await
            .explain(fleet.hub.authorized(request))
            .await;
        answer.expect_err("refused").code()
    };
    assert_eq!(asked(named("Kustomization", "none"), "").await, Code::NotFound);
    assert_eq!(asked(named("Kustomization", "app"), "none").await, Code::NotFound);
    assert_eq!(
        asked(named("GitRepository", "a"), "").await,
        Code::InvalidArgument
    );
    // Let go of: what it has stays, and is not enforced.
    fleet
        .apply(&[&PLACEMENT.replace("names: [c1]", "names: [c2]")])
        .await;
    let detached = fleet.hub.blames("c1", "placement", "Detached").await;
    assert!(
        cause(&detached).message.contains("not enforced any more"),
        "{detached:?}"
    );
    fleet.hub.world.is_quiet().await;
}

/// What `a` of the two apps has to say of its removal.
async fn removal(two: &Two, part: &str) -> Explanation {
    let look = async || {
        let first = two.hub.explain("HelmRelease", "a", "c1").await.remove(0);
        match step(&first, "removal").message.contains(part) {
            true => Ok(Some(first)),
            false => Err(format!("{first:?}")),
        }
    };
    wait_until(part, PATIENCE, look).await.expect("said")
}

#[tokio::test]
async fn explain_says_why_what_has_left_is_still_there_and_where_it_went() {
    let two = Two::new().await;
    let world = two.world();
    let held = removal(&two, "HelmRelease/apps/b, of the same source, is being rendered").await;
    assert_eq!(step(&held, "removal").reason, "NotCleared");
    assert_eq!(
        (held.leaving_total, held.leaving.len(), held.moved_total),
        (1, 1, 0)
    );
    // Another app is to have it, and has it: it moves.
    two.other(&["z", "y"]).await;
    let moving = removal(&two, "ConfigMap/default/y is to move to HelmRelease/apps/b").await;
    assert_eq!(
        (moving.leaving[0].other.as_str(), moving.moved_total),
        ("HelmRelease/apps/b", 1)
    );
    let (other, version, target) = unit(world, two.b, two.cluster).await;
    let taken = report_of(
        &two,
        vec![applied(other, version, target)],
        vec![object(other, "y")],
    );
    world.store.ingest(&[taken]).await.expect("ingested");
    let (id, version, target) = unit(world, two.a, two.cluster).await;
    let gone = report_of(&two, vec![applied(id, version, target)], vec![]);
    world.store.ingest(&[gone]).await.expect("ingested");
    world
        .execute(&format!("DELETE FROM unit_object WHERE unit_id = '{id}'"))
        .await;
    let moved = removal(&two, "ConfigMap/default/y moved to HelmRelease/apps/b").await;
    assert!(moved.moved[0].done && moved.leaving_total == 0, "{moved:?}");

    // A guard: its words, with the numbers, and the command that allows it.
    let words = "not deleted: 12 objects would go, and no more than 10 may go at once";
    let blocked = StatusRow {
        ready: "False",
        reason: "PruneBlocked".into(),
        message: words.into(),
        objects_pending_removal: 12,
        ..applied(id, version, target)
    };
    let objects: Vec<ObjectRow> = (0..12)
        .map(|number| ObjectRow {
            state: Some("PendingRemoval"),
            ..object(id, &format!("old{number:02}"))
        })
        .collect();
    let told = report_of(&two, vec![blocked], objects);
    world.store.ingest(&[told]).await.expect("ingested");
    let stopped = removal(&two, "12 objects would go").await;
    let said = step(&stopped, "removal");
    assert_eq!(
        (said.state.as_str(), said.reason.as_str()),
        ("Blocked", "PruneBlocked")
    );
    assert_eq!(said.next, "flotilla approve HelmRelease/apps/a --cluster c1");
    assert_eq!(
        (
            stopped.leaving.len(),
            stopped.leaving_total,
            stopped.verdict.as_str()
        ),
        (10, 12, "NotReady")
    );
}

fn report_of(
    two: &Two,
    units: Vec<StatusRow>,
    objects: Vec<ObjectRow>,
) -> flotilla_hub::store::report::Report {
    flotilla_hub::store::report::Report {
        objects,
        ..report(two.cluster, two.epoch, units)
    }
}

#[tokio::test]
async fn explain_says_who_has_an_object_that_two_apps_want() {
    let hub = Hub::start().await;
    let world = &hub.world;
    let cluster = world.cluster("c1").await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    let first = world.revision("r1").await;
    for app in [a, b] {
        let content = render(world, app, first, &["x"]).await;
        world.roll_out(app, &[cluster], &content).await;
    }
    let explained = hub.explain("HelmRelease", "b", "c1").await.remove(0);
    let plan = step(&explained, "plan");
    assert_eq!(
        (plan.state.as_str(), plan.reason.as_str()),
        ("Blocked", "Conflict")
    );
    assert!(plan.message.contains("belongs to HelmRelease/apps/a"), "{plan:?}");
    assert!(plan.message.contains("all else is version 1"), "{plan:?}");
}

pub(crate) fn engine() -> Engine {
    Engine::new(Renderer::Native(NativeRenderer::new(1)), Err("none".into()))
}

/// What an explanation costs.
async fn cost(world: &World, app: Uuid, statements: &Statements) -> (usize, usize) {
    let row = world.store.resource(app).await.expect("read").expect("there");
    statements.take();
    let asked = Asked {
        limit: 20,
        ..Asked::default()
    };
    let found = facts(&world.store, &engine(), &row, &asked)
        .await
        .expect("read")
        .expect("there");
    let named = found.iter().filter_map(|(_, facts)| facts.unit.as_ref());
    let named = named.map(|unit| unit.failing.len() + unit.leaving.len()).sum();
    (statements.take().len(), named)
}

#[tokio::test]
async fn an_explanation_costs_the_same_statements_for_ten_thousand_objects_and_twenty_clusters() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, id, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let statements = Statements::listen();
    let (empty, named) = cost(&world, app, &statements).await;
    assert_eq!((empty, named), (5, 0));
    world
        .store
        .ingest(&[report(cluster, epoch, vec![applied(id, 1, target)])])
        .await
        .expect("ingested");
    world
        .execute(&format!(
            "INSERT INTO unit_object (unit_id, api_group, kind, namespace, name, api_version, state, health)
             SELECT '{id}', '', 'ConfigMap', 'default', 'x' || n, 'v1',
                    CASE WHEN n % 3 = 0 THEN 'Failed' WHEN n % 3 = 1 THEN 'PendingRemoval' ELSE 'Applied' END, 'Current'
             FROM generate_series(1, 10000) n"
        ))
        .await;
    assert_eq!(cost(&world, app, &statements).await, (empty, 20));
    let mut clusters = vec![cluster];
    for number in 2..=20 {
        clusters.push(world.cluster(&format!("c{number}")).await);
    }
    let content = world.render(app, "c1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &clusters, &content).await;
    assert_eq!(cost(&world, app, &statements).await, (empty, 20));
    // Those that are to have it and have not are looked for, and their agents: which placements name it and what they say, the
    // clusters that have it, those that they choose beside them.
    let mut names = Vec::new();
    for count in [1, 8] {
        while names.len() < count {
            names.push(format!("a{}", names.len()));
            world.cluster(&names[names.len() - 1]).await;
        }
        let spec = json!({
            "apps": [{"kind": "HelmRelease", "namespace": "apps", "name": "a"}],
            "clusters": {"names": &names},
        });
        world.apply(&[resource("Placement", "p", spec)]).await;
        assert_eq!(cost(&world, app, &statements).await, (empty + 4, 20), "{count}");
    }
}

#[tokio::test]
async fn an_app_that_is_deleted_names_who_has_asked_as_long_as_it_lasts_and_afterwards() {
    let fleet = Fleet::empty().await;
    let agent = fleet.hub.enrol("c1").await;
    let puppet = Puppet::connect(&fleet.hub, &agent).await;
    let _repository = fleet.deploy(PLACEMENT).await;
    fleet.is_explained_as_applied().await;
    // Nobody is there to delete it.
    drop(puppet);
    let world = &fleet.hub.world;
    let uid = world.uid("Kustomization", "app").await;
    let asked = world
        .store
        .request_deletion(uid, DeletionPolicy::MirrorPrune, "ann")
        .await;
    assert!(asked.expect("asked"));
    fleet
        .tells("app", "being deleted (MirrorPrune), as ann has asked: ")
        .await;
    let all = fleet.hub.explain("Kustomization", "app", "").await;
    assert_eq!(
        step(&all[0], "plan").message,
        "the app is being deleted (MirrorPrune), as ann has asked"
    );
    let deleted = world.store.delete_cluster("c1", "ann").await;
    assert_eq!(deleted.expect("deleted"), Deleted::Done);
    wait_until("the app is gone", PATIENCE, async || {
        let left = fleet.resources("Kustomization").await;
        match left.is_empty() {
            true => Ok(Some(())),
            false => Err(format!("{left:?}")),
        }
    })
    .await
    .expect("gone");
    let filter = EventFilter {
        kind: "Kustomization".into(),
        namespace: "apps".into(),
        name: "app".into(),
        limit: 10,
        ..EventFilter::default()
    };
    let told = world.store.list_events(&filter).await.expect("listed");
    let told: Vec<&str> = told.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(told, ["Kustomization/apps/app is deleted, as ann has asked"]);
}
