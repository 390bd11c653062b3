//! A Secret's value that was substituted into other objects is in nothing that anybody reads.

use std::{cell::RefCell, collections::BTreeMap, io::Write, sync::Once};

use flotilla_agent::{
    cluster::ClusterError,
    ledger::state::{Blob, BlobKind},
};
use flotilla_core::{
    digest::Digest,
    unit::{Settings, Substitution, VariableLayer},
};
use flotilla_proto::agent::v1::Readiness;

use crate::{
    scenes::version,
    world::{World, config_map, entry, entry_with, key, settings, settle},
};

const CANARY: &str = "canary-7f3a";

thread_local! {
    static LOGGED: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Keeps what the present thread logs, once it was asked to.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| {
            logged
                .iter_mut()
                .for_each(|logged| logged.extend_from_slice(bytes))
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// All that this test logs from now on, of every level. Tests run in threads of their own and share the
    /// process, so that a subscriber of one thread alone may be switched off by the others.
    pub(crate) fn capture() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_writer(|| Self)
                .finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
        });
        LOGGED.set(Some(Vec::new()));
    }

    fn text() -> String {
        LOGGED.with_borrow(|logged| String::from_utf8_lossy(logged.as_ref().unwrap()).into_owned())
    }
}

const CONFIG: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n  namespace: default\ndata:\n  a: ${password}\n";
const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  namespace: default\nspec:\n  \
                          password: ${password}\n";

/// A server that quotes what it refuses.
fn refuses(verb: &'static str) -> impl Fn(&str, &flotilla_core::object::ObjectKey) -> Option<ClusterError> {
    move |asked, _| {
        (asked == verb).then(|| ClusterError::Rejected {
            code: 422,
            reason: "Invalid".into(),
            message: format!("spec.password: Invalid value: \"{CANARY}\": must be longer"),
        })
    }
}

/// What people and the storage get to see.
pub(crate) fn seen(world: &World) -> Vec<(&'static str, String)> {
    let records = world.agent().ledger.read(|state| {
        let units = state.units.values();
        let texts = units.map(|unit| {
            let record = unit.record.as_deref().map(String::from_utf8_lossy);
            format!("{record:?} {:?}", unit.items)
        });
        texts.collect::<Vec<_>>().join("\n")
    });
    vec![
        ("unit rows", format!("{:?} {:?}", world.units, world.history)),
        ("object rows", format!("{:?}", world.objects)),
        ("events", format!("{:?}", world.events)),
        ("log", Log::text()),
        ("ledger", records),
    ]
}

