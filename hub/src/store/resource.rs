//! Configured objects: reading them, and what commands and tasks write onto them.

use std::{collections::HashMap, sync::Arc};

use flotilla_api::Kind;
use flotilla_core::id::AppName;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Connection, Result, Store, StoreError, Topic, apply::payload_aad, nudge, wake_apps};
use crate::auth::seal::Seal;

/// The scope of what belongs to no cluster.
pub const FLEET: Uuid = Uuid::nil();

/// A configured object. A Secret's values are not in it.
#[derive(Debug, Clone)]
pub struct ResourceRow {
    /// Identity.
    pub uid: Uuid,
    /// Cluster in whose scope it is, or [`FLEET`].
    pub scope: Uuid,
    /// The scope as people name it: '' for the fleet.
    pub cluster: String,
    /// API group.
    pub api_group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Current API version.
    pub api_version: String,
    /// Rises with each change of the spec.
    pub generation: i64,
    /// metadata.labels.
    pub labels: Value,
    /// metadata.annotations, over which those lie that commands have set.
    pub annotations: Value,
    /// Spec as last applied.
    pub spec: Value,
    /// Set by `suspend` and `resume`; wins over the spec's field.
    pub suspended: Option<bool>,
    /// Last request to reconcile.
    pub requested_at: String,
    /// Last request that was handled.
    pub handled_at: String,
    /// Digest of a ConfigMap's or Secret's values.
    pub payload_digest: Option<Vec<u8>>,
    /// What this release keeps but does not reconcile.
    pub not_supported: Vec<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// It is to be deleted, and so is to become of what it has applied: a policy's name.
    pub deletion: Option<String>,
    /// Who has asked for that last; '' where that is not known.
    pub deletion_by: String,
    /// `Kind/namespace/name` of the app that renders it and for which it is kept; '' for none.
    pub owner: String,
}

/// Asks for objects: what of `resource r` is theirs, joins first.
macro_rules! resources {
    ($spec:literal, $which:literal, $($arguments:tt)+) => {
        sqlx::query_as!(
            ResourceRow,
            "SELECT r.uid, r.scope, scope_name(r.scope) AS \"cluster!\", r.api_group, r.kind, r.namespace, r.name,
                    r.api_version, r.generation, r.labels, r.annotations || r.overlay AS \"annotations!\",
                    r.suspended, r.requested_at, r.handled_at, r.payload_digest, r.not_supported, r.created_at,
                    CASE WHEN r.deleting_at IS NOT NULL THEN coalesce(r.deletion_policy, '') END AS deletion,
                    coalesce(r.deletion_by, '') AS \"deletion_by!\",
                    coalesce((SELECT object_name(k.kind, k.namespace, k.name) FROM resource k WHERE k.uid = r.owner), '')
                      AS \"owner!\", "
                + $spec + " FROM resource r " + $which,
            $($arguments)+
        )
    };
    ($which:literal, $($arguments:tt)+) => {
        resources!("r.spec", $which, $($arguments)+)
    };
}

