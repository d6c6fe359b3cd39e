//! The process killed, upgraded and stopped in the middle of its work: what was answered holds.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::database::Database;
use crate::harness::{
    Connection, Engine, Failure, PASSWORD, Request, Response, Server, at_full_length, in_parallel, until,
};
use crate::on_both_engines;
use crate::program::Program;

const CALLERS: usize = 4;
const READY_WITHIN: Duration = Duration::from_secs(2);
const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// A number below `end`, another one each time.
fn any_below(end: u64) -> u64 {
    RandomState::new().build_hasher().finish() % end
}

/// Somebody whose sign-up was answered.
#[derive(Clone)]
struct Person {
    email: String,
    cookie: String,
    session: Session,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    Lives,
    /// Revoking it was asked for; no answer came.
    Unknown,
    Revoked,
}

/// Signs people up and revokes every second one's session until the server no longer answers.
fn work_until_it_dies(server: &Server, count: &AtomicUsize, people: &Mutex<Vec<Person>>) {
    let mut connection = Connection::open(server.address).expect("the server accepts");
    connection.set_timeout(DRAIN_WITHIN);
    loop {
        let number = count.fetch_add(1, Ordering::Relaxed);
        let email = format!("person-{number}@example.com");
        let Ok(made) = connection.exchange(&sign_up(&email)) else { return };
        let mut person = Person { email, cookie: session_cookie(&made.expect(200)), session: Session::Lives };
        if number.is_multiple_of(2) {
            people.lock().expect("nobody panics").push(person);
            continue;
        }
        let revoke = Request::post("/api/auth/revoke-sessions", &json!({}))
            .header("Cookie", &person.cookie)
            .header("Origin", &server.base_url);
        let answer = connection.exchange(&revoke);
        person.session = if answer.is_ok() { Session::Revoked } else { Session::Unknown };
        people.lock().expect("nobody panics").push(person);
        match answer {
            Ok(response) => drop(response.expect(200)),
            Err(_) => return,
        }
    }
}

fn sign_up(email: &str) -> Request {
    Request::post("/api/auth/sign-up/email", &json!({"name": "P", "email": email, "password": PASSWORD}))
}

fn session_cookie(response: &Response) -> String {
    let lines = response.all("Set-Cookie").map(|line| line.split(';').next().unwrap_or_default());
    let cookie = lines.into_iter().find(|pair| pair.starts_with("better-auth.session_token="));
    cookie.unwrap_or_else(|| panic!("no session in {response:?}")).to_owned()
}

fn session_is_as_answered(connection: &mut Connection, person: &Person) {
    let request = Request::get("/api/auth/get-session").header("Cookie", &person.cookie);
    let found = connection.exchange(&request).expect("an answer").expect(200).json();
    match person.session {
        Session::Lives => {
            assert_eq!(found["user"]["email"], person.email.as_str(), "an acknowledged sign-up")
        }
        Session::Revoked => assert_eq!(found, Value::Null, "a revoked session of {}", person.email),
        Session::Unknown => {}
    }
}

fn can_sign_in(server: &Server, person: &Person) {
    let body = json!({"email": person.email, "password": PASSWORD});
    let answer = Connection::open(server.address).and_then(|mut connection| {
        connection.set_timeout(DRAIN_WITHIN);
        connection.exchange(&Request::post("/api/auth/sign-in/email", &body))
    });
    answer.expect("an answer").expect(200);
}

fn kill_nine_loses_nothing_that_was_answered(engine: Engine) {
    let mut server = Server::start(engine);
    let (count, people) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    for _ in 0..if at_full_length() { 120 } else { 20 } {
        let (told, life) =
            (people.lock().expect("nobody panics").len(), Duration::from_millis(20 + any_below(180)));
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| work_until_it_dies(&server, &count, &people));
            }
            let began = Instant::now();
            until(DRAIN_WITHIN, "the moment of death", || {
                let some = people.lock().expect("nobody panics").len() > told;
                (some && began.elapsed() >= life).then_some(())
            });
            server.signal("KILL");
        });
        server.kill();
        let began = Instant::now();
        server.restart();
        assert!(began.elapsed() <= READY_WITHIN, "ready after {:?}", began.elapsed());
        let mut connection = Connection::open(server.address).expect("the server accepts");
        for person in people.lock().expect("nobody panics").iter() {
            session_is_as_answered(&mut connection, person);
        }
    }
    let people = people.into_inner().expect("nobody panics");
    let next = AtomicUsize::new(0);
    in_parallel(2, |_| {
        while let Some(person) = people.get(next.fetch_add(1, Ordering::Relaxed)) {
            can_sign_in(&server, person);
        }
    });
    assert!(people.iter().any(|person| person.session == Session::Revoked));
}
on_both_engines!(kill_nine_loses_nothing_that_was_answered);

