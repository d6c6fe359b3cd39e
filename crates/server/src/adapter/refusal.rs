//! How this door says no. Nothing of what was sent is repeated.

use crate::edge::RequestId;
use crate::service::{Failure, json_response};
use axum::response::Response;
use serde_json::json;

#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("this door is shut: there are no authjs.adapter_secrets")]
    Shut,
    #[error(
        "the adapter's secret is missing or not valid; send one of authjs.adapter_secrets as `X-Adapter-Secret`"
    )]
    WrongSecret,
    #[error("there is no such route; check the adapter's base URL, which ends with /api/internal/auth")]
    NoRoute,
    #[error("the path has no such method")]
    NoMethod,
    #[error("there is none")]
    NotFound,
    #[error("there is no such user")]
    UserNotFound,
    #[error("another user has this e-mail address")]
    EmailTaken,
    #[error("the id is, or was, another user's")]
    UserExists,
    #[error("this account at the provider is linked already")]
    AccountExists,
    #[error("there is a session with this token already")]
    SessionExists,
    #[error("this identifier has this token already")]
    TokenExists,
    #[error("there is an authenticator with this credential already")]
    AuthenticatorExists,
    #[error("this user is banned, and no session begins; `tollgate user unban` lifts the ban")]
    Banned,
    #[error("{0}")]
    Common(#[from] Failure),
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Refusal {
        Refusal::Common(Failure::Store(error))
    }
}

impl Refusal {
    pub(super) fn invalid(field: &str, message: &str) -> Refusal {
        Refusal::Common(Failure::invalid(field, message))
    }

    fn parts(&self) -> (u16, &'static str) {
        match self {
            Refusal::Shut => (404, "adapter_off"),
            Refusal::WrongSecret => (401, "invalid_adapter_secret"),
            Refusal::NoRoute => (404, "no_such_route"),
            Refusal::NoMethod => (405, "method_not_allowed"),
            Refusal::NotFound => (404, "not_found"),
            Refusal::UserNotFound => (404, "user_not_found"),
            Refusal::EmailTaken => (409, "email_taken"),
            Refusal::UserExists => (409, "user_exists"),
            Refusal::AccountExists => (409, "account_exists"),
            Refusal::SessionExists => (409, "session_exists"),
            Refusal::TokenExists => (409, "token_exists"),
            Refusal::AuthenticatorExists => (409, "authenticator_exists"),
            Refusal::Banned => (403, "user_banned"),
            Refusal::Common(_) => (422, "validation_error"),
        }
    }

    pub(super) fn response(self, request_id: &RequestId) -> Response {
        let (status, code) = self.parts();
        let body = match self {
            // The names of members are the adapter's own; what a parser says may repeat what it read.
            Refusal::Common(Failure::Invalid { field, message }) => {
                let message =
                    if field == "body" { "the body must be a JSON object".to_owned() } else { message };
                json!({ "error_code": code, "message": format!("{field}: {message}"), "detail": null, "field": field })
            }
            Refusal::Common(failure) => return failure.response(request_id),
            refusal => json!({ "error_code": code, "message": refusal.to_string(), "detail": null }),
        };
        json_response(status, body.to_string())
    }
}
