//! The edge over real sockets.

use super::{Drained, Edge, Metrics, Refusal, RequestContext, Shutdown, body, serve};
use crate::openapi::RouteDoc;
use crate::settings::Limits;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use http::{HeaderName, HeaderValue, Request, Response};
use kernel::{Clock, Millis, Stopwatch, TrustedOrigins, TrustedProxies};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(10);
/// What a refusal may take.
const PROMPT: Duration = Duration::from_millis(50);
const HELLO: &str = "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";
const ROUTES: &[RouteDoc] = &[RouteDoc::get("/hello", "")];

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Millis {
        Millis(1_000)
    }
}

/// Lets a test hold a handler in the middle.
#[derive(Default)]
struct Gate {
    begun: Notify,
    go_on: Notify,
}

struct Server {
    address: SocketAddr,
    shutdown: Shutdown,
    metrics: Arc<Metrics>,
    gate: Arc<Gate>,
    task: JoinHandle<Drained>,
}

async fn start(limits: Limits, proxies: &[&str]) -> Server {
    let metrics = Arc::new(Metrics::new(&[ROUTES]));
    let edge = Edge {
        limits,
        proxies: TrustedProxies::parse(&proxies.iter().map(|text| text.to_string()).collect::<Vec<_>>())
            .unwrap(),
        origins: TrustedOrigins::new("https://auth.example", &["https://app.example".into()]).unwrap(),
        base_origin: "https://auth.example".into(),
        https: true,
        clock: Arc::new(FixedClock),
        metrics: metrics.clone(),
    };
    let gate = Arc::new(Gate::default());
    let exposing = || async {
        let name = HeaderName::from_static("access-control-expose-headers");
        ([(name, HeaderValue::from_static("set-auth-token"))], "here")
    };
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/context", get(|context: RequestContext| async move { format!("{context:?}") }))
        .route("/echo", post(echo))
        .route("/wait", get(wait))
        .route("/large", get(|| async { vec![b'x'; 4 << 20] }))
        .route("/panic", get(|| async { panic!("deliberately") as &'static str }))
        .route("/api/auth/panic", get(|| async { panic!("deliberately") as &'static str }))
        .route("/api/auth/here", get(exposing))
        .with_state(gate.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let task = tokio::spawn(serve(vec![listener], router, Arc::new(edge), shutdown.clone()));
    Server { address, shutdown, metrics, gate, task }
}

async fn echo(request: Request<Body>) -> Response<Body> {
    match body::read(request, 64, Duration::from_millis(100)).await {
        Ok(bytes) => Response::new(Body::from(bytes)),
        Err(refusal) => refusal.response(super::Dialect::Tollgate),
    }
}

async fn wait(State(gate): State<Arc<Gate>>) -> &'static str {
    gate.begun.notify_one();
    gate.go_on.notified().await;
    "waited"
}

/// One connection, read an answer at a time.
struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

impl Client {
    async fn connect(server: &Server) -> Client {
        Client { stream: TcpStream::connect(server.address).await.unwrap(), unread: Vec::new() }
    }

    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn more(&mut self) -> usize {
        let mut piece = vec![0; 64 * 1024];
        let read = self.stream.read(&mut piece);
        let count = tokio::time::timeout(PATIENCE, read).await.expect("nothing came").unwrap_or(0);
        self.unread.extend_from_slice(&piece[..count]);
        count
    }

    async fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert_ne!(self.more().await, 0, "closed in a head: {:?}", String::from_utf8_lossy(&self.unread));
        };
        let head = String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let headers: HashMap<String, String> =
            lines.map(|line| line.split_once(": ").unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length {
            assert_ne!(self.more().await, 0, "closed in a body");
        }
        let body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
        Answer { status, headers, body }
    }

    async fn ask(&mut self, text: &str) -> Answer {
        self.send(text).await;
        self.answer().await
    }

    async fn is_closed(&mut self) -> bool {
        self.more().await == 0
    }
}

impl Server {
    async fn client(&self) -> Client {
        Client::connect(self).await
    }

    async fn ask(&self, text: &str) -> Answer {
        self.client().await.ask(text).await
    }

    /// Waits until `/metrics` shows the line.
    async fn shows(&self, line: &str) {
        let seen = async {
            while !self.metrics.render().lines().any(|found| found == line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect(line);
    }

    async fn stop(self) -> Drained {
        self.shutdown.begin();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it does not stop").unwrap()
    }
}

/// Lets the timers that must do nothing run out: what follows holds however long this takes.
async fn several_rests() {
    tokio::time::sleep(Duration::from_millis(150)).await;
}

fn get_with(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n")
}

/// Refused with this status, in our own words, within [`PROMPT`], and the connection ends.
async fn is_refused(server: &Server, text: &str, refusal: Refusal) {
    let mut client = server.client().await;
    let took = Stopwatch::start();
    let answer = client.ask(text).await;
    assert!(took.elapsed() < PROMPT, "{refusal:?} took {:?}", took.elapsed());
    assert_eq!(answer.status, refusal.status(), "{answer:?}");
    assert!(answer.body.contains(refusal.code(super::Dialect::Tollgate)), "{answer:?}");
    assert!(!answer.headers["x-request-id"].is_empty());
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["connection"], "close");
    assert!(client.is_closed().await);
    server.shows(&format!("tollgate_http_refused_total{{reason=\"{}\"}} 1", refusal.label())).await;
}

#[tokio::test]
async fn a_kept_connection_answers_again_and_every_answer_has_its_headers() {
    let server = start(Limits::default(), &[]).await;
    let mut client = server.client().await;
    let (first, second) = (client.ask(HELLO).await, client.ask(HELLO).await);
    assert_eq!((first.status, first.body.as_str()), (200, "hello"));
    assert_ne!(first.headers["x-request-id"], second.headers["x-request-id"]);
    assert_eq!(first.headers["x-request-id"].len(), 20);
    assert_eq!(first.headers["strict-transport-security"], "max-age=31536000");
    assert!(!first.headers.contains_key("cache-control"));
    assert!(!first.headers.contains_key("vary"));
    let missing = client.ask(&get_with("/api/auth/nothing", "")).await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.headers["expires"], "0");
    assert_eq!(missing.headers["cdn-cache-control"], "no-store");
    assert_eq!(missing.headers["vary"], "Origin");
    assert_eq!(client.ask(&get_with("/api/nothing", "")).await.headers["cache-control"], "no-store");
    server.shows("tollgate_http_requests_total{route=\"/hello\",method=\"GET\",status=\"2xx\"} 2").await;
    server.shows("tollgate_http_requests_in_flight 0").await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start(Limits::default(), &[]).await;
    let mut client = server.client().await;
    let echo = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc";
    client.send(&format!("{HELLO}{echo}{HELLO}GET /missing HTTP/1.1\r\n\r\nNOT HTTP\r\n\r\n")).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let answer = client.answer().await;
        seen.push((answer.status, answer.body));
    }
    assert_eq!(seen[..3], [(200, "hello".into()), (200, "abc".into()), (200, "hello".into())]);
    assert_eq!(seen[3].0, 404);
    assert_eq!(seen[4].0, 400);
    assert!(seen[4].1.contains("bad_request"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn urls_above_the_limit_are_refused_even_before_they_end() {
    let server = start(Limits::default(), &[]).await;
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    assert_eq!(server.ask(&get_with(&path(8_192), "")).await.status, 404);
    is_refused(&server, &get_with(&path(8_193), ""), Refusal::UrlTooLong).await;
    let mut client = server.client().await;
    let answer = client.ask(&format!("GET {}", path(17_000))).await;
    assert_eq!(answer.status, 414);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let server = start(Limits::default(), &[]).await;
    let with = |count: usize| {
        let lines: String = (1..count).map(|number| format!("x-{number}: 1\r\n")).collect();
        get_with("/hello", &lines)
    };
    assert_eq!(server.ask(&with(100)).await.status, 200);
    is_refused(&server, &with(101), Refusal::HeadersTooLarge).await;
}

#[tokio::test]
async fn a_head_above_16_kib_is_refused_even_before_it_ends() {
    let server = start(Limits::default(), &[]).await;
    let with = |length: usize| {
        let rest = get_with("/hello", "cookie: \r\n").len();
        get_with("/hello", &format!("cookie: {}\r\n", "a".repeat(length - rest)))
    };
    assert_eq!(server.ask(&with(16_384)).await.status, 200);
    is_refused(&server, &with(16_385), Refusal::HeadersTooLarge).await;
    let endless = get_with("/hello", &format!("cookie: {}", "a".repeat(20_000)));
    assert_eq!(server.ask(endless.trim_end()).await.status, 431);
}

#[tokio::test]
async fn what_is_not_http_is_refused_in_our_words() {
    let server = start(Limits::default(), &[]).await;
    is_refused(&server, "GET / HTTP/1.1\r\nbad header\r\n\r\n", Refusal::Malformed).await;
    for text in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "POST /echo HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}",
    ] {
        let mut client = server.client().await;
        assert_eq!(client.ask(text).await.status, 400, "{text}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn a_body_announced_too_large_is_refused_unread() {
    let server = start(Limits::default(), &[]).await;
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 65\r\n\r\n";
    is_refused(&server, head, Refusal::BodyTooLarge).await;
    let head = "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 64\r\n\r\n";
    let answer = server.ask(&format!("{head}{}", "a".repeat(64))).await;
    assert_eq!((answer.status, answer.body.len()), (200, 64));
    let chunks = "POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for whole in [format!("{head}{}", "a".repeat(64)), chunks.into()] {
        assert!(!server.ask(&whole).await.headers.contains_key("connection"), "read to its end, so kept");
    }
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_refused_and_its_answer_arrives() {
    let server = start(Limits::default(), &[]).await;
    let mut client = server.client().await;
    client.send("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    // More than the socket's buffers hold would block; so much is thrown away, and nothing is reset.
    for _ in 0..20 {
        client.send(&format!("400\r\n{}\r\n", "a".repeat(1_024))).await;
    }
    assert_eq!(client.answer().await.status, 413);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let server = start(Limits::default(), &[]).await;
    // Many at once: the body's time ends together with a look at the connection, which must not take it for idle.
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = server.client().await;
        client.send("POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc").await;
        clients.push(client);
    }
    for client in &mut clients {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.headers["connection"].as_str()), (408, "close"));
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn the_rest_of_a_body_that_nobody_read_is_never_a_request() {
    let server = start(Limits::default(), &[]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = server.client().await;
        // The handler answers without looking at the body.
        client.send("GET /hello HTTP/1.1\r\nhost: x\r\ncontent-length: 400\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 200);
        clients.push(client);
    }
    several_rests().await;
    for client in &mut clients {
        let _ = client.stream.write_all(HELLO.as_bytes()).await;
        assert!(client.is_closed().await, "{}", String::from_utf8_lossy(&client.unread));
    }
}

#[tokio::test]
async fn who_leaves_a_long_body_unread_says_that_the_connection_closes() {
    let server = start(Limits::default(), &[]).await;
    for framing in ["content-length: 100000", "transfer-encoding: chunked"] {
        let answer = server.ask(&format!("GET /hello HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.headers["connection"].as_str()), (200, "close"), "{framing}");
    }
    let mut client = server.client().await;
    for _ in 0..3 {
        let short = "GET /hello HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc";
        assert!(!client.ask(short).await.headers.contains_key("connection"), "thrown away, so kept");
    }
}

#[tokio::test]
async fn slow_heads_are_cut_and_idle_connections_are_not() {
    let server = start(Limits { header_read_ms: 150, ..Limits::default() }, &[]).await;
    let (mut silent, mut kept) = (server.client().await, server.client().await);
    assert_eq!(kept.ask(HELLO).await.status, 200);
    let mut slow: Vec<Client> = Vec::new();
    for _ in 0..20 {
        slow.push(server.client().await);
    }
    let took = Stopwatch::start();
    for byte in "GET /he".chars() {
        for client in &mut slow {
            client.send(&byte.to_string()).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for client in &mut slow {
        let answer = client.answer().await;
        assert_eq!(answer.status, 408);
        assert!(client.is_closed().await);
    }
    assert!((140..2_000).contains(&took.elapsed().as_millis()), "{:?}", took.elapsed());
    assert_eq!(kept.ask(HELLO).await.status, 200);
    assert_eq!(silent.ask(HELLO).await.status, 200);
}

#[tokio::test]
async fn a_slow_head_on_a_kept_connection_is_cut_too() {
    let server = start(Limits { header_read_ms: 100, ..Limits::default() }, &[]).await;
    let mut client = server.client().await;
    assert_eq!(client.ask(HELLO).await.status, 200);
    assert_eq!(client.ask("GET /hello HT").await.status, 408);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_resting_connection_gives_its_buffers_back_and_wakes_up() {
    let server = start(Limits::default(), &[]).await;
    let mut client = server.client().await;
    for _ in 0..2 {
        assert_eq!(client.ask(HELLO).await.status, 200);
        server.shows("tollgate_http_connections_resting 1").await;
    }
    // Half of the next request is there already: it is kept.
    let (begin, end) = HELLO.split_at(10);
    assert_eq!(client.ask(&format!("{HELLO}{begin}")).await.status, 200);
    several_rests().await;
    assert_eq!(client.ask(end).await.body, "hello");
}

#[tokio::test]
async fn a_handler_that_takes_its_time_is_not_taken_for_rest() {
    let server = start(Limits { header_read_ms: 50, ..Limits::default() }, &[]).await;
    let mut client = server.client().await;
    client.send(&get_with("/wait", "")).await;
    server.gate.begun.notified().await;
    several_rests().await;
    server.gate.go_on.notify_one();
    assert_eq!(client.answer().await.body, "waited");
}

#[tokio::test]
async fn a_large_answer_arrives_whole_at_a_client_that_reads_late() {
    let server = start(Limits::default(), &[]).await;
    let mut client = server.client().await;
    client.send(&get_with("/large", "")).await;
    several_rests().await;
    let answer = client.answer().await;
    assert_eq!(answer.body.len(), 4 << 20);
    assert_eq!(client.ask(HELLO).await.status, 200);
}

#[tokio::test]
async fn surplus_connections_get_503_at_once() {
    let server = start(Limits { max_connections: 2, ..Limits::default() }, &[]).await;
    let (mut one, mut two) = (server.client().await, server.client().await);
    assert_eq!(one.ask(HELLO).await.status, 200);
    assert_eq!(two.ask(HELLO).await.status, 200);
    let took = Stopwatch::start();
    let mut three = server.client().await;
    let answer = three.ask(HELLO).await;
    assert!(took.elapsed() < PROMPT, "{:?}", took.elapsed());
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(three.is_closed().await);
    drop(one);
    server.shows("tollgate_http_connections 1").await;
    assert_eq!(server.ask(HELLO).await.status, 200);
}

#[tokio::test]
async fn a_panic_is_a_500_with_the_request_id_in_each_dialect() {
    let server = start(Limits::default(), &[]).await;
    let mut client = server.client().await;
    let answer = client.ask(&get_with("/panic", "")).await;
    assert_eq!(answer.status, 500);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["error_code"], "internal");
    assert_eq!(body["detail"], answer.headers["x-request-id"].as_str());
    let answer = client.ask(&get_with("/api/auth/panic", "")).await;
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["code"], "INTERNAL_SERVER_ERROR");
    assert_eq!(body.as_object().unwrap().len(), 2);
    assert_eq!(client.ask(HELLO).await.status, 200);
    server.shows("tollgate_http_panics_total 2").await;
}

#[tokio::test]
async fn only_a_trusted_proxy_names_client_and_request() {
    let headers = "x-forwarded-for: 192.0.2.1\r\nx-request-id: from-proxy.1\r\n";
    let trusting = start(Limits::default(), &["127.0.0.1"]).await;
    let answer = trusting.ask(&get_with("/context", headers)).await;
    assert!(answer.body.contains("Known(192.0.2.1)"), "{}", answer.body);
    assert!(answer.body.contains("Millis(1000)"), "{}", answer.body);
    assert_eq!(answer.headers["x-request-id"], "from-proxy.1");
    let answer = trusting.ask(&get_with("/context", "x-request-id: a b\r\n")).await;
    assert_eq!(answer.headers["x-request-id"].len(), 20);
    let alone = start(Limits::default(), &[]).await;
    let answer = alone.ask(&get_with("/context", headers)).await;
    assert!(answer.body.contains("Known(127.0.0.1)"), "{}", answer.body);
    assert_eq!(answer.headers["x-request-id"].len(), 20);
}

#[tokio::test]
async fn trusted_origins_may_read_and_others_may_not() {
    let server = start(Limits::default(), &[]).await;
    let from =
        async |origin: &str| server.ask(&get_with("/api/auth/here", &format!("origin: {origin}\r\n"))).await;
    let app = from("https://app.example").await;
    assert_eq!(app.headers["access-control-allow-origin"], "https://app.example");
    assert_eq!(app.headers["access-control-allow-credentials"], "true");
    assert_eq!(app.headers["access-control-expose-headers"], "set-auth-token");
    let own = from("https://auth.example").await;
    assert_eq!(own.headers["access-control-allow-origin"], "https://auth.example");
    assert_eq!(own.headers["access-control-expose-headers"], "set-auth-token");
    for origin in ["https://evil.example", "null", "https://app.example.evil.example"] {
        let other = from(origin).await;
        assert!(!other.headers.contains_key("access-control-allow-origin"), "{origin}");
        assert_eq!(other.headers["vary"], "Origin");
    }
}

#[tokio::test]
async fn a_preflight_is_answered_for_trusted_origins_only() {
    let server = start(Limits::default(), &[]).await;
    let ask = async |origin: &str| {
        let text = format!(
            "OPTIONS /api/auth/here HTTP/1.1\r\nhost: x\r\norigin: {origin}\r\n\
             access-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n\r\n"
        );
        server.ask(&text).await
    };
    let answer = ask("https://app.example").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers["access-control-allow-methods"], "GET, POST");
    assert_eq!(answer.headers["access-control-allow-headers"], "content-type");
    assert_eq!(answer.headers["access-control-max-age"], "600");
    assert!(!answer.headers["x-request-id"].is_empty());
    // The door's own answer: here axum's for a known path.
    assert_eq!(ask("https://evil.example").await.status, 405);
}

#[tokio::test]
async fn stopping_answers_what_has_begun_and_takes_nothing_new() {
    let server = start(Limits::default(), &[]).await;
    let (mut kept, mut busy) = (server.client().await, server.client().await);
    assert_eq!(kept.ask(HELLO).await.status, 200);
    busy.send(&get_with("/wait", "")).await;
    server.gate.begun.notified().await;
    server.shutdown.begin();
    // A request that was on its way when the stop began.
    let last = kept.ask(HELLO).await;
    assert_eq!((last.status, last.headers["connection"].as_str()), (200, "close"));
    assert!(kept.is_closed().await);
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("the listener stays open");
    assert!(!server.task.is_finished());
    server.gate.go_on.notify_one();
    let answer = busy.answer().await;
    assert_eq!((answer.body.as_str(), answer.headers["connection"].as_str()), ("waited", "close"));
    assert!(busy.is_closed().await);
    drop((kept, busy));
    assert_eq!(server.stop().await, Drained { cut: 0 });
}

#[tokio::test]
async fn stopping_ends_in_time_whatever_is_open() {
    let server = start(Limits { drain_ms: 1_200, ..Limits::default() }, &[]).await;
    let (mut silent, mut resting, mut half) =
        (server.client().await, server.client().await, server.client().await);
    assert_eq!(resting.ask(HELLO).await.status, 200);
    half.send("GET /hel").await;
    let mut stuck = server.client().await;
    stuck.send(&get_with("/wait", "")).await;
    server.gate.begun.notified().await;
    let took = Stopwatch::start();
    server.stop().await;
    assert!(took.elapsed() < Duration::from_millis(1_500), "{:?}", took.elapsed());
    assert!(silent.is_closed().await);
    assert!(resting.is_closed().await);
}

#[tokio::test]
async fn stopping_under_load_fails_no_request() {
    let server = start(Limits::default(), &[]).await;
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let mut client = server.client().await;
        tasks.push(tokio::spawn(async move {
            let mut answered = 0u32;
            loop {
                let answer = client.ask(HELLO).await;
                assert_eq!(answer.status, 200);
                answered += 1;
                if answer.headers.get("connection").is_some_and(|value| value == "close") {
                    return answered;
                }
            }
        }));
    }
    let line = "tollgate_http_connections 16";
    server.shows(line).await;
    assert_eq!(server.stop().await, Drained { cut: 0 });
    for task in tasks {
        assert!(task.await.unwrap() > 0);
    }
}
