//! The `actorsim` command: parses its arguments and returns the exit code of what ran.

use std::process::ExitCode;

fn main() -> ExitCode {
    actorsim::heap::bound_arenas();
    actorsim::cli::run(std::env::args_os()).into()
}
