//! Signing in at a provider: there and back, by an id token, and everything that must not get in that way.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::harness::issuer::{CLIENT_ID, Issuer};
use crate::harness::receiver::Receiver;
use crate::harness::{Browser, Engine, Request, Response, Server, in_parallel, path_of};
use crate::on_both_engines;

const COOKIE: &str = "better-auth.session_token";
const STATE: &str = "better-auth.state";

pub fn with_provider(engine: Engine, issuer: &Issuer, more: &str) -> Server {
    Server::with(engine, &format!("{}{}", issuer.named("company", ""), more))
}

pub fn person(subject: &str, email: &str, verified: bool) -> Value {
    json!({"sub": subject, "email": email, "email_verified": verified, "name": "Ada Lovelace",
        "picture": "https://images.example/ada.png"})
}

pub fn ada() -> Value {
    person("ada", "ada@example.com", true)
}

/// Where the browser is sent to sign in.
#[track_caller]
pub fn begin(browser: &mut Browser, provider: &str) -> String {
    let body = json!({"provider": provider, "callbackURL": "/dash", "errorCallbackURL": "/sorry?from=test",
        "newUserCallbackURL": "/welcome", "disableRedirect": true});
    let begun = browser.post("/api/auth/sign-in/social", body).expect(200).json();
    begun["url"].as_str().expect("an address").to_owned()
}

/// There and back; where the browser is sent in the end.
#[track_caller]
pub fn sign_in(browser: &mut Browser, issuer: &Issuer, provider: &str, who: Value) -> String {
    let url = begin(browser, provider);
    let back = issuer.person_goes(&url, who);
    led_to(browser.get(&back))
}

#[track_caller]
pub fn led_to(answer: Response) -> String {
    answer.expect(302).header("location").expect("it leads somewhere").to_owned()
}

/// The page for errors that the app named.
pub fn sorry(error: &str) -> String {
    format!("/sorry?from=test&error={error}")
}

pub fn count(server: &Server, table: &str) -> i64 {
    server.database.integer(&format!("SELECT COUNT(*) FROM {table}"))
}

fn somebody_new_is_welcomed_and_comes_back_the_same(engine: Engine) {
    let issuer = Issuer::start();
    let server =
        with_provider(engine, &issuer, "[credits]\nsignup_grant = 100\n[hooks]\nallow_private = true\n");
    let hooks = Receiver::of(&server);
    let mut first = Browser::new(&server);
    assert_eq!(sign_in(&mut first, &issuer, "company", ada()), "/welcome");
    let user = first.session()["user"].clone();
    assert_eq!(
        (user["email"].clone(), user["emailVerified"].clone(), user["name"].clone(), user["image"].clone()),
        (
            json!("ada@example.com"),
            json!(true),
            json!("Ada Lovelace"),
            json!("https://images.example/ada.png")
        )
    );
    assert_eq!(first.cookie(STATE), None, "what bound the sign-in is forgotten");
    assert_eq!(first.cookie("better-auth.last_used_login_method"), Some("company"));
    assert_eq!(hooks.told("user.created")["email"], "ada@example.com");
    let balance = first.get("/api/auth/credits/balance").expect(200).json();
    assert_eq!(balance["balance"], 100, "{balance}");
    let mut second = Browser::new(&server);
    let mut renamed = ada();
    renamed["email"] = json!("ada@elsewhere.example");
    assert_eq!(sign_in(&mut second, &issuer, "company", renamed), "/dash");
    assert_eq!(second.session()["user"]["id"], user["id"]);
    assert_eq!(second.session()["user"]["email"], "ada@example.com");
    let accounts = second.get("/api/auth/list-accounts").expect(200).json();
    assert_eq!(
        (accounts[0]["providerId"].clone(), accounts[0]["accountId"].clone(), accounts[0]["scopes"].clone()),
        (json!("company"), json!("ada"), json!(["openid", "email"]))
    );
    assert_eq!((count(&server, "users"), count(&server, "accounts")), (1, 1));
}
on_both_engines!(somebody_new_is_welcomed_and_comes_back_the_same);

