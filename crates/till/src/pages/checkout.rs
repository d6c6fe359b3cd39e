//! The Checkout page: what is bought, and the ways it can be paid for.

use super::{Pages, money, time_text, to};
use crate::actions::Wishes;
use crate::amounts::Worked;
use crate::books::Books;
use crate::checkout::{Mode, Session, State as SessionState};
use crate::payment_methods::Kind;
use crate::refusal::Refusal;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn page(State(pages): State<Arc<Pages>>, Path(id): Path<String>) -> Response<Body> {
    show(&pages, &id, None)
}

pub(super) async fn paid(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response<Body> {
    let wishes = Wishes::of_form(&body);
    let outcome = wishes.purchase().and_then(|purchase| pages.desk.buy(&id, &purchase));
    match outcome {
        Ok(session) => {
            let target = session["success_url"].as_str().unwrap_or("/").replace("{CHECKOUT_SESSION_ID}", &id);
            to(&target)
        }
        Err(refusal) => show(&pages, &id, Some(&refusal)),
    }
}

fn show(pages: &Pages, id: &str, refusal: Option<&Refusal>) -> Response<Body> {
    let values =
        pages.desk.with(|books| books.sessions.at(id).map(|session| values(books, session, refusal)));
    match values {
        Ok(values) => {
            let status = refusal.map_or(StatusCode::OK, |refusal| {
                StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST)
            });
            pages.views.page(status, "checkout.html", &values)
        }
        Err(refusal) => pages.views.problem(&refusal, "/"),
    }
}

fn values(books: &Books, session: &Session, refusal: Option<&Refusal>) -> Value {
    let worked = books.work_out_session(session);
    let currency = session.currency.as_deref().unwrap_or("usd");
    let sum = |of: fn(&Worked) -> i64| worked.iter().map(of).sum::<i64>();
    let optional = |amount: i64| (amount != 0).then(|| money::text(amount, currency));
    let lines: Vec<Value> = session
        .lines
        .iter()
        .zip(&worked)
        .map(|(line, worked)| {
            let price = books.prices.get(&line.price);
            json!({
                "name": line.description,
                "quantity": line.quantity,
                "amount": money::text(worked.subtotal, currency),
                "every": price.and_then(|price| price.recurring).map(|recurring| match recurring.count {
                    1 => format!("every {}", recurring.interval),
                    count => format!("every {count} {}s", recurring.interval),
                }),
            })
        })
        .collect();
    let adjustable =
        session.lines.iter().find_map(|line| line.adjustable.map(|range| (line.quantity, range)));
    let custom = session
        .lines
        .iter()
        .find_map(|line| books.prices.get(&line.price)?.custom.map(|custom| (line.unit_amount, custom)));
    let known_email = session.customer_email.is_some() || session.customer.is_some();
    json!({
        "id": session.id,
        "open": session.state == SessionState::Open,
        "status": session.state.name(),
        "setup": session.mode == Mode::Setup,
        "subscription": session.mode == Mode::Subscription,
        "lines": lines,
        "discount": optional(-sum(Worked::discount)),
        "tax": optional(sum(|line| line.tax)),
        "total": money::text(sum(Worked::total), currency),
        "free": session.mode == Mode::Payment && sum(Worked::total) == 0,
        "adjustable": adjustable.map(|(quantity, (least, most))| json!({
            "quantity": quantity, "least": least.max(1), "most": most,
        })),
        "custom": custom.map(|(suggested, custom)| json!({
            "suggested": suggested, "least": custom.minimum.unwrap_or(1), "most": custom.maximum.unwrap_or(99_999_999),
            "currency": currency.to_uppercase(),
        })),
        "codes": session.allow_promotion_codes,
        "asks_email": !known_email,
        "debit": session.takes(Kind::SepaDebit),
        "cancel_url": session.cancel_url,
        "expires": time_text(&json!(session.expires_at)),
        "problem": refusal.map(|refusal| &refusal.message),
    })
}
