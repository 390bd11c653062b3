//! What is known of an app and of its units, for whoever asks why they are as they are: a statement for the app, one for its
//! source, and three for all units asked for, however many objects these have. All of them see one moment: a commit that
//! comes meanwhile is seen by all or by none.

mod objects;
mod places;
mod units;

use flotilla_core::{
    clock::Timestamp,
    explain::{Deleting, RenderState, Rendering, SourceState, Stated},
    rollout::waiting::Waiting,
};
use sqlx::types::Json;
use uuid::Uuid;

use super::{Result, Store, StoreError, reference::Reference, resource::Condition, silence::Transaction};
use crate::clock::timestamp;

pub use objects::{MovedExplained, NAMED, ObjectsExplained};
pub use units::UnitExplained;

/// What is known of an app but for its source and its units.
#[derive(Debug, Clone)]
pub struct AppExplained {
    /// It is to be deleted.
    pub deleting: Option<Deleting>,
    /// Its present spec was looked at.
    pub observed: bool,
    /// It is marked to be planned.
    pub due: bool,
    /// Why nothing, or not everything, of it moves.
    pub waiting: Vec<Waiting>,
    /// Since when.
    pub held_since: Option<Timestamp>,
    /// It was not planned since the hub was restored.
    pub unconfirmed: bool,
    /// The source of its input, and the digest of engine and fields; `None`: it has none.
    pub input: Option<(Uuid, Vec<u8>)>,
    /// What that renders to.
    pub rendering: Option<Rendering>,
    /// The content of that.
    pub content: Option<Vec<u8>>,
}

/// What is stored, as it is at one moment.
#[derive(Debug)]
pub struct Moment {
    tx: Transaction,
}

impl Store {
    /// This moment. It is kept on a connection until it has ended: nothing else is to be asked of the store meanwhile.
    pub async fn moment(&self) -> Result<Moment> {
        Ok(Moment {
            tx: self.pool().begin_reading().await?,
        })
    }
}

impl Moment {
    /// Gives the connection back.
    pub async fn end(self) -> Result<()> {
        Ok(self.tx.rollback().await?)
    }

    /// What is known of an app, whose spec of this generation is explained; `None`: it is gone.
    pub async fn app(&mut self, app: Uuid, generation: i64) -> Result<Option<AppExplained>> {
        let row = sqlx::query!(
            r#"SELECT r.deleting_at AS "deleting_at?", coalesce(r.deletion_policy, '') AS "policy!",
                      coalesce(r.deletion_by, '') AS "deletion_by!", d.key IS NOT NULL AS "due!",
                      coalesce(p.observed_generation = $2 AND r.generation = $2, false) AS "observed!",
                      coalesce(p.waiting, '[]') AS "waiting!: Json<Vec<Waiting>>", p.held_at AS "held_at?",
                      n.uid IS NOT NULL AS "unconfirmed!", v.revision AS "revision?", x.state AS "state?", x.content AS "content?",
                      x.reason AS "reason?", x.message AS "message?", x.attempts AS "attempts?",
                      t.source_uid AS "source?", t.fields AS "fields?", x.begun_by <> '' AS "running?", x.not_before AS "not_before?", x.finished_at AS "finished_at?"
               FROM resource r
               LEFT JOIN app_plan p ON p.app_uid = r.uid
               LEFT JOIN due d ON d.topic = 'app' AND d.key = r.uid
               LEFT JOIN unconfirmed n ON n.uid = r.uid
               LEFT JOIN app_input i ON i.app_uid = r.uid
               LEFT JOIN input_at t ON t.input_key = i.input_key AND t.newest
               LEFT JOIN source_state s ON s.uid = t.source_uid
               LEFT JOIN revision v ON v.id = s.revision_id
               LEFT JOIN rendering x ON x.digest = t.rendering
               WHERE r.uid = $1"#,
            app,
            generation
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        Ok(row.map(|row| AppExplained {
            deleting: row.deleting_at.map(|at| Deleting {
                at: timestamp(at),
                policy: row.policy,
                by: row.deletion_by,
            }),
            observed: row.observed,
            due: row.due,
            waiting: row.waiting.0,
            held_since: row.held_at.map(timestamp),
            unconfirmed: row.unconfirmed,
            input: row.source.zip(row.fields),
            rendering: row.revision.map(|revision| Rendering {
                revision,
                state: render_state(row.state.as_deref()),
                reason: row.reason.unwrap_or_default(),
                message: row.message.unwrap_or_default(),
                attempts: row.attempts.map_or(0, count),
                running: row.running.unwrap_or_default(),
                again: row.not_before.map(timestamp),
                ended: row.finished_at.map(timestamp),
            }),
            content: row.content,
        }))
    }

    /// Which source that is, and what is known of it; `None`: it is not there.
    pub async fn source(&mut self, named: &Reference) -> Result<Option<(Uuid, SourceState)>> {
        let row = sqlx::query!(
            r#"SELECT r.uid, coalesce(r.suspended, r.spec->'suspend' = 'true', false) AS "suspended!", r.not_supported AS "not_supported!",
                      c.observed_generation = r.generation AS "is_said?", c.conditions AS "conditions?",
                      v.revision AS "revision?", v.subject AS "subject?", s.last_probe AS "last_probe?", s.next_probe AS "next_probe?",
                      coalesce(s.failures, 0) AS "failures!", n.uid IS NOT NULL AS "unconfirmed!"
               FROM resource r
               LEFT JOIN resource_status c ON c.uid = r.uid
               LEFT JOIN source_state s ON s.uid = r.uid
               LEFT JOIN revision v ON v.id = s.revision_id
               LEFT JOIN unconfirmed n ON n.uid = r.uid
               WHERE r.scope = $1 AND r.kind = $2 AND r.namespace = $3 AND r.name = $4"#,
            named.scope,
            named.kind,
            named.namespace,
            named.name
        )
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let conditions: Vec<Condition> = match row.conditions {
            Some(value) => serde_json::from_value(value)
                .map_err(|e| StoreError::corrupt(format!("resource_status {}", row.uid), e))?,
            None => Vec::new(),
        };
        let ready = conditions.into_iter().find(|one| one.type_ == "Ready");
        let ready = ready.filter(|_| row.is_said == Some(true));
        let state = SourceState {
            suspended: row.suspended,
            not_supported: row.not_supported,
            said: ready.map(|ready| Stated {
                status: ready.status,
                reason: ready.reason,
                message: ready.message,
                since: Timestamp(ready.since_ms),
            }),
            revision: row.revision,
            subject: row.subject.unwrap_or_default(),
            looked: row.last_probe.map(timestamp),
            next: row.next_probe.map(timestamp),
            failures: count(row.failures),
            unconfirmed: row.unconfirmed,
        };
        Ok(Some((row.uid, state)))
    }
}

fn render_state(state: Option<&str>) -> RenderState {
    match state {
        Some("Done") => RenderState::Done,
        Some("Failed") => RenderState::Failed,
        Some("NotSupported") => RenderState::NotSupported,
        _ => RenderState::Pending,
    }
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}
