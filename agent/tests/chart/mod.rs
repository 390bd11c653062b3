//! The agent's chart, rendered by our own engine: no `helm` is needed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use flotilla_render::{
    helm::{
        action::{self, Output, RenderInput},
        archive::{File, Limits},
        capabilities::{Capabilities, KubeVersion},
        chart::Chart,
        context::{Context, Lookup},
        ignore::{FILE_NAME, Rules},
        render_values::Release,
        values::Sources,
    },
    yaml,
};
use serde_json::Value;

/// The chart.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/agent")
}

fn chart() -> Chart {
    let rules = Rules::parse(&fs::read_to_string(folder().join(FILE_NAME)).unwrap()).unwrap();
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder().join(&below)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = if below.is_empty() {
                name
            } else {
                format!("{below}/{name}")
            };
            let is_folder = entry.file_type().unwrap().is_dir();
            if rules.is_ignored(&path, is_folder).unwrap() {
                continue;
            }
            if is_folder {
                folders.push(path);
            } else {
                files.push(File::new(path, &fs::read(entry.path()).unwrap()));
            }
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Chart::from_directory(files, Limits::default()).unwrap()
}

/// Renders the chart for a namespace with the values of the plain manifests, and these on top.
pub(crate) fn render(
    namespace: &str,
    values: &str,
    cluster: Option<Box<dyn Lookup>>,
) -> Result<String, String> {
    let base = fs::read_to_string(folder().join("manifests/values.yaml")).unwrap();
    let sources = Sources {
        files: vec![
            ("manifests".to_owned(), base.into_bytes()),
            ("test".to_owned(), values.as_bytes().to_vec()),
        ],
        ..Sources::default()
    };
    let input = RenderInput {
        chart: &chart(),
        values: sources.merge(&mut |name| panic!("{name} is read")).unwrap(),
        release: Release {
            name: "flotilla-agent".to_owned(),
            namespace: namespace.to_owned(),
            revision: 1,
            is_upgrade: false,
        },
        capabilities: Capabilities {
            kube_version: KubeVersion::parse("v1.36.0").unwrap(),
            ..Capabilities::default()
        },
        skip_schema_validation: false,
        subchart_notes: false,
        context: Context {
            cluster,
            ..Context::default()
        },
    };
    let rendered = action::template(&input).map_err(|e| e.to_string())?;
    rendered.text(&Output::default()).map_err(|e| e.to_string())
}

/// The documents of a rendering.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let documents = yaml::read_all(text, &yaml::Limits::default()).unwrap();
    let documents = documents.into_iter().map(Value::from);
    documents.filter(|document| !document.is_null()).collect()
}
