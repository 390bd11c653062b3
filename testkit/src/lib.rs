//! Real servers for tests, the demo, benchmarks and users: Kubernetes control planes, Git, Postgres.
//!
//! Nothing here imitates a server. Each is the program itself, started on free ports of 127.0.0.1 with certificates of
//! its own, and gone when its handle is dropped, when a test panics, or when the process dies.
//!
//! ```no_run
//! # async fn example() -> Result<(), flotilla_testkit::RigError> {
//! use flotilla_testkit::{AuditFilter, Component, ControlPlane, ControlPlaneOptions};
//!
//! let cluster = ControlPlane::start(ControlPlaneOptions::named("edge")).await?;
//! let namespace = cluster.namespace().await?;
//! let mark = cluster.audit().mark();
//! cluster.get_json(&format!("/api/v1/namespaces/{namespace}/configmaps")).await?;
//! let lists = AuditFilter::all().after(mark).verb("list").resource("configmaps");
//! assert_eq!(cluster.audit().count(&lists)?, 1);
//!
//! cluster.process(Component::ApiServer)?.freeze()?;
//! cluster.process(Component::ApiServer)?.resume()?;
//! cluster.restart(Component::Etcd).await?;
//! # Ok(())
//! # }
//! ```

mod audit;
mod background;
mod beside;
mod certs;
mod commits;
mod control_plane;
mod dir;
mod error;
mod git;
mod kubeconfig;
mod ports;
mod postgres;
mod process;
mod proxy;
mod shared;
mod toolbox;
mod traces;
mod usage;
mod wait;

pub use audit::{AuditEntry, AuditFilter, AuditLog, AuditMark, AuditObject, AuditStatus, AuditUser};
pub use beside::done_beside;
pub use certs::{Authority, KeyCert};
pub use commits::CommitProxy;
pub use control_plane::{Component, ControlPlane, ControlPlaneOptions, Controllers, Snapshot};
pub use error::RigError;
pub use git::{Change, GitAccess, GitCommand, GitFault, GitRepo, GitRequest, GitServer, SshKey, SshServer};
pub use ports::PortLease;
pub use postgres::{TestDb, TestPostgres};
pub use process::Process;
pub use proxy::FaultProxy;
pub use shared::shared_clusters;
pub use toolbox::{Tool, kubernetes_version, tool, tools};
pub use traces::{TraceCollector, TracedSpan};
pub use usage::processor_time;
pub use wait::wait_until;

/// Makes ring the TLS provider of this process, unless one was chosen before.
pub fn install_tls_provider() {
    // An error only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
