//! A namespace of a real control plane, an agent that keeps its state in Secrets of another, and what a hub would
//! have been told.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flotilla_agent::{
    causes::with_causes,
    cluster::kube::KubeCluster,
    ledger::secrets::Secrets,
    sim::{self, Contents, SimAgent},
};
use flotilla_core::{digest::Digest, id::UnitId, unit::Entry};
use flotilla_proto::agent::v1::{ObjectStatus, Readiness, UnitStatus};
use flotilla_testkit::{AuditFilter, AuditMark, ControlPlane, shared_clusters};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) struct World {
    pub(crate) plane: &'static ControlPlane,
    /// Somebody else who works in the cluster, and the test's eyes.
    pub(crate) client: Client,
    /// The agent's own, under a name that nobody else has: its requests can be told apart.
    pub(crate) agents: Client,
    pub(crate) user: String,
    /// Where the objects go.
    pub(crate) namespace: String,
    /// Where the agent keeps its state.
    pub(crate) own: String,
    pub(crate) id: UnitId,
    pub(crate) contents: Contents,
    pub(crate) agent: SimAgent,
    pub(crate) units: BTreeMap<Vec<u8>, UnitStatus>,
    pub(crate) objects: BTreeMap<String, ObjectStatus>,
    pub(crate) events: Vec<(String, String)>,
}

pub(crate) async fn start(client: &Client, own: &str) -> SimAgent {
    let cluster = KubeCluster::new(client.clone());
    SimAgent::start(Arc::new(cluster), Arc::new(Secrets::new(client.clone(), own)))
        .await
        .unwrap()
}

impl World {
    /// Over a control plane that other tests use as well.
    pub(crate) async fn new() -> Self {
        flotilla_testkit::install_tls_provider();
        Self::over(shared_clusters(1).await.unwrap()[0]).await
    }

    /// Over this control plane.
    pub(crate) async fn over(plane: &'static ControlPlane) -> Self {
        let client = plane.client().await.unwrap();
        let (namespace, own) = (plane.namespace().await.unwrap(), plane.namespace().await.unwrap());
        let user = format!("agent-of-{own}");
        let kubeconfig = plane.kubeconfig_for_user(&user, Some("system:masters")).unwrap();
        let agents = plane.client_for(&kubeconfig).await.unwrap();
        Self {
            agent: start(&agents, &own).await,
            plane,
            client,
            agents,
            user,
            namespace,
            own,
            id: UnitId(Uuid::new_v4()),
            contents: Contents::default(),
            units: BTreeMap::new(),
            objects: BTreeMap::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn entry(&self, content: Digest, wait: bool) -> Entry {
        sim::entry(self.id, content, |entry| {
            entry.settings.retry_interval = Duration::from_secs(5);
            entry.settings.timeout = Duration::from_secs(60);
            entry.settings.wait = wait;
            entry.settings.default_namespace = self.namespace.clone();
        })
    }

    /// Makes an entry of these objects that the agent has not been offered yet.
    pub(crate) fn prepare(&mut self, objects: &[Value], wait: bool) -> Entry {
        let content = self.contents.add(objects);
        self.entry(content, wait)
    }

    /// Offers an entry. An error is told with its causes.
    pub(crate) async fn try_offer(&mut self, entry: &Entry) -> Result<(), String> {
        let offered = self
            .agent
            .offer(std::slice::from_ref(entry), &mut self.contents)
            .await;
        let ack = offered.map_err(|error| with_causes(&error))?;
        match ack.units.into_iter().find(|unit| !unit.accepted) {
            Some(unit) => Err(format!("{}: {}", unit.reason, unit.message)),
            None => Ok(()),
        }
    }

    pub(crate) async fn offer(&mut self, objects: &[Value], wait: bool) -> Entry {
        let entry = self.prepare(objects, wait);
        self.try_offer(&entry).await.unwrap();
        entry
    }

    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
        while !done(self) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "never happened: {what}; units {:?}, objects {:?}, events {:?}",
                self.units,
                self.objects,
                self.events
            );
            let Some(report) = self.agent.report(Duration::from_millis(500)).await else {
                continue;
            };
            self.units
                .extend(report.units.into_iter().map(|unit| (unit.unit_id.to_vec(), unit)));
            let named = |object: ObjectStatus| (object.key.as_ref().unwrap().name.clone(), object);
            self.objects.extend(report.objects.into_iter().map(named));
            self.events.extend(
                report
                    .events
                    .into_iter()
                    .map(|event| (event.reason, event.message)),
            );
        }
    }

    pub(crate) async fn until_ready(&mut self, entry: &Entry) {
        let (unit, version, target) = (entry.unit.to_vec(), entry.version, entry.target);
        self.until("the unit is ready", |world| {
            world.units.get(&unit).is_some_and(|unit| {
                unit.ready() == Readiness::True
                    && unit
                        .applied
                        .as_ref()
                        .is_some_and(|applied| applied.is(version, target.as_bytes()))
            })
        })
        .await;
    }

    pub(crate) fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn value(&self, name: &str) -> Option<String> {
        let found = self.config_maps().get_opt(name).await.unwrap()?;
        found.data.unwrap_or_default().get("a").cloned()
    }

    pub(crate) async fn until_value(&self, name: &str, value: &str) {
        flotilla_testkit::wait_until(
            &format!("{name} holds {value}"),
            Duration::from_secs(20),
            async || Ok::<_, String>((self.value(name).await.as_deref() == Some(value)).then_some(())),
        )
        .await
        .unwrap();
    }

    /// The agent's requests since a mark, by verb and resource.
    pub(crate) fn asked(&self, mark: AuditMark) -> BTreeMap<(String, String), usize> {
        let filter = AuditFilter::all().after(mark).user(&self.user);
        let mut asked = BTreeMap::new();
        for request in self.plane.audit().requests(&filter).unwrap() {
            let resource = request.object_ref.map(|object| object.resource);
            *asked
                .entry((request.verb, resource.unwrap_or_default()))
                .or_default() += 1;
        }
        asked
    }

    /// Waits until a later request stands in the audit log: all before it do.
    pub(crate) async fn written_up_to_now(&self, mark: AuditMark) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.own);
        let later = AuditFilter::all()
            .after(mark)
            .verb("get")
            .resource("configmaps")
            .namespace(&self.own);
        flotilla_testkit::wait_until(
            "a later request to be written",
            Duration::from_secs(60),
            async || {
                maps.get_opt("later").await.map_err(|error| error.to_string())?;
                let count = self
                    .plane
                    .audit()
                    .count(&later)
                    .map_err(|error| error.to_string())?;
                Ok::<_, String>((count > 0).then_some(()))
            },
        )
        .await
        .unwrap();
    }

    /// Somebody else creates an object before the agent does.
    pub(crate) async fn create(&self, name: &str, value: &str) {
        let object = serde_json::from_value(config_map(name, value)).unwrap();
        self.config_maps()
            .create(&PostParams::default(), &object)
            .await
            .unwrap();
    }

    pub(crate) async fn edit(&self, name: &str, value: &str) {
        let params = PatchParams {
            field_manager: Some("kubectl-edit".to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"data": {"a": value}}));
        self.config_maps().patch(name, &params, &patch).await.unwrap();
    }
}

pub(crate) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": value}})
}
