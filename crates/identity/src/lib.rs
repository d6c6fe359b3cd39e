//! Who you are: users, their credentials and sessions, and the one-time values that prove an address.
//!
//! Every rule is a synchronous function over a [`store::Tx`]; the doors in `server` call them and turn outcomes into
//! HTTP. Time and chance come in as arguments.

pub mod accounts;
pub mod admin;
pub mod anonymous;
pub mod api_keys;
pub mod attempts;
pub mod authjs;
pub mod common_passwords;
pub mod deployment;
pub mod device_codes;
pub mod email;
pub mod hashing;
pub mod listing;
pub mod mailbox;
pub mod one_time;
pub mod organizations;
pub mod passkeys;
pub mod passwords;
pub mod providers;
pub mod second_factor;
pub mod service_keys;
pub mod sessions;
pub mod signing_keys;
pub mod usernames;
pub mod users;

pub use email::EmailAddress;
pub use hashing::HashPool;
pub use sessions::{LiveSession, Session, SessionView};
pub use users::{User, UserView};
