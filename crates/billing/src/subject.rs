//! What at Stripe should be looked at: all that an event, a sweep or a person can tell us.

use crate::stripe::objects::Event;
use serde_json::Value;
use std::fmt;

/// The kinds of events that an endpoint at Stripe should send here.
pub const KINDS: [&str; 23] = [
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "charge.refunded",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.voided",
    "invoice.marked_uncollectible",
    "customer.subscription.created",
    "customer.subscription.updated",
    "customer.subscription.deleted",
    "customer.deleted",
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A checkout session.
    Session(String),
    /// A payment intent: what was captured, refunded and disputed.
    Payment(String),
    /// A payment intent that matters only if an automatic top-up made it. Others end in sessions and invoices, which tell more.
    TopUp(String),
    Invoice(String),
    Subscription(String),
    Customer(String),
}

impl Subject {
    fn name(&self) -> &'static str {
        match self {
            Subject::Session(_) => "session",
            Subject::Payment(_) => "payment",
            Subject::TopUp(_) => "topup",
            Subject::Invoice(_) => "invoice",
            Subject::Subscription(_) => "subscription",
            Subject::Customer(_) => "customer",
        }
    }

    pub fn id(&self) -> &str {
        match self {
            Subject::Session(id)
            | Subject::Payment(id)
            | Subject::TopUp(id)
            | Subject::Invoice(id)
            | Subject::Subscription(id)
            | Subject::Customer(id) => id,
        }
    }

    /// The object at Stripe that is read. A payment is one, whatever it is looked at for.
    pub fn object(&self) -> String {
        match self {
            Subject::TopUp(id) => Subject::Payment(id.clone()).to_string(),
            subject => subject.to_string(),
        }
    }

    /// What [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Subject> {
        let (name, id) = text.split_once(':')?;
        let id = id.to_owned();
        match name {
            "session" => Some(Subject::Session(id)),
            "payment" => Some(Subject::Payment(id)),
            "topup" => Some(Subject::TopUp(id)),
            "invoice" => Some(Subject::Invoice(id)),
            "subscription" => Some(Subject::Subscription(id)),
            "customer" => Some(Subject::Customer(id)),
            _ => None,
        }
    }

    /// What an event is about; `None` for kinds that change nothing here, the thin ones among them.
    pub fn of(event: &Event) -> Option<Subject> {
        let object = &event.data.object;
        let own = || text(object, "id");
        let payment = || text(object, "payment_intent").map(Subject::Payment);
        match event.r#type.as_str() {
            "checkout.session.completed"
            | "checkout.session.async_payment_succeeded"
            | "checkout.session.async_payment_failed"
            | "checkout.session.expired" => own().map(Subject::Session),
            "payment_intent.succeeded" | "payment_intent.payment_failed" | "payment_intent.canceled" => {
                own().map(Subject::TopUp)
            }
            "charge.refunded" | "charge.refund.updated" => payment(),
            "refund.created" | "refund.updated" | "refund.failed" => payment(),
            kind if kind.starts_with("charge.dispute.") => payment(),
            "invoice.paid" | "invoice.payment_failed" | "invoice.voided" | "invoice.marked_uncollectible" => {
                own().map(Subject::Invoice)
            }
            kind if kind.starts_with("customer.subscription.") => own().map(Subject::Subscription),
            "customer.deleted" => own().map(Subject::Customer),
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name(), self.id())
    }
}

/// An id, or the id of the object that stands in its place.
fn text(object: &Value, member: &str) -> Option<String> {
    let value = object.get(member)?;
    let id = value.as_str().or_else(|| value.get("id")?.as_str())?;
    (!id.is_empty()).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn subject(kind: &str, object: Value) -> Option<String> {
        let event = json!({"id": "evt_1", "object": "event", "type": kind, "data": {"object": object}});
        let event: Event = serde_json::from_value(event).expect("it is an event");
        let subject = Subject::of(&event)?;
        assert_eq!(Subject::parse(&subject.to_string()).as_ref(), Some(&subject));
        Some(subject.to_string())
    }

    #[test]
    fn an_event_tells_where_to_look() {
        let at = |kind, object| subject(kind, object).unwrap_or_default();
        assert_eq!(at("checkout.session.completed", json!({"id": "cs_1"})), "session:cs_1");
        assert_eq!(at("charge.refunded", json!({"id": "ch_1", "payment_intent": "pi_1"})), "payment:pi_1");
        assert_eq!(
            at("charge.dispute.closed", json!({"id": "dp_1", "payment_intent": {"id": "pi_1"}})),
            "payment:pi_1"
        );
        assert_eq!(at("customer.subscription.trial_will_end", json!({"id": "sub_1"})), "subscription:sub_1");
        assert_eq!(at("invoice.paid", json!({"id": "in_1"})), "invoice:in_1");
    }

    #[test]
    fn every_kind_that_is_asked_for_leads_somewhere() {
        for kind in KINDS {
            assert!(subject(kind, json!({"id": "x_1", "payment_intent": "pi_1"})).is_some(), "{kind}");
        }
    }

    /// What was read earlier must not be applied later, whatever it was read for.
    #[test]
    fn a_payment_has_one_turn_whatever_it_is_looked_at_for() {
        let (one, other) = (Subject::TopUp("pi_1".into()), Subject::Payment("pi_1".into()));
        assert_eq!(one.object(), other.object());
        assert_ne!(one.object(), Subject::Session("pi_1".into()).object());
    }

    #[test]
    fn strangers_mean_nothing() {
        assert_eq!(subject("price.updated", json!({"id": "price_1"})), None);
        assert_eq!(subject("charge.refunded", json!({"id": "ch_1", "payment_intent": null})), None);
        assert_eq!(subject("invoice.paid", json!([1, 2])), None);
        assert_eq!(subject("checkout.session.completed", json!({"id": ""})), None);
    }
}
