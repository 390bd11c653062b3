//! `/healthz` and `/readyz` for the kubelet, over HTTP/1.1 and nothing else. Ready means that the ledger is read
//! and enforced; the hub being away is no reason to restart or unready an agent.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{agent::state_word, link::LinkState};

/// Requests answered at once; more wait.
const AT_ONCE: usize = 8;
const REQUEST: Duration = Duration::from_secs(5);

/// Opens the port.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until told to stop.
pub async fn serve(
    listener: TcpListener,
    ready: watch::Receiver<bool>,
    link: watch::Receiver<LinkState>,
    stop: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of file descriptors, say: they come back.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (ready, state) = (*ready.borrow(), link.borrow().clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = tokio::time::timeout(REQUEST, answer(stream, ready, state)).await;
        });
    }
}

async fn answer(mut stream: TcpStream, ready: bool, state: LinkState) -> std::io::Result<()> {
    let mut head = [0; 2048];
    let mut read = 0;
    while !head[..read].windows(2).any(|pair| pair == b"\r\n") && read < head.len() {
        match stream.read(&mut head[read..]).await? {
            0 => return Ok(()),
            n => read += n,
        }
    }
    let line = String::from_utf8_lossy(&head[..read]);
    let (status, body) = match line.split_whitespace().nth(1) {
        Some("/healthz") => ("200 OK", "ok"),
        Some("/readyz") if ready => ("200 OK", state_word(&state)),
        Some("/readyz") => ("503 Service Unavailable", "starting"),
        _ => ("404 Not Found", "not found"),
    };
    let length = body.len() + 1;
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}\n"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(path: &str, ready: bool) -> String {
        let listener = bind("127.0.0.1:0".parse().expect("an address"))
            .await
            .expect("binds");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let (_ready, ready) = watch::channel(ready);
        let (_state, state) = watch::channel(LinkState::Away);
        let server = tokio::spawn(serve(listener, ready, state, stop.clone()));
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())
            .await
            .expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("reads");
        stop.cancel();
        server.await.expect("ends");
        answer
    }

    #[tokio::test]
    async fn an_agent_whose_hub_is_away_is_ready() {
        let answer = get("/readyz", true).await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("hub is away\n"),
            "{answer}"
        );
        assert!(get("/readyz", false).await.starts_with("HTTP/1.1 503"));
        assert!(get("/healthz", false).await.starts_with("HTTP/1.1 200"));
        assert!(get("/other", true).await.starts_with("HTTP/1.1 404"));
    }
}
