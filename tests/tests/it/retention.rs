//! Retention from outside: what views need stays and the status says so; what is cut makes reads say that they do not know, and
//! never anything else; state that is lost is refused or marked.

mod world;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidemill::columnar::ParquetFile;
use tidemill_features::expression::Column;
use tidemill_features::time::rfc3339;
use tidemill_tests::bridge::value;
use tidemill_tests::oracle::model::{Aggregate, Status};
use tidemill_tests::oracle::toml;
use tidemill_tests::server::{Server, binary};
use tidemill_tests::services::{Redis, RedisKind, RedisOptions};

use self::world::{Cut, EVENTS, HOUR, World, bounded, edges, source, unbounded};

fn run(server: &Server, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env("TIDEMILL_SERVER", &server.address).output().unwrap()
}

fn lines(output: &Output) -> Vec<Json> {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line} {said}"))).collect()
}

fn log_status(server: &Server) -> Json {
    lines(&run(server, &["status", "--json"]))[0]["log"].clone()
}

/// Waits until retention has done what it can.
async fn settled(server: &Server, done: impl Fn(&Json) -> bool) -> Json {
    let (mut last, mut same) = (Json::Null, 0);
    for _ in 0..600 {
        let log = log_status(server);
        same = if log == last { same + 1 } else { 0 };
        if same >= 12 && done(&log) {
            return log;
        }
        last = log;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("retention does not settle: {last}");
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Present => "PRESENT",
        Status::Defaulted => "DEFAULTED",
        Status::Empty => "EMPTY",
        Status::NotFound => "NOT_FOUND",
        Status::Error => "ERROR",
    }
}

/// Compares one answered row with the oracle. Only what may depend on something that is gone may have no answer; ids make more of
/// what is left doubtful.
fn check_row(world: &World, cut: Cut, (key, t): (&str, i64), found: &dyn Fn(&str) -> (Json, String)) -> usize {
    let mut unanswered = 0;
    for view in &world.views {
        let with_id = world.sources.iter().any(|source| source.name == view.source && source.event_id.is_some());
        for (name, expected) in world.expected(view, key, t) {
            let (is, status) = found(&format!("{}:{name}", view.name));
            let feature = view.features.iter().find(|feature| feature.name == name);
            // The derived one is over the sum.
            let feature = feature.unwrap_or(&view.features[1]);
            let (from, to) = edges(feature, t);
            let matters = cut.matters(world, key, from, to);
            let wanted = tidemill::json::value(&value(&expected.value), None);
            let what = format!("{}:{name} of {key} at {}: {is} {status}, not {wanted}", view.name, rfc3339(t));
            if status == "ERROR" {
                assert!(is.is_null() && (matters || (with_id && cut.events > 0)), "{what}: nothing is gone");
                unanswered += 1;
                continue;
            }
            assert_eq!(is, wanted, "{what}");
            assert_eq!(status, status_name(expected.status), "{what}");
        }
    }
    unanswered
}

/// Reads as of many times, each row compared. Gives how many values were not known.
fn check_reads(server: &Server, world: &World, cut: Cut, seed: u64) -> usize {
    let questions = world.questions(seed);
    let file = world.folder.path().join("keys.ndjson");
    let line = |(key, at): &(String, i64)| format!("{}\n", json!({ "key": key, "at": rfc3339(*at) }));
    std::fs::write(&file, questions.iter().map(line).collect::<String>()).unwrap();
    let arguments = ["get", "all", "--keys", file.to_str().unwrap(), "--time", "at", "--json"];
    let answers = lines(&run(server, &arguments));
    assert_eq!(answers.len(), questions.len());
    let mut unanswered = 0;
    for ((key, at), row) in questions.iter().zip(&answers) {
        let found = |name: &str| {
            let status = row["statuses"][name].as_str().unwrap_or("PRESENT");
            (row["values"][name].clone(), status.to_string())
        };
        let count = check_row(world, cut, (key, *at), &found);
        assert_eq!(row["unanswered"].is_array(), count > 0, "{row}");
        if count > 0 {
            assert_eq!(row["unanswered"][0]["code"], "E2040", "{row}");
        }
        unanswered += count;
    }
    unanswered
}

