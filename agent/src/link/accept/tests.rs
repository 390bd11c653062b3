use std::collections::HashSet;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use flotilla_core::{desired::acceptance::OfferedEntry, unit::root};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    ledger::{
        key_value::{KeyValue, KeyValueError, Limits, Version, Versioned},
        memory::Memory,
    },
    sim::Contents,
};

const NAME: &str = "ledger";

async fn ledger(cells: &Arc<Memory>) -> Ledger {
    Ledger::open(cells.clone(), NAME).await.expect("a ledger")
}

/// Values with little room, until there is more.
struct Little(Memory, AtomicUsize);

impl Default for Little {
    fn default() -> Self {
        Self(Memory::default(), AtomicUsize::new(400 << 10))
    }
}

#[async_trait]
impl KeyValue for Little {
    async fn get(&self, name: &str) -> Result<Option<Versioned>, KeyValueError> {
        self.0.get(name).await
    }

    async fn put(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, KeyValueError> {
        self.0.put(name, bytes, expected).await
    }

    fn limits(&self) -> Limits {
        Limits {
            segment: 64 << 10,
            total: self.1.load(Ordering::SeqCst),
        }
    }
}

fn config(name: &str, text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "a"}, "data": {"text": text}})
}

/// Objects that do not compress.
fn many(unit: u128, count: usize) -> Vec<Value> {
    let object = |n: usize| {
        let noise = Digest::of(
            "noise",
            &[unit.to_be_bytes().as_slice(), &n.to_be_bytes()].concat(),
        );
        config(&format!("{unit}-{n}"), &noise.to_string())
    };
    (0..count).map(object).collect()
}

/// Objects that do not compress, of which one batch is more than there is room for.
fn bulky(count: usize) -> Vec<Value> {
    bulky_of(0, count)
}

/// The same, others for each unit.
fn bulky_of(unit: usize, count: usize) -> Vec<Value> {
    let object = |n: usize| {
        let seed = [unit.to_be_bytes(), n.to_be_bytes()].concat();
        let noise = (0..32u8).map(|part| Digest::of("noise", &[&seed[..], &[part]].concat()));
        let noise: Vec<String> = noise.map(|digest| digest.to_string()).collect();
        config(&format!("bulky-{unit}-{n}"), &noise.concat())
    };
    (0..count).map(object).collect()
}

fn entry(unit: u128, version: u64, content: Digest) -> Entry {
    let id = UnitId(Uuid::from_u128(unit));
    let entry = json!({
        "unit": id, "version": version, "content": content, "target": content, "state": {"type": "active"},
        "app": {"uid": id, "kind": "Kustomization", "namespace": "apps", "name": format!("app-{unit}")},
        "settings": {"interval": 60000, "retryInterval": 60000, "timeout": 60000},
    });
    serde_json::from_value(entry).expect("an entry")
}

fn offer(generation: u64, base: Option<u64>, all: &[Entry], sent: &[Entry]) -> Offer {
    let digests = all
        .iter()
        .map(|entry| (entry.unit, Entry::digest_of(&entry.to_bytes())));
    Offer {
        incarnation: 1,
        generation,
        root: root(digests),
        base,
        entries: sent
            .iter()
            .map(|entry| OfferedEntry {
                unit: entry.unit,
                bytes: entry.to_bytes(),
                released: false,
            })
            .collect(),
        was_put_back: false,
    }
}

fn reasons(ack: &Ack) -> Vec<(u128, &str)> {
    let unit = |unit: &UnitAcceptance| Uuid::from_slice(&unit.unit_id).expect("an id").as_u128();
    ack.units
        .iter()
        .map(|one| {
            (
                unit(one),
                if one.accepted {
                    "accepted"
                } else {
                    one.reason.as_str()
                },
            )
        })
        .collect()
}

/// Gives a batch as a hub does.
async fn give(contents: &mut Contents, ledger: &Ledger, items: &[Item]) -> Vec<Fetched> {
    let bases = |digest: &Digest| ledger.read(|state| state.blobs.get(digest));
    let mut fetched = Vec::new();
    contents.fetch(items, &bases, &mut fetched).await.expect("given");
    fetched
}

/// Fetches in one lane until it has nothing to ask for; returns the acknowledgements.
async fn fetch_all(
    acceptance: &mut Acceptance,
    ledger: &Ledger,
    contents: &mut Contents,
    lane: Lane,
) -> Vec<Ack> {
    let mut acks = Vec::new();
    loop {
        let items = acceptance.next(ledger, lane);
        if items.is_empty() {
            return acks;
        }
        let fetched = give(contents, ledger, &items).await;
        acks.extend(acceptance.arrived(ledger, &items, fetched).await.expect("taken"));
    }
}

