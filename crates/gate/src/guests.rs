//! Which guests there are: one row each, from the first visit until the guest becomes a user or the cookie's time is over.
//!
//! A signature alone makes no guest. So an id can end before its cookie does, and nobody gives credits to an id that was
//! made up.

use credits::{Owner, close_forgotten};
use kernel::{GuestId, Millis};
use rand::CryptoRng;
use store::{Error, Tx, params};

const ADD: &str = "INSERT INTO guests (id, created_at) VALUES ($1, $2)";
const FIND: &str = "SELECT 1 FROM guests WHERE id = $1";
const END: &str = "DELETE FROM guests WHERE id = $1";
const SWEEP: &str = "
    DELETE FROM guests WHERE id IN (SELECT id FROM guests WHERE created_at <= $1 LIMIT 200) RETURNING id";

pub fn create(tx: &mut Tx<'_>, now: Millis, rng: &mut impl CryptoRng) -> Result<GuestId, Error> {
    let id = GuestId::new(rng);
    tx.execute(ADD, params![id.as_str(), now])?;
    Ok(id)
}

pub fn exists(tx: &mut Tx<'_>, id: &GuestId) -> Result<bool, Error> {
    Ok(tx.query_opt(FIND, params![id.as_str()], |_| Ok(()))?.is_some())
}

/// Ends a guest; true for one caller only, however many try at once.
pub(crate) fn end(tx: &mut Tx<'_>, id: &GuestId) -> Result<bool, Error> {
    Ok(tx.execute(END, params![id.as_str()])? == 1)
}

/// Forgets guests that were made before, some at a time, and closes what they left of credits; true when more may be
/// left.
pub fn sweep(tx: &mut Tx<'_>, before: Millis) -> Result<bool, Error> {
    let over = tx.query(SWEEP, params![before], |row| Ok(Owner::Guest(row.get(0)?)))?;
    close_forgotten(tx, &over)?;
    Ok(!over.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrival::{Former, arrive};
    use credits::{Action, Command, NewGrant, OwnerExists, Settings, Source, Target, apply_in, reads};
    use kernel::vault::{DataKey, Vault};
    use kernel::{UserId, random};
    use std::sync::Arc;
    use store::{Options, Store};

    const NOW: Millis = Millis(1_800_000_000_000);

    async fn store(folder: &tempfile::TempDir) -> Store {
        let url = format!("sqlite://{}", folder.path().join("t.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).unwrap();
        store.migrate().unwrap();
        store
    }

    fn settings() -> Settings {
        Settings { units: vec!["credits".into()], ..Settings::default() }
    }

    fn grant(tx: &mut Tx<'_>, vault: &Vault, guest: &GuestId, amount: i64) -> bool {
        let exists: OwnerExists = Arc::new(|tx, owner| exists(tx, &GuestId::from_text(owner.id())));
        let command = Command {
            target: Target::Owner { owner: owner(guest), unit: "credits".into() },
            action: Action::Grant(NewGrant {
                amount,
                source: Source::Promo,
                expires_at: None,
                priority: 50,
                reason: None,
                metadata: None,
                source_ref: None,
                rollover: None,
            }),
            actor: "system".into(),
            request_id: None,
            idempotency: None,
        };
        apply_in(tx, &settings(), vault, &exists, vec![command], NOW).unwrap()[0].is_ok()
    }

    fn owner(guest: &GuestId) -> Owner {
        Owner::Guest(guest.as_str().to_owned())
    }

    #[tokio::test]
    async fn guests_whose_time_is_over_are_forgotten_and_take_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        let run = move |tx: &mut Tx<'_>| {
            let rng = &mut random::secure();
            let old: Vec<GuestId> = (0..250).map(|_| create(tx, NOW.minus(10), rng).unwrap()).collect();
            let young = create(tx, NOW, rng)?;
            for guest in [&old[0], &old[249], &young] {
                assert!(grant(tx, &vault, guest, 5));
            }
            assert!(sweep(tx, NOW.minus(10))? && sweep(tx, NOW.minus(10))?);
            assert!(!sweep(tx, NOW.minus(10))?);
            assert!(!old.iter().any(|guest| exists(tx, guest).unwrap()) && exists(tx, &young)?);
            // One with an account and one without; what was there stays to be read.
            assert!(!grant(tx, &vault, &old[0], 1) && !grant(tx, &vault, &old[1], 1));
            assert!(grant(tx, &vault, &young, 1));
            assert_eq!(reads::balance(tx, &owner(&old[0]), "credits", NOW)?.balance, 5);
            Ok::<_, Error>(())
        };
        store.write(run).await.unwrap();
    }

    #[tokio::test]
    async fn a_guest_ends_once_and_only_the_first_user_gets_what_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder).await;
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        let run = move |tx: &mut Tx<'_>| {
            let guest = create(tx, NOW, &mut random::secure())?;
            assert!(grant(tx, &vault, &guest, 5));
            for user in ["first", "second"] {
                let id = UserId::from_text(user);
                arrive(
                    tx,
                    &settings(),
                    &vault,
                    (&id, None),
                    Former { guest: Some(&guest), anonymous: None },
                    NOW,
                )?;
                let owner = Owner::User(user.into());
                let expected = if user == "first" { 5 } else { 0 };
                assert_eq!(reads::balance(tx, &owner, "credits", NOW)?.balance, expected);
            }
            assert!(!exists(tx, &guest)? && !end(tx, &guest)?);
            assert!(!grant(tx, &vault, &guest, 1));
            Ok::<_, Error>(())
        };
        store.write(run).await.unwrap();
    }
}
