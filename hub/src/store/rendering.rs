//! Renderings: one row per distinct input, shared by all apps that have it. An attempt is counted before it begins, so
//! that an input which ends the hub fails after a few attempts and does not end it for ever. One that did not work
//! waits until its time in the row; nothing here wakes the app that renders.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use flotilla_core::{digest::Digest, source::paths};
use uuid::Uuid;

use super::{
    Connection, Result, Store, StoreError,
    content::{Blob, PreparedContent, put_content},
};
use crate::auth::seal::Seal;

/// After so many attempts that did not survive a rendering has failed.
pub const MAX_LOST: i32 = 3;
const LOST: &str =
    "the hub ended 3 times while it rendered this; it is not tried again until the source or the app changes";
/// Paths kept of one rendering: of more, directories stand for what is below them.
const MAX_PATHS: usize = 20_000;
/// Paths of a change that renderings are asked for: of more, whatever was looked at may be concerned.
const MAX_CHANGED: usize = 50_000;

/// What an app is rendered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// The app.
    pub app: Uuid,
    /// Its source.
    pub source: Uuid,
    /// The source's present revision.
    pub revision: i64,
    /// Digest of engine and fields.
    pub fields: Digest,
    /// Digest of the source and those: what the source's commits are compared for.
    pub key: Digest,
    /// Digest of the artifact and those: what is rendered once.
    pub rendering: Digest,
}

impl Input {
    /// The input of `app`, whose engine and fields have the digest `fields`.
    pub fn new(app: Uuid, fields: Digest, source: Uuid, revision: i64, artifact: &str) -> Self {
        let key = [&fields.as_bytes()[..], source.as_bytes()].concat();
        Self {
            app,
            source,
            revision,
            fields,
            key: Digest::of("input", &key),
            rendering: rendering_digest(&fields, artifact),
        }
    }
}

fn rendering_digest(fields: &Digest, artifact: &str) -> Digest {
    Digest::of(
        "rendering",
        &[&fields.as_bytes()[..], artifact.as_bytes()].concat(),
    )
}

/// Paths as recorded: a few equal hashes of different paths cost a rendering each, and nothing else.
fn hashes(paths: &BTreeSet<String>) -> Vec<i64> {
    let hash = |path: &String| {
        let digest = Digest::of("path", path.as_bytes());
        i64::from_le_bytes(digest.as_bytes()[..8].try_into().unwrap_or_default())
    };
    paths.iter().map(hash).collect()
}

/// What a source's new revision may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// The revision before it cannot be compared with.
    Anything,
    /// Only what looked at one of these paths.
    Paths(BTreeSet<String>),
}

/// A rendering as recorded.
#[derive(Debug, Clone)]
pub struct RenderingRow {
    /// `Pending`, `Done`, `Failed`, `NotSupported`.
    pub state: String,
    /// What came out.
    pub content: Option<Vec<u8>>,
    /// Condition reason of a failure.
    pub reason: String,
    /// Message of a failure.
    pub message: String,
    /// Attempts begun.
    pub attempts: i32,
    /// Attempts that ended with the process that made them.
    pub lost: i32,
    /// Seconds until it may be attempted; 0 when it may be now.
    pub wait_seconds: f64,
}

impl RenderingRow {
    /// How long a pending rendering waits; `None` when it is due.
    pub fn wait(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.wait_seconds)
            .ok()
            .filter(|wait| !wait.is_zero())
    }
}

/// What an input renders to at its source's present revision.
#[derive(Debug, Clone)]
pub struct InputRow {
    /// Digest of the rendering: an older revision's where nothing has changed for this input since.
    pub rendering: Digest,
    /// It is recorded as the app's.
    pub is_named: bool,
}

