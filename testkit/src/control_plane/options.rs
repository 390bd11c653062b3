//! What a control plane is made of, chosen by who starts it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::toolbox::Tool;

/// How long a control plane may take until it serves, when nothing else is asked for. Several that start at once on a
/// busy machine share its cores.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A process of a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The store.
    Etcd,
    /// The API server.
    ApiServer,
    /// The controllers.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// What makes nodes and pods Ready.
    Kwok,
}

impl Component {
    /// Every component, in the order they start.
    pub const ALL: [Component; 5] = [
        Component::Etcd,
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
        Component::Kwok,
    ];

    pub(super) fn tool(self) -> Tool {
        match self {
            Component::Etcd => Tool::Etcd,
            Component::ApiServer => Tool::ApiServer,
            Component::ControllerManager => Tool::ControllerManager,
            Component::Scheduler => Tool::Scheduler,
            Component::Kwok => Tool::Kwok,
        }
    }

    /// Whether the API server needs it to answer; the others are its clients.
    pub(super) fn is_server(self) -> bool {
        matches!(self, Component::Etcd | Component::ApiServer)
    }
}

/// Which controllers run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Controllers {
    /// All that Kubernetes turns on by itself.
    Default,
    /// Only these, by the names that `kube-controller-manager --controllers` takes.
    Only(Vec<String>),
}

/// How to start a control plane.
#[derive(Debug, Clone)]
pub struct ControlPlaneOptions {
    pub(super) name: String,
    pub(super) components: Vec<Component>,
    pub(super) controllers: Controllers,
    pub(super) nodes: usize,
    pub(super) dir: Option<PathBuf>,
    pub(super) api_server_args: Vec<String>,
    pub(super) timeout: Duration,
}

impl ControlPlaneOptions {
    /// A whole control plane with one node.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            components: Component::ALL.to_vec(),
            controllers: Controllers::Default,
            nodes: 1,
            dir: None,
            api_server_args: Vec::new(),
            timeout: TIMEOUT,
        }
    }

    /// Only etcd and the API server: objects are stored and served, and nothing acts on them.
    #[must_use]
    pub fn api_only(name: &str) -> Self {
        let components = vec![Component::Etcd, Component::ApiServer];
        Self {
            components,
            nodes: 0,
            ..Self::named(name)
        }
    }

    /// Chooses the controllers.
    #[must_use]
    pub fn controllers(mut self, controllers: Controllers) -> Self {
        self.controllers = controllers;
        self
    }

    /// Sets how many nodes there are; each has room for about a hundred pods.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Keeps its files in this folder, which must not exist yet and is left in place in the end.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Adds an argument for the API server, such as a feature gate; the last one of a name counts.
    #[must_use]
    pub fn api_server_arg(mut self, arg: &str) -> Self {
        self.api_server_args.push(arg.to_owned());
        self
    }

    /// Sets how long each wait of its start may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}
