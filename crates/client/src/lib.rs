//! Asks Tollgate, for a Rust app, **who is calling, whether they may pass, and what it costs**.
//!
//! - [`Tollgate`] is the handle: made once, cloned freely. [`Tollgate::session`] is the plain check of a visitor's
//!   cookies, [`Tollgate::authorize`] the whole question in one call, [`Tollgate::account`] somebody's credits.
//! - [`TollgateLayer`] gives each request a [`Visit`], from which axum handlers take [`User`], [`MaybeUser`], [`Credits`]
//!   and [`Guest`]; other tower stacks ask the [`Visit`] itself.
//! - [`Error`] is what else there is: refused, unavailable or misconfigured, and for axum the answer that says so.
//!
//! ```no_run
//! use axum::{Json, Router, routing::{get, post}};
//! use std::time::Duration;
//! use tollgate_client::{Credits, Error, Tollgate, TollgateLayer, User};
//!
//! async fn me(user: User) -> Json<User> {
//!     Json(user)
//! }
//!
//! async fn generate(credits: Credits) -> Result<String, Error> {
//!     let hold = credits.hold(8, Duration::from_secs(300)).await?; // 402 if there is too little
//!     let picture = "the work".to_owned(); // leaving early, by `?` or a panic, releases the hold
//!     hold.settle(5).await?;
//!     Ok(picture)
//! }
//!
//! # fn main() -> Result<(), tollgate_client::BuildError> {
//! let tollgate = Tollgate::from_env()?;
//! let app: Router = Router::new()
//!     .route("/me", get(me))
//!     .route("/generate", post(generate))
//!     .layer(TollgateLayer::new(tollgate));
//! # Ok(())
//! # }
//! ```
//!
//! # What it keeps to
//!
//! - **Nothing is cached.** Each request of the app asks; a revoke counts from the next request on. Only within one
//!   request is an answer kept, so that several extractors ask once.
//! - **What is not understood is "unavailable", never "signed out"**: no connection, no answer in time, another status,
//!   HTML, an empty or broken body are [`Error::Unavailable`], and the app answers 503.
//! - **Two seconds for everything**, from the connection to the last byte. One second attempt, only where no connection
//!   came about; nothing is ever sent twice. No redirect is followed, no proxy taken from the environment, no answer read
//!   beyond 1 MiB.
//! - **Secrets stay inside**: cookies, tokens and the service key are in no `Debug`, no error and no log line.
//!
//! # Features
//!
//! `axum` (on by default): the extractors, for axum 0.8. `rustls`: addresses that begin with `https`.
#![warn(missing_docs)]

mod answer;
mod authorize;
mod credentials;
mod credits;
mod error;
#[cfg(feature = "axum")]
mod extract;
mod guest;
mod handle;
mod hold;
mod id;
mod layer;
mod session;
mod visit;
mod wire;

pub use authorize::{Authorize, Authorized, Subject};
pub use credentials::{Cookies, ForwardedFor, IdempotencyKey, InvalidIdempotencyKey, SetCookies, Token};
pub use credits::{Account, Balance, Charge, Owner, Spent, Tokens};
pub use error::{Error, InsufficientCredits, Misconfigured, Reason, Refusal, Unavailable};
#[cfg(feature = "axum")]
pub use extract::{Credits, Guest, MaybeUser};
pub use guest::{Allowance, GuestPass};
pub use handle::{BuildError, Builder, Tollgate};
pub use hold::{Above, Hold};
pub use id::{EntryId, GuestId, HoldId, OrganizationId, SessionId, UserId};
pub use layer::{TollgateLayer, TollgateService};
pub use session::{Session, User};
pub use visit::Visit;
