//! An agent installed as a user would: the plain manifests are applied to the cluster's API server, and the
//! process is started as the container of the pod they describe.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use flotilla_testkit::ControlPlane;
use flotilla_yaml::{Limits, read_all};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    discovery::{ApiResource, Scope, pinned_kind},
};
use serde_json::{Value, json};

use crate::{
    hub::Join,
    pod::Container,
    program::{Program, built},
};

/// The manifests users apply.
const MANIFESTS: &str = include_str!("../../../deploy/agent/manifests/platform.yaml");
/// Where it is, and keeps its state.
pub const NAMESPACE: &str = "flotilla-system";
/// As whom it asks its cluster.
pub const USER: &str = "system:serviceaccount:flotilla-system:flotilla-agent";
/// The Secret with the join token.
const JOIN: &str = "flotilla-agent-join";

/// A running agent.
pub struct AgentProcess {
    program: Option<Program>,
    container: Container,
    log: PathBuf,
}

impl AgentProcess {
    /// Installs the agent in `plane` and starts it.
    pub async fn install(plane: &ControlPlane, join: &Join, dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let documents = documents(join)?;
        for document in &documents {
            apply(plane, document).await?;
        }
        apply(plane, &token_secret(&join.token)).await?;
        apply(plane, &secrets_everywhere()).await?;
        let deployment = documents
            .iter()
            .find(|document| document["kind"] == "Deployment")
            .context("the manifests hold no Deployment")?;
        let pod = &deployment["spec"]["template"]["spec"];
        let token = [("token", &join.token[..])];
        let secrets = [(JOIN, &token[..])];
        let mut agent = Self {
            program: None,
            container: Container::of(pod, plane, NAMESPACE, &secrets, dir).await?,
            log: dir.join("agent.log"),
        };
        agent.resume()?;
        Ok(agent)
    }

    /// Starts it again.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let (program, args, env) = self.container.command(&built("flotilla-agent")?);
        self.program = Some(Program::start(
            "flotilla-agent",
            &program,
            &args,
            &env,
            &self.log,
        )?);
        Ok(())
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.program
            .take()
            .context("the agent is stopped already")?
            .kill()
    }

    /// Process id of the running agent.
    pub fn pid(&self) -> Option<u32> {
        self.program.as_ref().map(Program::pid)
    }

    /// What the agent said lately.
    pub fn said(&self) -> String {
        self.program.as_ref().map_or_else(String::new, Program::said)
    }
}

fn documents(join: &Join) -> anyhow::Result<Vec<Value>> {
    let pins = join.pins.join(",");
    let text = MANIFESTS
        .replace("https://hub.invalid:7443", &join.endpoint)
        .replace(
            "sha256:0000000000000000000000000000000000000000000000000000000000000000",
            &pins,
        )
        .replace(
            "value: \"hub.invalid\"",
            &format!("value: \"{}\"", join.trust_domain),
        );
    if text.contains("hub.invalid") {
        bail!("the manifests hold a placeholder that was not replaced");
    }
    Ok(read_all(&text, &Limits::default())?
        .into_iter()
        .map(Value::from)
        .filter(|document| !document.is_null())
        .collect())
}

fn token_secret(token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": JOIN, "namespace": NAMESPACE },
        "stringData": { "token": token }
    })
}

/// The profile gives Secrets in listed namespaces only, and those of the stories come with their commits.
fn secrets_everywhere() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "flotilla-agent-secrets" },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flotilla-agent-secrets"
        },
        "subjects": [{ "kind": "ServiceAccount", "name": "flotilla-agent", "namespace": NAMESPACE }]
    })
}

/// Applies an object as a person with kubectl does.
pub async fn apply(plane: &ControlPlane, document: &Value) -> anyhow::Result<()> {
    let client = plane.client().await?;
    let object: DynamicObject = serde_json::from_value(document.clone())?;
    let types = object.types.clone().context("an object without kind")?;
    let kind = kube::core::GroupVersionKind::try_from(&types)?;
    let (resource, capabilities): (ApiResource, _) = pinned_kind(&client, &kind).await?;
    let name = object.metadata.name.clone().context("an object without name")?;
    let api: Api<DynamicObject> = match (&object.metadata.namespace, capabilities.scope) {
        (Some(namespace), Scope::Namespaced) => Api::namespaced_with(client, namespace, &resource),
        _ => Api::all_with(client, &resource),
    };
    let params = PatchParams::apply("kubectl").force();
    api.patch(&name, &params, &Patch::Apply(&object))
        .await
        .with_context(|| format!("applying {name}"))?;
    Ok(())
}
