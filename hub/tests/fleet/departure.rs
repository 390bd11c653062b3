//! Clusters that are drained, retired or deleted: by a running hub, with agents that do what they are told.

use flotilla_core::{
    fleet::departure::{Departure, Request},
    removal::{DeletionPolicy, Removal},
    rollout::removal::{nothing, plan_removal},
    unit::{Entry, UnitState},
};
use flotilla_hub::store::report::Report;
use flotilla_proto::fleet::v1::{
    Cluster, ClusterDeparture, DepartClusterRequest, DepartClusterResponse, ListClustersRequest,
};
use flotilla_testkit::{GitRepo, wait_until};
use tonic::Code;

use crate::{
    agent_stream::{Stream, hello},
    deploys::{Fleet, PLACEMENT, config_map},
    hub::PATIENCE,
    puppet::Puppet,
    reports::{object, open, report},
    store::{config, one_unit},
    world::{World, applied},
};

impl Fleet {
    async fn depart(
        &self,
        cluster: &str,
        departure: ClusterDeparture,
        confirmed: bool,
    ) -> DepartClusterResponse {
        let request = DepartClusterRequest {
            cluster: cluster.into(),
            departure: departure.into(),
            confirmed,
        };
        let answer = self
            .hub
            .fleet()
            .await
            .depart_cluster(self.hub.authorized(request))
            .await;
        answer.expect("answered").into_inner()
    }

    async fn cluster(&self, name: &str) -> Option<Cluster> {
        let request = ListClustersRequest {
            name: name.into(),
            ..ListClustersRequest::default()
        };
        let answer = self
            .hub
            .fleet()
            .await
            .list_clusters(self.hub.authorized(request))
            .await;
        answer.expect("answered").into_inner().clusters.pop()
    }

    /// Waits until a cluster is shown in this state; `None`: until it is not there any more.
    async fn until(&self, name: &str, state: Option<&str>) {
        wait_until(state.unwrap_or("gone"), PATIENCE, async || {
            let shown = self.cluster(name).await;
            match shown.as_ref().map(|cluster| &*cluster.state) == state {
                true => Ok(Some(())),
                false => Err(format!("{shown:?}")),
            }
        })
        .await
        .expect("so");
    }

    async fn units_of(&self, name: &str, state: &str) -> i64 {
        let query = format!(
            "SELECT count(*) FROM unit u JOIN cluster c ON c.id = u.cluster_id
             WHERE c.name = '{name}' AND u.state LIKE '{state}'"
        );
        self.hub.world.count(&query).await
    }

    /// Two apps on two clusters, of which one does not prune.
    async fn two(&self) -> GitRepo {
        let files = [
            ("app/x.yaml", &*config_map("x", "0")),
            ("kept/y.yaml", &config_map("y", "0")),
        ];
        let repository = self.repository("a", &files).await;
        let named = |text: &str, name: &str| text.replace("name: app,", &format!("name: {name},"));
        let app = crate::deploys::app("a", "./app", "");
        let kept =
            named(&crate::deploys::app("a", "./kept", ""), "kept").replace("prune: true", "prune: false");
        let placement = PLACEMENT.replace("names: [c1]", "names: [c1, c2]");
        let other = named(&placement, "kept").replace("name: everywhere", "name: kept");
        self.apply(&[&self.source("a"), &app, &kept, &placement, &other])
            .await;
        repository
    }
}

