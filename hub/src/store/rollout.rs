//! Rollouts and what became of each cluster that they move. Admissions are turned by plans and by what agents have applied;
//! whether a rollout has ended is decided in `core` from their counts, after the turn was committed: of two that turn the
//! last admissions at once, one sees both.

use std::collections::{BTreeSet, HashMap};

use flotilla_core::rollout::{
    admission::{AdmissionState, End, Tally, Turn},
    plan::Current,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Connection, Result, Store, plan::Commit};

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

impl Store {
    /// Records which of these units have applied what a rollout gave them; returns the rollouts that this turns.
    pub async fn turn_applied(&self, units: &[Uuid]) -> Result<Vec<i64>> {
        let rollouts = sqlx::query_scalar!(
            // Locked in one order for all writers.
            "WITH reached AS (
               SELECT a.rollout_id, a.cluster_id FROM unit u
               JOIN unit_status s ON s.unit_id = u.id AND (s.applied_version, s.applied) = (u.version, u.target)
               JOIN rollout r ON r.id = u.rollout_id AND r.state = 'Progressing'
               JOIN admission a ON (a.rollout_id, a.cluster_id) = (u.rollout_id, u.cluster_id) AND a.state = ANY ($2)
               WHERE u.id = ANY ($1)
               ORDER BY a.cluster_id, a.rollout_id FOR UPDATE OF a)
             UPDATE admission a SET state = $3, at = now() FROM reached
             WHERE (a.rollout_id, a.cluster_id) = (reached.rollout_id, reached.cluster_id)
             RETURNING a.rollout_id",
            units,
            &words(Turn::Applied.from()),
            Turn::Applied.to().as_str()
        )
        .fetch_all(self.pool())
        .await?;
        let rollouts: BTreeSet<i64> = rollouts.into_iter().collect();
        Ok(rollouts.into_iter().collect())
    }

    /// Ends those of these rollouts that no cluster is waited for any more, and tells which.
    pub async fn end_rollouts(&self, rollouts: &[i64]) -> Result<Vec<EndedRollout>> {
        if rollouts.is_empty() {
            return Ok(Vec::new());
        }
        let counted = sqlx::query!(
            r#"SELECT r.id, r.clusters, count(*) FILTER (WHERE a.state = $2) AS "admitted!",
                      count(*) FILTER (WHERE a.state = $3) AS "withdrawn!",
                      count(*) FILTER (WHERE a.state = $4) AS "superseded!"
               FROM rollout r LEFT JOIN admission a ON a.rollout_id = r.id AND a.state <> 'Applied'
               -- One that is waited for says enough.
               WHERE r.id = ANY ($1) AND r.state = 'Progressing' AND NOT EXISTS (
                 SELECT FROM admission w WHERE w.rollout_id = r.id AND w.state = 'Admitted')
               GROUP BY r.id"#,
            rollouts,
            AdmissionState::Admitted.as_str(),
            AdmissionState::Withdrawn.as_str(),
            AdmissionState::Superseded.as_str()
        )
        .fetch_all(self.pool())
        .await?;
        let tallies = counted.into_iter().map(|row| {
            let unfinished = row.admitted + row.withdrawn + row.superseded;
            let tally = Tally {
                admitted: row.admitted,
                applied: i64::from(row.clusters) - unfinished,
                withdrawn: row.withdrawn,
                superseded: row.superseded,
            };
            (row.id, tally)
        });
        let ended: Vec<(i64, End, Tally)> = tallies
            .filter_map(|(id, tally)| Some((id, tally.end()?, tally)))
            .collect();
        match ended.is_empty() {
            true => Ok(Vec::new()),
            false => self.close_rollouts(&ended).await,
        }
    }

    /// Closes rollouts, unless their admissions have turned since they were counted.
    async fn close_rollouts(&self, ended: &[(i64, End, Tally)]) -> Result<Vec<EndedRollout>> {
        let ids: Vec<i64> = ended.iter().map(|(id, ..)| *id).collect();
        let states: Vec<&str> = ended.iter().map(|(_, end, _)| end.as_str()).collect();
        let applied: Vec<i64> = ended.iter().map(|(.., tally)| tally.applied).collect();
        let admitted: Vec<i64> = ended.iter().map(|(.., tally)| tally.admitted).collect();
        let closed = sqlx::query!(
            r#"WITH done AS (
                 UPDATE rollout r SET state = v.state, finished_at = now(), clusters_applied = v.applied
                 FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) AS v(id, state, applied, admitted)
                 WHERE r.id = v.id AND r.state = 'Progressing' AND v.admitted = (
                   SELECT count(*) FROM admission a WHERE a.rollout_id = r.id AND a.state = $5)
                 RETURNING r.state, r.app_uid, r.revision_id, r.created_at, r.finished_at)
               SELECT done.state = $6 AS "complete!", object_name(a.kind, a.namespace, a.name) AS "app!",
                      coalesce(v.revision, '') AS "revision!", done.created_at, done.finished_at AS "finished_at!"
               FROM done JOIN resource a ON a.uid = done.app_uid LEFT JOIN revision v ON v.id = done.revision_id"#,
            &ids,
            &states as &[&str],
            &applied,
            &admitted,
            AdmissionState::Admitted.as_str(),
            End::Complete.as_str()
        )
        .fetch_all(self.pool())
        .await?;
        let closed = closed.into_iter().map(|row| EndedRollout {
            end: if row.complete {
                End::Complete
            } else {
                End::Superseded
            },
            app: row.app,
            revision: row.revision,
            created_at: row.created_at,
            finished_at: row.finished_at,
        });
        Ok(closed.collect())
    }

    /// Ends what reports and plans have ended whose turn was missed, because the hub that took them ended meanwhile.
    pub async fn end_missed_rollouts(&self) -> Result<Vec<EndedRollout>> {
        let rows = sqlx::query!(
            r#"SELECT r.id, array_remove(array_agg(u.id), NULL) AS "units!"
               FROM rollout r LEFT JOIN admission a ON a.rollout_id = r.id AND a.state <> 'Applied'
                 LEFT JOIN unit u ON u.rollout_id = r.id AND u.cluster_id = a.cluster_id
               WHERE r.state = 'Progressing' GROUP BY r.id"#
        )
        .fetch_all(self.pool())
        .await?;
        let units: Vec<Uuid> = rows.iter().flat_map(|row| row.units.iter().copied()).collect();
        if !units.is_empty() {
            self.turn_applied(&units).await?;
        }
        let rollouts: Vec<i64> = rows.iter().map(|row| row.id).collect();
        self.end_rollouts(&rollouts).await
    }
}

