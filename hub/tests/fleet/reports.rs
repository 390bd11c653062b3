//! Reports of agents count only where and when they may.

use std::{collections::BTreeMap, time::Duration};

use flotilla_core::{digest::Digest, object::ObjectKey, rollout::admission::End};
use flotilla_hub::store::{
    event::EventFilter,
    report::{Attained, ClusterEventRow, ConditionRow, FullPart, ObjectRow, Report, RowKey, StatusRow},
    session::{Answer, Opened, Opening, Told},
};
use flotilla_hub::task::ingest::{Ingest, Outcome};
use flotilla_testkit::wait_until;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::{break_table, config, mend_table, one_unit, units};
use crate::world::{INCARNATION, World, applied};

pub(crate) async fn open(world: &World, cluster: Uuid) -> u64 {
    open_judged(world, cluster, &[]).await
}

pub(crate) async fn open_judged(world: &World, cluster: Uuid, judged: &[ConditionRow]) -> u64 {
    opened(world, cluster, judged).await.epoch
}

async fn opened(world: &World, cluster: Uuid, judged: &[ConditionRow]) -> Opened {
    open_as(world, opening(cluster, judged)).await
}

pub(crate) async fn open_as(world: &World, opening: Opening) -> Opened {
    let mut opened = world.store.open_sessions(&[opening]).await.expect("opened");
    opened.pop().expect("one")
}

pub(crate) fn opening(cluster: Uuid, judged: &[ConditionRow]) -> Opening {
    Opening {
        cluster_id: cluster,
        cluster_name: "c".into(),
        boot_id: "boot".into(),
        replica: "replica".into(),
        agent_version: "0".into(),
        kube_version: "v1.34.0".into(),
        incarnation: 0,
        generation: 0,
        root: vec![],
        observed_root: vec![],
        epoch_seen: 0,
        judged: judged.to_vec(),
        now: OffsetDateTime::now_utc(),
    }
}

pub(crate) fn report(cluster: Uuid, epoch: u64, units: Vec<StatusRow>) -> Report {
    Report {
        cluster,
        epoch,
        full: None,
        units,
        objects: vec![],
        events: vec![],
        conditions: vec![],
        observed_root: vec![1],
        left_out: false,
    }
}

pub(crate) fn attained(version: u64, target: Digest) -> Attained {
    Attained { version, target }
}

/// What an agent says of an entry that it has made its own.
pub(crate) fn took(version: u64, target: Digest) -> Answer {
    Answer::Accepted {
        entry: None,
        held: attained(version, target),
    }
}

pub(crate) fn object(unit: Uuid, name: &str) -> ObjectRow {
    ObjectRow {
        unit,
        group: String::new(),
        kind: "ConfigMap".into(),
        namespace: "default".into(),
        name: name.into(),
        api_version: "v1".into(),
        uid: "u".into(),
        state: Some("Applied"),
        health: "Current".into(),
        message: String::new(),
        adopted: false,
        sent: vec![1],
    }
}

#[tokio::test]
async fn a_report_counts_only_under_the_epoch_of_the_stream_that_is_open() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let old = open(&world, cluster).await;
    let new = open(&world, cluster).await;
    assert!(new > old);
    let of_old = report(cluster, old, vec![applied(unit, 1, target)]);
    assert_eq!(
        world
            .store
            .ingest(std::slice::from_ref(&of_old))
            .await
            .expect("ingested")
            .counted,
        [false]
    );
    assert_eq!(world.count("SELECT count(*) FROM unit_status").await, 0);
    let of_new = report(cluster, new, vec![applied(unit, 1, target)]);
    let ingested = world
        .store
        .ingest(&[of_old, of_new.clone()])
        .await
        .expect("ingested");
    assert_eq!(ingested.counted, [false, true]);
    assert_eq!(ingested.applied, [unit], "newly applied, once");
    let again = world.store.ingest(&[of_new]).await.expect("ingested");
    assert_eq!((again.counted, again.applied), (vec![true], vec![]));
    assert!(units(&world, "c1").await[0].applied);
    let ack = |epoch| Told {
        cluster,
        epoch,
        accepted: Some((INCARNATION, epoch)),
        units: BTreeMap::new(),
        refusal: None,
        message: String::new(),
    };
    let accepted = async || world.count("SELECT accepted_generation FROM session").await;
    world.store.told(&[ack(old)]).await.expect("answered");
    assert_eq!(accepted().await, 0, "of a stream that was replaced");
    world.store.told(&[ack(new)]).await.expect("answered");
    assert_eq!(accepted().await, i64::try_from(new).expect("small"));
    let refused = Told {
        accepted: None,
        refusal: None,
        message: "refused".into(),
        ..ack(new)
    };
    world
        .store
        .told(std::slice::from_ref(&refused))
        .await
        .expect("answered");
    assert_eq!(
        accepted().await,
        i64::try_from(new).expect("small"),
        "what it holds stays"
    );
    let shown = world.store.list_clusters("c1", "", 1).await.expect("listed");
    assert_eq!(shown[0].message, "refused");
    // Told together, an acceptance is not lost behind a refusal of the same stream.
    let latest = refused.clone().after(ack(new));
    assert_eq!(latest.accepted, ack(new).accepted);
    let latest = refused.after(ack(old));
    assert_eq!(latest.accepted, None);
}

