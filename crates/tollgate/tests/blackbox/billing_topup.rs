//! Automatic top-ups: spending that leaves little buys one pack; what fails waits, and what is over is over.

use serde_json::{Value, json};
use till::DisputeStep;

use crate::harness::credits::{in_milliseconds, make_users};
use crate::harness::database::quoted;
use crate::harness::regular::{HOUR, PATIENCE, Regular, a_look_passes};
use crate::harness::shop::Shop;
use crate::harness::{Engine, until};
use crate::on_both_engines;

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
