//! What people have asked for and allowed of deletions and removals. It is kept; nothing is removed by it.

use flotilla_core::{digest::Digest, removal::DeletionPolicy};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store, StoreError, Topic, authority::audit, nudge};

/// A request to delete a configured object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// Since when.
    pub at: OffsetDateTime,
    /// What is to become of what it has applied; `None`: a policy of a newer hub.
    pub policy: Option<DeletionPolicy>,
}

impl Store {
    /// Records that an object is to be deleted. The first request gives its time, the last one the policy. `false`: there is
    /// no such object.
    pub async fn request_deletion(&self, uid: Uuid, policy: DeletionPolicy, principal: &str) -> Result<bool> {
        let mut tx = self.pool().begin().await?;
        let done = sqlx::query!(
            "UPDATE resource SET deleting_at = coalesce(deleting_at, now()), deletion_policy = $2 WHERE uid = $1",
            uid,
            policy.as_str()
        )
        .execute(&mut *tx)
        .await?;
        let found = done.rows_affected() == 1;
        if found {
            audit(&mut tx, principal, "delete", &format!("resource/{uid}")).await?;
            nudge(&mut tx, Topic::Resource, &[uid]).await?;
        }
        tx.commit().await?;
        Ok(found)
    }

    /// Whether an object is to be deleted.
    pub async fn deletion(&self, uid: Uuid) -> Result<Option<Deletion>> {
        let row = sqlx::query!(
            r#"SELECT deleting_at AS "at!", coalesce(deletion_policy, '') AS "policy!" FROM resource
               WHERE uid = $1 AND deleting_at IS NOT NULL"#,
            uid
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|row| Deletion {
            at: row.at,
            policy: DeletionPolicy::parse(&row.policy),
        }))
    }

    /// Allows the removal of a unit with this target. `false`: it has another one by now.
    pub async fn approve_removal(&self, unit: Uuid, target: Digest, principal: &str) -> Result<bool> {
        let mut tx = self.pool().begin().await?;
        let done = sqlx::query!(
            "INSERT INTO approval (unit_id, target, principal)
             SELECT id, target, $3 FROM unit WHERE id = $1 AND target = $2
             ON CONFLICT (unit_id, target) DO UPDATE SET principal = excluded.principal, at = now()",
            unit,
            &target.as_bytes()[..],
            principal
        )
        .execute(&mut *tx)
        .await?;
        let approved = done.rows_affected() == 1;
        if approved {
            audit(
                &mut tx,
                principal,
                "removal.approve",
                &format!("unit/{unit}/{target}"),
            )
            .await?;
        }
        tx.commit().await?;
        Ok(approved)
    }

    /// The present target of a unit, if its removal was allowed for that one.
    pub async fn removal_approval(&self, unit: Uuid) -> Result<Option<Digest>> {
        let target = sqlx::query_scalar!(
            "SELECT a.target FROM approval a JOIN unit u ON u.id = a.unit_id AND u.target = a.target WHERE u.id = $1",
            unit
        )
        .fetch_optional(self.pool())
        .await?;
        let target = target.as_deref().map(Digest::try_from_slice).transpose();
        target.map_err(|e| StoreError::corrupt(format!("approval of unit {unit}"), e))
    }
}
