//! The shared store in Redis or a Redis Cluster. Only this folder knows the client.
//!
//! Read `keys` for what lies where, `scripts` for what happens in one step, `connection` for what is asked of a server. A shard
//! lies in one slot, so its commit is one script; reads of many entities are MGETs, which the client splits by slot and sends
//! to all nodes at once. Every call may be repeated: a commit that was sent twice happens once.

mod changes;
mod cluster;
mod connection;
mod keys;
mod leftovers;
mod scripts;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use redis::Script;
use tidemill_features::record::{Envelope, NodeId};

pub use self::changes::{Change, Changes};
use self::connection::Connection;
pub(crate) use self::connection::pause;
use self::keys::KeyNames;
use super::StoreError;
use super::shared::{Outcome, Progress, ShardCommit, SharedKey, SharedRecord, SourcePartition, Token};
use crate::limits::{REDIS_MGET_KEYS, SHARDS};
use crate::settings::RedisSettings;

/// A shared store; clones share its connections.
#[derive(Clone)]
pub struct RedisStore {
    connection: Connection,
    names: Arc<KeyNames>,
    commit: Arc<Script>,
    claim: Arc<Script>,
    chunks: Arc<Script>,
    topics: Arc<Script>,
    changes: Arc<Script>,
}

/// Chunks of a record, or the record that it has become.
pub enum ReadChunks {
    /// by the ids that were asked for; None: not there
    Same(Vec<Option<Arc<[u8]>>>),
    /// the record is another one now
    Changed(Option<SharedRecord>),
}

/// All chunks of a record, or the record that it has become.
pub enum AllChunks {
    /// by id
    Same(Vec<(NodeId, Arc<[u8]>)>),
    /// the record is another one now
    Changed(Option<SharedRecord>),
}

impl RedisStore {
    /// Connects to what the settings name, and checks that it keeps what it is given.
    pub async fn open(settings: &RedisSettings) -> Result<RedisStore, StoreError> {
        Ok(RedisStore {
            connection: Connection::open(settings).await?,
            names: Arc::new(KeyNames::new(&settings.prefix)),
            commit: Arc::new(Script::new(scripts::COMMIT)),
            claim: Arc::new(Script::new(scripts::CLAIM)),
            chunks: Arc::new(Script::new(scripts::CHUNKS)),
            topics: Arc::new(Script::new(scripts::TOPIC)),
            changes: Arc::new(Script::new(scripts::CHANGES)),
        })
    }

    /// Does one commit.
    pub async fn commit(&self, commit: &ShardCommit) -> Result<Outcome, StoreError> {
        let mut keys = vec![self.names.progress(commit.shard), self.names.positions(commit.shard)];
        let mut arguments = vec![
            commit.batch.to_vec(),
            number(commit.partitions.len()),
            number(commit.records.len()),
            number(usize::from(!commit.at_home)),
        ];
        for step in &commit.partitions {
            let name = step.partition.to_string().into_bytes();
            arguments.extend([
                field(&step.partition, commit.at_home),
                step.to.token.to_vec(),
                step.from.to_vec(),
                step.to.encode(),
                name,
                step.to.next.to_string().into_bytes(),
            ]);
        }
        for record in &commit.records {
            let (view, key) = &record.key;
            keys.extend([self.names.record(*view, key), self.names.chunks(*view, key)]);
            let seal = |body: &[u8]| Envelope { definition: *view, sequence: 0, body }.seal();
            let stored = record.body.as_ref().map_or_else(Vec::new, |body| [&commit.batch[..], &seal(body)].concat());
            let stamp = record.from.map_or_else(Vec::new, |stamp| stamp.to_vec());
            let is_followed = record.is_followed && record.body.is_some();
            let followed = if is_followed { changes::member(&record.key) } else { Vec::new() };
            arguments.extend([stamp, stored, followed, number(record.chunks.len())]);
            for (id, chunk) in &record.chunks {
                arguments.extend([chunk_field(*id), chunk.as_ref().map_or_else(Vec::new, |chunk| seal(chunk))]);
            }
        }
        if commit.changes_followed() {
            keys.extend([self.names.changes(commit.shard), self.names.marks(commit.shard)]);
        }
        let answer: Vec<redis::Value> = self.connection.run(&self.commit, scripts::COMMIT, &keys, &arguments).await?;
        outcome(&answer)
    }

