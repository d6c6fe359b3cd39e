//! A fresh, migrated database for each test.

use std::sync::atomic::{AtomicU64, Ordering};
use store::{Options, Store};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum On {
    Sqlite,
    Postgres,
}

/// The test once on each engine.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name($crate::fresh::fresh($crate::fresh::On::Sqlite).await).await;
            }
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                super::$name($crate::fresh::fresh($crate::fresh::On::Postgres).await).await;
            }
        })*
    };
}

pub struct Fresh {
    pub store: Store,
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Fresh {
    /// Another node on the same database.
    pub fn open_again(&self) -> Store {
        open(&self.url)
    }
}

pub fn open(url: &str) -> Store {
    Store::open(&Options { url: url.into(), pool_size: 4 }).unwrap()
}

pub async fn fresh(on: On) -> Fresh {
    let fresh = empty(on).await;
    fresh.store.migrate().unwrap();
    fresh
}

pub async fn empty(on: On) -> Fresh {
    let folder = tempfile::tempdir().unwrap();
    let url = match on {
        On::Sqlite => format!("sqlite://{}", folder.path().join("test.db").display()),
        On::Postgres => new_postgres_database().await,
    };
    Fresh { store: open(&url), url, _folder: folder }
}

pub fn server_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "the test command tells where its PostgreSQL is")]
    std::env::var("TOLLGATE_TEST_POSTGRES")
        .expect("TOLLGATE_TEST_POSTGRES is not set; run `cargo xtask test`")
}

pub fn redis_url() -> String {
    #[expect(clippy::disallowed_methods, reason = "the test command tells where its Redis is")]
    std::env::var("TOLLGATE_TEST_REDIS").expect("TOLLGATE_TEST_REDIS is not set; run `cargo xtask test`")
}

async fn new_postgres_database() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let server = server_url();
    let name = format!("store_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let (head, _) = server.rsplit_once('/').unwrap();
    format!("{head}/{name}")
}
