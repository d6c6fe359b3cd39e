//! Bodies of the server doors: JSON and nothing else, of a bounded size and depth.

use super::failure::Failure;
use crate::app::App;
use crate::edge::{self, Refusal};
use axum::body::{Body, Bytes};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use hyper::body::Body as _;
use std::time::Duration;

/// The bytes of a body of at most `limit`; an endpoint whose members are all optional may be called without one.
pub(crate) async fn read(app: &App, headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Failure> {
    // Every one that stands there: of two types each reader would believe another.
    let mut given = headers.get_all(CONTENT_TYPE).iter().peekable();
    let is_untyped = given.peek().is_none();
    if (is_untyped && !body.is_end_stream()) || !given.all(|given| given.to_str().is_ok_and(is_json)) {
        return Err(Failure::UnsupportedMediaType);
    }
    let limits = &app.settings.limits;
    let time = Duration::from_millis(limits.body_read_ms);
    let bytes = edge::body::read(body, limit, time).await.map_err(|refusal| match refusal {
        Refusal::BodyBroken => Failure::invalid("body", "it is incomplete"),
        refusal => Failure::Edge(refusal),
    })?;
    if edge::body::deeper_than(&bytes, limits.json_depth) {
        let message = format!("it is nested deeper than {} levels", limits.json_depth);
        return Err(Failure::invalid("body", message));
    }
    Ok(bytes)
}

/// `application/json`, in UTF-8 like all JSON.
fn is_json(given: &str) -> bool {
    let mut parts = given.split(';').map(str::trim);
    let is_type = parts.next().is_some_and(|base| base.eq_ignore_ascii_case("application/json"));
    is_type
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                let value = value.trim().trim_matches('"');
                value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8")
            }
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::is_json;

    #[test]
    fn only_json_in_utf_8_is_taken() {
        for given in
            ["application/json", "Application/JSON ; charset=\"UTF-8\"", "application/json; charset=utf8"]
        {
            assert!(is_json(given), "{given}");
        }
        for given in [
            "",
            "text/plain",
            "application/jsonx",
            "application/json, text/plain",
            "application/json; charset=utf-7",
        ] {
            assert!(!is_json(given), "{given}");
        }
    }
}
