//! Reconciles one GitRepository: probes, fetches when something changed, records the revision. The last good
//! artifact stays when anything fails.

use std::{collections::BTreeMap, time::Duration};

use flotilla_api::kinds::git_repository::GitRepositorySpec;
use flotilla_core::{
    backoff::{Backoff, jittered as spread},
    digest::Digest,
    printable::printable_lines,
};
use serde_json::json;
use time::OffsetDateTime;
use tracing::Instrument as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Context, gather::values, is_passing, queue::Outcome, random};
use crate::{
    artifact::{self, ArtifactDigest, ArtifactStore, ReadLimits, Stored},
    source::git::{
        Credential, Fetcher, GitError, ProbeShare, Reference, Remedy, Remote, package,
        tree::{CommitTree, TreeError},
    },
    store::{
        rendering::Changes,
        resource::{Condition, ResourceRow},
        source::{NewRevision, RevisionRow, SourceOutcome, SourceStateRow},
    },
};

/// What fetching needs.
pub struct Sources {
    /// Probes, shared between sources of one remote.
    pub probes: ProbeShare,
    /// Fetches.
    pub fetcher: Fetcher,
    /// Keeps artifacts.
    pub artifacts: ArtifactStore,
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// What a look at the remote ended with.
enum Looked {
    /// The artifact at hand is the remote's present state.
    UpToDate,
    /// The present revision's artifact was lost here, and was fetched again.
    Restored,
    /// A new revision was fetched and packaged.
    New(Fresh),
}

struct Fresh {
    revision: String,
    commit: String,
    subject: String,
    digest: String,
    size: u64,
}

/// Why there is nothing new, by what helps.
struct Failed {
    reason: &'static str,
    message: String,
    retry: bool,
}

/// Reconciles one source.
pub async fn reconcile(context: &Context, uid: Uuid) -> anyhow::Result<Outcome> {
    let Some(source) = context.store.resource(uid).await? else {
        return Ok(Outcome::Done);
    };
    if source.kind != "GitRepository" {
        return Ok(Outcome::Done);
    }
    // Before anything else: what another replica records from here on makes this attempt void.
    let before = Before::of(context.store.source_state(uid).await?);
    let spec: GitRepositorySpec = match serde_json::from_value(source.spec.clone()) {
        Ok(spec) => spec,
        Err(error) => {
            let message = format!("spec of {} cannot be read: {error}", source.display());
            return stall(context, &source, &before, "ReconciliationFailed", message).await;
        }
    };
    if let Some(what) = source.not_supported.first() {
        let message = format!("{what} is not supported by this release");
        return stall(context, &source, &before, "NotSupported", message).await;
    }
    if source.is_suspended() {
        return Ok(Outcome::Done);
    }
    let now = OffsetDateTime::now_utc();
    if before.observed_generation == source.generation
        && source.requested_at == source.handled_at
        && before.next_probe > now
        // One that was lost is fetched at once, and with backoff where that fails.
        && (before.failures > 0 || is_here(context, before.revision.as_ref()).await?)
    {
        return Ok(Outcome::After((before.next_probe - now).unsigned_abs()));
    }
    let looked = match look(context, &source, &spec, before.revision.as_ref()).await {
        Err(error) if !is_passing(&error) => Err(Failed {
            reason: "ReconciliationFailed",
            // Its outermost text alone: what is below may quote what was read.
            message: error.to_string(),
            retry: true,
        }),
        looked => looked?,
    };
    record(context, &source, &spec, looked, before).await
}

/// What was recorded before this attempt.
struct Before {
    version: i64,
    observed_generation: i64,
    next_probe: OffsetDateTime,
    failures: i32,
    revision: Option<RevisionRow>,
    conditions: Vec<Condition>,
}

impl Before {
    fn of(state: Option<SourceStateRow>) -> Self {
        state.map_or(
            Self {
                version: 0,
                observed_generation: 0,
                next_probe: OffsetDateTime::UNIX_EPOCH,
                failures: 0,
                revision: None,
                conditions: Vec::new(),
            },
            |state| Self {
                version: state.version,
                observed_generation: state.observed_generation,
                next_probe: state.next_probe,
                failures: state.failures,
                revision: state.revision,
                conditions: state.conditions,
            },
        )
    }

