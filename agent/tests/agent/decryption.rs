//! What is encrypted with SOPS is decrypted in the cluster, with keys that are there, and told nowhere.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use ::base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flotilla_core::unit::{Decryption, Entry, Settings, Substitution, VariableLayer};
use flotilla_proto::agent::v1::Readiness;
use flotilla_sops::services::{Answering, Request, Response, Transport};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    scenes::version,
    secrets::{Log, seen},
    world::{World, config_map, entry_with, key, settings, settle},
};

/// Stands in what is encrypted, and in nothing else.
const CANARY: &str = "canary";
const TOKEN: &str = "dDBrM24tY2FuYXJ5";

/// Files that the `sops` program made, and keys of no other use.
fn golden(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sops/tests/golden");
    fs::read_to_string(folder.join(file)).unwrap()
}

fn manifest(file: &str) -> Value {
    let mut object: Value =
        flotilla_render::yaml::read(&golden(file), &flotilla_render::yaml::Limits::default())
            .unwrap()
            .into();
    object["metadata"]["namespace"] = "default".into();
    object
}

/// The data key of `cases/secret.enc.yaml`, as services give it.
pub(crate) const DATA_KEY: &str = "40u/mThaWLKa1S4aAVPtzOesECQOOqnRcAAJ9PFW9hk=";

/// A Secret that is encrypted for these keys alone.
pub(crate) fn encrypted_for(keys: Value) -> Value {
    let mut object = manifest("cases/secret.enc.yaml");
    let stanza = object["sops"].as_object_mut().unwrap();
    stanza.remove("age");
    stanza.extend(keys.as_object().unwrap().clone());
    object
}

fn base64(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.encode(text)
}

/// The Secret with a key, in the namespace of the app.
fn keys(of: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sops-keys", "namespace": NAMESPACE},
        "data": {format!("{of}.agekey"): base64(&golden(&format!("keys/{of}.agekey")))}})
}

const NAMESPACE: &str = "apps";

fn decrypting() -> Settings {
    Settings {
        decryption: Some(Decryption {
            secret: "sops-keys".into(),
            ..Decryption::default()
        }),
        ..settings()
    }
}

fn encrypted(world: &mut World, settings: Settings, objects: &[Value]) -> Entry {
    let content = world.contents.add(objects);
    let mut entry = entry_with(1, content, settings, Vec::new());
    entry.app.namespace = NAMESPACE.into();
    entry
}

fn keys_key() -> flotilla_core::object::ObjectKey {
    flotilla_core::object::ObjectKey::new("", "Secret", NAMESPACE, "sops-keys")
}

