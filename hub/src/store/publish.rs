//! The publisher: one transaction per cluster reads its units, and raises the generation only if the root
//! differs. Index and streams read nothing but what is committed here.

use flotilla_core::{
    digest::Digest,
    id::{ResourceUid, UnitId},
    unit::{AppRef, Entry, root},
};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Result, Store, StoreError, Topic, nudge, plan::parse_state, session::signed};

/// A cluster's committed desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredRow {
    /// Number of the hub's history.
    pub incarnation: u64,
    /// Number of this state.
    pub generation: u64,
    /// Root digest.
    pub root: Digest,
    /// Entries ordered by unit.
    pub entries: Vec<EntryRow>,
}

/// One entry, in the bytes its digest covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRow {
    /// The unit.
    pub unit: Uuid,
    /// Digest of the bytes.
    pub digest: Digest,
    /// Canonical JSON.
    pub bytes: Vec<u8>,
    /// Generation in which it last changed.
    pub since: u64,
}

/// A publication that changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Number of the new state.
    pub generation: u64,
    /// Units whose entries are new.
    pub changed: Vec<Uuid>,
}

impl Store {
    /// Publishes a cluster's units. `None` when nothing differs; `Superseded` where this hub does not publish.
    pub async fn publish(&self, cluster_id: Uuid, incarnation: u64) -> Result<Option<Published>> {
        let mut tx = self.pool().begin().await?;
        let empty = root([]);
        sqlx::query!(
            "INSERT INTO desired (cluster_id, incarnation, root) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            cluster_id,
            signed(incarnation),
            &empty.as_bytes()[..]
        )
        .execute(&mut *tx)
        .await?;
        let old = sqlx::query!(
            r#"SELECT generation, root, superseded($2) AS "superseded!" FROM desired WHERE cluster_id = $1 FOR UPDATE"#,
            cluster_id,
            self.writer
        )
        .fetch_one(&mut *tx)
        .await?;
        if old.superseded {
            return Err(StoreError::Superseded);
        }
        let entries = entries(&mut tx, cluster_id).await?;
        let new_root = root(entries.iter().map(|entry| (UnitId(entry.0), entry.1)));
        if old.root == new_root.as_bytes() {
            return Ok(None);
        }
        let generation = old.generation + 1;
        let changed = write_entries(&mut tx, cluster_id, generation, &entries).await?;
        sqlx::query!(
            "UPDATE desired SET generation = $2, root = $3, published_at = now() WHERE cluster_id = $1",
            cluster_id,
            generation,
            &new_root.as_bytes()[..]
        )
        .execute(&mut *tx)
        .await?;
        nudge(&mut tx, Topic::Desired, &[cluster_id]).await?;
        tx.commit().await?;
        Ok(Some(Published {
            generation: generation.unsigned_abs(),
            changed,
        }))
    }

    /// Reads a cluster's committed desired state; `None` before the first publication.
    pub async fn desired(&self, cluster_id: Uuid) -> Result<Option<DesiredRow>> {
        // One snapshot for head and entries.
        let mut tx = self.pool().begin().await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .execute(&mut *tx)
            .await?;
        let head = sqlx::query!(
            "SELECT incarnation, generation, root FROM desired WHERE cluster_id = $1",
            cluster_id
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(head) = head else { return Ok(None) };
        let rows = sqlx::query!(
            "SELECT unit_id, digest, bytes, since_generation FROM desired_entry WHERE cluster_id = $1 ORDER BY unit_id",
            cluster_id
        )
        .fetch_all(&mut *tx)
        .await?;
        let digest = |bytes: &[u8]| {
            Digest::try_from_slice(bytes)
                .map_err(|e| StoreError::corrupt(format!("desired of {cluster_id}"), e))
        };
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            entries.push(EntryRow {
                unit: row.unit_id,
                digest: digest(&row.digest)?,
                bytes: row.bytes,
                since: row.since_generation.unsigned_abs(),
            });
        }
        Ok(Some(DesiredRow {
            incarnation: head.incarnation.unsigned_abs(),
            generation: head.generation.unsigned_abs(),
            root: digest(&head.root)?,
            entries,
        }))
    }

