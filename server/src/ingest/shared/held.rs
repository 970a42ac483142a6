//! What a member of a group holds: partitions of topics, each with the sources that read it.

use std::collections::BTreeMap;

use tidemill_features::definitions::{Connector, KafkaTopics};
use tokio::runtime::Handle;

use super::PartitionId;
use super::round::Arrived;
use crate::failure::Failure;
use crate::ingest::feed::Feed;
use crate::ingest::kafka::messages_of;
use crate::ingest::kafka::reading::{Chunk, Reading};
use crate::ingest::sequencer::framed;
use crate::online::Print;
use crate::settings::KafkaSettings;
use crate::source::kafka::{Fingerprint, Record, TopicPartition, take};
use crate::source::{Decoded, MessageReader};

/// A source that is read by a group.
pub struct GroupSource {
    /// what it needs
    pub feed: Feed,
    /// what it reads
    pub topics: KafkaTopics,
    /// how it reads messages
    pub messages: MessageReader,
}

impl GroupSource {
    /// None: the source reads no topics.
    pub fn new(feed: Feed, settings: &KafkaSettings) -> Option<Result<GroupSource, Failure>> {
        let Connector::Kafka(topics) = feed.definition().connector.clone() else { return None };
        let messages = messages_of(&feed, settings).map_err(|what| Failure::invalid("E1057", what));
        Some(messages.map(|messages| GroupSource { feed, topics, messages }))
    }
}

/// A partition of a topic for one source.
pub(super) struct Held {
    pub id: PartitionId,
    /// place of the source among those of the group
    pub source: usize,
    pub reading: Reading,
    /// how the last record looked
    pub print: Option<Print>,
}

/// Partitions of topics, each with what its sources hold of it.
#[derive(Default)]
pub(super) struct Holding {
    held: BTreeMap<TopicPartition, Vec<Held>>,
}

/// Events that came, and those of them that are bad.
pub(super) struct Taken {
    pub arrived: Arrived,
    /// what goes into the log: bad events at their places, where there are any
    pub letters: Option<Decoded>,
    pub source: usize,
}

pub(super) fn print_of(record: &Fingerprint) -> Print {
    (record.offset, record.timestamp, record.checksum)
}

impl Holding {
    /// Takes a partition in, for one source after the other.
    pub(super) fn hold(&mut self, of: TopicPartition, held: Held) {
        let all = self.held.entry(of).or_default();
        all.retain(|other| other.id != held.id);
        all.push(held);
    }

    /// Lets go of a partition of a topic; gives what was held of it.
    pub(super) fn let_go(&mut self, of: &TopicPartition) -> Vec<Held> {
        self.held.remove(of).unwrap_or_default()
    }

    /// Lets go of it for one source.
    pub(super) fn let_go_of(&mut self, id: PartitionId) {
        self.held.values_mut().for_each(|all| all.retain(|held| held.id != id));
    }

    /// Everything that is held.
    pub(super) fn all(&self) -> impl Iterator<Item = &Held> {
        self.held.values().flatten()
    }

    /// The same, to be changed.
    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        self.held.values_mut().flatten()
    }

    /// Begins a partition again from an offset; what was decoded of it is forgotten. Gives from where its topic is to be read.
    pub(super) fn begin_again(&mut self, id: PartitionId, start: u64) -> Option<(TopicPartition, u64)> {
        let (of, all) = self.held.iter_mut().find(|(_, all)| all.iter().any(|held| held.id == id))?;
        for held in all.iter_mut() {
            if held.id == id {
                held.reading.begin_again(start);
            }
            // The topic is read again for all who read it: what they have decoded and not sent comes again.
            held.reading.from = held.reading.begins;
            held.reading.chunk = None;
        }
        let from = all.iter().map(|held| held.reading.from).min()?;
        Some((of.clone(), from))
    }

    /// Decodes a record for each source that reads it. Err: why one of them could not, because its schema cannot be had now; the
    /// record is to come again.
    pub(super) fn take(
        &mut self,
        record: &Record<'_>,
        sources: &[GroupSource],
        runtime: &Handle,
    ) -> Result<(), (TopicPartition, String)> {
        let of = TopicPartition { topic: record.topic().to_string(), partition: record.partition() };
        let Some(all) = self.held.get_mut(&of) else { return Ok(()) };
        for held in all.iter_mut().filter(|held| held.reading.from <= record.offset()) {
            let GroupSource { feed, topics, messages } = &sources[held.source];
            let reading = &mut held.reading;
            let (begins, is_first) = (reading.begins, reading.chunk.is_none());
            let chunk = reading.chunk.get_or_insert_with(|| Chunk {
                decoder: feed.decoder(),
                print: Fingerprint::of(record),
                newest: i64::MIN,
            });
            chunk.decoder.skip_to(record.offset() - begins);
            let definition = (&**feed.definition(), topics);
            while let Err(needed) = take(record, definition, messages, &mut chunk.decoder) {
                if let Err(away) = runtime.block_on(messages.learn(&needed, feed.clock.now())) {
                    if is_first {
                        reading.chunk = None;
                    }
                    return Err((of, away.to_string()));
                }
            }
            chunk.newest = chunk.newest.max(record.timestamp().unwrap_or(chunk.decoder.now()));
            reading.from = record.offset() + 1;
            held.print = Some(print_of(&Fingerprint::of(record)));
        }
        Ok(())
    }

    /// Whether anything was decoded.
    pub(super) fn has_events(&self) -> bool {
        self.all().any(|held| held.reading.chunk.is_some())
    }

    /// What was decoded since the last time, each partition from where it was left.
    pub(super) fn decoded(&mut self, sources: &[GroupSource]) -> Vec<Taken> {
        let mut all = Vec::new();
        for held in self.all_mut() {
            let Some(Chunk { decoder, newest, .. }) = held.reading.chunk.take() else { continue };
            let accepted_at = decoder.now();
            let decoded = decoder.finish();
            let begins = held.reading.begins;
            let (bad, consumed) = (decoded.bad.clone(), decoded.consumed);
            let letters = (!bad.is_empty()).then_some(Decoded { consumed, batches: Vec::new(), bad });
            let definition = sources[held.source].feed.definition();
            let frame = framed(definition, (held.reading.number, begins), accepted_at, decoded);
            held.reading.sent(begins + consumed, newest);
            let arrived = Arrived { source: held.id.0, frame, print: held.print };
            all.push(Taken { arrived, letters, source: held.source });
        }
        all
    }
}