    /// Makes a token the owner of partitions in one shard, at their homes there or for their progress.
    async fn claim_in(
        &self,
        shard: usize,
        partitions: &[(SourcePartition, bool)],
        (token, replaced): (Token, Option<&[Vec<u8>]>),
    ) -> Result<ClaimedShard, StoreError> {
        let nothing = Progress { token, ..Progress::default() }.encode();
        let count = replaced.map_or_else(Vec::new, |replaced| number(replaced.len()));
        let mut arguments = vec![token.to_vec(), nothing, count];
        arguments.extend(replaced.unwrap_or_default().iter().cloned());
        arguments.extend(partitions.iter().map(|(partition, at_home)| field(partition, *at_home)));
        let keys = [self.names.progress(shard)];
        let answer: Vec<Bytes> = self.connection.run(&self.claim, scripts::CLAIM, &keys, &arguments).await?;
        let (head, stored) = answer.split_first().ok_or_else(not_understood)?;
        let stored = stored.iter().map(|stored| progress(stored)).collect::<Result<Vec<_>, _>>()?;
        Ok(match &head[..] {
            b"done" => ClaimedShard::Done(stored),
            _ => ClaimedShard::Fenced,
        })
    }

    /// Makes a token the owner of a partition, in all shards and at its home. What comes back was stored before: by shard, and
    /// at the home. With `replaced`, only owners whose tokens begin with one of these are replaced; None: somebody else owns it.
    pub async fn claim(
        &self,
        partition: &SourcePartition,
        token: Token,
        replaced: Option<&[Vec<u8>]>,
    ) -> Result<Option<Claimed>, StoreError> {
        let mut claims = FuturesUnordered::new();
        for shard in 0..SHARDS {
            let mut fields = vec![(partition.clone(), false)];
            if shard == home_of(partition) {
                fields.push((partition.clone(), true));
            }
            claims.push(async move {
                let stored = self.claim_in(shard, &fields, (token, replaced)).await?;
                Ok::<_, StoreError>((shard, stored))
            });
        }
        let mut claimed = Claimed { shards: vec![None; SHARDS], home: None };
        let mut is_fenced = false;
        while let Some(done) = claims.next().await {
            let (shard, stored) = done?;
            match stored {
                ClaimedShard::Fenced => is_fenced = true,
                ClaimedShard::Done(mut stored) => {
                    if stored.len() > 1 {
                        claimed.home = stored.pop().flatten();
                    }
                    claimed.shards[shard] = stored.pop().flatten();
                }
            }
        }
        Ok((!is_fenced).then_some(claimed))
    }

    /// What is stored of some partitions: in each shard, and at their homes.
    pub async fn look(&self, partitions: &[SourcePartition]) -> Result<Vec<Claimed>, StoreError> {
        let nothing = || Claimed { shards: vec![None; SHARDS], home: None };
        let mut found: Vec<Claimed> = partitions.iter().map(|_| nothing()).collect();
        if partitions.is_empty() {
            return Ok(found);
        }
        let mut looks = FuturesUnordered::new();
        for shard in 0..SHARDS {
            looks.push(async move {
                let mut command = redis::cmd("HMGET");
                command.arg(self.names.progress(shard));
                for partition in partitions {
                    command.arg(field(partition, false)).arg(field(partition, true));
                }
                let stored: Vec<Option<Bytes>> = self.connection.query(&command).await?;
                Ok::<_, StoreError>((shard, stored))
            });
        }
        while let Some(done) = looks.next().await {
            let (shard, stored) = done?;
            for (at, pair) in stored.chunks(2).enumerate() {
                let decoded = |stored: &Option<Bytes>| stored.as_deref().map_or(Ok(None), progress);
                found[at].shards[shard] = decoded(&pair[0])?;
                if let Some(home) = decoded(&pair[1])? {
                    found[at].home = Some(home);
                }
            }
        }
        Ok(found)
    }

