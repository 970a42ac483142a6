//! The floor: a bare tonic server that answers Get with a prepared message, whatever is asked, and Search with ten neighbours.

use std::sync::Mutex;

use anyhow::{Context, Result};
use tidemill_proto::v1::serving_server::{Serving, ServingServer};
use tidemill_proto::v1::{ExplainRequest, ExplainResponse, GetRequest, GetResponse, SearchRequest, SearchResponse};
use tonic::{Request, Response, Status};

/// The first request that names a service teaches the answer: its `as_of` says how many rows of ten columns.
#[derive(Default)]
struct Echo {
    answer: Mutex<GetResponse>,
}

#[tonic::async_trait]
impl Serving for Echo {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let mut answer = self.answer.lock().map_err(|_| Status::internal("poisoned"))?;
        if request.get_ref().service == "teach" {
            let rows = request.get_ref().as_of.unwrap_or(1) as usize;
            let column = |i: usize| {
                let values: Vec<f64> = (0..rows).map(|row| row as f64 * 1.25 + i as f64).collect();
                tidemill_proto::v1::Column { name: format!("v:feature_{i}_30d"), ..tidemill_client::doubles(values) }
            };
            *answer = GetResponse { columns: (0..10).map(column).collect(), ..GetResponse::default() };
        }
        Ok(Response::new(answer.clone()))
    }

    async fn explain(&self, _: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        Err(Status::unimplemented("the floor explains nothing"))
    }

    async fn search(&self, _: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let keys = vec![tidemill_client::texts((0..10).map(|at| format!("item-{at}")))];
        let scores = (0..10).map(|at| at as f32 / 16.0).collect();
        Ok(Response::new(SearchResponse { counts: vec![10], keys, scores, ..SearchResponse::default() }))
    }
}

/// Serves on the address in the second argument; with a third one, HTTP routes share the port as they do in the product.
pub async fn serve() -> Result<()> {
    let address = std::env::args().nth(2).context("an address")?.parse()?;
    let service = ServingServer::new(Echo::default());
    let server = tonic::transport::Server::builder().tcp_nodelay(true);
    if std::env::args().nth(3).is_none() {
        let mut server = server;
        server.add_service(service).serve(address).await?;
        return Ok(());
    }
    let http = axum::Router::new().route("/v1/get", axum::routing::post(|| async { "{}" }));
    let router = tonic::service::Routes::new(service).prepare().into_axum_router().merge(http);
    server.accept_http1(true).add_routes(tonic::service::Routes::from(router)).serve(address).await?;
    Ok(())
}
