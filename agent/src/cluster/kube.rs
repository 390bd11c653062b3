//! A real cluster, through its API server. Every call has a deadline; retrying is the caller's, so kube's own is
//! off. Bodies are bounded, and no body is ever logged: it may be a Secret.

use std::{error::Error as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
    core::Status,
};
use serde_json::Value;

use super::{Account, Cluster, ClusterError, Discovery, Page, Resource, Selector, WatchEvent, watch};

/// Who we are in managed fields.
pub const MANAGER: &str = flotilla_core::apply::MANAGER;

/// Longest wait for one call: longer than an admission webhook may take, so that it is the server which tells.
const CALL: Duration = Duration::from_secs(40);
/// Bytes of one answer. An object is at most a few MiB, a page of a list has at most a hundred.
const ANSWER_MAX: usize = 64 << 20;
/// Objects in a page of metadata; each is a kilobyte or two, most of it managed fields.
const METADATA_PAGE: u32 = 250;
/// Lists are asked for with this, and watches with the other.
pub(super) const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

const IMPERSONATE: &str = "impersonate-user";

/// The API server of a cluster, asked as one account.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
    account: Account,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {path} is not usable: {why}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Not inside a cluster.
    #[error("not inside a cluster, and no kubeconfig is given: {0}")]
    InCluster(String),
    /// The client cannot be made of the configuration.
    #[error("client cannot be made: {0}")]
    Client(String),
}

/// Makes a client from a kubeconfig file, or from what a pod finds.
pub async fn client(kubeconfig: Option<&std::path::Path>) -> Result<Client, ClientError> {
    let mut config = match kubeconfig {
        Some(path) => {
            let unusable = |why: String| ClientError::Kubeconfig {
                path: path.display().to_string(),
                why,
            };
            let file = Kubeconfig::read_from(path).map_err(|e| unusable(e.to_string()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|e| unusable(e.to_string()))?
        }
        None => Config::incluster().map_err(|e| ClientError::InCluster(e.to_string()))?,
    };
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    // A watch may be silent for as long as the server's timeout; the watch itself bounds its silence.
    config.read_timeout = None;
    Client::try_from(config).map_err(|e| ClientError::Client(transport_text(&e)))
}

impl KubeCluster {
    /// Uses a client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            account: Account::Agent,
        }
    }

    /// Gives a request the identity of the account. All requests pass here; one whose account cannot be named
    /// is refused and never made as the agent.
    fn identified(&self, mut request: Request<Vec<u8>>) -> Result<Request<Vec<u8>>, ClusterError> {
        if let Some(user) = self.account.user() {
            let user = HeaderValue::from_str(&user).map_err(|e| bad_request(&e.into()))?;
            request.headers_mut().insert(IMPERSONATE, user);
        }
        Ok(request)
    }

    /// Makes a request about `resource`, or about none in particular, and reads the answer whole.
    async fn call(
        &self,
        request: Request<Vec<u8>>,
        resource: Option<&Resource>,
    ) -> Result<Value, ClusterError> {
        match tokio::time::timeout(CALL, self.exchange(request, resource)).await {
            Ok(result) => result,
            Err(_) => Err(ClusterError::Unavailable(format!(
                "no answer in {} s",
                CALL.as_secs()
            ))),
        }
    }

    async fn exchange(
        &self,
        request: Request<Vec<u8>>,
        resource: Option<&Resource>,
    ) -> Result<Value, ClusterError> {
        let request = self.identified(request)?.map(Body::from);
        let response = self.client.send(request).await.map_err(|e| error(&e, resource))?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = Limited::new(response.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|e| cut(e.as_ref(), ANSWER_MAX))?
            .to_bytes();
        if !status.is_success() {
            return Err(refusal(status, retry_after, &body, resource));
        }
        serde_json::from_slice(&body).map_err(|e| {
            ClusterError::Unavailable(format!("answer is no JSON at {}:{}", e.line(), e.column()))
        })
    }

    /// Opens a watch.
    pub(super) async fn open_watch(
        &self,
        resource: &Resource,
        path: &str,
        metadata_only: bool,
    ) -> Result<watch::Events, ClusterError> {
        let request = self.identified(get(path, metadata_only.then_some(METADATA))?)?;
        let events = self.client.request_events::<Value>(request).await;
        Ok(events.map_err(|e| error(&e, Some(resource)))?.boxed())
    }

    /// Reads one page of a list, as `accept` asks for it.
    pub(super) async fn page(
        &self,
        resource: &Resource,
        selector: &Selector,
        limit: u32,
        token: &str,
        accept: Option<&str>,
    ) -> Result<Page, ClusterError> {
        let mut query = vec![("limit", limit.to_string())];
        if !selector.labels.is_empty() {
            query.push(("labelSelector", selector.labels.clone()));
        }
        if !token.is_empty() {
            query.push(("continue", token.to_owned()));
        }
        let path = path(resource, &selector.namespace, None);
        let mut page = self
            .call(
                get(&format!("{path}?{}", encode(&query)), accept)?,
                Some(resource),
            )
            .await?;
        let items = match page["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        let metadata = &page["metadata"];
        Ok(Page {
            items,
            next: text(&page, "continue").to_owned(),
            remaining: metadata["remainingItemCount"]
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or_default(),
            version: text(&page, "resourceVersion").to_owned(),
        })
    }
}

