//! The publisher: one transaction for many clusters takes the units that changed, and raises a cluster's generation only
//! if its root differs. Index and streams read nothing but what is committed here.

mod known;
mod reachable;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flotilla_core::{
    desired::Head,
    digest::{Digest, canonical_json},
    id::{ResourceUid, UnitId},
    removal::Clearing,
    unit::{AppRef, Entry, UnitState, VariableLayer, root},
};
pub(super) use known::Known;
pub use reachable::{Question, Reachable};
use uuid::Uuid;

use self::known::Entries;
use super::{
    Connection, Result, Store, StoreError, Topic, leaving, nudge, plan::parse_state, replica::WRITER,
    session::signed, target::Targets,
};

/// Clusters that one transaction publishes.
pub const CLUSTERS: usize = 500;
/// Entries in one statement.
const ENTRIES: usize = 2000;

/// A cluster's committed desired state, or what of it changed after a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredRow {
    /// Which.
    pub head: Head,
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
    /// The agent is to let go of it; it has no bytes, and is no part of the root.
    pub released: bool,
    /// The content that it had before, and the one that it has, where it has another than before.
    pub change: Option<(Digest, Digest)>,
}

/// A publication that changed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The cluster.
    pub cluster: Uuid,
    /// Number of the new state.
    pub generation: u64,
    /// The new state.
    pub head: Head,
    /// Entries that are new with it, ordered by unit.
    pub entries: Vec<EntryRow>,
}

impl Store {
    /// Publishes the units of these clusters that changed, at most [`CLUSTERS`] of them, and states that were published
    /// under a former incarnation. Returns those whose state differs from what it was; `Superseded` where this hub does
    /// not publish. Rows are locked by cluster, as planners lock them.
    pub async fn publish(&self, clusters: &[Uuid], incarnation: u64) -> Result<Vec<Published>> {
        let mut tx = self.pool().begin().await?;
        let locked = lock(&mut tx, clusters, incarnation, self.writer).await?;
        let units: Vec<Uuid> = locked
            .values()
            .flat_map(|state| state.units.iter().copied())
            .collect();
        let changed = entries_of(&mut tx, &units, self.writer).await?;
        let former = locked.iter().filter(|(_, state)| state.former).map(|(id, _)| *id);
        let mut touched: BTreeSet<Uuid> = former.collect();
        if changed.is_empty() && touched.is_empty() {
            tx.commit().await?;
            return Ok(Vec::new());
        }
        let concerned = changed
            .iter()
            .map(|one| one.cluster)
            .chain(touched.iter().copied());
        let mut entries = self.entries(&mut tx, concerned.collect(), &locked).await?;
        let mut written: Vec<Changed> = Vec::new();
        for one in changed {
            let known = entries.entry(one.cluster).or_default();
            let before = match one.digest {
                Some(digest) => known.insert(UnitId(one.unit), digest),
                None => known.remove(&UnitId(one.unit)),
            };
            if before != one.digest {
                written.push(one);
            }
        }
        touched.extend(written.iter().map(|one| one.cluster));
        let mut published = BTreeMap::new();
        let mut roots = Vec::new();
        for cluster in touched {
            let units = entries.get(&cluster).into_iter().flatten();
            let generation = locked.get(&cluster).map_or(0, |state| state.generation) + 1;
            let root = root(units.map(|(id, digest)| (*id, *digest)));
            roots.push((cluster, generation, root));
            let head = Head {
                incarnation,
                generation: generation.unsigned_abs(),
                root,
            };
            published.insert(
                cluster,
                Published {
                    cluster,
                    generation: head.generation,
                    head,
                    entries: Vec::new(),
                },
            );
        }
        let mut formers = HashMap::new();
        for batch in written.chunks(ENTRIES) {
            formers.extend(write_entries(&mut tx, batch, &published).await?);
        }
        for one in written {
            if let Some(published) = published.get_mut(&one.cluster) {
                let former = formers.remove(&(one.cluster, one.unit)).flatten();
                published.entries.push(one.entry(published.generation, former));
            }
        }
        write_heads(&mut tx, &roots, incarnation).await?;
        let clusters: Vec<Uuid> = published.keys().copied().collect();
        nudge(&mut tx, Topic::Desired, &clusters).await?;
        tx.commit().await?;
        for (cluster, _, root) in roots {
            if let Some(entries) = entries.remove(&cluster) {
                self.known.keep(cluster, root, entries);
            }
        }
        Ok(published.into_values().collect())
    }

