//! Random events of a world that the oracle knows, written to topics while sinks publish: what each message must say, and what the
//! last one of each entity must.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value as Json;
use tidemill_client::Client;
use tidemill_features::definitions::{DefinitionFile, Registry, check};
use tidemill_tests::bridge::{same, value};
use tidemill_tests::oracle::model::{self, Datum, Row, View};
use tidemill_tests::oracle::service::{Keys, Project, read_view};
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Kafka, Message};

use super::messages::{Sent, all, newest};
use crate::kafka::world::status;
use crate::vocabulary::world::{END, World, table_row};

const SECOND: i64 = 1_000_000;
/// So often each sink may send an entity.
const EVERY: &str = "20ms";

/// What was written, and where sinks write to.
pub struct Published {
    world: World,
    /// of the two sources
    topics: Vec<String>,
    partitions: Vec<i32>,
    rows: Vec<(usize, Row)>,
    pub random: StdRng,
    made: u64,
    /// events end about now
    shift: i64,
    /// views, and the topics that they go to
    pub sinks: Vec<(&'static str, String)>,
    registry: Registry,
}

/// A seed that is printed.
pub fn random(what: &str) -> StdRng {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("{what}: TIDEMILL_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// CI does a tenth of what is asked of a release.
pub fn scale() -> usize {
    std::env::var("TIDEMILL_SINKS").ok().and_then(|size| size.parse().ok()).unwrap_or(1)
}

impl Published {
    /// Topics without records, for about so many events. What needs a request is not asked for; without `elsewhere`, nothing comes
    /// from other entities.
    pub fn new(kafka: &Kafka, events: usize, views: &[&'static str], elsewhere: bool, random: StdRng) -> Published {
        let mut world = World::of(events);
        for view in &mut world.views {
            view.features.iter_mut().for_each(|feature| feature.include_request = false);
            view.derived.retain(|_| elsewhere);
        }
        let (topics, partitions) = (vec![topic_name("events"), topic_name("shops")], vec![3, 2]);
        topics.iter().zip(&partitions).for_each(|(topic, count)| kafka.create_topic(topic, *count, &[]));
        let sinks: Vec<_> = views.iter().map(|view| (*view, topic_name(&view.replace('_', "-")))).collect();
        // Compaction comes later, so that each message can be looked at.
        let settings = [("cleanup.policy", "compact"), ("min.compaction.lag.ms", "3600000")];
        sinks.iter().for_each(|(_, topic)| kafka.create_topic(topic, 4, &settings));
        let shift = (tidemill::clock::Clock::default().now() - END) / SECOND * SECOND;
        let text = definitions(&world, &topics, &sinks);
        let registry =
            check(&[DefinitionFile { path: "a.toml".into(), text }]).unwrap_or_else(|all| panic!("{}", all[0]));
        Published { world, topics, partitions, rows: Vec::new(), random, made: 0, shift, sinks, registry }
    }

    /// The definitions of everything.
    pub fn definitions(&self) -> String {
        definitions(&self.world, &self.topics, &self.sinks)
    }

    /// Writes so many events, a few of them bad.
    pub fn events(&mut self, kafka: &Kafka, count: usize) {
        let mut rows = Vec::with_capacity(count);
        for _ in 0..count {
            let mut row = match self.random.random_bool(0.02) {
                true => self.world.poison(&mut self.random, self.made),
                false => self.world.event(&mut self.random, self.made),
            };
            row.partition = self.random.random_range(0..self.partitions[0]) as u32;
            self.made += 1;
            rows.push(row);
        }
        self.write(kafka, 0, rows);
    }

    /// Writes so many rows of the table.
    pub fn table_rows(&mut self, kafka: &Kafka, count: u64) {
        let mut rows: Vec<Row> = (0..count).map(|offset| table_row(&mut self.random, offset)).collect();
        rows.iter_mut().for_each(|row| row.partition = self.random.random_range(0..self.partitions[1]) as u32);
        self.write(kafka, 1, rows);
    }

    fn write(&mut self, kafka: &Kafka, source: usize, mut rows: Vec<Row>) {
        for row in &mut rows {
            row.arrival += self.shift;
            for column in &mut row.columns {
                if let Datum::Time(time) = column {
                    *time += self.shift;
                }
            }
        }
        let line = |row: &Row| Message::new(self.world.line(source, row)).partition(row.partition as i32);
        let places = kafka.produce(&self.topics[source], &rows.iter().map(line).collect::<Vec<_>>());
        for (mut row, (partition, offset)) in rows.into_iter().zip(places) {
            assert_eq!(row.partition, partition as u32);
            row.offset = offset as u64;
            self.rows.push((source, row));
        }
    }

    /// Waits until everything that was written is published.
    pub async fn quiet(&self, client: &Client) {
        let count = |at: usize| self.rows.iter().filter(|(source, _)| *source == at).count() as u64;
        for _ in 0..18_000 {
            if client.status().await.is_ok() {
                let now = status(client).await;
                let sources = self.world.sources.iter().enumerate();
                let taken = |(at, of): (usize, &model::Source)| now["sources"][&of.name]["consumed"] == count(at);
                let sent = |name: &str| now["sinks"][name]["lag"] == 0 && now["sinks"][name]["state"] == "running";
                if sources.into_iter().all(taken) && self.sinks.iter().all(|(view, _)| sent(view)) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("three minutes later: {}", status(client).await);
    }

    /// Compares each message with what the oracle says of the events that it has seen. Gives how many values were compared.
    pub fn check_all(&self, kafka: &Kafka) -> usize {
        let mut compared = 0;
        for (view, topic) in &self.sinks {
            let sent = all(kafka, topic);
            assert!(!sent.is_empty(), "nothing of {view} was sent");
            for message in sent.iter().filter(|message| message.value.is_some()) {
                let seen = |(source, row): &&(usize, Row)| {
                    message.has_seen(&self.world.sources[*source].name, row.partition, row.offset)
                };
                let rows: Vec<(usize, Row)> = self.rows.iter().filter(seen).cloned().collect();
                compared += self.check(view, message, &rows).unwrap_or_else(|wrong| panic!("{wrong}"));
            }
        }
        compared
    }

    /// Looks whether the last message of each entity says what all events say, and whether every entity has one. Gives how many
    /// entities there are, and how many of them are gone.
    pub fn check_last(&self, kafka: &Kafka) -> (usize, usize) {
        self.try_last(kafka).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// The same, or what is wrong.
    pub fn try_last(&self, kafka: &Kafka) -> Result<(usize, usize), String> {
        let (mut found, mut gone) = (0, 0);
        for (view, topic) in &self.sinks {
            let mut newest = newest(&all(kafka, topic));
            for keys in self.keys(view) {
                let (name, datum) = keys.iter().next().expect("one key");
                let key = serde_json::json!({ name: tidemill::json::value(&value(datum), None) });
                let message = newest.remove(&key.to_string());
                let now = tidemill::clock::Clock::default().now();
                match &message {
                    Some(message) if message.value.is_some() => drop(self.check(view, message, &self.rows)?),
                    message => {
                        let said = self.expected(view, &keys, &self.rows, now);
                        let is_gone = said.iter().all(|(_, answer)| match message {
                            Some(_) => !matches!(answer.status, model::Status::Present | model::Status::Error),
                            None => answer.status == model::Status::NotFound,
                        });
                        if !is_gone {
                            return Err(format!("{view} of {key}: {message:?}, but {said:?}"));
                        }
                        gone += usize::from(message.is_some());
                    }
                }
                found += usize::from(message.is_some());
            }
            assert!(newest.is_empty(), "{view}: nobody knows {:?}", newest.keys());
        }
        Ok((found, gone))
    }

    fn view(&self, name: &str) -> &View {
        self.world.views.iter().find(|view| view.name == name).expect("it is a view")
    }

    /// All entities of a view that rows name.
    fn keys(&self, view: &str) -> Vec<Keys> {
        let view = self.view(view);
        let source = self.world.sources.iter().position(|source| source.name == view.source).expect("it has a source");
        let column = &view.entity_keys[0];
        let at = self.world.sources[source].fields.iter().position(|(name, _)| name == column).expect("its key");
        let of_source = self.rows.iter().filter(|(of, row)| *of == source && !row.columns[at].is_null());
        let mut seen = BTreeSet::new();
        let mut keys = Vec::new();
        for (_, row) in of_source {
            if seen.insert(format!("{:?}", row.columns[at])) {
                keys.push(Keys::from([(column.clone(), row.columns[at].clone())]));
            }
        }
        keys
    }

    fn expected(&self, view: &str, keys: &Keys, rows: &[(usize, Row)], time: i64) -> Vec<(String, model::Answer)> {
        let project = Project { sources: &self.world.sources, views: &self.world.views, rows };
        read_view(project, self.view(view), keys, None, time)
    }

    /// Compares a message with what the oracle says of some events. Gives how many values it has.
    fn check(&self, view: &str, message: &Sent, rows: &[(usize, Row)]) -> Result<usize, String> {
        let (name, key) = message.key.as_object().and_then(|key| key.iter().next()).expect("one key");
        let datum = match key {
            Json::String(text) => Datum::Text(text.clone()),
            other => Datum::Int(other.as_i64().expect("an integer")),
        };
        let keys = Keys::from([(name.clone(), datum)]);
        let expected = self.expected(view, &keys, rows, message.time().expect("it has a time"));
        let definition = &self.registry.views[self.registry.view(view).expect("it is there")];
        let outputs: Vec<_> = definition.outputs().collect();
        assert_eq!(outputs.len(), expected.len());
        for (name, data_type) in outputs {
            let whole = format!("{view}:{name}");
            let (_, wanted) =
                expected.iter().find(|(known, _)| *known == whole || known == name).expect("the oracle knows it");
            // What other entities have done since does not bring a message.
            let later = view == "cards" && name.starts_with("last_shop_") && rows.len() == self.rows.len();
            let found = message.answer(&whole, data_type);
            if !later && !same(&found, wanted) {
                return Err(format!("{whole} of {}: {found:?}, not {wanted:?}", message.key));
            }
        }
        Ok(expected.len())
    }
}

fn definitions(world: &World, topics: &[String], sinks: &[(&'static str, String)]) -> String {
    let mut text = world.reading(topics).replace("entity = \"e_joined\"", "entity = \"e_cards\"");
    for (view, topic) in sinks {
        let sink = format!(
            "[sink.{view}]\nconnector = \"kafka\"\ntopic = \"{topic}\"\nview = \"{view}\"\nevery = \"{EVERY}\"\n"
        );
        text.push_str(&sink);
    }
    text
}
