//! The connection to a cluster, which is made anew when it does not answer.
//!
//! The client's one task can come to wait for itself: while it asks for the map of slots it needs a lock that one of its requests is
//! next in line for (one that was redirected to a node which is not connected yet), and it does not go on with requests
//! meanwhile. From then on no command is sent any more, however well the cluster is. From outside that looks like a cluster that is slow; a new connection
//! costs some milliseconds, so each time-out is answered with one. Failovers while slots moved found it, with redis 1.8.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, RedisError, Value};

use crate::limits::REDIS_REPLACE;

/// Clones share the connection, and the one that replaces it.
#[derive(Clone)]
pub(super) struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    client: ClusterClient,
    /// how many there were before, and the connection
    current: Mutex<(u64, ClusterConnection)>,
    replacing: AtomicBool,
}

impl Cluster {
    /// Connects.
    pub(super) async fn open(client: ClusterClient) -> Result<Cluster, RedisError> {
        let current = Mutex::new((0, client.get_async_connection().await?));
        Ok(Cluster { shared: Arc::new(Shared { client, current, replacing: AtomicBool::new(false) }) })
    }

    /// The connection of now.
    pub(super) fn connection(&self) -> ClusterConnection {
        self.shared.current.lock().1.clone()
    }

    /// Sends a command and waits for its answer.
    pub(super) async fn request(&self, command: &Cmd) -> Result<Value, RedisError> {
        let (number, mut connection) = self.shared.current.lock().clone();
        let answer = connection.req_packed_command(command).await;
        if answer.as_ref().is_err_and(RedisError::is_timeout) {
            self.replace(number);
        }
        answer
    }

    /// Makes another connection in the background, unless somebody has done so or is about to.
    fn replace(&self, number: u64) {
        let shared = self.shared.clone();
        if shared.current.lock().0 != number || shared.replacing.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::spawn(async move {
            match tokio::time::timeout(REDIS_REPLACE, shared.client.get_async_connection()).await {
                Ok(Ok(connection)) => *shared.current.lock() = (number + 1, connection),
                Ok(Err(error)) => tracing::debug!(%error, "no new connection to the cluster yet"),
                Err(_) => tracing::debug!("no new connection to the cluster in time"),
            }
            shared.replacing.store(false, Ordering::Release);
        });
    }
}
