//! What can be asked of the ledger, and why it may refuse.

use crate::entry::Source;
use crate::owner::{AccountId, Item, Owner, item_id};
use crate::spender::{Spender, SpentBy};
use kernel::Millis;

/// One change, as it was asked for. Which account it touches, who asks, and under which key.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    pub target: Target,
    pub action: Action,
    /// `key:<id>`, `user:<id>`, `stripe`, `operator:<name>` or `system`.
    pub actor: String,
    pub request_id: Option<String>,
    pub idempotency: Option<Idempotency>,
}

/// The account a command works on.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Owner {
        owner: Owner,
        unit: String,
    },
    /// Of a hold or an entry that was named by its id.
    Account(AccountId),
}

impl Target {
    pub fn account(&self) -> AccountId {
        match self {
            Target::Owner { owner, unit } => AccountId::of(owner, unit),
            Target::Account(account) => account.clone(),
        }
    }
}

/// A key under which an effect happens once, and the request as it was understood: a JSON object with its members in
/// alphabetical order, without those that were left at their default.
#[derive(Debug, Clone, PartialEq)]
pub struct Idempotency {
    pub key: String,
    pub request: String,
    /// Whose key it is, if not the owner's of the account: at the gate it is the subject's, whoever pays.
    pub scope: Option<KeyScope>,
}

/// Within which idempotency keys differ from each other.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyScope {
    Owner(Owner),
    /// An API key: two of one user do not share theirs.
    ApiKey(String),
}

impl KeyScope {
    pub(crate) fn names(&self) -> (&'static str, &str) {
        match self {
            KeyScope::Owner(owner) => (owner.field(), owner.id()),
            KeyScope::ApiKey(id) => ("api_key", id),
        }
    }
}

/// What something costs: an amount, and the feature and price-book version that it follows from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Charge {
    pub amount: i64,
    pub feature: Option<String>,
    pub quantity: Option<i64>,
    pub price_version: Option<i64>,
    /// Who spends it, if that is not the owner alone.
    pub spender: Option<Spender>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewGrant {
    pub amount: i64,
    pub source: Source,
    pub expires_at: Option<Millis>,
    /// 0 to 100, low first.
    pub priority: i64,
    pub reason: Option<String>,
    /// A JSON object as text.
    pub metadata: Option<String>,
    /// The payment or period that it stands for.
    pub source_ref: Option<String>,
    /// See [`crate::Lot::rollover`]. With it the end may be over already: then only what is carried over is left.
    pub rollover: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Grant(NewGrant),
    Debit {
        charge: Charge,
        reason: Option<String>,
        metadata: Option<String>,
        allow_negative: bool,
    },
    /// Milliseconds from now.
    Hold {
        charge: Charge,
        expires_in: i64,
        reason: Option<String>,
        metadata: Option<String>,
    },
    Capture {
        hold: i64,
        amount: Option<i64>,
        above: Above,
    },
    Release {
        hold: i64,
    },
    /// Milliseconds from now.
    Extend {
        hold: i64,
        expires_in: i64,
    },
    Refund {
        entry: i64,
        amount: Option<i64>,
        reason: String,
    },
    /// Keeps so much from being spent for as long as it is in doubt, as far as there is credit: no limit refuses or counts it.
    /// It takes the place of an earlier freeze, if that still lasts; an amount of 0 ends it.
    Freeze {
        amount: i64,
        instead_of: Option<i64>,
        reason: String,
    },
    /// Takes back what a payment gave; first what a freeze kept, then from the grant of that payment, if they are named. What is
    /// left of the freeze stays frozen, as another hold.
    ClawBack {
        amount: i64,
        frozen: Option<i64>,
        grant: Option<i64>,
        shortfall: Shortfall,
        reason: String,
        source_ref: Option<String>,
    },
    /// Gives back what a claw-back took.
    Reinstate {
        entry: i64,
        amount: Option<i64>,
        reason: String,
        source_ref: Option<String>,
    },
    /// By an operator: positive gives, negative takes.
    Adjust {
        amount: i64,
        reason: String,
    },
    Transfer {
        to: Owner,
        amount: i64,
        reason: String,
    },
    /// Nothing but what time does by itself.
    Settle,
    SetFloor {
        floor: i64,
    },
    /// Without `max` the limit is taken away. `of`: what one spender may take, instead of all.
    SetLimit {
        of: Option<SpentBy>,
        period: Period,
        max: Option<i64>,
    },
}

