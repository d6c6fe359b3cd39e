//! Redirect targets in bodies and queries: judged on every change before its body is validated, and on every link.

use super::error::{Code, Failure};
use super::fields::is_truthy;
use http::StatusCode;
use kernel::TrustedOrigins;
use kernel::redirect::{Target, judge};
use serde_json::Value;

const NOT_A_STRING: [&str; 4] = [
    "Invalid callbackURL: expected a string",
    "Invalid redirectURL: expected a string",
    "Invalid errorCallbackURL: expected a string",
    "Invalid newUserCallbackURL: expected a string",
];

/// Judges the targets of a change. What is empty counts as absent.
pub fn check_change(
    trusted: &TrustedOrigins,
    body: Option<&Value>,
    query: &[(String, String)],
) -> Result<(), Failure> {
    let member = |name: &str| body.and_then(|body| body.get(name)).filter(|value| is_truthy(value));
    let from_query = || -> Result<Option<Value>, Failure> {
        let mut values = query.iter().filter(|(key, _)| key == "callbackURL");
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Failure::Message(StatusCode::BAD_REQUEST, NOT_A_STRING[0])),
            (found, None) => Ok(found.map(|(_, value)| Value::String(value.clone())).filter(is_truthy)),
        }
    };
    let query_callback = from_query()?;
    let callback = member("callbackURL").or(query_callback.as_ref());
    let targets = [
        (callback, Code::InvalidCallbackUrl),
        (member("redirectTo"), Code::InvalidRedirectUrl),
        (member("errorCallbackURL"), Code::InvalidErrorCallbackUrl),
        (member("newUserCallbackURL"), Code::InvalidNewUserCallbackUrl),
    ];
    for ((value, code), message) in targets.into_iter().zip(NOT_A_STRING) {
        match value {
            None => {}
            Some(Value::String(text)) if judge(trusted, text).is_some() => {}
            Some(Value::String(_)) => return Err(code.into()),
            Some(_) => return Err(Failure::Message(StatusCode::BAD_REQUEST, message)),
        }
    }
    Ok(())
}

/// Judges the target of a link. All of them, should somebody have repeated the parameter.
pub fn check_link(trusted: &TrustedOrigins, query: &[(String, String)]) -> Result<(), Failure> {
    let mut targets = query.iter().filter(|(key, value)| key == "callbackURL" && !value.is_empty());
    if targets.all(|(_, value)| judge(trusted, value).is_some()) {
        Ok(())
    } else {
        Err(Code::InvalidCallbackUrl.into())
    }
}

/// The target again, for an endpoint that sends people there; it passed before, so this only parses.
pub fn target(trusted: &TrustedOrigins, text: &str) -> Result<Target, Failure> {
    judge(trusted, text).ok_or(Code::InvalidCallbackUrl.into())
}
