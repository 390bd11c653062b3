//! A real cluster, through its API server. Every call has a deadline; retrying is the caller's, so kube's own is
//! off. Bodies are bounded, and no body is ever logged: it may be a Secret.

mod answer;
mod connect;
mod discover;
mod lines;
mod page;
mod request;
mod returns;
mod sizes;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes};
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Collected, Limited};
use kube::{Client, client::Body};
use serde_json::{Value, json};

pub use self::{
    answer::transport_text,
    connect::{ClientError, client},
};
use self::{
    answer::{cut, no_json, refusal, unsent},
    connect::Watches,
    discover::Known,
    request::{bad_request, get, with_body},
    returns::Returns,
    sizes::{Form, List, Sizes},
};
pub(super) use self::{
    lines::{Lines, RawEvent, What},
    request::{encode, path},
    returns::Return,
};
use super::{
    Account, Cluster, ClusterError, Deleted, Discovery, Page, Preconditions, Propagation, Resource, Selector,
    WatchEvent, watch,
};

/// Who we are in managed fields.
pub const MANAGER: &str = flotilla_core::apply::MANAGER;

/// Longest wait for one call: longer than an admission webhook may take, so that it is the server which tells.
const CALL: Duration = Duration::from_secs(40);
/// Bytes of an answer with one object.
const ANSWER_MAX: usize = 16 << 20;
/// Bytes of an answer that says why there is no other.
const STATUS_MAX: usize = 1 << 20;
/// Lists are asked for with this, and watches with the other.
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const JSON: &str = "application/json";
const IMPERSONATE: &str = "impersonate-user";

/// The API server of a cluster, asked as one account.
#[derive(Clone)]
pub struct KubeCluster {
    client: Client,
    account: Account,
    /// Watches live long: they are kept off the connection that calls use.
    watches: Watches,
    known: Arc<Mutex<Known>>,
    returns: Arc<Returns>,
    sizes: Sizes,
}

impl KubeCluster {
    /// Uses a client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            account: Account::Agent,
            watches: Watches::default(),
            known: Arc::default(),
            returns: Arc::default(),
            sizes: Sizes::default(),
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
    async fn exchange(
        &self,
        request: Request<Vec<u8>>,
        resource: Option<&Resource>,
        max: usize,
    ) -> Result<Answer, ClusterError> {
        let answer = self.answer(request, resource, max).await;
        self.returns.heard(&answer);
        answer
    }

    /// Returns what changes when a request is answered after one that was not.
    pub(super) fn back(&self) -> Return {
        self.returns.next()
    }

