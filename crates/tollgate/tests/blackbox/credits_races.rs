//! The ledger when many ask at once: the last credit, one key on two nodes, a hold at the moment of its end.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kernel::Millis;
use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, count_entries, figures, fresh_key, is_replay, ledger_verifies, make_user,
    make_users, now, number, refused, text,
};
use crate::harness::{Connection, Engine, Response, Server, at_full_length, in_parallel};
use crate::on_both_engines;

fn rounds(short: usize, full: usize) -> usize {
    if at_full_length() { full } else { short }
}

/// How many answers have that status.
fn with_status(answers: &[Response], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

fn one_credit_pays_for_one_of_two_hundred_parallel_debits(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let owners = make_users(&server, rounds(10, 100));
    for owner in &owners {
        backend.grant(owner, 1);
        let answers = in_parallel(200, |_| backend.another().debit(owner, 1));
        assert_eq!((with_status(&answers, 201), with_status(&answers, 402)), (1, 199));
        assert_eq!(figures(&backend.balance(owner)), [0, 0, 0, 0]);
        assert_eq!(count_entries(&server.database, owner, "debit"), 1);
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(one_credit_pays_for_one_of_two_hundred_parallel_debits);

#[test]
fn one_credit_pays_for_one_debit_on_whichever_node() {
    let first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    let nodes = [&first, &second];
    let mut backend = Backend::of(&first);
    let owners = make_users(&first, rounds(10, 100));
    for owner in &owners {
        backend.grant(owner, 1);
        let answers = in_parallel(64, |number| backend.at(nodes[number % 2]).debit(owner, 1));
        assert_eq!((with_status(&answers, 201), with_status(&answers, 402)), (1, 63));
        for node in nodes {
            assert_eq!(figures(&backend.at(node).balance(owner)), [0, 0, 0, 0]);
        }
    }
    books_balance(&first.database);
    ledger_verifies(&first);
}

/// Each node remembers accounts; what the other one changed must be seen.
#[test]
fn two_nodes_that_take_turns_never_spend_what_the_other_has_spent() {
    let first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    let mut callers = [Backend::of(&first), Backend::of(&second)];
    let user = make_user(&first);
    for turn in 0..rounds(20, 200) {
        callers[turn % 2].grant(&user, 3);
        let debited = callers[(turn + 1) % 2].debit(&user, 2).expect(201).json();
        assert_eq!(number(&debited["balance"]["balance"]), turn as i64 + 1);
        let hold = callers[turn % 2].hold(&user, turn as i64 + 1);
        refused(&callers[(turn + 1) % 2].debit(&user, 1), 402, "insufficient_credits");
        let path = format!("holds/{hold}/release");
        callers[(turn + 1) % 2].post(&path, &fresh_key(), &json!({})).expect(200);
    }
    books_balance(&first.database);
    ledger_verifies(&first);
}

fn capped(nodes: &[&Server]) {
    let mut backend = Backend::of(nodes[0]);
    for user in make_users(nodes[0], rounds(3, 30)) {
        backend.grant(&user, 1_000);
        backend.put("limits", &json!({"user_id": user, "window": "month", "max": 50})).expect(200);
        let spent = in_parallel(16, |number| {
            let mut caller = backend.at(nodes[number % nodes.len()]);
            let answers: Vec<Response> = (0..8)
                .map(|turn| match turn % 4 {
                    3 => {
                        let body = json!({"user_id": user, "amount": 1, "expires_in": 600});
                        caller.post("holds", &fresh_key(), &body)
                    }
                    _ => caller.debit(&user, 1),
                })
                .collect();
            assert_eq!(with_status(&answers, 201) + with_status(&answers, 429), 8, "{answers:?}");
            with_status(&answers, 201)
        });
        assert_eq!(spent.iter().sum::<usize>(), 50);
        assert_eq!(number(&backend.balance(&user)["available"]), 950);
    }
    books_balance(&nodes[0].database);
    ledger_verifies(nodes[0]);
}

fn a_cap_of_fifty_lets_fifty_of_a_hundred_and_twenty_eight_through(engine: Engine) {
    capped(&[&Server::start(engine)]);
}
on_both_engines!(a_cap_of_fifty_lets_fifty_of_a_hundred_and_twenty_eight_through);

#[test]
fn a_cap_holds_over_two_nodes() {
    let first = Server::start(Engine::Postgres);
    capped(&[&first, &Server::second_node(&first)]);
}

/// It runs beside the server, whatever is being written.
fn verify_finds_nothing_wrong_while_the_ledger_is_written(engine: Engine) {
    let server = Server::start(engine);
    let backend = Backend::of(&server);
    let users = make_users(&server, 8);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for user in &users {
            let (mut caller, done) = (backend.another(), &done);
            scope.spawn(move || {
                caller.grant(user, 1_000_000);
                while !done.load(Ordering::Relaxed) {
                    let hold = caller.hold(user, 3);
                    let capture = json!({"amount": 2});
                    caller.post(&format!("holds/{hold}/capture"), &fresh_key(), &capture).expect(200);
                    caller.debit(user, 1).expect(201);
                }
            });
        }
        let mut reports = Vec::new();
        for _ in 0..rounds(5, 100) {
            reports.push(server.command(&["credits", "verify", "--json"]));
        }
        done.store(true, Ordering::Relaxed);
        for report in reports {
            assert_eq!((report.code, &report.json()["ok"]), (Some(0), &json!(true)), "{report:?}");
        }
    });
}
on_both_engines!(verify_finds_nothing_wrong_while_the_ledger_is_written);

// ---- One key ----

#[test]
fn one_key_through_two_nodes_is_one_effect_and_one_answer() {
    let first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    let nodes = [&first, &second];
    let mut backend = Backend::of(&first);
    let user = make_user(&first);
    backend.grant(&user, 1_000_000);
    for _ in 0..rounds(10, 100) {
        let hold = backend.hold(&user, 5);
        let spent = text(&backend.debit(&user, 5).expect(201).json()["entry"]["id"]);
        let grant = json!({"user_id": user, "amount": 3, "source": "paid", "reason": "a test"});
        for (path, body) in [
            ("grants".to_owned(), grant),
            ("debits".to_owned(), json!({"user_id": user, "amount": 2})),
            ("holds".to_owned(), json!({"user_id": user, "amount": 2, "expires_in": 600})),
            (format!("holds/{hold}/capture"), json!({"amount": 4})),
            ("refunds".to_owned(), json!({"entry_id": spent, "amount": 3, "reason": "broken"})),
        ] {
            let key = fresh_key();
            let answers = in_parallel(16, |number| backend.at(nodes[number % 2]).post(&path, &key, &body));
            assert_eq!(answers.iter().filter(|answer| is_replay(answer)).count(), 15, "{path} {answers:?}");
            for answer in &answers {
                assert_eq!((answer.status, &answer.body), (answers[0].status, &answers[0].body), "{path}");
            }
        }
    }
    let twice = "SELECT idempotency_key FROM credit_entries WHERE idempotency_key IS NOT NULL \
                 GROUP BY idempotency_key HAVING COUNT(*) > 1";
    assert_eq!(first.database.rows(twice), Vec::<Vec<Option<String>>>::new());
    books_balance(&first.database);
    ledger_verifies(&first);
}

/// A key's scope has no unit in it, but the two accounts are two.
fn one_key_for_two_units_at_once_is_done_for_one_of_them(engine: Engine) {
    let server = Server::with(engine, "[credits]\nunits = [\"credits\", \"tokens\"]\n");
    let mut backend = Backend::of(&server);
    for user in make_users(&server, rounds(10, 50)) {
        for unit in ["credits", "tokens"] {
            backend.grant_with(&user, 100, json!({"unit": unit}));
        }
        let key = fresh_key();
        let answers = in_parallel(8, |number| {
            let unit = ["credits", "tokens"][number % 2];
            let body = json!({"user_id": user, "amount": 1, "unit": unit});
            backend.another().post("debits", &key, &body)
        });
        assert_eq!((with_status(&answers, 201), with_status(&answers, 409)), (4, 4), "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status == 409) {
            assert_eq!(refused(answer, 409, "idempotency_mismatch")["field"], "unit");
        }
        assert_eq!(count_entries(&server.database, &user, "debit"), 1);
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(one_key_for_two_units_at_once_is_done_for_one_of_them);

fn single_and_batch(nodes: &[&Server]) {
    let mut backend = Backend::of(nodes[0]);
    for user in make_users(nodes[0], rounds(10, 100)) {
        backend.grant(&user, 100);
        let key = fresh_key();
        let debit = json!({"user_id": user, "amount": 7});
        let mut item = debit.clone();
        item["idempotency_key"] = json!(key);
        let entries = in_parallel(16, |number| {
            let mut caller = backend.at(nodes[number / 2 % nodes.len()]);
            if number % 2 == 0 {
                let answer = caller.post("debits", &key, &debit).expect(201);
                (is_replay(&answer), answer.json()["entry"].clone())
            } else {
                let body = json!({"debits": [item], "atomic": number % 4 == 1});
                let answer = caller.try_post("debits/batch", None, &body).expect("an answer").expect(200);
                let result = answer.json()["results"][0].clone();
                assert_eq!(result["status"], 201, "{result}");
                (result["replayed"] == json!(true), result["entry"].clone())
            }
        });
        assert_eq!(entries.iter().filter(|(replayed, _)| !replayed).count(), 1, "{entries:?}");
        assert!(entries.iter().all(|(_, entry)| *entry == entries[0].1), "{entries:?}");
        assert_eq!(figures(&backend.balance(&user)), [93, 0, 93, 0]);
    }
    books_balance(&nodes[0].database);
    ledger_verifies(nodes[0]);
}

fn a_debit_and_a_batch_with_its_key_are_one_debit(engine: Engine) {
    single_and_batch(&[&Server::start(engine)]);
}
on_both_engines!(a_debit_and_a_batch_with_its_key_are_one_debit);

#[test]
fn a_debit_and_a_batch_with_its_key_on_two_nodes_are_one_debit() {
    let first = Server::start(Engine::Postgres);
    single_and_batch(&[&first, &Server::second_node(&first)]);
}

// ---- Several accounts at once ----

fn opposite_batches(nodes: &[&Server]) {
    let mut backend = Backend::of(nodes[0]);
    let users = make_users(nodes[0], 4);
    for user in &users {
        backend.grant(user, 100_000);
    }
    let batches = rounds(20, 200);
    in_parallel(8, |number| {
        let mut caller = backend.at(nodes[number % nodes.len()]);
        for batch in 0..batches {
            let mut order = users.clone();
            order.rotate_left(batch % 4);
            if number % 2 == 0 {
                order.reverse();
            }
            let debits: Vec<Value> = order
                .iter()
                .map(|user| json!({"user_id": user, "amount": 1, "idempotency_key": fresh_key()}))
                .collect();
            let body = json!({"debits": debits, "atomic": batch % 2 == 0});
            let answer = caller.try_post("debits/batch", None, &body).expect("an answer").expect(200);
            for result in answer.json()["results"].as_array().expect("results") {
                assert_eq!(result["status"], 201, "{result}");
            }
        }
    });
    for user in &users {
        assert_eq!(number(&backend.balance(user)["balance"]), 100_000 - 8 * batches as i64);
    }
    books_balance(&nodes[0].database);
    ledger_verifies(nodes[0]);
}

fn batches_over_the_same_owners_in_opposite_order_all_succeed(engine: Engine) {
    opposite_batches(&[&Server::start(engine)]);
}
on_both_engines!(batches_over_the_same_owners_in_opposite_order_all_succeed);

#[test]
fn batches_in_opposite_order_on_two_nodes_all_succeed() {
    let first = Server::start(Engine::Postgres);
    opposite_batches(&[&first, &Server::second_node(&first)]);
}

// ---- Refunds and holds ----

fn fifty_refunds_of_one_give_back_ten_of_ten(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    for user in make_users(&server, rounds(3, 30)) {
        backend.grant(&user, 10);
        let entry = text(&backend.debit(&user, 10).expect(201).json()["entry"]["id"]);
        let body = json!({"entry_id": entry, "amount": 1, "reason": "broken"});
        let answers = in_parallel(50, |_| backend.another().post("refunds", &fresh_key(), &body));
        assert_eq!((with_status(&answers, 201), with_status(&answers, 409)), (10, 40));
        assert_eq!(figures(&backend.balance(&user)), [10, 0, 10, 0]);
    }
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(fifty_refunds_of_one_give_back_ten_of_ten);

/// Captures come from just before a hold's end to just after it.
fn a_hold_is_captured_or_ends_but_never_both(engine: Engine) {
    const HOLDS: usize = 24;
    let server = Server::start(engine);
    let backend = Backend::of(&server);
    let (captured, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    for _ in 0..rounds(1, 20) {
        let users = make_users(&server, HOLDS);
        in_parallel(HOLDS, |at| {
            let (user, mut caller) = (&users[at], backend.another());
            caller.grant(user, 100);
            let body = json!({"user_id": user, "amount": 60, "expires_in": 1});
            let held = caller.post("holds", &fresh_key(), &body).expect(201).json()["hold"].clone();
            let end = Millis::parse_iso(&text(&held["expires_at"])).expect("a time");
            // One millisecond apart, half of them before the end.
            let moment = end.plus(at as i64 - HOLDS as i64 / 2);
            while now() < moment {
                std::hint::spin_loop();
            }
            let asked_at = now();
            let path = format!("holds/{}/capture", text(&held["id"]));
            let answer = caller.post(&path, &fresh_key(), &json!({}));
            let status =
                caller.get(&format!("holds/{}", text(&held["id"]))).expect(200).json()["status"].clone();
            if answer.status == 200 {
                assert!(asked_at < end, "captured after its end: {}", answer.text());
                assert_eq!(status, "captured");
                assert_eq!(figures(&caller.balance(user)), [40, 0, 40, 0]);
                captured.fetch_add(1, Ordering::Relaxed);
            } else {
                refused(&answer, 409, "conflict");
                assert_eq!(status, "expired");
                assert_eq!(figures(&caller.balance(user)), [100, 0, 100, 0]);
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    assert!(ended.into_inner() > 0, "no capture came too late");
    assert!(captured.into_inner() > 0 || !at_full_length(), "no capture came in time");
    books_balance(&server.database);
    ledger_verifies(&server);
}
on_both_engines!(a_hold_is_captured_or_ends_but_never_both);

/// A caller that goes away after sending: its debit happens once or not at all, and its key tells which.
fn a_caller_that_does_not_wait_is_charged_once(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_user(&server);
    backend.grant(&user, 1_000);
    let key = server.service_key();
    let calls = rounds(20, 200);
    for call in 0..calls {
        let body = json!({"user_id": user, "amount": 1}).to_string();
        let request = format!(
            "POST /api/credits/debits HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nIdempotency-Key: gone-{call}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = Connection::open(server.address).expect("the server accepts");
        connection.send(request.as_bytes()).expect("the server reads");
        drop(connection);
        let again = backend.post("debits", &format!("gone-{call}"), &json!({"user_id": user, "amount": 1}));
        again.expect(201);
    }
    assert_eq!(number(&backend.balance(&user)["balance"]), 1_000 - calls as i64);
    assert_eq!(count_entries(&server.database, &user, "debit"), calls as i64);
    books_balance(&server.database);
}
on_both_engines!(a_caller_that_does_not_wait_is_charged_once);
