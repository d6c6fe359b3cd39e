//! How often one client may call: the rules, and who counts as one client however it is spelled.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Browser, Connection, Engine, PASSWORD, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const ON: &str = "[rate_limit]\nenabled = true\n";
const BEHIND_A_PROXY: &str = "trusted_proxies = [\"127.0.0.1\"]\n[rate_limit]\nenabled = true\n";
const PATIENCE: Duration = Duration::from_secs(15);

fn connect(server: &Server) -> Connection {
    let mut connection = Connection::open(server.address).expect("the server accepts");
    connection.set_timeout(PATIENCE);
    connection
}

/// A request that costs nothing and is counted by the rule of the sign-in paths.
fn sign_in() -> Request {
    Request::post("/api/auth/sign-in/email", &json!({}))
}

fn from(request: &Request, client: &str) -> Request {
    request.clone().header("X-Forwarded-For", client)
}

/// How many of the requests are not refused.
fn passed(server: &Server, requests: &[Request]) -> usize {
    let mut connection = connect(server);
    let statuses = requests.iter().map(|request| connection.exchange(request).expect("an answer").status);
    statuses.filter(|status| *status != 429).count()
}

#[track_caller]
fn is_refused_with_a_time(response: &Response) {
    assert_eq!(response.status, 429, "{}", response.text());
    let seconds: Option<i64> = response.header("X-Retry-After").and_then(|text| text.parse().ok());
    assert!(seconds.is_some_and(|seconds| (1..=10).contains(&seconds)), "{response:?}");
    assert_eq!(response.json()["message"], "Too many requests. Please try again later.");
}

fn a_hundred_in_ten_seconds_pass_on_an_ordinary_path(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut connection = connect(&server);
    for _ in 0..100 {
        connection.exchange(&Request::get("/api/auth/ok")).expect("an answer").expect(200);
    }
    is_refused_with_a_time(&connection.exchange(&Request::get("/api/auth/ok")).expect("an answer"));
    // Each path has a count of its own, and operators' routes have none.
    connection.exchange(&Request::get("/api/auth/error")).expect("an answer").expect(302);
    connection.exchange(&Request::get("/healthz")).expect("an answer").expect(200);
}
on_both_engines!(a_hundred_in_ten_seconds_pass_on_an_ordinary_path);

fn three_in_ten_seconds_pass_on_the_paths_that_guess_or_mail(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut connection = connect(&server);
    for path in
        ["sign-in/email", "sign-up/email", "change-password", "change-email", "request-password-reset"]
    {
        let request = Request::post(&format!("/api/auth/{path}"), &json!({}));
        for _ in 0..3 {
            let status = connection.exchange(&request).expect("an answer").status;
            assert_ne!(status, 429, "{path}");
        }
        let refused = connection.exchange(&request).expect("an answer");
        assert_eq!(refused.status, 429, "{path}: {}", refused.text());
        assert!(refused.header("X-Retry-After").is_some(), "{path}: {refused:?}");
    }
}
on_both_engines!(three_in_ten_seconds_pass_on_the_paths_that_guess_or_mail);

/// A caller that nobody trusts cannot be somebody else each time.
fn an_untrusted_peer_is_one_client_whatever_it_claims(engine: Engine) {
    let server = Server::with(engine, ON);
    let claims: Vec<Request> = (0..20)
        .map(|number| {
            let address = format!("192.0.2.{number}");
            from(&sign_in(), &address)
                .header("X-Real-IP", &address)
                .header("CF-Connecting-IP", &address)
                .header("True-Client-IP", &address)
                .header("Forwarded", &format!("for={address}"))
        })
        .collect();
    assert_eq!(passed(&server, &claims), 3);
}
on_both_engines!(an_untrusted_peer_is_one_client_whatever_it_claims);

/// What stands left of the address that the trusted proxy added was written by the client.
fn behind_a_proxy_only_the_address_that_it_added_counts(engine: Engine) {
    let server = Server::with(engine, BEHIND_A_PROXY);
    let spoofed: Vec<Request> =
        (0..20).map(|number| from(&sign_in(), &format!("198.51.100.{number}, 192.0.2.1"))).collect();
    assert_eq!(passed(&server, &spoofed), 3);
    // Somebody else behind the same proxy is not held up.
    assert_eq!(passed(&server, &[from(&sign_in(), "192.0.2.2")]), 1);
}
on_both_engines!(behind_a_proxy_only_the_address_that_it_added_counts);

