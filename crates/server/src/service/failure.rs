//! Errors of the server doors: `{"error_code","message","detail"}` and the members that an error documents.

use crate::edge::{self, Dialect, RequestId};
use axum::body::Body;
use credits::Refusal;
use gate::allowances::{Standing, Whose};
use gate::authorize::Denied;
use gate::rules::Doubt;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use identity::authjs::token as authjs;
use identity::service_keys::Scope;
use kernel::{Millis, time};
use serde_json::{Map, Value, json};

/// How long a caller should stay away when the database cannot answer.
const UNAVAILABLE_SECONDS: i64 = 1;

/// Why a request at a server door ends without what it asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error(
        "the service key is missing or not valid; send the one that `tollgate key create` printed as `Authorization: Bearer`"
    )]
    InvalidServiceKey,
    #[error("the service key lacks the scope {}; use one that was made with it", .0.name())]
    LacksScope(Scope),
    /// No session, and nothing that stands in for one.
    #[error("nobody is signed in: the session is missing, over or not valid")]
    Unauthenticated,
    /// The same where sessions are an app's; with what is wrong with the one that was shown.
    #[error("{}", signed_out(*.0))]
    SignedOutOfApp(Option<authjs::Refusal>),
    /// The same where a guest would do.
    #[error(
        "nobody is signed in, and there is no guest: the guest cookie is missing, over or not valid; POST /api/guest makes one"
    )]
    NoGuest,
    #[error("{}", denial(*.0))]
    Denied(Denied),
    #[error("the plan does not include `{feature}`; one that does turns it on at once")]
    NotEntitled { feature: String, buy_url: Option<String> },
    /// A proxy asks about a request that a backend might read in another way.
    #[error("the request cannot be judged: {0}")]
    Doubtful(&'static str),
    #[error("there is no such {what}")]
    NotFound { what: &'static str, field: Option<String> },
    #[error("the path has no such method; the header `Allow` names those it has")]
    MethodNotAllowed,
    #[error("the body must be JSON in UTF-8, said by one `Content-Type: application/json`")]
    UnsupportedMediaType,
    /// The body could not be read.
    #[error("{}", .0.message())]
    Edge(edge::Refusal),
    #[error("{field}: {message}")]
    Invalid { field: String, message: String },
    #[error("not enough credits: {required} of {unit} are needed, {available} are available")]
    Insufficient { unit: String, balance: i64, available: i64, required: i64, buy_url: Option<String> },
    #[error("{message}")]
    Conflict { message: String, refundable: Option<i64> },
    #[error(
        "the idempotency key was used for another request: {field} differs; another request needs a key of its own"
    )]
    KeyMismatch { field: String },
    #[error("a limit is reached; it begins anew at {}", .resets_at.iso())]
    LimitReached { limit: Value, resets_at: Millis, seconds: i64 },
    /// A guest, or the address it comes from, has done all that is allowed for now.
    #[error("{}", used_up(*.whose))]
    GuestLimitReached { whose: Whose, standing: Standing, seconds: i64 },
    #[error("this API key was used too often, try again later")]
    KeyTooOften { seconds: i64 },
    #[error("the uses of this API key are used up")]
    KeyUsedUp { seconds: i64 },
    #[error("too many requests from this address, try again later")]
    RateLimited { seconds: i64 },
    #[error("the request comes from a page that is not trusted; its origin has to be one of trusted_origins")]
    ForeignOrigin,
    /// A delivery of Stripe's that cannot be believed.
    #[error("{0}")]
    Unsigned(String),
    #[error("billing is not configured; set stripe.secret_key")]
    BillingOff,
    /// The buyer's card says no.
    #[error("{0}; nothing was changed, another card may do")]
    PaymentDeclined(String),
    /// Stripe is not there, or too slow.
    #[error("Stripe does not answer, try again soon")]
    StripeSilent,
    /// Stripe understood the call and refused it, or answered what nobody understands.
    #[error("Stripe refused: {0}")]
    StripeRefused(String),
    #[error("{0}")]
    Store(#[from] store::Error),
}

fn used_up(whose: Whose) -> &'static str {
    match whose {
        Whose::Guest => "this guest's allowance is used up",
        Whose::Address => "the allowance of guests at this client's address is used up",
    }
}

fn signed_out(refusal: Option<authjs::Refusal>) -> String {
    let nobody = "nobody is signed in: the app's session is missing, over, or its user is no more";
    refusal.map_or_else(|| nobody.to_owned(), |refusal| refusal.to_string())
}

