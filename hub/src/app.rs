//! Wiring: the one module that knows all others. Opens the store, takes or makes the hub's identity, starts the
//! reconcilers and serves until told to stop.

use std::{net::SocketAddr, os::unix::fs::OpenOptionsExt as _, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use arc_swap::ArcSwap;
use flotilla_core::{digest::Digest, egress::Policy};
use flotilla_proto::{
    agent::v1::agent_service_server::AgentServiceServer,
    enroll::v1::enroll_service_server::EnrollServiceServer,
    fleet::v1::fleet_service_server::FleetServiceServer, limits::REPORT_BYTES,
};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    artifact::ArtifactStore,
    auth::{
        ca::{Authority, SERVER_LIFETIME},
        challenge::Challenges,
        gate::Gate,
        limit::Attempts,
        seal::Seal,
        tls::{self, SharedConfig},
        token,
    },
    config::{Database, Serve},
    data_dir::{self, Owner},
    database::Server,
    grpc::{
        agent::{Agents, Served},
        enroll::Enrolments,
        fetch::Fetcher,
        fleet::{Fleet, counts::Counts},
        streams::Streams,
    },
    http,
    index::Index,
    lock::DataDirLock,
    metrics,
    renderer::{
        NativeRenderer, ReferenceRenderer, Renderer,
        sandbox::{Isolation, Sandbox},
    },
    source::{
        egress::Egress,
        git::{self, ProbeShare, Prober, fetch::FetchLimits},
        token::Tokens,
        transport::Clients,
    },
    store::{Store, listener::Listener, session::Opening, together::Together},
    task::{
        Context, driver::Driver, ingest::Ingest, lanes::Lanes, poll::Sources, receivers::Registered,
        render::Engine, watchers::Watchers,
    },
};

/// An opened store, and the Postgres under it.
pub struct Opened {
    /// The store.
    pub store: Store,
    server: Server,
}

/// Opens the store of a hub that will serve: the given Postgres, or the private one.
async fn open_to_serve(database: &Database) -> anyhow::Result<Opened> {
    data_dir::check_database(database)?;
    data_dir::prepare(database)?;
    let lock = DataDirLock::to_serve(&database.data_dir).await?;
    open(database, Some(lock)).await
}

/// Opens the store for a command, beside the hub that serves if there is one.
pub async fn open_store(database: &Database) -> anyhow::Result<Opened> {
    data_dir::check_served(database)?;
    data_dir::check_database(database)?;
    data_dir::prepare(database)?;
    let lock = DataDirLock::for_command(&database.data_dir).await?;
    open(database, lock).await
}

async fn open(database: &Database, lock: Option<DataDirLock>) -> anyhow::Result<Opened> {
    let server = Server::open(database, lock).await?;
    let store = Store::open(server.options(), database.database_connections).await;
    match store.with_context(|| format!("opening {}", server.name())) {
        Ok(store) => Ok(Opened { store, server }),
        Err(error) => {
            server.stop().await;
            Err(error)
        }
    }
}

impl Opened {
    /// Closes the store, stopping the private Postgres if this process is the one that runs it.
    pub async fn close(self) {
        // A connection that hangs is closed by its server.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.store.close()).await;
        self.server.stop().await;
    }
}

/// A hub that serves.
pub struct Running {
    /// Address of the gRPC port.
    pub grpc_addr: SocketAddr,
    /// Address of the port for webhooks.
    pub http_addr: SocketAddr,
    /// Address of the port for probes and monitoring.
    pub health_addr: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    opened: Opened,
    replica: Arc<str>,
}

impl Running {
    /// Stops serving, in order: streams, reconcilers, store.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            let _ = tokio::time::timeout(Duration::from_secs(10), task).await;
        }
        let leave = async {
            self.opened.store.give_back_all(&self.replica).await?;
            self.opened.store.leave(&self.replica).await
        };
        match tokio::time::timeout(Duration::from_secs(5), leave).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "leaving in order failed; others notice within minutes"),
            Err(_) => tracing::warn!("leaving in order took too long; others notice within minutes"),
        }
        self.opened.close().await;
    }
}

