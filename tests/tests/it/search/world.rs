//! A real server, and beside it everything that it was told.

use std::collections::HashMap;

use tidemill_client::{Client, texts, v1};
use tidemill_tests::server::{Server, ndjson, project};

use super::model::{Asked, COLORS, DIMS, Metric, Model, Random, Row};

fn definitions(shape: &Shape) -> String {
    r#"
[source.items]
connector = "push"
event_time = "at"
fields = { item = "string", vec = "list<float32>", color = "string", price = "float64", at = "timestamp[us]" }

[source.clicks]
connector = "push"
event_time = "at"
fields = { item = "string", at = "timestamp[us]" }

[source.tastes]
connector = "push"
event_time = "at"
fields = { user = "string", taste = "vector<4>", at = "timestamp[us]" }

[entity.item]
key = "item"
[entity.user]
key = "user"

[view.pop]
entity = "item"
source = "clicks"
features = { clicks = { agg = "count()", windows = ["1h"] } }

[view.taste]
entity = "user"
source = "tastes"
features = { mean = { agg = "vector_avg(taste)", windows = ["30d"] } }

[view.asking]
entity = "user"
request = { hurry = "bool" }
derived = { hurried = "request.hurry" }

[embedding.items]
entity = "item"
source = "items"
vector = "vec"
dims = 4
metric = "METRIC"
attributes = { color = "string", price = "float64" }
INDEX

[service.both]
features = ["pop:*", "taste:*"]
"#
    .replace("METRIC", shape.metric.name())
    .replace("INDEX", shape.index)
}

/// What kind of world.
#[derive(Clone, Debug)]
pub struct Shape {
    pub metric: Metric,
    /// how many different items there are
    pub items: u64,
    /// a line of the embedding
    pub index: &'static str,
    /// `tidemill.toml`
    pub settings: String,
}

/// What walks over a graph have found of what they should have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walked {
    pub searches: usize,
    pub found: usize,
    pub wanted: usize,
}

pub struct World {
    pub server: Option<Server>,
    pub client: Client,
    pub folder: tempfile::TempDir,
    shape: Shape,
    pub model: Model,
    pub walked: Walked,
    pushed: u64,
    /// T of the first read: events are dated around it
    start: i64,
    restarts: usize,
}

/// Keys of items.
pub fn item_keys(items: &[&str]) -> HashMap<String, v1::Column> {
    [("item".to_string(), texts(items))].into()
}

pub fn ints(column: &v1::Column) -> Vec<i64> {
    match &column.values {
        Some(v1::column::Values::Int64s(v)) => v.values.clone(),
        other => panic!("{}: {other:?}", column.name),
    }
}

/// Items and scores of an answer.
pub fn found(answer: &v1::SearchResponse) -> Vec<(String, f32)> {
    let Some(v1::column::Values::Texts(keys)) = &answer.keys[0].values else { panic!("keys are texts") };
    let key = |w: &[u32]| String::from_utf8(keys.data[w[0] as usize..w[1] as usize].to_vec()).unwrap();
    keys.offsets.windows(2).map(key).zip(answer.scores.iter().copied()).collect()
}

/// Waits until a process answers from its index, and not from records: beside a shared store it is filled after the start.
pub async fn indexed(client: &Client) {
    let probe = Asked { vector: [1.0; DIMS], k: 1, ..Asked::default() }.request();
    let waiting = async {
        while ask(client, probe.clone()).await.plans[0].plan == "records" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting).await.expect("the index is filled");
}

/// An answer that is none of an error.
pub async fn ask(client: &Client, request: v1::SearchRequest) -> v1::SearchResponse {
    client.search(request.clone()).await.unwrap_or_else(|error| panic!("{}: {request:?}", error.message))
}

impl World {
    pub async fn start(metric: Metric) -> Self {
        World::start_as(Shape { metric, items: 60, index: "", settings: String::new() }).await
    }

    pub async fn start_as(shape: Shape) -> Self {
        let folder = project(&definitions(&shape));
        if !shape.settings.is_empty() {
            std::fs::write(folder.path().join("tidemill.toml"), &shape.settings).unwrap();
        }
        let server = Server::start(folder.path()).await;
        let client = server.client().await;
        let (model, server) = (Model::default(), Some(server));
        let walked = Walked::default();
        let mut world = World { server, client, folder, shape, model, walked, pushed: 0, start: 0, restarts: 0 };
        world.start = world.now().await;
        world
    }

