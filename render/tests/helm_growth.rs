//! What a rendering costs follows what it is given: twice as many entries take about twice the calls of the allocator and
//! twice the bytes. Work that is not charged as steps shows here too.

#[path = "helm_growth/shapes.rs"]
mod shapes;

use std::alloc::System;

use flotilla_render::helm::action::template;
use flotilla_render::helm::archive::{File, Limits as ChartLimits};
use flotilla_render::helm::chart::Chart;
use flotilla_render::helm::context::Context;
use flotilla_render::helm::values;
use flotilla_render_tests::rendered::first_install;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ENTRIES: usize = 1_000;
/// Twice the entries may take so many tenths of the cost.
const TENTHS: usize = 25;

/// What a rendering is given.
#[derive(Default)]
struct Source {
    files: Vec<(String, String)>,
    values: String,
}

impl Source {
    fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Source {
        self.files.push((name.into(), text.into()));
        self
    }

    /// One template in a chart by itself.
    fn template(text: impl Into<String>) -> Source {
        Source::default()
            .file("Chart.yaml", "apiVersion: v2\nname: c\nversion: 1.0.0\n")
            .file("templates/a.yaml", text)
    }
}

/// Calls of the allocator, and bytes.
type Cost = (usize, usize);

/// Returns what loading and rendering costs; that of making the input is not counted.
fn cost(what: &str, source: &Source) -> Cost {
    let region = Region::new(ALLOCATOR);
    let files = source.files.iter();
    let files = files.map(|(name, text)| File::new(name.as_str(), text.as_bytes()));
    let chart = Chart::from_directory(files.collect(), ChartLimits::default());
    let chart =
        chart.unwrap_or_else(|error| panic!("{what}: {error}: {:?}", std::error::Error::source(&error)));
    let values = values::load(source.values.as_bytes()).expect("the values are a map");
    let rendered = template(&first_install(&chart, values, Context::default()));
    let rendered = rendered.unwrap_or_else(|error| panic!("{what}: {error:.600}"));
    rendered.text(&Default::default()).expect("all of it is printed");
    let change = region.change();
    (change.allocations + change.reallocations, change.bytes_allocated)
}

/// Returns in which way the cost grew faster than the entries; what none of them costs is taken off.
fn grown(what: &str, source: &dyn Fn(usize) -> Source) -> Option<String> {
    let at = |entries: usize| cost(what, &source(entries));
    // Tables that are made once are there.
    at(1);
    let (none, once, twice) = (at(1), at(ENTRIES), at(2 * ENTRIES));
    let beside = |cost: Cost| (cost.0.saturating_sub(none.0), cost.1.saturating_sub(none.1));
    let (once, twice) = (beside(once), beside(twice));
    let is_faster = |once: usize, twice: usize| twice * 10 > once * TENTHS;
    (is_faster(once.0, twice.0) || is_faster(once.1, twice.1)).then(|| {
        format!(
            "{what}: {} calls and {} bytes grew to {} and {}",
            once.0, once.1, twice.0, twice.1
        )
    })
}

#[test]
fn calls_of_the_allocator_and_bytes_grow_with_the_entries_and_not_with_their_square() {
    let functions = shapes::FUNCTIONS.iter().map(|call| {
        let source = move |entries: usize| Source::template(shapes::called(call, entries));
        (*call, Box::new(source) as Box<dyn Fn(usize) -> Source>)
    });
    let charts = shapes::CHARTS
        .iter()
        .map(|(name, make)| (*name, Box::new(make) as Box<dyn Fn(usize) -> Source>));
    let faster: Vec<String> = functions
        .chain(charts)
        .filter_map(|(what, source)| grown(what, &source))
        .collect();
    assert!(faster.is_empty(), "{}", faster.join("\n"));
    // What takes the square of the entries is told from what follows them.
    let copied_for_each_item = |entries: usize| {
        Source::template(format!(
            "{{{{ $l := list }}}}{{{{ range until {entries} }}}}{{{{ $l = append $l . }}}}{{{{ end }}}}"
        ))
    };
    assert!(grown("append", &copied_for_each_item).is_some());
}
