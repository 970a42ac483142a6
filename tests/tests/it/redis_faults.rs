//! A shared store in Redis under faults, on real servers: what was acknowledged is there in the end, and counts once.

mod cluster;
mod forgetting;
mod hot;
mod owners;
mod readers;
mod store;
mod storms;
mod troubles;
mod world;
mod writer;
