//! The gate, `/api/gate`: may this request pass, and what does it cost?
//!
//! [`authorize`] is asked by backends, [`forward`] by reverse proxies about the request that [`original`] reads from their
//! headers. Whoever asks, one [`judge`] looks at the session.

mod authorize;
mod forward;
mod judge;
mod original;
mod visitor;

use crate::app::App;
use crate::auth::cookies::Names;
use crate::edge::RequestContext;
use crate::openapi::RouteDoc;
use crate::service::Failure;
use axum::Router;
use axum::response::Response;
use axum::routing::{any, post};
use std::sync::Arc;

const BASE: &str = "/api/gate";

/// What the door works with.
struct Gate {
    app: Arc<App>,
    names: Names,
}

/// Every route of the door, for the OpenAPI document and the metrics.
pub fn route_docs() -> Vec<RouteDoc> {
    vec![authorize::ROUTE, forward::ROUTE]
}

pub fn router(app: &Arc<App>) -> Router {
    let gate = Gate { app: app.clone(), names: Names::new(&app.settings.cookies) };
    Router::new()
        .route("/api/gate/authorize", post(authorize::serve))
        .route("/api/gate/forward", any(forward::serve))
        .route(&format!("{BASE}/{{*rest}}"), any(unknown))
        .method_not_allowed_fallback(not_allowed)
        .with_state(Arc::new(gate))
}

async fn unknown(context: RequestContext) -> Response {
    Failure::NotFound { what: "route", field: None }.response(&context.request_id)
}

async fn not_allowed(context: RequestContext) -> Response {
    Failure::MethodNotAllowed.response(&context.request_id)
}
