//! A writer that pushes for as long as it is told to, to a server that comes and goes, and remembers what it has written. What was
//! not acknowledged it sends again, with the same ids: so each of its events counts exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_client::{Client, v1};
use tidemill_tests::server::ndjson;

/// Small random numbers from a printed seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at as u64 + 1) as usize);
        }
    }
}

/// What a key has: events with x >= 0, their sum, all events, the greatest x.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    pub n: i64,
    pub total: i64,
    pub all: i64,
    pub greatest: i64,
}

impl Default for Known {
    fn default() -> Known {
        Known { n: 0, total: 0, all: 0, greatest: i64::MIN }
    }
}

/// Keys: enough to lie in many shards.
const KEYS: u64 = 40;

pub struct Writer {
    /// of what was acknowledged
    pub known: BTreeMap<String, Known>,
    /// where the server is now
    address: Arc<Mutex<String>>,
    random: Random,
    /// keys that were written at all: the first event of each passes the filter, so that both views have it
    seen: BTreeSet<u64>,
    next: i64,
    begin: i64,
    /// what was sent and not acknowledged
    open: Option<Batch>,
}

struct Batch {
    lines: String,
    rows: Vec<(String, i64)>,
    wait: v1::Wait,
}

impl Writer {
    pub fn new(seed: u64, address: Arc<Mutex<String>>) -> Writer {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as i64;
        let (known, seen, random) = (BTreeMap::new(), BTreeSet::new(), Random(seed));
        Writer { known, address, random, seen, next: 0, begin: now - 7_200_000_000, open: None }
    }

    /// Writes until it is told to stop.
    pub async fn run(mut self, stop: Arc<AtomicBool>) -> Writer {
        while !stop.load(Ordering::SeqCst) {
            if self.push().await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self
    }

    /// Sends what is open until it is acknowledged.
    pub async fn finish(&mut self) {
        while self.open.is_some() {
            if self.push().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// One push, the open one first.
    pub async fn push(&mut self) -> Result<(), String> {
        let batch = match self.open.take() {
            Some(batch) => batch,
            None => self.batch(),
        };
        let address = self.address.lock().unwrap().clone();
        let pushed = match Client::connect(&address).await {
            Ok(client) => {
                let request = ndjson("s", batch.lines.clone(), batch.wait);
                client.with_deadline(Duration::from_secs(5)).push(request).await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = pushed {
            self.open = Some(batch);
            return Err(format!("{}: {error}", error.code));
        }
        for (key, x) in batch.rows {
            let known = self.known.entry(key).or_default();
            known.all += 1;
            known.greatest = known.greatest.max(x);
            if x >= 0 {
                known.n += 1;
                known.total += x;
            }
        }
        Ok(())
    }

    fn batch(&mut self) -> Batch {
        let count = 1 + self.random.below(30);
        let (mut lines, mut rows) = (String::new(), Vec::new());
        for _ in 0..count {
            let (id, random) = (self.next, &mut self.random);
            // One key has a third of the events: its records have chunks.
            let key = if random.below(3) == 0 { 0 } else { random.below(KEYS) };
            let least = if self.seen.insert(key) { 0 } else { -50 };
            let (key, x) = (format!("k{key}"), random.below(1000) as i64 + least);
            let at = self.begin + (id * 7919) % 3_600_000_000;
            lines += &format!("{{\"id\":{id},\"key\":\"{key}\",\"x\":{x},\"at\":{at}}}\n");
            rows.push((key, x));
            self.next += 1;
        }
        if self.random.below(4) == 0 {
            lines += "{\"id\":0,\"key\":\"k0\",\"x\":\"broken\"}\n";
        }
        let wait = if self.random.below(4) == 0 { v1::Wait::Readable } else { v1::Wait::Durable };
        Batch { lines, rows, wait }
    }
}
