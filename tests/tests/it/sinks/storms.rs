//! kill -9 of the server, kills and pauses of the broker: no last value is lost, and no message says what was never so.

use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use tidemill_tests::server::Server;
use tidemill_tests::services::{Kafka, KafkaOptions};

use super::world::{Published, random, scale};
use crate::kafka::world::project;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// kill -9 of the server
    Kill,
    /// kill -9 of the broker
    Broker,
    /// SIGSTOP of the broker, and kill -9 of the server meanwhile
    Pause,
    /// SIGTERM
    Stop,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_loses_no_last_value() {
    let kafka = Kafka::start(&KafkaOptions::default());
    let count = |fault: Fault, times: usize| std::iter::repeat_n(fault, times * scale());
    let mut faults: Vec<Fault> = count(Fault::Kill, 6).chain(count(Fault::Broker, 2)).collect();
    faults.extend(count(Fault::Pause, 1).chain(count(Fault::Stop, 1)));
    let each = 30;
    let events = (faults.len() + 1) * each;
    let mut published =
        Published::new(&kafka, events, &["cards", "joined", "shop_table"], true, random("a storm over sinks"));
    faults.shuffle(&mut published.random);
    println!("{faults:?}");
    let folder = project(&kafka.address(), &published.definitions());
    published.table_rows(&kafka, 60);
    let mut server = Server::start(folder.path()).await;
    // A row of a joined table brings no message: the last one of a card would not have seen what comes later.
    published.quiet(&server.client().await).await;
    for fault in faults {
        published.events(&kafka, each);
        let moment = Duration::from_millis(published.random.random_range(0..150));
        tokio::time::sleep(moment).await;
        match fault {
            Fault::Kill => {
                server.kill();
                server = Server::start(folder.path()).await;
            }
            Fault::Broker => {
                kafka.kill();
                tokio::time::sleep(moment).await;
                kafka.restart();
            }
            Fault::Pause => {
                kafka.pause();
                tokio::time::sleep(moment).await;
                server.kill();
                kafka.resume();
                server = Server::start(folder.path()).await;
            }
            Fault::Stop => {
                assert_eq!(server.terminate(), Some(0));
                server = Server::start(folder.path()).await;
            }
        }
    }
    published.events(&kafka, each);
    published.quiet(&server.client().await).await;
    let compared = published.check_all(&kafka);
    let (entities, gone) = published.check_last(&kafka);
    println!("{compared} values of messages, {entities} entities, {gone} of them gone");
}
