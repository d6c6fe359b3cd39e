//! Why a call did not give what it was asked for, and what an app answers then.

use crate::credentials::SetCookies;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Everything that can come instead of what was asked for. [`Error::status`] and [`Error::body`] are what the app answers;
/// with the feature `axum` an error is such an answer, so that handlers use `?`.
///
/// ```no_run
/// use tollgate_client::{Account, Error, IdempotencyKey};
///
/// async fn charge(account: Account, key: IdempotencyKey) {
///     match account.spend("image.generate", &key).await {
///         Ok(spent) => println!("{} {} left", spent.available, spent.unit),
///         Err(error) => match error.insufficient_credits() {
///             Some(short) => println!("{} needed, {} there: {:?}", short.required, short.available, short.buy_url),
///             None if error.is_unavailable() => println!("send the same again, with the same key"),
///             None => println!("{error}"),
///         },
///     }
/// }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Tollgate was asked and said no: 401, 402, 403, 404, 409, 422 or 429.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// It cannot be told: Tollgate did not answer, or not in words that are understood. 503, and never "signed out".
    #[error("{0}")]
    Unavailable(Box<Unavailable>),
    /// The app is not set up as it has to be. 500; the message is for the app's log.
    #[error("{0}")]
    Misconfigured(#[from] Misconfigured),
}

impl Error {
    /// What an app answers.
    ///
    /// ```
    /// use tollgate_client::{Error, Misconfigured};
    ///
    /// assert_eq!(Error::from(Misconfigured::NoServiceKey).status(), 500);
    /// ```
    pub fn status(&self) -> StatusCode {
        match self {
            Error::Refused(refusal) => refusal.status,
            Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Misconfigured(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The `error_code`: `unauthenticated`, `insufficient_credits`, `user_mismatch`, …
    ///
    /// ```
    /// use tollgate_client::{Error, Misconfigured};
    ///
    /// assert_eq!(Error::from(Misconfigured::NoServiceKey).code(), "internal");
    /// ```
    pub fn code(&self) -> &str {
        match self {
            Error::Refused(refusal) => &refusal.code,
            Error::Unavailable(_) => "unavailable",
            Error::Misconfigured(_) => "internal",
        }
    }

    /// The body of the app's answer: `{"error_code", "message", "detail"}` and what Tollgate added. What went wrong inside
    /// stays out of it.
    ///
    /// ```
    /// use tollgate_client::{Error, Misconfigured};
    ///
    /// let body = Error::from(Misconfigured::NoServiceKey).body();
    /// assert_eq!(body["error_code"], "internal");
    /// assert_eq!(body["message"], "something went wrong on our side");
    /// ```
    pub fn body(&self) -> Value {
        let (message, detail, members) = match self {
            Error::Refused(refusal) => {
                (refusal.message.as_str(), refusal.detail.as_deref(), Some(&refusal.members))
            }
            Error::Unavailable(_) => ("this cannot be answered right now, try again soon", None, None),
            Error::Misconfigured(_) => ("something went wrong on our side", None, None),
        };
        let mut body = members.cloned().unwrap_or_default();
        body.insert("error_code".into(), self.code().into());
        body.insert("message".into(), message.into());
        body.insert("detail".into(), detail.into());
        Value::Object(body)
    }

    /// When to try again, as Tollgate said it; a 503 always has it.
    ///
    /// ```
    /// use tollgate_client::{Error, Misconfigured};
    ///
    /// assert_eq!(Error::from(Misconfigured::NoServiceKey).retry_after(), None);
    /// ```
    pub fn retry_after(&self) -> Option<HeaderValue> {
        match self {
            Error::Refused(refusal) => refusal.retry_after.clone(),
            Error::Unavailable(unavailable) => {
                Some(unavailable.retry_after.clone().unwrap_or(HeaderValue::from_static("1")))
            }
            Error::Misconfigured(_) => None,
        }
    }

    /// Nobody is signed in (401).
    ///
    /// ```
    /// use tollgate_client::{Error, Misconfigured};
    ///
    /// assert!(!Error::from(Misconfigured::NoServiceKey).is_unauthenticated());
    /// ```
    pub fn is_unauthenticated(&self) -> bool {
        self.status() == StatusCode::UNAUTHORIZED
    }

    /// It cannot be told (503). A charge may or may not have been made: the same request with the same key finds out.
    ///
    /// ```
    /// use tollgate_client::{Error, Misconfigured};
    ///
    /// assert!(!Error::from(Misconfigured::NoServiceKey).is_unavailable());
    /// ```
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Error::Unavailable(_))
    }

    /// The figures of a 402 `insufficient_credits`.
    ///
    /// ```
    /// use tollgate_client::{Error, Misconfigured};
    ///
    /// assert_eq!(Error::from(Misconfigured::NoServiceKey).insufficient_credits(), None);
    /// ```
    pub fn insufficient_credits(&self) -> Option<InsufficientCredits> {
        match self {
            Error::Refused(refusal) if refusal.code == "insufficient_credits" => {
                serde_json::from_value(Value::Object(refusal.members.clone())).ok()
            }
            _ => None,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(Box::new(refusal))
    }
}

impl From<Unavailable> for Error {
    fn from(unavailable: Unavailable) -> Error {
        Error::Unavailable(Box::new(unavailable))
    }
}

/// Tollgate's no, in its own words, as the app passes it on.
///
/// ```
/// fn log(refusal: &tollgate_client::Refusal) {
///     println!("{} {}: {}", refusal.status, refusal.code, refusal.message);
/// }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Refusal {
    /// 401, 402, 403, 404, 409, 422 or 429.
    pub status: StatusCode,
    /// `error_code`.
    pub code: String,
    /// For a person.
    pub message: String,
    /// More, if there is more.
    pub detail: Option<String>,
    /// What an error has besides: `available` and `required` of a 402, `limit` and `resets_at` of a 429, `field` of a 422.
    pub members: Map<String, Value>,
    /// The header `Retry-After`.
    pub retry_after: Option<HeaderValue>,
    /// Tollgate's `X-Request-Id`, by which its log can be searched.
    pub request_id: Option<String>,
    /// A session may have been prolonged although the answer is no. To be passed on to the browser; under
    /// [`TollgateLayer`](crate::TollgateLayer) that happens by itself.
    pub set_cookies: SetCookies,
}

impl Refusal {
    /// One of this crate's own.
    pub(crate) fn new(status: StatusCode, code: &str, message: &str) -> Refusal {
        Refusal {
            status,
            code: code.into(),
            message: message.into(),
            detail: None,
            members: Map::new(),
            retry_after: None,
            request_id: None,
            set_cookies: SetCookies::default(),
        }
    }

