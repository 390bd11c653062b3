//! What those who plan apps ask of the store: few statements, the same for each app. Those of apps that are planned at the
//! same time are asked together, and what they write is written in one transaction. What is large is asked by itself, and
//! holds up nobody. An app that is planned alone waits for no other.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use flotilla_core::{
    claim::{Claims, Other},
    digest::Digest,
    fleet::placement::Search,
    id::ClusterId,
    object::ObjectKey,
    rollout::{plan::Planned, waiting::Waiting},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use uuid::Uuid;

use super::{Context, rollouts};
use crate::{
    auth::seal::Seal,
    store::{
        Result, Store, StoreError,
        content::Blob,
        plan::{AppPlan, Commit, Unchanged},
        query::CandidateRow,
        reference::Reference,
        rendering::{Ended, Input, InputRow, Outcome, RenderingRow},
        resource::ResourceRow,
        source::RevisionRow,
        together::Together,
        work::Lease,
    },
};

/// Units, keys and objects beyond which something is asked by itself.
const MANY: usize = 100;
/// Bytes of objects beyond which a rendering is recorded by itself.
const LARGE: usize = 64 << 10;

/// Apps of many units that are planned at the same time.
const LARGE_PLANS: usize = 32;
/// For so long one waits for its turn: it has a worker meanwhile.
const TURN: Duration = Duration::from_millis(500);
/// Searches for clusters that are asked at the same time.
const SEARCHES: usize = 4;

/// A source, and what it has now.
type Found = Option<(Uuid, Option<RevisionRow>)>;

/// Asks for apps that are planned. Cheap to clone.
#[derive(Clone)]
pub struct Planner {
    store: Store,
    seal: Arc<Seal>,
    replica: Arc<str>,
    large: Arc<Semaphore>,
    plans: Together<Uuid, Lease>,
    apps: Together<Uuid, Option<Arc<ResourceRow>>>,
    placements: Together<Arc<ResourceRow>, Vec<Arc<ResourceRow>>>,
    clusters: Together<(Uuid, Arc<Search>), Arc<[CandidateRow]>>,
    sources: Together<Reference, Found>,
    inputs: Together<Input, Result<Option<InputRow>>>,
    taken: Together<Input, Result<Option<RenderingRow>>>,
    begun: Together<(Digest, Duration), Option<i32>>,
    ended: Together<Ended, ()>,
    claims: Together<Arc<Claiming>, Vec<Other>>,
    commits: Together<Arc<Plan>, Result<()>>,
}

/// What an app's units are to claim, and where.
struct Claiming {
    app: Uuid,
    clusters: Vec<ClusterId>,
    keys: Vec<ObjectKey>,
}

/// A plan to commit, as [`Commit`] says.
pub(super) struct Plan {
    pub(super) app: Arc<ResourceRow>,
    pub(super) recorded: Arc<AppPlan>,
    pub(super) planned: Planned,
    pub(super) claims: Claims,
    pub(super) configs: Vec<Blob>,
    pub(super) revision_id: Option<i64>,
    pub(super) content: Option<Digest>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) confirms: bool,
    pub(super) unchanged: Unchanged,
}

impl Plan {
    /// Whether it takes so little that others may be committed with it.
    fn is_small(&self) -> bool {
        let values = self.configs.iter().map(|one| one.bytes.len());
        let claims = self.claims.new.values().map(|keys| keys.len());
        self.planned.units.len() <= MANY && claims.sum::<usize>() <= MANY && values.sum::<usize>() <= LARGE
    }

    /// As the store takes it.
    pub(super) fn commit(&self) -> Commit<'_> {
        Commit {
            app_uid: self.app.uid,
            app: self.app.as_app(),
            recorded: &self.recorded,
            generation: self.app.generation,
            planned: &self.planned,
            claims: &self.claims,
            configs: &self.configs,
            revision_id: self.revision_id,
            content: self.content,
            waiting: &self.waiting,
            confirms: self.confirms,
            handled: &self.app.requested_at,
            unchanged: Some(self.unchanged),
        }
    }
}

/// A question of several, each with this store.
fn together<Q, A, Asked>(
    store: &Store,
    ask: impl Fn(Store, Vec<Q>) -> Asked + Send + Sync + 'static,
) -> Together<Q, A>
where
    Q: Clone + Send + 'static,
    A: Send + 'static,
    Asked: Future<Output = Result<Vec<A>>> + Send + 'static,
{
    let store = store.clone();
    Together::start(move |questions| ask(store.clone(), questions))
}

