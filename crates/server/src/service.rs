//! What the doors for an app's backend have in common: the service key, strict JSON, strict queries, one form of errors.

pub(crate) mod body;
pub(crate) mod failure;
pub(crate) mod idempotency;
pub(crate) mod json;
pub(crate) mod moment;
pub(crate) mod query;

pub(crate) use failure::Failure;

use crate::app::App;
use crate::edge::RequestContext;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use identity::service_keys::{self, Scope, Shown};
use kernel::Millis;
use std::sync::Arc;

/// Whose key was shown.
pub(crate) struct Caller {
    pub key_id: String,
}

impl Caller {
    /// As it stands on entries.
    pub fn actor(&self) -> String {
        format!("key:{}", self.key_id)
    }
}

/// The guard of every server door. The key is looked up each time, so a revoked one is refused at once on every node.
pub(crate) async fn admit(
    app: &Arc<App>,
    headers: &HeaderMap,
    scope: Scope,
    context: &RequestContext,
) -> Result<Caller, Failure> {
    let text = shown(headers)?.to_owned();
    let looking = app.clone();
    let found = app.store.read(move |tx| service_keys::find(tx, &looking.vault, &text)).await;
    accept(app, found.map_err(Failure::Store)?, scope, context)
}

/// Judges a key that was looked up, together with something else perhaps.
pub(crate) fn accept(
    app: &Arc<App>,
    found: Option<Shown>,
    scope: Scope,
    context: &RequestContext,
) -> Result<Caller, Failure> {
    let key = found.ok_or(Failure::InvalidServiceKey)?;
    if key.is_news(context.now) {
        note_use(app, key.id.clone(), context.now);
    }
    if !key.scopes.allow(scope) {
        return Err(Failure::LacksScope(scope));
    }
    Ok(Caller { key_id: key.id })
}

/// The text of the key that a caller shows; what cannot be one costs no look into the database.
pub(crate) fn shown(headers: &HeaderMap) -> Result<&str, Failure> {
    let text = || {
        let mut given = headers.get_all(AUTHORIZATION).iter();
        // Of two keys another program on the way may have judged the other one.
        let (Some(only), None) = (given.next(), given.next()) else { return None };
        let (scheme, text) = only.to_str().ok()?.split_once(' ')?;
        let text = text.trim();
        (scheme.eq_ignore_ascii_case("bearer") && service_keys::looks_like_one(text)).then_some(text)
    };
    text().ok_or(Failure::InvalidServiceKey)
}

/// Beside the answer: whoever calls neither waits for it nor hears of its failure.
fn note_use(app: &Arc<App>, id: String, now: Millis) {
    let store = app.store.clone();
    tokio::spawn(async move {
        let noted = store.write(move |tx| service_keys::note_use(tx, &id, now)).await;
        if let Err(error) = noted {
            let error: store::Error = error;
            tracing::warn!(%error, "the use of a service key was not noted");
        }
    });
}

/// What the edge found out about a request.
pub(crate) fn context_of(request: &Request) -> RequestContext {
    request.extensions().get().cloned().expect("the edge stands before every door")
}

pub(crate) fn json_response(status: u16, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
