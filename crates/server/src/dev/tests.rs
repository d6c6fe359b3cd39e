//! The pages as a browser, a test and an attacker see them, without a socket.

use super::inbox::{self, Listing};
use super::views;
use super::{Dev, Known, ROUTES, SampleUser, router};
use crate::edge::{RequestContext, RequestId};
use axum::Router;
use axum::body::Body;
use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, X_FRAME_OPTIONS};
use http::{HeaderMap, Request, StatusCode};
use kernel::vault::DataKey;
use kernel::{ClientAddress, Millis, Secret, Vault, random};
use mail::{Address, CapturedMail, Link, Message, Recipient, Templates};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use store::{Options, Store};
use tower::ServiceExt as _;

struct World {
    store: Store,
    vault: Vault,
    router: Router,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

fn open(known: Known, templates: Option<&Path>) -> World {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/dev.db", folder.path().display());
    let store = Store::open(&Options { url, pool_size: 1 }).unwrap();
    store.migrate().unwrap();
    let vault = Vault::new(&DataKey::generate(&mut random::secure()));
    let templates = Templates::load("My app", templates).expect("the templates are good");
    let dev = Dev {
        base_url: "http://localhost:8655".into(),
        app_name: "My <b>app</b>".into(),
        store: store.clone(),
        vault: vault.clone(),
        templates: Arc::new(templates),
        known,
    };
    World { store, vault, router: router(dev), _folder: folder }
}

fn known() -> Known {
    Known {
        service_key: Some(Secret::new("tg_sk_abc".into())),
        sample_user: Some(SampleUser { email: "ada@example.test".into(), password: "correct-horse".into() }),
        till: Some("http://127.0.0.1:40000".into()),
        operations_apart: false,
        mails_leave: false,
    }
}

impl World {
    async fn deliver(&self, number: i64) {
        let vault = self.vault.clone();
        let written = self.store.write(move |tx| {
            let url = Link::parse(&format!("http://localhost:8655/api/auth/verify-email?token={number}&x=1"))
                .unwrap();
            let to = Recipient::new(Address::parse(&format!("user{number}@example.test")).unwrap(), "Ada");
            let now = Millis(1_795_000_000_000 + number);
            mail::enqueue(tx, &vault, &to, &Message::VerifyEmail { url }, now, &mut random::secure())
        });
        written.await.unwrap();
    }

    async fn ask(&self, path: &str, accept: &str) -> Answer {
        self.ask_from("127.0.0.1", "localhost:8655", path, accept).await
    }

