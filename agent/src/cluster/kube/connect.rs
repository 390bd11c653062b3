//! Connections to an API server: HTTP/2 where it is offered, so that calls share one connection and watches a
//! few others; HTTP/1.1 with a connection for each watch elsewhere.
//!
//! The token file and the CA file are read again about once a minute, by kube.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper_util::{
    client::legacy::{Builder, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::ConfigExt as _,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::sync::MutexGuard;
use tower::{BoxError, Layer as _, ServiceExt as _, util::option_layer};

use super::{KubeCluster, answer::transport_text};

const CONNECT: Duration = Duration::from_secs(10);
/// A connection that does not answer a ping for so long is dead: found before the deadline of a call, and on
/// watches, which may be silent for minutes, with few pings.
const PONG: Duration = Duration::from_secs(15);
/// Watches on one connection: servers allow a hundred streams or more, and one beyond that would wait for another
/// to end.
const PER_CONNECTION: usize = 64;
/// Bytes in flight on a connection.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// What a connection is for.
struct Purpose {
    /// Bytes in flight of one answer.
    window: u32,
    /// How often it is asked whether it is alive, while an answer is awaited.
    ping: Duration,
}

/// Whole objects and pages come at once.
const CALLS: Purpose = Purpose {
    window: 1 << 20,
    ping: Duration::from_secs(15),
};
/// A watch that nobody reads holds its window, and the connection must have room for all of them: else it would hold
/// up the others.
const WATCHES: Purpose = Purpose {
    window: 64 << 10,
    ping: Duration::from_secs(30),
};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path} is not usable: {why}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Not inside a cluster.
    #[error("not inside a cluster, and no kubeconfig is given: {0}")]
    InCluster(String),
    /// The client cannot be made of the configuration.
    #[error("client cannot be made: {0}")]
    Client(String),
}

/// Makes a client from a kubeconfig file, or from what a pod finds.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client, ClientError> {
    connected(&configuration(kubeconfig).await?, &CALLS)
}

impl KubeCluster {
    /// Connects to a cluster by a kubeconfig file, or by what a pod finds, with connections of their own for
    /// watches.
    pub async fn connect(kubeconfig: Option<&Path>) -> Result<Self, ClientError> {
        let config = configuration(kubeconfig).await?;
        let cluster = Self::new(connected(&config, &CALLS)?);
        Ok(Self {
            watches: Watches(Some(Arc::new(Pool {
                config,
                clients: Mutex::default(),
            }))),
            ..cluster
        })
    }
}

async fn configuration(kubeconfig: Option<&Path>) -> Result<Config, ClientError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let unusable = |why: String| ClientError::Kubeconfig {
                path: path.display().to_string(),
                why,
            };
            let file = Kubeconfig::read_from(path).map_err(|e| unusable(unreadable(&e)))?;
            let ca_file = ca_file(&file);
            let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|e| unusable(unreadable(&e)))?;
            // As in a pod: what comes from a file is read from it again.
            config.root_cert_file = ca_file;
            config
        }
        None => Config::incluster().map_err(|e| ClientError::InCluster(e.to_string()))?,
    };
    // Retrying is the caller's.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    // A watch may be silent for as long as the server's timeout; the watch itself bounds its silence.
    config.read_timeout = None;
    Ok(config)
}

/// Says what is wrong without a word of the file, whose lines are tokens and passwords.
fn unreadable(error: &KubeconfigError) -> String {
    let KubeconfigError::Parse(cause) = error else {
        return error.to_string();
    };
    match cause.location() {
        Some(at) => format!(
            "its YAML is none of a kubeconfig at line {}, column {}",
            at.line(),
            at.column()
        ),
        None => "its YAML is none of a kubeconfig".to_owned(),
    }
}

/// The CA file that the current context of a kubeconfig names, where it has no CA inline.
fn ca_file(file: &Kubeconfig) -> Option<PathBuf> {
    let context = file.current_context.as_ref()?;
    let context = file.contexts.iter().find(|named| named.name == *context)?;
    let cluster = &context.context.as_ref()?.cluster;
    let cluster = file.clusters.iter().find(|named| named.name == *cluster)?;
    let cluster = cluster.cluster.as_ref()?;
    if cluster.certificate_authority_data.is_some() {
        return None;
    }
    cluster.certificate_authority.as_ref().map(PathBuf::from)
}

fn connected(config: &Config, purpose: &Purpose) -> Result<Client, ClientError> {
    let failed = |e: kube::Error| ClientError::Client(transport_text(&e));
    if config.proxy_url.is_some() || config.tls_server_name.is_some() {
        // kube's own stack knows these; it speaks HTTP/1.1.
        return Client::try_from(config.clone()).map_err(failed);
    }
    let mut tls = config.rustls_client_config().map_err(failed)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(WATCHES.ping));
    tcp.set_connect_timeout(config.connect_timeout);
    let http = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_initial_stream_window_size(purpose.window)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(purpose.ping)
        .http2_keep_alive_timeout(PONG)
        .build(hyper_rustls::HttpsConnector::from((tcp, tls)));
    let http = config.extra_headers_layer().map_err(failed)?.layer(http);
    let http = option_layer(config.auth_layer().map_err(failed)?).layer(http.map_err(BoxError::from));
    let http = config.base_uri_layer().layer(http);
    Ok(Client::new(http, config.default_namespace.clone()))
}