/// O-44, and a few more.
fn a_sign_in_works_once_in_its_browser_for_its_provider_and_in_its_time(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, &issuer.named("other", ""));
    let mut browser = Browser::new(&server);
    let own = |error: &str| format!("{}/api/auth/error?error={error}", server.base_url);
    assert_eq!(led_to(browser.get("/api/auth/callback/company?code=x")), own("state_not_found"));
    assert_eq!(led_to(browser.get("/api/auth/callback/company?error=no")), own("state_not_found"));
    assert_eq!(led_to(browser.get("/api/auth/callback/company?code=x&state=guess")), own("state_mismatch"));

    let back = issuer.person_goes(&begin(&mut browser, "company"), ada());
    let mut stranger = Browser::new(&server);
    assert_eq!(led_to(stranger.get(&back)), sorry("state_mismatch"), "without the cookie");
    begin(&mut stranger, "company");
    assert_eq!(led_to(stranger.get(&back)), sorry("state_mismatch"), "with another sign-in's");
    let forged = Browser::new(&server);
    let mut forged = forged;
    forged.set_cookie(STATE, "guess.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    assert_eq!(led_to(forged.get(&back)), sorry("state_mismatch"));
    assert_eq!(led_to(browser.get(&back)), "/welcome", "it was not used up by others");
    assert_eq!(led_to(browser.get(&back)), own("state_mismatch"), "used");

    let mut browser = Browser::new(&server);
    let back = issuer.person_goes(&begin(&mut browser, "company"), ada());
    let elsewhere = back.replace("/callback/company", "/callback/other");
    assert_eq!(led_to(browser.get(&elsewhere)), sorry("state_mismatch"), "another provider's");
    assert_eq!(led_to(browser.get(&back)), own("state_mismatch"), "and it is used up");

    let back = issuer.person_goes(&begin(&mut browser, "company"), ada());
    server.database.shift("one_time_values", "expires_at", -600_000, "purpose = 'provider-sign-in'");
    assert_eq!(led_to(browser.get(&back)), own("state_mismatch"), "its time is over");
    let nowhere = issuer.person_goes(&begin(&mut browser, "company"), ada());
    let nowhere = nowhere.replace("/callback/company", "/callback/nobody");
    assert_eq!(led_to(browser.get(&nowhere)), sorry("oauth_provider_not_found"));
    assert_eq!(browser.session(), Value::Null);
    assert_eq!((count(&server, "users"), count(&server, "sessions")), (1, 1));
}
on_both_engines!(a_sign_in_works_once_in_its_browser_for_its_provider_and_in_its_time);

fn of_fifty_who_come_back_with_one_sign_in_one_comes_in(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut browser = Browser::new(&server);
    let back = issuer.person_goes(&begin(&mut browser, "company"), ada());
    let answers = in_parallel(50, |_| browser.clone().get(&back));
    let welcomed = answers.iter().filter(|answer| answer.header("location") == Some("/welcome")).count();
    assert_eq!(welcomed, 1);
    assert!(answers.iter().all(|answer| answer.status == 302));
    assert_eq!((count(&server, "users"), count(&server, "sessions")), (1, 1));
    assert_eq!(issuer.asked_for("/token"), 1, "the others did not even ask");
}
on_both_engines!(of_fifty_who_come_back_with_one_sign_in_one_comes_in);

fn one_person_in_many_browsers_at_once_is_one_user(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let browsers: Vec<(Browser, String)> = (0..20)
        .map(|_| {
            let mut browser = Browser::new(&server);
            let url = begin(&mut browser, "company");
            (browser, issuer.person_goes(&url, ada()))
        })
        .collect();
    let ids = in_parallel(browsers.len(), |at| {
        let (browser, back) = &browsers[at];
        let mut browser = browser.clone();
        let led = led_to(browser.get(back));
        assert!(["/dash", "/welcome"].contains(&led.as_str()), "{led}");
        browser.session()["user"]["id"].clone()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!((count(&server, "users"), count(&server, "accounts"), count(&server, "sessions")), (1, 1, 20));
}
on_both_engines!(one_person_in_many_browsers_at_once_is_one_user);

fn what_the_provider_or_the_person_refuses_is_told_to_the_app(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut browser = Browser::new(&server);
    let mut back_with = |query: &str| {
        let url = begin(&mut browser, "company");
        let back = issuer.person_goes(&url, ada());
        let state =
            back.split("state=").nth(1).expect("a state").split('&').next().expect("its value").to_owned();
        led_to(browser.get(&format!("/api/auth/callback/company?state={state}{query}")))
    };
    let refused = back_with("&error=access_denied&error_description=She+said+%3Cno%3E+%26+left");
    assert_eq!(refused, format!("{}&error_description=She+said+%3Cno%3E+%26+left", sorry("access_denied")));
    assert_eq!(back_with(""), sorry("no_code"));
    assert_eq!(back_with("&code="), sorry("no_code"));
    assert_eq!(back_with("&code=made-up"), sorry("invalid_code"));
    assert_eq!(back_with("&code=x&iss=https%3A%2F%2Fevil.example"), sorry("issuer_mismatch"));
    assert_eq!(
        sign_in(&mut browser, &issuer, "company", json!({"sub": "ada", "name": "Ada"})),
        sorry("email_not_found")
    );
    assert_eq!(
        sign_in(&mut browser, &issuer, "company", person("ada", "not an address", true)),
        sorry("email_not_found")
    );
    assert_eq!((count(&server, "users"), count(&server, "accounts")), (0, 0));
}
on_both_engines!(what_the_provider_or_the_person_refuses_is_told_to_the_app);

/// What an id token may be that opens nothing; head and claims.
fn bad_tokens() -> Vec<(Value, Value)> {
    let claims = [
        json!({"iss": "https://evil.example"}),
        json!({"iss": null}),
        json!({"aud": "another-client"}),
        json!({"aud": [CLIENT_ID, "another-client"]}),
        json!({"aud": null}),
        json!({"sub": ""}),
        json!({"sub": null}),
        json!({"exp": null}),
        json!({"exp": 1_000_000_000}),
        json!({"exp": "9999999999"}),
        json!({"iat": 99_999_999_999i64}),
        json!({"iat": null}),
        json!({"nbf": 99_999_999_999i64}),
    ];
    let heads = [
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"alg": "RS256"}),
        json!({"kid": "another"}),
        json!({"kid": "../../dev/null"}),
        json!({"kid": "x".repeat(10_000)}),
        json!({"crit": ["exp"]}),
        json!({"typ": "at+jwt"}),
        json!({"kid": "two", "jku": "http://127.0.0.1:1/keys", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}}),
    ];
    let claims = claims.into_iter().map(|claims| (json!({}), claims));
    claims.chain(heads.into_iter().map(|head| (head, json!({})))).collect()
}

