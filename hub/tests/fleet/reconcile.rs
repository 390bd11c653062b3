//! A request to reconcile, followed as a pipeline does: it ends with what was asked for, or says what is missing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use flotilla_proto::{
    agent::v1::{Hello, hub_message},
    fleet::v1::{
        ListUnitsRequest, ReconcileProgress, ReconcileRequest, Resource, ResourceRef,
        reconcile_progress::{Outcome, Phase},
    },
};
use flotilla_testkit::GitRepo;
use tokio::time::timeout;

use crate::{
    agent_stream::{Stream, hello},
    deploys::{Fleet, PLACEMENT, app, config_map},
    hub::PATIENCE,
    puppet::Puppet,
    world::INCARNATION,
};

const EVERYWHERE: &str = "apiVersion: fleet.flotilla.dev/v1alpha1
kind: Placement
metadata: {name: everywhere}
spec:
  apps: [{kind: Kustomization, name: app, namespace: apps}]
  clusters: {names: [c1, c2]}
";

fn reference(kind: &str, name: &str) -> ResourceRef {
    ResourceRef {
        kind: kind.into(),
        namespace: "apps".into(),
        name: name.into(),
        ..ResourceRef::default()
    }
}

impl Fleet {
    /// A source with one object, an app of it, and where it goes.
    pub(crate) async fn deploy(&self, placement: &str) -> GitRepo {
        let repository = self
            .repository("a", &[("app/x.yaml", &config_map("x", "0"))])
            .await;
        self.apply(&[&self.source("a"), &app("a", "./app", ""), placement])
            .await;
        repository
    }

    /// All that is told until the end.
    async fn reconcile(&self, kind: &str, name: &str, with_source: bool) -> Vec<ReconcileProgress> {
        let request = ReconcileRequest {
            resource: Some(reference(kind, name)),
            with_source,
        };
        let answer = self
            .hub
            .fleet()
            .await
            .reconcile(self.hub.authorized(request))
            .await;
        let mut stream = answer.expect("answered").into_inner();
        let mut told = Vec::new();
        let all = async {
            while let Some(progress) = stream.message().await.expect("told") {
                told.push(progress);
            }
        };
        let ended = timeout(PATIENCE, all).await;
        assert!(ended.is_ok(), "it does not end: {told:?}");
        told
    }

    pub(crate) async fn end(&self, kind: &str, name: &str, with_source: bool) -> ReconcileProgress {
        self.reconcile(kind, name, with_source)
            .await
            .pop()
            .expect("an end")
    }

    async fn app(&self) -> Resource {
        self.resource("Kustomization").await.expect("an app")
    }
}

