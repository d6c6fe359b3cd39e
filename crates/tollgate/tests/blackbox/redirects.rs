//! Where people are sent: to our own host or a trusted origin, and nowhere else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Browser, Engine, PASSWORD, Request, Server};
use crate::matrix::SETTINGS;
use crate::on_both_engines;

const MAIL_WITHIN: Duration = Duration::from_secs(20);

const ELSEWHERE: [&str; 26] = [
    "//evil.example/x",
    "https://evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/%5Cevil.example",
    "/%2F/evil.example",
    "/%2f%2fevil.example",
    "https:evil.example",
    "https:/evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    " https://evil.example",
    "https://app.example@evil.example",
    "https://app.example.evil.example",
    "https://app.example\\@evil.example",
    "https://app.example:443@evil.example/",
    "%09//evil.example",
    "\t//evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "///evil.example",
    "http://app.example",
    "https://app.example:444",
    "/a/..//evil.example",
    "/.//evil.example",
    "evil.example",
];
const AT_HOME: [&str; 4] =
    ["/dashboard?tab=a&x=%2F%2Fevil", "https://app.example/x", "/", "/a?next=https://evil.example"];

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// O-07, O-08: in the body and in the query, for every field that names a target.
fn sign_in_leads_nowhere_else(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    let login = json!({"email": "ada@example.com", "password": PASSWORD});
    let fields = [
        ("callbackURL", "INVALID_CALLBACK_URL"),
        ("redirectTo", "INVALID_REDIRECT_URL"),
        ("errorCallbackURL", "INVALID_ERROR_CALLBACK_URL"),
        ("newUserCallbackURL", "INVALID_NEW_USER_CALLBACK_URL"),
    ];
    for target in ELSEWHERE {
        for (field, code) in fields {
            let mut body = login.clone();
            body[field] = target.into();
            let refused = Browser::new(&server).post("/api/auth/sign-in/email", body).refused(403, code);
            assert_eq!(refused.all("Set-Cookie").count(), 0, "{target:?}");
            assert_eq!(refused.header("Location"), None, "{target:?}");
        }
        let path = format!("/api/auth/sign-in/email?callbackURL={}", encoded(target));
        Browser::new(&server).post(&path, login.clone()).refused(403, "INVALID_CALLBACK_URL");
    }
    for target in AT_HOME {
        let body = json!({"email": "ada@example.com", "password": PASSWORD, "callbackURL": target});
        let answer = Browser::new(&server).post("/api/auth/sign-in/email", body).expect(200);
        assert_eq!(answer.json()["url"], target);
        assert_eq!(answer.header("Location"), Some(target));
    }
}
on_both_engines!(sign_in_leads_nowhere_else);

/// The same judge stands before every other change.
fn every_change_judges_its_targets(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    let document = ada.get("/openapi.json").expect(200).json();
    for (path, methods) in document["paths"].as_object().expect("the document lists paths") {
        // This one looks at no body.
        if !path.starts_with("/api/auth/") || methods.get("post").is_none() || path.ends_with("/get-session")
        {
            continue;
        }
        for target in ["//evil.example", "https://evil.example"] {
            ada.post(path, json!({"callbackURL": target})).refused(403, "INVALID_CALLBACK_URL");
        }
    }
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
}
on_both_engines!(every_change_judges_its_targets);

/// O-09, O-10: links judge their target before they look at their token, and the token stays good.
fn links_lead_nowhere_else(engine: Engine) {
    let server = Server::with(engine, "[accounts]\ndelete_user = true\n");
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    ada.post("/api/auth/request-password-reset", json!({"email": "ada@example.com", "redirectTo": "/new"}))
        .expect(200);
    let link = server.mail.take("ada@example.com", MAIL_WITHIN).link();
    let token = link.split("/reset-password/").nth(1).and_then(|rest| rest.split('?').next());
    let token = token.expect("the link names its token").to_owned();
    for target in ELSEWHERE {
        let target = encoded(target);
        for path in [
            format!("/api/auth/verify-email?token=x&callbackURL={target}"),
            format!("/api/auth/reset-password/{token}?callbackURL={target}"),
            format!("/api/auth/delete-user/callback?token=x&callbackURL={target}"),
        ] {
            let refused = ada.get(&path).refused(403, "INVALID_CALLBACK_URL");
            assert_eq!(refused.header("Location"), None, "{path}");
            assert!(!refused.text().contains(&token), "{path}");
        }
    }
    let own = ada.follow(&link).expect(302);
    let home = format!("{}/new?token={token}", server.base_url);
    assert_eq!(own.header("Location"), Some(home.as_str()));
    let app =
        format!("/api/auth/reset-password/{token}?callbackURL=https%3A%2F%2Fapp.example%2Freset%3Fa%3D1%23z");
    let location = format!("https://app.example/reset?a=1&token={token}#z");
    assert_eq!(ada.get(&app).expect(302).header("Location"), Some(location.as_str()));
}
on_both_engines!(links_lead_nowhere_else);

