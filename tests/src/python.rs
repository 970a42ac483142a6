//! The Python that some tests need: other engines to compare with, and a server that speaks S3.

use std::path::PathBuf;

/// How to get it.
pub const MISSING: &str = "scripts/test installs it. By hand: python3 -m venv ~/.cache/tidemill/python && \
    ~/.cache/tidemill/python/bin/pip install -r tests/python/requirements.txt, or name a Python that has it in TIDEMILL_PYTHON";

/// TIDEMILL_PYTHON, else the environment that scripts/test makes, else python3.
pub fn python() -> PathBuf {
    if let Some(named) = std::env::var_os("TIDEMILL_PYTHON") {
        return named.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let installed = cache.map(|cache| cache.join("tidemill/python/bin/python"));
    installed.filter(|path| path.exists()).unwrap_or_else(|| "python3".into())
}
