//! Renderings: one row per distinct input. An attempt is counted before it begins, so that an input which ends the
//! hub fails after a few attempts and does not end it for ever. One that did not work waits until its time in the
//! row; nothing here wakes the app again.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Result, Store, StoreError,
    content::{Blob, put_content, put_objects},
};
use crate::auth::seal::Seal;

/// After so many attempts that did not survive a rendering has failed.
pub const MAX_LOST: i32 = 3;
const LOST: &str =
    "the hub ended 3 times while it rendered this; it is not tried again until the source or the app changes";

/// What identifies a rendering.
#[derive(Debug, Clone, Copy)]
pub struct RenderingKey<'a> {
    /// The app.
    pub app: Uuid,
    /// Digest of the input without the artifact.
    pub variant: &'a [u8],
    /// Source revision.
    pub revision: i64,
}

/// A rendering as recorded.
#[derive(Debug, Clone)]
pub struct RenderedRow {
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

impl RenderedRow {
    /// How long a pending rendering waits; `None` when it is due.
    pub fn wait(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.wait_seconds)
            .ok()
            .filter(|wait| !wait.is_zero())
    }
}

/// A good rendering, and what it read.
#[derive(Debug, Clone)]
pub struct Known {
    /// What came out.
    pub content: [u8; 32],
    /// What was read, as the engine's side encodes it.
    pub reads: Vec<u8>,
}

/// How a rendering ended.
pub enum Outcome {
    /// Objects came out.
    Done {
        /// Digest of the content manifest.
        content: [u8; 32],
        /// The manifest's bytes.
        manifest: Vec<u8>,
        /// The objects.
        objects: Vec<Blob>,
        /// What was read, if the engine records it.
        reads: Option<Vec<u8>>,
    },
    /// What an earlier rendering read is as it was: its content is this one's.
    Unchanged(Known),
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
    /// Reads a rendering.
    pub async fn rendering(&self, key: RenderingKey<'_>) -> Result<Option<RenderedRow>> {
        Ok(sqlx::query_as!(
            RenderedRow,
            r#"SELECT state, content, reason, message, attempts, lost,
                      greatest(extract(epoch FROM not_before - now())::float8, 0) AS "wait_seconds!"
               FROM rendered WHERE app_uid = $1 AND variant = $2 AND revision_id = $3"#,
            key.app,
            key.variant,
            key.revision
        )
        .fetch_optional(self.pool())
        .await?)
    }

