//! What the log no longer has: the part before its front, which retention removed. Kept in the manifest for as long as the log
//! lives, since every read of the past has to know whether its answer could depend on it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_features::time::DAY;

use super::Frame;
use crate::place::LogPlace;

/// Events dated this far behind their acceptance and more are kept apart, so that one of them does not put all times up to its
/// own in doubt.
const AHEAD: i64 = DAY;

/// What was cut off the front of the log so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// segment and byte at which the log begins now
    to: (u64, u64),
    /// by source
    pub sources: BTreeMap<String, SourceCut>,
}

/// What is gone of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCut {
    /// by partition: the offset behind the last event that is gone
    pub positions: BTreeMap<u32, u64>,
    /// good events and bad ones
    pub consumed: u64,
    /// good ones
    pub events: u64,
    /// least and greatest event time
    pub times: Option<(i64, i64)>,
    /// the same of events dated far behind their acceptance
    pub ahead: Option<(i64, i64)>,
    /// greatest arrival; None: no good event is gone
    pub arrival: Option<i64>,
}

impl Cut {
    /// Where the log begins now.
    pub fn to(&self) -> LogPlace {
        LogPlace { segment: self.to.0, offset: self.to.1 }
    }

    pub(super) fn set_to(&mut self, to: LogPlace) {
        self.to = (to.segment, to.offset);
    }

    /// Whether anything was cut.
    pub fn is_any(&self) -> bool {
        self.to() > LogPlace::default()
    }

    /// What is gone of a source, if good events are.
    pub fn of(&self, source: &str) -> Option<&SourceCut> {
        self.sources.get(source).filter(|cut| cut.events > 0)
    }

    /// Takes in the next frame that goes.
    pub(super) fn take(&mut self, frame: &Frame) {
        let cut = self.sources.entry(frame.source.clone()).or_default();
        let behind = frame.first_offset + frame.consumed;
        let next = cut.positions.entry(frame.partition).or_insert(behind);
        *next = (*next).max(behind);
        // What is counted is what stands in the frame, as in the ledger.
        cut.consumed += frame.dead.len() as u64 + frame.batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
        for batch in &frame.batches {
            cut.events += batch.len() as u64;
            for (time, arrival) in batch.times.iter().zip(&batch.arrivals) {
                let is_ahead = *time > frame.accepted_at.saturating_add(AHEAD);
                let times = if is_ahead { &mut cut.ahead } else { &mut cut.times };
                *times = Some(times.map_or((*time, *time), |(least, most)| (least.min(*time), most.max(*time))));
                cut.arrival = Some(cut.arrival.map_or(*arrival, |latest| latest.max(*arrival)));
            }
        }
    }
}

impl SourceCut {
    /// Closed ranges of the event times that are gone.
    pub fn ranges(&self) -> Vec<(i64, i64)> {
        self.times.into_iter().chain(self.ahead).collect()
    }
}
