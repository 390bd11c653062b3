use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use uuid::Uuid;

use super::{Claim, Edges, Judgement, Owners, Standing, Wait};
use crate::{
    cel::Work,
    id::{ResourceUid, UnitId},
    object::ObjectKey,
    random::Random,
    unit::{AppRef, Dependency, Entry, Needed, ReadyExpr, Settings, Substitution, UnitState, target_digest},
};

fn id(n: u64) -> UnitId {
    UnitId(Uuid::from_u128(u128::from(n)))
}

fn entry(n: u64, needs: &[u64]) -> Entry {
    let settings = Settings {
        interval: Duration::from_secs(600),
        retry_interval: Duration::from_secs(60),
        timeout: Duration::from_secs(300),
        wait: false,
        prune: true,
        common_labels: BTreeMap::new(),
        common_annotations: BTreeMap::new(),
        substitution: Substitution::Off,
        default_namespace: String::new(),
        ..Settings::default()
    };
    Entry {
        unit: id(n),
        version: 1,
        app: AppRef {
            uid: ResourceUid(Uuid::from_u128(u128::from(n))),
            kind: "Kustomization".into(),
            namespace: "apps".into(),
            name: format!("u{n}"),
        },
        content: None,
        target: target_digest(None, &settings, &[]),
        revision: String::new(),
        state: UnitState::Active,
        prune_cleared: None,
        prune_approved: None,
        settings,
        variables: Vec::new(),
        depends_on: needs.iter().map(|need| dependency(*need, 0)).collect(),
        withheld: Vec::new(),
        requested: String::new(),
    }
}

fn dependency(n: u64, version: u64) -> Dependency {
    Dependency {
        name: format!("apps/u{n}"),
        units: vec![Needed {
            unit: id(n),
            version,
            app: None,
        }],
        ready: None,
    }
}

fn at(ready: bool, applied: Option<u64>) -> Option<Standing> {
    Some(Standing {
        ready,
        applied,
        said: 0,
    })
}

fn ready(_: UnitId) -> Option<Standing> {
    at(true, None)
}

fn unsaid(_: UnitId) -> Value {
    Value::Null
}

fn words(wait: Option<Wait>) -> Option<String> {
    Some(wait?.message)
}

#[test]
fn unit_waits_for_what_it_needs_by_name() {
    let mut edges = Edges::new(&[entry(1, &[]), entry(2, &[1])]);
    let standing = |ready| move |_| at(ready, None);
    assert_eq!(edges.waits_for(id(1), standing(false), unsaid), None);
    assert_eq!(
        words(edges.waits_for(id(2), standing(false), unsaid)).as_deref(),
        Some("dependency 'apps/u1' is not ready")
    );
    assert_eq!(edges.waits_for(id(2), standing(true), unsaid), None);
    assert_eq!(edges.changed(id(1)), BTreeSet::from([id(2)]));
    assert_eq!(edges.set(&entry(3, &[9])), BTreeSet::from([id(3)]));
    let waits = edges.waits_for(id(3), ready, unsaid).expect("it is not known");
    assert!(!waits.passes);
    assert_eq!(
        waits.message,
        "dependency 'apps/u9' not found: this cluster has no such app"
    );
    assert_eq!(edges.set(&entry(9, &[])), BTreeSet::from([id(3), id(9)]));
    assert_eq!(edges.waits_for(id(3), ready, unsaid), None);
    assert_eq!(edges.remove(&[id(9)]), BTreeSet::from([id(3)]));
    assert!(edges.waits_for(id(3), ready, unsaid).is_some());
}

#[test]
fn version_that_is_asked_for_or_a_later_one_must_be_applied() {
    let mut dependent = entry(2, &[]);
    dependent.depends_on = vec![dependency(1, 3)];
    let edges = Edges::new(&[entry(1, &[]), dependent]);
    let waits = |ready, applied| words(edges.waits_for(id(2), |_| at(ready, applied), unsaid));
    assert_eq!(
        waits(true, Some(2)).as_deref(),
        Some("dependency 'apps/u1' revision is not up to date")
    );
    assert_eq!(
        waits(false, Some(2)).as_deref(),
        Some("dependency 'apps/u1' is not ready")
    );
    // Whatever came after it has what was asked for: nobody waits for what was overtaken.
    for applied in [3, 4] {
        assert_eq!(waits(true, Some(applied)), None);
    }
}

