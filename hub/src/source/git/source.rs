//! A GitRepository as a [`Source`].

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use flotilla_api::kinds::git_repository::GitRepositorySpec;
use flotilla_core::{
    digest::Digest,
    source::{Failure, Found, Look, Remedy as Help},
};
use serde_json::{Map, json};

use super::{
    CommitId, CommitTree, Fetcher, Fields, GitError, ProbeShare, Reference, Remedy, Remote, Resolved,
    TreeError,
    package::{Included, Layout, package_as},
    repository::Repository,
    signature::{Subject, Verification},
    submodule::{self, Module},
};
use crate::{
    artifact::{self, ArtifactDigest, ArtifactStore, ArtifactWriter, ReadLimits},
    source::{Fetched, Source, secret::SourceSecret, transport::Connection},
};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// A repository at a reference, and what is needed to reach it.
pub struct GitSource<'a> {
    probes: &'a ProbeShare,
    fetcher: &'a Fetcher,
    remote: Remote,
    reference: Reference,
    timeout: Duration,
    layout: Layout,
    included: Vec<Include>,
    has_submodules: bool,
    refuses_rewrites: bool,
    verification: Option<std::sync::Arc<Verification>>,
}

/// What a source uses of other objects.
#[derive(Default)]
pub struct Uses<'a> {
    /// The Secret of `secretRef`.
    pub secret: Option<&'a SourceSecret>,
    /// The Secret of `proxySecretRef`.
    pub proxy: Option<&'a SourceSecret>,
    /// Which signatures are needed.
    pub verification: Option<Verification>,
    /// What is included. It is read once something is made of it.
    pub included: Vec<Include>,
    /// A token in place of what the Secret says.
    pub credential: Option<super::Credential>,
    /// A branch that was rewritten is not followed.
    pub refuses_rewrites: bool,
}

/// A part of another repository's artifact, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// The repository's name.
    pub repository: String,
    /// What is taken; all, where it is empty.
    pub from: String,
    /// Where it is put.
    pub to: String,
    /// The artifact.
    pub artifact: ArtifactDigest,
}

impl Include {
    async fn read(&self, artifacts: &ArtifactStore) -> Result<Included, Failure> {
        let tree = artifacts.tree(self.artifact, ReadLimits::packaged_here()).await;
        let tree = tree.map_err(|error| {
            let name = &self.repository;
            let message = format!("the artifact of include '{name}' cannot be read: {error}");
            Failure::new("NoArtifact", message, Help::Retry)
        })?;
        Ok(Included {
            repository: self.repository.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            tree,
        })
    }
}