    async fn answer(
        &self,
        request: Request<Vec<u8>>,
        resource: Option<&Resource>,
        max: usize,
    ) -> Result<Answer, ClusterError> {
        let request = self.identified(request)?.map(Body::from);
        let exchange = async {
            let response = self.client.send(request).await.map_err(|e| unsent(&e))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, max).collect().await;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body: body.map_err(|e| cut(e.as_ref(), max))?,
            })
        };
        let answer = match tokio::time::timeout(CALL, exchange).await {
            Ok(answer) => answer?,
            Err(_) => {
                let seconds = CALL.as_secs();
                return Err(ClusterError::Unavailable(format!("nothing within {seconds} s")));
            }
        };
        if answer.status.is_success() || answer.status == StatusCode::NOT_MODIFIED {
            return Ok(answer);
        }
        let body = answer.body.to_bytes();
        Err(refusal(answer.status, &answer.headers, &body, resource))
    }

    /// Makes a request whose answer is an object.
    async fn call(
        &self,
        request: Request<Vec<u8>>,
        resource: Option<&Resource>,
    ) -> Result<Value, ClusterError> {
        let body = self
            .exchange(request, resource, ANSWER_MAX)
            .await?
            .body
            .to_bytes();
        serde_json::from_slice(&body).map_err(|e| no_json(&e))
    }

    /// Opens a watch.
    pub(super) async fn open_watch(
        &self,
        resource: &Resource,
        path: &str,
        metadata_only: bool,
    ) -> Result<Lines, ClusterError> {
        let opened = self.try_watch(resource, path, metadata_only).await;
        self.returns.heard(&opened);
        opened
    }

    async fn try_watch(
        &self,
        resource: &Resource,
        path: &str,
        metadata_only: bool,
    ) -> Result<Lines, ClusterError> {
        let request = get(path, metadata_only.then_some(METADATA))?;
        let (client, lease) = self.watches.client(&self.client);
        let request = self.identified(request)?.map(Body::from);
        let turn = lease.turn().await;
        let response = client.send(request).await;
        lease.stands(response.is_ok());
        drop(turn);
        let (head, body) = response.map_err(|e| unsent(&e))?.into_parts();
        if head.status.is_success() {
            return Ok(Lines::new(body, resource.clone(), lease));
        }
        let body = Limited::new(body, STATUS_MAX).collect().await;
        let body = body.map_err(|e| cut(e.as_ref(), STATUS_MAX))?.to_bytes();
        Err(refusal(head.status, &head.headers, &body, Some(resource)))
    }

    /// Reads one page of a list. A page of objects so large that the answer passes the limit is asked for again
    /// with half as many, and so are later pages and later lists of the same.
    pub(super) async fn page(
        &self,
        resource: &Resource,
        selector: &Selector,
        token: &str,
    ) -> Result<Page, ClusterError> {
        let form = match selector {
            Selector {
                without_managed_fields: true,
                ..
            } => Form::Lean,
            Selector {
                metadata_only: true, ..
            } => Form::Metadata,
            _ => Form::Whole,
        };
        let list = (path(resource, &selector.namespace, None), form);
        loop {
            let size = self.sizes.of(&list);
            // What is not less than one object is taken as it is.
            let max = match size {
                ..2 => ANSWER_MAX,
                _ => form.bytes(),
            };
            match self.page_of(resource, &list, selector, token, size, max).await {
                Err(ClusterError::TooLarge { .. }) if self.sizes.too_large(&list, size) => {}
                page => return page,
            }
        }
    }

    /// Returns the version of a collection now, of which one object is listed; `None` where it is not a number. Whichever
    /// object that is: the store would be read until one matches a selector.
    pub(super) async fn newest(
        &self,
        resource: &Resource,
        namespace: &str,
    ) -> Result<Option<u64>, ClusterError> {
        let path = path(resource, namespace, None);
        let request = get(&format!("{path}?limit=1"), Some(METADATA_LIST))?;
        let answer = self.exchange(request, Some(resource), ANSWER_MAX).await?;
        Ok(page::read(&answer.body.to_bytes())?.version.parse().ok())
    }

    async fn page_of(
        &self,
        resource: &Resource,
        list: &List,
        selector: &Selector,
        token: &str,
        size: u32,
        max: usize,
    ) -> Result<Page, ClusterError> {
        let mut query = vec![("limit", size.to_string())];
        if !selector.labels.is_empty() {
            query.push(("labelSelector", selector.labels.clone()));
        }
        query.extend(selector.fields());
        if !token.is_empty() {
            query.push(("continue", token.to_owned()));
        }
        let (path, form) = list;
        let path = format!("{path}?{}", encode(&query));
        let request = get(&path, selector.metadata_only.then_some(METADATA_LIST))?;
        let body = self.exchange(request, Some(resource), max).await?.body;
        let (mut page, bytes) = match form {
            Form::Lean => {
                let body = body.aggregate();
                let bytes = body.remaining();
                (page::read_lean(body.reader())?, bytes)
            }
            Form::Whole | Form::Metadata => {
                let body = body.to_bytes();
                (page::read(&body)?, body.len())
            }
        };
        if u32::try_from(page.items.len()) == Ok(size) {
            self.sizes.took(list, size, bytes);
        }
        for item in &mut page.items {
            // Items of a list come without their type, and metadata alone with a type of its own.
            set_type(item, resource);
        }
        Ok(page)
    }
}

/// An answer, its body in pieces as they came.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Collected<Bytes>,
}

