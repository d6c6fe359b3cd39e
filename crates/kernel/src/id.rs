//! Ids as types of their own, so that a session's id cannot stand where a user's belongs.

use crate::random;
use rand::CryptoRng;
use std::fmt;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// 32 letters and digits, as Better Auth's clients expect ids to look.
            pub fn new(rng: &mut impl CryptoRng) -> Self {
                $name(random::alphanumeric(rng, 32))
            }

            /// For ids that were stored or sent before; any text is an id, an unknown one finds nothing.
            pub fn from_text(text: impl Into<String>) -> Self {
                $name(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A user of the app.
    UserId
);
text_id!(
    /// A session's public id; knowing it opens nothing (the token does).
    SessionId
);
text_id!(
    /// A credential or provider account that belongs to a user.
    AccountId
);
text_id!(
    /// A passkey of a user.
    PasskeyId
);
text_id!(
    /// A visitor without an account.
    GuestId
);
text_id!(
    /// An organization that users belong to.
    OrganizationId
);
text_id!(
    /// A user's place in an organization.
    MemberId
);
text_id!(
    /// An invitation to an organization; its link holds it.
    InvitationId
);
text_id!(
    /// A team of an organization.
    TeamId
);
