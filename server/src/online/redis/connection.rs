//! The connection to one Redis or to a cluster, what is asked of a server before it is trusted, and its errors in our words.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_routing::{MultipleNodeRoutingInfo, ResponsePolicy, RoutingInfo, SingleNodeRoutingInfo};
use redis::io::tcp::TcpSettings;
use redis::{
    Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    ServerErrorKind, TlsCertificates, Value,
};

use super::cluster::Cluster;
use crate::limits::{REDIS_CONNECT, REDIS_RETRY_MAX, REDIS_RETRY_MIN, REDIS_SCAN_COUNT, REDIS_TICK};
use crate::online::StoreError;
use crate::settings::RedisSettings;

/// A connection that many requests share.
#[derive(Clone)]
pub(super) struct Connection {
    kind: Kind,
    /// for messages
    address: String,
    /// see `tick`
    _ticking: Arc<()>,
}

#[derive(Clone)]
enum Kind {
    Single(Box<ConnectionManager>),
    Cluster(Cluster),
}

/// One step of a scan: where the next one begins, and names.
type Scanned = (u64, Vec<Vec<u8>>);

/// The oldest server that has what the scripts need.
const VERSION_MIN: (u32, u32) = (7, 0);

impl Connection {
    /// Connects, and refuses a server that would lose what it is given.
    pub(super) async fn open(settings: &RedisSettings) -> Result<Connection, StoreError> {
        let address = settings.addresses.join(", ");
        let failed = |error: RedisError| in_words(&address, &error);
        let kind = match settings.cluster {
            true => Kind::Cluster(cluster(settings).await.map_err(failed)?),
            false => Kind::Single(Box::new(single(settings).await.map_err(failed)?)),
        };
        let connection = Connection { kind, address, _ticking: tick() };
        connection.check(settings.cluster).await?;
        Ok(connection)
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, StoreError> {
        self.raw(command).await.map_err(|error| in_words(&self.address, &error))
    }

    async fn raw<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let answer = match self.kind.clone() {
            Kind::Single(mut single) => single.req_packed_command(command).await,
            Kind::Cluster(cluster) => cluster.request(command).await,
        }?;
        Ok(T::from_redis_value(answer.extract_error()?)?)
    }

