//! What probes and scrapers ask: `/healthz` (the process answers), `/readyz` (it can do its work), `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Tells whether the hub can do its work.
pub trait Ready: Send + Sync + 'static {
    /// Returns the reason when it cannot; the text is shown to whoever asks. Must not take longer than a probe waits.
    fn ready(&self) -> impl Future<Output = Result<(), String>> + Send;

    /// Reads what metrics are to tell. Must not take longer than a scrape waits.
    fn measure(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Routes `/healthz`, `/readyz` and `/metrics`.
pub fn router<R: Ready>(ready: R, registry: Arc<Registry>) -> Router {
    let ready = Arc::new(ready);
    let readiness = Router::new()
        .route("/readyz", get(readyz::<R>))
        .with_state(ready.clone());
    let metrics = Router::new()
        .route("/metrics", get(metrics::<R>))
        .with_state((ready, registry));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .merge(readiness)
        .merge(metrics)
}

async fn readyz<R: Ready>(State(ready): State<Arc<R>>) -> Response {
    match ready.ready().await {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics<R: Ready>(State((ready, registry)): State<(Arc<R>, Arc<Registry>)>) -> Response {
    ready.measure().await;
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
