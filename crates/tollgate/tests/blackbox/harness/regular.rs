//! Automatic top-ups as an app sets them up: an owner with a card that is kept at the till.

use std::time::Duration;

use serde_json::{Value, json};

use super::credits::Backend;
use super::database::quoted;
use super::http::{Request, Response};
use super::shop::{Buyer, Shop};
use super::wait::until;

pub const PATIENCE: Duration = Duration::from_secs(60);
pub const HOUR: i64 = 3_600_000;
const PATH: &str = "/api/billing/auto-topup";

/// Somebody whose credits are bought automatically, with a backend that spends them.
pub struct Regular<'a> {
    shop: &'a Shop,
    pub backend: Backend,
    pub id: String,
}

impl<'a> Regular<'a> {
    pub fn new(shop: &'a Shop, id: &str) -> Regular<'a> {
        Regular { shop, backend: Backend::of(&shop.server), id: id.to_owned() }
    }

    /// Bought a pack, and let Stripe keep the card: 500 credits.
    pub fn of(shop: &'a Shop, buyer: &mut Buyer<'a>) -> Regular<'a> {
        let session = buyer.checkout(&json!({"price": "small", "savePaymentMethod": true}));
        shop.till.pay(&session).expect("it is paid");
        shop.settled();
        Regular::new(shop, &buyer.id)
    }

    pub fn try_put(&mut self, members: Value) -> Response {
        let mut body = members;
        body["user_id"] = json!(self.id);
        self.backend.send(Request::new("PUT", PATH).json(&body))
    }

    pub fn put(&mut self, members: Value) -> Value {
        self.try_put(members).expect(200).json()
    }

    /// A pack whenever less than 100 are left.
    pub fn wants(&mut self, monthly_max: i64) {
        self.put(json!({"below": 100, "pack": "small", "monthly_max": monthly_max}));
    }

    pub fn shown(&mut self) -> Value {
        let path = format!("{PATH}?user_id={}", self.id);
        self.backend.send(Request::get(&path)).expect(200).json()
    }

    pub fn spend(&mut self, amount: i64) {
        assert_eq!(self.backend.debit(&self.id, amount).status, 201);
    }

    pub fn balance(&mut self) -> i64 {
        self.backend.balance(&self.id)["balance"].as_i64().expect("a balance")
    }

    pub fn until_balance(&mut self, balance: i64) {
        until(PATIENCE, &format!("a balance of {balance}"), || (self.balance() == balance).then_some(()));
        self.until_state("idle");
    }

    pub fn until_state(&mut self, state: &str) -> Value {
        until(PATIENCE, &format!("the state {state}"), || {
            let shown = self.shown();
            (shown["state"] == state).then_some(shown)
        })
    }

    pub fn customer(&self) -> String {
        let owner = quoted(&format!("user:{}", self.id));
        let sql = format!("SELECT customer_id FROM billing_customers WHERE owner = {owner}");
        self.shop.server.database.value(&sql).expect("a customer")
    }

    /// Pays by this one of Stripe's cards for tests from now on.
    pub fn pays_by(&self, card: &str) {
        let (till, customer) = (&self.shop.till, self.customer());
        let attach = format!("/v1/payment_methods/{card}/attach");
        let method = till.call("POST", &attach, &[("customer", &customer)]).expect("it is attached");
        let usual = [("invoice_settings[default_payment_method]", method["id"].as_str().expect("an id"))];
        till.call("POST", &format!("/v1/customers/{customer}"), &usual).expect("the usual one");
    }

    /// Payments at Stripe that nobody was there for, by their states.
    pub fn payments(&self) -> Vec<String> {
        let list = self
            .shop
            .till
            .call("GET", "/v1/payment_intents", &[("customer", &self.customer()), ("limit", "100")])
            .expect("a list");
        let automatic = |intent: &&Value| {
            intent["description"].as_str().is_some_and(|text| text.starts_with("Automatic"))
        };
        let found = list["data"].as_array().expect("a list").iter().filter(automatic);
        found.map(|intent| intent["status"].as_str().expect("a state").to_owned()).collect()
    }

    pub fn newest_payment(&self) -> String {
        let query = [("customer", self.customer()), ("limit", "1".into())];
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let list = self.shop.till.call("GET", "/v1/payment_intents", &query).expect("a list");
        list["data"][0]["id"].as_str().expect("an id").to_owned()
    }

    /// As if so much time had passed for this owner's payment or pause.
    pub fn time_passes(&self, milliseconds: i64) {
        let owner = format!("owner = {}", quoted(&format!("user:{}", self.id)));
        for column in ["leased_until", "retry_at", "rests_until"] {
            self.shop.server.database.shift("billing_topups", column, -milliseconds, &owner);
        }
    }
}

/// Everybody who had a reason to be served has been: somebody who comes later was.
pub fn a_look_passes(shop: &Shop) {
    let mut later = Regular::of(shop, &mut shop.buyer());
    later.wants(1);
    later.spend(450);
    later.until_balance(550);
}
