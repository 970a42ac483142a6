//! A real Kafka: its brokers as processes (`broker`), and what tests ask of it (`topics`, `produce`, `consume`).

mod broker;
mod consume;
mod produce;
mod topics;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use super::{Certificates, Place, Server};

pub use broker::TlsListeners;
pub use consume::{Isolation, Received};
pub use produce::{Delivery, Message, Producer};

/// How a Kafka is set up.
#[derive(Clone, Default)]
pub struct KafkaOptions {
    /// one if 0
    pub brokers: usize,
    /// also listen for TLS and SASL: see `Kafka::tls`
    pub tls: bool,
    /// settings of the brokers beside those of `tests/services.d/kafka.properties`
    pub settings: Vec<(String, String)>,
}

/// A running Kafka; killed when dropped, its data with it.
pub struct Kafka {
    brokers: Mutex<Vec<Server>>,
    addresses: Vec<String>,
    tls: Option<TlsListeners>,
    admin: OnceLock<AdminClient<DefaultClientContext>>,
    producer: OnceLock<Producer>,
    /// last: the brokers end before their folder goes
    _place: Place,
}

impl Kafka {
    /// Starts one and waits until it is ready, some 3 s.
    pub fn start(options: &KafkaOptions) -> Kafka {
        let place = Place::new();
        let (brokers, addresses, tls) = broker::start(&place, options);
        let (admin, producer) = (OnceLock::new(), OnceLock::new());
        Kafka { brokers: Mutex::new(brokers), addresses, tls, admin, producer, _place: place }
    }

    /// The one that the tests of a binary share; whoever kills, pauses or starts brokers needs one of their own.
    pub fn shared() -> &'static Kafka {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Kafka::start(&KafkaOptions::default()))
    }

    /// `127.0.0.1:PORT` of each broker, with commas.
    pub fn address(&self) -> String {
        self.addresses.join(",")
    }

    /// The other listeners; there are none without `KafkaOptions::tls`.
    pub fn tls(&self) -> &TlsListeners {
        self.tls.as_ref().expect("KafkaOptions::tls asks for it")
    }

    /// kill -9 of all brokers at once.
    pub fn kill(&self) {
        self.brokers().iter_mut().for_each(Server::kill);
    }

    /// Starts those that were killed, on the same ports and data, and waits until they are ready.
    pub fn restart(&self) {
        let mut brokers = self.brokers();
        let mut started: Vec<&mut Server> = brokers.iter_mut().filter(|broker| !broker.runs()).collect();
        started.iter_mut().for_each(|broker| broker.start());
        started.iter_mut().for_each(|broker| broker.wait_until(broker::is_ready));
    }

    /// kill -9 of one of several brokers.
    pub fn kill_broker(&self, number: usize) {
        self.brokers()[number].kill();
    }

    /// Ends the brokers as an operator would: with SIGTERM, everything written and leadership handed over.
    pub fn stop(&self) {
        self.brokers().iter_mut().filter(|broker| broker.runs()).for_each(Server::terminate);
    }

    /// SIGSTOP of all brokers: connections stay, and nobody answers.
    pub fn pause(&self) {
        self.brokers().iter().filter(|broker| broker.runs()).for_each(Server::pause);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.brokers().iter().filter(|broker| broker.runs()).for_each(Server::resume);
    }

    /// Settings of a client that reaches it.
    pub fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.address());
        // A broker that comes back is found at once.
        client.set("reconnect.backoff.ms", "10").set("reconnect.backoff.max.ms", "200");
        // Clients that lose a broker say so on standard error; here that is the point of the test.
        client.set_log_level(rdkafka::config::RDKafkaLogLevel::Critical);
        client
    }

    fn brokers(&self) -> MutexGuard<'_, Vec<Server>> {
        self.brokers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name for a topic, which no other test has.
pub fn topic_name(what: &str) -> String {
    format!("{what}-{:016x}", rand::random::<u64>())
}
