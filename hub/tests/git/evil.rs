//! Servers of another origin, of another time, and evil ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use flotilla_hub::source::git::FetchLimits;
use flotilla_hub::source::git::GitError;
use flotilla_testkit::{GitAccess, GitFault, GitServer, wait_until};

use crate::world::{
    CANARY, Hub, TIMEOUT, advertisement, branch, line, old_advertisement, public, script, serve, tag,
    with_password,
};

#[tokio::test(flavor = "multi_thread")]
async fn credentials_never_follow_a_redirect_to_another_origin() {
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    let elsewhere = serve(move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::OK.into_response() }
    })
    .await;
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    server.set_fault(Some(GitFault::Redirect(elsewhere.clone())));
    let hub = Hub::new().await;
    let remote = with_password(&server.http_url("app.git"), CANARY);
    let error = hub.fetch(&remote, &branch("main")).await.expect_err("refused");
    assert!(
        matches!(&error, GitError::Redirected { to, .. } if to.starts_with(&elsewhere)),
        "{error}"
    );
    assert_eq!(requests.load(Ordering::SeqCst), 0, "nothing at all is sent there");
    // And when the server turns evil only after the probe, git itself goes nowhere.
    let evil = turning_evil(server.http_url(""), elsewhere.clone()).await;
    server.set_fault(None);
    hub.fetch(
        &with_password(&format!("{evil}/app.git"), CANARY),
        &branch("main"),
    )
    .await
    .expect_err("refused");
    assert_eq!(requests.load(Ordering::SeqCst), 0, "nothing at all is sent there");
}

