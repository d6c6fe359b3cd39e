//! A stand-in for Stripe on this machine: its API, its Checkout page and portal, and the events it sends, signed as Stripe
//! signs them.
//!
//! It is what `tollgate dev` sells at without a Stripe key, and what the tests pay at: the same code for both. Inside is a
//! state machine (`books`) that calls and the passing of time move; around it a thin shell of HTTP. All of it lives in
//! memory, on loopback, on a clock that can be moved ahead, with ids that a seed decides.
//!
//! [`Till`] is the whole of it. What Stripe does and the till does not is listed in docs/reference/till.md.

// Objects of some eighty members are written as one `json!` each.
#![recursion_limit = "512"]

mod account;
mod actions;
mod agenda;
mod amounts;
mod api;
mod books;
mod catalogue;
mod changes;
mod charges;
mod checkout;
mod collection;
mod coupons;
mod customers;
mod delivery;
mod desk;
mod disputes;
mod door;
mod events;
mod expand;
mod faults;
mod form;
mod guard;

mod idempotency;
mod ids;
mod invoices;
mod lists;
mod pages;
mod payment_intents;
mod payment_methods;
mod periods;
mod portal;
mod postman;
mod purchase;
mod refunds;
mod refusal;
mod renewals;
mod serve;
mod setup_intents;
mod shelf;
pub mod signature;
mod subscriptions;
mod till;
mod versions;

pub use catalogue::PriceSeed;
pub use delivery::Attempt;
pub use disputes::DisputeStep;
pub use faults::Fault;
pub use purchase::{Means, Purchase};
pub use refusal::{Decline, Left, Refusal};
pub use till::{Till, TillOptions};
pub use versions::{CURRENT_VERSION, OLD_VERSION};
