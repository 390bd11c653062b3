//! Removal of what is no longer desired: what has to be there before anything is deleted, and what comes of it.

use std::time::Duration;

use super::{
    sim::{Sim, content},
    world::{Content, Fault, Key, config, key},
};
use crate::{
    apply::{policy::Policy, removal::Claim},
    removal::Clearing,
    unit::{UnitState, event::Event, problem::Problem, record::Ready, remove::Claims},
};

const MINUTE: Duration = Duration::from_secs(60);

fn keys(count: usize) -> Vec<Key> {
    (0..count).map(|n| config(&format!("c{n:02}"))).collect()
}

pub(super) fn of(keys: &[Key]) -> Content {
    let all: Vec<_> = keys.iter().map(|key| (key, "1")).collect();
    content(&all)
}

/// A unit that has had so many objects and desires the first of them alone.
pub(super) fn shrunk(had: usize, has: usize) -> (Sim, Vec<Key>) {
    let keys = keys(had);
    let mut sim = Sim::ready(&of(&keys));
    sim.offer(&of(&keys[..has]));
    sim.run();
    (sim, keys)
}

fn pruned(sim: &Sim) -> Vec<&str> {
    let told = sim.log.told.iter().filter(|notice| notice.reason == "Pruned");
    told.map(|notice| notice.message.as_str()).collect()
}

#[test]
fn object_that_left_goes_once_that_is_cleared_and_not_before() {
    let (mut sim, keys) = shrunk(3, 2);
    sim.sleep(60 * MINUTE);
    assert!(sim.world.live.contains_key(&keys[2]));
    assert_eq!((sim.log.removals.len(), sim.ready_word()), (0, Ready::True));
    sim.accept(|entry| {
        entry.prune_cleared = Some(Clearing {
            version: 1,
            except: Vec::new(),
        });
    });
    sim.run();
    assert!(sim.world.live.contains_key(&keys[2]), "it left later");
    sim.log.ready.clear();
    sim.clear();
    assert!(!sim.world.live.contains_key(&keys[2]));
    assert!(!sim.world.records.contains_key(&keys[2]));
    assert!(!sim.state.objects().contains_key(&keys[2]));
    assert_eq!(pruned(&sim), ["deleted ConfigMap/a/c02"]);
    assert_eq!(sim.log.ready, [Ready::True], "the unit stays ready all the while");
    sim.assert_quiet();
}

#[test]
fn nothing_goes_while_prune_is_off_or_it_is_not_known_what_others_want() {
    let (mut sim, keys) = shrunk(3, 2);
    sim.others_want(None);
    sim.clear();
    sim.sleep(60 * MINUTE);
    assert!(sim.world.live.contains_key(&keys[2]));
    sim.accept(|entry| entry.settings.prune = false);
    sim.run();
    sim.others_want(Some(Claims::new()));
    sim.sleep(60 * MINUTE);
    assert!(sim.world.live.contains_key(&keys[2]));
    assert_eq!(sim.log.removals.len(), 0);
    sim.accept(|entry| entry.settings.prune = true);
    sim.run();
    assert!(!sim.world.live.contains_key(&keys[2]));
    sim.assert_quiet();
}

#[test]
fn what_another_unit_wants_stays_and_is_let_go_of_once_that_has_it() {
    let (mut sim, keys) = shrunk(3, 2);
    let claims = |has| {
        let by = "Kustomization/apps/other".into();
        Some(Claims::from([(keys[2].clone(), Claim { by, has, idle: false })]))
    };
    sim.others_want(claims(false));
    sim.clear();
    sim.sleep(60 * MINUTE);
    assert!(sim.world.live.contains_key(&keys[2]));
    assert_eq!(
        sim.state.objects()[&keys[2]].said(),
        "kept: claimed by Kustomization/apps/other"
    );
    sim.others_want(claims(true));
    assert!(sim.world.live.contains_key(&keys[2]) && !sim.world.records.contains_key(&keys[2]));
    assert_eq!(sim.log.removals.len(), 0, "nothing was asked of the cluster");
    assert_eq!(
        pruned(&sim),
        ["let go of ConfigMap/a/c02 (moved to Kustomization/apps/other)"]
    );
    sim.assert_quiet();
}

#[test]
fn claim_that_comes_while_objects_go_stops_what_is_not_begun() {
    let (mut sim, keys) = shrunk(5, 2);
    sim.accept(|entry| {
        let version = entry.version;
        entry.prune_cleared = Some(Clearing {
            version,
            except: Vec::new(),
        });
    });
    sim.run_until_removal();
    sim.others = None;
    sim.send(Event::Claims(None));
    assert_eq!(sim.log.cancels, 1);
    sim.finish(1);
    sim.sleep(60 * MINUTE);
    assert_eq!(sim.world.deleted.len(), 1);
    assert!(sim.world.live.contains_key(&keys[3]));
    assert_eq!(pruned(&sim), ["deleted ConfigMap/a/c02"]);
}

