//! `make bench kustomize_…`: the rendering engines against the reference programs. It writes the sources itself,
//! runs whole processes in turn, and calls the library beside them. How figures are recorded, and what a missed
//! gate does, is `flotilla-bench-report`'s.

mod helm;
mod kustomize;
mod program;

use std::path::PathBuf;

use anyhow::bail;
use clap::Parser;
use flotilla_bench_report::Record;

/// Measures the rendering engines.
#[derive(Debug, Parser)]
struct Args {
    /// The figures wanted; all when none is named
    names: Vec<String>,
    /// The program measured, a release build
    #[arg(long, value_name = "PROGRAM")]
    flotilla: PathBuf,
    /// The reference for `kustomize_…`
    #[arg(long, value_name = "PROGRAM")]
    kustomize: PathBuf,
    /// The reference for `helm_…_process_ratio`
    #[arg(long, value_name = "PROGRAM")]
    helm: PathBuf,
}

fn main() -> anyhow::Result<()> {
    if let Some(result) = kustomize::library_call(std::env::args_os().skip(1)) {
        return result;
    }
    if let Some(result) = helm::library_call(std::env::args_os().skip(1)) {
        return result;
    }
    let args = Args::parse();
    if let Some(name) = args
        .names
        .iter()
        .find(|name| !kustomize::NAMES.contains(&name.as_str()) && !helm::is_name(name))
    {
        bail!("no benchmark of the name {name}");
    }
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
    let mut record = Record::open(".")?;
    kustomize::measure(&args.flotilla, &args.kustomize, &wanted, &mut record)?;
    let programs = helm::Programs {
        flotilla: &args.flotilla,
        helm: &args.helm,
    };
    helm::measure(&programs, &wanted, &mut record)?;
    Ok(record.close()?)
}