fn accepted(ledger: &Ledger) -> (u64, Vec<u128>) {
    ledger.read(|state| {
        let units = state.units.iter().filter(|(_, unit)| unit.offered.is_some());
        (
            state.accepted.generation,
            units.map(|(id, _)| id.0.as_u128()).collect(),
        )
    })
}

#[tokio::test]
async fn a_large_unit_delays_no_small_one_and_news_go_on_while_it_is_fetched() {
    let cells = Arc::new(Memory::default());
    let ledger = ledger(&cells).await;
    let mut contents = Contents::default();
    let large = entry(1, 1, contents.add(&many(1, 3 * BATCH)));
    let small = entry(2, 1, contents.add(&many(2, 3)));
    let mut acceptance = Acceptance::default();
    let first = offer(
        1,
        None,
        &[large.clone(), small.clone()],
        &[large.clone(), small.clone()],
    );
    acceptance
        .offer(&ledger, first, Timestamp(1))
        .await
        .expect("taken");
    let mut acks = Vec::new();
    // Manifests, then the objects of the small unit.
    for _ in 0..2 {
        let items = acceptance.next(&ledger, Lane::Small);
        let fetched = give(&mut contents, &ledger, &items).await;
        acks.extend(acceptance.arrived(&ledger, &items, fetched).await.expect("taken"));
    }
    assert_eq!(
        acks.iter().flat_map(reasons).collect::<Vec<_>>(),
        [(2, "accepted")]
    );
    assert_eq!(
        accepted(&ledger),
        (0, vec![2]),
        "the generation is not accepted before all of it is"
    );
    // While a batch of the large one is on its way, the small one changes: that is held first.
    let on_its_way = acceptance.next(&ledger, Lane::Large);
    assert_eq!(on_its_way.len(), BATCH);
    let changed = entry(2, 2, contents.add(&[config("x", "news")]));
    let next = offer(
        2,
        Some(1),
        &[large.clone(), changed.clone()],
        std::slice::from_ref(&changed),
    );
    acceptance
        .offer(&ledger, next, Timestamp(2))
        .await
        .expect("taken");
    let acks = fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await;
    assert_eq!(
        acks.iter().flat_map(reasons).collect::<Vec<_>>(),
        [(2, "accepted")]
    );
    let news = |ledger: &Ledger| {
        ledger
            .read(|state| state.units[&changed.unit].offered.clone())
            .expect("held")
            .digest
    };
    assert_eq!(news(&ledger), Entry::digest_of(&changed.to_bytes()));
    let fetched = give(&mut contents, &ledger, &on_its_way).await;
    acceptance
        .arrived(&ledger, &on_its_way, fetched)
        .await
        .expect("taken");
    let mut acks = fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Large).await;
    acks.extend(fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await);
    assert_eq!(
        acks.iter().flat_map(reasons).collect::<Vec<_>>(),
        [(1, "accepted")]
    );
    assert_eq!(
        (acks.last().expect("one").generation, accepted(&ledger)),
        (2, (2, vec![1, 2]))
    );
    assert!(!acceptance.is_incomplete());
    let items = 3 * BATCH + 3 + 1 + 3;
    assert_eq!(contents.fetched, items, "nothing was asked for twice");
}

#[tokio::test]
async fn a_break_in_the_last_batch_loses_nothing() {
    let cells = Arc::new(Memory::default());
    let first = ledger(&cells).await;
    let mut contents = Contents::default();
    let large = entry(1, 1, contents.add(&many(1, 4 * BATCH)));
    let whole = offer(
        1,
        None,
        std::slice::from_ref(&large),
        std::slice::from_ref(&large),
    );
    let mut acceptance = Acceptance::default();
    acceptance
        .offer(&first, whole.clone(), Timestamp(1))
        .await
        .expect("taken");
    for lane in [Lane::Small, Lane::Large, Lane::Large, Lane::Large] {
        let items = acceptance.next(&first, lane);
        let fetched = give(&mut contents, &first, &items).await;
        acceptance.arrived(&first, &items, fetched).await.expect("taken");
    }
    assert_eq!(contents.fetched, 1 + 3 * BATCH);
    // Of the last batch some came.
    let items = acceptance.next(&first, Lane::Small);
    let fetched = give(&mut contents, &first, &items[..7]).await;
    acceptance.arrived(&first, &items, fetched).await.expect("taken");
    acceptance.broke_off();
    assert_eq!(accepted(&first), (0, vec![]));
    acceptance
        .offer(&first, whole, Timestamp(1))
        .await
        .expect("taken");
    fetch_all(&mut acceptance, &first, &mut contents, Lane::Small).await;
    assert_eq!(accepted(&first), (1, vec![1]));
    assert_eq!(contents.fetched, 1 + 4 * BATCH, "each item once");
    drop(first);
    let again = ledger(&cells).await;
    assert!(
        Acceptance::resume(&again).next(&again, Lane::Small).is_empty(),
        "all of it is durable"
    );
}

