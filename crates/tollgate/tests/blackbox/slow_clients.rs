//! Clients that are slow or send too much: cut and refused in time, while others notice nothing.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Browser, Connection, Engine, Request, Response, Server, at_full_length};
use crate::on_both_engines;

const SECOND: Duration = Duration::from_secs(1);
/// Promised are 50 ms; the rest is for a machine that compiles at the same time.
const REFUSED_WITHIN: Duration = Duration::from_millis(300);
const POLITE_WITHIN: Duration = Duration::from_millis(250);

fn connect(address: SocketAddr, timeout: Duration) -> Connection {
    let mut connection = Connection::open(address).expect("the server accepts");
    connection.set_timeout(timeout);
    connection
}

/// Sends the bytes one a second on all connections until the server has ended them all, or `limit` has passed. Gives for
/// each how long it lived and what it was told.
fn drip(mut clients: Vec<Connection>, bytes: &[u8], limit: Duration) -> Vec<(Duration, u16)> {
    let began = Instant::now();
    let mut ended = Vec::new();
    for tick in 0.. {
        assert!(began.elapsed() < limit, "{} clients are still served after {limit:?}", clients.len());
        let byte = bytes.get(tick % bytes.len()).copied().unwrap_or(b'a');
        let mut alive = Vec::new();
        for mut client in clients {
            if client.send(&[byte]).is_err() {
                ended.push((began.elapsed(), 0));
                continue;
            }
            client.set_timeout(Duration::from_micros(1));
            match client.receive_head() {
                Ok(response) => ended.push((began.elapsed(), response.status)),
                Err(crate::harness::Failure::TimedOut) => alive.push(client),
                Err(failure) => {
                    assert!(matches!(failure, crate::harness::Failure::Closed), "{failure:?}");
                    ended.push((began.elapsed(), 0));
                }
            }
        }
        clients = alive;
        if clients.is_empty() {
            break;
        }
        // The pace of the clients, not a wait for the server.
        let next = began + SECOND * u32::try_from(tick + 1).expect("a short test");
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    ended
}

/// Asks for its session again and again; gives the times, sorted.
fn polite_client(address: SocketAddr, cookie: &str, done: &AtomicBool) -> Vec<Duration> {
    let mut connection = connect(address, 10 * SECOND);
    let request = Request::get("/api/auth/get-session").header("Cookie", cookie);
    let mut times = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let began = Instant::now();
        let response = connection.exchange(&request).expect("no polite request fails").expect(200);
        times.push(began.elapsed());
        assert!(response.text().contains("ada@example.com"), "{}", response.text());
        // Twenty a second leave the machine to the others.
        std::thread::sleep(Duration::from_millis(50));
    }
    times.sort();
    times
}

fn slow_clients_are_cut(head: &[u8], drips: &[u8], told: u16, between: (Duration, Duration)) {
    let count = if at_full_length() { 2_000 } else { 300 };
    let server = Server::start(Engine::Sqlite);
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    let cookie = browser.cookie_header("/api/auth");
    let clients = (0..count).map(|_| {
        let mut client = connect(server.address, SECOND);
        client.send(head).expect("the server takes it");
        client
    });
    let clients: Vec<Connection> = clients.collect();
    let done = AtomicBool::new(false);
    let (ended, times) = std::thread::scope(|scope| {
        let polite = scope.spawn(|| polite_client(server.address, &cookie, &done));
        let ended = drip(clients, drips, between.1 + 10 * SECOND);
        done.store(true, Ordering::Relaxed);
        (ended, polite.join().expect("the polite client is served"))
    });
    let (first, last) =
        (ended.iter().map(|(time, _)| *time).min(), ended.iter().map(|(time, _)| *time).max());
    assert!(first >= Some(between.0) && last <= Some(between.1), "cut between {first:?} and {last:?}");
    // A few may meet the end of the connection before they read why.
    let answered = ended.iter().filter(|(_, status)| *status == told).count();
    assert!(answered >= count * 9 / 10, "{answered} of {count} were told {told}");
    let slow = times[times.len() * 19 / 20];
    assert!(slow <= POLITE_WITHIN, "{slow:?}");
}

