//! What the ledger answers: balances of now and of then, usage, holds; and what is no question.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use kernel::Millis;
use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, DAY, figures, fresh_key, in_milliseconds, items, make_user, make_users, merged, now, number,
    pages, refused, text, wait_until_past,
};
use crate::harness::{Engine, Server, at_full_length};
use crate::on_both_engines;

const SETTINGS: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\n\
    features = { \"image.generate\" = 5, \"search\" = { amount = 2, unit = \"tokens\" } }\n\
    models = { \"gpt-x\" = { per = 1000, input = 3, output = 5 } }\nlow_balance = { credits = 10 }\n";

fn time(value: &Value) -> Millis {
    Millis::parse_iso(value.as_str().unwrap_or_default()).unwrap_or_else(|| panic!("{value} is no time"))
}

/// C10.
fn what_has_expired_never_counts_although_nobody_swept(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 50);
    let soon = in_milliseconds(1_200);
    backend.grant_with(&user, 100, json!({"expires_at": soon}));
    // The hold takes what ends first: all of the second grant and ten of the first.
    let hold = backend.hold(&user, 110);
    assert_eq!(figures(&backend.balance(&user)), [150, 110, 40, 0]);
    let later = in_milliseconds(1_300);
    backend.grant_with(&user, 7, json!({"expires_at": later}));
    assert_eq!(backend.balance(&user)["grants"].as_array().expect("a list").len(), 3);
    wait_until_past(&later);
    let balance = backend.balance(&user);
    assert_eq!(figures(&balance), [150, 110, 40, 0], "held parts count, and nothing else of them: {balance}");
    let grants: Vec<(i64, i64)> = items(&json!({"items": balance["grants"]}))
        .iter()
        .map(|g| (number(&g["amount"]), number(&g["remaining"])))
        .collect();
    assert_eq!(grants, [(50, 50)]);
    assert_eq!(backend.entries(&user).len(), 3, "nothing has settled them");
    let path = format!("balance?user_id={user}&at={}", now().iso());
    assert_eq!(backend.get(&path).expect(200).json(), balance, "then is now");
    backend.post(&format!("holds/{hold}/release"), &fresh_key(), &json!({})).expect(200);
    assert_eq!(figures(&backend.balance(&user)), [50, 0, 50, 0]);
    let kinds: Vec<String> = backend.entries(&user).iter().map(|entry| text(&entry["kind"])).collect();
    assert_eq!(kinds, ["grant", "grant", "grant", "expiry", "expiry"]);
}
on_both_engines!(what_has_expired_never_counts_although_nobody_swept);