    /// What the states of these clusters hold: those that are known are not read.
    async fn entries(
        &self,
        tx: &mut Connection,
        clusters: BTreeSet<Uuid>,
        locked: &BTreeMap<Uuid, Locked>,
    ) -> Result<HashMap<Uuid, Entries>> {
        let (mut entries, mut unknown) = (HashMap::new(), Vec::new());
        for cluster in clusters {
            let root = locked.get(&cluster).map(|state| &state.root);
            match root.and_then(|root| self.known.take(cluster, root)) {
                Some(known) => drop(entries.insert(cluster, known)),
                None => unknown.push(cluster),
            }
        }
        if !unknown.is_empty() {
            entries.extend(digests(tx, &unknown).await?);
        }
        Ok(entries)
    }

    /// Lets go of units: with the next state their agents forget them, and leave in the cluster what they have written. Those
    /// of which the agent holds, as it was published last, that they are detached; those that are to be removed and of which
    /// it has said that nothing is left; and those of clusters that never had an agent. An agent that has more to do with one
    /// would refuse the whole state. Returns how many.
    pub async fn release(&self, units: &[Uuid]) -> Result<usize> {
        let mut tx = self.pool().begin().await?;
        let rows = sqlx::query!(
            r#"WITH released AS (
               UPDATE unit u SET released = true
               WHERE u.id = ANY($1) AND u.state IN ('Detached', 'Removing') AND NOT u.released
                 -- With a limit it is looked up, and not compared with each.
                 AND (SELECT true FROM unpublished n WHERE n.cluster_id = u.cluster_id AND n.unit_id = u.id LIMIT 1) IS NULL
                 AND (NOT EXISTS (SELECT FROM session s WHERE s.cluster_id = u.cluster_id)
                      -- What it said of the entry alone may be lost with its stream: the whole generation says so as well.
                      OR EXISTS (
                        SELECT FROM entry_answer a
                        WHERE a.cluster_id = u.cluster_id AND a.unit_id = u.id AND a.accepted)
                      AND (u.state = 'Detached' OR EXISTS (
                        SELECT FROM unit_status s WHERE s.unit_id = u.id AND (s.version, s.applied_version, s.applied)
                          = (u.version, u.version, u.target) AND s.objects_pending_removal = 0 AND s.objects = 0)))
               RETURNING u.cluster_id, u.id, u.app_uid),
             marked AS (
               INSERT INTO unpublished (cluster_id, unit_id) SELECT cluster_id, id FROM released ORDER BY 1, 2
               ON CONFLICT (cluster_id, unit_id) DO UPDATE SET at = now())
             SELECT cluster_id AS "cluster!", app_uid AS "app!" FROM released"#,
            units
        )
        .fetch_all(&mut *tx)
        .await?;
        let released: Vec<Uuid> = rows.iter().map(|row| row.cluster).collect();
        nudge(&mut tx, Topic::Cluster, &released).await?;
        // It claims nothing any more.
        let gone = rows.iter().map(|row| (row.app, row.cluster)).collect();
        leaving::freed(&mut tx, &gone).await?;
        tx.commit().await?;
        Ok(released.len())
    }

    /// Forgets entries that were let go of, once their clusters' agents hold a state without them. Returns how many.
    pub async fn forget_released(&self) -> Result<u64> {
        let done = sqlx::query!(
            "WITH gone AS (
               DELETE FROM desired_entry e USING desired d LEFT JOIN session s ON s.cluster_id = d.cluster_id
               WHERE e.released AND d.cluster_id = e.cluster_id
                 AND (s.cluster_id IS NULL
                      OR s.accepted_incarnation = d.incarnation AND s.accepted_generation >= e.since_generation)
               RETURNING e.cluster_id, e.unit_id)
             DELETE FROM unit_accepted a USING gone WHERE a.cluster_id = gone.cluster_id AND a.unit_id = gone.unit_id"
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }

    /// Reads a cluster's committed desired state whole; `None` before the first publication.
    pub async fn desired(&self, cluster_id: Uuid) -> Result<Option<DesiredRow>> {
        let all = self.desired_since(&[(cluster_id, 0)]).await?;
        Ok(all.into_iter().next().map(|(_, row)| row))
    }

    /// Reads of each cluster what changed after a generation.
    pub async fn desired_since(&self, held: &[(Uuid, u64)]) -> Result<Vec<(Uuid, DesiredRow)>> {
        let (clusters, since): (Vec<Uuid>, Vec<i64>) =
            held.iter().map(|(id, since)| (*id, signed(*since))).unzip();
        let rows = sqlx::query!(
            r#"SELECT d.cluster_id, d.incarnation, d.generation, d.root, e.unit_id AS "unit_id?", e.digest AS "digest?",
                      e.bytes AS "bytes?", e.since_generation AS "since?", e.released AS "released?", e.content, e.former
               FROM unnest($1::uuid[], $2::bigint[]) AS v(id, since) JOIN desired d ON d.cluster_id = v.id
               LEFT JOIN desired_entry e ON e.cluster_id = v.id AND e.since_generation > v.since
               ORDER BY d.cluster_id, e.unit_id"#,
            &clusters,
            &since
        )
        .fetch_all(self.pool())
        .await?;
        let mut all: Vec<(Uuid, DesiredRow)> = Vec::new();
        for row in rows {
            let digest = |bytes: &[u8]| {
                Digest::try_from_slice(bytes)
                    .map_err(|e| StoreError::corrupt(format!("desired of {}", row.cluster_id), e))
            };
            if all.last().is_none_or(|(id, _)| *id != row.cluster_id) {
                let head = Head {
                    incarnation: row.incarnation.unsigned_abs(),
                    generation: row.generation.unsigned_abs(),
                    root: digest(&row.root)?,
                };
                let entries = Vec::new();
                all.push((row.cluster_id, DesiredRow { head, entries }));
            }
            if let (Some((_, desired)), Some(unit), Some(named), Some(bytes), Some(since)) =
                (all.last_mut(), row.unit_id, &row.digest, row.bytes, row.since)
            {
                desired.entries.push(EntryRow {
                    unit,
                    digest: digest(named)?,
                    bytes,
                    since: since.unsigned_abs(),
                    released: row.released.unwrap_or_default(),
                    change: match (&row.former, &row.content) {
                        (Some(former), Some(content)) => Some((digest(former)?, digest(content)?)),
                        _ => None,
                    },
                });
            }
        }
        Ok(all)
    }
}

