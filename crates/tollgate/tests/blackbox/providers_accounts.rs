//! Accounts at providers: which become one, who may add and remove them, and what the provider handed out for them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::issuer::Issuer;
use crate::harness::{Browser, Engine, PASSWORD, Server, in_parallel};
use crate::on_both_engines;
use crate::providers_sign_in::{ada, begin, count, led_to, person, sign_in, sorry, with_provider};

/// A user of before, signed up with a password.
fn signed_up(server: &Server, email: &str, verified: bool) -> Browser {
    let mut browser = Browser::new(server);
    browser.sign_up(email);
    if verified {
        server.database.execute("UPDATE users SET email_verified = TRUE");
    }
    browser
}

#[track_caller]
fn link(browser: &mut Browser, issuer: &Issuer, who: Value) -> String {
    let body = json!({"provider": "company", "callbackURL": "/linked", "errorCallbackURL": "/sorry?from=test",
        "disableRedirect": true});
    let begun = browser.post("/api/auth/link-social", body).expect(200).json();
    let back = issuer.person_goes(begun["url"].as_str().expect("an address"), who);
    led_to(browser.get(&back))
}

#[track_caller]
fn account(browser: &mut Browser) -> Value {
    let accounts = browser.get("/api/auth/list-accounts").expect(200).json();
    let found =
        accounts.as_array().expect("a list").iter().find(|account| account["providerId"] == "company");
    found.expect("an account at the provider").clone()
}

/// O-42: whoever signed up with somebody's address shares nothing with its owner.
fn an_address_that_was_not_proven_here_joins_nothing(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, &issuer.named("trusted", "trusted = true"));
    let mut attacker = signed_up(&server, "ada@example.com", false);
    let mut victim = Browser::new(&server);
    for provider in ["company", "trusted"] {
        assert_eq!(sign_in(&mut victim, &issuer, provider, ada()), sorry("account_not_linked"));
        let id_token = json!({"token": issuer.id_token(&ada(), None)});
        let body = json!({"provider": provider, "idToken": id_token});
        victim.post("/api/auth/sign-in/social", body).refused(401, "OAUTH_LINK_ERROR");
    }
    assert_eq!(victim.session(), Value::Null);
    assert_eq!(count(&server, "accounts"), 1);
    assert_eq!(attacker.session()["user"]["emailVerified"], false);
}
on_both_engines!(an_address_that_was_not_proven_here_joins_nothing);

/// O-43: a provider that does not say `true` has said nothing.
fn an_address_that_was_not_proven_there_joins_nothing(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, &issuer.named("trusted", "trusted = true"));
    signed_up(&server, "ada@example.com", true);
    let mut browser = Browser::new(&server);
    for said in [json!(false), json!("false"), json!(null), json!(1), json!("yes"), json!([]), json!("TRUE")]
    {
        let mut who = ada();
        who["email_verified"] = said.clone();
        assert_eq!(sign_in(&mut browser, &issuer, "company", who), sorry("account_not_linked"), "{said}");
    }
    let mut silent = ada();
    silent.as_object_mut().expect("an object").remove("email_verified");
    assert_eq!(sign_in(&mut browser, &issuer, "company", silent.clone()), sorry("account_not_linked"));
    assert_eq!(browser.session(), Value::Null);
    // Trust is the operator's word for the provider's.
    assert_eq!(sign_in(&mut browser, &issuer, "trusted", silent), "/dash");
    let mut in_letters = ada();
    in_letters["email_verified"] = json!("true");
    assert_eq!(sign_in(&mut browser, &issuer, "company", in_letters), "/dash");
    assert_eq!((count(&server, "users"), count(&server, "accounts")), (1, 3));
}
on_both_engines!(an_address_that_was_not_proven_there_joins_nothing);

fn an_account_is_linked_for_whoever_is_signed_in_and_stays_so(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut browser = signed_up(&server, "ada@example.com", false);
    let other = person("bob", "bob@example.com", true);
    assert_eq!(link(&mut browser, &issuer, other.clone()), sorry("email_does_not_match"));
    let unproven = person("ada", "ada@example.com", false);
    assert_eq!(link(&mut browser, &issuer, unproven), sorry("unable_to_link_account"));
    assert_eq!(link(&mut browser, &issuer, ada()), "/linked");
    assert_eq!(link(&mut browser, &issuer, ada()), "/linked", "once more refreshes what is kept");
    assert_eq!(count(&server, "accounts"), 2);
    // The account is somebody's now, whatever its address says.
    let mut bob = Browser::new(&server);
    assert_eq!(sign_in(&mut bob, &issuer, "company", other), "/welcome");
    let stolen = person("ada", "bob@example.com", true);
    assert_eq!(link(&mut bob, &issuer, stolen.clone()), sorry("account_already_linked_to_different_user"));
    let token = json!({"provider": "company", "idToken": {"token": issuer.id_token(&stolen, None)}});
    bob.post("/api/auth/link-social", token).refused(409, "SOCIAL_ACCOUNT_ALREADY_LINKED");
    let token = json!({"provider": "company", "idToken": {"token": issuer.id_token(&ada(), None)}});
    assert_eq!(browser.post("/api/auth/link-social", token.clone()).expect(200).json()["status"], true);
    Browser::new(&server).post("/api/auth/link-social", token).refused(401, "UNAUTHORIZED");
}
on_both_engines!(an_account_is_linked_for_whoever_is_signed_in_and_stays_so);