/// The text of a client error, with its causes, and without bodies: kube's own text of a decoding error may
/// quote what it read.
pub fn transport_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.reason),
        kube::Error::SerdeError(_) => "answer is not readable".to_owned(),
        other => {
            let mut text = other.to_string();
            let mut cause = other.source();
            while let Some(error) = cause {
                let next = error.to_string();
                if !text.contains(&next) {
                    text = format!("{text}: {next}");
                }
                cause = error.source();
            }
            text
        }
    }
}

/// Reads a client error that came of a request about `resource`.
pub(super) fn error(error: &kube::Error, resource: Option<&Resource>) -> ClusterError {
    match error {
        kube::Error::Api(status) => from_status(status, resource),
        other => ClusterError::Unavailable(transport_text(other)),
    }
}

/// Why a body ended early.
fn cut(error: &(dyn std::error::Error + 'static), max: usize) -> ClusterError {
    if error.is::<LengthLimitError>() {
        ClusterError::TooLarge { max }
    } else {
        ClusterError::Unavailable(format!("answer was cut: {error}"))
    }
}

fn refusal(
    code: StatusCode,
    retry_after: Option<Duration>,
    body: &[u8],
    resource: Option<&Resource>,
) -> ClusterError {
    let mut status = serde_json::from_slice::<Status>(body).unwrap_or_default();
    status.code = code.as_u16();
    if code == StatusCode::TOO_MANY_REQUESTS {
        return ClusterError::Overloaded { retry_after };
    }
    from_status(&status, resource)
}

fn from_status(status: &Status, resource: Option<&Resource>) -> ClusterError {
    let details = status.details.as_ref();
    let is_named = details.is_some_and(|details| !details.name.is_empty());
    match (status.code, resource) {
        (429, _) => ClusterError::Overloaded {
            retry_after: details
                .map(|details| u64::from(details.retry_after_seconds))
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
        },
        // An object that is not there is named in the details; a path that is not served is not.
        (404, Some(resource)) if !is_named => ClusterError::NotServed {
            kind: resource.kind.clone(),
            api_version: resource.api_version(),
        },
        // The server has answered, about this one object: a webhook that it cannot reach, a store that is full.
        (500, _) if !status.message.is_empty() => ClusterError::Rejected {
            code: 500,
            reason: status.reason.clone(),
            message: status.message.clone(),
        },
        (500.., _) => ClusterError::Unavailable(format!("{} {}", status.code, status.message)),
        (0, _) => ClusterError::Unavailable(status.message.clone()),
        (code, _) => ClusterError::Rejected {
            code,
            reason: status.reason.clone(),
            message: status.message.clone(),
        },
    }
}

pub(super) fn path(resource: &Resource, namespace: &str, name: Option<&str>) -> String {
    let root = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let scope = if resource.namespaced && !namespace.is_empty() {
        format!("/namespaces/{}", segment(namespace))
    } else {
        String::new()
    };
    match name {
        Some(name) => format!("{root}{scope}/{}/{}", resource.plural, segment(name)),
        None => format!("{root}{scope}/{}", resource.plural),
    }
}

/// Escapes a path segment: RBAC names hold colons, and nothing from a manifest may leave its segment.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    // Dots alone would walk up the path.
    if !out.is_empty() && out.bytes().all(|byte| byte == b'.') {
        out.replace('.', "%2E")
    } else {
        out
    }
}

