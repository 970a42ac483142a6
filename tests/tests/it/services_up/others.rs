//! Redis in its kinds, the cluster, the registry, and the proxy before them.

use std::io::{Read, Write};
use std::net::TcpStream;

use tidemill_tests::services::{Proxy, Redis, RedisCluster, RedisKind, RedisOptions, Registry};

#[test]
fn both_kinds_of_redis_keep_what_they_acknowledge() {
    for (kind, version) in [(RedisKind::Debian, "redis_version:7"), (RedisKind::Valkey, "valkey_version:9")] {
        let redis = Redis::start(kind, &RedisOptions::default());
        assert!(redis.cli(&["info", "server"]).contains(version), "{kind:?}");
        redis.cli(&["set", "k", "1"]);
        redis.kill();
        assert!(redis.try_cli(&["get", "k"]).is_err());
        redis.restart();
        assert_eq!(redis.cli(&["get", "k"]), "1");

        let mark = redis.mark();
        redis.cli(&["set", "k", "2"]);
        redis.cli(&["set", "later", "2"]);
        redis.rewind(&mark);
        assert_eq!(
            (redis.cli(&["get", "k"]).as_str(), redis.cli(&["exists", "later"]).as_str()),
            ("1", "0"),
            "{kind:?}"
        );
        redis.cli(&["set", "k", "3"]);
        redis.kill();
        redis.restart();
        assert_eq!(redis.cli(&["get", "k"]), "3", "{kind:?} keeps a file again");

        redis.configure("maxmemory", "1");
        assert!(redis.try_cli(&["set", "k", "4"]).unwrap_err().starts_with("OOM"));
    }
}

#[test]
fn redis_knows_users_and_speaks_tls() {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions { tls: true, ..RedisOptions::default() });
    redis.add_user("reader", "s3cret", &["~t:*", "+get"]);
    redis.cli(&["set", "t:1", "yes"]);
    let as_reader = |command: &[&str]| {
        redis.try_cli(&[&["--no-auth-warning", "--user", "reader", "--pass", "s3cret"], command].concat())
    };
    assert_eq!(as_reader(&["get", "t:1"]).unwrap(), "yes");
    assert!(as_reader(&["get", "u:1"]).unwrap_err().contains("NOPERM"));
    assert!(as_reader(&["set", "t:1", "no"]).unwrap_err().contains("NOPERM"));
    assert!(redis.try_cli(&["auth", "reader", "wrong"]).unwrap_err().contains("WRONGPASS"));

    let port = redis.tls_address().rsplit(':').next().unwrap().to_string();
    let authority = redis.certificates().authority().display().to_string();
    let over_tls =
        |more: &[&str]| redis.try_cli(&[&["-h", "localhost", "-p", &port, "--tls"], more, &["get", "t:1"]].concat());
    assert_eq!(over_tls(&["--cacert", &authority]).unwrap(), "yes");
    assert!(over_tls(&[]).is_err(), "the authority is nobody's that this machine knows");
}

#[test]
fn a_failover_loses_what_the_master_had_acknowledged() {
    let cluster = RedisCluster::start();
    let keys = [("{b}", "0"), ("{c}", "1"), ("{a}", "2")];
    for (key, part) in keys {
        cluster.cli(&["set", key, "before"]);
        assert_eq!(cluster.master(part.parse().unwrap()).cli(&["get", key]), "before");
    }
    let old = cluster.master(1).address();
    cluster.cut(1);
    assert_eq!(cluster.cli(&["set", "{c}", "lost"]), "OK");
    assert_eq!(cluster.cli(&["set", "{a}", "kept"]), "OK");
    cluster.failover(1);
    assert_ne!(cluster.master(1).address(), old);
    assert_eq!(cluster.replica(1).address(), old);
    let values = keys.map(|(key, _)| cluster.cli(&["get", key]));
    assert_eq!(values, ["before", "before", "kept"]);

    // Without a cut the replica takes over by itself, and has what it was sent.
    cluster.cli(&["set", "{c}", "sent"]);
    cluster.master(1).cli(&["wait", "1", "10000"]);
    cluster.kill_master(1);
    cluster.wait_ok();
    cluster.restart();
    assert_eq!((cluster.cli(&["get", "{c}"]).as_str(), cluster.addresses().len()), ("sent", 6));

    let slots = |part| cluster.master(part).cli(&["cluster", "countkeysinslot", "0"]);
    cluster.reshard(0, 1, 1);
    assert_eq!(slots(1), "0");
    assert_eq!(cluster.cli(&["get", "{b}"]), "before");
}

#[test]
fn the_registry_speaks_the_api() {
    let registry = Registry::start();
    let schema = r#"{"type":"record","name":"A","fields":[{"name":"x","type":"int"}]}"#;
    let avro = registry.register("a-value", schema, "AVRO");
    assert_eq!(registry.register("a-value", schema, "AVRO"), avro, "the same schema has the same id");
    let proto = "syntax = \"proto3\"; message M { int32 x = 1; }";
    let proto = registry.register("m-value", proto, "PROTOBUF");
    assert_ne!(avro, proto);
    let unknown = registry.ask("GET", "/schemas/ids/4711", "");
    assert_eq!((unknown.0, unknown.1["error_code"].as_u64()), (404, Some(40403)));
    registry.kill();
    registry.restart();
    let (status, answer) = registry.ask("GET", &format!("/schemas/ids/{avro}"), "");
    assert_eq!((status, answer["schema"].as_str()), (200, Some(schema)));
    let (_, answer) = registry.ask("GET", &format!("/schemas/ids/{proto}"), "");
    assert_eq!(answer["schemaType"], "PROTOBUF");
    // What is compatible is decided by the registry.
    registry.set_compatibility("a-value", "BACKWARD");
    let other = r#"{"schema":"{\"type\":\"record\",\"name\":\"A\",\"fields\":[{\"name\":\"y\",\"type\":\"int\"}]}"}"#;
    assert_eq!(registry.ask("POST", "/subjects/a-value/versions", other).0, 409);
}

/// One request over a connection of its own: the answer, nothing if the connection was closed.
fn ask(address: &str, request: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else { return String::new() };
    let _ = stream.write_all(format!("{request}\r\n").as_bytes());
    let mut answer = vec![0; 256];
    let length = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[test]
fn an_answer_is_lost_after_the_request_was_carried_out() {
    let redis = Redis::start(RedisKind::Debian, &RedisOptions { forgetful: true, ..RedisOptions::default() });
    let proxy = Proxy::start(&redis.address());
    let address = proxy.address();
    assert_eq!(ask(&address, "incr n"), ":1\r\n");
    proxy.lose_answers(b"incr n", 1);
    assert_eq!(ask(&address, "get n"), "$1\r\n1\r\n", "other requests are let alone");
    assert_eq!(ask(&address, "incr n"), "");
    assert_eq!((proxy.lost(), redis.cli(&["get", "n"]).as_str()), (1, "2"));
    assert_eq!(ask(&address, "incr n"), ":3\r\n");

    let mut open = TcpStream::connect(&address).unwrap();
    open.write_all(b"ping\r\n").unwrap();
    assert_eq!(open.read(&mut [0; 16]).unwrap(), 7);
    proxy.cut();
    assert_eq!(open.read(&mut [0; 16]).unwrap_or(0), 0);
    proxy.shut(true);
    assert_eq!(ask(&address, "ping"), "");
    proxy.shut(false);
    proxy.delay(std::time::Duration::from_millis(5));
    assert_eq!(ask(&address, "ping"), "+PONG\r\n");
}