#[tokio::test]
async fn without_room_a_unit_is_told_as_refused_others_go_on_and_nothing_is_fetched_again() {
    let cells = Arc::new(Little::default());
    let ledger = Ledger::open(cells, NAME).await.expect("a ledger");
    let mut contents = Contents::default();
    let large = entry(1, 1, contents.add(&many(1, 6 * BATCH)));
    let small = entry(2, 1, contents.add(&many(2, 3)));
    let both = offer(
        1,
        None,
        &[large.clone(), small.clone()],
        &[large.clone(), small.clone()],
    );
    let mut acceptance = Acceptance::default();
    acceptance
        .offer(&ledger, both, Timestamp(1))
        .await
        .expect("taken");
    let mut acks = Vec::new();
    for lane in [Lane::Small, Lane::Large, Lane::Small] {
        acks.extend(fetch_all(&mut acceptance, &ledger, &mut contents, lane).await);
    }
    let told: Vec<_> = acks.iter().flat_map(reasons).collect();
    assert!(
        told.contains(&(2, "accepted")) && told.contains(&(1, "LedgerFull")),
        "{told:?}"
    );
    assert_eq!(accepted(&ledger), (0, vec![2]));
    let problem = acceptance.ledger_problem().expect("told");
    for part in ["apps/app-1: ", "are needed", "`flotilla-agent ledger move --to"] {
        assert!(problem.contains(part), "{problem}");
    }
    let fetched = contents.fetched;
    for _ in 0..20 {
        acceptance.retry(&ledger).await.expect("nothing");
        for lane in [Lane::Small, Lane::Large] {
            fetch_all(&mut acceptance, &ledger, &mut contents, lane).await;
        }
    }
    assert_eq!(contents.fetched, fetched, "no download for what has no room");
    assert!(acceptance.is_incomplete());
}

/// A first fill: a thousand units, none of which needs what the others do.
#[tokio::test]
async fn what_comes_is_noted_for_those_who_need_it_and_for_no_others() {
    const UNITS: u128 = 40;
    let cells = Arc::new(Memory::default());
    let ledger = ledger(&cells).await;
    let mut contents = Contents::default();
    let all: Vec<Entry> = (1..=UNITS)
        .map(|unit| entry(unit, 1, contents.add(&many(unit, 5))))
        .collect();
    let mut acceptance = Acceptance::default();
    let whole = offer(1, None, &all, &all);
    acceptance
        .offer(&ledger, whole, Timestamp(1))
        .await
        .expect("taken");
    // What is known of the outstanding ends with the last.
    let (mut came, mut looks) = (0, 0);
    loop {
        let items = acceptance.next(&ledger, Lane::Small);
        if items.is_empty() {
            break;
        }
        for item in items.chunks(1) {
            let fetched = give(&mut contents, &ledger, item).await;
            came += fetched.len();
            acceptance.arrived(&ledger, item, fetched).await.expect("taken");
            looks = looks.max(acceptance.arrived.looks());
        }
    }
    let held: Vec<u128> = (1..=UNITS).collect();
    assert_eq!(accepted(&ledger), (1, held));
    // A manifest and five objects of each.
    assert!(
        came == 240 && (came - 1..=came).contains(&looks),
        "{came} came, {looks} looks"
    );
}

#[tokio::test]
async fn what_is_outstanding_of_a_large_unit_is_not_looked_up_for_each_batch() {
    const OBJECTS: usize = 3 * BATCH;
    let cells = Arc::new(Memory::default());
    let ledger = ledger(&cells).await;
    let mut contents = Contents::default();
    let large = entry(1, 1, contents.add(&many(1, OBJECTS)));
    let whole = offer(
        1,
        None,
        std::slice::from_ref(&large),
        std::slice::from_ref(&large),
    );
    let mut acceptance = Acceptance::default();
    acceptance
        .offer(&ledger, whole, Timestamp(1))
        .await
        .expect("taken");
    let mut looked_up = 0;
    for lane in [Lane::Small, Lane::Large, Lane::Large, Lane::Small] {
        let items = acceptance.next(&ledger, lane);
        let fetched = give(&mut contents, &ledger, &items).await;
        acceptance.arrived(&ledger, &items, fetched).await.expect("taken");
        let now = *acceptance.arrived.looked_up.get_mut();
        looked_up = looked_up.max(now);
    }
    assert_eq!(accepted(&ledger), (1, vec![1]));
    // Once when the manifest has come, and once when nothing is outstanding.
    assert!(looked_up <= 2 * OBJECTS, "{looked_up} objects looked up");
}

