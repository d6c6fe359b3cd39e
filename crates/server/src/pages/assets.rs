//! What the pages load: one style sheet and the mark.

use super::Pages;
use super::problem;
use axum::body::Body;
use axum::extract::{Path, State};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use std::sync::Arc;

const FILES: &[(&str, &str, &str)] = &[
    ("tollgate.css", "text/css; charset=utf-8", include_str!("../../../../web/assets/tollgate.css")),
    ("mark.svg", "image/svg+xml", include_str!("../../../../web/assets/mark.svg")),
];

/// The pages name the version with each file, so that a new one is fetched.
pub async fn file(State(pages): State<Arc<Pages>>, Path(name): Path<String>) -> Response<Body> {
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return problem::page(&pages, StatusCode::NOT_FOUND, "There is no such file.");
    };
    let mut response = Response::new(Body::from(*text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=86400"));
    response
}