/// Passes the hub's own requests on to `honest`, and redirects git's.
async fn turning_evil(honest: String, elsewhere: String) -> String {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .build()
        .expect("a client");
    serve(move |request: Request| {
        let (client, honest, elsewhere) = (client.clone(), honest.clone(), elsewhere.clone());
        async move {
            let agent = request
                .headers()
                .get(header::USER_AGENT)
                .and_then(|agent| agent.to_str().ok());
            let path = request
                .uri()
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default();
            if agent.is_none_or(|agent| !agent.contains("flotilla")) {
                return (
                    StatusCode::FOUND,
                    [(header::LOCATION, format!("{elsewhere}{path}"))],
                )
                    .into_response();
            }
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.expect("small");
            let mut pass = client
                .request(parts.method, format!("{}{path}", honest.trim_end_matches('/')))
                .body(body);
            for name in ["git-protocol", "content-type"] {
                pass = parts
                    .headers
                    .get(name)
                    .into_iter()
                    .fold(pass, |pass, value| pass.header(name, value));
            }
            let answer = pass.send().await.expect("answered");
            let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
            let mut response = Response::new(Body::from(answer.bytes().await.expect("whole")));
            response
                .headers_mut()
                .extend(kind.map(|kind| (header::CONTENT_TYPE, kind)));
            response
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_within_the_origin_is_followed_and_its_query_is_not_shown() {
    let id = "a".repeat(40);
    let body = old_advertisement(&[(id.clone(), "refs/heads/main".into())]);
    let url = serve(move |request: Request| {
        let body = body.clone();
        async move {
            match request.uri().path() {
                "/old/info/refs" => {
                    let to = "/new.git/info/refs?service=git-upload-pack";
                    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, to)]).into_response()
                }
                "/login/info/refs" => (
                    StatusCode::FOUND,
                    [(header::LOCATION, format!("/sign_in?token={CANARY}"))],
                )
                    .into_response(),
                "/loop/info/refs" => {
                    let to = "/loop/info/refs?service=git-upload-pack";
                    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
                }
                _ => advertisement(body),
            }
        }
    })
    .await;
    let hub = Hub::new().await;
    let resolved = hub
        .probe(&format!("{url}/old"), &branch("main"))
        .await
        .expect("resolved");
    assert_eq!(
        (resolved.commit.as_str(), resolved.base.as_str()),
        (id.as_str(), format!("{url}/new.git").as_str())
    );
    let error = hub
        .probe(&format!("{url}/login"), &branch("main"))
        .await
        .expect_err("no repository");
    assert!(
        matches!(error, GitError::Redirected { .. }) && !error.to_string().contains(CANARY),
        "{error}"
    );
    let error = hub
        .probe(&format!("{url}/loop"), &branch("main"))
        .await
        .expect_err("endless");
    assert!(error.to_string().contains("too many redirects"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_servers_list_is_read_tags_peeled_however_long_it_is() {
    let [head, tag_object, tagged] = ["a", "b", "c"].map(|digit| digit.repeat(40));
    let mut refs: Vec<_> = (0..100_000)
        .map(|number| ("d".repeat(40), format!("refs/heads/{number}")))
        .collect();
    refs.push((head.clone(), "refs/heads/main".into()));
    refs.push((tag_object, "refs/tags/v1".into()));
    refs.push((tagged.clone(), "refs/tags/v1^{}".into()));
    let body = old_advertisement(&refs);
    let url = serve(move |_| {
        let body = body.clone();
        async move { advertisement(body) }
    })
    .await;
    let hub = Hub::new().await;
    let main = hub.probe(&url, &branch("main")).await.expect("resolved");
    assert_eq!(main.commit.as_str(), head);
    let v1 = hub.probe(&url, &tag("v1")).await.expect("resolved");
    assert_eq!(v1.commit.as_str(), tagged);
    assert!(matches!(
        hub.probe(&url, &branch("gone")).await,
        Err(GitError::NotFound { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn evil_answers_end_at_a_limit_and_never_in_a_revision() {
    let endless = || {
        let chunk = Bytes::from(line(&format!(
            "{} refs/heads/{}",
            "a".repeat(40),
            "x".repeat(60_000)
        )));
        Body::from_stream(futures::stream::repeat_with(move || {
            Ok::<_, std::io::Error>(chunk.clone())
        }))
    };
    let url = serve(move |request: Request| async move {
        match request.uri().path().split('/').nth(1) {
            Some("endless") => advertisement(endless()),
            Some("slow") => advertisement(Body::from_stream(futures::stream::pending::<
                Result<Bytes, std::io::Error>,
            >())),
            Some("html") => "<html>".into_response(),
            Some("garbage") => advertisement("<html>"),
            Some("cut") => advertisement("003e# service"),
            Some("unended") => advertisement(line("# service=git-upload-pack") + "0000" + &line("version 2")),
            Some("noid") => advertisement(old_advertisement(&[(
                "--upload-pack=x".into(),
                "refs/heads/main".into(),
            )])),
            Some("error") => advertisement(line("ERR go away")),
            _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
    })
    .await;
    let hub = Hub::new().await;
    for (name, expected) in [
        ("endless", "exceeds the limit of 64 MiB"),
        ("html", "not Git's smart HTTP protocol"),
        ("garbage", "invalid pkt-line length"),
        ("cut", "ends within a pkt-line"),
        ("unended", "has no end"),
        ("noid", "points at no object id"),
        ("error", "the server says: go away"),
        ("down", "503"),
    ] {
        let error = hub
            .probe(&format!("{url}/{name}"), &branch("main"))
            .await
            .expect_err(name);
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    let slow = public(&format!("{url}/slow"));
    let error = hub
        .prober
        .probe(&slow, &branch("main"), Duration::from_millis(200))
        .await
        .expect_err("slow");
    assert!(matches!(error, GitError::Timeout { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_of_git_has_limits_of_memory_and_processor_time() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let remote = public(&server.http_url("app.git"));
    let place = tempfile::tempdir().expect("a directory");
    let said = place.path().join("said");
    let limits = FetchLimits {
        git_memory: 512 << 20,
        git_cpu_seconds: 77,
        ..FetchLimits::default()
    };
    // A child of git's has them as well. What git says then is a limit, and not asked for again every few seconds.
    let body = format!(
        "sh -c 'ulimit -v; ulimit -t' > {}; echo 'fatal: Out of memory, malloc failed' >&2; exit 128",
        said.display()
    );
    let hub = Hub::with(Some(script(place.path(), &body)), limits).await;
    let error = hub
        .fetch(&remote, &branch("main"))
        .await
        .expect_err("out of memory");
    assert!(
        matches!(&error, GitError::TooLarge { what: "the memory of git", limit, .. } if limit == "512 MiB"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&said).expect("it ran"), "524288\n77\n");
    // A process that turns without end is stopped by its limit, long before the time of the fetch is over.
    let busy = FetchLimits {
        git_cpu_seconds: 1,
        ..FetchLimits::default()
    };
    let hub = Hub::with(Some(script(place.path(), "while :; do :; done")), busy).await;
    let error = hub
        .fetch(&remote, &branch("main"))
        .await
        .expect_err("out of time");
    assert!(
        matches!(
            &error,
            GitError::TooLarge {
                what: "the processor time of git",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_of_git_are_bounded_together_and_none_is_left() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "one")
        .await
        .expect("committed");
    let remote = public(&server.http_url("app.git"));
    let place = tempfile::tempdir().expect("a directory");
    // A number that no other process has among its arguments.
    let crowd = "i=0; while [ $i -lt 200 ]; do sleep 98765 & i=$((i + 1)); done; wait";
    let hub = Hub::with(Some(script(place.path(), crowd)), FetchLimits::default()).await;
    let error = hub.fetch(&remote, &branch("main")).await.expect_err("too many");
    assert!(
        matches!(&error, GitError::TooLarge { what: "the threads of git", limit, .. } if limit == "64"),
        "{error}"
    );
    wait_until("all of them to end", Duration::from_secs(10), async || {
        let all = std::fs::read_dir("/proc").expect("read").flatten();
        let left = all.filter(|one| {
            let arguments = std::fs::read(one.path().join("cmdline")).unwrap_or_default();
            arguments.starts_with(b"sleep\098765\0")
        });
        match left.count() {
            0 => Ok(Some(())),
            left => Err(format!("{left} are left")),
        }
    })
    .await
    .expect("none is left");
    // Each below its limit, and together above: a shell's text doubles until it has 48 MiB.
    let heap = "a=0123456789abcdef; i=0; while [ $i -lt 20 ]; do a=$a$a; i=$((i + 1)); done; sleep 98764";
    let hoard = format!("i=0; while [ $i -lt 12 ]; do ( {heap} ) & i=$((i + 1)); done; wait");
    let limits = FetchLimits {
        git_memory: 128 << 20,
        ..FetchLimits::default()
    };
    let hub = Hub::with(Some(script(place.path(), &hoard)), limits).await;
    let error = hub.fetch(&remote, &branch("main")).await.expect_err("too much");
    assert!(
        matches!(&error, GitError::TooLarge { what: "the memory of git", limit, .. } if limit == "128 MiB"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_or_directory_that_is_too_large_is_refused_by_its_header() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let remote = public(&server.http_url("app.git"));
    repo.commit("main", &[("a", "1")], &"x".repeat(2 << 20))
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let error = hub.fetch(&remote, &branch("main")).await.expect_err("too large");
    let said = error.to_string();
    assert!(
        said.contains("the size of the commit's message exceeds the limit of 1 MiB"),
        "{said}"
    );
    repo.commit("main", &[("b", "1")], "small")
        .await
        .expect("committed");
    hub.fetch(&remote, &branch("main")).await.expect("fetched");
    let mut limits = FetchLimits::default();
    limits.tree.directory = 64;
    let hub = Hub::with(None, limits).await;
    let files: Vec<(String, &str)> = (0..9).map(|n| (format!("file-{n}"), "1")).collect();
    repo.commit("main", &files, "wide").await.expect("committed");
    let error = hub.fetch(&remote, &branch("main")).await.expect_err("too large");
    assert!(
        error.to_string().contains("the size of a directory's list"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commits_subject_cannot_speak_to_a_terminal() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "evil \u{1b}[2J\u{1b}]52;c;\u{7} subject")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let fetched = hub
        .fetch(&public(&server.http_url("app.git")), &branch("main"))
        .await;
    let subject = fetched.expect("fetched").0.subject;
    assert_eq!(subject, r"evil \u{1b}[2J\u{1b}]52;c;\u{7} subject");
}
