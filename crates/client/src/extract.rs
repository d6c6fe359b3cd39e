//! What axum handlers take as arguments.

use crate::authorize::Authorized;
use crate::credentials::IdempotencyKey;
use crate::credits::{Account, Balance, Charge, Spent};
use crate::error::{Error, Refusal};
use crate::guest::{Allowance, GuestPass};
use crate::hold::Hold;
use crate::id::GuestId;
use crate::session::User;
use crate::visit::Visit;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::StatusCode;
use http::request::Parts;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Visit, Error> {
        Visit::of(&parts.extensions)
    }
}

/// 401 if nobody is signed in, 503 if it cannot be told.
impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<User, Error> {
        Visit::of(&parts.extensions)?.user().await
    }
}

/// `Option<User>` is `None` if nobody is signed in; if it cannot be told the answer is 503 all the same.
impl<S: Send + Sync> OptionalFromRequestParts<S> for User {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<User>, Error> {
        let session = Visit::of(&parts.extensions)?.session().await?;
        Ok(session.map(|session| session.user))
    }
}

/// Who is signed in, or nobody: for pages that both may see. If it cannot be told, the answer is 503 and not "nobody".
///
/// ```
/// use tollgate_client::MaybeUser;
///
/// async fn feed(MaybeUser(user): MaybeUser) -> String {
///     match user {
///         Some(user) => format!("Hello {}", user.name),
///         None => "Hello stranger".to_owned(),
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct MaybeUser(pub Option<User>);

impl<S: Send + Sync> FromRequestParts<S> for MaybeUser {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<MaybeUser, Error> {
        let user = <User as OptionalFromRequestParts<S>>::from_request_parts(parts, state).await?;
        Ok(MaybeUser(user))
    }
}

/// The credits of whoever is signed in; 401 and 503 as with [`User`]. Needs a service key with the scope `credits:write`.
///
/// **Under which key a charge is made**: the request's own `Idempotency-Key` if it has one, else a random one for each
/// call. Without the header a browser that sends its request twice pays twice. With it, the second request is *refused*
/// with 409 `conflict`, since it would have your handler do paid work again for nothing; only a charge that was refused may
/// be tried again under its key. One key stands for one charge and one hold: a handler that charges more than once uses
/// [`Credits::account`] with keys of its own, and one that keeps its results by key uses [`Credits::spend_or_recall`].
///
/// ```no_run
/// use tollgate_client::{Credits, Error};
///
/// async fn report(credits: Credits) -> Result<String, Error> {
///     let spent = credits.spend("report").await?;
///     Ok(format!("{} left", spent.available))
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Credits {
    user: User,
    account: Account,
    key: Option<IdempotencyKey>,
}

impl<S: Send + Sync> FromRequestParts<S> for Credits {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Credits, Error> {
        let visit = Visit::of(&parts.extensions)?;
        let user = visit.user().await?;
        let key = visit.idempotency_key()?;
        let account = visit.tollgate().account(user.id.clone());
        Ok(Credits { user, account, key })
    }
}

impl Credits {
    /// Whose they are.
    ///
    /// ```
    /// fn owner(credits: &tollgate_client::Credits) -> &str {
    ///     credits.user().id.as_str()
    /// }
    /// ```
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The account itself, for charges under keys of the handler's own.
    ///
    /// ```no_run
    /// use tollgate_client::{Credits, Error, IdempotencyKey};
    ///
    /// async fn buy(credits: Credits, order: IdempotencyKey) -> Result<(), Error> {
    ///     credits.account().spend(5, &order).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// What is there, in the first unit of Tollgate's configuration.
    ///
    /// ```no_run
    /// async fn left(credits: tollgate_client::Credits) -> Result<String, tollgate_client::Error> {
    ///     Ok(credits.balance().await?.available.to_string())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Account::balance`].
    pub async fn balance(&self) -> Result<Balance, Error> {
        self.account.balance(None).await
    }

    /// Takes credits. A repetition of a request that has paid is refused; see above.
    ///
    /// ```no_run
    /// use tollgate_client::{Charge, Credits, Error};
    ///
    /// async fn draw(credits: Credits) -> Result<(), Error> {
    ///     credits.spend(Charge::feature("image.generate").quantity(2)).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Account::spend`], and 409 `conflict` for a repetition.
    pub async fn spend(&self, charge: impl Into<Charge>) -> Result<Spent, Error> {
        let spent = self.spend_or_recall(charge).await?;
        if spent.replayed { Err(repeated("entry_id", spent.entry_id.as_str())) } else { Ok(spent) }
    }

