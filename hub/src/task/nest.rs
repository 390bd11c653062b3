//! Keeps what an app renders for the hub: Flux's objects, in the scope of each cluster that the app targets, with its variables
//! put in. What is decided of them is decided in `core::nest`; a cluster's change only once the unit there has applied what is
//! rendered beside them, as Flux would have applied them then.

mod evaluate;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_api::{Scope, kinds::kustomization::KustomizationSpec};
use flotilla_core::{
    content::{Content, ObjectEntry},
    digest::{Digest, canonical_json},
    fleet::placement::Chosen,
    id::ClusterId,
    nest::{Parent, Problem, Rendered, account::Account, nest},
    object::ObjectKey,
    rollout::{
        plan::{Input, Planned},
        waiting::Waiting,
    },
};
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use self::evaluate::{Decoration, Evaluated, Fault, Values, evaluate};
use super::{Context, gather::Layers};
use crate::store::{
    StoreError,
    apply::NewResource,
    nest::{Keep, Nesting},
    plan::{AppPlan, OUTDATED},
    resource::ResourceRow,
};

/// Reasons that an app names; of more their number.
const NAMED: usize = 10;

/// What an app is rendered to, and planned as.
pub(super) struct Rendering<'a> {
    /// The app.
    pub(super) app: &'a Arc<ResourceRow>,
    /// Its plan as it was read.
    pub(super) recorded: &'a Arc<AppPlan>,
    /// Its spec.
    pub(super) spec: &'a KustomizationSpec,
    /// Digest of what the hub keeps of the rendering, where it keeps anything.
    pub(super) kept: Option<Digest>,
    /// Its variables.
    pub(super) layers: &'a Layers,
    /// What its plan is made from.
    pub(super) input: &'a Input,
    /// Variables of its cluster that are below its own.
    pub(super) below: &'a BTreeMap<String, String>,
    /// Its plan.
    pub(super) planned: &'a Planned,
    /// It waits for what it needs.
    pub(super) is_held: bool,
}

/// What came of it.
pub(super) struct Kept {
    /// The app's plan as it is recorded now.
    pub(super) recorded: Arc<AppPlan>,
    /// Why not all is kept as it is rendered.
    pub(super) problems: Vec<Waiting>,
}

/// Keeps what may be kept now, and records what waits. Nothing is asked for an app that renders nothing of this, and for which
/// nothing is kept.
pub(super) async fn reconcile(context: &Context, rendering: &Rendering<'_>) -> anyhow::Result<Kept> {
    let recorded = rendering.recorded;
    let unchanged = |problems| Kept {
        recorded: recorded.clone(),
        problems,
    };
    if rendering.kept.is_none() && !recorded.keeps && !recorded.awaits {
        return Ok(unchanged(Vec::new()));
    }
    let app = rendering.app.uid;
    if rendering.input.admission.admitted().is_none() || rendering.is_held {
        // What it has stays; once it is admitted again all is looked at.
        if recorded.awaits {
            context.store.await_nothing(app, None).await?;
        }
        return Ok(unchanged(Vec::new()));
    }
    let known = context.store.nestings(app).await?;
    let places = places(rendering, &known);
    if !places.idle.is_empty() {
        context.store.await_nothing(app, Some(&places.idle)).await?;
    }
    if !places.waiting.is_empty() {
        context.store.await_applied(app, &places.waiting).await?;
        // One that was reported meanwhile woke nobody.
        let now = context.store.nestings(app).await?;
        let may_be_kept = |one: &Nesting| one.is_applied && places.reported.contains(&one.cluster);
        if now.iter().any(may_be_kept) {
            return Err(StoreError::Conflict(OUTDATED).into());
        }
    }
    if places.ready.is_empty() {
        return Ok(unchanged(Vec::new()));
    }
    keep_all(context, rendering, &places.ready).await
}

/// The clusters of an app, by what is to be done.
struct Places<'a> {
    /// Those whose unit has applied what it is to have, with what was kept there.
    ready: Vec<(&'a Chosen, &'a Nesting)>,
    /// Those that begin to wait for it.
    waiting: Vec<Uuid>,
    /// Those of them whose target stays: what they report may come at any moment.
    reported: BTreeSet<Uuid>,
    /// Those that wait, and have no reason to.
    idle: Vec<Uuid>,
}

