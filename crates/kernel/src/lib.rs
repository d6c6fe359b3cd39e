//! What every other room stands on, without any I/O: time, chance, secrets, signed values, and the three judges of
//! hostile text (origins, redirect targets, client addresses). Everything here is a plain function or type that a test
//! can call.

pub mod address;
pub mod causes;
pub mod cookie;
pub mod id;
pub mod origin;
pub mod random;
pub mod redirect;
pub mod secret;
pub mod signed;
pub mod time;
pub mod vault;

pub use address::{ClientAddress, TrustedProxies};
pub use causes::causes;
pub use id::{
    AccountId, GuestId, InvitationId, MemberId, OrganizationId, PasskeyId, SessionId, TeamId, UserId,
};
pub use origin::TrustedOrigins;
pub use secret::{Secret, Secrets};
pub use time::{Clock, Millis, Stopwatch, SystemClock};
pub use vault::Vault;
