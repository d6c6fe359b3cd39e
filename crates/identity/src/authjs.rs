//! Apps whose front end is Auth.js (NextAuth 4 and 5): what their adapter keeps here, and how their sessions are read.
//!
//! An app's own objects come back to it exactly as it gave them. So each is kept as the document that was sent, and what this
//! program acts on stands in columns beside it; where a column was changed at another door, the column is what counts.

pub mod accounts;
pub mod authenticators;
pub mod reading;
pub mod sessions;
pub mod token;
pub mod users;

/// An object of an app's as it was sent.
pub type Document = serde_json::Map<String, serde_json::Value>;
