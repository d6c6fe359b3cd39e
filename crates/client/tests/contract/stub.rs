//! A server whose every byte is chosen by the test, on a bare TCP socket.

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tollgate_client::Tollgate;

pub const KEY: &str = "tg_sk_key-marker";
pub const COOKIE: &str = "better-auth.session_token=cookie-marker";

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// These bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// These bytes, then the end of the connection.
    AndClose(Vec<u8>),
    /// These bytes, then a reset.
    AndReset(Vec<u8>),
    /// These bytes, a few at a time.
    Slowly(Vec<u8>, Duration),
    /// Nothing, for ever.
    Silence,
}

#[derive(Debug, Clone)]
pub struct Received {
    /// `GET /path`.
    pub line: String,
    /// `name: value`, names in lower case.
    pub headers: Vec<String>,
    pub body: String,
    /// The connection it came on, from 1.
    pub connection: usize,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

#[derive(Default)]
struct Log {
    received: Vec<Received>,
    connections: usize,
}

#[derive(Clone)]
pub struct Stub {
    pub address: SocketAddr,
    log: Arc<Mutex<Log>>,
}

impl Stub {
    /// Answers each request as the function says.
    pub async fn start(reply: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let stub = Stub { address: listener.local_addr().expect("it is bound"), log: Arc::default() };
        let (log, reply) = (stub.log.clone(), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = {
                    let mut log = log.lock().unwrap();
                    log.connections += 1;
                    log.connections
                };
                tokio::spawn(serve(stream, number, log.clone(), reply.clone()));
            }
        });
        stub
    }

    /// The same to every request.
    pub async fn always(reply: Reply) -> Stub {
        Stub::start(move |_| reply.clone()).await
    }

    /// A handle with a service key that gives up after this time.
    pub fn hurried(&self, timeout: Duration) -> Tollgate {
        let builder = Tollgate::builder(format!("http://{}", self.address));
        builder.service_key(KEY).timeout(timeout).build().expect("the address is one")
    }

    /// With time enough for a busy machine.
    pub fn tollgate(&self) -> Tollgate {
        self.hurried(Duration::from_secs(20))
    }

    pub fn received(&self) -> Vec<Received> {
        self.log.lock().unwrap().received.clone()
    }

    pub fn connections(&self) -> usize {
        self.log.lock().unwrap().connections
    }

    /// The requests for this target.
    pub fn asked(&self, line: &str) -> Vec<Received> {
        self.received().into_iter().filter(|received| received.line == line).collect()
    }

    /// Waits until so many requests for the target have come.
    pub async fn until_asked(&self, line: &str, count: usize) -> Vec<Received> {
        let waiting = async {
            loop {
                let asked = self.asked(line);
                if asked.len() >= count {
                    return asked;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let asked = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        asked.unwrap_or_else(|_| panic!("{line} was not asked {count} times: {:?}", self.received()))
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    log: Arc<Mutex<Log>>,
    reply: Arc<dyn Fn(&Received) -> Reply + Send + Sync>,
) {
    while let Some(received) = receive(&mut stream, connection).await {
        log.lock().unwrap().received.push(received.clone());
        // A client that has gone is what some tests want.
        match reply(&received) {
            Reply::Bytes(bytes) => {
                let _ = stream.write_all(&bytes).await;
            }
            Reply::AndClose(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Reply::AndReset(bytes) => {
                let _ = stream.write_all(&bytes).await;
                // What was written must have arrived before the reset throws it away.
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.set_zero_linger().expect("a socket can be told to reset");
                return;
            }
            Reply::Slowly(bytes, pause) => {
                for piece in bytes.chunks(8) {
                    if stream.write_all(piece).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
            Reply::Silence => std::future::pending().await,
        }
    }
}

async fn receive(stream: &mut TcpStream, connection: usize) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let mut lines = head.trim_end().split("\r\n");
    let line = lines.next().expect("split gives one").trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<String> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("a header has a name");
            format!("{}: {value}", name.to_ascii_lowercase())
        })
        .collect();
    let mut received = Received { line, headers, body: String::new(), connection };
    let length = received.header("content-length").map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    received.body = String::from_utf8(body).expect("a body is text");
    Some(received)
}

/// An answer with these headers and body.
pub fn answer(status: &str, headers: &[&str], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for line in headers {
        text.push_str(&format!("{line}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text.into_bytes()
}

pub const JSON: &str = "Content-Type: application/json";

pub fn json_reply(status: &str, body: &Value) -> Reply {
    Reply::Bytes(answer(status, &[JSON], &body.to_string()))
}

/// A refusal as Tollgate words it.
pub fn refusal(status: &str, code: &str) -> Reply {
    json_reply(status, &json!({"error_code": code, "message": "no", "detail": null}))
}

/// As `get-session` answers.
pub fn session_body(expires_at: &str) -> Value {
    json!({
        "session": {
            "expiresAt": expires_at, "token": "token-marker", "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z", "ipAddress": "", "userAgent": "", "userId": "ada",
            "impersonatedBy": null, "activeOrganizationId": "acme", "activeTeamId": null, "id": "session-1",
        },
        "user": {
            "name": "Ada", "email": "ada@example.com", "emailVerified": true, "image": null,
            "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z",
            "role": "user,admin", "banned": false, "id": "ada",
        },
    })
}

pub fn signed_in() -> Value {
    session_body("2999-01-01T00:00:00.000Z")
}

/// A request's headers with the visitor's cookies among others.
pub fn visitor() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, HeaderValue::from_static(COOKIE));
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer token-marker"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static("browser"));
    headers.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.1"));
    headers
}