/// How a rendering ended.
pub enum Outcome {
    /// Objects came out.
    Done {
        /// Digest of the content manifest.
        content: [u8; 32],
        /// The manifest's bytes.
        manifest: Arc<[u8]>,
        /// The objects.
        objects: Arc<[Blob]>,
        /// The paths that were looked at, if the engine records them.
        paths: Option<BTreeSet<String>>,
    },
    /// It failed; units keep their target.
    Failed {
        /// Condition reason.
        reason: String,
        /// Message.
        message: String,
    },
    /// It could not be done now; it is due again after a while.
    Again {
        /// Condition reason.
        reason: String,
        /// Message.
        message: String,
        /// Until it is due.
        after: Duration,
    },
    /// It uses what this release does not reconcile.
    NotSupported {
        /// Message.
        message: String,
    },
}

impl Store {
    /// Reads what an input renders to now; `None` for one that nobody had yet. `Conflict` when the source has moved on
    /// since its revision was read.
    pub async fn input(&self, input: &Input) -> Result<Option<InputRow>> {
        let row = sqlx::query!(
            r#"SELECT t.rendering, (a.input_key = t.input_key) IS TRUE AS "is_named!", s.revision_id
               FROM input_at t JOIN source_state s ON s.uid = t.source_uid LEFT JOIN app_input a ON a.app_uid = $1
               WHERE t.input_key = $2 AND t.newest"#,
            input.app,
            input.key.as_bytes()
        )
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        if row.revision_id != Some(input.revision) {
            return Err(StoreError::Conflict("the app's source"));
        }
        let rendering = Digest::try_from_slice(&row.rendering);
        Ok(Some(InputRow {
            rendering: rendering.map_err(|e| StoreError::corrupt(format!("input of {}", input.app), e))?,
            is_named: row.is_named,
        }))
    }

