//! Rest after each of the things that once kept an agent busy: the audit log of a real API server has no request of
//! the agent in the quiet window that follows. The stories share one control plane and one window.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use flotilla_agent::{
    cluster::kube::KubeCluster,
    ledger::{
        key_value::{KeyValue, KeyValueError, Limits, Version, Versioned},
        secrets::Secrets,
    },
    sim::SimAgent,
};
use flotilla_core::{
    digest::Digest,
    unit::{Entry, UnitState},
};
use flotilla_proto::agent::v1::Readiness;
use flotilla_testkit::{AuditFilter, wait_until};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    faults::{apply, dead_webhook, remove_webhook, told, until_in_force},
    world::{World, config_map},
};

const SLOW: Duration = Duration::from_secs(60);
/// A loop without a pause asks hundreds of times in it, one with a pause of the shortest kind some dozens.
const QUIET: Duration = Duration::from_secs(20);
/// The agent has come to rest when it has asked nothing for as long.
const SETTLED: Duration = Duration::from_secs(3);

/// Waits until the agent has asked nothing for a while.
async fn settled(world: &World) {
    let audit = world.plane.audit();
    let asked = || audit.count(&AuditFilter::all().user(&world.user));
    let (mut count, mut since) = (0, tokio::time::Instant::now());
    wait_until("the agent to have asked nothing for a while", SLOW, async || {
        let now = asked()?;
        if now != count {
            (count, since) = (now, tokio::time::Instant::now());
        }
        Ok::<_, flotilla_testkit::RigError>((now > 0 && since.elapsed() >= SETTLED).then_some(()))
    })
    .await
    .unwrap();
}

async fn ready(objects: &[Value]) -> (World, Entry) {
    let mut world = World::new().await;
    let entry = world.offer(objects, false).await;
    world.until_ready(&entry).await;
    (world, entry)
}

async fn suspended() -> World {
    let (mut world, entry) = ready(&[config_map("x", "1")]).await;
    let kept = Entry {
        state: UnitState::Suspended,
        ..entry
    };
    world.try_offer(&kept).await.unwrap();
    world
        .until("it is suspended", |world| {
            world.units.values().all(|unit| unit.reason == "Suspended")
        })
        .await;
    world.edit("x", "theirs").await;
    world
}

async fn paused_by_annotation() -> World {
    let (world, _) = ready(&[config_map("x", "1")]).await;
    let params = PatchParams {
        field_manager: Some("kubectl-annotate".to_owned()),
        ..PatchParams::default()
    };
    let pause = json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}});
    world
        .config_maps()
        .patch("x", &params, &Patch::Merge(pause))
        .await
        .unwrap();
    world.edit("x", "theirs").await;
    world
}

async fn contested() -> World {
    let (mut world, _) = ready(&[config_map("x", "1")]).await;
    for _ in 0..3 {
        world.edit("x", "theirs").await;
        world.until_value("x", "1").await;
    }
    world.edit("x", "theirs").await;
    world
        .until("it is told", |world| {
            world.events.iter().any(|(reason, _)| reason == "DriftContested")
        })
        .await;
    world
}

async fn finished_job() -> World {
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"},
        "spec": {"ttlSecondsAfterFinished": 1, "template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "migrate", "image": "migrate:1"}]}}}});
    let (world, _) = ready(&[job]).await;
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &world.namespace);
    wait_until("the job to be removed", SLOW, async || {
        let found = jobs.get_opt("migrate").await?;
        Ok::<_, kube::Error>(found.is_none().then_some(()))
    })
    .await
    .unwrap();
    world
}