    /// A condition whose status did not change keeps its time, so that an unchanged probe writes nothing.
    fn keep_since(&self, mut new: Vec<Condition>) -> Vec<Condition> {
        for condition in &mut new {
            let same = |old: &&Condition| old.type_ == condition.type_ && old.status == condition.status;
            if let Some(old) = self.conditions.iter().find(same) {
                condition.since_ms = old.since_ms;
            }
        }
        new
    }
}

/// Whether the artifact of a revision is in this replica's store. No revision has none to lose.
async fn is_here(context: &Context, revision: Option<&RevisionRow>) -> anyhow::Result<bool> {
    let Some(digest) = revision.and_then(|one| ArtifactDigest::parse(&one.artifact_digest).ok()) else {
        return Ok(true);
    };
    Ok(context.sources.artifacts.has(digest).await?)
}

async fn look(
    context: &Context,
    source: &ResourceRow,
    spec: &GitRepositorySpec,
    current: Option<&RevisionRow>,
) -> anyhow::Result<Result<Looked, Failed>> {
    let remote = match remote(context, source, spec).await? {
        Ok(remote) => remote,
        Err(failed) => return Ok(Err(failed)),
    };
    let field = |text: Option<&str>| text.map(str::to_owned);
    let given = spec.reference.as_ref();
    let (branch, tag, commit) = (
        field(given.and_then(|one| one.branch.as_ref()).map(|one| one.as_str())),
        field(given.and_then(|one| one.tag.as_ref()).map(|one| one.as_str())),
        field(given.and_then(|one| one.commit.as_ref()).map(|one| one.as_str())),
    );
    let reference = match Reference::of(branch.as_deref(), tag.as_deref(), commit.as_deref()) {
        Ok(reference) => reference,
        Err(error) => {
            return Ok(Err(Failed {
                reason: "URLInvalid",
                message: error.to_string(),
                retry: false,
            }));
        }
    };
    let timeout = spec
        .timeout
        .as_ref()
        .map_or(DEFAULT_TIMEOUT, |timeout| timeout.get());
    let config = config_digest(spec);
    let probed = match context.sources.probes.probe(&remote, &reference, timeout).await {
        Ok(resolved) => resolved,
        Err(error) => return Ok(Err(failed(&error))),
    };
    let same = current
        .filter(|current| current.revision == probed.revision && current.config_digest == config.as_bytes());
    if same.is_some() && is_here(context, same).await? {
        return Ok(Ok(Looked::UpToDate));
    }
    let step = crate::trace::fetch(&source.display(), &probed.revision);
    let artifacts = context.sources.artifacts.clone();
    let ignore = spec.ignore.clone();
    let fetched = context
        .sources
        .fetcher
        .fetch(&remote, &reference, probed, timeout, move |tree| {
            store_artifact(tree, ignore.as_deref(), &artifacts)
        })
        .instrument(step)
        .await;
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(error) => return Ok(Err(failed(&error))),
    };
    let fresh = Fresh {
        revision: fetched.revision,
        commit: fetched.commit.to_string(),
        subject: fetched.subject,
        digest: fetched.output.digest.to_string(),
        size: fetched.output.size,
    };
    let restored =
        same.is_some_and(|same| same.revision == fresh.revision && same.artifact_digest == fresh.digest);
    Ok(Ok(if restored {
        Looked::Restored
    } else {
        Looked::New(fresh)
    }))
}

