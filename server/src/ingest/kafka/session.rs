//! Reading some partitions until something is in doubt: records are decoded as they come, and go into the event log in chunks of
//! whatever has come since the last one. Memory is bounded: so many chunks are on their way, and while they are nothing is polled,
//! so that the client library stops fetching; what is durable waits in a queue that has an end, too.

use std::collections::BTreeSet;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::flight::{Flight, Refused};
use super::identity::Found;
use super::reading::{Chunk, Reading};
use super::{GLANCE, KafkaFeed, Parts};
use crate::limits::{FEED_BYTES, FEED_ROWS, KAFKA_LOOK_EVERY, KAFKA_NOTE_EVERY};
use crate::source::kafka::{
    DeadRecord, Fingerprint, Partitions, Polled, Producer, Pulse, Record, TopicPartition, Trouble, take,
};
use crate::source::{Decoded, MessageReader, NeedsSchema};

/// How long a poll waits for a first record.
const POLL: Duration = Duration::from_millis(50);
/// How long nobody may answer before it is said: connections come and go.
const AWAY: Duration = Duration::from_secs(2);

/// Partitions that are being read.
pub(super) struct Session<'f> {
    of: &'f KafkaFeed,
    parts: &'f mut Parts,
    readings: Vec<Reading>,
    missing: Vec<String>,
    flight: Flight,
    /// the place of the partition whose record came last
    last: usize,
    /// whether something was wrong since the last pulse
    in_trouble: bool,
    /// when brokers were there last
    connected: Instant,
    looked: Instant,
    /// a look that is under way
    look: Option<JoinHandle<Result<Partitions, Trouble>>>,
    /// why the last look has found nothing out
    unlooked: Option<String>,
    noted: Instant,
    told: Vec<(TopicPartition, u64)>,
    /// why the record that came last was not taken in: its schema cannot be had now
    waiting: Option<String>,
}

/// Why reading ended.
pub(super) enum Ended {
    /// the server stops
    Stopping,
    /// look at the topics again
    Look,
    /// after a pause
    Retry(String),
}

impl<'f> Session<'f> {
    #[allow(clippy::disallowed_methods)]
    pub(super) fn new(of: &'f KafkaFeed, parts: &'f mut Parts, found: Found) -> Self {
        let Found { readings, missing } = found;
        let now = Instant::now();
        Session {
            of,
            parts,
            readings,
            missing,
            flight: Flight::default(),
            last: 0,
            in_trouble: false,
            connected: now,
            looked: now,
            look: None,
            unlooked: None,
            noted: now,
            told: Vec::new(),
            waiting: None,
        }
    }

    /// Reads. Gives why it has ended, and whether anything got into the log.
    pub(super) fn run(mut self) -> (Ended, bool) {
        let positions: Vec<_> =
            self.readings.iter().map(|reading| (reading.of.clone(), reading.fetched_from())).collect();
        let mut ended = self.parts.consumer.assign(&positions).map_err(Ended::from);
        while ended.is_ok() {
            ended = self.step();
        }
        let _ = self.parts.consumer.unassign();
        // What is on its way gets its place before anybody asks where the log ends.
        let feed = &self.of.feed;
        let kept = self.flight.land(&self.of.runtime);
        for (number, next) in kept {
            while feed.next_offset(*number) < *next && !feed.is_stopping() {
                std::thread::sleep(GLANCE);
            }
        }
        (ended.err().unwrap_or(Ended::Look), !kept.is_empty())
    }

    /// Takes in what has come.
    fn step(&mut self) -> Result<(), Ended> {
        if self.of.feed.is_stopping() {
            return Err(Ended::Stopping);
        }
        let doubt = self.take_records();
        if doubt.is_some() {
            // Some of what was just polled may be of another topic of the same name. Nothing of it has gone anywhere.
            self.readings.iter_mut().for_each(|reading| reading.chunk = None);
        }
        self.send()?;
        self.flight.settle(&self.of.runtime)?;
        self.hear();
        self.note()?;
        if let Some(why) = self.waiting.take() {
            return Err(if self.of.feed.is_stopping() { Ended::Stopping } else { Ended::Retry(why) });
        }
        if let Some(why) = doubt {
            tracing::debug!(source = self.of.source(), "looking at the topics again: {why}");
            return Err(Ended::Look);
        }
        self.look_for_partitions()
    }

