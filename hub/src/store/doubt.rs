//! What is recorded where somebody else shows a cluster's identity: people are told, and where `core` says so its agents get
//! nothing until they have decided.

use flotilla_core::doubt::{Sign, Verdict, judge, message};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Result, Store, Topic,
    authority::audit,
    nudge_all,
    report::{ConditionRow, write_conditions},
};
use crate::clock::timestamp;

/// The condition that says whether one agent alone shows a cluster's identity.
pub(super) const IDENTITY: &str = "Identity";

impl Store {
    /// Records a sign of a second holder of a cluster's identity, in the words of what was seen. Nothing is recorded of a
    /// cluster that has no agent, or whose agents get nothing already.
    pub async fn doubt(
        &self,
        cluster_id: Uuid,
        sign: Sign,
        seen: &str,
        now: OffsetDateTime,
    ) -> Result<Verdict> {
        let mut tx = self.pool().begin().await?;
        let cluster = sqlx::query!(
            r#"SELECT c.name, k.since AS "since?", k.message AS "message?"
               FROM cluster c LEFT JOIN cluster_condition k ON k.cluster_id = c.id AND k.kind = $2 AND NOT k.ok
               WHERE c.id = $1 AND c.state = 'Active' FOR UPDATE OF c"#,
            cluster_id,
            IDENTITY
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(cluster) = cluster else {
            return Ok(Verdict::Tell);
        };
        // Of another sign people were told of something else.
        let same = cluster.message.is_some_and(|told| told.starts_with(seen));
        let told = cluster.since.filter(|_| same).map(timestamp);
        let verdict = judge(sign, told, timestamp(now));
        let message = message(&cluster.name, sign, seen, verdict);
        let condition = ConditionRow::new(IDENTITY, message.clone(), now);
        let changed = !write_conditions(&mut tx, &[(cluster_id, &condition)])
            .await?
            .is_empty();
        if verdict == Verdict::Quarantine {
            tracing::error!("{message}");
            sqlx::query!(
                "WITH told AS (
                   INSERT INTO event (warning, reason, message, cluster_id) VALUES (true, 'Quarantined', $2, $1))
                 UPDATE cluster SET state = 'Suspended' WHERE id = $1",
                cluster_id,
                message
            )
            .execute(&mut *tx)
            .await?;
            audit(
                &mut tx,
                "hub",
                "cluster.quarantine",
                &format!("cluster/{}", cluster.name),
            )
            .await?;
            nudge_all(
                &mut tx,
                &[(Topic::Identity, &[cluster_id]), (Topic::Session, &[cluster_id])],
            )
            .await?;
        } else if changed {
            tracing::warn!("{message}");
            nudge_all(&mut tx, &[(Topic::Session, &[cluster_id])]).await?;
        }
        tx.commit().await?;
        Ok(verdict)
    }
}