/// An agent whose ledger was lost may not have room for what it had before, and one of an older release holds what it
/// cannot read.
#[tokio::test]
async fn what_an_agent_says_last_of_an_entry_counts_whatever_it_held_before() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    world.publish(cluster).await;
    let generation = world
        .count("SELECT max(generation) FROM desired")
        .await
        .unsigned_abs();
    let epoch = open(&world, cluster).await;
    let entry: Vec<u8> = sqlx::query_scalar("SELECT digest FROM desired_entry WHERE unit_id = $1")
        .bind(unit)
        .fetch_one(&world.pool)
        .await
        .expect("an entry");
    let entry = Digest::try_from_slice(&entry).expect("a digest");
    let says = async |answer: Answer| {
        let told = Told {
            cluster,
            epoch,
            accepted: Some((INCARNATION, generation)),
            units: BTreeMap::from([(unit, answer)]),
            refusal: None,
            message: String::new(),
        };
        world.store.told(&[told]).await.expect("told");
        let shown = units(&world, "c1").await;
        (shown[0].ready.clone(), shown[0].reason.clone())
    };
    let accepts = || Answer::Accepted {
        entry: Some(entry),
        held: attained(1, target),
    };
    let refuses = Answer::Refused {
        entry,
        reason: "LedgerFull".to_owned(),
        message: "no room".to_owned(),
    };
    let status = report(cluster, epoch, vec![applied(unit, 1, target)]);
    world.store.ingest(&[status]).await.expect("ingested");
    assert_eq!(says(accepts()).await.0, "True");
    assert_eq!(says(refuses).await, ("False".to_owned(), "LedgerFull".to_owned()));
    assert_eq!(says(accepts()).await.0, "True");
}

#[tokio::test]
async fn r04_an_unchanged_report_writes_no_row_and_wakes_nobody() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let mut one = report(cluster, epoch, vec![applied(unit, 1, target)]);
    one.objects = vec![object(unit, "x")];
    let written = async || -> (String, String, i64) {
        sqlx::query_as(
            "SELECT s.xmin::text, o.xmin::text, (SELECT count(*) FROM outbox) FROM unit_status s, unit_object o",
        )
        .fetch_one(&world.pool)
        .await
        .expect("rows")
    };
    world
        .store
        .ingest(std::slice::from_ref(&one))
        .await
        .expect("ingested");
    let before = written().await;
    one.units[0].observed_at += Duration::from_secs(60);
    assert_eq!(
        world
            .store
            .ingest(std::slice::from_ref(&one))
            .await
            .expect("ingested")
            .counted,
        [true]
    );
    assert_eq!(written().await, before);
    one.objects[0].health = "InProgress".into();
    world
        .store
        .ingest(std::slice::from_ref(&one))
        .await
        .expect("ingested");
    let after = written().await;
    assert_eq!(after.0, before.0);
    assert!(after.1 != before.1 && after.2 > before.2, "{before:?} {after:?}");
}

#[tokio::test]
async fn of_two_reports_committed_together_the_later_ones_root_is_kept() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let epoch = open(&world, cluster).await;
    let reports: Vec<Report> = (1..=20)
        .map(|root| Report {
            observed_root: vec![root],
            ..report(cluster, epoch, vec![])
        })
        .collect();
    world.store.ingest(&reports).await.expect("ingested");
    let root: Vec<u8> = sqlx::query_scalar("SELECT observed_root FROM session")
        .fetch_one(&world.pool)
        .await
        .expect("a session");
    assert_eq!(root, [1, 20], "behind the format of the rows");
}