/// O-11.
fn targets_that_are_no_text_are_refused(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    for target in [json!({"a": 1}), json!(["/a"]), json!(1), json!(true), json!([])] {
        for field in ["callbackURL", "redirectTo", "errorCallbackURL", "newUserCallbackURL"] {
            let mut body = json!({"email": "ada@example.com", "password": PASSWORD});
            body[field] = target.clone();
            let refused = Browser::new(&server).post("/api/auth/sign-in/email", body).expect(400);
            assert_eq!(refused.all("Set-Cookie").count(), 0);
        }
    }
    let login = json!({"email": "ada@example.com", "password": PASSWORD});
    let twice = "/api/auth/sign-in/email?callbackURL=/a&callbackURL=//evil.example";
    Browser::new(&server).post(twice, login.clone()).expect(400);
    for path in ["/api/auth/verify-email?token=x", "/api/auth/reset-password/x?"] {
        let both = |first: &str, second: &str| format!("{path}&callbackURL={first}&callbackURL={second}");
        for pair in [both("/a", "//evil.example"), both("//evil.example", "/a"), both("/a", "/b")] {
            let refused = Request::get(&pair).send(server.address).expect("an answer");
            assert!(matches!(refused.status, 400 | 403), "{pair}: {}", refused.status);
            assert_eq!(refused.header("Location"), None);
        }
    }
}
on_both_engines!(targets_that_are_no_text_are_refused);

/// O-12: the error page leads home and repeats nothing that a browser would run.
fn the_error_page_repeats_no_markup(engine: Engine) {
    let server = Server::start(engine);
    let hostile = "/api/auth/error?error=%3Cscript%3Ealert(1)%3C/script%3E\
                   &error_description=%22%3E%3Cimg%20src=x%20onerror=1%3E%0d%0aSet-Cookie:%20a=b";
    let answer = Request::get(hostile).send(server.address).expect("an answer").expect(302);
    let location = answer.header("Location").expect("it leads somewhere").to_owned();
    assert!(location.starts_with("/?error=UNKNOWN&error_description="), "{location}");
    let said = format!("{location}{}", answer.text());
    assert!(!said.contains(['<', '>', '"', '\r', '\n']), "{said}");
    assert_eq!(answer.all("Set-Cookie").count(), 0);
    let policy = answer.header("Content-Security-Policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe-inline"), "{policy}");
    for (code, shown) in
        [("INVALID_TOKEN", "INVALID_TOKEN"), ("a.b", "UNKNOWN"), ("a%27", "UNKNOWN"), ("", "UNKNOWN")]
    {
        let answer =
            Request::get(&format!("/api/auth/error?error={code}")).send(server.address).expect("an answer");
        assert_eq!(answer.expect(302).header("Location"), Some(format!("/?error={shown}").as_str()));
    }
}
on_both_engines!(the_error_page_repeats_no_markup);

/// A link that does not work tells its page why, whatever else the page's address holds.
fn a_bad_link_tells_the_page_it_leads_to(engine: Engine) {
    let server = Server::start(engine);
    let follow = |path: &str| Request::get(path).send(server.address).expect("an answer");
    let verify = follow("/api/auth/verify-email?token=x&callbackURL=%2Fa%3Fb%3D1%23c").expect(302);
    assert_eq!(verify.header("Location"), Some("/a?b=1&error=INVALID_TOKEN#c"));
    let reset = follow("/api/auth/reset-password/x?callbackURL=%2Fa").expect(302);
    let home = format!("{}/a?error=INVALID_TOKEN", server.base_url);
    assert_eq!(reset.header("Location"), Some(home.as_str()));
    follow("/api/auth/reset-password/x").refused(400, "VALIDATION_ERROR");
    let empty = follow("/api/auth/reset-password/x?callbackURL=").expect(302);
    let page = format!("{}/api/auth/error?error=INVALID_TOKEN", server.base_url);
    assert_eq!(empty.header("Location"), Some(page.as_str()));
    assert_eq!(
        follow("/api/auth/verify-email?token=x").refused(401, "INVALID_TOKEN").json()["code"],
        Value::from("INVALID_TOKEN")
    );
}
on_both_engines!(a_bad_link_tells_the_page_it_leads_to);
