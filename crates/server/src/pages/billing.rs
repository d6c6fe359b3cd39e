//! `/billing`: what one has, what can be bought, and what became of a payment.

use super::door::{Answer, Visit};
use super::form;
use super::money;
use super::{Pages, problem, see_other, sign_in};
use crate::openapi::Field;
use axum::body::Body;
use axum::extract::{Request, State};
use billing::catalogue::{Catalogue, Pack, Plan};
use http::request::Parts;
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use url::Url;

pub const QUERY: &[Field] = &[
    Field::text("checkout").optional().note("The session that a checkout comes back with"),
    Field::text("look").optional().note("How often the page has looked for its end"),
];

/// A payment that is not confirmed yet is looked for so often by itself, and then when the person says so.
const LOOKS: u32 = 10;
const ENTRIES: u32 = 8;

#[derive(Serialize)]
struct View {
    app_name: String,
    email: String,
    balances: Vec<BalanceView>,
    sells: bool,
    is_test: bool,
    packs: Vec<PackView>,
    plans: Vec<PlanView>,
    subscription: Option<SubscriptionView>,
    entries: Vec<EntryView>,
    payment: Option<PaymentView>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct BalanceView {
    unit: String,
    available: i64,
    held: i64,
    owed: i64,
}

#[derive(Serialize)]
struct PackView {
    name: String,
    title: String,
    price: String,
    custom: Option<CustomView>,
}

#[derive(Serialize)]
struct CustomView {
    min: String,
    max: String,
    currency: String,
    decimal: bool,
}

#[derive(Serialize)]
struct PlanView {
    name: String,
    title: String,
    price: String,
    trial_days: u32,
}

#[derive(Serialize)]
struct SubscriptionView {
    plan: String,
    state: &'static str,
    until: Option<String>,
    ends: bool,
}

#[derive(Serialize)]
struct EntryView {
    day: String,
    what: String,
    amount: String,
    unit: String,
}

/// What became of the payment that the person comes back from.
#[derive(Serialize)]
struct PaymentView {
    /// `open`, `processing`, `paid`, `failed` or `expired`; `unknown` where there is no such checkout.
    state: String,
    credits: i64,
    unit: String,
    /// Where the page looks again.
    again: String,
    by_itself: bool,
}

#[derive(Serialize)]
struct Onward<'a> {
    app_name: &'a str,
    url: &'a str,
    host: &'a str,
}

pub async fn page(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let mut visit = Visit::of(&pages, &parts);
    let shown = show(&pages, &mut visit, &parts, None).await;
    visit.answer(shown)
}

pub async fn checkout(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, form) = match form::read(&pages, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let mut visit = Visit::of(&pages, &parts);
    let item = form.text("item");
    let mut wish = json!({ "price": item });
    let pack = pages.app.billing.as_ref().and_then(|desk| desk.tools().terms.catalogue.packs.get(item));
    if let (Some(pack), Some(written)) = (pack, form.some("amount")) {
        match money::parse(written, &pack.currency) {
            Some(amount) => wish["amount"] = amount.into(),
            None => {
                let amount = money::figure(pack.amount, &pack.currency);
                let told = format!("“{written}” is not an amount. Write it like this: {amount}");
                let shown = show(&pages, &mut visit, &parts, Some((told, StatusCode::BAD_REQUEST))).await;
                return visit.answer(shown);
            }
        }
    }
    let answer = visit.post("/billing/checkout", &wish).await;
    follow(&pages, visit, &parts, &answer).await
}

pub async fn portal(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, _) = match form::read(&pages, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let mut visit = Visit::of(&pages, &parts);
    let answer = visit.post("/billing/portal", &json!({})).await;
    follow(&pages, visit, &parts, &answer).await
}

/// To where the door says that is paid; else the page, which says why not.
async fn follow(pages: &Pages, mut visit: Visit<'_>, parts: &Parts, answer: &Answer) -> Response<Body> {
    let response = match answer.body["url"].as_str() {
        Some(url) => go_on(pages, url),
        None if answer.status == StatusCode::UNAUTHORIZED => sign_in::and_back("/billing"),
        None if answer.status == StatusCode::FORBIDDEN => problem::of(pages, answer),
        None => {
            let told = (problem::sentence(answer), answer.status);
            show(pages, &mut visit, parts, Some(told)).await
        }
    };
    visit.answer(response)
}

