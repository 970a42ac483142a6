//! A typed client for a Tidemill server: one method a call of the protocol, with deadlines, and with retries where a retry
//! cannot do harm (reads that found the server away).
//!
//! ```no_run
//! # async fn example() -> Result<(), tidemill_client::ClientError> {
//! let client = tidemill_client::Client::connect("127.0.0.1:6566").await?;
//! let mut request = tidemill_client::v1::GetRequest { service: "fraud_v1".into(), ..Default::default() };
//! request.keys.insert("card_id".into(), tidemill_client::texts(["c42"]));
//! let answer = client.get(request).await?;
//! println!("{} columns as of {}", answer.columns.len(), answer.read_time);
//! # Ok(())
//! # }
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub use tidemill_proto::v1;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use v1::catalog_client::CatalogClient;
use v1::ingest_client::IngestClient;
use v1::offline_client::OfflineClient;
use v1::serving_client::ServingClient;

/// Answers larger than this are refused.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Bytes of a spine in one message: a fraction of what a server takes.
const PIECE_BYTES: usize = 1 << 20;
/// Such messages that wait for a slow server.
const PIECES_WAITING: usize = 4;
/// How often a read is tried.
const READ_TRIES: u32 = 3;

/// A connection to one server; clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    deadline: Duration,
}

/// What a server, or the way to it, said no with.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ClientError {
    /// E-number of the server; `E2099` where no server answered
    pub code: String,
    /// for people
    pub message: String,
    /// a known name close to an unknown one
    pub near: Option<String>,
    /// the gRPC code
    pub status: Code,
}

impl ClientError {
    /// Whether nobody answered.
    pub fn is_away(&self) -> bool {
        matches!(self.status, Code::Unavailable | Code::DeadlineExceeded)
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let text = |key: &str| status.metadata().get(key).and_then(|v| v.to_str().ok()).map(str::to_string);
        let code = text("tidemill-error");
        let plain = status.message();
        // The message repeats the number, which has a field of its own.
        let message = code.as_deref().and_then(|code| plain.strip_prefix(&format!("{code}: "))).unwrap_or(plain);
        let near = text("tidemill-near");
        let hint = near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let message = message.strip_suffix(&hint).unwrap_or(message);
        let message = if message.is_empty() { format!("{:?}", status.code()) } else { message.to_string() };
        ClientError { code: code.unwrap_or_else(|| "E2099".into()), message, near, status: status.code() }
    }
}

/// What calls give.
pub type Answer<T> = Result<T, ClientError>;

impl Client {
    /// Connects to `host:port`.
    pub async fn connect(address: &str) -> Answer<Client> {
        let away = |what: String| ClientError {
            code: "E2099".into(),
            message: format!("no server answers at {address}: {what}; start one with `tidemill serve`"),
            near: None,
            status: Code::Unavailable,
        };
        let url = if address.contains("://") { address.to_string() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(url).map_err(|e| away(e.to_string()))?;
        let endpoint = endpoint.connect_timeout(Duration::from_secs(5)).tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|e| away(root_cause(&e)))?;
        Ok(Client { channel, deadline: Duration::from_secs(60) })
    }

    /// The same connection with another deadline for every call.
    pub fn with_deadline(self, deadline: Duration) -> Client {
        Client { deadline, ..self }
    }