    async fn ask_from(&self, peer: &str, host: &str, path: &str, accept: &str) -> Answer {
        let mut request =
            Request::get(path).header(HOST, host).header(ACCEPT, accept).body(Body::empty()).unwrap();
        request.extensions_mut().insert(RequestContext {
            request_id: RequestId::fresh(),
            client: ClientAddress::Known(peer.parse().unwrap()),
            from_proxy: false,
            now: Millis(0),
        });
        read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn json(&self, path: &str) -> Value {
        let answer = self.ask(path, "application/json").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

async fn read(response: http::Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

const HTML: &str = "text/html,application/xhtml+xml";

#[tokio::test]
async fn every_page_has_the_strict_policy_and_no_inline_script_or_style() {
    let world = open(known(), None);
    world.deliver(1).await;
    for path in ["/dev", "/dev/mail", "/dev/mail?refresh=off", "/dev/mail?cursor=0", "/dev/mail?limit=0"] {
        let page = world.ask(path, HTML).await;
        let policy = page.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.headers["cache-control"], "no-store");
        assert_eq!(page.headers["referrer-policy"], "same-origin");
        assert!(page.body.contains("<html lang=\"en\">"), "{path}");
        for banned in ["<style", " style=", "<script>", " onclick=", "javascript:"] {
            assert!(!page.body.contains(banned), "{path}: {banned}");
        }
        for part in page.body.split("src=\"").skip(1) {
            assert!(part.starts_with("/dev/"), "{path}: {part:.40}");
        }
    }
}

#[tokio::test]
async fn the_start_page_holds_what_an_app_needs() {
    let world = open(known(), None);
    let page = world.ask("/dev", HTML).await;
    assert_eq!(page.status, StatusCode::OK);
    for part in [
        "TOLLGATE_KEY=tg_sk_abc",
        "SQLite",
        "createAuthClient",
        "name=\"email\" value=\"ada@example.test\"",
        "My &lt;b&gt;app&lt;&#x2f;b&gt;",
        "href=\"/openapi.json\"",
    ] {
        assert!(page.body.contains(part), "{part}\n{}", page.body);
    }
    let bare = open(Known { operations_apart: true, ..Known::default() }, None).ask("/dev", HTML).await;
    assert_eq!(bare.status, StatusCode::OK);
    for part in ["try-form", "tg_sk_", "/openapi.json"] {
        assert!(!bare.body.contains(part), "{part}");
    }
}

#[tokio::test]
async fn the_shorter_ways_lead_to_the_start_page() {
    let world = open(known(), None);
    for path in ["/", "/dev/", "/dev/start"] {
        let answer = world.ask(path, HTML).await;
        assert_eq!(
            (answer.status, &answer.headers[LOCATION]),
            (StatusCode::TEMPORARY_REDIRECT, &"/dev".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn an_empty_inbox_says_how_to_fill_it() {
    let page = open(known(), None).ask("/dev/mail", HTML).await;
    assert!(page.body.contains("No mail yet") && page.body.contains("requestPasswordReset"));
    let leaving = open(Known { mails_leave: true, ..known() }, None);
    for path in ["/dev", "/dev/mail"] {
        let page = leaving.ask(path, HTML).await.body;
        assert!(page.contains("smtp_url") && !page.contains("lands"), "{path}");
    }
}

#[tokio::test]
async fn pages_of_mails_neither_repeat_nor_skip() {
    let world = open(known(), None);
    for number in 1..=5 {
        world.deliver(number).await;
    }
    let mut seen = Vec::new();
    let mut path = "/dev/mail.json?limit=2".to_owned();
    loop {
        let list = world.json(&path).await;
        seen.extend(
            list["items"].as_array().unwrap().iter().map(|mail| mail["to"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = list["next_cursor"].as_str() else { break };
        path = format!("/dev/mail.json?limit=2&cursor={cursor}");
    }
    let newest_first: Vec<String> =
        (1..=5).rev().map(|number| format!("user{number}@example.test")).collect();
    assert_eq!(seen, newest_first);
}

#[tokio::test]
async fn a_program_gets_the_same_list_from_both_addresses() {
    let world = open(known(), None);
    world.deliver(7).await;
    let list = world.json("/dev/mail").await;
    assert_eq!(list, world.json("/dev/mail.json").await);
    let mail = &list["items"][0];
    assert_eq!(mail["links"][0], "http://localhost:8655/api/auth/verify-email?token=7&x=1");
    assert_eq!(mail["to"], "user7@example.test");
    assert!(mail["created_at"].as_str().unwrap().ends_with('Z') && mail["code"].is_null());
    assert_eq!(list["next_cursor"], Value::Null);
}

#[tokio::test]
async fn limits_and_cursors_of_another_form_are_refused() {
    let world = open(known(), None);
    for query in ["limit=0", "limit=201", "limit=x", "limit=-1", "cursor=", "cursor=%00", "cursor=a'b"] {
        let answer = world.ask(&format!("/dev/mail.json?{query}"), "*/*").await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["error_code"], "invalid_request");
    }
}

#[tokio::test]
async fn an_html_part_stands_in_a_sandbox_and_only_there() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "<p><a href=\"{{ url }}\">x</a></p><script>steal()</script></iframe><a href=\"javascript:steal()\">y</a>\
        <img src=\"https://evil.example/pixel\">";
    std::fs::write(folder.path().join("verify-email.html"), hostile).unwrap();
    let world = open(known(), Some(folder.path()));
    world.deliver(1).await;
    world.deliver(2).await;
    let page = world.ask("/dev/mail", HTML).await;
    for banned in ["steal()", "evil.example", "<script>"] {
        assert!(!page.body.contains(banned), "{banned}");
    }
    let id = world.json("/dev/mail.json").await["items"][1]["id"].as_str().unwrap().to_owned();
    let part = world.ask(&format!("/dev/mail/{id}/html"), HTML).await;
    assert_eq!(part.status, StatusCode::OK);
    assert!(part.body.starts_with("<base target=\"_blank\"><p><a href") && part.body.contains("token=1"));
    let policy = part.headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline'; img-src data:;"), "{policy}");
    assert!(policy.contains("sandbox allow-popups") && !policy.contains("script"), "{policy}");
    assert!(!policy.contains("allow-same-origin") && policy.contains("frame-ancestors 'self'"), "{policy}");
    assert_eq!(part.headers[X_FRAME_OPTIONS], "SAMEORIGIN");
    for id in ["0", "nothing", "..%2f..", &format!("{id}0"), &id[..31]] {
        assert_eq!(
            world.ask(&format!("/dev/mail/{id}/html"), HTML).await.status,
            StatusCode::NOT_FOUND,
            "{id}"
        );
    }
}

#[tokio::test]
async fn whatever_a_mail_says_stays_text() {
    let evil = "</pre></article></iframe>\"'><script>steal()</script><img src=x onerror=steal()>{{ 7*7 }}";
    let mail = CapturedMail {
        id: "0a".into(),
        to: format!("{evil}@example.test"),
        subject: evil.into(),
        text: evil.into(),
        html: evil.into(),
        links: vec![
            "javascript:steal()".into(),
            "data:text/html,<script>steal()</script>".into(),
            "http://localhost/\" onmouseover=\"steal()".into(),
        ],
        code: Some(evil.into()),
        created_at: evil.into(),
    };
    let listing = Listing { items: vec![mail], next_cursor: Some("\"><script>".into()) };
    let page = read(inbox::render(&views::open(), &listing, "")).await;
    assert_eq!(page.status, StatusCode::OK);
    for banned in ["<script>", "<img src=x", "\" onmouseover", "href=\"javascript:", "href=\"data:", "49"] {
        assert!(!page.body.contains(banned), "{banned}\n{}", page.body);
    }
    assert_eq!(page.body.matches("</iframe>").count(), 1);
    assert_eq!(page.body.matches("</article>").count(), 1);
    assert_eq!(page.body.matches("href=\"http:").count(), 1);
    assert!(page.body.contains("&lt;script&gt;steal()"));
}

#[tokio::test]
async fn strangers_and_other_names_see_nothing_at_any_path() {
    let world = open(known(), None);
    world.deliver(1).await;
    let paths = ROUTES.iter().map(|route| route.path.replace("{id}", "0").replace("{file}", "tollgate.css"));
    for path in paths.chain(["/".to_owned(), "/dev/".to_owned()]) {
        for (peer, host) in [
            ("192.0.2.1", "localhost:8655"),
            ("127.0.0.1", "evil.example"),
            ("::1", "localhost.evil.example"),
        ] {
            let answer = world.ask_from(peer, host, &path, HTML).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {peer} {host}");
            assert!(!answer.body.contains("token=") && !answer.body.contains("tg_sk_"), "{path}");
        }
        assert_ne!(
            world.ask_from("::1", "[::1]:8655", &path, HTML).await.status,
            StatusCode::FORBIDDEN,
            "{path}"
        );
    }
    let refused = world.ask_from("192.0.2.1", "localhost", "/dev/mail.json", "application/json").await;
    let body: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(body["error_code"], "forbidden");
}

#[tokio::test]
async fn what_the_pages_load_is_there() {
    let world = open(known(), None);
    world.deliver(1).await;
    for path in ["/dev", "/dev/mail"] {
        let page = world.ask(path, HTML).await.body;
        let assets: Vec<&str> =
            page.split("\"/dev/assets/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(assets.len() >= 3, "{path}");
        for name in assets {
            let asset = world.ask(&format!("/dev/assets/{name}"), "*/*").await;
            assert_eq!(asset.status, StatusCode::OK, "{name}");
            assert!(
                !asset.headers[CONTENT_TYPE].is_empty() && !asset.body.contains("http://fonts"),
                "{name}"
            );
        }
    }
    assert_eq!(world.ask("/dev/assets/none", "*/*").await.status, StatusCode::NOT_FOUND);
}
