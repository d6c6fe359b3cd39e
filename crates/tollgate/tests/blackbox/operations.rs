//! The operators' door, and leaving in good order.

use std::sync::mpsc;
use std::time::Duration;

use crate::harness::{Connection, Engine, Failure, Request, Response, Server, until};
use crate::on_both_engines;

const CLIENTS: usize = 30;
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

fn healthz_answers_while_the_process_runs(engine: Engine) {
    let server = Server::start(engine);
    get(&server, "/healthz").expect(200);
}
on_both_engines!(healthz_answers_while_the_process_runs);

fn readyz_lists_its_checks(engine: Engine) {
    let server = Server::start(engine);
    let ready = get(&server, "/readyz").expect(200).json();
    assert_eq!(ready["status"], "ready");
    assert!(ready["checks"].as_object().is_some_and(|checks| !checks.is_empty()), "{ready}");
}
on_both_engines!(readyz_lists_its_checks);

fn metrics_are_prometheus_text(engine: Engine) {
    let server = Server::start(engine);
    let metrics = get(&server, "/metrics").expect(200);
    assert!(metrics.header("Content-Type").is_some_and(|kind| kind.starts_with("text/plain")), "{metrics:?}");
    let text = metrics.text();
    assert!(text.lines().any(|line| line.starts_with("# TYPE ")), "{text}");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok(), "not a sample: {line:?}");
    }
}
on_both_engines!(metrics_are_prometheus_text);

fn openapi_describes_the_doors(engine: Engine) {
    let server = Server::start(engine);
    let description = get(&server, "/openapi.json").expect(200).json();
    assert!(
        description["openapi"].as_str().is_some_and(|version| version.starts_with("3.")),
        "{description}"
    );
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert!(description["paths"][path]["get"].is_object(), "{path} is not described");
    }
}
on_both_engines!(openapi_describes_the_doors);

/// Each request's body is being awaited by the server when the signal comes.
fn requests_under_way_are_answered_after_sigterm(engine: Engine) {
    let mut server = Server::start(engine);
    // Each an address of its own: too many wrong guesses for one are refused before they are judged.
    let body = |number: usize| {
        format!(r#"{{"email":"nobody-{number:03}@example.com","password":"not the password"}}"#)
    };
    let head = format!(
        "POST /api/auth/sign-in/email HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        server.address,
        body(0).len()
    );
    let mut clients: Vec<Connection> = (0..CLIENTS)
        .map(|_| {
            let mut client = connect(&server);
            client.exchange(&Request::get("/healthz")).expect("an answer").expect(200);
            client.send(head.as_bytes()).expect("the head is taken");
            // "Go on": the request has reached its handler.
            assert_eq!(client.receive_head().expect("an interim answer").status, 100);
            client
        })
        .collect();

    server.signal("TERM");
    until_leaving(&server);
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(body(number).as_bytes()).expect("the body is still taken");
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let response =
            client.receive("POST").unwrap_or_else(|failure| panic!("client {number}: {failure:?}"));
        // The storm of sign-ins may be more than the password pool takes; that is an answer, too.
        assert!(matches!(response.status, 401 | 503), "{} {}", response.status, response.text());
    }
    let (status, took) = server.wait_for_end(DRAIN_WITHIN);
    assert!(status.success(), "{status} after {took:?}");
}
on_both_engines!(requests_under_way_are_answered_after_sigterm);

/// Clients that send one request after the other never lose one: the last answer says that the connection ends.
fn keep_alive_clients_lose_no_request_at_sigterm(engine: Engine) {
    let mut server = Server::start(engine);
    let (answered, first_answers) = mpsc::channel();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (mut client, answered) = (connect(&server), answered.clone());
            std::thread::spawn(move || {
                for count in 0.. {
                    let response = client.exchange(&Request::get("/api/auth/get-session"))?.expect(200);
                    if response.closes() {
                        return Ok::<usize, Failure>(count + 1);
                    }
                    if count == 0 {
                        answered.send(()).expect("the test waits for it");
                    }
                }
                unreachable!("the loop above ends by returning")
            })
        })
        .collect();
    for _ in 0..CLIENTS {
        first_answers.recv_timeout(Duration::from_secs(20)).expect("every client gets its first answer");
    }

    let (status, took) = server.stop();
    assert!(status.success() && took <= DRAIN_WITHIN, "{status} after {took:?}");
    for client in clients {
        let outcome = client.join().expect("the client thread ends");
        assert!(outcome.is_ok(), "a request was lost: {outcome:?}");
    }
}
on_both_engines!(keep_alive_clients_lose_no_request_at_sigterm);

#[track_caller]
fn get(server: &Server, path: &str) -> Response {
    Request::get(path).send(server.address).unwrap_or_else(|failure| panic!("GET {path}: {failure:?}"))
}

fn connect(server: &Server) -> Connection {
    let mut connection = Connection::open(server.address).expect("the server accepts");
    connection.set_timeout(DRAIN_WITHIN);
    connection
}

/// New callers see that it leaves: refused, or told that it is not ready.
fn until_leaving(server: &Server) {
    until(DRAIN_WITHIN, "the server to stop taking new work", || {
        match Request::get("/readyz").send(server.address) {
            Err(Failure::Refused | Failure::Closed) => Some(()),
            Ok(response) if response.status == 503 => Some(()),
            _ => None,
        }
    });
}
