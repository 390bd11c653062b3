//! `helm_…`: `flotilla template` against `helm template`, and the library call against a long-lived program that
//! links Helm.

mod charts;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use base64::Engine as _;
use flotilla_bench_report::{Figure, Record};
use flotilla_render::helm::action::{Output, RenderInput, template};
use flotilla_render::helm::archive::{File, Limits};
use flotilla_render::helm::capabilities::Capabilities;
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::Context;
use flotilla_render::helm::render_values::Release;
use flotilla_render::yaml::Map;
use flotilla_render_tests::Oracle;
use serde_json::json;

use crate::program::{Run, median, run};
use charts::Shape;

/// The programs that are compared.
pub(crate) struct Programs<'a> {
    /// Ours.
    pub(crate) flotilla: &'a Path,
    /// Helm's.
    pub(crate) helm: &'a Path,
}

/// One chart to compare with.
struct Comparison {
    name: &'static str,
    shape: Shape,
    /// How often both programs run.
    runs: usize,
    /// How often the library is called.
    calls: usize,
}

const COMPARISONS: [Comparison; 4] = [
    Comparison {
        name: "small",
        shape: Shape::Small,
        runs: 15,
        calls: 200,
    },
    Comparison {
        name: "stack",
        shape: Shape::Stack,
        runs: 11,
        calls: 30,
    },
    Comparison {
        name: "umbrella",
        shape: Shape::Umbrella,
        runs: 9,
        calls: 10,
    },
    Comparison {
        name: "1000",
        shape: Shape::Thousand,
        runs: 9,
        calls: 20,
    },
];

const MEMORY: &str = "helm_memory_ratio";
/// How many times faster a whole process has to be.
const PROCESS_GATE: f64 = 5.0;
/// How many times faster a library call has to be.
const LIBRARY_GATE: f64 = 3.0;

/// Returns whether a figure of that name is taken here.
pub(crate) fn is_name(name: &str) -> bool {
    name == MEMORY
        || COMPARISONS
            .iter()
            .any(|one| one.process() == name || one.library() == name)
}

impl Comparison {
    fn process(&self) -> String {
        format!("helm_{}_process_ratio", self.name)
    }

    fn library(&self) -> String {
        format!("helm_{}_library_ratio", self.name)
    }
}

/// Takes the wanted figures.
pub(crate) fn measure(
    programs: &Programs<'_>,
    wanted: &dyn Fn(&str) -> bool,
    record: &mut Record,
) -> anyhow::Result<()> {
    let mut memory: Option<(f64, String)> = None;
    for comparison in &COMPARISONS {
        let directory = tempfile::Builder::new().prefix("flotilla-bench-").tempdir()?;
        let chart = directory.path().join("chart");
        comparison.shape.write(&chart)?;
        if wanted(&comparison.process()) || wanted(MEMORY) {
            let pair = Pair::run(comparison, programs, &chart)?;
            let (ratio, note) = pair.memory(comparison);
            if memory.as_ref().is_none_or(|(worst, _)| ratio > *worst) {
                memory = Some((ratio, note));
            }
            if wanted(&comparison.process()) {
                record.add(pair.figure(comparison))?;
            }
        }
        if wanted(&comparison.library()) {
            record.add(library_figure(comparison, &chart)?)?;
        }
    }
    if let Some((ratio, note)) = memory.filter(|_| wanted(MEMORY)) {
        record.add(Figure::new(MEMORY, ratio, "ratio", note).at_most(0.333))?;
    }
    Ok(())
}

/// Both programs on one chart, run in turn.
struct Pair {
    objects: usize,
    ours: Vec<Run>,
    theirs: Vec<Run>,
}

impl Pair {
    fn run(comparison: &Comparison, programs: &Programs<'_>, chart: &Path) -> anyhow::Result<Self> {
        let args = ["template".as_ref(), "release-name".as_ref(), chart.as_os_str()];
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // Files and programs are in the page cache for the first run that counts.
        let printed = run(programs.flotilla, &args)?.output;
        ensure!(
            printed == run(programs.helm, &args)?.output,
            "{}: the two programs print different things",
            comparison.name
        );
        for _ in 0..comparison.runs {
            theirs.push(run(programs.helm, &args)?.without_output());
            ours.push(run(programs.flotilla, &args)?.without_output());
        }
        Ok(Self {
            objects: objects(&printed),
            ours,
            theirs,
        })
    }

