//! `tollgate-client`, the handle: what Rust apps call, against the real binary.

use std::future::Future;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Runtime;
use tollgate_client::{
    Above, Account, Charge, Cookies, Error, ForwardedFor, IdempotencyKey, Misconfigured, Reason, Subject,
    Token, Tollgate, UserId,
};

use crate::harness::credits::{
    Backend, books_balance, figures, fresh_key, ledger_verifies, make_user, now, text,
};
use crate::harness::guest::guest;
use crate::harness::{Browser, Engine, Server, until};
use crate::on_both_engines;

const DAY: i64 = 24 * 3600 * 1000;
const MINUTES: Duration = Duration::from_secs(300);
/// A busy test machine takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// An app, and the threads it runs on.
pub struct Caller {
    pub runtime: Runtime,
    pub tollgate: Tollgate,
}

impl Caller {
    /// With a service key of its own that has all scopes.
    pub fn of(server: &Server) -> Caller {
        Caller::with_key(server, &server.service_key())
    }

    pub fn with_key(server: &Server, key: &str) -> Caller {
        let builder = Tollgate::builder(format!("http://{}", server.address)).service_key(key);
        let tollgate = builder.timeout(PATIENCE).build().expect("the address is one");
        Caller { runtime: Runtime::new().expect("a runtime"), tollgate }
    }

    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    fn is_signed_in(&self, browser: &Browser) -> bool {
        self.wait(self.tollgate.session(cookies(browser))).expect("an answer").is_some()
    }
}

pub fn cookies(browser: &Browser) -> Cookies {
    Cookies::from_text(&browser.cookie_header("/")).expect("cookies are header text")
}

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).expect("a key")
}

fn signed_up(server: &Server, email: &str) -> (Browser, UserId) {
    let mut browser = Browser::new(server);
    let made = browser.sign_up(email);
    (browser, UserId::new(text(&made["user"]["id"])))
}

/// An account with so many credits.
fn account_with(server: &Server, caller: &Caller, amount: i64) -> (Account, Backend, String) {
    let (user, mut backend) = (make_user(server), Backend::of(server));
    backend.grant(&user, amount);
    (caller.tollgate.account(UserId::new(user.as_str())), backend, user)
}

fn a_session_is_seen_until_it_is_revoked_on_every_node(engine: Engine) {
    let server = Server::start(engine);
    let caller = Caller::of(&server);
    let stranger = Cookies::from_text("better-auth.session_token=nobody.signature").expect("cookies");
    assert!(caller.wait(caller.tollgate.session(stranger)).expect("an answer").is_none());
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let session = caller.wait(caller.tollgate.session(cookies(&ada))).expect("an answer").expect("a session");
    assert_eq!((&session.user.id, session.user.email.as_str()), (&id, "ada@example.com"));
    assert!(!session.user.email_verified && session.user.has_role("user") && !session.user.has_role("admin"));
    assert!(session.set_cookies.is_empty(), "a young session is left alone");
    server.command(&["user", "promote", "ada@example.com"]).expect_done();
    let session = caller.wait(caller.tollgate.session(cookies(&ada))).expect("an answer").expect("a session");
    assert!(session.user.has_role("admin"), "{:?}", session.user.role);
    let stolen = ada.clone();
    let second = (engine == Engine::Postgres).then(|| Server::second_node(&server));
    let elsewhere = second.as_ref().map(Caller::of);
    let callers: Vec<&Caller> = [&caller].into_iter().chain(&elsewhere).collect();
    assert!(callers.iter().all(|caller| caller.is_signed_in(&stolen)));
    ada.sign_out();
    assert!(callers.iter().all(|caller| !caller.is_signed_in(&stolen)));
}
on_both_engines!(a_session_is_seen_until_it_is_revoked_on_every_node);

