//! Who may use the till: programs and people on this machine, whose browser means it.
//!
//! The API needs the secret key besides, which no page of another origin can send. What changes something by a form needs
//! none, so it must come from the till's own pages or from no browser at all.

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, FORWARDED, HOST, ORIGIN, REFERRER_POLICY, VIA,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use std::net::SocketAddr;

/// A proxy or a tunnel on this machine is a local peer that speaks for strangers.
const FORWARDING: [HeaderName; 6] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-real-ip"),
];
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The answer to a bought session leads back to the app, so forms may go on to any web address.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self' http: https:; \
                           base-uri 'none'; frame-ancestors 'none'";

pub(crate) async fn admit(request: Request, next: Next) -> Response<Body> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    let mut response = match refusal(peer, request.method(), request.headers(), request.uri()) {
        Some(message) => {
            let mut response = Response::new(Body::from(format!("{message}\n")));
            *response.status_mut() = StatusCode::FORBIDDEN;
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            response
        }
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert_with(|| HeaderValue::from_static(value));
    };
    default(CONTENT_SECURITY_POLICY, PAGE_POLICY);
    default(CACHE_CONTROL, "no-store");
    default(X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(X_FRAME_OPTIONS, "DENY");
    default(REFERRER_POLICY, "same-origin");
    response
}

fn refusal(
    peer: Option<SocketAddr>,
    method: &Method,
    headers: &HeaderMap,
    uri: &Uri,
) -> Option<&'static str> {
    if FORWARDING.iter().any(|name| headers.contains_key(name)) {
        return Some(
            "The till does not answer through a proxy or a tunnel. Open it on the machine it runs on.",
        );
    }
    // Mounted on somebody else's listener it must be told who calls.
    if !peer.is_some_and(|peer| peer.ip().is_loopback()) {
        return Some("The till answers this machine only.");
    }
    let Some(host) = only(headers, &HOST).filter(|host| is_local(host)) else {
        return Some("The till answers to localhost and 127.0.0.1 only.");
    };
    if uri.authority().is_some_and(|authority| !is_local(authority.as_str())) {
        return Some("The till answers to localhost and 127.0.0.1 only.");
    }
    if *method != Method::GET && *method != Method::HEAD {
        let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
        let own_origin = format!("http://{host}");
        let from_elsewhere =
            headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes() != own_origin.as_bytes());
        if from_elsewhere || !matches!(site, None | Some(b"same-origin" | b"none")) {
            return Some(
                "The till does not take forms from pages of another origin. Use the till's own pages.",
            );
        }
    }
    None
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => line.to_str().ok(),
        _ => None,
    }
}

fn is_local(authority: &str) -> bool {
    let port_is_fine = |text: &str| {
        text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
    };
    let lower = authority.to_ascii_lowercase();
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| lower.strip_prefix(name).is_some_and(port_is_fine))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(peer: &str, method: Method, lines: &[(&str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        refusal(Some(peer.parse().expect("an address")), &method, &headers, &Uri::from_static("/")).is_none()
    }

    #[test]
    fn only_this_machine_under_its_own_name_is_admitted() {
        let host = ("host", "localhost:12111");
        assert!(judged("127.0.0.1:5", Method::GET, &[host]));
        assert!(judged("[::1]:5", Method::GET, &[("host", "[::1]:12111")]));
        assert!(!judged("192.0.2.1:5", Method::GET, &[host]));
        assert!(!judged("127.0.0.1:5", Method::GET, &[]));
        assert!(!judged("127.0.0.1:5", Method::GET, &[host, host]));
        assert!(!judged("127.0.0.1:5", Method::GET, &[host, ("x-forwarded-for", "127.0.0.1")]));
        for name in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:x",
            "user@localhost",
        ] {
            assert!(!judged("127.0.0.1:5", Method::GET, &[("host", name)]), "{name}");
        }
        assert!(refusal(None, &Method::GET, &HeaderMap::new(), &Uri::from_static("/")).is_some());
    }

    #[test]
    fn forms_of_other_origins_are_refused() {
        let host = ("host", "localhost:12111");
        let own = ("origin", "http://localhost:12111");
        assert!(judged("127.0.0.1:5", Method::POST, &[host]));
        assert!(judged("127.0.0.1:5", Method::POST, &[host, own, ("sec-fetch-site", "same-origin")]));
        assert!(!judged("127.0.0.1:5", Method::POST, &[host, ("origin", "http://localhost:3000")]));
        assert!(!judged("127.0.0.1:5", Method::POST, &[host, ("origin", "null")]));
        assert!(!judged("127.0.0.1:5", Method::POST, &[host, ("sec-fetch-site", "cross-site")]));
        assert!(!judged("127.0.0.1:5", Method::DELETE, &[host, own, ("sec-fetch-site", "same-site")]));
    }
}
