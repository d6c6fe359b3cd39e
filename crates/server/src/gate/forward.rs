//! `ANY /api/gate/forward`: the same decision for a reverse proxy, which asks it before it lets a request through (nginx
//! `auth_request`, Caddy `forward_auth`, Traefik ForwardAuth).

use super::Gate;
use super::authorize::charge;
use super::judge::{self, Looked, Question, Seen, Shown, set_cookies};
use super::original::{Original, Proxy};
use super::visitor;
use crate::auth::current::Presented;
use crate::credits::reads::ask::{self, Trouble};
use crate::credits::request::{Priced, Spend};
use crate::edge::RequestContext;
use crate::openapi::{Auth, Door, Field, RouteDoc};
use crate::service::idempotency::{Key, header_key, mark_replay};
use crate::service::query::Query;
use crate::service::{self, Failure, context_of};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use credits::Owner;
use gate::authorize::Demand;
use gate::rules::Asks;
use http::header::LOCATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use identity::service_keys::{self, Scope};
use kernel::random;
use std::sync::Arc;

const USER: HeaderName = HeaderName::from_static("x-tollgate-user");
const EMAIL: HeaderName = HeaderName::from_static("x-tollgate-email");
const ROLES: HeaderName = HeaderName::from_static("x-tollgate-roles");
const BALANCE: HeaderName = HeaderName::from_static("x-tollgate-balance");
/// For nginx, which cannot be told by the status.
const REDIRECT: HeaderName = HeaderName::from_static("x-tollgate-redirect");
const STATUS: HeaderName = HeaderName::from_static("x-tollgate-status");
const KEY_LENGTH: usize = 24;

pub(super) const ROUTE: RouteDoc =
    RouteDoc::get("/api/gate/forward", "May the request that a reverse proxy holds pass?")
        .door(Door::Gate)
        .auth(Auth::ServiceKey)
        .query(&[
            Field::text("feature").optional().note("Is charged, in place of the feature of the rule that matches"),
            Field::text("guest").optional().note("Lets a visitor pass, in place of the action of the rule"),
        ])
        .answers(&[
            (200, "It may pass: `X-Tollgate-User`, `-Email`, `-Roles`, `-Balance`, empty where there is nothing"),
            (302, "A person who is not signed in is sent to the sign-in page"),
            (401, "`unauthenticated`; for nginx with `X-Tollgate-Redirect`"),
            (402, "`insufficient_credits`"),
            (403, "`user_banned` or `forbidden`; for nginx any other refusal, too, with `X-Tollgate-Status`"),
            (422, "`invalid_request`: the proxy did not tell which request it asks about"),
            (429, "`limit_reached` or `guest_limit_reached`"),
        ])
        .notes(
            "Answers every method alike. The caller is one of `trusted_proxies` or shows a service key. The request is told \
             by `X-Forwarded-Method`, `-Uri`, `-Host` and `-Proto`, or by `X-Original-Method` with `X-Original-URI` or \
             `X-Original-URL`.",
        );

pub(super) async fn serve(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let context = context_of(&request);
    let (parts, _) = request.into_parts();
    let mut cookies = Vec::new();
    let mut response = match steps(&gate, &parts, &context, &mut cookies).await {
        Ok(pass) => pass.into_response(),
        Err(failure) => refusal(&gate, &parts.headers, failure, &context),
    };
    set_cookies(response.headers_mut(), cookies);
    response
}

