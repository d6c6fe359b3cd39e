//! Billing from the operator's side: what came, what was given up, what never came, and whether prices are what they should
//! be; all beside a running server.

use std::time::Duration;

use serde_json::{Value, json};
use till::Fault;

use crate::commands::{object, refused_in_words};
use crate::harness::shop::{SECRET, Shop, signed};
use crate::harness::{Engine, Server, until};
use crate::on_both_engines;

const PATIENCE: Duration = Duration::from_secs(20);

fn run(shop: &Shop, arguments: &[&str], code: i32) -> Value {
    object(&shop.server.command(&[&["billing"], arguments, &["--json"]].concat()), code)
}

/// The state of an event, as the list shows it.
fn state(shop: &Shop, event: &str) -> Value {
    let listed = run(shop, &["events"], 0);
    let items = listed["items"].as_array().expect("a list");
    items.iter().find(|item| item["id"] == event).map_or(Value::Null, |item| item["status"].clone())
}

/// A session that does not fit what was sold, as long as our row says so.
fn with_odd_price(shop: &Shop, session: &str, odd: bool) {
    let price = if odd { "price_other" } else { "price_small" };
    let sql = format!("UPDATE billing_checkouts SET price = '{price}' WHERE session_id = '{session}'");
    shop.server.database.execute(&sql);
}

fn events_are_listed_with_what_they_did(engine: Engine) {
    let shop = Shop::open(engine);
    let none = shop.server.command(&["billing", "events"]).expect_done();
    assert!(none.stdout.contains("billing sync --dry-run"), "{none:?}");
    let mut ada = shop.buyer();
    ada.buy("small");
    shop.settled();
    let stranger = json!({"id": "evt_stranger", "object": "event", "type": "price.updated", "created": 1, "livemode": false,
        "data": {"object": {"id": "price_small"}}});
    let body = stranger.to_string();
    shop.deliver(Some(&signed(&[SECRET], body.as_bytes())), body.as_bytes()).expect(200);
    let [completed] = shop.till.events_of("checkout.session.completed").try_into().expect("one");
    let listed = run(&shop, &["events"], 0);
    let items = listed["items"].as_array().expect("a list");
    let of = |id: &str| items.iter().find(|item| item["id"] == id).cloned().unwrap_or_default();
    let done = of(&completed);
    let expected = json!({"type": "checkout.session.completed", "status": "done", "attempts": 1, "error": null, "livemode": false});
    for (name, value) in expected.as_object().expect("it is one") {
        assert_eq!(done[name], *value, "{done}");
    }
    assert!(done["effect"].as_str().is_some_and(|effect| effect.contains("500")), "{done}");
    assert_eq!(of("evt_stranger")["status"], "ignored", "{listed}");
    assert_eq!(run(&shop, &["events", "--limit", "1"], 0)["items"].as_array().map(Vec::len), Some(1));
    let ignored = run(&shop, &["events", "--status", "ignored"], 0);
    assert!(
        ignored["items"].as_array().is_some_and(|items| items.iter().all(|item| item["status"] == "ignored"))
    );
    let shown = shop.server.command(&["billing", "events", "--status", "done"]).expect_done().stdout;
    assert!(shown.contains(&completed) && shown.contains("500 credits"), "{shown}");
    // What is listed here is what backends see.
    assert_eq!(shop.backend_get("events?limit=200")["items"], listed["items"]);
    assert_eq!(shop.server.command(&["billing", "events", "--status", "lost"]).code, Some(2));
}
on_both_engines!(events_are_listed_with_what_they_did);

