//! A chart in memory: loading it from its files, with its subcharts.
//!
//! Loading checks structure and names. Which dependencies take part, and with which values, is decided for
//! each rendering by `requirements`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

mod metadata;
mod size;

pub use metadata::{Dependency, Maintainer, Metadata};

use super::archive::{self, ArchiveError, Budget, File};
use super::growth::Growth;
use super::ignore::{self, IgnoreError};
use super::time::Time;
use super::typed;
use super::values::{self, ValuesError};
use crate::yaml::{self, Map, Value};

/// A chart and its subcharts.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it says of itself.
    pub metadata: Metadata,
    /// The versions that its dependencies were locked to.
    pub lock: Option<Lock>,
    /// The files below `templates/`.
    pub templates: Vec<File>,
    /// Its default values; numbers are floats, as Go decodes them.
    pub values: Arc<Map>,
    /// Its `values.schema.json`.
    pub schema: Option<Arc<[u8]>>,
    /// The other files, which templates can read.
    pub files: Vec<File>,
    /// The subcharts, in the order of their folders' names.
    pub dependencies: Vec<Chart>,
}

/// `Chart.lock`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lock {
    /// The digest of the dependencies that it was made for.
    pub digest: String,
    /// Each dependency with one version.
    pub dependencies: Vec<Dependency>,
}

/// Why files are no chart. Nothing helps but other files.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The archive, or that of a subchart, cannot be taken.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// `.helmignore` cannot be read.
    #[error("cannot load .helmignore")]
    Ignore(#[from] IgnoreError),
    /// There is no `Chart.yaml`.
    #[error("Chart.yaml file is missing")]
    NoMetadata,
    /// The chart is for a Helm that reads other charts.
    #[error("unsupported chart version {0:?}")]
    ApiVersion(String),
    /// A file of the chart cannot be read.
    #[error("cannot load {file}: {reason}")]
    File {
        /// Its name.
        file: &'static str,
        /// What is wrong; names no value.
        reason: String,
    },
    /// `Chart.yaml` says something that is not allowed.
    #[error("validation: {0}")]
    Invalid(String),
    /// The default values cannot be read.
    #[error("cannot load values.yaml")]
    Values(#[source] ValuesError),
    /// A subchart cannot be loaded.
    #[error("error unpacking subchart {name} in {parent}")]
    Subchart {
        /// The folder or archive below `charts/`.
        name: String,
        /// The chart that holds it.
        parent: String,
        /// Why.
        #[source]
        source: Box<ChartError>,
    },
}

impl Chart {
    /// Loads a packed chart (`.tgz`), within limits or what is left of them.
    pub fn from_archive<'s>(packed: &[u8], budget: impl Into<Budget<'s>>) -> Result<Self, ChartError> {
        let mut budget = budget.into();
        let files = archive::read(packed, &mut budget)?;
        Self::from_root_files(files, &mut budget)
    }

    /// Loads the files of a chart's directory, leaving out what its `.helmignore` names.
    pub fn from_directory<'s>(files: Vec<File>, budget: impl Into<Budget<'s>>) -> Result<Self, ChartError> {
        let mut budget = budget.into();
        let files = ignore::filter(files, &budget)?;
        for file in &files {
            budget.take(&file.name, file.data.len() as u64)?;
        }
        Self::from_root_files(files, &mut budget)
    }

    fn from_root_files(files: Vec<File>, budget: &mut Budget<'_>) -> Result<Self, ChartError> {
        let nesting = budget.limits().nesting;
        let chart = Self::from_files(files, budget, nesting)?;
        match chart.metadata.api_version.as_str() {
            "v1" | "v2" => Ok(chart),
            other => Err(ChartError::ApiVersion(other.to_owned())),
        }
    }

    fn from_files(files: Vec<File>, budget: &mut Budget<'_>, nesting: usize) -> Result<Self, ChartError> {
        budget.go_on()?;
        let mut chart = Self {
            metadata: read_metadata(&files, &mut budget.growth)?,
            lock: None,
            templates: Vec::new(),
            values: Arc::default(),
            schema: None,
            files: Vec::new(),
            dependencies: Vec::new(),
        };
        let mut inside: BTreeMap<String, Vec<File>> = BTreeMap::new();
        for file in files {
            budget.go_on()?;
            match file.name.strip_prefix("charts/") {
                Some(below) if !below.ends_with(".prov") => {
                    let folder = below.split('/').next().unwrap_or(below).to_owned();
                    inside.entry(folder).or_default().push(File {
                        name: below.to_owned(),
                        data: file.data,
                    });
                }
                _ => chart.take(file, &mut budget.growth)?,
            }
        }
        chart.metadata.validate().map_err(ChartError::Invalid)?;
        for (folder, files) in inside {
            if folder.starts_with(['_', '.']) {
                continue;
            }
            let subchart =
                load_inside(&folder, files, budget, nesting).map_err(|source| ChartError::Subchart {
                    name: folder.clone(),
                    parent: chart.metadata.name.clone(),
                    source: Box::new(source),
                })?;
            chart.dependencies.push(subchart);
        }
        Ok(chart)
    }

    /// Puts a file that is no subchart's to its place.
    fn take(&mut self, file: File, growth: &mut Growth<'_>) -> Result<(), ChartError> {
        match file.name.as_str() {
            "Chart.yaml" => {}
            "Chart.lock" => self.lock = Some(read_lock(&file, "Chart.lock", growth)?),
            "values.yaml" => {
                let read = values::load_within(&file.data, growth);
                self.values = Arc::new(read.map_err(ChartError::Values)?);
            }
            "values.schema.json" => self.schema = Some(file.data),
            "requirements.yaml" => {
                let document = parse(&file, "requirements.yaml", growth)?;
                self.metadata
                    .read(&document, "requirements.yaml")
                    .map_err(|reason| fault("requirements.yaml", reason))?;
                self.keep_in_v1(file);
            }
            "requirements.lock" => {
                self.lock = Some(read_lock(&file, "requirements.lock", growth)?);
                self.keep_in_v1(file);
            }
            name if name.starts_with("templates/") => self.templates.push(file),
            _ => self.files.push(file),
        }
        Ok(())
    }

    fn keep_in_v1(&mut self, file: File) {
        if self.metadata.api_version == "v1" {
            self.files.push(file);
        }
    }

    /// Returns the chart's name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Returns the names of the dependencies that `Chart.yaml` lists and `charts/` does not hold.
    pub fn missing_dependencies(&self) -> Vec<&str> {
        let listed = self
            .metadata
            .dependencies
            .iter()
            .flatten()
            .map(|dependency| dependency.name.as_str());
        let there: HashSet<&str> = self.dependencies.iter().map(Chart::name).collect();
        listed.filter(|name| !there.contains(name)).collect()
    }
}

