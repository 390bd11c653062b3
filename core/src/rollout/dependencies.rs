//! What an app needs before it: which unit each name leads to in a cluster, and whether the apps of these names stand where
//! their specs and their source say. Whether a unit is ready is for its cluster to judge: an edge names it, and a change of
//! what it is given concerns nobody who needs it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use uuid::Uuid;

use super::waiting::Waiting;
use crate::{
    digest::Digest,
    id::{AppName, ClusterId, UnitId},
    unit::{Dependency, Needed, ReadyExpr},
};

/// Bytes of an app that goes with an edge, for an expression to look at.
const MAX_OBJECT: usize = 64 << 10;
/// The scope of what belongs to no cluster.
const FLEET: Uuid = Uuid::nil();

/// An app that waits for others.
#[derive(Debug, Clone)]
pub struct Dependent<'a> {
    /// In which scope its names resolve.
    pub scope: Uuid,
    /// Group of its kind, which is theirs, too.
    pub group: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Itself without status, for expressions that look at it.
    pub object: Value,
    /// What it needs, in its order.
    pub needs: Vec<Need>,
}

/// A name in `dependsOn`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Says when it is ready, in place of its own condition.
    pub ready_expr: Option<String>,
}

impl Need {
    fn display(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn is_of(&self, one: &Found) -> bool {
        (&self.namespace, &self.name) == (&one.namespace, &one.name)
    }
}

/// An app of such a name, in some scope.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The cluster in whose scope it is, or that of the fleet.
    pub scope: Uuid,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// It is planned as its spec is now, and nothing holds it everywhere.
    pub is_planned: bool,
    /// Names of clusters in which alone something holds it.
    pub held_in: BTreeSet<String>,
    /// It is to be planned again.
    pub is_due: bool,
    /// It is to be deleted.
    pub is_deleting: bool,
    /// It is suspended.
    pub is_suspended: bool,
    /// It has the source that the dependent has.
    pub has_same_source: bool,
    /// What its source's present revision renders to, if that is rendered.
    pub content: Option<Digest>,
    /// Itself without status.
    pub object: Value,
    /// Its units by cluster.
    pub units: BTreeMap<ClusterId, FoundUnit>,
}

/// A unit of such an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundUnit {
    /// Its version.
    pub version: u64,
    /// Its content.
    pub content: Option<Digest>,
}

/// What a plan is told of an app's dependencies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Dependencies {
    /// What its units need, by cluster.
    pub edges: BTreeMap<ClusterId, Vec<Dependency>>,
    /// Why it is given nothing new for now: what it needs is not planned as it is to be.
    pub unready: Vec<Waiting>,
    /// Why it is given nothing new in these clusters alone: what it needs is not planned as it is to be there, or is an app of
    /// the cluster's own scope. What is wrong in one cluster holds nothing in others.
    pub unready_in: BTreeMap<ClusterId, Vec<Waiting>>,
}

impl Dependencies {
    /// Of a dependent in these clusters, each with its name, from the apps that have the names that it needs.
    pub fn of(dependent: &Dependent<'_>, found: &[Found], clusters: &BTreeMap<ClusterId, String>) -> Self {
        let edges = clusters.keys().map(|cluster| {
            let needs = dependent.needs.iter();
            let needs = needs.map(|need| edge(dependent, need, found, *cluster));
            (*cluster, needs.collect())
        });
        let edges = edges.collect();
        let mut all = Self {
            edges,
            ..Self::default()
        };
        for need in &dependent.needs {
            let meant: Vec<&Found> = found.iter().filter(|one| need.is_of(one)).collect();
            let mut everywhere = meant
                .iter()
                .filter(|one| one.scope == FLEET || one.scope == dependent.scope);
            let why = match is_too_large(need, &dependent.object) {
                true => Some(too_large(need)),
                false => everywhere.find_map(|one| unready(need, one)),
            };
            if let Some(why) = why {
                all.unready.push(why);
                continue;
            }
            for (cluster, name) in clusters {
                let own = meant
                    .iter()
                    .find(|one| one.scope == cluster.0)
                    .and_then(|one| unready(need, one));
                let why = own.map(|why| of_cluster(why, need, name)).or_else(|| {
                    let held = meant.iter().find(|one| one.held_in.contains(name));
                    held.and_then(|_| waits(need, name, "is not ready"))
                });
                if let Some(why) = why {
                    all.unready_in.entry(*cluster).or_default().push(why);
                }
            }
        }
        all
    }
}

