//! The ledger when the process dies in the middle of its work, judged by what was answered: each acknowledged operation
//! is there exactly once, and of the others nothing is there by half.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::credits::{
    Backend, books_balance, fresh_key, is_replay, ledger_verifies, make_users, text, wait_for_quiet,
};
use crate::harness::{Engine, Failure, Response, Server, at_full_length, in_parallel, until};
use crate::on_both_engines;

const CALLERS: usize = 8;
/// Fewer than callers: they meet on the same accounts.
const OWNERS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(20);

/// A number below `end`, another one each time.
fn any_below(end: u64) -> u64 {
    RandomState::new().build_hasher().finish() % end
}

fn any_of<T>(list: &[T]) -> Option<&T> {
    (!list.is_empty()).then(|| &list[any_below(list.len() as u64) as usize])
}

/// A request that moves credits, and what came of it.
#[derive(Clone, Debug)]
struct Operation {
    path: String,
    key: String,
    body: Value,
    answer: Fate,
}

#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Acknowledged {
        status: u16,
        body: Vec<u8>,
    },
    /// Nothing was done, and nothing is kept.
    Refused,
    /// No answer came.
    Unknown,
}

impl Operation {
    fn perform(&mut self, backend: &mut Backend) -> Option<Response> {
        let answer = self.send(backend);
        self.answer = match &answer {
            Err(_) => Fate::Unknown,
            Ok(response) => match response.status {
                200 if self.is_batch() && response.json()["results"][0]["status"] != 201 => Fate::Refused,
                200 | 201 => Fate::Acknowledged { status: response.status, body: response.body.clone() },
                402 | 409 => Fate::Refused,
                // It says itself that nobody knows.
                503 => Fate::Unknown,
                _ => panic!("{self:?}: {} {}", response.status, response.text()),
            },
        };
        answer.ok()
    }

    fn send(&self, backend: &mut Backend) -> Result<Response, Failure> {
        // A batch has no key of its own; its items have.
        let key = (!self.is_batch()).then_some(self.key.as_str());
        backend.try_post(&self.path, key, &self.body)
    }

    fn is_batch(&self) -> bool {
        self.path == "debits/batch"
    }

    /// Keys that its entries name.
    fn entries(&self) -> Vec<String> {
        if self.path == "holds" || self.path.ends_with("/release") {
            Vec::new()
        } else if self.is_batch() {
            let items = self.body["debits"].as_array().expect("a list");
            items.iter().map(|item| text(&item["idempotency_key"])).collect()
        } else {
            vec![self.key.clone()]
        }
    }

    /// The answer that was given, as it is given to one who asks again.
    fn assert_told_again(&self, again: &Response, status: u16, body: &[u8]) {
        assert_eq!(again.status, status, "{self:?} {}", again.text());
        if !self.is_batch() {
            assert!(is_replay(again), "not known any more: {self:?} {}", again.text());
            assert_eq!(again.body, body, "{self:?}");
            return;
        }
        let first: Value = serde_json::from_slice(body).expect("JSON");
        let again = again.json();
        let results = |body: &Value| body["results"].as_array().expect("results").clone();
        for (first, again) in results(&first).iter().zip(results(&again)) {
            assert_eq!((&again["replayed"], &again["entry"]), (&json!(true), &first["entry"]), "{self:?}");
        }
    }
}

/// What a caller knows: holds it may end and entries it may refund.
#[derive(Default)]
struct Knowledge {
    holds: Vec<String>,
    spent: Vec<String>,
}

impl Knowledge {
    fn next(&self, owner: &str, other: &str) -> Operation {
        let amount = 1 + any_below(9);
        let spend = json!({"user_id": owner, "amount": amount});
        let hold = any_of(&self.holds).cloned().unwrap_or_default();
        let entry = any_of(&self.spent).cloned().unwrap_or_default();
        let (path, body) = match any_below(12) {
            0 | 1 => (
                "grants".to_owned(),
                json!({"user_id": owner, "amount": amount * 3, "source": "paid", "reason": "a test"}),
            ),
            2 | 3 => ("holds".to_owned(), json!({"user_id": owner, "amount": amount, "expires_in": 3_600})),
            4 | 5 if !hold.is_empty() => {
                (format!("holds/{hold}/capture"), json!({"amount": amount, "above": "balance"}))
            }
            6 if !hold.is_empty() => (format!("holds/{hold}/release"), json!({})),
            7 if !entry.is_empty() => {
                ("refunds".to_owned(), json!({"entry_id": entry, "amount": 1, "reason": "broken"}))
            }
            8 if owner != other => (
                "transfers".to_owned(),
                json!({"from": {"user_id": owner}, "to": {"user_id": other}, "amount": amount, "reason": "a test"}),
            ),
            9 => {
                let item =
                    |owner| json!({"user_id": owner, "amount": amount, "idempotency_key": fresh_key()});
                ("debits/batch".to_owned(), json!({"debits": [item(owner), item(other)], "atomic": true}))
            }
            _ => ("debits".to_owned(), spend),
        };
        Operation { path, key: fresh_key(), body, answer: Fate::Unknown }
    }

