//! Seals: what says that no entry was taken away.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::{Millis, Vault};
use store::{Error, InsertMany, Row, Tx, params};

const ONE_SEAL: &str = "SELECT entries, total, sealed_at, mac FROM credit_seals WHERE writer = $1";
pub(crate) const PUT_SEAL: InsertMany = InsertMany {
    into: "INSERT INTO credit_seals (writer, entries, total, sealed_at, mac)",
    width: 5,
    tail: "ON CONFLICT (writer) DO UPDATE SET entries = excluded.entries, total = excluded.total,
        sealed_at = excluded.sealed_at, mac = excluded.mac",
};

/// What one writer has written: the count of its entries and the sum of their keyed hashes, signed anew with every
/// transaction. The sum over all writers must be the sum over all entries, so that neither an entry nor the newest rows
/// can be taken away, although each account's chain alone would not show the latter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seal {
    pub writer: String,
    pub entries: i64,
    pub total: [u64; 4],
}

pub(crate) const SEAL: &str = "ledger entry";
const SIGNATURE: &str = "ledger seal";

impl Seal {
    pub fn new(writer: String) -> Seal {
        Seal { writer, entries: 0, total: [0; 4] }
    }

    /// As it was written last. `None` when somebody else has touched it: it must not be signed anew, so that the check
    /// finds it as it is.
    pub fn read(tx: &mut Tx<'_>, vault: &Vault, writer: &str) -> Result<Option<Seal>, Error> {
        let row = |row: &Row<'_>| {
            Ok((row.get::<i64>(0)?, row.get::<String>(1)?, row.get::<Millis>(2)?, row.get::<String>(3)?))
        };
        let Some((entries, total, at, mac)) = tx.query_opt(ONE_SEAL, params![writer], row)? else {
            return Ok(Some(Seal::new(writer.to_string())));
        };
        let seal = parse_total(&total).map(|total| Seal { writer: writer.to_string(), entries, total });
        Ok(seal.filter(|seal| seal.signature(vault, at) == mac))
    }

    pub fn add(&mut self, vault: &Vault, hash: &str) {
        self.entries += 1;
        let mac = vault.mac(SEAL, hash);
        add(&mut self.total, &mac);
    }

    pub fn total_text(&self) -> String {
        let bytes: Vec<u8> = self.total.iter().flat_map(|word| word.to_be_bytes()).collect();
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub fn signature(&self, vault: &Vault, at: Millis) -> String {
        let text = format!("{}|{}|{}|{}", self.writer, self.entries, self.total_text(), at.0);
        vault.hash(SIGNATURE, &text)
    }
}

/// What [`Seal::total_text`] wrote.
pub(crate) fn parse_total(text: &str) -> Option<[u64; 4]> {
    let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let mut total = [0; 4];
    add(&mut total, &bytes);
    Some(total)
}

/// Adds a number of 256 bits, whose first word is the greatest.
pub(crate) fn add(total: &mut [u64; 4], bytes: &[u8; 32]) {
    let word = |at: usize| u64::from_be_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap_or_default());
    add_words(total, [word(0), word(1), word(2), word(3)]);
}

pub(crate) fn add_words(total: &mut [u64; 4], words: [u64; 4]) {
    let mut carry = false;
    for at in (0..4).rev() {
        let (sum, over) = total[at].overflowing_add(words[at]);
        let (sum, more) = sum.overflowing_add(u64::from(carry));
        total[at] = sum;
        carry = over || more;
    }
}
