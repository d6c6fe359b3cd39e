//! Lists of entries: pages, filters, and exports that are whole and run nowhere.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::Millis;
use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, fresh_key, in_milliseconds, items, ledger_verifies, make_user, number, pages,
    refused, text,
};
use crate::harness::{Engine, Request, Server, at_full_length, until};
use crate::on_both_engines;

const SETTINGS: &str = "[credits]\nunits = [\"credits\", \"tokens\"]\n\
    features = { \"image.generate\" = 5, \"search\" = { amount = 2, unit = \"tokens\" } }\n\
    models = { \"gpt-x\" = { per = 1000, input = 3, output = 5 } }\nlow_balance = { credits = 10 }\n";

fn time(value: &Value) -> Millis {
    Millis::parse_iso(value.as_str().unwrap_or_default()).unwrap_or_else(|| panic!("{value} is no time"))
}

fn pages_neither_repeat_nor_skip_while_entries_are_written(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    for round in 0..45 {
        let unit = if round % 4 == 0 { "tokens" } else { "credits" };
        backend.grant_with(&user, 100, json!({"unit": unit}));
    }
    let before = pages(&mut backend, &format!("entries?user_id={user}&limit=200"));
    assert_eq!(before.len(), 45);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for unit in ["credits", "tokens"] {
            let (mut writer, user, stop) = (backend.another(), &user, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    writer
                        .post("debits", &fresh_key(), &json!({"user_id": user, "amount": 1, "unit": unit}))
                        .expect(201);
                }
            });
        }
        for limit in [1, 2, 3, 7, 44, 45, 46] {
            let listed = pages(&mut backend, &format!("entries?user_id={user}&limit={limit}"));
            let ids: BTreeSet<String> = listed.iter().map(|entry| text(&entry["id"])).collect();
            assert_eq!(ids.len(), listed.len(), "limit {limit}: an entry came twice");
            assert_eq!(listed[listed.len() - 45..], before, "limit {limit}");
            for unit in ["credits", "tokens"] {
                let seqs: Vec<i64> =
                    listed.iter().filter(|e| e["unit"] == unit).map(|e| number(&e["seq"])).collect();
                let whole: Vec<i64> = (1..=seqs[0]).rev().collect();
                assert_eq!(seqs, whole, "limit {limit}: {unit} has gaps");
            }
            let times: Vec<Millis> = listed.iter().map(|entry| time(&entry["created_at"])).collect();
            assert!(times.is_sorted_by(|one, next| one >= next), "limit {limit}: newest first");
        }
        stop.store(true, Ordering::Release);
    });
    // A page that was asked for before says the same afterwards.
    let page = backend.get(&format!("entries?user_id={user}&kind=grant&limit=10")).expect(200).json();
    let next = text(&page["next_cursor"]);
    let path = format!("entries?user_id={user}&kind=grant&limit=10&cursor={next}");
    let second = backend.get(&path).expect(200).json();
    backend.grant(&user, 1);
    assert_eq!(backend.get(&path).expect(200).json(), second);
    let grants: Vec<Value> = before.iter().filter(|entry| entry["kind"] == "grant").cloned().collect();
    assert_eq!([items(&page), items(&second)].concat(), grants[..20]);
}
on_both_engines!(pages_neither_repeat_nor_skip_while_entries_are_written);

fn entries_are_filtered_by_kind_time_and_unit(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 100);
    backend.grant_with(&user, 100, json!({"unit": "tokens"}));
    let first = backend.debit(&user, 1).expect(201).json();
    let refund = json!({"entry_id": first["entry"]["id"], "reason": "back"});
    let refunded = backend.post("refunds", &fresh_key(), &refund).expect(201).json();
    let mut kinds = |query: &str| -> Vec<String> {
        let page = backend.get(&format!("entries?user_id={user}{query}")).expect(200).json();
        assert_eq!(page["next_cursor"], Value::Null);
        items(&page).iter().map(|entry| text(&entry["kind"])).collect()
    };
    assert_eq!(kinds(""), ["refund", "debit", "grant", "grant"]);
    assert_eq!(kinds("&unit=credits"), ["refund", "debit", "grant"]);
    assert_eq!(kinds("&kind=debit&kind=refund&kind=debit"), ["refund", "debit"]);
    assert_eq!(kinds("&kind=transfer"), Vec::<String>::new());
    let at = text(&refunded["entry"]["created_at"]);
    assert!(kinds(&format!("&from={at}")).contains(&"refund".to_owned()), "from is inclusive");
    assert!(!kinds(&format!("&to={at}")).contains(&"refund".to_owned()), "to is exclusive");
    assert_eq!(kinds("&from=2099-01-01T00:00:00Z"), Vec::<String>::new());
    assert_eq!(kinds("&from=2020-01-01T01:00:00+01:00&to=2099-01-01T00:00:00Z").len(), 4);
}
on_both_engines!(entries_are_filtered_by_kind_time_and_unit);

