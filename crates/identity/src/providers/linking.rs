//! Whose account the person at a provider is. An address joins two accounts only when both sides have proven it: else
//! whoever signs up with somebody's address, or tells a provider one, would share that person's account.

use super::tokens::{self, Kept};
use crate::accounts::merge_scopes;
use crate::users::{self, NewUser, Standing, User};
use crate::{EmailAddress, sessions};
use kernel::{AccountId, Millis, UserId, Vault};
use rand::CryptoRng;
use store::{Error, Tx, params};

const OWNER: &str = "SELECT id, user_id, scope FROM accounts WHERE provider_id = $1 AND account_id = $2";
const ADD: &str = "
    INSERT INTO accounts (id, user_id, provider_id, account_id, scope, created_at, updated_at, access_token_sealed,
        refresh_token_sealed, id_token_sealed, access_token_ends, refresh_token_ends)
    VALUES ($1, $2, $3, $4, $5, $6, $6, $7, $8, $9, $10, $11)";

/// Somebody who has signed in at a provider.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub provider: String,
    /// Who it is at the provider.
    pub subject: String,
    pub email: EmailAddress,
    /// The provider says so.
    pub email_verified: bool,
    pub name: String,
    pub image: Option<String>,
    pub tokens: Kept,
    pub scopes: Vec<String>,
}

/// What is agreed with the provider.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Its word about an address counts although it does not call it verified.
    pub trusted: bool,
    pub sign_up: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Arrived {
    /// One who was here before, by this account or by the address.
    Known(User),
    New(User),
    /// The address is somebody's, and one of the two sides has not proven it.
    NotLinked,
    SignUpDisabled,
    Banned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    Done,
    /// The session that asked for it has ended, or the provider's word does not count.
    NotAllowed,
    OtherEmail,
    OtherUser,
}

struct Owner {
    account: AccountId,
    user: UserId,
    scope: Option<String>,
}

/// Nobody else adds or finds this account at the provider until the transaction ends.
fn owner_of(tx: &mut Tx<'_>, incoming: &Incoming) -> Result<Option<Owner>, Error> {
    tx.lock("account at a provider", &[&format!("{}\0{}", incoming.provider, incoming.subject)])?;
    tx.query_opt(OWNER, params![&incoming.provider, &incoming.subject], |row| {
        Ok(Owner {
            account: AccountId::from_text(row.text(0)?),
            user: UserId::from_text(row.text(1)?),
            scope: row.get(2)?,
        })
    })
}

