//! Renderings: one row per distinct input, shared by all apps that have it. An attempt is counted before it begins, so
//! that an input which ends the hub fails after a few attempts and does not end it for ever. One that did not work
//! waits until its time in the row; nothing here wakes the app that renders.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use flotilla_core::{digest::Digest, source::paths};
use uuid::Uuid;

use super::{
    Connection, Result, Store, StoreError,
    content::{Blob, Known, Made, PreparedContent, put_contents},
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
    /// What of it the hub keeps itself.
    pub kept: Option<Vec<u8>>,
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
    /// That rendering, where it was begun.
    pub row: Option<RenderingRow>,
}

/// Objects that the hub keeps itself: a content of their own, which goes to no agent.
#[derive(Clone)]
pub struct Kept {
    /// Digest of its manifest.
    pub content: [u8; 32],
    /// The manifest's bytes.
    pub manifest: Arc<[u8]>,
    /// The objects.
    pub objects: Arc<[Blob]>,
}

/// A rendering that has ended, to be recorded.
#[derive(Clone)]
pub struct Ended {
    /// The app that it was made for.
    pub app: Uuid,
    /// The rendering.
    pub rendering: Digest,
    /// How it ended.
    pub outcome: Arc<Outcome>,
    /// How long it took.
    pub duration_ms: i32,
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
        /// What the hub keeps of what came out, if anything.
        kept: Option<Kept>,
        /// What is to be known of it all the same.
        notice: Option<String>,
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
        one(self.inputs(std::slice::from_ref(input)).await?)
    }

    /// As [`Self::input`], of several in one statement.
    pub async fn inputs(&self, inputs: &[Input]) -> Result<Vec<Result<Option<InputRow>>>> {
        let apps: Vec<Uuid> = inputs.iter().map(|input| input.app).collect();
        let keys: Vec<&[u8]> = inputs.iter().map(|input| &input.key.as_bytes()[..]).collect();
        let rows = sqlx::query!(
            r#"SELECT v.app AS "app!", t.rendering, (a.input_key = t.input_key) IS TRUE AS "is_named!", s.revision_id,
                      x.state AS "state?", x.content, x.kept, x.reason AS "reason?", x.message AS "message?",
                      x.attempts AS "attempts?", x.lost AS "lost?",
                      greatest(extract(epoch FROM x.not_before - now())::float8, 0) AS wait_seconds
               FROM unnest($1::uuid[], $2::bytea[]) AS v(app, key)
                 CROSS JOIN LATERAL (
                   SELECT * FROM input_at WHERE input_key = v.key AND newest OFFSET 0) AS t
                 JOIN source_state s ON s.uid = t.source_uid LEFT JOIN app_input a ON a.app_uid = v.app
                 LEFT JOIN rendering x ON x.digest = t.rendering"#,
            &apps,
            &keys as &[&[u8]]
        )
        .fetch_all(self.pool())
        .await?;
        let mut found = HashMap::new();
        for row in rows {
            let rendering = Digest::try_from_slice(&row.rendering)
                .map_err(|e| StoreError::corrupt(format!("input of {}", row.app), e))?;
            let begun = row.state.map(|state| RenderingRow {
                state,
                content: row.content,
                kept: row.kept,
                reason: row.reason.unwrap_or_default(),
                message: row.message.unwrap_or_default(),
                attempts: row.attempts.unwrap_or_default(),
                lost: row.lost.unwrap_or_default(),
                wait_seconds: row.wait_seconds.unwrap_or_default(),
            });
            let input = InputRow {
                rendering,
                is_named: row.is_named,
                row: begun,
            };
            found.insert(row.app, (row.revision_id, input));
        }
        let answers = inputs.iter().map(|input| match found.remove(&input.app) {
            None => Ok(None),
            Some((revision, row)) if revision == Some(input.revision) => Ok(Some(row)),
            Some(_) => Err(StoreError::Conflict("the app's source")),
        });
        Ok(answers.collect())
    }

    /// Records that an app has this input; returns its rendering, where it was begun. `Conflict` when the source has moved on
    /// since its revision was read.
    pub async fn take_input(&self, input: &Input) -> Result<Option<RenderingRow>> {
        one(self.take_inputs(std::slice::from_ref(input)).await?)
    }

    /// As [`Self::take_input`], of several apps in one statement.
    pub async fn take_inputs(&self, inputs: &[Input]) -> Result<Vec<Result<Option<RenderingRow>>>> {
        let bytes = |of: fn(&Input) -> &Digest| -> Vec<&[u8]> {
            inputs.iter().map(|input| &of(input).as_bytes()[..]).collect()
        };
        let apps: Vec<Uuid> = inputs.iter().map(|input| input.app).collect();
        let sources: Vec<Uuid> = inputs.iter().map(|input| input.source).collect();
        let revisions: Vec<i64> = inputs.iter().map(|input| input.revision).collect();
        let taken = sqlx::query!(
            // In one order for all writers.
            r#"WITH source AS MATERIALIZED (
                 SELECT uid, revision_id FROM source_state WHERE uid = ANY ($3) ORDER BY uid FOR SHARE),
               held AS MATERIALIZED (
                 SELECT v.* FROM unnest($1::uuid[], $2::bytea[], $3::uuid[], $4::bigint[], $5::bytea[], $6::bytea[])
                   AS v(app, key, source, revision, fields, rendering)
                 JOIN source s ON (s.uid, s.revision_id) = (v.source, v.revision)),
               named AS (INSERT INTO app_input (app_uid, input_key) SELECT app, key FROM held ORDER BY app
                 ON CONFLICT (app_uid) DO UPDATE SET input_key = excluded.input_key),
               added AS (INSERT INTO input_at (input_key, revision_id, source_uid, fields, rendering, newest)
                 SELECT DISTINCT ON (key) key, revision, source, fields, rendering, true FROM held
                 WHERE (SELECT true FROM input_at WHERE input_key = held.key AND newest LIMIT 1) IS NULL
                 ORDER BY key
                 ON CONFLICT (input_key, revision_id) DO UPDATE SET newest = true, until_id = NULL,
                   rendering = excluded.rendering)
               SELECT held.app AS "app!", x.state AS "state?", x.content, x.kept, x.reason AS "reason?", x.message AS "message?",
                      x.attempts AS "attempts?", x.lost AS "lost?",
                      greatest(extract(epoch FROM x.not_before - now())::float8, 0) AS wait_seconds
               FROM held LEFT JOIN rendering x ON x.digest = held.rendering"#,
            &apps,
            &bytes(|input| &input.key) as &[&[u8]],
            &sources,
            &revisions,
            &bytes(|input| &input.fields) as &[&[u8]],
            &bytes(|input| &input.rendering) as &[&[u8]]
        )
        .fetch_all(self.pool())
        .await;
        let taken = match taken {
            Ok(taken) => taken,
            // Another app was as fast with the same input.
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(StoreError::Conflict("the app's input"));
            }
            Err(error) => return Err(error.into()),
        };
        let taken = taken.into_iter().map(|row| {
            let begun = row.state.map(|state| RenderingRow {
                state,
                content: row.content,
                kept: row.kept,
                reason: row.reason.unwrap_or_default(),
                message: row.message.unwrap_or_default(),
                attempts: row.attempts.unwrap_or_default(),
                lost: row.lost.unwrap_or_default(),
                wait_seconds: row.wait_seconds.unwrap_or_default(),
            });
            (row.app, begun)
        });
        let mut taken: HashMap<Uuid, Option<RenderingRow>> = taken.collect();
        let answers = inputs.iter().map(|input| {
            let row = taken.remove(&input.app);
            row.ok_or(StoreError::Conflict("the app's source"))
        });
        Ok(answers.collect())
    }

    /// Reads a rendering.
    pub async fn rendering(&self, digest: &Digest) -> Result<Option<RenderingRow>> {
        Ok(sqlx::query_as!(
            RenderingRow,
            r#"SELECT state, content, kept, reason, message, attempts, lost,
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
        let begun = self
            .begin_renderings(std::slice::from_ref(digest), replica, lease)
            .await?;
        Ok(begun.into_iter().next().flatten())
    }

    /// As [`Self::begin_rendering`], of several in one statement.
    pub async fn begin_renderings(
        &self,
        digests: &[Digest],
        replica: &str,
        lease: Duration,
    ) -> Result<Vec<Option<i32>>> {
        let names: BTreeSet<&[u8]> = digests.iter().map(|digest| &digest.as_bytes()[..]).collect();
        let names: Vec<&[u8]> = names.into_iter().collect();
        let begun = sqlx::query!(
            // In one order for all writers.
            "INSERT INTO rendering (digest, state, attempts, begun_by, not_before)
             SELECT d, 'Pending', 1, $2, now() + make_interval(secs => $3) FROM unnest($1::bytea[]) AS v(d) ORDER BY d
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
             RETURNING digest, attempts, state",
            &names as &[&[u8]],
            replica,
            lease.as_secs_f64(),
            MAX_LOST,
            LOST
        )
        // It outlives whatever the rendering may end: the hub, and with it a server that ends without a word.
        .fetch_all(self.ordinary())
        .await?;
        let begun = begun.into_iter().filter(|row| row.state == "Pending");
        let begun: HashMap<Vec<u8>, i32> = begun.map(|row| (row.digest, row.attempts)).collect();
        let attempts = digests
            .iter()
            .map(|digest| begun.get(&digest.as_bytes()[..]).copied());
        Ok(attempts.collect())
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

    /// Records how renderings ended: objects, manifests and rows in one transaction, in which the other apps of the same
    /// inputs are woken. As many statements for all as for one.
    pub async fn record_rendered(&self, ended: &[Ended], seal: &Arc<Seal>) -> Result<()> {
        // Before the transaction begins.
        let contents = self.prepare(ended, seal).await?;
        let mut tx = self.pool().begin().await?;
        put_contents(&mut tx, &contents).await?;
        let mut rows: Vec<EndedRow<'_>> = ended.iter().map(EndedRow::of).collect();
        // In one order for all writers.
        rows.sort_unstable_by_key(|row| row.digest);
        let text = |of: for<'r> fn(&'r EndedRow<'r>) -> &'r str| {
            rows.iter().map(|row| of(row).to_owned()).collect::<Vec<_>>()
        };
        let digests: Vec<&[u8]> = rows.iter().map(|row| row.digest).collect();
        let contents: Vec<Option<&[u8]>> = rows.iter().map(|row| row.content).collect();
        let durations: Vec<i32> = rows.iter().map(|row| row.duration_ms).collect();
        let after: Vec<f64> = rows.iter().map(|row| row.after.as_secs_f64()).collect();
        let paths: Vec<Option<String>> = rows.iter().map(|row| row.paths.clone()).collect();
        let apps: Vec<Uuid> = rows.iter().map(|row| row.app).collect();
        let kept: Vec<Option<&[u8]>> = rows.iter().map(|row| row.kept).collect();
        let told = sqlx::query!(
            r#"WITH v AS MATERIALIZED (
                 SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::int[],
                                      $7::float8[], $8::text[], $9::uuid[], $10::bytea[])
                   AS v(digest, state, content, reason, message, duration_ms, after, paths, app, kept)),
               held AS MATERIALIZED (
                 SELECT r.digest FROM rendering r WHERE r.digest = ANY ($1) ORDER BY r.digest FOR NO KEY UPDATE),
               ended AS (
                 UPDATE rendering r SET state = v.state, content = v.content, kept = v.kept, reason = v.reason, message = v.message,
                        duration_ms = v.duration_ms, begun_by = '', not_before = now() + make_interval(secs => v.after),
                        finished_at = now(), paths = string_to_array(v.paths, ',')::bigint[]
                 FROM held JOIN v ON v.digest = held.digest
                 -- Another may have ended it meanwhile: then only what came of it counts.
                 WHERE r.digest = held.digest AND (r.state = 'Pending' OR v.state = 'Done')),
               apps AS MATERIALIZED (
                 SELECT a.app_uid AS key, bool_and(a.app_uid = v.app) AS is_own
                 FROM v CROSS JOIN LATERAL (
                     SELECT input_key FROM input_at WHERE rendering = v.digest AND newest OFFSET 0) AS t
                   JOIN app_input a ON a.input_key = t.input_key
                 WHERE v.state <> 'Pending' GROUP BY 1),
               -- The one that renders goes on with it. Its mark stays as it took it; where it had none, a failed
               -- attempt after its time say, it gets one, or what comes of this would be nobody's if its plan fails.
               marked AS (
                 INSERT INTO due (topic, key) SELECT 'app', key FROM apps ORDER BY key
                 ON CONFLICT (topic, key) DO UPDATE SET change = excluded.change, at = now()
                 WHERE (SELECT NOT is_own FROM apps WHERE apps.key = due.key))
               INSERT INTO outbox (topic, keys)
               SELECT 'app', array_agg(key) FROM apps WHERE NOT is_own HAVING count(*) > 0"#,
            &digests as &[&[u8]],
            &text(|row| row.state),
            &contents as &[Option<&[u8]>],
            &text(|row| row.reason),
            &text(|row| row.message),
            &durations,
            &after,
            &paths as &[Option<String>],
            &apps,
            &kept as &[Option<&[u8]>]
        )
        .execute(&mut *tx)
        .await?;
        if told.rows_affected() > 0 {
            tx.wakes();
        }
        tx.commit().await?;
        Ok(())
    }

    /// What is to be stored of renderings that gave objects.
    async fn prepare(&self, ended: &[Ended], seal: &Arc<Seal>) -> Result<Vec<PreparedContent>> {
        let done = ended.iter().filter_map(|one| match &*one.outcome {
            Outcome::Done {
                content,
                manifest,
                objects,
                kept,
                ..
            } => Some((one.app, *content, manifest.clone(), objects.clone(), kept.clone())),
            _ => None,
        });
        let done: Vec<_> = done.collect();
        if done.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<(Uuid, Arc<[Blob]>)> = done
            .iter()
            .map(|(app, _, _, objects, _)| (*app, objects.clone()))
            .collect();
        let known = self.known(&asked).await?;
        let mut made: Vec<Made> = Vec::with_capacity(done.len());
        for ((_, digest, manifest, objects, kept), known) in done.into_iter().zip(known) {
            made.push(Made {
                digest,
                manifest,
                objects,
                known,
            });
            // It is small beside what is sent, as a rule: nothing is asked for it.
            made.extend(kept.map(|kept| Made {
                digest: kept.content,
                manifest: kept.manifest,
                objects: kept.objects,
                known: Known::default(),
            }));
        }
        PreparedContent::of(made, seal).await
    }
}

