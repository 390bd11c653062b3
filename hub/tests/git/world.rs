//! A hub's Git side, remotes, and servers that do what an honest one never does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use flotilla_hub::artifact::{ArtifactStore, ReadLimits, Tree};
use flotilla_hub::source::git::{
    Credential, FetchLimits, Fetched, Fetcher, Fields, GitError, GitProgram, Prober, Reference, Remote,
    Resolved, TreeError, package,
};
use flotilla_hub::source::transport::Clients;
use zeroize::Zeroizing;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
pub(crate) const CANARY: &str = "canary-5f1e9a";
pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) struct Hub {
    pub(crate) place: tempfile::TempDir,
    pub(crate) prober: Prober,
    pub(crate) fetcher: Fetcher,
    pub(crate) artifacts: ArtifactStore,
}

impl Hub {
    pub(crate) async fn new() -> Self {
        Self::with(None, FetchLimits::default()).await
    }

    pub(crate) async fn with(git: Option<PathBuf>, limits: FetchLimits) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let program = GitProgram::find(git).await.expect("git is installed");
        let prober = Prober::new(Clients::new().expect("TLS"), KEY);
        let prober = prober.with_ssh(program.clone(), place.path().join("git"));
        let fetcher = Fetcher::new(program, place.path().join("git"), KEY, limits);
        let artifacts =
            ArtifactStore::open(place.path().join("artifacts"), place.path().join("incoming")).await;
        let artifacts = artifacts.expect("a store");
        Self {
            place,
            prober,
            fetcher,
            artifacts,
        }
    }

    pub(crate) async fn probe(&self, url: &str, reference: &Reference) -> Result<Resolved, GitError> {
        self.prober.probe(&public(url), reference, TIMEOUT).await
    }

    /// Fetches and packages, and reads the artifact back.
    pub(crate) async fn fetch(
        &self,
        remote: &Remote,
        reference: &Reference,
    ) -> Result<(Fetched<String>, Arc<Tree>), GitError> {
        self.fetch_within(remote, reference, TIMEOUT).await
    }

    pub(crate) async fn fetch_within(
        &self,
        remote: &Remote,
        reference: &Reference,
        timeout: Duration,
    ) -> Result<(Fetched<String>, Arc<Tree>), GitError> {
        let artifacts = self.artifacts.clone();
        let resolved = self.prober.probe(remote, reference, timeout).await?;
        let fetched = self.fetcher.fetch(remote, resolved, timeout, move |tree| {
            let local = |error: flotilla_hub::artifact::StoreError| TreeError::Local(error.to_string());
            Ok(package(tree, None, artifacts.writer().map_err(local)?)?.out)
        });
        let fetched = fetched.await?;
        let Fetched {
            commit,
            revision,
            subject,
            output,
        } = fetched;
        let output = self.artifacts.keep(output).await.expect("kept").digest;
        let tree = self.artifacts.tree(output, ReadLimits::default()).await;
        let tree = tree.expect("the artifact reads back");
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

pub(crate) fn public(url: &str) -> Remote {
    Remote::new(url, None, None).expect("a remote")
}

pub(crate) fn with_password(url: &str, password: &str) -> Remote {
    let credential = Credential::Basic {
        username: "git".into(),
        password: Zeroizing::new(password.into()),
    };
    Remote::new(url, Some(credential), None).expect("a remote")
}

pub(crate) fn branch(name: &str) -> Reference {
    Reference::of(Some(name), None, None).expect("a branch")
}

pub(crate) fn tag(name: &str) -> Reference {
    Reference::of(None, Some(name), None).expect("a tag")
}

pub(crate) fn commit(id: &str, branch: Option<&str>) -> Reference {
    Reference::of(branch, None, Some(id)).expect("a commit")
}

pub(crate) fn semver(range: &str) -> Reference {
    let fields = Fields {
        semver: Some(range),
        ..Fields::default()
    };
    Reference::read(&fields).expect("a range")
}

pub(crate) fn full_name(name: &str) -> Reference {
    let fields = Fields {
        name: Some(name),
        ..Fields::default()
    };
    Reference::read(&fields).expect("a name")
}

pub(crate) fn content<'a>(tree: &'a Tree, path: &str) -> Option<&'a str> {
    tree.file(path)
        .and_then(|file| std::str::from_utf8(&file.bytes).ok())
}

/// A server of our own on a free port, for what an honest Git server never does.
pub(crate) async fn serve<F, R>(answer: F) -> String
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

pub(crate) fn advertisement(body: impl Into<Body>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "application/x-git-upload-pack-advertisement",
    )];
    (kind, body.into()).into_response()
}

pub(crate) fn line(text: &str) -> String {
    format!("{:04x}{text}\n", text.len() + 5)
}

/// What a server of the time before protocol 2 says.
pub(crate) fn old_advertisement(refs: &[(String, String)]) -> String {
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

pub(crate) fn script(place: &Path, body: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = place.join("git");
    let version = "[ \"$1\" = version ] && echo git version 2.40.0 && exit 0";
    std::fs::write(&path, format!("#!/bin/sh\n{version}\n{body}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    path
}
