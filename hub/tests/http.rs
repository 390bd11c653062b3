//! The plain HTTP port, over real connections.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flotilla_hub::http::{
    Lookup, Ready, Receiver, Receivers,
    hook::{self, NudgeFailed},
    hook_path, observe, serve,
};
use flotilla_testkit::{install_tls_provider, wait_until};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use ring::hmac;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

const TOKEN: &str = "canary-token";
const WAIT: Duration = Duration::from_secs(20);

/// Receivers by name, each with the token above.
#[derive(Clone)]
struct Fake {
    nudged: Arc<Mutex<Vec<&'static str>>>,
    looked: Arc<AtomicUsize>,
    /// A nudge takes one; tests that hold them back see nudges wait.
    permits: Arc<Semaphore>,
}

impl Receivers for Fake {
    type Id = &'static str;

    async fn find(&self, digest: &str) -> Lookup<&'static str> {
        self.looked.fetch_add(1, Ordering::SeqCst);
        let named = ["app", "suspended", "panics", "fails"];
        let found = named.into_iter().find(|name| path(name).ends_with(digest));
        match found {
            None => Lookup::Unknown,
            Some("suspended") => Lookup::Closed,
            Some(id) => Lookup::Open(Receiver {
                id,
                token: Zeroizing::new(TOKEN.into()),
            }),
        }
    }

    async fn nudge(&self, id: &'static str) -> Result<(), NudgeFailed> {
        assert_ne!(id, "panics", "as asked");
        let begun = || self.nudged.lock().expect("not poisoned").push(id);
        begun();
        self.permits.acquire().await.map_err(|_| NudgeFailed)?.forget();
        if id == "fails" { Err(NudgeFailed) } else { Ok(()) }
    }
}

struct Fine(bool);

impl Ready for Fine {
    async fn ready(&self) -> Result<(), String> {
        if self.0 {
            Ok(())
        } else {
            Err("the store does not answer".into())
        }
    }
}

struct Port {
    address: std::net::SocketAddr,
    fake: Fake,
    stop: CancellationToken,
    client: reqwest::Client,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn path(name: &str) -> String {
    hook_path(TOKEN.as_bytes(), name, "flux-system")
}

fn sign(algorithm: hmac::Algorithm, token: &str, body: &[u8]) -> String {
    hex::encode(hmac::sign(&hmac::Key::new(algorithm, token.as_bytes()), body))
}

impl Port {
    async fn open(permits: usize) -> Self {
        install_tls_provider();
        let fake = Fake {
            nudged: Arc::default(),
            looked: Arc::default(),
            permits: Arc::new(Semaphore::new(permits)),
        };
        let mut registry = Registry::default();
        let counter = Counter::<u64>::default();
        registry.register("flotilla_test", "A counter", counter.clone());
        counter.inc();
        let router = hook::router(fake.clone()).merge(observe::router(Fine(true), Arc::new(registry)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, router, stop.clone()));
        Self {
            address,
            fake,
            stop,
            client: reqwest::Client::builder()
                .timeout(WAIT)
                .build()
                .expect("a client"),
        }
    }

    async fn call(&self, path: &str, signature: Option<&str>, body: Vec<u8>) -> u16 {
        let mut request = self
            .client
            .post(format!("http://{}{path}", self.address))
            .body(body);
        if let Some(signature) = signature {
            request = request.header("X-Signature", signature);
        }
        request.send().await.expect("answered").status().as_u16()
    }

    fn nudged(&self) -> Vec<&'static str> {
        self.fake.nudged.lock().expect("not poisoned").clone()
    }
}

#[tokio::test]
async fn only_a_call_signed_with_the_token_wakes_a_receiver() {
    let port = Port::open(100).await;
    let body = b"{\"any\": \"thing\"}";
    let app = path("app");
    let (sha1, sha256, sha512) = (
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        hmac::HMAC_SHA256,
        hmac::HMAC_SHA512,
    );
    let good = format!("sha256={}", sign(sha256, TOKEN, body));
    for (name, path, signature, status) in [
        (
            "sha1",
            &app,
            Some(format!("sha1={}", sign(sha1, TOKEN, body))),
            200,
        ),
        ("sha256", &app, Some(good.clone()), 200),
        (
            "sha512",
            &app,
            Some(format!("sha512={}", sign(sha512, TOKEN, body))),
            200,
        ),
        (
            "upper case",
            &app,
            Some(format!("sha256={}", sign(sha256, TOKEN, body).to_uppercase())),
            200,
        ),
        ("no signature", &app, None, 400),
        (
            "another token",
            &app,
            Some(format!("sha256={}", sign(sha256, "other", body))),
            400,
        ),
        (
            "another body",
            &app,
            Some(format!("sha256={}", sign(sha256, TOKEN, b"other"))),
            400,
        ),
        (
            "another algorithm",
            &app,
            Some(format!("sha512={}", sign(sha256, TOKEN, body))),
            400,
        ),
        (
            "unknown algorithm",
            &app,
            Some(format!("md5={}", sign(sha256, TOKEN, body))),
            400,
        ),
        ("cut", &app, Some(good[..good.len() - 2].into()), 400),
        ("no digits", &app, Some("sha256=xyz".into()), 400),
        ("empty", &app, Some("sha256=".into()), 400),
        ("suspended", &path("suspended"), Some(good.clone()), 503),
        ("unknown", &path("unknown"), Some(good.clone()), 404),
        ("no digest", &"/hook/app".to_owned(), Some(good.clone()), 404),
        ("below", &format!("{app}/x"), Some(good.clone()), 404),
        ("failing", &path("fails"), Some(good.clone()), 500),
    ] {
        let before = port.nudged().len();
        assert_eq!(
            port.call(path, signature.as_deref(), body.to_vec()).await,
            status,
            "{name}"
        );
        let woken = port.nudged().len() - before;
        assert_eq!(woken, usize::from(matches!(status, 200 | 500)), "{name}");
    }
}

