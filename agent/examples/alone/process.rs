//! Another process of this program, read from outside.

use std::process::Stdio;

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A process that ends when this is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
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
        })
    }

    /// Waits until the process says this.
    pub(crate) async fn until(&mut self, said: &str) -> anyhow::Result<()> {
        while let Some(line) = self.lines.next_line().await? {
            if line == said {
                return Ok(());
            }
        }
        bail!("the agent ended: {:?}", self.child.wait().await?)
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
