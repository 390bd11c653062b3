//! One probe for all who ask at the same time: sources with the same URL, credential, CA and reference share the
//! answer of the request that is under way. Nothing is kept after it has come, so no answer is ever stale.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _, Shared};

use super::{GitError, Prober, Reference, Remote, RemoteKey, Resolved, discovery::within};

/// Bound of a shared request; each asker's own timeout is shorter or ends here.
const TIMEOUT: Duration = Duration::from_secs(60);

type Answer = Shared<BoxFuture<'static, Result<Resolved, GitError>>>;
type Flights = Arc<Mutex<HashMap<(RemoteKey, Reference), Answer>>>;

/// Probes under way. Cheap to clone.
#[derive(Clone)]
pub struct ProbeShare {
    prober: Prober,
    key: [u8; 32],
    flights: Flights,
}

impl ProbeShare {
    /// Shares the requests of `prober`. `key` belongs to this hub, see [`Remote::key`].
    pub fn new(prober: Prober, key: [u8; 32]) -> Self {
        Self {
            prober,
            key,
            flights: Arc::default(),
        }
    }

    /// Resolves `reference`, joining a request that is under way for the same remote and reference.
    pub async fn probe(
        &self,
        remote: &Remote,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<Resolved, GitError> {
        Box::pin(within(remote, timeout, self.join(remote, reference))).await
    }

    fn join(&self, remote: &Remote, reference: &Reference) -> Answer {
        let key = (remote.key(&self.key), reference.clone());
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = flights.get(&key) {
            return answer.clone();
        }
        let answer = self.start(key.clone(), remote.clone());
        flights.insert(key, answer.clone());
        answer
    }

    /// Runs the request as a task of its own, so that it goes on when the asker that began it gives up.
    fn start(&self, key: (RemoteKey, Reference), remote: Remote) -> Answer {
        let landing = Landing {
            key,
            flights: Arc::clone(&self.flights),
        };
        let (prober, url) = (self.prober.clone(), remote.shown());
        let task = tokio::spawn(async move {
            let reference = &landing.key.1;
            let answer = prober.probe(&remote, reference, TIMEOUT).await;
            drop(landing);
            answer
        });
        let joined = async move {
            let lost = |_| GitError::Local {
                url,
                detail: "the probe was cut short".into(),
            };
            task.await.map_err(lost).and_then(|answer| answer)
        };
        joined.boxed().shared()
    }
}

/// Ends the sharing when the request ends, however it does.
struct Landing {
    key: (RemoteKey, Reference),
    flights: Flights,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}
