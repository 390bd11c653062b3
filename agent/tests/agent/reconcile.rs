//! What an agent does with a desired state: apply, adopt, correct, wait, report, begin again.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use flotilla_agent::{
    cluster::ClusterError,
    sim::{Contents, SimAgent},
};
use flotilla_core::{
    object::ObjectKey,
    unit::{Entry, Settings, Substitution, UnitState, VariableLayer},
};
use flotilla_proto::agent::v1::{ObjectState, Readiness};
use serde_json::{Value, json};

use crate::world::{World, config_map, deployment, entry, entry_with, key, settings, settle};

#[tokio::test(start_paused = true)]
async fn a_desired_state_is_applied_with_labels_and_mark_and_reported() {
    let mut world = World::new().await;
    let content = world.contents.add(&[config_map("x", "1"), deployment("web")]);
    let wanted = entry(1, content);
    let ack = world.offer(std::slice::from_ref(&wanted)).await;
    assert!(ack.generation == 1 && ack.units.iter().all(|unit| unit.accepted));
    world.until_ready(&wanted).await;
    let live = world.cluster.object(&key("ConfigMap", "x")).unwrap();
    assert_eq!(
        live["metadata"]["labels"],
        json!({
            "kustomize.toolkit.fluxcd.io/name": "app1",
            "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
            "fleet.flotilla.dev/unit": wanted.unit.to_string(),
        })
    );
    let unit = world.unit(1).unwrap();
    assert_eq!(unit.message, "Applied revision: main@sha1:abc");
    assert_eq!(
        (unit.reason.as_str(), unit.objects, unit.held_version),
        ("ReconciliationSucceeded", 2, 1)
    );
    assert_eq!(world.objects["x"].state(), ObjectState::Applied);
    assert_eq!(world.objects["x"].uid, live["metadata"]["uid"].as_str().unwrap());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn only_changed_objects_are_written() {
    let mut world = World::new().await;
    let objects = |last: &str| {
        let mut all: Vec<Value> = (0..50).map(|n| config_map(&format!("c{n}"), "1")).collect();
        all.push(config_map("last", last));
        all
    };
    let first = entry(1, world.contents.add(&objects("1")));
    world.offer(std::slice::from_ref(&first)).await;
    world.until_ready(&first).await;
    settle().await;
    world.cluster.take_requests();
    let second = entry(1, world.contents.add(&objects("2")));
    world.offer(std::slice::from_ref(&second)).await;
    world.until_ready(&second).await;
    settle().await;
    assert_eq!(world.value("last").as_deref(), Some("2"));
    let requests = world.cluster.take_requests();
    assert_eq!(requests, BTreeMap::from([("apply".to_owned(), 1)]));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_agent_asks_nothing_of_the_cluster() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    world.cluster.take_requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.cluster.take_requests(), BTreeMap::new());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn drift_is_corrected_and_says_who_it_was() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    let begun = tokio::time::Instant::now();
    world
        .cluster
        .edit("kubectl-edit", &key("ConfigMap", "x"), |live| {
            live["data"]["a"] = "hacked".into()
        });
    world
        .until("drift is corrected", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    world
        .until("it is told", |world| !world.events("DriftCorrected").is_empty())
        .await;
    let told = &world.events("DriftCorrected")[0].message;
    assert!(
        told.contains("kubectl-edit") && told.contains("/data/a"),
        "{told}"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_object_is_created_again() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    world.cluster.delete(&key("ConfigMap", "x"));
    world
        .until("it is back", |world| world.value("x").is_some())
        .await;
    world
        .until("it is told", |world| !world.events("DriftCorrected").is_empty())
        .await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn fields_that_others_own_are_no_drift() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    world.cluster.take_requests();
    world.cluster.edit("operator", &key("ConfigMap", "x"), |live| {
        live["data"]["theirs"] = "2".into()
    });
    settle().await;
    assert_eq!(world.cluster.take_requests(), BTreeMap::new());
    assert_eq!(
        world.cluster.object(&key("ConfigMap", "x")).unwrap()["data"]["theirs"],
        "2"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_field_fought_over_is_contested_and_not_a_hot_loop() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    world.cluster.take_requests();
    for _ in 0..20 {
        world.cluster.edit("stubborn", &key("ConfigMap", "x"), |live| {
            live["data"]["a"] = "theirs".into()
        });
        settle().await;
    }
    let writes = world.cluster.take_requests()["apply"];
    assert!((3..=5).contains(&writes), "{writes} writes in ten minutes");
    world
        .until("it is told", |world| !world.events("DriftContested").is_empty())
        .await;
    assert_eq!(world.events("DriftContested").len(), 1);
    // What the other manager wrote last is put back once more when the interval is over.
    let once = world.ten_minutes().await;
    assert_eq!(once.requests["apply"], 1, "{once:?}");
    assert!(
        once.wakes <= 6 && once.ledger_writes <= 2 && once.events <= 2,
        "{once:?}"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_enforces_without_the_hub_and_applies_nothing_again() {
    let mut world = World::new().await;
    let wanted = entry(
        1,
        world.contents.add(&[config_map("x", "1"), config_map("y", "1")]),
    );
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    world.agent = None;
    world.cluster.edit("somebody", &key("ConfigMap", "x"), |live| {
        live["data"]["a"] = "hacked".into()
    });
    world.cluster.delete(&key("ConfigMap", "y"));
    world.cluster.take_requests();
    world.restart().await;
    world
        .until("what drifted meanwhile is corrected", |world| {
            world.value("x").as_deref() == Some("1") && world.value("y").is_some()
        })
        .await;
    settle().await;
    assert_eq!(world.cluster.take_requests()["apply"], 2);
    world.restart().await;
    world.cluster.take_requests();
    settle().await;
    assert_eq!(
        world.cluster.take_requests().get("apply"),
        None,
        "nothing is applied again"
    );
    world.units.clear();
    world.until_ready(&wanted).await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn many_objects_are_looked_at_by_a_list_and_few_by_a_read_each() {
    for (count, there, full, looks) in [
        // The lists of this cluster have ten objects a page.
        (7, 0, 0, ("get", 7)),
        (100, 0, 0, ("list", 1)),
        (100, 25, 0, ("list", 3)),
        // A full namespace is not listed for the sake of a few: one page says how many there are.
        (8, 3, 200, ("get", 8)),
    ] {
        let mut world = World::new().await;
        let name = |n: usize| format!("c{n:03}");
        for n in 0..there {
            world.cluster.write("kubectl", config_map(&name(n), "old"));
        }
        for n in 0..full {
            world
                .cluster
                .write("somebody", config_map(&format!("a{n:03}"), "1"));
        }
        world.cluster.take_requests();
        let objects: Vec<Value> = (0..count).map(|n| config_map(&name(n), "1")).collect();
        let wanted = entry(1, world.contents.add(&objects));
        world.offer(std::slice::from_ref(&wanted)).await;
        world.until_ready(&wanted).await;
        settle().await;
        let requests = world.cluster.take_requests();
        assert_eq!(requests["apply"], count as u64);
        assert_eq!(requests.get(looks.0), Some(&looks.1), "{requests:?}");
        assert_eq!(world.events("Adopted").len(), there);
        world.rests().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_intent_is_durable_before_the_object_exists() {
    let mut world = World::new().await;
    let content = world.contents.add(&[config_map("x", "1")]);
    let wanted = entry(1, content);
    // Storage goes away at each write in turn: acceptance, the enforced entry, the intent, the result.
    for writes in 1..=4 {
        world.cells.fail_after(writes);
        let agent = world.agent.take().unwrap();
        let accepted = agent
            .offer(std::slice::from_ref(&wanted), &mut world.contents)
            .await
            .is_ok();
        settle().await;
        drop(agent);
        world.cells.heal();
        let exists = world.cluster.object(&key("ConfigMap", "x")).is_some();
        world.restart().await;
        let known = world.agent().ledger.read(|state| {
            state
                .units
                .get(&wanted.unit)
                .is_some_and(|unit| unit.items.contains_key(&key("ConfigMap", "x")))
        });
        assert!(
            !exists || known,
            "after {writes} writes the object exists and nobody knows whose it is"
        );
        assert!(accepted || !exists);
    }
    if !world.is_ready(&wanted) {
        let _ = world
            .agent()
            .offer(std::slice::from_ref(&wanted), &mut Contents::default())
            .await;
    }
    world.until_ready(&wanted).await;
    assert!(
        !world.objects["x"].adopted,
        "what this unit created is not adopted"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_unit_whose_content_cannot_be_had_keeps_what_it_has_and_holds_up_no_other() {
    let mut world = World::new().await;
    let (a1, b1) = (
        world.contents.add(&[config_map("a", "1")]),
        world.contents.add(&[config_map("b", "1")]),
    );
    world.offer(&[entry(1, a1), entry(2, b1)]).await;
    world
        .until("both are ready", |world| {
            world.is_ready(&entry(1, a1)) && world.is_ready(&entry(2, b1))
        })
        .await;
    let (a2, b2) = (
        world.contents.add(&[config_map("a", "2")]),
        world.contents.add(&[config_map("b", "2")]),
    );
    let lost = world.contents.lose(&a2).unwrap();
    let ack = world.offer(&[entry(1, a2), entry(2, b2)]).await;
    let refused: Vec<_> = ack.units.iter().filter(|unit| !unit.accepted).collect();
    assert_eq!((refused.len(), refused[0].reason.as_str()), (1, "ContentMissing"));
    world.until_ready(&entry(2, b2)).await;
    world
        .until("the status says so", |world| {
            world.unit(1).unwrap().reason == "ContentMissing"
        })
        .await;
    // What it has is still enforced.
    world.cluster.delete(&key("ConfigMap", "a"));
    world
        .until("the old content is enforced", |world| {
            world.value("a").as_deref() == Some("1")
        })
        .await;
    world.contents.restore(a2, lost);
    let agent = world.agent.take().unwrap();
    agent.complete(&mut world.contents).await.unwrap().unwrap();
    world.agent = Some(agent);
    world.until_ready(&entry(1, a2)).await;
    assert_eq!(world.value("a").as_deref(), Some("2"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_leaves_the_content_stays_and_is_shown() {
    let mut world = World::new().await;
    let both = world.contents.add(&[config_map("x", "1"), config_map("y", "1")]);
    let one = world.contents.add(&[config_map("x", "1")]);
    world.offer(&[entry(1, both)]).await;
    world.until_ready(&entry(1, both)).await;
    world.offer(&[entry(1, one)]).await;
    world.until_ready(&entry(1, one)).await;
    world
        .until("it is shown", |world| {
            world.objects["y"].state() == ObjectState::PendingRemoval
        })
        .await;
    assert!(world.value("y").is_some());
    world
        .until("it is counted", |world| {
            world.unit(1).unwrap().objects_pending_removal == 1
        })
        .await;
    // Whoever deletes it by hand has it gone.
    world.cluster.delete(&key("ConfigMap", "y"));
    world
        .until("it is gone", |world| {
            world.objects["y"].state() == ObjectState::Gone
        })
        .await;
    assert!(world.value("y").is_none());
    // And one that comes back is the unit's again.
    world.offer(&[entry(1, both)]).await;
    world
        .until("it is back", |world| world.value("y").is_some())
        .await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_evaluation_keeps_the_last_good_state_enforced() {
    let mut world = World::new().await;
    let good = world.contents.add(&[config_map("x", "1")]);
    world.offer(&[entry(1, good)]).await;
    world.until_ready(&entry(1, good)).await;
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  namespace: default\ndata:\n  a: ${missing}\n";
    let bad = world.contents.add_yaml(&[(key("ConfigMap", "x"), template)]);
    let literal = |name: &str| {
        vec![VariableLayer::Literal {
            values: BTreeMap::from([(name.to_owned(), "2".to_owned())]),
        }]
    };
    let with = |variables| {
        entry_with(
            1,
            bad,
            Settings {
                substitution: Substitution::WithVariables,
                ..settings()
            },
            variables,
        )
    };
    world.offer(&[with(literal("other"))]).await;
    world
        .until("it is told", |world| {
            world.unit(1).unwrap().reason == "BuildFailed"
        })
        .await;
    let message = &world.unit(1).unwrap().message;
    assert!(
        message.contains("variable not set (strict mode): \"missing\""),
        "{message}"
    );
    world.cluster.delete(&key("ConfigMap", "x"));
    world
        .until("the last good state is enforced", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    let fixed = with(literal("missing"));
    world.offer(std::slice::from_ref(&fixed)).await;
    world.until_ready(&fixed).await;
    // `2` without quotes is a number once parsed: types come from parsing, as in Flux.
    assert_eq!(
        world.cluster.object(&key("ConfigMap", "x")).unwrap()["data"]["a"],
        2
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn definitions_come_first_and_their_objects_wait_until_they_are_served() {
    let mut world = World::new().await;
    world.cluster.establish(false);
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1"}]}});
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    let wanted = entry(
        1,
        world.contents.add(&[widget, crd.clone(), config_map("x", "1")]),
    );
    world.offer(std::slice::from_ref(&wanted)).await;
    let widget = ObjectKey::new("example.com", "Widget", "default", "w");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.cluster.object(&ObjectKey::of(&crd).unwrap()).is_some());
    assert!(world.cluster.object(&widget).is_none());
    world.cluster.establish(true);
    let mut live = world.cluster.object(&ObjectKey::of(&crd).unwrap()).unwrap();
    live["metadata"]["labels"]["touched"] = "1".into();
    world.cluster.write("apiextensions", live);
    world.until_ready(&wanted).await;
    assert!(
        world.cluster.object(&widget).is_some(),
        "and it is namespaced, as its definition says"
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_is_not_served_waits_and_wakes_on_its_definition() {
    let mut world = World::new().await;
    let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "w", "namespace": "default"}});
    let wanted = entry(1, world.contents.add(&[widget, config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it waits", |world| {
            world
                .objects
                .get("w")
                .is_some_and(|o| o.state() == ObjectState::Waiting)
        })
        .await;
    assert!(world.value("x").is_some(), "the rest of the stage is applied");
    let begun = tokio::time::Instant::now();
    world.cluster.write(
        "somebody",
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"kind": "Widget", "plural": "widgets"}, "versions": [{"name": "v1"}]}}),
    );
    world.until_ready(&wanted).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn objects_already_there_are_adopted_and_leftovers_folded() {
    let mut world = World::new().await;
    let mut theirs = config_map("x", "old");
    theirs["data"]["stale"] = "1".into();
    theirs["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": "{}"});
    world.cluster.write("kubectl-client-side-apply", theirs);
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    let live = world.cluster.object(&key("ConfigMap", "x")).unwrap();
    assert_eq!(
        live["data"],
        json!({"a": "1"}),
        "a field that left Git leaves the cluster"
    );
    world
        .until("it is recorded", |world| {
            world.objects.get("x").is_some_and(|object| object.adopted)
        })
        .await;
    assert_eq!(world.events("Adopted").len(), 1);
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn another_units_object_is_withheld_and_only_that() {
    let mut world = World::new().await;
    let one = world.contents.add(&[config_map("x", "1")]);
    let two = world.contents.add(&[config_map("x", "2"), config_map("y", "2")]);
    world.offer(&[entry(1, one)]).await;
    world.until_ready(&entry(1, one)).await;
    world.offer(&[entry(1, one), entry(2, two)]).await;
    world
        .until("it is told", |world| {
            world.unit(2).is_some_and(|unit| unit.reason == "Conflict")
        })
        .await;
    assert_eq!(
        (world.value("x").as_deref(), world.value("y").as_deref()),
        (Some("1"), Some("2"))
    );
    assert!(
        world
            .unit(2)
            .unwrap()
            .message
            .contains(&entry(1, one).unit.to_string())
    );
    // It is tried again once per retry interval.
    world.rests_but_for(&[("get", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_live_flux_reconciles_is_withheld_until_flux_is_suspended() {
    let mut world = World::new().await;
    world.cluster.serve(
        "kustomize.toolkit.fluxcd.io/v1",
        "Kustomization",
        "kustomizations",
        true,
    );
    let flux = |suspend: bool| {
        json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "apps", "namespace": "default"}, "spec": {"suspend": suspend}})
    };
    world.cluster.write("flux", flux(false));
    let mut theirs = config_map("x", "flux");
    theirs["metadata"]["labels"] = json!({"kustomize.toolkit.fluxcd.io/name": "apps",
        "kustomize.toolkit.fluxcd.io/namespace": "default"});
    world.cluster.write("kustomize-controller", theirs);
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.reason == "StillManagedByFlux")
        })
        .await;
    assert_eq!(world.value("x").as_deref(), Some("flux"));
    world.cluster.write("flux", flux(true));
    world.until_ready(&wanted).await;
    assert_eq!(world.value("x").as_deref(), Some("1"));
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_object_leaves_its_stage_alone_and_closes_the_next() {
    let mut world = World::new().await;
    let refused: Arc<AtomicU32> = Arc::default();
    let count = refused.clone();
    world.cluster.set_fault(Some(Box::new(move |verb, key| {
        (verb == "apply" && key.name == "bad").then(|| {
            count.fetch_add(1, Ordering::Relaxed);
            ClusterError::Rejected {
                code: 422,
                reason: "Invalid".into(),
                message: "data: Invalid value".into(),
            }
        })
    })));
    world.cluster.serve(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        false,
    );
    let webhook = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration", "metadata": {"name": "hook"}});
    let content = world
        .contents
        .add(&[webhook.clone(), config_map("bad", "1"), config_map("good", "1")]);
    let wanted = entry(1, content);
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|u| u.reason == "ReconciliationFailed")
        })
        .await;
    assert!(
        world
            .unit(1)
            .unwrap()
            .message
            .contains("ConfigMap/default/bad: data: Invalid value")
    );
    assert!(world.value("good").is_some());
    assert!(world.cluster.object(&ObjectKey::of(&webhook).unwrap()).is_none());
    tokio::time::sleep(Duration::from_secs(300)).await;
    let tries = refused.load(Ordering::Relaxed);
    assert!(
        (3..=7).contains(&tries),
        "{tries} tries in five minutes at an interval of one"
    );
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    assert!(world.cluster.object(&ObjectKey::of(&webhook).unwrap()).is_some());
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_secrets_values_are_never_in_a_message() {
    let mut world = World::new().await;
    world.cluster.set_fault(Some(Box::new(|verb, key| {
        (verb == "apply" && key.kind == "Secret").then(|| ClusterError::Rejected {
            code: 422,
            reason: "Invalid".into(),
            message: "Invalid value: \"canary-7f3a\"".into(),
        })
    })));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"},
        "stringData": {"password": "canary-7f3a"}});
    let wanted = entry(1, world.contents.add(&[secret]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|u| u.reason == "ReconciliationFailed")
        })
        .await;
    settle().await;
    let told = format!("{:?} {:?} {:?}", world.units, world.objects, world.events);
    assert!(
        told.contains("Secret/default/s") && !told.contains("canary-7f3a"),
        "{told}"
    );
    // It is tried again once per retry interval.
    world
        .rests_but_for(&[("apply", 10), ("discover", 1), ("get", 10)])
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_one_units_status() {
    let mut world = World::new().await;
    world.cluster.set_fault(Some(Box::new(|_, key| {
        assert!(key.name != "poison", "poisoned");
        None
    })));
    let (bad, good) = (
        world.contents.add(&[config_map("poison", "1")]),
        world.contents.add(&[config_map("x", "1")]),
    );
    world.offer(&[entry(1, bad), entry(2, good)]).await;
    world.until_ready(&entry(2, good)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|u| u.message.contains("poisoned"))
        })
        .await;
    assert_eq!(world.unit(1).unwrap().ready(), Readiness::False);
    // It is tried again once per retry interval.
    world.rests_but_for(&[("get", 10)]).await;
}

#[tokio::test(start_paused = true)]
async fn wait_is_ready_only_when_objects_are_and_fails_at_its_timeout() {
    let mut world = World::new().await;
    let content = world.contents.add(&[deployment("web")]);
    let wanted = entry_with(
        1,
        content,
        Settings {
            wait: true,
            ..settings()
        },
        Vec::new(),
    );
    let web = key("Deployment", "web");
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is applied", |world| world.cluster.object(&web).is_some())
        .await;
    world.cluster.set_status(&web, json!({"observedGeneration": 0}));
    world
        .until("it waits", |world| {
            world
                .unit(1)
                .is_some_and(|u| u.reason == "Progressing" && u.health == "InProgress")
        })
        .await;
    world
        .until("the time is over", |world| {
            world.unit(1).unwrap().reason == "HealthCheckFailed"
        })
        .await;
    let message = &world.unit(1).unwrap().message;
    assert!(
        message.contains("timeout waiting for: [Deployment/default/web status: 'InProgress']"),
        "{message}"
    );
    world.cluster.set_status(
        &web,
        json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
            "availableReplicas": 1, "conditions": [{"type": "Available", "status": "True"}]}),
    );
    world.until_ready(&wanted).await;
    world
        .until("health is told", |world| {
            let healthy = world.unit(1).unwrap().healthy.as_ref();
            healthy.is_some_and(|healthy| healthy.is(wanted.version, wanted.target.as_bytes()))
        })
        .await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_suspended_unit_is_kept_and_not_enforced() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    for state in [UnitState::Suspended, UnitState::Detached] {
        let kept = Entry {
            state: state.clone(),
            ..wanted.clone()
        };
        world.offer(&[kept]).await;
        world.cluster.edit("somebody", &key("ConfigMap", "x"), |live| {
            live["data"]["a"] = "2".into()
        });
        settle().await;
        assert_eq!(world.value("x").as_deref(), Some("2"), "{state:?}");
    }
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("resumed, it is enforced", |world| {
            world.value("x").as_deref() == Some("1")
        })
        .await;
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_no_watch_showed_is_found_within_the_hour_or_when_asked() {
    let mut world = World::new().await;
    let wanted = entry(1, world.contents.add(&[config_map("x", "1")]));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    settle().await;
    world.cluster.take_requests();
    world.agent().ask(wanted.unit);
    settle().await;
    assert_eq!(
        world.cluster.take_requests(),
        BTreeMap::from([("list".to_owned(), 1)])
    );
    tokio::time::sleep(Duration::from_secs(3700)).await;
    assert_eq!(
        world.cluster.take_requests(),
        BTreeMap::from([("list".to_owned(), 1)])
    );
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn two_agents_over_one_ledger_are_one_too_many() {
    let mut world = World::new().await;
    let second = SimAgent::start(Arc::new(world.cluster.clone()), Arc::new(world.cells.clone()))
        .await
        .unwrap();
    let mut contents = world.contents.clone();
    let wanted = entry(1, contents.add(&[config_map("x", "1")]));
    assert!(
        second
            .offer(std::slice::from_ref(&wanted), &mut contents)
            .await
            .is_ok()
    );
    let lost = world
        .agent()
        .offer(std::slice::from_ref(&wanted), &mut contents)
        .await;
    assert!(lost.unwrap_err().to_string().contains("another agent"));
    // The one that holds the ledger rests as well as the one that has lost it.
    settle().await;
    let wakes = second.counters.wakes.load(Ordering::Relaxed);
    world.rests().await;
    assert_eq!(second.counters.wakes.load(Ordering::Relaxed), wakes);
}