/// O-21 to O-25, as far as they are about tokens of a provider.
fn an_id_token_that_does_not_hold_opens_nothing(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut browser = Browser::new(&server);
    let by_app = |token: &str, nonce: Option<&str>| {
        let id_token = json!({"token": token, "nonce": nonce});
        let id_token = if nonce.is_none() { json!({"token": token}) } else { id_token };
        Browser::new(&server)
            .post("/api/auth/sign-in/social", json!({"provider": "company", "idToken": id_token}))
    };
    for (head, claims) in bad_tokens() {
        issuer.head(head.clone());
        issuer.claim(claims.clone());
        let led = sign_in(&mut browser, &issuer, "company", ada());
        assert_eq!(led, sorry("unable_to_get_user_info"), "{head} {claims}");
        by_app(&issuer.id_token(&ada(), None), None).refused(401, "INVALID_TOKEN");
    }
    issuer.head(json!({}));
    for nonce in [json!(null), json!("another"), json!(7)] {
        issuer.claim(json!({"nonce": nonce}));
        assert_eq!(
            sign_in(&mut browser, &issuer, "company", ada()),
            sorry("unable_to_get_user_info"),
            "{nonce}"
        );
    }
    issuer.claim(json!({}));
    by_app(&issuer.id_token(&ada(), Some("n")), Some("m")).refused(401, "INVALID_TOKEN");
    by_app(&issuer.id_token(&ada(), None), Some("m")).refused(401, "INVALID_TOKEN");
    let good = issuer.id_token(&ada(), None);
    let (signed, _) = good.rsplit_once('.').expect("a signature");
    // Signed with what everybody knows, as if it were a shared secret.
    let public = URL_SAFE_NO_PAD.encode([7; 32]);
    for token in
        [format!("{signed}."), format!("{signed}.{public}"), signed.to_owned(), "garbage".into(), "..".into()]
    {
        by_app(&token, None).refused(401, "INVALID_TOKEN");
    }
    issuer.sign_with_another_key();
    assert_eq!(sign_in(&mut browser, &issuer, "company", ada()), sorry("unable_to_get_user_info"));
    assert_eq!(browser.session(), Value::Null);
    assert_eq!((count(&server, "users"), count(&server, "sessions")), (0, 0));
    assert!(
        issuer.asked_for("/keys") <= 2,
        "made-up keys have the real ones fetched {} times",
        issuer.asked_for("/keys")
    );
}
on_both_engines!(an_id_token_that_does_not_hold_opens_nothing);

