//! `[stripe]`: the account that sells, and what is sold. Packs and plans are judged together with the units of the ledger.

use super::Builder;
use super::credit_terms::{amount, table, unit_of};
use super::value::{Checked, Value, misfit, shown};
use billing::catalogue::{Catalogue, Custom, Interval, Pack, Plan, Rollover};
use billing::payments::{OnDispute, Policy};
use credits::Shortfall;
use kernel::Secret;
use toml::{Table, Value as Toml};
use url::Url;

const PACK: [&str; 6] = ["price", "credits", "unit", "amount", "currency", "custom"];
const PLAN: [&str; 11] = [
    "price",
    "credits",
    "unit",
    "amount",
    "currency",
    "interval",
    "trial_days",
    "trial_credits",
    "rollover",
    "rollover_cap",
    "features",
];
/// As Stripe allows.
const LONGEST_TRIAL: i64 = 730;

#[derive(Debug, Clone)]
pub struct Stripe {
    /// `None`: nothing is sold, but by the till of `dev`.
    pub secret_key: Option<Secret<String>>,
    pub webhook_secrets: Vec<Secret<String>>,
    /// Without a slash at the end.
    pub api_base: String,
    pub api_version: String,
    /// Milliseconds.
    pub tolerance: i64,
    pub catalogue: Catalogue,
    pub policy: Policy,
    pub automatic_tax: bool,
    pub promotion_codes: bool,
}

impl Stripe {
    /// Whether real money moves; it follows from the key.
    pub fn livemode(&self) -> bool {
        let live = |key: &Secret<String>| {
            ["sk_live_", "rk_live_"].iter().any(|prefix| key.expose().starts_with(prefix))
        };
        self.secret_key.as_ref().is_some_and(live)
    }
}

impl Builder {
    pub(super) fn stripe_terms(&mut self, units: &[String]) -> Stripe {
        let webhook_secrets = match self.value("stripe.webhook_secrets") {
            Some(Value::SecretList(secrets)) => secrets,
            _ => Vec::new(),
        };
        let packs = self.priced("stripe.packs", |name, value| pack(name, value, units));
        let plans = self.priced("stripe.plans", |name, value| plan(name, value, units));
        for name in packs.keys().filter(|name| plans.contains_key(*name)) {
            let what = format!("`{}` is a pack and a plan.", shown(name));
            self.report(
                "stripe.plans",
                what,
                "Give one of them another name: a checkout asks for it by name.",
            );
        }
        let prices = plans.values().map(|plan| plan.price.as_str());
        let mut prices: Vec<&str> = prices.collect();
        prices.sort_unstable();
        if let Some(pair) = prices.windows(2).find(|pair| pair[0] == pair[1]) {
            let what = format!("Two plans have the price `{}`.", shown(pair[0]));
            self.report(
                "stripe.plans",
                what,
                "Make a price at Stripe for each plan: an invoice names only the price.",
            );
        }
        Stripe {
            secret_key: self.secret_text("stripe.secret_key"),
            webhook_secrets,
            api_base: self.api_base(),
            api_version: self.text("stripe.api_version"),
            tolerance: self.duration("stripe.tolerance"),
            catalogue: Catalogue { packs, plans },
            policy: Policy {
                on_dispute: match self.text("stripe.on_dispute").as_str() {
                    "freeze" => OnDispute::Freeze,
                    _ => OnDispute::ClawBack,
                },
                shortfall: match self.text("stripe.shortfall").as_str() {
                    "clamp" => Shortfall::Clamp,
                    _ => Shortfall::Owe,
                },
            },
            automatic_tax: self.flag("stripe.automatic_tax"),
            promotion_codes: self.flag("stripe.promotion_codes"),
        }
    }

