//! One client for the whole process: pinned version, idempotency keys, a time limit in all, bounded concurrency, and
//! retries of what may be retried.

use super::form::Form;
use super::objects::Named;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kernel::{Secret, Stopwatch, causes, random};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The version that every call asks for and every object is read in.
pub const VERSION: &str = "2026-10-28.endive";
/// Lists of a hundred invoices stay well below.
const LARGEST_ANSWER: usize = 4 << 20;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
const TRIES: u32 = 4;

#[derive(Debug, Clone)]
pub struct Options {
    pub secret_key: Secret<String>,
    /// Scheme, host and port, without a slash at the end.
    pub api_base: String,
    pub api_version: String,
}

/// Who waits for a call. Each class has room of its own, so that people at a checkout and the work on events do not hold each
/// other up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Somebody looks at a spinner: an answer within ten seconds, whatever Stripe does.
    Person,
    /// Work that is tried again later.
    Worker,
}

impl Class {
    fn room(self) -> usize {
        match self {
            Class::Person => 32,
            Class::Worker => 16,
        }
    }

    /// For all tries together.
    fn limit(self) -> Duration {
        match self {
            Class::Person => Duration::from_secs(8),
            Class::Worker => Duration::from_secs(20),
        }
    }
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Stripe is not there, too slow, or has a fault of its own. The same call may succeed later.
    #[error("Stripe cannot be reached or does not answer: {0}")]
    Unavailable(String),
    /// There is no such object.
    #[error("Stripe knows no {0}")]
    Missing(String),
    /// The call was understood and refused: a declined card, a parameter that is wrong, a key without the right.
    #[error("Stripe refused ({status} {code}): {message}")]
    Refused {
        status: u16,
        code: String,
        param: Option<String>,
        message: String,
        /// The payment that was declined: it exists all the same.
        payment_intent: Option<String>,
    },
    /// An answer that does not look as the pinned version says.
    #[error("an answer of Stripe was not understood: {0}")]
    NotUnderstood(String),
}

impl Trouble {
    /// The call named a customer that Stripe does not know any more.
    pub fn is_lost_customer(&self) -> bool {
        let named = |param: &Option<String>| param.as_deref() == Some("customer");
        matches!(self, Trouble::Refused { code, param, .. } if code == "resource_missing" && named(param))
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Stripe {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    authorization: HeaderValue,
    version: HeaderValue,
    person: Semaphore,
    worker: Semaphore,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize, Default)]
struct ErrorDetail {
    #[serde(default)]
    r#type: String,
    code: Option<String>,
    decline_code: Option<String>,
    param: Option<String>,
    #[serde(default)]
    message: String,
    payment_intent: Option<Named>,
}

/// What one try came to.
enum Tried {
    Answered(Bytes),
    Over(Trouble),
    Again { trouble: Trouble, after: Option<Duration> },
}

impl Stripe {
    /// `None` when key or version cannot stand in a header.
    pub fn new(options: &Options) -> Option<Stripe> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .ok()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        let mut authorization =
            HeaderValue::try_from(format!("Bearer {}", options.secret_key.expose())).ok()?;
        authorization.set_sensitive(true);
        let inner = Inner {
            client,
            base: options.api_base.trim_end_matches('/').to_owned(),
            authorization,
            version: HeaderValue::try_from(&options.api_version).ok()?,
            person: Semaphore::new(Class::Person.room()),
            worker: Semaphore::new(Class::Worker.room()),
        };
        Some(Stripe { inner: Arc::new(inner) })
    }

    /// Scheme, host and port of what is called.
    pub fn base(&self) -> &str {
        &self.inner.base
    }

