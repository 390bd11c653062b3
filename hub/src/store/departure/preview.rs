//! What would follow if a cluster departed.

use flotilla_core::{fleet::departure::Departure, removal::DeletionPolicy, unit::UnitState};
use serde_json::Value;

use crate::store::{Result, Store, plan::parse_state};

/// What would follow if a cluster departed.
#[derive(Debug, Clone)]
pub struct DeparturePreview {
    /// Its agent is there.
    pub connected: bool,
    /// It had an agent at some time.
    pub joined: bool,
    /// What it is doing already.
    pub departure: Option<Departure>,
    /// Its units, by app.
    pub units: Vec<DepartingUnit>,
}

/// A unit of a cluster that would depart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepartingUnit {
    /// Its app, by name.
    pub app: String,
    /// What its app says of deletion; `None`: a policy of a newer hub.
    pub policy: Option<DeletionPolicy>,
    /// What is done with it.
    pub state: UnitState,
    /// Its app is suspended.
    pub suspended: bool,
    /// It prunes.
    pub prune: bool,
    /// What it has in the cluster.
    pub objects: u64,
}

impl Store {
    /// What would follow if a cluster departed; `None`: there is no such cluster.
    pub async fn departure_preview(&self, name: &str) -> Result<Option<DeparturePreview>> {
        let found = sqlx::query!(
            r#"SELECT c.id, c.departure, coalesce(p.connected, false) AS "connected!", p.cluster_id IS NOT NULL AS "joined!"
               FROM cluster c LEFT JOIN presence p ON p.cluster_id = c.id WHERE c.name = $1"#,
            name
        )
        .fetch_optional(self.pool())
        .await?;
        let Some(cluster) = found else {
            return Ok(None);
        };
        let units = sqlx::query!(
            r#"SELECT object_name(r.kind, r.namespace, r.name) AS "app!", u.state, u.removal,
                      coalesce(r.suspended, r.spec->'suspend' = 'true', false) AS "suspended!",
                      r.spec->'deletionPolicy' AS policy, coalesce(r.spec->'prune' = 'true', false) AS "prune!",
                      coalesce(s.objects + s.objects_pending_removal, 0) AS "objects!"
               FROM unit u JOIN resource r ON r.uid = u.app_uid
                 LEFT JOIN unit_status s ON s.unit_id = u.id
               WHERE u.cluster_id = $1 ORDER BY 1 LIMIT 20001"#,
            cluster.id
        )
        .fetch_all(self.pool())
        .await?;
        let units = units.into_iter().map(|row| DepartingUnit {
            app: row.app,
            policy: match row.policy.as_ref().map(Value::as_str) {
                None | Some(Some("")) => Some(DeletionPolicy::MirrorPrune),
                Some(said) => said.and_then(DeletionPolicy::parse),
            },
            state: parse_state(&row.state, row.removal),
            suspended: row.suspended,
            prune: row.prune,
            objects: u64::try_from(row.objects).unwrap_or_default(),
        });
        Ok(Some(DeparturePreview {
            connected: cluster.connected,
            joined: cluster.joined,
            departure: cluster.departure.as_deref().map(Departure::parse),
            units: units.collect(),
        }))
    }
}
