//! One round: the values of some entities are read, sent and acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_features::record::Outline;
use tidemill_features::service::{Keys, ReadPlan};

use super::mark::Mark;
use super::message::{Message, Messages};
use super::progress::SinkProgress;
use crate::components::Server;
use crate::failure::Failure;
use crate::ingest::ChangedKey;
use crate::limits::{GET_CELLS_MAX, SINK_AHEAD_MAX, SINK_READ_KEYS, SINK_SILENT};
use crate::online::Records;
use crate::place::shard_of;
use crate::serving::get::Answers;
use crate::serving::snapshot::decoded;
use crate::source::kafka::Publisher;

/// Keys on their way.
pub(super) struct Round {
    pub keys: Vec<ChangedKey>,
    /// what had been sent before it
    pub before: Mark,
    /// what is sent with it
    pub after: Mark,
    /// keys whose time has come, by the round that found them
    pub due: HashMap<u64, usize>,
}

/// Why a round does not end.
pub(super) enum Stop {
    /// the server stops
    Stopping,
    /// it is tried again; a connection that has refused something is made anew
    Wait { why: String, reconnect: bool },
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Wait { why: failure.to_string(), reconnect: false }
    }
}

/// What a round is sent with.
pub(super) struct Sending<'s> {
    pub server: &'s Server,
    pub at: usize,
    pub plan: &'s Arc<ReadPlan>,
    pub publisher: &'s Publisher,
}

/// What a round has sent.
#[derive(Default)]
pub(super) struct Sent {
    messages: u64,
    tombstones: u64,
    /// entities that an event changes which is dated ahead, and when
    pub ahead: Vec<(i64, ChangedKey)>,
    /// whether brokers were silent for long: the topic may be another one now
    pub has_waited: bool,
}

/// How long one look at deliveries takes: so long a stop waits at most.
const GLANCE: Duration = Duration::from_millis(50);

