//! How invoices come to be, are closed, are charged, and are charged again when that failed.

use crate::agenda::Due;
use crate::amounts::Worked;
use crate::books::Books;
use crate::coupons::Discount;
use crate::form::Metadata;
use crate::invoices::{Invoice, Line, Of, Status};
use crate::payment_intents::Attempted;
use crate::refusal::{Decline, Refusal};
use crate::subscriptions::State;
use serde_json::json;

const DAY: i64 = 86_400;
/// How long a renewal's invoice stays a draft.
pub(crate) const DRAFT_FOR: i64 = 3_600;
/// The gaps after which a failed renewal is charged again; then the subscription ends.
const RETRY_AFTER: [i64; 3] = [3 * DAY, 5 * DAY, 7 * DAY];

/// What an invoice is made of.
pub(crate) struct NewInvoice {
    pub(crate) customer: String,
    pub(crate) subscription: Option<Of>,
    pub(crate) billing_reason: &'static str,
    pub(crate) currency: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) discounts: Vec<Discount>,
    pub(crate) automatic_tax: bool,
    pub(crate) period: (i64, i64),
    pub(crate) metadata: Metadata,
}

impl Books {
    /// The invoice in its first state, not yet on the books: also what a preview shows.
    pub(crate) fn draft(&mut self, id: String, new: NewInvoice) -> Invoice {
        let mut lines = new.lines;
        let amounts: Vec<(i64, bool)> =
            lines.iter().map(|line| (line.worked.subtotal, !line.proration)).collect();
        let worked = self.work_out(&amounts, &new.discounts, &new.currency, new.automatic_tax);
        for (line, worked) in lines.iter_mut().zip(worked) {
            line.worked = worked;
        }
        Invoice {
            id,
            created: self.seconds(),
            starting_balance: self.customers.get(&new.customer).map_or(0, |customer| customer.balance),
            customer: new.customer,
            subscription: new.subscription,
            billing_reason: new.billing_reason,
            status: Status::Draft,
            currency: new.currency,
            lines,
            discounts: new.discounts,
            automatic_tax: new.automatic_tax,
            period: new.period,
            number: None,
            ending_balance: None,
            amount_paid: 0,
            payment_intent: None,
            payment: self.ids.next("inpay"),
            attempts: 0,
            next_attempt: None,
            finalized_at: None,
            paid_at: None,
            voided_at: None,
            marked_uncollectible_at: None,
            metadata: new.metadata,
        }
    }

    pub(crate) fn new_line(
        &mut self,
        price: &str,
        quantity: i64,
        subtotal: i64,
        description: String,
        period: (i64, i64),
    ) -> Line {
        Line {
            id: self.ids.next("il"),
            description,
            price: price.to_owned(),
            quantity,
            worked: Worked { subtotal, ..Worked::default() },
            period,
            proration: false,
            item: None,
            metadata: Metadata::new(),
        }
    }

    pub(crate) fn create_invoice(&mut self, new: NewInvoice) -> Result<String, Refusal> {
        let id = self.ids.next("in");
        let invoice = self.draft(id.clone(), new);
        self.invoices.put(invoice)?;
        self.emit("invoice.created", &id);
        Ok(id)
    }

    /// Closes an invoice: its number and what is due do not change from here on.
    pub(crate) fn close_invoice(&mut self, id: &str) {
        let now = self.seconds();
        let Some(invoice) = self.invoices.get_mut(id).filter(|invoice| invoice.status == Status::Draft)
        else {
            return;
        };
        let balance = invoice.total() + invoice.starting_balance;
        invoice.status = Status::Open;
        invoice.finalized_at = Some(now);
        invoice.ending_balance = Some(balance.min(0));
        if let Some(customer) = self.customers.get_mut(&invoice.customer) {
            customer.balance = balance.min(0);
            customer.invoices_made += 1;
            customer.currency.get_or_insert_with(|| invoice.currency.clone());
            invoice.number = Some(format!("{}-{:04}", customer.invoice_prefix(), customer.invoices_made));
        }
        self.emit("invoice.finalized", id);
    }

