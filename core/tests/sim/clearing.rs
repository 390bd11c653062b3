//! Decides what of the objects that have left units may be deleted, and ends deletions (`hub/src/task/clearing.rs`).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::{object::ObjectKey, removal::clearing::Standing};
use uuid::Uuid;

use crate::{hub::Hub, store::LeavingUnit};

/// What of a source is not settled.
#[derive(Debug, Default, Clone)]
struct Unsettled {
    everywhere: Option<String>,
    clusters: BTreeMap<Uuid, String>,
    /// What suspended apps take over when they are resumed, by cluster.
    pending: BTreeMap<Uuid, BTreeMap<ObjectKey, String>>,
}

pub(crate) struct Clearing {
    apps: Vec<Uuid>,
    /// What was asked of their sources, by app.
    asked: Option<BTreeMap<Uuid, Option<Unsettled>>>,
}

impl Clearing {
    pub(crate) fn new(apps: Vec<Uuid>) -> Self {
        Self { apps, asked: None }
    }
}

impl Hub<'_> {
    pub(crate) fn clear(&mut self, clearing: Clearing) -> Option<Clearing> {
        let Clearing { apps, asked } = clearing;
        let Some(mut asked) = asked else {
            let asked = Some(self.ask(&apps));
            return Some(Clearing { apps, asked });
        };
        if let Some((app, state)) = asked.pop_first() {
            self.decide_leaving(app, state.as_ref());
            let asked = Some(asked);
            return Some(Clearing { apps, asked });
        }
        let deleting: Vec<Uuid> = apps
            .into_iter()
            .filter(|app| {
                let resource = self.store.resources.get(app);
                resource.is_some_and(|resource| resource.deletion.is_some())
            })
            .collect();
        if !deleting.is_empty() {
            self.store.end_deletions(&deleting);
        }
        self.store.end_drains();
        None
    }

    /// What of the sources of these apps is not settled, and where that matters.
    fn ask(&self, apps: &[Uuid]) -> BTreeMap<Uuid, Option<Unsettled>> {
        let open = self.store.leaving_apps();
        let mut found = BTreeMap::new();
        for app in apps.iter().filter(|app| open.contains(app)) {
            let input = self.store.inputs.get(app);
            let is_deleting = self
                .store
                .resources
                .get(app)
                .is_some_and(|resource| resource.deletion.is_some());
            match input {
                Some(input) => drop(found.insert(*app, Some(self.unsettled(input.source)))),
                None if is_deleting => drop(found.insert(*app, None)),
                None => {}
            }
        }
        found
    }

    fn unsettled(&self, source: Uuid) -> Unsettled {
        let mut state = Unsettled::default();
        for one in self.store.unsettled_apps(source) {
            match one.sibling.standing() {
                Standing::Settled if one.sibling.takes_over() => self.note_pending(one.app, &mut state),
                Standing::Settled => {}
                Standing::Soon(why) => drop(state.everywhere.get_or_insert(why)),
                // More is held than has to be.
                Standing::Held(why) | Standing::HeldIn(_, why) => {
                    for cluster in self.store.clusters_of(one.app) {
                        state.clusters.entry(cluster).or_insert_with(|| why.clone());
                    }
                }
            }
        }
        state
    }

    /// Notes what a suspended app is rendered to, where it is placed.
    fn note_pending(&self, app: Uuid, state: &mut Unsettled) {
        let content = self.store.rendered(app).and_then(|(_, content)| content);
        let keys = content.map(|content| &self.contents.get(&content).objects);
        let resource = &self.store.resources[&app];
        for cluster in &resource.placed {
            let pending = state.pending.entry(*cluster).or_default();
            for key in keys.into_iter().flat_map(|keys| keys.keys()) {
                pending.insert(key.as_ref().clone(), resource.name.clone());
            }
        }
    }

    /// `state`: what of the app's source is not settled; `None`: it needs none any more.
    fn decide_leaving(&mut self, app: Uuid, state: Option<&Unsettled>) {
        if let Some(why) = state.and_then(|state| state.everywhere.as_deref()) {
            // Nothing comes any more where a cluster is drained.
            let mut drained = self.store.leaving_units(app);
            drained.retain(|unit| unit.is_drained);
            self.clear_units(app, &drained, None);
            self.store.hold_app(app, why);
            return;
        }
        let mut free = self.store.leaving_units(app);
        if let Some(state) = state {
            let source = self.store.inputs.get(&app).map(|input| input.source);
            let waiting = source
                .map(|source| self.store.waiting_units(source))
                .unwrap_or_default();
            let mut held = BTreeSet::new();
            for unit in free.iter().filter(|unit| !unit.is_drained) {
                let why = state.clusters.get(&unit.cluster).cloned();
                let why = why.or_else(|| Some(format!("{} waits", waiting.get(&unit.cluster)?)));
                if let Some(why) = why {
                    self.store.hold_leaving(unit.unit, unit.left.version, &why);
                    held.insert(unit.unit);
                }
            }
            free.retain(|unit| !held.contains(&unit.unit));
        }
        self.clear_units(app, &free, state);
    }

    fn clear_units(&mut self, app: Uuid, free: &[LeavingUnit], state: Option<&Unsettled>) {
        if free.is_empty() {
            return;
        }
        // What it was asked about may have moved since.
        let source = self.store.inputs.get(&app).map(|input| input.source);
        let is_of_source =
            |app: &Uuid| self.store.inputs.get(app).map(|input| input.source) == source && source.is_some();
        if state.is_some() && self.store.due.keys().any(is_of_source) {
            return;
        }
        let none = BTreeMap::new();
        let pending = state.map_or(&none, |state| &state.pending);
        for unit in self.store.clear(app, free, pending) {
            self.trace.say(|| format!("hub: {unit} is cleared"));
            self.oracle
                .cleared(unit, self.store, self.repositories, self.contents);
        }
    }
}
