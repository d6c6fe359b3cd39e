//! Somebody's credits: how many there are, and taking some.

use crate::credentials::IdempotencyKey;
use crate::error::{Error, Misconfigured};
use crate::handle::Tollgate;
use crate::hold::Hold;
use crate::id::{EntryId, GuestId, HoldId, OrganizationId, UserId};
use crate::wire::{Answer, Question, escape};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Who has credits.
///
/// ```
/// use tollgate_client::{Owner, UserId};
///
/// let owner: Owner = UserId::new("k3pQ").into();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owner {
    /// A user.
    User(UserId),
    /// An organization.
    Organization(OrganizationId),
    /// A visitor without an account.
    Guest(GuestId),
}

impl Owner {
    pub(crate) fn member(&self) -> (&'static str, &str) {
        match self {
            Owner::User(id) => ("user_id", id.as_str()),
            Owner::Organization(id) => ("organization_id", id.as_str()),
            Owner::Guest(id) => ("guest_id", id.as_str()),
        }
    }
}

impl From<UserId> for Owner {
    fn from(id: UserId) -> Owner {
        Owner::User(id)
    }
}

impl From<OrganizationId> for Owner {
    fn from(id: OrganizationId) -> Owner {
        Owner::Organization(id)
    }
}

impl From<GuestId> for Owner {
    fn from(id: GuestId) -> Owner {
        Owner::Guest(id)
    }
}

/// What is to be paid: credits, a feature of the price book, or a model's tokens.
///
/// ```
/// use tollgate_client::{Charge, Tokens};
///
/// let five = Charge::amount(5).unit("credits").reason("image");
/// let two_images = Charge::feature("image.generate").quantity(2);
/// let answer = Charge::tokens("large", Tokens { input: 1_200, output: 300, ..Tokens::default() });
/// # let short: [Charge; 2] = [5.into(), "image.generate".into()];
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Charge {
    what: Map<String, Value>,
    note: Map<String, Value>,
}

/// How many tokens of each kind a model took.
///
/// ```
/// let tokens = tollgate_client::Tokens { input: 1_200, cached: 1_000, ..Default::default() };
/// # let _ = tokens;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tokens {
    /// Read.
    pub input: u64,
    /// Written.
    pub output: u64,
    /// Read from a cache.
    pub cached: u64,
    /// Thought.
    pub reasoning: u64,
}

impl Charge {
    fn of(name: &str, value: Value) -> Charge {
        Charge { what: Map::from_iter([(name.to_owned(), value)]), note: Map::new() }
    }

    /// So many credits, from 1 on.
    ///
    /// ```
    /// let charge = tollgate_client::Charge::amount(5);
    /// ```
    pub fn amount(amount: u64) -> Charge {
        Charge::of("amount", amount.into())
    }

    /// What the price book says that the feature costs.
    ///
    /// ```
    /// let charge = tollgate_client::Charge::feature("image.generate");
    /// ```
    pub fn feature(feature: impl Into<String>) -> Charge {
        Charge::of("feature", feature.into().into())
    }

    /// What the price book says that so many tokens of the model cost.
    ///
    /// ```
    /// use tollgate_client::{Charge, Tokens};
    ///
    /// let charge = Charge::tokens("large", Tokens { output: 300, ..Tokens::default() });
    /// ```
    pub fn tokens(model: impl Into<String>, tokens: Tokens) -> Charge {
        let mut charge = Charge::of("model", model.into().into());
        charge.what.insert("tokens".into(), json!(tokens));
        charge
    }

    /// So much of the feature; 1 by default.
    ///
    /// ```
    /// let charge = tollgate_client::Charge::feature("image.generate").quantity(2);
    /// ```
    pub fn quantity(mut self, quantity: u64) -> Charge {
        self.what.insert("quantity".into(), quantity.into());
        self
    }

    /// In another unit than the first of Tollgate's configuration.
    ///
    /// ```
    /// let charge = tollgate_client::Charge::amount(5).unit("tokens");
    /// ```
    pub fn unit(mut self, unit: impl Into<String>) -> Charge {
        self.what.insert("unit".into(), unit.into().into());
        self
    }

    /// Why, as it shall stand in the ledger.
    ///
    /// ```
    /// let charge = tollgate_client::Charge::amount(5).reason("a picture of a cat");
    /// ```
    pub fn reason(mut self, reason: impl Into<String>) -> Charge {
        self.note.insert("reason".into(), reason.into().into());
        self
    }

