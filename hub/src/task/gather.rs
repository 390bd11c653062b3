//! Gathers what the planner of an app's units needs: placements, clusters, variables, ownership of objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_api::kinds::{
    cluster::ClusterGroupSpec,
    kustomization::{KustomizationSpec, SubstituteStrategy},
    placement::PlacementSpec,
};
use flotilla_core::{
    apply::ignore::{IgnoreRule, IgnoreTarget},
    claim::{self, Claims, Keyset},
    content::Content,
    digest::{Digest, canonical_json},
    fleet::{
        departure::Departure,
        placement::{Candidate, Chosen, Override, Placement, Search, choose, departing},
        selector::{Expression, Selector},
    },
    id::ClusterId,
    object::{ObjectKey, group_of},
    removal::DeletionPolicy,
    rollout::{
        dependencies::{Dependencies, Dependent, Need},
        plan::Current,
        waiting::Waiting,
    },
    unit::{
        Decryption, DecryptionProvider, Settings, Substitution, VariableLayer, Withheld,
        health::{HealthCheck, HealthChecks, HealthExpr},
    },
};
use serde::Deserialize as _;
use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Context, planner::Planner};
use crate::store::{
    Store, StoreError,
    content::{Blob, Manifest},
    dependency,
    query::CandidateRow,
    reference::kube_config,
    resource::{FLEET, ResourceRow},
};

/// The app's own variables, with the values that layers name by digest.
#[derive(Default)]
pub struct Layers {
    /// In order: `substituteFrom`, then `substitute`.
    pub layers: Vec<VariableLayer>,
    /// Values to store.
    pub configs: Vec<Blob>,
    values: Vec<BTreeMap<String, String>>,
}

impl Layers {
    /// As far as names of objects depend on them.
    fn claimed(&self) -> impl Iterator<Item = claim::Layer<'_>> {
        let layers = self.values.iter().zip(&self.layers);
        layers.map(|(values, layer)| claim::Layer {
            values,
            secret: matches!(layer, VariableLayer::Config { secret: true, .. }),
        })
    }
}

/// What placements say about an app.
#[derive(Default)]
pub struct Placed {
    /// A placement names the app.
    pub named: bool,
    /// The clusters.
    pub chosen: Vec<Chosen>,
    /// Clusters of which that is not known, and why.
    pub unreadable: BTreeMap<ClusterId, Waiting>,
    /// Clusters that are being drained.
    pub draining: BTreeSet<ClusterId>,
    /// Clusters that leave the fleet.
    pub retiring: BTreeSet<ClusterId>,
    /// Names of the clusters that would be chosen if they did not depart.
    pub departing: Vec<String>,
    /// Some placement gives variables of its own.
    pub overrides_variables: bool,
    /// No placement names the app: its cluster's variables are below its own.
    pub below: BTreeMap<String, String>,
}

/// Reads the placements that name `app`, and chooses. A placement that names it and cannot be read, or uses what this
/// release does not do, leaves open where the app belongs.
pub async fn placements(
    context: &Context,
    planner: &Planner,
    app: &Arc<ResourceRow>,
) -> anyhow::Result<Result<Placed, Waiting>> {
    if let Some(own) = by_kube_config(&context.store, app).await? {
        let own = match own {
            Ok(own) => own,
            Err(problem) => return Ok(Err(problem)),
        };
        let found = planner
            .clusters_for(app.uid, Search::of(std::slice::from_ref(&own)))
            .await?;
        return Ok(Ok(Placed::of_one(own, &found, None)));
    }
    let rows = planner.placements_of(app).await?;
    let placements = match read(context, &rows).await? {
        Ok(placements) => placements,
        Err(problem) => return Ok(Err(problem)),
    };
    if placements.is_empty() {
        let Some(own) = of_scope(app) else {
            return Ok(Ok(Placed::default()));
        };
        let found = planner
            .clusters_for(app.uid, Search::of(std::slice::from_ref(&own)))
            .await?;
        return Ok(Ok(Placed::of_one(own, &found, Some(app.scope))));
    }
    let found = planner.clusters_for(app.uid, Search::of(&placements)).await?;
    Ok(Ok(Placed::of(&placements, &found)))
}