impl Sending<'_> {
    fn topic(&self) -> &str {
        &self.server.registry.sinks[self.at].topic
    }

    fn progress(&self) -> &SinkProgress {
        &self.server.sinks[self.at]
    }

    /// Sends the entities as they are now.
    pub(super) fn run(&self, keys: &[ChangedKey]) -> Result<Sent, Stop> {
        let mut ordered: Vec<&ChangedKey> = keys.iter().collect();
        let is_shared = self.server.reader.shared.is_some();
        if is_shared {
            // The answer of one shard names the log prefix that it saw.
            ordered.sort_by_cached_key(|key| shard_of(key));
        }
        let at_once = (GET_CELLS_MAX / self.plan.width.max(1)).clamp(1, SINK_READ_KEYS);
        let mut silence = Silence::new(self.publisher);
        let mut sent = Sent::default();
        for part in ordered.chunk_by(|a, b| !is_shared || shard_of(a) == shard_of(b)) {
            for part in part.chunks(at_once) {
                self.send(part, &mut silence, &mut sent)?;
            }
        }
        while self.publisher.hear(GLANCE) > 0 {
            self.go_on(&mut silence)?;
        }
        if let Some(trouble) = self.publisher.refused(self.topic()) {
            return Err(Stop::Wait { why: format!("E1080: {trouble}"), reconnect: true });
        }
        let now = self.server.clock.now();
        self.progress().set(|state| {
            state.sent_at = Some(now);
            state.messages += sent.messages;
            state.tombstones += sent.tombstones;
        });
        sent.has_waited = silence.has_lasted;
        Ok(sent)
    }

    /// Reads some entities at one T, and puts their messages on the way.
    fn send(&self, part: &[&ChangedKey], silence: &mut Silence, sent: &mut Sent) -> Result<(), Stop> {
        let registry = &self.server.registry;
        let sink = &registry.sinks[self.at];
        let owned: Vec<ChangedKey> = part.iter().map(|key| (*key).clone()).collect();
        let columns = decoded(&registry.views[sink.views[0]], &owned)
            .map_err(|_| Failure::internal("E2020", "a key of the state cannot be decoded"))?;
        let keys = Keys { columns, request: Vec::new(), rows: owned.len() };
        let answers: Answers = self.server.reader.get(self.plan.clone(), &keys, None)?;
        let is_table = |view: &usize| {
            let stream = registry.views[*view].stream.as_ref();
            stream.is_some_and(|stream| registry.sources[stream.source].is_table)
        };
        let messages = Messages::new(self.server, &answers, &keys, sink.views.iter().all(is_table));
        for row in 0..keys.rows {
            let Message::Send(key, value) = messages.of(row) else { continue };
            let refused = |trouble| Stop::Wait {
                why: format!("E1080: {trouble}; the key is {}", shown(&key)),
                reconnect: self.publisher.refused(self.topic()).is_some(),
            };
            while !self.publisher.send(&sink.topic, &key, value.as_deref()).map_err(refused)? {
                self.publisher.hear(GLANCE);
                self.go_on(silence)?;
            }
            sent.messages += 1;
            sent.tombstones += u64::from(value.is_none());
        }
        self.publisher.hear(Duration::ZERO);
        self.go_on(silence)?;
        self.find_ahead(owned, answers.read_time, &mut sent.ahead)?;
        Ok(())
    }

    /// Looks whether somebody wants an end, and says so where brokers are silent.
    fn go_on(&self, silence: &mut Silence) -> Result<(), Stop> {
        if self.server.stopping.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Stop::Stopping);
        }
        let sink = &self.server.registry.sinks[self.at].name;
        if silence.lasts(self.publisher) {
            let said = self.publisher.said().map(|said| format!(" ({said})")).unwrap_or_default();
            let brokers = self.publisher.brokers();
            self.progress()
                .wait(sink, &format!("E1080: {brokers} do not acknowledge messages to topic `{}`{said}", self.topic()));
        } else if silence.is_over {
            self.progress().go_on(sink);
        }
        Ok(())
    }

    /// Finds entities with an event that is dated at T or after it: they change when its time comes.
    fn find_ahead(
        &self,
        keys: Vec<ChangedKey>,
        read_time: i64,
        ahead: &mut Vec<(i64, ChangedKey)>,
    ) -> Result<(), Failure> {
        let registry = &self.server.registry;
        let views = &registry.sinks[self.at].views;
        let state = self.server.memory.read();
        let streams = views.iter().filter_map(|view| registry.views[*view].stream.as_ref());
        if !streams.into_iter().any(|stream| state.sources[stream.source].newest_event >= Some(read_time)) {
            return Ok(());
        }
        let newest_of =
            |record: Option<&[u8]>| record.and_then(|record| Outline::parse(record).ok()).map(|outline| outline.newest);
        let soon = |newest: &i64| (read_time..=read_time.saturating_add(SINK_AHEAD_MAX)).contains(newest);
        if self.server.reader.shared.is_none() {
            for key in keys {
                let newest = views.iter().filter_map(|view| newest_of(state.record(*view, &key))).filter(soon).max();
                ahead.extend(newest.map(|newest| (newest, key)));
            }
            return Ok(());
        }
        drop(state);
        for key in keys {
            let mut newest = None;
            for view in views {
                let look = |fetched: &crate::online::Fetched<'_>| newest_of(fetched.record(*view, &key));
                let found = self.server.reader.fetched(*view, &key, look).transpose()?.flatten();
                newest = newest.max(found.filter(soon));
            }
            ahead.extend(newest.map(|newest| (newest, key)));
        }
        Ok(())
    }
}

/// The beginning of a key, for messages.
fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).chars().take(200).collect()
}

/// How long brokers have acknowledged nothing.
struct Silence {
    delivered: u64,
    since: Instant,
    /// whether something was acknowledged since the last look
    is_over: bool,
    /// whether it has ever lasted too long
    has_lasted: bool,
}

impl Silence {
    fn new(publisher: &Publisher) -> Silence {
        Silence { delivered: publisher.delivered(), since: Instant::now(), is_over: false, has_lasted: false }
    }

    /// Whether it has lasted too long.
    fn lasts(&mut self, publisher: &Publisher) -> bool {
        let delivered = publisher.delivered();
        self.is_over = delivered != self.delivered;
        if self.is_over || publisher.hear(Duration::ZERO) == 0 {
            (self.delivered, self.since) = (delivered, Instant::now());
        }
        let lasts = self.since.elapsed() > SINK_SILENT;
        self.has_lasted |= lasts;
        lasts
    }
}
