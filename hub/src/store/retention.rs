//! What is kept, and what goes: by roots. Roots are the present state of sources and units, what is published, what
//! agents hold, have applied and had healthy, the history, and of each app the last [`KEPT`] rollouts and renderings.
//! What no root reaches goes when it was not touched for a day: whoever begins to use a row touches it first, and a
//! foreign key holds what is used all the same. Of what units name none does: a plan gives them its source's present
//! revision, the rollout that it opens, and a target that it touches.

use super::{Result, Store, StoreError};

/// Rollouts of an app, and renderings of an input, that are kept.
pub const KEPT: i64 = 20;
/// Rows that one statement looks at to remove them: it ends well before the server ends it.
const ROWS: usize = 5000;
/// Contents, and parts, that one statement looks at: with each go hundreds of rows that say what it holds.
const HOLDERS: usize = 500;
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

/// A step of a look that failed; the others were done.
#[derive(Debug, thiserror::Error)]
#[error("removing unused {what} failed")]
pub struct Failed {
    what: &'static str,
    #[source]
    source: StoreError,
}

/// Removes the rows of a table, named by `key`, all of which are after `first`, that have `passed` their time and are
/// `unused`: a part at a time, each in a transaction of its own. A row that somebody is just about to use is left to the next
/// look, and is nobody's wait.
macro_rules! remove_parts {
    ($store:ident, $rows:expr, $table:tt, passed: $passed:tt, unused: $unused:tt) => {
        remove_parts!($store, $rows, $table, key: "digest", first: Vec::new(), passed: $passed, unused: $unused)
    };
    ($store:ident, $rows:expr, $table:tt, key: $key:tt, first: $first:expr, passed: $passed:tt, unused: $unused:tt) => {{
        let mut removed = 0;
        let mut after = Some($first);
        while let Some(last) = after {
            let part = sqlx::query!(
                "WITH page AS MATERIALIZED (
                   SELECT t." + $key + " AS key FROM " + $table + " t WHERE t." + $key + " > $1 AND " + $passed + "
                   ORDER BY t." + $key + " LIMIT $2),
                 free AS MATERIALIZED (
                   SELECT page.key FROM page JOIN " + $table + " t ON t." + $key + " = page.key
                   WHERE " + $passed + " AND " + $unused + " FOR UPDATE OF t SKIP LOCKED),
                 gone AS (
                   DELETE FROM " + $table + " t USING free WHERE t." + $key + " = free.key RETURNING true)
                 SELECT (SELECT key FROM page ORDER BY key DESC LIMIT 1) AS last,
                        (SELECT count(*) FROM page) AS \"rows!\", (SELECT count(*) FROM gone) AS \"removed!\"",
                last,
                i64::try_from($rows).unwrap_or(i64::MAX)
            )
            .fetch_one($store.pool())
            .await?;
            removed += part.removed.unsigned_abs();
            after = part.last.filter(|_| usize::try_from(part.rows) == Ok($rows));
        }
        Ok(removed)
    }};
}

impl Store {
    /// Removes what no root reaches. Each step frees what the next one looks at, and one that fails is in the way of no
    /// other.
    pub async fn remove_unused(&self) -> (Removed, Vec<Failed>) {
        let mut failed = Vec::new();
        let mut count = |what, removed: Result<u64>| {
            removed.unwrap_or_else(|source| {
                failed.push(Failed { what, source });
                0
            })
        };
        // First: with its rollout each goes by itself.
        count("admissions", self.remove_admissions().await);
        let rollouts = count("rollouts", self.remove_rollouts().await);
        count("inputs", self.remove_inputs().await);
        count("inputs of no app", self.remove_left_inputs().await);
        let renderings = count("renderings", self.remove_renderings().await);
        let revisions = count("revisions", self.remove_revisions().await);
        let targets = count("targets", self.remove_targets().await);
        count("sets of keys", self.remove_keysets().await);
        let contents = count("contents", self.remove_contents().await);
        count("parts of contents", self.remove_content_parts().await);
        let objects = count("objects", self.remove_objects().await);
        let configs = count("values of variables", self.remove_configs().await);
        let artifacts = count("artifacts", self.remove_artifacts().await);
        let removed = Removed {
            rollouts,
            renderings,
            revisions,
            targets,
            contents,
            objects,
            configs,
            artifacts,
        };
        (removed, failed)
    }

