//! What an artifact is made of besides one commit: submodules, and what is asked for of whom.

use flotilla_api::kinds::git_repository::GitRepositorySpec;
use flotilla_core::source::Look;
use flotilla_hub::{
    artifact::{ArtifactDigest, ReadLimits, Tree},
    source::{
        Fetched, Source as _,
        git::{GitSource, ProbeShare, Uses},
        secret::SourceSecret,
    },
};
use flotilla_testkit::{GitAccess, GitFault, GitRepo, GitServer};
use serde_json::{Value, json};

use crate::world::{Hub, KEY, content};

fn spec(url: &str, more: Value) -> GitRepositorySpec {
    let mut spec = json!({ "url": url, "interval": "1m", "timeout": "20s", "ref": { "branch": "main" } });
    let fields = more.as_object().expect("fields").clone();
    spec.as_object_mut().expect("a spec").extend(fields);
    serde_json::from_value(spec).expect("a spec")
}

fn secret(values: &[(&str, &str)]) -> SourceSecret {
    let values = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    SourceSecret {
        name: "apps/repo".into(),
        values: values.collect(),
    }
}

async fn look(
    hub: &Hub,
    spec: &GitRepositorySpec,
    uses: Uses<'_>,
    former: Option<&str>,
) -> Result<Fetched, Look> {
    let probes = ProbeShare::new(hub.prober.clone(), KEY);
    let source = GitSource::new(spec, uses, &probes, &hub.fetcher).map_err(Look::Failed)?;
    let (_, probed) = source.probe().await.map_err(Look::Failed)?;
    source.fetch(probed, former, &hub.artifacts).await
}

async fn tree(hub: &Hub, fetched: &Fetched) -> std::sync::Arc<Tree> {
    let digest = ArtifactDigest::parse(&fetched.found.artifact).expect("a digest");
    hub.artifacts
        .tree(digest, ReadLimits::default())
        .await
        .expect("read back")
}

fn failure(result: Result<Fetched, Look>) -> String {
    match result {
        Err(Look::Failed(failure)) => format!("{}: {}", failure.reason, failure.message),
        other => panic!("{other:?}"),
    }
}

/// Puts a commit of another repository into a tree, as `git submodule add` does.
async fn add_submodule(repo: &GitRepo, path: &str, url: &str, commit: &str) {
    let modules = format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
    repo.commit(
        "main",
        &[(".gitmodules", modules.as_str()), ("a", "1")],
        "submodule",
    )
    .await
    .expect("committed");
    let repository = git2::Repository::open_bare(repo.path()).expect("a repository");
    let main = repository.find_reference("refs/heads/main").expect("a branch");
    let parent = main.peel_to_commit().expect("a commit");
    let tree = parent.tree().expect("a tree");
    let mut builder = repository.treebuilder(Some(&tree)).expect("a builder");
    builder
        .insert(path, git2::Oid::from_str(commit).expect("an id"), 0o160_000)
        .expect("inserted");
    let tree = repository
        .find_tree(builder.write().expect("written"))
        .expect("a tree");
    let author = git2::Signature::now("a", "a@example.org").expect("a signature");
    repository
        .commit(
            Some("refs/heads/main"),
            &author,
            &author,
            "linked",
            &tree,
            &[&parent],
        )
        .expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn recurse_submodules_fetches_those_of_the_same_server_with_the_same_credential() {
    let access = GitAccess::Basic {
        user: "git".into(),
        password: "secret".into(),
    };
    let server = GitServer::start(access).await.expect("a server");
    let inner = server.create("team/inner.git").await.expect("a repository");
    let deep = inner
        .commit("main", &[("deep", "x")], "inner")
        .await
        .expect("committed");
    let lib = server.create("team/lib.git").await.expect("a repository");
    add_submodule(&lib, "inner", "../inner.git", &deep).await;
    let linked = lib.resolve("main").await.expect("resolved").expect("a commit");
    let app = server.create("team/app.git").await.expect("a repository");
    add_submodule(&app, "lib", &server.http_url("team/lib.git"), &linked).await;
    let hub = Hub::new().await;
    let secret = secret(&[("username", "git"), ("password", "secret")]);
    let uses = || Uses {
        secret: Some(&secret),
        ..Uses::default()
    };
    let url = server.http_url("team/app.git");
    let without = look(&hub, &spec(&url, json!({})), uses(), None)
        .await
        .expect("fetched");
    let files = |tree: &Tree| tree.files().map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
    assert_eq!(files(&*tree(&hub, &without).await), ["a"]);
    let with = spec(&url, json!({ "recurseSubmodules": true }));
    let with = look(&hub, &with, uses(), None).await.expect("fetched");
    assert_ne!(with.found.config, without.found.config);
    let tree = tree(&hub, &with).await;
    assert_eq!(files(&tree), ["a", "lib/a", "lib/inner/deep"]);
    assert_eq!(content(&tree, "lib/inner/deep"), Some("x"));
}

/// R25, CVE-2026-41506 and its kin: nothing of the credential goes to the server that the submodule names.
#[tokio::test(flavor = "multi_thread")]
async fn a_submodule_on_another_server_is_refused_and_that_server_is_not_asked() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let evil = GitServer::start(GitAccess::Public).await.expect("a server");
    let app = server.create("app.git").await.expect("a repository");
    add_submodule(&app, "lib", &evil.http_url("lib.git"), &"1".repeat(40)).await;
    let hub = Hub::new().await;
    let spec = spec(&server.http_url("app.git"), json!({ "recurseSubmodules": true }));
    let refused = failure(look(&hub, &spec, Uses::default(), None).await);
    assert!(
        refused.contains("'lib'") && refused.contains("another server"),
        "{refused}"
    );
    assert_eq!(evil.requests().len(), 0);
}

/// R22: with the annotation a rewritten branch is not taken, and says so; without it is followed.
#[tokio::test(flavor = "multi_thread")]
async fn refuse_rewrites_keeps_a_branch_that_was_rewritten_from_being_taken() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let first = repo
        .commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let second = repo
        .commit("main", &[("a", "2")], "second")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let spec = spec(&server.http_url("app.git"), json!({}));
    let refusing = || Uses {
        refuses_rewrites: true,
        ..Uses::default()
    };
    let fetched = look(&hub, &spec, refusing(), Some(&first))
        .await
        .expect("it follows");
    assert_eq!(fetched.commit, second);
    let sibling = repo
        .rewrite("main")
        .write("a", "3")
        .commit("rewritten")
        .await
        .expect("committed");
    let refused = failure(look(&hub, &spec, refusing(), Some(&second)).await);
    assert!(
        refused.starts_with("HistoryRewritten: ") && refused.contains(&sibling),
        "{refused}"
    );
    let followed = look(&hub, &spec, Uses::default(), Some(&second))
        .await
        .expect("followed");
    assert_eq!(followed.commit, sibling);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_an_address_that_is_denied_is_not_followed() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    server.create("app.git").await.expect("a repository");
    let hub = Hub::new().await;
    server.set_fault(Some(GitFault::Redirect("http://169.254.169.254".into())));
    let redirected = spec(&server.http_url("app.git"), json!({}));
    let refused = failure(look(&hub, &redirected, Uses::default(), None).await);
    assert!(refused.contains("redirected to another origin"), "{refused}");
    let direct = spec("http://169.254.169.254/x.git", json!({}));
    let refused = failure(look(&hub, &direct, Uses::default(), None).await);
    assert!(
        refused.contains("link-local") && refused.contains("--egress-allow"),
        "{refused}"
    );
}