/// The row of a rendering that has ended.
struct EndedRow<'a> {
    app: Uuid,
    digest: &'a [u8],
    state: &'static str,
    content: Option<&'a [u8]>,
    kept: Option<&'a [u8]>,
    reason: &'a str,
    message: &'a str,
    duration_ms: i32,
    after: Duration,
    /// With commas between: an array of arrays has one length.
    paths: Option<String>,
}

impl<'a> EndedRow<'a> {
    fn of(ended: &'a Ended) -> Self {
        let (state, content, reason, message): (_, Option<&[u8]>, _, _) = match &*ended.outcome {
            Outcome::Done { content, .. } => ("Done", Some(content), "", ""),
            Outcome::Failed { reason, message } => ("Failed", None, reason.as_str(), message.as_str()),
            Outcome::Again { reason, message, .. } => ("Pending", None, reason.as_str(), message.as_str()),
            Outcome::NotSupported { message } => ("NotSupported", None, "NotSupported", message.as_str()),
        };
        let kept: Option<&[u8]> = match &*ended.outcome {
            Outcome::Done { kept: Some(kept), .. } => Some(&kept.content),
            _ => None,
        };
        let paths = match &*ended.outcome {
            Outcome::Done {
                paths: Some(paths), ..
            } => {
                let hashes = hashes(&paths::looked_at(paths, MAX_PATHS));
                let hashes: Vec<String> = hashes.iter().map(i64::to_string).collect();
                Some(hashes.join(","))
            }
            _ => None,
        };
        let after = match &*ended.outcome {
            Outcome::Again { after, .. } => *after,
            _ => Duration::ZERO,
        };
        Self {
            app: ended.app,
            digest: &ended.rendering.as_bytes()[..],
            state,
            content,
            kept,
            reason,
            message,
            duration_ms: ended.duration_ms,
            after,
            paths,
        }
    }
}