    /// Runs a script by its hash; a server that does not know it gets its text.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        script: &redis::Script,
        text: &str,
        keys: &[Vec<u8>],
        arguments: &[Vec<u8>],
    ) -> Result<T, StoreError> {
        let command = |verb: &str, script: &str| {
            let mut command = redis::cmd(verb);
            command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            command
        };
        match self.raw(&command("EVALSHA", script.get_hash())).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.query(&command("EVAL", text)).await
            }
            other => other.map_err(|error| in_words(&self.address, &error)),
        }
    }

    /// What each server says of itself: its address where there are several, and the text of INFO.
    async fn describe(&self) -> Result<Vec<(String, String)>, StoreError> {
        let info: Value = self.query(redis::cmd("INFO").arg("everything")).await?;
        let text = |value: &Value| match value {
            Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::VerbatimString { text, .. } | Value::SimpleString(text) => text.clone(),
            _ => String::new(),
        };
        Ok(match &info {
            Value::Map(nodes) => nodes.iter().map(|(node, info)| (text(node), text(info))).collect(),
            other => vec![(self.address.clone(), text(other))],
        })
    }

    /// Names of keys that fit a pattern, each as `wanted` makes it; a name may come twice.
    pub(super) async fn scan<T>(
        &self,
        pattern: &str,
        wanted: impl Fn(Vec<u8>) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        let mut take = |names: Vec<Vec<u8>>| found.extend(names.into_iter().filter_map(&wanted));
        let failed = |error: RedisError| in_words(&self.address, &error);
        let scan = |cursor: u64| {
            let mut command = redis::cmd("SCAN");
            command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(REDIS_SCAN_COUNT);
            command
        };
        match self.kind.clone() {
            Kind::Single(_) => {
                let mut cursor = 0;
                loop {
                    let (next, names): Scanned = self.query(&scan(cursor)).await?;
                    take(names);
                    cursor = next;
                    if cursor == 0 {
                        return Ok(found);
                    }
                }
            }
            Kind::Cluster(cluster) => {
                let mut cluster = cluster.connection();
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, Some(ResponsePolicy::Special)));
                let first = cluster.route_command(scan(0), all).await.map_err(failed)?;
                let nodes: Vec<(String, Scanned)> = redis::from_redis_value(first).map_err(|e| failed(e.into()))?;
                for (node, (mut cursor, names)) in nodes {
                    take(names);
                    let (host, port) = node.rsplit_once(':').unwrap_or((&node, "6379"));
                    while cursor != 0 {
                        let there = SingleNodeRoutingInfo::ByAddress {
                            host: host.to_string(),
                            port: port.parse().unwrap_or(6379),
                        };
                        let more = cluster
                            .route_command(scan(cursor), RoutingInfo::SingleNode(there))
                            .await
                            .map_err(failed)?;
                        let (next, names): Scanned = redis::from_redis_value(more).map_err(|e| failed(e.into()))?;
                        take(names);
                        cursor = next;
                    }
                }
                Ok(found)
            }
        }
    }

    async fn check(&self, cluster: bool) -> Result<(), StoreError> {
        for (address, info) in self.describe().await? {
            let value = |key: &str| {
                let line = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
                line.unwrap_or_default().trim().to_string()
            };
            if value("redis_mode") == "cluster" && !cluster {
                let message = format!("Redis at {address} is a node of a cluster; set `cluster = true` under [redis]");
                return Err(StoreError::Refused(message));
            }
            let version = value("redis_version");
            let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
            if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < VERSION_MIN {
                let message = format!("Redis at {address} is of version {version}; 7.0 or newer is needed");
                return Err(StoreError::Refused(message));
            }
            let policy = value("maxmemory_policy");
            if policy != "noeviction" && value("role") == "master" {
                let message = format!(
                    "Redis at {address} drops keys when it is full (maxmemory-policy {policy}); set it to noeviction"
                );
                return Err(StoreError::Refused(message));
            }
            // Where CONFIG is barred, the AOF alone can be seen.
            let saves: Vec<String> = self.query(redis::cmd("CONFIG").arg("GET").arg("save")).await.unwrap_or_default();
            let is_kept = value("aof_enabled") == "1" || saves.last().is_some_and(|save| !save.is_empty());
            if !is_kept && value("connected_slaves") == "0" {
                tracing::warn!(
                    address,
                    "Redis keeps nothing on the disk and has no replica: after a restart it is empty, and everything is computed again as far as Kafka and the event log reach"
                );
            }
        }
        Ok(())
    }
}

/// Each request sets a timer, and if that is the next one of all, the runtime has to be told by a system call. As long as this goes
/// on, the next one of all is the next tick.
fn tick() -> Arc<()> {
    let ticking = Arc::new(());
    let ends = Arc::downgrade(&ticking);
    tokio::spawn(async move {
        while ends.strong_count() > 0 {
            tokio::time::sleep(REDIS_TICK).await;
        }
    });
    ticking
}

fn server_of(settings: &RedisSettings, address: &str) -> Result<redis::ConnectionInfo, RedisError> {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "6379"));
    let (host, port) = (host.trim_matches(['[', ']']).to_string(), port.parse().unwrap_or(6379));
    let address = match settings.tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    };
    let mut login = RedisConnectionInfo::default();
    if let Some(username) = &settings.username {
        login = login.set_username(username);
    }
    if let Some(password) = &settings.password {
        login = login.set_password(password.reveal());
    }
    Ok(address.into_connection_info()?.set_redis_settings(login).set_tcp_settings(tcp_settings(settings)))
}

/// A way that swallows packets (an address that has moved, a node that is gone without a word) is given up when nothing of what was
/// sent has been acknowledged for as long as an answer may take. By itself Linux goes on for a quarter of an hour, and a time-out of
/// one answer does not end the connection, since the server may just be slow.
fn tcp_settings(settings: &RedisSettings) -> TcpSettings {
    let of_tcp = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let of_tcp = of_tcp.set_user_timeout(settings.timeout.max(REDIS_CONNECT));
    of_tcp
}

