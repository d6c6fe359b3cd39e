//! The way from a page to the Better Auth door: a request in this process, with what the browser sent along.

use super::Pages;
use crate::edge::RequestContext;
use axum::body::{Body, to_bytes};
use http::header::{CONTENT_TYPE, COOKIE, HeaderName, LOCATION, ORIGIN, REFERER, SET_COOKIE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use serde_json::Value;
use tower::ServiceExt as _;

/// What the door judges a browser by. A page takes no bearer token: those are for apps.
const PASSED_ON: [HeaderName; 7] = [
    COOKIE,
    ORIGIN,
    REFERER,
    USER_AGENT,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("sec-fetch-mode"),
    HeaderName::from_static("sec-fetch-dest"),
];
const LARGEST_ANSWER: usize = 1 << 20;

/// One browser's request to a page, as the door sees it.
pub struct Visit<'a> {
    pages: &'a Pages,
    headers: HeaderMap,
    context: Option<RequestContext>,
    /// What the door wants the browser to keep.
    cookies: Vec<HeaderValue>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Value,
    /// Where the door sends the browser.
    pub location: Option<String>,
}

impl Answer {
    pub fn is_good(&self) -> bool {
        self.status.is_success()
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl<'a> Visit<'a> {
    pub fn of(pages: &'a Pages, parts: &Parts) -> Visit<'a> {
        let mut headers = HeaderMap::new();
        for name in PASSED_ON {
            for value in parts.headers.get_all(&name) {
                headers.append(&name, value.clone());
            }
        }
        let context = parts.extensions.get::<RequestContext>().cloned();
        Visit { pages, headers, context, cookies: Vec::new() }
    }

    pub fn pages(&self) -> &'a Pages {
        self.pages
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, Body::empty()).await
    }

    pub async fn post(&mut self, path: &str, body: &Value) -> Answer {
        self.ask(Method::POST, path, Body::from(body.to_string())).await
    }

    async fn ask(&mut self, method: Method, path: &str, body: Body) -> Answer {
        let failed =
            || Answer { status: StatusCode::INTERNAL_SERVER_ERROR, body: Value::Null, location: None };
        let mut request = Request::new(body);
        let Ok(uri) = format!("/api/auth{path}").parse() else { return failed() };
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        if method == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        *request.method_mut() = method;
        // The edge stands before the pages as before the door.
        if let Some(context) = self.context.clone() {
            request.extensions_mut().insert(context);
        }
        let response = match self.pages.door.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (head, body) = response.into_parts();
        let location = head.headers.get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        self.cookies.extend(head.headers.get_all(SET_COOKIE).iter().cloned());
        match to_bytes(body, LARGEST_ANSWER).await {
            // An answer without a body is as good as null.
            Ok(bytes) => Answer {
                status: head.status,
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
                location,
            },
            Err(error) => {
                tracing::error!(path, %error, "an answer of the door's own could not be read");
                failed()
            }
        }
    }

    /// Gives the browser what the door gave.
    pub fn answer(self, mut response: Response<Body>) -> Response<Body> {
        for cookie in self.cookies {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        response
    }
}