#[tokio::test]
async fn an_agent_reports_on_its_own_clusters_units_only() {
    let world = World::new().await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    let (_, foreign, target) = one_unit(&world, "c1", a).await;
    let (cluster, own, own_target) = one_unit(&world, "c2", b).await;
    let epoch = open(&world, cluster).await;
    let mut one = report(
        cluster,
        epoch,
        vec![applied(foreign, 1, target), applied(own, 1, own_target)],
    );
    one.objects = vec![object(foreign, "x"), object(own, "x")];
    let event = |unit| ClusterEventRow {
        unit: Some(unit),
        object: String::new(),
        warning: true,
        reason: "Failed".into(),
        message: "no".into(),
        at: OffsetDateTime::UNIX_EPOCH,
    };
    one.events = vec![event(foreign), event(own)];
    assert_eq!(
        world.store.ingest(&[one]).await.expect("ingested").counted,
        [true]
    );
    let of_unit = |table: &str| format!("SELECT count(*) FROM {table} WHERE unit_id = '{foreign}'");
    assert_eq!(world.count(&of_unit("unit_status")).await, 0);
    assert_eq!(world.count(&of_unit("unit_object")).await, 0);
    assert_eq!(world.count("SELECT count(*) FROM unit_status").await, 1);
    assert_eq!(
        world
            .count("SELECT count(*) FROM event WHERE reason = 'Failed'")
            .await,
        1
    );
}

#[tokio::test]
async fn a_full_report_forgets_what_it_does_not_name_and_nothing_of_other_clusters() {
    let world = World::new().await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    let (other, kept, kept_target) = one_unit(&world, "c1", a).await;
    let (cluster, unit, target) = one_unit(&world, "c2", b).await;
    let mut of_other = report(
        other,
        open(&world, other).await,
        vec![applied(kept, 1, kept_target)],
    );
    of_other.objects = vec![object(kept, "x")];
    let epoch = open(&world, cluster).await;
    let mut first = report(cluster, epoch, vec![applied(unit, 1, target)]);
    first.objects = vec![object(unit, "x"), object(unit, "left")];
    world
        .store
        .ingest(&[of_other, first.clone()])
        .await
        .expect("ingested");
    first.objects.pop();
    first.full = Some(FullPart::default());
    world.store.ingest(&[first]).await.expect("ingested");
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM unit_object ORDER BY unit_id = $1, name")
        .bind(unit)
        .fetch_all(&world.pool)
        .await
        .expect("rows");
    assert_eq!(names, ["x", "x"]);
    world
        .store
        .ingest(&[Report {
            full: Some(FullPart::default()),
            ..report(cluster, epoch, vec![])
        }])
        .await
        .expect("ingested");
    assert_eq!(world.count("SELECT count(*) FROM unit_status").await, 1);
    assert!(units(&world, "c1").await[0].applied);
}

#[tokio::test]
async fn r05_a_status_of_an_earlier_version_of_the_same_target_does_not_count() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let app = world.app("a").await;
    let a = world.render(app, "r1", &[config("x", "a: 1")]).await;
    world.roll_out(app, &[cluster], &a).await;
    let unit = world.store.app_plan(app).await.expect("read").units[0].clone();
    let epoch = open(&world, cluster).await;
    let first = report(cluster, epoch, vec![applied(unit.id.0, 1, unit.target)]);
    world
        .store
        .ingest(std::slice::from_ref(&first))
        .await
        .expect("ingested");
    assert_eq!(world.ended(unit.id.0).await, [End::Complete]);
    let b = world.render(app, "r2", &[config("x", "a: 2")]).await;
    world.roll_out(app, &[cluster], &b).await;
    world.roll_out(app, &[cluster], &a).await;
    let back = &world.store.app_plan(app).await.expect("read").units[0];
    assert_eq!(back.target, unit.target);
    // A delayed repetition of the old report changes nothing either.
    world.store.ingest(&[first]).await.expect("ingested");
    let [view] = &units(&world, "c1").await[..] else {
        panic!("one unit")
    };
    assert_eq!(
        (view.version, view.current, view.applied, view.ready.as_str()),
        (3, false, false, "Unknown")
    );
    // What was applied last is known all the same.
    assert_eq!(view.applied_revision, "r1");
    // The newest entry is held, and what was applied and healthy is the same target at the old version.
    let mut held = report(cluster, epoch, vec![applied(unit.id.0, 1, unit.target)]);
    held.units[0].version = 3;
    held.units[0].ready = "Unknown";
    world.store.ingest(&[held]).await.expect("ingested");
    let [view] = &units(&world, "c1").await[..] else {
        panic!("one unit")
    };
    assert_eq!((view.current, view.applied), (true, false));
    assert_eq!(view.applied_revision, "r1");
    let rollouts = world.store.list_rollouts("", "", "", 1).await.expect("read");
    assert_eq!(rollouts[0].clusters_applied, 0);
    assert_eq!(world.ended(unit.id.0).await, []);
    world
        .store
        .ingest(&[report(cluster, epoch, vec![applied(unit.id.0, 3, unit.target)])])
        .await
        .expect("ingested");
    assert!(units(&world, "c1").await[0].applied);
    assert_eq!(world.ended(unit.id.0).await, [End::Complete]);
}

