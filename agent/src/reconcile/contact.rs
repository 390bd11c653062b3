//! What is there before a stage is written. An object that a watch has shown as we left it needs no look; many of
//! one kind in one namespace are looked at by a list of their metadata, few by a read each. Bodies are not read.

use std::collections::{BTreeMap, HashMap};

use flotilla_core::{apply::inventory::Inventory, id::UnitId, object::ObjectKey};
use futures::{StreamExt as _, stream};
use serde_json::Value;

use super::{
    context::Context,
    evaluate::Object,
    obstacle::{Obstacles, Stopped},
    pass::CONCURRENCY,
    touch::{FluxOwners, Touched, is_fresh, judge, served},
};
use crate::cluster::{ClusterError, Resource};

/// Fewer objects of a kind and namespace are read one by one.
const MANY: usize = 8;
/// A page of a list costs the server about as much as reading this many objects: a full namespace is not listed
/// for the sake of a few.
const READS_PER_PAGE: usize = 25;

/// What a look at one object gave.
pub type Look = Result<Touched, Stopped>;

/// Looks at `objects[index]` for each index, and answers in the same order.
pub async fn look(
    context: &Context,
    unit: UnitId,
    objects: &[Object],
    indices: &[usize],
    inventory: &Inventory,
    obstacles: &Obstacles<'_>,
) -> Vec<(usize, Look)> {
    let mut looks = Looks {
        context,
        obstacles,
        unit,
        objects,
        flux: FluxOwners::default(),
        found: HashMap::with_capacity(indices.len()),
    };
    let (mut groups, mut single) = (BTreeMap::<_, Vec<usize>>::new(), Vec::new());
    for index in indices.iter().copied() {
        let object = &objects[index];
        let key = &object.desired.key;
        match served(object) {
            Err(e) => looks.put(index, Err(e.into())),
            Ok(_) if is_fresh(context, unit, object, inventory.get(key)) => {
                let fold = Vec::new();
                looks.put(index, Ok(Touched::Write { adopted: false, fold }));
            }
            Ok(resource) => groups.entry((resource, &key.namespace)).or_default().push(index),
        }
    }
    for ((resource, namespace), members) in groups {
        if members.len() < MANY {
            single.extend(members);
        } else {
            single.extend(looks.list(resource, namespace, &members).await);
        }
    }
    looks.read(single).await;
    let mut found = looks.found;
    let taken = indices
        .iter()
        .filter_map(|index| Some((*index, found.remove(index)?)));
    taken.collect()
}

struct Looks<'a> {
    context: &'a Context,
    obstacles: &'a Obstacles<'a>,
    unit: UnitId,
    objects: &'a [Object],
    flux: FluxOwners,
    found: HashMap<usize, Look>,
}

impl Looks<'_> {
    fn put(&mut self, index: usize, look: Look) {
        self.found.insert(index, look);
    }

    async fn judge(&mut self, index: usize, live: Option<&Value>) {
        let object = &self.objects[index];
        let look = judge(self.context, self.unit, object, live, &self.flux).await;
        self.put(index, look.map_err(Stopped::from));
    }

    /// Lists a kind's metadata in a namespace. Returns the indices that this did not settle: the list is not
    /// allowed, or longer than reading one by one is worth.
    async fn list(&mut self, resource: &Resource, namespace: &str, members: &[usize]) -> Vec<usize> {
        let objects = self.objects;
        let mut wanted: HashMap<&str, usize> = members
            .iter()
            .map(|index| (objects[*index].desired.key.name.as_str(), *index))
            .collect();
        let mut token = String::new();
        for left in (0..=members.len() / READS_PER_PAGE).rev() {
            let page = match self.context.cluster.list(resource, namespace, &token).await {
                Ok(page) => page,
                // No right to list, or the continuation is too old: each read says for itself what is the matter.
                Err(ClusterError::Rejected { .. }) => break,
                Err(e) => {
                    for index in wanted.into_values() {
                        self.put(index, Err(e.clone().into()));
                    }
                    return Vec::new();
                }
            };
            for item in &page.items {
                let name = item["metadata"]["name"].as_str().unwrap_or_default();
                if let Some(index) = wanted.remove(name) {
                    self.judge(index, Some(item)).await;
                }
            }
            if page.next.is_empty() {
                for index in wanted.into_values() {
                    self.judge(index, None).await;
                }
                return Vec::new();
            }
            if page.items.len() * left < page.remaining {
                break;
            }
            token = page.next;
        }
        wanted.into_values().collect()
    }

    async fn read(&mut self, indices: Vec<usize>) {
        let (context, objects, unit, flux) = (self.context, self.objects, self.unit, &self.flux);
        let obstacles = self.obstacles;
        let reads = indices.into_iter().map(|index| async move {
            let object = &objects[index];
            let looked = read(context, unit, object, flux);
            (index, obstacles.pass(&object.desired.key, looked).await)
        });
        let looks: Vec<_> = stream::iter(reads.collect::<Vec<_>>())
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        self.found.extend(looks);
    }
}

async fn read(
    context: &Context,
    unit: UnitId,
    object: &Object,
    flux: &FluxOwners,
) -> Result<Touched, ClusterError> {
    let ObjectKey { namespace, name, .. } = &object.desired.key;
    let live = context.cluster.get(served(object)?, namespace, name).await?;
    judge(context, unit, object, live.as_ref(), flux).await
}
