//! People who sign in at somebody else's: what a sign-in under way is bound to, whose account the person at the provider
//! is, and what the provider handed out.
//!
//! - [`state`] is the sign-in while the person is at the provider.
//! - [`linking`] decides who comes in, and which accounts become one.
//! - [`tokens`] keeps what the provider handed out, sealed.

pub mod linking;
pub mod state;
pub mod tokens;

pub use linking::{Arrived, Incoming, Linked, Terms};
pub use state::{Link, State};
pub use tokens::{Kept, TokenAccount};