#[tokio::test]
async fn a_part_of_a_full_report_forgets_within_its_bounds_only() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let mut all = report(cluster, epoch, vec![applied(unit, 1, target)]);
    // By bytes, upper case comes before lower case and '-' before both, whatever the database's language says.
    all.objects = ["A-z", "B", "a", "b", "c", "d"]
        .map(|name| object(unit, name))
        .into();
    world
        .store
        .ingest(std::slice::from_ref(&all))
        .await
        .expect("ingested");
    let place = |name: &str| RowKey::Object(unit, ObjectKey::new("", "ConfigMap", "default", name));
    let names = async || -> Vec<String> {
        sqlx::query_scalar("SELECT name FROM unit_object ORDER BY name COLLATE \"C\"")
            .fetch_all(&world.pool)
            .await
            .expect("rows")
    };
    let part = async |after: Option<&str>, until: Option<&str>, named: &[&str]| {
        let mut one = report(cluster, epoch, vec![]);
        if after.is_none() {
            one.units = all.units.clone();
        }
        one.objects = named.iter().map(|name| object(unit, name)).collect();
        one.full = Some(FullPart {
            after: after.map(place),
            until: until.map(place),
        });
        world.store.ingest(&[one]).await.expect("ingested");
    };
    part(None, Some("B"), &["B"]).await;
    assert_eq!(names().await, ["B", "a", "b", "c", "d"]);
    part(Some("B"), Some("b"), &["a", "b", "d"]).await;
    assert_eq!(
        names().await,
        ["B", "a", "b", "c", "d"],
        "nothing was absent within the part"
    );
    part(Some("b"), None, &["d"]).await;
    assert_eq!(names().await, ["B", "a", "b", "d"]);
    assert_eq!(world.count("SELECT count(*) FROM unit_status").await, 1);
    // Units only: objects are for a later part.
    let mut units_only = report(cluster, epoch, vec![]);
    units_only.full = Some(FullPart {
        after: None,
        until: Some(RowKey::Unit(Uuid::max())),
    });
    world.store.ingest(&[units_only]).await.expect("ingested");
    assert_eq!(world.count("SELECT count(*) FROM unit_status").await, 0);
    assert_eq!(names().await.len(), 4);
}

#[tokio::test]
async fn what_is_wrong_with_a_cluster_is_in_its_message_until_it_is_well() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    let epoch = open(&world, cluster).await;
    let message = async || {
        world.store.list_clusters("c1", "", 1).await.expect("read")[0]
            .message
            .clone()
    };
    let condition = |kind, ok, message: &str| ConditionRow {
        kind,
        ok,
        message: message.into(),
        since: OffsetDateTime::UNIX_EPOCH,
    };
    let tell = async |full: Option<FullPart>, conditions| {
        let one = Report {
            full,
            conditions,
            ..report(cluster, epoch, vec![])
        };
        world.store.ingest(&[one]).await.expect("ingested");
    };
    assert_eq!(message().await, "");
    tell(
        None,
        vec![
            condition("Ledger", false, "full"),
            condition("ApiServer", false, "silent"),
        ],
    )
    .await;
    assert_eq!(message().await, "silent; full");
    tell(None, vec![condition("ApiServer", true, "")]).await;
    assert_eq!(message().await, "full", "a kind that is not named is unchanged");
    tell(Some(FullPart::default()), vec![]).await;
    assert_eq!(message().await, "", "a full report names them all");
}

