//! Payment intents: one wish to be paid, through all its attempts.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::catalogue::currency_of;
use crate::charges::Charge;
use crate::form::Metadata;
use crate::lists::{self, Created};
use crate::payment_methods::Kind;
use crate::refusal::{Decline, Refusal};
use crate::shelf::Kept;
use serde_json::{Value, json};

pub(crate) const CREATE: &[&str] = &[
    "allowed_payment_method_types[]",
    "amount",
    "automatic_payment_methods.allow_redirects",
    "automatic_payment_methods.enabled",
    "confirm",
    "currency",
    "customer",
    "description",
    "error_on_requires_action",
    "metadata",
    "metadata.*",
    "off_session",
    "payment_method",
    "receipt_email",
    "return_url",
    "setup_future_usage",
    "statement_descriptor_suffix",
];

#[derive(Debug, Clone)]
pub(crate) struct PaymentIntent {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    pub(crate) customer: Option<String>,
    pub(crate) payment_method: Option<String>,
    pub(crate) status: Status,
    pub(crate) latest_charge: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) receipt_email: Option<String>,
    pub(crate) setup_future_usage: Option<&'static str>,
    statement_descriptor_suffix: Option<String>,
    last_error: Option<Decline>,
    pub(crate) canceled_at: Option<i64>,
    /// What it pays for, when it was not made by a call.
    pub(crate) invoice: Option<String>,
    pub(crate) session: Option<String>,
    kind: Kind,
    /// The ways to pay that it is limited to.
    allowed_types: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    Processing,
    Succeeded,
    Canceled,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::RequiresPaymentMethod => "requires_payment_method",
            Status::RequiresConfirmation => "requires_confirmation",
            Status::Processing => "processing",
            Status::Succeeded => "succeeded",
            Status::Canceled => "canceled",
        }
    }
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempted {
    Succeeded,
    /// A bank debit: the answer comes later.
    Processing,
    Declined(Decline),
}

impl Kept for PaymentIntent {
    const KIND: &'static str = "payment_intent";

    fn id(&self) -> &str {
        &self.id
    }
}

impl PaymentIntent {
    pub(crate) fn shown(&self) -> Value {
        let received = if self.status == Status::Succeeded { self.amount } else { 0 };
        json!({
            "id": self.id,
            "object": "payment_intent",
            "allowed_payment_method_types": self.allowed_types,
            "amount": self.amount,
            "amount_capturable": 0,
            "amount_details": { "tip": {} },
            "amount_received": received,
            "application": null,
            "application_fee_amount": null,
            "automatic_payment_methods": null,
            "canceled_at": self.canceled_at,
            "cancellation_reason": null,
            "capture_method": "automatic_async",
            "client_secret": format!("{}_secret_till", self.id),
            "confirmation_method": "automatic",
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "customer_account": null,
            "description": self.description,
            "excluded_payment_method_types": null,
            "last_payment_error": self.last_error.map(|decline| json!({
                "type": "card_error",
                "code": decline.code(),
                "decline_code": decline.decline_code(),
                "message": decline.message(),
                "charge": self.latest_charge,
            })),
            "latest_charge": self.latest_charge,
            "livemode": false,
            "managed_payments": null,
            "metadata": self.metadata,
            "next_action": null,
            "on_behalf_of": null,
            // A method that was declined is let go of, and another may be tried.
            "payment_method": self.payment_method.as_ref().filter(|_| self.status != Status::RequiresPaymentMethod),
            "payment_method_configuration_details": null,
            "payment_method_options": {},
            "payment_method_types": [self.kind.name()],
            "payment_record": null,
            "processing": null,
            "receipt_email": self.receipt_email,
            "review": null,
            "setup_future_usage": self.setup_future_usage,
            "shipping": null,
            "source": null,
            "statement_descriptor": null,
            "statement_descriptor_suffix": self.statement_descriptor_suffix,
            "status": self.status.name(),
            "transfer_data": null,
            "transfer_group": null,
        })
    }
}

impl Books {
    pub(crate) fn new_intent(
        &mut self,
        amount: i64,
        currency: &str,
        customer: Option<&str>,
    ) -> PaymentIntent {
        PaymentIntent {
            id: self.ids.next("pi"),
            created: self.seconds(),
            amount,
            currency: currency.to_owned(),
            customer: customer.map(str::to_owned),
            payment_method: None,
            status: Status::RequiresPaymentMethod,
            latest_charge: None,
            description: None,
            metadata: Metadata::new(),
            receipt_email: None,
            setup_future_usage: None,
            statement_descriptor_suffix: None,
            last_error: None,
            canceled_at: None,
            invoice: None,
            session: None,
            kind: Kind::Card,
            allowed_types: None,
        }
    }

