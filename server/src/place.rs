//! Places in the event log, which the log and the state store both speak of.

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPlace {
    /// number of the segment
    pub segment: u64,
    /// byte in it
    pub offset: u64,
}