    fn serving(&self) -> ServingClient<Channel> {
        ServingClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    fn ingest(&self) -> IngestClient<Channel> {
        IngestClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    fn catalog(&self) -> CatalogClient<Channel> {
        CatalogClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    fn offline(&self) -> OfflineClient<Channel> {
        OfflineClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    /// Tries a read again where the server was away, with growing, jittered pauses.
    async fn read<T, F: Future<Output = Result<tonic::Response<T>, Status>>>(&self, call: impl Fn() -> F) -> Answer<T> {
        let mut tries = 1;
        loop {
            match call().await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if status.code() == Code::Unavailable && tries < READ_TRIES => {
                    let pause = rand::random_range(5..20) * 4u64.pow(tries - 1);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    tries += 1;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// Values of a service or of a list of features.
    pub async fn get(&self, message: v1::GetRequest) -> Answer<v1::GetResponse> {
        self.read(|| async { self.serving().get(self.request(message.clone())).await }).await
    }

    /// How one value came about.
    pub async fn explain(&self, message: v1::ExplainRequest) -> Answer<v1::ExplainResponse> {
        self.read(|| async { self.serving().explain(self.request(message.clone())).await }).await
    }

    /// Nearest neighbours in a collection.
    pub async fn search(&self, message: v1::SearchRequest) -> Answer<v1::SearchResponse> {
        self.read(|| async { self.serving().search(self.request(message.clone())).await }).await
    }

    /// Writes a training set, on the server's machine. Without a deadline: it ends with its result, and is stopped when the
    /// stream is dropped.
    pub async fn export(&self, message: v1::ExportRequest) -> Answer<tonic::Streaming<v1::JobProgress>> {
        Ok(self.offline().export(Request::new(message)).await?.into_inner())
    }

    /// Features for the rows of an Arrow IPC stream, each as of its own time; the answer is one, too, in pieces. The spine comes
    /// in pieces of any size. Without a deadline, as `export`.
    pub async fn history(
        &self,
        start: v1::HistoryStart,
        spine: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Answer<History> {
        use v1::history_request::Part;
        let (parts, messages) = tokio::sync::mpsc::channel(PIECES_WAITING);
        let sending = tokio::spawn(async move {
            tokio::pin!(spine);
            if parts.send(Part::Start(start)).await.is_err() {
                return;
            }
            while let Some(bytes) = spine.next().await {
                for piece in bytes.chunks(PIECE_BYTES) {
                    // Once the server has said no, nobody takes the rest.
                    if parts.send(Part::Arrow(piece.to_vec().into())).await.is_err() {
                        return;
                    }
                }
            }
        });
        let sending = Sending(sending.abort_handle());
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        let messages = messages.map(|part| v1::HistoryRequest { part: Some(part) });
        let answer = self.offline().history(messages).await?.into_inner();
        Ok(History { answer, _sending: sending })
    }

    /// Writes all values at one time, on the server's machine, as `export` does.
    pub async fn snapshot(&self, message: v1::SnapshotRequest) -> Answer<tonic::Streaming<v1::JobProgress>> {
        Ok(self.offline().snapshot(Request::new(message)).await?.into_inner())
    }

    /// Recomputes served answers from the event log. Without a deadline, as `export`.
    pub async fn verify(&self, message: v1::VerifyRequest) -> Answer<v1::VerifyResponse> {
        let mut stream = self.offline().verify(Request::new(message)).await?.into_inner();
        let answer = stream.message().await?;
        Ok(answer.ok_or_else(|| Status::internal("the server ended the verification without a result"))?)
    }

    /// Derives the state of a view anew from the event log; the stream tells how far it is. The work goes on when the stream is
    /// dropped.
    pub async fn backfill(&self, view: &str) -> Answer<tonic::Streaming<v1::BackfillProgress>> {
        let message = v1::BackfillRequest { view: view.to_string() };
        Ok(self.offline().backfill(Request::new(message)).await?.into_inner())
    }

    /// Sends one batch of events. Not tried again: without `event_id` it would count twice.
    pub async fn push(&self, message: v1::PushRequest) -> Answer<v1::PushResponse> {
        Ok(self.ingest().push(self.request(message)).await?.into_inner())
    }

    /// Sends many batches; the answers come in order, one for each.
    pub async fn push_stream(
        &self,
        batches: impl Stream<Item = v1::PushRequest> + Send + 'static,
    ) -> Answer<tonic::Streaming<v1::PushResponse>> {
        Ok(self.ingest().push_stream(batches).await?.into_inner())
    }

    /// Bad events.
    pub async fn dead_letters(&self, message: v1::DeadLettersRequest) -> Answer<v1::DeadLettersResponse> {
        self.read(|| async { self.ingest().dead_letters(self.request(message.clone())).await }).await
    }

    /// Bad events, once more.
    pub async fn replay_dead_letters(&self, message: v1::DeadLettersRequest) -> Answer<v1::PushResponse> {
        Ok(self.ingest().replay_dead_letters(self.request(message)).await?.into_inner())
    }

    /// Definitions of a kind, or all.
    pub async fn list(&self, kind: &str) -> Answer<v1::ListResponse> {
        let message = v1::ListRequest { kind: kind.to_string() };
        self.read(|| async { self.catalog().list(self.request(message.clone())).await }).await
    }

    /// One definition with its lineage.
    pub async fn show(&self, kind: &str, name: &str) -> Answer<v1::CatalogGetResponse> {
        let message = v1::CatalogGetRequest { kind: kind.to_string(), name: name.to_string() };
        self.read(|| async { self.catalog().get(self.request(message.clone())).await }).await
    }

    /// Checks definition files.
    pub async fn check(&self, message: v1::CheckRequest) -> Answer<v1::CheckResponse> {
        self.read(|| async { self.catalog().check(self.request(message.clone())).await }).await
    }

    /// Lets a source that has stopped after a loss go on without what it has lost.
    pub async fn resume_source(&self, source: &str, accept_loss: bool) -> Answer<v1::ResumeSourceResponse> {
        let message = v1::ResumeSourceRequest { source: source.to_string(), accept_loss };
        Ok(self.catalog().resume_source(self.request(message)).await?.into_inner())
    }

    /// How the server is doing.
    pub async fn status(&self) -> Answer<v1::StatusResponse> {
        self.read(|| async { self.catalog().status(self.request(v1::StatusRequest {})).await }).await
    }
}

/// The answer of a history. Dropped, it ends the sending of the spine, too: else the server would go on waiting for it.
#[derive(Debug)]
pub struct History {
    answer: tonic::Streaming<v1::HistoryResponse>,
    _sending: Sending,
}

impl Stream for History {
    type Item = Result<v1::HistoryResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.answer).poll_next(context)
    }
}

/// A spine that is being sent.
#[derive(Debug)]
struct Sending(tokio::task::AbortHandle);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}

/// A column of texts.
pub fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = T>) -> v1::Column {
    let (mut data, mut offsets) = (Vec::new(), vec![0]);
    for value in values {
        data.extend_from_slice(value.as_ref().as_bytes());
        offsets.push(data.len() as u32);
    }
    let rows = offsets.len() as u32 - 1;
    let texts = v1::Texts { data: data.into(), offsets };
    v1::Column { values: Some(v1::column::Values::Texts(texts)), rows, ..v1::Column::default() }
}

/// A column of integers.
pub fn int64s(values: impl IntoIterator<Item = i64>) -> v1::Column {
    let values: Vec<i64> = values.into_iter().collect();
    let rows = values.len() as u32;
    v1::Column { values: Some(v1::column::Values::Int64s(v1::Int64s { values })), rows, ..v1::Column::default() }
}

/// A column of floats.
pub fn doubles(values: impl IntoIterator<Item = f64>) -> v1::Column {
    let values: Vec<f64> = values.into_iter().collect();
    let rows = values.len() as u32;
    v1::Column { values: Some(v1::column::Values::Doubles(v1::Doubles { values })), rows, ..v1::Column::default() }
}
