//! Redirect targets in bodies and queries: judged on every change before its body is validated, and on every link.

use super::error::{Code, Failure};
use super::fields::{Fields, is_truthy};
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

/// What a mailed link brings along.
pub struct MailedLink {
    pub token: String,
    pub callback: Option<String>,
}

impl MailedLink {
    pub fn read(fields: &mut Fields) -> MailedLink {
        MailedLink {
            token: fields.query("token"),
            callback: fields.maybe_query("callbackURL").filter(|text| !text.is_empty()),
        }
    }
}

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

/// Where a link may lead, by what became of it.
const LINK_TARGETS: [&str; 3] = ["callbackURL", "newUserCallbackURL", "errorCallbackURL"];

/// Judges the targets of a link. All of them, should somebody have repeated a parameter.
pub fn check_link(trusted: &TrustedOrigins, query: &[(String, String)]) -> Result<(), Failure> {
    let mut targets =
        query.iter().filter(|(key, value)| LINK_TARGETS.contains(&key.as_str()) && !value.is_empty());
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trusted() -> TrustedOrigins {
        TrustedOrigins::new("https://auth.example", &["https://app.example".into()]).unwrap()
    }

    fn pairs(values: &[&str]) -> Vec<(String, String)> {
        values.iter().map(|value| ("callbackURL".to_string(), value.to_string())).collect()
    }

    #[test]
    fn each_target_is_refused_by_its_own_code_and_empty_ones_are_absent() {
        let check = |body: Value| check_change(&trusted(), Some(&body), &[]);
        let fields = [
            ("callbackURL", Code::InvalidCallbackUrl),
            ("redirectTo", Code::InvalidRedirectUrl),
            ("errorCallbackURL", Code::InvalidErrorCallbackUrl),
            ("newUserCallbackURL", Code::InvalidNewUserCallbackUrl),
        ];
        for (field, expected) in fields {
            let refused = check(json!({ field: "//evil.example" }));
            assert!(matches!(refused, Err(Failure::Code(code)) if code == expected), "{field}");
            for fine in
                [json!("/x"), json!("https://app.example/x"), json!(""), json!(null), json!(false), json!(0)]
            {
                assert!(check(json!({ field: fine.clone() })).is_ok(), "{field} {fine}");
            }
            for wrong in [json!({}), json!(["/x"]), json!(1), json!(true)] {
                let refused = check(json!({ field: wrong }));
                assert!(
                    matches!(refused, Err(Failure::Message(http::StatusCode::BAD_REQUEST, _))),
                    "{field}"
                );
            }
        }
    }

    #[test]
    fn the_query_counts_where_the_body_is_silent() {
        let check =
            |body: Option<Value>, query: &[&str]| check_change(&trusted(), body.as_ref(), &pairs(query));
        assert!(check(None, &["//evil.example"]).is_err());
        assert!(check(Some(json!({})), &["/x"]).is_ok());
        assert!(check(Some(json!({})), &["/x", "/x"]).is_err(), "twice is no text");
    }

    #[test]
    fn a_link_is_judged_by_every_target_it_carries() {
        assert!(check_link(&trusted(), &pairs(&["/x"])).is_ok());
        assert!(check_link(&trusted(), &pairs(&[""])).is_ok());
        assert!(check_link(&trusted(), &pairs(&["/x", "//evil.example"])).is_err());
        assert!(check_link(&trusted(), &pairs(&["//evil.example", "/x"])).is_err());
    }
}