#[test]
fn name_leads_to_the_first_unit_that_the_cluster_has() {
    let mut dependent = entry(3, &[]);
    let either = Dependency {
        units: [1, 2].map(|n| dependency(n, 0).units.remove(0)).into(),
        ..dependency(1, 0)
    };
    dependent.depends_on = vec![either];
    let mut edges = Edges::new(&[entry(2, &[]), dependent]);
    let only = |ready: u64| move |unit| at(unit == id(ready), None);
    assert_eq!(edges.waits_for(id(3), only(2), unsaid), None);
    assert_eq!(edges.set(&entry(1, &[])), BTreeSet::from([id(1), id(3)]));
    assert!(edges.waits_for(id(3), only(2), unsaid).is_some());
    assert_eq!(edges.waits_for(id(3), only(1), unsaid), None);
    // What is let go of is no app of this cluster.
    let detached = Entry {
        state: UnitState::Detached,
        ..entry(1, &[])
    };
    assert_eq!(edges.set(&detached), BTreeSet::from([id(1), id(3)]));
    assert_eq!(edges.waits_for(id(3), only(2), unsaid), None);
}

#[test]
fn what_is_said_of_a_unit_concerns_those_alone_whose_expressions_look_at_it() {
    let mut looks = entry(3, &[1]);
    let app = serde_json::json!({ "metadata": { "generation": 1 } });
    looks.depends_on[0].ready = Some(Box::new(ReadyExpr {
        expr: "dep.status.lastAppliedRevision == 'b'".into(),
        app,
    }));
    let edges = Edges::new(&[entry(1, &[]), entry(2, &[1]), looks]);
    let standing = |ready, said| Standing {
        ready,
        applied: Some(1),
        said,
    };
    assert_eq!(
        edges.moved(id(1), standing(true, 1), standing(true, 2)),
        BTreeSet::from([id(3)])
    );
    assert_eq!(
        edges.moved(id(1), standing(false, 1), standing(true, 2)),
        BTreeSet::from([id(2), id(3)])
    );
    let status = |revision: &'static str| move |_| serde_json::json!({ "lastAppliedRevision": revision });
    assert_eq!(
        words(edges.waits_for(id(3), ready, status("a"))).as_deref(),
        Some("dependency 'apps/u1' is not ready according to readyExpr eval")
    );
    // It replaces what else is asked of a dependency.
    assert_eq!(edges.waits_for(id(3), |_| at(false, None), status("b")), None);
}

#[test]
fn the_expressions_of_a_unit_share_what_they_may_take_and_those_of_all_units_a_turn() {
    let app = serde_json::json!({ "spec": { "x": vec![1; 200] } });
    let heavy = |number, needed: &[u64]| {
        let mut entry = entry(number, needed);
        for need in &mut entry.depends_on {
            need.units[0].app = Some(Box::new(app.clone()));
            need.ready = Some(Box::new(ReadyExpr {
                expr: "dep.spec.x.all(a, dep.spec.x.all(b, a == b))".into(),
                app: app.clone(),
            }));
        }
        entry
    };
    let all: Vec<u64> = (1..=20).collect();
    let mut entries: Vec<_> = all.iter().map(|number| entry(*number, &[])).collect();
    entries.extend([heavy(30, &[1]), heavy(31, &all), entry(32, &[1])]);
    let edges = Edges::new(&entries);
    assert_eq!(edges.waits_for(id(30), ready, unsaid), None);
    let waits = words(edges.waits_for(id(31), ready, unsaid)).expect("it takes too much");
    assert!(waits.contains("together"), "{waits}");
    let mut turn = Work::default();
    let mut judged = 0;
    while edges.judge(id(30), ready, unsaid, &mut turn) == Judgement::Now(None) {
        judged += 1;
        assert!(judged < 1000, "a turn has no end");
    }
    assert!(judged > 1 && turn.is_spent());
    assert_eq!(edges.judge(id(30), ready, unsaid, &mut turn), Judgement::Later);
    assert_eq!(
        edges.judge(id(32), ready, unsaid, &mut turn),
        Judgement::Now(None)
    );
}

#[test]
fn cycle_is_refused_with_its_members_and_those_behind_it_merely_wait() {
    let mut edges = Edges::new(&[
        entry(1, &[3]),
        entry(2, &[1]),
        entry(3, &[2]),
        entry(4, &[1]),
        entry(5, &[5]),
    ]);
    for (member, cycle) in [
        (1, "dependency cycle: apps/u1 -> apps/u3 -> apps/u2 -> apps/u1"),
        (2, "dependency cycle: apps/u2 -> apps/u1 -> apps/u3 -> apps/u2"),
    ] {
        assert_eq!(
            words(edges.waits_for(id(member), ready, unsaid)).as_deref(),
            Some(cycle)
        );
    }
    assert_eq!(edges.waits_for(id(4), ready, unsaid), None);
    assert_eq!(
        words(edges.waits_for(id(5), ready, unsaid)).as_deref(),
        Some("dependency cycle: apps/u5 -> apps/u5")
    );
    // All members are judged anew when one leaves.
    assert_eq!(edges.set(&entry(3, &[])), BTreeSet::from([id(1), id(2), id(3)]));
    assert_eq!(edges.cycle(id(1)), None);
}