pub(super) fn encode(query: &[(&str, String)]) -> String {
    let pairs: Vec<String> = query
        .iter()
        .map(|(key, value)| format!("{key}={}", segment(value)))
        .collect();
    pairs.join("&")
}

pub(super) fn get(path: &str, accept: Option<&str>) -> Result<Request<Vec<u8>>, ClusterError> {
    let mut request = Request::get(path);
    if let Some(accept) = accept {
        request = request.header(header::ACCEPT, accept);
    }
    request.body(Vec::new()).map_err(|e| bad_request(&e))
}

fn bad_request(error: &http::Error) -> ClusterError {
    ClusterError::Rejected {
        code: 400,
        reason: "BadRequest".to_owned(),
        message: format!("request cannot be made: {error}"),
    }
}

fn patch(path: &str, content_type: &str, body: &Value) -> Result<Request<Vec<u8>>, ClusterError> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    Request::patch(path)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::ACCEPT, "application/json")
        .body(body)
        .map_err(|e| bad_request(&e))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// Reads one aggregated discovery document.
fn discovered(document: &Value, resources: &mut Vec<Resource>, failed: &mut Vec<String>) {
    let list = |value: &'_ Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    for group in list(document, "items") {
        let name = text(&group, "name").to_owned();
        for version in list(&group, "versions") {
            if version["freshness"].as_str() == Some("Stale") && !failed.contains(&name) {
                failed.push(name.clone());
            }
            for served in list(&version, "resources") {
                let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let kind = field(&served["responseKind"]["kind"]);
                let verbs = list(&served, "verbs");
                // Kinds that cannot be read back, such as reviews, are no objects to keep.
                if kind.is_empty() || !verbs.iter().any(|verb| verb == "get") {
                    continue;
                }
                resources.push(Resource {
                    group: name.clone(),
                    version: field(&version["version"]),
                    kind,
                    plural: field(&served["resource"]),
                    namespaced: served["scope"].as_str() == Some("Namespaced"),
                });
            }
        }
    }
}

#[async_trait]
impl Cluster for KubeCluster {
    fn acting_as(&self, account: &Account) -> Arc<dyn Cluster> {
        Arc::new(Self {
            client: self.client.clone(),
            account: account.clone(),
        })
    }

    async fn uid(&self) -> Result<String, ClusterError> {
        let namespace = self
            .call(get("/api/v1/namespaces/kube-system", None)?, None)
            .await?;
        Ok(text(&namespace, "uid").to_owned())
    }

    async fn version(&self) -> Result<String, ClusterError> {
        let version = self.call(get("/version", None)?, None).await?;
        Ok(version["gitVersion"].as_str().unwrap_or_default().to_owned())
    }

    async fn discover(&self) -> Result<Discovery, ClusterError> {
        let (mut resources, mut failed) = (Vec::new(), Vec::new());
        for path in ["/api", "/apis"] {
            let document = self.call(get(path, Some(AGGREGATED))?, None).await?;
            discovered(&document, &mut resources, &mut failed);
        }
        Ok(Discovery::new(resources, failed))
    }