/// Starts the hub.
pub async fn start(serve: &Serve) -> anyhow::Result<Running> {
    let mut opened = open_to_serve(&serve.database).await?;
    if let Some(writer) = serve.writer_version {
        opened.store = opened.store.with_writer(writer);
    }
    match start_on(serve, &opened.store).await {
        Ok(mut started) => {
            if let Some(private) = opened.server.private().cloned() {
                started
                    .tasks
                    .push(tokio::spawn(private.keep(started.stop.clone())));
            }
            Ok(Running {
                grpc_addr: started.grpc_addr,
                http_addr: started.http_addr,
                health_addr: started.health_addr,
                stop: started.stop,
                tasks: started.tasks,
                replica: started.replica,
                opened,
            })
        }
        Err(error) => {
            opened.close().await;
            Err(error)
        }
    }
}

struct Started {
    grpc_addr: SocketAddr,
    http_addr: SocketAddr,
    health_addr: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    replica: Arc<str>,
}

async fn start_on(serve: &Serve, store: &Store) -> anyhow::Result<Started> {
    let data_dir = &serve.database.data_dir;
    data_dir::check_hub(data_dir, store.trust_domain().await?.as_deref())?;
    let seal = Arc::new(open_seal(serve, store).await?);
    let (authority, incarnation) = open_authority(serve, store, &seal).await?;
    let owner = Owner {
        trust_domain: authority.trust_domain().to_owned(),
        is_private: serve.database.database_url.is_none(),
    };
    if Owner::read(data_dir)?.as_ref() != Some(&owner) {
        owner.write(data_dir)?;
    }
    let digest_key = store.permanent_key(&seal, "digest", token::random_key()?).await?;
    let grpc = listen(serve.listen)?;
    let http_listener = listen(serve.http_listen)?;
    let health_listener = listen(serve.health_listen)?;
    let (grpc_addr, http_addr) = (grpc.local_addr()?, http_listener.local_addr()?);
    let health_addr = health_listener.local_addr()?;
    let endpoint = Serve {
        listen: grpc_addr,
        ..serve.clone()
    }
    .endpoint();
    write_admin_file(serve, store, &authority, &endpoint, false).await?;

    let workers = serve.workers.map_or_else(default_workers, usize::from);
    let replica: Arc<str> = replica_name(data_dir)?.into();
    let listener = named(store, &replica, data_dir).await?;
    store.close_sessions_of(&replica).await?;
    let lost = store.count_lost_renderings(&replica).await?;
    if lost > 0 {
        tracing::warn!(lost, "this hub ended while it rendered");
    }
    let artifacts = artifacts(serve, digest_key).await?;
    join(store, &replica, &artifacts).await?;
    let stop = CancellationToken::new();
    let renderer = Arc::new(engine(serve, workers, &stop).await);
    let context = Context {
        store: store.clone(),
        seal: seal.clone(),
        digest_key,
        incarnation,
        sources: Arc::new(sources(serve, digest_key, artifacts).await?),
        renderer: renderer.clone(),
        replica: replica.clone(),
        history: serve.history(),
        nested: serve.nested(),
        trust: Arc::new(serve.trust()),
        removals: serve.removals(),
    };
    let index = Arc::new(Index::new(store.for_fetching()));
    let streams = Arc::new(Streams::default());
    let (topics, _) = tokio::sync::broadcast::channel(1024);
    let watchers = Watchers::default();
    let receivers = Registered::new(context.clone());
    let driver = Driver::start(
        context.clone(),
        index.clone(),
        streams.clone(),
        topics.clone(),
        watchers.clone(),
        receivers.clone(),
        workers,
    );
    let attempts = Arc::new(Attempts::new(serve.enrolment_attempts));
    let live = metrics::Live {
        streams: streams.clone(),
        index: index.clone(),
        queues: driver.queues(),
        attempts: attempts.clone(),
    };
    let health = Health {
        store: store.clone(),
        fleet: metrics::Fleet::new(store.clone()),
    };
    let registry = Arc::new(metrics::registry(live, health.fleet.clone()));
    let health_app = http::observe::router(health, registry);
    let http_app = http::hook::router(receivers.clone());

    let agents = Agents {
        store: store.clone(),
        index,
        streams,
        ingest: {
            let publishing = driver.publishing();
            Ingest::start(store.for_writing(), move || publishing.depth() > PUBLISHING)
        },
        fetcher: Fetcher::new(store.for_fetching(), seal.clone()),
        identities: {
            let store = store.for_fetching();
            Together::collecting(COLLECTED, move |clusters: Vec<Uuid>| {
                let store = store.clone();
                async move { store.identities(&clusters).await }
            })
        },
        openings: {
            let store = store.for_writing();
            Together::collecting(COLLECTED, move |openings: Vec<Opening>| {
                let store = store.clone();
                async move { store.open_sessions(&openings).await }
            })
        },
        closings: {
            let store = store.for_writing();
            Together::collecting(COLLECTED, move |streams: Vec<(Uuid, u64)>| {
                let store = store.clone();
                async move {
                    store.close_sessions(&streams).await?;
                    Ok(vec![(); streams.len()])
                }
            })
        },
        trust_domain: authority.trust_domain().to_owned(),
        replica: replica.to_string(),
        incarnation,
    };
    let enrolments = Enrolments {
        store: store.clone(),
        authority: authority.clone(),
        lifetime: serve.agent_certificate_lifetime,
        challenges: Arc::new(Challenges::new().map_err(|_| anyhow::anyhow!("no random numbers"))?),
        attempts: attempts.clone(),
    };
    let gate = Gate {
        store: store.clone(),
        attempts,
    };
    let fleet = Fleet {
        store: store.clone(),
        seal,
        digest_key,
        authority: authority.clone(),
        endpoint,
        topics,
        watchers,
        receivers,
        counts: Counts::new(store.clone()),
        renderer: renderer.clone(),
    };
    let config = server_config(&authority, &serve.names())?;
    let tasks = vec![
        tokio::spawn(driver.run(listener, stop.clone())),
        tokio::spawn(renew_server_certificate(
            authority,
            serve.names(),
            config.clone(),
            stop.clone(),
        )),
        tokio::spawn(serve_grpc(
            grpc,
            config,
            gate,
            agents,
            enrolments,
            fleet,
            stop.clone(),
        )),
        tokio::spawn(http::serve(http_listener, http_app, stop.clone())),
        tokio::spawn(http::serve(health_listener, health_app, stop.clone())),
    ];
    tracing::info!(grpc = %grpc_addr, http = %http_addr, health = %health_addr, engine = %renderer.native.version(), "the hub serves");
    Ok(Started {
        grpc_addr,
        http_addr,
        health_addr,
        stop,
        tasks,
        replica,
    })
}

fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A hub that starts again has the port of the one before it at once.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().with_context(|| format!("cannot listen on {address}"))
}

async fn open_seal(serve: &Serve, store: &Store) -> anyhow::Result<Seal> {
    let path = serve.database.kek_file(serve.kek_file.as_ref());
    // A new key would open nothing of it, and would be taken for the right one from then on.
    if !path.exists() && store.is_sealed().await? {
        anyhow::bail!(
            "this database was sealed with a key-encryption key that is not at {}: put that file there, or name it \
             with --kek-file",
            path.display()
        );
    }
    // A key made on one machine's disk would leave a shared database unreadable everywhere else.
    if serve.database.database_url.is_some() && serve.kek_file.is_none() && !path.exists() {
        tracing::warn!(
            path = %path.display(),
            "a key-encryption key is made for the shared database: back this file up, every replica needs it"
        );
    }
    Ok(Seal::open_or_create(&path)?)
}

async fn open_authority(serve: &Serve, store: &Store, seal: &Seal) -> anyhow::Result<(Arc<Authority>, u64)> {
    let random = hex::encode(&token::random_key()?[..4]);
    let trust_domain = serve
        .trust_domain
        .clone()
        .unwrap_or_else(|| format!("fleet-{random}.flotilla.internal"));
    let now = OffsetDateTime::now_utc();
    let incarnation = u64::try_from(now.unix_timestamp()).unwrap_or(1);
    let hub = store.hub(&trust_domain, incarnation).await?;
    if serve
        .trust_domain
        .as_ref()
        .is_some_and(|asked| *asked != hub.trust_domain)
    {
        anyhow::bail!(
            "the trust domain of this hub is {} since its first start and cannot become {trust_domain}",
            hub.trust_domain
        );
    }
    let row = store
        .authority(seal, || Authority::make(&hub.trust_domain, now))
        .await?;
    let authority = Authority::open(&hub.trust_domain, row.certificate, &row.key)?;
    Ok((Arc::new(authority), hub.incarnation))
}