fn load_inside(
    folder: &str,
    files: Vec<File>,
    budget: &mut Budget<'_>,
    nesting: usize,
) -> Result<Chart, ChartError> {
    let Some(nesting) = nesting.checked_sub(1) else {
        let what = "nesting of charts".to_owned();
        return Err(ArchiveError::OverLimit {
            what,
            limit: format!("{} levels", budget.limits().nesting),
        }
        .into());
    };
    if folder.ends_with(".tgz") {
        let packed = files.first().filter(|file| file.name == folder);
        let packed = packed.ok_or_else(|| ChartError::Invalid(format!("{folder:?} is a folder")))?;
        let files = archive::read(&packed.data, budget)?;
        return Chart::from_files(files, budget, nesting);
    }
    let strip = |file: File| {
        let name = file.name.split_once('/')?.1.to_owned();
        Some(File {
            name,
            data: file.data,
        })
    };
    Chart::from_files(files.into_iter().filter_map(strip).collect(), budget, nesting)
}

fn read_metadata(files: &[File], growth: &mut Growth<'_>) -> Result<Metadata, ChartError> {
    let file = files
        .iter()
        .find(|file| file.name == "Chart.yaml")
        .ok_or(ChartError::NoMetadata)?;
    let mut metadata = Metadata::default();
    let document = parse(file, "Chart.yaml", growth)?;
    metadata
        .read(&document, "Chart.yaml")
        .map_err(|reason| fault("Chart.yaml", reason))?;
    if metadata.api_version.is_empty() {
        // Helm 2 took charts that say nothing.
        metadata.api_version = "v1".to_owned();
    }
    Ok(metadata)
}

fn read_lock(file: &File, name: &'static str, growth: &mut Growth<'_>) -> Result<Lock, ChartError> {
    let document = parse(file, name, growth)?;
    let mut metadata = Metadata::default();
    metadata
        .read(&document, name)
        .map_err(|reason| fault(name, reason))?;
    for (field, value) in typed::fields(&document, name).map_err(|reason| fault(name, reason))? {
        let is_time = value.is_null() || value.as_str().and_then(Time::from_rfc3339).is_some();
        if field == "generated" && !is_time {
            return Err(fault(name, "generated is no time as RFC 3339 has it".to_owned()));
        }
    }
    let digest = document
        .get("digest")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    Ok(Lock {
        digest,
        dependencies: metadata.dependencies.unwrap_or_default(),
    })
}

fn parse(file: &File, name: &'static str, growth: &mut Growth<'_>) -> Result<Value, ChartError> {
    let read = yaml::decode(&file.data).and_then(|text| growth.read(&text, true));
    read.map_err(|error| fault(name, error.to_string()))
}

fn fault(file: &'static str, reason: String) -> ChartError {
    ChartError::File { file, reason }
}