#[test]
fn edges_of_random_units_hold_whatever_the_order_of_arrival() {
    for seed in 1..=2000 {
        let mut random = Random(seed);
        let count = 1 + random.below(9);
        let mut entries: Vec<Entry> = (0..count)
            .map(|n| {
                let needs: Vec<u64> = (0..random.below(3)).map(|_| random.below(count + 1)).collect();
                let mut entry = entry(n, &needs);
                for need in &mut entry.depends_on {
                    if random.below(3) == 0 {
                        let other = dependency(random.below(count + 3), 0);
                        need.units.insert(0, other.units[0].clone());
                    }
                }
                if random.below(5) == 0 {
                    entry.state = UnitState::Detached;
                }
                entry
            })
            .collect();
        let all = Edges::new(&entries);
        for _ in 0..entries.len() {
            let (a, b) = (random.below(count), random.below(count));
            entries.swap(
                usize::try_from(a).expect("small"),
                usize::try_from(b).expect("small"),
            );
        }
        let mut grown = Edges::default();
        for entry in &entries {
            grown.set(&super::tests::entry(99, &[0]));
            grown.set(entry);
        }
        grown.remove(&[id(99)]);
        assert_eq!(grown, all, "seed {seed}");
        let place: BTreeMap<UnitId, usize> = all
            .apply_order()
            .iter()
            .enumerate()
            .map(|(place, unit)| (*unit, place))
            .collect();
        assert_eq!(place.len(), entries.len(), "seed {seed}: each once");
        for entry in &entries {
            for need in &entry.depends_on {
                let need = meant(&entries, need);
                let Some(before) = need.and_then(|need| place.get(&need)) else {
                    continue;
                };
                let same_cycle = all
                    .cycle(entry.unit)
                    .is_some_and(|members| need.is_some_and(|need| members.contains(&need)));
                assert!(same_cycle || *before < place[&entry.unit], "seed {seed}");
                assert!(
                    need.is_some_and(|need| all.changed(need).contains(&entry.unit)),
                    "seed {seed}"
                );
            }
            assert_eq!(
                all.cycle(entry.unit).is_some(),
                reaches_itself(&entries, entry.unit),
                "seed {seed}"
            );
        }
        let mut reversed: Vec<UnitId> = all.removal_order().collect();
        reversed.reverse();
        assert_eq!(reversed, all.apply_order());
    }
}

fn meant(entries: &[Entry], need: &Dependency) -> Option<UnitId> {
    let mut units = need.units.iter().map(|needed| needed.unit);
    units.find(|unit| {
        let mut entries = entries.iter();
        entries.any(|entry| entry.unit == *unit && entry.state != UnitState::Detached)
    })
}

fn reaches_itself(entries: &[Entry], unit: UnitId) -> bool {
    let needs = |unit: UnitId| {
        entries
            .iter()
            .filter(move |entry| entry.unit == unit)
            .flat_map(|e| &e.depends_on)
            .filter_map(|need| meant(entries, need))
    };
    let mut seen = BTreeSet::new();
    let mut open: Vec<UnitId> = needs(unit).collect();
    while let Some(next) = open.pop() {
        if seen.insert(next) {
            open.extend(needs(next));
        }
    }
    seen.contains(&unit)
}

#[test]
fn holder_keeps_an_object_and_a_move_hands_it_over() {
    let key = Arc::new(ObjectKey::new("", "ConfigMap", "a", "x"));
    let claim = |desired, held| BTreeMap::from([(key.clone(), Claim { desired, held })]);
    let mut owners = Owners::default();
    owners.set(id(2), claim(true, true));
    assert_eq!(owners.set(id(1), claim(true, false)), BTreeSet::from([id(1)]));
    assert_eq!(owners.withheld(id(1)), BTreeMap::from([(key.clone(), id(2))]));
    assert_eq!(owners.withheld(id(2)), BTreeMap::new());
    // It leaves the one that has it: handed over.
    assert_eq!(owners.set(id(2), claim(false, true)), BTreeSet::from([id(1)]));
    assert_eq!(owners.owner(&key), Some(id(1)));
    assert_eq!(owners.withheld(id(2)), BTreeMap::new(), "it does not desire it");
    assert_eq!(owners.remove(id(1)), BTreeSet::new(), "nobody else desires it");
    assert_eq!(owners.owner(&key), Some(id(2)));
    // The holder goes while another waits for the object.
    owners.set(id(2), claim(true, true));
    owners.set(id(3), claim(true, false));
    assert_eq!(owners.remove(id(2)), BTreeSet::from([id(3)]));
    assert_eq!(
        (owners.owner(&key), owners.withheld(id(3)).len()),
        (Some(id(3)), 0)
    );
    owners.remove(id(3));
    assert_eq!(owners, Owners::default());
}

