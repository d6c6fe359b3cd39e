//! Limits by day and month: what counts, what gives back, and what the refusal says.

use kernel::Millis;
use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, field, figures, fresh_key, items, make_user, merged, now, post, refused, text,
};
use crate::harness::{Engine, Server};
use crate::on_both_engines;

fn a_day_limit_names_the_cap_that_it_meets(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 1_000);
    let limit = json!({"user_id": user, "unit": "credits", "window": "day", "max": 50});
    backend.put("limits", &limit).expect(200);
    let first = text(&backend.debit(&user, 20).expect(201).json()["entry"]["id"]);
    let hold = backend.hold(&user, 20);
    let third = backend.debit(&user, 20);
    let body = refused(&third, 429, "limit_reached");
    let expected = json!({"scope": "user", "id": user, "window": "day", "max": 50, "used": 40});
    assert_eq!(body["limit"], expected, "{body}");
    assert!(body["resets_at"].as_str().is_some_and(|at| at.ends_with("T00:00:00.000Z")), "{body}");
    let seconds = third.header("Retry-After").and_then(|text| text.parse::<i64>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=24 * 3_600).contains(&seconds)), "{third:?}");
    backend.debit(&user, 10).expect(201);
    refused(&backend.debit(&user, 1), 429, "limit_reached");
    // What comes back may be spent again.
    backend.post("refunds", &fresh_key(), &json!({"entry_id": first, "reason": "broken"})).expect(201);
    backend.post(&format!("holds/{hold}/release"), &fresh_key(), &json!({})).expect(200);
    backend.debit(&user, 40).expect(201);
    refused(&backend.debit(&user, 1), 429, "limit_reached");
    let lifted = merged(limit, json!({"max": null}));
    backend.put("limits", &lifted).expect(200);
    backend.debit(&user, 100).expect(201);
    books_balance(&server.database);
}
on_both_engines!(a_day_limit_names_the_cap_that_it_meets);

fn limits_count_what_was_spent_before_and_refuse_what_is_over(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 1_000);
    let first = backend.debit(&user, 30).expect(201).json();
    backend.debit(&user, 10).expect(201);
    let hold = backend.hold(&user, 20);
    post(&mut backend, "refunds", json!({"entry_id": first["entry"]["id"], "amount": 5, "reason": "r"}))
        .expect(201);
    let set = |backend: &mut Backend, window: &str, max: Value| {
        let body = json!({"user_id": user, "window": window, "max": max});
        backend.put("limits", &body).expect(200).json()["limit"].clone()
    };
    let limit = set(&mut backend, "day", json!(60));
    for (name, value) in [
        ("scope", json!("user")),
        ("id", json!(user)),
        ("window", json!("day")),
        ("max", json!(60)),
        ("used", json!(55)),
    ] {
        assert_eq!(limit[name], value, "{limit}");
    }
    let over = backend.debit(&user, 6);
    let refusal = refused(&over, 429, "limit_reached");
    assert_eq!(
        refusal["limit"],
        json!({"scope": "user", "id": user, "window": "day", "max": 60, "used": 55}),
        "{refusal}"
    );
    assert_eq!(refusal["resets_at"], limit["resets_at"]);
    let seconds: i64 = over.header("Retry-After").and_then(|value| value.parse().ok()).expect("Retry-After");
    assert!((1..=86_400).contains(&seconds), "{seconds}");
    backend.debit(&user, 5).expect(201);
    // A hold that is released gives back.
    post(&mut backend, &format!("holds/{hold}/release"), json!({})).expect(200);
    backend.debit(&user, 20).expect(201);
    refused(&backend.debit(&user, 1), 429, "limit_reached");
    // Taken away and set again, it counts the same.
    assert_eq!(set(&mut backend, "day", Value::Null), Value::Null);
    backend.debit(&user, 1).expect(201);
    assert_eq!(set(&mut backend, "day", json!(500))["used"], 61);
    assert_eq!(set(&mut backend, "month", json!(62))["used"], 61);
    assert_eq!(refused(&backend.debit(&user, 2), 429, "limit_reached")["limit"]["window"], "month");
    assert_eq!(set(&mut backend, "month", json!(0))["max"], 0);
    refused(&backend.debit(&user, 1), 429, "limit_reached");
    for (name, body) in [
        ("key_id", json!({"user_id": user, "window": "day", "max": 1, "key_id": "x"})),
        ("member_user_id", json!({"user_id": user, "window": "day", "max": 1, "member_user_id": "x"})),
    ] {
        assert_eq!(field(&backend.put("limits", &body), 404, "not_found"), name);
    }
    for (name, body) in [
        ("max", json!({"user_id": user, "window": "day"})),
        ("max", json!({"user_id": user, "window": "day", "max": -1})),
        ("window", json!({"user_id": user, "window": "week", "max": 1})),
    ] {
        assert_eq!(field(&backend.put("limits", &body), 422, "invalid_request"), name);
    }
}
on_both_engines!(limits_count_what_was_spent_before_and_refuse_what_is_over);

/// On the far side of the date line a day is over when others have half of it before them.
fn days_are_those_of_the_configured_zone(engine: Engine) {
    let server = Server::with(engine, "[credits]\ntime_zone = \"Pacific/Kiritimati\"\n");
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 100);
    let there = || now().plus(14 * 3_600 * 1_000).iso()[..10].to_owned();
    let before = there();
    backend.debit(&user, 1).expect(201);
    let usage = backend.get(&format!("usage?user_id={user}")).expect(200).json();
    let after = there();
    let day = text(&items(&usage)[0]["day"]);
    assert!(day == before || day == after, "{day} is neither {before} nor {after}");
    for (window, end) in [("day", "T10:00:00.000Z"), ("month", "T10:00:00.000Z")] {
        let body = json!({"user_id": user, "window": window, "max": 1});
        let limit = backend.put("limits", &body).expect(200).json()["limit"].clone();
        assert_eq!(limit["used"], 1, "{limit}");
        assert!(text(&limit["resets_at"]).ends_with(end), "{limit}");
    }
    // Of two that are as tight the one that lasts longer.
    let over = backend.debit(&user, 1);
    let refusal = refused(&over, 429, "limit_reached");
    assert_eq!(refusal["limit"]["window"], "month");
    let seconds: i64 = over.header("Retry-After").and_then(|value| value.parse().ok()).expect("Retry-After");
    let resets_at = Millis::parse_iso(&text(&refusal["resets_at"])).expect("a time");
    assert!((resets_at.0 - now().0 - seconds * 1_000).abs() < 60_000, "{seconds}: {refusal}");
}
on_both_engines!(days_are_those_of_the_configured_zone);

fn what_a_capture_takes_above_its_hold_must_fit_into_the_limit(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 100);
    backend.put("limits", &json!({"user_id": user, "window": "day", "max": 60})).expect(200);
    let hold = backend.hold(&user, 50);
    let path = format!("holds/{hold}/capture");
    let over = post(&mut backend, &path, json!({"amount": 61, "above": "balance"}));
    assert_eq!(refused(&over, 429, "limit_reached")["limit"]["used"], 50);
    assert_eq!(figures(&backend.balance(&user)), [100, 50, 50, 0]);
    post(&mut backend, &path, json!({"amount": 60, "above": "balance"})).expect(200);
    refused(&backend.debit(&user, 1), 429, "limit_reached");
    books_balance(&server.database);
}
on_both_engines!(what_a_capture_takes_above_its_hold_must_fit_into_the_limit);
