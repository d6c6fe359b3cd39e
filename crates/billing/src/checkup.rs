//! Whether what the configuration sells exists at Stripe as it is described, and whether Stripe would tell us of payments.

use crate::catalogue::{Catalogue, Interval};
use crate::stripe::objects::List;
use crate::stripe::{Class, Form, Stripe, Trouble, segment};
use crate::subject;
use serde::Deserialize;

const MOST_ENDPOINTS: i64 = 100;

/// Something that does not fit, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The setting at fault.
    pub setting: &'static str,
    pub what: String,
    pub fix: String,
    /// Money can be taken all the same.
    pub is_advice: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkup {
    /// The account's id; none when the key may not read it.
    pub account: Option<String>,
    pub prices: usize,
    /// An endpoint at Stripe sends to us.
    pub has_endpoint: bool,
    pub faults: Vec<Fault>,
}

#[derive(Deserialize)]
struct Account {
    id: String,
    #[serde(default = "yes")]
    charges_enabled: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
struct Price {
    active: bool,
    currency: String,
    unit_amount: Option<i64>,
    recurring: Option<Recurring>,
}

#[derive(Debug, Deserialize)]
struct Recurring {
    interval: String,
    #[serde(default = "once")]
    interval_count: i64,
}

fn once() -> i64 {
    1
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    url: String,
    status: String,
    #[serde(default)]
    enabled_events: Vec<String>,
}

/// What an item of the catalogue says of its price.
struct Sold<'a> {
    setting: &'static str,
    item: String,
    price: &'a str,
    amount: i64,
    currency: &'a str,
    interval: Option<Interval>,
}

/// Asks Stripe. `webhook_url` is where its events should go. Only an account that does not answer at all is an error.
pub async fn checkup(
    stripe: &Stripe,
    catalogue: &Catalogue,
    livemode: bool,
    webhook_url: &str,
) -> Result<Checkup, Trouble> {
    let mut found = Checkup::default();
    match stripe.get::<Account>(Class::Person, "/v1/account", &Form::new()).await {
        Ok(account) => {
            if livemode && !account.charges_enabled {
                let what = "Stripe does not let this account take money yet.";
                let fix = "Answer what Stripe still asks for in its dashboard.";
                found.fault("stripe.secret_key", what, fix);
            }
            found.account = Some(account.id);
        }
        // A restricted key need not have this right.
        Err(Trouble::Refused { status: 403, .. }) => {}
        Err(trouble) => return Err(trouble),
    }
    for sold in sold(catalogue) {
        found.prices += 1;
        let path = format!("/v1/prices/{}", segment(sold.price)?);
        match stripe.get::<Price>(Class::Person, &path, &Form::new()).await {
            Ok(price) => found.faults.extend(judge(&sold, &price)),
            Err(Trouble::Missing(_)) => {
                let what = format!("{}: Stripe knows no price {}.", sold.item, sold.price);
                let fix = "Copy the id from the dashboard; test and live mode have prices of their own.";
                found.fault(sold.setting, what, fix);
            }
            Err(Trouble::Refused { message, .. }) => {
                let what = format!("{}: its price cannot be read: {message}", sold.item);
                found.fault(sold.setting, what, "Give the key the right to read prices.");
            }
            Err(trouble) => return Err(trouble),
        }
    }
    let query = Form::new().with("limit", MOST_ENDPOINTS);
    match stripe.get::<List<Endpoint>>(Class::Person, "/v1/webhook_endpoints", &query).await {
        Ok(endpoints) => found.judge_endpoints(&endpoints.data, webhook_url),
        Err(Trouble::Refused { .. } | Trouble::Missing(_)) => found.advise(
            "This key may not list Stripe's webhook endpoints, so nobody looked whether one sends here.",
            format!("See in the dashboard that one sends to {webhook_url}."),
        ),
        Err(trouble) => return Err(trouble),
    }
    Ok(found)
}

impl Checkup {
    fn fault(&mut self, setting: &'static str, what: impl Into<String>, fix: impl Into<String>) {
        self.faults.push(Fault { setting, what: what.into(), fix: fix.into(), is_advice: false });
    }

    fn advise(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        let setting = "stripe.webhook_secrets";
        self.faults.push(Fault { setting, what: what.into(), fix: fix.into(), is_advice: true });
    }

    /// Another way may lead here, such as Stripe's command line; so a missing endpoint is no fault.
    fn judge_endpoints(&mut self, endpoints: &[Endpoint], webhook_url: &str) {
        let ours = |endpoint: &&Endpoint| endpoint.url.trim_end_matches('/') == webhook_url;
        let mut ours = endpoints.iter().filter(ours).peekable();
        if ours.peek().is_none() {
            let what = format!("No webhook endpoint at Stripe sends to {webhook_url}.");
            let fix = "Add one in the dashboard, or payments are noticed by the hourly look only.";
            return self.advise(what, fix);
        }
        let Some(enabled) = ours.find(|endpoint| endpoint.status == "enabled") else {
            let what = format!("The webhook endpoint for {webhook_url} is switched off at Stripe.");
            return self.fault("stripe.webhook_secrets", what, "Switch it on in the dashboard.");
        };
        self.has_endpoint = true;
        let sends = |kind: &&str| enabled.enabled_events.iter().any(|sent| sent == "*" || sent == kind);
        let missing: Vec<&str> = subject::KINDS.into_iter().filter(|kind| !sends(kind)).collect();
        if !missing.is_empty() {
            let what = format!("The webhook endpoint at Stripe does not send {}.", missing.join(", "));
            self.fault("stripe.webhook_secrets", what, "Add these events to the endpoint in the dashboard.");
        }
    }
}