#[tokio::test]
async fn with_source_it_ends_at_the_commit_that_was_just_pushed_each_time() {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    let repository = fleet.deploy(PLACEMENT).await;
    for number in 1..5 {
        let object = config_map("x", &number.to_string());
        let commit = repository
            .commit("main", &[("app/x.yaml", &object)], "next")
            .await;
        let commit = commit.expect("committed");
        let told = fleet.reconcile("Kustomization", "app", true).await;
        let last = told.last().expect("an end");
        assert_eq!(last.outcome(), Outcome::Succeeded, "{told:?}");
        assert!(last.revision.ends_with(&commit), "{commit}: {told:?}");
        assert_eq!((last.clusters_ready, last.clusters), (1, 1));
        assert_eq!(told[0].phase(), Phase::Source, "{told:?}");
        assert!(fleet.app().await.revision.ends_with(&commit));
    }
    // Without a change it ends as well, and an audit row is left of each.
    assert_eq!(
        fleet.end("Kustomization", "app", true).await.outcome(),
        Outcome::Succeeded
    );
    let audited = fleet
        .hub
        .world
        .count("SELECT count(*) FROM audit WHERE verb = 'reconcile'")
        .await;
    assert_eq!(audited, 10);
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn clusters_that_are_offline_are_named_and_it_is_no_success() {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    fleet.hub.enrol("c2").await;
    let _repository = fleet.deploy(EVERYWHERE).await;
    let last = fleet.end("Kustomization", "app", true).await;
    assert_eq!(last.outcome(), Outcome::ClustersOffline, "{last:?}");
    assert_eq!((last.clusters_ready, last.clusters), (1, 2));
    let names: Vec<&str> = last.behind.iter().map(|one| one.cluster.as_str()).collect();
    assert_eq!(names, ["c2"]);
    assert!(!last.behind[0].connected && last.behind[0].last_seen.is_none());
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_failure_is_told_with_its_cluster_and_the_revision_before_it_stays() {
    let fleet = Fleet::empty().await;
    let agent = Puppet::join(&fleet.hub, "c1").await;
    let repository = fleet.deploy(PLACEMENT).await;
    let good = fleet.end("Kustomization", "app", true).await;
    assert_eq!(good.outcome(), Outcome::Succeeded, "{good:?}");
    *agent.failing.lock().expect("not poisoned") = Some("spec.selector: field is immutable");
    let commit = repository
        .commit("main", &[("app/x.yaml", &config_map("x", "1"))], "bad")
        .await;
    commit.expect("committed");
    let last = fleet.end("Kustomization", "app", true).await;
    assert_eq!(last.outcome(), Outcome::Failed, "{last:?}");
    assert!(
        last.behind[0].cluster == "c1" && last.behind[0].message.contains("immutable"),
        "{last:?}"
    );
    let app = fleet.app().await;
    assert_eq!(app.revision, good.revision, "what runs there is still known");
    assert_eq!(app.conditions[0].status, "False");
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_source_that_cannot_be_fetched_ends_it_with_its_words() {
    let fleet = Fleet::empty().await;
    let _agent = Puppet::join(&fleet.hub, "c1").await;
    fleet
        .apply(&[&fleet.source("missing"), &app("missing", "./app", ""), PLACEMENT])
        .await;
    let last = fleet.end("Kustomization", "app", true).await;
    assert_eq!(
        (last.outcome(), last.phase()),
        (Outcome::Failed, Phase::Source),
        "{last:?}"
    );
    assert_eq!(last.resource.expect("named").kind, "GitRepository");
    assert!(!last.message.is_empty());
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn what_is_applied_nowhere_or_not_supported_ends_soon_and_is_no_success() {
    let fleet = Fleet::empty().await;
    let _repository = fleet.deploy(PLACEMENT).await;
    let last = fleet.end("Kustomization", "app", true).await;
    assert_eq!(last.outcome(), Outcome::NothingToApply, "{last:?}");
    assert_eq!(last.reason, "NoClusterMatches");
    let chart = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: chart, namespace: apps}\n\
                 spec: {interval: 10m, chart: {spec: {chart: podinfo, sourceRef: {kind: HelmRepository, name: a}}}}\n";
    fleet.apply(&[chart]).await;
    let began = Instant::now();
    let last = fleet.end("HelmRelease", "chart", false).await;
    assert_eq!(last.outcome(), Outcome::NotSupported, "{last:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "at once");
    fleet.hub.world.is_quiet().await;
}

/// The agent's generation stays behind for as long as it does not take all of it.
#[tokio::test]
async fn an_app_that_an_agent_does_not_take_says_ledger_full_and_holds_up_no_other() {
    let fleet = Fleet::empty().await;
    let agent = Puppet::join(&fleet.hub, "c1").await;
    let _repository = fleet.deploy(PLACEMENT).await;
    let first = fleet.end("Kustomization", "app", false).await;
    assert_eq!(first.outcome(), Outcome::Succeeded, "{first:?}");
    *agent.refusing.lock().expect("not poisoned") = Some("big");
    let big = app("a", "./app", "  namePrefix: big-\n").replace("name: app,", "name: big,");
    let placed = PLACEMENT
        .replace("name: everywhere", "name: of-big")
        .replace("name: app,", "name: big,");
    fleet.apply(&[&big, &placed]).await;
    let last = fleet.end("Kustomization", "big", false).await;
    assert_eq!(last.outcome(), Outcome::Failed, "{last:?}");
    assert_eq!(last.reason, "LedgerFull");
    assert!(
        last.behind[0].reason == "LedgerFull" && last.behind[0].message.contains("give it a volume"),
        "{last:?}"
    );
    // What another app is asked is answered by its own entry.
    let other = fleet.end("Kustomization", "app", false).await;
    assert_eq!(other.outcome(), Outcome::Succeeded, "{other:?}");
    let request = fleet.hub.authorized(ListUnitsRequest::default());
    let listed = fleet.hub.fleet().await.list_units(request).await.expect("listed");
    let said: BTreeMap<String, (String, String)> = listed
        .into_inner()
        .units
        .into_iter()
        .map(|unit| (unit.app.expect("named").name, (unit.ready, unit.reason)))
        .collect();
    let is = |ready: &str, reason: &str| (ready.to_owned(), reason.to_owned());
    assert_eq!(
        said,
        BTreeMap::from([
            ("app".to_owned(), is("True", "ReconciliationSucceeded")),
            ("big".to_owned(), is("False", "LedgerFull"))
        ])
    );
    // It is taken once there is room.
    *agent.refusing.lock().expect("not poisoned") = None;
    let last = fleet.end("Kustomization", "big", false).await;
    assert_eq!(last.outcome(), Outcome::Succeeded, "{last:?}");
    assert_eq!(
        fleet.hub.world.count("SELECT count(*) FROM unit_refused").await,
        0
    );
    let ready = async || {
        let listed = fleet.hub.world.store.list_clusters("c1", "", 1).await;
        listed.expect("listed")[0].units_ready
    };
    assert_eq!(ready().await, 2);
    // A request alone may be what is not taken: what was ready is not what is asked for.
    *agent.refusing.lock().expect("not poisoned") = Some("big");
    let last = fleet.end("Kustomization", "big", false).await;
    assert_eq!(
        (last.outcome(), last.reason.as_str()),
        (Outcome::Failed, "LedgerFull")
    );
    assert_eq!(ready().await, 1);
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn an_offer_that_is_refused_whole_ends_a_request_with_its_reason() {
    let fleet = Fleet::empty().await;
    let agent = Puppet::join(&fleet.hub, "c1").await;
    let _repository = fleet.deploy(PLACEMENT).await;
    let first = fleet.end("Kustomization", "app", false).await;
    assert_eq!(first.outcome(), Outcome::Succeeded, "{first:?}");
    let why = "unit 7 is held here and missing from the offer";
    *agent.rejecting.lock().expect("not poisoned") = Some(why);
    let last = fleet.end("Kustomization", "app", false).await;
    assert_eq!(
        (last.outcome(), last.reason.as_str()),
        (Outcome::Failed, "UnitMissing"),
        "{last:?}"
    );
    assert_eq!(last.behind[0].message, why);
    *agent.rejecting.lock().expect("not poisoned") = None;
    let last = fleet.end("Kustomization", "app", false).await;
    assert_eq!(last.outcome(), Outcome::Succeeded, "{last:?}");
    assert_eq!(
        fleet.hub.world.count("SELECT count(*) FROM unit_refused").await,
        0
    );
    fleet.hub.world.is_quiet().await;
}

/// Its generation is of a history that the store has lost: it answers for no entry, whatever its number.
#[tokio::test]
async fn a_request_to_an_agent_that_is_ahead_of_a_restored_store_ends_with_that_reason() {
    for more in [99, 0] {
        let fleet = Fleet::empty().await;
        let agent = fleet.hub.enrol("c1").await;
        let puppet = Puppet::connect(&fleet.hub, &agent).await;
        let _repository = fleet.deploy(PLACEMENT).await;
        let first = fleet.end("Kustomization", "app", false).await;
        assert_eq!(first.outcome(), Outcome::Succeeded, "{first:?}");
        drop(puppet);
        let generation = fleet.hub.world.count("SELECT generation FROM desired").await;
        let ahead = Hello {
            incarnation: INCARNATION,
            generation: generation.unsigned_abs() + more,
            // With the number of the store's state it is another one.
            root: vec![7; 32].into(),
            ..hello(&agent)
        };
        let mut stream = Stream::open(&fleet.hub, &agent, ahead).await.expect("open");
        let last = fleet.end("Kustomization", "app", false).await;
        assert_eq!(
            (last.outcome(), last.reason.as_str()),
            (Outcome::Failed, "AgentAhead"),
            "{last:?}"
        );
        assert!(
            last.behind[0].message.contains("restored from a backup"),
            "{last:?}"
        );
        let told = "SELECT count(*) FROM session WHERE message LIKE 'the agent holds generation %'";
        assert_eq!(fleet.hub.world.count(told).await, 1);
        // Another publication refuses what it brings, and writes nothing of the others again.
        let rows = "SELECT count(*) FROM unit_refused";
        assert_eq!(fleet.hub.world.count(rows).await, 1);
        let written = fleet
            .hub
            .world
            .count("SELECT (extract(epoch FROM at) * 1000000)::bigint FROM unit_refused")
            .await;
        let other = app("a", "./app", "  namePrefix: other-\n").replace("name: app,", "name: other,");
        let placed = PLACEMENT
            .replace("name: everywhere", "name: of-other")
            .replace("name: app,", "name: other,");
        fleet.apply(&[&other, &placed]).await;
        let last = fleet.end("Kustomization", "other", false).await;
        assert_eq!(last.reason, "AgentAhead", "{last:?}");
        assert_eq!(fleet.hub.world.count(rows).await, 2);
        let first = "SELECT (extract(epoch FROM min(at)) * 1000000)::bigint FROM unit_refused";
        assert_eq!(fleet.hub.world.count(first).await, written);
        // Nothing was sent.
        stream.report(1, vec![]).await;
        let next = stream.next().await.expect("an answer");
        assert!(!matches!(next, hub_message::Kind::Desired(_)), "{next:?}");
        fleet.hub.world.is_quiet().await;
    }
}
