//! Several processes on one store: what two members of a group cost beside one, from a real broker into a real Redis.
//!
//! Broker, Redis and members share the machine, so wall time says little; CPU seconds of the members are the figure. If two need
//! as many together as one alone, twice the cores do twice the work.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::kafka::{Broker, definitions};
use crate::processes::{Process, project, tidemill_with};
use crate::row;

/// Runs `[EVENTS]`.
pub async fn run(arguments: &[String]) -> Result<()> {
    let events: u64 = arguments.first().map_or(Ok(600_000), |n| n.parse())?;
    let broker = Broker::start(true)?;
    let one = members(&broker, 1, events).await?;
    let two = members(&broker, 2, events).await?;
    let total = |cpu: &[f64]| cpu.iter().sum::<f64>();
    let most = |cpu: &[f64]| cpu.iter().copied().fold(0.0, f64::max);
    let rate = |cpu: f64| events as f64 / cpu / 1e3;
    row("one member, topic to Redis", &format!("{:.0} k events a CPU-second", rate(total(&one))), "");
    let shown = format!(
        "{:.0} k events a CPU-second; the busier one {:.2} CPU s, one alone {:.2}: {:.2} x a core given",
        rate(total(&two)),
        most(&two),
        total(&one),
        total(&one) / most(&two)
    );
    row("two members, two partitions", &shown, "1.7 x");
    Ok(())
}

/// CPU seconds of so many members until a store has all events. Members are there and have their partitions before the topic has
/// anything, so that each gets its part from the beginning.
async fn members(broker: &Broker, count: usize, events: u64) -> Result<Vec<f64>> {
    let topic = format!("members{count}");
    broker.create(&topic).await?;
    let folder = project(&definitions(&topic))?;
    let redis = broker.redis.as_ref().context("it was asked for")?;
    let settings = format!(
        "store = 'redis'\n[redis]\naddress = '{redis}'\nprefix = 'members{count}'\n[kafka]\nbrokers = '{}'\n",
        broker.address
    );
    std::fs::write(folder.path().join("tidemill.toml"), settings)?;
    let data = |n: usize| folder.path().join(format!("data{n}")).display().to_string();
    let mut members: Vec<Process> = Vec::new();
    for n in 0..count {
        members.push(tidemill_with(folder.path(), &["--role", "ingest", "--data-dir", &data(n)]).await?.0);
    }
    let (_reader, client) = tidemill_with(folder.path(), &["--role", "serve", "--data-dir", &data(count)]).await?;
    let until = Instant::now() + Duration::from_secs(300);
    loop {
        let members = client.status().await?.members;
        if members.values().filter(|member| !member.partitions.is_empty()).count() == count {
            break;
        }
        anyhow::ensure!(Instant::now() < until, "not all members have partitions: {members:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let before: Vec<f64> = members.iter().map(Process::cpu).collect::<Result<_>>()?;
    tokio::task::block_in_place(|| broker.fill(&topic, events))?;
    loop {
        let status = client.status().await?;
        if status.sources["s"].consumed >= events {
            break;
        }
        anyhow::ensure!(Instant::now() < until, "only {} events within five minutes", status.sources["s"].consumed);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    members.iter().zip(before).map(|(member, before)| Ok(member.cpu()? - before)).collect()
}