fn store_artifact(
    tree: &CommitTree,
    ignore: Option<&str>,
    artifacts: &ArtifactStore,
) -> Result<Stored, TreeError> {
    let local = |error: artifact::StoreError| TreeError::Local(error.to_string());
    let writer = artifacts.writer().map_err(local)?;
    package::package(tree, ignore, writer)?
        .out
        .commit()
        .map_err(local)
}

/// The settings that shape an artifact besides the commit.
fn config_digest(spec: &GitRepositorySpec) -> Digest {
    Digest::of_json("source-config", &json!({ "ignore": spec.ignore }))
}

async fn remote(
    context: &Context,
    source: &ResourceRow,
    spec: &GitRepositorySpec,
) -> anyhow::Result<Result<Remote, Failed>> {
    let mut credential = None;
    let mut ca = None;
    if let Some(reference) = &spec.secret_ref {
        let name = reference.name.as_str();
        let found = context
            .store
            .resource_by_name(&source.scope, "Secret", &source.namespace, name)
            .await?;
        let Some(found) = found else {
            return Ok(Err(Failed {
                reason: "AuthenticationFailed",
                message: format!(
                    "SecretNotOnHub: secret '{}/{name}' is not on the hub; apply it with `flotilla apply`",
                    source.namespace
                ),
                retry: true,
            }));
        };
        let values = values(context, &found).await?;
        credential = match credential_of(&values) {
            Ok(credential) => credential,
            Err(problem) => {
                let message = format!("secret '{}/{name}': {problem}", source.namespace);
                return Ok(Err(Failed {
                    reason: "AuthenticationFailed",
                    message,
                    retry: false,
                }));
            }
        };
        ca = values
            .get("ca.crt")
            .or_else(|| values.get("caFile"))
            .map(|pem| pem.clone().into_bytes());
    }
    Ok(
        Remote::new(spec.url.as_str(), credential, ca).map_err(|error| Failed {
            reason: "URLInvalid",
            message: error.to_string(),
            retry: false,
        }),
    )
}

fn credential_of(values: &BTreeMap<String, String>) -> Result<Option<Credential>, &'static str> {
    if let Some(token) = values.get("bearerToken") {
        return Ok(Some(Credential::Bearer(Zeroizing::new(token.clone()))));
    }
    match (values.get("username"), values.get("password")) {
        (Some(username), Some(password)) => Ok(Some(Credential::Basic {
            username: username.clone(),
            password: Zeroizing::new(password.clone()),
        })),
        (None, None) => Ok(None),
        _ => Err("'username' and 'password' are needed together"),
    }
}

fn failed(error: &GitError) -> Failed {
    Failed {
        reason: error.reason(),
        message: error.message(),
        retry: matches!(error.remedy(), Remedy::Retry),
    }
}

