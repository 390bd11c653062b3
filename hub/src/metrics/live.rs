//! This process: streams, queues, what it holds and takes of the machine.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::{
    auth::limit::Attempts,
    grpc::streams::Streams,
    index::Index,
    process::{descriptors, own},
    task::queue::Queue,
};

/// What is read when asked.
pub struct Live {
    /// Agents' streams.
    pub streams: Arc<Streams>,
    /// Desired states in memory.
    pub index: Arc<Index>,
    /// Queues of the reconcilers.
    pub queues: [Queue; 5],
    /// Attempts to enrol.
    pub attempts: Arc<Attempts>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: usize| {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
        };
        gauge(
            "flotilla_hub_agents_connected",
            "Agent streams open on this replica",
            self.streams.count(),
        )?;
        gauge(
            "flotilla_hub_clusters_watched",
            "Clusters whose desired state is held in memory",
            self.index.watched(),
        )?;
        let (memory, files) = own();
        gauge("process_resident_memory_bytes", "Resident memory", memory)?;
        gauge("process_open_fds", "Open descriptors", files)?;
        gauge(
            "process_max_fds",
            "Descriptors that this process may have",
            descriptors(),
        )?;
        let refused = ConstCounter::new(self.attempts.refusals());
        refused.encode(encoder.encode_descriptor(
            "flotilla_hub_enrolments_refused",
            "Enrolments refused for unknown tokens or too many attempts",
            None,
            MetricType::Counter,
        )?)?;
        let mut depth = encoder.encode_descriptor(
            "workqueue_depth",
            "Keys waiting or being reconciled",
            None,
            MetricType::Gauge,
        )?;
        for queue in &self.queues {
            let value = ConstGauge::new(i64::try_from(queue.depth()).unwrap_or(i64::MAX));
            value.encode(depth.encode_family(&[("name", queue.name())])?)?;
        }
        let mut ended = encoder.encode_descriptor(
            "controller_runtime_reconcile",
            "Reconciliations by how they ended",
            None,
            MetricType::Counter,
        )?;
        for queue in &self.queues {
            for (result, count) in queue.times().ended() {
                let labels = [("controller", queue.name()), ("result", result)];
                ConstCounter::new(count).encode(ended.encode_family(&labels)?)?;
            }
        }
        let mut lasted = encoder.encode_descriptor(
            "gotk_reconcile_duration_seconds",
            "How long reconciliations took",
            None,
            MetricType::Histogram,
        )?;
        for queue in &self.queues {
            let labels = [("kind", queue.name())];
            queue.times().lasted.encode(lasted.encode_family(&labels)?)?;
        }
        let mut waited = encoder.encode_descriptor(
            "workqueue_queue_duration_seconds",
            "How long keys waited for their turn",
            None,
            MetricType::Histogram,
        )?;
        for queue in &self.queues {
            let labels = [("name", queue.name())];
            queue.times().waited.encode(waited.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