#[tokio::test]
async fn a_unit_that_is_too_large_refuses_no_other_and_is_taken_when_there_is_room() {
    let cells = Arc::new(Little::default());
    let ledger = Ledger::open(cells.clone(), NAME).await.expect("a ledger");
    let mut contents = Contents::default();
    let large = entry(1, 1, contents.add(&bulky(2 * BATCH)));
    let first = offer(
        1,
        None,
        std::slice::from_ref(&large),
        std::slice::from_ref(&large),
    );
    let mut acceptance = Acceptance::default();
    acceptance
        .offer(&ledger, first, Timestamp(1))
        .await
        .expect("taken");
    let mut told = Vec::new();
    for lane in [Lane::Small, Lane::Large] {
        told.extend(fetch_all(&mut acceptance, &ledger, &mut contents, lane).await);
    }
    assert_eq!(
        told.iter().flat_map(reasons).collect::<Vec<_>>(),
        [(1, "LedgerFull")]
    );
    // A commit of another app is not held up, be it before a try to take the large one or after.
    let mut waiting = None;
    for (generation, retries) in [(2, 0), (3, 3)] {
        let small = entry(2, generation, contents.add(&many(u128::from(generation), 3)));
        let next = offer(
            generation,
            None,
            &[large.clone(), small.clone()],
            &[large.clone(), small.clone()],
        );
        acceptance
            .offer(&ledger, next, Timestamp(2))
            .await
            .expect("taken");
        for _ in 0..retries {
            acceptance.retry(&ledger).await.expect("nothing");
        }
        let acks = fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await;
        let told: Vec<_> = acks.iter().flat_map(reasons).collect();
        assert!(told.contains(&(2, "accepted")), "{told:?}");
        assert!(!told.contains(&(2, "LedgerFull")), "{told:?}");
        fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Large).await;
        let kept: HashSet<Digest> = acceptance.arrived.blobs.keys().copied().collect();
        waiting.get_or_insert_with(|| kept.clone());
        assert_eq!(waiting.as_ref(), Some(&kept), "nothing of other apps is kept");
    }
    assert_eq!(accepted(&ledger), (0, vec![2]));
    let before = contents.fetched;
    cells.1.store(16 << 20, Ordering::SeqCst);
    acceptance.retry(&ledger).await.expect("nothing");
    for lane in [Lane::Small, Lane::Large, Lane::Small] {
        fetch_all(&mut acceptance, &ledger, &mut contents, lane).await;
    }
    assert_eq!(accepted(&ledger), (3, vec![1, 2]));
    assert!(
        contents.fetched - before <= BATCH,
        "what came of it before is not fetched again"
    );
    assert_eq!(acceptance.ledger_problem(), None);
}

/// While a unit is refused the generation is not held, and a stream that breaks may take acknowledgements with it.
#[tokio::test]
async fn entries_that_are_offered_again_after_a_break_are_answered_again_by_their_digests() {
    let cells = Arc::new(Little::default());
    let ledger = Ledger::open(cells, NAME).await.expect("a ledger");
    let mut contents = Contents::default();
    let large = entry(1, 1, contents.add(&bulky(2 * BATCH)));
    let small = entry(2, 1, contents.add(&many(2, 3)));
    let both = [large.clone(), small.clone()];
    let mut acceptance = Acceptance::default();
    for stream in 0..2 {
        let first = acceptance
            .offer(&ledger, offer(1, None, &both, &both), Timestamp(1))
            .await
            .expect("taken");
        let mut acks = vec![first];
        for lane in [Lane::Small, Lane::Large] {
            acks.extend(fetch_all(&mut acceptance, &ledger, &mut contents, lane).await);
        }
        let told: BTreeMap<_, _> = acks
            .iter()
            .flat_map(|ack| reasons(ack).into_iter().zip(&ack.units))
            .map(|((unit, reason), told)| ((unit, reason), told.entry.to_vec()))
            .collect();
        let digest = |entry: &Entry| Entry::digest_of(&entry.to_bytes()).as_bytes().to_vec();
        assert_eq!(
            told,
            BTreeMap::from([
                ((1, "LedgerFull"), digest(&large)),
                ((2, "accepted"), digest(&small))
            ]),
            "stream {stream}"
        );
        acceptance.broke_off();
    }
    assert_eq!(accepted(&ledger), (0, vec![2]));
}

