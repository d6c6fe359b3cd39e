//! Ids as types, so that no user is taken for an organization.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = concat!("The id of ", $what, ".\n\n```\nuse tollgate_client::", stringify!($name), ";\n\n")]
        #[doc = concat!("let id = ", stringify!($name), "::new(\"k3pQ\");\nassert_eq!(id.as_str(), \"k3pQ\");\n")]
        #[doc = "assert_eq!(id.to_string(), \"k3pQ\");\n```"]
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            #[doc = "From the text that stands in an answer, a path or the app's own tables."]
            pub fn new(text: impl Into<String>) -> $name {
                $name(text.into())
            }

            #[doc = "The id as text."]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                $name::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> $name {
                $name(text)
            }
        }

        impl From<&$name> for $name {
            fn from(id: &$name) -> $name {
                id.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(UserId, "a user");
id!(OrganizationId, "an organization");
id!(GuestId, "a visitor without an account");
id!(SessionId, "a session; it opens nothing, the token does");
id!(HoldId, "a hold");
id!(EntryId, "an entry of the ledger");
