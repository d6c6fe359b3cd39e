//! Users and sessions as clients see them: every member always there, null when empty, in the original's order.

use identity::{Session, User};
use kernel::Millis;
use serde::{Serialize, Serializer};

pub struct Instant(pub Millis);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.iso_text().as_str())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UserBody<'a> {
    name: &'a str,
    email: &'a str,
    email_verified: bool,
    image: Option<&'a str>,
    created_at: Instant,
    updated_at: Instant,
    username: Option<&'a str>,
    display_username: Option<&'a str>,
    two_factor_enabled: bool,
    is_anonymous: bool,
    role: Option<&'a str>,
    banned: bool,
    ban_reason: Option<&'a str>,
    ban_expires: Option<Instant>,
    id: &'a str,
}

impl<'a> From<&'a User> for UserBody<'a> {
    fn from(user: &'a User) -> Self {
        UserBody {
            name: &user.name,
            email: &user.email,
            email_verified: user.email_verified,
            image: user.image.as_deref(),
            created_at: Instant(user.created_at),
            updated_at: Instant(user.updated_at),
            username: user.username.as_deref(),
            display_username: user.display_username.as_deref(),
            two_factor_enabled: user.two_factor_enabled,
            is_anonymous: user.is_anonymous,
            role: user.role.as_deref(),
            banned: user.banned,
            ban_reason: user.ban_reason.as_deref(),
            ban_expires: user.ban_expires.map(Instant),
            id: user.id.as_str(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionBody<'a> {
    expires_at: Instant,
    token: &'a str,
    created_at: Instant,
    updated_at: Instant,
    ip_address: &'a str,
    user_agent: &'a str,
    user_id: &'a str,
    impersonated_by: Option<&'a str>,
    active_organization_id: Option<&'a str>,
    active_team_id: Option<&'a str>,
    id: &'a str,
}

impl<'a> SessionBody<'a> {
    pub fn new(session: &'a Session, token: &'a str) -> Self {
        SessionBody {
            expires_at: Instant(session.expires_at),
            token,
            created_at: Instant(session.created_at),
            updated_at: Instant(session.updated_at),
            ip_address: &session.ip_address,
            user_agent: &session.user_agent,
            user_id: session.user_id.as_str(),
            impersonated_by: session.impersonated_by.as_deref(),
            active_organization_id: session.active_organization_id.as_deref(),
            active_team_id: session.active_team_id.as_deref(),
            id: session.id.as_str(),
        }
    }
}

/// `{"session","user"}`, and `needsRefresh` where GET does not extend.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Both<'a> {
    pub session: SessionBody<'a>,
    pub user: UserBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_refresh: Option<bool>,
}