fn a_link_needs_the_session_that_asked_for_it(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut browser = signed_up(&server, "ada@example.com", true);
    let begin_link = |browser: &mut Browser| {
        let body =
            json!({"provider": "company", "callbackURL": "/linked", "errorCallbackURL": "/sorry?from=test"});
        let begun = browser.post("/api/auth/link-social", body).expect(200).json();
        issuer.person_goes(begun["url"].as_str().expect("an address"), ada())
    };
    let back = begin_link(&mut browser);
    browser.sign_out();
    assert_eq!(led_to(browser.get(&back)), sorry("unable_to_link_account"), "signed out meanwhile");
    browser.sign_in("ada@example.com");
    let back = begin_link(&mut browser);
    browser.sign_out();
    browser.sign_in("ada@example.com");
    assert_eq!(led_to(browser.get(&back)), sorry("unable_to_link_account"), "it is another session");
    let back = begin_link(&mut browser);
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    assert_eq!(led_to(browser.get(&back)), sorry("unable_to_link_account"), "banned meanwhile");
    assert_eq!(count(&server, "accounts"), 1);
}
on_both_engines!(a_link_needs_the_session_that_asked_for_it);

fn of_fifty_links_of_one_account_one_row_is_made(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let browser = signed_up(&server, "ada@example.com", true);
    let answers = in_parallel(50, |_| {
        let body = json!({"provider": "company", "idToken": {"token": issuer.id_token(&ada(), None)}});
        browser.clone().post("/api/auth/link-social", body).status
    });
    assert_eq!(answers, vec![200; 50]);
    assert_eq!(count(&server, "accounts"), 2);
}
on_both_engines!(of_fifty_links_of_one_account_one_row_is_made);

fn tokens_are_for_the_owner_of_the_account(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut browser = Browser::new(&server);
    sign_in(&mut browser, &issuer, "company", ada());
    let id = account(&mut browser)["id"].clone();
    let by_id = json!({"accountId": id});
    let token = browser.post("/api/auth/get-access-token", by_id.clone()).expect(200).json();
    assert!(issuer.handed_out().iter().any(|known| token["accessToken"] == **known), "{token}");
    assert_eq!(token["scopes"], json!(["openid", "email"]));
    let fresh = browser.post("/api/auth/refresh-token", by_id.clone()).expect(200).json();
    assert_ne!(fresh["accessToken"], token["accessToken"]);
    let target = format!("/api/auth/account-info?accountId={}", id.as_str().expect("an id"));
    let info = browser.get(&target).expect(200).json();
    assert_eq!(
        (info["user"]["email"].clone(), info["data"]["sub"].clone()),
        (json!("ada@example.com"), json!("ada"))
    );
    let mut stranger = signed_up(&server, "bob@example.com", false);
    for path in ["get-access-token", "refresh-token"] {
        let path = format!("/api/auth/{path}");
        stranger.post(&path, by_id.clone()).refused(400, "ACCOUNT_NOT_FOUND");
        let body = json!({"accountId": id, "userId": browser.session()["user"]["id"]});
        stranger.post(&path, body).refused(400, "ACCOUNT_NOT_FOUND");
        assert_eq!(Browser::new(&server).post(&path, by_id.clone()).expect(401).text(), "");
        stranger.post(&path, json!({})).refused(400, "VALIDATION_ERROR");
    }
    stranger.get(&target).refused(400, "ACCOUNT_NOT_FOUND");
    stranger.post("/api/auth/unlink-account", by_id).refused(400, "FAILED_TO_UNLINK_LAST_ACCOUNT");
    assert_eq!(Browser::new(&server).get(&target).expect(401).text(), "");
}
on_both_engines!(tokens_are_for_the_owner_of_the_account);

/// The provider takes a refresh token once; a second try would end the account's access there.
fn of_fifty_who_need_a_new_access_token_one_asks(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let second = Server::second_node(&server);
    let mut browser = Browser::new(&server);
    issuer.access_tokens_live(2);
    sign_in(&mut browser, &issuer, "company", ada());
    issuer.access_tokens_live(3_600);
    let id = account(&mut browser)["id"].clone();
    let before = issuer.asked_for("/token");
    let answers = in_parallel(50, |_| {
        browser.clone().post("/api/auth/get-access-token", json!({"accountId": id})).expect(200).json()["accessToken"].clone()
    });
    assert!(answers.iter().all(|token| *token == answers[0]));
    assert_eq!(issuer.asked_for("/token"), before + 1);
    // Another node reads what the first one kept.
    let there =
        browser.at(&second).post("/api/auth/get-access-token", json!({"accountId": id})).expect(200).json();
    assert_eq!(there["accessToken"], answers[0]);
    server.database.execute("UPDATE accounts SET refresh_token_sealed = 'x' WHERE provider_id = 'company'");
    server.database.execute("UPDATE accounts SET access_token_ends = 1 WHERE provider_id = 'company'");
    let kept = browser.post("/api/auth/get-access-token", json!({"accountId": id})).expect(200).json();
    assert_eq!(kept["accessToken"], answers[0], "what cannot be traded is given as it is");
    browser.post("/api/auth/refresh-token", json!({"accountId": id})).refused(400, "REFRESH_TOKEN_NOT_FOUND");
}
on_both_engines!(of_fifty_who_need_a_new_access_token_one_asks);

