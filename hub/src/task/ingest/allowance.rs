//! How many events an agent may have recorded. Each report is bounded, and an agent sends as many as it likes: of one that
//! loops, or is hostile, the events would push out those of all others and fill the disk.

use std::{collections::HashMap, time::Duration};

use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use crate::store::report::{ClusterEventRow, Report};

/// Events that a cluster may have at once: those of a first apply of all it has.
const BURST: u32 = 5_000;
/// After which time it may have one more.
const EACH: Duration = Duration::from_secs(1);
/// That some were dropped is told so often.
const TOLD: Duration = Duration::from_secs(300);

/// What agents have used of theirs. One that has used nothing for a while is forgotten.
#[derive(Default)]
pub(super) struct Allowances(HashMap<Uuid, Allowance>);

struct Allowance {
    /// Events used, less those that time has given back.
    used: f64,
    at: Instant,
    dropped: usize,
    told: Option<Instant>,
}

impl Allowances {
    /// Leaves of a report's events those that its agent may have, and says how many it has dropped.
    pub(super) fn apply(&mut self, report: &mut Report, now: Instant) {
        if report.events.is_empty() {
            return;
        }
        if self.0.len() > 1000 {
            self.0.retain(|_, one| one.used_at(now) > 0.0 || one.dropped > 0);
        }
        let one = self.0.entry(report.cluster).or_insert(Allowance {
            used: 0.0,
            at: now,
            dropped: 0,
            told: None,
        });
        one.used = one.used_at(now);
        one.at = now;
        let left = (f64::from(BURST) - one.used).max(0.0) as usize;
        one.dropped += report.events.len().saturating_sub(left);
        report.events.truncate(left);
        one.used += report.events.len() as f64;
        let is_told = one.told.is_some_and(|told| now - told < TOLD);
        if one.dropped == 0 || is_told {
            return;
        }
        report.events.push(ClusterEventRow {
            unit: None,
            object: String::new(),
            warning: true,
            reason: "EventsDropped".to_owned(),
            message: format!(
                "{} events of this cluster's agent were not recorded: it sends more than {BURST} at once and one a second",
                one.dropped
            ),
            at: OffsetDateTime::now_utc(),
        });
        one.told = Some(now);
        one.dropped = 0;
    }
}

impl Allowance {
    fn used_at(&self, now: Instant) -> f64 {
        let given_back = (now - self.at).as_secs_f64() / EACH.as_secs_f64();
        (self.used - given_back).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(cluster: u128, events: usize) -> Report {
        let event = ClusterEventRow {
            unit: None,
            object: String::new(),
            warning: false,
            reason: "Applied".to_owned(),
            message: String::new(),
            at: OffsetDateTime::UNIX_EPOCH,
        };
        Report {
            events: vec![event; events],
            left_out: false,
            ..Report::left_out(Uuid::from_u128(cluster), 1)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_events_is_cut_and_told_once_and_harms_no_other_cluster() {
        let mut allowances = Allowances::default();
        let mut kept = |cluster, events| {
            let mut report = report(cluster, events);
            allowances.apply(&mut report, Instant::now());
            let told = report.events.iter().filter(|row| row.reason == "EventsDropped");
            let told: Vec<String> = told.map(|row| row.message.clone()).collect();
            (report.events.len() - told.len(), told)
        };
        assert_eq!(kept(1, 2_000), (2_000, vec![]));
        assert_eq!(kept(1, 3_000), (3_000, vec![]));
        let (rows, told) = kept(1, 2_000);
        assert!(
            rows == 0 && told.len() == 1 && told[0].starts_with("2000 events"),
            "{told:?}"
        );
        assert_eq!(kept(1, 2_000), (0, vec![]), "it was told");
        assert_eq!(kept(2, 2_000), (2_000, vec![]));
        tokio::time::advance(EACH * 10).await;
        assert_eq!(kept(1, 11), (10, vec![]));
        tokio::time::advance(TOLD).await;
        let (rows, told) = kept(1, 1);
        assert!(rows == 1 && told[0].starts_with("2001 events"), "{told:?}");
        tokio::time::advance(EACH * BURST * 2).await;
        assert_eq!(kept(1, 5_000), (5_000, vec![]));
    }
}
