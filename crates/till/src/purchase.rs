//! What a buyer does on the Checkout page: pays, is declined, pays by a bank debit that takes days, or goes away.

use crate::books::Books;
use crate::checkout::{IntentData, Mode, Session, State};
use crate::collection::NewInvoice;
use crate::form::Metadata;
use crate::payment_intents::Attempted;
use crate::payment_methods::Kind;
use crate::refusal::{Decline, Refusal};
use crate::subscriptions::NewSubscription;

const DAY: i64 = 86_400;

/// How somebody pays, and what else they chose on the page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purchase {
    pub means: Means,
    /// For a price whose amount the buyer names.
    pub amount: Option<i64>,
    /// For a line whose quantity may be changed; applies to all of those.
    pub quantity: Option<i64>,
    pub promotion_code: Option<String>,
    /// The address the buyer gives, where the session knows none.
    pub email: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Means {
    /// A card that pays at once.
    #[default]
    Card,
    /// A card that says no; the session stays open.
    Declined(Decline),
    /// A bank debit: the session completes unpaid, and how it ends is told later.
    Delayed,
}

impl Purchase {
    /// With a means and nothing else.
    #[must_use]
    pub fn by(means: Means) -> Purchase {
        Purchase { means, ..Purchase::default() }
    }
}

impl Books {
    /// Does what the buyer did. A declined card leaves a refusal and an open session.
    pub(crate) fn buy(&mut self, id: &str, purchase: &Purchase) -> Result<(), Refusal> {
        let session = self.sessions.at(id)?;
        if session.state != State::Open {
            return Err(Refusal::state(format!(
                "The session {id} is {}: it cannot be paid.",
                session.state.name()
            )));
        }
        let kind = if purchase.means == Means::Delayed { Kind::SepaDebit } else { Kind::Card };
        if !session.takes(kind) {
            let message = format!("The session {id} does not take payments by {}.", kind.name());
            return Err(Refusal::invalid("means", message));
        }
        let mut session = session.clone();
        self.choose(&mut session, purchase)?;
        let total = self.session_total(&session);
        if let Means::Declined(decline) = purchase.means
            && (total > 0 || session.mode != Mode::Payment)
        {
            return self.decline_at_checkout(session, total, decline);
        }
        match session.mode {
            Mode::Payment => self.buy_once(session, total, purchase.means),
            Mode::Subscription => self.subscribe(session, total, purchase.means),
            Mode::Setup => self.keep_for_later(session, purchase.means),
        }
    }

    /// Applies what the page lets a buyer choose.
    pub(crate) fn choose(&mut self, session: &mut Session, purchase: &Purchase) -> Result<(), Refusal> {
        if let Some(email) = purchase.email.as_deref().filter(|email| email.contains('@')) {
            session.buyer_email = Some(email.to_owned());
        }
        if let Some(quantity) = purchase.quantity {
            for line in session.lines.iter_mut().filter(|line| line.adjustable.is_some()) {
                let (least, most) = line.adjustable.unwrap_or_default();
                if !(least.max(1)..=most).contains(&quantity) {
                    let message = format!("The quantity must be between {} and {most}.", least.max(1));
                    return Err(Refusal::invalid("quantity", message));
                }
                line.quantity = quantity;
            }
        }
        if let Some(amount) = purchase.amount {
            for line in &mut session.lines {
                let Some(custom) = self.prices.get(&line.price).and_then(|price| price.custom) else {
                    continue;
                };
                let (least, most) = (custom.minimum.unwrap_or(1), custom.maximum.unwrap_or(99_999_999));
                if !(least..=most).contains(&amount) {
                    let message = format!("The amount must be between {least} and {most}.");
                    return Err(Refusal::invalid("amount", message));
                }
                line.unit_amount = amount;
            }
        }
        if let Some(code) = purchase.promotion_code.as_deref().filter(|code| !code.is_empty()) {
            let known = self.usable_code(code).filter(|_| session.allow_promotion_codes);
            let Some((coupon, code)) = known.map(|known| (known.coupon.clone(), known.id.clone())) else {
                return Err(Refusal::invalid("promotion_code", "This promotion code is not known here."));
            };
            session.discounts = vec![self.new_discount(coupon, Some(code))];
        }
        Ok(())
    }

