//! Renderings: one row per distinct input. Written before rendering starts, so that what is due survives a crash.

use uuid::Uuid;

use super::{
    Result, Store, StoreError, Topic,
    content::{Blob, put_content, put_objects},
    nudge,
};
use crate::auth::seal::Seal;

/// A rendering's row.
#[derive(Debug, Clone)]
pub struct RenderedRow {
    /// Source revision.
    pub revision_id: i64,
    /// `Pending`, `Done`, `Failed`, `NotSupported`.
    pub state: String,
    /// What came out.
    pub content: Option<Vec<u8>>,
    /// Condition reason of a failure.
    pub reason: String,
    /// Message of a failure.
    pub message: String,
    /// Attempts so far.
    pub attempts: i32,
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
    /// It failed; the last good content stays.
    Failed {
        /// Condition reason.
        reason: String,
        /// Message.
        message: String,
    },
    /// It could not be done now; it stays due.
    Again {
        /// Message.
        message: String,
    },
    /// It uses what this release does not reconcile.
    NotSupported {
        /// Message.
        message: String,
    },
}

impl Store {
    /// Records that a rendering is due, and returns its row.
    pub async fn ensure_rendered(
        &self,
        app_uid: Uuid,
        variant: &[u8],
        revision_id: i64,
    ) -> Result<RenderedRow> {
        sqlx::query!(
            "INSERT INTO rendered (app_uid, variant, revision_id, state) VALUES ($1, $2, $3, 'Pending')
             ON CONFLICT DO NOTHING",
            app_uid,
            variant,
            revision_id
        )
        .execute(self.pool())
        .await?;
        Ok(sqlx::query_as!(
            RenderedRow,
            "SELECT revision_id, state, content, reason, message, attempts FROM rendered
             WHERE app_uid = $1 AND variant = $2 AND revision_id = $3",
            app_uid,
            variant,
            revision_id
        )
        .fetch_one(self.pool())
        .await?)
    }

    /// The newest good rendering of a variant. Its content may be admitted.
    pub async fn newest_rendered(&self, app_uid: Uuid, variant: &[u8]) -> Result<Option<RenderedRow>> {
        Ok(sqlx::query_as!(
            RenderedRow,
            "SELECT revision_id, state, content, reason, message, attempts FROM rendered
             WHERE app_uid = $1 AND variant = $2 AND state = 'Done' ORDER BY revision_id DESC LIMIT 1",
            app_uid,
            variant
        )
        .fetch_optional(self.pool())
        .await?)
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
        key: (Uuid, &[u8], i64),
        outcome: &Outcome,
        duration_ms: i32,
        seal: &Seal,
    ) -> Result<()> {
        let (app_uid, variant, revision_id) = key;
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
            Outcome::Again { message } => ("Pending", None, "", message.as_str()),
            Outcome::NotSupported { message } => ("NotSupported", None, "NotSupported", message.as_str()),
        };
        let reads = match outcome {
            Outcome::Done { reads, .. } => reads.as_deref(),
            Outcome::Unchanged(known) => Some(&known.reads[..]),
            _ => None,
        };
        sqlx::query!(
            "UPDATE rendered SET state = $4, content = $5, reason = $6, message = $7, duration_ms = $8,
                    attempts = attempts + 1, finished_at = now(), reads = $9
             WHERE app_uid = $1 AND variant = $2 AND revision_id = $3",
            app_uid,
            variant,
            revision_id,
            state,
            content,
            reason,
            message,
            duration_ms,
            reads
        )
        .execute(&mut *tx)
        .await?;
        if reads.is_some() {
            // Only the newest is ever compared with.
            sqlx::query!(
                "UPDATE rendered SET reads = NULL
                 WHERE app_uid = $1 AND variant = $2 AND revision_id < $3 AND reads IS NOT NULL",
                app_uid,
                variant,
                revision_id
            )
            .execute(&mut *tx)
            .await?;
        }
        nudge(&mut tx, Topic::App, &[app_uid]).await?;
        tx.commit().await?;
        Ok(())
    }
}