#[tokio::test]
async fn a_cluster_that_is_drained_has_nothing_left_of_what_prunes_gets_nothing_new_and_comes_back() {
    let fleet = Fleet::empty().await;
    let (_one, _two) = (
        Puppet::join(&fleet.hub, "c1").await,
        Puppet::join(&fleet.hub, "c2").await,
    );
    let repository = fleet.two().await;
    fleet.applies("app").await;
    fleet.applies("kept").await;
    let told = fleet.depart("c1", ClusterDeparture::Drain, false).await;
    let follows: Vec<(&str, bool)> = told
        .units
        .iter()
        .map(|unit| (unit.app.as_str(), unit.deletes))
        .collect();
    assert_eq!(
        follows,
        [
            ("Kustomization/apps/app", true),
            ("Kustomization/apps/kept", false)
        ]
    );
    assert_eq!((told.changed, told.connected, told.joined), (false, true, true));
    assert_eq!(fleet.units_of("c1", "Active").await, 2);
    assert!(fleet.depart("c1", ClusterDeparture::Drain, true).await.changed);
    assert!(!fleet.depart("c1", ClusterDeparture::Drain, true).await.changed);
    fleet.until("c1", Some("Drained")).await;
    assert_eq!(
        fleet.units_of("c1", "%").await,
        1,
        "what does not prune is known still"
    );
    assert_eq!(fleet.units_of("c1", "Detached").await, 1);
    assert_eq!(fleet.units_of("c2", "Active").await, 2);
    // Commits go to the other cluster alone, and are through with that.
    fleet.commit(&repository, &config_map("x", "1")).await;
    fleet.applies("app").await;
    assert_eq!(fleet.units_of("c1", "%").await, 1);
    fleet.hub.world.is_quiet().await;
    let told = "SELECT count(*) FROM event WHERE reason = 'ClusterDrained'";
    assert_eq!(fleet.hub.world.count(told).await, 1);
    assert!(fleet.depart("c1", ClusterDeparture::Stay, true).await.changed);
    fleet.applies("app").await;
    fleet.applies("kept").await;
    assert_eq!(fleet.units_of("c1", "Active").await, 2);
    fleet.until("c1", Some("Active")).await;
    fleet.hub.world.is_quiet().await;
}

#[tokio::test]
async fn a_cluster_that_retires_is_let_go_of_and_leaves_the_fleet_and_a_new_one_may_have_its_name() {
    let fleet = Fleet::empty().await;
    let agent = fleet.hub.enrol("c1").await;
    let puppet = Puppet::connect(&fleet.hub, &agent).await;
    let _two = Puppet::join(&fleet.hub, "c2").await;
    fleet.two().await;
    fleet.applies("app").await;
    fleet.applies("kept").await;
    let told = fleet.depart("c1", ClusterDeparture::Retire, true).await;
    assert!(told.units.iter().all(|unit| !unit.deletes), "{told:?}");
    let drain = DepartClusterRequest {
        cluster: "c1".into(),
        departure: ClusterDeparture::Drain.into(),
        confirmed: true,
    };
    let refused = fleet
        .hub
        .fleet()
        .await
        .depart_cluster(fleet.hub.authorized(drain))
        .await;
    // It retires, or is gone by now.
    let code = refused
        .expect_err("what is let go of would count as removed")
        .code();
    assert!(
        matches!(code, Code::FailedPrecondition | Code::NotFound),
        "{code}"
    );
    fleet.until("c1", None).await;
    let removed =
        "SELECT count(*) FROM history h WHERE NOT EXISTS (SELECT FROM unit u WHERE u.id = h.unit_id)
                   AND h.target = (SELECT target FROM unit WHERE state = 'Removing')";
    assert_eq!(fleet.hub.world.count(removed).await, 0);
    drop(puppet);
    let refused = Stream::open(&fleet.hub, &agent, hello(&agent)).await;
    assert_eq!(
        refused.err().map(|status| status.code()),
        Some(Code::Unauthenticated)
    );
    fleet.applies("app").await;
    fleet.hub.world.is_quiet().await;
    let _again = Puppet::join(&fleet.hub, "c1").await;
    fleet.applies("app").await;
    assert_eq!(fleet.units_of("c1", "Active").await, 2);
}

/// Neither a rollout, nor the deletion of an app, nor a drain ends without it otherwise.
#[tokio::test]
async fn a_cluster_that_is_lost_is_deleted_and_nothing_waits_for_it_any_more() {
    let fleet = Fleet::empty().await;
    let lost = fleet.hub.enrol("c1").await;
    let puppet = Puppet::connect(&fleet.hub, &lost).await;
    let _two = Puppet::join(&fleet.hub, "c2").await;
    let repository = fleet.two().await;
    fleet.applies("app").await;
    fleet.applies("kept").await;
    drop(puppet);
    fleet.commit(&repository, &config_map("x", "1")).await;
    let source = "SELECT count(*) FROM rollout WHERE state = 'Progressing'";
    fleet.end("Kustomization", "app", true).await;
    assert_eq!(
        fleet.hub.world.count(source).await,
        1,
        "the lost one is waited for"
    );
    let kept = fleet.hub.world.uid("Kustomization", "kept").await;
    let orphan = fleet
        .hub
        .world
        .store
        .request_deletion(kept, DeletionPolicy::Orphan, "admin")
        .await;
    assert!(orphan.expect("asked"));
    fleet.depart("c1", ClusterDeparture::Drain, true).await;
    fleet.until("c1", Some("Draining")).await;
    let shown = fleet.cluster("c1").await.expect("there").message;
    assert!(shown.contains("`flotilla cluster delete c1`"), "{shown}");
    fleet.depart("c1", ClusterDeparture::Delete, true).await;
    fleet.until("c1", None).await;
    assert_eq!(fleet.hub.world.count(source).await, 0);
    wait_until("the app is gone", PATIENCE, async || {
        let left = fleet.resources("Kustomization").await;
        match left.len() {
            1 => Ok(Some(())),
            _ => Err(format!("{left:?}")),
        }
    })
    .await
    .expect("gone");
    fleet.applies("app").await;
    fleet.hub.world.is_quiet().await;
    let kept = "SELECT count(*) FROM audit WHERE verb = 'cluster.delete' AND object = 'cluster/c1'";
    assert_eq!(fleet.hub.world.count(kept).await, 1);
    let told = "SELECT count(*) FROM event WHERE reason = 'ClusterDeleted' AND object = 'Cluster/c1'";
    assert_eq!(fleet.hub.world.count(told).await, 1);
}

