//! Who is signed in: the plain check of a visitor's cookies.

use crate::credentials::{Cookies, SetCookies};
use crate::error::{Error, Reason, Refusal, Unavailable};
use crate::handle::Tollgate;
use crate::id::{OrganizationId, SessionId, UserId};
use crate::wire::Question;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::SystemTime;

/// Somebody who is signed in.
///
/// `Debug` shows the id alone, since debug output ends in logs. As JSON it is
/// `{"user_id", "email", "name", "email_verified", "role"}`.
///
/// ```
/// fn greeting(user: &tollgate_client::User) -> String {
///     format!("Hello {}", user.name)
/// }
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct User {
    /// Never given to anybody else.
    #[serde(rename = "user_id")]
    pub id: UserId,
    /// In lower case. It may not be verified, and may change.
    pub email: String,
    /// As the user wrote it.
    pub name: String,
    /// Whether somebody who reads that mailbox has said so.
    pub email_verified: bool,
    /// One role, or several with commas between them; see [`User::has_role`].
    pub role: Option<String>,
}

impl User {
    /// Refuses with 403 `user_mismatch` who is somebody else: for routes that name a user.
    ///
    /// ```
    /// use axum::extract::Path;
    /// use tollgate_client::{Error, User, UserId};
    ///
    /// async fn files(Path(owner): Path<UserId>, user: User) -> Result<String, Error> {
    ///     user.must_be(&owner)?;
    ///     Ok(format!("the files of {owner}"))
    /// }
    /// ```
    pub fn must_be(&self, id: impl AsRef<str>) -> Result<(), Error> {
        if self.id.as_str() == id.as_ref() {
            return Ok(());
        }
        let message = "this belongs to another user";
        Err(Refusal::new(StatusCode::FORBIDDEN, "user_mismatch", message).into())
    }

    /// Whether the role is one of the user's.
    ///
    /// ```
    /// fn may_delete(user: &tollgate_client::User) -> bool {
    ///     user.has_role("admin") || user.has_role("moderator")
    /// }
    /// ```
    pub fn has_role(&self, role: &str) -> bool {
        let roles = self.role.as_deref().unwrap_or("").split(',').map(str::trim);
        !role.is_empty() && roles.into_iter().any(|own| own == role)
    }

    /// Refuses with 403 `forbidden` who does not have the role.
    ///
    /// ```
    /// async fn purge(user: tollgate_client::User) -> Result<(), tollgate_client::Error> {
    ///     user.must_have_role("admin")
    /// }
    /// ```
    pub fn must_have_role(&self, role: &str) -> Result<(), Error> {
        if self.has_role(role) {
            return Ok(());
        }
        let message = "this needs a role that you do not have";
        Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message).into())
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A session that was alive when it was asked for. Its token is not part of it.
///
/// ```
/// fn who(session: &tollgate_client::Session) -> &str {
///     session.user.id.as_str()
/// }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Session {
    /// Names the session in lists; it opens nothing.
    pub id: SessionId,
    /// Whose it is.
    pub user: User,
    /// When it ends unless it is prolonged or revoked before.
    pub expires_at: SystemTime,
    /// The organization that the user works for at the moment.
    pub active_organization_id: Option<OrganizationId>,
    /// The administrator who acts as this user.
    pub impersonated_by: Option<UserId>,
    /// To be passed on to the browser; nearly always empty.
    pub set_cookies: SetCookies,
}

/// What Tollgate said about some cookies: lines to pass on come with a session that was prolonged and with one that is over.
pub(crate) struct Checked {
    pub session: Option<Session>,
    pub set_cookies: SetCookies,
}

impl Tollgate {
    /// The session that the visitor's cookies open, `None` if they open none.
    ///
    /// Takes the headers of the request, or [`Cookies`]. Only the cookies are sent, no service key is needed, and Tollgate
    /// is asked each time; only for a visitor without any cookie there is nothing to ask. A session that is over by the
    /// time the answer is read is none.
    ///
    /// ```no_run
    /// # async fn example(headers: http::HeaderMap) -> Result<(), Box<dyn std::error::Error>> {
    /// use tollgate_client::Tollgate;
    ///
    /// let tollgate = Tollgate::new("http://127.0.0.1:8655")?;
    /// match tollgate.session(&headers).await? {
    ///     Some(session) => println!("{} is signed in", session.user.name),
    ///     None => println!("nobody is signed in"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and no other: whatever is not a clear answer says nothing about the visitor.
    pub async fn session(&self, cookies: impl Into<Cookies>) -> Result<Option<Session>, Error> {
        Ok(self.check(&cookies.into()).await?.session)
    }

