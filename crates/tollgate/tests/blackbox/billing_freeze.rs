//! Disputed credits under `on_dispute = "freeze"`: kept from being spent until it is decided, whatever limits say.

use serde_json::{Value, json};
use till::DisputeStep;

use crate::harness::Engine;
use crate::harness::credits::{Backend, books_balance, count_entries, items, refused};
use crate::harness::shop::{Buyer, Shop};
use crate::on_both_engines;

fn freezing(engine: Engine) -> Shop {
    Shop::with(engine, "on_dispute = \"freeze\"\n[accounts]\ndelete_user = true\n")
}

fn id(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}

#[track_caller]
fn expect(buyer: &Buyer<'_>, balance: i64, available: i64) {
    let credits = buyer.credits();
    assert_eq!(
        (&credits["balance"], &credits["available"]),
        (&json!(balance), &json!(available)),
        "{credits}"
    );
}

fn a_limit_neither_stops_nor_counts_a_freeze(engine: Engine) {
    let shop = freezing(engine);
    for step in [DisputeStep::Win, DisputeStep::Lose] {
        let mut buyer = shop.buyer();
        let session = buyer.buy("small");
        shop.settled();
        let mut backend = Backend::of(&shop.server);
        let limit = json!({"user_id": buyer.id, "window": "day", "max": 100});
        backend.put("limits", &limit).expect(200);
        buyer.spend(80);
        let used = |backend: &mut Backend| {
            let limits = backend.get(&format!("limits?user_id={}", buyer.id)).expect(200).json();
            items(&limits)[0]["used"].clone()
        };
        let dispute = shop.till.dispute(&session, None).expect("it is disputed");
        shop.settled();
        expect(&buyer, 420, 0);
        refused(&backend.debit(&buyer.id, 1), 402, "insufficient_credits");
        let holds = backend.get(&format!("holds?user_id={}&status=held", buyer.id)).expect(200).json();
        let [hold] = &items(&holds)[..] else { panic!("{holds}") };
        assert_eq!((&hold["amount"], &hold["expires_at"]), (&json!(420), &Value::Null));
        assert_eq!(used(&mut backend), 80);
        // A limit that is set now counts from the rows, and no freeze either.
        let month = json!({"user_id": buyer.id, "window": "month", "max": 100});
        assert_eq!(backend.put("limits", &month).expect(200).json()["limit"]["used"], 80);
        shop.till.step_dispute(id(&dispute), step).expect("it ends");
        shop.settled();
        assert_eq!(used(&mut backend), 80);
        let ended = backend.get(&format!("holds/{}", id(hold))).expect(200).json();
        let status =
            ended["hold"]["status"].as_str().or(ended["status"].as_str()).expect("a status").to_owned();
        if step == DisputeStep::Win {
            expect(&buyer, 420, 420);
            assert_eq!(status, "released");
            backend.debit(&buyer.id, 20).expect(201);
            refused(&backend.debit(&buyer.id, 1), 429, "limit_reached");
        } else {
            // What was spent already is owed.
            expect(&buyer, -80, -80);
            assert_eq!(status, "captured");
            assert_eq!(count_entries(&shop.server.database, &buyer.id, "clawback"), 1);
            assert_eq!(count_entries(&shop.server.database, &buyer.id, "capture"), 0);
            // It is won after all.
            shop.till.step_dispute(id(&dispute), DisputeStep::Appeal).expect("it is opened again");
            shop.settled();
            expect(&buyer, -80, -80);
            shop.till.step_dispute(id(&dispute), DisputeStep::Win).expect("it is won");
            shop.settled();
            expect(&buyer, 420, 420);
        }
    }
    shop.expect_sound();
    books_balance(&shop.server.database);
}
on_both_engines!(a_limit_neither_stops_nor_counts_a_freeze);

/// A lost dispute takes what was frozen for it, although its period is over, and not the next month's.
fn what_was_frozen_is_taken_although_its_period_is_over(engine: Engine) {
    let shop = freezing(engine);
    for (step, left) in [(DisputeStep::Win, 1_000), (DisputeStep::Lose, 1_000)] {
        let mut buyer = shop.buyer();
        let session = buyer.buy("basic");
        shop.settled();
        let session = shop.till.object(&session).expect("the session");
        let dispute = shop.till.dispute(session["invoice"].as_str().expect("an invoice"), None);
        let dispute = dispute.expect("it is disputed");
        shop.settled();
        expect(&buyer, 1_000, 0);
        shop.till.renew(session["subscription"].as_str().expect("a subscription")).expect("the second month");
        shop.settled();
        expect(&buyer, 2_000, 1_000);
        let owner =
            format!("account_id IN (SELECT id FROM credit_accounts WHERE owner = 'user:{}')", buyer.id);
        shop.periods_end(&format!("{owner} AND no = 1"));
        expect(&buyer, 2_000, 1_000);
        shop.till.step_dispute(id(&dispute), step).expect("it ends");
        shop.settled();
        expect(&buyer, left, left);
    }
    shop.expect_sound();
}
on_both_engines!(what_was_frozen_is_taken_although_its_period_is_over);

/// A part of a payment is disputed after another part of it went back: the rest can be spent all the while.
fn only_what_is_disputed_is_frozen_and_taken(engine: Engine) {
    let shop = freezing(engine);
    for (step, left) in [(DisputeStep::Win, 200), (DisputeStep::Lose, 0)] {
        let mut buyer = shop.buyer();
        let session = buyer.buy("small");
        shop.till.refund(&session, Some(200)).expect("a fifth goes back");
        shop.settled();
        expect(&buyer, 400, 400);
        let dispute = shop.till.dispute(&session, Some(400)).expect("half of the rest is disputed");
        shop.settled();
        expect(&buyer, 400, 200);
        buyer.spend(200);
        for event in shop.till.events_of("charge.dispute.created") {
            shop.till.deliver(&event, 2).expect("again");
        }
        shop.settled();
        expect(&buyer, 200, 0);
        shop.till.step_dispute(id(&dispute), step).expect("it ends");
        shop.settled();
        expect(&buyer, left, left);
        buyer.buy("small");
        shop.settled();
        expect(&buyer, left + 500, left + 500);
    }
    shop.expect_sound();
}
on_both_engines!(only_what_is_disputed_is_frozen_and_taken);

/// The account is gone; the books go on.
fn a_dispute_of_a_deleted_user_is_frozen_and_decided(engine: Engine) {
    let shop = freezing(engine);
    for (step, left) in [(DisputeStep::Win, "500"), (DisputeStep::Lose, "0")] {
        let mut buyer = shop.buyer();
        let session = buyer.buy("small");
        shop.settled();
        let password = json!({"password": crate::harness::PASSWORD});
        buyer.browser.post("/api/auth/delete-user", password).expect(200);
        let dispute = shop.till.dispute(&session, None).expect("it is disputed");
        shop.settled();
        let stands = |what: &str| {
            let sql =
                format!("SELECT CAST({what} AS TEXT) FROM credit_accounts WHERE owner = 'user:{}'", buyer.id);
            shop.server.database.value(&sql).expect("an account")
        };
        assert_eq!((stands("balance").as_str(), stands("held").as_str()), ("500", "500"));
        shop.till.step_dispute(id(&dispute), step).expect("it ends");
        shop.settled();
        assert_eq!((stands("balance").as_str(), stands("held").as_str()), (left, "0"));
    }
    shop.expect_sound();
}
on_both_engines!(a_dispute_of_a_deleted_user_is_frozen_and_decided);
