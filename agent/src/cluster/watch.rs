//! The watch of one kind: a list, then its changes, for ever. Where the server streams lists that is one request
//! and no page is ever held; else pages of a hundred. Objects pass through and are not kept.
//!
//! A step takes a state and gives the next state with its events, so that the order is plain: `Listing`, objects,
//! `Listed`, then changes; a version that expired begins again with `Listing`.

use std::{collections::VecDeque, time::Duration};

use flotilla_core::digest::Digest;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kube::core::WatchEvent as RawEvent;
use serde_json::Value;

use crate::random::jittered;

use super::{
    ClusterError, Resource, Selector, WatchEvent,
    kube::{KubeCluster, METADATA_LIST, encode, error, path},
};

/// How long the server is asked to keep a watch. Differs by kind, so that renewals spread.
const LONGEST: u64 = 290;
/// Silence beyond the server's own end means a dead connection.
const GRACE: Duration = Duration::from_secs(10);
const PAGE: u32 = 100;
const BACKOFF: [u64; 6] = [1, 2, 5, 10, 20, 30];
/// Wait in seconds once the server has refused again and again.
const REFUSED: u64 = 300;

pub(super) type Events = BoxStream<'static, Result<RawEvent<Value>, kube::Error>>;

struct Watch {
    cluster: KubeCluster,
    resource: Resource,
    selector: Selector,
    timeout: u64,
    /// The server streams lists.
    streams_lists: bool,
    failures: usize,
    ready: VecDeque<Result<WatchEvent, ClusterError>>,
    state: State,
}

enum State {
    /// A list is to be made.
    Empty,
    /// Pages are being read.
    Paging { token: String },
    /// A streamed list is being read.
    Streaming { events: Events, version: String },
    /// Changes after this version are to be asked for.
    Listed { version: String },
    /// Changes are being read.
    Watching { events: Events, version: String },
    /// The kind is not served.
    Ended,
}

pub(super) fn stream(
    cluster: KubeCluster,
    resource: Resource,
    selector: Selector,
) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
    let spread = u64::from(Digest::of("watch", resource.plural.as_bytes()).as_bytes()[0]) % 50;
    let watch = Watch {
        cluster,
        resource,
        selector,
        timeout: LONGEST - spread,
        streams_lists: true,
        failures: 0,
        ready: VecDeque::new(),
        state: State::Empty,
    };
    stream::unfold(watch, |mut watch| async move {
        loop {
            if let Some(event) = watch.ready.pop_front() {
                return Some((event, watch));
            }
            if matches!(watch.state, State::Ended) {
                return None;
            }
            watch = watch.step().await;
        }
    })
    .boxed()
}

impl Watch {
    async fn step(mut self) -> Self {
        let state = std::mem::replace(&mut self.state, State::Empty);
        self.state = match state {
            State::Empty if self.streams_lists => self.open_list().await,
            State::Empty => {
                self.ready.push_back(Ok(WatchEvent::Listing));
                self.page(String::new()).await
            }
            State::Paging { token } => self.page(token).await,
            State::Streaming { events, version } => self.read_list(events, version).await,
            State::Listed { version } => self.open(version).await,
            State::Watching { events, version } => self.read(events, version).await,
            State::Ended => State::Ended,
        };
        self
    }

    async fn open_list(&mut self) -> State {
        let query = [
            ("sendInitialEvents", "true".to_owned()),
            ("resourceVersionMatch", "NotOlderThan".to_owned()),
        ];
        match self.events(&query).await {
            Ok(events) => {
                self.ready.push_back(Ok(WatchEvent::Listing));
                State::Streaming {
                    events,
                    version: String::new(),
                }
            }
            // Servers that do not stream lists call the parameters invalid.
            Err(ClusterError::Rejected { code: 400 | 422, .. }) => {
                self.streams_lists = false;
                State::Empty
            }
            Err(e) => self.failed(e, State::Empty).await,
        }
    }

    async fn page(&mut self, token: String) -> State {
        match self
            .cluster
            .page(
                &self.resource,
                &self.selector,
                PAGE,
                &token,
                self.selector.metadata_only.then_some(METADATA_LIST),
            )
            .await
        {
            Ok(page) => {
                for mut item in page.items {
                    self.set_type(&mut item);
                    self.ready.push_back(Ok(WatchEvent::Present(item)));
                }
                if page.next.is_empty() {
                    self.ready.push_back(Ok(WatchEvent::Listed));
                    State::Listed {
                        version: page.version,
                    }
                } else {
                    State::Paging { token: page.next }
                }
            }
            // 410: the continuation expired. The list begins again.
            Err(e) => self.failed(e, State::Empty).await,
        }
    }

