//! What is asked again before an object that left is deleted: what is durable, and what other units are to have. Each
//! check, taken out alone, makes one of these scenarios fail: the object is gone, or tried without end, or a false word is
//! said of it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use flotilla_agent::{
    cluster::ClusterError,
    link::{
        accept::Source,
        fetch::{Bases, FetchError, Fetched, Item},
    },
    sim::offer_to,
};
use flotilla_core::{clock::Timestamp, unit::Entry};
use tokio::sync::Notify;

use crate::{
    scenes::{cleared, items, uid, until_gone, version, without_y, y},
    world::{World, config_map, entry, entry_with, settings, settle},
};

/// A hub whose stream breaks before any content has come.
struct Broken;

#[async_trait]
impl Source for Broken {
    async fn fetch(&mut self, _: &[Item], _: &Bases<'_>, _: &mut Vec<Fetched>) -> Result<(), FetchError> {
        Err(FetchError::Protocol("the stream broke"))
    }
}

impl World {
    /// Offers entries of which those enter the ledger that need no content, and breaks off.
    async fn offer_in_part(&self, entries: &[Entry]) {
        self.offer_unheard(entries, &mut Broken).await.unwrap_err();
    }

    /// Offers entries; the loop does not hear of it.
    async fn offer_unheard(&self, entries: &[Entry], source: &mut dyn Source) -> Result<(), String> {
        let ledger = &self.agent().ledger;
        let generation = ledger.read(|state| state.accepted.generation) + 1;
        let taken = offer_to(ledger, generation, entries, source, Timestamp::default()).await;
        taken.map(drop).map_err(|error| error.to_string())
    }

    /// Lets the loop look at the ledger, in which nothing is lacking.
    async fn hear(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.complete(&mut self.contents).await.unwrap();
        self.agent = Some(agent);
    }

    /// Two units have what they are offered, of which the second takes `y`, and it was never deleted.
    async fn until_moved(&mut self, entries: &[Entry]) {
        self.until("all are ready", |world| {
            entries.iter().all(|entry| world.is_ready(entry))
        })
        .await;
        settle().await;
        assert_eq!(self.value("y").as_deref(), Some("2"));
        assert_eq!(
            (items(self, &entries[0]), items(self, &entries[1])),
            (vec!["x".to_owned()], vec!["y".to_owned(), "z".to_owned()])
        );
    }

    /// Requests since they were last taken.
    fn asked(&self, verb: &str) -> u64 {
        self.cluster.take_requests().remove(verb).unwrap_or_default()
    }
}

/// Unit 1, of which `y` has left, with others that have something else.
async fn with_others(world: &mut World) -> (Entry, Vec<Entry>) {
    let second = without_y(world).await;
    let others = ["z", "w"].map(|name| world.contents.add(&[config_map(name, "1")]));
    let others: Vec<Entry> = (2..).zip(others).map(|(n, content)| entry(n, content)).collect();
    let all = [second.clone(), others[0].clone(), others[1].clone()];
    world.offer(&all).await;
    for entry in &all {
        world.until_ready(entry).await;
    }
    world.quiet().await;
    (second, others)
}

