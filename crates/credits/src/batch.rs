//! A batch: commands of many callers, applied in order in one transaction.

use crate::account::Account;
use crate::answer::Receipt;
use crate::command::{Action, Command, Idempotency, KeyScope, Refusal, Target};
use crate::entry::Entry;
use crate::keys::{
    Beside, KeptEntry, KeptText, Known, Place, difference, kept_request, key_id, plain_request,
};
use crate::lane::OwnerExists;
use crate::machine::{self, Lack, Outcome, Stop};
use crate::owner::{AccountId, Owner};
use crate::rows::{self, load_due, load_lack, load_window};
use crate::seal::Seal;
use crate::settings::Settings;
use crate::writes::{self, KeyOnEntry};
use kernel::{Millis, Vault};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use store::{Error, Tx, params};

/// What a batch works with.
#[derive(Clone, Copy)]
pub(crate) struct Bench<'a> {
    pub settings: &'a Settings,
    pub vault: &'a Vault,
    pub owner_exists: &'a OwnerExists,
    pub now: Millis,
}

/// A command, and what follows from it alone: made before it waits for its turn.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub command: Command,
    pub account: AccountId,
    /// Of a transfer.
    receiver: Option<AccountId>,
    /// Known already, unless it is the key of an account's owner and only the account is named.
    key: Option<String>,
}

impl Prepared {
    pub fn new(command: Command) -> Prepared {
        let account = command.target.account();
        let receiver = match (&command.action, &command.target) {
            // To oneself there is no second account; the rules refuse it.
            (Action::Transfer { to, .. }, Target::Owner { owner, unit }) if to != owner => {
                Some(AccountId::of(to, unit))
            }
            _ => None,
        };
        let owner = match &command.target {
            Target::Owner { owner, .. } => Some(owner),
            Target::Account(_) => None,
        };
        let key = keyed(&command).and_then(|given| {
            let scope = given.scope.as_ref().map(KeyScope::names);
            let scope = scope.or_else(|| owner.map(|owner| (owner.field(), owner.id())))?;
            Some(key_id(scope, &command.action, given))
        });
        Prepared { command, account, receiver, key }
    }

    /// The accounts it touches; with owner and unit where the command names them.
    fn touched(&self) -> impl Iterator<Item = (&AccountId, Option<(&Owner, &str)>)> {
        let (own, unit) = match &self.command.target {
            Target::Owner { owner, unit } => (Some((owner, unit.as_str())), unit.as_str()),
            Target::Account(_) => (None, ""),
        };
        let receiver = match (&self.receiver, &self.command.action) {
            (Some(id), Action::Transfer { to, .. }) => Some((id, Some((to, unit)))),
            _ => None,
        };
        std::iter::once((&self.account, own)).chain(receiver)
    }
}

/// The key of a command whose effect must happen once.
fn keyed(command: &Command) -> Option<&Idempotency> {
    command.idempotency.as_ref().filter(|_| Place::of(&command.action) != Place::Nowhere)
}

/// Whether what is in memory is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// Nothing is read of accounts that are in memory, and no key is looked for: the changes fail if an account is not as
    /// it was, or a key was used. Neither can be told to who is refused or changes nothing, so then it fails, too.
    Trusting,
    /// Accounts are locked and looked at, and keys are looked for.
    Careful,
}

/// Commands that are judged one after the other; atomic ones all happen or none.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub commands: Vec<Prepared>,
    pub atomic: bool,
}

pub(crate) type Receipts = Vec<Result<Receipt, Refusal>>;

/// What a transaction left behind: the answers of each group, and the accounts as they are now.
pub(crate) struct Written {
    pub receipts: Vec<Receipts>,
    pub accounts: HashMap<AccountId, Account>,
    pub seal: Seal,
}