/// Where watches get their connections from; none of their own: they share the one of calls.
#[derive(Clone, Default)]
pub(super) struct Watches(Option<Arc<Pool>>);

struct Pool {
    config: Config,
    clients: Mutex<Vec<(Client, Lease)>>,
}

/// One watch's part in a connection, for as long as it is held.
#[derive(Clone, Default)]
pub(super) struct Lease(Arc<Connection>);

#[derive(Default)]
struct Connection {
    stands: AtomicBool,
    first: tokio::sync::Mutex<()>,
}

impl Lease {
    /// How many others hold it.
    fn others(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }

    /// Waits until the connection stands or it is the caller's turn to make it. What a server speaks is known
    /// after the first handshake: forty watches that open at once would make forty connections before that.
    pub(super) async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        if self.0.stands.load(Ordering::Relaxed) {
            return None;
        }
        let turn = self.0.first.lock().await;
        (!self.0.stands.load(Ordering::Relaxed)).then_some(turn)
    }

    /// Says whether the connection stands, as an answer or a failure shows.
    pub(super) fn stands(&self, stands: bool) {
        self.0.stands.store(stands, Ordering::Relaxed);
    }
}

impl Watches {
    /// Returns a client for one more watch; `shared` when there is none else.
    pub(super) fn client(&self, shared: &Client) -> (Client, Lease) {
        let Some(pool) = &self.0 else {
            return (shared.clone(), Lease::default());
        };
        let mut clients = pool.clients.lock().unwrap_or_else(PoisonError::into_inner);
        // The first with room, so that the last run empty and can go.
        let free = clients
            .iter()
            .position(|(_, lease)| lease.others() < PER_CONNECTION);
        let position = match free {
            Some(position) => position,
            None => match connected(&pool.config, &WATCHES) {
                Ok(client) => {
                    clients.push((client, Lease::default()));
                    clients.len() - 1
                }
                Err(e) => {
                    tracing::warn!("a watch shares the connection of calls: {e}");
                    return (shared.clone(), Lease::default());
                }
            },
        };
        let (client, lease) = clients[position].clone();
        while clients.len() > position + 1 && clients.last().is_some_and(|(_, lease)| lease.others() == 0) {
            clients.pop();
        }
        (client, lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Watches {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Config::new(http::Uri::from_static("http://127.0.0.1:1"));
        Watches(Some(Arc::new(Pool {
            config,
            clients: Mutex::default(),
        })))
    }

    #[tokio::test]
    async fn watches_fill_a_connection_before_the_next_and_empty_ones_go() {
        let (watches, shared) = (
            pool(),
            connected(&Config::new(http::Uri::from_static("http://127.0.0.1:1")), &CALLS),
        );
        let shared = shared.expect("it is well formed");
        let clients = || {
            watches
                .0
                .as_ref()
                .map(|pool| pool.clients.lock().expect("no panic").len())
        };
        let mut leases: Vec<Lease> = (0..PER_CONNECTION).map(|_| watches.client(&shared).1).collect();
        assert_eq!(clients(), Some(1));
        let others: Vec<Lease> = (0..3).map(|_| watches.client(&shared).1).collect();
        assert_eq!(clients(), Some(2));
        leases.pop();
        drop(others);
        leases.push(watches.client(&shared).1);
        assert_eq!(clients(), Some(1));
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_read_is_told_by_its_place_and_never_quoted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kubeconfig");
        let user = |rest: &str| format!("kind: Config\nusers:\n- name: u\n  user: {{token: CANARY}}\n{rest}");
        let texts = [
            user("  bad: [indent\n"),
            user(" - badly: indented\n"),
            user("clusters: CANARY\n"),
            user("users: [{name: CANARY, user: CANARY}]\n"),
            "CANARY".to_owned(),
        ];
        for text in texts {
            std::fs::write(&path, &text).expect("written");
            let why = configuration(Some(&path))
                .await
                .expect_err("it is none")
                .to_string();
            assert!(!why.contains("CANARY"), "{text}: {why}");
            assert!(why.contains("kubeconfig is not usable"), "{why}");
        }
    }

    #[tokio::test]
    async fn the_ca_file_of_a_kubeconfig_is_read_again_and_an_inline_one_is_not() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        let pem = rcgen::generate_simple_self_signed(["ca".to_owned()])
            .expect("a certificate")
            .cert
            .pem();
        std::fs::write(folder.path().join("ca.crt"), &pem).expect("written");
        let kubeconfig = |ca: &str| {
            let text = format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: k, cluster: {{server: 'https://127.0.0.1:1', {ca}}}}}]\n\
                 users: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n"
            );
            let path = folder.path().join("kubeconfig");
            std::fs::write(&path, text).expect("written");
            path
        };
        let path = kubeconfig("certificate-authority: ca.crt");
        let config = configuration(Some(&path)).await.expect("it is usable");
        assert_eq!(config.root_cert_file, Some(folder.path().join("ca.crt")));
        assert!(connected(&config, &WATCHES).is_ok());
        let inline = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &pem);
        let path = kubeconfig(&format!("certificate-authority-data: {inline}"));
        let config = configuration(Some(&path)).await.expect("it is usable");
        assert_eq!(config.root_cert_file, None);
    }
}
