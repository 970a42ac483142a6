//! Kafka: topics, transactions, watermarks, restarts.

use std::process::Command;

use tidemill_tests::services::kafka::{Isolation, topic_name};
use tidemill_tests::services::{Kafka, KafkaOptions, Message};

fn texts(count: usize, what: &str) -> Vec<Message> {
    (0..count).map(|i| Message::new(format!("{what}{i}")).partition(0)).collect()
}

#[test]
fn a_topic_keeps_keys_headers_and_times() {
    let kafka = Kafka::shared();
    let topic = topic_name("orders");
    // A message of long ago, which retention would take away at once.
    kafka.create_topic(&topic, 2, &[("retention.ms", "-1")]);
    let message = Message::new("paid").key("k1").partition(1).at_ms(1_700_000_000_123).header("trace", "t1");
    assert_eq!(kafka.produce(&topic, &[message.clone(), Message::tombstone("k1").partition(1)]), [(1, 0), (1, 1)]);
    let read = kafka.read_all(&topic, Isolation::Committed);
    assert_eq!(read.len(), 2);
    assert_eq!((&read[0].key, &read[0].payload), (&message.key, &message.payload));
    assert_eq!((&read[0].headers, read[0].timestamp_ms), (&message.headers, message.timestamp_ms));
    assert_eq!((read[1].key.as_deref(), &read[1].payload, read[1].offset), (Some(&b"k1"[..]), &None, 1));

    kafka.add_partitions(&topic, 5);
    assert_eq!(kafka.produce(&topic, &[Message::new("more").partition(4)]), [(4, 0)]);
    kafka.delete_topic(&topic);
    assert_eq!(kafka.partitions(&topic), 0);
    kafka.create_topic(&topic, 1, &[]);
    assert_eq!(kafka.watermarks(&topic, 0), (0, 0));
}

#[test]
fn records_of_an_aborted_transaction_are_in_the_log_and_not_seen() {
    let kafka = Kafka::shared();
    let topic = topic_name("transfers");
    kafka.create_topic(&topic, 1, &[]);
    let producer = kafka.transactional(&topic_name("bank"));
    for (what, commit) in [("a", true), ("b", false), ("c", true)] {
        producer.begin();
        producer.send(&topic, &texts(2, what));
        if commit { producer.commit() } else { producer.abort() }
    }
    assert_eq!(kafka.read_texts(&topic, Isolation::Committed), ["a0", "a1", "c0", "c1"]);
    assert_eq!(kafka.read_texts(&topic, Isolation::Uncommitted), ["a0", "a1", "b0", "b1", "c0", "c1"]);
    // Each end of a transaction takes an offset too.
    assert_eq!(kafka.watermarks(&topic, 0), (0, 9));
    producer.begin();
    producer.send(&topic, &texts(1, "open"));
    assert_eq!(kafka.read_texts(&topic, Isolation::Committed).len(), 4);
    producer.abort();
}

#[test]
fn deleted_records_move_the_low_watermark() {
    let kafka = Kafka::shared();
    let topic = topic_name("trimmed");
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, &texts(10, "r"));
    kafka.delete_records(&topic, 0, 7);
    assert_eq!(kafka.watermarks(&topic, 0), (7, 10));
    assert_eq!(kafka.read_texts(&topic, Isolation::Committed), ["r7", "r8", "r9"]);
}

#[test]
fn a_killed_broker_comes_back_with_its_data() {
    let kafka = Kafka::start(&KafkaOptions::default());
    let topic = topic_name("kept");
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, &texts(100, "before"));
    let address = kafka.address();
    kafka.kill();
    kafka.restart();
    assert_eq!(kafka.address(), address);
    kafka.produce(&topic, &texts(1, "after"));
    let read = kafka.read_texts(&topic, Isolation::Committed);
    assert_eq!((read.len(), read[0].as_str(), read[100].as_str()), (101, "before0", "after0"));
    // A paused one answers nobody, and goes on.
    kafka.pause();
    let waiting = std::thread::scope(|scope| {
        let produced = scope.spawn(|| kafka.produce(&topic, &texts(1, "paused")));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let waiting = !produced.is_finished();
        kafka.resume();
        assert_eq!(produced.join().unwrap(), [(0, 101)]);
        waiting
    });
    assert!(waiting);
}

#[test]
fn three_brokers_go_on_without_one() {
    let kafka = Kafka::start(&KafkaOptions { brokers: 3, ..KafkaOptions::default() });
    let topic = topic_name("three");
    kafka.create_topic(&topic, 3, &[]);
    let everywhere = |what: &str| -> Vec<Message> { (0..3).map(|p| Message::new(what).partition(p)).collect() };
    kafka.produce(&topic, &everywhere("all"));
    kafka.kill_broker(1);
    kafka.produce(&topic, &everywhere("two"));
    kafka.restart();
    assert_eq!(kafka.read_texts(&topic, Isolation::Committed), ["all", "two", "all", "two", "all", "two"]);
}

/// A client of the machine's own OpenSSL: what the tests' own librdkafka may be built without.
#[test]
fn a_broker_listens_for_tls() {
    let kafka = Kafka::start(&KafkaOptions { tls: true, ..KafkaOptions::default() });
    let tls = kafka.tls();
    for (listener, client) in [(&tls.ssl, true), (&tls.ssl, false), (&tls.sasl_ssl, false)] {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-brief", "-verify_return_error", "-connect", listener, "-CAfile"]);
        command.arg(tls.certificates.authority());
        if client {
            let (certificate, key) = tls.certificates.of("client");
            command.arg("-cert").arg(certificate).arg("-key").arg(key);
        }
        let said = command.stdin(std::process::Stdio::null()).output().unwrap();
        let words = String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && words.contains("Verification: OK"), "{listener}: {words}");
    }
    let topic = topic_name("secret");
    kafka.create_topic(&topic, 1, &[]);
    // PLAIN needs no OpenSSL in the client; a wrong password is refused.
    for (secret, accepted) in [(tls.secret.as_str(), true), ("wrong", false)] {
        let producer = kafka.producer(&[
            ("bootstrap.servers", &tls.sasl),
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", &tls.user),
            ("sasl.password", secret),
            ("message.timeout.ms", "3000"),
        ]);
        assert_eq!(producer.try_send(&topic, &[Message::new("hello")])[0].is_ok(), accepted, "{secret}");
    }
}
