//! Bad situations around Redis, each from outside: a start is refused with the address and what to do; a server that runs says in
//! `status` why it waits, answers what it can, and goes on by itself.

use std::path::Path;
use std::time::Duration;

use tidemill_client::v1;
use tidemill_tests::server::Server;
use tidemill_tests::services::{Redis, RedisCluster, RedisKind, RedisOptions};

use super::world::{World, compare, configure, project, random, values};

/// What docs/redis.md says a user needs: the tests take it from there.
pub fn documented_rules() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/redis.md");
    let page = std::fs::read_to_string(page).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix("user tidemill on >SECRET "));
    line.expect("docs/redis.md has the user").split(' ').map(str::to_string).collect()
}

/// What a server says that does not start.
async fn refused(project: &Path) -> String {
    match Server::try_start(project).await {
        Ok(_) => panic!("it starts"),
        Err(said) => said,
    }
}

async fn is_refused(address: &str, more: &str, wanted: &[&str]) {
    let said = refused(project(address, more).path()).await;
    assert!(said.contains("E5050") && said.contains(address), "{said}");
    assert!(!said.contains("hunter2"), "the password is shown: {said}");
    wanted.iter().for_each(|wanted| assert!(said.contains(wanted), "`{wanted}` is missing: {said}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_cannot_be_used_is_refused_at_the_start() {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let address = redis.address();
    redis.kill();
    is_refused(&address, "", &["cannot be reached"]).await;
    redis.restart();
    redis.add_user("weak", "hunter2", &["~*", "+@all", "-evalsha", "-eval"]);
    redis.add_user("narrow", "hunter2", &["~{other:*", "+@all"]);
    redis.add_user("reader", "hunter2", &["~*", "+@all", "-hset"]);
    let login =
        |name: &str, secret: &str| format!("username = \"{name}\"\npassword = \"${{env:SECRET_OF_TEST_{secret}}}\"");
    for (name, secret, wanted) in [
        ("weak", "RIGHT", "docs/redis.md"),
        ("narrow", "RIGHT", "docs/redis.md"),
        ("reader", "RIGHT", "docs/redis.md"),
        ("weak", "WRONG", "username or password"),
        ("nobody", "RIGHT", "username or password"),
    ] {
        is_refused(&address, &login(name, secret), &[wanted]).await;
    }
    redis.configure("maxmemory-policy", "allkeys-lru");
    is_refused(&address, "", &["allkeys-lru", "noeviction"]).await;
    redis.configure("maxmemory-policy", "noeviction");
    is_refused(&address, "cluster = true", &["`cluster = false`"]).await;
    let master = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let port = master.address().rsplit_once(':').unwrap().1.to_string();
    redis.cli(&["replicaof", "127.0.0.1", &port]);
    is_refused(&address, "", &["it is a replica"]).await;
    redis.cli(&["replicaof", "no", "one"]);
    drop(Server::start(project(&address, "").path()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_is_refused_where_one_redis_was_meant() {
    let cluster = RedisCluster::start();
    let address = cluster.addresses()[0].clone();
    is_refused(&address, "", &["is a node of a cluster", "`cluster = true`"]).await;
    drop(Server::start(project(&address, "cluster = true").path()).await);
}

/// Waits until the source's state has these words in it.
async fn until_state(world: &World, words: &str) {
    let client = world.client().await;
    let mut state = String::new();
    for _ in 0..1200 {
        state = client.status().await.unwrap().sources["s"].state.clone();
        if state.contains(words) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("`{words}` is not said within a minute: {state}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_takes_no_writes_is_waited_for_and_read_meanwhile() {
    let mut random = random("no writes");
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut world = World::start(project(&redis.address(), "timeout = \"500ms\""), &mut random).await;
    let some_time = async |_: &mut World| tokio::time::sleep(Duration::from_millis(100)).await;
    world.while_writing(some_time).await;
    world.settle().await;
    let keys: Vec<String> = world.writer().known.keys().cloned().collect();
    let troubles: [(&[&str], &[&str], &str); 2] = [
        (&["config", "set", "maxmemory", "1"], &["config", "set", "maxmemory", "0"], "raise maxmemory"),
        (&["replicaof", "127.0.0.1", "1"], &["replicaof", "no", "one"], "it is a replica"),
    ];
    for (begin, end, wanted) in troubles {
        let before = values(&world.client().await, &keys).await.unwrap();
        redis.cli(begin);
        world.while_writing(some_time).await;
        until_state(&world, "waiting: E1061").await;
        until_state(&world, wanted).await;
        until_state(&world, &redis.address()).await;
        // What was committed before the trouble is read; nothing of what came after it is half there.
        let after = values(&world.client().await, &keys).await.unwrap();
        let known = |answer: &v1::GetResponse| answer.columns.iter().map(|c| c.values.clone()).collect::<Vec<_>>();
        if wanted == "raise maxmemory" {
            assert!(known(&after) != Vec::new() && after.columns.len() == before.columns.len());
        }
        redis.cli(end);
        world.settle().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_is_said_to_be_and_found_again() {
    let mut random = random("away");
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut world = World::start(project(&redis.address(), "timeout = \"300ms\""), &mut random).await;
    world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(100)).await).await;
    world.settle().await;
    let keys: Vec<String> = world.writer().known.keys().cloned().collect();
    for is_killed in [true, false] {
        if is_killed {
            redis.kill()
        } else {
            redis.pause()
        }
        let client = world.client().await;
        // Each waits for its time-out and no longer; the deadline of the client is far beyond that.
        let error = values(&client, &keys).await.expect_err("nobody can know");
        assert!(error.contains("E2060") && error.contains(&redis.address()), "{error}");
        world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(100)).await).await;
        until_state(&world, "waiting: E1061").await;
        if is_killed {
            redis.restart()
        } else {
            redis.resume()
        }
        world.settle().await;
    }
}

/// A server that is told to stop while Redis is away stops, and what it had taken in is there after the next start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stops_while_redis_is_away() {
    let mut random = random("stop while away");
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let mut world = World::start(project(&redis.address(), "timeout = \"300ms\""), &mut random).await;
    world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(100)).await).await;
    redis.kill();
    world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(100)).await).await;
    assert_eq!(world.server.take().and_then(Server::terminate), Some(0));
    redis.restart();
    world.restart().await;
    world.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_user_suffices_and_tls_is_checked() {
    let mut random = random("the documented user, over TLS");
    let redis = Redis::start(RedisKind::Debian, &RedisOptions { tls: true, ..RedisOptions::default() });
    let rules = documented_rules();
    redis.add_user("tidemill", "hunter2", &rules.iter().map(String::as_str).collect::<Vec<_>>());
    let authority = redis.certificates().authority();
    let login = "username = \"tidemill\"\npassword = \"${env:SECRET_OF_TEST_RIGHT}\"\ntls = true";
    let trusting = format!("{login}\nca_file = \"{}\"", authority.display());
    let mut world = World::start(project(&redis.tls_address(), &trusting), &mut random).await;
    world
        .while_writing(async |world| {
            tokio::time::sleep(Duration::from_millis(100)).await;
            redis.cli(&["flushall"]);
            redis.cli(&["script", "flush"]);
            world.kill().await;
        })
        .await;
    world.settle().await;
    // Every entity of a view, by SCAN.
    let out = world.project.path().join("snapshot");
    let request = v1::SnapshotRequest { out: out.display().to_string(), ..v1::SnapshotRequest::default() };
    let mut progress = world.client().await.snapshot(request).await.unwrap();
    let mut rows = 0;
    while let Some(told) = progress.message().await.unwrap() {
        rows = told.result.map_or(rows, |result| result.rows);
    }
    assert_eq!(rows as usize, 2 * world.writer().known.len());
    // A certificate that nobody has signed whom this machine trusts.
    is_refused(&redis.tls_address(), login, &["ertificate"]).await;
    is_refused(&redis.tls_address(), &format!("{login}\nca_file = \"/nowhere/ca.pem\""), &["/nowhere/ca.pem"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_user_suffices_for_a_cluster() {
    let mut random = random("the documented user, on a cluster");
    let cluster = RedisCluster::start();
    let rules = documented_rules();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    (0..6).for_each(|node| cluster.node(node).add_user("tidemill", "hunter2", &rules));
    let login = "cluster = true\nusername = \"tidemill\"\npassword = \"${env:SECRET_OF_TEST_RIGHT}\"";
    let mut world = World::start(project(&cluster.addresses()[..2].join(","), login), &mut random).await;
    world.while_writing(async |_| tokio::time::sleep(Duration::from_millis(100)).await).await;
    world.settle().await;
    compare(&world.client().await, world.writer()).await.unwrap();
    configure(world.project.path(), &cluster.addresses()[3], login);
    world.kill().await;
    world.settle().await;
}
