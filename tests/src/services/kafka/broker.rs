//! Brokers in KRaft mode, each a controller too: their settings from `tests/services.d`, their folder, their `java`.

use std::path::{Path, PathBuf};
use std::process::Command;

use rand::Rng;
use rand::distr::Alphanumeric;

use super::{Certificates, KafkaOptions, Place, Server};
use crate::services::{installed, lasting_port, script};

/// Who may use SASL.
pub const USER: &str = "tidemill";

/// What the first broker listens on beside its plain port, and what it takes to be let in.
#[derive(Clone)]
pub struct TlsListeners {
    /// TLS; a client's certificate is looked at if it shows one
    pub ssl: String,
    /// PLAIN or SCRAM-SHA-256, without TLS
    pub sasl: String,
    /// PLAIN or SCRAM-SHA-256 over TLS
    pub sasl_ssl: String,
    /// the user of SASL
    pub user: String,
    /// and the password
    pub secret: String,
    /// whose authority has signed the brokers
    pub certificates: Certificates,
}

/// Starts all brokers of a Kafka and waits until they are ready: these, their addresses, and their other listeners.
pub fn start(place: &Place, options: &KafkaOptions) -> (Vec<Server>, Vec<String>, Option<TlsListeners>) {
    let count = options.brokers.max(1);
    let (java, jars) = (installed("java"), installed("kafka"));
    let ports: Vec<(u16, u16)> = (0..count).map(|_| (lasting_port(0), lasting_port(0))).collect();
    let voters: Vec<String> =
        ports.iter().zip(1..).map(|((_, controller), id)| format!("{id}@127.0.0.1:{controller}")).collect();
    let certificates = options.tls.then(|| Certificates::make(&place.path().join("certificates")));
    let (cluster, secret) = (format!("T{}A", letters(20)), letters(24));
    let mut tls = None;
    let mut brokers = Vec::new();
    for (index, (port, controller)) in ports.iter().enumerate() {
        let mut blanks = vec![
            ("ID", (index + 1).to_string()),
            ("VOTERS", voters.join(",")),
            ("PORT", port.to_string()),
            ("CONTROLLER", controller.to_string()),
            ("FOLDER", place.path().join(format!("kafka-{}", index + 1)).display().to_string()),
            ("REPLICAS", count.min(3).to_string()),
        ];
        let mut text = template("kafka.properties");
        if let Some(certificates) = &certificates {
            text += &template("kafka-tls.properties");
            let listeners = listeners(certificates, &secret);
            let port_of = |address: &str| address.rsplit(':').next().expect("it has a port").to_string();
            blanks.push(("SSL", port_of(&listeners.ssl)));
            blanks.push(("SASL", port_of(&listeners.sasl)));
            blanks.push(("SASL_SSL", port_of(&listeners.sasl_ssl)));
            blanks.push(("CERTIFICATES", certificates.folder().display().to_string()));
            blanks.push(("SECRET", secret.clone()));
            tls.get_or_insert(listeners);
        }
        for (blank, value) in blanks {
            text = text.replace(&format!("@{blank}@"), &value);
        }
        text.extend(options.settings.iter().map(|(name, value)| format!("{name}={value}\n")));
        let name = format!("kafka-{}", index + 1);
        let settings = place.path().join(format!("{name}.properties"));
        std::fs::write(&settings, text).expect("the folder can be written");
        let user = options.tls.then_some(secret.as_str());
        format_folder(&java, &jars, &settings, &cluster, user);
        let mut arguments = java_arguments(&jars);
        arguments.extend(["kafka.Kafka".to_string(), settings.display().to_string()]);
        brokers.push(Server::new(place, &name, &java, arguments));
    }
    brokers.iter_mut().for_each(Server::start);
    brokers.iter_mut().for_each(|broker| broker.wait_until(is_ready));
    (brokers, ports.iter().map(|(port, _)| format!("127.0.0.1:{port}")).collect(), tls)
}

/// A broker says this when everything has started and the controller lets clients come.
pub fn is_ready(broker: &Server) -> bool {
    broker.output().contains("Kafka Server started")
}

fn listeners(certificates: &Certificates, secret: &str) -> TlsListeners {
    let [ssl, sasl, sasl_ssl] = [(); 3].map(|()| format!("127.0.0.1:{}", lasting_port(0)));
    let (user, secret) = (USER.to_string(), secret.to_string());
    TlsListeners { ssl, sasl, sasl_ssl, user, secret, certificates: certificates.clone() }
}

/// A compiler that does less is faster to start with: a broker of a test does not live long.
fn java_arguments(jars: &Path) -> Vec<String> {
    let log = template_path("log4j2.properties");
    let mut arguments: Vec<String> =
        ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"].map(String::from).into();
    arguments.push(format!("-Dlog4j2.configurationFile=file:{}", log.display()));
    arguments.extend(["-cp".to_string(), format!("{}/*", jars.display())]);
    arguments
}

fn format_folder(java: &Path, jars: &Path, settings: &Path, cluster: &str, secret: Option<&str>) {
    let mut command = Command::new(java);
    command.args(java_arguments(jars)).args(["kafka.tools.StorageTool", "format", "-t", cluster, "-c"]).arg(settings);
    if let Some(secret) = secret {
        command.args(["--add-scram", &format!("SCRAM-SHA-256=[name={USER},password={secret}]")]);
    }
    let said = command.output().expect("java runs");
    let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "Kafka cannot format its folder: {words}");
}

fn template(name: &str) -> String {
    let path = template_path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn template_path(name: &str) -> PathBuf {
    script().with_extension("d").join(name)
}

fn letters(count: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(count).map(char::from).collect()
}
