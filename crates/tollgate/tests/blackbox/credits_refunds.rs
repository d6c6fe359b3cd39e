//! Refunds: never more than was taken, and back to where it came from.

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, DAY, books_balance, figures, fresh_key, in_milliseconds, is_replay, ledger_verifies, make_user,
    merged, parts, refused, text, wait_until_past,
};
use crate::harness::{Engine, Server};
use crate::on_both_engines;

fn refunds_never_give_back_more_than_was_taken(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let promo = backend.grant_with(&user, 12, json!({"expires_at": in_milliseconds(DAY)}));
    let promo = text(&promo["grant"]["id"]);
    let granted = backend.grant(&user, 100);
    let (paid, grant_entry) = (text(&granted["grant"]["id"]), text(&granted["entry"]["id"]));
    let entry = text(&backend.debit(&user, 30).expect(201).json()["entry"]["id"]);
    let mut refund = |key: &str, entry: &str, amount: Value| {
        backend.post("refunds", key, &merged(json!({"entry_id": entry, "reason": "broken"}), amount))
    };
    let first = refund("first", &entry, json!({"amount": 20})).expect(201);
    let body = first.json();
    assert_eq!(parts(&body["entry"]), [(paid, 18), (promo.clone(), 2)]);
    assert_eq!((&body["entry"]["kind"], &body["entry"]["refund_of"]), (&json!("refund"), &json!(entry)));
    assert_eq!(figures(&body["balance"]), [102, 0, 102, 0]);
    let again = refund("first", &entry, json!({"amount": 20})).expect(201);
    assert!(is_replay(&again) && again.body == first.body, "{}", again.text());
    let second = refund("second", &entry, json!({"amount": 20}));
    assert_eq!(refused(&second, 409, "conflict")["refundable"], 10);
    let rest = refund("second", &entry, json!({})).expect(201).json();
    assert_eq!(parts(&rest["entry"]), [(promo, 10)]);
    assert_eq!(figures(&rest["balance"]), [112, 0, 112, 0]);
    let nothing = refund("third", &entry, json!({}));
    assert_eq!(refused(&nothing, 409, "conflict")["refundable"], 0);
    let of_a_grant = refund("fourth", &grant_entry, json!({}));
    assert_eq!(refused(&of_a_grant, 422, "invalid_request")["field"], "entry_id");
    refused(&refund("fifth", &format!("{entry}0"), json!({})), 404, "not_found");
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(refunds_never_give_back_more_than_was_taken);

fn a_refund_into_an_ended_lot_is_written_off_at_once(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let end = in_milliseconds(2_000);
    backend.grant_with(&user, 10, json!({"expires_at": end}));
    backend.grant(&user, 10);
    let entry = text(&backend.debit(&user, 15).expect(201).json()["entry"]["id"]);
    wait_until_past(&end);
    let body = json!({"entry_id": entry, "reason": "broken"});
    let refunded = backend.post("refunds", &fresh_key(), &body).expect(201).json();
    assert_eq!(refunded["entry"]["amount"], 15);
    assert_eq!(figures(&refunded["balance"]), [10, 0, 10, 0]);
    let kinds: Vec<String> = backend.entries(&user).iter().map(|entry| text(&entry["kind"])).collect();
    assert_eq!(kinds, ["grant", "grant", "debit", "refund", "expiry"]);
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_refund_into_an_ended_lot_is_written_off_at_once);
