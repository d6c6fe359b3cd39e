//! Automatic top-ups: spending that leaves little buys one pack, whatever happens on the way, and no card is charged twice.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use till::{DisputeStep, Fault};

use crate::harness::credits::{Backend, books_balance, in_milliseconds, make_users};
use crate::harness::database::quoted;
use crate::harness::shop::{Buyer, Shop};
use crate::harness::{Engine, Request, Response, Server, at_full_length, in_parallel, until};
use crate::on_both_engines;

const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: i64 = 3_600_000;
const PATH: &str = "/api/billing/auto-topup";

/// Somebody whose credits are bought automatically, with a backend that spends them.
struct Regular<'a> {
    shop: &'a Shop,
    backend: Backend,
    id: String,
}

impl<'a> Regular<'a> {
    fn new(shop: &'a Shop, id: &str) -> Regular<'a> {
        Regular { shop, backend: Backend::of(&shop.server), id: id.to_owned() }
    }

    /// Bought a pack, and let Stripe keep the card: 500 credits.
    fn of(shop: &'a Shop, buyer: &mut Buyer<'a>) -> Regular<'a> {
        let session = buyer.checkout(&json!({"price": "small", "savePaymentMethod": true}));
        shop.till.pay(&session).expect("it is paid");
        shop.settled();
        Regular::new(shop, &buyer.id)
    }

    fn try_put(&mut self, members: Value) -> Response {
        let mut body = members;
        body["user_id"] = json!(self.id);
        self.backend.send(Request::new("PUT", PATH).json(&body))
    }

    fn put(&mut self, members: Value) -> Value {
        self.try_put(members).expect(200).json()
    }

    /// A pack whenever less than 100 are left.
    fn wants(&mut self, monthly_max: i64) {
        self.put(json!({"below": 100, "pack": "small", "monthly_max": monthly_max}));
    }

    fn shown(&mut self) -> Value {
        let path = format!("{PATH}?user_id={}", self.id);
        self.backend.send(Request::get(&path)).expect(200).json()
    }

    fn spend(&mut self, amount: i64) {
        assert_eq!(self.backend.debit(&self.id, amount).status, 201);
    }

    fn balance(&mut self) -> i64 {
        self.backend.balance(&self.id)["balance"].as_i64().expect("a balance")
    }

    fn until_balance(&mut self, balance: i64) {
        until(PATIENCE, &format!("a balance of {balance}"), || (self.balance() == balance).then_some(()));
        self.until_state("idle");
    }

    fn until_state(&mut self, state: &str) -> Value {
        until(PATIENCE, &format!("the state {state}"), || {
            let shown = self.shown();
            (shown["state"] == state).then_some(shown)
        })
    }

    fn customer(&self) -> String {
        let owner = quoted(&format!("user:{}", self.id));
        let sql = format!("SELECT customer_id FROM billing_customers WHERE owner = {owner}");
        self.shop.server.database.value(&sql).expect("a customer")
    }

    /// Pays by this one of Stripe's cards for tests from now on.
    fn pays_by(&self, card: &str) {
        let (till, customer) = (&self.shop.till, self.customer());
        let attach = format!("/v1/payment_methods/{card}/attach");
        let method = till.call("POST", &attach, &[("customer", &customer)]).expect("it is attached");
        let usual = [("invoice_settings[default_payment_method]", method["id"].as_str().expect("an id"))];
        till.call("POST", &format!("/v1/customers/{customer}"), &usual).expect("the usual one");
    }

    /// Payments at Stripe that nobody was there for, by their states.
    fn payments(&self) -> Vec<String> {
        let list = self
            .shop
            .till
            .call("GET", "/v1/payment_intents", &[("customer", &self.customer()), ("limit", "100")])
            .expect("a list");
        let automatic = |intent: &&Value| {
            intent["description"].as_str().is_some_and(|text| text.starts_with("Automatic"))
        };
        let found = list["data"].as_array().expect("a list").iter().filter(automatic);
        found.map(|intent| intent["status"].as_str().expect("a state").to_owned()).collect()
    }

