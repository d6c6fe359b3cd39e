//! Many debits in one request: all or each, and every item as the single call would be.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, counted, field, figures, fresh_key, is_replay, ledger_rows, ledger_verifies,
    make_user, make_users, merged, number, refused,
};
use crate::harness::{Engine, Request, Server};
use crate::on_both_engines;

const PRICES: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\nfeatures = { \"image\" = 5, \"text\" = { amount = 2, unit = \"tokens\" } }\n";

fn a_batch_does_all_or_each_of_its_debits(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 100);
    for user in &users {
        backend.grant(user, if user == &users[41] { 1 } else { 5 });
    }
    let debits: Vec<Value> = users
        .iter()
        .map(|user| json!({"user_id": user, "amount": 2, "idempotency_key": format!("batch-{user}")}))
        .collect();
    let before = ledger_rows(&server.database);
    let mut batch = |atomic: bool, debits: &[Value]| {
        let body = json!({"debits": debits, "atomic": atomic});
        let answer = backend.try_post("debits/batch", None, &body).expect("an answer").expect(200).json();
        answer["results"].as_array().expect("results").clone()
    };
    let none = batch(true, &debits);
    assert_eq!(none.len(), 100);
    for (at, result) in none.iter().enumerate() {
        let (status, code) = if at == 41 { (402, "insufficient_credits") } else { (409, "conflict") };
        assert_eq!((&result["status"], &result["error"]["error_code"]), (&json!(status), &json!(code)));
        assert!(result["entry"].is_null(), "{result}");
    }
    assert_eq!(ledger_rows(&server.database), before, "an atomic batch that was refused left a row");
    let each = batch(false, &debits);
    let statuses = each.iter().map(|result| result["status"].as_u64().unwrap_or_default() as u16);
    assert_eq!(counted(statuses), BTreeMap::from([(201, 99), (402, 1)]));
    assert_eq!(each[41]["status"], 402);
    assert_eq!(each[0]["entry"]["user_id"], users[0].as_str());
    let again = batch(false, &debits);
    for (first, second) in each.iter().zip(&again).filter(|(first, _)| first["status"] == 201) {
        assert_eq!((&second["status"], &second["replayed"]), (&json!(201), &json!(true)), "{second}");
        assert_eq!(first["entry"], second["entry"]);
    }
    let sum = "SELECT CAST(SUM(amount) AS BIGINT) FROM credit_entries WHERE kind = 'debit'";
    assert_eq!(server.database.integer(sum), -198);
    let all = batch(true, &[debits[0].clone(), merged(debits[1].clone(), json!({"idempotency_key": "new"}))]);
    assert_eq!((&all[0]["replayed"], &all[1]["status"]), (&json!(true), &json!(201)), "{all:?}");
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_batch_does_all_or_each_of_its_debits);

fn items_of_a_batch_are_judged_as_single_calls_are(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 10);
    let item = |key: &str, more: Value| merged(json!({"user_id": user, "idempotency_key": key}), more);
    let debits = [
        item("one", json!({"amount": 2})),
        item("one", json!({"amount": 2})),
        item("one", json!({"amount": 3})),
        item("bad", json!({"amount": 0})),
        item("poor", json!({"amount": 100})),
        item("image", json!({"feature": "image"})),
        json!({"user_id": "nobody", "amount": 1, "idempotency_key": "nobody"}),
    ];
    let answer = backend.try_post("debits/batch", None, &json!({"debits": debits})).expect("an answer");
    let results = answer.expect(200).json()["results"].clone();
    let statuses: Vec<u64> =
        results.as_array().expect("results").iter().filter_map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [201, 201, 409, 422, 402, 201, 404], "{results}");
    assert_eq!((&results[1]["replayed"], &results[1]["entry"]), (&json!(true), &results[0]["entry"]));
    assert_eq!(results[2]["error"]["error_code"], "idempotency_mismatch");
    assert_eq!(results[2]["error"]["field"], "debits[2].amount");
    assert_eq!(results[3]["error"]["field"], "debits[3].amount");
    assert_eq!(
        (&results[5]["entry"]["feature"], &results[5]["entry"]["amount"]),
        (&json!("image"), &json!(-5))
    );
    assert_eq!(figures(&backend.balance(&user)), [3, 0, 3, 0]);
    let single = backend.post("debits", "one", &json!({"user_id": user, "amount": 2})).expect(201);
    assert!(is_replay(&single) && single.json()["entry"] == results[0]["entry"], "{}", single.text());
    for count in [0, 1_001] {
        let debits = vec![item("many", json!({"amount": 1})); count];
        let refusal = backend.try_post("debits/batch", None, &json!({"debits": debits})).expect("an answer");
        assert_eq!(refused(&refusal, 422, "invalid_request")["field"], "debits");
    }
    books_balance(&server.database);
}
on_both_engines!(items_of_a_batch_are_judged_as_single_calls_are);

