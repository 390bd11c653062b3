//! What is told at the beginning of a stream, by what the hub says that it has; over a hub that keeps rows, loses
//! acknowledgements, leaves rows out and is restored from a backup.

use std::collections::BTreeMap;

use flotilla_core::{clock::Timestamp, digest::Digest, id::UnitId, object::ObjectKey};
use flotilla_proto::agent::v1::{
    ClusterCondition, ClusterConditionKind, Event, ObjectState, ObjectStatus, Report, RowKey as WireRowKey,
    UnitStatus,
};
use prost::Message as _;
use uuid::Uuid;

use super::HubRows;
use crate::report::{Hold, Reports};

/// As the wire orders rows: units first, then objects, by bytes.
type Place = (bool, Vec<u8>, [String; 4]);

fn place(key: &WireRowKey) -> Place {
    let object = key.object.clone().unwrap_or_default();
    let names = [object.group, object.kind, object.namespace, object.name];
    (key.object.is_some(), key.unit_id.to_vec(), names)
}

fn unit(n: u8) -> UnitId {
    UnitId(Uuid::from_u128(u128::from(n) + 1))
}

fn key(n: u8) -> ObjectKey {
    ObjectKey::new("", "ConfigMap", "a", &format!("x{n}"))
}

/// What the cluster is like: of each unit a word, of each object a state.
#[derive(Debug, Clone, Default, PartialEq)]
struct Cluster {
    units: BTreeMap<u8, u8>,
    objects: BTreeMap<(u8, u8), u8>,
}

impl Cluster {
    fn unit_row(n: u8, word: u8) -> UnitStatus {
        UnitStatus {
            unit_id: unit(n).to_vec().into(),
            message: format!("word {word}"),
            ..UnitStatus::default()
        }
    }

    fn object_row(state: ObjectState, word: u8) -> ObjectStatus {
        ObjectStatus {
            state: state as i32,
            message: format!("word {word}"),
            ..ObjectStatus::default()
        }
    }

    fn tell(&self, reports: &Reports) {
        for (n, word) in &self.units {
            reports.unit(unit(*n), Self::unit_row(*n, *word));
        }
        for ((of, n), word) in &self.objects {
            reports.object(unit(*of), key(*n), Self::object_row(ObjectState::Applied, *word));
        }
    }

    fn of(units: u8, objects: u8) -> Self {
        Self {
            units: (0..units).map(|n| (n, 0)).collect(),
            objects: (0..units)
                .flat_map(|of| (0..objects).map(move |n| ((of, n), 0)))
                .collect(),
        }
    }
}

/// A hub's store.
#[derive(Debug, Clone, Default, PartialEq)]
struct Hub {
    rows: BTreeMap<Place, Vec<u8>>,
    conditions: BTreeMap<i32, ClusterCondition>,
    root: Vec<u8>,
    left_out: bool,
    opened: bool,
}

impl Hub {
    /// What it says at the beginning of a stream.
    fn welcome(&mut self, hello: Option<Digest>) -> HubRows {
        let is_first = !std::mem::replace(&mut self.opened, true);
        let hello = hello.map_or_else(Vec::new, |root| root.as_bytes().to_vec());
        match Digest::try_from_slice(&self.root) {
            Ok(root) if !self.left_out => HubRows::Root(root),
            _ if is_first && hello.is_empty() => HubRows::Acknowledged,
            _ if self.root.is_empty() || self.root != hello => HubRows::Unknown,
            _ => HubRows::Acknowledged,
        }
    }

