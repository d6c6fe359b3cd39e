//! Signing in at somebody else's: OpenID Connect by discovery, plain OAuth 2.0, and what the well-known providers do in
//! their own way. Everything here is a conversation with a provider; who may come in is decided in `identity`.
//!
//! - [`settings`] says what a deployment tells about a provider.
//! - [`provider`] is one provider, ready for use: where people are sent, codes for tokens, tokens for a profile.
//! - [`wire`] carries every request: bounded in time, size and number, over TLS, without following redirects.
//! - [`tokens`] is what it hands out.
//! - [`discovery`] reads a provider's own description, [`keys`] its public keys.
//! - [`id_token`] judges what a provider has signed.
//! - [`profile`] reads the forms in which providers describe a person.
//! - [`apple`] makes the secret that Apple wants signed anew.

pub mod apple;
pub mod discovery;
pub mod id_token;
pub mod keys;
pub mod profile;
pub mod provider;
mod remembered;
pub mod settings;
pub mod tokens;
pub mod wire;

pub use profile::Profile;
pub use provider::{Nonce, Provider, Providers, Start};
pub use settings::{Kind, Settings};
pub use tokens::Tokens;
pub use wire::Trouble;
