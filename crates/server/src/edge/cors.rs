//! Which other origins may read the answers of the doors that browsers use.

use super::Edge;
use axum::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

/// What a script may send when it does not say.
const USUAL_HEADERS: &str =
    "content-type, authorization, x-requested-with, idempotency-key, x-captcha-response";
/// A browser's list is short; a longer one is not echoed to the end.
const REQUESTED_HEADERS: usize = 32;
/// What a script at another origin may read of a refusal besides what the handler names. A success shows what the
/// original shows, which programs compare.
const EXPOSED: [&str; 3] = ["x-request-id", "retry-after", "x-retry-after"];

/// The origin of a request that may read the answer.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    origin: HeaderValue,
    /// Our own pages: for them nothing needs exposing.
    own: bool,
}

/// The doors that scripts in a browser call.
pub(crate) fn covers(path: &str) -> bool {
    let below =
        |door: &str| path.strip_prefix(door).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    below("/api/auth") || below("/api/guest")
}

pub(crate) fn reader(edge: &Edge, headers: &HeaderMap) -> Option<Reader> {
    let origin = headers.get(ORIGIN)?;
    let own = origin.as_bytes() == edge.base_origin.as_bytes();
    let allowed = own || origin.to_str().is_ok_and(|text| edge.origins.allows_reading(text));
    allowed.then(|| Reader { origin: origin.clone(), own })
}

/// The answer to a preflight by a trusted origin; everything else is for the door to answer.
pub(crate) fn preflight(
    method: &Method,
    reader: Option<&Reader>,
    headers: &HeaderMap,
) -> Option<Response<Body>> {
    if method != Method::OPTIONS || reader.is_none() || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let out = response.headers_mut();
    out.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    out.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(headers));
    out.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    out.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    Some(response)
}

/// The requested names that look like header names, or the usual ones.
fn allowed_headers(headers: &HeaderMap) -> HeaderValue {
    let lines = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS);
    let names = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let names: Vec<String> = names
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| is_token(name))
        .take(REQUESTED_HEADERS)
        .collect();
    let list = if names.is_empty() { USUAL_HEADERS.to_string() } else { names.join(", ") };
    HeaderValue::try_from(list).unwrap_or_else(|_| HeaderValue::from_static(USUAL_HEADERS))
}

/// A field name as RFC 9110 writes it, of a length that somebody uses.
fn is_token(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// Marks an answer of a covered door. `Vary` stands on every one, or a cache could give one origin's answer to another.
pub(crate) fn mark(headers: &mut HeaderMap, status: StatusCode, reader: Option<&Reader>) {
    let varies = headers.get_all(VARY).iter().any(|line| {
        line.to_str().is_ok_and(|text| names(text).any(|name| name.eq_ignore_ascii_case("origin")))
    });
    if !varies {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    let Some(reader) = reader else { return };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, reader.origin.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    if !reader.own && (status.is_client_error() || status.is_server_error()) {
        expose(headers);
    }
}

fn expose(headers: &mut HeaderMap) {
    let theirs = headers.get_all(ACCESS_CONTROL_EXPOSE_HEADERS).iter().filter_map(|line| line.to_str().ok());
    let mut list = theirs.collect::<Vec<_>>().join(", ");
    for name in EXPOSED {
        if !names(&list).any(|known| known.eq_ignore_ascii_case(name)) {
            list.push_str(if list.is_empty() { "" } else { ", " });
            list.push_str(name);
        }
    }
    if let Ok(value) = HeaderValue::try_from(list) {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, value);
    }
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(own: bool) -> Reader {
        Reader { origin: HeaderValue::from_static("https://app.example"), own }
    }

    #[test]
    fn only_the_doors_of_browsers_are_covered() {
        for path in ["/api/auth", "/api/auth/get-session", "/api/guest"] {
            assert!(covers(path), "{path}");
        }
        for path in ["/api/authority", "//api/auth/x", "/api/gate/authorize", "/", "/api/guests"] {
            assert!(!covers(path), "{path}");
        }
    }

    #[test]
    fn a_handlers_exposed_headers_come_first_and_stay_alone_for_our_own_pages_and_for_successes() {
        let answer = || {
            let mut headers = HeaderMap::new();
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("set-auth-token"));
            headers
        };
        let exposed_of = |status: StatusCode, reader: Option<Reader>| {
            let mut headers = answer();
            mark(&mut headers, status, reader.as_ref());
            headers[ACCESS_CONTROL_EXPOSE_HEADERS].clone()
        };
        let exposed = |reader| exposed_of(StatusCode::TOO_MANY_REQUESTS, reader);
        assert_eq!(exposed_of(StatusCode::OK, Some(reader(false))), "set-auth-token");
        assert_eq!(exposed(None), "set-auth-token");
        assert_eq!(exposed(Some(reader(true))), "set-auth-token");
        assert_eq!(exposed(Some(reader(false))), "set-auth-token, x-request-id, retry-after, x-retry-after");
    }

    #[test]
    fn without_a_trusted_origin_an_answer_only_varies() {
        let mut headers = HeaderMap::new();
        mark(&mut headers, StatusCode::OK, None);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[VARY], "Origin");
        headers.insert(VARY, HeaderValue::from_static("accept, ORIGIN"));
        mark(&mut headers, StatusCode::OK, None);
        assert_eq!(headers.get_all(VARY).iter().count(), 1);
    }

    #[test]
    fn a_preflight_echoes_only_what_looks_like_header_names() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        let allowed = |headers: &HeaderMap| {
            let answer = preflight(&Method::OPTIONS, Some(&reader(false)), headers).unwrap();
            answer.headers()[ACCESS_CONTROL_ALLOW_HEADERS].clone()
        };
        assert_eq!(allowed(&headers), USUAL_HEADERS);
        headers.insert(
            ACCESS_CONTROL_REQUEST_HEADERS,
            HeaderValue::from_static("Content-Type, x-mine, a b, <x>"),
        );
        assert_eq!(allowed(&headers), "content-type, x-mine");
        assert!(preflight(&Method::OPTIONS, None, &headers).is_none());
        assert!(preflight(&Method::GET, Some(&reader(false)), &headers).is_none());
        headers.remove(ACCESS_CONTROL_REQUEST_METHOD);
        assert!(preflight(&Method::OPTIONS, Some(&reader(false)), &headers).is_none());
    }
}
