//! `POST /api/billing/webhook`: what Stripe delivers is verified, written down and answered at once.

use crate::app::App;
use crate::edge::{self, Refusal};
use crate::openapi::{Auth, Door, RouteDoc};
use crate::service::{Failure, context_of, json_response};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use billing::webhook::Received;
use std::sync::Arc;
use std::time::Duration;

/// Events are a few KiB; the largest ones that Stripe documents stay below.
const LARGEST: usize = 512 << 10;

pub(super) const ROUTE: RouteDoc = RouteDoc::post("/api/billing/webhook", "Takes an event of Stripe's")
    .door(Door::Billing)
    .auth(Auth::None)
    .answers(&[
        (200, "`{\"received\": true}`: it is written down, and worked off afterwards"),
        (400, "The signature does not fit, is too old, or what was signed is no event"),
        (404, "No webhook secret is configured"),
        (413, "More than 512 KiB"),
        (503, "The database does not answer; Stripe delivers again"),
    ])
    .notes("Needs the header `Stripe-Signature` over the body as it is sent.");

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/api/billing/webhook", post(serve))
}

async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let context = context_of(&request);
    let answered = take(&app, request, context.now).await;
    answered.unwrap_or_else(|failure| failure.response(&context.request_id))
}

async fn take(app: &Arc<App>, request: Request, now: kernel::Millis) -> Result<Response, Failure> {
    // Before a byte of the body is read: where there is no door, nobody is listened to.
    let shut = || Failure::NotFound { what: "route", field: None };
    let desk = app.billing.as_ref().filter(|desk| desk.tools().verifier.is_open()).ok_or_else(shut)?;
    let (head, body) = request.into_parts();
    let time = Duration::from_millis(app.settings.limits.body_read_ms);
    let body = edge::body::read(body, LARGEST, time).await.map_err(|refusal| match refusal {
        Refusal::BodyBroken => Failure::Unsigned("the body is incomplete".into()),
        refusal => Failure::Edge(refusal),
    })?;
    let mut given = head.headers.get_all("stripe-signature").iter();
    // Of two headers each reader would believe another.
    let signature = match (given.next(), given.next()) {
        (Some(only), None) => only.to_str().ok(),
        _ => None,
    };
    match desk.receive(signature, &body, now).await? {
        Received::Taken => Ok(json_response(200, r#"{"received":true}"#.into())),
        Received::Shut => Err(shut()),
        Received::Unsigned(wrong) => Err(Failure::Unsigned(wrong.to_string())),
        Received::NotAnEvent => Err(Failure::Unsigned("the body is not an event of Stripe's".into())),
    }
}
