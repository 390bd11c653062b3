//! Rollouts and what became of each cluster that they move. Admissions are turned by plans and by what agents have applied;
//! whether a rollout has ended is decided in `core` from their counts, after the turn was committed: of two that turn the
//! last admissions at once, one sees both.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flotilla_core::rollout::{
    admission::{AdmissionState, End, Tally, Turn},
    plan::Current,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Connection, Result, Store, StoreError, plan::Commit, wake_apps};

/// A rollout that has ended.
#[derive(Debug, Clone)]
pub struct EndedRollout {
    /// How.
    pub end: End,
    /// The app, `Kind/namespace/name`.
    pub app: String,
    /// The revision; '' for none.
    pub revision: String,
    /// When it began.
    pub created_at: OffsetDateTime,
    /// When it ended.
    pub finished_at: OffsetDateTime,
}

/// A rollout some of whose admissions were turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turned {
    rollout: i64,
    /// How it ends if it does, where the turn tells.
    end: Option<End>,
}

impl Turned {
    fn by(turn: Turn, rollouts: &[i64]) -> Vec<Self> {
        let end = turn.end();
        rollouts.iter().map(|&rollout| Self { rollout, end }).collect()
    }
}

/// How a rollout ends.
struct Change {
    /// How it has ended so far; `None`: it has not.
    from: Option<End>,
    /// How it ends now.
    to: End,
}

/// Rollouts, and admissions, that one statement of a look at all of them concerns.
const PAGE: i64 = 1000;