#[test]
fn eleven_of_twelve_are_listed_and_stay_until_that_target_is_approved() {
    let (mut sim, keys) = shrunk(12, 1);
    sim.clear();
    assert_eq!(sim.world.live.len(), 12);
    assert_eq!(
        (sim.ready_word(), sim.state.condition().reason.as_str()),
        (Ready::False, "PruneBlocked")
    );
    let message = sim.message();
    assert!(
        message.contains("11 objects")
            && message.contains("ConfigMap/a/c01")
            && message.contains("6 more")
            && message.contains("flotilla approve Kustomization/apps/web"),
        "{message}"
    );
    sim.assert_quiet();
    sim.restart();
    assert_eq!(sim.state.condition().reason, "PruneBlocked");
    sim.log.ready.clear();
    sim.run();
    assert_eq!(sim.log.ready, [Ready::False], "the word stands over a restart");
    let stale = crate::digest::Digest::of("target", b"another");
    sim.accept(|entry| entry.prune_approved = Some(stale));
    sim.run();
    assert_eq!(sim.world.live.len(), 12);
    sim.accept(|entry| entry.prune_approved = Some(entry.target));
    sim.run();
    assert_eq!(sim.world.live.keys().cloned().collect::<Vec<_>>(), keys[..1]);
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
    assert_eq!(pruned(&sim).len(), 1, "{:?}", pruned(&sim));
}

/// A path that leads elsewhere: all that was there vanishes, and much else comes.
#[test]
fn what_comes_anew_makes_no_room_for_what_leaves() {
    let keys = keys(12);
    let mut sim = Sim::ready(&of(&keys));
    let mut others: Vec<Key> = (0..100).map(|n| config(&format!("other{n}"))).collect();
    others.push(keys[0].clone());
    sim.offer(&of(&others));
    sim.run();
    sim.clear();
    assert_eq!(sim.world.live.len(), 112);
    assert_eq!(sim.state.condition().reason, "PruneBlocked");
    assert!(sim.message().contains("no more than 10"), "{}", sim.message());
}

#[test]
fn empty_set_deletes_nothing_unasked() {
    let (mut sim, keys) = shrunk(2, 0);
    sim.clear();
    sim.sleep(60 * MINUTE);
    assert_eq!(sim.world.live.len(), keys.len());
    assert!(
        sim.message().contains("nothing would be left"),
        "{}",
        sim.message()
    );
}

#[test]
fn clearing_of_an_earlier_time_is_none_of_a_later_one() {
    let keys = keys(3);
    let (a, b) = (of(&keys), of(&keys[..2]));
    let mut sim = Sim::ready(&a);
    sim.offer(&b);
    sim.run();
    sim.offer(&a);
    sim.run();
    // What was cleared when the object was away for the first time.
    sim.accept(|entry| {
        entry.prune_cleared = Some(Clearing {
            version: 2,
            except: Vec::new(),
        });
    });
    sim.run();
    sim.offer(&b);
    sim.run();
    sim.sleep(60 * MINUTE);
    assert!(sim.world.live.contains_key(&keys[2]));
    sim.clear();
    assert!(!sim.world.live.contains_key(&keys[2]));
}

#[test]
fn object_of_another_uid_or_without_our_mark_is_let_go_of_untouched() {
    for change in [
        |live: &mut super::world::Live| live.uid = "u-other".into(),
        |live: &mut super::world::Live| live.mark = None,
        |live: &mut super::world::Live| live.mark = Some("unit-2".into()),
    ] {
        let (mut sim, keys) = shrunk(3, 2);
        sim.world.edit(&keys[2], change);
        sim.clear();
        assert!(sim.world.live.contains_key(&keys[2]) && sim.world.deleted.is_empty());
        assert!(!sim.world.records.contains_key(&keys[2]));
        assert!(pruned(&sim)[0].starts_with("let go of"));
        sim.assert_quiet();
    }
}

#[test]
fn object_whose_manifest_said_that_it_stays_is_let_go_of() {
    let keys = keys(3);
    let mut all = of(&keys);
    all.get_mut(&keys[2]).expect("it is there").1 = Policy {
        keep: true,
        ..Policy::default()
    };
    let mut sim = Sim::ready(&all);
    sim.offer(&of(&keys[..2]));
    sim.run();
    assert!(sim.world.records.contains_key(&keys[2]), "nothing is cleared");
    sim.clear();
    assert!(sim.world.live.contains_key(&keys[2]) && !sim.world.records.contains_key(&keys[2]));
    assert!(sim.world.deleted.is_empty());
}