fn denial(denied: Denied) -> &'static str {
    match denied {
        Denied::Banned => "this user is banned",
        Denied::OtherUser => "the session is not that of the user who is named",
        Denied::LacksRole => "the user does not have the role that this needs",
        Denied::LacksPermission => "the API key does not permit this",
        Denied::ForeignPayer => "the user may not spend what belongs to the payer",
    }
}

impl From<Doubt> for Failure {
    fn from(doubt: Doubt) -> Failure {
        Failure::Doubtful(doubt.reason())
    }
}

impl Failure {
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Failure {
        Failure::Invalid { field: field.into(), message: message.into() }
    }

    pub fn missing(field: impl Into<String>) -> Failure {
        Failure::invalid(field, "it is required")
    }

    /// What the ledger said. Fields are named from `path` on: empty, or `debits[3].`.
    pub fn refused(refusal: Refusal, path: &str, settings: &credits::Settings, now: Millis) -> Failure {
        match refusal {
            Refusal::UnknownOwner { field } => {
                Failure::NotFound { what: "owner", field: Some(format!("{path}{field}")) }
            }
            Refusal::NotFound { what } => Failure::NotFound { what, field: None },
            Refusal::Insufficient { unit, balance, available, required } => Failure::Insufficient {
                unit,
                balance,
                available,
                required,
                buy_url: settings.buy_url.clone(),
            },
            Refusal::Conflict { message, refundable } => Failure::Conflict { message, refundable },
            Refusal::KeyMismatch { field } => Failure::KeyMismatch { field: format!("{path}{field}") },
            Refusal::LimitReached { scope, owner_id, period, max, used, resets_at } => {
                Failure::LimitReached {
                    limit: json!({ "scope": scope, "id": owner_id, "window": period.name(), "max": max, "used": used }),
                    resets_at,
                    seconds: (resets_at.0 - now.0 + time::SECOND - 1) / time::SECOND,
                }
            }
            Refusal::Invalid { field, message } => {
                Failure::Invalid { field: format!("{path}{field}"), message }
            }
        }
    }

    /// What came of a call to Stripe. Its words are for the log as well: an operator has to act on a refusal.
    pub fn of_billing(error: billing::desk::Error) -> Failure {
        use billing::Problem;
        use billing::desk::Error;
        use billing::stripe::Trouble;
        match error {
            Error::Problem(Problem::Store(error)) => Failure::Store(error),
            Error::Stripe(Trouble::Unavailable(reason)) => {
                tracing::warn!(reason, "Stripe does not answer");
                Failure::StripeSilent
            }
            Error::Stripe(trouble) => {
                tracing::error!(%trouble, "a call to Stripe failed");
                Failure::StripeRefused(trouble.to_string())
            }
            Error::Problem(problem) => Failure::Store(store::Error::Fault(problem.to_string())),
        }
    }