/// Writes `admin.yaml` at the first start, and whenever asked to: endpoint, pins, and a bearer token whose hash
/// the store keeps.
async fn write_admin_file(
    serve: &Serve,
    store: &Store,
    authority: &Authority,
    endpoint: &str,
    reset: bool,
) -> anyhow::Result<()> {
    if !reset && store.has_admin_credential().await? {
        if let Some(written) = written_endpoint(serve).filter(|written| written != endpoint) {
            tracing::warn!(
                written,
                endpoint,
                "admin.yaml names another endpoint than this hub has; `flotilla-hub admin reset --endpoint` writes it anew"
            );
        }
        return Ok(());
    }
    let token = token::make_admin_token()?;
    let path = serve.database.data_dir.join("admin.yaml");
    let text = format!(
        "# How to reach this hub, with the administrator's credential. Keep it secret.\n\
         endpoint: {endpoint}\npins:\n  - {}\ntrustDomain: {}\ntoken: {token}\n",
        authority.pin(),
        authority.trust_domain()
    );
    let fresh = path.with_extension("yaml.new");
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    // The file first: a credential that the store knows and nobody holds would need another reset.
    std::fs::rename(&fresh, &path)?;
    store
        .replace_admin_credential(&token::hash(&token), "local")
        .await?;
    tracing::info!(path = %path.display(), "administrator's credential written");
    Ok(())
}

/// Replaces the administrator's credential.
pub async fn admin_reset(serve: &Serve) -> anyhow::Result<()> {
    let opened = open_store(&serve.database).await?;
    let result = async {
        let found = opened.store.trust_domain().await?;
        data_dir::check_hub(&serve.database.data_dir, found.as_deref())?;
        anyhow::ensure!(
            found.is_some(),
            "no hub has worked with this database: set DATABASE_URL as the hub has it"
        );
        let seal = open_seal(serve, &opened.store).await?;
        let (authority, _) = open_authority(serve, &opened.store, &seal).await?;
        // The hub may listen elsewhere than where these flags say: what it wrote is kept, unless told otherwise.
        let endpoint = serve.endpoint.clone().or_else(|| written_endpoint(serve));
        let endpoint = endpoint.unwrap_or_else(|| serve.endpoint());
        write_admin_file(serve, &opened.store, &authority, &endpoint, true).await
    }
    .await;
    opened.close().await;
    result
}

/// The endpoint in `admin.yaml`.
fn written_endpoint(serve: &Serve) -> Option<String> {
    let text = std::fs::read_to_string(serve.database.data_dir.join("admin.yaml")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("endpoint: "))?;
    Some(line.trim().to_owned())
}

async fn artifacts(serve: &Serve, key: [u8; 32]) -> anyhow::Result<ArtifactStore> {
    let data_dir = &serve.database.data_dir;
    let incoming = data_dir.join("incoming");
    let opened = match &serve.artifact_store {
        // What tells hubs with the same database from others, and tells nothing of the key.
        Some(shared) => {
            ArtifactStore::share(
                shared,
                incoming,
                &Digest::keyed(&key, "artifact-store", b"").to_string(),
            )
            .await
        }
        None => ArtifactStore::open(data_dir.join("artifacts"), incoming).await,
    };
    Ok(opened?)
}

