//! Sources: their state between probes, their revisions, the artifacts these name.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{Executor, Postgres};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Connection, Result, Store, StoreError, Topic, Wakes, confirmed,
    event::{NewEvent, record_event},
    reference::{INCLUDED, Reference},
    rendering::{Changes, move_inputs, restore},
    resource::Condition,
    wake,
};

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
    /// Whose signatures were verified; '' where none were asked for.
    pub verified: String,
}

/// A source's state between probes.
#[derive(Debug, Clone)]
pub struct SourceStateRow {
    /// Compare-and-set.
    pub version: i64,
    /// Generation of the spec the state is about.
    pub observed_generation: i64,
    /// When it is due.
    pub next_probe: OffsetDateTime,
    /// Failures in a row.
    pub failures: i32,
    /// Its present revision.
    pub revision: Option<RevisionRow>,
    /// One that was its present one before, and that it is not told yet whether this one follows.
    pub former: Option<Former>,
    /// The conditions shown.
    pub conditions: Vec<Condition>,
}

/// A revision that another has come after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// As Flux names it.
    pub revision: String,
    /// Commit.
    pub commit_id: String,
}

/// What is shown of a source beside its spec.
#[derive(Debug, Clone, Default)]
pub struct SourceShown {
    /// Its conditions, and the generation of the spec that they are about; `None`: nothing was said of it yet.
    pub said: Option<(i64, Vec<Condition>)>,
    /// Its present revision: row id and name.
    pub revision: Option<(i64, String)>,
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
    /// Whose signatures were verified; '' where none were asked for.
    pub verified: &'a str,
}

