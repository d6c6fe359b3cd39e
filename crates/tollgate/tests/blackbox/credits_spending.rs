//! What a debit takes, and in which order: lots, their ends, debt; single and in batches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, DAY, books_balance, count_entries, counted, figures, fresh_key, in_milliseconds,
    ledger_verifies, make_user, make_users, number, parts, refused, text, wait_until_past,
};
use crate::harness::{Engine, Server, in_parallel};
use crate::on_both_engines;

fn a_thousand_concurrent_debits_spend_a_hundred_credits_exactly(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    let next = AtomicUsize::new(0);
    let statuses = in_parallel(32, |_| {
        let mut caller = backend.another();
        let mut statuses = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < 1_000 {
            let answer = caller.debit(&user, 1);
            if answer.status == 402 {
                let body = refused(&answer, 402, "insufficient_credits");
                assert_eq!((&body["required"], &body["unit"]), (&json!(1), &json!("credits")), "{body}");
                assert!(body["balance"].is_i64() && body["available"].is_i64(), "{body}");
            }
            statuses.push(answer.status);
        }
        statuses
    });
    assert_eq!(counted(statuses.into_iter().flatten()), BTreeMap::from([(201, 100), (402, 900)]));
    assert_eq!(figures(&backend.balance(&user)), [0, 0, 0, 0]);
    assert_eq!(count_entries(&server.database, &user, "debit"), 100);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_thousand_concurrent_debits_spend_a_hundred_credits_exactly);

fn lots_are_spent_by_end_then_gifts_before_plans_before_bought_ones(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let mut grant = |more: Value| text(&backend.grant_with(&user, 10, more)["grant"]["id"]);
    let paid = grant(json!({"source": "paid"}));
    let plan = grant(json!({"source": "plan", "expires_at": in_milliseconds(30 * DAY)}));
    let promo = grant(json!({"source": "promo", "expires_at": in_milliseconds(DAY)}));
    let gift = grant(json!({"source": "promo"}));
    let late = grant(json!({"source": "promo", "expires_at": in_milliseconds(DAY), "priority": 51}));
    let first = grant(json!({"source": "paid", "priority": 0}));
    let order = [first, promo, plan, gift, paid, late];
    let debited = backend.debit(&user, 55).expect(201).json();
    let expected: Vec<(String, i64)> =
        order.iter().zip([10, 10, 10, 10, 10, 5]).map(|(id, amount)| (id.clone(), -amount)).collect();
    assert_eq!(parts(&debited["entry"]), expected);
    assert_eq!(debited["entry"]["amount"], -55);
    assert_eq!(figures(&debited["balance"]), [5, 0, 5, 0]);
    books_balance(&server.database);
}
on_both_engines!(lots_are_spent_by_end_then_gifts_before_plans_before_bought_ones);

fn three_lots_pay_a_debit_in_burn_down_order(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let mut grant = |more: Value| text(&backend.grant_with(&user, 10, more)["grant"]["id"]);
    let promo = grant(json!({"source": "promo", "expires_at": in_milliseconds(DAY)}));
    let paid = grant(json!({"source": "paid"}));
    let plan = grant(json!({"source": "plan", "expires_at": in_milliseconds(30 * DAY)}));
    let debited = backend.debit(&user, 25).expect(201).json();
    assert_eq!(parts(&debited["entry"]), [(promo, -10), (plan, -10), (paid, -5)]);
}
on_both_engines!(three_lots_pay_a_debit_in_burn_down_order);

/// More lots than are read at once.
fn two_hundred_small_lots_pay_one_debit_in_their_order(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let lots: Vec<String> = (0..200).map(|_| text(&backend.grant(&user, 2)["grant"]["id"])).collect();
    let debited = backend.debit(&user, 399).expect(201).json();
    let paid = parts(&debited["entry"]);
    assert_eq!(paid.iter().map(|(id, _)| id).collect::<Vec<_>>(), lots.iter().collect::<Vec<_>>());
    assert_eq!(paid.iter().map(|(_, amount)| amount).sum::<i64>(), -399);
    refused(&backend.debit(&user, 2), 402, "insufficient_credits");
    backend.debit(&user, 1).expect(201);
    books_balance(&server.database);
}
on_both_engines!(two_hundred_small_lots_pay_one_debit_in_their_order);

fn an_expired_lot_is_never_counted(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let [read_first, spent_first] = &make_users(&server, 2)[..] else { panic!("two were made") };
    let end = in_milliseconds(2_000);
    for user in [read_first, spent_first] {
        backend.grant_with(user, 10, json!({"expires_at": end}));
        backend.grant(user, 3);
    }
    wait_until_past(&end);
    assert_eq!(figures(&backend.balance(read_first)), [3, 0, 3, 0]);
    for user in [read_first, spent_first] {
        let body = refused(&backend.debit(user, 4), 402, "insufficient_credits");
        assert_eq!((number(&body["balance"]), number(&body["available"])), (3, 3));
        let debited = backend.debit(user, 3).expect(201).json();
        assert_eq!(figures(&debited["balance"]), [0, 0, 0, 0]);
        let entries = backend.entries(user);
        let expiries: Vec<&Value> = entries.iter().filter(|entry| entry["kind"] == "expiry").collect();
        let [expiry] = expiries[..] else { panic!("one lot has ended: {entries:?}") };
        assert_eq!((&expiry["amount"], &expiry["created_at"]), (&json!(-10), &json!(end)), "{expiry}");
        assert_eq!(expiry["actor"], "system");
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(an_expired_lot_is_never_counted);

fn what_is_owed_is_paid_by_the_next_grant(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 10);
    backend.put("accounts", &json!({"user_id": user, "unit": "credits", "negative_floor": -20})).expect(200);
    let mut debit = |amount: i64, negative: bool| {
        let body = json!({"user_id": user, "amount": amount, "allow_negative": negative});
        backend.post("debits", &fresh_key(), &body)
    };
    refused(&debit(11, false), 402, "insufficient_credits");
    refused(&debit(31, true), 402, "insufficient_credits");
    let debited = debit(25, true).expect(201).json();
    assert_eq!(figures(&debited["balance"]), [-15, 0, -15, 15]);
    assert_eq!(debited["entry"]["parts"][1], json!({"grant_id": null, "amount": -15}));
    let granted = backend.grant(&user, 40);
    assert_eq!(figures(&granted["balance"]), [25, 0, 25, 0]);
    assert_eq!(granted["grant"]["remaining"], 25);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(what_is_owed_is_paid_by_the_next_grant);
