//! What the templates of each chart of a tree see: its own values, its files, what it says of itself, and
//! its subcharts.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::archive::File;
use super::capabilities::Capabilities;
use super::chart::{Chart, Dependency, Maintainer, Metadata};
use super::dependencies::Resolved;
use super::manifest::base_name;
use super::object::{Files, Object};
use super::render::Renderable;
use super::value::{Entries, MapKind, MapVal, Val};
use super::values::coalesce::CoalesceError;
use super::values::copies::Copies;
use super::values::table::Table;
use crate::yaml::Value;

/// What a release is called, and what is being done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// The namespace that it is in.
    pub namespace: String,
    /// The number of the revision that is rendered.
    pub revision: i64,
    /// Whether an earlier revision is replaced.
    pub is_upgrade: bool,
}

/// What all charts of a rendering see.
pub(crate) struct Shared {
    release: Val,
    capabilities: Val,
}

impl Shared {
    pub(crate) fn new(release: &Release, capabilities: &Capabilities) -> Self {
        let release = map([
            ("Name", release.name.as_str().into()),
            ("Namespace", release.namespace.as_str().into()),
            ("IsUpgrade", release.is_upgrade.into()),
            ("IsInstall", (!release.is_upgrade).into()),
            ("Revision", Val::Int(release.revision)),
            ("Service", "Helm".into()),
        ]);
        let capabilities = Val::Object(Rc::new(Object::Capabilities(Rc::new(capabilities.clone()))));
        Self {
            release,
            capabilities,
        }
    }
}

/// Returns the templates of a chart and of its subcharts, each with what it sees.
pub(crate) fn renderables(
    root: &Resolved<'_>,
    values: &Table,
    shared: &Shared,
    copies: &Copies<'_>,
) -> Result<Vec<Renderable>, CoalesceError> {
    let mut all = Found {
        shared,
        copies,
        files: HashMap::new(),
        templates: BTreeMap::new(),
    };
    add(root, root.name(), values, true, &mut all)?;
    Ok(all.templates.into_values().collect())
}

/// What was found of the charts gone through.
struct Found<'a> {
    shared: &'a Shared,
    copies: &'a Copies<'a>,
    /// The files of each chart, shared by all names that it has.
    files: HashMap<*const Chart, Val>,
    templates: BTreeMap<String, Renderable>,
}

/// What a template takes beside its names and its text.
const BYTES_PER_TEMPLATE: usize = 256;

/// Adds the templates of a chart, those of its subcharts first; returns what they see.
fn add(
    chart: &Resolved<'_>,
    path: &str,
    values: &Table,
    is_root: bool,
    found: &mut Found<'_>,
) -> Result<MapVal, CoalesceError> {
    let mut inside = Entries::new();
    for below in &chart.dependencies {
        let path = format!("{path}/charts/{}", below.name());
        // A name with a dot is followed as a path, and so mostly finds nothing, as in the reference.
        let values = values.table_at(below.name()).unwrap_or_default();
        let seen = add(below, &path, &values, false, found)?;
        inside.insert(below.name().into(), Val::Map(seen));
    }
    found.copies.make(chart.metadata.bytes())?;
    let files = found.files.entry(std::ptr::from_ref(chart.chart));
    let files = files.or_insert_with(|| files_of(&chart.chart.files)).clone();
    let scope = MapVal::new(Entries::from([
        (Rc::from("Chart"), metadata(&chart.metadata, is_root)),
        (Rc::from("Files"), files),
        (Rc::from("Release"), found.shared.release.clone()),
        (Rc::from("Capabilities"), found.shared.capabilities.clone()),
        (Rc::from("Values"), values.as_values()),
        (Rc::from("Subcharts"), Val::map(inside)),
    ]));
    let library = chart.metadata.is_library();
    let sources = chart.chart.templates.iter();
    for file in sources.filter(|file| !library || base_name(&file.name).starts_with('_')) {
        let names = 2 * (path.len() + file.name.len()) + path.len();
        found.copies.make(BYTES_PER_TEMPLATE + names)?;
        let name = format!("{path}/{}", file.name);
        let renderable = Renderable {
            name: name.clone(),
            source: file.data.clone(),
            values: scope.of_kind(MapKind::Values),
            base_path: format!("{path}/templates"),
        };
        found.templates.insert(name, renderable);
    }
    Ok(scope)
}