    /// Of each rollout all or none: what is left of one that goes on again would be taken for all of it.
    async fn remove_admissions(&self) -> Result<u64> {
        let ended = sqlx::query_scalar!(
            "SELECT r.id FROM rollout r WHERE r.finished_at < now() - interval '1 day'
               AND EXISTS (SELECT FROM admission a WHERE a.rollout_id = r.id) ORDER BY r.id"
        )
        .fetch_all(self.pool())
        .await?;
        let mut removed = 0;
        for rollouts in ended.chunks(ROLLOUTS) {
            // How it ended stands in the rollout.
            let gone = sqlx::query!(
                "WITH ended AS (
                   SELECT id FROM rollout WHERE id = ANY ($1) AND finished_at < now() - interval '1 day'
                   ORDER BY id FOR NO KEY UPDATE)
                 DELETE FROM admission a USING ended WHERE a.rollout_id = ended.id",
                rollouts
            );
            removed += gone.execute(self.pool()).await?.rows_affected();
        }
        Ok(removed)
    }

    async fn remove_rollouts(&self) -> Result<u64> {
        let passed = sqlx::query_scalar!(
            "SELECT l.id FROM (
               SELECT id, state, finished_at, row_number() OVER (PARTITION BY app_uid ORDER BY id DESC) AS place
               FROM rollout) AS l
             WHERE l.place > $1 AND l.state <> 'Progressing' AND l.finished_at < now() - interval '1 day'
               -- Those that units name are gone through once: no index has them.
               AND l.id NOT IN (SELECT DISTINCT u.rollout_id FROM unit u WHERE u.rollout_id IS NOT NULL)",
            KEPT
        )
        .fetch_all(self.pool())
        .await?;
        let mut removed = 0;
        for rollouts in passed.chunks(ROWS) {
            let gone = sqlx::query!(
                "DELETE FROM rollout r WHERE r.id = ANY ($1) AND r.state <> 'Progressing'
                   AND r.id NOT IN (SELECT DISTINCT u.rollout_id FROM unit u WHERE u.rollout_id IS NOT NULL)",
                rollouts
            );
            removed += gone.execute(self.pool()).await?.rows_affected();
        }
        Ok(removed)
    }

    /// In parts as the others, named by two columns.
    async fn remove_inputs(&self) -> Result<u64> {
        let mut removed = 0;
        let mut after = Some((Vec::new(), 0));
        while let Some((input, revision)) = after {
            let part = sqlx::query!(
                r#"WITH page AS MATERIALIZED (
                     SELECT t.input_key, t.revision_id FROM input_at t
                     WHERE (t.input_key, t.revision_id) > ($1, $2) AND NOT t.newest
                     ORDER BY t.input_key, t.revision_id LIMIT $3),
                   free AS MATERIALIZED (
                     SELECT t.input_key, t.revision_id
                     FROM page p JOIN input_at t ON (t.input_key, t.revision_id) = (p.input_key, p.revision_id)
                     WHERE NOT t.newest AND (
                       NOT EXISTS (SELECT 1 FROM app_input a WHERE a.input_key = t.input_key)
                       OR EXISTS (SELECT FROM input_at n WHERE n.input_key = t.input_key AND n.until_id > t.until_id
                                  ORDER BY n.until_id OFFSET $4))
                     FOR UPDATE OF t SKIP LOCKED),
                   gone AS (
                     DELETE FROM input_at t USING free f
                     WHERE (t.input_key, t.revision_id) = (f.input_key, f.revision_id) RETURNING true)
                   SELECT p.input_key, p.revision_id, count(*) OVER () AS "rows!",
                          (SELECT count(*) FROM gone) AS "removed!"
                   FROM page p ORDER BY p.input_key DESC, p.revision_id DESC LIMIT 1"#,
                input,
                revision,
                i64::try_from(ROWS).unwrap_or(i64::MAX),
                KEPT - 1
            )
            .fetch_optional(self.pool())
            .await?;
            removed += part.as_ref().map_or(0, |part| part.removed.unsigned_abs());
            let whole = part.filter(|part| usize::try_from(part.rows) == Ok(ROWS));
            after = whole.map(|part| (part.input_key, part.revision_id));
        }
        Ok(removed)
    }

    /// Of what no app is rendered by any more the newest goes as well: it would be looked at with each commit of its source.
    /// Once its rendering is a day old, and with whoever gives an app an input waiting: it would take what is there for its
    /// own.
    async fn remove_left_inputs(&self) -> Result<u64> {
        let sources = sqlx::query_scalar!(
            "SELECT DISTINCT t.source_uid FROM input_at t
             WHERE t.newest AND NOT EXISTS (SELECT FROM app_input a WHERE a.input_key = t.input_key) ORDER BY 1"
        )
        .fetch_all(self.pool())
        .await?;
        let mut removed = 0;
        for source in sources {
            let mut tx = self.pool().begin().await?;
            sqlx::query!("SELECT FROM source_state WHERE uid = $1 FOR UPDATE", source)
                .fetch_optional(&mut *tx)
                .await?;
            let gone = sqlx::query!(
                "DELETE FROM input_at t WHERE t.source_uid = $1 AND t.newest
                   AND NOT EXISTS (SELECT FROM app_input a WHERE a.input_key = t.input_key)
                   AND NOT EXISTS (SELECT FROM rendering x WHERE x.digest = t.rendering
                                     AND coalesce(x.finished_at, x.created_at) > now() - interval '1 day')",
                source
            );
            removed += gone.execute(&mut *tx).await?.rows_affected();
            tx.commit().await?;
        }
        Ok(removed)
    }

    async fn remove_renderings(&self) -> Result<u64> {
        remove_parts!(
            self, ROWS, "rendering",
            passed: "coalesce(t.finished_at, t.created_at) < now() - interval '1 day' AND t.begun_by = ''",
            unused: "NOT EXISTS (SELECT 1 FROM input_at i WHERE i.rendering = t.digest)"
        )
    }

    async fn remove_revisions(&self) -> Result<u64> {
        remove_parts!(
            self, ROWS, "revision", key: "id", first: 0_i64,
            passed: "t.created_at < now() - interval '1 day'",
            unused: "NOT EXISTS (SELECT 1 FROM source_state s WHERE s.revision_id = t.id)
                     AND NOT EXISTS (SELECT 1 FROM input_at i WHERE i.revision_id = t.id)
                     AND NOT EXISTS (SELECT 1 FROM input_at i WHERE i.until_id = t.id)
                     AND t.id NOT IN (SELECT DISTINCT u.revision_id FROM unit u WHERE u.revision_id IS NOT NULL)
                     AND NOT EXISTS (SELECT 1 FROM rollout r WHERE r.revision_id = t.id)"
        )
    }

    async fn remove_targets(&self) -> Result<u64> {
        remove_parts!(
            self, ROWS, "target",
            passed: "t.referenced_at < now() - interval '1 day'",
            unused: "NOT EXISTS (SELECT 1 FROM unit u WHERE u.target = t.digest)
                     AND NOT EXISTS (SELECT 1 FROM unit_accepted a WHERE a.target = t.digest)
                     AND NOT EXISTS (SELECT 1 FROM unit_status s WHERE s.attempted = t.digest)
                     AND NOT EXISTS (SELECT 1 FROM unit_status s WHERE s.applied = t.digest)
                     AND NOT EXISTS (SELECT 1 FROM unit_status s WHERE s.healthy = t.digest)
                     AND NOT EXISTS (SELECT 1 FROM history h WHERE h.target = t.digest)"
        )
    }

    async fn remove_keysets(&self) -> Result<u64> {
        remove_parts!(
            self, HOLDERS, "keyset",
            passed: "t.referenced_at < now() - interval '1 day'",
            unused: "NOT EXISTS (SELECT 1 FROM target u WHERE u.keyset = t.digest)"
        )
    }

    async fn remove_contents(&self) -> Result<u64> {
        remove_parts!(
            self, HOLDERS, "content",
            passed: "t.referenced_at < now() - interval '1 day'",
            unused: "NOT EXISTS (SELECT 1 FROM rendering r WHERE r.content = t.digest)
                     AND NOT EXISTS (SELECT 1 FROM rendering r WHERE r.kept = t.digest)
                     AND NOT EXISTS (SELECT 1 FROM target u WHERE u.content = t.digest)
                     AND NOT EXISTS (SELECT 1 FROM rollout r WHERE r.content = t.digest)
                     AND NOT EXISTS (SELECT 1 FROM desired_entry e WHERE e.content = t.digest)"
        )
    }

    async fn remove_content_parts(&self) -> Result<u64> {
        remove_parts!(
            self, HOLDERS, "part",
            passed: "t.referenced_at < now() - interval '1 day'",
            unused: "NOT EXISTS (SELECT 1 FROM content_part c WHERE c.part = t.digest)"
        )
    }

    async fn remove_objects(&self) -> Result<u64> {
        remove_parts!(
            self, ROWS, "object",
            passed: "t.referenced_at < now() - interval '1 day'",
            unused: "NOT EXISTS (SELECT 1 FROM part_object p WHERE p.object = t.digest)"
        )
    }

    async fn remove_configs(&self) -> Result<u64> {
        remove_parts!(
            self, ROWS, "config_value",
            passed: "t.referenced_at < now() - interval '1 day'",
            // Each that is named is looked at once, and not each of these for each of those.
            unused: "NOT EXISTS (SELECT FROM (SELECT unnest(u.configs) AS digest FROM target u) AS n WHERE n.digest = t.digest)
                     AND NOT EXISTS (SELECT FROM (SELECT unnest(e.configs) AS digest FROM desired_entry e) AS n
                                     WHERE n.digest = t.digest)"
        )
    }

    async fn remove_artifacts(&self) -> Result<u64> {
        remove_parts!(
            self, ROWS, "artifact", key: "digest", first: String::new(),
            passed: "t.referenced_at < now() - interval '1 day'",
            unused: "NOT EXISTS (SELECT 1 FROM revision v WHERE v.artifact_digest = t.digest)"
        )
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