fn an_app_brings_an_id_token_along(engine: Engine) {
    let issuer = Issuer::start();
    let more = format!(
        "audiences = [\"the-phone\"]\n{}[providers.plain]\nkind = \"gitlab\"\nclient_id = \"x\"\nclient_secret = \"y\"\n",
        ""
    );
    let server = Server::with(engine, &issuer.named("company", &more));
    let sign_in = |provider: &str, id_token: Value| {
        let mut browser = Browser::new(&server);
        let body = json!({"provider": provider, "idToken": id_token});
        let answer = browser.post("/api/auth/sign-in/social", body);
        (browser, answer)
    };
    let (mut browser, answer) =
        sign_in("company", json!({"token": issuer.id_token(&ada(), Some("n")), "nonce": "n"}));
    let body = answer.expect(200).json();
    assert_eq!(
        (body["redirect"].clone(), body["user"]["email"].clone()),
        (json!(false), json!("ada@example.com"))
    );
    assert_eq!(browser.session()["session"]["token"], body["token"]);
    issuer.claim(json!({"aud": "the-phone"}));
    let (mut phone, answer) = sign_in("company", json!({"token": issuer.id_token(&ada(), None)}));
    answer.expect(200);
    assert_eq!(phone.session()["user"]["id"], body["user"]["id"]);
    let mut web = Browser::new(&server);
    let led = self::sign_in(&mut web, &issuer, "company", ada());
    assert_eq!(led, sorry("unable_to_get_user_info"), "a phone's token is none for the way there and back");
    issuer.claim(json!({}));
    sign_in("plain", json!({"token": "x"})).1.refused(404, "ID_TOKEN_NOT_SUPPORTED");
    sign_in("nobody", json!({"token": "x"})).1.refused(404, "PROVIDER_NOT_FOUND");
    let unnamed = issuer.id_token(&json!({"sub": "x"}), None);
    sign_in("company", json!({"token": unnamed})).1.refused(401, "USER_EMAIL_NOT_FOUND");
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    sign_in("company", json!({"token": issuer.id_token(&ada(), None)})).1.refused(403, "BANNED_USER");
}
on_both_engines!(an_app_brings_an_id_token_along);

fn the_banned_stay_out_until_the_ban_is_over(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut browser = Browser::new(&server);
    sign_in(&mut browser, &issuer, "company", ada());
    server.command(&["user", "ban", "ada@example.com"]).expect_done();
    let mut again = Browser::new(&server);
    let led = sign_in(&mut again, &issuer, "company", ada());
    assert!(led.starts_with(&sorry("BANNED_USER")), "{led}");
    assert_eq!((again.session(), count(&server, "sessions")), (Value::Null, 0));
    server.database.execute("UPDATE users SET ban_expires = 1");
    assert_eq!(sign_in(&mut again, &issuer, "company", ada()), "/dash");
    assert_eq!(again.session()["user"]["banned"], false);
}
on_both_engines!(the_banned_stay_out_until_the_ban_is_over);

fn who_may_sign_up_is_the_operators_to_say(engine: Engine) {
    let issuer = Issuer::start();
    let more = format!(
        "{}{}",
        issuer.named("closed", "sign_up = false"),
        issuer.named("asked", "implicit_sign_up = false")
    );
    let server = with_provider(engine, &issuer, &more);
    let mut browser = Browser::new(&server);
    assert_eq!(sign_in(&mut browser, &issuer, "closed", ada()), sorry("signup_disabled"));
    assert_eq!(sign_in(&mut browser, &issuer, "asked", ada()), sorry("signup_disabled"));
    let body = json!({"provider": "closed", "idToken": {"token": issuer.id_token(&ada(), None)}, "requestSignUp": true});
    browser.post("/api/auth/sign-in/social", body).refused(401, "OAUTH_LINK_ERROR");
    let body = json!({"provider": "asked", "requestSignUp": true, "disableRedirect": true});
    let url = browser.post("/api/auth/sign-in/social", body).expect(200).json()["url"].clone();
    let back = issuer.person_goes(url.as_str().expect("an address"), ada());
    assert_eq!(led_to(browser.get(&back)), server.base_url, "without a target to the public address");
    assert_eq!(browser.session()["user"]["email"], "ada@example.com");
}
on_both_engines!(who_may_sign_up_is_the_operators_to_say);

fn a_provider_that_posts_a_form_is_led_to_the_other_way_back(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut browser = Browser::new(&server);
    let back = issuer.person_goes(&begin(&mut browser, "company"), ada());
    let (path, query) = back.split_once('?').expect("a query");
    let form = Request::new("POST", path)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .header("Origin", "https://id.example.com")
        .body(query);
    // Without cookies, as browsers send a form of another site; and with them, where cookies are for all sites.
    let mut plain = Browser::new(&server).on_page("https://id.example.com");
    let led = led_to(plain.send(form.clone()));
    assert!(led.starts_with(&format!("{}{path}?code=", server.base_url)), "{led}");
    assert_eq!(led_to(browser.clone().send(form)), led);
    assert_eq!(plain.session(), Value::Null, "the form itself signs nobody in");
    assert_eq!(led_to(browser.get(path_of(&led))), "/welcome");
}
on_both_engines!(a_provider_that_posts_a_form_is_led_to_the_other_way_back);