async fn deleted_namespace() -> World {
    let mut world = World::new().await;
    let name = format!("team-of-{}", world.own);
    let mut object = config_map("x", "1");
    object["metadata"]["namespace"] = name.clone().into();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let entry = world.offer(&[namespace, object], false).await;
    world.until_ready(&entry).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let uid = namespaces.get(&name).await.unwrap().metadata.uid;
    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &name);
    wait_until(
        "the namespace and its object to be there again",
        SLOW,
        async || {
            let namespace = namespaces.get_opt(&name).await?;
            let is_new = namespace.is_some_and(|namespace| namespace.metadata.uid != uid);
            Ok::<_, kube::Error>((is_new && maps.get_opt("x").await?.is_some()).then_some(()))
        },
    )
    .await
    .unwrap();
    world
        .until("the unit is ready again", |world| {
            let ready = |unit: &flotilla_proto::agent::v1::UnitStatus| {
                unit.ready() == Readiness::True && unit.objects_failed == 0
            };
            world.units.values().all(ready)
        })
        .await;
    world
}

/// `restores`: somebody else deletes and restores the definition, and not the unit.
async fn deleted_definition(restores: bool) -> World {
    let mut world = World::new().await;
    let group = format!("{}.example.com", world.namespace);
    let name = format!("widgets.{group}");
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    let widget = json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "w"},
        "spec": {"size": 1}});
    let definitions: Api<DynamicObject> = Api::all_with(
        world.client.clone(),
        &ApiResource::from_gvk(&GroupVersionKind::gvk(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
        )),
    );
    let params = PatchParams::apply("somebody").force();
    let restore = async || {
        definitions
            .patch(&name, &params, &Patch::Apply(&definition))
            .await
            .map(drop)
    };
    let objects = match restores {
        true => vec![widget],
        false => vec![widget, definition.clone()],
    };
    if restores {
        restore().await.unwrap();
    }
    let entry = world.offer(&objects, false).await;
    world.until_ready(&entry).await;
    let uid = definitions.get(&name).await.unwrap().metadata.uid;
    definitions.delete(&name, &DeleteParams::default()).await.unwrap();
    if restores {
        wait_until("the definition to be gone", SLOW, async || {
            Ok::<_, kube::Error>(definitions.get_opt(&name).await?.is_none().then_some(()))
        })
        .await
        .unwrap();
        restore().await.unwrap();
    }
    let path = format!("/apis/{group}/v1/namespaces/{}/widgets/w", world.namespace);
    wait_until(
        "the definition and its object to be there again",
        SLOW,
        async || {
            let found = definitions
                .get_opt(&name)
                .await
                .map_err(|error| error.to_string())?;
            if found.is_none_or(|found| found.metadata.uid == uid) {
                return Ok(None);
            }
            let widget = world
                .plane
                .get_json(&path)
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((widget["spec"]["size"] == 1).then_some(()))
        },
    )
    .await
    .unwrap();
    world
        .until("the unit is ready again", |world| {
            world.units.values().all(|unit| unit.ready() == Readiness::True)
        })
        .await;
    world
}

/// An object for each switch that an object may bear, edited by somebody else; two of them are left as they were found.
async fn switches() -> World {
    let mut world = World::new().await;
    world.create("left", "theirs").await;
    let switched = |name: &str, switch: &str, value: &str| {
        let mut object = config_map(name, "1");
        object["metadata"]["annotations"] = json!({format!("kustomize.toolkit.fluxcd.io/{switch}"): value});
        object
    };
    let objects = [
        switched("merge", "ssa", "Merge"),
        switched("override", "ssa", "Override"),
        switched("forced", "force", "enabled"),
        switched("unpruned", "prune", "disabled"),
        switched("left", "ssa", "IfNotPresent"),
        switched("ignored", "ssa", "Ignore"),
        switched("paused", "reconcile", "disabled"),
    ];
    let entry = world.offer(&objects, false).await;
    world.until_ready(&entry).await;
    let corrected = ["merge", "override", "forced", "unpruned"];
    for name in corrected.iter().chain(&["left"]) {
        world.edit(name, "edited").await;
    }
    for name in corrected {
        world.until_value(name, "1").await;
    }
    world
}