    /// Generations of the given clusters: what the index polls behind every notification.
    pub async fn desired_generations(&self, clusters: &[Uuid]) -> Result<Vec<(Uuid, u64)>> {
        let rows = sqlx::query!(
            "SELECT cluster_id, generation FROM desired WHERE cluster_id = ANY($1)",
            clusters
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.cluster_id, row.generation.unsigned_abs()))
            .collect())
    }
}

async fn entries(tx: &mut PgConnection, cluster_id: Uuid) -> Result<Vec<(Uuid, Digest, Vec<u8>)>> {
    let rows = sqlx::query!(
        r#"SELECT u.id, u.version, u.content, u.target, u.state, u.settings, u.variables, u.withheld, u.requested,
                  u.app_uid, r.kind, r.namespace, r.name, coalesce(v.revision, '') AS "revision!"
           FROM unit u JOIN resource r ON r.uid = u.app_uid LEFT JOIN revision v ON v.id = u.revision_id
           WHERE u.cluster_id = $1 ORDER BY u.id"#,
        cluster_id
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let corrupt = |e: serde_json::Error| StoreError::corrupt(format!("unit {}", row.id), e);
        let digest = |bytes: &[u8]| {
            Digest::try_from_slice(bytes).map_err(|e| StoreError::corrupt(format!("unit {}", row.id), e))
        };
        let entry = Entry {
            unit: UnitId(row.id),
            version: row.version.unsigned_abs(),
            app: AppRef {
                uid: ResourceUid(row.app_uid),
                kind: row.kind.clone(),
                namespace: row.namespace.clone(),
                name: row.name.clone(),
            },
            content: row.content.as_deref().map(digest).transpose()?,
            target: digest(&row.target)?,
            revision: row.revision.clone(),
            state: parse_state(&row.state),
            prune_cleared: None,
            settings: serde_json::from_value(row.settings.clone()).map_err(corrupt)?,
            variables: serde_json::from_value(row.variables.clone()).map_err(corrupt)?,
            depends_on: Vec::new(),
            withheld: serde_json::from_value(row.withheld.clone()).map_err(corrupt)?,
            requested: row.requested.clone(),
        };
        let bytes = entry.to_bytes();
        entries.push((row.id, Entry::digest_of(&bytes), bytes));
    }
    Ok(entries)
}

async fn write_entries(
    tx: &mut PgConnection,
    cluster_id: Uuid,
    generation: i64,
    entries: &[(Uuid, Digest, Vec<u8>)],
) -> Result<Vec<Uuid>> {
    let mut changed = Vec::new();
    for batch in entries.chunks(1000) {
        let units: Vec<Uuid> = batch.iter().map(|entry| entry.0).collect();
        let digests: Vec<Vec<u8>> = batch.iter().map(|entry| entry.1.as_bytes().to_vec()).collect();
        let bytes: Vec<Vec<u8>> = batch.iter().map(|entry| entry.2.clone()).collect();
        let wrote = sqlx::query_scalar!(
            "INSERT INTO desired_entry (cluster_id, unit_id, digest, bytes, since_generation)
             SELECT $1, u, d, b, $2 FROM unnest($3::uuid[], $4::bytea[], $5::bytea[]) AS v(u, d, b)
             ON CONFLICT (cluster_id, unit_id) DO UPDATE SET digest = excluded.digest, bytes = excluded.bytes,
               since_generation = excluded.since_generation
               WHERE desired_entry.digest <> excluded.digest RETURNING unit_id",
            cluster_id,
            generation,
            &units,
            &digests,
            &bytes
        )
        .fetch_all(&mut *tx)
        .await?;
        changed.extend(wrote);
    }
    Ok(changed)
}
