//! The calls that the till understands: for each its path, its parameters and the function that does it.

use crate::books::Books;
use crate::events::RequestMark;
use crate::form::{Fields, Form};
use crate::lists::{Created, PAGING};
use crate::refusal::Refusal;
use crate::{
    catalogue, changes, checkout, coupons, customers, payment_intents, portal, refunds, subscriptions,
    versions,
};
use serde_json::Value;

pub(crate) type Answer = Result<Value, Refusal>;

/// One call, understood as far as its path.
pub(crate) struct Call {
    /// What stood in place of the path's `{id}`.
    pub(crate) ids: Vec<String>,
    form: Form,
}

impl Call {
    pub(crate) fn id(&self) -> &str {
        self.ids.first().map_or("", String::as_str)
    }

    pub(crate) fn fields(&self) -> Fields<'_> {
        self.form.fields()
    }
}

/// A call as it arrived.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) form: Form,
    /// The version whose shapes the caller expects.
    pub(crate) version: Option<&'a str>,
    pub(crate) mark: RequestMark,
}

struct Endpoint {
    method: &'static str,
    path: &'static str,
    /// Groups of the parameters that it knows; see [`Form::refuse_unknown`] for the spelling.
    known: &'static [&'static [&'static str]],
    run: fn(&mut Books, &Call) -> Answer,
}

const fn get(
    path: &'static str,
    known: &'static [&'static [&'static str]],
    run: fn(&mut Books, &Call) -> Answer,
) -> Endpoint {
    Endpoint { method: "GET", path, known, run }
}

const fn post(
    path: &'static str,
    known: &'static [&'static [&'static str]],
    run: fn(&mut Books, &Call) -> Answer,
) -> Endpoint {
    Endpoint { method: "POST", path, known, run }
}

const fn delete(
    path: &'static str,
    known: &'static [&'static [&'static str]],
    run: fn(&mut Books, &Call) -> Answer,
) -> Endpoint {
    Endpoint { method: "DELETE", path, known, run }
}

const METADATA: &[&str] = &["metadata", "metadata.*"];

const ENDPOINTS: &[Endpoint] = &[
    get("/v1/account", &[], Books::retrieve_account),
    get("/v1/balance", &[], Books::retrieve_balance),
    get("/v1/webhook_endpoints", &[&PAGING], Books::list_webhook_endpoints),
    post("/v1/customers", &[customers::WRITE], Books::create_customer),
    get("/v1/customers", &[&PAGING, &Created::NAMES, &["email"]], Books::list_customers),
    get("/v1/customers/{id}", &[], Books::retrieve_customer),
    post("/v1/customers/{id}", &[customers::WRITE], Books::update_customer),
    delete("/v1/customers/{id}", &[], Books::delete_customer),
    get("/v1/customers/{id}/payment_methods", &[&PAGING, &["type"]], Books::list_payment_methods),
    get("/v1/payment_methods", &[&PAGING, &["customer", "type"]], Books::list_payment_methods),
    get("/v1/payment_methods/{id}", &[], Books::retrieve_payment_method),
    post("/v1/payment_methods/{id}/attach", &[&["customer"]], Books::attach_payment_method),
    post("/v1/payment_methods/{id}/detach", &[], Books::detach_payment_method),
    post("/v1/products", &[catalogue::PRODUCT], Books::create_product),
    get("/v1/products", &[&PAGING, &Created::NAMES, &["active", "ids[]"]], Books::list_products),
    get("/v1/products/{id}", &[], Books::retrieve_product),
    post(
        "/v1/products/{id}",
        &[METADATA, &["active", "description", "name", "tax_code"]],
        Books::update_product,
    ),
    post("/v1/prices", &[catalogue::PRICE], Books::create_price),
    get(
        "/v1/prices",
        &[&PAGING, &Created::NAMES, &["active", "currency", "lookup_keys[]", "product", "type"]],
        Books::list_prices,
    ),
    get("/v1/prices/{id}", &[], Books::retrieve_price),
    post(
        "/v1/prices/{id}",
        &[METADATA, &["active", "lookup_key", "nickname", "tax_behavior"]],
        Books::update_price,
    ),
    post("/v1/coupons", &[coupons::COUPON], Books::create_coupon),
    get("/v1/coupons/{id}", &[], Books::retrieve_coupon),
    post("/v1/promotion_codes", &[coupons::PROMOTION_CODE], Books::create_promotion_code),
    get("/v1/promotion_codes", &[&PAGING, &["active", "code"]], Books::list_promotion_codes),
    get("/v1/promotion_codes/{id}", &[], Books::retrieve_promotion_code),
    post("/v1/checkout/sessions", &[checkout::CREATE], Books::create_session),
    get(
        "/v1/checkout/sessions",
        &[&PAGING, &Created::NAMES, &["customer", "payment_intent", "status", "subscription"]],
        Books::list_sessions,
    ),
    get("/v1/checkout/sessions/{id}", &[], Books::retrieve_session),
    post("/v1/checkout/sessions/{id}", &[METADATA], Books::update_session),
    post("/v1/checkout/sessions/{id}/expire", &[], Books::expire_session),
    get("/v1/checkout/sessions/{id}/line_items", &[&PAGING], Books::list_line_items),
    post("/v1/billing_portal/sessions", &[portal::CREATE], Books::create_portal_session),
    post("/v1/subscriptions", &[subscriptions::CREATE], Books::create_subscription),
    get(
        "/v1/subscriptions",
        &[&PAGING, &Created::NAMES, &["customer", "price", "status"]],
        Books::list_subscriptions,
    ),
    get("/v1/subscriptions/{id}", &[], Books::retrieve_subscription),
    post("/v1/subscriptions/{id}", &[changes::UPDATE], Books::update_subscription),
    delete(
        "/v1/subscriptions/{id}",
        &[&["cancellation_details.comment", "cancellation_details.feedback", "invoice_now", "prorate"]],
        Books::cancel_subscription,
    ),
    get("/v1/subscription_items", &[&PAGING, &["subscription"]], Books::list_subscription_items),
    get("/v1/subscription_items/{id}", &[], Books::retrieve_subscription_item),
    post("/v1/subscription_items/{id}", &[changes::UPDATE_ITEM], Books::update_subscription_item),
    get(
        "/v1/invoices",
        &[&PAGING, &Created::NAMES, &["customer", "status", "subscription"]],
        Books::list_invoices,
    ),
    post("/v1/invoices/create_preview", &[changes::PREVIEW], Books::preview_invoice),
    get("/v1/invoices/{id}", &[], Books::retrieve_invoice),
    get("/v1/invoices/{id}/lines", &[&PAGING], Books::list_invoice_lines),
    post("/v1/invoices/{id}/finalize", &[], Books::finalize_invoice),
    post("/v1/invoices/{id}/pay", &[&["off_session", "payment_method"]], Books::pay_invoice_call),
    post("/v1/invoices/{id}/void", &[], Books::void_invoice),
    post("/v1/invoices/{id}/mark_uncollectible", &[], Books::write_off_invoice),
    get(
        "/v1/invoice_payments",
        &[&PAGING, &["invoice", "payment.payment_intent", "payment.type", "status"]],
        Books::list_invoice_payments,
    ),
    get("/v1/invoice_payments/{id}", &[], Books::retrieve_invoice_payment),
    post("/v1/payment_intents", &[payment_intents::CREATE], Books::create_payment_intent),
    get("/v1/payment_intents", &[&PAGING, &Created::NAMES, &["customer"]], Books::list_payment_intents),
    get("/v1/payment_intents/{id}", &[], Books::retrieve_payment_intent),
    post("/v1/payment_intents/{id}", &[METADATA, &["description"]], Books::update_payment_intent),
    post(
        "/v1/payment_intents/{id}/confirm",
        &[&["off_session", "payment_method", "return_url"]],
        Books::confirm_payment_intent,
    ),
    post("/v1/payment_intents/{id}/cancel", &[&["cancellation_reason"]], Books::cancel_payment_intent),
    get("/v1/setup_intents/{id}", &[], Books::retrieve_setup_intent),
    get("/v1/charges", &[&PAGING, &Created::NAMES, &["customer", "payment_intent"]], Books::list_charges),
    get("/v1/charges/{id}", &[], Books::retrieve_charge),
    post("/v1/refunds", &[refunds::CREATE], Books::create_refund),
    get("/v1/refunds", &[&PAGING, &Created::NAMES, &["charge", "payment_intent"]], Books::list_refunds),
    get("/v1/refunds/{id}", &[], Books::retrieve_refund),
    post("/v1/refunds/{id}", &[METADATA], Books::update_refund),
    post("/v1/refunds/{id}/cancel", &[], Books::cancel_refund),
    get("/v1/disputes", &[&PAGING, &Created::NAMES, &["charge", "payment_intent"]], Books::list_disputes),
    get("/v1/disputes/{id}", &[], Books::retrieve_dispute),
    get(
        "/v1/events",
        &[&PAGING, &Created::NAMES, &["delivery_success", "type", "types[]"]],
        Books::list_events,
    ),
    get("/v1/events/{id}", &[], Books::retrieve_event),
];

impl Books {
    /// Does a call, after time has passed until now.
    pub(crate) fn do_call(&mut self, asked: Asked<'_>) -> Answer {
        let (endpoint, ids) =
            find(asked.method, asked.path).ok_or_else(|| Refusal::no_such_path(asked.method, asked.path))?;
        let known: Vec<&str> = endpoint.known.iter().flat_map(|group| group.iter().copied()).collect();
        asked.form.refuse_unknown(&known)?;
        let version = asked.version.unwrap_or(versions::CURRENT_VERSION);
        if !versions::is_version(version) {
            let message = format!("Invalid Stripe API version: {version}");
            return Err(Refusal::invalid("Stripe-Version", message));
        }
        let call = Call { ids, form: asked.form };
        self.request = Some(asked.mark);
        let answer = (endpoint.run)(self, &call);
        self.request = None;
        let mut value = answer?;
        self.expand(&mut value, &call.fields())?;
        Ok(self.in_version(version, value))
    }

    /// The object that a call made or changed.
    pub(crate) fn answer(&self, id: &str) -> Answer {
        self.shown(id).ok_or_else(|| Refusal::not_found("object", id))
    }
}

fn find(method: &str, path: &str) -> Option<(&'static Endpoint, Vec<String>)> {
    let asked: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    ENDPOINTS
        .iter()
        .filter(|endpoint| endpoint.method == method)
        .find_map(|endpoint| ids_in(endpoint.path, &asked).map(|ids| (endpoint, ids)))
}

fn ids_in(pattern: &str, asked: &[&str]) -> Option<Vec<String>> {
    let parts: Vec<&str> = pattern.split('/').collect();
    if parts.len() != asked.len() {
        return None;
    }
    let mut ids = Vec::new();
    for (part, given) in parts.iter().zip(asked) {
        if *part == "{id}" && !given.is_empty() {
            ids.push((*given).to_owned());
        } else if part != given {
            return None;
        }
    }
    Some(ids)
}

/// Every call with its parameters, to be compared with the official SDK's types.
pub(crate) fn known_calls() -> Value {
    ENDPOINTS
        .iter()
        .map(|endpoint| {
            let parameters: Vec<&str> =
                endpoint.known.iter().flat_map(|group| group.iter().copied()).collect();
            serde_json::json!({ "method": endpoint.method, "path": endpoint.path, "parameters": parameters })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_with_their_ids() {
        let found = |method, path| find(method, path).map(|(endpoint, ids)| (endpoint.path, ids));
        assert_eq!(found("GET", "/v1/charges/ch_1"), Some(("/v1/charges/{id}", vec!["ch_1".to_owned()])));
        assert_eq!(
            found("POST", "/v1/invoices/create_preview"),
            Some(("/v1/invoices/create_preview", vec![]))
        );
        assert_eq!(found("PUT", "/v1/charges/ch_1"), None);
        assert_eq!(found("GET", "/v1/charges/ch_1/x"), None);
        assert_eq!(found("GET", "/v1"), None);
    }
}
