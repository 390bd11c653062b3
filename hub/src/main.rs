//! The hub's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(command) if command == "sandbox-exec" => flotilla_hub::renderer::sandbox::exec(arguments.collect()),
        _ => ExitCode::SUCCESS,
    }
}
