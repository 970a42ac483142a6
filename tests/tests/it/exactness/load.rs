//! Random events in partitions of topics: made, written, and remembered with the offsets that they have got; and waiting until
//! all of them have been taken in.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use tidemill_client::{Client, v1};
use tidemill_tests::oracle::accept::{self, Ledger, SourceLedger};
use tidemill_tests::oracle::model::Row;
use tidemill_tests::services::kafka::{Producer, topic_name};
use tidemill_tests::services::{Kafka, Message};

use crate::vocabulary::world::{END, HOUR, SPAN, START, World, table_row};

/// What has been written.
pub struct Load {
    pub world: World,
    pub topics: Vec<String>,
    /// by source
    pub partitions: Vec<i32>,
    pub rows: Vec<(usize, Row)>,
    pub random: StdRng,
    made: u64,
}

impl Load {
    /// Topics without records, for a world in which so many events will come.
    pub fn new(kafka: &Kafka, events: usize, partitions: i32, random: StdRng) -> Load {
        let topics = vec![topic_name("events"), topic_name("shops")];
        let partitions = vec![partitions, 2];
        topics.iter().zip(&partitions).for_each(|(topic, count)| kafka.create_topic(topic, *count, &[]));
        Load { world: World::of(events), topics, partitions, rows: Vec::new(), random, made: 0 }
    }

    /// The definitions that read them.
    pub fn definitions(&self) -> String {
        self.world.reading(&self.topics)
    }

    /// The next events, a few of them bad, each in any partition.
    pub fn events(&mut self, count: usize) -> Vec<Row> {
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            let mut row = match self.random.random_bool(0.01) {
                true => self.world.poison(&mut self.random, self.made),
                false => self.world.event(&mut self.random, self.made),
            };
            row.partition = self.random.random_range(0..self.partitions[0]) as u32;
            self.made += 1;
            rows.push(row);
        }
        rows
    }

    /// Rows of the table, in any partition.
    pub fn table_rows(&mut self, count: usize) -> Vec<Row> {
        let mut rows = Vec::with_capacity(count);
        for offset in 0..count as u64 {
            let mut row = table_row(&mut self.random, offset);
            row.partition = self.random.random_range(0..self.partitions[1]) as u32;
            rows.push(row);
        }
        rows
    }

    /// Rows as records.
    pub fn messages(&self, source: usize, rows: &[Row]) -> Vec<Message> {
        let message = |row: &Row| Message::new(self.world.line(source, row)).partition(row.partition as i32);
        rows.iter().map(message).collect()
    }

    /// Writes rows, and remembers them.
    pub fn write(&mut self, kafka: &Kafka, source: usize, rows: Vec<Row>) {
        let places = kafka.produce(&self.topics[source], &self.messages(source, &rows));
        self.remember(source, rows, &places);
    }

    /// The same by a producer of one's own.
    pub fn send(&mut self, producer: &Producer, rows: Vec<Row>) {
        let places = producer.send(&self.topics[0], &self.messages(0, &rows));
        self.remember(0, rows, &places);
    }

    /// Remembers rows that have come to these places.
    pub fn remember(&mut self, source: usize, rows: Vec<Row>, places: &[(i32, i64)]) {
        for (mut row, (partition, offset)) in rows.into_iter().zip(places) {
            assert_eq!(row.partition, *partition as u32);
            row.offset = *offset as u64;
            self.rows.push((source, row));
        }
    }

    /// Writes so many events.
    pub fn more(&mut self, kafka: &Kafka, count: usize) {
        let rows = self.events(count);
        self.write(kafka, 0, rows);
    }

    /// What must have become of everything.
    pub fn ledgers(&self) -> Ledgers {
        let rows_of = |at: usize| -> Vec<Row> {
            self.rows.iter().filter(|(source, _)| *source == at).map(|(_, row)| row.clone()).collect()
        };
        let rows: Vec<Vec<Row>> = (0..self.world.sources.len()).map(rows_of).collect();
        let sources = self.world.sources.iter().zip(&rows);
        let sources =
            sources.map(|(source, rows)| (source.name.clone(), accept::source_ledger(source, rows))).collect();
        let views = self.world.views.iter().map(|view| {
            let at = self.world.sources.iter().position(|source| source.name == view.source).unwrap();
            (view.name.clone(), accept::ledger(view, &self.world.sources[at], &rows[at]))
        });
        Ledgers { sources, views: views.collect() }
    }

    /// Times to ask about: some hours after the last event, the hour before it, and any time before.
    pub fn times(&mut self) -> Vec<i64> {
        let mut times: Vec<i64> = (0..6).map(|_| exact_from() + self.random.random_range(0..3 * HOUR)).collect();
        times.extend((0..3).map(|_| END - self.random.random_range(0..HOUR)));
        times.extend((0..5).map(|_| START + self.random.random_range(0..SPAN)));
        times
    }
}

/// From here on records have everything.
pub fn exact_from() -> i64 {
    END + HOUR
}

/// What became of the events.
#[derive(Debug, PartialEq, Eq)]
pub struct Ledgers {
    sources: Vec<(String, SourceLedger)>,
    views: Vec<(String, Ledger)>,
}

impl Ledgers {
    /// As a server has them.
    fn of(&self, status: &v1::StatusResponse) -> Ledgers {
        let source = |(name, _): &(String, SourceLedger)| {
            let v1::SourceStatus { consumed, accepted, dead_lettered, .. } = status.sources[name].clone();
            (name.clone(), SourceLedger { consumed, accepted, dead_lettered })
        };
        let view = |(name, _): &(String, Ledger)| {
            let v1::ViewStatus { applied, filtered, keyless, late, duplicate, .. } = status.views[name].clone();
            (name.clone(), Ledger { applied, filtered, keyless, late, duplicate })
        };
        Ledgers { sources: self.sources.iter().map(source).collect(), views: self.views.iter().map(view).collect() }
    }

    /// Which events are late depends on how partitions come together, and on nothing else.
    fn without_late(&self) -> Ledgers {
        let view =
            |(name, of): &(String, Ledger)| (name.clone(), Ledger { applied: of.applied + of.late, late: 0, ..*of });
        Ledgers { sources: self.sources.clone(), views: self.views.iter().map(view).collect() }
    }

    /// Waits until a server has them. Err: what it has instead.
    pub async fn wait(&self, client: &Client, patience: Duration) -> Result<(), String> {
        let begun = Instant::now();
        let wanted = self.without_late();
        loop {
            let found = match client.status().await {
                Ok(status) => self.of(&status).without_late(),
                Err(error) if begun.elapsed() > patience => return Err(format!("{error:?}")),
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            if found == wanted {
                return Ok(());
            }
            if begun.elapsed() > patience {
                let status = client.status().await;
                return Err(format!("{found:?}\nnot {wanted:?}\n{:?}", status.map(|status| status.sources)));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
