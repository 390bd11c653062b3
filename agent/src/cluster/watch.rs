//! The watch of one kind: a list, then its changes, for ever. Where the server streams lists that is one request
//! and no page is ever held; else pages of a hundred. Objects pass through and are not kept. Some aggregated API servers
//! take the request for a streamed list and never say that the list is complete: they are found out by that.
//!
//! A step takes a state and gives the next state with its events, so that the order is plain: `Listing`, objects,
//! `Listed`, then changes; a version that expired begins again with `Listing`. Nothing is asked of a list before the event
//! after `Listing` is awaited.
//!
//! A store that was put back to an earlier state is silent to whoever watches from a version that it has not reached.
//! So before a watch goes on from its version after a failure, a list of one object tells whether the server is there.

use std::{collections::VecDeque, time::Duration};

use flotilla_core::backoff::Backoff;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use serde_json::Value;
use tokio::time::Instant;

use crate::random::random;

use super::{
    ClusterError, Resource, Selector, WatchEvent,
    kube::{KubeCluster, Lines, RawEvent, Return, What, encode, path, set_type},
};

/// How long the server is asked to keep a watch, at most, in seconds; pings tell a dead connection long before. Differs by
/// kind and renewal, so that renewals spread: by up to this.
const LONGEST: u64 = 1800;
const SPREAD: u64 = 600;
/// Silence beyond the server's own end means a dead connection.
const GRACE: Duration = Duration::from_secs(10);
/// A streamed list is not silent: its objects are there, and the server waits three seconds at most for its own cache.
const LIST_SILENCE: Duration = Duration::from_secs(10);
/// A streamed list that is not complete by then is none, whatever changes it goes on to bring.
const LIST_LONGEST: Duration = Duration::from_secs(600);
/// For so long lists are asked for in pages after one that came as a stream and was not complete: a server may have been
/// slow.
const PAGED: Duration = Duration::from_secs(3600);
const OPENING: Duration = Duration::from_secs(30);
/// A watch that ends sooner was not kept: it is opened again with a pause.
const BRIEF: Duration = Duration::from_secs(5);
/// The shortest pause, whatever is drawn.
const PAUSE: Duration = Duration::from_millis(100);
/// All watches open within these milliseconds of the server's return.
const RETURN: u64 = 1000;
const BROKEN: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(30),
};
/// Rights that are missing are not given by asking for them, nor do objects shrink, nor can a kind without lists be listed.
const REFUSED: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(300),
};

struct Watch {
    cluster: KubeCluster,
    resource: Resource,
    selector: Selector,
    timeout: u64,
    lists: Lists,
    /// Tries in a row that have failed.
    failures: u32,
    /// It tries again since the server was back.
    was_woken: bool,
    /// The newest version that was told.
    newest: Option<u64>,
    /// The server was away, or failed: its store may have been put back to an earlier state meanwhile.
    is_doubtful: bool,
    /// It was told that changes are refused: once they are not, a list tells so.
    is_refused: bool,
    ready: VecDeque<Result<WatchEvent, ClusterError>>,
    state: State,
}

/// How lists are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    /// As streams.
    Streamed,
    /// In pages, since the last stream did not end as a list does. If they come, it is the kind's server that cannot
    /// stream lists; if nothing does, it was away.
    Doubted,
    /// In pages, as those after a doubted stream have come: the kind's server does not stream lists, or was slow. The first
    /// list after this time is asked for as a stream again.
    PagedUntil(Instant),
    /// In pages: the kind's server says that it does not stream lists.
    Paged,
}

enum State {
    /// A list is to be made, and is announced: whoever listens decides when by asking for the next event.
    Empty,
    /// A list was announced.
    Announced,
    /// Waiting after a failure; not for longer than the server is away, where that is known.
    Waiting {
        until: Instant,
        back: Option<Return>,
        next: Box<State>,
    },
    /// Pages are being read.
    Paging { token: String },
    /// A streamed list is being read.
    Streaming { events: Box<Lines>, since: Instant },
    /// Changes after this version are to be asked for.
    Listed { version: String },
    /// Changes are being read.
    Watching {
        events: Box<Lines>,
        version: String,
        since: Instant,
    },
    /// The kind is not served.
    Ended,
}

