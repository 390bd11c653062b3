//! Random stories in which objects leave, come back, are replaced, claimed, held and refused, with crashes in between; and
//! an oracle that restates from the whole history, slowly and in its own words, when an object may be deleted.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{
    sim::{Sim, content, not_ready},
    world::{Content, Fault, Key, config, key},
};
use crate::{
    apply::{
        policy::{Policy, Write},
        removal::{Claim, holds},
    },
    digest::Digest,
    object::ObjectKey,
    removal::Clearing,
    unit::{UnitState, event::Event, record::Attained, remove::Claims},
};

const CASES: u64 = 600;
const STEPS: usize = 80;
const MINUTE: Duration = Duration::from_secs(60);

impl Sim {
    /// The six rules, over all that has happened: complete, proven, within the guards, claimed by nobody else, of the entry
    /// that counts, and never for want of something.
    pub(super) fn assert_may_remove(&self, keys: &[Key]) {
        let entry = &self.accepted.entry;
        assert!(entry.state == UnitState::Active && entry.settings.prune);
        let offered = Attained {
            version: entry.version,
            target: entry.target,
        };
        assert_eq!(self.state.record().applied, Some(offered), "it is not applied");
        let digest = entry.content.expect("content");
        assert_eq!(
            self.history.last(),
            Some(&(entry.version, digest, true)),
            "of another content"
        );
        let wanted = &self.contents[&digest];
        let cleared = entry.prune_cleared.as_ref().expect("something is cleared");
        let others = self.others.as_ref().expect("others are known");
        let last_desired = |key: &Key| {
            let desired = self.history.iter().rev();
            desired
                .map(|(version, content, _)| (*version, &self.contents[content]))
                .find(|(_, content)| content.contains_key(key))
        };
        for key in keys {
            assert!(!wanted.contains_key(key), "{key} is desired");
            assert!(
                !others.contains_key(key) && !cleared.except.contains(key),
                "{key} is claimed"
            );
            let policy = self.world.records[key].policy;
            assert!(
                !policy.keep && !policy.paused && policy.write != Write::Ignore,
                "{key} is to stay"
            );
            let desired_at = last_desired(key).map_or(0, |(version, _)| version);
            assert!(
                cleared.version > desired_at,
                "{key} was desired at {desired_at}, {cleared:?}"
            );
            for other in self.world.records.keys() {
                let is_in = match key.kind.as_str() {
                    "Namespace" => other.namespace == key.name,
                    "CustomResourceDefinition" => key.name.ends_with(&format!(".{}", other.group)),
                    _ => false,
                };
                assert!(!is_in, "{other} is in {key}");
            }
        }
        if entry.prune_approved == Some(entry.target) {
            return;
        }
        assert!(!wanted.is_empty(), "nothing would be left");
        // What holds others goes after them, if at all, and is judged by itself then.
        let holds_others = |key: &Key| self.world.records.keys().any(|other| holds(key, other));
        let leaves = |key: &&Key| {
            if holds_others(key) {
                return false;
            }
            let record = &self.world.records[*key];
            let is_held_off =
                record.policy.keep || record.policy.paused || record.policy.write == Write::Ignore;
            let is_going = self.world.live.get(*key).is_some_and(|live| live.deleting);
            let is_claimed = others.contains_key(*key) || cleared.except.contains(key);
            !wanted.contains_key(*key) && !is_held_off && !is_going && !is_claimed
        };
        let leaving: Vec<&Key> = self.world.records.keys().filter(leaves).collect();
        // Those that are deleting already may be looked at beside any set.
        if keys
            .iter()
            .all(|key| self.world.live.get(key).is_some_and(|live| live.deleting))
        {
            return;
        }
        let had = leaving
            .iter()
            .filter_map(|key| last_desired(key))
            .map(|(_, content)| content.len())
            .min();
        let most = (had.unwrap_or(0) * 3 / 10).max(10);
        assert!(leaving.len() <= most, "{} of {most} at once", leaving.len());
        let asked = ["Namespace", "CustomResourceDefinition", "PersistentVolumeClaim"];
        let asked: Vec<_> = leaving
            .iter()
            .filter(|key| asked.contains(&key.kind.as_str()))
            .collect();
        assert!(asked.is_empty(), "unasked: {asked:?}");
    }
}

fn keys() -> Vec<Key> {
    let mut keys = vec![
        key("CustomResourceDefinition", "widgets.example.com"),
        Arc::new(ObjectKey::new("example.com", "Widget", "b", "w")),
        key("Namespace", "a"),
        key("PersistentVolumeClaim", "data"),
    ];
    // Outside of that namespace as well, so that most sets pass.
    keys.extend((0..6).map(|n| config(&format!("c{n}"))));
    keys.extend((0..6).map(|n| Arc::new(ObjectKey::new("", "ConfigMap", "b", &format!("c{n}")))));
    keys
}

fn below(sim: &mut Sim, most: usize) -> usize {
    usize::try_from(sim.random(most as u64)).expect("small")
}

fn pick(sim: &mut Sim) -> Key {
    let keys = keys();
    keys[below(sim, keys.len())].clone()
}

/// Mostly those that hold others stay, and mostly few leave.
fn random_content(sim: &mut Sim) -> Content {
    let drops = [1, 3, 8][below(sim, 3)];
    let mut content = Content::new();
    for key in keys() {
        let is_counted_alone = !matches!(key.kind.as_str(), "ConfigMap" | "Widget");
        let stays = match is_counted_alone {
            true => sim.random(12) > 0,
            false => sim.random(12) >= drops,
        };
        if stays {
            let policy = Policy {
                keep: sim.random(16) == 0,
                ..Policy::default()
            };
            content.insert(key, (sim.random(2).to_string(), policy));
        }
    }
    content
}