impl Store {
    /// Records that these units have applied what a rollout gave them with this version, and wakes the apps of which something
    /// that is kept waited for that; returns the rollouts that this turns.
    pub async fn turn_applied(&self, reached: &[(Uuid, i64)]) -> Result<Vec<Turned>> {
        let (units, versions): (Vec<Uuid>, Vec<i64>) = reached.iter().copied().unzip();
        let turned = sqlx::query!(
            // Each is looked up, whatever is known of the tables: in a fleet at rest no admission is unfinished as far as the
            // server knows, and it would go through all of the rollout's for each batch of reports. Their state is asked
            // after the look-up, or the index of the unfinished would come first again. Locked in one order for all writers.
            r#"WITH moved AS MATERIALIZED (
               SELECT u.rollout_id, u.cluster_id, u.app_uid FROM unnest($1::uuid[], $2::bigint[]) AS v(id, version)
               CROSS JOIN LATERAL (
                 SELECT rollout_id, cluster_id, app_uid, version FROM unit WHERE id = v.id OFFSET 0) AS u
               -- One that has got another target since has it of another rollout.
               WHERE u.version = v.version),
             rolling AS MATERIALIZED (
               -- Of one that has ended without this cluster: it may be chosen again.
               SELECT id FROM rollout
               WHERE id = ANY (ARRAY(SELECT DISTINCT rollout_id FROM moved)) AND state IN ('Progressing', 'Withdrawn')),
             reached AS MATERIALIZED (
               SELECT a.rollout_id, a.cluster_id FROM (
                 SELECT m.rollout_id, m.cluster_id FROM moved m JOIN rolling r ON r.id = m.rollout_id
                 ORDER BY m.cluster_id, m.rollout_id OFFSET 0) AS m
               CROSS JOIN LATERAL (
                 SELECT rollout_id, cluster_id, state FROM admission
                 WHERE (rollout_id, cluster_id) = (m.rollout_id, m.cluster_id) OFFSET 0 FOR UPDATE) AS a
               WHERE a.state = ANY ($3)),
             turned AS (
               UPDATE admission a SET state = $4, at = now() FROM reached
               WHERE (a.rollout_id, a.cluster_id) = (reached.rollout_id, reached.cluster_id)
               RETURNING a.rollout_id)
             SELECT rollout_id AS "rollout?", NULL::uuid AS "parent?" FROM turned
             UNION ALL
             SELECT NULL, n.app_uid FROM moved m
             CROSS JOIN LATERAL (
               SELECT app_uid FROM nesting
               WHERE (app_uid, cluster_id) = (m.app_uid, m.cluster_id) AND waits OFFSET 0) AS n"#,
            &units,
            &versions,
            &words(Turn::Applied.from()),
            Turn::Applied.to().as_str()
        )
        .fetch_all(self.pool())
        .await?;
        let parents: BTreeSet<Uuid> = turned.iter().filter_map(|row| row.parent).collect();
        if !parents.is_empty() {
            let mut tx = self.pool().begin().await?;
            wake_apps(&mut tx, &parents.into_iter().collect::<Vec<_>>()).await?;
            tx.commit().await?;
        }
        let rollouts: BTreeSet<i64> = turned.iter().filter_map(|row| row.rollout).collect();
        let rollouts: Vec<i64> = rollouts.into_iter().collect();
        Ok(Turned::by(Turn::Applied, &rollouts))
    }

    /// Ends those of these rollouts that no cluster is waited for any more, and tells which. How the turns do not tell is
    /// counted.
    pub async fn end_rollouts(&self, turned: &[Turned]) -> Result<Vec<EndedRollout>> {
        let told = turned.iter().filter_map(|one| {
            let change = Change {
                from: None,
                to: one.end?,
            };
            Some((one.rollout, change))
        });
        let mut ends: BTreeMap<i64, Change> = told.collect();
        let untold: Vec<i64> = turned
            .iter()
            .map(|one| one.rollout)
            .filter(|rollout| !ends.contains_key(rollout))
            .collect();
        if !untold.is_empty() {
            let counted = self.tallies(&untold).await?;
            ends.extend(counted.iter().filter_map(|(id, from, tally)| {
                let to = tally.end_after(*from)?;
                Some((*id, Change { from: *from, to }))
            }));
        }
        match ends.is_empty() {
            true => Ok(Vec::new()),
            false => self.close_rollouts(&ends).await,
        }
    }

    /// How far those of these rollouts are that no cluster is waited for, and how they have ended so far.
    async fn tallies(&self, rollouts: &[i64]) -> Result<Vec<(i64, Option<End>, Tally)>> {
        let counted = sqlx::query!(
            // One that is waited for says enough, and is found by one look-up, with a limit: in a fleet at rest no admission is
            // unfinished as far as the server knows, and joined with those it would go through all of the rollout's, with each
            // batch of reports. Of what ended long ago no admissions are left to count.
            r#"SELECT r.id AS "id!", r.state AS "state!", r.clusters AS "clusters!", n.withdrawn AS "withdrawn!",
                      n.superseded AS "superseded!"
               FROM unnest($1::bigint[]) AS v(id)
               CROSS JOIN LATERAL (SELECT id, state, clusters FROM rollout WHERE id = v.id OFFSET 0) AS r
               CROSS JOIN LATERAL (
                 SELECT count(*) FILTER (WHERE state = $2) AS withdrawn, count(*) FILTER (WHERE state = $3) AS superseded
                 FROM admission WHERE rollout_id = r.id AND state <> 'Applied' OFFSET 0) AS n
               WHERE (SELECT true FROM admission WHERE rollout_id = r.id AND state = 'Admitted' LIMIT 1) IS NULL
                 AND (r.state = 'Progressing' OR r.state = 'Withdrawn'
                   AND (SELECT true FROM admission WHERE rollout_id = r.id LIMIT 1))"#,
            rollouts,
            AdmissionState::Withdrawn.as_str(),
            AdmissionState::Superseded.as_str()
        )
        .fetch_all(self.pool())
        .await?;
        let tallies = counted.into_iter().map(|row| {
            let unfinished = row.withdrawn + row.superseded;
            let tally = Tally {
                admitted: 0,
                applied: i64::from(row.clusters) - unfinished,
                withdrawn: row.withdrawn,
                superseded: row.superseded,
            };
            (row.id, End::parse(&row.state), tally)
        });
        Ok(tallies.collect())
    }

    /// Closes rollouts, unless a cluster of theirs is waited for, or is again by a plan that is just being committed.
    async fn close_rollouts(&self, ends: &BTreeMap<i64, Change>) -> Result<Vec<EndedRollout>> {
        let ids: Vec<i64> = ends.keys().copied().collect();
        let former = ends
            .values()
            .map(|end| end.from.map_or("Progressing", End::as_str));
        let former: Vec<&str> = former.collect();
        let states: Vec<&str> = ends.values().map(|end| end.to.as_str()).collect();
        let closed = sqlx::query!(
            r#"WITH seen AS MATERIALIZED (
                 SELECT r.id, r.readmissions, v.former, v.state
                 FROM unnest($1::bigint[], $2::text[], $3::text[]) AS v(id, former, state)
                 JOIN rollout r ON r.id = v.id AND r.state = v.former
                 WHERE NOT EXISTS (
                   SELECT FROM admission a WHERE a.rollout_id = r.id AND a.state = 'Admitted')),
               -- In one order for all writers. What a plan has changed that is committed meanwhile is seen here only.
               held AS MATERIALIZED (
                 SELECT r.id, seen.state FROM seen JOIN rollout r ON r.id = seen.id
                 WHERE r.state = seen.former AND r.readmissions = seen.readmissions
                 ORDER BY r.id FOR NO KEY UPDATE OF r),
               done AS (
                 UPDATE rollout r SET state = held.state, finished_at = now(), clusters_applied = r.clusters - (
                   SELECT count(*) FROM admission a WHERE a.rollout_id = r.id AND a.state <> 'Applied')
                 FROM held WHERE r.id = held.id
                 RETURNING r.id, r.app_uid, r.revision_id, r.created_at, r.finished_at)
               SELECT done.id AS "id!", object_name(a.kind, a.namespace, a.name) AS "app!",
                      coalesce(v.revision, '') AS "revision!", done.created_at AS "created_at!",
                      done.finished_at AS "finished_at!"
               FROM done JOIN resource a ON a.uid = done.app_uid LEFT JOIN revision v ON v.id = done.revision_id"#,
            &ids,
            &former as &[&str],
            &states as &[&str]
        )
        .fetch_all(self.pool())
        .await?;
        let closed = closed.into_iter().filter_map(|row| {
            Some(EndedRollout {
                end: ends.get(&row.id)?.to,
                app: row.app,
                revision: row.revision,
                created_at: row.created_at,
                finished_at: row.finished_at,
            })
        });
        Ok(closed.collect())
    }

    /// Ends what reports and plans have ended whose turn was missed, because the hub that took them ended meanwhile: of the
    /// next rollouts under way after this one, and of those withdrawn of which a report was missed. Returns the last of
    /// these; `None`: there are no more.
    pub async fn end_missed_rollouts(&self, after: i64) -> Result<(Vec<EndedRollout>, Option<i64>)> {
        let rollouts = sqlx::query_scalar!(
            // One that was withdrawn has something to be looked at where a cluster has applied it that does not count, or
            // where all of them count and its end does not say so.
            "SELECT r.id FROM rollout r WHERE r.state IN ('Progressing', 'Withdrawn') AND r.id > $1 AND (
               r.state = 'Progressing'
               OR EXISTS (
                 SELECT FROM admission a
                 JOIN unit u ON (u.app_uid, u.cluster_id, u.rollout_id) = (r.app_uid, a.cluster_id, r.id)
                 JOIN unit_status s ON s.unit_id = u.id AND (s.applied_version, s.applied) = (u.version, u.target)
                 WHERE a.rollout_id = r.id AND a.state = 'Withdrawn')
               OR EXISTS (SELECT FROM admission a WHERE a.rollout_id = r.id)
                 AND NOT EXISTS (SELECT FROM admission a WHERE a.rollout_id = r.id AND a.state <> 'Applied'))
             ORDER BY r.id LIMIT $2",
            after,
            PAGE
        )
        .fetch_all(self.pool())
        .await?;
        let (Some(first), Some(last)) = (rollouts.first(), rollouts.last()) else {
            return Ok((Vec::new(), None));
        };
        self.turn_missed(*first, *last).await?;
        let ended = self.end_rollouts(&Turned::by(Turn::Applied, &rollouts)).await?;
        Ok((ended, Some(*last)))
    }

    /// Records what units have applied of these rollouts and those between, a page of admissions at a time.
    async fn turn_missed(&self, first: i64, last: i64) -> Result<()> {
        let (mut rollout, mut state, mut cluster) = (first, String::new(), Uuid::nil());
        loop {
            let page = sqlx::query!(
                r#"WITH page AS MATERIALIZED (
                     SELECT rollout_id, state, cluster_id FROM admission
                     WHERE (rollout_id, state, cluster_id) > ($1, $2, $3) AND rollout_id <= $4
                       AND state <> 'Applied' AND state = ANY ($5)
                     ORDER BY rollout_id, state, cluster_id LIMIT $7),
                   reached AS (
                     SELECT a.rollout_id, a.cluster_id FROM page p
                     JOIN rollout r ON r.id = p.rollout_id AND r.state IN ('Progressing', 'Withdrawn')
                     JOIN unit u ON (u.app_uid, u.cluster_id, u.rollout_id) = (r.app_uid, p.cluster_id, r.id)
                     JOIN unit_status s ON s.unit_id = u.id AND (s.applied_version, s.applied) = (u.version, u.target)
                     JOIN admission a ON (a.rollout_id, a.cluster_id) = (p.rollout_id, p.cluster_id)
                       AND a.state = ANY ($5)
                     ORDER BY a.cluster_id, a.rollout_id FOR UPDATE OF a),
                   turned AS (
                     UPDATE admission a SET state = $6, at = now() FROM reached
                     WHERE (a.rollout_id, a.cluster_id) = (reached.rollout_id, reached.cluster_id))
                   SELECT rollout_id, state, cluster_id, count(*) OVER () AS "rows!" FROM page
                   ORDER BY rollout_id DESC, state DESC, cluster_id DESC LIMIT 1"#,
                rollout,
                state,
                cluster,
                last,
                &words(Turn::Applied.from()),
                Turn::Applied.to().as_str(),
                PAGE
            )
            .fetch_optional(self.pool())
            .await?;
            match page.filter(|page| page.rows == PAGE) {
                Some(page) => (rollout, state, cluster) = (page.rollout_id, page.state, page.cluster_id),
                None => return Ok(()),
            }
        }
    }
}