    /// T of a search.
    pub async fn now(&self) -> i64 {
        self.ask(Asked { vector: [1.0; DIMS], ..Asked::default() }.request(), None).await.read_time
    }

    pub async fn ask(&self, request: v1::SearchRequest, as_of: Option<i64>) -> v1::SearchResponse {
        ask(&self.client, v1::SearchRequest { as_of, ..request }).await
    }

    async fn send(&mut self, lines: String, count: u64) {
        let answer = self.client.push(ndjson("items", lines, v1::Wait::Readable)).await.unwrap();
        assert_eq!((answer.accepted, answer.dead_lettered), (count, 0), "{:?}", answer.dead_letters);
    }

    fn line(&mut self, item: &str, vector: Option<[f32; DIMS]>, color: &'static str, price: f64, time: i64) -> String {
        let row = Row { time, offset: self.pushed, vector, color, price };
        self.pushed += 1;
        self.model.rows.entry(item.to_string()).or_default().push(row);
        let vector = vector.map_or("null".to_string(), |vector| format!("{vector:?}"));
        format!("{{\"item\":\"{item}\",\"vec\":{vector},\"color\":\"{color}\",\"price\":{price},\"at\":{time}}}\n")
    }

    pub async fn push(&mut self, item: &str, vector: Option<[f32; DIMS]>, color: &'static str, price: f64, time: i64) {
        let line = self.line(item, vector, color, price, time);
        self.send(line, 1).await;
    }

    /// So many rows.
    pub async fn fill(&mut self, random: &mut Random, count: u64) {
        for _ in 0..count / 1_000 {
            self.write_some(random, 1_000).await;
        }
    }

    /// Waits until a search walks over a graph.
    pub async fn walks(&mut self, random: &mut Random) {
        self.walks_from(0, random).await;
    }

    /// The same of one more search than there were.
    pub async fn walks_from(&mut self, searches: usize, random: &mut Random) {
        let walking = async {
            while self.walked.searches == searches {
                self.search_now(random).await;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), walking).await.expect("a graph is built");
    }

    /// Some rows, a fifth of them without a vector, in no order of time.
    pub async fn write(&mut self, random: &mut Random) {
        let count = 1 + random.below(12);
        self.write_some(random, count).await;
    }

    async fn write_some(&mut self, random: &mut Random, count: u64) {
        let mut lines = String::new();
        for _ in 0..count {
            let item = format!("i{}", random.below(self.shape.items));
            let mut vector = random.vector();
            if vector == [0.0; DIMS] {
                vector[1] = 1.0;
            }
            let vector = (random.below(5) > 0).then_some(vector);
            let color = COLORS[random.below(3) as usize];
            let time = self.start - 1 - random.below(7_200_000_000) as i64;
            lines.push_str(&self.line(&item, vector, color, random.below(10) as f64, time));
        }
        self.send(lines, count).await;
    }

    pub async fn clicks(&mut self, item: &str, count: u64, time: i64) {
        let line = format!("{{\"item\":\"{item}\",\"at\":{time}}}\n");
        self.client.push(ndjson("clicks", line.repeat(count as usize), v1::Wait::Readable)).await.unwrap();
        self.model.clicks.entry(item.to_string()).or_default().extend((0..count).map(|_| time));
    }

    pub async fn click(&mut self, random: &mut Random) {
        let item = format!("i{}", random.below(self.shape.items));
        // Whether a click counts must not depend on how long the test takes: none is near the edge of the hour.
        let ago = if random.below(4) == 0 { 5_400_000_000 } else { random.below(600_000_000) as i64 };
        self.clicks(&item, 1 + random.below(3), self.start - 1 - ago).await;
    }

    pub async fn search_now(&mut self, random: &mut Random) {
        let asked = Asked::random(random);
        let answer = self.ask(asked.request(), None).await;
        self.check(&asked, &answer);
    }

    /// The same of another process.
    pub async fn search_at(&mut self, client: &Client, random: &mut Random) -> v1::SearchResponse {
        let asked = Asked::random(random);
        let answer = ask(client, asked.request()).await;
        self.check(&asked, &answer);
        answer
    }

