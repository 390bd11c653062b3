//! Random programs over a ledger: crashes at each write, calls that overlap, compactions in between.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A source of choices, the same for the same seed.
pub(in crate::ledger) struct Choices(pub(in crate::ledger) u64);

impl Choices {
    pub(in crate::ledger) fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn unit(&mut self) -> UnitId {
        UnitId(Uuid::from_u128(u128::from(self.below(3))))
    }

    fn record(&mut self, step: u64) -> Record {
        let unit = self.unit();
        let name = format!("x-{}", self.below(6));
        let kind = ["ConfigMap", "Secret"][self.below(2) as usize];
        let key = Arc::new(ObjectKey::new("", kind, "a", &name));
        match self.below(9) {
            0 => {
                let (digest, _) = content(self.below(4) as u32, 3, 9_000);
                Record::Offered {
                    unit,
                    entry: entry(unit, digest).into(),
                    at: Timestamp(step as i64),
                }
            }
            1 => {
                let (digest, _) = content(self.below(4) as u32, 3, 9_000);
                Record::Enforced {
                    unit,
                    entry: entry(unit, digest).into(),
                }
            }
            2 if self.below(3) == 0 => Record::Released { unit },
            2 | 3 => {
                let (_, mut records) = content(self.below(4) as u32, 3, 9_000);
                let n = self.below(records.len() as u64) as usize;
                records.swap_remove(n)
            }
            4 => Record::Unit {
                unit,
                state: step.to_le_bytes().to_vec(),
            },
            5 => Record::Dropped { unit, key },
            6 => Record::Accepted(Accepted {
                incarnation: 1,
                generation: step / 20,
                root: None,
                epoch: step,
                cluster: None,
            }),
            _ => {
                let mut record = record(["intent", "applied", "pendingRemoval"][self.below(3) as usize]);
                record.api_version = ["v1", "v2"][self.below(2) as usize].into();
                record.sent = (self.below(2) == 0).then(|| Digest::of("test", &step.to_le_bytes()));
                Record::Item {
                    unit,
                    key,
                    record: record.into(),
                }
            }
        }
    }

    fn outcomes(&mut self, step: u64) -> Vec<Record> {
        let mut records = self.records(step);
        records.retain(Record::is_outcome);
        records
    }

    fn records(&mut self, step: u64) -> Vec<Record> {
        (0..=self.below(4)).map(|_| self.record(step)).collect()
    }
}

/// All that a ledger says, in words that compare.
fn facts(state: &State) -> String {
    let garbage = state.garbage();
    let needed: BTreeSet<&Digest> = state
        .blobs
        .keys()
        .filter(|digest| !garbage.contains(*digest))
        .collect();
    let units: Vec<String> = state
        .units
        .iter()
        .map(|(id, unit)| {
            let stored = |stored: &Option<state::StoredEntry>| stored.as_ref().map(|stored| stored.digest);
            let offered = unit.offered.as_ref().map(|stored| (stored.digest, stored.at));
            format!(
                "{id} {offered:?} {:?} {:?} {:?}",
                stored(&unit.enforced),
                unit.items,
                unit.record
            )
        })
        .collect();
    format!("{:?} {units:?} {needed:?}", state.accepted)
}

