//! Whose credits: a user, an organization or a guest, and the account they have in a unit.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;
use store::{Error, Tx, params};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    User(String),
    Organization(String),
    Guest(String),
}

impl Owner {
    /// The member of a body that names such an owner.
    pub fn field(&self) -> &'static str {
        match self {
            Owner::User(_) => "user_id",
            Owner::Organization(_) => "organization_id",
            Owner::Guest(_) => "guest_id",
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Owner::User(_) => "user",
            Owner::Organization(_) => "organization",
            Owner::Guest(_) => "guest",
        }
    }

    pub fn id(&self) -> &str {
        match self {
            Owner::User(id) | Owner::Organization(id) | Owner::Guest(id) => id,
        }
    }

    /// As it stands in the ledger: `user:…`.
    pub fn parse(text: &str) -> Option<Owner> {
        let (kind, id) = text.split_once(':')?;
        match kind {
            "user" => Some(Owner::User(id.into())),
            "organization" => Some(Owner::Organization(id.into())),
            "guest" => Some(Owner::Guest(id.into())),
            _ => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.id())
    }
}

const OWNERS: &str = "SELECT DISTINCT owner FROM credit_accounts WHERE owner > $1 ORDER BY owner LIMIT $2";

/// Owners with an account, in an order of their own, after the one that is given.
pub fn owners_after(tx: &mut Tx<'_>, last: Option<&Owner>, most: i64) -> Result<Vec<Owner>, Error> {
    let last = last.map(Owner::to_string).unwrap_or_default();
    tx.query(OWNERS, params![&last, most], |row| {
        let text = row.text(0)?;
        Owner::parse(text).ok_or_else(|| Error::Fault(format!("an account of {text}")))
    })
}

/// An owner's account in a unit. Computed from both, so that nobody has to look it up; a grant's, hold's or entry's id
/// begins with it for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(Arc<str>);

const LENGTH: usize = 20;

impl AccountId {
    pub fn of(owner: &Owner, unit: &str) -> AccountId {
        let mut hash = Sha256::new();
        hash.update(owner.kind());
        hash.update(":");
        hash.update(owner.id());
        hash.update([0]);
        hash.update(unit);
        let mut text = URL_SAFE_NO_PAD.encode(hash.finalize());
        // 120 bits: no two owners will meet, and a row names its owner besides.
        text.truncate(LENGTH);
        AccountId(text.into())
    }

    /// From a row.
    pub(crate) fn stored(text: &str) -> AccountId {
        AccountId(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an id points at within its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    Grant,
    Hold,
    Entry,
}

impl Item {
    fn letter(self) -> char {
        match self {
            Item::Grant => 'g',
            Item::Hold => 'h',
            Item::Entry => 'e',
        }
    }
}

/// `gr…`: the account and a number, as clients see it.
pub fn item_id(account: &AccountId, item: Item, number: i64) -> String {
    let mut text = String::with_capacity(LENGTH + 8);
    push_item_id(&mut text, account, item, number);
    text
}

pub(crate) fn push_item_id(out: &mut String, account: &AccountId, item: Item, number: i64) {
    use fmt::Write as _;
    // Writing to a text cannot fail.
    let _ = write!(out, "{}{}{number}", account.0, item.letter());
}

/// The account and number of an id; `None` for what no id of that kind looks like.
pub fn parse_item(text: &str, item: Item) -> Option<(AccountId, i64)> {
    let (account, rest) = text.split_at_checked(LENGTH)?;
    let digits = rest.strip_prefix(item.letter())?;
    let plain = !digits.is_empty() && digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let known = account.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    let number: i64 =
        if plain && known && !digits.starts_with('0') { digits.parse().ok()? } else { return None };
    Some((AccountId(account.into()), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_differ_by_owner_kind_and_unit_and_ids_come_back() {
        let ids = [
            AccountId::of(&Owner::User("a".into()), "credits"),
            AccountId::of(&Owner::User("a".into()), "tokens"),
            AccountId::of(&Owner::Guest("a".into()), "credits"),
            AccountId::of(&Owner::User("b".into()), "credits"),
        ];
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id));
            let text = item_id(id, Item::Entry, 42);
            assert_eq!(parse_item(&text, Item::Entry), Some((id.clone(), 42)));
            assert_eq!(parse_item(&text, Item::Hold), None);
        }
        for text in
            ["", "x", "aaaaaaaaaaaaaaaaaaaae", "aaaaaaaaaaaaaaaaaaaae-1", "aaaaaaaaaaaaaaaaaaaae01", "é"]
        {
            assert_eq!(parse_item(text, Item::Entry), None, "{text}");
        }
        assert_eq!(Owner::parse("user:a:b"), Some(Owner::User("a:b".into())));
    }
}
