//! The door for the adapter of an app with Auth.js, `/api/internal/auth`.
//!
//! The adapter turns 404 into "there is none" only where the code is `not_found`; so what is merely no route, or a door that is
//! shut, says something else, and a wrong address is a mistake that is seen and not a deployment that knows nobody.

mod accounts;
mod authenticators;
mod given;
mod refusal;
mod sessions;
mod users;
mod verification;

use crate::app::App;
use crate::openapi::{Auth, Door, Field, Kind, RouteDoc};
use crate::service::{body, context_of, json_response};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{any, get, patch, post};
use given::Given;
use http::{HeaderMap, HeaderName};
use kernel::Millis;
use kernel::secret::same_secret;
use refusal::Refusal;
use serde_json::Value;
use std::sync::Arc;

const BASE: &str = "/api/internal/auth";
const SECRET: HeaderName = HeaderName::from_static("x-adapter-secret");
const LARGEST_BODY: usize = 64 * 1024;

const fn route(doc: RouteDoc) -> RouteDoc {
    doc.door(Door::Adapter).auth(Auth::AdapterSecret)
}

const fn method(method: &'static str, path: &'static str, summary: &'static str) -> RouteDoc {
    route(RouteDoc::new(method, path, summary))
}

const ACCOUNT: &[Field] = &[Field::text("provider"), Field::text("providerAccountId")];
const TOKEN: Field = Field::text("sessionToken");
const USER: &[Field] = &[
    Field::text("id").optional().note("Kept if it is free"),
    Field::text("name").optional(),
    Field::text("email").optional().note("Unique, whatever its case"),
    Field::text("emailVerified").optional().note("RFC 3339"),
    Field::text("image").optional(),
];
const NOT_FOUND: (u16, &str) = (404, "`not_found`");
const NO_USER: (u16, &str) = (404, "`user_not_found`");

pub const ROUTES: &[RouteDoc] = &[
    method("POST", "/api/internal/auth/users", "createUser")
        .body(USER)
        .answers(&[(201, "The user, with whatever else was sent"), (409, "`email_taken` or `user_exists`")]),
    method("GET", "/api/internal/auth/users/{id}", "getUser").answers(&[(200, "The user"), NOT_FOUND]),
    method("GET", "/api/internal/auth/users/by-email", "getUserByEmail")
        .query(&[Field::text("email")])
        .answers(&[(200, "The user"), NOT_FOUND]),
    method("GET", "/api/internal/auth/users/by-account", "getUserByAccount")
        .query(ACCOUNT)
        .answers(&[(200, "The user"), NOT_FOUND]),
    method("PATCH", "/api/internal/auth/users/{id}", "updateUser")
        .body(USER)
        .notes("What is not named stays; `null` clears.")
        .answers(&[(200, "The user"), NOT_FOUND, (409, "`email_taken`")]),
    method("DELETE", "/api/internal/auth/users/{id}", "deleteUser")
        .answers(&[(200, "The user as it was"), NOT_FOUND]),
    method("POST", "/api/internal/auth/accounts", "linkAccount")
        .body(&[
            Field::text("userId"),
            Field::text("type"),
            Field::text("provider"),
            Field::text("providerAccountId"),
            Field::text("access_token").optional().note("Kept sealed, as is whatever else is sent"),
        ])
        .answers(&[(201, "The account as it was sent"), NO_USER, (409, "`account_exists`")]),
    method("GET", "/api/internal/auth/accounts", "getAccount")
        .query(ACCOUNT)
        .answers(&[(200, "The account"), NOT_FOUND]),
    method("DELETE", "/api/internal/auth/accounts", "unlinkAccount")
        .query(ACCOUNT)
        .answers(&[(200, "The account as it was"), NOT_FOUND]),
    method("POST", "/api/internal/auth/sessions", "createSession")
        .body(&[TOKEN, Field::text("userId"), Field::text("expires").note("RFC 3339")])
        .answers(&[(201, "The session"), (403, "`user_banned`"), NO_USER, (409, "`session_exists`")]),
    method("POST", "/api/internal/auth/sessions/lookup", "getSessionAndUser")
        .body(&[TOKEN])
        .answers(&[(200, "`session` and `user`; the session may be over"), NOT_FOUND]),
    method("PATCH", "/api/internal/auth/sessions", "updateSession")
        .body(&[TOKEN, Field::text("expires").optional(), Field::text("userId").optional()])
        .answers(&[(200, "The session"), (403, "`user_banned`"), NOT_FOUND]),
    method("POST", "/api/internal/auth/sessions/delete", "deleteSession")
        .body(&[TOKEN])
        .answers(&[(200, "The session as it was"), NOT_FOUND]),
    method("POST", "/api/internal/auth/verification-tokens", "createVerificationToken")
        .body(&[Field::text("identifier"), Field::text("token"), Field::text("expires")])
        .answers(&[(201, "The same"), (409, "`token_exists`")]),
    method("POST", "/api/internal/auth/verification-tokens/use", "useVerificationToken")
        .body(&[Field::text("identifier").optional(), Field::text("token")])
        .notes("Uses the token up, also one that is over: Auth.js judges that.")
        .answers(&[(200, "`identifier`, `token` and `expires`, once"), NOT_FOUND]),
    method("POST", "/api/internal/auth/authenticators", "createAuthenticator")
        .body(&[
            Field::text("credentialID"),
            Field::text("userId"),
            Field::text("providerAccountId"),
            Field::text("credentialPublicKey"),
            Field::integer("counter"),
            Field::boolean("credentialBackedUp"),
            Field::text("credentialDeviceType"),
            Field::new("transports", Kind::Text).optional(),
        ])
        .answers(&[(201, "The same"), NO_USER, (409, "`authenticator_exists`")]),
    method("GET", "/api/internal/auth/authenticators", "listAuthenticatorsByUserId")
        .query(&[Field::text("userId")])
        .answers(&[(200, "A list, empty for an unknown user")]),
    method("GET", "/api/internal/auth/authenticators/by-credential", "getAuthenticator")
        .query(&[Field::text("credentialID")])
        .answers(&[(200, "The authenticator"), NOT_FOUND]),
    method("PATCH", "/api/internal/auth/authenticators/counter", "updateAuthenticatorCounter")
        .body(&[Field::text("credentialID"), Field::integer("counter")])
        .answers(&[(200, "The authenticator"), NOT_FOUND]),
];