/// A unit that changed, with its entry.
struct Changed {
    cluster: Uuid,
    unit: Uuid,
    /// `None`: it is let go of.
    digest: Option<Digest>,
    bytes: Vec<u8>,
    content: Option<Digest>,
    configs: Vec<Digest>,
}

impl Changed {
    /// Its row, as it is read once it is written.
    fn entry(self, since: u64, former: Option<Digest>) -> EntryRow {
        EntryRow {
            unit: self.unit,
            digest: self.written_digest(),
            bytes: self.bytes,
            since,
            released: self.digest.is_none(),
            change: former.zip(self.content),
        }
    }

    /// What is let go of has no bytes: theirs is the digest of a row that stands for none.
    fn written_digest(&self) -> Digest {
        self.digest.unwrap_or_else(|| Entry::digest_of(&[]))
    }
}

/// A state that is locked.
struct Locked {
    generation: i64,
    root: Digest,
    /// It was published under a former incarnation.
    former: bool,
    /// Units that changed since they were last published: whoever changes one from now on says so again.
    units: Vec<Uuid>,
}

/// Locks the states of clusters that have anything to publish, and takes what that is. One of a later incarnation is not
/// this hub's.
async fn lock(
    tx: &mut Connection,
    clusters: &[Uuid],
    incarnation: u64,
    writer: i64,
) -> Result<BTreeMap<Uuid, Locked>> {
    let empty = root([]);
    let superseded = sqlx::query_scalar!(
        r#"WITH added AS (
             INSERT INTO desired (cluster_id, incarnation, root)
             SELECT v.id, $2::bigint, $3::bytea FROM unnest($1::uuid[]) AS v(id)
             -- One look-up for each, as a rule: whether anything is unpublished is asked where there is no state yet.
             WHERE CASE WHEN (SELECT true FROM desired WHERE cluster_id = v.id LIMIT 1) THEN false
                        ELSE (SELECT true FROM unpublished WHERE cluster_id = v.id LIMIT 1) IS NOT NULL END
             ORDER BY 1 ON CONFLICT DO NOTHING)
           SELECT superseded($4) AS "superseded!""#,
        clusters,
        signed(incarnation),
        &empty.as_bytes()[..],
        writer
    )
    .fetch_one(&mut *tx)
    .await?;
    if superseded {
        return Err(StoreError::Superseded);
    }
    // What is taken of each cluster comes after its lock, and in one order, as planners write it. By conditions of the table alone:
    // it is empty at rest, and a join with a table that the server knows as empty goes through all of it for each row.
    let rows = sqlx::query!(
        r#"WITH locked AS MATERIALIZED (
             SELECT cluster_id, generation, root, incarnation < $2 AS former FROM desired
             WHERE cluster_id = ANY($1) AND incarnation <= $2 ORDER BY cluster_id FOR UPDATE),
           named AS MATERIALIZED (
             SELECT m.cluster_id, m.unit_id FROM unpublished m
             WHERE m.cluster_id = ANY (ARRAY(SELECT cluster_id FROM locked))
               -- What only a backup says is not published: the agent may have what is newer.
               AND NOT ((SELECT EXISTS (SELECT FROM unconfirmed)) AND EXISTS (
                 SELECT FROM unit u JOIN unconfirmed c ON c.uid = u.app_uid WHERE u.id = m.unit_id))
             ORDER BY 1, 2 FOR UPDATE OF m),
           taken AS (
             DELETE FROM unpublished
             WHERE cluster_id = ANY (ARRAY(SELECT cluster_id FROM named))
               AND ((cluster_id, unit_id) IN (SELECT cluster_id, unit_id FROM named)) IS TRUE
             RETURNING cluster_id, unit_id)
           SELECT cluster_id AS "cluster_id!", generation AS "generation?", root AS "root?", former AS "former?",
                  NULL::uuid AS "unit?" FROM locked
           UNION ALL SELECT cluster_id, NULL, NULL, NULL, unit_id FROM taken"#,
        clusters,
        signed(incarnation)
    )
    .fetch_all(&mut *tx)
    .await?;
    let (mut locked, mut taken) = (BTreeMap::new(), Vec::new());
    for row in rows {
        match (row.generation, row.root) {
            (Some(generation), Some(root)) => {
                let root = Digest::try_from_slice(&root)
                    .map_err(|e| StoreError::corrupt(format!("desired of {}", row.cluster_id), e))?;
                let state = Locked {
                    generation,
                    root,
                    former: row.former.unwrap_or_default(),
                    units: Vec::new(),
                };
                locked.insert(row.cluster_id, state);
            }
            _ => taken.extend(row.unit.map(|unit| (row.cluster_id, unit))),
        }
    }
    for (cluster, unit) in taken {
        if let Some(state) = locked.get_mut(&cluster) {
            state.units.push(unit);
        }
    }
    Ok(locked)
}