/// What has a price at Stripe: where the buyer names the amount there is none.
fn sold(catalogue: &Catalogue) -> Vec<Sold<'_>> {
    let packs = catalogue.packs.iter().filter(|(_, pack)| pack.custom.is_none()).map(|(name, pack)| Sold {
        setting: "stripe.packs",
        item: format!("Pack `{name}`"),
        price: &pack.price,
        amount: pack.amount,
        currency: &pack.currency,
        interval: None,
    });
    let plans = catalogue.plans.iter().map(|(name, plan)| Sold {
        setting: "stripe.plans",
        item: format!("Plan `{name}`"),
        price: &plan.price,
        amount: plan.amount,
        currency: &plan.currency,
        interval: Some(plan.interval),
    });
    packs.chain(plans).collect()
}

fn judge(sold: &Sold<'_>, price: &Price) -> Vec<Fault> {
    let mut found = Checkup::default();
    let Sold { setting, item, price: id, .. } = sold;
    if !price.active {
        let what = format!("{item}: the price {id} is archived at Stripe, so nobody can buy it.");
        found.fault(setting, what, "Unarchive it in the dashboard, or name another price.");
    }
    let same_currency = price.currency.eq_ignore_ascii_case(sold.currency);
    if !same_currency || price.unit_amount != Some(sold.amount) {
        let there = match price.unit_amount {
            Some(amount) => format!("{amount} {}", price.currency),
            None => format!("no fixed amount, in {}", price.currency),
        };
        let what = format!(
            "{item}: people are shown {} {}, and {id} charges {there} (smallest unit).",
            sold.amount, sold.currency
        );
        found.fault(setting, what, "Correct amount and currency, or name another price.");
    }
    let every = price.recurring.as_ref().map(|every| (every.interval_count, every.interval.as_str()));
    match (sold.interval, every) {
        (None, None) => {}
        (None, Some(_)) => {
            let what = format!("{item}: {id} is charged again and again, and a pack is bought once.");
            found.fault(setting, what, "Name a one-off price, or make it a plan.");
        }
        (Some(_), None) => {
            let what = format!("{item}: {id} is charged once, and a plan is charged every period.");
            found.fault(setting, what, "Name a recurring price, or make it a pack.");
        }
        (Some(interval), Some((count, there))) if count != 1 || there != interval.name() => {
            let what =
                format!("{item}: it says every {}, and {id} is every {count} {there}.", interval.name());
            found.fault(setting, what, "Correct interval, or name another price.");
        }
        (Some(_), Some(_)) => {}
    }
    found.faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn judged(interval: Option<Interval>, price: Value) -> Vec<String> {
        let sold = Sold {
            setting: "stripe.packs",
            item: "Pack `small`".into(),
            price: "price_1",
            amount: 1_000,
            currency: "usd",
            interval,
        };
        let price: Price = serde_json::from_value(price).expect("it is a price");
        judge(&sold, &price).into_iter().map(|fault| fault.what).collect()
    }

    #[test]
    fn a_price_must_be_what_people_are_shown() {
        let good = json!({"active": true, "currency": "usd", "unit_amount": 1_000, "recurring": null});
        assert_eq!(judged(None, good.clone()), [""; 0]);
        let with = |member: &str, value: Value| {
            let mut price = good.clone();
            price[member] = value;
            price
        };
        assert!(judged(None, with("active", json!(false)))[0].contains("archived"));
        assert!(
            judged(None, with("unit_amount", json!(900)))[0]
                .contains("shown 1000 usd, and price_1 charges 900 usd")
        );
        assert!(judged(None, with("unit_amount", json!(null)))[0].contains("no fixed amount"));
        assert!(judged(None, with("currency", json!("eur")))[0].contains("1000 eur"));
        let monthly = with("recurring", json!({"interval": "month", "interval_count": 1}));
        assert!(judged(None, monthly.clone())[0].contains("bought once"));
        assert_eq!(judged(Some(Interval::Month), monthly.clone()), [""; 0]);
        assert!(judged(Some(Interval::Year), monthly)[0].contains("every 1 month"));
        assert!(judged(Some(Interval::Month), good.clone())[0].contains("charged once"));
        let quarterly = with("recurring", json!({"interval": "month", "interval_count": 3}));
        assert!(judged(Some(Interval::Month), quarterly)[0].contains("every 3 month"));
    }

    #[test]
    fn an_endpoint_must_be_there_switched_on_and_send_what_matters() {
        let url = "https://auth.example.com/api/billing/webhook";
        let judged = |endpoints: Value| {
            let endpoints: Vec<Endpoint> = serde_json::from_value(endpoints).expect("they are endpoints");
            let mut found = Checkup::default();
            found.judge_endpoints(&endpoints, url);
            found.faults.into_iter().map(|fault| (fault.what, fault.is_advice)).collect::<Vec<_>>()
        };
        assert!(judged(json!([]))[0].1);
        assert!(
            judged(json!([{"url": "https://elsewhere", "status": "enabled", "enabled_events": ["*"]}]))[0].1
        );
        assert_eq!(judged(json!([{"url": url, "status": "enabled", "enabled_events": ["*"]}])), []);
        assert!(
            judged(json!([{"url": url, "status": "disabled", "enabled_events": ["*"]}]))[0]
                .0
                .contains("switched off")
        );
        let few = judged(json!([{"url": url, "status": "enabled", "enabled_events": ["invoice.paid"]}]));
        assert!(
            few[0].0.contains("charge.refunded") && !few[0].0.contains("invoice.paid,") && !few[0].1,
            "{few:?}"
        );
    }
}