#[test]
fn refused_deletion_is_told_and_tried_again_at_the_retry_interval_until_it_is_taken() {
    let (mut sim, keys) = shrunk(3, 2);
    sim.world.faults.insert(keys[2].clone(), Fault::Refused);
    sim.clear();
    assert_eq!(
        (sim.ready_word(), sim.state.condition().reason.as_str()),
        (Ready::False, "PruneFailed")
    );
    assert!(matches!(sim.problem(&keys[2]), Some(Problem::Unpruned(_))));
    assert_eq!(sim.state.tally().pending_removal, 1);
    let tries = sim.log.removals.len();
    sim.sleep(10 * MINUTE);
    assert_eq!(sim.log.removals.len() - tries, 4, "each two minutes");
    let told = sim.log.unit_events();
    assert_eq!(
        told.iter().filter(|reason| **reason == "PruneFailed").count(),
        1,
        "told once"
    );
    sim.restart();
    sim.run();
    assert_eq!(sim.state.condition().reason, "PruneFailed");
    sim.world.faults.clear();
    sim.sleep(2 * MINUTE);
    assert!(!sim.world.live.contains_key(&keys[2]));
    assert_eq!(sim.ready_word(), Ready::True);
    sim.assert_quiet();
}

#[test]
fn finalizer_is_named_holds_no_job_and_the_row_goes_with_the_object() {
    for restarts in [false, true] {
        let (mut sim, keys) = shrunk(3, 2);
        sim.world.edit(&keys[2], |live| live.is_held = true);
        sim.clear();
        assert!(sim.world.live[&keys[2]].deleting);
        let said = "being deleted, held by finalizers hold";
        assert_eq!(sim.state.objects()[&keys[2]].said(), said);
        assert_eq!(pruned(&sim), [format!("deletes ConfigMap/a/c02 ({said})")]);
        assert!(sim.work.is_none());
        assert_eq!(sim.ready_word(), Ready::True);
        sim.sleep(6 * MINUTE);
        sim.assert_quiet();
        if restarts {
            sim.restart();
            sim.run();
            sim.run();
            assert_eq!(sim.state.objects()[&keys[2]].said(), said);
            sim.assert_quiet();
        }
        sim.world.release(&keys[2]);
        sim.run();
        assert!(!sim.state.objects().contains_key(&keys[2]));
        assert_eq!(sim.world.deleted.len(), 1, "asked once");
        sim.assert_quiet();
    }
}

#[test]
fn nothing_goes_of_a_unit_that_is_suspended_incomplete_fails_or_waits() {
    let (mut sim, keys) = shrunk(3, 2);
    sim.set_state(UnitState::Suspended);
    sim.clear();
    sim.sleep(60 * MINUTE);
    assert_eq!(sim.world.live.len(), 3);
    // Enforced again, with a content that is a part only.
    sim.incomplete = true;
    sim.set_state(UnitState::Active);
    sim.run();
    sim.sleep(60 * MINUTE);
    assert_eq!(sim.world.live.len(), 3);
    sim.incomplete = false;
    // The next one has not come yet.
    sim.offer_lacking(&of(&keys[..1]));
    sim.run();
    sim.sleep(60 * MINUTE);
    assert_eq!(sim.world.live.len(), 3);
    // It has, and cannot be applied whole.
    sim.world.faults.insert(keys[0].clone(), Fault::Refused);
    sim.offer(&content(&[(&keys[0], "2")]));
    sim.content_comes();
    sim.run();
    sim.clear();
    sim.sleep(10 * MINUTE);
    assert_eq!(sim.world.live.len(), 3);
    sim.world.faults.clear();
    sim.sleep(2 * MINUTE);
    assert_eq!(sim.world.live.len(), 1);
    sim.assert_quiet();
}

#[test]
fn newer_entry_stops_a_removal_and_what_it_desires_again_stays() {
    let (mut sim, keys) = shrunk(5, 2);
    sim.accept(|entry| {
        let version = entry.version;
        entry.prune_cleared = Some(Clearing {
            version,
            except: Vec::new(),
        });
    });
    sim.run_until_removal();
    sim.offer(&of(&keys));
    sim.finish(1);
    sim.run();
    assert_eq!(sim.world.deleted.len(), 1, "what was under way");
    assert_eq!(sim.world.live.len(), 5, "and that is there again");
    sim.sleep(60 * MINUTE);
    assert_eq!(sim.world.deleted.len(), 1);
}

