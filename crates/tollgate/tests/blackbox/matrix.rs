//! The authorization matrix: every route of every door against every kind of caller.
//!
//! The routes come from `/openapi.json`, which is made from the same list as the router: a route without a row fails here,
//! and so does a row without a route.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::database::quoted;
use crate::harness::guest::enter;
use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server};
use crate::matrix_authjs;
use crate::matrix_organizations;
use crate::matrix_second_factors;
use crate::on_both_engines;
use crate::program::Program;

/// Who calls. The order is that of the columns of [`ROWS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Nobody,
    SignedIn,
    /// Signed in, but too long ago for delicate things.
    Stale,
    Expired,
    Revoked,
    /// With the session from before the ban.
    Banned,
    /// Signed in, naming what belongs to somebody else.
    Other,
    /// A service key where a session's token belongs.
    ServiceKey,
    /// A live token with a signature of somebody else's making.
    Forged,
    /// A live token without a cookie.
    Bearer,
    /// A visitor with a guest's cookie and no session.
    Guest,
}

const CALLERS: [Caller; 11] = [
    Caller::Nobody,
    Caller::SignedIn,
    Caller::Stale,
    Caller::Expired,
    Caller::Revoked,
    Caller::Banned,
    Caller::Other,
    Caller::ServiceKey,
    Caller::Forged,
    Caller::Bearer,
    Caller::Guest,
];

impl Caller {
    fn is_signed_in(self) -> bool {
        matches!(self, Caller::SignedIn | Caller::Stale | Caller::Other | Caller::Bearer)
    }
}

/// What a request may name: the caller's own, or for [`Caller::Other`] somebody else's.
pub struct Things {
    pub user_id: String,
    pub email: String,
    pub session_token: String,
    pub account_id: String,
    /// Of the backend that passes the request on.
    service_key: String,
    /// Different for each request.
    pub number: usize,
}

pub struct Row {
    method: &'static str,
    path: &'static str,
    /// A request that only the caller can be the reason to refuse.
    request: fn(&Things) -> Request,
    expected: [u16; 11],
}

pub const fn row(
    method: &'static str,
    path: &'static str,
    expected: [u16; 11],
    request: fn(&Things) -> Request,
) -> Row {
    Row { method, path, request, expected }
}

pub const fn everybody(status: u16) -> [u16; 11] {
    [status; 11]
}

pub const fn members(status: u16) -> [u16; 11] {
    [401, status, status, 401, 401, 401, status, 401, 401, status, 401]
}

/// Those who signed in a moment ago; `stale` is what the others among the members get.
pub const fn fresh_members(status: u16, stale: u16) -> [u16; 11] {
    [401, status, stale, 401, 401, 401, status, 401, 401, status, 401]
}

/// The doors for an app's backend: nobody but a service key comes in.
const fn backends(status: u16) -> [u16; 11] {
    [401, 401, 401, 401, 401, 401, 401, status, 401, 401, 401]
}

/// Where a cookie of this browser has to belong to the named session.
///                            nobody in   stale exp. rev. ban. other key  forg. bearer guest
const HOLDERS: [u16; 11] = [401, 200, 200, 401, 401, 401, 401, 401, 401, 401, 401];
/// A signed-in caller may only ask for their own address; everybody else gets the same answer whoever is named.
const NOT_FOR_OTHERS: [u16; 11] = [200, 200, 200, 200, 200, 200, 400, 200, 200, 200, 200];

/// What a backend with a service key is told of whose cookie it passes on; a token in `Authorization` is not passed on.
const PASSED_ON: [u16; 11] = [401, 200, 200, 401, 401, 401, 403, 401, 401, 401, 401];

/// A page for members: a cookie opens it, a token in a header is for apps.
const fn led_in(status: u16) -> [u16; 11] {
    [303, status, status, 303, 303, 303, status, 303, 303, 303, 303]
}

/// A key that does not belong to the caller is none.
///                             nobody in   stale exp. rev. ban. other key  forg. bearer guest
const OWN_KEYS: [u16; 11] = [401, 200, 200, 401, 401, 401, 404, 401, 401, 200, 401];

const ENTRANCE: [u16; 11] = [200, 303, 303, 200, 200, 200, 303, 200, 200, 200, 200];

