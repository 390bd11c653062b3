//! Tells the hub how the ledger stands, in one condition: what storage says, and what could not be held of new state.

use std::sync::{Arc, Mutex, PoisonError};

use flotilla_core::clock::Clock;
use flotilla_proto::agent::v1::ClusterConditionKind;
use tokio::sync::watch;

use crate::{
    ledger::{
        VOLUME,
        health::{HealthState, LedgerHealth},
    },
    metrics::Metrics,
    report::Reports,
};

#[derive(Debug, Default)]
struct Said {
    health: Option<String>,
    /// What is stored is not what was written: whatever else is wrong follows from it, and putting it right comes first.
    is_damaged: bool,
    refused: Option<String>,
}

/// What is said of the ledger.
pub struct LedgerWatch {
    reports: Arc<Reports>,
    clock: Arc<dyn Clock>,
    said: Mutex<Said>,
}

impl LedgerWatch {
    /// Makes one that has said nothing.
    pub fn new(reports: Arc<Reports>, clock: Arc<dyn Clock>) -> Self {
        Self {
            reports,
            clock,
            said: Mutex::default(),
        }
    }

    /// Takes in how the ledger stands.
    pub fn health(&self, health: &LedgerHealth) {
        self.say(|said| {
            said.health = problem(health);
            said.is_damaged = matches!(health.state, HealthState::Damaged(_));
        });
    }

    /// Takes in why new state is not held; `None`: all of it is.
    pub fn refused(&self, why: Option<&str>) {
        let text = |why: &str| format!("new state cannot be held, what is held stays enforced: {why}");
        self.say(|said| said.refused = why.map(text));
    }

    /// Follows the ledger's health. Returns when another agent writes it: this one is to exit.
    pub async fn follow(&self, mut health: watch::Receiver<LedgerHealth>, metrics: &Metrics) {
        loop {
            let now = health.borrow_and_update().clone();
            metrics.ledger_bytes(now.bytes);
            if now.state == HealthState::Lost {
                return;
            }
            self.health(&now);
            if health.changed().await.is_err() {
                // The ledger is gone, and nothing is told of it any more.
                return std::future::pending().await;
            }
        }
    }

    fn say(&self, change: impl FnOnce(&mut Said)) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut said);
        // What could not be held says more than that there is no room.
        let message = match said.is_damaged {
            true => said.health.clone(),
            false => said.refused.as_ref().or(said.health.as_ref()).cloned(),
        };
        let is_well = message.is_none();
        let kind = ClusterConditionKind::Ledger;
        self.reports
            .condition(kind, is_well, message.unwrap_or_default(), self.clock.now());
    }
}

/// What is wrong with the ledger, for people.
fn problem(health: &LedgerHealth) -> Option<String> {
    let enforced = "what is held stays enforced";
    // Not to the byte: the words change when there is something new to say.
    let used = health.bytes.saturating_mul(100) / health.limit.max(1);
    let used = format!("{used} % of {} KiB", health.limit >> 10);
    Some(match &health.state {
        HealthState::Ok => return None,
        HealthState::Warn => {
            format!("the agent's ledger takes {used}; when it is full nothing new is accepted: {VOLUME}")
        }
        HealthState::Full => {
            format!("the agent's ledger is full, {enforced}: {used}; {VOLUME}")
        }
        HealthState::Damaged(why) => format!("the agent's ledger is damaged: {why}"),
        HealthState::Unwritable(why) => format!("the agent's ledger cannot be written, {enforced}: {why}"),
        HealthState::Lost => "another agent writes this agent's ledger".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use flotilla_core::{clock::Timestamp, id::UnitId};
    use uuid::Uuid;

    use super::*;
    use crate::{
        ledger::{Ledger, memory::Memory, record::Record},
        sim::SimClock,
    };

    fn told(reports: &Reports) -> Option<(bool, String)> {
        let report = reports.next(1)?;
        reports.ack(report.seq);
        let condition = report.conditions.into_iter().next()?;
        Some((condition.ok, condition.message))
    }

    fn kind(name: &str) -> Vec<Record> {
        vec![Record::Kind {
            group: String::new(),
            kind: name.to_owned(),
            namespaced: true,
        }]
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_ledger_takes_is_told_to_monitoring_as_it_grows() {
        let ledger = Ledger::open(Arc::new(Memory::default()), "x")
            .await
            .expect("opens");
        let reports = Arc::new(Reports::default());
        let watch = Arc::new(LedgerWatch::new(reports.clone(), Arc::new(SimClock::default())));
        let metrics = Arc::new(Metrics::new());
        let health = ledger.subscribe();
        let followed = metrics.clone();
        tokio::spawn(async move { watch.follow(health, &followed).await });
        for unit in 1..=3 {
            let offered = Record::Offered {
                unit: UnitId(Uuid::from_u128(unit)),
                entry: vec![b'x'; 4 << 10].into(),
                at: Timestamp(0),
            };
            ledger.append(vec![offered]).await.expect("stored");
            tokio::task::yield_now().await;
            let held = format!("flotilla_agent_ledger_bytes {}", ledger.health().bytes);
            let text = metrics.text();
            assert!(text.lines().any(|line| line == held), "{held}");
            assert!(ledger.health().bytes > 4 << 10, "{held}");
        }
        assert_eq!(told(&reports), None, "there is nothing to say");
    }

    #[tokio::test(start_paused = true)]
    async fn storage_that_takes_nothing_is_told_and_cleared_and_another_writer_ends_the_watch() {
        let key_value = Memory::default();
        let ledger = Ledger::open(Arc::new(key_value.clone()), "x")
            .await
            .expect("opens");
        let reports = Arc::new(Reports::default());
        let watch = Arc::new(LedgerWatch::new(reports.clone(), Arc::new(SimClock::default())));
        let following = {
            let (watch, health) = (watch.clone(), ledger.subscribe());
            tokio::spawn(async move { watch.follow(health, &Metrics::new()).await })
        };
        ledger.append(kind("A")).await.expect("stored");
        tokio::task::yield_now().await;
        assert_eq!(told(&reports), None);
        key_value.fail_after(0);
        ledger.append(kind("B")).await.expect_err("refused");
        tokio::task::yield_now().await;
        let (ok, message) = told(&reports).expect("it is told");
        assert!(!ok && message.contains("storage is away"), "{message}");
        watch.refused(Some("full"));
        let (ok, message) = told(&reports).expect("it is told");
        assert!(!ok && message.contains("new state cannot be held"), "{message}");
        key_value.heal();
        ledger.append(kind("B")).await.expect("stored");
        tokio::task::yield_now().await;
        assert_eq!(told(&reports), None, "what is refused still is");
        let damaged = LedgerHealth {
            state: HealthState::Damaged("the head is gone; put it back".to_owned()),
            ..ledger.health()
        };
        watch.health(&damaged);
        let (ok, message) = told(&reports).expect("it is told");
        assert!(!ok && message.contains("put it back"), "{message}");
        watch.health(&ledger.health());
        let (ok, message) = told(&reports).expect("it is told");
        assert!(!ok && message.contains("new state cannot be held"), "{message}");
        watch.refused(None);
        assert_eq!(told(&reports), Some((true, String::new())));
        let other = Ledger::open(Arc::new(key_value), "x").await.expect("opens");
        other.append(kind("C")).await.expect("stored");
        ledger.append(kind("D")).await.expect_err("another writes");
        following.await.expect("it ends");
    }
}
