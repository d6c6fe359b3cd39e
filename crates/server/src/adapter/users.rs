//! Users.

use super::given::{ANY_CHARS, Given, ID_CHARS};
use super::refusal::Refusal;
use super::{Answered, Ask, BASE};
use crate::app::App;
use crate::service::query::Query;
use gate::authjs::{self, Terms};
use gate::departure::delete_user;
use identity::authjs::Document;
use identity::authjs::users::{self as rules, Changed, Made, address};
use identity::{User, users};
use kernel::signed::decode_uri_component;
use kernel::{UserId, random};
use serde_json::Value;
use store::Tx;

/// Of an id that the app makes.
const OWN_ID_CHARS: usize = 128;
const ADDRESS_CHARS: usize = 320;

fn terms(app: &App) -> Terms<'_> {
    Terms { credits: app.ledger.settings(), after_proof: app.settings.email_password.require_verification }
}

pub(super) async fn create(ask: Ask) -> Answered {
    let given = ask.given()?;
    let id = match given.maybe("id", ID_CHARS)?.flatten() {
        Some(id) if is_id(&id) => Some(UserId::from_text(id)),
        Some(_) => return Err(Refusal::invalid("id", "it must be 1 to 128 letters, digits and -_.:|~@+=")),
        None => None,
    };
    let given = judged(given)?;
    let (app, now) = (ask.app.clone(), ask.now);
    let made = ask.app.store.write(move |tx| -> Result<Result<Document, Refusal>, store::Error> {
        let rng = &mut random::secure();
        match authjs::create_user(tx, terms(&app), &app.vault, id.clone(), &given, now, rng)? {
            Made::Done(user) => rules::document(tx, &user).map(Ok),
            Made::EmailTaken => Ok(Err(Refusal::EmailTaken)),
            Made::IdTaken => Ok(Err(Refusal::UserExists)),
        }
    });
    Ok((201, Value::Object(made.await??)))
}

pub(super) async fn by_id(ask: Ask) -> Answered {
    let id = id(&ask)?;
    found(ask, move |tx| users::by_id(tx, &id)).await
}

pub(super) async fn by_email(ask: Ask) -> Answered {
    let mut query = Query::read(&ask.uri);
    let email = query.long_text("email", ADDRESS_CHARS)?;
    query.finish()?;
    let email = email.ok_or_else(|| Refusal::invalid("email", "it is required"))?.to_lowercase();
    found(ask, move |tx| users::by_email(tx, &email)).await
}

pub(super) async fn by_account(ask: Ask) -> Answered {
    let mut query = Query::read(&ask.uri);
    let (provider, account) = (query.text("provider")?, query.text("providerAccountId")?);
    query.finish()?;
    let missing = |name| Refusal::invalid(name, "it is required");
    let provider = provider.ok_or_else(|| missing("provider"))?;
    let account = account.ok_or_else(|| missing("providerAccountId"))?;
    found(ask, move |tx| match rules::of_account(tx, &provider, &account)? {
        Some(id) => users::by_id(tx, &id),
        None => Ok(None),
    })
    .await
}

pub(super) async fn update(ask: Ask) -> Answered {
    let id = id(&ask)?;
    let given = judged(ask.given()?)?;
    let (app, now) = (ask.app.clone(), ask.now);
    let changed = ask.app.store.write(move |tx| -> Result<Result<Document, Refusal>, store::Error> {
        let rng = &mut random::secure();
        match authjs::update_user(tx, terms(&app), &app.vault, &id, &given, now, rng)? {
            Changed::Done { now: user, .. } => rules::document(tx, &user).map(Ok),
            Changed::NoUser => Ok(Err(Refusal::NotFound)),
            Changed::EmailTaken => Ok(Err(Refusal::EmailTaken)),
            Changed::TooLarge => Ok(Err(Refusal::invalid("user", "together its fields are too large"))),
        }
    });
    Ok((200, Value::Object(changed.await??)))
}

pub(super) async fn delete(ask: Ask) -> Answered {
    let id = id(&ask)?;
    let (app, now) = (ask.app.clone(), ask.now);
    let gone = ask.app.store.write(move |tx| -> Result<Option<Document>, store::Error> {
        users::take_turn(tx, &id)?;
        let Some(user) = users::by_id(tx, &id)? else { return Ok(None) };
        let document = rules::document(tx, &user)?;
        delete_user(tx, app.ledger.settings(), &id, now)?;
        Ok(Some(document))
    });
    Ok((200, Value::Object(gone.await?.ok_or(Refusal::NotFound)?)))
}

async fn found<F>(ask: Ask, find: F) -> Answered
where
    F: FnMut(&mut Tx<'_>) -> Result<Option<User>, store::Error> + Send + 'static,
{
    let mut find = find;
    let document = ask.app.store.read(move |tx| match find(tx)? {
        Some(user) => rules::document(tx, &user).map(Some),
        None => Ok::<_, store::Error>(None),
    });
    Ok((200, Value::Object(document.await?.ok_or(Refusal::NotFound)?)))
}

/// What stands behind `/users/`; a text that is nobody's id is not found like any other.
fn id(ask: &Ask) -> Result<UserId, Refusal> {
    let text = ask.uri.path().strip_prefix(BASE).and_then(|rest| rest.strip_prefix("/users/"));
    let text =
        text.and_then(decode_uri_component).filter(|text| text.len() <= ID_CHARS && !text.contains('\0'));
    text.map(|text| UserId::from_text(text.into_owned())).ok_or(Refusal::NotFound)
}

fn is_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:|~@+=".contains(&byte);
    (1..=OWN_ID_CHARS).contains(&text.len()) && text.bytes().all(fits)
}

fn judged(given: Given) -> Result<rules::Given, Refusal> {
    let mut given = given;
    let email = match given.maybe("email", ADDRESS_CHARS)? {
        None => None,
        Some(None) => Some(None),
        Some(Some(text)) => {
            let expected = "it must be one e-mail address";
            Some(Some(address(&text).ok_or_else(|| Refusal::invalid("email", expected))?))
        }
    };
    let (name, image) = (given.maybe("name", ANY_CHARS)?, given.maybe("image", ANY_CHARS)?);
    let verified = given.time("emailVerified")?.map(|at| at.is_some());
    let Given(mut document) = given;
    document.remove("id");
    Ok(rules::Given { email, name, image, verified, document })
}