    /// Status and code.
    pub fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Failure::InvalidServiceKey => (StatusCode::UNAUTHORIZED, "invalid_service_key"),
            Failure::LacksScope(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Failure::Unauthenticated | Failure::NoGuest => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Failure::SignedOutOfApp(refusal) => {
                (StatusCode::UNAUTHORIZED, refusal.map_or("unauthenticated", authjs::Refusal::code))
            }
            Failure::Denied(Denied::Banned) => (StatusCode::FORBIDDEN, "user_banned"),
            Failure::Denied(Denied::OtherUser) => (StatusCode::FORBIDDEN, "user_mismatch"),
            Failure::Denied(Denied::LacksRole | Denied::LacksPermission | Denied::ForeignPayer) => {
                (StatusCode::FORBIDDEN, "forbidden")
            }
            Failure::Doubtful(_) | Failure::NotEntitled { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            Failure::NotFound { .. } => (StatusCode::NOT_FOUND, "not_found"),
            Failure::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Failure::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Failure::Edge(refusal) => (refusal.status(), refusal.code(Dialect::Tollgate)),
            Failure::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request"),
            Failure::Insufficient { .. } => (StatusCode::PAYMENT_REQUIRED, "insufficient_credits"),
            Failure::Conflict { .. } => (StatusCode::CONFLICT, "conflict"),
            Failure::KeyMismatch { .. } => (StatusCode::CONFLICT, "idempotency_mismatch"),
            Failure::LimitReached { .. } => (StatusCode::TOO_MANY_REQUESTS, "limit_reached"),
            Failure::GuestLimitReached { .. } => (StatusCode::TOO_MANY_REQUESTS, "guest_limit_reached"),
            Failure::RateLimited { .. } | Failure::KeyTooOften { .. } | Failure::KeyUsedUp { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limited")
            }
            Failure::ForeignOrigin => (StatusCode::FORBIDDEN, "forbidden"),
            Failure::Unsigned(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
            Failure::BillingOff => (StatusCode::NOT_FOUND, "not_found"),
            Failure::PaymentDeclined(_) => (StatusCode::PAYMENT_REQUIRED, "payment_declined"),
            Failure::StripeSilent => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            Failure::StripeRefused(_) => (StatusCode::BAD_GATEWAY, "unavailable"),
            Failure::Store(error) if error.is_unavailable() => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            Failure::Store(store::Error::Unstorable) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid_request"),
            Failure::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// The body of the answer, or the `error` of an item in a batch.
    pub fn body(&self, request_id: &RequestId) -> Value {
        let (status, code) = self.parts();
        let message = match self {
            Failure::Store(error) if error.is_unavailable() => {
                "the database does not answer, try again soon".into()
            }
            Failure::Store(error @ store::Error::Unstorable) => error.to_string(),
            // What went wrong is for the log; the id leads there.
            Failure::Store(_) => "something went wrong on our side".into(),
            other => other.to_string(),
        };
        let detail = (status == StatusCode::INTERNAL_SERVER_ERROR).then(|| request_id.as_str());
        let mut body = Map::new();
        body.insert("error_code".into(), code.into());
        body.insert("message".into(), message.into());
        body.insert("detail".into(), detail.into());
        let mut member = |name: &str, value: Value| body.insert(name.into(), value);
        match self {
            Failure::Invalid { field, .. }
            | Failure::KeyMismatch { field }
            | Failure::NotFound { field: Some(field), .. } => {
                member("field", field.as_str().into());
            }
            Failure::Insufficient { unit, balance, available, required, buy_url } => {
                member("balance", (*balance).into());
                member("available", (*available).into());
                member("required", (*required).into());
                member("unit", unit.as_str().into());
                member("buy_url", buy_url.as_deref().into());
            }
            Failure::NotEntitled { feature, buy_url } => {
                member("detail", feature.as_str().into());
                member("buy_url", buy_url.as_deref().into());
            }
            Failure::Conflict { refundable: Some(refundable), .. } => {
                member("refundable", (*refundable).into());
            }
            Failure::LimitReached { limit, resets_at, .. } => {
                member("limit", limit.clone());
                member("resets_at", resets_at.iso().into());
            }
            Failure::GuestLimitReached { standing, .. } => {
                member("action", standing.action.as_str().into());
                member("limit", standing.limit.into());
                member("resets_at", standing.resets_at.map(Millis::iso).into());
            }
            _ => {}
        }
        Value::Object(body)
    }

    /// The whole answer. Faults of ours are logged here, and only here.
    pub fn response(self, request_id: &RequestId) -> Response<Body> {
        if let Failure::Store(error) = &self
            && !matches!(error, store::Error::Unstorable)
        {
            let request_id = request_id.as_str();
            match error.is_unavailable() {
                true => tracing::warn!(%error, request_id, "the database does not answer"),
                false => tracing::error!(%error, request_id, "a request failed"),
            }
        }
        if let Failure::Edge(refusal) = self {
            return refusal.response(Dialect::Tollgate);
        }
        let mut response = Response::new(Body::from(self.body(request_id).to_string()));
        *response.status_mut() = self.parts().0;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match &self {
            Failure::InvalidServiceKey => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Failure::SignedOutOfApp(_) => {
                let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            Failure::LimitReached { seconds, .. }
            | Failure::GuestLimitReached { seconds, .. }
            | Failure::KeyTooOften { seconds }
            | Failure::KeyUsedUp { seconds }
            | Failure::RateLimited { seconds } => {
                headers.insert(RETRY_AFTER, HeaderValue::from((*seconds).max(1)));
            }
            Failure::StripeSilent => {
                headers.insert(RETRY_AFTER, HeaderValue::from(UNAVAILABLE_SECONDS));
            }
            Failure::Store(error) if error.is_unavailable() => {
                headers.insert(RETRY_AFTER, HeaderValue::from(UNAVAILABLE_SECONDS));
            }
            _ => {}
        }
        response
    }
}
