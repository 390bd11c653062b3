//! What is kept, and what goes: by roots. Roots are the present state of sources and units, what is published, what
//! agents hold, have applied and had healthy, the history, and of each app the last [`KEPT`] rollouts and renderings.
//! What no root reaches goes when it was not touched for a day: whoever begins to use a row touches it first, and a
//! foreign key holds what is used all the same.

use super::{Result, Store};

/// Rollouts of an app, and renderings of an input, that are kept.
pub const KEPT: i64 = 20;
/// Rows that one statement looks at to remove them: it ends well before the server ends it.
const ROWS: usize = 5000;
/// Rollouts whose admissions one statement removes, each of thousands.
const ROLLOUTS: usize = 20;

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
        // First: with its rollout each goes by itself.
        self.remove_admissions().await?;
        let rollouts = self.remove_rollouts().await?;
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
        let targets = self.remove_targets().await?;
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
        sqlx::query!(
            "DELETE FROM part p WHERE p.referenced_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM content_part c WHERE c.part = p.digest)"
        )
        .execute(self.pool())
        .await?;
        let objects = sqlx::query!(
            "DELETE FROM object o WHERE o.referenced_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM part_object p WHERE p.object = o.digest)"
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

    /// Of each rollout all or none: what is left of one that goes on again would be taken for all of it.
    async fn remove_admissions(&self) -> Result<()> {
        let ended = sqlx::query_scalar!(
            "SELECT r.id FROM rollout r WHERE r.finished_at < now() - interval '1 day'
               AND EXISTS (SELECT FROM admission a WHERE a.rollout_id = r.id) ORDER BY r.id"
        )
        .fetch_all(self.pool())
        .await?;
        for rollouts in ended.chunks(ROLLOUTS) {
            // How it ended stands in the rollout.
            sqlx::query!(
                "WITH ended AS (
                   SELECT id FROM rollout WHERE id = ANY ($1) AND finished_at < now() - interval '1 day'
                   ORDER BY id FOR NO KEY UPDATE)
                 DELETE FROM admission a USING ended WHERE a.rollout_id = ended.id",
                rollouts
            )
            .execute(self.pool())
            .await?;
        }
        Ok(())
    }

    async fn remove_rollouts(&self) -> Result<u64> {
        let passed = sqlx::query_scalar!(
            "SELECT l.id FROM (
               SELECT id, state, finished_at, row_number() OVER (PARTITION BY app_uid ORDER BY id DESC) AS place
               FROM rollout) AS l
             WHERE l.place > $1 AND l.state <> 'Progressing' AND l.finished_at < now() - interval '1 day'
               AND NOT EXISTS (SELECT 1 FROM unit u WHERE u.rollout_id = l.id)",
            KEPT
        )
        .fetch_all(self.pool())
        .await?;
        let mut removed = 0;
        for rollouts in passed.chunks(ROWS) {
            let gone = sqlx::query!(
                "DELETE FROM rollout r WHERE r.id = ANY ($1) AND r.state <> 'Progressing'
                   AND NOT EXISTS (SELECT 1 FROM unit u WHERE u.rollout_id = r.id)",
                rollouts
            );
            removed += gone.execute(self.pool()).await?.rows_affected();
        }
        Ok(removed)
    }

    async fn remove_targets(&self) -> Result<u64> {
        let mut removed = 0;
        let mut after = Some(Vec::new());
        while let Some(last) = after {
            let page = sqlx::query!(
                r#"WITH page AS MATERIALIZED (
                     SELECT digest FROM target WHERE digest > $1 AND referenced_at < now() - interval '1 day'
                     ORDER BY digest LIMIT $2),
                   gone AS (
                     DELETE FROM target t USING page
                     WHERE t.digest = page.digest AND t.referenced_at < now() - interval '1 day'
                       AND NOT EXISTS (SELECT 1 FROM unit u WHERE u.target = t.digest)
                       AND NOT EXISTS (SELECT 1 FROM unit_accepted a WHERE a.target = t.digest)
                       AND NOT EXISTS (SELECT 1 FROM unit_status s WHERE s.attempted = t.digest)
                       AND NOT EXISTS (SELECT 1 FROM unit_status s WHERE s.applied = t.digest)
                       AND NOT EXISTS (SELECT 1 FROM unit_status s WHERE s.healthy = t.digest)
                       AND NOT EXISTS (SELECT 1 FROM history h WHERE h.target = t.digest)
                     RETURNING t.digest)
                   SELECT (SELECT digest FROM page ORDER BY digest DESC LIMIT 1) AS last,
                          (SELECT count(*) FROM page) AS "rows!", (SELECT count(*) FROM gone) AS "removed!""#,
                last,
                i64::try_from(ROWS).unwrap_or(i64::MAX)
            )
            .fetch_one(self.pool())
            .await?;
            removed += page.removed.unsigned_abs();
            after = page.last.filter(|_| usize::try_from(page.rows) == Ok(ROWS));
        }
        Ok(removed)
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
