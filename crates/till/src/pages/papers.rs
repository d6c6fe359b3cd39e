//! Invoices and receipts: the pages that `hosted_invoice_url` and `receipt_url` lead to.

use super::{Pages, money, time_text};
use crate::refusal::Refusal;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn invoice(State(pages): State<Arc<Pages>>, Path(id): Path<String>) -> Response<Body> {
    let found = pages.desk.with(|books| {
        let invoice = books.invoices.at(&id)?;
        let amount = |amount: i64| money::text(amount, &invoice.currency);
        let mut rows: Vec<Value> = invoice
            .lines
            .iter()
            .map(|line| json!({ "name": line.description, "amount": amount(line.worked.subtotal) }))
            .collect();
        let discount: i64 = invoice.lines.iter().map(|line| line.worked.discount()).sum();
        let tax: i64 = invoice.lines.iter().map(|line| line.worked.tax).sum();
        let more = [("Discount", -discount), ("Tax", tax), ("Credit", invoice.starting_balance)];
        rows.extend(
            more.iter()
                .filter(|(_, sum)| *sum != 0)
                .map(|(name, sum)| json!({ "name": name, "amount": amount(*sum) })),
        );
        Ok::<_, Refusal>(json!({
            "title": format!("Invoice {}", invoice.number.as_deref().unwrap_or("(draft)")),
            "status": invoice.status.name(),
            "date": time_text(&json!(invoice.created)),
            "rows": rows,
            "total": amount(invoice.amount_due()),
        }))
    });
    paper(&pages, found)
}

pub(super) async fn receipt(State(pages): State<Arc<Pages>>, Path(id): Path<String>) -> Response<Body> {
    let found = pages.desk.with(|books| {
        let charge = books.charges.at(&id)?;
        let amount = |amount: i64| money::text(amount, &charge.currency);
        let mut rows = vec![json!({ "name": "Payment", "amount": amount(charge.amount) })];
        if charge.amount_refunded > 0 {
            rows.push(json!({ "name": "Refunded", "amount": amount(-charge.amount_refunded) }));
        }
        Ok::<_, Refusal>(json!({
            "title": format!("Receipt for {}", charge.id),
            "status": if charge.amount_refunded == charge.amount { "refunded" } else { "paid" },
            "date": time_text(&json!(charge.created)),
            "rows": rows,
            "total": amount(charge.amount - charge.amount_refunded),
        }))
    });
    paper(&pages, found)
}

fn paper(pages: &Pages, found: Result<Value, Refusal>) -> Response<Body> {
    match found {
        Ok(values) => pages.views.page(StatusCode::OK, "paper.html", &values),
        Err(refusal) => pages.views.problem(&refusal, "/"),
    }
}
