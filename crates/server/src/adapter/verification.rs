//! Verification tokens: of links and codes that Auth.js mails. Each is used up once.

use super::given::LONG_CHARS;
use super::refusal::Refusal;
use super::{Answered, Ask};
use identity::one_time::foreign::{self, Taken};
use serde_json::{Value, json};

fn shown(identifier: &str, token: &str, expires: &str) -> Value {
    json!({ "identifier": identifier, "token": token, "expires": expires })
}

pub(super) async fn create(ask: Ask) -> Answered {
    let mut given = ask.given()?;
    let (identifier, token) = (given.text("identifier", LONG_CHARS)?, given.text("token", LONG_CHARS)?);
    let expires = given.time("expires")?.flatten();
    let expires = expires.ok_or_else(|| Refusal::invalid("expires", "it is required"))?;
    let answer = shown(&identifier, &token, &expires.iso());
    let (app, now) = (ask.app.clone(), ask.now);
    let kept =
        ask.app.store.write(move |tx| foreign::keep(tx, &app.vault, &identifier, &token, expires, now));
    let kept: Result<bool, store::Error> = kept.await;
    if kept? { Ok((201, answer)) } else { Err(Refusal::TokenExists) }
}

pub(super) async fn consume(ask: Ask) -> Answered {
    let given = ask.given()?;
    let token = given.text("token", LONG_CHARS)?;
    let identifier = given.maybe("identifier", LONG_CHARS)?.flatten();
    let (app, asked) = (ask.app.clone(), token.clone());
    let taken = ask.app.store.write(move |tx| foreign::take(tx, &app.vault, identifier.as_deref(), &asked));
    let taken: Option<Taken> = taken.await?;
    let Taken { identifier, expires_at } = taken.ok_or(Refusal::NotFound)?;
    Ok((200, shown(&identifier, &token, &expires_at.iso())))
}