#[tokio::test]
async fn a_storage_that_is_away_is_told_and_all_is_held_when_it_is_back() {
    let cells = Arc::new(Memory::default());
    let ledger = ledger(&cells).await;
    let mut contents = Contents::default();
    let one = entry(1, 1, contents.add(&many(1, 3)));
    let whole = offer(1, None, std::slice::from_ref(&one), std::slice::from_ref(&one));
    let mut acceptance = Acceptance::default();
    acceptance
        .offer(&ledger, whole, Timestamp(1))
        .await
        .expect("taken");
    tokio::time::pause();
    cells.fail_after(0);
    let acks = fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await;
    assert_eq!(
        acks.iter().flat_map(reasons).next_back(),
        Some((1, "LedgerUnwritable"))
    );
    cells.heal();
    acceptance.retry(&ledger).await.expect("nothing");
    fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await;
    assert_eq!(accepted(&ledger), (1, vec![1]));
    assert_eq!((acceptance.ledger_problem(), contents.fetched), (None, 4));
}

#[tokio::test]
async fn content_of_an_unknown_type_is_held_told_and_never_asked_for_again() {
    let cells = Arc::new(Memory::default());
    let ledger = ledger(&cells).await;
    let mut contents = Contents::default();
    let recipe = br#"{"type":"recipe","chart":"sha256:0"}"#;
    let digest = flotilla_core::content::Content::digest_of(recipe);
    contents.put_raw(digest, recipe);
    let one = entry(1, 1, digest);
    let whole = offer(1, None, std::slice::from_ref(&one), std::slice::from_ref(&one));
    let ack = accept(&ledger, whole, &mut contents, Timestamp(1))
        .await
        .expect("taken");
    assert_eq!(reasons(&ack), [(1, "NotSupported")]);
    assert_eq!(accepted(&ledger), (1, vec![1]));
    assert!(!Acceptance::resume(&ledger).is_incomplete());
}

