//! A hub for tests: real TLS and gRPC on a local port, answers as data.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use flotilla_api::access::Context;
use flotilla_cli::{Host, Ui, run};
use flotilla_proto::fleet::v1::fleet_service_server::{FleetService, FleetServiceServer};
use flotilla_proto::fleet::v1::*;
use flotilla_proto::{hub_uri, tls::Pin};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

/// The time every command sees.
pub(crate) const NOW_MS: i64 = 1_800_000_000_000;
const TOKEN: &str = "token-of-the-admin";

/// What the hub knows and how it answers.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    pub(crate) apply: ApplyResponse,
    pub(crate) resources: Vec<Resource>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) units: Vec<Unit>,
    pub(crate) events: Vec<FleetEvent>,
    pub(crate) token: CreateTokenResponse,
    /// Of each unit.
    pub(crate) objects: Vec<UnitObject>,
    /// What follows from a deletion.
    pub(crate) deletion: DeleteResponse,
    /// What follows if a cluster departs.
    pub(crate) departure: DepartClusterResponse,
    /// Why an app is as it is, cluster by cluster; of more than 20 the first.
    pub(crate) explanations: Vec<Explanation>,
    /// What an app had, the newest first.
    pub(crate) held: Vec<HeldTarget>,
    /// What guards stop.
    pub(crate) blocked: Vec<BlockedRemoval>,
    /// What is allowed of that already.
    pub(crate) allowed: Vec<AllowedRemoval>,
    /// What `Reconcile` tells, one after the other; a last one without an outcome keeps the stream open.
    pub(crate) progress: Vec<ReconcileProgress>,
    /// The watch sends so many messages, and each makes the next resources current.
    pub(crate) next: Vec<Vec<Resource>>,
    /// Every call fails with this.
    pub(crate) failure: Option<(Code, &'static str)>,
}

struct Fake {
    answers: Arc<Mutex<Answers>>,
    seen: Arc<Mutex<Vec<String>>>,
}

/// A running hub and the files a command reads.
pub(crate) struct Hub {
    seen: Arc<Mutex<Vec<String>>>,
    pub(crate) folder: TempDir,
    config: PathBuf,
    pub(crate) context: Context,
    variables: BTreeMap<String, String>,
}

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: u8,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n-- out\n{}-- err\n{}", self.code, self.out, self.err)
    }
}

#[derive(Clone, Default)]
struct Captured(Rc<RefCell<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).expect("commands print text")
    }
}

/// Runs a command without any configuration but the variables given.
pub(crate) async fn command(arguments: &[&str], variables: &BTreeMap<String, String>, stdin: &str) -> Ran {
    let (out, err) = (Captured::default(), Captured::default());
    let mut host = Host {
        variables: variables.clone(),
        stdin: Box::new(Cursor::new(stdin.to_owned().into_bytes())),
        now_ms: || NOW_MS,
        ui: Ui::new(Box::new(out.clone()), Box::new(err.clone()), false),
    };
    let arguments = std::iter::once("flotilla")
        .chain(arguments.iter().copied())
        .map(Into::into);
    let code = run(arguments, &mut host).await;
    Ran {
        code,
        out: out.text(),
        err: err.text(),
    }
}

impl Hub {
    pub(crate) async fn start(answers: Answers) -> Hub {
        let (identity, pin) = identity("fleet.example");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let fake = Fake {
            answers: Arc::new(Mutex::new(answers)),
            seen: seen.clone(),
        };
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .expect("a TLS configuration")
            .add_service(FleetServiceServer::new(fake));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let context = Context {
            name: "test".to_owned(),
            endpoint: format!("https://127.0.0.1:{port}"),
            trust_domain: "fleet.example".to_owned(),
            pins: vec![pin.to_string()],
            token: TOKEN.to_owned(),
        };
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("admin.yaml");
        let hub = Hub {
            seen,
            folder,
            config,
            context: context.clone(),
            variables: BTreeMap::new(),
        };
        hub.configure(context);
        hub
    }

    /// Writes the file that says how to reach the hub.
    pub(crate) fn configure(&self, context: Context) {
        std::fs::write(&self.config, context.to_yaml()).expect("a file");
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, "").await
    }

    pub(crate) async fn run_with(&self, arguments: &[&str], stdin: &str) -> Ran {
        let config = self.config.display().to_string();
        let arguments: Vec<_> = arguments.iter().copied().chain(["--config", &config]).collect();
        let mut ran = command(&arguments, &self.variables, stdin).await;
        // Ports and folders change from run to run.
        for (from, to) in [
            (self.folder.path().display().to_string(), "FOLDER"),
            (self.context.endpoint.clone(), "ENDPOINT"),
        ] {
            ran.out = ran.out.replace(&from, to);
            ran.err = ran.err.replace(&from, to);
        }
        ran
    }

    /// Returns the requests the hub saw.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no test panics while holding it").clone()
    }
}

