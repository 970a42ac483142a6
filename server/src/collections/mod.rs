//! Collections: the vectors of each embedding as an index, beside the records that it is derived from.
//!
//! Records of the view that an embedding has are the truth; a collection follows them. `entry` is what a record means for a
//! collection; `feed` reads that from changed records, and puts it into the index in the same step in which the records are
//! published; `collection` is the index of one embedding with its attributes (`attributes`); `ordered` are keys that compare as
//! their values do; `upkeep` seals and rebuilds indexes in the background, and `kept` keeps them in files. Where the records lie in
//! a shared store, `shared` follows them there.
//!
//! A row that is dated ahead of the clock stands from its time on, and a feature changes when an event leaves its window. No
//! timer waits for that: a search first takes in what stands since the last one. So what a search sees is what a read of the
//! records at its T would see.

mod attributes;
mod collection;
mod entry;
mod feed;
mod kept;
mod ordered;
mod shared;
mod upkeep;

use std::path::Path;
use std::sync::Arc;

use tidemill_features::definitions::{Embedding, Registry};

pub use self::attributes::Attributes;
pub use self::collection::{Collection, Opened, metric_of};
pub use self::feed::{Feed, Refill};
pub use self::ordered::{KeyColumns, encoded, ordered};
pub use self::shared::SharedFeed;
pub use self::upkeep::Upkeep;
use crate::failure::Failure;

/// The collections of all embeddings, in file order.
#[derive(Debug, Default)]
pub struct Collections {
    registry: Option<Arc<Registry>>,
    list: Vec<Arc<Collection>>,
}

impl Collections {
    /// With indexes from the files of a folder, where there are good ones; what records say has yet to be taken in.
    pub fn open(registry: &Arc<Registry>, folder: &Path) -> Result<Self, Failure> {
        let collections = Collections::new(registry, folder)?;
        for (embedding, collection) in collections.embeddings().iter().zip(&collections.list) {
            if let Some(index) = kept::load(collection.expected(), folder, &embedding.name) {
                collection.write().index = Arc::new(index);
            }
        }
        Ok(collections)
    }

    /// Empty ones, with a folder for what their indexes keep on the disk.
    fn new(registry: &Arc<Registry>, folder: &Path) -> Result<Self, Failure> {
        let list = (0..registry.embeddings.len()).map(|at| Collection::new(registry, at, folder).map(Arc::new));
        Ok(Collections { registry: Some(registry.clone()), list: list.collect::<Result<_, Failure>>()? })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The collection of an embedding, by its place in the registry.
    pub fn get(&self, at: usize) -> &Arc<Collection> {
        &self.list[at]
    }

    /// Those whose indexes follow records.
    fn indexed(&self) -> impl Iterator<Item = &Collection> {
        self.list.iter().map(|collection| &**collection).filter(|collection| collection.is_indexed())
    }

    fn embeddings(&self) -> &[Embedding] {
        self.registry.as_ref().map_or(&[], |registry| &registry.embeddings)
    }
}
