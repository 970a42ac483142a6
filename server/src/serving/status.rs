//! Errors as codes: the one place where a `Failure` becomes a gRPC status or an HTTP answer.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tonic::{Code, Status};

use crate::failure::{Failure, Remedy};

/// How long a refused client had better wait, in milliseconds.
const RETRY_AFTER_MS: &str = "500";

/// For gRPC: the message begins with the E-number; metadata hold number, near names, field and retry delay.
pub fn to_grpc(failure: Failure) -> Status {
    let code = match failure.remedy {
        Remedy::Invalid => Code::InvalidArgument,
        Remedy::NotFound => Code::NotFound,
        Remedy::Exhausted => Code::ResourceExhausted,
        Remedy::Unavailable => Code::Unavailable,
        Remedy::Internal => Code::Internal,
    };
    let mut status = Status::new(code, failure.to_string());
    let metadata = status.metadata_mut();
    let mut put = |key: &'static str, text: &str| {
        if let Ok(value) = text.parse() {
            metadata.insert(key, value);
        }
    };
    put("tidemill-error", failure.code);
    if let Some(near) = failure.near.first() {
        put("tidemill-near", near);
    }
    if let Some(field) = &failure.field {
        put("tidemill-field", field);
    }
    if matches!(failure.remedy, Remedy::Exhausted | Remedy::Unavailable) {
        put("retry-after-ms", RETRY_AFTER_MS);
    }
    status
}

/// For HTTP.
pub fn to_http(failure: &Failure) -> Response {
    let code = match failure.remedy {
        Remedy::Invalid => StatusCode::BAD_REQUEST,
        Remedy::NotFound => StatusCode::NOT_FOUND,
        Remedy::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Remedy::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Remedy::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let error =
        json!({ "code": failure.code, "message": failure.message, "near": failure.near, "field": failure.field });
    let mut response = (code, axum::Json(json!({ "error": error }))).into_response();
    if matches!(failure.remedy, Remedy::Exhausted | Remedy::Unavailable) {
        response.headers_mut().insert("retry-after", axum::http::HeaderValue::from_static("1"));
    }
    response
}
