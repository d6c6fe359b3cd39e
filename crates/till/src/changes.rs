//! Changes of subscriptions within a period: what is owed for the rest of it, and what is given back.

mod preview;
mod prorations;

use crate::agenda::Due;
use crate::api::{Answer, Call};
use crate::books::Books;
use crate::customers::changed;
use crate::form::{Fields, Metadata};
use crate::invoices::Line;
use crate::payment_intents::Attempted;
use crate::periods;
use crate::refusal::Refusal;
use crate::subscriptions::{Item, State, Subscription, automatic_tax_of, read_why};
use serde_json::Value;

pub(crate) const UPDATE: &[&str] = &[
    "automatic_tax.enabled",
    "cancel_at",
    "cancel_at_period_end",
    "cancellation_details.comment",
    "cancellation_details.feedback",
    "default_payment_method",
    "description",
    "discounts",
    "discounts[].coupon",
    "discounts[].promotion_code",
    "items[].deleted",
    "items[].id",
    "items[].metadata.*",
    "items[].price",
    "items[].quantity",
    "metadata",
    "metadata.*",
    "off_session",
    "payment_behavior",
    "proration_behavior",
    "proration_date",
    "trial_end",
];

pub(crate) const UPDATE_ITEM: &[&str] = &[
    "metadata",
    "metadata.*",
    "off_session",
    "payment_behavior",
    "price",
    "proration_behavior",
    "proration_date",
    "quantity",
];