/// Makes the entries of units that changed. In a statement after the one that took them: what was committed until then is
/// seen.
async fn entries_of(tx: &mut Connection, units: &[Uuid], writer: i64) -> Result<Vec<Changed>> {
    if units.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        r#"SELECT u.id, u.cluster_id, u.version, u.target, u.state, u.withheld, u.requested, u.released, u.removal, u.depends_on,
                  u.app_uid, r.kind, r.namespace, r.name, l.except_for AS "except_for?",
                  EXISTS (SELECT FROM approval a WHERE (a.unit_id, a.target) = (u.id, u.target) AND a.version = u.version)
                    AS "approved!",
                  coalesce((SELECT v.revision FROM revision v WHERE v.id = u.revision_id), '') AS "revision!"
           FROM unit u JOIN resource r ON r.uid = u.app_uid
             -- What was decided for another version of the unit is void.
             LEFT JOIN LATERAL (SELECT version, state, except_for FROM leaving WHERE unit_id = u.id OFFSET 0) AS l
               ON l.version = u.version AND l.state = 'Cleared'
           WHERE u.id = ANY($1)"#,
        units
    )
    .fetch_all(&mut *tx)
    .await?;
    let digest = |unit: Uuid, bytes: &[u8]| {
        Digest::try_from_slice(bytes).map_err(|e| StoreError::corrupt(format!("unit {unit}"), e))
    };
    let kept = rows.iter().filter(|row| !row.released);
    let named: Result<BTreeSet<Digest>> = kept.map(|row| digest(row.id, &row.target)).collect();
    let targets = Targets::named(&mut *tx, named?).await?;
    let mut changed = Vec::with_capacity(rows.len());
    for row in rows {
        let corrupt = |e: serde_json::Error| StoreError::corrupt(format!("unit {}", row.id), e);
        if row.released {
            changed.push(Changed {
                cluster: row.cluster_id,
                unit: row.id,
                digest: None,
                bytes: Vec::new(),
                content: None,
                configs: Vec::new(),
            });
            continue;
        }
        let (target, state) = (
            digest(row.id, &row.target)?,
            parse_state(&row.state, row.removal.clone()),
        );
        let shared = targets.get(target)?;
        // Whoever deletes an app, and says so, allows it.
        let is_removed = matches!(&state, UnitState::Removing(removal) if removal.is_approved(target));
        let is_approved = row.approved || is_removed;
        let except = row.except_for.map(serde_json::from_value).transpose();
        let cleared = except.map_err(corrupt)?.map(|except| Clearing {
            version: row.version.unsigned_abs(),
            except,
        });
        let entry = Entry {
            unit: UnitId(row.id),
            version: row.version.unsigned_abs(),
            app: AppRef {
                uid: ResourceUid(row.app_uid),
                kind: row.kind.clone(),
                namespace: row.namespace.clone(),
                name: row.name.clone(),
            },
            content: shared.content,
            target,
            revision: row.revision.clone(),
            state,
            prune_cleared: cleared,
            prune_approved: is_approved.then_some(target),
            settings: shared.settings.clone(),
            variables: shared.variables.clone(),
            depends_on: serde_json::from_value(row.depends_on.clone()).map_err(corrupt)?,
            withheld: serde_json::from_value(row.withheld.clone()).map_err(corrupt)?,
            requested: row.requested.clone(),
        };
        let bytes = written(&entry, writer)?;
        changed.push(Changed {
            cluster: row.cluster_id,
            unit: row.id,
            digest: Some(Entry::digest_of(&bytes)),
            bytes,
            content: entry.content,
            configs: entry.variables.iter().filter_map(VariableLayer::config).collect(),
        });
    }
    changed.sort_unstable_by_key(|one| (one.cluster, one.unit));
    Ok(changed)
}

