//! Checks that the ledger is whole: every entry, what accounts, lots and holds say of them, and the seals.
//!
//! The server goes on writing meanwhile, so the walk takes one short snapshot after the other, each of some accounts
//! with all that belongs to them. Entries are never changed, so what it has seen stays true; it remembers up to which
//! entry it saw each account. The seals can only be compared with all entries of one moment. For that the walk catches
//! up, in snapshots again, until little was written since, and takes the last step in the snapshot that it judges: the
//! seals, the sums over all accounts, and the entries that it has not seen. Whether these are all is seen from the
//! sums, and not from any clock: what was counted must be what the accounts' rows say in that same snapshot.

use crate::account::{Account, Hold, Lot};
use crate::entry::{self, Entry};
use crate::json::Object;
use crate::owner::AccountId;
use crate::rows;
use crate::seal::{SEAL, Seal, add, add_words, parse_total};
use kernel::secret::same_secret;
use kernel::{Millis, Vault};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use store::{Engine, Error, Row, Store, Tx, params};

/// What one snapshot takes: a few milliseconds of work.
const ACCOUNTS_AT_ONCE: usize = 200;
const ENTRIES_AT_ONCE: usize = 1_000;
/// What the last snapshot may find unseen; when more was written since, the walk catches up once more.
const LAST_STEP: i64 = 5_000;
const ROUNDS: usize = 12;
const ATTEMPTS: usize = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// By how much the clocks of nodes may differ before the walk has to look at every account again.
const CLOCKS_DIFFER: i64 = kernel::time::MINUTE;
/// No report grows beyond what somebody reads.
const PROBLEMS: usize = 1_000;

/// Something that does not add up. Without an owner it concerns the ledger as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `user:…`, or `account:…` when the row that names the owner is missing.
    pub owner: Option<String>,
    pub unit: Option<String>,
    /// Of the first broken entry; none when the entries are whole and a row beside them is not.
    pub seq: Option<i64>,
    pub what: String,
}

/// One side of the books: what a counter gave (below zero) or took. With the balances of its unit it adds up to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    pub unit: String,
    pub counter: String,
    pub sum: i128,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub accounts: u64,
    pub entries: u64,
    /// At most one for each account, and at most 1,000.
    pub problems: Vec<Problem>,
    pub books: Vec<Book>,
}

impl Report {
    pub fn ok(&self) -> bool {
        self.problems.is_empty()
    }

    /// `{ok, accounts, entries, problems: [{owner, unit, seq, what}], books: [{unit, counter, sum}]}`
    pub fn json(&self) -> String {
        let problems = self.problems.iter().map(|problem| {
            let mut object = Object::new();
            object.text_or_null("owner", problem.owner.as_deref());
            object.text_or_null("unit", problem.unit.as_deref());
            object.number_or_null("seq", problem.seq);
            object.text("what", &problem.what);
            object.end()
        });
        let books = self.books.iter().map(|book| {
            let mut object = Object::new();
            object.text("unit", &book.unit);
            object.text("counter", &book.counter);
            object.raw("sum", &book.sum.to_string());
            object.end()
        });
        let mut object = Object::new();
        object.raw("ok", if self.ok() { "true" } else { "false" });
        object.raw("accounts", &self.accounts.to_string());
        object.raw("entries", &self.entries.to_string());
        object.raw("problems", &format!("[{}]", problems.collect::<Vec<_>>().join(",")));
        object.raw("books", &format!("[{}]", books.collect::<Vec<_>>().join(",")));
        object.end()
    }
}

/// Checks everything. After each snapshot it tells how many entries are checked of how many, and rests for `pause`.
/// `now` is the moment at which it begins.
pub async fn run(
    store: &Store,
    vault: &Vault,
    now: Millis,
    pause: Duration,
    mut progress: impl FnMut(u64, u64),
) -> Result<Report, Error> {
    let total = snapshot(store, |tx| Ok(sums(tx)?.iter().map(|sum| sum.entries).sum::<i64>())).await?;
    let mut walk = Walk::new();
    let mut next = Some(Place::Behind(String::new()));
    while let Some(place) = next {
        let key = vault.clone();
        let (chains, then) = snapshot(store, move |tx| place.take(tx, &key)).await?;
        let under_way = match &then {
            Some(Place::Within(chain)) => chain.count,
            _ => 0,
        };
        next = then;
        chains.into_iter().for_each(|chain| walk.note(chain));
        let done = walk.entries + under_way;
        progress(done.unsigned_abs(), total.max(done).unsigned_abs());
        tokio::time::sleep(pause).await;
    }
    walk.compare_with_seals(store, vault, now, pause).await?;
    Ok(walk.report())
}

