//! Settings of Kafka: `[kafka]` in tidemill.toml. Properties of the client library pass through by an allow-list, so that none
//! that an answer's exactness depends on can be changed.

use tidemill_features::problem::nearest;

use super::{RegistrySettings, Secret, registry};

/// How brokers are reached.
#[derive(Clone, Debug, Default)]
pub struct KafkaSettings {
    /// `HOST:PORT`, with commas between them; empty: there is no Kafka
    pub brokers: String,
    /// consumer group, in which positions are told to lag tools
    pub group: String,
    /// how this process is named to brokers
    pub client_id: String,
    /// plaintext, ssl, sasl_plaintext or sasl_ssl
    pub security_protocol: String,
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: none
    pub sasl_mechanism: String,
    /// who asks
    pub username: Option<Secret>,
    /// and proves it
    pub password: Option<Secret>,
    /// file of certificates that brokers are checked against
    pub ca: String,
    /// file of the client's certificate
    pub certificate: String,
    /// file of its key
    pub key: String,
    /// of the key's file
    pub key_password: Option<Secret>,
    /// of the client library, by name
    pub properties: Vec<(String, String)>,
    /// who knows the schemas of messages
    pub registry: RegistrySettings,
}

impl KafkaSettings {
    /// Whether brokers are named at all.
    pub fn is_set(&self) -> bool {
        !self.brokers.is_empty()
    }

    /// Whether the connection needs TLS.
    pub fn needs_tls(&self) -> bool {
        self.security_protocol.ends_with("ssl") || self.sasl_mechanism.starts_with("SCRAM")
    }
}

/// Properties of the client library that may be set.
const ALLOWED: [&str; 27] = [
    "broker.address.family",
    "broker.address.ttl",
    "client.rack",
    "connections.max.idle.ms",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "group.instance.id",
    "heartbeat.interval.ms",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.max.bytes",
    "metadata.max.age.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "session.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.timeout.ms",
    "ssl.cipher.suites",
    "ssl.endpoint.identification.algorithm",
    "topic.metadata.refresh.interval.ms",
];

/// Properties that have a setting of their own, or that are as they must be.
const RESERVED: [(&str, &str); 15] = [
    ("auto.offset.reset", "where to go on is decided by what is applied, and a gap is never skipped"),
    ("enable.auto.commit", "positions are kept with the state"),
    ("enable.auto.offset.store", "positions are kept with the state"),
    ("isolation.level", "only committed records are events"),
    ("allow.auto.create.topics", "reading a topic must not make it"),
    ("check.crcs", "damaged records must not be taken for events"),
    ("enable.partition.eof", "it is the server's own"),
    ("bootstrap.servers", "use kafka.brokers"),
    ("group.id", "use kafka.group"),
    ("client.id", "use kafka.client_id"),
    ("security.protocol", "use kafka.security_protocol"),
    ("sasl.mechanism", "use kafka.sasl_mechanism"),
    ("sasl.username", "use kafka.username"),
    ("sasl.password", "use kafka.password"),
    ("ssl.ca.location", "use kafka.ca"),
];

/// Keys whose values are secrets.
pub(super) fn is_secret(key: &str) -> bool {
    matches!(key, "kafka.username" | "kafka.password" | "kafka.key_password")
}

