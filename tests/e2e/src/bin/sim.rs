//! Simulated agents against a hub that runs: `sim --count 1000 --config DATA/admin.yaml`. They stay until it is
//! interrupted.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use e2e::sim::Sim;
use flotilla_api::access::Access;

/// A fleet of simulated agents in one process.
#[derive(Debug, Parser)]
#[command(name = "sim")]
struct Cli {
    /// How many clusters
    #[arg(long, default_value_t = 100)]
    count: u32,
    /// Beginning of their names
    #[arg(long, default_value = "sim")]
    prefix: String,
    /// The file that says how to reach the hub, as the command takes it
    #[arg(long, env = "FLOTILLA_CONFIG")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let failed = || format!("cannot use {}", cli.config.display());
    let text = std::fs::read_to_string(&cli.config).with_context(failed)?;
    let access = Access::read(&text).with_context(failed)?;
    flotilla_testkit::install_tls_provider();
    let mut sim = Sim::start(access.context(None)?, &cli.prefix, cli.count).await?;
    eprintln!("{} agents started; interrupt to stop them", cli.count);
    let mut every = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = every.tick() => {
                let running = sim.running();
                anyhow::ensure!(running > 0, "all agents have ended");
                println!("{running} agents run");
            }
        }
    }
}
