//! `make bench [N=NAME]`: the figures of the whole system, with release builds, on real control planes and with
//! simulated agents. How they are recorded, and what a missed gate does, is `flotilla-bench-report`'s. Wall times of a
//! shared machine are noisy: compare within one run.

mod app_objects;
mod apps;
mod files;
mod fleet;
mod pages;
mod simulated;
mod spread;
mod three;
mod usage;

use std::{path::Path, time::Duration};

use anyhow::bail;
use flotilla_bench_report::Record;

pub(crate) const WITHIN: Duration = Duration::from_secs(120);

/// The figures that are asked for: all when none is named.
pub(crate) struct Wanted(Vec<String>);

impl Wanted {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|wanted| wanted == name)
    }

    fn any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.has(name))
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    flotilla_testkit::install_tls_provider();
    let wanted = Wanted(std::env::args().skip(1).collect());
    let known = [&three::NAMES[..], &apps::NAMES, &simulated::NAMES, &pages::NAMES].concat();
    if let Some(name) = wanted.0.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no benchmark of the name {name}: there are {}", known.join(", "));
    }
    let mut record = Record::open(".")?;
    if wanted.any(&three::NAMES) {
        three::measure(folder()?.path(), &wanted, &mut record).await?;
    }
    if wanted.any(&apps::NAMES) {
        apps::measure(folder()?.path(), &wanted, &mut record).await?;
    }
    if wanted.any(&simulated::NAMES) {
        simulated::measure(folder()?.path(), &wanted, &mut record).await?;
    }
    if wanted.any(&pages::NAMES) {
        pages::measure(folder()?.path(), &wanted, &mut record).await?;
    }
    Ok(record.close()?)
}

/// A folder that the user of the private Postgres can pass through.
fn folder() -> anyhow::Result<tempfile::TempDir> {
    let dir = tempfile::Builder::new().prefix("flotilla-bench-").tempdir()?;
    let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(<tempfile::TempDir as AsRef<Path>>::as_ref(&dir), passable)?;
    Ok(dir)
}

/// `FLOTILLA_BENCH_SAMPLES` takes fewer while trying things out.
pub(crate) fn sample(full: usize) -> usize {
    setting("FLOTILLA_BENCH_SAMPLES").unwrap_or(full)
}

/// `FLOTILLA_BENCH_IDLE_S` waits for another time; figures are scaled, and say so.
pub(crate) fn idle_time(full: u64) -> Duration {
    Duration::from_secs(setting("FLOTILLA_BENCH_IDLE_S").unwrap_or(full))
}

pub(crate) fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