async fn steps(
    gate: &Arc<Gate>,
    parts: &Parts,
    context: &RequestContext,
    cookies: &mut Vec<String>,
) -> Result<Pass, Failure> {
    let app = &gate.app;
    let own_key = service::shown(&parts.headers);
    let is_users = own_key.is_err();
    let key = if context.from_proxy { None } else { Some(own_key?.to_owned()) };
    let wish = match Wish::read(gate, parts) {
        Ok(wish) => wish,
        Err(failure) => {
            if key.is_some() {
                service::admit(app, &parts.headers, Scope::Gate, context).await?;
            }
            return Err(failure);
        }
    };
    let demand = Demand {
        role: wish.asks.role.clone(),
        entitlement: wish.asks.entitlement.clone(),
        ..Demand::default()
    };
    // No header tells features.
    let tells_features = demand.entitlement.is_some();
    let question = Arc::new(Question { demand, tells_features });
    let demand = &question.demand;
    let shown = judge::shown(gate, &parts.headers, is_users);
    let signed_out = judge::signed_out(gate, &shown, context.now);
    let looked = match shown {
        Shown::Session(presented) => look(gate, key, &presented, &question, context, cookies).await?,
        shown => {
            if key.is_some() {
                service::admit(app, &parts.headers, Scope::Gate, context).await?;
            }
            match shown {
                Shown::Key(shown) => by_key(gate, &shown, &question, &wish, context).await?,
                _ => Looked::Nobody,
            }
        }
    };
    match looked {
        Looked::Passes(passing, pass) => {
            judge::entitled(gate, demand, &passing)?;
            match wish.spend {
                Some((spend, key)) => {
                    let charged = charge(gate, &passing, demand, spend, key, context).await?;
                    Ok(Pass { balance: Some(charged.figures.balance), replayed: charged.replayed, ..pass })
                }
                None => Ok(Pass { balance: Some(balance(gate, &passing.payer, context).await?), ..pass }),
            }
        }
        // Where everybody passes, somebody who is banned does so as a stranger.
        Looked::Nobody | Looked::Due | Looked::Denied(_) if wish.asks.public => Ok(Pass::default()),
        Looked::Denied(denied) => Err(Failure::Denied(denied)),
        Looked::Nobody | Looked::Due => match &wish.asks.guest {
            // A guest is no user: all four headers are empty.
            Some(action) => {
                visitor::pass(gate, &parts.headers, demand, action, context).await.map(|_| Pass::default())
            }
            None => Err(signed_out),
        },
    }
}

/// Where everybody passes, a key that is used too often keeps nobody out.
async fn by_key(
    gate: &Arc<Gate>,
    shown: &str,
    question: &Arc<Question>,
    wish: &Wish,
    context: &RequestContext,
) -> Result<Looked<Pass>, Failure> {
    match judge::by_key(gate, shown, question, context.now, Pass::of).await {
        Err(Failure::KeyTooOften { .. } | Failure::KeyUsedUp { .. }) if wish.asks.public => {
            Ok(Looked::Nobody)
        }
        looked => looked,
    }
}

/// Key and session in one look. Who shows neither costs none.
async fn look(
    gate: &Arc<Gate>,
    key: Option<String>,
    presented: &Arc<Presented>,
    question: &Arc<Question>,
    context: &RequestContext,
    cookies: &mut Vec<String>,
) -> Result<Looked<Pass>, Failure> {
    if key.is_none() && presented.is_empty() {
        return Ok(Looked::Nobody);
    }
    let has_key = key.is_some();
    let (looking, shown, asking, now) = (gate.clone(), presented.clone(), question.clone(), context.now);
    let looked = gate.app.store.read(move |tx| {
        let found = match &key {
            Some(key) => service_keys::find(tx, &looking.app.vault, key)?,
            None => None,
        };
        let admitted = key.is_none() || found.as_ref().is_some_and(|key| key.scopes.allow(Scope::Gate));
        let looked = match admitted {
            true => judge::look(tx, &looking, &shown, &asking, now, Pass::of)?,
            false => Looked::Nobody,
        };
        Ok::<_, store::Error>((found, looked))
    });
    let (found, looked) = looked.await?;
    if has_key {
        service::accept(&gate.app, found, Scope::Gate, context)?;
    }
    match looked {
        Looked::Due => judge::extend(gate, presented, question, now, Pass::of, cookies).await,
        looked => Ok(looked),
    }
}

/// What can be spent is one thing, what is there another: this is what the person has.
async fn balance(gate: &Gate, owner: &Owner, context: &RequestContext) -> Result<i64, Failure> {
    let unit = gate.app.ledger.settings().default_unit();
    match ask::balance(&gate.app, owner, unit, context.now).await {
        Ok(balance) => Ok(balance.balance),
        Err(Trouble::Store(error)) => Err(Failure::Store(error)),
        // Deleted since the session was read.
        Err(_) => Err(Failure::Unauthenticated),
    }
}

// ---- what is asked

