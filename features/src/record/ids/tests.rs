//! Pages of event ids beside a plain map of them.

use std::sync::Arc;

use super::*;
use crate::definitions::{DefinitionFile, check};

/// Chunks as a store would hold them.
#[derive(Default)]
struct Stored(HashMap<NodeId, Arc<[u8]>>);

impl Nodes for Stored {
    fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
        self.0.get(&id).cloned()
    }
}

/// Of a source as it is declared; arrivals ascend where they are the server's own.
fn dedup(horizon: i64, arrivals_ascend: bool) -> Dedup {
    let arrival = if arrivals_ascend { "" } else { "arrival_time = 't'" };
    let text = format!(
        "[source.s]\nconnector = 'push'\nevent_time = 't'\nevent_id = 'i'\ndedup_horizon = '{horizon}us'\n{arrival}\n\
         fields = {{ k = 'string', i = 'int64', t = 'timestamp' }}\n[entity.e]\nkey = 'k'\n[view.v]\nentity = 'e'\n\
         source = 's'\n[view.v.features]\na = {{ agg = 'count()' }}\n"
    );
    let files = [DefinitionFile { path: "v.toml".into(), text }];
    let registry = check(&files).unwrap_or_else(|problems| panic!("{}", problems[0]));
    registry.views[0].plan.dedup.clone().unwrap()
}

/// Partition, id, arrival.
type Event = (u32, i64, i64);

/// Takes events in, one batch after the other, and asks for each what a plain map says of it. The result is what is stored.
fn remembered(dedup: &Dedup, batches: &[Vec<Event>]) -> (Option<Vec<u8>>, Stored) {
    let mut known: HashMap<(u32, i64), i64> = HashMap::new();
    let (mut record, mut stored) = (None::<Vec<u8>>, Stored::default());
    for events in batches {
        let bytes = record.clone();
        let mut ids = match &bytes {
            Some(bytes) => Ids::of_record(Some(dedup), bytes, &stored).unwrap(),
            None => Ids::none(Some(dedup)),
        };
        for (partition, id, arrival) in events {
            let latest = known.get(&(*partition, *id));
            let expected = latest.is_some_and(|latest| arrival - latest <= dedup.horizon);
            let id_value = Value::Int64(*id);
            assert_eq!(ids.is_duplicate(*partition, &id_value, *arrival), Ok(expected), "{id} {arrival}");
            if !expected {
                ids.remember(*partition, &id_value, *arrival).unwrap();
                known.insert((*partition, *id), *arrival);
            }
        }
        let mut chunks = Chunks::new(&stored);
        record = ids.finish(&mut chunks).unwrap();
        for (id, chunk) in chunks.changed {
            match chunk {
                Some(chunk) => stored.0.insert(id, chunk),
                None => stored.0.remove(&id),
            };
        }
    }
    (record, stored)
}

fn random(i: u64, of: u64) -> u64 {
    hash_bytes(&i.to_le_bytes()) % of
}

/// Thousands of ids in hundreds of batches: the pages know what a map knows, also where arrivals go back.
#[test]
fn pages_know_what_a_map_knows() {
    for (horizon, ascend, step) in [(500, true, 1), (500, false, 1), (40, true, 7), (1 << 40, true, 1)] {
        let event = |i: u64| {
            let back = if ascend { 0 } else { random(i + 7, 900) as i64 };
            (random(i + 1, 2) as u32, random(i, 1_500) as i64, i as i64 * step - back)
        };
        let batches: Vec<Vec<Event>> = (0..120u64).map(|at| (at * 40..at * 40 + 40).map(event).collect()).collect();
        let (record, stored) = remembered(&dedup(horizon, ascend), &batches);
        let bits = record.unwrap()[0];
        // All pages of the last split are there, and none of those before it.
        assert_eq!(stored.0.len(), if bits == 0 { 0 } else { 1 << bits }, "{horizon} {ascend}");
        assert!(stored.0.keys().all(|id| id.level == PAGE_LEVEL + bits));
    }
}