impl<'a> GitSource<'a> {
    /// Reads a spec, and what it uses.
    pub fn new(
        spec: &GitRepositorySpec,
        uses: Uses<'_>,
        probes: &'a ProbeShare,
        fetcher: &'a Fetcher,
    ) -> Result<Self, Failure> {
        let invalid =
            |error: &dyn std::error::Error| Failure::new("URLInvalid", error.to_string(), Help::Ask);
        let (secret, url) = (uses.secret, spec.url.as_str());
        let credential = match uses.credential {
            Some(credential) => Some(credential),
            None => secret
                .map(|secret| secret.credential(url.starts_with("ssh://")))
                .transpose()?
                .flatten(),
        };
        let connection = Connection::default()
            .trusting(secret.and_then(SourceSecret::ca))
            .showing(secret.map(SourceSecret::certificate).transpose()?.flatten())
            .through(uses.proxy.map(SourceSecret::proxy).transpose()?);
        let remote = Remote::connected(url, credential, connection).map_err(|error| invalid(&error))?;
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
            included: uses.included,
            layout: Layout {
                ignore: spec.ignore.clone(),
                sparse: spec
                    .sparse_checkout
                    .iter()
                    .map(|path| path.as_str().to_owned())
                    .collect(),
                submodules: Vec::new(),
                included: Vec::new(),
            },
            has_submodules: spec.recurse_submodules,
            refuses_rewrites: uses.refuses_rewrites,
            verification: uses.verification.map(std::sync::Arc::new),
        })
    }

    /// Fetches the submodules of what was probed, those within others included, and lists them by their place.
    async fn submodules(&self, probed: &Resolved) -> Result<Vec<(String, CommitId)>, GitError> {
        if !self.has_submodules {
            return Ok(Vec::new());
        }
        let listed = self
            .fetcher
            .fetch(&self.remote, probed.clone(), self.timeout, submodule::modules);
        let mut waiting: VecDeque<(String, Remote, Module, usize)> = VecDeque::new();
        let add =
            |waiting: &mut VecDeque<_>, within: &str, of: &Remote, modules: Vec<Module>, depth: usize| {
                let placed = modules.into_iter().map(|module| {
                    let place = match within {
                        "" => module.path.clone(),
                        within => format!("{within}/{}", module.path),
                    };
                    (place, of.clone(), module, depth)
                });
                waiting.extend(placed);
            };
        add(&mut waiting, "", &self.remote, listed.await?.output, 1);
        let mut found = Vec::new();
        while let Some((place, parent, module, depth)) = waiting.pop_front() {
            if found.len() >= submodule::MAX_MODULES || depth > submodule::MAX_DEPTH {
                return Err(submodule::too_many().of(&self.remote));
            }
            let remote = submodule::remote_of(&parent, &module)?;
            let reference = Reference::Commit {
                id: module.commit.clone(),
                branch: None,
            };
            let resolved = self.probes.probe(&remote, &reference, self.timeout).await?;
            let nested =
                self.fetcher
                    .fetch_into(&self.remote, &remote, resolved, self.timeout, submodule::modules);
            let nested = nested.await?.output;
            add(&mut waiting, &place, &remote, nested, depth + 1);
            found.push((place, module.commit));
        }
        Ok(found)
    }

    /// Whether the present branch may be left for what was probed. Returns the commit of which that was proved, where it had to
    /// be.
    async fn is_rewritten(&self, probed: &Resolved, former: Option<&str>) -> Result<Option<CommitId>, Look> {
        let Some(former) = former.filter(|_| self.refuses_rewrites && probed.reference.has_history()) else {
            return Ok(None);
        };
        let Ok(former) = CommitId::parse(former) else {
            return Ok(None);
        };
        let fetched = self
            .fetcher
            .fetch(&self.remote, probed.clone(), self.timeout, |_| Ok(()));
        fetched.await.map_err(|error| Look::Failed(failure(&error)))?;
        let follows = self
            .fetcher
            .follows(&self.remote, probed.clone(), self.timeout, &former)
            .await
            .map_err(|error| Look::Failed(failure(&error)))?;
        match follows {
            Some(true) => Ok(Some(probed.commit.clone())),
            told => {
                let what = match told {
                    Some(_) => "is not an ancestor of",
                    None => "is not known to be an ancestor of",
                };
                Err(Look::Failed(Failure::new(
                    "HistoryRewritten",
                    format!(
                        "the history of {} was rewritten: {former}, which is used, {what} {}; nothing is taken while \
                         {REFUSE_REWRITES} is set",
                        probed.reference, probed.commit
                    ),
                    Help::Ask,
                )))
            }
        }
    }
}

/// Annotation of a GitRepository: `enabled` has a branch that was rewritten refused.
pub const REFUSE_REWRITES: &str = "fleet.flotilla.dev/refuse-rewrites";

