//! When the hub is told: once for a commit, and what does not pass at once.

use flotilla_proto::agent::v1::{Event, Readiness, Report, UnitStatus};

use super::*;
use crate::link::session::wire::{PASSING, SPACED};

const MOMENT: Duration = Duration::from_millis(50);

fn unit(unit: u128) -> UnitId {
    UnitId(Uuid::from_u128(unit))
}

fn status(ready: Readiness, reason: &str) -> UnitStatus {
    UnitStatus {
        ready: ready as i32,
        reason: reason.to_owned(),
        ..UnitStatus::default()
    }
}

fn on_its_way() -> UnitStatus {
    status(Readiness::Unknown, "Progressing")
}

fn applied() -> UnitStatus {
    status(Readiness::True, "ReconciliationSucceeded")
}

impl World {
    /// The next report, and after how long it came.
    async fn report(&mut self) -> (Report, Duration) {
        let begun = Instant::now();
        loop {
            if let agent_message::Kind::Report(report) = self.next().await {
                return (report, begun.elapsed());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_applied_within_moments_is_one_report() {
    let mut world = World::new().await;
    world.reports.unit(unit(1), on_its_way());
    tokio::time::sleep(PASSING - MOMENT).await;
    assert_eq!(world.reports.counts().reports, 0);
    world.reports.unit(unit(1), applied());
    let (report, waited) = world.report().await;
    assert_eq!(report.units[0].ready(), Readiness::True);
    assert!(waited <= MOMENT, "{waited:?}");
    assert_eq!(world.ends_within(PASSING * 2).await, None);
    assert_eq!(world.reports.counts().reports, 1);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_stays_on_its_way_is_told_so_within_a_second() {
    let mut world = World::new().await;
    // What is said of another one meanwhile waits its own time.
    for n in 1..=2 {
        world.reports.unit(unit(n), on_its_way());
        let (report, waited) = world.report().await;
        assert_eq!(
            (report.units.len(), &report.units[0].reason[..]),
            (1, "Progressing")
        );
        assert!(waited >= PASSING && waited <= PASSING + MOMENT, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_told_at_once_and_takes_along_what_does() {
    let tell: [fn(&Reports); 4] = [
        |reports| reports.event(Event::default()),
        |reports| {
            let kind = ClusterConditionKind::ApiServer;
            reports.condition(kind, false, "it is away".to_owned(), Timestamp(1));
        },
        |reports| reports.unit(unit(2), status(Readiness::False, "BuildFailed")),
        |reports| reports.unit(unit(2), status(Readiness::Unknown, "Suspended")),
    ];
    for tell in tell {
        let mut world = World::new().await;
        world.reports.unit(unit(1), on_its_way());
        tell(&world.reports);
        let (report, waited) = world.report().await;
        assert!(report.units.iter().any(|unit| unit.reason == "Progressing"));
        assert!(waited <= MOMENT, "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_accepted_is_acknowledged_with_the_report_that_follows_and_else_alone_in_a_moment() {
    let mut world = World::new().await;
    let all = [world.entry(1, 1, &[]).await];
    for (generation, is_reported) in [(1, false), (2, true)] {
        world.desire(generation, None, &all, &all).await;
        if is_reported {
            world.reports.unit(unit(1), applied());
        }
        let begun = Instant::now();
        while !matches!(world.next().await, agent_message::Kind::Ack(ack) if ack.generation == generation) {}
        assert!(begun.elapsed() <= MOMENT, "{:?}", begun.elapsed());
        if is_reported {
            let (_, later) = world.report().await;
            assert_eq!(later, Duration::ZERO, "in one turn, behind the acknowledgement");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_something_becomes_of_many_units_it_is_told_a_few_times_a_second_and_one_alone_at_once() {
    let mut world = World::new().await;
    let reports = world.reports.clone();
    let becomes = tokio::spawn(async move {
        for n in 0..200 {
            reports.unit(unit(n + 1), applied());
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    });
    let (mut told, mut count) = (0, 0);
    while told < 200 {
        let (report, waited) = world.report().await;
        assert!(waited <= SPACED + MOMENT, "{waited:?}");
        told += report.units.len();
        count += 1;
    }
    becomes.await.expect("ended");
    // In three seconds.
    assert!((10..=14).contains(&count), "{count}");
    tokio::time::sleep(SPACED).await;
    world
        .reports
        .unit(unit(7), status(Readiness::False, "ApplyFailed"));
    let (_, waited) = world.report().await;
    assert!(waited <= MOMENT, "{waited:?}");
}
