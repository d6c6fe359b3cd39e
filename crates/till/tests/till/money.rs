//! Whatever happens in whatever order: the money adds up, and two tills of one seed say the same.

use crate::world::*;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use till::{Decline, DisputeStep, Till};

#[derive(Debug, Clone)]
enum Happening {
    Buy,
    BuyLater,
    Settle(usize, bool),
    Refund(usize, i64),
    RefundSlowly(usize, i64),
    EndRefund(usize, bool),
    Dispute(usize, bool),
    NextInDispute(usize, DisputeStep),
    Subscribe,
    Change(usize, bool),
    FailRenewal(usize),
    Mend(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Happening> {
    let which = 0usize..6;
    let steps = prop_oneof![
        Just(DisputeStep::Review),
        Just(DisputeStep::Win),
        Just(DisputeStep::Lose),
        Just(DisputeStep::Escalate),
        Just(DisputeStep::CloseInquiry),
        Just(DisputeStep::Prevent),
        Just(DisputeStep::Appeal),
        Just(DisputeStep::ReviewAppeal),
    ];
    prop_oneof![
        2 => Just(Happening::Buy),
        1 => Just(Happening::BuyLater),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, paid)| Happening::Settle(which, paid)),
        3 => (which.clone(), 1i64..1_200).prop_map(|(which, amount)| Happening::Refund(which, amount)),
        2 => (which.clone(), 1i64..1_200).prop_map(|(which, amount)| Happening::RefundSlowly(which, amount)),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, arrives)| Happening::EndRefund(which, arrives)),
        2 => (which.clone(), any::<bool>()).prop_map(|(which, inquiry)| Happening::Dispute(which, inquiry)),
        3 => (which.clone(), steps).prop_map(|(which, step)| Happening::NextInDispute(which, step)),
        1 => Just(Happening::Subscribe),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, up)| Happening::Change(which, up)),
        1 => which.clone().prop_map(Happening::FailRenewal),
        1 => which.prop_map(Happening::Mend),
        1 => (1u64..45).prop_map(Happening::Wait),
    ]
}

/// The ids of the API's newest objects of a kind; `which` beyond their number finds none.
fn pick(till: &Till, path: &str, which: usize) -> Option<String> {
    let list = till.call("GET", path, &[("limit", "100")]).ok()?;
    Some(text(list["data"].get(which)?, "id"))
}

/// Does a step if it is possible; what is refused changes nothing that the checks below could miss.
fn carry_out(till: &Till, step: &Happening) -> Option<()> {
    match step {
        Happening::Buy => drop(paid_pack(till)),
        Happening::BuyLater => drop(till.pay_later(&pack_session(till, &[]))),
        Happening::Settle(which, paid) => {
            drop(till.settle(&pick(till, "/v1/payment_intents", *which)?, *paid))
        }
        Happening::Refund(which, amount) => {
            drop(till.refund(&pick(till, "/v1/charges", *which)?, Some(*amount)))
        }
        Happening::RefundSlowly(which, amount) => {
            drop(till.refund_slowly(&pick(till, "/v1/charges", *which)?, Some(*amount)));
        }
        Happening::EndRefund(which, arrives) => {
            let refund = pick(till, "/v1/refunds", *which)?;
            drop(if *arrives { till.finish_refund(&refund) } else { till.fail_refund(&refund) });
        }
        Happening::Dispute(which, inquiry) => {
            let charge = pick(till, "/v1/charges", *which)?;
            drop(if *inquiry { till.inquire(&charge) } else { till.dispute(&charge, None) });
        }
        Happening::NextInDispute(which, step) => {
            drop(till.step_dispute(&pick(till, "/v1/disputes", *which)?, *step))
        }
        Happening::Subscribe => drop(subscribed(till, "price_basic")),
        Happening::Change(which, up) => {
            let subscription = pick(till, "/v1/subscriptions", *which)?;
            let item = text(&till.object(&subscription)?["items"]["data"][0], "id");
            let price = if *up { "price_plus" } else { "price_basic" };
            drop(till.call(
                "POST",
                &format!("/v1/subscriptions/{subscription}"),
                &[
                    ("items[0][id]", &item),
                    ("items[0][price]", price),
                    ("proration_behavior", "always_invoice"),
                ],
            ));
        }
        Happening::FailRenewal(which) => {
            drop(till.fail_renewal(&pick(till, "/v1/subscriptions", *which)?, Decline::Generic));
        }
        Happening::Mend(which) => drop(till.mend_card(&pick(till, "/v1/subscriptions", *which)?)),
        Happening::Wait(days) => till.advance(Duration::from_secs(days * DAY)),
    }
    Some(())
}