#[test]
fn the_path_is_the_one_flux_shows() {
    let digest = "8e8ebfe4a5ba9e0c8e6cf7ff07a0d2b7c9f2e1c8d4a2fd5dbd46aa7e3e8e6b1f";
    assert_eq!(
        hook_path(b"token", "name", "namespace").len(),
        "/hook/".len() + digest.len()
    );
    assert_eq!(
        hook_path(b"a", "b", "c"),
        "/hook/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[tokio::test]
async fn a_large_body_is_refused_before_it_is_read() {
    let port = Port::open(100).await;
    let mut stream = TcpStream::connect(port.address).await.expect("connected");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nX-Signature: sha256=00\r\nContent-Length: 52428800\r\n\r\n",
        path("app")
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    stream
        .read_exact(&mut answer)
        .await
        .expect("answered without the body");
    assert_eq!(&answer, b"HTTP/1.1 413");
    // One that does not say its length is read up to the limit.
    let chunk = vec![b'x'; 64 << 10];
    let mut stream = TcpStream::connect(port.address).await.expect("connected");
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: h\r\nX-Signature: sha256=00\r\nTransfer-Encoding: chunked\r\n\r\n",
        path("app")
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let (mut reader, mut writer) = stream.split();
    let flood = async {
        loop {
            let size = format!("{:x}\r\n", chunk.len());
            let sent = [size.as_bytes(), &chunk, b"\r\n"].concat();
            if writer.write_all(&sent).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = flood => {}
        read = reader.read_exact(&mut answer) => { read.expect("answered"); }
    }
    assert_eq!(&answer, b"HTTP/1.1 413");
    let exact = vec![b'x'; 3 << 20];
    let signature = format!("sha256={}", sign(hmac::HMAC_SHA256, TOKEN, &exact));
    assert_eq!(port.call(&path("app"), Some(&signature), exact).await, 200);
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let port = Port::open(100).await;
    let mut stream = TcpStream::connect(port.address).await.expect("connected");
    let large = format!(
        "GET /healthz HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
        "x".repeat(300 << 10)
    );
    let _ = stream.write_all(large.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn a_flood_of_calls_is_two_wakings() {
    let port = Port::open(0).await;
    let signature = format!("sha256={}", sign(hmac::HMAC_SHA256, TOKEN, b""));
    let app = path("app");
    let first = port.call(&app, Some(&signature), Vec::new());
    let flood = async {
        wait_until("the first waking has begun", WAIT, async || {
            Ok::<_, String>((port.nudged().len() == 1).then_some(()))
        })
        .await
        .expect("begun");
        let calls = (0..200).map(|_| port.call(&app, Some(&signature), Vec::new()));
        let statuses = futures::future::join_all(calls).await;
        assert!(statuses.iter().all(|status| *status == 200));
        port.fake.permits.add_permits(100);
    };
    let (first, ()) = tokio::join!(first, flood);
    assert_eq!((first, port.nudged().len()), (200, 2));
    assert_eq!(port.call(&app, Some(&signature), Vec::new()).await, 200);
    assert_eq!(port.nudged().len(), 3, "the next one is heard again");
}

#[tokio::test]
async fn a_panic_stays_one_requests() {
    let port = Port::open(100).await;
    let signature = format!("sha256={}", sign(hmac::HMAC_SHA256, TOKEN, b""));
    for _ in 0..2 {
        assert_eq!(
            port.call(&path("panics"), Some(&signature), Vec::new()).await,
            500
        );
    }
    assert_eq!(port.call(&path("app"), Some(&signature), Vec::new()).await, 200);
}

#[tokio::test]
async fn paths_that_are_none_are_not_even_looked_up() {
    let port = Port::open(100).await;
    for path in [
        "/hook/x",
        "/hook/",
        "/hook/..%2f..",
        &format!("/hook/{}", "A".repeat(64)),
    ] {
        assert_eq!(port.call(path, None, Vec::new()).await, 404, "{path}");
    }
    let looked = || port.fake.looked.load(Ordering::SeqCst);
    assert_eq!(looked(), 0);
    port.call(&path("app"), None, Vec::new()).await;
    assert_eq!(looked(), 1, "one that may be is looked up");
}

#[tokio::test]
async fn health_readiness_and_metrics_are_told() {
    let port = Port::open(100).await;
    let get = async |path: &str| {
        let answer = port
            .client
            .get(format!("http://{}{path}", port.address))
            .send()
            .await
            .expect("answered");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    assert_eq!(get("/healthz").await, (200, "ok\n".into()));
    assert_eq!(get("/readyz").await, (200, "ok\n".into()));
    let (status, text) = get("/metrics").await;
    assert_eq!(status, 200);
    assert!(
        text.contains("flotilla_test_total 1") && text.ends_with("# EOF\n"),
        "{text}"
    );
    let unready = observe::router(Fine(false), Arc::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve(listener, unready, port.stop.clone()));
    let answer = port
        .client
        .get(format!("http://{address}/readyz"))
        .send()
        .await
        .expect("answered");
    assert_eq!(
        (answer.status().as_u16(), answer.text().await.expect("text")),
        (503, "the store does not answer\n".into())
    );
}