/// C26.
fn any_moment_of_the_past_is_what_its_entries_add_up_to(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 500);
    let begin = now();
    let mut last = begin.iso();
    let mut ends = BTreeMap::new();
    let mut dice = dice();
    for round in 0..60 {
        match dice(5) {
            0 | 1 => {
                last = in_milliseconds(100 + dice(900));
                let made = backend.grant_with(&user, 1 + dice(40), json!({"expires_at": last}));
                ends.insert(text(&made["grant"]["id"]), time(&made["grant"]["expires_at"]));
            }
            2 | 3 => {
                let spent = backend.debit(&user, 1 + dice(20)).expect(201).json();
                if round % 3 == 0 {
                    let body = json!({"entry_id": spent["entry"]["id"], "reason": "back", "amount": 1});
                    backend.post("refunds", &fresh_key(), &body).expect(201);
                }
            }
            _ => {
                let hold = backend.hold(&user, 1 + dice(20));
                let step = if dice(2) == 0 { "capture" } else { "release" };
                backend.post(&format!("holds/{hold}/{step}"), &fresh_key(), &json!({})).expect(200);
            }
        }
    }
    wait_until_past(&last);
    // The newest movement settles all that has ended.
    backend.debit(&user, 1).expect(201);
    let end = now();
    let entries = backend.entries(&user);
    let span = end.0 - begin.0 + 1;
    let mut moments: Vec<Millis> = (0..100).map(|_| begin.plus(dice(span) - 1)).collect();
    moments.extend(
        entries.iter().flat_map(|entry| [time(&entry["created_at"]), time(&entry["created_at"]).minus(1)]),
    );
    for at in moments.into_iter().filter(|at| *at >= begin && *at <= end) {
        let mut lots: BTreeMap<String, i64> = BTreeMap::new();
        let mut sum = 0;
        for entry in entries.iter().filter(|entry| time(&entry["created_at"]) <= at) {
            sum += number(&entry["amount"]);
            for part in entry["parts"].as_array().expect("parts") {
                *lots.entry(text(&part["grant_id"])).or_default() += number(&part["amount"]);
            }
        }
        lots.retain(|id, left| *left != 0 && ends.get(id).is_none_or(|end| *end > at));
        let found = backend.get(&format!("balance?user_id={user}&at={}", at.iso())).expect(200).json();
        let grants: BTreeMap<String, i64> = items(&json!({"items": found["grants"]}))
            .iter()
            .map(|g| (text(&g["id"]), number(&g["remaining"])))
            .collect();
        assert_eq!(grants, lots, "at {at}: {found}");
        assert_eq!(number(&found["balance"]), sum, "at {at}: {found}");
        assert_eq!(number(&found["balance"]), number(&found["available"]) + number(&found["held"]));
    }
    let before = backend.get(&format!("balance?user_id={user}&at=2020-01-01T00:00:00Z")).expect(200).json();
    assert_eq!((figures(&before), &before["grants"]), ([0; 4], &json!([])));
    let newest = backend.get(&format!("balance?user_id={user}&at={}", end.iso())).expect(200).json();
    assert_eq!(newest, backend.balance(&user));
}
on_both_engines!(any_moment_of_the_past_is_what_its_entries_add_up_to);

/// Numbers below a bound, the same in every run.
fn dice() -> impl FnMut(i64) -> i64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        i64::try_from(state % u64::try_from(below).expect("positive")).expect("below")
    }
}

fn bad_questions_are_named(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    let other = make_user(&server);
    for _ in 0..3 {
        backend.grant(&user, 1);
    }
    let page = backend.get(&format!("entries?user_id={user}&limit=1")).expect(200).json();
    let cursor = text(&page["next_cursor"]);
    let mut broken = cursor.clone();
    broken.replace_range(3..4, if &cursor[3..4] == "A" { "B" } else { "A" });
    let future = in_milliseconds(60_000);
    let cases = [
        ("balance".into(), "user_id"),
        ("balance?user_id=".into(), "user_id"),
        (format!("balance?user_id={user}&organization_id=x"), "organization_id"),
        (format!("balance?user_id={user}&user_id={user}"), "user_id"),
        (format!("balance?user_id={user}&unit=gold"), "unit"),
        (format!("balance?user_id={user}&at=yesterday"), "at"),
        (format!("balance?user_id={user}&at={future}"), "at"),
        (format!("balance?user_id={user}&when=now"), "when"),
        ("balance?user_id=a%00".to_string(), "user_id"),
        (format!("entries?user_id={user}&limit=0"), "limit"),
        (format!("entries?user_id={user}&limit=201"), "limit"),
        (format!("entries?user_id={user}&limit=ten"), "limit"),
        (format!("entries?user_id={user}&kind=gift"), "kind"),
        (format!("entries?user_id={user}&kind=debit&kind="), "kind"),
        (format!("entries?user_id={user}&from=2026"), "from"),
        (format!("entries?user_id={user}&from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z"), "to"),
        (format!("entries?user_id={user}&cursor=x"), "cursor"),
        (format!("entries?user_id={user}&cursor={broken}"), "cursor"),
        (format!("entries?user_id={user}&cursor={cursor}x"), "cursor"),
        (format!("entries?user_id={other}&cursor={cursor}"), "cursor"),
        (format!("entries?user_id={user}&unit=tokens&cursor={cursor}"), "cursor"),
        (format!("holds?user_id={user}&cursor={cursor}"), "cursor"),
        (format!("holds?user_id={user}&status=open"), "status"),
        (format!("events?user_id={user}&cursor={cursor}"), "cursor"),
        (format!("usage?user_id={user}&group=week"), "group"),
        ("features?user_id=x".into(), "user_id"),
        ("accounts?unit=credits&user_id=x".into(), "unit"),
    ];
    for (path, field) in cases {
        let refusal = refused(&backend.get(&path), 422, "invalid_request");
        assert_eq!(refusal["field"], field, "{path}: {refusal}");
    }
    for path in ["balance", "entries", "usage", "accounts", "holds", "limits", "events"] {
        for owner in ["user_id=absent", "organization_id=absent", "guest_id=absent"] {
            refused(&backend.get(&format!("{path}?{owner}")), 404, "not_found");
        }
    }
    refused(&backend.get("balance?user_id=absent&at=2020-01-01T00:00:00Z"), 404, "not_found");
    for id in
        ["absent", &text(&items(&page)[0]["id"]), &format!("{}h999", &text(&items(&page)[0]["id"])[..20])]
    {
        refused(&backend.get(&format!("holds/{id}")), 404, "not_found");
    }
}
on_both_engines!(bad_questions_are_named);