    /// Decodes records until there are none for now, or enough. Some: what is read may not be what was read before.
    fn take_records(&mut self) -> Option<String> {
        let (mut rows, mut bytes, mut timeout) = (0, 0, POLL);
        let consumer = self.parts.consumer.clone();
        while rows < FEED_ROWS && bytes < FEED_BYTES {
            match consumer.poll(timeout) {
                Polled::Nothing => break,
                Polled::Record(record) => {
                    (rows, bytes) = (rows + 1, bytes + record.bytes());
                    self.take(&record);
                    if self.waiting.is_some() {
                        break;
                    }
                }
                Polled::Trouble(Trouble::Doubt(why)) => return Some(why),
                Polled::Trouble(Trouble::Retry(why)) => {
                    self.in_trouble = true;
                    self.of.progress().wait(self.of.source(), &why);
                    break;
                }
            }
            timeout = Duration::ZERO;
        }
        consumer.has_changed_topics().then(|| "a topic has another id".to_string())
    }

    fn take(&mut self, record: &Record<'_>) {
        let is_of =
            |reading: &Reading| reading.of.partition == record.partition() && reading.of.topic == record.topic();
        if !self.readings.get(self.last).is_some_and(is_of) {
            let Some(at) = self.readings.iter().position(is_of) else { return };
            self.last = at;
        }
        let feed = &self.of.feed;
        let reading = &mut self.readings[self.last];
        if record.offset() < reading.from {
            return;
        }
        let is_first = reading.chunk.is_none();
        let chunk = reading.chunk.get_or_insert_with(|| Chunk {
            decoder: feed.decoder(),
            print: Fingerprint::of(record),
            newest: i64::MIN,
        });
        chunk.decoder.skip_to(record.offset() - reading.begins);
        let of = (&**feed.definition(), &self.of.topics);
        while let Err(needed) = take(record, of, &self.parts.messages, &mut chunk.decoder) {
            // What the registry does not say now, the record waits for: reading goes on from it.
            if let Err(why) = learn(self.of, &self.parts.messages, &needed) {
                (self.waiting, self.in_trouble) = (Some(why), true);
                if is_first {
                    reading.chunk = None;
                }
                return;
            }
        }
        chunk.newest = chunk.newest.max(record.timestamp().unwrap_or(chunk.decoder.now()));
        reading.from = record.offset() + 1;
    }

    /// Sends what was decoded to the log.
    fn send(&mut self) -> Result<(), Ended> {
        self.know_new_partitions()?;
        for at in 0..self.readings.len() {
            let Some(Chunk { decoder, newest, print }) = self.readings[at].chunk.take() else { continue };
            let accepted_at = decoder.now();
            let decoded = decoder.finish();
            self.send_dead(at, &decoded)?;
            let reading = &mut self.readings[at];
            let begins = reading.begins;
            let next = begins + decoded.consumed;
            let place = (self.of.feed.source, reading.number, begins);
            let sent = self.of.runtime.block_on(self.of.feed.ingest.enqueue_at(place, accepted_at, decoded));
            self.flight.add(sent.map_err(|_| Ended::Stopping)?);
            reading.sent(next, newest);
            reading.print = Some(print);
        }
        Ok(())
    }

    /// How the first record of a partition looks is on the disk before the record is: there is always something to compare with.
    fn know_new_partitions(&mut self) -> Result<(), Ended> {
        let mut is_new = false;
        for reading in &self.readings {
            let Some(chunk) = &reading.chunk else { continue };
            let known = self.parts.notes.partition(reading.topic, reading.of.partition);
            if known.is_none_or(|known| known.fingerprints.is_empty()) {
                is_new = true;
                self.parts.notes.add_fingerprint(reading.topic, reading.of.partition, chunk.print.clone());
            }
        }
        if is_new { self.keep_notes() } else { Ok(()) }
    }

