//! An agent installed as a user would: the plain manifests are applied to the cluster's API server, and the
//! process is started with the arguments, environment, ServiceAccount token and files of the pod they describe.
//! Two things differ from a pod: the token comes by a kubeconfig, since the folder where a pod finds it is one
//! for the whole machine, and the health port is a free one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use flotilla_testkit::ControlPlane;
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    discovery::{ApiResource, Scope, pinned_kind},
};
use serde_json::{Value, json};

use crate::{
    hub::Join,
    program::{Program, built},
};

/// The manifests users apply.
const MANIFESTS: &str = include_str!("../../../deploy/agent/manifests/agent.yaml");
const NAMESPACE: &str = "flotilla-system";

/// A running agent.
pub struct AgentProcess {
    program: Option<Program>,
    args: Vec<String>,
    env: Vec<(String, String)>,
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
        let deployment = documents
            .iter()
            .find(|document| document["kind"] == "Deployment")
            .context("the manifests hold no Deployment")?;
        let pod = &deployment["spec"]["template"]["spec"];
        let account = pod["serviceAccountName"]
            .as_str()
            .context("the pod names no ServiceAccount")?;
        let kubeconfig = plane.kubeconfig_for_service_account(NAMESPACE, account).await?;
        let container = &pod["containers"][0];
        let mut agent = Self {
            program: None,
            args: arguments(container, &kubeconfig),
            env: environment(container, &join.token, dir)?,
            log: dir.join("agent.log"),
        };
        agent.resume()?;
        Ok(agent)
    }

    /// Starts it again.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let program = built("flotilla-agent")?;
        self.program = Some(Program::start(
            "flotilla-agent",
            &program,
            &self.args,
            &self.env,
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
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    Ok(documents
        .into_iter()
        .filter(|document| !document.is_null())
        .collect())
}

fn token_secret(token: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": { "name": "flotilla-agent-join", "namespace": NAMESPACE },
        "stringData": { "token": token }
    })
}

async fn apply(plane: &ControlPlane, document: &Value) -> anyhow::Result<()> {
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

fn arguments(container: &Value, kubeconfig: &Path) -> Vec<String> {
    let given = container["args"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let mut args: Vec<String> = given
        .map(|arg| arg.replace("0.0.0.0:8081", "127.0.0.1:0"))
        .collect();
    args.push(format!("--kubeconfig={}", kubeconfig.display()));
    args
}

fn environment(container: &Value, token: &str, dir: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let join = dir.join("join");
    std::fs::create_dir_all(&join)?;
    std::fs::write(join.join("token"), token)?;
    let mut env = Vec::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"]
            .as_str()
            .context("a variable without name")?
            .to_owned();
        let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
            Some("metadata.namespace") => NAMESPACE.to_owned(),
            Some(other) => bail!("the pod's variable {name} comes from {other}, which is not known here"),
            None => variable["value"].as_str().unwrap_or_default().to_owned(),
        };
        env.push((
            name,
            value.replace("/etc/flotilla/join", &join.display().to_string()),
        ));
    }
    Ok(env)
}
