//! `kustomize_…`: `flotilla kustomize DIR` against `kustomize build DIR`, and how the library's steps grow.

mod source;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use flotilla_bench_report::{Figure, Record};
use flotilla_render::kustomize::{Budget, MemoryTree, RenderInput, build, build_each};

use crate::program::{Run, median, run};
use source::Shape;

/// One comparison with the reference.
struct Comparison {
    name: &'static str,
    shape: Shape,
    /// How often both run; the reference takes minutes for the largest.
    runs: usize,
    /// How many times faster it has to be.
    gate: f64,
}

const COMPARISONS: [Comparison; 4] = [
    Comparison {
        name: "kustomize_4_ratio",
        shape: Shape::Apps(4),
        runs: 15,
        gate: 10.0,
    },
    Comparison {
        name: "kustomize_131_ratio",
        shape: Shape::Monitoring,
        runs: 11,
        gate: 10.0,
    },
    Comparison {
        name: "kustomize_1000_ratio",
        shape: Shape::Apps(1000),
        runs: 3,
        gate: 50.0,
    },
    Comparison {
        name: "kustomize_5000_ratio",
        shape: Shape::Apps(5000),
        runs: 1,
        gate: 300.0,
    },
];

const MEMORY: &str = "kustomize_memory_ratio";
const GROWTH: &str = "kustomize_growth";

/// The names of all figures of this module.
pub(crate) const NAMES: [&str; 6] = [
    COMPARISONS[0].name,
    COMPARISONS[1].name,
    COMPARISONS[2].name,
    COMPARISONS[3].name,
    MEMORY,
    GROWTH,
];

/// Takes the wanted figures.
pub(crate) fn measure(
    flotilla: &Path,
    kustomize: &Path,
    wanted: &dyn Fn(&str) -> bool,
    record: &mut Record,
) -> anyhow::Result<()> {
    let mut memory: Option<(f64, String)> = None;
    for comparison in &COMPARISONS {
        // The peak is compared at every size but the largest, unless that one runs anyway.
        let for_memory = wanted(MEMORY) && comparison.runs > 1;
        if !wanted(comparison.name) && !for_memory {
            continue;
        }
        let pair = compare(comparison, flotilla, kustomize)?;
        if memory
            .as_ref()
            .is_none_or(|(worst, _)| pair.memory_ratio() > *worst)
        {
            memory = Some((pair.memory_ratio(), pair.memory_note(comparison)));
        }
        if wanted(comparison.name) {
            record.add(pair.speed_figure(comparison)?)?;
        }
    }
    if let Some((ratio, note)) = memory.filter(|_| wanted(MEMORY)) {
        record.add(Figure::new(MEMORY, ratio, "ratio", note).at_most(0.333))?;
    }
    if wanted(GROWTH) {
        record.add(growth()?)?;
    }
    Ok(())
}

/// Both programs on one source, run in turn.
struct Pair {
    directory: tempfile::TempDir,
    ours: Vec<Run>,
    theirs: Vec<Run>,
}

fn compare(comparison: &Comparison, flotilla: &Path, kustomize: &Path) -> anyhow::Result<Pair> {
    let directory = tempfile::Builder::new().prefix("flotilla-bench-").tempdir()?;
    let overlay = comparison.shape.write(directory.path())?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // Files and programs are in the page cache for the first run that counts.
    let printed = run(flotilla, &["kustomize".as_ref(), overlay.as_os_str()])?.output;
    for _ in 0..comparison.runs {
        let their = run(kustomize, &["build".as_ref(), overlay.as_os_str()])?;
        ensure!(
            their.output == printed,
            "{}: the two programs print different things",
            comparison.name
        );
        theirs.push(their.without_output());
        // One run of the reference may be as long as hundreds of ours: a single one of ours would be chance.
        for _ in 0..if comparison.runs < 5 { 5 } else { 1 } {
            ours.push(run(flotilla, &["kustomize".as_ref(), overlay.as_os_str()])?.without_output());
        }
    }
    Ok(Pair {
        directory,
        ours,
        theirs,
    })
}

impl Pair {
    fn speed_figure(&self, comparison: &Comparison) -> anyhow::Result<Figure> {
        let walls = |runs: &[Run]| median(&runs.iter().map(|run| run.wall).collect::<Vec<_>>());
        let (ours, theirs) = (walls(&self.ours), walls(&self.theirs));
        let library = library_calls(&self.directory.path().join("overlay"), 5)?.took;
        let note = format!(
            "{} objects, whole process: {} against {} of `kustomize build` (median of {} and {} runs, in turn; the \
             same bytes printed); the library call alone {}",
            comparison.shape.objects(),
            shown(ours),
            shown(theirs),
            self.ours.len(),
            self.theirs.len(),
            shown(median(&library))
        );
        Ok(Figure::new(comparison.name, theirs / ours, "ratio", note)
            .peer(theirs)
            .at_least(comparison.gate))
    }

