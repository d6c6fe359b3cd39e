//! Checkout sessions: what is offered to a buyer, until it is bought, left alone or withdrawn.

mod offer;
mod shape;

use crate::agenda::Due;
use crate::api::{Answer, Call};
use crate::books::Books;
use crate::coupons::Discount;
use crate::form::Metadata;
use crate::lists::{self, Created};
use crate::payment_methods::Kind;
use crate::refusal::Refusal;
use crate::shelf::Kept;

const HALF_HOUR: i64 = 1_800;
const DAY: i64 = 86_400;
const MOST_LINES: usize = 100;
const KNOWN_TYPES: [&str; 2] = ["card", "sepa_debit"];

pub(crate) const CREATE: &[&str] = &[
    "allow_promotion_codes",
    "allowed_payment_method_types[]",
    "automatic_tax.enabled",
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
    "currency",
    "customer",
    "customer_creation",
    "customer_email",
    "customer_update.address",
    "customer_update.name",
    "discounts[].coupon",
    "discounts[].promotion_code",
    "expires_at",
    "invoice_creation.enabled",
    "invoice_creation.invoice_data.metadata.*",
    "line_items[].adjustable_quantity.enabled",
    "line_items[].adjustable_quantity.maximum",
    "line_items[].adjustable_quantity.minimum",
    "line_items[].metadata.*",
    "line_items[].price",
    "line_items[].price_data.currency",
    "line_items[].price_data.product",
    "line_items[].price_data.product_data.description",
    "line_items[].price_data.product_data.metadata.*",
    "line_items[].price_data.product_data.name",
    "line_items[].price_data.recurring.interval",
    "line_items[].price_data.recurring.interval_count",
    "line_items[].price_data.tax_behavior",
    "line_items[].price_data.unit_amount",
    "line_items[].quantity",
    "locale",
    "metadata",
    "metadata.*",
    "mode",
    "payment_intent_data.description",
    "payment_intent_data.metadata.*",
    "payment_intent_data.receipt_email",
    "payment_intent_data.setup_future_usage",
    "payment_method_collection",
    "setup_intent_data.metadata.*",
    "submit_type",
    "subscription_data.description",
    "subscription_data.metadata.*",
    "subscription_data.trial_end",
    "subscription_data.trial_period_days",
    "success_url",
    "tax_id_collection.enabled",
    "ui_mode",
];

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) id: String,
    created: i64,
    pub(crate) mode: Mode,
    pub(crate) state: State,
    pub(crate) payment_status: &'static str,
    pub(crate) lines: Vec<SessionLine>,
    pub(crate) currency: Option<String>,
    pub(crate) customer: Option<String>,
    pub(crate) customer_creation: bool,
    pub(crate) customer_email: Option<String>,
    /// What the buyer typed.
    pub(crate) buyer_email: Option<String>,
    pub(crate) client_reference_id: Option<String>,
    pub(crate) success_url: String,
    pub(crate) cancel_url: Option<String>,
    pub(crate) allow_promotion_codes: bool,
    pub(crate) discounts: Vec<Discount>,
    pub(crate) automatic_tax: bool,
    pub(crate) expires_at: i64,
    pub(crate) metadata: Metadata,
    pub(crate) intent_data: IntentData,
    pub(crate) subscription_data: SubscriptionData,
    pub(crate) setup_metadata: Metadata,
    pub(crate) invoice_creation: Option<Metadata>,
    /// The ways to pay that the session is limited to.
    allowed_types: Option<Vec<String>>,
    pub(crate) card_always: bool,
    pub(crate) payment_intent: Option<String>,
    pub(crate) setup_intent: Option<String>,
    pub(crate) subscription: Option<String>,
    pub(crate) invoice: Option<String>,
    locale: Option<String>,
    submit_type: Option<&'static str>,
}