/// Turns the admissions of the rollouts that gave a plan's units what they have until now, and opens one of those units that
/// get another target; returns it, and the rollouts that were turned. Before the units are written.
pub(super) async fn record(tx: &mut Connection, commit: &Commit<'_>) -> Result<(Option<i64>, Vec<i64>)> {
    let moved = || commit.planned.units.iter().filter(|unit| unit.retargeted);
    let clusters: Vec<Uuid> = moved().map(|unit| unit.cluster.0).collect();
    let turns = turns(commit);
    if turns.is_empty() && clusters.is_empty() {
        return Ok((None, Vec::new()));
    }
    let ids: Vec<Uuid> = turns.iter().map(|(id, _)| *id).collect();
    let former = turns.iter().map(|(_, turn)| words(turn.from()).join(","));
    let former: Vec<String> = former.collect();
    let becomes: Vec<&str> = turns.iter().map(|(_, turn)| turn.to().as_str()).collect();
    let row = sqlx::query!(
        // The units first, whatever is known of the tables: from all admissions it would be each with each. Locked in one
        // order for all writers.
        r#"WITH moved AS MATERIALIZED (
             SELECT u.rollout_id, u.cluster_id, string_to_array(v.former, ',') AS former, v.becomes
             FROM unnest($7::uuid[], $8::text[], $9::text[]) AS v(unit, former, becomes) JOIN unit u ON u.id = v.unit),
           progressing AS MATERIALIZED (
             SELECT id FROM rollout WHERE id = ANY (ARRAY(SELECT DISTINCT rollout_id FROM moved))
               AND state = 'Progressing'),
           former AS (
             SELECT a.rollout_id, a.cluster_id, m.becomes
             FROM moved m JOIN admission a ON (a.rollout_id, a.cluster_id) = (m.rollout_id, m.cluster_id)
             WHERE a.state = ANY (m.former) AND m.rollout_id IN (SELECT id FROM progressing)
             ORDER BY a.cluster_id, a.rollout_id FOR UPDATE OF a),
           turned AS (
             UPDATE admission a SET state = former.becomes, at = now() FROM former
             WHERE (a.rollout_id, a.cluster_id) = (former.rollout_id, former.cluster_id)
             RETURNING a.rollout_id),
           opened AS (
             INSERT INTO rollout (app_uid, parent, revision_id, content, state, cause, clusters)
             SELECT $1, (SELECT max(id) FROM rollout WHERE app_uid = $1), $2, $3, 'Progressing', $4,
                    cardinality($5::uuid[])
             WHERE cardinality($5::uuid[]) > 0
             RETURNING id),
           admitted AS (
             INSERT INTO admission (rollout_id, cluster_id, state)
             SELECT opened.id, cluster, $6 FROM opened, unnest($5::uuid[]) AS cluster)
           SELECT (SELECT id FROM opened) AS opened, ARRAY(SELECT DISTINCT rollout_id FROM turned) AS "turned!""#,
        commit.app_uid,
        commit.revision_id,
        commit.content.map(|digest| digest.as_bytes().to_vec()),
        moved().next().map_or("", |unit| unit.cause.as_str()),
        &clusters,
        AdmissionState::Admitted.as_str(),
        &ids,
        &former,
        &becomes as &[&str]
    )
    .fetch_one(tx)
    .await?;
    Ok((row.opened, row.turned))
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