#[tokio::test]
async fn an_ordinary_commit_is_one_write() {
    let cells = Arc::new(Memory::default());
    let ledger = ledger(&cells).await;
    let mut contents = Contents::default();
    let one = entry(1, 1, contents.add(&[config("x", "a")]));
    let whole = offer(1, None, std::slice::from_ref(&one), std::slice::from_ref(&one));
    accept(&ledger, whole, &mut contents, Timestamp(1))
        .await
        .expect("taken");
    let before = cells.writes();
    let next = entry(1, 2, contents.add(&[config("x", "b")]));
    let change = offer(
        2,
        Some(1),
        std::slice::from_ref(&next),
        std::slice::from_ref(&next),
    );
    accept(&ledger, change, &mut contents, Timestamp(2))
        .await
        .expect("taken");
    assert_eq!(cells.writes() - before, 1);
    assert_eq!(accepted(&ledger).0, 2);
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_large_fetch_loses_nothing_that_was_written_whatever_is_offered_then() {
    for newer in [false, true] {
        let cells = Arc::new(Memory::default());
        let mut contents = Contents::default();
        let large = entry(1, 1, contents.add(&many(1, 4 * BATCH)));
        let small = entry(2, 1, contents.add(&many(2, 3)));
        let first = ledger(&cells).await;
        let whole = offer(
            1,
            None,
            std::slice::from_ref(&large),
            std::slice::from_ref(&large),
        );
        let mut acceptance = Acceptance::default();
        acceptance
            .offer(&first, whole.clone(), Timestamp(1))
            .await
            .expect("taken");
        for lane in [Lane::Small, Lane::Large, Lane::Large, Lane::Large] {
            let items = acceptance.next(&first, lane);
            let fetched = give(&mut contents, &first, &items).await;
            acceptance.arrived(&first, &items, fetched).await.expect("taken");
        }
        let blobs = |ledger: &Ledger| ledger.read(|state| state.blobs.len());
        let written = blobs(&first);
        assert!(written > BATCH, "{written} are worth a write");
        drop((acceptance, first));
        let again = ledger(&cells).await;
        assert_eq!(blobs(&again), written);
        let both = [large.clone(), small.clone()];
        let (offered, units) = match newer {
            true => (offer(2, None, &both, &both), vec![1, 2]),
            false => (whole, vec![1]),
        };
        let mut acceptance = Acceptance::resume(&again);
        acceptance
            .offer(&again, offered.clone(), Timestamp(2))
            .await
            .expect("taken");
        // A small unit is complete long before; the agent stops once more.
        fetch_all(&mut acceptance, &again, &mut contents, Lane::Small).await;
        drop((acceptance, again));
        let third = ledger(&cells).await;
        assert!(blobs(&third) >= written);
        let before = contents.fetched;
        let mut acceptance = Acceptance::resume(&third);
        acceptance
            .offer(&third, offered, Timestamp(3))
            .await
            .expect("taken");
        for lane in [Lane::Small, Lane::Large, Lane::Small] {
            fetch_all(&mut acceptance, &third, &mut contents, lane).await;
        }
        assert_eq!(accepted(&third), (u64::from(newer) + 1, units));
        let again = contents.fetched - before;
        assert!(
            again <= 1 + 4 * BATCH - (written - 1),
            "{again} fetched, {written} were there"
        );
    }
}

/// More comes than may wait in memory.
#[tokio::test]
async fn what_came_for_units_without_room_is_bounded_and_not_asked_for_again() {
    const UNITS: u128 = 30;
    let cells = Arc::new(Little::default());
    let ledger = Ledger::open(cells, NAME).await.expect("a ledger");
    let mut contents = Contents::default();
    let all: Vec<Entry> = (1..=UNITS)
        .map(|unit| {
            let seed = usize::try_from(unit).expect("small") * 1000;
            entry(unit, 1, contents.add(&bulky_of(seed, BATCH - 10)))
        })
        .collect();
    let mut acceptance = Acceptance::default();
    acceptance
        .offer(&ledger, offer(1, None, &all, &all), Timestamp(1))
        .await
        .expect("taken");
    let held = |acceptance: &Acceptance| {
        acceptance
            .arrived
            .blobs
            .values()
            .map(crate::ledger::state::Blob::room)
            .sum::<usize>()
    };
    let mut most = 0;
    for lane in [Lane::Small, Lane::Large, Lane::Small] {
        loop {
            let items = acceptance.next(&ledger, lane);
            if items.is_empty() {
                break;
            }
            let fetched = give(&mut contents, &ledger, &items).await;
            acceptance.arrived(&ledger, &items, fetched).await.expect("taken");
            most = most.max(held(&acceptance));
        }
    }
    let came = contents.fetched;
    assert_eq!(acceptance.untaken.len(), 30);
    // A batch beside what waits.
    assert!(most < 2 * WAITING_MAX, "{most} bytes");
    assert!(
        came * 1000 > 2 * WAITING_MAX,
        "{came} items are more than is kept"
    );
    for _ in 0..5 {
        assert_eq!(acceptance.retry(&ledger).await.expect("nothing"), None);
        assert!(acceptance.next(&ledger, Lane::Small).is_empty());
    }
    assert_eq!(contents.fetched, came);
}

#[tokio::test]
async fn fifty_units_without_room_are_told_once_and_time_alone_tries_none_of_them_again() {
    const UNITS: u128 = 50;
    let cells = Arc::new(Little::default());
    cells.1.store(160 << 10, Ordering::SeqCst);
    let ledger = Ledger::open(cells.clone(), NAME).await.expect("a ledger");
    let mut contents = Contents::default();
    let unit = |contents: &mut Contents, unit: u128, version: u64, objects: usize| {
        let seed = usize::try_from(unit).expect("small") * 1000 + objects;
        entry(unit, version, contents.add(&bulky_of(seed, objects)))
    };
    let first = [unit(&mut contents, 1, 1, 80)];
    let mut acceptance = Acceptance::default();
    let mut bytes = 0;
    let mut told: Vec<(u128, String)> = Vec::new();
    let mut tell = |ack: &Ack| {
        bytes += prost::Message::encoded_len(ack);
        told.extend(reasons(ack).into_iter().map(|(unit, why)| (unit, why.to_owned())));
        (bytes, told.len())
    };
    let ack = acceptance
        .offer(&ledger, offer(1, None, &first, &first), Timestamp(1))
        .await;
    tell(&ack.expect("taken"));
    for ack in fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await {
        tell(&ack);
    }
    assert_eq!(accepted(&ledger), (1, vec![1]));
    let mut all = first.to_vec();
    all.extend((2..2 + UNITS).map(|n| unit(&mut contents, n, 1, 58 + usize::try_from(n).expect("small"))));
    let (before, writes) = (ledger.encodings(), cells.0.writes());
    let ack = acceptance
        .offer(&ledger, offer(2, None, &all, &all), Timestamp(2))
        .await;
    let (bytes_before, told_before) = tell(&ack.expect("taken"));
    let mut last = (bytes_before, told_before);
    for lane in [Lane::Small, Lane::Large, Lane::Small] {
        for ack in fetch_all(&mut acceptance, &ledger, &mut contents, lane).await {
            last = tell(&ack);
        }
    }
    assert_eq!(last.1 - told_before, 50, "each is told once");
    assert!(
        last.0 - bytes_before < 50 * 400,
        "{} bytes of answers",
        last.0 - bytes_before
    );
    // A few manifests find room, which each is written into.
    let (encodings, written) = (ledger.encodings() - before, cells.0.writes() - writes);
    assert!(
        encodings <= 10 && written <= 30,
        "{encodings} times, {written} writes"
    );
    let (before, writes) = (ledger.encodings(), cells.0.writes());
    // An hour and forty minutes of tries by time.
    let fetched = contents.fetched;
    for _ in 0..20 {
        assert_eq!(acceptance.retry(&ledger).await.expect("nothing"), None);
        assert!(
            fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small)
                .await
                .is_empty()
        );
    }
    assert_eq!(
        (ledger.encodings() - before, cells.0.writes(), contents.fetched),
        (0, writes, fetched)
    );
    // Another entry of one of them is another matter, and names nobody else: what came for the one before counts for none.
    all[7] = unit(&mut contents, 8, 2, 2);
    acceptance
        .offer(&ledger, offer(3, None, &all, &all), Timestamp(3))
        .await
        .expect("taken");
    let acks = fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await;
    let told: Vec<_> = acks.iter().flat_map(reasons).collect();
    assert_eq!(told, [(8, "accepted")]);
}

