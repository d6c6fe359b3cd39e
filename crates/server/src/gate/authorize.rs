//! `POST /api/gate/authorize`: who it is, whether it may pass and what it costs, in one call.
//!
//! The order of refusals is fixed: service key, content type, body, idempotency key, session, ban, user, role, payer,
//! entitlement, then allowance or charge.

use super::judge::{self, Looked};
use super::{Gate, judge::set_cookies, visitor};
use crate::credits::request::{self, Desk, Spend};
use crate::edge::RequestContext;
use crate::guest::push_standing;
use crate::openapi::{Auth, Door, Field, Kind, RouteDoc};
use crate::service::idempotency::{Key, header_key, mark_replay};
use crate::service::json::Members;
use crate::service::{self, Failure, body, context_of, json_response};
use axum::extract::{Request, State};
use axum::response::Response;
use credits::{Answer, Command, Error, Idempotency, Owner, Refusal, push_text};
use gate::allowances::Standing;
use gate::authorize::Demand;
use http::HeaderMap;
use identity::service_keys::{self, Scope};
use identity::{SessionView, UserView};
use kernel::{GuestId, Millis};
use std::borrow::Cow;
use std::sync::Arc;

const BODY_BYTES: usize = 64 * 1024;
/// Of a hold that names no time.
const HOLD_SECONDS: i64 = 300;

pub(super) const ROUTE: RouteDoc =
    RouteDoc::post("/api/gate/authorize", "Who is it, may it pass, and what does it cost?")
        .door(Door::Gate)
        .auth(Auth::ServiceKey)
        .body(&[
            Field::text("user_id").optional().note("Must be the session's user"),
            Field::text("role").optional().note("One of the user's roles must be this"),
            Field::text("entitlement")
                .optional()
                .note("A feature that the plan of whoever pays must turn on"),
            Field::new("charge", Kind::Object).optional().note(
                "`feature` and `quantity`, `model` and `tokens`, or `amount`; and `unit`, as in a debit",
            ),
            Field::boolean("hold").optional().note("Reserves the charge instead of spending it"),
            Field::integer("hold_expires_in").optional().note("Seconds, 1 to 86400; default 300"),
            Field::new("payer", Kind::Object).optional().note("An owner; default the user"),
            Field::new("guest", Kind::Object)
                .optional()
                .note("`action`: passes a visitor without a session who has some of it left"),
            Field::text("reason").optional().note("Kept on the entry, at most 500 characters"),
            Field::new("metadata", Kind::Object).optional().note("Kept on the entry, at most 4 KiB"),
        ])
        .answers(&[
            (200, "It may pass: `subject`, `user`, `session`, `features`, `charge`, `guest`"),
            (401, "`unauthenticated`: no valid session, nor a guest where one is asked for"),
            (402, "`insufficient_credits`: with `balance`, `available`, `required`, `unit`, `buy_url`"),
            (403, "`user_banned`, `user_mismatch` or `forbidden`; where an entitlement is missing its name is the `detail`, and there is a `buy_url`"),
            (409, "`idempotency_mismatch`: with `field`"),
            (422, "`invalid_request`: with `field`"),
            (429, "`limit_reached`: with `limit` and `resets_at`; `guest_limit_reached`: with `action`, `limit` and `resets_at`"),
        ])
        .notes(
            "Pass on the end user's `Cookie` header as it came, or their token as `X-Tollgate-Token`. With a charge the \
             header `Idempotency-Key` is required; keys are the user's. `Set-Cookie` lines of the answer are for the \
             browser: pass them on.",
        );

pub(super) async fn serve(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let context = context_of(&request);
    let mut cookies = Vec::new();
    let mut response = match steps(&gate, request, &context, &mut cookies).await {
        Ok(response) => response,
        Err(failure) => failure.response(&context.request_id),
    };
    set_cookies(response.headers_mut(), cookies);
    response
}