pub(super) fn stream(
    cluster: KubeCluster,
    resource: Resource,
    selector: Selector,
) -> BoxStream<'static, Result<WatchEvent, ClusterError>> {
    let watch = Watch {
        cluster,
        resource,
        selector,
        timeout: LONGEST,
        lists: Lists::Streamed,
        failures: 0,
        was_woken: false,
        newest: None,
        is_doubtful: false,
        is_refused: false,
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
            State::Empty => {
                self.is_refused = false;
                if matches!(self.lists, Lists::PagedUntil(until) if until <= Instant::now()) {
                    self.lists = Lists::Streamed;
                }
                self.ready.push_back(Ok(WatchEvent::Listing));
                State::Announced
            }
            State::Announced if self.lists == Lists::Streamed => self.open_list().await,
            State::Announced => self.page(String::new()).await,
            State::Waiting { until, back, next } => {
                self.was_woken = wait(until, back).await;
                *next
            }
            State::Paging { token } => self.page(token).await,
            State::Streaming { events, since } => self.read_list(events, since).await,
            State::Listed { version } => self.open(version).await,
            State::Watching {
                events,
                version,
                since,
            } => self.read(events, version, since).await,
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
            Ok(events) => State::Streaming {
                events,
                since: Instant::now(),
            },
            // Servers that do not stream lists call the parameters invalid.
            Err(ClusterError::Rejected { code: 400 | 422, .. }) => {
                self.lists = Lists::Paged;
                State::Announced
            }
            Err(e) => self.failed(e, State::Empty),
        }
    }

    async fn page(&mut self, token: String) -> State {
        let page = self.cluster.page(&self.resource, &self.selector, &token).await;
        match page {
            Ok(page) => {
                let objects = page.items.into_iter();
                self.ready
                    .extend(objects.map(|object| Ok(WatchEvent::Present(object))));
                if page.next.is_empty() {
                    self.failures = 0;
                    if self.lists == Lists::Doubted {
                        self.lists = Lists::PagedUntil(Instant::now() + PAGED);
                    }
                    match self.listed(&page.version) {
                        true => State::Listed {
                            version: page.version,
                        },
                        false => State::Empty,
                    }
                } else {
                    State::Paging { token: page.next }
                }
            }
            // 410: the continuation expired. The list begins again.
            Err(e) => {
                let has_no_answer =
                    matches!(e, ClusterError::Unavailable(_) | ClusterError::Overloaded { .. });
                if self.lists == Lists::Doubted && has_no_answer {
                    self.lists = Lists::Streamed;
                }
                self.failed(e, State::Empty)
            }
        }
    }

    async fn read_list(&mut self, mut events: Box<Lines>, since: Instant) -> State {
        let silence = LIST_SILENCE.min(LIST_LONGEST.saturating_sub(since.elapsed()));
        let event = match tokio::time::timeout(silence, events.next()).await {
            Ok(Ok(Some(event))) => event,
            // Once is what a server does that stops.
            Ok(Ok(None)) if self.failures == 0 => {
                let cut = ClusterError::Unavailable("list was cut".to_owned());
                return self.failed(cut, State::Empty);
            }
            Ok(Ok(None)) | Err(_) => return self.doubt(),
            Ok(Err(e)) => return self.failed(e, State::Empty),
        };
        match event.what {
            What::Bookmark => {
                let ends = event.object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
                if ends {
                    self.failures = 0;
                    let version = version(&event.object);
                    return match self.listed(&version) {
                        true => State::Watching {
                            events,
                            version,
                            since: Instant::now(),
                        },
                        false => State::Empty,
                    };
                }
                // Before the list is complete no other mark is sent.
                return self.doubt();
            }
            _ => self.tell(event),
        }
        State::Streaming { events, since }
    }

    /// Begins the list again in pages. What the stream has brought so far may be gone since, so it is a new list.
    fn doubt(&mut self) -> State {
        tracing::debug!(
            group = self.resource.group,
            kind = self.resource.kind,
            "a streamed list is not ended; listing in pages"
        );
        self.lists = Lists::Doubted;
        State::Empty
    }

    /// Tells that a list is complete. Returns whether it is to be believed: what it showed was taken for older than what
    /// is known where the store was put back to an earlier state, and it is made again.
    fn listed(&mut self, version: &str) -> bool {
        let version = version.parse().ok();
        self.is_doubtful = false;
        if self.is_behind(version) {
            self.went_back();
            return false;
        }
        self.note(version);
        self.ready.push_back(Ok(WatchEvent::Listed(version)));
        true
    }

    fn is_behind(&self, version: Option<u64>) -> bool {
        matches!((version, self.newest), (Some(now), Some(newest)) if now < newest)
    }

    fn note(&mut self, version: Option<u64>) {
        self.newest = self.newest.max(version);
    }

    fn went_back(&mut self) {
        self.newest = None;
        self.ready.push_back(Ok(WatchEvent::WentBack));
    }

    async fn open(&mut self, version: String) -> State {
        if self.is_doubtful {
            match self
                .cluster
                .newest(&self.resource, &self.selector.namespace)
                .await
            {
                Ok(now) if self.is_behind(now) => {
                    self.is_doubtful = false;
                    self.went_back();
                    return State::Empty;
                }
                // Who may not list any more may watch all the same. A server that fails has not looked.
                Ok(_) | Err(ClusterError::Rejected { code: 400..=499, .. }) => self.is_doubtful = false,
                Err(e) => return self.failed(e, State::Listed { version }),
            }
        }
        match self.events(&[("resourceVersion", version.clone())]).await {
            Ok(_) if self.is_refused => State::Empty,
            Ok(events) => State::Watching {
                events,
                version,
                since: Instant::now(),
            },
            Err(ClusterError::Rejected { code: 410, .. }) => State::Empty,
            Err(e) => self.failed(e, State::Listed { version }),
        }
    }

    async fn read(&mut self, mut events: Box<Lines>, version: String, since: Instant) -> State {
        let silence = Duration::from_secs(self.timeout) + GRACE;
        let event = match next(&mut events, silence).await {
            Ok(Some(event)) => event,
            // Told nobody, and a pause all the same: a server whose versions expire at once would be listed
            // without end.
            Err(ClusterError::Rejected { code: 410, .. }) => return self.pause(since, State::Empty).await,
            // The server ended it as asked.
            Ok(None) => return self.pause(since, State::Listed { version }).await,
            Err(e) => return self.failed(e, State::Listed { version }),
        };
        if since.elapsed() >= BRIEF {
            self.failures = 0;
        }
        let version = self::version(&event.object);
        self.note(version.parse().ok());
        if event.what != What::Bookmark {
            self.tell(event);
        }
        State::Watching {
            events,
            version,
            since,
        }
    }

    /// Passes an event about an object on.
    fn tell(&mut self, event: RawEvent) {
        let mut object = event.object;
        if self.selector.metadata_only {
            set_type(&mut object, &self.resource);
        }
        self.ready.push_back(Ok(match event.what {
            What::Deleted => WatchEvent::Gone(object),
            _ => WatchEvent::Present(object),
        }));
    }

    async fn events(&mut self, query: &[(&str, String)]) -> Result<Box<Lines>, ClusterError> {
        self.timeout = LONGEST - random() % SPREAD;
        let mut all = vec![
            ("watch", "true".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("timeoutSeconds", self.timeout.to_string()),
        ];
        if !self.selector.labels.is_empty() {
            all.push(("labelSelector", self.selector.labels.clone()));
        }
        all.extend(self.selector.fields());
        all.extend(query.iter().cloned());
        let path = path(&self.resource, &self.selector.namespace, None);
        let path = format!("{path}?{}", encode(&all));
        let opened = self
            .cluster
            .open_watch(&self.resource, &path, self.selector.metadata_only);
        match tokio::time::timeout(OPENING, opened).await {
            Ok(events) => events.map(Box::new),
            Err(_) => Err(ClusterError::Unavailable("watch does not open".to_owned())),
        }
    }

    /// Goes on from `next`, after a pause if the watch that was opened `since` ended soon.
    async fn pause(&mut self, since: Instant, next: State) -> State {
        if since.elapsed() >= BRIEF {
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            tokio::time::sleep(PAUSE + BROKEN.delay(self.failures, random())).await;
        }
        next
    }

    /// Tells the failure, waits, and goes on from `next`.
    fn failed(&mut self, error: ClusterError, next: State) -> State {
        self.failures = self.failures.saturating_add(1);
        // A server may be back before its store is, and a proxy answers for one that is away.
        self.is_doubtful |= matches!(
            error,
            ClusterError::Unavailable(_)
                | ClusterError::Overloaded { .. }
                | ClusterError::Rejected { code: 500.., .. }
        );
        // Who was woken and fails again waits its time: what it asks may be away by itself, an aggregated API say.
        let is_away = matches!(error, ClusterError::Unavailable(_)) && !self.was_woken;
        let back = is_away.then(|| self.cluster.back());
        let (backoff, asked_to_wait) = match &error {
            ClusterError::NotServed { .. } => {
                self.ready.push_back(Err(error));
                return State::Ended;
            }
            error if error.is_lasting() => (REFUSED, Duration::ZERO),
            ClusterError::Overloaded { retry_after } => (BROKEN, retry_after.unwrap_or_default()),
            _ => (BROKEN, Duration::ZERO),
        };
        let is_told = self.failures >= told_from(&error);
        // Whoever was told of a refusal hears of its end by the list that follows: a watch that goes on says nothing.
        // A list in pages is another request, which may be allowed where changes are not: it follows once they are.
        let next = match next {
            _ if !is_told || !matches!(error, ClusterError::Rejected { .. }) => next,
            // Whom the server does not know it does not know anywhere: nothing is said of this watch.
            _ if matches!(error, ClusterError::Rejected { code: 401, .. }) => next,
            State::Listed { .. } if self.lists != Lists::Streamed => {
                self.is_refused = true;
                next
            }
            _ => State::Empty,
        };
        if is_told {
            self.ready.push_back(Err(error));
        }
        let wait = PAUSE + backoff.delay(self.failures, random());
        State::Waiting {
            back,
            until: Instant::now() + wait.max(asked_to_wait.min(REFUSED.cap)),
            next: Box::new(next),
        }
    }
}

/// How many failures in a row it takes until one is told.
const fn told_from(error: &ClusterError) -> u32 {
    match error {
        // A server that has too much to do says so to all.
        ClusterError::Overloaded { .. } => 1,
        // A page whose token expired, a webhook that starts: what passes within seconds is nobody's business.
        ClusterError::Rejected {
            code: 410 | 500.., ..
        } => 5,
        // Connections break.
        _ => 2,
    }
}

/// Waits, or until the server is back: then all watches begin within a moment, and not in the same one.
/// Tells whether the server is back.
async fn wait(until: Instant, back: Option<Return>) -> bool {
    let returns = async {
        // The sender lives as long as the cluster, which the watch has.
        if let Some(mut back) = back
            && back.changed().await.is_ok()
        {
            return tokio::time::sleep(Duration::from_millis(random() % RETURN)).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        () = tokio::time::sleep_until(until) => false,
        () = returns => true,
    }
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn next(events: &mut Lines, silence: Duration) -> Result<Option<RawEvent>, ClusterError> {
    match tokio::time::timeout(silence, events.next()).await {
        Ok(event) => event,
        Err(_) => Err(ClusterError::Unavailable("watch is silent".to_owned())),
    }
}

#[cfg(test)]
mod tests;
