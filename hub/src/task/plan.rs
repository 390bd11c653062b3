//! Gathers what the planner of an app's units needs: placements, clusters, variables, ownership of objects.

use std::collections::BTreeMap;

use flotilla_api::kinds::{
    cluster::ClusterGroupSpec,
    kustomization::{KustomizationSpec, SubstituteStrategy},
    placement::PlacementSpec,
};
use flotilla_core::{
    content::{Content, Form},
    digest::{Digest, canonical_json},
    fleet::{
        placement::{Candidate, Chosen, Override, Placement, choose},
        selector::{Expression, Selector},
    },
    id::ClusterId,
    object::ObjectKey,
    rollout::{plan::Admitted, waiting::Waiting},
    substitute::{self, Variables},
    unit::{Settings, Substitution, VariableLayer, Withheld},
};
use serde_json::Value;
use zeroize::Zeroizing;

use super::Context;
use crate::store::{StoreError, content::Blob, resource::ResourceRow};

/// What was gathered.
pub struct Gathered {
    /// The app's own variables.
    pub layers: Layers,
    /// The clusters chosen.
    pub chosen: Vec<Chosen>,
    /// The newest content.
    pub admitted: Option<Admitted>,
}

/// The app's own variables, with the values that layers name by digest.
#[derive(Default)]
pub struct Layers {
    /// In order: `substituteFrom`, then `substitute`.
    pub layers: Vec<VariableLayer>,
    /// Values to store.
    pub configs: Vec<Blob>,
    values: Vec<BTreeMap<String, String>>,
}

/// What placements say about an app.
pub struct Placed {
    /// A placement names the app.
    pub named: bool,
    /// The clusters.
    pub chosen: Vec<Chosen>,
    /// Clusters of which that is not known, and why.
    pub unreadable: BTreeMap<ClusterId, Waiting>,
    /// Some placement gives variables of its own.
    pub overrides_variables: bool,
}

/// Reads the placements that name `app`, and chooses. A placement that names it and cannot be read, or uses what this
/// release does not do, leaves open where the app belongs; all others are nothing to it.
pub async fn placements(context: &Context, app: &ResourceRow) -> anyhow::Result<Result<Placed, Waiting>> {
    let mut placements = Vec::new();
    for row in context.store.resources_of_kind("Placement").await? {
        if row.scope != app.scope {
            continue;
        }
        let spec = match serde_json::from_value::<PlacementSpec>(row.spec.clone()) {
            Ok(spec) => spec,
            Err(_) if !may_name(&row.spec, app) => continue,
            Err(error) => return Ok(Err(unreadable(&row, &error))),
        };
        if !names(&spec, app) {
            continue;
        }
        if let Some(what) = row.not_supported.first() {
            let why = format!("{} uses {what}", row.display());
            return Ok(Err(Waiting::NotSupported(why)));
        }
        match resolve(context, &row, &spec).await? {
            Ok(placement) => placements.push(placement),
            Err(problem) => return Ok(Err(problem)),
        }
    }
    let (candidates, unreadable) = candidates(context).await?;
    Ok(Ok(Placed {
        named: !placements.is_empty(),
        overrides_variables: placements
            .iter()
            .any(|one| one.overrides.iter().any(|o| !o.variables.is_empty())),
        chosen: choose(&placements, &candidates),
        unreadable,
    }))
}

fn names(spec: &PlacementSpec, app: &ResourceRow) -> bool {
    spec.apps.iter().any(|one| {
        one.kind.kind().name() == app.kind
            && one.name.as_str() == app.name
            && one.namespace() == app.namespace
    })
}

/// Whether a spec that cannot be read names `app` by any text where its apps stand.
fn may_name(spec: &Value, app: &ResourceRow) -> bool {
    fn holds(value: &Value, name: &str) -> bool {
        match value {
            Value::String(text) => text == name,
            Value::Array(items) => items.iter().any(|item| holds(item, name)),
            Value::Object(fields) => fields.values().any(|field| holds(field, name)),
            _ => false,
        }
    }
    spec.get("apps").is_some_and(|apps| holds(apps, &app.name))
}

fn unreadable(row: &ResourceRow, error: &dyn std::fmt::Display) -> Waiting {
    Waiting::Failed(format!("{} cannot be read: {error}", row.display()))
}

async fn candidates(context: &Context) -> anyhow::Result<(Vec<Candidate>, BTreeMap<ClusterId, Waiting>)> {
    let mut candidates = Vec::new();
    let mut unreadable = BTreeMap::new();
    for row in context.store.cluster_candidates().await? {
        let id = ClusterId(row.id);
        let read = (
            serde_json::from_value(row.labels),
            serde_json::from_value(row.variables),
        );
        match read {
            (Ok(labels), Ok(variables)) => candidates.push(Candidate {
                id,
                name: row.name,
                labels,
                variables,
            }),
            (Err(error), _) | (_, Err(error)) => {
                let why = format!(
                    "labels or variables of Cluster/{} cannot be read: {error}",
                    row.name
                );
                unreadable.insert(id, Waiting::Failed(why));
            }
        }
    }
    Ok((candidates, unreadable))
}

