//! What `dev` puts into a new database: two users everybody knows, and a service key for the app's backend.

use crate::commands::user::create_with_password;
use crate::data_folder::{DataFolder, SERVICE_KEY};
use crate::deployment::{now, store_failure};
use crate::process::Prepared;
use crate::terminal::{Failure, Outcome};
use identity::passwords::{self, Workspace};
use identity::service_keys::{self, SCOPES};
use identity::users::NewUser;
use identity::{EmailAddress, deployment};
use kernel::random;
use server::dev::SampleUser;

pub const USERS: [(&str, &str); 2] = [("Ada", "ada@example.test"), ("Bob", "bob@example.test")];
pub const PASSWORD: &str = "correct-horse-battery";

/// The mark and the users come together, so that no database has known passwords without it.
pub fn users(prepared: &Prepared) -> Outcome {
    let mut workspace = Workspace::new();
    let new = |(name, email): (&str, &str)| NewUser {
        name: name.to_owned(),
        email: EmailAddress::parse(email).expect("the seeded addresses are valid, as a test proves"),
        email_verified: true,
        image: None,
        role: "user".to_owned(),
    };
    let users =
        USERS.map(|user| (new(user), passwords::hash(PASSWORD, &mut workspace, &mut random::secure())));
    let (vault, terms) = (prepared.vault.clone(), prepared.config.credits.clone());
    let written = prepared.block_on(prepared.store.write(move |tx| {
        deployment::mark_dev_seed(tx)?;
        users.iter().try_for_each(|(user, hash)| {
            create_with_password(tx, &vault, &terms, user, hash, now()).map(|_| ())
        })
    }));
    written.map_err(|error: store::Error| store_failure(&error))
}

/// The first of them, as the start page offers it.
pub fn sample_user() -> SampleUser {
    SampleUser { email: USERS[0].1.to_owned(), password: PASSWORD.to_owned() }
}

pub fn is_seeded(prepared: &Prepared) -> Result<bool, Failure> {
    prepared.block_on(prepared.store.read(deployment::has_dev_seed)).map_err(|error| store_failure(&error))
}

/// The key of the last time, as long as the database knows it; else a new one.
pub fn service_key(prepared: &Prepared, folder: &DataFolder) -> Result<String, Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("{} cannot be used: {error}.", folder.file(SERVICE_KEY).display());
        Failure::new(what, "Remove the file; a new key is made.")
    };
    if let Some(text) = folder.read(SERVICE_KEY).map_err(failed)? {
        let (key, vault) = (text.trim().to_owned(), prepared.vault.clone());
        let found = prepared.block_on(prepared.store.read(move |tx| service_keys::find(tx, &vault, &key)));
        if found.map_err(|error| store_failure(&error))?.is_some() {
            return Ok(text.trim().to_owned());
        }
    }
    let vault = prepared.vault.clone();
    let made = prepared.block_on(prepared.store.write(move |tx| {
        service_keys::create(tx, &vault, "dev", &SCOPES.map(String::from), now(), &mut random::secure())
    }));
    let (_, text) = made.map_err(|error: store::Error| store_failure(&error))?;
    folder.write(SERVICE_KEY, &format!("{}\n", text.expose())).map_err(failed)?;
    Ok(text.expose().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeded_addresses_are_valid() {
        assert!(USERS.iter().all(|(_, email)| EmailAddress::parse(email).is_some()));
    }
}
