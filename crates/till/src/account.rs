//! The account itself, its balance and the endpoint it sends events to: what a set-up is checked against.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::charges::Status;
use crate::lists;
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl Books {
    pub(crate) fn retrieve_account(&mut self, _call: &Call) -> Answer {
        Ok(json!({
            "id": self.terms.account,
            "object": "account",
            "business_profile": null,
            "business_type": null,
            "capabilities": { "card_payments": "active", "sepa_debit_payments": "active", "transfers": "active" },
            "charges_enabled": true,
            "controller": { "type": "account" },
            "country": "US",
            "created": 0,
            "default_currency": "usd",
            "details_submitted": true,
            "email": "till@example.test",
            "metadata": {},
            "payouts_enabled": true,
            "settings": null,
            "type": "standard",
        }))
    }

    /// What was taken less what went back, by currency; the till has no fees but those of disputes, which it leaves out.
    pub(crate) fn retrieve_balance(&mut self, _call: &Call) -> Answer {
        let mut sums: BTreeMap<&str, i64> = BTreeMap::from([("usd", 0)]);
        for charge in self.charges.oldest_first().filter(|charge| charge.status == Status::Succeeded) {
            *sums.entry(&charge.currency).or_default() += charge.amount - charge.amount_refunded;
        }
        for dispute in self.disputes.oldest_first().filter(|dispute| dispute.withdrawn) {
            if let Some(charge) = self.charges.get(&dispute.charge) {
                *sums.entry(&charge.currency).or_default() -= dispute.amount;
            }
        }
        let available: Vec<Value> = sums
            .into_iter()
            .map(|(currency, amount)| json!({ "amount": amount, "currency": currency, "source_types": { "card": amount } }))
            .collect();
        Ok(json!({ "object": "balance", "available": available, "livemode": false, "pending": [] }))
    }

    pub(crate) fn list_webhook_endpoints(&mut self, call: &Call) -> Answer {
        let endpoint = self.post.endpoint().map(|endpoint| {
            json!({
                "id": "we_till",
                "object": "webhook_endpoint",
                "api_version": self.terms.event_version,
                "application": null,
                "created": 0,
                "description": null,
                "enabled_events": ["*"],
                "livemode": false,
                "metadata": {},
                "status": "enabled",
                "url": endpoint.url,
            })
        });
        let endpoints = endpoint.into_iter().map(|endpoint| ("we_till".to_owned(), endpoint));
        lists::page(&call.fields(), "/v1/webhook_endpoints", endpoints, |endpoint| endpoint)
    }
}