fn a_replay_does_what_is_left_and_nothing_twice(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "small"}));
    with_odd_price(&shop, &session, true);
    shop.till.pay(&session).expect("it is paid");
    let [completed] = shop.till.events_of("checkout.session.completed").try_into().expect("one");
    until(PATIENCE, "the event is given up", || (state(&shop, &completed) == "failed").then_some(()));
    assert_eq!(ada.balance(), 0);
    // Still odd: it fails again, and says why.
    let again = run(&shop, &["replay", &completed], 1);
    assert_eq!(again["items"][0]["status"], "failed", "{again}");
    assert!(again["items"][0]["error"].as_str().is_some_and(|text| text.contains("price_other")), "{again}");
    let failed = shop.server.command(&["billing", "replay", "--failed"]);
    assert!(failed.code == Some(1) && failed.stdout.contains("price_other"), "{failed:?}");
    assert!(failed.stderr.contains("still not done"), "{failed:?}");

    with_odd_price(&shop, &session, false);
    let replayed = run(&shop, &["replay", "--failed"], 0);
    let ids: Vec<&str> =
        replayed["items"].as_array().expect("a list").iter().filter_map(|item| item["id"].as_str()).collect();
    assert!(ids.contains(&completed.as_str()), "{replayed}");
    assert_eq!(ada.balance(), 500);
    assert_eq!(run(&shop, &["replay", "--failed"], 0), json!({"items": []}));
    for spelled in [completed.clone(), format!("test:{completed}")] {
        let again = run(&shop, &["replay", &spelled], 0);
        assert_eq!((&again["items"][0]["status"], ada.balance()), (&json!("done"), 500), "{again}");
    }
    let ignored = json!({"id": "evt_stranger", "object": "event", "type": "price.updated", "created": 1, "livemode": false,
        "data": {"object": {"id": "price_small"}}})
    .to_string();
    shop.deliver(Some(&signed(&[SECRET], ignored.as_bytes())), ignored.as_bytes()).expect(200);
    refused_in_words(
        &shop.server.command(&["billing", "replay", "evt_stranger"]),
        &["ignored", "nothing to replay"],
    );
    refused_in_words(
        &shop.server.command(&["billing", "replay", "evt_absent"]),
        &["no event evt_absent", "billing sync"],
    );
    assert_eq!(shop.server.command(&["billing", "replay"]).code, Some(2));
    shop.expect_sound();
}
on_both_engines!(a_replay_does_what_is_left_and_nothing_twice);

fn a_replay_while_stripe_is_down_is_finished_by_the_server(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    ada.buy("small");
    shop.settled();
    let [completed] = shop.till.events_of("checkout.session.completed").try_into().expect("one");
    shop.till.fault(Fault::Broken, 4);
    let stopped = run(&shop, &["replay", &completed], 1);
    assert_eq!(stopped["items"][0]["status"], "pending", "{stopped}");
    shop.till.clear_faults();
    until(PATIENCE, "the server goes on", || (state(&shop, &completed) == "done").then_some(()));
    assert_eq!(ada.balance(), 500);
}
on_both_engines!(a_replay_while_stripe_is_down_is_finished_by_the_server);

/// B13.
fn what_never_came_is_granted_once_by_a_sync(engine: Engine) {
    let shop = Shop::open(engine);
    let (mut ada, mut bob) = (shop.buyer(), shop.buyer());
    shop.till.lose_next(100);
    ada.buy("small");
    bob.subscribe("basic");
    shop.till.lose_next(0);
    assert_eq!((ada.balance(), bob.balance()), (0, 0));

    let looked = run(&shop, &["sync", "--dry-run"], 0);
    assert!(looked["missed"].as_u64() >= Some(2) && looked["events"].as_u64() >= Some(2), "{looked}");
    assert_eq!((&looked["granted"], &looked["dry_run"], ada.balance()), (&json!(0), &json!(true), 0));
    assert_eq!(shop.server.database.integer("SELECT COUNT(*) FROM billing_inbox"), 0);

    let synced = run(&shop, &["sync"], 0);
    assert_eq!(synced["granted"], 1_500, "{synced}");
    assert_eq!((ada.balance(), bob.balance()), (500, 1_000));
    assert_eq!(bob.subscription()["status"], "active");
    let again = shop.server.command(&["billing", "sync"]).expect_done();
    assert!(
        again.stdout.contains("Granted 0 credits") && again.stdout.contains("Every event had come"),
        "{again:?}"
    );
    // The originals, late and in any order, change nothing.
    for kind in ["invoice.paid", "checkout.session.completed", "customer.subscription.created"] {
        for event in shop.till.events_of(kind) {
            shop.till.deliver(&event, 2).expect("it is delivered");
        }
    }
    shop.settled();
    assert_eq!((ada.balance(), bob.balance()), (500, 1_000));
    shop.expect_sound();
}
on_both_engines!(what_never_came_is_granted_once_by_a_sync);

