//! The key under which an effect happens once: how it comes, and how an answer tells that it was given before.

use super::failure::Failure;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// As `field` in answers.
const IDEMPOTENCY_FIELD: &str = "Idempotency-Key";
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const KEY_CHARS: usize = 255;

/// Whether an effect must happen under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Required,
    Optional,
    /// It sets something, so doing it again changes nothing.
    None,
}

/// The key in the header.
pub(crate) fn header_key(headers: &HeaderMap, key: Key) -> Result<Option<String>, Failure> {
    if key == Key::None {
        return Ok(None);
    }
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (given.next(), given.next()) {
        (None, _) if key == Key::Required => Err(Failure::missing(IDEMPOTENCY_FIELD)),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Failure::invalid(IDEMPOTENCY_FIELD, "it stands twice")),
        (Some(given), None) => {
            let text = given.to_str().unwrap_or("");
            check_key(text).map_err(|message| Failure::invalid(IDEMPOTENCY_FIELD, message))?;
            Ok(Some(text.to_owned()))
        }
    }
}

pub(crate) fn check_key(text: &str) -> Result<(), &'static str> {
    let visible = (1..=KEY_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if visible { Ok(()) } else { Err("it must be 1 to 255 visible ASCII characters") }
}

/// This is the first answer to its key again.
pub(crate) fn mark_replay(response: &mut Response) {
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
}