/// Runs a closure that sees one moment. A busy database is asked again: a long walk should not end because of it.
async fn snapshot<T: Send + 'static>(
    store: &Store,
    run: impl FnMut(&mut Tx<'_>) -> Result<T, Error> + Clone + Send + 'static,
) -> Result<T, Error> {
    let mut left = ATTEMPTS;
    loop {
        let result = match store.engine() {
            // A scan is a transaction there.
            Engine::Sqlite => store.scan(run.clone()).await,
            // READ COMMITTED would see another moment with each statement.
            Engine::Postgres => store.write_serializable(run.clone()).await,
        };
        match result {
            Err(error) if error.is_unavailable() && left > 0 => left -= 1,
            result => return result,
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

// ---- the walk over accounts

const ACCOUNT_IDS: &str = "SELECT id FROM credit_accounts WHERE id >= $1 AND id <> $2 ORDER BY id LIMIT $3";
const ACCOUNT_IDS_BEFORE: &str =
    "SELECT id FROM credit_accounts WHERE id >= $1 AND id <> $2 AND id < $4 ORDER BY id LIMIT $3";
const ENTRIES: &str = concat!(
    "SELECT ",
    entry::columns!(),
    " FROM credit_entries WHERE account_id >= $1 AND account_id <> $2 ORDER BY account_id, seq LIMIT $3"
);
const ENTRIES_TO: &str = concat!(
    "SELECT ",
    entry::columns!(),
    " FROM credit_entries WHERE account_id >= $1 AND account_id <> $2 AND account_id <= $4
    ORDER BY account_id, seq LIMIT $3"
);
const ENTRIES_OF: &str = concat!(
    "SELECT ",
    entry::columns!(),
    " FROM credit_entries WHERE account_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
);

/// Where the walk stands: behind an account, before one, or within one that has many entries. Ids are compared by the
/// database alone, whose order of texts may be another than ours.
#[derive(Debug, Clone)]
enum Place {
    Behind(String),
    At(String),
    Within(Box<Chain>),
}

/// What one snapshot gave: accounts that were seen to their end, and where to go on.
type Step = (Vec<Chain>, Option<Place>);

impl Place {
    fn take(&self, tx: &mut Tx<'_>, vault: &Vault) -> Result<Step, Error> {
        let (from, not) = match self {
            Place::Within(chain) => return go_on((**chain).clone(), tx, vault),
            Place::Behind(id) => (id, id.as_str()),
            Place::At(id) => (id, ""),
        };
        let limit = ACCOUNTS_AT_ONCE as i64;
        let mut ids = tx.query(ACCOUNT_IDS, params![from, not, limit], |row| row.get::<String>(0))?;
        let end = ids.get(ACCOUNTS_AT_ONCE - 1).cloned();
        let limit = ENTRIES_AT_ONCE as i64;
        let mut entries = match &end {
            Some(end) => tx.query(ENTRIES_TO, params![from, not, limit, end], read)?,
            None => tx.query(ENTRIES, params![from, not, limit], read)?,
        };
        let mut next = end.map(Place::Behind);
        if entries.len() == ENTRIES_AT_ONCE {
            // Of the last account there may be more: it is the first of the next snapshot.
            let cut = entries.last().map(|entry| entry.account.clone()).unwrap_or_default();
            entries.retain(|entry| entry.account != cut);
            let limit = ACCOUNTS_AT_ONCE as i64;
            ids = tx.query(ACCOUNT_IDS_BEFORE, params![from, not, limit, &cut], |row| row.get(0))?;
            if entries.is_empty() && ids.is_empty() {
                return go_on(Chain::new(cut), tx, vault);
            }
            next = Some(Place::At(cut));
        }
        let mut chains: BTreeMap<String, Chain> =
            ids.into_iter().map(|id| (id.clone(), Chain::new(id))).collect();
        for found in entries {
            let id = found.account.clone();
            chains.entry(id.clone()).or_insert_with(|| Chain::new(id)).take(found, vault);
        }
        let mut chains: Vec<Chain> = chains.into_values().collect();
        judge_rows(tx, &mut chains)?;
        Ok((chains, next))
    }
}

/// The next entries of one account, and its other rows when these were the last.
fn go_on(mut chain: Chain, tx: &mut Tx<'_>, vault: &Vault) -> Result<Step, Error> {
    let behind = if chain.count == 0 { i64::MIN } else { chain.seq };
    let entries = tx.query(ENTRIES_OF, params![&chain.id, behind, ENTRIES_AT_ONCE as i64], read)?;
    let is_full = entries.len() == ENTRIES_AT_ONCE;
    entries.into_iter().for_each(|entry| chain.take(entry, vault));
    if is_full {
        return Ok((Vec::new(), Some(Place::Within(Box::new(chain)))));
    }
    let next = Some(Place::Behind(chain.id.clone()));
    let mut chains = vec![chain];
    judge_rows(tx, &mut chains)?;
    Ok((chains, next))
}

/// A row of the entries. One that cannot be understood is a finding and no fault.
struct Found {
    account: String,
    seq: i64,
    entry: Result<Entry, String>,
}

fn read(row: &Row<'_>) -> Result<Found, Error> {
    let entry = Entry::read(row).map_err(|error| format!("the entry cannot be read: {error}"));
    Ok(Found { account: row.get(0)?, seq: row.get(1)?, entry })
}

/// The entries of an account, as far as they were seen.
#[derive(Debug, Clone)]
struct Chain {
    id: String,
    owner: Option<String>,
    unit: String,
    /// How many rows there were, which is not what the last one says when one is missing.
    count: i64,
    seq: i64,
    hash: String,
    balance: i128,
    owed: i128,
    at: Millis,
    lots: HashMap<i64, i128>,
    counters: BTreeMap<String, i128>,
    macs: [u64; 4],
    problem: Option<(Option<i64>, String)>,
}

impl Chain {
    fn new(id: String) -> Chain {
        Chain {
            id,
            owner: None,
            unit: String::new(),
            count: 0,
            seq: 0,
            hash: String::new(),
            balance: 0,
            owed: 0,
            at: Millis(0),
            lots: HashMap::new(),
            counters: BTreeMap::new(),
            macs: [0; 4],
            problem: None,
        }
    }

    fn blame(&mut self, seq: Option<i64>, what: impl Into<String>) {
        if self.problem.is_none() {
            self.problem = Some((seq, what.into()));
        }
    }

    fn take(&mut self, found: Found, vault: &Vault) {
        self.count += 1;
        if found.seq != self.seq.saturating_add(1) {
            let missing = self.seq.saturating_add(1);
            self.blame(Some(missing), format!("entry {missing} is missing"));
        }
        self.seq = found.seq;
        let entry = match found.entry {
            Ok(entry) => Entry { prev_hash: self.hash.clone(), ..entry },
            Err(what) => return self.blame(Some(found.seq), what),
        };
        if let Some(what) = self.mistake_in(&entry) {
            self.blame(Some(entry.seq), what);
        }
        self.balance = entry.balance_after.into();
        for part in &entry.parts {
            match part.lot {
                Some(no) => *self.lots.entry(no).or_default() += i128::from(part.amount),
                None => self.owed -= i128::from(part.amount),
            }
        }
        *self.counters.entry(entry.counter.clone()).or_default() -= i128::from(entry.amount);
        self.hash.clone_from(&entry.hash);
        self.at = entry.created_at;
        add(&mut self.macs, &vault.mac(SEAL, &entry.hash));
    }

    fn mistake_in(&self, entry: &Entry) -> Option<String> {
        let amount = i128::from(entry.amount);
        let parts: i128 = entry.parts.iter().map(|part| i128::from(part.amount)).sum();
        let debt: i128 =
            entry.parts.iter().filter(|part| part.lot.is_none()).map(|part| i128::from(part.amount)).sum();
        if i128::from(entry.balance_after) != self.balance + amount {
            return Some(format!(
                "balance_after is {} where {} and {amount} make {}",
                entry.balance_after,
                self.balance,
                self.balance + amount
            ));
        }
        if parts != amount {
            return Some(format!("the parts add up to {parts}, the amount is {amount}"));
        }
        if entry.hash != entry.compute_hash() {
            return Some("the hash is not that of the entry's content and of the entry before".into());
        }
        if entry.created_at < self.at {
            return Some("created_at is before that of the entry before".into());
        }
        if self.owed - debt < 0 {
            return Some("more debt is paid than there was".into());
        }
        None
    }
}

// ---- what stands beside the entries

const LOTS_OF: &str =
    concat!("SELECT ", rows::lot_columns!(), ", account_id, open FROM credit_lots WHERE account_id IN ($1)");
const OPEN_HOLDS_OF: &str = concat!(
    "SELECT ",
    rows::hold_columns!(),
    ", account_id FROM credit_holds WHERE status = 'held' AND account_id IN ($1)"
);

type RowsOf<T> = HashMap<String, Vec<Result<T, String>>>;

fn rows_of<T>(
    tx: &mut Tx<'_>,
    sql: &'static str,
    ids: &[&str],
    id_at: usize,
    read: impl Fn(&Row<'_>) -> Result<T, Error>,
) -> Result<RowsOf<T>, Error> {
    let mut rows = RowsOf::new();
    let found =
        tx.query_keys(sql, ids, |row| Ok((row.get(id_at)?, read(row).map_err(|error| error.to_string()))))?;
    for (id, row) in found {
        rows.entry(id).or_default().push(row);
    }
    Ok(rows)
}

/// The rows of accounts whose entries are all seen.
fn judge_rows(tx: &mut Tx<'_>, chains: &mut [Chain]) -> Result<(), Error> {
    let ids: Vec<String> = chains.iter().map(|chain| chain.id.clone()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut accounts = rows_of(tx, rows::ACCOUNTS, &ids, 0, rows::read_account)?;
    let mut lots = rows_of(tx, LOTS_OF, &ids, 14, |row| Ok((rows::read_lot(row)?, row.get::<bool>(15)?)))?;
    let mut holds = rows_of(tx, OPEN_HOLDS_OF, &ids, 14, rows::read_hold)?;
    for chain in chains {
        let account = accounts.remove(&chain.id).and_then(|mut rows| rows.pop());
        if let Some(Ok(account)) = &account {
            chain.owner = Some(account.owner.to_string());
            chain.unit.clone_from(&account.unit);
        }
        let lots = lots.remove(&chain.id).unwrap_or_default().into_iter().collect::<Result<Vec<_>, _>>();
        let holds = holds.remove(&chain.id).unwrap_or_default().into_iter().collect::<Result<Vec<_>, _>>();
        let mistake = match (account, lots, holds) {
            (None, _, _) => Some((None, "the account's row is missing".to_string())),
            (Some(Err(error)), _, _) => Some((None, format!("the account's row cannot be read: {error}"))),
            (_, Err(error), _) => Some((None, format!("a grant's row cannot be read: {error}"))),
            (_, _, Err(error)) => Some((None, format!("a hold's row cannot be read: {error}"))),
            (Some(Ok(account)), Ok(mut lots), Ok(holds)) => mistake_in_drawn(&account, &mut lots)
                .map(|what| (None, what))
                .or_else(|| mistake_in_account(chain, &account))
                .or_else(|| mistake_in_lots(chain, &account, &lots, &holds).map(|what| (None, what))),
        };
        if let Some((seq, what)) = mistake {
            chain.blame(seq, what);
        }
    }
    Ok(())
}

/// Makes of lots' rows what they stand for.
fn mistake_in_drawn(account: &Account, lots: &mut [(Lot, bool)]) -> Option<String> {
    for (no, drawn) in &account.drawn {
        match lots.iter_mut().find(|(lot, _)| lot.no == *no) {
            Some((lot, true)) => drawn.apply(lot),
            Some(_) => return Some(format!("grant {no} is over, and its row lags behind")),
            None => return Some(format!("grant {no} is missing")),
        }
    }
    None
}

fn mistake_in_account(chain: &Chain, account: &Account) -> Option<(Option<i64>, String)> {
    let beside = |what: String| Some((None, what));
    if account.seq > chain.seq {
        let missing = chain.seq.saturating_add(1);
        return Some((Some(missing), format!("entry {missing} is missing, the account has {}", account.seq)));
    }
    if account.seq < chain.seq {
        let extra = account.seq.saturating_add(1);
        return Some((Some(extra), format!("entry {extra} is there, the account has {}", account.seq)));
    }
    if AccountId::of(&account.owner, &account.unit) != account.id {
        return beside("the account's row names another owner or unit".into());
    }
    if account.hash != chain.hash {
        return beside("the account's row has another hash than its newest entry".into());
    }
    if i128::from(account.balance) != chain.balance {
        return beside(format!(
            "the balance is {}, the entries add up to {}",
            account.balance, chain.balance
        ));
    }
    if i128::from(account.owed) != chain.owed || account.owed < 0 {
        return beside(format!("owed is {}, the entries add up to {}", account.owed, chain.owed));
    }
    None
}

fn mistake_in_lots(chain: &Chain, account: &Account, lots: &[(Lot, bool)], holds: &[Hold]) -> Option<String> {
    let mut held: HashMap<i64, i128> = HashMap::new();
    for hold in holds {
        let parts: i128 = hold.parts.iter().map(|part| i128::from(part.amount)).sum();
        if parts != i128::from(hold.amount) {
            return Some(format!("hold {} is of {} and its parts of {parts}", hold.no, hold.amount));
        }
        if hold.expires_at < account.next_due {
            return Some(format!("hold {} ends before the account is looked at", hold.no));
        }
        for part in &hold.parts {
            *held.entry(part.lot.unwrap_or(0)).or_default() += i128::from(part.amount);
        }
    }
    let carried = lots.iter().filter(|(lot, _)| lot.carried).map(|(lot, _)| i128::from(lot.remaining));
    let carried: i128 = carried.sum();
    if carried != i128::from(account.carried) {
        return Some(format!(
            "{} is carried over, the grants that were add up to {carried}",
            account.carried
        ));
    }
    let all: i128 = held.values().sum();
    if all != i128::from(account.held) {
        return Some(format!("held is {}, the open holds add up to {all}", account.held));
    }
    for (lot, open) in lots {
        let moved = chain.lots.get(&lot.no).copied().unwrap_or(0);
        let held = held.remove(&lot.no).unwrap_or(0);
        if i128::from(lot.remaining) != moved {
            return Some(format!(
                "grant {} has {} left, the entries add up to {moved}",
                lot.no, lot.remaining
            ));
        }
        if i128::from(lot.held) != held || lot.held > lot.remaining {
            return Some(format!("of grant {} {} is held, the open holds take {held}", lot.no, lot.held));
        }
        if lot.remaining > lot.amount {
            return Some(format!("grant {} of {} has {} left", lot.no, lot.amount, lot.remaining));
        }
        if *open != lot.is_open() || (lot.ended && lot.free() > 0) {
            return Some(format!("grant {} is not where it is looked for", lot.no));
        }
        if !lot.ended && lot.expires_at < account.next_due {
            return Some(format!("grant {} ends before the account is looked at", lot.no));
        }
    }
    if let Some(no) = held.keys().next() {
        return Some(format!("a hold takes from grant {no}, which is missing"));
    }
    let known: HashSet<i64> = lots.iter().map(|(lot, _)| lot.no).collect();
    let lost = chain.lots.keys().filter(|no| !known.contains(no)).min();
    lost.map(|no| format!("grant {no} is missing"))
}

// ---- what was seen, and the seals

/// Ids are random texts: the first 64 bits of one stand for it. Were two alike, the sums would not fit, which is an
/// error and no finding.
fn short(id: &str) -> u64 {
    id.bytes().take(11).fold(0, |sum, byte| sum.rotate_left(6) ^ u64::from(byte))
}

struct Walk {
    /// Up to which entry each account was seen.
    seen: Arc<HashMap<u64, i64>>,
    accounts: u64,
    entries: i64,
    macs: [u64; 4],
    books: BTreeMap<(String, String), i128>,
    problems: Vec<Problem>,
}

/// An account with entries that the walk has not seen.
struct Grown {
    id: String,
    owner: String,
    unit: String,
    seq: i64,
    seen: i64,
}

/// All that is compared, as of one moment.
struct Cut {
    sums: Vec<UnitSum>,
    seals: Seals,
    grown: Vec<Grown>,
    /// What was not seen of the grown ones, if that was little.
    chains: Option<Vec<Chain>>,
}

impl Walk {
    fn new() -> Walk {
        Walk {
            seen: Arc::default(),
            accounts: 0,
            entries: 0,
            macs: [0; 4],
            books: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    fn note(&mut self, chain: Chain) {
        self.accounts += 1;
        self.note_entries(chain);
    }

    fn note_entries(&mut self, chain: Chain) {
        self.entries += chain.count;
        Arc::make_mut(&mut self.seen).insert(short(&chain.id), chain.seq);
        add_words(&mut self.macs, chain.macs);
        for (counter, sum) in chain.counters {
            *self.books.entry((chain.unit.clone(), counter)).or_default() += sum;
        }
        if let Some((seq, what)) = chain.problem {
            let owner = chain.owner.unwrap_or_else(|| format!("account:{}", chain.id));
            let unit = (!chain.unit.is_empty()).then_some(chain.unit);
            self.blame(Problem { owner: Some(owner), unit, seq, what });
        }
    }

    fn blame(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn blame_ledger(&mut self, what: String) {
        self.blame(Problem { owner: None, unit: None, seq: None, what });
    }

    async fn compare_with_seals(
        &mut self,
        store: &Store,
        vault: &Vault,
        now: Millis,
        pause: Duration,
    ) -> Result<(), Error> {
        let whole = self.problems.is_empty();
        let mut since = now.minus(CLOCKS_DIFFER);
        for _ in 0..ROUNDS {
            let (seen, key) = (self.seen.clone(), vault.clone());
            let cut = snapshot(store, move |tx| Cut::take(tx, &key, &seen, since)).await?;
            let there: i64 = cut.sums.iter().map(|sum| sum.entries).sum();
            cut.seals.unsigned.iter().for_each(|writer| {
                self.blame_ledger(format!("the seal of writer {writer} is not what was signed"));
            });
            if cut.seals.entries != there {
                let sealed = cut.seals.entries;
                self.blame_ledger(format!("{sealed} entries were sealed, the accounts have {there}"));
            }
            if !whole || !self.problems.is_empty() {
                return Ok(());
            }
            let unseen: i64 = cut.grown.iter().map(|grown| grown.seq - grown.seen).sum();
            if self.seen.values().sum::<i64>() + unseen != there {
                // A clock went back, and an account grew unnoticed: look at all of them.
                since = Millis(i64::MIN);
            } else if let Some(chains) = cut.chains {
                chains.into_iter().for_each(|chain| self.note_entries(chain));
                self.judge(&cut.sums, &cut.seals);
                return Ok(());
            } else {
                self.catch_up(store, vault, cut.grown, pause).await?;
            }
        }
        Err(Error::Unavailable("more is written to the ledger than can be verified meanwhile".into()))
    }

    async fn catch_up(
        &mut self,
        store: &Store,
        vault: &Vault,
        grown: Vec<Grown>,
        pause: Duration,
    ) -> Result<(), Error> {
        let grown = Arc::new(grown);
        let mut from = 0;
        while from < grown.len() {
            let (all, key) = (grown.clone(), vault.clone());
            let (chains, to) = snapshot(store, move |tx| {
                let (mut chains, mut entries, mut at) = (Vec::new(), 0, from);
                while at < all.len() && entries < ENTRIES_AT_ONCE as i64 {
                    let chain = all[at].rest(tx, &key, ENTRIES_AT_ONCE as i64)?;
                    entries += chain.count;
                    chains.push(chain);
                    at += 1;
                }
                Ok((chains, at))
            })
            .await?;
            chains.into_iter().for_each(|chain| self.note_entries(chain));
            from = to;
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Everything is seen that was there at the moment of these sums and seals.
    fn judge(&mut self, sums: &[UnitSum], seals: &Seals) {
        if !self.problems.is_empty() {
            return;
        }
        if self.macs != seals.total {
            self.blame_ledger("the entries are not those that were sealed".into());
        }
        for UnitSum { unit, balance, .. } in sums {
            let of_unit = self.books.iter().filter(|((of, _), _)| of == unit);
            let counters: i128 = of_unit.map(|(_, sum)| sum).sum();
            if balance + counters != 0 {
                self.blame_ledger(format!("{unit}: balances of {balance} and counters of {counters}"));
            }
            for (counter, what) in [("transfer", "transfers"), ("rollover", "rollovers")] {
                let between = self.books.get(&(unit.clone(), counter.into())).copied().unwrap_or(0);
                if between != 0 {
                    self.blame_ledger(format!("{unit}: {what} do not cancel out, {between} is left"));
                }
            }
        }
    }

    fn report(self) -> Report {
        let books = self.books.into_iter().map(|((unit, counter), sum)| Book { unit, counter, sum });
        Report {
            accounts: self.accounts,
            entries: self.entries.unsigned_abs(),
            problems: self.problems,
            books: books.collect(),
        }
    }
}

const GROWN: &str = "SELECT id, owner, unit, seq FROM credit_accounts WHERE last_at >= $1";
const ENTRIES_FROM: &str = concat!(
    "SELECT ",
    entry::columns!(),
    " FROM credit_entries WHERE account_id = $1 AND seq >= $2 ORDER BY seq LIMIT $3"
);

impl Cut {
    fn take(tx: &mut Tx<'_>, vault: &Vault, seen: &HashMap<u64, i64>, since: Millis) -> Result<Cut, Error> {
        let grown = tx.query(GROWN, params![since], |row| {
            let (id, seq) = (row.text(0)?, row.get(3)?);
            let seen = seen.get(&short(id)).copied().unwrap_or(0);
            let grown = || Ok(Grown { id: id.into(), owner: row.get(1)?, unit: row.get(2)?, seq, seen });
            (seq > seen).then(grown).transpose()
        })?;
        let grown: Vec<Grown> = grown.into_iter().flatten().collect();
        let unseen: i64 = grown.iter().map(|grown| grown.seq - grown.seen).sum();
        let chains = match unseen {
            0..=LAST_STEP => {
                let rest = |grown: &Grown| grown.rest(tx, vault, LAST_STEP);
                Some(grown.iter().map(rest).collect::<Result<_, _>>()?)
            }
            _ => None,
        };
        Ok(Cut { sums: sums(tx)?, seals: Seals::read(tx, vault)?, grown, chains })
    }
}

impl Grown {
    fn rest(&self, tx: &mut Tx<'_>, vault: &Vault, limit: i64) -> Result<Chain, Error> {
        let mut found = tx.query(ENTRIES_FROM, params![&self.id, self.seen, limit + 1], read)?.into_iter();
        let mut chain = Chain::new(self.id.clone());
        chain.owner = Some(self.owner.clone());
        chain.unit.clone_from(&self.unit);
        if self.seen > 0 {
            chain.go_on_from(found.next());
        }
        found.for_each(|found| chain.take(found, vault));
        Ok(chain)
    }
}

impl Chain {
    /// Begins behind an entry that was judged before.
    fn go_on_from(&mut self, last: Option<Found>) {
        match last.map(|found| found.entry) {
            Some(Ok(last)) => {
                self.seq = last.seq;
                self.balance = last.balance_after.into();
                self.at = last.created_at;
                self.hash = last.hash;
                // What is owed is not known here; it was compared when the account was seen as a whole.
                self.owed = i128::from(i64::MAX);
            }
            _ => self.blame(None, "entries were taken away while they were verified"),
        }
    }
}

// A sum of balances may be more than a BIGINT holds, so it is taken in two halves.
const SUMS: &str = "
    SELECT unit, CAST(SUM(seq) AS BIGINT), CAST(SUM(balance / 1000000000) AS BIGINT),
        CAST(SUM(balance % 1000000000) AS BIGINT)
    FROM credit_accounts GROUP BY unit ORDER BY unit";

/// What the rows of all accounts of a unit add up to.
struct UnitSum {
    unit: String,
    entries: i64,
    balance: i128,
}

fn sums(tx: &mut Tx<'_>) -> Result<Vec<UnitSum>, Error> {
    tx.query(SUMS, &[], |row| {
        let balance = i128::from(row.get::<i64>(2)?) * 1_000_000_000 + i128::from(row.get::<i64>(3)?);
        Ok(UnitSum { unit: row.get(0)?, entries: row.get(1)?, balance })
    })
}

const SEALS: &str = "SELECT writer, entries, total, sealed_at, mac FROM credit_seals";

#[derive(Default)]
struct Seals {
    entries: i64,
    total: [u64; 4],
    /// Writers whose row was changed by somebody else.
    unsigned: Vec<String>,
}

impl Seals {
    fn read(tx: &mut Tx<'_>, vault: &Vault) -> Result<Seals, Error> {
        let mut seals = Seals::default();
        let rows = tx.query(SEALS, &[], |row| {
            let (writer, entries) = (row.get::<String>(0)?, row.get(1)?);
            let total = parse_total(row.text(2)?).unwrap_or_default();
            let (seal, at) = (Seal { writer, entries, total }, row.get(3)?);
            let signed = same_secret(seal.signature(vault, at).as_bytes(), row.text(4)?.as_bytes());
            Ok((seal, signed))
        })?;
        for (seal, signed) in rows {
            seals.entries = seals.entries.wrapping_add(seal.entries);
            add_words(&mut seals.total, seal.total);
            if !signed {
                seals.unsigned.push(seal.writer);
            }
        }
        Ok(seals)
    }
}
