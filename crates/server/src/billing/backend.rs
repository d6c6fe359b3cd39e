//! What an app's backend asks about its users' purchases, with a service key.

use super::shapes::{self, Case};
use super::{AFTER_CANCEL, BASE, after_success, return_url};
use crate::app::App;
use crate::openapi::{Auth, Door, Field, RouteDoc};
use crate::service::json::Members;
use crate::service::query::Query;
use crate::service::{Failure, admit, body, context_of, json_response};
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use billing::checkouts::Wish;
use billing::desk::Desk;
use billing::entitlements;
use billing::inbox::{self, Seen};
use billing::selling::{Buyer, NotSold, Returns};
use billing::topups::Wanted;
use credits::{MAX_AMOUNT, Owner};
use identity::service_keys::Scope;
use kernel::{Millis, UserId};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

const LARGEST_BODY: usize = 64 << 10;
const URL_CHARS: usize = 2_048;
const PAGE: i64 = 50;
const LARGEST_PAGE: i64 = 200;

pub(super) fn router() -> Router<Arc<App>> {
    let path = |rest: &str| format!("{BASE}{rest}");
    Router::new()
        .route(&path("/catalog"), get(|app, request| serve(app, request, catalogue)))
        .route(&path("/checkout"), post(|app, request| serve(app, request, checkout)))
        .route(&path("/checkout-status"), get(|app, request| serve(app, request, checkout_status)))
        .route(&path("/portal"), post(|app, request| serve(app, request, portal)))
        .route(&path("/subscription"), get(|app, request| serve(app, request, subscription)))
        .route(&path("/subscription/change"), post(|app, request| serve(app, request, change)))
        .route(&path("/subscription/cancel"), post(|app, request| serve(app, request, cancel)))
        .route(&path("/subscription/resume"), post(|app, request| serve(app, request, resume)))
        .route(&path("/invoices"), get(|app, request| serve(app, request, invoices)))
        .route(
            &path("/auto-topup"),
            get(|app, request| serve(app, request, top_up))
                .put(|app, request| serve(app, request, set_top_up)),
        )
        .route(&path("/events"), get(|app, request| serve(app, request, events)))
}

/// A request that has passed the guard: whoever calls may bill.
struct Ask {
    app: Arc<App>,
    desk: Desk,
    uri: http::Uri,
    body: axum::body::Bytes,
}

type Answered = Result<Value, Failure>;

async fn serve<F, W>(State(app): State<Arc<App>>, request: Request, run: F) -> Response
where
    F: FnOnce(Ask) -> W,
    W: Future<Output = Answered>,
{
    let context = context_of(&request);
    let answered = async {
        admit(&app, request.headers(), Scope::Billing, &context).await?;
        let desk = app.billing.clone().ok_or(Failure::BillingOff)?;
        let (head, body) = request.into_parts();
        let body = match head.method {
            http::Method::GET => axum::body::Bytes::new(),
            _ => body::read(&app, &head.headers, body, LARGEST_BODY).await?,
        };
        run(Ask { app, desk, uri: head.uri, body }).await
    };
    match answered.await {
        Ok(value) => json_response(200, value.to_string()),
        Err(failure) => failure.response(&context.request_id),
    }
}

async fn catalogue(ask: Ask) -> Answered {
    Query::read(&ask.uri).finish()?;
    Ok(shapes::catalogue(&ask.desk.tools().terms.catalogue, Case::Snake))
}

async fn checkout(ask: Ask) -> Answered {
    let mut members = Members::parse(&ask.body)?;
    let owner = members.owner()?;
    let item = members.id("price")?;
    let wish = Wish {
        item: members.required("price", item)?.into_owned(),
        quantity: members.integer("quantity", 1..=MAX_AMOUNT)?,
        amount: members.integer("amount", 1..=MAX_AMOUNT)?,
        keep_method: members.flag("save_payment_method")?,
    };
    let (success, cancel) = (members.text("success_url", URL_CHARS)?, members.text("cancel_url", URL_CHARS)?);
    members.finish()?;
    let returns = Returns {
        success_url: returns(&ask, "success_url", success.as_deref(), &after_success())?,
        cancel_url: returns(&ask, "cancel_url", cancel.as_deref(), AFTER_CANCEL)?,
    };
    let buyer = buyer(&ask, owner).await?;
    let opened = ask.desk.checkout(&buyer, &wish, &returns).await.map_err(not_sold)?;
    Ok(json!({ "url": opened.url, "session_id": opened.session_id }))
}

