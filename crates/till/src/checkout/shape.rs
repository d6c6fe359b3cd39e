//! What a session comes to, and how it is shown.

use super::{Mode, Session, SessionLine, State};
use crate::amounts::Worked;
use crate::books::Books;
use crate::lists;
use serde_json::{Value, json};

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

    pub(super) fn show_line_item(&self, session: &Session, line: &SessionLine, worked: &Worked) -> Value {
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
