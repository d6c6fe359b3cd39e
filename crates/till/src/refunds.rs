//! Refunds: money that goes back, and sometimes does not arrive.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::charges::Status as ChargeStatus;
use crate::form::Metadata;
use crate::lists::{self, Created};
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::{Value, json};

pub(crate) const CREATE: &[&str] =
    &["amount", "charge", "metadata", "metadata.*", "payment_intent", "reason"];

#[derive(Debug, Clone)]
pub(crate) struct Refund {
    pub(crate) id: String,
    created: i64,
    pub(crate) amount: i64,
    currency: String,
    pub(crate) charge: String,
    customer: Option<String>,
    payment_intent: String,
    payment_method: Option<String>,
    pub(crate) status: Status,
    reason: Option<&'static str>,
    metadata: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// On its way to a bank.
    Pending,
    Succeeded,
    Failed,
    Canceled,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Succeeded => "succeeded",
            Status::Failed => "failed",
            Status::Canceled => "canceled",
        }
    }
}

impl Kept for Refund {
    const KIND: &'static str = "refund";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Refund {
    pub(crate) fn shown(&self) -> Value {
        let mut shown = json!({
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "balance_transaction": null,
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "customer": self.customer,
            "customer_account": null,
            "destination_details": { "type": "card", "card": { "type": "refund", "reference_status": "pending", "reference_type": "acquirer_reference_number" } },
            "metadata": self.metadata,
            "payment_intent": self.payment_intent,
            "payment_method": self.payment_method,
            "reason": self.reason,
            "receipt_number": null,
            "source_transfer_reversal": null,
            "status": self.status.name(),
            "transfer_reversal": null,
        });
        match self.status {
            Status::Failed => shown["failure_reason"] = json!("lost_or_stolen_card"),
            Status::Pending => shown["pending_reason"] = json!("processing"),
            Status::Succeeded | Status::Canceled => {}
        }
        shown
    }
}

impl Books {
    pub(crate) fn create_refund(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let charge = match (fields.filled("charge"), fields.filled("payment_intent")) {
            (Some(charge), None) => self.charges.named(charge, "charge")?.id.clone(),
            (None, Some(intent)) => {
                let intent = self.payment_intents.named(intent, "payment_intent")?;
                intent.latest_charge.clone().ok_or_else(|| {
                    Refusal::state(format!(
                        "This PaymentIntent ({}) does not have a successful charge to refund.",
                        intent.id
                    ))
                })?
            }
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    "charge",
                    "You may pass only one of charge and payment_intent.",
                ));
            }
            (None, None) => return Err(Refusal::missing("payment_intent")),
        };
        let amount = fields.integer_from("amount", 1)?;
        let reason = fields.one_of("reason", &["duplicate", "fraudulent", "requested_by_customer"])?;
        let metadata = fields.metadata()?;
        let id = self.refund_charge(&charge, amount, Status::Succeeded, reason, metadata)?;
        self.answer(&id)
    }

    /// Gives back `amount` of a charge, or all that is left.
    pub(crate) fn refund_charge(
        &mut self,
        charge: &str,
        amount: Option<i64>,
        status: Status,
        reason: Option<&'static str>,
        metadata: Metadata,
    ) -> Result<String, Refusal> {
        let charge = self.charges.at(charge)?.clone();
        if charge.status != ChargeStatus::Succeeded {
            return Err(Refusal::state(format!(
                "The charge {} did not succeed: there is nothing to refund.",
                charge.id
            )));
        }
        if self.has_open_dispute(&charge.id) {
            let message = format!("The charge {} is disputed and cannot be refunded.", charge.id);
            return Err(Refusal::state(message).code("charge_disputed"));
        }
        let left = charge.amount - charge.amount_refunded;
        if left == 0 {
            let message = format!("Charge {} has already been refunded.", charge.id);
            return Err(Refusal::state(message).code("charge_already_refunded"));
        }
        let amount = amount.unwrap_or(left);
        if !(1..=left).contains(&amount) {
            let message =
                format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).");
            return Err(Refusal::state(message).param("amount"));
        }
        let refund = Refund {
            id: self.ids.next("re"),
            created: self.seconds(),
            amount,
            currency: charge.currency.clone(),
            charge: charge.id.clone(),
            customer: charge.customer.clone(),
            payment_intent: charge.payment_intent.clone(),
            payment_method: charge.payment_method.clone(),
            status,
            reason,
            metadata,
        };
        let id = refund.id.clone();
        self.refunds.put(refund)?;
        let before = json!({ "amount_refunded": charge.amount_refunded, "refunded": false });
        self.charges.at_mut(&charge.id)?.amount_refunded += amount;
        self.emit("refund.created", &id);
        self.emit_changed("charge.refunded", &charge.id, before);
        Ok(id)
    }

    /// A refund that was pending or had succeeded ends otherwise: it arrives, or the bank sends it back.
    pub(crate) fn settle_refund(&mut self, id: &str, status: Status) -> Result<(), Refusal> {
        let refund = self.refunds.at_mut(id)?;
        let before = refund.status;
        let allowed = match status {
            Status::Succeeded | Status::Canceled => before == Status::Pending,
            Status::Failed => matches!(before, Status::Pending | Status::Succeeded),
            Status::Pending => false,
        };
        if !allowed {
            let message =
                format!("The refund {id} is {} and cannot become {}.", before.name(), status.name());
            return Err(Refusal::state(message));
        }
        refund.status = status;
        let (charge, amount) = (refund.charge.clone(), refund.amount);
        let previous = json!({ "status": before.name() });
        if matches!(status, Status::Failed | Status::Canceled) {
            self.charges.at_mut(&charge)?.amount_refunded -= amount;
        }
        self.emit_changed("refund.updated", id, previous.clone());
        if status == Status::Failed {
            self.emit("refund.failed", id);
        }
        self.emit_changed("charge.refund.updated", id, previous);
        Ok(())
    }

    pub(crate) fn cancel_refund(&mut self, call: &Call) -> Answer {
        self.settle_refund(call.id(), Status::Canceled)?;
        self.answer(call.id())
    }

    pub(crate) fn retrieve_refund(&mut self, call: &Call) -> Answer {
        Ok(self.refunds.at(call.id())?.shown())
    }

    pub(crate) fn update_refund(&mut self, call: &Call) -> Answer {
        let mut refund = self.refunds.at(call.id())?.clone();
        call.fields().update_metadata(&mut refund.metadata)?;
        *self.refunds.at_mut(call.id())? = refund;
        self.emit("refund.updated", call.id());
        self.answer(call.id())
    }

    pub(crate) fn list_refunds(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let created = Created::read(&fields)?;
        let (charge, intent) = (fields.filled("charge"), fields.filled("payment_intent"));
        let found = self
            .refunds
            .newest_first()
            .filter(|refund| created.holds(refund.created))
            .filter(|refund| charge.is_none_or(|charge| refund.charge == charge))
            .filter(|refund| intent.is_none_or(|intent| refund.payment_intent == intent))
            .map(|refund| (refund.id.clone(), refund));
        lists::page(&fields, "/v1/refunds", found, Refund::shown)
    }

    /// The newest refunds of a charge, as a list within it.
    pub(crate) fn refunds_within(&self, charge: &str) -> Value {
        let found: Vec<&Refund> =
            self.refunds.newest_first().filter(|refund| refund.charge == charge).take(11).collect();
        let url = format!("/v1/charges/{charge}/refunds");
        lists::list(&url, found.iter().take(10).map(|refund| refund.shown()).collect(), found.len() > 10)
    }
}
