//! A store, a clock that can be turned, and workers: what each test of delivery stands on, on both engines.

use crate::sink::Sink;
use kernel::vault::DataKey;
use kernel::{Clock, Millis, Secret, SystemClock, Vault, random};
use mail::{Address, Link, Mailer, Message, Outbox, Recipient, Sender, Smtp, Templates, Transport};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use store::{Error, Options, Store, params};
use tokio::task::JoinHandle;

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
    url: String,
    pub vault: Vault,
    pub clock: Arc<MovedClock>,
    pub outbox: Outbox,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub recipient: String,
    pub state: String,
    pub attempts: i64,
    pub content: String,
    pub last_error: Option<String>,
}

/// Runs a test on SQLite, and on PostgreSQL when the environment names a server.
pub fn on_every_store<F: Future<Output = ()>>(test: impl Fn(World) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    runtime.block_on(test(World::open(format!("sqlite://{}/mail.db", folder.path().display()))));
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where PostgreSQL is")]
    if let Ok(server) = std::env::var("TOLLGATE_TEST_POSTGRES") {
        let name = format!("mail_{}", random::alphanumeric(&mut random::secure(), 16).to_ascii_lowercase());
        runtime.block_on(on_server(&server, &format!("CREATE DATABASE {name}")));
        let mut url = url::Url::parse(&server).unwrap();
        url.set_path(&name);
        runtime.block_on(test(World::open(url.to_string())));
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

/// Waits for a condition, but not for ever.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let waited = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let patience = Duration::from_secs(30);
    assert!(tokio::time::timeout(patience, waited).await.is_ok(), "never came true: {what}");
}

pub fn smtp_at(address: SocketAddr) -> Transport {
    Transport::Smtp(smtp(&format!("smtp://{address}")))
}

pub fn smtp(url: &str) -> Smtp {
    Smtp::new(&Secret::new(url.to_string()), Sender::parse("My app <no-reply@example.com>").unwrap()).unwrap()
}

pub fn templates() -> Arc<Templates> {
    Arc::new(Templates::load("My app", None).ok().unwrap())
}

pub fn reset(token: &str) -> Message {
    let url = format!("https://app.example.com/reset?token={token}");
    Message::ResetPassword { url: Link::parse(&url).unwrap() }
}

impl World {
    fn open(url: String) -> World {
        let store = Store::open(&Options { url: url.clone(), pool_size: 4 }).unwrap();
        store.migrate().unwrap();
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        World { store, url, vault, clock: Arc::default(), outbox: Outbox::default() }
    }

    /// The same database through connections of its own, as another node has them.
    pub fn other_node(&self) -> World {
        let options = Options { url: self.url.clone(), pool_size: 4 };
        World { store: Store::open(&options).unwrap(), outbox: Outbox::default(), ..self.clone() }
    }

    pub async fn promise(&self, to: &str, message: Message) {
        let to = Recipient::new(Address::parse(to).unwrap(), "Ada");
        let (vault, now) = (self.vault.clone(), self.clock.now());
        let promised = self.store.write::<_, Error, _>(move |tx| {
            mail::enqueue(tx, &vault, &to, &message, now, &mut random::secure())
        });
        promised.await.unwrap();
        self.outbox.wake();
    }

    pub fn mailer(&self, transport: Transport) -> Mailer {
        let (store, vault, clock) = (self.store.clone(), self.vault.clone(), self.clock.clone());
        Mailer::new(store, vault, templates(), transport, clock, self.outbox.clone())
    }

    /// Runs a worker until its handle is aborted, which is a crash.
    pub fn work(&self, transport: Transport) -> JoinHandle<()> {
        tokio::spawn(self.mailer(transport).run(std::future::pending()))
    }

    pub async fn rows(&self) -> Vec<Row> {
        let read = |tx: &mut store::Tx<'_>| {
            let sql = "SELECT recipient, state, attempts, content_sealed, last_error FROM mails ORDER BY id";
            tx.query(sql, params![], |row| {
                Ok(Row {
                    recipient: row.get(0)?,
                    state: row.get(1)?,
                    attempts: row.get(2)?,
                    content: row.get(3)?,
                    last_error: row.get(4)?,
                })
            })
        };
        self.store.scan::<_, Error, _>(read).await.unwrap()
    }

    pub async fn until_all_are(&self, state: &str) {
        until(state, || async { self.rows().await.iter().all(|row| row.state == state) }).await;
    }
}

pub fn recipients(sink: &Sink) -> Vec<String> {
    let mut all: Vec<String> = sink.received().iter().flat_map(|mail| mail.recipients.clone()).collect();
    all.sort();
    all
}
