//! `tollgate billing status`: what waits, what was given up, and what a person should look at.

use crate::config::{Config, Loaded};
use crate::deployment::{Deployment, now};
use crate::terminal::{Outcome, Terminal};
use billing::inbox;
use billing::overview::{OpenDispute, Overview, overview};
use billing::subscriptions::Running;
use kernel::Millis;
use kernel::time::SECOND;
use serde_json::{Map, Value, json};

pub fn status(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let (seen, counts) = deployment.read(|tx| Ok((overview(tx)?, inbox::counts(tx)?)))?;
    let (config, now) = (&deployment.config, now());
    terminal.result(&in_words(config, &seen, &counts, now), &in_json(config, &seen, &counts, now));
    Ok(())
}

/// With which money, if any.
fn mode(config: &Config) -> &'static str {
    match &config.stripe.secret_key {
        None => "off",
        Some(_) if config.stripe.livemode() => "live",
        Some(_) => "test",
    }
}

fn count(counts: &[(String, i64)], state: &str) -> i64 {
    counts.iter().find(|(name, _)| name == state).map_or(0, |(_, count)| *count)
}

fn in_words(config: &Config, seen: &Overview, counts: &[(String, i64)], now: Millis) -> String {
    let mut text = format!("Stripe: {}", mode(config));
    if config.stripe.secret_key.is_some() && config.stripe.webhook_secrets.is_empty() {
        text.push_str(", and the webhook door is shut: stripe.webhook_secrets is not set");
    }
    let of = |state| count(counts, state);
    text.push_str(&format!(
        "\nEvents: {} pending, {} done, {} ignored, {} given up",
        of("pending"),
        of("done"),
        of("ignored"),
        of("failed")
    ));
    if let Some(oldest) = seen.load.oldest {
        text.push_str(&format!("; the oldest has waited for {} s", age(oldest, now)));
    }
    let listed = |counts: &[(String, i64)]| match counts {
        [] => "none".to_owned(),
        counts => {
            let each = counts.iter().map(|(name, count)| format!("{count} {name}"));
            each.collect::<Vec<_>>().join(", ")
        }
    };
    text.push_str(&format!("\nCheckouts under way: {}", listed(&seen.checkouts)));
    text.push_str(&format!("\nSubscriptions: {}", listed(&seen.subscriptions)));
    text.push_str(&format!("\nAutomatic top-ups: {}", listed(&seen.top_ups)));
    if of("failed") > 0 {
        text.push_str("\nlook at  events that were given up: tollgate billing events --status failed");
    }
    for second in &seen.extra {
        let (id, owner, status) = (&second.id, &second.owner, &second.status);
        text.push_str(&format!(
            "\nlook at  {owner} pays for a second subscription, {id} ({status}): cancel one at Stripe"
        ));
    }
    for dispute in &seen.disputes {
        let whose = dispute.owner.as_ref().map_or_else(|| "nobody here".to_owned(), ToString::to_string);
        let currency = dispute.currency.as_deref().unwrap_or_default();
        text.push_str(&format!(
            "\nlook at  dispute {} of {whose}: {}, {} of the smallest unit of {currency}, since {}",
            dispute.id,
            dispute.status,
            dispute.amount,
            dispute.since.iso()
        ));
    }
    text
}

fn in_json(config: &Config, seen: &Overview, counts: &[(String, i64)], now: Millis) -> Value {
    let by_name = |counts: &[(String, i64)]| {
        counts.iter().map(|(name, count)| (name.clone(), json!(count))).collect::<Map<_, _>>()
    };
    let of = |state| count(counts, state);
    json!({
        "mode": mode(config),
        "webhook_open": config.stripe.webhook_secrets.iter().any(|secret| !secret.expose().trim().is_empty()),
        "inbox": {
            "pending": of("pending"), "done": of("done"), "ignored": of("ignored"), "failed": of("failed"),
            "oldest_pending_at": seen.load.oldest.map(Millis::iso),
            "oldest_pending_seconds": seen.load.oldest.map(|oldest| age(oldest, now)),
        },
        "checkouts": by_name(&seen.checkouts),
        "subscriptions": by_name(&seen.subscriptions),
        "top_ups": by_name(&seen.top_ups),
        "duplicates": seen.extra.iter().map(second_in_json).collect::<Vec<_>>(),
        "disputes": seen.disputes.iter().map(dispute_in_json).collect::<Vec<_>>(),
    })
}

fn age(since: Millis, now: Millis) -> i64 {
    now.0.saturating_sub(since.0).max(0) / SECOND
}

fn second_in_json(second: &Running) -> Value {
    let mut value = json!({ "id": second.id, "plan": second.plan, "status": second.status });
    value[second.owner.field()] = second.owner.id().into();
    value
}

fn dispute_in_json(dispute: &OpenDispute) -> Value {
    let mut value = json!({
        "id": dispute.id, "payment_intent": dispute.payment_intent, "status": dispute.status,
        "amount": dispute.amount, "currency": dispute.currency, "since": dispute.since.iso(),
    });
    if let Some(owner) = &dispute.owner {
        value[owner.field()] = owner.id().into();
    }
    value
}
