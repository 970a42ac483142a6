//! Metrics for Prometheus, on a listener of their own. Names are kept; buckets begin at 50 us.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::components::Server;

const BUCKETS: [f64; 16] =
    [0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];

/// Starts collecting; once per process.
pub fn install() -> Option<PrometheusHandle> {
    let builder = PrometheusBuilder::new().set_buckets(&BUCKETS).ok()?;
    builder.install_recorder().ok()
}

/// Counts a request and how long it took.
pub fn request(method: &'static str, code: &'static str, took: Duration) {
    counter!("tidemill_requests_total", "method" => method, "code" => code).increment(1);
    histogram!("tidemill_request_seconds", "method" => method).record(took.as_secs_f64());
}

/// Counts a job that has ended.
pub fn job(method: &'static str, code: &'static str) {
    counter!("tidemill_jobs_total", "method" => method, "code" => code).increment(1);
}

/// Brings everything that is read off the state up to date.
fn refresh(server: &Server) {
    let now = server.clock.now();
    let state = server.memory.read();
    for (source, ledger) in server.registry.sources.iter().zip(&state.sources) {
        let name = || source.name.clone();
        counter!("tidemill_events_consumed_total", "source" => name()).absolute(ledger.consumed);
        counter!("tidemill_events_accepted_total", "source" => name()).absolute(ledger.accepted);
        counter!("tidemill_events_dead_lettered_total", "source" => name()).absolute(ledger.dead_lettered);
        if let Some(newest) = ledger.newest_event {
            gauge!("tidemill_freshness_seconds", "source" => name()).set((now - newest) as f64 / 1e6);
        }
    }
    for (at, (view, ledger)) in server.registry.views.iter().zip(&state.views).enumerate() {
        let counts = [
            ("applied", ledger.applied),
            ("filtered", ledger.filtered),
            ("keyless", ledger.keyless),
            ("late", ledger.late),
            ("duplicate", ledger.duplicate),
        ];
        for (fate, count) in counts {
            counter!("tidemill_view_events_total", "view" => view.name.clone(), "fate" => fate).absolute(count);
        }
        gauge!("tidemill_view_entities", "view" => view.name.clone()).set(state.entities(at) as f64);
        let built =
            server.reader.builds.unfinished(&server.registry, &state, at).map_or(1.0, |unfinished| unfinished.built);
        gauge!("tidemill_view_built", "view" => view.name.clone()).set(built);
        gauge!("tidemill_view_bytes", "view" => view.name.clone()).set(state.bytes(at) as f64);
    }
    for (at, embedding) in server.registry.embeddings.iter().enumerate() {
        let name = || embedding.name.clone();
        let collection = server.collections.get(at);
        let (stats, recall) = (collection.index().stats(), server.quality.recall(at));
        gauge!("tidemill_embedding_vectors", "embedding" => name()).set(stats.live as f64);
        gauge!("tidemill_embedding_bytes", "embedding" => name())
            .set((stats.bytes + collection.attribute_bytes()) as f64);
        gauge!("tidemill_embedding_disk_bytes", "embedding" => name()).set(stats.disk_bytes as f64);
        counter!("tidemill_search_sampled_total", "embedding" => name()).absolute(recall.searches);
        counter!("tidemill_search_sampled_neighbours_total", "embedding" => name()).absolute(recall.neighbours);
        counter!("tidemill_search_sampled_found_total", "embedding" => name()).absolute(recall.found);
    }
    counter!("tidemill_row_errors_total").absolute(state.row_errors);
    drop(state);
    for (source, pending) in server.registry.sources.iter().zip(server.ingest.pending.iter()) {
        let lag = pending.events().max(pending.kafka.lag());
        gauge!("tidemill_lag_events", "source" => source.name.clone()).set(lag as f64);
        if pending.kafka.is_read() {
            let name = || source.name.clone();
            let behind = pending.kafka.behind(now);
            if behind < i64::MAX / 2 {
                gauge!("tidemill_kafka_behind_seconds", "source" => name()).set(behind as f64 / 1e6);
            }
            let state = pending.kafka.state();
            let is_waiting = f64::from(u8::from(state.waiting.is_some()));
            gauge!("tidemill_kafka_waiting", "source" => name()).set(is_waiting);
            gauge!("tidemill_kafka_halted", "source" => name()).set(f64::from(u8::from(state.halted.is_some())));
            counter!("tidemill_kafka_losses_total", "source" => name()).absolute(state.given_up.len() as u64);
        }
        if source.history.is_some() {
            let loading = f64::from(u8::from(pending.history.is_incomplete()));
            gauge!("tidemill_history_incomplete", "source" => source.name.clone()).set(loading);
        }
    }
}

/// The same of sinks.
fn refresh_sinks(server: &Server) {
    let state = server.memory.read();
    for (at, (sink, progress)) in server.registry.sinks.iter().zip(&server.sinks).enumerate() {
        let (name, now) = (|| sink.name.clone(), progress.state());
        if !now.runs {
            continue;
        }
        gauge!("tidemill_sink_lag_events", "sink" => name()).set(now.lag(&server.registry, at, &state) as f64);
        gauge!("tidemill_sink_waiting", "sink" => name()).set(f64::from(u8::from(now.waiting.is_some())));
        counter!("tidemill_sink_messages_total", "sink" => name()).absolute(now.messages);
        counter!("tidemill_sink_tombstones_total", "sink" => name()).absolute(now.tombstones);
        counter!("tidemill_sink_errors_total", "sink" => name()).absolute(now.errors);
    }
}

/// Serves `/metrics` until the process ends.
pub async fn serve(address: SocketAddr, handle: PrometheusHandle, server: Arc<Server>) -> std::io::Result<()> {
    let page = move || {
        let (handle, server) = (handle.clone(), server.clone());
        async move {
            refresh(&server);
            refresh_sinks(&server);
            handle.render()
        }
    };
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, Router::new().route("/metrics", get(page))).await
}