fn a_session_that_was_revoked_before_a_restart_is_not_replayed_after_it(engine: Engine) {
    let mut server = Server::start(engine);
    for orderly in [true, false] {
        let email = format!("ada-{orderly}@example.com");
        let mut connection = Connection::open(server.address).expect("the server accepts");
        connection.set_timeout(DRAIN_WITHIN);
        let made = connection.exchange(&sign_up(&email)).expect("an answer").expect(200);
        let person = Person { email, cookie: session_cookie(&made), session: Session::Revoked };
        let sign_out = Request::post("/api/auth/sign-out", &json!({}))
            .header("Cookie", &person.cookie)
            .header("Origin", &server.base_url);
        connection.exchange(&sign_out).expect("an answer").expect(200);
        drop(connection);
        if orderly {
            server.stop();
        } else {
            server.kill();
        }
        server.restart();
        let mut connection = Connection::open(server.address).expect("the server accepts");
        session_is_as_answered(&mut connection, &person);
    }
}
on_both_engines!(a_session_that_was_revoked_before_a_restart_is_not_replayed_after_it);

/// Writers that send one request after the other never lose one, and what they were told is kept.
fn sign_ups_under_way_are_answered_and_kept_at_sigterm(engine: Engine) {
    let mut server = Server::start(engine);
    let (count, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (address, people) = (server.address, Mutex::new(Vec::new()));
    let (status, took) = std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut connection = Connection::open(address).expect("the server accepts");
                connection.set_timeout(DRAIN_WITHIN);
                loop {
                    let email = format!("person-{}@example.com", count.fetch_add(1, Ordering::Relaxed));
                    let response = connection.exchange(&sign_up(&email)).expect("no request is lost");
                    let cookie = session_cookie(&response.clone().expect(200));
                    let person = Person { email, cookie, session: Session::Lives };
                    people.lock().expect("nobody panics").push(person);
                    answered.fetch_add(1, Ordering::Relaxed);
                    if response.closes() {
                        return;
                    }
                }
            });
        }
        let busy = || (answered.load(Ordering::Relaxed) >= 2 * CALLERS).then_some(());
        until(DRAIN_WITHIN, "sign-ups to be under way", busy);
        server.stop()
    });
    assert!(status.success() && took <= DRAIN_WITHIN, "{status} after {took:?}");
    server.restart();
    let mut connection = Connection::open(server.address).expect("the server accepts");
    for person in people.into_inner().expect("nobody panics") {
        session_is_as_answered(&mut connection, &person);
    }
}
on_both_engines!(sign_ups_under_way_are_answered_and_kept_at_sigterm);

/// A request that was waiting while the process was frozen is answered once, and done once.
fn a_frozen_process_does_what_waited_once(engine: Engine) {
    let server = Server::start(engine);
    for round in 0..if at_full_length() { 20 } else { 2 } {
        let email = format!("person-{round}@example.com");
        server.signal("STOP");
        let mut first = Connection::open(server.address).expect("the system still accepts");
        first.set_timeout(Duration::from_millis(500 + any_below(500)));
        let impatient = first.exchange(&sign_up(&email));
        assert_eq!(impatient.err(), Some(Failure::TimedOut));
        server.signal("CONT");
        // The client tries again while its first request is being done.
        let mut again = Connection::open(server.address).expect("the server accepts");
        again.set_timeout(DRAIN_WITHIN);
        let second = again.exchange(&sign_up(&email)).expect("an answer");
        first.set_timeout(DRAIN_WITHIN);
        let first = first.receive("POST").expect("an answer");
        let mut statuses = [first.status, second.status];
        statuses.sort();
        assert_eq!(statuses, [200, 422], "{} {}", first.text(), second.text());
        let sql = format!("SELECT COUNT(*) FROM users WHERE email = '{email}'");
        assert_eq!(server.database.integer(&sql), 1);
    }
}
on_both_engines!(a_frozen_process_does_what_waited_once);

// ---- Upgrades ----

