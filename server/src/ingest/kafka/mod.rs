//! Feeding the topics of a source in: each partition of a topic is a partition of the source, its events have the offsets that
//! Kafka gave them, and reading goes on where the event log ends. What Kafka's consumer groups remember is never read.
//!
//! `KafkaFeed` looks before it reads (`identity`: is it still the same topic, and does it have what comes next?), then reads
//! until something is in doubt (`session`), and looks again. `reading` is one partition, `flight` what is on its way to the log.
//! `notes` are what is remembered beside the positions; `progress` is what others see.

mod flight;
pub(super) mod identity;
pub(super) mod notes;
mod progress;
pub(super) mod reading;
mod session;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rand::Rng;
use tidemill_features::definitions::{Connector, HISTORY_PARTITIONS, KafkaTopics};
use tokio::runtime::Handle;

pub use self::progress::{GivenUp, KafkaProgress, KafkaState};

use self::identity::{Found, Look, Stop};
use self::notes::Notes;
use self::reading::Reading;
use self::session::{Ended, Session};
use super::feed::Feed;
use crate::failure::{Failure, Remedy};
use crate::limits::KAFKA_PAUSE_MAX;
use crate::settings::KafkaSettings;
use crate::source::kafka::{Consumer, Producer};
use crate::source::{MessageReader, SchemaRegistry};

/// First pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a feed that does nothing looks whether it should.
const GLANCE: Duration = Duration::from_millis(50);

/// Reads the topics of a source.
pub struct KafkaFeed {
    feed: Feed,
    topics: KafkaTopics,
    settings: KafkaSettings,
    runtime: Handle,
}

/// What a feed holds once it runs.
struct Parts {
    consumer: Consumer,
    /// for bad events
    producer: Option<Producer>,
    /// by number of the partition: bad events before this offset are in their topic
    dead_sent: HashMap<u32, u64>,
    notes: Notes,
    /// what the payloads are
    messages: MessageReader,
}

/// Reads the messages of a source, by schemas of files or of a registry.
pub(super) fn messages_of(feed: &Feed, settings: &KafkaSettings) -> Result<MessageReader, String> {
    let of_registry = &settings.registry;
    let registry = (!of_registry.urls.is_empty()).then(|| SchemaRegistry::open(of_registry.clone())).transpose();
    let source = feed.registry.sources[feed.source].clone();
    let messages = registry.and_then(|registry| MessageReader::open(source, &feed.project, registry));
    messages.map_err(|failure| failure.to_string())
}

impl KafkaFeed {
    /// None: the source reads no topics. From here on reads know whether it is behind.
    pub fn new(feed: Feed, settings: KafkaSettings, runtime: Handle) -> Option<KafkaFeed> {
        let Connector::Kafka(topics) = feed.definition().connector.clone() else { return None };
        let feed = KafkaFeed { feed, topics, settings, runtime };
        feed.progress().begin();
        Some(feed)
    }

    fn progress(&self) -> &KafkaProgress {
        &self.feed.ingest.pending[self.feed.source].kafka
    }

    fn source(&self) -> &str {
        &self.feed.definition().name
    }

    /// Reads until the server stops, on a thread of its own.
    pub fn run(self) {
        let mut parts = match self.parts() {
            Ok(parts) => parts,
            Err(why) => return self.stop_for_good(&why),
        };
        self.progress().set(|state| state.given_up = parts.notes.given_up.clone());
        let mut pause = PAUSE;
        while !self.feed.is_stopping() {
            let ended = match self.look(&mut parts, false, &mut Vec::new()) {
                Ok(found) => {
                    self.show(&parts.notes, &found);
                    let (ended, has_kept) = Session::new(&self, &mut parts, found).run();
                    pause = if has_kept { PAUSE } else { pause };
                    ended
                }
                Err(Stop::Retry(why)) => Ended::Retry(why),
                Err(Stop::Halt(why)) => {
                    self.wait_for_resume(&mut parts, &why);
                    Ended::Look
                }
            };
            match ended {
                Ended::Stopping => break,
                // Should the same doubt come again and again, it comes slowly.
                Ended::Look => self.sleep(PAUSE),
                Ended::Retry(why) => {
                    self.progress().wait(self.source(), &why);
                    self.sleep(pause.mul_f64(rand::rng().random_range(0.5..1.0)));
                    pause = (pause * 2).min(KAFKA_PAUSE_MAX);
                }
            }
        }
        if let Err(error) = parts.notes.keep() {
            tracing::warn!(source = self.source(), error, "what is known of the topics was not kept");
        }
    }

