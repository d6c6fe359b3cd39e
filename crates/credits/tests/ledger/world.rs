//! A store, ledgers on it and a clock that can be turned: what each test stands on, on both engines.

use credits::verify::{self, Report};
use credits::{
    AccountId, Action, Answer, Charge, Command, Error, Idempotency, Ledger, NewGrant, Owner, OwnerExists,
    Settings, Source, Target,
};
use kernel::vault::DataKey;
use kernel::{Clock, Millis, SystemClock, Vault, random};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use store::{Options, Store, params};

/// The machine's clock, moved.
#[derive(Default)]
pub struct MovedClock(AtomicI64);

impl MovedClock {
    pub fn forward(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Millis {
        SystemClock.now().plus(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Clone)]
pub struct World {
    pub store: Store,
    pub url: String,
    pub vault: Vault,
    pub settings: Arc<Settings>,
    pub clock: Arc<MovedClock>,
}

/// Runs a test on SQLite, and on PostgreSQL when the environment names a server.
pub fn on_every_store<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let _inside = runtime.enter();
    runtime.block_on(test(World::open(format!("sqlite://{}/credits.db", folder.path().display()))));
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where PostgreSQL is")]
    if let Ok(server) = std::env::var("TOLLGATE_TEST_POSTGRES") {
        let name =
            format!("credits_{}", random::alphanumeric(&mut random::secure(), 16).to_ascii_lowercase());
        runtime.block_on(on_server(&server, &format!("CREATE DATABASE {name}")));
        let (head, _) = server.rsplit_once('/').unwrap();
        runtime.block_on(test(World::open(format!("{head}/{name}"))));
        runtime.block_on(on_server(&server, &format!("DROP DATABASE {name} WITH (FORCE)")));
    }
}

async fn on_server(server: &str, statement: &str) {
    let (client, connection) = tokio_postgres::connect(server, tokio_postgres::NoTls).await.unwrap();
    let driven = tokio::spawn(connection);
    client.batch_execute(statement).await.unwrap();
    drop(client);
    driven.await.unwrap().unwrap();
}

fn open(url: &str) -> Store {
    Store::open(&Options { url: url.into(), pool_size: 6 }).unwrap()
}

impl World {
    fn open(url: String) -> World {
        let store = open(&url);
        store.migrate().unwrap();
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        let settings = Settings { units: vec!["credits".into(), "tokens".into()], ..Settings::default() };
        World { store, url, vault, settings: Arc::new(settings), clock: Arc::default() }
    }

    pub fn ledger(&self) -> Ledger {
        self.ledger_on(self.store.clone())
    }

    /// Another node: on PostgreSQL with connections of its own. A SQLite file has one process, so there it shares the
    /// store and nothing else.
    pub fn other_node(&self) -> Ledger {
        self.ledger_on(if self.url.starts_with("sqlite") { self.store.clone() } else { open(&self.url) })
    }

    fn ledger_on(&self, store: Store) -> Ledger {
        let exists: OwnerExists = Arc::new(|_, owner| Ok(owner.id() != "nobody"));
        Ledger::start(store, self.vault.clone(), self.settings.clone(), 1, exists, self.clock.clone())
    }

    pub async fn verify(&self) -> Report {
        verify::run(&self.store, &self.vault, self.clock.now(), Duration::ZERO, |_, _| {}).await.unwrap()
    }

    pub async fn assert_whole(&self) -> Report {
        let report = self.verify().await;
        assert!(report.ok(), "{:#?}", report.problems);
        report
    }

    /// What somebody with a database shell does; gives how many rows were touched.
    pub async fn tamper(&self, sql: &'static str, account: &AccountId, number: i64) -> u64 {
        let id = account.as_str().to_string();
        self.store.write(move |tx| tx.execute(sql, params![&id, number])).await.unwrap()
    }
}

pub fn user(name: &str) -> Owner {
    Owner::User(name.into())
}

pub fn account(name: &str) -> AccountId {
    AccountId::of(&user(name), "credits")
}

pub fn command(name: &str, action: Action) -> Command {
    let target = Target::Owner { owner: user(name), unit: "credits".into() };
    Command { target, action, actor: "key:test".into(), request_id: None, idempotency: None }
}

pub fn keyed(command: Command, key: &str, request: &str) -> Command {
    let (key, request) = (key.into(), request.into());
    Command { idempotency: Some(Idempotency { key, request, scope: None }), ..command }
}

pub fn grant(amount: i64) -> Action {
    Action::Grant(NewGrant {
        amount,
        source: Source::Paid,
        expires_at: None,
        priority: 50,
        reason: None,
        metadata: None,
        source_ref: None,
        rollover: None,
    })
}

pub fn charge(amount: i64) -> Charge {
    Charge { amount, ..Charge::default() }
}

pub fn debit(amount: i64) -> Action {
    Action::Debit { charge: charge(amount), reason: None, metadata: None, allow_negative: false }
}

pub fn hold(amount: i64) -> Action {
    Action::Hold { charge: charge(amount), expires_in: 60_000, reason: None, metadata: None }
}

/// The answer's body.
pub fn body(answer: &Answer) -> serde_json::Value {
    serde_json::from_str(&answer.body).unwrap()
}

pub async fn must(ledger: &Ledger, command: Command) -> Answer {
    match ledger.submit(command).await {
        Ok(answer) => answer,
        Err(Error::Refused(refusal)) => panic!("refused: {refusal:?}"),
        Err(error) => panic!("{error}"),
    }
}
