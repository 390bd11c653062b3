//! Talking to a control plane: clients, kubeconfigs for other identities, namespaces, and reading for assertions.

use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};

use super::{Component, ControlPlane};
use crate::RigError;
use crate::kubeconfig::{Credential, render};
use crate::wait::wait_until;

/// How long a token lasts that a kubeconfig for a ServiceAccount carries, in seconds.
const TOKEN_SECONDS: i64 = 24 * 3600;

impl ControlPlane {
    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }

    /// Writes a kubeconfig with a client certificate for a user, in a group when one is given.
    ///
    /// # Errors
    /// When the certificate or the file cannot be made.
    pub fn kubeconfig_for_user(&self, user: &str, group: Option<&str>) -> Result<PathBuf, RigError> {
        let pair = self.identity.authority.client(user, group)?;
        self.write_kubeconfig(
            &format!("user-{}", file_name(user)),
            &Credential::Certificate(&pair),
        )
    }

    /// Writes a kubeconfig with a token of a ServiceAccount, which must exist. The token lasts a day.
    ///
    /// # Errors
    /// When the API server refuses the token.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf, RigError> {
        let token = self.service_account_token(namespace, name).await?;
        let file = format!("sa-{}-{}", file_name(namespace), file_name(name));
        self.write_kubeconfig(&file, &Credential::Token(&token))
    }

    /// Asks for a token of a ServiceAccount, as a kubelet does for a pod. It lasts a day.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String, RigError> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..Default::default()
        };
        let request = TokenRequest {
            spec,
            ..Default::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .map_err(self.refused(&format!("ask for a token of {namespace}/{name}")))?;
        let missing = || RigError::Invalid(format!("no token for {namespace}/{name}"));
        answer.status.map(|status| status.token).ok_or_else(missing)
    }

    /// A new client with the administrator's rights.
    ///
    /// Each call makes one: a client's connections belong to the async runtime it was first used on, and every test has
    /// its own.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> Result<Client, RigError> {
        let credential = Credential::Certificate(&self.identity.admin);
        let text = render(&self.options.name, &self.server(), self.ca_pem(), &credential);
        self.client_of(&text).await
    }

    /// A new client with the rights of a kubeconfig file.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub async fn client_for(&self, kubeconfig: &std::path::Path) -> Result<Client, RigError> {
        let text = std::fs::read_to_string(kubeconfig).map_err(RigError::io("read", kubeconfig))?;
        self.client_of(&text).await
    }

    async fn client_of(&self, kubeconfig: &str) -> Result<Client, RigError> {
        let invalid = |source| RigError::Kubeconfig {
            cluster: self.options.name.clone(),
            source,
        };
        let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(invalid)?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(parsed, &options)
            .await
            .map_err(invalid)?;
        // Tests that look at failures want to see the first one.
        config.default_retry = false;
        Client::try_from(config).map_err(self.refused("configure a client"))
    }

    /// Reads a path of the API as the administrator, such as `/api/v1/namespaces/default/configmaps`.
    ///
    /// # Errors
    /// When the API server refuses it or cannot be reached.
    pub async fn get_json(&self, path: &str) -> Result<Value, RigError> {
        let client = self.client().await?;
        let text = self.get_text(&client, path).await?;
        serde_json::from_str(&text).map_err(|source| RigError::Json {
            what: format!("the answer to GET {path}"),
            source,
        })
    }

    pub(super) async fn get_text(&self, client: &Client, path: &str) -> Result<String, RigError> {
        let request = http::Request::get(path)
            .body(Vec::new())
            .map_err(|error| RigError::Invalid(format!("{path} is not a path: {error}")))?;
        client
            .request_text(request)
            .await
            .map_err(self.refused(&format!("GET {path}")))
    }

    /// Makes a namespace that no other test has and returns its name, once pods can be made in it.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn namespace(&self) -> Result<String, RigError> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("test-{}", id.get(..10).unwrap_or(&id));
        let namespace: Namespace = self.object(json!({ "metadata": { "name": name } }))?;
        let client = self.client().await?;
        Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .map_err(self.refused(&format!("create namespace {name}")))?;
        self.wait_for_default_account(&client, &name).await?;
        Ok(name)
    }

    fn object<T: serde::de::DeserializeOwned>(&self, value: Value) -> Result<T, RigError> {
        serde_json::from_value(value).map_err(|source| RigError::Json {
            what: "an object".to_owned(),
            source,
        })
    }

    fn refused(&self, request: &str) -> impl FnOnce(kube::Error) -> RigError {
        let (cluster, request) = (self.options.name.clone(), request.to_owned());
        move |source| RigError::Kube {
            cluster,
            request,
            source: Box::new(source),
        }
    }

    /// Makes the nodes and waits until they and the `default` namespace are what pods need.
    pub(super) async fn wait_for_cluster(&self) -> Result<(), RigError> {
        let client = self.client().await?;
        for index in 0..self.options.nodes {
            let name = format!("node-{}", index + 1);
            let labels = json!({ "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" });
            let node: Node = self.object(json!({ "metadata": { "name": name, "labels": labels } }))?;
            let nodes: Api<Node> = Api::all(client.clone());
            let made = nodes.create(&PostParams::default(), &node).await;
            made.map_err(self.refused(&format!("create node {name}")))?;
        }
        self.wait_for_default_account(&client, "default").await?;
        self.wait_for_nodes(&client).await
    }

    async fn wait_for_default_account(&self, client: &Client, namespace: &str) -> Result<(), RigError> {
        if !self.options.components.contains(&Component::ControllerManager) {
            return Ok(());
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let state = format!("the default ServiceAccount of {namespace} in {}", self.name());
        wait_until(&state, self.options.timeout, async || {
            self.check()?;
            let found = accounts
                .get_opt("default")
                .await
                .map_err(self.refused("get serviceaccount"))?;
            Ok::<_, RigError>(found.map(drop))
        })
        .await
    }

    async fn wait_for_nodes(&self, client: &Client) -> Result<(), RigError> {
        if !self.options.components.contains(&Component::Kwok) {
            return Ok(());
        }
        let nodes: Api<Node> = Api::all(client.clone());
        let state = format!("the nodes of {} to be ready", self.name());
        wait_until(&state, self.options.timeout, async || {
            self.check()?;
            let all = nodes
                .list(&ListParams::default())
                .await
                .map_err(self.refused("list nodes"))?;
            Ok::<_, RigError>(all.items.iter().all(is_ready).then_some(()))
        })
        .await
    }
}

/// Ready, and without the taint that a new node carries until the controllers have seen it so.
fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .any(|each| each.type_ == "Ready" && each.status == "True");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    ready
        && !taints
            .into_iter()
            .flatten()
            .any(|taint| taint.key == "node.kubernetes.io/not-ready")
}

/// A name as part of a file's name.
fn file_name(name: &str) -> String {
    name.chars()
        .map(|each| {
            if each.is_ascii_alphanumeric() || each == '-' {
                each
            } else {
                '_'
            }
        })
        .collect()
}
