//! Logs, and one trace from commit to applied everywhere: steps of a revision are spans of the trace that
//! `flotilla_core::trace` derives from it. Exported over OTLP when an endpoint is given; the trace's id stands in the
//! logs in any case.

use std::{
    io::IsTerminal as _,
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use anyhow::Context as _;
use flotilla_core::trace::Trace;
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Span as _, SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
        TracerProvider as _,
    },
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use time::OffsetDateTime;
use tracing::{Level, Metadata, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Steps' spans are told from all others by this target.
const TARGET: &str = module_path!();
const SERVICE: &str = "flotilla-hub";
static EXPORTED: AtomicBool = AtomicBool::new(false);

/// Exports what is pending when the process ends.
#[derive(Default)]
pub struct Exporting(Option<SdkTracerProvider>);

impl Exporting {
    /// Sends what is pending and stops. A collector that is away costs its time-out and nothing else.
    pub fn stop(self) {
        if let Some(Err(error)) = self.0.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Sets up logs in `format` (`text` or `json`), and the export of traces to `endpoint` if one is given. Call it
/// once, within the runtime.
pub fn init(format: &str, endpoint: Option<&str>) -> anyhow::Result<Exporting> {
    let levels = EnvFilter::try_from_env("FLOTILLA_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let provider = endpoint.map(provider).transpose()?;
    tracing_subscriber::registry()
        .with(layers(format, levels, provider.as_ref()))
        .init();
    if let Some(provider) = &provider {
        EXPORTED.store(true, Ordering::Relaxed);
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    Ok(Exporting(provider))
}

/// Who hears of what. What none of them wants costs next to nothing, and the libraries that serve connections tell of each
/// frame in several spans: a layer that is not wanted must not be in the list at all, since an empty one hears of everything.
fn layers(
    format: &str,
    levels: EnvFilter,
    provider: Option<&SdkTracerProvider>,
) -> Vec<Box<dyn Layer<Registry> + Send + Sync>> {
    // Colours are for a terminal, and what is written to a file is read with other programs.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        "json" => lines.json().flatten_event(true).with_filter(levels).boxed(),
        _ => lines.with_filter(levels).boxed(),
    };
    let mut layers = vec![lines];
    if let Some(provider) = provider {
        let is_step = |metadata: &Metadata<'_>| metadata.is_span() && metadata.target() == TARGET;
        let steps = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter::filter_fn(is_step).with_max_level_hint(Level::INFO));
        layers.push(steps.boxed());
    }
    layers
}

fn provider(endpoint: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("the OTLP endpoint '{endpoint}' cannot be used"))?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(SERVICE).build())
        .build())
}

/// The fetch of a revision.
pub fn fetch(source: &str, revision: &str) -> Span {
    joined(
        tracing::info_span!("fetch", source, revision, trace = tracing::field::Empty),
        revision,
    )
}

/// The rendering of a revision for one app.
pub fn render(app: &str, revision: &str) -> Span {
    joined(
        tracing::info_span!("render", app, revision, trace = tracing::field::Empty),
        revision,
    )
}

/// Makes `span` a step of its revision's trace.
fn joined(span: Span, revision: &str) -> Span {
    if let Some(trace) = Trace::of_revision(revision) {
        span.record("trace", tracing::field::display(trace));
        // An error means that nothing is exported.
        let _ = span.set_parent(parent(trace));
    }
    span
}

/// A step that is known only when it is over: in another process, or over many.
#[derive(Debug, Clone)]
pub struct Past<'a> {
    /// `plan`, `publish`, `apply`, `rollout`.
    pub name: &'static str,
    /// The revision.
    pub revision: &'a str,
    /// The app, `Kind/namespace/name`.
    pub app: &'a str,
    /// The cluster; '' where it is about all.
    pub cluster: &'a str,
    /// Begin, by the clock of who did it.
    pub began: OffsetDateTime,
    /// End, by the same clock.
    pub ended: OffsetDateTime,
}

/// Tells whether steps are exported, so that nobody gathers what nobody gets.
pub fn is_exported() -> bool {
    EXPORTED.load(Ordering::Relaxed)
}

/// Exports a step that is over. Does nothing when nothing is exported.
pub fn past(step: &Past<'_>) {
    let Some(trace) = Trace::of_revision(step.revision) else {
        return;
    };
    let tracer = opentelemetry::global::tracer(SERVICE);
    let mut attributes = vec![
        KeyValue::new("revision", step.revision.to_owned()),
        KeyValue::new("app", step.app.to_owned()),
    ];
    if !step.cluster.is_empty() {
        attributes.push(KeyValue::new("cluster", step.cluster.to_owned()));
    }
    let builder = tracer
        .span_builder(step.name)
        .with_start_time(SystemTime::from(step.began))
        .with_attributes(attributes);
    let mut span = tracer.build_with_context(builder, &parent(trace));
    span.end_with_timestamp(SystemTime::from(step.ended));
}

fn parent(trace: Trace) -> Context {
    Context::new().with_remote_span_context(SpanContext::new(
        TraceId::from_bytes(trace.id),
        SpanId::from_bytes(trace.root),
        TraceFlags::SAMPLED,
        true,
        TraceState::NONE,
    ))
}

#[cfg(test)]
mod tests {
    use tracing::{Level, enabled, subscriber};

    use super::*;

    #[test]
    fn what_nobody_hears_of_is_not_even_made_whether_steps_are_exported_or_not() {
        let provider = SdkTracerProvider::builder().build();
        for provider in [None, Some(&provider)] {
            let layers = layers("text", EnvFilter::new("info,sqlx=warn"), provider);
            subscriber::with_default(tracing_subscriber::registry().with(layers), || {
                assert!(enabled!(target: "flotilla_hub", Level::INFO));
                assert!(
                    !enabled!(target: "sqlx::query", Level::DEBUG),
                    "the text of each statement"
                );
                for (span, event) in [
                    (
                        enabled!(kind: tracing::metadata::Kind::SPAN, target: "h2", Level::TRACE),
                        enabled!(target: "h2", Level::TRACE),
                    ),
                    (
                        enabled!(kind: tracing::metadata::Kind::SPAN, target: "h2", Level::DEBUG),
                        enabled!(target: "h2", Level::DEBUG),
                    ),
                ] {
                    assert!(!span && !event, "frames of connections");
                }
            });
        }
    }
}
