//! The way from billing to the ledger: commands within the transaction that is under way.

use credits::{Action, Answer, Command, Owner, OwnerExists, Refusal, Target, apply_in};
use kernel::{Millis, Vault};
use store::Tx;

/// As it stands on entries.
const ACTOR: &str = "stripe";

/// What the rules of this room need to write entries.
#[derive(Clone, Copy)]
pub struct Books<'a> {
    pub terms: &'a credits::Settings,
    pub vault: &'a Vault,
    pub owner_exists: &'a OwnerExists,
    pub now: Millis,
}

/// Why an effect did not happen. Nothing of its transaction is kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Problem {
    #[error("{0}")]
    Store(#[from] store::Error),
    #[error("the ledger refused: {0:?}")]
    Refused(Refusal),
    /// What Stripe says does not fit what we sold: a person has to look at it.
    #[error("{0}")]
    Odd(String),
}

impl Books<'_> {
    pub fn apply(
        &self,
        tx: &mut Tx<'_>,
        owner: &Owner,
        unit: &str,
        action: Action,
    ) -> Result<Answer, Problem> {
        let command = Command {
            target: Target::Owner { owner: owner.clone(), unit: unit.to_owned() },
            action,
            actor: ACTOR.into(),
            request_id: None,
            idempotency: None,
        };
        let results = apply_in(tx, self.terms, self.vault, self.owner_exists, vec![command], self.now)?;
        let result = results.into_iter().next();
        let result = result.ok_or_else(|| Problem::Odd("the ledger gave no answer".into()))?;
        result.map_err(Problem::Refused)
    }
}

/// The owner in a row.
pub(crate) fn owner(text: &str) -> Result<Owner, store::Error> {
    Owner::parse(text).ok_or_else(|| store::Error::Fault(format!("an owner {text}")))
}
