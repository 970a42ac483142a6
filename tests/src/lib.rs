//! What the tests stand on: the independent oracle, the bridge from its words to the engine's, real server processes, an
//! object store, and the servers of others.

pub mod bridge;
#[allow(missing_docs, clippy::unwrap_used)]
pub mod oracle;
pub mod python;
pub mod s3;
pub mod server;
pub mod services;
