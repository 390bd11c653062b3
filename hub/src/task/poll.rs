//! Reconciles one source: gathers what is recorded and configured, looks at the remote where that is due, decides in
//! [`flotilla_core::source`], commits. The last good artifact stays when anything fails.

mod git;

use std::time::Duration;

use flotilla_api::kinds::git_repository::GitRepositorySpec;
use flotilla_core::{
    clock::Timestamp,
    digest::Digest,
    source::{Due, Failure, Look, Next, Present, Remedy, Spec, State, due, is_present, next, rewritten},
    status::{Readiness, Ready},
};
use time::OffsetDateTime;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{Context, is_passing, lanes::Lanes, lease::kept, queue::Outcome, random};
use crate::{
    artifact::{self, ArtifactDigest, ArtifactStore, ReadLimits},
    clock::timestamp,
    source::{
        Fetched, Source,
        git::{Fetcher, GitSource, ProbeShare, Resolved},
        token::Tokens,
    },
    store::{
        event::NewEvent,
        rendering::Changes,
        resource::{Condition, ResourceRow},
        source::{Former, NewRevision, RevisionRow, SourceOutcome, SourceStateRow},
        work::HELD,
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
    /// Sources by the server that they are looked for on.
    pub lanes: Lanes,
    /// Tokens of providers.
    pub tokens: Tokens,
}

/// Of a source whose spec cannot be read.
const UNREAD: Duration = Duration::from_secs(3600);

/// Reconciles one source.
pub async fn reconcile(context: &Context, uid: Uuid) -> anyhow::Result<Outcome> {
    // A look that finds nothing new waits for no disk.
    let store = context.store.for_planning();
    // Before anything else: what another replica records from here on makes this attempt void.
    let row = store.source_state(uid).await?;
    let object = store.resource(uid).await?;
    let Some(object) = object.filter(ResourceRow::is_source) else {
        return Ok(Outcome::Done);
    };
    let (asked, spec) = asked(&object);
    let recorded = Recorded::of(context, row, asked.requested).await?;
    let Looked {
        look,
        fetched,
        source,
    } = match (due(&asked, &recorded.state, now()), spec) {
        (Due::Now, _) if recorded.away.is_some() => {
            Looked::ended(Look::Waits(recorded.away.clone().unwrap_or_default()))
        }
        (Due::Never, _) => return Ok(Outcome::Done),
        (Due::After(wait), _) => return Ok(Outcome::After(wait)),
        (Due::Unusable(failure), _) => Looked::ended(Look::Failed(failure)),
        (Due::Now, None) => anyhow::bail!("the spec of {} cannot be read", object.display()),
        (Due::Now, Some(spec)) => {
            if !context.sources.lanes.join(uid, server(spec.url.as_str())) {
                return Ok(Outcome::Again);
            }
            if !store.take_source(uid, &context.replica).await? {
                return Ok(Outcome::After(HELD));
            }
            let looked = tokio::select! {
                looked = look_git(context, &object, &spec, &recorded) => looked,
                () = kept(
                    HELD / 3,
                    || store.keep_source(uid, &context.replica),
                    "another hub may look at this source too; one of them records",
                ) => return Ok(Outcome::After(HELD)),
            };
            match looked {
                Err(error) if !is_passing(&error) => {
                    // Its outermost text alone: what is below may quote what was read.
                    let failure = Failure::new("ReconciliationFailed", error.to_string(), Remedy::Retry);
                    Looked::ended(Look::Failed(failure))
                }
                looked => looked?,
            }
        }
    };
    let is_same = matches!(look, Look::Same);
    let is_seen = is_same || matches!(look, Look::Fetched(_));
    let next = next(&asked, &recorded.state, look, now(), random());
    // While it goes on waiting there is nothing to write.
    if next.state.waiting.is_some() && next.state.is_shown_as(&recorded.state) {
        return Ok(Outcome::After(next.wait));
    }
    let follows = recorded.followed_by(fetched.as_ref().filter(|_| next.is_new));
    let is_recorded = is_same && next.event.is_none() && next.state.is_shown_as(&recorded.state) && {
        let (generation, wait) = (next.state.generation, next.wait.as_secs_f64());
        store.record_same(uid, recorded.version, generation, wait).await?
    };
    if !is_recorded {
        commit(
            context,
            &object,
            &recorded,
            &next,
            (fetched.as_ref(), follows.clone()),
            is_seen,
        )
        .await?;
    }
    // What a hub that has ended did not come to look at is looked at now.
    let present = match &fetched {
        Some(fetched) if next.is_new => Some((&fetched.found.revision, &fetched.commit)),
        _ => recorded
            .revision
            .as_ref()
            .map(|one| (&one.revision, &one.commit_id)),
    };
    if let (Some(former), Some(present), Some(source)) =
        (recorded.former.clone().or(follows), present, source)
    {
        // Afterwards: the commit waits for no answer to this.
        if let Err(error) = tell_rewritten(context, &object, &former, present, source).await {
            tracing::warn!(
                "whether the history of {} was rewritten is not told yet: {error:#}",
                object.display()
            );
        }
    }
    Ok(Outcome::After(next.wait))
}

/// The server of an address, as far as sources of one are to be known as such.
fn server(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

/// What is recorded of a source.
struct Recorded {
    version: i64,
    revision: Option<RevisionRow>,
    /// What the present revision came after, where it is not told yet whether it follows it.
    former: Option<Former>,
    state: State,
    /// Why it is not known whether the present artifact is here.
    away: Option<String>,
}

impl Recorded {
    /// `requested`: somebody asks for it just now, and hears whether its artifact is there now.
    async fn of(context: &Context, row: Option<SourceStateRow>, requested: bool) -> anyhow::Result<Self> {
        let Some(row) = row else {
            return Ok(Self {
                version: 0,
                revision: None,
                former: None,
                state: State::default(),
                away: None,
            });
        };
        let mut away = None;
        let present = match &row.revision {
            None => None,
            Some(revision) => Some(Present {
                revision: revision.revision.clone(),
                config: Digest::try_from_slice(&revision.config_digest)?,
                artifact: revision.artifact_digest.clone(),
                verified: revision.verified.clone(),
                at_hand: is_here(context, revision, requested)
                    .await
                    .unwrap_or_else(|error| {
                        away = Some(error.to_string());
                        true
                    }),
            }),
        };
        let condition = |kind: &str| row.conditions.iter().find(|one| one.type_ == kind);
        let ready = |condition: &Condition| {
            let ready = Ready {
                status: Readiness::parse(&condition.status),
                reason: condition.reason.clone(),
                message: condition.message.clone(),
            };
            (ready, Timestamp(condition.since_ms))
        };
        let (shown, verified) = (
            condition("Ready").map(ready),
            condition("SourceVerified").map(ready),
        );
        let waiting = condition("Reconciling")
            .map(|condition| (condition.message.clone(), Timestamp(condition.since_ms)));
        Ok(Self {
            version: row.version,
            revision: row.revision,
            former: row.former,
            state: State {
                generation: row.observed_generation,
                due_at: timestamp(row.next_probe),
                failures: u32::try_from(row.failures).unwrap_or(0),
                present,
                shown,
                verified,
                waiting,
            },
            away,
        })
    }

    /// What a new commit is to follow. Other settings give another artifact of the same commit.
    fn followed_by(&self, new: Option<&Fetched>) -> Option<Former> {
        let (former, new) = self.revision.as_ref().zip(new)?;
        (former.commit_id != new.commit).then(|| Former {
            revision: former.revision.clone(),
            commit_id: former.commit_id.clone(),
        })
    }
}

/// Whether the artifact of a revision is in this replica's store.
async fn is_here(
    context: &Context,
    revision: &RevisionRow,
    requested: bool,
) -> Result<bool, artifact::StoreError> {
    let artifacts = &context.sources.artifacts;
    match ArtifactDigest::parse(&revision.artifact_digest) {
        Ok(digest) if requested => artifacts.has(digest).await,
        Ok(digest) => artifacts.has_lately(digest).await,
        // It is made by no release: nothing here has lost it.
        Err(_) => Ok(true),
    }
}

/// What the object asks for, and its spec where that can be read.
fn asked(object: &ResourceRow) -> (Spec, Option<GitRepositorySpec>) {
    let spec: Result<GitRepositorySpec, _> = serde_json::from_value(object.spec.clone());
    let unusable = match (&spec, object.not_supported.first()) {
        (Err(error), _) => {
            let message = format!("spec of {} cannot be read: {error}", object.display());
            Some(Failure::new("ReconciliationFailed", message, Remedy::Respecify))
        }
        (Ok(_), Some(what)) => {
            let message = format!("{what} is not supported by this release");
            Some(Failure::new("NotSupported", message, Remedy::Respecify))
        }
        (Ok(_), None) => None,
    };
    let spec = spec.ok();
    let asked = Spec {
        generation: object.generation,
        interval: spec.as_ref().map_or(UNREAD, |spec| spec.interval.get()),
        suspended: object.is_suspended(),
        requested: object.requested_at != object.handled_at,
        unusable,
    };
    (asked, spec)
}

/// What a look found, what is to be recorded of it, and who can tell what came before.
struct Looked<S> {
    look: Look,
    fetched: Option<Fetched>,
    source: Option<S>,
}

impl<S> Looked<S> {
    /// It has found nothing.
    fn ended(look: Look) -> Self {
        Self {
            look,
            fetched: None,
            source: None,
        }
    }
}

/// A source that was looked at, and what the probe found.
type Probed<'a> = (GitSource<'a>, Resolved);

async fn look_git<'a>(
    context: &'a Context,
    object: &ResourceRow,
    spec: &GitRepositorySpec,
    recorded: &Recorded,
) -> anyhow::Result<Looked<Probed<'a>>> {
    let mut used = match git::used(context, object, spec).await? {
        Ok(used) => used,
        Err(failure) => return Ok(Looked::ended(Look::Failed(failure))),
    };
    let sources = &context.sources;
    match GitSource::new(spec, used.uses(), &sources.probes, &sources.fetcher) {
        Ok(source) => {
            let looked = look(context, &source, &object.display(), recorded).await;
            Ok(Looked {
                look: looked.look,
                fetched: looked.fetched,
                source: looked.source.map(|probed| (source, probed)),
            })
        }
        Err(failure) => Ok(Looked::ended(Look::Failed(failure))),
    }
}

