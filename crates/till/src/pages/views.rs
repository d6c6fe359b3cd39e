//! The templates of the pages: embedded, strict about missing values, and escaping everything they are given.

use crate::refusal::Refusal;
use axum::body::Body;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde_json::{Value, json};

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../../pages/", $name)))),*] };
}

const TEMPLATES: &[(&str, &str)] =
    embedded!["layout.html", "checkout.html", "control.html", "paper.html", "portal.html", "problem.html"];

pub(super) struct Views(Environment<'static>);

impl Views {
    pub(super) fn new() -> Views {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        for (name, source) in TEMPLATES {
            environment.add_template(name, source).expect("the embedded templates parse, as a test proves");
        }
        Views(environment)
    }

    pub(super) fn page(&self, status: StatusCode, name: &str, values: &Value) -> Response<Body> {
        let rendered = self.0.get_template(name).and_then(|template| template.render(Serde(values)));
        let (status, text) = match rendered {
            Ok(text) => (status, text),
            Err(error) => {
                tracing::error!(template = name, %error, "a page of the till cannot be rendered");
                let message = "This page cannot be shown; the log says why.".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, message)
            }
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response
    }

    pub(super) fn problem(&self, refusal: &Refusal, back: &str) -> Response<Body> {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
        self.page(status, "problem.html", &json!({ "message": refusal.message, "back": back }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        assert_eq!(Views::new().0.templates().count(), TEMPLATES.len());
    }
}
