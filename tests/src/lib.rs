//! What the tests stand on: the independent oracle, the bridge from its words to the engine's, and real server processes.

pub mod bridge;
#[allow(missing_docs, clippy::unwrap_used)]
pub mod oracle;
pub mod server;