    /// The key goes there with every call, so it is https but on this machine.
    fn api_base(&mut self) -> String {
        let path = "stripe.api_base";
        let text = self.text(path).trim_end_matches('/').to_owned();
        let good = Url::parse(&text).is_ok_and(|url| {
            let loopback = match url.host() {
                Some(url::Host::Ipv4(address)) => address.is_loopback(),
                Some(url::Host::Ipv6(address)) => address.is_loopback(),
                Some(url::Host::Domain(name)) => name == "localhost",
                None => false,
            };
            let plain = url.path() == "/" && url.query().is_none() && url.username().is_empty();
            plain && (url.scheme() == "https" || (url.scheme() == "http" && loopback))
        });
        if !good {
            let fix = "Leave it out, or write https://HOST; http only for an address of this machine.";
            self.report(path, "This is not where Stripe can be.", fix);
            return "https://api.stripe.com".to_owned();
        }
        text
    }
}

fn pack(name: &str, value: &Toml, units: &[String]) -> Checked<Pack> {
    let subject = format!("The pack `{}`", shown(name));
    let form = "Write { price = \"price_…\", credits = 500, amount = 1000, currency = \"usd\" }.";
    let table = table(value, &PACK, &subject, form)?;
    let custom = table.get("custom").map(|value| custom(value, &subject)).transpose()?;
    // What the buyer names the amount of has no price at Stripe and no credits of its own.
    let (price, credits, cost) = match custom {
        None => (
            stripe_id(table, "price", &subject)?,
            number(table, "credits", 1, &subject)?,
            number(table, "amount", 0, &subject)?,
        ),
        Some(custom) => {
            if let Some(stranger) =
                ["price", "credits", "amount"].iter().find(|name| table.contains_key(**name))
            {
                let what = format!("{subject} has `{stranger}`, and the buyer names the amount.");
                return Err(misfit(what, "Leave out either custom or price, credits and amount."));
            }
            (String::new(), 0, custom.min)
        }
    };
    let (unit, currency) = (unit_of(table, units, &subject)?, currency(table, &subject)?);
    Ok(Pack { price, credits, unit, amount: cost, currency, custom })
}

fn custom(value: &Toml, subject: &str) -> Checked<Custom> {
    let subject = format!("{subject}, which the buyer names the amount of,");
    let form = "Write custom = { min = 500, max = 50000, credits_per_100 = 10 }.";
    let table = table(value, &["min", "max", "credits_per_100"], &subject, form)?;
    let custom = Custom {
        min: number(table, "min", 1, &subject)?,
        max: number(table, "max", 1, &subject)?,
        credits_per_100: number(table, "credits_per_100", 1, &subject)?,
    };
    if custom.min > custom.max {
        return Err(misfit(format!("{subject} has a min above its max."), form));
    }
    if billing::worth::of_custom(custom, custom.min).is_none() {
        return Err(misfit(format!("{subject} gives no whole credit for its min."), form));
    }
    Ok(custom)
}

fn plan(name: &str, value: &Toml, units: &[String]) -> Checked<Plan> {
    let subject = format!("The plan `{}`", shown(name));
    let form = "Write { price = \"price_…\", credits = 1000, amount = 2000, currency = \"usd\", interval = \"month\" }.";
    let table = table(value, &PLAN, &subject, form)?;
    let interval = text(table, "interval", &subject)?.unwrap_or("month");
    let interval = Interval::parse(interval).ok_or_else(|| {
        misfit(
            format!("{subject} has an unknown interval."),
            "Write \"day\", \"week\", \"month\" or \"year\".",
        )
    })?;
    let trial_days = match table.get("trial_days") {
        None => 0,
        Some(value) => {
            value.as_integer().filter(|days| (0..=LONGEST_TRIAL).contains(days)).ok_or_else(|| {
                misfit(
                    format!("{subject} has trial_days that are none."),
                    "Write a whole number from 0 to 730.",
                )
            })?
        }
    };
    let optional =
        |member| if table.contains_key(member) { number(table, member, 0, &subject) } else { Ok(0) };
    Ok(Plan {
        price: stripe_id(table, "price", &subject)?,
        credits: number(table, "credits", 0, &subject)?,
        unit: unit_of(table, units, &subject)?,
        amount: number(table, "amount", 0, &subject)?,
        currency: currency(table, &subject)?,
        interval,
        trial_days: u32::try_from(trial_days).unwrap_or_default(),
        trial_credits: optional("trial_credits")?,
        rollover: rollover(table, &subject)?,
        features: features(table, &subject)?,
    })
}

