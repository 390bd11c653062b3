//! What the agent costs without its link to the hub, on control planes of its own. Records the figures as the other
//! benchmarks do; `make bench` runs it.
//!
//! `cargo run --release -p flotilla-agent --example alone [NAME…]`
//!
//! Every figure is its file's; as `alone agent …` the program is the agent that `large` measures.

#[path = "../../tests/memory/objects.rs"]
mod objects;

mod agent;
mod first_apply;
mod idle;
mod large;
mod process;
mod units;

use anyhow::bail;
use flotilla_bench_report::Record;
use tikv_jemallocator::Jemalloc;

/// As the agent's own program has it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    flotilla_testkit::install_tls_provider();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, kubeconfig, namespace, verify_seconds] = &*arguments
        && word == agent::WORD
    {
        return agent::run(kubeconfig, namespace, verify_seconds.parse()?).await;
    }
    let known = |name: &str| name == first_apply::NAME || name == idle::NAME || large::NAMES.contains(&name);
    if let Some(name) = arguments.iter().find(|name| !known(name)) {
        bail!("no benchmark of the name {name}");
    }
    let runs = |names: &[&str]| {
        arguments.is_empty() || arguments.iter().any(|wanted| names.contains(&wanted.as_str()))
    };
    let mut record = Record::open(".")?;
    if runs(&[first_apply::NAME]) {
        record.add(first_apply::measure(number("FLOTILLA_BENCH_PAIRS", 5)?).await?)?;
    }
    if runs(&large::NAMES) {
        let objects = number("FLOTILLA_BENCH_OBJECTS", 20_000)?;
        large::measure(objects, number("FLOTILLA_BENCH_CYCLE_S", 900)?, &mut record).await?;
    }
    if runs(&[idle::NAME]) {
        record.add(idle::measure(number("FLOTILLA_BENCH_IDLE_S", 600)?).await?)?;
    }
    Ok(record.close()?)
}

/// What a variable says for trying things out; the figures tell what they were taken with.
fn number(variable: &str, default: usize) -> anyhow::Result<usize> {
    std::env::var(variable).map_or(Ok(default), |text| Ok(text.parse()?))
}