    fn commit(&mut self, report: &Report) {
        if let Some(part) = &report.full {
            let (after, until) = (part.after.as_ref().map(place), part.until.as_ref().map(place));
            self.rows.retain(|at, _| {
                after.as_ref().is_some_and(|after| at <= after)
                    || until.as_ref().is_some_and(|until| at > until)
            });
            if part.after.is_none() {
                self.conditions.clear();
                self.left_out = false;
            }
        }
        for row in &report.units {
            let at = (false, row.unit_id.to_vec(), Default::default());
            self.rows.insert(at, row.encode_to_vec());
        }
        for row in &report.objects {
            let wire = WireRowKey {
                unit_id: row.unit_id.clone(),
                object: row.key.clone(),
            };
            match row.state() {
                ObjectState::Gone => drop(self.rows.remove(&place(&wire))),
                _ => drop(self.rows.insert(place(&wire), row.encode_to_vec())),
            }
        }
        for condition in &report.conditions {
            self.conditions.insert(condition.kind, condition.clone());
        }
        self.root = report.observed_root.to_vec();
    }

    /// Takes all that there is to say; returns it.
    fn take(&mut self, reports: &Reports) -> Vec<Report> {
        let mut taken = Vec::new();
        while let Some(report) = reports.next(1) {
            self.commit(&report);
            reports.ack(report.seq);
            taken.push(report);
            assert!(taken.len() < 1000, "reports without end");
        }
        taken
    }

    /// Kinds and messages of what is wrong.
    fn wrong(&self) -> BTreeMap<i32, &str> {
        let wrong = self.conditions.iter().filter(|(_, condition)| !condition.ok);
        wrong
            .map(|(kind, condition)| (*kind, &*condition.message))
            .collect()
    }

    fn begin(&mut self, reports: &Reports) {
        let wrong = self.conditions.values().filter(|condition| !condition.ok);
        let wrong: Vec<ClusterCondition> = wrong.cloned().collect();
        reports.begin(self.welcome(reports.acked_root()), Some(&wrong));
    }
}

fn rows(reports: &[Report]) -> usize {
    let each = reports
        .iter()
        .map(|report| report.units.len() + report.objects.len());
    each.sum()
}

fn full(reports: &[Report]) -> usize {
    reports.iter().filter(|report| report.full.is_some()).count()
}

/// An agent whose hub has all that it knows.
fn settled(cluster: &Cluster) -> (Reports, Hub) {
    let (reports, mut hub) = (Reports::default(), Hub::default());
    hub.begin(&reports);
    cluster.tell(&reports);
    hub.take(&reports);
    (reports, hub)
}

/// Another life of the agent: rows are told once they are known.
fn restarted(cluster: &Cluster, hub: &mut Hub) -> Reports {
    let reports = Reports::default();
    reports.hold(Hold::Rows);
    hub.begin(&reports);
    cluster.tell(&reports);
    reports
}

#[test]
fn restart_tells_conditions_and_no_row_where_the_hub_has_the_same_root() {
    let cluster = Cluster::of(3, 20);
    let (before, mut hub) = settled(&cluster);
    before.condition(
        ClusterConditionKind::Watches,
        false,
        "refused".to_owned(),
        Timestamp(1),
    );
    hub.take(&before);
    let stored = hub.clone();
    let after = restarted(&cluster, &mut hub);
    // What happens before the rows are known takes the hub's root from nobody.
    after.event(Event::default());
    let early = hub.take(&after);
    assert_eq!((early.len(), rows(&early), full(&early)), (1, 0, 0));
    hub.begin(&after);
    after.hold(Hold::Nothing);
    let told = hub.take(&after);
    assert_eq!((told.len(), rows(&told), full(&told)), (1, 0, 1), "{told:?}");
    assert!(hub.conditions.is_empty(), "nothing is wrong by now");
    assert_eq!((&hub.rows, &hub.root), (&stored.rows, &stored.root));
    assert_eq!(after.acked_root(), before.acked_root());
    // Then a change goes alone.
    after.unit(unit(1), Cluster::unit_row(1, 7));
    let told = hub.take(&after);
    assert_eq!((rows(&told), full(&told)), (1, 0));
    // That the conditions were told is told again where the hub has not committed it.
    let again = restarted(&cluster, &mut Hub { ..stored.clone() });
    again.hold(Hold::Nothing);
    let lost = again.next(1).expect("a report");
    let mut hub = stored;
    hub.begin(&again);
    let told = hub.take(&again);
    assert_eq!((&told[0].full, rows(&told)), (&lost.full, 0));
}

