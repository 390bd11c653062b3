//! A thousand units: what a change costs follows the change, and not how many units there are.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use flotilla_core::unit::Entry;
use serde_json::Value;

use crate::{
    scenes::version,
    world::{World, config_map, entry, settle},
};

const UNITS: u128 = 1000;
const OBJECTS: usize = 20;

fn name(unit: u128, object: usize) -> String {
    format!("u{unit:04}-{object:02}")
}

fn objects(unit: u128, value: &str) -> Vec<Value> {
    (0..OBJECTS)
        .map(|object| config_map(&name(unit, object), value))
        .collect()
}

/// What happened since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cost {
    requests: BTreeMap<String, u64>,
    wakes: u64,
    steps: u64,
    ledger_writes: u64,
    ledger_bytes: usize,
    rows: usize,
}

struct Counted {
    world: World,
    wakes: u64,
    steps: u64,
    writes: u64,
    written: usize,
}

impl Counted {
    fn begin(world: World) -> Self {
        let mut this = Self {
            world,
            wakes: 0,
            steps: 0,
            writes: 0,
            written: 0,
        };
        this.take(0);
        this
    }

    /// Lets everything come to rest, and counts what happened.
    async fn rest(&mut self) -> Cost {
        settle().await;
        let mut rows = 0;
        while let Some((some, _)) = self.world.take_report(Duration::from_secs(1)).await {
            rows += some;
        }
        self.take(rows)
    }

    fn take(&mut self, rows: usize) -> Cost {
        let counters = &self.world.agent().counters;
        let (wakes, steps) = (
            counters.wakes.load(Ordering::Relaxed),
            counters.steps.load(Ordering::Relaxed),
        );
        let (writes, written) = (self.world.cells.writes(), self.world.cells.written());
        let cost = Cost {
            requests: self.world.cluster.take_requests(),
            wakes: wakes - self.wakes,
            steps: steps - self.steps,
            ledger_writes: writes - self.writes,
            ledger_bytes: written - self.written,
            rows,
        };
        (self.wakes, self.steps, self.writes, self.written) = (wakes, steps, writes, written);
        cost
    }
}

fn requests(expected: &[(&str, u64)]) -> BTreeMap<String, u64> {
    expected
        .iter()
        .map(|(verb, n)| ((*verb).to_owned(), *n))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn one_change_among_a_thousand_units_costs_a_few_steps_and_an_idle_hour_one_list() {
    let mut world = World::new().await;
    let mut units: Vec<Entry> = (1..=UNITS)
        .map(|n| entry(n, world.contents.add(&objects(n, "1"))))
        .collect();
    world.offer(&units).await;
    world
        .until("all are ready", |world| {
            world.units.len() == units.len() && units.iter().all(|unit| world.is_ready(unit))
        })
        .await;
    world.quiet().await;
    let mut counted = Counted::begin(world);
    // One object of one unit.
    counted.world.set_value("somebody", &name(500, 7), "theirs");
    let drift = counted.rest().await;
    assert_eq!(counted.world.value(&name(500, 7)).as_deref(), Some("1"));
    assert_eq!(drift.requests, requests(&[("apply", 1)]), "{drift:?}");
    assert!(
        // What is told of an object is a step, and one for what follows of the unit's status.
        drift.wakes <= 4 && drift.steps <= 6 && drift.rows <= 2,
        "{drift:?}"
    );
    assert!(
        drift.ledger_writes <= 1 && drift.ledger_bytes <= 32 << 10,
        "{drift:?}"
    );
    // One object of one entry.
    let mut changed = objects(700, "1");
    changed[3] = config_map(&name(700, 3), "2");
    let content = counted.world.contents.add(&changed);
    units[699] = version(2, entry(700, content));
    counted.world.offer(&units).await;
    let commit = counted.rest().await;
    assert!(counted.world.is_ready(&units[699]));
    assert_eq!(counted.world.value(&name(700, 3)).as_deref(), Some("2"));
    assert_eq!(commit.requests, requests(&[("apply", 1)]), "{commit:?}");
    assert!(
        commit.wakes <= 6 && commit.steps <= 8 && commit.rows <= 3,
        "{commit:?}"
    );
    assert!(
        commit.ledger_writes <= 3 && commit.ledger_bytes <= 64 << 10,
        "{commit:?}"
    );
    // Nothing.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let idle = counted.rest().await;
    // The verification of the hour is one list of its one kind, in pages of 500.
    assert_eq!(idle.requests, requests(&[("list", 40)]), "{idle:?}");
    assert!(idle.wakes <= 4, "{idle:?}");
    assert_eq!((idle.ledger_writes, idle.rows), (0, 0), "{idle:?}");
    counted.world.rests().await;
}
