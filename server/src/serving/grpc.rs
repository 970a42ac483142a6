//! The gRPC door: the three services of the protocol, and the server that carries them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tidemill_proto::v1::catalog_server::Catalog;
use tidemill_proto::v1::ingest_server::Ingest;
use tidemill_proto::v1::serving_server::Serving;
use tidemill_proto::v1::*;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::offline::StopOnDrop;
use super::status::to_grpc;
use super::{answer, api, search};
use crate::components::Server;
use crate::failure::Failure;
use crate::limits::STREAM_IN_FLIGHT;
use crate::metrics;

/// The services, all on one server.
#[derive(Clone)]
pub struct Api {
    /// what they stand on
    pub server: Arc<Server>,
}

/// Runs a request and counts it.
#[allow(clippy::disallowed_methods)]
async fn counted<T>(
    method: &'static str,
    run: impl Future<Output = Result<T, Failure>>,
) -> Result<Response<T>, Status> {
    let started = Instant::now();
    let result = run.await;
    let code = result.as_ref().map_or_else(|failure| failure.code, |_| "OK");
    metrics::request(method, code, started.elapsed());
    result.map(Response::new).map_err(to_grpc)
}

#[tonic::async_trait]
impl Serving for Api {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        // A read of the past may walk over the log: not on a thread that others wait for.
        if request.get_ref().as_of.is_some() || !request.get_ref().times.is_empty() {
            let (server, request) = (self.server.clone(), request.into_inner());
            let stop = Arc::new(AtomicBool::new(false));
            let _guard = StopOnDrop(stop.clone());
            return counted("Get", api::blocking(move || answer::get(&server, &request, &stop))).await;
        }
        counted("Get", answer::get_now(&self.server, request.get_ref())).await
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let server = self.server.clone();
        let request = request.into_inner();
        counted("Explain", api::blocking(move || answer::explain(&server, &request))).await
    }

    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let (server, request) = (self.server.clone(), request.into_inner());
        let stop = Arc::new(AtomicBool::new(false));
        let _guard = StopOnDrop(stop.clone());
        counted("Search", api::blocking(move || search::search(&server, &request, &stop))).await
    }
}

#[tonic::async_trait]
impl Ingest for Api {
    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        counted("Push", api::push(self.server.clone(), request.into_inner())).await
    }

    type PushStreamStream = Pin<Box<dyn Stream<Item = Result<PushResponse, Status>> + Send>>;

    async fn push_stream(
        &self,
        request: Request<tonic::Streaming<PushRequest>>,
    ) -> Result<Response<Self::PushStreamStream>, Status> {
        let server = self.server.clone();
        let (acks, answers) = tokio::sync::mpsc::channel(STREAM_IN_FLIGHT);
        let mut requests = request.into_inner();
        // Each batch is decoded and queued in order; only the waiting for its acknowledgement overlaps with the next ones.
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = requests.next() => next,
                    () = server.closed() => None,
                };
                let Some(next) = next else { return };
                let ack = match next {
                    Ok(request) => match api::enqueue(server.clone(), request).await {
                        Ok(waiting) => waiting,
                        Err(failure) => {
                            let _ = acks.send(tokio::spawn(async { Err(to_grpc(failure)) })).await;
                            return;
                        }
                    },
                    Err(status) => {
                        let _ = acks.send(tokio::spawn(async { Err(status) })).await;
                        return;
                    }
                };
                let ack = tokio::spawn(async move { ack.await.map_err(to_grpc) });
                if acks.send(ack).await.is_err() {
                    return;
                }
            }
        });
        let answers = tokio_stream::wrappers::ReceiverStream::new(answers);
        let stream =
            answers.then(|ack| async move { ack.await.unwrap_or_else(|_| Err(Status::internal("a push panicked"))) });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn dead_letters(
        &self,
        request: Request<DeadLettersRequest>,
    ) -> Result<Response<DeadLettersResponse>, Status> {
        let server = self.server.clone();
        let request = request.into_inner();
        let letters = api::blocking(move || api::dead_letters(&server, &request));
        counted("DeadLetters", async { Ok(DeadLettersResponse { letters: letters.await? }) }).await
    }

    async fn replay_dead_letters(
        &self,
        request: Request<DeadLettersRequest>,
    ) -> Result<Response<PushResponse>, Status> {
        counted("ReplayDeadLetters", api::replay_dead_letters(self.server.clone(), request.into_inner())).await
    }
}

#[tonic::async_trait]
impl Catalog for Api {
    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        counted("List", async { answer::list(&self.server, &request.get_ref().kind) }).await
    }

    async fn get(&self, request: Request<CatalogGetRequest>) -> Result<Response<CatalogGetResponse>, Status> {
        let CatalogGetRequest { kind, name } = request.get_ref();
        counted("CatalogGet", async { answer::show(&self.server, kind, name) }).await
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let request = request.into_inner();
        counted("Check", api::blocking(move || answer::check(request))).await
    }

    async fn resume_source(
        &self,
        request: Request<ResumeSourceRequest>,
    ) -> Result<Response<ResumeSourceResponse>, Status> {
        counted("ResumeSource", api::resume_source(&self.server, request.into_inner())).await
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        counted("Status", async { Ok(answer::status(&self.server)) }).await
    }
}
