//! The pages: Checkout and the portal, as a buyer meets them, and the control page with everything else that can happen.
//! All of it works without JavaScript.

mod checkout;
mod control;
mod money;
mod papers;
mod portal;
mod views;

use crate::actions::{self, Wishes};
use crate::api;
use crate::desk::Desk;
use crate::refusal::Refusal;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use views::Views;

/// Shared by the handlers.
struct Pages {
    desk: Arc<Desk>,
    views: Views,
}

pub(crate) fn router(desk: Arc<Desk>) -> Router {
    let pages = Arc::new(Pages { desk, views: Views::new() });
    Router::new()
        .route("/", get(control::page))
        .route("/till.css", get(style))
        .route("/pay/{session}", get(checkout::page).post(checkout::paid))
        .route("/portal/{session}", get(portal::page))
        .route("/invoices/{id}", get(papers::invoice))
        .route("/receipts/{id}", get(papers::receipt))
        .route("/_till/state", get(control::state))
        .route("/_till/parameters", get(parameters))
        .route("/_till/attempts/{event}", get(control::attempts))
        .route("/_till/actions/{name}", post(action))
        .with_state(pages)
}

async fn style() -> Response<Body> {
    let mut response = Response::new(Body::from(include_str!("../pages/till.css")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    response
}

async fn parameters() -> Response<Body> {
    as_json(StatusCode::OK, &api::known_calls())
}

async fn action(
    State(pages): State<Arc<Pages>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let form = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if form {
        let wishes = Wishes::of_form(&body);
        return match actions::act(&pages.desk, &name, &wishes).await {
            Ok(_) => to(back(&wishes)),
            Err(refusal) => pages.views.problem(&refusal, back(&wishes)),
        };
    }
    let outcome = match Wishes::of_json(&body) {
        Ok(wishes) => actions::act(&pages.desk, &name, &wishes).await,
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(value) => as_json(StatusCode::OK, &value),
        Err(refusal) => refused(&refusal),
    }
}

/// Where a form came from: the control page, or a portal.
fn back(wishes: &Wishes) -> &str {
    let plain = |path: &&str| path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_".contains(&byte));
    wishes.text("back").filter(|path| path.starts_with("/portal/")).filter(plain).unwrap_or("/")
}

fn to(path: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let target = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(LOCATION, target);
    response
}

fn as_json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    as_json(status, &refusal.body())
}

/// A time in seconds as people read it.
fn time_text(seconds: &Value) -> Value {
    match seconds.as_i64() {
        Some(seconds) => {
            let iso = kernel::Millis(seconds.saturating_mul(1_000)).iso();
            json!(format!("{} {} UTC", &iso[..10], &iso[11..16]))
        }
        None => Value::Null,
    }
}