#[tokio::test(start_paused = true)]
async fn value_of_a_secret_variable_that_the_server_quotes_is_told_nowhere() {
    Log::capture();
    let mut world = World::new().await;
    let values = BTreeMap::from([("password", CANARY)]);
    let values = serde_json::to_vec(&values).unwrap();
    let digest = Digest::of("config", &values);
    let blob = Blob::new(BlobKind::Config, &values).unwrap();
    world.contents.restore(digest, blob);
    let content = world.contents.add_yaml(&[
        (key("ConfigMap", "x"), CONFIG),
        (key("Deployment", "web"), DEPLOYMENT),
    ]);
    let settings = Settings {
        substitution: Substitution::WithVariables,
        ..settings()
    };
    let layer = VariableLayer::Config { digest, secret: true };
    let wanted = entry_with(1, content, settings, vec![layer]);
    world.cluster.set_fault(Some(Box::new(refuses("apply"))));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world.unit(1).is_some_and(|unit| unit.ready() == Readiness::False)
        })
        .await;
    settle().await;
    let message = world.unit(1).unwrap().message.clone();
    assert!(message.contains("ConfigMap/default/x"), "{message}");
    // Accepted, then drifted, and what corrects it is refused in the same words: the first time the write, later the
    // dry run before it.
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    assert_eq!(world.value("x").as_deref(), Some(CANARY));
    for verb in ["apply", "dry-run"] {
        world.cluster.set_fault(Some(Box::new(refuses(verb))));
        world.set_value("kubectl-edit", "x", "hacked");
        world
            .until("it is told", |world| {
                world.unit(1).unwrap().ready() == Readiness::False
            })
            .await;
        settle().await;
        world.cluster.set_fault(None);
        world
            .until("it is corrected", |world| {
                world.value("x").as_deref() == Some(CANARY)
            })
            .await;
        world.until_ready(&wanted).await;
    }
    // Corrected, and contested, and the text of neither has a value.
    world.cluster.set_fault(None);
    world
        .until("it is corrected", |world| {
            world.value("x").as_deref() == Some(CANARY)
        })
        .await;
    world.contest("x").await;
    // And a text that cannot be read once the value is in it.
    let broken =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: default}\ndata: {a: \"${password}\n";
    let broken = world.contents.add_yaml(&[(key("ConfigMap", "x"), broken)]);
    let broken = version(
        2,
        entry_with(1, broken, wanted.settings.clone(), wanted.variables.clone()),
    );
    world.offer(&[broken]).await;
    world
        .until("it is told", |world| {
            world.unit(1).unwrap().reason == "BuildFailed"
        })
        .await;
    assert!(Log::text().contains("DriftCorrected"), "the log is captured");
    for (place, text) in seen(&world) {
        assert!(!text.contains(CANARY), "{place}: {text}");
    }
    world.ten_minutes().await;
    world.rests().await;
    for (place, text) in seen(&world) {
        assert!(!text.contains(CANARY), "{place}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn status_that_quotes_a_value_of_a_secret_is_told_nowhere() {
    Log::capture();
    let mut world = World::new().await;
    let values = serde_json::to_vec(&BTreeMap::from([("password", CANARY)])).unwrap();
    let digest = Digest::of("config", &values);
    world
        .contents
        .restore(digest, Blob::new(BlobKind::Config, &values).unwrap());
    let content = world.contents.add_yaml(&[(key("Deployment", "web"), DEPLOYMENT)]);
    let settings = Settings {
        substitution: Substitution::WithVariables,
        wait: true,
        ..settings()
    };
    let layer = VariableLayer::Config { digest, secret: true };
    let wanted = entry_with(1, content, settings, vec![layer]);
    world.offer(&[wanted]).await;
    settle().await;
    for _ in 0..2 {
        world.cluster.set_status(
            &key("Deployment", "web"),
            serde_json::json!({"observedGeneration": 1, "conditions": [{"type": "Stalled", "status": "True",
                "reason": "ConnectFailed", "message": format!("cannot connect to postgres://u:{CANARY}@db")}]}),
        );
        world
            .until("it is told", |world| {
                world
                    .unit(1)
                    .is_some_and(|unit| unit.reason == "HealthCheckFailed")
                    && world.objects["web"].health == "Failed"
            })
            .await;
        let message = &world.objects["web"].message;
        assert!(message.contains("ConnectFailed"), "{message}");
        for (place, text) in seen(&world) {
            assert!(!text.contains(CANARY), "{place}: {text}");
        }
        // Until it is evaluated again, nothing is known of what stands in it.
        world.restart().await;
        settle().await;
    }
    world.rests().await;
}

/// AG-B11: the circuit breaker tells other objects that the server is silent, and not in the words of the object that
/// met it first.
#[tokio::test(start_paused = true)]
async fn silence_that_quotes_a_value_of_a_secret_is_told_of_no_other_object_in_its_words() {
    Log::capture();
    let mut world = World::new().await;
    world.cluster.serve("v1", "Secret", "secrets", true);
    let secret = serde_json::json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "a", "namespace": "default"}, "stringData": {"password": CANARY}});
    let objects = [secret, config_map("x", "1"), config_map("y", "1")];
    let wanted = entry(1, world.contents.add(&objects));
    world.cluster.set_fault(Some(Box::new(|verb, key| match verb {
        "apply" if key.kind == "Secret" => Some(ClusterError::Unavailable(format!(
            "connection broke while sending {{\"password\":\"{CANARY}\"}}"
        ))),
        "apply" | "uid" => Some(ClusterError::Unavailable("connection refused".into())),
        _ => None,
    })));
    world.offer(std::slice::from_ref(&wanted)).await;
    world
        .until("it is told", |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.message.contains("ConfigMap/default/x"))
        })
        .await;
    settle().await;
    for (place, text) in seen(&world) {
        assert!(!text.contains(CANARY), "{place}: {text}");
    }
    world.cluster.set_fault(None);
    world.until_ready(&wanted).await;
    world.rests().await;
}
