//! What a repository has, and what its next commit changes: an account of its own of what a cluster is to hold.

use std::collections::{BTreeMap, BTreeSet};

/// In the values of Secrets: it must appear nowhere but in the cluster.
pub(crate) const CANARY: &str = "canary-91d7e0aa";
const APPS: usize = 3;
/// Objects of an app that may leave it with one commit: no guard stops so few.
const LEAVING: usize = 2;
const LEAST: usize = 6;

/// Numbers from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn index(&mut self, limit: usize) -> usize {
        usize::try_from(self.below(limit as u64)).unwrap_or_default()
    }
}

/// The objects of each app, by name, and their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Repository {
    apps: Vec<BTreeMap<String, String>>,
    /// Names that were there once and are not to be: none comes back.
    pub(crate) removed: BTreeSet<String>,
    next: u64,
}

impl Repository {
    pub(crate) fn new() -> Self {
        let mut this = Self {
            apps: vec![BTreeMap::new(); APPS],
            ..Self::default()
        };
        for app in 0..APPS {
            for _ in 0..LEAST + LEAVING {
                this.add(app);
            }
        }
        this
    }

    pub(crate) fn names() -> impl Iterator<Item = String> {
        (0..APPS).map(|app| format!("a{app}"))
    }

    /// What the cluster is to hold: by name the app that it belongs to, and the value.
    pub(crate) fn wanted(&self) -> BTreeMap<String, (String, String)> {
        let apps = Self::names().zip(&self.apps);
        let objects = apps.flat_map(|(app, objects)| {
            objects
                .iter()
                .map(move |(name, value)| (name.clone(), (app.clone(), value.clone())))
        });
        objects.collect()
    }

    /// How many objects an app has.
    pub(crate) fn count(&self, app: &str) -> usize {
        let found = Self::names().position(|name| name == app);
        // Its Secret, too.
        found.map_or(0, |index| self.apps[index].len() + 1)
    }

    fn add(&mut self, app: usize) {
        let name = format!("o{}", self.next);
        self.apps[app].insert(name, format!("v{}", self.next));
        self.next += 1;
    }

    /// Changes what the next commit has: objects come, change, leave, and move between apps.
    pub(crate) fn step(&mut self, random: &mut Random) {
        for app in 0..APPS {
            for _ in 0..1 + random.below(2) {
                self.add(app);
            }
            let changed = self.pick(app, random);
            self.next += 1;
            let value = format!("v{}", self.next);
            self.apps[app].insert(changed, value);
            for _ in 0..random.below(1 + LEAVING as u64) {
                if self.apps[app].len() <= LEAST {
                    break;
                }
                let name = self.pick(app, random);
                let Some(value) = self.apps[app].remove(&name) else {
                    continue;
                };
                if random.below(2) == 0 {
                    let other = (app + 1 + random.index(APPS - 1)) % APPS;
                    self.apps[other].insert(name, value);
                } else {
                    self.removed.insert(name);
                }
            }
        }
    }

    fn pick(&self, app: usize, random: &mut Random) -> String {
        let names: Vec<&String> = self.apps[app].keys().collect();
        names[random.index(names.len())].clone()
    }

    /// The files of the commit.
    pub(crate) fn files(&self, namespace: &str) -> Vec<(String, String)> {
        let files = Self::names().zip(&self.apps).map(|(app, objects)| {
            let object = |(name, value): (&String, &String)| {
                format!(
                    "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                     data: {{value: {value}}}\n---\n"
                )
            };
            let objects: String = objects.iter().map(object).collect();
            let secret = format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: login-{app}, namespace: {namespace}}}\n\
                 stringData: {{password: {CANARY}-{}}}\n",
                self.next
            );
            (format!("{app}/objects.yaml"), objects + &secret)
        });
        files.collect()
    }
}