    fn newest_payment(&self) -> String {
        let query = [("customer", self.customer()), ("limit", "1".into())];
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let list = self.shop.till.call("GET", "/v1/payment_intents", &query).expect("a list");
        list["data"][0]["id"].as_str().expect("an id").to_owned()
    }

    /// As if so much time had passed for this owner's payment or pause.
    fn time_passes(&self, milliseconds: i64) {
        let owner = format!("owner = {}", quoted(&format!("user:{}", self.id)));
        for column in ["leased_until", "retry_at", "rests_until"] {
            self.shop.server.database.shift("billing_topups", column, -milliseconds, &owner);
        }
    }
}

/// Everybody who had a reason to be served has been: somebody who comes later was.
fn a_look_passes(shop: &Shop) {
    let mut later = Regular::of(shop, &mut shop.buyer());
    later.wants(1);
    later.spend(450);
    later.until_balance(550);
}

fn spending_below_the_line_buys_a_pack(engine: Engine) {
    let shop = Shop::open(engine);
    let mut buyer = shop.buyer();
    let mut ada = Regular::of(&shop, &mut buyer);
    let off = json!({"enabled": false, "below": null, "unit": null, "pack": null, "monthly_max": null,
        "state": "disabled", "retry_at": null, "count": 0, "error": null});
    assert_eq!(ada.shown(), off);
    let on = json!({"enabled": true, "below": 100, "unit": "credits", "pack": "small", "monthly_max": 3,
        "state": "idle", "retry_at": null, "count": 0, "error": null});
    assert_eq!(ada.put(json!({"below": 100, "pack": "small", "monthly_max": 3})), on);
    // At the line nothing is bought.
    ada.spend(400);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.payments().len()), (100, 0));
    ada.spend(1);
    ada.until_balance(599);
    assert_eq!((ada.shown()["count"].as_i64(), ada.payments()), (Some(1), vec!["succeeded".to_owned()]));
    let entry = ada.backend.entries(&ada.id).pop().expect("an entry");
    assert_eq!(
        (&entry["reason"], &entry["actor"], &entry["source_ref"]),
        (&json!("automatic top-up"), &json!("stripe"), &json!(format!("pi:{}", ada.newest_payment())))
    );
    shop.settled();
    assert_eq!(ada.balance(), 599);
    shop.expect_sound();
}
on_both_engines!(spending_below_the_line_buys_a_pack);

fn fifty_debits_that_cross_at_once_buy_one_pack(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    let (backend, id) = (Backend::of(&shop.server), ada.id.clone());
    let second = (engine == Engine::Postgres).then(|| Server::second_node(&shop.server));
    let spent = in_parallel(50, |at| {
        let mut backend = match &second {
            Some(node) if at % 2 == 1 => backend.at(node),
            _ => backend.another(),
        };
        backend.debit(&id, 9).status
    });
    assert_eq!(spent, [201; 50]);
    ada.until_balance(550);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.payments()), (550, vec!["succeeded".to_owned()]));
    assert_eq!(ada.shown()["count"], 1);
    shop.expect_sound();
}
on_both_engines!(fifty_debits_that_cross_at_once_buy_one_pack);

fn many_owners_on_two_nodes_are_charged_once_each(engine: Engine) {
    let shop = Shop::open(engine);
    let second = (engine == Engine::Postgres).then(|| Server::second_node(&shop.server));
    let users = make_users(&shop.server, 30);
    let mut owners: Vec<Regular<'_>> = users.iter().map(|user| Regular::new(&shop, user)).collect();
    for owner in &mut owners {
        owner.backend.grant(&owner.id.clone(), 500);
        let opened = owner.backend.send(Request::post(
            "/api/billing/checkout",
            &json!({"user_id": owner.id, "price": "small", "save_payment_method": true}),
        ));
        let session = opened.expect(200).json()["session_id"].as_str().expect("a session").to_owned();
        shop.till.pay(&session).expect("it is paid");
    }
    shop.settled();
    for owner in &mut owners {
        owner.wants(1);
        owner.spend(950);
    }
    for owner in &mut owners {
        owner.until_balance(550);
        assert_eq!(owner.payments(), ["succeeded"]);
    }
    drop(second);
    books_balance(&shop.server.database);
    shop.expect_sound();
}
on_both_engines!(many_owners_on_two_nodes_are_charged_once_each);

