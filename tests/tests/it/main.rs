//! The one test binary: every end-to-end and parity test of the project.

mod parity;
