//! What a reference means on the server, asked for without fetching.

use std::time::Duration;

use flotilla_hub::source::git::{FetchLimits, GitError, ProbeShare, Remedy, Remote};
use flotilla_testkit::{GitAccess, GitCommand, GitFault, GitServer, wait_until};

use crate::world::{
    Hub, KEY, TIMEOUT, branch, commit, content, full_name, public, script, semver, tag, with_password,
};

#[tokio::test(flavor = "multi_thread")]
async fn branches_tags_and_commits_are_resolved_fetched_and_packaged() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let first = repo
        .change("main")
        .write("a.yaml", "one")
        .executable("bin/run", "#!")
        .symlink("link", "/etc/passwd");
    let first = first.commit("first").await.expect("committed");
    repo.tag("v1", &first, Some("annotated")).await.expect("tagged");
    repo.tag("v1-light", &first, None).await.expect("tagged");
    let second = repo
        .commit("main", &[("a.yaml", "two")], "second")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    for remote in [
        public(&server.http_url("app.git")),
        Remote::new(&server.https_url("app.git"), None, Some(server.ca_pem().into())).expect("a remote"),
    ] {
        for (reference, id, text, revision) in [
            (branch("main"), &second, "two", format!("main@sha1:{second}")),
            (tag("v1"), &first, "one", format!("v1@sha1:{first}")),
            (tag("v1-light"), &first, "one", format!("v1-light@sha1:{first}")),
            (commit(&first, None), &first, "one", format!("sha1:{first}")),
            (
                commit(&first, Some("main")),
                &first,
                "one",
                format!("main@sha1:{first}"),
            ),
        ] {
            let resolved = hub
                .prober
                .probe(&remote, &reference, TIMEOUT)
                .await
                .expect("resolved");
            assert_eq!(
                (resolved.commit.as_str(), &resolved.revision),
                (id.as_str(), &revision)
            );
            let (fetched, tree) = hub.fetch(&remote, &reference).await.expect("fetched");
            assert_eq!(
                (fetched.commit.as_str(), &fetched.revision),
                (id.as_str(), &revision)
            );
            assert_eq!(content(&tree, "a.yaml"), Some(text), "{reference}");
            assert_eq!(tree.file("bin/run").map(|file| file.executable), Some(true));
            assert!(tree.file("link").is_none(), "links are not packaged");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ref_name_is_fetched_by_its_full_name_whatever_kind_of_ref_it_is() {
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
    repo.tag("v1", &first, Some("annotated")).await.expect("tagged");
    std::fs::create_dir_all(repo.path().join("refs/pull/420")).expect("made");
    std::fs::write(repo.path().join("refs/pull/420/head"), format!("{first}\n")).expect("written");
    let hub = Hub::new().await;
    let remote = public(&server.http_url("app.git"));
    for (name, id, text) in [
        ("refs/heads/main", &second, "2"),
        ("refs/tags/v1", &first, "1"),
        ("refs/pull/420/head", &first, "1"),
    ] {
        let (fetched, tree) = hub.fetch(&remote, &full_name(name)).await.expect("fetched");
        assert_eq!(fetched.revision, format!("{name}@sha1:{id}"));
        assert_eq!(content(&tree, "a"), Some(text), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ref_semver_follows_the_newest_tag_in_the_range_without_a_clone_of_all_tags() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let mut ids = Vec::new();
    for version in ["v1.0.0", "v1.2.0", "v1.10.0", "v2.0.0-rc.1"] {
        let id = repo
            .commit("main", &[("version", version)], version)
            .await
            .expect("committed");
        let message = (version != "v1.2.0").then_some("annotated");
        repo.tag(version, &id, message).await.expect("tagged");
        ids.push(id);
    }
    let hub = Hub::new().await;
    let remote = public(&server.http_url("app.git"));
    for (range, tag) in [
        ("1.x", "v1.10.0"),
        ("<1.5.0", "v1.2.0"),
        (">=2.0.0-0", "v2.0.0-rc.1"),
    ] {
        let (fetched, tree) = hub.fetch(&remote, &semver(range)).await.expect("fetched");
        assert_eq!(content(&tree, "version"), Some(tag), "{range}");
        assert_eq!(fetched.revision, format!("{tag}@sha1:{}", fetched.commit));
    }
    server.clear_log();
    let resolved = hub
        .prober
        .probe(&remote, &semver("1.x"), TIMEOUT)
        .await
        .expect("resolved");
    assert_eq!(resolved.commit.as_str(), ids[2]);
    assert_eq!(server.count(GitCommand::Fetch), 0, "tags are listed, not fetched");
    let none = hub
        .prober
        .probe(&remote, &semver(">=9"), TIMEOUT)
        .await
        .expect_err("none");
    assert_eq!(
        none.to_string(),
        format!(
            "unable to clone '{}': no match found for semver: >=9",
            remote.shown()
        )
    );
}

/// As Flux decides between tags that differ in their build alone.
#[tokio::test(flavor = "multi_thread")]
async fn of_tags_of_one_version_semver_takes_the_one_whose_commit_was_made_last() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    for version in ["v1.0.0+b9", "v1.0.0+b1"] {
        let id = repo
            .commit("main", &[("version", version)], version)
            .await
            .expect("committed");
        repo.tag(version, &id, None).await.expect("tagged");
    }
    let hub = Hub::new().await;
    let remote = public(&server.http_url("app.git"));
    let resolved = hub
        .prober
        .probe(&remote, &semver("1.x"), TIMEOUT)
        .await
        .expect("resolved");
    let newest = hub
        .fetcher
        .newest(&remote, resolved, TIMEOUT)
        .await
        .expect("decided");
    assert_eq!(newest.revision, format!("v1.0.0+b1@sha1:{}", newest.commit));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_one_among_3000_refs_takes_less_than_a_kilobyte() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let id = repo
        .commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let packed: String = (0..3000)
        .map(|number| format!("{id} refs/heads/feature-{number}\n"))
        .collect();
    std::fs::write(
        repo.path().join("packed-refs"),
        format!("# pack-refs with: sorted \n{packed}"),
    )
    .expect("written");
    let hub = Hub::new().await;
    let resolved = hub
        .probe(&server.http_url("app.git"), &branch("main"))
        .await
        .expect("resolved");
    assert_eq!(resolved.commit.as_str(), id);
    assert!(resolved.received < 200, "{} bytes", resolved.received);
    assert_eq!(
        (
            server.count(GitCommand::Advertise),
            server.count(GitCommand::LsRefs)
        ),
        (1, 1)
    );
    let resolved = hub
        .probe(&server.http_url("app.git"), &branch("feature-2999"))
        .await
        .expect("resolved");
    assert_eq!(resolved.commit.as_str(), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_ref_an_empty_repository_and_no_repository_are_told_apart() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    server.create("empty.git").await.expect("a repository");
    let id = repo
        .commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let url = server.http_url("app.git");
    let error = hub
        .probe(&url, &branch("gone"))
        .await
        .expect_err("no such branch");
    assert_eq!(
        error.message(),
        format!(
            "failed to checkout and determine revision: unable to clone '{url}': couldn't find remote ref \"refs/heads/gone\""
        )
    );
    // The prefix of another name is not the name.
    repo.set_branch("gone-2", &id).await.expect("made");
    assert!(matches!(
        hub.probe(&url, &branch("gone")).await,
        Err(GitError::NotFound { .. })
    ));
    let empty = hub
        .probe(&server.http_url("empty.git"), &branch("main"))
        .await
        .expect_err("empty");
    assert!(matches!(empty, GitError::Empty { .. }), "{empty}");
    let none = hub
        .probe(&server.http_url("none.git"), &branch("main"))
        .await
        .expect_err("none");
    assert!(matches!(none, GitError::RepositoryNotFound { .. }), "{none}");
    let unknown = hub
        .fetch(&public(&url), &commit(&"1".repeat(40), None))
        .await
        .expect_err("no such commit");
    assert!(matches!(unknown, GitError::NotFound { .. }), "{unknown}");
    for error in [error, empty, none, unknown] {
        assert_eq!(error.remedy(), Remedy::Ask, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_branch_and_a_moved_tag_are_followed() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let first = repo
        .commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    repo.tag("v1", &first, Some("x")).await.expect("tagged");
    let hub = Hub::new().await;
    let remote = public(&server.http_url("app.git"));
    hub.fetch(&remote, &branch("main")).await.expect("fetched");
    hub.fetch(&remote, &tag("v1")).await.expect("fetched");
    let second = repo
        .rewrite("main")
        .write("b", "2")
        .commit("rewritten")
        .await
        .expect("committed");
    repo.tag("v1", &second, Some("y")).await.expect("tagged");
    for reference in [branch("main"), tag("v1")] {
        let (fetched, tree) = hub.fetch(&remote, &reference).await.expect("fetched");
        assert_eq!(fetched.commit.as_str(), second);
        assert_eq!((content(&tree, "a"), content(&tree, "b")), (None, Some("2")));
    }
}

/// Git keeps no ref `release` beside `release/1.0`: those of a remote's past must not stand in the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_or_tag_whose_name_becomes_the_directory_of_anothers_is_fetched() {
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
    let remote = public(&server.http_url("app.git"));
    for (name, id) in [("release", &first), ("release/1.0", &second), ("release", &first)] {
        repo.set_branch(name, id).await.expect("made");
        let (fetched, _) = hub.fetch(&remote, &branch(name)).await.expect(name);
        assert_eq!(fetched.commit.as_str(), id);
        repo.delete_branch(name).await.expect("deleted");
    }
    for (name, id) in [("v1", &first), ("v1/rc", &second)] {
        repo.tag(name, id, None).await.expect("tagged");
        let (fetched, _) = hub.fetch(&remote, &tag(name)).await.expect(name);
        assert_eq!(fetched.commit.as_str(), id);
        repo.delete_tag(name).await.expect("deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_branches_are_fetched_also_where_one_has_become_the_directory_of_another() {
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
    let third = repo
        .commit("main", &[("a", "3")], "third")
        .await
        .expect("committed");
    let place = tempfile::tempdir().expect("a directory");
    let refusal = "echo \"fatal: remote error: upload-pack: not our ref\" >&2; exit 128";
    let log = place.path().join("fetched");
    let git = script(
        place.path(),
        &format!(
            "case \"$*\" in *refs/flotilla/commits*) {refusal};; esac; echo run >> {}; exec git \"$@\"",
            log.display()
        ),
    );
    let hub = Hub::with(Some(git), FetchLimits::default()).await;
    let remote = public(&server.http_url("app.git"));
    for (name, id) in [("release", &first), ("release/1.0", &second), ("release", &third)] {
        repo.set_branch(name, id).await.expect("made");
        repo.set_branch("main", id).await.expect("set");
        let (fetched, _) = hub.fetch(&remote, &commit(id, None)).await.expect(name);
        assert_eq!(fetched.commit.as_str(), id);
        repo.delete_branch(name).await.expect("deleted");
    }
    // One fetch each: nothing was thrown away and fetched anew.
    let fetched = std::fs::read_to_string(&log).expect("recorded");
    assert_eq!(fetched.lines().count(), 3, "{fetched}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_found_in_its_branch_where_the_server_gives_no_single_commits() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let first = repo
        .commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    repo.commit("main", &[("a", "2")], "second")
        .await
        .expect("committed");
    let place = tempfile::tempdir().expect("a directory");
    let refusal = "echo \"fatal: remote error: upload-pack: not our ref\" >&2; exit 128";
    let git = script(
        place.path(),
        &format!("case \"$*\" in *refs/flotilla/commits*) {refusal};; esac; exec git \"$@\""),
    );
    let remote = public(&server.http_url("app.git"));
    for branch in [None, Some("main")] {
        let hub = Hub::with(Some(git.clone()), FetchLimits::default()).await;
        let (_, tree) = hub
            .fetch(&remote, &commit(&first, branch))
            .await
            .expect("fetched");
        assert_eq!(content(&tree, "a"), Some("1"));
        let unknown = commit(&"1".repeat(40), branch);
        let error = hub.fetch(&remote, &unknown).await.expect_err("no such commit");
        assert!(matches!(error, GitError::NotFound { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_ask_at_the_same_time_share_one_probe_and_only_with_equals() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    server.set_fault(Some(GitFault::Slow(Duration::from_millis(300))));
    let share = ProbeShare::new(Hub::new().await.prober, KEY);
    let url = server.http_url("app.git");
    let ask = |remote: Remote, share: ProbeShare| async move {
        share.probe(&remote, &branch("main"), TIMEOUT).await
    };
    let same = futures::future::join_all((0..50).map(|_| ask(public(&url), share.clone())));
    let (answers, other) = tokio::join!(same, ask(with_password(&url, "other"), share.clone()));
    assert!(answers.iter().all(Result::is_ok) && other.is_ok());
    // One for the fifty, or two where it began before all had asked; one for the other credential.
    let asked = server.count(GitCommand::LsRefs);
    assert!((2..=3).contains(&asked), "{asked}");
    // An asker who gives up takes nothing from the others, and a later one asks anew.
    let (remote, reference) = (public(&url), branch("main"));
    let hasty = share.probe(&remote, &reference, Duration::from_millis(20));
    let (hasty, patient) = tokio::join!(hasty, ask(public(&url), share.clone()));
    assert!(matches!(hasty, Err(GitError::Timeout { .. })) && patient.is_ok());
    let again = server.count(GitCommand::LsRefs) - asked;
    assert!((1..=2).contains(&again), "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_after_a_push_is_not_told_what_was_before_it() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let share = ProbeShare::new(Hub::new().await.prober, KEY);
    let url = server.http_url("app.git");
    let remote = public(&url);
    let main = branch("main");
    // One is under way, and its answer may be older than the push.
    server.set_fault(Some(GitFault::Slow(Duration::from_millis(300))));
    let (early, early_remote, early_main) = (share.clone(), public(&url), branch("main"));
    let early = tokio::spawn(async move { early.probe(&early_remote, &early_main, TIMEOUT).await });
    wait_until("a request", TIMEOUT, async || {
        Ok::<_, std::convert::Infallible>((server.count(GitCommand::LsRefs) == 1).then_some(()))
    })
    .await
    .expect("it is under way");
    let pushed = repo
        .commit("main", &[("a", "2")], "second")
        .await
        .expect("committed");
    let late = futures::future::join_all((0..20).map(|_| share.probe(&remote, &main, TIMEOUT))).await;
    for answer in late {
        assert_eq!(answer.expect("answered").commit.to_string(), pushed);
    }
    early.await.expect("it ran").expect("answered");
    assert_eq!(server.count(GitCommand::LsRefs), 2, "the twenty share one");
}

#[tokio::test]
async fn a_known_server_is_asked_for_the_ref_alone_and_begun_anew_when_anything_is_wrong() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("known.git").await.expect("a repository");
    let first = repo
        .commit("main", &[("a", "1")], "one")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let url = server.http_url("known.git");
    let probed = hub.probe(&url, &branch("main")).await.expect("probed");
    assert_eq!(probed.commit.to_string(), first);
    let second = repo
        .commit("main", &[("a", "2")], "two")
        .await
        .expect("committed");
    server.clear_log();
    let probed = hub.probe(&url, &branch("main")).await.expect("probed");
    assert_eq!(probed.commit.to_string(), second);
    assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
    // A fetch of what the probe found lists no refs either: one request to begin with, one for the pack.
    server.clear_log();
    hub.fetch(&public(&url), &branch("main")).await.expect("fetched");
    assert_eq!(server.requests().len(), 1 + 2, "{:?}", server.requests());
    repo.delete_branch("main").await.expect("deleted");
    let error = hub.probe(&url, &branch("main")).await.expect_err("gone");
    assert!(
        matches!(error, GitError::NotFound { .. } | GitError::Empty { .. }),
        "{error}"
    );
    repo.set_branch("main", &first).await.expect("set");
    let probed = hub.probe(&url, &branch("main")).await.expect("probed");
    assert_eq!(probed.commit.to_string(), first);
}
