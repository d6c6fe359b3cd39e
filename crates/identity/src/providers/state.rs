//! A sign-in that was begun at a provider: one value that works once, for the browser and the provider it was made for.
//! What it is bound to is sealed, because it holds what proves the sign-in to the provider.

use crate::one_time::{self, Consumed, Purpose};
use kernel::{Millis, Vault, random};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};
use store::{Error, Tx};

const SEAL: &str = "provider sign-in";
/// As the original's, and the most that RFC 7636 allows.
const VERIFIER_LENGTH: usize = 128;
const NONCE_LENGTH: usize = 32;

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub provider: String,
    /// Proves to the provider that who trades the code has begun the sign-in (PKCE).
    pub verifier: String,
    /// Stands in the id token that belongs to it.
    pub nonce: String,
    /// Where people go afterwards; without one to the public address.
    pub callback: Option<String>,
    pub error_callback: Option<String>,
    pub new_user_callback: Option<String>,
    pub sign_up_asked: bool,
    /// The anonymous user that the browser was when it began, who becomes the one who signs in.
    pub anonymous: Option<String>,
    /// An account is added to the one that is signed in.
    pub link: Option<Link>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub user: String,
    /// The session that asked for it, which must still be there at the end.
    pub session: String,
}

/// Without what proves the sign-in.
impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("user", &self.user).finish_non_exhaustive()
    }
}

impl State {
    pub fn new(provider: &str, rng: &mut impl CryptoRng) -> State {
        State {
            provider: provider.to_owned(),
            verifier: random::alphanumeric(rng, VERIFIER_LENGTH),
            nonce: random::alphanumeric(rng, NONCE_LENGTH),
            callback: None,
            error_callback: None,
            new_user_callback: None,
            sign_up_asked: false,
            anonymous: None,
            link: None,
        }
    }
}

/// Keeps a sign-in that begins; the value goes to the provider and into the browser's cookie.
pub fn issue(
    tx: &mut Tx<'_>,
    vault: &Vault,
    state: &State,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<String, Error> {
    let text = serde_json::to_string(state).map_err(|error| Error::Fault(error.to_string()))?;
    let sealed = vault.seal(SEAL, &text, rng);
    // Whose account it is about, so that it goes with the account; a sign-in is nobody's yet.
    let subject = match &state.link {
        Some(link) => link.user.clone(),
        None => random::alphanumeric(rng, NONCE_LENGTH),
    };
    one_time::issue(tx, vault, Purpose::ProviderSignIn, &subject, &sealed, now, rng)
}

/// The sign-in behind a value that works, without using it up.
pub fn look(tx: &mut Tx<'_>, vault: &Vault, value: &str, now: Millis) -> Result<Option<State>, Error> {
    let found = one_time::look::<String>(tx, vault, Purpose::ProviderSignIn, value, now)?;
    found.map(|found| open(vault, &found.payload)).transpose()
}

/// Uses the value up; of several callers at once one gets it.
pub fn consume(tx: &mut Tx<'_>, vault: &Vault, value: &str, now: Millis) -> Result<Option<State>, Error> {
    match one_time::consume::<String>(tx, vault, Purpose::ProviderSignIn, value, now)? {
        Consumed::Now(found) => open(vault, &found.payload).map(Some),
        Consumed::Before(_) | Consumed::Expired | Consumed::Unknown => Ok(None),
    }
}

fn open(vault: &Vault, sealed: &str) -> Result<State, Error> {
    let fault = || Error::Fault("a sign-in at a provider does not open".into());
    let text = vault.open(SEAL, sealed).ok_or_else(fault)?;
    serde_json::from_str(&text).map_err(|_| fault())
}
