//! A member of a consumer group: reads the partitions that the group gives it, and commits their events to the shared store.
//!
//! The group says who should own a partition; the token in the store decides who can write. So a member that was taken for dead
//! finds out at its next commit, and what is left of its work is thrown away. Where a partition goes on is what the store says.
//! What the store forgets is read from the topic again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::Rng;
use tidemill_features::time::rfc3339;

pub use super::held::GroupSource;
use super::held::{Held, Holding, Taken, print_of};
use super::members::{Member, MemberSource};
use super::owner::Disturbance;
use super::round::Arrived;
use super::{Engine, PartitionId, Parts};
use crate::failure::{Failure, Remedy};
use crate::ingest::kafka::GivenUp;
use crate::ingest::kafka::identity::{Loss, judge};
use crate::ingest::kafka::notes::Notes;
use crate::ingest::kafka::reading::Reading;
use crate::limits::{FEED_BYTES, KAFKA_NOTE_EVERY, KAFKA_PAUSE_MAX, SHARED_BARRIER, SHARED_ROUND_EVENTS, SHARED_SWEEP};
use crate::log::Frame;
use crate::online::Progress;
use crate::settings::KafkaSettings;
use crate::source::kafka::{Consumer, Fingerprint, GroupChange, Polled, TopicPartition, Trouble, probe};

/// Reads topics as one of a group.
pub struct Group {
    engine: Engine,
    parts: Parts,
    consumer: Consumer,
    settings: KafkaSettings,
    sources: Vec<GroupSource>,
    holding: Holding,
    /// what is lost of partitions that are not read until somebody decides
    lost: BTreeMap<PartitionId, (TopicPartition, Loss)>,
    /// partitions that came when something was away
    waiting: Vec<TopicPartition>,
    name: String,
    address: String,
}

/// Partitions that the store does not remember as it should, and what it says.
type Disturbed = BTreeMap<PartitionId, Option<Progress>>;