fn places<'a>(rendering: &'a Rendering<'_>, known: &'a [Nesting]) -> Places<'a> {
    let known_of: BTreeMap<Uuid, &Nesting> = known.iter().map(|one| (one.cluster, one)).collect();
    let moving: BTreeSet<ClusterId> = rendering
        .planned
        .units
        .iter()
        .filter(|unit| unit.retargeted || unit.id.is_none())
        .map(|unit| unit.cluster)
        .collect();
    let mut places = Places {
        ready: Vec::new(),
        waiting: Vec::new(),
        reported: BTreeSet::new(),
        idle: Vec::new(),
    };
    let chosen = rendering.input.chosen.iter().filter(|chosen| {
        let is_held = rendering.input.dependencies.unready_in.contains_key(&chosen.id);
        chosen.overrides.is_ok() && !is_held
    });
    let mut of_these = BTreeSet::new();
    for chosen in chosen {
        let cluster = chosen.id.0;
        of_these.insert(cluster);
        let nesting = known_of.get(&cluster).copied();
        let is_moving = moving.contains(&chosen.id);
        match nesting {
            Some(nesting) if nesting.is_applied && !is_moving => places.ready.push((chosen, nesting)),
            Some(nesting) if nesting.waits => {}
            _ => {
                places.waiting.push(cluster);
                if !is_moving {
                    places.reported.insert(cluster);
                }
            }
        }
    }
    let idle = known
        .iter()
        .filter(|one| one.waits && !of_these.contains(&one.cluster));
    places.idle = idle.map(|one| one.cluster).collect();
    places
}

/// What is rendered, as it is stored.
type Objects = Arc<Vec<(ObjectEntry, Zeroizing<Vec<u8>>)>>;

async fn keep_all(
    context: &Context,
    rendering: &Rendering<'_>,
    ready: &[(&Chosen, &Nesting)],
) -> anyhow::Result<Kept> {
    let mut recorded = AppPlan::clone(rendering.recorded);
    let mut problems = Vec::new();
    let mut read: Option<(Objects, Vec<Uuid>)> = None;
    for (chosen, nesting) in ready {
        let made_from = made_from(context, rendering, chosen);
        if nesting.made_from.as_deref() == Some(&made_from.as_bytes()[..]) && !nesting.waits {
            continue;
        }
        if read.is_none() {
            let objects = objects(context, rendering).await?;
            read = Some((objects, context.store.keepers(rendering.app.uid).await?));
        }
        let Some((objects, ancestors)) = &read else {
            continue;
        };
        let one = One {
            rendering,
            chosen,
            made_from,
            version: recorded.version,
        };
        match one.keep(context, objects.clone(), ancestors).await {
            Ok(found) => {
                problems.extend(found);
                recorded.version += 1;
            }
            // What cannot be stored of one cluster's is in the way of no other, nor of what goes to clusters.
            Err(error) if matches!(error.downcast_ref(), Some(StoreError::Rejected(_))) => {
                problems.push(Waiting::Failed {
                    message: format!("what is kept for cluster {}: {error}", chosen.name),
                });
            }
            Err(error) => return Err(error),
        }
    }
    let more = problems.len().saturating_sub(NAMED);
    if more > 0 {
        problems.truncate(NAMED);
        problems.push(Waiting::KeptMore { more });
    }
    Ok(Kept {
        recorded: Arc::new(recorded),
        problems,
    })
}

/// Digest of all that decides what is kept for a cluster. Values of Secrets are among it.
fn made_from(context: &Context, rendering: &Rendering<'_>, chosen: &Chosen) -> Digest {
    let settings = &rendering.input.settings;
    let from = json!({
        "kept": rendering.kept,
        "generation": rendering.app.generation,
        "layers": rendering.layers.each().map(|(_, values)| values).collect::<Vec<_>>(),
        "cluster": chosen.variables,
        "overrides": chosen.overrides.as_ref().ok(),
        "below": rendering.below,
        "substitution": settings.substitution,
        "labels": settings.common_labels,
        "annotations": settings.common_annotations,
        "prune": settings.prune,
        "account": account(context, rendering).map(|account| account.name),
        "onlyOwnNamespace": context.trust.only_own_namespace,
    });
    let bytes = Zeroizing::new(canonical_json(&from).into_bytes());
    Digest::keyed(&context.digest_key, "nesting", &bytes)
}

/// The ServiceAccount that an app acts as, and that what it has kept is held to.
fn account(context: &Context, rendering: &Rendering<'_>) -> Option<Account> {
    let name = &rendering.input.settings.service_account;
    context.trust.confines(&rendering.app.namespace, name)
}

/// Reads what the hub keeps of a rendering.
async fn objects(context: &Context, rendering: &Rendering<'_>) -> anyhow::Result<Objects> {
    let Some(kept) = rendering.kept else {
        return Ok(Objects::default());
    };
    let missing = || StoreError::corrupt(format!("content {kept}"), "a part of it is missing");
    let found = context.store.contents(&[&kept.as_bytes()[..]]).await?;
    let manifest = found.into_values().next().ok_or_else(missing)?.into_plain()?;
    let content =
        Content::from_bytes(&manifest).map_err(|e| StoreError::corrupt(format!("content {kept}"), e))?;
    let digests: Vec<&[u8]> = content
        .objects()
        .iter()
        .map(|one| &one.digest.as_bytes()[..])
        .collect();
    let stored = context.store.objects(&digests, &context.seal).await?;
    let mut objects = Vec::with_capacity(content.objects().len());
    for entry in content.objects() {
        let bytes = stored.get(entry.digest.as_bytes()).ok_or_else(missing)?;
        objects.push((entry.clone(), bytes.to_plain()?));
    }
    Ok(Arc::new(objects))
}

