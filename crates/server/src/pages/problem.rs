//! What a person is told when a page cannot do what it is for.

use super::Pages;
use super::door::Answer;
use axum::body::Body;
use http::{Response, StatusCode};
use serde::Serialize;

#[derive(Serialize)]
struct View<'a> {
    app_name: &'a str,
    heading: &'a str,
    message: &'a str,
}

pub fn page(pages: &Pages, status: StatusCode, message: &str) -> Response<Body> {
    let heading = match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::FORBIDDEN => "Not from here",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests",
        StatusCode::SERVICE_UNAVAILABLE => "Not available just now",
        _ => "That did not work",
    };
    let app_name = &pages.app.settings.app_name;
    let mut response = pages.views.page("problem.html", &View { app_name, heading, message });
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    response
}

/// A refusal of the door's that leaves nothing to show.
pub fn of(pages: &Pages, answer: &Answer) -> Response<Body> {
    page(pages, answer.status, &sentence(answer))
}

/// What a refusal of the door's means to a person, and what to do next.
pub fn sentence(answer: &Answer) -> String {
    let told = match answer.code() {
        "INVALID_EMAIL_OR_PASSWORD" => "The address or the password is wrong. Check both and try again.",
        "INVALID_EMAIL" => "This is not an e-mail address. Correct it and try again.",
        "EMAIL_NOT_VERIFIED" => "Confirm your address first: open the link that we have just mailed to you.",
        "INVALID_CODE" => {
            "This code is not the one. Wait for the next one, or check the mail, and try again."
        }
        "INVALID_BACKUP_CODE" => "This is none of your backup codes, or it was used before. Try another one.",
        "BACKUP_CODES_NOT_ENABLED" => "There are no backup codes for this account. Use a mailed code.",
        "TOTP_NOT_ENABLED" => "There is no authenticator app for this account. Use a mailed code.",
        "OTP_HAS_EXPIRED" => "No mailed code is waiting, or it is too old. Ask for a new one.",
        "OTP_NOT_CONFIGURED" => "This service sends no mail. Use your app or a backup code.",
        "TOO_MANY_ATTEMPTS_REQUEST_NEW_CODE" => "Too many wrong codes. Begin again, or ask for a new code.",
        "ACCOUNT_TEMPORARILY_LOCKED" => {
            "Too many wrong codes for this account. Wait a quarter of an hour, then sign in again."
        }
        "INVALID_TWO_FACTOR_COOKIE" => "That took too long, or was finished elsewhere. Sign in again.",
        "PASSWORD_TOO_SHORT" => "This password is too short. Choose a longer one.",
        "PASSWORD_TOO_LONG" => "This password is too long. Choose a shorter one.",
        "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL" => {
            "There is an account with this address already. Sign in, or use another address."
        }
        "EMAIL_PASSWORD_DISABLED" => "Signing in with a password is switched off here.",
        "EMAIL_PASSWORD_SIGN_UP_DISABLED" => {
            "New accounts cannot be made here. Ask whoever runs this service."
        }
        "INVALID_ORIGIN" | "MISSING_OR_NULL_ORIGIN" | "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED" => {
            "This request came from another site, so nothing was done. Open this page anew and try again."
        }
        "ALREADY_SUBSCRIBED" => "You have a plan already. Change it under “Plan, cards and invoices”.",
        "VALIDATION_ERROR" => "That cannot be bought like this. Check what you have written and try again.",
        _ => match answer.status {
            StatusCode::TOO_MANY_REQUESTS => {
                "That was too often in a short time. Wait a minute and try again."
            }
            StatusCode::SERVICE_UNAVAILABLE if answer.message().is_empty() => {
                "The service does not answer just now. Try again in a moment."
            }
            StatusCode::INTERNAL_SERVER_ERROR => "Something went wrong on our side. Try again in a moment.",
            _ if answer.message().is_empty() => "That did not work. Try again in a moment.",
            _ => answer.message(),
        },
    };
    told.to_owned()
}
