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

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory, FromArgMatches, Parser};
use tokio::time::Instant;

use commands::Command;
pub use error::{CommandError, Kind};
pub use ui::Ui;

/// What a command gets from the process that runs it.
pub struct Host {
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: Box<dyn Read + Send>,
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

/// Commands that ask no hub, and the options of one that mean nothing to them.
const OFFLINE: [(&str, &[&str]); 4] = [
    // The time that a build may take is its own.
    ("kustomize", &["config", "context", "namespace"]),
    // Those of Helm with the names of the other two are its own too.
    ("template", &["config", "context"]),
    ("envsubst", &["config", "context", "namespace", "timeout"]),
    ("completion", &["config", "context", "namespace", "timeout"]),
];

/// Returns the whole command line. A command that asks no hub does not show the options of one.
pub(crate) fn command_line() -> clap::Command {
    OFFLINE
        .into_iter()
        .fold(Cli::command(), |whole, (name, options)| {
            whole.mut_subcommand(name, |command| {
                command.args(options.iter().map(|name| {
                    let option = Arg::new(*name).long(*name).hide(true);
                    match *name {
                        "namespace" => option.short('n'),
                        _ => option,
                    }
                }))
            })
        })
}

/// Refuses an option of the hub that was given to a command which asks none.
fn check_offline(matches: &ArgMatches) -> Result<(), CommandError> {
    let given = |option: &str| matches.value_source(option) == Some(ValueSource::CommandLine);
    let found = OFFLINE
        .into_iter()
        .filter(|(name, _)| matches.subcommand_name() == Some(*name))
        .find_map(|(name, options)| Some((name, options.iter().find(|option| given(option))?)));
    match found {
        Some((name, option)) => Err(CommandError::usage(format!(
            "--{option} means nothing to flotilla {name}, which asks no hub"
        ))),
        None => Ok(()),
    }
}

/// Runs one command and returns the exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, host: &mut Host) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let code = match command_line().try_get_matches_from(&arguments) {
        Ok(matches) => match run_matched(&matches, host).await {
            Ok(()) => 0,
            Err(error) => {
                host.ui.failure(&error);
                error.kind.exit_code()
            }
        },
        Err(error) => explain(&error, &arguments, host),
    };
    // What was not printed is no result, whatever the command made of it.
    match host.ui.finish() {
        Err(error) => {
            host.ui.failure(&error);
            if code == 0 { error.kind.exit_code() } else { code }
        }
        Ok(()) => code,
    }
}

async fn run_matched(matches: &ArgMatches, host: &mut Host) -> Result<(), CommandError> {
    check_offline(matches)?;
    let cli = Cli::from_arg_matches(matches).map_err(|error| CommandError::usage(error.to_string()))?;
    let end = cli.global.end();
    if cli.command.is_watch() {
        return commands::run(cli.command, &cli.global, host).await;
    }
    tokio::select! {
        // A command that ends by its own watch of the time says more.
        biased;
        ran = commands::run(cli.command, &cli.global, host) => ran,
        () = tokio::time::sleep_until(end) => Err(CommandError::late()),
    }
}

/// Says why no command is run.
fn explain(error: &clap::Error, arguments: &[OsString], host: &mut Host) -> u8 {
    let unreadable = arguments.iter().find(|argument| argument.to_str().is_none());
    let text = match (error.kind(), unreadable) {
        (ErrorKind::InvalidUtf8, Some(argument)) => {
            format!("error: the argument {argument:?} is not UTF-8")
        }
        _ => error.render().to_string().trim_end().to_owned(),
    };
    // Help and version come as errors too, but belong on standard output and succeed.
    match error.exit_code() {
        0 => host.ui.line(&text),
        _ => host.ui.error_line(&text),
    }
    u8::try_from(error.exit_code()).unwrap_or(2)
}
