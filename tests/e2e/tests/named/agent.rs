//! An agent beside a cluster that many have one in: a process with a kubeconfig, a namespace for its state and a user of
//! its own.

use std::path::{Path, PathBuf};

use e2e::{
    agent::apply,
    hub::Join,
    program::{Program, built},
};
use flotilla_testkit::ControlPlane;
use rustix::process::Pid;
use serde_json::json;

/// How an agent reaches its cluster and its hub; either may lead over a proxy.
#[derive(Debug, Clone)]
pub(crate) struct Ways {
    pub(crate) api_server: String,
    pub(crate) hub: String,
}

/// A running agent.
pub(crate) struct Agent {
    program: Option<Program>,
    name: String,
    args: Vec<String>,
    pub(crate) log: PathBuf,
    /// Who asks, in the audit log of the cluster.
    pub(crate) user: String,
}

impl Agent {
    /// Starts one that keeps its state in namespace `name`.
    pub(crate) async fn start(plane: &ControlPlane, join: &Join, name: &str) -> Self {
        let ways = Ways {
            api_server: plane.server(),
            hub: join.endpoint.clone(),
        };
        Self::start_over(plane, join, name, &ways).await
    }

    /// Likewise, over these ways.
    pub(crate) async fn start_over(plane: &ControlPlane, join: &Join, name: &str, ways: &Ways) -> Self {
        let user = format!("agent-of-{name}");
        may_do_all(plane, &user).await;
        namespace(plane, name).await;
        let kubeconfig = plane.kubeconfig_for_user(&user, None).unwrap();
        let text = std::fs::read_to_string(&kubeconfig).unwrap();
        std::fs::write(&kubeconfig, text.replace(&plane.server(), &ways.api_server)).unwrap();
        let mut args = vec![
            ("--kubeconfig", kubeconfig.display().to_string()),
            ("--namespace", name.to_owned()),
            ("--hub", ways.hub.clone()),
            ("--trust-domain", join.trust_domain.clone()),
            ("--token", join.token.clone()),
        ];
        args.extend(join.pins.iter().map(|pin| ("--pin", pin.clone())));
        let mut agent = Self {
            program: None,
            name: name.to_owned(),
            args: args
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value])
                .collect(),
            log: plane.folder().join(format!("agent-{name}.log")),
            user,
        };
        agent.resume();
        agent
    }

    /// Starts it again.
    pub(crate) fn resume(&mut self) {
        let program = built("flotilla-agent").unwrap();
        let program = Program::start("flotilla-agent", &program, &self.args, &[], &self.log).unwrap();
        self.program = Some(program);
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(&mut self) {
        self.program.take().unwrap().kill().unwrap();
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.program
            .as_mut()
            .is_some_and(|program| program.check().is_ok())
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<Pid> {
        let number = self.program.as_ref().map(Program::pid)?;
        Pid::from_raw(i32::try_from(number).ok()?)
    }

    /// Its namespace.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// The last lines of a log.
pub(crate) fn said(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// An account that the API server's fairness has an eye on, unlike an administrator's.
async fn may_do_all(plane: &ControlPlane, user: &str) {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }]
    });
    apply(plane, &binding).await.unwrap();
}

/// Makes a namespace, unless it is there.
pub(crate) async fn namespace(plane: &ControlPlane, name: &str) {
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    apply(plane, &object).await.unwrap();
}
