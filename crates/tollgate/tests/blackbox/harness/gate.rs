//! A backend at the gate: it passes on the cookies of whoever asks it for something.

use serde_json::Value;

use super::browser::Browser;
use super::credits::Backend;
use super::http::{Request, Response};
use super::server::Server;

/// Passes a browser's cookies on, one connection after the other.
pub struct Guard {
    pub backend: Backend,
}

impl Guard {
    /// With a service key of its own that has all scopes.
    pub fn of(server: &Server) -> Guard {
        Guard { backend: Backend::of(server) }
    }

    /// The same backend on another connection.
    pub fn another(&self) -> Guard {
        Guard { backend: self.backend.another() }
    }

    /// The same backend asking another node.
    pub fn at(&self, node: &Server) -> Guard {
        Guard { backend: self.backend.at(node) }
    }

    #[track_caller]
    pub fn ask(&mut self, browser: &Browser, body: &Value) -> Response {
        self.backend.send(asking(browser, body))
    }

    #[track_caller]
    pub fn ask_under(&mut self, browser: &Browser, key: &str, body: &Value) -> Response {
        self.backend.send(asking(browser, body).header("Idempotency-Key", key))
    }
}

/// `authorize` with the browser's cookies; the service key is added by who sends it.
pub fn asking(browser: &Browser, body: &Value) -> Request {
    let request = Request::post("/api/gate/authorize", body);
    match browser.cookie_header("/") {
        cookies if cookies.is_empty() => request,
        cookies => request.header("Cookie", &cookies),
    }
}
