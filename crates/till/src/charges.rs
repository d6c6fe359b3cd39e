//! Charges: one attempt to move money, and how much of it went back.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::form::Metadata;
use crate::lists::{self, Created};
use crate::payment_intents::{Attempted, PaymentIntent};
use crate::payment_methods::{Kind, billing_details};
use crate::refusal::{Decline, Refusal};
use crate::shelf::Kept;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(crate) struct Charge {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) amount: i64,
    pub(crate) currency: String,
    pub(crate) customer: Option<String>,
    pub(crate) payment_intent: String,
    pub(crate) payment_method: Option<String>,
    pub(crate) status: Status,
    /// All refunds that did not fail, together.
    pub(crate) amount_refunded: i64,
    /// There was a dispute, whatever came of it; inquiries do not count.
    pub(crate) disputed: bool,
    description: Option<String>,
    metadata: Metadata,
    receipt_email: Option<String>,
    failure: Option<Decline>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Pending,
    Succeeded,
    Failed,
}

impl Kept for Charge {
    const KIND: &'static str = "charge";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Charge {
    pub(crate) fn new(
        id: String,
        created: i64,
        intent: &PaymentIntent,
        kind: Kind,
        attempted: Attempted,
    ) -> Charge {
        Charge {
            id,
            created,
            amount: intent.amount,
            currency: intent.currency.clone(),
            customer: intent.customer.clone(),
            payment_intent: intent.id.clone(),
            payment_method: intent.payment_method.clone(),
            status: match attempted {
                Attempted::Succeeded => Status::Succeeded,
                Attempted::Processing => Status::Pending,
                Attempted::Declined(_) => Status::Failed,
            },
            amount_refunded: 0,
            disputed: false,
            description: intent.description.clone(),
            metadata: intent.metadata.clone(),
            receipt_email: intent.receipt_email.clone(),
            failure: match attempted {
                Attempted::Declined(decline) => Some(decline),
                _ => None,
            },
            kind,
        }
    }

    pub(crate) fn settle(&mut self, paid: bool) {
        if paid {
            self.status = Status::Succeeded;
        } else {
            self.status = Status::Failed;
            self.failure = Some(Decline::Generic);
        }
    }
}

impl Books {
    pub(crate) fn show_charge(&self, charge: &Charge) -> Value {
        let succeeded = charge.status == Status::Succeeded;
        let method = charge.payment_method.as_ref().and_then(|id| self.payment_methods.get(id));
        let last4 = method.map_or("4242", |method| method.last4);
        json!({
            "id": charge.id,
            "object": "charge",
            "amount": charge.amount,
            "amount_captured": if charge.status == Status::Failed { 0 } else { charge.amount },
            "amount_refunded": charge.amount_refunded,
            "application": null,
            "application_fee": null,
            "application_fee_amount": null,
            "balance_transaction": null,
            "billing_details": billing_details(charge.receipt_email.as_deref()),
            "calculated_statement_descriptor": "TILL",
            "captured": charge.status != Status::Failed,
            "created": charge.created,
            "currency": charge.currency,
            "customer": charge.customer,
            "description": charge.description,
            "disputed": charge.disputed,
            "failure_balance_transaction": null,
            "failure_code": charge.failure.map(Decline::code),
            "failure_message": charge.failure.map(Decline::message),
            "fraud_details": {},
            "livemode": false,
            "metadata": charge.metadata,
            "on_behalf_of": null,
            "outcome": outcome(charge.failure),
            "paid": charge.status != Status::Failed,
            "payment_intent": charge.payment_intent,
            "payment_method": charge.payment_method,
            "payment_method_details": details(charge, last4),
            "receipt_email": charge.receipt_email,
            "receipt_number": null,
            "receipt_url": succeeded.then(|| format!("{}/receipts/{}", self.terms.base_url, charge.id)),
            "refunded": charge.amount_refunded == charge.amount && succeeded,
            "review": null,
            "shipping": null,
            "source": null,
            "source_transfer": null,
            "statement_descriptor": null,
            "statement_descriptor_suffix": null,
            "status": match charge.status {
                Status::Pending => "pending",
                Status::Succeeded => "succeeded",
                Status::Failed => "failed",
            },
            "transfer_data": null,
            "transfer_group": null,
        })
    }

    pub(crate) fn retrieve_charge(&mut self, call: &Call) -> Answer {
        let charge = self.charges.at(call.id())?;
        Ok(self.show_charge(charge))
    }

    pub(crate) fn list_charges(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let created = Created::read(&fields)?;
        let (customer, intent) = (fields.filled("customer"), fields.filled("payment_intent"));
        let found = self
            .charges
            .newest_first()
            .filter(|charge| created.holds(charge.created))
            .filter(|charge| customer.is_none_or(|customer| charge.customer.as_deref() == Some(customer)))
            .filter(|charge| intent.is_none_or(|intent| charge.payment_intent == intent))
            .map(|charge| (charge.id.clone(), charge));
        lists::page(&fields, "/v1/charges", found, |charge| self.show_charge(charge))
    }

    /// The charge that went through, by its own id, its payment's, its session's or its invoice's.
    pub(crate) fn paid_charge(&self, id: &str) -> Result<&Charge, Refusal> {
        let no_such = || Refusal::not_found("payment", id);
        if let Some(charge) = self.charges.get(id) {
            return Ok(charge);
        }
        let intent = match (self.sessions.get(id), self.invoices.get(id)) {
            (Some(session), _) => session
                .payment_intent
                .clone()
                .or_else(|| self.invoices.get(session.invoice.as_ref()?)?.payment_intent.clone()),
            (_, Some(invoice)) => invoice.payment_intent.clone(),
            _ => Some(id.to_owned()),
        };
        let intent = intent.and_then(|id| self.payment_intents.get(&id)).ok_or_else(no_such)?;
        intent.latest_charge.as_ref().and_then(|id| self.charges.get(id)).ok_or_else(no_such)
    }
}

fn outcome(failure: Option<Decline>) -> Value {
    let (status, kind, reason) = match failure {
        None => ("approved_by_network", "authorized", None),
        Some(decline) => ("declined_by_network", "issuer_declined", Some(decline.decline_code())),
    };
    json!({
        "advice_code": null,
        "network_advice_code": null,
        "network_decline_code": null,
        "network_status": status,
        "reason": reason,
        "risk_level": "normal",
        "seller_message": failure.map_or("Payment complete.", Decline::message),
        "type": kind,
    })
}

fn details(charge: &Charge, last4: &str) -> Value {
    match charge.kind {
        Kind::Card => json!({
            "type": "card",
            "card": {
                "amount_authorized": charge.amount,
                "authorization_code": null,
                "brand": "visa",
                "checks": { "address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass" },
                "country": "US",
                "electronic_commerce_indicator": null,
                "exp_month": 12,
                "exp_year": 2040,
                "fingerprint": format!("till{last4}"),
                "funding": "credit",
                "installments": null,
                "last4": last4,
                "mandate": null,
                "network": "visa",
                "network_transaction_id": null,
                "regulated_status": "unregulated",
                "three_d_secure": null,
                "transaction_link_id": null,
                "wallet": null,
            },
        }),
        Kind::SepaDebit => json!({
            "type": "sepa_debit",
            "sepa_debit": {
                "bank_code": "37040044",
                "branch_code": "",
                "country": "DE",
                "fingerprint": format!("till{last4}"),
                "last4": last4,
                "mandate": null,
            },
        }),
    }
}
