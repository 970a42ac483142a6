//! Every aggregate, window and kind of view in one project: 50,000 random events through a real server process, read back over
//! gRPC as of many moments, against the oracle.

pub mod world;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemill_client::v1;
use tidemill_features::definitions::AGGREGATES;
use tidemill_tests::oracle::model::Row;
use tidemill_tests::server::{Server, ndjson, project};

use self::world::{END, HOUR, SPAN, START, Tally, World, aggregates, table_row};

const EVENTS: usize = 50_000;
const TABLE_ROWS: usize = 600;

/// Pushes rows of a source; those that are bad become dead letters.
pub async fn push(server: &Server, world: &World, source: usize, rows: &[Row]) -> u64 {
    let client = server.client().await;
    let mut dead = 0;
    for rows in rows.chunks(5_000) {
        let lines: Vec<String> = rows.iter().map(|row| world.line(source, row)).collect();
        let name = &world.sources[source].name;
        let answer = client.push(ndjson(name, lines.join("\n"), v1::Wait::Readable)).await.unwrap();
        assert_eq!(answer.accepted + answer.dead_lettered, rows.len() as u64, "{:?}", answer.dead_letters);
        dead += answer.dead_lettered;
    }
    dead
}

#[test]
fn every_name_is_here() {
    let here: Vec<&str> = aggregates().into_iter().map(|(name, _)| name).collect();
    for aggregate in AGGREGATES {
        assert!(here.contains(&aggregate.name), "{} has no feature in this test", aggregate.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_events_of_the_whole_vocabulary() {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("the whole vocabulary: TIDEMILL_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::of(EVENTS);
    let folder = project(&world.pushed());
    let events: Vec<Row> = (0..EVENTS as u64).map(|number| world.event(&mut random, number)).collect();
    let table: Vec<Row> = (0..TABLE_ROWS as u64).map(|offset| table_row(&mut random, offset)).collect();
    let server = Server::start(folder.path()).await;
    // The table comes in the middle: half of the events are there before the rows that they see.
    let mut dead = push(&server, &world, 0, &events[..EVENTS / 2]).await;
    dead += push(&server, &world, 1, &table).await;
    dead += push(&server, &world, 0, &events[EVENTS / 2..]).await;
    assert_eq!(dead, 0);
    let all: Vec<(usize, Row)> =
        events.into_iter().map(|row| (0, row)).chain(table.into_iter().map(|row| (1, row))).collect();
    let client = server.client().await;
    let live = (0..4).map(|hours| END + hours * HOUR);
    let times: Vec<i64> = live.chain((4..14).map(|_| START + random.random_range(0..SPAN))).collect();
    let mut tally = Tally::default();
    for question in world.questions(&client, &all, &times, &mut random).await {
        question.ask(&client, i64::MIN, &mut tally).await;
    }
    assert!(tally.present * 2 > tally.compared, "most values should be there: {tally:?}");
}
