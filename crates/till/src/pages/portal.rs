//! The customer portal: a payer's subscriptions and invoices.

use super::{Pages, money, time_text};
use crate::books::Books;
use crate::refusal::Refusal;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

const MOST_INVOICES: usize = 50;

pub(super) async fn page(State(pages): State<Arc<Pages>>, Path(id): Path<String>) -> Response<Body> {
    match pages.desk.with(|books| values(books, &id)) {
        Ok(values) => pages.views.page(StatusCode::OK, "portal.html", &values),
        Err(refusal) => pages.views.problem(&refusal, "/"),
    }
}

fn values(books: &Books, id: &str) -> Result<Value, Refusal> {
    let session = books.portal_sessions.at(id)?;
    let customer = books.customers.at(&session.customer)?;
    let subscriptions: Vec<Value> = books
        .subscriptions
        .newest_first()
        .filter(|subscription| subscription.customer == customer.id)
        .map(|subscription| {
            let names: Vec<String> = subscription
                .items
                .iter()
                .filter_map(|item| books.prices.get(&item.price))
                .map(|price| books.product_name(&price.product))
                .collect();
            json!({
                "id": subscription.id,
                "name": names.join(", "),
                "status": subscription.state.name(),
                "ended": subscription.has_ended(),
                "ends": subscription.cancel_at_period_end,
                "until": time_text(&json!(subscription.period.1)),
            })
        })
        .collect();
    let invoices: Vec<Value> = books
        .invoices
        .newest_first()
        .filter(|invoice| invoice.customer == customer.id && invoice.number.is_some())
        .take(MOST_INVOICES)
        .map(|invoice| {
            json!({
                "id": invoice.id,
                "number": invoice.number,
                "created": time_text(&json!(invoice.created)),
                "total": money::text(invoice.total(), &invoice.currency),
                "status": invoice.status.name(),
            })
        })
        .collect();
    Ok(json!({
        "back": format!("/portal/{id}"),
        "who": customer.email.as_ref().unwrap_or(&customer.id),
        "return_url": session.return_url,
        "subscriptions": subscriptions,
        "invoices": invoices,
    }))
}