async fn checkout_status(ask: Ask) -> Answered {
    let mut query = Query::read(&ask.uri);
    let (owner, session) = (query.owner()?, query.text("session")?);
    query.finish()?;
    let session = session.ok_or_else(|| Failure::missing("session"))?;
    let found = ask.desk.checkout_status(&owner, &session).await.map_err(Failure::of_billing)?;
    let unknown = || Failure::NotFound { what: "checkout", field: Some("session".into()) };
    Ok(shapes::checkout(&found.ok_or_else(unknown)?))
}

async fn portal(ask: Ask) -> Answered {
    let mut members = Members::parse(&ask.body)?;
    let owner = members.owner()?;
    let back = members.text("return_url", URL_CHARS)?;
    members.finish()?;
    let back = returns(&ask, "return_url", back.as_deref(), AFTER_CANCEL)?;
    let buyer = buyer(&ask, owner).await?;
    let url = ask.desk.portal(&buyer, &back).await.map_err(Failure::of_billing)?;
    Ok(json!({ "url": url }))
}

async fn subscription(ask: Ask) -> Answered {
    let mut query = Query::read(&ask.uri);
    let owner = query.owner()?;
    query.finish()?;
    known(&ask, &owner).await?;
    let running = ask.desk.subscription_of(&owner).await?;
    let features = entitlements::features_of(&ask.desk.tools().terms.catalogue, running.as_ref());
    let subscription = shapes::subscription(running.as_ref(), Case::Snake);
    Ok(json!({ "subscription": subscription, "features": features }))
}

async fn change(ask: Ask) -> Answered {
    let mut members = Members::parse(&ask.body)?;
    let owner = members.owner()?;
    let plan = members.id("plan")?;
    let plan = members.required("plan", plan)?.into_owned();
    let preview = members.flag("preview")?;
    members.finish()?;
    known(&ask, &owner).await?;
    if preview {
        let preview = ask.desk.preview_change(&owner, &plan).await.map_err(not_sold)?;
        return Ok(json!({ "preview": shapes::preview(&preview, Case::Snake) }));
    }
    let running = ask.desk.change_plan(&owner, &plan).await.map_err(not_sold)?;
    Ok(json!({ "subscription": shapes::subscription(Some(&running), Case::Snake) }))
}

async fn cancel(ask: Ask) -> Answered {
    let owner = only_owner(&ask).await?;
    let running = ask.desk.cancel(&owner).await.map_err(not_sold)?;
    Ok(json!({ "subscription": shapes::subscription(Some(&running), Case::Snake) }))
}

async fn resume(ask: Ask) -> Answered {
    let owner = only_owner(&ask).await?;
    let running = ask.desk.resume(&owner).await.map_err(not_sold)?;
    Ok(json!({ "subscription": shapes::subscription(Some(&running), Case::Snake) }))
}

async fn invoices(ask: Ask) -> Answered {
    let mut query = Query::read(&ask.uri);
    let owner = query.owner()?;
    query.finish()?;
    known(&ask, &owner).await?;
    let invoices = ask.desk.invoices(&owner).await.map_err(Failure::of_billing)?;
    let items: Vec<Value> = invoices.iter().map(|invoice| shapes::invoice(invoice, Case::Snake)).collect();
    Ok(json!({ "items": items, "next_cursor": null }))
}

async fn top_up(ask: Ask) -> Answered {
    let mut query = Query::read(&ask.uri);
    let owner = query.owner()?;
    query.finish()?;
    known(&ask, &owner).await?;
    Ok(shapes::top_up(&ask.desk.top_up_of(&owner).await?, Case::Snake))
}

