//! Disputes: a payer's bank asks for the money back, or only asks.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::charges::Status as ChargeStatus;
use crate::form::Metadata;
use crate::lists::{self, Created};
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::{Value, json};

const DAY: i64 = 86_400;
const FEE: i64 = 1_500;

#[derive(Debug, Clone)]
pub(crate) struct Dispute {
    pub(crate) id: String,
    pub(crate) created: i64,
    pub(crate) amount: i64,
    currency: String,
    pub(crate) charge: String,
    payment_intent: String,
    reason: &'static str,
    pub(crate) status: Status,
    /// The money has been taken, and not been given back.
    pub(crate) withdrawn: bool,
    transactions: Vec<Value>,
    metadata: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    WarningNeedsResponse,
    WarningUnderReview,
    WarningClosed,
    NeedsResponse,
    UnderReview,
    Won,
    Lost,
    Prevented,
    AppealNeedsResponse,
    AppealUnderReview,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::WarningNeedsResponse => "warning_needs_response",
            Status::WarningUnderReview => "warning_under_review",
            Status::WarningClosed => "warning_closed",
            Status::NeedsResponse => "needs_response",
            Status::UnderReview => "under_review",
            Status::Won => "won",
            Status::Lost => "lost",
            Status::Prevented => "prevented",
            Status::AppealNeedsResponse => "appeal_needs_response",
            Status::AppealUnderReview => "appeal_under_review",
        }
    }

    fn is_inquiry(self) -> bool {
        matches!(self, Status::WarningNeedsResponse | Status::WarningUnderReview | Status::WarningClosed)
    }

    fn is_closed(self) -> bool {
        matches!(self, Status::WarningClosed | Status::Won | Status::Lost | Status::Prevented)
    }
}

/// What may happen to a dispute next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeStep {
    /// Evidence was handed in.
    Review,
    /// Ends in the merchant's favour: the money comes back.
    Win,
    /// Ends in the payer's favour.
    Lose,
    /// An inquiry becomes a dispute: the money is taken.
    Escalate,
    /// An inquiry ends without a dispute.
    CloseInquiry,
    /// The payment was refunded in time, by a service that prevents disputes.
    Prevent,
    /// A lost dispute is opened once more.
    Appeal,
    /// The appeal's evidence was handed in.
    ReviewAppeal,
}

impl DisputeStep {
    pub(crate) const ALL: &[(&str, DisputeStep)] = &[
        ("review", DisputeStep::Review),
        ("win", DisputeStep::Win),
        ("lose", DisputeStep::Lose),
        ("escalate", DisputeStep::Escalate),
        ("close_inquiry", DisputeStep::CloseInquiry),
        ("prevent", DisputeStep::Prevent),
        ("appeal", DisputeStep::Appeal),
        ("review_appeal", DisputeStep::ReviewAppeal),
    ];

    pub(crate) fn from(self, status: Status) -> Option<Status> {
        use Status as S;
        match (self, status) {
            (DisputeStep::Review, S::NeedsResponse) => Some(S::UnderReview),
            (DisputeStep::Review, S::WarningNeedsResponse) => Some(S::WarningUnderReview),
            (
                DisputeStep::Win,
                S::NeedsResponse | S::UnderReview | S::AppealNeedsResponse | S::AppealUnderReview,
            ) => Some(S::Won),
            (
                DisputeStep::Lose,
                S::NeedsResponse | S::UnderReview | S::AppealNeedsResponse | S::AppealUnderReview,
            ) => Some(S::Lost),
            (DisputeStep::Escalate, S::WarningNeedsResponse | S::WarningUnderReview) => {
                Some(S::NeedsResponse)
            }
            (DisputeStep::CloseInquiry, S::WarningNeedsResponse | S::WarningUnderReview) => {
                Some(S::WarningClosed)
            }
            (DisputeStep::Prevent, S::WarningNeedsResponse | S::WarningUnderReview | S::NeedsResponse) => {
                Some(S::Prevented)
            }
            (DisputeStep::Appeal, S::Lost) => Some(S::AppealNeedsResponse),
            (DisputeStep::ReviewAppeal, S::AppealNeedsResponse) => Some(S::AppealUnderReview),
            _ => None,
        }
    }
}

