//! How money comes in: the catalogue, Stripe, the inbox of its events, and what a payment is worth in credits.
//!
//! An event only tells that something at Stripe should be looked at ([`subject`]). Whoever looks reads it anew, outside any
//! transaction, and applies the difference to our rows in one: so neither order nor repetition of events changes anything.

mod apply;
mod books;
pub mod catalogue;
pub mod checkouts;
pub mod checkup;
pub mod customers;
pub mod desk;
pub mod entitlements;
pub mod former_account;
pub mod inbox;
mod look;
pub mod overview;
pub mod payments;
pub mod reconcile;
pub mod selling;
pub mod signature;
pub mod stripe;
pub mod subject;
pub mod subscriptions;
mod told;
mod topping_up;
pub mod topups;
pub mod turns;
pub mod webhook;
mod worker;
pub mod worth;

pub use books::{Books, Problem};
pub use topping_up::Shown;