    fn keep_notes(&mut self) -> Result<(), Ended> {
        let kept = self.parts.notes.keep();
        kept.map_err(|e| Ended::Retry(format!("what is known of the topics cannot be kept: {e}")))
    }

    /// Sends bad events to their topic, if there is one. They are there before the log goes beyond them.
    fn send_dead(&mut self, at: usize, decoded: &Decoded) -> Result<(), Ended> {
        let Some(topic) = &self.of.topics.dead_letter_topic else { return Ok(()) };
        let Some(producer) = &self.parts.producer else {
            self.parts.producer = Some(Producer::new(&self.of.settings).map_err(Ended::Retry)?);
            return self.send_dead(at, decoded);
        };
        let reading = &self.readings[at];
        // What the log refused and is read again was sent before.
        let sent = self.parts.dead_sent.entry(reading.number).or_default();
        let dead: Vec<DeadRecord> = decoded
            .bad
            .iter()
            .filter(|bad| reading.begins + bad.index >= *sent)
            .map(|bad| DeadRecord {
                topic: reading.of.topic.clone(),
                partition: reading.of.partition,
                offset: reading.begins + bad.index,
                code: bad.code.clone(),
                reason: bad.reason.clone(),
                payload: bad.payload.clone(),
            })
            .collect();
        if dead.is_empty() {
            return Ok(());
        }
        match self.of.runtime.block_on(producer.send(topic, self.of.source(), &dead)) {
            Ok(()) => {
                *sent = reading.begins + decoded.consumed;
                Ok(())
            }
            // Some of its errors are for ever; another one begins anew.
            Err(trouble) => {
                self.parts.producer = Producer::new(&self.of.settings).ok();
                Err(trouble.into())
            }
        }
    }

    /// Takes in how far brokers and reader are apart, and tells those who read.
    fn hear(&mut self) {
        let pulse = self.parts.consumer.pulse();
        let now = self.of.feed.clock.now();
        let state = self.of.feed.memory.read();
        let (mut complete_to, mut lag) = (i64::MAX, 0);
        for reading in &mut self.readings {
            let applied = applied(&state.positions, self.of.feed.source, reading.number);
            let of_this = pulse.as_ref().and_then(|pulse| pulse.partitions.iter().find(|p| p.of == reading.of));
            if let Some(of_this) = of_this {
                reading.hear(of_this, applied, now);
            }
            complete_to = complete_to.min(reading.complete_to(applied, now));
            lag += reading.lag(applied);
        }
        drop(state);
        if self.readings.is_empty() || !self.missing.is_empty() {
            complete_to = i64::MIN;
        }
        self.of.progress().set_complete(complete_to, lag);
        if let Some(pulse) = pulse {
            self.hear_connection(&pulse, now);
        }
    }

    #[allow(clippy::disallowed_methods)]
    fn hear_connection(&mut self, pulse: &Pulse, now: i64) {
        if pulse.is_connected {
            self.connected = Instant::now();
        }
        let (progress, source) = (self.of.progress(), self.of.source());
        if self.connected.elapsed() > AWAY {
            let said = self.parts.consumer.said().map(|said| format!(" ({said})")).unwrap_or_default();
            progress.wait(source, &format!("no broker can be reached at {}{said}", self.parts.consumer.brokers()));
        } else if !self.missing.is_empty() {
            let missing = self.missing.join("`, `");
            let brokers = self.parts.consumer.brokers();
            progress
                .wait(source, &format!("topic `{missing}` does not exist at {brokers}: make it, or correct its name"));
        } else if let Some(away) = self.readings.iter().find(|reading| reading.unheard(now) > AWAY.as_micros() as i64) {
            let TopicPartition { topic, partition } = &away.of;
            let brokers = self.parts.consumer.brokers();
            progress
                .wait(source, &format!("the broker of topic `{topic}`, partition {partition}, is away ({brokers})"));
        } else if let Some(why) = &self.unlooked {
            progress.wait(source, why);
        } else if !self.in_trouble && pulse.is_connected {
            progress.go_on(source);
        }
        self.in_trouble = false;
    }

