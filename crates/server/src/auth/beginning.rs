//! Where sessions begin: one function for all ways to sign in, so that none forgets the guest or the anonymous user that
//! the browser was.

use super::endpoint::{Call, Reply};
use crate::app::App;
use crate::guest;
use gate::arrival::{Former, arrive};
use identity::anonymous::is_placeholder;
use identity::sessions::{self, NewSession};
use identity::users::{self, Standing};
use identity::{LiveSession, User};
use kernel::time::{DAY, HOUR};
use kernel::{GuestId, Millis, UserId, random};
use store::Tx;

/// A session that is not to be remembered lives a day, and is never extended.
const SHORT_LIFE: i64 = DAY;

/// What a session begun by a request is made of.
pub struct Beginning {
    session: NewSession,
    /// Whose credits the user takes over.
    guest: Option<GuestId>,
    /// The session that the browser had: when it is an anonymous user's, the user takes over from them.
    before: Option<String>,
    /// The anonymous user that the browser was when it went away to a provider, for one that comes back without its cookie.
    pub anonymous: Option<UserId>,
}

impl Beginning {
    pub fn of(call: &Call, remember: Option<bool>) -> Beginning {
        let lifetime =
            if remember == Some(false) { SHORT_LIFE } else { call.app.settings.session.expires_in };
        Beginning {
            session: NewSession {
                lifetime,
                ip_address: call.client.to_text(),
                user_agent: call.user_agent().to_string(),
            },
            guest: guest::presented(&call.app, &call.request.headers, call.now),
            before: call.presented.token.clone(),
            anonymous: None,
        }
    }

    /// For an administrator in a user's place: for an hour, and whoever the browser was before stays apart.
    pub fn in_place_of(call: &Call) -> Beginning {
        let of = Beginning::of(call, None);
        Beginning {
            session: NewSession { lifetime: HOUR, ..of.session },
            guest: None,
            before: None,
            anonymous: None,
        }
    }

    /// The anonymous user who becomes this one, if there is one.
    fn successor_of(
        &self,
        tx: &mut Tx<'_>,
        app: &App,
        user: &User,
        now: Millis,
    ) -> Result<Option<UserId>, store::Error> {
        if user.is_anonymous {
            return Ok(None);
        }
        let before = match &self.before {
            Some(token) => sessions::find_live(tx, &app.vault, token, now)?,
            None => None,
        };
        let before = before.map(|live| live.user).filter(|user| user.is_anonymous).map(|user| user.id);
        let Some(id) = before.or(self.anonymous.clone()) else { return Ok(None) };
        users::take_turn(tx, &id)?;
        // One who has moved to an address of their own can come back, and is not given away.
        let nobody = |user: &User| user.is_anonymous && is_placeholder(&user.email);
        Ok(users::by_id(tx, &id)?.filter(nobody).map(|user| user.id))
    }

    /// Comes last in its transaction. `new` is the address of a user who was made in the same one.
    pub fn begin(
        &self,
        tx: &mut Tx<'_>,
        app: &App,
        user: User,
        new: Option<&str>,
        now: Millis,
    ) -> Result<LiveSession, store::Error> {
        let anonymous = self.successor_of(tx, app, &user, now)?;
        let live = sessions::create(tx, &app.vault, user, &self.session, now, &mut random::secure())?;
        let who = (&live.user.id, new);
        let former = Former { guest: self.guest.as_ref(), anonymous: anonymous.as_ref() };
        arrive(tx, app.ledger.settings(), &app.vault, who, former, now)?;
        Ok(live)
    }
}

/// Whether a user may come in.
pub enum Entry {
    /// With the user as the row says now.
    Open(User),
    Banned,
    Gone,
}

/// Comes before [`Beginning::begin`] for a user who was there before: waits for the user's turn, reads the row again
/// and lifts a ban that has ended.
pub fn enter(tx: &mut Tx<'_>, id: &UserId, now: Millis) -> Result<Entry, store::Error> {
    users::take_turn(tx, id)?;
    let Some(mut user) = users::by_id(tx, id)? else { return Ok(Entry::Gone) };
    match user.standing(now) {
        Standing::Banned => return Ok(Entry::Banned),
        Standing::BanEnded => {
            users::unban(tx, id, now)?;
            (user.banned, user.ban_reason, user.ban_expires) = (false, None, None);
        }
        Standing::Good => {}
    }
    Ok(Entry::Open(user))
}

impl Reply {
    /// The browser is a user's now, and no guest's any more.
    pub fn forget_guest(self, call: &Call) -> Reply {
        self.cookies(guest::forgotten(&call.app, &call.request.headers))
    }
}