pub fn router(app: &Arc<App>) -> Router {
    let path = |rest: &str| format!("{BASE}{rest}");
    Router::new()
        .route(&path("/users"), post(|app, request| serve(app, request, users::create)))
        .route(&path("/users/by-email"), get(|app, request| serve(app, request, users::by_email)))
        .route(&path("/users/by-account"), get(|app, request| serve(app, request, users::by_account)))
        .route(
            &path("/users/{id}"),
            get(|app, request| serve(app, request, users::by_id))
                .patch(|app, request| serve(app, request, users::update))
                .delete(|app, request| serve(app, request, users::delete)),
        )
        .route(
            &path("/accounts"),
            post(|app, request| serve(app, request, accounts::link))
                .get(|app, request| serve(app, request, accounts::find))
                .delete(|app, request| serve(app, request, accounts::unlink)),
        )
        .route(
            &path("/sessions"),
            post(|app, request| serve(app, request, sessions::create))
                .patch(|app, request| serve(app, request, sessions::update)),
        )
        .route(&path("/sessions/lookup"), post(|app, request| serve(app, request, sessions::look)))
        .route(&path("/sessions/delete"), post(|app, request| serve(app, request, sessions::delete)))
        .route(&path("/verification-tokens"), post(|app, request| serve(app, request, verification::create)))
        .route(
            &path("/verification-tokens/use"),
            post(|app, request| serve(app, request, verification::consume)),
        )
        .route(
            &path("/authenticators"),
            post(|app, request| serve(app, request, authenticators::create))
                .get(|app, request| serve(app, request, authenticators::list)),
        )
        .route(
            &path("/authenticators/by-credential"),
            get(|app, request| serve(app, request, authenticators::find)),
        )
        .route(
            &path("/authenticators/counter"),
            patch(|app, request| serve(app, request, authenticators::count)),
        )
        .route(BASE, any(|app, request| serve(app, request, unknown)))
        .route(&path("/"), any(|app, request| serve(app, request, unknown)))
        .route(&path("/{*rest}"), any(|app, request| serve(app, request, unknown)))
        .method_not_allowed_fallback(|app, request| serve(app, request, not_allowed))
        .with_state(app.clone())
}

/// A request that has shown a secret.
struct Ask {
    app: Arc<App>,
    uri: http::Uri,
    body: Bytes,
    now: Millis,
}

/// Status and body.
type Answered = Result<(u16, Value), Refusal>;

async fn serve<F, W>(State(app): State<Arc<App>>, request: Request, run: F) -> Response
where
    F: FnOnce(Ask) -> W,
    W: Future<Output = Answered>,
{
    let context = context_of(&request);
    let answered = async {
        admit(&app, request.headers())?;
        let (head, body) = request.into_parts();
        let body = match head.method {
            http::Method::GET | http::Method::HEAD | http::Method::DELETE => Bytes::new(),
            _ => body::read(&app, &head.headers, body, LARGEST_BODY).await?,
        };
        run(Ask { app, uri: head.uri, body, now: context.now }).await
    };
    match answered.await {
        Ok((status, value)) => json_response(status, value.to_string()),
        Err(refusal) => refusal.response(&context.request_id),
    }
}

/// Every secret is compared, so that the time of an answer does not tell which one comes close.
fn admit(app: &App, headers: &HeaderMap) -> Result<(), Refusal> {
    let secrets = app.settings.authjs.adapter_secrets.as_ref().ok_or(Refusal::Shut)?;
    let mut given = headers.get_all(SECRET).iter();
    let (Some(shown), None) = (given.next(), given.next()) else { return Err(Refusal::WrongSecret) };
    let same = secrets
        .iter()
        .fold(false, |same, secret| same | same_secret(secret.expose().as_bytes(), shown.as_bytes()));
    if same { Ok(()) } else { Err(Refusal::WrongSecret) }
}

async fn unknown(_: Ask) -> Answered {
    Err(Refusal::NoRoute)
}

async fn not_allowed(_: Ask) -> Answered {
    Err(Refusal::NoMethod)
}

impl Ask {
    fn given(&self) -> Result<Given, Refusal> {
        Given::read(&self.body)
    }
}
