//! What the edge says to requests that never reach a door, or that a door could not read.

use super::Dialect;
use axum::body::Body;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

/// Why a request was refused before its handler could judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The head is not HTTP.
    Malformed,
    HeadersTooLarge,
    /// The head did not arrive in time.
    HeadersTooSlow,
    UrlTooLong,
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The body ended early or its framing is wrong.
    BodyBroken,
    /// As many connections are open as the process may hold.
    TooManyConnections,
}

impl Refusal {
    pub(crate) const ALL: [Refusal; 8] = [
        Refusal::Malformed,
        Refusal::HeadersTooLarge,
        Refusal::HeadersTooSlow,
        Refusal::UrlTooLong,
        Refusal::BodyTooLarge,
        Refusal::BodyTooSlow,
        Refusal::BodyBroken,
        Refusal::TooManyConnections,
    ];

    pub fn status(self) -> StatusCode {
        self.parts().0
    }

    fn error_code(self) -> &'static str {
        self.parts().1
    }

    fn better_auth_code(self) -> &'static str {
        self.parts().2
    }

    pub fn code(self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::BetterAuth => self.better_auth_code(),
            Dialect::Tollgate => self.error_code(),
        }
    }

    pub fn message(self) -> &'static str {
        self.parts().3
    }

    /// Everything there is to say about a reason: status, Tollgate's code, Better Auth's code, message.
    fn parts(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Refusal::Malformed => {
                (StatusCode::BAD_REQUEST, "bad_request", "BAD_REQUEST", "This is not an HTTP request")
            }
            Refusal::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "REQUEST_HEADER_FIELDS_TOO_LARGE",
                "The request has too many or too long headers",
            ),
            Refusal::HeadersTooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "REQUEST_TIMEOUT",
                "The request's headers did not arrive in time",
            ),
            Refusal::UrlTooLong => {
                (StatusCode::URI_TOO_LONG, "url_too_long", "URI_TOO_LONG", "The URL is too long")
            }
            Refusal::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "PAYLOAD_TOO_LARGE",
                "The request's body is too large",
            ),
            Refusal::BodyTooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "REQUEST_TIMEOUT",
                "The request's body did not arrive in time",
            ),
            Refusal::BodyBroken => {
                (StatusCode::BAD_REQUEST, "bad_request", "BAD_REQUEST", "The request's body is incomplete")
            }
            Refusal::TooManyConnections => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "SERVICE_UNAVAILABLE",
                "Too many connections are open, try again soon",
            ),
        }
    }

    /// The name in `/metrics`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::HeadersTooLarge => "headers_too_large",
            Refusal::HeadersTooSlow => "headers_too_slow",
            Refusal::UrlTooLong => "url_too_long",
            Refusal::BodyTooLarge => "body_too_large",
            Refusal::BodyTooSlow => "body_too_slow",
            Refusal::BodyBroken => "body_broken",
            Refusal::TooManyConnections => "too_many_connections",
        }
    }

    /// The whole answer; the connection ends with it, since what follows on it cannot be told apart from the rest of
    /// the refused request.
    pub fn response(self, dialect: Dialect) -> Response<Body> {
        let mut response = dialect.error(self.status(), self.code(dialect), self.message(), None);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl Dialect {
    /// An error body of this dialect; `detail` has no place in Better Auth's.
    pub(crate) fn error(
        self,
        status: StatusCode,
        code: &str,
        message: &str,
        detail: Option<&str>,
    ) -> Response<Body> {
        let mut response = Response::new(Body::from(self.error_text(code, message, detail)));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
    pub(crate) fn error_text(self, code: &str, message: &str, detail: Option<&str>) -> String {
        let body = match self {
            Dialect::BetterAuth => serde_json::json!({ "message": message, "code": code }),
            Dialect::Tollgate => {
                serde_json::json!({ "error_code": code, "message": message, "detail": detail })
            }
        };
        body.to_string()
    }
}