/// The same as a training set, where nothing comes from records.
fn check_export(server: &Server, world: &World, cut: Cut, seed: u64) -> usize {
    let questions = world.questions(seed);
    let (spine, out) = (world.folder.path().join("spine.ndjson"), world.folder.path().join(format!("set{seed}")));
    let line = |(key, at): &(String, i64)| format!("{}\n", json!({ "key": key, "when": rfc3339(*at) }));
    std::fs::write(&spine, questions.iter().map(line).collect::<String>()).unwrap();
    let fixed = ["export", "all", "--spine", spine.to_str().unwrap(), "--time", "when", "--json", "--visibility"];
    let output = run(server, &[&fixed[..], &["event_time", "--out", out.to_str().unwrap()]].concat());
    let result = lines(&output).pop().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let mut columns: HashMap<String, Vec<Json>> = HashMap::new();
    for file in result["files"].as_array().unwrap() {
        let mut file = ParquetFile::open(Path::new(file.as_str().unwrap()), 0).unwrap();
        while let Some(next) = file.next_columns() {
            let (batch, rows) = next.unwrap();
            for (name, column) in &batch {
                let values = (0..rows).map(|row| tidemill::json::value(&Column::value(column, row), None));
                columns.entry(name.replace("__", ":")).or_default().extend(values);
            }
        }
    }
    let manifest: Json =
        serde_json::from_str(&std::fs::read_to_string(result["manifest"].as_str().unwrap()).unwrap()).unwrap();
    let mut unanswered = 0;
    for (row, (key, at)) in questions.iter().enumerate() {
        // Files have no statuses: a null that the oracle does not have is a value that nobody knows.
        let view_of =
            |name: &str| world.views.iter().find(|view| name.starts_with(&format!("{}:", view.name))).unwrap();
        let found = |name: &str| {
            let is = columns[name][row].clone();
            let expected = world.expected(view_of(name), key, *at);
            let (_, wanted) = expected.iter().find(|(own, _)| name.ends_with(&format!(":{own}"))).unwrap();
            let is_unknown = is.is_null() && !wanted.value.is_null();
            let status = if is_unknown { "ERROR" } else { status_name(wanted.status) };
            (is, status.to_string())
        };
        unanswered += check_row(world, cut, (key, *at), &found);
        // Counts are never null by themselves: exactly those are unknown whose window holds what may be gone.
        for view in world.views.iter().filter(|view| view.source == "plain") {
            for feature in view.features.iter().filter(|feature| matches!(feature.aggregate, Aggregate::Count)) {
                let (from, to) = edges(feature, *at);
                if from > i64::MIN {
                    let is_null = columns[&format!("{}:{}", view.name, feature.name)][row].is_null();
                    assert_eq!(is_null, cut.matters(world, key, from, to), "{} of {key} at {at}", feature.name);
                }
            }
        }
    }
    assert_eq!(manifest["unanswered"].is_object(), cut.events > 0, "{manifest:#}");
    assert_eq!(result["notes"].as_array().is_some_and(|notes| !notes.is_empty()), cut.events > 0, "{result}");
    unanswered
}

/// Live reads of all keys, compared at the time that they say. `forgotten`: keys without an event since the cut are unknown.
fn check_live(server: &Server, world: &World, cut: Cut, forgotten: bool) -> usize {
    let mut unanswered = 0;
    for key in ["gone", "young", "unknown", "k0", "k7", "k12"] {
        let row = lines(&run(server, &["get", "all", &format!("key={key}"), "--json"])).remove(0);
        let t = tidemill_features::time::parse_rfc3339(row["as_of"].as_str().unwrap()).unwrap();
        let found = |name: &str| {
            let status = row["statuses"][name].as_str().unwrap_or("PRESENT");
            let status = if forgotten && key == "gone" && status == "NOT_FOUND" { "EMPTY" } else { status };
            (row["values"][name].clone(), status.to_string())
        };
        if forgotten && key == "gone" {
            assert_eq!(row["values"]["w:n_1h"], 0, "{row}");
            continue;
        }
        unanswered += check_row(world, cut, (key, t), &found);
    }
    unanswered
}