    fn method_for(&mut self, means: Means, customer: Option<&str>) -> Result<String, Refusal> {
        match means {
            Means::Card => self.new_payment_method(Kind::Card, "4242", None, customer),
            Means::Declined(decline) => self.new_payment_method(Kind::Card, "0002", Some(decline), None),
            Means::Delayed => self.new_payment_method(Kind::SepaDebit, "3000", None, customer),
        }
    }

    /// The customer of the session, made now if one is needed and there is none.
    fn customer_of(&mut self, session: &mut Session, needed: bool) -> Result<Option<String>, Refusal> {
        if session.customer.is_none() && needed {
            let email = session.buyer_email.clone().or_else(|| session.customer_email.clone());
            session.customer =
                Some(self.customer_of_buyer(email.as_deref().unwrap_or("buyer@example.test"))?);
        }
        Ok(session.customer.clone())
    }

    fn decline_at_checkout(
        &mut self,
        mut session: Session,
        total: i64,
        decline: Decline,
    ) -> Result<(), Refusal> {
        let id = session.id.clone();
        let intent = self.intent_of_session(&mut session, total)?;
        // What was chosen is not kept: the page is shown again as it was.
        self.sessions.at_mut(&id)?.payment_intent = session.payment_intent;
        let method = self.method_for(Means::Declined(decline), None)?;
        self.payment_intents.at_mut(&intent)?.payment_method = Some(method);
        self.attempt(&intent)?;
        let intent = self.payment_intents.at(&intent)?;
        Err(Refusal::declined(decline, intent.latest_charge.clone(), intent.shown()))
    }

    /// The session's payment intent, which outlives declined attempts.
    fn intent_of_session(&mut self, session: &mut Session, total: i64) -> Result<String, Refusal> {
        if let Some(id) = &session.payment_intent {
            self.payment_intents.at_mut(id)?.amount = total;
            return Ok(id.clone());
        }
        let currency = session.currency.clone().unwrap_or_else(|| "usd".to_owned());
        let mut intent = self.new_intent(total, &currency, session.customer.as_deref());
        let IntentData { description, receipt_email, setup_future_usage, metadata } =
            session.intent_data.clone();
        intent.description = description;
        intent.receipt_email = receipt_email.or_else(|| session.buyer_email.clone());
        intent.setup_future_usage = setup_future_usage;
        intent.metadata = metadata;
        intent.session = Some(session.id.clone());
        let id = intent.id.clone();
        self.payment_intents.put(intent)?;
        if session.mode == Mode::Payment {
            session.payment_intent = Some(id.clone());
        }
        self.emit("payment_intent.created", &id);
        Ok(id)
    }

    fn buy_once(&mut self, mut session: Session, total: i64, means: Means) -> Result<(), Refusal> {
        let needed = session.customer_creation
            || session.invoice_creation.is_some()
            || session.intent_data.setup_future_usage.is_some();
        let customer = self.customer_of(&mut session, needed)?;
        for discount in &mut session.discounts {
            discount.session = Some(session.id.clone());
            discount.customer = customer.clone();
            self.redeem(discount);
        }
        let invoice = match session.invoice_creation.clone() {
            Some(metadata) => Some(self.invoice_of_session(&session, metadata)?),
            None => None,
        };
        session.invoice = invoice.clone();
        let attempted = if total > 0 {
            let intent = self.intent_of_session(&mut session, total)?;
            let method = self.method_for(means, None)?;
            let object = self.payment_intents.at_mut(&intent)?;
            object.payment_method = Some(method);
            object.customer = customer;
            object.invoice = invoice.clone();
            if let Some(invoice) = &invoice {
                self.invoices.at_mut(invoice)?.payment_intent = Some(intent.clone());
            }
            self.attempt(&intent)?
        } else {
            Attempted::Succeeded
        };
        if let (Some(invoice), Attempted::Succeeded) = (&invoice, attempted) {
            self.mark_paid(invoice);
        }
        session.payment_status = match attempted {
            _ if total == 0 => "no_payment_required",
            Attempted::Succeeded => "paid",
            Attempted::Processing | Attempted::Declined(_) => "unpaid",
        };
        self.complete(session)
    }

