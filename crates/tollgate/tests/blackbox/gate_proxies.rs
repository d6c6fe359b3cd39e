//! A real nginx and a real Caddy in front of a small app, configured by the very text of the guides.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::app::App;
use crate::harness::credits::{Backend, text};
use crate::harness::guide::{block_of_guide, replaced};
use crate::harness::proxy::Proxy;
use crate::harness::server::free_address;
use crate::harness::{Browser, Connection, Engine, Request, Response, Server};

const COOKIE: &str = "better-auth.session_token";
const DAY: i64 = 24 * 3600 * 1000;
const NAMES: [&str; 4] = ["x-tollgate-user", "x-tollgate-email", "x-tollgate-roles", "x-tollgate-balance"];

/// Tollgate, an app and a proxy between a browser and both.
struct Site {
    server: Server,
    app: App,
    proxy: Proxy,
}

/// How a proxy's configuration is made of the guide, for these addresses of proxy, Tollgate and app.
type Start = fn(SocketAddr, SocketAddr, SocketAddr) -> Proxy;

fn nginx(address: SocketAddr, tollgate: SocketAddr, app: SocketAddr) -> Proxy {
    let text = replaced(
        &block_of_guide("behind-nginx.md", "nginx"),
        &[
            ("127.0.0.1:8655", tollgate.to_string()),
            ("127.0.0.1:3000", app.to_string()),
            ("listen 80;", format!("listen {address};")),
            ("server_name app.example.com;", "server_name _;".into()),
        ],
    );
    Proxy::nginx(address, &text)
}

fn caddy(address: SocketAddr, tollgate: SocketAddr, app: SocketAddr) -> Proxy {
    let text = replaced(
        &block_of_guide("behind-caddy.md", "caddyfile"),
        &[
            ("127.0.0.1:8655", tollgate.to_string()),
            ("127.0.0.1:3000", app.to_string()),
            ("app.example.com {", format!("http://{address} {{")),
        ],
    );
    Proxy::caddy(address, &text)
}

impl Site {
    fn open(page: &str, start: Start) -> Site {
        let address = free_address();
        let settings = block_of_guide(page, "toml");
        let settings = replaced(&settings, &[("https://app.example.com", format!("http://{address}"))]);
        let server = Server::with(Engine::Sqlite, &settings);
        let app = App::start();
        let proxy = start(address, server.address, app.address);
        Site { server, app, proxy }
    }

    fn browser(&self) -> Browser {
        Browser::open(self.proxy.address, &self.server.base_url)
    }

    fn signed_up(&self, email: &str) -> (Browser, String) {
        let mut browser = self.browser();
        let made = browser.sign_up(email);
        (browser, text(&made["user"]["id"]))
    }

    /// A request that must not reach the app.
    #[track_caller]
    fn stopped(&self, browser: &Browser, request: Request) -> Response {
        let before = self.app.requests();
        let what = format!("{} {} {:?}", request.method, request.target, request.headers);
        let answer = browser.clone().send(request);
        assert_eq!(self.app.requests(), before, "{what}: {}", answer.text());
        answer
    }
}

/// What the app was told under a name; nothing and an empty text are the same.
fn told(answer: &Value, name: &str) -> Vec<String> {
    let values = answer["headers"][name].as_array().cloned().unwrap_or_default();
    values.iter().map(text).filter(|value| !value.is_empty()).collect()
}

#[track_caller]
fn told_all(answer: &Value) -> [String; 4] {
    NAMES.map(|name| {
        let found = told(answer, name);
        assert_eq!(found.len(), 1, "{name} in {answer}");
        found[0].clone()
    })
}

fn people_pass_and_are_told(site: &Site) {
    let (ada, id) = site.signed_up("ada@example.com");
    let seen = ada.clone().get("/dashboard?feature=x&guest=y&z=%2F").expect(200).json();
    assert_eq!(seen["target"], "/dashboard?feature=x&guest=y&z=%2F");
    let expected = [id.as_str(), "ada@example.com", "user", "0"].map(str::to_owned);
    assert_eq!(told_all(&seen), expected);
    // Nobody else says who somebody is, in no spelling.
    let spoofed = |mut request: Request| {
        for name in ["X-Tollgate-User", "x-tollgate-email", "X-TOLLGATE-ROLES", "X-Tollgate-Balance"] {
            request = request.header(name, "spoofed").header(name, "twice");
        }
        for name in ["X_Tollgate_User", "X-Tollgate_Roles", "x_tollgate-roles"] {
            request = request.header(name, "spoofed");
        }
        request
    };
    let clean = |seen: &Value| assert!(!seen.to_string().contains("spoofed"), "{seen}");
    let seen = ada.clone().send(spoofed(Request::get("/dashboard"))).expect(200).json();
    assert_eq!(told_all(&seen), expected);
    clean(&seen);
    let seen = site.browser().send(spoofed(Request::get("/assets/app.css"))).expect(200).json();
    assert!(NAMES.iter().all(|name| told(&seen, name).is_empty()), "{seen}");
    clean(&seen);
    // A client that has a header taken out on the way is nobody.
    let hop =
        Request::get("/assets/app.css").header("Connection", "keep-alive, X-Tollgate-User, X-Tollgate-Roles");
    clean(&ada.clone().send(spoofed(hop)).expect(200).json());
    assert_eq!(ada.clone().send(Request::new("HEAD", "/dashboard")).status, 200);
    let body = ada.clone().post("/things", json!({"a": "b"})).expect(200).json();
    assert_eq!((&body["body"], &body["method"]), (&json!("{\"a\":\"b\"}"), &json!("POST")));
    let put = Request::new("PUT", "/things/7").json(&json!({"large": "x".repeat(300_000)}));
    assert!(
        ada.clone().send(put).expect(200).json()["body"].as_str().is_some_and(|body| body.len() > 300_000)
    );
}

