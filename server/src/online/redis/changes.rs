//! Which records of a shard have changed: for whoever keeps something that is derived from them.
//!
//! A commit that changes a record which is followed gets the next number of its shard; `changes` has the number of each such
//! record's last change, so those behind a number are all that a follower lacks, however long it was away. `marks` has the random
//! name of the commit behind each of the last numbers: a store that went back in time, or was emptied, gives numbers out again,
//! and then the name is another one. Who finds that reads all records of the shard anew.

use super::{RedisStore, not_understood, scripts};
use crate::online::StoreError;
use crate::online::shared::{SharedKey, Token};

/// Number and name of a commit.
pub type Change = (u64, Token);

/// What has changed in a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// whether these are all records that are followed, since it cannot be said which have changed
    pub are_all: bool,
    /// the last commit; None: there was none
    pub newest: Option<Change>,
    /// the records, in the order of their last changes
    pub keys: Vec<SharedKey>,
}

impl RedisStore {
    /// What has changed in a shard since a commit.
    pub async fn changes(&self, shard: usize, since: Option<Change>) -> Result<Changes, StoreError> {
        let keys = [self.names.changes(shard), self.names.marks(shard)];
        let arguments = match since {
            Some((number, mark)) => [number.to_string().into_bytes(), mark.to_vec()],
            None => [Vec::new(), Vec::new()],
        };
        let answer: Vec<bytes::Bytes> = self.connection.run(&self.changes, scripts::CHANGES, &keys, &arguments).await?;
        let [head, number, mark, members @ ..] = answer.as_slice() else { return Err(not_understood()) };
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        // A number without its name is as good as none: the next look finds everything.
        let newest = number.zip((&mark[..]).try_into().ok());
        let keys = members.iter().map(|member| parse_member(member).ok_or_else(not_understood));
        Ok(Changes { are_all: &head[..] == b"all", newest, keys: keys.collect::<Result<_, _>>()? })
    }
}

/// A record as `changes` has it.
pub(super) fn member((view, key): &SharedKey) -> Vec<u8> {
    [&view.to_be_bytes()[..], key].concat()
}

fn parse_member(member: &[u8]) -> Option<SharedKey> {
    let (view, key) = member.split_first_chunk()?;
    Some((u64::from_be_bytes(*view), key.into()))
}