    fn complete(&mut self, mut session: Session) -> Result<(), Refusal> {
        session.state = State::Complete;
        let id = session.id.clone();
        *self.sessions.at_mut(&id)? = session;
        self.emit("checkout.session.completed", &id);
        Ok(())
    }

    /// The invoice of a one-off purchase, for sessions that ask for one.
    fn invoice_of_session(&mut self, session: &Session, metadata: Metadata) -> Result<String, Refusal> {
        let now = self.seconds();
        let mut lines = Vec::new();
        for line in &session.lines {
            let amount = line.unit_amount * line.quantity;
            lines.push(self.new_line(
                &line.price,
                line.quantity,
                amount,
                line.description.clone(),
                (now, now),
            ));
        }
        let invoice = self.create_invoice(NewInvoice {
            customer: session.customer.clone().unwrap_or_default(),
            subscription: None,
            billing_reason: "manual",
            currency: session.currency.clone().unwrap_or_else(|| "usd".to_owned()),
            lines,
            discounts: session.discounts.clone(),
            automatic_tax: session.automatic_tax,
            period: (now, now),
            metadata,
        })?;
        self.close_invoice(&invoice);
        Ok(invoice)
    }

    fn subscribe(&mut self, mut session: Session, total: i64, means: Means) -> Result<(), Refusal> {
        let customer = self.customer_of(&mut session, true)?.unwrap_or_default();
        let method = if total > 0 || session.card_always {
            Some(self.method_for(means, Some(&customer))?)
        } else {
            None
        };
        let data = session.subscription_data.clone();
        let items: Vec<(String, i64, Metadata)> = session
            .lines
            .iter()
            .map(|line| (line.price.clone(), line.quantity, line.metadata.clone()))
            .collect();
        let (recurring, once): (Vec<_>, Vec<_>) = items
            .into_iter()
            .partition(|(price, ..)| self.prices.get(price).is_some_and(|price| price.recurring.is_some()));
        if !once.is_empty() {
            return Err(Refusal::invalid(
                "line_items",
                "The till sells subscriptions without one-time items beside them.",
            ));
        }
        let (subscription, attempted) = self.open_subscription(
            NewSubscription {
                customer,
                items: recurring,
                method,
                trial_end: data.trial_end.or(data.trial_days.map(|days| self.seconds() + days * DAY)),
                discounts: session.discounts.clone(),
                automatic_tax: session.automatic_tax,
                cancel_at_period_end: false,
                description: data.description,
                metadata: data.metadata,
            },
            true,
        )?;
        session.invoice = self.subscriptions.at(&subscription)?.latest_invoice.clone();
        session.subscription = Some(subscription);
        session.payment_status = match attempted {
            _ if total == 0 => "no_payment_required",
            Some(Attempted::Succeeded) => "paid",
            _ => "unpaid",
        };
        // The payment of a debit that is under way must find its session again.
        if let Some(invoice) = &session.invoice
            && let Some(intent) = self.invoices.at(invoice)?.payment_intent.clone()
        {
            self.payment_intents.at_mut(&intent)?.session = Some(session.id.clone());
        }
        self.complete(session)
    }

    fn keep_for_later(&mut self, mut session: Session, means: Means) -> Result<(), Refusal> {
        let customer = self.customer_of(&mut session, false)?;
        let method = self.method_for(means, customer.as_deref())?;
        let metadata = session.setup_metadata.clone();
        session.setup_intent = Some(self.new_setup_intent(customer, method, metadata)?);
        self.complete(session)
    }

    /// The debit of a session that completed unpaid has ended.
    pub(crate) fn session_settled(&mut self, id: &str, paid: bool) {
        let Some(session) = self.sessions.get_mut(id).filter(|session| session.state == State::Complete)
        else {
            return;
        };
        if paid {
            session.payment_status = "paid";
        }
        let kind = if paid {
            "checkout.session.async_payment_succeeded"
        } else {
            "checkout.session.async_payment_failed"
        };
        self.emit(kind, id);
    }
}
