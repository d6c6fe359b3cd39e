//! What is left of a period that was paid for: it ends, or is carried over as the plan says, whoever notices the end and whenever
//! the renewal is heard of.

use std::sync::Arc;

use kernel::time::DAY;
use kernel::{Clock, Millis, SystemClock};
use serde_json::{Value, json};
use till::{PriceSeed, TillOptions};

use crate::harness::credits::{Backend, books_balance, now, text, wait_for_quiet};
use crate::harness::shop::{Buyer, Shop};
use crate::harness::{Engine, Request};
use crate::on_both_engines;

/// The plans: 1,000 a month each.
const PLANS: [(&str, &str); 3] = [
    ("ends", ""),
    ("capped", "rollover = \"capped\"\nrollover_cap = 200\n"),
    ("full", "rollover = \"full\"\n"),
];

fn with_plans(engine: Engine, more: impl FnOnce(TillOptions) -> TillOptions) -> Shop {
    let mut members = String::new();
    for (name, rollover) in PLANS {
        members += &format!(
            "[stripe.plans.{name}]\nprice = \"price_{name}\"\ncredits = 1000\namount = 1000\ncurrency = \"usd\"\n{rollover}"
        );
    }
    Shop::under(engine, &members, |mut options| {
        options.prices.extend(PLANS.map(|(name, _)| PriceSeed {
            id: format!("price_{name}"),
            name: name.into(),
            amount: 1_000,
            currency: "usd".into(),
            interval: Some("month".into()),
            custom: None,
        }));
        more(options)
    })
}

fn kinds(shop: &Shop, buyer: &Buyer<'_>) -> Vec<(String, i64)> {
    let entries = Backend::of(&shop.server).entries(&buyer.id);
    // Oldest first.
    let moved: Vec<_> = entries
        .iter()
        .map(|entry| (text(&entry["kind"]), entry["amount"].as_i64().expect("a number")))
        .collect();
    moved
}

/// What the balance is said to be now, and by the entries up to now.
#[track_caller]
fn balances(shop: &Shop, buyer: &Buyer<'_>) -> Value {
    let mut backend = Backend::of(&shop.server);
    let path = format!("balance?user_id={}", buyer.id);
    let is = backend.get(&path).expect(200).json();
    let by_entries = backend.get(&format!("{path}&at={}", now().minus(1).iso())).expect(200).json();
    assert_eq!(is, by_entries);
    is
}

fn entry(kind: &str, amount: i64) -> (String, i64) {
    (kind.to_owned(), amount)
}

fn what_is_left_of_a_period_is_carried_over_as_the_plan_says(engine: Engine) {
    let shop = with_plans(engine, |options| options);
    for (plan, first, second) in [("ends", 0, 0), ("capped", 200, 200), ("full", 700, 1_600)] {
        let mut buyer = shop.buyer();
        let subscription = buyer.subscribe(plan);
        shop.settled();
        buyer.spend(300);
        shop.periods_end("TRUE");
        // Nobody has settled anything yet.
        let seen = balances(&shop, &buyer);
        assert_eq!((&seen["balance"], &seen["available"]), (&json!(first), &json!(first)), "{plan}");
        let grants = seen["grants"].as_array().expect("a list");
        assert_eq!(grants.len(), usize::from(first > 0), "{plan}: {seen}");
        for grant in grants {
            assert_eq!((&grant["source"], &grant["expires_at"]), (&json!("plan"), &Value::Null));
        }
        shop.till.renew(&subscription).expect("the second month");
        shop.settled();
        assert_eq!(balances(&shop, &buyer)["balance"], first + 1_000, "{plan}");
        // What ends is spent before what was carried over.
        buyer.spend(100);
        shop.periods_end("TRUE");
        assert_eq!(balances(&shop, &buyer)["balance"], second, "{plan}");
        let expected = match plan {
            "ends" => vec![entry("grant", 1_000), entry("debit", -300), entry("expiry", -700)],
            "capped" => vec![
                entry("grant", 1_000),
                entry("debit", -300),
                entry("rollover", -200),
                entry("rollover", 200),
                entry("expiry", -500),
            ],
            _ => vec![
                entry("grant", 1_000),
                entry("debit", -300),
                entry("rollover", -700),
                entry("rollover", 700),
            ],
        };
        assert_eq!(kinds(&shop, &buyer)[..expected.len()], expected, "{plan}");
    }
    let plans = shop.backend_get("catalog")["plans"].clone();
    let said = |name: &str| {
        let plan =
            plans.as_array().expect("a list").iter().find(|plan| plan["name"] == name).expect("it is sold");
        (plan["rollover"].clone(), plan["rollover_cap"].clone())
    };
    assert_eq!(said("capped"), (json!("capped"), json!(200)));
    assert_eq!(said("full"), (json!("full"), Value::Null));
    shop.expect_sound();
    books_balance(&shop.server.database);
}
on_both_engines!(what_is_left_of_a_period_is_carried_over_as_the_plan_says);