    /// Counts an attempt and takes the rendering for `replica`, for at most `lease`. Returns the number of the
    /// attempt, or `None` when it is not due, has failed, or another replica that lives is at it. What this replica
    /// itself took and never ended it may take again: it works at one app once at a time. What another took and did not
    /// end is lost.
    pub async fn begin_rendering(
        &self,
        key: RenderingKey<'_>,
        replica: &str,
        lease: Duration,
    ) -> Result<Option<i32>> {
        let begun = sqlx::query!(
            "INSERT INTO rendered (app_uid, variant, revision_id, state, attempts, begun_by, not_before)
             VALUES ($1, $2, $3, 'Pending', 1, $4, now() + make_interval(secs => $5))
             ON CONFLICT (app_uid, variant, revision_id) DO UPDATE SET attempts = rendered.attempts + 1, begun_by = $4,
               not_before = now() + make_interval(secs => $5),
               lost = rendered.lost + (rendered.begun_by NOT IN ('', $4))::int,
               state = CASE WHEN rendered.begun_by NOT IN ('', $4) AND rendered.lost + 1 >= $6
                 THEN 'Failed' ELSE 'Pending' END,
               reason = CASE WHEN rendered.begun_by NOT IN ('', $4) AND rendered.lost + 1 >= $6
                 THEN 'BuildFailed' ELSE rendered.reason END,
               message = CASE WHEN rendered.begun_by NOT IN ('', $4) AND rendered.lost + 1 >= $6
                 THEN $7 ELSE rendered.message END
             WHERE rendered.state = 'Pending' AND (rendered.not_before <= now() OR rendered.begun_by = $4
               OR rendered.begun_by <> '' AND NOT EXISTS (SELECT 1 FROM replica r
                    WHERE r.name = rendered.begun_by AND is_alive(r.heartbeat)))
             RETURNING attempts, state",
            key.app,
            key.variant,
            key.revision,
            replica,
            lease.as_secs_f64(),
            MAX_LOST,
            LOST
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(begun.filter(|row| row.state == "Pending").map(|row| row.attempts))
    }

    /// Gives back what `replica` had begun, at its orderly end.
    pub async fn release_renderings(&self, replica: &str) -> Result<()> {
        sqlx::query!(
            "UPDATE rendered SET begun_by = '', not_before = now() WHERE begun_by = $1",
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
            "UPDATE rendered SET lost = lost + 1, begun_by = '', not_before = now(),
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

    /// The newest good rendering of a variant whose reads are recorded.
    pub async fn known_rendering(&self, app_uid: Uuid, variant: &[u8]) -> Result<Option<Known>> {
        let row = sqlx::query!(
            r#"SELECT content AS "content!", reads AS "reads!" FROM rendered
               WHERE app_uid = $1 AND variant = $2 AND state = 'Done' AND reads IS NOT NULL
               ORDER BY revision_id DESC LIMIT 1"#,
            app_uid,
            variant
        )
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| {
            let content = row.content.as_slice().try_into();
            let content = content.map_err(|e| StoreError::corrupt(format!("rendering of {app_uid}"), e))?;
            Ok(Known {
                content,
                reads: row.reads,
            })
        })
        .transpose()
    }

    /// Records how a rendering ended: objects, manifest and row in one transaction.
    pub async fn record_rendered(
        &self,
        key: RenderingKey<'_>,
        outcome: &Outcome,
        duration_ms: i32,
        seal: &Seal,
    ) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        let (state, content, reason, message) = match outcome {
            Outcome::Done {
                content,
                manifest,
                objects,
                ..
            } => {
                put_objects(&mut tx, objects, seal).await?;
                put_content(&mut tx, content, manifest, objects.len()).await?;
                ("Done", Some(content.to_vec()), "", "")
            }
            Outcome::Unchanged(known) => ("Done", Some(known.content.to_vec()), "", ""),
            Outcome::Failed { reason, message } => ("Failed", None, reason.as_str(), message.as_str()),
            Outcome::Again { reason, message, .. } => ("Pending", None, reason.as_str(), message.as_str()),
            Outcome::NotSupported { message } => ("NotSupported", None, "NotSupported", message.as_str()),
        };
        let reads = match outcome {
            Outcome::Done { reads, .. } => reads.as_deref(),
            Outcome::Unchanged(known) => Some(&known.reads[..]),
            _ => None,
        };
        let after = match outcome {
            Outcome::Again { after, .. } => *after,
            _ => Duration::ZERO,
        };
        sqlx::query!(
            "UPDATE rendered SET state = $4, content = $5, reason = $6, message = $7, duration_ms = $8,
                    begun_by = '', not_before = now() + make_interval(secs => $10), finished_at = now(), reads = $9
             WHERE app_uid = $1 AND variant = $2 AND revision_id = $3",
            key.app,
            key.variant,
            key.revision,
            state,
            content,
            reason,
            message,
            duration_ms,
            reads,
            after.as_secs_f64()
        )
        .execute(&mut *tx)
        .await?;
        if reads.is_some() {
            // Only the newest is ever compared with.
            sqlx::query!(
                "UPDATE rendered SET reads = NULL
                 WHERE app_uid = $1 AND variant = $2 AND revision_id < $3 AND reads IS NOT NULL",
                key.app,
                key.variant,
                key.revision
            )
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
