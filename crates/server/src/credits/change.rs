//! The steps of every change, in their order: service key, content type, body, idempotency key, owner, the ledger's rules.

use super::request::{Desk, Order};
use crate::app::App;
use crate::edge::RequestContext;
use crate::service::idempotency::{Key, header_key, mark_replay};
use crate::service::json::Members;
use crate::service::{Caller, Failure, admit, body, context_of, json_response};
use axum::extract::Request;
use axum::response::Response;
use credits::{Action, Answer, Command, Error, Idempotency, Owner, SpentBy, Target};
use identity::api_keys::{self, Holder};
use identity::organizations;
use identity::service_keys::Scope;
use kernel::{OrganizationId, UserId};
use std::sync::Arc;
use store::Tx;

const BODY_BYTES: usize = 64 * 1024;

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
        mark_replay(&mut response);
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
    check_spender(app, &command).await?;
    let is_transfer = matches!(command.action, Action::Transfer { .. });
    app.ledger.submit(command).await.map_err(|error| match error {
        Error::Refused(refusal) => {
            let failure = Failure::refused(refusal, "", app.ledger.settings(), context.now);
            name_member(failure, is_transfer)
        }
        Error::Store(error) => Failure::Store(error),
    })
}

/// Who gets a limit of its own must be somebody who can spend what the owner has. Taking a limit away needs nobody.
async fn check_spender(app: &Arc<App>, command: &Command) -> Result<(), Failure> {
    let (Action::SetLimit { of: Some(part), max: Some(_), .. }, Target::Owner { owner, .. }) =
        (&command.action, &command.target)
    else {
        return Ok(());
    };
    let (part, owner) = (part.clone(), owner.clone());
    let (what, field) = match &part {
        SpentBy::Key(_) => ("key", "key_id"),
        SpentBy::Member(_) => ("member", "member_user_id"),
    };
    match app.store.read(move |tx| can_spend(tx, &part, &owner)).await? {
        true => Ok(()),
        false => Err(Failure::NotFound { what, field: Some(field.into()) }),
    }
}

fn can_spend(tx: &mut Tx<'_>, part: &SpentBy, owner: &Owner) -> Result<bool, store::Error> {
    let holder = match part {
        SpentBy::Member(id) => Holder::User(UserId::from_text(id.as_str())),
        SpentBy::Key(id) => match api_keys::by_id(tx, id)? {
            Some(key) => key.holder,
            None => return Ok(false),
        },
    };
    match (owner, &holder) {
        (Owner::User(owner), Holder::User(user)) => {
            Ok(matches!(part, SpentBy::Key(_)) && user.as_str() == owner)
        }
        (Owner::Organization(owner), Holder::Organization(id)) => Ok(id.as_str() == owner),
        (Owner::Organization(owner), Holder::User(user)) => {
            let id = OrganizationId::from_text(owner.as_str());
            Ok(organizations::member_role(tx, &id, user)?.is_some())
        }
        _ => Ok(false),
    }
}

/// The ledger knows owners and entries; which member of the body named them is known here.
fn name_member(failure: Failure, is_transfer: bool) -> Failure {
    match failure {
        Failure::NotFound { what: "owner", field } if is_transfer && field.as_deref() != Some("to") => {
            Failure::NotFound { what: "owner", field: Some("from".into()) }
        }
        Failure::NotFound { what: "entry", .. } => {
            Failure::NotFound { what: "entry", field: Some("entry_id".into()) }
        }
        failure => failure,
    }
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
        idempotency: key.map(|key| Idempotency { key, request: order.spelling, scope: None }),
    }
}

/// `/api/credits/holds/{id}/capture`; ids have no letter that a URL would spell differently.
fn id_of(path: &str) -> &str {
    path.split('/').nth(4).unwrap_or("")
}