/// Gives an object the type of a resource.
pub(super) fn set_type(object: &mut Value, resource: &Resource) {
    object["apiVersion"] = resource.api_version().into();
    object["kind"] = resource.kind.clone().into();
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

#[async_trait]
impl Cluster for KubeCluster {
    fn acting_as(&self, account: &Account) -> Arc<dyn Cluster> {
        Arc::new(Self {
            account: account.clone(),
            ..self.clone()
        })
    }

    async fn uid(&self) -> Result<String, ClusterError> {
        let namespace = self
            .call(get("/api/v1/namespaces/kube-system", None)?, None)
            .await?;
        match text(&namespace, "uid") {
            // Whatever was taken for the cluster's name would be kept: such an answer is none of the server itself.
            "" => Err(ClusterError::Unavailable(
                "it says no UID of the namespace kube-system".to_owned(),
            )),
            uid => Ok(uid.to_owned()),
        }
    }

    async fn version(&self) -> Result<String, ClusterError> {
        let version = self.call(get("/version", None)?, None).await?;
        Ok(version["gitVersion"].as_str().unwrap_or_default().to_owned())
    }

    async fn discover(&self) -> Result<Discovery, ClusterError> {
        self.discovered().await
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

    async fn list_selected(
        &self,
        resource: &Resource,
        selector: &Selector,
        token: &str,
    ) -> Result<Page, ClusterError> {
        self.page(resource, selector, token).await
    }

    async fn create(&self, resource: &Resource, object: &Value) -> Result<Value, ClusterError> {
        let target = path(resource, text(object, "namespace"), None);
        let target = format!("{target}?fieldManager={MANAGER}");
        self.call(with_body(Method::POST, &target, JSON, object)?, Some(resource))
            .await
    }

    async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        preconditions: &Preconditions,
        propagation: Propagation,
    ) -> Result<Deleted, ClusterError> {
        let options = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation.as_str(),
            "preconditions": {"uid": preconditions.uid, "resourceVersion": preconditions.resource_version},
        });
        let target = path(resource, namespace, Some(name));
        let request = with_body(Method::DELETE, &target, JSON, &options)?;
        match self.call(request, Some(resource)).await {
            // The server answers with a Status when the object is gone, and with the object when it has to wait.
            Ok(answer) if answer["kind"] == "Status" => Ok(Deleted::Gone),
            Ok(object) => Ok(Deleted::Waits(Box::new(object))),
            Err(ClusterError::Rejected { code: 404, .. }) => Ok(Deleted::Gone),
            Err(e) => Err(e),
        }
    }

    async fn apply(&self, resource: &Resource, object: &Value, dry_run: bool) -> Result<Value, ClusterError> {
        let target = path(resource, text(object, "namespace"), Some(text(object, "name")));
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        let target = format!("{target}?fieldManager={MANAGER}&force=true{dry_run}");
        self.call(
            with_body(Method::PATCH, &target, "application/apply-patch+yaml", object)?,
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
            with_body(Method::PATCH, &target, "application/json-patch+json", operations)?,
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

    use super::*;

    #[tokio::test]
    async fn a_cluster_that_does_not_say_which_it_is_is_asked_again_and_not_taken_at_its_word() {
        for (answer, uid) in [
            (r#"{"metadata": {"uid": "one"}}"#, Some("one")),
            (r#"{"metadata": {"uid": ""}}"#, None),
            (r#"{"metadata": {}}"#, None),
        ] {
            let answering = tower::service_fn(move |_: Request<Body>| {
                std::future::ready(http::Response::builder().body(Body::from(answer.as_bytes().to_vec())))
            });
            let asked = KubeCluster::new(Client::new(answering, "default")).uid().await;
            match uid {
                Some(uid) => assert_eq!(asked.as_deref(), Ok(uid)),
                None => assert!(matches!(asked, Err(ClusterError::Unavailable(_))), "{asked:?}"),
            }
        }
    }

    #[tokio::test]
    async fn every_request_of_an_impersonated_account_names_it_and_none_of_a_bad_name_is_made() {
        let client = |name: &str| KubeCluster {
            account: Account::ServiceAccount {
                namespace: "team".into(),
                name: name.into(),
            },
            ..KubeCluster::new(Client::new(
                tower::service_fn(|_| std::future::pending::<Result<http::Response<Body>, http::Error>>()),
                "default",
            ))
        };
        let request = || get("/version", None).expect("it is well formed");
        let made = client("deployer").identified(request()).expect("it can be named");
        assert_eq!(made.headers()[IMPERSONATE], "system:serviceaccount:team:deployer");
        assert!(
            client("x\r\nimpersonate-group: system:masters")
                .identified(request())
                .is_err()
        );
    }
}
