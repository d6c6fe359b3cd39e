//! One delivery over HTTP: bounded in time and size, to allowed addresses only, without following redirects.

use crate::reach::{NOT_ALLOWED, Reach, Resolver};
use crate::schedule::{Answer, Tried};
use crate::signature::sign;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kernel::time::SECOND;
use kernel::{Millis, Secret, causes};
use std::time::Duration;
use url::Url;

/// From the look-up of the name to the first characters of the answer.
pub(crate) const WITHIN: Duration = Duration::from_secs(10);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// For the text that the log shows, after the status is known.
const TEXT_WITHIN: Duration = Duration::from_secs(1);
/// More of an answer is not read.
const READ_BYTES: usize = 1_024;
/// So much of it is kept for the log.
const KEPT_CHARACTERS: usize = 200;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Wire {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    reach: Reach,
}

impl Wire {
    /// `None` when this build has no cryptography for TLS.
    pub fn new(reach: Reach) -> Option<Wire> {
        let mut connector = HttpConnector::new_with_resolver(Resolver::new(reach));
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
            .ok()?
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        // A connection for each delivery: one that was kept may be closed at the other end, which costs a try.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Some(Wire { client, reach })
    }

    pub async fn deliver(
        &self,
        url: &str,
        secret: &Secret<String>,
        id: &str,
        payload: String,
        now: Millis,
    ) -> Tried {
        // Sent to what was judged, which is the address as this parser spells it.
        let url = Url::parse(url).ok();
        let url = url.as_ref().filter(|url| url.host().is_some_and(|host| self.reach.allows_host(&host)));
        let Some(url) = url else { return Tried::Unanswered(NOT_ALLOWED.into()) };
        let Some(request) = request(url.as_str(), secret, id, payload, now) else {
            return Tried::Unanswered("the address or the secret of the endpoint cannot be used".into());
        };
        match tokio::time::timeout(WITHIN, self.exchange(request)).await {
            Ok(tried) => tried,
            Err(_) => Tried::Unanswered(format!("no answer in {} s", WITHIN.as_secs())),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Tried {
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) => return Tried::Unanswered(one_line(&causes(&error))),
        };
        let (head, body) = answer.into_parts();
        let status = head.status.as_u16();
        // A body that comes drop by drop must not make a taken event look untaken.
        let text = tokio::time::timeout(TEXT_WITHIN, beginning(body)).await.unwrap_or_default();
        let answer = Answer { status, text, wait: wait(&head.headers) };
        if head.status.is_success() { Tried::Taken(answer) } else { Tried::Refused(answer) }
    }
}

fn request(
    url: &str,
    secret: &Secret<String>,
    id: &str,
    payload: String,
    now: Millis,
) -> Option<Request<Full<Bytes>>> {
    let seconds = now.0 / SECOND;
    let signature = sign(secret, id, seconds, payload.as_bytes())?;
    Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signature)
        .body(Full::new(Bytes::from(payload)))
        .ok()
}

fn wait(headers: &HeaderMap) -> Option<i64> {
    let seconds: i64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(seconds.clamp(0, i64::MAX / SECOND) * SECOND)
}

/// What breaks off while it is read has been answered all the same: the status stands.
async fn beginning(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < READ_BYTES && !body.is_end_stream() {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(&data[..data.len().min(READ_BYTES)]);
        }
    }
    one_line(&String::from_utf8_lossy(&bytes))
}

/// Short, and nothing that could forge a line of a log.
fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(KEPT_CHARACTERS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_kept_short_and_on_one_line() {
        assert_eq!(one_line(" ok\r\nforged: line\0 "), "ok  forged: line");
        assert_eq!(one_line(&"é".repeat(1_000)).chars().count(), KEPT_CHARACTERS);
    }

    /// It says what became of the event and then never ends.
    #[tokio::test]
    async fn an_answer_whose_body_never_ends_is_an_answer() {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 1_024]).unwrap();
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nthanks";
            connection.write_all(head).unwrap();
            // Until the other end goes away.
            while connection.read(&mut [0; 1_024]).is_ok_and(|read| read > 0) {}
        });
        let wire = Wire::new(Reach { loopback: true, private: false }).unwrap();
        let secret = Secret::new("whsec_AAAA".to_owned());
        let tried =
            wire.deliver(&format!("http://{address}/"), &secret, "evt_1", "{}".into(), Millis(0)).await;
        assert!(matches!(&tried, Tried::Taken(answer) if answer.status == 200), "{tried:?}");
    }

    #[tokio::test]
    async fn addresses_inside_are_refused_before_anything_is_sent() {
        let wire = Wire::new(Reach::default()).unwrap();
        let secret = Secret::new("whsec_AAAA".to_owned());
        for url in [
            "https://2130706433:1/",
            "https://0x7f.1:1/",
            "https://127.0.0.1:1/",
            "https://[::1]:1/",
            "https://169.254.169.254/latest",
            "https://localhost:1/",
        ] {
            let tried = wire.deliver(url, &secret, "evt_1", "{}".into(), Millis(0)).await;
            let Tried::Unanswered(why) = tried else { panic!("{url}: {tried:?}") };
            assert!(why.ends_with(NOT_ALLOWED), "{url}: {why}");
        }
    }
}
