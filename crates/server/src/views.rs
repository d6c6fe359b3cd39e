//! The templates of pages: embedded, strict about missing values, and escaping everything they are given.

use axum::body::Body;
use http::header::{CONTENT_TYPE, VARY};
use http::{HeaderValue, Response, StatusCode};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

pub(crate) struct Views(Environment<'static>);

impl Views {
    /// Names and sources.
    pub(crate) fn of(templates: &[(&'static str, &'static str)]) -> Views {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        environment.add_global("version", env!("CARGO_PKG_VERSION"));
        for (name, source) in templates {
            environment.add_template(name, source).expect("the embedded templates parse, as tests prove");
        }
        Views(environment)
    }

    /// A template that fails is a mistake of ours: the page says so and the log says where.
    pub(crate) fn page(&self, name: &str, values: &impl Serialize) -> Response<Body> {
        let rendered = self.0.get_template(name).and_then(|template| template.render(Serde(values)));
        let (status, text) = match rendered {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => {
                tracing::error!(template = name, %error, "a page cannot be rendered");
                (StatusCode::INTERNAL_SERVER_ERROR, "This page cannot be shown; the log says why.".to_owned())
            }
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        response
    }
}