    /// What else shall stand in the ledger, a JSON object.
    ///
    /// ```
    /// let charge = tollgate_client::Charge::amount(5).metadata(serde_json::json!({"job": "4711"}));
    /// ```
    pub fn metadata(mut self, metadata: Value) -> Charge {
        self.note.insert("metadata".into(), metadata);
        self
    }

    /// What is paid for, and what is said about it.
    pub(crate) fn into_parts(self) -> (Map<String, Value>, Map<String, Value>) {
        (self.what, self.note)
    }
}

impl From<u64> for Charge {
    fn from(amount: u64) -> Charge {
        Charge::amount(amount)
    }
}

impl From<&str> for Charge {
    fn from(feature: &str) -> Charge {
        Charge::feature(feature)
    }
}

/// What somebody has, in one unit.
///
/// ```
/// fn enough(balance: &tollgate_client::Balance) -> bool {
///     balance.available >= 5
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Balance {
    /// Of what.
    pub unit: String,
    /// Unexpired credits less debt.
    pub balance: i64,
    /// Set aside by holds.
    pub held: i64,
    /// `balance` less `held`: what can be spent.
    pub available: i64,
    /// What lies below zero.
    pub owed: i64,
}

/// Credits that were taken.
///
/// ```
/// fn told(spent: &tollgate_client::Spent) -> String {
///     format!("{} taken, {} left", spent.amount, spent.available)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spent {
    /// The entry in the ledger, for a refund.
    pub entry_id: EntryId,
    /// How many, as a positive number.
    pub amount: i64,
    /// Of what.
    pub unit: String,
    /// What is left, held credits included.
    pub balance: i64,
    /// What is left to be spent.
    pub available: i64,
    /// This had been charged before under the same key, and was not charged again: **the work has been paid for once**.
    pub replayed: bool,
}

#[derive(Deserialize)]
struct Movement {
    entry: Entry,
    balance: Balance,
}

#[derive(Deserialize)]
struct Entry {
    id: EntryId,
    amount: i64,
    unit: String,
}

#[derive(Deserialize)]
pub(crate) struct BalanceOnly {
    pub balance: Balance,
}

#[derive(Deserialize)]
struct Reservation {
    hold: Reserved,
}

#[derive(Deserialize)]
struct Reserved {
    id: HoldId,
    amount: i64,
    unit: String,
}

/// The answer to a debit or a capture.
pub(crate) fn spent(answer: &Answer) -> Result<Spent, Error> {
    let Movement { entry, balance } = read(answer)?;
    Ok(Spent {
        entry_id: entry.id,
        // Money out is negative in the ledger.
        amount: entry.amount.saturating_neg(),
        unit: entry.unit,
        balance: balance.balance,
        available: balance.available,
        replayed: answer.is_replayed(),
    })
}

/// An answer of the credits door. It forbids nothing but what a key lacks the scope for, which is no matter of the
/// person who asked.
pub(crate) fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, Error> {
    answer
        .read()
        .map_err(|error| if error.code() == "forbidden" { Misconfigured::LacksScope.into() } else { error })
}

/// Somebody's account, asked under the service key: for jobs and servers, where no visitor waits. In handlers take the
/// extractor `Credits`.
///
/// ```no_run
/// use tollgate_client::{Charge, Error, IdempotencyKey, Tollgate, UserId};
///
/// async fn run(tollgate: Tollgate, user: UserId, key: IdempotencyKey) -> Result<(), Error> {
///     let account = tollgate.account(user);
///     let spent = account.spend(Charge::feature("report").reason("monthly"), &key).await?;
///     println!("{} left", spent.available);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Account {
    tollgate: Tollgate,
    owner: Owner,
}

impl Tollgate {
    /// The account of a user, an organization or a guest. Who may use it is the app's to know: this asks for nobody's
    /// session.
    ///
    /// ```
    /// # let tollgate = tollgate_client::Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// let account = tollgate.account(tollgate_client::UserId::new("k3pQ"));
    /// ```
    pub fn account(&self, owner: impl Into<Owner>) -> Account {
        Account { tollgate: self.clone(), owner: owner.into() }
    }
}