/// What is tried by time comes before the next stream has offered anything.
#[tokio::test]
async fn what_came_before_a_break_is_not_asked_for_again_whatever_is_tried_until_the_next_offer() {
    let cells = Arc::new(Memory::default());
    let ledger = ledger(&cells).await;
    let mut contents = Contents::default();
    let unit = entry(1, 1, contents.add(&many(1, 3)));
    let all = std::slice::from_ref(&unit);
    let mut acceptance = Acceptance::default();
    for stream in 0..3 {
        let offered = acceptance.offer(&ledger, offer(1, None, all, all), Timestamp(1));
        offered.await.expect("taken");
        let items = acceptance.next(&ledger, Lane::Small);
        // The manifest, then what it names, then nothing.
        assert_eq!(items.len(), [1, 3, 0][stream], "stream {stream}");
        if !items.is_empty() {
            let fetched = give(&mut contents, &ledger, &items).await;
            acceptance.arrived(&ledger, &items, fetched).await.expect("taken");
        }
        acceptance.broke_off();
        acceptance.retry(&ledger).await.expect("nothing");
    }
    assert_eq!(accepted(&ledger), (1, vec![1]));
}

/// As where all of them are updated at once, in a ledger that has little room for more.
#[tokio::test]
async fn updates_in_a_full_ledger_are_taken_together_as_far_as_there_is_room() {
    const UNITS: u128 = 40;
    let cells = Arc::new(Little::default());
    let ledger = Ledger::open(cells.clone(), NAME).await.expect("a ledger");
    let mut contents = Contents::default();
    let mut all: Vec<Entry> = (1..=UNITS)
        .map(|unit| {
            entry(
                unit,
                1,
                contents.add(&bulky_of(usize::try_from(unit).expect("small"), 5)),
            )
        })
        .collect();
    let mut acceptance = Acceptance::default();
    let first = offer(1, None, &all, &all);
    acceptance
        .offer(&ledger, first, Timestamp(1))
        .await
        .expect("taken");
    for _ in 0..3 {
        fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await;
    }
    let held = accepted(&ledger);
    assert_eq!(held.0, 1, "all of {} units", held.1.len());
    // Each gets as many objects more, others than those of before.
    for (unit, entry_of) in (1..=UNITS).zip(&mut all) {
        let count = 5 + usize::from(unit > 20) * 40;
        let seed = 1000 + usize::try_from(unit).expect("small");
        *entry_of = entry(unit, 2, contents.add(&bulky_of(seed, count)));
    }
    let (encodings, writes) = (ledger.encodings(), cells.0.writes());
    let next = offer(2, None, &all, &all);
    acceptance
        .offer(&ledger, next, Timestamp(2))
        .await
        .expect("taken");
    let mut told: BTreeMap<u128, String> = BTreeMap::new();
    for lane in [Lane::Small, Lane::Large, Lane::Small] {
        for ack in fetch_all(&mut acceptance, &ledger, &mut contents, lane).await {
            told.extend(
                reasons(&ack)
                    .into_iter()
                    .map(|(unit, why)| (unit, why.to_owned())),
            );
        }
    }
    let refused = told.values().filter(|why| *why == "LedgerFull").count();
    assert!((15..=20).contains(&refused), "{told:?}");
    for unit in 1..=20 {
        assert_eq!(
            told.get(&unit).map(String::as_str),
            Some("accepted"),
            "{unit}: {told:?}"
        );
    }
    let (encodings, writes) = (ledger.encodings() - encodings, cells.0.writes() - writes);
    assert!(
        encodings <= 8 && writes <= 40,
        "{encodings} times, {writes} writes"
    );
    // Time alone tries none of them again, nor does an update that needs as much as the one before it.
    for round in 0..10 {
        let writes = cells.0.writes();
        assert_eq!(acceptance.retry(&ledger).await.expect("nothing"), None);
        assert_eq!(cells.0.writes(), writes, "round {round}");
        let seed = 2000 + usize::try_from(round).expect("few");
        all[0] = entry(1, 3 + round, contents.add(&bulky_of(seed, 5)));
        let next = offer(3 + round, None, &all, &all);
        acceptance
            .offer(&ledger, next, Timestamp(3))
            .await
            .expect("taken");
        fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await;
        let writes = cells.0.writes() - writes;
        assert!(writes <= 10, "{writes} writes in round {round}");
    }
}