/// Looks at a source of any kind: a probe, and a fetch where the present artifact is not what was probed.
async fn look<S: Source>(
    context: &Context,
    source: &S,
    name: &str,
    recorded: &Recorded,
) -> Looked<S::Probed> {
    let (revision, probed) = match source.probe().await {
        Ok(probed) => probed,
        Err(failure) => return Looked::ended(Look::Failed(failure)),
    };
    if is_present(&recorded.state, &revision, source.config()) {
        return Looked {
            look: Look::Same,
            fetched: None,
            source: Some(probed),
        };
    }
    let step = crate::trace::fetch(name, &revision);
    let artifacts = &context.sources.artifacts;
    let former = recorded.revision.as_ref().map(|former| former.commit_id.as_str());
    match source
        .fetch(probed.clone(), former, artifacts)
        .instrument(step)
        .await
    {
        Ok(fetched) => Looked {
            look: Look::Fetched(fetched.found.clone()),
            fetched: Some(fetched),
            source: Some(probed),
        },
        Err(ended) => Looked::ended(ended),
    }
}

async fn commit(
    context: &Context,
    object: &ResourceRow,
    recorded: &Recorded,
    next: &Next,
    (fetched, follows): (Option<&Fetched>, Option<Former>),
    is_seen: bool,
) -> anyhow::Result<()> {
    let present = next.state.present.as_ref();
    let revision = match (fetched, present) {
        (Some(fetched), Some(present)) if next.is_new => {
            let changes = changes(context, recorded.revision.as_ref(), &fetched.found.artifact).await;
            let new = NewRevision {
                revision: &fetched.found.revision,
                commit_id: &fetched.commit,
                subject: &fetched.found.subject,
                config_digest: present.config.as_bytes(),
                artifact_digest: &fetched.found.artifact,
                artifact_size: fetched.size,
                verified: &fetched.found.verified,
            };
            Some((new, changes))
        }
        _ => None,
    };
    context
        .store
        .record_source(&SourceOutcome {
            uid: object.uid,
            version: recorded.version,
            spec: object.generation,
            generation: next.state.generation,
            handled: match next.state.waiting {
                Some(_) => &object.handled_at,
                None => &object.requested_at,
            },
            is_seen,
            restored: next.is_restored,
            former: recorded.revision.as_ref().map(|one| one.id),
            revision,
            follows,
            conditions: &conditions(next),
            next_seconds: next.wait.as_secs_f64(),
            failures: i32::try_from(next.state.failures).unwrap_or(i32::MAX),
            event: next
                .event
                .as_ref()
                .map(|event| (event.reason.as_str(), event.message.as_str(), event.warning)),
        })
        .await?;
    if next.is_new {
        let revision = present.map_or("", |present| present.revision.as_str());
        tracing::info!(source = %object.display(), revision, "new artifact");
    } else if next.is_restored {
        tracing::info!(source = %object.display(), "lost artifact fetched again");
    }
    Ok(())
}