fn files_of(files: &[File]) -> Val {
    let files: Files = files
        .iter()
        .map(|file| (Rc::from(file.name.as_str()), file.data.clone()))
        .collect();
    Val::Object(Rc::new(Object::Files(Rc::new(files))))
}

/// Returns `.Chart`: the fields of `Chart.yaml` under the names that Go gives them.
fn metadata(metadata: &Metadata, is_root: bool) -> Val {
    let dependencies = metadata.dependencies.iter().flatten();
    map([
        ("Name", metadata.name.as_str().into()),
        ("Home", metadata.home.as_str().into()),
        ("Sources", texts(&metadata.sources)),
        ("Version", metadata.version.as_str().into()),
        ("Description", metadata.description.as_str().into()),
        ("Keywords", texts(&metadata.keywords)),
        (
            "Maintainers",
            Val::list(metadata.maintainers.iter().map(maintainer).collect()),
        ),
        ("Icon", metadata.icon.as_str().into()),
        ("APIVersion", metadata.api_version.as_str().into()),
        ("Condition", metadata.condition.as_str().into()),
        ("Tags", metadata.tags.as_str().into()),
        ("AppVersion", metadata.app_version.as_str().into()),
        ("Deprecated", metadata.deprecated.into()),
        ("Annotations", annotations(metadata)),
        ("KubeVersion", metadata.kube_version.as_str().into()),
        ("Dependencies", Val::list(dependencies.map(dependency).collect())),
        ("Type", metadata.kind.as_str().into()),
        ("IsRoot", is_root.into()),
    ])
}

/// Go has no map where `Chart.yaml` has no annotations.
fn annotations(metadata: &Metadata) -> Val {
    let found = metadata.annotations.iter();
    let map = text_map(found.map(|(key, text)| (key.as_str(), text.as_str())));
    match map {
        Val::Map(map) if !metadata.has_annotations => Val::Map(MapVal { nil: true, ..map }),
        map => map,
    }
}

fn maintainer(maintainer: &Maintainer) -> Val {
    map([
        ("Name", maintainer.name.as_str().into()),
        ("Email", maintainer.email.as_str().into()),
        ("URL", maintainer.url.as_str().into()),
    ])
}

fn dependency(dependency: &Dependency) -> Val {
    map([
        ("Name", dependency.name.as_str().into()),
        ("Version", dependency.version.as_str().into()),
        ("Repository", dependency.repository.as_str().into()),
        ("Condition", dependency.condition.as_str().into()),
        ("Tags", texts(&dependency.tags)),
        ("Enabled", dependency.enabled.into()),
        (
            "ImportValues",
            Val::list(dependency.import_values.iter().map(import).collect()),
        ),
        ("Alias", dependency.alias.as_str().into()),
    ])
}

/// Resolved imports are maps of texts.
fn import(entry: &Value) -> Val {
    let fields = entry.as_map().into_iter().flatten();
    text_map(fields.map(|(key, text)| (key.as_str(), text.as_str().unwrap_or_default())))
}

fn map<const N: usize>(entries: [(&str, Val); N]) -> Val {
    Val::map(
        entries
            .into_iter()
            .map(|(key, value)| (Rc::from(key), value))
            .collect(),
    )
}

fn texts(texts: &[String]) -> Val {
    Val::list(texts.iter().map(|text| text.as_str().into()).collect())
}

fn text_map<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Val {
    let entries: Entries = entries
        .map(|(key, text)| (Rc::from(key), Val::from(text)))
        .collect();
    let map = MapVal::new(entries);
    Val::Map(map.of_kind(MapKind::Strings))
}

#[cfg(test)]
mod tests;