fn expect_mails(shop: &Shop, count: i64) {
    let sql = "SELECT COUNT(*) FROM mails WHERE template = 'top-up-off'";
    assert_eq!(shop.server.database.integer(sql), count);
}

/// Declined, or confirmed by nobody: 1 h, 4 h, 24 h, then it is over, with one mail.
fn payments_that_fail_wait_longer_and_longer_until_it_is_switched_off(engine: Engine) {
    let shop = Shop::open(engine);
    for (number, (card, error)) in [
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "insufficient_funds"),
        ("pm_card_authenticationRequired", "authentication_required"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut ada = Regular::of(&shop, &mut shop.buyer());
        ada.pays_by(card);
        ada.wants(9);
        ada.spend(450);
        for (tries, hours) in [1, 4, 24].into_iter().enumerate() {
            let shown = ada.until_state("backing_off");
            let retry_at = shown["retry_at"].as_str().expect("a time").to_owned();
            assert!(retry_at <= in_milliseconds(hours * HOUR), "{shown}");
            assert!(retry_at > in_milliseconds(hours * HOUR - 60_000), "{shown}");
            assert_eq!((&shown["error"], &shown["count"]), (&json!(error), &json!(0)));
            expect_mails(&shop, number as i64);
            // A minute before, nothing happens.
            ada.time_passes(hours * HOUR - 60_000);
            a_look_passes(&shop);
            assert_eq!(ada.shown()["state"], "backing_off");
            ada.time_passes(60_000);
            until(PATIENCE, "the next try", || (ada.payments().len() == tries + 2).then_some(()));
        }
        let shown = ada.until_state("disabled");
        assert_eq!((&shown["enabled"], &shown["error"]), (&json!(false), &json!(error)));
        expect_mails(&shop, number as i64 + 1);
        // Nobody can pay one of them later.
        assert_eq!(ada.payments(), ["canceled"; 4]);
        assert_eq!(ada.balance(), 50);
        // A new card and a new word.
        ada.pays_by("pm_card_visa");
        ada.put(json!({"enabled": true}));
        ada.until_balance(550);
        assert_eq!(ada.shown()["error"], Value::Null);
    }
    shop.expect_sound();
}
on_both_engines!(payments_that_fail_wait_longer_and_longer_until_it_is_switched_off);

fn without_a_card_nothing_is_charged_and_it_waits(engine: Engine) {
    let shop = Shop::open(engine);
    let users = make_users(&shop.server, 1);
    let mut nobody = Regular::new(&shop, &users[0]);
    nobody.wants(9);
    // Nothing is left of nothing: whoever switches it on then wants it at once.
    let shown = nobody.until_state("backing_off");
    assert_eq!(shown["error"], "no_payment_method");
    assert_eq!(shop.till.call("GET", "/v1/payment_intents", &[]).expect("a list")["data"], json!([]));
    shop.expect_sound();
}
on_both_engines!(without_a_card_nothing_is_charged_and_it_waits);

fn a_month_has_so_many_and_the_next_one_as_many_again(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(2);
    for count in [1, 2] {
        ada.spend(450);
        ada.until_balance(550);
        assert_eq!(ada.shown()["count"], count);
        ada.spend(50);
    }
    ada.spend(450);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.payments().len()), (50, 2));
    assert_eq!((&ada.shown()["state"], &ada.shown()["count"]), (&json!("idle"), &json!(2)));
    // They were made in another month.
    let of_ada = format!("owner = {}", quoted(&format!("user:{}", ada.id)));
    shop.server.database.shift("billing_checkouts", "created_at", -32 * 24 * HOUR, &of_ada);
    ada.time_passes(32 * 24 * HOUR);
    ada.until_balance(550);
    assert_eq!((ada.shown()["count"].as_i64(), ada.payments().len()), (Some(1), 3));
    shop.expect_sound();
}
on_both_engines!(a_month_has_so_many_and_the_next_one_as_many_again);