/// Reads the section by its keys. Err: the key that is wrong, and what was expected.
pub(super) fn section(text: &dyn Fn(&str) -> String) -> Result<KafkaSettings, (&'static str, String)> {
    let secret = |key: &str| Some(text(key)).filter(|value| !value.is_empty()).map(Secret::new);
    let brokers = text("kafka.brokers");
    let is_address = |broker: &str| {
        broker.trim().rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if !brokers.is_empty() && (!brokers.split(',').all(is_address) || brokers.contains("://")) {
        return Err(("kafka.brokers", "addresses such as kafka-1:9092,kafka-2:9092".to_string()));
    }
    let one_of = |key: &'static str, choices: &[&str]| {
        let value = text(key);
        let expected =
            || format!("one of {}", choices.iter().filter(|c| !c.is_empty()).copied().collect::<Vec<_>>().join(", "));
        if choices.contains(&value.as_str()) { Ok(value) } else { Err((key, expected())) }
    };
    let security_protocol = one_of("kafka.security_protocol", &["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])?;
    let sasl_mechanism = one_of("kafka.sasl_mechanism", &["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])?;
    let (username, password) = (secret("kafka.username"), secret("kafka.password"));
    let is_sasl = security_protocol.starts_with("sasl");
    if is_sasl && (sasl_mechanism.is_empty() || username.is_none() || password.is_none()) {
        let missing = match (sasl_mechanism.is_empty(), username.is_none()) {
            (true, _) => "kafka.sasl_mechanism",
            (_, true) => "kafka.username",
            _ => "kafka.password",
        };
        return Err((missing, format!("a value, because kafka.security_protocol is {security_protocol}")));
    }
    if !is_sasl && (!sasl_mechanism.is_empty() || username.is_some() || password.is_some()) {
        let expected = "sasl_plaintext or sasl_ssl, because credentials are set".to_string();
        return Err(("kafka.security_protocol", expected));
    }
    let settings = KafkaSettings {
        brokers,
        group: text("kafka.group"),
        client_id: text("kafka.client_id"),
        security_protocol,
        sasl_mechanism,
        username,
        password,
        ca: text("kafka.ca"),
        certificate: text("kafka.certificate"),
        key: text("kafka.key"),
        key_password: secret("kafka.key_password"),
        properties: properties(&text("kafka.properties")).map_err(|expected| ("kafka.properties", expected))?,
        registry: registry::section(text).map_err(|(key, expected)| (key, expected.to_string()))?,
    };
    if settings.needs_tls() && !cfg!(feature = "kafka-tls") {
        let key = if settings.sasl_mechanism.starts_with("SCRAM") {
            "kafka.sasl_mechanism"
        } else {
            "kafka.security_protocol"
        };
        let expected = "what needs no TLS, because this build has none for Kafka: build with --features kafka-tls";
        return Err((key, expected.to_string()));
    }
    if settings.group.is_empty() {
        return Err(("kafka.group", "a name".to_string()));
    }
    Ok(settings)
}

/// `NAME=VALUE`, with commas between them.
fn properties(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| "properties such as fetch.min.bytes = \"1\"".to_string())?;
        let (name, value) = (name.trim(), value.trim());
        if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
            return Err(format!("other properties than `{name}`: {why}"));
        }
        if !ALLOWED.contains(&name) {
            let near = nearest(name, ALLOWED).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(format!("properties without `{name}`, which is not among those that may be set{near}"));
        }
        found.push((name.to_string(), value.to_string()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<KafkaSettings, (&'static str, String)> {
        let defaults = [("kafka.security_protocol", "plaintext"), ("kafka.group", "tidemill")];
        section(&|key: &str| {
            let given = pairs.iter().chain(&defaults).find(|(name, _)| *name == key);
            given.map_or(String::new(), |(_, value)| value.to_string())
        })
    }

    #[test]
    fn mistakes_name_their_key() {
        for (pairs, key, says) in [
            (&[("kafka.brokers", "here")][..], "kafka.brokers", "kafka-1:9092"),
            (&[("kafka.brokers", "http://a:1")], "kafka.brokers", "addresses"),
            (&[("kafka.security_protocol", "tls")], "kafka.security_protocol", "plaintext, ssl"),
            (&[("kafka.security_protocol", "sasl_plaintext")], "kafka.sasl_mechanism", "a value"),
            (&[("kafka.password", "x")], "kafka.security_protocol", "credentials are set"),
            (&[("kafka.properties", "fetch.min.byte=1")], "kafka.properties", "did you mean `fetch.min.bytes`?"),
            (&[("kafka.properties", "auto.offset.reset=latest")], "kafka.properties", "never skipped"),
            (&[("kafka.properties", "fetch.min.bytes")], "kafka.properties", "such as"),
            (&[("kafka.group", "")], "kafka.group", "a name"),
        ] {
            let (found, expected) = read(pairs).unwrap_err();
            assert!(found == key && expected.contains(says), "{pairs:?}: {found} {expected}");
        }
        let tls = read(&[("kafka.security_protocol", "ssl")]);
        assert_eq!(tls.is_ok(), cfg!(feature = "kafka-tls"), "{tls:?}");
    }

    #[test]
    fn what_is_right_is_taken() {
        let settings = read(&[
            ("kafka.brokers", "a:9092, b:9093"),
            ("kafka.security_protocol", "sasl_plaintext"),
            ("kafka.sasl_mechanism", "PLAIN"),
            ("kafka.username", "canary-name"),
            ("kafka.password", "canary-word"),
            ("kafka.properties", "fetch.min.bytes=1, client.rack = r1"),
        ]);
        let settings = settings.unwrap();
        assert!(settings.is_set() && !settings.needs_tls());
        assert_eq!(settings.properties[1], ("client.rack".to_string(), "r1".to_string()));
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
