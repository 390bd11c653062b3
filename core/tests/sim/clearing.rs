//! Decides what of the objects that have left units may be deleted, and ends deletions (`hub/src/task/clearing.rs`).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::removal::clearing::Standing;
use uuid::Uuid;

use crate::hub::Hub;

/// What of a source is not settled.
#[derive(Debug, Default, Clone)]
struct Unsettled {
    everywhere: Option<String>,
    clusters: BTreeMap<Uuid, String>,
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
                Standing::Settled => {}
                Standing::Soon(why) => drop(state.everywhere.get_or_insert(why)),
                Standing::Held(why) => {
                    for cluster in self.store.clusters_of(one.app) {
                        state.clusters.entry(cluster).or_insert_with(|| why.clone());
                    }
                }
            }
        }
        state
    }

    /// `state`: what of the app's source is not settled; `None`: it needs none any more.
    fn decide_leaving(&mut self, app: Uuid, state: Option<&Unsettled>) {
        if let Some(why) = state.and_then(|state| state.everywhere.as_deref()) {
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
            for unit in &free {
                let why = state.clusters.get(&unit.cluster).cloned();
                let why = why.or_else(|| Some(format!("{} waits", waiting.get(&unit.cluster)?)));
                if let Some(why) = why {
                    self.store.hold_leaving(unit.unit, unit.left.version, &why);
                    held.insert(unit.unit);
                }
            }
            free.retain(|unit| !held.contains(&unit.unit));
        }
        if free.is_empty() {
            return;
        }
        for unit in self.store.clear(app, &free) {
            self.trace.say(|| format!("hub: {unit} is cleared"));
            self.oracle
                .cleared(unit, self.store, self.repositories, self.contents);
        }
    }
}
