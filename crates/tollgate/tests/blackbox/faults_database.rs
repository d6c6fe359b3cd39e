//! The database gone, silent, busy or full: every caller is answered in time, and all is well again by itself.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;

use crate::harness::{
    Browser, Connection, Engine, PASSWORD, Request, Response, Server, at_full_length, in_parallel, until,
};
use crate::instances::{Instance, server_on};
use crate::program::{BINARY, Program};

const GONE_WITHIN: Duration = Duration::from_secs(2);
const SILENT_WITHIN: Duration = Duration::from_secs(5);
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// Promised are 100 ms; the rest is for a machine that compiles at the same time.
const HEALTH_WITHIN: Duration = Duration::from_millis(400);
/// With limits on, so that the counters of the limits meet the fault as well.
const SETTINGS: &str =
    "trusted_proxies = [\"127.0.0.1\"]\n[database]\npool_size = 8\n[rate_limit]\nenabled = true\n";

/// Reads, writes, sign-ins and counts, with a session and without. Each from a client of its own, so that no limit
/// is met.
fn requests(cookie: &str) -> Vec<Request> {
    let sign_up = json!({"name": "New", "email": "new@example.com", "password": PASSWORD});
    let signed_in =
        |request: Request| request.header("Cookie", cookie).header("Origin", "https://app.example");
    let all = vec![
        signed_in(Request::get("/api/auth/get-session")),
        signed_in(Request::get("/api/auth/session")),
        signed_in(Request::get("/api/auth/list-sessions")),
        signed_in(Request::get("/api/auth/list-accounts")),
        signed_in(Request::post("/api/auth/update-user", &json!({"name": "Renamed"}))),
        signed_in(Request::post("/api/auth/revoke-other-sessions", &json!({}))),
        Request::post("/api/auth/sign-up/email", &sign_up),
        Request::post("/api/auth/sign-in/email", &json!({"email": "ada@example.com", "password": PASSWORD})),
        Request::post("/api/auth/request-password-reset", &json!({"email": "ada@example.com"})),
        Request::get("/api/auth/verify-email?token=none"),
        // Nobody can tell whether this is a key; whoever asks without one is a proxy that can be told nothing either.
        asked_at_the_gate(cookie, json!({})),
        asked_at_the_gate(cookie, json!({"charge": {"amount": 1}})).header("Idempotency-Key", "gone"),
        Request::get("/api/gate/forward")
            .header("X-Forwarded-Method", "GET")
            .header("X-Forwarded-Uri", "/")
            .header("Accept", "text/html")
            .header("Cookie", cookie),
    ];
    let from = |(number, request): (usize, Request)| {
        request.header("X-Forwarded-For", &format!("192.0.2.{}", number + 1))
    };
    all.into_iter().enumerate().map(from).collect()
}

fn asked_at_the_gate(cookie: &str, body: serde_json::Value) -> Request {
    let key = format!("Bearer tg_sk_{}", "a".repeat(40));
    Request::post("/api/gate/authorize", &body).header("Authorization", &key).header("Cookie", cookie)
}

fn timed(address: SocketAddr, request: &Request) -> (Response, Duration) {
    let began = Instant::now();
    let answer = Connection::open(address).and_then(|mut connection| {
        connection.set_timeout(Duration::from_secs(15));
        connection.exchange(request)
    });
    let what = format!("{} {}", request.method, request.target);
    (answer.unwrap_or_else(|failure| panic!("{what}: {failure:?}")), began.elapsed())
}

#[track_caller]
fn all_are_unavailable(address: SocketAddr, cookie: &str, within: Duration) {
    let requests = requests(cookie);
    for (number, (response, took)) in
        in_parallel(requests.len(), |number| timed(address, &requests[number])).into_iter().enumerate()
    {
        let what = format!("{} {} after {took:?}", requests[number].method, requests[number].target);
        assert_eq!(response.status, 503, "{what}: {}", response.text());
        assert!(response.header("Retry-After").is_some(), "{what}: {response:?}");
        assert!(took <= within, "{what}");
    }
}

#[track_caller]
fn health_is_told_apart_from_readiness(address: SocketAddr) {
    let (healthy, took) = timed(address, &Request::get("/healthz"));
    assert!(healthy.status == 200 && took <= HEALTH_WITHIN, "{} after {took:?}", healthy.status);
    let (ready, took) = timed(address, &Request::get("/readyz"));
    assert!(took <= HEALTH_WITHIN, "{took:?}");
    assert_eq!(ready.expect(503).json()["checks"]["database"], "unavailable");
}

