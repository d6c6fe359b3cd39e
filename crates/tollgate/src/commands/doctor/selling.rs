//! What `doctor` looks at when something is sold: the key, the prices of the catalogue, and the way events take.

use super::Findings;
use crate::config::Config;
use crate::deployment::single_threaded;
use crate::problem::Problem;
use crate::process::selling::client;
use billing::checkup::checkup;
use billing::stripe::Trouble;

pub fn check(config: &Config, findings: &mut Findings) {
    let stripe = &config.stripe;
    if stripe.secret_key.is_none() {
        return;
    }
    let (Ok(Some(client)), Ok(runtime)) = (client(config), single_threaded()) else {
        let what = "stripe.secret_key or stripe.api_version cannot be sent.";
        let fix = "Copy them again: both are visible ASCII characters without spaces.";
        findings.problems.push(Problem::new("stripe.secret_key", what, fix));
        return;
    };
    let mode = if stripe.livemode() { "live" } else { "test" };
    let base = config.base_url.as_deref().unwrap_or_default().trim_end_matches('/');
    let webhook_url = format!("{base}/api/billing/webhook");
    let asked = checkup(&client, &stripe.catalogue, stripe.livemode(), &webhook_url);
    let found = match runtime.block_on(asked) {
        Ok(found) => found,
        Err(trouble) => return findings.problems.push(unreachable(&trouble)),
    };
    let account = found.account.as_deref().unwrap_or("a restricted key");
    findings.good.push(format!("Stripe answers ({mode} mode, {account})"));
    let wrong =
        found.faults.iter().filter(|fault| !fault.is_advice && fault.setting != "stripe.webhook_secrets");
    if found.prices > 0 && wrong.count() == 0 {
        findings.good.push(format!("the prices at Stripe are what people are shown ({})", found.prices));
    }
    if found.prices == 0 && stripe.catalogue.packs.is_empty() {
        let what = "There is a key, and neither packs nor plans: nothing can be bought.";
        let fix = "Describe what is sold: [stripe.packs.NAME] and [stripe.plans.NAME].";
        findings.advice.push(Problem::new("stripe.packs", what, fix));
    }
    if found.has_endpoint {
        findings.good.push("a webhook endpoint at Stripe sends here".to_owned());
    }
    for fault in found.faults {
        let list = if fault.is_advice { &mut findings.advice } else { &mut findings.problems };
        list.push(Problem::new(fault.setting, fault.what, fault.fix));
    }
}

fn unreachable(trouble: &Trouble) -> Problem {
    let (what, fix) = match trouble {
        Trouble::Refused { status: 401, .. } => (
            "Stripe does not know this key.".to_owned(),
            "Copy the secret key from the dashboard's developer pages; a rolled key ends.",
        ),
        Trouble::Unavailable(_) => (
            format!("{trouble}."),
            "See that this machine may reach api.stripe.com:443, and that stripe.api_base is right.",
        ),
        _ => (format!("{trouble}."), "Check stripe.secret_key, its rights, and stripe.api_version."),
    };
    Problem::new("stripe.secret_key", what, fix)
}
