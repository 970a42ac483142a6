//! The life of a sink: round after round until the server stops, with pauses where something is away.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::Rng;
use tidemill_features::definitions::Sink as Definition;
use tidemill_features::service::ReadPlan;
use tokio::runtime::Handle;

use super::keys::{Gathered, LogKeys, StateKeys};
use super::mark::{self, Mark};
use super::progress::SinkProgress;
use super::round::{Round, Sending, Stop};
use super::unsettled::Unsettled;
use crate::components::Server;
use crate::ingest::{ChangedKey, Look};
use crate::limits::{KAFKA_PAUSE_MAX, SHARDS, SINK_NOTE_EVERY};
use crate::settings::KafkaSettings;
use crate::source::kafka::{Cleanup, Publisher, Trouble};

/// First pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a sink sleeps at once: so long a stop waits at most.
const GLANCE: Duration = Duration::from_millis(50);
/// A look at a shared store that begins when a round has ended is the second one to end at the latest.
const LOOKS: u64 = 2;

/// A sink that runs.
pub(super) struct Sink {
    server: Arc<Server>,
    /// place in the registry
    at: usize,
    plan: Arc<ReadPlan>,
    settings: KafkaSettings,
    runtime: Handle,
    path: PathBuf,
    publisher: Option<Publisher>,
    /// whether the topic was seen since something went wrong
    topic_is_there: bool,
    /// its id, where brokers tell it: another topic of the name has nothing of what was sent
    topic_id: Option<String>,
    mark: Mark,
    unsettled: Unsettled,
    /// what is being sent, until it is acknowledged
    round: Option<Round>,
    log_keys: LogKeys,
    state_keys: StateKeys,
    /// losses of a shared store and rebuilds of views that are known
    known: (u64, u64),
    /// the mark on the disk, and when it was written
    kept: Option<(Mark, Instant)>,
}

impl Sink {
    pub(super) fn new(
        server: Arc<Server>,
        at: usize,
        plan: Arc<ReadPlan>,
        (data_dir, kafka): (&Path, &KafkaSettings),
    ) -> Sink {
        let definition = &server.registry.sinks[at];
        let path = mark::path_of(data_dir, definition);
        let look = server.ingest.changes.look(at);
        let (mark, topic_id) = match mark::load(&path, definition, &server.registry, &look.reached) {
            Ok(Some(found)) => found,
            Ok(None) => (Mark::anew(&look.reached), None),
            Err(why) => {
                let path = path.display();
                tracing::warn!(
                    sink = definition.name,
                    "every entity is sent again, because {path} cannot be used: {why}"
                );
                (Mark::anew(&look.reached), None)
            }
        };
        let (known, runtime) = ((look.reached.losses, look.rebuilds), Handle::current());
        Sink {
            server,
            at,
            plan,
            settings: kafka.clone(),
            runtime,
            path,
            publisher: None,
            topic_is_there: false,
            topic_id,
            mark,
            unsettled: Unsettled::default(),
            round: None,
            log_keys: LogKeys::default(),
            state_keys: StateKeys::default(),
            known,
            kept: None,
        }
    }

    fn definition(&self) -> &Definition {
        &self.server.registry.sinks[self.at]
    }

    fn progress(&self) -> &SinkProgress {
        &self.server.sinks[self.at]
    }

    fn is_stopping(&self) -> bool {
        self.server.stopping.load(Ordering::Relaxed)
    }

    /// Publishes until the server stops.
    pub(super) fn run(mut self) {
        let mut pause = PAUSE;
        self.show();
        while !self.is_stopping() {
            match self.step() {
                Ok(()) => {
                    pause = PAUSE;
                    self.progress().go_on(&self.definition().name);
                }
                Err(Stop::Stopping) => break,
                Err(Stop::Wait { why, reconnect }) => {
                    self.progress().wait(&self.definition().name, &why);
                    self.topic_is_there = false;
                    if reconnect {
                        self.publisher = None;
                    }
                    self.sleep(pause.mul_f64(rand::rng().random_range(0.5..1.0)));
                    pause = (pause * 2).min(KAFKA_PAUSE_MAX);
                }
            }
        }
        self.keep(true);
    }