/// Runs groups of commands in one transaction. When it trusts and should not have, it fails as a
/// [conflict](Error::Conflict) and has to be run again with more care. `known` are accounts as they were read before; those that are needed are
/// taken out, and used if nobody changed them since. `last`: nothing follows in this transaction.
pub(crate) fn run(
    tx: &mut Tx<'_>,
    bench: Bench<'_>,
    known: &mut HashMap<AccountId, Account>,
    seal: &Seal,
    groups: &[Group],
    (care, last): (Care, bool),
) -> Result<Written, Error> {
    let mut batch = Batch {
        bench,
        accounts: HashMap::with_capacity(groups.len()),
        keys: HashMap::new(),
        repeated: HashSet::new(),
        fresh: Vec::new(),
        rows: Vec::new(),
    };
    let trusted = care == Care::Trusting && batch.trust(known, groups);
    if !trusted {
        batch.load(tx, known, groups)?;
    }
    batch.load_keys_of_owners(tx, groups, trusted)?;
    let mut receipts = Vec::with_capacity(groups.len());
    for group in groups {
        receipts.push(if group.atomic {
            batch.all_or_none(tx, group)?
        } else {
            batch.each(tx, &group.commands)?
        });
    }
    let Batch { mut accounts, rows, .. } = batch;
    let is_doubtful = receipts.iter().flatten().any(Result::is_err)
        || !accounts.values().all(|account| account.is_changed());
    if trusted && is_doubtful {
        return Err(Error::Conflict("what is in memory may be old".into()));
    }
    let seal = writes::write(tx, bench.vault, &mut accounts, &rows, seal, bench.now, last)?;
    Ok(Written { receipts, accounts, seal })
}

struct Batch<'a> {
    bench: Bench<'a>,
    accounts: HashMap<AccountId, Account>,
    keys: HashMap<String, Known>,
    /// Keys that stand in this batch several times, so that their first answer will be asked for.
    repeated: HashSet<String>,
    /// Those of them that were answered.
    fresh: Vec<String>,
    /// New rows of keys.
    rows: Vec<(String, KeptText)>,
}