/// Makes a root and a server certificate with the hub's name in the trust domain.
fn identity(trust_domain: &str) -> (Identity, Pin) {
    let mut root = CertificateParams::new(Vec::new()).expect("no names");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().expect("a key")).expect("a root");
    let mut leaf = CertificateParams::new(Vec::new()).expect("no names");
    leaf.subject_alt_names
        .push(SanType::URI(hub_uri(trust_domain).try_into().expect("ASCII")));
    let key = KeyPair::generate().expect("a key");
    let leaf = leaf.signed_by(&key, &root).expect("a certificate");
    let chain = format!("{}{}", leaf.pem(), root.pem());
    let pin = Pin::of_certificate(root.der()).expect("a certificate");
    (Identity::from_pem(chain, key.serialize_pem()), pin)
}

impl Fake {
    /// Checks the credential, notes the request, and fails if the test says so.
    fn admit<T: std::fmt::Debug>(&self, request: &Request<T>) -> Result<Answers, Status> {
        let bearer = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        if bearer != Some(&format!("Bearer {TOKEN}")) {
            return Err(Status::unauthenticated("the credential is not known"));
        }
        self.seen
            .lock()
            .expect("not poisoned")
            .push(format!("{:?}", request.get_ref()));
        let answers = self.answers.lock().expect("not poisoned").clone();
        match answers.failure {
            Some((code, message)) => Err(Status::new(code, message)),
            None => Ok(answers),
        }
    }
}

#[tonic::async_trait]
impl FleetService for Fake {
    type WatchStream = tokio_stream::Iter<std::vec::IntoIter<Result<WatchEvent, Status>>>;
    type ReconcileStream =
        std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<ReconcileProgress, Status>> + Send>>;

    async fn apply(&self, request: Request<ApplyRequest>) -> Result<Response<ApplyResponse>, Status> {
        Ok(Response::new(self.admit(&request)?.apply))
    }

    async fn list_resources(
        &self,
        request: Request<ListResourcesRequest>,
    ) -> Result<Response<ListResourcesResponse>, Status> {
        let answers = self.admit(&request)?;
        let asked = request.get_ref();
        let wanted = |resource: &&Resource| {
            let reference = resource.r#ref.clone().unwrap_or_default();
            asked.kinds.contains(&reference.kind)
                && (asked.namespace.is_empty() || asked.namespace == reference.namespace)
                && (asked.name.is_empty() || asked.name == reference.name)
                && asked.scope == reference.scope
        };
        // Pages of one, so that every list goes through several.
        let found: Vec<_> = answers.resources.iter().filter(wanted).cloned().collect();
        let at: usize = asked.page_token.parse().unwrap_or(0);
        let next = if at + 1 < found.len() {
            (at + 1).to_string()
        } else {
            String::new()
        };
        if let Some(resources) = (!answers.next.is_empty()).then(|| answers.next[0].clone()) {
            let mut answers = self.answers.lock().expect("not poisoned");
            answers.resources = resources;
            answers.next.remove(0);
        }
        let resources = found.into_iter().skip(at).take(1).collect();
        Ok(Response::new(ListResourcesResponse {
            resources,
            next_page_token: next,
        }))
    }

    async fn list_clusters(
        &self,
        request: Request<ListClustersRequest>,
    ) -> Result<Response<ListClustersResponse>, Status> {
        let mut clusters = self.admit(&request)?.clusters;
        clusters
            .retain(|cluster| request.get_ref().name.is_empty() || cluster.name == request.get_ref().name);
        Ok(Response::new(ListClustersResponse {
            clusters,
            next_page_token: String::new(),
        }))
    }

    async fn list_units(
        &self,
        request: Request<ListUnitsRequest>,
    ) -> Result<Response<ListUnitsResponse>, Status> {
        let mut units = self.admit(&request)?.units;
        let cluster = &request.get_ref().cluster;
        units.retain(|unit| cluster.is_empty() || unit.cluster == *cluster);
        Ok(Response::new(ListUnitsResponse {
            units,
            next_page_token: String::new(),
        }))
    }