    /// Now and then: what is known of the topics goes to the disk, and lag tools are told.
    #[allow(clippy::disallowed_methods)]
    fn note(&mut self) -> Result<(), Ended> {
        if self.noted.elapsed() < KAFKA_NOTE_EVERY {
            return Ok(());
        }
        self.noted = Instant::now();
        for reading in &mut self.readings {
            let partition = (reading.topic, reading.of.partition);
            if let Some(print) = reading.print.take() {
                self.parts.notes.add_fingerprint(partition.0, partition.1, print);
            }
            if let Some(end) = reading.nothing_before {
                self.parts.notes.pass_over(partition, end);
            }
        }
        self.keep_notes()?;
        let state = self.of.feed.memory.read();
        let position =
            |reading: &Reading| (reading.of.clone(), applied(&state.positions, self.of.feed.source, reading.number));
        let positions: Vec<_> = self.readings.iter().map(position).filter(|(_, next)| *next > 0).collect();
        drop(state);
        if positions != self.told && !positions.is_empty() {
            if let Err(error) = self.parts.consumer.commit(&positions, false) {
                tracing::debug!(%error, "lag tools were not told");
            }
            self.told = positions;
        }
        Ok(())
    }

    /// New partitions, and topics that have come into being or gone, are found by looking. A thread of its own does it: a broker
    /// answers a connection's questions one by one, and the one before is for records that are yet to come.
    #[allow(clippy::disallowed_methods)]
    fn look_for_partitions(&mut self) -> Result<(), Ended> {
        if let Some(look) = self.look.take_if(|look| look.is_finished()) {
            match look.join() {
                Ok(Ok(partitions)) if !self.is_known(&partitions) => return Err(Ended::Look),
                Ok(Err(trouble)) => self.unlooked = Some(trouble.to_string()),
                _ => self.unlooked = None,
            }
            return Ok(());
        }
        if self.look.is_none() && self.looked.elapsed() >= KAFKA_LOOK_EVERY && self.connected.elapsed() <= AWAY {
            self.looked = Instant::now();
            let (consumer, topics) = (self.parts.consumer.clone(), self.of.topics.topics.clone());
            let look = std::thread::Builder::new().name("kafka-look".to_string());
            // Where there are no more threads, the next try finds what this one would have.
            self.look = look.spawn(move || consumer.partitions(&topics)).ok();
        }
        Ok(())
    }

    fn is_known(&self, partitions: &Partitions) -> bool {
        partitions.iter().all(|(topic, count)| {
            let known = self.readings.iter().filter(|reading| reading.of.topic == *topic);
            let known: BTreeSet<i32> = known.map(|reading| reading.of.partition).collect();
            known.len() as i32 == count.unwrap_or(0)
        })
    }
}

/// Fetches a schema; Err: the registry cannot say now, or the server stops.
fn learn(of: &KafkaFeed, messages: &MessageReader, needed: &NeedsSchema) -> Result<(), String> {
    of.runtime.block_on(async {
        let mut learning = std::pin::pin!(messages.learn(needed, of.feed.clock.now()));
        loop {
            tokio::select! {
                learned = &mut learning => return learned.map_err(|away| away.to_string()),
                () = tokio::time::sleep(GLANCE) => {
                    if of.feed.is_stopping() {
                        return Err("the server stops".to_string());
                    }
                }
            }
        }
    })
}

fn applied(positions: &std::collections::BTreeMap<(u32, u32), u64>, source: usize, number: u32) -> u64 {
    positions.get(&(source as u32, number)).copied().unwrap_or(0)
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full(why) => Ended::Retry(why),
            Refused::Stopping => Ended::Stopping,
        }
    }
}

impl From<Trouble> for Ended {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Retry(why) => Ended::Retry(why),
            Trouble::Doubt(_) => Ended::Look,
        }
    }
}
