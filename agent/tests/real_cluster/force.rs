//! `force` against what real API servers say of fields that cannot be changed.

use flotilla_core::unit::{Entry, target_digest};
use k8s_openapi::api::{batch::v1::Job, core::v1::Service};
use kube::Api;
use serde_json::{Value, json};

use crate::world::World;

fn job(image: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"},
        "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "app", "image": image}]}}}})
}

fn service(headless: bool) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}});
    if headless {
        object["spec"]["clusterIP"] = "None".into();
    }
    object
}

fn forced(world: &mut World, version: u64, objects: &[Value]) -> Entry {
    let mut entry = world.prepare(objects, false);
    entry.version = version;
    entry.settings.force = true;
    entry.target = target_digest(entry.content, &entry.settings, &entry.variables);
    entry
}

#[tokio::test]
async fn a_job_and_a_service_that_cannot_be_changed_are_made_anew() {
    let mut world = World::new().await;
    let first = forced(&mut world, 1, &[job("example.com/app:1"), service(false)]);
    world.try_offer(&first).await.unwrap();
    world.until_ready(&first).await;
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    let services: Api<Service> = Api::namespaced(world.client.clone(), &world.namespace);
    let job_before = jobs.get("migrate").await.unwrap().metadata.uid;
    let service_before = services.get("web").await.unwrap().metadata.uid;

    let second = forced(&mut world, 2, &[job("example.com/app:2"), service(true)]);
    world.try_offer(&second).await.unwrap();
    world.until_ready(&second).await;
    let (job, service) = (
        jobs.get("migrate").await.unwrap(),
        services.get("web").await.unwrap(),
    );
    assert_ne!(job.metadata.uid, job_before);
    let template = job.spec.unwrap().template.spec.unwrap();
    assert_eq!(template.containers[0].image.as_deref(), Some("example.com/app:2"));
    assert_ne!(service.metadata.uid, service_before);
    assert_eq!(service.spec.unwrap().cluster_ip.as_deref(), Some("None"));
    let recreated = world.events.iter().filter(|(reason, _)| reason == "Recreated");
    assert_eq!(recreated.count(), 2, "{:?}", world.events);
}
