//! The credits door as HTTP: the shapes of what it answers.

use serde_json::{Value, json};

use crate::harness::credits::{Backend, figures, items, make_user, make_users, post, refused, text};
use crate::harness::{Engine, Request, Server};
use crate::on_both_engines;

const PRICES: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\n\
    features = { \"image.generate\" = 5, \"search\" = { amount = 2, unit = \"tokens\" } }\n\
    models = { \"gpt-x\" = { per = 1000, input = 3, output = 5 } }\nbuy_url = \"https://app.example/buy\"\n";

fn grants_debits_and_refunds_are_answered_in_their_shapes(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    let body = json!({
        "user_id": user, "amount": 100, "source": "promo", "reason": "welcome", "priority": 10,
        "expires_at": "2099-01-01T00:00:00+00:00", "metadata": {"b": 1, "a": {"x": [1.5, null]}},
    });
    let granted = post(&mut backend, "grants", body).expect(201).json();
    let grant = &granted["grant"];
    for (name, value) in [
        ("user_id", json!(user)),
        ("unit", json!("credits")),
        ("source", json!("promo")),
        ("amount", json!(100)),
        ("remaining", json!(100)),
        ("held", json!(0)),
        ("expires_at", json!("2099-01-01T00:00:00.000Z")),
        ("priority", json!(10)),
        ("reason", json!("welcome")),
        ("metadata", json!({"a": {"x": [1.5, null]}, "b": 1})),
    ] {
        assert_eq!(grant[name], value, "{name} of {grant}");
    }
    assert_eq!(
        granted["balance"],
        json!({"unit": "credits", "balance": 100, "held": 0, "available": 100, "owed": 0})
    );

    let body = json!({"user_id": user, "feature": "image.generate", "quantity": 3, "reason": "three images"});
    let spent = post(&mut backend, "debits", body).expect(201).json();
    let entry = &spent["entry"];
    for (name, value) in [
        ("kind", json!("debit")),
        ("amount", json!(-15)),
        ("balance_after", json!(85)),
        ("seq", json!(2)),
        ("feature", json!("image.generate")),
        ("price_version", json!(1)),
        ("user_id", json!(user)),
        ("hold_id", Value::Null),
        ("refund_of", Value::Null),
        ("parts", json!([{"grant_id": grant["id"], "amount": -15}])),
    ] {
        assert_eq!(entry[name], value, "{name} of {entry}");
    }
    assert!(text(&entry["actor"]).starts_with("key:"), "{entry}");

    let body = json!({"entry_id": entry["id"], "amount": 10, "reason": "two were black"});
    let back = post(&mut backend, "refunds", body).expect(201).json();
    assert_eq!((&back["entry"]["refund_of"], &back["entry"]["amount"]), (&entry["id"], &json!(10)));
    let again =
        post(&mut backend, "refunds", json!({"entry_id": entry["id"], "amount": 6, "reason": "more"}));
    assert_eq!(refused(&again, 409, "conflict")["refundable"], 5);
    assert_eq!(figures(&back["balance"]), [95, 0, 95, 0]);
}
on_both_engines!(grants_debits_and_refunds_are_answered_in_their_shapes);

fn transfers_floors_and_units_work(engine: Engine) {
    let server = Server::with(engine, PRICES);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 2);
    backend.grant(&users[0], 50);
    let body =
        json!({"from": {"user_id": users[0]}, "to": {"user_id": users[1]}, "amount": 20, "reason": "a gift"});
    let moved = post(&mut backend, "transfers", body).expect(201).json();
    assert_eq!((&moved["entry"]["kind"], figures(&moved["balance"])), (&json!("transfer"), [30, 0, 30, 0]));
    let spent = backend.debit(&users[1], 20).expect(201).json();
    assert_eq!(figures(&spent["balance"]), [0, 0, 0, 0]);

    let below = json!({"user_id": users[1], "amount": 7, "allow_negative": true});
    let broke = refused(&post(&mut backend, "debits", below.clone()), 402, "insufficient_credits");
    let documented = json!({"balance": 0, "available": 0, "required": 7, "unit": "credits", "buy_url": "https://app.example/buy"});
    for (name, value) in documented.as_object().expect("an object") {
        assert_eq!(&broke[name], value, "{broke}");
    }
    let floor =
        backend.put("accounts", &json!({"user_id": users[1], "negative_floor": -10})).expect(200).json();
    assert_eq!(floor["negative_floor"], -10);
    refused(
        &post(&mut backend, "debits", json!({"user_id": users[1], "amount": 7})),
        402,
        "insufficient_credits",
    );
    let owing = post(&mut backend, "debits", below).expect(201).json();
    assert_eq!(figures(&owing["balance"]), [-7, 0, -7, 7]);
    assert_eq!(owing["entry"]["parts"], json!([{"grant_id": null, "amount": -7}]));
    let accounts = items(&backend.get(&format!("accounts?user_id={}", users[1])).expect(200).json());
    let owed = json!({"unit": "credits", "balance": -7, "held": 0, "available": -7, "owed": 7, "negative_floor": -10});
    assert_eq!(accounts, [owed]);

    // Another unit is another account.
    backend.grant_with(&users[0], 10, json!({"unit": "tokens"}));
    let search =
        post(&mut backend, "debits", json!({"user_id": users[0], "feature": "search"})).expect(201).json();
    assert_eq!((&search["balance"]["unit"], &search["balance"]["balance"]), (&json!("tokens"), &json!(8)));
    let body = json!({"user_id": users[0], "model": "gpt-x", "tokens": {"input": 1500, "output": 100}});
    let tokens = post(&mut backend, "debits", body).expect(201).json();
    assert_eq!(
        (&tokens["entry"]["amount"], &tokens["entry"]["feature"]),
        (&json!(-5), &json!("model:gpt-x"))
    );
}
on_both_engines!(transfers_floors_and_units_work);