/// How long a poll waits for a first record.
const POLL: Duration = Duration::from_millis(20);
/// Pause before a record comes again whose schema could not be had.
const SCHEMA_PAUSE: Duration = Duration::from_millis(500);
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
            name,
            address,
        })
    }

    fn is_stopping(&self) -> bool {
        self.sources.iter().any(|source| source.feed.is_stopping())
    }

    /// Reads until the process stops, on a thread of its own.
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
        let mut pause = Duration::from_millis(100);
        while !self.is_stopping() {
            match self.work() {
                Ok(()) => break,
                Err(failure) if self.is_stopping() => {
                    tracing::debug!(%failure, "stopping");
                    break;
                }
                Err(failure) => {
                    tracing::error!(%failure, "the group member begins again");
                    self.look_again();
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
                let disturbed = self.engine.sweep()?;
                self.heal(disturbed)?;
                self.say_all(None);
                swept = Instant::now();
            }
            if barred.elapsed() >= SHARED_BARRIER {
                let disturbed = self.engine.barrier(None)?;
                self.heal(disturbed)?;
                barred = Instant::now();
            }
            if told.elapsed() >= KAFKA_NOTE_EVERY {
                self.tell_lag_tools();
                told = Instant::now();
            }
        }
        Ok(())
    }

    /// Takes and lets go of partitions as the group has decided.
    fn change_hands(&mut self) -> Result<(), Failure> {
        let mut is_asked = false;
        for change in self.consumer.changes() {
            match change {
                GroupChange::Assigned(partitions) => {
                    tracing::info!(?partitions, "partitions came");
                    is_asked = true;
                    self.waiting.extend(partitions);
                }
                GroupChange::Revoked(partitions) => {
                    tracing::info!(?partitions, "partitions go");
                    self.commit()?;
                    let disturbed = self.engine.barrier(None)?;
                    self.let_go(&partitions);
                    self.heal(disturbed)?;
                }
                GroupChange::Lost(partitions) => {
                    tracing::warn!(?partitions, "partitions were taken away");
                    self.let_go(&partitions);
                }
            }
        }
        let mut taken = Vec::new();
        for of in std::mem::take(&mut self.waiting) {
            match self.take_over(&of) {
                Ok(from) => taken.push((of, from)),
                Err(trouble) => {
                    self.say_all(Some(&trouble.to_string()));
                    tracing::warn!(%trouble, topic = of.topic, partition = of.partition, "the partition waits");
                    self.waiting.push(of);
                }
            }
        }
        // The group waits for an answer, also where there is nothing to take.
        if is_asked || !taken.is_empty() {
            let added = self.consumer.add(&taken);
            added.map_err(|trouble| Failure::new(Remedy::Unavailable, "E1057", trouble.to_string()))?;
        }
        Ok(())
    }

    fn let_go(&mut self, partitions: &[TopicPartition]) {
        for of in partitions {
            self.holding.let_go(of).iter().for_each(|held| self.engine.release(held.id));
            self.waiting.retain(|waiting| waiting != of);
            let lost = self.lost.extract_if(.., |_, (lost, _)| lost == of);
            lost.for_each(|(id, _)| self.engine.release(id));
        }
        self.show_lost();
        if let Err(trouble) = self.consumer.release(partitions) {
            tracing::debug!(%trouble, "the group was not told");
        }
    }

    /// Claims a partition for every source that reads it. Gives where it is to be read from: where the store says.
    fn take_over(&mut self, of: &TopicPartition) -> Result<u64, Trouble> {
        let away = |failure: Failure| Trouble::Retry(failure.to_string());
        let (low, high) = self.consumer.watermarks(of)?;
        let mut from = u64::MAX;
        for at in 0..self.sources.len() {
            if !self.sources[at].topics.topics.contains(&of.topic) {
                continue;
            }
            let number = self.topic_number(at, &of.topic, None).map_err(away)?;
            let id =
                (self.sources[at].feed.source, Notes::partition_number(number, of.partition).map_err(Trouble::Retry)?);
            let start = self.engine.claim(id).map_err(away)?;
            let (print, was_read) = self.engine.last_print(id);
            // A partition that was never read begins with what there is.
            let position = if was_read { start } else { start.max(low) };
            let recognised = self.recognise(of, print, (low, high))?;
            if let Some(loss) = judge((low, high), position, 0, recognised) {
                self.lost.insert(id, (of.clone(), loss));
                continue;
            }
            if position > start {
                tracing::info!(
                    topic = of.topic,
                    partition = of.partition,
                    "offsets 0 to {} were gone before the source began",
                    low - 1
                );
            }
            from = from.min(position);
            let mut reading = Reading::new(of.clone(), (number, id.1), (start, position, high));
            reading.from = position;
            self.holding.hold(of.clone(), Held { id, source: at, reading, print: None });
        }
        self.show_lost();
        // Where everything of it is lost, nothing that comes is taken.
        Ok(if from == u64::MAX { high } else { from })
    }

    fn topic_number(&self, at: usize, topic: &str, retired: Option<usize>) -> Result<usize, Failure> {
        let GroupSource { feed, topics, .. } = &self.sources[at];
        let of = (feed.definition().name.as_str(), &topics.topics[..]);
        self.parts.runtime.block_on(self.parts.persist(|| self.parts.store.topic_number(of, topic, retired)))
    }

    /// Whether a partition has the record that came of it last; None: that record is gone.
    fn recognise(
        &self,
        of: &TopicPartition,
        print: Option<(u64, Option<i64>, u32)>,
        (low, high): (u64, u64),
    ) -> Result<Option<bool>, Trouble> {
        let Some(print) = print.filter(|print| (low..high).contains(&print.0)) else { return Ok(None) };
        let found = probe(&self.settings, &[(of.clone(), print.0)])?;
        let there: Option<&Fingerprint> = found.get(of).and_then(Option::as_ref);
        Ok(there.map(|there| print_of(there) == print))
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

    /// Something that is read may not be what was read before: everything is claimed and compared anew.
    fn look_again(&mut self) {
        let all: Vec<TopicPartition> = self.holding.all().map(|held| held.reading.of.clone()).collect();
        for of in all {
            self.holding.let_go(&of).iter().for_each(|held| self.engine.release(held.id));
            if let Err(trouble) = self.consumer.release(std::slice::from_ref(&of)) {
                tracing::debug!(%trouble, "reading goes on");
            }
            if !self.waiting.contains(&of) {
                self.waiting.push(of);
            }
        }
    }

    /// Commits what was decoded. Bad events are in the log before the store goes beyond them.
    fn commit(&mut self) -> Result<(), Failure> {
        if !self.holding.has_events() {
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

    /// Goes on with partitions of which the store says something unexpected: from where it says, if they are still this
    /// member's; else without them.
    fn heal(&mut self, disturbed: Disturbed) -> Result<(), Failure> {
        for (id, stored) in disturbed {
            if !self.engine.owns(id) {
                continue;
            }
            let name = self.parts.named(id);
            if self.engine.judge(id, stored.as_ref()) == Disturbance::Fenced && !self.is_member(id) {
                tracing::warn!(partition = %name, "another process owns the partition; what is left of its work here is dropped");
                self.holding.let_go_of(id);
                self.engine.release(id);
                continue;
            }
            tracing::warn!(partition = %name, "the shared store has gone back in time; reading what it lacks again");
            let start = self.engine.claim(id)?;
            let Some((of, from)) = self.holding.begin_again(id, start) else { continue };
            let (low, _) = self.consumer.watermarks(&of).unwrap_or((0, 0));
            if from < low {
                self.holding.let_go_of(id);
                self.lost.insert(id, (of, Loss::Removed { from, to: low }));
                self.show_lost();
            } else if let Err(trouble) = self.consumer.seek(&of, from) {
                tracing::warn!(%trouble, "reading begins again");
                self.look_again();
            }
        }
        Ok(())
    }

    /// Asks the group whether it still counts this process as the owner of a partition.
    fn is_member(&self, id: PartitionId) -> bool {
        let held = self.holding.all().find(|held| held.id == id);
        held.is_some_and(|held| self.consumer.commit(&[(held.reading.of.clone(), held.reading.begins)], true).is_ok())
    }

    /// Lets partitions go on without what they have lost, where somebody has asked for it.
    fn hear_answers(&mut self) -> Result<(), Failure> {
        for at in 0..self.sources.len() {
            let Some(asked) = self.progress(at).take_asked() else { continue };
            let source = self.sources[at].feed.source;
            let lost: Vec<_> = self.lost.extract_if(.., |id, _| id.0 == source).collect();
            let mut given_up = Vec::new();
            for (id, (of, loss)) in lost {
                given_up.push(self.give_up(at, id, &of, &loss)?);
                // The group was answered for this partition before.
                self.look_again();
                if let Err(trouble) = self.consumer.release(std::slice::from_ref(&of)) {
                    tracing::debug!(%trouble, "nothing of it was read");
                }
                if !self.waiting.contains(&of) {
                    self.waiting.push(of);
                }
            }
            self.show_lost();
            let _ = asked.send(Ok(given_up));
        }
        Ok(())
    }

    fn give_up(&mut self, at: usize, id: PartitionId, of: &TopicPartition, loss: &Loss) -> Result<GivenUp, Failure> {
        let feed = &self.sources[at].feed;
        let (from, to, reason) = match loss {
            Loss::Removed { from, to } => (*from, Some(*to), "removed by retention before it was read"),
            Loss::Cut { from, .. } => (*from, None, "the topic was cut; what is left is read as another one"),
            Loss::Another { position } => {
                (*position, None, "the topic was made anew; the new one is read from its beginning")
            }
        };
        let reason = reason.to_string();
        let lost =
            GivenUp { topic: of.topic.clone(), partition: of.partition, from, to, reason, time: feed.clock.now() };
        let source = feed.definition().clone();
        tracing::warn!(source = source.name, ?lost, "the source goes on without what it has lost");
        let said = serde_json::to_string(&lost).unwrap_or_default();
        self.parts.runtime.block_on(self.parts.persist(|| self.parts.store.give_up(&source.name, &said)))?;
        match to {
            // Events that span what is lost, and are none.
            Some(to) => {
                let frame = Frame::empty(&source, id.1, (from, to - from), feed.clock.now());
                let disturbed = self.engine.round(&[Arrived { source: id.0, frame, print: None }])?.disturbed;
                if !disturbed.is_empty() {
                    return Err(Failure::new(Remedy::Unavailable, "E1058", "the partition changed hands; ask again"));
                }
            }
            None => {
                let number = (id.1 >> 16) as usize;
                self.topic_number(at, &of.topic, Some(number))?;
            }
        }
        self.engine.release(id);
        Ok(lost)
    }

    fn progress(&self, at: usize) -> &crate::ingest::kafka::KafkaProgress {
        let feed = &self.sources[at].feed;
        &feed.ingest.pending[feed.source].kafka
    }

    /// Says which sources have stopped, and why.
    fn show_lost(&self) {
        for at in 0..self.sources.len() {
            let feed = &self.sources[at].feed;
            let said: Vec<String> =
                self.lost.iter().filter(|(id, _)| id.0 == feed.source).map(|(_, (of, loss))| loss.said(of)).collect();
            let source = &feed.definition().name;
            let why = (!said.is_empty()).then(|| {
                format!("{}; `tidemill source resume {source} --accept-loss` goes on without", said.join("; "))
            });
            if self.progress(at).state().halted != why {
                if let Some(why) = &why {
                    tracing::error!(source, "partitions have stopped, and what is there is served as stale: {why}");
                }
                self.progress(at).set(|state| state.halted = why);
            }
        }
    }

    /// Says how this process is, to all others. `trouble` is why nothing comes in.
    fn say_all(&mut self, trouble: Option<&str>) {
        let pulse = self.consumer.pulse();
        let positions = self.engine.positions();
        let mut said = Member { role: "ingest".into(), address: self.address.clone(), ..Member::default() };
        for at in 0..self.sources.len() {
            let feed = &self.sources[at].feed;
            let (source, now) = (feed.definition().name.clone(), feed.clock.now());
            said.at = now;
            let (mut complete_to, mut lag, mut numbers) = (i64::MAX, 0, Vec::new());
            for held in self.holding.all_mut().filter(|held| held.source == at) {
                let applied = positions.get(&held.id).copied().unwrap_or(0);
                let of = pulse.as_ref().and_then(|pulse| pulse.partitions.iter().find(|p| p.of == held.reading.of));
                if let Some(of) = of {
                    held.reading.hear(of, applied, now);
                }
                complete_to = complete_to.min(held.reading.complete_to(applied, now));
                lag += held.reading.lag(applied);
                numbers.push(held.id.1);
            }
            let halted = self.progress(at).state().halted;
            let trouble = trouble.map(str::to_string).or(halted);
            if trouble.is_some() {
                complete_to = complete_to.min(now);
            }
            // A member without partitions says nothing of a source.
            if !numbers.is_empty() || trouble.is_some() {
                said.sources.insert(source.clone(), MemberSource { complete_to, lag, trouble });
                said.partitions.insert(source, numbers);
            }
        }
        let text = serde_json::to_string(&said).unwrap_or_default();
        if let Err(error) = self.parts.runtime.block_on(self.parts.store.say(&self.name, &text)) {
            tracing::debug!(%error, at = rfc3339(said.at), "others were not told");
        }
    }

    /// Kafka's own offsets are for lag tools alone.
    fn tell_lag_tools(&self) {
        let positions = self.engine.positions();
        let held = self.holding.all().filter_map(|held| Some((held.reading.of.clone(), *positions.get(&held.id)?)));
        let told: Vec<(TopicPartition, u64)> = held.filter(|(_, next)| *next > 0).collect();
        if !told.is_empty()
            && let Err(trouble) = self.consumer.commit(&told, false)
        {
            tracing::debug!(%trouble, "lag tools were not told");
        }
    }

    /// Commits what is under way, and lets others take over at once.
    fn leave(&mut self) {
        let committed = self.commit().and_then(|()| self.engine.barrier(None).map(drop));
        if let Err(failure) = committed {
            tracing::warn!(%failure, "whoever takes over reads a little more");
        }
        self.tell_lag_tools();
        let _ = self.parts.runtime.block_on(self.parts.store.forget(std::slice::from_ref(&self.name)));
    }
}
