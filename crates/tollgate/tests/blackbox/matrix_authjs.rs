//! The rows of the authorization matrix on the adapter's door: whoever calls has to show its secret, and nothing else helps.

use serde_json::json;

use crate::harness::Request;
use crate::matrix::{Row, Things, everybody, row};

fn path(rest: &str) -> String {
    format!("/api/internal/auth{rest}")
}

fn post(rest: &str) -> Request {
    Request::post(&path(rest), &json!({}))
}

fn get(rest: &str) -> Request {
    Request::get(&path(rest))
}

fn of_user(method: &str, things: &Things) -> Request {
    Request::new(method, &path(&format!("/users/{}", things.user_id)))
}

const ACCOUNT: &str = "/accounts?provider=google&providerAccountId=1";

pub const ROWS: &[Row] = &[
    row("POST", "/api/internal/auth/users", everybody(401), |_| post("/users")),
    row("GET", "/api/internal/auth/users/{id}", everybody(401), |things| of_user("GET", things)),
    row("GET", "/api/internal/auth/users/by-email", everybody(401), |things| {
        get(&format!("/users/by-email?email={}", things.email))
    }),
    row("GET", "/api/internal/auth/users/by-account", everybody(401), |_| {
        get("/users/by-account?provider=google&providerAccountId=1")
    }),
    row("PATCH", "/api/internal/auth/users/{id}", everybody(401), |things| {
        of_user("PATCH", things).json(&json!({"name": "x"}))
    }),
    row("DELETE", "/api/internal/auth/users/{id}", everybody(401), |things| of_user("DELETE", things)),
    row("POST", "/api/internal/auth/accounts", everybody(401), |_| post("/accounts")),
    row("GET", "/api/internal/auth/accounts", everybody(401), |_| get(ACCOUNT)),
    row("DELETE", "/api/internal/auth/accounts", everybody(401), |_| Request::new("DELETE", &path(ACCOUNT))),
    row("POST", "/api/internal/auth/sessions", everybody(401), |_| post("/sessions")),
    row("POST", "/api/internal/auth/sessions/lookup", everybody(401), |things| {
        Request::post(&path("/sessions/lookup"), &json!({"sessionToken": things.session_token}))
    }),
    row("PATCH", "/api/internal/auth/sessions", everybody(401), |things| {
        Request::new("PATCH", &path("/sessions")).json(&json!({"sessionToken": things.session_token}))
    }),
    row("POST", "/api/internal/auth/sessions/delete", everybody(401), |things| {
        Request::post(&path("/sessions/delete"), &json!({"sessionToken": things.session_token}))
    }),
    row("POST", "/api/internal/auth/verification-tokens", everybody(401), |_| post("/verification-tokens")),
    row("POST", "/api/internal/auth/verification-tokens/use", everybody(401), |_| {
        post("/verification-tokens/use")
    }),
    row("POST", "/api/internal/auth/authenticators", everybody(401), |_| post("/authenticators")),
    row("GET", "/api/internal/auth/authenticators", everybody(401), |things| {
        get(&format!("/authenticators?userId={}", things.user_id))
    }),
    row("GET", "/api/internal/auth/authenticators/by-credential", everybody(401), |_| {
        get("/authenticators/by-credential?credentialID=x")
    }),
    row("PATCH", "/api/internal/auth/authenticators/counter", everybody(401), |_| {
        Request::new("PATCH", &path("/authenticators/counter"))
            .json(&json!({"credentialID": "x", "counter": 1}))
    }),
];