fn an_export_is_whole_and_runs_nowhere(engine: Engine) {
    let server = Server::with(engine, SETTINGS);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 100_000);
    backend.grant_with(&user, 5, json!({"unit": "tokens", "reason": "+1"}));
    let cruel = [
        "=HYPERLINK(\"http://x\",\"y\")",
        "@SUM(A1)",
        "-2",
        "+3",
        "a,b",
        "two\r\nlines",
        "say \"so\"",
        "ü €",
        "'",
    ];
    for reason in cruel {
        let body = json!({"user_id": user, "amount": 1, "reason": reason, "metadata": {"note": reason, "n": [1, null]}});
        backend.post("debits", &fresh_key(), &body).expect(201);
    }
    let many = if at_full_length() { 10 } else { 2 };
    for _ in 0..many {
        let debit = |_| json!({"user_id": user, "amount": 1, "idempotency_key": fresh_key()});
        let debits: Vec<Value> = (0..700).map(debit).collect();
        backend.post("debits/batch", &fresh_key(), &json!({"debits": debits})).expect(200);
    }
    let listed = pages(&mut backend, &format!("entries?user_id={user}&limit=200"));
    assert_eq!(listed.len(), 2 + cruel.len() + 700 * many);
    let mut export = |query: &str, accept: &str| {
        let path = format!("/api/credits/entries?user_id={user}{query}");
        backend.send(Request::get(&path).header("Accept", accept)).expect(200)
    };
    let lines = export("&limit=1&cursor=whatever", "application/x-ndjson");
    assert_eq!(lines.header("Content-Type"), Some("application/x-ndjson"));
    let parsed: Vec<Value> =
        lines.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(parsed, listed);
    let file = export("", "text/csv");
    assert_eq!(file.header("Content-Type"), Some("text/csv; charset=utf-8"));
    let rows = csv(&file.text());
    let names = "id,seq,kind,amount,balance_after,unit,feature,reason,actor,idempotency_key,source_ref,parts,metadata,created_at";
    assert_eq!(rows[0].join(","), names);
    assert_eq!(rows.len(), listed.len() + 1);
    for (row, entry) in rows[1..].iter().zip(&listed) {
        for (name, cell) in names.split(',').zip(row) {
            match &entry[name] {
                nested @ (Value::Array(_) | Value::Object(_)) => {
                    assert_eq!(serde_json::from_str::<Value>(cell).ok().as_ref(), Some(nested), "{name}");
                }
                plain => assert_eq!(*cell, cell_of(plain), "{name} of {entry}"),
            }
            let is_number = entry[name].is_number();
            assert!(is_number || !cell.starts_with(['=', '+', '-', '@']), "{name}: {cell}");
        }
    }
    let some = export("&kind=grant&unit=tokens", "text/csv");
    assert_eq!(csv(&some.text())[1][7], "'+1");
    let none = export("&kind=transfer", "text/csv");
    assert_eq!(none.text(), format!("{names}\r\n"));
    let none = export("&kind=transfer", "application/x-ndjson");
    assert_eq!(none.text(), "");
    let path = "/api/credits/entries?user_id=absent";
    refused(&backend.send(Request::get(path).header("Accept", "text/csv")), 404, "not_found");
}
on_both_engines!(an_export_is_whole_and_runs_nowhere);

