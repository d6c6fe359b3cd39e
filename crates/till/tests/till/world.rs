//! A till on a clock that stands still, and the few calls that every test makes.

use kernel::{Clock, Millis};
use serde_json::Value;
use std::sync::Arc;
use till::{PriceSeed, Till, TillOptions};

/// 2026-11-21 00:00:00 UTC.
pub const START: Millis = Millis(1_795_219_200_000);
pub const SECRET: &str = "whsec_of_the_tests";
pub const DAY: u64 = 86_400;

/// Time goes on only when a test says so.
struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> Millis {
        START
    }
}

pub fn options() -> TillOptions {
    let price = |id: &str, amount, interval: Option<&str>| PriceSeed {
        id: id.to_owned(),
        name: format!("Product of {id}"),
        amount,
        currency: "usd".to_owned(),
        interval: interval.map(str::to_owned),
        custom: None,
    };
    let mut options = TillOptions::new(7);
    options.clock = Arc::new(StandingClock);
    options.prices = vec![
        price("price_pack", 1_000, None),
        price("price_basic", 3_000, Some("month")),
        price("price_plus", 9_000, Some("month")),
        price("price_yearly", 30_000, Some("year")),
        PriceSeed { custom: Some((500, 50_000)), ..price("price_custom", 2_000, None) },
    ];
    options
}

pub fn till() -> Till {
    Till::start(options()).expect("a till on a free port")
}

#[track_caller]
pub fn post(till: &Till, path: &str, parameters: &[(&str, &str)]) -> Value {
    till.call("POST", path, parameters).unwrap_or_else(|refusal| panic!("POST {path}: {refusal}"))
}

#[track_caller]
pub fn get(till: &Till, path: &str, parameters: &[(&str, &str)]) -> Value {
    till.call("GET", path, parameters).unwrap_or_else(|refusal| panic!("GET {path}: {refusal}"))
}

#[track_caller]
pub fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("{member} is a text in {value:#}")).to_owned()
}

/// A session for one pack, with more parameters.
#[track_caller]
pub fn pack_session(till: &Till, more: &[(&str, &str)]) -> String {
    session(till, "payment", "price_pack", more)
}

#[track_caller]
pub fn session(till: &Till, mode: &str, price: &str, more: &[(&str, &str)]) -> String {
    let mut parameters = vec![
        ("mode", mode),
        ("line_items[0][price]", price),
        ("line_items[0][quantity]", "1"),
        ("success_url", "http://localhost:3000/done?session={CHECKOUT_SESSION_ID}"),
        ("cancel_url", "http://localhost:3000/shop"),
    ];
    parameters.extend(more);
    text(&post(till, "/v1/checkout/sessions", &parameters), "id")
}

/// A paid pack: its payment intent.
#[track_caller]
pub fn paid_pack(till: &Till) -> String {
    let session = pack_session(till, &[]);
    text(&till.pay(&session).expect("a good card"), "payment_intent")
}

/// A paid subscription by way of Checkout.
#[track_caller]
pub fn subscribed(till: &Till, price: &str) -> String {
    let session = session(till, "subscription", price, &[("subscription_data[metadata][plan]", "basic")]);
    text(&till.pay(&session).expect("a good card"), "subscription")
}

/// The types of all events since `from`, oldest first.
pub fn kinds(till: &Till, from: usize) -> Vec<String> {
    till.events().iter().skip(from).map(|event| text(event, "type")).collect()
}
