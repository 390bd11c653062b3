//! Decides which of a chart's dependencies take part in a rendering, under which names, and which of their
//! values their parent takes over: `condition`, `tags`, `alias`, `import-values`.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::rc::Rc;

use flotilla_core::version::VersionRange;

use super::chart::{Chart, Dependency, Metadata};
use super::crd::Crd;
use super::value::Val;
use super::values::coalesce::{CoalesceError, Nulls, coalesce, merge_tables};
use super::values::copies::Copies;
use super::values::table::Table;
use super::warning::{Warn, Warning};

use crate::yaml::{Map, Value};

/// What the definitions of a file below `crds/` take in a list, beside the path that output names.
const BYTES_PER_CRD: usize = 128;
/// What it costs to look whether an entry of `Chart.yaml` means a chart, in values that are copied.
const VALUES_PER_PAIR: usize = 4;

/// A chart as one rendering sees it.
#[derive(Clone)]
pub(crate) struct Resolved<'a> {
    /// The chart as loaded.
    pub(crate) chart: &'a Chart,
    /// What it says of itself, with its alias as its name and only the dependencies that take part.
    pub(crate) metadata: Cow<'a, Metadata>,
    /// The subcharts that take part.
    pub(crate) dependencies: Vec<Resolved<'a>>,
    /// Its defaults together with what it imports; none when those are the chart's own.
    imported: Option<Table>,
    /// The chart's own defaults, once asked for: those of a subchart are brought together with its parent's
    /// several times.
    own: Rc<OnceCell<Table>>,
}

impl<'a> Resolved<'a> {
    /// Resolves the dependencies of a chart for the values that the user gives.
    pub(crate) fn new(
        chart: &'a Chart,
        given: &Table,
        copies: &Copies<'_>,
        warn: Warn<'_>,
    ) -> Result<Self, CoalesceError> {
        let mut resolved = Self::loaded(chart);
        copies.add_charts(resolved.count())?;
        resolved.select(given, "", copies, warn)?;
        resolved.import(copies, warn)?;
        Ok(resolved)
    }

    fn loaded(chart: &'a Chart) -> Self {
        Self {
            chart,
            metadata: Cow::Borrowed(&chart.metadata),
            dependencies: chart.dependencies.iter().map(Self::loaded).collect(),
            imported: None,
            own: Rc::default(),
        }
    }

    /// Returns the name that the chart has in its parent.
    pub(crate) fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Returns a copy of the default values.
    pub(crate) fn default_values(&self, copies: &Copies<'_>) -> Result<Table, CoalesceError> {
        if let Some(imported) = &self.imported {
            return copies.copy(imported);
        }
        if let Some(own) = self.own.get() {
            return copies.copy(own);
        }
        let own = copies.table(&self.chart.values)?;
        copies.copy(self.own.get_or_init(|| own))
    }

    /// Counts the charts, this one included.
    fn count(&self) -> usize {
        1 + self.dependencies.iter().map(Self::count).sum::<usize>()
    }

    /// Lets go of the default values, which nobody asks for once all values are brought together.
    pub(crate) fn forget_values(&mut self) {
        self.imported = None;
        self.own = Rc::default();
        self.dependencies.iter_mut().for_each(Self::forget_values);
    }

    /// Returns the definitions below `crds/`, those of its subcharts last, by the path that output names.
    pub(crate) fn crds(&self, copies: &Copies<'_>) -> Result<Vec<Crd>, CoalesceError> {
        let mut found = Vec::new();
        self.add_crds(self.name(), copies, &mut found)?;
        Ok(found)
    }

    fn add_crds(&self, path: &str, copies: &Copies<'_>, found: &mut Vec<Crd>) -> Result<(), CoalesceError> {
        for file in self.chart.files.iter().filter(|file| file.is_crd()) {
            copies.make(BYTES_PER_CRD + path.len() + file.name.len())?;
            found.push(Crd {
                path: format!("{path}/{}", file.name),
                data: file.data.clone(),
            });
        }
        for chart in &self.dependencies {
            chart.add_crds(&format!("{path}/charts/{}", chart.name()), copies, found)?;
        }
        Ok(())
    }

