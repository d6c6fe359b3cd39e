//! Users and sessions as clients see them: every member always there, null when empty, in the original's order.

use identity::{SessionView, User, UserView};
use kernel::Millis;
use serde::{Serialize, Serializer};
use std::ops::Range;

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
        user.view().into()
    }
}

impl<'a> From<UserView<'a>> for UserBody<'a> {
    fn from(user: UserView<'a>) -> Self {
        UserBody {
            name: user.name,
            email: user.email,
            email_verified: user.email_verified,
            image: user.image,
            created_at: Instant(user.created_at),
            updated_at: Instant(user.updated_at),
            username: user.username,
            display_username: user.display_username,
            two_factor_enabled: user.two_factor_enabled,
            is_anonymous: user.is_anonymous,
            role: user.role,
            banned: user.banned,
            ban_reason: user.ban_reason,
            ban_expires: user.ban_expires.map(Instant),
            id: user.id,
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
    pub fn new(session: SessionView<'a>, token: &'a str) -> Self {
        SessionBody {
            expires_at: Instant(session.expires_at),
            token,
            created_at: Instant(session.created_at),
            updated_at: Instant(session.updated_at),
            ip_address: session.ip_address,
            user_agent: session.user_agent,
            user_id: session.user_id,
            impersonated_by: session.impersonated_by,
            active_organization_id: session.active_organization_id,
            active_team_id: session.active_team_id,
            id: session.id,
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

/// Writes [`Both`] for session checks: the same bytes as its `Serialize`, which a test compares, at a third of the
/// instructions (serde looks at every byte of every name and value; names need no look, and values a quicker one).
impl Both<'_> {
    pub fn to_bytes(&self) -> Written {
        // A user and a session take some 750 bytes.
        let mut out = Writer(Vec::with_capacity(1_024));
        out.raw("{\"session\":{");
        let session = &self.session;
        out.instant("\"expiresAt\":", Some(&session.expires_at));
        out.text(",\"token\":", Some(session.token));
        out.instant(",\"createdAt\":", Some(&session.created_at));
        out.instant(",\"updatedAt\":", Some(&session.updated_at));
        out.text(",\"ipAddress\":", Some(session.ip_address));
        out.text(",\"userAgent\":", Some(session.user_agent));
        out.text(",\"userId\":", Some(session.user_id));
        out.text(",\"impersonatedBy\":", session.impersonated_by);
        out.text(",\"activeOrganizationId\":", session.active_organization_id);
        out.text(",\"activeTeamId\":", session.active_team_id);
        out.text(",\"id\":", Some(session.id));
        out.raw("},\"user\":{");
        let from = out.0.len();
        self.user.write_members(&mut out);
        let user = from..out.0.len();
        out.raw("}");
        if let Some(flag) = self.needs_refresh {
            out.flag(",\"needsRefresh\":", flag);
        }
        out.raw("}");
        Written { bytes: out.0, user }
    }
}

/// An answer, and where between its braces the user's members stand.
pub struct Written {
    pub bytes: Vec<u8>,
    pub user: Range<usize>,
}

impl UserBody<'_> {
    /// What stands between the braces.
    pub fn members(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(768));
        self.write_members(&mut out);
        out.0
    }

    fn write_members(&self, out: &mut Writer) {
        let user = self;
        out.text("\"name\":", Some(user.name));
        out.text(",\"email\":", Some(user.email));
        out.flag(",\"emailVerified\":", user.email_verified);
        out.text(",\"image\":", user.image);
        out.instant(",\"createdAt\":", Some(&user.created_at));
        out.instant(",\"updatedAt\":", Some(&user.updated_at));
        out.text(",\"username\":", user.username);
        out.text(",\"displayUsername\":", user.display_username);
        out.flag(",\"twoFactorEnabled\":", user.two_factor_enabled);
        out.flag(",\"isAnonymous\":", user.is_anonymous);
        out.text(",\"role\":", user.role);
        out.flag(",\"banned\":", user.banned);
        out.text(",\"banReason\":", user.ban_reason);
        out.instant(",\"banExpires\":", user.ban_expires.as_ref());
        out.text(",\"id\":", Some(user.id));
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        self.raw(name);
        let Some(value) = value else { return self.raw("null") };
        // Whole, without a way out of the loop, so that the compiler looks at many bytes at once.
        let plain = value.bytes().fold(true, |plain, b| plain & (b >= 0x20) & (b != b'"') & (b != b'\\'));
        if plain {
            self.raw("\"");
            self.raw(value);
            self.raw("\"");
        } else {
            serde_json::to_writer(&mut self.0, value).expect("a text can be written to memory");
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.raw(name);
        self.raw(if value { "true" } else { "false" });
    }

    fn instant(&mut self, name: &str, value: Option<&Instant>) {
        self.raw(name);
        let Some(Instant(at)) = value else { return self.raw("null") };
        self.raw("\"");
        self.raw(at.iso_text().as_str());
        self.raw("\"");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use identity::Session;
    use kernel::{SessionId, UserId};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_ways_of_writing_give_the_same_bytes(
            texts in proptest::collection::vec("\\PC{0,12}|[\"\\\\\u{0}-\u{1f}é]{0,6}", 12),
            somes in any::<[bool; 8]>(),
            flags in any::<[bool; 4]>(),
            times in any::<[i64; 6]>(),
            needs_refresh in any::<Option<bool>>(),
        ) {
            let maybe = |at: usize, text: usize| somes[at].then(|| texts[text].clone());
            let session = Session {
                id: SessionId::from_text(texts[0].as_str()),
                user_id: UserId::from_text(texts[1].as_str()),
                expires_at: Millis(times[0]),
                created_at: Millis(times[1]),
                updated_at: Millis(times[2]),
                ip_address: texts[2].clone(),
                user_agent: texts[3].clone(),
                impersonated_by: maybe(0, 4),
                active_organization_id: maybe(1, 5),
                active_team_id: maybe(2, 6),
            };
            let user = User {
                id: UserId::from_text(texts[1].as_str()),
                name: texts[7].clone(),
                email: texts[8].clone(),
                email_verified: flags[0],
                image: maybe(3, 9),
                created_at: Millis(times[3]),
                updated_at: Millis(times[4]),
                username: maybe(4, 10),
                display_username: maybe(5, 11),
                two_factor_enabled: flags[1],
                is_anonymous: flags[2],
                role: maybe(6, 0),
                banned: flags[3],
                ban_reason: maybe(7, 2),
                ban_expires: somes[0].then_some(Millis(times[5])),
            };
            let both = Both { session: SessionBody::new(session.view(), &texts[4]), user: (&user).into(), needs_refresh };
            let written = both.to_bytes();
            let members = format!("{{{}}}", String::from_utf8(written.bytes[written.user].to_vec()).unwrap());
            prop_assert_eq!(members, serde_json::to_string(&both.user).unwrap());
            prop_assert_eq!(String::from_utf8(both.to_bytes().bytes).unwrap(), serde_json::to_string(&both).unwrap());
        }
    }
}
