//! The headers that every answer carries.

use super::Dialect;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, EXPIRES, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};

const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Who may keep an answer that does not say so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeping {
    /// Pages: what HTTP allows by itself.
    Open,
    /// Nobody.
    Forbidden,
    /// Nobody either, said without `Cache-Control`. `Cache-Control` is a part of Better Auth's contract: it stands on
    /// `/get-session` and nowhere else, and the acceptance runner compares it with the original answer by answer. So
    /// these are stale from the beginning, and shared caches are told apart (RFC 9213).
    ForbiddenQuietly,
}

impl Keeping {
    pub(crate) fn of(path: &str) -> Keeping {
        match Dialect::of(path) {
            Dialect::BetterAuth => Keeping::ForbiddenQuietly,
            Dialect::Tollgate if path.starts_with("/api/") => Keeping::Forbidden,
            Dialect::Tollgate => Keeping::Open,
        }
    }
}

/// For answers that are no pages; a page brings its own.
const API_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Adds what the handler did not set itself. `hsts` on https only: browsers ignore it on plain http, and it must not
/// be promised there.
pub(crate) fn harden(headers: &mut HeaderMap, hsts: bool, keeping: Keeping) {
    let says_itself = headers.contains_key(CACHE_CONTROL);
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
    match keeping {
        Keeping::Forbidden => default(CACHE_CONTROL, "no-store"),
        Keeping::ForbiddenQuietly if !says_itself => {
            default(EXPIRES, "0");
            default(CDN_CACHE_CONTROL, "no-store");
        }
        Keeping::ForbiddenQuietly | Keeping::Open => {}
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
        harden(&mut headers, true, Keeping::Forbidden);
        assert_eq!(headers[CONTENT_SECURITY_POLICY], "default-src 'self'");
        assert_eq!(headers[CACHE_CONTROL], "max-age=60");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[STRICT_TRANSPORT_SECURITY], "max-age=31536000");
        assert_eq!(headers.len(), 7);
    }

    #[test]
    fn the_contracts_door_forbids_keeping_without_cache_control() {
        let kept = |path: &str, own: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.extend(own.map(|own| (CACHE_CONTROL, HeaderValue::from_static(own))));
            harden(&mut headers, false, Keeping::of(path));
            [CACHE_CONTROL, EXPIRES, CDN_CACHE_CONTROL]
                .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(kept("/api/auth/ok", None), [None, some("0"), some("no-store")]);
        assert_eq!(kept("/api/auth/get-session", Some("no-store")), [some("no-store"), None, None]);
        assert_eq!(kept("/api/gate/authorize", None), [some("no-store"), None, None]);
        assert_eq!(kept("/healthz", None), [None, None, None]);
    }

    #[test]
    fn plain_http_promises_no_https_and_pages_may_be_cached() {
        let mut headers = HeaderMap::new();
        harden(&mut headers, false, Keeping::Open);
        assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY));
        assert!(!headers.contains_key(CACHE_CONTROL));
        assert_eq!(headers[CONTENT_SECURITY_POLICY], API_POLICY);
    }
}
