//! Invoices: what a subscription's periods and changes cost, and whether it was paid.

use crate::amounts::Worked;
use crate::api::{Answer, Call};
use crate::books::Books;
use crate::coupons::Discount;
use crate::form::Metadata;
use crate::lists::{self, Created};
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(crate) struct Invoice {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) customer: String,
    pub(crate) subscription: Option<Of>,
    pub(crate) billing_reason: &'static str,
    pub(crate) status: Status,
    pub(crate) currency: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) discounts: Vec<Discount>,
    pub(crate) automatic_tax: bool,
    pub(crate) period: (i64, i64),
    pub(crate) number: Option<String>,
    pub(crate) starting_balance: i64,
    /// Known when the invoice is finalized.
    pub(crate) ending_balance: Option<i64>,
    pub(crate) amount_paid: i64,
    pub(crate) payment_intent: Option<String>,
    /// The id of the `invoice_payment` that ties the payment intent to it.
    pub(crate) payment: String,
    pub(crate) attempts: u32,
    pub(crate) next_attempt: Option<i64>,
    pub(crate) finalized_at: Option<i64>,
    pub(crate) paid_at: Option<i64>,
    pub(crate) voided_at: Option<i64>,
    pub(crate) marked_uncollectible_at: Option<i64>,
    pub(crate) metadata: Metadata,
}

/// The subscription that an invoice belongs to, with its metadata of the time.
#[derive(Debug, Clone)]
pub(crate) struct Of {
    pub(crate) id: String,
    pub(crate) metadata: Metadata,
}

#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) id: String,
    pub(crate) description: String,
    pub(crate) price: String,
    pub(crate) quantity: i64,
    pub(crate) worked: Worked,
    /// The time that is paid for.
    pub(crate) period: (i64, i64),
    /// Part of a period, because something changed within it. No coupon applies: its amount has them in it.
    pub(crate) proration: bool,
    pub(crate) item: Option<String>,
    pub(crate) metadata: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Draft,
    Open,
    Paid,
    Void,
    Uncollectible,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Draft => "draft",
            Status::Open => "open",
            Status::Paid => "paid",
            Status::Void => "void",
            Status::Uncollectible => "uncollectible",
        }
    }
}

impl Kept for Invoice {
    const KIND: &'static str = "invoice";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Invoice {
    fn sum(&self, of: impl Fn(&Worked) -> i64) -> i64 {
        self.lines.iter().map(|line| of(&line.worked)).sum()
    }

    pub(crate) fn total(&self) -> i64 {
        self.sum(Worked::total)
    }

    /// What is to be paid after the customer's credit.
    pub(crate) fn amount_due(&self) -> i64 {
        (self.total() + self.starting_balance).max(0)
    }
}

