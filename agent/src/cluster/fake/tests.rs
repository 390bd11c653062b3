//! What scenario tests rely on and no real API server does by itself; the rest is in the contract suite.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::Instant;

use super::{faults::*, *};
use crate::cluster::{Cluster as _, ClusterError, Selector, Served};

fn job(name: &str) -> ObjectKey {
    ObjectKey::new("batch", "Job", "default", name)
}

async fn apply(fake: &Fake, api_version: &str, kind: &str, spec: Value) -> Result<Value, ClusterError> {
    let discovery = fake.discover().await?;
    let Served::Yes(resource) = discovery.find(api_version, kind) else {
        panic!("{kind} is served")
    };
    let object = json!({"apiVersion": api_version, "kind": kind, "spec": spec,
        "metadata": {"name": "x", "namespace": "default"}});
    fake.apply(resource, &object, false).await
}

#[tokio::test(start_paused = true)]
async fn a_job_completes_and_goes_when_its_time_is_over_and_a_new_one_does_so_again() {
    let fake = Fake::new();
    fake.run_jobs();
    for _ in 0..2 {
        let spec = json!({"ttlSecondsAfterFinished": 30});
        apply(&fake, "batch/v1", "Job", spec)
            .await
            .expect("it is applied");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let completed = fake.object(&job("x")).expect("it is there");
        assert_eq!(completed["status"]["conditions"][0]["type"], "Complete");
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(fake.object(&job("x")), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_ready_in_each_generation_and_unready_when_told() {
    let fake = Fake::new();
    fake.run_deployments();
    let web = ObjectKey::new("apps", "Deployment", "default", "x");
    for replicas in [2, 3] {
        let spec = json!({"replicas": replicas});
        apply(&fake, "apps/v1", "Deployment", spec)
            .await
            .expect("it is applied");
        tokio::time::sleep(Duration::from_secs(1)).await;
        let live = fake.object(&web).expect("it is there");
        assert_eq!(live["status"]["readyReplicas"], replicas);
        assert_eq!(
            live["status"]["observedGeneration"],
            live["metadata"]["generation"]
        );
        assert_eq!(
            flotilla_core::health::assess(&live, flotilla_core::clock::Timestamp(0)).state,
            flotilla_core::health::State::Current
        );
    }
    fake.set_ready(&web, false);
    let live = fake.object(&web).expect("it is there");
    assert_ne!(
        flotilla_core::health::assess(&live, flotilla_core::clock::Timestamp(0)).state,
        flotilla_core::health::State::Current
    );
}

#[tokio::test(start_paused = true)]
async fn faults_refuse_and_latency_delays_and_every_request_is_counted_with_its_account() {
    let fake = Fake::new();
    fake.set_fault(Some(conversion_fails("Job")));
    fake.set_latency(Some(slow("Job", Duration::from_secs(30))));
    let begun = Instant::now();
    let refused = apply(&fake, "batch/v1", "Job", json!({})).await;
    assert!(
        matches!(refused, Err(ClusterError::Rejected { code: 500, .. })),
        "{refused:?}"
    );
    assert_eq!(begun.elapsed().as_secs(), 30);
    fake.set_fault(Some(forbidden("Job")));
    let refused = apply(&fake, "batch/v1", "Job", json!({})).await;
    assert!(
        matches!(refused, Err(ClusterError::Rejected { code: 403, .. })),
        "{refused:?}"
    );
    fake.take_calls();
    let tenant = Account::ServiceAccount {
        namespace: "team".into(),
        name: "deployer".into(),
    };
    fake.acting_as(&tenant).discover().await.expect("it is answered");
    let calls: Vec<(Call, u64)> = fake.take_calls().into_iter().collect();
    let expected = Call {
        account: tenant,
        verb: "discover",
        kind: String::new(),
    };
    assert_eq!(calls, [(expected, 1)]);
}

#[tokio::test]
async fn a_group_whose_discovery_fails_is_unknown_and_comes_back() {
    let fake = Fake::new();
    fake.fail_discovery("batch", true);
    let discovery = fake.discover().await.expect("it is answered");
    assert_eq!(discovery.find("batch/v1", "Job"), Served::Unknown);
    fake.fail_discovery("batch", false);
    let discovery = fake.discover().await.expect("it is answered");
    assert!(matches!(discovery.find("batch/v1", "Job"), Served::Yes(_)));
}

#[tokio::test]
async fn a_watch_that_breaks_lists_again_and_one_of_a_kind_that_goes_ends() {
    let fake = Fake::new();
    let discovery = fake.discover().await.expect("it is answered");
    let jobs = discovery.preferred("batch", "Job").expect("it is served").clone();
    let mut events = fake.watch(&jobs, &Selector::default());
    let mut next = async || format!("{:?}", events.next().await);
    // The namespaces are all that was written.
    let listing = ["Some(Ok(Listing))", "Some(Ok(Listed(Some(2))))"];
    assert_eq!([next().await, next().await], listing);
    fake.break_watches();
    assert_eq!([next().await, next().await], listing);
    fake.unserve("batch", "Job");
    assert!(next().await.contains("NotServed"));
    assert_eq!(next().await, "None");
}

#[tokio::test]
async fn an_annotation_is_its_managers() {
    let fake = Fake::new();
    apply(&fake, "batch/v1", "Job", json!({"a": 1}))
        .await
        .expect("it is applied");
    fake.annotate("kubectl-annotate", &job("x"), "example.com/a", "b");
    let live = fake.object(&job("x")).expect("it is there");
    let entries = live["metadata"]["managedFields"].as_array().expect("it has some");
    let theirs = entries
        .iter()
        .find(|entry| entry["manager"] == "kubectl-annotate");
    let fields = theirs.expect("it has one")["fieldsV1"].to_string();
    assert!(fields.contains("example.com/a"), "{fields}");
}
