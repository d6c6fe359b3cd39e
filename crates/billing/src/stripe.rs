//! Calls to Stripe. Never within a transaction: what comes back is applied afterwards.

mod client;
mod form;
pub mod objects;

pub use client::{Class, Options, Stripe, Trouble, VERSION, segment};
pub use form::Form;
