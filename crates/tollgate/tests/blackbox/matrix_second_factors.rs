//! The rows of the authorization matrix on second factors and passkeys.
//!
//! Each person has a passkey whose id is made of the person's, so that a row can name it.

use serde_json::{Value, json};

use crate::harness::database::quoted;
use crate::harness::{PASSWORD, Request, Server};
use crate::matrix::{Row, Things, everybody, fresh_members, members, row};

/// One's own can be changed, whoever's browser it is; somebody else's is refused.
const OWN: [u16; 11] = [401, 200, 200, 401, 401, 401, 401, 401, 401, 200, 401];
/// A page takes no token from a header. Whoever comes in has nothing that could be answered.
const PAGE: [u16; 11] = [401, 400, 400, 401, 401, 401, 400, 401, 401, 401, 401];

fn factor(path: &str, body: Value) -> Request {
    Request::post(&format!("/api/auth/two-factor/{path}"), &body)
}

fn get(path: &str) -> Request {
    Request::get(&format!("/api/auth/passkey/{path}"))
}

fn passkey(path: &str, body: Value) -> Request {
    Request::post(&format!("/api/auth/passkey/{path}"), &body)
}

fn own_passkey(things: &Things) -> String {
    format!("passkey-{}", things.user_id)
}

/// Makes what the rows name.
pub fn furnish(server: &Server, user: &str) {
    server.database.execute(&format!(
        "INSERT INTO passkeys (id, user_id, credential_id, public_key, counter, device_type, backed_up, transports, \
         aaguid, created_at) VALUES ('passkey-{user}', {}, 'credential-{user}', '', 0, 'singleDevice', FALSE, '', '', 1)",
        quoted(user)
    ));
}

/// What of it belongs to a person.
pub fn belongings(server: &Server, user: &str) -> String {
    let of = |table: &str| {
        let sql = format!("SELECT * FROM {table} WHERE user_id = {}", quoted(user));
        format!("{:?}\n", server.database.rows(&sql))
    };
    of("passkeys") + &of("authenticators")
}

pub const NAMES_A_THING: &[&str] = &["/api/auth/passkey/delete-passkey", "/api/auth/passkey/update-passkey"];

pub const ROWS: &[Row] = &[
    row("POST", "/api/auth/two-factor/enable", members(200), |_| {
        factor("enable", json!({"password": PASSWORD}))
    }),
    row("POST", "/api/auth/two-factor/disable", members(200), |_| {
        factor("disable", json!({"password": PASSWORD}))
    }),
    // 400: nobody of them has set one up. Whoever is signed out would need a sign-in that waits.
    row("POST", "/api/auth/two-factor/get-totp-uri", members(400), |_| {
        factor("get-totp-uri", json!({"password": PASSWORD}))
    }),
    row("POST", "/api/auth/two-factor/generate-backup-codes", members(400), |_| {
        factor("generate-backup-codes", json!({"password": PASSWORD}))
    }),
    row("POST", "/api/auth/two-factor/verify-totp", members(400), |_| {
        factor("verify-totp", json!({"code": "123456"}))
    }),
    row("POST", "/api/auth/two-factor/send-otp", members(200), |_| factor("send-otp", json!({}))),
    row("POST", "/api/auth/two-factor/verify-otp", members(400), |_| {
        factor("verify-otp", json!({"code": "123456"}))
    }),
    row("POST", "/api/auth/two-factor/verify-backup-code", members(400), |_| {
        factor("verify-backup-code", json!({"code": "aaaaa-bbbbb"}))
    }),
    row("GET", "/api/auth/passkey/generate-register-options", fresh_members(200, 403), |_| {
        get("generate-register-options")
    }),
    // 400: no challenge was asked for in this browser.
    row("POST", "/api/auth/passkey/verify-registration", fresh_members(400, 403), |_| {
        passkey("verify-registration", json!({"response": {}}))
    }),
    row("GET", "/api/auth/passkey/generate-authenticate-options", everybody(200), |_| {
        get("generate-authenticate-options")
    }),
    row("POST", "/api/auth/passkey/verify-authentication", everybody(400), |_| {
        passkey("verify-authentication", json!({"response": {}}))
    }),
    row("GET", "/api/auth/passkey/list-user-passkeys", members(200), |_| get("list-user-passkeys")),
    row("POST", "/api/auth/passkey/update-passkey", OWN, |things| {
        passkey("update-passkey", json!({"id": own_passkey(things), "name": "other"}))
    }),
    row("POST", "/api/auth/passkey/delete-passkey", OWN, |things| {
        passkey("delete-passkey", json!({"id": own_passkey(things)}))
    }),
    row("POST", "/second-factor", PAGE, |_| {
        Request::form("/second-factor", &[("methods", "totp"), ("by", "totp"), ("code", "123456")])
    }),
];
