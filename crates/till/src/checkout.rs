//! Checkout sessions: what is offered to a buyer, until it is bought, left alone or withdrawn.

use crate::agenda::Due;
use crate::amounts::Worked;
use crate::api::{Answer, Call};
use crate::books::Books;
use crate::coupons::Discount;
use crate::form::{Fields, Metadata};
use crate::lists::{self, Created};
use crate::payment_methods::Kind;
use crate::refusal::Refusal;
use crate::shelf::Kept;
use crate::subscriptions::automatic_tax_of;
use serde_json::{Value, json};

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
    pub(crate) fn work_out_session(&self, session: &Session) -> Vec<Worked> {
        let amounts: Vec<(i64, bool)> =
            session.lines.iter().map(|line| (self.due_now(session, line), true)).collect();
        let currency = session.currency.as_deref().unwrap_or("usd");
        self.work_out(&amounts, &session.discounts, currency, session.automatic_tax)
    }

    /// Nothing is due at once for what is tried first.
    fn due_now(&self, session: &Session, line: &SessionLine) -> i64 {
        let recurring = self.prices.get(&line.price).is_some_and(|price| price.recurring.is_some());
        let trial =
            session.subscription_data.trial_days.is_some() || session.subscription_data.trial_end.is_some();
        if recurring && trial { 0 } else { line.unit_amount * line.quantity }
    }

    pub(crate) fn session_total(&self, session: &Session) -> i64 {
        self.work_out_session(session).iter().map(Worked::total).sum()
    }

    pub(crate) fn show_session(&self, session: &Session) -> Value {
        let worked = self.work_out_session(session);
        let sum = |of: fn(&Worked) -> i64| worked.iter().map(of).sum::<i64>();
        let priced = session.mode != Mode::Setup;
        let url = format!("{}/pay/{}", self.terms.base_url, session.id);
        let email = session
            .buyer_email
            .as_ref()
            .or(session.customer_email.as_ref())
            .or_else(|| self.customers.get(session.customer.as_ref()?)?.email.as_ref());
        let mut tax = self.show_automatic_tax(session.automatic_tax, false);
        if session.automatic_tax && session.state == State::Open {
            tax["status"] = json!("requires_location_inputs");
        }
        json!({
            "id": session.id,
            "object": "checkout.session",
            "adaptive_pricing": null,
            "after_expiration": null,
            "allow_promotion_codes": session.allow_promotion_codes.then_some(true),
            "allowed_payment_method_types": session.allowed_types,
            "amount_subtotal": priced.then(|| sum(|line| line.subtotal)),
            "amount_total": priced.then(|| sum(Worked::total)),
            "automatic_tax": tax,
            "billing_address_collection": null,
            "cancel_url": session.cancel_url,
            "client_reference_id": session.client_reference_id,
            "client_secret": null,
            "collected_information": null,
            "consent": null,
            "consent_collection": null,
            "created": session.created,
            "currency": session.currency,
            "currency_conversion": null,
            "custom_fields": [],
            "custom_text": {
                "after_submit": null, "shipping_address": null, "submit": null, "terms_of_service_acceptance": null,
            },
            "customer": session.customer,
            "customer_account": null,
            "customer_creation": match (session.mode, session.customer_creation) {
                (Mode::Payment, true) => Some("always"),
                (Mode::Payment, false) => Some("if_required"),
                _ => None,
            },
            "customer_details": email.map(|email| json!({
                "address": null, "business_name": null, "email": email, "individual_name": null, "name": null,
                "phone": null, "tax_exempt": "none", "tax_ids": [],
            })),
            "customer_email": session.customer_email,
            "discounts": session.discounts.iter().map(|discount| json!({
                "coupon": if discount.promotion_code.is_some() { None } else { Some(&discount.coupon) },
                "promotion_code": discount.promotion_code,
            })).collect::<Vec<_>>(),
            "expires_at": session.expires_at,
            "integration_identifier": null,
            "invoice": session.invoice,
            "invoice_creation": (session.mode == Mode::Payment).then(|| json!({
                "enabled": session.invoice_creation.is_some(),
                "invoice_data": {
                    "account_tax_ids": null, "custom_fields": null, "description": null, "footer": null,
                    "issuer": null, "metadata": session.invoice_creation.clone().unwrap_or_default(),
                    "rendering_options": null,
                },
            })),
            "livemode": false,
            "locale": session.locale,
            "managed_payments": null,
            "metadata": session.metadata,
            "mode": session.mode.name(),
            "origin_context": null,
            "payment_intent": session.payment_intent,
            "payment_link": null,
            "payment_method_collection": (session.mode == Mode::Subscription)
                .then_some(if session.card_always { "always" } else { "if_required" }),
            "payment_method_configuration_details": null,
            "payment_method_options": {},
            "payment_method_types": session.payment_method_types(),
            "payment_status": session.payment_status,
            "permissions": null,
            "phone_number_collection": { "enabled": false },
            "recovered_from": null,
            "saved_payment_method_options": null,
            "setup_intent": session.setup_intent,
            "shipping_address_collection": null,
            "shipping_cost": null,
            "shipping_options": [],
            "status": session.state.name(),
            "submit_type": session.submit_type,
            "subscription": session.subscription,
            "success_url": session.success_url,
            "total_details": priced.then(|| json!({
                "amount_discount": sum(Worked::discount), "amount_shipping": 0, "amount_tax": sum(|line| line.tax),
            })),
            "ui_mode": "hosted_page",
            "url": (session.state == State::Open).then_some(url),
            "wallet_options": null,
        })
    }

    fn show_line_item(&self, session: &Session, line: &SessionLine, worked: &Worked) -> Value {
        json!({
            "id": line.id,
            "object": "item",
            "adjustable_quantity": line.adjustable.map(|(least, most)| json!({
                "enabled": true, "maximum": most, "minimum": least,
            })),
            "amount_discount": worked.discount(),
            "amount_subtotal": worked.subtotal,
            "amount_tax": worked.tax,
            "amount_total": worked.total(),
            "currency": session.currency,
            "description": line.description,
            "metadata": line.metadata,
            "price": self.shown(&line.price),
            "quantity": line.quantity,
        })
    }

    pub(crate) fn create_session(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let session = self.read_session(&fields)?;
        let id = session.id.clone();
        self.agenda.note(session.expires_at, Due::SessionExpires(id.clone()));
        self.sessions.put(session)?;
        self.answer(&id)
    }

    fn read_session(&mut self, fields: &Fields<'_>) -> Result<Session, Refusal> {
        let mode = match fields.one_of("mode", &["payment", "subscription", "setup"])? {
            Some("payment") => Mode::Payment,
            Some("subscription") => Mode::Subscription,
            Some(_) => Mode::Setup,
            None => return Err(Refusal::missing("mode")),
        };
        if !matches!(fields.text("ui_mode"), None | Some("hosted_page")) {
            let message = "The till has Checkout as a page of its own only: ui_mode=hosted_page.";
            return Err(Refusal::invalid("ui_mode", message));
        }
        let success_url = url_of(fields, "success_url")?.ok_or_else(|| Refusal::missing("success_url"))?;
        let cancel_url = url_of(fields, "cancel_url")?;
        let customer = match (fields.filled("customer"), fields.filled("customer_email")) {
            (Some(_), Some(_)) => {
                let message = "You may only specify one of these parameters: customer, customer_email.";
                return Err(Refusal::invalid("customer", message));
            }
            (Some(id), None) => Some(self.customer_named(id, "customer")?.id.clone()),
            _ => None,
        };
        let creation = fields.one_of("customer_creation", &["always", "if_required"])?;
        if creation.is_some() && (mode != Mode::Payment || customer.is_some()) {
            let message = "`customer_creation` can only be used in `payment` mode and without `customer`.";
            return Err(Refusal::invalid("customer_creation", message));
        }
        let now = self.seconds();
        let expires_at = fields.integer("expires_at")?.unwrap_or(now + DAY);
        if !(now + HALF_HOUR..=now + DAY).contains(&expires_at) {
            let message = "The `expires_at` timestamp must be between 30 minutes and 24 hours from now.";
            return Err(Refusal::invalid("expires_at", message));
        }
        let discounts = self.discounts_of(fields)?;
        let allow_promotion_codes = fields.boolean("allow_promotion_codes")?.unwrap_or(false);
        if allow_promotion_codes && !discounts.is_empty() {
            let message = "You may only specify one of these parameters: allow_promotion_codes, discounts.";
            return Err(Refusal::invalid("allow_promotion_codes", message));
        }
        let lines = self.read_lines(fields, mode)?;
        let currency = self.currency_of_lines(&lines)?.or(fields.filled("currency").map(str::to_owned));
        let types: Vec<String> =
            fields.texts("allowed_payment_method_types").into_iter().map(str::to_owned).collect();
        if let Some(unknown) = types.iter().find(|name| !KNOWN_TYPES.contains(&name.as_str())) {
            let message =
                format!("The till knows the payment methods {}, not {unknown}.", KNOWN_TYPES.join(", "));
            return Err(Refusal::invalid("allowed_payment_method_types", message));
        }
        let id = self.ids.long("cs_test");
        Ok(Session {
            id,
            created: now,
            mode,
            state: State::Open,
            payment_status: if mode == Mode::Setup { "no_payment_required" } else { "unpaid" },
            lines,
            currency,
            customer,
            customer_creation: creation == Some("always"),
            customer_email: fields.filled("customer_email").map(str::to_owned),
            buyer_email: None,
            client_reference_id: fields.filled("client_reference_id").map(str::to_owned),
            success_url,
            cancel_url,
            allow_promotion_codes,
            discounts,
            automatic_tax: automatic_tax_of(fields)?,
            expires_at,
            metadata: fields.metadata()?,
            intent_data: only_in(fields, "payment_intent_data", mode == Mode::Payment, read_intent_data)?,
            subscription_data: only_in(fields, "subscription_data", mode == Mode::Subscription, |data| {
                self.read_subscription_data(data)
            })?,
            setup_metadata: only_in(fields, "setup_intent_data", mode == Mode::Setup, |data| {
                data.metadata()
            })?,
            invoice_creation: only_in(fields, "invoice_creation", mode == Mode::Payment, |data| {
                let metadata = data.object("invoice_data").map(|data| data.metadata()).transpose()?;
                Ok(data.boolean("enabled")?.unwrap_or(false).then(|| metadata.unwrap_or_default()))
            })?,
            allowed_types: (!types.is_empty()).then_some(types),
            card_always: fields.one_of("payment_method_collection", &["always", "if_required"])?
                != Some("if_required"),
            payment_intent: None,
            setup_intent: None,
            subscription: None,
            invoice: None,
            locale: fields.filled("locale").map(str::to_owned),
            submit_type: fields
                .one_of("submit_type", &["auto", "pay", "book", "donate", "subscribe"])?
                .and_then(|word| {
                    ["auto", "pay", "book", "donate", "subscribe"].into_iter().find(|known| *known == word)
                }),
        })
    }

    fn read_subscription_data(&self, data: &Fields<'_>) -> Result<SubscriptionData, Refusal> {
        let trial_end = self.trial_end_of(data)?;
        let trial_days = data.integer("trial_period_days")?;
        Ok(SubscriptionData {
            description: data.filled("description").map(str::to_owned),
            // Days count from when the subscription begins, a moment from the clock.
            trial_end: trial_end.filter(|_| trial_days.is_none()),
            trial_days,
            metadata: data.metadata()?,
        })
    }

    fn read_lines(&mut self, fields: &Fields<'_>, mode: Mode) -> Result<Vec<SessionLine>, Refusal> {
        let items = fields.list("line_items");
        match (mode, items.len()) {
            (Mode::Setup, 0) => return Ok(Vec::new()),
            (Mode::Setup, _) => {
                return Err(Refusal::invalid("line_items", "You can not pass `line_items` in `setup` mode."));
            }
            (_, 0) => return Err(Refusal::missing("line_items")),
            (_, count) if count > MOST_LINES => {
                return Err(Refusal::invalid("line_items", "A session has at most 100 line items."));
            }
            _ => {}
        }
        let mut lines = Vec::new();
        for item in &items {
            let line = self.read_line(item, mode)?;
            lines.push(line);
        }
        let has_recurring = lines
            .iter()
            .any(|line| self.prices.get(&line.price).is_some_and(|price| price.recurring.is_some()));
        match mode {
            Mode::Subscription if !has_recurring => {
                let message =
                    "You must provide at least one recurring price in `subscription` mode when using prices.";
                return Err(Refusal::invalid("line_items", message));
            }
            Mode::Payment if has_recurring => {
                let message = "You specified `payment` mode but passed a recurring price. Either switch to \
                               `subscription` mode or use only one-time prices.";
                return Err(Refusal::invalid("line_items", message));
            }
            _ => {}
        }
        let names_amount =
            |line: &SessionLine| self.prices.get(&line.price).is_some_and(|price| price.custom.is_some());
        if lines.iter().any(names_amount) && (lines.len() > 1 || lines[0].quantity != 1) {
            let message =
                "A price whose amount the buyer names must be the only line item, with a quantity of 1.";
            return Err(Refusal::invalid("line_items", message));
        }
        Ok(lines)
    }

    fn read_line(&mut self, item: &Fields<'_>, mode: Mode) -> Result<SessionLine, Refusal> {
        let price = match (item.filled("price"), item.object("price_data")) {
            (Some(id), None) => {
                let price = self.prices.named(id, &item.name("price"))?;
                if !price.active {
                    let message = "The price specified is inactive. This field only accepts active prices.";
                    return Err(Refusal::invalid(item.name("price"), message).code("price_inactive"));
                }
                price.id.clone()
            }
            (None, Some(data)) => self.inline_price(&data)?,
            (Some(_), Some(_)) => {
                let message = "You may only specify one of these parameters: price, price_data.";
                return Err(Refusal::invalid(item.name("price"), message));
            }
            (None, None) => return Err(Refusal::missing(item.name("price"))),
        };
        let adjustable = match item.object("adjustable_quantity") {
            Some(given) if given.boolean("enabled")? == Some(true) => {
                let least = given.integer_from("minimum", 0)?.unwrap_or(0);
                Some((least, given.integer_from("maximum", 1)?.unwrap_or(99)))
            }
            _ => None,
        };
        let quantity = item.integer_from("quantity", 1)?;
        let Some(quantity) = quantity.or((mode == Mode::Subscription).then_some(1)) else {
            return Err(Refusal::missing(item.name("quantity")));
        };
        let object = self.prices.named(&price, &item.name("price"))?;
        Ok(SessionLine {
            description: self.product_name(&object.product),
            unit_amount: object.amount(),
            quantity,
            adjustable,
            metadata: item.metadata()?,
            id: self.ids.next("li"),
            price,
        })
    }

    fn currency_of_lines(&self, lines: &[SessionLine]) -> Result<Option<String>, Refusal> {
        let mut currencies =
            lines.iter().filter_map(|line| self.prices.get(&line.price)).map(|price| &price.currency);
        let Some(first) = currencies.next() else { return Ok(None) };
        if currencies.any(|other| other != first) {
            let message = "All prices on a Checkout Session must be in the same currency.";
            return Err(Refusal::invalid("line_items", message));
        }
        Ok(Some(first.clone()))
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

    /// `line_items`, which a session shows only when it is asked for.
    pub(crate) fn line_items_within(&self, session: &Session) -> Value {
        let worked = self.work_out_session(session);
        let shown = session
            .lines
            .iter()
            .zip(&worked)
            .take(10)
            .map(|(line, worked)| self.show_line_item(session, line, worked))
            .collect();
        let url = format!("/v1/checkout/sessions/{}/line_items", session.id);
        lists::list(&url, shown, session.lines.len() > 10)
    }
}

