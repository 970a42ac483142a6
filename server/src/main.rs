//! The binary `tidemill`. Everything is in the library; this only ends the process with the verb's exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A reader that goes away (`tidemill ls | head -1`) ends the output, not the world.
    ExitCode::from(tidemill::cli::run())
}
