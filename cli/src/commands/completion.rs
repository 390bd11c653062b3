//! `flotilla completion`: scripts that complete commands in a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, Host};

/// Print a script that completes commands in a shell
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn cmd_completion(args: &CompletionArgs, host: &mut Host) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "flotilla", &mut script);
    host.ui.text(&String::from_utf8_lossy(&script));
}