fn strangers_are_sent_to_sign_in(site: &Site) {
    let base = &site.server.base_url;
    let page = |uri: &str| Request::get(uri).header("Accept", "text/html,application/xhtml+xml");
    let target = |answer: &Response| {
        assert_eq!(answer.status, 302, "{}", answer.text());
        let location = answer.header("Location").expect("a redirect");
        let encoded = location.strip_prefix(&format!("{base}/sign-in?callbackURL=")).expect("our page");
        kernel::signed::decode_uri_component(encoded).expect("it is encoded").into_owned()
    };
    let nobody = site.browser();
    let answer = site.stopped(&nobody, page("/dashboard?a=1&b=2"));
    assert_eq!(target(&answer), format!("{base}/dashboard?a=1&b=2"));
    for name in ["X-Forwarded-Host", "X-Forwarded-Proto", "X-Original-URL", "X-Tollgate-Redirect"] {
        let answer = site.stopped(&nobody, page("/dashboard").header(name, "https://evil.example/"));
        let found = target(&answer);
        assert!(found == "/" || found == format!("{base}/dashboard"), "{name}: {found}");
    }
    // Caddy has no site of that name, and nothing to say.
    let evil = site.stopped(&nobody, page("/dashboard").header("Host", "evil.example"));
    assert!(!evil.header("Location").unwrap_or_default().contains("evil"), "{evil:?}");
    for request in
        [Request::get("/dashboard"), Request::post("/dashboard", &json!({})).header("Accept", "text/html")]
    {
        let answer = site.stopped(&nobody, request).expect(401);
        assert_eq!(answer.json()["error_code"], "unauthenticated");
    }
    let forged = Request::get("/dashboard").header("Cookie", &format!("{COOKIE}=a.b"));
    site.stopped(&nobody, forged).expect(401);
    let token = Request::get("/dashboard").header("X-Tollgate-Token", "made-up");
    site.stopped(&nobody, token).expect(401);
}

fn strangers_can_sign_in_and_become_guests(site: &Site) {
    let mut nobody = site.browser();
    let page = nobody.get("/sign-in?callbackURL=%2F").expect(200).json();
    assert_eq!(page["target"], "/sign-in?callbackURL=%2F");
    nobody.post("/api/guest", json!({})).expect(201);
    let guest = nobody.get("/api/guest").expect(200).json();
    assert_eq!(guest["allowances"], json!([]));
    site.stopped(&nobody, Request::get("/dashboard")).expect(401);
}