/// What a probe or fetch ended with.
pub struct SourceOutcome<'a> {
    /// The source.
    pub uid: Uuid,
    /// Version of the state that was read before probing; 0 when there was none.
    pub version: i64,
    /// Generation of the spec that was looked at by: it must still be the object's, which a suspension raises as well.
    pub spec: i64,
    /// Generation of the spec that the conditions are about.
    pub generation: i64,
    /// The request that was handled, '' for none.
    pub handled: &'a str,
    /// The revision that was the present one when the state was read.
    pub former: Option<i64>,
    /// A new revision, if one was fetched, and what it may change.
    pub revision: Option<(NewRevision<'a>, Changes)>,
    /// What the new one is to follow: that is looked at afterwards.
    pub follows: Option<Former>,
    /// The remote was seen: what is recorded is what it has.
    pub is_seen: bool,
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
        let row = sqlx::query!(
            r#"SELECT s.version, s.observed_generation, s.next_probe, s.failures, s.former_revision, s.former_commit, r.id AS "id?",
                      r.revision AS "revision?", r.commit_id AS "commit_id?", r.subject AS "subject?",
                      r.artifact_digest AS "artifact_digest?", r.config_digest AS "config_digest?",
                      r.verified AS "verified?", coalesce(c.conditions, '[]') AS "conditions!"
               FROM source_state s LEFT JOIN revision r ON r.id = s.revision_id
                 LEFT JOIN resource_status c ON c.uid = s.uid
               WHERE s.uid = $1"#,
            uid
        )
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| {
            let conditions = serde_json::from_value(row.conditions)
                .map_err(|e| StoreError::corrupt(format!("resource_status {uid}"), e))?;
            Ok(SourceStateRow {
                version: row.version,
                observed_generation: row.observed_generation,
                next_probe: row.next_probe,
                failures: row.failures,
                revision: row.id.map(|id| RevisionRow {
                    id,
                    revision: row.revision.unwrap_or_default(),
                    commit_id: row.commit_id.unwrap_or_default(),
                    subject: row.subject.unwrap_or_default(),
                    artifact_digest: row.artifact_digest.unwrap_or_default(),
                    config_digest: row.config_digest.unwrap_or_default(),
                    verified: row.verified.unwrap_or_default(),
                }),
                former: (!row.former_commit.is_empty()).then_some(Former {
                    revision: row.former_revision,
                    commit_id: row.former_commit,
                }),
                conditions,
            })
        })
        .transpose()
    }

    /// Looks a source up by its name, with its present revision.
    pub async fn named_source(&self, named: &Reference) -> Result<Option<(Uuid, Option<RevisionRow>)>> {
        let mut found = self.named_sources(&BTreeSet::from([named.clone()])).await?;
        Ok(found.remove(named))
    }

    /// As [`Self::named_source`], of several; those that are not there are left out.
    pub async fn named_sources(
        &self,
        named: &BTreeSet<Reference>,
    ) -> Result<BTreeMap<Reference, (Uuid, Option<RevisionRow>)>> {
        let column = |of: fn(&Reference) -> &str| -> Vec<&str> { named.iter().map(of).collect() };
        let scopes: Vec<Uuid> = named.iter().map(|one| one.scope).collect();
        let rows = sqlx::query!(
            r#"SELECT o.scope, o.kind, o.namespace, o.name, o.uid, r.id AS "id?", r.revision AS "revision?", r.commit_id AS "commit_id?",
                      r.subject AS "subject?", r.artifact_digest AS "artifact_digest?",
                      r.config_digest AS "config_digest?", r.verified AS "verified?"
               FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS v(scope, kind, namespace, name)
               CROSS JOIN LATERAL (
                 SELECT * FROM resource
                 WHERE kind = v.kind AND namespace = v.namespace AND name = v.name AND scope = v.scope OFFSET 0) AS o
               LEFT JOIN source_state s ON s.uid = o.uid LEFT JOIN revision r ON r.id = s.revision_id"#,
            &scopes,
            &column(|one| &one.kind) as &[&str],
            &column(|one| &one.namespace) as &[&str],
            &column(|one| &one.name) as &[&str]
        )
        .fetch_all(self.pool())
        .await?;
        let found = rows.into_iter().map(|row| {
            let revision = row.id.map(|id| RevisionRow {
                id,
                revision: row.revision.unwrap_or_default(),
                commit_id: row.commit_id.unwrap_or_default(),
                subject: row.subject.unwrap_or_default(),
                artifact_digest: row.artifact_digest.unwrap_or_default(),
                config_digest: row.config_digest.unwrap_or_default(),
                verified: row.verified.unwrap_or_default(),
            });
            let named = Reference {
                kind: row.kind,
                scope: row.scope,
                namespace: row.namespace,
                name: row.name,
            };
            (named, (row.uid, revision))
        });
        Ok(found.collect())
    }

    /// Reads the present revision of a source.
    pub async fn current_revision(&self, source_uid: Uuid) -> Result<Option<RevisionRow>> {
        Ok(sqlx::query_as!(
            RevisionRow,
            "SELECT r.id, r.revision, r.commit_id, r.subject, r.artifact_digest, r.config_digest, r.verified
             FROM source_state s JOIN revision r ON r.id = s.revision_id WHERE s.uid = $1",
            source_uid
        )
        .fetch_optional(self.pool())
        .await?)
    }

    /// What is shown of these sources, by uid, in one statement however many there are.
    pub async fn sources_shown(&self, sources: &[Uuid]) -> Result<HashMap<Uuid, SourceShown>> {
        let rows = sqlx::query!(
            r#"SELECT r.uid AS "uid!", c.observed_generation AS "generation?", c.conditions AS "conditions?",
                      v.id AS "revision_id?", v.revision AS "revision?"
               FROM resource r LEFT JOIN resource_status c ON c.uid = r.uid
                 LEFT JOIN source_state s ON s.uid = r.uid LEFT JOIN revision v ON v.id = s.revision_id
               WHERE r.uid = ANY ($1)"#,
            sources
        )
        .fetch_all(self.pool())
        .await?;
        let mut shown = HashMap::with_capacity(rows.len());
        for row in rows {
            let said = match row.generation.zip(row.conditions) {
                None => None,
                Some((generation, conditions)) => {
                    let conditions = serde_json::from_value(conditions)
                        .map_err(|e| StoreError::corrupt(format!("resource_status {}", row.uid), e))?;
                    Some((generation, conditions))
                }
            };
            let revision = row.revision_id.zip(row.revision);
            shown.insert(row.uid, SourceShown { said, revision });
        }
        Ok(shown)
    }

    /// Records the outcome of a probe or fetch: state, revision, conditions and event in one transaction, in which the
    /// apps are woken that a new revision may change. `Conflict` when another replica recorded one since the state was
    /// read: it may have seen a newer commit; and when the spec has changed since, or was suspended.
    pub async fn record_source(&self, outcome: &SourceOutcome<'_>) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        let (revision_id, including) = match &outcome.revision {
            Some((new, _)) => {
                let (id, including) = insert_revision(&mut tx, outcome.uid, new).await?;
                (Some(id), including)
            }
            None => (None, Vec::new()),
        };
        let confirmed = sqlx::query_scalar!(
            r#"WITH confirmed AS (DELETE FROM unconfirmed WHERE uid = $1 AND $8 RETURNING uid)
             INSERT INTO source_state (uid, version, revision_id, observed_generation, last_probe, next_probe, failures,
                                       former_revision, former_commit)
             SELECT $1, $6::bigint + 1, $2, $3, now(), now() + make_interval(secs => $4), $5, $9, $10
             FROM resource WHERE uid = $1 AND generation = $7
             ON CONFLICT (uid) DO UPDATE SET version = $6::bigint + 1,
               revision_id = coalesce($2, source_state.revision_id),
               observed_generation = $3, last_probe = now(), next_probe = now() + make_interval(secs => $4),
               failures = $5,
               -- Of one that was not looked at before a newer came it is asked still.
               former_revision = CASE source_state.former_commit WHEN '' THEN $9 ELSE source_state.former_revision END,
               former_commit = CASE source_state.former_commit WHEN '' THEN $10 ELSE source_state.former_commit END
             WHERE source_state.version = $6::bigint
             RETURNING EXISTS (SELECT FROM confirmed) AS "confirmed!""#,
            outcome.uid,
            revision_id,
            outcome.generation,
            outcome.next_seconds,
            outcome.failures,
            outcome.version,
            outcome.spec,
            outcome.is_seen,
            outcome.follows.as_ref().map_or("", |former| former.revision.as_str()),
            outcome.follows.as_ref().map_or("", |former| former.commit_id.as_str())
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(is_confirmed) = confirmed else {
            return Err(StoreError::Conflict("the source's state"));
        };
        let shown = show(&mut tx, outcome).await?;
        let mut apps = Vec::new();
        if let (Some(id), Some((new, changes))) = (revision_id, &outcome.revision) {
            apps = move_inputs(
                &mut tx,
                outcome.uid,
                outcome.former,
                id,
                new.artifact_digest,
                changes,
            )
            .await?;
        } else if outcome.restored {
            apps = restore(&mut tx, outcome.uid).await?;
        }
        if is_confirmed {
            apps.extend(confirmed::apps_of(&mut tx, outcome.uid).await?);
        }
        // An unchanged probe wakes nobody; this is for who watches.
        let watched = [outcome.uid];
        let watched: &[Uuid] = match revision_id.is_some() || shown {
            true => &watched,
            false => &[],
        };
        let including: &[Uuid] = &including;
        let wakes = Wakes {
            apps: &apps,
            // Sources that include this one are looked at with what it has now.
            told: &[(Topic::Source, watched), (Topic::Resource, including)],
            ..Wakes::default()
        };
        wake(&mut tx, &wakes).await?;
        tx.commit().await?;
        Ok(())
    }
}

