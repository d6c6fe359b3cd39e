//! Reading what is offered: the parameters of a new session, and what cannot go together.

use super::{
    DAY, HALF_HOUR, IntentData, KNOWN_TYPES, MOST_LINES, Mode, Session, SessionLine, State, SubscriptionData,
};
use crate::books::Books;
use crate::form::Fields;
use crate::refusal::Refusal;
use crate::subscriptions::automatic_tax_of;

impl Books {
    pub(super) fn read_session(&mut self, fields: &Fields<'_>) -> Result<Session, Refusal> {
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