fn whoever_signs_out_is_told_where_to_sign_out_there(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, &issuer.named("stays", "sign_out_there = false"));
    let mut browser = Browser::new(&server);
    sign_in(&mut browser, &issuer, "company", ada());
    let body = json!({"callbackURL": "/bye", "state": "s"});
    let out = browser.post("/api/auth/sign-out", body).expect(200);
    let (url, location) =
        (out.json()["url"].as_str().expect("an address").to_owned(), out.header("location"));
    assert_eq!(location, Some(url.as_str()));
    assert!(url.starts_with(&format!("{}/out?id_token_hint=", issuer.url())), "{url}");
    assert!(
        url.contains("post_logout_redirect_uri=http%3A%2F%2F127.0.0.1") && url.ends_with("&state=s"),
        "{url}"
    );
    assert_eq!((out.json()["redirect"].clone(), browser.session()), (json!(true), Value::Null));
    sign_in(&mut browser, &issuer, "stays", person("bob", "bob@example.com", true));
    let out = browser.post("/api/auth/sign-out", json!({})).expect(200).json();
    assert_eq!(out, json!({"success": true}));
    sign_in(&mut browser, &issuer, "company", ada());
    let evil = json!({"callbackURL": "https://evil.example/"});
    browser.post("/api/auth/sign-out", evil).refused(403, "INVALID_CALLBACK_URL");
    assert_ne!(browser.session(), Value::Null);
}
on_both_engines!(whoever_signs_out_is_told_where_to_sign_out_there);

fn a_provider_that_is_away_keeps_nobody_in(engine: Engine) {
    let issuer = Issuer::start();
    let mut server = with_provider(engine, &issuer, "");
    let mut browser = Browser::new(&server);
    sign_in(&mut browser, &issuer, "company", ada());
    let mut second = Browser::new(&server);
    sign_in(&mut second, &issuer, "company", ada());
    issuer.be_silent(true);
    let out = browser.post("/api/auth/sign-out", json!({})).expect(200).json();
    assert!(out["url"].as_str().is_some_and(|url| url.starts_with(&issuer.url())), "it is remembered: {out}");
    // After a start nothing is.
    server.stop();
    server.restart();
    let began = Instant::now();
    let out = second.post("/api/auth/sign-out", json!({})).expect(200).json();
    assert_eq!((out, second.session()), (json!({"success": true}), Value::Null));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}
on_both_engines!(a_provider_that_is_away_keeps_nobody_in);

fn a_deleted_user_leaves_no_account_and_no_link_behind(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "[accounts]\ndelete_user = true\n");
    let mut browser = signed_up(&server, "ada@example.com", true);
    assert_eq!(link(&mut browser, &issuer, ada()), "/linked");
    let body = json!({"provider": "company", "callbackURL": "/linked"});
    browser.post("/api/auth/link-social", body).expect(200);
    browser.post("/api/auth/delete-user", json!({"password": PASSWORD})).expect(200);
    assert_eq!((count(&server, "users"), count(&server, "accounts")), (0, 0));
    assert_eq!(server.database.integer("SELECT COUNT(*) FROM one_time_values WHERE used_at IS NULL"), 0);
    // The same person may begin anew.
    let url = begin(&mut browser, "company");
    assert_eq!(led_to(browser.get(&issuer.person_goes(&url, ada()))), "/welcome");
}
on_both_engines!(a_deleted_user_leaves_no_account_and_no_link_behind);

fn an_anonymous_user_becomes_the_one_who_signs_in(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "[methods]\nanonymous = true\n");
    let mut browser = Browser::new(&server);
    browser.post("/api/auth/sign-in/anonymous", json!({})).expect(200);
    assert_eq!(count(&server, "users"), 1);
    let back = issuer.person_goes(&begin(&mut browser, "company"), ada());
    // The session's cookie may get lost on the way; the sign-in remembers who began it.
    browser.forget_cookie("better-auth.session_token");
    assert_eq!(led_to(browser.get(&back)), "/welcome");
    assert_eq!(browser.session()["user"]["isAnonymous"], false);
    assert_eq!(count(&server, "users"), 1, "the anonymous user is gone");
}
on_both_engines!(an_anonymous_user_becomes_the_one_who_signs_in);