async fn steps(
    gate: &Arc<Gate>,
    request: Request,
    context: &RequestContext,
    cookies: &mut Vec<String>,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let key = service::shown(&parts.headers)?.to_owned();
    let app = &gate.app;
    // A body that is not understood waits until the key was judged. Else key and session are looked up together.
    let bytes = body::read(app, &parts.headers, body, BODY_BYTES).await;
    let asked =
        bytes.as_ref().map_err(Clone::clone).and_then(|bytes| Asked::read(bytes, gate, &parts.headers));
    let asked = match asked {
        Ok(asked) => asked,
        Err(failure) => {
            service::admit(app, &parts.headers, Scope::Gate, context).await?;
            return Err(failure);
        }
    };
    let presented = Arc::new(judge::presented(gate, &parts.headers, false));
    let demand = Arc::new(asked.demand);
    let (looking, shown, asking, now) = (gate.clone(), presented.clone(), demand.clone(), context.now);
    let looked = app.store.read(move |tx| {
        let found = service_keys::find(tx, &looking.app.vault, &key)?;
        let looked = match &found {
            Some(key) if key.scopes.allow(Scope::Gate) => {
                judge::look(tx, &looking, &shown, &asking, now, answer_head)?
            }
            _ => Looked::Nobody,
        };
        let features = judge::features(tx, &looking, &asking, &looked)?;
        Ok::<_, store::Error>((found, looked, features))
    });
    let (found, mut looked, mut features) = looked.await?;
    service::accept(app, found, Scope::Gate, context)?;
    if let Looked::Due = looked {
        looked = judge::extend(gate, &presented, &demand, now, answer_head, cookies).await?;
        features = judge::features_after(gate, &demand, &looked).await?;
    }
    match looked {
        Looked::Passes(user_id, head) => {
            judge::entitled(gate, &demand, &features)?;
            let charge = match asked.spend {
                None => None,
                Some((spend, key)) => Some(charge(gate, Owner::User(user_id), spend, key, context).await?),
            };
            Ok(answer(head, &features, charge))
        }
        Looked::Denied(denied) => Err(Failure::Denied(denied)),
        // The allowance pays, so that nothing is charged.
        Looked::Nobody | Looked::Due => match &asked.guest_action {
            Some(action) => {
                let (guest, standing) = visitor::pass(gate, &parts.headers, &demand, action, context).await?;
                Ok(json_response(200, guest_answer(&guest, &standing)))
            }
            None => Err(Failure::Unauthenticated),
        },
    }
}

// ---- what is asked

struct Asked<'a> {
    demand: Demand,
    /// What a visitor without a session wants to do.
    guest_action: Option<String>,
    /// With the key under which it happens.
    spend: Option<(Spend<'a>, String)>,
}

