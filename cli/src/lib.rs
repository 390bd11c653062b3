//! The `flotilla` command: shows and steers a fleet through its hub, and renders without one.
//!
//! A file per command under [`commands`]: the arguments' doc comments are the help. Nothing here decides what
//! the fleet does. Output goes through [`Ui`], errors through [`error::CommandError`], so that tests run whole
//! commands in-process.

mod changes;
mod client;
mod commands;
mod error;
mod fetch;
mod follow;
mod output;
mod show;
mod table;
mod ui;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::time::Duration;

use clap::Parser;
use tokio::time::Instant;

use commands::Command;
pub use error::{CommandError, Kind};
pub use ui::Ui;

/// What a command gets from the process that runs it.
pub struct Host {
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: Box<dyn Read>,
    /// Milliseconds since 1970, for ages.
    pub now_ms: fn() -> i64,
    /// Where output goes.
    pub ui: Ui,
}

impl Host {
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

/// Keep a fleet of Kubernetes clusters equal to what Git says.
///
/// Exit codes: 0 success, 1 the command failed or the object is not ready, 2 wrong usage, 3 the hub cannot be
/// reached, 4 the hub refused the credential.
#[derive(Debug, Parser)]
#[command(name = "flotilla", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
struct Global {
    /// File that says how to reach the hub [default: FLOTILLA_CONFIG, the user's configuration folder, the
    /// local hub's data directory]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<String>,
    /// Context of that file to use
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Namespace of the objects
    #[arg(
        long,
        short,
        global = true,
        value_name = "NAME",
        default_value = "flux-system"
    )]
    namespace: String,
    /// Longest time to wait for the hub or for an object to become ready
    #[arg(long, global = true, value_name = "DURATION", default_value = "5m", value_parser = commands::duration)]
    timeout: Duration,
    /// When the command began.
    #[arg(skip = Instant::now())]
    begun: Instant,
}

impl Global {
    /// When everything of the command is over.
    pub(crate) fn end(&self) -> Instant {
        self.begun + self.timeout
    }
}

/// Runs one command and returns the exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, host: &mut Host) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render();
            // Help and version come as errors too, but belong on standard output and succeed.
            match error.exit_code() {
                0 => host.ui.line(text.to_string().trim_end()),
                _ => host.ui.error_line(text.to_string().trim_end()),
            }
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let end = cli.global.end();
    let ran = tokio::select! {
        // A command that ends by its own watch of the time says more.
        biased;
        ran = commands::run(cli.command, &cli.global, host) => ran,
        () = tokio::time::sleep_until(end) => Err(CommandError::late()),
    };
    match ran {
        Ok(()) => 0,
        Err(error) => {
            host.ui.failure(&error);
            error.kind.exit_code()
        }
    }
}