    async fn list_unit_objects(
        &self,
        request: Request<ListUnitObjectsRequest>,
    ) -> Result<Response<ListUnitObjectsResponse>, Status> {
        let objects = self.admit(&request)?.objects;
        Ok(Response::new(ListUnitObjectsResponse { objects }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let mut explanations = self.admit(&request)?.explanations;
        let cluster = &request.get_ref().cluster;
        explanations.retain(|one| cluster.is_empty() || one.cluster == *cluster);
        let next = if explanations.len() > 20 { "more" } else { "" };
        Ok(Response::new(ExplainResponse {
            explanations,
            next_page_token: next.to_owned(),
        }))
    }

    async fn list_history(
        &self,
        request: Request<ListHistoryRequest>,
    ) -> Result<Response<ListHistoryResponse>, Status> {
        let held = self.admit(&request)?.held;
        let asked = request.get_ref();
        // Pages of two at most, so that a list goes through several.
        let at: usize = asked.page_token.parse().unwrap_or(0);
        let end = held.len().min(at + 2.min(asked.page_size as usize));
        let next = if end < held.len() {
            end.to_string()
        } else {
            String::new()
        };
        Ok(Response::new(ListHistoryResponse {
            held: held[at..end].to_vec(),
            next_page_token: next,
        }))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let mut events = self.admit(&request)?.events;
        events.retain(|event| event.id > request.get_ref().after_id);
        events.retain(|event| event.warning || !request.get_ref().warnings_only);
        Ok(Response::new(ListEventsResponse { events }))
    }

    async fn list_rollouts(
        &self,
        request: Request<ListRolloutsRequest>,
    ) -> Result<Response<ListRolloutsResponse>, Status> {
        self.admit(&request)?;
        Ok(Response::new(ListRolloutsResponse::default()))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let changes = self.admit(&request)?.next.len();
        let messages: Vec<_> = (0..changes).map(|_| Ok(WatchEvent::default())).collect();
        Ok(Response::new(tokio_stream::iter(messages)))
    }

    async fn reconcile(
        &self,
        request: Request<ReconcileRequest>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        let answers = self.admit(&request)?;
        let wanted = request.get_ref().resource.as_ref();
        if !answers
            .resources
            .iter()
            .any(|resource| resource.r#ref.as_ref() == wanted)
        {
            return Err(Status::not_found("no such resource"));
        }
        let goes_on = answers.progress.last().is_none_or(|last| last.outcome == 0);
        let told = tokio_stream::iter(answers.progress.into_iter().map(Ok));
        Ok(Response::new(match goes_on {
            true => Box::pin(tokio_stream::StreamExt::chain(told, tokio_stream::pending())),
            false => Box::pin(told),
        }))
    }

    async fn suspend(&self, request: Request<SuspendRequest>) -> Result<Response<SuspendResponse>, Status> {
        self.admit(&request)?;
        let mut answers = self.answers.lock().expect("not poisoned");
        let wanted = request.get_ref();
        let resource = answers
            .resources
            .iter_mut()
            .find(|resource| resource.r#ref == wanted.resource);
        let resource = resource.ok_or_else(|| Status::not_found("no such resource"))?;
        let changed = resource.suspended != wanted.suspend;
        resource.suspended = wanted.suspend;
        Ok(Response::new(SuspendResponse { changed }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        Ok(Response::new(self.admit(&request)?.token))
    }

    async fn decide_cluster(
        &self,
        request: Request<DecideClusterRequest>,
    ) -> Result<Response<DecideClusterResponse>, Status> {
        self.admit(&request)?;
        match request.get_ref().cluster.as_str() {
            "doubted" => Ok(Response::new(DecideClusterResponse { changed: true })),
            "well" => Ok(Response::new(DecideClusterResponse { changed: false })),
            _ => Err(Status::not_found(
                "cluster is not registered; see `flotilla cluster list`",
            )),
        }
    }

    async fn depart_cluster(
        &self,
        request: Request<DepartClusterRequest>,
    ) -> Result<Response<DepartClusterResponse>, Status> {
        let told = self.admit(&request)?.departure;
        Ok(Response::new(DepartClusterResponse {
            changed: request.get_ref().confirmed && told.changed,
            ..told
        }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let told = self.admit(&request)?.deletion;
        Ok(Response::new(DeleteResponse {
            deleted: request.get_ref().confirmed,
            ..told
        }))
    }

    async fn list_blocked_removals(
        &self,
        request: Request<ListBlockedRemovalsRequest>,
    ) -> Result<Response<ListBlockedRemovalsResponse>, Status> {
        let answers = self.admit(&request)?;
        Ok(Response::new(ListBlockedRemovalsResponse {
            removals: answers.blocked,
            allowed: answers.allowed,
        }))
    }

    async fn approve_removals(
        &self,
        request: Request<ApproveRemovalsRequest>,
    ) -> Result<Response<ApproveRemovalsResponse>, Status> {
        self.admit(&request)?;
        // A unit of version 0 has changed meanwhile.
        let units = request.into_inner().units.into_iter();
        let approved = units.filter(|unit| unit.version > 0).map(|unit| unit.unit_id);
        Ok(Response::new(ApproveRemovalsResponse {
            approved: approved.collect(),
        }))
    }

    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        self.admit(&request)?;
        Ok(Response::new(GetVersionResponse {
            version: "v0.1.0".to_owned(),
            engine: "kustomize v5.8.1".to_owned(),
            postgres: "17.2".to_owned(),
        }))
    }
}