async fn record(
    context: &Context,
    source: &ResourceRow,
    spec: &GitRepositorySpec,
    looked: Result<Looked, Failed>,
    before: Before,
) -> anyhow::Result<Outcome> {
    let interval = spec.interval.get();
    let now_ms = now_ms();
    let (conditions, next, failures, event, revision) = match &looked {
        Ok(Looked::UpToDate | Looked::Restored) => {
            let revision = before.revision.as_ref().map_or("", |one| one.revision.as_str());
            let message = format!("stored artifact for revision '{revision}'");
            (
                ready("True", "Succeeded", message, now_ms),
                jittered(interval),
                0,
                None,
                None,
            )
        }
        Ok(Looked::New(fresh)) => {
            let message = format!("stored artifact for revision '{}'", fresh.revision);
            let event = (
                "NewArtifact",
                format!("stored artifact for commit '{}'", fresh.subject),
                false,
            );
            (
                ready("True", "Succeeded", message, now_ms),
                jittered(interval),
                0,
                Some(event),
                Some(fresh),
            )
        }
        Err(failed) => {
            let failures = before.failures.saturating_add(1);
            let event = (failed.reason, printable_lines(&failed.message), true);
            let next = if failed.retry {
                backoff(failures).min(interval)
            } else {
                jittered(interval)
            };
            (
                ready("False", failed.reason, failed.message.clone(), now_ms),
                next,
                failures,
                Some(event),
                None,
            )
        }
    };
    let conditions = before.keep_since(conditions);
    let config = config_digest(spec);
    // A failure that repeats is one event, not one each retry; that it is over is one as well.
    let repeated = failures > 1 && conditions == before.conditions;
    let revision = match revision {
        None => None,
        Some(fresh) => {
            let changes = changes(context, before.revision.as_ref(), &fresh.digest).await;
            let new = NewRevision {
                revision: &fresh.revision,
                commit_id: &fresh.commit,
                subject: &fresh.subject,
                config_digest: config.as_bytes(),
                artifact_digest: &fresh.digest,
                artifact_size: fresh.size,
            };
            Some((new, changes))
        }
    };
    let recovered = (before.failures > 0 && failures == 0).then(|| {
        let message = "the source is reachable again".to_owned();
        ("Succeeded", message, false)
    });
    let event = event.or(recovered);
    context
        .store
        .record_source(&SourceOutcome {
            uid: source.uid,
            version: before.version,
            generation: source.generation,
            handled: &source.requested_at,
            restored: matches!(looked, Ok(Looked::Restored)),
            former: before.revision.as_ref().map(|one| one.id),
            revision,
            conditions: &conditions,
            next_seconds: next.as_secs_f64(),
            failures,
            event: event
                .as_ref()
                .filter(|_| !repeated)
                .map(|(reason, message, warning)| (*reason, message.as_str(), *warning)),
        })
        .await?;
    match &looked {
        Ok(Looked::New(fresh)) => {
            tracing::info!(source = %source.display(), revision = %fresh.revision, "new artifact");
        }
        Ok(Looked::Restored) => tracing::info!(source = %source.display(), "lost artifact fetched again"),
        _ => {}
    }
    Ok(Outcome::After(next))
}

/// What a new artifact may change, by the paths in which it differs from the present one.
async fn changes(context: &Context, present: Option<&RevisionRow>, fresh: &str) -> Changes {
    let tree = async |digest: &str| {
        let digest = ArtifactDigest::parse(digest).ok()?;
        let artifacts = &context.sources.artifacts;
        artifacts.tree(digest, ReadLimits::packaged_here()).await.ok()
    };
    let Some(present) = present else {
        return Changes::Anything;
    };
    match (tree(&present.artifact_digest).await, tree(fresh).await) {
        (Some(old), Some(new)) => Changes::Paths(old.differences(&new)),
        // The one cannot be read any more, or the other is refused by the same limits again, with a reason.
        _ => Changes::Anything,
    }
}

/// Nothing helps until the source itself changes.
async fn stall(
    context: &Context,
    source: &ResourceRow,
    before: &Before,
    reason: &str,
    message: String,
) -> anyhow::Result<Outcome> {
    let conditions = before.keep_since(ready("False", reason, message, now_ms()));
    context
        .store
        .record_source(&SourceOutcome {
            uid: source.uid,
            version: before.version,
            generation: source.generation,
            handled: &source.requested_at,
            former: None,
            revision: None,
            restored: false,
            conditions: &conditions,
            next_seconds: 3600.0,
            failures: 0,
            event: None,
        })
        .await?;
    Ok(Outcome::Done)
}

fn ready(status: &str, reason: &str, message: String, now_ms: i64) -> Vec<Condition> {
    vec![Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        // It may quote the remote, or names in the tree.
        message: printable_lines(&message),
        since_ms: now_ms,
    }]
}

/// Flux spreads intervals by 5%.
fn jittered(interval: Duration) -> Duration {
    spread(interval, random())
}

fn backoff(failures: i32) -> Duration {
    Backoff::RECONCILE
        .delay(u32::try_from(failures).unwrap_or(1), random())
        .max(Duration::from_millis(200))
}

fn now_ms() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
