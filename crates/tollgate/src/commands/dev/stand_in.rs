//! The till in Stripe's place: what `dev` sells at as long as there is no key. It lives and ends with this process, and `serve`
//! has no way to it.

use crate::config::Config;
use crate::process::Prepared;
use crate::terminal::{Failure, Outcome, Terminal};
use billing::catalogue::{Catalogue, Interval, Pack, Plan, Rollover};
use billing::former_account;
use kernel::{Clock as _, Secret, SystemClock, random};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use till::{PriceSeed, Till, TillOptions};

/// Opens a till for a configuration without a key, and makes the configuration sell there. The till ends when it is dropped.
pub fn open(config: &mut Config, terminal: &Terminal) -> Result<Option<Till>, Failure> {
    if config.stripe.secret_key.is_some() {
        return refuse_real_money(config).map(|()| None);
    }
    let Some(here) = on_loopback(config.listen) else {
        terminal.note(&format!(
            "Nothing can be bought: the till speaks to this machine only, and {} is no address of its own. \
             Listen on 127.0.0.1 or 0.0.0.0, or set stripe.secret_key to a test key.",
            config.listen
        ));
        return Ok(None);
    };
    if config.stripe.catalogue == Catalogue::default() {
        config.stripe.catalogue = samples(config.credits.default_unit());
    }
    let rng = &mut random::secure();
    let webhook_secret = format!("whsec_{}", random::alphanumeric(rng, 32));
    // Each till makes ids of its own: what an earlier one sold stands in the database.
    let seed = u64::from_le_bytes(random::bytes(rng));
    let options = TillOptions { prices: prices(&config.stripe.catalogue), ..TillOptions::new(seed) }
        .webhook(&format!("http://{here}/api/billing/webhook"), &webhook_secret);
    let till = Till::start(options).map_err(|error| {
        let next = "Look at [stripe.packs] and [stripe.plans]; with a test key in stripe.secret_key `dev` needs no till.";
        Failure::new(format!("The till, which stands in for Stripe, cannot open: {error}."), next)
    })?;
    config.stripe.secret_key = Some(till.secret_key().clone());
    config.stripe.webhook_secrets = vec![Secret::new(webhook_secret)];
    config.stripe.api_base = till.base_url().to_owned();
    Ok(Some(till))
}

/// The till of the last time is gone with all it knew: nobody has a subscription there any more.
pub fn forget_the_last_one(prepared: &Prepared) -> Outcome {
    let forgotten = prepared.store.write(|tx| former_account::end(tx, SystemClock.now()));
    prepared.block_on(forgotten).map_err(|error| crate::deployment::store_failure(&error))
}

/// Everybody knows the sample users' passwords, and what is bought here is for trying.
fn refuse_real_money(config: &Config) -> Outcome {
    if !config.stripe.livemode() {
        return Ok(());
    }
    Err(Failure::new(
        "stripe.secret_key is a live key, and `dev` takes no real money.",
        "Use a test key, sk_test_…, or none: then a till stands in for Stripe.",
    ))
}

/// How this machine reaches a listener, if it does so by an address that nobody else can use.
fn on_loopback(listen: SocketAddr) -> Option<SocketAddr> {
    let address = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address if address.is_loopback() => address,
        _ => return None,
    };
    Some(SocketAddr::new(address, listen.port()))
}

/// Something to buy where the configuration names nothing.
fn samples(unit: &str) -> Catalogue {
    let pack = |name: &str, credits, amount| {
        let pack = Pack {
            price: format!("price_{name}"),
            credits,
            unit: unit.to_owned(),
            amount,
            currency: "usd".into(),
            custom: None,
        };
        (name.to_owned(), pack)
    };
    let plan = |name: &str, credits, amount| {
        let plan = Plan {
            price: format!("price_{name}"),
            credits,
            unit: unit.to_owned(),
            amount,
            currency: "usd".into(),
            interval: Interval::Month,
            trial_days: 0,
            trial_credits: 0,
            rollover: Rollover::None,
            features: Vec::new(),
        };
        (name.to_owned(), plan)
    };
    Catalogue {
        packs: [pack("small", 500, 1_000), pack("large", 3_000, 5_000)].into(),
        plans: [plan("basic", 1_000, 1_500), plan("pro", 5_000, 6_000)].into(),
    }
}