    pub async fn search_past(&mut self, random: &mut Random) {
        let asked = Asked::random(random);
        let time = self.start - random.below(9_000_000_000) as i64;
        let answer = self.ask(asked.request(), Some(time)).await;
        assert_eq!((answer.read_time, answer.plans[0].plan.as_str()), (time, "records"));
        self.check(&asked, &answer);
    }

    fn check(&mut self, asked: &Asked, answer: &v1::SearchResponse) {
        let expected = self.model.neighbours(self.shape.metric, asked, answer.read_time);
        let got = found(answer);
        // Where there is a graph, a scan may be one of codes.
        let plan = answer.plans[0].plan.as_str();
        if !asked.exact && !self.shape.index.is_empty() && plan != "records" {
            self.walked.searches += usize::from(plan == "traverse");
            self.check_walk(asked, answer, &expected);
            return;
        }
        if self.shape.metric != Metric::Cosine {
            assert_eq!(got, expected, "{asked:?} at {}, {:?}", answer.read_time, answer.plans);
            return;
        }
        // The last digit of an angle decides about ties: scores have to agree, and each item has to have its own.
        assert_eq!(got.len(), expected.len(), "{asked:?}: {got:?}, {expected:?}");
        for ((item, score), (_, wanted)) in got.iter().zip(&expected) {
            let row = self.model.standing(item, answer.read_time).unwrap_or_else(|| panic!("{item} has no vector"));
            let own = self.shape.metric.score(asked.vector, row.vector.unwrap());
            assert!((score - wanted).abs() < 1e-6 && (score - own).abs() < 1e-6, "{asked:?}: {got:?}, {expected:?}");
        }
    }

    /// What a walk finds stands, passes and has its own score; how much of the truth that is, is counted.
    fn check_walk(&mut self, asked: &Asked, answer: &v1::SearchResponse, expected: &[(String, f32)]) {
        let got = found(answer);
        if asked.min_score.is_none() {
            assert_eq!(got.len(), expected.len(), "{asked:?}: as many as asked for");
        }
        for (item, score) in &got {
            let row = self.model.standing(item, answer.read_time);
            let row = row.unwrap_or_else(|| panic!("{item} is deleted, and found by {asked:?}"));
            let own = self.shape.metric.score(asked.vector, row.vector.unwrap());
            assert!((score - own).abs() < 1e-5, "{item} is replaced, and found by {asked:?}: {score} and {own}");
            assert!(asked.min_score.is_none_or(|least| *score >= least), "{item}: {score}");
            assert!(self.model.passes(asked, item, row, answer.read_time), "{item} does not pass {asked:?}");
        }
        assert!(got.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)), "{got:?}");
        self.walked.wanted += expected.len();
        // Many vectors are equal: whoever has the score of one that is wanted is as good.
        let least = expected.last().map_or(f32::MAX, |(_, score)| *score) - 1e-5;
        self.walked.found += got.iter().filter(|(_, score)| *score >= least).count();
    }

    pub async fn restart(&mut self, kill: bool) {
        self.restarts += 1;
        if self.restarts > 4 && !kill {
            return;
        }
        if kill {
            self.stop();
        } else {
            assert_eq!(self.server.take().unwrap().terminate(), Some(0));
        }
        self.begin().await;
    }

    /// kill -9.
    pub fn stop(&mut self) {
        self.server.take().unwrap().kill();
    }

    pub async fn begin(&mut self) {
        let server = Server::start(self.folder.path()).await;
        self.client = server.client().await;
        self.server = Some(server);
    }

    /// Every row that was pushed has become something, and there is a vector for each item that has one.
    pub async fn ledger_holds(&self) {
        indexed(&self.client).await;
        let status = self.client.status().await.unwrap();
        let of = &status.embeddings["items"];
        assert_eq!(of.applied + of.filtered, self.pushed);
        let standing = self.model.rows.keys().filter(|item| self.model.standing(item, i64::MAX).is_some()).count();
        assert_eq!(of.vectors, standing as u64);
    }

    /// A body to the other door.
    pub async fn http(&self, path: &str, body: &str) -> serde_json::Value {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let address = &self.server.as_ref().unwrap().address;
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let json = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
        serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {answer}"))
    }
}