    fn learn(&mut self, operation: &Operation, response: &Response) {
        if !matches!(operation.answer, Fate::Acknowledged { .. }) {
            return;
        }
        let body = response.json();
        if operation.path == "holds" {
            self.holds.push(text(&body["hold"]["id"]));
        } else if operation.path == "debits" || operation.path.ends_with("/capture") {
            self.spent.push(text(&body["entry"]["id"]));
        }
    }
}

struct Load {
    owners: Vec<String>,
    done: Mutex<Vec<Operation>>,
    acknowledged: AtomicUsize,
}

impl Load {
    fn on(server: &Server) -> Load {
        let owners = make_users(server, OWNERS);
        Load { owners, done: Mutex::new(Vec::new()), acknowledged: AtomicUsize::new(0) }
    }

    fn count(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Mixed operations on shared owners until the server no longer answers, or `enough`.
    fn work(&self, mut backend: Backend, enough: impl Fn() -> bool) {
        let mut knowledge = Knowledge::default();
        while !enough() {
            let [owner, other] = [(), ()].map(|()| any_of(&self.owners).expect("there are owners"));
            let mut operation = knowledge.next(owner, other);
            let response = operation.perform(&mut backend);
            if let Some(response) = &response {
                knowledge.learn(&operation, response);
                let known = matches!(operation.answer, Fate::Acknowledged { .. });
                self.acknowledged.fetch_add(usize::from(known), Ordering::SeqCst);
            }
            self.done.lock().expect("nobody panics").push(operation);
            if response.is_none() {
                return;
            }
        }
    }

    fn operations(&self) -> Vec<Operation> {
        self.done.lock().expect("nobody panics").clone()
    }

    /// The rows against the answers: what was acknowledged has its one entry, what was refused has none, and there is no
    /// other than what may have been done without an answer.
    fn entries_are_as_answered(&self, server: &Server) {
        let rows = server
            .database
            .rows("SELECT idempotency_key FROM credit_entries WHERE idempotency_key IS NOT NULL");
        let keys: Vec<String> = rows.into_iter().flatten().flatten().collect();
        let mut found: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(found.len(), keys.len(), "a key has two entries");
        for operation in self.operations() {
            let keys = operation.entries();
            let there = keys.iter().filter(|key| found.remove(key.as_str())).count();
            match operation.answer {
                Fate::Acknowledged { .. } => assert_eq!(there, keys.len(), "{operation:?}"),
                Fate::Refused => assert_eq!(there, 0, "refused, but done: {operation:?}"),
                Fate::Unknown => assert!(there == 0 || there == keys.len(), "half: {operation:?}"),
            }
        }
        assert!(found.is_empty(), "nobody asked for {found:?}");
    }

    /// Every acknowledged key gives its answer again, and every unanswered one is settled now: done once, or refused.
    fn keys_are_as_answered(&self, backend: &Backend, from: usize) {
        let operations = self.operations();
        let next = AtomicUsize::new(from);
        let settled = in_parallel(2, |_| {
            let mut caller = backend.another();
            let mut settled = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(operation) = operations.get(at) else { return settled };
                match &operation.answer {
                    Fate::Acknowledged { status, body } => {
                        let again = operation.send(&mut caller).expect("an answer");
                        operation.assert_told_again(&again, *status, body);
                    }
                    Fate::Unknown => {
                        let mut again = operation.clone();
                        again.perform(&mut caller).unwrap_or_else(|| panic!("no answer: {again:?}"));
                        settled.push((at, again));
                    }
                    Fate::Refused => {}
                }
            }
        });
        let mut done = self.done.lock().expect("nobody panics");
        for (at, operation) in settled.into_iter().flatten() {
            done[at] = operation;
        }
    }
}

/// Waits for some work to be done and then for a moment that nobody chose.
fn moment_of_death(load: &Load) {
    let (told, life) = (load.count(), Duration::from_millis(20 + any_below(180)));
    let began = Instant::now();
    until(PATIENCE, "the moment of death", || {
        (load.count() > told + CALLERS && began.elapsed() >= life).then_some(())
    });
}

