//! What Stripe says becomes rows and entries: synchronous, within one transaction, and nothing when it was done before.

use crate::books::{Books, Problem};
use crate::catalogue::Rollover;
use crate::checkouts::{self, Checkout, Kind, Status};
use crate::customers;
use crate::desk::{Outcome, Terms};
use crate::look::Said;
use crate::payments::{self, Effect, Money, Paid};
use crate::stripe::objects::{Invoice, PaymentIntent, Ref, Refund, Session, Subscription};
use crate::subscriptions::{self, from_seconds};
use crate::told;
use crate::topups;
use credits::{Owner, Source};
use store::Tx;

pub(crate) fn apply(
    tx: &mut Tx<'_>,
    books: Books<'_>,
    terms: &Terms,
    said: &Said,
) -> Result<Outcome, Problem> {
    match said {
        Said::Nothing => Ok(Outcome::default()),
        Said::Session(session) => apply_session(tx, books, session),
        Said::Payment { intent, refunds, disputes } => {
            let mut effects = top_up(tx, books, terms, intent)?;
            let captured = intent.captured();
            let counted = refunds.iter().filter(|refund| counts(refund)).map(|refund| refund.amount.max(0));
            let refunded = counted.fold(0, i64::saturating_add);
            let money = Money { payment_intent: &intent.id, captured, refunded, disputes };
            let settled = payments::settle(tx, books, terms.policy, &money)?;
            let ours = settled.is_some() || !effects.is_empty();
            effects.extend(settled.unwrap_or_default());
            Ok(Outcome { ours, effects })
        }
        Said::Invoice { invoice, subscription } => {
            apply_invoice(tx, books, terms, invoice, subscription.as_ref())
        }
        Said::Subscription(subscription) => apply_subscription(tx, books, terms, subscription),
        Said::Customer(customer) => {
            let ours = customer.deleted && customers::unlink(tx, &customer.id)?;
            let effects =
                if ours { vec![Effect::Noted("the customer is gone at Stripe".into())] } else { Vec::new() };
            Ok(Outcome { ours, effects })
        }
    }
}

/// A refund that failed or was called off moved nothing.
fn counts(refund: &Refund) -> bool {
    !matches!(refund.status.as_deref(), Some("failed" | "canceled"))
}

/// Ours is a session that hangs on a row of ours: by its id, or, when the process ended before it could note the id, by the
/// row's id in the metadata that only we write.
fn our_checkout(tx: &mut Tx<'_>, books: Books<'_>, session: &Session) -> Result<Option<Checkout>, Problem> {
    if let Some(checkout) = checkouts::of_session(tx, &session.id)? {
        return Ok(Some(checkout));
    }
    let Some(id) = session.metadata.get(checkouts::METADATA) else { return Ok(None) };
    let Some(checkout) = checkouts::find(tx, id)?.filter(|checkout| checkout.session_id.is_none()) else {
        return Ok(None);
    };
    checkouts::attach_session(tx, &checkout.id, &session.id, books.now)?;
    Ok(Some(checkout))
}

fn apply_session(tx: &mut Tx<'_>, books: Books<'_>, session: &Session) -> Result<Outcome, Problem> {
    let Some(checkout) = our_checkout(tx, books, session)? else { return Ok(Outcome::default()) };
    let mut effects = Vec::new();
    let status = checkouts::status_of(session);
    let intent = session.payment_intent.as_ref().map(Ref::id);
    if status == Status::Paid && checkout.kind == Kind::Pack {
        let captured = match &session.payment_intent {
            Some(Ref::Whole(intent)) => intent.captured(),
            _ => 0,
        };
        let paid = Paid {
            key: &format!("cs:{}", session.id),
            owner: &checkout.owner,
            unit: &checkout.unit,
            item: &checkout.item,
            payment_intent: intent,
            currency: &checkout.currency,
            captured,
            credits: checkouts::credits_for(&checkout, session)?,
            source: Source::Paid,
            expires_at: None,
            rollover: Rollover::None,
            reason: "purchase",
        };
        effects.extend(payments::grant(tx, books, &paid)?);
    }
    if status != checkout.status {
        checkouts::set_status(tx, &checkout, status, intent, books.now)?;
        effects.push(Effect::Noted(format!("the checkout of {} is {}", checkout.item, status.name())));
    }
    Ok(Outcome::ours(effects))
}