/// The bytes of an entry. A hub that writes as another release has a field that this release does not know.
fn written(entry: &Entry, writer: i64) -> Result<Vec<u8>> {
    if writer == WRITER {
        return Ok(entry.to_bytes());
    }
    let corrupt = |e: serde_json::Error| StoreError::corrupt(format!("entry of unit {}", entry.unit.0), e);
    let mut value = serde_json::to_value(entry).map_err(corrupt)?;
    value["release"] = writer.into();
    Ok(canonical_json(&value).into_bytes())
}

/// The digests of all entries of these clusters, but for those that were let go of.
async fn digests(tx: &mut Connection, clusters: &[Uuid]) -> Result<HashMap<Uuid, Entries>> {
    let rows = sqlx::query!(
        "SELECT cluster_id, unit_id, digest FROM desired_entry WHERE cluster_id = ANY($1) AND NOT released",
        clusters
    )
    .fetch_all(tx)
    .await?;
    let mut all: HashMap<Uuid, Entries> = HashMap::new();
    for row in rows {
        let digest = Digest::try_from_slice(&row.digest)
            .map_err(|e| StoreError::corrupt(format!("desired of {}", row.cluster_id), e))?;
        all.entry(row.cluster_id)
            .or_default()
            .insert(UnitId(row.unit_id), digest);
    }
    Ok(all)
}