    async fn read_list(&mut self, mut events: Events, version: String) -> State {
        match next(&mut events, self.timeout).await {
            Ok(Some(RawEvent::Added(object) | RawEvent::Modified(object))) => {
                let object = self.typed(object);
                self.ready.push_back(Ok(WatchEvent::Present(object)));
                State::Streaming { events, version }
            }
            Ok(Some(RawEvent::Deleted(object))) => {
                let object = self.typed(object);
                self.ready.push_back(Ok(WatchEvent::Gone(object)));
                State::Streaming { events, version }
            }
            Ok(Some(RawEvent::Bookmark(bookmark))) => {
                let version = bookmark.metadata.resource_version;
                if bookmark
                    .metadata
                    .annotations
                    .contains_key("k8s.io/initial-events-end")
                {
                    self.failures = 0;
                    self.ready.push_back(Ok(WatchEvent::Listed));
                    State::Watching { events, version }
                } else {
                    State::Streaming { events, version }
                }
            }
            Ok(Some(RawEvent::Error(status))) => {
                self.failed(
                    error(&kube::Error::Api(status), Some(&self.resource)),
                    State::Empty,
                )
                .await
            }
            Ok(None) => {
                self.failed(ClusterError::Unavailable("list was cut".into()), State::Empty)
                    .await
            }
            Err(e) => self.failed(e, State::Empty).await,
        }
    }

    async fn open(&mut self, version: String) -> State {
        match self.events(&[("resourceVersion", version.clone())]).await {
            Ok(events) => State::Watching { events, version },
            Err(ClusterError::Rejected { code: 410, .. }) => State::Empty,
            Err(e) => self.failed(e, State::Listed { version }).await,
        }
    }

    async fn read(&mut self, mut events: Events, version: String) -> State {
        let event = match next(&mut events, self.timeout).await {
            Ok(Some(RawEvent::Added(object) | RawEvent::Modified(object))) => {
                WatchEvent::Present(self.typed(object))
            }
            Ok(Some(RawEvent::Deleted(object))) => WatchEvent::Gone(self.typed(object)),
            Ok(Some(RawEvent::Bookmark(bookmark))) => {
                self.failures = 0;
                return State::Watching {
                    events,
                    version: bookmark.metadata.resource_version,
                };
            }
            Ok(Some(RawEvent::Error(status))) if status.code == 410 => return State::Empty,
            Ok(Some(RawEvent::Error(status))) => {
                return self
                    .failed(
                        error(&kube::Error::Api(status), Some(&self.resource)),
                        State::Listed { version },
                    )
                    .await;
            }
            // The server ended it as asked.
            Ok(None) => return State::Listed { version },
            Err(e) => return self.failed(e, State::Listed { version }).await,
        };
        self.failures = 0;
        let (WatchEvent::Present(object) | WatchEvent::Gone(object)) = &event else {
            return State::Empty;
        };
        let version = object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.ready.push_back(Ok(event));
        State::Watching { events, version }
    }

    /// Items of a list come without their type, and metadata alone with a type of its own.
    fn set_type(&self, object: &mut Value) {
        object["apiVersion"] = self.resource.api_version().into();
        object["kind"] = self.resource.kind.clone().into();
    }

    fn typed(&self, mut object: Value) -> Value {
        if self.selector.metadata_only {
            self.set_type(&mut object);
        }
        object
    }

    fn events(
        &self,
        query: &[(&str, String)],
    ) -> impl Future<Output = Result<Events, ClusterError>> + Send + 'static {
        let mut all = vec![
            ("watch", "true".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("timeoutSeconds", self.timeout.to_string()),
        ];
        if !self.selector.labels.is_empty() {
            all.push(("labelSelector", self.selector.labels.clone()));
        }
        all.extend(query.iter().cloned());
        let path = format!(
            "{}?{}",
            path(&self.resource, &self.selector.namespace, None),
            encode(&all)
        );
        let (cluster, resource) = (self.cluster.clone(), self.resource.clone());
        let metadata_only = self.selector.metadata_only;
        async move {
            let opened = cluster.open_watch(&resource, &path, metadata_only);
            match tokio::time::timeout(Duration::from_secs(30), opened).await {
                Ok(events) => events,
                Err(_) => Err(ClusterError::Unavailable("watch does not open".to_owned())),
            }
        }
    }

    /// Tells the failure, waits, and goes on from `next`.
    async fn failed(&mut self, error: ClusterError, next: State) -> State {
        if matches!(error, ClusterError::NotServed { .. }) {
            self.ready.push_back(Err(error));
            return State::Ended;
        }
        // The first failure is told nobody: connections break.
        if self.failures > 0 {
            self.ready.push_back(Err(error));
        }
        let mut wait = BACKOFF[self.failures.min(BACKOFF.len() - 1)];
        if self.failures >= BACKOFF.len()
            && matches!(self.ready.back(), Some(Err(error)) if is_refusal(error))
        {
            wait = REFUSED;
        }
        self.failures += 1;
        tokio::time::sleep(Duration::from_millis(100) + jittered(Duration::from_secs(wait))).await;
        next
    }
}

/// Rights that are missing are not given by asking for them.
fn is_refusal(error: &ClusterError) -> bool {
    matches!(error, ClusterError::Rejected { code: 401 | 403, .. })
}

async fn next(events: &mut Events, timeout: u64) -> Result<Option<RawEvent<Value>>, ClusterError> {
    match tokio::time::timeout(Duration::from_secs(timeout) + GRACE, events.next()).await {
        Ok(Some(Ok(event))) => Ok(Some(event)),
        Ok(Some(Err(e))) => Err(error(&e, None)),
        Ok(None) => Ok(None),
        Err(_) => Err(ClusterError::Unavailable("watch is silent".to_owned())),
    }
}

#[cfg(test)]
mod tests;
