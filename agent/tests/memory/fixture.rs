//! A unit of many objects of many kinds: ConfigMaps, Secrets, Deployments and custom objects, a quarter of them
//! templates with a variable.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use flotilla_agent::{
    cluster::fake::Fake,
    ledger::{cells::Limits, memory::Memory},
    sim::{Contents, Options, SimAgent},
};
use flotilla_core::{
    id::{ResourceUid, UnitId},
    object::ObjectKey,
    unit::{AppRef, Entry, Settings, Substitution, UnitState, VariableLayer, target_digest},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// Kinds of the objects.
pub(crate) const KINDS: usize = 40;

pub(crate) struct Fleet {
    pub(crate) cluster: Fake,
    agent: Option<SimAgent>,
}

/// The object of a number, and whether it is a template.
fn object(n: usize) -> (ObjectKey, Value) {
    let name = format!("an-object-of-a-usual-name-{n}");
    let namespace = format!("team-{}", n % 10);
    let metadata = json!({"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": name}});
    let value = match n % KINDS {
        0..10 => json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": {"level": "info", "size": "${size}", "number": n.to_string()}}),
        10..15 => json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata,
            "stringData": {"password": format!("secret-{n}")}}),
        15..20 => json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"replicas": 1, "template": {"spec": {"containers": [
                {"name": "web", "image": format!("registry.example.com/team/web:{n}")}]}}}}),
        kind => json!({"apiVersion": "example.com/v1", "kind": format!("Custom{kind}"), "metadata": metadata,
            "spec": {"number": n}}),
    };
    (ObjectKey::of(&value).expect("a key"), value)
}

impl Fleet {
    /// An agent that has applied `count` objects.
    pub(crate) async fn with(count: usize) -> Self {
        let cluster = Fake::new();
        for kind in 3..KINDS {
            let name = format!("Custom{kind}");
            cluster.serve(
                "example.com/v1",
                &name,
                &format!("{}s", name.to_lowercase()),
                true,
            );
        }
        for n in 0..10 {
            let name = format!("team-{n}");
            cluster.write(
                "setup",
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            );
        }
        let cells = Memory::default().with_limits(Limits {
            segment: 512 << 10,
            total: 64 << 20,
        });
        let mut contents = Contents::default();
        let texts: Vec<(ObjectKey, String)> = (0..count)
            .map(object)
            .map(|(key, value)| (key, value.to_string()))
            .collect();
        let templates: Vec<(ObjectKey, &str)> = texts
            .iter()
            .map(|(key, text)| (key.clone(), text.as_str()))
            .collect();
        let content = contents.add_yaml(&templates);
        let settings = Settings {
            interval: Duration::from_secs(600),
            retry_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(120),
            wait: false,
            prune: true,
            common_labels: BTreeMap::new(),
            common_annotations: BTreeMap::new(),
            substitution: Substitution::WithVariables,
            default_namespace: String::new(),
        };
        let variables = vec![VariableLayer::Literal {
            values: BTreeMap::from([("size".to_owned(), "large".to_owned())]),
        }];
        let entry = Entry {
            unit: UnitId(Uuid::from_u128(1)),
            version: 1,
            app: AppRef {
                uid: ResourceUid(Uuid::from_u128(2)),
                kind: "Kustomization".into(),
                namespace: "apps".into(),
                name: "all".into(),
            },
            content: Some(content),
            target: target_digest(Some(content), &settings, &variables),
            revision: "main@sha1:abc".into(),
            state: UnitState::Active,
            prune_cleared: None,
            settings,
            variables,
            depends_on: Vec::new(),
            withheld: Vec::new(),
            requested: String::new(),
        };
        let agent = SimAgent::start_as(Arc::new(cluster.clone()), Arc::new(cells), Options::default())
            .await
            .expect("a ledger");
        agent.offer(&[entry], &mut contents).await.expect("accepted");
        let fleet = Self {
            cluster,
            agent: Some(agent),
        };
        for _ in 0..100 {
            fleet.settle().await;
            if (0..count).all(|n| fleet.cluster.object(&object(n).0).is_some()) {
                return fleet;
            }
        }
        panic!("never applied");
    }

    /// Lets everything come to rest, and acknowledges what is reported.
    pub(crate) async fn settle(&self) {
        let agent = self.agent.as_ref().expect("runs");
        while agent.report(Duration::from_secs(30)).await.is_some() {}
    }

    /// Lets somebody change an object, and waits until that is undone.
    pub(crate) async fn drift(&self, n: usize) {
        let key = object(n).0;
        self.cluster.edit("somebody", &key, |object| {
            object["data"]["level"] = "debug".into()
        });
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let live = self.cluster.object(&key).expect("it is there");
            if live["data"]["level"] == "info" {
                return;
            }
        }
        panic!("never corrected");
    }

    /// Ends the agent, and waits until its tasks are gone.
    pub(crate) async fn stop(&mut self) {
        self.agent = None;
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}
