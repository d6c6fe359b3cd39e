//! Holds: what they keep free, how they end, and what a capture may take.

use serde_json::json;

use crate::harness::credits::{
    Backend, DAY, books_balance, count_entries, figures, fresh_key, in_milliseconds, ledger_verifies,
    make_user, make_users, merged, number, parts, post, refused, text, wait_until_past,
};
use crate::harness::{Engine, Request, Server, in_parallel};
use crate::on_both_engines;

fn a_second_hold_finds_only_what_is_available(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    backend.hold(&user, 60);
    let body = json!({"user_id": user, "amount": 60, "expires_in": 60});
    let refusal = refused(&backend.post("holds", &fresh_key(), &body), 402, "insufficient_credits");
    assert_eq!((number(&refusal["balance"]), number(&refusal["available"])), (100, 40));
    refused(&backend.debit(&user, 41), 402, "insufficient_credits");
    assert_eq!(figures(&backend.balance(&user)), [100, 60, 40, 0]);
    books_balance(&server.database);
}
on_both_engines!(a_second_hold_finds_only_what_is_available);

fn a_partial_capture_frees_the_rest_into_its_lots_at_once(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    let promo = text(
        &backend.grant_with(&user, 30, json!({"source": "promo", "expires_at": in_milliseconds(DAY)}))["grant"]
            ["id"],
    );
    let paid = text(&backend.grant(&user, 70)["grant"]["id"]);
    let hold = backend.hold(&user, 60);
    let captured = backend.post(&format!("holds/{hold}/capture"), &fresh_key(), &json!({"amount": 45}));
    let captured = captured.expect(200).json();
    assert_eq!(
        (&captured["hold"]["status"], &captured["hold"]["captured"]),
        (&json!("captured"), &json!(45))
    );
    assert_eq!(
        (&captured["entry"]["kind"], &captured["entry"]["hold_id"]),
        (&json!("capture"), &json!(hold))
    );
    assert_eq!(parts(&captured["entry"]), [(promo, -30), (paid.clone(), -15)]);
    assert_eq!(figures(&captured["balance"]), [55, 0, 55, 0]);
    let balance = backend.balance(&user);
    let left: Vec<(String, i64)> = balance["grants"]
        .as_array()
        .expect("grants")
        .iter()
        .map(|grant| (text(&grant["id"]), number(&grant["remaining"])))
        .collect();
    assert_eq!(left, [(paid, 55)]);
    let again = backend.post(&format!("holds/{hold}/capture"), &fresh_key(), &json!({}));
    refused(&again, 409, "conflict");
    books_balance(&server.database);
}
on_both_engines!(a_partial_capture_frees_the_rest_into_its_lots_at_once);

