//! Subscriptions: who pays what again and again, from the first payment to the end.

mod shape;

use crate::agenda::Due;
use crate::api::{Answer, Call};
use crate::books::Books;
use crate::collection::NewInvoice;
use crate::coupons::Discount;
use crate::form::{Fields, Metadata};
use crate::invoices::{Line, Of};
use crate::lists::{self, Created};
use crate::payment_intents::Attempted;
use crate::periods;
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::Value;

const DAY: i64 = 86_400;
/// How long the first payment may take.
const FIRST_PAYMENT_WITHIN: i64 = 23 * 3_600;

pub(crate) const CREATE: &[&str] = &[
    "automatic_tax.enabled",
    "cancel_at_period_end",
    "customer",
    "default_payment_method",
    "description",
    "discounts[].coupon",
    "discounts[].promotion_code",
    "items[].metadata.*",
    "items[].price",
    "items[].quantity",
    "metadata",
    "metadata.*",
    "off_session",
    "payment_behavior",
    "trial_end",
    "trial_period_days",
];

#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) customer: String,
    pub(crate) state: State,
    pub(crate) currency: String,
    pub(crate) items: Vec<Item>,
    pub(crate) period: (i64, i64),
    /// What all periods are counted from.
    pub(crate) anchor: i64,
    pub(crate) trial: Option<(i64, i64)>,
    pub(crate) default_payment_method: Option<String>,
    pub(crate) cancel_at_period_end: bool,
    pub(crate) cancel_at: Option<i64>,
    pub(crate) canceled_at: Option<i64>,
    pub(crate) ended_at: Option<i64>,
    pub(crate) why_canceled: Why,
    pub(crate) latest_invoice: Option<String>,
    pub(crate) discounts: Vec<Discount>,
    pub(crate) automatic_tax: bool,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Metadata,
    /// Prorations that the next invoice takes up.
    pub(crate) pending: Vec<Line>,
}

#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) price: String,
    pub(crate) quantity: i64,
    pub(crate) metadata: Metadata,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) reason: Option<&'static str>,
    pub(crate) comment: Option<String>,
    pub(crate) feedback: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Incomplete,
    IncompleteExpired,
    Trialing,
    Active,
    PastDue,
    Canceled,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Incomplete => "incomplete",
            State::IncompleteExpired => "incomplete_expired",
            State::Trialing => "trialing",
            State::Active => "active",
            State::PastDue => "past_due",
            State::Canceled => "canceled",
        }
    }
}

impl Kept for Subscription {
    const KIND: &'static str = "subscription";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Subscription {
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, State::Canceled | State::IncompleteExpired)
    }

    pub(crate) fn of(&self) -> Of {
        Of { id: self.id.clone(), metadata: self.metadata.clone() }
    }
}

/// What a subscription is made of.
pub(crate) struct NewSubscription {
    pub(crate) customer: String,
    pub(crate) items: Vec<(String, i64, Metadata)>,
    pub(crate) method: Option<String>,
    pub(crate) trial_end: Option<i64>,
    pub(crate) discounts: Vec<Discount>,
    pub(crate) automatic_tax: bool,
    pub(crate) cancel_at_period_end: bool,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Metadata,
}

impl Books {
    pub(crate) fn create_subscription(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let customer = self.customer_named(fields.required("customer")?, "customer")?.id.clone();
        let mut items = Vec::new();
        for item in fields.list("items") {
            let price = self.recurring_price(&item)?;
            items.push((price, item.integer_from("quantity", 0)?.unwrap_or(1), item.metadata()?));
        }
        self.require_one_rhythm(&items.iter().map(|(price, ..)| price.clone()).collect::<Vec<_>>(), "items")?;
        let method = match fields.filled("default_payment_method") {
            Some(id) => Some(self.payment_method_named(id, "default_payment_method")?),
            None => None,
        };
        let behavior = fields
            .one_of("payment_behavior", &["allow_incomplete", "default_incomplete", "error_if_incomplete"])?;
        let new = NewSubscription {
            items,
            trial_end: self.trial_end_of(&fields)?,
            discounts: self.discounts_of(&fields)?,
            automatic_tax: automatic_tax_of(&fields)?,
            cancel_at_period_end: fields.boolean("cancel_at_period_end")?.unwrap_or(false),
            description: fields.filled("description").map(str::to_owned),
            metadata: fields.metadata()?,
            method,
            customer,
        };
        if behavior == Some("error_if_incomplete")
            && let Some(decline) = self.would_decline(new.method.as_deref(), &new.customer)
        {
            return Err(Refusal::declined(decline, None, Value::Null));
        }
        let (id, _) = self.open_subscription(new, behavior != Some("default_incomplete"))?;
        self.answer(&id)
    }