fn one_that_does_not_fit_keeps_no_other_from_being_put_right(engine: Engine) {
    let shop = Shop::open(engine);
    let (mut ada, mut bob) = (shop.buyer(), shop.buyer());
    shop.till.lose_next(100);
    let odd = ada.checkout(&json!({"price": "small"}));
    with_odd_price(&shop, &odd, true);
    shop.till.pay(&odd).expect("it is paid");
    bob.buy("small");
    // Stripe lists the newest first; another odd one comes after Bob's.
    let last = ada.checkout(&json!({"price": "small"}));
    with_odd_price(&shop, &last, true);
    shop.till.pay(&last).expect("it is paid");
    shop.till.lose_next(0);
    let synced = run(&shop, &["sync"], 1);
    assert_eq!((&synced["granted"], bob.balance(), ada.balance()), (&json!(500), 500, 0), "{synced}");
    assert!(synced["problems"].as_array().is_some_and(|problems| !problems.is_empty()), "{synced}");
}
on_both_engines!(one_that_does_not_fit_keeps_no_other_from_being_put_right);

fn a_sync_says_when_stripe_does_not_answer(engine: Engine) {
    let shop = Shop::open(engine);
    shop.till.fault(Fault::Broken, 8);
    refused_in_words(&shop.server.command(&["billing", "sync"]), &["Not reconciled", "run it again"]);
    let refused = run(&shop, &["sync"], 1);
    assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("Stripe")), "{refused}");
    let server = Server::start(engine);
    refused_in_words(&server.command(&["billing", "sync"]), &["stripe.secret_key is not set"]);
}
on_both_engines!(a_sync_says_when_stripe_does_not_answer);