/// Browsers do not follow a form to an origin that the page's policy does not name, and a checkout may be at a domain of the
/// seller's own: then a page leads there, which is no form's doing.
fn go_on(pages: &Pages, url: &str) -> Response<Body> {
    let parsed = Url::parse(url).ok();
    let origin = parsed.as_ref().map(|url| url.origin().ascii_serialization());
    match &parsed {
        Some(_) if origin.is_some_and(|origin| pages.payment.contains(&origin)) => see_other(url),
        Some(parsed) if matches!(parsed.scheme(), "https" | "http") => {
            let (app_name, host) = (&pages.app.settings.app_name, parsed.host_str().unwrap_or_default());
            pages.views.page("go-on.html", &Onward { app_name, url: parsed.as_str(), host })
        }
        _ => {
            let message =
                "The payment service gave no address to go to. Nothing was charged; try again in a moment.";
            problem::page(pages, StatusCode::BAD_GATEWAY, message)
        }
    }
}

async fn show(
    pages: &Pages,
    visit: &mut Visit<'_>,
    parts: &Parts,
    problem: Option<(String, StatusCode)>,
) -> Response<Body> {
    match view(pages, visit, parts).await {
        Ok(mut view) => {
            let status = problem.as_ref().map_or(StatusCode::OK, |(_, status)| *status);
            view.problem = problem.map(|(told, _)| told);
            let mut response = pages.views.page("billing.html", &view);
            if response.status() == StatusCode::OK {
                *response.status_mut() = status;
            }
            response
        }
        Err(refused) => *refused,
    }
}

async fn view(pages: &Pages, visit: &mut Visit<'_>, parts: &Parts) -> Result<View, Box<Response<Body>>> {
    let session = visit.get("/get-session").await;
    if !session.is_good() {
        return Err(Box::new(problem::of(pages, &session)));
    }
    if session.body.is_null() {
        let here = parts.uri.path_and_query().map_or("/billing", |whole| whole.as_str());
        // A form is not repeated after the sign-in.
        let back = if parts.method == http::Method::GET { here } else { "/billing" };
        return Err(Box::new(sign_in::and_back(back)));
    }
    // First, because looking at it may be what brings the credits.
    let payment = payment(visit, parts).await;
    let none = Catalogue::default();
    let desk = pages.app.billing.as_ref();
    let catalogue = desk.map_or(&none, |desk| &desk.tools().terms.catalogue);
    let mut view = View {
        app_name: pages.app.settings.app_name.clone(),
        email: session.body["user"]["email"].as_str().unwrap_or_default().to_owned(),
        balances: Vec::new(),
        sells: desk.is_some(),
        is_test: desk.is_some_and(|desk| !desk.tools().terms.livemode),
        packs: by_price(&catalogue.packs, |pack| pack.amount, pack_view),
        plans: by_price(&catalogue.plans, |plan| plan.amount, plan_view),
        subscription: None,
        entries: Vec::new(),
        payment,
        problem: None,
    };
    for unit in units(pages, catalogue) {
        let answer = visit.get(&format!("/credits/balance?unit={unit}")).await;
        if !answer.is_good() {
            return Err(Box::new(problem::of(pages, &answer)));
        }
        let figure = |name: &str| answer.body[name].as_i64().unwrap_or_default();
        let (available, held, owed) = (figure("available"), figure("held"), figure("owed"));
        view.balances.push(BalanceView { unit, available, held, owed });
    }
    if desk.is_some() {
        let answer = visit.get("/billing/subscription").await;
        if !answer.is_good() {
            return Err(Box::new(problem::of(pages, &answer)));
        }
        view.subscription = subscription_view(&answer.body);
    }
    let answer = visit.get(&format!("/credits/entries?limit={ENTRIES}")).await;
    if !answer.is_good() {
        return Err(Box::new(problem::of(pages, &answer)));
    }
    view.entries = answer.body["items"].as_array().into_iter().flatten().map(entry_view).collect();
    Ok(view)
}

/// The usual one, and every other that is sold; their names are made for addresses.
fn units(pages: &Pages, catalogue: &Catalogue) -> Vec<String> {
    let usual = pages.app.ledger.settings().default_unit().to_owned();
    let packs = catalogue.packs.values().map(|pack| &pack.unit);
    let sold: BTreeSet<&String> = packs.chain(catalogue.plans.values().map(|plan| &plan.unit)).collect();
    let others = sold.into_iter().filter(|unit| **unit != usual).cloned().collect::<Vec<_>>();
    [vec![usual], others].concat()
}