/// Writes the entries; returns of each the content that it had before, where it has another now.
async fn write_entries(
    tx: &mut Connection,
    changed: &[Changed],
    published: &BTreeMap<Uuid, Published>,
) -> Result<Vec<((Uuid, Uuid), Option<Digest>)>> {
    let clusters: Vec<Uuid> = changed.iter().map(|one| one.cluster).collect();
    let generations: Vec<i64> = clusters
        .iter()
        .map(|id| published.get(id).map_or(0, |one| signed(one.generation)))
        .collect();
    let units: Vec<Uuid> = changed.iter().map(|one| one.unit).collect();
    let digests: Vec<Vec<u8>> = changed
        .iter()
        .map(|one| one.written_digest().as_bytes().to_vec())
        .collect();
    let released: Vec<bool> = changed.iter().map(|one| one.digest.is_none()).collect();
    let bytes: Vec<&[u8]> = changed.iter().map(|one| &one.bytes[..]).collect();
    let contents: Vec<Option<Vec<u8>>> = changed
        .iter()
        .map(|one| one.content.map(|digest| digest.as_bytes().to_vec()))
        .collect();
    // An array of arrays has one length: they go as one text each.
    let configs: Vec<String> = changed
        .iter()
        .map(|one| {
            one.configs
                .iter()
                .map(|digest| hex::encode(digest.as_bytes()))
                .collect::<Vec<_>>()
                .join(",")
        })
        .collect();
    let rows = sqlx::query!(
        "INSERT INTO desired_entry (cluster_id, unit_id, digest, bytes, content, configs, since_generation, released)
         SELECT c, u, d, b, n, ARRAY(SELECT decode(one, 'hex') FROM unnest(string_to_array(f, ',')) AS one), g, r
         FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bytea[], $5::bytea[], $6::text[], $7::bigint[],
                     $8::boolean[]) AS v(c, u, d, b, n, f, g, r)
         ON CONFLICT (cluster_id, unit_id) DO UPDATE SET digest = excluded.digest, bytes = excluded.bytes,
           former = CASE WHEN desired_entry.content IS DISTINCT FROM excluded.content THEN desired_entry.content END,
           content = excluded.content, configs = excluded.configs, since_generation = excluded.since_generation,
           released = excluded.released
         RETURNING cluster_id, unit_id, former",
        &clusters,
        &units,
        &digests,
        &bytes as &[&[u8]],
        &contents as &[Option<Vec<u8>>],
        &configs,
        &generations,
        &released
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            let former = row.former.as_deref().map(Digest::try_from_slice).transpose();
            let former =
                former.map_err(|e| StoreError::corrupt(format!("desired of {}", row.cluster_id), e))?;
            Ok(((row.cluster_id, row.unit_id), former))
        })
        .collect()
}

async fn write_heads(tx: &mut Connection, roots: &[(Uuid, i64, Digest)], incarnation: u64) -> Result<()> {
    let clusters: Vec<Uuid> = roots.iter().map(|(id, ..)| *id).collect();
    let generations: Vec<i64> = roots.iter().map(|(_, generation, _)| *generation).collect();
    let digests: Vec<Vec<u8>> = roots.iter().map(|(.., root)| root.as_bytes().to_vec()).collect();
    sqlx::query!(
        "UPDATE desired d SET incarnation = $4, generation = v.generation, root = v.root, published_at = now()
         FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS v(id, generation, root) WHERE d.cluster_id = v.id",
        &clusters,
        &generations,
        &digests,
        signed(incarnation)
    )
    .execute(tx)
    .await?;
    Ok(())
}
