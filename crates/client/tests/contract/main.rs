//! What the crate promises an app, against servers written by hand: each misbehaves in one way. The tests against the
//! real binary are among its own black-box tests (`crates/tollgate/tests/blackbox/client_*.rs`).

// The tests measure by the real clock; the ban is for the product.
#![allow(clippy::disallowed_methods)]

mod authorize;
mod charging;
mod connections;
mod guide;
mod handlers;
mod misbehaviour;
mod secrets;
mod sessions;
mod stub;
#[cfg(feature = "rustls")]
mod tls;
