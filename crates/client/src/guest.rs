//! Visitors without an account: who they are to Tollgate, and what they may still do.

use crate::credentials::{Cookies, SetCookies};
use crate::error::{Error, Misconfigured};
use crate::handle::Tollgate;
use crate::id::GuestId;
use crate::session::time_or_null;
use crate::wire::Question;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// A visitor who has Tollgate's guest cookie. The cookie comes from `POST /api/guest`, which the browser asks itself.
///
/// ```
/// fn left(pass: &tollgate_client::GuestPass) -> u64 {
///     pass.allowances.iter().map(|allowance| allowance.remaining).sum()
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct GuestPass {
    /// The same as long as the cookie lives, up to the sign-up.
    #[serde(rename = "guest_id")]
    pub id: GuestId,
    /// What this guest may do, action by action. The visitor's address is counted as well, so less may be left.
    pub allowances: Vec<Allowance>,
}

/// How often a guest may do something, and how often it has been done.
///
/// ```
/// fn told(allowance: &tollgate_client::Allowance) -> String {
///     format!("{} of {} left", allowance.remaining, allowance.limit)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Allowance {
    /// Its name in Tollgate's configuration.
    pub action: String,
    /// How often in 24 hours from the first time on.
    pub limit: u64,
    /// How often so far.
    pub used: u64,
    /// How often still.
    pub remaining: u64,
    /// When it begins anew; `None` before the first time.
    #[serde(deserialize_with = "time_or_null", serialize_with = "write_time")]
    pub resets_at: Option<SystemTime>,
}

fn write_time<S: serde::Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    let time = time.map(jiff::Timestamp::try_from).transpose().map_err(serde::ser::Error::custom)?;
    match time {
        Some(time) => serializer.collect_str(&format_args!("{time:.3}")),
        None => serializer.serialize_none(),
    }
}

impl Tollgate {
    /// The guest whose cookie this is, `None` if it is nobody's. Nothing is counted by asking.
    ///
    /// ```no_run
    /// # async fn example(tollgate: tollgate_client::Tollgate, headers: http::HeaderMap) -> Result<(), tollgate_client::Error> {
    /// if let Some(pass) = tollgate.guest(&headers).await? {
    ///     println!("guest {}", pass.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Misconfigured::NoGuests`] where guests are switched off, [`Error::Unavailable`].
    pub async fn guest(&self, cookies: impl Into<Cookies>) -> Result<Option<GuestPass>, Error> {
        Ok(self.look_at_guest(&cookies.into()).await?.0)
    }

    pub(crate) async fn look_at_guest(
        &self,
        cookies: &Cookies,
    ) -> Result<(Option<GuestPass>, SetCookies), Error> {
        if cookies.is_empty() {
            return Ok((None, SetCookies::default()));
        }
        let mut question = Question::get("/api/guest");
        cookies.write(&mut question.headers);
        let answer = self.ask(question).await?;
        let set_cookies = SetCookies::read(&answer.headers);
        if answer.status == StatusCode::OK {
            return Ok((Some(answer.json()?), set_cookies));
        }
        match answer.refusal() {
            Error::Refused(refusal) if refusal.code == "unauthenticated" => Ok((None, set_cookies)),
            Error::Refused(refusal) if refusal.code == "not_found" => Err(Misconfigured::NoGuests.into()),
            error => Err(error),
        }
    }
}
