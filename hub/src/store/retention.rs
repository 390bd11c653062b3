//! What is kept, and what goes: by roots. Roots are the present state of sources and units, what is published, what
//! agents hold, have applied and had healthy, the history, and of each app the last [`KEPT`] rollouts and renderings.
//! What no root reaches goes when it was not touched for a day: whoever begins to use a row touches it first, and a
//! foreign key holds what is used all the same.

use super::{Result, Store};

/// Rollouts of an app, and renderings of an input, that are kept.
pub const KEPT: i64 = 20;

/// What one look removed, in rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Rollouts.
    pub rollouts: u64,
    /// Renderings.
    pub renderings: u64,
    /// Revisions.
    pub revisions: u64,
    /// Targets.
    pub targets: u64,
    /// Contents.
    pub contents: u64,
    /// Objects.
    pub objects: u64,
    /// Values of variable layers.
    pub configs: u64,
    /// Artifacts.
    pub artifacts: u64,
}

impl Store {
    /// Removes what no root reaches. Each step frees what the next one looks at.
    pub async fn remove_unused(&self) -> Result<Removed> {
        let rollouts = sqlx::query!(
            "DELETE FROM rollout r
             USING (SELECT id, row_number() OVER (PARTITION BY app_uid ORDER BY id DESC) AS place FROM rollout) l
             WHERE l.id = r.id AND l.place > $1 AND r.state <> 'Progressing'
               AND r.finished_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM unit u WHERE u.rollout_id = r.id)",
            KEPT
        )
        .execute(self.pool())
        .await?
        .rows_affected();
        // How it ended stands in the rollout.
        sqlx::query!(
            "DELETE FROM admission a USING rollout r
             WHERE r.id = a.rollout_id AND r.finished_at < now() - interval '1 day'"
        )
        .execute(self.pool())
        .await?;
        sqlx::query!(
            "DELETE FROM input_at t WHERE NOT t.newest AND (
               NOT EXISTS (SELECT 1 FROM app_input a WHERE a.input_key = t.input_key)
               OR (SELECT count(*) FROM input_at n WHERE n.input_key = t.input_key AND n.until_id > t.until_id) >= $1)",
            KEPT
        )
        .execute(self.pool())
        .await?;
        let renderings = sqlx::query!(
            "DELETE FROM rendering r WHERE coalesce(r.finished_at, r.created_at) < now() - interval '1 day'
               AND r.begun_by = '' AND NOT EXISTS (SELECT 1 FROM input_at t WHERE t.rendering = r.digest)"
        )
        .execute(self.pool())
        .await?
        .rows_affected();
        let revisions = sqlx::query!(
            "DELETE FROM revision v WHERE v.created_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM source_state s WHERE s.revision_id = v.id)
               AND NOT EXISTS (SELECT 1 FROM input_at t WHERE t.revision_id = v.id OR t.until_id = v.id)
               AND NOT EXISTS (SELECT 1 FROM unit u WHERE u.revision_id = v.id)
               AND NOT EXISTS (SELECT 1 FROM rollout r WHERE r.revision_id = v.id)"
        )
        .execute(self.pool())
        .await?
        .rows_affected();
        let targets = sqlx::query!(
            "DELETE FROM target t WHERE t.referenced_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM unit u WHERE u.target = t.digest)
               AND NOT EXISTS (SELECT 1 FROM unit_accepted a WHERE a.target = t.digest)
               AND NOT EXISTS (SELECT 1 FROM unit_status s WHERE s.attempted = t.digest)
               AND NOT EXISTS (SELECT 1 FROM unit_status s WHERE s.applied = t.digest)
               AND NOT EXISTS (SELECT 1 FROM unit_status s WHERE s.healthy = t.digest)
               AND NOT EXISTS (SELECT 1 FROM history h WHERE h.target = t.digest)"
        )
        .execute(self.pool())
        .await?
        .rows_affected();
        sqlx::query!(
            "DELETE FROM keyset k WHERE k.referenced_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM target t WHERE t.keyset = k.digest)"
        )
        .execute(self.pool())
        .await?;
        let contents = sqlx::query!(
            "DELETE FROM content c WHERE c.referenced_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM rendering r WHERE r.content = c.digest)
               AND NOT EXISTS (SELECT 1 FROM target t WHERE t.content = c.digest)
               AND NOT EXISTS (SELECT 1 FROM rollout r WHERE r.content = c.digest)
               AND NOT EXISTS (SELECT 1 FROM desired_entry e WHERE e.content = c.digest)"
        )
        .execute(self.pool())
        .await?
        .rows_affected();
        let objects = sqlx::query!(
            "DELETE FROM object o WHERE o.referenced_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM content_object c WHERE c.object = o.digest)"
        )
        .execute(self.pool())
        .await?
        .rows_affected();
        let configs = sqlx::query!(
            "DELETE FROM config_value v WHERE v.referenced_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM target t WHERE v.digest = ANY (t.configs))
               AND NOT EXISTS (SELECT 1 FROM desired_entry e WHERE v.digest = ANY (e.configs))"
        )
        .execute(self.pool())
        .await?
        .rows_affected();
        let artifacts = sqlx::query!(
            "DELETE FROM artifact a WHERE a.referenced_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM revision v WHERE v.artifact_digest = a.digest)"
        )
        .execute(self.pool())
        .await?
        .rows_affected();
        Ok(Removed {
            rollouts,
            renderings,
            revisions,
            targets,
            contents,
            objects,
            configs,
            artifacts,
        })
    }

    /// Which of these artifacts are known.
    pub async fn known_artifacts(&self, digests: &[String]) -> Result<Vec<String>> {
        Ok(
            sqlx::query_scalar!("SELECT digest FROM artifact WHERE digest = ANY($1)", digests)
                .fetch_all(self.pool())
                .await?,
        )
    }
}