    pub(crate) fn unauthenticated(message: &str) -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Refusal {
        self.members.insert(name.into(), value.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.message, self.status.as_u16(), self.code)
    }
}

/// The figures of a refusal for lack of credits.
///
/// ```
/// fn offer(short: &tollgate_client::InsufficientCredits) -> Option<&str> {
///     short.buy_url.as_deref()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct InsufficientCredits {
    /// Unexpired credits less debt.
    pub balance: i64,
    /// The balance less what is held.
    pub available: i64,
    /// What was asked for.
    pub required: i64,
    /// The unit of all three.
    pub unit: String,
    /// Where more can be bought.
    pub buy_url: Option<String>,
}

/// Why it cannot be told.
///
/// ```
/// use tollgate_client::{Error, Reason};
///
/// fn timed_out(error: &Error) -> bool {
///     matches!(error, Error::Unavailable(unavailable) if matches!(unavailable.reason(), Reason::TimedOut(_)))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Unavailable {
    reason: Reason,
    retry_after: Option<HeaderValue>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What happened to a question that got no answer.
///
/// ```
/// assert_eq!(tollgate_client::Reason::NoConnection.to_string(), "no connection came about, twice");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The address could not be reached, the second time either. Nothing was sent.
    #[error("no connection came about, twice")]
    NoConnection,
    /// The answer was not there in time.
    #[error("it did not answer within {0:?}")]
    TimedOut(Duration),
    /// The connection ended before the answer did.
    #[error("the connection broke off")]
    BrokenOff,
    /// The answer is longer than any that Tollgate gives.
    #[error("the answer is longer than 1 MiB")]
    TooLarge,
    /// A status that Tollgate does not give to this question, or not in its own words.
    #[error("the answer has the status {}", .0.as_u16())]
    Status(StatusCode),
    /// The right status with a body that is none of Tollgate's.
    #[error("the answer is not understood: {0}")]
    NotUnderstood(&'static str),
    /// The question itself cannot be written down as HTTP.
    #[error("the question is too long")]
    NotAsked,
}

impl Unavailable {
    pub(crate) fn new(reason: Reason) -> Unavailable {
        Unavailable { reason, retry_after: None, cause: None }
    }

    pub(crate) fn because(reason: Reason, cause: impl StdError + Send + Sync + 'static) -> Unavailable {
        Unavailable { cause: Some(Arc::new(cause)), ..Unavailable::new(reason) }
    }

    pub(crate) fn retry_after(mut self, headers: &HeaderMap) -> Unavailable {
        self.retry_after = headers.get(RETRY_AFTER).cloned();
        self
    }

    /// What happened.
    ///
    /// ```
    /// fn reason(unavailable: &tollgate_client::Unavailable) -> String {
    ///     unavailable.reason().to_string()
    /// }
    /// ```
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tollgate cannot be asked: {}", self.reason)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Unavailable {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}

/// What is missing in the app.
///
/// ```
/// use tollgate_client::Misconfigured;
///
/// assert_eq!(
///     Misconfigured::NoServiceKey.to_string(),
///     "this needs a service key: make one with `tollgate key create` and give it to the builder"
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misconfigured {
    /// The call needs a service key and the handle has none.
    #[error("this needs a service key: make one with `tollgate key create` and give it to the builder")]
    NoServiceKey,
    /// Tollgate does not know the service key, or does no longer.
    #[error("Tollgate refuses the service key: make a new one with `tollgate key create`")]
    ServiceKeyRefused,
    /// The service key may not do this.
    #[error("the service key lacks a scope: credits need `credits:write`, the gate needs `gate`")]
    LacksScope,
    /// An extractor was used on a route that the layer does not cover.
    #[error("the route is not under the layer: add `.layer(TollgateLayer::new(tollgate))` to the router")]
    NoLayer,
    /// Guests are counted by address, and there was none.
    #[error(
        "the visitor's address is not known: serve the app with \
         `into_make_service_with_connect_info::<SocketAddr>()`, or say it with `Authorize::forwarded_for`"
    )]
    NoClientAddress,
    /// Guests are switched off at Tollgate.
    #[error("Tollgate has no guests: set `[guest] enabled = true` in its configuration")]
    NoGuests,
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for Error {
    fn into_response(self) -> axum::response::Response {
        use http::header::{CACHE_CONTROL, CONTENT_TYPE};
        // What the caller does not see is said here, once.
        match &self {
            Error::Refused(_) => {}
            Error::Unavailable(unavailable) => tracing::warn!("{unavailable}"),
            Error::Misconfigured(misconfigured) => tracing::error!("{misconfigured}"),
        }
        let mut response = http::Response::new(axum::body::Body::from(self.body().to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(value) = self.retry_after() {
            headers.insert(RETRY_AFTER, value);
        }
        response
    }
}
