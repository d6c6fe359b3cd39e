//! The session of somebody whom a provider has vouched for.

use super::super::beginning::{Beginning, Entry, enter};
use super::super::verify_email;
use crate::app::App;
use identity::EmailAddress;
use identity::LiveSession;
use identity::providers::{Arrived, Incoming, Kept, Terms, linking};
use kernel::{Millis, random};
use oidc::{Profile, Provider, Tokens};
use store::Tx;

pub enum CameIn {
    In { live: Box<LiveSession>, new: bool },
    NotLinked,
    SignUpDisabled,
    Banned,
}

/// As the rules know somebody; `None` without an address that mails could go to.
pub fn incoming(provider: &Provider, profile: Profile, tokens: Tokens) -> Option<Incoming> {
    Some(Incoming {
        provider: provider.settings.id.to_owned(),
        subject: profile.subject,
        email: EmailAddress::parse(&profile.email?)?,
        email_verified: profile.email_verified,
        name: profile.name.unwrap_or_default(),
        image: profile.image,
        tokens: Kept {
            access: tokens.access,
            refresh: tokens.refresh,
            id: tokens.id,
            access_ends: tokens.access_ends,
            refresh_ends: tokens.refresh_ends,
        },
        scopes: tokens.scopes,
    })
}

/// What is agreed with the provider; `asked` is the app's word that new people may come.
pub fn terms(provider: &Provider, asked: bool) -> Terms {
    let settings = &provider.settings;
    Terms { trusted: settings.trusted, sign_up: settings.sign_up && (settings.implicit_sign_up || asked) }
}

/// Finds or makes the user, and begins the session.
pub fn come_in(
    tx: &mut Tx<'_>,
    app: &App,
    (incoming, terms): (&Incoming, Terms),
    beginning: &Beginning,
    callback: Option<&str>,
    now: Millis,
) -> Result<CameIn, store::Error> {
    match linking::arrive(tx, &app.vault, incoming, terms, now, &mut random::secure())? {
        Arrived::Known(user) => match enter(tx, &user.id, now)? {
            Entry::Open(user) => {
                let live = beginning.begin(tx, app, user, None, now)?;
                Ok(CameIn::In { live: Box::new(live), new: false })
            }
            Entry::Banned => Ok(CameIn::Banned),
            // Deleted at this moment: nobody's any more.
            Entry::Gone => Ok(CameIn::NotLinked),
        },
        Arrived::New(user) => {
            gate::arrival::tell_created(tx, &user, now)?;
            let email = user.email.clone();
            // The grant waits for the proof where one is asked for: addresses that nobody reads must not be worth anything.
            let unproven = app.settings.email_password.require_verification && !user.email_verified;
            if unproven {
                verify_email::send_link(tx, app, &user, callback, now)?;
            }
            let live = beginning.begin(tx, app, user, (!unproven).then_some(email.as_str()), now)?;
            Ok(CameIn::In { live: Box::new(live), new: true })
        }
        Arrived::NotLinked => Ok(CameIn::NotLinked),
        Arrived::SignUpDisabled => Ok(CameIn::SignUpDisabled),
        Arrived::Banned => Ok(CameIn::Banned),
    }
}
