//! Whether the API server answers, told to the hub. A frozen server keeps its connections open, and its watches are
//! silent as those of a quiet one are; nothing that the agent waits for anyway would tell the two apart. So one small
//! request every half minute asks for the version: this is the one thing that turns in a settled agent.

use std::{sync::Arc, time::Duration};

use flotilla_core::clock::Clock;
use flotilla_proto::agent::v1::ClusterConditionKind;
use futures::{FutureExt as _, future::BoxFuture};
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

/// Returns the request that is made.
pub fn probe(cluster: Arc<dyn Cluster>) -> Probe {
    Box::new(move || {
        let cluster = cluster.clone();
        async move { cluster.version().await }.boxed()
    })
}

/// Watches until told to stop.
pub async fn run(probe: Probe, reports: Arc<Reports>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let watch = async {
        loop {
            tokio::time::sleep(EVERY).await;
            let mut outcome = ask(&probe).await;
            if outcome.is_err() {
                tokio::time::sleep(AGAIN).await;
                outcome = ask(&probe).await;
            }
            let message = outcome.as_ref().err().map_or_else(String::new, |why| {
                format!("{why}; nothing is applied or corrected")
            });
            reports.condition(
                ClusterConditionKind::ApiServer,
                outcome.is_ok(),
                message,
                clock.now(),
            );
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch => {}
    }
}

/// An answer of any kind is a sign of life: one that is refused, or too much at the moment, has answered.
async fn ask(probe: &Probe) -> Result<(), String> {
    match tokio::time::timeout(ANSWER, probe()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(e @ ClusterError::Unavailable(_))) => Err(e.to_string()),
        Ok(Err(_)) => Ok(()),
        Err(_) => Err(format!(
            "the API server does not answer: nothing within {} s",
            ANSWER.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use flotilla_proto::agent::v1::ClusterCondition;

    use super::*;
    use crate::{cluster::fake::Fake, sim::SimClock};

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

    #[tokio::test(start_paused = true)]
    async fn a_frozen_server_is_told_within_a_minute_and_when_it_is_back() {
        let frozen = Arc::new(AtomicBool::new(false));
        let (is_frozen, answering) = (frozen.clone(), probe(Arc::new(Fake::new())));
        let probe: Probe = Box::new(move || match is_frozen.load(Ordering::Relaxed) {
            true => std::future::pending().boxed(),
            false => answering(),
        });
        let reports = Arc::new(Reports::default());
        let stop = CancellationToken::new();
        let clock: Arc<dyn Clock> = Arc::new(SimClock::default());
        tokio::spawn(run(probe, reports.clone(), clock, stop.clone()));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(reports.next(1), None, "a server that answers is no news");
        frozen.store(true, Ordering::Relaxed);
        let begun = tokio::time::Instant::now();
        let conditions = told(&reports).await;
        assert!(
            begun.elapsed() <= Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!((conditions.len(), conditions[0].ok), (1, false));
        assert!(
            conditions[0].message.contains("does not answer"),
            "{}",
            conditions[0].message
        );
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(reports.next(1), None, "told once");
        frozen.store(false, Ordering::Relaxed);
        let begun = tokio::time::Instant::now();
        assert!(told(&reports).await[0].ok);
        assert!(
            begun.elapsed() <= Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
    }
}