fn rules_hold_however_a_path_is_spelled(site: &Site) {
    let (ada, _) = site.signed_up("eve@example.com");
    for path in [
        "/admin",
        "/admin/",
        "/admin/users?x=/assets/a",
        "/%61dmin",
        "//admin",
        "/assets/../admin",
        "/assets/./../admin",
        "/assets/%2e%2e/admin",
        "/assets/.%2E/admin",
        "/assets/..%2fadmin",
        "/assets/..%5cadmin",
        "/ADMIN",
        "/Admin/x",
        "/admin;a=b",
        "/assets/;/../admin",
        "/assets//../admin",
        "/x//admin",
        "/%2561dmin",
        "/admin%2f",
        "/admin%3f",
        "/admin%23",
        "/admin%20",
        "/admin.",
        "/assets/..;/admin",
        "/.%2fadmin",
        "/assets/%252e%252e/admin",
    ] {
        let answer = site.stopped(&ada, Request::get(path));
        assert!([400, 403].contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
    }
    // A request that names its host in the first line is one for the same paths.
    let absolute = Request::get(&format!("http://{}/admin/users", site.proxy.address));
    let absolute = absolute.header("Cookie", &ada.cookie_header("/"));
    let answer = site.stopped(&ada, absolute);
    assert!([400, 403].contains(&answer.status), "{}", answer.status);
    // What a client says of its own request is not believed.
    let lies = [
        ("X-Forwarded-Uri", "/assets/a"),
        ("X-Forwarded-Method", "GET"),
        ("X-Original-URI", "/assets/a"),
        ("X-Original-URL", "https://app.example.com/assets/a"),
        ("X-Original-Method", "GET"),
        ("X-Forwarded-Prefix", "/assets"),
        ("X-Rewrite-URL", "/assets/a"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Connection", "X-Forwarded-Uri"),
        ("Connection", "X-Forwarded-Method, X-Original-URI, X-Original-Method"),
    ];
    for set in [&lies[..], &lies[..1], &lies[2..3], &lies[3..5], &lies[8..9], &lies[9..]] {
        let lie =
            |request: Request| set.iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = site.stopped(&ada, lie(Request::get("/admin/users")));
        // Refused, or not understood: a proxy that has been robbed of a header cannot say what it asks about.
        assert!([403, 422, 500, 503].contains(&answer.status), "{set:?}: {}", answer.status);
        let answer = site.stopped(&site.browser(), lie(Request::get("/dashboard")));
        assert!([401, 403, 422, 500, 503].contains(&answer.status), "{set:?}: {}", answer.status);
    }
    site.server.command(&["user", "promote", "eve@example.com"]).expect_done();
    let seen = ada.clone().get("/admin/users").expect(200).json();
    assert!(told_all(&seen)[2].split(',').any(|role| role == "admin"), "{seen}");
    // Lies do not keep people from what is theirs either, unless they rob the proxy of its own headers.
    let lie = lies[..8]
        .iter()
        .fold(Request::get("/admin/users"), |request, (name, value)| request.header(name, value));
    ada.clone().send(lie).expect(200);
}

fn features_are_paid(site: &Site) {
    let (ada, id) = site.signed_up("bob@example.com");
    let draw =
        || Request::post("/api/images/cat", &json!({"of": "a cat"})).header("Idempotency-Key", "the-same");
    let poor = site.stopped(&ada, draw()).expect(402);
    assert_eq!(poor.json()["error_code"], "insufficient_credits");
    let mut backend = Backend::of(&site.server);
    backend.grant(&id, 12);
    for left in ["7", "2"] {
        let seen = ada.clone().send(draw()).expect(200).json();
        assert_eq!((told_all(&seen)[3].as_str(), text(&seen["body"]).contains("a cat")), (left, true));
    }
    site.stopped(&ada, draw()).expect(402);
    ada.clone().get("/api/images/cat").expect(200);
    backend.grant(&id, 50);
    backend.put("limits", &json!({"user_id": id, "window": "day", "max": 10})).expect(200);
    let limited = site.stopped(&ada, draw()).expect(429);
    assert_eq!(limited.json()["error_code"], "limit_reached");
    assert!(limited.header("Retry-After").is_some());
}

fn sessions_are_extended_and_ended(site: &Site) {
    let (mut ada, id) = site.signed_up("cleo@example.com");
    let of = format!("user_id = '{id}'");
    assert_eq!(site.server.database.shift("sessions", "expires_at", -DAY - 1000, &of), 1);
    let lines = |answer: Response| -> Vec<String> {
        answer.expect(200).all("Set-Cookie").map(str::to_owned).collect()
    };
    let first = lines(ada.clone().get("/dashboard"));
    assert!(
        first.iter().any(|line| line.starts_with(COOKIE) && line.contains("Max-Age=604800")),
        "{first:?}"
    );
    assert_eq!(first.len(), 2, "the app's own is still there: {first:?}");
    assert_eq!(lines(ada.clone().get("/dashboard")), ["app=1; Path=/"]);
    let stolen = ada.clone();
    ada.sign_out();
    site.stopped(&stolen, Request::get("/dashboard")).expect(401);
}

/// Last: it takes Tollgate away, and gives it back.
fn without_tollgate_nobody_passes(site: &mut Site) {
    let (ada, _) = site.signed_up("dan@example.com");
    let mut kept = Connection::open(site.proxy.address).expect("the proxy accepts");
    let request = Request::get("/dashboard").header("Cookie", &ada.cookie_header("/"));
    kept.exchange(&request).expect("an answer").expect(200);
    site.server.kill();
    for path in ["/dashboard", "/admin", "/assets/app.css"] {
        let answer = site.stopped(&ada, Request::get(path));
        assert!([502, 503].contains(&answer.status), "{path}: {}", answer.status);
    }
    site.server.restart();
    crate::harness::until(std::time::Duration::from_secs(20), "Tollgate to be asked again", || {
        (ada.clone().get("/dashboard").status == 200).then_some(())
    });
    site.server.signal("STOP");
    let answer = site.stopped(&ada, Request::get("/dashboard"));
    site.server.signal("CONT");
    assert!([502, 503, 504].contains(&answer.status), "{}", answer.status);
}

fn the_guide_guards_an_app(page: &str, start: Start) {
    let mut site = Site::open(page, start);
    people_pass_and_are_told(&site);
    strangers_are_sent_to_sign_in(&site);
    strangers_can_sign_in_and_become_guests(&site);
    rules_hold_however_a_path_is_spelled(&site);
    features_are_paid(&site);
    sessions_are_extended_and_ended(&site);
    without_tollgate_nobody_passes(&mut site);
}

#[test]
fn nginx_guards_an_app_as_the_guide_says() {
    the_guide_guards_an_app("behind-nginx.md", nginx);
}

#[test]
fn caddy_guards_an_app_as_the_guide_says() {
    the_guide_guards_an_app("behind-caddy.md", caddy);
}