fn a_refund_is_not_bought_again_until_something_is_spent(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    ada.spend(450);
    ada.until_balance(550);
    shop.till.refund(&ada.newest_payment(), None).expect("all goes back");
    shop.settled();
    assert_eq!(ada.balance(), 50);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.payments().len()), (50, 1));
    ada.spend(10);
    ada.until_balance(540);
    assert_eq!((ada.shown()["count"].as_i64(), ada.payments().len()), (Some(2), 2));
    shop.expect_sound();
}
on_both_engines!(a_refund_is_not_bought_again_until_something_is_spent);

fn credits_that_end_by_themselves_buy_nothing(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    let more = json!({"expires_at": in_milliseconds(4_000)});
    ada.backend.grant_with(&ada.id.clone(), 300, more);
    ada.put(json!({"below": 600, "pack": "small", "monthly_max": 9}));
    ada.spend(1);
    until(PATIENCE, "the end of what ends", || (ada.balance() == 500).then_some(()));
    a_look_passes(&shop);
    assert_eq!(ada.payments().len(), 0);
    ada.spend(1);
    ada.until_balance(999);
    shop.expect_sound();
}
on_both_engines!(credits_that_end_by_themselves_buy_nothing);

fn a_hold_that_leaves_little_buys_a_pack(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    ada.backend.hold(&ada.id.clone(), 450);
    ada.until_balance(1_000);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.payments().len()), (1_000, 1));
    shop.expect_sound();
}
on_both_engines!(a_hold_that_leaves_little_buys_a_pack);

fn whoever_disputes_a_payment_is_not_charged_by_itself_any_more(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    ada.spend(450);
    ada.until_balance(550);
    let dispute = shop.till.dispute(&ada.newest_payment(), None).expect("it is disputed");
    shop.settled();
    assert_eq!(ada.balance(), 50);
    let shown = ada.until_state("disabled");
    assert_eq!((&shown["enabled"], &shown["error"]), (&json!(false), &json!("disputed")));
    ada.spend(10);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.payments().len()), (40, 1));
    // The money comes back, and it stays off until somebody says otherwise.
    shop.till.step_dispute(dispute["id"].as_str().expect("an id"), DisputeStep::Win).expect("it is won");
    shop.settled();
    assert_eq!((ada.balance(), &ada.shown()["state"]), (540, &json!("disabled")));
    shop.expect_sound();
}
on_both_engines!(whoever_disputes_a_payment_is_not_charged_by_itself_any_more);

fn somebody_who_is_gone_is_not_charged(engine: Engine) {
    let shop = Shop::open(engine);
    let mut buyer = shop.buyer();
    let mut ada = Regular::of(&shop, &mut buyer);
    ada.wants(9);
    // The call comes to nothing, and its owner leaves meanwhile.
    shop.till.fault_on("/v1/payment_intents", Fault::Status(503), 4);
    ada.spend(450);
    ada.until_state("in_flight");
    until(PATIENCE, "the call to fail", || (shop.till.faults_left() == 0).then_some(()));
    let email = buyer.browser.session()["user"]["email"].as_str().expect("an address").to_owned();
    shop.server.command(&["user", "delete", &email, "--yes"]).expect_done();
    let row =
        format!("SELECT enabled FROM billing_topups WHERE owner = {}", quoted(&format!("user:{}", ada.id)));
    until(PATIENCE, "it to be switched off", || {
        ada.time_passes(HOUR / 4);
        let enabled = shop.server.database.value(&row);
        enabled.is_some_and(|enabled| enabled.starts_with('f') || enabled == "0").then_some(())
    });
    assert_eq!(ada.payments(), [""; 0]);
    shop.expect_sound();
}
on_both_engines!(somebody_who_is_gone_is_not_charged);

