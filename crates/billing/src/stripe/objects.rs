//! The members of Stripe's objects that we read, in the shape of the pinned version and in the one before 2025-03-31.
//!
//! Everything that may be missing in one of the shapes is an `Option`; statuses are text, since Stripe adds new ones and an
//! unknown one must change nothing.

use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// A reference: an id, or the whole object where it was expanded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Ref<T> {
    Id(String),
    Whole(Box<T>),
}

/// An object of which only the id is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Named {
    pub id: String,
}

pub trait HasId {
    fn id(&self) -> &str;
}

impl HasId for Named {
    fn id(&self) -> &str {
        &self.id
    }
}

impl<T: HasId> Ref<T> {
    pub fn id(&self) -> &str {
        match self {
            Ref::Id(id) => id,
            Ref::Whole(object) => object.id(),
        }
    }
}

/// `{"object": "list", "data": […], "has_more": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct List<T> {
    pub data: Vec<T>,
    #[serde(default)]
    pub has_more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Session {
    pub id: String,
    pub mode: String,
    /// `open`, `complete` or `expired`.
    pub status: Option<String>,
    /// `paid`, `unpaid` or `no_payment_required`.
    pub payment_status: String,
    pub payment_intent: Option<Ref<PaymentIntent>>,
    pub subscription: Option<Ref<Begun>>,
    pub customer: Option<Ref<Named>>,
    pub currency: Option<String>,
    pub amount_subtotal: Option<i64>,
    pub url: Option<String>,
    pub line_items: Option<List<LineItem>>,
    /// The first one of a subscription.
    pub invoice: Option<Ref<Named>>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// A subscription that a session began.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Begun {
    pub id: String,
    pub status: String,
}