fn certificates(settings: &RedisSettings) -> Result<Option<TlsCertificates>, RedisError> {
    let Some(path) = settings.ca_file.as_ref().filter(|_| settings.tls) else { return Ok(None) };
    let root = std::fs::read(path)
        .map_err(|e| RedisError::from(std::io::Error::new(e.kind(), format!("{}: {e}", path.display()))))?;
    Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(root) }))
}

async fn single(settings: &RedisSettings) -> Result<ConnectionManager, RedisError> {
    let address = settings.addresses.first().map_or("127.0.0.1:6379", String::as_str);
    let server = server_of(settings, address)?;
    let client = match certificates(settings)? {
        Some(certificates) => redis::Client::build_with_tls(server, certificates)?,
        None => redis::Client::open(server)?,
    };
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(settings.timeout))
        .set_connection_timeout(Some(REDIS_CONNECT))
        .set_min_delay(REDIS_RETRY_MIN)
        .set_max_delay(REDIS_RETRY_MAX)
        .set_number_of_retries(1);
    ConnectionManager::new_with_config(client, config).await
}

async fn cluster(settings: &RedisSettings) -> Result<Cluster, RedisError> {
    let servers = settings.addresses.iter().map(|address| server_of(settings, address));
    let servers: Vec<redis::ConnectionInfo> = servers.collect::<Result<_, _>>()?;
    // Tries and redirects of one request share its time.
    let mut builder = ClusterClient::builder(servers)
        .retries(2)
        .connection_timeout(REDIS_CONNECT)
        .response_timeout(settings.timeout)
        .overall_response_timeout(Some(settings.timeout))
        .tcp_settings(tcp_settings(settings));
    if let Some(certificates) = certificates(settings)? {
        builder = builder.certs(certificates);
    }
    Cluster::open(builder.build()?).await
}

/// What an error of the client means for the caller. A commit whose outcome is unknown is sent again: it happens once.
pub(super) fn in_words(address: &str, error: &RedisError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let detail = || error.detail().map_or_else(|| error.to_string(), str::to_string);
    let told = |what: &str| format!("Redis at {address} {what} ({})", detail());
    match (error.kind(), code) {
        (_, "OOM") => StoreError::Away(told("has no memory left: raise maxmemory")),
        (_, "NOPERM") => StoreError::Refused(told("does not let this user do what is needed; see docs/redis.md")),
        (_, "NOAUTH" | "WRONGPASS") | (ErrorKind::AuthenticationFailed, _) => {
            StoreError::Refused(told("does not accept the username or password under [redis]"))
        }
        (_, "WRONGTYPE") => StoreError::Damaged(told("has a key of another kind than was written")),
        (_, "READONLY") => StoreError::Away(told("takes no writes now: it is a replica")),
        (_, "MISCONF") => StoreError::Away(told("cannot write its own disk, and so takes no writes")),
        (ErrorKind::InvalidClientConfig, _) => StoreError::Refused(told("cannot be reached as [redis] says")),
        // What a server (or what stands before it) says by mistake is no word about what is stored: it is asked again.
        (ErrorKind::UnexpectedReturnType | ErrorKind::Parse, _) => {
            StoreError::Away(told("gave an answer that cannot be understood"))
        }
        _ if detail().contains("cluster support disabled") => {
            StoreError::Refused(format!("Redis at {address} is no cluster; set `cluster = false` under [redis]"))
        }
        // What a script may not do, and a server that takes no more connections, have no code of their own.
        _ if detail().contains("executing the script can't") => {
            StoreError::Refused(told("does not let this user do what is needed; see docs/redis.md"))
        }
        _ if detail().contains("max number of clients") => StoreError::Away(told("takes no more connections")),
        (ErrorKind::Server(ServerErrorKind::ResponseError), _) => StoreError::Away(told("refused a command")),
        _ if error.is_timeout() => StoreError::Away(told("did not answer in time")),
        _ => StoreError::Away(told("cannot be reached now")),
    }
}

/// Pause before the next try: doubled each time, at most `REDIS_RETRY_MAX`, and by chance up to half less, so that those who
/// wait for one server do not all come at once.
pub(crate) fn pause(tries: u32) -> Duration {
    let longest = REDIS_RETRY_MIN.saturating_mul(1 << tries.min(10)).min(REDIS_RETRY_MAX);
    longest.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}
