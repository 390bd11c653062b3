//! A Kubernetes control plane of its own: etcd, API server, controllers, scheduler, and kwok in place of kubelets.
//!
//! Starting waits for states read from the API server, never for time to pass. What the processes are told stands in
//! `components`; who may talk to the server and how in `access`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::try_join_all;

use crate::certs::{Authority, KeyCert, signing_keys};
use crate::dir::RigDir;
use crate::kubeconfig::{Credential, render};
use crate::ports::PortLease;
use crate::process::Process;
use crate::toolbox::tools;
use crate::wait::wait_until;
use crate::{AuditLog, RigError};

mod access;
mod components;
mod etcd;
mod options;

pub use etcd::Snapshot;
pub use options::{Component, ControlPlaneOptions, Controllers};

/// How long a server that is asked to stop may take.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// A running control plane. Dropping it kills its processes and removes its files.
#[derive(Debug)]
pub struct ControlPlane {
    options: ControlPlaneOptions,
    // Before the folder: processes end first.
    processes: Vec<(Component, Process)>,
    ports: Ports,
    identity: Identity,
    dir: RigDir,
}

#[derive(Debug)]
struct Ports {
    etcd: PortLease,
    etcd_peer: PortLease,
    api_server: PortLease,
}

#[derive(Debug)]
struct Identity {
    authority: Authority,
    admin: KeyCert,
}

