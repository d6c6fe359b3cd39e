//! The pages for people, as a browser without JavaScript meets them: in and out, what one has, what one buys, and what became of
//! a payment.

use std::time::Duration;

use serde_json::json;
use till::Fault;

use crate::harness::shop::{Buyer, Shop};
use crate::harness::{Browser, Engine, PASSWORD, Request, Response, Server};
use crate::on_both_engines;

#[track_caller]
fn led_to(answer: &Response) -> String {
    assert_eq!(answer.status, 303, "{}", answer.text());
    answer.header("Location").expect("a target").to_owned()
}

fn sign_in(browser: &mut Browser, fields: &[(&str, &str)]) -> Response {
    browser.send(Request::form("/sign-in", fields))
}

/// What a page says, without its tags.
fn words(answer: &Response) -> String {
    let html = answer.text();
    let mut text = String::new();
    let mut inside = false;
    for c in html.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                text.push(' ');
            }
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn page(buyer: &mut Buyer<'_>, path: &str) -> String {
    words(&buyer.browser.get(path).expect(200))
}

fn people_come_in_and_go_out_by_forms(engine: Engine) {
    let server = Server::start(engine);
    let mut ada = Browser::new(&server);
    let entrance = ada.get("/sign-in").expect(200);
    assert!(entrance.text().contains("action=\"/sign-in\""), "{}", entrance.text());
    let fields = [("name", ""), ("email", "ada@example.com"), ("password", PASSWORD), ("callbackURL", "")];
    assert_eq!(led_to(&ada.send(Request::form("/sign-up", &fields))), "/billing");
    assert_eq!(ada.session()["user"]["name"], "ada");
    let home = ada.get("/billing").expect(200);
    assert!(
        words(&home).contains("ada@example.com") && words(&home).contains("Nothing is sold here"),
        "{}",
        home.text()
    );
    // Whoever is in already goes on.
    assert_eq!(led_to(&ada.get("/sign-in?callbackURL=%2Fbilling%3Fa%3Db")), "/billing?a=b");
    assert_eq!(led_to(&ada.send(Request::form("/sign-out", &[]))), "/sign-in");
    assert!(ada.session().is_null());
    assert_eq!(
        led_to(&ada.get("/billing?checkout=cs_1")),
        "/sign-in?callbackURL=%2Fbilling%3Fcheckout%3Dcs_1"
    );

    let good = [("email", " ada@example.com "), ("password", PASSWORD)];
    let wrong = sign_in(&mut ada, &[("email", "ada@example.com"), ("password", "wrong")]);
    assert_eq!(wrong.status, 401);
    assert!(words(&wrong).contains("The address or the password is wrong."), "{}", wrong.text());
    assert!(
        wrong.text().contains("value=\"ada@example.com\"") && !wrong.text().contains("\"wrong\""),
        "{}",
        wrong.text()
    );
    let nobody = sign_in(&mut ada, &[("email", "nobody@example.com"), ("password", "wrong")]);
    assert_eq!((nobody.status, words(&nobody)), (401, words(&wrong)));
    let taken = ada.send(Request::form("/sign-up", &fields));
    assert!(
        taken.status == 422 && words(&taken).contains("Sign in, or use another address"),
        "{}",
        taken.text()
    );
    let short = ada.send(Request::form("/sign-up", &[("email", "bob@example.com"), ("password", "short")]));
    assert!(short.status == 400 && words(&short).contains("Choose a longer one"), "{}", short.text());
    assert_eq!(led_to(&sign_in(&mut ada, &good)), "/billing");
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
}
on_both_engines!(people_come_in_and_go_out_by_forms);

fn an_address_is_confirmed_before_the_first_session(engine: Engine) {
    let server = Server::with(engine, "[email_password]\nrequire_verification = true\n");
    let mut ada = Browser::new(&server);
    let fields = [("name", "Ada"), ("email", "ada@example.com"), ("password", PASSWORD)];
    let made = ada.send(Request::form("/sign-up", &fields)).expect(200);
    assert!(words(&made).contains("open the link that we have just mailed to you"), "{}", made.text());
    let early = sign_in(&mut ada, &fields[1..]);
    assert!(early.status == 403 && words(&early).contains("Confirm your address first"), "{}", early.text());
    let link = server.mail.take("ada@example.com", Duration::from_secs(10)).link();
    assert!(link.contains("billing"), "the link leads to the page: {link}");
    ada.follow(&link);
    assert_eq!(led_to(&sign_in(&mut ada, &fields[1..])), "/billing");
}
on_both_engines!(an_address_is_confirmed_before_the_first_session);