    /// Closes a renewal's draft and charges it.
    pub(crate) fn finalize_draft(&mut self, id: &str) {
        let Some(invoice) = self.invoices.get(id).filter(|invoice| invoice.status == Status::Draft) else {
            return;
        };
        let ended = invoice.subscription.as_ref().is_some_and(|of| {
            self.subscriptions.get(&of.id).is_some_and(|subscription| subscription.has_ended())
        });
        self.close_invoice(id);
        if !ended {
            self.charge_renewal(id);
        }
    }

    fn charge_renewal(&mut self, id: &str) {
        if let Err(refusal) = self.charge_invoice(id) {
            tracing::error!(invoice = id, error = %refusal, "an invoice cannot be charged");
        }
    }

    /// Charges what is due, with all events of what comes of it.
    pub(crate) fn charge_invoice(&mut self, id: &str) -> Result<Attempted, Refusal> {
        let due = self.invoices.at(id)?.amount_due();
        if due == 0 {
            self.mark_paid(id);
            return Ok(Attempted::Succeeded);
        }
        let intent = self.intent_of_invoice(id, due)?;
        self.invoices.at_mut(id)?.attempts += 1;
        let attempted = self.attempt(&intent)?;
        match attempted {
            Attempted::Succeeded => self.mark_paid(id),
            Attempted::Processing => self.activate(id),
            Attempted::Declined(_) => self.mark_failed(id),
        }
        Ok(attempted)
    }

    fn intent_of_invoice(&mut self, id: &str, due: i64) -> Result<String, Refusal> {
        let invoice = self.invoices.at(id)?.clone();
        let of = invoice.subscription.as_ref().and_then(|of| self.subscriptions.get(&of.id));
        let method = of
            .and_then(|subscription| subscription.default_payment_method.clone())
            .or_else(|| self.usual_payment_method(&invoice.customer));
        if let Some(intent) = &invoice.payment_intent {
            self.payment_intents.at_mut(intent)?.payment_method = method;
            return Ok(intent.clone());
        }
        let mut intent = self.new_intent(due, &invoice.currency, Some(&invoice.customer));
        intent.payment_method = method;
        intent.invoice = Some(id.to_owned());
        intent.setup_future_usage = Some("off_session");
        intent.description = Some(match invoice.billing_reason {
            "subscription_create" => "Subscription creation".to_owned(),
            "manual" => "Payment for Invoice".to_owned(),
            _ => "Subscription update".to_owned(),
        });
        let intent_id = intent.id.clone();
        self.payment_intents.put(intent)?;
        self.invoices.at_mut(id)?.payment_intent = Some(intent_id.clone());
        self.emit("payment_intent.created", &intent_id);
        Ok(intent_id)
    }

    pub(crate) fn mark_paid(&mut self, id: &str) {
        let now = self.seconds();
        let Some(invoice) = self.invoices.get_mut(id) else { return };
        invoice.status = Status::Paid;
        invoice.paid_at = Some(now);
        invoice.amount_paid = invoice.amount_due();
        invoice.next_attempt = None;
        let (payment, has_payment) = (invoice.payment.clone(), invoice.payment_intent.is_some());
        if let Some(customer) = self.customers.get_mut(&invoice.customer) {
            customer.delinquent = false;
        }
        if has_payment {
            self.emit("invoice_payment.paid", &payment);
        }
        self.emit("invoice.paid", id);
        self.emit("invoice.payment_succeeded", id);
        self.activate(id);
    }

    /// A subscription that waited for this invoice runs.
    fn activate(&mut self, invoice: &str) {
        let Some(of) = self.invoices.get(invoice).and_then(|invoice| invoice.subscription.clone()) else {
            return;
        };
        let waits = |state| matches!(state, State::Incomplete | State::PastDue);
        let Some(subscription) = self.subscriptions.get_mut(&of.id).filter(|known| waits(known.state)) else {
            return;
        };
        let before = subscription.state;
        subscription.state = State::Active;
        self.emit_changed("customer.subscription.updated", &of.id, json!({ "status": before.name() }));
    }

