//! The steps of every change, in their order: service key, content type, body, idempotency key, owner, the ledger's rules.

use super::request::{Desk, Order};
use super::{IDEMPOTENT_REPLAYED, context_of, json_response};
use crate::app::App;
use crate::edge::RequestContext;
use crate::service::json::Members;
use crate::service::{Caller, Failure, admit, body};
use axum::extract::Request;
use axum::response::Response;
use credits::{Answer, Command, Error, Idempotency};
use http::{HeaderMap, HeaderName, HeaderValue};
use identity::service_keys::Scope;
use std::sync::Arc;

const BODY_BYTES: usize = 64 * 1024;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// As `field` in answers.
const IDEMPOTENCY_FIELD: &str = "Idempotency-Key";
const KEY_CHARS: usize = 255;

/// Whether an effect must happen under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Required,
    Optional,
    /// It sets something, so doing it again changes nothing.
    None,
}

pub(super) type Read = fn(&mut Members<'_>, &Desk<'_>) -> Result<Order, Failure>;

pub(super) async fn serve(app: Arc<App>, key: Key, read: Read, request: Request) -> Response {
    let context = context_of(&request);
    match steps(&app, key, read, request, &context).await {
        Ok(answer) => response(answer),
        Err(failure) => failure.response(&context.request_id),
    }
}

fn response(answer: Answer) -> Response {
    let mut response = json_response(answer.status, answer.body);
    if answer.replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

async fn steps(
    app: &Arc<App>,
    key: Key,
    read: Read,
    request: Request,
    context: &RequestContext,
) -> Result<Answer, Failure> {
    let (parts, body) = request.into_parts();
    let caller = admit(app, &parts.headers, Scope::CreditsWrite, context).await?;
    let bytes = body::read(app, &parts.headers, body, BODY_BYTES).await?;
    let command = {
        let mut members = Members::parse(&bytes)?;
        let key = header_key(&parts.headers, key)?;
        let id = id_of(parts.uri.path());
        let desk = Desk { settings: app.ledger.settings(), price_version: app.ledger.price_version(), id };
        let order = read(&mut members, &desk)?;
        members.finish()?;
        command(order, key, &caller, context)
    };
    app.ledger.submit(command).await.map_err(|error| match error {
        Error::Refused(refusal) => Failure::refused(refusal, "", app.ledger.settings(), context.now),
        Error::Store(error) => Failure::Store(error),
    })
}

pub(super) fn command(
    order: Order,
    key: Option<String>,
    caller: &Caller,
    context: &RequestContext,
) -> Command {
    Command {
        target: order.target,
        action: order.action,
        actor: caller.actor(),
        request_id: Some(context.request_id.as_str().to_owned()),
        idempotency: key.map(|key| Idempotency { key, request: order.spelling }),
    }
}

/// `/api/credits/holds/{id}/capture`; ids have no letter that a URL would spell differently.
fn id_of(path: &str) -> &str {
    path.split('/').nth(4).unwrap_or("")
}

fn header_key(headers: &HeaderMap, key: Key) -> Result<Option<String>, Failure> {
    if key == Key::None {
        return Ok(None);
    }
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    match (given.next(), given.next()) {
        (None, _) if key == Key::Required => Err(Failure::missing(IDEMPOTENCY_FIELD)),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(Failure::invalid(IDEMPOTENCY_FIELD, "it stands twice")),
        (Some(given), None) => {
            let text = given.to_str().unwrap_or("");
            check_key(text).map_err(|message| Failure::invalid(IDEMPOTENCY_FIELD, message))?;
            Ok(Some(text.to_owned()))
        }
    }
}

pub(super) fn check_key(text: &str) -> Result<(), &'static str> {
    let visible = (1..=KEY_CHARS).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if visible { Ok(()) } else { Err("it must be 1 to 255 visible ASCII characters") }
}
