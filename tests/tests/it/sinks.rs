//! Sinks on a real broker: what is sent is what reads say, nothing of it is lost, and what goes wrong is said.

mod exact;
mod life;
mod losses;
mod messages;
mod store;
mod storms;
mod troubles;
mod world;