/// The members of one mode must not be sent in another.
fn only_in<T: Default>(
    fields: &Fields<'_>,
    name: &str,
    belongs: bool,
    read: impl FnOnce(&Fields<'_>) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    match fields.object(name) {
        None => Ok(T::default()),
        Some(data) if belongs => read(&data),
        Some(_) => Err(Refusal::invalid(
            name,
            format!("You can not pass `{name}` in this mode of a Checkout Session."),
        )),
    }
}

fn read_intent_data(data: &Fields<'_>) -> Result<IntentData, Refusal> {
    Ok(IntentData {
        description: data.filled("description").map(str::to_owned),
        receipt_email: data.filled("receipt_email").map(str::to_owned),
        setup_future_usage: match data.one_of("setup_future_usage", &["off_session", "on_session"])? {
            Some("off_session") => Some("off_session"),
            Some(_) => Some("on_session"),
            None => None,
        },
        metadata: data.metadata()?,
    })
}

fn url_of(fields: &Fields<'_>, name: &str) -> Result<Option<String>, Refusal> {
    let Some(text) = fields.filled(name) else { return Ok(None) };
    // The braces of the placeholder are not a URL's.
    let plain = text.replace("{CHECKOUT_SESSION_ID}", "id");
    let is_web = url::Url::parse(&plain).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_web && text.len() <= 5_000 {
        return Ok(Some(text.to_owned()));
    }
    let message = "Not a valid URL. URLs must include an explicit scheme such as https.";
    Err(Refusal::invalid(fields.name(name), message).code("url_invalid"))
}
