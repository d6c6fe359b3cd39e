//! What a request shows for itself, and what must not be printed: cookies, tokens, and the lines that set cookies.

use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::fmt;
use std::net::IpAddr;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const KEY_CHARS: usize = 255;

/// A visitor's cookies as they came, all of them: which of them matter, Tollgate knows.
///
/// `Debug` shows how many header lines there are and nothing of what stands in them.
///
/// ```
/// use http::{HeaderMap, HeaderValue, header::COOKIE};
/// use tollgate_client::Cookies;
///
/// let mut headers = HeaderMap::new();
/// headers.insert(COOKIE, HeaderValue::from_static("better-auth.session_token=secret"));
/// let cookies = Cookies::from(&headers);
/// assert_eq!(format!("{cookies:?}"), "Cookies(1 redacted)");
/// ```
#[derive(Clone, Default)]
pub struct Cookies(Vec<HeaderValue>);

impl Cookies {
    /// From the value of a `Cookie` header; `None` if it cannot be one.
    ///
    /// ```
    /// use tollgate_client::Cookies;
    ///
    /// assert!(Cookies::from_text("a=1; b=2").is_some());
    /// assert!(Cookies::from_text("a=1\r\nX: y").is_none());
    /// ```
    pub fn from_text(text: &str) -> Option<Cookies> {
        HeaderValue::from_str(text).ok().map(|line| Cookies(vec![sensitive(line)]))
    }

    /// Whether there are none: then nobody is signed in, and nobody has to be asked.
    ///
    /// ```
    /// assert!(tollgate_client::Cookies::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(HeaderValue::is_empty)
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for line in &self.0 {
            headers.append(COOKIE, line.clone());
        }
    }
}

impl From<&HeaderMap> for Cookies {
    /// The `Cookie` lines of a request, and nothing else of it.
    fn from(headers: &HeaderMap) -> Cookies {
        Cookies(headers.get_all(COOKIE).iter().cloned().map(sensitive).collect())
    }
}

impl From<&Cookies> for Cookies {
    fn from(cookies: &Cookies) -> Cookies {
        cookies.clone()
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookies({} redacted)", self.0.len())
    }
}

/// The lines by which Tollgate prolongs a session's cookie. Each goes to the browser as a `Set-Cookie` line of its own;
/// [`TollgateLayer`](crate::TollgateLayer) does that by itself.
///
/// ```no_run
/// # async fn example(tollgate: tollgate_client::Tollgate, request: http::HeaderMap) -> Result<(), tollgate_client::Error> {
/// let mut response = http::Response::new("hello");
/// if let Some(session) = tollgate.session(&request).await? {
///     session.set_cookies.write(response.headers_mut());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct SetCookies(Vec<HeaderValue>);

impl SetCookies {
    pub(crate) fn read(headers: &HeaderMap) -> SetCookies {
        SetCookies(headers.get_all(SET_COOKIE).iter().cloned().map(sensitive).collect())
    }

    /// Adds the lines to an answer, beside those that are there.
    ///
    /// ```
    /// let mut response = http::Response::new("hello");
    /// tollgate_client::SetCookies::default().write(response.headers_mut());
    /// assert!(response.headers().is_empty());
    /// ```
    pub fn write(&self, headers: &mut HeaderMap) {
        for line in &self.0 {
            headers.append(SET_COOKIE, line.clone());
        }
    }

    /// Nearly always: a session is prolonged once a day.
    ///
    /// ```
    /// assert!(tollgate_client::SetCookies::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines themselves, for frameworks that do not take an [`http::HeaderMap`]. They hold session tokens.
    ///
    /// ```
    /// assert_eq!(tollgate_client::SetCookies::default().iter().count(), 0);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = &HeaderValue> {
        self.0.iter()
    }

    pub(crate) fn add(&mut self, more: &SetCookies) {
        self.0.extend(more.0.iter().cloned());
    }
}

impl fmt::Debug for SetCookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetCookies({} redacted)", self.0.len())
    }
}

