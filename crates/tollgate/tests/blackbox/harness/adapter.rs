//! The adapter of an app with Auth.js, and the tokens that such an app makes.

use std::net::SocketAddr;
use std::sync::LazyLock;

use serde_json::Value;

use super::http::{Connection, Request, Response};
use super::server::Server;

pub const SECRET: &str = "adapter-4Kq7Zr1VYp0mXJ3sTe9bWcUaL5nHdG";

/// The door is open.
pub const OPEN: &str = "[authjs]\nadapter_secrets = [\"adapter-4Kq7Zr1VYp0mXJ3sTe9bWcUaL5nHdG\"]\n";

/// Made with the libraries themselves; the file says how.
pub static TOKENS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("authjs_tokens.json")).expect("the tokens are JSON"));

pub fn token(name: &str) -> &'static str {
    TOKENS[name].as_str().unwrap_or_else(|| panic!("there is no token {name}"))
}

#[derive(Clone)]
pub struct Adapter {
    address: SocketAddr,
    secret: String,
}

impl Adapter {
    pub fn of(server: &Server) -> Adapter {
        Adapter::at(server.address, SECRET)
    }

    pub fn at(address: SocketAddr, secret: &str) -> Adapter {
        Adapter { address, secret: secret.to_owned() }
    }

    #[track_caller]
    pub fn send(&self, request: Request) -> Response {
        let request = request.header("X-Adapter-Secret", &self.secret);
        let answer = Connection::open(self.address).and_then(|mut connection| connection.exchange(&request));
        answer.expect("the door answers")
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.send(Request::get(&path_of(path)))
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Response {
        self.send(Request::post(&path_of(path), &body))
    }

    #[track_caller]
    pub fn patch(&self, path: &str, body: Value) -> Response {
        self.send(Request::new("PATCH", &path_of(path)).json(&body))
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Response {
        self.send(Request::new("DELETE", &path_of(path)))
    }
}

fn path_of(path: &str) -> String {
    format!("/api/internal/auth{path}")
}