    /// The decline that a charge of this method, or of the customer's usual one, would meet.
    pub(crate) fn would_decline(&self, method: Option<&str>, customer: &str) -> Option<crate::Decline> {
        let usual = self.usual_payment_method(customer);
        match method.or(usual.as_deref()).and_then(|id| self.payment_methods.get(id)) {
            Some(method) => method.declines,
            None => Some(crate::Decline::Generic),
        }
    }

    pub(crate) fn trial_end_of(&self, fields: &Fields<'_>) -> Result<Option<i64>, Refusal> {
        let days = fields.integer_from("trial_period_days", 1)?;
        let end = fields.integer("trial_end")?;
        match (days, end) {
            (Some(_), Some(_)) => {
                let message = "You may pass only one of trial_period_days and trial_end.";
                Err(Refusal::invalid(fields.name("trial_end"), message))
            }
            (None, Some(end)) if end <= self.seconds() => {
                Err(Refusal::invalid(fields.name("trial_end"), "trial_end must be in the future."))
            }
            (None, end) => Ok(end),
            (Some(days), None) => Ok(Some(self.seconds() + days * DAY)),
        }
    }

    /// The price that an item names, which must be usable for a subscription.
    pub(crate) fn recurring_price(&self, item: &Fields<'_>) -> Result<String, Refusal> {
        let price = self.prices.named(item.required("price")?, &item.name("price"))?;
        if price.recurring.is_none() {
            let message = format!(
                "The price specified is set to `type=one_time` but this field only accepts prices with \
                 `type=recurring`: {}",
                price.id
            );
            return Err(Refusal::invalid(item.name("price"), message));
        }
        if !price.active {
            let message = format!("The price {} is inactive.", price.id);
            return Err(Refusal::invalid(item.name("price"), message).code("price_inactive"));
        }
        Ok(price.id.clone())
    }

    /// All items of a subscription have one currency and one interval.
    pub(crate) fn require_one_rhythm(&self, prices: &[String], param: &str) -> Result<(), Refusal> {
        let rhythm = |id: &String| self.prices.get(id).map(|price| (price.recurring, price.currency.clone()));
        if prices.is_empty() {
            return Err(Refusal::missing(param));
        }
        if prices.iter().any(|id| rhythm(id) != rhythm(&prices[0])) {
            let message = "All prices of a subscription must have the same currency and interval.";
            return Err(Refusal::invalid(param, message));
        }
        Ok(())
    }