/// Stripe did it and did not say so; it did not do it and said nothing; it is down for a while.
fn a_call_that_is_not_answered_is_made_once(engine: Engine) {
    let shop = Shop::open(engine);
    for (fault, count) in [
        (Fault::BrokenAfterWork, 2),
        (Fault::Broken, 2),
        (Fault::WrongJson, 2),
        (Fault::TooMany, 2),
        // All tries of the first look: the next one finds out.
        (Fault::BrokenAfterWork, 4),
        (Fault::Status(500), 4),
    ] {
        let mut ada = Regular::of(&shop, &mut shop.buyer());
        ada.wants(9);
        shop.till.fault_on("/v1/payment_intents", fault, count);
        ada.spend(450);
        until(PATIENCE, "the faults", || (shop.till.faults_left() == 0).then_some(()));
        ada.until_balance(550);
        assert_eq!(ada.payments(), ["succeeded"], "{fault:?}");
    }
    shop.expect_sound();
}
on_both_engines!(a_call_that_is_not_answered_is_made_once);

/// A fault of Stripe's own that it keeps under the key: nothing was charged, and the next payment has another key.
fn a_failure_that_stripe_remembers_ends_after_an_hour(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    shop.till.fault_on("/v1/payment_intents", Fault::KeptFailure, 1);
    ada.spend(450);
    ada.until_state("in_flight");
    until(PATIENCE, "the fault", || (shop.till.faults_left() == 0).then_some(()));
    // Its owner reads a word, and nothing of what Stripe or the network said.
    until(PATIENCE, "the word", || (ada.shown()["error"] == "stripe_unavailable").then_some(()));
    let of_ada = format!("owner = {} AND kind = 'topup'", quoted(&format!("user:{}", ada.id)));
    shop.server.database.shift("billing_checkouts", "created_at", -2 * HOUR, &of_ada);
    let shown = until(PATIENCE, "the end of the try", || {
        ada.time_passes(HOUR / 4);
        let shown = ada.shown();
        (shown["state"] == "backing_off").then_some(shown)
    });
    assert_eq!(shown["error"], "stripe_did_not_answer");
    ada.time_passes(HOUR);
    ada.until_balance(550);
    assert_eq!(ada.payments(), ["succeeded"]);
    shop.expect_sound();
}
on_both_engines!(a_failure_that_stripe_remembers_ends_after_an_hour);

/// Killed at any moment between the debit and the credits.
fn kill_nine_between_any_two_steps_charges_once_and_grants_what_was_paid(engine: Engine) {
    let (kills, step) = if at_full_length() { (60, 15) } else { (8, 110) };
    let mut shop = Shop::open(engine);
    let id = {
        let mut buyer = shop.buyer();
        Regular::of(&shop, &mut buyer).id
    };
    {
        let mut ada = Regular::new(&shop, &id);
        ada.put(json!({"below": 100, "pack": "small", "monthly_max": 1_000}));
    }
    for number in 0..kills {
        let mut ada = Regular::new(&shop, &id);
        ada.spend(450);
        // Slow enough that the process dies in the middle of a call, too.
        let slow = Duration::from_millis(60);
        shop.till.fault_on("/v1/", Fault::Slow(slow), 10);
        let limit = Duration::from_millis(700 + number * step);
        let began = Instant::now();
        until(PATIENCE, "the moment", || (began.elapsed() >= limit).then_some(()));
        drop(ada);
        shop.server.kill();
        shop.till.clear_faults();
        shop.server.restart();
        let mut ada = Regular::new(&shop, &id);
        until(PATIENCE, "a balance of 550", || {
            ada.time_passes(HOUR / 4);
            (ada.balance() == 550).then_some(())
        });
        ada.until_state("idle");
        assert_eq!(ada.payments().len() as u64, number + 1);
        // Back to where it began.
        ada.spend(50);
    }
    shop.settled_after_a_crash();
    let mut ada = Regular::new(&shop, &id);
    assert_eq!(ada.balance(), 500);
    assert_eq!(ada.payments(), vec!["succeeded"; kills as usize]);
    books_balance(&shop.server.database);
    shop.expect_sound();
}
on_both_engines!(kill_nine_between_any_two_steps_charges_once_and_grants_what_was_paid);