/// What the rules and the proxy's own configuration ask of this request.
struct Wish {
    asks: Asks,
    /// With the key under which it happens.
    spend: Option<(Spend<'static>, String)>,
}

impl Wish {
    fn read(gate: &Gate, parts: &Parts) -> Result<Wish, Failure> {
        let original = Original::read(&parts.headers)?;
        original.check_own_query(parts.uri.query())?;
        let mut asks = gate.app.settings.gate.decide(original.method, &original.path()?)?;
        let mut query = Query::read(&parts.uri);
        let (feature, guest) = (query.text("feature")?, query.text("guest")?);
        query.finish()?;
        // Who asks for more than the rules do means that it is no public path.
        asks.public &= feature.is_none() && guest.is_none();
        asks.feature = feature.or(asks.feature);
        asks.guest = guest.or(asks.guest);
        if let Some(name) = &asks.entitlement {
            judge::check_entitlement(gate, name)
                .map_err(|message| Failure::invalid("entitlement", message))?;
        }
        if let Some(action) = &asks.guest {
            visitor::check(gate, action).map_err(|message| Failure::invalid("guest", message))?;
        }
        let Some(feature) = &asks.feature else { return Ok(Wish { asks, spend: None }) };
        let ledger = &gate.app.ledger;
        let price = Priced::of_feature(ledger.settings(), ledger.price_version(), feature);
        let price = price.ok_or_else(|| Failure::invalid("feature", "it stands in no price list"))?;
        let spend = Spend { price, hold_seconds: None, reason: None, metadata: None, allow_negative: false };
        let key = header_key(&parts.headers, Key::Optional)?
            .unwrap_or_else(|| random::alphanumeric(&mut random::secure(), KEY_LENGTH));
        Ok(Wish { asks, spend: Some((spend, key)) })
    }
}

// ---- the answers

/// Who passes, as the backend will read it. All four headers stand on every such answer, so that a proxy puts them in
/// place of what a client sent under their names.
#[derive(Default)]
struct Pass {
    user: String,
    email: String,
    roles: String,
    balance: Option<i64>,
    replayed: bool,
}

impl Pass {
    /// An organization's key is nobody's: only the balance is told.
    fn of(seen: Seen<'_>) -> Pass {
        let Some(user) = seen.user else { return Pass::default() };
        let roles: Vec<String> = user.roles().map(plain).collect();
        Pass { user: plain(user.id), email: plain(user.email), roles: roles.join(","), ..Pass::default() }
    }

    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        if self.replayed {
            mark_replay(&mut response);
        }
        let balance = self.balance.map(|balance| balance.to_string()).unwrap_or_default();
        let headers = response.headers_mut();
        for (name, text) in [(USER, self.user), (EMAIL, self.email), (ROLES, self.roles), (BALANCE, balance)]
        {
            // Plain texts and numbers fit into any header.
            headers.insert(name, HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("")));
        }
        response
    }
}

/// What is not a visible ASCII character, a percent sign or a comma is written as in a URL, so that a value neither ends
/// early nor reads as two.
fn plain(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' && byte != b',' {
            out.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn refusal(gate: &Gate, headers: &HeaderMap, failure: Failure, context: &RequestContext) -> Response {
    let proxy = Proxy::of(headers);
    let target = match (&failure, Original::read(headers)) {
        (Failure::Unauthenticated | Failure::SignedOutOfApp(_) | Failure::NoGuest, Ok(original))
            if original.is_page(headers) =>
        {
            let settings = &gate.app.settings;
            let url = settings.sign_in_url(&original.sign_in_target(&settings.trusted_origins));
            HeaderValue::try_from(url).ok()
        }
        _ => None,
    };
    let mut response = failure.response(&context.request_id);
    match (proxy, target) {
        (Proxy::Open, Some(target)) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::FOUND;
            response.headers_mut().insert(LOCATION, target);
            return response;
        }
        (Proxy::Nginx, Some(target)) => {
            response.headers_mut().insert(REDIRECT, target);
        }
        (_, None) => {}
    }
    let status = response.status();
    if proxy == Proxy::Nginx && ![StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
        *response.status_mut() = StatusCode::FORBIDDEN;
        response.headers_mut().insert(STATUS, HeaderValue::from(status.as_u16()));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn values_fit_into_a_header_and_are_read_back() {
        for (text, expected) in [
            ("ada@example.com", "ada@example.com"),
            ("a+b@example.com", "a+b@example.com"),
            ("100%@example.com", "100%25@example.com"),
            ("ädä@exämple.com", "%C3%A4d%C3%A4@ex%C3%A4mple.com"),
            ("a\r\nX-Tollgate-Roles: admin", "a%0D%0AX-Tollgate-Roles:%20admin"),
            ("a,b", "a%2Cb"),
            ("", ""),
        ] {
            assert_eq!(plain(text), expected);
            assert_eq!(kernel::signed::decode_uri_component(expected).as_deref(), Some(text));
        }
    }
}