pub(crate) const PREVIEW: &[&str] = &[
    "automatic_tax.enabled",
    "customer",
    "discounts[].coupon",
    "discounts[].promotion_code",
    "subscription",
    "subscription_details.cancel_at_period_end",
    "subscription_details.items[].deleted",
    "subscription_details.items[].id",
    "subscription_details.items[].metadata.*",
    "subscription_details.items[].price",
    "subscription_details.items[].quantity",
    "subscription_details.proration_behavior",
    "subscription_details.proration_date",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proration {
    /// On the next invoice.
    Later,
    /// On an invoice of its own, now.
    Now,
    None,
}

/// A subscription as it will be, and the lines that the change makes.
struct Change {
    after: Subscription,
    prorations: Vec<Line>,
    /// The interval is another one: a new period begins now, and is invoiced now.
    begins_anew: bool,
}

impl Books {
    pub(crate) fn update_subscription(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        self.change_subscription(call.id(), &fields, &fields.list("items"))?;
        self.answer(call.id())
    }

    pub(crate) fn update_subscription_item(&mut self, call: &Call) -> Answer {
        let (subscription, item) = self.item_at(call.id())?;
        let (subscription, item) = (subscription.id.clone(), item.id.clone());
        let fields = call.fields();
        let mut before = self.subscriptions.at(&subscription)?.clone();
        let place = before.items.iter().position(|known| known.id == item).unwrap_or(0);
        self.read_item(&fields, &mut before.items[place])?;
        self.apply_change(&subscription, before.items, &fields, |_| Ok(()))?;
        let (subscription, item) = self.item_at(call.id())?;
        Ok(self.show_item(subscription, item))
    }

    fn change_subscription(
        &mut self,
        id: &str,
        fields: &Fields<'_>,
        items: &[Fields<'_>],
    ) -> Result<(), Refusal> {
        let subscription = self.subscriptions.at(id)?;
        if subscription.has_ended() {
            let message = format!(
                "A canceled subscription can only update its cancellation_details and metadata: {id} has ended."
            );
            return Err(Refusal::state(message));
        }
        let customer = subscription.customer.clone();
        let items = self.read_items(&subscription.clone(), items)?;
        let method = match fields.filled("default_payment_method") {
            Some(method) => {
                let method = self.payment_method_named(method, "default_payment_method")?;
                let owner = self.payment_methods.named(&method, "default_payment_method")?.customer.clone();
                if owner.is_some_and(|owner| owner != customer) {
                    let message = "The customer does not have a payment method with this ID.";
                    return Err(Refusal::invalid("default_payment_method", message));
                }
                Some(method)
            }
            None => None,
        };
        let discounts = match fields.text("discounts") {
            Some("") => Some(Vec::new()),
            _ => {
                let mut found = self.discounts_of(fields)?;
                for discount in &mut found {
                    discount.customer = Some(customer.clone());
                    discount.subscription = Some(id.to_owned());
                    self.redeem(discount);
                }
                (!found.is_empty()).then_some(found)
            }
        };
        let now = self.seconds();
        self.apply_change(id, items, fields, |subscription| {
            if let Some(method) = method {
                subscription.default_payment_method = Some(method);
            }
            if let Some(discounts) = discounts {
                subscription.discounts = discounts;
            }
            write_plain(subscription, fields, now)
        })
    }

    /// Plans the change, refuses it as a whole if its payment must succeed and would not, and carries it out.
    fn apply_change(
        &mut self,
        id: &str,
        items: Vec<Item>,
        fields: &Fields<'_>,
        write: impl FnOnce(&mut Subscription) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let before = self.shown(id).unwrap_or_default();
        let behavior = proration_of(fields)?;
        let payment = fields
            .one_of("payment_behavior", &["allow_incomplete", "default_incomplete", "error_if_incomplete"])?;
        let date = self.proration_date(id, fields)?;
        let mut change = self.plan_change(id, items, behavior, date)?;
        write(&mut change.after)?;
        let ends_trial = fields.text("trial_end") == Some("now") && change.after.state == State::Trialing;
        if ends_trial {
            self.begin_anew(&mut change.after)?;
            change.after.state = State::Active;
            change.after.trial = change.after.trial.map(|(start, _)| (start, self.seconds()));
            change.begins_anew = true;
        }
        let invoiced = change.begins_anew || behavior == Proration::Now && !change.prorations.is_empty();
        if invoiced && payment == Some("error_if_incomplete") {
            let method = change.after.default_payment_method.as_deref();
            if let Some(decline) = self.would_decline(method, &change.after.customer) {
                return Err(Refusal::declined(decline, None, Value::Null));
            }
        }
        let mut lines = std::mem::take(&mut change.prorations);
        if !invoiced {
            change.after.pending.append(&mut lines);
        } else {
            lines.splice(0..0, std::mem::take(&mut change.after.pending));
        }
        let after = change.after;
        for at in after.cancel_at.into_iter().chain(change.begins_anew.then_some(after.period.1)) {
            self.agenda.note(at, Due::PeriodEnds(id.to_owned()));
        }
        *self.subscriptions.at_mut(id)? = after.clone();
        if change.begins_anew {
            lines.extend(self.lines_for(&after));
        }
        let invoice = if invoiced {
            let now = self.seconds();
            Some(self.bill(&after, "subscription_update", lines, (after.period.0.min(now), now))?)
        } else {
            None
        };
        let shown = self.shown(id).unwrap_or_default();
        let previous = changed(&before, &shown);
        if previous != serde_json::json!({}) {
            self.emit_changed("customer.subscription.updated", id, previous);
        }
        if let Some(invoice) = invoice {
            self.close_invoice(&invoice);
            let waits = payment == Some("default_incomplete");
            if !waits && let Attempted::Declined(_) = self.charge_invoice(&invoice)? {
                tracing::debug!(%invoice, "the payment of a change was declined");
            }
        }
        Ok(())
    }

    fn proration_date(&self, id: &str, fields: &Fields<'_>) -> Result<i64, Refusal> {
        let now = self.seconds();
        let Some(date) = fields.integer("proration_date")? else { return Ok(now) };
        let period = self.subscriptions.at(id)?.period;
        if (period.0..=period.1).contains(&date) {
            return Ok(date);
        }
        let message = "Cannot specify proration_date outside of the current period.";
        Err(Refusal::invalid(fields.name("proration_date"), message))
    }

    /// The items as they will be: those that are named are changed, taken away or added, the others stay.
    fn read_items(&self, subscription: &Subscription, changes: &[Fields<'_>]) -> Result<Vec<Item>, Refusal> {
        let mut items = subscription.items.clone();
        for fields in changes {
            match fields.filled("id") {
                Some(id) => {
                    let place = items
                        .iter()
                        .position(|item| item.id == id)
                        .ok_or_else(|| Refusal::no_such("subscription_item", id, fields.name("id")))?;
                    if fields.boolean("deleted")? == Some(true) {
                        items.remove(place);
                    } else {
                        self.read_item(fields, &mut items[place])?;
                    }
                }
                None => {
                    let mut item = Item {
                        // The id is given when the change is planned.
                        id: String::new(),
                        created: self.seconds(),
                        price: fields.required("price")?.to_owned(),
                        quantity: 1,
                        metadata: Metadata::new(),
                    };
                    self.read_item(fields, &mut item)?;
                    items.push(item);
                }
            }
        }
        if items.is_empty() {
            let message = "A subscription must have at least one active plan.";
            return Err(Refusal::invalid("items", message));
        }
        let prices: Vec<String> = items.iter().map(|item| item.price.clone()).collect();
        self.require_one_rhythm(&prices, "items")?;
        Ok(items)
    }

    fn read_item(&self, fields: &Fields<'_>, item: &mut Item) -> Result<(), Refusal> {
        if fields.text("price").is_some() {
            item.price = self.recurring_price(fields)?;
        }
        if let Some(quantity) = fields.integer_from("quantity", 0)? {
            item.quantity = quantity;
        }
        fields.update_metadata(&mut item.metadata)
    }

    fn plan_change(
        &mut self,
        id: &str,
        mut items: Vec<Item>,
        behavior: Proration,
        date: i64,
    ) -> Result<Change, Refusal> {
        let before = self.subscriptions.at(id)?.clone();
        for item in items.iter_mut().filter(|item| item.id.is_empty()) {
            item.id = self.ids.next("si");
        }
        let mut after = before.clone();
        after.items = items;
        let rhythm = |books: &Books, subscription: &Subscription| {
            let price = subscription.items.first().and_then(|item| books.prices.get(&item.price));
            price.and_then(|price| price.recurring)
        };
        let paid_for = matches!(before.state, State::Active | State::PastDue);
        let begins_anew = paid_for && rhythm(self, &before) != rhythm(self, &after);
        if begins_anew {
            self.begin_anew(&mut after)?;
        }
        let mut prorations = Vec::new();
        if paid_for && behavior != Proration::None {
            prorations = self.prorations(&before, &after, date, begins_anew);
        }
        Ok(Change { after, prorations, begins_anew })
    }

    fn begin_anew(&self, subscription: &mut Subscription) -> Result<(), Refusal> {
        let now = self.seconds();
        let first = subscription.items.first().and_then(|item| self.prices.get(&item.price));
        let recurring = first.and_then(|price| price.recurring).ok_or_else(|| Refusal::missing("items"))?;
        subscription.anchor = now;
        subscription.period = (now, periods::end_after(now, now, recurring));
        Ok(())
    }
}

fn proration_of(fields: &Fields<'_>) -> Result<Proration, Refusal> {
    let word = fields.one_of("proration_behavior", &["create_prorations", "always_invoice", "none"])?;
    Ok(match word {
        Some("always_invoice") => Proration::Now,
        Some("none") => Proration::None,
        _ => Proration::Later,
    })
}

/// The members that neither cost anything nor give anything back.
fn write_plain(subscription: &mut Subscription, fields: &Fields<'_>, now: i64) -> Result<(), Refusal> {
    if let Some(ends) = fields.boolean("cancel_at_period_end")? {
        subscription.cancel_at_period_end = ends;
        subscription.canceled_at = ends.then_some(now);
        subscription.why_canceled.reason = ends.then_some("cancellation_requested");
        if !ends {
            subscription.cancel_at = None;
        }
    }
    match fields.text("cancel_at") {
        None => {}
        Some("") => {
            subscription.cancel_at = None;
            subscription.canceled_at = None;
        }
        Some(_) => {
            let at = fields.integer("cancel_at")?.filter(|at| *at > now);
            let refuse = || Refusal::invalid("cancel_at", "cancel_at must be in the future.");
            subscription.cancel_at = Some(at.ok_or_else(refuse)?);
            subscription.canceled_at = Some(now);
        }
    }
    if let Some(details) = fields.object("cancellation_details") {
        read_why(&details, &mut subscription.why_canceled);
    }
    if let Some(description) = fields.text("description") {
        subscription.description = (!description.is_empty()).then(|| description.to_owned());
    }
    if fields.object("automatic_tax").is_some() {
        subscription.automatic_tax = automatic_tax_of(fields)?;
    }
    if let Some(end) = fields.text("trial_end")
        && end != "now"
    {
        let message = "The till ends trials now (trial_end=now); it does not move them.";
        return Err(Refusal::invalid("trial_end", message));
    }
    fields.update_metadata(&mut subscription.metadata)
}
