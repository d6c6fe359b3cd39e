//! Visitors without an account, and the secrets that sign their cookies.

use gate::guest_cookie::GuestKeys;
use kernel::{GuestId, Secrets};
use serde_json::{Value, json};

use super::browser::Browser;
use super::credits::text;
use super::http::Response;
use super::server::Server;

pub const COOKIE: &str = "tollgate.guest";

/// A fresh browser that is a guest now, and its id.
#[track_caller]
pub fn guest(server: &Server) -> (Browser, String) {
    let mut browser = Browser::new(server);
    let id = enter(&mut browser);
    (browser, id)
}

/// Makes the browser a guest.
#[track_caller]
pub fn enter(browser: &mut Browser) -> String {
    text(&browser.post("/api/guest", json!({})).expect(201).json()["guest_id"])
}

/// What `tollgate secrets show guest` tells.
#[track_caller]
pub fn shown(server: &Server) -> Value {
    server.command(&["secrets", "show", "guest", "--json"]).expect_done().json()
}

/// What signs as the server does.
#[track_caller]
pub fn keys(server: &Server) -> GuestKeys {
    let shown = shown(server);
    let secrets = shown["secrets"].as_array().expect("a list").iter().map(text).collect();
    GuestKeys::new(&Secrets::new(secrets).expect("there is a secret"))
}

/// GET with this cookie and nothing else.
#[track_caller]
pub fn look_with(server: &Server, cookie: &str) -> Response {
    let mut browser = Browser::new(server);
    browser.set_cookie(COOKIE, cookie);
    browser.get("/api/guest")
}

pub fn id(text: &str) -> GuestId {
    GuestId::from_text(text)
}
