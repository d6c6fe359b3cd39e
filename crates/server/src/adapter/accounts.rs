//! Accounts at providers.

use super::given::{ANY_CHARS, ID_CHARS};
use super::refusal::Refusal;
use super::{Answered, Ask};
use crate::service::query::Query;
use identity::authjs::accounts::{self, AtProvider, Linked};
use kernel::{UserId, random};
use serde_json::Value;

pub(super) async fn link(ask: Ask) -> Answered {
    let given = ask.given()?;
    let user = UserId::from_text(given.text("userId", ID_CHARS)?);
    given.text("type", ID_CHARS)?;
    let (provider, account) = (given.text("provider", ID_CHARS)?, given.text("providerAccountId", ID_CHARS)?);
    for name in ["access_token", "refresh_token", "id_token"] {
        given.maybe(name, ANY_CHARS)?;
    }
    given.check(&["expires_at"], Value::is_number, "a number of seconds")?;
    let reserved = "this provider is reserved for passwords";
    let at = AtProvider::new(&provider, &account).ok_or_else(|| Refusal::invalid("provider", reserved))?;
    let (app, now, document) = (ask.app.clone(), ask.now, given.0.clone());
    let linked = ask.app.store.write(move |tx| -> Result<Linked, store::Error> {
        accounts::link(tx, &app.vault, &user, &at, &document, now, &mut random::secure())
    });
    match linked.await? {
        Linked::Done => Ok((201, Value::Object(given.0))),
        Linked::Taken => Err(Refusal::AccountExists),
        Linked::NoUser => Err(Refusal::UserNotFound),
    }
}

pub(super) async fn find(ask: Ask) -> Answered {
    let at = named(&ask)?;
    let app = ask.app.clone();
    let found = ask.app.store.read(move |tx| accounts::find(tx, &app.vault, &at));
    let (_, document) = found.await?.ok_or(Refusal::NotFound)?;
    Ok((200, Value::Object(document)))
}

pub(super) async fn unlink(ask: Ask) -> Answered {
    let at = named(&ask)?;
    let app = ask.app.clone();
    let gone = ask.app.store.write(move |tx| accounts::unlink(tx, &app.vault, &at));
    let (_, document) = gone.await?.ok_or(Refusal::NotFound)?;
    Ok((200, Value::Object(document)))
}

fn named(ask: &Ask) -> Result<AtProvider, Refusal> {
    let mut query = Query::read(&ask.uri);
    let (provider, account) = (query.text("provider")?, query.text("providerAccountId")?);
    query.finish()?;
    let missing = |name| Refusal::invalid(name, "it is required");
    let provider = provider.ok_or_else(|| missing("provider"))?;
    let account = account.ok_or_else(|| missing("providerAccountId"))?;
    AtProvider::new(&provider, &account).ok_or(Refusal::NotFound)
}