/// Takes this hub's name. One that was cut off a moment ago may hold it still, until the server has noticed; one that
/// goes on holding it is another hub.
async fn named(store: &Store, replica: &str, data_dir: &Path) -> anyhow::Result<Listener> {
    let mut listener = store.listen(replica).await?;
    let begun = tokio::time::Instant::now();
    while !listener.take_name().await? {
        if begun.elapsed() > NAMED_WITHIN {
            anyhow::bail!(
                "another hub with the name of this one, {replica}, runs on this database: where the data directory is a \
                 copy of that one's, remove the file {} and start again",
                data_dir.join("replica").display()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(listener)
}

/// Takes this hub's place among those on the database. What one has fetched, the others must be able to read. One that was
/// killed a moment ago counts until the server has noticed.
async fn join(store: &Store, replica: &str, artifacts: &ArtifactStore) -> anyhow::Result<()> {
    let begun = tokio::time::Instant::now();
    while let Some(other) = store.join(replica, &artifacts.id().to_string()).await? {
        if begun.elapsed() > NAMED_WITHIN {
            anyhow::bail!(
                "another hub ({other}) runs on this database and keeps its artifacts elsewhere: give all of them one store \
                 with --artifact-store, a directory that they share or s3://BUCKET/PREFIX"
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

async fn sources(serve: &Serve, key: [u8; 32], artifacts: ArtifactStore) -> anyhow::Result<Sources> {
    let program = git::program::GitProgram::find(None)
        .await
        .context("git is needed to fetch sources")?;
    let repositories = serve.database.data_dir.join("repositories");
    let egress = Egress::new(Policy::new(serve.egress_allow.clone(), serve.egress_deny.clone()));
    let clients = Clients::with(egress.clone())?;
    let tokens = Tokens::new(clients.clone());
    let prober = Prober::new(clients, key).with_ssh(program.clone(), repositories.clone());
    let fetcher = git::Fetcher::new(program, repositories, key, FetchLimits::default()).with_egress(egress);
    Ok(Sources {
        probes: ProbeShare::new(prober, key),
        fetcher,
        artifacts,
        lanes: Lanes::default(),
        tokens,
    })
}

/// The native engine, and the reference where it can be had: only apps that ask for it need it.
async fn engine(serve: &Serve, workers: usize, stop: &CancellationToken) -> Engine {
    let native = NativeRenderer::new(workers.div_ceil(2)).until(stop.clone());
    let native = Renderer::Native(match serve.writer_version {
        Some(release) => native.of_release(release),
        None => native,
    });
    let reference = reference(serve, workers, stop)
        .await
        .map_err(|error| format!("{error:#}"));
    if let Err(why) = &reference {
        tracing::info!(%why, "no reference renderer; apps that ask for it will say so");
    }
    Engine::new(native, reference)
}

async fn reference(serve: &Serve, workers: usize, stop: &CancellationToken) -> anyhow::Result<Renderer> {
    let isolation = if serve.insecure_renderer {
        Isolation::Off
    } else {
        Isolation::Required
    };
    let sandbox = Sandbox::probe(Sandbox::own_program(), isolation)
        .await
        .context("renderers cannot be confined on this machine; --insecure-renderer runs them unconfined")?;
    let scratch = serve.database.data_dir.join("scratch");
    let reference = ReferenceRenderer::find(&serve.kustomize, sandbox, scratch, workers.div_ceil(2)).await?;
    Ok(Renderer::Reference(reference.until(stop.clone())))
}

fn server_config(authority: &Authority, names: &[String]) -> anyhow::Result<SharedConfig> {
    let certificate = authority.issue_server(names, OffsetDateTime::now_utc())?;
    Ok(Arc::new(ArcSwap::from_pointee(tls::config(
        authority,
        certificate,
    )?)))
}

async fn renew_server_certificate(
    authority: Arc<Authority>,
    names: Vec<String>,
    config: SharedConfig,
    stop: CancellationToken,
) {
    let period = SERVER_LIFETIME.unsigned_abs() * 2 / 3;
    while !stop.is_cancelled() {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
        let issued = authority.issue_server(&names, OffsetDateTime::now_utc());
        match issued
            .map_err(anyhow::Error::from)
            .and_then(|one| Ok(tls::config(&authority, one)?))
        {
            Ok(fresh) => config.store(Arc::new(fresh)),
            Err(error) => tracing::error!(%error, "renewing the server certificate failed"),
        }
    }
}

async fn serve_grpc(
    listener: TcpListener,
    config: SharedConfig,
    gate: Gate,
    agents: Agents,
    enrolments: Enrolments,
    fleet: Fleet,
    stop: CancellationToken,
) {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<FleetServiceServer<Fleet>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(flotilla_proto::DESCRIPTORS)
        .build_v1()
        .expect("the committed descriptors are whole");
    let accepted = tls::serve(listener, config, gate.attempts.per_second());
    let routes = tonic::service::Routes::new(health)
        .add_service(reflection)
        // A report that is larger than it may be is refused as a report; only what is far off breaks the stream.
        .add_service(AgentServiceServer::new(Served::by(agents)).max_decoding_message_size(4 * REPORT_BYTES))
        .add_service(EnrollServiceServer::new(enrolments).max_decoding_message_size(MAX_ENROLMENT))
        // A request's documents may be larger than a message's default bound.
        .add_service(FleetServiceServer::new(fleet).max_decoding_message_size(20 << 20));
    // Who is asked whether it is there is so however long it has said nothing.
    let serving = |incoming: tls::Incoming, asked_every: Option<Duration>| {
        tonic::transport::Server::builder()
            .http2_keepalive_interval(asked_every)
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .max_concurrent_streams(Some(64))
            .http2_max_header_list_size(16 << 10)
            .http2_max_pending_accept_reset_streams(Some(20))
            .initial_stream_window_size(64 << 10)
            .initial_connection_window_size(128 << 10)
            // Until a call is answered; a stream that was answered may go on.
            .timeout(CALL_WITHIN)
            .layer(gate.clone())
            .add_routes(routes.clone())
            .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned())
    };
    // Agents ask by themselves, and are gone when nothing is heard of them.
    let served = async {
        tokio::try_join!(
            serving(accepted.agents, None),
            serving(accepted.others, Some(Duration::from_secs(30))),
        )
    };
    // Streams of agents never end by themselves: after a moment's grace they are dropped.
    let grace = async {
        stop.cancelled().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    tokio::select! {
        result = served => if let Err(error) = result {
            tracing::error!(%error, "the gRPC server ended");
        },
        () = grace => {}
    }
}

/// Agents that come back or go at the same time are taken together, those of so long at most: a slow machine sees them
/// trickle in.
const COLLECTED: Duration = Duration::from_millis(100);
/// States that are still to be published, of which there are many.
const PUBLISHING: usize = 200;
/// Connections that the system keeps until they are accepted: agents that come back within the same moment.
const BACKLOG: u32 = 4096;
/// A call that is not answered by then has failed, however slowly its body comes.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// Within this time a server notices that a connection has ended without a word.
const NAMED_WITHIN: Duration = Duration::from_secs(30);
/// A token, a certificate request, a key.
const MAX_ENROLMENT: usize = 64 << 10;

/// Ready: the store answers.
struct Health {
    store: Store,
    fleet: metrics::Fleet,
}

impl http::Ready for Health {
    async fn ready(&self) -> Result<(), String> {
        let asked = tokio::time::timeout(Duration::from_secs(2), self.store.ping()).await;
        asked
            .map_err(|_| "the database does not answer".to_owned())?
            .map_err(|error| error.to_string())
    }

    async fn measure(&self) {
        self.fleet.measure().await;
    }
}

/// The name of this replica: the same after a restart, so that what its former life left open is known as ended.
fn replica_name(data_dir: &Path) -> anyhow::Result<String> {
    let path = data_dir.join("replica");
    let known = std::fs::read_to_string(&path).ok();
    // One that was cut off while it was written is none.
    if let Some(name) = known
        .as_deref()
        .map(str::trim)
        .filter(|name| uuid::Uuid::parse_str(name).is_ok())
    {
        return Ok(name.to_owned());
    }
    let name = uuid::Uuid::new_v4().to_string();
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
        std::io::Write::write_all(&mut file, name.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(name)
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(4, |count| count.get() * 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_keeps_its_name_and_an_empty_one_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let name = replica_name(dir.path()).expect("made");
        assert_eq!(replica_name(dir.path()).expect("read"), name);
        for cut_off in ["", "\n", &name[..7]] {
            std::fs::write(dir.path().join("replica"), cut_off).expect("written");
            let other = replica_name(dir.path()).expect("made anew");
            assert!(uuid::Uuid::parse_str(&other).is_ok(), "{other}");
        }
    }
}