/// What stands in place of Placements for an app that names a kubeconfig, or why that is not known: it goes to the cluster that
/// is known by it, and never anywhere else. `None`: it names none.
pub(super) async fn by_kube_config(
    store: &Store,
    app: &ResourceRow,
) -> Result<Option<Result<Placement, Waiting>>, StoreError> {
    let Some(named) = kube_config(app.scope, &app.namespace, &app.spec) else {
        return Ok(None);
    };
    let reference = match app.scope {
        FLEET => format!("{}/{}", named.namespace, named.name),
        _ => format!("{}:{}/{}", app.cluster, named.namespace, named.name),
    };
    let clusters = store.clusters_by_kube_config(&reference).await?;
    Ok(Some(match clusters.as_slice() {
        [] => Err(Waiting::NoClusterFor { reference }),
        [cluster] => Ok(one(format!("kubeconfig {reference}"), cluster)),
        [first, second, ..] => Err(Waiting::ClustersFor {
            reference,
            first: first.clone(),
            second: second.clone(),
        }),
    }))
}

/// As a Placement that names one cluster.
fn one(name: String, cluster: &str) -> Placement {
    Placement {
        name,
        selectors: Vec::new(),
        names: BTreeSet::from([cluster.to_owned()]),
        exclude: BTreeSet::new(),
        overrides: Vec::new(),
    }
}

/// What stands in place of a Placement for an app in a cluster's scope that none names: it belongs there. `None`: it is the
/// fleet's.
pub(super) fn of_scope(app: &ResourceRow) -> Option<Placement> {
    (app.scope != FLEET).then(|| one(format!("the scope of cluster {}", app.cluster), &app.cluster))
}

/// As [`placements`], for who plans nothing.
pub async fn placements_now(
    context: &Context,
    app: &Arc<ResourceRow>,
) -> anyhow::Result<Result<Placed, Waiting>> {
    if let Some(own) = by_kube_config(&context.store, app).await? {
        let own = match own {
            Ok(own) => own,
            Err(problem) => return Ok(Err(problem)),
        };
        let search = Search::of(std::slice::from_ref(&own));
        let found = context.store.clusters_for(&[app.uid], &search).await?;
        return Ok(Ok(Placed::of_one(own, &found, None)));
    }
    let rows = context.store.placements_of(std::slice::from_ref(app)).await?;
    let placements = match read(context, &rows.concat()).await? {
        Ok(placements) => placements,
        Err(problem) => return Ok(Err(problem)),
    };
    if placements.is_empty() {
        let Some(own) = of_scope(app) else {
            return Ok(Ok(Placed::default()));
        };
        let search = Search::of(std::slice::from_ref(&own));
        let found = context.store.clusters_for(&[app.uid], &search).await?;
        return Ok(Ok(Placed::of_one(own, &found, Some(app.scope))));
    }
    let found = context
        .store
        .clusters_for(&[app.uid], &Search::of(&placements))
        .await?;
    Ok(Ok(Placed::of(&placements, &found)))
}

/// Placements with their groups, or why one of them cannot be read.
async fn read(
    context: &Context,
    rows: &[Arc<ResourceRow>],
) -> anyhow::Result<Result<Vec<Placement>, Waiting>> {
    Ok(resolved(&context.store, rows).await?.into_iter().collect())
}

impl Layers {
    /// The layers with their values.
    pub fn each(&self) -> impl Iterator<Item = (&VariableLayer, &BTreeMap<String, String>)> {
        self.layers.iter().zip(&self.values)
    }

    /// One layer with its values.
    #[cfg(test)]
    pub(super) fn of_one(layer: VariableLayer, values: BTreeMap<String, String>) -> Self {
        Self {
            layers: vec![layer],
            configs: Vec::new(),
            values: vec![values],
        }
    }
}

