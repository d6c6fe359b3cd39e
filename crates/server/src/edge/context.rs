//! What every handler may know about the request it answers: its id, who calls, and when.

use super::Edge;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use kernel::{ClientAddress, Millis, random};
use std::fmt;
use std::net::IpAddr;

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Stands in the answer's `X-Request-Id`, in the access log, and in the ledger's audit rows.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

/// Put into each request's extensions by the edge; handlers take it as an argument.
#[derive(Debug, Clone)]
pub struct RequestContext {
    pub request_id: RequestId,
    pub client: ClientAddress,
    /// The caller is one of the configured proxies: what it says of the request it asks about counts.
    pub from_proxy: bool,
    /// The clock as it was read for this request.
    pub now: Millis,
}

impl RequestId {
    pub(crate) fn fresh() -> RequestId {
        let text = random::alphanumeric(&mut random::secure(), 20);
        RequestId(HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown")))
    }

    /// An id that a proxy gave, if it can stand in a log and a header without harm.
    fn accept(value: &HeaderValue) -> Option<RequestId> {
        let bytes = value.as_bytes();
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
        ((1..=128).contains(&bytes.len()) && bytes.iter().all(harmless)).then(|| RequestId(value.clone()))
    }

    pub fn as_str(&self) -> &str {
        // Only letters, digits, `_`, `.` and `-` get in.
        self.0.to_str().unwrap_or("unknown")
    }

    pub(crate) fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RequestContext {
    pub(crate) fn read(edge: &Edge, peer: IpAddr, headers: &HeaderMap) -> RequestContext {
        // A line that is no text must end the search like any other part that is no address, so it is not skipped.
        let forwarded = headers.get_all(X_FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or("?"));
        let from_proxy = edge.proxies.contains(peer);
        let given = headers.get(X_REQUEST_ID).filter(|_| from_proxy);
        RequestContext {
            from_proxy,
            request_id: given.and_then(RequestId::accept).unwrap_or_else(RequestId::fresh),
            client: edge.proxies.client(peer, forwarded),
            now: edge.clock.now(),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for RequestContext {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        // Missing only when a router is called without the edge in front.
        parts.extensions.get().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_id_is_taken_only_when_it_can_do_no_harm() {
        let accepted = |text: &str| RequestId::accept(&HeaderValue::from_str(text).unwrap()).is_some();
        assert!(accepted("a-b_c.9"));
        assert!(accepted(&"a".repeat(128)));
        for text in ["", "a b", "a;b", "a\"b", "<a>", &"a".repeat(129)] {
            assert!(!accepted(text), "{text}");
        }
        assert!(RequestId::accept(&HeaderValue::from_bytes(b"\xff").unwrap()).is_none());
    }

    #[test]
    fn fresh_ids_have_twenty_letters_and_digits_and_differ() {
        let (one, other) = (RequestId::fresh(), RequestId::fresh());
        assert_eq!(one.as_str().len(), 20);
        assert!(one.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_ne!(one, other);
    }
}