/// The members of an object, in alphabetical order.
#[track_caller]
fn members(value: &Value) -> String {
    let members = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

/// No member is missing, and none is there that nobody was told of.
fn answers_have_the_members_that_the_reference_names(engine: Engine) {
    let server = Server::with(engine, &format!("{PRICES}low_balance = 1000\n"));
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    let balance = "available balance held owed unit";
    let grant = "amount created_at expires_at held id metadata priority reason remaining source unit user_id";
    let hold = "amount captured created_at expires_at feature id reason status unit user_id";
    let listed = "actor amount balance_after created_at feature id idempotency_key kind metadata parts reason seq \
                  source_ref unit";
    let entry = "actor amount balance_after created_at feature hold_id id idempotency_key kind metadata parts \
                 price_version reason refund_of seq source_ref unit user_id";
    let limit = "id max resets_at scope unit used window";

    let granted = backend.grant(&user, 1_100);
    assert_eq!(members(&granted), "balance entry grant");
    assert_eq!(members(&granted["grant"]), grant);
    let spent = backend.debit(&user, 90).expect(201).json();
    assert_eq!(members(&spent), "balance entry");
    let id = backend.hold(&user, 15);
    let path = |end: &str| format!("holds/{id}/{end}");
    let extended = post(&mut backend, &path("extend"), json!({"expires_in": 60})).expect(200).json();
    assert_eq!(members(&extended), "balance hold");
    let captured = post(&mut backend, &path("capture"), json!({})).expect(200).json();
    assert_eq!(members(&captured), "balance entry hold");
    let body = json!({"entry_id": spent["entry"]["id"], "reason": "r"});
    let refunded = post(&mut backend, "refunds", body).expect(201).json();
    assert_eq!(members(&refunded), "balance entry");
    for answer in [&granted, &spent, &extended, &captured, &refunded] {
        assert_eq!(members(&answer["balance"]), balance);
        for (name, expected) in [("hold", hold), ("entry", entry)] {
            assert!(answer[name].is_null() || members(&answer[name]) == expected, "{name} of {answer}");
        }
    }
    let debit = json!({"user_id": user, "amount": 1, "idempotency_key": "one"});
    let lacking = json!({"user_id": user, "amount": 9_999, "idempotency_key": "two"});
    let batch = json!({"debits": [debit.clone(), debit, lacking]});
    let results = backend.send(Request::post("/api/credits/debits/batch", &batch)).expect(200).json();
    assert_eq!(members(&results), "results");
    assert_eq!(members(&results["results"][0]), "balance entry status");
    assert_eq!(members(&results["results"][1]), "balance entry replayed status");
    assert_eq!(members(&results["results"][2]), "error status");
    let floor = backend.put("accounts", &json!({"user_id": user, "negative_floor": 0})).expect(200).json();
    assert_eq!(members(&floor), "balance negative_floor");
    let set = json!({"user_id": user, "window": "day", "max": 17});
    assert_eq!(members(&backend.put("limits", &set).expect(200).json()["limit"]), limit);

    let mut read = |path: &str| backend.get(&format!("{path}?user_id={user}")).expect(200).json();
    let told = read("balance");
    assert_eq!(members(&told), "available balance grants held owed unit");
    assert_eq!(members(&told["grants"][0]), "amount expires_at id priority remaining source");
    for (path, expected) in [
        ("entries", listed),
        ("holds", hold),
        ("limits", limit),
        ("accounts", "available balance held negative_floor owed unit"),
        ("events", "available created_at entry_id id kind threshold unit user_id"),
    ] {
        let page = read(path);
        assert_eq!(members(&page), "items next_cursor", "{path}");
        assert_eq!(members(&page["items"][0]), expected, "{path}");
    }
    assert_eq!(members(&read("entries")["items"][0]["parts"][0]), "amount grant_id");
    let usage = read("usage");
    assert_eq!(members(&usage), "burn_per_day days_left items total");
    assert_eq!(members(&usage["items"][0]), "count day spent");
    let book = backend.get("features").expect(200).json();
    assert_eq!(members(&book), "items models version");
    assert_eq!(members(&book["items"][0]), "amount feature unit");
    assert_eq!(members(&book["models"][0]), "cached input model output per reasoning unit");

    let over = refused(&backend.debit(&user, 2), 429, "limit_reached");
    assert_eq!(members(&over), "detail error_code limit message resets_at");
    assert_eq!(members(&over["limit"]), "id max scope used window");
    backend.put("limits", &json!({"user_id": user, "window": "day", "max": null})).expect(200);
    let broke = refused(&backend.debit(&user, 5_000), 402, "insufficient_credits");
    assert_eq!(members(&broke), "available balance buy_url detail error_code message required unit");
    let body = json!({"entry_id": spent["entry"]["id"], "reason": "r"});
    let again = refused(&post(&mut backend, "refunds", body), 409, "conflict");
    assert_eq!(members(&again), "detail error_code message refundable");
}
on_both_engines!(answers_have_the_members_that_the_reference_names);
