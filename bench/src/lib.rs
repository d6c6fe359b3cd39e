//! Tollgate beside its peers: side-by-side load, of which only the ratios count.
//!
//! - [`load`]: the load generator, the same for every side; [`answer`] reads what comes back, [`latency`] counts it.
//! - [`people`]: the users, sessions and requests; [`seed`] and [`cache`]: a million of them in every side's format.
//! - [`server`]: what a side is; [`tollgate`] (with [`postgres`]), [`better_auth`] and [`bare_handler`] are they.
//! - [`credits`]: debits beside what a database does without a ledger; [`gate`]: the one call of an app's backend.
//! - [`billing`]: deliveries of Stripe's and people who check out, with the till in Stripe's place.
//! - [`sessions`]: what is measured and in which order; [`report`]: figures and ratios; [`machine`]: their conditions.

// A measuring tool reads the clock and the environment itself; the ban is for the product.
#![allow(clippy::disallowed_methods)]

pub mod answer;
pub mod bare_handler;
pub mod better_auth;
pub mod billing;
pub mod cache;
pub mod credits;
pub mod gate;
pub mod latency;
pub mod load;
pub mod machine;
pub mod options;
pub mod people;
pub mod postgres;
pub mod process;
pub mod report;
pub mod rounds;
pub mod seed;
pub mod server;
pub mod sessions;
pub mod tollgate;
