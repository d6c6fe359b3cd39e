//! Entries: the rows that say what happened to an account. They are written once, in a chain of hashes.

use crate::json::Object;
use crate::owner::{AccountId, Item, Owner, item_id};
use crate::spender::Spender;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::Millis;
use sha2::{Digest as _, Sha256};
use store::{Error, Row};

/// Of a hash: 192 bits, which nobody finds two entries for.
const HASH_BYTES: usize = 24;

/// The greatest amount: what JavaScript counts exactly.
pub const MAX_AMOUNT: i64 = 9_007_199_254_740_991;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Grant,
    Debit,
    Capture,
    Refund,
    Expiry,
    Rollover,
    Clawback,
    Reinstate,
    Adjustment,
    Transfer,
}

impl Kind {
    pub const ALL: [Kind; 10] = [
        Kind::Grant,
        Kind::Debit,
        Kind::Capture,
        Kind::Refund,
        Kind::Expiry,
        Kind::Rollover,
        Kind::Clawback,
        Kind::Reinstate,
        Kind::Adjustment,
        Kind::Transfer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Grant => "grant",
            Kind::Debit => "debit",
            Kind::Capture => "capture",
            Kind::Refund => "refund",
            Kind::Expiry => "expiry",
            Kind::Rollover => "rollover",
            Kind::Clawback => "clawback",
            Kind::Reinstate => "reinstate",
            Kind::Adjustment => "adjustment",
            Kind::Transfer => "transfer",
        }
    }

    pub fn parse(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == text)
    }
}

/// Where a grant comes from; the order in which the burn-down prefers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    Promo,
    Signup,
    Adjustment,
    Plan,
    Paid,
}

impl Source {
    pub const ALL: [Source; 5] =
        [Source::Promo, Source::Signup, Source::Adjustment, Source::Plan, Source::Paid];

    pub fn name(self) -> &'static str {
        match self {
            Source::Promo => "promo",
            Source::Signup => "signup",
            Source::Adjustment => "adjustment",
            Source::Plan => "plan",
            Source::Paid => "paid",
        }
    }

    pub fn parse(text: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.name() == text)
    }

    /// What was given goes before what was paid for.
    pub fn rank(self) -> i64 {
        match self {
            Source::Promo | Source::Signup | Source::Adjustment => 0,
            Source::Plan => 1,
            Source::Paid => 2,
        }
    }

    /// Its side of the books.
    pub fn counter(self) -> &'static str {
        match self {
            Source::Promo => "source:promo",
            Source::Signup => "source:signup",
            Source::Adjustment => "source:adjustment",
            Source::Plan => "source:plan",
            Source::Paid => "source:paid",
        }
    }
}

/// A movement of one lot; without a lot it is debt that grows (negative) or is paid (positive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    pub lot: Option<i64>,
    pub amount: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub account: AccountId,
    pub seq: i64,
    pub kind: Kind,
    /// Negative for money out.
    pub amount: i64,
    pub balance_after: i64,
    pub counter: String,
    pub feature: Option<String>,
    pub quantity: Option<i64>,
    pub price_version: Option<i64>,
    pub reason: Option<String>,
    pub actor: String,
    pub request_id: Option<String>,
    pub idempotency_key: Option<String>,
    pub source_ref: Option<String>,
    pub hold_no: Option<i64>,
    pub refund_of: Option<i64>,
    pub parts: Vec<Part>,
    /// A JSON object as text.
    pub metadata: Option<String>,
    pub created_at: Millis,
    /// Of the entry before. No row has it: it stands on that entry.
    pub prev_hash: String,
    pub hash: String,
}

/// The columns that [`Entry::read`] takes, for `SELECT`.
macro_rules! columns {
    () => {
        "account_id, seq, kind, amount, balance_after, counter, feature, quantity, price_version, reason, actor, request_id, \
         idempotency_key, source_ref, hold_no, refund_of, parts, metadata, created_at, hash"
    };
}
pub(crate) use columns;

impl Entry {
    /// Who spent what it took, if that was not the owner alone.
    pub(crate) fn spender(&self) -> Option<Spender> {
        let spends = matches!(self.kind, Kind::Debit | Kind::Capture | Kind::Refund);
        self.source_ref.as_deref().filter(|_| spends).and_then(Spender::parse)
    }

