//! Requests that come from somewhere else: the origin check, and sign-ins that another site starts.

use super::error::{Code, Failure};
use http::HeaderMap;
use http::header::{COOKIE, ORIGIN, REFERER};
use kernel::TrustedOrigins;

/// Whether a request carries anything that a browser adds by itself.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// Every change that comes with a cookie, of whatever name, must come from a trusted origin.
pub fn check(headers: &HeaderMap, trusted: &TrustedOrigins) -> Result<(), Failure> {
    if headers.contains_key(COOKIE) { require_trusted(headers, trusted) } else { Ok(()) }
}

fn require_trusted(headers: &HeaderMap, trusted: &TrustedOrigins) -> Result<(), Failure> {
    let origin = text(headers, ORIGIN.as_str()).filter(|origin| !origin.is_empty());
    let claimed = match origin {
        // A sandboxed page of our own: the browser says so itself.
        Some("null") if text(headers, "sec-fetch-site") == Some("same-origin") => return Ok(()),
        Some(origin) => origin,
        None => text(headers, REFERER.as_str()).unwrap_or(""),
    };
    match claimed {
        "" | "null" => Err(Code::MissingOrNullOrigin.into()),
        claimed if trusted.trusts(claimed) => Ok(()),
        _ => Err(Code::InvalidOrigin.into()),
    }
}

/// A sign-in without any cookie yet: what the browser tells about its cause decides. Programs tell nothing and pass.
pub fn check_first_sign_in(headers: &HeaderMap, trusted: &TrustedOrigins) -> Result<(), Failure> {
    if headers.contains_key(COOKIE) {
        return Ok(());
    }
    let metadata = ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"].map(|name| text(headers, name));
    if metadata[0] == Some("cross-site") && metadata[1] == Some("navigate") {
        return Err(Code::CrossSiteLogin.into());
    }
    let from_a_page = headers.contains_key(ORIGIN) || headers.contains_key(REFERER);
    if metadata.iter().any(Option::is_some) || from_a_page {
        require_trusted(headers, trusted)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn trusted() -> TrustedOrigins {
        TrustedOrigins::new("https://auth.example", &["https://app.example".into()]).unwrap()
    }

    fn code(outcome: Result<(), Failure>) -> Option<Code> {
        match outcome {
            Err(Failure::Code(code)) => Some(code),
            _ => None,
        }
    }

    #[test]
    fn only_requests_with_a_cookie_must_name_a_page() {
        let check = |pairs: &[_]| code(check(&headers(pairs), &trusted()));
        assert_eq!(check(&[("origin", "https://evil.example")]), None);
        assert_eq!(check(&[("cookie", "a=1")]), Some(Code::MissingOrNullOrigin));
        assert_eq!(check(&[("cookie", "a=1"), ("origin", "https://app.example")]), None);
        assert_eq!(
            check(&[("cookie", "a=1"), ("origin", "https://evil.example")]),
            Some(Code::InvalidOrigin)
        );
        assert_eq!(check(&[("cookie", "a=1"), ("origin", ""), ("referer", "https://app.example/x")]), None);
        let hidden = [("cookie", "a=1"), ("origin", "null"), ("referer", "https://app.example/x")];
        assert_eq!(check(&hidden), Some(Code::MissingOrNullOrigin));
        assert_eq!(check(&[("cookie", "a=1"), ("origin", "null"), ("sec-fetch-site", "same-origin")]), None);
    }

    #[test]
    fn a_first_sign_in_is_judged_by_what_the_browser_tells() {
        let check = |pairs: &[_]| code(check_first_sign_in(&headers(pairs), &trusted()));
        assert_eq!(check(&[]), None, "a program");
        let navigation = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(check(&navigation), Some(Code::CrossSiteLogin));
        assert_eq!(check(&[("sec-fetch-mode", "cors")]), Some(Code::MissingOrNullOrigin));
        assert_eq!(check(&[("sec-fetch-mode", "cors"), ("origin", "https://app.example")]), None);
        assert_eq!(check(&[("referer", "https://evil.example/")]), Some(Code::InvalidOrigin));
        assert_eq!(
            check(&[("cookie", "a=1"), ("sec-fetch-mode", "cors")]),
            None,
            "the other check's business"
        );
    }
}