impl Source for GitSource<'_> {
    type Probed = Resolved;

    fn config(&self) -> Digest {
        let mut config = Map::new();
        config.insert("ignore".into(), json!(self.layout.ignore));
        // Only what is asked for: what others have keeps its digest.
        if !self.layout.sparse.is_empty() {
            config.insert("sparse".into(), json!(self.layout.sparse));
        }
        if !self.included.is_empty() {
            let included = self.included.iter().map(|one| {
                let artifact = one.artifact.to_string();
                json!({ "name": one.repository, "from": one.from, "to": one.to, "artifact": artifact })
            });
            config.insert("include".into(), included.collect());
        }
        if self.has_submodules {
            config.insert("submodules".into(), json!(true));
        }
        if let Some(verification) = &self.verification {
            config.insert("verify".into(), json!(verification.digest().to_string()));
        }
        Digest::of_json("source-config", &config)
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

    async fn fetch(
        &self,
        probed: Resolved,
        former: Option<&str>,
        artifacts: &ArtifactStore,
    ) -> Result<Fetched, Look> {
        let proved = self.is_rewritten(&probed, former).await?;
        let submodules = self.submodules(&probed).await;
        let submodules = submodules.map_err(|error| Look::Failed(failure(&error)))?;
        let mut included = Vec::with_capacity(self.included.len());
        for one in &self.included {
            included.push(one.read(artifacts).await.map_err(Look::Failed)?);
        }
        let layout = Layout {
            submodules,
            included,
            ..self.layout.clone()
        };
        let (kept_in, has_submodules) = (artifacts.clone(), self.has_submodules);
        let (verification, reference) = (self.verification.clone(), probed.reference.clone());
        let read = move |tree: &CommitTree| -> Result<(ArtifactWriter, String), TreeError> {
            let verified = match &verification {
                Some(verification) => verify(tree, &reference, verification)?,
                None => String::new(),
            };
            if has_submodules {
                is_of(tree, &layout)?;
            }
            Ok((packed(tree, &layout, &kept_in)?, verified))
        };
        let fetched = self
            .fetcher
            .fetch(&self.remote, probed, self.timeout, read)
            .await
            .map_err(|error| Look::Failed(failure(&error)))?;
        if let Some(why) = unproved(proved.as_ref(), &fetched.commit) {
            return Err(Look::Failed(why));
        }
        let (written, verified) = fetched.output;
        let stored = artifacts
            .keep(written)
            .await
            .map_err(|error| Look::Waits(error.to_string()))?;
        Ok(Fetched {
            found: Found {
                revision: fetched.revision,
                subject: fetched.subject,
                config: self.config(),
                artifact: stored.digest.to_string(),
                verified,
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

/// Why what was fetched is not taken: its history was proved of another commit. A server that gives only what it lists is asked
/// by name, and the name may have moved on.
fn unproved(proved: Option<&CommitId>, fetched: &CommitId) -> Option<Failure> {
    let proved = proved.filter(|proved| *proved != fetched)?;
    let message = format!(
        "the branch has moved from {proved} to {fetched} while it was fetched, and {REFUSE_REWRITES} is set: it is looked at again"
    );
    Some(Failure::new("GitOperationFailed", message, Help::Retry))
}

/// Verifies the very objects that are packaged.
fn verify(
    tree: &CommitTree,
    reference: &Reference,
    verification: &Verification,
) -> Result<String, TreeError> {
    let own = reference.full_name().map(|name| Repository::own_ref(&name));
    let tag = match (reference, own) {
        (Reference::Commit { .. }, _) | (_, None) => None,
        (_, Some(own)) => tree.tag_bytes(&own)?,
    };
    let commit_bytes = tree.commit_bytes()?;
    let subject = Subject {
        commit: tree.id(),
        commit_bytes: &commit_bytes,
        reference,
        tag: tag.as_ref().map(|(id, bytes)| (id, bytes.as_slice())),
    };
    let now = SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs());
    verification.verify(&subject, now).map_err(TreeError::Unverified)
}

/// The submodules that were fetched are those of this very tree: the branch may have moved on meanwhile.
fn is_of(tree: &CommitTree, layout: &Layout) -> Result<(), TreeError> {
    let fetched = |module: &Module| {
        let mut places = layout.submodules.iter();
        places.any(|(path, commit)| (path, commit) == (&module.path, &module.commit))
    };
    match submodule::modules(tree)?.iter().all(fetched) {
        true => Ok(()),
        false => Err(TreeError::Corrupt(
            "the submodules changed while they were fetched".into(),
        )),
    }
}

fn packed(
    tree: &CommitTree,
    layout: &Layout,
    artifacts: &ArtifactStore,
) -> Result<ArtifactWriter, TreeError> {
    let local = |error: artifact::StoreError| TreeError::Local(error.to_string());
    let writer = artifacts.writer().map_err(local)?;
    Ok(package_as(tree, layout, writer)?.out)
}

fn failure(error: &GitError) -> Failure {
    let help = match error.remedy() {
        Remedy::Retry => Help::Retry,
        Remedy::Ask => Help::Ask,
    };
    let failure = Failure::new(error.reason(), error.message(), help);
    match error {
        GitError::Unverified(_) => failure.of_signature(),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_whose_history_was_not_proved_is_not_taken_where_it_has_to_be() {
        let commit = |digit: &str| CommitId::parse(&digit.repeat(40)).expect("an id");
        assert_eq!(unproved(None, &commit("a")), None);
        assert_eq!(unproved(Some(&commit("a")), &commit("a")), None);
        let refused = unproved(Some(&commit("a")), &commit("b")).expect("refused");
        assert!(
            refused.message.contains("has moved from aaaa"),
            "{}",
            refused.message
        );
        assert_eq!(refused.remedy, Help::Retry);
    }
}
