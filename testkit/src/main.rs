//! The rig by hand: builds its programs, or runs control planes until it is interrupted.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use flotilla_testkit::{ControlPlane, ControlPlaneOptions, Tool, tools};
use futures::future::try_join_all;
use tokio::signal::unix::{SignalKind, signal};

/// Real Kubernetes control planes on this machine, without containers.
#[derive(Debug, Parser)]
#[command(name = "flotilla-testkit", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds all programs of the rig, or those named, and prints where they are
    Build {
        /// Programs to build, such as etcd or kube-apiserver
        #[arg(value_name = "PROGRAM")]
        programs: Vec<String>,
    },
    /// Starts control planes, prints their kubeconfigs, and stays until it is interrupted
    Up {
        /// How many
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
        clusters: u8,
        /// Keep their files in this folder, one folder per cluster, which must not exist yet
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Build { programs } => build(&programs).await,
        Command::Up { clusters, dir } => up(clusters, dir).await,
    }
}

async fn build(programs: &[String]) -> anyhow::Result<()> {
    let wanted = if programs.is_empty() {
        Tool::ALL.to_vec()
    } else {
        programs
            .iter()
            .map(|name| find(name))
            .collect::<anyhow::Result<_>>()?
    };
    for path in tools(&wanted).await? {
        println!("{}", path.display());
    }
    Ok(())
}

fn find(name: &str) -> anyhow::Result<Tool> {
    let names = || Tool::ALL.map(Tool::name).join(", ");
    let found = Tool::ALL.into_iter().find(|tool| tool.name() == name);
    found.with_context(|| format!("there is no program {name}; there are {}", names()))
}

async fn up(clusters: u8, dir: Option<PathBuf>) -> anyhow::Result<()> {
    let options = (1..=clusters).map(|index| {
        let name = format!("cluster-{index}");
        let options = ControlPlaneOptions::named(&name);
        match &dir {
            Some(dir) => options.dir(&dir.join(&name)),
            None => options,
        }
    });
    let mut terminated = signal(SignalKind::terminate()).context("listen for signals")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("listen for signals")?;
    let started = tokio::select! {
        started = try_join_all(options.map(ControlPlane::start)) => started?,
        _ = interrupted.recv() => return Ok(()),
        _ = terminated.recv() => return Ok(()),
    };
    for cluster in &started {
        println!("{}", cluster.kubeconfig().display());
    }
    eprintln!("{clusters} running; interrupt to stop them");
    tokio::select! {
        _ = interrupted.recv() => {}
        _ = terminated.recv() => {}
    }
    Ok(())
}
