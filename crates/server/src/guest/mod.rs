//! The guest door, `/api/guest`: a visitor without an account gets a signed cookie and sees what is left to do.
//!
//! Counting happens at the gate. Browsers call this door, so it has the origin check and CORS of the Better Auth door.

mod cookie;

pub(crate) use cookie::{forgotten, presented};

use crate::app::App;
use crate::auth::{origin_guard, rates};
use crate::edge::RequestContext;
use crate::openapi::{Auth, Door, RouteDoc};
use crate::service::json::Members;
use crate::service::{Failure, body, context_of, json_response};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get};
use credits::push_text;
use gate::allowances::Standing;
use gate::guests;
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Method};
use kernel::{GuestId, Millis, random};
use std::fmt::Write as _;
use std::sync::Arc;

const PATH: &str = "/api/guest";
const BODY_BYTES: usize = 64 * 1024;

pub const ROUTES: &[RouteDoc] = &[
    RouteDoc::post(PATH, "Makes the visitor a guest, or says which guest it is")
        .door(Door::Guest)
        .answers(&[
            (200, "A guest already: `guest_id` and `allowances`; no new cookie"),
            (201, "A guest now: the same, and the cookie"),
            (403, "`forbidden`: from a page that is not trusted"),
            (404, "`not_found`: guests are switched off"),
            (429, "`rate_limited`: too many new guests from this address"),
        ])
        .notes("`allowances` is a list of `action`, `limit`, `used`, `remaining` and `resets_at` (null before the first use)."),
    RouteDoc::get(PATH, "Says which guest the visitor is, and what is left to do")
        .door(Door::Guest)
        .auth(Auth::GuestCookie)
        .answers(&[
            (200, "`guest_id` and `allowances`"),
            (401, "`unauthenticated`: no guest cookie, or one that opens nothing"),
            (404, "`not_found`: guests are switched off"),
            (503, "`unavailable`: the counts cannot be read"),
        ]),
];

pub fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route(PATH, get(serve).post(serve))
        .route(&format!("{PATH}/{{*rest}}"), any(unknown))
        .method_not_allowed_fallback(not_allowed)
        .with_state(app.clone())
}

async fn unknown(context: RequestContext) -> Response {
    Failure::NotFound { what: "route", field: None }.response(&context.request_id)
}

async fn not_allowed(context: RequestContext) -> Response {
    Failure::MethodNotAllowed.response(&context.request_id)
}

async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let context = context_of(&request);
    let (parts, body) = request.into_parts();
    let answer = if !app.settings.guest.enabled {
        Err(Failure::NotFound { what: "route", field: None })
    } else if parts.method == Method::POST {
        enter(&app, &parts.headers, body, &context).await
    } else {
        look(&app, &parts.headers, &context).await
    };
    answer.unwrap_or_else(|failure| failure.response(&context.request_id))
}

/// GET: who has a good cookie.
async fn look(app: &App, headers: &HeaderMap, context: &RequestContext) -> Result<Response, Failure> {
    let guest = living(app, headers, context.now).await?.ok_or(Failure::NoGuest)?;
    let standings = app.settings.guest.allowances.look(&app.counters, &guest, context.now).await?;
    Ok(json_response(200, answer(&guest, &standings)))
}

/// POST: a new guest, unless the browser is one already.
async fn enter(
    app: &App,
    headers: &HeaderMap,
    sent: Body,
    context: &RequestContext,
) -> Result<Response, Failure> {
    let shown = presented(app, headers, context.now).is_some();
    if !shown && let Some(seconds) = rates::refuses_new_guest(app, context.client, context.now).await? {
        return Err(Failure::RateLimited { seconds });
    }
    let bytes = body::read(app, headers, sent, BODY_BYTES).await?;
    let trusted = &app.settings.trusted_origins;
    let judged = origin_guard::check(headers, trusted)
        .and_then(|()| origin_guard::check_first_sign_in(headers, trusted));
    judged.map_err(|_| Failure::ForeignOrigin)?;
    Members::parse(&bytes)?.finish()?;

    if let Some(guest) = living(app, headers, context.now).await? {
        let standings = app.settings.guest.allowances.look(&app.counters, &guest, context.now).await?;
        return Ok(json_response(200, answer(&guest, &standings)));
    }
    // The cookie was good and its guest is no more: this one is as new as any.
    if shown && let Some(seconds) = rates::refuses_new_guest(app, context.client, context.now).await? {
        return Err(Failure::RateLimited { seconds });
    }
    let now = context.now;
    let made = app.store.write(move |tx| guests::create(tx, now, &mut random::secure()));
    let guest: GuestId = made.await.map_err(Failure::Store)?;
    let mut response = json_response(201, answer(&guest, &app.settings.guest.allowances.untouched()));
    let line = HeaderValue::try_from(cookie::line(app, &guest, now));
    let line = line.map_err(|error| Failure::Store(store::Error::Fault(error.to_string())))?;
    response.headers_mut().append(SET_COOKIE, line);
    Ok(response)
}

/// The guest of a good cookie that has not ended.
async fn living(app: &App, headers: &HeaderMap, now: Millis) -> Result<Option<GuestId>, Failure> {
    let Some(guest) = presented(app, headers, now) else { return Ok(None) };
    let asked = guest.clone();
    let exists = app.store.read(move |tx| guests::exists(tx, &asked)).await.map_err(Failure::Store)?;
    Ok(exists.then_some(guest))
}

fn answer(guest: &GuestId, standings: &[Standing]) -> String {
    let mut out = String::with_capacity(128 + 128 * standings.len());
    out.push_str("{\"guest_id\":");
    push_text(&mut out, guest.as_str());
    out.push_str(",\"allowances\":[");
    for (at, standing) in standings.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_standing(&mut out, standing);
    }
    out.push_str("]}");
    out
}

/// `{action, limit, used, remaining, resets_at}`
pub(crate) fn push_standing(out: &mut String, standing: &Standing) {
    out.push_str("{\"action\":");
    push_text(out, &standing.action);
    // Writing to a text cannot fail.
    let _ = write!(
        out,
        ",\"limit\":{},\"used\":{},\"remaining\":{},\"resets_at\":",
        standing.limit,
        standing.used,
        standing.remaining()
    );
    match standing.resets_at {
        Some(at) => push_text(out, at.iso_text().as_str()),
        None => out.push_str("null"),
    }
    out.push('}');
}
