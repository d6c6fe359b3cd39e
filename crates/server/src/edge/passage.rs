//! A request's way in and its answer's way out: one function, so that a session check pays for nothing twice.

use super::connection::RequestBody;
use super::context::X_REQUEST_ID;
use super::headers::Keeping;
use super::{Dialect, Edge, Refusal, RequestContext, RequestId, cors, headers};
use axum::Router;
use axum::body::Body;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use kernel::Stopwatch;
use std::any::Any;
use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tower::Service as _;

pub(crate) async fn pass(
    edge: &Edge,
    router: &Router,
    peer: IpAddr,
    mut request: Request<RequestBody>,
    stopping: impl Fn() -> bool,
) -> Response<Body> {
    let took = Stopwatch::start();
    let context = RequestContext::read(edge, peer, request.headers());
    let path = request.uri().path();
    let route = edge.metrics.route(path);
    let dialect = Dialect::of(path);
    let keeping = Keeping::of(path);
    let method = request.method().clone();
    let browsers = cors::covers(path);
    let reader = if browsers { cors::reader(edge, request.headers()) } else { None };

    let early = if url_length(request.uri()) > edge.limits.url_bytes {
        edge.metrics.refused(Refusal::UrlTooLong);
        Some(Refusal::UrlTooLong.response(dialect))
    } else {
        cors::preflight(&method, reader.as_ref(), request.headers())
    };
    let mut response = match early {
        Some(response) => response,
        None => {
            request.extensions_mut().insert(context.clone());
            match routed(router.clone(), request).await {
                Ok(response) => response,
                Err(panic) => {
                    edge.metrics.panicked();
                    log_panic(edge.metrics.name(route), &context.request_id, panic.as_ref());
                    internal(dialect, &context.request_id)
                }
            }
        }
    };

    let status = response.status();
    let out = response.headers_mut();
    out.reserve(10);
    out.insert(X_REQUEST_ID, context.request_id.header_value());
    headers::harden(out, edge.https, keeping);
    if browsers {
        cors::mark(out, status, reader.as_ref());
    }
    close_after(edge, status, out, stopping());

    let took = took.elapsed();
    edge.metrics.answered(route, &method, status, took);
    log(edge.metrics.name(route), method.as_str(), status, took, &context);
    response
}

/// A body that was refused or never came leaves the connection in the middle of a request. While the process stops,
/// each answer is its connection's last.
fn close_after(edge: &Edge, status: StatusCode, out: &mut HeaderMap, stopping: bool) {
    let refused = match status {
        StatusCode::PAYLOAD_TOO_LARGE => Some(Refusal::BodyTooLarge),
        StatusCode::REQUEST_TIMEOUT => Some(Refusal::BodyTooSlow),
        _ => None,
    };
    if let Some(refusal) = refused {
        edge.metrics.refused(refusal);
    }
    if refused.is_some() || stopping {
        out.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

fn url_length(url: &Uri) -> usize {
    let authority = url.authority().map_or(0, |authority| authority.as_str().len());
    authority + url.path_and_query().map_or(0, |text| text.as_str().len())
}

/// The router's answer, or what its handler panicked with.
async fn routed(
    mut router: Router,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Box<dyn Any + Send>> {
    let mut answer = pin!(async move { router.call(request).await });
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(Ok(response))) => Poll::Ready(Ok(response)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn internal(dialect: Dialect, request_id: &RequestId) -> Response<Body> {
    let code = match dialect {
        Dialect::BetterAuth => "INTERNAL_SERVER_ERROR",
        Dialect::Tollgate => "internal",
    };
    let message = "Something went wrong on our side";
    dialect.error(StatusCode::INTERNAL_SERVER_ERROR, code, message, Some(request_id.as_str()))
}

/// Paths without a route are not logged as text: a mistyped link may hold a token.
fn log(route: &str, method: &str, status: StatusCode, took: Duration, context: &RequestContext) {
    let status = status.as_u16();
    let millis = || took.as_secs_f64() * 1e3;
    if status >= 500 {
        tracing::info!(
            target: "http", method, route, status, ms = millis(),
            request_id = context.request_id.as_str(), client = context.client.bucket(), "failed"
        );
    } else {
        tracing::debug!(
            target: "http", method, route, status, ms = millis(),
            request_id = context.request_id.as_str(), client = context.client.bucket(), "answered"
        );
    }
}

fn log_panic(route: &str, request_id: &RequestId, panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let text: String = text.chars().take(500).collect();
    tracing::error!(target: "http", route, request_id = request_id.as_str(), panic = text, "a handler panicked");
}

/// A refusal as bytes, for a client whose request hyper could not read.
pub(crate) fn raw_refusal(edge: &Edge, refusal: Refusal, dialect: Dialect) -> Vec<u8> {
    let mut response = refusal.response(dialect);
    let body = dialect.error_text(refusal.code(dialect), refusal.message(), None);
    response.headers_mut().insert(X_REQUEST_ID, RequestId::fresh().header_value());
    // The path is unknown, so the answer is treated as one that must not be kept.
    headers::harden(response.headers_mut(), edge.https, Keeping::Forbidden);
    let status = response.status();
    let mut text =
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in response.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("content-length: {}\r\n\r\n{body}", body.len()).as_bytes());
    text
}
