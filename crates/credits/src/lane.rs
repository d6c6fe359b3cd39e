//! The lane: waiting commands of all requests go through the ledger in batches, a transaction each. While one batch is
//! committed the next gathers, so that a hot account costs no more than many cold ones.

use crate::account::Account;
use crate::answer::Receipt;
use crate::batch::{self, Bench, Care, Group, Prepared, Receipts, Written};
use crate::command::{Action, Answer, Command, Error, Refusal, Target};
use crate::owner::{AccountId, Owner};
use crate::seal::Seal;
use crate::settings::Settings;
use kernel::{Clock, Millis, Vault, random};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::{Store, Tx, params};
use tokio::sync::{mpsc, oneshot};

/// Commands that may wait; the next one is refused at once.
const QUEUE: usize = 4_096;
/// One transaction takes at most so many requests.
const BATCH: usize = 256;
/// How often other tasks are let through before a batch goes.
const PATIENCE: usize = 8;
/// How often a batch is tried again after a key that another node was writing, too.
const ATTEMPTS: usize = 3;
/// So many batches look before they change anything, after one that should have: replays and refusals seldom come alone.
const CAREFUL: usize = 64;
/// Accounts that are looked up because something of them ends, and that one transaction settles.
const DUE_AT_ONCE: usize = 500;
const SETTLED_AT_ONCE: usize = 100;
// Of an account that is settled the next end lies behind `now`, so a page does not come twice.
const DUE: &str = "
    SELECT next_due, id FROM credit_accounts
    WHERE next_due < 9223372036854775807 AND next_due <= $1 AND (next_due, id) > ($2, $3)
    ORDER BY next_due, id LIMIT $4";
/// Accounts that are kept in memory, each with at most so many lots.
const KEPT_ACCOUNTS: usize = 20_000;
const KEPT_LOTS: usize = 64;

/// Whether there is such an owner; the ledger asks when it meets one for the first time.
pub type OwnerExists = Arc<dyn Fn(&mut Tx<'_>, &Owner) -> Result<bool, store::Error> + Send + Sync>;

/// What became of several commands, in their order.
pub(crate) type Results = Vec<Result<Answer, Refusal>>;

/// A handle that is cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    lane: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    price_version: i64,
}

struct Shared {
    store: Store,
    vault: Vault,
    settings: Arc<Settings>,
    owner_exists: OwnerExists,
    clock: Arc<dyn Clock>,
}

struct Job {
    group: Group,
    answer: oneshot::Sender<Result<Receipts, store::Error>>,
}

impl Ledger {
    /// Starts the lane on the current runtime; it ends when the last handle is gone.
    pub fn start(
        store: Store,
        vault: Vault,
        settings: Arc<Settings>,
        price_version: i64,
        owner_exists: OwnerExists,
        clock: Arc<dyn Clock>,
    ) -> Ledger {
        let shared = Arc::new(Shared { store, vault, settings, owner_exists, clock });
        let (lane, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(Lane::new(shared.clone()).run(jobs));
        Ledger { lane, shared, price_version }
    }

    pub fn settings(&self) -> &Arc<Settings> {
        &self.shared.settings
    }

    /// Of the price book in the settings, see [`crate::prices`].
    pub fn price_version(&self) -> i64 {
        self.price_version
    }

    pub async fn submit(&self, command: Command) -> Result<Answer, Error> {
        let mut results = self.submit_all(vec![command], false).await?;
        let result = results.pop().unwrap_or(Err(Refusal::NotFound { what: "command" }));
        Ok(result?)
    }

    /// Several commands in order; `atomic` ones all happen or none.
    pub async fn submit_all(&self, commands: Vec<Command>, atomic: bool) -> Result<Results, store::Error> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let commands = commands.into_iter().map(Prepared::new).collect();
        let (answer, waiting) = oneshot::channel();
        let job = Job { group: Group { commands, atomic }, answer };
        self.lane.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => store::Error::Busy,
            mpsc::error::TrySendError::Closed(_) => gone(),
        })?;
        let receipts = waiting.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(answers(receipts))
    }

    /// Lets time pass for all accounts of which something has ended by itself, although nobody asked for them. Any
    /// node may do it; doing it twice does no harm. Gives how many there were.
    pub async fn settle_due(&self) -> Result<usize, store::Error> {
        let (mut after, mut settled) = ((Millis(i64::MIN), String::new()), 0);
        loop {
            let (now, from) = (self.shared.clock.now(), after.clone());
            let due = self
                .shared
                .store
                .scan::<_, store::Error, _>(move |tx| {
                    let read = |row: &store::Row<'_>| Ok((row.get::<Millis>(0)?, row.get::<String>(1)?));
                    tx.query(DUE, params![now, from.0, &from.1, DUE_AT_ONCE as i64], read)
                })
                .await?;
            let Some(last) = due.last() else { return Ok(settled) };
            after.clone_from(last);
            for due in due.chunks(SETTLED_AT_ONCE) {
                let commands = due.iter().map(|(_, id)| settle(AccountId::stored(id)));
                self.submit_all(commands.collect(), false).await?;
            }
            settled += due.len();
        }
    }

    /// Commands that wait, for `/metrics`.
    pub fn waiting(&self) -> usize {
        self.lane.max_capacity() - self.lane.capacity()
    }
}

/// Texts are made here: in the task of whoever asked, and not where others wait for the writer.
fn answers(receipts: Receipts) -> Results {
    receipts.into_iter().map(|receipt| receipt.map(Receipt::answer)).collect()
}

fn settle(account: AccountId) -> Command {
    Command {
        target: Target::Account(account),
        action: Action::Settle,
        actor: "system".into(),
        request_id: None,
        idempotency: None,
    }
}

fn gone() -> store::Error {
    store::Error::Unavailable("the ledger's lane has ended".into())
}

