//! Names of keys. What a shard holds has its tag, so that it lies in one slot; what users write stands behind the tag only.

use crate::place::shard_of;

/// Names the keys of one prefix.
#[derive(Clone, Debug)]
pub struct KeyNames {
    prefix: String,
}

impl KeyNames {
    /// Of a prefix that has no braces.
    pub fn new(prefix: &str) -> Self {
        KeyNames { prefix: prefix.to_string() }
    }

    /// Pattern of everything that shards have.
    pub fn in_shards(&self) -> String {
        format!("{{{}:s*}}:*", self.prefix)
    }

    /// The shard whose key this is.
    pub fn shard_of_name(&self, name: &[u8]) -> Option<usize> {
        let tag = name.strip_prefix(format!("{{{}:s", self.prefix).as_bytes())?;
        let end = tag.iter().position(|byte| *byte == b'}')?;
        std::str::from_utf8(&tag[..end]).ok()?.parse().ok()
    }

    /// What nobody reads: whether this user may write is tried with it.
    pub fn probe(&self) -> Vec<u8> {
        format!("{{{}:group}}:probe", self.prefix).into_bytes()
    }

    fn tag(&self, shard: usize) -> String {
        format!("{{{}:s{shard}}}", self.prefix)
    }

    /// A hash: how far partitions are in a shard, and at the homes that are there.
    pub fn progress(&self, shard: usize) -> Vec<u8> {
        format!("{}:progress", self.tag(shard)).into_bytes()
    }

    /// A string, so that it is read by the MGET that reads records: next offsets of the partitions in a shard, a line for each.
    pub fn positions(&self, shard: usize) -> Vec<u8> {
        format!("{}:positions", self.tag(shard)).into_bytes()
    }

    /// A hash: where in that string the offset of a partition stands.
    pub fn places(&self, shard: usize) -> Vec<u8> {
        format!("{}:places", self.tag(shard)).into_bytes()
    }

    /// A sorted set: records of a shard that are followed, by the numbers of their last changes.
    pub fn changes(&self, shard: usize) -> Vec<u8> {
        format!("{}:changes", self.tag(shard)).into_bytes()
    }

    /// A hash: names of the last of these commits, by number.
    pub fn marks(&self, shard: usize) -> Vec<u8> {
        format!("{}:marks", self.tag(shard)).into_bytes()
    }

    /// A record.
    pub fn record(&self, view: u64, key: &[u8]) -> Vec<u8> {
        let mut name = format!("{}:r:{view:016x}:", self.tag(shard_of(key))).into_bytes();
        name.extend_from_slice(key);
        name
    }

    /// A hash: the chunks of a record.
    pub fn chunks(&self, view: u64, key: &[u8]) -> Vec<u8> {
        let mut name = format!("{}:c:{view:016x}:", self.tag(shard_of(key))).into_bytes();
        name.extend_from_slice(key);
        name
    }

    /// Pattern of the records of a view, and what stands in a name between the shard's tag and the entity's key.
    pub fn records_of(&self, view: u64) -> (String, Vec<u8>) {
        (format!("{{{}:s*}}:r:{view:016x}:*", self.prefix), format!(":r:{view:016x}:").into_bytes())
    }

    /// What the definitions are that the records were computed by.
    pub fn definitions(&self) -> Vec<u8> {
        format!("{{{}:group}}:definitions", self.prefix).into_bytes()
    }

    /// A hash: numbers of the topics of a source.
    pub fn topics(&self, source: &str) -> Vec<u8> {
        format!("{{{}:group}}:topics:{source}", self.prefix).into_bytes()
    }

    /// A list: what of a source was gone on without.
    pub fn given_up(&self, source: &str) -> Vec<u8> {
        format!("{{{}:group}}:given_up:{source}", self.prefix).into_bytes()
    }

    /// A hash: what processes say of themselves.
    pub fn members(&self) -> Vec<u8> {
        format!("{{{}:group}}:members", self.prefix).into_bytes()
    }
}
