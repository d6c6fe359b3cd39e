//! How money comes in: the catalogue, Stripe, the inbox of its events, and what a payment is worth in credits.

pub mod catalogue;
pub mod signature;
pub mod stripe;
pub mod worth;