impl Kept for Dispute {
    const KIND: &'static str = "dispute";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Dispute {
    pub(crate) fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "object": "dispute",
            "amount": self.amount,
            "balance_transactions": self.transactions,
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "enhanced_eligibility_types": [],
            "evidence": evidence(),
            "evidence_details": {
                "due_by": self.created + 10 * DAY,
                "enhanced_eligibility": {},
                "has_evidence": matches!(self.status, Status::UnderReview | Status::WarningUnderReview),
                "past_due": false,
                "submission_count": i32::from(matches!(self.status, Status::UnderReview)),
                "submission_method": if matches!(self.status, Status::UnderReview) { "manual" } else { "not_submitted" },
            },
            "intended_submission_method": null,
            "is_charge_refundable": self.status.is_inquiry() && !self.status.is_closed(),
            "livemode": false,
            "metadata": self.metadata,
            "payment_intent": self.payment_intent,
            "payment_method_details": {
                "type": "card",
                "card": {
                    "brand": "visa",
                    "case_type": if self.status.is_inquiry() { "inquiry" } else { "chargeback" },
                    "network": "visa",
                    "network_reason_code": "10.4",
                },
            },
            "reason": self.reason,
            "status": self.status.name(),
        })
    }
}

fn evidence() -> Value {
    const NAMES: &[&str] = &[
        "access_activity_log",
        "billing_address",
        "cancellation_policy",
        "cancellation_policy_disclosure",
        "cancellation_rebuttal",
        "customer_communication",
        "customer_email_address",
        "customer_name",
        "customer_purchase_ip",
        "customer_signature",
        "duplicate_charge_documentation",
        "duplicate_charge_explanation",
        "duplicate_charge_id",
        "product_description",
        "receipt",
        "refund_policy",
        "refund_policy_disclosure",
        "refund_refusal_explanation",
        "service_date",
        "service_documentation",
        "shipping_address",
        "shipping_carrier",
        "shipping_date",
        "shipping_documentation",
        "shipping_tracking_number",
        "uncategorized_file",
        "uncategorized_text",
    ];
    let mut evidence: serde_json::Map<String, Value> =
        NAMES.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
    evidence.insert("enhanced_evidence".to_owned(), json!({}));
    Value::Object(evidence)
}

impl Books {
    /// The payer's bank disputes `amount` of a charge, by default what was not refunded, or inquires about it.
    pub(crate) fn open_dispute(
        &mut self,
        charge: &str,
        amount: Option<i64>,
        inquiry: bool,
    ) -> Result<String, Refusal> {
        let charge = self.charges.at(charge)?.clone();
        let left = charge.amount - charge.amount_refunded;
        let amount = amount.unwrap_or(left);
        if charge.status != ChargeStatus::Succeeded || !(1..=charge.amount).contains(&amount) {
            let message = format!("The charge {} has no {amount} to dispute.", charge.id);
            return Err(Refusal::state(message));
        }
        if self.has_live_dispute(&charge.id) {
            return Err(Refusal::state(format!("The charge {} is disputed already.", charge.id)));
        }
        let dispute = Dispute {
            id: self.ids.next("dp"),
            created: self.seconds(),
            amount,
            currency: charge.currency.clone(),
            charge: charge.id.clone(),
            payment_intent: charge.payment_intent.clone(),
            reason: "fraudulent",
            status: if inquiry { Status::WarningNeedsResponse } else { Status::NeedsResponse },
            withdrawn: false,
            transactions: Vec::new(),
            metadata: Metadata::new(),
        };
        let id = dispute.id.clone();
        self.disputes.put(dispute)?;
        if inquiry {
            self.emit("charge.dispute.created", &id);
        } else {
            self.move_disputed_money(&id, true);
            self.emit("charge.dispute.created", &id);
            self.emit("charge.dispute.funds_withdrawn", &id);
        }
        Ok(id)
    }