fn a_way_on_leads_only_where_people_may_be_sent(engine: Engine) {
    let server = Server::start(engine);
    Browser::new(&server).sign_up("ada@example.com");
    let evil = [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "https://app.example.evil.example",
    ];
    for target in evil {
        let mut ada = Browser::new(&server);
        let query =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("callbackURL", target).finish();
        let shown = ada.get(&format!("/sign-in?{query}")).expect(200);
        assert!(!shown.text().contains("evil"), "{target}: {}", shown.text());
        let fields = [("email", "ada@example.com"), ("password", PASSWORD), ("callbackURL", target)];
        assert_eq!(led_to(&sign_in(&mut ada, &fields)), "/billing", "{target}");
        assert_eq!(led_to(&ada.get(&format!("/sign-in?{query}"))), "/billing", "{target}");
    }
    let own = [("email", "ada@example.com"), ("password", PASSWORD), ("callbackURL", "/account?tab=1")];
    assert_eq!(led_to(&sign_in(&mut Browser::new(&server), &own)), "/account?tab=1");
}
on_both_engines!(a_way_on_leads_only_where_people_may_be_sent);

fn forms_of_other_sites_do_nothing(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let evil = "https://evil.example";
    for (path, fields) in
        [("/billing/checkout", &[("item", "small")][..]), ("/billing/portal", &[]), ("/sign-out", &[])]
    {
        for origin in [evil, "null", ""] {
            let mut there = ada.browser.clone().on_page(origin);
            let answer = there.send(Request::form(path, fields));
            assert_eq!(answer.status, 403, "{path} from {origin}: {}", answer.text());
            assert!(words(&answer).contains("came from another site"), "{}", answer.text());
        }
    }
    assert!(!ada.browser.session().is_null());
    assert_eq!(shop.server.database.integer("SELECT COUNT(*) FROM billing_checkouts"), 0);
    // Nor does another site sign anybody in.
    let mut stranger = Browser::new(&shop.server).on_page(evil);
    stranger.headers.push(("Sec-Fetch-Site".into(), "cross-site".into()));
    stranger.headers.push(("Sec-Fetch-Mode".into(), "navigate".into()));
    let answer = sign_in(&mut stranger, &[("email", "buyer-0@example.com"), ("password", PASSWORD)]);
    assert_eq!(answer.status, 403, "{}", answer.text());
    // A form is a form.
    let json = Request::post("/billing/checkout", &json!({"item": "small"}));
    assert_eq!(ada.browser.send(json).status, 415);
}
on_both_engines!(forms_of_other_sites_do_nothing);

