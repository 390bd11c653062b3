//! When the certificate is renewed. Renewal runs beside the stream: while it fails, the stream goes on with the
//! certificate that is valid, and a clock that is wrong costs one try now and then, never a loop.

use std::time::Duration;

use flotilla_core::{
    backoff::Backoff,
    clock::{Clock, Timestamp},
};
use flotilla_proto::agent::v1::ClusterConditionKind;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::{
    enrol::{self, EnrolError},
    identity::{Certified, IdentityCell, IdentityError},
};
use crate::{ledger::key_value::KeyValueError, random::random, report::Reports};

/// Waits after a renewal that failed.
const BACKOFF: Backoff = Backoff {
    base: FLOOR,
    cap: Duration::from_secs(600),
};
/// No two tries are nearer to each other.
const FLOOR: Duration = Duration::from_secs(60);

/// What is remembered of renewals across streams.
#[derive(Debug, Default)]
pub struct Renewals {
    tried: Option<Instant>,
    /// The certificate in use was obtained by this process, then.
    obtained: Option<Instant>,
    failures: u32,
}

impl Renewals {
    /// Notes that the certificate in use has just come.
    pub fn obtained(&mut self, now: Instant) {
        *self = Self {
            tried: Some(now),
            obtained: Some(now),
            failures: 0,
        };
    }

    /// Returns how long to wait for the next try, and whether the clock is the cause of it: by it, a certificate
    /// that has just come is to be renewed, or is not valid.
    fn wait(&self, certified: &Certified, wall: Timestamp, now: Instant, random: u64) -> (Duration, bool) {
        let spread = f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        let (from, to) = certified.validity().unwrap_or_default();
        let lifetime = Duration::from_secs(u64::try_from(to - from).unwrap_or(0));
        // Certificates of minutes are for tests; they would not live as long as the floor.
        let floor = FLOOR.min(lifetime / 10);
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let not_before =
            |wait: Duration| since(self.tried).map_or(Duration::ZERO, |passed| wait.saturating_sub(passed));
        if self.failures > 0 {
            return (not_before(BACKOFF.delay(self.failures, random).max(floor)), false);
        }
        let wall = wall.0 / 1000;
        let due = certified.renew_at(spread).unwrap_or(wall);
        let left = Duration::from_secs(u64::try_from(due - wall).unwrap_or(0));
        let Some(passed) = since(self.obtained) else {
            return (left.max(not_before(floor)), false);
        };
        let obtained_at = wall - i64::try_from(passed.as_secs()).unwrap_or(0);
        if (from..due).contains(&obtained_at) {
            return (left.max(not_before(floor)), false);
        }
        // The wall clock says nothing about this certificate; time that has passed does.
        ((lifetime / 3).saturating_sub(passed).max(not_before(floor)), true)
    }

    /// Renews when it is time, as often as it takes; returns when there is a new certificate, or the identity
    /// cannot be used any more.
    pub async fn run(
        &mut self,
        channel: Channel,
        identity: &mut IdentityCell,
        clock: &dyn Clock,
        reports: &Reports,
    ) -> Result<(), IdentityError> {
        let kind = ClusterConditionKind::Certificate;
        loop {
            let Some(certified) = identity.get().certified.clone() else {
                return std::future::pending().await;
            };
            let (wait, clock_is_wrong) = self.wait(&certified, clock.now(), Instant::now(), random());
            if clock_is_wrong {
                let message = wrong_clock(&certified, clock.now());
                reports.condition(kind, false, message, clock.now());
            } else if self.failures == 0 {
                reports.condition(kind, true, String::new(), clock.now());
            }
            tokio::time::sleep(wait).await;
            self.tried = Some(Instant::now());
            match enrol::renew(channel.clone(), identity).await {
                Ok(()) => {
                    self.obtained(Instant::now());
                    return Ok(());
                }
                Err(EnrolError::Identity(
                    e @ (IdentityError::Unreadable | IdentityError::Storage(KeyValueError::Conflict { .. })),
                )) => return Err(e),
                Err(e) => {
                    self.failures = self.failures.saturating_add(1);
                    let message = format!(
                        "the certificate is not renewed, it is valid {}: {e}",
                        until(&certified)
                    );
                    reports.condition(kind, false, message, clock.now());
                }
            }
        }
    }
}

fn wrong_clock(certified: &Certified, now: Timestamp) -> String {
    let (from, _) = certified.validity().unwrap_or_default();
    format!(
        "this cluster's clock is wrong: it reads {}, and the certificate that has just come is valid from {} {}",
        time_text(now.0 / 1000),
        time_text(from),
        until(certified)
    )
}

fn until(certified: &Certified) -> String {
    let (_, to) = certified.validity().unwrap_or_default();
    format!("until {}", time_text(to))
}

fn time_text(seconds: i64) -> String {
    let rfc3339 = time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(&rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::identity::PrivateKey;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    /// A certificate of 30 days from 2026-01-01; due after 18 to 22 of them.
    fn certified() -> (Certified, i64) {
        let key = PrivateKey::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let pair = rcgen::KeyPair::from_pem(key.pem()).expect("a key");
        let chain = [params
            .self_signed(&pair)
            .expect("a certificate")
            .der()
            .to_vec()
            .into()];
        let certified = Certified::new(("id", "name", "domain"), 1, key, &chain, &[]).expect("an identity");
        let from = certified.validity().expect("valid").0;
        (certified, from)
    }

    fn wall(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stored_certificate_is_renewed_when_it_is_due_and_at_once_when_that_is_past() {
        let (certified, from) = certified();
        let wait = |now| Renewals::default().wait(&certified, wall(now), Instant::now(), u64::MAX / 2);
        let (left, wrong) = wait(from + DAY);
        assert!((18 * DAY..21 * DAY).contains(&i64::try_from(left.as_secs()).expect("days")) && !wrong);
        assert_eq!(wait(from + 29 * DAY), (Duration::ZERO, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_renewal_waits_a_minute_and_then_longer() {
        let (certified, from) = certified();
        let mut renewals = Renewals::default();
        for failures in 1..8 {
            renewals.failures = failures;
            renewals.tried = Some(Instant::now());
            for random in [0, u64::MAX] {
                let (wait, _) = renewals.wait(&certified, wall(from + 29 * DAY), Instant::now(), random);
                assert!((FLOOR..=Duration::from_secs(600)).contains(&wait), "{wait:?}");
            }
        }
        // Time that has passed counts.
        tokio::time::advance(Duration::from_secs(601)).await;
        let (wait, _) = renewals.wait(&certified, wall(from + 29 * DAY), Instant::now(), u64::MAX);
        assert_eq!(wait, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn r12_a_clock_that_is_days_off_renews_by_the_time_that_passes() {
        let (certified, from) = certified();
        for ahead in [-2 * DAY, 25 * DAY, 100 * DAY] {
            let mut renewals = Renewals::default();
            renewals.obtained(Instant::now());
            let (wait, wrong) = renewals.wait(&certified, wall(from + ahead), Instant::now(), u64::MAX / 2);
            assert!(wrong, "{ahead}");
            assert_eq!(wait, Duration::from_secs(10 * 24 * 3600), "{ahead}");
        }
        let mut renewals = Renewals::default();
        renewals.obtained(Instant::now());
        assert!(
            !renewals
                .wait(&certified, wall(from + HOUR), Instant::now(), u64::MAX / 2)
                .1
        );
        assert!(wrong_clock(&certified, wall(from + 100 * DAY)).contains("it reads 2026-04-11T00:00:00Z"));
    }
}