impl Batch<'_> {
    fn load(
        &mut self,
        tx: &mut Tx<'_>,
        known: &mut HashMap<AccountId, Account>,
        groups: &[Group],
    ) -> Result<(), Error> {
        let commands = || groups.iter().flat_map(|group| &group.commands);
        let mut wanted: BTreeMap<&AccountId, Option<(&Owner, &str)>> = BTreeMap::new();
        for (account, named) in commands().flat_map(Prepared::touched) {
            let slot = wanted.entry(account).or_default();
            *slot = slot.or(named);
        }
        let ids: Vec<&str> = wanted.keys().map(|id| id.as_str()).collect();
        rows::lock_accounts(tx, &ids)?;
        let mut asked = Asked::default();
        commands().for_each(|prepared| asked.add(&prepared.command, prepared.key.as_deref()));
        let (mut in_memory, mut strange) = (Vec::new(), Vec::new());
        for id in wanted.keys() {
            let ids = if known.contains_key(*id) { &mut in_memory } else { &mut strange };
            ids.push(id.as_str());
        }
        let (mut read, mut versions) = (Vec::new(), Vec::new());
        let questions = [
            (rows::VERSIONS, in_memory.as_slice()),
            (rows::ACCOUNTS, strange.as_slice()),
            (rows::KEYS_OF_ENTRIES, asked.on_entries.as_slice()),
            (rows::KEYS, asked.in_rows.as_slice()),
        ];
        tx.query_all_keys(&questions, |at, row| {
            match at {
                0 => versions.push((AccountId::stored(row.text(0)?), row.get::<i64>(1)?)),
                1 => read.push(rows::read_account(row)?),
                _ => self.take_in_key(at == 2, row)?,
            }
            Ok(())
        })?;
        let mut stale = Vec::new();
        for (id, version) in versions {
            match known.remove(&id) {
                Some(copy) if copy.version == version => _ = self.accounts.insert(id, copy),
                _ => stale.push(id),
            }
        }
        let stale: Vec<&str> = stale.iter().map(AccountId::as_str).collect();
        read.extend(tx.query_keys(rows::ACCOUNTS, &stale, rows::read_account)?);
        for mut account in read {
            load_window(tx, &mut account)?;
            self.accounts.insert(account.id.clone(), account);
        }
        for (id, named) in wanted {
            let Some((owner, unit)) = named else { continue };
            if !self.accounts.contains_key(id) && (self.bench.owner_exists)(tx, owner)? {
                let floor = self.bench.settings.negative_floor;
                self.accounts.insert(id.clone(), Account::new(owner.clone(), unit.to_string(), floor));
            }
        }
        Ok(())
    }

    /// Takes the accounts as they are in memory, if all of them are.
    fn trust(&mut self, known: &mut HashMap<AccountId, Account>, groups: &[Group]) -> bool {
        let touched = || groups.iter().flat_map(|group| &group.commands).flat_map(Prepared::touched);
        if !touched().all(|(id, _)| known.contains_key(id)) {
            return false;
        }
        self.accounts.extend(touched().filter_map(|(id, _)| known.remove_entry(id)));
        true
    }

    /// Keys whose scope is known only now that the accounts are, and which of all come more than once.
    fn load_keys_of_owners(&mut self, tx: &mut Tx<'_>, groups: &[Group], trusted: bool) -> Result<(), Error> {
        let commands = || groups.iter().flat_map(|group| &group.commands);
        let late: Vec<(&Command, String)> = commands()
            .filter(|prepared| prepared.key.is_none())
            .filter_map(|prepared| Some((&prepared.command, self.key_of(prepared)?.into_owned())))
            .collect();
        let mut asked = Asked::default();
        late.iter().for_each(|(command, key)| asked.add(command, Some(key)));
        if !trusted {
            let questions = [(rows::KEYS_OF_ENTRIES, &*asked.on_entries), (rows::KEYS, &*asked.in_rows)];
            tx.query_all_keys(&questions, |at, row| self.take_in_key(at == 0, row))?;
        }
        commands().for_each(|prepared| asked.add(&prepared.command, prepared.key.as_deref()));
        self.repeated.extend(asked.repeated());
        Ok(())
    }

    fn take_in_key(&mut self, of_entry: bool, row: &store::Row<'_>) -> Result<(), Error> {
        let (id, known) = if of_entry {
            let (id, kept) = rows::read_kept_entry(row)?;
            (id, Known::Entry(Box::new(kept)))
        } else {
            let (id, kept) = rows::read_kept_text(row)?;
            (id, Known::Text(kept))
        };
        self.keys.insert(id, known);
        Ok(())
    }

    fn key_of<'p>(&self, prepared: &'p Prepared) -> Option<Cow<'p, str>> {
        if let Some(key) = &prepared.key {
            return Some(key.into());
        }
        let given = keyed(&prepared.command)?;
        let owner = &self.accounts.get(&prepared.account)?.owner;
        Some(key_id((owner.field(), owner.id()), &prepared.command.action, given).into())
    }

    fn each(&mut self, tx: &mut Tx<'_>, commands: &[Prepared]) -> Result<Receipts, Error> {
        commands.iter().map(|command| self.one(tx, command)).collect()
    }

    fn all_or_none(&mut self, tx: &mut Tx<'_>, group: &Group) -> Result<Receipts, Error> {
        let touched = group.commands.iter().flat_map(Prepared::touched);
        let before: HashMap<AccountId, Account> =
            touched.filter_map(|(id, _)| Some((id.clone(), self.accounts.get(id)?.clone()))).collect();
        let (fresh, rows) = (self.fresh.len(), self.rows.len());
        let receipts = self.each(tx, &group.commands)?;
        let Some(refused) = receipts.iter().position(Result::is_err) else { return Ok(receipts) };
        self.accounts.extend(before);
        self.rows.truncate(rows);
        for id in self.fresh.drain(fresh..) {
            self.keys.remove(&id);
        }
        let others = || {
            let message = "another item of the batch was refused, so nothing was done".to_string();
            Err(Refusal::Conflict { message, refundable: None })
        };
        let keep = |(at, receipt)| if at == refused { receipt } else { others() };
        Ok(receipts.into_iter().enumerate().map(keep).collect())
    }

    fn one(&mut self, tx: &mut Tx<'_>, prepared: &Prepared) -> Result<Result<Receipt, Refusal>, Error> {
        let command = &prepared.command;
        let key = self.key_of(prepared).zip(keyed(command));
        if let Some((id, given)) = &key
            && let Some(known) = self.keys.get(&**id)
        {
            let known = known.clone();
            return self.again(tx, known, given);
        }
        let mut other = prepared.receiver.as_ref().and_then(|id| self.accounts.remove_entry(id));
        let outcome = self.judge(tx, prepared, other.as_mut().map(|(_, account)| account));
        self.accounts.extend(other);
        let (outcome, account) = match (outcome?, self.accounts.get_mut(&prepared.account)) {
            (Ok(outcome), Some(account)) => (outcome, account),
            (Err(refusal), _) => return Ok(Err(refusal)),
            (Ok(_), None) => return Ok(Err(unknown(command))),
        };
        let Bench { settings, now, .. } = self.bench;
        let mut receipt = Receipt::new(settings, account, &command.action, outcome, now);
        if let Some((id, given)) = key {
            let request = kept_request(&given.request, &command.action, account);
            match receipt.entry() {
                Some(entry) => {
                    let plain = *request == plain_request(entry, &account.owner);
                    let key = KeyOnEntry {
                        id: id.clone().into_owned(),
                        request: (!plain).then(|| request.to_string()),
                        answer: Beside::text(entry, &receipt.figures),
                    };
                    account.changed.keys.push((entry.seq, key));
                }
                None => {
                    let answer = receipt.render().to_string();
                    let (request, status) = (request.to_string(), receipt.status.into());
                    let kept = KeptText { request, status, answer };
                    self.rows.push((id.clone().into_owned(), kept));
                }
            }
            if self.repeated.contains(&*id) {
                let request = request.into_owned();
                self.keys.insert(id.clone().into_owned(), Known::Fresh { request, receipt: receipt.clone() });
                self.fresh.push(id.into_owned());
            }
        }
        Ok(Ok(receipt))
    }

    fn judge(
        &mut self,
        tx: &mut Tx<'_>,
        prepared: &Prepared,
        other: Option<&mut Account>,
    ) -> Result<Result<Outcome, Refusal>, Error> {
        let command = &prepared.command;
        let Some(account) = self.accounts.get_mut(&prepared.account) else {
            return Ok(Err(unknown(command)));
        };
        match (&prepared.receiver, &other) {
            _ if account.closed && !may_touch_closed(&command.action) => Ok(Err(unknown(command))),
            (Some(_), Some(other)) if other.closed => Ok(Err(Refusal::UnknownOwner { field: "to" })),
            (Some(_), None) => Ok(Err(Refusal::UnknownOwner { field: "to" })),
            _ => apply(tx, self.bench, account, other, command),
        }
    }

    /// The answer that was given under a key, if it was given to the same request.
    fn again(
        &self,
        tx: &mut Tx<'_>,
        known: Known,
        given: &Idempotency,
    ) -> Result<Result<Receipt, Refusal>, Error> {
        let differs = |kept: &str, entry: Option<&Entry>| {
            difference(kept, &given.request, entry).map(|field| Err(Refusal::KeyMismatch { field }))
        };
        let (refused, receipt) = match known {
            Known::Fresh { request, receipt } => (differs(&request, receipt.entry()), Some(receipt.again())),
            Known::Text(kept) => (differs(&kept.request, None), kept.receipt()),
            Known::Entry(kept) => {
                let (owner, unit) = self.holder(tx, &kept.entry.account)?;
                match differs(&kept.request(&owner), Some(&kept.entry)) {
                    Some(refused) => (Some(refused), None),
                    None => (None, again_of_entry(tx, *kept, owner, unit)?),
                }
            }
        };
        let unreadable = || Error::Fault("an answer that was kept cannot be read".into());
        match (refused, receipt) {
            (Some(refused), _) => Ok(refused),
            (None, receipt) => receipt.map(Ok).ok_or_else(unreadable),
        }
    }

    /// Whose account this is, and its unit. With a key of another scope it need not be one that the batch touches.
    fn holder(&self, tx: &mut Tx<'_>, id: &AccountId) -> Result<(Owner, String), Error> {
        if let Some(account) = self.accounts.get(id) {
            return Ok((account.owner.clone(), account.unit.clone()));
        }
        let account = tx.query_keys(rows::ACCOUNTS, &[id.as_str()], rows::read_account)?.pop();
        let account = account.ok_or_else(|| Error::Fault("an entry of no account".into()))?;
        Ok((account.owner, account.unit))
    }
}

