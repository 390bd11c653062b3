//! Objects of units that are worth a word: a few of each unit, and how many there are.

use std::collections::HashMap;

use flotilla_core::{
    explain::{Moved, Object},
    object::ObjectKey,
};
use uuid::Uuid;

use super::Moment;
use crate::store::Result;

/// Objects of a unit that are named, of each sort.
pub const NAMED: i64 = 10;
/// Objects that left with the last change which are looked for in other units.
const LEFT: i64 = 1000;

/// Objects of a unit that are worth a word.
#[derive(Debug, Clone, Default)]
pub struct ObjectsExplained {
    /// Those that are not as they should be, the first of them.
    pub failing: Vec<Object>,
    /// How many.
    pub failing_total: u64,
    /// Those that have left, the first of them.
    pub leaving: Vec<Object>,
    /// How many.
    pub leaving_total: u64,
}

/// What the last change of a unit's target has handed over.
#[derive(Debug, Clone, Default)]
pub struct MovedExplained {
    /// The first of it.
    pub moved: Vec<Moved>,
    /// How many.
    pub total: u64,
}

impl Moment {
    /// Objects of units that are not as they should be, and those that have left, by unit: of each sort the first.
    pub async fn objects(&mut self, units: &[Uuid]) -> Result<HashMap<Uuid, ObjectsExplained>> {
        let rows = sqlx::query!(
            r#"SELECT v.unit AS "unit!", o.api_group AS "api_group!", o.kind AS "kind!", o.namespace AS "namespace!", o.name AS "name!",
                      o.state AS "state!", o.health AS "health!", o.message AS "message!",
                      o.is_leaving AS "is_leaving!", o.total AS "total!",
                      (SELECT object_name(r.kind, r.namespace, r.name) FROM keyset_key k
                       JOIN target t ON t.keyset = k.keyset
                       JOIN unit other ON other.target = t.digest AND other.cluster_id = u.cluster_id AND other.id <> u.id
                       JOIN resource r ON r.uid = other.app_uid
                       WHERE o.is_leaving AND (k.name, k.namespace, k.kind, k.api_group) = (o.name, o.namespace, o.kind, o.api_group)
                       LIMIT 1) AS "other?"
               FROM unnest($1::uuid[]) AS v(unit)
               JOIN unit u ON u.id = v.unit
               JOIN LATERAL (
                 SELECT * FROM (
                   SELECT *, count(*) OVER (PARTITION BY is_leaving) AS total,
                          row_number() OVER (PARTITION BY is_leaving ORDER BY rank, kind, namespace, name, api_group) AS place
                   FROM (
                     SELECT api_group, kind, namespace, name, state, health, message, state = 'PendingRemoval' AS is_leaving,
                            CASE WHEN state = 'Failed' THEN 0 WHEN state = 'Conflict' THEN 1 WHEN health = 'Failed' THEN 2
                                 WHEN state = 'Waiting' THEN 3 ELSE 4 END AS rank
                     FROM unit_object
                     WHERE unit_id = v.unit AND (state <> 'Applied' OR health NOT IN ('', 'Current'))) AS wrong
                 ) AS placed WHERE place <= $2) AS o ON true
               ORDER BY v.unit, o.is_leaving, o.place"#,
            units,
            NAMED
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let mut found: HashMap<Uuid, ObjectsExplained> = HashMap::new();
        for row in rows {
            let objects = found.entry(row.unit).or_default();
            let object = Object {
                key: ObjectKey::new(&row.api_group, &row.kind, &row.namespace, &row.name),
                state: row.state,
                health: row.health,
                message: row.message,
                other: row.other,
            };
            let total = row.total.unsigned_abs();
            match row.is_leaving {
                true => {
                    objects.leaving.push(object);
                    objects.leaving_total = total;
                }
                false => {
                    objects.failing.push(object);
                    objects.failing_total = total;
                }
            }
        }
        Ok(found)
    }

    /// What the last change of units' targets has handed over to other units of their clusters, by unit. What has left is
    /// looked for as far as its first thousand.
    pub async fn moved(&mut self, units: &[Uuid]) -> Result<HashMap<Uuid, MovedExplained>> {
        let rows = sqlx::query!(
            r#"SELECT v.unit AS "unit!", m.api_group AS "group!", m.kind AS "kind!", m.namespace AS "namespace!",
                      m.name AS "name!", m.to_app AS "to!", m.done AS "done!", m.total AS "total!"
               FROM unnest($1::uuid[]) AS v(unit)
               JOIN unit u ON u.id = v.unit
               JOIN target t ON t.digest = u.target
               JOIN LATERAL (
                 SELECT h.target FROM history h
                 WHERE h.unit_id = u.id AND h.version < u.version AND h.target <> u.target
                 ORDER BY h.version DESC, h.at DESC LIMIT 1) AS h ON true
               JOIN target former ON former.digest = h.target AND former.keyset IS DISTINCT FROM t.keyset
               JOIN LATERAL (
                 SELECT *, count(*) OVER () AS total FROM (
                   SELECT DISTINCT ON (k.kind, k.namespace, k.name, k.api_group)
                          k.*, object_name(r.kind, r.namespace, r.name) AS to_app,
                          coalesce((SELECT o.state = 'Applied' FROM unit_object o
                                    WHERE o.unit_id = other.id AND (o.api_group, o.kind, o.namespace, o.name)
                                      = (k.api_group, k.kind, k.namespace, k.name)), false) AS done
                   FROM (
                     SELECT f.api_group, f.kind, f.namespace, f.name FROM keyset_key f
                     WHERE f.keyset = former.keyset AND NOT EXISTS (
                       SELECT FROM keyset_key n WHERE n.keyset = t.keyset
                         AND (n.api_group, n.kind, n.namespace, n.name) = (f.api_group, f.kind, f.namespace, f.name))
                     LIMIT $2) AS k
                   JOIN keyset_key c ON (c.name, c.namespace, c.kind, c.api_group) = (k.name, k.namespace, k.kind, k.api_group)
                   JOIN target ot ON ot.keyset = c.keyset
                   JOIN unit other ON other.target = ot.digest AND other.cluster_id = u.cluster_id AND other.id <> u.id
                   JOIN resource r ON r.uid = other.app_uid
                   ORDER BY k.kind, k.namespace, k.name, k.api_group, other.id) AS each
                 ORDER BY kind, namespace, name, api_group LIMIT $3) AS m ON true
               ORDER BY v.unit, m.kind, m.namespace, m.name"#,
            units,
            LEFT,
            NAMED
        )
        .fetch_all(&mut *self.tx)
        .await?;
        let mut found: HashMap<Uuid, MovedExplained> = HashMap::new();
        for row in rows {
            let moved = found.entry(row.unit).or_default();
            moved.total = row.total.unsigned_abs();
            moved.moved.push(Moved {
                key: ObjectKey::new(&row.group, &row.kind, &row.namespace, &row.name),
                to: row.to,
                done: row.done,
            });
        }
        Ok(found)
    }
}
