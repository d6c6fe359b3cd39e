//! PostgreSQL silent or gone: every call is answered in time, and all is well again without a restart.
//! SQLite has no server that could go away.

use crate::fresh::{On, fresh, open};
use kernel::Stopwatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use store::{Error, Many, Store, UpdateMany, params};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A wire that can fall silent without being closed.
struct Wire {
    url: String,
    silent: Arc<AtomicBool>,
}

async fn wire_to(url: &str) -> Wire {
    let parsed = url::Url::parse(url).unwrap();
    let target = format!("{}:{}", parsed.host_str().unwrap(), parsed.port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut through = parsed.clone();
    through.set_host(Some("127.0.0.1")).unwrap();
    through.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    let silent = Arc::new(AtomicBool::new(false));
    let flag = silent.clone();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let (target, flag) = (target.clone(), flag.clone());
            tokio::spawn(async move {
                let far = TcpStream::connect(target).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::join!(pump(near_in, far_out, flag.clone()), pump(far_in, near_out, flag));
            });
        }
    });
    Wire { url: through.to_string(), silent }
}

/// Carries bytes; what arrives while the wire is silent is lost, and the connection with it, but nobody is told.
async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    silent: Arc<AtomicBool>,
) {
    let mut buffer = [0; 8_192];
    let mut lost = false;
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        lost |= silent.load(Ordering::Relaxed);
        if !lost && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn works(store: &Store) -> Result<(), Error> {
    store.write(|tx| tx.execute("UPDATE meta SET value = value", &[]).map(|_| ())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_database_is_answered_in_five_seconds_and_is_back_in_two() {
    let direct = fresh(On::Postgres).await;
    let wire = wire_to(&direct.url).await;
    let store = open(&wire.url);
    works(&store).await.unwrap();
    wire.silent.store(true, Ordering::Relaxed);
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let clock = Stopwatch::start();
                (works(&store).await, clock.elapsed())
            })
        })
        .collect();
    for call in calls {
        let (result, took) = call.await.unwrap();
        assert!(result.unwrap_err().is_unavailable());
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    wire.silent.store(false, Ordering::Relaxed);
    let clock = Stopwatch::start();
    while works(&store).await.is_err() {
        assert!(clock.elapsed() < Duration::from_secs(2), "not back after {:?}", clock.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_there_is_refused_at_once() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let store = open(&format!("postgres://postgres@{nobody}/none"));
    for _ in 0..20 {
        let clock = Stopwatch::start();
        assert!(works(&store).await.unwrap_err().is_unavailable());
        assert!(clock.elapsed() < Duration::from_secs(2));
    }
}

/// Changes that carry their commit with them, so that none of them may be tried twice.
async fn works_at_once(store: &Store) -> Result<(), Error> {
    const TOUCH: UpdateMany =
        UpdateMany { table: "meta", keys: &["name"], set: &["value"], also: "", every: false };
    store.write(|tx| tx.write_all_and_end(&[(Many::Update(&TOUCH), params!["nobody", "nothing"])])).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_the_server_closed_are_replaced_without_an_error() {
    const OTHERS: &str =
        "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let database = fresh(On::Postgres).await;
    let (client, connection) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for at_once in [false, true] {
        // What is prepared already is sent with nothing before it.
        for _ in 0..20 {
            works(&database.store).await.unwrap();
            works_at_once(&database.store).await.unwrap();
        }
        client.batch_execute(&format!("SELECT pg_terminate_backend(pid) {OTHERS}")).await.unwrap();
        let count = format!("SELECT COUNT(*) {OTHERS}");
        while client.query_one(&count, &[]).await.unwrap().get::<_, i64>(0) > 0 {}
        for _ in 0..10 {
            if at_once {
                works_at_once(&database.store).await.unwrap();
            } else {
                works(&database.store).await.unwrap();
            }
        }
    }
}
