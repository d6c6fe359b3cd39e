//! `/dev`: what runs here, and what to copy into an app.

use super::Pages;
use axum::body::Body;
use axum::extract::State;
use http::Response;
use serde::Serialize;
use std::sync::Arc;
use store::Engine;

#[derive(Serialize)]
struct View<'a> {
    app_name: &'a str,
    base_url: &'a str,
    engine: &'a str,
    service_key: Option<&'a str>,
    sample_user: Option<Sample<'a>>,
    operations_here: bool,
    mails_leave: bool,
    till: Option<&'a str>,
}

#[derive(Serialize)]
struct Sample<'a> {
    email: &'a str,
    password: &'a str,
}

pub async fn page(State(pages): State<Arc<Pages>>) -> Response<Body> {
    let dev = &pages.dev;
    let engine = match dev.store.engine() {
        Engine::Sqlite => "SQLite",
        Engine::Postgres => "PostgreSQL",
    };
    pages.views.page(
        "start.html",
        &View {
            app_name: &dev.app_name,
            base_url: &dev.base_url,
            engine,
            service_key: dev.known.service_key.as_ref().map(|key| key.expose().as_str()),
            sample_user: dev
                .known
                .sample_user
                .as_ref()
                .map(|user| Sample { email: &user.email, password: &user.password }),
            operations_here: !dev.known.operations_apart,
            mails_leave: dev.known.mails_leave,
            till: dev.known.till.as_deref(),
        },
    )
}