/// What a cluster's unit needs by a name: an app of the cluster's own scope, else one of the fleet.
fn edge(dependent: &Dependent<'_>, need: &Need, found: &[Found], cluster: ClusterId) -> Dependency {
    let units = [cluster.0, FLEET].map(|scope| {
        let app = AppName {
            scope,
            group: dependent.group,
            kind: dependent.kind,
            namespace: &need.namespace,
            name: &need.name,
        };
        let one = found.iter().find(|one| one.scope == scope && need.is_of(one));
        let unit = one.and_then(|one| one.units.get(&cluster));
        let object = one.filter(|_| need.ready_expr.is_some());
        Needed {
            unit: UnitId::of(cluster, app),
            version: unit.map_or(0, |unit| unit.version),
            app: object.map(|one| Box::new(one.object.clone())),
        }
    });
    Dependency {
        name: need.display(),
        units: units.into(),
        ready: need.ready_expr.as_ref().map(|expr| {
            Box::new(ReadyExpr {
                expr: expr.clone(),
                app: dependent.object.clone(),
            })
        }),
    }
}

/// What an expression looks at goes with each entry.
fn is_too_large(need: &Need, object: &Value) -> bool {
    need.ready_expr.is_some() && object.to_string().len() > MAX_OBJECT
}

fn too_large(need: &Need) -> Waiting {
    Waiting::NotSupported {
        object: None,
        what: format!(
            "readyExpr of apps over {} KiB ({})",
            MAX_OBJECT >> 10,
            need.display()
        ),
    }
}

fn waits(need: &Need, cluster: &str, why: &str) -> Option<Waiting> {
    Some(Waiting::DependencyNotReady {
        cluster: cluster.to_owned(),
        name: need.display(),
        why: why.to_owned(),
    })
}

/// The same, of one cluster.
fn of_cluster(why: Waiting, need: &Need, cluster: &str) -> Waiting {
    let why = match why {
        Waiting::DependencyNotReady { why, .. } => why,
        _ => format!(
            "is over {} KiB, and readyExpr is for smaller apps",
            MAX_OBJECT >> 10
        ),
    };
    Waiting::DependencyNotReady {
        cluster: cluster.to_owned(),
        name: need.display(),
        why,
    }
}

/// Flux's order: whether it is ready, then whether it has what the common source has now.
fn unready(need: &Need, one: &Found) -> Option<Waiting> {
    if is_too_large(need, &one.object) {
        return Some(too_large(need));
    }
    // Whoever has an expression of his own judges by that alone, of an app that is planned as it is now.
    if one.is_deleting || !one.is_planned {
        return waits(need, "", "is not ready");
    }
    if !one.has_same_source || need.ready_expr.is_some() {
        return None;
    }
    // One that is suspended follows its source no more: it is up to date as long as that changes nothing for it.
    let mut units = one.units.values();
    let is_behind = one.is_suspended && units.any(|unit| unit.content != one.content);
    match one.is_due || is_behind {
        true => waits(need, "", "revision is not up to date"),
        false => None,
    }
}