fn one_client_has_one_count_in_every_spelling(engine: Engine) {
    let server = Server::with(engine, BEHIND_A_PROXY);
    let each = |clients: &[&str]| clients.iter().map(|client| from(&sign_in(), client)).collect::<Vec<_>>();
    // A whole /64 belongs to one client; its neighbour is another one.
    let one_network =
        ["2001:db8::1", "2001:DB8:0:0:0::2", "[2001:db8::3]:443", "2001:db8::ffff:ffff:ffff:ffff"];
    assert_eq!(passed(&server, &each(&one_network)), 3);
    assert_eq!(passed(&server, &each(&["2001:db8:0:1::1"])), 1);
    let one_address = ["192.0.2.9", "::ffff:192.0.2.9", "192.0.2.9:4711", "[::ffff:c000:209]:1"];
    assert_eq!(passed(&server, &each(&one_address)), 3);
}
on_both_engines!(one_client_has_one_count_in_every_spelling);

/// A proxy that names no client, or something that is no address, is one client itself.
fn clients_without_an_address_share_the_count_of_their_proxy(engine: Engine) {
    let server = Server::with(engine, BEHIND_A_PROXY);
    let nameless = [
        sign_in(),
        from(&sign_in(), "unknown"),
        from(&sign_in(), "_hidden"),
        from(&sign_in(), ""),
        from(&sign_in(), "192.0.2.1, not an address"),
        from(&sign_in(), "127.0.0.1"),
    ];
    assert_eq!(passed(&server, &nameless), 3);
    // A backend speaks for many people from one address: the general rule does not count it, the strict ones do.
    let ordinary = vec![Request::get("/api/auth/ok"); 120];
    assert_eq!(passed(&server, &ordinary), 120);
}
on_both_engines!(clients_without_an_address_share_the_count_of_their_proxy);

/// Whatever spelling of the path still reaches the sign-in shares its count.
fn one_path_has_one_count_in_every_spelling(engine: Engine) {
    let server = Server::with(engine, ON);
    let spelled = |path: &str| Request { target: path.into(), ..sign_in() };
    assert_eq!(passed(&server, &vec![sign_in(); 4]), 3);
    let mut connection = connect(&server);
    for path in [
        "/api/auth/sign-in/email",
        "/api/auth/sign-in/email?x=1",
        "/api/auth/sign-in/email/",
        "/api/auth/sign-in/email//",
        "/api/auth//sign-in/email",
        "//api/auth/sign-in/email",
        "/api/auth/sign-in/%65mail",
        "/api/auth/%73ign-in/email",
        "/api/auth/sign-in%2Femail",
        "/api/auth/./sign-in/email",
        "/api/auth/x/../sign-in/email",
        "/API/auth/sign-in/email",
        "/api/auth/Sign-In/Email",
        "/api/auth/sign-in/email;x=1",
        "/api/auth/sign-in/email%20",
        "http://localhost/api/auth/sign-in/email",
    ] {
        let status = connection.exchange(&spelled(path)).expect("an answer").status;
        assert!(matches!(status, 429 | 404), "{path}: {status}");
    }
}
on_both_engines!(one_path_has_one_count_in_every_spelling);

/// Every page asks it and every backend asks it for many people.
fn a_session_check_with_a_signed_cookie_is_not_counted(engine: Engine) {
    let server = Server::with(engine, ON);
    let mut browser = Browser::new(&server);
    browser.sign_up("ada@example.com");
    for path in ["/api/auth/get-session", "/api/auth/session"] {
        let signed = Request::get(path).header("Cookie", &browser.cookie_header(path));
        assert_eq!(passed(&server, &vec![signed; 150]), 150, "{path}");
        // A cookie that somebody made up is counted like none at all.
        let made_up = Request::get(path).header("Cookie", "better-auth.session_token=made.up");
        let all = [vec![made_up; 70], vec![Request::get(path); 70]].concat();
        assert_eq!(passed(&server, &all), 100, "{path}");
    }
    // Only the session check: anything else is counted with a session, too.
    let ordinary = Request::get("/api/auth/ok").header("Cookie", &browser.cookie_header("/api/auth"));
    assert_eq!(passed(&server, &vec![ordinary; 120]), 100);
}
on_both_engines!(a_session_check_with_a_signed_cookie_is_not_counted);