#[tokio::test]
async fn a_report_that_the_database_does_not_take_is_refused_alone() {
    let world = World::new().await;
    let ingest = Ingest::start(world.store.clone(), || false);
    let mut waiting = Vec::new();
    for n in 0..9 {
        let app = world.app(&format!("a{n}")).await;
        let (cluster, unit, target) = one_unit(&world, &format!("c{n}"), app).await;
        let epoch = open(&world, cluster).await;
        let mut one = report(cluster, epoch, vec![applied(unit, 1, target)]);
        if n == 4 {
            // Longer than an index takes, and nothing that compresses.
            let name = (0..200_u64)
                .map(|n| flotilla_core::digest::Digest::of("noise", &n.to_be_bytes()).to_string());
            one.objects = vec![object(unit, &name.collect::<String>())];
        }
        waiting.push((n, ingest.submit(one)));
    }
    let outcomes = futures::future::join_all(waiting.into_iter().map(async |(n, one)| (n, one.await))).await;
    for (n, outcome) in outcomes {
        match n {
            4 => assert!(
                matches!(&outcome, Outcome::Refused(why) if why.contains("does not take")),
                "{outcome:?}"
            ),
            _ => assert_eq!(outcome, Outcome::Committed, "{n}"),
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM unit_status").await, 8);
    assert_eq!(
        world
            .count("SELECT count(*) FROM session WHERE rows_left_out")
            .await,
        1,
        "its agent takes it for acknowledged"
    );
}

/// An agent that finds its own root there tells nothing.
#[tokio::test]
async fn a_stream_is_told_the_root_only_while_all_rows_of_it_are_here() {
    let world = World::new().await;
    let (a, b) = (world.app("a").await, world.app("b").await);
    let (_, foreign, foreign_target) = one_unit(&world, "c1", a).await;
    let (cluster, unit, target) = one_unit(&world, "c2", b).await;
    let own = || vec![applied(unit, 1, target)];
    let full = |after: Option<RowKey>| Some(FullPart { after, until: None });
    let part = |until: Option<RowKey>| Some(FullPart { after: None, until });
    let ingest = async |change: &dyn Fn(&mut Report)| {
        let epoch = open(&world, cluster).await;
        let mut one = report(cluster, epoch, own());
        change(&mut one);
        world.store.ingest(&[one]).await.expect("ingested");
        opened(&world, cluster, &[]).await.observed_root
    };
    assert!(opened(&world, cluster, &[]).await.observed_root.is_empty());
    assert_eq!(ingest(&|_| {}).await, [1]);
    // Rows of a unit that is another cluster's are passed over.
    let foreign = |one: &mut Report| one.units.push(applied(foreign, 1, foreign_target));
    assert!(ingest(&foreign).await.is_empty());
    assert!(ingest(&|_| {}).await.is_empty(), "it stays so");
    let conditions = |one: &mut Report| one.full = part(Some(RowKey::Unit(Uuid::nil())));
    assert!(
        ingest(&conditions).await.is_empty(),
        "also after conditions alone"
    );
    assert!(
        ingest(&|one| one.full = full(Some(RowKey::Unit(unit))))
            .await
            .is_empty(),
        "until a full report begins"
    );
    assert_eq!(
        ingest(&|one| one.full = part(Some(RowKey::Unit(unit)))).await,
        [1]
    );
    assert!(ingest(&|one| one.left_out = true).await.is_empty());
    assert_eq!(ingest(&|one| one.full = full(None)).await, [1]);
    let both = |one: &mut Report| (one.full, one.left_out) = (full(None), true);
    assert!(ingest(&both).await.is_empty());
    assert!(
        ingest(&|one| (one.full, one.observed_root) = (full(None), vec![]))
            .await
            .is_empty(),
        "a full report that has not ended"
    );
}

/// A release that stores more of a row than the one before it has not stored that yet.
#[tokio::test]
async fn rows_in_the_format_of_another_release_are_reported_again() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let rows = || Report {
        observed_root: vec![7; 32],
        ..report(cluster, epoch, vec![applied(unit, 1, target)])
    };
    let held = [7; 32];
    let again = async || {
        let opening = Opening {
            observed_root: held.to_vec(),
            ..opening(cluster, &[])
        };
        let opened = open_as(&world, opening).await;
        (opened.observed_root, opened.report_everything)
    };
    world.store.ingest(&[rows()]).await.expect("ingested");
    assert_eq!(again().await, (held.to_vec(), false));
    for other in ["'\\x02' || substr(observed_root, 2)", "substr(observed_root, 2)"] {
        let sql = format!("UPDATE session SET observed_root = {other}");
        world.execute(&sql).await;
        assert_eq!(again().await, (Vec::new(), true), "{other}");
        let back = "UPDATE session SET observed_root = '\\x01' || decode(repeat('07', 32), 'hex')";
        world.execute(back).await;
        assert_eq!(again().await, (held.to_vec(), false));
    }
}

#[tokio::test]
async fn a_stream_is_told_what_is_stored_as_wrong_and_what_was_left_out_stays_told_until_all_is_reported() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let condition = |kind, message: &str| ConditionRow {
        kind,
        ok: message.is_empty(),
        message: message.into(),
        since: OffsetDateTime::UNIX_EPOCH,
    };
    let message = async || {
        world.store.list_clusters("c1", "", 1).await.expect("listed")[0]
            .message
            .clone()
    };
    let epoch = open(&world, cluster).await;
    let first = Report {
        conditions: vec![condition("Watches", "refused"), condition("Ledger", "")],
        left_out: true,
        ..report(cluster, epoch, vec![applied(unit, 1, target)])
    };
    world.store.ingest(&[first]).await.expect("ingested");
    let left_out = condition("Reports", "the hub left out some");
    world
        .store
        .judge_cluster(cluster, &[left_out])
        .await
        .expect("judged");
    let wrong = opened(&world, cluster, &[]).await.wrong;
    assert_eq!(wrong, [("Watches".to_owned(), "refused".to_owned())]);
    assert_eq!(message().await, "the hub left out some; refused");
    // A backup of before is put back.
    world
        .execute("DELETE FROM cluster_condition WHERE kind = 'Watches'")
        .await;
    let again = opened(&world, cluster, &[]).await;
    assert_eq!(again.wrong, []);
    assert_eq!(message().await, "the hub left out some", "it is so still");
    for until in [None, Some(RowKey::Unit(Uuid::nil()))] {
        let later = Report {
            full: until.map(|until| FullPart {
                after: None,
                until: Some(until),
            }),
            ..report(cluster, again.epoch, vec![applied(unit, 1, target)])
        };
        world.store.ingest(&[later]).await.expect("ingested");
        assert_eq!(message().await, "the hub left out some");
    }
    let whole = Report {
        full: Some(FullPart::default()),
        ..report(cluster, again.epoch, vec![applied(unit, 1, target)])
    };
    world.store.ingest(&[whole]).await.expect("ingested");
    assert_eq!(message().await, "");
}

