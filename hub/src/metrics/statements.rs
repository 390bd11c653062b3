//! How long statements take, as whoever asks the database finds. The driver tells of each as well, with the whole text of it:
//! to hear of that costs more than to count.

use std::{sync::LazyLock, time::Instant};

use prometheus_client::{
    metrics::histogram::{Histogram, exponential_buckets},
    registry::Registry,
};

/// One histogram a process: whoever asks has no way to another.
static TIMES: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(exponential_buckets(0.000_5, 2.0, 16)));

/// Shows the times.
pub(super) fn register(registry: &mut Registry) {
    registry.register(
        "flotilla_hub_statement_duration_seconds",
        "How long statements took in the database",
        TIMES.clone(),
    );
}

/// A statement that is under way, counted when this is dropped: however it ends.
pub(crate) struct Asked(Instant);

impl Asked {
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        TIMES.observe(self.0.elapsed().as_secs_f64());
    }
}
