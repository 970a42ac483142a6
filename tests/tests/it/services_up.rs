//! The servers that other tests stand on are real, and do what those tests rely on. And the script that brings them says what it
//! cannot do.

mod hidden;
mod kafka;
mod others;