#[tokio::test]
async fn removals_that_an_agent_can_no_longer_prove_are_named_for_a_day_and_their_event_stays() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let now = OffsetDateTime::now_utc();
    let open_at = async |generation, now| {
        let opening = Opening {
            cluster_name: "c1".into(),
            incarnation: INCARNATION,
            generation,
            now,
            ..opening(cluster, &[])
        };
        open_as(&world, opening).await.epoch
    };
    let message = async || {
        world.store.list_clusters("c1", "", 1).await.expect("listed")[0]
            .message
            .clone()
    };
    let epoch = open_at(7, now).await;
    let mut first = report(cluster, epoch, vec![applied(unit, 1, target)]);
    first.objects = (0..9)
        .map(|n| ObjectRow {
            state: Some(if n < 7 { "PendingRemoval" } else { "Applied" }),
            ..object(unit, &format!("x{n}"))
        })
        .collect();
    world.store.ingest(&[first]).await.expect("ingested");
    open_at(7, now).await;
    assert_eq!(message().await, "", "it is the agent's to know");
    let epoch = open_at(0, now).await;
    let said = message().await;
    for part in [
        "/x0 of apps/a",
        "that 7 objects",
        "/x4 of apps/a, 2 more;",
        "each is an event",
        "`flotilla events --cluster c1 --types Warning",
        "nothing is deleted",
        "by hand",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("/x5") && !said.contains("/x7"), "{said}");
    let filter = EventFilter {
        cluster: "c1".into(),
        warnings_only: true,
        limit: 100,
        ..EventFilter::default()
    };
    let unproven = async || {
        let events = world.store.list_events(&filter).await.expect("listed");
        let named = events
            .into_iter()
            .filter(|event| event.reason == "RemovalUnproven");
        let named = named.map(|event| (event.name.unwrap_or_default(), event.object));
        named.collect::<Vec<_>>()
    };
    let all: Vec<_> = (0..7)
        .map(|n| ("a".to_owned(), format!("ConfigMap/default/x{n}")))
        .collect();
    assert_eq!(unproven().await, all);
    // The agent does not know them, and what it does not name is dropped.
    let whole = Report {
        full: Some(FullPart::default()),
        ..report(cluster, epoch, vec![applied(unit, 1, target)])
    };
    world.store.ingest(&[whole]).await.expect("ingested");
    for (generation, hours) in [(0, 1), (8, 23)] {
        open_at(generation, now + time::Duration::hours(hours)).await;
        assert_eq!(message().await, said, "after {hours} h");
    }
    open_at(8, now + time::Duration::hours(25)).await;
    assert_eq!(message().await, "");
    assert_eq!(unproven().await, all, "once, and they stay");
    let events = "SELECT count(*) FROM event WHERE reason = 'Removals' AND message LIKE '%/x0 of apps/a%'";
    assert_eq!(world.count(events).await, 1);
}

