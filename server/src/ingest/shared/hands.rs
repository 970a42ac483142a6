//! How partitions change hands: what the group gives is claimed and compared with what was read of it before; what it takes is
//! committed and let go; what somebody else owns by now is dropped.

use super::PartitionId;
use super::group::{Disturbed, Group};
use super::held::{GroupSource, Held, print_of};
use super::owner::Disturbance;
use crate::failure::{Failure, Remedy};
use crate::ingest::kafka::identity::{Loss, Recognised, judge};
use crate::ingest::kafka::notes::Notes;
use crate::ingest::kafka::reading::Reading;
use crate::source::kafka::{Fingerprint, GroupChange, TopicPartition, Trouble, probe};

impl Group {
    /// Takes and lets go of partitions as the group has decided.
    pub(super) fn change_hands(&mut self) -> Result<(), Failure> {
        self.changes.extend(self.consumer.changes());
        let mut is_divided = false;
        // A change that cannot be carried out now stays, since the group waits for it.
        while let Some(change) = self.changes.front().cloned() {
            match change {
                GroupChange::Assigned(partitions) => {
                    tracing::info!(?partitions, "partitions came");
                    self.owes_answer = true;
                    is_divided = true;
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
            self.changes.pop_front();
        }
        if !self.waiting.is_empty() {
            self.engine.prepare()?;
        }
        let mut taken = Vec::new();
        self.coming.append(&mut self.waiting);
        while let Some(of) = self.coming.pop() {
            match self.take_over(&of) {
                Ok(from) => taken.push((of, from)),
                Err(trouble) => {
                    self.waiting.push(of.clone());
                    self.say_all(Some(&trouble.to_string()));
                    tracing::warn!(%trouble, topic = of.topic, partition = of.partition, "the partition waits");
                }
            }
        }
        // The group waits for an answer, also where there is nothing to take.
        if self.owes_answer || !taken.is_empty() {
            let added = self.consumer.add(&taken);
            added.map_err(|trouble| Failure::new(Remedy::Unavailable, "E1057", trouble.to_string()))?;
            self.owes_answer = false;
        }
        // Whoever has the partitions now says what they lack.
        if (is_divided || !taken.is_empty()) && self.waiting.is_empty() {
            self.lacked.clear();
        }
        Ok(())
    }

    pub(super) fn let_go(&mut self, partitions: &[TopicPartition]) {
        for of in partitions {
            self.drop_held(of);
            self.waiting.retain(|waiting| waiting != of);
            self.doubted.retain(|(doubted, _)| doubted != of);
            let lost = self.lost.extract_if(.., |_, (lost, _)| lost == of);
            lost.for_each(|(id, _)| self.engine.release(id));
        }
        self.show_lost();
        if let Err(trouble) = self.consumer.release(partitions) {
            tracing::debug!(%trouble, "the group was not told");
        }
    }

    /// Claims a partition for every source that reads it. Gives where it is to be read from: where the store says.
    pub(super) fn take_over(&mut self, of: &TopicPartition) -> Result<u64, Trouble> {
        let away = |failure: Failure| Trouble::Retry(failure.to_string());
        let (low, high) = self.consumer.watermarks(of)?;
        let mut from = u64::MAX;
        for at in 0..self.sources.len() {
            if !self.sources[at].topics.topics.contains(&of.topic) {
                continue;
            }
            let (number, is_another) = self.topic_number(at, &of.topic, None).map_err(away)?;
            let id =
                (self.sources[at].feed.source, Notes::partition_number(number, of.partition).map_err(Trouble::Retry)?);
            let start = self.engine.claim(id).map_err(away)?;
            let (print, was_read) = self.engine.last_print(id);
            // A store that lost everything knows nothing of it, but the group does.
            let known = match !was_read || start < high {
                true => self.consumer.committed(of),
                false => Ok(None),
            };
            let known = match known {
                // Of what was read it tells no more than how much is lacking.
                Err(trouble) if !was_read => return Err(trouble),
                known => known.ok().flatten().unwrap_or(0),
            };
            let (was_read, had) = (was_read || known > 0, self.engine.had(id).max(known));
            // A partition that was never read begins with what there is.
            let position = if was_read { start } else { start.max(low) };
            // Where one partition is another topic's, all are, also those that had nothing to be recognised by.
            let recognised = if is_another { Some(false) } else { self.recognise(of, print, (low, high))? };
            let recognised = Recognised { newest: recognised, same_to: None };
            if let Some(loss) = judge((low, high), position, 0, (recognised, false)) {
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
                self.pass_over(at, id, (start, position)).map_err(away)?;
            }
            from = from.min(position);
            let mut reading = Reading::new(of.clone(), (number, id.1), (position, position, high));
            reading.from = position;
            // Reads may have seen everything before this.
            reading.lack(if position < had { had } else { 0 });
            self.holding.hold(of.clone(), Held { id, source: at, reading, print: None });
        }
        self.show_lost();
        // Where everything of it is lost, nothing that comes is taken.
        Ok(if from == u64::MAX { high } else { from })
    }

    /// The number of a topic, and whether another topic of the same name had it.
    pub(super) fn topic_number(
        &self,
        at: usize,
        topic: &str,
        retired: Option<usize>,
    ) -> Result<(usize, bool), Failure> {
        let GroupSource { feed, topics, .. } = &self.sources[at];
        let of = (feed.definition().name.as_str(), &topics.topics[..]);
        let id = self.consumer.topic_id(topic).unwrap_or_default();
        let numbered = self.parts.persist(|| self.parts.store.topic_number(of, (topic, &id), retired));
        let (number, known) = self.parts.runtime.block_on(numbered)?;
        Ok((number, !id.is_empty() && id != known))
    }

    /// Tells the store the ids of topics as soon as brokers have told them, which is before any of their records come. False: the
    /// store knows another one, and nothing that has come since may be taken in.
    pub(super) fn tell_ids(&mut self) -> Result<bool, Failure> {
        let mut untold: Vec<(usize, String, String)> = Vec::new();
        for held in self.holding.all() {
            let topic = &held.reading.of.topic;
            let Some(id) = self.consumer.topic_id(topic) else { continue };
            let key = (held.source, topic.clone());
            if self.told_ids.get(&key) != Some(&id)
                && !untold.iter().any(|(at, topic, _)| (*at, topic) == (key.0, &key.1))
            {
                untold.push((key.0, key.1, id));
            }
        }
        for (at, topic, id) in untold {
            if self.topic_number(at, &topic, None)?.1 {
                tracing::warn!(topic, "looking at the topics again: this one has another id");
                self.look_again();
                return Ok(false);
            }
            self.told_ids.insert((at, topic), id);
        }
        Ok(true)
    }

    /// Whether a partition has the record that came of it last; None: that record is gone.
    pub(super) fn recognise(
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

    /// Something that is read may not be what was read before: everything is claimed and compared anew.
    pub(super) fn look_again(&mut self) {
        // Shards without events are told how far they are, or they would be taken to lack what is removed meanwhile.
        if let Err(failure) = self.engine.barrier(None) {
            tracing::debug!(%failure, "some of it is read again");
        }
        let all: Vec<TopicPartition> = self.holding.all().map(|held| held.reading.of.clone()).collect();
        all.into_iter().for_each(|of| self.look_again_at(of));
    }

    /// Lets go of what is held of a partition. Until somebody has it again, it is remembered what the store lacks.
    fn drop_held(&mut self, of: &TopicPartition) {
        let positions = self.engine.positions();
        for held in self.holding.let_go(of) {
            if held.reading.is_lacking(positions.get(&held.id).copied().unwrap_or(0)) {
                self.lacked.insert(held.source);
            }
            self.engine.release(held.id);
        }
    }

    /// The same of one partition.
    pub(super) fn look_again_at(&mut self, of: TopicPartition) {
        self.drop_held(&of);
        if let Err(trouble) = self.consumer.release(std::slice::from_ref(&of)) {
            tracing::debug!(%trouble, "reading goes on");
        }
        if !self.waiting.contains(&of) {
            self.waiting.push(of);
        }
    }

    /// Goes on with partitions of which the store says something unexpected: from where it says, if they are still this
    /// member's; else without them.
    pub(super) fn heal(&mut self, disturbed: Disturbed) -> Result<(), Failure> {
        for (id, stored) in disturbed {
            if !self.engine.owns(id) {
                continue;
            }
            let name = self.parts.named(id);
            if self.engine.judge(id, stored.as_ref()) == Disturbance::Fenced && !self.is_member(id) {
                tracing::warn!(partition = %name, "another process owns the partition; what is left of its work here is dropped");
                self.doubt(id);
                continue;
            }
            tracing::warn!(partition = %name, "the shared store has gone back in time; reading what it lacks again");
            self.engine.prepare()?;
            let Some(start) = self.engine.claim_again(id)? else {
                self.doubt(id);
                continue;
            };
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

    /// Drops a partition that somebody else has claimed. While the group changes or its broker is away, nobody can say whose it
    /// is: it may be this process's all the same, and then nobody else would read it.
    fn doubt(&mut self, id: PartitionId) {
        let held = self.holding.all().find(|held| held.id == id);
        let place = held.map(|held| (held.reading.of.clone(), held.reading.begins));
        self.holding.let_go_of(id);
        self.engine.release(id);
        self.doubted.extend(place);
    }

    /// Takes doubted partitions again that the group still counts as this process's.
    pub(super) fn ask_again(&mut self) {
        for (of, begins) in std::mem::take(&mut self.doubted) {
            match self.consumer.commit(&[(of.clone(), begins)], true) {
                Ok(()) => self.look_again_at(of),
                Err(trouble) => {
                    tracing::debug!(%trouble, topic = of.topic, partition = of.partition, "nobody says whose it is");
                    self.doubted.push((of, begins));
                }
            }
        }
    }

    /// Asks the group whether it still counts this process as the owner of a partition.
    pub(super) fn is_member(&self, id: PartitionId) -> bool {
        let held = self.holding.all().find(|held| held.id == id);
        held.is_some_and(|held| self.consumer.commit(&[(held.reading.of.clone(), held.reading.begins)], true).is_ok())
    }
}