/// A session token or API key that a native app sends in place of cookies.
///
/// ```
/// use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
/// use tollgate_client::Token;
///
/// let mut headers = HeaderMap::new();
/// headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer secret"));
/// let token = Token::from_headers(&headers).expect("there is one");
/// assert_eq!(format!("{token:?}"), "Token([redacted])");
/// ```
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// `None` if it is empty or cannot stand in a header.
    ///
    /// ```
    /// assert!(tollgate_client::Token::from_text("").is_none());
    /// ```
    pub fn from_text(text: &str) -> Option<Token> {
        let value = HeaderValue::from_str(text.trim()).ok().filter(|value| !value.is_empty())?;
        Some(Token(sensitive(value)))
    }

    /// Of a request's `Authorization: Bearer …`, else of its `x-api-key`.
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue};
    ///
    /// let mut headers = HeaderMap::new();
    /// assert!(tollgate_client::Token::from_headers(&headers).is_none());
    /// headers.insert("x-api-key", HeaderValue::from_static("secret"));
    /// assert!(tollgate_client::Token::from_headers(&headers).is_some());
    /// ```
    pub fn from_headers(headers: &HeaderMap) -> Option<Token> {
        Token::bearer(headers).or_else(|| Token::api_key(headers))
    }

    fn bearer(headers: &HeaderMap) -> Option<Token> {
        let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Token::from_text(token)).flatten()
    }

    /// What a program shows in `x-api-key`.
    pub(crate) fn api_key(headers: &HeaderMap) -> Option<Token> {
        headers.get(X_API_KEY)?.to_str().ok().and_then(Token::from_text)
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// Where a visitor calls from, as the app saw it: the `X-Forwarded-For` lines of the request and the address of whoever
/// sent it to the app. Tollgate takes the right-most address that is not one of its `trusted_proxies`, so that list has to
/// name the app and the proxies before it, and a visitor who writes the header himself gains nothing.
///
/// ```
/// use http::HeaderMap;
/// use std::net::{IpAddr, Ipv4Addr};
/// use tollgate_client::ForwardedFor;
///
/// let peer = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
/// let address = ForwardedFor::new(&HeaderMap::new(), peer);
/// ```
#[derive(Debug, Clone)]
pub struct ForwardedFor(Vec<HeaderValue>);

impl ForwardedFor {
    /// From a request's headers and the address at the other end of its connection.
    ///
    /// ```
    /// # use std::net::{IpAddr, Ipv6Addr};
    /// tollgate_client::ForwardedFor::new(&http::HeaderMap::new(), IpAddr::V6(Ipv6Addr::LOCALHOST));
    /// ```
    pub fn new(headers: &HeaderMap, peer: IpAddr) -> ForwardedFor {
        let before = headers.get_all(X_FORWARDED_FOR).iter().cloned();
        // On a socket of both families an IPv4 address looks like an IPv6 one.
        let peer = HeaderValue::try_from(peer.to_canonical().to_string());
        let peer = peer.expect("an address is written in digits, letters, dots and colons");
        ForwardedFor(before.chain([peer]).collect())
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for line in &self.0 {
            headers.append(X_FORWARDED_FOR, line.clone());
        }
    }
}

/// Names one action, so that asking for it twice has one effect: a job's id, an order's number. 1 to 255 visible ASCII
/// characters; made before the first attempt and kept with the job.
///
/// ```
/// use tollgate_client::IdempotencyKey;
///
/// let key = IdempotencyKey::new("job-4711")?;
/// assert_eq!(key.as_str(), "job-4711");
/// assert!(IdempotencyKey::new("two words").is_err());
/// # Ok::<(), tollgate_client::InvalidIdempotencyKey>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// The text cannot be an idempotency key.
///
/// ```
/// let error = tollgate_client::IdempotencyKey::new("").unwrap_err();
/// assert_eq!(error.to_string(), "an idempotency key is 1 to 255 visible ASCII characters");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key is 1 to 255 visible ASCII characters")]
pub struct InvalidIdempotencyKey;

impl IdempotencyKey {
    /// Takes the text if it can be a key.
    ///
    /// ```
    /// assert!(tollgate_client::IdempotencyKey::new("order-12").is_ok());
    /// ```
    pub fn new(text: impl Into<String>) -> Result<IdempotencyKey, InvalidIdempotencyKey> {
        let text = text.into();
        let fits = (1..=KEY_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if fits { Ok(IdempotencyKey(text)) } else { Err(InvalidIdempotencyKey) }
    }

    /// One that nobody has used: then nothing is recognized as a repetition.
    ///
    /// ```
    /// use tollgate_client::IdempotencyKey;
    ///
    /// assert_ne!(IdempotencyKey::random(), IdempotencyKey::random());
    /// ```
    ///
    /// # Panics
    ///
    /// When the operating system gives no random numbers.
    pub fn random() -> IdempotencyKey {
        let mut bytes = [0; 16];
        // As everywhere in the field: without chance nothing safe can go on, and systems in use do not fail here.
        getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
        IdempotencyKey(format!("{:032x}", u128::from_be_bytes(bytes)))
    }

    /// The key as text.
    ///
    /// ```
    /// # let key = tollgate_client::IdempotencyKey::new("order-12").unwrap();
    /// assert_eq!(key.as_str(), "order-12");
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("visible ASCII is a header value")
    }
}

impl From<&IdempotencyKey> for IdempotencyKey {
    fn from(key: &IdempotencyKey) -> IdempotencyKey {
        key.clone()
    }
}

/// Marked so that whoever prints headers prints a placeholder.
pub(crate) fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
