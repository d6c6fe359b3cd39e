//! Invoices that are only looked at: the next one, or that of a change that is being considered.

use super::{Proration, proration_of};
use crate::api::{Answer, Call};
use crate::books::Books;
use crate::collection::NewInvoice;
use crate::form::{Fields, Metadata};
use crate::invoices::Of;
use crate::periods;
use crate::refusal::Refusal;
use crate::subscriptions::{State, automatic_tax_of};

impl Books {
    /// What the next invoice would be, or the invoice of a change that is only being considered. Nothing is kept.
    pub(crate) fn preview_invoice(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let details = fields.object("subscription_details");
        let items = details.as_ref().map(|details| details.list("items")).unwrap_or_default();
        let Some(id) = fields.filled("subscription") else {
            return self.preview_new(&fields, &items);
        };
        let subscription = self.subscriptions.named(id, "subscription")?.clone();
        if fields.filled("customer").is_some_and(|customer| customer != subscription.customer) {
            return Err(Refusal::no_such("subscription", id, "subscription"));
        }
        if subscription.has_ended() {
            let message = "You cannot preview the upcoming invoice for a subscription that has ended.";
            return Err(Refusal::state(message).code("invoice_upcoming_none"));
        }
        let items = self.read_items(&subscription, &items)?;
        let (behavior, date) = match &details {
            Some(details) => (proration_of(details)?, self.proration_date(id, details)?),
            None => (Proration::Later, self.seconds()),
        };
        let change = self.plan_change(id, items, behavior, date)?;
        let mut next = change.after;
        let now = self.seconds();
        let immediate = change.begins_anew || behavior == Proration::Now && !change.prorations.is_empty();
        let mut lines = std::mem::take(&mut next.pending);
        lines.extend(change.prorations);
        let (reason, period) = if immediate {
            if change.begins_anew {
                lines.extend(self.lines_for(&next));
            }
            ("subscription_update", (next.period.0, now))
        } else {
            let last = next.period;
            let recurring = next.items.first().and_then(|item| self.prices.get(&item.price)?.recurring);
            let recurring = recurring.ok_or_else(|| Refusal::missing("subscription"))?;
            next.state = State::Active;
            next.period = (last.1, periods::end_after(next.anchor, last.1, recurring));
            lines.extend(self.lines_for(&next));
            ("upcoming", last)
        };
        let mut discounts = self.discounts_now(&next, false);
        discounts.extend(self.discounts_of(&fields)?);
        let automatic_tax = next.automatic_tax || automatic_tax_of(&fields)?;
        self.show_preview(NewInvoice {
            customer: next.customer.clone(),
            subscription: Some(next.of()),
            billing_reason: reason,
            currency: next.currency,
            lines,
            discounts,
            automatic_tax,
            period,
            metadata: Metadata::new(),
        })
    }

    /// The first invoice of a subscription that does not exist.
    fn preview_new(&mut self, fields: &Fields<'_>, items: &[Fields<'_>]) -> Answer {
        let customer = self.customer_named(fields.required("customer")?, "customer")?.id.clone();
        let mut lines = Vec::new();
        let mut prices = Vec::new();
        for item in items {
            prices.push(self.recurring_price(item)?);
        }
        self.require_one_rhythm(&prices, "subscription_details[items]")?;
        let now = self.seconds();
        for (item, id) in items.iter().zip(&prices) {
            let price = self.prices.named(id, &item.name("price"))?.clone();
            let quantity = item.integer_from("quantity", 0)?.unwrap_or(1);
            let end = price.recurring.map_or(now, |recurring| periods::end_after(now, now, recurring));
            let name = self.product_name(&price.product);
            let text = format!("{quantity} × {name}");
            lines.push(self.new_line(id, quantity, price.amount() * quantity, text, (now, end)));
        }
        let currency = self.prices.named(&prices[0], "subscription_details[items]")?.currency.clone();
        let discounts = self.discounts_of(fields)?;
        let automatic_tax = automatic_tax_of(fields)?;
        self.show_preview(NewInvoice {
            customer,
            subscription: None::<Of>,
            billing_reason: "upcoming",
            currency,
            lines,
            discounts,
            automatic_tax,
            period: (now, now),
            metadata: Metadata::new(),
        })
    }

    fn show_preview(&mut self, new: NewInvoice) -> Answer {
        let id = self.ids.next("upcoming_in");
        let invoice = self.draft(id, new);
        Ok(self.show_invoice(&invoice))
    }
}
