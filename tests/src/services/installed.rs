//! What `tests/services` has installed, and where. It is the script that knows.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The script.
pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services")
}

/// The path of something that was installed; a test cannot go on without it.
pub fn installed(name: &str) -> PathBuf {
    let asked = Command::new(script()).args(["path", name]).output().expect("tests/services runs");
    if !asked.status.success() {
        panic!("{}; scripts/test installs it", String::from_utf8_lossy(&asked.stderr).trim_end());
    }
    String::from_utf8_lossy(&asked.stdout).trim_end().into()
}
