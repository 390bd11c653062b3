//! A running hub over a [`World`]'s store, and clients that dial it as agents and people do.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flotilla_proto::{
    enroll::v1::{EnrollRequest, EnrollResponse, RenewRequest, enroll_service_client::EnrollServiceClient},
    fleet::v1::{CreateTokenRequest, fleet_service_client::FleetServiceClient},
    tls::{HubVerifier, Pin},
};
use flotilla_testkit::{Tool, tool, wait_until};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tonic::{
    Request, Status,
    transport::{Channel, ClientTlsConfig, Endpoint, Identity},
};
use uuid::Uuid;

use crate::world::{INCARNATION, World};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const TRUST_DOMAIN: &str = "fleet.test";

pub(crate) struct Hub {
    pub(crate) world: World,
    pub(crate) token: String,
    pub(crate) pin: Pin,
    endpoint: String,
    process: Child,
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// A hub that may have so many descriptors.
    pub(crate) async fn start_with(descriptors: Option<u32>) -> Self {
        let setting = Setting {
            descriptors,
            ..Setting::default()
        };
        Self::start_as(&setting).await
    }

    pub(crate) async fn start_as(setting: &Setting) -> Self {
        let world = World::new().await;
        world
            .store
            .hub(TRUST_DOMAIN, INCARNATION)
            .await
            .expect("the hub's row");
        let dir = world.dir.path().to_owned();
        let process = spawn(&world, &dir, setting).await;
        let mut this = Self {
            token: String::new(),
            pin: pin(&"0".repeat(64)),
            endpoint: String::new(),
            process,
            world,
        };
        serving(&dir, &mut this.process).await;
        let admin = std::fs::read_to_string(this.world.dir.path().join("admin.yaml")).expect("admin.yaml");
        let field = |name: &str| {
            let line = admin
                .lines()
                .find_map(|line| line.trim().strip_prefix(name))
                .expect(name);
            line.trim().to_owned()
        };
        this.endpoint = field("endpoint:");
        this.token = field("token:");
        this.pin = pin(field("- ").trim_start_matches("sha256:"));
        this
    }

    /// Another hub on the same database, with a data directory and version of its own and this one's artifacts.
    pub(crate) async fn another(&self, writer: i64) -> Other {
        let artifacts = self.world.dir.path().join("artifacts");
        let artifacts = artifacts.to_str().expect("text");
        let options = [
            "--artifact-store",
            artifacts,
            "--writer-version",
            &writer.to_string(),
        ];
        self.another_as(&Setting::of(&options)).await
    }

    /// Another hub on the same database, with a data directory of its own.
    pub(crate) async fn another_as(&self, setting: &Setting) -> Other {
        let dir = tempfile::tempdir().expect("a directory");
        let process = spawn(&self.world, dir.path(), &setting.with_key(self)).await;
        let mut other = Other { dir, process };
        serving(other.dir.path(), &mut other.process).await;
        other
    }

    /// What the port for probes and monitoring answers: status and text.
    pub(crate) async fn health(&self, path: &str) -> (u16, String) {
        let log = self.log();
        let address = log
            .split("health=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        let url = format!("http://{}{path}", address.expect("an address"));
        flotilla_testkit::install_tls_provider();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .build();
        let answer = client.expect("a client").get(url).send().await.expect("answered");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    /// Bytes of its memory that are resident.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        kib.expect("a figure").parse::<u64>().expect("a number") << 10
    }

    /// What a hub says that does not start on the same database, with a data directory of its own and these options.
    pub(crate) async fn refused(&self, dir: &Path, options: &[&str]) -> String {
        self.refused_as(dir, &Setting::of(options)).await
    }

    pub(crate) async fn refused_as(&self, dir: &Path, setting: &Setting) -> String {
        let mut process = spawn(&self.world, dir, setting).await;
        let ended = wait_until("the hub to end", 2 * PATIENCE, async || process.try_wait()).await;
        let said = std::fs::read_to_string(dir.join("log")).expect("a log");
        let _ = process.kill();
        assert!(!ended.expect("it ends").success(), "{said}");
        said
    }

    /// Where webhooks come.
    pub(crate) fn hooks(&self) -> std::net::SocketAddr {
        let log = self.log();
        let address = log
            .split("http=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        address.expect("an address").parse().expect("an address")
    }

    /// What the hub has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.world.dir.path().join("log")).expect("a log")
    }

    /// A connection that shows `identity`, to a hub known by `pin`.
    pub(crate) async fn dial(
        &self,
        identity: Option<Identity>,
        pin: Pin,
    ) -> Result<Channel, tonic::transport::Error> {
        self.dial_at(&self.endpoint, identity, pin).await
    }

    /// A connection to a hub at another address.
    pub(crate) async fn dial_at(
        &self,
        endpoint: &str,
        identity: Option<Identity>,
        pin: Pin,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new();
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        Endpoint::from_shared(endpoint.to_owned())?
            .connect_timeout(Duration::from_secs(5))
            .tls_config_with_verifier(tls, Arc::new(HubVerifier::new(vec![pin], TRUST_DOMAIN)))?
            .connect()
            .await
    }

    /// Where the gRPC port is.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        let address = self.endpoint.strip_prefix("https://").expect("a URL");
        address.parse().expect("an address")
    }