/// Unit 2, which takes `y` besides what it has.
fn taking_y(world: &mut World) -> Entry {
    let content = world.contents.add(&[config_map("y", "2"), config_map("z", "1")]);
    version(2, entry(2, content))
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_before_it_is_durable_that_it_left() {
    for crashes in [false, true] {
        let mut world = World::new().await;
        world
            .ready(1, &[config_map("x", "1"), config_map("y", "1")])
            .await;
        let second = cleared(&version(2, entry(1, world.contents.add(&[config_map("x", "1")]))));
        world.offer(std::slice::from_ref(&second)).await;
        // The entry is stored. Which one is enforced, and what left by that, is still to be.
        world.cells.fail_after(0);
        for _ in 0..20 {
            settle().await;
            while world.take_report(Duration::from_secs(1)).await.is_some() {}
        }
        assert_eq!(world.asked("delete"), 0, "crashes: {crashes}");
        assert!(world.value("y").is_some());
        if crashes {
            world.agent = None;
            settle().await;
            world.cells.heal();
            world.restart().await;
        } else {
            world.cells.heal();
        }
        until_gone(&mut world, "y").await;
        world.until_ready(&second).await;
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn object_that_moves_keeps_its_uid_whatever_write_of_the_ledger_is_the_last() {
    for left in 0.. {
        let mut world = World::new().await;
        let (second, others) = with_others(&mut world).await;
        let before = uid(&world, &y());
        let moved = taking_y(&mut world);
        let offered = [cleared(&second), moved, others[1].clone()];
        let written = world.cells.writes();
        world.cells.fail_after(left);
        let agent = world.agent.take().unwrap();
        // It may be refused, or taken in part.
        let _ = agent.offer(&offered, &mut world.contents).await;
        world.agent = Some(agent);
        settle().await;
        let is_whole = world.cells.writes() - written < left;
        world.agent = None;
        settle().await;
        world.cells.heal();
        world.restart().await;
        settle().await;
        assert_eq!(uid(&world, &y()), before, "{left}");
        world.offer(&offered).await;
        world.until_moved(&offered[..2]).await;
        assert_eq!(uid(&world, &y()), before, "{left}");
        assert_eq!(world.asked("delete"), 0, "{left}");
        world.quiet().await;
        world.rests().await;
        if is_whole {
            assert!(left > 2, "an offer is more than {left} writes");
            return;
        }
    }
}

/// The entry that lets `y` go is here, and the one that takes it is on its way.
#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_and_nothing_tried_while_part_of_an_offer_is_here() {
    for restarts in [false, true] {
        let mut world = World::new().await;
        let (second, others) = with_others(&mut world).await;
        let before = uid(&world, &y());
        let moved = taking_y(&mut world);
        let offered = [cleared(&second), moved, others[1].clone()];
        world.offer_in_part(&offered).await;
        match restarts {
            true => world.restart().await,
            false => world.hear().await,
        }
        settle().await;
        assert_eq!(uid(&world, &y()), before, "restarts: {restarts}");
        world.rests().await;
        world.offer(&offered).await;
        world.until_moved(&offered[..2]).await;
        assert_eq!(uid(&world, &y()), before, "restarts: {restarts}");
        assert_eq!(world.asked("delete"), 0, "restarts: {restarts}");
        world.rests().await;
    }
}

/// What other units are to have changes while the look is under way that a deletion would follow, and the loop has not
/// heard of it: another offer is accepted, or part of one is here.
#[tokio::test(start_paused = true)]
async fn object_stays_whose_look_ends_after_another_offer_began_to_come() {
    for is_whole in [true, false] {
        let mut world = World::new().await;
        let (second, others) = with_others(&mut world).await;
        let before = uid(&world, &y());
        world.cluster.set_latency(Some(Box::new(|verb, _| match verb {
            "get" => Duration::from_secs(60),
            _ => Duration::ZERO,
        })));
        let second = cleared(&second);
        world
            .offer(&[second.clone(), others[0].clone(), others[1].clone()])
            .await;
        settle().await;
        assert_eq!(world.asked("get"), 1, "the look is under way");
        let moved = taking_y(&mut world);
        let offered = [second, moved, version(2, others[1].clone())];
        let mut contents = world.contents.clone();
        match is_whole {
            true => world.offer_unheard(&offered, &mut contents).await.unwrap(),
            false => world.offer_in_part(&offered).await,
        }
        for _ in 0..10 {
            settle().await;
        }
        assert_eq!(uid(&world, &y()), before, "whole: {is_whole}");
        world.cluster.set_latency(None);
        match is_whole {
            true => world.hear().await,
            false => drop(world.offer(&offered).await),
        }
        world.until_moved(&offered[..2]).await;
        assert_eq!(uid(&world, &y()), before, "whole: {is_whole}");
        assert_eq!(world.asked("delete"), 0, "whole: {is_whole}");
        world.quiet().await;
        world.rests().await;
    }
}

/// Until the other unit is evaluated, its content counts for whatever it may name: that keeps an object as well, and
/// would say so of one that the unit turns out not to desire.
#[tokio::test(start_paused = true)]
async fn unit_that_is_being_evaluated_is_waited_for_and_not_named_as_one_that_claims() {
    let mut world = World::new().await;
    let second = cleared(&without_y(&mut world).await);
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "delete").then(|| ClusterError::Rejected {
            code: 403,
            reason: "Forbidden".to_owned(),
            message: format!("admission webhook \"keep.test\" denied the request: {key} is needed"),
        })
    })));
    world.offer(std::slice::from_ref(&second)).await;
    world
        .until("it is told", |world| {
            world.unit(1).unwrap().reason == "PruneFailed"
        })
        .await;
    let team = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}});
    world.cluster.write("setup", team);
    // What is served was asked too long ago, and takes long to be answered.
    for _ in 0..6 {
        world.ten_minutes().await;
    }
    let asks = Arc::new(Notify::new());
    let told = asks.clone();
    world
        .cluster
        .set_latency(Some(Box::new(move |verb, _| match verb {
            "discover" => {
                told.notify_one();
                Duration::from_secs(120)
            }
            _ => Duration::ZERO,
        })));
    world.quiet().await;
    let mut elsewhere = config_map("y", "2");
    elsewhere["metadata"].as_object_mut().unwrap().remove("namespace");
    let mut of_team = settings();
    of_team.default_namespace = "team".to_owned();
    let two = entry_with(2, world.contents.add(&[elsewhere]), of_team, Vec::new());
    world.offer(&[second, two.clone()]).await;
    asks.notified().await;
    world.cluster.set_fault(None);
    while world.take_report(Duration::from_secs(5)).await.is_some() {}
    assert!(world.value("y").is_some(), "the other is not evaluated yet");
    until_gone(&mut world, "y").await;
    world.until_ready(&two).await;
    let claimed = world.told.iter().find(|row| row.message.contains("app2"));
    assert_eq!(claimed, None);
    world.quiet().await;
    world.rests().await;
}