impl Placed {
    /// What placements, at least one, choose of these clusters.
    fn of(placements: &[Placement], found: &[CandidateRow]) -> Self {
        let (candidates, unreadable) = candidates(found);
        let departing_so = |departure| {
            let clusters = candidates
                .iter()
                .filter(move |one| one.departure == Some(departure));
            clusters.map(|one| one.id).collect()
        };
        Self {
            named: true,
            overrides_variables: overrides_variables(placements),
            chosen: choose(placements, &candidates),
            draining: departing_so(Departure::Drain),
            retiring: departing_so(Departure::Retire),
            departing: departing(placements, &candidates)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            unreadable,
            below: BTreeMap::new(),
        }
    }

    /// What becomes of an app that belongs to one cluster, `only` this one where that is known: of a cluster that was made again
    /// under its name it has nothing.
    fn of_one(own: Placement, found: &[CandidateRow], only: Option<Uuid>) -> Self {
        let mut placed = Self::of(&[own], found);
        placed
            .chosen
            .retain(|chosen| only.is_none_or(|only| chosen.id.0 == only));
        placed.below = placed
            .chosen
            .first_mut()
            .map(|chosen| std::mem::take(&mut chosen.variables))
            .unwrap_or_default();
        placed
    }
}

/// Whether some placement gives variables of its own.
pub(super) fn overrides_variables(placements: &[Placement]) -> bool {
    let mut overrides = placements.iter().flat_map(|one| &one.overrides);
    overrides.any(|one| !one.variables.is_empty())
}

/// The apps whose placements choose one of these clusters, or might: one that cannot be read leaves it open.
pub async fn apps_choosing(context: &Context, clusters: &[Uuid]) -> anyhow::Result<Vec<Uuid>> {
    let (candidates, unreadable) = candidates(&context.store.cluster_candidates(clusters).await?);
    let rows = context.store.resources_of_kind("Placement").await?;
    let rows: Vec<Arc<ResourceRow>> = rows.into_iter().map(Arc::new).collect();
    let resolved = resolved(&context.store, &rows).await?;
    let choosing: BTreeSet<Uuid> = rows
        .iter()
        .zip(resolved)
        .filter(|(_, placement)| match placement {
            // Also of clusters that depart: an app that has no other says so.
            Ok(placement) => !unreadable.is_empty() || candidates.iter().any(|one| placement.fits(one)),
            Err(_) => true,
        })
        .map(|(row, _)| row.uid)
        .collect();
    if choosing.is_empty() {
        return Ok(Vec::new());
    }
    let placed = context.store.placed_apps().await?;
    let apps = placed
        .into_iter()
        .filter(|(placement, _)| choosing.contains(placement));
    Ok(apps.map(|(_, app)| app).collect())
}

fn unreadable(row: &ResourceRow, error: &dyn std::fmt::Display) -> Waiting {
    Waiting::Unreadable {
        object: row.display(),
        message: error.to_string(),
    }
}

/// Those of the rows that can be read, and why each other cannot: it is no reason to have none.
pub(super) fn candidates(rows: &[CandidateRow]) -> (Vec<Candidate>, BTreeMap<ClusterId, Waiting>) {
    let mut candidates = Vec::new();
    let mut unreadable = BTreeMap::new();
    for row in rows {
        let id = ClusterId(row.id);
        let departure = row.departure.as_deref().map(Departure::parse);
        let read = match departure {
            None => (
                BTreeMap::deserialize(&row.labels),
                BTreeMap::deserialize(&row.variables),
            ),
            // Nothing is chosen by them: they tell which placements would choose the cluster if it stayed.
            Some(_) => (
                Ok(BTreeMap::deserialize(&row.labels).unwrap_or_default()),
                Ok(BTreeMap::new()),
            ),
        };
        match read {
            (Ok(labels), Ok(variables)) => candidates.push(Candidate {
                id,
                name: row.name.clone(),
                labels,
                variables,
                departure,
            }),
            (Err(error), _) | (_, Err(error)) => {
                let why = Waiting::Unreadable {
                    object: format!("Cluster/{}", row.name),
                    message: error.to_string(),
                };
                unreadable.insert(id, why);
            }
        }
    }
    (candidates, unreadable)
}