    fn mark_failed(&mut self, id: &str) {
        let now = self.seconds();
        let Some(invoice) = self.invoices.get_mut(id) else { return };
        let first = invoice.billing_reason == "subscription_create";
        let gap = RETRY_AFTER.get(usize::try_from(invoice.attempts).unwrap_or(usize::MAX).saturating_sub(1));
        invoice.next_attempt = gap.filter(|_| !first).map(|gap| now + gap);
        let (next, of) = (invoice.next_attempt, invoice.subscription.clone());
        if let Some(customer) = self.customers.get_mut(&invoice.customer) {
            customer.delinquent = true;
        }
        if let Some(next) = next {
            self.agenda.note(next, Due::InvoiceIsRetried(id.to_owned()));
        }
        self.emit("invoice.payment_failed", id);
        let Some(of) = of else { return };
        let Some(subscription) = self.subscriptions.get_mut(&of.id) else { return };
        if first || subscription.has_ended() {
            return;
        }
        if next.is_none() {
            self.end_subscription(&of.id, "payment_failed");
        } else if subscription.state != State::PastDue {
            let before = subscription.state;
            subscription.state = State::PastDue;
            self.emit_changed("customer.subscription.updated", &of.id, json!({ "status": before.name() }));
        }
    }

    pub(crate) fn retry_invoice(&mut self, id: &str, time: i64) {
        let due = self
            .invoices
            .get(id)
            .is_some_and(|invoice| invoice.status == Status::Open && invoice.next_attempt == Some(time));
        if due {
            self.charge_renewal(id);
        }
    }

    /// A bank debit for an invoice ended.
    pub(crate) fn invoice_settled(&mut self, id: &str, paid: bool) {
        if paid {
            self.mark_paid(id);
        } else {
            self.mark_failed(id);
        }
    }

    /// Pays an open invoice now, with another method if there is one, which is then used for what follows, too.
    pub(crate) fn pay_invoice_with(&mut self, id: &str, method: Option<String>) -> Result<(), Refusal> {
        let invoice = self.invoices.at(id)?;
        match invoice.status {
            Status::Draft => self.close_invoice(id),
            Status::Open => {}
            Status::Paid => {
                return Err(Refusal::state("Invoice is already paid.").code("invoice_already_paid"));
            }
            Status::Void | Status::Uncollectible => {
                return Err(Refusal::state(format!(
                    "This invoice is {} and cannot be paid.",
                    invoice.status.name()
                )));
            }
        }
        if let Some(method) = method {
            self.use_from_now_on(id, &method)?;
        }
        if let Attempted::Declined(decline) = self.charge_invoice(id)? {
            return Err(self.declined_invoice(id, decline));
        }
        Ok(())
    }

    fn use_from_now_on(&mut self, id: &str, method: &str) -> Result<(), Refusal> {
        let invoice = self.invoices.at(id)?.clone();
        let object = self.payment_methods.named(method, "payment_method")?;
        if object.customer.as_ref().is_some_and(|owner| *owner != invoice.customer) {
            let message = "The payment method belongs to another customer.";
            return Err(Refusal::invalid("payment_method", message));
        }
        match invoice.subscription.and_then(|of| self.subscriptions.get_mut(&of.id)) {
            Some(subscription) => subscription.default_payment_method = Some(method.to_owned()),
            None => {
                self.customers.at_mut(&invoice.customer)?.default_payment_method = Some(method.to_owned())
            }
        }
        Ok(())
    }

    pub(crate) fn declined_invoice(&self, id: &str, decline: Decline) -> Refusal {
        let intent = self
            .invoices
            .get(id)
            .and_then(|invoice| invoice.payment_intent.as_ref())
            .and_then(|intent| self.payment_intents.get(intent));
        let charge = intent.and_then(|intent| intent.latest_charge.clone());
        Refusal::declined(decline, charge, intent.map_or(json!(null), |intent| intent.shown()))
    }
}