fn a_session_that_expired_a_millisecond_ago_is_nobody_s(engine: Engine) {
    let server = Server::start(engine);
    let caller = Caller::of(&server);
    let (ada, _) = signed_up(&server, "ada@example.com");
    server.database.execute(&format!("UPDATE sessions SET expires_at = {}", now().0 + 60_000));
    assert!(caller.is_signed_in(&ada));
    server.database.execute(&format!("UPDATE sessions SET expires_at = {}", now().0 - 1));
    assert!(!caller.is_signed_in(&ada));
    let error = caller.wait(caller.tollgate.authorize(cookies(&ada)).send()).expect_err("it is over");
    assert!(error.is_unauthenticated(), "{error:?}");
}
on_both_engines!(a_session_that_expired_a_millisecond_ago_is_nobody_s);

fn a_session_in_use_is_extended_and_its_lines_are_given_back(engine: Engine) {
    let server = Server::start(engine);
    let caller = Caller::of(&server);
    let (ada, _) = signed_up(&server, "ada@example.com");
    let due = || server.database.shift("sessions", "expires_at", -DAY - 1000, "user_id IS NOT NULL");
    due();
    let session = caller.wait(caller.tollgate.session(cookies(&ada))).expect("an answer").expect("a session");
    let lines: Vec<_> = session.set_cookies.iter().collect();
    assert!(lines.iter().any(|line| line.as_bytes().starts_with(b"better-auth.session_token=")), "{lines:?}");
    due();
    let passed = caller.wait(caller.tollgate.authorize(cookies(&ada)).send()).expect("it passes");
    assert_eq!(passed.set_cookies.iter().count(), lines.len());
    due();
    let poor = caller.tollgate.authorize(cookies(&ada)).charge(1, &key("k")).send();
    let Error::Refused(refusal) = caller.wait(poor).expect_err("there are no credits") else {
        panic!("it is a refusal")
    };
    assert_eq!(
        (refusal.code.as_str(), refusal.set_cookies.iter().count()),
        ("insufficient_credits", lines.len())
    );
}
on_both_engines!(a_session_in_use_is_extended_and_its_lines_are_given_back);

fn hundred_visitors_at_once_are_each_themselves(engine: Engine) {
    let server = Server::start(engine);
    let caller = Caller::of(&server);
    let people: Vec<_> = (0..5).map(|number| signed_up(&server, &format!("p{number}@example.com"))).collect();
    let checks: Vec<_> = (0..100)
        .map(|number| {
            let (browser, id) = &people[number % people.len()];
            let (tollgate, cookies, id) = (caller.tollgate.clone(), cookies(browser), id.clone());
            caller.runtime.spawn(async move {
                let session = tollgate.session(cookies).await.expect("an answer").expect("a session");
                assert_eq!(session.user.id, id);
            })
        })
        .collect();
    for check in checks {
        caller.wait(check).expect("everybody is who they are");
    }
}
on_both_engines!(hundred_visitors_at_once_are_each_themselves);

fn a_server_that_is_away_says_nothing_about_anybody(engine: Engine) {
    let mut server = Server::start(engine);
    let caller = Caller::of(&server);
    let (ada, _) = signed_up(&server, "ada@example.com");
    assert!(caller.is_signed_in(&ada));
    caller.wait(caller.tollgate.healthy()).expect("it is ready");
    // Frozen: connections are accepted and nothing comes back.
    let hurried = Tollgate::new(format!("http://{}", server.address)).expect("a handle");
    server.signal("STOP");
    let began = Instant::now();
    let error = caller.wait(hurried.session(cookies(&ada))).expect_err("nothing answers");
    let took = began.elapsed();
    server.signal("CONT");
    let two_seconds = Duration::from_secs(2);
    assert!(
        matches!(&error, Error::Unavailable(why) if why.reason() == Reason::TimedOut(two_seconds)),
        "{error:?}"
    );
    assert!(took >= two_seconds && took < 2 * two_seconds, "it took {took:?}");
    assert!(caller.is_signed_in(&ada));
    server.kill();
    for error in [
        caller.wait(hurried.session(cookies(&ada))).expect_err("nothing listens"),
        caller.wait(caller.tollgate.authorize(cookies(&ada)).send()).expect_err("nothing listens"),
        caller.wait(caller.tollgate.healthy()).expect_err("nothing listens"),
    ] {
        assert!(error.is_unavailable(), "{error:?}");
    }
    server.restart();
    assert!(caller.is_signed_in(&ada), "the connections of before are replaced");
}
on_both_engines!(a_server_that_is_away_says_nothing_about_anybody);