fn happen(sim: &mut Sim) {
    match sim.random(44) {
        0..8 => drop(sim.deliver()),
        8..16 => {
            let reach = below(sim, 5);
            sim.finish(reach);
        }
        16..19 => {
            let some = sim.millis + sim.random(90_000) + 1;
            sim.millis = sim.wake().filter(|_| some.is_multiple_of(2)).unwrap_or(some);
            sim.send(Event::Tick);
        }
        19 | 20 => {
            let content = random_content(sim);
            sim.offer(&content);
        }
        21 => {
            let content = random_content(sim);
            sim.offer_lacking(&content);
        }
        22 => sim.content_comes(),
        23..27 => {
            let back = sim.random(3);
            let except: Vec<ObjectKey> = (0..sim.random(2)).map(|_| pick(sim).as_ref().clone()).collect();
            sim.accept(|entry| {
                let version = entry.version.saturating_sub(back);
                entry.prune_cleared = Some(Clearing { version, except });
            });
        }
        27 => {
            let is_stale = sim.random(2) == 0;
            sim.accept(|entry| {
                entry.prune_approved = Some(match is_stale {
                    true => Digest::of("target", b"another"),
                    false => entry.target,
                });
            });
        }
        28 => sim.others_want(None),
        29..31 => {
            let claims: Claims = (0..sim.random(3))
                .map(|n| {
                    let by = "Kustomization/apps/other".into();
                    (
                        pick(sim),
                        Claim {
                            by,
                            has: n == 0,
                            idle: false,
                        },
                    )
                })
                .collect();
            sim.others_want(Some(claims));
        }
        31 => sim.others_want(Some(Claims::new())),
        32 => sim.run(),
        33 => sim.crash(),
        34 => {
            let key = pick(sim);
            match sim.random(3) {
                0 => sim.world.delete(&key),
                1 => sim.world.edit(&key, |live| live.mark = None),
                // Another stands in its place.
                _ => {
                    let uid = format!("theirs{}", sim.random(100));
                    sim.world.edit(&key, |live| live.uid = uid);
                }
            }
        }
        35 => {
            let key = pick(sim);
            sim.world.edit(&key, |live| live.is_held = true);
        }
        36 => {
            let key = pick(sim);
            sim.world.release(&key);
        }
        37 => {
            let key = pick(sim);
            let fault = [Fault::Refused, Fault::Silent][below(sim, 2)];
            sim.world.faults.insert(key, fault);
        }
        38 => sim.world.faults.clear(),
        39 => {
            let states = [UnitState::Suspended, UnitState::Detached];
            let state = match sim.is_active() {
                true => states[below(sim, 2)].clone(),
                false => UnitState::Active,
            };
            sim.set_state(state);
        }
        40 => sim.incomplete = sim.random(2) == 0,
        41 => sim.accept(|entry| entry.settings.prune = !entry.settings.prune),
        42 => {
            sim.edge = !sim.edge;
            sim.send(match sim.edge {
                true => not_ready(),
                false => Event::Edge(None),
            });
        }
        _ => {
            let key = pick(sim);
            let keep = sim.random(2) == 0;
            sim.world.edit(&key, |live| live.policy.keep = keep);
        }
    }
}

/// All that stands in the way ends, and all that left may go.
fn heal(sim: &mut Sim) {
    sim.world.faults.clear();
    for key in keys() {
        sim.world.release(&key);
    }
    (sim.edge, sim.incomplete) = (false, false);
    sim.send(Event::Edge(None));
    sim.set_state(UnitState::Active);
    sim.accept(|entry| entry.settings.prune = true);
    sim.content_comes();
    sim.others_want(Some(Claims::new()));
    sim.sleep(30 * MINUTE);
    sim.list();
    sim.sleep(30 * MINUTE);
    sim.clear();
    sim.accept(|entry| entry.prune_approved = Some(entry.target));
    sim.sleep(90 * MINUTE);
}

#[test]
fn object_is_deleted_only_where_an_oracle_agrees_and_what_may_go_goes_in_the_end() {
    let mut deleted = 0;
    for seed in 1..=CASES {
        let mut sim = Sim::new(&content(&[]));
        sim.seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let all: Content = keys()
            .into_iter()
            .map(|key| (key, ("1".to_owned(), Policy::default())))
            .collect();
        sim.offer(&all);
        sim.run();
        let story = std::panic::AssertUnwindSafe(&mut sim);
        let result = std::panic::catch_unwind(move || {
            let std::panic::AssertUnwindSafe(sim) = { story };
            for _ in 0..STEPS {
                happen(sim);
            }
            heal(sim);
            let unproven: BTreeSet<Key> = sim.state.leaving().cloned().collect();
            for key in unproven {
                // Or one that nothing proves, or something that stays, is in it.
                let is_unproven = sim.world.records[&key].uid.is_none();
                let mut rest = sim.state.objects().keys();
                let is_needed = rest.any(|other| holds(&key, other));
                let says_keep = sim.state.objects()[&key].said().starts_with("kept: ");
                assert!(
                    is_unproven || is_needed || says_keep,
                    "{key} stays: {:#?}",
                    sim.state.objects()[&key]
                );
            }
            let live: BTreeSet<Key> = sim.content_now().keys().cloned().collect();
            assert!(
                live.iter().all(|key| sim.world.live.contains_key(key)),
                "all that is desired is there"
            );
            sim.world.deleted.len()
        });
        match result {
            Ok(count) => deleted += count,
            Err(panic) => {
                eprintln!("seed {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(
        deleted > usize::try_from(CASES).expect("small"),
        "{deleted} deletions prove little"
    );
}
