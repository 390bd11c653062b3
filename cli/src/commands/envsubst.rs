//! `flotilla envsubst`: the substitution of `spec.postBuild`, with the environment as variables.

use std::io::Read;

use flotilla_core::substitute::{MAX_BYTES, Variables, substitute};

use crate::Host;
use crate::error::CommandError;

/// Replace ${variables} of standard input by values of the environment, as spec.postBuild does
#[derive(Debug, clap::Args)]
pub(crate) struct EnvsubstArgs {
    /// Fail on a variable that is not set and has no default
    #[arg(long)]
    strict: bool,
}

pub(crate) fn cmd_envsubst(args: &EnvsubstArgs, host: &mut Host) -> Result<(), CommandError> {
    let mut text = String::new();
    (&mut host.stdin)
        .take(MAX_BYTES as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| CommandError::failed(format!("cannot read standard input: {error}")))?;
    // An environment may hold names that no expression can mean; they are no mistake of this text.
    let named = host.variables.iter().filter(|(name, _)| is_variable(name));
    let variables =
        Variables::from_layers([named.map(|(name, value)| (name.clone(), value.clone().into_bytes()))])
            .map_err(|error| CommandError::failed(error.to_string()))?;
    let result = substitute(&text, &variables, args.strict)
        .map_err(|error| CommandError::failed(error.to_string()))?;
    host.ui.text(&result);
    Ok(())
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