/// Nobody asks and nothing moves: the ledger writes what time has ended by itself.
fn what_has_ended_is_written_within_a_minute(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    let end = in_milliseconds(1_000);
    backend.grant_with(&user, 10, json!({"expires_at": end}));
    backend.grant(&user, 5);
    let brief = json!({"user_id": user, "amount": 12, "expires_in": 2});
    backend.post("holds", &fresh_key(), &brief).expect(201);
    let path = format!("entries?user_id={user}&kind=expiry");
    let written = until(Duration::from_secs(60), "the expiry entries", || {
        let found = items(&backend.get(&path).expect(200).json());
        (!found.is_empty()).then_some(found)
    });
    let [expiry] = &written[..] else { panic!("one part has ended: {written:?}") };
    assert_eq!((&expiry["amount"], &expiry["actor"]), (&json!(-10), &json!("system")));
    let balance = backend.balance(&user);
    assert_eq!((number(&balance["balance"]), number(&balance["held"])), (5, 0));
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(what_has_ended_is_written_within_a_minute);

/// Ten thousand entries, and more that come meanwhile: neither file has a gap or an entry twice.
fn an_export_is_of_the_moment_it_began(engine: Engine) {
    let server = Server::start(engine);
    let (mut backend, user) = (Backend::of(&server), make_user(&server));
    backend.grant(&user, 1_000_000);
    for _ in 0..if at_full_length() { 10 } else { 2 } {
        let debit = |_| json!({"user_id": user, "amount": 1, "idempotency_key": fresh_key()});
        let debits: Vec<Value> = (0..1_000).map(debit).collect();
        backend.send(Request::post("/api/credits/debits/batch", &json!({"debits": debits}))).expect(200);
    }
    let path = format!("/api/credits/entries?user_id={user}");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (mut writer, user, stop) = (backend.another(), &user, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    writer.debit(user, 1).expect(201);
                }
            });
        }
        for _ in 0..3 {
            let newest = number(&backend.balance(&user)["balance"]);
            let mut export = |accept: &str| {
                let answer = backend.send(Request::get(&path).header("Accept", accept)).expect(200);
                answer.text()
            };
            let lines = export("application/x-ndjson");
            let entry = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
            let told = lines.lines().map(|line| number(&entry(line)["seq"])).collect();
            let cells = csv(&export("text/csv"));
            let listed = cells[1..].iter().map(|row| row[1].parse().expect("a number")).collect();
            for seqs in [told, listed] {
                let seqs: Vec<i64> = seqs;
                assert_eq!(seqs, (1..=seqs[0]).rev().collect::<Vec<_>>());
                assert!(seqs[0] > 1_000_000 - newest, "what was there before it began is in it");
            }
        }
        stop.store(true, Ordering::Release);
    });
    // Whoever asks for the head alone, or goes away, does no harm.
    let head = backend.send(Request::new("HEAD", &path).header("Accept", "text/csv")).expect(200);
    assert_eq!(head.header("Content-Type"), Some("text/csv; charset=utf-8"));
    assert_eq!(head.text(), "");
}
on_both_engines!(an_export_is_of_the_moment_it_began);

fn cell_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// RFC 4180, strictly.
#[track_caller]
fn csv(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut rest) = (Vec::new(), Vec::new(), text);
    while !rest.is_empty() {
        let mut cell = String::new();
        if let Some(quoted) = rest.strip_prefix('"') {
            rest = quoted;
            loop {
                let end = rest.find('"').expect("a quote is closed");
                cell.push_str(&rest[..end]);
                rest = &rest[end + 1..];
                match rest.strip_prefix('"') {
                    Some(more) => {
                        cell.push('"');
                        rest = more;
                    }
                    None => break,
                }
            }
        } else {
            let end = rest.find([',', '\r', '\n', '"']).expect("a line has an end");
            cell.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        row.push(cell);
        if let Some(more) = rest.strip_prefix(',') {
            rest = more;
        } else {
            rest = rest.strip_prefix("\r\n").unwrap_or_else(|| panic!("no end of line at {rest:?}"));
            rows.push(std::mem::take(&mut row));
        }
    }
    rows
}