#[tokio::test]
async fn a_stream_that_finds_its_root_here_replaces_conditions_and_no_row() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let mut first = report(cluster, epoch, vec![applied(unit, 1, target)]);
    first.objects = (0..50).map(|n| object(unit, &format!("x{n}"))).collect();
    first.conditions = vec![ConditionRow {
        kind: "Watches",
        ok: false,
        message: "refused".into(),
        since: OffsetDateTime::UNIX_EPOCH,
    }];
    world.store.ingest(&[first]).await.expect("ingested");
    let epoch = open(&world, cluster).await;
    let alone = Report {
        full: Some(FullPart {
            after: None,
            until: Some(RowKey::Unit(Uuid::nil())),
        }),
        ..report(cluster, epoch, vec![])
    };
    world.store.ingest(&[alone]).await.expect("ingested");
    let rows = async |table: &str| world.count(&format!("SELECT count(*) FROM {table}")).await;
    assert_eq!(
        (
            rows("unit_status").await,
            rows("unit_object").await,
            rows("cluster_condition").await
        ),
        (1, 50, 0)
    );
    assert_eq!(opened(&world, cluster, &[]).await.observed_root, [1]);
}

#[tokio::test]
async fn what_agents_accept_while_the_database_takes_nothing_is_kept_and_committed_once_it_does() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    break_table(&world, "session").await;
    let ingest = Ingest::start(world.store.clone(), || false);
    let told = |generation, units| Told {
        cluster,
        epoch,
        accepted: Some((INCARNATION, generation)),
        units,
        refusal: None,
        message: String::new(),
    };
    ingest.tell(told(1, BTreeMap::from([(unit, took(1, target))])));
    // It is tried, and what comes later does not make what came before forgotten.
    let refused = ingest.submit(report(cluster, epoch, vec![])).await;
    assert_eq!(refused, Outcome::Unavailable);
    ingest.tell(told(2, BTreeMap::new()));
    assert!(world.store.accepted(cluster).await.expect("read").is_empty());
    mend_table(&world, "session").await;
    let accepted = "SELECT count(*) FROM session WHERE accepted_generation = 2";
    wait_until("both", Duration::from_secs(20), async || {
        Ok::<_, std::convert::Infallible>((world.count(accepted).await == 1).then_some(()))
    })
    .await
    .expect("committed");
    let held = world.store.accepted(cluster).await.expect("read");
    assert_eq!(held, BTreeMap::from([(unit, attained(1, target))]));
}