/// Whatever its units are to become is planned later, and may have to be rendered first.
#[tokio::test]
async fn a_drain_that_is_stopped_keeps_what_is_left_at_once_and_plans_that_go_on_with_it_fail() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let depart = async |departure| {
        let asked = world.store.request_departure("c1", departure, "admin").await;
        assert_eq!(asked.expect("asked"), Some(Request::Taken));
    };
    // So that nothing but the plan's version is against it.
    let stored = world.store.put_nothing(&nothing(), &world.seal).await;
    stored.expect("stored");
    depart(Some(Departure::Drain)).await;
    let recorded = world.planning.app_plan(app).await.expect("read");
    let removal = Removal {
        policy: DeletionPolicy::MirrorPrune,
        approval: Some(target),
    };
    let removal = serde_json::to_string(&removal).expect("JSON");
    world
        .execute(&format!(
            "UPDATE unit SET state = 'Removing', removal = '{removal}' WHERE id = '{unit}'"
        ))
        .await;
    depart(None).await;
    world.publish(cluster).await.expect("published");
    let desired = world
        .store
        .desired(cluster)
        .await
        .expect("read")
        .expect("published");
    let entry = Entry::from_bytes(&desired.entries[0].bytes).expect("an entry");
    assert_eq!((entry.state, entry.prune_approved), (UnitState::Detached, None));
    let planned = plan_removal(&recorded.units, DeletionPolicy::Delete, false, true);
    assert!(world.try_planned(app, &recorded, &planned).await.is_err());
    // Nor is one that was made while nothing was being removed yet gone on with, whether the cluster stays or retires.
    let content = world.render(app, "c1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[cluster], &content).await;
    let removal = async || {
        let recorded = world.planning.app_plan(app).await.expect("read");
        assert_eq!(recorded.units[0].state, UnitState::Active);
        let planned = plan_removal(&recorded.units, DeletionPolicy::Delete, false, true);
        (recorded, planned)
    };
    for stopped in [None, Some(Departure::Retire)] {
        depart(Some(Departure::Drain)).await;
        let (recorded, planned) = removal().await;
        depart(stopped).await;
        assert!(world.try_planned(app, &recorded, &planned).await.is_err());
    }
    depart(None).await;
    depart(Some(Departure::Drain)).await;
    let (recorded, planned) = removal().await;
    world.planned(app, &recorded, &planned).await;
}

#[tokio::test]
async fn a_cluster_that_never_had_an_agent_is_drained_and_no_rollout_waits_for_it() {
    let fleet = Fleet::empty().await;
    fleet.hub.world.cluster("c1").await;
    let _two = Puppet::join(&fleet.hub, "c2").await;
    fleet.two().await;
    fleet.end("Kustomization", "app", true).await;
    fleet.depart("c1", ClusterDeparture::Drain, true).await;
    fleet.until("c1", Some("Drained")).await;
    wait_until("all rollouts have ended", PATIENCE, async || {
        let open = fleet
            .hub
            .world
            .count(
                "SELECT count(*) FROM rollout r JOIN resource a ON a.uid = r.app_uid
                    WHERE r.state = 'Progressing' AND a.name = 'app'",
            )
            .await;
        match open {
            0 => Ok(Some(())),
            open => Err(format!("{open} rollouts")),
        }
    })
    .await
    .expect("ended");
    fleet.hub.world.is_quiet().await;
}