/// What the counts say must be what a look at everything says.
fn check_counts(state: &State) {
    let mut reached = BTreeSet::new();
    for stored in state
        .units
        .values()
        .flat_map(|unit| [&unit.offered, &unit.enforced])
        .flatten()
    {
        let Some(digest) = stored.entry.as_ref().and_then(|entry| entry.content) else {
            continue;
        };
        reached.insert(digest);
        reached.extend(state.table(&digest).iter().flat_map(|table| table.digests()));
    }
    let mut places: BTreeMap<String, BTreeMap<String, u32>> = BTreeMap::new();
    for (key, record) in state.units.values().flat_map(|unit| &unit.items) {
        let place = format!("{}/{}/{}", key.group, key.kind, key.namespace);
        let versions = places.entry(place).or_default();
        *versions.entry(record.api_version.to_string()).or_default() += 1;
    }
    let counted = state.usage().places().map(|(place, versions)| {
        let place = format!("{}/{}/{}", place.group, place.kind, place.namespace);
        (place, versions.clone())
    });
    assert_eq!(counted.collect::<BTreeMap<_, _>>(), places);
    let garbage = state.garbage();
    assert!(garbage.iter().all(|digest| !reached.contains(digest)));
    let bytes = state.encode(&garbage, &std::collections::HashMap::new());
    assert!(
        bytes.len() <= state.live_size(),
        "{} > {}",
        bytes.len(),
        state.live_size()
    );
    let mut rebuilt = State::default();
    let records = record::decode(&bytes).expect("reads");
    records.into_iter().for_each(|record| rebuilt.apply(record));
    assert_eq!(facts(&rebuilt), facts(state));
    assert_eq!(rebuilt.live_size(), state.live_size());
    rebuilt.disown(&[]);
    let needed = rebuilt.blobs.len() - rebuilt.garbage().len();
    assert_eq!(
        needed,
        rebuilt
            .blobs
            .keys()
            .filter(|digest| reached.contains(*digest))
            .count()
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_at_any_write_a_prefix_of_the_calls_is_there() {
    for seed in 0..40 {
        let mut choices = Choices(seed);
        let cells = Memory::default().yielding();
        let mut ledger = open(&cells).await;
        // What the ledger said after each call, from the last that is certainly durable.
        let mut history = vec![ledger.read(facts)];
        for step in 0..60 {
            if step % 12 == 11 {
                cells.fail_after(choices.below(8));
            }
            match choices.below(4) {
                0 => {
                    // An error of an earlier batch; these are taken in all the same.
                    let _ = ledger.append_later(choices.outcomes(step));
                    history.push(ledger.read(facts));
                }
                1 => {
                    if ledger.flush().await.is_ok() {
                        history = vec![ledger.read(facts)];
                    }
                }
                _ => {
                    let durable = ledger.append(choices.records(step)).await.is_ok();
                    let now = ledger.read(facts);
                    if durable {
                        history = vec![now];
                    } else {
                        assert_eq!(history.last(), Some(&now), "a failed append changes nothing");
                    }
                }
            }
            ledger.read(check_counts);
            if step % 12 == 11 && choices.below(2) == 0 {
                drop(ledger);
                cells.heal();
                ledger = open(&cells).await;
                let now = ledger.read(facts);
                assert!(history.contains(&now), "seed {seed}, step {step}");
                history = vec![now];
            }
            cells.heal();
        }
        ledger.flush().await.expect("durable");
        assert_eq!(open(&cells).await.read(facts), ledger.read(facts), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_overlap_leave_memory_as_a_restart_reads_it() {
    for seed in 0..40 {
        let mut choices = Choices(1_000 + seed);
        let cells = Memory::default().yielding();
        let ledger = Arc::new(open(&cells).await);
        for step in 0..10 {
            let mut appends = tokio::task::JoinSet::new();
            for _ in 0..5 {
                if choices.below(2) == 0 {
                    let records = choices.records(step);
                    let ledger = ledger.clone();
                    appends.spawn(async move { ledger.append(records).await });
                } else {
                    ledger.append_later(choices.outcomes(step)).expect("taken");
                }
                for _ in 0..choices.below(6) {
                    tokio::task::yield_now().await;
                }
            }
            while let Some(done) = appends.join_next().await {
                done.expect("no panic").expect("appends");
            }
            ledger.read(check_counts);
            ledger.flush().await.expect("durable");
            assert_eq!(
                open_unchanged(&cells).await,
                ledger.read(claimed_facts),
                "seed {seed}, step {step}"
            );
        }
    }
}

/// What a restart would read, without the write by which it might compact.
async fn open_unchanged(cells: &Memory) -> String {
    let (_, bytes) = Writer::load(Arc::new(cells.clone()), "ledger")
        .await
        .expect("loads");
    let mut state = State::default();
    let records = record::decode(&bytes).expect("reads");
    records.into_iter().for_each(|record| state.apply(record));
    claimed_facts(&state)
}

/// As [`facts`], without contents that no entry names: an append of such a content that overlaps the end of its
/// last use may keep it longer in memory than a restart does.
fn claimed_facts(state: &State) -> String {
    let mut state = state.clone();
    state.disown(&[]);
    facts(&state)
}
