//! `POST /api/gate/authorize`: who it is, whether it may pass and what it costs, in one call.
//!
//! The order of refusals is fixed: service key, content type, body, idempotency key, session, ban, user, role, payer,
//! entitlement, then allowance or charge.

use super::judge::{self, Looked, Passing, Question, Seen, Shown};
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
use credits::{Answer, Command, Error, Idempotency, Refusal, push_text};
use gate::allowances::Standing;
use gate::authorize::{Demand, Denied, Subject};
use http::HeaderMap;
use identity::UserView;
use identity::service_keys::{self, Scope};
use kernel::{GuestId, Millis};
use serde_json::{Map, Value};
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
            Field::text("user_id").optional().note("Must be the session's user, or the API key's"),
            Field::text("role").optional().note("One of the user's roles must be this"),
            Field::text("entitlement")
                .optional()
                .note("A feature that the plan of whoever pays must turn on"),
            Field::new("permissions", Kind::Object)
                .optional()
                .note("What an API key must permit, such as `{\"files\": [\"read\"]}`; a session is not asked for them"),
            Field::new("charge", Kind::Object).optional().note(
                "`feature` and `quantity`, `model` and `tokens`, or `amount`; and `unit`, as in a debit",
            ),
            Field::boolean("hold").optional().note("Reserves the charge instead of spending it"),
            Field::integer("hold_expires_in").optional().note("Seconds, 1 to 86400; default 300"),
            Field::new("payer", Kind::Object).optional().note(
                "The user, or an organization that the user is a member of; default the active organization if its \
                 metadata has `pays: true`, else the user, or whoever the API key belongs to",
            ),
            Field::new("guest", Kind::Object)
                .optional()
                .note("`action`: passes a visitor without a session who has some of it left"),
            Field::text("reason").optional().note("Kept on the entry, at most 500 characters"),
            Field::new("metadata", Kind::Object).optional().note("Kept on the entry, at most 4 KiB"),
        ])
        .answers(&[
            (200, "It may pass: `subject`, `user`, `session`, `charge`, `guest`; `features` where a plan turns some on"),
            (401, "`unauthenticated`: no valid session, nor a guest where one is asked for"),
            (402, "`insufficient_credits`: with `balance`, `available`, `required`, `unit`, `buy_url`"),
            (403, "`user_banned`, `user_mismatch` or `forbidden`; where an entitlement is missing its name is the `detail`, and there is a `buy_url`"),
            (409, "`idempotency_mismatch`: with `field`"),
            (422, "`invalid_request`: with `field`"),
            (429, "`rate_limited`: the API key was used too often; `limit_reached`: with `limit` and `resets_at`; `guest_limit_reached`: with `action`, `limit` and `resets_at`"),
        ])
        .notes(
            "Pass on the end user's `Cookie` header as it came, or their token or API key as `X-Tollgate-Token`. With a charge the \
             header `Idempotency-Key` is required; keys are the subject's. `Set-Cookie` lines of the answer are for the \
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
    let question = Arc::new(Question { demand: asked.demand, tells_features: true });
    let now = context.now;
    let shown = judge::shown(gate, &parts.headers, false);
    let signed_out = judge::signed_out(gate, &shown, now);
    let looked = match shown {
        Shown::Session(presented) => {
            let (looking, shown, asking) = (gate.clone(), presented.clone(), question.clone());
            let looked = app.store.read(move |tx| {
                let found = service_keys::find(tx, &looking.app.vault, &key)?;
                let looked = match &found {
                    Some(key) if key.scopes.allow(Scope::Gate) => {
                        judge::look(tx, &looking, &shown, &asking, now, answer_head)?
                    }
                    _ => Looked::Nobody,
                };
                Ok::<_, store::Error>((found, looked))
            });
            let (found, looked) = looked.await?;
            service::accept(app, found, Scope::Gate, context)?;
            match looked {
                Looked::Due => judge::extend(gate, &presented, &question, now, answer_head, cookies).await?,
                looked => looked,
            }
        }
        // Using a key is counted, so who asks is judged first.
        Shown::Key(shown) => {
            service::admit(app, &parts.headers, Scope::Gate, context).await?;
            judge::by_key(gate, &shown, &question, now, answer_head).await?
        }
        Shown::Nothing => {
            service::admit(app, &parts.headers, Scope::Gate, context).await?;
            Looked::Nobody
        }
    };
    let demand = &question.demand;
    match looked {
        Looked::Passes(passing, head) => {
            judge::entitled(gate, demand, &passing)?;
            let charge = match asked.spend {
                None => None,
                Some((spend, key)) => Some(charge(gate, &passing, demand, spend, key, context).await?),
            };
            let features = judge::sells_features(gate).then_some(passing.features.as_slice());
            Ok(answer(head, features, charge))
        }
        Looked::Denied(denied) => Err(Failure::Denied(denied)),
        // The allowance pays, so that nothing is charged.
        Looked::Nobody | Looked::Due => match &asked.guest_action {
            Some(action) => {
                let (guest, standing) = visitor::pass(gate, &parts.headers, demand, action, context).await?;
                Ok(json_response(200, guest_answer(&guest, &standing)))
            }
            None => Err(signed_out),
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
            permissions: permissions(&mut members)?,
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

/// For each kind of thing a list of what is done with it.
fn permissions(members: &mut Members<'_>) -> Result<Option<Map<String, Value>>, Failure> {
    let Some(text) = members.metadata("permissions")? else { return Ok(None) };
    let asked: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    let is_list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    match asked.values().all(is_list) {
        true => Ok(Some(asked)),
        false => Err(members.invalid("permissions", "each member must be a list of texts")),
    }
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

/// Through the ledger's lane. The keys are the subject's, whoever pays, and a user's are shared with the credits door. The
/// subject is the actor, too: it was judged in the same call, so it is the one who acts and not the backend that asked.
pub(super) async fn charge(
    gate: &Gate,
    passing: &Passing,
    demand: &Demand,
    spend: Spend<'_>,
    key: String,
    context: &RequestContext,
) -> Result<Answer, Failure> {
    let ledger = &gate.app.ledger;
    let Passing { subject, payer, .. } = passing;
    // A request that names no payer is the same request whoever pays by default meanwhile: the first payer stands.
    let named = demand.payer.clone().unwrap_or_else(|| subject.own());
    let spend = Spend { price: spend.price.by(subject.spender(payer)), ..spend };
    let order = spend.order(payer.clone(), &named, ledger.settings());
    let command = Command {
        target: order.target,
        action: order.action,
        actor: subject.actor(),
        request_id: Some(context.request_id.as_str().to_owned()),
        idempotency: Some(Idempotency { key, request: order.spelling, scope: Some(subject.scope()) }),
    };
    ledger.submit(command).await.map_err(|error| match error {
        // The account was closed after the session had been read: the user or the organization is no more.
        Error::Refused(Refusal::UnknownOwner { .. }) if *payer == subject.own() => Failure::Unauthenticated,
        Error::Refused(Refusal::UnknownOwner { .. }) => Failure::Denied(Denied::ForeignPayer),
        Error::Refused(refusal) => Failure::refused(refusal, "", ledger.settings(), context.now),
        Error::Store(error) => Failure::Store(error),
    })
}

// ---- the answer, written straight from the rows

/// The members that tell who it is; the others follow.
fn answer_head(seen: Seen<'_>) -> String {
    let mut out = String::with_capacity(512);
    let (kind, id) = match seen.subject {
        Subject::User(id) => ("user", id),
        Subject::ApiKey { id, .. } => ("api_key", id),
    };
    out.push_str("{\"subject\":{\"kind\":\"");
    out.push_str(kind);
    out.push_str("\",\"id\":");
    push_text(&mut out, id);
    out.push_str("},\"user\":");
    match seen.user {
        Some(user) => push_user(&mut out, user),
        None => out.push_str("null"),
    }
    out.push_str(",\"session\":");
    match seen.expires_at {
        Some(at) => {
            out.push_str("{\"expires_at\":");
            push_time(&mut out, at);
            out.push('}');
        }
        None => out.push_str("null"),
    }
    out
}

fn push_user(out: &mut String, user: &UserView<'_>) {
    out.push_str("{\"user_id\":");
    push_text(out, user.id);
    out.push_str(",\"email\":");
    push_text(out, user.email);
    out.push_str(",\"name\":");
    push_text(out, user.name);
    out.push_str(if user.email_verified { ",\"email_verified\":true" } else { ",\"email_verified\":false" });
    out.push_str(",\"role\":");
    match user.role {
        Some(role) => push_text(out, role),
        None => out.push_str("null"),
    }
    out.push('}');
}

fn push_time(out: &mut String, at: Millis) {
    push_text(out, at.iso_text().as_str());
}

/// Features are told where plans turn some on.
fn answer(mut out: String, features: Option<&[String]>, charge: Option<Answer>) -> Response {
    if let Some(features) = features {
        out.push_str(",\"features\":[");
        for (at, feature) in features.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { "," });
            push_text(&mut out, feature);
        }
        out.push(']');
    }
    out.push_str(",\"charge\":");
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
    out.push_str("},\"user\":null,\"session\":null,\"charge\":null,\"guest\":");
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
