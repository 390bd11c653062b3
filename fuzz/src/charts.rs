//! Charts: packed, as files, and in the index of a repository.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use flotilla_render::helm::action::{Output, RenderInput, template};
use flotilla_render::helm::archive::{File, Limits};
use flotilla_render::helm::capabilities::Capabilities;
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::index::Index;
use flotilla_render::helm::render_values::Release;
use flotilla_render::yaml::{self, Map, Value};

use crate::templates::context;
use crate::{files, parts, text};

fn limits() -> Limits {
    Limits {
        archive_bytes: 1 << 20,
        file_bytes: 1 << 19,
        unpacked_bytes: 1 << 20,
        entries: 200,
        ..Limits::default()
    }
}

fn render(chart: &Chart, values: Map) {
    let input = RenderInput {
        chart,
        values,
        release: Release {
            name: "r".to_owned(),
            namespace: "n".to_owned(),
            revision: 1,
            is_upgrade: false,
        },
        capabilities: Capabilities::default(),
        skip_schema_validation: false,
        subchart_notes: true,
        context: context(),
    };
    if let Ok(rendered) = template(&input) {
        let _ = rendered.text(&Output::default());
    }
}

/// Loads and renders a packed chart. What is no gzip stream is packed first, so that mutations reach the files.
pub(crate) fn archive(input: &[u8]) {
    let packed = if input.starts_with(b"\x1f\x8b") {
        input.to_vec()
    } else {
        packed(input)
    };
    if let Ok(chart) = Chart::from_archive(&packed, limits()) {
        render(&chart, Map::new());
    }
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(tar);
    encoder.finish().unwrap_or_default()
}

/// Loads and renders the chart that the input's files are.
pub(crate) fn chart(input: &[u8]) {
    let files = files(input)
        .iter()
        .map(|(name, content)| File::new(name.as_str(), content.as_bytes()))
        .collect();
    if let Ok(chart) = Chart::from_directory(files, limits()) {
        render(&chart, Map::new());
    }
}

/// Checks the values of the second part against a schema.
pub(crate) fn schema(input: &[u8]) {
    let [schema, values] = parts(input);
    let values = match yaml::read(&values, &text::limits()) {
        Ok(Value::Map(values)) => values,
        _ => Map::new(),
    };
    let files = vec![
        File::new("Chart.yaml", b"apiVersion: v2\nname: c\nversion: 1.0.0\n"),
        File::new("values.schema.json", schema.as_bytes()),
    ];
    if let Ok(chart) = Chart::from_directory(files, limits()) {
        render(&chart, values);
    }
}

/// Reads an index and looks the name, the range and the repository's address of the second part up in it, a
/// line each.
pub(crate) fn index(input: &[u8]) {
    let [text, wanted] = parts(input);
    let mut wanted = wanted.lines();
    let mut next = || wanted.next().unwrap_or_default();
    let (name, range, repository) = (next(), next(), next());
    let Ok(index) = Index::parse(&text) else { return };
    if let Ok(found) = index.resolve(name, range) {
        found
            .urls
            .iter()
            .for_each(|url| drop(flotilla_render::helm::index::absolute(repository, url)));
    }
}