impl Books {
    pub(crate) fn show_invoice(&self, invoice: &Invoice) -> Value {
        let customer = self.customers.get(&invoice.customer);
        let (total, tax, due) = (invoice.total(), invoice.sum(|line| line.tax), invoice.amount_due());
        let subtotal = invoice.sum(|line| line.subtotal);
        let status_page =
            invoice.finalized_at.map(|_| format!("{}/invoices/{}", self.terms.base_url, invoice.id));
        json!({
            "id": invoice.id,
            "object": "invoice",
            "account_country": "US",
            "account_name": "Till",
            "account_tax_ids": null,
            "amount_due": due,
            "amount_overpaid": 0,
            "amount_paid": invoice.amount_paid,
            "amount_remaining": if invoice.status == Status::Void { 0 } else { due - invoice.amount_paid },
            "amount_shipping": 0,
            "application": null,
            "attempt_count": invoice.attempts,
            "attempted": invoice.attempts > 0 || invoice.status == Status::Paid,
            "auto_advance": matches!(invoice.status, Status::Draft) || invoice.next_attempt.is_some(),
            "automatic_tax": self.show_automatic_tax(invoice.automatic_tax, true),
            "automatically_finalizes_at": (invoice.status == Status::Draft).then_some(invoice.created + 3_600),
            "billing_reason": invoice.billing_reason,
            "collection_method": "charge_automatically",
            "created": invoice.created,
            "currency": invoice.currency,
            "custom_fields": null,
            "customer": invoice.customer,
            "customer_account": null,
            "customer_address": null,
            "customer_email": customer.and_then(|customer| customer.email.as_ref()),
            "customer_name": customer.and_then(|customer| customer.name.as_ref()),
            "customer_phone": null,
            "customer_shipping": null,
            "customer_tax_exempt": "none",
            "customer_tax_ids": [],
            "default_payment_method": null,
            "default_source": null,
            "default_tax_rates": [],
            "description": null,
            "discounts": invoice.discounts.iter().map(|discount| &discount.id).collect::<Vec<_>>(),
            "due_date": null,
            "effective_at": invoice.finalized_at,
            "ending_balance": invoice.ending_balance,
            "footer": null,
            "from_invoice": null,
            "hosted_invoice_url": status_page,
            "invoice_pdf": null,
            "issuer": { "type": "self" },
            "last_finalization_error": null,
            "latest_revision": null,
            "lines": self.invoice_lines(invoice),
            "livemode": false,
            "metadata": invoice.metadata,
            "next_payment_attempt": invoice.next_attempt,
            "number": invoice.number,
            "on_behalf_of": null,
            "parent": invoice.subscription.as_ref().map(|subscription| json!({
                "quote_details": null,
                "subscription_details": { "metadata": subscription.metadata, "subscription": subscription.id },
                "type": "subscription_details",
            })),
            "payment_settings": { "default_mandate": null, "payment_method_options": null, "payment_method_types": null },
            "period_end": invoice.period.1,
            "period_start": invoice.period.0,
            "post_payment_credit_notes_amount": 0,
            "pre_payment_credit_notes_amount": 0,
            "receipt_number": null,
            "rendering": null,
            "shipping_cost": null,
            "shipping_details": null,
            "starting_balance": invoice.starting_balance,
            "statement_descriptor": null,
            "status": invoice.status.name(),
            "status_transitions": {
                "finalized_at": invoice.finalized_at,
                "marked_uncollectible_at": invoice.marked_uncollectible_at,
                "paid_at": invoice.paid_at,
                "voided_at": invoice.voided_at,
            },
            "subtotal": subtotal,
            "subtotal_excluding_tax": subtotal,
            "test_clock": null,
            "total": total,
            "total_discount_amounts": invoice.discounts.iter().enumerate().map(|(place, discount)| json!({
                "amount": invoice.sum(|line| line.discounts.get(place).copied().unwrap_or(0)),
                "discount": discount.id,
            })).collect::<Vec<_>>(),
            "total_excluding_tax": total - tax,
            "total_pretax_credit_amounts": [],
            "total_taxes": taxes(invoice.automatic_tax, tax, total - tax),
            "webhooks_delivered_at": invoice.created,
        })
    }

    fn invoice_lines(&self, invoice: &Invoice) -> Value {
        let shown = invoice.lines.iter().take(10).map(|line| self.show_line(invoice, line)).collect();
        lists::list(&format!("/v1/invoices/{}/lines", invoice.id), shown, invoice.lines.len() > 10)
    }