fn a_charge_happens_once_and_refusals_have_their_figures(engine: Engine) {
    let server = Server::with(
        engine,
        "[credits]\nfeatures = { \"report\" = 7 }\nbuy_url = \"https://app.example/buy\"\n",
    );
    let caller = Caller::of(&server);
    let (account, mut backend, user) = account_with(&server, &caller, 20);
    let spend = |charge: Charge, key: &IdempotencyKey| caller.wait(account.spend(charge, key));
    let first = spend(Charge::feature("report").reason("monthly"), &key("job-1")).expect("it is charged");
    assert_eq!((first.amount, first.balance, first.available, first.replayed), (7, 13, 13, false));
    let again = spend(Charge::feature("report").reason("monthly"), &key("job-1")).expect("it was charged");
    assert_eq!((again.entry_id, again.replayed), (first.entry_id, true));
    let other = spend(Charge::amount(7), &key("job-1")).expect_err("another request");
    assert_eq!((other.status().as_u16(), other.code()), (409, "idempotency_mismatch"));
    let short = spend(Charge::feature("report").quantity(2), &key("job-2")).expect_err("too little");
    assert_eq!(short.status(), 402);
    let figures_of = short.insufficient_credits().expect("there are figures");
    assert_eq!((figures_of.required, figures_of.available, figures_of.balance), (14, 13, 13));
    assert_eq!(figures_of.buy_url.as_deref(), Some("https://app.example/buy"));
    for (charge, field) in [
        (Charge::amount(0), "amount"),
        (Charge::amount(u64::MAX), "amount"),
        (Charge::feature("unknown"), "feature"),
        (Charge::amount(1).unit("unknown"), "unit"),
        (Charge::amount(1).metadata(json!([])), "metadata"),
    ] {
        let error = spend(charge, &key("job-3")).expect_err(field);
        assert_eq!((error.status().as_u16(), error.code()), (422, "invalid_request"), "{field}");
        assert_eq!(error.body()["field"], field);
    }
    let nobody = caller.tollgate.account(UserId::new("nobody"));
    assert_eq!(caller.wait(nobody.spend(1, &key("job-4"))).expect_err("no such owner").code(), "not_found");
    assert_eq!(caller.wait(nobody.balance(None)).expect_err("no such owner").code(), "not_found");
    let balance = caller.wait(account.balance(Some("credits"))).expect("an answer");
    assert_eq!([balance.balance, balance.held, balance.available, balance.owed], [13, 0, 13, 0]);
    assert_eq!(backend.entries(&user).len(), 2);
    books_balance(&server.database);
}
on_both_engines!(a_charge_happens_once_and_refusals_have_their_figures);

