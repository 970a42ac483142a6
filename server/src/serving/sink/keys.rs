//! Where the keys of a round come from when nobody tells them: from the event log, or from the state, shard by shard.

use std::collections::HashSet;

use tidemill_features::definitions::{Sink, Stream, View};
use tidemill_features::stream::Prepared;

use super::mark::Mark;
use crate::components::Server;
use crate::failure::Failure;
use crate::ingest::{ChangedKey, Reached, fitted};
use crate::limits::{ROUND_EVENTS, SHARDS, SINK_FILL_KEYS, SINK_KEY_OVERHEAD, SINK_KEYS_BYTES};
use crate::log::{Frame, LogError, LogReader};
use crate::place::shard_of;

/// Keys, and how far the sink is when they are sent.
pub(super) type Gathered = (HashSet<ChangedKey>, Mark);

/// Keys of events in the log, in its order.
#[derive(Default)]
pub(super) struct LogKeys {
    /// where the last round has left it
    reader: Option<LogReader>,
}

impl LogKeys {
    /// Keys of the next events behind a mark that can be read; None: the log does not have them any more.
    pub(super) fn next(
        &mut self,
        server: &Server,
        sink: &Sink,
        (from, reached): (&Mark, &Reached),
    ) -> Result<Option<Gathered>, Failure> {
        let mut reader = match self.reader.take().filter(|reader| reader.place() == from.place) {
            Some(reader) => reader,
            None => match LogReader::open(&server.log_folder, from.place) {
                Ok(reader) if reader.place() > from.place => return Ok(None),
                Ok(reader) => reader.of_sources(&sources(server, sink)),
                Err(error) => return broken(error),
            },
        };
        let (mut keys, mut after) = (HashSet::new(), from.clone());
        let (mut bytes, mut events) = (0, 0);
        while reader.place() < reached.place && bytes < SINK_KEYS_BYTES && events < ROUND_EVENTS {
            let read = match reader.next_frame() {
                Ok(Some(read)) => read,
                // It knows the segments that there were when it was opened.
                Ok(None) => {
                    after.place = after.place.max(reader.place());
                    return Ok(Some((keys, after)));
                }
                Err(error) => return broken(error),
            };
            after.place = reader.place();
            let mut frame = read.frame;
            let Some(source) = server.registry.source(&frame.source) else { continue };
            after.positions.insert((source as u32, frame.partition), frame.first_offset + frame.consumed);
            let of_source = |view: &&View| view.stream.as_ref().is_some_and(|stream| stream.source == source);
            let views: Vec<&View> =
                sink.views.iter().map(|at| &*server.registry.views[*at]).filter(of_source).collect();
            if views.is_empty() {
                continue;
            }
            fitted(&mut frame, &server.registry.sources[source]);
            events += frame.batches.iter().map(|batch| batch.len()).sum::<usize>();
            for (view, stream) in views.iter().filter_map(|view| Some((*view, view.stream.as_ref()?))) {
                bytes += add_keys(&mut keys, server, (view, stream), &frame);
            }
        }
        self.reader = Some(reader);
        Ok(Some((keys, after)))
    }

    /// The next keys are not behind those of the last round.
    pub(super) fn forget(&mut self) {
        self.reader = None;
    }
}

/// Retention may be faster than a sink; everything else is damage.
fn broken(error: LogError) -> Result<Option<Gathered>, Failure> {
    match error {
        LogError::CutMeanwhile => Ok(None),
        other => Err(other.failure("E1018")),
    }
}

fn sources<'s>(server: &'s Server, sink: &Sink) -> Vec<&'s str> {
    let streams = sink.views.iter().filter_map(|view| server.registry.views[*view].stream.as_ref());
    streams.map(|stream| server.registry.sources[stream.source].name.as_str()).collect()
}

/// Adds the keys of events that a view may have taken in. Gives the bytes of those that are new.
fn add_keys(keys: &mut HashSet<ChangedKey>, server: &Server, (view, stream): (&View, &Stream), frame: &Frame) -> usize {
    let source = &server.registry.sources[stream.source];
    let mut bytes = 0;
    for batch in &frame.batches {
        let prepared = Prepared::new(view, stream, source, batch);
        for row in 0..batch.len() {
            let Some(key) = prepared.key(row) else { continue };
            // A row that a table's `where` leaves out takes the one before it away.
            let counts = source.is_table || prepared.incoming(row).passes;
            if counts && !keys.contains(key) {
                bytes += key.len() + SINK_KEY_OVERHEAD;
                keys.insert(key.into());
            }
        }
    }
    bytes
}

/// Keys of all entities, shard by shard.
#[derive(Default)]
pub(super) struct StateKeys {
    /// by shard, where they lie in a shared store, which gives all of them at once
    listed: Option<Vec<HashSet<ChangedKey>>>,
}

impl StateKeys {
    /// The entities of some shards from one on, and the first shard that is not among them.
    pub(super) fn next(
        &mut self,
        server: &Server,
        sink: &Sink,
        first: usize,
    ) -> Result<(HashSet<ChangedKey>, usize), Failure> {
        let (mut keys, mut next) = (HashSet::new(), first);
        while next < SHARDS && keys.len() < SINK_FILL_KEYS {
            keys.extend(self.of_shard(server, sink, next)?);
            next += 1;
        }
        Ok((keys, next))
    }

    fn of_shard(&mut self, server: &Server, sink: &Sink, shard: usize) -> Result<HashSet<ChangedKey>, Failure> {
        if server.reader.shared.is_none() {
            let state = server.memory.read();
            let mut keys = HashSet::new();
            for view in &sink.views {
                // Of a view that is being built there is nothing yet.
                if !server.reader.is_complete(&*state, *view) {
                    return Err(server.reader.unfinished(&state, *view));
                }
                keys.extend(state.keys_of_shard(*view, shard).map(ChangedKey::from));
            }
            return Ok(keys);
        }
        let listed = match &mut self.listed {
            Some(listed) => listed,
            None => {
                let mut listed = vec![HashSet::new(); SHARDS];
                for view in &sink.views {
                    for key in server.reader.keys_of(*view)?.into_iter().flatten() {
                        listed[shard_of(&key)].insert(key);
                    }
                }
                self.listed.insert(listed)
            }
        };
        Ok(std::mem::take(&mut listed[shard]))
    }

    /// The next shard is not behind that of the last round.
    pub(super) fn forget(&mut self) {
        self.listed = None;
    }
}