fn owners_without_anything_have_nothing(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    let nothing =
        json!({"unit": "credits", "balance": 0, "held": 0, "available": 0, "owed": 0, "grants": []});
    assert_eq!(backend.balance(&user), nothing);
    let tokens = backend.get(&format!("balance?user_id={user}&unit=tokens&at=2020-01-01T00:00:00Z"));
    assert_eq!(tokens.expect(200).json(), merged(nothing, json!({"unit": "tokens"})));
    for path in ["entries", "holds", "events"] {
        let page = backend.get(&format!("{path}?user_id={user}")).expect(200).json();
        assert_eq!(page, json!({"items": [], "next_cursor": null}));
    }
    let usage = backend.get(&format!("usage?user_id={user}")).expect(200).json();
    assert_eq!(usage, json!({"items": [], "total": 0, "burn_per_day": 0, "days_left": null}));
}
on_both_engines!(owners_without_anything_have_nothing);

fn usage_holds_limits_events_and_prices_are_told(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 100);
    let charge = json!({"user_id": user, "feature": "image.generate", "quantity": 2});
    let spent = backend.post("debits", &fresh_key(), &charge).expect(201).json();
    backend.debit(&user, 50).expect(201);
    let hold = backend.hold(&user, 30);
    backend.post(&format!("holds/{hold}/capture"), &fresh_key(), &json!({"amount": 25})).expect(200);
    let refund = json!({"entry_id": spent["entry"]["id"], "amount": 4, "reason": "one was blurred"});
    backend.post("refunds", &fresh_key(), &refund).expect(201);

    let mut usage = |query: &str| backend.get(&format!("usage?user_id={user}{query}")).expect(200).json();
    let by_feature = usage("&group=feature");
    assert_eq!(by_feature["total"], 81);
    let expected = json!([{"feature": null, "spent": 75, "count": 2}, {"feature": "image.generate", "spent": 6, "count": 1}]);
    assert_eq!(by_feature["items"], expected);
    assert_eq!((&by_feature["burn_per_day"], &by_feature["days_left"]), (&json!(2.7), &json!(7.04)));
    let by_day = usage("");
    assert_eq!(items(&by_day).iter().map(|day| number(&day["spent"])).sum::<i64>(), 81);
    let today = now().iso()[..10].to_owned();
    assert!(items(&by_day).iter().any(|day| day["day"] == today.as_str()), "{by_day}");
    let by_key = items(&usage("&group=key"));
    assert_eq!((by_key.len(), number(&by_key[0]["spent"])), (1, 81));
    assert!(text(&by_key[0]["key"]).starts_with("key:"));
    assert_eq!(usage("&to=2020-01-01T00:00:00Z")["total"], 0);

    let captured = backend.get(&format!("holds/{hold}")).expect(200).json();
    assert_eq!((&captured["status"], &captured["captured"]), (&json!("captured"), &json!(25)));
    let open = backend.hold(&user, 12);
    let held = items(&backend.get(&format!("holds?user_id={user}&status=held")).expect(200).json());
    assert_eq!((held.len(), text(&held[0]["id"])), (1, open.clone()));
    let all: Vec<String> = pages(&mut backend, &format!("holds?user_id={user}&limit=1"))
        .iter()
        .map(|hold| text(&hold["id"]))
        .collect();
    assert_eq!(all, [open, hold]);

    let events = items(&backend.get(&format!("events?user_id={user}")).expect(200).json());
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((&events[0]["kind"], &events[0]["available"]), (&json!("low_balance"), &json!(7)));
    let accounts = items(&backend.get(&format!("accounts?user_id={user}")).expect(200).json());
    let account =
        json!({"unit": "credits", "balance": 19, "held": 12, "available": 7, "owed": 0, "negative_floor": 0});
    assert_eq!(accounts, [account]);

    let limit = json!({"user_id": user, "window": "day", "max": 500});
    let set = backend.put("limits", &limit).expect(200).json();
    let limits = items(&backend.get(&format!("limits?user_id={user}")).expect(200).json());
    assert_eq!(limits, [set["limit"].clone()]);

    let book = backend.get("features").expect(200).json();
    assert_eq!(book["version"], 1);
    let expected = json!([
        {"feature": "image.generate", "amount": 5, "unit": "credits"},
        {"feature": "search", "amount": 2, "unit": "tokens"},
    ]);
    assert_eq!(book["items"], expected);
    assert_eq!(book["models"][0]["model"], "gpt-x");
}
on_both_engines!(usage_holds_limits_events_and_prices_are_told);