fn a_hold_is_settled_released_or_ends_with_its_handle(engine: Engine) {
    let server = Server::start(engine);
    let caller = Caller::of(&server);
    let (account, mut backend, user) = account_with(&server, &caller, 100);
    let fresh = || key(&fresh_key());
    let mut balance = || figures(&backend.balance(&user));
    let hold = caller.wait(account.hold(60, MINUTES, &fresh())).expect("it is held");
    assert_eq!((hold.amount(), hold.unit()), (60, "credits"));
    assert_eq!(balance(), [100, 60, 40, 0]);
    caller.wait(hold.extend(2 * MINUTES)).expect("it is extended");
    let too_much = caller.wait(hold.settle(61)).expect_err("more than was held");
    assert_eq!(too_much.code(), "conflict");
    assert_eq!(balance(), [100, 60, 40, 0]);
    let spent = caller.wait(hold.settle(45)).expect("it is settled");
    assert_eq!((spent.amount, spent.balance, spent.available), (45, 55, 55));
    assert!(caller.wait(hold.settle(45)).expect("it was settled").replayed);
    drop(hold);
    assert_eq!(balance(), [55, 0, 55, 0]);

    let hold = caller.wait(account.hold(50, MINUTES, &fresh())).expect("it is held");
    assert_eq!(caller.wait(hold.release()).expect("it is released").available, 55);
    assert_eq!(caller.wait(hold.settle(1)).expect_err("it is over").code(), "conflict");
    drop(hold);

    // Dropped in the midst of work that fails.
    let failing = async {
        let _hold = account.hold(50, MINUTES, &fresh()).await.expect("it is held");
        Err::<(), &str>("the provider is down")
    };
    caller.wait(failing).expect_err("the work fails");
    until(PATIENCE, "the release of a dropped hold", || (balance() == [55, 0, 55, 0]).then_some(()));

    let hold = caller.wait(account.hold(50, MINUTES, &fresh())).expect("it is held");
    let spent = caller.wait(hold.settle_above(90, Above::Cap)).expect("it is settled");
    assert_eq!((spent.amount, spent.available), (50, 5));
    let short = caller.wait(account.hold(50, MINUTES, &fresh())).expect_err("too little");
    assert_eq!(short.status(), 402);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_hold_is_settled_released_or_ends_with_its_handle);

/// An app that stops between hold and settlement: nothing is released, and nothing stays held.
fn a_hold_whose_app_is_gone_ends_by_itself(engine: Engine) {
    let server = Server::start(engine);
    let caller = Caller::of(&server);
    let (account, mut backend, user) = account_with(&server, &caller, 10);
    let hold = caller.wait(account.hold(10, Duration::from_secs(1), &key("job-1"))).expect("it is held");
    drop(caller.runtime);
    drop(hold);
    assert_eq!(figures(&backend.balance(&user))[0], 10);
    until(PATIENCE, "the end of the hold", || {
        (figures(&backend.balance(&user)) == [10, 0, 10, 0]).then_some(())
    });
}
on_both_engines!(a_hold_whose_app_is_gone_ends_by_itself);

fn a_service_key_that_does_not_do_is_the_app_s_fault(engine: Engine) {
    let server = Server::start(engine);
    let (ada, id) = signed_up(&server, "ada@example.com");
    let expect = |key: &str, expected: [Option<Misconfigured>; 2]| {
        let caller = Caller::with_key(&server, key);
        let account = caller.tollgate.account(id.clone());
        let results = [
            caller.wait(account.balance(None)).map(|_| ()),
            caller.wait(caller.tollgate.authorize(cookies(&ada)).send()).map(|_| ()),
        ];
        for (result, expected) in results.into_iter().zip(expected) {
            match (result, expected) {
                (Ok(()), None) => {}
                (Err(Error::Misconfigured(found)), Some(expected)) => assert_eq!(found, expected),
                // At the gate a role is forbidden in the same words.
                (Err(Error::Refused(refusal)), Some(Misconfigured::LacksScope)) => {
                    assert_eq!(refusal.code, "forbidden");
                }
                (found, expected) => panic!("{found:?} in place of {expected:?}"),
            }
        }
        // Who is signed in can be asked under any key, or none.
        assert!(caller.is_signed_in(&ada));
    };
    let scoped = |scope: &str| {
        let made =
            server.command(&["key", "create", scope, "--scopes", scope, "--json"]).expect_done().json();
        (text(&made["key"]), text(&made["id"]))
    };
    expect(&server.service_key(), [None, None]);
    expect(&scoped("credits:read").0, [None, Some(Misconfigured::LacksScope)]);
    expect(&scoped("gate").0, [Some(Misconfigured::LacksScope), None]);
    let refused = [Some(Misconfigured::ServiceKeyRefused), Some(Misconfigured::ServiceKeyRefused)];
    expect("tg_sk_nobodys", refused);
    let (revoked, key_id) = scoped("gate,credits:write");
    expect(&revoked, [None, None]);
    server.command(&["key", "revoke", &key_id]).expect_done();
    expect(&revoked, refused);
}
on_both_engines!(a_service_key_that_does_not_do_is_the_app_s_fault);