fn a_bank_debit_is_under_way_for_days_and_nothing_is_bought_beside_it(engine: Engine) {
    let shop = Shop::open(engine);
    for paid in [true, false] {
        let mut ada = Regular::of(&shop, &mut shop.buyer());
        ada.pays_by("pm_sepaDebit");
        ada.wants(9);
        ada.spend(450);
        until(PATIENCE, "the debit", || (ada.payments() == ["processing"]).then_some(()));
        ada.spend(10);
        a_look_passes(&shop);
        assert_eq!((ada.payments().len(), &ada.shown()["state"]), (1, &json!("in_flight")));
        let payment = ada.newest_payment();
        shop.till.settle(&payment, paid).expect("it ends");
        match paid {
            true => ada.until_balance(540),
            false => {
                ada.until_state("backing_off");
                assert_eq!((ada.balance(), ada.payments()), (40, vec!["canceled".to_owned()]));
            }
        }
    }
    shop.settled();
    shop.expect_sound();
}
on_both_engines!(a_bank_debit_is_under_way_for_days_and_nothing_is_bought_beside_it);

fn it_is_switched_on_and_off_by_whoever_may(engine: Engine) {
    let shop = Shop::open(engine);
    let mut buyer = shop.buyer();
    let mut ada = Regular::of(&shop, &mut buyer);
    for (members, field) in [
        (json!({}), "pack"),
        (json!({"pack": "small"}), "below"),
        (json!({"pack": "small", "below": 100}), "monthly_max"),
        (json!({"pack": "absent", "below": 100, "monthly_max": 1}), "pack"),
        (json!({"pack": "any", "below": 100, "monthly_max": 1}), "pack"),
        (json!({"pack": "basic", "below": 100, "monthly_max": 1}), "pack"),
        (json!({"pack": "small", "below": 0, "monthly_max": 1}), "below"),
        (json!({"pack": "small", "below": 1.5, "monthly_max": 1}), "below"),
        (json!({"pack": "small", "below": 1, "monthly_max": 0}), "monthly_max"),
        (json!({"pack": "small", "below": 1, "monthly_max": 1, "enabled": "yes"}), "enabled"),
        (json!({"pack": "small", "below": 1, "monthly_max": 1, "amount": 5}), "amount"),
    ] {
        let answer = ada.try_put(members.clone());
        assert_eq!((answer.status, &answer.json()["field"]), (422, &json!(field)), "{members}");
    }
    let mut nobody = Regular::new(&shop, "nobody");
    assert_eq!(nobody.try_put(json!({"pack": "small", "below": 1, "monthly_max": 1})).status, 404);

    let wish = json!({"pack": "small", "below": 100, "monthlyMax": 2});
    let mut own = |members: Value| buyer.browser.post("/api/auth/billing/auto-topup", members);
    let shown = own(wish).expect(200).json();
    assert_eq!(
        (&shown["state"], &shown["monthlyMax"], &shown["retryAt"]),
        (&json!("idle"), &json!(2), &json!(null))
    );
    own(json!({"below": -1})).refused(400, "VALIDATION_ERROR");
    own(json!({"pack": "absent"})).refused(400, "VALIDATION_ERROR");
    own(json!({"enabled": false})).expect(200);
    ada.spend(450);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.shown()["state"].as_str()), (50, Some("disabled")));
    own(json!({"enabled": true})).expect(200);
    ada.until_balance(550);
    let mine = buyer.browser.get("/api/auth/billing/auto-topup").expect(200).json();
    assert_eq!((&mine["count"], &mine["below"]), (&json!(1), &json!(100)));
    shop.expect_sound();
}
on_both_engines!(it_is_switched_on_and_off_by_whoever_may);

