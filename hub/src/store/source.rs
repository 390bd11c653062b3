//! Sources: their state between probes, their revisions, the artifacts these name.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store, Topic, nudge, resource::Condition};

/// A fetched state of a source. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRow {
    /// Row id. A commit that comes back after another one keeps the row it had.
    pub id: i64,
    /// As Flux names it: `main@sha1:…`.
    pub revision: String,
    /// Commit.
    pub commit_id: String,
    /// First line of the commit message.
    pub subject: String,
    /// `sha256:…` of the artifact.
    pub artifact_digest: String,
    /// Digest of the source's settings that shaped it.
    pub config_digest: Vec<u8>,
}

/// A source's state between probes.
#[derive(Debug, Clone)]
pub struct SourceStateRow {
    /// Compare-and-set.
    pub version: i64,
    /// Its present revision.
    pub revision_id: Option<i64>,
    /// Generation of the spec the state is about.
    pub observed_generation: i64,
    /// When it was last probed.
    pub last_probe: Option<OffsetDateTime>,
    /// When it is due.
    pub next_probe: OffsetDateTime,
    /// Failures in a row.
    pub failures: i32,
}

/// A revision to record.
pub struct NewRevision<'a> {
    /// As Flux names it.
    pub revision: &'a str,
    /// Commit.
    pub commit_id: &'a str,
    /// First line of the commit message.
    pub subject: &'a str,
    /// Digest of the settings that shaped the artifact.
    pub config_digest: &'a [u8],
    /// `sha256:…`.
    pub artifact_digest: &'a str,
    /// Bytes of the artifact.
    pub artifact_size: u64,
}

/// What a probe or fetch ended with.
pub struct SourceOutcome<'a> {
    /// The source.
    pub uid: Uuid,
    /// Version of the state that was read before probing; 0 when there was none.
    pub version: i64,
    /// Generation of the spec that was used.
    pub generation: i64,
    /// The request that was handled, '' for none.
    pub handled: &'a str,
    /// A new revision, if one was fetched.
    pub revision: Option<NewRevision<'a>>,
    /// The artifact of the present revision is here again: who waits for it is woken.
    pub restored: bool,
    /// Conditions to show.
    pub conditions: &'a [Condition],
    /// Seconds until the next probe.
    pub next_seconds: f64,
    /// Failures in a row.
    pub failures: i32,
    /// Event to record: reason, message, warning.
    pub event: Option<(&'a str, &'a str, bool)>,
}

impl Store {
    /// Reads a source's state.
    pub async fn source_state(&self, uid: Uuid) -> Result<Option<SourceStateRow>> {
        Ok(sqlx::query_as!(
            SourceStateRow,
            "SELECT version, revision_id, observed_generation, last_probe, next_probe, failures
             FROM source_state WHERE uid = $1",
            uid
        )
        .fetch_optional(self.pool())
        .await?)
    }

    /// Reads the present revision of a source.
    pub async fn current_revision(&self, source_uid: Uuid) -> Result<Option<RevisionRow>> {
        Ok(sqlx::query_as!(
            RevisionRow,
            "SELECT r.id, r.revision, r.commit_id, r.subject, r.artifact_digest, r.config_digest
             FROM source_state s JOIN revision r ON r.id = s.revision_id WHERE s.uid = $1",
            source_uid
        )
        .fetch_optional(self.pool())
        .await?)
    }