    pub(crate) fn create_payment_intent(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let amount = fields.integer_from("amount", 1)?.ok_or_else(|| Refusal::missing("amount"))?;
        let currency = currency_of(&fields)?;
        let confirm = fields.boolean("confirm")?.unwrap_or(false);
        if fields.boolean("off_session")? == Some(true) && !confirm {
            let message = "You can pass off_session only together with confirm=true.";
            return Err(Refusal::invalid("off_session", message));
        }
        let setup_future_usage = fields.one_of("setup_future_usage", &["off_session", "on_session"])?;
        let metadata = fields.metadata()?;
        let customer = match fields.filled("customer") {
            Some(id) => Some(self.customer_named(id, "customer")?.id.clone()),
            None => None,
        };
        let method = match fields.filled("payment_method") {
            Some(id) => Some(self.payment_method_named(id, "payment_method")?),
            None => None,
        };
        if let Some(owner) = method.as_ref().and_then(|id| self.payment_methods.get(id)?.customer.clone())
            && customer.as_ref() != Some(&owner)
        {
            let message = "The payment method belongs to a customer: pass that customer with it.";
            return Err(Refusal::invalid("payment_method", message));
        }
        if confirm && method.is_none() {
            let message = "You cannot confirm this PaymentIntent because it is missing a payment method.";
            return Err(Refusal::invalid("payment_method", message).code("payment_intent_unexpected_state"));
        }
        let types: Vec<String> =
            fields.texts("allowed_payment_method_types").into_iter().map(str::to_owned).collect();
        let kind =
            method.as_ref().and_then(|id| self.payment_methods.get(id)).map(|method| method.kind.name());
        if let Some(kind) = kind.filter(|kind| !types.is_empty() && !types.iter().any(|name| name == kind)) {
            let message =
                format!("The payment method is of the type {kind}, which this payment does not allow.");
            return Err(Refusal::invalid("payment_method", message));
        }
        let mut intent = self.new_intent(amount, &currency, customer.as_deref());
        intent.allowed_types = (!types.is_empty()).then_some(types);
        intent.description = fields.filled("description").map(str::to_owned);
        intent.receipt_email = fields.filled("receipt_email").map(str::to_owned);
        intent.statement_descriptor_suffix = fields.filled("statement_descriptor_suffix").map(str::to_owned);
        intent.setup_future_usage = setup_future_usage;
        intent.metadata = metadata;
        if method.is_some() {
            intent.status = Status::RequiresConfirmation;
        }
        intent.payment_method = method;
        let id = intent.id.clone();
        self.payment_intents.put(intent)?;
        self.emit("payment_intent.created", &id);
        if confirm {
            self.confirm(&id)?;
        }
        self.answer(&id)
    }

    fn confirm(&mut self, id: &str) -> Result<(), Refusal> {
        match self.attempt(id)? {
            Attempted::Succeeded | Attempted::Processing => Ok(()),
            Attempted::Declined(decline) => {
                let intent = self.payment_intents.at(id)?;
                Err(Refusal::declined(decline, intent.latest_charge.clone(), intent.shown()))
            }
        }
    }

    pub(crate) fn retrieve_payment_intent(&mut self, call: &Call) -> Answer {
        Ok(self.payment_intents.at(call.id())?.shown())
    }

    pub(crate) fn update_payment_intent(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let mut intent = self.payment_intents.at(call.id())?.clone();
        fields.update_metadata(&mut intent.metadata)?;
        if let Some(description) = fields.text("description") {
            intent.description = (!description.is_empty()).then(|| description.to_owned());
        }
        *self.payment_intents.at_mut(call.id())? = intent;
        self.answer(call.id())
    }

    pub(crate) fn confirm_payment_intent(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let intent = self.payment_intents.at(call.id())?;
        if !matches!(intent.status, Status::RequiresConfirmation | Status::RequiresPaymentMethod) {
            return Err(unexpected_state(intent, "confirmed"));
        }
        if let Some(method) = fields.filled("payment_method") {
            let method = self.payment_method_named(method, "payment_method")?;
            self.payment_intents.at_mut(call.id())?.payment_method = Some(method);
        }
        if self.payment_intents.at(call.id())?.payment_method.is_none() {
            let message = "You cannot confirm this PaymentIntent because it is missing a payment method.";
            return Err(Refusal::state(message).code("payment_intent_unexpected_state"));
        }
        self.confirm(call.id())?;
        self.answer(call.id())
    }

    pub(crate) fn cancel_payment_intent(&mut self, call: &Call) -> Answer {
        let now = self.seconds();
        let intent = self.payment_intents.at_mut(call.id())?;
        if matches!(intent.status, Status::Succeeded | Status::Canceled | Status::Processing) {
            return Err(unexpected_state(intent, "canceled"));
        }
        intent.status = Status::Canceled;
        intent.canceled_at = Some(now);
        self.emit("payment_intent.canceled", call.id());
        self.answer(call.id())
    }