/// The sum of what is listed is the balance, whatever happens meanwhile.
fn a_balance_is_of_one_moment(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    for _ in 0..5 {
        backend.grant(&user, 10);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for round in 0..3 {
            let (mut writer, user, stop) = (backend.another(), &user, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    if round == 0 {
                        let spent = writer.debit(user, 3);
                        if spent.status == 201 {
                            let body = json!({"entry_id": spent.json()["entry"]["id"], "reason": "back"});
                            writer.post("refunds", &fresh_key(), &body).expect(201);
                        }
                    } else {
                        let hold = writer.hold(user, 7);
                        writer.post(&format!("holds/{hold}/release"), &fresh_key(), &json!({})).expect(200);
                    }
                }
            });
        }
        for _ in 0..if at_full_length() { 2_000 } else { 150 } {
            let balance = backend.balance(&user);
            let listed = items(&json!({"items": balance["grants"]}));
            let sum: i64 = listed.iter().map(|grant| number(&grant["remaining"])).sum();
            assert_eq!(sum, number(&balance["balance"]), "{balance}");
        }
        stop.store(true, Ordering::Release);
    });
}
on_both_engines!(a_balance_is_of_one_moment);

/// A grant that was handed on keeps its age in the burn-down order, but was not there before.
fn what_was_received_counts_from_its_arrival(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let users = make_users(&server, 2);
    backend.grant(&users[1], 3);
    let end = in_milliseconds(DAY);
    let given = backend.grant_with(&users[0], 9, json!({"expires_at": end}));
    let made = text(&given["grant"]["created_at"]);
    wait_until_past(&made);
    let before = now().iso();
    wait_until_past(&before);
    let body =
        json!({"from": {"user_id": users[0]}, "to": {"user_id": users[1]}, "amount": 4, "reason": "r"});
    let moved = backend.post("transfers", &fresh_key(), &body).expect(201).json();
    let then = backend.get(&format!("balance?user_id={}&at={before}", users[1])).expect(200).json();
    assert_eq!((figures(&then), then["grants"].as_array().map(Vec::len)), ([3, 0, 3, 0], Some(1)));
    let at = text(&moved["entry"]["created_at"]);
    let since = backend.get(&format!("balance?user_id={}&at={at}", users[1])).expect(200).json();
    assert_eq!(since, backend.balance(&users[1]));
    let first = &since["grants"][0];
    assert_eq!(
        (number(&first["remaining"]), &first["source"], &first["expires_at"]),
        (4, &json!("promo"), &json!(end))
    );
    let sender = backend.get(&format!("balance?user_id={}&at={before}", users[0])).expect(200).json();
    assert_eq!(figures(&sender), [9, 0, 9, 0]);
}
on_both_engines!(what_was_received_counts_from_its_arrival);