fn the_status_counts_and_names_what_a_person_should_look_at(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.buy("small");
    ada.subscribe("basic");
    let odd = ada.checkout(&json!({"price": "small"}));
    with_odd_price(&shop, &odd, true);
    shop.till.pay(&odd).expect("it is paid");
    shop.till.dispute(&session, None).expect("it is disputed");
    let waiting = ada.checkout(&json!({"price": "small"}));
    shop.settled();
    let status = run(&shop, &["status"], 0);
    assert_eq!((&status["mode"], &status["webhook_open"]), (&json!("test"), &json!(true)), "{status}");
    let inbox = &status["inbox"];
    assert_eq!((&inbox["pending"], &inbox["oldest_pending_at"]), (&json!(0), &Value::Null), "{status}");
    assert!(inbox["failed"].as_u64() >= Some(1) && inbox["done"].as_u64() >= Some(2), "{status}");
    assert_eq!(status["subscriptions"], json!({"active": 1}));
    assert!(status["checkouts"]["open"].as_u64() >= Some(1), "{waiting}: {status}");
    assert_eq!(status["duplicates"], json!([]));
    let dispute = &status["disputes"][0];
    assert_eq!(
        (&dispute["user_id"], &dispute["status"]),
        (&json!(ada.id), &json!("needs_response")),
        "{status}"
    );
    let shown = shop.server.command(&["billing", "status"]).expect_done().stdout;
    for part in ["Stripe: test", "given up", "--status failed", "look at  dispute", "1 active"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    // The same figures for those who watch from afar.
    until(PATIENCE, "the failed event is counted", || {
        (shop.server.metric("tollgate_billing_failed") >= 1.0).then_some(())
    });
    assert_eq!(shop.server.metric("tollgate_billing_pending"), 0.0);

    let without = Server::start(engine);
    assert_eq!(object(&without.command(&["billing", "status", "--json"]), 0)["mode"], "off");
}
on_both_engines!(the_status_counts_and_names_what_a_person_should_look_at);

fn a_second_subscription_of_one_owner_is_named(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let first = ada.subscribe("basic");
    shop.settled();
    let sql = "INSERT INTO billing_subscriptions (id, owner, plan, price, item_id, status, live, extra, cancel_at_period_end, \
        period_end, trial_end, created_at, updated_at) SELECT 'sub_second', owner, plan, price, 'si_second', status, live, TRUE, \
        cancel_at_period_end, period_end, trial_end, created_at, updated_at FROM billing_subscriptions WHERE id = ";
    shop.server.database.execute(&format!("{sql}'{first}'"));
    let status = run(&shop, &["status"], 0);
    let expected = json!([{"id": "sub_second", "user_id": ada.id, "plan": "basic", "status": "active"}]);
    assert_eq!(status["duplicates"], expected);
    let shown = shop.server.command(&["billing", "status"]).expect_done().stdout;
    assert!(shown.contains("sub_second (active): cancel one at Stripe"), "{shown}");
}
on_both_engines!(a_second_subscription_of_one_owner_is_named);

fn events_that_wait_are_counted_with_the_age_of_the_oldest(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = shop.buyer();
    let session = ada.checkout(&json!({"price": "small"}));
    shop.till.fault(Fault::Broken, 1_000);
    shop.till.pay(&session).expect("it is paid");
    until(PATIENCE, "the events are counted", || {
        let waits = shop.server.metric("tollgate_billing_pending") >= 1.0;
        (waits && shop.server.metric("tollgate_billing_oldest_pending_seconds") >= 1.0).then_some(())
    });
    let inbox = run(&shop, &["status"], 0)["inbox"].clone();
    assert!(inbox["pending"].as_u64() >= Some(1) && inbox["oldest_pending_at"].is_string(), "{inbox}");
    shop.till.clear_faults();
    shop.time_passes(3_600_000);
    until(PATIENCE, "the count falls", || {
        (shop.server.metric("tollgate_billing_pending") == 0.0).then_some(())
    });
    assert_eq!(shop.server.metric("tollgate_billing_oldest_pending_seconds"), 0.0);
    assert_eq!(ada.balance(), 500);
}
on_both_engines!(events_that_wait_are_counted_with_the_age_of_the_oldest);

#[track_caller]
fn doctor(shop: &Shop, code: i32) -> Value {
    object(&shop.server.command(&["doctor", "--json"]), code)
}

fn told(report: &Value, list: &str, words: &str) -> bool {
    let texts = report[list].as_array().expect("a list").iter();
    texts.map(ToString::to_string).any(|text| text.contains(words))
}

#[test]
fn doctor_compares_what_is_sold_with_stripe() {
    let mut shop = Shop::open(Engine::Sqlite);
    let good = doctor(&shop, 0);
    assert!(told(&good, "good", "Stripe answers (test mode, acct_"), "{good}");
    assert!(told(&good, "good", "prices at Stripe are what people are shown (4)"), "{good}");

    shop.till.call("POST", "/v1/prices/price_basic", &[("active", "false")]).expect("it is archived");
    shop.server.reconfigure(
        "[stripe.packs.small]\namount = 900\n[stripe.plans.large]\ninterval = \"year\"\n[stripe.packs.gone]\nprice = \"price_gone\"\n\
         credits = 1\namount = 1\ncurrency = \"usd\"\n",
    );
    let wrong = doctor(&shop, 1);
    for words in [
        "Pack `small`: people are shown 900 usd, and price_small charges 1000 usd",
        "Plan `basic`: the price price_basic is archived",
        "Plan `large`: it says every year",
        "Pack `gone`: Stripe knows no price price_gone",
    ] {
        assert!(told(&wrong, "problems", words), "{words}\n{wrong}");
    }
    assert!(!told(&wrong, "good", "what people are shown"), "{wrong}");

    shop.server.reconfigure("[stripe]\nsecret_key = \"sk_test_of_somebody_else\"\n");
    let stranger = doctor(&shop, 1);
    assert!(told(&stranger, "problems", "Stripe does not know this key"), "{stranger}");
    assert!(!stranger.to_string().contains("sk_test_of_somebody_else"), "{stranger}");
    shop.server.reconfigure("[stripe]\napi_base = \"http://127.0.0.1:9\"\n");
    let nobody = doctor(&shop, 1);
    assert!(told(&nobody, "problems", "cannot be reached"), "{nobody}");
}

#[test]
fn serve_refuses_to_sell_where_nobody_would_hear_of_a_payment() {
    let mut shop = Shop::open(Engine::Sqlite);
    for (change, words) in [
        ("[stripe]\nwebhook_secrets = []\n", "stripe.webhook_secrets"),
        ("[stripe]\nwebhook_secrets = [\"we_1\"]\n", "begin with whsec_"),
        (
            "[stripe]\nwebhook_secrets = [\"whsec_blackbox\"]\nsecret_key = \"sk_live_blackbox\"\n",
            "in the clear",
        ),
        ("[stripe]\nsecret_key = \"\"\n", "no key to sell them with"),
    ] {
        shop.server.reconfigure(change);
        let refused = shop.server.command(&["serve"]);
        assert_eq!(refused.code, Some(1), "{change}: {refused:?}");
        assert!(refused.stderr.contains(words), "{words}: {refused:?}");
        assert!(!refused.stderr.contains("blackbox\""), "{refused:?}");
    }
}