#[test]
fn owner_is_one_and_the_same_whatever_the_order_of_arrival() {
    let keys: Vec<Arc<ObjectKey>> = (0..4)
        .map(|n| Arc::new(ObjectKey::new("", "ConfigMap", "a", &n.to_string())))
        .collect();
    for seed in 1..=2000 {
        let mut random = Random(seed);
        let mut owners = Owners::default();
        let mut known: BTreeMap<UnitId, BTreeMap<Arc<ObjectKey>, Claim>> = BTreeMap::new();
        for _ in 0..12 {
            let unit = id(random.below(4));
            let mut claims = BTreeMap::new();
            for key in &keys {
                let (desired, held) = (random.below(2) == 0, random.below(2) == 0);
                if desired || held {
                    claims.insert(key.clone(), Claim { desired, held });
                }
            }
            let before: Vec<_> = (0..4).map(|n| owners.withheld(id(n))).collect();
            let concerned = owners.set(unit, claims.clone());
            known.insert(unit, claims);
            for (n, before) in (0..4).zip(before) {
                let is_changed = owners.withheld(id(n)) != before;
                assert_eq!(
                    is_changed,
                    concerned.contains(&id(n)),
                    "seed {seed}: unit {n} is told of a change"
                );
            }
        }
        let mut anew = Owners::default();
        for (unit, claims) in known.iter().rev() {
            anew.set(*unit, claims.clone());
        }
        assert_eq!(anew, owners, "seed {seed}");
        for key in &keys {
            let wanted = known
                .iter()
                .filter(|(_, claims)| claims.get(key).is_some_and(|claim| claim.desired));
            let may_write: Vec<UnitId> = wanted
                .map(|(unit, _)| *unit)
                .filter(|unit| !owners.withheld(*unit).contains_key(key))
                .collect();
            assert!(may_write.len() <= 1, "seed {seed}: two write {key}");
            assert!(
                may_write.is_empty() || owners.owner(key) == may_write.first().copied(),
                "seed {seed}"
            );
            let holder = known
                .iter()
                .filter(|(_, claims)| claims.get(key).is_some_and(|claim| claim.desired && claim.held));
            if let Some((unit, _)) = holder.min_by_key(|(unit, _)| **unit) {
                assert_eq!(owners.owner(key), Some(*unit), "seed {seed}: the holder keeps it");
            }
        }
    }
}

#[test]
fn units_that_go_together_leave_the_edges_of_those_that_stay() {
    let all: Vec<Entry> = vec![
        entry(1, &[]),
        entry(2, &[1]),
        entry(3, &[2]),
        entry(4, &[5]),
        entry(5, &[4]),
        entry(6, &[]),
    ];
    let mut edges = Edges::new(&all);
    let concerned = edges.remove(&[id(1), id(2), id(5), id(77)]);
    assert_eq!(
        concerned,
        BTreeSet::from([id(3), id(4)]),
        "3 lacks 2, and 4 is in no cycle"
    );
    assert_eq!(
        edges,
        Edges::new(&[entry(3, &[2]), entry(4, &[5]), entry(6, &[])])
    );
    assert_eq!(edges.remove(&[id(77)]), BTreeSet::new());
}

/// Of many apps that name each other each would have all the others.
#[test]
fn a_large_cycle_names_few_of_its_members_to_each() {
    let count = 800;
    let all: Vec<u64> = (2..=count).collect();
    let mut entries = vec![entry(1, &all)];
    entries.extend(all.iter().map(|number| entry(*number, &[1])));
    let mut edges = Edges::new(&entries);
    let words = words(edges.waits_for(id(7), ready, unsaid)).expect("it waits");
    assert_eq!(words, "dependency cycle: apps/u7 -> apps/u1 -> apps/u7");
    let one = edges.cycle(id(1)).expect("it is in it");
    let other = edges.cycle(id(7)).expect("it is in it");
    assert!(std::ptr::eq(one, other), "they share it");
    assert_eq!(edges.set(&entry(1, &[])).len(), 800);
}