    /// Opens a subscription with its first invoice, and charges that unless it is to wait.
    pub(crate) fn open_subscription(
        &mut self,
        new: NewSubscription,
        charge: bool,
    ) -> Result<(String, Option<Attempted>), Refusal> {
        let now = self.seconds();
        let first = self.prices.named(&new.items[0].0, "items[0][price]")?.clone();
        let recurring = first.recurring.ok_or_else(|| Refusal::missing("items[0][price]"))?;
        let (anchor, end) = match new.trial_end {
            Some(end) => (end, end),
            None => (now, periods::end_after(now, now, recurring)),
        };
        let id = self.ids.next("sub");
        let mut discounts = new.discounts;
        for discount in &mut discounts {
            discount.customer = Some(new.customer.clone());
            discount.subscription = Some(id.clone());
            self.redeem(discount);
        }
        let items = new
            .items
            .into_iter()
            .map(|(price, quantity, metadata)| Item {
                id: self.ids.next("si"),
                created: now,
                price,
                quantity,
                metadata,
            })
            .collect();
        let subscription = Subscription {
            id: id.clone(),
            created: now,
            customer: new.customer,
            state: if new.trial_end.is_some() { State::Trialing } else { State::Incomplete },
            currency: first.currency.clone(),
            items,
            period: (now, end),
            anchor,
            trial: new.trial_end.map(|end| (now, end)),
            default_payment_method: new.method,
            cancel_at_period_end: new.cancel_at_period_end,
            cancel_at: None,
            canceled_at: new.cancel_at_period_end.then_some(now),
            ended_at: None,
            why_canceled: Why::default(),
            latest_invoice: None,
            discounts,
            automatic_tax: new.automatic_tax,
            description: new.description,
            metadata: new.metadata,
            pending: Vec::new(),
        };
        self.subscriptions.put(subscription)?;
        self.agenda.note(end, Due::PeriodEnds(id.clone()));
        if new.trial_end.is_some() {
            self.agenda.note((end - 3 * DAY).max(now), Due::TrialEndsSoon(id.clone()));
        }
        self.emit("customer.subscription.created", &id);
        let invoice = self.bill_period(&id, "subscription_create", (now, now))?;
        self.close_invoice(&invoice);
        let attempted = if charge || self.invoices.at(&invoice)?.amount_due() == 0 {
            Some(self.charge_invoice(&invoice)?)
        } else {
            None
        };
        if self.subscriptions.at(&id)?.state == State::Incomplete {
            self.agenda.note(now + FIRST_PAYMENT_WITHIN, Due::FirstPaymentIsLate(id.clone()));
        }
        Ok((id, attempted))
    }

    /// The invoice for the period that the subscription is in, with what was left for it.
    /// `looked_back` is the time whose open items it collects, not the time that is paid for.
    pub(crate) fn bill_period(
        &mut self,
        id: &str,
        reason: &'static str,
        looked_back: (i64, i64),
    ) -> Result<String, Refusal> {
        let subscription = self.subscriptions.at_mut(id)?;
        let mut lines = std::mem::take(&mut subscription.pending);
        let subscription = subscription.clone();
        lines.extend(self.lines_for(&subscription));
        self.bill(&subscription, reason, lines, looked_back)
    }

    /// A line for each item and the whole period; nothing is due within a trial.
    pub(crate) fn lines_for(&mut self, subscription: &Subscription) -> Vec<Line> {
        let trialing = subscription.state == State::Trialing;
        let mut lines = Vec::new();
        for item in &subscription.items {
            let Some(price) = self.prices.get(&item.price) else { continue };
            let name = self.product_name(&price.product);
            let amount = if trialing { 0 } else { price.amount() * item.quantity };
            let description = if trialing {
                format!("Trial period for {name}")
            } else {
                format!("{} × {name}", item.quantity)
            };
            let mut line =
                self.new_line(&item.price, item.quantity, amount, description, subscription.period);
            line.item = Some(item.id.clone());
            line.metadata = item.metadata.clone();
            lines.push(line);
        }
        lines
    }

    pub(crate) fn bill(
        &mut self,
        subscription: &Subscription,
        reason: &'static str,
        lines: Vec<Line>,
        period: (i64, i64),
    ) -> Result<String, Refusal> {
        let discounts = self.discounts_now(subscription, reason == "subscription_create");
        let invoice = self.create_invoice(NewInvoice {
            customer: subscription.customer.clone(),
            subscription: Some(subscription.of()),
            billing_reason: reason,
            currency: subscription.currency.clone(),
            lines,
            discounts,
            automatic_tax: subscription.automatic_tax,
            period,
            metadata: Metadata::new(),
        })?;
        self.subscriptions.at_mut(&subscription.id)?.latest_invoice = Some(invoice.clone());
        Ok(invoice)
    }

    /// The discounts that still apply. One for once applies to the first invoice only.
    pub(crate) fn discounts_now(&self, subscription: &Subscription, first: bool) -> Vec<Discount> {
        let now = self.seconds();
        subscription
            .discounts
            .iter()
            .filter(|discount| discount.end.is_none_or(|end| end > now || first && end == discount.start))
            .cloned()
            .collect()
    }

