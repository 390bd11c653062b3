//! Entry point: hands the process's arguments, environment and streams to the library.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use flotilla_cli::{Host, Ui, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // Only what goes beside the result has colours.
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut host = Host {
        // A variable that is no text cannot be one of ours.
        variables: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        stdin: Box::new(io::stdin()),
        now_ms: || (time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000) as i64,
        ui: Ui::new(Box::new(io::stdout()), Box::new(io::stderr()), color),
    };
    ExitCode::from(run(std::env::args_os(), &mut host).await)
}