    /// Records that an app has this input. `Conflict` when the source has moved on since its revision was read.
    pub async fn take_input(&self, input: &Input) -> Result<()> {
        let taken = sqlx::query_scalar!(
            r#"WITH source AS (SELECT uid FROM source_state WHERE uid = $3 AND revision_id = $4 FOR SHARE),
               named AS (INSERT INTO app_input (app_uid, input_key) SELECT $1, $2 FROM source
                 ON CONFLICT (app_uid) DO UPDATE SET input_key = $2),
               added AS (INSERT INTO input_at (input_key, revision_id, source_uid, fields, rendering, newest)
                 SELECT $2, $4, $3, $5, $6, true FROM source
                 WHERE NOT EXISTS (SELECT 1 FROM input_at WHERE input_key = $2 AND newest)
                 ON CONFLICT (input_key, revision_id) DO UPDATE SET newest = true, until_id = NULL, rendering = $6)
               SELECT count(*) AS "taken!" FROM source"#,
            input.app,
            input.key.as_bytes(),
            input.source,
            input.revision,
            input.fields.as_bytes(),
            input.rendering.as_bytes()
        )
        .fetch_one(self.pool())
        .await;
        match taken {
            Ok(1) => Ok(()),
            Ok(_) => Err(StoreError::Conflict("the app's source")),
            // Another app was as fast with the same input.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(StoreError::Conflict("the app's input"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a rendering.
    pub async fn rendering(&self, digest: &Digest) -> Result<Option<RenderingRow>> {
        Ok(sqlx::query_as!(
            RenderingRow,
            r#"SELECT state, content, reason, message, attempts, lost,
                      greatest(extract(epoch FROM not_before - now())::float8, 0) AS "wait_seconds!"
               FROM rendering WHERE digest = $1"#,
            digest.as_bytes()
        )
        .fetch_optional(self.pool())
        .await?)
    }

    /// Counts an attempt and takes the rendering for `replica`, for at most `lease`. Returns the number of the
    /// attempt, or `None` when it is not due, has failed, or another replica that lives is at it. What this replica
    /// itself took and never ended it may take again: it does a rendering once at a time. What another took and neither
    /// ended nor gave back counts as lost with its process, until that says that it lives.
    pub async fn begin_rendering(
        &self,
        digest: &Digest,
        replica: &str,
        lease: Duration,
    ) -> Result<Option<i32>> {
        let begun = sqlx::query!(
            "INSERT INTO rendering (digest, state, attempts, begun_by, not_before)
             VALUES ($1, 'Pending', 1, $2, now() + make_interval(secs => $3))
             ON CONFLICT (digest) DO UPDATE SET attempts = rendering.attempts + 1, begun_by = $2,
               not_before = now() + make_interval(secs => $3),
               lost = rendering.lost + (rendering.begun_by NOT IN ('', $2))::int,
               state = CASE WHEN rendering.begun_by NOT IN ('', $2) AND rendering.lost + 1 >= $4
                 THEN 'Failed' ELSE 'Pending' END,
               reason = CASE WHEN rendering.begun_by NOT IN ('', $2) AND rendering.lost + 1 >= $4
                 THEN 'BuildFailed' ELSE rendering.reason END,
               message = CASE WHEN rendering.begun_by NOT IN ('', $2) AND rendering.lost + 1 >= $4
                 THEN $5 ELSE rendering.message END
             WHERE rendering.state = 'Pending' AND (rendering.not_before <= now() OR rendering.begun_by = $2
               OR rendering.begun_by <> '' AND NOT EXISTS (SELECT 1 FROM replica r
                    WHERE r.name = rendering.begun_by AND is_alive(r.heartbeat)))
             RETURNING attempts, state",
            digest.as_bytes(),
            replica,
            lease.as_secs_f64(),
            MAX_LOST,
            LOST
        )
        // It outlives whatever the rendering may end: the hub, and with it a server that ends without a word.
        .fetch_optional(self.ordinary())
        .await?;
        Ok(begun.filter(|row| row.state == "Pending").map(|row| row.attempts))
    }

    /// Lets `replica` keep a rendering at whose `attempt` it still is. `false`: another attempt was begun, which counted this
    /// one as ended; since it has not, that is taken back.
    pub async fn keep_rendering(
        &self,
        digest: &Digest,
        replica: &str,
        attempt: i32,
        lease: Duration,
    ) -> Result<bool> {
        let kept = sqlx::query_scalar!(
            r#"WITH kept AS (
                 UPDATE rendering SET not_before = greatest(not_before, now() + make_interval(secs => $4))
                 WHERE digest = $1 AND begun_by = $2 AND attempts = $3 AND state = 'Pending'),
               taken AS (
                 UPDATE rendering SET lost = lost - 1, state = 'Pending',
                   begun_by = CASE state WHEN 'Failed' THEN '' ELSE begun_by END,
                   not_before = CASE state WHEN 'Failed' THEN now() ELSE not_before END,
                   reason = CASE state WHEN 'Failed' THEN '' ELSE reason END,
                   message = CASE state WHEN 'Failed' THEN '' ELSE message END
                 WHERE digest = $1 AND attempts > $3 AND lost > 0
                   AND (state = 'Pending' OR state = 'Failed' AND message = $5))
               SELECT NOT EXISTS (SELECT FROM rendering WHERE digest = $1 AND attempts > $3) AS "kept!""#,
            digest.as_bytes(),
            replica,
            attempt,
            lease.as_secs_f64(),
            LOST
        )
        .fetch_one(self.ordinary())
        .await?;
        Ok(kept)
    }

    /// Gives back a rendering at whose `attempt` `replica` is no longer, though it did not end it.
    pub async fn release_rendering(&self, digest: &Digest, replica: &str, attempt: i32) -> Result<()> {
        sqlx::query!(
            "UPDATE rendering SET begun_by = '', not_before = now()
             WHERE digest = $1 AND begun_by = $2 AND attempts = $3 AND state = 'Pending'",
            digest.as_bytes(),
            replica,
            attempt
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Gives back a rendering that `replica` had begun and could not end: the attempt does not count.
    pub async fn give_back_rendering(&self, digest: &Digest, replica: &str) -> Result<()> {
        sqlx::query!(
            "UPDATE rendering SET begun_by = '', not_before = now(), attempts = greatest(attempts - 1, 0)
             WHERE digest = $1 AND begun_by = $2 AND state = 'Pending'",
            digest.as_bytes(),
            replica
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Counts as lost what `replica` had begun when it ended without a word; one lost too often has failed. Returns
    /// how many there were. Called at the replica's start.
    pub async fn count_lost_renderings(&self, replica: &str) -> Result<u64> {
        let done = sqlx::query!(
            "UPDATE rendering SET lost = lost + 1, begun_by = '', not_before = now(),
               state = CASE WHEN lost + 1 >= $2 THEN 'Failed' ELSE state END,
               reason = CASE WHEN lost + 1 >= $2 THEN 'BuildFailed' ELSE reason END,
               message = CASE WHEN lost + 1 >= $2 THEN $3 ELSE message END
             WHERE begun_by = $1 AND state = 'Pending'",
            replica,
            MAX_LOST,
            LOST
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }

    /// Records how a rendering ended: objects, manifest and row in one transaction, in which the other apps of the same
    /// input are woken.
    pub async fn record_rendered(
        &self,
        app: Uuid,
        digest: &Digest,
        outcome: &Outcome,
        duration_ms: i32,
        seal: &Arc<Seal>,
    ) -> Result<()> {
        // Before the transaction begins.
        let prepared = match outcome {
            Outcome::Done {
                content,
                manifest,
                objects,
                ..
            } => {
                let known = self.known(app, objects).await?;
                Some(PreparedContent::of(*content, manifest, objects, known, seal).await?)
            }
            _ => None,
        };
        let mut tx = self.pool().begin().await?;
        if let Some(prepared) = &prepared {
            put_content(&mut tx, prepared).await?;
        }
        let (state, content, reason, message) = match outcome {
            Outcome::Done { content, .. } => ("Done", Some(content.to_vec()), "", ""),
            Outcome::Failed { reason, message } => ("Failed", None, reason.as_str(), message.as_str()),
            Outcome::Again { reason, message, .. } => ("Pending", None, reason.as_str(), message.as_str()),
            Outcome::NotSupported { message } => ("NotSupported", None, "NotSupported", message.as_str()),
        };
        let paths: Option<Vec<i64>> = match outcome {
            Outcome::Done {
                paths: Some(paths), ..
            } => Some(hashes(&paths::looked_at(paths, MAX_PATHS))),
            _ => None,
        };
        let after = match outcome {
            Outcome::Again { after, .. } => *after,
            _ => Duration::ZERO,
        };
        let told = sqlx::query!(
            r#"WITH ended AS (
                 UPDATE rendering SET state = $2, content = $3, reason = $4, message = $5, duration_ms = $6,
                        begun_by = '', not_before = now() + make_interval(secs => $7), finished_at = now(), paths = $8
                 -- Another may have ended it meanwhile: then only what came of it counts.
                 WHERE digest = $1 AND (state = 'Pending' OR $2 = 'Done')),
               apps AS (
                 SELECT a.app_uid AS key FROM input_at t JOIN app_input a ON a.input_key = t.input_key
                 WHERE t.newest AND t.rendering = $1 AND $2 <> 'Pending' ORDER BY 1),
               -- The one that renders goes on with it. Its mark stays as it took it; where it had none, a failed
               -- attempt after its time say, it gets one, or what comes of this would be nobody's if its plan fails.
               marked AS (
                 INSERT INTO due (topic, key) SELECT 'app', key FROM apps
                 ON CONFLICT (topic, key) DO UPDATE SET change = due.change + 1, at = now() WHERE due.key <> $9),
               others AS (SELECT key FROM apps WHERE key <> $9)
               INSERT INTO outbox (topic, keys) SELECT 'app', array_agg(key) FROM others HAVING count(*) > 0"#,
            digest.as_bytes(),
            state,
            content,
            reason,
            message,
            duration_ms,
            after.as_secs_f64(),
            paths.as_deref(),
            app
        )
        .execute(&mut *tx)
        .await?;
        if told.rows_affected() > 0 {
            tx.wakes();
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Moves a source's inputs to its new revision, whose artifact is given: those that a change may concern get a rendering
/// to be made, all others keep theirs and cost nothing. Returns the apps to plan. The source's state is held by the
/// caller's transaction.
pub(super) async fn move_inputs(
    tx: &mut Connection,
    source: Uuid,
    former: Option<i64>,
    revision: i64,
    artifact: &str,
    changes: &Changes,
) -> Result<Vec<Uuid>> {
    let paths: Option<Vec<i64>> = match changes {
        Changes::Anything => None,
        Changes::Paths(paths) => Some(paths::changed(paths))
            .filter(|paths| paths.len() <= MAX_CHANGED)
            .map(|paths| hashes(&paths)),
    };
    let concerned = sqlx::query!(
        r#"UPDATE input_at t SET newest = false, until_id = $3
           FROM input_at old LEFT JOIN rendering r ON r.digest = old.rendering
           WHERE old.source_uid = $1 AND old.newest AND t.input_key = old.input_key AND t.revision_id = old.revision_id
             -- Each path that was looked at is looked up once. Arrays that are compared, and joins of what the server knows
             -- nothing of, take each with each.
             AND ($2::bigint[] IS NULL OR r.paths IS NULL OR EXISTS (
               SELECT FROM unnest(r.paths) AS read WHERE (read IN (SELECT * FROM unnest($2))) IS TRUE))
           RETURNING t.input_key, t.fields"#,
        source,
        paths.as_deref(),
        former
    )
    .fetch_all(&mut *tx)
    .await?;
    let (mut keys, mut fields, mut renderings) = (vec![], vec![], vec![]);
    for row in concerned {
        let digest = Digest::try_from_slice(&row.fields)
            .map_err(|e| StoreError::corrupt(format!("input of source {source}"), e))?;
        renderings.push(rendering_digest(&digest, artifact).as_bytes().to_vec());
        keys.push(row.input_key);
        fields.push(row.fields);
    }
    // An input that no app has any more is left behind. An app without one waits for its source's first revision.
    Ok(sqlx::query_scalar!(
        r#"WITH moved AS (
             INSERT INTO input_at (input_key, revision_id, source_uid, fields, rendering, newest)
             SELECT k, $2, $1, f, r, true FROM unnest($3::bytea[], $4::bytea[], $5::bytea[]) AS v(k, f, r)
             WHERE EXISTS (SELECT 1 FROM app_input a WHERE a.input_key = k)
             ON CONFLICT (input_key, revision_id) DO UPDATE SET newest = true, until_id = NULL,
               rendering = excluded.rendering
             RETURNING input_key)
           SELECT a.app_uid AS "app!" FROM moved m JOIN app_input a ON a.input_key = m.input_key
           UNION
           SELECT r.uid FROM resource s
             JOIN reference f ON (f.kind, f.scope, f.namespace, f.name) = (s.kind, s.scope, s.namespace, s.name)
             JOIN resource r ON r.uid = f.referrer AND is_app(r.kind)
           WHERE s.uid = $1 AND NOT EXISTS (SELECT 1 FROM app_input i
               JOIN input_at t ON t.input_key = i.input_key AND t.source_uid = $1 WHERE i.app_uid = r.uid)
           ORDER BY 1"#,
        source,
        revision,
        &keys,
        &fields,
        &renderings
    )
    .fetch_all(&mut *tx)
    .await?)
}

/// The apps that wait for an artifact that is here again: their renderings are due at once.
pub(super) async fn restore(tx: &mut Connection, source: Uuid) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        "WITH waiting AS (
           UPDATE rendering r SET not_before = now() FROM input_at t
           WHERE t.source_uid = $1 AND t.newest AND r.digest = t.rendering AND r.state = 'Pending' AND r.begun_by = ''
           RETURNING t.input_key)
         SELECT a.app_uid FROM waiting w JOIN app_input a ON a.input_key = w.input_key ORDER BY 1",
        source
    )
    .fetch_all(&mut *tx)
    .await?)
}