    /// Leaves only the dependencies that take part, each under its alias, and does so for theirs.
    fn select(
        &mut self,
        given: &Table,
        path: &str,
        copies: &Copies<'_>,
        warn: Warn<'_>,
    ) -> Result<(), CoalesceError> {
        if self.metadata.dependencies.is_none() {
            return Ok(());
        }
        copies.make(self.metadata.bytes())?;
        let mut listed = self.metadata.to_mut().dependencies.take().unwrap_or_default();
        self.dependencies = self.named(&mut listed, copies)?;
        for dependency in &mut listed {
            dependency.enabled = true;
        }
        let before = copies.kept();
        let values = coalesce(self, given, Nulls::Remove, copies, warn)?;
        apply_tags(&mut listed, &values, copies, warn)?;
        apply_conditions(&mut listed, &values, path, copies, warn)?;
        let out = listed.iter().filter(|dependency| !dependency.enabled);
        let out: HashSet<String> = out.map(|dependency| dependency.name.clone()).collect();
        self.dependencies.retain(|chart| !out.contains(chart.name()));
        listed.retain(|dependency| !out.contains(&dependency.name));
        let kept = listed;
        self.metadata.to_mut().dependencies = (!kept.is_empty()).then_some(kept);
        for chart in &mut self.dependencies {
            let below = format!("{path}{}.", chart.metadata.name);
            chart.select(&values, &below, copies, warn)?;
        }
        copies.give_back_to(before);
        Ok(())
    }

    /// Returns the subcharts that no entry lists, then one for each entry, under its alias.
    fn named(
        &self,
        listed: &mut [Dependency],
        copies: &Copies<'_>,
    ) -> Result<Vec<Resolved<'a>>, CoalesceError> {
        let mut named: Vec<Resolved<'a>> = Vec::new();
        for chart in &self.dependencies {
            copies.spend(VALUES_PER_PAIR * listed.len())?;
            if !listed.iter().any(|dependency| is_meant(dependency, chart)) {
                named.push(chart.clone());
            }
        }
        let mut placed = HashSet::new();
        for dependency in listed {
            copies.spend(VALUES_PER_PAIR * self.dependencies.len())?;
            if let Some(chart) = self.dependencies.iter().find(|chart| is_meant(dependency, chart)) {
                // The first copy takes the place of the chart.
                if !placed.insert(std::ptr::from_ref(chart.chart)) {
                    copies.add_charts(chart.count())?;
                }
                let mut chart = chart.clone();
                if !dependency.alias.is_empty() {
                    copies.make(chart.metadata.bytes())?;
                    chart.metadata.to_mut().name.clone_from(&dependency.alias);
                }
                named.push(chart);
            }
            if !dependency.alias.is_empty() {
                dependency.name.clone_from(&dependency.alias);
            }
        }
        Ok(named)
    }

    /// Takes over values of dependencies, those of the innermost charts first.
    fn import(&mut self, copies: &Copies<'_>, warn: Warn<'_>) -> Result<(), CoalesceError> {
        for chart in &mut self.dependencies {
            chart.import(copies, warn)?;
        }
        let Some(mut listed) = self.metadata.dependencies.clone() else {
            return Ok(());
        };
        let values = coalesce(self, &Table::default(), Nulls::Keep, copies, warn)?;
        let imports = Table::default();
        let own = merge_imports(&mut listed, &values, &imports, copies, warn).inspect_err(|_| {
            imports.dismantle();
            values.dismantle();
        })?;
        self.imported = Some(own);
        self.metadata.to_mut().dependencies = Some(listed);
        Ok(())
    }
}