/// A ledger that takes little: what does not fit is refused, and what was held goes on.
async fn full_ledger() -> World {
    let mut world = World::new().await;
    let own = world.plane.namespace().await.unwrap();
    let cluster = KubeCluster::new(world.agents.clone());
    let ledger = Small(Secrets::new(world.agents.clone(), &own));
    world.agent = SimAgent::start(Arc::new(cluster), Arc::new(ledger))
        .await
        .unwrap();
    let entry = world.offer(&[config_map("x", "1")], false).await;
    world.until_ready(&entry).await;
    let values = (0..2000_u32).map(|n| Digest::of("noise", &n.to_le_bytes()).to_string());
    let large: Vec<Value> = values
        .enumerate()
        .map(|(n, value)| config_map(&format!("n{n}"), &value))
        .collect();
    let large = world.prepare(&large, false);
    let refused = world.try_offer(&large).await.unwrap_err();
    assert!(refused.contains("ledger"), "{refused}");
    world.edit("x", "theirs").await;
    world.until_value("x", "1").await;
    world
}

struct Small(Secrets);

#[async_trait]
impl KeyValue for Small {
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
            segment: 32 << 10,
            total: 64 << 10,
        }
    }
}

/// An object that the API server refuses, and a retry every five seconds.
async fn failed_apply() -> World {
    let mut world = World::new().await;
    let mut bad = config_map("bad", "1");
    bad["data"]["a"] = json!({"no": "text"});
    world.offer(&[config_map("x", "1"), bad], false).await;
    world
        .until("the failure is told", |world| {
            world
                .units
                .values()
                .any(|unit| unit.objects_failed == 1 && unit.message.contains("bad"))
        })
        .await;
    world
}

/// A webhook that was down and is not any more.
async fn mended_webhook() -> World {
    let (mut world, _) = ready(&[config_map("x", "1")]).await;
    apply(&world, &dead_webhook(&world, &["configmaps"])).await;
    until_in_force(&world, &world.namespace, "ConfigMap", true).await;
    let second = world.offer(&[config_map("x", "2")], false).await;
    world
        .until("the webhook is named", |world| told(world, "dead.example.com"))
        .await;
    remove_webhook(&world).await;
    world.until_ready(&second).await;
    world
}

#[tokio::test]
async fn agent_asks_nothing_after_what_is_over() {
    let (a, b, c, d, e, f, g, h, i, j, failing) = tokio::join!(
        suspended(),
        paused_by_annotation(),
        contested(),
        finished_job(),
        deleted_namespace(),
        deleted_definition(false),
        deleted_definition(true),
        switches(),
        full_ledger(),
        mended_webhook(),
        failed_apply(),
    );
    let stories = [
        ("a suspended unit", a),
        ("reconcile: disabled on a live object", b),
        ("a contested field", c),
        ("a job that its time to live removed", d),
        ("a deleted namespace", e),
        ("a definition that the unit restored", f),
        ("a definition that somebody restored", g),
        ("edits of objects with switches", h),
        ("an offer that the ledger had no place for", i),
        ("a webhook that was down", j),
    ];
    for (_, world) in &stories {
        settled(world).await;
    }
    let mark = stories[0].1.plane.audit().mark();
    tokio::time::sleep(QUIET).await;
    stories[0].1.written_up_to_now(mark).await;
    for (story, world) in &stories {
        let asked = world.asked(mark);
        assert!(asked.is_empty(), "after {story}: {asked:?}");
    }
    for (_, world) in &stories[..3] {
        assert_eq!(world.value("x").await.as_deref(), Some("theirs"));
    }
    let switched = &stories[7].1;
    assert_eq!(switched.value("left").await.as_deref(), Some("edited"));
    assert_eq!(switched.value("ignored").await, None);
    assert_eq!(switched.value("paused").await, None);
    // A failure is tried again every five seconds, and costs nothing between.
    let tries = failing.asked(mark);
    let patches = tries.get(&("patch".to_owned(), "configmaps".to_owned()));
    let count: usize = tries.values().sum();
    assert!(
        patches.is_some_and(|patches| (2..=6).contains(patches)),
        "{tries:?}"
    );
    assert!(count <= 18, "{tries:?}");
}
