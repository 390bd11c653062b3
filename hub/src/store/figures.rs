//! What monitoring is told of the fleet: counted when asked for, a few statements together.

use flotilla_core::status::{self, Readiness};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store};

/// Objects that are told one by one; of a larger fleet the sums alone are whole.
const OBJECTS: i64 = 10_000;

/// The fleet in numbers.
#[derive(Debug)]
pub struct Figures {
    /// Clusters by state, and whether they are connected.
    pub clusters: Vec<(String, bool, i64)>,
    /// Clusters that are not as they should be, by what is wrong.
    pub troubled: Vec<(String, i64)>,
    /// Units by readiness.
    pub units: [(Readiness, u64); 3],
    /// Apps and sources.
    pub objects: Vec<ObjectFigure>,
    /// Rollouts under way.
    pub rollouts: i64,
    /// When the oldest of them began.
    pub oldest_rollout: Option<OffsetDateTime>,
}

/// An app or a source.
#[derive(Debug)]
pub struct ObjectFigure {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Name of the cluster in whose scope it is, '' for the fleet.
    pub scope: String,
    /// Whether it is ready.
    pub ready: Readiness,
    /// It is left alone.
    pub suspended: bool,
    /// Applied, or fetched.
    pub revision: String,
    /// Of a source: how often its fetch has failed in a row, and when it was looked at last.
    pub fetched: Option<(i32, Option<OffsetDateTime>)>,
}

impl Store {
    /// Counts.
    pub async fn figures(&self) -> Result<Figures> {
        let clusters = sqlx::query!(
            r#"SELECT c.state, coalesce(p.connected, false) AS "connected!", count(*) AS "count!"
               FROM cluster c LEFT JOIN presence p ON p.cluster_id = c.id GROUP BY 1, 2 ORDER BY 1, 2"#
        )
        .fetch_all(self.pool())
        .await?;
        let troubled = sqlx::query!(
            r#"SELECT kind, count(*) AS "count!" FROM cluster_condition WHERE NOT ok GROUP BY 1 ORDER BY 1"#
        )
        .fetch_all(self.pool())
        .await?;
        let rollouts = sqlx::query!(
            // One that waits for suspended clusters alone stands still because somebody wants it to.
            r#"SELECT count(*) AS "count!", min(r.created_at) AS oldest FROM rollout r
               WHERE r.state = 'Progressing' AND EXISTS (
                 SELECT FROM admission a JOIN unit u ON u.app_uid = r.app_uid AND u.cluster_id = a.cluster_id
                 WHERE a.rollout_id = r.id AND a.state = 'Admitted' AND u.state <> 'Suspended')"#
        )
        .fetch_one(self.pool())
        .await?;
        let mut figures = Figures {
            clusters: clusters
                .into_iter()
                .map(|row| (row.state, row.connected, row.count))
                .collect(),
            troubled: troubled.into_iter().map(|row| (row.kind, row.count)).collect(),
            units: [Readiness::True, Readiness::Unknown, Readiness::False].map(|status| (status, 0)),
            objects: self.source_figures().await?,
            rollouts: rollouts.count,
            oldest_rollout: rollouts.oldest,
        };
        self.add_apps(&mut figures).await?;
        Ok(figures)
    }

    async fn source_figures(&self) -> Result<Vec<ObjectFigure>> {
        let rows = sqlx::query!(
            r#"SELECT r.api_group, r.kind, r.namespace, r.name, scope_name(r.scope) AS "scope!", s.failures, s.last_probe,
                      coalesce(r.suspended, (r.spec->>'suspend')::boolean, false) AS "suspended!",
                      coalesce(v.revision, '') AS "revision!",
                      coalesce((SELECT c->>'status' FROM jsonb_array_elements(t.conditions) c
                                WHERE c->>'type' = 'Ready' AND t.observed_generation = r.generation), '') AS "ready!"
               FROM resource r JOIN source_state s ON s.uid = r.uid
               LEFT JOIN revision v ON v.id = s.revision_id LEFT JOIN resource_status t ON t.uid = r.uid
               ORDER BY r.uid LIMIT $1"#,
            OBJECTS
        )
        .fetch_all(self.pool())
        .await?;
        let figures = rows.into_iter().map(|row| ObjectFigure {
            group: row.api_group,
            kind: row.kind,
            namespace: row.namespace,
            name: row.name,
            scope: row.scope,
            ready: Readiness::parse(&row.ready),
            suspended: row.suspended,
            revision: row.revision,
            fetched: Some((row.failures, row.last_probe)),
        });
        Ok(figures.collect())
    }

    async fn add_apps(&self, figures: &mut Figures) -> Result<()> {
        let apps = sqlx::query!(
            r#"SELECT uid, api_group, kind, namespace, name, scope_name(scope) AS "scope!" FROM resource
               WHERE is_app(kind) ORDER BY uid LIMIT $1"#,
            OBJECTS
        )
        .fetch_all(self.pool())
        .await?;
        let uids: Vec<Uuid> = apps.iter().map(|app| app.uid).collect();
        let mut facts = self.app_facts(&uids).await?;
        for app in apps {
            let Some(facts) = facts.remove(&app.uid) else {
                continue;
            };
            for alike in &facts.units {
                let status = status::unit(&alike.first).status;
                figures
                    .units
                    .iter_mut()
                    .filter(|(of, _)| *of == status)
                    .for_each(|(_, count)| *count += alike.units);
            }
            figures.objects.push(ObjectFigure {
                group: app.api_group,
                kind: app.kind,
                namespace: app.namespace,
                name: app.name,
                scope: app.scope,
                ready: status::app(&facts).status,
                suspended: facts.suspended,
                revision: facts.revision().map(|one| one.name.clone()).unwrap_or_default(),
                fetched: None,
            });
        }
        Ok(())
    }
}