impl Planner {
    /// Asks on the connections of a context's store.
    pub fn start(context: &Context) -> Self {
        let (store, seal, replica) = (&context.store, &context.seal, &context.replica);
        let (of_plans, of_begun) = (replica.clone(), replica.clone());
        let (of_ended, of_commits) = (seal.clone(), seal.clone());
        Self {
            store: store.clone(),
            seal: seal.clone(),
            replica: replica.clone(),
            large: Arc::new(Semaphore::new(LARGE_PLANS)),
            plans: together(store, move |store, apps: Vec<Uuid>| {
                let replica = of_plans.clone();
                async move { store.take_plans(&apps, &replica).await }
            }),
            apps: together(store, async |store, uids| apps(&store, &uids).await),
            placements: together(store, async |store, apps: Vec<Arc<ResourceRow>>| {
                store.placements_of(&apps).await
            }),
            clusters: together(store, async |store, asked| clusters(&store, &asked).await),
            sources: together(store, async |store, named| sources(&store, &named).await),
            inputs: together(store, async |store, inputs: Vec<Input>| {
                store.inputs(&inputs).await
            }),
            taken: together(store, async |store, inputs: Vec<Input>| {
                store.take_inputs(&inputs).await
            }),
            begun: together(store, move |store, asked: Vec<(Digest, Duration)>| {
                let replica = of_begun.clone();
                async move {
                    let lease = asked.iter().map(|(_, lease)| *lease).max().unwrap_or_default();
                    let digests: Vec<Digest> = asked.into_iter().map(|(digest, _)| digest).collect();
                    store.begin_renderings(&digests, &replica, lease).await
                }
            }),
            ended: together(store, move |store, ended: Vec<Ended>| {
                let seal = of_ended.clone();
                async move {
                    store.record_rendered(&ended, &seal).await?;
                    Ok(ended.iter().map(|_| ()).collect())
                }
            }),
            claims: together(store, async |store, asked| claims(&store, &asked).await),
            commits: together(store, move |store, plans: Vec<Arc<Plan>>| {
                let seal = of_commits.clone();
                async move { commit(&store, &seal, &plans).await }
            }),
        }
    }

    /// As [`Store::take_plan`]. An app of many units is one of few that are planned at the same time, until what it comes with
    /// is dropped: all that is known of each unit is in memory meanwhile.
    pub(super) async fn take_plan(&self, app: Uuid) -> Result<(Lease, Option<OwnedSemaphorePermit>)> {
        let plan = match self.plans.ask(app).await? {
            Lease::Large(plan) => plan,
            lease => return Ok((lease, None)),
        };
        match timeout(TURN, Arc::clone(&self.large).acquire_owned()).await {
            Ok(Ok(turn)) => Ok((Lease::Held(self.store.read_plan(plan).await?), Some(turn))),
            // Another hub may have a turn for it.
            _ => {
                self.store.give_back_plan(app, &self.replica).await?;
                Ok((Lease::Others, None))
            }
        }
    }

    /// As [`Store::resource`].
    pub(super) async fn app(&self, uid: Uuid) -> Result<Option<Arc<ResourceRow>>> {
        self.apps.ask(uid).await
    }

    /// As [`Store::placements_of`].
    pub(super) async fn placements_of(&self, app: &Arc<ResourceRow>) -> Result<Vec<Arc<ResourceRow>>> {
        self.placements.ask(app.clone()).await
    }

    /// As [`Store::clusters_for`].
    pub(super) async fn clusters_for(&self, app: Uuid, search: Search) -> Result<Arc<[CandidateRow]>> {
        self.clusters.ask((app, Arc::new(search))).await
    }

    /// As [`Store::named_source`].
    pub(super) async fn named_source(&self, named: Reference) -> Result<Found> {
        self.sources.ask(named).await
    }

    /// As [`Store::input`].
    pub(super) async fn input(&self, input: &Input) -> Result<Option<InputRow>> {
        self.inputs.ask(*input).await?
    }

    /// As [`Store::take_input`].
    pub(super) async fn take_input(&self, input: &Input) -> Result<Option<RenderingRow>> {
        self.taken.ask(*input).await?
    }