/// Placements with their groups, each alone.
pub(super) async fn resolved(
    store: &Store,
    rows: &[Arc<ResourceRow>],
) -> Result<Vec<Result<Placement, Waiting>>, StoreError> {
    let specs: Vec<Result<PlacementSpec, Waiting>> = rows.iter().map(|row| placement_spec(row)).collect();
    let names: BTreeSet<&str> = specs
        .iter()
        .flatten()
        .flat_map(|spec| spec.clusters.groups.iter().map(|name| name.as_str()))
        .collect();
    // A group that is not there chooses nothing; it may come later.
    let groups = if names.is_empty() {
        Vec::new()
    } else {
        let names: Vec<&str> = names.into_iter().collect();
        store.cluster_groups(&names).await?
    };
    Ok(rows
        .iter()
        .zip(specs)
        .map(|(row, spec)| placement(row, &spec?, &groups))
        .collect())
}

fn placement_spec(row: &ResourceRow) -> Result<PlacementSpec, Waiting> {
    if let Some(what) = row.not_supported.first() {
        return Err(Waiting::NotSupported {
            object: Some(row.display()),
            what: what.clone(),
        });
    }
    serde_json::from_value(row.spec.clone()).map_err(|error| unreadable(row, &error))
}

/// A placement with its groups resolved.
fn placement(
    row: &ResourceRow,
    spec: &PlacementSpec,
    all_groups: &[ResourceRow],
) -> Result<Placement, Waiting> {
    let mut groups = Vec::new();
    for group in all_groups {
        if spec
            .clusters
            .groups
            .iter()
            .any(|name| name.as_str() == group.name)
        {
            let read = serde_json::from_value::<ClusterGroupSpec>(group.spec.clone());
            groups.push((group, read.map_err(|error| unreadable(group, &error))?));
        }
    }
    let mut selectors = Vec::new();
    let of_placement = spec.clusters.selector.iter().map(|one| (row, one));
    let of_groups = groups
        .iter()
        .filter_map(|(group, spec)| Some((*group, spec.selector.as_ref()?)));
    for (owner, one) in of_placement.chain(of_groups) {
        selectors.push(selector(one).map_err(|error| unreadable(owner, &error))?);
    }
    let mut overrides = Vec::new();
    for one in &spec.overrides {
        let selector = one.selector.as_ref().map(selector).transpose();
        overrides.push(Override {
            selector: selector
                .map_err(|error| unreadable(row, &error))?
                .unwrap_or_default(),
            variables: one.variables.clone(),
        });
    }
    let named = groups
        .iter()
        .flat_map(|(_, group)| &group.names)
        .chain(&spec.clusters.names);
    let excluded = groups
        .iter()
        .flat_map(|(_, group)| &group.exclude)
        .chain(&spec.clusters.exclude);
    Ok(Placement {
        name: row.display(),
        selectors,
        names: named.map(|name| name.as_str().to_owned()).collect(),
        exclude: excluded.map(|name| name.as_str().to_owned()).collect(),
        overrides,
    })
}

fn selector(
    spec: &flotilla_api::meta::LabelSelector,
) -> Result<Selector, Box<dyn std::error::Error + Send + Sync>> {
    let value = serde_json::to_value(spec)?;
    let field = |name: &str, empty: Value| value.get(name).cloned().unwrap_or(empty);
    let labels: BTreeMap<String, String> =
        serde_json::from_value(field("matchLabels", Value::Object(Default::default())))?;
    let expressions: Vec<Expression> =
        serde_json::from_value(field("matchExpressions", Value::Array(vec![])))?;
    Ok(Selector::from_parts(&labels, &expressions)?)
}