/// Turns the admissions of the rollouts that gave the units of plans what they have until now, and opens one of those units of
/// each app that get another target; returns these by app, and the rollouts that were turned. Before the units are written.
pub(super) async fn record(
    tx: &mut Connection,
    commits: &[&Commit<'_>],
) -> Result<(HashMap<Uuid, i64>, Vec<Turned>)> {
    let moved = |commit: &Commit<'_>| -> Vec<Uuid> {
        let moved = commit.planned.units.iter().filter(|unit| unit.retargeted);
        moved.map(|unit| unit.cluster.0).collect()
    };
    let rolled: Vec<(&Commit<'_>, Vec<Uuid>)> = commits
        .iter()
        .map(|commit| (*commit, moved(commit)))
        .filter(|(_, clusters)| !clusters.is_empty())
        .collect();
    let turns: Vec<(Uuid, Turn)> = commits.iter().flat_map(|commit| turns(commit)).collect();
    if turns.is_empty() && rolled.is_empty() {
        return Ok((HashMap::new(), Vec::new()));
    }
    let ids: Vec<Uuid> = turns.iter().map(|(id, _)| *id).collect();
    let former = turns.iter().map(|(_, turn)| words(turn.from()).join(","));
    let former: Vec<String> = former.collect();
    let becomes: Vec<&str> = turns.iter().map(|(_, turn)| turn.to().as_str()).collect();
    let apps: Vec<Uuid> = rolled.iter().map(|(commit, _)| commit.app_uid).collect();
    let revisions: Vec<Option<i64>> = rolled.iter().map(|(commit, _)| commit.revision_id).collect();
    let contents = rolled
        .iter()
        .map(|(commit, _)| commit.content.map(|digest| digest.as_bytes().to_vec()));
    let contents: Vec<Option<Vec<u8>>> = contents.collect();
    let causes = rolled.iter().map(|(commit, _)| {
        let mut units = commit.planned.units.iter();
        units
            .find(|unit| unit.retargeted)
            .map_or("", |unit| unit.cause.as_str())
    });
    let causes: Vec<&str> = causes.collect();
    let counts = rolled.iter().map(|(_, clusters)| i32::try_from(clusters.len()));
    let counts = counts.collect::<std::result::Result<Vec<i32>, _>>();
    let counts = counts.map_err(|e| StoreError::corrupt("a rollout", e))?;
    let admitted = rolled
        .iter()
        .flat_map(|(commit, clusters)| clusters.iter().map(move |cluster| (commit.app_uid, *cluster)));
    let (admitted, clusters): (Vec<Uuid>, Vec<Uuid>) = admitted.unzip();
    let row = sqlx::query!(
        // The units first, whatever is known of the tables: from all admissions it would be each with each. Locked in one
        // order for all writers.
        r#"WITH moved AS MATERIALIZED (
             SELECT u.rollout_id, u.cluster_id, string_to_array(v.former, ',') AS former, v.becomes
             FROM unnest($8::uuid[], $9::text[], $10::text[]) AS v(unit, former, becomes) JOIN unit u ON u.id = v.unit),
           rolling AS MATERIALIZED (
             SELECT id, state FROM rollout WHERE id = ANY (ARRAY(SELECT DISTINCT rollout_id FROM moved))
               AND state IN ('Progressing', 'Withdrawn')
             ORDER BY id FOR NO KEY UPDATE),
           former AS (
             SELECT a.rollout_id, a.cluster_id, m.becomes
             FROM moved m JOIN rolling r ON r.id = m.rollout_id
             JOIN admission a ON (a.rollout_id, a.cluster_id) = (m.rollout_id, m.cluster_id)
             WHERE a.state = ANY (m.former) AND (r.state = 'Progressing' OR m.becomes = 'Admitted')
             ORDER BY a.cluster_id, a.rollout_id FOR UPDATE OF a),
           turned AS (
             UPDATE admission a SET state = former.becomes, at = now() FROM former
             WHERE (a.rollout_id, a.cluster_id) = (former.rollout_id, former.cluster_id)
             RETURNING a.rollout_id, a.state),
           readmitted AS (
             UPDATE rollout SET state = 'Progressing', finished_at = NULL, clusters_applied = NULL,
               readmissions = readmissions + 1
             WHERE id = ANY (ARRAY(SELECT DISTINCT rollout_id FROM turned WHERE state = 'Admitted'))),
           opened AS (
             INSERT INTO rollout (app_uid, parent, revision_id, content, state, cause, clusters)
             SELECT v.app, (SELECT max(id) FROM rollout WHERE app_uid = v.app), v.revision, v.content, 'Progressing', v.cause,
                    v.clusters
             FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::text[], $11::int[])
               AS v(app, revision, content, cause, clusters)
             RETURNING id, app_uid),
           admitted AS (
             INSERT INTO admission (rollout_id, cluster_id, state)
             SELECT opened.id, v.cluster, $7
             FROM unnest($5::uuid[], $6::uuid[]) AS v(app, cluster) JOIN opened ON opened.app_uid = v.app)
           SELECT ARRAY(SELECT app_uid FROM opened ORDER BY id) AS "apps!", ARRAY(SELECT id FROM opened ORDER BY id) AS "opened!",
                  ARRAY(SELECT DISTINCT rollout_id FROM turned WHERE state = 'Withdrawn') AS "withdrawn!",
                  ARRAY(SELECT DISTINCT rollout_id FROM turned WHERE state = 'Superseded') AS "superseded!""#,
        &apps,
        &revisions as &[Option<i64>],
        &contents as &[Option<Vec<u8>>],
        &causes as &[&str],
        &admitted,
        &clusters,
        AdmissionState::Admitted.as_str(),
        &ids,
        &former,
        &becomes as &[&str],
        &counts
    )
    .fetch_one(tx)
    .await?;
    let mut turned = Turned::by(Turn::Retargeted, &row.superseded);
    turned.extend(Turned::by(Turn::Withdrawn, &row.withdrawn));
    Ok((row.apps.into_iter().zip(row.opened).collect(), turned))
}

