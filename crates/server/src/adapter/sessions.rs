//! Sessions. Their tokens travel in bodies, never in addresses that are logged on the way.

use super::given::{Given, ID_CHARS, LONG_CHARS};
use super::refusal::Refusal;
use super::{Answered, Ask};
use identity::authjs::sessions::{self, Begun, Kept};
use identity::authjs::users;
use kernel::{Millis, UserId, random};
use serde_json::{Value, json};

fn shown(token: &str, kept: &Kept) -> Value {
    json!({ "sessionToken": token, "userId": kept.user_id.as_str(), "expires": kept.expires_at.iso() })
}

fn token(given: &Given) -> Result<String, Refusal> {
    given.text("sessionToken", LONG_CHARS)
}

fn expires(given: &mut Given) -> Result<Option<Millis>, Refusal> {
    Ok(given.time("expires")?.flatten())
}

fn refused(begun: Begun) -> Refusal {
    match begun {
        Begun::Banned => Refusal::Banned,
        Begun::NoUser => Refusal::UserNotFound,
        Begun::Done | Begun::Taken => Refusal::SessionExists,
    }
}

pub(super) async fn create(ask: Ask) -> Answered {
    let mut given = ask.given()?;
    let token = token(&given)?;
    let user_id = UserId::from_text(given.text("userId", ID_CHARS)?);
    let expires_at = expires(&mut given)?.ok_or_else(|| Refusal::invalid("expires", "it is required"))?;
    let kept = Kept { user_id, expires_at };
    let answer = shown(&token, &kept);
    let (app, now) = (ask.app.clone(), ask.now);
    let begun = ask.app.store.write(move |tx| -> Result<Begun, store::Error> {
        sessions::begin(tx, &app.vault, &token, &kept, now, &mut random::secure())
    });
    match begun.await? {
        Begun::Done => Ok((201, answer)),
        begun => Err(refused(begun)),
    }
}

pub(super) async fn look(ask: Ask) -> Answered {
    let token = token(&ask.given()?)?;
    let app = ask.app.clone();
    let found = ask.app.store.read(move |tx| -> Result<Option<Value>, store::Error> {
        let see = |session: identity::SessionView<'_>, user: identity::UserView<'_>| {
            let kept = Kept { user_id: UserId::from_text(session.user_id), expires_at: session.expires_at };
            (kept, user.to_user())
        };
        let Some((kept, user)) = sessions::look(tx, &app.vault, &token, see)? else { return Ok(None) };
        let user = users::document(tx, &user)?;
        Ok(Some(json!({ "session": shown(&token, &kept), "user": user })))
    });
    Ok((200, found.await?.ok_or(Refusal::NotFound)?))
}

pub(super) async fn update(ask: Ask) -> Answered {
    let mut given = ask.given()?;
    let token = token(&given)?;
    let expires = expires(&mut given)?;
    let user = given.maybe("userId", ID_CHARS)?.flatten().map(UserId::from_text);
    let (app, now, asked) = (ask.app.clone(), ask.now, token.clone());
    let updated = ask
        .app
        .store
        .write(move |tx| sessions::update(tx, &app.vault, &asked, (expires, user.as_ref()), now));
    let updated: Result<Result<Option<Kept>, Begun>, store::Error> = updated.await;
    let kept = updated?.map_err(refused)?.ok_or(Refusal::NotFound)?;
    Ok((200, shown(&token, &kept)))
}

pub(super) async fn delete(ask: Ask) -> Answered {
    let token = token(&ask.given()?)?;
    let (app, asked) = (ask.app.clone(), token.clone());
    let ended = ask.app.store.write(move |tx| sessions::end(tx, &app.vault, &asked));
    let kept: Option<Kept> = ended.await?;
    Ok((200, shown(&token, &kept.ok_or(Refusal::NotFound)?)))
}
