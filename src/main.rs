//! `inkpool`: the server, the command line and the program inside a slot.

use std::process::ExitCode;

fn main() -> ExitCode {
    inkpool::cli::main()
}