/// An automatic top-up has no session: the payment itself is what was bought.
fn top_up(
    tx: &mut Tx<'_>,
    books: Books<'_>,
    terms: &Terms,
    intent: &PaymentIntent,
) -> Result<Vec<Effect>, Problem> {
    let checkout = checkouts::of_payment(tx, &intent.id)?.filter(|checkout| checkout.kind == Kind::TopUp);
    let Some(checkout) = checkout else { return Ok(Vec::new()) };
    let status = match intent.status.as_str() {
        "succeeded" => Status::Paid,
        "processing" => Status::Processing,
        "canceled" => Status::Failed,
        // Whoever made it calls it off if it was declined, and then it has failed for good.
        _ => checkout.status,
    };
    let mut effects = Vec::new();
    if status == Status::Paid {
        let credits = checkout.credits.checked_mul(checkout.quantity);
        let credits = credits.ok_or_else(|| Problem::Odd("the credits cannot be counted".into()))?;
        let paid = Paid {
            key: &format!("pi:{}", intent.id),
            owner: &checkout.owner,
            unit: &checkout.unit,
            item: &checkout.item,
            payment_intent: Some(&intent.id),
            currency: &checkout.currency,
            captured: intent.captured(),
            credits,
            source: Source::Paid,
            expires_at: None,
            rollover: Rollover::None,
            reason: "automatic top-up",
        };
        effects.extend(payments::grant(tx, books, &paid)?);
    }
    if status != checkout.status {
        checkouts::set_status(tx, &checkout, status, Some(&intent.id), books.now)?;
        effects.push(Effect::Noted(format!("the top-up of {} is {}", checkout.item, status.name())));
    }
    match status {
        Status::Paid => topups::succeeded(tx, &checkout, books.now)?,
        Status::Failed => topups::failed(tx, books, &checkout, terms.page.as_ref(), intent.reason())?,
        _ if intent.waits_for_its_owner() => topups::pause(tx, &checkout, books.now, None)?,
        _ => {}
    }
    Ok(effects)
}

/// By our own rows: the customer that we made, or a subscription that we know already.
fn owner_of(
    tx: &mut Tx<'_>,
    customer: Option<&str>,
    subscription: Option<&str>,
) -> Result<Option<Owner>, Problem> {
    if let Some(owner) = customer.map(|id| customers::owner_of(tx, id)).transpose()?.flatten() {
        return Ok(Some(owner));
    }
    let known = subscription.map(|id| subscriptions::find(tx, id)).transpose()?.flatten();
    Ok(known.map(|running| running.owner))
}

fn apply_invoice(
    tx: &mut Tx<'_>,
    books: Books<'_>,
    terms: &Terms,
    invoice: &Invoice,
    subscription: Option<&Subscription>,
) -> Result<Outcome, Problem> {
    let customer = invoice.customer.as_ref().map(Ref::id);
    let Some(owner) = owner_of(tx, customer, invoice.subscription())? else { return Ok(Outcome::default()) };
    let mut effects = Vec::new();
    if invoice.status.as_deref() != Some("paid") {
        return Ok(Outcome::ours(effects));
    }
    // A price that was renamed, or another configuration: money for nothing is for a person to look at.
    if let Some(price) = subscriptions::unknown_price(&terms.catalogue, invoice) {
        return Err(Problem::Odd(format!(
            "invoice {} was paid for the price {price}, which is no plan of the catalogue: add it, then replay",
            invoice.id
        )));
    }
    let trial_end = subscription.and_then(|subscription| subscription.trial_end).map(from_seconds);
    for due in subscriptions::dues(&terms.catalogue, invoice, trial_end) {
        if due.expires_at <= books.now && due.rollover == Rollover::None {
            // The event comes after the end of what was paid for; credits that have ended already help nobody. What would have
            // been carried over by now is.
            effects.push(Effect::Noted(format!("the period of {} is over: nothing is granted", due.plan)));
            continue;
        }
        let paid = Paid {
            key: &format!("in:{}:{}", invoice.id, due.line),
            owner: &owner,
            unit: &due.unit,
            item: &due.plan,
            payment_intent: invoice.payment_intent(),
            currency: &invoice.currency,
            captured: invoice.amount_paid,
            credits: due.credits,
            source: Source::Plan,
            expires_at: Some(due.expires_at),
            rollover: due.rollover,
            reason: due.reason,
        };
        effects.extend(payments::grant(tx, books, &paid)?);
    }
    Ok(Outcome::ours(effects))
}

fn apply_subscription(
    tx: &mut Tx<'_>,
    books: Books<'_>,
    terms: &Terms,
    subscription: &Subscription,
) -> Result<Outcome, Problem> {
    let owner = owner_of(tx, Some(subscription.customer.id()), Some(&subscription.id))?;
    let Some(owner) = owner else { return Ok(Outcome::default()) };
    let changed = subscriptions::note(tx, &terms.catalogue, &owner, subscription, books.now)?;
    if let Some(running) = &changed {
        told::subscription(tx, running, books.now)?;
    }
    let noted = changed.map(|running| {
        let plan = running.plan.as_deref().unwrap_or(&running.price);
        Effect::Noted(format!("the subscription to {plan} is {}", running.status))
    });
    Ok(Outcome::ours(noted.into_iter().collect()))
}
