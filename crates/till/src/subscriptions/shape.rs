//! How subscriptions and their items are shown.

use super::{Item, Subscription};
use crate::books::Books;
use crate::catalogue::Price;
use crate::lists;
use serde_json::{Value, json};

impl Books {
    pub(crate) fn show_subscription(&self, subscription: &Subscription) -> Value {
        let items: Vec<Value> =
            subscription.items.iter().map(|item| self.show_item(subscription, item)).collect();
        let url = format!("/v1/subscription_items?subscription={}", subscription.id);
        let mut tax = self.show_automatic_tax(subscription.automatic_tax, true);
        if let Some(tax) = tax.as_object_mut() {
            tax.remove("provider");
            tax.remove("status");
        }
        json!({
            "id": subscription.id,
            "object": "subscription",
            "application": null,
            "application_fee_percent": null,
            "automatic_tax": tax,
            "billing_cycle_anchor": subscription.anchor,
            "billing_cycle_anchor_config": null,
            "billing_mode": { "flexible": null, "type": "classic" },
            "billing_schedules": [],
            "billing_thresholds": null,
            "cancel_at": if subscription.cancel_at_period_end { Some(subscription.period.1) } else { subscription.cancel_at },
            "cancel_at_period_end": subscription.cancel_at_period_end,
            "canceled_at": subscription.canceled_at,
            "cancellation_details": {
                "comment": subscription.why_canceled.comment,
                "feedback": subscription.why_canceled.feedback,
                "feedback_option": null,
                "reason": subscription.why_canceled.reason,
            },
            "collection_method": "charge_automatically",
            "created": subscription.created,
            "currency": subscription.currency,
            "customer": subscription.customer,
            "customer_account": null,
            "days_until_due": null,
            "default_payment_method": subscription.default_payment_method,
            "default_source": null,
            "default_tax_rates": [],
            "description": subscription.description,
            "discounts": subscription.discounts.iter().map(|discount| &discount.id).collect::<Vec<_>>(),
            "ended_at": subscription.ended_at,
            "invoice_settings": {
                "account_tax_ids": null, "custom_fields": null, "description": null, "footer": null,
                "issuer": { "type": "self" },
            },
            "items": lists::list(&url, items, false),
            "latest_invoice": subscription.latest_invoice,
            "livemode": false,
            "managed_payments": null,
            "metadata": subscription.metadata,
            "next_pending_invoice_item_invoice": null,
            "on_behalf_of": null,
            "pause_collection": null,
            "payment_settings": {
                "payment_method_options": null, "payment_method_types": null,
                "save_default_payment_method": "off",
            },
            "pending_invoice_item_interval": null,
            "pending_setup_intent": null,
            "pending_update": null,
            "schedule": null,
            "start_date": subscription.created,
            "status": subscription.state.name(),
            "test_clock": null,
            "transfer_data": null,
            "trial_end": subscription.trial.map(|trial| trial.1),
            "trial_settings": { "end_behavior": { "billing_cycle_anchor": null, "missing_payment_method": "create_invoice" } },
            "trial_start": subscription.trial.map(|trial| trial.0),
        })
    }

    pub(crate) fn show_item(&self, subscription: &Subscription, item: &Item) -> Value {
        let price = self.prices.get(&item.price);
        json!({
            "id": item.id,
            "object": "subscription_item",
            "billing_thresholds": null,
            "created": item.created,
            "current_period_end": subscription.period.1,
            "current_period_start": subscription.period.0,
            "current_trial": null,
            "discounts": [],
            "metadata": item.metadata,
            "plan": price.map(Price::as_plan),
            "price": price.map(Price::shown),
            "quantity": item.quantity,
            "subscription": subscription.id,
            "tax_rates": [],
        })
    }
}
