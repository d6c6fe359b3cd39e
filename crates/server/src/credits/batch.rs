//! Many debits in one request. Each item has the status that the single call would have had.

use super::change::command;
use super::request::{self, Desk};
use crate::app::App;
use crate::edge::RequestContext;
use crate::service::idempotency::check_key;
use crate::service::json::{Json, Members};
use crate::service::{Caller, Failure, admit, body, context_of, json_response};
use axum::extract::{Request, State};
use axum::response::Response;
use credits::{Answer, Command};
use identity::service_keys::Scope;
use std::sync::Arc;

const BODY_BYTES: usize = 1024 * 1024;
const ITEMS: usize = 1_000;

/// An item's answer, or why it has none.
type Outcome = Result<Answer, Failure>;

pub(super) async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let context = context_of(&request);
    match steps(&app, request, &context).await {
        Ok(outcomes) => json_response(200, results(&outcomes, &context)),
        Err(failure) => failure.response(&context.request_id),
    }
}

async fn steps(app: &Arc<App>, request: Request, context: &RequestContext) -> Result<Vec<Outcome>, Failure> {
    let (parts, body) = request.into_parts();
    let caller = admit(app, &parts.headers, Scope::CreditsWrite, context).await?;
    let bytes = body::read(app, &parts.headers, body, BODY_BYTES).await?;
    let (items, atomic) = read(app, &bytes, &caller, context)?;
    if atomic && let Some(refused) = items.iter().position(Result::is_err) {
        let keep = |(at, item): (usize, Result<_, Failure>)| match item {
            Err(failure) if at == refused => Err(failure),
            _ => Err(nothing_done()),
        };
        return Ok(items.into_iter().enumerate().map(keep).collect());
    }
    let mut commands = Vec::with_capacity(items.len());
    let mut places = Vec::with_capacity(items.len());
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        outcomes.push(match item {
            Ok(command) => {
                commands.push(command);
                places.push(at);
                // Replaced by the ledger's answer.
                Err(nothing_done())
            }
            Err(failure) => Err(failure),
        });
    }
    let answers = app.ledger.submit_all(commands, atomic).await.map_err(Failure::Store)?;
    for (at, answer) in places.into_iter().zip(answers) {
        outcomes[at] = answer
            .map_err(|refusal| Failure::refused(refusal, &path_of(at), app.ledger.settings(), context.now));
    }
    Ok(outcomes)
}

fn nothing_done() -> Failure {
    let message = "another item of the batch was refused, so nothing was done".into();
    Failure::Conflict { message, refundable: None }
}

fn path_of(at: usize) -> String {
    format!("debits[{at}].")
}

type Items = Vec<Result<Command, Failure>>;

fn read(
    app: &App,
    bytes: &[u8],
    caller: &Caller,
    context: &RequestContext,
) -> Result<(Items, bool), Failure> {
    let mut members = Members::parse(bytes)?;
    let atomic = members.flag("atomic")?;
    let debits = members.list("debits")?;
    let debits = members.required("debits", debits)?;
    members.finish()?;
    if !(1..=ITEMS).contains(&debits.len()) {
        return Err(Failure::invalid("debits", format!("a batch has 1 to {ITEMS} items")));
    }
    let desk = Desk { settings: app.ledger.settings(), price_version: app.ledger.price_version(), id: "" };
    let item = |(at, json)| read_item(json, at, &desk, caller, context);
    Ok((debits.into_iter().enumerate().map(item).collect(), atomic))
}

fn read_item(
    json: Json<'_>,
    at: usize,
    desk: &Desk<'_>,
    caller: &Caller,
    context: &RequestContext,
) -> Result<Command, Failure> {
    let path = path_of(at);
    let mut members = Members::of(json, path.clone(), path.trim_end_matches('.'))?;
    let key = members.text("idempotency_key", usize::MAX)?;
    let key = members.required("idempotency_key", key)?;
    check_key(&key).map_err(|message| members.invalid("idempotency_key", message))?;
    let order = request::debit(&mut members, desk)?;
    members.finish()?;
    Ok(command(order, Some(key.into_owned()), caller, context))
}

fn results(outcomes: &[Outcome], context: &RequestContext) -> String {
    let mut out = String::with_capacity(outcomes.len() * 700 + 16);
    out.push_str("{\"results\":[");
    for (at, outcome) in outcomes.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let status = match outcome {
            Ok(answer) => answer.status,
            Err(failure) => failure.parts().0.as_u16(),
        };
        out.push_str("{\"status\":");
        out.push_str(&status.to_string());
        match outcome {
            Ok(answer) => {
                if answer.replayed {
                    out.push_str(",\"replayed\":true");
                }
                // The answer is an object with members of its own: they follow.
                out.push(',');
                out.push_str(&answer.body[1..]);
            }
            Err(failure) => {
                out.push_str(",\"error\":");
                out.push_str(&failure.body(&context.request_id).to_string());
                out.push('}');
            }
        }
    }
    out.push_str("]}");
    out
}