fn kill_nine_loses_no_acknowledged_credit_and_leaves_no_half(engine: Engine) {
    let mut server = Server::start(engine);
    let backend = Backend::of(&server);
    let load = Load::on(&server);
    for _ in 0..if at_full_length() { 50 } else { 5 } {
        let from = load.operations().len();
        std::thread::scope(|scope| {
            for _ in 0..CALLERS {
                scope.spawn(|| load.work(backend.another(), || false));
            }
            moment_of_death(&load);
            server.signal("KILL");
        });
        server.kill();
        wait_for_quiet(&server.database);
        load.entries_are_as_answered(&server);
        books_balance(&server.database);
        ledger_verifies(&server);
        server.restart();
        load.keys_are_as_answered(&backend, from);
        load.entries_are_as_answered(&server);
        books_balance(&server.database);
        ledger_verifies(&server);
    }
    // Also those of the first life.
    load.keys_are_as_answered(&backend, 0);
    books_balance(&server.database);
    let done = load.operations();
    for path in ["grants", "debits", "debits/batch", "holds", "refunds", "transfers"] {
        let known = |operation: &&Operation| matches!(operation.answer, Fate::Acknowledged { .. });
        assert!(done.iter().filter(known).any(|operation| operation.path == path), "no {path}");
    }
    for owner in &load.owners {
        let rows = format!(
            "SELECT CAST(SUM(amount) AS BIGINT) FROM credit_entries JOIN credit_accounts \
             ON credit_accounts.id = account_id WHERE owner = 'user:{owner}'"
        );
        let told = backend.another().balance(owner)["balance"].as_i64();
        assert_eq!(told, Some(server.database.integer(&rows)), "{owner}");
    }
}
on_both_engines!(kill_nine_loses_no_acknowledged_credit_and_leaves_no_half);

/// The other node goes on: with every key that the dead one has answered, and without what it left behind.
#[test]
fn a_node_that_dies_takes_nothing_with_it() {
    let mut first = Server::start(Engine::Postgres);
    let second = Server::second_node(&first);
    let backend = Backend::of(&first);
    let load = Load::on(&first);
    for _ in 0..if at_full_length() { 50 } else { 5 } {
        let from = load.operations().len();
        let goal = AtomicUsize::new(usize::MAX);
        std::thread::scope(|scope| {
            for number in 0..CALLERS {
                let caller = backend.at(if number % 2 == 0 { &first } else { &second });
                let (load, goal) = (&load, &goal);
                scope.spawn(move || load.work(caller, || load.count() >= goal.load(Ordering::SeqCst)));
            }
            moment_of_death(&load);
            first.signal("KILL");
            // The survivor works on beside the dead node's open transactions.
            goal.store(load.count() + 50, Ordering::SeqCst);
        });
        first.kill();
        wait_for_quiet(&second.database);
        load.keys_are_as_answered(&backend.at(&second), from);
        load.entries_are_as_answered(&second);
        books_balance(&second.database);
        ledger_verifies(&second);
        first.restart();
        load.keys_are_as_answered(&backend, from);
    }
    load.keys_are_as_answered(&backend, 0);
    books_balance(&first.database);
    ledger_verifies(&first);
}

/// Nothing under way is lost at an orderly stop, and what is kept verifies.
fn operations_under_way_are_answered_and_kept_at_sigterm(engine: Engine) {
    let mut server = Server::start(engine);
    let backend = Backend::of(&server);
    let load = Load::on(&server);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| load.work(backend.another(), || false));
        }
        until(PATIENCE, "operations to be under way", || (load.count() > 4 * CALLERS).then_some(()));
        server.stop()
    });
    load.entries_are_as_answered(&server);
    books_balance(&server.database);
    ledger_verifies(&server);
    server.restart();
    load.keys_are_as_answered(&backend, 0);
    books_balance(&server.database);
}
on_both_engines!(operations_under_way_are_answered_and_kept_at_sigterm);

/// What was told before the process froze is told again after it thaws; what waited is done once.
fn a_frozen_process_charges_once_for_what_is_sent_twice(engine: Engine) {
    let server = Server::start(engine);
    let mut backend = Backend::of(&server);
    let user = make_users(&server, 1).remove(0);
    backend.grant(&user, 100);
    for round in 0..if at_full_length() { 20 } else { 3 } {
        let key = fresh_key();
        let body = json!({"user_id": user, "amount": 1});
        server.signal("STOP");
        let answers = std::thread::scope(|scope| {
            let callers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| backend.another().post("debits", &key, &body))).collect();
            server.signal("CONT");
            callers.into_iter().map(|caller| caller.join().expect("an answer")).collect::<Vec<_>>()
        });
        assert_eq!(answers.iter().filter(|answer| is_replay(answer)).count(), 3, "{answers:?}");
        assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body));
        assert_eq!(backend.balance(&user)["balance"], 99 - round);
    }
    books_balance(&server.database);
}
on_both_engines!(a_frozen_process_charges_once_for_what_is_sent_twice);
