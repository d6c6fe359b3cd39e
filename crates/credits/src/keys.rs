//! Idempotency keys: under which an effect happens once, and what is answered when it is asked for again.
//!
//! What makes an entry has its key on the entry's row, and its answer is made from rows that do not change: the entry, the
//! grant as it came, the hold as it ended. What else the answer said, the entry's row says beside. Commands that make no
//! entry (hold, release, extend) have a row of the keys with the text of the answer.

use crate::account::{Account, Hold, Lot};
use crate::answer::{Content, Receipt, Rows};
use crate::command::{Action, Figures, Idempotency};
use crate::entry::{Entry, Kind};
use crate::json::Object;
use crate::owner::{AccountId, Item, Owner, parse_item};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// 128 bits: no two requests will meet.
const ID_BYTES: usize = 16;

/// The id of a key, from its scope (as [`KeyScope::names`](crate::KeyScope) has it) and operation.
pub(crate) fn key_id(scope: (&str, &str), action: &Action, given: &Idempotency) -> String {
    let mut hash = Sha256::new();
    for text in [scope.0, scope.1, action.operation(), &given.key] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..ID_BYTES])
}

/// Where the key of a command is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the entry that it makes.
    Entry,
    /// In a row of its own.
    Row,
    /// Nowhere: such a command sets something, so doing it again changes nothing.
    Nowhere,
}

impl Place {
    pub fn of(action: &Action) -> Place {
        match action {
            Action::Grant(_)
            | Action::Debit { .. }
            | Action::Capture { .. }
            | Action::Refund { .. }
            | Action::ClawBack { .. }
            | Action::Reinstate { .. }
            | Action::Adjust { .. }
            | Action::Transfer { .. } => Place::Entry,
            Action::Hold { .. } | Action::Release { .. } | Action::Extend { .. } => Place::Row,
            Action::Freeze { .. } | Action::Settle | Action::SetFloor { .. } | Action::SetLimit { .. } => {
                Place::Nowhere
            }
        }
    }
}

/// What is known of a key that was used.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// In this very transaction.
    Fresh {
        request: String,
        receipt: Receipt,
    },
    /// By an entry that was read.
    Entry(Box<KeptEntry>),
    Text(KeptText),
}

/// A key on an entry's row.
#[derive(Debug, Clone)]
pub(crate) struct KeptEntry {
    pub entry: Entry,
    /// `None`: the [plain](plain_request) one.
    pub request: Option<String>,
    /// See [`Beside`].
    pub answer: Option<String>,
}

/// A row of the keys.
#[derive(Debug, Clone)]
pub(crate) struct KeptText {
    pub request: String,
    pub status: i64,
    pub answer: String,
}

impl KeptEntry {
    pub fn request(&self, owner: &Owner) -> String {
        self.request.clone().unwrap_or_else(|| plain_request(&self.entry, owner))
    }

    pub fn beside(&self) -> Option<Beside> {
        Beside::parse(&self.entry, self.answer.as_deref().unwrap_or_default())
    }

    /// The first answer again. `grant` and `hold` are as they are now: only what cannot change is told of them.
    pub fn receipt(
        self,
        beside: Beside,
        owner: Owner,
        unit: String,
        grant: Option<Lot>,
        hold: Option<Hold>,
    ) -> Receipt {
        let entry = self.entry;
        let grant = grant.map(|lot| {
            let own = entry.parts.iter().filter(|part| part.lot == Some(lot.no));
            Lot { remaining: own.map(|part| part.amount).sum(), held: 0, ended: false, ..lot }
        });
        let figures = Figures {
            account: entry.account.clone(),
            entry: Some(entry.seq),
            hold: hold.as_ref().map(|hold| hold.no),
            grant: grant.as_ref().map(|lot| lot.no),
            amount: entry.amount.abs(),
            unit,
            balance: beside.balance,
            held: beside.held,
            owed: beside.owed,
        };
        let status = if entry.kind == Kind::Capture { 200 } else { 201 };
        let rows = Rows { owner, grant, hold, entry: Some(entry), negative_floor: None };
        Receipt { status, replayed: true, figures, content: Content::Rows(Box::new(rows)) }
    }
}

/// What an answer said and its entry does not: nothing, most of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beside {
    pub balance: i64,
    pub held: i64,
    pub owed: i64,
    pub grant: Option<i64>,
}

impl Beside {
    /// What follows from the entry when nothing else is said.
    fn usual(entry: &Entry) -> Beside {
        let gives = matches!(entry.kind, Kind::Grant | Kind::Adjustment);
        let lot = entry.parts.iter().find(|part| part.amount > 0 && part.lot.is_some());
        let grant = lot.filter(|_| gives).and_then(|part| part.lot);
        Beside { balance: entry.balance_after, held: 0, owed: 0, grant }
    }

    fn members(&self) -> [(char, i64); 4] {
        [('b', self.balance), ('h', self.held), ('o', self.owed), ('g', self.grant.unwrap_or(0))]
    }

