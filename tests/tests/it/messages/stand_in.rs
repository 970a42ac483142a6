//! A stand-in for a registry: it answers as it is told, also in ways that a real one does only on a bad day.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tidemill::settings::{RegistrySettings, Secret};
use tidemill::source::SchemaRegistry;
use tidemill::source::registry::{RegisteredSchema, RegistryError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers by path, the first one first; the last stays. Everything else is a bare 404.
type Answers = HashMap<&'static str, Vec<(u16, String)>>;

struct StandIn {
    url: String,
    /// heads of the requests that came
    asked: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    async fn start(answers: impl IntoIterator<Item = (&'static str, Vec<(u16, String)>)>) -> StandIn {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (mut answers, noted): (Answers, _) = (answers.into_iter().collect(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|read| read > 0) {}
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_string();
                noted.lock().unwrap().push(head);
                let (status, body) = match answers.get_mut(path.as_str()) {
                    Some(list) if list.len() > 1 => list.remove(0),
                    Some(list) => list[0].clone(),
                    None => (404, "no such page".to_string()),
                };
                let answer =
                    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        StandIn { url, asked }
    }

    fn requests(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn registry(urls: &[&str]) -> SchemaRegistry {
    let urls = urls.iter().map(|url| url.to_string()).collect();
    let (user, password) = (Some("reader".to_string()), Some(Secret::new("canary-of-a-secret")));
    SchemaRegistry::open(RegistrySettings { urls, user, password }).unwrap()
}

fn schema(text: &str) -> (u16, String) {
    (200, json!({"schema": text}).to_string())
}

fn missing() -> (u16, String) {
    (404, json!({"error_code": 40403, "message": "Schema not found"}).to_string())
}

const PATH: &str = "/schemas/ids/7";

/// What a registry says decides whether a message is lost: only its own words that there is no such schema do that.
#[tokio::test]
async fn only_the_registrys_own_word_makes_a_schema_unknown() {
    for (answer, requests, expected) in [
        (missing(), 4, "unknown: the schema registry does not know schema 7"),
        ((404, "<html>".to_string()), 4, "away: 404, and not in the words of a schema registry: is the address right?"),
        ((401, String::new()), 4, "away: see registry_user and registry_password"),
        ((500, json!({"error_code": 50001, "message": "the store is away"}).to_string()), 4, "away: the store is away"),
        ((503, String::new()), 4, "away: 503"),
        ((200, "{}".to_string()), 4, "away: the answer is not that of a schema registry"),
        ((200, json!({"schema": "x".repeat(5 << 20)}).to_string()), 1, "unusable: more than 4194304 bytes"),
    ] {
        let stand_in = StandIn::start([(PATH, vec![answer])]).await;
        let error = registry(&[&stand_in.url]).schema(7, true).await.unwrap_err();
        let (kind, said) = match &error {
            RegistryError::Unknown(said) => ("unknown", said),
            RegistryError::Unusable(said) => ("unusable", said),
            RegistryError::Away(said) => ("away", said),
        };
        let (own, words) = expected.split_once(": ").unwrap();
        assert!(kind == own && said.contains(words), "{expected}: {error:?}");
        assert!(kind == "unusable" || said.contains(&stand_in.url), "the address is told: {said}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        assert_eq!(stand_in.requests(), requests, "{expected}");
        let head = stand_in.asked.lock().unwrap()[0].to_lowercase();
        assert!(head.contains("authorization: basic cmvhzgvyomnhbmfyes1vzi1hlxnly3jlda=="), "{head}");
    }
}

/// Bad days pass, and one address of several is enough, for a schema and for the word that there is none.
#[tokio::test]
async fn a_registry_is_asked_again_and_elsewhere() {
    let trouble = (500, String::new());
    let recovering = StandIn::start([(PATH, vec![trouble.clone(), trouble, schema("\"int\"")])]).await;
    let found = registry(&[&recovering.url]).schema(7, true).await.unwrap();
    assert_eq!(found, RegisteredSchema { kind: "AVRO".into(), text: "\"int\"".into(), references: vec![] });
    // Copies are a little behind, and are believed when they say it again; of many numbers, at once.
    let late = StandIn::start([(PATH, vec![missing(), missing(), schema("y")])]).await;
    assert_eq!(registry(&[&late.url]).schema(7, true).await.unwrap().text, "y");
    let late = StandIn::start([(PATH, vec![missing(), schema("y")])]).await;
    assert!(matches!(registry(&[&late.url]).schema(7, false).await, Err(RegistryError::Unknown(_))));
    // Nobody listens at the first address.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = format!("http://{nobody}");
    let (behind, ahead) =
        (StandIn::start([(PATH, vec![missing()])]).await, StandIn::start([(PATH, vec![schema("x")])]).await);
    assert_eq!(registry(&[&nobody, &behind.url, &ahead.url]).schema(7, true).await.unwrap().text, "x");
    let error = registry(&[&nobody, &behind.url]).schema(7, true).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::Away(said) if said.contains(&nobody)),
        "one of them may know it: {error:?}"
    );
}

/// References are followed to their ends, each once; a registry that never ends is left.
#[tokio::test]
async fn references_are_followed() {
    let with = |text: &str, references: &[(&str, &str)]| {
        let references: Vec<_> =
            references.iter().map(|(name, subject)| json!({"name": name, "subject": subject, "version": 2})).collect();
        (200, json!({"schema": text, "schemaType": "PROTOBUF", "references": references}).to_string())
    };
    let stand_in = StandIn::start([
        (PATH, vec![with("main", &[("a.proto", "a/b c"), ("d.proto", "d")])]),
        ("/subjects/a%2Fb%20c/versions/2", vec![with("a", &[("d.proto", "d")])]),
        ("/subjects/d/versions/2", vec![with("d", &[("a.proto", "a/b c")])]),
    ])
    .await;
    let mut found = registry(&[&stand_in.url]).schema(7, true).await.unwrap();
    found.references.sort();
    let others = [("a.proto", "a"), ("d.proto", "d")].map(|(name, text)| (name.to_string(), text.to_string()));
    assert_eq!((found.kind.as_str(), found.text.as_str(), &found.references[..]), ("PROTOBUF", "main", &others[..]));
    assert_eq!(stand_in.requests(), 3);

    let many: Vec<(String, String)> = (0..250).map(|at| (format!("n{at}"), "d".repeat(at + 1))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, subject)| (name.as_str(), subject.as_str())).collect();
    let leak = |subject: &str| -> &'static str { format!("/subjects/{subject}/versions/2").leak() };
    let answers = many.iter().map(|(_, subject)| (leak(subject), vec![with("x", &[])]));
    let endless = StandIn::start(answers.chain([(PATH, vec![with("main", &many)])])).await;
    let error = registry(&[&endless.url]).schema(7, true).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Unusable(said) if said.contains("more than 200 others")), "{error:?}");
}