const ROWS: &[Row] = &[
    row("GET", "/api/auth/get-session", everybody(200), |_| Request::get("/api/auth/get-session")),
    row("GET", "/api/auth/session", everybody(200), |_| Request::get("/api/auth/session")),
    row("POST", "/api/auth/get-session", everybody(405), |_| post("/get-session", json!({}))),
    row("POST", "/api/auth/sign-up/email", everybody(200), |things| {
        let email = format!("new-{}@example.com", things.number);
        post("/sign-up/email", json!({"name": "New", "email": email, "password": PASSWORD}))
    }),
    row("POST", "/api/auth/sign-in/email", everybody(200), |_| {
        post("/sign-in/email", json!({"email": SIGNS_IN, "password": PASSWORD}))
    }),
    row("POST", "/api/auth/sign-in/username", everybody(200), |_| {
        post("/sign-in/username", json!({"username": "Signs_In", "password": PASSWORD}))
    }),
    row("POST", "/api/auth/is-username-available", everybody(200), |_| {
        post("/is-username-available", json!({"username": "signs_in"}))
    }),
    row("POST", "/api/auth/sign-in/magic-link", everybody(200), |things| {
        post("/sign-in/magic-link", json!({"email": things.email}))
    }),
    row("GET", "/api/auth/magic-link/verify", everybody(302), |_| {
        Request::get("/api/auth/magic-link/verify?token=never-mailed")
    }),
    row("POST", "/api/auth/email-otp/send-verification-otp", everybody(200), |things| {
        post("/email-otp/send-verification-otp", json!({"email": things.email, "type": "sign-in"}))
    }),
    row("POST", "/api/auth/email-otp/check-verification-otp", everybody(400), |things| {
        let body = json!({"email": things.email, "type": "email-verification", "otp": "000000"});
        post("/email-otp/check-verification-otp", body)
    }),
    row("POST", "/api/auth/email-otp/verify-email", everybody(400), |things| {
        post("/email-otp/verify-email", json!({"email": things.email, "otp": "000000"}))
    }),
    row("POST", "/api/auth/sign-in/email-otp", everybody(400), |_| {
        post("/sign-in/email-otp", json!({"email": "never-mailed@example.com", "otp": "000000"}))
    }),
    row("POST", "/api/auth/email-otp/request-password-reset", everybody(200), |_| {
        post("/email-otp/request-password-reset", json!({"email": "never-mailed@example.com"}))
    }),
    row("POST", "/api/auth/forget-password/email-otp", everybody(200), |_| {
        post("/forget-password/email-otp", json!({"email": "never-mailed@example.com"}))
    }),
    row("POST", "/api/auth/email-otp/reset-password", everybody(400), |things| {
        let body = json!({"email": things.email, "otp": "000000", "password": "another horse battery"});
        post("/email-otp/reset-password", body)
    }),
    row("POST", "/api/auth/email-otp/request-email-change", members(200), |things| {
        post(
            "/email-otp/request-email-change",
            json!({"newEmail": format!("coded-{}@example.com", things.number)}),
        )
    }),
    row("POST", "/api/auth/email-otp/change-email", members(400), |_| {
        post("/email-otp/change-email", json!({"newEmail": "never-mailed@example.com", "otp": "000000"}))
    }),
    row("POST", "/api/auth/sign-in/anonymous", everybody(200), |_| post("/sign-in/anonymous", json!({}))),
    // Nobody of the table is anonymous.
    row("POST", "/api/auth/delete-anonymous-user", members(403), |_| {
        post("/delete-anonymous-user", json!({}))
    }),
    row("GET", "/api/auth/one-time-token/generate", members(200), |_| {
        Request::get("/api/auth/one-time-token/generate")
    }),
    row("POST", "/api/auth/one-time-token/verify", everybody(400), |_| {
        post("/one-time-token/verify", json!({"token": "never-made"}))
    }),
    row("GET", "/api/auth/token", members(200), |_| Request::get("/api/auth/token")),
    row("GET", "/api/auth/jwks", everybody(200), |_| Request::get("/api/auth/jwks")),
    row("POST", "/api/auth/sign-out", everybody(200), |_| post("/sign-out", json!({}))),
    row("POST", "/api/auth/sign-in/social", everybody(200), |_| {
        post("/sign-in/social", json!({"provider": "github", "callbackURL": "/"}))
    }),
    // Whoever comes back from a provider is led on, with what is wrong.
    row("GET", "/api/auth/callback/{provider}", everybody(302), |_| {
        Request::get("/api/auth/callback/github?code=x&state=never-begun")
    }),
    row("POST", "/api/auth/callback/{provider}", everybody(302), |_| {
        Request::form("/api/auth/callback/github", &[("code", "x"), ("state", "never-begun")])
    }),
    row("POST", "/api/auth/link-social", members(200), |_| {
        post("/link-social", json!({"provider": "github", "callbackURL": "/"}))
    }),
    // One's own is a password's, and has no tokens; another's is not found.
    row("POST", "/api/auth/get-access-token", members(400), |things| {
        post("/get-access-token", json!({"accountId": things.account_id, "userId": things.user_id}))
    }),
    row("POST", "/api/auth/refresh-token", members(400), |things| {
        post("/refresh-token", json!({"accountId": things.account_id, "userId": things.user_id}))
    }),
    row("GET", "/api/auth/account-info", members(400), |things| {
        Request::get(&format!("/api/auth/account-info?accountId={}", things.account_id))
    }),
    row("GET", "/api/auth/list-sessions", fresh_members(200, 403), |_| {
        Request::get("/api/auth/list-sessions")
    }),
    row("POST", "/api/auth/revoke-session", members(200), |things| {
        post("/revoke-session", json!({"token": things.session_token}))
    }),
    row("POST", "/api/auth/revoke-sessions", members(200), |_| post("/revoke-sessions", json!({}))),
    row("POST", "/api/auth/revoke-other-sessions", members(200), |_| {
        post("/revoke-other-sessions", json!({}))
    }),
    // No deployment has fields of its own in a session, so there is nothing to change.
    row("POST", "/api/auth/update-session", members(400), |_| post("/update-session", json!({}))),
    row("POST", "/api/auth/update-user", members(200), |_| post("/update-user", json!({"name": "Renamed"}))),
    row("POST", "/api/auth/change-email", members(200), |things| {
        post("/change-email", json!({"newEmail": format!("moved-{}@example.com", things.number)}))
    }),
    row("POST", "/api/auth/change-password", members(200), |_| {
        post("/change-password", json!({"currentPassword": PASSWORD, "newPassword": "another horse battery"}))
    }),
    row("POST", "/api/auth/verify-password", members(200), |_| {
        post("/verify-password", json!({"password": PASSWORD}))
    }),
    row("POST", "/api/auth/request-password-reset", everybody(200), |things| {
        post("/request-password-reset", json!({"email": things.email}))
    }),
    // Whoever holds the mailed token is served; this one was never mailed.
    row("GET", "/api/auth/reset-password/{token}", everybody(302), |_| {
        Request::get("/api/auth/reset-password/never-mailed?callbackURL=%2F")
    }),
    row("POST", "/api/auth/reset-password", everybody(400), |_| {
        post("/reset-password", json!({"newPassword": "another horse battery", "token": "never-mailed"}))
    }),
    row("POST", "/api/auth/send-verification-email", NOT_FOR_OTHERS, |things| {
        post("/send-verification-email", json!({"email": things.email}))
    }),
    row("GET", "/api/auth/verify-email", everybody(401), |_| {
        Request::get("/api/auth/verify-email?token=never-mailed")
    }),
    row("POST", "/api/auth/delete-user", fresh_members(200, 400), |_| post("/delete-user", json!({}))),
    row("GET", "/api/auth/delete-user/callback", everybody(404), |_| {
        Request::get("/api/auth/delete-user/callback?token=never-mailed")
    }),
    row("GET", "/api/auth/list-accounts", members(200), |_| Request::get("/api/auth/list-accounts")),
    // 400: the last way to sign in stays, and somebody else's is not found.
    row("POST", "/api/auth/unlink-account", fresh_members(400, 403), |things| {
        post("/unlink-account", json!({"accountId": things.account_id}))
    }),
    row("GET", "/api/auth/multi-session/list-device-sessions", everybody(200), |_| {
        Request::get("/api/auth/multi-session/list-device-sessions")
    }),
    row("POST", "/api/auth/multi-session/set-active", HOLDERS, |things| {
        post("/multi-session/set-active", json!({"sessionToken": things.session_token}))
    }),
    row("POST", "/api/auth/multi-session/revoke", HOLDERS, |things| {
        post("/multi-session/revoke", json!({"sessionToken": things.session_token}))
    }),
    row("POST", "/api/auth/api-key/create", members(200), |_| {
        post("/api-key/create", json!({"name": "matrix"}))
    }),
    row("GET", "/api/auth/api-key/list", members(200), |_| Request::get("/api/auth/api-key/list")),
    row("GET", "/api/auth/api-key/get", OWN_KEYS, |things| {
        Request::get(&format!("/api/auth/api-key/get?id=key-{}", things.user_id))
    }),
    row("POST", "/api/auth/api-key/update", OWN_KEYS, |things| {
        post("/api-key/update", json!({"keyId": format!("key-{}", things.user_id), "name": "other"}))
    }),
    row("POST", "/api/auth/api-key/delete", OWN_KEYS, |things| {
        post("/api-key/delete", json!({"keyId": format!("key-{}", things.user_id)}))
    }),
    // Of a code that no device shows: whoever may decide at all is told so.
    row("POST", "/api/auth/device/code", everybody(200), |_| {
        post("/device/code", json!({"client_id": "matrix"}))
    }),
    row("POST", "/api/auth/device/token", everybody(400), |_| {
        let grant = "urn:ietf:params:oauth:grant-type:device_code";
        post("/device/token", json!({"grant_type": grant, "device_code": "absent", "client_id": "matrix"}))
    }),
    row("GET", "/api/auth/device", everybody(400), |_| Request::get("/api/auth/device?user_code=22222222")),
    row("POST", "/api/auth/device/approve", members(400), |_| {
        post("/device/approve", json!({"userCode": "22222222"}))
    }),
    row("POST", "/api/auth/device/deny", members(400), |_| {
        post("/device/deny", json!({"userCode": "22222222"}))
    }),
    row("GET", "/device", led_in(200), |_| Request::get("/device?user_code=22222222")),
    row("POST", "/device", led_in(400), |_| Request::form("/device", &[("user_code", "22222222")])),
    // Whomever they name: the answer is about the caller.
    row("GET", "/api/auth/credits/balance", members(200), |things| own_credits(things, "balance")),
    row("GET", "/api/auth/credits/entries", members(200), |things| own_credits(things, "entries")),
    row("GET", "/api/auth/credits/usage", members(200), |things| own_credits(things, "usage")),
    row("GET", "/api/auth/ok", everybody(200), |_| Request::get("/api/auth/ok")),
    row("GET", "/api/auth/error", everybody(302), |_| Request::get("/api/auth/error")),
    row("POST", "/api/credits/grants", backends(201), |things| {
        let more = json!({"amount": 5, "source": "paid", "reason": "matrix"});
        keyed(things, "POST", "/grants", owned(things, more))
    }),
    row("POST", "/api/credits/debits", backends(201), |things| {
        keyed(things, "POST", "/debits", owned(things, json!({"amount": 1})))
    }),
    row("POST", "/api/credits/debits/batch", backends(200), |things| {
        let debit = owned(things, json!({"amount": 1, "idempotency_key": "matrix-batch"}));
        keyed(things, "POST", "/debits/batch", json!({"debits": [debit]}))
    }),
    row("POST", "/api/credits/holds", backends(201), |things| {
        keyed(things, "POST", "/holds", owned(things, json!({"amount": 1, "expires_in": 60})))
    }),
    // 404: whoever comes in is told that there is no such thing.
    row("POST", "/api/credits/holds/{id}/capture", backends(404), |things| {
        keyed(things, "POST", "/holds/absent/capture", json!({}))
    }),
    row("POST", "/api/credits/holds/{id}/release", backends(404), |things| {
        keyed(things, "POST", "/holds/absent/release", json!({}))
    }),
    row("POST", "/api/credits/holds/{id}/extend", backends(404), |things| {
        keyed(things, "POST", "/holds/absent/extend", json!({"expires_in": 60}))
    }),
    row("POST", "/api/credits/refunds", backends(404), |things| {
        keyed(things, "POST", "/refunds", json!({"entry_id": "absent", "reason": "matrix"}))
    }),
    row("POST", "/api/credits/transfers", backends(404), |things| {
        let (from, to) = (owned(things, json!({})), json!({"user_id": "absent"}));
        keyed(things, "POST", "/transfers", json!({"from": from, "to": to, "amount": 1, "reason": "matrix"}))
    }),
    row("PUT", "/api/credits/accounts", backends(200), |things| {
        keyed(things, "PUT", "/accounts", owned(things, json!({"negative_floor": -1})))
    }),
    row("PUT", "/api/credits/limits", backends(200), |things| {
        keyed(things, "PUT", "/limits", owned(things, json!({"window": "day", "max": 100})))
    }),
    row("GET", "/api/credits/balance", backends(200), |things| of_user(things, "balance")),
    row("GET", "/api/credits/accounts", backends(200), |things| of_user(things, "accounts")),
    row("GET", "/api/credits/entries", backends(200), |things| of_user(things, "entries")),
    row("GET", "/api/credits/usage", backends(200), |things| of_user(things, "usage")),
    row("GET", "/api/credits/holds", backends(200), |things| of_user(things, "holds")),
    row("GET", "/api/credits/holds/{id}", backends(404), |_| Request::get("/api/credits/holds/absent")),
    row("GET", "/api/credits/limits", backends(200), |things| of_user(things, "limits")),
    row("GET", "/api/credits/events", backends(200), |things| of_user(things, "events")),
    row("GET", "/api/credits/features", backends(200), |_| Request::get("/api/credits/features")),
    // Stripe is asked nothing: what is refused is refused before.
    row("GET", "/api/auth/billing/catalog", everybody(200), |_| Request::get("/api/auth/billing/catalog")),
    row("POST", "/api/auth/billing/checkout", members(400), |_| {
        post("/billing/checkout", json!({"price": "absent"}))
    }),
    row("GET", "/api/auth/billing/checkout-status", members(404), |_| {
        Request::get("/api/auth/billing/checkout-status?session=absent")
    }),
    row("POST", "/api/auth/billing/portal", members(403), |_| {
        post("/billing/portal", json!({"returnUrl": "https://elsewhere.example"}))
    }),
    row("GET", "/api/auth/billing/subscription", members(200), |_| {
        Request::get("/api/auth/billing/subscription")
    }),
    row("POST", "/api/auth/billing/subscription/change", members(400), |_| {
        post("/billing/subscription/change", json!({"plan": "absent"}))
    }),
    row("POST", "/api/auth/billing/subscription/cancel", members(400), |_| {
        post("/billing/subscription/cancel", json!({}))
    }),
    row("POST", "/api/auth/billing/subscription/resume", members(400), |_| {
        post("/billing/subscription/resume", json!({}))
    }),
    row("GET", "/api/auth/billing/invoices", members(200), |_| Request::get("/api/auth/billing/invoices")),
    row("GET", "/api/auth/billing/auto-topup", members(200), |_| {
        Request::get("/api/auth/billing/auto-topup")
    }),
    row("POST", "/api/auth/billing/auto-topup", members(400), |_| {
        post("/billing/auto-topup", json!({"pack": "absent", "below": 1, "monthlyMax": 1}))
    }),
    row("GET", "/api/billing/catalog", backends(200), |_| Request::get("/api/billing/catalog")),
    row("POST", "/api/billing/checkout", backends(422), |things| {
        billed(things, "checkout", json!({"price": "absent"}))
    }),
    row("GET", "/api/billing/checkout-status", backends(404), |things| {
        Request::get(&format!("/api/billing/checkout-status?user_id={}&session=absent", things.user_id))
    }),
    row("POST", "/api/billing/portal", backends(422), |things| {
        billed(things, "portal", json!({"return_url": "https://elsewhere.example"}))
    }),
    row("GET", "/api/billing/subscription", backends(200), |things| {
        Request::get(&format!("/api/billing/subscription?user_id={}", things.user_id))
    }),
    row("POST", "/api/billing/subscription/change", backends(409), |things| {
        billed(things, "subscription/change", json!({"plan": "absent"}))
    }),
    row("POST", "/api/billing/subscription/cancel", backends(409), |things| {
        billed(things, "subscription/cancel", json!({}))
    }),
    row("POST", "/api/billing/subscription/resume", backends(409), |things| {
        billed(things, "subscription/resume", json!({}))
    }),
    row("GET", "/api/billing/invoices", backends(200), |things| {
        Request::get(&format!("/api/billing/invoices?user_id={}", things.user_id))
    }),
    row("GET", "/api/billing/auto-topup", backends(200), |things| {
        Request::get(&format!("/api/billing/auto-topup?user_id={}", things.user_id))
    }),
    row("PUT", "/api/billing/auto-topup", backends(422), |things| {
        let body = json!({"pack": "absent", "below": 1, "monthly_max": 1});
        Request::new("PUT", "/api/billing/auto-topup").json(&owned(things, body))
    }),
    row("GET", "/api/billing/events", backends(200), |_| Request::get("/api/billing/events")),
    // Only what Stripe signed is taken.
    row("POST", "/api/billing/webhook", everybody(400), |_| {
        Request::new("POST", "/api/billing/webhook").json(&json!({"id": "evt_1", "type": "invoice.paid"}))
    }),
    // A backend passes on the cookie of whoever asks, and names whom the request is about.
    row("POST", "/api/gate/authorize", PASSED_ON, |things| {
        Request::post("/api/gate/authorize", &json!({"user_id": things.user_id}))
            .header("Authorization", &format!("Bearer {}", things.service_key))
    }),
    // The same of a reverse proxy, which names nobody.
    row("GET", "/api/gate/forward", [401, 200, 200, 401, 401, 401, 200, 401, 401, 401, 401], |things| {
        Request::get("/api/gate/forward")
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", "/")
            .header("Authorization", &format!("Bearer {}", things.service_key))
    }),
    // Whoever comes is made a guest, and nobody but a guest is one.
    row("POST", "/api/guest", [201, 201, 201, 201, 201, 201, 201, 201, 201, 201, 200], |_| {
        Request::post("/api/guest", &json!({}))
    }),
    row("GET", "/api/guest", [401, 401, 401, 401, 401, 401, 401, 401, 401, 401, 200], |_| {
        Request::get("/api/guest")
    }),
    // Pages answer people: whoever is not signed in is led to where one signs in, and who is, away from there.
    row("GET", "/sign-in", ENTRANCE, |_| Request::get("/sign-in")),
    row("GET", "/sign-up", ENTRANCE, |_| Request::get("/sign-up")),
    row("POST", "/sign-in", everybody(303), |_| {
        Request::form("/sign-in", &[("email", SIGNS_IN), ("password", PASSWORD)])
    }),
    row("POST", "/sign-up", everybody(303), |things| {
        let email = format!("page-{}@example.com", things.number);
        Request::form("/sign-up", &[("email", &email), ("password", PASSWORD)])
    }),
    row("POST", "/sign-out", everybody(303), |_| Request::form("/sign-out", &[])),
    row("GET", "/billing", led_in(200), |_| Request::get("/billing")),
    row("GET", "/magic-link", everybody(200), |_| Request::get("/magic-link?token=never-mailed")),
    row("POST", "/magic-link", everybody(400), |_| {
        Request::form("/magic-link", &[("token", "never-mailed")])
    }),
    row("POST", "/billing/checkout", led_in(400), |_| {
        Request::form("/billing/checkout", &[("item", "absent")])
    }),
    // Nobody is there in Stripe's place.
    row("POST", "/billing/portal", led_in(503), |_| Request::form("/billing/portal", &[])),
    row("GET", "/assets/{file}", everybody(404), |_| Request::get("/assets/absent")),
    row("GET", "/healthz", everybody(200), |_| Request::get("/healthz")),
    row("GET", "/readyz", everybody(200), |_| Request::get("/readyz")),
    row("GET", "/metrics", everybody(200), |_| Request::get("/metrics")),
    row("GET", "/openapi.json", everybody(200), |_| Request::get("/openapi.json")),
];