#[tokio::test]
async fn a_manifest_that_came_is_parsed_once() {
    let cells = Arc::new(Memory::default());
    let ledger = ledger(&cells).await;
    let mut contents = Contents::default();
    let content = contents.add(&many(1, 3));
    let unit = entry(1, 1, content);
    let all = std::slice::from_ref(&unit);
    let mut acceptance = Acceptance::default();
    let offered = acceptance.offer(&ledger, offer(1, None, all, all), Timestamp(1));
    offered.await.expect("taken");
    let items = acceptance.next(&ledger, Lane::Small);
    let fetched = give(&mut contents, &ledger, &items).await;
    acceptance.arrived(&ledger, &items, fetched).await.expect("taken");
    let parsed = acceptance.arrived.blobs[&content]
        .table()
        .expect("it is a manifest")
        .clone();
    fetch_all(&mut acceptance, &ledger, &mut contents, Lane::Small).await;
    assert_eq!(accepted(&ledger), (1, vec![1]));
    let held = ledger
        .read(|state| state.table(&content).cloned())
        .expect("it is here");
    assert!(Arc::ptr_eq(&parsed, &held));
}

/// What a hub offers that was restored from a backup of before the second unit.
#[tokio::test]
async fn a_unit_that_a_new_history_does_not_name_is_kept_also_by_a_later_life_until_it_is_back() {
    let cells = Arc::new(Memory::default());
    let first = ledger(&cells).await;
    let mut contents = Contents::default();
    let [one, two] = [1, 2].map(|unit| entry(unit, 3, contents.add(&many(unit, 2))));
    let both = [one.clone(), two.clone()];
    let mut acceptance = Acceptance::default();
    acceptance
        .offer(&first, offer(9, None, &both, &both), Timestamp(1))
        .await
        .expect("taken");
    fetch_all(&mut acceptance, &first, &mut contents, Lane::Small).await;
    let fetched = contents.fetched;
    let restored = |generation, base, all: &[Entry], sent: &[Entry]| Offer {
        incarnation: 2,
        ..offer(generation, base, all, sent)
    };
    // Nothing is confirmed yet, then the first is, as it is held.
    let ack = acceptance
        .offer(&first, restored(4, None, &[], &[]), Timestamp(2))
        .await
        .expect("taken");
    assert_eq!((ack.incarnation, ack.generation), (2, 4));
    let unknown = |ledger: &Ledger| ledger.read(|state| state.unknown_apps());
    assert_eq!(
        unknown(&first),
        ["Kustomization/apps/app-1", "Kustomization/apps/app-2"]
    );
    let only = std::slice::from_ref(&one);
    let ack = acceptance
        .offer(&first, restored(5, Some(4), only, only), Timestamp(3))
        .await
        .expect("taken");
    assert_eq!((ack.generation, reasons(&ack)), (5, vec![(1, "accepted")]));
    drop(first);
    let again = ledger(&cells).await;
    assert_eq!(unknown(&again), ["Kustomization/apps/app-2"]);
    assert_eq!(accepted(&again), (5, vec![1, 2]), "it is held as it was");
    let held = again.read(|state| {
        (
            state.accepted.root == Some(state.root()),
            state.units[&two.unit].offered.clone(),
        )
    });
    assert!(held.0, "all that this history names is here");
    assert_eq!(held.1.expect("held").digest, Entry::digest_of(&two.to_bytes()));
    // Its app is back, with a number of its own and the same target: nothing is fetched for it.
    let mut acceptance = Acceptance::resume(&again);
    let back = Entry {
        version: 1,
        ..two.clone()
    };
    let all = [one, back.clone()];
    let ack = acceptance
        .offer(
            &again,
            restored(6, Some(5), &all, std::slice::from_ref(&back)),
            Timestamp(4),
        )
        .await
        .expect("taken");
    assert_eq!((ack.generation, reasons(&ack)), (6, vec![(2, "accepted")]));
    assert_eq!(unknown(&again), Vec::<String>::new());
    assert_eq!(contents.fetched, fetched);
    // Within one history nothing may be missing.
    let refused = acceptance
        .offer(&again, restored(7, None, &all[..1], &all[..1]), Timestamp(5))
        .await;
    assert!(
        matches!(refused, Err(AcceptError::Refused(Refusal::UnitMissing(unit))) if unit == back.unit),
        "{refused:?}"
    );
}
