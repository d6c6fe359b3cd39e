//! What apps are told of money, in the transaction of the change.

use crate::payments::{Granted, Money, Paid, Standing};
use crate::stripe::objects::Dispute;
use crate::subscriptions::Running;
use credits::Owner;
use hooks::Kind;
use kernel::Millis;
use serde_json::{Value, json};
use store::{Error, Tx};

fn tell(
    tx: &mut Tx<'_>,
    kind: Kind,
    owner: &Owner,
    now: Millis,
    data: impl FnOnce() -> Value,
) -> Result<(), Error> {
    hooks::tell(tx, kind, &owner.to_string(), now, || {
        let mut data = data();
        data[owner.field()] = owner.id().into();
        data
    })
}

/// Money arrived, or an order that was free is complete.
pub fn completed(tx: &mut Tx<'_>, paid: &Paid<'_>, now: Millis) -> Result<(), Error> {
    tell(tx, Kind::PurchaseCompleted, paid.owner, now, || {
        json!({
            "purchase_id": paid.key, "item": paid.item, "reason": paid.reason.replace([' ', '-'], "_"),
            "credits": paid.credits, "unit": paid.unit, "amount": paid.captured, "currency": paid.currency,
            "payment_intent": paid.payment_intent, "expires_at": paid.expires_at.map(Millis::iso),
        })
    })
}

/// What is refunded in all has changed; it falls when a refund fails at the bank.
pub fn refunded(
    tx: &mut Tx<'_>,
    row: &Granted,
    money: &Money<'_>,
    taken_back: i64,
    now: Millis,
) -> Result<(), Error> {
    tell(tx, Kind::PurchaseRefunded, &row.owner, now, || {
        json!({
            "purchase_id": row.id, "item": row.item, "credits": row.credits, "unit": row.unit,
            "amount": money.captured, "amount_refunded": money.refunded, "currency": row.currency,
            "credits_taken_back": taken_back, "payment_intent": money.payment_intent,
        })
    })
}

/// A dispute takes the money away until it is decided, or has been decided. Inquiries are no disputes yet.
pub fn dispute(
    tx: &mut Tx<'_>,
    row: &Granted,
    dispute: &Dispute,
    (before, after): (Option<Standing>, Standing),
    now: Millis,
) -> Result<(), Error> {
    let Some(kind) = turn(before, after, &dispute.status) else { return Ok(()) };
    tell(tx, kind, &row.owner, now, || {
        let mut data = json!({
            "dispute_id": dispute.id, "purchase_id": row.id, "item": row.item, "amount": dispute.amount,
            "currency": row.currency, "status": dispute.status, "payment_intent": row.payment_intent,
        });
        if kind == Kind::DisputeClosed {
            data["won"] = (after == Standing::Ours).into();
        }
        data
    })
}

fn turn(before: Option<Standing>, after: Standing, status: &str) -> Option<Kind> {
    match (before, after) {
        (Some(before), after) if before == after => None,
        (_, Standing::Open) => Some(Kind::DisputeOpened),
        (_, Standing::Lost) | (Some(_), Standing::Ours) => Some(Kind::DisputeClosed),
        // Seen for the first time when it was over already.
        (None, Standing::Ours) => (status == "won").then_some(Kind::DisputeClosed),
    }
}

pub fn subscription(tx: &mut Tx<'_>, running: &Running, now: Millis) -> Result<(), Error> {
    tell(tx, Kind::SubscriptionChanged, &running.owner, now, || {
        json!({
            "subscription_id": running.id, "plan": running.plan, "status": running.status,
            "cancel_at_period_end": running.cancel_at_period_end,
            "current_period_end": running.period_end.map(Millis::iso), "trial_end": running.trial_end.map(Millis::iso),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispute_is_told_when_it_opens_and_when_it_is_decided() {
        use Standing::{Lost, Open, Ours};
        for (before, after, status, told) in [
            (None, Open, "needs_response", Some(Kind::DisputeOpened)),
            (Some(Open), Open, "under_review", None),
            (Some(Open), Ours, "won", Some(Kind::DisputeClosed)),
            (Some(Open), Lost, "lost", Some(Kind::DisputeClosed)),
            (Some(Lost), Lost, "appeal_under_review", None),
            (Some(Lost), Ours, "won", Some(Kind::DisputeClosed)),
            (None, Ours, "warning_needs_response", None),
            (Some(Ours), Ours, "warning_closed", None),
            (Some(Ours), Open, "needs_response", Some(Kind::DisputeOpened)),
            (None, Lost, "lost", Some(Kind::DisputeClosed)),
            (None, Ours, "won", Some(Kind::DisputeClosed)),
        ] {
            assert_eq!(turn(before, after, status), told, "{before:?} {status}");
        }
    }
}
