//! One question and its answer over HTTP/1.1: pooled, bounded in time and size, sent once.

use crate::error::{Reason, Unavailable};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::client::legacy::{Client, Error as Failure};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::time::Duration;

/// Far above the longest answer to a single question.
pub(crate) const MAX_BODY: usize = 1024 * 1024;
/// Tollgate gives up an idle connection after 300 s, after 10 s when it is crowded; who gives up first must be us, so that
/// no question meets a closing socket.
const IDLE: Duration = Duration::from_secs(9);
/// More than these are closed when they have nothing to do.
const KEPT: usize = 128;
/// Before the second attempt: a server that restarts is gone for a moment.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(feature = "rustls")]
pub(crate) type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "rustls"))]
pub(crate) type Connector = HttpConnector;

/// Where Tollgate is and how it is reached.
pub(crate) struct Wire<C = Connector> {
    client: Client<C, Full<Bytes>>,
    scheme: Scheme,
    authority: Authority,
    /// For everything, from the connection to the last byte.
    timeout: Duration,
}

pub(crate) struct Question {
    pub method: Method,
    /// Path and query, encoded.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Question {
    pub fn get(target: impl Into<String>) -> Question {
        Question { method: Method::GET, target: target.into(), headers: HeaderMap::new(), body: Bytes::new() }
    }

    pub fn post(target: impl Into<String>, body: &serde_json::Value) -> Question {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = Bytes::from(body.to_string());
        Question { method: Method::POST, target: target.into(), headers, body }
    }
}

/// All of it, not yet understood.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A text as part of a path or query. All but letters, digits, `-` and `_`, so that no id is taken for a path.
pub(crate) fn escape(text: &str) -> String {
    const ALL_BUT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');
    utf8_percent_encode(text, ALL_BUT).to_string()
}

/// The plain connector; `https_too` when another layer adds TLS to it.
pub(crate) fn http_connector(https_too: bool) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(!https_too);
    // Questions are one packet; waiting for more would only delay them.
    connector.set_nodelay(true);
    connector
}

impl<C: Connect + Clone + Send + Sync + 'static> Wire<C> {
    pub fn new(connector: C, scheme: Scheme, authority: Authority, timeout: Duration) -> Wire<C> {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(KEPT)
            // Only for a kept connection that turns out to be closed before a byte of the question went out.
            .retry_canceled_requests(true)
            .build(connector);
        Wire { client, scheme, authority, timeout }
    }

    /// Asks once. Whatever goes wrong, nothing is sent a second time.
    pub async fn ask(&self, question: Question) -> Result<Answer, Unavailable> {
        let request = self.request(question)?;
        let timeout = self.timeout;
        // When the time is over the connection goes with the future, so that no late answer meets the next question.
        tokio::time::timeout(timeout, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(Unavailable::new(Reason::TimedOut(timeout))))
    }

    fn request(&self, question: Question) -> Result<Request<Full<Bytes>>, Unavailable> {
        let target = PathAndQuery::try_from(question.target);
        let target = target.map_err(|error| Unavailable::because(Reason::NotAsked, error))?;
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        let uri = uri.path_and_query(target).build();
        let uri = uri.map_err(|error| Unavailable::because(Reason::NotAsked, error))?;
        let mut request = Request::new(Full::new(question.body));
        *request.method_mut() = question.method;
        *request.uri_mut() = uri;
        *request.headers_mut() = question.headers;
        Ok(request)
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Unavailable> {
        let response = match self.client.request(request.clone()).await {
            Err(failure) if failure.is_connect() => {
                tokio::time::sleep(PAUSE).await;
                self.client.request(request).await
            }
            sent => sent,
        };
        let (parts, body) = response.map_err(unsent)?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(unread)?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

fn unsent(failure: Failure) -> Unavailable {
    let reason = if failure.is_connect() { Reason::NoConnection } else { Reason::BrokenOff };
    Unavailable::because(reason, failure)
}

fn unread(failure: Box<dyn std::error::Error + Send + Sync>) -> Unavailable {
    let reason = if failure.is::<LengthLimitError>() { Reason::TooLarge } else { Reason::BrokenOff };
    Unavailable::new(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::rt::TokioIo;
    use std::future::Future;
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tower_service::Service;

    /// Fails as often as it is told to, and counts how often it was asked to connect.
    #[derive(Clone)]
    struct Unsteady {
        attempts: Arc<AtomicUsize>,
        failures: usize,
        connector: HttpConnector,
    }

    impl Service<Uri> for Unsteady {
        type Response = TokioIo<TcpStream>;
        type Error = Box<dyn std::error::Error + Send + Sync>;
        type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, uri: Uri) -> Self::Future {
            let fails = self.attempts.fetch_add(1, Ordering::SeqCst) < self.failures;
            let connecting = self.connector.call(uri);
            Box::pin(async move {
                if fails {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
                }
                Ok(connecting.await?)
            })
        }
    }

    /// Answers each connection's first request with `null`, and counts connections.
    async fn nobody() -> (Authority, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let authority = listener.local_addr().expect("it is bound").to_string();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull";
                stream.write_all(answer).await.expect("the test reads");
            }
        });
        (authority.try_into().expect("an address is an authority"), count)
    }

    async fn ask(failures: usize) -> (Result<Answer, Unavailable>, usize, usize) {
        let (authority, served) = nobody().await;
        let attempts = Arc::new(AtomicUsize::new(0));
        let connector = Unsteady { attempts: attempts.clone(), failures, connector: http_connector(false) };
        let wire = Wire::new(connector, Scheme::HTTP, authority, Duration::from_secs(10));
        let answer = wire.ask(Question::get("/")).await;
        (answer, attempts.load(Ordering::SeqCst), served.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_failed_connection_is_tried_once_more() {
        let (answer, attempts, served) = ask(1).await;
        assert_eq!(answer.expect("the second attempt connects").body, "null");
        assert_eq!((attempts, served), (2, 1));
    }

    #[tokio::test]
    async fn two_failed_connections_are_the_end() {
        let (answer, attempts, served) = ask(usize::MAX).await;
        assert_eq!(answer.err().expect("nothing connects").reason(), Reason::NoConnection);
        assert_eq!((attempts, served), (2, 0));
    }

    #[test]
    fn no_text_leaves_its_place_in_a_target() {
        assert_eq!(escape("aZ09-_"), "aZ09-_");
        assert_eq!(escape("../x?y=1&z#é \r\n"), "%2E%2E%2Fx%3Fy%3D1%26z%23%C3%A9%20%0D%0A");
    }

    #[tokio::test]
    async fn a_target_beyond_what_http_can_write_is_not_asked() {
        let (authority, served) = nobody().await;
        let wire = Wire::new(http_connector(false), Scheme::HTTP, authority, Duration::from_secs(10));
        let answer = wire.ask(Question::get(format!("/{}", "a".repeat(70_000)))).await;
        assert_eq!(answer.err().expect("it is too long").reason(), Reason::NotAsked);
        assert_eq!(served.load(Ordering::SeqCst), 0);
    }
}
