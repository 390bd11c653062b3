//! Sources made of other sources, and signatures, on a running hub.

use flotilla_testkit::wait_until;

use crate::{
    deploys::{Fleet, PLACEMENT, app, config_map},
    hub::PATIENCE,
    world::{World, resource},
};

/// A GitRepository with these further fields of its spec.
fn source(fleet: &Fleet, name: &str, more: &str) -> String {
    let url = fleet.git.http_url(&format!("{name}.git"));
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: {name}, namespace: apps}}\n\
         spec: {{interval: 10m, url: \"{url}\", ref: {{branch: main}}{more}}}\n"
    )
}

/// Waits until a source has a condition of this type, status and reason; returns its message.
async fn says(fleet: &Fleet, name: &str, condition: [&str; 3]) -> String {
    let look = async || {
        let found = fleet.resources("GitRepository").await;
        let source = found
            .into_iter()
            .find(|one| one.r#ref.as_ref().is_some_and(|named| named.name == name));
        let conditions = source.map(|one| one.conditions).unwrap_or_default();
        let is_it = |one: &&flotilla_proto::fleet::v1::Condition| {
            [one.r#type.as_str(), one.status.as_str(), one.reason.as_str()] == condition
        };
        match conditions.iter().find(is_it) {
            Some(one) => Ok(Some(one.message.clone())),
            None => Err(format!("{conditions:?}")),
        }
    };
    wait_until(&format!("{name} {condition:?}"), PATIENCE, look)
        .await
        .expect("said")
}

/// A.7: what is included and not there is told; when it comes, and when it changes, the source is made anew by itself.
#[tokio::test]
async fn include_waits_for_the_other_repository_and_takes_each_new_revision_of_it() {
    let fleet = Fleet::empty().await;
    fleet.hub.world.cluster("c1").await;
    let _main = fleet.repository("main", &[("README.md", "main")]).await;
    let lib = fleet
        .repository("lib", &[("base/x.yaml", &config_map("one", "1"))])
        .await;
    let include = ", include: [{repository: {name: lib}, fromPath: base, toPath: deploy}]";
    fleet
        .apply(&[
            &source(&fleet, "main", include),
            &app("main", "./deploy", ""),
            PLACEMENT,
        ])
        .await;
    let told = says(&fleet, "main", ["Ready", "False", "NotFound"]).await;
    assert!(
        told.contains("could not get resource for include 'lib'"),
        "{told}"
    );
    fleet.apply(&[&source(&fleet, "lib", "")]).await;
    fleet.deployed("ConfigMap/apps/one").await;
    let revisions =
        "SELECT count(*) FROM revision v JOIN resource r ON r.uid = v.source_uid WHERE r.name = 'main'";
    assert_eq!(fleet.hub.world.count(revisions).await, 1);
    lib.commit("main", &[("base/x.yaml", config_map("two", "1"))], "second")
        .await
        .expect("committed");
    // Another interval has it looked at.
    fleet.apply(&[&source(&fleet, "lib", ", timeout: 30s")]).await;
    fleet.deployed("ConfigMap/apps/two").await;
    assert_eq!(
        fleet.hub.world.count(revisions).await,
        2,
        "one artifact for each of the other's"
    );
    fleet.hub.world.is_quiet().await;
}

/// Each new artifact would make another, without end.
#[tokio::test]
async fn an_include_that_leads_back_is_refused_on_both_sides() {
    let fleet = Fleet::empty().await;
    let _repositories = (
        fleet.repository("a", &[("x", "1")]).await,
        fleet.repository("b", &[("x", "1")]).await,
    );
    let include = |name: &str| format!(", include: [{{repository: {{name: {name}}}}}]");
    fleet
        .apply(&[
            &source(&fleet, "a", &include("b")),
            &source(&fleet, "b", &include("a")),
        ])
        .await;
    for name in ["a", "b"] {
        let told = says(&fleet, name, ["Ready", "False", "IncludeUnavailable"]).await;
        assert!(told.contains("leads back"), "{told}");
    }
    assert_eq!(fleet.hub.world.count("SELECT count(*) FROM revision").await, 0);
}

/// A.8: a commit that is not signed by a key of the Secret is not taken; what was there stays.
#[tokio::test]
async fn verify_holds_the_last_revision_when_a_commit_is_not_signed_and_says_source_verified_false() {
    let fleet = Fleet::empty().await;
    fleet.hub.world.cluster("c1").await;
    let _repository = fleet
        .repository("a", &[("app/x.yaml", &config_map("one", "1"))])
        .await;
    fleet
        .apply(&[&source(&fleet, "a", ""), &app("a", "./app", ""), PLACEMENT])
        .await;
    fleet.deployed("ConfigMap/apps/one").await;
    let verify = ", verify: {mode: HEAD, secretRef: {name: keys}}";
    fleet.apply(&[&source(&fleet, "a", verify)]).await;
    let told = says(&fleet, "a", ["SourceVerified", "False", "VerificationError"]).await;
    assert!(told.contains("apps/keys"), "{told}");
    let key = include_str!("../../src/source/git/signature/fixtures/ed25519.sshpub");
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: keys, namespace: apps}}\nstringData: {{a.sshpub: \"{}\"}}\n",
        key.trim()
    );
    fleet.apply(&[&secret]).await;
    let told = says(&fleet, "a", ["SourceVerified", "False", "InvalidCommitSignature"]).await;
    assert!(told.ends_with("failed: it is not signed"), "{told}");
    says(&fleet, "a", ["Ready", "False", "InvalidCommitSignature"]).await;
    fleet.deployed("ConfigMap/apps/one").await;
    assert_eq!(fleet.hub.world.count("SELECT count(*) FROM revision").await, 1);
}

/// What tenants write into Git reaches nothing of the fleet's credentials.
#[tokio::test]
async fn a_kept_source_has_what_is_the_fleets_only_below_apps_of_the_fleet_that_act_as_nobody() {
    let world = World::new().await;
    let cluster = world.cluster("c1").await;
    for (kind, name) in [
        ("Kustomization", "root"),
        ("Kustomization", "child"),
        ("GitRepository", "source"),
    ] {
        world.apply(&[resource(kind, name, serde_json::json!({}))]).await;
    }
    let root = world.uid("Kustomization", "root").await;
    let child = world.uid("Kustomization", "child").await;
    let source = world.uid("GitRepository", "source").await;
    let has = async || world.store.has_the_fleets(source).await.expect("read");
    let keep = async |uid, owner| {
        let kept = format!("UPDATE resource SET scope = '{cluster}', owner = '{owner}' WHERE uid = '{uid}'");
        world.execute(&kept).await;
    };
    let set = async |uid, what: &str| {
        world
            .execute(&format!("UPDATE resource SET {what} WHERE uid = '{uid}'"))
            .await;
    };
    assert!(!has().await, "nobody renders it");
    keep(source, root).await;
    assert!(has().await);
    keep(child, root).await;
    keep(source, child).await;
    assert!(has().await);
    for above in [root, child] {
        set(above, r#"spec = '{"serviceAccountName": "tenant"}'"#).await;
        assert!(!has().await, "it has the rights of an account");
        set(above, "spec = '{}'").await;
        assert!(has().await);
    }
    set(source, "namespace = 'elsewhere'").await;
    assert!(!has().await, "it is of another namespace");
    set(source, "namespace = 'apps'").await;
    set(root, &format!("scope = '{cluster}'")).await;
    assert!(!has().await, "its root is of one cluster");
}