/// What a unit is to need, of what it needs now: an edge to a unit that merely has a newer version stays as it is, unless
/// the unit itself is given something new. A unit of a lower version was made again, and never has what was asked for.
pub(super) fn kept(now: &[Dependency], next: Vec<Dependency>, is_retargeted: bool) -> Vec<Dependency> {
    let plain = |needs: &[Dependency]| {
        let mut needs = needs.to_vec();
        for needed in needs.iter_mut().flat_map(|need| &mut need.units) {
            needed.version = 0;
        }
        needs
    };
    let versions = |needs: &[Dependency]| -> Vec<u64> {
        let units = needs.iter().flat_map(|need| &need.units);
        units.map(|needed| needed.version).collect()
    };
    let is_anew = versions(&next)
        .iter()
        .zip(versions(now))
        .any(|(next, now)| *next < now);
    match !is_retargeted && !is_anew && plain(now) == plain(&next) {
        true => now.to_vec(),
        false => next,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CLUSTER: ClusterId = ClusterId(Uuid::from_u128(1));
    const OTHER: ClusterId = ClusterId(Uuid::from_u128(2));

    fn dependent(ready_expr: Option<&str>) -> Dependent<'static> {
        Dependent {
            scope: FLEET,
            group: "kustomize.toolkit.fluxcd.io",
            kind: "Kustomization",
            object: json!({ "metadata": { "name": "web" } }),
            needs: vec![Need {
                namespace: "infra".into(),
                name: "db".into(),
                ready_expr: ready_expr.map(str::to_owned),
            }],
        }
    }

    fn found(scope: Uuid, version: u64) -> Found {
        let unit = FoundUnit {
            version,
            content: Some(Digest::of("content", b"1")),
        };
        Found {
            scope,
            namespace: "infra".into(),
            name: "db".into(),
            is_planned: true,
            content: unit.content,
            object: json!({ "metadata": { "name": "db" } }),
            units: BTreeMap::from([(CLUSTER, unit)]),
            ..Found::default()
        }
    }

    fn clusters(of: &[ClusterId]) -> BTreeMap<ClusterId, String> {
        let named = of.iter().map(|one| (*one, format!("c{}", one.0.as_u128())));
        named.collect()
    }

    fn unready(found: Found, expr: Option<&str>) -> Vec<String> {
        let waits = Dependencies::of(&dependent(expr), &[found], &clusters(&[CLUSTER])).unready;
        waits.iter().map(Waiting::message).collect()
    }

    #[test]
    fn an_edge_names_the_clusters_own_app_before_that_of_the_fleet_and_one_that_nobody_has_as_well() {
        let edges =
            |found: &[Found]| Dependencies::of(&dependent(None), found, &clusters(&[CLUSTER, OTHER])).edges;
        let none = edges(&[]);
        assert_eq!(none[&CLUSTER][0].name, "infra/db");
        let ids = |edges: &BTreeMap<ClusterId, Vec<Dependency>>, cluster| -> Vec<(UnitId, u64)> {
            let units = edges[&cluster][0].units.iter();
            units.map(|needed| (needed.unit, needed.version)).collect()
        };
        assert_eq!(ids(&none, CLUSTER).len(), 2);
        assert_ne!(ids(&none, CLUSTER), ids(&none, OTHER));
        let both = edges(&[found(FLEET, 3), found(CLUSTER.0, 4)]);
        let versions = |cluster| {
            ids(&both, cluster)
                .into_iter()
                .map(|(_, version)| version)
                .collect::<Vec<_>>()
        };
        assert_eq!(versions(CLUSTER), [4, 3]);
        assert_eq!(versions(OTHER), [0, 0]);
        let unit = |edges, at: usize| ids(edges, CLUSTER)[at].0;
        assert_eq!((unit(&both, 0), unit(&both, 1)), (unit(&none, 0), unit(&none, 1)));
    }

    #[test]
    fn an_app_that_is_not_planned_as_its_spec_is_or_is_deleted_is_not_ready() {
        assert_eq!(unready(found(FLEET, 1), None), [""; 0]);
        for one in [
            Found {
                is_planned: false,
                ..found(FLEET, 1)
            },
            Found {
                is_deleting: true,
                ..found(FLEET, 1)
            },
        ] {
            assert_eq!(unready(one, None), ["dependency 'infra/db' is not ready"]);
        }
    }

    #[test]
    fn one_of_the_same_source_has_to_be_planned_at_its_present_revision() {
        let outdated = ["dependency 'infra/db' revision is not up to date"];
        let same = Found {
            has_same_source: true,
            ..found(FLEET, 1)
        };
        assert_eq!(unready(same.clone(), None), [""; 0]);
        let due = Found {
            is_due: true,
            ..same.clone()
        };
        assert_eq!(unready(due.clone(), None), outdated);
        assert_eq!(unready(due, Some("true")), [""; 0], "an expression replaces it");
        let elsewhere = Found {
            is_due: true,
            ..found(FLEET, 1)
        };
        assert_eq!(unready(elsewhere, None), [""; 0]);
        let suspended = Found {
            is_suspended: true,
            ..same
        };
        assert_eq!(unready(suspended.clone(), None), [""; 0]);
        let behind = Found {
            content: Some(Digest::of("content", b"2")),
            ..suspended
        };
        assert_eq!(unready(behind, None), outdated);
    }

    #[test]
    fn what_is_wrong_in_one_cluster_holds_nothing_in_others() {
        let of = |found: &[Found], expr| {
            let made = Dependencies::of(&dependent(expr), found, &clusters(&[CLUSTER, OTHER]));
            assert_eq!(made.unready, []);
            let said = made.unready_in.into_iter();
            said.map(|(cluster, why)| (cluster, why.iter().map(Waiting::message).collect::<Vec<_>>()))
                .collect::<Vec<_>>()
        };
        let here = |why: &str| {
            vec![(
                CLUSTER,
                vec![format!("dependency 'infra/db' of cluster c1 {why}")],
            )]
        };
        // Somebody has an app of this name in one cluster, which is not planned, or never up to date, or large.
        let own = found(CLUSTER.0, 1);
        let unplanned = Found {
            is_planned: false,
            ..own.clone()
        };
        let due = Found {
            is_due: true,
            has_same_source: true,
            ..own.clone()
        };
        let large = Found {
            object: json!({ "spec": "x".repeat(MAX_OBJECT) }),
            ..own.clone()
        };
        assert_eq!(of(&[found(FLEET, 1), own], None), []);
        assert_eq!(of(&[found(FLEET, 1), unplanned], None), here("is not ready"));
        assert_eq!(
            of(&[due, found(FLEET, 1)], None),
            here("revision is not up to date")
        );
        assert_eq!(
            of(&[large], Some("true")),
            here("is over 64 KiB, and readyExpr is for smaller apps")
        );
        // That of the fleet is held in one.
        let held = Found {
            held_in: BTreeSet::from(["c1".to_owned(), "elsewhere".to_owned()]),
            ..found(FLEET, 1)
        };
        assert_eq!(of(&[held], None), here("is not ready"));
    }

    #[test]
    fn an_app_that_is_too_large_to_go_with_an_edge_says_so() {
        let large = Found {
            object: json!({ "spec": "x".repeat(MAX_OBJECT) }),
            ..found(FLEET, 1)
        };
        assert_eq!(
            unready(large.clone(), Some("true")),
            ["readyExpr of apps over 64 KiB (infra/db) is not supported by this release"]
        );
        assert_eq!(unready(large, None), [""; 0]);
    }

    #[test]
    fn expressions_travel_with_both_apps_and_plain_edges_with_none() {
        let edge = |expr| {
            let made = Dependencies::of(&dependent(expr), &[found(FLEET, 1)], &clusters(&[CLUSTER]));
            made.edges[&CLUSTER][0].clone()
        };
        let plain = edge(None);
        assert!(plain.ready.is_none() && plain.units.iter().all(|needed| needed.app.is_none()));
        let with = edge(Some("dep.metadata.name == 'db'"));
        let ready = with.ready.expect("an expression");
        assert_eq!(ready.app["metadata"]["name"], "web");
        assert_eq!(
            with.units[1].app.as_ref().expect("the app")["metadata"]["name"],
            "db"
        );
    }

    #[test]
    fn a_newer_version_of_a_dependency_changes_no_edge_of_a_unit_that_stays() {
        let of = |version| {
            Dependencies::of(&dependent(None), &[found(FLEET, version)], &clusters(&[CLUSTER])).edges
        };
        let (old, new) = (
            of(1).remove(&CLUSTER).expect("old"),
            of(2).remove(&CLUSTER).expect("new"),
        );
        assert_eq!(kept(&old, new.clone(), false), old);
        assert_eq!(kept(&old, new.clone(), true), new);
        assert_eq!(kept(&old, Vec::new(), false), []);
        // It was made again, and begins anew.
        assert_eq!(kept(&new, old.clone(), false), old);
    }
}