/// A price for everything that has one at Stripe; a price that several items share is made once.
fn prices(catalogue: &Catalogue) -> Vec<PriceSeed> {
    let packs = catalogue.packs.iter().filter(|(_, pack)| pack.custom.is_none());
    let packs = packs.map(|(name, pack)| (name, &pack.price, pack.amount, &pack.currency, None));
    let plans = catalogue.plans.iter();
    let plans =
        plans.map(|(name, plan)| (name, &plan.price, plan.amount, &plan.currency, Some(plan.interval)));
    let mut prices: Vec<PriceSeed> = Vec::new();
    for (name, id, amount, currency, interval) in packs.chain(plans) {
        if prices.iter().all(|known| known.id != *id) {
            prices.push(PriceSeed {
                id: id.clone(),
                name: name.clone(),
                amount,
                currency: currency.clone(),
                interval: interval.map(|interval| interval.name().to_owned()),
                custom: None,
            });
        }
    }
    prices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    fn opened(variables: &[(&str, &str)]) -> (Config, Result<Option<Till>, Failure>) {
        let mut config = load(None, &Environment::from(variables)).config;
        let till = open(&mut config, &Terminal::new(true, true));
        (config, till)
    }

    #[test]
    fn without_a_key_everything_is_sold_at_the_till() {
        let (config, till) = opened(&[("TOLLGATE_LISTEN", "0.0.0.0:8655")]);
        let till = till.unwrap().expect("a till");
        let stripe = &config.stripe;
        assert_eq!(stripe.api_base, till.base_url());
        assert!(!stripe.livemode() && stripe.secret_key.is_some() && stripe.webhook_secrets.len() == 1);
        assert_eq!((stripe.catalogue.packs.len(), stripe.catalogue.plans.len()), (2, 2));
        for id in ["price_small", "price_pro"] {
            assert_eq!(till.object(id).expect("it is there")["active"], true, "{id}");
        }
    }

    #[test]
    fn what_is_configured_is_what_is_sold() {
        let packs = "{ a = { price = \"price_1\", credits = 5, amount = 70, currency = \"eur\" }, \
            b = { price = \"price_1\", credits = 6, amount = 70, currency = \"eur\" }, \
            any = { custom = { min = 500, max = 900, credits_per_100 = 10 }, currency = \"eur\" } }";
        let (config, till) = opened(&[("TOLLGATE_STRIPE__PACKS", packs)]);
        let till = till.unwrap().expect("a till");
        assert_eq!((config.stripe.catalogue.packs.len(), config.stripe.catalogue.plans.len()), (3, 0));
        assert_eq!(till.object("price_1").expect("it is there")["unit_amount"], 70);
        assert!(till.object("price_small").is_none());
    }

    #[test]
    fn a_test_key_needs_no_till_and_a_live_key_is_refused() {
        let (config, till) = opened(&[("TOLLGATE_STRIPE__SECRET_KEY", "sk_test_x")]);
        assert!(till.unwrap().is_none());
        assert_eq!(config.stripe.api_base, "https://api.stripe.com");
        for key in ["sk_live_x", "rk_live_x"] {
            assert!(opened(&[("TOLLGATE_STRIPE__SECRET_KEY", key)]).1.is_err(), "{key}");
        }
    }

    #[test]
    fn the_till_reaches_only_what_this_machine_can() {
        let at = |text: &str| on_loopback(text.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(at("127.0.0.1:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(at("0.0.0.0:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(at("[::]:1").as_deref(), Some("[::1]:1"));
        assert_eq!(at("192.0.2.1:1"), None);
    }
}
