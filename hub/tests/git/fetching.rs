//! From a commit to an artifact: what is fetched, packaged, refused, and begun anew.

use std::path::Path;
use std::time::Duration;

use flotilla_hub::artifact::{ReadLimits, Tree};
use flotilla_hub::source::git::{CommitId, FetchLimits, GitError, Remedy, TreeError, package};
use flotilla_testkit::{GitAccess, GitCommand, GitFault, GitServer, wait_until};

use crate::world::{Hub, KEY, TIMEOUT, branch, content, public, script};

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_branch_is_not_fetched_again() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let remote = public(&server.http_url("app.git"));
    let (one, _) = hub.fetch(&remote, &branch("main")).await.expect("fetched");
    let before = server.count(GitCommand::Fetch);
    let (two, _) = hub.fetch(&remote, &branch("main")).await.expect("fetched");
    assert_eq!(one.output, two.output);
    assert_eq!(server.count(GitCommand::Fetch), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_was_rewritten_is_told_from_one_that_went_on() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let remote = public(&server.http_url("app.git"));
    let main = branch("main");
    let add = async |text: &str| {
        let id = repo
            .commit("main", &[("a", text)], text)
            .await
            .expect("committed");
        CommitId::parse(&id).expect("an id")
    };
    let follows = async |hub: &Hub, former: &CommitId| {
        hub.fetch(&remote, &main).await.expect("fetched");
        let resolved = hub.prober.probe(&remote, &main, TIMEOUT).await.expect("probed");
        let told = hub.fetcher.follows(&remote, resolved, TIMEOUT, former);
        told.await.expect("looked")
    };
    let hub = Hub::new().await;
    let first = add("1").await;
    assert_eq!(follows(&hub, &first).await, Some(true));
    let second = add("2").await;
    hub.fetch(&remote, &main).await.expect("fetched");
    let before = server.count(GitCommand::Fetch);
    assert_eq!(follows(&hub, &first).await, Some(true));
    assert_eq!(
        server.count(GitCommand::Fetch),
        before,
        "the commit names its parent"
    );
    for text in ["3", "4", "5"] {
        add(text).await;
    }
    assert_eq!(follows(&hub, &second).await, Some(true), "pushed together");
    let last = add("6").await;
    hub.fetch(&remote, &main).await.expect("fetched");
    // Neither a commit without a parent follows it, nor one that went back; a hub that has never had it asks for it.
    let change = repo.rewrite("main").write("a", "other");
    change.commit("another past").await.expect("committed");
    assert_eq!(follows(&hub, &last).await, Some(false));
    repo.set_branch("main", second.as_str()).await.expect("moved");
    assert_eq!(follows(&hub, &last).await, Some(false));
    assert_eq!(follows(&Hub::new().await, &last).await, Some(false));
    let forgotten = CommitId::parse(&"1".repeat(40)).expect("an id");
    assert_eq!(follows(&Hub::new().await, &forgotten).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_at_history_fetches_commits_alone_and_keeps_none() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let remote = public(&server.http_url("app.git"));
    let main = branch("main");
    let first = repo
        .commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let limits = FetchLimits {
        repository_bytes: 256 << 10,
        ..FetchLimits::default()
    };
    let hub = Hub::with(None, limits).await;
    // Between the two commits that are fetched was one that is larger than all that may be fetched.
    let mut state = 1_u64;
    let large: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    })
    .take(1 << 20)
    .collect();
    repo.commit("main", &[("a", &large)], "large")
        .await
        .expect("committed");
    repo.commit("main", &[("a", "2")], "small")
        .await
        .expect("committed");
    hub.fetch(&remote, &main).await.expect("fetched");
    let resolved = hub.prober.probe(&remote, &main, TIMEOUT).await.expect("probed");
    let former = CommitId::parse(&first).expect("an id");
    let told = hub.fetcher.follows(&remote, resolved, TIMEOUT, &former).await;
    assert_eq!(told.expect("looked"), Some(true));
    // Nothing of that is here: the next look asks again, and what is fetched is fetched as before.
    repo.commit("main", &[("a", "3")], "next")
        .await
        .expect("committed");
    hub.fetch(&remote, &main).await.expect("fetched");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hubs_make_the_same_artifact_of_a_commit() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit(
        "main",
        &[("b/c.yaml", "1"), ("b.yaml", "2"), ("b-c/d", "3")],
        "first",
    )
    .await
    .expect("committed");
    let remote = public(&server.http_url("app.git"));
    let (one, _) = Hub::new()
        .await
        .fetch(&remote, &branch("main"))
        .await
        .expect("fetched");
    let (two, _) = Hub::new()
        .await
        .fetch(&remote, &branch("main"))
        .await
        .expect("fetched");
    assert_eq!(one.output, two.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn ignore_files_decide_what_is_packaged_and_the_sources_own_rules_win() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let change = repo
        .change("main")
        .write(".gitignore", "x")
        .write("logo.png", "x")
        .write("app/a.yaml", "1");
    change
        .write("app/b.yaml", "2")
        .write("docs/c.md", "3")
        .commit("first")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let remote = public(&server.http_url("app.git"));
    let paths = |tree: &Tree| tree.files().map(|(path, _)| path.to_owned()).collect::<Vec<_>>();
    let (_, tree) = hub.fetch(&remote, &branch("main")).await.expect("fetched");
    assert_eq!(paths(&tree), ["app/a.yaml", "app/b.yaml", "docs/c.md"]);
    let change = repo
        .change("main")
        .write(".sourceignore", "docs/\n")
        .write("app/.sourceignore", "b.yaml\n");
    change.commit("second").await.expect("committed");
    let (_, tree) = hub.fetch(&remote, &branch("main")).await.expect("fetched");
    assert_eq!(
        paths(&tree),
        [".sourceignore", "app/.sourceignore", "app/a.yaml", "logo.png"]
    );
    let spec = |tree: &flotilla_hub::source::git::CommitTree| {
        let packed = package(tree, Some("/*\n!/docs/c.md\n"), Vec::new())?;
        let tree = flotilla_hub::artifact::read_tree(&packed.out[..], ReadLimits::default());
        Ok((
            packed.files,
            packed.bytes,
            tree.map_err(|error| TreeError::Local(error.to_string()))?,
        ))
    };
    let main = branch("main");
    let resolved = hub.prober.probe(&remote, &main, TIMEOUT).await.expect("probed");
    let (files, bytes, tree) = hub
        .fetcher
        .fetch(&remote, resolved, TIMEOUT, spec)
        .await
        .expect("fetched")
        .output;
    assert_eq!((files, bytes, paths(&tree)), (1, 1, vec!["docs/c.md".to_owned()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_over_the_limit_is_refused() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    // Bytes that do not compress, so that they are as large on the wire.
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let noise = noise.take(8 << 20).collect::<Vec<u8>>();
    repo.commit("main", &[("noise", &noise)], "large")
        .await
        .expect("committed");
    let limits = FetchLimits {
        repository_bytes: 1 << 20,
        ..FetchLimits::default()
    };
    let hub = Hub::with(None, limits).await;
    let remote = public(&server.http_url("app.git"));
    let error = hub.fetch(&remote, &branch("main")).await.expect_err("too large");
    assert!(
        matches!(
            error,
            GitError::TooLarge {
                what: "the repository",
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn r24_a_pack_cut_anywhere_gives_nothing_and_the_next_fetch_is_whole() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    let text: String = (0..40_000)
        .map(|number| format!("{number}: {}\n", number * 7919 % 104_729))
        .collect();
    repo.commit("main", &[("a", text.as_str())], "first")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let remote = public(&server.http_url("app.git"));
    for sixteenth in 1..16 {
        server.set_fault(Some(GitFault::CutAfter((sixteenth * 8) << 10)));
        let error = hub.fetch(&remote, &branch("main")).await.expect_err("cut");
        assert_eq!(error.remedy(), Remedy::Retry, "{error}");
    }
    assert_eq!(hub.artifacts.list().await.expect("listed"), []);
    server.set_fault(None);
    let (_, tree) = hub.fetch(&remote, &branch("main")).await.expect("fetched");
    assert_eq!(content(&tree, "a"), Some(text.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_local_repository_is_fetched_anew() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let hub = Hub::new().await;
    let remote = public(&server.http_url("app.git"));
    let directory = hub
        .place
        .path()
        .join("git")
        .join(format!("{}.git", remote.key(&KEY)));
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("packs emptied", |directory| {
            for entry in std::fs::read_dir(directory.join("objects/pack"))
                .expect("packs")
                .flatten()
            {
                std::fs::remove_file(entry.path()).expect("removed");
            }
        }),
        ("packs overwritten", |directory| {
            for entry in std::fs::read_dir(directory.join("objects/pack"))
                .expect("packs")
                .flatten()
            {
                std::fs::remove_file(entry.path()).expect("removed");
                std::fs::write(entry.path(), b"garbage").expect("written");
            }
        }),
        ("no head", |directory| {
            std::fs::remove_file(directory.join("HEAD")).expect("removed")
        }),
        ("a lock left", |directory| {
            std::fs::write(directory.join("shallow.lock"), "").expect("written")
        }),
    ];
    for (name, harm) in harms {
        hub.fetch(&remote, &branch("main")).await.expect("fetched");
        harm(&directory);
        let (_, tree) = hub
            .fetch(&remote, &branch("main"))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(content(&tree, "a"), Some("1"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_git_that_hangs_is_killed_with_all_it_started() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let repo = server.create("app.git").await.expect("a repository");
    repo.commit("main", &[("a", "1")], "first")
        .await
        .expect("committed");
    let place = tempfile::tempdir().expect("a directory");
    let git = script(
        place.path(),
        &format!("sleep 600 & echo $! > {}/pid; wait", place.path().display()),
    );
    let hub = Hub::with(Some(git), FetchLimits::default()).await;
    let remote = public(&server.http_url("app.git"));
    let error = hub
        .fetch_within(&remote, &branch("main"), Duration::from_millis(700))
        .await
        .expect_err("too late");
    assert!(matches!(error, GitError::Timeout { .. }), "{error}");
    let pid = std::fs::read_to_string(place.path().join("pid")).expect("it was started");
    wait_until("the sleeper is gone", TIMEOUT, async || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        Ok::<_, String>((state.is_empty() || state.contains(") Z ")).then_some(()))
    })
    .await
    .expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_nothing_is_fetched_into_goes_and_one_in_use_stays() {
    let server = GitServer::start(GitAccess::Public).await.expect("a server");
    let hub = Hub::new().await;
    for name in ["old.git", "new.git"] {
        let repo = server.create(name).await.expect("a repository");
        repo.commit("main", &[("a", "1")], "first")
            .await
            .expect("committed");
        hub.fetch(&public(&server.http_url(name)), &branch("main"))
            .await
            .expect("fetched");
    }
    let directories = || {
        let entries = std::fs::read_dir(hub.place.path().join("git")).expect("a directory");
        entries
            .map(|entry| entry.expect("read").path())
            .collect::<Vec<_>>()
    };
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(hub.fetcher.remove_unused(day).await.expect("looked"), 0);
    let all = directories();
    assert_eq!(all.len(), 2);
    let used = std::fs::File::options()
        .write(true)
        .open(all[0].join("flotilla-used"))
        .expect("it is written");
    used.set_modified((time::OffsetDateTime::now_utc() - 2 * day).into())
        .expect("aged");
    assert_eq!(hub.fetcher.remove_unused(day).await.expect("looked"), 1);
    assert_eq!(directories(), [all[1].clone()]);
    // What is needed again is fetched anew.
    for name in ["old.git", "new.git"] {
        hub.fetch(&public(&server.http_url(name)), &branch("main"))
            .await
            .expect("fetched");
    }
    assert_eq!(directories().len(), 2);
}