#[test]
fn conditions_are_told_again_where_a_restored_hub_has_others_and_no_row_is() {
    let (reports, mut hub) = settled(&Cluster::of(3, 20));
    let say = |ok: bool, message: &str| {
        let watches = ClusterConditionKind::Watches;
        reports.condition(watches, ok, message.to_owned(), Timestamp(1));
    };
    let before = hub.clone();
    say(false, "refused");
    hub.take(&reports);
    let wrong = hub.clone();
    say(false, "refused twice");
    hub.take(&reports);
    for restored in [&before, &wrong] {
        hub = restored.clone();
        hub.begin(&reports);
        let told = hub.take(&reports);
        assert_eq!((told.len(), rows(&told), told[0].conditions.len()), (1, 0, 1));
        assert_eq!(
            hub.wrong().values().copied().collect::<Vec<_>>(),
            ["refused twice"]
        );
        hub.begin(&reports);
        assert_eq!(hub.take(&reports), [], "once");
    }
    say(true, "");
    hub.take(&reports);
    hub = wrong;
    hub.begin(&reports);
    hub.take(&reports);
    assert!(hub.wrong().is_empty());
}

#[test]
fn restart_tells_all_where_one_row_is_another() {
    let cluster = Cluster::of(3, 20);
    let (_, mut hub) = settled(&cluster);
    let mut now = cluster.clone();
    now.objects.insert((1, 3), 1);
    now.objects.remove(&(2, 0));
    let reports = restarted(&now, &mut hub);
    reports.hold(Hold::Nothing);
    let told = hub.take(&reports);
    assert_eq!((rows(&told), full(&told)), (3 + 59, 1));
    assert_eq!(hub.rows.len(), 3 + 59);
}

#[test]
fn rows_that_go_before_all_are_known_are_followed_by_a_full_report() {
    let cluster = Cluster::of(1, 5);
    let (_, mut hub) = settled(&cluster);
    let reports = restarted(&cluster, &mut hub);
    reports.hold(Hold::Full);
    let told = hub.take(&reports);
    assert_eq!((rows(&told), full(&told)), (6, 0));
    assert!(hub.root.is_empty(), "nobody knows what else the hub has");
    reports.hold(Hold::Nothing);
    let told = hub.take(&reports);
    assert_eq!((rows(&told), full(&told)), (6, 1));
}

#[test]
fn report_whose_acknowledgement_was_lost_is_not_told_again_where_the_hub_has_committed_it() {
    let cluster = Cluster::of(3, 20);
    for committed in [true, false] {
        let (reports, mut hub) = settled(&cluster);
        reports.unit(unit(1), Cluster::unit_row(1, 7));
        reports.event(Event::default());
        let lost = reports.next(1).expect("a report");
        if committed {
            hub.commit(&lost);
        }
        hub.begin(&reports);
        let told = hub.take(&reports);
        let most = usize::from(!committed);
        assert_eq!(
            (told.len(), rows(&told), full(&told)),
            (most, most, 0),
            "committed: {committed}"
        );
        let root = reports.acked_root().expect("acknowledged");
        assert_eq!(hub.root, root.as_bytes());
    }
}

#[test]
fn full_report_whose_last_acknowledgement_was_lost_is_not_told_again() {
    let (reports, mut hub) = settled(&Cluster::of(3, 20));
    reports.begin(HubRows::Unknown, None);
    let last = reports.next(1).expect("all in one part");
    hub.commit(&last);
    hub.begin(&reports);
    assert_eq!(hub.take(&reports), []);
    assert_eq!(
        reports.acked_root().map(|root| root.as_bytes().to_vec()),
        Some(hub.root)
    );
}

