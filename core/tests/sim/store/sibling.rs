//! Where the apps of a source stand (`hub/src/store/sibling.rs`).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{digest::Digest, removal::clearing::Sibling};
use uuid::Uuid;

use super::{Input, Store};

/// An app of a source that is not settled, perhaps.
#[derive(Debug, Clone)]
pub(crate) struct Unsettled {
    pub(crate) app: Uuid,
    pub(crate) sibling: Sibling,
}

impl Store {
    /// What an app is rendered from, and to; outer `None`: it is not rendered yet, inner: it cannot be.
    pub(crate) fn rendered(&self, app: Uuid) -> Option<(Input, Option<Digest>)> {
        let input = self.inputs.get(&app)?;
        let content = self.renderings.get(&(app, *input))?;
        Some((*input, *content))
    }

    /// The apps of a source that may be held, or due.
    pub(crate) fn unsettled_apps(&self, source: Uuid) -> Vec<Unsettled> {
        let mut found = Vec::new();
        for (app, resource) in &self.resources {
            let input = self.inputs.get(app).filter(|input| input.source == source);
            if input.is_none() && resource.source != source {
                continue;
            }
            let due = self.due.contains_key(app);
            if resource.deletion.is_some() && !due {
                continue;
            }
            let rendering = input.and_then(|input| self.renderings.get(&(*app, *input)));
            let content = rendering.copied().flatten();
            let is_done = content.is_some();
            found.push(Unsettled {
                app: *app,
                sibling: Sibling {
                    app: format!("Kustomization/apps/{}", resource.name),
                    due,
                    waiting: self
                        .plans
                        .get(app)
                        .map(|plan| plan.waiting.clone())
                        .unwrap_or_default(),
                    rendered: is_done,
                    failed: rendering.is_some_and(Option::is_none),
                    suspended: resource.suspended,
                },
            });
        }
        found
    }

    /// Clusters in which some unit of an app of a source waits.
    pub(crate) fn waiting_units(&self, source: Uuid) -> BTreeMap<Uuid, String> {
        let units = self.units.values().filter(|unit| {
            let input = self.inputs.get(&unit.app);
            unit.waits() && input.is_some_and(|input| input.source == source)
        });
        units
            .map(|unit| (unit.cluster, self.resources[&unit.app].name.clone()))
            .collect()
    }

    /// The clusters in which an app has a unit, or is placed.
    pub(crate) fn clusters_of(&self, app: Uuid) -> BTreeSet<Uuid> {
        let units = self.units_of(app).map(|(_, unit)| unit.cluster);
        let placed = self.resources.get(&app).into_iter();
        units
            .chain(placed.flat_map(|resource| resource.placed.iter().copied()))
            .collect()
    }

    /// Records what a look at a source has seen: by compare-and-set. `true`: it has another revision than before.
    pub(crate) fn record_source(&mut self, source: Uuid, version: u64, seen: i64) -> bool {
        let row = self.sources.entry(source).or_default();
        if row.version != version {
            return false;
        }
        row.version += 1;
        let is_news = row.revision != seen;
        row.revision = seen;
        let mut woken: BTreeSet<Uuid> = BTreeSet::new();
        if is_news {
            for (app, input) in &mut self.inputs {
                if input.source == source {
                    input.revision = seen;
                    woken.insert(*app);
                }
            }
            let named = self.resources.iter().filter(|(app, resource)| {
                let input = self.inputs.get(*app);
                resource.source == source && input.is_none_or(|input| input.source != source)
            });
            woken.extend(named.map(|(app, _)| *app));
        }
        if self.unconfirmed.remove(&source) {
            let named = self
                .resources
                .iter()
                .filter(|(_, resource)| resource.source == source);
            woken.extend(named.map(|(app, _)| *app));
        }
        self.wake_apps(woken);
        is_news
    }

    /// Records what an input gave. Others that have it are planned; who has rendered it goes on.
    pub(crate) fn rendered_to(&mut self, app: Uuid, input: Input, content: Option<Digest>) {
        self.renderings.insert((app, input), content);
        if let Some(resource) = self.resources.get_mut(&app) {
            resource.changed = false;
        }
        if !self.due.contains_key(&app) {
            self.wake_apps([app]);
        }
    }
}