/// The password as the cluster has it: text of `stringData` is written as `data`.
fn password(world: &World) -> Option<String> {
    let secret = world.cluster.object(&key("Secret", "credentials"))?;
    let bytes = BASE64.decode(secret["data"]["password"].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

async fn until_failed(world: &mut World, words: &str) {
    world
        .until(words, |world| {
            world
                .unit(1)
                .is_some_and(|unit| unit.ready() == Readiness::False && unit.message.contains(words))
        })
        .await;
}

fn is_told_nowhere(world: &World) {
    for (place, text) in seen(world) {
        for secret in [CANARY, TOKEN, "AGE-SECRET-KEY"] {
            assert!(!text.contains(secret), "{place}: {text}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_manifest_is_decrypted_with_a_key_of_the_cluster_and_told_nowhere() {
    Log::capture();
    let mut world = World::new().await;
    world.cluster.write("kubectl", keys("one"));
    let objects = [
        manifest("cases/secret.enc.yaml"),
        manifest("cases/deployment.enc.yaml"),
    ];
    let wanted = encrypted(&mut world, decrypting(), &objects);
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    assert_eq!(password(&world), Some("s3cr3t-canary".into()));
    let secret = world.cluster.object(&key("Secret", "credentials")).unwrap();
    assert_eq!(secret["data"]["token"], TOKEN);
    assert_eq!(secret.get("sops"), None);
    let web = world.cluster.object(&key("Deployment", "web")).unwrap();
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"][0]["value"], "s3cr3t-canary");
    is_told_nowhere(&world);
    // Drift is corrected with what was decrypted, and nothing is asked for at rest.
    world
        .cluster
        .edit("kubectl-edit", &key("Secret", "credentials"), |live| {
            live["stringData"]["password"] = "hacked".into();
        });
    world
        .until("it is corrected", |world| {
            password(world) == Some("s3cr3t-canary".into())
        })
        .await;
    world.ten_minutes().await;
    world.rests().await;
    is_told_nowhere(&world);
}

#[tokio::test(start_paused = true)]
async fn a_secret_with_keys_that_is_not_there_is_told_and_found_once_it_is() {
    Log::capture();
    let mut world = World::new().await;
    let objects = [manifest("cases/secret.enc.yaml"), config_map("beside", "plain")];
    let wanted = encrypted(&mut world, decrypting(), &objects);
    world.offer(std::slice::from_ref(&wanted)).await;
    until_failed(
        &mut world,
        "cannot get sops decryption Secret 'apps/sops-keys': secrets \"sops-keys\" not found",
    )
    .await;
    assert_eq!(world.unit(1).unwrap().reason, "BuildFailed");
    assert_eq!(world.value("beside"), None, "all or nothing");
    world.rests().await;
    world.cluster.write("kubectl", keys("one"));
    world.until_ready(&wanted).await;
    assert_eq!(password(&world), Some("s3cr3t-canary".into()));
    world.ten_minutes().await;
    world.rests().await;
    is_told_nowhere(&world);
}

#[tokio::test(start_paused = true)]
async fn the_wrong_key_is_told_with_the_right_ones_name_and_replaced_when_it_is() {
    Log::capture();
    let mut world = World::new().await;
    world.cluster.write("kubectl", keys("two"));
    let objects = [manifest("cases/secret.enc.yaml")];
    let wanted = encrypted(&mut world, decrypting(), &objects);
    world.offer(std::slice::from_ref(&wanted)).await;
    until_failed(&mut world, "it is encrypted for age age1vwm").await;
    let message = world.unit(1).unwrap().message.clone();
    assert!(
        message.contains("decryption failed for '/Secret/credentials'"),
        "{message}"
    );
    world.rests().await;
    world.cluster.write("kubectl", keys("one"));
    world.until_ready(&wanted).await;
    is_told_nowhere(&world);
}

#[tokio::test(start_paused = true)]
async fn a_lost_key_is_told_and_leaves_what_is_applied_in_force() {
    Log::capture();
    let mut world = World::new().await;
    world.cluster.write("kubectl", keys("one"));
    let objects = [manifest("cases/secret.enc.yaml")];
    let wanted = encrypted(&mut world, decrypting(), &objects);
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    world.cluster.delete(&keys_key());
    until_failed(&mut world, "not found").await;
    world
        .cluster
        .edit("kubectl-edit", &key("Secret", "credentials"), |live| {
            live["stringData"]["password"] = "hacked".into();
        });
    world
        .until("it is corrected", |world| {
            password(world) == Some("s3cr3t-canary".into())
        })
        .await;
    // A commit that cannot be decrypted removes nothing.
    let next = [manifest("cases/deployment.enc.yaml")];
    let next = version(2, encrypted(&mut world, decrypting(), &next));
    world.offer(std::slice::from_ref(&next)).await;
    settle().await;
    assert_eq!(password(&world), Some("s3cr3t-canary".into()));
    assert_eq!(world.cluster.object(&key("Deployment", "web")), None);
    world.cluster.write("kubectl", keys("one"));
    world.until_ready(&next).await;
    is_told_nowhere(&world);
}

#[tokio::test(start_paused = true)]
async fn another_key_that_opens_the_same_writes_nothing() {
    let mut world = World::new().await;
    world.cluster.write("kubectl", keys("one"));
    let objects = [manifest("cases/secret.enc.yaml")];
    let wanted = encrypted(&mut world, decrypting(), &objects);
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    world.ten_minutes().await;
    let mut both = keys("one");
    both["data"]["two.agekey"] = base64(&golden("keys/two.agekey")).into();
    world.cluster.take_requests();
    world.cluster.write("kubectl", both);
    settle().await;
    let requests = world.cluster.take_requests();
    assert_eq!(
        requests.get("get"),
        Some(&1),
        "the Secret is read once: {requests:?}"
    );
    assert_eq!(requests.get("apply"), None, "{requests:?}");
    world.rests().await;
}

#[tokio::test(start_paused = true)]
async fn a_changed_value_fails_the_unit_by_its_path_and_a_changed_mac_does_not() {
    Log::capture();
    let mut world = World::new().await;
    world.cluster.write("kubectl", keys("one"));
    let mut object = manifest("cases/secret.enc.yaml");
    let changed = |text: &Value| {
        let text = text.as_str().unwrap();
        let at = text.find("data:").unwrap() + "data:".len();
        let digit = if text[at..].starts_with('A') { "B" } else { "A" };
        Value::from(format!("{}{digit}{}", &text[..at], &text[at + 1..]))
    };
    // As Flux: kustomize puts labels into what was encrypted, so that no MAC would hold.
    object["sops"]["mac"] = changed(&object["sops"]["mac"]);
    let wanted = encrypted(&mut world, decrypting(), std::slice::from_ref(&object));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    object["stringData"]["password"] = changed(&object["stringData"]["password"]);
    let broken = version(2, encrypted(&mut world, decrypting(), &[object]));
    world.offer(std::slice::from_ref(&broken)).await;
    until_failed(&mut world, "value at stringData.password: it was changed").await;
    assert_eq!(
        password(&world),
        Some("s3cr3t-canary".into()),
        "what was applied stays"
    );
    is_told_nowhere(&world);
}

#[tokio::test(start_paused = true)]
async fn what_is_decrypted_is_substituted_then() {
    Log::capture();
    let mut world = World::new().await;
    world.cluster.write("kubectl", keys("one"));
    let mut object = manifest("cases/deployment.enc.yaml");
    object["metadata"]["annotations"] = json!({"region": "${region}"});
    let text = flotilla_render::yaml::write(&object.into()).unwrap();
    let content = world.contents.add_yaml(&[(key("Deployment", "web"), &text)]);
    let settings = Settings {
        substitution: Substitution::WithVariables,
        ..decrypting()
    };
    let values = [("region".to_owned(), "north".to_owned())].into();
    let mut wanted = entry_with(1, content, settings, vec![VariableLayer::Literal { values }]);
    wanted.app.namespace = NAMESPACE.into();
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    let web = world.cluster.object(&key("Deployment", "web")).unwrap();
    assert_eq!(web["metadata"]["annotations"]["region"], "north");
    let container = &web["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["env"][0]["value"], "s3cr3t-canary");
    is_told_nowhere(&world);
}

/// What looks like a variable may be a part of a password.
#[tokio::test(start_paused = true)]
async fn a_variable_that_is_not_set_is_not_named_where_something_was_decrypted() {
    let mut world = World::new().await;
    world.cluster.write("kubectl", keys("one"));
    let mut object = manifest("cases/deployment.enc.yaml");
    object["metadata"]["annotations"] = json!({"region": "${absent}"});
    let text = flotilla_render::yaml::write(&object.into()).unwrap();
    let content = world.contents.add_yaml(&[(key("Deployment", "web"), &text)]);
    let settings = Settings {
        substitution: Substitution::WithVariables,
        ..decrypting()
    };
    let values = [("region".to_owned(), "north".to_owned())].into();
    let mut wanted = entry_with(1, content, settings, vec![VariableLayer::Literal { values }]);
    wanted.app.namespace = NAMESPACE.into();
    world.offer(&[wanted]).await;
    until_failed(&mut world, "variable not set (strict mode)").await;
    let message = &world.unit(1).unwrap().message;
    assert!(!message.contains("absent"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn an_encrypted_secret_without_decryption_is_never_applied() {
    let mut world = World::new().await;
    let objects = [manifest("cases/secret.enc.yaml")];
    let wanted = encrypted(&mut world, settings(), &objects);
    world.offer(&[wanted]).await;
    until_failed(
        &mut world,
        "is SOPS encrypted, configuring decryption is required",
    )
    .await;
    assert_eq!(password(&world), None);
}

/// A Vault that may be away, and may not let the token in.
#[derive(Default)]
struct Vault {
    is_away: AtomicBool,
    is_shut: AtomicBool,
    asked: AtomicUsize,
}

impl Transport for Vault {
    fn send(&self, request: Request) -> Answering<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert_eq!(request.headers()["x-vault-token"], "hvs.AGE-SECRET-KEY");
        let (status, body) = match self.is_shut.load(Ordering::Relaxed) {
            true => (403, json!({"errors": ["permission denied"]})),
            false => (200, json!({"data": {"plaintext": DATA_KEY}})),
        };
        let body = Zeroizing::new(body.to_string().into_bytes());
        let answer = match self.is_away.load(Ordering::Relaxed) {
            true => Err("connection refused".to_owned()),
            false => Ok(http::Response::builder().status(status).body(body).unwrap()),
        };
        let answer: Result<Response, String> = answer;
        Box::pin(std::future::ready(answer))
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

impl Vault {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn with_vault() -> (World, Arc<Vault>) {
    let (mut world, vault) = (World::new().await, Arc::new(Vault::default()));
    world.key_services = Some(vault.clone());
    world.restart().await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sops-keys", "namespace": NAMESPACE},
        "data": {"sops.vault-token": base64("hvs.AGE-SECRET-KEY")}});
    world.cluster.write("kubectl", secret);
    (world, vault)
}

fn for_vault(key: &str) -> Value {
    encrypted_for(
        json!({"hc_vault": [{"vault_address": "http://vault:8200", "engine_path": "sops", "key_name": key,
        "enc": "vault:v1:wrapped"}]}),
    )
}

#[tokio::test(start_paused = true)]
async fn a_key_service_is_asked_once_for_a_document_that_is_evaluated_again_and_corrected() {
    Log::capture();
    let (mut world, vault) = with_vault().await;
    let wanted = encrypted(&mut world, decrypting(), &[for_vault("one")]);
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    assert_eq!(password(&world), Some("s3cr3t-canary".into()));
    // Drift is corrected while the service is away, and so is what comes beside.
    vault.is_away.store(true, Ordering::Relaxed);
    let edited = |live: &mut Value| live["stringData"]["password"] = "hacked".into();
    world
        .cluster
        .edit("kubectl-edit", &key("Secret", "credentials"), edited);
    world
        .until("it is corrected", |world| {
            password(world) == Some("s3cr3t-canary".into())
        })
        .await;
    let beside = [for_vault("one"), config_map("beside", "plain")];
    let wanted = version(2, encrypted(&mut world, decrypting(), &beside));
    world.offer(std::slice::from_ref(&wanted)).await;
    world.until_ready(&wanted).await;
    assert_eq!(vault.asked(), 1);
    world.ten_minutes().await;
    world.rests().await;
    is_told_nowhere(&world);
}

#[tokio::test(start_paused = true)]
async fn a_key_service_that_is_away_or_refuses_is_told_and_asked_again_until_it_opens() {
    Log::capture();
    let (mut world, vault) = with_vault().await;
    vault.is_away.store(true, Ordering::Relaxed);
    let wanted = encrypted(&mut world, decrypting(), &[for_vault("one")]);
    world.offer(std::slice::from_ref(&wanted)).await;
    until_failed(
        &mut world,
        "cannot get sops data key: Vault http://vault:8200 sops/one: 'vault' cannot be asked: connection refused",
    )
    .await;
    vault.is_shut.store(true, Ordering::Relaxed);
    vault.is_away.store(false, Ordering::Relaxed);
    until_failed(&mut world, "put a valid token into 'sops.vault-token'").await;
    // What is refused is asked for once each retry interval.
    let asked = vault.asked();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = vault.asked() - asked;
    assert!((1..=20).contains(&asked), "asked {asked} times in ten minutes");
    vault.is_shut.store(false, Ordering::Relaxed);
    world.until_ready(&wanted).await;
    assert_eq!(password(&world), Some("s3cr3t-canary".into()));
    // A document of another key that is not opened leaves what is applied in force.
    vault.is_away.store(true, Ordering::Relaxed);
    let other = version(2, encrypted(&mut world, decrypting(), &[for_vault("two")]));
    world.offer(std::slice::from_ref(&other)).await;
    until_failed(&mut world, "the last good state is enforced").await;
    let edited = |live: &mut Value| live["stringData"]["password"] = "hacked".into();
    world
        .cluster
        .edit("kubectl-edit", &key("Secret", "credentials"), edited);
    world
        .until("it is corrected", |world| {
            password(world) == Some("s3cr3t-canary".into())
        })
        .await;
    vault.is_away.store(false, Ordering::Relaxed);
    world.until_ready(&other).await;
    world.ten_minutes().await;
    world.rests().await;
    is_told_nowhere(&world);
}

#[tokio::test(start_paused = true)]
async fn a_document_for_a_service_without_credentials_names_the_file_that_is_lacking() {
    Log::capture();
    let mut world = World::new().await;
    world.cluster.write("kubectl", keys("one"));
    let wanted = encrypted(&mut world, decrypting(), &[for_vault("one")]);
    world.offer(std::slice::from_ref(&wanted)).await;
    until_failed(
        &mut world,
        "the Secret of spec.decryption.secretRef has no 'sops.vault-token'",
    )
    .await;
}
