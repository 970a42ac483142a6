//! Sinks: values go to a topic as they change.
//!
//! A sink works in rounds. A round has the keys of entities that events have changed, once each, reads their values as serving
//! does, sends a message for each, and ends when brokers have acknowledged all of them. Then the sink is as far as the events of the
//! round, which is its `mark`. Keys come from where events are applied, or from the event log where the sink is behind, or
//! from the state where everything is to be sent (`keys`). An event that is dated ahead is seen when its time comes: its
//! entity is sent once more then (`unsettled`). After a crash the keys of all events beyond the mark are sent again.
//!
//! `round` is one round, `message` what is sent, `progress` what others see of it, `run` the life of a sink.

mod keys;
mod mark;
mod message;
mod progress;
mod round;
mod run;
mod unsettled;

use std::path::Path;
use std::sync::Arc;

use tidemill_features::definitions::{Published, Registry};
use tidemill_features::service::{ReadPlan, Refused};

pub use self::progress::{SinkProgress, SinkState};
use self::run::Sink;
use crate::components::Server;
use crate::failure::Failure;
use crate::settings::{KafkaSettings, Role};

/// The plan by which the values of a sink are read.
fn plan(registry: &Registry, of: &Published) -> Result<ReadPlan, Refused> {
    match of {
        Published::Service(name) => ReadPlan::of_service(registry, name),
        Published::View(name) => ReadPlan::of_references(registry, &[format!("{name}:*")]),
    }
}

/// Refuses what a process cannot publish.
pub fn check(registry: &Registry, role: Role) -> Result<(), Failure> {
    let Some(sink) = registry.sinks.first().filter(|_| role == Role::Ingest) else { return Ok(()) };
    let message = format!(
        "sink `{}` needs the event log, which a group of processes (--role ingest) does not have: run one process with --role all, \
         or take the sink out of the definitions of the group",
        sink.name
    );
    Err(Failure::invalid("E5054", message))
}

/// Starts all sinks, each on a thread of its own. Processes that only answer reads have none.
pub fn start(
    server: &Arc<Server>,
    data_dir: &Path,
    kafka: &KafkaSettings,
) -> Result<Vec<tokio::task::JoinHandle<()>>, Failure> {
    let mut running = Vec::new();
    for (at, sink) in server.registry.sinks.iter().enumerate() {
        let plan = Arc::new(plan(&server.registry, &sink.of)?);
        let sink = Sink::new(server.clone(), at, plan, (data_dir, kafka));
        running.push(tokio::task::spawn_blocking(move || sink.run()));
    }
    Ok(running)
}