#[test]
fn a_page_has_room_for_so_many() {
    let ids = |count: i64| vec![(0..count).map(|id| (0, id, id)).collect::<Vec<Event>>()];
    let (record, stored) = remembered(&dedup(1 << 40, true), &ids(PAGE_MAX as i64));
    assert!(record.unwrap()[0] == 0 && stored.0.is_empty());
    let (record, stored) = remembered(&dedup(1 << 40, true), &ids(PAGE_MAX as i64 + 1));
    assert_eq!((record.unwrap(), stored.0.len()), (vec![1], 2));
}

/// An id is forgotten once the partition's arrivals are farther ahead than the horizon, where they never go back.
#[test]
fn ids_are_forgotten_behind_the_horizon() {
    let kept = |ascend: bool, events: &[Event]| {
        let (record, _) = remembered(&dedup(10, ascend), &[events.to_vec()]);
        Page::open(&record.unwrap()[1..]).unwrap().count
    };
    assert_eq!(kept(true, &[(0, 1, 100), (0, 2, 110)]), 2);
    assert_eq!(kept(true, &[(0, 1, 100), (0, 2, 111)]), 1);
    assert_eq!(kept(true, &[(0, 1, 100), (1, 2, 111)]), 2);
    assert_eq!(kept(false, &[(0, 1, 100), (0, 2, 111)]), 2);
    assert_eq!(kept(true, &[(0, 1, 100), (0, 1, 111)]), 1);
}

#[test]
fn without_ids_there_is_nothing_to_repeat() {
    let of_none = dedup(10, true);
    let mut ids = Ids::none(Some(&of_none));
    ids.remember(0, &Value::Null, 5).unwrap();
    assert_eq!(ids.is_duplicate(0, &Value::Null, 5), Ok(false));
    assert_eq!(ids.finish(&mut Chunks::new(&Stored::default())), Ok(None));
    let mut undeclared = Ids::none(None);
    undeclared.remember(0, &Value::Int64(1), 5).unwrap();
    assert_eq!(undeclared.is_duplicate(0, &Value::Int64(1), 5), Ok(false));
    assert_eq!(undeclared.finish(&mut Chunks::new(&Stored::default())), Ok(None));
}

#[test]
fn pages_that_cannot_be_are_damage() {
    let (of, nothing) = (dedup(10, true), Stored::default());
    let open = |bytes: &[u8]| Ids::of_record(Some(&of), bytes, &nothing).is_ok();
    assert!(open(&[BITS_MAX]) && !open(&[BITS_MAX + 1]) && !open(&[]));
    // A page that should lie beside the record, and does not.
    let mut ids = Ids::of_record(Some(&of), &[1], &nothing).unwrap();
    assert_eq!(ids.is_duplicate(0, &Value::Int64(1), 5), Err(Damaged));
}

/// Who fetches pages hears of all that a batch needs at once, and not of one after the other.
#[test]
fn all_pages_of_a_batch_are_asked_for_together() {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    use crate::aggregates::EventOrder;

    #[derive(Default)]
    struct Nothing(RefCell<Vec<NodeId>>);
    impl Nodes for Nothing {
        fn get(&self, id: NodeId) -> Option<Arc<[u8]>> {
            self.0.borrow_mut().push(id);
            None
        }
    }

    let dedup = dedup(1 << 40, true);
    let (record, _) = remembered(&dedup, &[(0..5_000).map(|id| (0, id, id)).collect()]);
    let (record, nothing) = (record.unwrap(), Nothing::default());
    let mut ids = Ids::of_record(Some(&dedup), &record, &nothing).unwrap();
    let event = |i: i64| Incoming {
        order: EventOrder { time: 0, id: Value::Int64(i * 31), partition: 0, offset: i as u64 },
        arrival: 6_000,
        passes: true,
        body: &[],
    };
    let events: Vec<Incoming<'_>> = (0..400).map(event).collect();
    assert_eq!(ids.look_for(&events), Err(Damaged));
    let page = |event: &Incoming<'_>| ids.page_of(&Name::of(&dedup, 0, &event.order.id).key);
    let wanted: BTreeSet<u64> = events.iter().map(page).collect();
    let asked = nothing.0.take();
    assert_eq!(asked.iter().map(|id| id.slot).collect::<BTreeSet<u64>>(), wanted);
    assert!(wanted.len() > 30 && asked.len() == wanted.len());
}