async fn set_top_up(ask: Ask) -> Answered {
    let mut members = Members::parse(&ask.body)?;
    let owner = members.owner()?;
    let wanted = Wanted {
        below: members.amount("below")?,
        pack: members.id("pack")?.map(Cow::into_owned),
        monthly_max: members.amount("monthly_max")?,
        enabled: members.maybe_flag("enabled")?,
    };
    members.finish()?;
    if matches!(owner, Owner::Guest(_)) {
        return Err(Failure::invalid(owner.field(), "a guest buys nothing: name a user"));
    }
    known(&ask, &owner).await?;
    let shown = ask.desk.set_top_up(&owner, wanted).await?;
    let shown = shown.map_err(|wrong| Failure::invalid(wrong.field, wrong.message))?;
    Ok(shapes::top_up(&shown, Case::Snake))
}

async fn events(ask: Ask) -> Answered {
    let mut query = Query::read(&ask.uri);
    let (status, cursor) = (query.text("status")?, query.cursor()?);
    let limit = query.integer("limit", 1..=LARGEST_PAGE)?.unwrap_or(PAGE);
    query.finish()?;
    let expected = "it must be pending, done, ignored or failed";
    let status =
        status.map(|text| inbox::State::parse(&text).ok_or_else(|| Failure::invalid("status", expected)));
    let status = status.transpose()?;
    let broken = || Failure::invalid("cursor", "it is not one that a list gave");
    let before = match &cursor {
        Some(text) => {
            let (at, id) = text.split_once('.').ok_or_else(broken)?;
            Some((Millis(at.parse().map_err(|_| broken())?), id.to_owned()))
        }
        None => None,
    };
    let read = move |tx: &mut store::Tx<'_>| -> Result<Vec<Seen>, store::Error> {
        inbox::list(tx, status, before.as_ref().map(|(at, id)| (*at, id.as_str())), limit + 1)
    };
    let mut seen = ask.app.store.scan(read).await?;
    let is_more = seen.len() as i64 > limit;
    seen.truncate(usize::try_from(limit).unwrap_or(1));
    let next = seen.last().filter(|_| is_more).map(|last| format!("{}.{}", last.received_at.0, last.id));
    let items: Vec<Value> = seen.iter().map(event).collect();
    Ok(json!({ "items": items, "next_cursor": next }))
}

fn event(seen: &Seen) -> Value {
    json!({
        "id": seen.event_id(),
        "livemode": seen.livemode(),
        "type": seen.kind,
        "subject": seen.subject,
        "status": seen.state.name(),
        "attempts": seen.attempts,
        "error": seen.error,
        "effect": seen.effect,
        "created_at": seen.created_at.iso(),
        "received_at": seen.received_at.iso(),
        "done_at": seen.done_at.map(Millis::iso),
    })
}

async fn only_owner(ask: &Ask) -> Result<Owner, Failure> {
    let mut members = Members::parse(&ask.body)?;
    let owner = members.owner()?;
    members.finish()?;
    known(ask, &owner).await?;
    Ok(owner)
}

fn returns(ask: &Ask, field: &str, given: Option<&str>, otherwise: &str) -> Result<String, Failure> {
    let refused = || Failure::invalid(field, "it must be a path, or an address of a trusted origin");
    return_url(&ask.app, given, otherwise).ok_or_else(refused)
}

async fn known(ask: &Ask, owner: &Owner) -> Result<(), Failure> {
    let (exists, looked) = (ask.desk.tools().owner_exists.clone(), owner.clone());
    let known = ask.app.store.read(move |tx| exists(tx, &looked)).await?;
    let unknown = || Failure::NotFound { what: "owner", field: Some(owner.field().into()) };
    if known { Ok(()) } else { Err(unknown()) }
}

/// An address goes to Stripe only when it was proved.
async fn buyer(ask: &Ask, owner: Owner) -> Result<Buyer, Failure> {
    let unknown = |owner: &Owner| Failure::NotFound { what: "owner", field: Some(owner.field().into()) };
    let Owner::User(id) = &owner else { return Err(unknown(&owner)) };
    let id = UserId::from_text(id.as_str());
    let found =
        ask.app.store.read(move |tx| -> Result<_, store::Error> { identity::users::by_id(tx, &id) }).await?;
    let user = found.ok_or_else(|| unknown(&owner))?;
    Ok(Buyer { owner, email: user.email_verified.then_some(user.email) })
}