async fn resolve(
    context: &Context,
    row: &ResourceRow,
    spec: &PlacementSpec,
) -> anyhow::Result<Result<Placement, Waiting>> {
    let mut groups = Vec::new();
    for name in &spec.clusters.groups {
        let found = context
            .store
            .resource_by_name("", "ClusterGroup", "", name.as_str())
            .await?;
        // A group that is not there chooses nothing; it may come later.
        let Some(found) = found else { continue };
        match serde_json::from_value::<ClusterGroupSpec>(found.spec.clone()) {
            Ok(group) => groups.push((found, group)),
            Err(error) => return Ok(Err(unreadable(&found, &error))),
        }
    }
    Ok(placement(row, spec, &groups))
}

/// A placement with its groups resolved.
fn placement(
    row: &ResourceRow,
    spec: &PlacementSpec,
    groups: &[(ResourceRow, ClusterGroupSpec)],
) -> Result<Placement, Waiting> {
    let mut selectors = Vec::new();
    let of_placement = spec.clusters.selector.iter().map(|one| (row, one));
    let of_groups = groups
        .iter()
        .filter_map(|(group, spec)| Some((group, spec.selector.as_ref()?)));
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
    }
}

/// Resolves the app's own variables. A reference to what the hub does not hold could only be resolved in the
/// cluster: that is not supported, and nothing is guessed.
pub async fn layers(
    context: &Context,
    app: &ResourceRow,
    spec: &KustomizationSpec,
) -> anyhow::Result<Result<Layers, Waiting>> {
    let mut layers = Layers::default();
    let Some(post) = &spec.post_build else {
        return Ok(Ok(layers));
    };
    for (index, reference) in post.substitute_from.iter().enumerate() {
        let kind = reference.kind.kind().name();
        let found = context
            .store
            .resource_by_name(&app.scope, kind, &app.namespace, reference.name.as_str())
            .await?;
        let Some(found) = found else {
            return Ok(Err(Waiting::NotSupported(format!(
                "spec.postBuild.substituteFrom[{index}]: {kind} {}/{} is not on the hub; apply it with `flotilla apply`",
                app.namespace,
                reference.name.as_str()
            ))));
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

/// The values of a ConfigMap or Secret, as text.
pub async fn values(context: &Context, row: &ResourceRow) -> anyhow::Result<BTreeMap<String, String>> {
    let Some(bytes) = context.store.payload(row.uid, &context.seal).await? else {
        return Ok(BTreeMap::new());
    };
    let corrupt = |e: String| StoreError::corrupt(format!("values of {}", row.display()), e);
    let text = std::str::from_utf8(&bytes).map_err(|e| corrupt(e.to_string()))?;
    if row.kind == "Secret" {
        let data = flotilla_api::SecretData::from_json(text).map_err(|e| corrupt(e.to_string()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        return Ok(data
            .data
            .iter()
            .map(|(key, value)| (key.clone(), text(value.expose())))
            .collect());
    }
    Ok(serde_json::from_str(text).map_err(|e| corrupt(e.to_string()))?)
}

/// Who owns the objects of a content, by cluster.
#[derive(Default)]
pub struct Ownership {
    /// Objects this app's units claim.
    pub claims: BTreeMap<ClusterId, Vec<ObjectKey>>,
    /// Objects that belong to another app's unit.
    pub withheld: BTreeMap<ClusterId, Vec<Withheld>>,
}

/// Finds the keys of the content's objects in each cluster, and who else claims them.
pub async fn ownership(
    context: &Context,
    app: &ResourceRow,
    spec: &KustomizationSpec,
    gathered: &Gathered,
) -> anyhow::Result<Ownership> {
    let mut ownership = Ownership::default();
    let Some(admitted) = gathered.admitted else {
        return Ok(ownership);
    };
    let Some(stored) = context.store.content(admitted.content.as_bytes()).await? else {
        return Ok(ownership);
    };
    let content = Content::from_bytes(&stored.into_plain()?)
        .map_err(|e| StoreError::corrupt(format!("content {}", admitted.content), e))?;
    let mut by_keys: BTreeMap<Vec<ObjectKey>, Vec<ClusterId>> = BTreeMap::new();
    for chosen in &gathered.chosen {
        let keys = keys(&content, gathered, chosen, spec);
        by_keys.entry(keys).or_default().push(chosen.id);
    }
    for (keys, clusters) in by_keys {
        for (cluster, withheld) in context.store.foreign_claims(app.uid, &clusters, &keys).await? {
            ownership.withheld.entry(cluster).or_default().push(withheld);
        }
        for cluster in clusters {
            ownership.claims.insert(cluster, keys.clone());
        }
    }
    Ok(ownership)
}

/// Keys as they will be in the cluster: names may hold variables. The same function the agent uses; a name that
/// cannot be resolved here stays as written, and the agent's verdict counts.
fn keys(content: &Content, gathered: &Gathered, chosen: &Chosen, spec: &KustomizationSpec) -> Vec<ObjectKey> {
    let mut values = gathered.layers.values.clone();
    values.push(chosen.variables.clone());
    values.extend(chosen.overrides.clone());
    let variables = Variables::from_layers(values).ok();
    let always = spec
        .post_build
        .as_ref()
        .is_some_and(|post| post.substitute_strategy == Some(SubstituteStrategy::Always));
    let mut keys: Vec<ObjectKey> = content
        .objects()
        .iter()
        .map(|entry| {
            let mut key = entry.key.clone();
            if let (Form::Yaml, Some(variables)) = (entry.form, &variables)
                && substitute::runs(variables, always)
            {
                for field in [&mut key.namespace, &mut key.name] {
                    if let Ok(text) = substitute::substitute(field, variables, true) {
                        *field = text;
                    }
                }
            }
            key
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