    pub(crate) async fn check(&self, cookies: &Cookies) -> Result<Checked, Unavailable> {
        if cookies.is_empty() {
            return Ok(Checked { session: None, set_cookies: SetCookies::default() });
        }
        let mut question = Question::get("/api/auth/get-session");
        cookies.write(&mut question.headers);
        let answer = self.ask(question).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.unavailable());
        }
        let set_cookies = SetCookies::read(&answer.headers);
        let session = match answer.json::<Option<Body>>()? {
            Some(body) => body.session(set_cookies.clone(), wall_clock())?,
            None => None,
        };
        Ok(Checked { session, set_cookies })
    }
}

/// The clock of the app's machine. It judges nothing but whether an answer is stale: Tollgate's clock is the judge.
#[expect(
    clippy::disallowed_methods,
    reason = "an app hands no clock to a library that asks over the network"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[derive(Deserialize)]
struct Body {
    session: SessionBody,
    user: UserBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionBody {
    id: SessionId,
    user_id: UserId,
    #[serde(deserialize_with = "time")]
    expires_at: SystemTime,
    #[serde(default)]
    active_organization_id: Option<OrganizationId>,
    #[serde(default)]
    impersonated_by: Option<UserId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserBody {
    id: UserId,
    email: String,
    name: String,
    email_verified: bool,
    #[serde(default)]
    role: Option<String>,
}

impl Body {
    /// `None`: it is over. Tollgate never answers so; something in between that keeps answers would.
    fn session(self, set_cookies: SetCookies, now: SystemTime) -> Result<Option<Session>, Unavailable> {
        let (session, user) = (self.session, self.user);
        if user.id.as_str().is_empty() || user.id != session.user_id {
            return Err(Unavailable::new(Reason::NotUnderstood("the session is not the user's")));
        }
        if session.expires_at <= now {
            return Ok(None);
        }
        let UserBody { id, email, name, email_verified, role } = user;
        Ok(Some(Session {
            id: session.id,
            user: User { id, email, name, email_verified, role },
            expires_at: session.expires_at,
            active_organization_id: session.active_organization_id,
            impersonated_by: session.impersonated_by,
            set_cookies,
        }))
    }
}

/// RFC 3339, as it stands in every answer.
pub(crate) fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
    Ok(time.into())
}

/// The same where it may be null.
pub(crate) fn time_or_null<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SystemTime>, D::Error> {
    #[derive(Deserialize)]
    struct Time(#[serde(deserialize_with = "time")] SystemTime);
    Ok(Option::<Time>::deserialize(deserializer)?.map(|Time(time)| time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn body(text: &str) -> Option<Body> {
        serde_json::from_str(text).ok()
    }

    const ANSWER: &str = r#"{"session":{"expiresAt":"2030-01-01T00:00:00.000Z","token":"secret","userId":"u","id":"s"},
        "user":{"id":"u","name":"Ada","email":"ada@example.com","emailVerified":true,"role":"user, admin"}}"#;

    fn at(text: &str) -> SystemTime {
        text.parse::<jiff::Timestamp>().unwrap().into()
    }

    fn session(now: SystemTime) -> Option<Session> {
        body(ANSWER).unwrap().session(SetCookies::default(), now).unwrap()
    }

    #[test]
    fn a_session_ends_at_its_very_moment() {
        let end = at("2030-01-01T00:00:00Z");
        assert!(session(end - Duration::from_millis(1)).is_some());
        assert!(session(end).is_none());
        assert!(session(end + Duration::from_millis(1)).is_none());
    }

    #[test]
    fn roles_are_compared_whole() {
        let user = session(at("2029-01-01T00:00:00Z")).unwrap().user;
        assert!(user.has_role("admin") && user.has_role("user"));
        assert!(!user.has_role("adm") && !user.has_role("user, admin") && !user.has_role(""));
        assert!(user.must_have_role("admin").is_ok());
        assert_eq!(user.must_have_role("root").unwrap_err().code(), "forbidden");
    }

    #[test]
    fn whoever_is_somebody_else_is_a_mismatch() {
        let user = session(at("2029-01-01T00:00:00Z")).unwrap().user;
        assert!(user.must_be("u").is_ok() && user.must_be(UserId::new("u")).is_ok());
        for other in ["", "U", "u ", "v"] {
            let error = user.must_be(other).unwrap_err();
            assert_eq!((error.status(), error.code()), (StatusCode::FORBIDDEN, "user_mismatch"));
        }
    }

    #[test]
    fn a_session_of_somebody_else_is_not_understood() {
        let mixed = ANSWER.replace("\"userId\":\"u\"", "\"userId\":\"v\"");
        let answer = body(&mixed).unwrap().session(SetCookies::default(), at("2029-01-01T00:00:00Z"));
        assert!(answer.is_err());
        assert!(
            body("{}").is_none() && body("[]").is_none() && body(r#"{"session":null,"user":null}"#).is_none()
        );
    }
}