fn all_rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter()
        .chain(matrix_organizations::ROWS)
        .chain(matrix_second_factors::ROWS)
        .chain(matrix_authjs::ROWS)
}

/// Routes that answer everybody with 200 and whose body tells who was recognised: an invalid caller gets this one.
const NOTHING: [(&str, &str); 3] = [
    ("/api/auth/get-session", "null"),
    ("/api/auth/session", "null"),
    ("/api/auth/multi-session/list-device-sessions", "[]"),
];

const SIGNS_IN: &str = "signs-in@example.com";
/// Everything that can be switched on.
pub const SETTINGS: &str = "[accounts]\nchange_email = true\ndelete_user = true\n\
    [methods]\nusername = true\nmagic_link = true\nemail_code = true\nchange_email_by_code = true\n\
    anonymous = true\none_time_token = true\njwt = true\ndevice_authorization = true\n\
    [providers.github]\nclient_id = \"matrix\"\nclient_secret = \"matrix\"\n\
    [authjs]\nadapter_secrets = [\"matrix-4Kq7Zr1VYp0mXJ3sTe9bWcUaL5nHdG\"]\n\
    [stripe]\nsecret_key = \"sk_test_matrix\"\nwebhook_secrets = [\"whsec_matrix\"]\napi_base = \"http://127.0.0.1:9\"\n";

