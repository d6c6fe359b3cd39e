//! Forms as browsers send them.

use super::Pages;
use super::problem;
use crate::edge::{self, Refusal};
use axum::body::Body;
use axum::extract::Request;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Response, StatusCode};
use std::collections::HashMap;
use std::time::Duration;

/// More than any form of ours.
const LARGEST: usize = 16 << 10;

pub struct Form(HashMap<String, String>);

impl Form {
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The field of that name, if something stands in it.
    pub fn some(&self, name: &str) -> Option<&str> {
        Some(self.text(name).trim()).filter(|text| !text.is_empty())
    }
}

/// The first field of a name counts.
fn fields(bytes: &[u8]) -> HashMap<String, String> {
    let mut fields = HashMap::new();
    for (name, value) in url::form_urlencoded::parse(bytes) {
        fields.entry(name.into_owned()).or_insert_with(|| value.into_owned());
    }
    fields
}

pub fn of_query(parts: &Parts) -> Form {
    Form(fields(parts.uri.query().unwrap_or_default().as_bytes()))
}

pub async fn read(pages: &Pages, request: Request) -> Result<(Parts, Form), Box<Response<Body>>> {
    let (parts, body) = request.into_parts();
    let refuse = |status, message| Err(Box::new(problem::page(pages, status, message)));
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let message = "This address takes the forms of these pages only. Programs ask /api/auth.";
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    let time = Duration::from_millis(pages.app.settings.limits.body_read_ms);
    match edge::body::read(body, LARGEST, time).await {
        Ok(bytes) => Ok((parts, Form(fields(&bytes)))),
        Err(Refusal::BodyTooLarge) => {
            refuse(StatusCode::PAYLOAD_TOO_LARGE, "That is more than this form takes. Write less.")
        }
        Err(_) => refuse(StatusCode::BAD_REQUEST, "The form did not arrive whole. Send it again."),
    }
}