    pub(crate) fn retrieve_subscription(&mut self, call: &Call) -> Answer {
        let subscription = self.subscriptions.at(call.id())?;
        Ok(self.show_subscription(subscription))
    }

    pub(crate) fn list_subscriptions(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let created = Created::read(&fields)?;
        let (customer, price, status) =
            (fields.filled("customer"), fields.filled("price"), fields.filled("status"));
        let in_status = |subscription: &Subscription| match status {
            // Without a wish those that ended are left out.
            None => subscription.state != State::Canceled,
            Some("all") => true,
            Some("ended") => subscription.has_ended(),
            Some(name) => subscription.state.name() == name,
        };
        let found = self
            .subscriptions
            .newest_first()
            .filter(|subscription| created.holds(subscription.created) && in_status(subscription))
            .filter(|subscription| customer.is_none_or(|customer| subscription.customer == customer))
            .filter(|subscription| {
                price.is_none_or(|price| subscription.items.iter().any(|item| item.price == price))
            })
            .map(|subscription| (subscription.id.clone(), subscription));
        lists::page(&fields, "/v1/subscriptions", found, |subscription| self.show_subscription(subscription))
    }

    pub(crate) fn cancel_subscription(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        for name in ["invoice_now", "prorate"] {
            if fields.boolean(name)? == Some(true) {
                let message =
                    format!("The till ends subscriptions without a last invoice: it does not know {name}.");
                return Err(Refusal::invalid(name, message));
            }
        }
        let subscription = self.subscriptions.at_mut(call.id())?;
        if subscription.has_ended() {
            // As Stripe: what has ended cannot be found for another end.
            return Err(Refusal::not_found(Subscription::KIND, call.id()));
        }
        if let Some(details) = fields.object("cancellation_details") {
            read_why(&details, &mut subscription.why_canceled);
        }
        self.end_subscription(call.id(), "cancellation_requested");
        self.answer(call.id())
    }

    /// Ends a subscription now, for a reason that nobody gave before.
    pub(crate) fn end_subscription(&mut self, id: &str, reason: &'static str) {
        let now = self.seconds();
        let Some(subscription) = self.subscriptions.get_mut(id).filter(|known| !known.has_ended()) else {
            return;
        };
        subscription.state = State::Canceled;
        subscription.ended_at = Some(now);
        subscription.canceled_at.get_or_insert(now);
        subscription.why_canceled.reason.get_or_insert(reason);
        self.emit("customer.subscription.deleted", id);
    }

    pub(crate) fn retrieve_subscription_item(&mut self, call: &Call) -> Answer {
        let (subscription, item) = self.item_at(call.id())?;
        Ok(self.show_item(subscription, item))
    }

    pub(crate) fn list_subscription_items(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let subscription = self.subscriptions.named(fields.required("subscription")?, "subscription")?;
        let items = subscription.items.iter().map(|item| (item.id.clone(), item));
        lists::page(&fields, "/v1/subscription_items", items, |item| self.show_item(subscription, item))
    }

    pub(crate) fn item_at(&self, id: &str) -> Result<(&Subscription, &Item), Refusal> {
        let within = |known: &'_ Subscription| known.items.iter().position(|item| item.id == id);
        self.subscriptions
            .newest_first()
            .find_map(|known| within(known).map(|place| (known, &known.items[place])))
            .ok_or_else(|| Refusal::not_found("subscription_item", id))
    }
}

pub(crate) fn automatic_tax_of(fields: &Fields<'_>) -> Result<bool, Refusal> {
    match fields.object("automatic_tax") {
        Some(tax) => Ok(tax.boolean("enabled")?.unwrap_or(false)),
        None => Ok(false),
    }
}

pub(crate) fn read_why(details: &Fields<'_>, why: &mut Why) {
    if let Some(comment) = details.text("comment") {
        why.comment = (!comment.is_empty()).then(|| comment.to_owned());
    }
    if let Some(feedback) = details.text("feedback") {
        why.feedback = (!feedback.is_empty()).then(|| feedback.to_owned());
    }
}