fn again_of_entry(
    tx: &mut Tx<'_>,
    kept: KeptEntry,
    owner: Owner,
    unit: String,
) -> Result<Option<Receipt>, Error> {
    let Some(beside) = kept.beside() else { return Ok(None) };
    let id = kept.entry.account.clone();
    let (mut grant, mut hold) = (None, None);
    if let Some(no) = beside.grant {
        grant = tx.query_opt(rows::ONE_LOT, params![id.as_str(), no], rows::read_lot)?;
    }
    if let Some(no) = kept.entry.hold_no {
        hold = tx.query_opt(rows::ONE_HOLD, params![id.as_str(), no], rows::read_hold)?;
    }
    let whole = grant.is_some() == beside.grant.is_some() && hold.is_some() == kept.entry.hold_no.is_some();
    Ok(whole.then(|| kept.receipt(beside, owner, unit, grant, hold)))
}

/// Asks the rules, and loads what they lack until they can say.
fn apply(
    tx: &mut Tx<'_>,
    bench: Bench<'_>,
    account: &mut Account,
    mut other: Option<&mut Account>,
    command: &Command,
) -> Result<Result<Outcome, Refusal>, Error> {
    let now = bench.now;
    load_due(tx, account, now)?;
    if let Some(other) = other.as_deref_mut() {
        // It is settled here, so that whatever is lacking below is lacking in the first account.
        load_due(tx, other, now)?;
        while let Err(Stop::Lacks(lack)) = machine::pass_time(bench.settings, other, now) {
            if !load_lack(tx, other, &lack)? {
                return Ok(Err(Refusal::NotFound { what: lack_name(&lack) }));
            }
        }
    }
    loop {
        match machine::apply(bench.settings, account, other.as_deref_mut(), command, now) {
            Ok(outcome) => return Ok(Ok(outcome)),
            Err(Stop::Refused(refusal)) => return Ok(Err(refusal)),
            Err(Stop::Lacks(lack)) if load_lack(tx, account, &lack)? => {}
            Err(Stop::Lacks(lack)) => return Ok(Err(Refusal::NotFound { what: lack_name(&lack) })),
        }
    }
}

