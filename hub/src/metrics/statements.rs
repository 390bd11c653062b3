//! How long statements take, as the database's driver tells of each.

use std::{fmt, sync::LazyLock};

use prometheus_client::{
    metrics::histogram::{Histogram, exponential_buckets},
    registry::Registry,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter, layer::Context, registry::LookupSpan};

/// One histogram a process, as there is one subscriber: statements are told to it without a way to hand it over.
static TIMES: LazyLock<Histogram> = LazyLock::new(|| Histogram::new(exponential_buckets(0.000_5, 2.0, 16)));

/// Shows the times.
pub(super) fn register(registry: &mut Registry) {
    registry.register(
        "flotilla_hub_statement_duration_seconds",
        "How long statements took in the database",
        TIMES.clone(),
    );
}

/// Hears of statements.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Times.with_filter(filter::filter_fn(is_statement).with_max_level_hint(Level::DEBUG))
}

fn is_statement(metadata: &Metadata<'_>) -> bool {
    metadata.target() == "sqlx::query" && *metadata.level() <= Level::DEBUG
}

struct Times;

impl<S: Subscriber> Layer<S> for Times {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut Elapsed);
    }
}

struct Elapsed;

impl Visit for Elapsed {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            TIMES.observe(value);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