#[derive(Debug, Clone)]
pub(crate) struct SessionLine {
    pub(crate) id: String,
    pub(crate) price: String,
    pub(crate) description: String,
    pub(crate) quantity: i64,
    /// The least and the most, when the buyer may change it.
    pub(crate) adjustable: Option<(i64, i64)>,
    /// For prices whose amount the buyer names: what was named, at first what is suggested.
    pub(crate) unit_amount: i64,
    pub(crate) metadata: Metadata,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct IntentData {
    pub(crate) description: Option<String>,
    pub(crate) receipt_email: Option<String>,
    pub(crate) setup_future_usage: Option<&'static str>,
    pub(crate) metadata: Metadata,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct SubscriptionData {
    pub(crate) description: Option<String>,
    pub(crate) trial_days: Option<i64>,
    pub(crate) trial_end: Option<i64>,
    pub(crate) metadata: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Payment,
    Subscription,
    Setup,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Payment => "payment",
            Mode::Subscription => "subscription",
            Mode::Setup => "setup",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Complete,
    Expired,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Complete => "complete",
            State::Expired => "expired",
        }
    }
}

impl Kept for Session {
    const KIND: &'static str = "checkout.session";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Session {
    fn payment_method_types(&self) -> Vec<String> {
        let all = || KNOWN_TYPES.iter().map(|name| (*name).to_owned()).collect();
        self.allowed_types.clone().unwrap_or_else(all)
    }

    pub(crate) fn takes(&self, kind: Kind) -> bool {
        self.payment_method_types().iter().any(|name| name == kind.name())
    }
}

impl Books {
    pub(crate) fn create_session(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let session = self.read_session(&fields)?;
        let id = session.id.clone();
        self.agenda.note(session.expires_at, Due::SessionExpires(id.clone()));
        self.sessions.put(session)?;
        self.answer(&id)
    }

    pub(crate) fn retrieve_session(&mut self, call: &Call) -> Answer {
        let session = self.sessions.at(call.id())?;
        Ok(self.show_session(session))
    }

    pub(crate) fn update_session(&mut self, call: &Call) -> Answer {
        let mut session = self.sessions.at(call.id())?.clone();
        call.fields().update_metadata(&mut session.metadata)?;
        *self.sessions.at_mut(call.id())? = session;
        self.answer(call.id())
    }

    pub(crate) fn list_sessions(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let created = Created::read(&fields)?;
        let (customer, intent, subscription, status) = (
            fields.filled("customer"),
            fields.filled("payment_intent"),
            fields.filled("subscription"),
            fields.filled("status"),
        );
        let found = self
            .sessions
            .newest_first()
            .filter(|session| created.holds(session.created))
            .filter(|session| customer.is_none_or(|id| session.customer.as_deref() == Some(id)))
            .filter(|session| intent.is_none_or(|id| session.payment_intent.as_deref() == Some(id)))
            .filter(|session| subscription.is_none_or(|id| session.subscription.as_deref() == Some(id)))
            .filter(|session| status.is_none_or(|status| session.state.name() == status))
            .map(|session| (session.id.clone(), session));
        lists::page(&fields, "/v1/checkout/sessions", found, |session| self.show_session(session))
    }

    pub(crate) fn expire_session(&mut self, call: &Call) -> Answer {
        let session = self.sessions.at_mut(call.id())?;
        if session.state != State::Open {
            let message = format!(
                "Only Checkout Sessions with a status in [\"open\"] can be expired. This Checkout Session has a \
                 status of {}.",
                session.state.name()
            );
            return Err(Refusal::state(message));
        }
        session.state = State::Expired;
        self.emit("checkout.session.expired", call.id());
        self.answer(call.id())
    }

    pub(crate) fn expire_session_if_open(&mut self, id: &str, _time: i64) {
        if let Some(session) = self.sessions.get_mut(id).filter(|session| session.state == State::Open) {
            session.state = State::Expired;
            self.emit("checkout.session.expired", id);
        }
    }

    pub(crate) fn list_line_items(&mut self, call: &Call) -> Answer {
        let session = self.sessions.at(call.id())?;
        let worked = self.work_out_session(session);
        let lines = session.lines.iter().zip(&worked).map(|(line, worked)| (line.id.clone(), (line, worked)));
        let lines: Vec<_> = lines.collect();
        let url = format!("/v1/checkout/sessions/{}/line_items", session.id);
        lists::page(&call.fields(), &url, lines.into_iter(), |(line, worked)| {
            self.show_line_item(session, line, worked)
        })
    }
}