/// What is left of a period's credits. A cap goes with `capped` and with nothing else.
fn rollover(table: &Table, subject: &str) -> Checked<Rollover> {
    let fix = "Write rollover = \"none\", \"full\", or \"capped\" with rollover_cap = 500.";
    let wrong = |what: &str| misfit(format!("{subject} {what}."), fix);
    let has_cap = table.contains_key("rollover_cap");
    match text(table, "rollover", subject)?.unwrap_or("none") {
        "capped" if has_cap => number(table, "rollover_cap", 1, subject).map(Rollover::Capped),
        "capped" => Err(wrong("has a capped rollover without a rollover_cap")),
        "none" | "full" if has_cap => Err(wrong("has a rollover_cap, and its rollover is not capped")),
        "none" => Ok(Rollover::None),
        "full" => Ok(Rollover::Full),
        _ => Err(wrong("has an unknown rollover")),
    }
}

fn features(table: &Table, subject: &str) -> Checked<Vec<String>> {
    let wrong = || {
        misfit(
            format!("{subject} has features that are not names."),
            "Write features = [\"export\", \"priority\"].",
        )
    };
    let Some(value) = table.get("features") else { return Ok(Vec::new()) };
    let names = value.as_array().ok_or_else(wrong)?;
    let name = |value: &Toml| {
        let text = value.as_str()?;
        let good = (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        good.then(|| text.to_owned())
    };
    names.iter().map(|value| name(value).ok_or_else(wrong)).collect()
}

fn number(table: &Table, member: &str, least: i64, subject: &str) -> Checked<i64> {
    let missing = || misfit(format!("{subject} has no {member}."), format!("Write {member} = 500."));
    amount(table.get(member).ok_or_else(missing)?, least, &format!("{subject}: {member}"))
}

fn text<'a>(table: &'a Table, member: &str, subject: &str) -> Checked<Option<&'a str>> {
    let wrong =
        || misfit(format!("{subject} has a {member} that is no text."), format!("Write {member} = \"…\"."));
    table.get(member).map(|value| value.as_str().ok_or_else(wrong)).transpose()
}

fn stripe_id(table: &Table, member: &str, subject: &str) -> Checked<String> {
    let fix = "Write the id that Stripe shows for the price: price = \"price_…\".";
    let found = text(table, member, subject)?.unwrap_or_default();
    billing::stripe::segment(found)
        .map(str::to_owned)
        .map_err(|_| misfit(format!("{subject} has no {member} of Stripe's."), fix))
}

