//! The Git server, asked by the git program.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use flotilla_testkit::{GitAccess, GitCommand, GitFault, GitServer};
use tokio::process::Command;

type Failure = Box<dyn std::error::Error>;

/// Runs git with nothing of the user's configuration.
async fn git(folder: &Path, args: &[&str]) -> std::io::Result<Output> {
    let mut command = Command::new("git");
    command
        .args(args)
        .current_dir(folder)
        .env("HOME", folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        // It would outrank the setting that a test gives.
        .env_remove("GIT_SSL_CAINFO");
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "true")
        .output()
        .await
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_clone_over_tls_gives_what_was_committed() -> Result<(), Failure> {
    let access = GitAccess::Basic {
        user: "fleet".to_owned(),
        password: "secret".to_owned(),
    };
    let server = GitServer::start(access).await?;
    let repo = server.create("team/app.git").await?;
    repo.commit("main", &[("a.yaml", "a: 1\n"), ("old/b.yaml", "b: 1\n")], "first")
        .await?;
    let change = repo
        .change("main")
        .executable("run \"it\".sh", "#!/bin/sh\n")
        .symlink("link", "a.yaml");
    let second = change.delete("old").commit("second").await?;
    repo.tag("v1.0.0", &second, None).await?;
    repo.tag("v1.1.0", "main", Some("a release")).await?;

    let folder = tempfile::tempdir()?;
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, server.ca_pem())?;
    let trust = format!("http.sslCAInfo={}", ca.display());
    let url = server
        .https_url(repo.name())
        .replace("https://", "https://fleet:secret@");
    let cloned = git(folder.path(), &["-c", &trust, "clone", "--quiet", &url, "app"]).await?;
    assert!(cloned.status.success(), "{}", said(&cloned));
    let app = folder.path().join("app");
    assert_eq!(std::fs::read_to_string(app.join("link"))?, "a: 1\n");
    assert!(app.join("run \"it\".sh").exists() && !app.join("old").exists());
    let log = git(&app, &["log", "--format=%H", "-1", "v1.1.0"]).await?;
    assert_eq!(String::from_utf8_lossy(&log.stdout).trim(), second);

    let requests = server.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.tls && request.protocol == 2),
        "{requests:?}"
    );
    assert_eq!(
        (server.count(GitCommand::LsRefs), server.count(GitCommand::Fetch)),
        (1, 1),
        "{requests:?}"
    );
    assert_eq!(requests[0].status, 401, "git asks without credentials first");
    Ok(())
}

#[tokio::test]
async fn who_lacks_trust_or_credentials_gets_nothing() -> Result<(), Failure> {
    let server = GitServer::start(GitAccess::Bearer("token-1".to_owned())).await?;
    let repo = server.create("app.git").await?;
    repo.commit("main", &[("a", "1")], "first").await?;
    let folder = tempfile::tempdir()?;
    let untrusted = git(folder.path(), &["ls-remote", &server.https_url("app.git")]).await?;
    assert!(said(&untrusted).contains("certificate"), "{}", said(&untrusted));
    assert_eq!(server.requests().len(), 0);
    let url = server.http_url("app.git");
    let unknown = git(
        folder.path(),
        &[
            "-c",
            "http.extraHeader=Authorization: Bearer x",
            "ls-remote",
            &url,
        ],
    )
    .await?;
    assert!(!unknown.status.success());
    let known = git(
        folder.path(),
        &[
            "-c",
            "http.extraHeader=Authorization: Bearer token-1",
            "ls-remote",
            &url,
        ],
    )
    .await?;
    assert!(known.status.success(), "{}", said(&known));
    Ok(())
}

#[tokio::test]
async fn a_push_by_git_and_a_rewritten_branch_are_served() -> Result<(), Failure> {
    let access = GitAccess::Basic {
        user: "fleet".to_owned(),
        password: "secret".to_owned(),
    };
    let server = GitServer::start(access).await?;
    let repo = server.create("app.git").await?;
    let first = repo.commit("main", &[("a", "1")], "first").await?;
    let url = server
        .http_url("app.git")
        .replace("http://", "http://fleet:secret@");
    let folder = tempfile::tempdir()?;
    git(folder.path(), &["clone", "--quiet", &url, "app"]).await?;
    let app = folder.path().join("app");
    let pushed = git(&app, &["push", "origin", "main:refs/heads/copy"]).await?;
    assert!(pushed.status.success(), "{}", said(&pushed));
    assert_eq!(
        repo.resolve("refs/heads/copy").await?.as_deref(),
        Some(first.as_str())
    );
    assert_eq!(server.count(GitCommand::Push), 1);

    let rewritten = repo.rewrite("main").write("b", "2").commit("instead").await?;
    assert_ne!(rewritten, first);
    let listed = git(&app, &["ls-remote", "origin", "refs/heads/main"]).await?;
    assert!(String::from_utf8_lossy(&listed.stdout).starts_with(&rewritten));
    repo.delete_branch("copy").await?;
    assert_eq!(repo.resolve("refs/heads/copy").await?, None);
    Ok(())
}

#[tokio::test]
async fn each_fault_is_what_a_client_sees() -> Result<(), Failure> {
    let server = GitServer::start(GitAccess::Public).await?;
    let other = GitServer::start(GitAccess::Public).await?;
    for each in [&server, &other] {
        each.create("app.git")
            .await?
            .commit("main", &[("a", vec![b'x'; 100_000])], "first")
            .await?;
    }
    let folder = tempfile::tempdir()?;
    let url = server.http_url("app.git");
    let base = other.http_url("app.git").trim_end_matches("/app.git").to_owned();
    for (fault, works, words) in [
        (GitFault::Refuse, false, "unable to access"),
        (GitFault::Status(503), false, "503"),
        (GitFault::CutAfter(20), false, ""),
        (GitFault::Redirect(base), true, ""),
    ] {
        server.set_fault(Some(fault.clone()));
        let listed = git(folder.path(), &["ls-remote", &url]).await?;
        assert_eq!(listed.status.success(), works, "{fault:?}: {}", said(&listed));
        assert!(said(&listed).contains(words), "{fault:?}: {}", said(&listed));
    }
    assert_eq!(other.count(GitCommand::LsRefs), 1);
    let delay = Duration::from_millis(300);
    server.set_fault(Some(GitFault::Slow(delay)));
    let start = Instant::now();
    assert!(git(folder.path(), &["ls-remote", &url]).await?.status.success());
    assert!(start.elapsed() >= delay);
    server.set_fault(None);
    assert!(git(folder.path(), &["ls-remote", &url]).await?.status.success());
    Ok(())
}
