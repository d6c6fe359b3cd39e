//! Billing when the process dies at any moment under a stream of payments, refunds and disputes: all money that Stripe holds is in
//! the ledger, to the credit.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use till::{DisputeStep, Till};

use crate::harness::credits::{Backend, books_balance, ledger_verifies, make_users, wait_for_quiet};
use crate::harness::shop::Shop;
use crate::harness::{Connection, Engine, Request, at_full_length};
use crate::on_both_engines;

/// A number below `end`, another one each time.
fn any_below(end: usize) -> usize {
    (RandomState::new().build_hasher().finish() % end as u64) as usize
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} is a text in {value:#}"))
}

/// All objects of a list, by pages.
fn all(till: &Till, path: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    loop {
        let last = found.last().map(|last| text(last, "id").to_owned());
        let mut query = vec![("limit", "100")];
        query.extend(parameters);
        query.extend(last.as_deref().map(|last| ("starting_after", last)));
        let page = till.call("GET", path, &query).unwrap_or_else(|refusal| panic!("{path}: {refusal}"));
        found.extend(page["data"].as_array().expect("a list").iter().cloned());
        if page["has_more"] != true {
            return found;
        }
    }
}

/// What happened at Stripe so far: what was paid, and which disputes are open.
#[derive(Default)]
struct World {
    paid: Vec<String>,
    refunds: Vec<String>,
    disputes: Vec<String>,
    happened: usize,
}

impl World {
    /// Something happens. What cannot happen (more refunds than money, a refund of what is disputed) does not.
    fn something_happens(&mut self, till: &Till, open: &mut Vec<String>) {
        let payment = (!self.paid.is_empty()).then(|| self.paid[any_below(self.paid.len())].clone());
        let amount = 1 + any_below(700) as i64;
        let happened = match (any_below(10), payment) {
            (0 | 1, Some(payment)) => till.refund(&payment, Some(amount)).is_ok(),
            (2, Some(payment)) => till.refund(&payment, None).is_ok(),
            (3, Some(payment)) => match till.refund_slowly(&payment, Some(amount)) {
                Ok(refund) => {
                    self.refunds.push(text(&refund, "id").to_owned());
                    true
                }
                Err(_) => false,
            },
            (4, Some(payment)) => match till.dispute(&payment, Some(amount)) {
                Ok(dispute) => {
                    self.disputes.push(text(&dispute, "id").to_owned());
                    true
                }
                Err(_) => false,
            },
            (5, _) if !self.disputes.is_empty() => {
                let dispute = self.disputes.swap_remove(any_below(self.disputes.len()));
                let step = if any_below(2) == 0 { DisputeStep::Win } else { DisputeStep::Lose };
                till.step_dispute(&dispute, step).is_ok()
            }
            (6, _) if !self.refunds.is_empty() => {
                let refund = self.refunds.swap_remove(any_below(self.refunds.len()));
                till.fail_refund(&refund).is_ok()
            }
            _ => match open.pop() {
                Some(session) => {
                    till.pay(&session).expect("it is paid");
                    self.paid.push(session);
                    true
                }
                None => false,
            },
        };
        self.happened += usize::from(happened);
    }
}

/// What everybody has to have, from what Stripe holds alone. `owners`: by checkout.
fn owed(till: &Till, owners: &BTreeMap<String, String>) -> BTreeMap<String, i64> {
    let mut owed = BTreeMap::new();
    let refunds = sums(&all(till, "/v1/refunds", &[]), &["failed", "canceled"]);
    let disputes =
        sums(&all(till, "/v1/disputes", &[]), &["won", "warning_needs_response", "warning_closed"]);
    for session in all(till, "/v1/checkout/sessions", &[("status", "complete")]) {
        let (intent, captured) =
            (text(&session, "payment_intent"), session["amount_total"].as_i64().expect("an amount"));
        let of = |sums: &BTreeMap<String, i64>| sums.get(intent).copied().unwrap_or(0);
        let gone = (of(&refunds) + of(&disputes)).min(captured);
        let pieces = captured / 1_000;
        let credits = pieces * 500 - pieces * 500 * gone / captured;
        let owner = &owners[text(&session["metadata"], "tollgate_checkout")];
        *owed.entry(owner.clone()).or_default() += credits;
    }
    owed
}

/// Amounts by payment, without those in one of the states.
fn sums(objects: &[Value], without: &[&str]) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for object in objects.iter().filter(|object| !without.contains(&text(object, "status"))) {
        *sums.entry(text(object, "payment_intent").to_owned()).or_default() +=
            object["amount"].as_i64().expect("one");
    }
    sums
}

