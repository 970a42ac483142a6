//! The door: one port for gRPC and HTTP, with every limit set, and an orderly way to close.

use std::sync::Arc;

use tidemill_proto::v1::catalog_server::CatalogServer;
use tidemill_proto::v1::ingest_server::IngestServer;
use tidemill_proto::v1::offline_server::OfflineServer;
use tidemill_proto::v1::serving_server::ServingServer;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;

use super::grpc::Api;
use super::http;
use crate::components::Server;
use crate::failure::Failure;
use crate::limits::{
    HEADER_BYTES_MAX, KEEPALIVE, MESSAGE_BYTES_MAX, REQUEST_TIMEOUT, REQUESTS_MAX, STREAMS_PER_CONNECTION,
};

/// Every service on one set of routes. HTTP routes come second: a gRPC path never reaches them.
async fn routes(server: &Arc<Server>, reflection: bool) -> Result<Routes, Failure> {
    let api = Api { server: server.clone() };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ServingServer<Api>>().await;
    reporter.set_serving::<IngestServer<Api>>().await;
    reporter.set_serving::<CatalogServer<Api>>().await;
    reporter.set_serving::<OfflineServer<Api>>().await;
    let mut routes = Routes::new(health)
        .add_service(ServingServer::new(api.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(IngestServer::new(api.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(CatalogServer::new(api.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX))
        .add_service(OfflineServer::new(api).max_decoding_message_size(MESSAGE_BYTES_MAX));
    if reflection {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tidemill_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|e| Failure::internal("E5012", format!("reflection: {e}")))?;
        routes = routes.add_service(reflection);
    }
    let router = routes.prepare().into_axum_router().merge(http::routes(server.clone())).fallback(http::unknown);
    Ok(Routes::from(router))
}

/// Serves until `stop` is done; requests under way may finish.
pub async fn serve(
    server: Arc<Server>,
    listener: TcpListener,
    reflection: bool,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let routes = routes(&server, reflection).await?;
    let incoming = super::connection::accept(listener);
    // Beyond the limit requests are refused at once instead of waiting in memory.
    let limits = tower::ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(REQUESTS_MAX))
        .into_inner();
    tonic::transport::Server::builder()
        .accept_http1(true)
        .timeout(REQUEST_TIMEOUT)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .layer(limits)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop)
        .await
        .map_err(|e| Failure::internal("E5013", format!("the server failed: {e}")))
}