    fn parts(&self) -> Result<Parts, String> {
        let notes = Notes::load(&self.feed.data_dir, self.source())?;
        let state = self.feed.memory.read();
        let of_source = |(source, number): &(u32, u32)| {
            (*source == self.feed.source as u32 && *number < HISTORY_PARTITIONS).then_some(*number)
        };
        if notes.is_new && Notes::are_needed_for(state.positions.keys().filter_map(of_source)) {
            let path = notes.path().display();
            return Err(format!(
                "{path} is missing, which says which topic each position is of: restore it from a copy"
            ));
        }
        drop(state);
        // Lag is known as finely as somebody wants to know it.
        let wanted = self.feed.definition().max_lag.map_or(Duration::MAX, |lag| Duration::from_micros(lag as u64 / 4));
        let pulse = wanted.clamp(Duration::from_millis(100), Duration::from_secs(1));
        let consumer = Consumer::new(&self.settings, pulse)?;
        let producer = self.topics.dead_letter_topic.as_ref().map(|_| Producer::new(&self.settings)).transpose()?;
        let messages = messages_of(&self.feed, &self.settings)?;
        Ok(Parts { consumer, producer, dead_sent: HashMap::new(), notes, messages })
    }

    fn stop_for_good(&self, why: &str) {
        tracing::error!(source = self.source(), why, "E1057: the source is not read");
        self.progress().set(|state| state.halted = Some(format!("E1057: {why}")));
        while !self.feed.is_stopping() {
            if let Some(asked) = self.progress().take_asked() {
                let _ = asked.send(Err(Failure::invalid("E1057", why.to_string())));
            }
            self.sleep(GLANCE);
        }
    }

    /// Compares the topics with what is known of them; with `accept` losses are given up.
    fn look(&self, parts: &mut Parts, accept: bool, given_up: &mut Vec<GivenUp>) -> Result<Found, Stop> {
        let next_offset = |number| self.feed.next_offset(number);
        Look {
            source: self.source(),
            consumer: &parts.consumer,
            settings: &self.settings,
            topics: &self.topics.topics,
            notes: &mut parts.notes,
            next_offset: &next_offset,
            now: self.feed.clock.now(),
        }
        .run(accept, given_up)
    }

    fn show(&self, notes: &Notes, found: &Found) {
        self.progress().set(|state| {
            state.cluster = notes.cluster.clone();
            state.given_up = notes.given_up.clone();
            let number = |reading: &Reading| (reading.number, (reading.of.topic.clone(), reading.of.partition));
            state.partitions = found.readings.iter().map(number).collect();
        });
    }

    /// Halts the source until somebody lets it go on without what is lost, or until nothing is lost any more: brokers may have
    /// been behind, or others.
    #[allow(clippy::disallowed_methods)]
    fn wait_for_resume(&self, parts: &mut Parts, why: &str) {
        let source = self.source();
        let why = format!("{why}; `tidemill source resume {source} --accept-loss` goes on without");
        tracing::error!(source, "the source has stopped, and what is there is served as stale: {why}");
        self.progress().set(|state| (state.waiting, state.halted) = (None, Some(why)));
        let mut looked = Instant::now();
        while !self.feed.is_stopping() {
            let asked = self.progress().take_asked();
            if asked.is_none() && looked.elapsed() < KAFKA_PAUSE_MAX {
                parts.consumer.serve();
                self.sleep(GLANCE);
                continue;
            }
            let mut lost = Vec::new();
            let looked_at = self.look(parts, asked.is_some(), &mut lost);
            looked = Instant::now();
            match looked_at {
                Err(Stop::Retry(why) | Stop::Halt(why)) if lost.is_empty() => {
                    let failure = Failure::new(Remedy::Unavailable, "E1058", format!("the source stays halted: {why}"));
                    asked.map(|asked| asked.send(Err(failure)));
                }
                // What was given up is given up, whatever comes next.
                _ => {
                    let given_up = parts.notes.given_up.clone();
                    self.progress().set(|state| (state.halted, state.given_up) = (None, given_up));
                    asked.map(|asked| asked.send(Ok(lost)));
                    return;
                }
            }
        }
    }

    /// Sleeps, but not beyond the server's end.
    fn sleep(&self, mut left: Duration) {
        while !left.is_zero() && !self.feed.is_stopping() {
            let step = left.min(GLANCE);
            std::thread::sleep(step);
            left -= step;
        }
    }
}