#[test]
fn heads_that_come_a_byte_a_second_are_cut_after_ten_and_polite_clients_notice_nothing() {
    let line = b"GET /api/auth/get-session HTTP/1.1\r\nX-Slow: ";
    slow_clients_are_cut(line, b"a", 408, (9 * SECOND, 13 * SECOND));
}

/// The limit of half a minute makes this one long.
#[test]
fn bodies_that_come_a_byte_a_second_are_cut_after_thirty_and_polite_clients_notice_nothing() {
    if at_full_length() {
        let head = b"POST /api/auth/sign-in/email HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
            Content-Length: 1000\r\n\r\n";
        slow_clients_are_cut(head, b" ", 408, (29 * SECOND, 34 * SECOND));
    }
}

// ---- Too much ----

fn refused(server: &Server, bytes: &[u8]) -> Response {
    let mut connection = connect(server.address, 10 * SECOND);
    let began = Instant::now();
    connection.send(bytes).expect("the server takes it");
    let response = connection.receive("POST").expect("an answer");
    assert!(began.elapsed() <= REFUSED_WITHIN, "{} after {:?}", response.status, began.elapsed());
    response
}

fn head(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes()
}

/// A body for the sign-in, of any length.
fn post(length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /api/auth/sign-in/email HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn what_is_too_large_is_refused_at_once_and_read_no_further(engine: Engine) {
    let server = Server::start(engine);
    let long = |length: usize| "a".repeat(length);
    assert_eq!(refused(&server, &head(&format!("/{}", long(8 * 1024)), "")).status, 414);
    assert_eq!(refused(&server, &head(&format!("/{}", long(40 * 1024)), "")).status, 414);
    let many: String = (0..101).map(|number| format!("X-{number}: 1\r\n")).collect();
    assert_eq!(refused(&server, &head("/healthz", &many)).status, 431);
    let wide = format!("Cookie: {}\r\n", long(16 * 1024));
    assert_eq!(refused(&server, &head("/healthz", &wide)).status, 431);
    // Announced and never sent: the answer does not wait for it.
    for length in [64 * 1024 + 1, 10 << 30] {
        let response = refused(&server, &post(length, b"{"));
        assert_eq!(response.status, 413);
        assert!(response.closes(), "{response:?}");
    }
    // Not announced: it is cut where it passes the limit.
    let chunk = format!("1000\r\n{}\r\n", long(4_096)).repeat(17);
    let chunked = format!(
        "POST /api/auth/sign-in/email HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n{chunk}"
    );
    assert_eq!(refused(&server, chunked.as_bytes()).status, 413);
}
on_both_engines!(what_is_too_large_is_refused_at_once_and_read_no_further);

fn json_deeper_than_32_is_refused_at_once(engine: Engine) {
    let server = Server::start(engine);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [33, 5_000] {
            let body = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let response = refused(&server, &post(body.len(), body.as_bytes()));
            assert_eq!(
                (response.status, response.code().as_str()),
                (400, "BAD_REQUEST"),
                "{}",
                response.text()
            );
        }
    }
}
on_both_engines!(json_deeper_than_32_is_refused_at_once);

/// The largest body that is read, in every shape that is refused, keeps nobody waiting either.
fn a_body_of_just_the_limit_is_judged_at_once(engine: Engine) {
    let server = Server::start(engine);
    let limit = 64 * 1024;
    let bodies = [
        format!("{{\"email\":\"{}\"}}", "a".repeat(limit - 12)),
        format!("[{}1]", "1,".repeat(limit / 2 - 2)),
        format!("{}1", " ".repeat(limit - 1)),
        "\"".repeat(limit),
    ];
    for body in bodies {
        let response = refused(&server, &post(body.len(), body.as_bytes()));
        assert_eq!(response.status, 400, "{}", response.text());
    }
}
on_both_engines!(a_body_of_just_the_limit_is_judged_at_once);