    /// A connection from this address of ours.
    pub(crate) async fn dial_from(&self, from: std::net::IpAddr) -> Result<Channel, tonic::transport::Error> {
        let verifier = Arc::new(HubVerifier::new(vec![self.pin], TRUST_DOMAIN));
        Endpoint::from_shared(self.endpoint.clone())?
            .local_address(Some(from))
            .tls_config_with_verifier(ClientTlsConfig::new(), verifier)?
            .connect()
            .await
    }

    pub(crate) async fn channel(&self) -> Channel {
        self.dial(None, self.pin).await.expect("connected")
    }

    pub(crate) async fn fleet(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.channel().await)
    }

    /// A request with the administrator's credential.
    pub(crate) fn authorized<T>(&self, message: T) -> Request<T> {
        with_bearer(message, &self.token)
    }

    pub(crate) async fn join_token(&self, cluster: &str) -> String {
        let request = CreateTokenRequest {
            cluster: cluster.into(),
            ..CreateTokenRequest::default()
        };
        let made = self
            .fleet()
            .await
            .create_token(self.authorized(request))
            .await
            .expect("a token");
        made.into_inner().token
    }

    pub(crate) async fn enrol_with(
        &self,
        token: &str,
        csr: Vec<u8>,
        uid: &str,
    ) -> Result<EnrollResponse, Status> {
        let recovery = KeyPair::generate().expect("a key");
        self.enrol_recoverable(token, csr, uid, &recovery).await
    }

    pub(crate) async fn enrol_recoverable(
        &self,
        token: &str,
        csr: Vec<u8>,
        uid: &str,
        recovery: &KeyPair,
    ) -> Result<EnrollResponse, Status> {
        let request = EnrollRequest {
            token: token.into(),
            csr: csr.into(),
            recovery_public_key: public_key(recovery).into(),
            cluster_uid: uid.into(),
            agent_version: "0".into(),
        };
        EnrollServiceClient::new(self.channel().await)
            .enroll(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub(crate) async fn enrol(&self, name: &str) -> Agent {
        let token = self.join_token(name).await;
        let key = KeyPair::generate().expect("a key");
        let uid = format!("uid-of-{name}");
        let recovery = KeyPair::generate().expect("a key");
        let given = self.enrol_recoverable(&token, csr(&key), &uid, &recovery).await;
        let given = given.expect("enrolled");
        Agent {
            recovery: Arc::new(recovery),
            cluster: given.cluster_id.parse().expect("a UUID"),
            uid,
            chain: given.certificate_chain.iter().map(|der| der.to_vec()).collect(),
            generation: given.identity_generation,
            key,
        }
    }
}

/// Another hub on the same database.
pub(crate) struct Other {
    dir: tempfile::TempDir,
    process: Child,
}

impl Hub {
    /// Ends it without a word, as a machine does; its database, key and credentials stay.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Ends it as an operator does; its database, key and credentials stay.
    pub(crate) async fn end(&mut self) {
        end(&mut self.process).await;
    }

    /// Starts it again after it has ended, at another address.
    pub(crate) async fn start_again(&mut self) {
        let dir = self.world.dir.path().to_owned();
        self.process = spawn(&self.world, &dir, &Setting::default()).await;
        serving(&dir, &mut self.process).await;
        let log = self.log();
        let address = log
            .split("grpc=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        self.endpoint = format!("https://{}", address.expect("an address"));
    }

    /// Starts this one again that has ended.
    pub(crate) async fn again(&self, mut other: Other, setting: &Setting) -> Other {
        let _ = other.process.kill();
        let _ = other.process.wait();
        other.process = spawn(&self.world, other.dir.path(), &setting.with_key(self)).await;
        serving(other.dir.path(), &mut other.process).await;
        other
    }
}

impl Other {
    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("a log")
    }

    /// Where its gRPC port is.
    pub(crate) fn endpoint(&self) -> String {
        let log = self.log();
        let address = log
            .split("grpc=")
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next());
        format!("https://{}", address.expect("an address"))
    }

    /// Its name among the hubs of the database.
    pub(crate) fn name(&self) -> String {
        let name = std::fs::read_to_string(self.dir.path().join("replica")).expect("a name");
        name.trim().to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self::signal(&self.process, signal);
    }

    /// Ends it as an operator does.
    pub(crate) async fn stop(mut self) {
        self.end().await;
    }

    /// Ends it as an operator does; its data directory stays.
    pub(crate) async fn end(&mut self) {
        end(&mut self.process).await;
    }
}