/// The only answer.
fn one<T: Default>(answers: Vec<Result<T>>) -> Result<T> {
    answers.into_iter().next().unwrap_or_else(|| Ok(T::default()))
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
           SELECT r.uid FROM (SELECT kind, scope, namespace, name FROM resource WHERE uid = $1 OFFSET 0) AS s
             CROSS JOIN LATERAL (
               SELECT referrer FROM reference
               WHERE kind = s.kind AND scope = s.scope AND namespace = s.namespace AND name = s.name AND of_scope = s.scope
               UNION ALL
               -- Of clusters' own apps there are as many as clusters, and few that are not at rest: these are looked through.
               SELECT f.referrer FROM (
                   SELECT app_uid FROM app_plan WHERE waiting @> '[{"reason": "NoArtifact"}]'
                   UNION
                   SELECT uid FROM resource WHERE coalesce(suspended, spec->'suspend' = 'true', false)
                   UNION
                   SELECT key FROM due WHERE topic = 'app') AS w(uid)
                 CROSS JOIN LATERAL (
                   SELECT referrer, of_scope FROM reference
                   WHERE referrer = w.uid AND kind = s.kind AND scope = s.scope AND namespace = s.namespace
                     AND name = s.name AND of_scope <> s.scope OFFSET 0) AS f
               WHERE s.scope = fleet() AND (
                 SELECT true FROM resource WHERE kind = s.kind AND scope = f.of_scope AND namespace = s.namespace
                   AND name = s.name LIMIT 1) IS NULL
               OFFSET 0) AS f
             CROSS JOIN LATERAL (SELECT uid, kind FROM resource WHERE uid = f.referrer OFFSET 0) AS r
           WHERE is_app(r.kind) AND (
             SELECT true FROM app_input i CROSS JOIN LATERAL (
               -- An input is of one source.
               SELECT source_uid FROM input_at WHERE input_key = i.input_key LIMIT 1) AS t
             WHERE i.app_uid = r.uid AND t.source_uid = $1 LIMIT 1) IS NULL
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
