//! How far a sink is, and the file that remembers it: `files/sinks/NAME.json`.
//!
//! The file may be lost: then everything is sent again, which is what happens where it is damaged, of other definitions, or of a
//! log that is not this one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_features::definitions::{Registry, Sink};

use crate::ingest::{Reached, write_durably};
use crate::log::LogPlace;

/// Every key of an event before it has been sent as it was after that event, or later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// entities of shards from this one on were never sent; None: all were
    pub fill: Option<usize>,
    /// events of the log before this place are done
    pub place: LogPlace,
    /// their next offsets, by source (its place in the registry) and partition
    pub positions: BTreeMap<(u32, u32), u64>,
}

impl Mark {
    /// Everything is to be sent, and then what comes after this.
    pub(super) fn anew(reached: &Reached) -> Mark {
        Mark { fill: Some(0), place: reached.place, positions: reached.positions.clone() }
    }

    /// Everything before this is sent.
    pub(super) fn at(reached: Reached) -> Mark {
        Mark { fill: None, place: reached.place, positions: reached.positions }
    }
}

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: u32,
    /// of everything that decides a value
    definition: String,
    fill: Option<usize>,
    segment: u64,
    byte: u64,
    /// by source and partition
    positions: BTreeMap<String, BTreeMap<u32, u64>>,
    /// of the topic, as brokers have it
    topic_id: Option<String>,
    /// of all that stands above
    checksum: String,
}

impl Kept {
    fn checksum(&self) -> String {
        let Kept { format, definition, fill, segment, byte, positions, topic_id, checksum: _ } = self;
        let text = format!("{format} {definition} {fill:?} {segment} {byte} {positions:?} {topic_id:?}");
        format!("{:08x}", crc32fast::hash(text.as_bytes()))
    }
}

/// Where the mark of a sink is kept.
pub(super) fn path_of(data_dir: &Path, sink: &Sink) -> PathBuf {
    data_dir.join("files").join("sinks").join(format!("{}.json", sink.name))
}

/// A mark, and the id of the topic that it is of, where brokers tell it.
pub(super) type OfTopic = (Mark, Option<String>);

/// The mark of a sink, if there is one that can be gone on from. Err: why not.
pub(super) fn load(
    path: &Path,
    sink: &Sink,
    registry: &Registry,
    reached: &Reached,
) -> Result<Option<OfTopic>, String> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let kept: Kept = serde_json::from_slice(&text).map_err(|e| format!("it cannot be read: {e}"))?;
    if kept.format != FORMAT || kept.checksum != kept.checksum() {
        return Err("its checksum does not fit".to_string());
    }
    if kept.definition != format!("{:016x}", sink.hash) {
        return Err("what is published is defined otherwise now".to_string());
    }
    let place = LogPlace { segment: kept.segment, offset: kept.byte };
    if place > reached.place {
        return Err("it is of events that the log does not have".to_string());
    }
    let mut positions = BTreeMap::new();
    for (name, of_source) in kept.positions {
        let Some(source) = registry.source(&name) else { continue };
        positions.extend(of_source.into_iter().map(|(partition, next)| ((source as u32, partition), next)));
    }
    Ok(Some((Mark { fill: kept.fill, place, positions }, kept.topic_id)))
}

/// Keeps a mark; it is on the disk when this returns.
pub(super) fn keep(
    path: &Path,
    (mark, topic_id): (&Mark, &Option<String>),
    sink: &Sink,
    registry: &Registry,
) -> Result<(), String> {
    let mut positions: BTreeMap<String, BTreeMap<u32, u64>> = BTreeMap::new();
    for ((source, partition), next) in &mark.positions {
        positions.entry(registry.sources[*source as usize].name.clone()).or_default().insert(*partition, *next);
    }
    let mut kept = Kept {
        format: FORMAT,
        definition: format!("{:016x}", sink.hash),
        fill: mark.fill,
        segment: mark.place.segment,
        byte: mark.place.offset,
        positions,
        topic_id: topic_id.clone(),
        checksum: String::new(),
    };
    kept.checksum = kept.checksum();
    let text = serde_json::to_vec_pretty(&kept).map_err(|e| e.to_string())?;
    write_durably(path, &text)
}

#[cfg(test)]
mod tests {
    use tidemill_features::definitions::{DefinitionFile, check};

    use super::*;

    const DEFINITIONS: &str = "[source.s]\nconnector = 'push'\nevent_time = 't'\nfields = { k = 'string', t = 'timestamp' }\n\
        [entity.e]\nkey = 'k'\n[view.v]\nentity = 'e'\nsource = 's'\n[view.v.features]\nn = { agg = 'count()' }\n\
        [sink.a]\nconnector = 'kafka'\ntopic = 'x'\nview = 'v'\n";

    fn registry(text: &str) -> Registry {
        check(&[DefinitionFile { path: "a.toml".into(), text: text.into() }]).unwrap()
    }

    fn reached(segment: u64) -> Reached {
        Reached { place: LogPlace { segment, offset: 0 }, ..Reached::default() }
    }

    #[test]
    fn what_is_kept_is_read_or_refused() {
        let (folder, registry) = (tempfile::tempdir().unwrap(), registry(DEFINITIONS));
        let sink = &registry.sinks[0];
        let path = path_of(folder.path(), sink);
        assert_eq!(load(&path, sink, &registry, &reached(9)), Ok(None));
        let place = LogPlace { segment: 3, offset: 77 };
        let mark = Mark { fill: Some(17), place, positions: BTreeMap::from([((0, 2), 5)]) };
        let mark = (mark, Some("nWEZ-LjBTm6uDR9mGbBbTA".to_string()));
        keep(&path, (&mark.0, &mark.1), sink, &registry).unwrap();
        assert_eq!(load(&path, sink, &registry, &reached(9)), Ok(Some(mark.clone())));
        let older = load(&path, sink, &registry, &reached(2)).unwrap_err();
        assert!(older.contains("log does not have"), "{older}");
        let changed = self::registry(&DEFINITIONS.replace("count()", "max(t)"));
        let other = load(&path, &changed.sinks[0], &changed, &reached(9)).unwrap_err();
        assert!(other.contains("defined otherwise"), "{other}");
        // No flipped bit gives another mark.
        let text = std::fs::read(&path).unwrap();
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            let read = load(&path, sink, &registry, &reached(9));
            assert!(read.is_err() || read == Ok(Some(mark.clone())), "bit {bit}: {read:?}");
        }
    }
}