    /// One round, or a look whether there is something to send.
    fn step(&mut self) -> Result<(), Stop> {
        let (begun, before) = (Instant::now(), self.mark.clone());
        let look = self.server.ingest.changes.look(self.at);
        self.go_back(&look);
        let trouble = &self.server.ingest.trouble;
        if trouble.is_feeding() {
            return Err(Stop::Wait { why: trouble.why().unwrap_or_default(), reconnect: false });
        }
        self.connect()?;
        if self.round.is_none() {
            self.round = self.gather(&look)?;
        }
        let has_sent = match (&self.round, &self.publisher) {
            (Some(round), Some(publisher)) => {
                let sending = Sending { server: &self.server, at: self.at, plan: &self.plan, publisher };
                let sent = sending.run(&round.keys)?;
                self.topic_is_there &= !sent.has_waited;
                self.end_round(sent.ahead);
                true
            }
            _ => false,
        };
        self.unsettled.settle(look.reached.looks);
        self.look_at_id(&look);
        self.show();
        self.keep(false);
        let every = Duration::from_micros(self.definition().every as u64);
        let catches_up = before.fill.is_some() || !look.is_live;
        match has_sent || self.mark != before {
            // What is behind goes on at once.
            true if catches_up => {}
            true if has_sent => self.sleep(every.saturating_sub(begun.elapsed())),
            true => self.sleep(every.min(GLANCE)),
            false if catches_up || self.unsettled.is_full() => self.sleep(GLANCE),
            false => self.server.ingest.changes.wait(self.at, self.mark.place, GLANCE),
        }
        Ok(())
    }

    /// How often a shared store has to have been looked at until what was read by now is surely right.
    fn looks_needed(&self) -> u64 {
        self.server.ingest.changes.look(self.at).reached.looks + LOOKS
    }

    fn end_round(&mut self, ahead: Vec<(i64, ChangedKey)>) {
        let Some(Round { before, after, due, .. }) = self.round.take() else { return };
        match self.server.reader.shared {
            // What was read of a shared store may be of one that has just lost something.
            Some(_) => self.unsettled.add(before, ahead, self.looks_needed()),
            None if !ahead.is_empty() => self.unsettled.add(before, ahead, 0),
            None => {}
        }
        self.unsettled.sent(&due);
        self.mark = after;
    }

    /// Goes back to what is surely sent and right, where a shared store has lost something; to the beginning, where a view was
    /// derived anew.
    fn go_back(&mut self, look: &Look) {
        let (losses, rebuilds) = self.known;
        if (losses, rebuilds) == (look.reached.losses, look.rebuilds) {
            return;
        }
        self.known = (look.reached.losses, look.rebuilds);
        match (rebuilds == look.rebuilds, self.unsettled.before()) {
            (true, Some(before)) => self.mark = before.clone(),
            (true, None) => {}
            (false, _) => self.mark = Mark::anew(&look.reached),
        }
        self.begin_again();
    }

    /// A topic that was made anew has nothing: everything is sent again.
    fn look_at_id(&mut self, look: &Look) {
        let Some(publisher) = &self.publisher else { return };
        // Where nothing is sent, this is how news come.
        publisher.hear(Duration::ZERO);
        let Definition { name, topic, .. } = &self.server.registry.sinks[self.at];
        let Some(id) = publisher.topic_id(topic).filter(|id| self.topic_id.as_ref() != Some(id)) else { return };
        if self.topic_id.replace(id).is_some() {
            tracing::warn!(sink = name, "every entity is sent again, because topic `{topic}` was made anew");
            self.mark = Mark::anew(&look.reached);
            self.topic_is_there = false;
            self.begin_again();
        }
        self.kept = None;
    }

    /// Goes on from the mark alone.
    fn begin_again(&mut self) {
        self.unsettled.forget();
        self.round = None;
        self.log_keys.forget();
        self.state_keys.forget();
        self.server.ingest.changes.leave(self.at);
    }

    /// Connects, and looks at the topic.
    fn connect(&mut self) -> Result<(), Stop> {
        let wait = |why: String| Stop::Wait { why, reconnect: false };
        let publisher = match &self.publisher {
            Some(publisher) => publisher,
            None => {
                let made = Publisher::new(&self.settings);
                self.publisher.insert(made.map_err(|why| wait(format!("E1080: {why}")))?)
            }
        };
        if self.topic_is_there {
            return Ok(());
        }
        let Definition { name, topic, .. } = &self.server.registry.sinks[self.at];
        let cleanup = publisher.look_at(topic, &self.runtime).map_err(|trouble| match trouble {
            Trouble::Doubt(why) => wait(format!("E1081: {why}: create it, with cleanup.policy=compact")),
            Trouble::Retry(why) => wait(format!("E1080: {why}")),
        })?;
        let warning = match cleanup {
            Cleanup::Compacted | Cleanup::Unknown => None,
            Cleanup::Other(policy) => Some(format!(
                "E1082: topic `{topic}` is not compacted (cleanup.policy is {policy}): an entity that does not change is gone from \
                 it some day, and others have all of their messages"
            )),
        };
        let progress = &self.server.sinks[self.at];
        if let Some(warning) = warning.as_ref().filter(|_| progress.state().warning != warning) {
            tracing::warn!(sink = name, "{warning}");
        }
        progress.set(|state| state.warning = warning);
        self.topic_is_there = true;
        Ok(())
    }