    /// Takes credits, or recalls that they were taken under the request's own key: then [`Spent::replayed`] is true, and
    /// **the handler must answer with the result it has kept** and not work again.
    ///
    /// ```no_run
    /// use tollgate_client::{Credits, Error};
    ///
    /// async fn draw(credits: Credits) -> Result<String, Error> {
    ///     let spent = credits.spend_or_recall("image.generate").await?;
    ///     Ok(if spent.replayed { kept(spent.entry_id.as_str()) } else { drawn_and_kept(spent.entry_id.as_str()) })
    /// }
    /// # fn kept(_: &str) -> String { String::new() }
    /// # fn drawn_and_kept(_: &str) -> String { String::new() }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Account::spend`].
    pub async fn spend_or_recall(&self, charge: impl Into<Charge>) -> Result<Spent, Error> {
        self.account.spend(charge, &self.key()).await
    }

    /// Sets credits aside; see [`Hold`]. `expires_in`, 1 s to 24 h, is when the hold ends by itself. A repetition of a
    /// request that has made its hold is refused; see above.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tollgate_client::{Credits, Error};
    ///
    /// async fn draw(credits: Credits) -> Result<(), Error> {
    ///     let hold = credits.hold(60, Duration::from_secs(300)).await?;
    ///     hold.settle(45).await?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Account::hold`], and 409 `conflict` for a repetition.
    pub async fn hold(&self, charge: impl Into<Charge>, expires_in: Duration) -> Result<Hold, Error> {
        let hold = self.account.hold(charge, expires_in, &self.key()).await?;
        if !hold.replayed() {
            return Ok(hold);
        }
        let error = repeated("hold_id", hold.id().as_str());
        // The first request works with it.
        hold.disown();
        Err(error)
    }

    fn key(&self) -> IdempotencyKey {
        self.key.clone().unwrap_or_else(IdempotencyKey::random)
    }
}

fn repeated(member: &str, id: &str) -> Error {
    let message =
        "this was paid for before under the same Idempotency-Key; to have it done again, send a new key";
    Refusal::new(StatusCode::CONFLICT, "conflict", message).with(member, Value::from(id)).into()
}

/// A visitor without an account who has Tollgate's guest cookie; 401 without one, 503 if it cannot be told.
///
/// The app has to know where its visitors call from, since guests are counted by address too: serve it with
/// `into_make_service_with_connect_info::<SocketAddr>()`, and name the app in Tollgate's `trusted_proxies`. Needs a service
/// key with the scope `gate`.
///
/// ```no_run
/// use tollgate_client::{Error, Guest};
///
/// async fn try_out(guest: Guest) -> Result<String, Error> {
///     guest.act("generate").await?;
///     Ok("a picture".to_owned())
/// }
/// ```
#[derive(Clone)]
pub struct Guest {
    pass: GuestPass,
    visit: Visit,
}

impl<S: Send + Sync> FromRequestParts<S> for Guest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Guest, Error> {
        let guest = <Guest as OptionalFromRequestParts<S>>::from_request_parts(parts, state).await?;
        guest.ok_or_else(|| Refusal::unauthenticated("this is for guests, and the visitor is none").into())
    }
}

/// `Option<Guest>` is `None` for a visitor without the cookie.
impl<S: Send + Sync> OptionalFromRequestParts<S> for Guest {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Guest>, Error> {
        let visit = Visit::of(&parts.extensions)?;
        let pass = visit.guest().await?;
        Ok(pass.map(|pass| Guest { pass, visit }))
    }
}

impl Guest {
    /// The same as long as the cookie lives.
    ///
    /// ```
    /// fn name(guest: &tollgate_client::Guest) -> String {
    ///     format!("guest {}", guest.id())
    /// }
    /// ```
    pub fn id(&self) -> &GuestId {
        &self.pass.id
    }

    /// What may still be done, as it was when the request came.
    ///
    /// ```
    /// fn left(guest: &tollgate_client::Guest) -> u64 {
    ///     guest.allowances().iter().map(|allowance| allowance.remaining).sum()
    /// }
    /// ```
    pub fn allowances(&self) -> &[Allowance] {
        &self.pass.allowances
    }

    /// Counts the action, before it is done; what is left of its allowance. `None` if the visitor has signed in meanwhile
    /// and nothing had to be counted.
    ///
    /// ```no_run
    /// async fn draw(guest: tollgate_client::Guest) -> Result<String, tollgate_client::Error> {
    ///     let left = guest.act("generate").await?.map_or(0, |allowance| allowance.remaining);
    ///     Ok(format!("{left} left"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// 429 `guest_limit_reached` with `action`, `limit` and `resets_at`, 401 if the guest has become a user, 422 for an
    /// unknown action, 503.
    pub async fn act(&self, action: &str) -> Result<Option<Allowance>, Error> {
        let Authorized { allowance, .. } = self.visit.authorize().guest(action).send().await?;
        Ok(allowance)
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("id", &self.pass.id).finish_non_exhaustive()
    }
}