/// Within the limit reads and writes succeed on every connection of the pool, readiness says so, and it stays so.
#[track_caller]
fn is_back(server: &Server, browser: &Browser, within: Duration) {
    let cookie = browser.cookie_header("/api/auth");
    let signed_in = |request: Request| request.header("Cookie", &cookie).header("Origin", &server.base_url);
    let requests = [
        signed_in(Request::get("/api/auth/get-session")),
        signed_in(Request::post("/api/auth/update-user", &json!({"name": "Renamed"}))),
        Request::get("/readyz"),
    ];
    let good = |number: usize| {
        let (response, _) = timed(server.address, &requests[number % requests.len()]);
        response.status == 200 && (number != 0 || response.text().contains("ada@example.com"))
    };
    until(within, "everything to be answered again", || {
        in_parallel(24, good).into_iter().all(|good| good).then_some(())
    });
    assert!(in_parallel(24, good).into_iter().all(|good| good), "it was back, and is gone again");
}

fn signed_in(server: &Server) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up("ada@example.com");
    browser
}

#[test]
fn a_crashed_database_is_a_503_within_two_seconds_and_good_again_without_a_restart() {
    let mut postgres = Instance::postgres();
    let mut server = server_on(&postgres.url(), SETTINGS);
    let browser = signed_in(&server);
    let cookie = browser.cookie_header("/api/auth");
    for _ in 0..if at_full_length() { 10 } else { 2 } {
        postgres.crash();
        all_are_unavailable(server.address, &cookie, GONE_WITHIN);
        health_is_told_apart_from_readiness(server.address);
        all_are_unavailable(server.address, &cookie, GONE_WITHIN);
        postgres.start_again();
        is_back(&server, &browser, BACK_WITHIN);
    }
    assert!(server.is_running());
}

#[test]
fn a_silent_database_lets_nobody_wait_for_five_seconds() {
    let mut postgres = Instance::postgres();
    let mut server = server_on(&postgres.url(), SETTINGS);
    let browser = signed_in(&server);
    let cookie = browser.cookie_header("/api/auth");
    for _ in 0..if at_full_length() { 5 } else { 1 } {
        postgres.freeze();
        // Connections that were open, then new ones that are accepted and never greeted.
        for _ in 0..2 {
            all_are_unavailable(server.address, &cookie, SILENT_WITHIN);
            health_is_told_apart_from_readiness(server.address);
        }
        postgres.thaw();
        is_back(&server, &browser, BACK_WITHIN);
    }
    assert!(server.is_running());
}