fn the_gate_judges_session_user_role_and_charge_in_one_call(engine: Engine) {
    let server = Server::start(engine);
    let caller = Caller::of(&server);
    let (ada, id) = signed_up(&server, "ada@example.com");
    let mut backend = Backend::of(&server);
    backend.grant(id.as_str(), 20);
    let ask = || caller.tollgate.authorize(cookies(&ada));
    let passed = caller.wait(ask().user_id(&id).role("user").send()).expect("it passes");
    assert_eq!(passed.subject, Subject::User(id.clone()));
    assert_eq!(passed.user.expect("a user").email, "ada@example.com");
    assert!(passed.session_expires_at.is_some() && passed.spent.is_none() && passed.allowance.is_none());
    let refused = |error: Result<_, Error>| match error {
        Ok(tollgate_client::Authorized { .. }) => panic!("it passes"),
        Err(error) => (error.status().as_u16(), error.code().to_owned()),
    };
    assert_eq!(refused(caller.wait(ask().user_id("eve").send())), (403, "user_mismatch".into()));
    assert_eq!(refused(caller.wait(ask().role("admin").send())), (403, "forbidden".into()));
    let organization = tollgate_client::OrganizationId::new("acme");
    assert_eq!(refused(caller.wait(ask().payer(organization).send())), (403, "forbidden".into()));
    let nobody = caller.tollgate.authorize(Cookies::default());
    assert_eq!(refused(caller.wait(nobody.send())), (401, "unauthenticated".into()));

    let charge =
        || ask().charge(Charge::amount(5).reason("a picture").metadata(json!({"job": 1})), &key("job-1"));
    let spent = caller.wait(charge().send()).expect("it passes").spent.expect("it is charged");
    assert_eq!((spent.amount, spent.balance, spent.available, spent.replayed), (5, 15, 15, false));
    let again = caller.wait(charge().send()).expect("it passes").spent.expect("it was charged");
    assert_eq!((&again.entry_id, again.replayed), (&spent.entry_id, true));
    let entry = backend.entries(id.as_str()).pop().expect("an entry");
    assert_eq!((&entry["id"], &entry["reason"]), (&json!(spent.entry_id), &json!("a picture")));
    assert_eq!(
        refused(caller.wait(ask().charge(50, &key("job-2")).send())),
        (402, "insufficient_credits".into())
    );

    let hold = caller.wait(ask().hold(10, MINUTES, &key("job-3")).send()).expect("it passes").hold;
    let hold = hold.expect("it is held");
    assert_eq!(figures(&backend.balance(id.as_str())), [15, 10, 5, 0]);
    assert_eq!(caller.wait(hold.settle(4)).expect("it is settled").balance, 11);
    drop(caller.wait(ask().hold(10, MINUTES, &key("job-4")).send()).expect("it passes"));
    until(PATIENCE, "the release of a dropped hold", || {
        (figures(&backend.balance(id.as_str())) == [11, 0, 11, 0]).then_some(())
    });
    books_balance(&server.database);
}
on_both_engines!(the_gate_judges_session_user_role_and_charge_in_one_call);

fn a_token_passes_in_place_of_cookies(engine: Engine) {
    let server = Server::start(engine);
    let caller = Caller::of(&server);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    let token = Token::from_text(&text(&ada.session()["session"]["token"])).expect("a token");
    let ask = |token: Token| caller.wait(caller.tollgate.authorize(Cookies::default()).token(token).send());
    assert_eq!(ask(token.clone()).expect("it passes").subject, Subject::User(id));
    ada.sign_out();
    assert!(ask(token).expect_err("it is revoked").is_unauthenticated());
}
on_both_engines!(a_token_passes_in_place_of_cookies);