    /// Everything that is stored of all partitions, by partition.
    pub async fn look_at_all(&self) -> Result<BTreeMap<SourcePartition, Claimed>, StoreError> {
        let mut looks = FuturesUnordered::new();
        for shard in 0..SHARDS {
            looks.push(async move {
                let mut command = redis::cmd("HGETALL");
                command.arg(self.names.progress(shard));
                let stored: Vec<(Bytes, Bytes)> = self.connection.query(&command).await?;
                Ok::<_, StoreError>((shard, stored))
            });
        }
        let mut found: BTreeMap<SourcePartition, Claimed> = BTreeMap::new();
        while let Some(done) = looks.next().await {
            let (shard, stored) = done?;
            for (name, stored) in stored {
                let Some((partition, at_home)) = parse_field(&name) else { continue };
                let of = found.entry(partition);
                let of = of.or_insert_with(|| Claimed { shards: vec![None; SHARDS], home: None });
                match at_home {
                    true => of.home = progress(&stored)?,
                    false => of.shards[shard] = progress(&stored)?,
                }
            }
        }
        Ok(found)
    }

    /// Records, in the order of the keys.
    pub async fn records(&self, keys: &[SharedKey]) -> Result<Vec<Option<SharedRecord>>, StoreError> {
        let reads = keys.chunks(REDIS_MGET_KEYS).map(|keys| async move {
            let mut command = redis::cmd("MGET");
            keys.iter().for_each(|(view, key)| {
                command.arg(self.names.record(*view, key));
            });
            let stored: Vec<Option<Bytes>> = self.connection.query(&command).await?;
            stored.iter().map(|stored| stored.as_deref().map_or(Ok(None), record)).collect::<Result<Vec<_>, _>>()
        });
        let parts: Vec<Result<Vec<_>, StoreError>> = futures::future::join_all(reads).await;
        let mut records = Vec::with_capacity(keys.len());
        for part in parts {
            records.extend(part?);
        }
        Ok(records)
    }

    /// Chunks of a record that was read before.
    pub async fn chunks(
        &self,
        (view, key): &SharedKey,
        stamp: Token,
        ids: &[NodeId],
    ) -> Result<ReadChunks, StoreError> {
        let keys = [self.names.record(*view, key), self.names.chunks(*view, key)];
        let mut arguments = vec![stamp.to_vec()];
        arguments.extend(ids.iter().map(|id| chunk_field(*id)));
        let answer: Vec<Bytes> = self.connection.run(&self.chunks, scripts::CHUNKS, &keys, &arguments).await?;
        let (head, rest) = answer.split_first().ok_or_else(not_understood)?;
        if &head[..] == b"changed" {
            return Ok(ReadChunks::Changed(record(rest.first().ok_or_else(not_understood)?)?));
        }
        let opened = |stored: &Bytes| match stored.is_empty() {
            true => Ok(None),
            false => Ok(Some(Envelope::open(stored)?.body.into())),
        };
        Ok(ReadChunks::Same(rest.iter().map(opened).collect::<Result<_, StoreError>>()?))
    }

