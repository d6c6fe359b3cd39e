//! The credits door, `/api/credits`: what an app's backend does with its users' credits.
//!
//! [`endpoints`] lists what changes the ledger, [`request`] understands bodies, [`change`] runs each through the same
//! steps, [`batch`] many debits at once; [`reads`] answers questions.

mod batch;
mod change;
mod endpoints;
pub(crate) mod reads;
pub(crate) mod request;

use crate::app::App;
use crate::edge::RequestContext;
use crate::openapi::RouteDoc;
use crate::service::Failure;
use axum::Router;
use axum::response::Response;
use axum::routing::any;
use std::sync::Arc;

pub(crate) const BASE: &str = "/api/credits";

/// Every route of the door, for the OpenAPI document and the metrics.
pub fn route_docs() -> Vec<RouteDoc> {
    endpoints::ROUTES.iter().chain(reads::ROUTES).copied().collect()
}

pub fn router(app: &Arc<App>) -> Router {
    endpoints::router()
        .merge(reads::router())
        .route(BASE, any(unknown))
        .route(&format!("{BASE}/"), any(unknown))
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
