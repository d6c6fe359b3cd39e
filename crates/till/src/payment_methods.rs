//! What people pay with: cards, which answer at once, and bank debits, which answer days later.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::form::Metadata;
use crate::lists;
use crate::refusal::{Decline, Refusal};
use crate::shelf::Kept;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(crate) struct PaymentMethod {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) customer: Option<String>,
    pub(crate) kind: Kind,
    pub(crate) last4: &'static str,
    /// What every charge is answered with, unless it is to succeed.
    pub(crate) declines: Option<Decline>,
    metadata: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Card,
    /// SEPA direct debit: `processing` until the till is told how it ended.
    SepaDebit,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Card => "card",
            Kind::SepaDebit => "sepa_debit",
        }
    }
}

/// Stripe's names for cards of tests, and how they behave.
const TEST_CARDS: &[(&str, &str, Kind, Option<Decline>)] = &[
    ("pm_card_visa", "4242", Kind::Card, None),
    ("pm_card_visa_chargeDeclined", "0002", Kind::Card, Some(Decline::Generic)),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", "9995", Kind::Card, Some(Decline::InsufficientFunds)),
    ("pm_card_chargeDeclinedExpiredCard", "0069", Kind::Card, Some(Decline::ExpiredCard)),
    ("pm_card_authenticationRequired", "3184", Kind::Card, Some(Decline::AuthenticationRequired)),
    ("pm_sepaDebit", "3000", Kind::SepaDebit, None),
];

impl Kept for PaymentMethod {
    const KIND: &'static str = "PaymentMethod";

    fn id(&self) -> &str {
        &self.id
    }
}

impl PaymentMethod {
    pub(crate) fn shown(&self) -> Value {
        let mut shown = json!({
            "id": self.id,
            "object": "payment_method",
            "allow_redisplay": "limited",
            "billing_details": billing_details(None),
            "created": self.created,
            "customer": self.customer,
            "customer_account": null,
            "livemode": false,
            "metadata": self.metadata,
            "type": self.kind.name(),
        });
        shown[self.kind.name()] = match self.kind {
            Kind::Card => json!({
                "brand": "visa",
                "checks": { "address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass" },
                "country": "US",
                "display_brand": "visa",
                "exp_month": 12,
                "exp_year": 2040,
                "fingerprint": format!("till{}", self.last4),
                "funding": "credit",
                "generated_from": null,
                "last4": self.last4,
                "networks": { "available": ["visa"], "preferred": null },
                "regulated_status": "unregulated",
                "three_d_secure_usage": { "supported": true },
                "wallet": null,
            }),
            Kind::SepaDebit => json!({
                "bank_code": "37040044",
                "branch_code": "",
                "country": "DE",
                "fingerprint": format!("till{}", self.last4),
                "generated_from": { "charge": null, "setup_attempt": null },
                "last4": self.last4,
            }),
        };
        shown
    }
}

pub(crate) fn billing_details(email: Option<&str>) -> Value {
    json!({ "address": null, "email": email, "name": null, "phone": null, "tax_id": null })
}

impl Books {
    pub(crate) fn new_payment_method(
        &mut self,
        kind: Kind,
        last4: &'static str,
        declines: Option<Decline>,
        customer: Option<&str>,
    ) -> Result<String, Refusal> {
        let method = PaymentMethod {
            id: self.ids.next("pm"),
            created: self.seconds(),
            customer: customer.map(str::to_owned),
            kind,
            last4,
            declines,
            metadata: Metadata::new(),
        };
        let id = method.id.clone();
        self.payment_methods.put(method)?;
        if customer.is_some() {
            self.emit("payment_method.attached", &id);
        }
        Ok(id)
    }

    /// The method that a parameter names: one of the till's, or a new one after Stripe's name for a card of tests.
    pub(crate) fn payment_method_named(&mut self, id: &str, param: &str) -> Result<String, Refusal> {
        if let Some((_, last4, kind, declines)) = TEST_CARDS.iter().find(|(name, ..)| *name == id) {
            return self.new_payment_method(*kind, last4, *declines, None);
        }
        self.payment_methods.named(id, param).map(|method| method.id.clone())
    }

    pub(crate) fn retrieve_payment_method(&mut self, call: &Call) -> Answer {
        Ok(self.payment_methods.at(call.id())?.shown())
    }

    pub(crate) fn attach_payment_method(&mut self, call: &Call) -> Answer {
        let customer = self.customer_named(call.fields().required("customer")?, "customer")?.id.clone();
        let id = match self.payment_methods.get(call.id()) {
            Some(method) => method.id.clone(),
            None => self
                .payment_method_named(call.id(), "id")
                .map_err(|_| Refusal::not_found(PaymentMethod::KIND, call.id()))?,
        };
        let method = self.payment_methods.at_mut(&id)?;
        if method.customer.as_ref().is_some_and(|owner| *owner != customer) {
            return Err(Refusal::state("The payment method is attached to another customer already."));
        }
        method.customer = Some(customer);
        self.emit("payment_method.attached", &id);
        self.answer(&id)
    }

    pub(crate) fn detach_payment_method(&mut self, call: &Call) -> Answer {
        let method = self.payment_methods.at_mut(call.id())?;
        let Some(customer) = method.customer.take() else {
            return Err(Refusal::state("The payment method is not attached to a customer."));
        };
        let id = method.id.clone();
        if let Some(customer) = self.customers.get_mut(&customer)
            && customer.default_payment_method.as_ref() == Some(&id)
        {
            customer.default_payment_method = None;
        }
        self.emit_changed("payment_method.detached", &id, json!({ "customer": customer }));
        self.answer(&id)
    }

    /// `/v1/payment_methods?customer=` and `/v1/customers/{id}/payment_methods`.
    pub(crate) fn list_payment_methods(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let customer = match call.ids.first() {
            Some(id) => self.customers.at(id)?.id.clone(),
            None => match fields.filled("customer") {
                Some(id) => self.customer_named(id, "customer")?.id.clone(),
                None => return Err(Refusal::missing("customer")),
            },
        };
        let kind = fields.filled("type");
        let found = self
            .payment_methods
            .newest_first()
            .filter(|method| method.customer.as_deref() == Some(&customer))
            .filter(|method| kind.is_none_or(|kind| method.kind.name() == kind))
            .map(|method| (method.id.clone(), method));
        lists::page(&fields, "/v1/payment_methods", found, PaymentMethod::shown)
    }

    /// What an invoice or an off-session payment of this customer is charged to.
    pub(crate) fn usual_payment_method(&self, customer: &str) -> Option<String> {
        self.customers.get(customer)?.default_payment_method.clone()
    }
}