impl Account {
    /// Whose it is.
    ///
    /// ```
    /// # use tollgate_client::{Owner, Tollgate, UserId};
    /// # let tollgate = Tollgate::new("http://127.0.0.1:8655").unwrap();
    /// let account = tollgate.account(UserId::new("k3pQ"));
    /// assert_eq!(account.owner(), &Owner::User(UserId::new("k3pQ")));
    /// ```
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// What is there, in the unit or else in the first of Tollgate's configuration.
    ///
    /// ```no_run
    /// # async fn example(account: tollgate_client::Account) -> Result<(), tollgate_client::Error> {
    /// let balance = account.balance(None).await?;
    /// println!("{} {}", balance.available, balance.unit);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// 404 `not_found` for an owner that does not exist, 422 for an unknown unit, 503.
    pub async fn balance(&self, unit: Option<&str>) -> Result<Balance, Error> {
        let (name, id) = self.owner.member();
        let mut target = format!("/api/credits/balance?{name}={}", escape(id));
        if let Some(unit) = unit {
            target.push_str("&unit=");
            target.push_str(&escape(unit));
        }
        read(&self.tollgate.ask_as_service(Question::get(target)).await?)
    }

    /// Takes credits, once for a key: the same key and charge again give the first answer with [`Spent::replayed`].
    ///
    /// After [`Error::Unavailable`] it is not known whether they were taken; the same call with the same key finds out.
    ///
    /// ```no_run
    /// # async fn example(account: tollgate_client::Account) -> Result<(), Box<dyn std::error::Error>> {
    /// use tollgate_client::IdempotencyKey;
    ///
    /// let spent = account.spend("image.generate", &IdempotencyKey::new("job-4711")?).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// 402 when there are too few, 404 for an unknown owner, 409 when the key stood for something else, 422 for a charge
    /// that is none, 429 at a cap of the day or month, 503.
    pub async fn spend(&self, charge: impl Into<Charge>, key: &IdempotencyKey) -> Result<Spent, Error> {
        let body = self.body(charge.into());
        spent(&self.tollgate.change("/api/credits/debits", Some(key), &Value::Object(body)).await?)
    }

    /// Sets credits aside for work whose cost is known when it is done. See [`Hold`].
    ///
    /// `expires_in`, 1 s to 24 h, is when the hold ends by itself if the app is gone by then: longer than the work takes.
    ///
    /// ```no_run
    /// # async fn example(account: tollgate_client::Account) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollgate_client::IdempotencyKey;
    ///
    /// let hold = account.hold(60, Duration::from_secs(300), &IdempotencyKey::new("job-4711")?).await?;
    /// hold.settle(45).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Account::spend`]. A call that is cancelled may leave a hold behind, which ends by itself.
    pub async fn hold(
        &self,
        charge: impl Into<Charge>,
        expires_in: Duration,
        key: &IdempotencyKey,
    ) -> Result<Hold, Error> {
        let mut body = self.body(charge.into());
        body.insert("expires_in".into(), expires_in.as_secs().into());
        let answer = self.tollgate.change("/api/credits/holds", Some(key), &Value::Object(body)).await?;
        let Reservation { hold: Reserved { id, amount, unit } } = read(&answer)?;
        Ok(Hold::new(self.tollgate.clone(), id, amount, unit, answer.is_replayed()))
    }

    fn body(&self, charge: Charge) -> Map<String, Value> {
        let (mut body, note) = charge.into_parts();
        body.extend(note);
        let (name, id) = self.owner.member();
        body.insert(name.into(), id.into());
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_written_as_the_door_reads_them() {
        let tollgate = Tollgate::new("http://127.0.0.1:1").unwrap();
        let account = tollgate.account(UserId::new("u"));
        let body = |charge: Charge| Value::Object(account.body(charge));
        assert_eq!(body(5.into()), json!({"user_id": "u", "amount": 5}));
        assert_eq!(body("x".into()), json!({"user_id": "u", "feature": "x"}));
        assert_eq!(
            body(Charge::feature("x").quantity(2).reason("r").metadata(json!({"a": 1}))),
            json!({"user_id": "u", "feature": "x", "quantity": 2, "reason": "r", "metadata": {"a": 1}})
        );
        assert_eq!(
            body(Charge::tokens("m", Tokens { input: 1, ..Tokens::default() })),
            json!({"user_id": "u", "model": "m", "tokens": {"input": 1, "output": 0, "cached": 0, "reasoning": 0}})
        );
        let unit = Charge::amount(1).unit("tokens");
        let guest = tollgate.account(GuestId::new("g"));
        assert_eq!(Value::Object(guest.body(unit)), json!({"guest_id": "g", "amount": 1, "unit": "tokens"}));
    }
}