fn seed() -> u64 {
    let seed = std::env::var("TIDEMILL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("retention: TIDEMILL_SEED={seed}");
    seed
}

fn remove_state(world: &World) {
    std::fs::remove_dir_all(world.folder.path().join("data/state")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_window_needs_goes_and_reads_of_it_say_so() {
    let seed = seed();
    let world = World::new(vec![source("plain", false)], vec![bounded("w", "plain")], "keep_mb = 0.5");
    let server = Server::start(world.folder.path()).await;
    world.push_all(&server).await;
    assert_eq!(check_reads(&server, &world, Cut { events: 0 }, seed), 0);
    assert_eq!(check_export(&server, &world, Cut { events: 0 }, seed), 0);
    assert_eq!(server.terminate(), Some(0));
    // Everything that is not needed may go. Answers that are kept for verification are, so they go first.
    std::fs::remove_dir_all(world.folder.path().join("data/answers")).unwrap();
    world.set("keep_mb = 0.001");
    let server = Server::start(world.folder.path()).await;
    let log = settled(&server, |log| log["cut_events"].as_u64() > Some(0)).await;
    let cut = Cut::of(&world, &log);
    assert!(cut.events < EVENTS as usize - 360, "the last three hours stay: {log}");
    assert_eq!(log["held_back"]["view"], "w", "{log}");
    assert_eq!(log["events"].as_u64().unwrap() as usize + cut.events, EVENTS as usize, "{log}");
    assert_eq!(check_live(&server, &world, cut, false), 0, "live reads need nothing that is gone");
    assert!(check_reads(&server, &world, cut, seed) > 0);
    assert!(check_export(&server, &world, cut, seed + 1) > 0);
    let ledger = lines(&run(&server, &["status", "--json"]))[0]["sources"].clone();
    server.kill();

    // Derived anew from what is left: live values are the same, and the past still says that it does not know.
    remove_state(&world);
    let server = Server::start(world.folder.path()).await;
    assert_eq!(
        lines(&run(&server, &["status", "--json"]))[0]["sources"],
        ledger,
        "the ledger counts what was consumed"
    );
    assert_eq!(check_live(&server, &world, cut, true), 0);
    assert_eq!(server.terminate(), Some(0));

    // A view that would need what is gone is refused by name.
    let views = [bounded("w", "plain"), unbounded("all", "plain")];
    let definitions = world.folder.path().join("features/test.toml");
    std::fs::write(&definitions, toml::project(&world.sources, &views)).unwrap();
    let said = Server::try_start(world.folder.path()).await.err().expect("it needs what is gone");
    assert!(said.contains("E1026") && said.contains("`all:total`") && !said.contains("`w:"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_cut_never_makes_a_wrong_value() {
    let seed = seed();
    let sources = vec![source("plain", false), source("known", true)];
    let views = vec![
        bounded("w", "plain"),
        unbounded("all", "plain"),
        bounded("known_w", "known"),
        unbounded("known_all", "known"),
    ];
    let world = World::new(sources, views, "keep_mb = 0.001");
    let server = Server::start(world.folder.path()).await;
    world.push_all(&server).await;
    check_live(&server, &world, Cut { events: 0 }, false);
    let log = settled(&server, |log| log["held_back"].is_object()).await;
    assert_eq!((&log["cut_events"], &log["held_back"]["view"]), (&json!(0), &json!("all")), "{log}");
    assert!(log["held_back"]["reason"].as_str().unwrap().contains("`total`"), "{log}");
    assert_eq!(server.terminate(), Some(0));

    world.set("keep_mb = 0.001\nforce = true");
    let server = Server::start(world.folder.path()).await;
    let log = settled(&server, |log| log["cut_events"].as_u64() > Some(0)).await;
    let cut = Cut::of(&world, &log);
    assert_eq!(check_live(&server, &world, cut, false), 0, "records have what they need");
    assert!(check_reads(&server, &world, cut, seed) > 0);
    assert!(check_export(&server, &world, cut, seed) > 0);
    let verified = lines(&run(&server, &["verify", "--json"])).remove(0);
    assert_eq!(verified["differences"], 0, "{verified}");
    assert!(verified["beyond"].as_u64() > Some(0), "{verified}");
    let explained = run(&server, &["explain", "all:total", "key=k0", "--json"]);
    let said = String::from_utf8_lossy(&explained.stderr).into_owned();
    assert!(explained.status.code() == Some(2) && said.contains("E2041") && said.contains("`plain`"), "{said}");
    server.kill();
    let server = Server::start(world.folder.path()).await;
    assert_eq!(check_live(&server, &world, cut, false), 0, "after a kill");
    server.kill();

    remove_state(&world);
    world.set("keep_mb = 0.001");
    let said = Server::try_start(world.folder.path()).await.err().expect("its views need what is gone");
    assert!(said.contains("E1026") && said.contains("`all:total`") && said.contains("log.force"), "{said}");
    world.set("keep_mb = 0.001\nforce = true");
    let server = Server::start(world.folder.path()).await;
    let status = lines(&run(&server, &["status", "--json"])).remove(0);
    assert_eq!(status["sources"]["plain"]["consumed"], EVENTS, "{status}");
    assert_eq!(status["sources"]["plain"]["positions"]["0"], EVENTS, "{status}");
    assert!(check_live_forgetful(&server, &world) > 0, "lifetime values are not known any more");
}

/// The same where the state lies in Redis: a store that is new, and later one that loses everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_store_is_filled_from_what_is_left() {
    let seed = seed();
    let redis = Redis::start(RedisKind::Debian, &RedisOptions::default());
    let world = World::new(vec![source("plain", false)], vec![bounded("w", "plain")], "keep_mb = 0.001");
    let server = Server::start(world.folder.path()).await;
    world.push_all(&server).await;
    let _ = std::fs::remove_dir_all(world.folder.path().join("data/answers"));
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(world.folder.path()).await;
    let log = settled(&server, |log| log["cut_events"].as_u64() > Some(0)).await;
    let cut = Cut::of(&world, &log);
    assert_eq!(server.terminate(), Some(0));

    let in_redis =
        |force: &str| world.set(&format!("keep = \"400d\"\n{force}\n[redis]\naddress = \"{}\"", redis.address()));
    let start = async || {
        let arguments = ["--store", "redis"];
        Server::try_start_as(world.folder.path(), &arguments, ("error", std::process::Stdio::piped())).await.unwrap()
    };
    let filled = async |server: &Server| {
        for _ in 0..1200 {
            let status = lines(&run(server, &["status", "--json"])).remove(0);
            if status["ready"] == true && status["sources"]["plain"]["state"] == "running" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}", lines(&run(server, &["status", "--json"])));
    };
    in_redis("");
    let server = start().await;
    filled(&server).await;
    for round in 0..3 {
        assert_eq!(check_live(&server, &world, cut, true), 0, "round {round}");
        assert!(check_reads_forgetful(&server, &world, seed + round) > 0);
        if round == 1 {
            redis.cli(&["flushall"]);
            while redis.cli(&["keys", "*:definitions"]).is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            filled(&server).await;
        }
    }
    server.kill();
    // What was never seen is remembered.
    let server = start().await;
    filled(&server).await;
    assert!(check_reads_forgetful(&server, &world, seed + 9) > 0);
    server.kill();

    // Views that need what is gone are named, and everything stops, unless that is wanted.
    redis.cli(&["flushall"]);
    let views = [bounded("w", "plain"), unbounded("all", "plain")];
    std::fs::write(world.folder.path().join("features/test.toml"), toml::project(&world.sources, &views)).unwrap();
    let server = start().await;
    let mut said = String::new();
    for _ in 0..1200 {
        said = lines(&run(&server, &["status", "--json"]))[0]["sources"]["plain"]["state"].to_string();
        if said.contains("E1064") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(said.contains("E1064") && said.contains("`all:total`") && said.contains("log.force"), "{said}");
    server.kill();
    in_redis("force = true");
    let server = start().await;
    filled(&server).await;
    assert!(check_live_forgetful(&server, &World { views: views.to_vec(), ..world }) > 0);
}

/// Of state that was built after the cut, values are right or unknown; so is everything of keys that it never saw.
fn check_live_forgetful(server: &Server, world: &World) -> usize {
    let mut unanswered = 0;
    for key in ["gone", "young", "k0", "k7", "k12"] {
        let row = lines(&run(server, &["get", "all", &format!("key={key}"), "--json"])).remove(0);
        let t = tidemill_features::time::parse_rfc3339(row["as_of"].as_str().unwrap()).unwrap();
        for view in &world.views {
            for (name, expected) in world.expected(view, key, t) {
                let name = format!("{}:{name}", view.name);
                if row["statuses"][&name] == "ERROR" {
                    assert!(row["values"][&name].is_null(), "{row}");
                    unanswered += 1;
                    continue;
                }
                let wanted = tidemill::json::value(&value(&expected.value), None);
                assert_eq!(row["values"][&name], wanted, "{name} of {key}: {row}");
            }
        }
    }
    unanswered
}

/// The same of reads in the past.
fn check_reads_forgetful(server: &Server, world: &World, seed: u64) -> usize {
    let mut unanswered = 0;
    for (key, at) in world.questions(seed).into_iter().take(40) {
        let row =
            lines(&run(server, &["get", "all", &format!("key={key}"), "--as-of", &rfc3339(at), "--json"])).remove(0);
        for view in &world.views {
            for (name, expected) in world.expected(view, &key, at) {
                let name = format!("{}:{name}", view.name);
                let wanted = tidemill::json::value(&value(&expected.value), None);
                let is_unknown = row["statuses"][&name] == "ERROR" && row["values"][&name].is_null();
                unanswered += usize::from(is_unknown);
                assert!(is_unknown || row["values"][&name] == wanted, "{name} of {key}: {row}, not {wanted}");
            }
        }
    }
    unanswered
}

/// A sealed file of one source that is damaged, and jobs on another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_of_one_source_leaves_the_others_usable() {
    let sources = vec![source("plain", false), source("known", true)];
    let world = World::new(sources, vec![bounded("w", "plain"), bounded("known_w", "known")], "");
    let server = Server::start(world.folder.path()).await;
    world.push_all(&server).await;
    settled(&server, |log| log["pieces"].as_u64() > Some(0)).await;
    for file in std::fs::read_dir(world.folder.path().join("data/log/events/known")).unwrap() {
        std::fs::write(file.unwrap().path(), b"PAR1").unwrap();
    }
    let read = |server: &Server, view: &str| {
        let (out, from) = (world.folder.path().join(format!("of_{view}")), if view == "w" { "plain" } else { "known" });
        let _ = std::fs::remove_dir_all(&out);
        let references = format!("{view}:*");
        let at = rfc3339(world.start + 10 * HOUR);
        let export =
            ["export", &references, "--spine-from", from, "--json", "--out", out.to_str().unwrap()].map(String::from);
        let get = ["get", &references, "key=k0", "--as-of", &at, "--json"].map(String::from);
        let outputs = [&export[..], &get[..]].map(|a| run(server, &a.iter().map(String::as_str).collect::<Vec<_>>()));
        outputs.map(|output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let check = |server: &Server| {
        for (code, said) in read(server, "w") {
            assert_eq!(code, Some(0), "{said}");
        }
        for (code, said) in read(server, "known_w") {
            assert!(code == Some(1) && said.contains("E1020") && said.contains("events/known"), "{code:?} {said}");
        }
    };
    check(&server);
    assert_eq!(server.terminate(), Some(0));
    let server = Server::start(world.folder.path()).await;
    check(&server);
}
