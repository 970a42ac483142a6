//! Changes: which entities have changed since somebody looked, for those who follow them, which are sinks.
//!
//! Keys wait here, each once, told by whoever applies events as soon as they can be read. Where more of them wait than there is room
//! for, they are forgotten: a follower knows up to which place of the log it has seen everything, and goes on from there. So
//! nobody waits for a follower.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tidemill_features::definitions::Registry;

use crate::limits::{SINK_KEY_OVERHEAD, SINK_KEYS_BYTES};
use crate::log::LogPlace;
use crate::online::RecordKey;

/// An encoded entity key.
pub type ChangedKey = Box<[u8]>;

/// Changed entities, by follower.
pub struct Changes {
    told: Mutex<Told>,
    bell: Condvar,
    is_followed: bool,
}

struct Told {
    reached: Reached,
    /// in the order of the registry's sinks
    followers: Vec<Follower>,
}

/// How far everything is.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// events of the log before this place can be read
    pub place: LogPlace,
    /// their next offsets, by source (its place in the registry) and partition
    pub positions: BTreeMap<(u32, u32), u64>,
    /// how often a shared store was found to lack what it had
    pub losses: u64,
    /// how often it was looked at and had everything
    pub looks: u64,
}

#[derive(Default)]
struct Follower {
    /// places in the registry
    views: Vec<u32>,
    /// whether it has seen everything before the place that was reached, but for the keys
    is_live: bool,
    keys: HashSet<ChangedKey>,
    bytes: usize,
    /// how often the state of one of its views was derived anew
    rebuilds: u64,
}

/// What there is for a follower.
#[derive(Clone, Debug)]
pub struct Look {
    /// how far everything is
    pub reached: Reached,
    /// whether what is new is told to it; else it reads the log
    pub is_live: bool,
    /// how often the state of one of its views was derived anew
    pub rebuilds: u64,
}

impl Changes {
    /// Nothing has changed yet.
    pub(super) fn new(registry: &Registry, place: LogPlace, positions: BTreeMap<(u32, u32), u64>) -> Changes {
        let follower = |views: &Vec<usize>| Follower {
            views: views.iter().map(|view| *view as u32).collect(),
            ..Follower::default()
        };
        let followers: Vec<Follower> = registry.sinks.iter().map(|sink| follower(&sink.views)).collect();
        let is_followed = !followers.is_empty();
        let reached = Reached { place, positions, ..Reached::default() };
        Changes { told: Mutex::new(Told { reached, followers }), bell: Condvar::new(), is_followed }
    }

    /// Whether anybody wants to know.
    pub(super) fn is_followed(&self) -> bool {
        self.is_followed
    }

    /// Tells that events before a place can be read, and which records they have changed.
    pub(super) fn tell(&self, place: LogPlace, ends: &[((u32, u32), u64)], changed: Vec<RecordKey>) {
        if !self.is_followed {
            return;
        }
        let mut told = self.told.lock();
        told.reached.place = place;
        told.reached.positions.extend(ends.iter().copied());
        for (view, key) in changed {
            for follower in told.followers.iter_mut().filter(|follower| follower.is_live) {
                if follower.views.contains(&view) {
                    follower.add(&key);
                }
            }
        }
        self.bell.notify_all();
    }

    /// A shared store lacks what it had, and is fed again.
    pub(super) fn lose(&self) {
        self.told.lock().reached.losses += 1;
        self.bell.notify_all();
    }

    /// A shared store has what it should have.
    pub(super) fn look_is_good(&self) {
        self.told.lock().reached.looks += 1;
    }

    /// The state of a view was derived anew.
    pub(super) fn rebuild(&self, view: usize) {
        let mut told = self.told.lock();
        let of_view = told.followers.iter_mut().filter(|follower| follower.views.contains(&(view as u32)));
        of_view.for_each(|follower| follower.rebuilds += 1);
        self.bell.notify_all();
    }

    /// What there is for a follower.
    pub fn look(&self, follower: usize) -> Look {
        let told = self.told.lock();
        let Follower { is_live, rebuilds, .. } = told.followers[follower];
        Look { reached: told.reached.clone(), is_live, rebuilds }
    }

