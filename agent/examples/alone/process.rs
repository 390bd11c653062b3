//! Another process of this program, read from outside.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

const QUIET: Duration = Duration::from_secs(1);

/// A process that ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// All lines that were read.
    said: Vec<String>,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("its output")?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
            said: Vec::new(),
        })
    }

    /// Waits until the process says this.
    pub(crate) async fn until(&mut self, said: &str) -> anyhow::Result<()> {
        while let Some(line) = self.lines.next_line().await? {
            let is_it = line == said;
            self.said.push(line);
            if is_it {
                return Ok(());
            }
        }
        bail!("the agent ended: {:?}", self.child.wait().await?)
    }

    /// What came last of the lines that it has said so far and that begin so.
    pub(crate) async fn last(&mut self, begin: &str) -> anyhow::Result<Option<String>> {
        // It says nothing while nothing happens.
        while let Ok(line) = timeout(QUIET, self.lines.next_line()).await {
            self.said.push(line?.context("the agent ended")?);
        }
        let last = self.said.iter().rev().find_map(|line| line.strip_prefix(begin));
        Ok(last.map(str::to_owned))
    }

    /// Its share of memory, in MiB.
    pub(crate) fn pss(&self) -> anyhow::Result<f64> {
        let id = self.child.id().context("the agent does not run")?;
        let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:"))
            .context("the kernel told no PSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}