    fn figure(&self, comparison: &Comparison) -> Figure {
        let walls = |runs: &[Run]| median(&runs.iter().map(|run| run.wall).collect::<Vec<_>>());
        let (ours, theirs) = (walls(&self.ours), walls(&self.theirs));
        let note = format!(
            "{} objects, whole process: {} against {} of `helm template` (median of {} runs, in turn; the same bytes \
             printed)",
            self.objects,
            shown(ours),
            shown(theirs),
            comparison.runs
        );
        Figure::new(comparison.process(), theirs / ours, "ratio", note)
            .peer(theirs)
            .at_least(PROCESS_GATE)
    }

    /// Our largest peak against the reference's smallest.
    fn memory(&self, comparison: &Comparison) -> (f64, String) {
        let ours = self.ours.iter().map(|run| run.peak).max().unwrap_or_default() as f64;
        let theirs = self.theirs.iter().map(|run| run.peak).min().unwrap_or_default() as f64;
        let mib = f64::from(1 << 20);
        let note = format!(
            "the worst of the charts measured: {}, peak resident set {:.1} MiB against {:.1} MiB",
            comparison.name,
            ours / mib,
            theirs / mib
        );
        (ours / theirs, note)
    }
}

fn objects(output: &[u8]) -> usize {
    String::from_utf8_lossy(output).matches("# Source: ").count()
}

fn library_figure(comparison: &Comparison, chart: &Path) -> anyhow::Result<Figure> {
    let own = std::env::current_exe()?;
    let calls = comparison.calls.to_string();
    let ended = run(&own, &[LIBRARY.as_ref(), chart.as_os_str(), calls.as_ref()])?;
    let ours = Duration::from_nanos(String::from_utf8(ended.output)?.trim().parse()?).as_secs_f64();
    let theirs = their_call(chart, comparison.calls)?.as_secs_f64();
    let note = format!(
        "loading from memory and rendering, in one long-lived process each: {} against {} (fastest of {calls})",
        shown(ours),
        shown(theirs)
    );
    Ok(Figure::new(comparison.library(), theirs / ours, "ratio", note)
        .peer(theirs)
        .at_least(LIBRARY_GATE))
}

/// Asks the program that links Helm, the one that the tests compare with, for its fastest call.
fn their_call(chart: &Path, calls: usize) -> anyhow::Result<Duration> {
    let encode = |data: &Vec<u8>| base64::engine::general_purpose::STANDARD.encode(data);
    let files: BTreeMap<String, String> = read(chart)?
        .iter()
        .map(|(name, data)| (name.clone(), encode(data)))
        .collect();
    let question = json!({ "op": "chart_render", "files": files, "repeat": calls });
    match Oracle::start().ask(&question) {
        Ok(output) => Ok(Duration::from_nanos(output.nanos)),
        Err(error) => bail!("the reference does not render: {error}"),
    }
}

const LIBRARY: &str = "--helm-library-call";

/// Serves [`library_figure`]: prints the nanoseconds of the fastest call. `None` when the arguments ask for
/// something else.
pub(crate) fn library_call(mut args: impl Iterator<Item = OsString>) -> Option<anyhow::Result<()>> {
    if args.next()? != LIBRARY {
        return None;
    }
    let (chart, calls) = (PathBuf::from(args.next()?), args.next()?);
    let calls: usize = calls.to_str()?.parse().ok()?;
    Some(time_library(&chart, calls))
}

fn time_library(chart: &Path, calls: usize) -> anyhow::Result<()> {
    let files = read(chart)?;
    let mut fastest = Duration::MAX;
    for _ in 0..calls {
        let began = Instant::now();
        let text = our_call(&files)?;
        fastest = fastest.min(began.elapsed());
        ensure!(!text.is_empty(), "nothing was rendered");
    }
    println!("{}", fastest.as_nanos());
    Ok(())
}

fn our_call(files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<String> {
    let files = files
        .iter()
        .map(|(name, data)| File::new(name.as_str(), data))
        .collect();
    let chart = Chart::from_directory(files, Limits::default())?;
    let input = RenderInput {
        chart: &chart,
        values: Map::new(),
        release: Release {
            name: "release-name".to_owned(),
            namespace: "default".to_owned(),
            revision: 1,
            is_upgrade: false,
        },
        capabilities: Capabilities::default(),
        skip_schema_validation: false,
        subchart_notes: false,
        context: Context::default(),
    };
    Ok(template(&input)?.text(&Output::default())?)
}

/// Reads the files of a chart by their paths below it.
fn read(chart: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut waiting = vec![chart.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if let Some(name) = path.strip_prefix(chart)?.to_str() {
                files.insert(name.to_owned(), std::fs::read(&path)?);
            }
        }
    }
    Ok(files)
}

fn shown(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.2} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}
