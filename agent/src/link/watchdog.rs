//! Whether the API server answers, told to the hub. A frozen server keeps its connections open, and its watches are
//! silent as those of a quiet one are; nothing that the agent waits for anyway would tell the two apart. So one small
//! request every half minute asks for the version: this is the one thing that turns in a settled agent.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flotilla_core::clock::Clock;
use flotilla_proto::agent::v1::ClusterConditionKind;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Cluster, ClusterError},
    report::Reports,
};

/// Between two requests. With the time to answer and the second try it stays below a minute until silence is told.
pub const EVERY: Duration = Duration::from_secs(25);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Before the second try: one lost answer is no silence.
const AGAIN: Duration = Duration::from_secs(2);

/// Asks the API server something small.
pub type Probe = Box<dyn Fn() -> BoxFuture<'static, Result<String, ClusterError>> + Send + Sync>;

/// The version of Kubernetes that the API server has told last: it is upgraded under a running agent.
#[derive(Debug, Clone, Default)]
pub struct KubeVersion(Arc<Mutex<String>>);

impl KubeVersion {
    /// The version.
    pub fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what the server says.
    pub fn set(&self, version: &str) {
        version.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Returns the request that is made; what it tells goes to `known`.
pub fn probe(cluster: Arc<dyn Cluster>, known: KubeVersion) -> Probe {
    Box::new(move || {
        let (cluster, known) = (cluster.clone(), known.clone());
        async move {
            let version = cluster.version().await;
            if let Ok(version) = &version {
                known.set(version);
            }
            version
        }
        .boxed()
    })
}

/// How the API server stands: why it does not answer; `None`: it does.
pub type ApiServerState = Option<String>;

/// Shares how the API server stands.
pub fn api_server_state() -> (watch::Sender<ApiServerState>, watch::Receiver<ApiServerState>) {
    watch::channel(None)
}

/// Watches until told to stop. Each turn is reported, and shown in `state`.
pub async fn run(
    probe: Probe,
    reports: Arc<Reports>,
    state: watch::Sender<ApiServerState>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let watch = async {
        loop {
            let mut outcome = ask(&probe).await;
            if outcome.is_err() {
                tokio::time::sleep(AGAIN).await;
                outcome = ask(&probe).await;
            }
            let problem = outcome.err();
            let message = problem.clone().unwrap_or_default();
            let kind = ClusterConditionKind::ApiServer;
            reports.condition(kind, problem.is_none(), message, clock.now());
            state.send_replace(problem);
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch => {}
    }
}

/// An answer is a sign of life: a server that has too much to do at the moment has answered. One that does not know
/// the agent answers to no purpose.
async fn ask(probe: &Probe) -> Result<(), String> {
    let silent = |why: String| {
        format!("{why}; nothing is applied or corrected; look at kube-apiserver and etcd of this cluster")
    };
    match tokio::time::timeout(ANSWER, probe()).await {
        Ok(Err(e @ ClusterError::Unavailable(_))) => Err(silent(e.to_string())),
        Ok(Err(ClusterError::Rejected { code: 401, .. })) => Err(
            "the API server refuses the agent's credentials (401): nothing is applied or corrected; look whether the \
             agent's ServiceAccount is there, or renew the user of its kubeconfig"
                .to_owned(),
        ),
        Ok(_) => Ok(()),
        Err(_) => Err(silent(
            ClusterError::Unavailable(format!("nothing within {} s", ANSWER.as_secs())).to_string(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use flotilla_proto::agent::v1::ClusterCondition;

    use super::*;
    use crate::{cluster::fake::Fake, logs::Logs, sim::SimClock};

    /// Waits for the next report, and acknowledges it.
    async fn told(reports: &Reports) -> Vec<ClusterCondition> {
        loop {
            if let Some(report) = reports.next(1) {
                reports.ack(report.seq);
                return report.conditions;
            }
            reports.changed().await;
        }
    }

    struct Watched {
        frozen: Arc<AtomicBool>,
        reports: Arc<Reports>,
        state: watch::Receiver<ApiServerState>,
        _stop: tokio_util::sync::DropGuard,
    }

    /// Watches a server that answers as `answer` does, and not at all while it is frozen.
    fn watched(answer: Probe) -> Watched {
        let frozen = Arc::new(AtomicBool::new(false));
        let is_frozen = frozen.clone();
        let probe: Probe = Box::new(move || match is_frozen.load(Ordering::Relaxed) {
            true => std::future::pending().boxed(),
            false => answer(),
        });
        let (reports, stop) = (Arc::new(Reports::default()), CancellationToken::new());
        let (state_tx, state) = api_server_state();
        let clock: Arc<dyn Clock> = Arc::new(SimClock::default());
        tokio::spawn(run(probe, reports.clone(), state_tx, clock, stop.clone()));
        Watched {
            frozen,
            reports,
            state,
            _stop: stop.drop_guard(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_server_is_told_within_a_minute_and_when_it_is_back() {
        let logs = Logs::collect();
        let world = watched(probe(Arc::new(Fake::new()), KubeVersion::default()));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(world.reports.next(1), None, "a server that answers is no news");
        world.frozen.store(true, Ordering::Relaxed);
        let begun = tokio::time::Instant::now();
        let conditions = told(&world.reports).await;
        assert!(
            begun.elapsed() <= Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!((conditions.len(), conditions[0].ok), (1, false));
        assert_eq!(
            conditions[0].message,
            "the API server does not answer: nothing within 10 s; nothing is applied or corrected; look at \
             kube-apiserver and etcd of this cluster"
        );
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(world.reports.next(1), None, "told once");
        assert_eq!(*world.state.borrow(), Some(conditions[0].message.clone()));
        world.frozen.store(false, Ordering::Relaxed);
        let begun = tokio::time::Instant::now();
        assert!(told(&world.reports).await[0].ok);
        assert!(
            begun.elapsed() <= Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*world.state.borrow(), None);
        let lines = logs.with("API server");
        assert!(
            lines.len() == 2 && lines[0].starts_with("WARN") && lines[1].starts_with("INFO"),
            "{lines:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_know_the_agent_is_told_and_one_that_is_busy_is_not() {
        let answering = |error: ClusterError| -> Probe {
            Box::new(move || std::future::ready(Err(error.clone())).boxed())
        };
        let busy = watched(answering(ClusterError::Overloaded { retry_after: None }));
        let unknown = watched(answering(ClusterError::Rejected {
            code: 401,
            reason: "Unauthorized".to_owned(),
            message: "Unauthorized".to_owned(),
        }));
        let conditions = told(&unknown.reports).await;
        assert!(
            !conditions[0].ok && conditions[0].message.contains("ServiceAccount"),
            "{}",
            conditions[0].message
        );
        assert_eq!(busy.reports.next(1), None);
    }
}
