//! Coming in by a mailbox: one way for links and codes, which both prove that it can be read.

use super::beginning::{Beginning, Entry, enter};
use super::cookies::Keep;
use super::endpoint::Grant;
use crate::app::App;
use gate::departure::{Revocation, tell_revoked};
use identity::users::{self, NewUser};
use identity::{EmailAddress, LiveSession, User, mailbox};
use kernel::{Millis, random};
use serde::{Deserialize, Serialize};
use store::Tx;

/// What a person is called who was not known before.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Newcomer {
    pub name: String,
    #[serde(default)]
    pub image: Option<String>,
}

pub enum CameIn {
    New(Box<LiveSession>),
    Known(Box<LiveSession>),
    Banned,
    /// Nobody has the address, and new users do not come this way.
    Closed,
}

/// Whether somebody without an account may make one by a mail.
pub fn takes_new(app: &App) -> bool {
    app.settings.email_password.sign_up
}

/// Opens a session for the owner of a mailbox, who is made a user where there is none. Comes last in its transaction.
pub fn come_in(
    tx: &mut Tx<'_>,
    app: &App,
    beginning: &Beginning,
    email: &EmailAddress,
    newcomer: &Newcomer,
    now: Millis,
) -> Result<CameIn, store::Error> {
    let mut known = users::by_email(tx, email.as_str())?;
    if known.is_none() && takes_new(app) {
        let new = NewUser {
            name: newcomer.name.clone(),
            email: email.clone(),
            email_verified: true,
            image: newcomer.image.clone(),
            role: "user".into(),
        };
        if let Some(user) = users::create(tx, &new, now, &mut random::secure())? {
            gate::arrival::tell_created(tx, &user, now)?;
            let live = beginning.begin(tx, app, user, Some(email.as_str()), now)?;
            return Ok(CameIn::New(Box::new(live)));
        }
        // Somebody took the address between the two statements.
        known = users::by_email(tx, email.as_str())?;
    }
    let Some(known) = known else { return Ok(CameIn::Closed) };
    let mut user = match enter(tx, &known.id, now)? {
        Entry::Open(user) if user.email == email.as_str() => user,
        Entry::Banned => return Ok(CameIn::Banned),
        Entry::Open(_) | Entry::Gone => return Ok(CameIn::Closed),
    };
    let welcome = claim(tx, app, &mut user, now)?;
    let live = beginning.begin(tx, app, user, welcome.as_deref(), now)?;
    Ok(CameIn::Known(Box::new(live)))
}

/// The mailbox of a user can be read. Gives the address when the user is to be welcomed for having proven it.
pub fn claim(
    tx: &mut Tx<'_>,
    app: &App,
    user: &mut User,
    now: Millis,
) -> Result<Option<String>, store::Error> {
    let Some(ended) = mailbox::claim(tx, user, now)? else { return Ok(None) };
    tell_revoked(tx, &user.id, &ended, Revocation::AddressClaimed, now)?;
    Ok(app.settings.email_password.require_verification.then(|| user.email.clone()))
}

/// The session as the browser is to keep it.
pub fn grant(live: &LiveSession, method: Option<&'static str>) -> Grant {
    Grant { token: live.token.clone(), user: live.user.id.clone(), keep: Some(Keep::Remember), method }
}
