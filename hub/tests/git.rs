//! Git sources against a real server and against evil ones.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::any,
};
use flotilla_hub::{
    artifact::{ArtifactStore, ReadLimits, Tree},
    source::{
        git::{
            Credential, FetchLimits, Fetched, Fetcher, GitError, GitProgram, ProbeShare, Prober, Reference,
            Remedy, Remote, Resolved, TreeError, package,
        },
        transport::Clients,
    },
};
use flotilla_testkit::{GitAccess, GitCommand, GitFault, GitServer, wait_until};
use zeroize::Zeroizing;

const TIMEOUT: Duration = Duration::from_secs(20);
const CANARY: &str = "canary-5f1e9a";
const KEY: [u8; 32] = [7; 32];

struct Hub {
    place: tempfile::TempDir,
    prober: Prober,
    fetcher: Fetcher,
    artifacts: ArtifactStore,
}

impl Hub {
    async fn new() -> Self {
        Self::with(None, FetchLimits::default()).await
    }

    async fn with(git: Option<PathBuf>, limits: FetchLimits) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let program = GitProgram::find(git).await.expect("git is installed");
        let prober = Prober::new(Clients::new().expect("TLS"), KEY);
        let fetcher = Fetcher::new(program, place.path().join("git"), KEY, limits);
        let artifacts = ArtifactStore::open(place.path().join("artifacts")).expect("a store");
        Self {
            place,
            prober,
            fetcher,
            artifacts,
        }
    }

    async fn probe(&self, url: &str, reference: &Reference) -> Result<Resolved, GitError> {
        self.prober.probe(&public(url), reference, TIMEOUT).await
    }

    /// Fetches and packages, and reads the artifact back.
    async fn fetch(
        &self,
        remote: &Remote,
        reference: &Reference,
    ) -> Result<(Fetched<String>, Tree), GitError> {
        self.fetch_within(remote, reference, TIMEOUT).await
    }

    async fn fetch_within(
        &self,
        remote: &Remote,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<(Fetched<String>, Tree), GitError> {
        let artifacts = self.artifacts.clone();
        let resolved = self.prober.probe(remote, reference, timeout).await?;
        let fetched = self
            .fetcher
            .fetch(remote, reference, resolved, timeout, move |tree| {
                let local = |error: flotilla_hub::artifact::StoreError| TreeError::Local(error.to_string());
                let packed = package(tree, None, artifacts.writer().map_err(local)?)?;
                Ok(packed.out.commit().map_err(local)?.digest)
            });
        let fetched = fetched.await?;
        let tree = self
            .artifacts
            .tree(fetched.output, ReadLimits::default())
            .await
            .expect("the artifact reads back");
        let Fetched {
            commit,
            revision,
            subject,
            output,
        } = fetched;
        Ok((
            Fetched {
                commit,
                revision,
                subject,
                output: output.to_string(),
            },
            tree,
        ))
    }
}

fn public(url: &str) -> Remote {
    Remote::new(url, None, None).expect("a remote")
}

fn with_password(url: &str, password: &str) -> Remote {
    let credential = Credential::Basic {
        username: "git".into(),
        password: Zeroizing::new(password.into()),
    };
    Remote::new(url, Some(credential), None).expect("a remote")
}

fn branch(name: &str) -> Reference {
    Reference::of(Some(name), None, None).expect("a branch")
}

fn tag(name: &str) -> Reference {
    Reference::of(None, Some(name), None).expect("a tag")
}

fn commit(id: &str, branch: Option<&str>) -> Reference {
    Reference::of(branch, None, Some(id)).expect("a commit")
}

fn content<'a>(tree: &'a Tree, path: &str) -> Option<&'a str> {
    tree.file(path)
        .and_then(|file| std::str::from_utf8(&file.bytes).ok())
}

/// A server of our own on a free port, for what an honest Git server never does.
async fn serve<F, R>(answer: F) -> String
where
    F: Fn(Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    let router = Router::new().fallback(any(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn advertisement(body: impl Into<Body>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "application/x-git-upload-pack-advertisement",
    )];
    (kind, body.into()).into_response()
}

fn line(text: &str) -> String {
    format!("{:04x}{text}\n", text.len() + 5)
}

/// What a server of the time before protocol 2 says.
fn old_advertisement(refs: &[(String, String)]) -> String {
    let mut body = line("# service=git-upload-pack") + "0000";
    for (index, (id, name)) in refs.iter().enumerate() {
        let capabilities = if index == 0 {
            "\0side-band-64k ofs-delta"
        } else {
            ""
        };
        body += &line(&format!("{id} {name}{capabilities}"));
    }
    body + "0000"
}

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
        .fetch(&remote, &main, resolved, TIMEOUT, spec)
        .await
        .expect("fetched")
        .output;
    assert_eq!((files, bytes, paths(&tree)), (1, 1, vec!["docs/c.md".to_owned()]));
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

fn script(place: &Path, body: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = place.join("git");
    let version = "[ \"$1\" = version ] && echo git version 2.40.0 && exit 0";
    std::fs::write(&path, format!("#!/bin/sh\n{version}\n{body}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    path
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
    assert!(arguments.contains(":refs/flotilla/heads/main"), "{arguments}");
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
async fn a_pack_cut_anywhere_gives_nothing_and_the_next_fetch_is_whole() {
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
    assert_eq!(
        server.count(GitCommand::LsRefs),
        2,
        "one for the fifty, one for the other credential"
    );
    // An asker who gives up takes nothing from the others, and a later one asks anew.
    let (remote, reference) = (public(&url), branch("main"));
    let hasty = share.probe(&remote, &reference, Duration::from_millis(20));
    let (hasty, patient) = tokio::join!(hasty, ask(public(&url), share.clone()));
    assert!(matches!(hasty, Err(GitError::Timeout { .. })) && patient.is_ok());
    assert_eq!(server.count(GitCommand::LsRefs), 3);
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
