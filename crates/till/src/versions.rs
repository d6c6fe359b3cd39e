//! The shapes of objects before API version 2025-03-31: an invoice named its subscription and its payment at the top,
//! a subscription had a period of its own, a coupon stood in its discount.

use crate::books::Books;
use crate::catalogue::Price;
use serde_json::{Value, json};

/// The version whose shapes the till has.
pub const CURRENT_VERSION: &str = "2026-10-28.endive";
/// The last version of the old shapes.
pub const OLD_VERSION: &str = "2025-02-24.acacia";

const NEW_SHAPES_SINCE: &str = "2025-03-31";

/// `2026-10-28`, with or without a name behind it.
pub(crate) fn is_version(text: &str) -> bool {
    let date = text.split('.').next().unwrap_or_default();
    date.len() == 10 && kernel::Millis::parse_iso(&format!("{date}T00:00:00Z")).is_some()
}

impl Books {
    /// The value as that version shows it.
    pub(crate) fn in_version(&self, version: &str, mut value: Value) -> Value {
        if version < NEW_SHAPES_SINCE {
            self.to_old(&mut value);
        }
        value
    }

    fn to_old(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.to_old(item)),
            Value::Object(members) => {
                members.values_mut().for_each(|member| self.to_old(member));
                match value["object"].as_str() {
                    Some("invoice") => self.old_invoice(value),
                    Some("line_item") => self.old_line(value),
                    Some("subscription") => self.old_subscription(value),
                    Some("subscription_item") => {
                        take(value, "current_period_start");
                        take(value, "current_period_end");
                    }
                    Some("payment_intent") => self.old_intent(value),
                    Some("charge") => self.old_charge(value),
                    Some("discount") => self.old_coupon(value, "source"),
                    Some("promotion_code") => self.old_coupon(value, "promotion"),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn old_invoice(&self, value: &mut Value) {
        let parent = take(value, "parent");
        let details = &parent["subscription_details"];
        value["subscription"] = details["subscription"].clone();
        value["subscription_details"] = json!({ "metadata": details["metadata"] });
        let intent = value["id"].as_str().and_then(|id| self.invoices.get(id)?.payment_intent.clone());
        let charge = intent.as_ref().and_then(|id| self.payment_intents.get(id)?.latest_charge.clone());
        value["payment_intent"] = json!(intent);
        value["charge"] = json!(charge);
        value["paid"] = json!(value["status"] == "paid");
        value["paid_out_of_band"] = json!(false);
        let taxes = take(value, "total_taxes");
        let tax: i64 = taxes.as_array().into_iter().flatten().filter_map(|tax| tax["amount"].as_i64()).sum();
        value["tax"] = if value["automatic_tax"]["enabled"] == true { json!(tax) } else { Value::Null };
        value["discount"] = Value::Null;
        take(value, "payments");
        take(value, "amount_overpaid");
    }

    fn old_line(&self, value: &mut Value) {
        let parent = take(value, "parent");
        let details = match parent["type"].as_str() {
            Some("subscription_item_details") => &parent["subscription_item_details"],
            _ => &parent["invoice_item_details"],
        };
        value["proration"] = details["proration"].clone();
        value["proration_details"] = json!({ "credited_items": null });
        value["subscription"] = details["subscription"].clone();
        value["type"] = json!("invoiceitem");
        if let Some(item) = details["subscription_item"].as_str() {
            value["subscription_item"] = json!(item);
            if value["proration"] != true {
                value["type"] = json!("subscription");
            }
        }
        let pricing = take(value, "pricing");
        let price = pricing["price_details"]["price"].as_str().and_then(|id| self.prices.get(id));
        value["price"] = json!(price.map(Price::shown));
        value["plan"] = json!(price.filter(|price| price.recurring.is_some()).map(Price::as_plan));
        value["unit_amount_excluding_tax"] = pricing["unit_amount_decimal"].clone();
        value["amount_excluding_tax"] = value["amount"].clone();
        value["tax_amounts"] = json!([]);
        value["tax_rates"] = json!([]);
        for name in ["taxes", "subtotal", "quantity_decimal"] {
            take(value, name);
        }
    }

    fn old_subscription(&self, value: &mut Value) {
        // The items have been made old before, so the period comes from the books.
        let held = value["id"].as_str().and_then(|id| self.subscriptions.get(id));
        if let Some(subscription) = held {
            value["current_period_start"] = json!(subscription.period.0);
            value["current_period_end"] = json!(subscription.period.1);
        }
        let first = value["items"]["data"].get(0).cloned().unwrap_or_default();
        value["plan"] = first["plan"].clone();
        value["quantity"] = first["quantity"].clone();
        value["discount"] = Value::Null;
        for name in ["billing_mode", "billing_schedules", "customer_account", "managed_payments"] {
            take(value, name);
        }
    }

    fn old_intent(&self, value: &mut Value) {
        let invoice = value["id"].as_str().and_then(|id| self.payment_intents.get(id)?.invoice.clone());
        value["invoice"] = json!(invoice);
    }

    fn old_charge(&self, value: &mut Value) {
        let intent = value["payment_intent"].as_str().and_then(|id| self.payment_intents.get(id));
        value["invoice"] = json!(intent.and_then(|intent| intent.invoice.clone()));
    }

    fn old_coupon(&self, value: &mut Value, member: &str) {
        let source = take(value, member);
        let coupon = source["coupon"].as_str().and_then(|id| self.shown(id));
        value["coupon"] = coupon.unwrap_or_else(|| source["coupon"].clone());
    }
}

fn take(value: &mut Value, name: &str) -> Value {
    value.as_object_mut().and_then(|members| members.remove(name)).unwrap_or_default()
}