    /// `h20,o5`: what is not usual; `None` when all is.
    pub fn text(entry: &Entry, figures: &Figures) -> Option<String> {
        let Figures { balance, held, owed, grant, .. } = *figures;
        let said = Beside { balance, held, owed, grant }.members();
        let unusual = said.into_iter().zip(Beside::usual(entry).members());
        let unusual = unusual.filter(|(said, usual)| said != usual);
        let members: Vec<String> = unusual.map(|((letter, value), _)| format!("{letter}{value}")).collect();
        (!members.is_empty()).then(|| members.join(","))
    }

    fn parse(entry: &Entry, text: &str) -> Option<Beside> {
        let mut beside = Beside::usual(entry);
        for member in text.split(',').filter(|member| !member.is_empty()) {
            let (letter, value) = member.split_at_checked(1)?;
            let value = value.parse().ok()?;
            match letter {
                "b" => beside.balance = value,
                "h" => beside.held = value,
                "o" => beside.owed = value,
                "g" => beside.grant = (value != 0).then_some(value),
                _ => return None,
            }
        }
        Some(beside)
    }
}

impl KeptText {
    /// `None` when the text is not what was written.
    pub fn receipt(self) -> Option<Receipt> {
        let figures = serde_json::from_str::<Said>(&self.answer).ok()?.figures()?;
        let status = u16::try_from(self.status).ok()?;
        Some(Receipt { status, replayed: true, figures, content: Content::Text(self.answer) })
    }
}

/// What is read of an answer that was kept.
#[derive(serde::Deserialize)]
struct Said {
    hold: SaidHold,
    balance: SaidBalance,
}

#[derive(serde::Deserialize)]
struct SaidHold {
    id: String,
    amount: i64,
}

#[derive(serde::Deserialize)]
struct SaidBalance {
    unit: String,
    balance: i64,
    held: i64,
    owed: i64,
}

impl Said {
    fn figures(self) -> Option<Figures> {
        let (account, hold): (AccountId, i64) = parse_item(&self.hold.id, Item::Hold)?;
        let SaidBalance { unit, balance, held, owed } = self.balance;
        let amount = self.hold.amount;
        Some(Figures {
            account,
            entry: None,
            hold: Some(hold),
            grant: None,
            amount,
            unit,
            balance,
            held,
            owed,
        })
    }
}

// ---- requests

/// The request that most debits come from, as the doors spell it: it need not be kept, since the entry says it. What is
/// made here has to stay as it is: rows depend on it.
pub(crate) fn plain_request(entry: &Entry, owner: &Owner) -> String {
    let mut object = Object::new();
    match &entry.feature {
        Some(feature) => object.text("feature", feature),
        None => object.number("amount", -entry.amount),
    }
    if let Owner::Guest(id) = owner {
        object.text("guest_id", id);
    }
    if let Some(metadata) = &entry.metadata {
        object.raw("metadata", metadata);
    }
    if let Owner::Organization(id) = owner {
        object.text("organization_id", id);
    }
    if let Some(quantity) = entry.quantity.filter(|quantity| *quantity != 1) {
        object.number("quantity", quantity);
    }
    if let Some(reason) = &entry.reason {
        object.text("reason", reason);
    }
    if let Owner::User(id) = owner {
        object.text("user_id", id);
    }
    object.end()
}

/// What is kept of a request. The amount of a capture or refund goes without saying where leaving it out would have
/// meant the same: only the ledger knows what that is, and the entry tells it later.
pub(crate) fn kept_request<'a>(given: &'a str, action: &Action, account: &Account) -> Cow<'a, str> {
    let is_default = match *action {
        Action::Capture { hold, amount: Some(amount), .. } => {
            account.holds.get(&hold).is_some_and(|hold| hold.amount == amount)
        }
        Action::Refund { entry, amount: Some(_), .. } | Action::Reinstate { entry, amount: Some(_), .. } => {
            // Nothing is left of it.
            account.originals.get(&entry).is_some_and(|(original, back)| original.amount + back == 0)
        }
        _ => false,
    };
    if !is_default {
        return given.into();
    }
    let mut rest = members(given);
    rest.remove("amount");
    // Texts and numbers are JSON.
    serde_json::to_string(&rest).map_or(given.into(), Cow::Owned)
}

/// The first member in which a request differs from the one that was [kept](kept_request) and made the entry.
pub(crate) fn difference(kept: &str, given: &str, entry: Option<&Entry>) -> Option<String> {
    if kept == given {
        return None;
    }
    let (kept, mut given) = (members(kept), members(given));
    let has_default = |entry: &&Entry| matches!(entry.kind, Kind::Capture | Kind::Refund | Kind::Reinstate);
    if let Some(entry) = entry.filter(has_default)
        && !kept.contains_key("amount")
        && given.get("amount").and_then(serde_json::Value::as_i64) == Some(entry.amount.abs())
    {
        given.remove("amount");
    }
    let names = kept.keys().chain(given.keys()).collect::<BTreeSet<_>>();
    names.into_iter().find(|name| kept.get(*name) != given.get(*name)).cloned()
}

fn members(request: &str) -> BTreeMap<String, serde_json::Value> {
    serde_json::from_str(request).unwrap_or_default()
}