    fn peaks(&self) -> (u64, u64) {
        let ours = self.ours.iter().map(|run| run.peak).max().unwrap_or_default();
        let theirs = self.theirs.iter().map(|run| run.peak).min().unwrap_or_default();
        (ours, theirs)
    }

    /// Our largest peak against the reference's smallest.
    fn memory_ratio(&self) -> f64 {
        let (ours, theirs) = self.peaks();
        ours as f64 / theirs as f64
    }

    fn memory_note(&self, comparison: &Comparison) -> String {
        let (ours, theirs) = self.peaks();
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        format!(
            "the worst of the sizes measured: {} objects, peak resident set {:.1} MiB against {:.1} MiB",
            comparison.shape.objects(),
            mib(ours),
            mib(theirs)
        )
    }
}

/// How many objects the sources have whose steps are compared.
const SIZES: [usize; 3] = [1_000, 5_000, 20_000];

/// The steps of the library from 1,000 to 5,000 to 20,000 objects, over what n log n allows: the worse of the two.
///
/// The engine charges a step for each turn of its loops, so that no busy machine decides; times stand in the note.
fn growth() -> anyhow::Result<Figure> {
    let directory = tempfile::Builder::new().prefix("flotilla-bench-").tempdir()?;
    let (mut taken, mut times) = (Vec::new(), Vec::new());
    for size in SIZES {
        let overlay = Shape::Apps(size).write(&directory.path().join(size.to_string()))?;
        let calls = library_calls(&overlay, 3)?;
        taken.push(calls.steps);
        times.push(calls.took.iter().min().map_or(f64::NAN, Duration::as_secs_f64));
    }
    let n_log_n = |size: usize| size as f64 * (size as f64).ln();
    let step = |from: usize, to: usize| {
        taken[to] as f64 / taken[from] as f64 / (n_log_n(SIZES[to]) / n_log_n(SIZES[from]))
    };
    let (first, second) = (step(0, 1), step(1, 2));
    let note = format!(
        "the library's steps from size to size over those of n log n, the worse one: to 5,000 objects {first:.3}, to \
         20,000 {second:.3} (1,000 objects {} steps, {}; 5,000 {}, {}; 20,000 {}, {}; times are the fastest of 3)",
        taken[0],
        shown(times[0]),
        taken[1],
        shown(times[1]),
        taken[2],
        shown(times[2]),
    );
    Ok(Figure::new(GROWTH, first.max(second), "ratio", note).at_most(1.0))
}

const LIBRARY: &str = "--library-call";

/// What calls of the library came to.
struct Calls {
    took: Vec<Duration>,
    /// What each of them takes.
    steps: u64,
}

/// Makes library calls in a process of their own, which may grow without counting into what it starts. A call is the
/// command's: it builds, and prints into memory.
fn library_calls(overlay: &Path, runs: usize) -> anyhow::Result<Calls> {
    let own = std::env::current_exe()?;
    let runs = runs.to_string();
    let ended = run(&own, &[LIBRARY.as_ref(), overlay.as_os_str(), runs.as_ref()])?;
    let printed = String::from_utf8(ended.output)?;
    let mut lines = printed.lines();
    let steps = lines.next().context("the steps come first")?.parse()?;
    let took = lines.map(|line| Ok(Duration::from_nanos(line.parse()?)));
    Ok(Calls {
        took: took.collect::<anyhow::Result<_>>()?,
        steps,
    })
}

/// Serves [`library_calls`]: prints the steps of a call, and the nanoseconds of each. `None` when the arguments ask
/// for something else.
pub(crate) fn library_call(mut args: impl Iterator<Item = OsString>) -> Option<anyhow::Result<()>> {
    if args.next()? != LIBRARY {
        return None;
    }
    let (overlay, runs) = (PathBuf::from(args.next()?), args.next()?);
    let runs: usize = runs.to_str()?.parse().ok()?;
    Some(call_library(&overlay, runs))
}

fn call_library(overlay: &Path, runs: usize) -> anyhow::Result<()> {
    let root = overlay.parent().context("an overlay has a folder around it")?;
    let mut tree = MemoryTree::new();
    read(root, root, &mut tree)?;
    let budget = Budget::default();
    let input = RenderInput::new(&tree, "overlay", &budget);
    println!("{}", build(&input)?.steps);
    for _ in 0..runs {
        let began = Instant::now();
        let mut text = String::new();
        build_each(&input, &mut |object| object.append_to(&mut text))?;
        let took = began.elapsed();
        ensure!(!text.is_empty(), "nothing was built");
        println!("{}", took.as_nanos());
    }
    Ok(())
}

fn read(root: &Path, folder: &Path, tree: &mut MemoryTree) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(root, &path, tree)?;
        } else if let Some(name) = path.strip_prefix(root)?.to_str() {
            tree.insert(name, std::fs::read(&path)?);
        }
    }
    Ok(())
}

fn shown(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.1} s")
    }
}