/// How an app is applied.
pub fn settings(spec: &KustomizationSpec) -> Settings {
    let interval = spec.interval.get();
    // Flux: the timeout is the interval less 30 s, and at least 30 s.
    let default_timeout = interval
        .saturating_sub(std::time::Duration::from_secs(30))
        .max(std::time::Duration::from_secs(30));
    let common = spec.common_metadata.clone().unwrap_or_default();
    Settings {
        interval,
        retry_interval: spec.retry_interval.as_ref().map_or(interval, |one| one.get()),
        timeout: spec.timeout.as_ref().map_or(default_timeout, |one| one.get()),
        wait: spec.wait,
        prune: spec.prune,
        common_labels: common.labels.unwrap_or_default(),
        common_annotations: common.annotations.unwrap_or_default(),
        substitution: match &spec.post_build {
            None => Substitution::Off,
            Some(post) => match post.substitute_strategy {
                Some(SubstituteStrategy::Always) => Substitution::Always,
                _ => Substitution::WithVariables,
            },
        },
        default_namespace: String::new(),
        health: health(spec),
        decryption: spec.decryption.as_ref().map(|decryption| Decryption {
            provider: match decryption.provider {
                flotilla_api::kinds::kustomization::DecryptionProvider::Sops => DecryptionProvider::Sops,
            },
            secret: decryption
                .secret_ref
                .as_ref()
                .map_or_else(String::new, |secret| secret.name.to_string()),
        }),
        service_account: spec
            .service_account_name
            .as_ref()
            .map(|name| name.as_str().to_owned())
            .unwrap_or_default(),
        force: spec.force,
        ignore: spec.ignore.iter().map(ignore_rule).collect(),
        kept: None,
    }
}

fn ignore_rule(rule: &flotilla_api::meta::IgnoreRule) -> IgnoreRule {
    let text = |pattern: &'_ Option<flotilla_api::text::Pattern>| match pattern {
        Some(pattern) => pattern.as_str().to_owned(),
        None => String::new(),
    };
    IgnoreRule {
        paths: rule.paths.iter().map(|path| path.as_str().to_owned()).collect(),
        target: rule.target.as_ref().map(|target| IgnoreTarget {
            group: text(&target.group),
            version: text(&target.version),
            kind: text(&target.kind),
            name: text(&target.name),
            namespace: text(&target.namespace),
            label_selector: target.label_selector.clone().unwrap_or_default(),
            annotation_selector: target.annotation_selector.clone().unwrap_or_default(),
        }),
    }
}

/// Whose health an app waits for, and how it is judged.
fn health(spec: &KustomizationSpec) -> HealthChecks {
    let text = |one: &Option<String>| one.clone().unwrap_or_default();
    let objects = spec.health_checks.iter().map(|one| {
        let api_version = text(&one.api_version);
        let namespace = one.namespace.as_ref().map_or("", |namespace| namespace.as_str());
        HealthCheck {
            key: ObjectKey::new(group_of(&api_version), &one.kind, namespace, &one.name),
            api_version,
        }
    });
    let exprs = spec.health_check_exprs.iter().map(|one| HealthExpr {
        api_version: one.api_version.clone(),
        kind: text(&one.kind),
        in_progress: text(&one.in_progress),
        failed: text(&one.failed),
        current: one.current.clone(),
    });
    HealthChecks {
        // With `wait` all of its own objects count, and no others.
        objects: if spec.wait { Vec::new() } else { objects.collect() },
        exprs: exprs.collect(),
    }
}