fn a_programs_key_passes_and_its_owner_is_told(engine: Engine) {
    let server = Server::start(engine);
    let caller = Caller::of(&server);
    let (mut ada, id) = signed_up(&server, "ada@example.com");
    Backend::of(&server).grant(id.as_str(), 10);
    let made = ada.post("/api/auth/api-key/create", json!({})).expect(200).json();
    let mut headers = axum::http::HeaderMap::new();
    headers.insert("x-api-key", text(&made["key"]).parse().expect("a key is header text"));
    let shown = Token::from_headers(&headers).expect("it is there");
    let question = caller.tollgate.authorize(Cookies::default()).token(shown.clone()).charge(4, &key("job"));
    let passed = caller.wait(question.send()).expect("it passes");
    assert_eq!(passed.subject, Subject::ApiKey(text(&made["id"])));
    assert_eq!(passed.user.map(|user| user.id), Some(id));
    assert_eq!(passed.spent.map(|spent| spent.amount), Some(4));
    server.database.execute("UPDATE api_keys SET enabled = FALSE");
    let refused = caller.wait(caller.tollgate.authorize(Cookies::default()).token(shown).send());
    assert!(refused.expect_err("it is switched off").is_unauthenticated());
}
on_both_engines!(a_programs_key_passes_and_its_owner_is_told);

fn a_guest_acts_until_the_allowance_is_used_up(engine: Engine) {
    let config = "trusted_proxies = [\"127.0.0.1/32\"]\n[guest]\nallowances = { generate = 2 }\n";
    let server = Server::with(engine, config);
    let caller = Caller::of(&server);
    let (visitor, id) = guest(&server);
    let pass = caller.wait(caller.tollgate.guest(cookies(&visitor))).expect("an answer").expect("a guest");
    assert_eq!(pass.id.as_str(), id);
    let fresh = &pass.allowances[0];
    assert_eq!((fresh.action.as_str(), fresh.limit, fresh.used, fresh.remaining), ("generate", 2, 0, 2));
    assert_eq!(fresh.resets_at, None);
    let act = |action: &str| {
        let address = ForwardedFor::new(&Default::default(), [203, 0, 113, 9].into());
        let question =
            caller.tollgate.authorize(cookies(&visitor)).guest(action).charge(5, &key(&fresh_key()));
        caller.wait(question.forwarded_for(address).send())
    };
    for remaining in [1, 0] {
        let passed = act("generate").expect("it passes");
        assert_eq!(passed.subject, Subject::Guest(pass.id.clone()));
        assert!(passed.spent.is_none(), "the allowance pays");
        let allowance = passed.allowance.expect("it is counted");
        assert_eq!(allowance.remaining, remaining);
        assert!(allowance.resets_at.is_some());
    }
    let error = act("generate").expect_err("nothing is left");
    assert_eq!((error.status().as_u16(), error.code()), (429, "guest_limit_reached"));
    assert!(error.retry_after().is_some());
    assert_eq!((&error.body()["action"], &error.body()["limit"]), (&json!("generate"), &json!(2)));
    assert_eq!(act("fly").expect_err("no such action").status(), 422);
    let stranger = Cookies::from_text("tollgate.guest=forged").expect("cookies");
    assert_eq!(caller.wait(caller.tollgate.guest(stranger)).expect("an answer"), None);
    let without = Server::with(engine, "[guest]\nenabled = false\n");
    let error = Caller::of(&without);
    let error = error.wait(error.tollgate.guest(cookies(&visitor))).expect_err("there are no guests");
    assert!(matches!(error, Error::Misconfigured(Misconfigured::NoGuests)), "{error:?}");
}
on_both_engines!(a_guest_acts_until_the_allowance_is_used_up);
