//! What is shown of billing, to browsers in camelCase and to backends in snake_case.

use billing::Shown;
use billing::catalogue::Catalogue;
use billing::checkouts::Checkout;
use billing::selling::Preview;
use billing::stripe::objects::Invoice;
use billing::subscriptions::{Running, from_seconds};
use billing::topups::{State, TopUp};
use serde_json::{Map, Value, json};

/// How members are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Camel,
    Snake,
}

impl Case {
    /// `name` as it is written in snake_case.
    fn spell(self, name: &str) -> String {
        if self == Case::Snake {
            return name.to_owned();
        }
        let mut out = String::with_capacity(name.len());
        let mut upper = false;
        for c in name.chars() {
            match c {
                '_' => upper = true,
                c if upper => {
                    out.push(c.to_ascii_uppercase());
                    upper = false;
                }
                c => out.push(c),
            }
        }
        out
    }

    fn object(self, members: Value) -> Value {
        match members {
            Value::Object(members) => {
                let spelled = members.into_iter().map(|(name, value)| (self.spell(&name), value));
                Value::Object(spelled.collect::<Map<_, _>>())
            }
            other => other,
        }
    }
}

pub(crate) fn catalogue(catalogue: &Catalogue, case: Case) -> Value {
    let pack = |(name, pack): (&String, &billing::catalogue::Pack)| {
        let custom = pack.custom.map(|custom| {
            case.object(
                json!({ "min": custom.min, "max": custom.max, "credits_per_100": custom.credits_per_100 }),
            )
        });
        case.object(json!({
            "name": name,
            "credits": pack.credits,
            "unit": pack.unit,
            "amount": pack.amount,
            "currency": pack.currency,
            "custom": custom,
        }))
    };
    let plan = |(name, plan): (&String, &billing::catalogue::Plan)| {
        case.object(json!({
            "name": name,
            "credits": plan.credits,
            "unit": plan.unit,
            "amount": plan.amount,
            "currency": plan.currency,
            "interval": plan.interval.name(),
            "trial_days": plan.trial_days,
            "trial_credits": plan.trial_credits,
            "rollover": plan.rollover.name(),
            "rollover_cap": plan.rollover.cap(),
            "features": plan.features,
        }))
    };
    json!({
        "packs": catalogue.packs.iter().map(pack).collect::<Vec<_>>(),
        "plans": catalogue.plans.iter().map(plan).collect::<Vec<_>>(),
    })
}

pub(crate) fn subscription(running: Option<&Running>, case: Case) -> Value {
    let Some(running) = running else { return Value::Null };
    case.object(json!({
        "plan": running.plan,
        "status": running.status,
        "current_period_end": running.period_end.map(kernel::Millis::iso),
        "cancel_at_period_end": running.cancel_at_period_end,
        "trial_end": running.trial_end.map(kernel::Millis::iso),
    }))
}

pub(crate) fn preview(preview: &Preview, case: Case) -> Value {
    case.object(json!({
        "amount": preview.amount,
        "currency": preview.currency,
        "credits": preview.credits,
        "unit": preview.unit,
    }))
}

pub(crate) fn invoice(invoice: &Invoice, case: Case) -> Value {
    case.object(json!({
        "id": invoice.id,
        "number": invoice.number,
        "status": invoice.status,
        "total": invoice.total,
        "amount_paid": invoice.amount_paid,
        "currency": invoice.currency,
        "created_at": from_seconds(invoice.created).iso(),
        "url": invoice.hosted_invoice_url,
        "pdf": invoice.invoice_pdf,
    }))
}

/// Nobody has asked for it: it is switched off.
pub(crate) fn top_up(shown: &Shown, case: Case) -> Value {
    let top_up = shown.top_up.as_ref();
    case.object(json!({
        "enabled": top_up.is_some_and(|top_up| top_up.enabled),
        "below": top_up.map(|top_up| top_up.below),
        "unit": top_up.map(|top_up| &top_up.unit),
        "pack": top_up.map(|top_up| &top_up.pack),
        "monthly_max": top_up.map(|top_up| top_up.monthly_max),
        "state": top_up.map_or(State::Disabled, TopUp::state).name(),
        "retry_at": top_up.and_then(|top_up| top_up.retry_at).map(kernel::Millis::iso),
        "count": shown.count,
        "error": top_up.and_then(|top_up| top_up.error.as_ref()),
    }))
}

pub(crate) fn checkout(checkout: &Checkout) -> Value {
    let credits = match checkout.amount {
        None => checkout.credits.saturating_mul(checkout.quantity),
        Some(amount) => amount.saturating_mul(checkout.credits) / 100,
    };
    json!({ "status": checkout.status.name(), "credits": credits, "unit": checkout.unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_spelled_as_the_caller_reads_them() {
        assert_eq!(Case::Camel.spell("cancel_at_period_end"), "cancelAtPeriodEnd");
        assert_eq!(Case::Camel.spell("credits_per_100"), "creditsPer100");
        assert_eq!(Case::Snake.spell("cancel_at_period_end"), "cancel_at_period_end");
    }
}