impl HasId for Begun {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LineItem {
    pub price: Option<Ref<Named>>,
    pub quantity: Option<i64>,
    /// Before discounts and tax.
    pub amount_subtotal: i64,
    pub currency: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PaymentIntent {
    pub id: String,
    pub status: String,
    #[serde(default)]
    pub amount_received: i64,
    pub currency: String,
    pub customer: Option<Ref<Named>>,
    pub latest_charge: Option<Ref<Charge>>,
    last_payment_error: Option<PaymentError>,
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PaymentError {
    code: Option<String>,
    decline_code: Option<String>,
}

impl PaymentIntent {
    /// What was collected, in the smallest unit of the currency.
    pub fn captured(&self) -> i64 {
        match &self.latest_charge {
            Some(Ref::Whole(charge)) => charge.amount_captured,
            _ => self.amount_received,
        }
    }

    /// It was not paid, and only its owner could go on with it.
    pub fn waits_for_its_owner(&self) -> bool {
        matches!(
            self.status.as_str(),
            "requires_payment_method" | "requires_action" | "requires_confirmation" | "requires_source"
        )
    }

    /// Why it was not paid, in Stripe's word.
    pub fn reason(&self) -> &str {
        let error = self.last_payment_error.as_ref();
        let code = error.and_then(|error| error.decline_code.as_deref().or(error.code.as_deref()));
        code.unwrap_or(&self.status)
    }
}

impl HasId for PaymentIntent {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Charge {
    pub id: String,
    pub payment_intent: Option<Ref<Named>>,
    #[serde(default)]
    pub amount_captured: i64,
    #[serde(default)]
    pub amount_refunded: i64,
    #[serde(default)]
    pub disputed: bool,
}

impl HasId for Charge {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Refund {
    pub id: String,
    pub amount: i64,
    /// `pending`, `requires_action`, `succeeded`, `failed` or `canceled`.
    pub status: Option<String>,
}

impl HasId for Refund {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Dispute {
    pub id: String,
    pub amount: i64,
    pub status: String,
    pub payment_intent: Option<Ref<Named>>,
    pub charge: Option<Ref<Named>>,
}

impl HasId for Dispute {
    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Customer {
    pub id: String,
    #[serde(default)]
    pub deleted: bool,
    invoice_settings: Option<InvoiceSettings>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct InvoiceSettings {
    default_payment_method: Option<Ref<Named>>,
}

impl Customer {
    pub fn usual_method(&self) -> Option<&str> {
        self.invoice_settings.as_ref()?.default_payment_method.as_ref().map(Ref::id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PaymentMethod {
    pub id: String,
    pub r#type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Price {
    pub id: String,
    #[serde(default)]
    pub active: bool,
    pub currency: Option<String>,
    pub unit_amount: Option<i64>,
    pub recurring: Option<Recurring>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Recurring {
    pub interval: String,
    #[serde(default = "one")]
    pub interval_count: i64,
}

fn one() -> i64 {
    1
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subscription {
    pub id: String,
    pub status: String,
    pub customer: Ref<Named>,
    pub items: List<SubscriptionItem>,
    #[serde(default)]
    pub cancel_at_period_end: bool,
    /// Seconds.
    pub cancel_at: Option<i64>,
    pub trial_end: Option<i64>,
    /// Of the subscription itself before 2025-03-31, of its items since.
    current_period_end: Option<i64>,
    pub created: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SubscriptionItem {
    pub id: String,
    pub price: Named,
    pub quantity: Option<i64>,
    current_period_end: Option<i64>,
}

impl Subscription {
    /// Seconds; when what was paid for ends.
    pub fn period_end(&self) -> Option<i64> {
        let of_items = self.items.data.iter().filter_map(|item| item.current_period_end).max();
        of_items.or(self.current_period_end)
    }

    /// It gives access, now or as soon as a payment that is under way arrives.
    pub fn is_live(&self) -> bool {
        matches!(
            self.status.as_str(),
            "active" | "trialing" | "past_due" | "unpaid" | "paused" | "incomplete"
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Invoice {
    pub id: String,
    /// `draft`, `open`, `paid`, `uncollectible` or `void`.
    pub status: Option<String>,
    pub billing_reason: Option<String>,
    pub customer: Option<Ref<Named>>,
    pub currency: String,
    #[serde(default)]
    pub amount_paid: i64,
    pub lines: List<InvoiceLine>,
    pub number: Option<String>,
    pub hosted_invoice_url: Option<String>,
    pub invoice_pdf: Option<String>,
    pub created: i64,
    #[serde(default)]
    pub total: i64,
    parent: Option<InvoiceParent>,
    subscription: Option<Ref<Named>>,
    payments: Option<List<InvoicePayment>>,
    payment_intent: Option<Ref<Named>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct InvoiceParent {
    subscription_details: Option<SubscriptionDetails>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct SubscriptionDetails {
    subscription: Option<Ref<Named>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct InvoicePayment {
    status: Option<String>,
    payment: Option<PaymentOfInvoice>,
}

/// A payment of an invoice, as it stands in a list of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InvoicePaymentOf {
    pub invoice: Option<Ref<Named>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PaymentOfInvoice {
    payment_intent: Option<Ref<Named>>,
}

impl Invoice {
    pub fn subscription(&self) -> Option<&str> {
        let details = self.parent.as_ref().and_then(|parent| parent.subscription_details.as_ref());
        let new = details.and_then(|details| details.subscription.as_ref());
        new.or(self.subscription.as_ref()).map(Ref::id)
    }

    /// The payment that settled it; none for an invoice of nothing.
    pub fn payment_intent(&self) -> Option<&str> {
        let settled = |payment: &&InvoicePayment| payment.status.as_deref() == Some("paid");
        let payments = self.payments.as_ref().map_or(&[][..], |list| &list.data);
        let new =
            payments.iter().find(settled).and_then(|paid| paid.payment.as_ref()?.payment_intent.as_ref());
        new.or(self.payment_intent.as_ref()).map(Ref::id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InvoiceLine {
    pub id: String,
    /// Before tax; negative for what is given back.
    pub amount: i64,
    pub quantity: Option<i64>,
    pub period: LinePeriod,
    pricing: Option<Pricing>,
    price: Option<Ref<Named>>,
    parent: Option<LineParent>,
    proration: Option<bool>,
}

/// Seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct LinePeriod {
    pub start: i64,
    pub end: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Pricing {
    price_details: Option<PriceDetails>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PriceDetails {
    price: Option<Ref<Named>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct LineParent {
    subscription_item_details: Option<ItemDetails>,
    invoice_item_details: Option<ItemDetails>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct ItemDetails {
    #[serde(default)]
    proration: bool,
}

impl InvoiceLine {
    pub fn price(&self) -> Option<&str> {
        let details = self.pricing.as_ref().and_then(|pricing| pricing.price_details.as_ref());
        let new = details.and_then(|details| details.price.as_ref());
        new.or(self.price.as_ref()).map(Ref::id)
    }

    /// It corrects what was or will be paid for a part of a period.
    pub fn is_proration(&self) -> bool {
        let details = self.parent.as_ref();
        let details =
            details.and_then(|p| p.subscription_item_details.as_ref().or(p.invoice_item_details.as_ref()));
        details.map_or(self.proration == Some(true), |details| details.proration)
    }
}

/// What an event says; its object only tells where to look.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Event {
    pub id: String,
    /// `event`, or `v2.core.event` for the thin kind.
    #[serde(default)]
    pub object: String,
    pub r#type: String,
    #[serde(default)]
    pub livemode: bool,
    #[serde(default, deserialize_with = "seconds")]
    pub created: i64,
    #[serde(default, deserialize_with = "perhaps")]
    pub data: EventData,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
pub struct EventData {
    #[serde(default)]
    pub object: serde_json::Value,
}

/// Thin events have no data, or `null`.
fn perhaps<'de, D: Deserializer<'de>>(from: D) -> Result<EventData, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Thin events write a time as text; it is not needed.
fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    Ok(serde_json::Value::deserialize(from)?.as_i64().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).expect("it is of that shape")
    }

    #[test]
    fn an_invoice_says_the_same_in_both_shapes() {
        let period = json!({"start": 1, "end": 2});
        let new: Invoice = read(json!({
            "id": "in_1", "status": "paid", "currency": "usd", "created": 1, "billing_reason": "subscription_cycle",
            "parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_1"}},
            "payments": {"object": "list", "data": [
                {"status": "canceled", "payment": {"type": "payment_intent", "payment_intent": "pi_0"}},
                {"status": "paid", "payment": {"type": "payment_intent", "payment_intent": "pi_1"}}]},
            "lines": {"object": "list", "data": [{"id": "il_1", "amount": 1000, "period": period,
                "pricing": {"price_details": {"price": "price_1"}},
                "parent": {"subscription_item_details": {"proration": false}}}]},
        }));
        let old: Invoice = read(json!({
            "id": "in_1", "status": "paid", "currency": "usd", "created": 1, "billing_reason": "subscription_cycle",
            "subscription": "sub_1", "payment_intent": {"id": "pi_1", "object": "payment_intent"},
            "lines": {"object": "list", "data": [{"id": "il_1", "amount": 1000, "period": period,
                "price": {"id": "price_1"}, "proration": false}]},
        }));
        for invoice in [&new, &old] {
            assert_eq!((invoice.subscription(), invoice.payment_intent()), (Some("sub_1"), Some("pi_1")));
            let line = &invoice.lines.data[0];
            assert_eq!((line.price(), line.is_proration()), (Some("price_1"), false));
        }
    }

    #[test]
    fn a_subscription_ends_its_period_in_both_shapes() {
        let shape = |own: serde_json::Value, item: serde_json::Value| -> Subscription {
            read(
                json!({"id": "sub_1", "status": "active", "customer": "cus_1", "created": 1, "current_period_end": own,
                "items": {"data": [{"id": "si_1", "price": {"id": "price_1"}, "current_period_end": item}]}}),
            )
        };
        assert_eq!(shape(json!(7), json!(null)).period_end(), Some(7));
        assert_eq!(shape(json!(null), json!(8)).period_end(), Some(8));
    }

    #[test]
    fn thin_events_and_strangers_are_read() {
        let thin: Event =
            read(json!({"id": "evt_1", "object": "v2.core.event", "type": "v1.billing.meter.error",
            "created": "2026-01-01T00:00:00.000Z", "related_object": {"id": "x"}}));
        assert_eq!((thin.created, thin.data.object), (0, serde_json::Value::Null));
    }
}