    /// The keys of the next round; None: there is nothing to send.
    fn gather(&mut self, look: &Look) -> Result<Option<Round>, Stop> {
        let (keys, after) = match self.mark.fill {
            // No more is taken in until some of what waits has come to its time.
            _ if self.unsettled.is_full() => (HashSet::new(), self.mark.clone()),
            Some(shard) => {
                let definition = &self.server.registry.sinks[self.at];
                let (keys, next) = self.state_keys.next(&self.server, definition, shard)?;
                (keys, Mark { fill: Some(next).filter(|next| *next < SHARDS), ..self.mark.clone() })
            }
            None => match self.server.ingest.changes.take(self.at) {
                Some((keys, reached)) => (keys, Mark::at(reached)),
                None => self.gather_from_log(look)?,
            },
        };
        if self.mark.fill.is_some() && after.fill.is_none() {
            self.state_keys.forget();
        }
        let (due_keys, due) = self.unsettled.take_due(self.server.clock.now());
        let keys: Vec<_> = keys.into_iter().chain(due_keys).collect::<HashSet<_>>().into_iter().collect();
        if keys.is_empty() {
            let before = std::mem::replace(&mut self.mark, after);
            if before.fill.is_some() && self.server.reader.shared.is_some() {
                // A store that has just lost everything lists nothing.
                self.unsettled.add(before, Vec::new(), self.looks_needed());
            }
            return Ok(None);
        }
        Ok(Some(Round { keys, before: self.mark.clone(), after, due }))
    }

    /// Keys of events in the log; with the last of them, what is new is told from now on.
    fn gather_from_log(&mut self, look: &Look) -> Result<Gathered, Stop> {
        let definition = &self.server.registry.sinks[self.at];
        let Some((keys, after)) = self.log_keys.next(&self.server, definition, (&self.mark, &look.reached))? else {
            tracing::warn!(
                sink = definition.name,
                "every entity is sent again, because retention has cut events that the sink had not seen"
            );
            self.mark = Mark::anew(&look.reached);
            self.begin_again();
            return Ok((HashSet::new(), self.mark.clone()));
        };
        let is_whole = {
            let state = self.server.memory.read();
            let complete = |view: &usize| self.server.reader.is_complete(&*state, *view);
            self.server.reader.shared.is_some() || definition.views.iter().all(complete)
        };
        if is_whole && self.server.ingest.changes.follow(self.at, after.place) {
            self.log_keys.forget();
        }
        Ok((keys, after))
    }

    fn show(&self) {
        let filled = self.mark.fill;
        self.progress().set(|state| {
            (state.runs, state.filled) = (true, filled);
            if state.positions != self.mark.positions {
                state.positions.clone_from(&self.mark.positions);
            }
        });
    }

    /// Keeps on the disk how far the sink is, now and then.
    fn keep(&mut self, now: bool) {
        let mark = self.unsettled.before().unwrap_or(&self.mark);
        let is_known = self.kept.as_ref().is_some_and(|(kept, _)| kept == mark);
        let is_due = now || self.kept.as_ref().is_none_or(|(_, at)| at.elapsed() >= SINK_NOTE_EVERY);
        if is_known || !is_due {
            return;
        }
        let mark = mark.clone();
        if let Err(why) = mark::keep(&self.path, (&mark, &self.topic_id), self.definition(), &self.server.registry) {
            tracing::warn!(sink = self.definition().name, why, "after a restart, some entities are sent once more");
            self.progress().set(|state| state.last_error = Some(why));
        }
        self.kept = Some((mark, Instant::now()));
    }

    /// Sleeps, but not beyond the server's end.
    fn sleep(&self, mut left: Duration) {
        while !left.is_zero() && !self.is_stopping() {
            let step = left.min(GLANCE);
            std::thread::sleep(step);
            left -= step;
        }
    }
}