fn currency(table: &Table, subject: &str) -> Checked<String> {
    let found = text(table, "currency", subject)?.unwrap_or_default().to_ascii_lowercase();
    let good = found.len() == 3 && found.bytes().all(|byte| byte.is_ascii_lowercase());
    let wrong =
        || misfit(format!("{subject} has no currency."), "Write its three letters: currency = \"usd\".");
    if good { Ok(found) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::super::source::Environment;
    use super::super::{Loaded, load};
    use super::*;

    fn with_terms(text: &str) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.toml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), &Environment::from(&[][..]))
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        let problems = with_terms(text).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        format!("{}: {} {}", problems[0].setting, problems[0].what, problems[0].fix)
    }

    const PACK: &str =
        "[stripe.packs.small]\nprice = \"price_1\"\ncredits = 500\namount = 1000\ncurrency = \"usd\"\n";
    const PLAN: &str =
        "[stripe.plans.pro]\nprice = \"price_2\"\ncredits = 1000\namount = 2000\ncurrency = \"EUR\"\n";

    #[test]
    fn packs_and_plans_are_read_with_their_defaults() {
        let text = format!(
            "{PACK}[stripe.packs.any]\ncurrency = \"usd\"\ncustom = {{ min = 500, max = 9000, credits_per_100 = 10 }}\n{PLAN}"
        );
        let loaded = with_terms(&text);
        assert_eq!(loaded.problems, []);
        let stripe = loaded.config.stripe;
        assert_eq!(
            (stripe.catalogue.packs["small"].credits, stripe.catalogue.packs["small"].unit.as_str()),
            (500, "credits")
        );
        assert_eq!(
            stripe.catalogue.packs["any"].custom,
            Some(Custom { min: 500, max: 9_000, credits_per_100: 10 })
        );
        let plan = &stripe.catalogue.plans["pro"];
        assert_eq!(
            (plan.currency.as_str(), plan.interval, plan.rollover),
            ("eur", Interval::Month, Rollover::None)
        );
        assert!(!stripe.livemode() && stripe.secret_key.is_none());
    }

    #[test]
    fn what_is_left_of_a_period_is_carried_over_as_the_plan_says() {
        for (asked, rollover) in [
            ("rollover = \"none\"", Rollover::None),
            ("rollover = \"full\"", Rollover::Full),
            ("rollover = \"capped\"\nrollover_cap = 200", Rollover::Capped(200)),
        ] {
            let loaded = with_terms(&format!("{PLAN}{asked}\n"));
            assert_eq!(loaded.problems, []);
            assert_eq!(loaded.config.stripe.catalogue.plans["pro"].rollover, rollover);
        }
    }

    #[test]
    fn the_mode_follows_from_the_key() {
        for (key, live) in
            [("sk_live_x", true), ("rk_live_x", true), ("sk_test_x", false), ("rk_test_x", false)]
        {
            let loaded = with_terms(&format!("[stripe]\nsecret_key = \"{key}\"\n"));
            assert_eq!(loaded.config.stripe.livemode(), live, "{key}");
        }
    }

    #[test]
    fn mistakes_are_told_with_what_to_write() {
        let told = refused(&PACK.replace("500", "5.5"));
        assert!(told.starts_with("stripe.packs: The pack `small`: credits is not such an amount."), "{told}");
        assert!(refused(&PACK.replace("usd", "dollars")).contains("no currency"));
        assert!(refused(&PACK.replace("price_1", "price 1")).contains("no price of Stripe's"));
        assert!(refused(&format!("{PACK}colour = 1\n")).contains("unknown member `colour`"));
        for (asked, told) in [
            ("rollover = \"capped\"", "without a rollover_cap"),
            ("rollover_cap = 5", "its rollover is not capped"),
            ("rollover = \"full\"\nrollover_cap = 5", "its rollover is not capped"),
            ("rollover = \"some\"", "unknown rollover"),
            ("rollover = \"capped\"\nrollover_cap = 0", "rollover_cap is not such an amount"),
        ] {
            let said = refused(&format!("{PLAN}{asked}\n"));
            assert!(said.contains(told), "{asked}: {said}");
        }
        assert!(refused(&format!("{PACK}{}", PLAN.replace("pro", "small"))).contains("a pack and a plan"));
        assert!(refused(&format!("{PLAN}{}", PLAN.replace("pro", "team"))).contains("Two plans"));
        for base in [
            "http://stripe.example.com",
            "ftp://127.0.0.1",
            "https://a@b.example.com",
            "https://x.example.com/v1",
        ] {
            assert!(
                refused(&format!("[stripe]\napi_base = \"{base}\"\n")).contains("not where Stripe can be"),
                "{base}"
            );
        }
    }
}