fn not_sold(error: NotSold) -> Failure {
    match error {
        NotSold::Unsellable(wrong) => Failure::invalid(wrong.field, wrong.message),
        NotSold::Subscribed | NotSold::UnderWay | NotSold::NotSubscribed => {
            Failure::Conflict { message: error.to_string(), refundable: None }
        }
        NotSold::Declined(_) => Failure::PaymentDeclined(error.to_string()),
        NotSold::Error(error) => Failure::of_billing(error),
    }
}

const USER: Field = Field::text("user_id").optional().note("The owner; or `organization_id`, never both");
const ORGANIZATION: Field = Field::text("organization_id").optional();
const PRICE: Field = Field::text("price").note("The name of a pack or plan in the catalogue");
const STRIPE: &[(u16, &str)] = &[
    (200, "Done"),
    (402, "`payment_declined`: the card says no, and nothing was changed"),
    (404, "There is no such owner, or billing is not configured"),
    (409, "`conflict`: there is a subscription already, or none"),
    (422, "`invalid_request`: with `field`"),
    (502, "`unavailable`: Stripe refused the call"),
    (503, "`unavailable`: Stripe or the database does not answer"),
];

const fn of(doc: RouteDoc) -> RouteDoc {
    doc.door(Door::Billing).auth(Auth::ServiceKey).answers(STRIPE)
}

pub(super) const ROUTES: &[RouteDoc] = &[
    of(RouteDoc::get("/api/billing/catalog", "What is sold")),
    of(RouteDoc::post("/api/billing/checkout", "Opens a checkout for an owner")).body(&[
        USER,
        ORGANIZATION,
        PRICE,
        Field::integer("quantity").optional().note("Pieces of a pack; default 1"),
        Field::integer("amount")
            .optional()
            .note("Where the buyer names it, in the smallest unit of the currency"),
        Field::boolean("save_payment_method")
            .optional()
            .note("Keeps the way of paying at Stripe, for automatic top-ups; tell the buyer"),
        Field::text("success_url")
            .optional()
            .note("A path or a trusted origin; may hold `{CHECKOUT_SESSION_ID}`"),
        Field::text("cancel_url").optional(),
    ]),
    of(RouteDoc::get("/api/billing/checkout-status", "What has become of a checkout")).query(&[
        USER,
        ORGANIZATION,
        Field::text("session"),
    ]),
    of(RouteDoc::post("/api/billing/portal", "Opens Stripe's portal for an owner")).body(&[
        USER,
        ORGANIZATION,
        Field::text("return_url").optional(),
    ]),
    of(RouteDoc::get("/api/billing/subscription", "An owner's subscription, and the features it turns on"))
        .query(&[USER, ORGANIZATION]),
    of(RouteDoc::post("/api/billing/subscription/change", "Changes the plan, or shows what that would cost"))
        .body(&[USER, ORGANIZATION, Field::text("plan"), Field::boolean("preview").optional()]),
    of(RouteDoc::post(
        "/api/billing/subscription/cancel",
        "Ends the subscription with the period that is paid",
    ))
    .body(&[USER, ORGANIZATION]),
    of(RouteDoc::post("/api/billing/subscription/resume", "Takes a cancellation back"))
        .body(&[USER, ORGANIZATION]),
    of(RouteDoc::get("/api/billing/invoices", "An owner's invoices, newest first"))
        .query(&[USER, ORGANIZATION]),
    of(RouteDoc::get("/api/billing/auto-topup", "What an owner buys automatically, and how that goes"))
        .query(&[USER, ORGANIZATION]),
    of(RouteDoc::new("PUT", "/api/billing/auto-topup", "Buys a pack whenever little is left"))
        .body(&[
            USER,
            ORGANIZATION,
            Field::integer("below").optional().note("Credits: with less available a pack is bought"),
            Field::text("pack").optional().note("The name of a pack with a fixed price"),
            Field::integer("monthly_max").optional().note("Payments in a calendar month"),
            Field::boolean("enabled").optional(),
        ])
        .notes(
            "What is left out stays as it is; the first time `below`, `pack` and `monthly_max` are needed.",
        ),
    of(RouteDoc::get("/api/billing/events", "Stripe's events and what came of them, newest first")).query(&[
        Field::text("status").optional().note("`pending`, `done`, `ignored` or `failed`"),
        Field::integer("limit").optional(),
        Field::text("cursor").optional(),
    ]),
];
