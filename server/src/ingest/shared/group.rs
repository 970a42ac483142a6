//! A member of a consumer group: reads the partitions that the group gives it, and commits their events to the shared store.
//!
//! The group says who should own a partition; the token in the store decides who can write. So a member that was taken for dead
//! finds out at its next commit, and what is left of its work is thrown away. Where a partition goes on is what the store says.
//! What the store forgets is read from the topic again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::Rng;

pub use super::held::GroupSource;
use super::held::{Holding, Taken};
use super::{Engine, PartitionId, Parts};
use crate::failure::Failure;
use crate::ingest::kafka::identity::Loss;
use crate::limits::{FEED_BYTES, KAFKA_NOTE_EVERY, KAFKA_PAUSE_MAX, SHARED_BARRIER, SHARED_ROUND_EVENTS, SHARED_SWEEP};
use crate::online::Progress;
use crate::settings::KafkaSettings;
use crate::source::kafka::{Consumer, GroupChange, Polled, TopicPartition, Trouble};

/// Reads topics as one of a group.
pub struct Group {
    pub(super) engine: Engine,
    pub(super) parts: Parts,
    pub(super) consumer: Consumer,
    pub(super) settings: KafkaSettings,
    pub(super) sources: Vec<GroupSource>,
    pub(super) holding: Holding,
    /// what is lost of partitions that are not read until somebody decides
    pub(super) lost: BTreeMap<PartitionId, (TopicPartition, Loss)>,
    /// partitions that came when something was away
    pub(super) waiting: Vec<TopicPartition>,
    /// those of them that are just being claimed
    pub(super) coming: Vec<TopicPartition>,
    /// partitions that somebody else has claimed, and where each was left, until the group says whose they are
    pub(super) doubted: Vec<(TopicPartition, u64)>,
    /// sources of which the store lacks what it had, in partitions that nobody has for now
    pub(super) lacked: BTreeSet<usize>,
    /// by source and topic: ids that the store has been told
    pub(super) told_ids: BTreeMap<(usize, String), String>,
    /// what the group has decided and nobody has done yet
    pub(super) changes: VecDeque<GroupChange>,
    /// whether the group waits for an answer
    pub(super) owes_answer: bool,
    pub(super) name: String,
    pub(super) address: String,
}

/// Partitions that the store does not remember as it should, and what it says.
pub(super) type Disturbed = BTreeMap<PartitionId, Option<Progress>>;

/// How long a poll waits for a first record.
const POLL: Duration = Duration::from_millis(20);
/// Pause before a record comes again whose schema could not be had.
const SCHEMA_PAUSE: Duration = Duration::from_millis(500);
/// Pause before a member begins again whose work has failed; it doubles each time, until it has worked for a while.
const PAUSE: Duration = Duration::from_millis(100);
/// How often lag is measured.
const PULSE: Duration = Duration::from_millis(250);

impl Group {
    /// A member that holds nothing yet. It names itself by where it listens.
    pub fn new(
        parts: Parts,
        settings: &KafkaSettings,
        sources: Vec<GroupSource>,
        address: String,
    ) -> Result<Group, Failure> {
        // Those who fill a store of another prefix need every event, too: they are another group.
        let group = format!("{}-{}", settings.group, parts.prefix);
        let settings = &KafkaSettings { group, ..settings.clone() };
        let consumer = Consumer::new(settings, PULSE).map_err(|what| Failure::invalid("E1057", what))?;
        let name = format!("{address}#{:08x}", rand::random::<u32>());
        Ok(Group {
            engine: Engine::new(parts.clone()),
            parts,
            consumer,
            settings: settings.clone(),
            sources,
            holding: Holding::default(),
            lost: BTreeMap::new(),
            waiting: Vec::new(),
            coming: Vec::new(),
            doubted: Vec::new(),
            lacked: BTreeSet::new(),
            told_ids: BTreeMap::new(),
            changes: VecDeque::new(),
            owes_answer: false,
            name,
            address,
        })
    }

    fn is_stopping(&self) -> bool {
        self.sources.iter().any(|source| source.feed.is_stopping())
    }