/// No key ties what is reported to its unit: who deletes units holds the session that reports are written under.
#[tokio::test]
async fn a_report_that_comes_while_its_unit_is_deleted_leaves_no_row_of_it() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let said = Report {
        objects: vec![object(unit, "x")],
        ..report(cluster, epoch, vec![applied(unit, 1, target)])
    };
    world
        .store
        .ingest(std::slice::from_ref(&said))
        .await
        .expect("ingested");
    let rows = "SELECT (SELECT count(*) FROM unit_status) + (SELECT count(*) FROM unit_object)";
    assert_eq!(world.count(rows).await, 2);
    // Its deletion waits for what the test holds, and the report for its deletion.
    world
        .execute(
            "UPDATE unit SET released = true, state = 'Detached'; DELETE FROM unpublished; DELETE FROM desired_entry;
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               PERFORM pg_advisory_xact_lock(4711); RETURN OLD; END $$;
             CREATE TRIGGER wait BEFORE DELETE ON unit FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .await;
    let mut held = world.pool.begin().await.expect("begun");
    sqlx::query("SELECT pg_advisory_xact_lock(4711)")
        .execute(&mut *held)
        .await
        .expect("held");
    let waiting = async |count: i64| {
        let query = format!(
            "SELECT count(*) = {count} FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        );
        wait_until("they wait", PATIENCE, async || {
            let wait: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(query.as_str()))
                .fetch_one(&world.pool)
                .await?;
            Ok::<_, sqlx::Error>(wait.then_some(()))
        })
        .await
        .expect("they wait");
    };
    let reports = [said];
    let reported = async {
        waiting(1).await;
        let (ingested, ()) = tokio::join!(world.store.ingest(&reports), async {
            waiting(2).await;
            held.rollback().await.expect("let go");
        });
        ingested.expect("ingested")
    };
    let units = [unit];
    let (forgotten, ingested) = tokio::join!(world.store.forget_units(&units), reported);
    assert_eq!(forgotten.expect("forgotten"), 1);
    assert_eq!(
        ingested.counted,
        [true],
        "it is taken, and what it says of no unit passed over"
    );
    assert_eq!(world.count(rows).await, 0);
    let left_out = "SELECT count(*) FROM session WHERE rows_left_out";
    assert_eq!(world.count(left_out).await, 1);
}

/// Waits until an app is shown with this reason, and returns its message.
async fn until_said(fleet: &Fleet, app: &str, reason: &str) -> String {
    wait_until(reason, PATIENCE, async || {
        let shown = fleet.resources("Kustomization").await;
        let named =
            |one: &&flotilla_proto::fleet::v1::Resource| one.r#ref.as_ref().is_some_and(|it| it.name == app);
        let shown = shown.iter().find(named).and_then(|one| one.conditions.first());
        match shown {
            Some(said) if said.reason == reason => Ok(Some(said.message.clone())),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .expect("said")
}

#[tokio::test]
async fn an_app_whose_clusters_are_all_drained_or_retiring_names_them_until_they_stay_or_are_gone() {
    let fleet = Fleet::empty().await;
    let _one = Puppet::join(&fleet.hub, "c1").await;
    fleet.hub.world.cluster("c2").await;
    fleet.two().await;
    fleet.end("Kustomization", "app", true).await;
    fleet.depart("c1", ClusterDeparture::Drain, true).await;
    fleet.depart("c2", ClusterDeparture::Drain, true).await;
    let said = until_said(&fleet, "app", "ClustersDeparting").await;
    assert!(said.contains("(c1, c2)"), "{said}");
    fleet.until("c1", Some("Drained")).await;
    fleet.until("c2", Some("Drained")).await;
    fleet.hub.world.is_quiet().await;
    // One that is gone is no cluster of the app any more.
    fleet.depart("c2", ClusterDeparture::Delete, true).await;
    fleet.until("c2", None).await;
    wait_until("only c1 is named", PATIENCE, async || {
        let said = until_said(&fleet, "app", "ClustersDeparting").await;
        match said.contains("(c1); `flotilla cluster resume c1`") {
            true => Ok(Some(())),
            false => Err(said),
        }
    })
    .await
    .expect("named");
    fleet.depart("c1", ClusterDeparture::Stay, true).await;
    fleet.applies("app").await;
    fleet.depart("c1", ClusterDeparture::Drain, true).await;
    fleet.until("c1", Some("Drained")).await;
    fleet.depart("c1", ClusterDeparture::Delete, true).await;
    until_said(&fleet, "app", "NoClusterMatches").await;
}