impl<'a> Asked<'a> {
    fn read(bytes: &'a [u8], gate: &Gate, headers: &HeaderMap) -> Result<Asked<'a>, Failure> {
        let mut members = Members::parse(bytes)?;
        let demand = Demand {
            user_id: members.id("user_id")?.map(Cow::into_owned),
            role: role(&mut members)?,
            payer: payer(&mut members)?,
            entitlement: entitlement(&mut members, gate)?,
        };
        let guest_action = guest_action(&mut members, gate)?;
        let charge = members.object("charge")?;
        let hold = members.flag("hold")?;
        let seconds = request::hold_seconds(&mut members, "hold_expires_in")?;
        if hold && charge.is_none() {
            return Err(members.invalid("hold", "it goes with a charge"));
        }
        let reason = request::reason(&mut members)?;
        let metadata = members.metadata("metadata")?;
        members.finish()?;
        let Some(mut charge) = charge else { return Ok(Asked { demand, guest_action, spend: None }) };
        let ledger = &gate.app.ledger;
        let desk = Desk { settings: ledger.settings(), price_version: ledger.price_version(), id: "" };
        let price = request::price(&mut charge, &desk)?;
        charge.finish()?;
        let hold_seconds = hold.then(|| seconds.unwrap_or(HOLD_SECONDS));
        let spend = Spend { price, hold_seconds, reason, metadata, allow_negative: false };
        let key = header_key(headers, Key::Required)?.unwrap_or_default();
        Ok(Asked { demand, guest_action, spend: Some((spend, key)) })
    }
}

/// One role: users may have several.
fn role(members: &mut Members<'_>) -> Result<Option<String>, Failure> {
    match members.id("role")? {
        Some(role) if role.contains(',') || role.trim() != role => {
            Err(members.invalid("role", "it must be one role, without commas or spaces around it"))
        }
        role => Ok(role.map(Cow::into_owned)),
    }
}

fn payer(members: &mut Members<'_>) -> Result<Option<credits::Owner>, Failure> {
    let Some(mut payer) = members.object("payer")? else { return Ok(None) };
    let owner = payer.owner()?;
    payer.finish()?;
    Ok(Some(owner))
}

fn entitlement(members: &mut Members<'_>, gate: &Gate) -> Result<Option<String>, Failure> {
    let Some(name) = members.id("entitlement")? else { return Ok(None) };
    judge::check_entitlement(gate, &name).map_err(|message| members.invalid("entitlement", message))?;
    Ok(Some(name.into_owned()))
}

fn guest_action(members: &mut Members<'_>, gate: &Gate) -> Result<Option<String>, Failure> {
    let Some(mut guest) = members.object("guest")? else { return Ok(None) };
    let action = guest.id("action")?;
    let action = guest.required("action", action)?;
    visitor::check(gate, &action).map_err(|message| guest.invalid("action", message))?;
    guest.finish()?;
    Ok(Some(action.into_owned()))
}

// ---- charging

/// Through the ledger's lane. The keys are the user's, whoever pays, and are shared with the credits door. The user is the
/// actor, too: the session was judged in the same call, so it is the person who acts and not the backend that asked.
pub(super) async fn charge(
    gate: &Gate,
    user: Owner,
    spend: Spend<'_>,
    key: String,
    context: &RequestContext,
) -> Result<Answer, Failure> {
    let ledger = &gate.app.ledger;
    let order = spend.order(user.clone(), ledger.settings());
    let command = Command {
        target: order.target,
        action: order.action,
        actor: user.to_string(),
        request_id: Some(context.request_id.as_str().to_owned()),
        idempotency: Some(Idempotency { key, request: order.spelling, scope: Some(user) }),
    };
    ledger.submit(command).await.map_err(|error| match error {
        // The account was closed after the session had been read: the user is no more.
        Error::Refused(Refusal::UnknownOwner { .. }) => Failure::Unauthenticated,
        Error::Refused(refusal) => Failure::refused(refusal, "", ledger.settings(), context.now),
        Error::Store(error) => Failure::Store(error),
    })
}

// ---- the answer, written straight from the rows

/// The members that tell who it is; the others follow.
fn answer_head(session: &SessionView<'_>, user: &UserView<'_>) -> String {
    let mut out = String::with_capacity(512);
    out.push_str("{\"subject\":{\"kind\":\"user\",\"id\":");
    push_text(&mut out, user.id);
    out.push_str("},\"user\":{\"user_id\":");
    push_text(&mut out, user.id);
    out.push_str(",\"email\":");
    push_text(&mut out, user.email);
    out.push_str(",\"name\":");
    push_text(&mut out, user.name);
    out.push_str(if user.email_verified { ",\"email_verified\":true" } else { ",\"email_verified\":false" });
    out.push_str(",\"role\":");
    match user.role {
        Some(role) => push_text(&mut out, role),
        None => out.push_str("null"),
    }
    out.push_str("},\"session\":{\"expires_at\":");
    push_time(&mut out, session.expires_at);
    out.push('}');
    out
}

fn push_time(out: &mut String, at: Millis) {
    push_text(out, at.iso_text().as_str());
}

fn answer(mut out: String, features: &[String], charge: Option<Answer>) -> Response {
    out.push_str(",\"features\":[");
    for (at, feature) in features.iter().enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        push_text(&mut out, feature);
    }
    out.push_str("],\"charge\":");
    match &charge {
        Some(charge) => push_charge(&mut out, charge),
        None => out.push_str("null"),
    }
    out.push_str(",\"guest\":null}");
    let mut response = json_response(200, out);
    if charge.is_some_and(|charge| charge.replayed) {
        mark_replay(&mut response);
    }
    response
}

fn guest_answer(guest: &GuestId, standing: &Standing) -> String {
    let mut out = String::with_capacity(256);
    out.push_str("{\"subject\":{\"kind\":\"guest\",\"id\":");
    push_text(&mut out, guest.as_str());
    out.push_str("},\"user\":null,\"session\":null,\"features\":[],\"charge\":null,\"guest\":");
    push_standing(&mut out, standing);
    out.push('}');
    out
}

fn push_charge(out: &mut String, charge: &Answer) {
    use std::fmt::Write as _;
    let figures = &charge.figures;
    let (name, id) = match figures.entry_id() {
        Some(id) => ("entry_id", id),
        None => ("hold_id", figures.hold_id().unwrap_or_default()),
    };
    // Writing to a text cannot fail.
    let _ = write!(out, "{{\"{name}\":\"{id}\",\"amount\":{},\"unit\":", figures.amount);
    push_text(out, &figures.unit);
    let (balance, available, replayed) = (figures.balance, figures.available(), charge.replayed);
    let _ = write!(out, ",\"balance\":{balance},\"available\":{available},\"replayed\":{replayed}}}");
}