    /// All chunks of a record that was read before; the record, where it is another one now.
    pub async fn all_chunks(&self, (view, key): &SharedKey, stamp: Token) -> Result<AllChunks, StoreError> {
        let keys = [self.names.record(*view, key), self.names.chunks(*view, key)];
        let arguments = [stamp.to_vec()];
        let answer: Vec<Bytes> = self.connection.run(&self.chunks, scripts::CHUNKS, &keys, &arguments).await?;
        let (head, rest) = answer.split_first().ok_or_else(not_understood)?;
        if &head[..] == b"changed" {
            return Ok(AllChunks::Changed(record(rest.first().ok_or_else(not_understood)?)?));
        }
        let pair = |pair: &[Bytes]| {
            let id = parse_chunk_field(&pair[0]).ok_or_else(not_understood)?;
            let stored = pair.get(1).ok_or_else(not_understood)?;
            Ok((id, Envelope::open(stored)?.body.into()))
        };
        Ok(AllChunks::Same(rest.chunks(2).map(pair).collect::<Result<_, StoreError>>()?))
    }

    /// Next offsets by partition as a shard has them; a partition of which it has nothing may be missing.
    pub async fn positions(&self, shard: usize) -> Result<BTreeMap<SourcePartition, u64>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.names.positions(shard));
        let stored: Vec<(String, u64)> = self.connection.query(&command).await?;
        Ok(stored.into_iter().filter_map(|(name, next)| Some((parse_name(&name)?, next))).collect())
    }

    /// Encoded keys of all entities of a view, in no order; some may come twice.
    pub async fn keys_of(&self, view: u64) -> Result<Vec<Box<[u8]>>, StoreError> {
        let (pattern, behind_tag) = self.names.records_of(view);
        let key = |name: Vec<u8>| {
            let tag = name.iter().position(|byte| *byte == b'}')? + 1;
            Some(name.get(tag + behind_tag..)?.into())
        };
        self.connection.scan(&pattern, key).await
    }

    /// Says what the definitions are, if nobody has said it before; gives what is said.
    pub async fn agree(&self, definitions: &str) -> Result<String, StoreError> {
        let key = self.names.definitions();
        let mut say = redis::cmd("SET");
        say.arg(&key).arg(definitions).arg("NX");
        loop {
            self.connection.query::<redis::Value>(&say).await?;
            let said: Option<String> = self.connection.query(redis::cmd("GET").arg(&key)).await?;
            // None: the store was emptied between the two.
            if let Some(said) = said {
                return Ok(said);
            }
        }
    }

    /// What was said about definitions; None: nothing yet.
    pub async fn agreed(&self) -> Result<Option<String>, StoreError> {
        self.connection.query(redis::cmd("GET").arg(self.names.definitions())).await
    }

    /// The number of a topic, one of those of a source, which is given out once, and the id of the topic that got it, where it is
    /// known. `id` is what brokers call the topic now. With `retired` the topic that had this number is gone, and another one of
    /// its name gets a new number.
    pub async fn topic_number(
        &self,
        (source, topics): (&str, &[String]),
        (topic, id): (&str, &str),
        retired: Option<usize>,
    ) -> Result<(usize, String), StoreError> {
        let mut arguments =
            vec![topic.as_bytes().to_vec(), retired.map_or_else(Vec::new, number), id.as_bytes().to_vec()];
        arguments.extend(topics.iter().map(|topic| topic.as_bytes().to_vec()));
        self.connection.run(&self.topics, scripts::TOPIC, &[self.names.topics(source)], &arguments).await
    }

    /// Keeps what somebody has decided to go on without.
    pub async fn give_up(&self, source: &str, what: &str) -> Result<(), StoreError> {
        self.connection.query(redis::cmd("RPUSH").arg(self.names.given_up(source)).arg(what)).await
    }

    /// What was gone on without.
    pub async fn given_up(&self, source: &str) -> Result<Vec<String>, StoreError> {
        self.connection.query(redis::cmd("LRANGE").arg(self.names.given_up(source)).arg(0).arg(-1)).await
    }

    /// Says something of a process.
    pub async fn say(&self, member: &str, what: &str) -> Result<(), StoreError> {
        self.connection.query(redis::cmd("HSET").arg(self.names.members()).arg(member).arg(what)).await
    }

    /// Forgets processes.
    pub async fn forget(&self, members: &[String]) -> Result<(), StoreError> {
        if members.is_empty() {
            return Ok(());
        }
        self.connection.query(redis::cmd("HDEL").arg(self.names.members()).arg(members)).await
    }

    /// What all processes have said of themselves.
    pub async fn members(&self) -> Result<BTreeMap<String, String>, StoreError> {
        self.connection.query(redis::cmd("HGETALL").arg(self.names.members())).await
    }
}