fn kill_nine_under_a_stream_of_money_loses_and_doubles_nothing(engine: Engine) {
    let (kills, steps, owners) = if at_full_length() { (50, 60, 40) } else { (6, 14, 8) };
    let mut shop = Shop::open(engine);
    let users = make_users(&shop.server, owners);
    let key = shop.server.service_key();
    let mut world = World::default();
    for _ in 0..kills {
        let (address, base, till) = (shop.server.address, world.happened, shop.till.clone());
        let limit = Duration::from_millis(20 + any_below(400) as u64);
        let began = Instant::now();
        std::thread::scope(|scope| {
            // People go on opening checkouts until the server dies under them.
            for _ in 0..2 {
                scope.spawn(|| {
                    let Ok(mut connection) = Connection::open(address) else { return };
                    loop {
                        let user = &users[any_below(users.len())];
                        let wish = json!({"user_id": user, "price": "small", "quantity": 1 + any_below(3)});
                        let request = Request::post("/api/billing/checkout", &wish)
                            .header("Authorization", &format!("Bearer {key}"));
                        match connection.exchange(&request) {
                            Ok(answer) if !answer.closes() => {}
                            _ => return,
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..steps {
                    if world.happened >= base + steps {
                        break;
                    }
                    let list =
                        till.call("GET", "/v1/checkout/sessions", &[("status", "open"), ("limit", "50")]);
                    let list = list.expect("a list");
                    let sessions = list["data"].as_array().expect("a list").iter();
                    let mut open = sessions.map(|session| text(session, "id").to_owned()).collect();
                    for _ in 0..3 {
                        world.something_happens(&till, &mut open);
                    }
                }
            });
            while began.elapsed() < limit {
                std::hint::spin_loop();
            }
            shop.server.kill();
        });
        wait_for_quiet(&shop.server.database);
        shop.server.restart();
        // What could not be delivered comes again.
        shop.till.advance(Duration::from_secs(61));
    }
    shop.settled_after_a_crash();
    let rows = shop.server.database.rows("SELECT id, owner FROM billing_checkouts");
    let owners = rows.into_iter().map(|row| {
        let cell = |at: usize| row[at].clone().expect("a value");
        (cell(0), cell(1).trim_start_matches("user:").to_owned())
    });
    let owed = owed(&shop.till, &owners.collect());
    assert!(world.happened >= kills * steps / 4, "only {} things happened", world.happened);
    assert!(owed.values().any(|credits| *credits > 0), "nothing is owed to anybody");
    let mut backend = Backend::of(&shop.server);
    for user in &users {
        let balance = backend.balance(user)["balance"].as_i64();
        assert_eq!(balance, Some(owed.get(user).copied().unwrap_or(0)), "{user}");
    }
    // What the rows say and what the entries say is one.
    let granted = "SELECT COALESCE(CAST(SUM(amount) AS BIGINT), 0) FROM credit_entries";
    let rows = "SELECT COALESCE(CAST(SUM(credits - taken_back) AS BIGINT), 0) FROM billing_payments";
    assert_eq!(shop.server.database.integer(granted), shop.server.database.integer(rows));
    shop.expect_sound();
    ledger_verifies(&shop.server);
    books_balance(&shop.server.database);
}
on_both_engines!(kill_nine_under_a_stream_of_money_loses_and_doubles_nothing);

/// Plans as well: first payments, renewals and refunds of months.
fn kill_nine_between_the_steps_of_plans_credits_each_period_once(engine: Engine) {
    let (kills, subscribers) = if at_full_length() { (30, 12) } else { (4, 4) };
    let mut shop = Shop::open(engine);
    let users = make_users(&shop.server, subscribers);
    let key = shop.server.service_key();
    let subscribe = |shop: &Shop, user: &str| {
        let request = Request::post("/api/billing/checkout", &json!({"user_id": user, "price": "basic"}))
            .header("Authorization", &format!("Bearer {key}"));
        let opened = request.send(shop.server.address).expect("an answer").expect(200).json();
        let paid = shop.till.pay(text(&opened, "session_id")).expect("it is paid");
        text(&paid, "subscription").to_owned()
    };
    let subscriptions: Vec<String> = users.iter().map(|user| subscribe(&shop, user)).collect();
    for kill in 0..kills {
        let (began, limit) = (Instant::now(), Duration::from_millis(any_below(250) as u64));
        let subscription = &subscriptions[kill % subscriptions.len()];
        // The others' months end, too.
        let invoice = shop.till.renew(subscription).expect("the next month");
        shop.till.refund(text(&invoice, "id"), Some(100)).expect("a tenth");
        while began.elapsed() < limit {
            std::hint::spin_loop();
        }
        shop.server.kill();
        wait_for_quiet(&shop.server.database);
        shop.server.restart();
        // Before the next month: Stripe gives up after three days.
        shop.delivered_after_a_crash();
    }
    shop.settled_after_a_crash();
    let mut backend = Backend::of(&shop.server);
    for (user, subscription) in users.iter().zip(&subscriptions) {
        let invoices = all(&shop.till, "/v1/invoices", &[("subscription", subscription), ("status", "paid")]);
        let refunds = all(&shop.till, "/v1/refunds", &[]);
        let refunded: i64 = invoices
            .iter()
            .map(|invoice| {
                let payment = [("invoice", text(invoice, "id"))];
                let payments = all(&shop.till, "/v1/invoice_payments", &payment);
                let intent = text(&payments[0]["payment"], "payment_intent").to_owned();
                let of = refunds.iter().filter(|refund| refund["payment_intent"] == intent.as_str());
                of.map(|refund| refund["amount"].as_i64().expect("an amount")).sum::<i64>()
            })
            .sum();
        let expected = 1_000 * invoices.len() as i64 - refunded;
        let effects = || shop.server.database.rows("SELECT subject, kind, state, effect FROM billing_inbox");
        let balance = &backend.balance(user)["balance"];
        assert_eq!(balance, expected, "{user} with {} invoices: {:#?}", invoices.len(), effects());
    }
    shop.expect_sound();
    books_balance(&shop.server.database);
}
on_both_engines!(kill_nine_between_the_steps_of_plans_credits_each_period_once);
