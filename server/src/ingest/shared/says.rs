//! What a member of a group says: which partitions have stopped, how far it is behind, and what was gone on without.

use tidemill_features::time::rfc3339;

use super::PartitionId;
use super::group::Group;
use super::members::{Member, MemberSource};
use super::round::Arrived;
use super::trouble::LACKING;
use crate::failure::{Failure, Remedy};
use crate::ingest::kafka::GivenUp;
use crate::ingest::kafka::identity::Loss;
use crate::log::Frame;
use crate::source::kafka::TopicPartition;

impl Group {
    /// Lets partitions go on without what they have lost, where somebody has asked for it.
    pub(super) fn hear_answers(&mut self) -> Result<(), Failure> {
        for at in 0..self.sources.len() {
            let Some(asked) = self.progress(at).take_asked() else { continue };
            let source = self.sources[at].feed.source;
            let lost: Vec<_> = self.lost.extract_if(.., |id, _| id.0 == source).collect();
            let (mut given_up, mut failed) = (Vec::new(), None);
            for (id, (of, loss)) in lost {
                match self.give_up(at, id, &of, &loss) {
                    Ok(lost) => given_up.push(lost),
                    Err(failure) => failed = Some(failure),
                }
                // Given up or not, it is claimed and compared anew. The group was answered for it before.
                self.engine.release(id);
                self.look_again_at(of);
            }
            self.show_lost();
            let _ = asked.send(failed.map_or(Ok(given_up), Err));
        }
        Ok(())
    }

    pub(super) fn give_up(
        &mut self,
        at: usize,
        id: PartitionId,
        of: &TopicPartition,
        loss: &Loss,
    ) -> Result<GivenUp, Failure> {
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
            Some(to) => self.pass_over(at, id, (from, to))?,
            None => {
                let number = (id.1 >> 16) as usize;
                self.topic_number(at, &of.topic, Some(number))?;
            }
        }
        Ok(lost)
    }

    /// Takes in events that span offsets of which nothing can be read, and are none.
    pub(super) fn pass_over(&mut self, at: usize, id: PartitionId, (from, to): (u64, u64)) -> Result<(), Failure> {
        let feed = &self.sources[at].feed;
        let frame = Frame::empty(feed.definition(), id.1, (from, to - from), feed.clock.now());
        let mut disturbed = self.engine.round(&[Arrived { source: id.0, frame, print: None }])?.disturbed;
        // Shards have no events of it, so they have to be told, or the next look finds the same loss.
        disturbed.extend(self.engine.barrier(None)?);
        let is_kept = !disturbed.contains_key(&id);
        self.heal(disturbed)?;
        let changed = || Failure::new(Remedy::Unavailable, "E1058", "the partition changed hands; ask again");
        is_kept.then_some(()).ok_or_else(changed)
    }

    /// Goes on behind markers of transactions at the ends of partitions. They are never read, and when retention removes them, what
    /// comes next must not look as if it had gone.
    pub(super) fn pass_markers(&mut self) {
        let held = self.holding.all().filter(|held| held.reading.chunk.is_none());
        let held =
            held.filter_map(|held| Some((held.source, held.id, held.reading.begins, held.reading.nothing_before?)));
        let to_pass: Vec<_> = held.filter(|(.., begins, end)| end > begins).collect();
        for (at, id, begins, end) in to_pass {
            if let Err(failure) = self.pass_over(at, id, (begins, end)) {
                tracing::debug!(%failure, "markers of transactions are passed over later");
                return;
            }
            for held in self.holding.all_mut().filter(|held| held.id == id && held.reading.begins == begins) {
                (held.reading.begins, held.reading.from) = (end, held.reading.from.max(end));
            }
        }
    }

    pub(super) fn progress(&self, at: usize) -> &crate::ingest::kafka::KafkaProgress {
        let feed = &self.sources[at].feed;
        &feed.ingest.pending[feed.source].kafka
    }

    /// Says which sources have stopped, and why.
    pub(super) fn show_lost(&self) {
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

    /// Partitions that the group has given to this process, and that it does not read yet.
    fn owed(&self) -> impl Iterator<Item = &TopicPartition> {
        self.waiting.iter().chain(&self.coming).chain(self.doubted.iter().map(|(of, _)| of))
    }

    /// Says how this process is, to all others. `trouble` is why nothing comes in.
    pub(super) fn say_all(&mut self, trouble: Option<&str>) {
        let pulse = self.consumer.pulse();
        let positions = self.engine.positions();
        let mut said = Member { role: "ingest".into(), address: self.address.clone(), ..Member::default() };
        for at in 0..self.sources.len() {
            let feed = &self.sources[at].feed;
            let (source, now) = (feed.definition().name.clone(), feed.clock.now());
            said.at = now;
            let (mut complete_to, mut lag, mut numbers, mut is_lacking) = (i64::MAX, 0, Vec::new(), false);
            for held in self.holding.all_mut().filter(|held| held.source == at) {
                let applied = positions.get(&held.id).copied().unwrap_or(0);
                let of = pulse.as_ref().and_then(|pulse| pulse.partitions.iter().find(|p| p.of == held.reading.of));
                if let Some(of) = of {
                    held.reading.hear(of, applied, now);
                }
                complete_to = complete_to.min(held.reading.complete_to(applied, now));
                lag += held.reading.lag(applied);
                is_lacking |= held.reading.is_lacking(applied);
                numbers.push(held.id.1);
            }
            let halted = self.progress(at).state().halted;
            let is_halted = halted.is_some();
            is_lacking |= self.lacked.contains(&at);
            let lacking = || is_lacking.then(|| LACKING.to_string());
            let trouble = trouble.map(str::to_string).or(halted).or_else(lacking);
            if trouble.is_some() {
                complete_to = complete_to.min(now);
            }
            // Of what came and could not be claimed yet nobody knows how far it is.
            let is_owed = self.owed().any(|of| self.sources[at].topics.topics.contains(&of.topic));
            if is_owed {
                complete_to = i64::MIN;
            }
            // A member without partitions says nothing of a source.
            if !numbers.is_empty() || trouble.is_some() || is_owed {
                let of_source = MemberSource { complete_to, lag, trouble, is_halted, is_lacking };
                said.sources.insert(source.clone(), of_source);
                said.partitions.insert(source, numbers);
            }
        }
        let text = serde_json::to_string(&said).unwrap_or_default();
        if let Err(error) = self.parts.runtime.block_on(self.parts.store.say(&self.name, &text)) {
            tracing::debug!(%error, at = rfc3339(said.at), "others were not told");
        }
    }

    /// Kafka's own offsets are for lag tools, and for whoever takes over a store that has lost something: so they never go back.
    pub(super) fn tell_lag_tools(&self) {
        let positions = self.engine.positions();
        let held = self.holding.all().filter_map(|held| Some((&held.reading, *positions.get(&held.id)?)));
        let told = held.filter(|(reading, next)| *next > 0 && !reading.is_lacking(*next));
        let told: Vec<(TopicPartition, u64)> = told.map(|(reading, next)| (reading.of.clone(), next)).collect();
        if !told.is_empty()
            && let Err(trouble) = self.consumer.commit(&told, false)
        {
            tracing::debug!(%trouble, "lag tools were not told");
        }
    }
}
