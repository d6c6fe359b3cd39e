//! The API over HTTP: who calls, with which version and key, and the form of the answer.

use crate::api::Asked;
use crate::desk::Desk;
use crate::events::RequestMark;
use crate::faults::Fault;
use crate::form::Form;
use crate::idempotency::{Begun, LONGEST_KEY, Reply};
use crate::refusal::Refusal;
use crate::serve::BreakConnection;
use crate::{guard, pages};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::any;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use kernel::secret::same_secret;
use serde_json::Value;
use std::sync::Arc;

const LARGEST_BODY: usize = 256 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const ORIGINAL_REQUEST: HeaderName = HeaderName::from_static("original-request");
const STRIPE_VERSION: HeaderName = HeaderName::from_static("stripe-version");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

pub(crate) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/{*path}", any(call))
        .with_state(Arc::clone(&desk))
        .merge(pages::router(desk))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(axum::middleware::from_fn(guard::admit))
}

async fn call(
    State(desk): State<Arc<Desk>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let request_id = desk.with(|books| books.ids.next("req"));
    let fault = desk.faults().take(uri.path());
    match fault {
        Some(Fault::Silent) => std::future::pending::<()>().await,
        Some(Fault::Broken) => return broken(),
        Some(Fault::Status(status)) => {
            return answer(refused(&Refusal::failing(status), &request_id), &headers);
        }
        Some(Fault::TooMany) => return answer(refused(&Refusal::too_many(), &request_id), &headers),
        _ => {}
    }
    if let Some(refusal) = refuse_caller(&desk, &headers) {
        return answer(refused(&refusal, &request_id), &headers);
    }
    let mut response = match do_once(&desk, &method, &uri, &headers, &body, &request_id, fault).await {
        Ok((reply, original)) => replied(reply, original, &request_id, &headers),
        Err(refusal) => answer(refused(&refusal, &request_id), &headers),
    };
    match fault {
        Some(Fault::SilentAfterWork) => std::future::pending::<()>().await,
        Some(Fault::BrokenAfterWork) => return broken(),
        Some(Fault::WrongJson) => *response.body_mut() = Body::from("<html>502 Bad Gateway</html>"),
        _ => {}
    }
    response
}

/// Keeps a key free when the caller goes away while its request is slow on purpose.
struct InProgress<'a> {
    desk: &'a Desk,
    key: Option<String>,
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.desk.keys().forget(&key);
        }
    }
}

/// The answer, and whether it is that of an earlier request.
async fn do_once(
    desk: &Desk,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    request_id: &str,
    fault: Option<Fault>,
) -> Result<(Reply, bool), Refusal> {
    let mut form = Form::parse(uri.query().unwrap_or_default().as_bytes())?;
    form.extend(Form::parse(body)?);
    let version = text_of(headers, &STRIPE_VERSION);
    let key = text_of(headers, &IDEMPOTENCY_KEY).filter(|_| method == Method::POST);
    if key.is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY) {
        return Err(Refusal::invalid(
            "Idempotency-Key",
            "Idempotency keys have between 1 and 255 characters.",
        ));
    }
    let mut in_progress = InProgress { desk, key: None };
    if let Some(key) = key {
        let request = format!("{method} {} {}", uri.path(), form.canonical());
        match desk.keys().begin(key, request, desk.now())? {
            Begun::Replay(reply) => return Ok((reply, true)),
            Begun::New => in_progress.key = Some(key.to_owned()),
        }
    }
    if let Some(Fault::Slow(time)) = fault {
        tokio::time::sleep(time).await;
    }
    let mark = RequestMark { id: request_id.to_owned(), idempotency_key: key.map(str::to_owned) };
    let outcome = if fault == Some(Fault::KeptFailure) {
        let mut refusal = Refusal::failing(500);
        refusal.begun = true;
        Err(refusal)
    } else {
        let asked = Asked { method: method.as_str(), path: uri.path(), form, version, mark };
        desk.with(|books| books.do_call(asked))
    };
    let reply = match outcome {
        Ok(value) => Reply { status: 200, body: pretty(&value), request_id: request_id.to_owned() },
        Err(refusal) if !refusal.begun => return Err(refusal),
        Err(refusal) => refused(&refusal, request_id),
    };
    if let Some(key) = in_progress.key.take() {
        desk.keys().finish(&key, reply.clone());
    }
    Ok((reply, false))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value can be written")
}

fn refused(refusal: &Refusal, request_id: &str) -> Reply {
    Reply { status: refusal.status, body: pretty(&refusal.body()), request_id: request_id.to_owned() }
}

fn replied(reply: Reply, replayed: bool, request_id: &str, headers: &HeaderMap) -> Response<Body> {
    let original = reply.request_id.clone();
    let mut response = answer(Reply { request_id: request_id.to_owned(), ..reply }, headers);
    if text_of(headers, &IDEMPOTENCY_KEY).is_some()
        && let Ok(value) = HeaderValue::from_str(&original)
    {
        response.headers_mut().insert(ORIGINAL_REQUEST, value);
    }
    if replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn answer(reply: Reply, asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    if let Ok(id) = HeaderValue::from_str(&reply.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    for name in [STRIPE_VERSION, IDEMPOTENCY_KEY] {
        if let Some(value) = asked.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    response
}

fn broken() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(BreakConnection);
    response
}

/// `Bearer sk_test_…`, or the key as the name in Basic with an empty password.
fn refuse_caller(desk: &Desk, headers: &HeaderMap) -> Option<Refusal> {
    let given = text_of(headers, &AUTHORIZATION).unwrap_or_default();
    let key = match given.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Some(key.trim().to_owned()),
        Some((scheme, pair)) if scheme.eq_ignore_ascii_case("basic") => STANDARD
            .decode(pair.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .map(|pair| pair.split_once(':').map_or(pair.clone(), |(name, _)| name.to_owned())),
        _ => None,
    };
    match key {
        None => Some(Refusal::unauthorized(
            "You did not provide an API key. Provide it in the Authorization header, as in 'Authorization: Bearer \
             YOUR_SECRET_KEY'.",
        )),
        Some(key) if same_secret(key.as_bytes(), desk.secret_key.expose().as_bytes()) => None,
        Some(_) => Some(Refusal::unauthorized("Invalid API Key provided: it is not this till's.")),
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
