//! The wire: what travels between a Tidemill server and its clients.
//!
//! Only generated code lives here; the messages are documented in `tidemill/v1/*.proto`. The crate knows nothing of
//! features, and the feature engine knows nothing of it: one file of the server converts between the two.

/// Version 1 of the protocol, `package tidemill.v1`.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::too_many_lines)]
pub mod v1 {
    tonic::include_proto!("tidemill.v1");
}

/// The encoded `FileDescriptorSet` of the protocol, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tidemill.bin"));