fn all(till: &Till, path: &str) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let mut parameters = vec![("limit", "100")];
        if !after.is_empty() {
            parameters.push(("starting_after", after.as_str()));
        }
        let page = get(till, path, &parameters);
        found.extend(page["data"].as_array().expect("a list").iter().cloned());
        if page["has_more"] == false {
            return found;
        }
        after = text(found.last().expect("more follows something"), "id");
    }
}

fn number(value: &Value, member: &str) -> i64 {
    value[member].as_i64().unwrap_or_else(|| panic!("{member} is a number in {value:#}"))
}

fn check(till: &Till) {
    let (charges, refunds) = (all(till, "/v1/charges"), all(till, "/v1/refunds"));
    let mut given_back: BTreeMap<String, i64> = BTreeMap::new();
    for refund in
        refunds.iter().filter(|refund| refund["status"] != "failed" && refund["status"] != "canceled")
    {
        *given_back.entry(text(refund, "charge")).or_default() += number(refund, "amount");
    }
    let mut balance = 0;
    for charge in &charges {
        let refunded = number(charge, "amount_refunded");
        assert_eq!(refunded, given_back.get(&text(charge, "id")).copied().unwrap_or(0), "{charge:#}");
        assert!((0..=number(charge, "amount")).contains(&refunded));
        if charge["status"] == "succeeded" {
            balance += number(charge, "amount") - refunded;
        }
    }
    for dispute in all(till, "/v1/disputes") {
        let moved: i64 = dispute["balance_transactions"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|entry| number(entry, "amount"))
            .sum();
        assert!(moved == 0 || moved == -number(&dispute, "amount"), "{dispute:#}");
        balance += moved;
        if matches!(dispute["status"].as_str(), Some("won" | "prevented" | "warning_closed")) {
            assert_eq!(moved, 0, "{dispute:#}");
        }
    }
    assert_eq!(number(&get(till, "/v1/balance", &[])["available"][0], "amount"), balance);
    let mut owed: BTreeMap<String, i64> = BTreeMap::new();
    for invoice in all(till, "/v1/invoices") {
        let lines: i64 = invoice["lines"]["data"]
            .as_array()
            .expect("lines")
            .iter()
            .map(|line| number(line, "amount"))
            .sum();
        assert_eq!(number(&invoice, "subtotal"), lines, "{invoice:#}");
        assert_eq!(
            number(&invoice, "amount_due") - number(&invoice, "amount_paid"),
            number(&invoice, "amount_remaining")
        );
        if invoice["status"] == "paid" {
            *owed.entry(text(&invoice, "customer")).or_default() +=
                number(&invoice, "amount_paid") - number(&invoice, "total");
        }
    }
    // What somebody paid beyond what was billed, less what was used, is their credit.
    for (customer, beyond) in owed {
        let open: i64 = all(till, "/v1/invoices")
            .iter()
            .filter(|invoice| invoice["customer"] == customer.as_str() && invoice["status"] == "open")
            .map(|invoice| number(invoice, "amount_due") - number(invoice, "total"))
            .sum();
        assert_eq!(-number(&till.object(&customer).expect("a customer"), "balance"), beyond + open);
    }
    // The last event of a charge's refunds tells what the charge tells, unless a refund failed since.
    let told: BTreeMap<String, i64> = till
        .events()
        .iter()
        .filter(|event| event["type"] == "charge.refunded")
        .map(|event| &event["data"]["object"])
        .map(|charge| (text(charge, "id"), number(charge, "amount_refunded")))
        .collect();
    let has_failed =
        |id: &str| refunds.iter().any(|refund| refund["charge"] == id && refund["status"] == "failed");
    for charge in charges.iter().filter(|charge| !has_failed(&text(charge, "id"))) {
        let refunded = told.get(&text(charge, "id")).copied().unwrap_or(0);
        assert_eq!(number(charge, "amount_refunded"), refunded, "{charge:#}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn money_adds_up_whatever_happens(steps in proptest::collection::vec(step(), 1..40)) {
        let till = till();
        for step in &steps {
            carry_out(&till, step);
        }
        check(&till);
    }

    #[test]
    fn the_same_story_told_twice_is_the_same_to_the_letter(steps in proptest::collection::vec(step(), 1..15)) {
        let tell = || {
            let till = till();
            for step in &steps {
                carry_out(&till, step);
            }
            till.events()
        };
        // Addresses of pages have the port in them, which the system chooses.
        let without_ports = |events: Vec<Value>| {
            let text = Value::Array(events).to_string();
            text.split("127.0.0.1:").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned()).collect::<Vec<_>>()
        };
        prop_assert_eq!(without_ports(tell()), without_ports(tell()));
    }
}
