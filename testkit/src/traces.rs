//! A collector of traces: a server of OTLP over gRPC that keeps what it gets for a test to look at.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value,
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::{background::Background, error::RigError};

/// One span received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedSpan {
    /// Trace id, hexadecimal.
    pub trace: String,
    /// Name.
    pub name: String,
    /// The attributes that are text.
    pub attributes: Vec<(String, String)>,
    /// Begin and end, nanoseconds since the epoch.
    pub time: (u64, u64),
}

impl TracedSpan {
    /// The value of a text attribute; '' where there is none.
    pub fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A running collector; it ends with its handle.
pub struct TraceCollector {
    endpoint: String,
    spans: Spans,
    _serving: Background,
}

impl TraceCollector {
    /// Starts one on a free port.
    pub fn start() -> Result<Self, RigError> {
        let io = RigError::io("listen on", "127.0.0.1");
        let listener = std::net::TcpListener::bind("127.0.0.1:0");
        let bound = listener.and_then(|listener| {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = bound.map_err(io)?;
        let spans = Spans::default();
        let service = TraceServiceServer::new(spans.clone());
        let serving = Background::new("traces")?;
        serving.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            let incoming = TcpListenerStream::new(listener);
            let _ = Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await;
        });
        Ok(Self {
            endpoint: format!("http://{address}"),
            spans,
            _serving: serving,
        })
    }

    /// Where exporters send to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What came so far, in order of arrival.
    pub fn spans(&self) -> Vec<TracedSpan> {
        self.spans.lock().clone()
    }
}

#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<TracedSpan>>>);

impl Spans {
    fn lock(&self) -> MutexGuard<'_, Vec<TracedSpan>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans;
        let scopes = scopes.into_iter().flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans).map(read);
        self.lock().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn read(span: Span) -> TracedSpan {
    let text = |value: Option<any_value::Value>| match value {
        Some(any_value::Value::StringValue(text)) => Some(text),
        _ => None,
    };
    let attributes = span.attributes.into_iter();
    TracedSpan {
        trace: span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect(),
        name: span.name,
        attributes: attributes
            .filter_map(|one| Some((one.key, text(one.value?.value)?)))
            .collect(),
        time: (span.start_time_unix_nano, span.end_time_unix_nano),
    }
}