/// What an app needs before it in each of these clusters, and why it is given nothing new for now. Nothing is asked for an
/// app that needs none.
pub async fn dependencies(
    context: &Context,
    app: &ResourceRow,
    spec: &KustomizationSpec,
    chosen: &[Chosen],
) -> anyhow::Result<Dependencies> {
    if spec.depends_on.is_empty() {
        return Ok(Dependencies::default());
    }
    let needs = spec.depends_on.iter().map(|one| Need {
        namespace: one
            .namespace
            .as_ref()
            .map_or(&*app.namespace, |namespace| namespace.as_str())
            .to_owned(),
        name: one.name.as_str().to_owned(),
        ready_expr: one.ready_expr.clone().filter(|expr| !expr.is_empty()),
    });
    let dependent = Dependent {
        scope: app.scope,
        group: &app.api_group,
        kind: &app.kind,
        object: dependency::shown(app),
        needs: needs.collect(),
    };
    let clusters: Vec<ClusterId> = chosen.iter().map(|one| one.id).collect();
    let found = context.store.needed(app, &dependent.needs, &clusters).await?;
    let named = chosen.iter().map(|one| (one.id, one.name.clone())).collect();
    let mut dependencies = Dependencies::of(&dependent, &found, &named);
    let members = context.store.dependency_cycle(app.uid).await?;
    if !members.is_empty() {
        dependencies.unready = vec![Waiting::DependencyCycle { members }];
    }
    Ok(dependencies)
}

/// What becomes of an app's objects where it is removed.
pub fn deletion_policy(spec: &KustomizationSpec) -> DeletionPolicy {
    use flotilla_api::kinds::kustomization::DeletionPolicy as Said;
    match spec.deletion_policy {
        None | Some(Said::MirrorPrune) => DeletionPolicy::MirrorPrune,
        Some(Said::Delete) => DeletionPolicy::Delete,
        Some(Said::WaitForTermination) => DeletionPolicy::WaitForTermination,
        Some(Said::Orphan) => DeletionPolicy::Orphan,
    }
}

/// Resolves the app's own variables, over those of its cluster where no placement chose it. A reference to what the hub does not hold could only be resolved in the
/// cluster: that is not supported, and nothing is guessed.
pub async fn layers(
    context: &Context,
    app: &ResourceRow,
    spec: &KustomizationSpec,
    below: &BTreeMap<String, String>,
) -> anyhow::Result<Result<Layers, Waiting>> {
    let mut layers = Layers::default();
    let Some(post) = &spec.post_build else {
        return Ok(Ok(layers));
    };
    if !below.is_empty() {
        layers.layers.push(VariableLayer::Literal {
            values: below.clone(),
        });
        layers.values.push(below.clone());
    }
    for (index, reference) in post.substitute_from.iter().enumerate() {
        let kind = reference.kind.kind().name();
        let found = context
            .store
            .resource_named(app.scope, kind, &app.namespace, reference.name.as_str())
            .await?;
        let Some(found) = found else {
            return Ok(Err(Waiting::NotOnHub {
                field: format!("spec.postBuild.substituteFrom[{index}]"),
                kind: kind.to_owned(),
                namespace: app.namespace.clone(),
                name: reference.name.as_str().to_owned(),
            }));
        };
        let secret = kind == "Secret";
        let values = values(context, &found).await?;
        let bytes = Zeroizing::new(canonical_json(&values).into_bytes());
        let digest = if secret {
            Digest::keyed(&context.digest_key, "config", &bytes)
        } else {
            Digest::of("config", &bytes)
        };
        layers.layers.push(VariableLayer::Config { digest, secret });
        layers.configs.push(Blob {
            digest: *digest.as_bytes(),
            bytes,
            secret,
        });
        layers.values.push(values);
    }
    if !post.substitute.is_empty() {
        layers.layers.push(VariableLayer::Literal {
            values: post.substitute.clone(),
        });
        layers.values.push(post.substitute.clone());
    }
    Ok(Ok(layers))
}

/// The values of a ConfigMap or Secret that are text. Others have no meaning where text is asked for: they are as if they
/// were not there, and never changed into what nobody wrote.
pub async fn values(context: &Context, row: &ResourceRow) -> anyhow::Result<BTreeMap<String, String>> {
    let payload = payload(context, row).await?;
    Ok(texts(&payload))
}

fn texts(payload: &BTreeMap<String, Zeroizing<Vec<u8>>>) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    payload
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
        .collect()
}