    pub(crate) fn show_line(&self, invoice: &Invoice, line: &Line) -> Value {
        let price = self.prices.get(&line.price);
        let subscription = invoice.subscription.as_ref().map(|subscription| &subscription.id);
        let discounts: Vec<Value> = invoice
            .discounts
            .iter()
            .zip(&line.worked.discounts)
            .filter(|(_, amount)| **amount > 0)
            .map(|(discount, amount)| json!({ "amount": amount, "discount": discount.id }))
            .collect();
        let details = |item: Option<&String>| {
            json!({
                "invoice_item": null,
                "proration": line.proration,
                "proration_details": { "credited_items": null },
                "subscription": subscription,
                "subscription_item": item,
            })
        };
        let parent = match &line.item {
            Some(item) => json!({
                "invoice_item_details": null,
                "subscription_item_details": details(Some(item)),
                "type": "subscription_item_details",
            }),
            None => json!({
                "invoice_item_details": {
                    "invoice_item": line.id.replacen("il_", "ii_", 1),
                    "proration": line.proration,
                    "proration_details": { "credited_items": null },
                    "subscription": subscription,
                },
                "subscription_item_details": null,
                "type": "invoice_item_details",
            }),
        };
        json!({
            "id": line.id,
            "object": "line_item",
            "amount": line.worked.subtotal,
            "currency": invoice.currency,
            "description": line.description,
            "discount_amounts": discounts,
            "discountable": !line.proration,
            "discounts": [],
            "invoice": invoice.id,
            "livemode": false,
            "metadata": line.metadata,
            "parent": parent,
            "period": { "end": line.period.1, "start": line.period.0 },
            "pretax_credit_amounts": [],
            "pricing": {
                "price_details": { "price": line.price, "product": price.map(|price| &price.product) },
                "type": "price_details",
                "unit_amount_decimal": price.map(|price| price.amount().to_string()),
            },
            "quantity": line.quantity,
            "quantity_decimal": line.quantity.to_string(),
            "subscription": subscription,
            "subtotal": line.worked.subtotal,
            "taxes": taxes(invoice.automatic_tax, line.worked.tax, line.worked.taxable()),
        })
    }

    /// `automatic_tax` of sessions, subscriptions and invoices, which differ in members.
    pub(crate) fn show_automatic_tax(&self, enabled: bool, with_reason: bool) -> Value {
        let mut shown = json!({
            "enabled": enabled,
            "liability": enabled.then(|| json!({ "type": "self" })),
            "provider": enabled.then_some("stripe"),
            "status": enabled.then_some("complete"),
        });
        if with_reason {
            shown["disabled_reason"] = Value::Null;
        }
        shown
    }

    pub(crate) fn show_invoice_payment(&self, id: &str) -> Option<Value> {
        let invoice = self.invoices.newest_first().find(|invoice| invoice.payment == id)?;
        self.payment_of(invoice)
    }

    /// The tie between an invoice and its payment intent, once there is one.
    fn payment_of(&self, invoice: &Invoice) -> Option<Value> {
        let intent = invoice.payment_intent.as_ref()?;
        let paid = invoice.status == Status::Paid;
        Some(json!({
            "id": invoice.payment,
            "object": "invoice_payment",
            "amount_paid": paid.then_some(invoice.amount_paid),
            "amount_requested": invoice.amount_due(),
            "created": invoice.finalized_at.unwrap_or(invoice.created),
            "currency": invoice.currency,
            "invoice": invoice.id,
            "is_default": true,
            "livemode": false,
            "payment": { "payment_intent": intent, "type": "payment_intent" },
            "status": match invoice.status {
                Status::Paid => "paid",
                Status::Void | Status::Uncollectible => "canceled",
                Status::Draft | Status::Open => "open",
            },
            "status_transitions": { "canceled_at": invoice.voided_at, "paid_at": invoice.paid_at },
        }))
    }

    /// `payments`, which an invoice shows only when it is asked for.
    pub(crate) fn payments_within(&self, invoice: &Invoice) -> Value {
        let url = format!("/v1/invoice_payments?invoice={}", invoice.id);
        lists::list(&url, self.payment_of(invoice).into_iter().collect(), false)
    }

    pub(crate) fn retrieve_invoice(&mut self, call: &Call) -> Answer {
        let invoice = self.invoices.at(call.id())?;
        Ok(self.show_invoice(invoice))
    }

    pub(crate) fn list_invoices(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let created = Created::read(&fields)?;
        let (customer, subscription, status) =
            (fields.filled("customer"), fields.filled("subscription"), fields.filled("status"));
        let found = self
            .invoices
            .newest_first()
            .filter(|invoice| created.holds(invoice.created))
            .filter(|invoice| customer.is_none_or(|customer| invoice.customer == customer))
            .filter(|invoice| {
                subscription
                    .is_none_or(|wanted| invoice.subscription.as_ref().is_some_and(|of| of.id == wanted))
            })
            .filter(|invoice| status.is_none_or(|status| invoice.status.name() == status))
            .map(|invoice| (invoice.id.clone(), invoice));
        lists::page(&fields, "/v1/invoices", found, |invoice| self.show_invoice(invoice))
    }