/// Lets go of units that are about to be forgotten: no rollout waits for them any more. Returns those that are turned.
pub(super) async fn withdraw(tx: &mut Connection, units: &[Uuid]) -> Result<Vec<Turned>> {
    let rollouts = sqlx::query_scalar!(
        "WITH moved AS MATERIALIZED (
           SELECT rollout_id, cluster_id FROM unit WHERE id = ANY ($1) AND rollout_id IS NOT NULL)
         UPDATE admission a SET state = $2, at = now() FROM moved
         WHERE (a.rollout_id, a.cluster_id) = (moved.rollout_id, moved.cluster_id) AND a.state = ANY ($3)
         RETURNING a.rollout_id",
        units,
        Turn::Withdrawn.to().as_str(),
        &words(Turn::Withdrawn.from())
    )
    .fetch_all(tx)
    .await?;
    Ok(Turned::by(Turn::Withdrawn, &rollouts))
}

/// What a plan turns, by unit.
fn turns(commit: &Commit<'_>) -> Vec<(Uuid, Turn)> {
    let recorded = commit.recorded.units.iter().map(|unit| (unit.id.0, unit));
    let recorded: HashMap<Uuid, &Current> = recorded.collect();
    let turns = commit.planned.units.iter().filter_map(|next| {
        let id = next.id?.0;
        Some((id, Turn::of(recorded.get(&id)?, next)?))
    });
    turns.collect()
}

fn words(states: &[AdmissionState]) -> Vec<String> {
    states.iter().map(|state| state.as_str().to_owned()).collect()
}
