//! The billing door, `/api/billing`: Stripe's deliveries at [`webhook`], an app's backend at [`backend`]. The person who is signed
//! in buys at `/api/auth/billing`; [`shapes`] is what both are shown.

mod backend;
pub(crate) mod shapes;
mod webhook;

use crate::app::App;
use crate::edge::RequestContext;
use crate::openapi::RouteDoc;
use crate::service::Failure;
use axum::Router;
use axum::response::Response;
use axum::routing::any;
use kernel::redirect::judge;
use std::sync::Arc;

const BASE: &str = "/api/billing";
/// Stripe writes the session's id in its place.
const SESSION_ID: &str = "{CHECKOUT_SESSION_ID}";

/// Every route of the door, for the OpenAPI document and the metrics.
pub fn route_docs() -> Vec<RouteDoc> {
    backend::ROUTES.iter().chain([&webhook::ROUTE]).copied().collect()
}

pub fn router(app: &Arc<App>) -> Router {
    backend::router()
        .merge(webhook::router())
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

/// Where a browser goes after Stripe: a path of ours or a trusted origin, always written out in full. `None`: it may not go there.
pub(crate) fn return_url(app: &App, given: Option<&str>, otherwise: &str) -> Option<String> {
    let target = judge(&app.settings.trusted_origins, given.unwrap_or(otherwise))?;
    Some(target.absolute())
}

/// Where it goes unless the caller says otherwise.
pub(crate) fn after_success() -> String {
    format!("/billing?checkout={SESSION_ID}")
}

pub(crate) const AFTER_CANCEL: &str = "/billing";