impl Action {
    /// The part of an idempotency key's scope that is not the owner.
    pub fn operation(&self) -> &'static str {
        match self {
            Action::Grant(_) => "grant",
            Action::Debit { .. } => "debit",
            Action::Hold { .. } => "hold",
            Action::Capture { .. } => "capture",
            Action::Release { .. } => "release",
            Action::Extend { .. } => "extend",
            Action::Refund { .. } => "refund",
            Action::Freeze { .. } => "freeze",
            Action::ClawBack { .. } => "clawback",
            Action::Reinstate { .. } => "reinstate",
            Action::Adjust { .. } => "adjust",
            Action::Transfer { .. } => "transfer",
            Action::Settle => "settle",
            Action::SetFloor { .. } => "floor",
            Action::SetLimit { .. } => "limit",
        }
    }
}

/// What a capture of more than was held does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Above {
    #[default]
    Refuse,
    /// The hold and no more.
    Cap,
    /// The rest from what is available.
    Balance,
    /// The rest down to the owner's floor.
    Floor,
}

impl Above {
    pub fn parse(text: &str) -> Option<Above> {
        match text {
            "refuse" => Some(Above::Refuse),
            "cap" => Some(Above::Cap),
            "balance" => Some(Above::Balance),
            "floor" => Some(Above::Floor),
            _ => None,
        }
    }
}

/// What happens to the part of a claw-back that is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// It becomes debt, paid by later grants.
    Owe,
    /// It is written on the entry and forgotten.
    Clamp,
}

/// An answer that was given, now or before.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// JSON.
    pub body: String,
    /// It is the first answer to this key again.
    pub replayed: bool,
    /// What the body says, as numbers.
    pub figures: Figures,
}

/// What was done, and the account as it was then.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Whose balance this is: on a replay the account that paid at first.
    pub account: AccountId,
    /// Numbers within the account, see [`Figures::entry_id`] and its like.
    pub entry: Option<i64>,
    pub hold: Option<i64>,
    pub grant: Option<i64>,
    /// What moved, or what the hold is of; without a sign.
    pub amount: i64,
    pub unit: String,
    pub balance: i64,
    pub held: i64,
    /// What lies below zero.
    pub owed: i64,
}

impl Figures {
    pub fn available(&self) -> i64 {
        self.balance - self.held
    }

    pub fn entry_id(&self) -> Option<String> {
        self.entry.map(|seq| item_id(&self.account, Item::Entry, seq))
    }

    pub fn hold_id(&self) -> Option<String> {
        self.hold.map(|no| item_id(&self.account, Item::Hold, no))
    }

    pub fn grant_id(&self) -> Option<String> {
        self.grant.map(|no| item_id(&self.account, Item::Grant, no))
    }
}

/// Why nothing was done. Expected: it is a value, not a fault.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// There is no such owner.
    UnknownOwner {
        field: &'static str,
    },
    /// There is no such hold, entry or grant.
    NotFound {
        what: &'static str,
    },
    Insufficient {
        unit: String,
        balance: i64,
        available: i64,
        required: i64,
    },
    /// The hold has ended, or less can be refunded.
    Conflict {
        message: String,
        refundable: Option<i64>,
    },
    /// The key was used for another request; this member differs.
    KeyMismatch {
        field: String,
    },
    LimitReached {
        scope: &'static str,
        owner_id: String,
        period: Period,
        max: i64,
        used: i64,
        resets_at: Millis,
    },
    Invalid {
        field: &'static str,
        message: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    Day,
    Month,
}

impl Period {
    pub fn name(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Month => "month",
        }
    }

    pub fn parse(text: &str) -> Option<Period> {
        match text {
            "day" => Some(Period::Day),
            "month" => Some(Period::Month),
            _ => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("refused: {0:?}")]
    Refused(Refusal),
    #[error("{0}")]
    Store(#[from] store::Error),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::Refused(refusal)
    }
}
