//! Outgoing events: an app's backend is told what happened, signed as [Standard Webhooks](https://www.standardwebhooks.com) say.
//!
//! Whoever changes something calls [`tell`] in the same transaction, so that the event and the change stand or fall
//! together. It writes the event and a delivery for each endpoint that wants it; the [`Postman`] leases what is due and
//! delivers it, outside any transaction, at least once.

mod deliveries;
mod endpoints;
mod event;
mod overview;
mod postman;
mod reach;
mod schedule;
mod signature;
mod wire;

pub use deliveries::{Filter, Logged, Place, Resend, State, find_event, log, resend, sweep};
pub use endpoints::{BadUrl, Endpoint, Wanted, add, enable, find, first_since, list, remove, target};
pub use event::{Kind, Origin, forget, mark, set_mark, tell, tell_once};
pub use overview::{Load, load};
pub use postman::Postman;
pub use reach::Reach;
pub use signature::{Wrong, verify};