fn a_pack_is_bought_and_the_page_says_what_became_of_it(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let shown = page(&mut ada, "/billing");
    for part in ["You have 0 credits", "500 credits", "for 10.00 USD", "1000 credits a month", "Test mode"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    let target = led_to(&ada.browser.send(Request::form("/billing/checkout", &[("item", "small")])));
    assert!(target.starts_with(shop.till.base_url()), "{target}");
    let session = target.rsplit('/').next().expect("a session").to_owned();
    let back = format!("/billing?checkout={session}");
    let open = ada.browser.get(&back).expect(200);
    assert!(words(&open).contains("We are confirming your payment"), "{}", open.text());
    assert!(
        open.text()
            .replace("&#x2f;", "/")
            .contains(&format!("content=\"3;url=/billing?checkout={session}&amp;look=1\"")),
        "{}",
        open.text()
    );
    let patient = ada.browser.get(&format!("{back}&look=10")).expect(200);
    assert!(
        !patient.text().contains("http-equiv") && words(&patient).contains("look again"),
        "{}",
        patient.text()
    );

    // Although no event comes, coming back is enough.
    shop.till.lose_next(100);
    shop.till.pay(&session).expect("it is paid");
    let paid = page(&mut ada, &back);
    assert!(paid.contains("Paid. 500 credits are yours.") && paid.contains("You have 500 credits"), "{paid}");
    assert!(paid.contains("+500 credits"), "{paid}");
    shop.till.lose_next(0);
    shop.till.refund(&session, None).expect("it goes back");
    shop.settled();
    let refunded = page(&mut ada, "/billing");
    assert!(refunded.contains("You have 0 credits") && refunded.contains("Taken back"), "{refunded}");
    // It is nobody else's.
    let mut bob = shop.buyer();
    assert!(page(&mut bob, &back).contains("not a checkout of yours"));
    assert!(page(&mut bob, "/billing?checkout=%3Cb%3E").contains("not a checkout of yours"));
    shop.expect_sound();
}
on_both_engines!(a_pack_is_bought_and_the_page_says_what_became_of_it);

fn delayed_failed_and_unconfirmed_payments_are_told_apart(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    for (paid, words) in
        [(true, "Paid. 500 credits are yours."), (false, "The payment failed, and nothing was bought.")]
    {
        let session = ada.checkout(&json!({"price": "small"}));
        let back = format!("/billing?checkout={session}");
        shop.till.pay_later(&session).expect("it is begun");
        assert!(page(&mut ada, &back).contains("Your bank is working on it"));
        shop.till.settle(&session, paid).expect("it ends");
        let told = page(&mut ada, &back);
        assert!(told.contains(words), "{told}");
    }
    let session = ada.checkout(&json!({"price": "small"}));
    let back = format!("/billing?checkout={session}");
    shop.till.fault_on("/v1/checkout", Fault::Broken, 100);
    assert!(page(&mut ada, &back).contains("We are confirming your payment"));
    shop.till.clear_faults();
    shop.till.call("POST", &format!("/v1/checkout/sessions/{session}/expire"), &[]).expect("it ends");
    assert!(page(&mut ada, &back).contains("This checkout has ended without a payment"));
}
on_both_engines!(delayed_failed_and_unconfirmed_payments_are_told_apart);

fn wishes_that_cannot_be_sold_are_explained(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    for (fields, words_of) in [
        (&[("item", "absent")][..], "cannot be bought like this"),
        (&[("item", "")], "cannot be bought like this"),
        (&[("item", "any"), ("amount", "1.00")], "cannot be bought like this"),
        (&[("item", "any"), ("amount", "<b>many</b>")], "is not an amount. Write it like this: 5.00"),
    ] {
        let refused = ada.browser.send(Request::form("/billing/checkout", fields));
        assert_eq!(refused.status, 400, "{fields:?}: {}", refused.text());
        assert!(words(&refused).contains(words_of), "{fields:?}: {}", refused.text());
        assert!(!refused.text().contains("<b>"), "{}", refused.text());
    }
    assert_eq!(shop.server.database.integer("SELECT COUNT(*) FROM billing_checkouts"), 0);
    let any = led_to(
        &ada.browser.send(Request::form("/billing/checkout", &[("item", "any"), ("amount", "19,99")])),
    );
    shop.till.pay(any.rsplit('/').next().expect("a session")).expect("it is paid");
    shop.settled();
    assert_eq!(ada.balance(), 599);
    let plan = led_to(&ada.browser.send(Request::form("/billing/checkout", &[("item", "basic")])));
    shop.till.pay(plan.rsplit('/').next().expect("a session")).expect("it is paid");
    shop.settled();
    let shown = page(&mut ada, "/billing");
    assert!(
        shown.contains("basic runs, next payment on ") && !shown.contains("Credits every period"),
        "{shown}"
    );
    let again = ada.browser.send(Request::form("/billing/checkout", &[("item", "basic")]));
    assert!(again.status == 409 && words(&again).contains("You have a plan already"), "{}", again.text());
    let portal = led_to(&ada.browser.send(Request::form("/billing/portal", &[])));
    assert!(portal.starts_with(shop.till.base_url()), "{portal}");
    // Stripe is not there: the page is, and says so.
    shop.till.fault(Fault::Status(503), 100);
    let silent = ada.browser.send(Request::form("/billing/checkout", &[("item", "small")]));
    assert!(
        silent.status == 503 && words(&silent).contains("does not answer. Please try again"),
        "{}",
        silent.text()
    );
    assert!(words(&silent).contains("You have 1599 credits"), "{}", silent.text());
}
on_both_engines!(wishes_that_cannot_be_sold_are_explained);

/// The seller's own domain for checkouts is not the one that a form may lead to: a page goes on from there.
fn a_checkout_at_another_domain_is_reached_by_a_page_of_its_own(engine: Engine) {
    let mut shop = Shop::open(engine);
    let till = shop.till.base_url().to_owned();
    // To the server the payment service is at one name, and its pages are at another.
    let apart = till.replace("127.0.0.1", "localhost");
    shop.server.reconfigure(&format!("[stripe]\napi_base = \"{apart}\"\n"));
    shop.server.stop();
    shop.server.restart();
    shop.point_webhooks_at(&shop.server);
    let mut ada = shop.buyer();
    let answer = ada.browser.send(Request::form("/billing/checkout", &[("item", "small")])).expect(200);
    assert!(
        words(&answer).contains("You pay at 127.0.0.1 and come back here afterwards."),
        "{}",
        answer.text()
    );
    let policy = answer.header("Content-Security-Policy").expect("a policy").to_owned();
    assert!(policy.contains(&apart) && !policy.contains(&till), "{policy}");
    // The link and the page's own way lead to the same place, which takes the payment.
    let html = answer.text();
    let target = html.split("<a class=\"button\" href=\"").nth(1).and_then(|rest| rest.split('"').next());
    let target = target.expect("a link").replace("&#x2f;", "/");
    assert!(target.starts_with(&till), "{target}");
    assert!(html.replace("&#x2f;", "/").contains(&format!("content=\"0;url={target}\"")), "{html}");
    shop.till.pay(target.rsplit('/').next().expect("a session")).expect("it is paid");
    shop.settled();
    assert_eq!(ada.balance(), 500);
    let portal = ada.browser.send(Request::form("/billing/portal", &[])).expect(200);
    assert!(words(&portal).contains("You pay at 127.0.0.1"), "{}", portal.text());
}
on_both_engines!(a_checkout_at_another_domain_is_reached_by_a_page_of_its_own);

/// The form is no way around the limits of the door behind it.
fn guessing_by_the_form_is_slowed_like_any_other(engine: Engine) {
    let server = Server::with(engine, "[rate_limit]\nenabled = true\n");
    let mut stranger = Browser::new(&server);
    let guess = [("email", "ada@example.com"), ("password", "a guess")];
    let statuses: Vec<u16> = (0..8).map(|_| sign_in(&mut stranger, &guess).status).collect();
    let last = sign_in(&mut stranger, &guess);
    assert!(
        last.status == 429 && words(&last).contains("too often in a short time"),
        "{statuses:?}: {}",
        last.text()
    );
    assert_eq!(statuses[0], 401);
}
on_both_engines!(guessing_by_the_form_is_slowed_like_any_other);

#[test]
fn pages_let_nothing_in_and_run_no_script() {
    let shop = Shop::open(Engine::Sqlite);
    let mut ada = shop.buyer();
    ada.browser.post("/api/auth/update-user", json!({"name": "<script>alert(1)</script>"})).expect(200);
    for path in ["/billing", "/billing?checkout=%22%3E%3Cscript%3E", "/sign-in", "/sign-up", "/assets/absent"]
    {
        let mut browser =
            if path.starts_with("/sign") { Browser::new(&shop.server) } else { ada.browser.clone() };
        let answer = browser.get(path);
        let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
        let policy = header("Content-Security-Policy");
        for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "style-src 'self'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(
            policy.contains(&format!("form-action 'self' {};", shop.till.base_url())),
            "{path}: {policy}"
        );
        assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{path}: {policy}");
        assert_eq!(
            (header("Cache-Control").as_str(), header("X-Frame-Options").as_str()),
            ("no-store", "DENY"),
            "{path}"
        );
        let text = answer.text();
        assert!(
            !text.contains("<script") && !text.contains("style=") && !text.contains(" onload="),
            "{path}: {text}"
        );
    }
    let sheet = ada.browser.get("/assets/tollgate.css").expect(200);
    assert!(
        sheet.header("Content-Type").is_some_and(|kind| kind.starts_with("text/css")),
        "{}",
        sheet.text()
    );
}