/// A lock held by somebody else keeps every connection of the pool busy.
#[test]
fn five_hundred_callers_of_ten_busy_connections_are_answered_in_time() {
    const CALLERS: usize = 500;
    let server = Server::with(Engine::Postgres, "[database]\npool_size = 10\n");
    let browser = signed_in(&server);
    let request = Request::get("/api/auth/get-session").header("Cookie", &browser.cookie_header("/api/auth"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let locker = runtime.block_on(async {
        let connected = tokio_postgres::connect(&server.database.url(), tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("the database answers");
        tokio::spawn(connection);
        client.batch_execute("BEGIN; LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE").await.expect("the lock");
        client
    });
    let (answers, ()) = std::thread::scope(|scope| {
        let callers = scope.spawn(|| in_parallel(CALLERS, |_| timed(server.address, &request)));
        let all_wait = || (server.metric("tollgate_store_waiting") > 100.0).then_some(());
        until(Duration::from_secs(5), "callers to wait", all_wait);
        let (healthy, took) = timed(server.address, &Request::get("/healthz"));
        assert!(healthy.status == 200 && took <= HEALTH_WITHIN, "{} after {took:?}", healthy.status);
        (callers.join().expect("the callers end"), ())
    });
    let mut times: Vec<Duration> = Vec::new();
    for (response, took) in answers {
        assert_eq!(response.status, 503, "{}", response.text());
        assert!(response.header("Retry-After").is_some(), "{response:?}");
        times.push(took);
    }
    times.sort();
    // The ten that hold a connection are ended by the statement's own limit, a little later than those who wait.
    let waiters = times[CALLERS - 30];
    assert!(waiters <= Duration::from_millis(2_300), "{waiters:?}");
    assert!(times[CALLERS - 1] <= SILENT_WITHIN, "{:?}", times[CALLERS - 1]);
    runtime.block_on(locker.batch_execute("COMMIT")).expect("the lock is given back");
    is_back(&server, &browser, Duration::from_secs(2));
}

// ---- SQLite on a full disk ----

/// A limit on the size of files stands for the full disk: it needs no rights, unlike a small file system of its own.
struct FullDisk {
    process: Pid,
}

impl FullDisk {
    fn begin(process: u32) -> FullDisk {
        let process = Pid::from_raw(i32::try_from(process).expect("an id")).expect("a process");
        let disk = FullDisk { process };
        // Less than the journal holds already: every further page is refused.
        disk.limit(Some(4_096));
        disk
    }

    fn limit(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.process), Resource::Fsize, limit).expect("a limit of our own child can be moved");
    }

    fn end(self) {
        self.limit(None);
    }
}

#[test]
fn on_a_full_disk_reads_go_on_and_writes_come_back_by_themselves() {
    let program = Program::in_new_folder()
        .with("TOLLGATE_SECRET", "blackbox-5fQ2vW8rT1yU4iO7pA0sD3gH6jK9lZ")
        .with("TOLLGATE_DATABASE_URL", format!("sqlite://{}", "full.db"))
        .with("TOLLGATE_MAIL__SMTP_URL", "none")
        .with("TOLLGATE_RATE_LIMIT__ENABLED", "false")
        .with("TOLLGATE_TRUSTED_ORIGINS", "https://app.example")
        .with("TOLLGATE_BASE_URL", "http://localhost")
        .with("TOLLGATE_LISTEN", "127.0.0.1:0");
    // Where the limit is met, the kernel also sends a signal whose default is death; a full disk sends none.
    let mut shell = program.wrapped("sh", &["-c", "trap '' XFSZ; exec \"$@\"", "sh", BINARY, "serve"]);
    let mut running = Program::follow(&mut shell).expect("serve starts");
    let mut browser = running.browser();
    browser.sign_up("ada@example.com");
    let cookie = browser.cookie_header("/api/auth");
    // Due for extension: that this cannot be written is no reason to sign anybody out.
    let file = program.path().join("full.db");
    let database = rusqlite::Connection::open(&file).expect("the database opens");
    let due = database.execute("UPDATE sessions SET expires_at = expires_at - 2 * 86400000", []);
    assert_eq!(due, Ok(1));

    let disk = FullDisk::begin(running.process.id());
    let writes = [
        Request::post("/api/auth/update-user", &json!({"name": "Renamed"})).header("Cookie", &cookie),
        Request::post("/api/auth/revoke-sessions", &json!({})).header("Cookie", &cookie),
        Request::post(
            "/api/auth/sign-up/email",
            &json!({"name": "New", "email": "new@example.com", "password": PASSWORD}),
        ),
    ];
    for _ in 0..5 {
        for write in &writes {
            let (response, took) =
                timed(running.address, &write.clone().header("Origin", "https://app.example"));
            assert_eq!(response.status, 503, "{}: {}", write.target, response.text());
            assert!(response.header("Retry-After").is_some() && took <= Duration::from_secs(1), "{took:?}");
        }
        assert_eq!(browser.session()["user"]["name"], "Test Person");
        let sessions = browser.get("/api/auth/list-sessions").expect(200).json();
        assert_eq!(sessions.as_array().map(Vec::len), Some(1));
    }
    browser.get("/healthz").expect(200);
    disk.end();

    let renamed = || {
        let response = browser.post("/api/auth/update-user", json!({"name": "Renamed"}));
        (response.status == 200).then_some(())
    };
    until(BACK_WITHIN, "writes to be taken again", renamed);
    assert_eq!(browser.session()["user"]["name"], "Renamed");
    running.browser().sign_up("new@example.com");
    assert!(matches!(running.process.try_wait(), Ok(None)), "{}", running.output.text());

    // What was acknowledged is in the file, and the file is sound.
    drop(running);
    let check: String =
        database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict");
    assert_eq!(check, "ok");
    let users: Vec<String> = database
        .prepare("SELECT email || ' ' || name FROM users ORDER BY email")
        .and_then(|mut rows| rows.query_map([], |row| row.get(0))?.collect())
        .expect("users");
    assert_eq!(users, ["ada@example.com Renamed", "new@example.com Test Person"]);
}