/// What came of a claim in one shard: what was stored, or that the owner may not be replaced.
enum ClaimedShard {
    Done(Vec<Option<Progress>>),
    Fenced,
}

/// What was stored of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// by shard
    pub shards: Vec<Option<Progress>>,
    /// at its home
    pub home: Option<Progress>,
}

/// The shard where a partition has its home: spread by its name.
pub fn home_of(partition: &SourcePartition) -> usize {
    crate::place::shard_of(partition.to_string().as_bytes())
}

fn number(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn field(partition: &SourcePartition, at_home: bool) -> Vec<u8> {
    format!("{}:{partition}", if at_home { 'h' } else { 'p' }).into_bytes()
}

fn parse_field(field: &[u8]) -> Option<(SourcePartition, bool)> {
    let (kind, name) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((parse_name(name)?, kind == "h"))
}

fn parse_name(name: &str) -> Option<SourcePartition> {
    let (source, partition) = name.rsplit_once(':')?;
    Some(SourcePartition { source: source.to_string(), partition: partition.parse().ok()? })
}

fn chunk_field(id: NodeId) -> Vec<u8> {
    let mut field = vec![id.level];
    field.extend_from_slice(&id.slot.to_be_bytes());
    field
}

fn parse_chunk_field(field: &[u8]) -> Option<NodeId> {
    let (level, slot) = field.split_first()?;
    Some(NodeId { level: *level, slot: u64::from_be_bytes(slot.try_into().ok()?) })
}

fn not_understood() -> StoreError {
    StoreError::Damaged("Redis gave an answer that cannot be understood".to_string())
}

fn progress(stored: &[u8]) -> Result<Option<Progress>, StoreError> {
    if stored.is_empty() { Ok(None) } else { Ok(Some(Progress::decode(stored)?)) }
}

fn record(stored: &[u8]) -> Result<Option<SharedRecord>, StoreError> {
    if stored.is_empty() {
        return Ok(None);
    }
    let (stamp, sealed) = stored.split_first_chunk().ok_or_else(not_understood)?;
    Ok(Some(SharedRecord { stamp: *stamp, body: Envelope::open(sealed)?.body.into() }))
}

fn outcome(answer: &[redis::Value]) -> Result<Outcome, StoreError> {
    let bytes = |value: &redis::Value| match value {
        redis::Value::BulkString(bytes) => Some(bytes.clone()),
        redis::Value::SimpleString(text) => Some(text.clone().into_bytes()),
        _ => None,
    };
    let at = |value: &redis::Value| match value {
        redis::Value::Int(at) => usize::try_from(*at).ok(),
        _ => None,
    };
    let (head, rest) = answer.split_first().ok_or_else(not_understood)?;
    match (bytes(head).as_deref(), rest) {
        (Some(b"done"), _) => Ok(Outcome::Done),
        (Some(b"moved"), [step, stored]) => Ok(Outcome::Moved {
            step: at(step).ok_or_else(not_understood)?,
            stored: progress(&bytes(stored).ok_or_else(not_understood)?)?,
        }),
        (Some(b"conflict"), rest) => {
            let pair = |pair: &[redis::Value]| {
                let stored = pair.get(1).and_then(bytes).ok_or_else(not_understood)?;
                Ok((at(&pair[0]).ok_or_else(not_understood)?, record(&stored)?))
            };
            Ok(Outcome::Conflict(rest.chunks(2).map(pair).collect::<Result<_, StoreError>>()?))
        }
        _ => Err(not_understood()),
    }
}
