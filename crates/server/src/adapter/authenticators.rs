//! Authenticators: keys of WebAuthn.

use super::given::{ANY_CHARS, ID_CHARS, LONG_CHARS};
use super::refusal::Refusal;
use super::{Answered, Ask};
use crate::service::query::Query;
use identity::authjs::Document;
use identity::authjs::authenticators::{self, Added};
use kernel::UserId;
use serde_json::Value;

/// WebAuthn counts in 32 bits.
const MAX_COUNTER: i64 = u32::MAX as i64;

pub(super) async fn create(ask: Ask) -> Answered {
    let given = ask.given()?;
    let credential = given.text("credentialID", LONG_CHARS)?;
    let user = UserId::from_text(given.text("userId", ID_CHARS)?);
    let counter = given.integer("counter", MAX_COUNTER)?;
    for name in ["providerAccountId", "credentialPublicKey", "credentialDeviceType", "transports"] {
        given.maybe(name, ANY_CHARS)?;
    }
    given.check(&["credentialBackedUp"], Value::is_boolean, "true or false")?;
    let (now, document) = (ask.now, given.0.clone());
    let added = ask.app.store.write(move |tx| -> Result<Added, store::Error> {
        authenticators::add(tx, &user, (&credential, counter), &document, now)
    });
    match added.await? {
        Added::Done => Ok((201, Value::Object(given.0))),
        Added::Taken => Err(Refusal::AuthenticatorExists),
        Added::NoUser => Err(Refusal::UserNotFound),
    }
}

pub(super) async fn list(ask: Ask) -> Answered {
    let mut query = Query::read(&ask.uri);
    let user = query.text("userId")?;
    query.finish()?;
    let user = UserId::from_text(user.ok_or_else(|| Refusal::invalid("userId", "it is required"))?);
    let found = ask.app.store.read(move |tx| authenticators::list(tx, &user));
    let found: Vec<Document> = found.await?;
    Ok((200, Value::Array(found.into_iter().map(Value::Object).collect())))
}

pub(super) async fn find(ask: Ask) -> Answered {
    let mut query = Query::read(&ask.uri);
    let credential = query.long_text("credentialID", LONG_CHARS)?;
    query.finish()?;
    let credential = credential.ok_or_else(|| Refusal::invalid("credentialID", "it is required"))?;
    let found = ask.app.store.read(move |tx| authenticators::find(tx, &credential));
    let found: Option<Document> = found.await?;
    Ok((200, Value::Object(found.ok_or(Refusal::NotFound)?)))
}

pub(super) async fn count(ask: Ask) -> Answered {
    let given = ask.given()?;
    let credential = given.text("credentialID", LONG_CHARS)?;
    let counter = given.integer("counter", MAX_COUNTER)?;
    let set = ask.app.store.write(move |tx| authenticators::set_counter(tx, &credential, counter));
    let set: Option<Document> = set.await?;
    Ok((200, Value::Object(set.ok_or(Refusal::NotFound)?)))
}
