//! What went wrong, as a page for people and as JSON for programs.

use super::views::Views;
use crate::edge::{Dialect, RequestContext};
use axum::body::Body;
use http::header::ACCEPT;
use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
    request_id: Option<String>,
}

#[derive(Serialize)]
struct View<'a> {
    heading: &'a str,
    message: &'a str,
    request_id: Option<&'a str>,
}

impl Problem {
    const fn new(status: StatusCode, code: &'static str, message: &'static str) -> Problem {
        Problem { status, code, message, request_id: None }
    }

    pub fn forbidden(message: &'static str) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub fn not_found(message: &'static str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub fn invalid(message: &'static str) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", message)
    }

    pub fn of_store(error: &store::Error, context: &RequestContext) -> Problem {
        let mut problem = if error.is_unavailable() {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The database does not answer")
        } else {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side")
        };
        tracing::error!(%error, request_id = context.request_id.as_str(), "a page of dev failed");
        problem.request_id = Some(context.request_id.to_string());
        problem
    }

    pub fn answer(&self, views: &Views, headers: &HeaderMap) -> Response<Body> {
        if wants_json(headers) {
            return self.json();
        }
        let heading = self.status.canonical_reason().unwrap_or("Error");
        let view = View { heading, message: self.message, request_id: self.request_id.as_deref() };
        let mut response = views.page("problem.html", &view);
        *response.status_mut() = self.status;
        response
    }

    pub fn json(&self) -> Response<Body> {
        Dialect::Tollgate.error(self.status, self.code, self.message, self.request_id.as_deref())
    }
}

/// Programs say so; a browser asks for HTML, and whoever says nothing is shown the page.
pub fn wants_json(headers: &HeaderMap) -> bool {
    let mut kinds =
        headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    kinds.find_map(|kind| match kind.split(';').next().unwrap_or("").trim() {
        "application/json" => Some(true),
        "text/html" => Some(false),
        _ => None,
    }) == Some(true)
}
