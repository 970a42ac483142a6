//! The shared store in Redis or a Redis Cluster. Only this folder knows the client.
//!
//! Read `keys` for what lies where, `scripts` for what happens in one step, `connection` for what is asked of a server. A shard
//! lies in one slot, so its commit is one script; reads of many entities are MGETs, which the client splits by slot and sends
//! to all nodes at once. Every call may be repeated: a commit that was sent twice happens once.

mod changes;
mod claims;
mod cluster;
mod connection;
mod keys;
mod leftovers;
mod scripts;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use redis::Script;
use tidemill_features::record::{Envelope, NodeId};

pub use self::changes::{Change, Changes};
use self::claims::field;
pub use self::claims::{Claimed, ProgressOf};
use self::connection::Connection;
pub(crate) use self::connection::pause;
use self::keys::KeyNames;
use super::StoreError;
use super::shared::{Outcome, Progress, ShardCommit, SharedKey, SharedRecord, SourcePartition, Token};
use crate::limits::{REDIS_MGET_KEYS, REDIS_MGETS};
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

/// Next offsets by partition.
pub type Positions = BTreeMap<SourcePartition, u64>;

/// Chunks of a record, or the record that it has become.
pub enum ReadChunks {
    /// the record is the same
    Same {
        /// by id; None: not there
        found: Vec<(NodeId, Option<Arc<[u8]>>)>,
        /// whether there are no others
        are_all: bool,
    },
    /// the record is another one now
    Changed(Option<SharedRecord>),
}

/// What MGETs have answered so far.
struct Taken {
    records: Vec<Option<SharedRecord>>,
    told: Vec<Bytes>,
    bytes_left: u64,
}