#[test]
fn objects_of_a_definition_go_before_it_and_a_namespace_after_all_that_is_in_it() {
    let (crd, namespace) = (
        key("CustomResourceDefinition", "widgets.example.com"),
        key("Namespace", "a"),
    );
    let widget = std::sync::Arc::new(crate::object::ObjectKey::new("example.com", "Widget", "a", "w"));
    let other = std::sync::Arc::new(crate::object::ObjectKey::new("", "ConfigMap", "b", "x"));
    let web = key("Service", "web");
    let all = content(&[
        (&crd, "1"),
        (&namespace, "1"),
        (&widget, "1"),
        (&web, "1"),
        (&other, "1"),
    ]);
    let mut sim = Sim::ready(&all);
    sim.offer(&content(&[(&other, "1")]));
    sim.run();
    sim.world.edit(&widget, |live| live.is_held = true);
    sim.clear();
    assert_eq!(sim.world.live.len(), 5, "none of these kinds goes unasked");
    assert!(
        sim.message().contains("none of its kind goes unasked"),
        "{}",
        sim.message()
    );
    sim.accept(|entry| entry.prune_approved = Some(entry.target));
    sim.run();
    sim.sleep(30 * MINUTE);
    let asked = |sim: &Sim| -> Vec<Key> { sim.world.deleted.iter().map(|(key, _)| key.clone()).collect() };
    assert_eq!(
        asked(&sim),
        [widget.clone(), web.clone()],
        "a finalizer is waited for"
    );
    sim.world.release(&widget);
    sim.run();
    assert_eq!(asked(&sim), [widget, web, crd, namespace]);
    sim.assert_quiet();
}

#[test]
fn namespace_in_which_something_stays_is_not_deleted_even_if_that_was_allowed() {
    let (namespace, x) = (key("Namespace", "a"), config("x"));
    let mut sim = Sim::ready(&content(&[(&namespace, "1"), (&x, "1")]));
    sim.offer(&content(&[(&x, "1")]));
    sim.run();
    sim.accept(|entry| entry.prune_approved = Some(entry.target));
    sim.clear();
    sim.sleep(60 * MINUTE);
    assert!(sim.world.deleted.is_empty());
    assert_eq!(
        sim.state.objects()[&namespace].said(),
        "kept as long as ConfigMap/a/x is in it"
    );
    sim.assert_quiet();
}

#[test]
fn object_that_is_to_stay_keeps_the_namespace_that_it_is_in() {
    for in_place in [false, true] {
        let (namespace, x, y) = (key("Namespace", "a"), config("x"), config("y"));
        let other = std::sync::Arc::new(crate::object::ObjectKey::new("", "ConfigMap", "b", "x"));
        let mut all = content(&[(&namespace, "1"), (&x, "1"), (&y, "1"), (&other, "1")]);
        let keep = Policy {
            keep: true,
            ..Policy::default()
        };
        if !in_place {
            all.get_mut(&x).expect("it is there").1 = keep;
        }
        let mut sim = Sim::ready(&all);
        if in_place {
            sim.world.edit(&x, |live| live.policy = keep);
        }
        sim.offer(&content(&[(&other, "1")]));
        sim.run();
        sim.accept(|entry| entry.prune_approved = Some(entry.target));
        sim.clear();
        sim.sleep(60 * MINUTE);
        let asked: Vec<_> = sim.world.deleted.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(asked, [y]);
        assert!(sim.state.objects()[&namespace].said().contains("ConfigMap/a/x"));
        assert!(sim.state.objects()[&x].said().contains("annotation"));
        sim.assert_quiet();
        sim.restart();
        sim.sleep(60 * MINUTE);
        assert_eq!(sim.world.deleted.len(), 1);
    }
}

/// Some are excepted at first: the whole set counts all the same.
#[test]
fn set_that_is_cleared_part_by_part_passes_no_guard_that_way() {
    let keys = keys(16);
    let mut sim = Sim::ready(&of(&keys));
    sim.offer(&of(&keys[..9]));
    sim.run();
    sim.offer(&of(&keys[..2]));
    sim.run();
    sim.accept(|entry| {
        entry.prune_cleared = Some(Clearing {
            version: 2,
            except: Vec::new(),
        });
    });
    sim.run();
    sim.sleep(60 * MINUTE);
    assert_eq!(
        sim.world.live.len(),
        16,
        "fourteen leave, seven of them are cleared"
    );
    assert_eq!(sim.state.condition().reason, "PruneBlocked");
}