/// Writers that transactions of others share: few, so that their rows stay few; several, so that they seldom wait for
/// each other.
const SHARED_WRITERS: [&str; 8] =
    ["shared-1", "shared-2", "shared-3", "shared-4", "shared-5", "shared-6", "shared-7", "shared-8"];

/// What may run within a transaction that is somebody else's: a sign-up, a payment.
pub fn apply_in(
    tx: &mut Tx<'_>,
    settings: &Settings,
    vault: &Vault,
    owner_exists: &OwnerExists,
    commands: Vec<Command>,
    now: Millis,
) -> Result<Results, store::Error> {
    apply_made_in(tx, settings, vault, owner_exists, |_| Ok(commands), now)
}

/// The same for commands that are made once it is their turn: who locks accounts to see what they hold must not do so
/// before, or two transactions wait for each other.
pub(crate) fn apply_made_in(
    tx: &mut Tx<'_>,
    settings: &Settings,
    vault: &Vault,
    owner_exists: &OwnerExists,
    make: impl FnOnce(&mut Tx<'_>) -> Result<Vec<Command>, store::Error>,
    now: Millis,
) -> Result<Results, store::Error> {
    let bench = Bench { settings, vault, owner_exists, now };
    let [chance] = random::bytes(&mut random::secure());
    let shared = SHARED_WRITERS[usize::from(chance) % SHARED_WRITERS.len()];
    tx.lock("credit seal", &[shared])?;
    let commands = make(tx)?.into_iter().map(Prepared::new).collect();
    let groups = [Group { commands, atomic: false }];
    let seal = Seal::read(tx, vault, shared)?.unwrap_or_else(|| Seal::new(writer()));
    let written = batch::run(tx, bench, &mut HashMap::new(), &seal, &groups, (Care::Careful, false))?;
    Ok(answers(written.receipts.into_iter().flatten().collect()))
}

fn writer() -> String {
    random::alphanumeric(&mut random::secure(), 16)
}

struct Lane {
    shared: Arc<Shared>,
    /// Shared with the transaction that is under way, which takes out what it needs.
    known: Arc<Mutex<HashMap<AccountId, Account>>>,
    seal: Seal,
    /// So many batches are still run with care.
    careful: usize,
}

impl Lane {
    fn new(shared: Arc<Shared>) -> Lane {
        Lane { shared, known: Arc::default(), seal: Seal::new(writer()), careful: 0 }
    }

    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut answered = 0;
        while jobs.recv_many(&mut batch, BATCH).await > 0 {
            gather(&mut jobs, &mut batch, answered).await;
            answered = batch.len();
            let (groups, answers): (Vec<Group>, Vec<_>) =
                batch.drain(..).map(|job| (job.group, job.answer)).unzip();
            let results = self.write(groups).await;
            match results {
                Ok(results) => {
                    for (answer, results) in answers.into_iter().zip(results) {
                        // Who went away does not want to know.
                        let _ = answer.send(Ok(results));
                    }
                }
                Err(error) => {
                    for answer in answers {
                        let _ = answer.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    async fn write(&mut self, groups: Vec<Group>) -> Result<Vec<Receipts>, store::Error> {
        let groups = Arc::new(groups);
        self.careful = self.careful.saturating_sub(1);
        let care = if self.careful > 0 { Care::Careful } else { Care::Trusting };
        let mut written = self.attempt(&groups, care).await;
        for _ in 0..ATTEMPTS {
            // Nothing was committed: what was trusted was old or is refused, a key was used before, or another node was
            // first with it, in an account of another unit. The next attempt looks.
            let Err(store::Error::Conflict(_)) = written else { break };
            self.careful = CAREFUL;
            written = self.attempt(&groups, Care::Careful).await;
        }
        match written {
            Ok(Written { receipts, accounts, seal }) => {
                self.keep(accounts);
                self.seal = seal;
                Ok(receipts)
            }
            Err(error) => {
                // Whether it was committed is not known: what is in memory proves nothing, and the row of this writer
                // stays as whoever reads it finds it.
                lock(&self.known).clear();
                self.seal = Seal::new(writer());
                Err(error)
            }
        }
    }

    async fn attempt(&self, groups: &Arc<Vec<Group>>, care: Care) -> Result<Written, store::Error> {
        let (shared, known, seal) = (self.shared.clone(), self.known.clone(), self.seal.clone());
        let groups = groups.clone();
        let run = move |tx: &mut Tx<'_>| {
            let bench = Bench {
                settings: &shared.settings,
                vault: &shared.vault,
                owner_exists: &shared.owner_exists,
                now: shared.clock.now(),
            };
            batch::run(tx, bench, &mut lock(&known), &seal, &groups, (care, true))
        };
        self.shared.store.write(run).await
    }

    fn keep(&mut self, accounts: HashMap<AccountId, Account>) {
        let mut known = lock(&self.known);
        if known.len() + accounts.len() > KEPT_ACCOUNTS {
            known.clear();
        }
        for (id, mut account) in accounts {
            account.forget_what_is_over();
            if account.version > 0 && account.lots.len() <= KEPT_LOTS && account.holds.len() <= KEPT_LOTS {
                known.insert(id, account);
            } else {
                known.remove(&id);
            }
        }
    }
}

/// Who has just been answered often asks again at once. Without a moment's patience commands fall into two batches that
/// take turns, and each commit, which costs the same for one and for many, serves half of them.
async fn gather(jobs: &mut mpsc::Receiver<Job>, batch: &mut Vec<Job>, answered: usize) {
    let expected = (batch.len() + answered).min(BATCH);
    for _ in 0..PATIENCE {
        while batch.len() < BATCH {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        if batch.len() >= expected {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was locked left a map that is whole: it is changed by single calls.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