fn targets_are_judged_before_anybody_is_sent_away(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut browser = Browser::new(&server);
    for (member, code) in [
        ("callbackURL", "INVALID_CALLBACK_URL"),
        ("errorCallbackURL", "INVALID_ERROR_CALLBACK_URL"),
        ("newUserCallbackURL", "INVALID_NEW_USER_CALLBACK_URL"),
    ] {
        for target in ["https://evil.example", "//evil.example", "/\\evil.example", "/..//evil.example"] {
            let body = json!({"provider": "company", member: target});
            browser.post("/api/auth/sign-in/social", body).refused(403, code);
        }
    }
    assert_eq!(count(&server, "one_time_values"), 0);
}
on_both_engines!(targets_are_judged_before_anybody_is_sent_away);

/// X-9, for providers.
fn a_provider_that_is_silent_holds_up_nobody_else(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let mut other = Browser::new(&server);
    other.sign_up("bob@example.com");
    let mut browser = Browser::new(&server);
    issuer.be_silent(true);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope
            .spawn(|| Browser::new(&server).post("/api/auth/sign-in/social", json!({"provider": "company"})));
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(other.session()["user"]["email"], "bob@example.com");
            assert!(asked.elapsed() < Duration::from_secs(2));
        }
        waiting.join().expect("it is answered").refused(503, "PROVIDER_UNAVAILABLE");
    });
    assert!(began.elapsed() < Duration::from_secs(13), "{:?}", began.elapsed());
    issuer.be_silent(false);
    let url = crate::harness::until(Duration::from_secs(15), "the provider to be asked again", || {
        let answer =
            browser.post("/api/auth/sign-in/social", json!({"provider": "company", "callbackURL": "/dash"}));
        (answer.status == 200).then(|| answer.json()["url"].as_str().expect("an address").to_owned())
    });
    let back = issuer.person_goes(&url, ada());
    assert_eq!(led_to(browser.get(&back)), "/dash");
}
on_both_engines!(a_provider_that_is_silent_holds_up_nobody_else);

fn nothing_that_opens_an_account_lies_open(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "[telemetry]\nlog = \"debug\"\n");
    let mut browser = Browser::new(&server);
    sign_in(&mut browser, &issuer, "company", ada());
    let accounts = browser.get("/api/auth/list-accounts").expect(200).json();
    browser.post("/api/auth/refresh-token", json!({"accountId": accounts[0]["id"]})).expect(200);
    // One that is still under way.
    let mut another = Browser::new(&server);
    let back = issuer.person_goes(&begin(&mut another, "company"), ada());
    let state = another.cookie(STATE).expect("a cookie").split('.').next().expect("its value").to_owned();
    let (dump, log) = (server.database.dump(), server.log());
    let mut secrets = issuer.handed_out();
    secrets.extend([state, crate::harness::issuer::CLIENT_SECRET.to_owned()]);
    assert!(secrets.len() > 6);
    for secret in secrets {
        assert!(!dump.contains(&secret), "{secret} lies in the database");
        assert!(!log.contains(&secret), "{secret} stands in the log");
    }
    assert_eq!(led_to(another.get(&back)), "/dash");
    assert!(browser.cookie(COOKIE).is_some());
}
on_both_engines!(nothing_that_opens_an_account_lies_open);

fn doctor_asks_each_provider(engine: Engine) {
    let issuer = Issuer::start();
    let server = with_provider(engine, &issuer, "");
    let told = server.command(&["doctor", "--json"]).json();
    let good = told["good"].to_string();
    assert!(good.contains("the provider company describes itself"), "{told}");
    assert!(good.contains(&format!("{}/api/auth/callback/company", server.base_url)), "{told}");
    let mut server = server;
    // One that names another issuer, and one that is not there.
    for wrong in [issuer.url().replace("127.0.0.1", "localhost"), "http://127.0.0.1:9".to_owned()] {
        server.reconfigure(&issuer.named("company", "").replace(&issuer.url(), &wrong));
        let told = server.command(&["doctor", "--json"]).json();
        assert!(told["problems"].to_string().contains("providers.company"), "{wrong}: {told}");
    }
}
on_both_engines!(doctor_asks_each_provider);
