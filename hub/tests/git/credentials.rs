//! Credentials and certificates: who gets them, and who never does.

use std::path::{Path, PathBuf};

use flotilla_hub::source::{
    git::{Credential, FetchLimits, GitError, Remedy, Remote},
    transport::{ClientCertificate, Connection, Proxy},
};
use flotilla_testkit::{GitAccess, GitServer};
use zeroize::Zeroizing;

use crate::world::{CANARY, Hub, TIMEOUT, branch, commit, content, public, script, serve, with_password};

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_server_is_trusted_only_through_its_own_ca() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let error = hub
        .probe(&server.https_url("app.git"), &branch("main"))
        .await
        .expect_err("not trusted");
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
    let broken = Remote::new(&server.https_url("app.git"), None, Some(b"no PEM".to_vec())).expect("a remote");
    let error = hub
        .prober
        .probe(&broken, &branch("main"), TIMEOUT)
        .await
        .expect_err("no CA");
    assert!(error.to_string().contains("PEM"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_client_certificates_is_shown_the_one_of_the_secret_by_probe_and_git() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let url = server.mutual_url("app.git");
    let trusting = || Connection::default().trusting(Some(server.ca_pem().into()));
    let without = Remote::connected(&url, None, trusting()).expect("a remote");
    let error = hub.prober.probe(&without, &branch("main"), TIMEOUT).await;
    let error = error.expect_err("no certificate");
    assert!(matches!(error, GitError::Unreachable { .. }), "{error}");
    let pair = server.client_certificate().expect("a certificate");
    let shown = ClientCertificate {
        certificate: pair.cert_pem.clone().into_bytes(),
        key: Zeroizing::new(pair.key_pem.clone().into_bytes()),
    };
    let with = Remote::connected(&url, None, trusting().showing(Some(shown))).expect("a remote");
    let (_, tree) = hub.fetch(&with, &branch("main")).await.expect("fetched");
    assert_eq!(content(&tree, "a"), Some("1"));
}

/// A proxy that resolves names as it likes, and asks who comes.
async fn proxy(target: String, asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>) -> String {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    serve(move |request: axum::extract::Request| {
        let (client, target, asked) = (client.clone(), target.clone(), std::sync::Arc::clone(&asked));
        async move {
            let (parts, body) = request.into_parts();
            let who = parts
                .headers
                .get("proxy-authorization")
                .and_then(|value| value.to_str().ok());
            let who = who.unwrap_or_default().to_owned();
            asked
                .lock()
                .expect("nobody panicked")
                .push(format!("{} {who}", parts.uri));
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let mut forwarded = client.request(parts.method, format!("{target}{path}"));
            for name in ["content-type", "content-encoding", "git-protocol", "accept"] {
                if let Some(value) = parts.headers.get(name) {
                    forwarded = forwarded.header(name, value);
                }
            }
            let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
            let answer = forwarded.body(body).send().await.expect("answered");
            let kind = answer.headers().get("content-type").cloned();
            let (status, bytes) = (answer.status(), answer.bytes().await.expect("a body"));
            let mut response = axum::response::Response::new(axum::body::Body::from(bytes));
            *response.status_mut() = status;
            if let Some(kind) = kind {
                response.headers_mut().insert("content-type", kind);
            }
            response
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_source_carries_probe_and_git_and_resolves_the_name() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let asked = std::sync::Arc::default();
    let target = server.http_url("");
    let address = proxy(
        target.trim_end_matches('/').to_owned(),
        std::sync::Arc::clone(&asked),
    )
    .await;
    let proxy = Proxy::new(&address, Some(("me".into(), Zeroizing::new(CANARY.into())))).expect("a proxy");
    let connection = Connection::default().through(Some(proxy));
    let hub = Hub::new().await;
    // Nobody but the proxy knows the name.
    let remote = Remote::connected("http://git.invalid/app.git", None, connection).expect("a remote");
    let (_, tree) = hub.fetch(&remote, &branch("main")).await.expect("fetched");
    assert_eq!(content(&tree, "a"), Some("1"));
    let asked = asked.lock().expect("nobody panicked").clone();
    assert!(asked.len() > 3, "{asked:?}");
    assert!(
        asked
            .iter()
            .all(|one| one.starts_with("http://git.invalid/app.git/")),
        "{asked:?}"
    );
    assert!(asked.iter().any(|one| one.contains("Basic ")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_an_auth_error_and_show_nowhere() {
    for (access, bearer) in [
        (
            GitAccess::Basic {
                user: "git".into(),
                password: "right".into(),
            },
            false,
        ),
        (GitAccess::Bearer("right".into()), true),
    ] {
        let server = GitServer::start(access).await.expect("a server");
        let repo = server.create("app.git").await.expect("a repository");
        repo.commit("main", &[("a", "1")], "first")
            .await
            .expect("committed");
        let hub = Hub::new().await;
        let url = server.http_url("app.git");
        let remote = |secret: &str| {
            let secret = Zeroizing::new(secret.to_owned());
            let credential = if bearer {
                Credential::Bearer(secret)
            } else {
                Credential::Basic {
                    username: "git".into(),
                    password: secret,
                }
            };
            Remote::new(&url, Some(credential), None).expect("a remote")
        };
        for remote in [public(&url), remote(CANARY)] {
            let error = hub.fetch(&remote, &branch("main")).await.expect_err("refused");
            assert!(matches!(error, GitError::Auth { .. }), "{error}");
            assert_eq!(
                (error.reason(), error.remedy()),
                ("AuthenticationFailed", Remedy::Ask)
            );
            assert!(!format!("{error:?} {error} {}", error.message()).contains(CANARY));
        }
        let (_, tree) = hub
            .fetch(&remote("right"), &branch("main"))
            .await
            .expect("fetched");
        assert_eq!(content(&tree, "a"), Some("1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_credentials_never_read_what_good_ones_fetched() {
    let access = GitAccess::Basic {
        user: "git".into(),
        password: "right".into(),
    };
    let server = GitServer::start(access).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let id = repo
        .commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let url = server.http_url("app.git");
    hub.fetch(&with_password(&url, "right"), &branch("main"))
        .await
        .expect("fetched");
    for reference in [branch("main"), commit(&id, None)] {
        let error = hub
            .fetch(&with_password(&url, "wrong"), &reference)
            .await
            .expect_err("refused");
        assert!(matches!(error, GitError::Auth { .. }), "{error}");
    }
}

/// A git that writes down its arguments and environment's names, then is git.
fn recording_git(place: &Path) -> PathBuf {
    script(
        place,
        &format!(
            "echo \"$@\" >> {0}/argv; env > {0}/env; exec git \"$@\"",
            place.display()
        ),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn credential_and_url_are_not_in_the_arguments_and_the_environment_is_our_own() {
    let access = GitAccess::Basic {
        user: "git".into(),
        password: CANARY.into(),
    };
    let server = GitServer::start(access).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let place = tempfile::tempdir().expect("a directory");
    let hub = Hub::with(Some(recording_git(place.path())), FetchLimits::default()).await;
    let url = server.http_url("app.git");
    hub.fetch(&with_password(&url, CANARY), &branch("main"))
        .await
        .expect("fetched");
    let arguments = std::fs::read_to_string(place.path().join("argv")).expect("recorded");
    assert!(arguments.contains(":refs/flotilla/names/"), "{arguments}");
    assert!(
        !arguments.contains("127.0.0.1") && !arguments.contains(CANARY) && !arguments.contains("Basic"),
        "{arguments}"
    );
    let environment = std::fs::read_to_string(place.path().join("env")).expect("recorded");
    for name in [
        "GIT_CONFIG_NOSYSTEM=1",
        "GIT_CONFIG_GLOBAL=/dev/null",
        "GIT_TERMINAL_PROMPT=0",
        "GIT_ALLOW_PROTOCOL=https:http",
    ] {
        assert!(environment.contains(name), "{name} in {environment}");
    }
    // Cargo puts many variables into the environment of a test; none of them comes through.
    assert!(!environment.contains("CARGO"), "{environment}");
}
