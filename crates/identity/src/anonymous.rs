//! Users without an address: made at once, and gone when the person signs in as somebody.

use crate::email::EmailAddress;
use crate::users::{NewUser, User};
use kernel::{Millis, random};
use rand::CryptoRng;
use store::{Error, Tx, params};

/// No mail reaches it.
const DOMAIN: &str = "@anonymous.placeholder.invalid";

const INSERT: &str = "
    INSERT INTO users (id, name, email, email_verified, created_at, updated_at, two_factor_enabled, is_anonymous, role, banned)
    VALUES ($1, $2, $3, FALSE, $4, $4, FALSE, TRUE, $5, FALSE)";

pub fn create(tx: &mut Tx<'_>, now: Millis, rng: &mut impl CryptoRng) -> Result<User, Error> {
    let new = NewUser {
        name: "Anonymous".into(),
        email: placeholder(rng),
        email_verified: false,
        image: None,
        role: "user".into(),
    };
    let user = User { is_anonymous: true, ..User::fresh(&new, now, rng) };
    tx.execute(INSERT, params![user.id.as_str(), &user.name, &user.email, now, &user.role])?;
    Ok(user)
}

/// Stands where a user has no address.
pub fn placeholder(rng: &mut impl CryptoRng) -> EmailAddress {
    let local = random::alphanumeric(rng, 32).to_ascii_lowercase();
    EmailAddress::from_stored(format!("{local}{DOMAIN}"))
}

/// An address that stands for none.
pub fn is_placeholder(email: &str) -> bool {
    email.ends_with(DOMAIN)
}