async fn payment(visit: &mut Visit<'_>, parts: &Parts) -> Option<PaymentView> {
    let query = form::of_query(parts);
    let session = query.some("checkout")?;
    let looks = query.text("look").parse::<u32>().unwrap_or_default().min(LOOKS);
    let in_query = |looks: Option<u32>| {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.append_pair("checkout", session);
        if let Some(looks) = looks {
            text.append_pair("look", &looks.to_string());
        }
        text.finish()
    };
    let status = {
        let asked =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("session", session).finish();
        visit.get(&format!("/billing/checkout-status?{asked}")).await
    };
    let text = |name: &str| status.body[name].as_str().unwrap_or_default().to_owned();
    let state = match status.status {
        StatusCode::OK => text("status"),
        // The door says whose checkouts there are; what it cannot tell now is told later.
        StatusCode::NOT_FOUND => "unknown".to_owned(),
        _ => "open".to_owned(),
    };
    let by_itself = state == "open" && looks < LOOKS;
    let again = format!("/billing?{}", in_query(by_itself.then_some(looks + 1)));
    let credits = status.body["credits"].as_i64().unwrap_or_default();
    Some(PaymentView { state, credits, unit: text("unit"), again, by_itself })
}

/// The cheapest first; where the buyer names the amount, by the least.
fn by_price<T, V>(items: &BTreeMap<String, T>, amount: fn(&T) -> i64, view: fn(&str, &T) -> V) -> Vec<V> {
    let mut items: Vec<(&String, &T)> = items.iter().collect();
    items.sort_by_key(|(_, item)| amount(item));
    items.into_iter().map(|(name, item)| view(name, item)).collect()
}

fn pack_view(name: &str, pack: &Pack) -> PackView {
    let (title, price) = match pack.custom {
        None => (format!("{} {}", pack.credits, pack.unit), money::text(pack.amount, &pack.currency)),
        Some(custom) => (
            format!("{} {} for each {}", custom.credits_per_100, pack.unit, money::text(100, &pack.currency)),
            String::new(),
        ),
    };
    let custom = pack.custom.map(|custom| CustomView {
        min: money::figure(custom.min, &pack.currency),
        max: money::figure(custom.max, &pack.currency),
        currency: pack.currency.to_uppercase(),
        decimal: money::decimals(&pack.currency) > 0,
    });
    PackView { name: name.to_owned(), title, price, custom }
}

fn plan_view(name: &str, plan: &Plan) -> PlanView {
    let every = plan.interval.name();
    PlanView {
        name: name.to_owned(),
        title: format!("{} {} a {every}", plan.credits, plan.unit),
        price: format!("{} a {every}", money::text(plan.amount, &plan.currency)),
        trial_days: plan.trial_days,
    }
}

/// `None` for one that is over: another can be bought.
fn subscription_view(body: &Value) -> Option<SubscriptionView> {
    let state = match body["status"].as_str()? {
        "active" => "runs",
        "trialing" => "is being tried",
        "past_due" => "waits for its payment: look at your card",
        "unpaid" => "was not paid: look at your card",
        "incomplete" => "waits for its first payment",
        "paused" => "is paused",
        _ => return None,
    };
    let day = |text: &Value| text.as_str().and_then(|text| text.get(..10)).map(str::to_owned);
    Some(SubscriptionView {
        plan: body["plan"].as_str().unwrap_or("A plan that is not sold any more").to_owned(),
        state,
        until: day(&body["currentPeriodEnd"]),
        ends: body["cancelAtPeriodEnd"] == true,
    })
}

fn entry_view(entry: &Value) -> EntryView {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let amount = entry["amount"].as_i64().unwrap_or_default();
    let kind = match text("kind") {
        "grant" => "Received",
        "debit" | "capture" => "Spent",
        "refund" => "Given back",
        "expiry" => "Ended unused",
        "clawback" => "Taken back",
        "reinstate" => "Returned",
        "transfer" => "Moved",
        "rollover" => "Carried over",
        _ => "Corrected",
    };
    let what = match (text("reason"), text("feature")) {
        ("", "") => kind.to_owned(),
        ("", feature) => format!("{kind}: {feature}"),
        (reason, _) => format!("{kind}: {reason}"),
    };
    EntryView {
        day: text("createdAt").get(..10).unwrap_or_default().to_owned(),
        what,
        amount: if amount > 0 { format!("+{amount}") } else { amount.to_string() },
        unit: text("unit").to_owned(),
    }
}
