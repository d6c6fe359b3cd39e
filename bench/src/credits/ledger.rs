//! Tollgate's ledger in this process, as the server starts it.

use crate::credits::load::{Caller, Draw, Load, OWNERS, PLENTY, Tally, closed_loop};
use crate::credits::options::Accounts;
use crate::tollgate::new_database;
use credits::{Action, Charge, Command, Idempotency, Ledger, NewGrant, Owner, Settings, Source, Target};
use kernel::SystemClock;
use std::sync::Arc;
use store::{Options, Store};
use tokio::runtime::Runtime;

/// Commands that are submitted together when a ledger is filled.
pub const AT_ONCE: usize = 1_000;

pub struct InProcess {
    ledger: Ledger,
}

impl InProcess {
    /// Makes the schema if there is none.
    pub fn open(runtime: &Runtime, url: &str) -> Result<InProcess, String> {
        let vault = new_database(url)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // The server's default.
        let options = Options { url: url.to_owned(), pool_size: (4 * cores).clamp(8, 64) };
        let store = Store::open(&options).map_err(|error| format!("{url}: {error}"))?;
        // Its lanes are tasks.
        let _inside = runtime.enter();
        let everybody = Arc::new(|_: &mut store::Tx<'_>, _: &Owner| Ok(true));
        let settings = Arc::new(Settings::default());
        let ledger = Ledger::start(store, vault, settings, 1, everybody, Arc::new(SystemClock));
        Ok(InProcess { ledger })
    }

    /// Gives every owner one big lot.
    pub fn grant_plenty(&self, runtime: &Runtime, owners: &[String]) -> Result<(), String> {
        let grants = owners.iter().map(|owner| grant(owner, PLENTY)).collect::<Vec<_>>();
        runtime.block_on(self.submit_in_batches(grants))
    }

    pub async fn submit_in_batches(&self, commands: Vec<Command>) -> Result<(), String> {
        let mut commands = commands.into_iter();
        loop {
            let batch: Vec<Command> = commands.by_ref().take(AT_ONCE).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let results = self.ledger.submit_all(batch, false).await.map_err(|error| error.to_string())?;
            if let Some(Err(refusal)) = results.into_iter().find(Result::is_err) {
                return Err(format!("a command was refused: {refusal:?}"));
            }
        }
    }

    pub fn debit_at_full_speed(
        &self,
        runtime: &Runtime,
        load: &Load,
        owners: &Arc<[String]>,
    ) -> Result<Tally, String> {
        let callers = (0..load.callers).map(|_| self.ledger.clone()).collect();
        closed_loop(runtime, load, owners, callers)
    }
}

impl Caller for Ledger {
    async fn debit(&mut self, owner: &str, key: String) -> Result<(), String> {
        let answer = self.submit(debit(owner, key)).await.map_err(|error| error.to_string())?;
        match (answer.status, answer.replayed) {
            (201, false) => Ok(()),
            _ => Err(format!("a debit was answered {answer:?}")),
        }
    }
}

fn target(owner: &str) -> Target {
    Target::Owner { owner: Owner::User(owner.to_owned()), unit: "credits".into() }
}

pub fn grant(owner: &str, amount: i64) -> Command {
    let new = NewGrant {
        amount,
        source: Source::Promo,
        expires_at: None,
        priority: 50,
        reason: Some("bench".into()),
        metadata: None,
        rollover: None,
        source_ref: None,
    };
    Command {
        target: target(owner),
        action: Action::Grant(new),
        actor: "operator:bench".into(),
        request_id: None,
        idempotency: None,
    }
}

pub fn unkeyed_debit(owner: &str) -> Command {
    Command {
        target: target(owner),
        action: Action::Debit {
            charge: Charge { amount: 1, ..Charge::default() },
            reason: None,
            metadata: None,
            allow_negative: false,
        },
        actor: "key:Vb2sNq8LxTz4Rk6wYc0d".into(),
        // As long as the server's own.
        request_id: Some("rq7Hc2mKp9Ws4Zt1Xe6vBn3J".into()),
        idempotency: None,
    }
}

fn debit(owner: &str, key: String) -> Command {
    let request = format!(r#"{{"amount":1,"user_id":"{owner}"}}"#);
    Command { idempotency: Some(Idempotency { key, request, scope: None }), ..unkeyed_debit(owner) }
}

/// Fills a new ledger: a lot for every owner, then debits in rounds over the owners, until there are so many entries.
pub fn fill(runtime: &Runtime, url: &str, owners: &[String], entries: u32) -> Result<(), String> {
    /// So many debits of one owner follow one another.
    const RUN: u32 = 100;
    let ledger = InProcess::open(runtime, url)?;
    ledger.grant_plenty(runtime, owners)?;
    let mut progress = crate::seed::Progress::new("the ledger", entries);
    // No load has such a seed.
    let mut keys = Draw::new(&owners.into(), Accounts::Hot, u64::MAX);
    let mut left = (entries / OWNERS).saturating_sub(1);
    while left > 0 {
        let run = left.min(RUN);
        left -= run;
        for owners in owners.chunks(AT_ONCE / run as usize) {
            let mut debits = Vec::with_capacity(AT_ONCE);
            for owner in owners {
                debits.extend((0..run).map(|_| debit(owner, keys.key())));
            }
            let count = debits.len();
            runtime.block_on(ledger.submit_in_batches(debits))?;
            (0..count).for_each(|_| progress.step());
        }
    }
    Ok(())
}