/// Returns the values of a chart with those that it imports; what it says itself wins.
///
/// An import shares its maps with `values`, and so a later import into the same place shows there too.
fn merge_imports(
    listed: &mut [Dependency],
    values: &Table,
    imports: &Table,
    copies: &Copies<'_>,
    warn: Warn<'_>,
) -> Result<Table, CoalesceError> {
    for dependency in listed {
        let wanted: Vec<Import> = dependency.import_values.iter().filter_map(Import::read).collect();
        for import in &wanted {
            match values.follow(&format!("{}.{}", dependency.name, import.child)) {
                Ok(found) => merge_tables(imports, &import.placed(found), Nulls::Keep, copies)?,
                Err(missing) => {
                    copies.spend_text(2 * import.child.len() + dependency.name.len())?;
                    warn(Warning::Import {
                        path: import.child.clone(),
                        missing: missing.to_owned(),
                        chart: dependency.name.clone(),
                    });
                }
            }
        }
        dependency.import_values = wanted.into_iter().map(Import::into_value).collect();
    }
    if imports.is_empty() {
        // The caller that takes the defaults copies them, so none is made here.
        return Ok(values.clone());
    }
    let own = copies.copy(values)?;
    merge_tables(&own, imports, Nulls::Keep, copies)?;
    Ok(own)
}

/// Returns whether a chart is the one that an entry of `Chart.yaml` lists.
fn is_meant(dependency: &Dependency, chart: &Resolved<'_>) -> bool {
    chart.name() == dependency.name && VersionRange::matches(&dependency.version, &chart.metadata.version)
}

/// Takes out the dependencies whose tags are false and none true.
fn apply_tags(
    listed: &mut [Dependency],
    values: &Table,
    copies: &Copies<'_>,
    warn: Warn<'_>,
) -> Result<(), CoalesceError> {
    let Some(tags) = values.table_at("tags") else {
        return Ok(());
    };
    for dependency in listed {
        let mut flags = Vec::new();
        for tag in &dependency.tags {
            // A tag is one key, whatever dots it has.
            match tags.get(tag) {
                Some(Val::Bool(flag)) => flags.push(flag),
                Some(_) => {
                    copies.spend_text(tag.len() + dependency.name.len())?;
                    warn(Warning::Tag {
                        tag: tag.clone(),
                        chart: dependency.name.clone(),
                    });
                }
                None => {}
            }
        }
        dependency.enabled = flags.is_empty() || flags.contains(&true);
    }
    Ok(())
}

/// Lets the first condition that is a boolean decide.
fn apply_conditions(
    listed: &mut [Dependency],
    values: &Table,
    path: &str,
    copies: &Copies<'_>,
    warn: Warn<'_>,
) -> Result<(), CoalesceError> {
    for dependency in listed {
        let conditions = dependency
            .condition
            .trim()
            .split(',')
            .filter(|condition| !condition.is_empty());
        for condition in conditions {
            copies.spend_text(path.len() + condition.len())?;
            match values.value_at(&format!("{path}{condition}")) {
                Some(Val::Bool(enabled)) => {
                    dependency.enabled = enabled;
                    break;
                }
                Some(_) => {
                    copies.spend_text(condition.len() + dependency.name.len())?;
                    warn(Warning::Condition {
                        path: condition.to_owned(),
                        chart: dependency.name.clone(),
                    });
                }
                None => {}
            }
        }
    }
    Ok(())
}

/// An entry of `import-values`: a map of the dependency, and where it goes in the parent.
struct Import {
    child: String,
    parent: String,
}

impl Import {
    fn read(entry: &Value) -> Option<Self> {
        match entry {
            Value::String(export) => Some(Self {
                child: format!("exports.{export}"),
                parent: ".".to_owned(),
            }),
            Value::Map(map) => Some(Self {
                child: printed(map, "child"),
                parent: printed(map, "parent"),
            }),
            _ => None,
        }
    }

    /// Returns a map that holds `found` at the parent's path.
    fn placed(&self, found: Table) -> Table {
        let found = if found.is_empty() { Table::default() } else { found };
        if self.parent == "." {
            return found;
        }
        self.parent.rsplit('.').fold(found, |below, key| {
            let above = Table::default();
            above.insert(key, below.into_val());
            above
        })
    }

    fn into_value(self) -> Value {
        Value::Map(Map::from([
            ("child".to_owned(), Value::String(self.child)),
            ("parent".to_owned(), Value::String(self.parent)),
        ]))
    }
}

/// Returns a field as Go prints it.
fn printed(map: &Map, field: &str) -> String {
    match map.get(field) {
        None | Some(Value::Null) => "<nil>".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(flag)) => flag.to_string(),
        Some(other) => serde_json::Value::from(other.clone()).to_string(),
    }
}
