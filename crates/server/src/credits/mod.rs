//! The credits door, `/api/credits`: what an app's backend does with its users' credits.
//!
//! [`endpoints`] lists what changes the ledger, [`request`] understands bodies, [`change`] runs each through the same
//! steps, [`batch`] many debits at once; [`reads`] answers questions.

mod batch;
mod change;
mod endpoints;
pub(crate) mod reads;
mod request;

use crate::app::App;
use crate::edge::RequestContext;
use crate::openapi::RouteDoc;
use crate::service::Failure;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::any;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;

pub(crate) const BASE: &str = "/api/credits";
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Every route of the door, for the OpenAPI document and the metrics.
pub fn route_docs() -> Vec<RouteDoc> {
    endpoints::ROUTES.iter().chain(reads::ROUTES).copied().collect()
}

pub fn router(app: &Arc<App>) -> Router {
    endpoints::router()
        .merge(reads::router())
        .route(&format!("{BASE}/{{*rest}}"), any(unknown))
        .method_not_allowed_fallback(not_allowed)
        .with_state(app.clone())
}

async fn unknown(context: RequestContext) -> Response {
    Failure::NotFound { what: "route", field: None }.response(&context.request_id)
}

async fn not_allowed(context: RequestContext) -> Response {
    Failure::MethodNotAllowed.response(&context.request_id)
}

/// What the edge found out about a request.
fn context_of(request: &Request) -> RequestContext {
    request.extensions().get().cloned().expect("the edge stands before every door")
}

fn json_response(status: u16, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