impl Store {
    /// Records that a look has found what is recorded, of which nothing is shown anew, in one statement. What a server that ends
    /// without a word may lose of it is a look that is made again. `false`: it is to be recorded as any other, since something
    /// has changed meanwhile, or waits for the source to be seen.
    pub async fn record_same(
        &self,
        uid: Uuid,
        version: i64,
        generation: i64,
        next_seconds: f64,
    ) -> Result<bool> {
        let done = sqlx::query!(
            "UPDATE source_state SET version = version + 1, last_probe = now(), failures = 0,
                    next_probe = now() + make_interval(secs => $4)
             WHERE uid = $1 AND version = $2 AND observed_generation = $3
               AND (SELECT true FROM resource WHERE uid = $1 AND generation = $3 AND handled_at = requested_at LIMIT 1) IS NOT NULL
               AND (SELECT true FROM unconfirmed WHERE uid = $1 LIMIT 1) IS NULL",
            uid,
            version,
            generation,
            next_seconds
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Records that it is known whether the present revision of a source follows a former one, or that this cannot be known, and
    /// the event that tells of it: once, whoever else has looked.
    pub async fn judged(&self, source: Uuid, former: &Former, event: Option<&NewEvent<'_>>) -> Result<()> {
        let Some(event) = event else {
            // The rule: one statement, and no transaction around it.
            close(self.pool(), source, former).await?;
            return Ok(());
        };
        let mut tx = self.pool().begin().await?;
        if close(&mut *tx, source, former).await? {
            record_event(&mut *tx, event).await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Takes the question off; whether it stood there still.
async fn close<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    source: Uuid,
    former: &Former,
) -> Result<bool> {
    let closed = sqlx::query!(
        "UPDATE source_state SET former_revision = '', former_commit = '' WHERE uid = $1 AND former_commit = $2",
        source,
        former.commit_id
    );
    Ok(closed.execute(executor).await?.rows_affected() > 0)
}

/// Writes conditions where they differ from those shown, the request that was handled, and the event. Tells whether
/// anything that is shown changed.
async fn show(tx: &mut Connection, outcome: &SourceOutcome<'_>) -> Result<bool> {
    let conditions = serde_json::to_value(outcome.conditions)
        .map_err(|e| StoreError::corrupt(format!("conditions of {}", outcome.uid), e))?;
    let (reason, message, warning) = outcome.event.unwrap_or_default();
    let revision = outcome.revision.as_ref().map_or("", |(new, _)| new.revision);
    Ok(sqlx::query_scalar!(
        r#"WITH shown AS (
             INSERT INTO resource_status (uid, observed_generation, conditions) VALUES ($1, $2, $3)
             ON CONFLICT (uid) DO UPDATE SET observed_generation = $2, conditions = $3, updated_at = now()
               WHERE resource_status.conditions <> $3 OR resource_status.observed_generation <> $2
             RETURNING uid),
           handled AS (
             UPDATE resource SET handled_at = $4 WHERE uid = $1 AND handled_at <> $4 AND $4 <> '' RETURNING uid),
           told AS (
             INSERT INTO event (warning, reason, message, resource_uid, revision)
             SELECT $5, $6, $7, $1, $8 WHERE $6 <> '')
           SELECT EXISTS (SELECT FROM shown) OR EXISTS (SELECT FROM handled) AS "shown!""#,
        outcome.uid,
        outcome.generation,
        conditions,
        outcome.handled,
        warning,
        reason,
        message,
        revision
    )
    .fetch_one(tx)
    .await?)
}

/// Records a revision. Returns its row, and the sources that include this one, which are due from now on.
async fn insert_revision(
    tx: &mut Connection,
    source_uid: Uuid,
    new: &NewRevision<'_>,
) -> Result<(i64, Vec<Uuid>)> {
    let row = sqlx::query!(
        r#"WITH artifact AS (
             INSERT INTO artifact (digest, size) VALUES ($6, $7)
             ON CONFLICT (digest) DO UPDATE SET referenced_at = now()),
           including AS (
             -- A look that has begun, and may have read what was there before, is made again.
             UPDATE source_state s SET next_probe = now(), version = s.version + 1
             FROM resource c CROSS JOIN LATERAL (
               SELECT referrer FROM reference
               WHERE kind = $9 AND scope = c.scope AND namespace = c.namespace AND name = c.name OFFSET 0) AS f
             WHERE c.uid = $1 AND s.uid = f.referrer AND s.uid <> $1
             RETURNING s.uid),
           made AS (
             INSERT INTO revision (source_uid, revision, commit_id, subject, config_digest, artifact_digest, verified)
             VALUES ($1, $2, $3, $4, $5, $6, $8)
             ON CONFLICT (source_uid, revision, config_digest, artifact_digest) DO UPDATE SET subject = $4, verified = $8
             RETURNING id)
           SELECT made.id AS "id!", coalesce((SELECT array_agg(uid) FROM including), '{}') AS "including!" FROM made"#,
        source_uid,
        new.revision,
        new.commit_id,
        new.subject,
        new.config_digest,
        new.artifact_digest,
        i64::try_from(new.artifact_size).unwrap_or(i64::MAX),
        new.verified,
        INCLUDED
    )
    .fetch_one(tx)
    .await?;
    Ok((row.id, row.including))
}