/// No DoS by guessing: a bare bearer token is signed by nobody.
fn a_session_check_with_a_made_up_bearer_token_is_counted(engine: Engine) {
    let server = Server::with(engine, ON);
    let made_up: Vec<Request> = (0..120)
        .map(|number| {
            Request::get("/api/auth/get-session").header("Authorization", &format!("Bearer made-up-{number}"))
        })
        .collect();
    assert_eq!(passed(&server, &made_up), 100);
}
on_both_engines!(a_session_check_with_a_made_up_bearer_token_is_counted);

fn callers_at_the_same_moment_get_exactly_what_the_rule_allows(engine: Engine) {
    let server = Server::with(engine, ON);
    let allowed = |request: &Request, count: usize| {
        let statuses = in_parallel(count, |_| connect(&server).exchange(request).expect("an answer").status);
        statuses.into_iter().filter(|status| *status != 429).count()
    };
    assert_eq!(allowed(&sign_in(), 50), 3);
    assert_eq!(allowed(&Request::get("/api/auth/ok"), 150), 100);
}
on_both_engines!(callers_at_the_same_moment_get_exactly_what_the_rule_allows);

#[test]
fn nodes_on_one_postgres_count_together() {
    let first = Server::with(Engine::Postgres, ON);
    let second = Server::second_node(&first);
    let allowed = |request: &Request, count: usize| {
        let statuses = in_parallel(count, |number| {
            let node = if number % 2 == 0 { &first } else { &second };
            connect(node).exchange(request).expect("an answer").status
        });
        statuses.into_iter().filter(|status| *status != 429).count()
    };
    let sign_ins = allowed(&sign_in(), 50);
    assert!((2..=4).contains(&sign_ins), "{sign_ins}");
    let ordinary = allowed(&Request::get("/api/auth/ok"), 150);
    assert!((99..=101).contains(&ordinary), "{ordinary}");
}

/// `max = 0` switches a rule off.
fn a_configured_rule_takes_the_place_of_the_built_in_one(engine: Engine) {
    let rules = "rules = { \"/sign-in/email\" = { window = \"10s\", max = 5 }, \"/ok\" = { window = \"10s\", max = 0 } }\n";
    let server = Server::with(engine, &format!("{ON}{rules}"));
    assert_eq!(passed(&server, &vec![sign_in(); 10]), 5);
    assert_eq!(passed(&server, &vec![Request::get("/api/auth/ok"); 150]), 150);
    let mut browser = Browser::new(&server);
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    browser.post("/api/auth/sign-up/email", body).expect(200);
}
on_both_engines!(a_configured_rule_takes_the_place_of_the_built_in_one);

/// A link's path holds its token, so no counter may be named after it; and a scanner must not fill the table.
fn counters_hold_nothing_of_what_was_asked_for(engine: Engine) {
    let server = Server::with(engine, ON);
    Browser::new(&server).sign_up("ada@example.com");
    let ask = json!({"email": "ada@example.com", "redirectTo": "/new-password"});
    Browser::new(&server).post("/api/auth/request-password-reset", ask).expect(200);
    let link = server.mail.take("ada@example.com", Duration::from_secs(20)).link();
    Browser::new(&server).follow(&link).expect(302);
    let token =
        link.split_once("/reset-password/").expect("a reset link").1.split('?').next().expect("a token");
    assert!(!server.database.dump().contains(token), "the token of a link stands in the database");
    let refused = (0..130).filter(|number| {
        Browser::new(&server).get(&format!("/api/auth/no-such-path-{number}")).status == 429
    });
    assert!(refused.count() >= 20, "every unknown path has a count of its own");
}
on_both_engines!(counters_hold_nothing_of_what_was_asked_for);
