//! A GitRepository as a [`Source`].

use std::{collections::BTreeMap, time::Duration};

use flotilla_api::kinds::git_repository::GitRepositorySpec;
use flotilla_core::{
    digest::Digest,
    source::{Failure, Found, Look, Remedy as Help},
};
use serde_json::json;
use zeroize::Zeroizing;

use super::{
    CommitId, CommitTree, Credential, Fetcher, Fields, GitError, ProbeShare, Reference, Remedy, Remote,
    Resolved, TreeError, package,
};
use crate::{
    artifact::{self, ArtifactStore, ArtifactWriter},
    source::{Fetched, Source},
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A repository at a reference, and what is needed to reach it.
pub struct GitSource<'a> {
    probes: &'a ProbeShare,
    fetcher: &'a Fetcher,
    remote: Remote,
    reference: Reference,
    timeout: Duration,
    ignore: Option<String>,
}

/// The Secret that a source names, opened.
pub struct SourceSecret {
    /// `namespace/name`.
    pub name: String,
    /// Its values.
    pub values: BTreeMap<String, String>,
}

impl<'a> GitSource<'a> {
    /// Reads a spec and its Secret.
    pub fn new(
        spec: &GitRepositorySpec,
        secret: Option<&SourceSecret>,
        probes: &'a ProbeShare,
        fetcher: &'a Fetcher,
    ) -> Result<Self, Failure> {
        let invalid =
            |error: &dyn std::error::Error| Failure::new("URLInvalid", error.to_string(), Help::Ask);
        let credential = secret.map(credential).transpose()?.flatten();
        let ca = secret.and_then(|secret| {
            let pem = secret
                .values
                .get("ca.crt")
                .or_else(|| secret.values.get("caFile"));
            pem.map(|pem| pem.clone().into_bytes())
        });
        let remote = Remote::new(spec.url.as_str(), credential, ca).map_err(|error| invalid(&error))?;
        let given = spec.reference.as_ref();
        let reference = Reference::read(&Fields {
            branch: given.and_then(|one| one.branch.as_ref()).map(|one| one.as_str()),
            tag: given.and_then(|one| one.tag.as_ref()).map(|one| one.as_str()),
            semver: given.and_then(|one| one.semver.as_deref()),
            name: given.and_then(|one| one.name.as_ref()).map(|one| one.as_str()),
            commit: given.and_then(|one| one.commit.as_ref()).map(|one| one.as_str()),
        })
        .map_err(|error| invalid(&error))?;
        Ok(Self {
            probes,
            fetcher,
            remote,
            reference,
            timeout: spec
                .timeout
                .as_ref()
                .map_or(DEFAULT_TIMEOUT, |timeout| timeout.get()),
            ignore: spec.ignore.clone(),
        })
    }
}

impl Source for GitSource<'_> {
    type Probed = Resolved;

    fn config(&self) -> Digest {
        Digest::of_json("source-config", &json!({ "ignore": self.ignore }))
    }

    async fn probe(&self) -> Result<(String, Resolved), Failure> {
        let resolved = self
            .probes
            .probe(&self.remote, &self.reference, self.timeout)
            .await
            .map_err(|error| failure(&error))?;
        let resolved = self.fetcher.newest(&self.remote, resolved, self.timeout);
        let resolved = resolved.await.map_err(|error| failure(&error))?;
        Ok((resolved.revision.clone(), resolved))
    }

    async fn fetch(&self, probed: Resolved, artifacts: &ArtifactStore) -> Result<Fetched, Look> {
        let (kept_in, ignore) = (artifacts.clone(), self.ignore.clone());
        let read = move |tree: &CommitTree| packed(tree, ignore.as_deref(), &kept_in);
        let fetched = self
            .fetcher
            .fetch(&self.remote, probed, self.timeout, read)
            .await
            .map_err(|error| Look::Failed(failure(&error)))?;
        let stored = artifacts
            .keep(fetched.output)
            .await
            .map_err(|error| Look::Waits(error.to_string()))?;
        Ok(Fetched {
            found: Found {
                revision: fetched.revision,
                subject: fetched.subject,
                config: self.config(),
                artifact: stored.digest.to_string(),
            },
            commit: fetched.commit.to_string(),
            size: stored.size,
        })
    }

    async fn follows(&self, probed: Resolved, former: &str, commit: &str) -> Result<Option<bool>, String> {
        if !probed.reference.has_history() {
            return Ok(None);
        }
        let (Ok(former), Ok(commit)) = (CommitId::parse(former), CommitId::parse(commit)) else {
            return Ok(None);
        };
        // The branch may have moved on between the probe and the fetch.
        let resolved = Resolved { commit, ..probed };
        let follows = self
            .fetcher
            .follows(&self.remote, resolved, self.timeout, &former);
        follows.await.map_err(|error| error.message())
    }
}

fn packed(
    tree: &CommitTree,
    ignore: Option<&str>,
    artifacts: &ArtifactStore,
) -> Result<ArtifactWriter, TreeError> {
    let local = |error: artifact::StoreError| TreeError::Local(error.to_string());
    let writer = artifacts.writer().map_err(local)?;
    Ok(package(tree, ignore, writer)?.out)
}

fn credential(secret: &SourceSecret) -> Result<Option<Credential>, Failure> {
    let values = &secret.values;
    if let Some(token) = values.get("bearerToken") {
        return Ok(Some(Credential::Bearer(Zeroizing::new(token.clone()))));
    }
    match (values.get("username"), values.get("password")) {
        (Some(username), Some(password)) => Ok(Some(Credential::Basic {
            username: username.clone(),
            password: Zeroizing::new(password.clone()),
        })),
        (None, None) => Ok(None),
        _ => {
            let message = format!(
                "secret '{}': 'username' and 'password' are needed together",
                secret.name
            );
            Err(Failure::new("AuthenticationFailed", message, Help::Ask))
        }
    }
}

fn failure(error: &GitError) -> Failure {
    let help = match error.remedy() {
        Remedy::Retry => Help::Retry,
        Remedy::Ask => Help::Ask,
    };
    Failure::new(error.reason(), error.message(), help)
}
