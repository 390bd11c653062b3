//! A hub that is lost and restored from a backup of before: nothing goes back to that, and nobody has to tell the agents.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use flotilla_core::unit::Entry;
use flotilla_proto::{agent::v1::hub_message, fleet::v1::reconcile_progress::Outcome};
use flotilla_testkit::{GitFault, GitRepo, wait_until};

use crate::{
    agent_stream::{Stream, accept, hello, holding},
    deploys::{Fleet, PLACEMENT, app, config_map},
    hub::{Agent, PATIENCE},
    puppet::Puppet,
};

impl Fleet {
    fn command(&self, arguments: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_flotilla-hub"))
            .args(arguments)
            .arg("--data-dir")
            .arg(self.hub.world.dir.path())
            .env("DATABASE_URL", self.hub.world.db.url())
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{output:?}");
    }

    /// Backs the hub up while it serves.
    async fn back_up(&self) -> PathBuf {
        // What is issued from now on is later, by certificates too, which are to the second.
        self.hub
            .world
            .execute("UPDATE identity SET issued_at = issued_at - interval '1 hour'")
            .await;
        let backup = self.hub.world.dir.path().join("backup");
        self.command(&["backup", backup.to_str().expect("text")]);
        backup
    }

    /// Loses the hub, and starts the one of the backup in its place.
    async fn restore(&mut self, backup: &Path) {
        self.hub.kill();
        // The tests' own look at the store is one of a hub.
        self.hub.world.store.close().await;
        self.command(&["restore", backup.to_str().expect("text"), "--replace"]);
        self.hub.start_again().await;
    }

    pub(crate) async fn commit(&self, repository: &GitRepo, text: &str) {
        let committed = repository.commit("main", &[("app/x.yaml", text)], "next").await;
        committed.expect("committed");
    }

    pub(crate) async fn applies(&self, name: &str) {
        let last = self.end("Kustomization", name, true).await;
        assert_eq!(last.outcome(), Outcome::Succeeded, "{last:?}");
    }

    pub(crate) async fn tells(&self, name: &str, part: &str) {
        let look = async || {
            let apps = self.resources("Kustomization").await;
            let text = format!(
                "{:?}",
                apps.into_iter()
                    .find(|app| app.r#ref.as_ref().is_some_and(|one| one.name == name))
            );
            match text.contains(part) {
                true => Ok(Some(())),
                false => Err(text),
            }
        };
        wait_until(part, PATIENCE, look).await.expect("said");
    }
}

/// What an agent holds: the whole of what it is offered.
async fn held(
    fleet: &Fleet,
    agent: &Agent,
) -> (flotilla_proto::agent::v1::Desired, BTreeMap<uuid::Uuid, Entry>) {
    let mut stream = Stream::open(&fleet.hub, agent, hello(agent)).await.expect("open");
    let desired = stream.desired().await;
    let mut entries = BTreeMap::new();
    accept(&mut entries, &desired);
    (desired, entries)
}

#[tokio::test]
async fn a_restored_hub_offers_nothing_of_yesterday_and_agents_come_back_by_themselves() {
    let mut fleet = Fleet::empty().await;
    let agent = fleet.hub.enrol("c1").await;
    let puppet = Puppet::connect(&fleet.hub, &agent).await;
    let repository = fleet.deploy(PLACEMENT).await;
    fleet.applies("app").await;
    let (_, yesterday) = held(&fleet, &agent).await;
    let backup = fleet.back_up().await;
    drop(puppet);
    // Since then: other commits, another app, other certificates.
    let puppet = Puppet::connect(&fleet.hub, &agent).await;
    for text in ["1", "2"] {
        fleet.commit(&repository, &config_map("x", text)).await;
        fleet.applies("app").await;
    }
    let other = app("a", "./app", "  namePrefix: other-\n").replace("name: app,", "name: other,");
    let placed = PLACEMENT
        .replace("name: everywhere", "name: of-other")
        .replace("name: app,", "name: other,");
    fleet.apply(&[&other, &placed]).await;
    fleet.applies("other").await;
    drop(puppet);
    let mut agent = agent;
    for _ in 0..2 {
        agent = agent.renew(&fleet.hub).await.expect("renewed");
        Stream::open(&fleet.hub, &agent, hello(&agent))
            .await
            .expect("in use");
    }
    let (state, entries) = held(&fleet, &agent).await;
    assert_eq!(entries.len(), 2);
    let unavailable = GitFault::Status(503);
    fleet.git.set_fault(Some(unavailable));
    fleet.restore(&backup).await;
    // While Git is away nothing is said of any unit.
    let mut stream = Stream::open(&fleet.hub, &agent, holding(&agent, &state))
        .await
        .expect("its certificate is one that the backup does not know");
    let first = stream.desired().await;
    assert!(first.incarnation > state.incarnation, "{first:?}");
    assert_eq!((first.base_generation, first.units.len()), (None, 0));
    fleet.tells("app", "restored from a backup").await;
    fleet.hub.blames("c1", "source", "Restored").await;
    // Nor of one that the backup does not know, and that is applied again: its source is what yesterday had.
    fleet.apply(&[&other, &placed]).await;
    fleet.tells("other", "restored from a backup").await;
    fleet.git.set_fault(None);
    // Then each unit comes as the one that is held, with what it has.
    let mut named = BTreeSet::new();
    while named.len() < entries.len() {
        let next = stream.desired().await;
        assert!(next.base_generation.is_some(), "{next:?}");
        for unit in &next.units {
            let entry = Entry::from_bytes(&unit.canonical).expect("an entry");
            let held = entries.get(&entry.unit.0).expect("the same unit");
            assert_eq!((&entry.app.name, entry.target), (&held.app.name, held.target));
            let before = yesterday.get(&entry.unit.0);
            assert!(before.is_none_or(|before| before.target != entry.target));
            named.insert(entry.unit.0);
        }
    }
    agent.renew(&fleet.hub).await.expect("renewed as before");
}

#[tokio::test]
async fn a_commit_that_does_not_render_is_no_reason_to_go_back_to_the_backup() {
    let mut fleet = Fleet::empty().await;
    let agent = fleet.hub.enrol("c1").await;
    let puppet = Puppet::connect(&fleet.hub, &agent).await;
    let repository = fleet.deploy(PLACEMENT).await;
    fleet.applies("app").await;
    let backup = fleet.back_up().await;
    fleet.commit(&repository, &config_map("x", "1")).await;
    fleet.applies("app").await;
    drop(puppet);
    let (state, _) = held(&fleet, &agent).await;
    fleet.commit(&repository, "kind: [").await;
    fleet.restore(&backup).await;
    fleet.tells("app", "BuildFailed").await;
    let mut stream = Stream::open(&fleet.hub, &agent, holding(&agent, &state))
        .await
        .expect("open");
    let first = stream.desired().await;
    assert_eq!(first.units.len(), 0);
    stream.report(1, vec![]).await;
    let next = stream.next().await.expect("an answer");
    assert!(!matches!(next, hub_message::Kind::Desired(_)), "{next:?}");
    fleet.commit(&repository, &config_map("x", "1")).await;
    let fixed = async {
        loop {
            if let hub_message::Kind::Desired(desired) = stream.next().await.expect("a message") {
                return desired;
            }
        }
    };
    let fixed = tokio::select! {
        fixed = fixed => fixed,
        last = fleet.end("Kustomization", "app", true) => panic!("nobody applies it: {last:?}"),
    };
    assert_eq!(fixed.units.len(), 1);
}