fn a_renewal_that_is_heard_of_late_leaves_the_same(engine: Engine) {
    let shop = with_plans(engine, |options| options);
    let mut left = Vec::new();
    for late in [false, true] {
        let mut buyer = shop.buyer();
        let subscription = buyer.subscribe("capped");
        shop.settled();
        buyer.spend(900);
        let first_ends =
            format!("account_id IN (SELECT id FROM credit_accounts WHERE owner = 'user:{}')", buyer.id);
        if late {
            shop.periods_end(&first_ends);
            // Somebody notices that the first period is over before the second one is paid for.
            assert_eq!(buyer.balance(), 100);
            buyer.spend(10);
            shop.till.renew(&subscription).expect("the second month");
            shop.settled();
        } else {
            shop.till.renew(&subscription).expect("the second month");
            shop.settled();
            shop.periods_end(&format!("{first_ends} AND no = 1"));
            buyer.spend(10);
        }
        for event in shop.till.events_of("invoice.paid") {
            shop.till.deliver(&event, 2).expect("again");
        }
        shop.settled();
        shop.periods_end(&first_ends);
        left.push(balances(&shop, &buyer)["balance"].clone());
    }
    // 90 were carried over and 110 of the second month; or 100 and 100.
    assert_eq!(left, [json!(200), json!(200)]);
    shop.expect_sound();
}
on_both_engines!(a_renewal_that_is_heard_of_late_leaves_the_same);

/// Stripe's clock, as it was some days ago.
struct DaysAgo(i64);

impl Clock for DaysAgo {
    fn now(&self) -> Millis {
        SystemClock.now().minus(self.0 * DAY)
    }
}

/// The payment is heard of only when the whole period is over: what would have been carried over is there all the same.
fn a_period_that_was_over_before_anybody_heard_of_it_is_carried_over(engine: Engine) {
    let shop = with_plans(engine, |options| TillOptions { clock: Arc::new(DaysAgo(40)), ..options });
    for (plan, left) in [("ends", 0), ("capped", 200), ("full", 1_000)] {
        let mut buyer = shop.buyer();
        // The signatures are too old to be believed; looking at the checkout is what brings the credits.
        let session = buyer.buy(plan);
        for _ in 0..2 {
            assert_eq!(buyer.status(&session)["status"], "paid");
            assert_eq!(balances(&shop, &buyer)["balance"], left, "{plan}");
        }
    }
    shop.server.command(&["credits", "verify", "--json"]).expect_done();
}
on_both_engines!(a_period_that_was_over_before_anybody_heard_of_it_is_carried_over);

fn what_a_hold_keeps_beyond_the_end_is_carried_over_when_it_comes_free(engine: Engine) {
    let shop = with_plans(engine, |options| options);
    for (plan, held, released) in [("ends", 600, 0), ("capped", 800, 200), ("full", 1_000, 1_000)] {
        let mut buyer = shop.buyer();
        buyer.subscribe(plan);
        shop.settled();
        let mut backend = Backend::of(&shop.server);
        let hold = backend.hold(&buyer.id, 600);
        shop.periods_end("TRUE");
        assert_eq!(balances(&shop, &buyer)["balance"], held, "{plan}");
        backend.post(&format!("holds/{hold}/release"), &format!("release-{plan}"), &json!({})).expect(200);
        assert_eq!(balances(&shop, &buyer)["balance"], released, "{plan}");
    }
    shop.expect_sound();
}
on_both_engines!(what_a_hold_keeps_beyond_the_end_is_carried_over_when_it_comes_free);

/// By itself, on whichever node, and once.
fn the_end_is_settled_although_nobody_asks(engine: Engine) {
    let shop = with_plans(engine, |options| options);
    let mut buyer = shop.buyer();
    buyer.subscribe("capped");
    shop.settled();
    shop.periods_end("TRUE");
    crate::harness::until(std::time::Duration::from_secs(90), "the period is settled", || {
        (kinds(&shop, &buyer).len() == 4).then_some(())
    });
    wait_for_quiet(&shop.server.database);
    let moved =
        [entry("grant", 1_000), entry("rollover", -200), entry("rollover", 200), entry("expiry", -800)];
    assert_eq!(kinds(&shop, &buyer), moved);
    // Exports have both sides; nothing was spent.
    let mut backend = Backend::of(&shop.server);
    let export = Request::get(&format!("/api/credits/entries?user_id={}", buyer.id));
    let export = backend.send(export.header("Accept", "text/csv")).expect(200).text();
    let sides: Vec<&str> = export.lines().filter(|line| line.contains(",rollover,")).collect();
    assert_eq!(sides.len(), 2, "{export}");
    let usage = backend.get(&format!("usage?user_id={}", buyer.id)).expect(200).json();
    assert_eq!((&usage["total"], &usage["items"]), (&json!(0), &json!([])), "{usage}");
    assert_eq!(balances(&shop, &buyer)["balance"], 200);
    shop.expect_sound();
}
on_both_engines!(the_end_is_settled_although_nobody_asks);
