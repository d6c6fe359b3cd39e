//! The headers that every answer carries.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// For answers that are no pages; a page brings its own.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Adds what the handler did not set itself. `hsts` on https only: browsers ignore it on plain http, and it must not
/// be promised there.
pub(crate) fn harden(headers: &mut HeaderMap, hsts: bool, api: bool) {
    let mut default = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert_with(|| HeaderValue::from_static(value));
    };
    default(X_CONTENT_TYPE_OPTIONS, "nosniff");
    default(REFERRER_POLICY, "no-referrer");
    default(X_FRAME_OPTIONS, "DENY");
    default(CROSS_ORIGIN_OPENER_POLICY, "same-origin");
    default(CONTENT_SECURITY_POLICY, API_POLICY);
    if hsts {
        default(STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    if api {
        default(CACHE_CONTROL, "no-store");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_set_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        harden(&mut headers, true, true);
        assert_eq!(headers[CONTENT_SECURITY_POLICY], "default-src 'self'");
        assert_eq!(headers[CACHE_CONTROL], "max-age=60");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=31536000");
        assert_eq!(headers.len(), 7);
    }

    #[test]
    fn plain_http_promises_no_https_and_pages_may_be_cached() {
        let mut headers = HeaderMap::new();
        harden(&mut headers, false, false);
        assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY));
        assert!(!headers.contains_key(CACHE_CONTROL));
        assert_eq!(headers[CONTENT_SECURITY_POLICY], API_POLICY);
    }
}
