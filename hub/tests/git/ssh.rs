//! Git over SSH, against OpenSSH's own server.

use std::time::Duration;

use flotilla_hub::source::git::{Credential, GitError, Reference, Remote, SshIdentity};
use flotilla_testkit::{GitAccess, GitServer, SshKey, SshServer};
use zeroize::Zeroizing;

use crate::world::{Hub, TIMEOUT, branch, commit, content, full_name, semver, tag};

const HOST: &str = "localhost";

fn remote(url: &str, key: &SshKey, passphrase: Option<&str>, known_hosts: &str) -> Remote {
    let identity = SshIdentity {
        key: Zeroizing::new(key.private.clone()),
        passphrase: passphrase.map(|text| Zeroizing::new(text.to_owned())),
        known_hosts: known_hosts.to_owned(),
    };
    Remote::new(url, Some(Credential::Ssh(identity)), None).expect("a remote")
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_fetches_each_kind_of_reference_with_each_kind_of_key_and_leaves_no_file_behind() {
    let (git, ssh) = (
        GitServer::start(GitAccess::Public).await.expect("a server"),
        SshServer::start().await.expect("sshd"),
    );
    let repo = git.create("app.git").await.expect("a repository");
    let first = repo
        .commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    repo.tag("v1.0.0", &first, Some("annotated"))
        .await
        .expect("tagged");
    let second = repo
        .commit("main", &[("a", "2")], "second")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let (url, hosts) = (ssh.url(HOST, repo.path()), ssh.known_hosts(HOST));
    for (kind, passphrase) in [
        ("ed25519", None),
        ("ecdsa", None),
        ("rsa", None),
        ("ed25519", Some("canary")),
    ] {
        let key = ssh.key(kind, passphrase).expect("a key");
        let remote = remote(&url, &key, passphrase, &hosts);
        let references: [(Reference, &str, String); 5] = [
            (branch("main"), &second, format!("main@sha1:{second}")),
            (tag("v1.0.0"), &first, format!("v1.0.0@sha1:{first}")),
            (semver("1.x"), &first, format!("v1.0.0@sha1:{first}")),
            (
                full_name("refs/heads/main"),
                &second,
                format!("refs/heads/main@sha1:{second}"),
            ),
            (commit(&first, None), &first, format!("sha1:{first}")),
        ];
        for (reference, id, revision) in references {
            let (fetched, tree) = hub.fetch(&remote, &reference).await.expect("fetched");
            assert_eq!(
                (fetched.commit.as_str(), &fetched.revision),
                (id, &revision),
                "{kind}"
            );
            let text = if id == first { "1" } else { "2" };
            assert_eq!(content(&tree, "a"), Some(text), "{kind}");
        }
    }
    let names = std::fs::read_dir(hub.place.path().join("git"))
        .expect("repositories")
        .flatten();
    let left: Vec<_> = names
        .map(|entry| entry.file_name())
        .filter(|name| !name.to_string_lossy().ends_with(".git"))
        .collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_goes_to_no_server_whose_host_key_is_not_known_and_says_what_helps() {
    let (git, ssh) = (
        GitServer::start(GitAccess::Public).await.expect("a server"),
        SshServer::start().await.expect("sshd"),
    );
    let repo = git.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let (url, key) = (
        ssh.url(HOST, repo.path()),
        ssh.key("ed25519", None).expect("a key"),
    );
    let other = format!(
        "[{HOST}]:{} {}",
        url.split(':')
            .nth(2)
            .and_then(|rest| rest.split('/').next())
            .unwrap_or_default(),
        key.public
    );
    for hosts in [ssh.known_hosts("elsewhere"), other] {
        let error = hub
            .prober
            .probe(&remote(&url, &key, None, &hosts), &branch("main"), TIMEOUT)
            .await;
        let error = error.expect_err("refused");
        assert!(matches!(error, GitError::HostKey { .. }), "{error}");
        assert!(
            error.to_string().contains("known_hosts") && !error.to_string().contains('@'),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_failures_are_told_apart_without_the_key() {
    let (git, ssh) = (
        GitServer::start(GitAccess::Public).await.expect("a server"),
        SshServer::start().await.expect("sshd"),
    );
    let repo = git.create("app.git").await.expect("a repository");
    let hub = Hub::new().await;
    let (hosts, key) = (ssh.known_hosts(HOST), ssh.key("ed25519", None).expect("a key"));
    let probe = async |url: &str, key: &SshKey, passphrase: Option<&str>| {
        let remote = remote(url, key, passphrase, &hosts);
        hub.prober
            .probe(&remote, &branch("main"), TIMEOUT)
            .await
            .expect_err("refused")
    };
    let url = ssh.url(HOST, repo.path());
    assert!(matches!(probe(&url, &key, None).await, GitError::Empty { .. }));
    repo.commit("other", &[("a", "1")], "first")
        .await
        .expect("committed");
    assert!(matches!(probe(&url, &key, None).await, GitError::NotFound { .. }));
    let none = probe(&ssh.url(HOST, std::path::Path::new("/nowhere.git")), &key, None).await;
    assert!(matches!(none, GitError::RepositoryNotFound { .. }), "{none}");
    let broken = SshKey {
        private: "garbage".into(),
        ..key.clone()
    };
    let unreadable = probe(&url, &broken, None).await;
    assert!(matches!(unreadable, GitError::Identity { .. }), "{unreadable}");
    let encrypted = ssh.key("ed25519", Some("canary")).expect("a key");
    let wrong = probe(&url, &encrypted, Some("wrong")).await;
    assert!(matches!(wrong, GitError::Auth { .. }), "{wrong}");
    ssh.refuse_all().expect("written");
    let refused = probe(&url, &key, None).await;
    assert!(matches!(refused, GitError::Auth { .. }), "{refused}");
    for error in [none, unreadable, wrong, refused] {
        assert!(!error.to_string().contains("PRIVATE"), "{error}");
    }
    drop(ssh);
    let remote = remote(&url, &key, None, &hosts);
    let gone = hub
        .prober
        .probe(&remote, &branch("main"), Duration::from_secs(10))
        .await
        .expect_err("gone");
    assert!(matches!(gone, GitError::Unreachable { .. }), "{gone}");
}