/// The values of a ConfigMap or Secret, byte for byte.
pub async fn payload(
    context: &Context,
    row: &ResourceRow,
) -> anyhow::Result<BTreeMap<String, Zeroizing<Vec<u8>>>> {
    let Some(bytes) = context.store.payload(row.uid, &context.seal).await? else {
        return Ok(BTreeMap::new());
    };
    let corrupt = |e: String| StoreError::corrupt(format!("values of {}", row.display()), e);
    let text = std::str::from_utf8(&bytes).map_err(|e| corrupt(e.to_string()))?;
    if row.kind == "Secret" {
        let data = flotilla_api::SecretData::from_json(text).map_err(|e| corrupt(e.to_string()))?;
        return Ok(data
            .data
            .iter()
            .map(|(key, value)| (key.clone(), Zeroizing::new(value.expose().to_vec())))
            .collect());
    }
    let data: BTreeMap<String, String> = serde_json::from_str(text).map_err(|e| corrupt(e.to_string()))?;
    let bytes = |(key, value): (String, String)| (key, Zeroizing::new(value.into_bytes()));
    Ok(data.into_iter().map(bytes).collect())
}

/// Who owns the objects of a content, by cluster.
#[derive(Default)]
pub struct Ownership {
    /// What this app's units are to claim.
    pub claims: Claims,
    /// Objects that belong to another app's unit.
    pub withheld: BTreeMap<ClusterId, Vec<Withheld>>,
}

/// What ownership of objects depends on.
pub struct Owned<'a> {
    /// The app.
    pub app: Uuid,
    /// Variables are put in whether there are any or not.
    pub always: bool,
    /// The content to own.
    pub content: Digest,
    /// The app's own variables.
    pub layers: &'a Layers,
    /// The clusters chosen.
    pub chosen: &'a [Chosen],
    /// The units there are.
    pub units: &'a [Current],
    /// The content's manifest, where it was rendered just now.
    pub manifest: Option<&'a [u8]>,
}

/// Finds the keys of the content's objects in each cluster, and who else claims them. Where every unit has a content of
/// the same keys already, and owns all of them, nothing is to be found.
pub async fn ownership(context: &Context, planner: &Planner, owned: &Owned<'_>) -> anyhow::Result<Ownership> {
    if owned.chosen.is_empty() {
        return Ok(Ownership::default());
    }
    let settled = claim::settled(owned.chosen, owned.units);
    let read = |bytes: &[u8]| {
        Content::from_bytes(bytes).map_err(|e| StoreError::corrupt(format!("content {}", owned.content), e))
    };
    let content = match owned.manifest {
        Some(rendered) => Some(read(rendered)?),
        None => match context.store.manifest(owned.content, settled).await? {
            Some(Manifest::Read(stored)) => Some(read(&stored.into_plain()?)?),
            Some(Manifest::Known) => None,
            None => return Ok(Ownership::default()),
        },
    };
    let is_settled = |content: &Content| content.keys_digest() == settled;
    if let Some(keys) = settled
        && content.as_ref().is_none_or(is_settled)
    {
        return Ok(Ownership {
            claims: Claims::settled(owned.chosen, keys),
            withheld: BTreeMap::new(),
        });
    }
    let Some(content) = content else {
        return Ok(Ownership::default());
    };
    let layers: Vec<claim::Layer<'_>> = owned.layers.claimed().collect();
    let names = claim::Names {
        layers: &layers,
        always: owned.always,
        chosen: owned.chosen,
    };
    let claims = Claims::of(claim::keys_by_cluster(&content, &names));
    let clusters: Vec<ClusterId> = owned.chosen.iter().map(|chosen| chosen.id).collect();
    let others = planner.other_claims(owned.app, clusters, &claims).await?;
    Ok(Ownership {
        withheld: claim::withheld(&claims, &others),
        claims,
    })
}