    /// Apps that take their content from a source.
    pub async fn apps_of_source(&self, source_uid: Uuid) -> Result<Vec<Uuid>> {
        Ok(sqlx::query_scalar!(
            "SELECT a.uid FROM resource s JOIN resource a ON a.scope = s.scope AND a.kind = 'Kustomization'
               AND a.spec->'sourceRef'->>'kind' = s.kind AND a.spec->'sourceRef'->>'name' = s.name
               AND coalesce(a.spec->'sourceRef'->>'namespace', a.namespace) = s.namespace
             WHERE s.uid = $1 ORDER BY a.uid",
            source_uid
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Records the outcome of a probe or fetch: state, revision, conditions and event in one transaction. `Conflict`
    /// when another replica recorded one since the state was read: it may have seen a newer commit.
    pub async fn record_source(&self, outcome: &SourceOutcome<'_>) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        let revision_id = match &outcome.revision {
            Some(new) => Some(insert_revision(&mut tx, outcome.uid, new).await?),
            None => None,
        };
        let done = sqlx::query!(
            "INSERT INTO source_state (uid, version, revision_id, observed_generation, last_probe, next_probe, failures)
             VALUES ($1, $6::bigint + 1, $2, $3, now(), now() + make_interval(secs => $4), $5)
             ON CONFLICT (uid) DO UPDATE SET version = $6::bigint + 1,
               revision_id = coalesce($2, source_state.revision_id),
               observed_generation = $3, last_probe = now(), next_probe = now() + make_interval(secs => $4),
               failures = $5
             WHERE source_state.version = $6::bigint",
            outcome.uid,
            revision_id,
            outcome.generation,
            outcome.next_seconds,
            outcome.failures,
            outcome.version
        )
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(super::StoreError::Conflict("the source's state"));
        }
        let shown = put_conditions(&mut tx, outcome.uid, outcome.generation, outcome.conditions).await?;
        let handled = sqlx::query!(
            "UPDATE resource SET handled_at = $2 WHERE uid = $1 AND handled_at <> $2 AND $2 <> ''",
            outcome.uid,
            outcome.handled
        )
        .execute(&mut *tx)
        .await?;
        if let Some((reason, message, warning)) = outcome.event {
            let revision = outcome.revision.as_ref().map_or("", |new| new.revision);
            sqlx::query!(
                "INSERT INTO event (warning, reason, message, resource_uid, revision) VALUES ($1, $2, $3, $4, $5)",
                warning,
                reason,
                message,
                outcome.uid,
                revision
            )
            .execute(&mut *tx)
            .await?;
        }
        // An unchanged probe wakes nobody.
        if revision_id.is_some() || outcome.restored || shown || handled.rows_affected() > 0 {
            nudge(&mut tx, Topic::Source, &[outcome.uid]).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

async fn insert_revision(tx: &mut PgConnection, source_uid: Uuid, new: &NewRevision<'_>) -> Result<i64> {
    sqlx::query!(
        "INSERT INTO artifact (digest, size) VALUES ($1, $2)
         ON CONFLICT (digest) DO UPDATE SET referenced_at = now()",
        new.artifact_digest,
        i64::try_from(new.artifact_size).unwrap_or(i64::MAX)
    )
    .execute(&mut *tx)
    .await?;
    Ok(sqlx::query_scalar!(
        "INSERT INTO revision (source_uid, revision, commit_id, subject, config_digest, artifact_digest)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (source_uid, revision, config_digest, artifact_digest) DO UPDATE SET subject = $4
         RETURNING id",
        source_uid,
        new.revision,
        new.commit_id,
        new.subject,
        new.config_digest,
        new.artifact_digest
    )
    .fetch_one(&mut *tx)
    .await?)
}

/// Writes conditions when they differ from those shown. Tells whether they did.
pub(crate) async fn put_conditions(
    tx: &mut PgConnection,
    uid: Uuid,
    generation: i64,
    conditions: &[Condition],
) -> Result<bool> {
    let conditions = serde_json::to_value(conditions)
        .map_err(|e| super::StoreError::corrupt(format!("conditions of {uid}"), e))?;
    let done = sqlx::query!(
        "INSERT INTO resource_status (uid, observed_generation, conditions) VALUES ($1, $2, $3)
         ON CONFLICT (uid) DO UPDATE SET observed_generation = $2, conditions = $3, updated_at = now()
           WHERE resource_status.conditions <> $3 OR resource_status.observed_generation <> $2",
        uid,
        generation,
        conditions
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() > 0)
}
