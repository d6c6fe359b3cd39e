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