    async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Value>, ClusterError> {
        let request = get(&path(resource, namespace, Some(name)), None)?;
        match self.call(request, Some(resource)).await {
            Ok(object) => Ok(Some(object)),
            Err(ClusterError::Rejected { code: 404, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    async fn list(&self, resource: &Resource, namespace: &str, token: &str) -> Result<Page, ClusterError> {
        let selector = Selector {
            namespace: namespace.to_owned(),
            ..Selector::default()
        };
        self.page(resource, &selector, METADATA_PAGE, token, Some(METADATA_LIST))
            .await
    }

    async fn apply(&self, resource: &Resource, object: &Value, dry_run: bool) -> Result<Value, ClusterError> {
        let target = path(resource, text(object, "namespace"), Some(text(object, "name")));
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        let target = format!("{target}?fieldManager={MANAGER}&force=true{dry_run}");
        self.call(
            patch(&target, "application/apply-patch+yaml", object)?,
            Some(resource),
        )
        .await
    }

    async fn patch_metadata(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        operations: &Value,
    ) -> Result<Value, ClusterError> {
        let target = format!("{}?fieldManager={MANAGER}", path(resource, namespace, Some(name)));
        self.call(
            patch(&target, "application/json-patch+json", operations)?,
            Some(resource),
        )
        .await
    }

    fn watch(
        &self,
        resource: &Resource,
        selector: &Selector,
    ) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
        watch::stream(self.clone(), resource.clone(), selector.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(group: &str, namespaced: bool) -> Resource {
        Resource {
            group: group.into(),
            version: "v1".into(),
            kind: "Thing".into(),
            plural: "things".into(),
            namespaced,
        }
    }

    #[test]
    fn paths_follow_group_and_scope_and_cannot_be_left() {
        let cases = [
            (
                resource("", true),
                "a",
                Some("x"),
                "/api/v1/namespaces/a/things/x",
            ),
            (
                resource("g.io", false),
                "",
                Some("system:x"),
                "/apis/g.io/v1/things/system:x",
            ),
            (resource("g.io", true), "", None, "/apis/g.io/v1/things"),
            (
                resource("", true),
                "a",
                Some("../x?y"),
                "/api/v1/namespaces/a/things/..%2Fx%3Fy",
            ),
            (
                resource("", true),
                "..",
                Some(".."),
                "/api/v1/namespaces/%2E%2E/things/%2E%2E",
            ),
        ];
        for (resource, namespace, name, expected) in cases {
            assert_eq!(path(&resource, namespace, name), expected);
        }
    }

    #[test]
    fn a_missing_object_differs_from_a_kind_that_is_not_served() {
        let missing = json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "x",
            "details": {"name": "x", "kind": "things"}});
        let unserved =
            json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "x", "details": {}});
        let things = resource("g.io", true);
        let judge = |body: &Value| {
            refusal(
                StatusCode::NOT_FOUND,
                None,
                body.to_string().as_bytes(),
                Some(&things),
            )
        };
        assert!(matches!(
            judge(&missing),
            ClusterError::Rejected { code: 404, .. }
        ));
        assert!(matches!(judge(&unserved), ClusterError::NotServed { .. }));
        assert!(matches!(
            refusal(StatusCode::NOT_FOUND, None, b"404 page not found", Some(&things)),
            ClusterError::NotServed { kind, api_version } if kind == "Thing" && api_version == "g.io/v1"
        ));
    }

    #[test]
    fn every_request_of_an_impersonated_account_names_it_and_none_of_a_bad_name_is_made() {
        let client = |name: &str| KubeCluster {
            client: Client::new(
                tower::service_fn(|_| std::future::pending::<Result<http::Response<Body>, http::Error>>()),
                "default",
            ),
            account: Account::ServiceAccount {
                namespace: "team".into(),
                name: name.into(),
            },
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let _entered = runtime.as_ref().map(tokio::runtime::Runtime::enter);
        let request = || get("/version", None).expect("it is well formed");
        let made = client("deployer").identified(request()).expect("it can be named");
        assert_eq!(made.headers()[IMPERSONATE], "system:serviceaccount:team:deployer");
        assert!(
            client("x\r\nimpersonate-group: system:masters")
                .identified(request())
                .is_err()
        );
    }

    #[test]
    fn an_overloaded_server_says_how_long() {
        assert_eq!(
            refusal(
                StatusCode::TOO_MANY_REQUESTS,
                Some(Duration::from_secs(3)),
                b"",
                None
            ),
            ClusterError::Overloaded {
                retry_after: Some(Duration::from_secs(3))
            }
        );
        assert!(refusal(StatusCode::BAD_GATEWAY, None, b"<html>", None).is_transient());
    }

    #[test]
    fn discovery_keeps_what_can_be_read_back_and_names_stale_groups() {
        let document = json!({"items": [
            {"metadata": {}, "versions": [{"version": "v1", "resources": [
                {"resource": "pods", "responseKind": {"kind": "Pod"}, "scope": "Namespaced", "verbs": ["get", "list"]},
                {"resource": "bindings", "responseKind": {"kind": "Binding"}, "scope": "Namespaced", "verbs": ["create"]},
            ]}]},
            {"metadata": {"name": "metrics.k8s.io"}, "versions": [{"version": "v1", "freshness": "Stale"}]},
        ]});
        let (mut resources, mut failed) = (Vec::new(), Vec::new());
        discovered(&document, &mut resources, &mut failed);
        let discovery = Discovery::new(resources, failed);
        assert!(matches!(discovery.find("v1", "Pod"), super::super::Served::Yes(pod) if pod.namespaced));
        assert_eq!(discovery.find("v1", "Binding"), super::super::Served::No);
        assert_eq!(discovery.find("v2", "Pod"), super::super::Served::OtherVersions);
        assert!(discovery.failed("metrics.k8s.io"));
    }
}
