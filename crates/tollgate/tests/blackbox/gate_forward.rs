//! `/api/gate/forward` as reverse proxies ask it: whose word counts, what the rules ask for, and answers that each kind of
//! proxy understands.

use serde_json::{Value, json};

use crate::harness::credits::{Backend, books_balance, is_replay, refused, text};
use crate::harness::database::quoted;
use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server, in_parallel};
use crate::on_both_engines;

const COOKIE: &str = "better-auth.session_token";
const DAY: i64 = 24 * 3600 * 1000;
const NAMES: [&str; 4] = ["X-Tollgate-User", "X-Tollgate-Email", "X-Tollgate-Roles", "X-Tollgate-Balance"];

const SETTINGS: &str = "
    trusted_proxies = [\"127.0.0.1\"]
    [credits.features]
    \"image.generate\" = 5
    search = 1
    [[gate.rules]]
    path = \"/admin/*\"
    role = \"admin\"
    [[gate.rules]]
    path = \"/api/images/*\"
    methods = [\"POST\"]
    feature = \"image.generate\"
    [[gate.rules]]
    path = \"/assets/*\"
    methods = [\"GET\"]
    public = true
    [[gate.rules]]
    path = \"/reports/*\"
    role = \"analyst\"
    feature = \"search\"
";

fn signed_up(server: &Server, email: &str) -> (Browser, String) {
    let mut browser = Browser::new(server);
    let made = browser.sign_up(email);
    (browser, text(&made["user"]["id"]))
}

/// As Caddy and Traefik ask.
fn forwarded(method: &str, uri: &str) -> Request {
    Request::get("/api/gate/forward").header("X-Forwarded-Method", method).header("X-Forwarded-Uri", uri)
}

/// As nginx asks.
fn original(method: &str, uri: &str) -> Request {
    Request::get("/api/gate/forward").header("X-Original-Method", method).header("X-Original-URI", uri)
}

fn of(browser: &Browser, request: Request) -> Request {
    match browser.cookie_header("/") {
        cookies if cookies.is_empty() => request,
        cookies => request.header("Cookie", &cookies),
    }
}

#[track_caller]
fn ask(server: &Server, request: Request) -> Response {
    request.send(server.address).expect("an answer")
}

/// The four headers of an answer that lets pass.
#[track_caller]
fn told(response: &Response) -> [String; 4] {
    assert_eq!((response.status, response.text().as_str()), (200, ""), "{}", response.text());
    NAMES.map(|name| {
        let found: Vec<&str> = response.all(name).collect();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0].to_owned()
    })
}

fn whoever_passes_is_told_in_four_headers(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (ada, id) = signed_up(&server, "ada@example.com");
    let known = |balance: &str| [id.as_str(), "ada@example.com", "user", balance].map(str::to_owned);
    for request in [forwarded("GET", "/dashboard?tab=1"), original("GET", "/dashboard?tab=1")] {
        assert_eq!(told(&ask(&server, of(&ada, request))), known("0"));
    }
    Backend::of(&server).grant(&id, 12);
    // Whatever method the proxy itself uses, and whatever was sent under our names.
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"] {
        let mut request = of(&ada, forwarded("DELETE", "/things/7"));
        request.method = method.to_owned();
        for name in NAMES {
            request = request.header(name, "spoofed");
        }
        assert_eq!(told(&ask(&server, request)), known("12"), "{method}");
    }
    let url = Request::get("/api/gate/forward")
        .header("X-Original-Method", "GET")
        .header("X-Original-URL", "https://app.example/dashboard");
    assert_eq!(told(&ask(&server, of(&ada, url))), known("12"));
    // Where everybody passes a stranger is nobody.
    assert_eq!(told(&ask(&server, forwarded("GET", "/assets/app.css"))), [""; 4].map(str::to_owned));
    assert_eq!(told(&ask(&server, of(&ada, forwarded("GET", "/assets/app.css")))), known("12"));
    let bad = forwarded("GET", "/assets/app.css").header("Cookie", &format!("{COOKIE}=x.y"));
    assert_eq!(told(&ask(&server, bad)), [""; 4].map(str::to_owned));
    // More than one role; names that no header can hold as they are.
    let set = |column: &str, value: &str| {
        let sql = format!("UPDATE users SET {column} = {value} WHERE id = {}", quoted(&id));
        assert_eq!(server.database.execute(&sql), 1);
    };
    set("role", "'user, editor ,chef é'");
    set("email", "'ädä+x@exämple.com'");
    let expected = [id.as_str(), "%C3%A4d%C3%A4+x@ex%C3%A4mple.com", "user,editor,chef%20%C3%A9", "12"];
    assert_eq!(told(&ask(&server, of(&ada, forwarded("GET", "/")))), expected.map(str::to_owned));
    let crlf = match engine {
        Engine::Sqlite => "'a' || char(13) || char(10) || 'X-Tollgate-Roles: admin'",
        Engine::Postgres => "'a' || chr(13) || chr(10) || 'X-Tollgate-Roles: admin'",
    };
    set("email", crlf);
    set("role", "NULL");
    let expected = [id.as_str(), "a%0D%0AX-Tollgate-Roles:%20admin", "", "12"];
    assert_eq!(told(&ask(&server, of(&ada, forwarded("GET", "/")))), expected.map(str::to_owned));
}
on_both_engines!(whoever_passes_is_told_in_four_headers);

fn rules_ask_for_roles_and_features(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut backend = Backend::of(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    let nobody = Browser::new(&server);
    for uri in ["/admin", "/admin/", "/admin/users?x=/assets/a", "/%61dmin/x"] {
        refused(&ask(&server, of(&ada, forwarded("GET", uri))), 403, "forbidden");
        refused(&ask(&server, of(&nobody, forwarded("GET", uri))), 401, "unauthenticated");
    }
    server.command(&["user", "promote", "ada@example.com"]).expect_done();
    assert!(told(&ask(&server, of(&ada, forwarded("GET", "/admin/users"))))[2].contains("admin"));
    refused(&ask(&server, of(&ada, forwarded("GET", "/reports/7"))), 403, "forbidden");
    // A feature is charged each time, and the balance is what is left.
    let draw = || of(&ada, forwarded("POST", "/api/images/cat"));
    let poor = ask(&server, draw());
    let body = refused(&poor, 402, "insufficient_credits");
    assert_eq!(json!([body["required"], body["balance"]]), json!([5, 0]));
    backend.grant(&id, 12);
    for left in ["7", "2"] {
        assert_eq!(told(&ask(&server, draw()))[3], left);
    }
    refused(&ask(&server, draw()), 402, "insufficient_credits");
    told(&ask(&server, of(&ada, forwarded("GET", "/api/images/cat"))));
    let debits: Vec<Value> =
        backend.entries(&id).into_iter().filter(|entry| entry["kind"] == "debit").collect();
    assert_eq!(debits.len(), 2);
    assert_eq!(debits[0]["feature"], "image.generate");
    assert_eq!(debits[0]["actor"], format!("user:{id}"));
    assert_ne!(debits[0]["idempotency_key"], debits[1]["idempotency_key"]);
    // The proxy's own configuration names a feature, too; the role of the rule still holds.
    let with = |query: &str, uri: &str| {
        let mut request = of(&ada, forwarded("GET", uri));
        request.target = format!("/api/gate/forward?{query}");
        ask(&server, request)
    };
    assert_eq!(told(&with("feature=search", "/find"))[3], "1");
    refused(&with("feature=search", "/reports/7"), 403, "forbidden");
    assert_eq!(told(&with("feature=search", "/assets/app.css"))[3], "0");
    let stranger =
        Request { target: "/api/gate/forward?feature=search".into(), ..forwarded("GET", "/assets/a") };
    refused(&ask(&server, stranger), 401, "unauthenticated");
    for (query, field) in [
        ("feature=unknown", "feature"),
        ("feature=", "feature"),
        ("feature=search&feature=search", "feature"),
        ("guest=unknown", "guest"),
        ("role=admin", "role"),
        ("x=1", "x"),
    ] {
        assert_eq!(refused(&with(query, "/find"), 422, "invalid_request")["field"], field, "{query}");
    }
    // A proxy that hands on the client's own query lets the client choose.
    for query in ["feature=search", "guest=generate", "x=1", "a"] {
        let body = refused(&with(query, &format!("/api/images/cat?{query}")), 403, "forbidden");
        assert!(text(&body["message"]).contains("question mark"), "{body}");
    }
    assert_eq!(told(&with("", "/find?"))[3], "0");
    // A limit on spending.
    backend.put("limits", &json!({"user_id": id, "window": "day", "max": 0})).expect(200);
    backend.grant(&id, 12);
    let limited = ask(&server, draw());
    refused(&limited, 429, "limit_reached");
    assert!(limited.header("Retry-After").is_some());
    books_balance(&server.database);
}
on_both_engines!(rules_ask_for_roles_and_features);

fn a_passed_on_key_pays_once_and_says_so(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut backend = Backend::of(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    backend.grant(&id, 12);
    let draw = |key: &str| {
        ask(&server, of(&ada, forwarded("POST", "/api/images/cat")).header("Idempotency-Key", key))
    };
    let first = draw("mine");
    assert!(!is_replay(&first));
    assert_eq!(told(&first)[3], "7");
    let again = draw("mine");
    assert!(is_replay(&again), "a backend can tell that nothing was paid");
    assert_eq!(told(&again)[3], "7");
    for key in ["", "with space", &"k".repeat(256)] {
        assert_eq!(refused(&draw(key), 422, "invalid_request")["field"], "Idempotency-Key");
    }
    // Where nothing is charged it is nobody's business.
    told(&ask(&server, of(&ada, forwarded("GET", "/")).header("Idempotency-Key", "with space")));
    // One key, many at once.
    let answers = in_parallel(50, |_| draw("storm"));
    assert_eq!(answers.iter().filter(|answer| !is_replay(answer)).count(), 1);
    // No key: each pays for itself, and only as long as there is something.
    backend.grant(&id, 3);
    let statuses = in_parallel(20, |_| ask(&server, of(&ada, forwarded("POST", "/api/images/dog"))).status);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(backend.balance(&id)["balance"], 0);
    books_balance(&server.database);
}
on_both_engines!(a_passed_on_key_pays_once_and_says_so);

/// Who is no proxy of ours shows a key, or is told nothing.
fn only_proxies_and_keys_are_answered(engine: Engine) {
    let server = Server::with(engine, &SETTINGS.replace("127.0.0.1", "192.0.2.1"));
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let key = server.service_key();
    let scoped = |scope: &str| {
        let made = server.command(&["key", "create", "k", "--scopes", scope, "--json"]).expect_done().json();
        text(&made["key"])
    };
    let shown = |key: &str, request: Request| request.header("Authorization", &format!("Bearer {key}"));
    for request in [
        forwarded("GET", "/"),
        original("GET", "/"),
        forwarded("GET", "/assets/a"),
        Request::get("/api/gate/forward"),
    ] {
        refused(&ask(&server, of(&ada, request.clone())), 401, "invalid_service_key");
        // Nor does an address that a header names make a proxy of anybody.
        let named = request.clone().header("X-Forwarded-For", "192.0.2.1");
        refused(&ask(&server, named), 401, "invalid_service_key");
        let made_up = format!("tg_sk_{}", "a".repeat(40));
        refused(&ask(&server, shown(&made_up, of(&ada, request.clone()))), 401, "invalid_service_key");
    }
    let page = forwarded("GET", "/").header("Accept", "text/html");
    refused(&ask(&server, page), 401, "invalid_service_key");
    for scope in ["credits:write", "billing"] {
        let key = scoped(scope);
        refused(&ask(&server, shown(&key, of(&ada, forwarded("GET", "/assets/a")))), 403, "forbidden");
        refused(&ask(&server, shown(&key, forwarded("GET", "//"))), 403, "forbidden");
        refused(&ask(&server, shown(&key, Request::get("/api/gate/forward"))), 403, "forbidden");
    }
    for key in [&key, &scoped("gate")] {
        assert_eq!(told(&ask(&server, shown(key, of(&ada, forwarded("GET", "/")))))[0], id);
        assert_eq!(
            told(&ask(&server, shown(key, forwarded("GET", "/assets/a")))),
            [""; 4].map(str::to_owned)
        );
        refused(&ask(&server, shown(key, Request::get("/api/gate/forward"))), 422, "invalid_request");
    }
    // The user's own token comes in a header of its own.
    let token = text(&ada.session()["session"]["token"]);
    let request = forwarded("GET", "/").header("X-Tollgate-Token", &format!("Bearer {token}"));
    assert_eq!(told(&ask(&server, shown(&key, request)))[0], id);
}
on_both_engines!(only_proxies_and_keys_are_answered);

/// A proxy leaves `Authorization` as the client wrote it.
fn a_clients_own_authorization_counts_behind_a_proxy(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (mut ada, adas) = signed_up(&server, "ada@example.com");
    let (bob, bobs) = signed_up(&server, "bob@example.com");
    let token = text(&ada.session()["session"]["token"]);
    let plain = || forwarded("GET", "/");
    let bearer = format!("Bearer {token}");
    assert_eq!(told(&ask(&server, plain().header("Authorization", &bearer)))[0], adas);
    assert_eq!(
        told(&ask(&server, of(&bob, plain().header("Authorization", &bearer))))[0],
        adas,
        "as at /api/auth"
    );
    assert_eq!(told(&ask(&server, of(&bob, plain().header("X-Tollgate-Token", &token))))[0], adas);
    for other in ["Basic eDp5", "Bearer a.b", &format!("Bearer {}", server.service_key())] {
        assert_eq!(told(&ask(&server, of(&bob, plain().header("Authorization", other))))[0], bobs, "{other}");
    }
    refused(&ask(&server, plain().header("Authorization", "Bearer nonsense")), 401, "unauthenticated");
}
on_both_engines!(a_clients_own_authorization_counts_behind_a_proxy);

fn paths_that_could_be_read_in_two_ways_are_refused(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (ada, _) = signed_up(&server, "ada@example.com");
    for uri in [
        "//admin/users",
        "/assets/../admin",
        "/assets/%2e%2e/admin",
        "/assets/..%2fadmin",
        "/assets/..%5cadmin",
        "/assets/..\\admin",
        "/ADMIN/users",
        "/admin;x/users",
        "/%2561dmin",
        "/admin%00",
        "/%zz",
        "/a//b",
        "/./admin",
        "admin",
        "http://app.example/admin",
        "/admin%3f",
        "/admin./users",
        "/assets/#/../admin",
        "*",
    ] {
        let refusal = ask(&server, of(&ada, forwarded("GET", uri)));
        let body = refused(&refusal, 403, "forbidden");
        assert!(text(&body["message"]).starts_with("the request cannot be judged"), "{uri}: {body}");
        let page = of(&ada, original("GET", uri)).header("Accept", "text/html");
        refused(&ask(&server, page), 403, "forbidden");
    }
    // Every header that tells the request, alone, doubled and beside its like.
    let pairs = [
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Uri", "/assets/a"),
        ("X-Original-Method", "GET"),
        ("X-Original-URI", "/assets/a"),
        ("X-Original-URL", "https://app.example/assets/a"),
    ];
    for set in 0..1 << pairs.len() {
        let has = |at: usize| set & (1 << at) != 0;
        let mut request = Request::get("/api/gate/forward");
        for (at, (name, value)) in pairs.iter().enumerate() {
            if has(at) {
                request = request.header(name, value);
            }
        }
        let (caddy, nginx) = (has(0) || has(1), has(2) || has(3) || has(4));
        let nginx_style = has(3) || has(4);
        let whole = (has(0) && has(1)) || (has(2) && (has(3) != has(4)));
        let expected = match (caddy && nginx, has(3) && has(4), whole) {
            (true, ..) | (_, true, _) => 403,
            (_, _, true) => 200,
            (_, _, false) if nginx_style => 403,
            (_, _, false) => 422,
        };
        let answer = ask(&server, request);
        assert_eq!(answer.status, expected, "{set:05b}: {}", answer.text());
        if expected == 403 && !(caddy && nginx) && !(has(3) && has(4)) {
            assert_eq!(answer.header("X-Tollgate-Status"), Some("422"), "{set:05b}");
        }
    }
    for (name, value) in [("X-Forwarded-Uri", "/assets/a"), ("X-Forwarded-Method", "GET")] {
        refused(&ask(&server, forwarded("GET", "/assets/a").header(name, value)), 403, "forbidden");
    }
    for method in ["get", "Get", "G T", "GET,POST", ""] {
        refused(&ask(&server, forwarded(method, "/assets/a")), 403, "forbidden");
    }
    refused(&ask(&server, forwarded("POST", "/assets/a")), 401, "unauthenticated");
}
on_both_engines!(paths_that_could_be_read_in_two_ways_are_refused);

fn people_are_sent_to_sign_in_and_come_back_to_us_only(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let base = server.base_url.clone();
    let on = |request: Request, proto: &str, host: &str| {
        request
            .header("X-Forwarded-Proto", proto)
            .header("X-Forwarded-Host", host)
            .header("Accept", "text/html, */*")
    };
    let target = |location: &str| {
        let encoded =
            location.strip_prefix(&format!("{base}/sign-in?callbackURL=")).expect("the page for it");
        kernel::signed::decode_uri_component(encoded).expect("it is encoded").into_owned()
    };
    let uri = "/dashboard?a=1&b=%2F%2Fevil.example#x".replace("#x", "");
    for request in [forwarded("GET", &uri), forwarded("HEAD", &uri)] {
        let answer = ask(&server, on(request, "https", "app.example"));
        assert_eq!((answer.status, answer.text().as_str()), (302, ""));
        let location = answer.header("Location").expect("a redirect");
        assert_eq!(target(location), format!("https://app.example{uri}"));
    }
    let answer = ask(&server, on(original("GET", &uri), "https", "app.example"));
    refused(&answer, 401, "unauthenticated");
    assert_eq!(answer.header("Location"), None);
    assert_eq!(
        target(answer.header("X-Tollgate-Redirect").expect("for nginx")),
        format!("https://app.example{uri}")
    );
    let url = Request::get("/api/gate/forward")
        .header("X-Original-Method", "GET")
        .header("X-Original-URL", &format!("https://app.example{uri}"))
        .header("Accept", "text/html");
    assert!(ask(&server, url).header("X-Tollgate-Redirect").expect("for nginx").contains("app.example"));
    for (proto, host, uri) in [
        ("https", "evil.example", "/"),
        ("http", "app.example", "/"),
        ("https", "app.example:8443", "/"),
        ("https", "app.example@evil.example", "/"),
        ("https", "evil.example/app.example", "/"),
        ("https", "evil.example#app.example", "/"),
        ("https", "app.example.evil.example", "/"),
        ("https", "app.example, evil.example", "/"),
        ("javascript", "app.example", "/"),
        ("https", "", "/"),
        ("https", "app.example", &format!("/{}", "a".repeat(3_000))),
    ] {
        let answer = ask(&server, on(forwarded("GET", uri), proto, host));
        assert_eq!(
            (answer.status, target(answer.header("Location").expect("a redirect"))),
            (302, "/".into()),
            "{host}"
        );
        let answer = ask(&server, on(original("GET", uri), proto, host));
        assert_eq!(target(answer.header("X-Tollgate-Redirect").expect("for nginx")), "/", "{host}");
    }
    // Programs and changes get a status, and so does every other refusal.
    let (ada, _) = signed_up(&server, "ada@example.com");
    for request in [
        forwarded("GET", "/").header("Accept", "application/json"),
        forwarded("GET", "/"),
        forwarded("POST", "/").header("Accept", "text/html"),
    ] {
        let answer = ask(&server, request);
        refused(&answer, 401, "unauthenticated");
        assert_eq!((answer.header("Location"), answer.header("X-Tollgate-Redirect")), (None, None));
    }
    let forbidden = ask(&server, of(&ada, on(forwarded("GET", "/admin"), "https", "app.example")));
    refused(&forbidden, 403, "forbidden");
}
on_both_engines!(people_are_sent_to_sign_in_and_come_back_to_us_only);

fn nginx_is_told_in_statuses_that_it_understands(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (ada, id) = signed_up(&server, "ada@example.com");
    let draw = || ask(&server, of(&ada, original("POST", "/api/images/cat")));
    let poor = draw();
    refused(&poor, 403, "insufficient_credits");
    assert_eq!(poor.header("X-Tollgate-Status"), Some("402"));
    let mut backend = Backend::of(&server);
    backend.grant(&id, 50);
    backend.put("limits", &json!({"user_id": id, "window": "day", "max": 0})).expect(200);
    let limited = draw();
    refused(&limited, 403, "limit_reached");
    assert_eq!(limited.header("X-Tollgate-Status"), Some("429"));
    assert!(limited.header("Retry-After").is_some());
    let plain = ask(&server, of(&ada, original("GET", "/admin")));
    refused(&plain, 403, "forbidden");
    assert_eq!(plain.header("X-Tollgate-Status"), None);
    let keyed = |key: &str| {
        ask(&server, of(&ada, original("POST", "/api/images/cat")).header("Idempotency-Key", key))
    };
    let key = keyed("a b");
    refused(&key, 403, "invalid_request");
    assert_eq!(key.header("X-Tollgate-Status"), Some("422"));
    backend.post("debits", "elsewhere", &json!({"user_id": id, "amount": 1})).expect(429);
    backend.put("limits", &json!({"user_id": id, "window": "day", "max": null})).expect(200);
    backend.post("debits", "elsewhere", &json!({"user_id": id, "amount": 1})).expect(201);
    let key = keyed("elsewhere");
    refused(&key, 403, "idempotency_mismatch");
    assert_eq!(key.header("X-Tollgate-Status"), Some("409"));
}
on_both_engines!(nginx_is_told_in_statuses_that_it_understands);

fn a_session_behind_a_proxy_is_extended(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (ada, _) = signed_up(&server, "ada@example.com");
    let due = || server.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
    for request in [forwarded("GET", "/"), original("GET", "/"), forwarded("GET", "/assets/a")] {
        due();
        let answer = ask(&server, of(&ada, request.clone()));
        told(&answer);
        // One line: nginx can hand on no more.
        let lines: Vec<&str> = answer.all("Set-Cookie").collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with(COOKIE) && lines[0].contains("Max-Age=604800"), "{lines:?}");
        assert_eq!(ask(&server, of(&ada, request)).all("Set-Cookie").count(), 0);
    }
    due();
    let poor = ask(&server, of(&ada, forwarded("POST", "/api/images/cat")));
    refused(&poor, 402, "insufficient_credits");
    assert_eq!(poor.all("Set-Cookie").count(), 1);
}
on_both_engines!(a_session_behind_a_proxy_is_extended);

/// N-7 behind a proxy.
fn a_revoked_or_banned_session_does_not_pass(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let second = Server::second_node(&server);
    let (_, id) = signed_up(&server, "ada@example.com");
    for _ in 0..10 {
        let mut ada = Browser::new(&server);
        ada.sign_in("ada@example.com");
        let stolen = ada.clone();
        told(&ask(&second, of(&stolen, forwarded("GET", "/"))));
        ada.sign_out();
        for node in [&second, &server] {
            refused(&ask(node, of(&stolen, forwarded("GET", "/"))), 401, "unauthenticated");
            refused(&ask(node, of(&stolen, original("GET", "/"))), 401, "unauthenticated");
            assert_eq!(
                told(&ask(node, of(&stolen, forwarded("GET", "/assets/a")))),
                [""; 4].map(str::to_owned)
            );
        }
    }
    let mut ada = Browser::new(&server);
    ada.try_sign_in("ada@example.com", PASSWORD).expect(200);
    server.database.execute(&format!("UPDATE users SET banned = TRUE WHERE id = {}", quoted(&id)));
    refused(&ask(&server, of(&ada, forwarded("GET", "/"))), 403, "user_banned");
    assert_eq!(told(&ask(&server, of(&ada, forwarded("GET", "/assets/a")))), [""; 4].map(str::to_owned));
}
on_both_engines!(a_revoked_or_banned_session_does_not_pass);
