//! What the pages load: one style sheet, two modules and the mark.

use super::Pages;
use super::problem::Problem;
use axum::body::Body;
use axum::extract::{Path, State};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use std::sync::Arc;

const CSS: &str = "text/css; charset=utf-8";
const MODULE: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! embedded {
    ($($name:literal: $kind:expr),* $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("../../../../web/assets/", $name)))),*]
    };
}

const FILES: &[(&str, &str, &str)] =
    embedded!["tollgate.css": CSS, "dev-start.js": MODULE, "dev-inbox.js": MODULE, "mark.svg": SVG];

pub async fn file(
    State(pages): State<Arc<Pages>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response<Body> {
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return Problem::not_found("There is no such file").answer(&pages.views, &headers);
    };
    let mut response = Response::new(Body::from(*text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