#[tokio::test]
async fn what_one_agent_accepts_and_the_database_never_takes_holds_up_no_other() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (one, _, _) = one_unit(&world, "c1", app).await;
    let (other, unit, target) = one_unit(&world, "c2", app).await;
    let ingest = Ingest::start(world.store.clone(), || false);
    let told = |cluster, epoch, message: &str, units| Told {
        cluster,
        epoch,
        accepted: Some((INCARNATION, 1)),
        units,
        refusal: None,
        message: message.to_owned(),
    };
    let epochs = (open(&world, one).await, open(&world, other).await);
    // Before the committing task runs: both are of one transaction.
    ingest.tell(told(one, epochs.0, "no \0 text", BTreeMap::new()));
    ingest.tell(told(
        other,
        epochs.1,
        "",
        BTreeMap::from([(unit, took(1, target))]),
    ));
    let accepted = "SELECT count(*) FROM session WHERE accepted_generation = 1";
    let taken = async |count: i64| {
        wait_until("the acknowledgement", Duration::from_secs(20), async || {
            Ok::<_, std::convert::Infallible>((world.count(accepted).await == count).then_some(()))
        })
        .await
        .expect("committed");
    };
    taken(1).await;
    let held = world.store.accepted(other).await.expect("read");
    assert_eq!(held, BTreeMap::from([(unit, attained(1, target))]));
    // And what the first tells later counts.
    ingest.tell(told(one, epochs.0, "", BTreeMap::new()));
    taken(2).await;
}

#[tokio::test]
async fn r04_an_event_that_an_agent_tells_again_is_stored_once() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, _) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    let event = ClusterEventRow {
        unit: Some(unit),
        object: "ConfigMap/a/x".into(),
        warning: false,
        reason: "DriftCorrected".into(),
        message: "data was changed".into(),
        at: OffsetDateTime::UNIX_EPOCH,
    };
    // The first acknowledgement was lost.
    for _ in 0..2 {
        let mut told = report(cluster, epoch, vec![]);
        told.events = vec![event.clone()];
        world.store.ingest(&[told]).await.expect("ingested");
    }
    let stored = world
        .count("SELECT count(*) FROM event WHERE reason = 'DriftCorrected'")
        .await;
    assert_eq!(stored, 1);
}

#[tokio::test]
async fn an_app_says_since_when_it_is_ready_or_not_whatever_is_reported_meanwhile() {
    let world = World::new().await;
    let app = world.app("a").await;
    let (cluster, unit, target) = one_unit(&world, "c1", app).await;
    let epoch = open(&world, cluster).await;
    world.store.beat("replica", "").await.expect("it lives");
    let ingest = async |row: StatusRow| {
        let reports = [report(cluster, epoch, vec![row])];
        world.store.ingest(&reports).await.expect("ingested");
    };
    // Hours since what is said of it turned; then all of it was one hour earlier.
    let hours = async || {
        let mut facts = world.store.app_facts(&[app]).await.expect("read");
        let mut facts = facts.remove(&app).expect("known");
        facts.observed = true;
        let said = flotilla_core::status::app(&facts);
        let turned = flotilla_core::status::turned(&facts).expect("it turned");
        let hours = (OffsetDateTime::now_utc().unix_timestamp() - turned.0 / 1000 + 60) / 3600;
        world
            .execute(
                "UPDATE unit_status SET turned_at = turned_at - interval '1 hour';
                 UPDATE app_plan SET held_at = held_at - interval '1 hour';
                 UPDATE unit SET held_at = held_at - interval '1 hour', moved_at = moved_at - interval '1 hour'",
            )
            .await;
        (said.status.as_str(), hours)
    };
    assert_eq!(hours().await, ("Unknown", 0));
    assert_eq!(hours().await, ("Unknown", 1));
    let ready = applied(unit, 1, target);
    ingest(ready.clone()).await;
    assert_eq!(hours().await, ("True", 0));
    // Another word about the same.
    ingest(StatusRow {
        notes: "x".into(),
        objects: 7,
        ..ready.clone()
    })
    .await;
    assert_eq!(hours().await, ("True", 1));
    ingest(StatusRow {
        ready: "False",
        ..ready.clone()
    })
    .await;
    assert_eq!(hours().await, ("False", 0));
    assert_eq!(hours().await, ("False", 1));
    let next = world.render(app, "r2", &[config("x", "a: 2")]).await;
    world.roll_out(app, &[cluster], &next).await;
    assert_eq!(hours().await, ("Unknown", 0), "its new target is on its way");
    assert_eq!(hours().await, ("Unknown", 1));
}