impl Taken {
    fn take(&mut self, (records, told): (Vec<Option<SharedRecord>>, Bytes)) -> Result<(), StoreError> {
        let bytes = records.iter().flatten().map(|record| record.body.len() as u64).sum::<u64>();
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(StoreError::TooMuch)?;
        self.records.extend(records);
        self.told.push(told);
        Ok(())
    }
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
        let names = &self.names;
        let mut keys = vec![names.progress(commit.shard), names.positions(commit.shard), names.places(commit.shard)];
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
                position(step.to.next),
            ]);
        }
        for record in &commit.records {
            let (view, key) = &record.key;
            keys.extend([names.record(*view, key), names.chunks(*view, key)]);
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
            keys.extend([names.changes(commit.shard), names.marks(commit.shard)]);
        }
        let answer: Vec<redis::Value> = self.connection.run(&self.commit, scripts::COMMIT, &keys, &arguments).await?;
        outcome(&answer).map_err(|error| of_key(error, &keys[0]))
    }

    /// Records, in the order of the keys.
    pub async fn records(&self, keys: &[SharedKey]) -> Result<Vec<Option<SharedRecord>>, StoreError> {
        self.records_up_to(keys, u64::MAX).await
    }

    /// The same where a request may not take more than some bytes: it is refused as soon as it has.
    pub async fn records_up_to(
        &self,
        keys: &[SharedKey],
        bytes_max: u64,
    ) -> Result<Vec<Option<SharedRecord>>, StoreError> {
        Ok(self.read(None, keys, bytes_max).await?.0)
    }

    /// Records of one shard, at least one; its positions; and whether these were the same each time that records were read: then they are those
    /// of the records.
    pub async fn records_at(
        &self,
        shard: usize,
        keys: &[SharedKey],
        bytes_max: u64,
    ) -> Result<(Vec<Option<SharedRecord>>, Positions, bool), StoreError> {
        let (records, told) = self.read(Some(self.names.positions(shard)), keys, bytes_max).await?;
        let is_same = told.windows(2).all(|pair| pair[0] == pair[1]);
        Ok((records, told.first().map_or_else(Positions::new, |told| placed(told)), is_same))
    }

    /// Reads records and, with each MGET, one more key; gives what stood there each time.
    async fn read(
        &self,
        beside: Option<Vec<u8>>,
        keys: &[SharedKey],
        bytes_max: u64,
    ) -> Result<(Vec<Option<SharedRecord>>, Vec<Bytes>), StoreError> {
        if keys.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut taken = Taken { records: Vec::with_capacity(keys.len()), told: Vec::new(), bytes_left: bytes_max };
        if keys.len() <= REDIS_MGET_KEYS {
            // Not as a stream of one: that wakes its task once for nothing, which sends work to another thread and costs 16 us.
            taken.take(self.read_together(beside.as_ref(), keys).await?)?;
            return Ok((taken.records, taken.told));
        }
        let reads = keys.chunks(REDIS_MGET_KEYS).map(|keys| self.read_together(beside.as_ref(), keys));
        let mut reads = futures::stream::iter(reads.collect::<Vec<_>>()).buffered(REDIS_MGETS);
        while let Some(part) = reads.next().await {
            taken.take(part?)?;
        }
        Ok((taken.records, taken.told))
    }

    async fn read_together(
        &self,
        beside: Option<&Vec<u8>>,
        keys: &[SharedKey],
    ) -> Result<(Vec<Option<SharedRecord>>, Bytes), StoreError> {
        let records = keys.iter().map(|(view, key)| self.names.record(*view, key));
        let names: Vec<Vec<u8>> = records.chain(beside.cloned()).collect();
        let stored: Vec<Option<Bytes>> = self.connection.query(redis::cmd("MGET").arg(&names)).await?;
        let (stored, told) = stored.split_at_checked(keys.len()).ok_or_else(not_understood)?;
        Ok((opened(stored, &names)?, told.first().cloned().flatten().unwrap_or_default()))
    }

    /// Chunks of a record that was read before: those of some ids, or all where there are no more than `all_up_to`.
    pub async fn chunks(
        &self,
        (view, key): &SharedKey,
        stamp: Token,
        ids: &[NodeId],
        all_up_to: usize,
    ) -> Result<ReadChunks, StoreError> {
        let keys = [self.names.record(*view, key), self.names.chunks(*view, key)];
        let mut arguments = vec![stamp.to_vec(), number(all_up_to)];
        arguments.extend(ids.iter().map(|id| chunk_field(*id)));
        let answer: Vec<Bytes> = self.connection.run(&self.chunks, scripts::CHUNKS, &keys, &arguments).await?;
        let (head, rest) = answer.split_first().ok_or_else(not_understood)?;
        let opened = |stored: &Bytes| match stored.is_empty() {
            true => Ok::<_, StoreError>(None),
            false => Ok(Some(Envelope::open(stored)?.body.into())),
        };
        let pair = |pair: &[Bytes]| {
            let id = parse_chunk_field(&pair[0]).ok_or_else(not_understood)?;
            Ok::<_, StoreError>((id, opened(pair.get(1).ok_or_else(not_understood)?)?))
        };
        let (found, are_all) = match &head[..] {
            b"changed" => return Ok(ReadChunks::Changed(record(rest.first().ok_or_else(not_understood)?)?)),
            b"all" => (rest.chunks(2).map(pair).collect::<Result<Vec<_>, StoreError>>(), true),
            _ => (ids.iter().zip(rest).map(|(id, stored)| Ok((*id, opened(stored)?))).collect(), false),
        };
        let found = found.map_err(|error| of_key(error, &keys[1]))?;
        Ok(ReadChunks::Same { found, are_all })
    }

    /// Next offsets by partition as a shard has them; a partition of which it has nothing may be missing.
    pub async fn positions(&self, shard: usize) -> Result<Positions, StoreError> {
        let told: Option<Bytes> = self.connection.query(redis::cmd("GET").arg(self.names.positions(shard))).await?;
        Ok(placed(&told.unwrap_or_default()))
    }

    /// Encoded keys of all entities of a view, each once.
    pub async fn keys_of(&self, view: u64) -> Result<Vec<Box<[u8]>>, StoreError> {
        let (pattern, behind_tag) = self.names.records_of(view);
        let key = |name: Vec<u8>| {
            let tag = name.iter().position(|byte| *byte == b'}')? + 1;
            // The pattern also fits records of other views whose entity's key has such a piece in it.
            Some(name.get(tag..)?.strip_prefix(&behind_tag[..])?.into())
        };
        let mut keys = self.connection.scan(&pattern, key).await?;
        // Whoever counts them relies on it.
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
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

/// The shard where a partition has its home: spread by its name.
pub fn home_of(partition: &SourcePartition) -> usize {
    crate::place::shard_of(partition.to_string().as_bytes())
}

/// A next offset as positions have it: all have one length, so that a commit writes over it.
fn position(next: u64) -> Vec<u8> {
    format!("{next:020}").into_bytes()
}

/// Reads positions: lines of a partition's name, an equals sign and its next offset.
fn placed(told: &[u8]) -> Positions {
    let line = |line: &str| {
        let (name, next) = line.split_once('=')?;
        Some((parse_name(name)?, next.parse().ok()?))
    };
    String::from_utf8_lossy(told).lines().filter_map(line).collect()
}

fn opened(stored: &[Option<Bytes>], names: &[Vec<u8>]) -> Result<Vec<Option<SharedRecord>>, StoreError> {
    let of = |(stored, name): (&Option<Bytes>, &Vec<u8>)| {
        let read = stored.as_deref().map_or(Ok(None), record);
        read.map_err(|error| of_key(error, name))
    };
    stored.iter().zip(names).map(of).collect()
}

fn number(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
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

/// A damaged value, with the name of its key: that is what somebody has to look at, and the shard to have computed anew.
fn of_key(error: StoreError, name: &[u8]) -> StoreError {
    let shown = name[..name.len().min(KEY_SHOWN)].escape_ascii();
    match error {
        StoreError::Damaged(what) => StoreError::Damaged(format!("{what} (key {shown})")),
        other => other,
    }
}

/// Bytes of a key's name that an error shows: entity keys may be long.
const KEY_SHOWN: usize = 200;

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