fn signal(process: &Child, signal: Signal) {
    let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
    kill_process(id.expect("a process"), signal).expect("told");
}

async fn end(process: &mut Child) {
    signal(process, Signal::TERM);
    wait_until("the hub to end", PATIENCE, async || process.try_wait())
        .await
        .expect("it ends");
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How a hub is started.
#[derive(Default, Clone)]
pub(crate) struct Setting {
    pub(crate) options: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) descriptors: Option<u32>,
    /// In place of the reference kustomize.
    pub(crate) kustomize: Option<PathBuf>,
}

impl Setting {
    pub(crate) fn of(options: &[&str]) -> Self {
        Self {
            options: options.iter().map(|&one| one.to_owned()).collect(),
            ..Self::default()
        }
    }

    /// With the key-encryption key of this hub.
    pub(crate) fn with_key(&self, hub: &Hub) -> Self {
        let mut this = self.clone();
        let kek = hub.world.dir.path().join("kek");
        this.options.push("--kek-file".into());
        this.options.push(kek.to_str().expect("text").into());
        this
    }
}

async fn spawn(world: &World, dir: &Path, setting: &Setting) -> Child {
    let kustomize = match &setting.kustomize {
        Some(program) => program.clone(),
        None => tool(Tool::Kustomize).await.expect("the reference kustomize"),
    };
    let log = std::fs::File::create(dir.join("log")).expect("a log");
    let program = env!("CARGO_BIN_EXE_flotilla-hub");
    let mut command = match setting.descriptors {
        None => Command::new(program),
        Some(count) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\""), program]);
            shell
        }
    };
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--health-listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(dir)
        .arg("--kustomize")
        .arg(kustomize)
        .args(&setting.options)
        .envs(setting.environment.iter().cloned())
        .env("DATABASE_URL", world.db.url())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the hub starts")
}

async fn serving(dir: &Path, process: &mut Child) {
    let log = dir.join("log");
    let started = wait_until("the hub to serve", PATIENCE, async || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        match process.try_wait() {
            Ok(None) => Ok(log.contains("the hub serves").then_some(())),
            ended => Err(format!("{ended:?}: {log}")),
        }
    });
    started.await.expect("the hub serves");
}

/// What an agent holds.
pub(crate) struct Agent {
    pub(crate) cluster: Uuid,
    pub(crate) uid: String,
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) generation: u64,
    pub(crate) key: KeyPair,
    pub(crate) recovery: Arc<KeyPair>,
}

impl Agent {
    pub(crate) fn identity(&self) -> Identity {
        identity(&self.chain, &self.key.serialize_pem())
    }

    pub(crate) async fn channel(&self, hub: &Hub) -> Channel {
        hub.dial(Some(self.identity()), hub.pin).await.expect("connected")
    }

    /// Renews under a new key; the agent returned is the one with the new certificate.
    pub(crate) async fn renew(&self, hub: &Hub) -> Result<Self, Status> {
        self.renew_with(hub, KeyPair::generate().expect("a key")).await
    }

    pub(crate) async fn renew_with(&self, hub: &Hub, key: KeyPair) -> Result<Self, Status> {
        let request = RenewRequest {
            cluster_id: self.cluster.to_string(),
            csr: csr(&key).into(),
            identity_generation: self.generation,
        };
        let given = EnrollServiceClient::new(self.channel(hub).await)
            .renew(request)
            .await?
            .into_inner();
        Ok(Self {
            recovery: self.recovery.clone(),
            cluster: self.cluster,
            uid: self.uid.clone(),
            chain: given.certificate_chain.iter().map(|der| der.to_vec()).collect(),
            generation: given.identity_generation,
            key,
        })
    }
}

pub(crate) fn with_bearer<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(
        "authorization",
        format!("Bearer {token}").parse().expect("a header"),
    );
    request
}

pub(crate) fn pin(digits: &str) -> Pin {
    format!("sha256:{digits}").parse().expect("a pin")
}

pub(crate) fn identity(chain: &[Vec<u8>], key_pem: &str) -> Identity {
    let pem = chain.iter().map(|der| {
        format!(
            "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            BASE64.encode(der)
        )
    });
    Identity::from_pem(pem.collect::<String>(), key_pem)
}

/// SubjectPublicKeyInfo, DER.
pub(crate) fn public_key(key: &KeyPair) -> Vec<u8> {
    rcgen::PublicKeyData::subject_public_key_info(key)
}

pub(crate) fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default()
        .serialize_request(key)
        .expect("a request")
        .der()
        .to_vec()
}
