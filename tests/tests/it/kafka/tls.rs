//! Brokers that are reached over TLS, with and without a certificate of the client, and by SCRAM: a real broker with an authority
//! of its own.

use tempfile::TempDir;
use tidemill_tests::services::kafka::topic_name;
use tidemill_tests::services::{Certificates, Kafka, KafkaOptions};

use super::world::{Event, consumed, reading, start, state_says};

/// A project whose `[kafka]` has these lines; secrets come from files.
fn secured(brokers: &str, topic: &str, secrets: &[(&str, &str)], lines: &str) -> TempDir {
    let project = reading(brokers, &format!("topic = \"{topic}\""), "");
    let mut settings = format!("[kafka]\nbrokers = \"{brokers}\"\n{lines}\n");
    for (key, value) in secrets {
        let file = project.path().join(key);
        std::fs::write(&file, value).unwrap();
        settings += &format!("{key} = \"${{file:{}}}\"\n", file.display());
    }
    std::fs::write(project.path().join("tidemill.toml"), settings).unwrap();
    project
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_reads_the_topic() {
    let kafka = Kafka::start(&KafkaOptions { tls: true, ..KafkaOptions::default() });
    let (tls, topic) = (kafka.tls(), topic_name("tls"));
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, &[Event::new(1, 0, 0).message(), Event::new(2, 0, 0).message()]);
    let ca = format!("ca = \"{}\"", tls.certificates.authority().display());
    let (certificate, key) = tls.certificates.of("client");
    let own = format!("certificate = \"{}\"\nkey = \"{}\"", certificate.display(), key.display());
    let word = [("username", tls.user.as_str()), ("password", tls.secret.as_str())];
    let sasl = |protocol: &str, mechanism: &str| {
        format!("security_protocol = \"{protocol}\"\nsasl_mechanism = \"{mechanism}\"\n{ca}")
    };
    for (brokers, secrets, lines) in [
        (&tls.ssl, &word[..0], format!("security_protocol = \"ssl\"\n{ca}")),
        (&tls.ssl, &word[..0], format!("security_protocol = \"ssl\"\n{ca}\n{own}")),
        (&tls.sasl_ssl, &word[..], sasl("sasl_ssl", "PLAIN")),
        (&tls.sasl_ssl, &word[..], sasl("sasl_ssl", "SCRAM-SHA-256")),
        (&tls.sasl, &word[..], sasl("sasl_plaintext", "SCRAM-SHA-256")),
    ] {
        let project = secured(brokers, &topic, secrets, &lines);
        let (_server, client) = start(project.path()).await;
        consumed(&client, 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_without_secrets() {
    let kafka = Kafka::start(&KafkaOptions { tls: true, ..KafkaOptions::default() });
    let (tls, topic) = (kafka.tls(), topic_name("tls"));
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, &[Event::new(1, 0, 0).message()]);
    let elsewhere = tempfile::tempdir().unwrap();
    let strange = Certificates::make(&elsewhere.path().join("other")).authority();
    let ca = |path: &std::path::Path| format!("ca = \"{}\"", path.display());
    let right = ca(&tls.certificates.authority());
    let wrong = [("username", tls.user.as_str()), ("password", "canary-of-a-password")];
    let scram = format!("security_protocol = \"sasl_ssl\"\nsasl_mechanism = \"SCRAM-SHA-256\"\n{right}");
    for (brokers, secrets, lines, says) in [
        // An authority that has not signed the broker, and a listener that speaks no TLS.
        (
            &tls.ssl,
            &wrong[..0],
            format!("security_protocol = \"ssl\"\n{}", ca(&strange)),
            "kafka.ca is correctly configured",
        ),
        (&kafka.address(), &wrong[..0], format!("security_protocol = \"ssl\"\n{right}"), "PLAINTEXT"),
        (&tls.sasl_ssl, &wrong[..], scram, "uthentication"),
    ] {
        let project = secured(brokers, &topic, secrets, &lines);
        let (server, client) = start(project.path()).await;
        let shown = state_says(&client, says).await;
        let state = shown["sources"]["tx"]["state"].as_str().unwrap();
        println!("{state}");
        assert!(state.contains(brokers.as_str()) && !shown.to_string().contains("canary"), "{shown}");
        assert!(!server.last_words().contains("canary"));
    }
    // Files that are not there are found at the start.
    let missing = format!("security_protocol = \"ssl\"\n{}", ca(&elsewhere.path().join("nowhere.pem")));
    let project = secured(&tls.ssl, &topic, &[], &missing);
    let refused = tidemill_tests::server::Server::try_start(project.path()).await.err().expect("it does not start");
    assert!(refused.contains("E5041") && refused.contains("nowhere.pem"), "{refused}");
}