/// One cluster of an app.
struct One<'a> {
    rendering: &'a Rendering<'a>,
    chosen: &'a Chosen,
    made_from: Digest,
    version: u64,
}

impl One<'_> {
    /// Keeps what is rendered for it. Returns why not all is.
    async fn keep(
        &self,
        context: &Context,
        objects: Objects,
        ancestors: &[Uuid],
    ) -> anyhow::Result<Vec<Waiting>> {
        let app = self.rendering.app;
        let scope = self.chosen.id.0;
        let set = self.evaluated(context, objects).await?;
        let keys: Vec<ObjectKey> = set.iter().filter_map(|one| one.key.clone()).collect();
        let mut found = context.store.kept(app, scope, &keys).await?;
        let names: BTreeSet<&ObjectKey> = keys.iter().collect();
        let leaves =
            |one: &flotilla_core::nest::Found| one.owner == Some(app.uid) && !names.contains(&one.key);
        let leaving: Vec<Uuid> = found
            .iter()
            .filter(|one| leaves(one))
            .map(|one| one.uid)
            .collect();
        if !leaving.is_empty() {
            let wanted = context.store.wanted(&leaving).await?;
            for one in &mut found {
                one.is_wanted = wanted.contains(&one.uid);
            }
        }
        if self.rendering.input.settings.prune && !leaving.is_empty() {
            let weights = context.store.weights(app.uid, scope).await?;
            let mut unasked = context.store.never_unasked(&leaving).await?;
            for one in &mut found {
                one.objects = weights.get(&one.uid).copied().unwrap_or(0);
                one.unasked = unasked.remove(&one.uid);
            }
        }
        let account = account(context, self.rendering);
        let key = ObjectKey::new(&app.api_group, &app.kind, &app.namespace, &app.name);
        let parent = Parent {
            uid: app.uid,
            key: &key,
            is_in_scope: app.scope == scope,
            ancestors,
            has_account: account.is_some(),
            prune: self.rendering.spec.prune,
            is_complete: set.iter().all(|one| one.key.is_some()),
        };
        let (rendered, mut resources): (Vec<Rendered>, Vec<Option<NewResource>>) = set
            .iter()
            .filter_map(|one| {
                let rendered = Rendered {
                    key: one.key.clone()?,
                    policy: one.policy,
                    is_valid: one.outcome.is_ok(),
                    is_denied: matches!(one.outcome, Err(Fault::Denied(_))),
                };
                Some((rendered, one.outcome.as_ref().ok().cloned()))
            })
            .unzip();
        let nested = nest(&parent, &rendered, &found, context.nested);
        let resources: Vec<NewResource> = nested
            .apply
            .iter()
            .filter_map(|place| resources.get_mut(*place)?.take())
            .collect();
        let invalid = set.into_iter().filter_map(|one| {
            let (cluster, object) = (self.chosen.name.clone(), Box::new(one.named));
            Some(match one.outcome.err()? {
                Fault::Invalid(message) => Waiting::KeptInvalid {
                    cluster,
                    object,
                    message,
                },
                Fault::Denied(message) => Waiting::KeptDenied {
                    cluster,
                    object,
                    message,
                },
            })
        });
        let mut problems: Vec<Waiting> = invalid.collect();
        let wants = nested.problems.iter().filter_map(|one| match one {
            Problem::Conflict { key, .. } => Some(key.clone()),
            _ => None,
        });
        let wants: Vec<ObjectKey> = wants.collect();
        problems.extend(
            nested
                .problems
                .into_iter()
                .map(|one| one.waiting(&self.chosen.name)),
        );
        let keep = Keep {
            app,
            version: self.version,
            kept: self.rendering.kept,
            cluster: scope,
            resources: &resources,
            own: &nested.own,
            take: &nested.take,
            hand_over: &nested.hand_over,
            wants: &wants,
            release: &nested.release,
            delete: &nested.delete,
            // What cannot be kept now is looked at with each plan: it may be mended elsewhere.
            made_from: problems.is_empty().then_some(self.made_from),
        };
        context.store.keep(&keep, &context.seal).await?;
        Ok(problems)
    }

    /// Puts variables into what is rendered and reads it, beside the runtime: there may be thousands.
    async fn evaluated(&self, context: &Context, objects: Objects) -> anyhow::Result<Vec<Evaluated>> {
        let settings = &self.rendering.input.settings;
        let values = Values::of(self.rendering.layers, settings, self.chosen);
        let decoration = Decoration {
            labels: settings.common_labels.clone(),
            annotations: settings.common_annotations.clone(),
            account: account(context, self.rendering),
            trust: context.trust.clone(),
        };
        let (scope, shown) = (self.chosen.id.0, Scope::Cluster(self.chosen.name.clone()));
        let key = context.digest_key;
        let evaluated = tokio::task::spawn_blocking(move || {
            let each = objects.iter().map(|(entry, bytes)| {
                let evaluated = evaluate(entry, bytes, &values, &decoration, &shown);
                evaluated.into_row(&key, scope)
            });
            evaluate::once(each.collect())
        });
        Ok(evaluated.await?)
    }
}