/// Numbers that look random and are the same each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u8) -> u8 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u8::try_from((self.0 >> 33) % u64::from(bound)).unwrap_or(0)
    }
}

/// The last word of each row, and no other row, is at the hub in the end, whatever was lost on the way.
#[test]
fn hub_has_the_rows_of_the_agent_after_any_restarts_losses_and_restored_backups() {
    for seed in 0..400 {
        let mut draw = Draw(seed);
        let mut cluster = Cluster::of(3, 4);
        let (mut reports, mut hub) = settled(&cluster);
        let mut backup = hub.clone();
        let mut said = BTreeMap::new();
        for _ in 0..40 {
            match draw.below(11) {
                0 => backup = hub.clone(),
                1 if draw.below(3) == 0 => {
                    hub = backup.clone();
                    hub.begin(&reports);
                }
                2 => {
                    reports = restarted(&cluster, &mut hub);
                    said.clear();
                    if draw.below(2) == 0 {
                        reports.hold(Hold::Full);
                        if draw.below(2) == 0 {
                            hub.take(&reports);
                        }
                        // An object turns, that is told, and it turns back.
                        if draw.below(2) == 0 {
                            let before = cluster.clone();
                            cluster.objects.insert((draw.below(3), draw.below(4)), 9);
                            cluster.tell(&reports);
                            hub.take(&reports);
                            if cluster.objects.len() == before.objects.len() {
                                cluster = before;
                                cluster.tell(&reports);
                            }
                        }
                    }
                    reports.hold(Hold::Nothing);
                }
                // A report that is committed or not, and not acknowledged.
                3 | 4 => {
                    if let Some(report) = reports.next(1) {
                        if draw.below(2) == 0 {
                            hub.commit(&report);
                        }
                        hub.begin(&reports);
                    }
                }
                // The hub takes it for good, and leaves out its first row.
                5 if draw.below(3) == 0 => {
                    if let Some(mut report) = reports.next(1) {
                        let begins = report.full.as_ref().is_some_and(|part| part.begin);
                        let has_rows = !report.units.is_empty() || !report.objects.is_empty();
                        if report.units.is_empty() {
                            report.objects.drain(..usize::from(has_rows));
                        } else {
                            report.units.remove(0);
                        }
                        hub.commit(&report);
                        hub.left_out |= has_rows;
                        assert!(!begins || hub.left_out == has_rows);
                        reports.ack(report.seq);
                    }
                }
                6 => drop(hub.take(&reports)),
                7 => {
                    let (of, n) = (draw.below(3), draw.below(6));
                    if cluster.objects.remove(&(of, n)).is_some() {
                        let gone = Cluster::object_row(ObjectState::Gone, 0);
                        reports.object(unit(of), key(n), gone);
                    }
                }
                8 => {
                    cluster.units.insert(draw.below(3), draw.below(3));
                    cluster.tell(&reports);
                }
                9 => {
                    let kinds = [ClusterConditionKind::Watches, ClusterConditionKind::Ledger];
                    let kind = kinds[usize::from(draw.below(2))];
                    let message = ["", "a", "b"][usize::from(draw.below(3))];
                    reports.condition(kind, message.is_empty(), message.to_owned(), Timestamp(1));
                    said.insert(kind as i32, message);
                }
                _ => {
                    cluster
                        .objects
                        .insert((draw.below(3), draw.below(6)), draw.below(3));
                    cluster.tell(&reports);
                }
            }
        }
        hub.begin(&reports);
        hub.take(&reports);
        said.retain(|_, message| !message.is_empty());
        assert_eq!(hub.wrong(), said, "seed {seed}");
        // A restart heals what was left out.
        let last = restarted(&cluster, &mut hub);
        last.hold(Hold::Nothing);
        hub.take(&last);
        let (_, expected) = settled(&cluster);
        assert_eq!(hub.rows, expected.rows, "seed {seed}");
        assert_eq!(hub.root, expected.root, "seed {seed}");
    }
}