fn post(path: &str, body: Value) -> Request {
    Request::post(&format!("/api/auth{path}"), &body)
}

/// A request to the credits door.
fn keyed(things: &Things, method: &str, path: &str, body: Value) -> Request {
    let key = format!("matrix-{}", things.number);
    Request::new(method, &format!("/api/credits{path}")).json(&body).header("Idempotency-Key", &key)
}

fn owned(things: &Things, mut members: Value) -> Value {
    members["user_id"] = json!(things.user_id);
    members
}

fn billed(things: &Things, path: &str, body: Value) -> Request {
    Request::new("POST", &format!("/api/billing/{path}")).json(&owned(things, body))
}

fn of_user(things: &Things, path: &str) -> Request {
    Request::get(&format!("/api/credits/{path}?user_id={}", things.user_id))
}

fn own_credits(things: &Things, path: &str) -> Request {
    Request::get(&format!("/api/auth/credits/{path}?userId={0}&user_id={0}", things.user_id))
}

fn every_route_answers_every_caller_as_the_table_says(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    rows_and_routes_are_the_same(&server);
    let mut stage = Stage::set(&server);
    let before = stage.bystanders();
    let mut wrong = Vec::new();
    for row in all_rows() {
        for (caller, expected) in CALLERS.into_iter().zip(row.expected) {
            let response = stage.call(row, caller);
            if response.status != expected {
                let found = (response.status, response.text());
                wrong.push(format!("{} {} by {caller:?}: {found:?}, not {expected}", row.method, row.path));
            }
            let nothing = NOTHING.iter().find(|(path, _)| *path == row.path && row.method == "GET");
            if let (Some((_, nothing)), false) = (nothing, caller.is_signed_in())
                && response.text() != *nothing
            {
                wrong.push(format!("{} recognises {caller:?}: {}", row.path, response.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(stage.bystanders(), before, "a refused caller changed something");
}
on_both_engines!(every_route_answers_every_caller_as_the_table_says);

#[track_caller]
fn rows_and_routes_are_the_same(server: &Server) {
    let routes = documented(&Request::get("/openapi.json").send(server.address).expect("an answer").json());
    let rows: BTreeSet<String> = all_rows().map(|row| format!("{} {}", row.method, row.path)).collect();
    assert_eq!(rows.len(), all_rows().count(), "a row stands twice");
    let without_row: Vec<&String> = routes.difference(&rows).collect();
    let without_route: Vec<&String> = rows.difference(&routes).collect();
    assert!(without_row.is_empty() && without_route.is_empty(), "{without_row:?} {without_route:?}");
}

/// `METHOD /path` of every operation of an OpenAPI document.
fn documented(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().expect("the document lists paths");
    let methods = |(path, item): (&String, &Value)| {
        let methods = item.as_object().expect("a path lists methods");
        methods.keys().map(|method| format!("{} {path}", method.to_ascii_uppercase())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(methods).collect()
}

/// The people of the table. Those who are refused are the same for all rows; those who are served are new each time.
struct Stage<'a> {
    server: &'a Server,
    victim: Person,
    expired: Person,
    revoked: Person,
    banned: Person,
    forged: Person,
    service_key: String,
    /// Who belongs to everybody's organization.
    colleague: String,
    count: usize,
}

struct Person {
    browser: Browser,
    id: String,
    email: String,
    token: String,
    account_id: String,
}

impl<'a> Stage<'a> {
    fn set(server: &'a Server) -> Stage<'a> {
        let mut signs_in = Browser::new(server);
        signs_in.sign_up(SIGNS_IN);
        signs_in.post("/api/auth/update-user", json!({"username": "signs_in"})).expect(200);
        let expired = person(server, "expired@example.com");
        let moved = server.database.shift("sessions", "expires_at", -8 * DAY, &of(&expired));
        assert_eq!(moved, 1);
        // Whoever shows an expired session ends it; so it is put back for each request.
        server
            .database
            .execute(&format!("CREATE TABLE kept AS SELECT * FROM sessions WHERE {}", of(&expired)));
        let revoked = person(server, "revoked@example.com");
        let mut elsewhere = Browser::new(server);
        elsewhere.sign_in(&revoked.email);
        elsewhere.post("/api/auth/revoke-session", json!({"token": revoked.token})).expect(200);
        let banned = person(server, "banned@example.com");
        server.command(&["user", "ban", &banned.email]).expect_done();
        let colleague = signs_in.session()["user"]["id"].as_str().expect("an id").to_owned();
        let stage = Stage {
            server,
            colleague,
            victim: person(server, "victim@example.com"),
            expired,
            revoked,
            banned,
            forged: person(server, "forged@example.com"),
            service_key: server.service_key(),
            count: 0,
        };
        for person in [&stage.victim, &stage.expired, &stage.revoked, &stage.banned, &stage.forged] {
            stage.furnish(&person.id, &person.email);
        }
        stage
    }

    /// An organization of a person's own.
    fn furnish(&self, user: &str, email: &str) {
        matrix_organizations::furnish(self.server, user, email, &self.colleague);
    }

    fn call(&mut self, row: &Row, caller: Caller) -> Response {
        self.count += 1;
        let (browser, things) = self.cast(caller);
        if row.path.starts_with("/api/auth/organization/") {
            self.furnish(&things.user_id, &things.email);
        }
        // Cookies of the answer are not kept: those who are refused come again.
        browser.clone().send((row.request)(&things))
    }

    fn cast(&self, caller: Caller) -> (Browser, Things) {
        let email = format!("person-{}@example.com", self.count);
        let own = |person: &Person| self.things_of(person);
        match caller {
            Caller::Nobody => (Browser::new(self.server), own(&self.victim)),
            Caller::SignedIn => {
                let person = person(self.server, &email);
                (person.browser.clone(), own(&person))
            }
            Caller::Stale => {
                let person = person(self.server, &email);
                self.server.database.shift("sessions", "created_at", -2 * DAY, &of(&person));
                (person.browser.clone(), own(&person))
            }
            Caller::Expired => {
                let back = "INSERT INTO sessions SELECT * FROM kept WHERE true ON CONFLICT DO NOTHING";
                self.server.database.execute(back);
                (self.expired.browser.clone(), own(&self.expired))
            }
            Caller::Revoked => (self.revoked.browser.clone(), own(&self.revoked)),
            Caller::Banned => (self.banned.browser.clone(), own(&self.banned)),
            Caller::Other => (person(self.server, &email).browser, own(&self.victim)),
            Caller::ServiceKey => (self.bearing(&self.service_key), own(&self.victim)),
            Caller::Forged => {
                let mut browser = Browser::new(self.server);
                let signature = "A".repeat(43) + "=";
                let value = format!("{}.{signature}", self.forged.token);
                browser.set_cookie("better-auth.session_token", &value);
                browser.set_cookie(&multi_cookie(&self.forged), &value);
                (browser, own(&self.forged))
            }
            Caller::Bearer => {
                let person = person(self.server, &email);
                (self.bearing(&person.token), own(&person))
            }
            Caller::Guest => {
                let mut browser = Browser::new(self.server);
                enter(&mut browser);
                (browser, own(&self.victim))
            }
        }
    }

    fn bearing(&self, token: &str) -> Browser {
        let mut browser = Browser::new(self.server);
        browser.origin = None;
        browser.headers.push(("Authorization".into(), format!("Bearer {token}")));
        browser
    }

    fn things_of(&self, person: &Person) -> Things {
        Things {
            user_id: person.id.clone(),
            email: person.email.clone(),
            session_token: person.token.clone(),
            account_id: person.account_id.clone(),
            service_key: self.service_key.clone(),
            number: self.count,
        }
    }

    /// Everything that belongs to those whom nobody may change.
    fn bystanders(&self) -> String {
        let mut found = String::new();
        for person in [&self.victim, &self.expired, &self.revoked, &self.banned, &self.forged] {
            for (table, column) in [("users", "id"), ("accounts", "user_id")] {
                let sql = format!("SELECT * FROM {table} WHERE {column} = {}", quoted(&person.id));
                found.push_str(&format!("{:?}\n", self.server.database.rows(&sql)));
            }
        }
        for person in [&self.victim, &self.expired, &self.revoked, &self.banned, &self.forged] {
            found.push_str(&matrix_organizations::belongings(self.server, &person.id));
            found.push_str(&matrix_second_factors::belongings(self.server, &person.id));
        }
        for person in [&self.victim, &self.forged] {
            let sql = format!("SELECT * FROM sessions WHERE {} ORDER BY id", of(person));
            found.push_str(&format!("{:?}\n", self.server.database.rows(&sql)));
        }
        found
    }
}

const DAY: i64 = 24 * 3600 * 1000;

fn person(server: &Server, email: &str) -> Person {
    let mut browser = Browser::new(server);
    let made = browser.sign_up(email);
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("not text in {made}")).to_owned();
    let id = text(&made["user"]["id"]);
    let account_id =
        server.database.value(&format!("SELECT id FROM accounts WHERE user_id = {}", quoted(&id)));
    let account_id = account_id.expect("a sign-up makes an account");
    // Nobody knows what this key is.
    server.database.execute(&format!(
        "INSERT INTO api_keys (id, user_id, key_hash, start, enabled, rate_limit_enabled, request_count, created_at, \
         updated_at) VALUES ('key-{id}', '{id}', 'hash-{id}', '', TRUE, FALSE, 0, 1, 1)"
    ));
    matrix_second_factors::furnish(server, &id);
    Person { browser, id, email: email.to_owned(), token: text(&made["token"]), account_id }
}

fn of(person: &Person) -> String {
    format!("user_id = {}", quoted(&person.id))
}

fn multi_cookie(person: &Person) -> String {
    format!("better-auth.session_token_multi-{}", person.token.to_ascii_lowercase())
}

// ---- Ids: one's own, another's, and those that do not exist ----

/// Routes that take an id or a token and are judged by who the caller is. Others that take one open to whoever was
/// mailed it.
const NAMES_A_THING: [&str; 13] = [
    "/api/auth/api-key/create",
    "/api/auth/api-key/get",
    "/api/auth/api-key/update",
    "/api/auth/account-info",
    "/api/auth/delete-user",
    "/api/auth/delete-user/callback",
    "/api/auth/get-access-token",
    "/api/auth/multi-session/revoke",
    "/api/auth/multi-session/set-active",
    "/api/auth/refresh-token",
    "/api/auth/revoke-session",
    "/api/auth/unlink-account",
    "/api/gate/authorize",
];
/// A service key is the app's own: it reaches every owner.
const OPENS_TO_THE_APP: [&str; 2] = ["/api/credits/", "/api/billing/"];
/// So does the adapter of its Auth.js.
const OPENS_TO_ITS_ADAPTER: &str = "/api/internal/auth/";
const OPENS_TO_ITS_READER: [&str; 11] = [
    "/api/auth/callback/{provider}",
    "/api/auth/device/code",
    "/api/auth/device/token",
    "/api/auth/link-social",
    "/api/auth/magic-link/verify",
    "/api/auth/one-time-token/verify",
    "/api/auth/reset-password",
    "/api/auth/reset-password/{token}",
    "/api/auth/sign-in/social",
    "/api/auth/verify-email",
    "/magic-link",
];

/// Files that are the same for everybody.
const OPENS_TO_ALL: &str = "/assets/{file}";

/// A route that takes an id and is in neither list has no test below.
#[test]
fn every_route_that_takes_an_id_is_known() {
    let document = Program::in_new_folder().run(&["openapi"]).expect_done().json();
    let named: BTreeSet<&str> = document["paths"]
        .as_object()
        .expect("the document lists paths")
        .iter()
        .filter(|(path, item)| path.contains('{') || names_an_id(item))
        .filter(|(path, _)| !OPENS_TO_THE_APP.iter().any(|door| path.starts_with(door)))
        .filter(|(path, _)| !path.starts_with(OPENS_TO_ITS_ADAPTER))
        .map(|(path, _)| path.as_str())
        .collect();
    let known: BTreeSet<&str> = NAMES_A_THING
        .into_iter()
        .chain(matrix_organizations::NAMES_A_THING.iter().copied())
        .chain(matrix_second_factors::NAMES_A_THING.iter().copied())
        .chain(OPENS_TO_ITS_READER)
        .chain([OPENS_TO_ALL])
        .collect();
    assert_eq!(named, known);
}

fn names_an_id(item: &Value) -> bool {
    let is_id = |name: &str| {
        let name = name.to_ascii_lowercase();
        name == "id"
            || name.ends_with("_id")
            || name.ends_with("token")
            || name == "accountid"
            || name.ends_with("userid")
            || matrix_organizations::is_id(&name)
    };
    let operations = item.as_object().expect("a path lists methods").values();
    operations.into_iter().any(|operation| {
        let queries = operation["parameters"].as_array().into_iter().flatten();
        let members = &operation["requestBody"]["content"]["application/json"]["schema"]["properties"];
        let members = members.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        queries.filter_map(|query| query["name"].as_str()).chain(members).any(is_id)
    })
}

// ---- Service keys: each route against what a key is good for ----

/// By the columns: a key that was never made, one that was revoked, one for reading, one for writing, one for neither.
fn every_route_of_the_app_answers_every_key_as_its_scopes_say(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let owner = person(&server, "owner@example.com");
    let made = |scopes: &str| {
        let command = ["key", "create", "matrix", "--scopes", scopes, "--json"];
        let made = server.command(&command).expect_done().json();
        ["id", "key"].map(|name| made[name].as_str().expect("an id and a key").to_owned())
    };
    let [revoked_id, revoked] = made("credits:write");
    server.command(&["key", "revoke", &revoked_id]).expect_done();
    let never = format!("tg_sk_{}", "a".repeat(40));
    let keys = [
        never,
        revoked,
        made("credits:read")[1].clone(),
        made("credits:write")[1].clone(),
        made("gate,billing")[1].clone(),
    ];
    let mut number = 0;
    let [credits, billing] = OPENS_TO_THE_APP;
    // Whoever comes to the webhook without Stripe's signature is refused whatever key is shown.
    let with_key = |row: &&Row| {
        row.path.starts_with(credits) || (row.path.starts_with(billing) && !row.path.ends_with("/webhook"))
    };
    for row in ROWS.iter().filter(with_key) {
        let reads = row.method == "GET";
        let served =
            row.expected[CALLERS.iter().position(|caller| *caller == Caller::ServiceKey).expect("a column")];
        let expected = match row.path.starts_with(billing) {
            true => [401, 401, 403, 403, served],
            false => [401, 401, if reads { served } else { 403 }, served, 403],
        };
        for (key, expected) in keys.iter().zip(expected) {
            number += 1;
            let things = Things {
                user_id: owner.id.clone(),
                email: owner.email.clone(),
                session_token: owner.token.clone(),
                account_id: owner.account_id.clone(),
                service_key: String::new(),
                number,
            };
            let request = (row.request)(&things).header("Authorization", &format!("Bearer {key}"));
            let answer = request.send(server.address).expect("an answer");
            assert_eq!(answer.status, expected, "{} {} {number}: {}", row.method, row.path, answer.text());
        }
    }
}
on_both_engines!(every_route_of_the_app_answers_every_key_as_its_scopes_say);

fn revoking_by_token_ends_ones_own_session_only(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob) = (person(&server, "ada@example.com"), person(&server, "bob@example.com"));
    let mut second = Browser::new(&server);
    let second_token = second.sign_in("ada@example.com")["token"].as_str().expect("a token").to_owned();
    // The answer tells nothing, and nothing happens.
    for token in [ada.token.as_str(), "absent"] {
        bob.browser.post("/api/auth/revoke-session", json!({"token": token})).expect(200);
    }
    assert_eq!(ada.browser.session()["user"]["email"], "ada@example.com");
    ada.browser.post("/api/auth/revoke-session", json!({"token": second_token})).expect(200);
    assert_eq!(second.session(), Value::Null);
    assert_eq!(ada.browser.session()["user"]["email"], "ada@example.com");
    assert_eq!(bob.browser.session()["user"]["email"], "bob@example.com");
}
on_both_engines!(revoking_by_token_ends_ones_own_session_only);

fn unlinking_finds_ones_own_account_only(engine: Engine) {
    let server = Server::start(engine);
    let (ada, mut bob) = (person(&server, "ada@example.com"), person(&server, "bob@example.com"));
    let second = |person: &Person| {
        let id = format!("second-{}", person.id);
        server.database.execute(&format!(
            "INSERT INTO accounts (id, user_id, provider_id, account_id, created_at, updated_at) \
             VALUES ({}, {}, 'elsewhere', {}, 1, 1)",
            quoted(&id),
            quoted(&person.id),
            quoted(&id)
        ));
        id
    };
    let (adas, bobs) = (second(&ada), second(&bob));
    for id in [adas.as_str(), &ada.account_id, "absent"] {
        bob.browser
            .post("/api/auth/unlink-account", json!({"accountId": id}))
            .refused(400, "ACCOUNT_NOT_FOUND");
    }
    bob.browser.post("/api/auth/unlink-account", json!({"accountId": bobs})).expect(200);
    let count = |person: &Person| {
        server
            .database
            .integer(&format!("SELECT COUNT(*) FROM accounts WHERE user_id = {}", quoted(&person.id)))
    };
    assert_eq!((count(&ada), count(&bob)), (2, 1));
}
on_both_engines!(unlinking_finds_ones_own_account_only);

fn a_deletion_token_deletes_its_own_user_only(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\ndelete_needs_mail = true\n");
    let (mut ada, mut bob) = (person(&server, "ada@example.com"), person(&server, "bob@example.com"));
    let callback = "/api/auth/delete-user/callback?token=";
    let others = mailed_token(&server, &mut ada);
    bob.browser.post("/api/auth/delete-user", json!({"token": others})).refused(404, "INVALID_TOKEN");
    let others = mailed_token(&server, &mut ada);
    bob.browser.get(&format!("{callback}{others}")).refused(404, "INVALID_TOKEN");
    bob.browser.post("/api/auth/delete-user", json!({"token": "absent"})).refused(404, "INVALID_TOKEN");
    bob.browser.get(&format!("{callback}absent")).refused(404, "INVALID_TOKEN");
    // Without a session the link is no key either.
    let own = mailed_token(&server, &mut ada);
    Browser::new(&server).get(&format!("{callback}{own}")).refused(404, "FAILED_TO_GET_USER_INFO");
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 2);
    ada.browser.get(&format!("{callback}{own}")).expect(200);
    let own = mailed_token(&server, &mut bob);
    bob.browser.post("/api/auth/delete-user", json!({"token": own})).expect(200);
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM users"), 0);
}
on_both_engines!(a_deletion_token_deletes_its_own_user_only);

fn mailed_token(server: &Server, person: &mut Person) -> String {
    person.browser.post("/api/auth/delete-user", json!({})).expect(200);
    let link = server.mail.take(&person.email, std::time::Duration::from_secs(10)).link();
    let (_, rest) = link.split_once("token=").expect("the link carries a token");
    rest.split('&').next().unwrap_or_default().to_owned()
}

fn a_browsers_sessions_are_chosen_by_its_own_cookies_only(engine: Engine) {
    let server = Server::start(engine);
    let (mut ada, mut bob) = (person(&server, "ada@example.com"), person(&server, "bob@example.com"));
    let signed = bob.browser.cookie("better-auth.session_token").expect("a session cookie").to_owned();
    for path in ["/api/auth/multi-session/set-active", "/api/auth/multi-session/revoke"] {
        for token in [ada.token.as_str(), "absent"] {
            bob.browser.post(path, json!({"sessionToken": token})).refused(401, "INVALID_SESSION_TOKEN");
        }
        // A cookie of the right name with a token of another session in it.
        let mut crossed = bob.browser.clone();
        crossed.set_cookie(&multi_cookie(&ada), &signed);
        let response = crossed.post(path, json!({"sessionToken": ada.token}));
        assert!(!response.text().contains("ada@example.com"), "{}", response.text());
    }
    assert_eq!(ada.browser.session()["user"]["email"], "ada@example.com");
}
on_both_engines!(a_browsers_sessions_are_chosen_by_its_own_cookies_only);

// ---- The pages of `dev` ----

const DEV_ROUTES: [(&str, u16); 6] = [
    ("/dev", 200),
    ("/dev/start", 307),
    ("/dev/mail", 200),
    ("/dev/mail.json", 200),
    ("/dev/mail/{id}/html", 404),
    ("/dev/assets/{file}", 404),
];

#[test]
fn the_pages_of_dev_answer_this_machine_only() {
    let program = Program::in_new_folder();
    let dev = program.start(&["dev", "--listen", "127.0.0.1:0"]).expect("dev starts");
    let port = dev.address.port();
    let document = Request::get("/openapi.json").send(dev.address).expect("an answer").expect(200).json();
    let serve = Program::in_new_folder().run(&["openapi"]).expect_done().json();
    let only_dev: BTreeSet<String> = &documented(&document) - &documented(&serve);
    let rows: BTreeSet<String> = DEV_ROUTES.iter().map(|(path, _)| format!("GET {path}")).collect();
    assert_eq!(only_dev, rows);
    let ask = |path: &str, host: &str, header: Option<(&str, &str)>| {
        let path = path.replace("{id}", "absent").replace("{file}", "absent");
        let mut request = Request::get(&path).header("Host", host);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.send(dev.address).expect("an answer").status
    };
    for (path, status) in DEV_ROUTES {
        assert_eq!(ask(path, &format!("localhost:{port}"), None), status, "{path}");
        assert_eq!(ask(path, &format!("evil.example:{port}"), None), 403, "{path}");
        for (name, value) in
            [("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1"), ("Via", "1.1 proxy")]
        {
            assert_eq!(ask(path, &format!("localhost:{port}"), Some((name, value))), 403, "{path} {name}");
        }
    }
}