fn a_migration_killed_anywhere_leaves_the_old_or_the_new_schema(engine: Engine) {
    let database = Database::create(engine);
    let program = Program::in_new_folder()
        .with("TOLLGATE_SECRET", "blackbox-5fQ2vW8rT1yU4iO7pA0sD3gH6jK9lZ")
        .with("TOLLGATE_DATABASE_URL", database.url());
    // The points of death are spread over the time that a migration takes here.
    let began = Instant::now();
    let done = program.run(&["migrate", "--json"]).expect_done().json();
    let (newest, whole) = (done["to"].as_i64().expect("a version"), began.elapsed());
    let tables = database.tables();
    let mut killed_before_its_end = 0;
    for _ in 0..if at_full_length() { 100 } else { 24 } {
        empty(&database);
        let mut process = program.command(&["migrate"]).spawn().expect("the binary runs");
        let death = Instant::now() + whole.mul_f64(any_below(1_200) as f64 / 1_000.0);
        while Instant::now() < death {
            std::hint::spin_loop();
        }
        // It may have ended by itself.
        let _ = process.kill();
        let status = process.wait().expect("a child can be waited for");
        killed_before_its_end += usize::from(!status.success());
        match database.tables().as_slice() {
            [] => {}
            all if database.integer("SELECT version FROM schema_version") == newest => {
                assert_eq!(all, tables.as_slice(), "less than its version says");
            }
            // Between two migrations; had the next one begun, it would fail below on what is there.
            all => assert!(all.len() < tables.len() && all.iter().all(|table| tables.contains(table))),
        }
        program.run(&["migrate"]).expect_done();
        assert_eq!(database.integer("SELECT version FROM schema_version"), newest);
        assert_eq!(database.tables(), tables);
    }
    assert!(killed_before_its_end > 0, "no migration was killed before its end");
}
on_both_engines!(a_migration_killed_anywhere_leaves_the_old_or_the_new_schema);

fn empty(database: &Database) {
    match database {
        Database::Postgres { .. } => {
            database.execute("DROP SCHEMA public CASCADE");
            database.execute("CREATE SCHEMA public");
        }
        Database::Sqlite { .. } => {
            for suffix in ["", "-wal", "-shm"] {
                let mut name = database.file().into_os_string();
                name.push(suffix);
                // Not every journal is there.
                let _ = std::fs::remove_file(name);
            }
        }
    }
}

fn a_schema_of_a_newer_program_is_refused_and_left_alone(engine: Engine) {
    let mut server = Server::start(engine);
    server.stop();
    let version = server.database.integer("SELECT version FROM schema_version");
    server.database.execute("UPDATE schema_version SET version = 99");
    for command in [&["serve"][..], &["migrate"], &["key", "create", "backend"], &["doctor"]] {
        let refused = server.command(command);
        assert_eq!(refused.code, Some(1), "{command:?} {refused:?}");
        let told = format!("{}{}", refused.stdout, refused.stderr);
        assert!(told.contains("schema version 99") && told.contains("newer"), "{command:?} {told}");
    }
    assert_eq!(server.database.integer("SELECT version FROM schema_version"), 99);
    server.database.execute(&format!("UPDATE schema_version SET version = {version}"));
    server.restart();
}
on_both_engines!(a_schema_of_a_newer_program_is_refused_and_left_alone);

// ---- Two nodes ----

/// Of requests that begin after the revoke was answered not one is served, on whichever node.
#[test]
fn a_revoke_on_one_node_holds_on_the_other_for_every_request_begun_after_its_answer() {
    let first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    let mut seen_alive = 0;
    for round in 0..if at_full_length() { 500 } else { 25 } {
        let mut connection = Connection::open(first.address).expect("the server accepts");
        connection.set_timeout(DRAIN_WITHIN);
        let email = format!("person-{round}@example.com");
        let made = connection.exchange(&sign_up(&email)).expect("an answer").expect(200);
        let cookie = session_cookie(&made);
        let (revoked, checked) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| {
                    let mut connection = Connection::open(second.address).expect("the server accepts");
                    connection.set_timeout(DRAIN_WITHIN);
                    let check = Request::get("/api/auth/get-session").header("Cookie", &cookie);
                    loop {
                        let begun_after = revoked.load(Ordering::SeqCst);
                        let found = connection.exchange(&check).expect("an answer").expect(200).json();
                        checked.fetch_add(usize::from(found != Value::Null), Ordering::Relaxed);
                        if begun_after {
                            assert_eq!(found, Value::Null, "served after the revoke was answered");
                            return;
                        }
                    }
                });
            }
            let alive = || (checked.load(Ordering::Relaxed) > CALLERS).then_some(());
            until(DRAIN_WITHIN, "the session to be seen alive", alive);
            let revoke = Request::post("/api/auth/revoke-sessions", &json!({}))
                .header("Cookie", &cookie)
                .header("Origin", &first.base_url);
            connection.exchange(&revoke).expect("an answer").expect(200);
            revoked.store(true, Ordering::SeqCst);
        });
        seen_alive += checked.into_inner();
    }
    assert!(seen_alive > 0);
}
