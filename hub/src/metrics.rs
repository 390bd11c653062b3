//! What `/metrics` shows of the hub: read from the live structures when asked, so that nothing counts beside them.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::{auth::limit::Attempts, grpc::streams::Streams, index::Index, task::queue::Queue};

/// The registry of this hub.
pub fn registry(
    streams: Arc<Streams>,
    index: Arc<Index>,
    queues: [Queue; 3],
    attempts: Arc<Attempts>,
) -> Registry {
    let mut registry = Registry::with_prefix("flotilla_hub");
    registry.register_collector(Box::new(Live {
        streams,
        index,
        queues,
        attempts,
    }));
    registry
}

struct Live {
    streams: Arc<Streams>,
    index: Arc<Index>,
    queues: [Queue; 3],
    attempts: Arc<Attempts>,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Live")
    }
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: usize| {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
        };
        gauge(
            "agents_connected",
            "Agent streams open on this replica",
            self.streams.count(),
        )?;
        gauge(
            "clusters_watched",
            "Clusters whose desired state is held in memory",
            self.index.watched(),
        )?;
        let refused = ConstCounter::new(self.attempts.refusals());
        refused.encode(encoder.encode_descriptor(
            "enrolments_refused",
            "Enrolments refused for unknown tokens or too many attempts",
            None,
            refused.metric_type(),
        )?)?;
        let mut gauge = |name: &str, help: &str, value: usize| {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)
        };
        for queue in &self.queues {
            let name = format!("queue_{}_depth", queue.name());
            gauge(&name, "Keys waiting or being reconciled", queue.depth())?;
        }
        Ok(())
    }
}
