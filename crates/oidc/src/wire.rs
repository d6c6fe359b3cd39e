//! Requests to a provider: bounded in time, in size and in number, over TLS, and never led elsewhere by a redirect.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kernel::{Secret, causes};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use url::{Host, Url};

const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// The wait for a turn included: somebody looks at a spinner.
const WITHIN: Duration = Duration::from_secs(8);
/// For what many wait for at once, one after another.
const LOOK_WITHIN: Duration = Duration::from_secs(4);
/// The largest key sets of the well-known providers have some 30 KiB.
const LARGEST_ANSWER: usize = 512 * 1024;
/// At once to one provider, so that one that hangs takes nothing from the others.
const ROOM: usize = 16;

/// Why a conversation with a provider came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Not there, too slow, or with a fault of its own; the same request may succeed later.
    #[error("it does not answer: {0}")]
    Unavailable(String),
    /// Understood and refused: a code that is no good, a client that is not known.
    #[error("it refuses ({status} {error})")]
    Refused { status: u16, error: String },
    #[error("its answer was not understood: {0}")]
    NotUnderstood(String),
    /// Plain HTTP to another machine, or no address at all.
    #[error("{0} is not an address that secrets may be sent to")]
    NotAllowed(String),
    /// What the provider signed does not hold.
    #[error("its id token does not hold: {0}")]
    BadToken(#[from] crate::id_token::Refused),
}

/// How a request says who is asking.
pub enum Credentials<'a> {
    None,
    Bearer(&'a Secret<String>),
    Basic { user: &'a str, password: &'a Secret<String> },
}

/// Cheap to clone; the clones share the room.
#[derive(Clone)]
pub struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    room: Arc<Semaphore>,
}

impl Wire {
    /// `None` when this build has no cryptography for TLS.
    pub fn new() -> Option<Wire> {
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
        // A connection that was kept may be closed at the other end, and a code can be sent only once.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Some(Wire { client, room: Arc::new(Semaphore::new(ROOM)) })
    }

    pub async fn get(&self, url: &str, credentials: Credentials<'_>) -> Result<Value, Trouble> {
        let request = request(Method::GET, url, &credentials, Bytes::new())?;
        self.within(WITHIN, url, request).await
    }

    /// What everybody may read: a description, keys.
    pub async fn look(&self, url: &str) -> Result<Value, Trouble> {
        let request = request(Method::GET, url, &Credentials::None, Bytes::new())?;
        self.within(LOOK_WITHIN, url, request).await
    }

    pub async fn post(
        &self,
        url: &str,
        form: &[(&str, &str)],
        credentials: Credentials<'_>,
    ) -> Result<Map<String, Value>, Trouble> {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = request(Method::POST, url, &credentials, Bytes::from(form))?;
        match self.within(WITHIN, url, request).await? {
            Value::Object(members) => Ok(members),
            _ => Err(Trouble::NotUnderstood(format!("{} answers with no object", shown(url)))),
        }
    }

    async fn within(
        &self,
        limit: Duration,
        url: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Value, Trouble> {
        let all = async {
            let closed = |_| Trouble::Unavailable("the client has ended".into());
            let _turn = self.room.acquire().await.map_err(closed)?;
            self.once(url, request).await
        };
        let late =
            |_| Err(Trouble::Unavailable(format!("no answer from {} in {} s", shown(url), limit.as_secs())));
        tokio::time::timeout(limit, all).await.unwrap_or_else(late)
    }

    async fn once(&self, url: &str, request: Request<Full<Bytes>>) -> Result<Value, Trouble> {
        let silent = |error: String| Trouble::Unavailable(format!("{}: {error}", shown(url)));
        let answer = self.client.request(request).await.map_err(|error| silent(causes(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| silent(causes(&*error)))?.to_bytes();
        let status = head.status.as_u16();
        let read = serde_json::from_slice::<Value>(&body);
        match (head.status.is_success(), read) {
            // Some providers refuse a code with a 200.
            (true, Ok(value)) => match value.get("error") {
                Some(error) if error.is_string() => {
                    Err(Trouble::Refused { status, error: plain(error.as_str()) })
                }
                _ => Ok(value),
            },
            // The place is told and not the content, which holds tokens.
            (true, Err(error)) => {
                let place = format!("line {} column {}", error.line(), error.column());
                Err(Trouble::NotUnderstood(format!("{}: {place} is not JSON", shown(url))))
            }
            (false, _) if status == 429 || status >= 500 => {
                Err(silent(format!("it answers with the status {status}")))
            }
            (false, read) => {
                let error = read.ok().and_then(|value| Some(plain(value.get("error")?.as_str())));
                Err(Trouble::Refused { status, error: error.unwrap_or_default() })
            }
        }
    }
}

fn request(
    method: Method,
    url: &str,
    credentials: &Credentials<'_>,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Trouble> {
    let not_allowed = || Trouble::NotAllowed(shown(url));
    let parsed = address(url).ok_or_else(not_allowed)?;
    let mut request = Request::builder()
        .method(method)
        .uri(parsed.as_str())
        .header(ACCEPT, "application/json")
        // Some providers answer nobody without a name.
        .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    let authorization = match credentials {
        Credentials::None => None,
        Credentials::Bearer(token) => Some(format!("Bearer {}", token.expose())),
        Credentials::Basic { user, password } => {
            let pair = format!("{}:{}", encoded(user), encoded(password.expose()));
            Some(format!("Basic {}", STANDARD.encode(pair)))
        }
    };
    if let Some(authorization) = authorization {
        let unfit = |_| Trouble::NotUnderstood("a token that cannot stand in a header".into());
        let mut value = HeaderValue::try_from(authorization).map_err(unfit)?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Full::new(body)).map_err(|_| not_allowed())
}

/// Client id and secret are form-encoded before they are joined (RFC 6749, section 2.3.1).
fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// An address that codes, secrets and tokens may be sent to: TLS, but on this machine.
pub fn address(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let loopback = match url.host()? {
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
        Host::Domain(name) => name == "localhost",
    };
    let good = match url.scheme() {
        "https" => true,
        "http" => loopback,
        _ => false,
    };
    (good && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// An address without its query, for messages.
fn shown(url: &str) -> String {
    plain(url.split(['?', '#']).next())
}

/// Short, and nothing that could forge a line of a log.
fn plain(text: Option<&str>) -> String {
    let text = text.unwrap_or_default();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_travel_by_tls_or_stay_on_this_machine() {
        for good in
            ["https://id.example.com/token", "http://127.0.0.1:9/x", "http://localhost/", "http://[::1]:1/"]
        {
            assert!(address(good).is_some(), "{good}");
        }
        for bad in [
            "http://id.example.com/token",
            "ftp://127.0.0.1/",
            "https://user:password@id.example.com/",
            "file:///etc/passwd",
            "/token",
            "",
        ] {
            assert!(address(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn client_id_and_secret_are_encoded_before_they_are_joined() {
        let secret = Secret::new("a:b c".to_owned());
        let credentials = Credentials::Basic { user: "id", password: &secret };
        let request = request(Method::POST, "https://a.example/", &credentials, Bytes::new()).unwrap();
        let expected = format!("Basic {}", STANDARD.encode("id:a%3Ab+c"));
        assert_eq!(request.headers()[AUTHORIZATION], expected.as_str());
        assert!(!format!("{request:?}").contains(&expected), "a secret is not for logs");
    }

    #[test]
    fn messages_hold_no_query_and_no_second_line() {
        assert_eq!(shown("https://a.example/x?code=secret#y"), "https://a.example/x");
        assert_eq!(plain(Some("a\r\nforged")), "a  forged");
    }
}
