//! The binary `tidemill`. Everything is in the library; this only ends the process with the verb's exit code.

use std::process::ExitCode;

/// Events are many small pieces of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A reader that goes away (`tidemill ls | head -1`) ends the output, not the world: printing to a closed pipe panics.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if said.starts_with("failed printing to stdout") {
            std::process::exit(0);
        }
        report(panic);
    }));
    ExitCode::from(tidemill::cli::run())
}