    /// Takes the next step, with its events. Money that comes back or goes is told after the status.
    pub(crate) fn step_dispute(&mut self, id: &str, step: DisputeStep) -> Result<(), Refusal> {
        let dispute = self.disputes.at_mut(id)?;
        let before = dispute.status;
        let Some(after) = step.from(before) else {
            let name =
                DisputeStep::ALL.iter().find(|(_, known)| *known == step).map_or("", |(name, _)| *name);
            let message = format!("The dispute {id} is {}: `{name}` cannot follow.", before.name());
            return Err(Refusal::state(message));
        };
        dispute.status = after;
        let withdrawn = dispute.withdrawn;
        let takes = after == Status::NeedsResponse && !withdrawn;
        let gives = matches!(after, Status::Won | Status::Prevented) && withdrawn;
        if takes || gives {
            self.move_disputed_money(id, takes);
        }
        let previous = json!({ "status": before.name() });
        let kind = if after.is_closed() { "charge.dispute.closed" } else { "charge.dispute.updated" };
        self.emit_changed(kind, id, previous);
        if takes {
            self.emit("charge.dispute.funds_withdrawn", id);
        } else if gives {
            self.emit("charge.dispute.funds_reinstated", id);
        }
        Ok(())
    }

    fn move_disputed_money(&mut self, id: &str, takes: bool) {
        let transaction = self.ids.next("txn");
        let now = self.seconds();
        let Some(dispute) = self.disputes.get_mut(id) else { return };
        dispute.withdrawn = takes;
        let (amount, fee) = if takes { (-dispute.amount, FEE) } else { (dispute.amount, 0) };
        dispute.transactions.push(json!({
            "id": transaction,
            "object": "balance_transaction",
            "amount": amount,
            "available_on": now,
            "balance_type": "payments",
            "created": now,
            "currency": dispute.currency,
            "description": if takes { "Chargeback withdrawal" } else { "Chargeback reversal" },
            "exchange_rate": null,
            "fee": fee,
            "fee_details": [],
            "net": amount - fee,
            "reporting_category": if takes { "dispute" } else { "dispute_reversal" },
            "source": dispute.id,
            "status": "available",
            "type": "adjustment",
        }));
        if let Some(charge) = self.charges.get_mut(&dispute.charge) {
            charge.disputed = true;
        }
    }

    /// A dispute, not an inquiry, that has not ended: the charge cannot be refunded meanwhile.
    pub(crate) fn has_open_dispute(&self, charge: &str) -> bool {
        self.disputes.oldest_first().any(|dispute| {
            dispute.charge == charge
                && (dispute.withdrawn || !dispute.status.is_inquiry() && !dispute.status.is_closed())
        })
    }

    fn has_live_dispute(&self, charge: &str) -> bool {
        self.disputes.oldest_first().any(|dispute| dispute.charge == charge && !dispute.status.is_closed())
    }

    pub(crate) fn retrieve_dispute(&mut self, call: &Call) -> Answer {
        Ok(self.disputes.at(call.id())?.shown())
    }

    pub(crate) fn list_disputes(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let created = Created::read(&fields)?;
        let (charge, intent) = (fields.filled("charge"), fields.filled("payment_intent"));
        let found = self
            .disputes
            .newest_first()
            .filter(|dispute| created.holds(dispute.created))
            .filter(|dispute| charge.is_none_or(|charge| dispute.charge == charge))
            .filter(|dispute| intent.is_none_or(|intent| dispute.payment_intent == intent))
            .map(|dispute| (dispute.id.clone(), dispute));
        lists::page(&fields, "/v1/disputes", found, Dispute::shown)
    }
}
