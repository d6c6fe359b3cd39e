//! The pages of `tollgate dev`: where to begin, and the inbox that holds every mail.
//!
//! They show working links, codes and a service key to whoever asks, so they exist in `dev` only, and [`guard`] lets
//! nobody in but the person at this machine. Everything works without JavaScript; the modules in `web/assets` spare
//! reloads and copying by hand.

mod assets;
mod guard;
mod inbox;
mod problem;
mod start;
mod views;

#[cfg(test)]
mod tests;

use crate::app::App;
use crate::openapi::{Door, Field, RouteDoc};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};
use kernel::{Secret, Vault};
use mail::Templates;
use std::sync::Arc;
use store::Store;
use views::Views;

pub const ROUTES: &[RouteDoc] = &[
    RouteDoc::get("/dev", "Where to begin (`tollgate dev` only)").door(Door::Pages),
    RouteDoc::get("/dev/start", "Redirects to `/dev`").door(Door::Pages),
    RouteDoc::get("/dev/mail", "Every mail that was captured, newest first (`tollgate dev` only)")
        .door(Door::Pages)
        .query(PAGING)
        .notes("With `Accept: application/json` the same as `/dev/mail.json`."),
    RouteDoc::get("/dev/mail.json", "The captured mails for tests (`tollgate dev` only)")
        .door(Door::Pages)
        .query(PAGING)
        .answers(&[(200, "`items` and `next_cursor`"), (422, "A limit or cursor of another form")]),
    RouteDoc::get("/dev/mail/{id}/html", "The HTML part of a mail, in a sandbox").door(Door::Pages),
    RouteDoc::get("/dev/assets/{file}", "What the pages load").door(Door::Pages),
];

const PAGING: &[Field] = &[
    Field::integer("limit").optional().note("1 to 200; a page may hold fewer"),
    Field::text("cursor").optional().note("`next_cursor` of the page before"),
];

/// What the pages are made from.
pub struct Dev {
    base_url: String,
    app_name: String,
    store: Store,
    vault: Vault,
    /// Those that mails are sent with, so that the inbox shows what would have arrived.
    templates: Arc<Templates>,
    known: Known,
}

/// What only the program itself knows about its deployment.
#[derive(Clone, Default)]
pub struct Known {
    pub service_key: Option<Secret<String>>,
    /// Missing when the database was not seeded.
    pub sample_user: Option<SampleUser>,
    /// Where the till is, if one stands in for Stripe.
    pub till: Option<String>,
    /// Health, metrics and the OpenAPI document have a listener of their own.
    pub operations_apart: bool,
    /// `mail.smtp_url` is set: mails are sent or dropped instead of being kept for the inbox.
    pub mails_leave: bool,
}

#[derive(Clone)]
pub struct SampleUser {
    pub email: String,
    pub password: String,
}

impl Dev {
    /// None unless the settings say `dev`: in production there is nothing to mount.
    pub fn of(app: &App, templates: Arc<Templates>, known: Known) -> Option<Dev> {
        app.settings.dev.then(|| Dev {
            base_url: app.settings.base_url.clone(),
            app_name: app.settings.app_name.clone(),
            store: app.store.clone(),
            vault: app.vault.clone(),
            templates,
            known,
        })
    }
}

/// Shared by the handlers.
struct Pages {
    dev: Dev,
    views: Views,
    hosts: guard::Hosts,
}

/// The routes of [`ROUTES`] and `/`, all behind the guard.
pub fn router(dev: Dev) -> Router {
    let hosts = guard::Hosts::new(&dev.base_url);
    let pages = Arc::new(Pages { dev, views: views::open(), hosts });
    Router::new()
        .route("/", get(to_start))
        .route("/dev", get(start::page))
        .route("/dev/", get(to_start))
        .route("/dev/start", get(to_start))
        .route("/dev/mail", get(inbox::page))
        .route("/dev/mail.json", get(inbox::json))
        .route("/dev/mail/{id}/html", get(inbox::html_part))
        .route("/dev/assets/{file}", get(assets::file))
        .route_layer(axum::middleware::from_fn_with_state(pages.clone(), guard::admit))
        .with_state(pages)
}

/// Temporary: the same address belongs to the app's own pages when the machine runs something else tomorrow.
async fn to_start() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/dev"));
    response
}