    /// Reads until the process stops, on a thread of its own.
    #[allow(clippy::disallowed_methods)]
    pub fn run(mut self) {
        let topics: Vec<String> = self.sources.iter().flat_map(|source| source.topics.topics.clone()).collect();
        let mut topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        topics.sort_unstable();
        topics.dedup();
        if let Err(trouble) = self.consumer.subscribe(&topics) {
            self.say_all(Some(&trouble.to_string()));
            tracing::error!(%trouble, "E1057: the group cannot be joined");
            return;
        }
        let mut pause = PAUSE;
        while !self.is_stopping() {
            let begun = Instant::now();
            match self.work() {
                Ok(()) => break,
                Err(failure) if self.is_stopping() => {
                    tracing::debug!(%failure, "stopping");
                    break;
                }
                Err(failure) => {
                    tracing::error!(%failure, "the group member begins again");
                    self.look_again();
                    self.say_all(Some(&failure.to_string()));
                    if begun.elapsed() > KAFKA_PAUSE_MAX {
                        pause = PAUSE;
                    }
                    std::thread::sleep(pause.mul_f64(rand::rng().random_range(0.5..1.0)));
                    pause = (pause * 2).min(KAFKA_PAUSE_MAX);
                }
            }
        }
        self.leave();
    }

    /// Reads and commits.
    #[allow(clippy::disallowed_methods)]
    fn work(&mut self) -> Result<(), Failure> {
        let (mut swept, mut barred, mut told) = (Instant::now(), Instant::now(), Instant::now());
        while !self.is_stopping() {
            self.change_hands()?;
            self.take_records();
            self.commit()?;
            self.hear_answers()?;
            if swept.elapsed() >= SHARED_SWEEP {
                let (disturbed, _) = self.engine.sweep()?;
                self.heal(disturbed)?;
                self.ask_again();
                // One that has been given up may have left another number.
                self.told_ids.clear();
                self.say_all(None);
                swept = Instant::now();
            }
            if barred.elapsed() >= SHARED_BARRIER {
                let disturbed = self.engine.barrier(None)?;
                self.heal(disturbed)?;
                barred = Instant::now();
            }
            if told.elapsed() >= KAFKA_NOTE_EVERY {
                self.pass_markers();
                self.tell_lag_tools();
                told = Instant::now();
            }
        }
        Ok(())
    }

    /// Decodes records until there are none for now, or enough.
    fn take_records(&mut self) {
        let (mut rows, mut bytes, mut timeout) = (0, 0, POLL);
        let consumer = self.consumer.clone();
        while rows < SHARED_ROUND_EVENTS && bytes < FEED_BYTES {
            match consumer.poll(timeout) {
                Polled::Nothing => break,
                Polled::Record(record) => {
                    (rows, bytes) = (rows + 1, bytes + record.bytes());
                    let taken = self.holding.take(&record, &self.sources, &self.parts.runtime);
                    if let Err((of, why)) = taken {
                        self.wait_for(&of, record.offset(), &why);
                        break;
                    }
                }
                Polled::Trouble(Trouble::Retry(why)) => {
                    self.say_all(Some(&why));
                    break;
                }
                Polled::Trouble(Trouble::Doubt(why)) => {
                    tracing::warn!("looking at the topics again: {why}");
                    self.look_again();
                    break;
                }
            }
            timeout = Duration::ZERO;
        }
        if self.consumer.has_changed_topics() {
            // Some of what was just polled may be of another topic of the same name. Nothing of it has gone anywhere.
            self.consumer.topic_ids();
            tracing::warn!("looking at the topics again: one of them has another id");
            self.look_again();
        }
    }

    /// A record whose schema cannot be had now comes again.
    fn wait_for(&mut self, of: &TopicPartition, offset: u64, why: &str) {
        self.say_all(Some(why));
        std::thread::sleep(SCHEMA_PAUSE);
        if let Err(trouble) = self.consumer.seek(of, offset) {
            tracing::warn!(%trouble, "reading begins again");
            self.look_again();
        }
    }

    /// Commits what was decoded. Bad events are in the log before the store goes beyond them.
    pub(super) fn commit(&mut self) -> Result<(), Failure> {
        if !self.holding.has_events() || !self.tell_ids()? {
            return Ok(());
        }
        let mut arrived = Vec::new();
        for Taken { arrived: of, letters, source } in self.holding.decoded(&self.sources) {
            if let Some(letters) = letters {
                let feed = &self.sources[source].feed;
                let place = (of.source, of.frame.partition, of.frame.first_offset);
                let kept = feed.ingest.keep_letters(place, of.frame.accepted_at, letters);
                self.parts.runtime.block_on(kept)?;
            }
            arrived.push(of);
        }
        let disturbed = self.engine.round(&arrived)?.disturbed;
        self.heal(disturbed)
    }

    /// Commits what is under way, and lets others take over at once.
    fn leave(&mut self) {
        let committed = self.commit().and_then(|()| self.engine.barrier(None).map(drop));
        if let Err(failure) = committed {
            tracing::warn!(%failure, "whoever takes over reads a little more");
        }
        self.tell_lag_tools();
        self.consumer.leave();
        let _ = self.parts.runtime.block_on(self.parts.store.forget(std::slice::from_ref(&self.name)));
    }
}
