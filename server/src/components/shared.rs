//! A shared store, opened: what may be asked of it is tried, and it holds what these definitions say, or the process does not start.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tidemill_features::definitions::{Connector, Registry, Source, View};

use super::Shared;
use crate::collections::SharedFeed;
use crate::failure::Failure;
use crate::ingest::SharedParts;
use crate::limits::SHARDS;
use crate::online::{Memory, RedisStore, StoreError};
use crate::serving::sink;
use crate::settings::{RedisSettings, Role};

/// Of keys and values in a shared store.
const SHARED_FORMAT: u32 = 2;

/// Connects to a shared store, and makes sure that it holds the views of these definitions and of no others.
pub(super) fn open(
    settings: &RedisSettings,
    role: Role,
    (registry, clock, memory, collections): &Shared,
    stopping: &Arc<AtomicBool>,
) -> Result<SharedParts, Failure> {
    sink::check(registry, role)?;
    let fed_otherwise =
        |source: &&Arc<Source>| !matches!(source.connector, Connector::Kafka(_)) || source.history.is_some();
    if let Some(source) = registry.sources.iter().find(fed_otherwise).filter(|_| role == Role::Ingest) {
        let message = format!(
            "a group of processes (--role ingest) reads topics only, but source `{}` is fed otherwise: run one process with --role all, or send its events through a topic",
            source.name
        );
        return Err(Failure::invalid("E5053", message));
    }
    let runtime = tokio::runtime::Handle::try_current()
        .map_err(|e| Failure::internal("E5014", format!("a shared store needs a runtime: {e}")))?;
    let store = runtime.block_on(RedisStore::open(settings)).map_err(unusable)?;
    // Who only reads needs no more than that: readers come when a store is full, and may read from a replica.
    let is_reader = role == Role::Serve;
    if !is_reader {
        runtime.block_on(store.try_writes()).map_err(unusable)?;
    }
    let definitions = agree(registry, (&store, &runtime), is_reader, &settings.prefix)?;
    let (registry, stopping, trouble) = (registry.clone(), stopping.clone(), Default::default());
    let prefix = settings.prefix.clone();
    let neighbours =
        SharedFeed::new(collections.clone(), (memory.clone(), clock.clone()), (store.clone(), runtime.clone()));
    let neighbours = neighbours.map(Arc::new);
    Ok(SharedParts { registry, store, runtime, stopping, prefix, definitions, trouble, neighbours })
}

/// Says what the definitions are if nobody has, and makes sure that they are these; gives what is said.
fn agree(
    registry: &Arc<Registry>,
    (store, runtime): (&RedisStore, &tokio::runtime::Handle),
    is_reader: bool,
    prefix: &str,
) -> Result<String, Failure> {
    let ours: BTreeMap<String, String> = registry
        .views
        .iter()
        .filter(|view| view.stream.is_some())
        .map(|view| (view.name.clone(), format!("{:016x}", view.plan.hash)))
        .collect();
    let mut said = serde_json::json!({ "format": SHARED_FORMAT, "shards": SHARDS, "views": ours });
    // Whoever writes records has to number the changes of those that indexes follow: all do, or none does.
    let followed =
        |(at, view): (usize, &Arc<View>)| (view.is_declared() && registry.is_followed(at)).then(|| view.name.clone());
    let followed: BTreeSet<String> = registry.views.iter().enumerate().filter_map(followed).collect();
    if !followed.is_empty() {
        said["followed"] = serde_json::json!(followed);
    }
    let definitions = said.to_string();
    let said_before = if is_reader { runtime.block_on(store.agreed()).map_err(unusable)? } else { None };
    let agreed = match said_before {
        Some(agreed) => agreed,
        None => runtime.block_on(store.agree(&definitions)).map_err(unusable)?,
    };
    let theirs: serde_json::Value = serde_json::from_str(&agreed).unwrap_or_default();
    if theirs["format"] != said["format"] {
        let message = format!(
            "the shared store with prefix `{prefix}` is of another version of Tidemill (format {}, here {SHARED_FORMAT}); use that version, or another `prefix` under [redis], which is filled anew",
            theirs["format"]
        );
        return Err(Failure::invalid("E5051", message));
    }
    if theirs != said {
        let of = |name: &String| theirs["views"][name].as_str() != ours.get(name).map(String::as_str);
        let known = theirs["views"].as_object().into_iter().flat_map(|views| views.keys());
        let is_followed =
            |name: &&String| theirs["followed"].as_array().is_some_and(|names| names.iter().any(|n| n == *name));
        let turned = ours.keys().filter(|name| followed.contains(*name) != is_followed(name));
        let mut different: Vec<&String> = ours.keys().chain(known).filter(|name| of(name)).chain(turned).collect();
        different.sort_unstable();
        different.dedup();
        let message = format!(
            "the shared store with prefix `{prefix}` holds the views of other definitions (different: {}); use the definitions of the processes that run, or another `prefix` under [redis] for these",
            different.into_iter().cloned().collect::<Vec<_>>().join(", ")
        );
        return Err(Failure::invalid("E5051", message));
    }
    Ok(definitions)
}

/// A store that has events which this process could give out again was filled from another data directory.
pub(super) fn check_positions(shared: &SharedParts, memory: &Memory) -> Result<(), Failure> {
    let stored = shared.runtime.block_on(shared.store.furthest()).map_err(unusable)?;
    let state = memory.read();
    for (partition, next) in stored {
        let Some(source) = shared.registry.source(&partition.source) else { continue };
        let known = state.positions.get(&(source as u32, partition.partition)).copied().unwrap_or(0);
        // What Kafka has can be read again; what was pushed lies in the log alone.
        if next > known && !matches!(shared.registry.sources[source].connector, Connector::Kafka(_)) {
            let message = format!(
                "the shared store has events of {partition} up to {next}, of which the event log in data_dir has {known}: it was filled from another data directory; use that one, or another `prefix` under [redis]"
            );
            return Err(Failure::invalid("E5052", message));
        }
    }
    Ok(())
}

fn unusable(error: StoreError) -> Failure {
    Failure::invalid("E5050", error.to_string())
}