    /// Waits until there may be something new behind a place, for so long at most.
    pub fn wait(&self, follower: usize, seen: LogPlace, patience: Duration) {
        let mut told = self.told.lock();
        let of = &told.followers[follower];
        if of.keys.is_empty() && told.reached.place <= seen {
            self.bell.wait_for(&mut told, patience);
        }
    }

    /// From now on what is new is told to a follower which has seen everything before a place. False: more is there already.
    pub fn follow(&self, follower: usize, seen: LogPlace) -> bool {
        let mut told = self.told.lock();
        let is_live = seen >= told.reached.place;
        told.followers[follower].is_live = is_live;
        is_live
    }

    /// A follower goes back to the log.
    pub fn leave(&self, follower: usize) {
        self.told.lock().followers[follower].forget();
    }

    /// The keys that have changed, and up to where that is all; None: there were too many, and the log has to be read.
    pub fn take(&self, follower: usize) -> Option<(HashSet<ChangedKey>, Reached)> {
        let mut told = self.told.lock();
        let reached = told.reached.clone();
        let of = &mut told.followers[follower];
        of.bytes = 0;
        of.is_live.then(|| (std::mem::take(&mut of.keys), reached))
    }
}

impl Follower {
    fn add(&mut self, key: &ChangedKey) {
        if !self.keys.contains(key) {
            self.keys.insert(key.clone());
            self.bytes += key.len() + SINK_KEY_OVERHEAD;
        }
        if self.bytes > SINK_KEYS_BYTES {
            self.forget();
        }
    }

    fn forget(&mut self) {
        *self = Follower { views: std::mem::take(&mut self.views), rebuilds: self.rebuilds, ..Follower::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Changes {
        let followers = vec![Follower { views: vec![0, 2], ..Follower::default() }];
        let told = Told { reached: Reached::default(), followers };
        Changes { told: Mutex::new(told), bell: Condvar::new(), is_followed: true }
    }

    fn key(of: &[u8]) -> ChangedKey {
        of.into()
    }

    fn at(offset: u64) -> LogPlace {
        LogPlace { segment: 0, offset }
    }

    #[test]
    fn keys_wait_once_each_and_only_of_views_that_are_followed() {
        let changes = changes();
        changes.tell(at(1), &[((0, 0), 3)], vec![(0, key(b"early"))]);
        assert!(changes.take(0).is_none(), "it has not seen what was before");
        assert!(!changes.follow(0, at(0)) && changes.follow(0, at(1)));
        changes.tell(at(2), &[((0, 0), 5)], vec![(0, key(b"a")), (1, key(b"b")), (2, key(b"a"))]);
        changes.tell(at(3), &[((0, 1), 7)], vec![(2, key(b"a")), (2, key(b"c"))]);
        let (keys, reached) = changes.take(0).unwrap();
        assert_eq!(keys, HashSet::from([key(b"a"), key(b"c")]));
        assert_eq!((reached.place, &reached.positions), (at(3), &BTreeMap::from([((0, 0), 5), ((0, 1), 7)])));
        assert!(changes.take(0).unwrap().0.is_empty(), "they are told once");
        changes.leave(0);
        assert!(changes.take(0).is_none());
    }

    #[test]
    fn too_many_keys_are_forgotten() {
        let changes = changes();
        assert!(changes.follow(0, at(0)));
        let long = |number: u64| key(&[&number.to_le_bytes()[..], &[7; 64 * 1024]].concat());
        for number in 0..(SINK_KEYS_BYTES / (64 * 1024)) as u64 {
            changes.tell(at(number + 1), &[], vec![(0, long(number)), (0, long(number))]);
        }
        assert!(changes.take(0).is_none() && changes.told.lock().followers[0].keys.is_empty());
        let reached = changes.look(0).reached.place;
        assert!(changes.follow(0, reached), "once it has read the log up to there");
        changes.tell(at(reached.offset + 1), &[], vec![(0, key(b"a"))]);
        assert_eq!(changes.take(0).unwrap().0.len(), 1);
    }
}