impl ControlPlane {
    /// Starts a control plane and waits until it serves: the API server is ready, and so is each node, and pods can be
    /// made in the `default` namespace.
    ///
    /// # Errors
    /// When a program cannot be had, a process exits (the error carries its last lines), or the time in `options` is
    /// over.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self, RigError> {
        crate::install_tls_provider();
        let programs = tools(
            &options
                .components
                .iter()
                .map(|each| each.tool())
                .collect::<Vec<_>>(),
        )
        .await?;
        let mut plane = Self::prepare(options)?;
        let programs = plane.options.components.clone().into_iter().zip(programs);
        let (servers, clients): (Vec<_>, Vec<_>) = programs.partition(|(component, _)| component.is_server());
        plane.launch(&servers)?;
        plane.wait_for_api_server().await?;
        plane.launch(&clients)?;
        plane.wait_for_cluster().await?;
        Ok(plane)
    }

    /// Starts `count` control planes named `cluster-1` and so on, side by side.
    ///
    /// # Errors
    /// As [`ControlPlane::start`]; when one fails, the others are stopped.
    pub async fn start_many(count: usize) -> Result<Vec<Self>, RigError> {
        let named = |index: usize| ControlPlaneOptions::named(&format!("cluster-{}", index + 1));
        try_join_all((0..count).map(|index| Self::start(named(index)))).await
    }

    /// Lays out the folder, the ports and the certificates.
    fn prepare(options: ControlPlaneOptions) -> Result<Self, RigError> {
        let dir = match &options.dir {
            Some(path) => RigDir::kept(path)?,
            None => RigDir::temporary()?,
        };
        let ports = Ports {
            etcd: PortLease::take()?,
            etcd_peer: PortLease::take()?,
            api_server: PortLease::take()?,
        };
        let authority = Authority::new(&options.name)?;
        let admin = authority.client("kubernetes-admin", Some("system:masters"))?;
        let names = [
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "10.96.0.1",
        ];
        let serving = authority.server(&names)?;
        let (signs, checks) = signing_keys()?;
        for (name, content) in [
            ("ca.crt", authority.ca_pem()),
            ("ca.key", authority.key_pem()),
            ("apiserver.crt", &serving.cert_pem),
            ("apiserver.key", &serving.key_pem),
            ("sa.key", &signs),
            ("sa.pub", &checks),
            ("audit-policy.json", components::AUDIT_POLICY),
        ] {
            dir.write(name, content)?;
        }
        dir.folder("etcd")?;
        dir.folder("cluster")?;
        let identity = Identity { authority, admin };
        let plane = Self {
            options,
            processes: Vec::new(),
            ports,
            identity,
            dir,
        };
        plane.write_kubeconfigs()?;
        Ok(plane)
    }

    fn write_kubeconfigs(&self) -> Result<(), RigError> {
        let masters = Some("system:masters");
        for (name, user, group) in [
            ("controller-manager", "system:kube-controller-manager", None),
            ("scheduler", "system:kube-scheduler", None),
            ("kwok", "kwok", masters),
        ] {
            let pair = self.identity.authority.client(user, group)?;
            self.write_kubeconfig(name, &Credential::Certificate(&pair))?;
        }
        self.write_kubeconfig("admin", &Credential::Certificate(&self.identity.admin))
            .map(drop)
    }

    fn write_kubeconfig(&self, name: &str, credential: &Credential<'_>) -> Result<PathBuf, RigError> {
        let config = render(&self.options.name, &self.server(), self.ca_pem(), credential);
        self.dir.write(&format!("{name}.kubeconfig"), config)
    }

    fn launch(&mut self, programs: &[(Component, PathBuf)]) -> Result<(), RigError> {
        for (component, program) in programs {
            let process = Process::start(self.spec(*component, program))?;
            self.processes.push((*component, process));
        }
        Ok(())
    }

    /// Waits until the API server answers that it is ready.
    ///
    /// # Errors
    /// [`RigError::Timeout`], or [`RigError::Exited`] when a process of this control plane ended meanwhile.
    pub async fn wait_for_api_server(&self) -> Result<(), RigError> {
        let state = format!("the API server of {} to be ready", self.name());
        let client = self.client().await?;
        wait_until(&state, self.options.timeout, async || {
            if let Err(gone) = self.check_for(&[Component::Etcd, Component::ApiServer]) {
                return Ok(Some(Err(gone)));
            }
            let answer = self.get_text(&client, "/readyz").await?;
            Ok::<_, RigError>((answer == "ok").then_some(Ok(())))
        })
        .await?
    }

    fn check_for(&self, components: &[Component]) -> Result<(), RigError> {
        components
            .iter()
            .try_for_each(|component| self.process(*component)?.check())
    }

    /// Tells whether every process that was started runs.
    ///
    /// # Errors
    /// The first one that does not, with the end of its log.
    pub fn check(&self) -> Result<(), RigError> {
        self.processes.iter().try_for_each(|(_, process)| process.check())
    }

    /// The process of a component, to freeze, continue, kill or stop.
    ///
    /// # Errors
    /// [`RigError::Invalid`] when this control plane was started without it.
    pub fn process(&self, component: Component) -> Result<&Process, RigError> {
        let found = self.processes.iter().find(|(each, _)| *each == component);
        let missing = || RigError::Invalid(format!("{} runs no {}", self.name(), component.tool().name()));
        found.map(|(_, process)| process).ok_or_else(missing)
    }

    /// Asks a component to end, as a rolling update would, and waits until it is gone.
    ///
    /// # Errors
    /// As [`ControlPlane::process`].
    pub async fn stop(&self, component: Component) -> Result<(), RigError> {
        self.process(component)?.stop(STOP_GRACE).await;
        Ok(())
    }

    /// Starts a component again, killing it first when it runs. For etcd and the API server it waits until the API
    /// server is ready.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn restart(&self, component: Component) -> Result<(), RigError> {
        self.process(component)?.restart()?;
        if component.is_server() {
            self.wait_for_api_server().await
        } else {
            Ok(())
        }
    }

    /// The name it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// The API server's URL.
    #[must_use]
    pub fn server(&self) -> String {
        format!("https://{}", self.ports.api_server.address())
    }

    /// The certificate authority that the API server's certificate is from, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.identity.authority.ca_pem()
    }

    /// The folder with its files: kubeconfigs, logs (`<program>.log`), `audit.log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// The requests it was sent.
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.dir.path().join("audit.log"))
    }
}