/// What an app claims once it is given a content.
pub struct ToCome {
    /// Sets of keys, with the clusters where they are that.
    pub sets: Vec<(Keyset, Vec<ClusterId>)>,
    /// Clusters of which it is not known whether they are chosen.
    pub unreadable: Vec<ClusterId>,
}

/// What an app would claim were it given this content now; `None`: that is not known.
pub async fn claims_to_come(
    context: &Context,
    app: &Arc<ResourceRow>,
    content: Digest,
) -> anyhow::Result<Option<ToCome>> {
    let (Ok(placed), Some(Manifest::Read(stored))) = (
        placements_now(context, app).await?,
        context.store.manifest(content, None).await?,
    ) else {
        return Ok(None);
    };
    let Ok(content) = Content::from_bytes(&stored.into_plain()?) else {
        return Ok(None);
    };
    let (mut layers, mut always) = (Layers::default(), false);
    if content.keys_digest().is_none() {
        let spec = serde_json::from_value::<KustomizationSpec>(app.spec.clone());
        let Ok(spec) = spec else { return Ok(None) };
        let Ok(own) = self::layers(context, app, &spec, &placed.below).await? else {
            return Ok(None);
        };
        (layers, always) = (own, settings(&spec).substitution == Substitution::Always);
    }
    let of_names: Vec<claim::Layer<'_>> = layers.claimed().collect();
    let names = claim::Names {
        layers: &of_names,
        always,
        chosen: &placed.chosen,
    };
    Ok(Some(ToCome {
        sets: claim::keys_by_cluster(&content, &names),
        unreadable: placed.unreadable.keys().copied().collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_acts_on_of_an_app_is_in_its_settings() {
        let spec: KustomizationSpec = serde_json::from_value(serde_json::json!({
            "interval": "10m", "retryInterval": "1m", "timeout": "2m", "prune": true, "wait": true, "force": true,
            "sourceRef": {"kind": "GitRepository", "name": "fleet"},
            "commonMetadata": {"labels": {"team": "web"}, "annotations": {"note": "x"}},
            "serviceAccountName": "deployer",
            "ignore": [
                {"paths": ["/spec/replicas"], "target": {"kind": "Deployment", "group": "apps", "labelSelector": "hpa=on"}},
                {"paths": ["/metadata/annotations/example.com~1x"]},
            ],
        }))
        .expect("a spec");
        let settings = settings(&spec);
        assert_eq!(settings.service_account, "deployer");
        assert!(settings.force && settings.wait && settings.prune);
        assert_eq!(settings.common_labels["team"], "web");
        let rule = |paths: &str, target: Option<IgnoreTarget>| IgnoreRule {
            paths: vec![paths.to_owned()],
            target,
        };
        let deployments = IgnoreTarget {
            kind: "Deployment".to_owned(),
            group: "apps".to_owned(),
            label_selector: "hpa=on".to_owned(),
            ..IgnoreTarget::default()
        };
        assert_eq!(
            settings.ignore,
            [
                rule("/spec/replicas", Some(deployments)),
                rule("/metadata/annotations/example.com~1x", None)
            ]
        );
    }

    #[test]
    fn what_an_app_does_not_say_is_not_in_its_settings() {
        let spec: KustomizationSpec = serde_json::from_value(serde_json::json!({
            "interval": "10m", "prune": false, "sourceRef": {"kind": "GitRepository", "name": "fleet"},
        }))
        .expect("a spec");
        assert_eq!(
            serde_json::to_value(settings(&spec)).expect("JSON"),
            serde_json::json!({"interval": 600_000, "retryInterval": 600_000, "timeout": 570_000})
        );
    }

    #[test]
    fn values_that_are_no_text_are_left_out_and_never_changed() {
        let payload = BTreeMap::from([
            ("text".to_owned(), Zeroizing::new("wörter".as_bytes().to_vec())),
            ("binary".to_owned(), Zeroizing::new(vec![0xff, 0xfe])),
        ]);
        let texts = texts(&payload);
        assert_eq!(texts, BTreeMap::from([("text".into(), "wörter".into())]));
    }
}
