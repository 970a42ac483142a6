//! Each message says what the oracle says of the events that it names, and the last one of each entity what a read says.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value as Json;
use tidemill_tests::server::{Server, binary};
use tidemill_tests::services::Kafka;

use super::messages::{all, newest};
use super::world::{Published, random, scale};
use crate::kafka::world::project;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_is_a_read_of_its_moment() {
    let kafka = Kafka::shared();
    let events = 300 * scale();
    let mut published = Published::new(kafka, events, &["cards", "joined", "shop_table"], true, random("sinks"));
    published.table_rows(kafka, 120);
    let folder = project(&kafka.address(), &published.definitions());
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    // A row of a joined table brings no message: the last one of a card would not have seen what comes later.
    published.quiet(&client).await;
    for _ in 0..10 {
        published.events(kafka, events / 10);
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    published.quiet(&client).await;
    let compared = published.check_all(kafka);
    let (entities, gone) = published.check_last(kafka);
    println!("{compared} values of messages, {entities} entities, {gone} of them gone");
    assert!(compared > 1_000 && entities > 50 && gone > 0, "{compared} values, {entities} entities, {gone} gone");

    // Without the file everything is sent again, and then each message is what the command line says of the same moment.
    server.terminate();
    let files = folder.path().join("data/files/sinks");
    std::fs::remove_file(files.join("joined.json")).unwrap();
    let before = all(kafka, &published.sinks[1].1).len();
    let server = Server::start(folder.path()).await;
    published.quiet(&server.client().await).await;
    let sent = all(kafka, &published.sinks[1].1);
    assert!(sent.len() > before, "{before} messages, and no more");
    let messages = newest(&sent);
    let asked = folder.path().join("keys.ndjson");
    let lines: String = messages
        .values()
        .map(|sent| format!("{{\"card\": {}, \"t\": {}}}\n", sent.key["card"], sent.value.as_ref().unwrap()["as_of"]))
        .collect();
    std::fs::write(&asked, lines).unwrap();
    let output = Command::new(binary())
        .args(["--server", &server.address, "--json", "get", "joined:*", "--time", "t", "--keys"])
        .arg(&asked)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let said: BTreeMap<String, Json> = lines
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap())
        .map(|json| (json["keys"].to_string(), json))
        .collect();
    assert_eq!(said.len(), messages.len());
    for (key, sent) in messages {
        let (sent, said) = (sent.value.unwrap(), &said[&key]);
        assert_eq!(sent, *said, "{key}");
        let names = |json: &Json| json.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&sent), names(said), "in the same order");
    }
}
