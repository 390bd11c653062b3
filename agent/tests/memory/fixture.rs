//! An agent in memory that has applied many objects.

use std::{sync::Arc, time::Duration};

use flotilla_agent::{
    cluster::fake::Fake,
    ledger::{key_value::Limits, memory::Memory},
    sim::{Contents, Options, SimAgent},
};
use flotilla_core::object::ObjectKey;
use serde_json::json;

use super::objects::{CUSTOM, NAMESPACES, entry, object};

/// How often everything is verified.
pub(crate) const CYCLE: Duration = Duration::from_secs(900);

pub(crate) struct Fleet {
    pub(crate) cluster: Fake,
    agent: Option<SimAgent>,
    /// Storage is not the agent's memory.
    _cells: Memory,
}

impl Fleet {
    /// An agent that has applied `count` objects.
    pub(crate) async fn with(count: usize) -> Self {
        let cluster = Fake::new();
        for kind in CUSTOM {
            let name = format!("Custom{kind}");
            cluster.serve(
                "example.com/v1",
                &name,
                &format!("{}s", name.to_lowercase()),
                true,
            );
        }
        for n in 0..NAMESPACES {
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
        let entry = entry(content);
        let options = Options {
            verify_every: Some(CYCLE),
            ..Options::default()
        };
        let agent = SimAgent::start_as(Arc::new(cluster.clone()), Arc::new(cells.clone()), options)
            .await
            .expect("a ledger");
        agent.offer(&[entry], &mut contents).await.expect("accepted");
        let fleet = Self {
            cluster,
            agent: Some(agent),
            _cells: cells,
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
