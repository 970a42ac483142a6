//! Serving and ingest over the wire: bad input between good rows, names, types, limits, both doors.

use tidemill_client::{Client, int64s, texts, v1};
use tidemill_tests::server::{Server, ndjson, project};
use tonic::Code;

const DEFINITIONS: &str = r#"
[source.s]
connector = "push"
event_time = "at"
event_id = "id"
fields = { id = "string", key = "string", x = "float64", n = "int64", at = "timestamp" }

[entity.e]
key = "key"

[view.v]
entity = "e"
source = "s"
[view.v.features]
n = { agg = "count()", window = "lifetime" }
total = { agg = "sum(x)", windows = ["3650d"] }
tags = { agg = "distinct(id)", window = "lifetime" }
[view.v.derived]
twice = "total_3650d * 2"

[view.r]
entity = "e"
request = { amount = "float64" }
[view.r.derived]
over = "request.amount - v.total_3650d"

[service.all]
features = ["v:*", "r:over"]
"#;

async fn started() -> (Server, Client, tempfile::TempDir) {
    let folder = project(DEFINITIONS);
    let server = Server::start(folder.path()).await;
    let client = server.client().await;
    (server, client, folder)
}

fn request(keys: &[&str]) -> v1::GetRequest {
    v1::GetRequest {
        service: "all".into(),
        keys: [("key".to_string(), texts(keys))].into(),
        request: [("amount".to_string(), tidemill_client::doubles(keys.iter().map(|_| 10.0)))].into(),
        ..v1::GetRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_between_good_rows() {
    let (_server, client, _folder) = started().await;
    let good =
        |id: u32| format!(r#"{{"id":"g{id}","key":"a","x":1.5,"n":"7","at":"2026-01-01T00:00:0{id}Z","more":[{{}}]}}"#);
    let poison: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        b"[1]".to_vec(),
        b"\xff\xfe{}".to_vec(),
        br#"{"id":"p","key":"a","x":1e400,"at":"2026-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"id":"p","key":"a","x":NaN,"at":"2026-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"id":"p","key":"a","x":"1","at":"2026-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"id":"p","key":"a","n":5.0,"at":"2026-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"id":"p","key":"a","at":"2026-01-01T00:00:00"}"#.to_vec(),
        br#"{"id":"p","key":"a","at":"12026-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"id":"p","key":"a","at":null}"#.to_vec(),
        br#"{"key":"a","at":"2026-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"id":"p","key":"a","at":"2999-01-01T00:00:00Z"}"#.to_vec(),
        format!(r#"{{"id":"p","key":"{}","at":"2026-01-01T00:00:00Z"}}"#, "k".repeat(70_000)).into_bytes(),
        format!(r#"{{"id":"p","key":"a","deep":{}}}"#, "[".repeat(100_000)).into_bytes(),
        format!(r#"{{"id":"p","key":"a","long":"{}"}}"#, "x".repeat(2 << 20)).into_bytes(),
    ];
    let mut body = Vec::new();
    for (i, line) in poison.iter().enumerate() {
        if i < 5 {
            body.extend_from_slice(good(i as u32).as_bytes());
            body.push(b'\n');
        }
        body.extend_from_slice(line);
        body.push(b'\n');
    }
    let rows = Some(v1::push_request::Rows::Ndjson(body.into()));
    let push = v1::PushRequest { source: "s".into(), rows, wait: v1::Wait::Readable as i32 };
    let answer = client.push(push).await.unwrap();
    assert_eq!((answer.accepted, answer.dead_lettered), (5, poison.len() as u64), "{:#?}", answer.dead_letters);
    assert_eq!(answer.positions[0].next_offset, 5 + poison.len() as u64);
    let letters = client.dead_letters(v1::DeadLettersRequest::default()).await.unwrap().letters;
    assert_eq!(letters.len(), poison.len());
    assert!(letters.iter().all(|l| l.code.starts_with("E100") && !l.reason.is_empty()), "{letters:#?}");
    let columns = client.get(request(&["a"])).await.unwrap().columns;
    assert_eq!(columns[0].values, Some(v1::column::Values::Int64s(v1::Int64s { values: vec![5] })));
    assert_eq!(columns[1].values, Some(v1::column::Values::Doubles(v1::Doubles { values: vec![7.5] })));
    assert_eq!(columns[3].values, Some(v1::column::Values::Doubles(v1::Doubles { values: vec![15.0] })));
    assert_eq!(columns[4].values, Some(v1::column::Values::Doubles(v1::Doubles { values: vec![2.5] })));
    let replayed = client
        .replay_dead_letters(v1::DeadLettersRequest { source: "s".into(), limit: 3, ..Default::default() })
        .await
        .unwrap();
    assert_eq!((replayed.accepted, replayed.dead_lettered), (0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_get_clear_errors() {
    let (_server, client, _folder) = started().await;
    let expect = |error: tidemill_client::ClientError, status: Code, code: &str, near: Option<&str>| {
        assert_eq!((error.status, error.code.as_str(), error.near.as_deref()), (status, code, near), "{error}");
    };
    let wrong = |change: fn(&mut v1::GetRequest)| {
        let mut message = request(&["a"]);
        change(&mut message);
        let client = client.clone();
        async move { client.get(message).await.unwrap_err() }
    };
    expect(wrong(|r| r.service = "al".into()).await, Code::NotFound, "E2001", Some("all"));
    expect(wrong(|r| r.service.clear()).await, Code::InvalidArgument, "E2004", None);
    let references = |r: &mut v1::GetRequest| {
        r.service.clear();
        r.features = vec!["v:totl_3650d".into()];
    };
    expect(wrong(references).await, Code::NotFound, "E2002", Some("v:total_3650d"));
    let renamed = |r: &mut v1::GetRequest| {
        let column = r.keys.remove("key").unwrap();
        r.keys.insert("kye".into(), column);
    };
    expect(wrong(renamed).await, Code::InvalidArgument, "E2006", Some("key"));
    expect(wrong(|r| drop(r.keys.insert("key".into(), int64s([1])))).await, Code::InvalidArgument, "E2009", None);
    expect(wrong(|r| drop(r.keys.insert("key".into(), texts(["a", "b"])))).await, Code::InvalidArgument, "E2007", None);
    expect(wrong(|r| r.request.clear()).await, Code::InvalidArgument, "E2006", None);
    expect(wrong(|r| r.as_of = Some(i64::MAX)).await, Code::InvalidArgument, "E2015", None);
    let long = |r: &mut v1::GetRequest| drop(r.keys.insert("key".into(), texts(["k".repeat(70_000)])));
    expect(wrong(long).await, Code::InvalidArgument, "E2012", None);
    let many = |r: &mut v1::GetRequest| {
        r.keys.insert("key".into(), texts(vec!["a"; 20_000]));
        r.request.insert("amount".into(), tidemill_client::doubles(vec![1.0; 20_000]));
    };
    expect(wrong(many).await, Code::InvalidArgument, "E2011", None);
    let broken = |r: &mut v1::GetRequest| {
        let texts = v1::Texts { data: b"ab".to_vec().into(), offsets: vec![0, 9] };
        r.keys
            .insert("key".into(), v1::Column { values: Some(v1::column::Values::Texts(texts)), ..Default::default() });
    };
    expect(wrong(broken).await, Code::InvalidArgument, "E2014", None);
    let huge = ndjson("s", "x".repeat(17 << 20), v1::Wait::None);
    let error = client.push(huge).await.unwrap_err();
    assert!(matches!(error.status, Code::OutOfRange | Code::ResourceExhausted), "{error:?}");
    expect(
        client.push(ndjson("t", String::new(), v1::Wait::None)).await.unwrap_err(),
        Code::NotFound,
        "E1010",
        Some("s"),
    );
    assert!(client.get(request(&["a"])).await.is_ok(), "others are unharmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_entities_are_data_and_arrow_says_the_same() {
    let (_server, client, _folder) = started().await;
    let mut message = request(&["nobody"]);
    let answer = client.get(message.clone()).await.unwrap();
    assert!(answer.columns[..3].iter().all(|c| c.statuses[..] == [v1::Status::NotFound as u8]), "{answer:?}");
    message.encoding = v1::Encoding::Arrow as i32;
    let answer = client.get(message).await.unwrap();
    assert!(answer.columns.is_empty() && answer.arrow.len() > 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_that_never_end_leave_others_unharmed() {
    let (server, client, _folder) = started().await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let client = Client::connect(&server.address).await.unwrap();
        for _ in 0..50 {
            let (sender, receiver) = tokio::sync::mpsc::channel::<v1::PushRequest>(1);
            let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let client = client.clone();
            let call = tokio::spawn(async move { client.push_stream(stream).await.map(drop) });
            open.push((sender, call));
        }
    }
    assert!(client.get(request(&["a"])).await.is_ok());
    assert_eq!(client.push(ndjson("s", String::new(), v1::Wait::Durable)).await.unwrap().accepted, 0);
}
