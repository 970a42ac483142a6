//! What the tests stand on: the independent oracle, and the bridge from its words to the engine's.

pub mod bridge;
#[allow(missing_docs, clippy::unwrap_used)]
pub mod oracle;