    /// `path` begins with `/v1/`; ids in it come from [`segment`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        class: Class,
        path: &str,
        query: &Form,
    ) -> Result<T, Trouble> {
        let path = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.encoded()) };
        self.call(class, Method::GET, &path, String::new(), None).await
    }

    /// `key` is made of our own row, so that a try after a crash is the same call.
    pub async fn post<T: DeserializeOwned>(
        &self,
        class: Class,
        path: &str,
        form: &Form,
        key: &str,
    ) -> Result<T, Trouble> {
        self.call(class, Method::POST, path, form.encoded(), Some(key)).await
    }

    pub async fn delete<T: DeserializeOwned>(
        &self,
        class: Class,
        path: &str,
        form: &Form,
    ) -> Result<T, Trouble> {
        self.call(class, Method::DELETE, path, form.encoded(), None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        class: Class,
        method: Method,
        path: &str,
        body: String,
        key: Option<&str>,
    ) -> Result<T, Trouble> {
        let body = Bytes::from(body);
        let all = self.tries(class, &method, path, &body, key);
        let answer = tokio::time::timeout(class.limit(), all).await;
        let answer = answer.unwrap_or_else(|_| {
            let limit = class.limit().as_secs();
            Err(Trouble::Unavailable(format!("no answer to {method} {} in {limit} s", without_query(path))))
        })?;
        serde_json::from_slice(&answer).map_err(|error| {
            // The place is told and not the content, which may name people.
            let place = format!("line {} column {}", error.line(), error.column());
            Trouble::NotUnderstood(format!("{method} {}: {place}", without_query(path)))
        })
    }

    async fn tries(
        &self,
        class: Class,
        method: &Method,
        path: &str,
        body: &Bytes,
        key: Option<&str>,
    ) -> Result<Bytes, Trouble> {
        let room = match class {
            Class::Person => &self.inner.person,
            Class::Worker => &self.inner.worker,
        };
        let closed = |_| Trouble::Unavailable("the client has ended".into());
        let _permit = room.acquire().await.map_err(closed)?;
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match self.once(method, path, body, key).await {
                Tried::Answered(bytes) => return Ok(bytes),
                Tried::Over(trouble) => return Err(trouble),
                Tried::Again { trouble, .. } if attempt >= TRIES => return Err(trouble),
                Tried::Again { after, .. } => {
                    let jitter = random::jitter(&mut random::secure());
                    tokio::time::sleep(after.unwrap_or_else(|| pause.mul_f64(jitter))).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        Err(Trouble::Unavailable("no try was left".into()))
    }

    async fn once(&self, method: &Method, path: &str, body: &Bytes, key: Option<&str>) -> Tried {
        let request = match self.request(method, path, body, key) {
            Ok(request) => request,
            Err(error) => return Tried::Over(Trouble::NotUnderstood(error)),
        };
        let began = Stopwatch::start();
        let again = |error: String| {
            let what = format!("{method} {}: {error}", without_query(path));
            tracing::debug!(%what, elapsed_ms = began.elapsed().as_millis(), "a call to Stripe failed");
            Tried::Again { trouble: Trouble::Unavailable(what), after: None }
        };
        let answer = match self.inner.client.request(request).await {
            Ok(answer) => answer,
            Err(error) => return again(causes(&error)),
        };
        let (head, body) = answer.into_parts();
        let body = match Limited::new(body, LARGEST_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return again(error.to_string()),
        };
        if head.status.is_success() {
            // A page of something that stands between us and Stripe says nothing about the call.
            return match serde_json::from_slice::<IgnoredAny>(&body) {
                Ok(_) => Tried::Answered(body),
                Err(_) => again("the answer is not JSON".into()),
            };
        }
        let after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let after = after.map(|seconds: u64| Duration::from_secs(seconds).min(LONGEST_PAUSE));
        judge(head.status.as_u16(), &body, path, after)
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        body: &Bytes,
        key: Option<&str>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let uri: Uri =
            format!("{}{path}", self.inner.base).parse().map_err(|_| "not an address".to_owned())?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(AUTHORIZATION, &self.inner.authorization)
            .header("stripe-version", &self.inner.version)
            .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.body(Full::new(body.clone())).map_err(|error| error.to_string())
    }
}

/// Conflicts (another call with the same key is under way), rate limits and faults of Stripe's own are tried again; a
/// refusal is final.
fn judge(status: u16, body: &[u8], path: &str, after: Option<Duration>) -> Tried {
    let detail = serde_json::from_slice::<ErrorBody>(body).map(|body| body.error).unwrap_or_default();
    let code = detail.decline_code.or(detail.code).unwrap_or(detail.r#type);
    match status {
        404 => Tried::Over(Trouble::Missing(without_query(path).to_owned())),
        409 | 429 | 500.. => {
            let trouble = Trouble::Unavailable(format!("{} answers {status} {code}", without_query(path)));
            Tried::Again { trouble, after }
        }
        _ => {
            let payment_intent = detail.payment_intent.map(|intent| intent.id);
            let (param, message) = (detail.param, detail.message);
            Tried::Over(Trouble::Refused { status, code, param, message, payment_intent })
        }
    }
}

/// An id of Stripe's as a part of a path: ids are letters, digits and underscores, and what is not gets nowhere.
pub fn segment(id: &str) -> Result<&str, Trouble> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let good = (1..=255).contains(&id.len()) && id.bytes().all(plain);
    if good { Ok(id) } else { Err(Trouble::Missing("such id".into())) }
}

fn without_query(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_and_a_refusal_is_not() {
        let declined = br#"{"error":{"type":"card_error","code":"card_declined","decline_code":"insufficient_funds","message":"No."}}"#;
        let Tried::Over(Trouble::Refused { status: 402, code, message, .. }) =
            judge(402, declined, "/v1/x", None)
        else {
            panic!("a decline is final");
        };
        assert_eq!((code.as_str(), message.as_str()), ("insufficient_funds", "No."));
        for status in [409, 429, 500, 502, 503] {
            assert!(matches!(judge(status, b"<html>", "/v1/x", None), Tried::Again { .. }), "{status}");
        }
        assert!(
            matches!(judge(404, b"{}", "/v1/x?y=z", None), Tried::Over(Trouble::Missing(what)) if what == "/v1/x")
        );
        assert!(matches!(judge(400, b"not JSON", "/v1/x", None), Tried::Over(Trouble::Refused { .. })));
    }

    #[test]
    fn an_id_cannot_lead_to_another_path() {
        assert!(segment("cs_test_a1B2").is_ok());
        for odd in ["", "a/b", "..", "a?b", "a%2fb", "a b", "é"] {
            assert!(segment(odd).is_err(), "{odd}");
        }
    }
}
