//! `flotilla completion`: scripts that complete commands in a shell.

use clap_complete::Shell;

use crate::{Host, command_line};

/// Print a script that completes commands in a shell
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

pub(crate) fn cmd_completion(args: &CompletionArgs, host: &mut Host) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command_line(), "flotilla", &mut script);
    host.ui.text(&String::from_utf8_lossy(&script));
}