fn one_of_a_hundred_captures_and_releases_ends_a_hold(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    let hold = backend.hold(&user, 60);
    let answers = in_parallel(100, |number| {
        let operation = if number.is_multiple_of(2) { "capture" } else { "release" };
        let path = format!("holds/{hold}/{operation}");
        (operation, backend.another().post(&path, &fresh_key(), &json!({})))
    });
    let winners: Vec<&str> =
        answers.iter().filter(|(_, answer)| answer.status == 200).map(|(operation, _)| *operation).collect();
    let [winner] = winners[..] else { panic!("{} have ended it", winners.len()) };
    for (_, answer) in answers.iter().filter(|(_, answer)| answer.status != 200) {
        refused(answer, 409, "conflict");
    }
    let expected = if winner == "capture" { [40, 0, 40, 0] } else { [100, 0, 100, 0] };
    assert_eq!(figures(&backend.balance(&user)), expected);
    assert_eq!(count_entries(&server.database, &user, "capture"), i64::from(winner == "capture"));
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(one_of_a_hundred_captures_and_releases_ends_a_hold);

enum Capture {
    Spends(i64),
    Refused(u16, &'static str),
}

fn a_capture_above_the_hold_follows_its_policy(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    // Policy and amount; what is spent, or the refusal.
    let cases = [
        (json!({}), 60, Capture::Spends(60)),
        (json!({}), 90, Capture::Refused(409, "conflict")),
        (json!({"above": "refuse"}), 61, Capture::Refused(409, "conflict")),
        (json!({"above": "cap"}), 90, Capture::Spends(60)),
        (json!({"above": "balance"}), 90, Capture::Spends(90)),
        (json!({"above": "balance"}), 101, Capture::Refused(402, "insufficient_credits")),
        (json!({"above": "floor"}), 90, Capture::Spends(90)),
        (json!({"above": "floor"}), 120, Capture::Spends(120)),
        (json!({"above": "floor"}), 130, Capture::Refused(402, "insufficient_credits")),
    ];
    for ((policy, amount, expected), user) in cases.into_iter().zip(make_users(&server, 9)) {
        backend.grant(&user, 100);
        let floor = json!({"user_id": user, "unit": "credits", "negative_floor": -20});
        backend.put("accounts", &floor).expect(200);
        let hold = backend.hold(&user, 60);
        let body = merged(json!({"amount": amount}), policy.clone());
        let path = format!("holds/{hold}/capture");
        let answer = backend.post(&path, &fresh_key(), &body);
        match expected {
            Capture::Spends(spent) => {
                let captured = answer.expect(200).json();
                let (entry, hold) = (&captured["entry"], &captured["hold"]);
                assert_eq!(
                    (number(&entry["amount"]), number(&hold["captured"])),
                    (-spent, spent),
                    "{policy}"
                );
                let left = 100 - spent;
                assert_eq!(
                    figures(&captured["balance"]),
                    [left, 0, left, (-left).max(0)],
                    "{policy} {amount}"
                );
            }
            Capture::Refused(status, code) => {
                refused(&answer, status, code);
                assert_eq!(figures(&backend.balance(&user)), [100, 60, 40, 0], "{policy} {amount}");
                backend.post(&path, &fresh_key(), &json!({})).expect(200);
            }
        }
    }
    let rich = make_user(&server);
    backend.grant(&rich, 10);
    let hold = backend.hold(&rich, 1);
    let odd = backend.post(&format!("holds/{hold}/capture"), &fresh_key(), &json!({"above": "all"}));
    assert_eq!(refused(&odd, 422, "invalid_request")["field"], "above");
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_capture_above_the_hold_follows_its_policy);

/// What is held of a lot that has ended can still be spent; what is not spent of it is written off.
fn a_held_part_outlives_its_lot_until_the_hold_ends(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 2);
    let end = in_milliseconds(2_000);
    let holds: Vec<String> = users
        .iter()
        .map(|user| {
            backend.grant_with(user, 10, json!({"expires_at": end}));
            backend.hold(user, 6)
        })
        .collect();
    wait_until_past(&end);
    for user in &users {
        assert_eq!(figures(&backend.balance(user)), [6, 6, 0, 0]);
    }
    let captured = backend.post(&format!("holds/{}/capture", holds[0]), &fresh_key(), &json!({"amount": 4}));
    let captured = captured.expect(200).json();
    assert_eq!(captured["entry"]["amount"], -4);
    assert_eq!(figures(&captured["balance"]), [0, 0, 0, 0]);
    let released = backend.post(&format!("holds/{}/release", holds[1]), &fresh_key(), &json!({}));
    assert_eq!(figures(&released.expect(200).json()["balance"]), [0, 0, 0, 0]);
    for user in &users {
        assert_eq!(count_entries(&server.database, user, "expiry"), 2);
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_held_part_outlives_its_lot_until_the_hold_ends);

fn a_hold_ends_by_itself_and_can_be_extended(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 100);
    let mut hold = |amount: i64| {
        let body = json!({"user_id": user, "amount": amount, "expires_in": 2});
        let made = backend.post("holds", &fresh_key(), &body).expect(201).json();
        (text(&made["hold"]["id"]), text(&made["hold"]["expires_at"]))
    };
    let ((kept, first_end), (left, end)) = (hold(20), hold(30));
    let extended = backend.try_post(&format!("holds/{kept}/extend"), None, &json!({"expires_in": 3_600}));
    let extended = extended.expect("an answer").expect(200).json();
    assert_eq!((&extended["hold"]["id"], &extended["hold"]["status"]), (&json!(kept), &json!("held")));
    wait_until_past(&first_end);
    wait_until_past(&end);
    assert_eq!(figures(&backend.balance(&user)), [100, 20, 80, 0]);
    assert_eq!(backend.get(&format!("holds/{left}")).expect(200).json()["status"], "expired");
    for operation in ["capture", "release"] {
        let late = backend.post(&format!("holds/{left}/{operation}"), &fresh_key(), &json!({}));
        refused(&late, 409, "conflict");
    }
    refused(
        &backend
            .try_post(&format!("holds/{left}/extend"), None, &json!({"expires_in": 60}))
            .expect("an answer"),
        409,
        "conflict",
    );
    backend.post(&format!("holds/{kept}/capture"), &fresh_key(), &json!({})).expect(200);
    assert_eq!(figures(&backend.balance(&user)), [80, 0, 80, 0]);
    books_balance(&server.database);
}
on_both_engines!(a_hold_ends_by_itself_and_can_be_extended);

fn holds_are_captured_released_and_extended(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 100);
    let body = json!({"user_id": user, "amount": 30, "expires_in": 60, "reason": "a video"});
    let made = post(&mut backend, "holds", body).expect(201).json();
    assert_eq!((&made["hold"]["status"], figures(&made["balance"])), (&json!("held"), [100, 30, 70, 0]));
    let id = text(&made["hold"]["id"]);
    let extended =
        backend.send(Request::post(&format!("/api/credits/holds/{id}/extend"), &json!({"expires_in": 3600})));
    let extended = extended.expect(200).json();
    assert!(text(&extended["hold"]["expires_at"]) > text(&made["hold"]["expires_at"]), "{extended}");
    let over = post(&mut backend, &format!("holds/{id}/capture"), json!({"amount": 31}));
    refused(&over, 409, "conflict");
    let captured = post(&mut backend, &format!("holds/{id}/capture"), json!({"amount": 20, "above": "cap"}));
    let captured = captured.expect(200).json();
    assert_eq!(
        (&captured["hold"]["status"], &captured["hold"]["captured"]),
        (&json!("captured"), &json!(20))
    );
    assert_eq!((&captured["entry"]["hold_id"], figures(&captured["balance"])), (&json!(id), [80, 0, 80, 0]));
    for end in ["capture", "release"] {
        refused(&post(&mut backend, &format!("holds/{id}/{end}"), json!({})), 409, "conflict");
    }
    // Neither needs a body.
    let bare = |backend: &mut Backend, id: &str, end: &str| {
        let request = Request::new("POST", &format!("/api/credits/holds/{id}/{end}"));
        backend.send(request.header("Idempotency-Key", &fresh_key())).expect(200).json()
    };
    let second = backend.hold(&user, 10);
    assert_eq!(bare(&mut backend, &second, "release")["hold"]["status"], "released");
    let third = backend.hold(&user, 10);
    assert_eq!(figures(&bare(&mut backend, &third, "capture")["balance"]), [70, 0, 70, 0]);
    for id in ["x", "", &format!("{}h9", &id[..20]), "aaaaaaaaaaaaaaaaaaaah1", "%00", "..%2f"] {
        refused(&post(&mut backend, &format!("holds/{id}/capture"), json!({})), 404, "not_found");
    }
}
on_both_engines!(holds_are_captured_released_and_extended);
