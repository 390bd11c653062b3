//! The health port: `/healthz` and `/readyz` for the kubelet, `/metrics` for monitoring, over HTTP/1.1. Ready
//! means that the ledger is read and can be enforced: not while the API server does not answer, which no restart
//! helps, so that `/healthz` stays well. The hub being away is no reason to restart or unready an agent.
//!
//! Connections that are held open do not keep the kubelet out: when all places are taken, the oldest connection is
//! closed. A connection that has sent its request is answered within one poll, so the closed ones are idle.

use std::{collections::VecDeque, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    agent::link_words,
    link::{LinkState, watchdog::ApiServerState},
    metrics::Metrics,
};

/// Connections at the same time.
const CONNECTIONS: usize = 32;
/// All headers of a request together; the smallest that hyper takes.
const HEADERS_MAX: usize = 8 << 10;
/// A client that has not sent its headers by then is cut off.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// A connection ends after this, whatever it does.
const CONNECTION_WITHIN: Duration = Duration::from_secs(10);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the port tells of.
#[derive(Debug, Clone)]
pub struct Told {
    /// The state that was accepted is read and enforced.
    pub ready: watch::Receiver<bool>,
    /// How the link stands.
    pub link: watch::Receiver<LinkState>,
    /// How the API server stands.
    pub api_server: watch::Receiver<ApiServerState>,
    /// The figures.
    pub metrics: Arc<Metrics>,
}

/// Opens the port.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until told to stop.
pub async fn serve(listener: TcpListener, told: Told, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        // Both arms are cancel-safe; connections end with the set.
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, say: they come back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|connection| !connection.is_finished());
        if oldest_first.len() >= CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        let told = told.clone();
        oldest_first.push_back(connections.spawn(async move {
            let _ = tokio::time::timeout(CONNECTION_WITHIN, connection(stream, told)).await;
        }));
    }
}

async fn connection(stream: TcpStream, told: Told) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = answer(request.method(), request.uri().path(), &told);
        async move { Ok::<_, Infallible>(response) }
    });
    // What goes wrong with one connection is its client's.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn answer(method: &Method, path: &str, told: &Told) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD alone");
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok"),
        "/readyz" if !*told.ready.borrow() => text(StatusCode::SERVICE_UNAVAILABLE, "starting"),
        "/readyz" => match told.api_server.borrow().as_ref() {
            Some(problem) => text(StatusCode::SERVICE_UNAVAILABLE, problem),
            None => text(StatusCode::OK, &link_words(&told.link.borrow())),
        },
        "/metrics" => {
            told.metrics.link_state(&told.link.borrow());
            response(StatusCode::OK, OPEN_METRICS, told.metrics.text())
        }
        _ => text(StatusCode::NOT_FOUND, "not found"),
    }
}

fn text(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::link::watchdog::api_server_state;

    struct Port {
        address: SocketAddr,
        ready: watch::Sender<bool>,
        api_server: watch::Sender<ApiServerState>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
        _link: watch::Sender<LinkState>,
    }

    impl Drop for Port {
        fn drop(&mut self) {
            self.stop.cancel();
        }
    }

    impl Port {
        async fn open() -> Self {
            let listener = bind("127.0.0.1:0".parse().expect("an address"))
                .await
                .expect("binds");
            let address = listener.local_addr().expect("an address");
            let (ready, ready_rx) = watch::channel(false);
            let (link, link_rx) = watch::channel(LinkState::Away);
            let (api_server, api_server_rx) = api_server_state();
            let (metrics, stop) = (Arc::new(Metrics::new()), CancellationToken::new());
            let told = Told {
                ready: ready_rx,
                link: link_rx,
                api_server: api_server_rx,
                metrics: metrics.clone(),
            };
            tokio::spawn(serve(listener, told, stop.clone()));
            Self {
                address,
                ready,
                api_server,
                metrics,
                stop,
                _link: link,
            }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.expect("connects")
        }

        async fn ask(&self, request: &str) -> String {
            let mut stream = self.connect().await;
            stream.write_all(request.as_bytes()).await.expect("writes");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("reads");
            answer
        }

        async fn get(&self, path: &str) -> String {
            self.ask(&format!("GET {path} HTTP/1.1\r\nHost: agent\r\n\r\n"))
                .await
        }
    }

    #[tokio::test]
    async fn readyz_is_200_while_the_hub_is_away_and_503_while_starting() {
        let port = Port::open().await;
        assert!(port.get("/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(port.get("/healthz").await.starts_with("HTTP/1.1 200"));
        port.ready.send_replace(true);
        let answer = port.get("/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("hub is away\n"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn readyz_says_why_the_api_server_does_not_answer_while_healthz_stays_well() {
        let port = Port::open().await;
        port.ready.send_replace(true);
        port.api_server
            .send_replace(Some("the API server does not answer".to_owned()));
        let answer = port.get("/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.ends_with("the API server does not answer\n"),
            "{answer}"
        );
        assert!(port.get("/healthz").await.starts_with("HTTP/1.1 200"));
        port.api_server.send_replace(None);
        assert!(port.get("/readyz").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let port = Port::open().await;
        assert!(port.get("/other").await.starts_with("HTTP/1.1 404"));
        let post = port
            .ask("POST /healthz HTTP/1.1\r\nHost: agent\r\nContent-Length: 0\r\n\r\n")
            .await;
        assert!(post.starts_with("HTTP/1.1 405"), "{post}");
        let long = format!(
            "GET /healthz HTTP/1.1\r\nHost: agent\r\nX: {}\r\n\r\n",
            "x".repeat(64 << 10)
        );
        let mut stream = port.connect().await;
        // The server may close before all is written.
        let _ = stream.write_all(long.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn metrics_are_served_with_the_state_of_the_link() {
        let port = Port::open().await;
        port.metrics.corrected();
        let answer = port.get("/metrics").await;
        for part in [
            "HTTP/1.1 200",
            "application/openmetrics-text",
            "flotilla_agent_drift_corrections_total 1\n",
            "flotilla_agent_link{state=\"away\"} 1\n",
        ] {
            assert!(answer.contains(part), "no {part} in {answer}");
        }
    }

    #[tokio::test]
    async fn healthz_answers_while_64_idle_connections_are_held_open() {
        let port = Port::open().await;
        let mut idle = Vec::new();
        for n in 0..64 {
            let mut stream = port.connect().await;
            if n % 2 == 0 {
                stream
                    .write_all(b"GET /healthz HTTP/1.1\r\nX: ")
                    .await
                    .expect("writes");
            }
            idle.push(stream);
        }
        let answer = tokio::time::timeout(HEADERS_WITHIN / 2, port.get("/healthz")).await;
        let answer = answer.expect("an answer before any of them is timed out");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // The first came to an end for it, the last is still there.
        let mut first = idle.swap_remove(0);
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(HEADERS_WITHIN / 2, first.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the oldest connection is still open");
        let mut last = idle.pop().expect("a connection");
        let mut byte = [0];
        let open = tokio::time::timeout(Duration::ZERO, last.read(&mut byte)).await;
        assert!(open.is_err(), "the youngest connection was closed");
    }
}
