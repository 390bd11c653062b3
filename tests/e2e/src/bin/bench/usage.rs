//! What processes have used, from `/proc`.

use std::{fs, time::Duration};

use anyhow::Context as _;
use e2e::HubProcess;

/// Processor time of a hub so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hub {
    /// Its own, with programs that have ended: git, renderers.
    pub(crate) hub: f64,
    /// Its private Postgres, with all servers of connections.
    pub(crate) postgres: f64,
}

impl Hub {
    /// Of a running hub.
    pub(crate) fn of(hub: &HubProcess) -> anyhow::Result<Self> {
        let pid = hub.pid().context("the hub does not run")?;
        let postgres = hub.postgres().context("its Postgres does not run")?;
        Ok(Self {
            hub: cpu(pid)?,
            postgres: family(postgres.as_raw_nonzero().get().unsigned_abs())?,
        })
    }

    /// What was used since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            hub: self.hub - before.hub,
            postgres: self.postgres - before.postgres,
        }
    }
}

/// Seconds of processor time of a process and of those of its children that have ended.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<f64> {
    Ok(flotilla_testkit::processor_time(pid)?.as_secs_f64())
}

/// The same of a process and its living children.
fn family(pid: u32) -> anyhow::Result<f64> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let mut all = cpu(pid)?;
    for child in children.split_whitespace() {
        // One that has just ended is its parent's to count.
        all += cpu(child.parse()?).unwrap_or_default();
    }
    Ok(all)
}

/// Memory of a process in MiB: `VmRSS` now, `VmHWM` at most.
pub(crate) fn memory(pid: u32, field: &str) -> anyhow::Result<f64> {
    mib(pid, "status", field)
}

/// Its share of memory in MiB: what it has with others counts in parts.
pub(crate) fn pss(pid: u32) -> anyhow::Result<f64> {
    mib(pid, "smaps_rollup", "Pss")
}

fn mib(pid: u32, file: &str, field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let found = text.lines().find_map(|line| {
        let value = line.strip_prefix(field)?.strip_prefix(':')?;
        value.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()
    });
    Ok(found.with_context(|| format!("the kernel told no {field}"))? / 1024.0)
}

/// Processor time over time, in percent of one core.
pub(crate) fn percent(used: f64, time: Duration) -> f64 {
    100.0 * used / time.as_secs_f64()
}
