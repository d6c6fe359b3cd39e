//! What a deployment remembers about itself: its data key and whether it was seeded for development.

use kernel::vault::DataKey;
use kernel::{Secrets, Vault};
use rand::CryptoRng;
use store::{Error, Tx, params};

const DATA_KEY: &str = "data_key";
const DEV_SEED: &str = "dev_seed";
const MADE_BY_DEV: &str = "made_by_dev";

const GET: &str = "SELECT value FROM meta WHERE name = $1";
const ADD: &str = "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
const SET: &str =
    "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value";

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error(
        "the database was sealed with a secret that is not among `secrets`: add the former secret after the new one and start again"
    )]
    ForeignSecret,
    #[error("{0}")]
    Store(#[from] Error),
}

/// Opens the deployment's vault, making its key at the first start, and wraps the key anew when the first secret has
/// changed. Several nodes may do this at once.
pub fn open_vault(tx: &mut Tx<'_>, secrets: &Secrets, rng: &mut impl CryptoRng) -> Result<Vault, VaultError> {
    let stored = match get(tx, DATA_KEY)? {
        Some(stored) => stored,
        None => {
            let wrapped = DataKey::generate(rng).wrap(secrets, rng);
            tx.execute(ADD, params![DATA_KEY, &wrapped])?;
            get(tx, DATA_KEY)?.ok_or_else(|| Error::Fault("the data key was not stored".into()))?
        }
    };
    let (key, stale) = DataKey::unwrap(&stored, secrets).ok_or(VaultError::ForeignSecret)?;
    if stale {
        tx.execute(SET, params![DATA_KEY, &key.wrap(secrets, rng)])?;
    }
    Ok(Vault::new(&key))
}

/// Opens the vault without changing anything; `None` when there is no key yet.
pub fn look_at_vault(tx: &mut Tx<'_>, secrets: &Secrets) -> Result<Option<Vault>, VaultError> {
    let Some(stored) = get(tx, DATA_KEY)? else { return Ok(None) };
    let (key, _) = DataKey::unwrap(&stored, secrets).ok_or(VaultError::ForeignSecret)?;
    Ok(Some(Vault::new(&key)))
}

/// Marks a database that holds users whose passwords everybody knows.
pub fn mark_dev_seed(tx: &mut Tx<'_>) -> Result<(), Error> {
    tx.execute(SET, params![DEV_SEED, "true"]).map(|_| ())
}

/// Marks a database that `dev` made: its mails are shown to whoever sits at the machine.
pub fn mark_made_by_dev(tx: &mut Tx<'_>) -> Result<(), Error> {
    tx.execute(SET, params![MADE_BY_DEV, "true"]).map(|_| ())
}

pub fn is_made_by_dev(tx: &mut Tx<'_>) -> Result<bool, Error> {
    Ok(get(tx, MADE_BY_DEV)?.is_some())
}

pub fn has_dev_seed(tx: &mut Tx<'_>) -> Result<bool, Error> {
    Ok(get(tx, DEV_SEED)?.is_some())
}

fn get(tx: &mut Tx<'_>, name: &str) -> Result<Option<String>, Error> {
    tx.query_opt(GET, params![name], |row| row.get(0))
}