/// Tells once of a branch that was rewritten. What cannot be known now is asked again with the next look.
async fn tell_rewritten(
    context: &Context,
    object: &ResourceRow,
    former: &Former,
    (revision, commit): (&String, &String),
    (source, probed): Probed<'_>,
) -> anyhow::Result<()> {
    let follows = source.follows(probed, &former.commit_id, commit).await;
    let follows = follows.map_err(anyhow::Error::msg)?;
    let event = rewritten(&former.revision, revision, follows);
    if event.is_some() {
        tracing::info!(source = %object.display(), revision, former = former.revision, "history rewritten");
    }
    let event = event.as_ref().map(|event| NewEvent {
        warning: event.warning,
        reason: &event.reason,
        message: &event.message,
        resource: object.uid,
        revision,
    });
    Ok(context.store.judged(object.uid, former, event.as_ref()).await?)
}

/// As Flux shows them: what is known of the source, and beside it what it waits for.
fn conditions(next: &Next) -> Vec<Condition> {
    let said = |type_: &str, (ready, since): &(Ready, Timestamp)| Condition {
        type_: type_.into(),
        status: ready.status.as_str().into(),
        reason: ready.reason.clone(),
        message: ready.message.clone(),
        since_ms: since.0,
    };
    let shown = next.state.shown.iter().map(|one| said("Ready", one));
    let verified = next.state.verified.iter().map(|one| said("SourceVerified", one));
    let waiting = next.state.waiting.iter().map(|(why, since)| Condition {
        type_: "Reconciling".into(),
        status: Readiness::True.as_str().into(),
        reason: "ProgressingWithRetry".into(),
        message: why.clone(),
        since_ms: since.0,
    });
    shown.chain(waiting).chain(verified).collect()
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

fn now() -> Timestamp {
    timestamp(OffsetDateTime::now_utc())
}
