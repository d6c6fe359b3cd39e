//! What an answer means: what was asked for, a refusal in Tollgate's words, or nothing that can be relied on.

use crate::credentials::SetCookies;
use crate::error::{Error, Misconfigured, Reason, Refusal, Unavailable};
use crate::wire::Answer;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

impl Answer {
    /// The body of a 200 or 201, if it is what was asked for.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match self.status {
            StatusCode::OK | StatusCode::CREATED => self.json().map_err(Error::from),
            _ => Err(self.refusal()),
        }
    }

    /// The body as JSON. What serde says of a body that is something else may quote it, so that is not kept.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Unavailable> {
        let not_understood = |what| Unavailable::new(Reason::NotUnderstood(what));
        if !self.says_json() {
            return Err(not_understood("it is not marked as JSON"));
        }
        serde_json::from_slice(&self.body)
            .map_err(|_| not_understood("its body is not what belongs to this question"))
    }

    fn says_json(&self) -> bool {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = value.split(';').next().unwrap_or("").trim();
        essence.eq_ignore_ascii_case("application/json")
    }

    /// What an answer means that is not the one hoped for. A status counts only with a body in Tollgate's words: a 401 or
    /// 404 by something in between says nothing about a session.
    pub fn refusal(&self) -> Error {
        let spoken = self.status.is_client_error().then(|| self.spoken()).flatten();
        match spoken {
            Some(refusal) if refusal.code == "invalid_service_key" => Misconfigured::ServiceKeyRefused.into(),
            Some(refusal) => refusal.into(),
            None => self.unavailable().into(),
        }
    }

    /// The status alone tells that there is no answer.
    pub fn unavailable(&self) -> Unavailable {
        Unavailable::new(Reason::Status(self.status)).retry_after(&self.headers)
    }

    fn spoken(&self) -> Option<Refusal> {
        let mut members: Map<String, Value> = self.json().ok()?;
        let mut text = |name: &str| match members.remove(name)? {
            Value::String(text) => Some(Some(text)),
            Value::Null => Some(None),
            _ => None,
        };
        let (code, message, detail) = (text("error_code")??, text("message")??, text("detail")?);
        Some(Refusal {
            status: self.status,
            code,
            message,
            detail,
            members,
            retry_after: self.headers.get(RETRY_AFTER).cloned(),
            request_id: header(&self.headers, "x-request-id"),
            set_cookies: SetCookies::read(&self.headers),
        })
    }

    /// The same request had been answered before.
    pub fn is_replayed(&self) -> bool {
        header(&self.headers, "idempotent-replayed").is_some_and(|value| value == "true")
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderValue;

    fn answer(status: u16, content_type: &'static str, body: &'static str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers, body: Bytes::from_static(body.as_bytes()) }
    }

    const SPOKEN: &str = r#"{"error_code":"insufficient_credits","message":"no","detail":null,"required":5,"available":1,"balance":2,"unit":"credits","buy_url":null}"#;

    #[test]
    fn a_refusal_is_passed_on_with_all_its_members() {
        let error = answer(402, "application/json; charset=utf-8", SPOKEN).refusal();
        assert_eq!(error.status(), StatusCode::PAYMENT_REQUIRED);
        assert_eq!(error.body(), serde_json::from_str::<Value>(SPOKEN).unwrap());
        assert_eq!(error.retry_after().unwrap(), "7");
        let short = error.insufficient_credits().expect("there are figures");
        assert_eq!((short.required, short.available, short.balance), (5, 1, 2));
    }

    #[test]
    fn a_status_without_the_words_is_unavailable() {
        let strange = [
            answer(401, "application/json", r#"{"message":"no"}"#),
            answer(401, "text/html", r#"{"error_code":"unauthenticated","message":"no","detail":null}"#),
            answer(404, "text/html", "<h1>404</h1>"),
            answer(403, "application/json", r#"{"error_code":"forbidden","message":7,"detail":null}"#),
            answer(402, "application/json", r#"{"error_code":null,"message":"no","detail":null}"#),
            answer(302, "application/json", SPOKEN),
            answer(500, "application/json", SPOKEN),
            answer(503, "application/json", SPOKEN),
        ];
        for answer in strange {
            let error = answer.refusal();
            assert!(error.is_unavailable(), "{} {:?}: {error}", answer.status, answer.body);
            assert_eq!(error.retry_after().unwrap(), "7");
            assert_eq!(error.code(), "unavailable");
        }
    }

    #[test]
    fn a_refused_service_key_is_the_app_s_fault_and_signs_nobody_out() {
        let error = answer(
            401,
            "application/json",
            r#"{"error_code":"invalid_service_key","message":"no","detail":null}"#,
        )
        .refusal();
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!error.is_unauthenticated());
        assert!(matches!(error, Error::Misconfigured(Misconfigured::ServiceKeyRefused)));
    }
}