fn add(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: &UserId,
    incoming: &Incoming,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(), Error> {
    let sealed = incoming.tokens.seal(vault, rng);
    let (id, scopes) = (AccountId::new(rng), incoming.scopes.join(","));
    let values = params![
        id.as_str(),
        user.as_str(),
        &incoming.provider,
        &incoming.subject,
        &scopes,
        now,
        &sealed.access,
        &sealed.refresh,
        &sealed.id,
        incoming.tokens.access_ends,
        incoming.tokens.refresh_ends
    ];
    tx.execute(ADD, values).map(|_| ())
}

/// Finds or makes the user whom somebody at a provider is. The caller begins the session.
pub fn arrive(
    tx: &mut Tx<'_>,
    vault: &Vault,
    incoming: &Incoming,
    terms: Terms,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Arrived, Error> {
    if let Some(owner) = owner_of(tx, incoming)?
        && let Some(user) = turn_of(tx, &owner.user)?
    {
        return known(tx, vault, (owner.account, user), incoming, now, rng);
    }
    if let Some(found) = users::by_email(tx, incoming.email.as_str())?
        && let Some(user) = turn_of(tx, &found.id)?.filter(|user| user.email == incoming.email.as_str())
    {
        return by_address(tx, vault, user, incoming, terms, now, rng);
    }
    if !terms.sign_up {
        return Ok(Arrived::SignUpDisabled);
    }
    let new = NewUser {
        name: incoming.name.clone(),
        email: incoming.email.clone(),
        email_verified: incoming.email_verified,
        image: incoming.image.clone(),
        role: "user".into(),
    };
    match users::create(tx, &new, now, rng)? {
        Some(user) => {
            add(tx, vault, &user.id, incoming, now, rng)?;
            Ok(Arrived::New(user))
        }
        // Somebody took the address a moment ago, and nobody has proven yet to be the same person.
        None => Ok(Arrived::NotLinked),
    }
}

/// The user as the row says once it is this transaction's turn.
fn turn_of(tx: &mut Tx<'_>, id: &UserId) -> Result<Option<User>, Error> {
    users::take_turn(tx, id)?;
    users::by_id(tx, id)
}

fn known(
    tx: &mut Tx<'_>,
    vault: &Vault,
    (account, mut user): (AccountId, User),
    incoming: &Incoming,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Arrived, Error> {
    if user.standing(now) == Standing::Banned {
        return Ok(Arrived::Banned);
    }
    // Scopes stay those that were agreed to when the account was linked.
    tokens::keep(tx, vault, &account, (&incoming.tokens, None), now, rng)?;
    let same = user.email == incoming.email.as_str();
    if incoming.email_verified && !user.email_verified && same {
        user.email_verified = users::verify_email(tx, &user.id, &user.email, now)?;
    }
    Ok(Arrived::Known(user))
}

fn by_address(
    tx: &mut Tx<'_>,
    vault: &Vault,
    user: User,
    incoming: &Incoming,
    terms: Terms,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Arrived, Error> {
    // Trust in the provider says nothing about who made the account here.
    let provider_says_so = terms.trusted || incoming.email_verified;
    if !provider_says_so || !user.email_verified {
        return Ok(Arrived::NotLinked);
    }
    if user.standing(now) == Standing::Banned {
        return Ok(Arrived::Banned);
    }
    add(tx, vault, &user.id, incoming, now, rng)?;
    Ok(Arrived::Known(user))
}

/// Adds somebody's account at a provider to the user who is signed in with `session`, a session's token.
pub fn link(
    tx: &mut Tx<'_>,
    vault: &Vault,
    (user, session): (&UserId, &str),
    incoming: &Incoming,
    trusted: bool,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Linked, Error> {
    let owner = owner_of(tx, incoming)?;
    users::take_turn(tx, user)?;
    let live = sessions::find_live(tx, vault, session, now)?.filter(|live| live.user.id == *user);
    let Some(live) = live.filter(|_| trusted || incoming.email_verified) else {
        return Ok(Linked::NotAllowed);
    };
    if live.user.email != incoming.email.as_str() {
        return Ok(Linked::OtherEmail);
    }
    match owner {
        Some(owner) if owner.user != *user => return Ok(Linked::OtherUser),
        Some(owner) => {
            let scope = merge_scopes(owner.scope.as_deref(), &incoming.scopes);
            tokens::keep(tx, vault, &owner.account, (&incoming.tokens, Some(&scope)), now, rng)?;
        }
        None => add(tx, vault, user, incoming, now, rng)?,
    }
    Ok(Linked::Done)
}

#[cfg(test)]
mod tests {
    use super::super::state::{self, Link, State};
    use super::*;
    use crate::accounts;
    use crate::sessions::NewSession;
    use kernel::time::{DAY, MINUTE};
    use kernel::vault::DataKey;
    use kernel::{Secret, random};
    use store::{Options, Store};

    const NOW: Millis = Millis(1_800_000_000_000);
    const OPEN: Terms = Terms { trusted: false, sign_up: true };

    async fn with_store(run: impl Fn(&mut Tx<'_>, &Vault) -> Result<(), Error> + Send + 'static) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).expect("a new database");
        store.migrate().expect("a new schema");
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        store.write(move |tx| run(tx, &vault)).await.expect("the store answers");
    }

    fn email(text: &str) -> EmailAddress {
        EmailAddress::parse(text).expect("an address")
    }

    fn incoming(subject: &str, address: &str, verified: bool) -> Incoming {
        Incoming {
            provider: "oidc".into(),
            subject: subject.into(),
            email: email(address),
            email_verified: verified,
            name: "Ada".into(),
            image: None,
            tokens: Kept { access: Some(Secret::new(format!("access of {subject}"))), ..Kept::default() },
            scopes: vec!["openid".into(), "email".into()],
        }
    }

    fn user(tx: &mut Tx<'_>, address: &str, verified: bool) -> Result<User, Error> {
        let new = NewUser {
            name: "Ada".into(),
            email: email(address),
            email_verified: verified,
            image: None,
            role: "user".into(),
        };
        Ok(users::create(tx, &new, NOW, &mut random::secure())?.expect("the address is free"))
    }

    fn come(tx: &mut Tx<'_>, vault: &Vault, who: &Incoming, terms: Terms) -> Result<Arrived, Error> {
        arrive(tx, vault, who, terms, NOW, &mut random::secure())
    }

    #[tokio::test]
    async fn an_address_joins_accounts_only_when_both_sides_have_proven_it() {
        with_store(|tx, vault| {
            let trusted = Terms { trusted: true, sign_up: true };
            for (at, (here, there, terms, joined)) in [
                (true, true, OPEN, true),
                (true, false, OPEN, false),
                (false, true, OPEN, false),
                (false, false, OPEN, false),
                (true, false, trusted, true),
                (false, true, trusted, false),
            ]
            .into_iter()
            .enumerate()
            {
                let address = format!("ada{at}@example.com");
                let ada = user(tx, &address, here)?;
                let came = come(tx, vault, &incoming(&format!("s{at}"), &address, there), terms)?;
                let expected = if joined { Arrived::Known(ada) } else { Arrived::NotLinked };
                assert_eq!(came, expected, "{at}");
            }
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn who_came_before_is_found_by_the_account_and_not_by_the_address() {
        with_store(|tx, vault| {
            let Arrived::New(ada) = come(tx, vault, &incoming("s", "ada@example.com", false), OPEN)? else {
                panic!("she is new");
            };
            assert!(!ada.email_verified);
            user(tx, "other@example.com", true)?;
            let closed = Terms { trusted: false, sign_up: false };
            let moved = come(tx, vault, &incoming("s", "other@example.com", true), closed)?;
            assert_eq!(moved, Arrived::Known(ada.clone()), "the account counts");
            let Arrived::Known(proven) = come(tx, vault, &incoming("s", "ada@example.com", true), closed)?
            else {
                panic!("she is known");
            };
            assert!(proven.email_verified, "the provider has proven the address since");
            let stranger = come(tx, vault, &incoming("t", "new@example.com", true), closed)?;
            assert_eq!(stranger, Arrived::SignUpDisabled);
            users::ban(tx, &ada.id, "", None, NOW)?;
            assert_eq!(come(tx, vault, &incoming("s", "ada@example.com", true), OPEN)?, Arrived::Banned);
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn an_account_is_linked_by_its_owner_while_the_session_lives() {
        with_store(|tx, vault| {
            let rng = &mut random::secure();
            let (ada, bob) = (user(tx, "ada@example.com", false)?, user(tx, "bob@example.com", true)?);
            let new = NewSession { lifetime: DAY, ip_address: String::new(), user_agent: String::new() };
            let live = sessions::create(tx, vault, ada.clone(), &new, NOW, rng)?;
            let mut try_it = |tx: &mut Tx<'_>, user: &User, who: &Incoming, trusted: bool| {
                link(tx, vault, (&user.id, &live.token), who, trusted, NOW, rng)
            };
            let (own, other) =
                (incoming("s", "ada@example.com", true), incoming("t", "bob@example.com", true));
            assert_eq!(try_it(tx, &bob, &other, false)?, Linked::NotAllowed, "another's session");
            assert_eq!(try_it(tx, &ada, &other, false)?, Linked::OtherEmail);
            let unproven = incoming("s", "ada@example.com", false);
            assert_eq!(try_it(tx, &ada, &unproven, false)?, Linked::NotAllowed);
            assert_eq!(try_it(tx, &ada, &unproven, true)?, Linked::Done);
            let mut again = own.clone();
            again.scopes = vec!["email".into(), "drive".into()];
            again.tokens.refresh = Some(Secret::new("fresh".into()));
            assert_eq!(try_it(tx, &ada, &again, false)?, Linked::Done);
            let account = tokens::of_user(tx, vault, &ada.id)?.remove(0);
            assert_eq!(account.account.scope.as_deref(), Some("openid,email,drive"));
            assert_eq!(account.tokens.refresh.as_ref().unwrap().expose(), "fresh");
            assert_eq!(tokens::of_user(tx, vault, &bob.id)?.len(), 0);
            assert!(
                tokens::find(tx, vault, &bob.id, &account.account.id)?.is_none(),
                "nobody finds another's"
            );
            assert_eq!(accounts::list(tx, &ada.id)?.len(), 1);
            come(tx, vault, &other, OPEN)?;
            let mut taken = other.clone();
            taken.email = email("ada@example.com");
            assert_eq!(try_it(tx, &ada, &taken, false)?, Linked::OtherUser);
            sessions::end(tx, vault, &live.token)?;
            assert_eq!(try_it(tx, &ada, &own, false)?, Linked::NotAllowed, "signed out meanwhile");
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn tokens_are_sealed_and_an_older_trade_puts_nothing_back() {
        with_store(|tx, vault| {
            let rng = &mut random::secure();
            let mut who = incoming("s", "ada@example.com", true);
            who.tokens.refresh = Some(Secret::new("first".into()));
            let Arrived::New(ada) = come(tx, vault, &who, OPEN)? else { panic!("she is new") };
            let stored: String = tx
                .query_opt(
                    "SELECT access_token_sealed FROM accounts WHERE user_id = $1",
                    params![ada.id.as_str()],
                    |row| row.get(0),
                )?
                .expect("a row");
            assert!(!stored.contains("access of"));
            let before = tokens::of_user(tx, vault, &ada.id)?.remove(0);
            let second = Kept { refresh: Some(Secret::new("second".into())), ..Kept::default() };
            assert!(tokens::keep_refreshed(tx, vault, &before, &second, NOW, rng)?);
            let third = Kept { refresh: Some(Secret::new("third".into())), ..Kept::default() };
            assert!(!tokens::keep_refreshed(tx, vault, &before, &third, NOW, rng)?);
            let now = tokens::of_user(tx, vault, &ada.id)?.remove(0);
            assert_eq!(now.tokens.refresh.as_ref().unwrap().expose(), "second");
            assert_eq!(now.tokens.access.as_ref().unwrap().expose(), "access of s");
            assert!(now.was_traded_since(&before));
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_sign_in_under_way_is_sealed_works_once_and_ends() {
        with_store(|tx, vault| {
            let rng = &mut random::secure();
            let mut begun = State::new("oidc", rng);
            begun.link = Some(Link { user: "u".into(), session: "token".into() });
            let value = state::issue(tx, vault, &begun, NOW, rng)?;
            let payload: String = tx
                .query_opt("SELECT payload FROM one_time_values", params![], |row| row.get(0))?
                .expect("a row");
            assert!(!payload.contains(&begun.verifier) && !payload.contains("token"));
            assert_eq!(state::look(tx, vault, &value, NOW)?, Some(begun.clone()));
            assert_eq!(state::look(tx, vault, &value, NOW.plus(10 * MINUTE))?, None);
            assert_eq!(state::consume(tx, vault, "another", NOW)?, None);
            assert_eq!(state::consume(tx, vault, &value, NOW)?, Some(begun));
            assert_eq!(state::consume(tx, vault, &value, NOW)?, None);
            Ok(())
        })
        .await;
    }
}