impl ResourceRow {
    /// What units of it are named by, if it is an app.
    pub fn as_app(&self) -> AppName<'_> {
        AppName {
            scope: self.scope,
            group: &self.api_group,
            kind: &self.kind,
            namespace: &self.namespace,
            name: &self.name,
        }
    }

    /// Whether reconciliation is suspended: by command, else by the spec.
    pub fn is_suspended(&self) -> bool {
        self.suspended
            .unwrap_or_else(|| self.spec.get("suspend").and_then(Value::as_bool).unwrap_or(false))
    }

    /// Whether units are made of it.
    pub fn is_app(&self) -> bool {
        Kind::named(&self.kind).is_some_and(Kind::is_planned)
    }

    /// Whether the hub fetches it.
    pub fn is_source(&self) -> bool {
        Kind::named(&self.kind).is_some_and(Kind::is_fetched)
    }

    /// `Kind/namespace/name`.
    pub fn display(&self) -> String {
        if self.namespace.is_empty() {
            format!("{}/{}", self.kind, self.name)
        } else {
            format!("{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Conditions of a kind that is not a unit.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Condition {
    /// `Ready`, `Reconciling`, `Stalled` …
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Unix milliseconds of the last change of `status`.
    pub since_ms: i64,
}

/// Apps above one another that are looked through; more never render one another.
const ABOVE: i32 = 32;

impl Store {
    /// Reads one object.
    pub async fn resource(&self, uid: Uuid) -> Result<Option<ResourceRow>> {
        Ok(resources!("WHERE r.uid = $1", uid)
            .fetch_optional(self.pool())
            .await?)
    }

    /// Reads objects; those that are not there are left out.
    pub async fn resources(&self, uids: &[Uuid]) -> Result<Vec<ResourceRow>> {
        Ok(resources!("WHERE r.uid = ANY($1)", uids)
            .fetch_all(self.pool())
            .await?)
    }

    /// Looks an object up by identity. The group is told by the kind.
    pub async fn resource_by_name(
        &self,
        scope: Uuid,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ResourceRow>> {
        Ok(resources!(
            "WHERE r.scope = $1 AND r.kind = $2 AND r.namespace = $3 AND r.name = $4",
            scope,
            kind,
            namespace,
            name
        )
        .fetch_optional(self.pool())
        .await?)
    }

    /// Looks up what an object of this scope names: in its own scope, else in the fleet's.
    pub async fn resource_named(
        &self,
        scope: Uuid,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ResourceRow>> {
        let own = self.resource_by_name(scope, kind, namespace, name).await?;
        match own {
            None if scope != FLEET => self.resource_by_name(FLEET, kind, namespace, name).await,
            own => Ok(own),
        }
    }

    /// Whether what an object in a cluster's scope names may be the fleet's: it is kept for an app of its own namespace, which
    /// an app of the fleet has rendered, and none of those that render it acts as an account. Whoever has no more than the rights
    /// of an account, or of one cluster, is given nothing of the fleet's credentials.
    pub async fn has_the_fleets(&self, object: Uuid) -> Result<bool> {
        let has = sqlx::query_scalar!(
            r#"WITH RECURSIVE above AS (
                 SELECT r.owner, r.scope, r.namespace, true AS free, 0 AS depth FROM resource r WHERE r.uid = $1
                 UNION ALL
                 SELECT p.owner, p.scope, p.namespace,
                        coalesce(p.spec->>'serviceAccountName', '') = '' AND (a.depth > 0 OR p.namespace = a.namespace),
                        a.depth + 1
                 FROM above a JOIN resource p ON p.uid = a.owner WHERE a.depth < $2)
               SELECT coalesce(bool_and(free) AND bool_or(depth > 0 AND owner IS NULL AND scope = fleet()), false) AS "has!"
               FROM above"#,
            object,
            ABOVE
        )
        .fetch_one(self.pool())
        .await?;
        Ok(has)
    }

    /// All objects of a kind in every scope, ordered by identity.
    pub async fn resources_of_kind(&self, kind: &str) -> Result<Vec<ResourceRow>> {
        Ok(
            resources!("WHERE r.kind = $1 ORDER BY r.scope, r.namespace, r.name", kind)
                .fetch_all(self.pool())
                .await?,
        )
    }

    /// The placements that name each of these apps, ordered by identity, without the apps that they name: those may be
    /// thousands. One that names several of them is read once.
    pub async fn placements_of(&self, apps: &[Arc<ResourceRow>]) -> Result<Vec<Vec<Arc<ResourceRow>>>> {
        let column = |of: fn(&ResourceRow) -> &str| -> Vec<&str> { apps.iter().map(|app| of(app)).collect() };
        let scopes: Vec<Uuid> = apps.iter().map(|app| app.scope).collect();
        let named = sqlx::query!(
            r#"SELECT f.referrer AS "referrer!", array_agg(v.number) AS "numbers!"
               FROM unnest($1::text[], $2::uuid[], $3::text[], $4::text[]) WITH ORDINALITY
                 AS v(kind, scope, namespace, name, number)
               -- Each is looked up, whatever is known of the tables. A placement names apps of its own scope: who needs one of
               -- the fleet's in clusters is not read.
               CROSS JOIN LATERAL (
                 SELECT referrer FROM reference f
                 WHERE (f.kind, f.scope, f.namespace, f.name, f.of_scope) = (v.kind, v.scope, v.namespace, v.name, v.scope)
                 OFFSET 0) AS f
               GROUP BY 1"#,
            &column(|app| &app.kind) as &[&str],
            &scopes,
            &column(|app| &app.namespace) as &[&str],
            &column(|app| &app.name) as &[&str]
        )
        .fetch_all(self.pool())
        .await?;
        let mut placements: Vec<Vec<Arc<ResourceRow>>> = apps.iter().map(|_| Vec::new()).collect();
        if named.is_empty() {
            return Ok(placements);
        }
        let of: HashMap<Uuid, Vec<i64>> = named.into_iter().map(|row| (row.referrer, row.numbers)).collect();
        let uids: Vec<Uuid> = of.keys().copied().collect();
        let rows = resources!(
            "r.spec_without_apps AS \"spec!\"",
            "WHERE r.kind = 'Placement' AND r.uid = ANY ($1) ORDER BY r.scope, r.namespace, r.name",
            &uids
        )
        .fetch_all(self.pool())
        .await?;
        for row in rows.into_iter().map(Arc::new) {
            for number in of.get(&row.uid).into_iter().flatten() {
                let place = usize::try_from(number - 1)
                    .ok()
                    .and_then(|place| placements.get_mut(place));
                if let Some(place) = place {
                    place.push(row.clone());
                }
            }
        }
        Ok(placements)
    }

    /// The cluster groups of these names.
    pub async fn cluster_groups(&self, names: &[&str]) -> Result<Vec<ResourceRow>> {
        Ok(resources!(
            "WHERE r.scope = fleet() AND r.kind = 'ClusterGroup' AND r.namespace = '' AND r.name = ANY($1)
             ORDER BY r.name",
            names as &[&str]
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// The apps that placements name, by placement.
    pub async fn placed_apps(&self) -> Result<Vec<(Uuid, Uuid)>> {
        let rows = sqlx::query!(
            "SELECT f.referrer, a.uid FROM resource p JOIN reference f ON f.referrer = p.uid
               JOIN resource a ON (a.kind, a.scope, a.namespace, a.name) = (f.kind, f.scope, f.namespace, f.name)
             WHERE p.kind = 'Placement' AND is_app(a.kind)"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| (row.referrer, row.uid)).collect())
    }

    /// Identities of all sources that are fetched.
    pub async fn source_uids(&self) -> Result<Vec<Uuid>> {
        Ok(
            sqlx::query_scalar!("SELECT uid FROM resource WHERE is_source(kind) ORDER BY uid")
                .fetch_all(self.pool())
                .await?,
        )
    }

    /// The kinds of objects; one that is gone is left out.
    pub async fn kinds_of(&self, uids: &[Uuid]) -> Result<Vec<(Uuid, String)>> {
        let rows = sqlx::query!("SELECT uid, kind FROM resource WHERE uid = ANY($1)", uids)
            .fetch_all(self.pool())
            .await?;
        Ok(rows.into_iter().map(|row| (row.uid, row.kind)).collect())
    }

    /// Opens the values of a ConfigMap or Secret: canonical JSON map of string to string.
    pub async fn payload(&self, uid: Uuid, seal: &Seal) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let sealed = sqlx::query_scalar!("SELECT sealed_payload FROM resource WHERE uid = $1", uid)
            .fetch_optional(self.pool())
            .await?
            .flatten();
        let Some(sealed) = sealed else { return Ok(None) };
        let aad = payload_aad(uid);
        seal.open(&aad, &sealed)
            .map(Some)
            .map_err(|e| StoreError::corrupt(aad, e))
    }

    /// Records a request to reconcile; any new value is a request. One of a person, `by`, is audited.
    pub async fn request(&self, uids: &[Uuid], value: &str, by: Option<&str>) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        sqlx::query!(
            "UPDATE resource SET requested_at = $2 WHERE uid = ANY($1)",
            uids,
            value
        )
        .execute(&mut *tx)
        .await?;
        let apps = apps_among(&mut tx, uids).await?;
        wake_apps(&mut tx, &apps).await?;
        nudge(&mut tx, Topic::Resource, uids).await?;
        if let Some(principal) = by {
            for uid in uids {
                super::authority::audit(&mut tx, principal, "reconcile", &format!("resource/{uid}")).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// The objects of this name, or with these labels where the name is `*`.
    pub async fn uids_named(
        &self,
        scope: Uuid,
        kind: &str,
        namespace: &str,
        name: &str,
        labels: &Value,
    ) -> Result<Vec<Uuid>> {
        Ok(sqlx::query_scalar!(
            "SELECT uid FROM resource WHERE scope = $1 AND kind = $2 AND namespace = $3
               AND (name = $4 OR ($4 = '*' AND labels @> $5)) ORDER BY uid",
            scope,
            kind,
            namespace,
            name,
            labels
        )
        .fetch_all(self.pool())
        .await?)
    }

    /// Records that a request was handled.
    pub async fn handled(&self, uid: Uuid, value: &str) -> Result<()> {
        sqlx::query!(
            "UPDATE resource SET handled_at = $2 WHERE uid = $1 AND handled_at <> $2",
            uid,
            value
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Sets an annotation by command: it wins over the owner's, and stays when that is applied again.
    pub async fn annotate(&self, uid: Uuid, key: &str, value: &str, principal: &str) -> Result<()> {
        let mut tx = self.pool().begin().await?;
        sqlx::query!(
            "UPDATE resource SET overlay = overlay || jsonb_build_object($2::text, $3::text), updated_at = now()
             WHERE uid = $1",
            uid,
            key,
            value
        )
        .execute(&mut *tx)
        .await?;
        let apps = apps_among(&mut tx, &[uid]).await?;
        wake_apps(&mut tx, &apps).await?;
        nudge(&mut tx, Topic::Resource, &[uid]).await?;
        super::authority::audit(&mut tx, principal, "annotate", &format!("resource/{uid}")).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Suspends or resumes by command. `false` when it was so already.
    pub async fn set_suspended(&self, uid: Uuid, suspend: bool, principal: &str) -> Result<bool> {
        let mut tx = self.pool().begin().await?;
        let done = sqlx::query!(
            "UPDATE resource SET suspended = $2, generation = generation + 1, updated_at = now()
             WHERE uid = $1 AND coalesce(suspended, (spec->>'suspend')::boolean, false) <> $2",
            uid,
            suspend
        )
        .execute(&mut *tx)
        .await?;
        let changed = done.rows_affected() == 1;
        if changed {
            let apps = apps_among(&mut tx, &[uid]).await?;
            wake_apps(&mut tx, &apps).await?;
            nudge(&mut tx, Topic::Resource, &[uid]).await?;
            let (verb, reason, did) = match suspend {
                true => ("suspend", "Suspended", "suspended"),
                false => ("resume", "Resumed", "resumed"),
            };
            super::event::tell(&mut tx, &[uid], reason, &format!("{did} by {principal}")).await?;
            super::authority::audit(&mut tx, principal, verb, &format!("resource/{uid}")).await?;
        }
        tx.commit().await?;
        Ok(changed)
    }
}

/// Those of these objects that are apps.
async fn apps_among(tx: &mut Connection, uids: &[Uuid]) -> Result<Vec<Uuid>> {
    Ok(sqlx::query_scalar!(
        "SELECT uid FROM resource WHERE uid = ANY($1) AND is_app(kind)",
        uids
    )
    .fetch_all(tx)
    .await?)
}
