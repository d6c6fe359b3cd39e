//! The control page: everything that happened, and buttons for everything that may happen next.

use super::{Pages, as_json, money, refused, time_text};
use crate::Attempt;
use crate::books::Books;
use crate::charges::Status as ChargeStatus;
use crate::delivery::PostingState;
use crate::disputes::{Dispute, DisputeStep};
use crate::events::Event;
use crate::payment_intents::Status as IntentStatus;
use crate::refunds::Status as RefundStatus;
use crate::refusal::Refusal;
use crate::shelf::Kept;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

const SHOWN: usize = 20;
const EVENTS_SHOWN: usize = 40;

pub(super) async fn page(State(pages): State<Arc<Pages>>) -> Response<Body> {
    let values = pages.desk.with(|books| values(books));
    pages.views.page(StatusCode::OK, "control.html", &values)
}

pub(super) async fn state(State(pages): State<Arc<Pages>>) -> Response<Body> {
    let value = pages.desk.with(|books| {
        json!({
            "now": books.now.iso(),
            "webhook_url": books.post.endpoint().map(|endpoint| &endpoint.url),
            "holding": books.post.is_holding(),
            "losing": books.post.losing(),
            "held": books.held_events(),
            "quiet": !books.has_deliveries_now(),
        })
    });
    as_json(StatusCode::OK, &value)
}

pub(super) async fn attempts(State(pages): State<Arc<Pages>>, Path(id): Path<String>) -> Response<Body> {
    let found = pages.desk.with(|books| {
        let event = books.events.get(&id).ok_or_else(|| Refusal::not_found(Event::KIND, &id))?;
        let attempts: Vec<Value> = event.posting.attempts.iter().map(Attempt::shown).collect();
        Ok(json!({ "event": event.id, "state": event.posting.state.name(), "attempts": attempts }))
    });
    match found {
        Ok(value) => as_json(StatusCode::OK, &value),
        Err(refusal) => refused(&refusal),
    }
}

fn values(books: &Books) -> Value {
    let iso = books.now.iso();
    json!({
        "now": format!("{} {} UTC", &iso[..10], &iso[11..19]),
        "webhook_url": books.post.endpoint().map(|endpoint| &endpoint.url),
        "holding": books.post.is_holding(),
        "held": books.held_events().len(),
        "losing": books.post.losing(),
        "sessions": sessions(books),
        "payments": payments(books),
        "subscriptions": subscriptions(books),
        "events": events(books),
    })
}

fn sessions(books: &Books) -> Vec<Value> {
    books
        .sessions
        .newest_first()
        .filter(|session| session.state == crate::checkout::State::Open)
        .take(SHOWN)
        .map(|session| {
            let currency = session.currency.as_deref().unwrap_or("usd");
            let names: Vec<&str> = session.lines.iter().map(|line| line.description.as_str()).collect();
            json!({
                "id": session.id,
                "what": if names.is_empty() { "A card for later".to_owned() } else { names.join(", ") },
                "total": money::text(books.session_total(session), currency),
            })
        })
        .collect()
}

fn payments(books: &Books) -> Vec<Value> {
    books
        .charges
        .newest_first()
        .filter(|charge| charge.status != ChargeStatus::Failed)
        .take(SHOWN)
        .map(|charge| {
            let intent = books.payment_intents.get(&charge.payment_intent);
            let disputes: Vec<Value> = books
                .disputes
                .oldest_first()
                .filter(|known| known.charge == charge.id)
                .map(dispute)
                .collect();
            let refunds: Vec<Value> = books
                .refunds
                .oldest_first()
                .filter(|known| known.charge == charge.id)
                .map(|refund| {
                    json!({
                        "id": refund.id,
                        "amount": money::text(refund.amount, &charge.currency),
                        "status": refund.status.name(),
                        "pending": refund.status == RefundStatus::Pending,
                        "may_fail": matches!(refund.status, RefundStatus::Pending | RefundStatus::Succeeded),
                    })
                })
                .collect();
            let left = charge.amount - charge.amount_refunded;
            let paid = charge.status == ChargeStatus::Succeeded;
            json!({
                "id": charge.payment_intent,
                "amount": money::text(charge.amount, &charge.currency),
                "status": if paid { "paid" } else { "under way" },
                "created": time_text(&json!(charge.created)),
                "under_way": intent.is_some_and(|intent| intent.status == IntentStatus::Processing),
                "refundable": paid && left > 0 && !books.has_open_dispute(&charge.id),
                "left": left,
                "half": left / 2,
                "disputable": paid && left > 0 && disputes.iter().all(|dispute| dispute["ended"] == true),
                "refunds": refunds,
                "disputes": disputes,
            })
        })
        .collect()
}

fn dispute(dispute: &Dispute) -> Value {
    let steps: Vec<&str> = DisputeStep::ALL
        .iter()
        .filter(|(_, step)| step.from(dispute.status).is_some())
        .map(|(name, _)| *name)
        .collect();
    let ended =
        matches!(dispute.shown()["status"].as_str(), Some("won" | "lost" | "prevented" | "warning_closed"));
    json!({ "id": dispute.id, "status": dispute.status.name(), "steps": steps, "ended": ended })
}

fn subscriptions(books: &Books) -> Vec<Value> {
    books
        .subscriptions
        .newest_first()
        .take(SHOWN)
        .map(|subscription| {
            let names: Vec<String> = subscription
                .items
                .iter()
                .filter_map(|item| books.prices.get(&item.price))
                .map(|price| books.product_name(&price.product))
                .collect();
            let open = subscription
                .latest_invoice
                .as_ref()
                .and_then(|id| books.invoices.get(id))
                .filter(|invoice| invoice.status == crate::invoices::Status::Open);
            json!({
                "id": subscription.id,
                "name": names.join(", "),
                "status": subscription.state.name(),
                "until": time_text(&json!(subscription.period.1)),
                "ended": subscription.has_ended(),
                "ends": subscription.cancel_at_period_end,
                "open_invoice": open.map(|invoice| &invoice.id),
            })
        })
        .collect()
}

fn events(books: &Books) -> Vec<Value> {
    books
        .events
        .newest_first()
        .take(EVENTS_SHOWN)
        .map(|event| {
            let last = event.posting.attempts.last();
            json!({
                "id": event.id,
                "type": event.kind,
                "state": event.posting.state.name(),
                "tries": event.posting.attempts.len(),
                "answer": last.map(|attempt| match (&attempt.status, &attempt.problem) {
                    (Some(status), _) => status.to_string(),
                    (None, problem) => problem.clone().unwrap_or_default(),
                }),
                "deliverable": event.posting.state != PostingState::NoEndpoint || books.post.endpoint().is_some(),
            })
        })
        .collect()
}