fn a_batch_answers_each_item_as_the_single_call_would(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 10);
    let keys = [fresh_key(), fresh_key(), fresh_key()];
    let item = |key: &str, amount: i64| json!({"user_id": user, "amount": amount, "idempotency_key": key});
    let debits = json!([
        item(&keys[0], 4),
        item(&keys[0], 4),
        item(&keys[0], 5),
        item(&keys[1], 7),
        json!({"user_id": user, "amount": 1.5, "idempotency_key": keys[2]}),
        json!({"user_id": user, "amount": 1}),
        json!({"user_id": "nobody", "amount": 1, "idempotency_key": keys[2]}),
        7,
        json!({"user_id": user, "amount": 1, "idempotency_key": keys[2], "more": 1}),
        item(&keys[2], 6),
    ]);
    let batch = |backend: &mut Backend, body: Value| {
        backend.send(Request::post("/api/credits/debits/batch", &body)).expect(200).json()["results"].clone()
    };
    let results = batch(&mut backend, json!({"debits": debits}));
    let found: Vec<(i64, &str, &str)> = results
        .as_array()
        .expect("a list")
        .iter()
        .map(|result| {
            let error = &result["error"];
            let member = |name: &str| error[name].as_str().unwrap_or_default();
            (number(&result["status"]), member("error_code"), member("field"))
        })
        .collect();
    let invalid = "invalid_request";
    let expected = [
        (201, "", ""),
        (201, "", ""),
        (409, "idempotency_mismatch", "debits[2].amount"),
        (402, "insufficient_credits", ""),
        (422, invalid, "debits[4].amount"),
        (422, invalid, "debits[5].idempotency_key"),
        (404, "not_found", "debits[6].user_id"),
        (422, invalid, "debits[7]"),
        (422, invalid, "debits[8].more"),
        (201, "", ""),
    ];
    assert_eq!(found, expected);
    assert_eq!((&results[0]["replayed"], &results[1]["replayed"]), (&Value::Null, &json!(true)));
    assert_eq!(results[0]["entry"], results[1]["entry"]);
    assert_eq!(figures(&results[9]["balance"]), [0, 0, 0, 0]);
    // A key means the same through the single call.
    let single = backend.post("debits", &keys[0], &json!({"user_id": user, "amount": 4}));
    assert!(is_replay(&single) && single.json()["entry"] == results[0]["entry"], "{}", single.text());

    let before = ledger_rows(&server.database);
    for last in [item(&keys[1], 7), json!({"user_id": user, "amount": 0, "idempotency_key": fresh_key()})] {
        let first = item(&fresh_key(), 1);
        backend.grant(&user, 1);
        let before = ledger_rows(&server.database);
        let results = batch(&mut backend, json!({"debits": [first, last], "atomic": true}));
        assert_eq!(
            (&results[0]["status"], &results[0]["error"]["error_code"]),
            (&json!(409), &json!("conflict"))
        );
        assert_ne!(results[1]["error"]["error_code"], "conflict", "{results}");
        assert_eq!(ledger_rows(&server.database), before);
    }
    assert_ne!(ledger_rows(&server.database), before);
    let many: Vec<Value> = (0..1_001).map(|_| item(&fresh_key(), 1)).collect();
    for body in [json!({"debits": []}), json!({"debits": many}), json!({}), json!({"debits": {}})] {
        let refusal = backend.send(Request::post("/api/credits/debits/batch", &body));
        assert_eq!(field(&refusal, 422, "invalid_request"), "debits");
    }
}
on_both_engines!(a_batch_answers_each_item_as_the_single_call_would);