    pub(crate) fn read(row: &Row<'_>) -> Result<Entry, Error> {
        let kind = row.text(2)?;
        let parts = row.text(16)?;
        Ok(Entry {
            account: AccountId::stored(row.text(0)?),
            seq: row.get(1)?,
            kind: Kind::parse(kind).ok_or_else(|| Error::Fault(format!("an entry of kind {kind}")))?,
            amount: row.get(3)?,
            balance_after: row.get(4)?,
            counter: row.get(5)?,
            feature: row.get(6)?,
            quantity: row.get(7)?,
            price_version: row.get(8)?,
            reason: row.get(9)?,
            actor: row.get(10)?,
            request_id: row.get(11)?,
            idempotency_key: row.get(12)?,
            source_ref: row.get(13)?,
            hold_no: row.get(14)?,
            refund_of: row.get(15)?,
            parts: parse_parts(parts).ok_or_else(|| Error::Fault(format!("parts {parts}")))?,
            metadata: row.get(17)?,
            created_at: row.get(18)?,
            prev_hash: String::new(),
            hash: row.get(19)?,
        })
    }

    /// The hash that the entry must carry: of everything in it and of the entry before.
    pub fn compute_hash(&self) -> String {
        let mut bytes = Vec::with_capacity(512);
        // With its length, so that no two entries read alike.
        let mut text = |value: &str| {
            bytes.extend((value.len() as u64).to_be_bytes());
            bytes.extend(value.as_bytes());
        };
        text(&self.prev_hash);
        text(self.account.as_str());
        text(self.kind.name());
        text(&self.counter);
        text(&self.actor);
        let options = [
            &self.feature,
            &self.reason,
            &self.request_id,
            &self.idempotency_key,
            &self.source_ref,
            &self.metadata,
        ];
        for option in options {
            text(option.as_deref().unwrap_or("\u{0}none"));
        }
        let numbers = [Some(self.seq), Some(self.amount), Some(self.balance_after), Some(self.created_at.0)];
        let rest = [self.quantity, self.price_version, self.hold_no, self.refund_of];
        let parts = self.parts.iter().flat_map(|part| [part.lot, Some(part.amount)]);
        for number in numbers.into_iter().chain(rest).chain(parts) {
            bytes.push(u8::from(number.is_some()));
            bytes.extend(number.unwrap_or(0).to_be_bytes());
        }
        URL_SAFE_NO_PAD.encode(&Sha256::digest(&bytes)[..HASH_BYTES])
    }

    pub fn id(&self) -> String {
        item_id(&self.account, Item::Entry, self.seq)
    }

    /// As it stands in lists.
    pub fn list_json(&self, unit: &str) -> String {
        let mut object = Object::new();
        self.members(&mut object, unit);
        object.end()
    }

    /// As it stands in the answer to a POST.
    pub(crate) fn answer_members(&self, object: &mut Object, owner: &Owner, unit: &str) {
        self.members(object, unit);
        object.text(owner.field(), owner.id());
        object.number_or_null("price_version", self.price_version);
        object.id_or_null("hold_id", &self.account, Item::Hold, self.hold_no);
        object.id_or_null("refund_of", &self.account, Item::Entry, self.refund_of);
    }

    fn members(&self, object: &mut Object, unit: &str) {
        object.id("id", &self.account, Item::Entry, self.seq);
        object.number("seq", self.seq);
        object.text("kind", self.kind.name());
        object.number("amount", self.amount);
        object.number("balance_after", self.balance_after);
        object.text("unit", unit);
        object.text_or_null("feature", self.feature.as_deref());
        object.text_or_null("reason", self.reason.as_deref());
        object.text("actor", &self.actor);
        object.text_or_null("idempotency_key", self.idempotency_key.as_deref());
        object.text_or_null("source_ref", self.source_ref.as_deref());
        object.list("parts", self.parts.iter(), |object, part| self.part_members(object, part));
        object.raw("metadata", self.metadata.as_deref().unwrap_or("null"));
        object.time("created_at", self.created_at);
    }

    fn part_members(&self, object: &mut Object, part: &Part) {
        object.id_or_null("grant_id", &self.account, Item::Grant, part.lot);
        object.number("amount", part.amount);
    }

    pub fn parts_json(&self) -> String {
        let part = |part: &Part| {
            let mut object = Object::new();
            self.part_members(&mut object, part);
            object.end()
        };
        let parts: Vec<String> = self.parts.iter().map(part).collect();
        format!("[{}]", parts.join(","))
    }
}

/// `1:-5,-:-2`: lot number and amount, `-` for debt.
pub(crate) fn parts_text(parts: &[Part]) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(parts.len() * 12);
    for part in parts {
        if !out.is_empty() {
            out.push(',');
        }
        // Writing to a text cannot fail.
        let _ = match part.lot {
            Some(no) => write!(out, "{no}:{}", part.amount),
            None => write!(out, "-:{}", part.amount),
        };
    }
    out
}

pub(crate) fn parse_parts(text: &str) -> Option<Vec<Part>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    let part = |text: &str| {
        let (lot, amount) = text.split_once(':')?;
        let lot = if lot == "-" { None } else { Some(lot.parse().ok()?) };
        Some(Part { lot, amount: amount.parse().ok()? })
    };
    text.split(',').map(part).collect()
}
