//! Fuzz targets: what is done with each input. An input that a target refuses is fine; one that makes it
//! panic, run without end, or take memory without bound is a bug.
//!
//! The tests of this crate replay the seeds and mutations of them; `fuzz/libfuzzer` runs the same targets for
//! longer, guided by coverage. An input has parts, divided by lines that hold nothing but `%%`.

mod charts;
mod core;
mod encrypted;
mod sources;
mod templates;
mod text;

/// One thing to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of its folder of seeds and of its libFuzzer program.
    pub name: &'static str,
    /// Takes one input. Panics when something that should hold does not.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("cel", core::cel),
    target("chart", charts::chart),
    target("chart_archive", charts::archive),
    target("encrypted", encrypted::document),
    target("gitmodules", core::gitmodules),
    target("helm_evaluator", templates::evaluator),
    target("helm_parser", templates::parser),
    target("kustomization", sources::kustomization),
    target("patches", sources::patches),
    target("repository_index", charts::index),
    target("source_ignore", core::source_ignore),
    target("strvals", text::strvals),
    target("substitution", core::substitution),
    target("values_schema", charts::schema),
    target("version_range", core::version_range),
    target("yaml", text::yaml),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// Returns the target of that name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

/// Returns the first `N` parts of an input as text; those that are not there are empty.
fn parts<const N: usize>(input: &[u8]) -> [String; N] {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.split("\n%%\n");
    std::array::from_fn(|_| parts.next().unwrap_or_default().to_owned())
}

/// Returns the files of an input: a line `-- path --` begins one.
fn files(input: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(input);
    let mut files: Vec<(String, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        let name = line
            .trim_end()
            .strip_prefix("-- ")
            .and_then(|rest| rest.strip_suffix(" --"));
        match (name, files.last_mut()) {
            (Some(name), _) => files.push((name.to_owned(), String::new())),
            (None, Some((_, content))) => content.push_str(line),
            (None, None) => {}
        }
    }
    files
}