    /// As [`Store::begin_rendering`].
    pub(super) async fn begin_rendering(&self, digest: &Digest, lease: Duration) -> Result<Option<i32>> {
        self.begun.ask((*digest, lease)).await
    }

    /// As [`Store::record_rendered`].
    pub(super) async fn record_rendered(&self, ended: Ended) -> Result<()> {
        match is_large(&ended.outcome) {
            true => self.store.record_rendered(&[ended], &self.seal).await,
            false => self.ended.ask(ended).await,
        }
    }

    /// As [`Store::other_claims`].
    pub(super) async fn other_claims(
        &self,
        app: Uuid,
        clusters: Vec<ClusterId>,
        claims: &Claims,
    ) -> Result<Vec<Other>> {
        let keys = claims.new_keys();
        if keys.len() > MANY || clusters.len() > MANY {
            return self.store.other_claims(app, &clusters, &keys).await;
        }
        let keys = keys.into_iter().cloned().collect();
        self.claims.ask(Arc::new(Claiming { app, clusters, keys })).await
    }

    /// As [`Store::commit_plan`], and ends the rollouts that it has ended.
    pub(super) async fn commit(&self, plan: Plan) -> Result<()> {
        let plan = Arc::new(plan);
        if plan.is_small() {
            return self.commits.ask(plan).await?;
        }
        let each = commit(&self.store, &self.seal, &[plan]).await?;
        each.into_iter().collect()
    }
}

/// Whether what came of a rendering takes its time to be stored.
pub(super) fn is_large(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Done { objects, .. } => {
            objects.len() > MANY || objects.iter().map(|one| one.bytes.len()).sum::<usize>() > LARGE
        }
        _ => false,
    }
}

async fn apps(store: &Store, uids: &[Uuid]) -> Result<Vec<Option<Arc<ResourceRow>>>> {
    let rows = store.resources(uids).await?;
    let rows: Vec<Arc<ResourceRow>> = rows.into_iter().map(Arc::new).collect();
    let of = |uid: &Uuid| rows.iter().find(|row| row.uid == *uid).cloned();
    Ok(uids.iter().map(of).collect())
}

/// Those who look for the same are one question.
async fn clusters(store: &Store, asked: &[(Uuid, Arc<Search>)]) -> Result<Vec<Arc<[CandidateRow]>>> {
    let mut searches: Vec<(Arc<Search>, Vec<Uuid>)> = Vec::new();
    let mut places = Vec::with_capacity(asked.len());
    for (app, search) in asked {
        let known = searches.iter().position(|(known, _)| known == search);
        let place = known.unwrap_or(searches.len());
        if known.is_none() {
            searches.push((search.clone(), Vec::new()));
        }
        searches[place].1.push(*app);
        places.push(place);
    }
    let searches = searches.into_iter().map(|(search, apps)| async move {
        let found = store.clusters_for(&apps, &search).await?;
        Ok::<Arc<[CandidateRow]>, StoreError>(found.into())
    });
    // As a rule there is one.
    let found: Vec<Arc<[CandidateRow]>> = stream::iter(searches).buffered(SEARCHES).try_collect().await?;
    Ok(places.into_iter().map(|place| found[place].clone()).collect())
}

async fn sources(store: &Store, named: &[Reference]) -> Result<Vec<Found>> {
    let distinct: BTreeSet<Reference> = named.iter().cloned().collect();
    let found = store.named_sources(&distinct).await?;
    Ok(named.iter().map(|one| found.get(one).cloned()).collect())
}

async fn claims(store: &Store, asked: &[Arc<Claiming>]) -> Result<Vec<Vec<Other>>> {
    let asked: Vec<_> = asked
        .iter()
        .map(|one| (one.app, &one.clusters[..], one.keys.iter().collect()))
        .collect();
    store.others_claim(asked).await
}

async fn commit(store: &Store, seal: &Seal, plans: &[Arc<Plan>]) -> Result<Vec<Result<()>>> {
    let commits: Vec<Commit<'_>> = plans.iter().map(|plan| plan.commit()).collect();
    let committed = store
        .commit_plans(&commits.iter().collect::<Vec<_>>(), seal)
        .await?;
    match store.end_rollouts(&committed.turned).await {
        Ok(ended) => rollouts::ended(ended),
        // What is planned is planned: they are ended at the next look.
        Err(error) => tracing::warn!("rollouts are not ended yet: {error}"),
    }
    Ok(committed.each)
}