    pub(crate) fn list_payment_intents(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let created = Created::read(&fields)?;
        let customer = fields.filled("customer");
        let found = self
            .payment_intents
            .newest_first()
            .filter(|intent| created.holds(intent.created))
            .filter(|intent| customer.is_none_or(|customer| intent.customer.as_deref() == Some(customer)))
            .map(|intent| (intent.id.clone(), intent));
        lists::page(&fields, "/v1/payment_intents", found, PaymentIntent::shown)
    }

    /// Charges the intent's method once, with the events of that.
    pub(crate) fn attempt(&mut self, id: &str) -> Result<Attempted, Refusal> {
        let intent = self.payment_intents.at(id)?.clone();
        let method = intent.payment_method.as_ref().and_then(|id| self.payment_methods.get(id)).cloned();
        let kind = method.as_ref().map_or(Kind::Card, |method| method.kind);
        let attempted = match (&method, kind) {
            // A renewal of somebody who has no method any more.
            (None, _) => Attempted::Declined(Decline::Generic),
            (Some(_), Kind::SepaDebit) => Attempted::Processing,
            (Some(method), Kind::Card) => method.declines.map_or(Attempted::Succeeded, Attempted::Declined),
        };
        let charge = self.new_charge(&intent, kind, attempted);
        let charge_id = charge.id.clone();
        self.charges.put(charge)?;
        let intent = self.payment_intents.at_mut(id)?;
        intent.latest_charge = Some(charge_id.clone());
        intent.kind = kind;
        let (of_charge, of_intent) = match attempted {
            Attempted::Succeeded => {
                intent.status = Status::Succeeded;
                intent.last_error = None;
                ("charge.succeeded", "payment_intent.succeeded")
            }
            Attempted::Processing => {
                intent.status = Status::Processing;
                ("charge.pending", "payment_intent.processing")
            }
            Attempted::Declined(decline) => {
                intent.status = Status::RequiresPaymentMethod;
                intent.last_error = Some(decline);
                ("charge.failed", "payment_intent.payment_failed")
            }
        };
        if attempted != Attempted::Processing || intent.setup_future_usage.is_some() {
            self.keep_method_for_later(id)?;
        }
        self.emit(of_charge, &charge_id);
        self.emit(of_intent, id);
        Ok(attempted)
    }

    /// A method that is to be used again belongs to the customer from its first use on.
    fn keep_method_for_later(&mut self, id: &str) -> Result<(), Refusal> {
        let intent = self.payment_intents.at(id)?;
        let (Some(customer), Some(method)) = (intent.customer.clone(), intent.payment_method.clone()) else {
            return Ok(());
        };
        if intent.setup_future_usage.is_none() || intent.status == Status::RequiresPaymentMethod {
            return Ok(());
        }
        let method_object = self.payment_methods.named(&method, "payment_method")?;
        if method_object.customer.is_none() {
            if let Some(object) = self.payment_methods.get_mut(&method) {
                object.customer = Some(customer);
            }
            self.emit("payment_method.attached", &method);
        }
        Ok(())
    }

    /// Tells how a payment ended that was processing, and lets that reach what it pays for.
    pub(crate) fn settle_intent(&mut self, id: &str, paid: bool) -> Result<(), Refusal> {
        let intent = self.payment_intents.at_mut(id)?;
        if intent.status != Status::Processing {
            let message = format!("The payment {id} is {}, not processing.", intent.status.name());
            return Err(Refusal::state(message));
        }
        if paid {
            intent.status = Status::Succeeded;
        } else {
            intent.status = Status::RequiresPaymentMethod;
            intent.last_error = Some(Decline::Generic);
        }
        let intent = intent.clone();
        if let Some(charge) = &intent.latest_charge {
            if let Some(charge) = self.charges.get_mut(charge) {
                charge.settle(paid);
            }
            self.emit(if paid { "charge.succeeded" } else { "charge.failed" }, charge);
        }
        self.emit(if paid { "payment_intent.succeeded" } else { "payment_intent.payment_failed" }, id);
        if let Some(invoice) = &intent.invoice {
            self.invoice_settled(invoice, paid);
        }
        if let Some(session) = &intent.session {
            self.session_settled(session, paid);
        }
        Ok(())
    }
}

fn unexpected_state(intent: &PaymentIntent, wish: &str) -> Refusal {
    let message = format!(
        "This PaymentIntent could not be {wish} because it has a status of {}.",
        intent.status.name()
    );
    Refusal::state(message).code("payment_intent_unexpected_state")
}

impl Books {
    fn new_charge(&mut self, intent: &PaymentIntent, kind: Kind, attempted: Attempted) -> Charge {
        let id = self.ids.next(match kind {
            Kind::Card => "ch",
            Kind::SepaDebit => "py",
        });
        Charge::new(id, self.seconds(), intent, kind, attempted)
    }
}
