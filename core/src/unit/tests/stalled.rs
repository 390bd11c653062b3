//! Deletions that something holds up for too long: that is told once of each, and asks for nothing.

use std::time::Duration;

use super::{
    prune::{of, shrunk},
    sim::Sim,
    world::Fault,
};
use crate::unit::record::Ready;

const MINUTE: Duration = Duration::from_secs(60);

fn stalled(sim: &Sim) -> Vec<&str> {
    let told = sim.log.told.iter();
    let told = told.filter(|notice| notice.reason == "PruneStalled" && notice.warning);
    told.map(|notice| notice.message.as_str()).collect()
}

#[test]
fn deletion_that_is_held_up_for_longer_than_the_timeout_is_warned_of_once_with_what_holds_it() {
    let (mut sim, keys) = shrunk(4, 2);
    sim.world.edit(&keys[2], |live| live.is_held = true);
    sim.clear();
    assert_eq!(sim.wake(), Some(sim.millis + 300_000));
    // A look meanwhile is no beginning.
    sim.sleep(3 * MINUTE);
    sim.accept(|entry| entry.requested = "soon".into());
    sim.run();
    assert_eq!(sim.wake(), Some(sim.millis + 120_000));
    sim.sleep(2 * MINUTE - Duration::from_secs(1));
    assert_eq!(stalled(&sim), [""; 0]);
    assert!(!sim.message().contains("in time"), "{}", sim.message());
    sim.sleep(Duration::from_secs(1));
    let said = "ConfigMap/a/c02 (being deleted, held by finalizers hold)";
    assert_eq!(
        stalled(&sim),
        [format!("not gone 5m0s after the deletion began: {said}")]
    );
    let noted = format!("not gone in time: {said}");
    assert!(sim.message().contains(&noted), "{}", sim.message());
    assert_eq!(sim.ready_word(), Ready::True, "all that is desired is there");
    assert_eq!(sim.log.removals.len(), 2, "nothing was asked");
    sim.assert_quiet();
    // The look each hour, another entry and a restart say it no second time.
    sim.sleep(90 * MINUTE);
    assert!(sim.log.removals.len() > 2);
    sim.accept(|entry| entry.requested = "now".into());
    sim.run();
    sim.sleep(10 * MINUTE);
    sim.restart();
    sim.run();
    assert!(sim.message().contains(&noted), "{}", sim.message());
    sim.sleep(30 * MINUTE);
    assert_eq!(stalled(&sim).len(), 1);
    assert!(sim.message().contains(&noted), "{}", sim.message());
    sim.assert_quiet();
    sim.world.release(&keys[2]);
    sim.run();
    assert!(!sim.message().contains("in time"), "{}", sim.message());
    assert!(sim.state.record().stalled.is_empty());
    sim.assert_quiet();
}

#[test]
fn each_deletion_that_is_held_up_has_the_whole_timeout() {
    let (mut sim, keys) = shrunk(5, 3);
    sim.world.edit(&keys[3], |live| live.is_held = true);
    sim.world.edit(&keys[4], |live| live.is_held = true);
    sim.world.faults.insert(keys[4].clone(), Fault::Refused);
    sim.clear();
    sim.sleep(3 * MINUTE);
    sim.world.faults.clear();
    sim.sleep(2 * MINUTE);
    assert_eq!(stalled(&sim).len(), 1);
    assert!(stalled(&sim)[0].contains("c03") && !stalled(&sim)[0].contains("c04"));
    sim.sleep(5 * MINUTE);
    assert_eq!(stalled(&sim).len(), 2);
    assert!(!stalled(&sim)[1].contains("c03") && stalled(&sim)[1].contains("c04"));
    let message = sim.message();
    assert!(
        message.contains("ConfigMap/a/c03 (") && message.contains("ConfigMap/a/c04 ("),
        "{message}"
    );
    sim.assert_quiet();
}

#[test]
fn object_that_is_desired_again_is_warned_of_no_more_and_anew_when_it_leaves_once_more() {
    let (mut sim, keys) = shrunk(4, 2);
    sim.world.edit(&keys[2], |live| live.is_held = true);
    sim.world.edit(&keys[3], |live| live.is_held = true);
    sim.clear();
    sim.sleep(MINUTE);
    sim.offer(&of(&keys[..3]));
    sim.run();
    sim.world.release(&keys[2]);
    sim.run();
    sim.sleep(30 * MINUTE);
    assert_eq!(stalled(&sim).len(), 1);
    assert!(!stalled(&sim)[0].contains("c02"), "{:?}", stalled(&sim));
    assert!(!sim.message().contains("c02"), "{}", sim.message());
    for times in 2..5 {
        sim.world.edit(&keys[2], |live| live.is_held = true);
        sim.offer(&of(&keys[..2]));
        sim.run();
        sim.clear();
        sim.sleep(5 * MINUTE - Duration::from_secs(1));
        assert_eq!(stalled(&sim).len(), times - 1);
        sim.sleep(Duration::from_secs(1));
        assert_eq!(stalled(&sim).len(), times);
        assert!(stalled(&sim)[times - 1].contains("c02"), "{:?}", stalled(&sim));
        // While the other stays, it is gone before it is desired again, or after that.
        if times == 3 {
            sim.offer(&of(&keys[..3]));
            sim.run();
        }
        sim.world.release(&keys[2]);
        sim.sleep(10 * MINUTE);
        assert!(!sim.message().contains("c02"), "{}", sim.message());
        assert!(
            sim.message().contains("in time: ConfigMap/a/c03"),
            "{}",
            sim.message()
        );
        if times < 3 {
            sim.offer(&of(&keys[..3]));
            sim.run();
        }
    }
}
