//! Messages in Avro and Protobuf with the schemas of a registry: a real one, a real broker, and a stand-in that misbehaves.

mod broker;
mod door;
mod stand_in;
mod written;