    pub(crate) fn list_invoice_lines(&mut self, call: &Call) -> Answer {
        let invoice = self.invoices.at(call.id())?;
        let lines = invoice.lines.iter().map(|line| (line.id.clone(), line));
        let url = format!("/v1/invoices/{}/lines", invoice.id);
        lists::page(&call.fields(), &url, lines, |line| self.show_line(invoice, line))
    }

    pub(crate) fn retrieve_invoice_payment(&mut self, call: &Call) -> Answer {
        self.show_invoice_payment(call.id()).ok_or_else(|| Refusal::not_found("invoice_payment", call.id()))
    }

    pub(crate) fn list_invoice_payments(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let payment = fields.object("payment");
        let intent = payment.as_ref().and_then(|payment| payment.filled("payment_intent"));
        let (invoice, status) = (fields.filled("invoice"), fields.filled("status"));
        let found = self
            .invoices
            .newest_first()
            .filter(|known| invoice.is_none_or(|invoice| known.id == invoice))
            .filter(|known| intent.is_none_or(|intent| known.payment_intent.as_deref() == Some(intent)))
            .filter_map(|known| self.payment_of(known))
            .filter(|payment| status.is_none_or(|status| payment["status"] == status))
            .map(|payment| (payment["id"].as_str().unwrap_or_default().to_owned(), payment))
            .collect::<Vec<_>>();
        lists::page(&fields, "/v1/invoice_payments", found.into_iter(), |payment| payment)
    }

    pub(crate) fn pay_invoice_call(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        if let Some(method) = fields.filled("payment_method") {
            let method = self.payment_method_named(method, "payment_method")?;
            self.pay_invoice_with(call.id(), Some(method))?;
        } else {
            self.pay_invoice_with(call.id(), None)?;
        }
        self.answer(call.id())
    }

    pub(crate) fn finalize_invoice(&mut self, call: &Call) -> Answer {
        if self.invoices.at(call.id())?.status != Status::Draft {
            return Err(Refusal::state("This invoice is already finalized, you can't re-finalize it."));
        }
        self.finalize_draft(call.id());
        self.answer(call.id())
    }

    pub(crate) fn void_invoice(&mut self, call: &Call) -> Answer {
        let now = self.seconds();
        let invoice = self.give_up_invoice(call.id(), Status::Void)?;
        invoice.voided_at = Some(now);
        self.emit("invoice.voided", call.id());
        self.answer(call.id())
    }

    pub(crate) fn write_off_invoice(&mut self, call: &Call) -> Answer {
        let now = self.seconds();
        let invoice = self.give_up_invoice(call.id(), Status::Uncollectible)?;
        invoice.marked_uncollectible_at = Some(now);
        self.emit("invoice.marked_uncollectible", call.id());
        self.answer(call.id())
    }

    fn give_up_invoice(&mut self, id: &str, status: Status) -> Result<&mut Invoice, Refusal> {
        let invoice = self.invoices.at_mut(id)?;
        if invoice.status != Status::Open {
            let message =
                format!("Only open invoices can be given up: this one is {}.", invoice.status.name());
            return Err(Refusal::state(message));
        }
        invoice.status = status;
        invoice.next_attempt = None;
        Ok(invoice)
    }
}

fn taxes(taxed: bool, amount: i64, taxable: i64) -> Value {
    if !taxed {
        return json!([]);
    }
    json!([{
        "amount": amount,
        "tax_behavior": "exclusive",
        "tax_rate_details": { "tax_rate": "txr_till" },
        "taxability_reason": "standard_rated",
        "taxable_amount": taxable,
        "type": "tax_rate_details",
    }])
}
