//! Users as an app with Auth.js sees them: the same users as everywhere, with the fields that the app gave them.

use super::Document;
use crate::email::EmailAddress;
use crate::users::{self, EmailChange, NewUser, User};
use crate::{anonymous, one_time};
use kernel::{Millis, UserId};
use rand::CryptoRng;
use serde_json::Value;
use store::{Error, Tx, params};

const DOCUMENT: &str = "SELECT document FROM authjs_users WHERE user_id = $1";
const KEEP: &str = "
    INSERT INTO authjs_users (user_id, document) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET document = EXCLUDED.document";
const BY_ACCOUNT: &str = "
    SELECT user_id FROM accounts WHERE provider_id = $1 AND account_id = $2 AND provider_id <> 'credential'";

/// Of everything that an app keeps with a user.
pub const MAX_DOCUMENT: usize = 64 * 1024;
const MAX_ADDRESS: usize = 320;

/// An address as an app gives it. Auth.js leaves the judging to the app, so more is taken here than at our own sign-up, but
/// nothing that a mail program could read as two mailboxes.
pub fn address(text: &str) -> Option<EmailAddress> {
    let (local, domain) = text.split_once('@')?;
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !",;:<>()[]\"\\@＠﹫".contains(c);
    let good = !local.is_empty() && !domain.is_empty() && text.len() <= MAX_ADDRESS;
    let good = good && local.chars().all(plain) && domain.chars().all(plain);
    good.then(|| EmailAddress::from_stored(text.to_lowercase()))
}

/// What an app sets; `document` has it as it was sent.
#[derive(Debug, Clone)]
pub struct Given {
    /// Inner `None`: cleared. The same below.
    pub email: Option<Option<EmailAddress>>,
    pub name: Option<Option<String>>,
    pub image: Option<Option<String>>,
    pub verified: Option<bool>,
    pub document: Document,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Made {
    Done(User),
    EmailTaken,
    IdTaken,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    Done {
        before: User,
        now: User,
    },
    NoUser,
    EmailTaken,
    /// There is no room for more.
    TooLarge,
}

pub fn create(
    tx: &mut Tx<'_>,
    id: Option<UserId>,
    given: &Given,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Made, Error> {
    let new = NewUser {
        name: given.name.clone().flatten().unwrap_or_default(),
        email: given.email.clone().flatten().unwrap_or_else(|| anonymous::placeholder(rng)),
        email_verified: given.verified == Some(true),
        image: given.image.clone().flatten(),
        role: "user".into(),
    };
    let fresh = User::fresh(&new, now, rng);
    let user = User { id: id.unwrap_or_else(|| fresh.id.clone()), ..fresh };
    if !users::insert(tx, &user, now)? {
        let is_address = users::by_email(tx, &user.email)?.is_some();
        return Ok(if is_address { Made::EmailTaken } else { Made::IdTaken });
    }
    keep(tx, &user.id, &given.document)?;
    Ok(Made::Done(user))
}

/// What is not named stays. In the user's turn.
pub fn update(
    tx: &mut Tx<'_>,
    id: &UserId,
    given: &Given,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Changed, Error> {
    users::take_turn(tx, id)?;
    let Some(before) = users::by_id(tx, id)? else { return Ok(Changed::NoUser) };
    let mut document = document(tx, &before)?;
    document.extend(given.document.clone());
    if serde_json::to_string(&document).is_ok_and(|text| text.len() > MAX_DOCUMENT) {
        return Ok(Changed::TooLarge);
    }
    if let Some(email) = &given.email {
        let has_none = anonymous::is_placeholder(&before.email);
        let new = match email {
            Some(email) => email.clone(),
            None if has_none => EmailAddress::from_stored(before.email.clone()),
            None => anonymous::placeholder(rng),
        };
        if new.as_str() != before.email {
            if users::change_email(tx, id, &before.email, &new, now)? == EmailChange::Refused {
                return Ok(Changed::EmailTaken);
            }
            // What was mailed to the old address opens nothing any more.
            one_time::forget_links(tx, id.as_str())?;
            // That the old one was proven says nothing of the new one.
            users::set_verified(tx, id, given.verified == Some(true), now)?;
        }
    }
    if let Some(name) = &given.name {
        users::set_name(tx, id, name.as_deref().unwrap_or(""), now)?;
    }
    if let Some(image) = &given.image {
        users::set_image(tx, id, image.as_deref(), now)?;
    }
    if let Some(verified) = given.verified {
        users::set_verified(tx, id, verified, now)?;
    }
    keep(tx, id, &document)?;
    Ok(match users::by_id(tx, id)? {
        Some(now) => Changed::Done { before, now },
        None => Changed::NoUser,
    })
}

fn keep(tx: &mut Tx<'_>, id: &UserId, document: &Document) -> Result<(), Error> {
    let text = serde_json::to_string(document).map_err(|error| Error::Fault(error.to_string()))?;
    tx.execute(KEEP, params![id.as_str(), &text]).map(|_| ())
}

/// The user as the app gave it, with whatever was changed at another door meanwhile.
pub fn document(tx: &mut Tx<'_>, user: &User) -> Result<Document, Error> {
    let kept = tx.query_opt(DOCUMENT, params![user.id.as_str()], |row| row.get::<String>(0))?;
    let kept = match kept {
        Some(text) => Some(serde_json::from_str(&text).map_err(|error| Error::Fault(error.to_string()))?),
        None => None,
    };
    Ok(overlaid(kept, user))
}

pub fn of_account(tx: &mut Tx<'_>, provider: &str, account: &str) -> Result<Option<UserId>, Error> {
    tx.query_opt(BY_ACCOUNT, params![provider, account], |row| Ok(UserId::from_text(row.text(0)?)))
}

fn overlaid(kept: Option<Document>, user: &User) -> Document {
    let nothing = || ["name", "email", "emailVerified", "image"].map(|name| (name.to_owned(), Value::Null));
    let mut document = kept.unwrap_or_else(|| nothing().into_iter().collect());
    let text =
        |document: &Document, name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
    if text(&document, "name").unwrap_or_default() != user.name {
        document.insert("name".into(), user.name.as_str().into());
    }
    let has_email = !anonymous::is_placeholder(&user.email);
    let shown = text(&document, "email").map(|email| email.to_lowercase());
    if shown.as_deref() != has_email.then_some(user.email.as_str()) {
        document.insert("email".into(), if has_email { user.email.as_str().into() } else { Value::Null });
    }
    if text(&document, "image") != user.image {
        document.insert("image".into(), user.image.as_deref().into());
    }
    // Other doors note that an address was proven, not when.
    if text(&document, "emailVerified").is_some() != user.email_verified {
        let at = user.email_verified.then(|| user.updated_at.iso());
        document.insert("emailVerified".into(), at.into());
    }
    document.insert("id".into(), user.id.as_str().into());
    document
}
