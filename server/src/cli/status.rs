//! `status`: how a server is, in tables or as JSON.

use std::collections::HashMap;

use tidemill_client::Client;
use tidemill_proto::v1;

use super::output::{table, time};
use super::{Ended, Style};

pub(super) async fn status(server: &str, style: Style) -> Result<(), Ended> {
    let answer = Client::connect(server).await?.status().await?;
    if style.json {
        println!("{}", crate::serving::http::status_json(&answer));
        return Ok(());
    }
    println!("ready, version {}, definitions {}", answer.version, answer.definition_hash);
    print_sources(&answer);
    print_views(&answer);
    print_embeddings(&answer);
    print_sinks(&answer);
    print_members(&answer);
    if let Some(log) = &answer.log {
        print_log(log);
    }
    if let Some(verify) = &answer.verify {
        let newest = time(verify.newest).map(|time| format!(", the newest of {time}")).unwrap_or_default();
        println!(
            "verification ({}): {} served answers recomputed{newest}; {} values differ; {} of earlier definitions left out",
            verify.state, verify.answers, verify.differences, verify.outdated
        );
    }
    Ok(())
}

/// By name.
fn sorted<T>(named: &HashMap<String, T>) -> Vec<(&String, &T)> {
    let mut list: Vec<_> = named.iter().collect();
    list.sort_by_key(|(name, _)| name.as_str());
    list
}

fn print_sources(answer: &v1::StatusResponse) {
    let sources = sorted(&answer.sources);
    let source = |(name, s): &(&String, &v1::SourceStatus)| {
        let counts = [s.consumed, s.accepted, s.dead_lettered, s.lag].map(|count| count.to_string());
        [vec![name.to_string()], counts.to_vec(), vec![time(s.newest_event).unwrap_or("-".into())]].concat()
    };
    let headers = ["source", "consumed", "accepted", "dead letters", "lag", "newest event"];
    println!("{}", table(&headers, sources.iter().map(source).collect()));
    for (name, source) in &sources {
        if let Some(v1::HistoryStatus { state, files_done, files, rows }) = &source.history {
            println!("history of {name}: {rows} rows, {files_done} of {files} files, {state}");
        }
    }
    sources.iter().for_each(|(name, source)| print_state(name, source));
}

fn print_views(answer: &v1::StatusResponse) {
    let view = |(name, v): (&String, &v1::ViewStatus)| {
        let counts = [v.entities, v.applied, v.filtered, v.keyless, v.late, v.duplicate, v.bytes];
        let state = if v.built < 1.0 { format!("{}, {:.0} %", v.state, v.built * 100.0) } else { v.state.clone() };
        std::iter::once(name.clone()).chain(counts.iter().map(u64::to_string)).chain([state]).collect()
    };
    let headers = ["view", "entities", "applied", "filtered", "keyless", "late", "duplicate", "bytes", "state"];
    println!("{}", table(&headers, sorted(&answer.views).into_iter().map(view).collect()));
}

fn print_embeddings(answer: &v1::StatusResponse) {
    if answer.embeddings.is_empty() {
        return;
    }
    let row = |(name, e): (&String, &v1::EmbeddingStatus)| {
        let counts = [e.vectors, e.dead, e.fresh, e.bytes_per_vector, e.disk_bytes].map(|count| count.to_string());
        let recall = match e.sampled_neighbours {
            0 => "-".to_string(),
            all => format!("{:.3} of {}", e.sampled_found as f64 / all as f64, e.sampled),
        };
        let state = match (e.indexed, e.building) {
            (false, _) => "searched from records".to_string(),
            (true, 0) => e.state.clone(),
            (true, all) => format!("{}, graph {:.0} %", e.state, e.built as f64 * 100.0 / all as f64),
        };
        let codes = if e.codes.is_empty() { "-".to_string() } else { e.codes.clone() };
        [vec![name.clone()], counts.to_vec(), vec![codes, recall, state]].concat()
    };
    let headers =
        ["embedding", "vectors", "dead", "fresh", "bytes a vector", "bytes on disk", "codes", "recall", "state"];
    println!("{}", table(&headers, sorted(&answer.embeddings).into_iter().map(row).collect()));
}

fn print_members(answer: &v1::StatusResponse) {
    if answer.members.len() < 2 {
        return;
    }
    let row = |(name, member): (&String, &v1::MemberStatus)| {
        let owned = |owned: &v1::OwnedPartition| format!("{}/{}", owned.source, owned.partition);
        let owned: Vec<String> = member.partitions.iter().map(owned).collect();
        vec![name.clone(), member.role.clone(), member.address.clone(), owned.join(" ")]
    };
    println!(
        "{}",
        table(&["process", "role", "address", "partitions"], sorted(&answer.members).into_iter().map(row).collect())
    );
}

/// What of a source is not as it should be.
fn print_state(name: &str, source: &v1::SourceStatus) {
    if source.state != "running" {
        println!("source {name}: {}", source.state);
    }
    for lost in source.kafka.iter().flat_map(|kafka| &kafka.given_up) {
        let to = lost.to.map_or("?".to_string(), |to| to.to_string());
        let v1::GivenUp { topic, partition, from, reason, .. } = lost;
        println!("source {name} lacks offsets {from} up to (not) {to} of {topic}/{partition}: {reason}");
    }
}

fn print_sinks(answer: &v1::StatusResponse) {
    let sinks = sorted(&answer.sinks);
    if sinks.is_empty() {
        return;
    }
    let row = |(name, sink): &(&String, &v1::SinkStatus)| {
        let counts = [sink.lag, sink.messages, sink.tombstones].map(|count| count.to_string());
        let texts = [time(sink.sent_at).unwrap_or("-".into()), sink.state.clone()];
        [vec![name.to_string(), sink.topic.clone()], counts.to_vec(), texts.to_vec()].concat()
    };
    let headers = ["sink", "topic", "lag", "messages", "tombstones", "last sent", "state"];
    println!("{}", table(&headers, sinks.iter().map(row).collect()));
    for (name, sink) in sinks.iter().filter(|(_, sink)| !sink.warning.is_empty()) {
        println!("sink {name}: {}", sink.warning);
    }
}

fn print_log(log: &v1::LogStatus) {
    let v1::LogStatus { segments, pieces, files, bytes, events, .. } = log;
    let oldest = time(log.oldest_event).unwrap_or("-".into());
    println!(
        "event log: {events} events in {segments} segments and {pieces} sealed pieces ({files} files), {bytes} bytes, oldest sealed event {oldest}"
    );
    if log.cut_events > 0 {
        let newest = time(log.cut_to).unwrap_or("-".into());
        println!("retention has cut {} events, up to {newest}", log.cut_events);
    }
    if let Some(held) = &log.held_back {
        println!("view `{}` holds {} pieces back ({} bytes): {}", held.view, held.pieces, held.bytes, held.reason);
    }
}