/// One that was read before a refund, by another process, and is ready to be applied after it.
fn what_was_read_before_a_refund_is_not_applied_after_it(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(1);
    ada.spend(450);
    ada.until_balance(550);
    shop.settled();
    let payment = ada.newest_payment();
    let arrived = shop.till.events_of("payment_intent.succeeded").pop().expect("an event");
    // The last of its calls: the refunds were read before.
    shop.till.fault_on("/v1/disputes", Fault::Slow(Duration::from_millis(2_500)), 1);
    std::thread::scope(|scope| {
        let replay =
            scope.spawn(|| shop.server.command(&["billing", "replay", &arrived, "--json"]).expect_done());
        until(PATIENCE, "the look", || (shop.till.faults_left() == 0).then_some(()));
        shop.till.refund(&payment, None).expect("all goes back");
        shop.settled();
        assert_eq!(ada.balance(), 50);
        replay.join().expect("it ends");
    });
    assert_eq!(ada.balance(), 50);
    shop.expect_sound();
}
on_both_engines!(what_was_read_before_a_refund_is_not_applied_after_it);

fn what_is_switched_off_before_stripe_was_asked_is_not_charged(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    // Nobody can find out how they pay.
    shop.till.fault_on("/v1/customers", Fault::Status(503), 4);
    ada.spend(450);
    until(PATIENCE, "the look", || (shop.till.faults_left() == 0).then_some(()));
    assert_eq!(ada.put(json!({"enabled": false}))["state"], "in_flight");
    until(PATIENCE, "the end of it", || {
        ada.time_passes(HOUR / 4);
        (ada.shown()["state"] == "disabled").then_some(())
    });
    assert_eq!((ada.balance(), ada.payments()), (50, Vec::new()));
    shop.expect_sound();
}
on_both_engines!(what_is_switched_off_before_stripe_was_asked_is_not_charged);

fn a_pack_that_is_not_sold_any_more_is_not_charged(engine: Engine) {
    let mut shop = Shop::open(engine);
    let id = {
        let mut buyer = shop.buyer();
        let mut ada = Regular::of(&shop, &mut buyer);
        ada.wants(9);
        ada.id
    };
    let sells =
        "[stripe.packs.small]\nprice = \"price_small\"\ncredits = 500\namount = 1000\nunit = \"tokens\"\n";
    shop.server.stop();
    shop.server.reconfigure(&format!("[credits]\nunits = [\"credits\", \"tokens\"]\n{sells}"));
    shop.server.restart();
    let mut ada = Regular::new(&shop, &id);
    ada.spend(450);
    until(PATIENCE, "the word", || (ada.shown()["error"] == "pack_gone").then_some(()));
    assert_eq!((ada.balance(), ada.payments().len(), &ada.shown()["state"]), (50, 0, &json!("idle")));
    let status = shop.server.command(&["billing", "status", "--json"]).expect_done().json();
    assert_eq!(status["top_ups"], json!({"idle": 1}));
    shop.expect_sound();
}
on_both_engines!(a_pack_that_is_not_sold_any_more_is_not_charged);

/// Stripe says it knows no such payment, as with a key of another account; then it turns out that it was paid.
fn a_payment_that_was_given_up_and_was_paid_after_all_is_granted(engine: Engine) {
    let shop = Shop::open(engine);
    let mut ada = Regular::of(&shop, &mut shop.buyer());
    ada.wants(9);
    shop.till.hold_deliveries();
    shop.till.fault_on("/v1/payment_intents/", Fault::Status(404), 1);
    ada.spend(450);
    let shown = ada.until_state("backing_off");
    assert_eq!((&shown["error"], &shown["count"], ada.balance()), (&json!("payment_gone"), &json!(0), 50));
    shop.till.release_deliveries();
    until(PATIENCE, "what was paid", || (ada.balance() == 550).then_some(()));
    shop.settled();
    assert_eq!((ada.payments(), &ada.shown()["count"]), (vec!["succeeded".to_owned()], &json!(1)));
    // There is no reason to buy any more when the pause is over.
    ada.time_passes(HOUR);
    a_look_passes(&shop);
    assert_eq!((ada.balance(), ada.payments().len()), (550, 1));
    shop.expect_sound();
}
on_both_engines!(a_payment_that_was_given_up_and_was_paid_after_all_is_granted);