/// Keys that are looked for.
#[derive(Default)]
struct Asked<'a> {
    on_entries: Vec<&'a str>,
    in_rows: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    fn add(&mut self, command: &Command, key: Option<&'a str>) {
        match Place::of(&command.action) {
            Place::Entry => self.on_entries.extend(key),
            Place::Row => self.in_rows.extend(key),
            Place::Nowhere => {}
        }
    }

    /// Those that stand here several times.
    fn repeated(mut self) -> Vec<String> {
        let mut twice = Vec::new();
        for keys in [&mut self.on_entries, &mut self.in_rows] {
            keys.sort_unstable();
            let pairs = keys.windows(2).filter(|pair| pair[0] == pair[1]);
            twice.extend(pairs.map(|pair| pair[0].to_string()));
        }
        twice
    }
}

fn unknown(command: &Command) -> Refusal {
    match &command.target {
        Target::Owner { owner, .. } => Refusal::UnknownOwner { field: owner.field() },
        Target::Account(_) => Refusal::NotFound {
            what: match &command.action {
                Action::Refund { .. } | Action::Reinstate { .. } => "entry",
                _ => "hold",
            },
        },
    }
}

/// Money that comes or goes at Stripe still nets after the owner is gone.
fn may_touch_closed(action: &Action) -> bool {
    matches!(
        action,
        Action::ClawBack { .. } | Action::Reinstate { .. } | Action::Freeze { .. } | Action::Settle
    )
}

fn lack_name(lack: &Lack) -> &'static str {
    match lack {
        Lack::Lots | Lack::TheseLots(_) => "grant",
        Lack::Hold(_) => "hold",
        Lack::Entry(_) => "entry",
        Lack::Limit(..) | Lack::Spender(_) => "limit",
    }
}
