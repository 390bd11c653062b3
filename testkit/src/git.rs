//! A Git server: bare repositories over smart HTTP and HTTPS, with a log of what was asked, and faults on demand.
//!
//! The protocol is Git's own (`git http-backend`); what stands here is who may ask, what was asked, and what breaks.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::RigError;
use crate::background::Background;
use crate::certs::{Authority, KeyCert};
use crate::dir::RigDir;

mod cgi;
mod repo;
mod serve;
mod ssh;

pub use repo::{Change, GitRepo};
pub use ssh::{SshKey, SshServer};

/// A running Git server. Dropping it ends it and removes its repositories.
#[derive(Debug)]
pub struct GitServer {
    state: Arc<State>,
    http: SocketAddr,
    https: SocketAddr,
    mutual: SocketAddr,
    authority: Authority,
    // Before the folder: the server ends first.
    _background: Background,
    dir: RigDir,
}

/// What every request is judged by and written to.
#[derive(Debug)]
struct State {
    root: std::path::PathBuf,
    access: GitAccess,
    fault: Mutex<Option<GitFault>>,
    log: Mutex<Vec<GitRequest>>,
}

/// Who may use the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitAccess {
    /// Everybody may read; nobody may push.
    Public,
    /// Whoever gives this name and password may read and push.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// Whoever bears this token may read and push.
    Bearer(String),
}

/// What breaks, for every request while it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitFault {
    /// Connections are closed before a byte is answered.
    Refuse,
    /// Every request is answered with this status.
    Status(u16),
    /// Answers begin this much later.
    Slow(Duration),
    /// The connection is cut after this many bytes of a body.
    CutAfter(u64),
    /// Requests are redirected to the same path under this URL, which has no slash at its end.
    Redirect(String),
}

/// What a client wanted of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GitCommand {
    /// The first request of every exchange: what the server can do (protocol 2), or all refs (older ones).
    Advertise,
    /// A protocol-2 request for refs.
    LsRefs,
    /// A request for objects.
    Fetch,
    /// A push.
    Push,
    /// Anything else.
    Other,
}

/// One request the server was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// The repository, as in its URL: `app.git`.
    pub repository: String,
    /// What was wanted.
    pub command: GitCommand,
    /// The protocol version the client asked for.
    pub protocol: u8,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The status it was answered with; 0 when it was not answered.
    pub status: u16,
}

impl GitServer {
    /// Starts a server with no repositories, on free ports of 127.0.0.1.
    ///
    /// # Errors
    /// When a certificate, a port or the folder cannot be had.
    pub async fn start(access: GitAccess) -> Result<Self, RigError> {
        crate::install_tls_provider();
        let dir = RigDir::temporary()?;
        let authority = Authority::new("git")?;
        let pair = authority.server(&["localhost", "127.0.0.1"])?;
        let tls = serve::tls_acceptor(&pair)?;
        let asking = serve::asking_acceptor(&pair, authority.ca_pem())?;
        let state = Arc::new(State {
            root: dir.folder("repositories")?,
            access,
            fault: Mutex::default(),
            log: Mutex::default(),
        });
        let background = Background::new("git-server")?;
        let plain = serve::listen(&background, &state, None).await?;
        let secure = serve::listen(&background, &state, Some(tls)).await?;
        let mutual = serve::listen(&background, &state, Some(asking)).await?;
        Ok(Self {
            state,
            http: plain,
            https: secure,
            mutual,
            authority,
            _background: background,
            dir,
        })
    }

    /// Makes an empty bare repository named like `app.git` or `team/app.git`, with `main` as its branch.
    ///
    /// # Errors
    /// [`RigError::Invalid`] for a name that leaves the server's folder, [`RigError::Command`] when Git fails.
    pub async fn create(&self, name: &str) -> Result<GitRepo, RigError> {
        GitRepo::create(&self.state.root, self.dir.path(), name).await
    }

    /// The URL of a repository over HTTP.
    #[must_use]
    pub fn http_url(&self, repository: &str) -> String {
        format!("http://{}:{}/{repository}", Ipv4Addr::LOCALHOST, self.http.port())
    }

    /// The URL of a repository over HTTPS; clients must trust [`GitServer::ca_pem`].
    #[must_use]
    pub fn https_url(&self, repository: &str) -> String {
        format!(
            "https://{}:{}/{repository}",
            Ipv4Addr::LOCALHOST,
            self.https.port()
        )
    }

    /// The URL of a repository over HTTPS for clients that show a certificate of [`GitServer::client_certificate`].
    #[must_use]
    pub fn mutual_url(&self, repository: &str) -> String {
        format!(
            "https://{}:{}/{repository}",
            Ipv4Addr::LOCALHOST,
            self.mutual.port()
        )
    }

    /// A certificate for a client.
    ///
    /// # Errors
    /// [`RigError::Certificate`] when it cannot be made.
    pub fn client_certificate(&self) -> Result<KeyCert, RigError> {
        self.authority.client("hub", None)
    }

    /// The certificate authority of the server's certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.authority.ca_pem()
    }

    /// Sets what breaks from now on; `None` mends it.
    pub fn set_fault(&self, fault: Option<GitFault>) {
        *self.state.fault() = fault;
    }

    /// The requests since the start, or since [`GitServer::clear_log`].
    #[must_use]
    pub fn requests(&self) -> Vec<GitRequest> {
        self.state.log().clone()
    }

    /// How many requests wanted this.
    #[must_use]
    pub fn count(&self, command: GitCommand) -> usize {
        self.state
            .log()
            .iter()
            .filter(|request| request.command == command)
            .count()
    }

    /// Forgets the requests so far.
    pub fn clear_log(&self) {
        self.state.log().clear();
    }

    /// The folder that holds the bare repositories.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.state.root
    }
}

impl State {
    fn fault(&self) -> MutexGuard<'_, Option<GitFault>> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Vec<GitRequest>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
