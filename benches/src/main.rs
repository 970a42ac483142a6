//! Speed, as ratios against a floor in the same run. `cargo run --release -p tidemill-benches`
//!
//! Servers run as processes of their own, so that their CPU time (user and system, from /proc) can be told from the client's:
//! on shared machines CPU time per request lasts, wall time does not. Each bench prints the question that it answers. `… -- vocabulary`
//! runs the table of aggregates alone, `… -- training` training sets beside DuckDB and Polars, `… -- backfill [EVENTS]` what it takes
//! to derive state from the log, `… -- formats` how fast messages of topics are decoded, `… -- kafka [EVENTS]` events from a real
//! broker (which `tests/services` brings), `… -- group [EVENTS]` one and two members of a group on one
//! Redis, `… -- redis` reads and commits with Redis as the store, `… -- vectors [words|pieces] [cosine|l2|dot] [ROWS] [--no-peers]` nearest
//! neighbours beside hnswlib, faiss and usearch (only so: it takes many minutes), `… -- searches`
//! what the same costs over gRPC.

mod apply;
mod backfill;
mod echo;
mod formats;
mod group;
mod kafka;
mod processes;
mod reads;
mod redis;
mod searches;
mod training;
mod vectors;
mod vocabulary;
mod whole_path;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let only = std::env::args().nth(1);
    if only.as_deref() == Some("echo-server") {
        return runtime.block_on(echo::serve());
    }
    println!("| question | figure | bar |\n|---|---|---|");
    if only.as_deref() == Some("training") {
        return runtime.block_on(training::run(&std::env::args().skip(2).collect::<Vec<_>>()));
    }
    if only.as_deref() == Some("kafka") {
        return runtime.block_on(kafka::run(&std::env::args().skip(2).collect::<Vec<_>>()));
    }
    if only.as_deref() == Some("group") {
        return runtime.block_on(group::run(&std::env::args().skip(2).collect::<Vec<_>>()));
    }
    if only.as_deref() == Some("backfill") {
        return backfill::run();
    }
    if only.as_deref() == Some("vectors") {
        return vectors::run(&std::env::args().skip(2).collect::<Vec<_>>());
    }
    if only.as_deref() == Some("searches") {
        return runtime.block_on(searches::run());
    }
    if only.as_deref() == Some("formats") {
        return formats::run();
    }
    if only.as_deref() == Some("redis") {
        return runtime.block_on(redis::run());
    }
    vocabulary::run()?;
    if only.as_deref() == Some("vocabulary") {
        return Ok(());
    }
    apply::run()?;
    formats::run()?;
    backfill::run()?;
    runtime.block_on(reads::run())?;
    runtime.block_on(whole_path::run())?;
    runtime.block_on(training::run(&[]))
}

/// One line of the table.
fn row(question: &str, figure: &str, bar: &str) {
    println!("| {question} | {figure} | {bar} |");
}
